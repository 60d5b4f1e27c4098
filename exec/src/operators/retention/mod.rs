//! Each row with aggregates over the rows that are kept at that moment.

mod delay;
mod groups;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use auspex_storage::Run;

use crate::aggregate::{Aggregates, Arguments, Places};
use crate::batch::{Batch, batch_of};
use crate::error::{ExecError, Result, RowFailure};
use crate::expr::Compiled;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::reorder::too_late;

use super::evaluate;
use super::keys::KeyFormat;
use super::refuse;
use super::slots::Slots;
use super::walk::{Event, Walk};

pub use delay::Delay;
use groups::{Groups, Row};

/// Rows after which results are read within a step.
const FULL: usize = 1024;

/// Which rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    /// The last n.
    Length(u64),
    /// Those whose event time is above that of the present row less so many microseconds.
    Time(i64),
    /// The n that come first in the order of [`RetainSpec::by`].
    Sort(u64),
    /// The last row of each value of [`RetainSpec::by`].
    Unique,
}

/// What [`Retain`] does.
pub struct RetainSpec {
    /// What it is, for people.
    pub name: String,
    /// Which rows are kept, over all groups together.
    pub kept: Retained,
    /// What rows are ordered or told apart by.
    pub by: Vec<(Compiled, SortOptions)>,
    /// Groups of the aggregates.
    pub keys: Vec<Compiled>,
    /// See above.
    pub aggregates: Aggregates,
}

/// Gives each row as it comes, with the aggregates over the rows of its group that are kept then,
/// itself included.
pub struct Retain {
    name: String,
    kept: Retained,
    on_error: OnError,
    /// Keys of groups, then of order or identity, then what the aggregates need.
    exprs: Vec<Compiled>,
    aggregates: Aggregates,
    keys: usize,
    by: usize,
    group_format: KeyFormat,
    order_format: KeyFormat,
    schema: SchemaRef,
    waiting: Vec<Waiting>,
    groups: Groups,
}

/// Rows that wait for the watermark.
struct Waiting {
    batch: Batch,
    values: Vec<ArrayRef>,
    arguments: Arguments,
}

impl Retain {
    /// `schema` are the columns given: the input's, then the aggregates.
    ///
    /// # Errors
    /// For keys that cannot be kept, and when no row is to be kept.
    pub fn new(spec: RetainSpec, schema: SchemaRef, on_error: OnError) -> Result<Retain> {
        if matches!(spec.kept, Retained::Length(0) | Retained::Sort(0) | Retained::Time(..=0)) {
            return Err(ExecError::Plan("a window that keeps nothing".into()));
        }
        let order = spec.by.iter().map(|(expr, order)| (expr.data_type.clone(), *order));
        let order_format = KeyFormat::new(order)?;
        let group_format = KeyFormat::groups(&spec.keys)?;
        let (keys, by, mut exprs) = (spec.keys.len(), spec.by.len(), spec.keys);
        exprs.extend(spec.by.into_iter().map(|(expr, _)| expr));
        exprs.extend(spec.aggregates.exprs().cloned());
        Ok(Retain {
            name: spec.name,
            kept: spec.kept,
            on_error,
            keys,
            by,
            group_format,
            order_format,
            schema,
            waiting: Vec::new(),
            groups: Groups::new(Slots::new(&spec.aggregates)),
            exprs,
            aggregates: spec.aggregates,
        })
    }

    /// The rows of a batch with their own aggregates, each in a slot.
    fn rows(&mut self, piece: &Waiting) -> Result<Vec<Row>> {
        let Waiting { batch, values, arguments } = piece;
        let rows = batch.len();
        let (keys, order): (&[ArrayRef], &[ArrayRef]) = values.split_at(self.keys);
        let groups = self.group_format.of(keys, rows)?;
        let order = self.order_format.of(order, rows)?;
        let slots: Vec<u32> = (0..rows).map(|_| self.groups.slots.take()).collect();
        let first = self.groups.number(rows);
        let places = Places { time: &batch.time, ordinal: first };
        self.groups.slots.update(&slots, arguments, &places)?;
        let row = |row: usize| Row {
            number: first + row as u64,
            time: batch.time.get(row),
            group: Arc::clone(&groups[row]),
            order: Arc::clone(&order[row]),
            slot: slots[row],
        };
        Ok((0..rows).map(row).collect())
    }

    /// Emits rows `rows` of a batch with the aggregates in `slots`.
    fn give(
        &mut self,
        batch: &Batch,
        rows: &mut Vec<u32>,
        slots: &mut Vec<u32>,
        out: &mut Output,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let results = self.groups.slots.results(slots, self.on_error)?;
        self.groups.slots.give_back(slots);
        slots.clear();
        out.nulled += results.nulled;
        for (position, reason) in results.failed {
            let row = rows[position] as usize;
            let failure = RowFailure {
                stream: batch.stream.get(row) as u32,
                offset: batch.offset.get(row) as u64,
                sequence: batch.sequence.get(row),
                reason,
            };
            refuse(failure, self.on_error, out)?;
        }
        let mut given = std::mem::take(rows);
        if let Some(kept) = results.kept {
            given = kept.iter().map(|position| given[*position as usize]).collect();
        }
        let given = batch.take(&given)?;
        let columns = given.rows.columns().iter().cloned().chain(results.columns).collect();
        let with_results = batch_of(SchemaRef::clone(&self.schema), columns, given.len())?;
        out.emit(given.with_rows(with_results));
        Ok(())
    }

    /// Takes a row that is not late; gives the slot with its aggregates.
    fn take(&mut self, row: Row) -> Result<u32> {
        match self.kept {
            Retained::Length(rows) => self.groups.last_rows(row, rows),
            Retained::Time(us) => self.groups.since(row, us),
            Retained::Sort(rows) => self.groups.first_rows(row, rows),
            Retained::Unique => self.groups.unique(row),
        }
    }
}

impl Operator for Retain {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if let Some((batch, mut values)) = evaluate(&self.exprs, batch, self.on_error, out)? {
            let arguments = values.split_off(self.keys + self.by);
            let arguments = self.aggregates.arguments(arguments, batch.len());
            self.waiting.push(Waiting { batch, values, arguments });
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let places: Vec<(&Run, usize)> =
            waiting.iter().map(|piece| (&piece.batch.sequence, piece.batch.len())).collect();
        let mut rows = Vec::new().into_iter();
        let (mut given, mut slots) = (Vec::new(), Vec::new());
        let mut current = 0;
        for event in Walk::new(places.into_iter(), &watermark.progress) {
            match event {
                Event::Row { batch: number, row, watermark } => {
                    if number != current || given.len() == FULL {
                        self.give(&waiting[current].batch, &mut given, &mut slots, out)?;
                        current = number;
                    }
                    if row == 0 {
                        rows = self.rows(&waiting[number])?.into_iter();
                    }
                    let Some(taken) = rows.next() else { continue };
                    let batch = &waiting[number].batch;
                    if matches!(self.kept, Retained::Time(_)) && taken.time < watermark {
                        out.late.push(RowFailure {
                            stream: batch.stream.get(row) as u32,
                            offset: batch.offset.get(row) as u64,
                            sequence: batch.sequence.get(row),
                            reason: too_late(taken.time, watermark),
                        });
                        self.groups.slots.give_back(&[taken.slot]);
                        continue;
                    }
                    slots.push(self.take(taken)?);
                    given.push(row as u32);
                }
                Event::Step(step) => {
                    if let Retained::Time(us) = self.kept {
                        self.groups.forget(step.time.saturating_sub(us))?;
                    }
                }
            }
        }
        if let Some(last) = waiting.get(current) {
            self.give(&last.batch, &mut given, &mut slots, out)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.groups.checkpoint(state);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.waiting.clear();
        self.groups = Groups::new(Slots::new(&self.aggregates));
        self.groups.restore(self.kept, state)
    }

    fn state_rows(&self) -> u64 {
        self.groups.len()
    }

    fn state_bytes(&self) -> u64 {
        self.groups.bytes()
    }
}

#[cfg(test)]
mod tests;
