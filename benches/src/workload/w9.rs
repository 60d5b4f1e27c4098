//! W9: two streams to be joined, half of the rows each, 1,428.6 rows a second together.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewBuilder};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use auspex_plan::ColumnType;
use auspex_storage::{EventBatch, Run};

use super::{BEGIN_MS, below};

const SEED: u64 = 42_009;

/// Keys of W9.
pub const KEYS: u64 = 10_000;

/// A row of W9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Of the right stream, not of the left one.
    pub right: bool,
    /// Event time, milliseconds since 1970.
    pub ts_ms: i64,
    /// Key number, written `K%05d`.
    pub key: u64,
    /// Value in hundredths.
    pub cents: u64,
}

impl Row {
    /// Row number `row` when there are `keys` keys.
    pub fn at(row: u64, keys: u64) -> Row {
        Row {
            right: below(SEED, row, 0, 2) == 1,
            ts_ms: BEGIN_MS + 7 * (row / 10) as i64,
            key: below(SEED, row, 1, keys),
            cents: below(SEED, row, 2, 100_000),
        }
    }
}

/// The columns of both streams: `k, v, q`; `q` is the number of the row.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        ColumnType::Text.field("k", true),
        ColumnType::Double.field("v", true),
        ColumnType::BigInt.field("q", true),
    ]))
}

/// Rows `from .. from + rows` of both streams; a row's place is its number.
pub fn batches(from: u64, rows: u64, keys: u64) -> [EventBatch; 2] {
    let all: Vec<(u64, Row)> = (from..from + rows).map(|row| (row, Row::at(row, keys))).collect();
    [false, true].map(|right| {
        let rows: Vec<(u64, Row)> = all.iter().filter(|(_, r)| r.right == right).copied().collect();
        let mut names = StringViewBuilder::with_capacity(rows.len());
        for (_, row) in &rows {
            names.append_value(format!("K{:05}", row.key));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(names.finish()),
            Arc::new(Float64Array::from_iter_values(
                rows.iter().map(|(_, row)| row.cents as f64 / 100.0),
            )),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(number, _)| *number as i64))),
        ];
        EventBatch {
            rows: RecordBatch::try_new(schema(), columns).expect("the columns of the schema"),
            offset: 0,
            sequence: Run::Each(rows.iter().map(|(number, _)| *number as i64).collect()),
            time: Run::Each(rows.iter().map(|(_, row)| row.ts_ms * 1000).collect()),
            ingested: Run::Constant(0),
        }
    })
}
