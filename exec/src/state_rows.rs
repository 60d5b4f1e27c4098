//! Rows that operators keep between steps: in chunks, and as bytes of saved state.
//!
//! A chunk is written once. When rows are dropped from its front nothing is written, the owner drops
//! them again after a restart (it knows from event times); when its last row is gone it is removed.

use std::collections::VecDeque;
use std::io::Cursor;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, SchemaRef, StringViewType};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use auspex_storage::Run;
use std::sync::Arc;

use crate::batch::{Batch, batch_of};
use crate::error::{ExecError, Result};
use crate::operator::{StateReader, StateWriter};

/// Neighbouring chunks with fewer rows are made one.
const SMALL: usize = 4096;

/// Consecutive rows.
pub(crate) struct Chunk {
    id: u64,
    /// Its rows; those before [`Chunk::from`] are gone.
    pub(crate) batch: Batch,
    /// First row that is still there.
    pub(crate) from: usize,
    /// A number per row that its owner may set, all 0 at first; empty when it never did.
    marks: Vec<u8>,
    saved: bool,
    marks_changed: bool,
}

impl Chunk {
    /// Rows still there.
    pub(crate) fn len(&self) -> usize {
        self.batch.len() - self.from
    }

    /// The owner's number for a row.
    pub(crate) fn mark(&self, row: usize) -> u8 {
        self.marks.get(row).copied().unwrap_or(0)
    }

    /// Sets the owner's number for a row.
    pub(crate) fn set_mark(&mut self, row: usize, mark: u8) {
        if self.marks.is_empty() {
            self.marks = vec![0; self.batch.len()];
        }
        self.marks[row] = mark;
        self.marks_changed = true;
    }

    /// Forgets the rows that are gone.
    fn trim(&mut self) {
        if self.from > 0 {
            self.batch = self.batch.slice(self.from, self.len());
            self.marks.drain(..self.from.min(self.marks.len()));
            self.from = 0;
        }
    }
}

/// Chunks of rows of the same columns, oldest first, under one tag of the operator's saved state.
pub(crate) struct KeptRows {
    tag: u8,
    schema: SchemaRef,
    chunks: VecDeque<Chunk>,
    next_id: u64,
    removed: Vec<u64>,
    rows: usize,
}

impl KeptRows {
    /// No rows yet; `schema` is that of all, `tag` tells an operator's several ones apart.
    pub(crate) fn new(tag: u8, schema: SchemaRef) -> KeptRows {
        let (chunks, removed) = (VecDeque::new(), Vec::new());
        KeptRows { tag, schema, chunks, next_id: 0, removed, rows: 0 }
    }

    /// Adds rows behind all others.
    pub(crate) fn push(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let columns = batch.rows.columns().to_vec();
        let rows = batch_of(Arc::clone(&self.schema), columns, batch.len())?;
        self.rows += batch.len();
        self.add(batch.with_rows(rows), Vec::new());
        Ok(())
    }

    fn add(&mut self, batch: Batch, marks: Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        let marks_changed = !marks.is_empty();
        self.chunks.push_back(Chunk { id, batch, from: 0, marks, saved: false, marks_changed });
    }

    /// The chunks, oldest first.
    pub(crate) fn chunks(&self) -> &VecDeque<Chunk> {
        &self.chunks
    }

    /// One chunk.
    pub(crate) fn chunk_mut(&mut self, chunk: usize) -> &mut Chunk {
        &mut self.chunks[chunk]
    }

    /// Takes up to `rows` rows from the front of a chunk.
    pub(crate) fn take(&mut self, chunk: usize, rows: usize) -> Batch {
        let chunk = &mut self.chunks[chunk];
        let taken = chunk.batch.slice(chunk.from, rows);
        chunk.from += rows;
        self.rows -= rows;
        taken
    }

    /// Drops up to `rows` of the oldest rows.
    pub(crate) fn drop_front(&mut self, mut rows: usize) {
        while let Some(first) = self.chunks.front_mut() {
            let gone = rows.min(first.len());
            first.from += gone;
            self.rows -= gone;
            rows -= gone;
            if first.len() > 0 {
                break;
            }
            self.remove(0);
        }
    }

    /// Drops chunks without rows.
    pub(crate) fn drop_empty(&mut self) {
        let mut chunk = 0;
        while chunk < self.chunks.len() {
            if self.chunks[chunk].len() == 0 {
                self.remove(chunk);
            } else {
                chunk += 1;
            }
        }
    }

    fn remove(&mut self, chunk: usize) {
        if let Some(Chunk { id, saved: true, .. }) = self.chunks.remove(chunk) {
            self.removed.push(id);
        }
    }

    /// Makes one chunk of the small ones at the end, by `merge`, which gets their rows in the order
    /// of the chunks. Each row is moved a few times in its life, however small the batches were.
    pub(crate) fn tidy(&mut self, merge: impl Fn(Vec<Batch>) -> Result<Batch>) -> Result<()> {
        let mut from = self.chunks.len();
        let mut rows = 0;
        while from > 0 {
            let len = self.chunks[from - 1].len();
            if len >= SMALL || (rows > 0 && len > 2 * rows) {
                break;
            }
            rows += len;
            from -= 1;
        }
        if self.chunks.len() - from < 2 {
            return Ok(());
        }
        let mut batches = Vec::with_capacity(self.chunks.len() - from);
        let mut marks = Vec::new();
        for mut chunk in self.chunks.split_off(from) {
            chunk.trim();
            if !chunk.marks.is_empty() {
                marks.resize(batches.iter().map(Batch::len).sum(), 0);
                marks.append(&mut chunk.marks);
            }
            if chunk.saved {
                self.removed.push(chunk.id);
            }
            batches.push(chunk.batch);
        }
        if !marks.is_empty() {
            marks.resize(rows, 0);
        }
        let merged = merge(batches)?;
        self.add(merged, marks);
        Ok(())
    }

    /// Replaces all rows.
    pub(crate) fn replace(&mut self, batches: Vec<Batch>) -> Result<()> {
        while !self.chunks.is_empty() {
            self.remove(0);
        }
        self.rows = 0;
        batches.into_iter().try_for_each(|batch| self.push(batch))
    }

    /// Writes chunks and marks that are new, removes those that are gone.
    pub(crate) fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        for id in self.removed.drain(..) {
            state.remove(&key(self.tag, b'c', id));
            state.remove(&key(self.tag, b'm', id));
        }
        for chunk in &mut self.chunks {
            if !chunk.saved {
                chunk.trim();
                chunk.batch = without_waste(&chunk.batch)?;
                state.put(&key(self.tag, b'c', chunk.id), encode(&chunk.batch)?);
                chunk.saved = true;
            }
            if std::mem::take(&mut chunk.marks_changed) {
                state.put(&key(self.tag, b'm', chunk.id), chunk.marks.clone());
            }
        }
        Ok(())
    }

    /// Takes back what was written; rows dropped from the front of a chunk are there again.
    pub(crate) fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.chunks.clear();
        self.removed.clear();
        (self.next_id, self.rows) = (0, 0);
        for (key, value) in state.entries() {
            let Some(([tag, kind], id)) = key.split_first_chunk::<2>() else { continue };
            let (true, Ok(id)) = (*tag == self.tag, <[u8; 8]>::try_from(id)) else { continue };
            let id = u64::from_be_bytes(id);
            if *kind == b'c' {
                let batch = decode(value, &self.schema)?;
                self.rows += batch.len();
                self.next_id = id + 1;
                let (from, marks) = (0, Vec::new());
                let (saved, marks_changed) = (true, false);
                self.chunks.push_back(Chunk { id, batch, from, marks, saved, marks_changed });
            } else if let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.id == id)
                && chunk.batch.len() == value.len()
            {
                chunk.marks = value.to_vec();
            } else {
                return Err(ExecError::State("marks without rows".into()));
            }
        }
        Ok(())
    }

    /// Rows kept.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the rows kept, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |chunk: &Chunk| {
            let columns = chunk.batch.rows.columns().iter();
            let bytes: usize =
                columns.map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
            let places = 5 * 8 * chunk.batch.len() + chunk.marks.len();
            (bytes + places) as u64 * chunk.len() as u64 / chunk.batch.len().max(1) as u64
        };
        self.chunks.iter().map(of).sum()
    }
}

fn key(tag: u8, kind: u8, id: u64) -> Vec<u8> {
    [[tag, kind].as_slice(), &id.to_be_bytes()].concat()
}

/// The rows with text of their own, when they hold on to much more than that.
pub(crate) fn without_waste(batch: &Batch) -> Result<Batch> {
    fn shrink<T: ByteViewType>(array: &GenericByteViewArray<T>) -> Option<ArrayRef> {
        let held: usize = array.data_buffers().iter().map(|b| b.len()).sum();
        if held == 0 || held <= array.total_buffer_bytes_used() * 2 {
            return None;
        }
        Some(Arc::new(array.gc()))
    }
    let shrunk: Vec<Option<ArrayRef>> = batch
        .rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => shrink::<StringViewType>(column.as_byte_view()),
            DataType::BinaryView => shrink::<BinaryViewType>(column.as_byte_view()),
            _ => None,
        })
        .collect();
    if shrunk.iter().all(Option::is_none) {
        return Ok(batch.clone());
    }
    let columns = batch.rows.columns().iter().cloned().zip(shrunk).map(|(c, s)| s.unwrap_or(c));
    let rows = batch_of(batch.rows.schema(), columns.collect(), batch.len())?;
    Ok(batch.with_rows(rows))
}

/// Rows with their places as bytes: the numbers of rows, the five runs, an Arrow IPC stream.
pub(crate) fn encode(batch: &Batch) -> Result<Vec<u8>> {
    let mut bytes = (batch.len() as u64).to_le_bytes().to_vec();
    for run in [&batch.sequence, &batch.time, &batch.ingested, &batch.stream, &batch.offset] {
        match run {
            Run::Constant(value) => {
                bytes.push(0);
                bytes.extend(value.to_le_bytes());
            }
            Run::Sequence(first) => {
                bytes.push(1);
                bytes.extend(first.to_le_bytes());
            }
            Run::Each(values) => {
                bytes.push(2);
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
    let batch = without_waste(batch)?;
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.rows.schema())?;
    writer.write(&batch.rows)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// What [`encode`] wrote of rows of `schema`.
///
/// # Errors
/// [`ExecError::State`] when it was something else.
pub(crate) fn decode(bytes: &[u8], schema: &SchemaRef) -> Result<Batch> {
    let broken = || ExecError::State("rows that cannot be read".into());
    let (rows, mut rest) = bytes.split_first_chunk::<8>().ok_or_else(broken)?;
    let rows = u64::from_le_bytes(*rows) as usize;
    let mut runs = Vec::with_capacity(5);
    for _ in 0..5 {
        let (kind, after) = rest.split_first().ok_or_else(broken)?;
        let numbers = if *kind == 2 { rows } else { 1 };
        let length = numbers.checked_mul(8).ok_or_else(broken)?;
        let (numbers, after) = after.split_at_checked(length).ok_or_else(broken)?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|n| i64::from_le_bytes(*n));
        runs.push(match kind {
            2 => Run::Each(numbers.collect::<ScalarBuffer<i64>>()),
            1 => Run::Sequence(numbers.next().ok_or_else(broken)?),
            _ => Run::Constant(numbers.next().ok_or_else(broken)?),
        });
        rest = after;
    }
    let damaged = |error: arrow::error::ArrowError| ExecError::State(error.to_string());
    let mut reader = StreamReader::try_new(Cursor::new(rest), None).map_err(damaged)?;
    let found = reader.next().ok_or_else(broken)?.map_err(damaged)?;
    let types = |schema: &SchemaRef| {
        schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>()
    };
    let [sequence, time, ingested, stream, offset] =
        <[Run; 5]>::try_from(runs).map_err(|_| broken())?;
    if found.num_rows() != rows || types(&found.schema()) != types(schema) {
        return Err(broken());
    }
    let rows = batch_of(Arc::clone(schema), found.columns().to_vec(), rows)?;
    Ok(Batch { rows, sequence, time, ingested, stream, offset })
}
