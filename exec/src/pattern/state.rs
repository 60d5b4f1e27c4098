//! Partitions as saved state: one value for each, written when it has changed.
//!
//! A value lists the distinct rows of the partition (with their cells, by input, in the format of
//! `arrow::row`), the links between them, and runs and matches that refer to links by number.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;

use super::matched::{Event, Link, Match};
use super::partition::{Partition, Pending, Run};
use super::program::{Places, Program};
use super::{Kept, Matcher};
use crate::error::{ExecError, Result};
use crate::operator::{StateReader, StateWriter};
use crate::rows::{read_bytes, read_number, write_bytes};

// The reorder buffer has the keys that begin with the number of an input, and 0xf0.
const PARTITION: u8 = 0xe0;
const OWN: u8 = 0xe1;

impl Matcher {
    /// Writes what has changed.
    pub(super) fn save(&mut self, state: &mut StateWriter) -> Result<()> {
        for key in std::mem::take(&mut self.removed) {
            state.remove(&[&[PARTITION], key.as_ref()].concat());
        }
        let changed = std::mem::take(&mut self.changed);
        if !changed.is_empty() {
            state.put(&[OWN], self.rows.to_be_bytes().to_vec());
        }
        let codecs = Codecs::new(&self.program)?;
        for number in changed {
            let Some(kept) = &self.partitions[number] else { continue };
            let value = Writer::new(&self.places, &codecs).partition(&kept.partition)?;
            state.put(&[&[PARTITION], kept.key.as_ref()].concat(), value);
        }
        self.reorder.checkpoint(state)
    }

    /// Takes back what was written.
    pub(super) fn load(&mut self, state: &StateReader) -> Result<()> {
        self.names.clear();
        self.partitions.clear();
        self.free.clear();
        self.deadlines.clear();
        self.changed.clear();
        self.removed.clear();
        self.rows = 0;
        let codecs = Codecs::new(&self.program)?;
        for (key, value) in state.entries() {
            match key.split_first() {
                Some((&OWN, [])) => self.rows = StateReader::count(value)?,
                Some((&PARTITION, key)) => {
                    let (program, places) = (&self.program, &mut self.places);
                    let partition = read_partition(program, places, &codecs, value)?;
                    let number = self.partitions.len();
                    self.deadlines.extend(deadlines(program, &partition, number));
                    let key: Arc<[u8]> = key.into();
                    self.names.insert(Arc::clone(&key), number);
                    self.partitions.push(Some(Kept { key, partition }));
                }
                _ => {}
            }
        }
        self.reorder.restore(state)
    }
}

/// When what a partition keeps ends.
fn deadlines(
    program: &Program,
    partition: &Partition,
    number: usize,
) -> BTreeSet<(i64, u64, usize)> {
    let mut all = BTreeSet::new();
    let within = program.pattern.within_us;
    for run in &partition.runs {
        let ends = within.map(|us| run.first.time.saturating_add(us));
        let ends = ends.into_iter().chain(run.absent_until);
        all.extend(ends.map(|at| (at, run.first.order, number)));
    }
    if let (Some(time), Some(us)) = (partition.leading, within) {
        all.insert((time.saturating_add(us), 0, number));
    }
    all
}

/// Turns cells of each input into bytes and back.
struct Codecs(Vec<RowConverter>);

impl Codecs {
    fn new(program: &Program) -> Result<Codecs> {
        let converter = |cells: &Vec<arrow::datatypes::DataType>| {
            let fields: Vec<SortField> = cells.iter().cloned().map(SortField::new).collect();
            if !RowConverter::supports_fields(&fields) {
                return Err(ExecError::Unsupported("keeping a column of this type".into()));
            }
            Ok(RowConverter::new(fields)?)
        };
        let all = program.inputs.iter().map(|input| converter(&input.cells));
        Ok(Codecs(all.collect::<Result<_>>()?))
    }

    fn encode(&self, event: &Event) -> Result<Vec<u8>> {
        if event.cells.is_empty() {
            return Ok(Vec::new());
        }
        let columns = event.cells.iter().map(ScalarValue::to_array);
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let rows = self.0[event.input].convert_columns(&columns)?;
        Ok(rows.row(0).data().to_vec())
    }

    fn decode(&self, program: &Program, input: usize, bytes: &[u8]) -> Result<Vec<ScalarValue>> {
        let cells = &program.inputs.get(input).ok_or_else(broken)?.cells;
        if cells.is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.0[input].parser();
        let columns = self.0[input].convert_rows([parser.parse(bytes)])?;
        let cell = columns.iter().map(|column| ScalarValue::try_from_array(column, 0));
        Ok(cell.collect::<Result<_, _>>()?)
    }
}

fn broken() -> ExecError {
    ExecError::State("a pattern that cannot be read".into())
}

/// Writes a partition.
struct Writer<'a> {
    places: &'a Places,
    codecs: &'a Codecs,
    events: HashMap<*const Event, u64>,
    links: HashMap<*const Link, u64>,
    event_bytes: Vec<u8>,
    link_bytes: Vec<u8>,
}

fn put(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_be_bytes());
}

fn put_option(to: &mut Vec<u8>, number: Option<i64>) {
    put(to, u64::from(number.is_some()));
    put(to, number.unwrap_or(0) as u64);
}

impl<'a> Writer<'a> {
    fn new(places: &'a Places, codecs: &'a Codecs) -> Writer<'a> {
        let (events, links) = (HashMap::new(), HashMap::new());
        let (event_bytes, link_bytes) = (Vec::new(), Vec::new());
        Writer { places, codecs, events, links, event_bytes, link_bytes }
    }

    fn partition(mut self, partition: &Partition) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        put(&mut body, partition.pendings.len() as u64);
        for pending in &partition.pendings {
            put(&mut body, u64::from(pending.is_some()));
            if let Some(pending) = pending {
                self.found(&pending.found, &mut body)?;
                put(&mut body, pending.runs as u64);
                put(&mut body, u64::from(pending.outgrown));
            }
        }
        put(&mut body, partition.runs.len() as u64);
        for run in &partition.runs {
            put(&mut body, self.event(&run.first)?);
            put(&mut body, self.link(&run.last)?);
            let states = &self.places.get(run.place).states;
            put(&mut body, states.len() as u64);
            states.iter().for_each(|state| put(&mut body, *state as u64));
            put(&mut body, (run.live >> 64) as u64);
            put(&mut body, run.live as u64);
            put_option(&mut body, run.pending.map(|pending| pending as i64));
            put_option(&mut body, run.before);
            put_option(&mut body, run.absent_until);
        }
        put(&mut body, partition.held.len() as u64);
        for found in &partition.held {
            self.found(found, &mut body)?;
        }
        let mut all = Vec::new();
        put(&mut all, partition.rows);
        put(&mut all, partition.resume);
        put_option(&mut all, partition.leading);
        put_option(&mut all, partition.taken.map(|row| row as i64));
        put(&mut all, self.events.len() as u64);
        all.append(&mut self.event_bytes);
        put(&mut all, self.links.len() as u64);
        all.append(&mut self.link_bytes);
        all.append(&mut body);
        Ok(all)
    }

    fn found(&mut self, found: &Match, to: &mut Vec<u8>) -> Result<()> {
        let (first, last) = (self.event(&found.first)?, self.link(&found.last)?);
        put(to, first);
        put(to, last);
        put_option(to, found.deadline);
        Ok(())
    }

    /// The number of a row; its bytes are written when it has none yet.
    fn event(&mut self, event: &Arc<Event>) -> Result<u64> {
        let next = self.events.len() as u64;
        if let Some(number) = self.events.get(&Arc::as_ptr(event)) {
            return Ok(*number);
        }
        self.events.insert(Arc::as_ptr(event), next);
        let numbers = [event.order, event.number, event.time as u64, event.input as u64];
        numbers.into_iter().for_each(|number| put(&mut self.event_bytes, number));
        write_bytes(&mut self.event_bytes, &self.codecs.encode(event)?);
        Ok(next)
    }

    /// The number of a link; those before it have smaller ones.
    fn link(&mut self, link: &Arc<Link>) -> Result<u64> {
        let known = |link: &&Link| self.links.contains_key(&std::ptr::from_ref(*link));
        let mut new: Vec<&Link> = link.back().take_while(|link| !known(link)).collect();
        new.reverse();
        for link in new {
            let before = link.before.as_ref().map(|before| self.links[&Arc::as_ptr(before)] as i64);
            let event = self.event(&link.event)?;
            put_option(&mut self.link_bytes, before);
            put(&mut self.link_bytes, link.step as u64);
            put(&mut self.link_bytes, event);
            let next = self.links.len() as u64;
            self.links.insert(std::ptr::from_ref(link), next);
        }
        Ok(self.links[&Arc::as_ptr(link)])
    }
}

/// Reads a partition.
struct Reader<'a> {
    rest: &'a [u8],
    events: Vec<Arc<Event>>,
    links: Vec<Arc<Link>>,
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u64> {
        Ok(read_number(&mut self.rest)? as u64)
    }

    fn option(&mut self) -> Result<Option<i64>> {
        let present = self.number()? == 1;
        let value = read_number(&mut self.rest)?;
        Ok(present.then_some(value))
    }

    fn event(&mut self) -> Result<Arc<Event>> {
        let number = self.number()? as usize;
        self.events.get(number).cloned().ok_or_else(broken)
    }

    fn link(&mut self) -> Result<Arc<Link>> {
        let number = self.number()? as usize;
        self.links.get(number).cloned().ok_or_else(broken)
    }

    fn found(&mut self) -> Result<Match> {
        Ok(Match { first: self.event()?, last: self.link()?, deadline: self.option()? })
    }
}

fn read_partition(
    program: &Program,
    places: &mut Places,
    codecs: &Codecs,
    value: &[u8],
) -> Result<Partition> {
    let mut from = Reader { rest: value, events: Vec::new(), links: Vec::new() };
    let (rows, resume) = (from.number()?, from.number()?);
    let (leading, taken) = (from.option()?, from.option()?.map(|row| row as u64));
    let mut partition = Partition { rows, resume, leading, taken, ..Partition::default() };
    for _ in 0..from.number()? {
        let (order, number, time) = (from.number()?, from.number()?, from.number()? as i64);
        let input = from.number()? as usize;
        let cells = codecs.decode(program, input, read_bytes(&mut from.rest)?)?;
        from.events.push(Arc::new(Event { order, number, time, input, cells }));
    }
    for _ in 0..from.number()? {
        let before = match from.option()? {
            Some(before) => Some(from.links.get(before as usize).cloned().ok_or_else(broken)?),
            None => None,
        };
        let (step, event) = (from.number()? as usize, from.event()?);
        from.links.push(Arc::new(Link { before, step, event }));
    }
    for _ in 0..from.number()? {
        partition.pendings.push(match from.number()? {
            0 => None,
            _ => {
                let (found, runs) = (from.found()?, from.number()? as usize);
                Some(Pending { found, runs, outgrown: from.number()? == 1 })
            }
        });
    }
    for _ in 0..from.number()? {
        let (first, last) = (from.event()?, from.link()?);
        let mut states = Vec::new();
        for _ in 0..from.number()? {
            states.push(from.number()? as usize);
        }
        let place = places.of(&program.automaton, states)?;
        let live = u128::from(from.number()?) << 64 | u128::from(from.number()?);
        let pending = from.option()?.map(|pending| pending as usize);
        if pending.is_some_and(|p| partition.pendings.get(p).is_none_or(Option::is_none)) {
            return Err(broken());
        }
        let (before, absent_until) = (from.option()?, from.option()?);
        partition.runs.push(Run { first, last, place, live, pending, before, absent_until });
    }
    for _ in 0..from.number()? {
        partition.held.push(from.found()?);
    }
    Ok(partition)
}
