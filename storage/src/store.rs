//! The interface of a store.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use tokio::sync::{oneshot, watch};

use crate::batch::{EventBatch, Run};
use crate::error::{Result, StorageError};

/// Number of a stream; the catalog's object id.
pub type StreamId = u32;
/// Number of a table; the catalog's object id.
pub type TableId = u32;

/// What the store must know of a stream to keep it.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// The stream.
    pub id: StreamId,
    /// Its own columns.
    pub schema: SchemaRef,
    /// Whether a continuous query fills it: then [`Head::complete`] is what the query declares
    /// with [`Store::set_complete`], otherwise it is the end of the global order.
    pub derived: bool,
    /// Rows that arrived longer ago than this (microseconds) may be removed.
    pub retention_age_us: Option<i64>,
    /// Stored bytes above this may be removed, oldest rows first.
    pub retention_bytes: Option<u64>,
}

/// When a transaction counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After it is synced to disk.
    Synced,
    /// After it is handed to the operating system: survives the end of the process, not of the
    /// machine. For what can be computed again from synced data.
    Buffered,
}

/// Rows for the end of one stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// Its own columns, in the schema of its [`StreamConfig`].
    pub rows: RecordBatch,
    /// Event times; `None` means the moment of arrival, which the store assigns.
    pub time: Option<Run>,
    /// For derived rows: places in the global order (of the triggering rows) and arrival times.
    /// `None` for new rows: the store assigns the next places and the present moment.
    pub derived: Option<(Run, Run)>,
    /// When given, the append only takes place at this offset: rows that the stream already has
    /// (offset below its end) are left out, and a gap is [`StorageError::Misuse`]. This is what
    /// makes replay idempotent.
    pub at_offset: Option<u64>,
}

/// A change of a table row. Keys compare as bytes.
#[derive(Debug, Clone)]
pub struct TableChange {
    /// The table.
    pub table: TableId,
    /// Encoded primary key.
    pub key: Vec<u8>,
    /// Encoded row, `None` to delete it.
    pub value: Option<Vec<u8>>,
}

/// Changes that are applied together or not at all, in this order: what is dropped, what is
/// created, the appends, the tables, the state, the catalog.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Rows for streams, in order.
    pub appends: Vec<Append>,
    /// Changes of tables, in order.
    pub tables: Vec<TableChange>,
    /// Named values to set (`None` removes): positions of queries and their operators' state.
    /// Keys compare as bytes.
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// A serialised catalog command, appended to the catalog's log.
    pub catalog: Option<Vec<u8>>,
    /// Streams to begin (with the transaction that creates them). Their numbers must be new.
    pub create_streams: Vec<StreamConfig>,
    /// Streams to remove with all their rows.
    pub drop_streams: Vec<StreamId>,
    /// Tables to remove with all their rows.
    pub drop_tables: Vec<TableId>,
    /// State key prefixes to remove with all their values.
    pub drop_state: Vec<Vec<u8>>,
}

/// What a transaction became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// For each append, in order, the offset of its first row that was not there yet.
    pub offsets: Vec<u64>,
    /// Global sequence after the transaction's last row: everything below is visible.
    pub sequence: u64,
}

/// A transaction on its way. Dropping it does not withdraw the transaction.
#[derive(Debug)]
pub struct Pending(pub oneshot::Receiver<Result<Committed>>);

impl Pending {
    /// Waits without blocking the thread.
    pub async fn done(self) -> Result<Committed> {
        self.0.await.unwrap_or(Err(StorageError::Closed))
    }

    /// Waits on this thread. Must not be called on an asynchronous task.
    pub fn wait(self) -> Result<Committed> {
        self.0.blocking_recv().unwrap_or(Err(StorageError::Closed))
    }
}

/// The visible end of a stream. `next` and `complete` never fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Offset of the oldest row kept.
    pub oldest: u64,
    /// Offset that the next row will get.
    pub next: u64,
    /// Every row with a global sequence below this is in the stream: for a source stream the end
    /// of the global order, for a derived stream what its query has said with
    /// [`Store::set_complete`]. [`Store::head`] gives the present value. A receiver of
    /// [`Store::watch`] for a source stream is only woken by changes of that stream, so there the
    /// value may be behind; who waits for a silent source waits on [`Store::watch_sequence`].
    pub complete: u64,
    /// Greatest event time of any row, `i64::MIN` when there was none.
    pub max_time: i64,
    /// The stream has been dropped; nothing follows.
    pub dropped: bool,
}

/// Figures of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Rows kept.
    pub rows: u64,
    /// Bytes stored for them.
    pub bytes: u64,
}

/// Bounds of one [`Store::read`]; reading stops at whichever is reached first, `rows` only after at
/// least one stored batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Rows.
    pub rows: usize,
    /// Offset not to be reached: no row at or after it is returned.
    pub until: u64,
}

/// Rows of a table: encoded key and encoded row.
pub type TableRows = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + Send>;

/// A store. All methods may be called from any thread; those that read block on the disk.
pub trait Store: Send + Sync + 'static {
    /// Hands in a transaction. Transactions are applied in the order of this call; errors (also of
    /// validation) arrive through [`Pending`]. A [`Durability::Buffered`] one that brings no new
    /// rows and creates or drops nothing is done when the call returns, and may overtake others.
    fn submit(&self, transaction: Transaction, durability: Durability) -> Pending;

    /// Stores the rows of a later [`Append`] (of new rows: neither `derived` nor `at_offset`) before
    /// its transaction is submitted, so that the commit of a large one is short. The result replaces the rows it was made from in
    /// [`Store::submit_staged`]; when dropped instead, its bytes are given back.
    fn stage(&self, append: Append) -> Result<Staged>;

    /// [`Store::submit`] with staged appends, applied before `transaction.appends`, in order. They
    /// come first in [`Committed::offsets`]. The call itself may wait for the disk.
    fn submit_staged(
        &self,
        staged: Vec<Staged>,
        transaction: Transaction,
        durability: Durability,
    ) -> Pending;

    /// Tells the store the schema and retention of streams that exist in the catalog. Called once
    /// per stream after opening, and again when retention changes.
    fn open_stream(&self, config: StreamConfig) -> Result<()>;

    /// [`Store::stage`] for the rows that follow those of `staged`: one statement's rows in a few
    /// large files instead of many small ones. `append` has the same stream and no `at_offset`.
    /// After an error `staged` is no longer of use and must be dropped.
    fn stage_next(&self, staged: &mut Staged, append: Append) -> Result<()>;

    /// The end of a stream, and its changes from now on.
    fn watch(&self, stream: StreamId) -> Result<watch::Receiver<Head>>;

    /// The end of a stream now, with the present [`Head::complete`].
    fn head(&self, stream: StreamId) -> Result<Head>;

    /// [`Store::sequence`], and its changes from now on. A change is announced after the heads of
    /// the streams that caused it.
    fn watch_sequence(&self) -> watch::Receiver<u64>;

    /// Declares that a derived stream has every row below this global sequence.
    fn set_complete(&self, stream: StreamId, sequence: u64) -> Result<()>;

    /// Everything with a global sequence below this is visible.
    fn sequence(&self) -> u64;

    /// Rows from offset `from` (inclusive) on, in order, as stored batches (the first one cut at
    /// `from`, neighbouring small ones joined, and the last one cut at `limit.until`). `projection` chooses columns by position, in that order. Empty when `from` is the
    /// end. [`StorageError::NotRetained`] when `from` is older than what is kept.
    fn read(
        &self,
        stream: StreamId,
        from: u64,
        limit: ReadLimit,
        projection: Option<&[usize]>,
    ) -> Result<Vec<EventBatch>>;

    /// The first retained offset whose row has an event time at or after `time_us` (the end when
    /// there is none).
    fn offset_at_time(&self, stream: StreamId, time_us: i64) -> Result<u64>;

    /// The first retained offset whose row has a global sequence at or after `sequence`.
    fn offset_at_sequence(&self, stream: StreamId, sequence: u64) -> Result<u64>;

    /// Figures of a stream.
    fn stats(&self, stream: StreamId) -> Result<StreamStats>;

    /// One row of a table.
    fn table_get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// All rows of a table ascending by key, as of the moment of the call.
    fn table_scan(&self, table: TableId) -> Result<TableRows>;

    /// A named value.
    fn state_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// All named values whose key begins with `prefix`, ascending by key.
    fn state_scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// The catalog's commands from the beginning.
    fn catalog_log(&self) -> Result<Vec<Vec<u8>>>;

    /// Removes rows beyond their streams' retention; `now_us` is the present moment. Returns the
    /// number of rows removed.
    fn sweep(&self, now_us: i64) -> Result<u64>;

    /// Makes a copy of everything that is visible now in a new directory, which can be opened as a
    /// store of its own. What is committed meanwhile goes on and may or may not be part of it, in
    /// the order of its commit. [`StorageError::Misuse`] when the store has no files.
    fn backup(&self, directory: &Path) -> Result<()>;

    /// Why the store accepts nothing more, when it does not.
    fn failure(&self) -> Option<StorageError>;

    /// Syncs everything and stops accepting transactions.
    fn close(&self) -> Result<()>;
}

/// Rows that are stored but belong to no stream yet. See [`Store::stage`].
pub struct Staged {
    /// Number of rows.
    pub rows: u64,
    /// The store's own handle; dropping it discards the rows.
    pub handle: Box<dyn std::any::Any + Send>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// A store shared by everything in the process.
pub type SharedStore = Arc<dyn Store>;
