//! Joining neighbouring small batches, so that a reader of many one-row inserts sees few batches.

use arrow::compute::concat_batches;

use crate::batch::{EventBatch, Run};
use crate::error::{Result, StorageError};
use crate::store::ReadLimit;

/// A batch with at least this many rows is left as it is.
const SMALL: usize = 1024;
/// Joined batches have at most this many rows.
const TARGET: usize = 8192;

/// Collects batches in stream order until a [`ReadLimit`] is reached.
pub(crate) struct Reading {
    limit: ReadLimit,
    rows: usize,
    batches: Vec<EventBatch>,
}

impl Reading {
    pub(crate) fn new(limit: ReadLimit) -> Reading {
        Reading { limit, rows: 0, batches: Vec::new() }
    }

    /// Whether a batch beginning at `offset` is not wanted any more.
    pub(crate) fn is_full(&self, offset: u64) -> bool {
        offset >= self.limit.until || (!self.batches.is_empty() && self.rows >= self.limit.rows)
    }

    /// Adds the part of a batch from `from` on and below the limit's end.
    pub(crate) fn push(&mut self, batch: &EventBatch, from: u64) {
        let skip = from.saturating_sub(batch.offset) as usize;
        let end = batch.end().min(self.limit.until);
        if batch.offset + skip as u64 >= end {
            return;
        }
        let len = (end - batch.offset) as usize - skip;
        self.rows += len;
        self.batches.push(if len == batch.len() { batch.clone() } else { batch.slice(skip, len) });
    }

    /// The batches, small neighbours joined.
    pub(crate) fn finish(self) -> Result<Vec<EventBatch>> {
        if self.batches.len() < 2 {
            return Ok(self.batches);
        }
        let mut joined = Vec::new();
        let mut group: Vec<EventBatch> = Vec::new();
        let mut rows = 0;
        for batch in self.batches {
            if batch.len() >= SMALL || rows + batch.len() > TARGET {
                flush(&mut group, &mut joined)?;
                rows = 0;
            }
            if batch.len() >= SMALL {
                joined.push(batch);
            } else {
                rows += batch.len();
                group.push(batch);
            }
        }
        flush(&mut group, &mut joined)?;
        Ok(joined)
    }
}

fn flush(group: &mut Vec<EventBatch>, joined: &mut Vec<EventBatch>) -> Result<()> {
    match group.len() {
        0 => {}
        1 => joined.append(group),
        _ => {
            joined.push(join(group)?);
            group.clear();
        }
    }
    Ok(())
}

fn join(group: &[EventBatch]) -> Result<EventBatch> {
    let schema = group[0].rows.schema();
    let rows = concat_batches(&schema, group.iter().map(|batch| &batch.rows))
        .map_err(|e| StorageError::Corrupted(format!("batches of a stream differ: {e}")))?;
    let lens: Vec<usize> = group.iter().map(EventBatch::len).collect();
    let runs = |of: fn(&EventBatch) -> &Run| join_runs(group.iter().map(of), &lens);
    Ok(EventBatch {
        rows,
        offset: group[0].offset,
        sequence: runs(|batch| &batch.sequence),
        time: runs(|batch| &batch.time),
        ingested: runs(|batch| &batch.ingested),
    })
}

fn join_runs<'a>(runs: impl Iterator<Item = &'a Run> + Clone, lens: &[usize]) -> Run {
    let mut all = runs.clone();
    let first = all.next().expect("a group has at least two batches");
    let regular = match first {
        Run::Constant(_) => all.all(|run| run == first),
        Run::Sequence(start) => {
            let mut next = start + lens[0] as i64;
            all.zip(&lens[1..]).all(|(run, &len)| {
                let fits = matches!(run, Run::Sequence(s) if *s == next);
                next += len as i64;
                fits
            })
        }
        Run::Each(_) => false,
    };
    if regular {
        return first.clone();
    }
    let mut values = Vec::with_capacity(lens.iter().sum());
    for (run, &len) in runs.zip(lens) {
        match run {
            Run::Each(each) => values.extend_from_slice(&each[..len]),
            run => values.extend((0..len).map(|i| run.get(i))),
        }
    }
    Run::Each(values.into())
}
