//! Window functions with OVER, and the aggregates of retention windows, which look the same to
//! DataFusion.

use std::sync::Arc;

use auspex_plan::nodes::RetentionWindow;
use auspex_plan::{Diagnostic, SqlState};
use datafusion::common::Column;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Window, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};

use super::times::{Times, plain, times};
use super::{Lowering, Result, error, extension, rebuilt, refusal};

/// Functions that need rows behind the present one.
const NEED_ALL: [&str; 5] = ["lead", "ntile", "percent_rank", "cume_dist", "nth_from_last"];

impl Lowering<'_> {
    pub(super) fn window(&mut self, window: Window) -> Result<LogicalPlan> {
        let input = self.plan(window.input.as_ref().clone(), false)?;
        if let LogicalPlan::Extension(node) = &input
            && let Some(retention) = node.node.as_any().downcast_ref::<RetentionWindow>()
            && retention.aggregates.is_empty()
        {
            return self.retained(&window, retention);
        }
        let known = times(&input, self.binder);
        for expr in &window.window_expr {
            let Some(function) = function(expr) else { continue };
            self.over(function, &input, &known)?;
        }
        rebuilt(&LogicalPlan::Window(window), vec![input])
    }

    /// Aggregates over the rows that a retention window keeps.
    fn retained(&self, window: &Window, retention: &RetentionWindow) -> Result<LogicalPlan> {
        let mut keys: Option<Vec<Expr>> = None;
        let mut aggregates = Vec::with_capacity(window.window_expr.len());
        for expr in &window.window_expr {
            let Some(function) = function(expr) else { continue };
            let params = &function.params;
            let udf = match &function.fun {
                WindowFunctionDefinition::AggregateUDF(udf) => Some(udf),
                WindowFunctionDefinition::WindowUDF(udf) => {
                    self.binder.functions.aggregate(udf.name())
                }
            };
            let Some(udf) = udf else {
                return Err(self.at_function(
                    refusal("this function over a WINDOW", "Use an aggregate."),
                    function,
                ));
            };
            let same = keys.as_ref().is_none_or(|k| *k == params.partition_by);
            if !params.order_by.is_empty() || !same {
                return Err(self.at_function(
                    refusal("OVER over a WINDOW", "Leave OVER out; GROUP BY gives the groups."),
                    function,
                ));
            }
            keys = Some(params.partition_by.clone());
            aggregates.push(Expr::AggregateFunction(AggregateFunction::new_udf(
                Arc::clone(udf),
                params.args.clone(),
                params.distinct,
                params.filter.clone(),
                Vec::new(),
                params.null_treatment,
            )));
        }
        let node = RetentionWindow::try_new(
            retention.input.clone(),
            retention.kept.clone(),
            keys.unwrap_or_default(),
            aggregates,
        )
        .map_err(error::unplaced)?;
        let plan = extension(node);
        // Under the names that DataFusion has given the window expressions.
        let exprs: Vec<Expr> = plan
            .schema()
            .iter()
            .zip(window.schema.iter())
            .map(|((q, f), (_, wanted))| {
                let column = Expr::Column(Column::new(q.cloned(), f.name()));
                if f.name() == wanted.name() { column } else { column.alias(wanted.name()) }
            })
            .collect();
        LogicalPlanBuilder::from(plan)
            .project(exprs)
            .and_then(LogicalPlanBuilder::build)
            .map_err(error::unplaced)
    }

    fn over(&self, function: &WindowFunction, input: &LogicalPlan, known: &Times) -> Result<()> {
        let params = &function.params;
        let name = function.fun.name().to_string();
        if NEED_ALL.contains(&name.as_str()) {
            return Err(self.at_function(
                refusal(&format!("{name}()"), "It needs the rows behind the present one."),
                function,
            ));
        }
        let first = params.order_by.first();
        let in_order = first.is_some_and(|sort| {
            let position = plain(&sort.expr).and_then(|c| input.schema().maybe_index_of_column(c));
            sort.asc && position.and_then(|i| known.get(&i)).is_some_and(|(l, h)| l == h)
        });
        if !in_order {
            let columns: Vec<&str> = known
                .iter()
                .filter(|(_, (low, high))| low == high)
                .map(|(i, _)| input.schema().field(*i).name().as_str())
                .collect();
            let hint = match columns.as_slice() {
                [] => "Write OVER (.. ORDER BY _time ..).".to_string(),
                columns => format!("Write OVER (.. ORDER BY {} ..).", columns.join(" or ")),
            };
            let error = Diagnostic::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a window function in a continuous query needs ORDER BY the event time, ascending",
            );
            return Err(self.at_function(error.hint(hint), function));
        }
        let frame = &params.window_frame;
        if frame.units == WindowFrameUnits::Groups {
            return Err(self.at_function(refusal("a frame of GROUPS", ""), function));
        }
        if frame.end_bound != WindowFrameBound::CurrentRow {
            return Err(self.at_function(
                refusal(
                    "a frame that does not end at CURRENT ROW",
                    "Rows behind the present one are not there yet.",
                ),
                function,
            ));
        }
        Ok(())
    }

    fn at_function(&self, error: Diagnostic, function: &WindowFunction) -> Diagnostic {
        let span = error::locate(self.ast, None, function.fun.name());
        error.at_opt(span.and_then(|s| self.at(s)))
    }
}

fn function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => function(&alias.expr),
        _ => None,
    }
}
