//! The events of all inputs, in the order of their times, into the engine.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use auspex_connect::file::FileReader;
use auspex_connect::rows::RowBuilder;
use auspex_connect::survey::Survey;
use auspex_connect::time::{EPOCH_US, moment_us};
use auspex_connect::{Event, Fields, Value};
use auspex_plan::catalog::{Column, Object, ObjectId};
use auspex_plan::{ColumnType, EventTime};

use super::Failure;
use super::inputs::Input;
use super::output::Output;
use crate::embedded::{Arrivals, Embedded};

/// Events per transaction.
const CHUNK: usize = 8192;

/// Feeds all events and writes what comes out. Returns the numbers of events whose type the program
/// does not have.
pub(super) fn replay<W: Write>(
    embedded: &mut Embedded,
    inputs: &[Input],
    survey: &Survey,
    output: &mut Output<W>,
) -> Result<BTreeMap<String, u64>, Failure> {
    let mut types = BTreeMap::new();
    let mut left_out = BTreeMap::new();
    for (name, count) in survey.counts() {
        match embedded.stream(name) {
            None => {
                left_out.insert(name.to_owned(), count);
            }
            Some(object) if object.definition().is_some() => {
                return Err(Failure::Other(format!(
                    "`{name}` is a stream that the program computes: an input cannot have events of this type"
                )));
            }
            Some(object) => {
                types.insert(Arc::from(name), EventType::new(name, object, survey));
            }
        }
    }
    let mut merged = Merged::new(inputs, &types)?;
    let mut chunk = Chunk::default();
    while let Some((time, event)) = merged.next(&types)? {
        let Some(event_type) = types.get_mut(&event.event_type) else { continue };
        event_type.builder.push(event)?;
        chunk.add(event_type.object.id, time);
        if chunk.events == CHUNK {
            chunk.flush(embedded, &mut types)?;
            output.write_new(embedded)?;
        }
    }
    chunk.flush(embedded, &mut types)?;
    embedded.end_input();
    output.write_new(embedded)?;
    Ok(left_out)
}

/// How events of a type become rows.
struct EventType {
    object: Object,
    builder: RowBuilder,
    /// The column that the stream declares as its event time.
    declared: Option<(usize, String)>,
    /// The first timestamp column, and its position.
    first_timestamp: Option<(usize, String)>,
}

impl EventType {
    fn new(name: &str, object: Object, survey: &Survey) -> EventType {
        // A column that no event has and that can fill itself does so.
        let given = |c: &&Column| {
            survey.has_field(name, &c.name) || c.default.is_none() && c.generated.is_none()
        };
        let columns: Vec<Column> = object.columns().iter().filter(given).cloned().collect();
        let position = |wanted: &dyn Fn(&Column) -> bool| {
            columns.iter().position(wanted).map(|at| (at, columns[at].name.clone()))
        };
        let declared = match object.stream().map(|s| &s.event_time) {
            Some(EventTime::Column { column, .. }) => position(&|c| c.name == *column),
            _ => None,
        };
        let first_timestamp =
            position(&|c| matches!(c.column_type, ColumnType::Timestamptz | ColumnType::Timestamp));
        EventType { builder: RowBuilder::new(name, &columns), object, declared, first_timestamp }
    }

    /// When an event happened, as far as it tells.
    fn time(&self, event: &Event) -> Option<i64> {
        let of = |column: &Option<(usize, String)>| {
            let (at, name) = column.as_ref()?;
            let value = match &event.fields {
                Fields::Named(fields) => {
                    fields.iter().find(|(n, _)| n.as_ref() == name).map(|(_, v)| v)
                }
                Fields::Positional(values) => values.get(*at),
            };
            match value? {
                Value::Text(t) | Value::Word(t) => moment_us(t.trim()),
                _ => None,
            }
        };
        of(&self.declared).or(event.at_us).or_else(|| of(&self.first_timestamp))
    }
}

/// The events of several files as one sequence: ascending by time where every file is; a file is
/// never reordered, and among equal times the file given first comes first.
struct Merged {
    files: Vec<OneFile>,
}

struct OneFile {
    reader: FileReader,
    next: Option<(i64, Event)>,
    /// Time of the last event: that of the next one when it has none.
    time: i64,
    /// Greatest time so far: what the next event is merged by.
    rank: i64,
}

impl Merged {
    fn new(inputs: &[Input], types: &BTreeMap<Arc<str>, EventType>) -> Result<Merged, Failure> {
        let mut files = Vec::with_capacity(inputs.len());
        for Input { path, event_type } in inputs {
            let reader = FileReader::open(path, event_type.as_deref())?;
            let mut file = OneFile { reader, next: None, time: EPOCH_US, rank: i64::MIN };
            file.advance(types)?;
            files.push(file);
        }
        Ok(Merged { files })
    }

    fn next(
        &mut self,
        types: &BTreeMap<Arc<str>, EventType>,
    ) -> Result<Option<(i64, Event)>, Failure> {
        let waiting = self.files.iter_mut().filter(|f| f.next.is_some());
        let Some(first) = waiting.min_by_key(|f| f.rank) else { return Ok(None) };
        let taken = first.next.take();
        first.advance(types)?;
        Ok(taken)
    }
}

impl OneFile {
    fn advance(&mut self, types: &BTreeMap<Arc<str>, EventType>) -> Result<(), Failure> {
        let Some(event) = self.reader.next().transpose()? else { return Ok(()) };
        let own = types.get(&event.event_type).map_or(event.at_us, |t| t.time(&event));
        self.time = own.unwrap_or(self.time);
        self.rank = self.rank.max(self.time);
        self.next = Some((self.time, event));
        Ok(())
    }
}

/// Events of one transaction.
#[derive(Default)]
struct Chunk {
    events: usize,
    /// Runs of events of one stream, in order.
    runs: Vec<(ObjectId, usize)>,
    times: BTreeMap<ObjectId, Vec<i64>>,
}

impl Chunk {
    fn add(&mut self, stream: ObjectId, time: i64) {
        self.events += 1;
        self.times.entry(stream).or_default().push(time);
        match self.runs.last_mut() {
            Some((last, len)) if *last == stream => *len += 1,
            _ => self.runs.push((stream, 1)),
        }
    }

    /// Appends the events and waits until they are processed.
    fn flush(
        &mut self,
        embedded: &mut Embedded,
        types: &mut BTreeMap<Arc<str>, EventType>,
    ) -> Result<(), Failure> {
        let mut chunk = std::mem::take(self);
        if chunk.events == 0 {
            return Ok(());
        }
        let mut arrivals = Vec::new();
        let mut positions = BTreeMap::new();
        for event_type in types.values_mut().filter(|t| !t.builder.is_empty()) {
            let stream = event_type.object.id;
            positions.insert(stream, arrivals.len());
            let time = chunk.times.remove(&stream).unwrap_or_default();
            let (rows, places) = event_type.builder.finish()?;
            arrivals.push(Arrivals { stream, rows, time, places });
        }
        let order: Vec<(usize, usize)> =
            chunk.runs.iter().map(|(stream, len)| (positions[stream], *len)).collect();
        embedded.append(arrivals, &order)?;
        embedded.settle();
        Ok(())
    }
}
