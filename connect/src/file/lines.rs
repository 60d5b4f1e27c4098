//! Lines of a file with their numbers: valid UTF-8, bounded, without their ends.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use crate::error::{ConnectError, Place, Result};

/// Longest line. A bound against files that are no text at all.
pub(super) const MAX_LINE: usize = 16 << 20;

/// Reads lines.
pub(super) struct Lines<R> {
    input: R,
    file: Arc<Path>,
    number: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, path: &Path) -> Lines<R> {
        Lines { input, file: Arc::from(path), number: 0, bytes: Vec::new() }
    }

    /// Where the line last read is; before the first one, line 1.
    pub(super) fn place(&self) -> Place {
        Place { file: Arc::clone(&self.file), line: self.number.max(1) }
    }

    /// The next line without its end (`\n` or `\r\n`), `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&str>> {
        self.bytes.clear();
        let limit = MAX_LINE as u64 + 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.bytes);
        read.map_err(|e| ConnectError::Unreadable {
            file: self.file.to_path_buf(),
            reason: e.to_string(),
        })?;
        if self.bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if self.bytes.len() > MAX_LINE {
            return Err(ConnectError::data(&self.place(), "the line is longer than 16 MiB"));
        }
        let mut line = self.bytes.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                let byte = e.valid_up_to() + 1;
                let message = format!("the line is not valid UTF-8 at byte {byte}");
                Err(ConnectError::data(&self.place(), message))
            }
        }
    }
}
