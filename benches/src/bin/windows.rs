//! Windowed aggregates over Arrow batches in memory, on one core: W2 (tumbling), W3 (hopping) and
//! how they scale with keys and overlap, next to a plain loop over dense key numbers.
//!
//! `cargo run --release -p auspex-benches --bin windows [-- ROWS [RUNS]]`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, Float64Array, StringViewBuilder};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use auspex_benches::workload::{self, Tick};
use auspex_exec::{BuildOptions, Graph, build, optimize};
use auspex_plan::nodes::StreamAggregate;
use auspex_plan::{Clock, ContinuousQuery, Emit, OnError, StreamRelation, Window};
use auspex_storage::{EventBatch, Run};
use datafusion::common::config::ConfigOptions;
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, sum};
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::optimizer::analyzer::Analyzer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error>;

/// Rows per batch: the runtime's default.
const BATCH_ROWS: usize = 8192;

const SECOND_US: i64 = 1_000_000;

/// W2: results, and the totals of their counts and sums (hundredths), minima and maxima, for 100,000
/// and 1 million rows; computed by a program of its own.
const W2: [(u64, [i64; 5]); 2] = [
    (100_000, [10_000, 100_000, 4_999_884_993, 99_620_454, 901_058_623]),
    (1_000_000, [99_997, 1_000_000, 50_012_684_607, 998_898_076, 9_005_513_190]),
];

/// W3: results and the total of their counts.
const W3: [(u64, [i64; 2]); 2] =
    [(100_000, [69_000, 6_000_000]), (1_000_000, [159_000, 60_000_000])];

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let rows = args.next().transpose()?.unwrap_or(1_000_000);
    let runs = args.next().transpose()?.unwrap_or(11);
    let (w2, w3) = (Window::tumble(SECOND_US, 0), hop(60));
    for rows in [100_000, rows] {
        for batch_rows in [BATCH_ROWS, 65_536] {
            let data = Data::new(rows, batch_rows, 1000, |row| Tick::at(row).key);
            let plain = data.plain(runs);
            for (name, window) in [("W2", w2), ("W3", w3)] {
                let engine = data.measure(window, runs)?;
                engine.check(name, rows)?;
                println!(
                    "{name} {rows} rows by {batch_rows}, {} out: {:.1} million rows/s, \
                     plain loop {:.0}, ratio {:.2} (median of {runs})",
                    engine.totals[0],
                    engine.rate(rows),
                    rows as f64 / plain / 1e6,
                    plain / engine.seconds,
                );
            }
        }
    }
    let few = runs.min(3);
    for keys in [100, 10_000, 1_000_000] {
        let data = Data::new(rows, BATCH_ROWS, keys, |row| spread(row) % keys);
        // Each row of its own key would give as many results as windows overlap: 60 million.
        let overlap = if keys < rows { 60 } else { 6 };
        let hopping = (format!("hop {overlap}s by 1s"), hop(overlap));
        for (name, window) in [("tumble 1s".to_string(), w2), hopping] {
            let engine = data.measure(window, few)?;
            println!(
                "{keys} keys, {name}: {:.1} million rows/s, {} out, {:.0} bytes of state per key",
                engine.rate(rows),
                engine.totals[0],
                engine.state_bytes as f64 / keys as f64,
            );
        }
    }
    for overlap in [1, 6, 60, 600] {
        let data = Data::new(rows, BATCH_ROWS, 1000, |row| Tick::at(row).key);
        let engine = data.measure(hop(overlap), few)?;
        println!(
            "hop {overlap}s by 1s: {:.1} million rows/s, {} out, {:.1} million results/s; \
             {} panes of keys, {:.0} bytes each",
            engine.rate(rows),
            engine.totals[0],
            engine.totals[0] as f64 / engine.seconds / 1e6,
            engine.state_rows,
            engine.state_bytes as f64 / engine.state_rows as f64,
        );
    }
    for (name, window) in [("W2", w2), ("W3", w3)] {
        checkpoints(name, window, rows * 10, few)?;
    }
    Ok(())
}

fn hop(overlap: i64) -> Window {
    Window::Hop { size_us: overlap * SECOND_US, slide_us: SECOND_US, offset_us: 0 }
}

fn spread(row: u64) -> u64 {
    row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

/// Events of the columns `k` and `v` with the times of W1.
struct Data {
    batches: Vec<EventBatch>,
    keys: Vec<u32>,
    key_count: usize,
}

/// What a run gave.
struct Measured {
    seconds: f64,
    /// Results, and the totals of count, sum, min and max in hundredths.
    totals: [i64; 5],
    /// State before the end of input.
    state_rows: u64,
    state_bytes: u64,
}

impl Data {
    fn new(rows: u64, batch_rows: usize, key_count: u64, key: impl Fn(u64) -> u64) -> Data {
        let mut keys = Vec::with_capacity(rows as usize);
        let batch = |from: u64, keys: &mut Vec<u32>| {
            let to = rows.min(from + batch_rows as u64);
            let mut names = StringViewBuilder::with_capacity((to - from) as usize);
            for row in from..to {
                keys.push(key(row) as u32);
                names.append_value(format!("S{:04}", key(row)));
            }
            let values = (from..to).map(|row| Tick::at(row).value());
            let schema = Arc::new(workload::schema().project(&[2, 3]).expect("columns k and v"));
            let columns: Vec<arrow::array::ArrayRef> =
                vec![Arc::new(names.finish()), Arc::new(Float64Array::from_iter_values(values))];
            EventBatch {
                rows: RecordBatch::try_new(schema, columns).expect("columns of the schema"),
                offset: from,
                sequence: Run::Sequence(from as i64),
                time: Run::Each((from..to).map(|row| Tick::at(row).ts_ms * 1000).collect()),
                ingested: Run::Constant(0),
            }
        };
        let from = (0..rows).step_by(batch_rows);
        let batches = from.map(|from| batch(from, &mut keys)).collect();
        Data { batches, keys, key_count: key_count as usize }
    }

    fn measure(&self, window: Window, runs: u64) -> Result<Measured, Error> {
        let (mut seconds, mut totals) = (Vec::new(), [0; 5]);
        let (mut state_rows, mut state_bytes) = (0, 0);
        for _ in 0..runs {
            let mut graph = graph(window)?;
            let mut out = Vec::new();
            let began = Instant::now();
            for batch in &self.batches {
                out.extend(graph.step(vec![vec![batch.clone()]], batch.end() as i64)?.batches);
            }
            let paused = Instant::now();
            let status = graph.operators().pop().ok_or("no operator")?;
            (state_rows, state_bytes) = (status.state_rows, status.state_bytes);
            let resumed = Instant::now();
            let end = self.batches.last().map_or(0, EventBatch::end);
            out.extend(graph.end(end as i64)?.batches);
            seconds.push((resumed.elapsed() + (paused - began)).as_secs_f64());
            totals = totals_of(out.iter().map(|batch| &batch.rows));
        }
        Ok(Measured { seconds: median(seconds), totals, state_rows, state_bytes })
    }

    /// Count, sum, smallest and greatest value by key number and second: what W2 asks for, once the
    /// keys are numbers and the rows are in order.
    fn plain(&self, runs: u64) -> f64 {
        let mut seconds = Vec::new();
        for _ in 0..runs {
            let began = Instant::now();
            let mut groups = vec![(0u64, 0.0, f64::INFINITY, f64::NEG_INFINITY); self.key_count];
            let mut window = i64::MIN;
            for batch in &self.batches {
                let values = batch.rows.column(1).as_primitive::<Float64Type>().values();
                let Run::Each(times) = &batch.time else { unreachable!("made so") };
                let keys = &self.keys[batch.offset as usize..];
                for ((value, time), key) in values.iter().zip(times.iter()).zip(keys) {
                    if *time >= window {
                        window = time - time % SECOND_US + SECOND_US;
                        black_box(&groups);
                        groups.fill((0, 0.0, f64::INFINITY, f64::NEG_INFINITY));
                    }
                    let group = &mut groups[*key as usize];
                    group.0 += 1;
                    group.1 += value;
                    group.2 = value.min(group.2);
                    group.3 = value.max(group.3);
                }
            }
            black_box(&groups);
            seconds.push(began.elapsed().as_secs_f64());
        }
        median(seconds)
    }
}

impl Measured {
    fn rate(&self, rows: u64) -> f64 {
        rows as f64 / self.seconds / 1e6
    }

    /// Compares with the published totals.
    fn check(&self, name: &str, rows: u64) -> Result<(), Error> {
        let expected: Option<&[i64]> = match name {
            "W2" => W2.iter().find(|(n, _)| *n == rows).map(|(_, totals)| totals.as_slice()),
            _ => W3.iter().find(|(n, _)| *n == rows).map(|(_, totals)| totals.as_slice()),
        };
        match expected {
            Some(expected) if !self.totals.starts_with(expected) => {
                Err(format!("{name}: {:?}, expected {expected:?}", self.totals).into())
            }
            _ => Ok(()),
        }
    }
}

/// Number of results, and the totals of count, sum, min and max in hundredths.
fn totals_of<'a>(batches: impl Iterator<Item = &'a RecordBatch>) -> [i64; 5] {
    let mut totals = [0; 5];
    for batch in batches {
        totals[0] += batch.num_rows() as i64;
        totals[1] += batch.column(3).as_primitive::<Int64Type>().values().iter().sum::<i64>();
        for (total, column) in totals[2..].iter_mut().zip([4, 6, 7]) {
            let values = batch.column(column).as_primitive::<Float64Type>().values();
            *total += values.iter().map(|value| (value * 100.0).round() as i64).sum::<i64>();
        }
        let starts = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        assert!(starts.values().iter().all(|start| start % SECOND_US == 0), "aligned windows");
    }
    totals
}

/// The share of time that a checkpoint in each second of running takes.
fn checkpoints(name: &str, window: Window, rows: u64, runs: u64) -> Result<(), Error> {
    let data = Data::new(rows, BATCH_ROWS, 1000, |row| Tick::at(row).key);
    let (mut shares, mut entries) = (Vec::new(), 0);
    for _ in 0..runs {
        let mut graph = graph(window)?;
        let mut saved: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let (mut saving, mut count) = (0.0, 0);
        let mut last = Instant::now();
        for batch in &data.batches {
            black_box(graph.step(vec![vec![batch.clone()]], batch.end() as i64)?);
            // At the speed of this run one second lies between two checkpoints.
            if last.elapsed().as_secs_f64() >= 1.0 || batch.end() == rows {
                let began = Instant::now();
                let changes = graph.checkpoint()?;
                saving += began.elapsed().as_secs_f64();
                count += 1;
                entries = changes.len();
                saved.extend(changes);
                last = Instant::now();
            }
        }
        black_box(&saved);
        shares.push(saving / f64::from(count) * 100.0);
    }
    println!("{name}: a checkpoint takes {:.2} % of a second, {entries} entries", median(shares));
    Ok(())
}

/// `SELECT k, count(*), sum(v), avg(v), min(v), max(v)` by window and key.
fn graph(window: Window) -> Result<Graph, Error> {
    let schema = workload::schema().project(&[2, 3])?;
    let clock =
        Clock { stream: 1, delay_us: 0, arrival: false, idle_timeout_us: Clock::IDLE_TIMEOUT_US };
    let relation = StreamRelation::new(1, "ticks", &schema, vec![clock], false);
    let input = LogicalPlanBuilder::scan("ticks", Arc::new(relation), None)?.build()?;
    let v = || col("v");
    let aggregates = vec![count(lit(1i64)), sum(v()), avg(v()), min(v()), max(v())];
    let node =
        StreamAggregate::try_new(input, window, vec![col("k")], aggregates, Emit::OnClose, 0)?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let plan = Analyzer::new().execute_and_check(plan, &ConfigOptions::default(), |_, _| {})?;
    let query = ContinuousQuery {
        plan: optimize(plan)?,
        inputs: vec![1],
        on_error: OnError::DeadLetter,
        warnings: Vec::new(),
    };
    Ok(build(&query, &BuildOptions::default())?)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
