//! PostgreSQL's binary COPY format.
//!
//! A header (signature, flags, extension), then per row a 16-bit field count and per field a
//! 32-bit length (-1 for null) with that many bytes, then the count -1. Complete rows are indexed
//! where they lie in the pushed bytes and read column by column; only an unfinished row is copied.

use arrow::record_batch::RecordBatch;

use super::column::BinaryChunk;
use super::rows::Rows;
use super::{MAX_ROW_BYTES, too_long};
use crate::copy::CopyError;
use crate::copy::error::Place;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER: usize = SIGNATURE.len() + 8;
/// Bytes indexed at a time.
const CHUNK: usize = 64 << 10;

/// State between pushes.
pub(super) struct Binary {
    rows: Rows,
    /// Rows read.
    row: u64,
    state: State,
    tail: Vec<u8>,
    /// Bytes that must come before it makes sense to look at the tail again.
    wanted: usize,
    /// The field they belong to.
    wanted_by: Option<usize>,
    /// Start and length (-1: null) of every field of the rows being read.
    fields: Vec<(u32, i32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// Bytes of the header extension still to skip.
    Extension(usize),
    Rows,
    /// The trailer was read.
    Ended,
}

/// What the bytes at hand hold.
enum Row {
    /// A complete row of this many bytes; its fields have been noted.
    Complete(usize),
    /// Not before this many bytes from the row's start are there, needed by the field of this
    /// number (none: the field count).
    Incomplete(usize, Option<usize>),
    Trailer,
    /// The length of this field is none.
    BadLength(usize),
}

impl Binary {
    pub(super) fn new(rows: Rows) -> Binary {
        Binary {
            rows,
            row: 0,
            state: State::Header,
            tail: Vec::new(),
            wanted: 0,
            wanted_by: None,
            fields: Vec::new(),
        }
    }

    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        while !self.tail.is_empty() && !bytes.is_empty() {
            let missing = self.wanted.saturating_sub(self.tail.len()).clamp(1, bytes.len());
            self.tail.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.tail.len() >= self.wanted {
                let tail = std::mem::take(&mut self.tail);
                let used = self.take(&tail, out)?;
                self.tail = tail;
                self.tail.drain(..used);
            }
        }
        if !bytes.is_empty() {
            let used = self.take(bytes, out)?;
            self.tail.extend_from_slice(&bytes[used..]);
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        if self.state == State::Header {
            header(&self.tail)?;
        }
        match self.state {
            State::Header if self.tail.len() < SIGNATURE.len() => {
                return Err(CopyError::format("COPY file signature not recognized"));
            }
            State::Header if self.tail.len() < SIGNATURE.len() + 4 => {
                return Err(CopyError::format("invalid COPY file header (missing flags)"));
            }
            State::Header => {
                return Err(CopyError::format("invalid COPY file header (missing length)"));
            }
            State::Extension(_) => {
                return Err(CopyError::format("invalid COPY file header (wrong length)"));
            }
            // As in PostgreSQL, the trailer may be missing.
            State::Rows if self.tail.len() >= 2 => {
                let error = CopyError::format("unexpected EOF in COPY data");
                return Err(self.wrong(error, self.wanted_by));
            }
            State::Rows | State::Ended => {}
        }
        self.rows.flush(out)
    }

    /// `error` at a field of the row behind the last one read.
    fn wrong(&self, error: CopyError, field: Option<usize>) -> CopyError {
        let place = match field {
            Some(field) => Place::Column(self.rows.columns[field].name.clone()),
            None => Place::Line,
        };
        error.at(self.row + 1, place)
    }

    /// Reads what is complete at the front of `bytes`; returns how far and sets `wanted`.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<RecordBatch>) -> Result<usize, CopyError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.state {
                State::Header => {
                    let Some(extension) = header(rest)? else {
                        self.wanted = HEADER;
                        return Ok(used);
                    };
                    used += HEADER;
                    self.state = State::Extension(extension);
                }
                State::Extension(0) => self.state = State::Rows,
                State::Extension(left) => {
                    if rest.is_empty() {
                        return Ok(used);
                    }
                    let skip = left.min(rest.len());
                    used += skip;
                    self.state = State::Extension(left - skip);
                }
                State::Rows => {
                    used += self.take_rows(rest, out)?;
                    if self.state == State::Rows {
                        return Ok(used);
                    }
                }
                State::Ended => {
                    if !rest.is_empty() {
                        return Err(CopyError::format("received copy data after EOF marker")
                            .at(self.row + 1, Place::Line));
                    }
                    return Ok(used);
                }
            }
        }
    }

    fn take_rows(&mut self, bytes: &[u8], out: &mut Vec<RecordBatch>) -> Result<usize, CopyError> {
        let width = self.rows.columns.len();
        let mut used = 0;
        loop {
            // Index rows up to a chunk, the room in the batch, or what is there.
            self.fields.clear();
            let start = used;
            let mut count = 0;
            let room = self.rows.room();
            let mut stop = None;
            while count < room && used - start < CHUNK {
                let found = row(&bytes[used..], used - start, width, &mut self.fields)
                    .map_err(|e| e.at(self.row + count as u64 + 1, Place::Line));
                match found {
                    Ok(Row::Complete(len)) => {
                        used += len;
                        count += 1;
                    }
                    other => {
                        stop = Some(other);
                        break;
                    }
                }
            }
            self.read(&bytes[start..used], count, out)?;
            match stop.transpose()? {
                None => {}
                Some(Row::Trailer) => {
                    self.state = State::Ended;
                    return Ok(used + 2);
                }
                Some(Row::Incomplete(wanted, field)) => {
                    if wanted > MAX_ROW_BYTES {
                        return Err(self.wrong(too_long(), field));
                    }
                    (self.wanted, self.wanted_by) = (wanted, field);
                    return Ok(used);
                }
                Some(Row::BadLength(field)) => {
                    return Err(self.wrong(CopyError::format("invalid field size"), Some(field)));
                }
                Some(Row::Complete(_)) => {}
            }
        }
    }

    /// Adds `count` rows whose fields are noted.
    fn read(
        &mut self,
        bytes: &[u8],
        count: usize,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        if count == 0 {
            return Ok(());
        }
        let chunk = BinaryChunk { bytes, fields: &self.fields, width: self.rows.columns.len() };
        let mut bad = None;
        let mut limit = count;
        for (at, column) in self.rows.columns.iter_mut().enumerate() {
            if let Err((row, error)) = column.binary_chunk(&chunk, at, 0..limit) {
                limit = row;
                bad = Some((column.name.clone(), *error));
            }
        }
        if let Some((column, error)) = bad {
            let row = self.row + limit as u64 + 1;
            return Err(error.at(row, Place::Column(column)));
        }
        self.row += count as u64;
        self.rows.added(count, bytes.len(), out)
    }
}

/// Checks the header; the length of its extension, or `None` while it is not complete.
fn header(bytes: &[u8]) -> Result<Option<usize>, CopyError> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(CopyError::format("COPY file signature not recognized"));
    }
    let Some(numbers) = bytes.get(SIGNATURE.len()..HEADER) else { return Ok(None) };
    let number = |at: usize| {
        u32::from_be_bytes(numbers[at..at + 4].try_into().expect("four bytes of eight"))
    };
    let (flags, extension) = (number(0), number(4));
    if flags & 1 << 16 != 0 {
        return Err(CopyError::format("invalid COPY file header (WITH OIDS)"));
    }
    if flags >> 16 != 0 {
        return Err(CopyError::format("unrecognized critical flags in COPY file header"));
    }
    if extension > i32::MAX as u32 {
        return Err(CopyError::format("invalid COPY file header (missing length)"));
    }
    Ok(Some(extension as usize))
}

/// Notes the fields of the row at the front of `bytes`, as places relative to `base` bytes before
/// it. Looks at lengths only, never allocates by them.
#[inline]
fn row(
    bytes: &[u8],
    base: usize,
    width: usize,
    fields: &mut Vec<(u32, i32)>,
) -> Result<Row, CopyError> {
    let before = fields.len();
    let Some(count) = bytes.first_chunk::<2>() else { return Ok(Row::Incomplete(2, None)) };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Row::Trailer);
    }
    if count as usize != width {
        return Err(CopyError::format(format!("row field count is {count}, expected {width}")));
    }
    let mut at = 2usize;
    for field in 0..width {
        let Some(len) = bytes.get(at..at + 4) else {
            fields.truncate(before);
            return Ok(Row::Incomplete(at + 4, Some(field)));
        };
        let len = i32::from_be_bytes(len.try_into().expect("four bytes"));
        if len < -1 {
            return Ok(Row::BadLength(field));
        }
        at += 4;
        fields.push(((base + at) as u32, len));
        at += len.max(0) as usize;
        if at > bytes.len() {
            fields.truncate(before);
            return Ok(Row::Incomplete(at, Some(field)));
        }
    }
    Ok(Row::Complete(at))
}
