//! Rows of a period - so many rows, or an interval of event time - together at its end.

mod given;
mod open;
mod pending;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use auspex_plan::nodes::{OutputEvery, OutputMode};

use crate::aggregate::{Aggregates, Arguments};
use crate::batch::Batch;
use crate::error::{ExecError, Result, RowFailure};
use crate::expr::Compiled;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::reorder::instant;
use crate::rows::RowCodec;

use super::evaluate;
use super::kept::{Held, Kept};
use super::keys::KeyFormat;
use super::slots::Slots;
use super::walk::{Event, Walk};

pub(super) use given::{Given, Place};
use open::{Group, Open};
use pending::Pending;

/// Keys under which the arrival of the last row and the rows of the present period are saved.
const ARRIVED: &[u8] = b"i";
const COUNTED: &[u8] = b"n";

/// What [`Periods`] gives.
pub struct PeriodSpec {
    /// What it is, for people.
    pub name: String,
    /// How long a period is.
    pub every: OutputEvery,
    /// Which rows of it come out. With aggregates it must be [`OutputMode::Last`].
    pub mode: OutputMode,
    /// Keys of "first", "last" and "snapshot", and of the aggregates.
    pub keys: Vec<Compiled>,
    /// Aggregates over the rows of each key in the period.
    pub aggregates: Option<Aggregates>,
}

/// Gives all rows of a period, or the last of each key (with aggregates over the period), at its
/// end; or the first of each key at once. Periods without rows give nothing.
pub struct Periods {
    name: String,
    every: OutputEvery,
    mode: OutputMode,
    on_error: OnError,
    /// Keys, then what the aggregates need.
    exprs: Vec<Compiled>,
    keys: usize,
    aggregates: Option<Aggregates>,
    groups: KeyFormat,
    codec: RowCodec,
    /// Rows since the last step of the watermark.
    waiting: Vec<Waiting>,
    kept: Kept,
    open: Open,
    slots: Option<Slots>,
    /// Rows of a batch that are still to be added to their slots.
    pending: Pending,
    /// Rows of the present period of so many rows.
    counted: u64,
    arrived: i64,
    changed: bool,
    given: Given,
}

/// Rows that wait for the watermark.
struct Waiting {
    batch: Batch,
    keys: Vec<ArrayRef>,
    arguments: Option<Arguments>,
}

impl Periods {
    /// `input` and `schema` are the columns of the rows taken and given.
    ///
    /// # Errors
    /// For columns and keys that cannot be kept, and for empty periods.
    pub fn new(
        spec: PeriodSpec,
        input: SchemaRef,
        schema: SchemaRef,
        on_error: OnError,
    ) -> Result<Periods> {
        if matches!(spec.every, OutputEvery::Rows(0) | OutputEvery::Time(..=0)) {
            return Err(ExecError::Plan("a period without length".into()));
        }
        let needed: Vec<Compiled> =
            spec.aggregates.iter().flat_map(Aggregates::exprs).cloned().collect();
        Ok(Periods {
            name: spec.name,
            every: spec.every,
            mode: spec.mode,
            on_error,
            groups: KeyFormat::groups(&spec.keys)?,
            slots: spec.aggregates.as_ref().map(Slots::new),
            keys: spec.keys.len(),
            exprs: spec.keys.into_iter().chain(needed).collect(),
            aggregates: spec.aggregates,
            codec: RowCodec::new(input)?,
            waiting: Vec::new(),
            kept: Kept::default(),
            open: Open::default(),
            pending: Pending::default(),
            counted: 0,
            arrived: 0,
            changed: false,
            given: Given::new(schema),
        })
    }

    /// Takes row number `row` of a batch.
    fn take(
        &mut self,
        mut held: Held,
        row: usize,
        arguments: Option<&Arguments>,
        watermark: i64,
        out: &mut Output,
    ) -> Result<()> {
        self.arrived = held.row.ingested;
        self.changed = true;
        let (sequence, time) = (held.row.sequence, held.row.time);
        let end = match self.every {
            OutputEvery::Rows(_) => 0,
            OutputEvery::Time(us) => time.saturating_sub(time.rem_euclid(us)).saturating_add(us),
        };
        if matches!(self.every, OutputEvery::Time(_)) && end <= watermark {
            out.late.push(RowFailure {
                stream: held.row.stream as u32,
                offset: held.row.offset as u64,
                sequence,
                reason: format!(
                    "event time {} is too late for the period that ended at {}: the watermark is {}",
                    instant(time),
                    instant(end),
                    instant(watermark)
                ),
            });
            return Ok(());
        }
        match self.mode {
            OutputMode::First => {
                if !self.open.has(end, &held.group) {
                    let place = Place { sequence, time, ingested: self.arrived };
                    self.given.push(&held.row, place, None);
                    held.row.values = [].into();
                    self.open.last(end, held, &mut self.kept);
                }
            }
            OutputMode::All => self.open.push(end, held, &mut self.kept),
            OutputMode::Last | OutputMode::Snapshot => {
                let (number, group) = self.open.last(end, held, &mut self.kept);
                if let Some(slots) = &mut self.slots {
                    let slot = *group.slot.get_or_insert_with(|| slots.take());
                    self.pending.push(slot, row, time, number);
                }
            }
        }
        if let OutputEvery::Rows(rows) = self.every {
            self.counted += 1;
            if self.counted >= rows {
                self.update(arguments)?;
                self.counted = 0;
                let time = time.max(watermark);
                self.close(end, Place { sequence, time, ingested: self.arrived });
            }
        }
        Ok(())
    }

    /// Adds the rows that are pending to their slots.
    fn update(&mut self, arguments: Option<&Arguments>) -> Result<()> {
        match (&mut self.slots, arguments) {
            (Some(slots), Some(arguments)) => self.pending.add_to(slots, arguments),
            _ => Ok(()),
        }
    }

    /// Ends the period that ends at `end`.
    fn close(&mut self, end: i64, place: Place) {
        let Some(period) = self.open.take(end) else { return };
        for number in period.rows {
            self.given.push(&self.kept.get(number).row, place, None);
            self.kept.remove(number);
        }
        for Group { last, slot, .. } in period.groups {
            match self.mode {
                OutputMode::First => self.kept.remove(last),
                OutputMode::Snapshot => self.open.keep(last, &mut self.kept),
                OutputMode::Last | OutputMode::All => {
                    self.given.push(&self.kept.get(last).row, place, slot);
                    self.kept.remove(last);
                }
            }
        }
        if self.mode == OutputMode::Snapshot {
            for number in self.open.latest() {
                self.given.push(&self.kept.get(number).row, place, None);
            }
        }
    }

    /// Ends the periods that the watermark has passed.
    fn pass(&mut self, sequence: i64, watermark: i64) {
        if let OutputEvery::Time(_) = self.every {
            while let Some(end) = self.open.first_end().filter(|end| *end <= watermark) {
                let time = end.saturating_sub(1);
                self.close(end, Place { sequence, time, ingested: self.arrived });
            }
        }
    }
}

impl Operator for Periods {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if let Some((batch, mut values)) = evaluate(&self.exprs, batch, self.on_error, out)? {
            let arguments = values.split_off(self.keys);
            let aggregates = self.aggregates.as_ref();
            let arguments = aggregates.map(|a| a.arguments(arguments, batch.len()));
            self.waiting.push(Waiting { batch, keys: values, arguments });
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut rows = Vec::with_capacity(waiting.len());
        for Waiting { batch, keys, .. } in &waiting {
            let groups = self.groups.of(keys, batch.len())?;
            let kept = self.codec.encode(batch)?.into_iter();
            rows.push(kept.zip(groups).map(|(row, group)| Held { row, group, order: [].into() }));
        }
        let places = waiting.iter().map(|piece| (&piece.batch.sequence, piece.batch.len()));
        let mut current = None;
        for event in Walk::new(places, &watermark.progress) {
            match event {
                Event::Row { batch, row, watermark } => {
                    if current != Some(batch) {
                        self.update(current.and_then(|b: usize| waiting[b].arguments.as_ref()))?;
                        current = Some(batch);
                    }
                    if let Some(held) = rows[batch].next() {
                        let arguments = waiting[batch].arguments.as_ref();
                        self.take(held, row, arguments, watermark, out)?;
                    }
                }
                Event::Step(step) => {
                    self.update(current.and_then(|batch| waiting[batch].arguments.as_ref()))?;
                    self.pass(step.sequence, step.time);
                }
            }
        }
        self.update(current.and_then(|batch| waiting[batch].arguments.as_ref()))?;
        self.given.finish(&self.codec, self.slots.as_mut(), self.on_error, out)
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.kept.checkpoint(state);
        self.open.checkpoint(self.slots.as_ref(), state);
        if std::mem::take(&mut self.changed) {
            state.put(ARRIVED, self.arrived.to_be_bytes().to_vec());
            if let OutputEvery::Rows(_) = self.every {
                state.put(COUNTED, self.counted.to_be_bytes().to_vec());
            }
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.waiting.clear();
        self.pending = Pending::default();
        self.given.clear();
        (self.counted, self.arrived, self.changed) = (0, 0, false);
        self.slots = self.aggregates.as_ref().map(Slots::new);
        let others = self.kept.restore(state)?;
        for (key, value) in &others {
            match *key {
                ARRIVED => self.arrived = StateReader::count(value)? as i64,
                COUNTED => self.counted = StateReader::count(value)?,
                _ => {}
            }
        }
        self.open.restore(self.mode, &self.kept, self.slots.as_mut(), &others)
    }

    fn state_rows(&self) -> u64 {
        self.kept.len()
    }

    fn state_bytes(&self) -> u64 {
        self.kept.bytes() + self.slots.as_ref().map_or(0, Slots::bytes)
    }
}

#[cfg(test)]
mod tests;
