//! One JSON object per line: fields, or an envelope with type, fields and perhaps a time.

use std::io::BufRead;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::lines::Lines;
use crate::error::{ConnectError, Place, Result};
use crate::event::{Event, Fields, Value};
use crate::time::{EPOCH_US, duration_us, moment_us};

pub(super) struct JsonlReader<R> {
    lines: Lines<R>,
    event_type: Option<Arc<str>>,
}

impl<R: BufRead> JsonlReader<R> {
    pub(super) fn new(lines: Lines<R>, event_type: Option<Arc<str>>) -> JsonlReader<R> {
        JsonlReader { lines, event_type }
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let Some(line) = self.lines.next()? else { return Ok(None) };
            if line.trim().is_empty() {
                continue;
            }
            let parsed = serde_json::from_str::<Json>(line);
            return event(parsed, &self.lines.place(), self.event_type.as_ref()).map(Some);
        }
    }
}

/// The event of a line. `event_type` is that of a bare object of fields.
pub(super) fn event(
    parsed: serde_json::Result<Json>,
    place: &Place,
    event_type: Option<&Arc<str>>,
) -> Result<Event> {
    let object = match parsed {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err(ConnectError::data(place, "the line is not a JSON object")),
        Err(e) => {
            let message = format!("the line is not JSON: {}", without_line(&e));
            return Err(ConnectError::data(place, message));
        }
    };
    if let Some(envelope) = Envelope::of(&object) {
        return envelope.open(place);
    }
    let Some(event_type) = event_type else {
        return Err(ConnectError::data(place, "the line does not say its event type").hint(
            "write {\"event_type\": \"T\", \"data\": {..}}, or name the type with the file: T=FILE",
        ));
    };
    Ok(Event {
        event_type: Arc::clone(event_type),
        at_us: None,
        fields: fields(&object),
        place: place.clone(),
    })
}

/// serde_json counts lines within the text it is given, which is one line.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line 1 column") {
        Some((what, column)) => format!("{what} at column{column}"),
        None => text,
    }
}

fn fields(object: &Map<String, Json>) -> Fields {
    let named = |(k, v): (&String, &Json)| (Arc::from(k.as_str()), Value::from_json(v.clone()));
    Fields::Named(object.iter().map(named).collect())
}

struct Envelope<'a> {
    event_type: &'a str,
    fields: &'a Map<String, Json>,
    at: Option<&'a Json>,
}

impl<'a> Envelope<'a> {
    /// An object is an envelope when it has a type, an object of fields, perhaps a time, and
    /// nothing else.
    fn of(object: &'a Map<String, Json>) -> Option<Envelope<'a>> {
        let (mut event_type, mut fields, mut at) = (None, None, None);
        for (key, value) in object {
            let first = match (key.as_str(), value) {
                ("event_type" | "type", Json::String(t)) => {
                    event_type.replace(t.as_str()).is_none()
                }
                ("data" | "fields", Json::Object(o)) => fields.replace(o).is_none(),
                ("at", value) => at.replace(value).is_none(),
                _ => false,
            };
            if !first {
                return None;
            }
        }
        Some(Envelope { event_type: event_type?, fields: fields?, at })
    }

    fn open(self, place: &Place) -> Result<Event> {
        let at_us = match self.at {
            None | Some(Json::Null) => None,
            Some(at) => {
                let text = at.as_str().unwrap_or_default();
                let offset = duration_us(text, None).and_then(|us| EPOCH_US.checked_add(us));
                let moment = offset.or_else(|| moment_us(text)).ok_or_else(|| {
                    ConnectError::data(place, format!("\"at\" is not a time: {at}"))
                        .hint("write \"5s\" (from the year 2000 on) or \"2013-01-01T10:15:00Z\"")
                })?;
                Some(moment)
            }
        };
        Ok(Event {
            event_type: Arc::from(self.event_type),
            at_us,
            fields: fields(self.fields),
            place: place.clone(),
        })
    }
}
