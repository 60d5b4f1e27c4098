//! Rows on their way to the windows: keys as numbers, arguments evaluated, waiting for the
//! watermark to tell how it moved between them.

use std::collections::VecDeque;

use arrow::array::ArrayRef;
use auspex_plan::OnError;
use auspex_storage::Run;

use crate::aggregate::interner::Interner;
use crate::aggregate::{Aggregates, Arguments, Places};
use crate::batch::{Batch, rows_below};
use crate::error::{Result, RowFailure};
use crate::expr::Compiled;
use crate::operator::Output;
use crate::operators::evaluate;

/// Evaluates keys and arguments, and numbers the rows.
pub(super) struct Intake {
    /// Keys, then what the aggregates need.
    exprs: Vec<Compiled>,
    keys: usize,
    pub(super) aggregates: Aggregates,
    pub(super) interner: Interner,
    on_error: OnError,
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
    /// `exprs` are the keys.
    pub(super) fn new(
        mut exprs: Vec<Compiled>,
        aggregates: Aggregates,
        on_error: OnError,
    ) -> Result<Intake> {
        let types: Vec<_> = exprs.iter().map(|key| key.data_type.clone()).collect();
        let keys = exprs.len();
        exprs.extend(aggregates.exprs().cloned());
        Ok(Intake {
            exprs,
            keys,
            aggregates,
            interner: Interner::new(&types)?,
            on_error,
            waiting: VecDeque::new(),
            seen: Seen::default(),
        })
    }

    /// Takes a batch. Rows on which an expression fails are left out or get nulls.
    pub(super) fn take(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        if let Some((batch, mut keys)) = evaluate(&self.exprs, batch, self.on_error, out)? {
            let arguments = keys.split_off(self.keys);
            let arguments = self.aggregates.arguments(arguments, batch.len());
            self.enqueue(batch, &keys, arguments)?;
        }
        Ok(())
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
        let types: Vec<_> =
            self.exprs[..self.keys].iter().map(|key| key.data_type.clone()).collect();
        self.interner = Interner::new(&types)?;
        self.waiting.clear();
        self.seen = Seen::default();
        Ok(())
    }
}
