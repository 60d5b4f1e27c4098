//! Joins of a stream with the present rows of a table or materialized view.

use std::sync::Arc;

use auspex_plan::StreamRelation;
use auspex_plan::nodes::{JoinTime, StreamJoin};
use datafusion::common::{Column, DFSchemaRef, JoinType, TableReference};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan};

use super::join::{equality, is_marked, marked};
use super::strip::replaced;
use super::times::{Sides, plain};
use super::{Lowering, Result, error, extension, refusal};
use crate::marks;

impl Lowering<'_> {
    /// A join with the present rows of a table or materialized view.
    pub(super) fn look_up(
        &self,
        left: LogicalPlan,
        table: Keyed<'_>,
        kind: JoinType,
        conjuncts: Vec<Expr>,
        name: &str,
    ) -> Result<LogicalPlan> {
        let place = || self.named(name);
        let relation = table.relation;
        if !matches!(
            kind,
            JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti
        ) {
            return Err(refusal(
                "this kind of join with a table",
                "Changes of a table make no rows: a stream can be joined to it by JOIN, LEFT JOIN, EXISTS or IN.",
            )
            .at_opt(place()));
        }
        if let Some(time) = conjuncts.iter().find(|c| is_marked(c)) {
            let what = if marked(time, marks::WITHIN).is_some() { "WITHIN" } else { "AS OF" };
            return Err(refusal(
                &format!("{what} in a join with a table"),
                "A stream is joined to the present rows of a table: FROM s JOIN t ON ..",
            )
            .at_opt(place()));
        }
        let object = self.binder.catalog.get(relation.stream);
        let Some((object, key)) = object.and_then(|o| Some((o, o.key()?.to_vec()))) else {
            return Err(refusal("this relation", "").at_opt(place()));
        };
        let source = StreamRelation::changes(relation.stream, &relation.name, &object.schema());
        let name = table.scan.table_name.clone();
        let mut right =
            LogicalPlanBuilder::scan(name, Arc::new(source), None).map_err(error::unplaced)?;
        if let Some(alias) = &table.alias {
            right = right.alias(alias.clone()).map_err(error::unplaced)?;
        }
        let right = right.build().map_err(error::unplaced)?;
        let changed = right.schema().columns();
        // Columns of the subquery over the table, in terms of the table's own.
        let base = |column: &Column| -> Option<Expr> {
            match table.schema.maybe_index_of_column(column) {
                Some(i) => table.exprs.get(i).cloned(),
                None => Some(Expr::Column(column.clone())),
            }
        };
        let sides = Sides {
            left: left.schema(),
            right: right.schema(),
            left_times: Default::default(),
            right_times: Default::default(),
        };
        let mut on = Vec::new();
        let mut filter = table.filter.clone();
        for conjunct in conjuncts {
            let conjunct = replaced(&conjunct, base).unwrap_or(conjunct);
            match equality(&conjunct, &sides) {
                Some(pair) => on.push(pair),
                None => filter.push(conjunct),
            }
        }
        let identity = key.iter().map(|i| Expr::Column(changed[*i].clone())).collect();
        let filter = conjunction(filter);
        let columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
        let node = StreamJoin::try_new(left, right, kind, JoinTime::Lookup, on, filter, identity)
            .map_err(error::unplaced)?;
        let plan = extension(node);
        if matches!(kind, JoinType::LeftSemi | JoinType::LeftAnti) {
            return Ok(plan);
        }
        // Without the kind of change, and with the subquery's columns.
        let mut exprs = columns;
        for ((qualifier, field), expr) in table.schema.iter().zip(&table.exprs) {
            if kind == JoinType::Left && plain(expr).is_none() {
                return Err(refusal(
                    "a LEFT JOIN with expressions over a table",
                    "Join the table itself and compute in the select list.",
                )
                .at_opt(place()));
            }
            let wanted = Column::new(qualifier.cloned(), field.name());
            exprs.push(match expr {
                Expr::Column(c) if *c == wanted => expr.clone(),
                _ => expr.clone().alias_qualified(qualifier.cloned(), field.name()),
            });
        }
        LogicalPlanBuilder::from(plan)
            .project(exprs)
            .and_then(LogicalPlanBuilder::build)
            .map_err(error::unplaced)
    }
}

/// A table or materialized view, or a subquery that filters and computes over nothing else.
pub(super) struct Keyed<'a> {
    scan: &'a TableScan,
    relation: &'a StreamRelation,
    alias: Option<TableReference>,
    /// Columns of the side as it is written.
    schema: DFSchemaRef,
    /// What they are, over the columns of the relation under `alias`.
    exprs: Vec<Expr>,
    /// Conditions, over the same.
    filter: Vec<Expr>,
}

/// The side of a join that is looked up, when it is one.
pub(super) fn keyed(plan: &LogicalPlan) -> Option<Keyed<'_>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let relation = scan.source.downcast_ref::<StreamRelation>().filter(|r| r.keyed)?;
            let schema = scan.projected_schema.clone();
            let exprs = schema.columns().into_iter().map(Expr::Column).collect();
            Some(Keyed { scan, relation, alias: None, schema, exprs, filter: Vec::new() })
        }
        LogicalPlan::SubqueryAlias(outer) => {
            let below = keyed(&outer.input)?;
            let schema = outer.schema.clone();
            if let (LogicalPlan::TableScan(_), None) = (outer.input.as_ref(), &below.alias) {
                let exprs = schema.columns().into_iter().map(Expr::Column).collect();
                return Some(Keyed { alias: Some(outer.alias.clone()), schema, exprs, ..below });
            }
            Some(Keyed { schema, ..below })
        }
        LogicalPlan::Filter(filter) => {
            let mut below = keyed(&filter.input)?;
            for condition in split_conjunction(&filter.predicate) {
                let condition = over(condition, &below)?;
                below.filter.push(condition);
            }
            Some(below)
        }
        LogicalPlan::Projection(projection) => {
            let below = keyed(&projection.input)?;
            let exprs = projection
                .expr
                .iter()
                .map(|e| over(&e.clone().unalias(), &below))
                .collect::<Option<Vec<_>>>()?;
            Some(Keyed { schema: projection.schema.clone(), exprs, ..below })
        }
        _ => None,
    }
}

/// An expression over the side as written, over the relation.
fn over(expr: &Expr, side: &Keyed<'_>) -> Option<Expr> {
    replaced(expr, |c| side.exprs.get(side.schema.maybe_index_of_column(c)?).cloned())
}
