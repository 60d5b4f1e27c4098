//! Joins of streams, and of streams with what changes (`semantics.md` section 4).

mod as_of;
mod filter;
mod gather;
mod interval;
mod keys;
mod lookup;
mod store;
#[cfg(test)]
mod tests;

pub use as_of::AsOfJoin;
pub use interval::IntervalJoin;
pub use lookup::LookupJoin;

use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use auspex_plan::nodes::{JoinTime, StreamJoin};
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::Expr;

use crate::batch::nullable;
use crate::error::{ExecError, Result};
use crate::expr::{Compiled, compile};
use crate::operator::Operator;

/// What all joins have.
pub struct JoinParts {
    kind: JoinType,
    /// Of the left and of the right side.
    keys: [Vec<Compiled>; 2],
    /// Over the columns of both sides.
    filter: Option<Compiled>,
    /// Columns of the left and of the right side.
    schemas: [SchemaRef; 2],
    /// Columns of the output.
    schema: SchemaRef,
    on_error: OnError,
    /// Key columns of a looked-up relation.
    identity: Vec<Compiled>,
}

/// The operator of a join.
///
/// # Errors
/// [`ExecError::Unsupported`] for a kind that does not exist over endless streams.
pub(crate) fn build(join: &StreamJoin, on_error: OnError) -> Result<Box<dyn Operator>> {
    use JoinType::{Full, Inner, Left, LeftAnti, LeftSemi, Right};
    let known = match join.time {
        JoinTime::Interval { .. } => {
            matches!(join.kind, Inner | Left | Right | Full | LeftSemi | LeftAnti)
        }
        JoinTime::AsOf { .. } => matches!(join.kind, Inner | Left),
        JoinTime::Lookup => matches!(join.kind, Inner | Left | LeftSemi | LeftAnti),
    };
    if !known {
        return Err(ExecError::Unsupported(format!("a {} join of this form", join.kind)));
    }
    let (left, right) = (join.left.schema(), join.right.schema());
    let compiled = |exprs: &mut dyn Iterator<Item = &Expr>, schema: &DFSchema| {
        exprs.map(|expr| compile(expr, schema)).collect::<Result<Vec<_>>>()
    };
    let keys = [
        compiled(&mut join.on.iter().map(|(left, _)| left), left)?,
        compiled(&mut join.on.iter().map(|(_, right)| right), right)?,
    ];
    for (left, right) in keys[0].iter().zip(&keys[1]) {
        if left.data_type != right.data_type {
            let (left, right) = (&left.data_type, &right.data_type);
            return Err(ExecError::Plan(format!("a join key of types {left} and {right}")));
        }
    }
    let both = left.join(right)?;
    let filter = join.filter.as_ref().map(|filter| compile(filter, &both)).transpose()?;
    let parts = JoinParts {
        kind: join.kind,
        keys,
        filter,
        schemas: [nullable(left.as_arrow()), nullable(right.as_arrow())],
        schema: nullable(
            datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(join).as_arrow(),
        ),
        on_error,
        identity: compiled(&mut join.identity.iter(), right)?,
    };
    Ok(match join.time {
        JoinTime::Interval { lower_us, upper_us } => {
            Box::new(IntervalJoin::new(parts, lower_us, upper_us, join.hold_us())?)
        }
        JoinTime::AsOf { strict, tolerance_us } => {
            Box::new(AsOfJoin::new(parts, strict, tolerance_us)?)
        }
        JoinTime::Lookup => Box::new(LookupJoin::new(parts)?),
    })
}
