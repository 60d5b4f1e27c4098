//! Results on their way out.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use arrow::compute::concat;
use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use auspex_plan::types::UTC;
use auspex_storage::Run;

use crate::aggregate::AggregateSet;
use crate::aggregate::interner::Interner;
use crate::batch::{Batch, batch_of};
use crate::error::{Result, RowFailure};
use crate::operator::Output;
use crate::operators::refuse;

/// Rows of results after which they are handed on within a step.
const FULL: usize = 16_384;

/// One result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) key: u32,
    pub(super) revision: u32,
}

/// When and where results come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) sequence: i64,
    pub(super) ingested: i64,
}

/// Collects results in the order in which they come out.
#[derive(Default)]
pub(super) struct Results {
    starts: Vec<i64>,
    ends: Vec<i64>,
    keys: Vec<u32>,
    revisions: Vec<i64>,
    times: Vec<i64>,
    sequence: Vec<i64>,
    ingested: Vec<i64>,
    /// Where the aggregates are; in order of the results.
    slots: Vec<u32>,
    done: usize,
    /// Evaluated aggregates of results before `done`.
    columns: Vec<Vec<ArrayRef>>,
}

/// What all results of an operator have in common.
pub(super) struct Shape {
    pub(super) schema: SchemaRef,
    pub(super) revisions: bool,
    pub(super) on_error: OnError,
    /// How far the output's watermark is behind the input's, microseconds.
    pub(super) hold_us: i64,
}

impl Results {
    /// Adds a result whose aggregates are in `slot` and whose event time is `time`.
    #[inline]
    pub(super) fn push(&mut self, due: Due, time: i64, place: Place, slot: u32) {
        self.starts.push(due.start);
        self.ends.push(due.end);
        self.keys.push(due.key);
        self.revisions.push(i64::from(due.revision));
        self.times.push(time);
        self.sequence.push(place.sequence);
        self.ingested.push(place.ingested);
        self.slots.push(slot);
    }

    /// Results that have been added since the last [`Results::hand_on`].
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether they should be handed on.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= FULL
    }

    /// Reads the aggregates of the results added last out of `set`, which may change afterwards. A
    /// result that cannot be represented is refused.
    ///
    /// # Errors
    /// [`crate::ExecError::Row`] when the policy is to stop.
    pub(super) fn read(
        &mut self,
        set: &AggregateSet,
        on_error: OnError,
        out: &mut Output,
    ) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let results = set.results(&self.slots, on_error)?;
        out.nulled += results.nulled;
        for (position, reason) in results.failed {
            let sequence = self.sequence[self.done + position];
            let stream = RowFailure::NO_STREAM;
            refuse(RowFailure { stream, offset: 0, sequence, reason }, on_error, out)?;
        }
        if let Some(kept) = &results.kept {
            let done = self.done;
            let numbers = [
                &mut self.starts,
                &mut self.ends,
                &mut self.revisions,
                &mut self.times,
                &mut self.sequence,
                &mut self.ingested,
            ];
            numbers.into_iter().for_each(|numbers| keep(numbers, done, kept));
            keep(&mut self.keys, done, kept);
        }
        self.columns.push(results.columns);
        self.slots.clear();
        self.done = self.len();
        Ok(())
    }

    /// Hands on what has been read.
    pub(super) fn hand_on(
        &mut self,
        shape: &Shape,
        interner: &Interner,
        out: &mut Output,
    ) -> Result<()> {
        let rows = self.done;
        let pieces = std::mem::take(&mut self.columns);
        if rows == 0 {
            return Ok(());
        }
        self.done = 0;
        let times = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone(UTC))
        };
        let mut columns =
            vec![times(std::mem::take(&mut self.starts)), times(std::mem::take(&mut self.ends))];
        columns.extend(interner.values(&self.keys)?);
        self.keys.clear();
        columns.extend(joined(pieces)?);
        let revisions = std::mem::take(&mut self.revisions);
        if shape.revisions {
            columns.push(Arc::new(Int64Array::from(revisions)));
        }
        let run = |values: &mut Vec<i64>| Run::Each(std::mem::take(values).into());
        out.emit(Batch {
            rows: batch_of(Arc::clone(&shape.schema), columns, rows)?,
            sequence: run(&mut self.sequence),
            time: run(&mut self.times),
            ingested: run(&mut self.ingested),
            stream: Run::Constant(i64::from(RowFailure::NO_STREAM)),
            offset: Run::Constant(0),
        });
        Ok(())
    }
}

/// The columns of several pieces, one below the other.
fn joined(mut pieces: Vec<Vec<ArrayRef>>) -> Result<Vec<ArrayRef>> {
    if pieces.len() == 1 {
        return Ok(pieces.remove(0));
    }
    let columns = pieces.first().map_or(0, Vec::len);
    let column = |number: usize| {
        let parts: Vec<_> = pieces.iter().map(|piece| piece[number].as_ref()).collect();
        Ok(concat(&parts)?)
    };
    (0..columns).map(column).collect()
}

/// Leaves only those of the values from `from` on that are at the positions `kept`.
fn keep<T: Copy>(values: &mut Vec<T>, from: usize, kept: &[u32]) {
    let chosen: Vec<T> = kept.iter().map(|position| values[from + *position as usize]).collect();
    values.truncate(from);
    values.extend(chosen);
}
