//! Plans of endless input: the nodes that have another meaning than in a query that ends.
//!
//! DataFusion plans the query as if it ended. [`Lowering`] then walks over the plan: what DataFusion
//! calls an aggregate, a join, a sort or a limit becomes the node of [`auspex_plan::nodes`] that says
//! what it means on a stream, or is refused with what would help.

mod aggregate;
mod from;
mod join;
mod lookup;
mod over;
mod strip;
mod times;
mod view;

pub(crate) use from::{FromPlanner, FromTable};
pub(crate) use join::marked_function;

use std::sync::Arc;

use auspex_plan::nodes::{OutputRate, RetentionWindow, StreamDistinct, StreamLimit, WindowRows};
use auspex_plan::{Diagnostic, Emit, Span, SqlState, StreamRelation};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Distinct, Expr, Extension, FetchType, Filter, Limit, LogicalPlan, SkipType,
    UserDefinedLogicalNode,
};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{Optimizer, OptimizerContext};
use sqlparser::ast::{self, Spanned};

use super::{Binder, Result, error};
use crate::source::Source;
use crate::statement::{Emission, Query};

/// Kinds of retention windows; the expressions of `SORT` and `UNIQUE` are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Length(u64),
    LengthBatch(u64),
    Time(i64),
    TimeBatch(i64),
    Sort(u64),
    Unique,
    Delay(i64),
}

/// What the query fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A stream, whose rows never change.
    Stream,
    /// A materialized view, whose rows are replaced.
    View,
}

/// A plan and what is known about it.
pub(crate) struct Lowered {
    pub(crate) plan: LogicalPlan,
    /// Positions of the output columns that are the groups of the aggregate; `None` without one.
    pub(crate) key: Option<Vec<usize>>,
}

/// Walks over the plan of one query.
pub(super) struct Lowering<'a> {
    binder: &'a Binder,
    ast: &'a ast::Query,
    source: &'a Arc<Source>,
    emission: Emission,
    target: Target,
    /// Whether an aggregate has taken the emission.
    emitted: bool,
}

/// Lowers the plan of `query`.
pub(crate) fn lower(
    plan: LogicalPlan,
    query: &Query,
    binder: &Binder,
    target: Target,
) -> Result<Lowered> {
    let mut lowering = Lowering {
        binder,
        ast: &query.ast,
        source: &query.source,
        emission: query.emission.clone(),
        target,
        emitted: false,
    };
    let plan = without_subqueries(plan)?;
    let mut plan = lowering.plan(plan, true)?;
    if !lowering.emitted {
        let unused = [lowering.emission.emit.map(|e| e.1), lowering.emission.lateness.map(|l| l.1)];
        if let Some(span) = unused.into_iter().flatten().next() {
            return Err(Diagnostic::error(
                SqlState::SYNTAX_ERROR,
                "EMIT and ALLOWED LATENESS need an aggregate",
            )
            .hint("Rows of other queries come as they are made; leave the clause out.")
            .at(span));
        }
    }
    let key = view::group_columns(&plan);
    if let Some(((mode, every), span)) = lowering.emission.output {
        let columns = plan.schema().columns();
        let keys = match &key {
            None => Vec::new(),
            Some(Ok(key)) => key.iter().map(|i| Expr::Column(columns[*i].clone())).collect(),
            Some(Err(missing)) => return Err(view::missing_key(missing).at(span)),
        };
        plan = extension(OutputRate { input: plan, mode, every, keys });
    }
    if target == Target::View && key.is_none() {
        return Err(Diagnostic::unsupported("a materialized view needs an aggregate")
            .hint("Use CREATE STREAM .. AS for rows that never change."));
    }
    if target == Target::View && view::has_condition(&plan) {
        return Err(refusal(
            "HAVING in a materialized view",
            "Rows of the view are replaced, not removed: put the condition into the SELECT that \
             reads it, or add EMIT ON WINDOW CLOSE.",
        )
        .at_opt(lowering.having_span()));
    }
    let key = match (key, target) {
        (Some(Err(missing)), Target::View) => return Err(view::missing_key(&missing)),
        (key, _) => key.and_then(std::result::Result::ok),
    };
    Ok(Lowered { plan, key })
}

/// EXISTS and IN become joins.
fn without_subqueries(plan: LogicalPlan) -> Result<LogicalPlan> {
    let has = |plan: &LogicalPlan| {
        plan.exists(|p| {
            Ok(p.expressions().iter().any(|e| {
                e.exists(|e| {
                    Ok(matches!(e, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_)))
                })
                .unwrap_or(false)
            }))
        })
        .unwrap_or(false)
    };
    if !has(&plan) {
        return Ok(plan);
    }
    let rule = Arc::new(DecorrelatePredicateSubquery::new());
    let context = OptimizerContext::new().without_query_execution_start_time();
    let plan = Optimizer::with_rules(vec![rule])
        .optimize(plan, &context, |_, _| {})
        .map_err(error::unplaced)?;
    if has(&plan) {
        return Err(refusal(
            "a subquery in an expression",
            "EXISTS and IN are possible as conditions of WHERE.",
        ));
    }
    Ok(plan)
}

impl Lowering<'_> {
    /// `top`: what is emitted here is what the query emits.
    fn plan(&mut self, plan: LogicalPlan, top: bool) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::TableScan(ref scan) => {
                let relation = scan.source.downcast_ref::<StreamRelation>();
                if let Some(relation) = relation.filter(|r| r.keyed) {
                    return Err(Diagnostic::unsupported(format!(
                        "a continuous query reads \"{}\" only in a join with a stream",
                        relation.name
                    ))
                    .hint("FROM stream JOIN it ON .. looks its present rows up; SELECT reads them all.")
                    .at_opt(self.relation_span(&relation.name)));
                }
                Ok(plan)
            }
            LogicalPlan::Filter(filter) => self.filter(filter, top),
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
                let input = self.plan(only(plan.inputs())?, top)?;
                rebuilt(&plan, vec![input])
            }
            LogicalPlan::Union(_) => {
                let inputs = plan.inputs().into_iter().cloned();
                let inputs = inputs.map(|i| self.plan(i, top)).collect::<Result<Vec<_>>>()?;
                rebuilt(&plan, inputs)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(&aggregate, top),
            LogicalPlan::Join(join) => {
                let (plan, rest) = self.join(join, Vec::new())?;
                filtered(plan, rest)
            }
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.plan(Arc::unwrap_or_clone(input), false)?;
                let on = columns(input.schema());
                Ok(extension(StreamDistinct { input, on }))
            }
            LogicalPlan::Sort(sort) => {
                let input = self.plan(Arc::unwrap_or_clone(sort.input), top)?;
                strip::ordered(input, sort.expr).ok_or_else(|| {
                    refusal(
                        "ORDER BY",
                        "Rows of a stream are in the order in which they came. ORDER BY is possible over \
                         the rows of a window: FROM TUMBLE(..).",
                    )
                    .at_opt(self.order_span())
                })
            }
            LogicalPlan::Limit(limit) => {
                let count = rows(&limit)?;
                let input = self.plan(Arc::unwrap_or_clone(limit.input), top)?;
                Ok(match strip::limited(&input, count) {
                    Some(limited) => limited,
                    None => extension(StreamLimit { input, limit: count, keys: Vec::new() }),
                })
            }
            LogicalPlan::Extension(ref node) => {
                if let Some(table) = node.node.as_any().downcast_ref::<FromTable>() {
                    return self.window_rows(table);
                }
                let inputs = plan.inputs().into_iter().cloned();
                let inputs = inputs.map(|i| self.plan(i, false)).collect::<Result<Vec<_>>>()?;
                rebuilt(&plan, inputs)
            }
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Err(refusal(
                "a part of the query without a stream",
                "Every part must read a stream.",
            )),
            LogicalPlan::Unnest(_) => Err(refusal("unnest()", "")),
            _ => Err(refusal("this kind of query", "")),
        }
    }

    fn filter(&mut self, filter: Filter, top: bool) -> Result<LogicalPlan> {
        let input = Arc::unwrap_or_clone(filter.input);
        if let LogicalPlan::Join(join) = input {
            let (plan, rest) = self.join(join, split_conjunction_owned(filter.predicate))?;
            return filtered(plan, rest);
        }
        if let LogicalPlan::Extension(node) = &input {
            let node = node.node.as_any();
            if let Some(window) = node.downcast_ref::<RetentionWindow>() {
                // WHERE chooses the rows that the window keeps.
                let below = self.plan(window.input.clone(), false)?;
                let below = filtered(below, vec![filter.predicate])?;
                let window = RetentionWindow::try_new(
                    below,
                    window.kept.clone(),
                    window.keys.clone(),
                    window.aggregates.clone(),
                );
                return window.map(extension).map_err(error::unplaced);
            }
            if let Some(table) = node.downcast_ref::<FromTable>() {
                let (own, bounds): (Vec<_>, Vec<_>) = split_conjunction_owned(filter.predicate)
                    .into_iter()
                    .partition(|e| strip::within(e, table.input.schema()));
                let below = self.plan(table.input.clone(), false)?;
                let rows = self.rows_of(table, filtered(below, own)?)?;
                return filtered(rows, bounds);
            }
        }
        let input = self.plan(input, top)?;
        filtered(input, vec![filter.predicate])
    }

    /// A window whose rows are not aggregated.
    fn window_rows(&mut self, table: &FromTable) -> Result<LogicalPlan> {
        let input = self.plan(table.input.clone(), false)?;
        self.rows_of(table, input)
    }

    fn rows_of(&self, table: &FromTable, input: LogicalPlan) -> Result<LogicalPlan> {
        if table.revision {
            return Err(Diagnostic::error(
                SqlState::UNDEFINED_COLUMN,
                "column \"_revision\" does not exist",
            )
            .hint("Aggregates over windows have it, with ALLOWED LATENESS or EMIT CHANGES.")
            .at_opt(table.span));
        }
        WindowRows::try_new(input, table.window, table.keys.clone(), Vec::new(), None)
            .map(extension)
            .map_err(error::unplaced)
    }

    /// When the results of an aggregate come, and how late rows may be.
    fn emit(&mut self, top: bool) -> (Emit, i64) {
        if !top {
            return (Emit::OnClose, 0);
        }
        self.emitted = true;
        let default = match self.target {
            Target::Stream => Emit::OnClose,
            Target::View => Emit::Changes,
        };
        let emit = self.emission.emit.map_or(default, |(emit, _)| emit);
        (emit, self.emission.lateness.map_or(0, |(us, _)| us))
    }

    fn at(&self, span: sqlparser::tokenizer::Span) -> Option<Span> {
        self.source.span(span)
    }

    /// Where a relation is named in FROM: by its alias or its own name.
    fn relation_span(&self, name: &str) -> Option<Span> {
        use std::ops::ControlFlow;
        let last = name.rsplit('.').next().unwrap_or(name);
        let found = ast::visit_relations(self.ast, |relation| {
            let ident = relation.0.last().and_then(|p| p.as_ident());
            match ident {
                Some(ident) if super::names::fold(ident).eq_ignore_ascii_case(last) => {
                    ControlFlow::Break(relation.span())
                }
                _ => ControlFlow::Continue(()),
            }
        });
        found.break_value().and_then(|span| self.at(span))
    }

    /// Where an alias is given to a relation.
    fn alias_span(&self, name: &str) -> Option<Span> {
        use std::ops::ControlFlow;
        struct Aliased<'a>(&'a str);
        impl ast::Visitor for Aliased<'_> {
            type Break = sqlparser::tokenizer::Span;

            fn pre_visit_table_factor(
                &mut self,
                factor: &ast::TableFactor,
            ) -> ControlFlow<Self::Break> {
                let (ast::TableFactor::Table { alias: Some(alias), .. }
                | ast::TableFactor::Derived { alias: Some(alias), .. }) = factor
                else {
                    return ControlFlow::Continue(());
                };
                if super::names::fold(&alias.name) == self.0 {
                    return ControlFlow::Break(factor.span());
                }
                ControlFlow::Continue(())
            }
        }
        match ast::Visit::visit(self.ast, &mut Aliased(name)) {
            ControlFlow::Break(span) => self.at(span),
            ControlFlow::Continue(()) => None,
        }
    }

    fn having_span(&self) -> Option<Span> {
        use std::ops::ControlFlow;
        struct Having;
        impl ast::Visitor for Having {
            type Break = sqlparser::tokenizer::Span;

            fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Self::Break> {
                match &select.having {
                    Some(having) => ControlFlow::Break(having.span()),
                    None => ControlFlow::Continue(()),
                }
            }
        }
        match ast::Visit::visit(self.ast, &mut Having) {
            ControlFlow::Break(span) => self.at(span),
            ControlFlow::Continue(()) => None,
        }
    }

    fn order_span(&self) -> Option<Span> {
        use std::ops::ControlFlow;
        struct First;
        impl ast::Visitor for First {
            type Break = sqlparser::tokenizer::Span;

            fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Self::Break> {
                match &query.order_by {
                    Some(order) => ControlFlow::Break(order.span()),
                    None => ControlFlow::Continue(()),
                }
            }
        }
        match ast::Visit::visit(self.ast, &mut First) {
            ControlFlow::Break(span) => self.at(span),
            ControlFlow::Continue(()) => None,
        }
    }
}

pub(super) fn refusal(what: &str, hint: &str) -> Diagnostic {
    let error = Diagnostic::unsupported(format!("{what} is not supported in a continuous query"));
    if hint.is_empty() { error } else { error.hint(hint) }
}

fn rebuilt(plan: &LogicalPlan, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    plan.with_new_exprs(plan.expressions(), inputs).map_err(error::unplaced)
}

/// `input` with the conjuncts as a filter over it, if there are any.
fn filtered(input: LogicalPlan, conjuncts: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conjuncts) {
        None => Ok(input),
        Some(predicate) => Filter::try_new(predicate, Arc::new(input))
            .map(LogicalPlan::Filter)
            .map_err(error::unplaced),
    }
}

fn only(inputs: Vec<&LogicalPlan>) -> Result<LogicalPlan> {
    inputs.first().map(|i| (*i).clone()).ok_or_else(|| {
        Diagnostic::error(SqlState::INTERNAL_ERROR, "a plan node has lost its input")
    })
}

fn columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

pub(super) fn extension<N: UserDefinedLogicalNode + 'static>(node: N) -> LogicalPlan {
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
