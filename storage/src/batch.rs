//! Rows of a stream with the numbers that place them.

use arrow::buffer::ScalarBuffer;
use arrow::record_batch::RecordBatch;

use crate::error::{Result, StorageError};

/// One 64-bit number per row, kept short where the numbers are regular.
#[derive(Debug, Clone, PartialEq)]
pub enum Run {
    /// Every row has the same number.
    Constant(i64),
    /// Row i has `first + i`.
    Sequence(i64),
    /// Each row has its own.
    Each(ScalarBuffer<i64>),
}

impl Run {
    /// The number of row `row`.
    pub fn get(&self, row: usize) -> i64 {
        match self {
            Run::Constant(v) => *v,
            Run::Sequence(first) => first + row as i64,
            Run::Each(values) => values[row],
        }
    }

    /// The numbers of rows `from .. from + len`.
    pub fn slice(&self, from: usize, len: usize) -> Run {
        match self {
            Run::Constant(v) => Run::Constant(*v),
            Run::Sequence(first) => Run::Sequence(first + from as i64),
            Run::Each(values) => Run::Each(values.slice(from, len)),
        }
    }

    /// The numbers of the rows at `indices`, in that order.
    pub fn take(&self, indices: &[u32]) -> Run {
        match self {
            Run::Constant(v) => Run::Constant(*v),
            _ => Run::Each(indices.iter().map(|&i| self.get(i as usize)).collect()),
        }
    }

    /// Smallest and greatest number of `rows` rows, `None` when there is no row.
    pub fn bounds(&self, rows: usize) -> Option<(i64, i64)> {
        if rows == 0 {
            return None;
        }
        Some(match self {
            Run::Constant(v) => (*v, *v),
            Run::Sequence(first) => (*first, first + rows as i64 - 1),
            Run::Each(values) => {
                values.iter().fold((i64::MAX, i64::MIN), |(min, max), &v| (min.min(v), max.max(v)))
            }
        })
    }

    /// All numbers, for `rows` rows.
    pub fn to_values(&self, rows: usize) -> ScalarBuffer<i64> {
        match self {
            Run::Each(values) => values.clone(),
            _ => (0..rows).map(|i| self.get(i)).collect(),
        }
    }
}

/// Consecutive rows of one stream.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The stream's own columns.
    pub rows: RecordBatch,
    /// Stream offset of the first row; row i has `offset + i`.
    pub offset: u64,
    /// Place of each row in the global order of the data directory. A row of a derived stream has
    /// the place of the row that triggered it, so places never fall along a stream but may repeat.
    pub sequence: Run,
    /// Event time of each row, microseconds since 1970 UTC.
    pub time: Run,
    /// Arrival of each row, microseconds since 1970 UTC.
    pub ingested: Run,
}

impl EventBatch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset after the last row.
    pub fn end(&self) -> u64 {
        self.offset + self.len() as u64
    }

    /// The same rows with some of their columns, by position.
    pub fn project(&self, columns: &[usize]) -> Result<EventBatch> {
        let rows = self
            .rows
            .project(columns)
            .map_err(|e| StorageError::Misuse(format!("projection: {e}")))?;
        Ok(EventBatch { rows, ..self.clone() })
    }

    /// Rows `from .. from + len`.
    pub fn slice(&self, from: usize, len: usize) -> EventBatch {
        EventBatch {
            rows: self.rows.slice(from, len),
            offset: self.offset + from as u64,
            sequence: self.sequence.slice(from, len),
            time: self.time.slice(from, len),
            ingested: self.ingested.slice(from, len),
        }
    }
}
