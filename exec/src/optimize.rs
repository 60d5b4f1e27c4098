//! Plan rewriting that is safe for endless, ordered streams.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::{Optimizer, OptimizerContext};

use crate::error::Result;

/// Rewrites an analysed plan (types coerced) of a continuous query.
///
/// Two of DataFusion's rules are used: nested unions become one, and columns nobody reads are cut
/// down to the scans. Left out on purpose:
/// * filter push-down: it evaluates an outer condition before an inner one, so that a guard
///   (`b <> 0` first, `a / b > 1` after it) would no longer protect from row errors;
/// * logical simplification: it folds constants with wrapping arithmetic. [`crate::build`]
///   simplifies each compiled expression instead, with checked arithmetic;
/// * everything about joins, subqueries, sorting and limits, which continuous queries express with
///   nodes of their own.
pub fn optimize(plan: LogicalPlan) -> Result<LogicalPlan> {
    let optimizer = Optimizer::with_rules(vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    let context = OptimizerContext::new().without_query_execution_start_time();
    Ok(optimizer.optimize(plan, &context, |_, _| {})?)
}
