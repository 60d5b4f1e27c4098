//! Aggregates over the whole life of a stream.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, SchemaRef};
use auspex_plan::OnError;
use auspex_storage::Run;

use crate::aggregate::interner::Interner;
use crate::aggregate::{AggregateSet, Aggregates, Arguments, Places, Results};
use crate::batch::{Batch, batch_of, take_columns};
use crate::error::{ExecError, Result, RowFailure};
use crate::expr::Compiled;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::progress::{Progress, Step};

use super::evaluate::evaluate;
use super::keys::one_zero;
use super::{refuse, refuse_row};

/// First byte of the keys under which groups are saved.
const GROUP: u8 = b'g';
/// Key of the numbers of [`Running`] itself.
const OWN: &[u8] = b"o";

/// Keeps the aggregates of each key for ever.
///
/// Without a period each row gives the new row of its group, at the place of that row. With one,
/// each time the watermark passes a multiple of it, the groups changed since come out, in the order
/// of their first change.
pub struct Running {
    keys: Vec<Compiled>,
    /// Keys, then what the aggregates need.
    exprs: Vec<Compiled>,
    aggregates: Aggregates,
    period: Option<i64>,
    schema: SchemaRef,
    on_error: OnError,
    waiting: Vec<(Batch, Vec<ArrayRef>)>,
    groups: Groups,
    seen: Seen,
}

/// The groups by their numbers, which are also their slots.
struct Groups {
    interner: Interner,
    set: AggregateSet,
    /// Of each group: the ordinal + 1 of its first change since it came out, 0 for none.
    due_since: Vec<u64>,
    /// Groups with such a change, in its order.
    due: Vec<u32>,
    /// Whether each group changed since the last checkpoint.
    unsaved: Vec<bool>,
    /// Those which did.
    changed: Vec<u32>,
    /// Scratch: rows of each group in the present batch, 0 between batches.
    occurrences: Vec<u32>,
}

/// What has been seen of the input so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Number of rows.
    rows: u64,
    /// Greatest event time.
    latest: i64,
    /// Arrival of the last row.
    ingested: i64,
}

impl Seen {
    const NOTHING: Seen = Seen { rows: 0, latest: i64::MIN, ingested: i64::MIN };
}

impl Groups {
    fn new(keys: &[Compiled], aggregates: &Aggregates) -> Result<Groups> {
        let types: Vec<DataType> = keys.iter().map(|key| key.data_type.clone()).collect();
        Ok(Groups {
            interner: Interner::new(&types)?,
            set: aggregates.set(),
            due_since: Vec::new(),
            due: Vec::new(),
            unsaved: Vec::new(),
            changed: Vec::new(),
            occurrences: Vec::new(),
        })
    }

    fn resize(&mut self) {
        let groups = self.interner.bound();
        self.set.resize(groups);
        self.due_since.resize(groups, 0);
        self.unsaved.resize(groups, false);
        self.occurrences.resize(groups, 0);
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let groups = self.interner.intern(keys, rows)?.to_vec();
        self.resize();
        for group in &groups {
            self.mark(*group);
        }
        Ok(groups)
    }

    /// Remembers that a group is to be saved.
    fn mark(&mut self, group: u32) {
        let unsaved = &mut self.unsaved[group as usize];
        if !*unsaved {
            *unsaved = true;
            self.changed.push(group);
        }
    }

    /// The rows that are the first, second, .. of their groups: the rows of a round have different
    /// groups, so they can be added and their results read at once.
    fn rounds(&mut self, groups: &[u32]) -> Vec<Vec<u32>> {
        let mut rounds: Vec<Vec<u32>> = Vec::new();
        for (row, group) in groups.iter().enumerate() {
            let round = &mut self.occurrences[*group as usize];
            match rounds.get_mut(*round as usize) {
                Some(rows) => rows.push(row as u32),
                None => rounds.push(vec![row as u32]),
            }
            *round += 1;
        }
        groups.iter().for_each(|group| self.occurrences[*group as usize] = 0);
        rounds
    }

    fn bytes(&self) -> u64 {
        let of_groups = self.due_since.capacity() * size_of::<u64>()
            + self.unsaved.capacity()
            + (self.due.capacity() + self.changed.capacity() + self.occurrences.capacity())
                * size_of::<u32>();
        self.interner.bytes() + self.set.bytes() + of_groups as u64
    }
}

impl Running {
    /// `keys` tell groups apart, `schema` has their columns and then those of `aggregates`;
    /// `period` is in microseconds of event time.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for keys whose values cannot be compared.
    pub fn new(
        keys: Vec<Compiled>,
        aggregates: Aggregates,
        period: Option<i64>,
        schema: SchemaRef,
        on_error: OnError,
    ) -> Result<Running> {
        let groups = Groups::new(&keys, &aggregates)?;
        let exprs = keys.iter().chain(aggregates.exprs()).cloned().collect();
        let (waiting, seen) = (Vec::new(), Seen::NOTHING);
        Ok(Running { keys, exprs, aggregates, period, schema, on_error, waiting, groups, seen })
    }

    /// Splits the values of [`Running::exprs`].
    fn split(&self, mut values: Vec<ArrayRef>, rows: usize) -> (Vec<ArrayRef>, Arguments) {
        let arguments = values.split_off(self.keys.len());
        (values.into_iter().map(one_zero).collect(), self.aggregates.arguments(arguments, rows))
    }

    /// The new row of its group for each row of `batch`.
    fn change(
        &mut self,
        batch: &Batch,
        values: Vec<ArrayRef>,
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        let (keys, arguments) = self.split(values, batch.len());
        let groups = self.groups.intern(&keys, batch.len())?;
        // Results in the order of the rounds, the rows they belong to, and failures.
        let (mut pieces, mut rows, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for round in self.groups.rounds(&groups) {
            let whole = round.len() == batch.len();
            let slots: Vec<u32> = round.iter().map(|row| groups[*row as usize]).collect();
            let taken = if whole { arguments.clone() } else { arguments.take(&round)? };
            let time = if whole { batch.time.clone() } else { batch.time.take(&round) };
            // A group's rows of later rounds get greater ordinals, which is all that matters.
            let places = Places { time: &time, ordinal: self.seen.rows };
            self.seen.rows += round.len() as u64;
            self.groups.set.update(&slots, &taken, &places)?;
            let results = self.groups.set.results(&slots, self.on_error)?;
            let Results { columns, kept, failed: failures, nulled } = results;
            out.nulled += nulled;
            failed.extend(failures.into_iter().map(|(at, reason)| (round[at], reason)));
            match kept {
                None => rows.extend(round),
                Some(kept) => rows.extend(kept.into_iter().map(|at| round[at as usize])),
            }
            pieces.push(columns);
        }
        failed.sort();
        for (row, reason) in failed {
            refuse_row(&batch.slice(row as usize, 1), reason, self.on_error, out)?;
        }
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|at| rows[*at as usize]);
        rows.sort_unstable();
        let mut columns = match rows.len() == batch.len() {
            true => keys,
            false => take_columns(keys.iter(), &UInt32Array::from(rows.clone()))?,
        };
        let order = UInt32Array::from(order);
        for number in 0..self.schema.fields().len() - self.keys.len() {
            let parts: Vec<_> = pieces.iter().map(|piece| piece[number].as_ref()).collect();
            let all = concat(&parts)?;
            let sorted =
                if pieces.len() == 1 { all } else { arrow::compute::take(&all, &order, None)? };
            columns.push(sorted);
        }
        let changed = batch_of(Arc::clone(&self.schema), columns, rows.len())?;
        let mut changed = batch.take_places(changed, &rows);
        changed.time = not_before(&changed, progress);
        out.emit(changed);
        Ok(())
    }

    /// Adds rows `from .. to` of `batch` to their groups.
    fn add(&mut self, batch: &Batch, values: &[ArrayRef], from: usize, to: usize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let rows = to - from;
        let values = values.iter().map(|values| values.slice(from, rows)).collect();
        let (keys, arguments) = self.split(values, rows);
        let slots = self.groups.intern(&keys, rows)?;
        for (row, slot) in slots.iter().enumerate() {
            let since = &mut self.groups.due_since[*slot as usize];
            if *since == 0 {
                *since = self.seen.rows + row as u64 + 1;
                self.groups.due.push(*slot);
            }
        }
        let time = batch.time.slice(from, rows);
        let places = Places { time: &time, ordinal: self.seen.rows };
        self.groups.set.update(&slots, &arguments, &places)?;
        self.seen.rows += rows as u64;
        let latest = time.bounds(rows).map_or(i64::MIN, |(_, latest)| latest);
        self.seen.latest = self.seen.latest.max(latest);
        self.seen.ingested = batch.ingested.get(to - 1);
        Ok(())
    }

    /// Gives the groups that are due at a step that passes a multiple of the period.
    fn come_due(&mut self, before: i64, step: Step, period: i64, out: &mut Output) -> Result<()> {
        if self.groups.due.is_empty() {
            return Ok(());
        }
        let due = std::mem::take(&mut self.groups.due);
        for group in &due {
            self.groups.due_since[*group as usize] = 0;
            self.groups.mark(*group);
        }
        let time = match step.time == i64::MAX {
            true => self.seen.latest.max(before),
            false => step.time.div_euclid(period) * period,
        };
        let results = self.groups.set.results(&due, self.on_error)?;
        out.nulled += results.nulled;
        for (_, reason) in results.failed {
            let failure = RowFailure {
                stream: RowFailure::NO_STREAM,
                offset: 0,
                sequence: step.sequence,
                reason,
            };
            refuse(failure, self.on_error, out)?;
        }
        let groups = match results.kept {
            None => due,
            Some(kept) => kept.into_iter().map(|at| due[at as usize]).collect(),
        };
        let mut columns = self.groups.interner.values(&groups)?;
        columns.extend(results.columns);
        let rows = batch_of(Arc::clone(&self.schema), columns, groups.len())?;
        out.emit(Batch {
            rows,
            sequence: Run::Constant(step.sequence),
            time: Run::Constant(time),
            ingested: Run::Constant(self.seen.ingested),
            stream: Run::Constant(i64::from(RowFailure::NO_STREAM)),
            offset: Run::Constant(0),
        });
        Ok(())
    }

    /// Rows and steps in their common order.
    fn walk(&mut self, progress: &Progress, period: i64, out: &mut Output) -> Result<()> {
        let mut before = progress.before;
        let passing = progress.steps().iter().filter_map(|step| {
            let last = std::mem::replace(&mut before, step.time);
            let passes = last != i64::MIN && step.time.div_euclid(period) > last.div_euclid(period);
            (passes || step.time == i64::MAX).then_some((last, *step))
        });
        let passing: Vec<_> = passing.collect();
        let mut passing = passing.into_iter().peekable();
        for (batch, values) in std::mem::take(&mut self.waiting) {
            let mut from = 0;
            while let Some((_, step)) = passing.peek() {
                // Rows at the place of a step come before it.
                let behind = step.sequence.saturating_add(1);
                let to = crate::batch::rows_below(&batch.sequence, batch.len(), behind);
                if to == batch.len() {
                    break;
                }
                self.add(&batch, &values, from, to)?;
                from = to;
                if let Some((before, step)) = passing.next() {
                    self.come_due(before, step, period, out)?;
                }
            }
            self.add(&batch, &values, from, batch.len())?;
        }
        passing.try_for_each(|(before, step)| self.come_due(before, step, period, out))
    }
}

/// Event times of rows, none below the watermark before the row's place.
fn not_before(batch: &Batch, progress: &Progress) -> Run {
    let mut steps = progress.steps().iter().peekable();
    let mut watermark = progress.before;
    let mut time = |row: usize| {
        while let Some(step) = steps.next_if(|step| step.sequence < batch.sequence.get(row)) {
            watermark = step.time;
        }
        batch.time.get(row).max(watermark)
    };
    Run::Each((0..batch.len()).map(&mut time).collect())
}

impl Operator for Running {
    fn describe(&self) -> String {
        match self.period {
            None => "Aggregate, each change".into(),
            Some(period) => {
                format!("Aggregate, every {}", auspex_plan::time::duration(period))
            }
        }
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        let evaluated = evaluate(&self.exprs, batch, self.on_error, out)?;
        self.waiting.extend(evaluated);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let progress = &watermark.progress;
        if let Some(period) = self.period {
            return self.walk(progress, period, out);
        }
        for (batch, values) in std::mem::take(&mut self.waiting) {
            self.change(&batch, values, progress, out)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        let groups = &mut self.groups;
        if groups.changed.is_empty() {
            return Ok(());
        }
        for group in std::mem::take(&mut groups.changed) {
            groups.unsaved[group as usize] = false;
            let mut key = vec![GROUP];
            groups.interner.key(group, &mut key);
            let mut value = groups.due_since[group as usize].to_be_bytes().to_vec();
            groups.set.write(group, &mut value);
            state.put(&key, value);
        }
        let Seen { rows, latest, ingested } = self.seen;
        let own = [rows.to_be_bytes(), latest.to_be_bytes(), ingested.to_be_bytes()];
        state.put(OWN, own.concat());
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.waiting.clear();
        self.seen = Seen::NOTHING;
        self.groups = Groups::new(&self.keys, &self.aggregates)?;
        let groups = &mut self.groups;
        for (key, mut value) in state.entries() {
            if key == OWN {
                let rows = number(&mut value)?;
                let (latest, ingested) = (number(&mut value)? as i64, number(&mut value)? as i64);
                self.seen = Seen { rows, latest, ingested };
                continue;
            }
            let Some((&GROUP, key)) = key.split_first() else {
                return Err(ExecError::State("an entry that is no group".into()));
            };
            let group = groups.interner.intern_key(key)?;
            groups.resize();
            let since = number(&mut value)?;
            groups.due_since[group as usize] = since;
            if since > 0 {
                groups.due.push(group);
            }
            groups.set.read(group, &mut value)?;
        }
        groups.due.sort_unstable_by_key(|group| groups.due_since[*group as usize]);
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.groups.bytes()
    }

    fn state_rows(&self) -> u64 {
        self.groups.interner.live() as u64
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64> {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(ExecError::State("a group is cut off".into()));
    };
    *bytes = rest;
    Ok(u64::from_be_bytes(*head))
}
