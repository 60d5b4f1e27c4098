//! A log of rows through a graph, cut into steps in any way, with restarts from saved state.

use std::collections::BTreeMap;

use auspex_plan::ContinuousQuery;
use auspex_storage::{EventBatch, Run};

use crate::operator::Output;
use crate::testing::{rows, text};
use crate::{BuildOptions, Graph, build};

/// A row of the log; its place is its position there, its arrival 1000 + that.
#[derive(Debug, Clone)]
pub(crate) struct LogRow {
    /// The stream that got it.
    pub(crate) stream: u32,
    /// Event time.
    pub(crate) time: i64,
    /// Values as in [`rows`].
    pub(crate) values: String,
}

/// A log from lines `stream @time k a b v`.
pub(crate) fn log(text: &str) -> Vec<LogRow> {
    let row = |line: &str| {
        let (stream, rest) = line.split_once(" @").expect("stream @time values");
        let (time, values) = rest.split_once(' ').expect("time values");
        LogRow {
            stream: stream.parse().expect("a stream"),
            time: time.parse().expect("a time"),
            values: values.into(),
        }
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
}

/// What can be observed of a run; equal however the log was cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Output rows: values, ` | `, place, event time.
    pub(crate) rows: Vec<String>,
    /// Arrivals of the output rows.
    pub(crate) ingested: Vec<i64>,
    /// Places and reasons of dead letters, sorted.
    pub(crate) failures: Vec<String>,
    /// Places and reasons of late rows, sorted.
    pub(crate) late: Vec<String>,
}

impl Trace {
    fn add(&mut self, output: &Output) {
        for batch in &output.batches {
            for (row, line) in text(&batch.rows).into_iter().enumerate() {
                let (place, time) = (batch.sequence.get(row), batch.time.get(row));
                self.rows.push(format!("{line} | {place} {time}"));
                self.ingested.push(batch.ingested.get(row));
            }
        }
        let line = |f: &crate::RowFailure| format!("{}: {}", f.sequence, f.reason);
        self.failures.extend(output.dead_letters.iter().map(line));
        self.late.extend(output.late.iter().map(line));
        self.failures.sort();
        self.late.sort();
    }
}

/// Where a log is cut into steps, and after which steps the state is saved and restored into a new
/// graph. The last row always ends a step, then the input ends.
pub(crate) struct Cuts<'a> {
    /// Whether a step ends with the row at a place.
    pub(crate) cut: &'a dyn Fn(usize) -> bool,
    /// Whether the state is saved after a step that ends there.
    pub(crate) save: &'a dyn Fn(usize) -> bool,
    /// Whether the graph starts anew from the saved state there.
    pub(crate) restart: &'a dyn Fn(usize) -> bool,
}

/// Runs a log, at whose place `log.len()` the input ends.
#[track_caller]
pub(crate) fn replay(query: &ContinuousQuery, log: &[LogRow], cuts: &Cuts) -> Trace {
    let new = || build(query, &BuildOptions::default()).expect("a graph");
    let mut graph = new();
    let inputs = graph.inputs().len();
    let mut waiting: Vec<Vec<EventBatch>> = vec![Vec::new(); inputs];
    let mut offsets = vec![0u64; inputs];
    let mut saved = BTreeMap::new();
    let mut trace = Trace::default();
    for (place, row) in log.iter().enumerate() {
        if let Some(input) = graph.inputs().iter().position(|i| i.stream == row.stream) {
            let events = EventBatch {
                rows: rows(&row.values),
                offset: offsets[input],
                sequence: Run::Constant(place as i64),
                time: Run::Constant(row.time),
                ingested: Run::Constant(1000 + place as i64),
            };
            offsets[input] += 1;
            let columns = &graph.inputs()[input].columns;
            waiting[input].push(events.project(columns).expect("projected"));
        }
        if (cuts.cut)(place) || place + 1 == log.len() {
            let step = std::mem::replace(&mut waiting, vec![Vec::new(); inputs]);
            let step = step.into_iter().map(joined).collect();
            trace.add(&graph.step(step, place as i64 + 1).expect("a step"));
            if (cuts.save)(place) || (cuts.restart)(place) {
                save(&mut graph, &mut saved);
            }
            if (cuts.restart)(place) {
                graph = new();
                let entries: Vec<_> = saved.clone().into_iter().collect();
                graph.restore(&entries).expect("restored");
            }
        }
    }
    trace.add(&graph.end(log.len() as i64).expect("the end"));
    trace
}

/// The rows of a step as one batch, as far as their offsets allow it.
fn joined(batches: Vec<EventBatch>) -> Vec<EventBatch> {
    let [first, ..] = batches.as_slice() else { return batches };
    let offset = first.offset;
    let run = |f: fn(&EventBatch) -> &Run| {
        Run::Each(batches.iter().flat_map(|b| f(b).to_values(b.len()).to_vec()).collect())
    };
    let schema = first.rows.schema();
    let rows = arrow::compute::concat_batches(&schema, batches.iter().map(|b| &b.rows));
    vec![EventBatch {
        rows: rows.expect("rows of one stream"),
        offset,
        sequence: run(|b| &b.sequence),
        time: run(|b| &b.time),
        ingested: run(|b| &b.ingested),
    }]
}

fn save(graph: &mut Graph, saved: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    for (key, value) in graph.checkpoint().expect("a checkpoint") {
        match value {
            Some(value) => saved.insert(key, value),
            None => saved.remove(&key),
        };
    }
}

/// Runs a log row by row, all at once, and as `cuts`; checks that nothing shows and gives what
/// there is to see.
#[track_caller]
pub(crate) fn check_batching(query: &ContinuousQuery, log: &[LogRow], cuts: &Cuts) -> Trace {
    let (yes, no) = (|_: usize| true, |_: usize| false);
    let by_row = replay(query, log, &Cuts { cut: &yes, save: &no, restart: &no });
    let whole = replay(query, log, &Cuts { cut: &no, save: &no, restart: &no });
    assert_eq!(whole, by_row, "all rows at once and one by one");
    let restarted = replay(query, log, &Cuts { cut: &yes, save: &no, restart: &yes });
    assert_eq!(restarted, by_row, "with a restart after each row");
    assert_eq!(replay(query, log, cuts), by_row, "with random cuts and restarts");
    by_row
}

/// The same for tests of exact results, with some regular cuts.
#[track_caller]
pub(crate) fn trace(query: &ContinuousQuery, log: &[LogRow]) -> Trace {
    let cuts = Cuts { cut: &|i| i % 3 == 1, save: &|i| i % 2 == 0, restart: &|i| i % 4 == 0 };
    check_batching(query, log, &cuts)
}
