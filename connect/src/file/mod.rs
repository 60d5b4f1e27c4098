//! Files as inputs: `.csv`, `.jsonl` (`.ndjson`) and `.evt`, read once from begin to end.

mod csv;
mod evt;
mod jsonl;
mod lines;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::error::{ConnectError, Result};
use crate::event::Event;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// RFC 4180 with a header line. Its events are of one type.
    Csv,
    /// One JSON object per line: the fields of an event of a known type, or an envelope
    /// `{"event_type": "T", "data": {..}}` (also `type`, `fields`), which may say its time with
    /// `"at"` (`"5s"` from the year 2000 on, or a moment).
    Jsonl,
    /// VPL's event files: `@5s Type { field: value }`. Times count from the year 2000.
    Evt,
}

impl FileKind {
    /// The kind a file's name tells.
    pub fn of(path: &Path) -> Result<FileKind> {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("csv") => Ok(FileKind::Csv),
            Some("jsonl" | "ndjson") => Ok(FileKind::Jsonl),
            Some("evt") => Ok(FileKind::Evt),
            _ => Err(ConnectError::Usage {
                file: path.to_path_buf(),
                message: "the name must end with .csv, .jsonl or .evt".into(),
            }),
        }
    }
}

/// The events of a file, in order. Ends after an error.
pub struct FileReader {
    kind: Reader,
    failed: bool,
}

enum Reader {
    Csv(csv::CsvReader<Box<dyn BufRead + Send>>),
    Jsonl(jsonl::JsonlReader<Box<dyn BufRead + Send>>),
    Evt(evt::EvtReader<Box<dyn BufRead + Send>>),
}

impl FileReader {
    /// Opens a file. `event_type` is the type of its events where they do not name it; a CSV file
    /// needs it.
    pub fn open(path: &Path, event_type: Option<&str>) -> Result<FileReader> {
        let kind = FileKind::of(path)?;
        let file = File::open(path).map_err(|e| ConnectError::Unreadable {
            file: path.to_path_buf(),
            reason: e.to_string(),
        })?;
        FileReader::new(kind, Box::new(BufReader::with_capacity(1 << 16, file)), path, event_type)
    }

    /// Reads `input`; `path` is for messages.
    pub fn new(
        kind: FileKind,
        input: Box<dyn BufRead + Send>,
        path: &Path,
        event_type: Option<&str>,
    ) -> Result<FileReader> {
        let name: Option<Arc<str>> = event_type.map(Arc::from);
        let lines = lines::Lines::new(input, path);
        let kind = match (kind, name) {
            (FileKind::Csv, Some(name)) => Reader::Csv(csv::CsvReader::new(lines, name)?),
            (FileKind::Csv, None) => {
                return Err(ConnectError::Usage {
                    file: path.to_path_buf(),
                    message: "a CSV file does not say which event type its rows are".into(),
                });
            }
            (FileKind::Jsonl, name) => Reader::Jsonl(jsonl::JsonlReader::new(lines, name)),
            (FileKind::Evt, name) => Reader::Evt(evt::EvtReader::new(lines, name)),
        };
        Ok(FileReader { kind, failed: false })
    }

    /// The names of the columns of a CSV file, whether or not it has rows.
    pub fn header(&self) -> Option<&[Arc<str>]> {
        match &self.kind {
            Reader::Csv(csv) => Some(csv.header()),
            _ => None,
        }
    }
}

impl Iterator for FileReader {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.failed {
            return None;
        }
        let next = match &mut self.kind {
            Reader::Csv(reader) => reader.next(),
            Reader::Jsonl(reader) => reader.next(),
            Reader::Evt(reader) => reader.next(),
        }
        .transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

#[cfg(test)]
mod tests;
