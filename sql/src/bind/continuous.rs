//! Continuous queries: what they may consist of, and the nodes that differ for endless input.

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::catalog::{Column, Definition, ObjectId};
use auspex_plan::nodes::{StreamDistinct, StreamLimit};
use auspex_plan::{ColumnType, ContinuousQuery, Diagnostic, SqlState};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{
    Distinct, Expr, Extension, FetchType, Limit, LogicalPlan, SkipType,
};
use sqlparser::ast::{self, Spanned};

use super::context::Reader;
use super::query::{canonical, shown_columns};
use super::{Binder, Result, error};
use crate::datetime::Zone;
use crate::statement::Query;

/// A continuous query with what the catalog keeps of it.
#[derive(Debug, Clone)]
pub struct BoundContinuous {
    /// The query, not optimised. Its `on_error` is the default; options may say otherwise.
    pub query: ContinuousQuery,
    /// Columns of the output stream.
    pub columns: Vec<Column>,
    /// Names in the text and what they mean, for [`Binder::rebind`].
    pub bindings: BTreeMap<String, ObjectId>,
    /// A materialized view: positions in `columns` of what tells its rows apart, none for a single
    /// row. A sink: the table's primary key. Empty for a stream.
    pub key: Vec<usize>,
}

impl Binder {
    /// Binds a continuous query: `CREATE STREAM .. AS`, `SUBSCRIBE (..)`.
    pub fn bind_continuous(&self, query: &Query) -> Result<BoundContinuous> {
        if let Some(span) = query.emission.span() {
            return Err(refusal("EMIT", "").at(span));
        }
        refuse_clauses(query)?;
        let stored = self.clone().with_time_zone(Zone::UTC);
        let planned = stored.plan(query, Reader::Continuous, &[], None)?;
        if !planned.params.is_empty() {
            return Err(Diagnostic::error(
                SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            )
            .hint("A continuous query outlives the statement; write the value in.")
            .at(query.span));
        }
        let plan = canonical(planned.plan)
            .and_then(|plan| stored.coerce(plan))
            .map_err(error::unplaced)?;
        let plan = endless(plan).map_err(|d| d.at_opt(Some(query.span)))?;
        let columns = output_columns(&plan).map_err(|d| d.at_opt(Some(query.span)))?;
        let inputs: Vec<ObjectId> = planned.found.relations().into_iter().collect();
        if inputs.is_empty() {
            return Err(Diagnostic::unsupported("a continuous query must read a stream")
                .hint("Use INSERT INTO for rows that are there already.")
                .at(query.span));
        }
        Ok(BoundContinuous {
            query: ContinuousQuery {
                plan,
                inputs,
                on_error: Default::default(),
                warnings: Vec::new(),
            },
            columns,
            bindings: planned.found.bindings,
            key: Vec::new(),
        })
    }

    /// Binds the query of a materialized view.
    pub fn bind_view(&self, query: &Query) -> Result<BoundContinuous> {
        self.bind_continuous(query)?;
        Err(Diagnostic::unsupported("a materialized view needs an aggregate")
            .hint("Use CREATE STREAM .. AS for rows that never change.")
            .at(query.span))
    }

    /// Binds the query of a derived stream again when the server starts. Names mean what they
    /// meant when the query was created, whatever the objects are called now.
    pub fn rebind(&self, definition: &Definition) -> Result<BoundContinuous> {
        let mut binder = self.clone();
        binder.bindings.clone_from(&definition.bindings);
        let query = crate::parse::parse_query(&definition.text)?;
        let mut bound = binder.bind_continuous(&query)?;
        bound.query.on_error = definition.on_error;
        Ok(bound)
    }
}

/// Clauses that need an end of the input. Those of DataFusion's plan are refused again in
/// [`endless`]; here the place in the text is known.
fn refuse_clauses(query: &Query) -> Result<()> {
    use std::ops::ControlFlow;
    struct Clauses;
    type Refusal = (&'static str, &'static str, sqlparser::tokenizer::Span);
    const AGGREGATES: &str = "Run the query with SELECT over the retained rows.";
    impl ast::Visitor for Clauses {
        type Break = Refusal;

        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Refusal> {
            if let Some(order) = &query.order_by {
                return ControlFlow::Break((
                    "ORDER BY",
                    "Rows of a stream are in the order in which they came.",
                    order.span(),
                ));
            }
            if query.with.as_ref().is_some_and(|w| w.recursive) {
                return ControlFlow::Break(("WITH RECURSIVE", "", query.span()));
            }
            match &query.limit_clause {
                Some(ast::LimitClause::LimitOffset { offset: Some(offset), .. }) => {
                    return ControlFlow::Break((
                        "OFFSET",
                        "Use the system column _offset in WHERE.",
                        offset.value.span(),
                    ));
                }
                Some(ast::LimitClause::OffsetCommaLimit { offset, .. }) => {
                    return ControlFlow::Break(("OFFSET", "", offset.span()));
                }
                _ => {}
            }
            set_operations(&query.body)
        }

        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Refusal> {
            if let ast::GroupByExpr::Expressions(exprs, _) = &select.group_by
                && let Some(first) = exprs.first()
            {
                return ControlFlow::Break(("GROUP BY", AGGREGATES, first.span()));
            }
            if let Some(having) = &select.having {
                return ControlFlow::Break(("HAVING", AGGREGATES, having.span()));
            }
            if let Some(ast::Distinct::On(exprs)) = &select.distinct {
                let span = exprs.first().map_or(select.span(), Spanned::span);
                return ControlFlow::Break(("DISTINCT ON", "Use SELECT DISTINCT.", span));
            }
            if let Some(join) = select.from.iter().find_map(|f| f.joins.first()) {
                return ControlFlow::Break(("JOIN", "", join.relation.span()));
            }
            if let Some(second) = select.from.get(1) {
                return ControlFlow::Break((
                    "a join of several relations",
                    "",
                    second.relation.span(),
                ));
            }
            ControlFlow::Continue(())
        }
    }
    fn set_operations(body: &ast::SetExpr) -> ControlFlow<Refusal> {
        if let ast::SetExpr::SetOperation { left, op, set_quantifier, right } = body {
            if *op != ast::SetOperator::Union {
                return ControlFlow::Break(("INTERSECT and EXCEPT", "", right.span()));
            }
            if *set_quantifier != ast::SetQuantifier::All {
                return ControlFlow::Break((
                    "UNION without ALL",
                    "Use UNION ALL, or SELECT DISTINCT * over it.",
                    right.span(),
                ));
            }
            set_operations(left)?;
            set_operations(right)?;
        }
        ControlFlow::Continue(())
    }
    match ast::Visit::visit(query.ast.as_ref(), &mut Clauses) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break((what, hint, span)) => {
            Err(refusal(what, hint).at_opt(query.source.span(span)).at_opt(Some(query.span)))
        }
    }
}

fn refusal(what: &str, hint: &str) -> Diagnostic {
    let error = Diagnostic::unsupported(format!("{what} is not supported in a continuous query"));
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// Replaces the nodes that have another meaning on endless input, and refuses those without one.
fn endless(plan: LogicalPlan) -> Result<LogicalPlan> {
    let inputs = plan
        .inputs()
        .into_iter()
        .map(|input| endless(input.clone()))
        .collect::<Result<Vec<_>>>()?;
    let with_inputs = |plan: &LogicalPlan, inputs: Vec<LogicalPlan>| {
        plan.with_new_exprs(plan.expressions(), inputs).map_err(error::unplaced)
    };
    match plan {
        LogicalPlan::TableScan(_) => Ok(plan),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_) => with_inputs(&plan, inputs),
        LogicalPlan::Distinct(Distinct::All(_)) => {
            let input = only(inputs)?;
            let on = columns(input.schema());
            Ok(extension(StreamDistinct { input, on }))
        }
        LogicalPlan::Limit(limit) => {
            let limit_to = rows(&limit)?;
            Ok(extension(StreamLimit { input: only(inputs)?, limit: limit_to, keys: Vec::new() }))
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            Err(refusal("a part of the query without a stream", "Every part must read a stream."))
        }
        LogicalPlan::Aggregate(_) => Err(refusal("an aggregate", "")),
        LogicalPlan::Join(_) => Err(refusal("a join", "")),
        LogicalPlan::Sort(_) => Err(refusal("ORDER BY", "")),
        LogicalPlan::Window(_) => Err(refusal("a window function", "")),
        LogicalPlan::Unnest(_) => Err(refusal("unnest()", "")),
        _ => Err(refusal("this kind of query", "")),
    }
}

fn only(mut inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    inputs.pop().ok_or_else(|| {
        Diagnostic::error(SqlState::INTERNAL_ERROR, "a plan node has lost its input")
    })
}

fn columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

fn extension<N: datafusion::logical_expr::UserDefinedLogicalNode + 'static>(
    node: N,
) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

/// The number of a LIMIT, which must be written as one.
fn rows(limit: &Limit) -> Result<u64> {
    let unsupported = || {
        refusal(
            "this LIMIT",
            "LIMIT takes a number: the first rows of the whole life of the stream.",
        )
    };
    match limit.get_skip_type() {
        Ok(SkipType::Literal(0)) => {}
        _ => return Err(refusal("OFFSET", "Use the system column _offset in WHERE.")),
    }
    match limit.get_fetch_type() {
        Ok(FetchType::Literal(Some(n))) => u64::try_from(n).map_err(|_| unsupported()),
        _ => match limit.fetch.as_deref() {
            Some(Expr::Literal(ScalarValue::Int64(Some(n)), _)) => {
                u64::try_from(*n).map_err(|_| unsupported())
            }
            _ => Err(unsupported()),
        },
    }
}

/// The output columns; their names must be usable.
fn output_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let schema = shown_columns(plan);
    let mut columns: Vec<Column> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if columns.iter().any(|c| c.name == *field.name()) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", field.name()),
            )
            .hint("Give the columns names with AS."));
        }
        if auspex_plan::relation::SYSTEM_COLUMNS.contains(&field.name().as_str()) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column name \"{}\" conflicts with a system column name", field.name()),
            )
            .hint("Give the column another name with AS."));
        }
        let column_type = ColumnType::from_field(field).unwrap_or(ColumnType::Text);
        let mut column = Column::new(field.name(), column_type);
        column.not_null = !field.is_nullable();
        columns.push(column);
    }
    Ok(columns)
}
