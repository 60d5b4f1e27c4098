//! The in-memory store: what `auspex run` and tests work on. It keeps the rules of the store on
//! disk (and passes the same suite) but forgets everything with the process, so both durabilities
//! mean the same.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use tokio::sync::{oneshot, watch};

use crate::batch::{EventBatch, Run};
use crate::check::{check_append, check_order, rows_to_skip, skip_rows};
use crate::clock::now_us;
use crate::error::{Result, StorageError};
use crate::join::Reading;
use crate::store::{
    Append, Committed, Durability, Head, Pending, ReadLimit, Staged, Store, StreamConfig, StreamId,
    StreamStats, TableId, TableRows, Transaction,
};

/// A store in memory.
pub struct MemStore {
    inner: Mutex<Inner>,
    sequence: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    streams: HashMap<StreamId, Stream>,
    tables: HashMap<TableId, BTreeMap<Vec<u8>, Vec<u8>>>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    catalog: Vec<Vec<u8>>,
    sequence: u64,
    last_arrival: i64,
    closed: bool,
}

struct Stream {
    config: StreamConfig,
    head: watch::Sender<Head>,
    batches: VecDeque<Stored>,
    bytes: u64,
    last_sequence: i64,
}

struct Stored {
    batch: EventBatch,
    bytes: u64,
    last_arrival: i64,
}

impl Stream {
    fn new(config: StreamConfig) -> Stream {
        let head = Head { max_time: i64::MIN, ..Head::default() };
        Stream {
            config,
            head: watch::Sender::new(head),
            batches: VecDeque::new(),
            bytes: 0,
            last_sequence: i64::MIN,
        }
    }

    fn push(&mut self, batch: EventBatch, sequence_end: u64) {
        let rows = batch.len();
        let Some((_, max_time)) = batch.time.bounds(rows) else { return };
        let (_, last_arrival) = batch.ingested.bounds(rows).expect("the batch has rows");
        self.last_sequence = batch.sequence.get(rows - 1);
        let bytes = batch.rows.get_array_memory_size() as u64;
        self.bytes += bytes;
        let derived = self.config.derived;
        self.head.send_modify(|head| {
            head.next = batch.end();
            if !derived {
                head.complete = sequence_end;
            }
            head.max_time = head.max_time.max(max_time);
        });
        self.batches.push_back(Stored { batch, bytes, last_arrival });
    }

    /// Position among the batches of the one that holds `offset`.
    fn position(&self, offset: u64) -> usize {
        self.batches.partition_point(|stored| stored.batch.end() <= offset)
    }

    fn pop(&mut self) -> u64 {
        let Some(stored) = self.batches.pop_front() else { return 0 };
        self.bytes -= stored.bytes;
        self.head.send_modify(|head| head.oldest = stored.batch.end());
        stored.batch.len() as u64
    }
}

impl Default for MemStore {
    fn default() -> Self {
        MemStore::new()
    }
}

impl MemStore {
    /// An empty store.
    pub fn new() -> MemStore {
        MemStore { inner: Mutex::default(), sequence: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside cannot leave a half-applied transaction that matters: it is a defect of
        // this file, and the process is going down.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, staged: Vec<Staged>, mut transaction: Transaction) -> Result<Committed> {
        let mut pieces = Vec::with_capacity(staged.len());
        let mut appends = Vec::new();
        for staged in staged {
            let handle = staged
                .handle
                .downcast::<Vec<Append>>()
                .map_err(|_| StorageError::Misuse("rows were staged in another store".into()))?;
            pieces.push(handle.len());
            appends.extend(*handle);
        }
        pieces.extend(std::iter::repeat_n(1, transaction.appends.len()));
        appends.append(&mut transaction.appends);

        let mut inner = self.lock();
        if inner.closed {
            return Err(StorageError::Closed);
        }
        let inner = &mut *inner;
        inner.check(&mut appends, &transaction)?;
        let starts = inner.write(appends, transaction);
        let mut at = 0;
        let first_of = |len: usize| {
            at += len;
            starts[at - len]
        };
        let offsets = pieces.into_iter().map(first_of).collect();
        let sequence = inner.sequence;
        self.sequence
            .send_if_modified(|published| std::mem::replace(published, sequence) != sequence);
        Ok(Committed { offsets, sequence })
    }

    fn with_stream<T>(&self, stream: StreamId, f: impl FnOnce(&Stream) -> Result<T>) -> Result<T> {
        f(self.lock().streams.get(&stream).ok_or(StorageError::UnknownStream(stream))?)
    }
}

impl Inner {
    /// Checks a whole transaction before anything of it is applied, and cuts what is replayed.
    fn check(&self, appends: &mut [Append], transaction: &Transaction) -> Result<()> {
        for id in &transaction.drop_streams {
            if !self.streams.contains_key(id) {
                return Err(StorageError::UnknownStream(*id));
            }
        }
        for config in &transaction.create_streams {
            if self.streams.contains_key(&config.id) {
                return Err(StorageError::Misuse(format!("stream {} exists", config.id)));
            }
        }
        // End and last place of the streams appended to, as they will be.
        let mut ends: HashMap<StreamId, (u64, i64)> = HashMap::new();
        for append in appends {
            let (schema, end) = self.stream_of(append.stream, transaction)?;
            check_append(append, &schema)?;
            let (next, last_sequence) = ends.entry(append.stream).or_insert(end);
            let skip = rows_to_skip(append, *next)?;
            skip_rows(append, skip);
            check_order(append, *last_sequence)?;
            let rows = append.rows.num_rows();
            *next += rows as u64;
            if let (Some((sequence, _)), true) = (&append.derived, rows > 0) {
                *last_sequence = sequence.get(rows - 1);
            }
        }
        Ok(())
    }

    fn stream_of(
        &self,
        id: StreamId,
        transaction: &Transaction,
    ) -> Result<(SchemaRef, (u64, i64))> {
        if let Some(config) = transaction.create_streams.iter().find(|config| config.id == id) {
            return Ok((config.schema.clone(), (0, i64::MIN)));
        }
        match self.streams.get(&id) {
            Some(stream) if !transaction.drop_streams.contains(&id) => {
                let next = stream.head.borrow().next;
                Ok((stream.config.schema.clone(), (next, stream.last_sequence)))
            }
            _ => Err(StorageError::UnknownStream(id)),
        }
    }

    /// Applies a checked transaction; gives the first offset of each append.
    fn write(&mut self, appends: Vec<Append>, transaction: Transaction) -> Vec<u64> {
        for id in transaction.drop_streams {
            if let Some(stream) = self.streams.remove(&id) {
                stream.head.send_modify(|head| head.dropped = true);
            }
        }
        for table in transaction.drop_tables {
            self.tables.remove(&table);
        }
        for prefix in transaction.drop_state {
            self.state.retain(|key, _| !key.starts_with(&prefix));
        }
        for config in transaction.create_streams {
            self.streams.insert(config.id, Stream::new(config));
        }
        let now = now_us(self.last_arrival);
        let starts = appends.into_iter().map(|append| self.append(append, now)).collect();
        for change in transaction.tables {
            let rows = self.tables.entry(change.table).or_default();
            match change.value {
                Some(value) => rows.insert(change.key, value),
                None => rows.remove(&change.key),
            };
        }
        for (key, value) in transaction.state {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        self.catalog.extend(transaction.catalog);
        starts
    }

    fn append(&mut self, append: Append, now: i64) -> u64 {
        let rows = append.rows.num_rows();
        let (sequence, ingested) = append.derived.unwrap_or_else(|| {
            let first = self.sequence as i64;
            self.sequence += rows as u64;
            if rows > 0 {
                self.last_arrival = now;
            }
            (Run::Sequence(first), Run::Constant(now))
        });
        let time = append.time.unwrap_or_else(|| ingested.clone());
        let stream = self.streams.get_mut(&append.stream).expect("the transaction was checked");
        let offset = stream.head.borrow().next;
        stream.push(
            EventBatch { rows: append.rows, offset, sequence, time, ingested },
            self.sequence,
        );
        offset
    }
}

impl Store for MemStore {
    fn submit(&self, transaction: Transaction, durability: Durability) -> Pending {
        self.submit_staged(Vec::new(), transaction, durability)
    }

    fn stage(&self, append: Append) -> Result<Staged> {
        let mut staged = Staged { rows: 0, handle: Box::new(Vec::<Append>::new()) };
        self.stage_next(&mut staged, append)?;
        Ok(staged)
    }

    fn stage_next(&self, staged: &mut Staged, mut append: Append) -> Result<()> {
        let schema = self.with_stream(append.stream, |s| Ok(s.config.schema.clone()))?;
        check_append(&mut append, &schema)?;
        let pieces = staged
            .handle
            .downcast_mut::<Vec<Append>>()
            .ok_or_else(|| StorageError::Misuse("rows were staged in another store".into()))?;
        if append.derived.is_some()
            || append.at_offset.is_some()
            || pieces.first().is_some_and(|first| first.stream != append.stream)
        {
            return Err(StorageError::Misuse("only new rows of one stream can be staged".into()));
        }
        staged.rows += append.rows.num_rows() as u64;
        pieces.push(append);
        Ok(())
    }

    fn submit_staged(
        &self,
        staged: Vec<Staged>,
        transaction: Transaction,
        _durability: Durability,
    ) -> Pending {
        let (answer, pending) = oneshot::channel();
        // The receiver is alive: it is returned below.
        let _ = answer.send(self.apply(staged, transaction));
        Pending(pending)
    }

    fn open_stream(&self, config: StreamConfig) -> Result<()> {
        let mut inner = self.lock();
        match inner.streams.get_mut(&config.id) {
            Some(stream) => stream.config = config,
            None => {
                inner.streams.insert(config.id, Stream::new(config));
            }
        }
        Ok(())
    }

    fn watch(&self, stream: StreamId) -> Result<watch::Receiver<Head>> {
        let sequence = self.sequence();
        self.with_stream(stream, |stream| {
            if !stream.config.derived {
                stream.head.send_if_modified(|head| {
                    head.complete = head.complete.max(sequence);
                    false
                });
            }
            Ok(stream.head.subscribe())
        })
    }

    fn head(&self, stream: StreamId) -> Result<Head> {
        Ok(*self.watch(stream)?.borrow())
    }

    fn watch_sequence(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    fn set_complete(&self, stream: StreamId, sequence: u64) -> Result<()> {
        self.with_stream(stream, |stream| {
            stream.head.send_if_modified(|head| {
                let grown = sequence > head.complete;
                head.complete = head.complete.max(sequence);
                grown
            });
            Ok(())
        })
    }

    fn sequence(&self) -> u64 {
        *self.sequence.borrow()
    }

    fn read(
        &self,
        stream: StreamId,
        from: u64,
        limit: ReadLimit,
        projection: Option<&[usize]>,
    ) -> Result<Vec<EventBatch>> {
        let mut reading = Reading::new(limit);
        self.with_stream(stream, |stream| {
            let oldest = stream.head.borrow().oldest;
            if from < oldest {
                return Err(StorageError::NotRetained { asked: from, oldest });
            }
            for stored in stream.batches.range(stream.position(from)..) {
                if reading.is_full(stored.batch.offset) {
                    break;
                }
                match projection {
                    None => reading.push(&stored.batch, from),
                    Some(columns) => reading.push(&stored.batch.project(columns)?, from),
                }
            }
            Ok(())
        })?;
        reading.finish()
    }

    fn offset_at_time(&self, stream: StreamId, time_us: i64) -> Result<u64> {
        self.with_stream(stream, |stream| {
            let found = stream.batches.iter().find_map(|Stored { batch, .. }| {
                (0..batch.len())
                    .find(|&row| batch.time.get(row) >= time_us)
                    .map(|row| batch.offset + row as u64)
            });
            Ok(found.unwrap_or(stream.head.borrow().next))
        })
    }

    fn offset_at_sequence(&self, stream: StreamId, sequence: u64) -> Result<u64> {
        let wanted = i64::try_from(sequence).unwrap_or(i64::MAX);
        self.with_stream(stream, |stream| {
            let at = stream.batches.partition_point(|Stored { batch, .. }| {
                batch.sequence.get(batch.len() - 1) < wanted
            });
            let Some(Stored { batch, .. }) = stream.batches.get(at) else {
                return Ok(stream.head.borrow().next);
            };
            let row = (0..batch.len()).find(|&row| batch.sequence.get(row) >= wanted);
            Ok(batch.offset + row.unwrap_or(batch.len()) as u64)
        })
    }

    fn stats(&self, stream: StreamId) -> Result<StreamStats> {
        self.with_stream(stream, |stream| {
            let head = *stream.head.borrow();
            Ok(StreamStats { rows: head.next - head.oldest, bytes: stream.bytes })
        })
    }

    fn table_get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn table_scan(&self, table: TableId) -> Result<TableRows> {
        let rows = self.lock().tables.get(&table).cloned().unwrap_or_default();
        Ok(Box::new(rows.into_iter().map(Ok)))
    }

    fn state_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().state.get(key).cloned())
    }

    fn state_scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let inner = self.lock();
        let from = inner.state.range(prefix.to_vec()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn catalog_log(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.lock().catalog.clone())
    }

    fn sweep(&self, now_us: i64) -> Result<u64> {
        let mut removed = 0;
        for stream in self.lock().streams.values_mut() {
            while let Some(first) = stream.batches.front() {
                let aged = stream
                    .config
                    .retention_age_us
                    .is_some_and(|age| first.last_arrival < now_us.saturating_sub(age));
                let surplus = stream
                    .config
                    .retention_bytes
                    .is_some_and(|bytes| stream.bytes - first.bytes >= bytes);
                if !aged && !surplus {
                    break;
                }
                removed += stream.pop();
            }
        }
        Ok(removed)
    }

    fn backup(&self, _directory: &Path) -> Result<()> {
        Err(StorageError::Misuse("a store in memory has no files to be copied".into()))
    }

    fn failure(&self) -> Option<StorageError> {
        None
    }

    fn close(&self) -> Result<()> {
        self.lock().closed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemStore;
    crate::suite::conformance! { ((), std::sync::Arc::new(MemStore::new())) }
}
