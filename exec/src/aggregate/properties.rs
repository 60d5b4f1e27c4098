//! Every aggregate over random rows: against its definition computed the plain way, and however the
//! rows are cut into batches and parts that are merged, saved and read.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringViewArray};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use auspex_plan::{OnError, functions};
use auspex_storage::Run;
use datafusion::common::DFSchema;
use datafusion::functions_aggregate::{expr_fn as f, string_agg};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprFunctionExt, col, lit};
use proptest::prelude::*;

use super::*;

const GROUPS: u32 = 3;

#[derive(Debug, Clone)]
struct Row {
    group: u32,
    time: i64,
    a: Option<i64>,
    v: Option<f64>,
    k: Option<&'static str>,
    b: Option<bool>,
}

fn row() -> impl Strategy<Value = Row> {
    let a = prop_oneof![
        1 => Just(None),
        1 => prop::sample::select(vec![Some(i64::MAX), Some(i64::MIN)]),
        6 => (-3i64..4).prop_map(Some),
    ];
    let special = vec![None, Some(f64::NAN), Some(f64::INFINITY), Some(-0.0), Some(0.0)];
    let v = prop_oneof![
        1 => prop::sample::select(special),
        4 => (-40i32..40).prop_map(|v| Some(f64::from(v) / 8.0)),
    ];
    let k = prop::sample::select(vec![None, Some(""), Some("x"), Some("longer than twelve bytes")]);
    let b = prop::sample::select(vec![None, Some(true), Some(false)]);
    (0..GROUPS, 0i64..5, a, v, k, b).prop_map(|(group, time, a, v, k, b)| Row {
        group,
        time,
        a,
        v,
        k,
        b,
    })
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("a", Arc::new(rows.iter().map(|r| r.a).collect::<Int64Array>())),
        ("v", Arc::new(rows.iter().map(|r| r.v).collect::<Float64Array>())),
        ("k", Arc::new(rows.iter().map(|r| r.k).collect::<StringViewArray>())),
        ("b", Arc::new(rows.iter().map(|r| r.b).collect::<BooleanArray>())),
    ];
    let columns = columns.map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn own(name: &str) -> Arc<AggregateUDF> {
    functions::aggregate(name).unwrap()
}

/// Aggregates whose results are exact.
fn exact() -> Vec<Expr> {
    let by = |expr: Expr| vec![expr.sort(false, true)];
    vec![
        f::count(lit(1i64)),
        f::count(col("k")),
        f::sum(col("a")),
        f::min(col("v")),
        f::max(col("v")),
        f::min(col("k")),
        f::max(col("a")),
        f::first_value(col("a"), vec![]),
        f::last_value(col("k"), vec![]),
        f::last_value(col("k"), by(col("a"))),
        f::bool_and(col("b")),
        f::bool_or(col("b")),
        f::array_agg(col("a")),
        f::array_agg(col("a")).order_by(by(col("k"))).build().unwrap(),
        f::array_agg(col("k")).distinct().build().unwrap(),
        string_agg::string_agg_udaf().call(vec![col("k"), lit("-")]),
        f::count(col("v")).distinct().build().unwrap(),
        own("count_distinct").call(vec![col("k")]),
        f::sum(col("a")).filter(col("b")).build().unwrap(),
        f::sum(col("a")).distinct().build().unwrap(),
        own("median").call(vec![col("v")]),
        own("percentile").call(vec![col("a"), lit(0.25)]),
        own("ema").call(vec![col("a"), lit(3i64)]),
        own("approx_count_distinct").call(vec![col("k")]),
        f::bit_xor(col("a")),
    ]
}

/// Aggregates that are rounded, so that the order of merging shows in the last digits.
fn rounded() -> Vec<Expr> {
    vec![
        f::sum(col("v")),
        f::avg(col("v")),
        f::stddev(col("v")),
        f::stddev_pop(col("v")),
        f::var_sample(col("v")),
        f::var_pop(col("v")),
        f::avg(col("v")).filter(col("b")).build().unwrap(),
    ]
}

fn compile(exprs: &[Expr]) -> Aggregates {
    let schema = DFSchema::try_from(batch(&[]).schema().as_ref().clone()).unwrap();
    Aggregates::compile(exprs, &schema).unwrap()
}

fn add(set: &mut AggregateSet, aggregates: &Aggregates, rows: &[Row], ordinal: u64) {
    let slots: Vec<u32> = rows.iter().map(|row| row.group).collect();
    let time = Run::Each(rows.iter().map(|row| row.time).collect::<Vec<_>>().into());
    let arguments = aggregates.evaluate(&batch(rows)).unwrap();
    set.update(&slots, &arguments, &Places { time: &time, ordinal }).unwrap();
}

fn new(aggregates: &Aggregates) -> AggregateSet {
    let mut set = aggregates.set();
    set.resize(GROUPS as usize);
    set
}

/// Results by group as text.
fn results(set: &AggregateSet) -> Vec<Vec<String>> {
    let groups: Vec<u32> = (0..GROUPS).collect();
    let columns = set.results(&groups, OnError::Null).unwrap().columns;
    let line = |row| columns.iter().map(|c| array_value_to_string(c, row).unwrap()).collect();
    (0..GROUPS as usize).map(line).collect()
}

/// The rows cut into parts, each added to a set of its own in two batches; the sets are saved, read
/// and merged.
fn in_parts(aggregates: &Aggregates, rows: &[Row], cuts: &[usize]) -> AggregateSet {
    let mut whole = new(aggregates);
    let groups: Vec<u32> = (0..GROUPS).collect();
    let mut from = 0;
    for to in cuts.iter().copied().chain([rows.len()]) {
        let to = to.clamp(from, rows.len());
        let mut part = new(aggregates);
        let middle = from.midpoint(to);
        add(&mut part, aggregates, &rows[from..middle], from as u64);
        results(&part);
        add(&mut part, aggregates, &rows[middle..to], middle as u64);
        let mut copy = new(aggregates);
        for group in &groups {
            let mut bytes = Vec::new();
            part.write(*group, &mut bytes);
            let mut rest = bytes.as_slice();
            copy.read(*group, &mut rest).unwrap();
            assert!(rest.is_empty());
        }
        whole.merge(&groups, &copy, &groups).unwrap();
        from = to;
    }
    whole
}

/// Values that are not null, in the order of event time and arrival.
fn ordered<T: Clone>(rows: &[&Row], of: impl Fn(&Row) -> T) -> Vec<T> {
    let mut sorted: Vec<&&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| row.time);
    sorted.into_iter().map(|row| of(row)).collect()
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// Some results of a group, from the definitions.
fn plain(rows: &[&Row]) -> Vec<(usize, String)> {
    let a: Vec<i64> = rows.iter().filter_map(|r| r.a).collect();
    let sum = a.iter().map(|a| i128::from(*a)).sum::<i128>();
    let sum = i64::try_from(sum).ok().filter(|_| !a.is_empty());
    let times = ordered(rows, |r| r.a);
    let (first, last) = (times.first(), ordered(rows, |r| r.k).pop());
    let bools: Vec<bool> = rows.iter().filter_map(|r| r.b).collect();
    let list: Vec<String> = times.iter().map(|a| text(*a)).collect();
    let texts: Vec<&str> = ordered(rows, |r| r.k).into_iter().flatten().collect();
    let keys: BTreeSet<&str> = texts.iter().copied().collect();
    let floats = rows.iter().filter_map(|r| r.v);
    let bits = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 }.to_bits();
    let floats: BTreeSet<u64> = floats.map(bits).collect();
    let kept: Vec<i64> = rows.iter().filter(|r| r.b == Some(true)).filter_map(|r| r.a).collect();
    let kept_sum = kept.iter().map(|a| i128::from(*a)).sum::<i128>();
    let numbers: Vec<f64> = times.iter().flatten().map(|a| *a as f64).collect();
    let ema = numbers.iter().copied().reduce(|e, x| x * 0.5 + e * 0.5);
    vec![
        (0, rows.len().to_string()),
        (1, texts.len().to_string()),
        (2, text(sum)),
        (5, text(keys.first())),
        (6, text(a.iter().max())),
        (7, text(first.copied().flatten())),
        (8, text(last.flatten())),
        (10, text((!bools.is_empty()).then(|| bools.iter().all(|b| *b)))),
        (11, text((!bools.is_empty()).then(|| bools.iter().any(|b| *b)))),
        (12, format!("[{}]", list.join(", "))),
        (15, texts.join("-")),
        (16, floats.len().to_string()),
        (17, keys.len().to_string()),
        (18, text(i64::try_from(kept_sum).ok().filter(|_| !kept.is_empty()))),
        (22, text(ema.map(|e| array_value_to_string(&Float64Array::from(vec![e]), 0).unwrap()))),
        (23, keys.len().to_string()),
    ]
}

fn close(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() < 1e-9,
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn parts_saved_and_merged_are_the_whole(
        rows in prop::collection::vec(row(), 0..40),
        mut cuts in prop::collection::vec(0usize..40, 0..4),
    ) {
        cuts.sort_unstable();
        let aggregates = compile(&exact());
        let mut whole = new(&aggregates);
        add(&mut whole, &aggregates, &rows, 0);
        let expected = results(&whole);
        prop_assert_eq!(&results(&whole), &expected, "asked twice");
        prop_assert_eq!(results(&in_parts(&aggregates, &rows, &cuts)), expected.clone());
        for (group, line) in expected.iter().enumerate() {
            let own: Vec<&Row> = rows.iter().filter(|r| r.group as usize == group).collect();
            for (at, value) in plain(&own) {
                prop_assert_eq!(&line[at], &value, "aggregate {} of group {}", at, group);
            }
        }
        whole.reset(&[0, 1, 2]);
        prop_assert_eq!(results(&whole), results(&new(&aggregates)));

        let aggregates = compile(&rounded());
        let mut whole = new(&aggregates);
        add(&mut whole, &aggregates, &rows, 0);
        let parts = results(&in_parts(&aggregates, &rows, &cuts));
        for (a, b) in results(&whole).iter().flatten().zip(parts.iter().flatten()) {
            prop_assert!(close(a, b), "{} and {}", a, b);
        }
    }

    #[test]
    fn moments_of_pairs_are_those_of_the_definition(
        pairs in prop::collection::vec((-20i32..20, -20i32..20), 2..30),
        cut in 0usize..30,
    ) {
        let pair = |(y, x): &(i32, i32)| Row {
            group: 0,
            time: 0,
            a: Some(i64::from(*x)),
            v: Some(f64::from(*y)),
            k: None,
            b: None,
        };
        let rows: Vec<Row> = pairs.iter().map(pair).collect();
        let (y, x) = (|| col("v"), || col("a"));
        let aggregates = compile(&[
            f::corr(y(), x()),
            f::covar_samp(y(), x()),
            f::regr_slope(y(), x()),
            f::regr_intercept(y(), x()),
            f::regr_r2(y(), x()),
        ]);
        let found = results(&in_parts(&aggregates, &rows, &[cut])).remove(0);
        let n = pairs.len() as f64;
        let mean = |of: fn(&(i32, i32)) -> i32| {
            pairs.iter().map(|p| f64::from(of(p))).sum::<f64>() / n
        };
        let (my, mx) = (mean(|p| p.0), mean(|p| p.1));
        let sum = |f: &dyn Fn(f64, f64) -> f64| {
            pairs.iter().map(|(y, x)| f(f64::from(*y) - my, f64::from(*x) - mx)).sum::<f64>()
        };
        let (xx, yy, xy) = (sum(&|_, x| x * x), sum(&|y, _| y * y), sum(&|y, x| x * y));
        if xx > 1e-6 && yy > 1e-6 {
            let slope = xy / xx;
            let expected = [
                xy / (xx * yy).sqrt(),
                xy / (n - 1.0),
                slope,
                my - slope * mx,
                xy * xy / (xx * yy),
            ];
            for (found, expected) in found.iter().zip(expected) {
                prop_assert!(close(found, &expected.to_string()), "{} and {}", found, expected);
            }
        }
    }
}
