//! A stream of the store on disk: what is in memory of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use arrow::datatypes::SchemaRef;
use rocksdb::{DB, ReadOptions};
use tokio::sync::watch;

use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};
use crate::rocks::entry::Entry;
use crate::rocks::keys;
use crate::rocks::{cf, read_error};
use crate::store::{Head, StreamConfig, StreamId};

/// Numbers a bulk load reserves for the chunks of one file.
pub(crate) const BLOCK_OF_CHUNKS: u64 = 1 << 20;

/// Where the next row of a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) next: u64,
    pub(crate) max_time: i64,
    pub(crate) last_sequence: i64,
    /// Bytes of all batches ever written.
    pub(crate) bytes: u64,
    pub(crate) dropped: bool,
}

impl End {
    const START: End =
        End { next: 0, max_time: i64::MIN, last_sequence: i64::MIN, bytes: 0, dropped: false };
}

/// A stream.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    config: RwLock<StreamConfig>,
    pub(crate) head: watch::Sender<Head>,
    /// Held by whoever writes to the stream from placing the rows until they are visible.
    end: Mutex<End>,
    next_chunk: AtomicU64,
}

impl Stream {
    /// A stream without rows.
    pub(crate) fn create(config: StreamConfig) -> Stream {
        Stream::with(config, 0, End::START, 0)
    }

    fn with(config: StreamConfig, oldest: u64, end: End, next_chunk: u64) -> Stream {
        let head =
            Head { oldest, next: end.next, complete: 0, max_time: end.max_time, dropped: false };
        Stream {
            id: config.id,
            config: RwLock::new(config),
            head: watch::Sender::new(head),
            end: Mutex::new(end),
            next_chunk: AtomicU64::new(next_chunk),
        }
    }

    /// Finds a stream's ends from its first and last index entry, or from the record that is left
    /// of an emptied stream.
    pub(crate) fn load(db: &DB, config: StreamConfig) -> Result<Stream> {
        let id = config.id;
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(keys::prefix(id));
        if let Some(after) = keys::after(&keys::prefix(id)) {
            bounds.set_iterate_upper_bound(after);
        }
        let mut entries = db.raw_iterator_cf_opt(cf(db, keys::INDEX), bounds);
        entries.seek_to_first();
        let Some((first, _)) = entries.item() else {
            entries.status().map_err(read_error)?;
            return Stream::load_empty(db, config);
        };
        let oldest = keys::number_of(first, id).ok_or_else(damaged)?;
        entries.seek_to_last();
        let Some((key, value)) = entries.item() else {
            entries.status().map_err(read_error)?;
            return Err(damaged());
        };
        let offset = keys::number_of(key, id).ok_or_else(damaged)?;
        let (entry, _) = Entry::decode(value)?;
        let end = End {
            next: offset + u64::from(entry.rows),
            max_time: entry.max_time.max(entry.max_time_before),
            last_sequence: entry.last_sequence,
            bytes: entry.bytes_before + entry.bytes,
            dropped: false,
        };
        Ok(Stream::with(config, oldest, end, entry.chunk_limit))
    }

    fn load_empty(db: &DB, config: StreamConfig) -> Result<Stream> {
        let record = db.get_cf(cf(db, keys::META), keys::end(config.id)).map_err(read_error)?;
        let Some(record) = record else { return Ok(Stream::create(config)) };
        let mut reader = Reader::new(&record);
        let end = End {
            next: reader.u64()?,
            max_time: reader.i64()?,
            last_sequence: reader.i64()?,
            bytes: reader.u64()?,
            dropped: false,
        };
        let next_chunk = reader.u64()?;
        reader.end()?;
        Ok(Stream::with(config, end.next, end, next_chunk))
    }

    /// The record of the stream's end that takes the place of its last entry.
    pub(crate) fn end_record(&self, end: &End) -> Vec<u8> {
        let mut record = Vec::with_capacity(40);
        record.extend_from_slice(&end.next.to_le_bytes());
        record.extend_from_slice(&end.max_time.to_le_bytes());
        record.extend_from_slice(&end.last_sequence.to_le_bytes());
        record.extend_from_slice(&end.bytes.to_le_bytes());
        record.extend_from_slice(&self.chunk_limit().to_le_bytes());
        record
    }

    pub(crate) fn lock_end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.config().schema.clone()
    }

    pub(crate) fn config(&self) -> std::sync::RwLockReadGuard<'_, StreamConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_config(&self, config: StreamConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Takes `count` chunk numbers and gives the first.
    pub(crate) fn take_chunks(&self, count: u64) -> u64 {
        self.next_chunk.fetch_add(count, Ordering::Relaxed)
    }

    pub(crate) fn chunk_limit(&self) -> u64 {
        self.next_chunk.load(Ordering::Relaxed)
    }
}

fn damaged() -> StorageError {
    StorageError::Corrupted("index of a stream".into())
}
