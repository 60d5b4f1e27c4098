//! Putting transactions in order and on disk.
//!
//! One committer thread takes whatever waits, gives every new row its offset, its global sequence
//! and its arrival, writes one batch for the whole group, syncs it, makes the rows visible and
//! answers. While it syncs, the next group gathers. A transaction that breaks a rule is answered
//! and left out; the others of its group do not notice.
//!
//! Transactions that need no number from the committer (see `Prepared::is_independent`: rows of
//! continuous queries with their positions and state) are written on their caller's thread and do
//! not wait for anyone's sync. This is safe because what they hold was computed from rows that
//! were visible, hence synced; the write-ahead log loses only an end of itself in a crash of the
//! machine, so a position survives only with its rows, and what is lost is computed again with the
//! same offsets. Each stream's end is locked from placing its rows until they are visible, so both
//! ways keep a stream's order; locks are taken in ascending order of stream.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use crossbeam_channel::{Receiver, TryRecvError};
use rocksdb::{WriteBatch, WriteOptions};
use tokio::sync::oneshot;

use crate::clock::now_us;
use crate::error::{Result, StorageError};
use crate::rocks::place::{Placing, Visible};
use crate::rocks::prepare::Prepared;
use crate::rocks::stream::{End, Stream};
use crate::rocks::{Shared, cf, keys, write_error};
use crate::store::{Committed, Durability, StreamId};

/// A group takes no more transactions beyond either of these.
const GROUP_TRANSACTIONS: usize = 1024;
const GROUP_BYTES: usize = 32 << 20;

/// What is sent to the committer.
pub(crate) enum Order {
    /// Commit it.
    Commit(Box<Prepared>),
    /// Sync everything and stop.
    Stop,
}

/// The numbers that only the committer gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Global sequence of the next new row.
    pub(crate) sequence: u64,
    /// Greatest arrival given.
    pub(crate) last_arrival: i64,
}

impl Clock {
    fn record(&self) -> [u8; 16] {
        let mut record = [0; 16];
        record[..8].copy_from_slice(&self.sequence.to_le_bytes());
        record[8..].copy_from_slice(&self.last_arrival.to_le_bytes());
        record
    }
}

/// The committer's loop. Ends with [`Order::Stop`] or when nobody can send any more.
pub(crate) fn run(shared: &Shared, orders: &Receiver<Order>, mut clock: Clock) {
    let mut waiting: Option<Box<Prepared>> = None;
    loop {
        let first = match waiting.take().map_or_else(|| orders.recv(), |p| Ok(Order::Commit(p))) {
            Ok(Order::Commit(prepared)) => prepared,
            Ok(Order::Stop) | Err(_) => return,
        };
        let mut bytes = first.bytes();
        let mut alone = first.is_ddl();
        let mut group = vec![*first];
        let mut stop = false;
        while !alone && group.len() < GROUP_TRANSACTIONS && bytes < GROUP_BYTES {
            match orders.try_recv() {
                Ok(Order::Commit(next)) if next.is_ddl() => {
                    waiting = Some(next);
                    alone = true;
                }
                Ok(Order::Commit(next)) => {
                    bytes += next.bytes();
                    group.push(*next);
                }
                Ok(Order::Stop) => {
                    stop = true;
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        commit(shared, group, Some(&mut clock));
        if stop {
            return;
        }
    }
}

/// Commits transactions together, in their order. Without a clock all must be independent.
pub(crate) fn commit(shared: &Shared, group: Vec<Prepared>, clock: Option<&mut Clock>) {
    let streams = streams_of(shared, &group);
    let mut guards: BTreeMap<StreamId, MutexGuard<'_, End>> =
        streams.iter().map(|(id, stream)| (*id, stream.lock_end())).collect();

    let mut placing = Placing {
        shared,
        ends: guards.iter().map(|(id, end)| (*id, **end)).collect(),
        clock: clock.as_deref().copied(),
        now: clock.as_deref().map_or(0, |clock| now_us(clock.last_arrival)),
        batch: WriteBatch::default(),
        visible: Vec::new(),
    };
    let mut placed = Vec::with_capacity(group.len());
    let mut synced = false;
    let mut tables = false;
    let mut frees = false;
    for mut prepared in group {
        match placing.transaction(&mut prepared) {
            Ok(committed) => {
                synced |= prepared.durability == Durability::Synced;
                tables |= !prepared.rest.tables.is_empty();
                frees |= prepared.frees_space();
                placed.push((prepared, committed));
            }
            Err(error) => answer(prepared.answer, Err(error)),
        }
    }
    let Placing { ends, clock: new_clock, mut batch, visible, .. } = placing;
    if let Some(clock) = &new_clock {
        batch.put_cf(cf(&shared.db, keys::META), keys::CLOCK, clock.record());
    }
    if let Err(error) = write(shared, batch, synced, tables, frees) {
        for (prepared, _) in placed {
            answer(prepared.answer, Err(error.clone()));
        }
        return;
    }

    // Written: now the rows may be seen.
    let sequence = new_clock.map_or_else(|| shared.sequence(), |clock| clock.sequence);
    for (id, end) in &ends {
        if let Some(guard) = guards.get_mut(id) {
            **guard = *end;
        }
    }
    for batch in visible {
        match batch {
            Visible::Rows(stream, batch) => shared.tail.push(stream, batch),
            Visible::Bulk(stream) => shared.tail.clear(stream),
        }
    }
    for (id, stream) in &streams {
        let end = ends[id];
        let source = !stream.config().derived;
        stream.head.send_if_modified(|head| {
            let grown = end.next > head.next;
            head.next = end.next;
            head.max_time = end.max_time;
            if source {
                head.complete = head.complete.max(sequence);
            }
            grown
        });
    }
    if let (Some(clock), Some(new)) = (clock, new_clock) {
        *clock = new;
        shared.sequence.send_if_modified(|published| {
            std::mem::replace(published, new.sequence) != new.sequence
        });
    }
    drop(guards);
    for (mut prepared, committed) in placed {
        prepared.loads.iter_mut().for_each(|load| load.committed = true);
        shared.change_streams(&prepared);
        answer(prepared.answer, Ok(committed));
    }
}

fn answer(to: oneshot::Sender<Result<Committed>>, result: Result<Committed>) {
    // Whoever dropped its `Pending` does not want to know.
    let _ = to.send(result);
}

/// The streams that a group appends to or drops.
fn streams_of(shared: &Shared, group: &[Prepared]) -> BTreeMap<StreamId, Arc<Stream>> {
    let mut streams = BTreeMap::new();
    for prepared in group {
        let appended = prepared.appends.iter().map(|encoded| &encoded.stream);
        let loaded = prepared.loads.iter().map(|load| &load.stream);
        for stream in appended.chain(loaded) {
            streams.entry(stream.id).or_insert_with(|| stream.clone());
        }
        for &id in &prepared.rest.drop_streams {
            if let Ok(stream) = shared.stream(id) {
                streams.entry(id).or_insert(stream);
            }
        }
    }
    streams
}

/// Writes a batch, and syncs it when asked to. What frees space needs no room.
fn write(
    shared: &Shared,
    batch: WriteBatch,
    synced: bool,
    tables: bool,
    frees: bool,
) -> Result<()> {
    if let Some(error) = shared.refusal_to_write() {
        return Err(error);
    }
    if !frees {
        shared.demand_room(batch.size_in_bytes())?;
    }
    let mut options = WriteOptions::default();
    // Readers of tables see what RocksDB has; a log's rows are seen when its head says so. So only
    // with tables the sync must come before RocksDB shows the write, which makes independent
    // writers wait for it.
    let sync_first = synced && tables;
    options.set_sync(sync_first);
    let written = shared.db.write_opt(batch, &options).map_err(write_error);
    let result = match written {
        Ok(()) if synced && !sync_first => sync(shared),
        other => other,
    };
    if let Err(error @ StorageError::Failed(_)) = &result {
        shared.fail(error.clone());
    }
    result
}

/// Syncs the write-ahead log. After an error nobody knows what is on disk, so it is final.
pub(crate) fn sync(shared: &Shared) -> Result<()> {
    if shared.faults.sync_fails() {
        return Err(StorageError::Failed("sync: asked for by a test".into()));
    }
    shared
        .db
        .flush_wal(true)
        .map_err(|e| StorageError::Failed(format!("sync: {}", e.into_string())))
}
