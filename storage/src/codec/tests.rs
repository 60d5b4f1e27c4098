//! Round trips of random batches, and damage.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{IntervalMonthDayNano, Schema};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::{Payload, encode};

/// A column of each stored type, made from numbers; every `nulls`-th row is null.
fn columns(seeds: &[i64], nulls: usize) -> Vec<(&'static str, ArrayRef)> {
    let valid = |i: usize| nulls == 0 || !i.is_multiple_of(nulls);
    let seeds: Vec<Option<i64>> =
        seeds.iter().enumerate().map(|(i, &s)| valid(i).then_some(s)).collect();
    let map = |f: &dyn Fn(i64) -> i64| seeds.iter().map(move |s| s.map(f)).collect::<Vec<_>>();
    let text = |s: i64| format!("{:x}", s as u64 >> (s as u64 % 60));
    let wide = |s: i64| format!("a string that is not inline, {}", s & 7);
    let strings: Vec<Option<String>> = seeds.iter().map(|s| s.map(text)).collect();
    let longs: Vec<Option<String>> = seeds.iter().map(|s| s.map(wide)).collect();
    let mut list = ListBuilder::new(Int64Builder::new());
    for seed in &seeds {
        match seed {
            Some(s) => list.append_value((0..s.rem_euclid(4)).map(Some)),
            None => list.append_null(),
        }
    }
    let uuid = seeds.iter().map(|s| s.map(|s| (i128::from(s) << 64 | 5).to_le_bytes()));
    let interval = seeds.iter().map(|s| s.map(|s| IntervalMonthDayNano::new(s as i32, 3, s)));
    vec![
        ("i64", Arc::new(Int64Array::from(map(&|s| s)))),
        ("i32", Arc::new(seeds.iter().map(|s| s.map(|s| s as i32)).collect::<Int32Array>())),
        ("i16", Arc::new(seeds.iter().map(|s| s.map(|s| s as i16)).collect::<Int16Array>())),
        ("u64", Arc::new(seeds.iter().map(|s| s.map(|s| s as u64)).collect::<UInt64Array>())),
        ("u8", Arc::new(seeds.iter().map(|s| s.map(|s| s as u8)).collect::<UInt8Array>())),
        ("ts", Arc::new(TimestampMicrosecondArray::from(map(&|s| s)).with_timezone("UTC"))),
        ("date", Arc::new(seeds.iter().map(|s| s.map(|s| s as i32)).collect::<Date32Array>())),
        (
            "f64",
            Arc::new(
                seeds.iter().map(|s| s.map(|s| f64::from_bits(s as u64))).collect::<Float64Array>(),
            ),
        ),
        (
            "decimals",
            Arc::new(
                seeds
                    .iter()
                    .map(|s| s.map(|s| (s % 9999) as f64 / 100.0))
                    .collect::<Float64Array>(),
            ),
        ),
        ("f32", Arc::new(seeds.iter().map(|s| s.map(|s| s as f32)).collect::<Float32Array>())),
        ("bool", Arc::new(seeds.iter().map(|s| s.map(|s| s % 3 == 0)).collect::<BooleanArray>())),
        ("text", Arc::new(strings.iter().map(Option::as_deref).collect::<StringViewArray>())),
        ("longs", Arc::new(longs.iter().map(Option::as_deref).collect::<StringViewArray>())),
        ("utf8", Arc::new(strings.iter().map(Option::as_deref).collect::<StringArray>())),
        (
            "bytes",
            Arc::new(
                strings.iter().map(|s| s.as_deref().map(str::as_bytes)).collect::<BinaryArray>(),
            ),
        ),
        (
            "numeric",
            Arc::new(
                seeds
                    .iter()
                    .map(|s| s.map(i128::from))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
        ),
        ("uuid", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuid, 16).unwrap())),
        ("interval", Arc::new(interval.collect::<IntervalMonthDayNanoArray>())),
        ("list", Arc::new(list.finish())),
    ]
}

fn batch(seeds: &[i64], nulls: usize) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns(seeds, nulls).into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

fn check(rows: &RecordBatch, projection: Option<&[usize]>) {
    let bytes = encode(rows, &[]).unwrap();
    let payload = Payload::open(&bytes).unwrap();
    assert_eq!(payload.rows(), rows.num_rows());
    let again = payload.decode(&rows.schema(), projection).unwrap();
    let expected = match projection {
        Some(columns) => rows.project(columns).unwrap(),
        None => rows.clone(),
    };
    // NaNs are equal to nothing, so doubles are compared by their bits.
    for (a, b) in again.columns().iter().zip(expected.columns()) {
        match a.as_any().downcast_ref::<Float64Array>() {
            None => assert_eq!(a, b),
            Some(a) => {
                let bits =
                    |a: &Float64Array| a.iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>();
                assert_eq!(bits(a), bits(b.as_primitive()));
            }
        }
    }
    assert_eq!(again.schema(), expected.schema());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_batch_and_any_slice_survive(
        seeds in prop_oneof![
            prop::collection::vec(any::<i64>(), 0..40),
            prop::collection::vec(0i64..50, 0..3000),
            (any::<i32>(), 1i64..5000, 1000usize..3000)
                .prop_map(|(from, step, n)| (0..n as i64).map(|i| i64::from(from) + i * step).collect()),
        ],
        nulls in 0usize..5,
        cut in 0.0f64..1.0,
    ) {
        let rows = batch(&seeds, nulls);
        check(&rows, None);
        let from = (seeds.len() as f64 * cut) as usize;
        check(&rows.slice(from, seeds.len() - from), None);
        check(&rows.slice(0, from), Some(&[11, 0]));
        check(&rows, Some(&[]));
    }

    #[test]
    fn damage_is_an_error(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let rows = batch(&[1, 2, 3, 500, -7], 3);
        let mut bytes = encode(&rows, &[]).unwrap();
        let at = at.index(bytes.len());
        // Byte 1 is reserved, but covered by the sum as well.
        bytes[at] ^= 1 << bit;
        let read = Payload::open(&bytes).and_then(|p| p.decode(&rows.schema(), None));
        prop_assert!(read.is_err());
        let cut = Payload::open(&bytes[..at]).and_then(|p| p.decode(&rows.schema(), None));
        prop_assert!(cut.is_err());
    }

    /// Sums guard the columns; should one fit by accident, decoding must still not panic. (Arrow's
    /// own reader of kind 6 may ask for the memory that garbage tells it to.)
    #[test]
    fn columns_of_garbage_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..6, rows in 0usize..3000) {
        let mut bytes = bytes;
        bytes.splice(0..0, [kind, 0]);
        for field in batch(&[], 0).schema().fields() {
            let _ = super::column::decode(&bytes, field.data_type(), rows);
        }
    }
}

#[test]
fn extra_numbers_lie_behind_the_columns() {
    let rows = batch(&[5, 6, 7], 0);
    let (a, b) = (vec![1i64, 2, 3].into(), vec![9i64, 9, 9].into());
    let bytes = encode(&rows, &[&a, &b]).unwrap();
    let payload = Payload::open(&bytes).unwrap();
    assert_eq!(payload.extra(rows.num_columns(), 0).unwrap(), a);
    assert_eq!(payload.extra(rows.num_columns(), 1).unwrap(), b);
    assert_eq!(payload.decode(&rows.schema(), None).unwrap(), rows);
}

#[test]
fn no_columns_still_have_rows() {
    let schema = Arc::new(Schema::empty());
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(7));
    let rows = RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap();
    let bytes = encode(&rows, &[]).unwrap();
    assert_eq!(Payload::open(&bytes).unwrap().decode(&schema, None).unwrap().num_rows(), 7);
}

#[test]
fn w1_rows_take_less_than_six_bytes() {
    let n = 65_536i64;
    let spread =
        |i: i64, m: i64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64) as u64 >> 20) as i64 % m;
    let keys: Vec<String> = (0..n).map(|i| format!("S{:04}", spread(i, 1000))).collect();
    let rows = RecordBatch::try_from_iter([
        ("type", Arc::new(StringViewArray::from(vec!["Tick"; n as usize])) as ArrayRef),
        (
            "ts",
            Arc::new(Int64Array::from_iter_values(
                (0..n).map(|i| 1_700_000_000_000_000 + i / 10 * 1000),
            )),
        ),
        ("k", Arc::new(StringViewArray::from_iter_values(&keys))),
        (
            "v",
            Arc::new(Float64Array::from_iter_values(
                (0..n).map(|i| spread(i + n, 100_000) as f64 / 100.0),
            )),
        ),
        ("q", Arc::new(Int64Array::from_iter_values((0..n).map(|i| spread(i + 2 * n, 1000) + 1)))),
    ])
    .unwrap();
    let bytes = encode(&rows, &[]).unwrap();
    assert!(bytes.len() < 6 * n as usize, "{}", bytes.len());
    check(&rows, None);
}
