//! CSV by RFC 4180: commas, a header line, quotes around cells, doubled quotes inside them. A cell
//! without quotes that is empty is null.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::Arc;

use super::lines::{Lines, MAX_LINE};
use crate::error::{ConnectError, Place, Result};
use crate::event::{Event, Fields, Value};

pub(super) struct CsvReader<R> {
    lines: Lines<R>,
    event_type: Arc<str>,
    header: Vec<Arc<str>>,
    cells: Vec<Value>,
}

impl<R: BufRead> CsvReader<R> {
    /// Reads the header.
    pub(super) fn new(lines: Lines<R>, event_type: Arc<str>) -> Result<CsvReader<R>> {
        let mut reader = CsvReader { lines, event_type, header: Vec::new(), cells: Vec::new() };
        let Some(place) = reader.record()? else {
            let place = reader.lines.place();
            return Err(ConnectError::data(&place, "the file is empty: a header line is needed"));
        };
        let mut seen = BTreeSet::new();
        for cell in std::mem::take(&mut reader.cells) {
            let Value::Word(name) = cell else {
                return Err(ConnectError::data(&place, "the header has a column without a name"));
            };
            let name: Arc<str> = Arc::from(name.trim());
            if !seen.insert(Arc::clone(&name)) {
                let message = format!("the header has the column \"{name}\" twice");
                return Err(ConnectError::data(&place, message));
            }
            reader.header.push(name);
        }
        Ok(reader)
    }

    pub(super) fn header(&self) -> &[Arc<str>] {
        &self.header
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let Some(place) = self.record()? else { return Ok(None) };
            let (found, wanted) = (self.cells.len(), self.header.len());
            // An empty line, as some writers leave at the end.
            if wanted > 1 && self.cells == [Value::Empty] {
                continue;
            }
            if found != wanted {
                let message = format!("the row has {found} cells, the header has {wanted}");
                return Err(ConnectError::data(&place, message));
            }
            let fields = self.header.iter().cloned().zip(self.cells.drain(..)).collect();
            return Ok(Some(Event {
                event_type: Arc::clone(&self.event_type),
                at_us: None,
                fields: Fields::Named(fields),
                place,
            }));
        }
    }

    /// Reads a record, which may span lines, into `cells`; where it begins, `None` at the end.
    fn record(&mut self) -> Result<Option<Place>> {
        self.cells.clear();
        // What a quoted cell holds so far, when a line ends inside it.
        let mut open: Option<String> = None;
        let mut begin: Option<Place> = None;
        loop {
            let Some(line) = self.lines.next()? else {
                return match begin {
                    None => Ok(None),
                    Some(place) => {
                        Err(ConnectError::data(&place, "a quote is opened and never closed"))
                    }
                };
            };
            let cut = cut(line, &mut self.cells, open.take());
            let here = self.lines.place();
            let place = begin.get_or_insert_with(|| here.clone());
            match cut {
                Ok(None) => return Ok(begin),
                Ok(Some(text)) if text.len() <= MAX_LINE => open = Some(text),
                Ok(Some(_)) => {
                    return Err(ConnectError::data(place, "a cell is longer than 16 MiB"));
                }
                Err(message) => return Err(ConnectError::data(&here, message)),
            }
        }
    }
}

/// Cuts a line into cells. `open` is the beginning of a quoted cell from the lines before; returned
/// is the one that this line leaves open.
fn cut(line: &str, cells: &mut Vec<Value>, open: Option<String>) -> Result<Option<String>, String> {
    let mut rest = line;
    let mut inside = open;
    loop {
        if inside.is_none() {
            match rest.strip_prefix('"') {
                Some(quoted) => {
                    inside = Some(String::new());
                    rest = quoted;
                }
                None => {
                    let end = rest.find(',').unwrap_or(rest.len());
                    let (cell, tail) = rest.split_at(end);
                    if cell.contains('"') {
                        return Err(format!(
                            "a quote stands within the cell {cell:?}: quote the whole cell and double the quotes inside"
                        ));
                    }
                    cells.push(match cell {
                        "" => Value::Empty,
                        text => Value::Word(text.to_owned()),
                    });
                    match tail.strip_prefix(',') {
                        Some(tail) => rest = tail,
                        None => return Ok(None),
                    }
                    continue;
                }
            }
        }
        let mut text = inside.take().unwrap_or_default();
        loop {
            let Some(quote) = rest.find('"') else {
                text.push_str(rest);
                text.push('\n');
                return Ok(Some(text));
            };
            text.push_str(&rest[..quote]);
            rest = &rest[quote + 1..];
            match rest.strip_prefix('"') {
                Some(tail) => {
                    text.push('"');
                    rest = tail;
                }
                None => break,
            }
        }
        cells.push(Value::Word(text));
        match rest.strip_prefix(',') {
            Some(tail) => rest = tail,
            None if rest.is_empty() => return Ok(None),
            None => return Err(format!("text after the closing quote of a cell: {rest:?}")),
        }
    }
}
