//! Rows on their way to the windows: keys as numbers, arguments evaluated, waiting for the
//! watermark to tell how it moved between them.

use std::collections::VecDeque;

use arrow::array::ArrayRef;
use auspex_plan::OnError;
use auspex_storage::Run;
use datafusion::common::DataFusionError;

use crate::aggregate::{Aggregates, Arguments, Places};
use crate::aggregate::interner::Interner;
use crate::batch::{Batch, rows_below};
use crate::error::{Result, RowFailure};
use crate::expr::{Compiled, evaluate_nulling, reason};
use crate::operator::Output;
use crate::operators::refuse_row;

/// Evaluates keys and arguments, and numbers the rows.
pub(super) struct Intake {
    keys: Vec<Compiled>,
    pub(super) aggregates: Aggregates,
    pub(super) interner: Interner,
    pub(super) on_error: OnError,
    waiting: VecDeque<Rows>,
    /// What is saved.
    pub(super) seen: Seen,
}

/// What the operator knows of the rows it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Rows so far: the ordinal of the next.
    pub(super) rows: u64,
    /// Arrival of the last row that has been processed.
    pub(super) ingested: Option<i64>,
}

/// Rows of a batch that wait.
pub(super) struct Rows {
    /// Number of each row's key.
    pub(super) keys: Vec<u32>,
    pub(super) arguments: Arguments,
    pub(super) sequence: Run,
    pub(super) time: Run,
    pub(super) ingested: Run,
    stream: Run,
    offset: Run,
    /// Ordinal of row 0.
    pub(super) ordinal: u64,
    /// Rows before this one are done.
    pub(super) next: usize,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// A row that is left out.
    pub(super) fn failure(&self, row: usize, reason: String) -> RowFailure {
        RowFailure {
            stream: self.stream.get(row) as u32,
            offset: self.offset.get(row) as u64,
            sequence: self.sequence.get(row),
            reason,
        }
    }

    /// Where the rows from `from` on stand; `time` are the event times from there on.
    pub(super) fn places<'a>(&self, from: usize, time: &'a Run) -> Places<'a> {
        Places { time, ordinal: self.ordinal + from as u64 }
    }
}

impl Intake {
    pub(super) fn new(
        keys: Vec<Compiled>,
        aggregates: Aggregates,
        on_error: OnError,
    ) -> Result<Intake> {
        let types: Vec<_> = keys.iter().map(|key| key.data_type.clone()).collect();
        Ok(Intake {
            keys,
            aggregates,
            interner: Interner::new(&types)?,
            on_error,
            waiting: VecDeque::new(),
            seen: Seen::default(),
        })
    }

    /// Takes a batch, or its halves when an expression fails on it, down to single rows.
    pub(super) fn take(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = batch.len();
        if rows == 0 {
            return Ok(());
        }
        let values = self.key_values(&batch).and_then(|keys| {
            Ok((keys, self.aggregates.evaluate(&batch.rows)?))
        });
        match values {
            Ok((keys, arguments)) => self.enqueue(batch, &keys, arguments),
            Err(_) if rows > 1 => {
                self.take(batch.slice(0, rows / 2), out)?;
                self.take(batch.slice(rows / 2, rows - rows / 2), out)
            }
            Err(_) if self.on_error == OnError::Null => {
                out.nulled += 1;
                let key = |key: &Compiled| -> Result<ArrayRef> {
                    Ok(evaluate_nulling(&key.physical, &batch.rows)?.to_array()?)
                };
                let keys = self.keys.iter().map(key).collect::<Result<Vec<_>>>()?;
                let arguments = self.aggregates.evaluate_nulling(&batch.rows)?;
                self.enqueue(batch, &keys, arguments)
            }
            Err(error) => {
                let failing = self.keys.iter().find_map(|key| {
                    let error = key.physical.evaluate(&batch.rows).err()?;
                    Some(reason(&error, &key.text))
                });
                let reason = failing.unwrap_or_else(|| self.aggregates.reason(&batch.rows, &error));
                refuse_row(&batch, reason, self.on_error, out)
            }
        }
    }

    fn key_values(&self, batch: &Batch) -> Result<Vec<ArrayRef>, DataFusionError> {
        let value = |key: &Compiled| key.physical.evaluate(&batch.rows)?.into_array(batch.len());
        self.keys.iter().map(value).collect()
    }

    fn enqueue(&mut self, batch: Batch, keys: &[ArrayRef], arguments: Arguments) -> Result<()> {
        let rows = batch.len();
        let keys = self.interner.intern(keys, rows)?.to_vec();
        let Batch { sequence, time, ingested, stream, offset, .. } = batch;
        let ordinal = self.seen.rows;
        self.seen.rows += rows as u64;
        self.waiting.push_back(Rows {
            keys,
            arguments,
            sequence,
            time,
            ingested,
            stream,
            offset,
            ordinal,
            next: 0,
        });
        Ok(())
    }

    /// The next waiting rows with places up to `sequence` (all when there is none), and how many of
    /// them; what is left of the batch waits on. The rows are those from `next` on.
    pub(super) fn next(&mut self, sequence: Option<i64>) -> Option<(Rows, usize)> {
        let rows = self.waiting.front()?;
        let end = match sequence {
            None => rows.len(),
            Some(place) => rows_below(&rows.sequence, rows.len(), place.saturating_add(1)),
        };
        if end <= rows.next {
            return None;
        }
        let rows = self.waiting.pop_front()?;
        self.seen.ingested = Some(rows.ingested.get(end - 1));
        Some((rows, end))
    }

    /// Gives back what [`Intake::next`] gave, done up to `end`.
    pub(super) fn done(&mut self, mut rows: Rows, end: usize) {
        rows.next = end;
        if end < rows.len() {
            self.waiting.push_front(rows);
        }
    }

    /// Forgets everything, before state is restored.
    pub(super) fn clear(&mut self) -> Result<()> {
        let types: Vec<_> = self.keys.iter().map(|key| key.data_type.clone()).collect();
        self.interner = Interner::new(&types)?;
        self.waiting.clear();
        self.seen = Seen::default();
        Ok(())
    }
}
