//! An engine inside the test, with a life of its own: its tasks and threads end with it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use auspex_plan::Diagnostic;
use auspex_server::engine::{Engine, EngineOptions, Outcome, Session};
use auspex_storage::{
    Append, Durability, MemStore, RocksOptions, RocksStore, Run, SharedStore, StorageError, Store,
    Transaction,
};
use futures::StreamExt;
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
    runtime: tokio::runtime::Runtime,
    engine: Arc<Engine>,
    session: Session,
}

/// A row of a stream as found: offset, event time in microseconds since 1970, columns in order.
pub(crate) type Found = (u64, i64, Map<String, Value>);

impl Life {
    /// Opens what is in `home`.
    pub(crate) fn begin(home: &Home, workers: usize, batch_rows: usize) -> Result<Life, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        let options = EngineOptions { data_dir: None, workers, batch_rows, sweep_seconds: 0 };
        let opened = home.open()?;
        let store = Arc::downgrade(&opened);
        let engine = {
            let _inside = runtime.enter();
            Engine::with_store(opened, options).map_err(|e| text(&e))?
        };
        let session = engine.session("auspex", "auspex");
        Ok(Life { store, runtime, engine, session })
    }

    /// Ends without telling anybody.
    pub(crate) fn crash(self, home: &Home) -> Result<(), String> {
        let Life { store, runtime, engine, session } = self;
        drop(session);
        drop(engine);
        drop(runtime);
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
            let shutdown = self.engine.shutdown();
            self.runtime.block_on(shutdown).map_err(|e| text(&e))?;
        }
        self.crash(home)
    }

    /// Runs all statements of a text; the rows of the last one that has any.
    pub(crate) fn run(&mut self, sql: &str) -> Result<Vec<RecordBatch>, Diagnostic> {
        let session = &mut self.session;
        self.runtime.block_on(async {
            let outcome = run_all(session, sql).await;
            let end = session.end_of_pipeline(outcome.is_err()).await;
            let batches = outcome?;
            end?;
            Ok(batches)
        })
    }

    /// Appends rows to one stream, in one transaction, as its connector would.
    pub(crate) fn append(&self, input: &[Row]) -> Result<(), String> {
        let Some(first) = input.first() else { return Ok(()) };
        let catalog = self.engine.catalog();
        let object = catalog
            .objects()
            .find(|o| o.name.name == first.stream && o.stream().is_some())
            .ok_or_else(|| format!("no stream {}", first.stream))?;
        let fields: Vec<_> = input.iter().map(|row| row.fields.clone()).collect();
        let batch = rows::build(&object.schema(), &fields)?;
        let times: Vec<i64> = input.iter().map(|row| row.time_us).collect();
        let append = Append {
            stream: object.id,
            rows: batch,
            time: Some(Run::Each(times.into())),
            derived: None,
            at_offset: None,
        };
        let transaction = Transaction { appends: vec![append], ..Transaction::default() };
        let pending = self.engine.store().submit(transaction, Durability::Synced);
        self.runtime.block_on(pending.done()).map(drop).map_err(|e| e.to_string())
    }

    /// Waits until every query has seen everything.
    pub(crate) fn settle(&self) {
        self.runtime.block_on(self.engine.settle());
    }

    /// All rows of a stream, by offset; none when it does not exist.
    pub(crate) fn read(&mut self, stream: &str) -> Result<Vec<Found>, String> {
        let catalog = self.engine.catalog();
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
        self.engine.catalog().objects().any(|o| o.name.name == stream && o.stream().is_some())
    }

    /// Names of everything in the catalog.
    pub(crate) fn streams(&self) -> Vec<String> {
        self.engine.catalog().objects().map(|o| o.name.to_string()).collect()
    }

    /// The plan of a stream's query, as text.
    pub(crate) fn plan(&mut self, stream: &str) -> Result<String, String> {
        let catalog = self.engine.catalog();
        let object = catalog
            .objects()
            .find(|o| o.name.name == stream && o.stream().is_some())
            .ok_or_else(|| format!("no stream {stream}"))?;
        let explain = format!("EXPLAIN STREAM \"{}\".\"{}\"", object.name.schema, object.name.name);
        let batches = self.run(&explain).map_err(|e| text(&e))?;
        let mut lines = String::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                for column in batch.columns() {
                    if let Value::String(line) = rows::show(column, row)? {
                        lines.push_str(&same_in_both_languages(&line));
                    }
                }
            }
        }
        Ok(lines)
    }
}

/// A line of a plan without what may differ: indentation, names of scans (SQL qualifies them and
/// gives each an alias), and what the query has done so far.
fn same_in_both_languages(line: &str) -> String {
    let line = line.trim();
    if line.starts_with("State:") || line.starts_with("SubqueryAlias:") {
        return String::new();
    }
    line.replace("TableScan: public.", "TableScan: ") + "\n"
}

async fn run_all(session: &mut Session, sql: &str) -> Result<Vec<RecordBatch>, Diagnostic> {
    let mut batches = Vec::new();
    for statement in session.parse(sql)? {
        let prepared = session.prepare(sql, &statement, &[]).await?;
        if let Outcome::Rows { rows, .. } = session.execute(&prepared, Vec::new()).await? {
            batches = rows.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
        }
    }
    Ok(batches)
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
