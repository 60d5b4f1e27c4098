//! What window functions compute.

use arrow::compute::SortOptions;
use datafusion::common::ScalarValue;

use crate::aggregate::Aggregates;
use crate::expr::Compiled;

/// First row of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// That of the partition.
    Unbounded,
    /// The row that lies so many rows before the present one.
    Rows(u64),
    /// The first row whose event time is at most so many microseconds before the present one's.
    Range(i64),
    /// The first of the present row's peers: rows of the same place in the order.
    Peers,
}

/// Rows that a function sees: from the start to the present row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// See there.
    pub start: Start,
    /// Up to the last of the present row's peers (`RANGE`).
    pub peers: bool,
}

/// A row whose value is given.
#[derive(Debug, Clone)]
pub enum Pick {
    /// The row so many rows before the present one, or a constant.
    Lag(u64, ScalarValue),
    /// The n-th row of the frame, from 1.
    Nth(u64, Frame),
    /// The last row of the frame.
    Last(Frame),
}

/// A function that gives a value of another row.
#[derive(Debug, Clone)]
pub struct ValueOf {
    /// Which value.
    pub arg: Compiled,
    /// Of which row.
    pub pick: Pick,
}

/// A column of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Number of the row in its partition, from 1.
    RowNumber,
    /// Number of its first peer.
    Rank,
    /// Number of its group of peers.
    DenseRank,
    /// One of [`OverSpec::values`].
    Value(usize),
    /// A column of one of [`OverSpec::frames`].
    Aggregate(usize, usize),
}

/// Functions over one partitioning and order.
pub struct OverSpec {
    /// Partition keys.
    pub partition: Vec<Compiled>,
    /// What rows of the same event time are ordered by.
    pub order: Vec<(Compiled, SortOptions)>,
    /// The results.
    pub columns: Vec<Column>,
    /// Functions that give values of rows.
    pub values: Vec<ValueOf>,
    /// Aggregates of each frame.
    pub frames: Vec<(Frame, Aggregates)>,
}

impl OverSpec {
    /// Whether the rows of an event time must all be there before the first of them comes out.
    pub(super) fn needs_peers(&self) -> bool {
        let of_value = |value: &ValueOf| match value.pick {
            Pick::Lag(..) => false,
            Pick::Nth(_, frame) | Pick::Last(frame) => frame.peers,
        };
        !self.order.is_empty()
            || self.values.iter().any(of_value)
            || self.frames.iter().any(|(frame, _)| frame.peers)
    }

    /// Rows before the present one that the next one may need.
    pub(super) fn rows_needed(&self) -> u64 {
        let of_frame = |frame: Frame| match frame.start {
            Start::Rows(rows) => rows,
            _ => 0,
        };
        let of_value = |value: &ValueOf| match value.pick {
            Pick::Lag(rows, _) => rows,
            Pick::Nth(_, frame) => of_frame(frame),
            Pick::Last(_) => 0,
        };
        let values = self.values.iter().map(of_value);
        values.chain(self.frames.iter().map(|(frame, _)| of_frame(*frame))).max().unwrap_or(0)
    }

    /// How far before the present row's event time rows lie that the next one may need.
    pub(super) fn range_needed(&self) -> Option<i64> {
        let of_frame = |frame: Frame| match frame.start {
            Start::Range(us) => Some(us),
            _ => None,
        };
        let of_value = |value: &ValueOf| match value.pick {
            Pick::Nth(_, frame) => of_frame(frame),
            _ => None,
        };
        let values = self.values.iter().filter_map(of_value);
        values.chain(self.frames.iter().filter_map(|(frame, _)| of_frame(*frame))).max()
    }

    /// Whether a partition is never forgotten.
    pub(super) fn is_lasting(&self) -> bool {
        let counts = [Column::RowNumber, Column::Rank, Column::DenseRank];
        self.columns.iter().any(|column| counts.contains(column))
            || self.values.iter().any(|value| head(&value.pick) > 0)
            || self.frames.iter().any(|(frame, _)| frame.start == Start::Unbounded)
    }
}

/// Number of first values of a partition that a function needs for ever.
pub(super) fn head(pick: &Pick) -> u64 {
    match pick {
        Pick::Nth(n, Frame { start: Start::Unbounded, .. }) => *n,
        _ => 0,
    }
}
