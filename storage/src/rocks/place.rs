//! Giving the rows of a transaction their numbers and writing down what is to be stored.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use rocksdb::WriteBatch;

use crate::batch::{EventBatch, Run};
use crate::check::{check_order, rows_to_skip};
use crate::error::{Result, StorageError};
use crate::rocks::commit::Clock;
use crate::rocks::entry::{ENTRY_LEN, Entry, RunForm};
use crate::rocks::prepare::{INLINE, Prepared};
use crate::rocks::stage::{Load, Place};
use crate::rocks::stream::{End, Stream};
use crate::rocks::{Shared, cf, keys};
use crate::store::{Append, Committed, StreamId};

/// What a reader will see of a group.
pub(crate) enum Visible {
    Rows(StreamId, EventBatch),
    /// Rows that are only on disk.
    Bulk(StreamId),
}

/// Numbers and writes of a group as far as it is placed.
pub(crate) struct Placing<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) ends: HashMap<StreamId, End>,
    pub(crate) clock: Option<Clock>,
    pub(crate) now: i64,
    pub(crate) batch: WriteBatch,
    pub(crate) visible: Vec<Visible>,
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
    /// Places a transaction after those placed before. After an error nothing of it is left.
    pub(crate) fn transaction(&mut self, prepared: &mut Prepared) -> Result<Committed> {
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
            let number = self.shared.next_command.load(Ordering::Relaxed);
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
