//! Patterns (`semantics.md` section 5): runs over rows in the order of their event times.
//!
//! * `program`: the pattern compiled; arriving rows become a few values, bits and a key;
//! * `matched`: bound rows, shared by the runs that have them in common;
//! * `condition`: conditions over bound rows;
//! * `partition`: what a row does to the runs of its partition;
//! * this file: partitions, deadlines, output; `state`: the same as saved state.

mod condition;
mod matched;
mod partition;
mod program;
#[cfg(test)]
mod reference;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use auspex_plan::OnError;
use auspex_plan::nodes::StreamPattern;
use auspex_plan::types::UTC;
use auspex_storage::Run as Numbers;
use datafusion::common::ScalarValue;
use hashbrown::HashMap;

use crate::batch::{Batch, batch_of, nullable};
use crate::error::{ExecError, Result, RowFailure};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::progress::Progress;
use crate::reorder::{Due, Released, Reorder};

use matched::{Event, Match};
use partition::{Effects, MAX_RUNS, Partition, Step};
use program::{OutputColumn, Places, Program};

/// Finds the matches of a pattern.
pub struct Matcher {
    program: Program,
    places: Places,
    reorder: Reorder,
    names: HashMap<Arc<[u8]>, usize>,
    partitions: Vec<Option<Kept>>,
    free: Vec<usize>,
    /// Event time, first row and partition of what ends when the watermark is beyond it.
    deadlines: BTreeSet<(i64, u64, usize)>,
    /// Rows seen.
    rows: u64,
    /// Partitions changed since the last checkpoint, and keys to be removed.
    changed: BTreeSet<usize>,
    removed: BTreeSet<Arc<[u8]>>,
    on_error: OnError,
    schema: SchemaRef,
}

/// A partition with its key.
struct Kept {
    key: Arc<[u8]>,
    partition: Partition,
}

/// A match with where it comes out.
struct Found {
    found: Match,
    key: Arc<[u8]>,
    place: i64,
    ingested: i64,
}

impl Matcher {
    /// For a node of the plan.
    ///
    /// # Errors
    /// When an expression or the pattern cannot be compiled.
    pub fn new(node: &StreamPattern, schema: SchemaRef, on_error: OnError) -> Result<Matcher> {
        let program = Program::new(node)?;
        let reorder = Reorder::new(program.inputs.iter().map(|i| i.schema.clone()).collect());
        Ok(Matcher {
            program,
            places: Places::default(),
            reorder,
            names: HashMap::new(),
            partitions: Vec::new(),
            free: Vec::new(),
            deadlines: BTreeSet::new(),
            rows: 0,
            changed: BTreeSet::new(),
            removed: BTreeSet::new(),
            on_error,
            schema: nullable(&schema),
        })
    }

    /// The partition of a key.
    fn partition(&mut self, key: &[u8]) -> usize {
        if let Some(number) = self.names.get(key) {
            return *number;
        }
        let key: Arc<[u8]> = key.into();
        let kept = Some(Kept { key: Arc::clone(&key), partition: Partition::default() });
        let number = match self.free.pop() {
            Some(number) => {
                self.partitions[number] = kept;
                number
            }
            None => {
                self.partitions.push(kept);
                self.partitions.len() - 1
            }
        };
        self.removed.remove(&key);
        self.names.insert(key, number);
        number
    }

    /// Takes one row in order.
    fn row(
        &mut self,
        input: usize,
        due: &Due,
        row: usize,
        out: &mut Output,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        let cells = self.program.inputs[input].cells.len();
        let columns = due.batch.rows.columns();
        let bits = columns[cells].as_primitive::<UInt64Type>().value(row);
        let number = self.partition(columns[cells + 1].as_binary::<i32>().value(row));
        self.rows += 1;
        let Some(kept) = &mut self.partitions[number] else { return Ok(()) };
        kept.partition.rows += 1;
        let cells = columns[..cells].iter().map(|column| ScalarValue::try_from_array(column, row));
        let event = Arc::new(Event {
            order: self.rows,
            number: kept.partition.rows,
            time: due.batch.time.get(row),
            input,
            cells: cells.collect::<Result<Vec<_>, _>>()?,
        });
        let nulling = self.on_error == OnError::Null;
        let (program, places) = (&self.program, &mut self.places);
        let effects = Effects::default();
        let mut step = Step { program, places, event: &event, bits, nulling, effects };
        step.apply(&mut kept.partition)?;
        let effects = step.effects;
        let ends = effects.deadlines.into_iter();
        self.deadlines.extend(ends.map(|(at, first)| (at, first, number)));
        let failure = |reason: String| RowFailure {
            stream: due.batch.stream.get(row) as u32,
            offset: due.batch.offset.get(row) as u64,
            sequence: due.batch.sequence.get(row),
            reason,
        };
        if let Some(reason) = effects.failure {
            refuse(failure(reason), self.on_error, out)?;
        }
        out.nulled += effects.nulled;
        if effects.too_many {
            let reason = format!(
                "more than {MAX_RUNS} partial matches in one partition: those that this row begins \
                 or extends are left out"
            );
            refuse(failure(reason), self.on_error, out)?;
        }
        let mut matches = effects.matches;
        matches.sort_by(Match::compare);
        let most = program.pattern.max_matches;
        if matches.len() as u64 > most {
            let reason = format!("{} matches at one row: only {most} are reported", matches.len());
            refuse(failure(reason), self.on_error, out)?;
            matches.truncate(most as usize);
        }
        let chosen = kept.partition.choose(program.pattern.after, matches);
        let (place, ingested) = (due.place.get(row), due.ingested.get(row));
        let key = &kept.key;
        found.extend(chosen.into_iter().map(|m| Found {
            found: m,
            key: Arc::clone(key),
            place,
            ingested,
        }));
        self.touched(number);
        Ok(())
    }

    /// A partition has changed; it is forgotten when nothing is left of it.
    fn touched(&mut self, number: usize) {
        let empty = |kept: &Kept| kept.partition.is_empty();
        if self.partitions[number].as_ref().is_some_and(empty)
            && let Some(kept) = self.partitions[number].take()
        {
            self.names.remove(&kept.key);
            self.removed.insert(kept.key);
            self.changed.remove(&number);
            self.free.push(number);
        } else {
            self.changed.insert(number);
        }
    }

    /// What becomes certain before `time`.
    fn expire(
        &mut self,
        time: i64,
        progress: &Progress,
        released: &Released,
        found: &mut Vec<Found>,
    ) {
        while let Some((at, first, number)) = self.deadlines.first().copied()
            && (at < time || time == i64::MAX)
        {
            self.deadlines.pop_first();
            let Some(kept) = &mut self.partitions[number] else { continue };
            let mut matches = kept.partition.expire(&self.program, first, at);
            matches.sort_by(Match::compare);
            let chosen = kept.partition.choose(self.program.pattern.after, matches);
            let step = progress.first_reaching(at.saturating_add(1), 0);
            let place = step.map_or(i64::MIN, |step| progress.steps()[step].sequence);
            let ingested = released.arrival(place);
            let key = &kept.key;
            let one = |m| Found { found: m, key: Arc::clone(key), place, ingested };
            found.extend(chosen.into_iter().map(one));
            self.touched(number);
        }
    }

    /// The end of input: what could grow does not any more.
    fn end(&mut self, progress: &Progress, released: &Released, found: &mut Vec<Found>) {
        let Some(step) = progress.first_reaching(i64::MAX, 0) else { return };
        let place = progress.steps()[step].sequence;
        let ingested = released.arrival(place);
        let mut last = Vec::new();
        for number in 0..self.partitions.len() {
            let Some(kept) = &mut self.partitions[number] else { continue };
            let matches = kept.partition.end();
            let chosen = kept.partition.choose(self.program.pattern.after, matches);
            let key = &kept.key;
            let one = |m| Found { found: m, key: Arc::clone(key), place, ingested };
            last.extend(chosen.into_iter().map(one));
            self.touched(number);
        }
        last.sort_by(|a: &Found, b: &Found| a.found.compare(&b.found));
        found.append(&mut last);
    }

    /// Matches as rows.
    fn emit(&self, found: Vec<Found>, progress: &Progress, out: &mut Output) -> Result<()> {
        let hold = self.program.pattern.hold_us();
        let mut rows: Vec<Found> = Vec::with_capacity(found.len());
        let mut values: Vec<Vec<ScalarValue>> = vec![Vec::new(); self.program.accessors.len()];
        let shown = |number: usize| {
            let is = |o: &OutputColumn| matches!(o, OutputColumn::Accessor(n) if *n == number);
            self.program.outputs.iter().any(is)
        };
        let shown: Vec<usize> = (0..values.len()).filter(|number| shown(*number)).collect();
        for found in found {
            let last = &found.found.last;
            let of = |number: &usize| self.program.accessors[*number].value(last);
            let nulling = self.on_error == OnError::Null;
            let null = |number: &usize| {
                ScalarValue::try_from(&self.program.accessors[*number].data_type)
                    .map_err(|error| error.strip_backtrace())
            };
            let mut failed = false;
            let row = shown.iter().map(|number| match of(number) {
                Err(_) if nulling => {
                    failed = true;
                    null(number)
                }
                value => value,
            });
            match row.collect::<Result<Vec<_>, _>>() {
                Ok(row) => {
                    out.nulled += u64::from(failed);
                    for (number, value) in shown.iter().zip(row) {
                        values[*number].push(value);
                    }
                    rows.push(found);
                }
                Err(reason) => {
                    let failure = RowFailure {
                        stream: RowFailure::NO_STREAM,
                        offset: 0,
                        sequence: found.place,
                        reason,
                    };
                    refuse(failure, self.on_error, out)?;
                }
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let time = |found: &Found| match progress.at(found.place) {
            i64::MIN => found.found.time(),
            reached => found.found.time().max(reached.saturating_sub(hold)),
        };
        let number = |f: &dyn Fn(&Found) -> i64| Numbers::Each(rows.iter().map(f).collect());
        out.emit(Batch {
            rows: self.columns(&rows, values)?,
            sequence: number(&|found| found.place),
            time: number(&time),
            ingested: number(&|found| found.ingested),
            stream: Numbers::Constant(i64::from(RowFailure::NO_STREAM)),
            offset: Numbers::Constant(0),
        });
        Ok(())
    }

    fn columns(&self, rows: &[Found], mut values: Vec<Vec<ScalarValue>>) -> Result<RecordBatch> {
        let keys = match &self.program.keys {
            None => Vec::new(),
            Some(converter) => {
                let parser = converter.parser();
                converter.convert_rows(rows.iter().map(|found| parser.parse(&found.key)))?
            }
        };
        let times = |f: &dyn Fn(&Match) -> i64| -> ArrayRef {
            let times = rows.iter().map(|found| f(&found.found));
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone(UTC))
        };
        let mut made: Vec<Option<ArrayRef>> = vec![None; values.len()];
        let mut columns = Vec::with_capacity(self.program.outputs.len());
        for output in &self.program.outputs {
            columns.push(match output {
                OutputColumn::Accessor(number) => match &made[*number] {
                    Some(column) => Arc::clone(column),
                    None => {
                        let values = std::mem::take(&mut values[*number]);
                        let column = self.program.accessors[*number].column(values)?;
                        made[*number] = Some(Arc::clone(&column));
                        column
                    }
                },
                OutputColumn::Start => times(&|m| m.first.time),
                OutputColumn::End => times(&Match::time),
                OutputColumn::Key(number) => Arc::clone(&keys[*number]),
            });
        }
        batch_of(SchemaRef::clone(&self.schema), columns, rows.len())
    }
}

/// Records that something of a row was left out.
fn refuse(failure: RowFailure, on_error: OnError, out: &mut Output) -> Result<()> {
    match on_error {
        OnError::Stop => return Err(ExecError::Row(failure)),
        OnError::DeadLetter => out.dead_letters.push(failure),
        OnError::Skip | OnError::Null => out.skipped += 1,
    }
    Ok(())
}

impl Operator for Matcher {
    fn describe(&self) -> String {
        "Pattern".into()
    }

    fn on_batch(&mut self, input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if let Some(batch) = self.program.compute(input.0, batch, self.on_error, out)? {
            self.reorder.push(input, batch);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let progress = &watermark.progress;
        let released = self.reorder.release(watermark, out)?;
        let mut found = Vec::new();
        let mut fronts = vec![(0, 0); released.inputs.len()];
        for (input, rows) in &released.order {
            let (piece, row) = &mut fronts[*input];
            for _ in 0..*rows {
                let due = &released.inputs[*input][*piece];
                self.expire(due.batch.time.get(*row), progress, &released, &mut found);
                self.row(*input, due, *row, out, &mut found)?;
                *row += 1;
                if *row == due.batch.len() {
                    (*piece, *row) = (*piece + 1, 0);
                }
            }
        }
        self.expire(progress.last(), progress, &released, &mut found);
        if progress.last() == i64::MAX {
            self.end(progress, &released, &mut found);
        }
        let hold = self.program.pattern.hold_us();
        if hold > 0 {
            out.progress = Some(progress.delayed(hold));
        }
        self.emit(found, progress, out)
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.save(state)
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.load(state)
    }

    fn state_rows(&self) -> u64 {
        let kept = self.partitions.iter().flatten();
        let runs: usize = kept.map(|k| k.partition.runs.len() + k.partition.held.len()).sum();
        runs as u64 + self.reorder.rows()
    }

    fn state_bytes(&self) -> u64 {
        let kept = self.partitions.iter().flatten();
        let of = |k: &Kept| {
            let links = k.partition.runs.len() * (size_of::<partition::Run>() + 128);
            size_of::<Kept>() + 2 * k.key.len() + links
        };
        kept.map(of).sum::<usize>() as u64 + self.reorder.bytes()
    }
}
