//! Aggregates over windows of time, sessions and counts of rows (`semantics.md` section 3).
//!
//! * [`grid`]: where hopping and cumulating windows lie. Time is cut into *panes* as long as the
//!   slide; a row is added to one partial aggregate, the *cell* of its pane and key ([`cells`]).
//! * [`intake`]: rows wait until the watermark tells how it moved between them; [`emit`]: results
//!   wait until the end of a step. Between two boundaries at which windows end, rows are added a
//!   batch at a time.
//! * [`time`] chooses how windows are made of panes: [`closing`] reads a cell when its window ends,
//!   [`sliding`] keeps sums of neighbouring panes, [`direct`] merges panes when a result is due,
//!   [`changes`] keeps whole windows and gives a result at each row.
//! * [`sessions`] and [`counts`] are operators of their own.
//!
//! In the saved state each cell has an entry of its own, written when it has changed and removed
//! when its windows have closed.

mod arena;
mod base;
mod cells;
mod changes;
mod closing;
mod copies;
mod counts;
mod direct;
mod emit;
mod grid;
mod header;
mod intake;
mod sessions;
mod sliding;
mod time;

use auspex_plan::nodes::StreamAggregate;
use auspex_plan::{OnError, Window};
use datafusion::logical_expr::UserDefinedLogicalNodeCore;

use crate::aggregate::Aggregates;
use crate::batch::nullable;
use crate::error::{ExecError, Result};
use crate::expr::compile;
use crate::operator::Operator;
use crate::reorder::instant;

use counts::Counts;
use emit::Shape;
use grid::Grid;
use intake::Intake;
use sessions::Sessions;
use time::TimeWindows;

/// The operator of a windowed aggregate.
///
/// # Errors
/// [`ExecError::Plan`] when the lengths of the window make no sense, [`ExecError::Unsupported`]
/// for keys and aggregates that cannot be computed.
pub(crate) fn window_aggregate(
    node: &StreamAggregate,
    on_error: OnError,
) -> Result<Box<dyn Operator>> {
    let schema = node.input.schema();
    let keys = node.keys.iter().map(|key| compile(key, schema)).collect::<Result<Vec<_>>>()?;
    let aggregates = Aggregates::compile(&node.aggregates, schema)?;
    let intake = Intake::new(keys, aggregates, on_error)?;
    let revisions = node.has_revision();
    let schema = nullable(node.schema().as_arrow());
    let shape = Shape { schema, revisions, on_error, hold_us: node.hold_us() };
    let name = format!("Aggregate: {}, emit {}", node.window, node.emit);
    if node.lateness_us < 0 {
        return Err(ExecError::Plan(format!("a lateness of {} us", node.lateness_us)));
    }
    if let Some(grid) = Grid::new(&node.window)? {
        let operator = TimeWindows::new(intake, shape, grid, node.emit, node.lateness_us, name)?;
        return Ok(Box::new(operator));
    }
    match node.window {
        Window::Session { gap_us } => {
            let (emit, lateness) = (node.emit, node.lateness_us);
            Ok(Box::new(Sessions::new(intake, shape, gap_us, emit, lateness, name)?))
        }
        Window::Count { .. } if node.lateness_us > 0 => {
            Err(ExecError::Unsupported("lateness of a window of rows".into()))
        }
        Window::Count { size, slide } => {
            Ok(Box::new(Counts::new(intake, shape, size, slide, node.emit, name)?))
        }
        _ => Err(ExecError::Plan(format!("a window: {}", node.window))),
    }
}

/// Why a row was left out.
fn late_reason(time: i64, end: i64, watermark: i64) -> String {
    format!(
        "event time {} is too late for the window that ended at {}: the watermark is {}",
        instant(time),
        instant(end),
        instant(watermark)
    )
}

#[cfg(test)]
mod tests;
