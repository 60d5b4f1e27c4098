use auspex_plan::{ContinuousQuery, OnError};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::{avg, count, max, sum};
use datafusion::functions_window::expr_fn::{
    dense_rank, first_value, lag, last_value, lead, nth_value, rank, row_number,
};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, col,
};
use proptest::prelude::*;

use super::spec::{Frame, Start};
use crate::error::ExecError;
use crate::replay::{Cuts, LogRow, check_batching, log, trace};
use crate::testing::{query, timed_scan};
use crate::{BuildOptions, build};

/// `exprs` over k, a, v and `_time`, then k, a and the results.
fn plan(exprs: Vec<Expr>, delay_us: i64) -> ContinuousQuery {
    let named: Vec<Expr> =
        exprs.into_iter().enumerate().map(|(i, expr)| expr.alias(format!("r{i}"))).collect();
    let results = (0..named.len()).map(|i| col(format!("r{i}")));
    let columns: Vec<Expr> = [col("k"), col("a")].into_iter().chain(results).collect();
    let plan = timed_scan(1, delay_us, true)
        .project(vec![col("k"), col("a"), col("v"), col("_time")])
        .and_then(|plan| plan.window(named))
        .and_then(|plan| plan.project(columns))
        .unwrap();
    query(plan, OnError::DeadLetter)
}

fn sql_frame(frame: Frame) -> WindowFrame {
    let units = if frame.peers { WindowFrameUnits::Range } else { WindowFrameUnits::Rows };
    let start = match frame.start {
        Start::Unbounded => WindowFrameBound::Preceding(ScalarValue::Null),
        Start::Rows(0) | Start::Peers => WindowFrameBound::CurrentRow,
        Start::Rows(rows) => WindowFrameBound::Preceding(ScalarValue::UInt64(Some(rows))),
        Start::Range(us) => {
            WindowFrameBound::Preceding(ScalarValue::new_interval_mdn(0, 0, us * 1000))
        }
    };
    WindowFrame::new_bounds(units, start, WindowFrameBound::CurrentRow)
}

/// Aggregates as window functions.
fn windowed(expr: Expr) -> Expr {
    match expr {
        Expr::AggregateFunction(call) => {
            let fun = WindowFunctionDefinition::AggregateUDF(call.func);
            Expr::from(WindowFunction::new(fun, call.params.args))
        }
        other => other,
    }
}

fn over(expr: Expr, frame: Frame) -> Expr {
    windowed(expr)
        .partition_by(vec![col("k")])
        .order_by(vec![col("_time").sort(true, false)])
        .window_frame(sql_frame(frame))
        .build()
        .unwrap()
}

fn rows(start: Start) -> Frame {
    Frame { start, peers: false }
}

fn range(start: Start) -> Frame {
    Frame { start, peers: true }
}

#[track_caller]
fn check(exprs: Vec<Expr>, rows: &str, expected: &[&str]) {
    let trace = trace(&plan(exprs, 2), &log(rows));
    let all: Vec<String> = trace.rows.into_iter().chain(trace.late).chain(trace.failures).collect();
    assert_eq!(all, expected);
}

const ROWS: &str = "
    1 @4 x 1 0 1
    1 @2 x 2 0 1
    1 @4 x 3 0 1
    1 @4 y 4 0 1
    1 @8 x 5 0 1
    1 @5 x 6 0 1";

#[test]
fn frames_of_rows_end_with_the_row() {
    check(
        vec![
            over(sum(col("a")), rows(Start::Rows(1))),
            over(row_number(), rows(Start::Unbounded)),
            over(lag(col("a"), None, None), rows(Start::Unbounded)),
        ],
        ROWS,
        &[
            "x 2 2 1 - | 1 2",
            "x 1 3 2 2 | 4 4",
            "x 3 4 3 1 | 4 4",
            "y 4 4 1 - | 4 4",
            "x 5 8 4 3 | 6 8",
            "5: event time 1970-01-01 00:00:00.000005+00 is before the watermark \
             1970-01-01 00:00:00.000006+00",
        ],
    );
}

#[test]
fn frames_of_a_range_have_the_peers_of_the_row() {
    check(
        vec![
            over(sum(col("a")), range(Start::Unbounded)),
            over(rank(), range(Start::Unbounded)),
            over(dense_rank(), range(Start::Unbounded)),
            over(last_value(col("a")), range(Start::Range(2))),
        ],
        "1 @4 x 1 0 1\n1 @2 x 2 0 1\n1 @4 x 3 0 1\n1 @7 x 5 0 1",
        &["x 2 2 1 1 2 | 3 2", "x 1 6 2 2 3 | 3 4", "x 3 6 2 2 3 | 3 4", "x 5 11 4 3 5 | 4 7"],
    );
}

#[test]
fn rows_of_one_time_are_ordered_by_the_further_columns() {
    let ordered = |expr: Expr| {
        windowed(expr)
            .partition_by(vec![col("k")])
            .order_by(vec![col("_time").sort(true, false), col("a").sort(false, true)])
            .window_frame(sql_frame(rows(Start::Unbounded)))
            .build()
            .unwrap()
    };
    check(
        vec![ordered(row_number()), ordered(rank()), ordered(lag(col("a"), Some(1), None))],
        "1 @4 x 1 0 1\n1 @4 x 3 0 1\n1 @4 x 3 0 2\n1 @4 x 2 0 1",
        &["x 3 1 1 - | 4 4", "x 3 2 1 3 | 4 4", "x 2 3 3 3 | 4 4", "x 1 4 4 2 | 4 4"],
    );
}

#[test]
fn a_row_that_is_not_there_gives_the_default() {
    let default = Some(ScalarValue::Int64(Some(-1)));
    check(
        vec![
            over(lag(col("a"), Some(2), default), rows(Start::Unbounded)),
            over(nth_value(col("a"), 2), rows(Start::Unbounded)),
        ],
        "1 @1 x 1 0 1\n1 @2 x 2 0 1\n1 @3 x 3 0 1",
        &["x 1 -1 - | 2 1", "x 2 -1 2 | 3 2", "x 3 1 2 | 3 3"],
    );
}

#[test]
fn a_row_whose_aggregate_overflows_is_refused() {
    let top = i64::MAX;
    check(
        vec![over(sum(col("a")), rows(Start::Rows(1)))],
        &format!("1 @1 x {top} 0 1\n1 @2 x 1 0 1\n1 @3 x 2 0 1"),
        &[&format!("x {top} {top} | 2 1"), "x 2 3 | 3 3", "3: value out of range in sum(s1.a)"],
    );
}

#[test]
fn what_looks_ahead_is_refused() {
    let refused = |expr: Expr| match build(&plan(vec![expr], 0), &BuildOptions::default()) {
        Err(ExecError::Unsupported(what)) => what,
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert_eq!(
        refused(over(lead(col("a"), None, None), rows(Start::Unbounded))),
        "lead(), which may need rows behind the present one,"
    );
    let frame = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::CurrentRow,
        WindowFrameBound::Following(ScalarValue::UInt64(Some(1))),
    );
    let by_time = || vec![col("_time").sort(true, false)];
    let ahead = windowed(sum(col("a"))).order_by(by_time()).window_frame(frame).build().unwrap();
    assert_eq!(refused(ahead), "a frame that does not end at CURRENT ROW");
    let by_a = windowed(sum(col("a"))).order_by(vec![col("a").sort(true, false)]).build().unwrap();
    assert_eq!(refused(by_a), "OVER without ORDER BY the event time");
}

/// Result lines (`k a results`, by event time, then place) and places of late rows, by plain loops.
fn reference(
    frame: Frame,
    lag_by: usize,
    nth: usize,
    log: &[LogRow],
    delay_us: i64,
) -> (Vec<String>, Vec<usize>) {
    let key = |row: usize| log[row].values.split(' ').next().unwrap();
    let a = |row: usize| -> i64 { log[row].values.split(' ').nth(1).unwrap().parse().unwrap() };
    let (mut kept, mut late, mut watermark) = (Vec::new(), Vec::new(), i64::MIN);
    for (place, row) in log.iter().enumerate() {
        if row.time < watermark {
            late.push(place)
        } else {
            kept.push(place)
        }
        watermark = watermark.max(row.time - delay_us);
    }
    kept.sort_by_key(|row| log[*row].time);
    let shown = |value: Option<i64>| value.map_or("-".into(), |v| v.to_string());
    let line = |row: &usize| {
        let time = |row: usize| log[row].time;
        let all: Vec<usize> = kept.iter().copied().filter(|r| key(*r) == key(*row)).collect();
        let number = all.iter().position(|r| r == row).unwrap();
        let first_peer = all.iter().position(|r| time(*r) == time(*row)).unwrap();
        let last_peer = all.iter().rposition(|r| time(*r) == time(*row)).unwrap();
        let times: std::collections::BTreeSet<i64> =
            all[..=number].iter().map(|r| time(*r)).collect();
        let first = match frame.start {
            Start::Unbounded => 0,
            Start::Rows(n) => number.saturating_sub(n as usize),
            Start::Range(us) => all.iter().position(|r| time(*r) >= time(*row) - us).unwrap(),
            Start::Peers => first_peer,
        };
        let last = if frame.peers { last_peer } else { number };
        let within: Vec<i64> = all[first..=last].iter().map(|r| a(*r)).collect();
        let total: i64 = within.iter().sum();
        format!(
            "{} {} {} {} {:?} {} {} {} {} {} {} {}",
            key(*row),
            a(*row),
            total,
            within.iter().max().unwrap(),
            total as f64 / within.len() as f64,
            number + 1,
            first_peer + 1,
            times.len(),
            shown(number.checked_sub(lag_by).map(|r| a(all[r]))),
            within[0],
            within[within.len() - 1],
            shown(within.get(nth - 1).copied()),
        )
    };
    (kept.iter().map(line).collect(), late)
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        Just(rows(Start::Unbounded)),
        (0u64..6).prop_map(|n| rows(Start::Rows(n))),
        Just(range(Start::Unbounded)),
        (1i64..12).prop_map(|us| range(Start::Range(us))),
        Just(range(Start::Peers)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn window_functions_agree_with_plain_loops(
        frame in any_frame(),
        lag_by in 0usize..4,
        nth in 1usize..4,
        delay in 0i64..8,
        log_rows in proptest::collection::vec((-8i64..8, "[xy]", 0i64..9), 1..40),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 40),
    ) {
        let lines: Vec<String> = log_rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, k, a))| format!("1 @{} {k} {a} 1 0.1", i as i64 + jitter))
            .collect();
        let log = log(&lines.join("\n"));
        let a = || col("a");
        let exprs = vec![
            over(sum(a()), frame),
            over(max(a()), frame),
            over(avg(a()), frame),
            over(row_number(), frame),
            over(rank(), frame),
            over(dense_rank(), frame),
            over(lag(a(), Some(lag_by as i64), None), frame),
            over(first_value(a()), frame),
            over(last_value(a()), frame),
            over(nth_value(a(), nth as i64), frame),
        ];
        let cuts = Cuts {
            cut: &|i| cuts[i][0],
            save: &|i| cuts[i][1],
            restart: &|i| cuts[i][2],
        };
        let trace = check_batching(&plan(exprs, delay), &log, &cuts);
        let (lines, late) = reference(frame, lag_by, nth, &log, delay);
        let given: Vec<&str> =
            trace.rows.iter().map(|l| l.split_once(" | ").unwrap().0).collect();
        prop_assert_eq!(given, lines);
        let mut places: Vec<usize> =
            trace.late.iter().map(|l| l.split_once(':').unwrap().0.parse().unwrap()).collect();
        places.sort_unstable();
        prop_assert_eq!(places, late);
    }

    /// Different frames side by side, few of which need much, over partitions that fall idle; sums
    /// of floats must not depend on batches or restarts.
    #[test]
    fn nothing_shows_of_batches_and_restarts(
        frames in proptest::collection::vec(any_frame(), 1..4),
        lagging in any::<bool>(),
        log_rows in proptest::collection::vec((-8i64..8, "[xyz]", -1.0f64..1.0), 1..40),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 40),
    ) {
        let lines: Vec<String> = log_rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, k, v))| format!("1 @{} {k} {i} 1 {v}", 3 * i as i64 + jitter))
            .collect();
        let mut exprs: Vec<Expr> = frames
            .into_iter()
            .flat_map(|frame| [over(sum(col("v")), frame), over(count(col("v")), frame)])
            .collect();
        if lagging {
            exprs.push(over(lag(col("v"), Some(2), None), rows(Start::Unbounded)));
        }
        let mut seen = Vec::new();
        exprs.retain(|expr| !seen.contains(expr) && { seen.push(expr.clone()); true });
        let cuts = Cuts {
            cut: &|i| cuts[i][0],
            save: &|i| cuts[i][1],
            restart: &|i| cuts[i][2],
        };
        check_batching(&plan(exprs, 3), &log(&lines.join("\n")), &cuts);
    }
}
