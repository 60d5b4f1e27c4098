//! Numbered rows of one side.

use arrow::datatypes::SchemaRef;

use crate::batch::Batch;
use crate::error::Result;
use crate::operator::{StateReader, StateWriter};
use crate::state_rows::KeptRows;

use super::gather::Sources;

/// Rows after a compaction are put into batches of so many.
const BATCH_ROWS: usize = 8192;

/// Rows in the order in which they came; each has the number after that of the row before it.
pub(super) struct RowStore {
    kept: KeptRows,
    /// Number of the next row.
    end: u64,
}

impl RowStore {
    /// See [`KeptRows::new`].
    pub(super) fn new(tag: u8, schema: SchemaRef) -> RowStore {
        RowStore { kept: KeptRows::new(tag, schema), end: 0 }
    }

    /// Adds rows.
    pub(super) fn push(&mut self, batch: Batch) -> Result<()> {
        self.end += batch.len() as u64;
        self.kept.push(batch)
    }

    /// Number of the oldest row.
    pub(super) fn first(&self) -> u64 {
        self.end - self.kept.rows() as u64
    }

    /// Number of the next row.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Rows kept.
    pub(super) fn rows(&self) -> usize {
        self.kept.rows()
    }

    /// Numbers of the rows at the beginnings of the chunks, also of those that are gone there.
    fn starts(&self) -> Vec<u64> {
        let mut starts = Vec::with_capacity(self.kept.chunks().len());
        let mut next = self.end;
        for chunk in self.kept.chunks().iter().rev() {
            next -= chunk.batch.len() as u64;
            starts.push(next);
        }
        starts.reverse();
        starts
    }

    /// The rows by their numbers.
    pub(super) fn sources(&self) -> Sources<'_> {
        let batches = self.kept.chunks().iter().map(|chunk| &chunk.batch);
        Sources::new(self.starts().into_iter().zip(batches))
    }

    /// The rows with their numbers and marks, oldest first.
    pub(super) fn batches(&self) -> impl Iterator<Item = (u64, Batch, Vec<u8>)> + '_ {
        self.starts().into_iter().zip(self.kept.chunks()).map(|(start, chunk)| {
            let marks = (chunk.from..chunk.batch.len()).map(|row| chunk.mark(row)).collect();
            let rows = chunk.batch.slice(chunk.from, chunk.len());
            (start + chunk.from as u64, rows, marks)
        })
    }

    /// Drops the oldest rows.
    pub(super) fn drop_front(&mut self, rows: usize) {
        self.kept.drop_front(rows);
    }

    /// Marks rows, whose numbers are ascending.
    pub(super) fn mark(&mut self, numbers: impl Iterator<Item = u64>, mark: u8) {
        let starts = self.starts();
        let mut chunk = 0;
        for number in numbers {
            while chunk + 1 < starts.len() && starts[chunk + 1] <= number {
                chunk += 1;
            }
            self.kept.chunk_mut(chunk).set_mark((number - starts[chunk]) as usize, mark);
        }
    }

    /// Makes small chunks larger.
    pub(super) fn tidy(&mut self) -> Result<()> {
        self.kept.tidy(|batches| match Batch::concat(batches)? {
            Some(batch) => Ok(batch),
            None => unreachable!("there are at least two"),
        })
    }

    /// Keeps only the rows of these numbers, ascending, which get new ones from 0 on.
    pub(super) fn keep(&mut self, numbers: &[u64]) -> Result<()> {
        let sources = self.sources();
        let batches = numbers.chunks(BATCH_ROWS).map(|some| sources.batch(some));
        let batches = batches.collect::<Result<Vec<_>>>()?;
        drop(sources);
        self.end = numbers.len() as u64;
        self.kept.replace(batches)
    }

    /// See [`KeptRows::checkpoint`].
    pub(super) fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.kept.checkpoint(state)
    }

    /// See [`KeptRows::restore`]; the numbers begin at 0.
    pub(super) fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.kept.restore(state)?;
        self.end = self.kept.rows() as u64;
        Ok(())
    }

    /// Bytes, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.bytes()
    }
}
