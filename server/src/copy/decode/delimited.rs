//! Text and csv.
//!
//! Pushed bytes are parsed where they are. Plain lines go through [`Index`] and column by column;
//! a line with quotes, escapes or anything else out of the ordinary is read alone by the parsers
//! that follow PostgreSQL step by step. Only an unfinished last line is copied, to `tail`.

use arrow::record_batch::RecordBatch;

use super::column::Chunk;
use super::field::Fields;
use super::index::{Dress, Index, Syntax};
use super::line::{Ending, Found, LineScan};
use super::rows::Rows;
use super::value;
use super::{MAX_ROW_BYTES, too_long};
use crate::copy::error::Place;
use crate::copy::{CopyError, CopyOptions, Format, Header};

/// Bytes indexed at a time: the index and the bytes stay in the level 2 cache while the columns
/// are read.
const CHUNK: usize = 64 << 10;

/// Lines read alone after a special one before the fast way is tried again. Doubles while that is
/// in vain.
const SLOW_LINES: usize = 4;
const MAX_SLOW_LINES: usize = 256;

/// State between pushes.
pub(super) struct Delimited {
    options: CopyOptions,
    rows: Rows,
    ending: Option<Ending>,
    /// Lines read.
    line: u64,
    header: bool,
    /// The end marker was read: the rest is ignored.
    ended: bool,
    tail: Vec<u8>,
    tail_scan: LineScan,
    index: Index,
    fields: Fields,
    slow_lines: usize,
    next_slow: usize,
}

impl Delimited {
    pub(super) fn new(options: CopyOptions, rows: Rows) -> Delimited {
        Delimited {
            header: options.header != Header::No,
            options,
            rows,
            ending: None,
            line: 0,
            ended: false,
            tail: Vec::new(),
            tail_scan: LineScan::default(),
            index: Index::default(),
            fields: Fields::default(),
            slow_lines: 0,
            next_slow: SLOW_LINES,
        }
    }

    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        while !self.tail.is_empty() && !bytes.is_empty() && !self.ended {
            // To the next byte that can end a line, and with it one that only a look ahead wanted.
            let piece = memchr::memchr2(b'\n', b'\r', bytes).map_or(bytes.len(), |at| at + 1);
            self.tail.extend_from_slice(&bytes[..piece]);
            bytes = &bytes[piece..];
            self.lines_of_tail(false, out)?;
        }
        if self.ended || bytes.is_empty() {
            return Ok(());
        }
        let used = self.lines(bytes, out)?;
        if !self.ended {
            self.tail.extend_from_slice(&bytes[used..]);
            self.tail_scan = LineScan::default();
            self.check_tail()?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        if !self.ended {
            self.lines_of_tail(true, out)?;
        }
        self.rows.flush(out)
    }

    fn check_tail(&self) -> Result<(), CopyError> {
        if self.tail.len() > MAX_ROW_BYTES {
            return Err(too_long().at(self.line + 1, Place::Line));
        }
        Ok(())
    }

    /// Reads complete lines off the tail.
    fn lines_of_tail(&mut self, last: bool, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        let mut tail = std::mem::take(&mut self.tail);
        let mut used = 0;
        while used < tail.len() && !self.ended {
            match self.one_line(&tail[used..], last, true, out)? {
                Some(next) => used += next,
                None => break,
            }
        }
        tail.drain(..used);
        self.tail = tail;
        self.check_tail()
    }

    /// Reads the complete lines of `bytes`; returns how far.
    fn lines(&mut self, bytes: &[u8], out: &mut Vec<RecordBatch>) -> Result<usize, CopyError> {
        let mut used = 0;
        while used < bytes.len() && !self.ended {
            // The first line, read alone, tells how lines end.
            let plain = !self.header && matches!(self.ending, Some(Ending::Newline | Ending::Both));
            if plain && self.slow_lines == 0 {
                let rest = &bytes[used..];
                let chunk = &rest[..rest.len().min(CHUNK)];
                let (fast, special) = self.plain_lines(chunk, out)?;
                used += fast;
                if fast > CHUNK / 2 {
                    self.next_slow = SLOW_LINES;
                }
                if special {
                    self.slow_lines = self.next_slow;
                    self.next_slow = (self.next_slow * 2).min(MAX_SLOW_LINES);
                } else if fast == 0 {
                    // A line longer than the chunk, or an incomplete one.
                    self.slow_lines = 1;
                }
                continue;
            }
            self.slow_lines = self.slow_lines.saturating_sub(1);
            match self.one_line(&bytes[used..], false, false, out)? {
                Some(next) => used += next,
                None => break,
            }
        }
        Ok(used)
    }

    /// Reads the plain lines at the front of `bytes`; returns how far, and whether the next line
    /// is one for [`Delimited::one_line`].
    fn plain_lines(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<RecordBatch>,
    ) -> Result<(usize, bool), CopyError> {
        let both = self.ending == Some(Ending::Both);
        let options = &self.options;
        let dress = match options.format {
            Format::Csv if options.quote == options.escape => Dress::Quote(options.quote),
            Format::Csv => Dress::Other(options.quote),
            _ => Dress::Backslash,
        };
        // Where lines end in CR LF, carriage returns are looked for afterwards.
        let special = if both { 0 } else { b'\r' };
        let width = self.rows.columns.len();
        let syntax = Syntax { delimiter: options.delimiter, dress, special };
        let mut found = self.index.build(bytes, width, syntax);
        let starts = &self.index.starts;
        if dress != Dress::Backslash
            && let Some(row) = (0..found.rows).find(|r| bytes[starts[r * width] as usize] == b'\\')
        {
            // The end marker starts a line.
            found.cut(row, starts, width);
        }
        if both && !self.index.ends_in_returns(bytes, found, width) {
            return Ok((0, true));
        }
        let text = match std::str::from_utf8(&bytes[..found.bytes]) {
            Ok(text) => text,
            Err(error) => {
                // The rows before the bad one first: their errors come first.
                let valid = error.valid_up_to();
                let good = |row: &usize| starts[(row + 1) * width] as usize <= valid;
                found.cut((0..found.rows).take_while(good).count(), starts, width);
                std::str::from_utf8(&bytes[..found.bytes]).unwrap_or_default()
            }
        };
        if found.rows == 0 {
            return Ok((0, found.special));
        }
        let inner = found.dressed && dress != Dress::Backslash;
        let chunk = Chunk {
            text,
            starts,
            width,
            trim: usize::from(both),
            options,
            dress: match dress {
                _ if !found.dressed => None,
                Dress::Quote(quote) => Some(quote),
                _ => Some(b'\\'),
            },
            zone: self.rows.zone,
        };
        let mut done = 0;
        while done < found.rows {
            let end = found.rows.min(done + self.rows.room());
            // A column stops at the first bad row of those before it: the error reported is the
            // one that comes first in the input.
            let mut bad = None;
            let mut limit = end;
            for (at, column) in self.rows.columns.iter_mut().enumerate() {
                let added = column.text_chunk(&chunk, at, done..limit, &mut self.fields);
                if let Err((row, error)) = added {
                    limit = row;
                    bad = Some(error);
                }
            }
            if let Some(error) = bad {
                // Read alone, the line gives the error with its place.
                let start = starts[limit * width] as usize;
                let line = &text[start..starts[(limit + 1) * width] as usize - 1 - chunk.trim];
                self.line += lines(&text[..start], inner, limit, both);
                self.line += lines(line, inner, 0, both) + 1;
                return Err(self.row(line).err().unwrap_or(*error));
            }
            let size = starts[end * width] - starts[done * width];
            self.rows.added(end - done, size as usize, out)?;
            done = end;
        }
        self.line += lines(text, inner, found.rows, both);
        Ok((found.bytes, found.special))
    }

    /// Reads one line as PostgreSQL does. `None`: it is not complete. `tail`: the state of the
    /// search for its end is kept for when more bytes have come.
    fn one_line(
        &mut self,
        bytes: &[u8],
        last: bool,
        tail: bool,
        out: &mut Vec<RecordBatch>,
    ) -> Result<Option<usize>, CopyError> {
        let mut scan = if tail { std::mem::take(&mut self.tail_scan) } else { LineScan::default() };
        let found = scan
            .find(bytes, &self.options, &mut self.ending, last)
            .map_err(|e| e.at(self.line + 1 + scan.inner_lines, Place::Line))?;
        let (len, next) = match found {
            Found::Incomplete => {
                if tail {
                    self.tail_scan = scan;
                }
                return Ok(None);
            }
            Found::Line { len, next } => (len, next),
            Found::Marker { len } => {
                self.ended = true;
                if len == 0 {
                    return Ok(Some(bytes.len()));
                }
                (len, bytes.len())
            }
        };
        self.line += 1 + scan.inner_lines;
        let line = value::utf8(&bytes[..len])
            .map_err(|e| CopyError::from(e).at(self.line, Place::Line))?;
        if std::mem::take(&mut self.header) {
            self.check_header(line)?;
        } else {
            self.row(line)?;
            self.rows.added(1, next, out)?;
        }
        Ok(Some(next))
    }

    fn row(&mut self, line: &str) -> Result<(), CopyError> {
        let at_line = || Place::Text(line.to_string());
        let number = self.line;
        self.fields.split(line, &self.options).map_err(|e| e.at(number, at_line()))?;
        let zone = self.rows.zone;
        let width = self.rows.columns.len();
        if self.fields.len() > width {
            return Err(
                CopyError::format("extra data after last expected column").at(number, at_line())
            );
        }
        // All fields are checked to be text before the first is read.
        for at in 0..self.fields.len() {
            self.fields.get(at).map_err(|e| e.at(number, at_line()))?;
        }
        for (at, column) in self.rows.columns.iter_mut().enumerate() {
            if at >= self.fields.len() {
                let name = &column.name;
                return Err(CopyError::format(format!("missing data for column \"{name}\""))
                    .at(number, at_line()));
            }
            let field = self.fields.get(at)?;
            column.field(field, &self.options.null, zone).map_err(|e| {
                let shown = field.text.unwrap_or_default().to_string();
                CopyError::from(e).at(number, Place::Value(column.name.clone(), shown))
            })?;
        }
        Ok(())
    }

    fn check_header(&mut self, line: &str) -> Result<(), CopyError> {
        if self.options.header != Header::Match {
            return Ok(());
        }
        let place = || Place::Text(line.to_string());
        let number = self.line;
        self.fields.split(line, &self.options).map_err(|e| e.at(number, place()))?;
        let (count, width) = (self.fields.len(), self.rows.columns.len());
        if count != width {
            return Err(CopyError::format(format!(
                "wrong number of fields in header line: got {count}, expected {width}"
            ))
            .at(number, place()));
        }
        for (at, column) in self.rows.columns.iter().enumerate() {
            let expected = &column.name;
            let got = match self.fields.get(at).map_err(|e| e.at(number, place()))?.text {
                Some(name) if name == expected => continue,
                Some(name) => format!("\"{name}\""),
                None => format!("null value (\"{}\")", self.options.null),
            };
            return Err(CopyError::format(format!(
                "column name mismatch in header line field {}: got {got}, expected \"{expected}\"",
                at + 1
            ))
            .at(number, place()));
        }
        Ok(())
    }
}

/// Lines as PostgreSQL counts them: `rows` line ends and, if there can be any, those inside quotes.
fn lines(text: &str, inner: bool, rows: usize, both: bool) -> u64 {
    if !inner {
        return rows as u64;
    }
    memchr::memchr_iter(if both { b'\r' } else { b'\n' }, text.as_bytes()).count() as u64
}
