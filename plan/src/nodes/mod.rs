//! Plan nodes that DataFusion does not have. Each is row-sequential: its output depends only on
//! the order of its input rows, never on how they were batched.

mod distinct;
mod limit;
mod tap;

pub use distinct::StreamDistinct;
pub use limit::StreamLimit;
pub use tap::{StreamTap, TapKind};

use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;

/// The only input of a unary node.
fn single(mut inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    match inputs.len() {
        1 => Ok(inputs.remove(0)),
        n => Err(DataFusionError::Internal(format!("unary node with {n} inputs"))),
    }
}
