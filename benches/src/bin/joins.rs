//! Join benchmark W9: `L JOIN R` on the key within 5 seconds of event time, from Arrow batches in
//! memory through the compiled query, on one core, next to a plain hash loop over the same batches;
//! then other numbers of keys, and the other joins.
//!
//! `cargo run --release -p auspex-benches --bin joins [-- ROWS [RUNS]]`

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Schema};
use auspex_benches::workload::w9;
use auspex_exec::{BuildOptions, Graph, build, optimize};
use auspex_plan::nodes::{JoinTime, StreamJoin};
use auspex_plan::{Clock, ContinuousQuery, OnError, StreamRelation};
use auspex_storage::EventBatch;
use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder, col};
use datafusion::optimizer::analyzer::Analyzer;
use hashbrown::HashMap;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error>;

/// Rows of both streams per step: two of the runtime's default batches.
const STEP_ROWS: u64 = 16_384;

const WITHIN_US: i64 = 5_000_000;

/// Rows, keys and pairs, where these are published.
const PUBLISHED: [(u64, u64); 2] = [(100_000, 34_500), (1_000_000, 356_168)];

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let most = args.next().transpose()?.unwrap_or(10_000_000);
    let runs = args.next().transpose()?.unwrap_or(9);
    let interval = JoinTime::Interval { lower_us: -WITHIN_US, upper_us: WITHIN_US };
    for (rows, keys) in [(100_000, 10_000), (1_000_000, 10_000), (10_000_000, 10_000)] {
        if rows <= most {
            measure("W9 join within 5 s", interval, rows, keys, runs)?;
        }
    }
    for keys in [100, 1_000_000] {
        measure("join within 5 s", interval, most.min(1_000_000), keys, runs)?;
    }
    let hour = JoinTime::Interval { lower_us: -3_600_000_000, upper_us: 3_600_000_000 };
    measure("join within 1 h", hour, most, 1_000_000, runs.min(3))?;
    let as_of = JoinTime::AsOf { strict: false, tolerance_us: None };
    measure("AS OF join", as_of, most.min(1_000_000), 10_000, runs)?;
    measure("look-up", JoinTime::Lookup, most.min(1_000_000), 10_000, runs)
}

fn measure(what: &str, time: JoinTime, rows: u64, keys: u64, runs: u64) -> Result<(), Error> {
    let lookup = time == JoinTime::Lookup;
    let steps: Vec<[EventBatch; 2]> = (0..rows)
        .step_by(STEP_ROWS as usize)
        .map(|from| w9::batches(from, STEP_ROWS.min(rows - from), keys))
        .map(|[left, right]| [left, if lookup { as_changes(right) } else { right }])
        .collect();
    let query = query(time)?;
    let (mut engine, mut plain) = (Vec::new(), Vec::new());
    let (mut joined, mut state) = (0, String::new());
    for _ in 0..runs {
        let mut graph = build(&query, &BuildOptions::default())?;
        let columns: Vec<Vec<usize>> = graph.inputs().iter().map(|i| i.columns.clone()).collect();
        let projected: Vec<Vec<Vec<EventBatch>>> = steps
            .iter()
            .map(|step| {
                let of = |(batch, columns): (&EventBatch, &Vec<usize>)| {
                    vec![batch.project(columns).expect("columns of the schema")]
                };
                step.iter().zip(&columns).map(of).collect()
            })
            .collect();
        let began = cpu_seconds();
        let (count, sum, kept) = run(&mut graph, projected, rows)?;
        engine.push(cpu_seconds() - began);
        (joined, state) = (count, kept);
        if let JoinTime::Interval { upper_us, .. } = time {
            let began = cpu_seconds();
            let (pairs, products) = plain_loop(&steps, upper_us);
            plain.push(cpu_seconds() - began);
            if (pairs, products) != (count, sum) {
                return Err(format!("{count} pairs, plain loop {pairs}").into());
            }
        }
    }
    let published = PUBLISHED.iter().find(|(published, _)| *published == rows);
    if let Some((_, pairs)) = published.filter(|_| what.starts_with("W9"))
        && joined != *pairs
    {
        return Err(format!("{joined} pairs instead of {pairs}").into());
    }
    let rate = |seconds: Vec<f64>| rows as f64 / median(seconds) / 1e6;
    let engine = rate(engine);
    print!("{what}, {keys} keys, {rows} rows, {joined} out: {engine:.1} million rows/s");
    if !plain.is_empty() {
        let plain = rate(plain);
        print!(", plain loop {plain:.1} million rows/s, ratio {:.2}", engine / plain);
    }
    println!(" (median of {runs}){state}");
    Ok(())
}

/// Rows out, the sum of the products of a column of each side, and the state before the end.
fn run(
    graph: &mut Graph,
    steps: Vec<Vec<Vec<EventBatch>>>,
    rows: u64,
) -> Result<(u64, f64, String), Error> {
    let (mut count, mut sum, mut state) = (0, 0.0, String::new());
    let (mut end, last) = (0, steps.len());
    for (number, step) in steps.into_iter().enumerate() {
        end += STEP_ROWS as i64;
        let mut outputs = vec![graph.step(step, end.min(rows as i64))?];
        if number + 1 == last {
            // The rows of the last moment are due when the input ends.
            state = state_of(graph);
            outputs.push(graph.end(rows as i64)?);
        }
        for batch in outputs.iter().flat_map(|out| &out.batches) {
            count += batch.len() as u64;
            let values = |column: usize| batch.rows.column(column).as_primitive::<Float64Type>();
            let products = values(1).values().iter().zip(values(4).values());
            sum += products.map(|(left, right)| (left * right).round()).sum::<f64>();
        }
    }
    Ok((count, sum, state))
}

/// The same rows as settings of the keys' rows.
fn as_changes(events: EventBatch) -> EventBatch {
    use arrow::array::{ArrayRef, StringViewArray};
    let ops: ArrayRef =
        Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n("U", events.len())));
    let schema = auspex_plan::relation::with_op_column(&events.rows.schema());
    let columns = events.rows.columns().iter().cloned().chain([ops]).collect();
    let rows = arrow::record_batch::RecordBatch::try_new(schema, columns);
    EventBatch { rows: rows.expect("the columns of the schema"), ..events }
}

fn query(time: JoinTime) -> Result<ContinuousQuery, Error> {
    let scan = |id: u32, name: &str| -> Result<LogicalPlan, Error> {
        let clock = Clock {
            stream: id,
            delay_us: 0,
            arrival: false,
            idle_timeout_us: Clock::IDLE_TIMEOUT_US,
        };
        let schema: &Schema = &w9::schema();
        let relation = match time {
            JoinTime::Lookup if id == 2 => StreamRelation::changes(id, name, schema),
            _ => StreamRelation::new(id, name, schema, vec![clock], false),
        };
        Ok(LogicalPlanBuilder::scan(name, Arc::new(relation), None)?.build()?)
    };
    let identity = if time == JoinTime::Lookup { vec![col("r.k")] } else { vec![] };
    let join = StreamJoin::try_new(
        scan(1, "l")?,
        scan(2, "r")?,
        JoinType::Inner,
        time,
        vec![(col("l.k"), col("r.k"))],
        None,
        identity,
    )?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(join) });
    let plan = Analyzer::new().execute_and_check(plan, &ConfigOptions::default(), |_, _| {})?;
    Ok(ContinuousQuery {
        plan: optimize(plan)?,
        inputs: vec![1, 2],
        on_error: OnError::DeadLetter,
        warnings: Vec::new(),
    })
}

fn state_of(graph: &Graph) -> String {
    let join = &graph.operators()[0];
    match join.state_rows {
        0 => String::new(),
        rows => format!(", {} bytes of state for {rows} rows", join.state_bytes),
    }
}

/// What the interval join does, without an engine: rows in order of time, per key the newer rows
/// of both sides, columns of the pairs into vectors.
fn plain_loop(steps: &[[EventBatch; 2]], within_us: i64) -> (u64, f64) {
    type Rows = VecDeque<(i64, f64, i64)>;
    let mut keys: HashMap<u128, [Rows; 2]> = HashMap::new();
    let (mut count, mut sum) = (0, 0.0);
    let mut out: Vec<(u128, [f64; 2], [i64; 2])> = Vec::new();
    for step in steps {
        let sides = step.each_ref().map(|side| {
            let values = side.rows.column(1).as_primitive::<Float64Type>().values();
            let times = side.time.to_values(side.len());
            let places = side.sequence.to_values(side.len());
            (side.rows.column(0).as_string_view().views(), values, times, places)
        });
        let mut next = [0, 0];
        out.clear();
        loop {
            let place = |side: usize| sides[side].3.get(next[side]).copied().unwrap_or(i64::MAX);
            let side = usize::from(place(1) < place(0));
            let (views, values, times, places) = &sides[side];
            let row = next[side];
            let Some(number) = places.get(row) else { break };
            next[side] += 1;
            let (key, time, value) = (views[row], times[row], values[row]);
            let both = keys.entry(key).or_default();
            let partners = &mut both[1 - side];
            while partners.front().is_some_and(|(earlier, ..)| time - earlier > within_us) {
                partners.pop_front();
            }
            for (_, partner, other) in partners.iter() {
                let (mut columns, mut numbers) = ([value; 2], [*number; 2]);
                columns[1 - side] = *partner;
                numbers[1 - side] = *other;
                out.push((key, columns, numbers));
            }
            both[side].push_back((time, value, *number));
        }
        count += out.len() as u64;
        sum += out.iter().map(|(_, [left, right], _)| (left * right).round()).sum::<f64>();
        black_box(&out);
    }
    (count, sum)
}

/// Time that this thread has run: others on the machine do not show.
fn cpu_seconds() -> f64 {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = figures.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.expect("the first figure") / 1e9
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
