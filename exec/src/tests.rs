//! Graphs: every operator with rows as text, and the rule that batching never shows.

use auspex_plan::OnError;
use auspex_plan::nodes::{KeyedChanges, StreamDistinct, StreamLimit, StreamTap, TapKind};
use auspex_storage::EventBatch;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, cast, col, lit, when,
};
use proptest::prelude::*;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::operator::Output;
use crate::testing::{events, query, rows, scan, schema, stream, text};
use crate::{BuildOptions, Graph, ScanSpec, build};

/// Rows of stream 1 for most cases.
const ROWS: &str = "
    x 1 0 1.5
    y 2 1 2.5
    x 3 2 -
    - 4 0 4.5
    y - 4 5.5
    x 1 5 1.5
";

/// What a plan makes of events of its inputs (in ascending order of streams), given at once.
fn run(plan: LogicalPlanBuilder, on_error: OnError, inputs: Vec<Vec<EventBatch>>) -> Output {
    let mut graph = build(&query(plan, on_error), &BuildOptions::default()).expect("a graph");
    step(&mut graph, inputs, i64::MAX).expect("a step")
}

/// One step with whole rows, of which the graph gets the columns it reads.
fn step(graph: &mut Graph, inputs: Vec<Vec<EventBatch>>, sequence: i64) -> Result<Output> {
    let read = |(batches, spec): (Vec<EventBatch>, &ScanSpec)| {
        batches.iter().map(|batch| batch.project(&spec.columns).expect("projected")).collect()
    };
    let inputs = inputs.into_iter().zip(graph.inputs()).map(read).collect();
    graph.step(inputs, sequence)
}

fn lines(output: &Output) -> Vec<String> {
    output.batches.iter().flat_map(|batch| text(&batch.rows)).collect()
}

/// Checks the output rows of a plan over [`ROWS`].
#[track_caller]
fn check(plan: LogicalPlanBuilder, expected: &[&str]) {
    let output = run(plan, OnError::DeadLetter, vec![vec![events(ROWS, 0, 0)]]);
    assert_eq!(lines(&output), expected);
}

fn filter(condition: Expr) -> LogicalPlanBuilder {
    stream(1).filter(condition).expect("a filter")
}

fn project(exprs: Vec<Expr>) -> LogicalPlanBuilder {
    stream(1).project(exprs).expect("a projection")
}

fn extend(
    plan: LogicalPlanBuilder,
    node: impl FnOnce(LogicalPlan) -> Extension,
) -> LogicalPlanBuilder {
    let input = plan.build().expect("a plan");
    LogicalPlanBuilder::from(LogicalPlan::Extension(node(input)))
}

fn limit(plan: LogicalPlanBuilder, limit: u64, keys: Vec<Expr>) -> LogicalPlanBuilder {
    extend(plan, |input| Extension { node: Arc::new(StreamLimit { input, limit, keys }) })
}

fn distinct(plan: LogicalPlanBuilder, on: Vec<Expr>) -> LogicalPlanBuilder {
    extend(plan, |input| Extension { node: Arc::new(StreamDistinct { input, on }) })
}

fn changes(plan: LogicalPlanBuilder, key: Vec<Expr>) -> LogicalPlanBuilder {
    extend(plan, |input| Extension {
        node: Arc::new(KeyedChanges::try_new(input, key).expect("a node")),
    })
}

#[test]
fn the_first_row_of_a_key_is_an_insert_and_the_others_are_updates() {
    let (k, a) = (col("k"), col("a"));
    let plan = || project(vec![col("k"), col("a")]);
    check(changes(plan(), vec![k]), &["x 1 I", "y 2 I", "x 3 U", "- 4 I", "y - U", "x 1 U"]);
    check(changes(plan(), vec![]), &["x 1 I", "y 2 U", "x 3 U", "- 4 U", "y - U", "x 1 U"]);
    check(
        changes(plan(), vec![lit(6i64) / (a - lit(2i64))]),
        &["x 1 I", "x 3 I", "- 4 I", "y - I", "x 1 U"],
    );
}

#[test]
fn filter_keeps_rows_whose_condition_is_true() {
    check(filter(col("v").gt(lit(2.0))), &["y 2 1 2.5", "- 4 0 4.5", "y - 4 5.5"]);
    check(filter(col("k").eq(lit("x"))), &["x 1 0 1.5", "x 3 2 -", "x 1 5 1.5"]);
    check(filter(lit(2i64).lt_eq(col("a"))), &["y 2 1 2.5", "x 3 2 -", "- 4 0 4.5"]);
    check(filter(lit(false)), &[]);
    check(filter(col("v").is_null().or(col("k").is_null())), &["x 3 2 -", "- 4 0 4.5"]);
}

#[test]
fn projection_computes_columns() {
    check(
        filter(col("a").eq(lit(1i64)))
            .project(vec![
                col("k"),
                (col("a") + col("b")).alias("c"),
                (col("v") * col("b")).alias("d"),
            ])
            .expect("a projection"),
        &["x 1 0.0", "x 6 7.5"],
    );
    check(project(vec![lit(7i64).alias("c")]), &["7"; 6]);
}

#[test]
fn coalesce_and_case_run() {
    let coalesced = datafusion::functions::core::expr_fn::coalesce(vec![col("k"), lit("?")]);
    let case = when(col("a").gt(lit(2i64)), lit("big")).otherwise(lit("small")).expect("a case");
    check(
        project(vec![coalesced.alias("c"), case.alias("d")]),
        &["x small", "y small", "x big", "? big", "y small", "x small"],
    );
}

#[test]
fn system_columns_can_be_read() {
    let plan = scan(1, &schema(), true)
        .filter(col("_offset").gt_eq(lit(14i64)))
        .expect("a filter")
        .project(vec![col("_offset"), col("_time"), col("a")])
        .expect("a projection");
    let output = run(plan, OnError::DeadLetter, vec![vec![events(ROWS, 10, 0)]]);
    assert_eq!(
        lines(&output),
        ["14 1970-01-01T00:00:00.000004Z -", "15 1970-01-01T00:00:00.000005Z 1"]
    );
}

#[test]
fn limit_counts_over_the_stream_or_per_key() {
    check(limit(stream(1), 2, vec![]), &["x 1 0 1.5", "y 2 1 2.5"]);
    check(limit(stream(1), 0, vec![]), &[]);
    check(limit(stream(1), 1, vec![col("k")]), &["x 1 0 1.5", "y 2 1 2.5", "- 4 0 4.5"]);
}

#[test]
fn distinct_keeps_the_first_row_of_each_value() {
    check(
        distinct(stream(1), vec![col("k"), col("a")]),
        &["x 1 0 1.5", "y 2 1 2.5", "x 3 2 -", "- 4 0 4.5", "y - 4 5.5"],
    );
    let twice = || events("x 1 1 1\nx 1 1 1\nx 1 1 -\nx 1 1 -", 0, 0);
    let output = run(distinct(stream(1), vec![]), OnError::DeadLetter, vec![vec![twice()]]);
    assert_eq!(lines(&output), ["x 1 1 1.0", "x 1 1 -"]);
    check(
        stream(1).project(vec![col("k")]).expect("a projection").distinct().expect("distinct"),
        &["x", "y", "-"],
    );
}

#[test]
fn both_zeros_are_one_value() {
    let input = events("x 1 1 0.0\nx 2 1 -0.0\nx 3 1 1", 0, 0);
    let output = run(distinct(stream(1), vec![col("v")]), OnError::DeadLetter, vec![vec![input]]);
    assert_eq!(lines(&output), ["x 1 1 0.0", "x 3 1 1.0"]);
}

#[test]
fn union_merges_by_place_then_branch() {
    let plan = stream(1).union(stream(2).build().expect("a plan")).expect("a union");
    let first = vec![events("a 1 1 1\nb 1 1 1", 0, 0), events("c 1 1 1", 2, 5)];
    let second = vec![events("d 2 1 1\ne 2 1 1\nf 2 1 1", 0, 1)];
    let output = run(plan, OnError::DeadLetter, vec![first, second]);
    let places: Vec<i64> = output
        .batches
        .iter()
        .flat_map(|b| (0..b.len()).map(|i| b.sequence.get(i)).collect::<Vec<_>>())
        .collect();
    assert_eq!(
        lines(&output),
        ["a 1 1 1.0", "b 1 1 1.0", "d 2 1 1.0", "e 2 1 1.0", "f 2 1 1.0", "c 1 1 1.0"]
    );
    assert_eq!(places, [0, 1, 1, 2, 3, 5]);
}

#[test]
fn a_stream_read_twice_keeps_source_order() {
    let big = filter(col("a").gt(lit(1i64))).project(vec![lit("big").alias("t"), col("a")]);
    let all = project(vec![lit("all").alias("t"), col("a")]).build().expect("a plan");
    let plan = big.expect("a projection").union(all).expect("a union");
    check(plan, &["all 1", "big 2", "all 2", "big 3", "all 3", "big 4", "all 4", "all -", "all 1"]);
}

#[test]
fn taps_write_values_or_the_whole_row() {
    let tap = |values: Vec<Expr>| {
        let plan = extend(filter(col("a").eq(lit(1i64))), |input| Extension {
            node: Arc::new(StreamTap { input, kind: TapKind::Print, values }),
        });
        let output = run(plan, OnError::DeadLetter, vec![vec![events(ROWS, 0, 0)]]);
        assert_eq!(lines(&output), ["x 1 0 1.5", "x 1 5 1.5"]);
        output.taps.into_iter().map(|tap| tap.text).collect::<Vec<_>>()
    };
    assert_eq!(tap(vec![col("k"), lit(10i64) / col("b")]), ["x null", "x 2"]);
    assert_eq!(tap(vec![])[0], r#"{"k":"x","a":1,"b":0,"v":1.5}"#);
}

/// Checks rows and the reasons of dead letters under one policy.
#[track_caller]
fn check_errors(exprs: Vec<Expr>, on_error: OnError, expected: &[&str], reasons: &[&str]) {
    let output = run(project(exprs), on_error, vec![vec![events(ROWS, 0, 0)]]);
    assert_eq!(lines(&output), expected);
    let found: Vec<String> = output
        .dead_letters
        .iter()
        .map(|failure| format!("{}: {}", failure.offset, failure.reason))
        .collect();
    assert_eq!(found, reasons);
}

#[test]
fn failing_rows_follow_the_policy() {
    let quotient = || vec![col("a"), (lit(10i64) / col("b")).alias("q")];
    let good = ["2 10", "3 5", "- 2", "1 2"];
    check_errors(
        quotient(),
        OnError::DeadLetter,
        &good,
        &["0: division by zero in 10 / s1.b", "3: division by zero in 10 / s1.b"],
    );
    check_errors(quotient(), OnError::Skip, &good, &[]);
    check_errors(quotient(), OnError::Null, &["1 -", "2 10", "3 5", "4 -", "- 2", "1 2"], &[]);
    let skipped = run(project(quotient()), OnError::Skip, vec![vec![events(ROWS, 0, 0)]]);
    assert_eq!((skipped.skipped, skipped.nulled), (2, 0));
    let nulled = run(project(quotient()), OnError::Null, vec![vec![events(ROWS, 0, 0)]]);
    assert_eq!((nulled.skipped, nulled.nulled), (0, 2));
}

#[test]
fn a_failing_row_stops_the_query_under_stop() {
    let plan = project(vec![(lit(10i64) / (col("b") - lit(2i64))).alias("q")]);
    let mut graph = build(&query(plan, OnError::Stop), &BuildOptions::default()).expect("a graph");
    let error = step(&mut graph, vec![vec![events(ROWS, 7, 20)]], 100);
    match error {
        Err(ExecError::Row(row)) => assert_eq!((row.stream, row.offset, row.sequence), (1, 9, 22)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn arithmetic_never_wraps_or_gives_infinity() {
    let input = || events("x 9223372036854775807 1 1\ny -9223372036854775808 -1 0.0", 0, 0);
    let failing = |expr: Expr| {
        let output = run(project(vec![expr.alias("e")]), OnError::DeadLetter, vec![vec![input()]]);
        output.dead_letters.iter().map(|f| f.offset).collect::<Vec<_>>()
    };
    assert_eq!(failing(col("a") + lit(1i64)), [0]);
    assert_eq!(failing(col("a") - lit(1i64)), [1]);
    assert_eq!(failing(col("a") * lit(2i64)), [0, 1]);
    assert_eq!(failing(Expr::Negative(Box::new(col("a")))), [1]);
    assert_eq!(failing(col("a") / col("b")), [1]);
    assert_eq!(failing(lit(1.0) / col("v")), [1]);
    assert_eq!(failing(cast(col("a"), arrow::datatypes::DataType::Int32)), [0, 1]);
    // Folding constants does not wrap either.
    assert_eq!(failing(lit(i64::MAX) + lit(1i64)), [0, 1]);
    assert_eq!(failing(lit(1.0) / lit(0.0)), [0, 1]);
    assert_eq!(failing(col("a") * lit(1i64)), [0u64; 0]);
}

#[test]
fn a_guard_protects_what_follows_it() {
    let guarded = col("b").not_eq(lit(0i64)).and((lit(10i64) / col("b")).gt(lit(2i64)));
    check(filter(guarded), &["y 2 1 2.5", "x 3 2 -"]);
    let either = col("b").eq(lit(0i64)).or((lit(10i64) / col("b")).gt(lit(9i64)));
    check(filter(either), &["x 1 0 1.5", "y 2 1 2.5", "- 4 0 4.5"]);
    // Also across two conditions, the first of which comes first.
    let chain = filter(col("b").not_eq(lit(0i64)))
        .filter((lit(10i64) / col("b")).gt(lit(2i64)))
        .expect("a filter");
    let output = run(chain, OnError::DeadLetter, vec![vec![events(ROWS, 0, 0)]]);
    assert_eq!((lines(&output).len(), output.dead_letters.len()), (2, 0));
}

#[test]
fn under_null_the_failing_operation_is_null() {
    let check = |condition: Expr, expected: &[&str]| {
        let output = run(filter(condition), OnError::Null, vec![vec![events(ROWS, 0, 0)]]);
        let ks: Vec<String> = lines(&output).iter().map(|l| l[..3].to_string()).collect();
        assert_eq!(ks, expected);
    };
    let quotient = || lit(10i64) / col("b");
    check(quotient().gt(lit(2i64)), &["y 2", "x 3"]);
    check(quotient().is_null(), &["x 1", "- 4"]);
    check(quotient().gt(lit(2i64)).or(col("a").eq(lit(4i64))), &["y 2", "x 3", "- 4"]);
}

#[test]
fn undetermined_functions_are_refused() {
    let plan = project(vec![datafusion::functions::math::expr_fn::random().alias("r")]);
    match build(&query(plan, OnError::Null), &BuildOptions::default()) {
        Err(ExecError::Unsupported(what)) => assert!(what.contains("random()"), "{what}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn what_cannot_run_is_named() {
    let sorted = stream(1).sort(vec![col("a").sort(true, true)]).expect("a plan");
    match build(&query(sorted, OnError::Null), &BuildOptions::default()) {
        Err(ExecError::Unsupported(what)) => assert_eq!(what, "ORDER BY"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

/// A plan with every operator, over streams 1 and 2 and one of them twice.
fn everything() -> LogicalPlanBuilder {
    let left = filter(col("b").not_eq(lit(1i64)))
        .project(vec![col("k"), (col("a") / col("b")).alias("x"), col("v")])
        .expect("a projection");
    let right = stream(2)
        .project(vec![col("k"), (col("a") * lit(4i64)).alias("x"), col("v")])
        .expect("a projection")
        .build()
        .expect("a plan");
    let again = project(vec![col("k"), col("b").alias("x"), (col("v") / col("b")).alias("v")])
        .build()
        .expect("a plan");
    let union = left.union(right).expect("a union").union(again).expect("a union");
    limit(distinct(union, vec![col("k"), col("x")]), 6, vec![col("k")])
}

fn random_rows() -> impl Strategy<Value = Vec<String>> {
    let row =
        ("[xyz]", 0i64..4, 0i64..3, 0u8..3).prop_map(|(k, a, b, v)| format!("{k} {a} {b} {v}.5"));
    proptest::collection::vec(row, 1..40)
}

/// Everything observable of an output, row by row.
fn trace(output: &[Output]) -> (Vec<String>, Vec<String>) {
    let rows = output.iter().flat_map(|o| &o.batches).flat_map(|batch: &Batch| {
        let lines = text(&batch.rows);
        lines
            .into_iter()
            .enumerate()
            .map(|(i, line)| {
                let (s, o, t) = (batch.stream.get(i), batch.offset.get(i), batch.time.get(i));
                format!("{line} | {} {s} {o} {t}", batch.sequence.get(i))
            })
            .collect::<Vec<_>>()
    });
    let mut failures: Vec<String> = output
        .iter()
        .flat_map(|o| &o.dead_letters)
        .map(|f| format!("{} {} {} {}", f.sequence, f.stream, f.offset, f.reason))
        .collect();
    // Within a step they come operator by operator.
    failures.sort();
    (rows.collect(), failures)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same log cut in any way, with the state saved and restored at any cut, gives the same
    /// rows, places, times and dead letters as row by row.
    #[test]
    fn batching_and_restoring_never_show(
        log in random_rows(),
        streams in proptest::collection::vec(1usize..=2, 40),
        cuts in proptest::collection::vec(any::<bool>(), 40),
        restores in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let execute = |cut: &dyn Fn(usize) -> bool, restore: &dyn Fn(usize) -> bool| {
            let plan = query(everything(), OnError::DeadLetter);
            let mut graph = build(&plan, &BuildOptions::default()).expect("a graph");
            let mut outputs = Vec::new();
            let mut waiting: Vec<Vec<EventBatch>> = vec![vec![], vec![]];
            let mut offsets = [0u64; 2];
            let mut state = std::collections::BTreeMap::new();
            for (place, line) in log.iter().enumerate() {
                let input = streams[place] - 1;
                waiting[input].push(events(line, offsets[input], place as i64));
                offsets[input] += 1;
                if cut(place) || place + 1 == log.len() {
                    let inputs = std::mem::replace(&mut waiting, vec![vec![], vec![]]);
                    outputs.push(step(&mut graph, inputs, place as i64 + 1).expect("a step"));
                    for (key, value) in graph.checkpoint().expect("a checkpoint") {
                        state.insert(key, value.expect("nothing is removed"));
                    }
                    if restore(place) {
                        graph = build(&plan, &BuildOptions::default()).expect("a graph");
                        let entries: Vec<_> = state.clone().into_iter().collect();
                        graph.restore(&entries).expect("restored");
                    }
                }
            }
            trace(&outputs)
        };
        let by_row = execute(&|_| true, &|_| false);
        prop_assert_eq!(&execute(&|_| false, &|_| false), &by_row);
        prop_assert_eq!(&execute(&|i| cuts[i], &|i| restores[i]), &by_row);
    }

    /// Filter and projection against a row-at-a-time reference.
    #[test]
    fn select_agrees_with_a_plain_loop(log in random_rows(), bound in 0i64..4) {
        let plan = filter(col("a").gt_eq(lit(bound)))
            .project(vec![col("k"), (col("a") % col("b")).alias("m")])
            .expect("a projection");
        let joined = log.join("\n");
        let output = run(plan, OnError::DeadLetter, vec![vec![events(&joined, 0, 0)]]);
        let mut expected = Vec::new();
        let mut failing = Vec::new();
        for (i, line) in log.iter().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let (a, b): (i64, i64) = (words[1].parse().expect("a"), words[2].parse().expect("b"));
            if a >= bound {
                match a.checked_rem(b) {
                    Some(m) => expected.push(format!("{} {m}", words[0])),
                    None => failing.push(i as u64),
                }
            }
        }
        prop_assert_eq!(lines(&output), expected);
        prop_assert_eq!(output.dead_letters.iter().map(|f| f.offset).collect::<Vec<_>>(), failing);
    }
}

#[test]
fn comparison_kernels_cover_every_length_and_nulls() {
    for len in [0usize, 1, 7, 63, 64, 65, 130] {
        let text: Vec<String> = (0..len)
            .map(
                |i| if i % 11 == 3 { "x 1 1 -".into() } else { format!("x {} 1 {}", i % 5, i % 7) },
            )
            .collect();
        let input = rows(&text.join("\n"));
        let expected = (0..len).filter(|i| i % 11 != 3 && i % 7 > 3).count();
        let events = EventBatch { rows: input, ..events("", 0, 0) };
        let output = run(filter(col("v").gt(lit(3i64))), OnError::Stop, vec![vec![events]]);
        assert_eq!(lines(&output).len(), expected, "{len} rows");
    }
}
