//! The engine behind every way in: catalog, store and runtime put together.
//!
//! [`Engine::open`] brings everything up from a data directory (or memory); an [`Engine`] hands out
//! [`Session`]s. Statements are dispatched in `statement`, one file per family. There is no wire
//! format in here: see `server::pg` for the protocol and `server::cli` for embedded use.

pub mod api;
mod backup;
mod binding;
mod catalog;
mod checked;
mod context;
mod cursor;
mod ddl;
mod dml;
mod errors;
mod explain;
mod functions;
pub mod ingest;
mod marks;
pub(crate) mod notify;
mod program;
mod providers;
mod query;
mod session;
pub(crate) mod settings;
mod show;
mod statement;
mod subscribe;
mod system;
mod table;
mod ticks;
mod transaction;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use auspex_exec::runtime::{Runtime, RuntimeOptions};
use auspex_plan::Diagnostic;
use auspex_plan::catalog::{Catalog, Object, ObjectId, Retention};
use auspex_storage::{MemStore, RocksOptions, RocksStore, SharedStore, StreamConfig};

pub use api::{CancelToken, Notification, Outcome, Prepared, RowStream, TransactionStatus};
pub use session::Session;
pub use statement::Statement;

use context::PlanContext;
use notify::Hub;

/// How an engine is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Data directory; `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Worker threads of continuous queries.
    pub workers: usize,
    /// Most rows an operator is given at once.
    pub batch_rows: usize,
    /// Seconds between two sweeps for rows beyond their retention; 0 for none.
    pub sweep_seconds: u64,
    /// Bytes of state at which a query without a limit of its own stops.
    pub max_state_bytes: u64,
    /// Milliseconds between checkpoints of queries that keep state.
    pub checkpoint_ms: u64,
    /// Whether windows by time of arrival close although no row comes. Without, results are a
    /// function of the rows alone.
    pub ticks: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = RuntimeOptions::default();
        EngineOptions {
            data_dir: None,
            workers: cores,
            batch_rows: 8192,
            sweep_seconds: 10,
            max_state_bytes: runtime.max_state_bytes,
            checkpoint_ms: runtime.checkpoint_ms,
            ticks: false,
        }
    }
}

/// A database: what all sessions share.
pub struct Engine {
    pub(crate) store: SharedStore,
    pub(crate) runtime: Runtime,
    pub(crate) hub: Arc<Hub>,
    pub(crate) plans: PlanContext,
    catalog: RwLock<Arc<Catalog>>,
    /// Held by the one transaction that is changing the catalog.
    ddl_lock: Arc<tokio::sync::Mutex<()>>,
    /// Held by transactions that are changing a table.
    table_locks: Mutex<BTreeMap<ObjectId, Arc<tokio::sync::Mutex<()>>>>,
    next_pid: AtomicI32,
    sessions: Mutex<BTreeMap<i32, session::SessionInfo>>,
    rules: ingest::RulesCache,
}

impl Engine {
    /// Opens the data directory, restores the catalog and starts every continuous query from its
    /// last position. Must be called on a tokio runtime.
    pub fn open(options: EngineOptions) -> Result<Arc<Engine>, Diagnostic> {
        let store: SharedStore = match &options.data_dir {
            Some(dir) => {
                RocksStore::open(dir, &RocksOptions::default()).map_err(errors::storage)?
            }
            None => Arc::new(MemStore::new()),
        };
        Self::with_store(store, options)
    }

    /// [`Engine::open`] over a store that exists already.
    pub fn with_store(
        store: SharedStore,
        options: EngineOptions,
    ) -> Result<Arc<Engine>, Diagnostic> {
        let catalog = Arc::new(auspex_replication::replay(store.as_ref()).map_err(|e| {
            Diagnostic::error(auspex_plan::SqlState::DATA_CORRUPTED, e.to_string())
        })?);
        for object in catalog.objects() {
            if let Some(config) = stream_config(object) {
                store.open_stream(config).map_err(errors::storage)?;
            }
        }
        if options.ticks {
            store.open_stream(ticks::config()).map_err(errors::storage)?;
        }
        let runtime = Runtime::new(
            store.clone(),
            RuntimeOptions {
                workers: options.workers,
                batch_rows: options.batch_rows,
                max_state_bytes: options.max_state_bytes,
                checkpoint_ms: options.checkpoint_ms,
                ticks: options.ticks.then_some(ticks::STREAM),
                ..RuntimeOptions::default()
            },
        )
        .map_err(|e| errors::exec(&e))?;
        let engine = Arc::new(Engine {
            hub: Hub::new(store.clone(), tokio::runtime::Handle::current()),
            plans: PlanContext::new(),
            catalog: RwLock::new(catalog.clone()),
            ddl_lock: Arc::default(),
            table_locks: Mutex::default(),
            next_pid: AtomicI32::new(1000),
            sessions: Mutex::default(),
            rules: ingest::RulesCache::default(),
            store,
            runtime,
        });
        engine.restart_queries(&catalog);
        if options.sweep_seconds > 0 {
            tokio::spawn(sweep(Arc::downgrade(&engine), options.sweep_seconds));
        }
        if options.ticks {
            tokio::spawn(ticks::run(Arc::downgrade(&engine)));
        }
        Ok(engine)
    }

    /// The catalog as of now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_catalog(&self, catalog: Arc<Catalog>) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }

    /// A new session.
    pub fn session(self: &Arc<Self>, user: &str, database: &str) -> Session {
        let pid = self.next_pid.fetch_add(1, Ordering::Relaxed);
        Session::new(self.clone(), pid, user, database)
    }

    /// The store, for tools that read it directly.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// Why the store accepts nothing more, when it does not.
    pub fn failure(&self) -> Option<Diagnostic> {
        self.store.failure().map(errors::storage)
    }

    /// Stops the queries and syncs the store.
    pub async fn shutdown(&self) -> Result<(), Diagnostic> {
        self.runtime.shutdown().await.map_err(|e| errors::exec(&e))?;
        self.store.close().map_err(errors::storage)
    }

    /// Waits until every derived stream has processed everything that is in the log now, or cannot
    /// go on.
    pub async fn settle(&self) {
        let catalog = self.catalog();
        let ids: Vec<ObjectId> = catalog.objects().map(|o| o.id).collect();
        self.wait_for(&catalog, &ids, self.store.sequence()).await;
    }

    /// Declares that no stream gets further rows, and waits until every query has processed
    /// everything and closed its windows, or cannot go on.
    pub async fn end_input(&self) {
        self.runtime.end_input();
        let catalog = self.catalog();
        let ids: Vec<ObjectId> = catalog.objects().map(|o| o.id).collect();
        // The end has a place of its own behind all rows.
        self.wait_for(&catalog, &ids, self.store.sequence() + 1).await;
    }

    fn table_lock(&self, table: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.table_locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(table).or_default().clone()
    }
}

/// What the store must know of an object that has rows: a stream, or the changes of a table or
/// materialized view.
pub(crate) fn stream_config(object: &Object) -> Option<StreamConfig> {
    let retention = match object.log() {
        Some(stream) => stream.retention,
        // Queries that look rows up begin with the first change of the table.
        None => object.table().map(|_| Retention::default())?,
    };
    Some(StreamConfig {
        id: object.id,
        schema: object.log_schema(),
        derived: object.definition().is_some(),
        retention_age_us: retention.age_us,
        retention_bytes: retention.bytes,
    })
}

/// The present moment, microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// Removes rows beyond their retention for as long as the engine lives.
async fn sweep(engine: std::sync::Weak<Engine>, seconds: u64) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(seconds));
    loop {
        tick.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let store = engine.store.clone();
        // Positions first: a query must not look for rows that are gone after a crash.
        if let Err(e) = engine.runtime.flush().await {
            tracing::warn!(error = %e, "positions could not be saved; nothing is removed");
            continue;
        }
        drop(engine);
        let swept = tokio::task::spawn_blocking(move || store.sweep(now_us())).await;
        match swept {
            Ok(Ok(0)) => {}
            Ok(Ok(rows)) => tracing::debug!(rows, "removed rows beyond their retention"),
            Ok(Err(e)) => tracing::warn!(error = %e, "retention sweep failed"),
            Err(_) => return,
        }
    }
}
