//! VPL's event files.
//!
//! ```text
//! # comment                                  // comment
//! Trade { symbol: "A", price: 1.5, tags: [x, y] };
//! Trade("A", 1.5)                            positional
//! {"event_type": "Trade", "data": {"symbol": "A"}}
//! BATCH 2000                                 what follows happens at 2000 ms
//! @5s Trade { symbol: A }                    this one at 5 s; a bare number counts ms
//! ```
//!
//! Offsets are event times from 2000-01-01T00:00:00Z on; without one, an event happens at that
//! moment.

use std::io::BufRead;
use std::sync::Arc;

use super::jsonl;
use super::lines::Lines;
use crate::error::{ConnectError, Result};
use crate::event::{Event, Fields, Value};
use crate::time::{EPOCH_US, duration_us};

/// Nesting of lists and objects in a value.
const MAX_DEPTH: usize = 32;
/// Microseconds that an offset without unit counts.
const BARE_US: i64 = 1000;

pub(super) struct EvtReader<R> {
    lines: Lines<R>,
    event_type: Option<Arc<str>>,
    /// Offset of the last BATCH line, microseconds.
    batch_us: i64,
}

impl<R: BufRead> EvtReader<R> {
    pub(super) fn new(lines: Lines<R>, event_type: Option<Arc<str>>) -> EvtReader<R> {
        EvtReader { lines, event_type, batch_us: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let Some(line) = self.lines.next()? else { return Ok(None) };
            let mut line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
                continue;
            }
            let mut offset = self.batch_us;
            let word = line.split_whitespace().next().unwrap_or_default();
            let timed = line.strip_prefix('@');
            if timed.is_some() || word == "BATCH" {
                let rest = timed.unwrap_or_else(|| &line[word.len()..]).trim_start();
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (time, tail) = rest.split_at(end);
                let parsed = duration_us(time, Some(BARE_US)).filter(|us| *us >= 0);
                let Some(us) = parsed.filter(|us| EPOCH_US.checked_add(*us).is_some()) else {
                    let message = format!("not a time: \"{time}\"");
                    return Err(ConnectError::data(&self.lines.place(), message).hint(
                        "an offset looks like @5s, @250ms, @1h30m or, in milliseconds, @100",
                    ));
                };
                if timed.is_none() {
                    if let Err(message) = end_of_line(tail) {
                        return Err(ConnectError::data(&self.lines.place(), message));
                    }
                    self.batch_us = us;
                    continue;
                }
                (offset, line) = (us, tail.trim_start());
            }
            if line.starts_with('{') {
                // Comments and semicolons may follow the object.
                let mut stream = serde_json::Deserializer::from_str(line).into_iter();
                let parsed = stream.next().unwrap_or(Ok(serde_json::Value::Null));
                let end = if parsed.is_ok() {
                    end_of_line(&line[stream.byte_offset()..])
                } else {
                    Ok(())
                };
                let place = self.lines.place();
                end.map_err(|message| ConnectError::data(&place, message))?;
                let mut event = jsonl::event(parsed, &place, self.event_type.as_ref())?;
                event.at_us = event.at_us.or(Some(EPOCH_US + offset));
                return Ok(Some(event));
            }
            let parsed = event(line);
            let place = self.lines.place();
            let (event_type, fields) =
                parsed.map_err(|message| ConnectError::data(&place, message))?;
            return Ok(Some(Event { event_type, at_us: Some(EPOCH_US + offset), fields, place }));
        }
    }
}

/// Nothing, semicolons or a comment.
fn end_of_line(rest: &str) -> Result<(), String> {
    let rest = rest.trim_start_matches([' ', '\t', ';']);
    if rest.is_empty() || rest.starts_with('#') || rest.starts_with("//") {
        return Ok(());
    }
    Err(format!("unexpected text at the end of the line: {rest:?}"))
}

/// `Type { name: value, .. }` or `Type(value, ..)`.
fn event(line: &str) -> Result<(Arc<str>, Fields), String> {
    let mut cursor = Cursor { rest: line };
    let event_type = cursor.identifier().ok_or("expected an event type, such as `Trade { .. }`")?;
    cursor.blank();
    let fields = match cursor.peek() {
        Some('{') => {
            let members = cursor.members(0)?;
            Fields::Named(members.into_iter().map(|(k, v)| (Arc::from(k), v)).collect())
        }
        Some('(') => Fields::Positional(cursor.items(')', 0)?),
        _ => return Err(format!("expected `{{` or `(` behind `{event_type}`")),
    };
    end_of_line(cursor.rest)?;
    Ok((Arc::from(event_type), fields))
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `c` when it comes next.
    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn identifier(&mut self) -> Option<&'a str> {
        if !self.peek().is_some_and(|c| c.is_alphabetic() || c == '_') {
            return None;
        }
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Some(word)
    }

    /// `{name: value, ..}`
    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, String> {
        self.take('{');
        let mut members: Vec<(String, Value)> = Vec::new();
        loop {
            self.blank();
            if self.take('}') {
                return Ok(members);
            }
            let name = match self.peek() {
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                Some(_) => {
                    self.identifier().ok_or_else(|| self.expected("a field name"))?.to_owned()
                }
                None => return Err("the line ends before `}`".into()),
            };
            self.blank();
            if !self.take(':') {
                return Err(self.expected(&format!("`:` behind `{name}`")));
            }
            if members.iter().any(|(other, _)| *other == name) {
                return Err(format!("the field `{name}` is given twice"));
            }
            let value = self.value(depth)?;
            members.push((name, value));
            self.separator('}')?;
        }
    }

    /// `[value, ..]` or `(value, ..)`
    fn items(&mut self, close: char, depth: usize) -> Result<Vec<Value>, String> {
        // The opening bracket, which the caller has seen.
        let mut opening = self.rest.chars();
        opening.next();
        self.rest = opening.as_str();
        let mut items = Vec::new();
        loop {
            self.blank();
            if self.take(close) {
                return Ok(items);
            }
            if self.rest.is_empty() {
                return Err(format!("the line ends before `{close}`"));
            }
            items.push(self.value(depth)?);
            self.separator(close)?;
        }
    }

    /// A comma, or the end of the list, which is left.
    fn separator(&mut self, close: char) -> Result<(), String> {
        self.blank();
        if self.take(',') || self.peek() == Some(close) {
            return Ok(());
        }
        Err(self.expected(&format!("`,` or `{close}`")))
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth >= MAX_DEPTH {
            return Err(format!("values are nested deeper than {MAX_DEPTH}"));
        }
        self.blank();
        match self.peek() {
            Some(quote @ ('"' | '\'')) => self.string(quote).map(Value::Text),
            Some('[') => self.items(']', depth + 1).map(Value::List),
            Some('{') => self.members(depth + 1).map(Value::Object),
            _ => {
                let end = self.rest.find([',', '}', ']', ')']).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                if word.trim().is_empty() {
                    return Err(self.expected("a value"));
                }
                self.rest = rest;
                Ok(bare(word.trim()))
            }
        }
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        self.take(quote);
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                None => return Err("a text is not closed on its line".into()),
                Some(c) if c == quote => {
                    self.rest = chars.as_str();
                    return Ok(text);
                }
                Some('\\') => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('"' | '\'' | '\\')) => text.push(c),
                    Some(c) => return Err(format!("unknown escape `\\{c}` in a text")),
                    None => return Err("a text is not closed on its line".into()),
                },
                Some(c) => text.push(c),
            }
        }
    }

    fn expected(&self, what: &str) -> String {
        match self.peek() {
            Some(c) => format!("expected {what}, found `{c}`"),
            None => format!("expected {what}, found the end of the line"),
        }
    }
}

/// A value without quotes.
fn bare(word: &str) -> Value {
    match word {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        "null" | "nil" => return Value::Null,
        _ => {}
    }
    if let Ok(i) = word.parse::<i64>() {
        return Value::Int(i);
    }
    let digits = word.trim_start_matches(['+', '-', '.']);
    match word.parse::<f64>() {
        Ok(f) if digits.starts_with(|c: char| c.is_ascii_digit()) => Value::Float(f),
        _ => Value::Word(word.to_owned()),
    }
}
