//! Windows against a reference, and with exact rows.

mod reference;

use arrow::datatypes::DataType;
use auspex_plan::nodes::StreamAggregate;
use auspex_plan::{ContinuousQuery, Emit, OnError, Window};
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, sum};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, col, lit};
use proptest::prelude::*;

use crate::replay::{Cuts, LogRow, check_batching, log, trace};
use crate::testing::{extend, query, timed};

use reference::Query;

fn node(q: &Query, keys: Vec<Expr>, aggregates: Vec<Expr>) -> LogicalPlanBuilder {
    extend(timed(1, q.delay_us), |input| {
        StreamAggregate::try_new(input, q.window, keys, aggregates, q.emit, q.lateness_us)
            .expect("a node")
    })
}

/// The aggregates of the reference by key `k`, times as integers.
fn plan(q: &Query) -> ContinuousQuery {
    let aggregates = vec![
        count(lit(1i64)).alias("n"),
        sum(col("b")).alias("total"),
        avg(col("b")).alias("mean"),
        min(col("b")).alias("low"),
        max(col("b")).alias("high"),
    ];
    let number = |name: &str| cast(col(name), DataType::Int64).alias(format!("{name}_us"));
    let mut columns = vec![number("window_start"), number("window_end")];
    columns.extend(["k", "n", "total", "mean", "low", "high"].map(col));
    if q.emit != Emit::OnClose || q.lateness_us > 0 {
        columns.push(col("_revision"));
    }
    let plan = node(q, vec![col("k")], aggregates).project(columns).expect("a projection");
    query(plan, OnError::DeadLetter)
}

fn agrees(q: &Query, rows: &[LogRow], cuts: &Cuts) -> Result<(), TestCaseError> {
    let trace = check_batching(&plan(q), rows, cuts);
    let expected = reference::run(q, rows);
    prop_assert_eq!(&trace.rows, &expected.rows);
    let late: Vec<usize> = trace
        .late
        .iter()
        .map(|line| line.split(':').next().and_then(|p| p.parse().ok()).expect("a place"))
        .collect();
    let mut late = late;
    late.sort_unstable();
    prop_assert_eq!(late, expected.late);
    Ok(())
}

/// Rows of three keys whose times go up, with disorder; now and then far ahead.
fn rows() -> impl Strategy<Value = Vec<LogRow>> {
    let row = ("[xyz]", 0i64..5, -12i64..3, 0i64..9, 0u8..20);
    proptest::collection::vec(row, 1..60).prop_map(|rows| {
        let mut now = -20;
        let row = |(k, ahead, back, value, jump): (String, i64, i64, i64, u8)| {
            now += ahead + if jump == 0 { 60 } else { 0 };
            let values = format!("{k} 0 {value} 0.5");
            LogRow { stream: 1, time: now + back, values }
        };
        rows.into_iter().map(row).collect()
    })
}

fn grid_window() -> impl Strategy<Value = Window> {
    let hop = (1i64..7, 1i64..8, -20i64..20).prop_map(|(slide_us, panes, offset_us)| Window::Hop {
        size_us: slide_us * panes,
        slide_us,
        offset_us,
    });
    let cumulate = (1i64..7, 1i64..6, -20i64..20).prop_map(|(step_us, panes, offset_us)| {
        Window::Cumulate { size_us: step_us * panes, step_us, offset_us }
    });
    prop_oneof![hop, cumulate]
}

fn emission() -> impl Strategy<Value = Emit> {
    prop_oneof![
        3 => Just(Emit::OnClose),
        2 => Just(Emit::Changes),
        2 => (1i64..12).prop_map(Emit::Every)
    ]
}

fn lateness() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0i64), 1i64..15]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hopping_and_cumulating_windows_agree_with_the_reference(
        rows in rows(),
        window in grid_window(),
        emit in emission(),
        lateness_us in lateness(),
        delay_us in 0i64..10,
        cuts in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 60),
    ) {
        let q = Query { window, emit, lateness_us, delay_us };
        let cuts = Cuts { cut: &|i| cuts[i].0, save: &|i| cuts[i].1, restart: &|i| cuts[i].2 };
        agrees(&q, &rows, &cuts)?;
    }

    #[test]
    fn sessions_agree_with_the_reference(
        rows in rows(),
        gap_us in 1i64..12,
        emit in emission(),
        lateness_us in lateness(),
        delay_us in 0i64..10,
        cuts in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 60),
    ) {
        let q = Query { window: Window::Session { gap_us }, emit, lateness_us, delay_us };
        let cuts = Cuts { cut: &|i| cuts[i].0, save: &|i| cuts[i].1, restart: &|i| cuts[i].2 };
        agrees(&q, &rows, &cuts)?;
    }

    #[test]
    fn windows_of_rows_agree_with_the_reference(
        rows in rows(),
        (size, slide) in (1u64..9, 1u64..9),
        changes in any::<bool>(),
        delay_us in 0i64..10,
        cuts in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 60),
    ) {
        let emit = if changes { Emit::Changes } else { Emit::OnClose };
        let q = Query { window: Window::Count { size, slide }, emit, lateness_us: 0, delay_us };
        let cuts = Cuts { cut: &|i| cuts[i].0, save: &|i| cuts[i].1, restart: &|i| cuts[i].2 };
        agrees(&q, &rows, &cuts)?;
    }
}

/// The rows of a query over a log, in any cuts.
#[track_caller]
fn shows(q: &Query, log_text: &str, expected: &[&str]) {
    assert_eq!(trace(&plan(q), &log(log_text)).rows, expected);
}

const TUMBLE: Query = Query {
    window: Window::Hop { size_us: 10, slide_us: 10, offset_us: 0 },
    emit: Emit::OnClose,
    lateness_us: 0,
    delay_us: 0,
};

#[test]
fn keys_come_in_the_order_of_their_first_rows() {
    let rows = "1 @1 c 0 1 0\n1 @2 a 0 2 0\n1 @3 b 0 3 0\n1 @4 c 0 4 0\n1 @12 - 0 5 0";
    shows(
        &TUMBLE,
        rows,
        &[
            "0 10 c 2 5 2.5 1 4 | 4 9",
            "0 10 a 1 2 2.0 2 2 | 4 9",
            "0 10 b 1 3 3.0 3 3 | 4 9",
            "10 20 - 1 5 5.0 5 5 | 5 19",
        ],
    );
}

#[test]
fn each_late_row_that_is_allowed_gives_the_next_revision() {
    let q = Query { lateness_us: 20, ..TUMBLE };
    let rows = "1 @2 x 0 1 0\n1 @11 x 0 2 0\n1 @5 x 0 4 0\n1 @25 x 0 8 0\n1 @8 x 0 16 0\n\
                1 @31 x 0 32 0\n1 @9 x 0 64 0";
    shows(
        &q,
        rows,
        &[
            "0 10 x 1 1 1.0 1 1 0 | 1 9",
            "0 10 x 2 5 2.5 1 4 1 | 2 9",
            "10 20 x 1 2 2.0 2 2 0 | 3 19",
            "0 10 x 3 21 7.0 1 16 2 | 4 9",
            "20 30 x 1 8 8.0 8 8 0 | 5 29",
            "30 40 x 1 32 32.0 32 32 0 | 7 39",
        ],
    );
    let late = trace(&plan(&q), &log(rows)).late;
    assert_eq!(
        late,
        ["6: event time 1970-01-01 00:00:00.000009+00 is too late for the window that ended at \
          1970-01-01 00:00:00.000010+00: the watermark is 1970-01-01 00:00:00.000031+00"]
    );
}

#[test]
fn a_row_exactly_the_gap_later_still_belongs_to_the_session() {
    let q = Query { window: Window::Session { gap_us: 10 }, ..TUMBLE };
    // The other key brings the watermark to the end of the session of x before its row comes.
    let rows = "1 @0 x 0 1 0\n1 @10 y 0 2 0\n1 @10 x 0 4 0\n1 @21 y 0 8 0";
    shows(
        &q,
        rows,
        &["0 20 x 2 5 2.5 1 4 | 3 19", "10 20 y 1 2 2.0 2 2 | 3 19", "21 31 y 1 8 8.0 8 8 | 4 30"],
    );
}

#[test]
fn a_row_between_two_sessions_joins_them() {
    let q = Query { window: Window::Session { gap_us: 10 }, delay_us: 20, ..TUMBLE };
    shows(
        &q,
        "1 @0 x 0 1 0\n1 @20 x 0 2 0\n1 @10 x 0 4 0",
        &["0 30 x 3 7 2.3333333333333335 1 4 | 3 29"],
    );
}

#[test]
fn a_window_of_rows_comes_with_the_row_that_completes_it() {
    let q = Query { window: Window::Count { size: 3, slide: 2 }, ..TUMBLE };
    shows(
        &q,
        "1 @5 x 0 1 0\n1 @4 x 0 2 0\n1 @7 y 0 9 0\n1 @6 x 0 4 0\n1 @8 x 0 8 0\n1 @9 x 0 16 0",
        &["5 6 x 3 7 2.3333333333333335 1 4 | 3 7", "6 9 x 3 28 9.333333333333334 4 16 | 5 9"],
    );
}

#[test]
fn times_at_the_ends_of_the_range_have_windows() {
    let rows = format!("1 @{} x 0 1 0\n1 @0 x 0 2 0\n1 @{} x 0 4 0", i64::MIN, i64::MAX);
    let hour = 3_600_000_000;
    let windows = [
        Window::Hop { size_us: 2 * hour, slide_us: hour, offset_us: 0 },
        Window::Cumulate { size_us: 2 * hour, step_us: hour, offset_us: 7 },
        Window::Session { gap_us: hour },
    ];
    for window in windows {
        for (emit, lateness_us) in
            [(Emit::OnClose, 0), (Emit::OnClose, hour), (Emit::Changes, 0), (Emit::Every(hour), 0)]
        {
            let q = Query { window, emit, lateness_us, delay_us: hour };
            let rows = trace(&plan(&q), &log(&rows)).rows;
            let total =
                |value: &str| rows.iter().any(|row| row.contains(&format!(" x 1 {value} ")));
            assert!(["1", "2", "4"].into_iter().all(total), "{q:?}: {rows:?}");
        }
    }
}
