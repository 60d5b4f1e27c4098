//! Reading a stream: from the tail in memory when it reaches back far enough, else from disk.

use rocksdb::{DB, DBRawIterator, ReadOptions};

use crate::batch::EventBatch;
use crate::codec::Payload;
use crate::error::{Result, StorageError};
use crate::join::Reading;
use crate::rocks::entry::Entry;
use crate::rocks::stream::Stream;
use crate::rocks::{Shared, cf, keys, read_error};
use crate::store::{ReadLimit, StreamId, StreamStats};

/// See [`crate::Store::read`].
pub(crate) fn read(
    shared: &Shared,
    stream: StreamId,
    from: u64,
    mut limit: ReadLimit,
    projection: Option<&[usize]>,
) -> Result<Vec<EventBatch>> {
    let stream = shared.stream(stream)?;
    let head = *stream.head.borrow();
    if from < head.oldest {
        return Err(StorageError::NotRetained { asked: from, oldest: head.oldest });
    }
    // Rows are written before they may be seen.
    limit.until = limit.until.min(head.next);
    let mut reading = Reading::new(limit);
    if from >= limit.until || shared.tail.read(stream.id, from, projection, &mut reading)? {
        return reading.finish();
    }
    match from_disk(shared, &stream, from, projection, &mut reading) {
        Ok(()) => reading.finish(),
        Err(error) => Err(stream.retained_or(from, error)),
    }
}

impl Stream {
    /// The reason of a failed read, when a sweep or a drop has taken the rows meanwhile.
    fn retained_or(&self, from: u64, error: StorageError) -> StorageError {
        let head = *self.head.borrow();
        if head.dropped {
            StorageError::UnknownStream(self.id)
        } else if from < head.oldest {
            StorageError::NotRetained { asked: from, oldest: head.oldest }
        } else {
            error
        }
    }
}

fn from_disk(
    shared: &Shared,
    stream: &Stream,
    from: u64,
    projection: Option<&[usize]>,
    reading: &mut Reading,
) -> Result<()> {
    let schema = stream.schema();
    let mut entries = Entries::new(&shared.db, stream.id);
    let mut at = entries.holding(from)?;
    let mut expected = from;
    while let Some((offset, entry, inline)) = at {
        if offset > expected {
            return Err(StorageError::Corrupted(format!(
                "rows {expected} to {offset} of stream {} are missing",
                stream.id
            )));
        }
        if reading.is_full(offset) {
            return Ok(());
        }
        let batch = match entry.chunk {
            None => decode(&schema, offset, &entry, &inline, projection)?,
            Some(number) => {
                let key = keys::numbered(stream.id, number);
                let payload = shared
                    .db
                    .get_pinned_cf(cf(&shared.db, keys::CHUNK), key)
                    .map_err(read_error)?
                    .ok_or_else(|| {
                        StorageError::Corrupted(format!(
                            "chunk {number} of stream {} is missing",
                            stream.id
                        ))
                    })?;
                decode(&schema, offset, &entry, &payload, projection)?
            }
        };
        reading.push(&batch, from);
        expected = batch.end();
        at = entries.next()?;
    }
    Ok(())
}

fn decode(
    schema: &arrow::datatypes::SchemaRef,
    offset: u64,
    entry: &Entry,
    payload: &[u8],
    projection: Option<&[usize]>,
) -> Result<EventBatch> {
    let payload = Payload::open(payload)?;
    if payload.rows() != entry.rows as usize {
        return Err(StorageError::Corrupted("a batch and its entry differ in length".into()));
    }
    let own = schema.fields().len();
    let mut extra = 0..;
    let mut each = || payload.extra(own, extra.next().unwrap_or_default());
    let sequence = entry.sequence.run(&mut each)?;
    let time = entry.time.run(&mut each)?;
    let ingested = entry.ingested.run(&mut each)?;
    let rows = payload.decode(schema, projection)?;
    Ok(EventBatch { rows, offset, sequence, time, ingested })
}

/// The index entries of a stream.
pub(crate) struct Entries<'a> {
    stream: StreamId,
    rows: DBRawIterator<'a>,
}

/// First offset, entry and inline payload of a batch.
type Found = Option<(u64, Entry, Vec<u8>)>;

impl<'a> Entries<'a> {
    pub(crate) fn new(db: &'a DB, stream: StreamId) -> Entries<'a> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::prefix(stream));
        if let Some(after) = keys::after(&keys::prefix(stream)) {
            options.set_iterate_upper_bound(after);
        }
        Entries { stream, rows: db.raw_iterator_cf_opt(cf(db, keys::INDEX), options) }
    }

    fn found(&self) -> Result<Found> {
        let Some((key, value)) = self.rows.item() else {
            self.rows.status().map_err(read_error)?;
            return Ok(None);
        };
        let offset = keys::number_of(key, self.stream)
            .ok_or_else(|| StorageError::Corrupted("key of an index entry".into()))?;
        let (entry, inline) = Entry::decode(value)?;
        Ok(Some((offset, entry, inline.to_vec())))
    }

    /// The batch with row `offset`, or when there is none the first one after it.
    pub(crate) fn holding(&mut self, offset: u64) -> Result<Found> {
        self.rows.seek_for_prev(keys::numbered(self.stream, offset));
        match self.found()? {
            Some((first, entry, inline)) if first + u64::from(entry.rows) > offset => {
                Ok(Some((first, entry, inline)))
            }
            Some(_) => self.next(),
            None => self.first(),
        }
    }

    pub(crate) fn first(&mut self) -> Result<Found> {
        self.rows.seek_to_first();
        self.found()
    }

    pub(crate) fn next(&mut self) -> Result<Found> {
        self.rows.next();
        self.found()
    }
}

/// See [`crate::Store::offset_at_sequence`]: places never fall along a stream, so its index is
/// searched by halving the range of offsets.
pub(crate) fn offset_at_sequence(shared: &Shared, stream: StreamId, sequence: u64) -> Result<u64> {
    let stream = shared.stream(stream)?;
    let wanted = i64::try_from(sequence).unwrap_or(i64::MAX);
    let at = first_batch(shared, &stream, |entry| entry.last_sequence >= wanted)?;
    first_row(shared, &stream, at, |batch, row| batch.sequence.get(row) >= wanted)
}

/// See [`crate::Store::offset_at_time`]: event times may fall, but the greatest one so far does
/// not.
pub(crate) fn offset_at_time(shared: &Shared, stream: StreamId, time_us: i64) -> Result<u64> {
    let stream = shared.stream(stream)?;
    let oldest = stream.head.borrow().oldest;
    let mut entries = Entries::new(&shared.db, stream.id);
    let first = entries.holding(oldest)?;
    let at = match first {
        // The greatest time was reached by a row that is gone: halving would not help.
        Some((mut offset, mut entry, _)) if entry.max_time_before >= time_us => loop {
            if entry.max_time >= time_us {
                break offset;
            }
            match entries.next()? {
                Some((next, following, _)) => (offset, entry) = (next, following),
                None => break stream.head.borrow().next,
            }
        },
        _ => first_batch(shared, &stream, |entry| {
            entry.max_time.max(entry.max_time_before) >= time_us
        })?,
    };
    first_row(shared, &stream, at, |batch, row| batch.time.get(row) >= time_us)
}

/// First offset of the first visible batch whose entry satisfies `found`, which must hold for all
/// batches after one for which it holds; the end when there is none.
fn first_batch(shared: &Shared, stream: &Stream, found: impl Fn(&Entry) -> bool) -> Result<u64> {
    let head = *stream.head.borrow();
    let mut entries = Entries::new(&shared.db, stream.id);
    // Batches that begin below `low` do not satisfy; the one at `high`, if any, does.
    let (mut low, mut high) = (head.oldest, head.next);
    while low < high {
        let middle = low + (high - low) / 2;
        match entries.holding(middle)? {
            Some((offset, entry, _)) if offset < high => {
                if found(&entry) {
                    if offset <= low {
                        return Ok(offset.max(head.oldest));
                    }
                    high = offset;
                } else {
                    low = offset + u64::from(entry.rows);
                }
            }
            _ => high = middle,
        }
    }
    Ok(high)
}

/// The first row from the batch at `at` on that satisfies `found`; the end when there is none.
fn first_row(
    shared: &Shared,
    stream: &Stream,
    at: u64,
    found: impl Fn(&EventBatch, usize) -> bool,
) -> Result<u64> {
    let mut from = at.max(stream.head.borrow().oldest);
    loop {
        let limit = ReadLimit { rows: 1, until: u64::MAX };
        let batches = read(shared, stream.id, from, limit, Some(&[]))?;
        for batch in &batches {
            if let Some(row) = (0..batch.len()).find(|&row| found(batch, row)) {
                return Ok(batch.offset + row as u64);
            }
        }
        match batches.last() {
            Some(last) => from = last.end(),
            None => return Ok(from),
        }
    }
}

/// See [`crate::Store::stats`].
pub(crate) fn stats(shared: &Shared, stream: StreamId) -> Result<StreamStats> {
    let stream = shared.stream(stream)?;
    // The end moves only under this lock, so both figures are of one moment.
    let end = stream.lock_end();
    let oldest = stream.head.borrow().oldest;
    let first = Entries::new(&shared.db, stream.id).holding(oldest)?;
    let gone = first.map_or(end.bytes, |(_, entry, _)| entry.bytes_before);
    Ok(StreamStats { rows: end.next - oldest, bytes: end.bytes - gone })
}
