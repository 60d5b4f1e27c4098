//! An engine inside the test, with a life of its own: its tasks and threads end with it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use auspex_plan::Diagnostic;
use auspex_plan::catalog::Object;
use auspex_server::embedded::{Arrivals, Embedded};
use auspex_server::engine::EngineOptions;
use auspex_storage::{MemStore, RocksOptions, RocksStore, SharedStore, StorageError, Store};
use serde_json::{Map, Value};

use crate::format::Row;
use crate::rows;

/// Where the rows live.
pub(crate) enum Home {
    /// In memory; survives the engine, as synced data would.
    Memory(SharedStore),
    /// On disk.
    Disk(PathBuf),
}

impl Home {
    /// A new empty memory.
    pub(crate) fn memory() -> Home {
        Home::Memory(Arc::new(MemStore::new()))
    }

    fn open(&self) -> Result<SharedStore, String> {
        let folder = match self {
            Home::Memory(store) => return Ok(Arc::clone(store)),
            Home::Disk(folder) => folder,
        };
        // The last thread of a crashed engine may still be closing its files.
        let limit = Instant::now() + PATIENCE;
        loop {
            match RocksStore::open(folder, &RocksOptions::default()) {
                Ok(store) => return Ok(store),
                Err(StorageError::Io(_)) if Instant::now() < limit => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// How long an engine that was dropped may take to let go. A limit against hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running engine with one session.
pub(crate) struct Life {
    store: Weak<dyn Store>,
    embedded: Embedded,
}

/// A row of a stream as found: offset, event time in microseconds since 1970, columns in order.
pub(crate) type Found = (u64, i64, Map<String, Value>);

impl Life {
    /// Opens what is in `home`.
    pub(crate) fn begin(home: &Home, options: EngineOptions) -> Result<Life, String> {
        let opened = home.open()?;
        let store = Arc::downgrade(&opened);
        let embedded = Embedded::with_store(opened, options).map_err(|e| text(&e))?;
        Ok(Life { store, embedded })
    }

    /// Ends without telling anybody.
    pub(crate) fn crash(self, home: &Home) -> Result<(), String> {
        let Life { store, embedded } = self;
        drop(embedded);
        // The threads of its queries end in the background: wait until they have let go.
        let own = match home {
            Home::Memory(_) => 1,
            Home::Disk(_) => 0,
        };
        let limit = Instant::now() + PATIENCE;
        while store.strong_count() > own {
            if Instant::now() > limit {
                return Err("the engine was dropped and still holds its store".to_owned());
            }
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Ends in order; on disk everything is synced.
    pub(crate) fn stop(self, home: &Home) -> Result<(), String> {
        // A store in memory that is closed would stay closed.
        if let Home::Disk(_) = home {
            self.embedded.shutdown().map_err(|e| text(&e))?;
        }
        self.crash(home)
    }

    /// Runs all statements of a text; the rows of the last one that has any.
    pub(crate) fn run(&mut self, sql: &str) -> Result<Vec<RecordBatch>, Diagnostic> {
        self.embedded.run(sql)
    }

    /// Appends rows to one stream, in one transaction, as its connector would.
    pub(crate) fn append(&mut self, input: &[Row]) -> Result<(), String> {
        let Some(first) = input.first() else { return Ok(()) };
        let object = self.find(&first.stream)?;
        let fields: Vec<_> = input.iter().map(|row| row.fields.clone()).collect();
        let arrivals = Arrivals {
            stream: object.id,
            rows: rows::build(&object.schema(), &fields)?,
            time: input.iter().map(|row| row.time_us).collect(),
            places: Vec::new(),
        };
        self.embedded.append(vec![arrivals], &[(0, input.len())]).map_err(|e| text(&e))
    }

    /// Waits until every query has seen everything.
    pub(crate) fn settle(&self) {
        self.embedded.settle();
    }

    /// Declares the end of input and waits until every query has come to it.
    pub(crate) fn end_input(&self) {
        self.embedded.end_input();
    }

    /// All rows of a stream, by offset; none when it does not exist.
    pub(crate) fn read(&mut self, stream: &str) -> Result<Vec<Found>, String> {
        let catalog = self.embedded.engine().catalog();
        let found = catalog.objects().find(|o| o.name.name == stream && o.stream().is_some());
        let Some(object) = found else { return Ok(Vec::new()) };
        let quoted = format!("\"{}\".\"{}\"", object.name.schema, object.name.name);
        let query = format!("SELECT _offset, _time, * FROM {quoted} ORDER BY _offset");
        let mut found = Vec::new();
        for batch in self.run(&query).map_err(|e| text(&e))? {
            let offsets = batch.column(0).as_primitive::<Int64Type>();
            let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let mut columns = Map::new();
                for (field, column) in batch.schema().fields().iter().zip(batch.columns()).skip(2) {
                    columns.insert(field.name().clone(), rows::show(column, row)?);
                }
                let offset = u64::try_from(offsets.value(row)).map_err(|e| e.to_string())?;
                found.push((offset, times.value(row), columns));
            }
        }
        Ok(found)
    }

    /// Whether there is a stream of this name.
    pub(crate) fn has(&self, stream: &str) -> bool {
        self.embedded
            .engine()
            .catalog()
            .objects()
            .any(|o| o.name.name == stream && o.stream().is_some())
    }

    /// The stream of this name, in any schema.
    fn find(&self, stream: &str) -> Result<Object, String> {
        let catalog = self.embedded.engine().catalog();
        let found = catalog.objects().find(|o| o.name.name == stream && o.stream().is_some());
        found.cloned().ok_or_else(|| format!("no stream {stream}"))
    }

    /// Names of everything in the catalog.
    pub(crate) fn streams(&self) -> Vec<String> {
        self.embedded.engine().catalog().objects().map(|o| o.name.to_string()).collect()
    }

    /// The plan of a stream's query, as text.
    pub(crate) fn plan(&mut self, stream: &str) -> Result<String, String> {
        let object = self.find(stream)?;
        let explain = format!("EXPLAIN STREAM \"{}\".\"{}\"", object.name.schema, object.name.name);
        let batches = self.run(&explain).map_err(|e| text(&e))?;
        let mut lines = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                for column in batch.columns() {
                    if let Value::String(line) = rows::show(column, row)? {
                        lines.push(line);
                    }
                }
            }
        }
        // Behind the plan comes what the query has done so far.
        let plan = lines.iter().take_while(|line| !line.starts_with("State:"));
        Ok(same_in_both_languages(&plan.map(|line| line.trim()).collect::<Vec<_>>()))
    }
}

/// A plan without what may differ: indentation, and names of scans (SQL qualifies them, and gives
/// each an alias or, in a subquery, a name of its own).
fn same_in_both_languages(lines: &[&str]) -> String {
    let table = |line: &str| {
        let name = line.strip_prefix("TableScan: ")?.split(' ').next()?;
        Some(name.trim_start_matches("public.").to_owned())
    };
    // An alias may have another beneath it.
    let of_table = |at: usize| {
        let alias = lines[at].strip_prefix("SubqueryAlias: ")?;
        let below = lines[at..].iter().find(|line| !line.starts_with("SubqueryAlias: "))?;
        Some((format!("{alias}."), format!("{}.", table(below)?)))
    };
    let aliases: Vec<(String, String)> = (0..lines.len()).filter_map(of_table).collect();
    let shown = lines.iter().filter(|line| !line.starts_with("SubqueryAlias:"));
    shown
        .map(|line| {
            let line = line.replace("TableScan: public.", "TableScan: ");
            let named = aliases.iter().fold(line, |line, (alias, name)| line.replace(alias, name));
            named + "\n"
        })
        .collect()
}

/// A diagnostic on one line.
pub(crate) fn text(diagnostic: &Diagnostic) -> String {
    let mut text = format!("{}: {}", diagnostic.state.0, diagnostic.message);
    if let Some(code) = diagnostic.code {
        text = format!("{code} {text}");
    }
    for (label, part) in [("DETAIL", &diagnostic.detail), ("HINT", &diagnostic.hint)] {
        if let Some(part) = part {
            text += &format!(" {label}: {part}");
        }
    }
    text
}
