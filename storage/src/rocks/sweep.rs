//! Retention: removing the oldest batches of a stream, whole.

use rocksdb::{DB, WriteBatch};

use crate::error::{Result, StorageError};
use crate::rocks::read::Entries;
use crate::rocks::stream::{End, Stream};
use crate::rocks::{Shared, cf, keys, write_error};

/// At most this many batches of a stream are removed at a time, which bounds the write.
const STEP: usize = 4096;

/// See [`crate::Store::sweep`].
pub(crate) fn sweep(shared: &Shared, now_us: i64) -> Result<u64> {
    let mut removed = 0;
    for stream in shared.all_streams() {
        let (age, bytes) = {
            let config = stream.config();
            (config.retention_age_us, config.retention_bytes)
        };
        if age.is_none() && bytes.is_none() {
            continue;
        }
        let arrived_before = age.map_or(i64::MIN, |age| now_us.saturating_sub(age));
        loop {
            let (rows, batches) = sweep_stream(shared, &stream, arrived_before, bytes)?;
            removed += rows;
            if batches < STEP {
                break;
            }
        }
    }
    Ok(removed)
}

/// Rows and batches removed.
fn sweep_stream(
    shared: &Shared,
    stream: &Stream,
    arrived_before: i64,
    bytes: Option<u64>,
) -> Result<(u64, usize)> {
    if let Some(error) = shared.refusal() {
        return Err(error);
    }
    // The end must not move while it is recorded.
    let end = stream.lock_end();
    let head = *stream.head.borrow();
    if end.dropped || head.oldest == end.next {
        return Ok((0, 0));
    }
    let mut oldest = head.oldest;
    let mut chunks: Vec<u64> = Vec::new();
    let mut batches = 0;
    let mut entries = Entries::new(&shared.db, stream.id);
    let mut at = entries.first()?;
    while let Some((offset, entry, _)) = at {
        let aged = entry.last_arrival < arrived_before;
        let left = end.bytes - entry.bytes_before - entry.bytes;
        let surplus = bytes.is_some_and(|bytes| left >= bytes);
        if !(aged || surplus) || batches == STEP {
            break;
        }
        oldest = offset + u64::from(entry.rows);
        chunks.extend(entry.chunk);
        batches += 1;
        at = entries.next()?;
    }
    if batches == 0 {
        return Ok((0, 0));
    }
    // Readers must know before the rows are gone.
    stream.head.send_modify(|head| head.oldest = oldest);
    shared.tail.trim(stream.id, oldest);
    remove(shared, stream, oldest, chunks, &end)?;
    Ok((oldest - head.oldest, batches))
}

fn remove(
    shared: &Shared,
    stream: &Stream,
    oldest: u64,
    mut chunks: Vec<u64>,
    end: &End,
) -> Result<()> {
    let db = &shared.db;
    let mut batch = WriteBatch::default();
    let (first, last) = (keys::numbered(stream.id, 0), keys::numbered(stream.id, oldest));
    batch.delete_range_cf(cf(db, keys::INDEX), first, last);
    chunks.sort_unstable();
    let runs: Vec<[[u8; 12]; 2]> = chunks
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| [run[0], run[run.len() - 1] + 1].map(|n| keys::numbered(stream.id, n)))
        .collect();
    for [first, end] in &runs {
        batch.delete_range_cf(cf(db, keys::CHUNK), first, end);
    }
    if oldest == end.next {
        batch.put_cf(cf(db, keys::META), keys::end(stream.id), stream.end_record(end));
    }
    db.write(batch).map_err(|error| {
        let error = write_error(error);
        if let StorageError::Failed(_) = error {
            shared.fail(error.clone());
        }
        error
    })?;
    for [first, end] in &runs {
        give_back(db, first, end);
    }
    Ok(())
}

/// Lets go of table files that hold nothing but removed chunks, instead of waiting until a
/// compaction comes by. The chunks are gone for every reader already, so failing does no harm.
pub(crate) fn give_back(db: &DB, first: &[u8], end: &[u8]) {
    if let Err(error) = db.delete_file_in_range_cf(cf(db, keys::CHUNK), first, end) {
        tracing::warn!(%error, "space of removed rows is not given back yet");
    }
}
