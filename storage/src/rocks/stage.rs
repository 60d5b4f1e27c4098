//! Bulk loads: payloads that are written before their transaction, straight into table files that
//! RocksDB takes over, so that they go neither through the write-ahead log nor through memory.
//!
//! 1. [`Load::push`] encodes rows and adds them to a table file in `<data dir>/staging/`. A full
//!    file is synced on a thread of its own while the next one is filled.
//! 2. [`Load::move_in`] (on the submitting thread) writes a synced `loading/` record that names the
//!    chunk numbers, then lets RocksDB take the files over (hard links and one synced manifest
//!    write). Nothing refers to the chunks yet.
//! 3. The committer writes the index entries and deletes the `loading/` records in the write batch
//!    of the transaction. Only now do the rows exist.
//!
//! A crash before 2 leaves files in `staging/`, which opening removes. A crash between 2 and 3 (or
//! a refused transaction) leaves `loading/` records; opening removes the chunks they name.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;

use rocksdb::{
    DB, DBCompressionType, IngestExternalFileOptions, Options, SstFileWriter, WriteBatch,
    WriteOptions,
};

use crate::error::{Result, StorageError};
use crate::rocks::prepare::{Encoded, INLINE};
use crate::rocks::stream::{BLOCK_OF_CHUNKS, Stream};
use crate::rocks::{Shared, cf, keys, read_error, write_error};
use crate::store::{Append, StreamId};

/// A file is handed over to be synced beyond this size.
const FILE_BYTES: u64 = 8 << 20;
/// Rows of a load are kept in memory for live readers up to this size.
const KEPT_BYTES: usize = 8 << 20;

static FILE_OPTIONS: LazyLock<Options> = LazyLock::new(|| {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::None);
    options
});

/// Rows of one stream on their way in.
pub(crate) struct Load {
    shared: Arc<Shared>,
    pub(crate) stream: Arc<Stream>,
    pub(crate) pieces: Vec<Piece>,
    open: Option<OpenFile>,
    closed: Vec<JoinHandle<Result<PathBuf>>>,
    /// First chunk numbers of the files.
    pub(crate) blocks: Vec<u64>,
    /// Whether RocksDB has the files.
    moved: bool,
    /// Whether the index entries are written: then nothing is to be given back.
    pub(crate) committed: bool,
    kept: usize,
}

/// The rows of one [`Append`] of a load. Its rows are dropped when the load is large.
pub(crate) struct Piece {
    pub(crate) append: Append,
    pub(crate) rows: usize,
    pub(crate) payload_bytes: u64,
    pub(crate) place: Place,
}

/// Where a piece's payload is.
pub(crate) enum Place {
    /// In a chunk of a load's file.
    Chunk(u64),
    /// Too short for a chunk.
    Inline(Vec<u8>),
}

struct OpenFile {
    writer: SstFileWriter<'static>,
    path: PathBuf,
    next: u64,
    end: u64,
    bytes: u64,
}

impl Load {
    pub(crate) fn new(shared: Arc<Shared>, stream: Arc<Stream>) -> Load {
        Load {
            shared,
            stream,
            pieces: Vec::new(),
            open: None,
            closed: Vec::new(),
            blocks: Vec::new(),
            moved: false,
            committed: false,
            kept: 0,
        }
    }

    pub(crate) fn belongs_to(&self, shared: &Shared) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.shared), shared)
    }

    /// Whether the rows of all pieces are still in memory.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept <= KEPT_BYTES
    }

    /// Encodes rows and writes them to the load's file.
    pub(crate) fn push(&mut self, append: Append) -> Result<()> {
        if append.derived.is_some() || append.at_offset.is_some() || append.stream != self.stream.id
        {
            return Err(StorageError::Misuse("only new rows of one stream can be staged".into()));
        }
        if let Some(error) = self.shared.refusal() {
            return Err(error);
        }
        let Encoded { append, payload, .. } = Encoded::new(self.stream.clone(), append)?;
        let payload_bytes = payload.len() as u64;
        let place = match payload.len() {
            0..=INLINE => Place::Inline(payload),
            _ => Place::Chunk(self.write(&payload)?),
        };
        let rows = append.rows.num_rows();
        let was_kept = self.is_kept();
        self.kept += append.rows.get_array_memory_size();
        self.pieces.push(Piece { append, rows, payload_bytes, place });
        if was_kept && !self.is_kept() {
            self.pieces.iter_mut().for_each(Piece::forget_rows);
        } else if !was_kept {
            self.pieces.iter_mut().rev().take(1).for_each(Piece::forget_rows);
        }
        Ok(())
    }

    fn write(&mut self, payload: &[u8]) -> Result<u64> {
        self.shared.demand_room(payload.len())?;
        if self.open.as_ref().is_some_and(|file| file.bytes > FILE_BYTES || file.next == file.end) {
            self.close_file()?;
        }
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                let file = OpenFile::create(&self.shared, &self.stream)?;
                self.blocks.push(file.next);
                self.open.insert(file)
            }
        };
        let chunk = file.next;
        let key = keys::numbered(self.stream.id, chunk);
        file.writer.put(key, payload).map_err(stage_error)?;
        file.next += 1;
        file.bytes += payload.len() as u64;
        Ok(chunk)
    }

    fn close_file(&mut self) -> Result<()> {
        let Some(file) = self.open.take() else { return Ok(()) };
        let OpenFile { mut writer, path, .. } = file;
        let sync = move || {
            writer.finish().map_err(stage_error)?;
            Ok(path)
        };
        let thread = std::thread::Builder::new().name("auspex-stage".into()).spawn(sync);
        self.closed.push(thread.map_err(|e| StorageError::Io(e.to_string()))?);
        Ok(())
    }

    fn finish_files(&mut self) -> Result<Vec<PathBuf>> {
        let closed = self.close_file();
        let mut paths = Vec::with_capacity(self.closed.len());
        let mut result = closed;
        for thread in self.closed.drain(..) {
            match thread.join() {
                Ok(Ok(path)) => paths.push(path),
                Ok(Err(error)) => result = Err(error),
                Err(_) => result = Err(StorageError::Io("a staging thread panicked".into())),
            }
        }
        match result {
            Ok(()) => Ok(paths),
            Err(error) => {
                remove_files(&paths);
                Err(error)
            }
        }
    }

    /// Makes the files RocksDB's. After this the rows only wait for their index entries.
    pub(crate) fn move_in(&mut self) -> Result<()> {
        let paths = self.finish_files()?;
        self.moved = true;
        if paths.is_empty() {
            return Ok(());
        }
        let db = &self.shared.db;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let mut batch = WriteBatch::default();
        for &block in &self.blocks {
            let end = block + BLOCK_OF_CHUNKS;
            let record = keys::loading(self.stream.id, block);
            batch.put_cf(cf(db, keys::META), record, end.to_le_bytes());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        // Nobody reads the chunks before the index names them.
        options.set_snapshot_consistency(false);
        let moved = db.write_opt(batch, &synced).and_then(|()| {
            db.ingest_external_file_cf_opts(cf(db, keys::CHUNK), &options, paths.clone())
        });
        remove_files(&paths);
        moved.map_err(|error| {
            let error = write_error(error);
            if let StorageError::Failed(_) = error {
                self.shared.fail(error.clone());
            }
            error
        })
    }
}

impl Piece {
    fn forget_rows(&mut self) {
        self.append.rows = self.append.rows.slice(0, 0);
        let schema = self.append.rows.schema();
        self.append.rows = arrow::record_batch::RecordBatch::new_empty(schema);
    }
}

impl OpenFile {
    fn create(shared: &Shared, stream: &Stream) -> Result<OpenFile> {
        let number = shared.next_file.fetch_add(1, Ordering::Relaxed);
        let path = shared.staging.join(format!("{number}.sst"));
        fs::create_dir_all(&shared.staging).map_err(io_error)?;
        let writer = SstFileWriter::create(&FILE_OPTIONS);
        writer.open(&path).map_err(stage_error)?;
        let next = stream.take_chunks(BLOCK_OF_CHUNKS);
        Ok(OpenFile { writer, path, next, end: next + BLOCK_OF_CHUNKS, bytes: 0 })
    }
}

/// A load that is dropped before its rows exist leaves nothing.
impl Drop for Load {
    fn drop(&mut self) {
        if self.moved {
            if !self.committed && self.shared.failure.get().is_none() {
                // When this fails, opening does it.
                let _ = self.give_back();
            }
            return;
        }
        if let Some(file) = self.open.take() {
            drop(file.writer);
            remove_files(&[file.path]);
        }
        if let Ok(paths) = self.finish_files() {
            remove_files(&paths);
        }
    }
}

impl Load {
    fn give_back(&self) -> Result<()> {
        let db = &self.shared.db;
        let mut batch = WriteBatch::default();
        for &block in &self.blocks {
            discard(db, &mut batch, self.stream.id, block, block + BLOCK_OF_CHUNKS);
        }
        db.write(batch).map_err(write_error)
    }
}

/// Removes the chunks of a load that was not committed, and its record.
fn discard(db: &DB, batch: &mut WriteBatch, stream: StreamId, first: u64, end: u64) {
    let chunks = [first, end].map(|number| keys::numbered(stream, number));
    batch.delete_range_cf(cf(db, keys::CHUNK), chunks[0], chunks[1]);
    batch.delete_cf(cf(db, keys::META), keys::loading(stream, first));
}

/// Removes what is left of loads that did not come to their end.
pub(crate) fn clean_up(db: &DB, staging: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(staging) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error(e)),
        _ => {}
    }
    let mut batch = WriteBatch::default();
    for record in db.prefix_iterator_cf(cf(db, keys::META), keys::LOADING) {
        let (key, end) = record.map_err(read_error)?;
        let Some(key) = key.strip_prefix(keys::LOADING) else { break };
        let damaged = || StorageError::Corrupted("record of a bulk load".into());
        let stream = StreamId::from_be_bytes(*key.first_chunk::<4>().ok_or_else(damaged)?);
        let first = keys::number_of(key, stream).ok_or_else(damaged)?;
        let end = end.as_ref().try_into().map(u64::from_le_bytes).map_err(|_| damaged())?;
        discard(db, &mut batch, stream, first, end);
    }
    if !batch.is_empty() {
        db.write(batch).map_err(write_error)?;
    }
    Ok(())
}

fn remove_files(paths: &[PathBuf]) {
    for path in paths {
        // Opening removes what could not be removed here.
        let _ = fs::remove_file(path);
    }
}

fn io_error(error: std::io::Error) -> StorageError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => StorageError::DiskFull,
        _ => StorageError::Io(error.to_string()),
    }
}

/// An error of a table file: the store itself is not touched by it.
fn stage_error(error: rocksdb::Error) -> StorageError {
    match write_error(error) {
        StorageError::Failed(what) => StorageError::Io(what),
        other => other,
    }
}
