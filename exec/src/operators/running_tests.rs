//! Running aggregates, over logs cut in any way.

use std::sync::Arc;

use auspex_plan::nodes::StreamAggregate;
use auspex_plan::time::{Emit, Window};
use auspex_plan::{ContinuousQuery, OnError};
use datafusion::functions_aggregate::expr_fn::{
    array_agg, avg, count, first_value, last_value, max, sum,
};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, col, lit};
use proptest::prelude::*;

use crate::replay::{Cuts, LogRow, check_batching, log, trace};
use crate::testing::{query, timed};

fn running(
    keys: Vec<Expr>,
    aggregates: Vec<Expr>,
    emit: Emit,
    on_error: OnError,
) -> ContinuousQuery {
    let input = timed(1, 5).build().expect("a plan");
    let node = StreamAggregate::try_new(input, Window::Unbounded, keys, aggregates, emit, 0)
        .expect("a node");
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    query(LogicalPlanBuilder::from(plan), on_error)
}

#[test]
fn each_row_gives_the_new_row_of_its_group() {
    let query = running(
        vec![col("k")],
        vec![count(lit(1i64)), sum(col("a")), max(col("v"))],
        Emit::Changes,
        OnError::DeadLetter,
    );
    let log = log("
        1 @10 x 1 0 1.5
        1 @20 y 2 0 -
        1 @12 x 3 0 0.5
        1 @40 - 4 0 1
        1 @33 x - 0 9
        1 @30 - 5 0 2
    ");
    assert_eq!(
        trace(&query, &log).rows,
        [
            "x 1 1 1.5 | 0 10",
            "y 1 2 - | 1 20",
            // The watermark is 15, which is behind the row.
            "x 2 4 1.5 | 2 15",
            "- 1 4 1.0 | 3 40",
            "x 3 4 9.0 | 4 35",
            "- 2 9 2.0 | 5 35",
        ]
    );
}

#[test]
fn without_keys_there_is_one_group() {
    let query =
        running(vec![], vec![avg(col("v")), count(col("v"))], Emit::Changes, OnError::DeadLetter);
    let log = log("
        1 @1 x 1 0 1
        1 @2 y 2 0 -
        1 @3 y 2 0 2
    ");
    assert_eq!(trace(&query, &log).rows, ["1.0 1 | 0 1", "1.0 1 | 1 2", "1.5 2 | 2 3"]);
}

#[test]
fn a_result_out_of_range_is_refused_until_it_is_back() {
    let query = running(vec![col("k")], vec![sum(col("a"))], Emit::Changes, OnError::DeadLetter);
    let log = log("
        1 @1 x 9223372036854775807 0 1
        1 @2 x 1 0 1
        1 @3 y 7 0 1
        1 @4 x -1 0 1
    ");
    let seen = trace(&query, &log);
    let greatest = "9223372036854775807";
    let rows = [format!("x {greatest} | 0 1"), "y 7 | 2 3".into(), format!("x {greatest} | 3 4")];
    assert_eq!(seen.rows, rows);
    assert_eq!(seen.failures, ["1: value out of range in sum(a)"]);
}

#[test]
fn groups_that_changed_come_out_every_period() {
    let query = running(
        vec![col("k")],
        vec![count(lit(1i64)), first_value(col("a"), vec![]), last_value(col("a"), vec![])],
        Emit::Every(10),
        OnError::DeadLetter,
    );
    let log = log("
        1 @8 y 1 0 1
        1 @9 x 2 0 1
        1 @4 y 3 0 1
        1 @14 z 4 0 1
        1 @16 y 5 0 1
        1 @17 x 6 0 1
        1 @48 z 7 0 1
    ");
    let seen = trace(&query, &log);
    assert_eq!(
        seen.rows,
        [
            // The watermark passes 10 behind the row at 16.
            "y 3 3 5 | 4 10",
            "x 1 2 2 | 4 10",
            "z 1 4 4 | 4 10",
            // And 40 behind the row at 48.
            "x 2 2 6 | 6 40",
            "z 2 4 7 | 6 40",
        ]
    );
    assert_eq!(seen.ingested, [1004, 1004, 1004, 1006, 1006]);
}

#[test]
fn the_end_of_input_gives_the_rest() {
    let query =
        running(vec![col("k")], vec![count(lit(1i64))], Emit::Every(1000), OnError::DeadLetter);
    let log = log("
        1 @8 y 1 0 1
        1 @2 x 2 0 1
    ");
    assert_eq!(trace(&query, &log).rows, ["y 1 | 2 8", "x 1 | 2 8"]);
}

fn rows() -> impl Strategy<Value = Vec<LogRow>> {
    let row = (0i64..60, prop::sample::select(vec!["x", "y", "z", "-"]), -3i64..4, -2i64..3);
    prop::collection::vec(row, 1..30).prop_map(|rows| {
        let row = |(time, k, a, v): (i64, &str, i64, i64)| {
            let a = if a == -3 { "-".to_string() } else { a.to_string() };
            LogRow { stream: 1, time, values: format!("{k} {a} 0 {v}") }
        };
        rows.into_iter().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batching_and_restarts_do_not_show(
        log in rows(),
        cuts in prop::collection::vec(any::<(bool, bool, bool)>(), 30),
        every in prop::sample::select(vec![None, Some(7), Some(20)]),
    ) {
        let aggregates = vec![
            sum(col("a")),
            array_agg(col("a")),
            first_value(col("v"), vec![]),
            count(col("a")),
        ];
        let emit = every.map_or(Emit::Changes, Emit::Every);
        let query = running(vec![col("k")], aggregates, emit, OnError::DeadLetter);
        let cuts = Cuts { cut: &|i| cuts[i].0, save: &|i| cuts[i].1, restart: &|i| cuts[i].2 };
        check_batching(&query, &log, &cuts);
    }
}
