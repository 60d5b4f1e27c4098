//! The operators, one per file.

mod assign_time;
mod changes;
mod distinct;
pub(crate) mod evaluate;
mod kept;
pub(crate) mod keys;
mod limit;
pub mod over;
mod periods;
mod retention;
mod running;
#[cfg(test)]
mod running_tests;
mod select;
mod slide;
mod slots;
mod tap;
mod union;
mod walk;
mod window_rows;

pub use assign_time::AssignTime;
pub use changes::Changes;
pub use distinct::Distinct;
pub(crate) use evaluate::evaluate;
pub use limit::Limit;
pub use periods::{PeriodSpec, Periods};
pub use retention::{Delay, Retain, RetainSpec, Retained};
pub use running::Running;
pub use select::Select;
pub(crate) use select::true_rows;
pub use tap::TapRows;
pub use union::Union;
pub use window_rows::{RowOrder, WindowRows};

pub(crate) use keys::one_zero;

use auspex_plan::OnError;

use crate::batch::Batch;
use crate::error::{ExecError, Result, RowFailure};
use crate::operator::Output;

/// Records that an expression failed on the only row of `row`, which is therefore left out.
///
/// # Errors
/// [`ExecError::Row`] when the policy is to stop.
pub(crate) fn refuse_row(
    row: &Batch,
    reason: String,
    on_error: OnError,
    out: &mut Output,
) -> Result<()> {
    let failure = RowFailure {
        stream: row.stream.get(0) as u32,
        offset: row.offset.get(0) as u64,
        sequence: row.sequence.get(0),
        reason,
    };
    refuse(failure, on_error, out)
}

/// Records that a row is left out because an expression failed.
///
/// # Errors
/// [`ExecError::Row`] when the policy is to stop.
pub(crate) fn refuse(failure: RowFailure, on_error: OnError, out: &mut Output) -> Result<()> {
    match on_error {
        OnError::Stop => return Err(ExecError::Row(failure)),
        OnError::DeadLetter => out.dead_letters.push(failure),
        // A whole row can only be left out: where the policy is null, the caller makes nulls.
        OnError::Skip | OnError::Null => out.skipped += 1,
    }
    Ok(())
}
