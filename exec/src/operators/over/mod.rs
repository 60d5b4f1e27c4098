//! Window functions: `f(..) OVER (PARTITION BY .. ORDER BY event time ..)`.
//!
//! Rows are put in the order of their event times and come out in it, when the watermark has come
//! to them; when peers matter, when it is beyond them. What a row needs of those before it is kept:
//! the rows that a next row's frame may still have, and counts and running aggregates.

mod output;
mod partition;
mod spec;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use hashbrown::HashMap;

use crate::aggregate::{Arguments, Places};
use crate::batch::{Batch, take_columns};
use crate::error::{ExecError, Result};
use crate::expr::Compiled;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::reorder::Reorder;
use crate::rows::{read_bytes, read_number, write_bytes};

use super::evaluate;
use super::keys::KeyFormat;
use super::slots::Slots;

use output::Results;
use partition::{Entry, NO_SLOT, Needed, Partition, Value, read_flag};
pub use spec::{Column, Frame, OverSpec, Pick, Start, ValueOf};

/// First bytes of the keys under which the number of the next row, partitions and rows are saved.
const NEXT: &[u8] = b"n";
const PARTITION: u8 = b'p';
const ROW: u8 = b'r';

/// Rows after which results are read within a step.
const FULL: usize = 1024;

/// See the module.
pub struct Over {
    spec: OverSpec,
    on_error: OnError,
    /// Partition keys, order, values, then what the aggregates need.
    exprs: Vec<Compiled>,
    partition_format: KeyFormat,
    order_format: KeyFormat,
    needed: Needed,
    lasting: bool,
    reorder: Reorder,
    results: Results,
    partitions: HashMap<Value, Partition>,
    /// Aggregates of each frame.
    slots: Vec<Slots>,
    next: u64,
    /// Partitions by the event times of their last rows, when they may expire.
    idle: BTreeSet<(i64, Value)>,
    state: Changes,
}

/// What is to be saved.
#[derive(Default)]
struct Changes {
    touched: BTreeSet<Value>,
    /// Rows from this number on have not been saved; those of them that are kept, with partitions.
    saved: u64,
    new: BTreeMap<u64, Value>,
    gone: Vec<u64>,
}

/// Rows with what was computed from them.
struct Rows {
    batch: Batch,
    partitions: Vec<Value>,
    order: Vec<Value>,
    /// Of each function that gives values.
    values: Vec<Vec<Value>>,
    /// Of the aggregates of each frame.
    arguments: Vec<Arguments>,
}

impl Over {
    /// `input` and `schema` are the columns of the rows taken and given.
    ///
    /// # Errors
    /// For columns and keys that cannot be kept.
    pub fn new(
        spec: OverSpec,
        input: SchemaRef,
        schema: SchemaRef,
        on_error: OnError,
    ) -> Result<Over> {
        let order = spec.order.iter().map(|(expr, order)| (expr.data_type.clone(), *order));
        let order_format = KeyFormat::new(order)?;
        let mut exprs = spec.partition.clone();
        exprs.extend(spec.order.iter().map(|(expr, _)| expr.clone()));
        exprs.extend(spec.values.iter().map(|value| value.arg.clone()));
        let aggregates = spec.frames.iter().flat_map(|(_, aggregates)| aggregates.exprs());
        exprs.extend(aggregates.cloned());
        let reorder = Reorder::new(vec![input]);
        Ok(Over {
            on_error,
            exprs,
            partition_format: KeyFormat::groups(&spec.partition)?,
            order_format,
            needed: Needed { rows: spec.rows_needed(), range: spec.range_needed() },
            lasting: spec.is_lasting(),
            reorder: if spec.needs_peers() { reorder.last_of_its_time(0) } else { reorder },
            results: Results::new(&spec, schema)?,
            partitions: HashMap::new(),
            slots: spec.frames.iter().map(|(_, aggregates)| Slots::new(aggregates)).collect(),
            next: 0,
            idle: BTreeSet::new(),
            state: Changes::default(),
            spec,
        })
    }

    /// Evaluates what is needed of rows that come by event time, and puts rows of the same time in
    /// their order.
    fn evaluate(&self, batch: Batch, out: &mut Output) -> Result<Option<Rows>> {
        let Some((mut batch, mut columns)) = evaluate(&self.exprs, batch, self.on_error, out)?
        else {
            return Ok(None);
        };
        let (keys, by) = (self.spec.partition.len(), self.spec.order.len());
        let rows = batch.len();
        let mut order = self.order_format.of(&columns[keys..keys + by], rows)?;
        if by > 0 {
            let mut sorted: Vec<u32> = (0..rows as u32).collect();
            sorted.sort_by(|a, b| {
                let (a, b) = (*a as usize, *b as usize);
                batch.time.get(a).cmp(&batch.time.get(b)).then_with(|| order[a].cmp(&order[b]))
            });
            order = sorted.iter().map(|row| Arc::clone(&order[*row as usize])).collect();
            batch = batch.take(&sorted)?;
            columns = take_columns(columns.iter(), &UInt32Array::from(sorted))?;
        }
        let partitions = self.partition_format.of(&columns[..keys], rows)?;
        let mut rest = columns.split_off(keys + by).into_iter();
        let values = self.results.encode(rest.by_ref().take(self.spec.values.len()))?;
        let arguments = self.spec.frames.iter().map(|(_, aggregates)| {
            let columns: Vec<ArrayRef> = rest.by_ref().take(aggregates.exprs().count()).collect();
            aggregates.arguments(columns, rows)
        });
        let arguments = arguments.collect();
        Ok(Some(Rows { batch, partitions, order, values, arguments }))
    }

    /// Takes rows in order.
    fn take(&mut self, rows: &Rows, out: &mut Output) -> Result<()> {
        self.results.clear();
        let len = rows.batch.len();
        let first = self.next;
        self.next += len as u64;
        let mut own: Vec<Vec<u32>> = Vec::with_capacity(self.slots.len());
        for (slots, arguments) in self.slots.iter_mut().zip(&rows.arguments) {
            let of: Vec<u32> = (0..len).map(|_| slots.take()).collect();
            let places = Places { time: &rows.batch.time, ordinal: first };
            slots.update(&of, arguments, &places)?;
            own.push(of);
        }
        let entry = |row: usize| Entry {
            number: first + row as u64,
            time: rows.batch.time.get(row),
            values: rows.values.iter().map(|values| Arc::clone(&values[row])).collect(),
            slots: own.iter().map(|slots| slots[row]).collect(),
        };
        let mut from = 0;
        let mut done = 0;
        while from < len {
            // Rows of one event time, then those of one partition and order among them.
            let time = rows.batch.time.get(from);
            let to = (from..len).find(|row| rows.batch.time.get(*row) != time).unwrap_or(len);
            for peers in groups(rows, from, to) {
                let entries = peers.iter().map(|row| entry(*row)).collect();
                self.peers(rows, &peers, entries)?;
            }
            from = to;
            if from - done >= FULL || from == len {
                let batch = rows.batch.slice(done, from - done);
                self.results.finish(batch, &self.spec, &mut self.slots, self.on_error, out)?;
                done = from;
            }
        }
        Ok(())
    }

    /// Takes rows that are peers of each other.
    fn peers(&mut self, rows: &Rows, peers: &[usize], entries: Vec<Entry>) -> Result<()> {
        let (key, order) = (&rows.partitions[peers[0]], &rows.order[peers[0]]);
        let time = rows.batch.time.get(peers[0]);
        let spec = &self.spec;
        let partition =
            self.partitions.entry(Arc::clone(key)).or_insert_with(|| Partition::new(spec));
        let before = partition.last.as_ref().map(|(time, _)| *time);
        for entry in &entries {
            self.state.new.insert(entry.number, Arc::clone(key));
        }
        let given = partition.take(entries, order, spec, &mut self.slots)?;
        for number in partition.trim(time, self.needed) {
            self.state.forget(number);
        }
        self.state.touched.insert(Arc::clone(key));
        if self.needed.range.is_some() || !self.lasting {
            if let Some(before) = before.filter(|before| *before != time) {
                self.idle.remove(&(before, Arc::clone(key)));
            }
            self.idle.insert((time, Arc::clone(key)));
        }
        for (row, given) in peers.iter().zip(given) {
            self.results.set(*row, given);
        }
        Ok(())
    }

    /// Lets go of what rows at the watermark or later cannot need of partitions without rows.
    fn expire(&mut self, watermark: i64) -> Result<()> {
        // Without intervals a partition that need not last has nothing, or its last rows.
        let until = watermark.saturating_sub(self.needed.range.unwrap_or(0));
        while let Some((last, _)) = self.idle.first()
            && *last < until
            && let Some((_, key)) = self.idle.pop_first()
        {
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            partition.expire(&self.spec, &mut self.slots)?;
            for number in partition.trim(i64::MAX, self.needed) {
                self.state.forget(number);
            }
            if partition.history.is_empty() && !self.lasting {
                self.partitions.remove(&key);
            }
            self.state.touched.insert(key);
        }
        Ok(())
    }
}

impl Changes {
    /// A row is no longer kept.
    fn forget(&mut self, number: u64) {
        if self.new.remove(&number).is_none() && number < self.saved {
            self.gone.push(number);
        }
    }
}

/// Rows `from .. to`, which have the same event time, by partition and order: each group's rows are
/// peers. Groups come in the order of their first rows.
fn groups(rows: &Rows, from: usize, to: usize) -> Vec<Vec<usize>> {
    if to - from == 1 {
        return vec![vec![from]];
    }
    let mut numbers: HashMap<(&[u8], &[u8]), usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for row in from..to {
        let key = (rows.partitions[row].as_ref(), rows.order[row].as_ref());
        let group = *numbers.entry(key).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(row);
    }
    groups
}

impl Operator for Over {
    fn describe(&self) -> String {
        "Window functions".into()
    }

    fn on_batch(&mut self, input: Input, batch: Batch, _out: &mut Output) -> Result<()> {
        self.reorder.push(input, batch);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let mut released = self.reorder.release(watermark, out)?;
        // A row stands where it was released: there the query stops when it cannot go on.
        let dues = released.inputs.pop().unwrap_or_default().into_iter();
        let dues = dues.map(|d| Batch { sequence: d.place, ingested: d.ingested, ..d.batch });
        if let Some(batch) = Batch::concat(dues.collect())?
            && let Some(rows) = self.evaluate(batch, out)?
        {
            self.take(&rows, out)?;
        }
        self.expire(watermark.progress.last())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.reorder.checkpoint(state)?;
        let changes = &mut self.state;
        changes.gone.drain(..).for_each(|number| state.remove(&row_key(number)));
        for (number, key) in std::mem::take(&mut changes.new) {
            let Some(partition) = self.partitions.get(&key) else { continue };
            let at = partition.history.binary_search_by_key(&number, |entry| entry.number);
            let Some(entry) = at.ok().and_then(|at| partition.history.get(at)) else { continue };
            let mut value = Vec::new();
            write_bytes(&mut value, &key);
            value.extend(entry.time.to_be_bytes());
            entry.values.iter().for_each(|v| write_bytes(&mut value, v));
            for (frame, slots) in self.slots.iter().enumerate() {
                let has = partition.has(frame, entry);
                value.push(u8::from(has));
                if has {
                    slots.write(entry.slots[frame], &mut value);
                }
            }
            state.put(&row_key(number), value);
        }
        for key in std::mem::take(&mut changes.touched) {
            let name = [&[PARTITION], key.as_ref()].concat();
            match self.partitions.get(&key) {
                Some(partition) => state.put(&name, partition.write(&self.slots)),
                None => state.remove(&name),
            }
        }
        if changes.saved != self.next {
            changes.saved = self.next;
            state.put(NEXT, self.next.to_be_bytes().to_vec());
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.reorder.restore(state)?;
        self.results.clear();
        self.slots = self.spec.frames.iter().map(|(_, a)| Slots::new(a)).collect();
        (self.partitions, self.idle) = (HashMap::new(), BTreeSet::new());
        (self.state, self.next) = (Changes::default(), 0);
        let mut histories: HashMap<Value, VecDeque<Entry>> = HashMap::new();
        let rows =
            state.entries().filter_map(|(key, value)| Some((key.strip_prefix(&[ROW])?, value)));
        for (mut number, mut value) in rows {
            let number = read_number(&mut number)? as u64;
            let key: Value = read_bytes(&mut value)?.into();
            let time = read_number(&mut value)?;
            let values = self.spec.values.iter().map(|_| Ok(read_bytes(&mut value)?.into()));
            let values = values.collect::<Result<Vec<Value>>>()?;
            let mut own = Vec::with_capacity(self.slots.len());
            for slots in &mut self.slots {
                own.push(if read_flag(&mut value)? { slots.read(&mut value)? } else { NO_SLOT });
            }
            let entry = Entry { number, time, values, slots: own };
            histories.entry(key).or_default().push_back(entry);
        }
        for (key, value) in state.entries() {
            if key == NEXT {
                self.next = StateReader::count(value)?;
            } else if let Some(key) = key.strip_prefix(&[PARTITION]) {
                let key: Value = key.into();
                let history = histories.remove(&key).unwrap_or_default();
                let partition = Partition::read(value, history, &self.spec, &mut self.slots)?;
                if let Some((time, _)) = partition.last
                    && (self.needed.range.is_some() || !self.lasting)
                {
                    self.idle.insert((time, Arc::clone(&key)));
                }
                self.partitions.insert(key, partition);
            }
        }
        if !histories.is_empty() {
            return Err(ExecError::State("rows of a partition that is not there".into()));
        }
        self.state.saved = self.next;
        Ok(())
    }

    fn state_rows(&self) -> u64 {
        let kept: usize = self.partitions.values().map(|p| p.history.len()).sum();
        self.reorder.rows() + kept as u64 + self.partitions.len() as u64
    }

    fn state_bytes(&self) -> u64 {
        let kept: usize = self.partitions.values().map(|p| p.history.len()).sum();
        let slots: u64 = self.slots.iter().map(Slots::bytes).sum();
        self.reorder.bytes() + slots + 128 * (kept + self.partitions.len()) as u64
    }
}

fn row_key(number: u64) -> [u8; 9] {
    let mut key = [ROW; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests;
