//! Deterministic events to measure with.
//!
//! All workloads have the columns `type, ts, k, v, q`: event type, event time, a key, a double with
//! two decimals and an integer. The numbers come from a counter-based generator (splitmix64 of seed,
//! row and field), so that the same rows can be made in any language, in any order and in parallel.

pub mod w9;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, StringViewArray, StringViewBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use auspex_plan::ColumnType;
use auspex_plan::types::UTC;

/// Event time of the first row, milliseconds since 1970.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// Seed of W1 (W2 and W3 use the same stream).
const SEED_W1: u64 = 42_001;

fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number in `0 .. bound` for a field of a row.
fn below(seed: u64, row: u64, field: u64, bound: u64) -> u64 {
    let counter = seed
        .wrapping_mul(0xD134_2543_DE82_EF95)
        .wrapping_add(row.wrapping_mul(8))
        .wrapping_add(field);
    splitmix64(counter) % bound
}

/// A row of W1: ten ticks per millisecond, 1,000 keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Event time, milliseconds since 1970.
    pub ts_ms: i64,
    /// Key number, written `S%04d`.
    pub key: u64,
    /// Value in hundredths.
    pub cents: u64,
    /// Quantity, 1 to 1,000.
    pub quantity: i64,
}

impl Tick {
    /// Row number `row` of the stream.
    pub fn at(row: u64) -> Tick {
        Tick {
            ts_ms: BEGIN_MS + (row / 10) as i64,
            key: below(SEED_W1, row, 0, 1000),
            cents: below(SEED_W1, row, 1, 100_000),
            quantity: 1 + below(SEED_W1, row, 2, 1000) as i64,
        }
    }

    /// The value as a double.
    pub fn value(&self) -> f64 {
        self.cents as f64 / 100.0
    }
}

/// The columns of every workload.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        ColumnType::Text.field("type", true),
        ColumnType::Timestamptz.field("ts", true),
        ColumnType::Text.field("k", true),
        ColumnType::Double.field("v", true),
        ColumnType::BigInt.field("q", true),
    ]))
}

/// Rows `from .. from + rows` of W1 as one batch of [`schema`].
pub fn ticks(from: u64, rows: usize) -> RecordBatch {
    let ticks: Vec<Tick> = (from..from + rows as u64).map(Tick::at).collect();
    let mut keys = StringViewBuilder::with_capacity(rows);
    for tick in &ticks {
        keys.append_value(format!("S{:04}", tick.key));
    }
    let times = ticks.iter().map(|tick| tick.ts_ms * 1000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(ticks.iter().map(|_| "Tick"))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone(UTC)),
        Arc::new(keys.finish()),
        Arc::new(Float64Array::from_iter_values(ticks.iter().map(Tick::value))),
        Arc::new(Int64Array::from_iter_values(ticks.iter().map(|tick| tick.quantity))),
    ];
    RecordBatch::try_new(schema(), columns).expect("the columns are those of the schema")
}

/// Row count and sum of `v * q` in hundredths that `v > 900` leaves of the first `rows` rows.
pub fn expected_w1(rows: u64) -> (u64, u64) {
    (0..rows)
        .map(Tick::at)
        .filter(|tick| tick.cents > 90_000)
        .fold((0, 0), |(n, sum), tick| (n + 1, sum + tick.cents * tick.quantity as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_sums() {
        assert_eq!(expected_w1(100_000), (9_882, 472_249_617_642));
        assert_eq!(expected_w1(1_000_000), (100_220, 4_759_263_472_687));
    }

    #[test]
    fn batches_hold_the_rows_of_the_generator() {
        let batch = ticks(5, 3);
        assert_eq!(batch.num_rows(), 3);
        let quantities = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(
            batch.column(4).as_ref(),
        );
        assert_eq!(quantities.value(2), Tick::at(7).quantity);
    }
}
