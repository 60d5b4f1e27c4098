//! Expressions over whole batches, with the query's policy for the rows on which one fails.

use arrow::array::ArrayRef;
use arrow::compute::concat;
use auspex_plan::OnError;
use datafusion::common::DataFusionError;

use crate::batch::Batch;
use crate::error::Result;
use crate::expr::{Compiled, evaluate_nulling, reason};
use crate::operator::Output;

use super::refuse_row;

/// The rows of `batch` on which none of `exprs` fails (under [`OnError::Null`] all rows, what fails
/// being null), with the values of each expression; `None` when no row is left.
///
/// # Errors
/// [`crate::ExecError::Row`] when the policy is to stop.
pub(crate) fn evaluate(
    exprs: &[Compiled],
    batch: Batch,
    on_error: OnError,
    out: &mut Output,
) -> Result<Option<(Batch, Vec<ArrayRef>)>> {
    if batch.is_empty() {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    take(exprs, batch, on_error, &mut pieces, out)?;
    if pieces.len() <= 1 {
        return Ok(pieces.pop());
    }
    let (batches, values): (Vec<Batch>, Vec<Vec<ArrayRef>>) = pieces.into_iter().unzip();
    let Some(batch) = Batch::concat(batches)? else { return Ok(None) };
    let column = |number: usize| {
        let parts: Vec<_> = values.iter().map(|columns| columns[number].as_ref()).collect();
        concat(&parts)
    };
    let columns = (0..exprs.len()).map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Some((batch, columns)))
}

/// Takes `batch`, or its halves when an expression fails on it, down to single rows.
fn take(
    exprs: &[Compiled],
    batch: Batch,
    on_error: OnError,
    pieces: &mut Vec<(Batch, Vec<ArrayRef>)>,
    out: &mut Output,
) -> Result<()> {
    let rows = batch.len();
    let mut columns = Vec::with_capacity(exprs.len());
    let mut failed: Option<(DataFusionError, &Compiled)> = None;
    for expr in exprs {
        match expr.physical.evaluate(&batch.rows).and_then(|v| v.into_array(rows)) {
            Ok(values) => columns.push(values),
            Err(error) => {
                failed = Some((error, expr));
                break;
            }
        }
    }
    match failed {
        None => pieces.push((batch, columns)),
        Some(_) if rows > 1 => {
            take(exprs, batch.slice(0, rows / 2), on_error, pieces, out)?;
            take(exprs, batch.slice(rows / 2, rows - rows / 2), on_error, pieces, out)?;
        }
        Some(_) if on_error == OnError::Null => {
            out.nulled += 1;
            let values =
                |expr: &Compiled| Ok(evaluate_nulling(&expr.physical, &batch.rows)?.to_array()?);
            let columns = exprs.iter().map(values).collect::<Result<Vec<_>>>()?;
            pieces.push((batch, columns));
        }
        Some((error, expr)) => {
            refuse_row(&batch, reason(&error, &expr.text), on_error, out)?;
        }
    }
    Ok(())
}
