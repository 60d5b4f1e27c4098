//! An engine inside a program: no server, no client, everything in memory (or in a given store).
//!
//! `auspex run` and the script tests use it. Statements, rows and results take the way they take
//! in the server, through a [`Session`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringViewArray};
use arrow::record_batch::RecordBatch;
use auspex_connect::Place;
use auspex_exec::runtime::{DeadLetter, QueryState, QueryStatus, dead_letters};
use auspex_plan::catalog::{Column, Object, ObjectId};
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use auspex_storage::{EventBatch, MemStore, ReadLimit, SharedStore};
use datafusion::common::ScalarValue;
use futures::TryStreamExt;

use crate::engine::{Engine, EngineOptions, Outcome, Session};
use crate::pg::decode;
use crate::pg::zone::Zone;

/// An engine with one session and the threads it runs on.
pub struct Embedded {
    session: Session,
    engine: Arc<Engine>,
    runtime: tokio::runtime::Runtime,
}

/// Rows for one stream, in the order in which they happened.
pub struct Arrivals {
    /// The stream.
    pub stream: ObjectId,
    /// Its columns, by name; some may be missing.
    pub rows: RecordBatch,
    /// Event times, microseconds since 1970, for a stream that declares no column for it.
    pub time: Vec<i64>,
    /// Where each row was read, for errors; may be empty.
    pub places: Vec<Place>,
}

impl Embedded {
    /// An engine whose rows live in memory.
    pub fn in_memory(workers: usize, batch_rows: usize) -> Result<Embedded, Diagnostic> {
        let options = EngineOptions { workers, batch_rows, ..EngineOptions::default() };
        Embedded::with_store(Arc::new(MemStore::new()), options)
    }

    /// An engine over a store that exists already. Nothing is swept from it.
    pub fn with_store(store: SharedStore, options: EngineOptions) -> Result<Embedded, Diagnostic> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| {
                Diagnostic::error(SqlState::INTERNAL_ERROR, format!("cannot start threads: {e}"))
            })?;
        let options = EngineOptions { data_dir: None, sweep_seconds: 0, ..options };
        let engine = {
            let _inside = runtime.enter();
            Engine::with_store(store, options)?
        };
        let session = engine.session("auspex", "auspex");
        Ok(Embedded { session, engine, runtime })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Runs all statements of a text as one transaction; the rows of the last one that has any.
    pub fn run(&mut self, text: &str) -> Result<Vec<RecordBatch>, Diagnostic> {
        let session = &mut self.session;
        self.runtime.block_on(async {
            let outcome = run_all(session, text).await;
            let ended = session.end_of_pipeline(outcome.is_err()).await;
            let rows = outcome?;
            ended?;
            Ok(rows)
        })
    }

    /// Creates the objects of a VPL program. `infer` has the columns of event types that it uses
    /// and does not declare.
    pub fn load_vpl(
        &mut self,
        text: &str,
        infer: &BTreeMap<String, Vec<Column>>,
    ) -> Result<(), Diagnostic> {
        let session = &mut self.session;
        self.runtime.block_on(async {
            let loaded = session.load_vpl(text, infer).await;
            let ended = session.end_of_pipeline(loaded.is_err()).await;
            loaded.and(ended)
        })
    }

    /// Warnings since the last call.
    pub fn take_notices(&mut self) -> Vec<Diagnostic> {
        self.session.take_notices()
    }

    /// Appends rows in one transaction. `order` are the pieces in order of arrival: which of
    /// `arrivals`, and how many of its next rows.
    pub fn append(
        &mut self,
        arrivals: Vec<Arrivals>,
        order: &[(usize, usize)],
    ) -> Result<(), Diagnostic> {
        let mut complete = Vec::with_capacity(arrivals.len());
        for Arrivals { stream, rows, time, places } in arrivals {
            let rows = canonical_json(&rows)?;
            match self.session.complete_rows(stream, &rows, time) {
                Ok(rows) => complete.push((rows, 0)),
                Err(error) => return Err(self.located(stream, &rows, &places).unwrap_or(error)),
            }
        }
        for (which, len) in order {
            let (rows, from) = &mut complete[*which];
            self.session.append_rows(rows, *from, *len);
            *from += len;
        }
        self.runtime.block_on(self.session.end_of_pipeline(false))
    }

    /// The error of the first row that is refused, with its place.
    fn located(
        &self,
        stream: ObjectId,
        rows: &RecordBatch,
        places: &[Place],
    ) -> Option<Diagnostic> {
        places.iter().enumerate().find_map(|(row, place)| {
            let alone = self.session.complete_rows(stream, &rows.slice(row, 1), vec![0]);
            alone.err().map(|error| error.context(place.to_string()))
        })
    }

    /// Waits until every query has processed everything, or cannot go on.
    pub fn settle(&self) {
        self.runtime.block_on(self.engine.settle());
    }

    /// Declares that no stream gets further rows: windows close. Waits until every query has put
    /// out what follows, or cannot go on.
    pub fn end_input(&self) {
        self.runtime.block_on(self.engine.end_input());
    }

    /// The stream called `name`, exactly or in another case.
    pub fn stream(&self, name: &str) -> Option<Object> {
        let catalog = self.engine.catalog();
        let found = catalog.resolve(auspex_plan::catalog::DEFAULT_SCHEMA, name);
        found.filter(|o| o.stream().is_some()).cloned()
    }

    /// Derived streams in order of creation.
    pub fn derived(&self) -> Vec<Object> {
        let catalog = self.engine.catalog();
        let derived = |o: &&Object| o.definition().is_some();
        catalog.objects().filter(derived).cloned().collect()
    }

    /// Rows of a stream from an offset on.
    pub fn read(&self, stream: ObjectId, from: u64) -> Result<Vec<EventBatch>, Diagnostic> {
        let limit = ReadLimit { rows: usize::MAX, until: u64::MAX };
        self.engine.store().read(stream, from, limit, None).map_err(|e| {
            Diagnostic::error(SqlState::INTERNAL_ERROR, format!("reading the output: {e}"))
        })
    }

    /// How the query of a derived stream stands.
    pub fn status(&self, stream: ObjectId) -> Option<QueryStatus> {
        self.engine.runtime.status(stream)
    }

    /// Why a query stands still, when it does.
    pub fn failure(&self, stream: ObjectId) -> Option<String> {
        match self.status(stream)?.state {
            QueryState::Failed(reason) => Some(reason),
            QueryState::Running | QueryState::Paused => None,
        }
    }

    /// The newest dead letters of a derived stream, oldest first.
    pub fn dead_letters(&self, stream: &Object) -> Vec<DeadLetter> {
        let generation = stream.definition().map_or(0, |d| d.generation);
        dead_letters(self.engine.store().as_ref(), stream.id, generation).unwrap_or_default()
    }

    /// Ends in order: queries stopped, everything synced. Dropping it instead ends it as a crash
    /// would.
    pub fn shutdown(&self) -> Result<(), Diagnostic> {
        self.runtime.block_on(self.engine.shutdown())
    }
}

async fn run_all(session: &mut Session, text: &str) -> Result<Vec<RecordBatch>, Diagnostic> {
    let mut last = Vec::new();
    for statement in session.parse(text)? {
        let prepared = session.prepare(text, &statement, &[]).await?;
        match session.execute(&prepared, Vec::new()).await? {
            Outcome::Rows { rows, .. } => last = rows.try_collect().await?,
            Outcome::CopyIn(_) | Outcome::CopyOut { .. } => {
                return Err(Diagnostic::unsupported("COPY needs a client"));
            }
            Outcome::Done(_) | Outcome::Empty => {}
        }
    }
    Ok(last)
}

/// The rows with their jsonb columns in the form in which all of them are kept.
fn canonical_json(rows: &RecordBatch) -> Result<RecordBatch, Diagnostic> {
    let schema = rows.schema();
    let mut columns = rows.columns().to_vec();
    for (field, column) in schema.fields().iter().zip(&mut columns) {
        if ColumnType::from_field(field) != Some(ColumnType::Jsonb) {
            continue;
        }
        let canonical = |text: Option<&str>| -> Result<Option<String>, Diagnostic> {
            let Some(text) = text else { return Ok(None) };
            match decode::text(&ColumnType::Jsonb, text, Zone::UTC)? {
                ScalarValue::Utf8View(text) => Ok(text),
                other => Ok(Some(other.to_string())),
            }
        };
        let texts = column.as_string_view().iter().map(canonical);
        let array: StringViewArray = texts.collect::<Result<Vec<_>, _>>()?.into_iter().collect();
        *column = Arc::new(array) as ArrayRef;
    }
    RecordBatch::try_new(schema, columns)
        .map_err(|e| Diagnostic::error(SqlState::INTERNAL_ERROR, e.to_string()))
}
