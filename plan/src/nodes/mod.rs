//! Plan nodes that DataFusion does not have. Each is row-sequential: its output depends only on
//! the order of its input rows and on the watermark, never on how they were batched.

mod aggregate;
mod assign_time;
mod distinct;
mod join;
mod keyed;
mod limit;
mod pattern;
mod retention;
mod tap;

pub use aggregate::{StreamAggregate, WINDOW_COLUMNS, WindowRows};
pub use assign_time::AssignTime;
pub use distinct::StreamDistinct;
pub use join::{JoinTime, StreamJoin};
pub use keyed::KeyedChanges;
pub use limit::StreamLimit;
pub use pattern::StreamPattern;
pub use retention::{OutputEvery, OutputMode, OutputRate, Retention, RetentionWindow};
pub use tap::{StreamTap, TapKind};

use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The only input of a unary node.
fn single(mut inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    match inputs.len() {
        1 => Ok(inputs.remove(0)),
        n => Err(DataFusionError::Internal(format!("unary node with {n} inputs"))),
    }
}

/// Positions in `schema` of the columns that `exprs` read, together with `also`; ascending.
fn columns_of<'a>(
    exprs: impl IntoIterator<Item = &'a Expr>,
    schema: &DFSchema,
    also: &[usize],
) -> Vec<usize> {
    let read = exprs.into_iter().flat_map(Expr::column_refs);
    let read = read.filter_map(|column| schema.maybe_index_of_column(column));
    let mut all: Vec<usize> = read.chain(also.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Expressions for EXPLAIN.
fn listed(exprs: &[Expr]) -> String {
    exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
