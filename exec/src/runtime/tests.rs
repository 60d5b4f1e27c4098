//! Queries over an in-memory store: chains, merges, restarts, policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use auspex_plan::{Clock, ContinuousQuery, OnError, StreamRelation, Window};
use auspex_storage::{
    Append, Durability, MemStore, ReadLimit, Run, SharedStore, StreamConfig, Transaction,
};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Extension, LogicalPlan, LogicalPlanBuilder, Volatility, col, create_udf, lit,
};
use futures::executor::block_on;

use super::*;
use crate::testing::{all, extend, query, rows, schema, stream, text};
use auspex_plan::nodes::{StreamDistinct, StreamLimit, WindowRows};

/// Source streams 1 and 2, derived streams 10 to 13.
struct World {
    store: SharedStore,
}

impl World {
    fn new() -> World {
        let store: SharedStore = Arc::new(MemStore::new());
        for id in [1, 2, 10, 11, 12, 13] {
            store.open_stream(config(id, None)).expect("opened");
        }
        World { store }
    }

    /// Appends lines to a source stream; the event time of each is its first `a`.
    fn insert(&self, stream: u32, lines: &str) {
        let rows = rows(lines);
        let time = rows.column(1).as_primitive::<Int64Type>().values().clone();
        let append =
            Append { stream, rows, time: Some(Run::Each(time)), derived: None, at_offset: None };
        let transaction = Transaction { appends: vec![append], ..Transaction::default() };
        self.store.submit(transaction, Durability::Synced).wait().expect("appended");
    }

    fn runtime(&self, batch_rows: usize, workers: usize) -> Runtime {
        let options = RuntimeOptions {
            workers,
            batch_rows,
            batches_per_turn: 2,
            commit_rows: 5,
            ..RuntimeOptions::default()
        };
        Runtime::new(Arc::clone(&self.store), options).expect("a runtime")
    }

    /// Rows of a stream as `place time: values`, in order of their offsets from 0 on.
    fn rows(&self, stream: u32) -> Vec<String> {
        let limit = ReadLimit { rows: usize::MAX, until: u64::MAX };
        let batches = self.store.read(stream, 0, limit, None).expect("read");
        batches
            .iter()
            .flat_map(|batch| {
                let lines = text(&batch.rows).into_iter().enumerate();
                lines.map(|(i, line)| {
                    format!("{} {}: {line}", batch.sequence.get(i), batch.time.get(i))
                })
            })
            .collect()
    }
}

fn config(id: u32, retention_bytes: Option<u64>) -> StreamConfig {
    StreamConfig {
        id,
        schema: schema(),
        derived: id >= 10,
        retention_age_us: None,
        retention_bytes,
    }
}

fn spec(id: u32, plan: ContinuousQuery) -> QuerySpec {
    QuerySpec {
        id,
        generation: 0,
        plan,
        start: BTreeMap::new(),
        paused: false,
        table: None,
        max_state_bytes: None,
    }
}

/// `select k, a, a / b, v from s1 where v > 0`
fn quotients(on_error: OnError) -> ContinuousQuery {
    let plan = stream(1)
        .filter(col("v").gt(lit(0.0)))
        .expect("a filter")
        .project(vec![col("k"), col("a"), (col("a") / col("b")).alias("b"), col("v")])
        .expect("a projection");
    query(plan, on_error)
}

/// A chain, a union, a stream that comes to the union on two ways, distinct and limit.
fn pipeline() -> Vec<QuerySpec> {
    let union = stream(10)
        .union(stream(2).build().expect("a plan"))
        .expect("a union")
        .union(stream(1).filter(col("a").gt(lit(4i64))).expect("a filter").build().expect("a plan"))
        .expect("a union");
    let distinct = LogicalPlan::Extension(Extension {
        node: Arc::new(StreamDistinct {
            input: stream(11).build().expect("a plan"),
            on: vec![col("k"), col("a")],
        }),
    });
    let limit = LogicalPlan::Extension(Extension {
        node: Arc::new(StreamLimit { input: distinct, limit: 3, keys: vec![col("k")] }),
    });
    vec![
        spec(10, quotients(OnError::DeadLetter)),
        spec(11, query(union, OnError::DeadLetter)),
        spec(12, query(LogicalPlanBuilder::from(limit), OnError::DeadLetter)),
    ]
}

/// What is inserted, in turns between which the queries may or may not run.
fn turns() -> Vec<(u32, String)> {
    (0..24u32)
        .map(|turn| {
            let lines: Vec<String> = (0..turn % 5)
                .map(|i| {
                    let n = turn * 5 + i;
                    let k = ["x", "y", "z"][(n % 3) as usize];
                    format!(
                        "{k} {} {} {}.5",
                        n % 9,
                        n % 4,
                        i32::try_from(n % 7).expect("small") - 1
                    )
                })
                .collect();
            (1 + turn % 2, lines.join("\n"))
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Restart {
    Never,
    /// As after a kill: what is not committed is forgotten.
    EachTurn,
    /// In an orderly way, positions saved.
    EachInsert,
}

fn outcome(batch_rows: usize, workers: usize, restart: Restart) -> Vec<Vec<String>> {
    let world = World::new();
    let begin = || {
        let runtime = world.runtime(batch_rows, workers);
        pipeline().into_iter().for_each(|spec| runtime.start(spec).expect("started"));
        runtime
    };
    let mut runtime = begin();
    for (turn, (stream, lines)) in turns().into_iter().enumerate() {
        if !lines.is_empty() {
            world.insert(stream, &lines);
        }
        match restart {
            Restart::Never if turn % 3 == 0 => runtime.run_until_idle().expect("ran"),
            Restart::Never => {}
            Restart::EachTurn => {
                runtime.run_once().expect("ran");
                drop(runtime);
                runtime = begin();
            }
            Restart::EachInsert => {
                runtime.run_until_idle().expect("ran");
                block_on(runtime.shutdown()).expect("shut down");
                runtime = begin();
            }
        }
    }
    runtime.run_until_idle().expect("ran");
    let letters: Vec<String> = dead_letters(world.store.as_ref(), 10, 0)
        .expect("dead letters")
        .into_iter()
        .map(|letter| format!("{letter:?}"))
        .collect();
    let counters = runtime
        .queries()
        .into_iter()
        .map(|id| format!("{:?}", runtime.status(id).expect("a status").counters));
    let counters = counters.collect();
    block_on(runtime.shutdown()).expect("shut down");
    vec![world.rows(10), world.rows(11), world.rows(12), letters, counters]
}

#[test]
fn rows_and_offsets_do_not_depend_on_batches_workers_or_restarts() {
    let expected = outcome(8192, 0, Restart::Never);
    assert_eq!(expected.iter().map(Vec::len).collect::<Vec<_>>(), [12, 44, 9, 6, 3]);
    for batch_rows in [1, 3, 8192] {
        for workers in [0, 1, 3] {
            assert_eq!(outcome(batch_rows, workers, Restart::Never), expected);
            assert_eq!(outcome(batch_rows, workers, Restart::EachInsert), expected);
        }
        assert_eq!(outcome(batch_rows, 0, Restart::EachTurn), expected);
    }
}

#[test]
fn a_derived_row_has_the_place_and_time_of_its_trigger() {
    let world = World::new();
    world.insert(2, "x 1 1 1");
    world.insert(1, "x 5 1 1\ny 6 2 0\nz 7 2 1");
    let runtime = world.runtime(8192, 0);
    runtime.start(spec(10, quotients(OnError::DeadLetter))).expect("started");
    runtime.run_until_idle().expect("ran");
    assert_eq!(world.rows(10), ["1 5: x 5 5 1.0", "3 7: z 7 3 1.0"]);
    assert_eq!(world.store.head(10).expect("a head").complete, 4);
    let status = runtime.status(10).expect("a status");
    assert_eq!((status.counters.rows_in, status.counters.rows_out, status.lag), (3, 2, 0));
    assert_eq!(status.position, BTreeMap::from([(1, 3)]));
}

#[test]
fn a_query_begins_at_its_start_offset() {
    let world = World::new();
    world.insert(1, "x 5 1 1\ny 6 2 1\nz 7 2 1");
    let runtime = world.runtime(8192, 0);
    let start = BTreeMap::from([(1, 2)]);
    runtime
        .start(QuerySpec { start, ..spec(10, quotients(OnError::DeadLetter)) })
        .expect("started");
    runtime.run_until_idle().expect("ran");
    assert_eq!(world.rows(10), ["2 7: z 7 3 1.0"]);
}

#[test]
fn dead_letters_hold_the_row_and_the_reason() {
    let world = World::new();
    world.insert(1, "x 5 1 1\ny 6 0 2.5\nz 7 2 1");
    let runtime = world.runtime(8192, 0);
    runtime.start(spec(10, quotients(OnError::DeadLetter))).expect("started");
    runtime.run_until_idle().expect("ran");
    let letters = dead_letters(world.store.as_ref(), 10, 0).expect("dead letters");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].stream, letters[0].offset, letters[0].sequence), (1, 1, 1));
    assert_eq!(letters[0].reason, "division by zero in s1.a / s1.b");
    assert_eq!(letters[0].row.to_string(), r#"{"k":"y","a":6,"b":0,"v":2.5}"#);
    assert_eq!(world.rows(10).len(), 2);
}

#[test]
fn only_the_newest_dead_letters_are_kept_but_all_are_counted() {
    let world = World::new();
    let options = RuntimeOptions {
        workers: 0,
        batch_rows: 4,
        dead_letters_kept: 3,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(Arc::clone(&world.store), options).expect("a runtime");
    runtime.start(spec(10, quotients(OnError::DeadLetter))).expect("started");
    for turn in 0..4 {
        world.insert(1, &format!("x {turn} 0 1\n").repeat(turn + 1));
        runtime.run_until_idle().expect("ran");
        let kept = dead_letters(world.store.as_ref(), 10, 0).expect("dead letters");
        assert_eq!(kept.len(), [1, 3, 3, 3][turn]);
    }
    let kept = dead_letters(world.store.as_ref(), 10, 0).expect("dead letters");
    assert_eq!(kept.iter().map(|letter| letter.number).collect::<Vec<_>>(), [7, 8, 9]);
    assert_eq!(runtime.status(10).expect("a status").counters.dead_letters, 10);
}

#[test]
fn stop_halts_before_the_failing_row_and_goes_on_from_it() {
    for batch_rows in [1, 2, 8192] {
        let world = World::new();
        world.insert(1, "a 1 1 1\nb 2 1 1\nc 3 0 1\nd 4 1 1\ne 5 0 1");
        let runtime = world.runtime(batch_rows, 0);
        runtime.start(spec(10, quotients(OnError::Stop))).expect("started");
        let reason = "row 2 of stream 1: division by zero in s1.a / s1.b";
        for _ in 0..2 {
            runtime.run_until_idle().expect("ran");
            let status = runtime.status(10).expect("a status");
            assert_eq!(status.state, QueryState::Failed(reason.into()));
            assert_eq!(status.position, BTreeMap::from([(1, 2)]));
            assert_eq!(status.lag, 3);
            assert_eq!(world.rows(10), ["0 1: a 1 1 1.0", "1 2: b 2 2 1.0"]);
            // Resuming tries the same row again.
            block_on(runtime.resume(10)).expect("resumed");
        }
        drop(runtime);
        // With another policy the same position goes on.
        let runtime = world.runtime(batch_rows, 0);
        runtime.start(spec(10, quotients(OnError::Skip))).expect("started");
        runtime.run_until_idle().expect("ran");
        assert_eq!(world.rows(10)[2..], ["3 4: d 4 4 1.0"]);
        assert_eq!(runtime.status(10).expect("a status").counters.skipped, 2);
    }
}

#[test]
fn a_paused_query_stands_still_until_resumed() {
    for workers in [0, 2] {
        let world = World::new();
        let runtime = world.runtime(8192, workers);
        runtime.start(spec(10, quotients(OnError::Skip))).expect("started");
        world.insert(1, "x 1 1 1");
        runtime.run_until_idle().expect("ran");
        block_on(runtime.pause(10)).expect("paused");
        world.insert(1, "y 2 1 1");
        assert_eq!(block_on(runtime.wait_complete(10, 2)).expect("waited"), Waited::Stalled(10));
        runtime.run_until_idle().expect("ran");
        assert_eq!(world.rows(10).len(), 1);
        assert_eq!(runtime.status(10).expect("a status").lag, 1);
        block_on(runtime.resume(10)).expect("resumed");
        runtime.run_until_idle().expect("ran");
        assert_eq!(world.rows(10).len(), 2);
        assert_eq!(block_on(runtime.wait_complete(10, 2)).expect("waited"), Waited::Complete);
    }
}

#[test]
fn waiting_ends_when_a_query_on_the_way_stands_still() {
    let world = World::new();
    let runtime = world.runtime(8192, 1);
    runtime
        .start(QuerySpec { paused: true, ..spec(10, quotients(OnError::Skip)) })
        .expect("started");
    runtime.start(spec(11, query(stream(10), OnError::Skip))).expect("started");
    world.insert(1, "y 2 1 1");
    assert_eq!(block_on(runtime.wait_complete(11, 1)).expect("waited"), Waited::Stalled(10));
    // A source stream is always complete.
    assert_eq!(block_on(runtime.wait_complete(1, 1)).expect("waited"), Waited::Complete);
}

#[test]
fn rows_removed_before_they_were_read_fail_the_query_and_are_counted_when_it_resumes() {
    let world = World::new();
    let runtime = world.runtime(8192, 0);
    runtime
        .start(QuerySpec { paused: true, ..spec(10, quotients(OnError::Skip)) })
        .expect("started");
    world.insert(1, "x 1 1 1\ny 2 1 1");
    world.insert(1, "z 3 1 1");
    world.store.open_stream(config(1, Some(1))).expect("opened");
    world.store.sweep(0).expect("swept");
    assert_eq!(world.store.head(1).expect("a head").oldest, 2);
    block_on(runtime.resume(10)).expect("resumed");
    runtime.run_until_idle().expect("ran");
    assert_eq!(
        runtime.status(10).expect("a status").state,
        QueryState::Failed("offset 0 is no longer retained (oldest 2)".into())
    );
    block_on(runtime.resume(10)).expect("resumed");
    runtime.run_until_idle().expect("ran");
    let status = runtime.status(10).expect("a status");
    assert_eq!((status.state, status.counters.lost), (QueryState::Running, 2));
    assert_eq!(world.rows(10), ["2 3: z 3 3 1.0"]);
}

#[test]
fn what_gives_no_output_advances_without_a_transaction_until_flushed() {
    let world = World::new();
    let options = RuntimeOptions { workers: 0, ..RuntimeOptions::default() };
    let runtime = Runtime::new(Arc::clone(&world.store), options).expect("a runtime");
    let nothing = stream(1).filter(col("v").gt(lit(1000.0))).expect("a filter");
    runtime.start(spec(10, query(nothing, OnError::Skip))).expect("started");
    let saved = || {
        let key = position::StateKeys::new(10, 0).position();
        let bytes = world.store.state_get(&key).expect("read").expect("a position");
        position::Position::decode(&bytes).expect("decoded").inputs[&1]
    };
    world.insert(1, "x 1 1 1\ny 2 1 1");
    runtime.run_until_idle().expect("ran");
    assert_eq!(world.store.head(10).expect("a head").complete, 2);
    assert_eq!(saved(), 0);
    block_on(runtime.flush()).expect("flushed");
    assert_eq!(saved(), 2);
}

#[test]
fn a_panic_stops_only_its_query() {
    let world = World::new();
    let bomb = create_udf(
        "bomb",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(|args: &[ColumnarValue]| -> Result<ColumnarValue, DataFusionError> {
            let array: ArrayRef = args[0].to_array(1)?;
            let values = array.as_primitive::<Int64Type>();
            assert!(values.iter().all(|v| v != Some(13)), "thirteen");
            Ok(ColumnarValue::Array(Arc::new(values.iter().collect::<Int64Array>())))
        }),
    );
    let mut columns = all();
    columns[1] = bomb.call(vec![col("a")]).alias("a");
    let dangerous = query(stream(1).project(columns).expect("a projection"), OnError::Skip);
    let runtime = world.runtime(1, 2);
    runtime.start(spec(10, dangerous)).expect("started");
    runtime.start(spec(11, query(stream(1), OnError::Skip))).expect("started");
    world.insert(1, "x 12 1 1\ny 13 1 1\nz 14 1 1");
    runtime.run_until_idle().expect("ran");
    match runtime.status(10).expect("a status").state {
        QueryState::Failed(reason) => assert!(reason.contains("thirteen"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.rows(11).len(), 3);
}

#[test]
fn too_much_state_stops_the_query_with_a_clear_reason() {
    let world = World::new();
    let options = RuntimeOptions { workers: 0, max_state_bytes: 200, ..RuntimeOptions::default() };
    let runtime = Runtime::new(Arc::clone(&world.store), options).expect("a runtime");
    let plan = stream(1).distinct().expect("distinct");
    runtime.start(spec(10, query(plan, OnError::Skip))).expect("started");
    runtime.start(spec(11, query(stream(1), OnError::Skip))).expect("started");
    world.insert(1, "x 1 1 1\nx 2 1 1\nx 3 1 1\nx 4 1 1\nx 5 1 1");
    runtime.run_until_idle().expect("ran");
    let state = |id| runtime.status(id).expect("a status").state;
    let QueryState::Failed(reason) = state(10) else { panic!("it runs") };
    assert!(reason.contains("more than max_state_bytes = 200;"), "{reason}");
    world.insert(1, "x 1 1 1\nx 6 1 1");
    runtime.run_until_idle().expect("ran");
    assert_eq!((state(11), world.rows(11).len()), (QueryState::Running, 7));
    assert_eq!(world.rows(10).len(), 5);
    block_on(runtime.resume(10)).expect("resumed");
    runtime.run_until_idle().expect("ran");
    assert!(matches!(state(10), QueryState::Failed(_)));
    runtime.limit_state(10, Some(10_000)).expect("changed");
    block_on(runtime.resume(10)).expect("resumed");
    runtime.run_until_idle().expect("ran");
    assert_eq!((state(10), world.rows(10).len()), (QueryState::Running, 6));
}

/// Keeps the rows of even `a` by `k`; other rows do not fit.
#[derive(Debug)]
struct EvenByKey;

impl TableWriter for EvenByKey {
    fn write(&self, rows: &RecordBatch, known: usize) -> Result<TableOutput> {
        let mut output = TableOutput::default();
        let (keys, numbers) = (rows.column(0), rows.column(1).as_primitive::<Int64Type>());
        for row in 0..rows.num_rows() {
            let key = keys.as_string_view().value(row).as_bytes().to_vec();
            let number = numbers.value(row);
            if number % 2 == 1 {
                output.refused.push((row, format!("{number} is odd")));
            } else if row >= known {
                let value = Some(vec![number as u8]);
                output.changes.push(TableChange { table: 10, key, value });
            }
        }
        Ok(output)
    }
}

#[test]
fn a_table_follows_the_output_and_rows_that_do_not_fit_are_dead_letters() {
    let world = World::new();
    let table = || -> Vec<(String, u8)> {
        let rows = world.store.table_scan(10).expect("a table");
        let text = |key| String::from_utf8(key).expect("text");
        rows.map(|row| row.map(|(key, value)| (text(key), value[0])).expect("a row")).collect()
    };
    let start = |runtime: &Runtime, on_error| {
        let plan = query(stream(1), on_error);
        let with_table = QuerySpec { table: Some(Arc::new(EvenByKey)), ..spec(10, plan) };
        runtime.start(with_table).expect("started");
        runtime.run_until_idle().expect("ran");
    };
    world.insert(1, "x 2 1 1\ny 3 1 1\ny 4 1 1");
    let runtime = world.runtime(1, 1);
    start(&runtime, OnError::DeadLetter);
    world.insert(1, "x 6 1 1\ny 5 1 1");
    runtime.run_until_idle().expect("ran");
    assert_eq!(table(), [("x".to_string(), 6), ("y".to_string(), 4)]);
    assert_eq!(world.rows(10).len(), 5);
    let letters = dead_letters(world.store.as_ref(), 10, 0).expect("letters");
    let reasons: Vec<_> = letters.iter().map(|l| (l.offset, l.reason.as_str())).collect();
    assert_eq!(reasons, [(1, "3 is odd"), (4, "5 is odd")]);
    block_on(runtime.stop(10)).expect("stopped");
    start(&runtime, OnError::Stop);
    world.insert(1, "x 8 1 1\ny 7 1 1");
    runtime.run_until_idle().expect("ran");
    let QueryState::Failed(reason) = runtime.status(10).expect("a status").state else {
        panic!("it runs")
    };
    assert!(reason.contains("7 is odd"), "{reason}");
}

#[test]
fn a_stopped_query_goes_on_where_it_was() {
    let world = World::new();
    let runtime = world.runtime(8192, 1);
    world.insert(1, "x 1 1 1");
    runtime.start(spec(10, quotients(OnError::Skip))).expect("started");
    assert!(matches!(
        runtime.start(spec(10, quotients(OnError::Skip))),
        Err(ExecError::QueryExists(10))
    ));
    runtime.run_until_idle().expect("ran");
    block_on(runtime.stop(10)).expect("stopped");
    assert!(runtime.status(10).is_none());
    world.insert(1, "y 2 1 1");
    runtime.start(spec(10, quotients(OnError::Skip))).expect("started");
    runtime.run_until_idle().expect("ran");
    assert_eq!(world.rows(10), ["0 1: x 1 1 1.0", "1 2: y 2 2 1.0"]);
}

#[test]
fn a_dropped_input_fails_the_query() {
    let world = World::new();
    let runtime = world.runtime(8192, 1);
    runtime.start(spec(10, quotients(OnError::Skip))).expect("started");
    let drop = Transaction { drop_streams: vec![1], ..Transaction::default() };
    world.store.submit(drop, Durability::Synced).wait().expect("dropped");
    world.insert(2, "x 1 1 1");
    runtime.run_until_idle().expect("ran");
    assert!(matches!(runtime.status(10).expect("a status").state, QueryState::Failed(_)));
}

#[test]
fn ticks_close_windows_by_arrival_over_a_silent_stream() {
    let clock = Clock { stream: 2, delay_us: 0, arrival: true, idle_timeout_us: 1 };
    let relation = StreamRelation::new(2, "s2", &schema(), vec![clock], false);
    let input = LogicalPlanBuilder::scan("s2", Arc::new(relation), None).expect("a scan");
    let window = Window::tumble(1000, 0);
    let plan = extend(input, |input| {
        WindowRows::try_new(input, window, Vec::new(), Vec::new(), None).expect("a node")
    });
    let plan = query(plan.project(vec![col("k")]).expect("a projection"), OnError::Skip);
    for ticks in [None, Some(1)] {
        let columns = Arc::new(schema().project(&[0]).expect("a column"));
        let store: SharedStore = Arc::new(MemStore::new());
        for id in [1, 2] {
            store.open_stream(config(id, None)).expect("opened");
        }
        let out = StreamConfig { schema: columns, ..config(10, None) };
        store.open_stream(out).expect("opened");
        let world = World { store };
        let options = RuntimeOptions { workers: 0, ticks, ..RuntimeOptions::default() };
        let runtime = Runtime::new(Arc::clone(&world.store), options).expect("a runtime");
        runtime.start(spec(10, plan.clone())).expect("started");
        assert!(!runtime.waits_for_time());
        world.insert(2, "x 100 1 1\ny 200 1 1");
        runtime.run_until_idle().expect("ran");
        assert!(runtime.waits_for_time());
        world.insert(1, "- 999 1 1");
        runtime.run_until_idle().expect("ran");
        assert_eq!(world.rows(10).len(), 0);
        world.insert(1, "- 1000 1 1");
        runtime.run_until_idle().expect("ran");
        let expected: &[&str] = if ticks.is_some() { &["3 999: x", "3 999: y"] } else { &[] };
        assert_eq!(world.rows(10), expected);
        assert_eq!(runtime.waits_for_time(), ticks.is_none());
        assert_eq!(runtime.status(10).expect("a status").counters.rows_in, 2);
    }
}
