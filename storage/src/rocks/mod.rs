//! The store on disk: one RocksDB per data directory.
//!
//! | part | file |
//! |---|---|
//! | opening, format, sizes | `open` |
//! | a transaction on its caller's thread: checks, encoding | `prepare` |
//! | order, group commit, visibility; offsets and what is written | `commit`, `place` |
//! | bulk loads | `stage` |
//! | reading, searching by time and place | `read` |
//! | retention, room on the disk | `sweep`, `space` |
//! | keys, index entries, what is in memory of a stream | `keys`, `entry`, `stream`, `tail` |

mod commit;
mod entry;
mod faults;
mod keys;
mod open;
mod place;
mod prepare;
mod read;
mod space;
mod stage;
mod stream;
mod sweep;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, ReadOptions};
use tokio::sync::{oneshot, watch};

use crate::batch::EventBatch;
use crate::error::{Result, StorageError};
use crate::rocks::commit::Order;
use crate::rocks::faults::Faults;
use crate::rocks::prepare::Prepared;
use crate::rocks::stage::Load;
use crate::rocks::stream::Stream;
use crate::rocks::tail::Tail;
use crate::store::{
    Append, Committed, Durability, Head, Pending, ReadLimit, Staged, Store, StreamConfig, StreamId,
    StreamStats, TableId, TableRows, Transaction,
};

pub use open::RocksOptions;

/// Transactions that may wait for the committer; more wait in [`Store::submit`].
const QUEUE: usize = 4096;

/// A store on disk.
pub struct RocksStore {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What the committer and all callers use together.
pub(crate) struct Shared {
    pub(crate) db: DB,
    streams: RwLock<HashMap<StreamId, Arc<Stream>>>,
    pub(crate) tail: Tail,
    pub(crate) sequence: watch::Sender<u64>,
    /// Number of the next catalog command.
    pub(crate) next_command: AtomicU64,
    /// Directory of files that RocksDB has not taken over.
    pub(crate) staging: PathBuf,
    /// Number of the next file in `staging`.
    pub(crate) next_file: AtomicU64,
    pub(crate) failure: OnceLock<StorageError>,
    closed: AtomicBool,
    pub(crate) faults: Faults,
}

impl RocksStore {
    /// Opens the store in a directory, creating both when missing. Fails when another process has
    /// it open, and when its format is not known.
    pub fn open(path: impl AsRef<Path>, options: &RocksOptions) -> Result<Arc<RocksStore>> {
        let path = path.as_ref();
        let db = open::open(path, options)?;
        let staging = path.join("staging");
        stage::clean_up(&db, &staging)?;
        let clock = open::read_clock(&db)?;
        let shared = Arc::new(Shared {
            streams: RwLock::default(),
            tail: Tail::new(options.tail_bytes),
            sequence: watch::Sender::new(clock.sequence),
            next_command: AtomicU64::new(open::next_command(&db)?),
            staging,
            next_file: AtomicU64::new(0),
            failure: OnceLock::new(),
            closed: AtomicBool::new(false),
            faults: Faults::default(),
            db,
        });
        let (orders, received) = crossbeam_channel::bounded(QUEUE);
        let committer = std::thread::Builder::new()
            .name("auspex-commit".into())
            .spawn({
                let shared = shared.clone();
                move || commit::run(&shared, &received, clock)
            })
            .map_err(|e| StorageError::Io(e.to_string()))?;
        Ok(Arc::new(RocksStore { shared, orders, committer: Mutex::new(Some(committer)) }))
    }

    fn stop(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer {
            // Both fail only when the thread has ended already.
            let _ = self.orders.send(Order::Stop);
            let _ = committer.join();
        }
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    pub(crate) fn stream(&self, id: StreamId) -> Result<Arc<Stream>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(&id).cloned().ok_or(StorageError::UnknownStream(id))
    }

    pub(crate) fn all_streams(&self) -> Vec<Arc<Stream>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.values().cloned().collect()
    }

    pub(crate) fn sequence(&self) -> u64 {
        *self.sequence.borrow()
    }

    /// Why a transaction is not even looked at.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        if self.closed.load(Ordering::SeqCst) {
            return Some(StorageError::Closed);
        }
        self.refusal_to_write()
    }

    /// Why nothing is written any more. (Closing still writes what was handed in.)
    pub(crate) fn refusal_to_write(&self) -> Option<StorageError> {
        self.failure.get().cloned()
    }

    /// Fails when the disk has no room for so many bytes.
    pub(crate) fn demand_room(&self, bytes: usize) -> Result<()> {
        if self.faults.is_full() {
            return Err(StorageError::DiskFull);
        }
        space::demand(&self.db, bytes)
    }

    /// From now on nothing is written. Only the first reason is kept.
    pub(crate) fn fail(&self, error: StorageError) {
        tracing::error!(%error, "storage failed");
        let _ = self.failure.set(error);
    }

    /// Checks that what a transaction creates and drops can be created and dropped.
    pub(crate) fn check_streams(&self, prepared: &Prepared) -> Result<()> {
        for id in &prepared.rest.drop_streams {
            self.stream(*id)?;
        }
        for stream in &prepared.created {
            if self.stream(stream.id).is_ok() {
                return Err(StorageError::Misuse(format!("stream {} exists", stream.id)));
            }
        }
        Ok(())
    }

    /// After the commit: the streams there are now.
    pub(crate) fn change_streams(&self, prepared: &Prepared) {
        if !prepared.is_ddl() {
            return;
        }
        if prepared.rest.catalog.is_some() {
            self.next_command.fetch_add(1, Ordering::Relaxed);
        }
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        for id in &prepared.rest.drop_streams {
            // Its end says so already, so nobody appends to it.
            if let Some(stream) = streams.remove(id) {
                stream.head.send_modify(|head| head.dropped = true);
                self.tail.clear(*id);
                if let Some(after) = keys::after(&keys::prefix(*id)) {
                    sweep::give_back(&self.db, &keys::prefix(*id), &after);
                }
            }
        }
        for stream in &prepared.created {
            streams.insert(stream.id, stream.clone());
        }
    }
}

impl Store for RocksStore {
    fn submit(&self, transaction: Transaction, durability: Durability) -> Pending {
        self.submit_staged(Vec::new(), transaction, durability)
    }

    fn stage(&self, append: Append) -> Result<Staged> {
        let stream = self.shared.stream(append.stream)?;
        let load = Load::new(self.shared.clone(), stream);
        let mut staged = Staged { rows: 0, handle: Box::new(load) };
        self.stage_next(&mut staged, append)?;
        Ok(staged)
    }

    fn stage_next(&self, staged: &mut Staged, append: Append) -> Result<()> {
        let load = staged.handle.downcast_mut::<Load>().filter(|l| l.belongs_to(&self.shared));
        let Some(load) = load else {
            return Err(StorageError::Misuse("rows were staged in another store".into()));
        };
        let rows = append.rows.num_rows() as u64;
        load.push(append)?;
        staged.rows += rows;
        Ok(())
    }

    fn submit_staged(
        &self,
        staged: Vec<Staged>,
        transaction: Transaction,
        durability: Durability,
    ) -> Pending {
        let (answer, pending) = oneshot::channel::<Result<Committed>>();
        // The receiver of an answer is alive: it is returned below.
        match Prepared::new(&self.shared, staged, transaction, durability, answer) {
            Err((error, answer)) => drop(answer.send(Err(error))),
            Ok(prepared) if prepared.is_independent() => {
                commit::commit(&self.shared, vec![prepared], None);
            }
            Ok(prepared) => {
                if let Err(unsent) = self.orders.send(Order::Commit(Box::new(prepared)))
                    && let Order::Commit(prepared) = unsent.0
                {
                    drop(prepared.answer.send(Err(StorageError::Closed)));
                }
            }
        }
        Pending(pending)
    }

    fn open_stream(&self, config: StreamConfig) -> Result<()> {
        let mut streams = self.shared.streams.write().unwrap_or_else(PoisonError::into_inner);
        match streams.get(&config.id) {
            Some(stream) => stream.set_config(config),
            None => {
                let stream = Stream::load(&self.shared.db, config)?;
                streams.insert(stream.id, Arc::new(stream));
            }
        }
        Ok(())
    }

    fn watch(&self, stream: StreamId) -> Result<watch::Receiver<Head>> {
        // Before the head: what is complete up to here is in it.
        let sequence = self.sequence();
        let stream = self.shared.stream(stream)?;
        if !stream.config().derived {
            stream.head.send_if_modified(|head| {
                head.complete = head.complete.max(sequence);
                false
            });
        }
        Ok(stream.head.subscribe())
    }

    fn head(&self, stream: StreamId) -> Result<Head> {
        Ok(*self.watch(stream)?.borrow())
    }

    fn watch_sequence(&self) -> watch::Receiver<u64> {
        self.shared.sequence.subscribe()
    }

    fn set_complete(&self, stream: StreamId, sequence: u64) -> Result<()> {
        self.shared.stream(stream)?.head.send_if_modified(|head| {
            let grown = sequence > head.complete;
            head.complete = head.complete.max(sequence);
            grown
        });
        Ok(())
    }

    fn sequence(&self) -> u64 {
        self.shared.sequence()
    }

    fn read(
        &self,
        stream: StreamId,
        from: u64,
        limit: ReadLimit,
        projection: Option<&[usize]>,
    ) -> Result<Vec<EventBatch>> {
        read::read(&self.shared, stream, from, limit, projection)
    }

    fn offset_at_time(&self, stream: StreamId, time_us: i64) -> Result<u64> {
        read::offset_at_time(&self.shared, stream, time_us)
    }

    fn offset_at_sequence(&self, stream: StreamId, sequence: u64) -> Result<u64> {
        read::offset_at_sequence(&self.shared, stream, sequence)
    }

    fn stats(&self, stream: StreamId) -> Result<StreamStats> {
        read::stats(&self.shared, stream)
    }

    fn table_get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let db = &self.shared.db;
        db.get_cf(cf(db, keys::TABLE), keys::table_row(table, key)).map_err(read_error)
    }

    fn table_scan(&self, table: TableId) -> Result<TableRows> {
        let rows = self.shared.scan(keys::TABLE, &keys::prefix(table), 4)?;
        Ok(Box::new(rows.into_iter().map(Ok)))
    }

    fn state_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let db = &self.shared.db;
        db.get_cf(cf(db, keys::STATE), key).map_err(read_error)
    }

    fn state_scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.shared.scan(keys::STATE, prefix, 0)
    }

    fn catalog_log(&self) -> Result<Vec<Vec<u8>>> {
        let commands = self.shared.scan(keys::CATALOG, &[], 0)?;
        Ok(commands.into_iter().map(|(_, command)| command).collect())
    }

    fn sweep(&self, now_us: i64) -> Result<u64> {
        sweep::sweep(&self.shared, now_us)
    }

    fn backup(&self, directory: &Path) -> Result<()> {
        // Before anything is looked at: what is in memory has to fit on the disk.
        self.shared.demand_room(0)?;
        let checkpoint = Checkpoint::new(&self.shared.db).map_err(read_error)?;
        checkpoint.create_checkpoint(directory).map_err(read_error)
    }

    fn failure(&self) -> Option<StorageError> {
        self.shared.refusal_to_write()
    }

    fn close(&self) -> Result<()> {
        self.stop();
        match self.failure() {
            Some(error) => Err(error),
            None => commit::sync(&self.shared),
        }
    }
}

impl Shared {
    /// All pairs whose key begins with `prefix`, the first `cut` bytes of the keys left out.
    fn scan(&self, family: &str, prefix: &[u8], cut: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(prefix);
        if let Some(after) = keys::after(prefix) {
            options.set_iterate_upper_bound(after);
        }
        let mut pairs = self.db.raw_iterator_cf_opt(cf(&self.db, family), options);
        pairs.seek_to_first();
        let mut rows = Vec::new();
        while let Some((key, value)) = pairs.item() {
            rows.push((key[cut..].to_vec(), value.to_vec()));
            pairs.next();
        }
        pairs.status().map_err(read_error)?;
        Ok(rows)
    }
}

/// A column family of ours.
fn cf<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("opening created all column families")
}

fn read_error(error: rocksdb::Error) -> StorageError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StorageError::Corrupted(error.into_string()),
        _ => StorageError::Io(error.into_string()),
    }
}

/// A failed write: the disk is full (RocksDB goes on by itself when there is space again), or
/// nothing is known any more.
fn write_error(error: rocksdb::Error) -> StorageError {
    let text = error.into_string();
    match text.contains("No space left on device") {
        true => StorageError::DiskFull,
        false => StorageError::Failed(text),
    }
}
