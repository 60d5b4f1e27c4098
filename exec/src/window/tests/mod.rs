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
    let hop = (1i64..7, 1i64..8, -20i64..20).prop_map(|(slide_us, panes, offset_us)| {
        Window::Hop { size_us: slide_us * panes, slide_us, offset_us }
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
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

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
