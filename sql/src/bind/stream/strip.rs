//! Taking a window out of the middle of a plan, and putting an order into it.

use std::sync::Arc;

use auspex_plan::nodes::{StreamAggregate, WindowRows};
use auspex_plan::relation::{REVISION_COLUMN, WINDOW_END_COLUMN, WINDOW_START_COLUMN};
use auspex_plan::{Diagnostic, Emit, Window};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Projection, SortExpr, SubqueryAlias,
};

use super::times::plain;
use super::{FromTable, Lowering, Result, error, extension, filtered, rebuilt, refusal};
use crate::marks::mark;

/// What a column of a plan over a [`FromTable`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// A column of the plan without the window, by position.
    Own(usize),
    Start,
    End,
    Revision,
}

impl Out {
    /// The column of a [`StreamAggregate`].
    fn bound(self) -> Option<Expr> {
        let name = match self {
            Out::Own(_) => return None,
            Out::Start => WINDOW_START_COLUMN,
            Out::End => WINDOW_END_COLUMN,
            Out::Revision => REVISION_COLUMN,
        };
        Some(Expr::Column(Column::new_unqualified(name)))
    }
}

/// A plan whose window has been taken out.
pub(super) struct Stripped {
    pub(super) plan: LogicalPlan,
    /// What the columns of the plan with the window are.
    pub(super) outs: Vec<Out>,
    /// Conditions on the window's bounds, over the columns of a [`StreamAggregate`].
    pub(super) above: Vec<Expr>,
    pub(super) table: FromTable,
    /// Positions of the `PARTITION BY` columns; `None` for one that is not handed on.
    pub(super) keys: Vec<Option<usize>>,
}

impl Stripped {
    /// An expression over the plan with the window that reads nothing but the window's bounds, over
    /// the columns of a [`StreamAggregate`].
    pub(super) fn bounds(&self, expr: &Expr, schema: &DFSchema) -> Option<Expr> {
        bounds(expr, schema, &self.outs)
    }

    /// Whether an expression reads a column of the window.
    pub(super) fn reads_bounds(&self, expr: &Expr, schema: &DFSchema) -> bool {
        expr.column_refs().iter().any(|c| {
            let out = schema.maybe_index_of_column(c).and_then(|i| self.outs.get(i));
            out.is_some_and(|o| !matches!(o, Out::Own(_)))
        })
    }
}

fn bounds(expr: &Expr, schema: &DFSchema, outs: &[Out]) -> Option<Expr> {
    if expr.column_refs().is_empty() {
        return None;
    }
    replaced(expr, |column| outs.get(schema.maybe_index_of_column(column)?)?.bound())
}

/// `expr` with other expressions for its columns; `None` when there is none for one of them.
pub(super) fn replaced(expr: &Expr, by: impl Fn(&Column) -> Option<Expr>) -> Option<Expr> {
    let mut missing = false;
    let new = expr.clone().transform_up(|e| match &e {
        Expr::Column(column) => match by(column) {
            Some(other) => Ok(Transformed::yes(other)),
            None => {
                missing = true;
                Ok(Transformed::no(e))
            }
        },
        _ => Ok(Transformed::no(e)),
    });
    new.ok().map(|t| t.data).filter(|_| !missing)
}

/// Whether all columns of an expression are in `schema`.
pub(super) fn within(expr: &Expr, schema: &DFSchema) -> bool {
    expr.column_refs().iter().all(|c| schema.maybe_index_of_column(c).is_some())
}

/// The window in FROM that an aggregate over this plan is about.
pub(super) fn from_table(plan: &LogicalPlan) -> Option<&FromTable> {
    match plan {
        LogicalPlan::Filter(filter) => from_table(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => from_table(&alias.input),
        LogicalPlan::Projection(projection) => from_table(&projection.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<FromTable>(),
        _ => None,
    }
}

impl Lowering<'_> {
    /// Takes the window out of a plan for which [`from_table`] has found one.
    pub(super) fn strip(&mut self, plan: LogicalPlan) -> Result<Stripped> {
        match plan {
            LogicalPlan::Extension(extension) => {
                let Some(table) = extension.node.as_any().downcast_ref::<FromTable>().cloned()
                else {
                    return Err(refusal("this kind of query", ""));
                };
                let fields = table.input.schema().fields().len();
                let mut outs: Vec<Out> = (0..fields).map(Out::Own).collect();
                outs.extend([Out::Start, Out::End]);
                outs.extend(table.revision.then_some(Out::Revision));
                let schema = table.input.schema();
                let keys = table.keys.iter().map(|k| schema.maybe_index_of_column(plain(k)?));
                let keys = keys.collect();
                let plan = self.plan(table.input.clone(), false)?;
                Ok(Stripped { plan, outs, above: Vec::new(), table, keys })
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let below = self.strip(Arc::unwrap_or_clone(alias.input))?;
                let plan = SubqueryAlias::try_new(Arc::new(below.plan.clone()), alias.alias)
                    .map_err(error::unplaced)?;
                Ok(Stripped { plan: LogicalPlan::SubqueryAlias(plan), ..below })
            }
            LogicalPlan::Filter(filter) => {
                let schema = filter.input.schema().clone();
                let mut below = self.strip(Arc::unwrap_or_clone(filter.input))?;
                let mut own = Vec::new();
                for condition in split_conjunction_owned(filter.predicate) {
                    if !below.reads_bounds(&condition, &schema) {
                        own.push(condition);
                    } else if let Some(condition) = below.bounds(&condition, &schema) {
                        below.above.push(condition);
                    } else {
                        return Err(self.mixed(&below.table, "a condition"));
                    }
                }
                let plan = filtered(below.plan.clone(), own)?;
                Ok(Stripped { plan, ..below })
            }
            LogicalPlan::Projection(projection) => {
                let schema = projection.input.schema().clone();
                let below = self.strip(Arc::unwrap_or_clone(projection.input))?;
                let mut outs = Vec::with_capacity(projection.expr.len());
                let mut own = Vec::new();
                // Where the columns below are found in `own`.
                let mut places = vec![None; below.plan.schema().fields().len()];
                for expr in projection.expr {
                    let out = plain(&expr)
                        .and_then(|c| schema.maybe_index_of_column(c))
                        .map(|i| below.outs[i]);
                    match out {
                        Some(bound @ (Out::Start | Out::End | Out::Revision)) => outs.push(bound),
                        other => {
                            if below.reads_bounds(&expr, &schema) {
                                return Err(self.mixed(&below.table, "an expression"));
                            }
                            if let Some(Out::Own(i)) = other {
                                places[i] = Some(own.len());
                            }
                            outs.push(Out::Own(own.len()));
                            own.push(expr);
                        }
                    }
                }
                let keys = below.keys.iter().map(|k| k.and_then(|i| places[i])).collect();
                if own.is_empty() {
                    return Ok(Stripped { outs, keys, ..below });
                }
                let plan = Projection::try_new(own, Arc::new(below.plan.clone()))
                    .map_err(error::unplaced)?;
                Ok(Stripped { plan: LogicalPlan::Projection(plan), outs, keys, ..below })
            }
            _ => Err(refusal("this kind of query", "")),
        }
    }

    fn mixed(&self, table: &FromTable, what: &str) -> Diagnostic {
        refusal(
            &format!("{what} over the bounds of a window and its rows"),
            "Aggregate first, and use window_start and window_end over the results.",
        )
        .at_opt(table.span)
    }
}

/// Puts an order into the window whose rows a plan gives.
pub(super) fn ordered(plan: LogicalPlan, order: Vec<SortExpr>) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Extension(extension_node) => {
            let node = extension_node.node.as_any();
            if let Some(rows) = node.downcast_ref::<WindowRows>() {
                let first = rows.order_by.is_empty() && rows.limit.is_none();
                return first.then(|| with_order(rows, order)).flatten();
            }
            let aggregate = node.downcast_ref::<StreamAggregate>()?;
            let rows = results_by_window(aggregate)?;
            let names = renamed(aggregate.schema_ref());
            let order = order
                .into_iter()
                .map(|s| {
                    let expr = replaced(&s.expr, |c| {
                        let i = aggregate.schema_ref().maybe_index_of_column(c)?;
                        Some(Expr::Column(names[i].1.clone()))
                    })?;
                    Some(s.with_expr(expr))
                })
                .collect::<Option<Vec<_>>>()?;
            let sorted = with_order(&rows, order)?;
            let back = aggregate.schema_ref().iter().zip(&names).map(|((q, f), (_, column))| {
                let expr = Expr::Column(column.clone());
                match q {
                    None if column.name() != f.name() => expr.alias(f.name()),
                    _ => expr,
                }
            });
            LogicalPlanBuilder::from(sorted).project(back.collect::<Vec<_>>()).ok()?.build().ok()
        }
        LogicalPlan::Filter(ref filter) => {
            let input = ordered(filter.input.as_ref().clone(), order)?;
            rebuilt(&plan, vec![input]).ok()
        }
        LogicalPlan::Projection(ref projection) => {
            let order = order
                .into_iter()
                .map(|s| {
                    let expr = replaced(&s.expr, |c| {
                        let expr = projection.expr.get(plan.schema().maybe_index_of_column(c)?)?;
                        Some(expr.clone().unalias())
                    })?;
                    Some(s.with_expr(expr))
                })
                .collect::<Option<Vec<_>>>()?;
            let input = ordered(projection.input.as_ref().clone(), order)?;
            rebuilt(&plan, vec![input]).ok()
        }
        LogicalPlan::SubqueryAlias(ref alias) => {
            let below = alias.input.schema().columns();
            let order = order
                .into_iter()
                .map(|s| {
                    let expr = replaced(&s.expr, |c| {
                        let column = below.get(plan.schema().maybe_index_of_column(c)?)?;
                        Some(Expr::Column(column.clone()))
                    })?;
                    Some(s.with_expr(expr))
                })
                .collect::<Option<Vec<_>>>()?;
            let input = ordered(alias.input.as_ref().clone(), order)?;
            rebuilt(&plan, vec![input]).ok()
        }
        _ => None,
    }
}

/// The bounds are the same for all rows of a window: they order nothing.
fn with_order(rows: &WindowRows, order: Vec<SortExpr>) -> Option<LogicalPlan> {
    let schema = rows.input.schema();
    let mut own = Vec::with_capacity(order.len());
    for sort in order {
        if within(&sort.expr, schema) {
            own.push(sort);
        } else if sort.expr.column_refs().iter().any(|c| schema.maybe_index_of_column(c).is_some())
        {
            return None;
        }
    }
    let input = rows.input.clone();
    WindowRows::try_new(input, rows.window, rows.keys.clone(), own, None).map(extension).ok()
}

/// The results of an aggregate as rows of windows: those of one moment together. Without order yet.
fn results_by_window(aggregate: &StreamAggregate) -> Option<WindowRows> {
    let window = match aggregate.window {
        Window::Hop { slide_us, offset_us, .. } => Window::tumble(slide_us, offset_us),
        Window::Cumulate { step_us, offset_us, .. } => Window::tumble(step_us, offset_us),
        _ => return None,
    };
    if aggregate.emit != Emit::OnClose || aggregate.lateness_us > 0 {
        return None;
    }
    let exprs = renamed(aggregate.schema_ref()).into_iter().map(|(own, new)| {
        let expr = Expr::Column(own.clone());
        if own == new { expr } else { expr.alias(new.name()) }
    });
    let input = LogicalPlanBuilder::from(extension(aggregate.clone()))
        .project(exprs.collect::<Vec<_>>())
        .ok()?
        .build()
        .ok()?;
    WindowRows::try_new(input, window, Vec::new(), Vec::new(), None).ok()
}

/// Columns, and what they are called where the bounds of another window stand beside them.
fn renamed(schema: &DFSchema) -> Vec<(Column, Column)> {
    let new = |column: Column| match (&column.relation, column.name()) {
        (None, name @ (WINDOW_START_COLUMN | WINDOW_END_COLUMN)) => {
            (column.clone(), Column::new_unqualified(mark(name)))
        }
        _ => (column.clone(), column),
    };
    schema.columns().into_iter().map(new).collect()
}

/// Puts a limit into the window whose rows a plan gives.
pub(super) fn limited(plan: &LogicalPlan, limit: u64) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Extension(node) => {
            let rows = node.node.as_any().downcast_ref::<WindowRows>()?;
            let WindowRows { input, window, keys, order_by, limit: None, .. } = rows else {
                return None;
            };
            let order = order_by.clone();
            let node =
                WindowRows::try_new(input.clone(), *window, keys.clone(), order, Some(limit));
            node.map(extension).ok()
        }
        // A condition on the window's bounds keeps or drops all rows of a window.
        LogicalPlan::Filter(filter) => {
            let LogicalPlan::Extension(node) = filter.input.as_ref() else { return None };
            let rows = node.node.as_any().downcast_ref::<WindowRows>()?;
            let refs = filter.predicate.column_refs();
            let schema = rows.input.schema();
            if refs.iter().any(|c| schema.maybe_index_of_column(c).is_some()) {
                return None;
            }
            rebuilt(plan, vec![limited(&filter.input, limit)?]).ok()
        }
        LogicalPlan::Projection(projection) => {
            rebuilt(plan, vec![limited(&projection.input, limit)?]).ok()
        }
        LogicalPlan::SubqueryAlias(alias) => {
            rebuilt(plan, vec![limited(&alias.input, limit)?]).ok()
        }
        _ => None,
    }
}

/// The node's schema.
trait SchemaRef {
    fn schema_ref(&self) -> &DFSchema;
}

impl SchemaRef for StreamAggregate {
    fn schema_ref(&self) -> &DFSchema {
        datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(self)
    }
}
