//! Rows of one input on their way from the store into a query.

use std::collections::VecDeque;

use arrow::compute::concat_batches;
use auspex_storage::{EventBatch, Head, ReadLimit, Store, StreamId};

use crate::batch::{concat_runs, rows_below};
use crate::error::Result;
use crate::graph::ScanSpec;

/// Batches below this many rows are joined with their neighbours before they are processed.
const SMALL: usize = 1024;

/// What was read of a stream but not processed yet.
pub(super) struct Feed {
    pub(super) stream: StreamId,
    columns: Vec<usize>,
    /// Next offset to be processed.
    pub(super) position: u64,
    /// Offset after the last row in `buffer`.
    loaded: u64,
    buffer: VecDeque<EventBatch>,
}

impl Feed {
    pub(super) fn new(spec: &ScanSpec, position: u64) -> Feed {
        Feed {
            stream: spec.stream,
            columns: spec.columns.clone(),
            position,
            loaded: position,
            buffer: VecDeque::new(),
        }
    }

    /// Continues at another offset.
    pub(super) fn seek(&mut self, position: u64) {
        self.buffer.clear();
        self.position = position;
        self.loaded = position;
    }

    /// Offset from which the store is still asked for rows.
    pub(super) fn needs(&self) -> u64 {
        self.loaded
    }

    /// Reads until `rows` rows are waiting or the stream's end is reached.
    pub(super) fn load(&mut self, store: &dyn Store, head: &Head, rows: usize) -> Result<()> {
        while self.waiting() < rows && self.loaded < head.next {
            let limit = ReadLimit { rows: rows - self.waiting(), until: head.next };
            let read = store.read(self.stream, self.loaded, limit, Some(&self.columns))?;
            let Some(last) = read.last() else { break };
            self.loaded = last.end();
            self.buffer.extend(read);
        }
        Ok(())
    }

    fn waiting(&self) -> usize {
        (self.loaded - self.position) as usize
    }

    /// Greatest place up to which (exclusive) at most `rows` rows wait, or `bound` when that is
    /// less. All rows of one place go together, so this may be the place of the first row.
    pub(super) fn reach(&self, rows: usize, bound: i64) -> i64 {
        let mut left = rows;
        for batch in &self.buffer {
            if left < batch.len() {
                return batch.sequence.get(left).min(bound);
            }
            left -= batch.len();
        }
        bound
    }

    /// Takes the rows whose place is below `sequence`.
    pub(super) fn take_below(&mut self, sequence: i64) -> Result<Vec<EventBatch>> {
        let mut taken = Vec::new();
        while let Some(batch) = self.buffer.pop_front() {
            let len = batch.len();
            let cut = rows_below(&batch.sequence, len, sequence);
            self.position += cut as u64;
            if cut == len {
                taken.push(batch);
                continue;
            }
            if cut > 0 {
                taken.push(batch.slice(0, cut));
            }
            self.buffer.push_front(batch.slice(cut, len - cut));
            break;
        }
        join_small(taken)
    }
}

/// Joins neighbouring batches as long as one of them is small.
fn join_small(batches: Vec<EventBatch>) -> Result<Vec<EventBatch>> {
    let mut joined = Vec::new();
    let mut run: Vec<EventBatch> = Vec::new();
    for batch in batches {
        if batch.len() >= SMALL {
            joined.extend(join(std::mem::take(&mut run))?);
            joined.push(batch);
        } else {
            run.push(batch);
        }
    }
    joined.extend(join(run)?);
    Ok(joined)
}

fn join(mut batches: Vec<EventBatch>) -> Result<Option<EventBatch>> {
    if batches.len() <= 1 {
        return Ok(batches.pop());
    }
    let rows = concat_batches(&batches[0].rows.schema(), batches.iter().map(|b| &b.rows))?;
    Ok(Some(EventBatch {
        rows,
        offset: batches[0].offset,
        sequence: concat_runs(batches.iter().map(|b| (&b.sequence, b.len()))),
        time: concat_runs(batches.iter().map(|b| (&b.time, b.len()))),
        ingested: concat_runs(batches.iter().map(|b| (&b.ingested, b.len()))),
    }))
}
