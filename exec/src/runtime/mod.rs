//! Runs queries over a store.
//!
//! Each query is a task of its own with a durable position: for every input the next offset to
//! read. A step takes the waiting rows of all inputs below a common place in the global order
//! (which no input can still add to), pushes them through the graph, and submits output, changed
//! operator state and the new position as one transaction. Recovery, backfill and pausing follow
//! from that: continue at the position, begin at another one, stop reading.
//!
//! With workers, tasks run on the runtime's own threads and are woken by the store. Without, the
//! caller drives everything with [`Runtime::run_until_idle`], on its own thread and in a fixed
//! order (and not on an asynchronous task, since it waits for the store); both give the same rows with the same offsets.

mod dead_letter;
mod feed;
mod position;
mod query;
mod status;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;
use auspex_plan::ContinuousQuery;
use auspex_storage::{Append, SharedStore, StreamId, TableChange};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use dead_letter::{DeadLetter, dead_letters, late_rows};
pub use position::{generation_prefix, state_prefix};
pub use status::{Counters, QueryState, QueryStatus};

use crate::error::{ExecError, Result};
use crate::operator::Tap;
use query::{Query, Turn};
use task::{Command, SharedStatus, set_state, state_of};

/// Receives the lines of `.print` and `.log`. At least once: lines of rows that are replayed after
/// a crash come again.
pub type TapSink = Arc<dyn Fn(&Tap) + Send + Sync>;

/// Choices of a [`Runtime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Worker threads; 0 leaves the work to [`Runtime::run_until_idle`].
    pub workers: usize,
    /// Rows per input that go through a graph at once, at most (but rows of one place in the
    /// global order stay together).
    pub batch_rows: usize,
    /// Such batches per transaction, at most.
    pub batches_per_turn: usize,
    /// Input rows without output after which the position is saved all the same.
    pub commit_rows: u64,
    /// Dead letters kept per query, the newest.
    pub dead_letters_kept: u64,
    /// Bytes of operator state at which a query stops with a clear status, unless it has a limit of
    /// its own.
    pub max_state_bytes: u64,
    /// Milliseconds between checkpoints of a query that keeps state, at least; after a crash at
    /// most this much is computed again.
    pub checkpoint_ms: u64,
    /// A stream whose rows tell that time passes, see [`Runtime::waits_for_time`]; queries by time of
    /// arrival read it besides their own.
    pub ticks: Option<StreamId>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            batch_rows: 8192,
            batches_per_turn: 8,
            commit_rows: 65_536,
            dead_letters_kept: 1000,
            max_state_bytes: 1 << 30,
            checkpoint_ms: 1000,
            ticks: None,
        }
    }
}

/// A query to be run.
#[derive(Debug, Clone)]
pub struct QuerySpec {
    /// The stream it fills; also the query's name in this interface.
    pub id: StreamId,
    /// State of another generation is not used.
    pub generation: u32,
    /// What it computes; the plan optimised with [`crate::optimize`]. Its output columns may be
    /// null whatever the plan says (`on_error = null`), so the stream's must be nullable.
    pub plan: ContinuousQuery,
    /// First offset to be read of each input, when the query has no position yet; 0 (or the oldest
    /// row kept) for those not named.
    pub start: BTreeMap<StreamId, u64>,
    /// Whether it begins standing still.
    pub paused: bool,
    /// The table that follows the output.
    pub table: Option<Arc<dyn TableWriter>>,
    /// Bytes of operator state at which it stops; [`RuntimeOptions::max_state_bytes`] when `None`.
    pub max_state_bytes: Option<u64>,
}

/// Turns output rows into changes of a table, which are applied in the transaction that appends the
/// rows: each row once, also after a crash.
pub trait TableWriter: std::fmt::Debug + Send + Sync {
    /// What `rows` (of the output) mean. Those before row number `known` were applied before a
    /// restart: they only matter for what is refused.
    ///
    /// # Errors
    /// What stops the query, other than a row that does not fit the table.
    fn write(&self, rows: &RecordBatch, known: usize) -> Result<TableOutput>;
}

/// What the rows of a query do to its table.
#[derive(Debug, Default)]
pub struct TableOutput {
    /// Changes of the table, in order.
    pub changes: Vec<TableChange>,
    /// Further rows to be appended in the same transaction.
    pub appends: Vec<Append>,
    /// Rows, by their number, that do not fit the table, with the reason in words for the user;
    /// ascending. The query's policy for failing rows decides what becomes of them.
    pub refused: Vec<(usize, String)>,
}

/// How waiting for a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The stream has every row it should.
    Complete,
    /// It will not come: the query that fills this stream, on the way, stands still.
    Stalled(StreamId),
}

/// Runs queries. Shared by reference; all methods may be called from any thread.
pub struct Runtime {
    store: SharedStore,
    options: RuntimeOptions,
    tap: TapSink,
    queries: Mutex<BTreeMap<StreamId, Entry>>,
    /// Counts changes of the queries' states.
    changes: watch::Sender<u64>,
    /// See [`Runtime::end_input`].
    end: watch::Sender<u64>,
    workers: Option<tokio::runtime::Runtime>,
}

struct Entry {
    status: SharedStatus,
    state_limit: Arc<AtomicU64>,
    inputs: Vec<StreamId>,
    drive: Drive,
}

enum Drive {
    Worker { commands: mpsc::UnboundedSender<Command>, task: JoinHandle<()> },
    Caller(Arc<Mutex<Query>>),
}

impl Runtime {
    /// A runtime without queries. Lines of `.print` go to standard output and those of `.log` to
    /// the log; [`Runtime::with_tap`] sends them elsewhere.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn new(store: SharedStore, options: RuntimeOptions) -> Result<Runtime> {
        Runtime::with_tap(store, options, Arc::new(write_tap))
    }

    /// [`Runtime::new`] with a receiver for the lines of `.print` and `.log`.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn with_tap(store: SharedStore, options: RuntimeOptions, tap: TapSink) -> Result<Runtime> {
        let workers = match options.workers {
            0 => None,
            n => Some(
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(n)
                    .thread_name("auspex-exec")
                    .build()
                    .map_err(|e| ExecError::Plan(format!("starting worker threads: {e}")))?,
            ),
        };
        Ok(Runtime {
            store,
            options,
            tap,
            queries: Mutex::default(),
            changes: watch::Sender::new(0),
            end: watch::Sender::new(query::NO_END),
            workers,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Entry>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a query from its saved position, or from `spec.start` when it has none. Its output
    /// and input streams must exist in the store.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] and others of [`crate::build`]; [`ExecError::QueryExists`].
    pub fn start(&self, spec: QuerySpec) -> Result<()> {
        let id = spec.id;
        if self.lock().contains_key(&id) {
            return Err(ExecError::QueryExists(id));
        }
        let store = Arc::clone(&self.store);
        let (tap, end) = (Arc::clone(&self.tap), self.end.subscribe());
        let is_derived = |stream: StreamId| self.lock().contains_key(&stream);
        let query = Query::open(spec, store, self.options, tap, end, &is_derived)?;
        let (status, inputs) = (query.status(), query.inputs());
        let state_limit = query.state_limit();
        let drive = match &self.workers {
            None => Drive::Caller(Arc::new(Mutex::new(query))),
            Some(workers) => {
                let (commands, received) = mpsc::unbounded_channel();
                let store = Arc::clone(&self.store);
                let task = workers.spawn(task::run(query, store, received, self.changes.clone()));
                Drive::Worker { commands, task }
            }
        };
        self.lock().insert(id, Entry { status, state_limit, inputs, drive });
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Ends a query after its current step and saves its position. Its state stays in the store
    /// (see [`state_prefix`]).
    ///
    /// # Errors
    /// [`ExecError::UnknownQuery`].
    pub async fn stop(&self, id: StreamId) -> Result<()> {
        let entry = self.lock().remove(&id).ok_or(ExecError::UnknownQuery(id))?;
        self.changes.send_modify(|n| *n += 1);
        end(entry).await
    }

    /// Makes a query stand still, its position saved.
    ///
    /// # Errors
    /// [`ExecError::UnknownQuery`].
    pub async fn pause(&self, id: StreamId) -> Result<()> {
        self.tell(id, Command::Pause, |query, status, changes| {
            flush_now(query)?;
            set_state(status, QueryState::Paused, changes);
            Ok(())
        })
        .await
    }

    /// Lets a paused or failed query go on. One that failed on a row tries that row again; one
    /// that failed because its next rows were removed by retention continues with the oldest row
    /// kept and counts the rows lost.
    ///
    /// # Errors
    /// [`ExecError::UnknownQuery`].
    pub async fn resume(&self, id: StreamId) -> Result<()> {
        self.tell(id, Command::Resume, |query, status, changes| {
            match state_of(status) {
                QueryState::Running => return Ok(()),
                QueryState::Paused => lock_query(query).resume(false)?,
                QueryState::Failed(_) => lock_query(query).resume(true)?,
            }
            set_state(status, QueryState::Running, changes);
            Ok(())
        })
        .await
    }

    /// Makes the positions of all queries durable also where nothing was output since. To be
    /// called before retention removes rows, which queries would otherwise look for after a crash.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn flush(&self) -> Result<()> {
        let ids: Vec<StreamId> = self.lock().keys().copied().collect();
        for id in ids {
            match self.tell(id, Command::Flush, |query, _, _| flush_now(query)).await {
                // Stopped meanwhile.
                Err(ExecError::UnknownQuery(_)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Changes how many bytes of state a query may keep; `None` for the runtime's limit. One that
    /// has stopped at its limit goes on when it is resumed.
    ///
    /// # Errors
    /// [`ExecError::UnknownQuery`].
    pub fn limit_state(&self, id: StreamId, bytes: Option<u64>) -> Result<()> {
        let queries = self.lock();
        let entry = queries.get(&id).ok_or(ExecError::UnknownQuery(id))?;
        let bytes = bytes.unwrap_or(self.options.max_state_bytes);
        entry.state_limit.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    async fn tell(
        &self,
        id: StreamId,
        command: impl FnOnce(oneshot::Sender<()>) -> Command,
        directly: impl FnOnce(&Arc<Mutex<Query>>, &SharedStatus, &watch::Sender<u64>) -> Result<()>,
    ) -> Result<()> {
        let answered = {
            let queries = self.lock();
            let entry = queries.get(&id).ok_or(ExecError::UnknownQuery(id))?;
            match &entry.drive {
                Drive::Caller(query) => {
                    return directly(query, &entry.status, &self.changes);
                }
                Drive::Worker { commands, .. } => {
                    let (answer, answered) = oneshot::channel();
                    commands.send(command(answer)).map_err(|_| ExecError::Closed)?;
                    answered
                }
            }
        };
        answered.await.map_err(|_| ExecError::Closed)
    }

    /// How a query stands, `None` when there is none.
    pub fn status(&self, id: StreamId) -> Option<QueryStatus> {
        let status = Arc::clone(&self.lock().get(&id)?.status);
        let mut status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.lag = status
            .position
            .iter()
            .filter(|(stream, _)| self.options.ticks != Some(**stream))
            .map(|(stream, position)| {
                self.store.head(*stream).map_or(0, |head| head.next.saturating_sub(*position))
            })
            .sum();
        Some(status)
    }

    /// Whether a query that runs has something that comes out when time has passed by the clock of
    /// arrival, also when no row comes.
    pub fn waits_for_time(&self) -> bool {
        let waits = |entry: &Entry| {
            let status = entry.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.state == QueryState::Running && status.waits_for_time
        };
        self.lock().values().any(waits)
    }

    /// The output streams of all queries, ascending.
    pub fn queries(&self) -> Vec<StreamId> {
        self.lock().keys().copied().collect()
    }

    /// Waits until `stream` has every row below the global `sequence`, or cannot get there because
    /// a query on the way stands still. Source streams are always complete.
    ///
    /// # Errors
    /// When the stream does not exist.
    pub async fn wait_complete(&self, stream: StreamId, sequence: u64) -> Result<Waited> {
        let mut changes = self.changes.subscribe();
        let mut head = self.store.watch(stream)?;
        loop {
            changes.mark_unchanged();
            head.mark_unchanged();
            if self.store.head(stream)?.complete >= sequence || !self.lock().contains_key(&stream) {
                return Ok(Waited::Complete);
            }
            if let Some(standing) = self.stalled(stream) {
                return Ok(Waited::Stalled(standing));
            }
            tokio::select! {
                changed = head.changed() => {
                    if changed.is_err() {
                        return Err(auspex_storage::StorageError::UnknownStream(stream).into());
                    }
                }
                _ = changes.changed() => {}
            }
        }
    }

    /// A query that stands still among those that `stream` needs.
    fn stalled(&self, stream: StreamId) -> Option<StreamId> {
        let queries = self.lock();
        let mut seen = BTreeSet::new();
        let mut open = vec![stream];
        while let Some(id) = open.pop() {
            let Some(entry) = queries.get(&id) else { continue };
            if !seen.insert(id) {
                continue;
            }
            if state_of(&entry.status) != QueryState::Running {
                return Some(id);
            }
            open.extend(&entry.inputs);
        }
        None
    }

    /// Processes everything there is and everything that follows from it. Without workers the work
    /// is done here, query after query in the order of their ids; with workers this waits for
    /// them. Must not be called on an asynchronous task.
    ///
    /// # Errors
    /// Those of the store; a query that fails only changes its own status.
    pub fn run_until_idle(&self) -> Result<()> {
        let Some(workers) = &self.workers else {
            while self.run_once()? {}
            return Ok(());
        };
        let ended = *self.end.borrow() != query::NO_END;
        let sequence = self.store.sequence() + u64::from(ended);
        for id in self.queries() {
            workers.block_on(self.wait_complete(id, sequence))?;
        }
        Ok(())
    }

    /// Declares that no stream will get further rows: windows and patterns that are still open come to
    /// their end. Outputs follow as after any row; [`Runtime::run_until_idle`] waits for them.
    pub fn end_input(&self) {
        self.end.send_replace(self.store.sequence());
    }

    /// One turn of each query, without workers; false when there was nothing to do. What a crash
    /// between two turns may do is tested with this.
    pub(crate) fn run_once(&self) -> Result<bool> {
        let driven: Vec<(Arc<Mutex<Query>>, SharedStatus)> = self
            .lock()
            .values()
            .filter_map(|entry| match &entry.drive {
                Drive::Caller(query) => Some((Arc::clone(query), Arc::clone(&entry.status))),
                Drive::Worker { .. } => None,
            })
            .collect();
        let mut progress = false;
        for (query, status) in driven {
            if state_of(&status) != QueryState::Running {
                continue;
            }
            let mut query = lock_query(&query);
            let turn = query.turn();
            let settled = query.settle();
            match turn.and_then(|turn| settled.map(|()| turn)) {
                Ok(Turn::Idle) => {}
                Ok(Turn::Progress | Turn::Full | Turn::Settle) => progress = true,
                Err(error) => {
                    set_state(&status, QueryState::Failed(error.to_string()), &self.changes);
                    progress = true;
                }
            }
        }
        Ok(progress)
    }

    /// Ends all queries, their positions saved.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn shutdown(&self) -> Result<()> {
        let entries = std::mem::take(&mut *self.lock());
        self.changes.send_modify(|n| *n += 1);
        for entry in entries.into_values() {
            end(entry).await?;
        }
        Ok(())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            // Dropping it would wait, which an asynchronous task must not.
            workers.shutdown_background();
        }
    }
}

async fn end(entry: Entry) -> Result<()> {
    match entry.drive {
        Drive::Caller(query) => flush_now(&query),
        Drive::Worker { commands, task } => {
            // A task that has ended already needs no telling.
            let _ = commands.send(Command::Stop);
            task.await.map_err(|_| ExecError::Closed)
        }
    }
}

fn lock_query(query: &Mutex<Query>) -> MutexGuard<'_, Query> {
    query.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flush_now(query: &Arc<Mutex<Query>>) -> Result<()> {
    let mut query = lock_query(query);
    query.settle()?;
    query.flush()?;
    query.settle()
}

fn write_tap(tap: &Tap) {
    let text = &tap.text;
    match tap.level.as_deref() {
        None => println!("{text}"),
        Some("error") => tracing::error!(target: "auspex::pipeline", "{text}"),
        Some("warn") => tracing::warn!(target: "auspex::pipeline", "{text}"),
        Some("debug") => tracing::debug!(target: "auspex::pipeline", "{text}"),
        Some("trace") => tracing::trace!(target: "auspex::pipeline", "{text}"),
        Some(_) => tracing::info!(target: "auspex::pipeline", "{text}"),
    }
}
