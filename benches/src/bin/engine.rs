//! Engine benchmark W1: `SELECT k, v, v * q FROM ticks WHERE v > 900` from Arrow batches in memory
//! through the compiled query, on one core, next to a plain loop over the same numbers; then the
//! same query run by the runtime from an in-memory store to an in-memory store.
//!
//! `cargo run --release -p auspex-benches --bin engine [-- ROWS [RUNS]]`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type, Schema};
use auspex_benches::workload;
use auspex_exec::{BuildOptions, Graph, QuerySpec, Runtime, RuntimeOptions, build, optimize};
use auspex_plan::{ContinuousQuery, OnError, StreamRelation};
use auspex_storage::{
    Append, Durability, EventBatch, MemStore, ReadLimit, Run, SharedStore, Store, StreamConfig,
    Transaction,
};
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
use datafusion::optimizer::analyzer::Analyzer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error>;

/// Rows per batch: the runtime's default.
const BATCH_ROWS: usize = 8192;

/// Rows per transaction when the store is loaded.
const LOAD_ROWS: usize = 65_536;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let rows = args.next().transpose()?.unwrap_or(1_000_000);
    let runs = args.next().transpose()?.unwrap_or(31);
    for rows in [100_000, rows] {
        measure(rows, runs)?;
    }
    measure_runtime(rows, runs.min(11))?;
    Ok(())
}

fn measure(rows: u64, runs: u64) -> Result<(), Error> {
    let mut graph = w1()?;
    let batches = batches(rows, &graph.inputs()[0].columns);
    let expected = workload::expected_w1(rows);

    let mut engine = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        let (mut count, mut sum) = (0, 0.0);
        for batch in &batches {
            for out in graph.step(vec![vec![batch.clone()]], batch.end() as i64)?.batches {
                count += out.len() as u64;
                let products = out.rows.column(2).as_primitive::<Float64Type>();
                sum += products.values().iter().sum::<f64>();
            }
        }
        engine.push(began.elapsed().as_secs_f64());
        check("engine", count, sum, expected)?;
    }

    let mut plain = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        let (count, sum) = plain_loop(&batches);
        plain.push(began.elapsed().as_secs_f64());
        check("plain loop", count as u64, sum, expected)?;
    }

    let (engine, plain) = (median(engine), median(plain));
    let rate = |seconds: f64| rows as f64 / seconds / 1e6;
    println!(
        "W1 {rows} rows, {} out: engine {:.0} million rows/s, plain loop {:.0} million rows/s, \
         ratio {:.2} (median of {runs})",
        expected.0,
        rate(engine),
        rate(plain),
        plain / engine,
    );
    Ok(())
}

/// The query from log to log: reading, cutting, the graph, appending with position.
fn measure_runtime(rows: u64, runs: u64) -> Result<(), Error> {
    let expected = workload::expected_w1(rows);
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let store = Arc::new(MemStore::new());
        let query = w1_query()?;
        let output = query.plan.schema().as_arrow().clone();
        for (id, schema) in [(1, workload::schema()), (2, Arc::new(nullable(&output)))] {
            store.open_stream(StreamConfig {
                id,
                schema,
                derived: id == 2,
                retention_age_us: None,
                retention_bytes: None,
            })?;
        }
        for from in (0..rows).step_by(LOAD_ROWS) {
            let len = LOAD_ROWS.min((rows - from) as usize);
            let append = Append {
                stream: 1,
                rows: workload::ticks(from, len),
                time: None,
                derived: None,
                at_offset: None,
            };
            let load = Transaction { appends: vec![append], ..Transaction::default() };
            store.submit(load, Durability::Buffered).wait()?;
        }
        let shared: SharedStore = store.clone();
        let options = RuntimeOptions { workers: 0, ..RuntimeOptions::default() };
        let runtime = Runtime::new(shared, options)?;
        let began = Instant::now();
        runtime.start(QuerySpec {
            id: 2,
            generation: 0,
            plan: query,
            start: BTreeMap::new(),
            paused: false,
            table: None,
            max_state_bytes: None,
        })?;
        runtime.run_until_idle()?;
        seconds.push(began.elapsed().as_secs_f64());
        let (mut count, mut sum) = (0, 0.0);
        for batch in store.read(2, 0, ReadLimit { rows: usize::MAX, until: u64::MAX }, None)? {
            count += batch.len() as u64;
            sum += batch.rows.column(2).as_primitive::<Float64Type>().values().iter().sum::<f64>();
        }
        check("runtime", count, sum, expected)?;
    }
    println!(
        "W1 {rows} rows through store and runtime: {:.0} million rows/s (median of {runs})",
        rows as f64 / median(seconds) / 1e6
    );
    Ok(())
}

fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Schema::new(fields.collect::<Vec<_>>())
}

/// The compiled query.
fn w1() -> Result<Graph, Error> {
    Ok(build(&w1_query()?, &BuildOptions::default())?)
}

fn w1_query() -> Result<ContinuousQuery, Error> {
    let relation = StreamRelation::new(1, "ticks", &workload::schema(), Vec::new(), false);
    let plan = LogicalPlanBuilder::scan("ticks", Arc::new(relation), None)?
        .filter(col("v").gt(lit(900i64)))?
        .project(vec![col("k"), col("v"), (col("v") * col("q")).alias("amount")])?
        .build()?;
    let plan = Analyzer::new().execute_and_check(plan, &ConfigOptions::default(), |_, _| {})?;
    Ok(ContinuousQuery {
        plan: optimize(plan)?,
        inputs: vec![1],
        on_error: OnError::DeadLetter,
        warnings: Vec::new(),
    })
}

fn batches(rows: u64, columns: &[usize]) -> Vec<EventBatch> {
    (0..rows)
        .step_by(BATCH_ROWS)
        .map(|from| {
            let len = BATCH_ROWS.min((rows - from) as usize);
            let batch = workload::ticks(from, len);
            let times =
                batch.column(1).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            EventBatch {
                offset: from,
                sequence: Run::Sequence(from as i64),
                time: Run::Each(times.values().clone()),
                ingested: Run::Constant(0),
                rows: batch.project(columns).expect("columns of the schema"),
            }
        })
        .collect()
}

/// What the query does to the numeric columns, without an engine: condition, compaction, product.
fn plain_loop(batches: &[EventBatch]) -> (usize, f64) {
    let mut values = vec![0.0; BATCH_ROWS];
    let mut products = vec![0.0; BATCH_ROWS];
    let (mut count, mut sum) = (0, 0.0);
    for batch in batches {
        let v = batch.rows.column(1).as_primitive::<Float64Type>().values();
        let q = batch.rows.column(2).as_primitive::<Int64Type>().values();
        let mut len = 0;
        for (&v, &q) in v.iter().zip(q.iter()) {
            values[len] = v;
            products[len] = v * q as f64;
            len += usize::from(v > 900.0);
        }
        count += len;
        sum += products[..len].iter().sum::<f64>();
        black_box(&values);
    }
    (count, sum)
}

fn check(what: &str, count: u64, sum: f64, expected: (u64, u64)) -> Result<(), Error> {
    let cents = expected.1 as f64;
    if count != expected.0 || (sum * 100.0 - cents).abs() > cents * 1e-9 {
        return Err(format!("{what}: {count} rows, sum {sum}, expected {expected:?}").into());
    }
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
