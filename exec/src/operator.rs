//! The contract of operators.

use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{ExecError, Result, RowFailure};
use crate::progress::Progress;

/// Which of an operator's inputs rows come from, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Input(pub usize);

/// A promise about all inputs: every row with a place in the global order below `sequence` has
/// been delivered. With it comes how event time has moved over those places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// First place that is still open.
    pub sequence: i64,
    /// The watermark of all inputs together: the smallest of those that are not idle.
    pub progress: Arc<Progress>,
    /// The watermark of each input alone. A row is late when its event time is below what its own
    /// input's was before the row's place.
    pub inputs: Vec<Arc<Progress>>,
}

impl Watermark {
    /// A promise about places only, for queries in which no operator needs event time.
    pub fn places(sequence: i64) -> Watermark {
        Watermark { sequence, progress: Arc::new(Progress::still(i64::MIN)), inputs: Vec::new() }
    }
}

/// One step of a continuous query: rows in, rows out, in order.
///
/// What an operator emits depends only on the order of its input rows and on watermarks that are a
/// function of the log; never on how rows were batched. Both have one common order: the rows of a
/// place come before the step of the watermark at that place. An operator that needs event time
/// therefore keeps the rows of [`Operator::on_batch`] until [`Operator::on_watermark`] tells how the
/// watermark moved between them; no row of a step is at or behind the watermark's `sequence`.
pub trait Operator: Send {
    /// Takes rows of one input.
    ///
    /// # Errors
    /// [`ExecError::Row`] when the query is to stop at a row. The operator must not be used
    /// afterwards without [`Operator::restore`].
    fn on_batch(&mut self, input: Input, batch: Batch, out: &mut Output) -> Result<()>;

    /// Learns that the inputs have moved on.
    fn on_watermark(&mut self, _watermark: &Watermark, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Writes the keys whose values changed since the last call.
    fn checkpoint(&mut self, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    /// Replaces the state by what was written by all former calls of [`Operator::checkpoint`].
    fn restore(&mut self, _state: &StateReader) -> Result<()> {
        Ok(())
    }

    /// Bytes of state kept between batches, roughly.
    fn state_bytes(&self) -> u64 {
        0
    }

    /// Rows, groups or windows kept between batches.
    fn state_rows(&self) -> u64 {
        0
    }

    /// What it is, for `auspex.operators`.
    fn describe(&self) -> String;
}

/// A line for the server's output or log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Level of the server's log; `None` for standard output.
    pub level: Option<String>,
    /// What to write, without line end.
    pub text: String,
}

/// What operators give away while they take a batch.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows for the next operator (at the end: for the output stream).
    pub batches: Vec<Batch>,
    /// Rows that were left out under [`auspex_plan::OnError::DeadLetter`].
    pub dead_letters: Vec<RowFailure>,
    /// Number of rows left out under [`auspex_plan::OnError::Skip`].
    pub skipped: u64,
    /// Number of rows with a failed expression made null under [`auspex_plan::OnError::Null`].
    pub nulled: u64,
    /// Lines to write.
    pub taps: Vec<Tap>,
    /// Rows that came too late for an operator, which left them out.
    pub late: Vec<RowFailure>,
    /// Given by [`Operator::on_watermark`] when the watermark of the operator's output is another
    /// one than that of its inputs (behind it, or from other event times).
    pub progress: Option<Progress>,
}

impl Output {
    /// Hands rows to the next operator; an empty batch is dropped.
    pub fn emit(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.batches.push(batch);
        }
    }
}

/// A key of saved state and its new value, `None` to remove it.
pub type StateChange = (Vec<u8>, Option<Vec<u8>>);

/// Collects changed state of one operator.
#[derive(Debug)]
pub struct StateWriter<'a> {
    prefix: [u8; 2],
    changes: &'a mut Vec<StateChange>,
}

impl<'a> StateWriter<'a> {
    /// A writer for operator number `node` of a graph; keys are put under that number.
    pub fn new(node: u16, changes: &'a mut Vec<StateChange>) -> Self {
        StateWriter { prefix: node.to_be_bytes(), changes }
    }

    /// Sets a value.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.changes.push(([&self.prefix, key].concat(), Some(value)));
    }

    /// Removes a value.
    pub fn remove(&mut self, key: &[u8]) {
        self.changes.push(([&self.prefix, key].concat(), None));
    }
}

/// Gives one operator its state back.
#[derive(Debug)]
pub struct StateReader<'a> {
    entries: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> StateReader<'a> {
    /// The part of `entries` (ascending by key) that operator number `node` wrote.
    pub fn new(node: u16, entries: &'a [(Vec<u8>, Vec<u8>)]) -> Self {
        let prefix = node.to_be_bytes();
        let from = entries.partition_point(|(key, _)| key.as_slice() < prefix.as_slice());
        let len = entries[from..].partition_point(|(key, _)| key.starts_with(&prefix));
        StateReader { entries: &entries[from..from + len] }
    }

    /// Keys and values as they were put.
    pub fn entries(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + '_ {
        self.entries.iter().map(|(key, value)| (&key[2..], value.as_slice()))
    }

    /// A value that must be a 64-bit count.
    pub fn count(value: &[u8]) -> Result<u64> {
        let bytes = <[u8; 8]>::try_from(value)
            .map_err(|_| ExecError::State(format!("a count of {} bytes", value.len())))?;
        Ok(u64::from_be_bytes(bytes))
    }
}
