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

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard};

use crossbeam_channel::{Receiver, TryRecvError};
use rocksdb::{WriteBatch, WriteOptions};
use tokio::sync::oneshot;

use crate::batch::{EventBatch, Run};
use crate::check::{check_order, rows_to_skip};
use crate::clock::now_us;
use crate::error::{Result, StorageError};
use crate::rocks::entry::{ENTRY_LEN, Entry, RunForm};
use crate::rocks::prepare::{INLINE, Prepared};
use crate::rocks::stage::{Load, Place};
use crate::rocks::stream::{End, Stream};
use crate::rocks::{Shared, cf, keys, write_error};
use crate::store::{Append, Committed, Durability, StreamId};

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

/// What a reader will see of a group.
enum Visible {
    Rows(StreamId, EventBatch),
    /// Rows that are only on disk.
    Bulk(StreamId),
}

/// Numbers and writes of a group as far as it is placed.
struct Placing<'a> {
    shared: &'a Shared,
    ends: HashMap<StreamId, End>,
    clock: Option<Clock>,
    now: i64,
    batch: WriteBatch,
    visible: Vec<Visible>,
}

/// The same for one transaction, thrown away when it breaks a rule.
struct Draft {
    ends: HashMap<StreamId, End>,
    clock: Option<Clock>,
    entries: Vec<(StreamId, u64, Vec<u8>)>,
    chunks: Vec<(StreamId, u64, Vec<u8>)>,
    visible: Vec<Visible>,
}

/// Rows of one append with their numbers.
struct Numbered {
    offset: u64,
    sequence: Run,
    time: Run,
    ingested: Run,
}

impl Placing<'_> {
    fn transaction(&mut self, prepared: &mut Prepared) -> Result<Committed> {
        if let Some(error) = self.shared.refusal_to_write() {
            return Err(error);
        }
        self.shared.check_streams(prepared)?;
        let mut draft = Draft {
            ends: self.ends.clone(),
            clock: self.clock,
            entries: Vec::new(),
            chunks: Vec::new(),
            visible: Vec::new(),
        };
        let mut offsets = Vec::with_capacity(prepared.loads.len() + prepared.appends.len());
        for load in &mut prepared.loads {
            offsets.push(draft.load(load, self.now)?);
        }
        for encoded in &mut prepared.appends {
            let end = draft.end(&encoded.stream, &prepared.rest.drop_streams)?;
            let skip = rows_to_skip(&encoded.append, end.next)?;
            encoded.skip(skip)?;
            let payload = std::mem::take(&mut encoded.payload);
            offsets.push(draft.append(&encoded.stream, &encoded.append, payload, self.now)?);
        }
        self.take(draft, prepared);
        let sequence = self.clock.map_or_else(|| self.shared.sequence(), |clock| clock.sequence);
        Ok(Committed { offsets, sequence })
    }

    fn take(&mut self, draft: Draft, prepared: &Prepared) {
        let db = &self.shared.db;
        self.ends = draft.ends;
        self.clock = draft.clock;
        self.visible.extend(draft.visible);
        self.drop_things(prepared);
        let (index, chunks) = (cf(db, keys::INDEX), cf(db, keys::CHUNK));
        for (stream, offset, entry) in draft.entries {
            self.batch.put_cf(index, keys::numbered(stream, offset), entry);
        }
        for (stream, number, payload) in draft.chunks {
            self.batch.put_cf(chunks, keys::numbered(stream, number), payload);
        }
        for load in &prepared.loads {
            for &block in &load.blocks {
                self.batch.delete_cf(cf(db, keys::META), keys::loading(load.stream.id, block));
            }
        }
        for change in &prepared.rest.tables {
            let key = keys::table_row(change.table, &change.key);
            put_or_delete(&mut self.batch, cf(db, keys::TABLE), &key, change.value.as_deref());
        }
        for (key, value) in &prepared.rest.state {
            put_or_delete(&mut self.batch, cf(db, keys::STATE), key, value.as_deref());
        }
        if let Some(command) = &prepared.rest.catalog {
            let number = self.shared.next_command.load(std::sync::atomic::Ordering::Relaxed);
            self.batch.put_cf(cf(db, keys::CATALOG), number.to_be_bytes(), command);
        }
    }

    fn drop_things(&mut self, prepared: &Prepared) {
        let db = &self.shared.db;
        for &stream in &prepared.rest.drop_streams {
            if let Some(end) = self.ends.get_mut(&stream) {
                end.dropped = true;
            }
            for family in [keys::INDEX, keys::CHUNK] {
                delete_prefix(&mut self.batch, db, family, &keys::prefix(stream));
            }
            self.batch.delete_cf(cf(db, keys::META), keys::end(stream));
        }
        for &table in &prepared.rest.drop_tables {
            delete_prefix(&mut self.batch, db, keys::TABLE, &keys::prefix(table));
        }
        for prefix in &prepared.rest.drop_state {
            delete_prefix(&mut self.batch, db, keys::STATE, prefix);
        }
    }
}

fn put_or_delete(
    batch: &mut WriteBatch,
    family: &rocksdb::ColumnFamily,
    key: &[u8],
    value: Option<&[u8]>,
) {
    match value {
        Some(value) => batch.put_cf(family, key, value),
        None => batch.delete_cf(family, key),
    }
}

/// Deletes all keys that begin with `prefix`.
fn delete_prefix(batch: &mut WriteBatch, db: &rocksdb::DB, family: &str, prefix: &[u8]) {
    // Keys of ours do not begin with 64 times 255.
    let after = keys::after(prefix).unwrap_or_else(|| vec![u8::MAX; 64]);
    batch.delete_range_cf(cf(db, family), prefix, after.as_slice());
}

impl Draft {
    fn end(&self, stream: &Stream, dropped: &[StreamId]) -> Result<End> {
        match self.ends.get(&stream.id) {
            Some(end) if !end.dropped && !dropped.contains(&stream.id) => Ok(*end),
            _ => Err(StorageError::UnknownStream(stream.id)),
        }
    }

    /// Places the rows of a bulk load; gives the first offset.
    fn load(&mut self, load: &mut Load, now: i64) -> Result<u64> {
        let stream = load.stream.clone();
        let start = self.end(&stream, &[])?.next;
        let kept = load.is_kept();
        if !kept {
            self.visible.push(Visible::Bulk(stream.id));
        }
        for piece in &mut load.pieces {
            let (inline, chunk) = match &mut piece.place {
                Place::Inline(payload) => (std::mem::take(payload), None),
                Place::Chunk(number) => (Vec::new(), Some(*number)),
            };
            let numbered = self.number(&stream, &piece.append, piece.rows, now)?;
            self.index(&stream, &numbered, piece.rows, piece.payload_bytes, chunk, &inline)?;
            if kept {
                self.show(&stream, &piece.append, numbered);
            }
        }
        Ok(start)
    }

    /// Places the rows of an append; gives the first offset.
    fn append(
        &mut self,
        stream: &Stream,
        append: &Append,
        payload: Vec<u8>,
        now: i64,
    ) -> Result<u64> {
        let rows = append.rows.num_rows();
        let numbered = self.number(stream, append, rows, now)?;
        let offset = numbered.offset;
        if rows == 0 {
            return Ok(offset);
        }
        let bytes = payload.len() as u64;
        if payload.len() <= INLINE {
            self.index(stream, &numbered, rows, bytes, None, &payload)?;
        } else {
            let number = stream.take_chunks(1);
            self.index(stream, &numbered, rows, bytes, Some(number), &[])?;
            self.chunks.push((stream.id, number, payload));
        }
        self.show(stream, append, numbered);
        Ok(offset)
    }

    fn number(
        &mut self,
        stream: &Stream,
        append: &Append,
        rows: usize,
        now: i64,
    ) -> Result<Numbered> {
        let end = self.end(stream, &[])?;
        check_order(append, end.last_sequence)?;
        let (sequence, ingested) = match (&append.derived, &mut self.clock) {
            (Some((sequence, ingested)), _) => (sequence.clone(), ingested.clone()),
            (None, Some(clock)) => {
                let first = clock.sequence as i64;
                clock.sequence += rows as u64;
                if rows > 0 {
                    clock.last_arrival = now;
                }
                (Run::Sequence(first), Run::Constant(now))
            }
            (None, None) => unreachable!("only derived rows are independent"),
        };
        let time = append.time.clone().unwrap_or_else(|| ingested.clone());
        Ok(Numbered { offset: end.next, sequence, time, ingested })
    }

    /// Writes the index entry and moves the stream's end.
    fn index(
        &mut self,
        stream: &Stream,
        numbered: &Numbered,
        rows: usize,
        payload_bytes: u64,
        chunk: Option<u64>,
        inline: &[u8],
    ) -> Result<()> {
        let Some((min_time, max_time)) = numbered.time.bounds(rows) else { return Ok(()) };
        let (_, last_arrival) = numbered.ingested.bounds(rows).expect("there are rows");
        let end = self.ends.get_mut(&stream.id).expect("the rows have been numbered");
        let entry = Entry {
            rows: u32::try_from(rows)
                .map_err(|_| StorageError::Misuse("too many rows in one batch".into()))?,
            sequence: RunForm::of(&numbered.sequence),
            time: RunForm::of(&numbered.time),
            ingested: RunForm::of(&numbered.ingested),
            last_sequence: numbered.sequence.get(rows - 1),
            min_time,
            max_time,
            last_arrival,
            bytes: payload_bytes + ENTRY_LEN as u64,
            bytes_before: end.bytes,
            max_time_before: end.max_time,
            chunk,
            chunk_limit: stream.chunk_limit(),
        };
        end.next += rows as u64;
        end.bytes += entry.bytes;
        end.max_time = end.max_time.max(max_time);
        end.last_sequence = entry.last_sequence;
        self.entries.push((stream.id, numbered.offset, entry.encode(inline)));
        Ok(())
    }

    fn show(&mut self, stream: &Stream, append: &Append, numbered: Numbered) {
        if append.rows.num_rows() == 0 {
            return;
        }
        let Numbered { offset, sequence, time, ingested } = numbered;
        let rows = append.rows.clone();
        let batch = EventBatch { rows, offset, sequence, time, ingested };
        self.visible.push(Visible::Rows(stream.id, batch));
    }
}
