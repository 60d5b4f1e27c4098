//! The watermarks of a query's leaves, computed from the rows of their roots.

use std::collections::BTreeMap;

use auspex_plan::Clock;
use auspex_storage::{EventBatch, StreamId};

use crate::error::{ExecError, Result};
use crate::operator::{StateReader, StateWriter};
use crate::progress::Progress;

/// Where the watermark comes from: a root, or all roots whose event time is their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Arrivals,
    Root(StreamId),
}

fn source(clock: &Clock) -> Source {
    if clock.arrival { Source::Arrivals } else { Source::Root(clock.stream) }
}

/// What one source has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    /// Greatest event time.
    time: i64,
    /// Arrival of its last row; of the first row of the log that the query saw before there was one.
    arrived: i64,
    idle: bool,
}

const NOTHING: Reached = Reached { time: i64::MIN, arrived: i64::MIN, idle: false };

/// A source while it passes over rows.
struct Moving<'a> {
    reached: &'a mut Reached,
    progress: &'a mut Progress,
    timeout: i64,
    /// Whether the rows of each input are its own.
    inputs: Vec<bool>,
}

impl Moving<'_> {
    fn row(&mut self, input: usize, sequence: i64, time: i64, arrived: i64) {
        let reached = &mut *self.reached;
        if self.inputs[input] {
            reached.arrived = reached.arrived.max(arrived);
            if time <= reached.time && !reached.idle {
                return;
            }
            reached.time = reached.time.max(time);
            reached.idle = false;
        } else if reached.arrived == i64::MIN {
            reached.arrived = arrived;
        } else if !reached.idle && arrived.saturating_sub(reached.arrived) >= self.timeout {
            reached.idle = true;
        } else {
            return;
        }
        self.progress.advance(sequence, reached.time, reached.idle);
    }
}

/// The clocks of all leaves of a graph.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// Per leaf its clocks, and the watermark it had reached.
    leaves: Vec<(Vec<Clock>, i64)>,
    reached: BTreeMap<Source, Reached>,
    idle_timeout: BTreeMap<Source, i64>,
    /// Roots by the graph's inputs.
    inputs: BTreeMap<usize, Vec<Source>>,
    ended: bool,
    changed: bool,
}

impl Clocks {
    /// `leaves` are the clocks of each leaf; `input_of` finds the graph's input for a root. The rows
    /// of `ticks` move what has arrival as its event time, too.
    pub(crate) fn new(
        leaves: Vec<Vec<Clock>>,
        input_of: impl Fn(StreamId) -> Option<usize>,
        ticks: Option<StreamId>,
    ) -> Result<Clocks> {
        let mut clocks = Clocks::default();
        for clock in leaves.iter().flatten() {
            let source = source(clock);
            let input = input_of(clock.stream)
                .ok_or_else(|| ExecError::Plan(format!("root {} is not read", clock.stream)))?;
            let sources = clocks.inputs.entry(input).or_default();
            if !sources.contains(&source) {
                sources.push(source);
            }
            clocks.reached.insert(source, NOTHING);
            let timeout = clocks.idle_timeout.entry(source).or_insert(clock.idle_timeout_us);
            *timeout = (*timeout).min(clock.idle_timeout_us);
        }
        if let Some(input) = ticks.and_then(input_of) {
            clocks.inputs.insert(input, vec![Source::Arrivals]);
        }
        clocks.leaves = leaves.into_iter().map(|l| (l, i64::MIN)).collect();
        Ok(clocks)
    }

    /// How the watermark of each leaf moves over the rows of one step. With `end` it goes to
    /// infinity at that place.
    pub(crate) fn step(&mut self, inputs: &[Vec<EventBatch>], end: Option<i64>) -> Vec<Progress> {
        if self.ended {
            return self.leaves.iter().map(|_| Progress::still(i64::MAX)).collect();
        }
        let mut sources: BTreeMap<Source, Progress> = BTreeMap::new();
        for (source, reached) in &self.reached {
            sources.insert(*source, Progress::new(reached.time, reached.idle));
        }
        if self.reached.len() <= 1 {
            self.one_source(inputs, &mut sources);
        } else {
            self.several_sources(inputs, &mut sources);
        }
        if let Some(end) = end {
            sources.values_mut().for_each(|p| p.advance(end, i64::MAX, false));
            self.ended = true;
            self.changed = true;
        }
        let mut progress = Vec::with_capacity(self.leaves.len());
        for (clocks, reached) in &mut self.leaves {
            let of: Vec<Progress> =
                clocks.iter().map(|c| sources[&source(c)].delayed(c.delay_us)).collect();
            let moved = match of.len() {
                0 => Progress::new(i64::MAX, true),
                _ => Progress::least(&of.iter().collect::<Vec<_>>(), *reached),
            };
            *reached = moved.last();
            progress.push(moved);
        }
        progress
    }

    /// The usual case: rows of one source in order, and nobody to be idle towards.
    fn one_source(&mut self, inputs: &[Vec<EventBatch>], sources: &mut BTreeMap<Source, Progress>) {
        // Several streams may share the clock of arrival.
        let filled = |input: &usize| inputs[*input].iter().any(|b| !b.is_empty());
        let mut moving = self.inputs.iter().filter(|(input, _)| filled(input));
        let Some((input, of)) = moving.next() else { return };
        if moving.next().is_some() {
            return self.several_sources(inputs, sources);
        }
        let progress = sources.get_mut(&of[0]).expect("inserted before");
        let reached = self.reached.get_mut(&of[0]).expect("inserted before");
        for batch in inputs[*input].iter().filter(|b| !b.is_empty()) {
            self.changed = true;
            let rows = batch.len();
            let mut time = reached.time;
            match batch.time.bounds(rows) {
                Some((_, max)) if max <= time => {}
                _ => {
                    for row in 0..rows {
                        let at = batch.time.get(row);
                        if at > time {
                            time = at;
                            progress.advance(batch.sequence.get(row), time, false);
                        }
                    }
                }
            }
            reached.time = time;
            reached.arrived = reached.arrived.max(batch.ingested.get(rows - 1));
        }
    }

    /// All rows in global order: each moves its source, and the log's time, which makes others idle.
    fn several_sources(
        &mut self,
        inputs: &[Vec<EventBatch>],
        sources: &mut BTreeMap<Source, Progress>,
    ) {
        let mut cursors: Vec<(usize, &EventBatch, usize)> = Vec::new();
        let mut rest: Vec<std::slice::Iter<'_, EventBatch>> = Vec::new();
        for (input, batches) in inputs.iter().enumerate() {
            let mut batches = batches.iter();
            if let Some(batch) = batches.by_ref().find(|b| !b.is_empty()) {
                cursors.push((input, batch, 0));
                rest.push(batches);
            }
        }
        self.changed |= !cursors.is_empty();
        let mut moving: Vec<Moving> = self
            .reached
            .iter_mut()
            .zip(sources.values_mut())
            .map(|((source, reached), progress)| Moving {
                reached,
                progress,
                timeout: self.idle_timeout[source],
                inputs: (0..inputs.len())
                    .map(|input| self.inputs.get(&input).is_some_and(|of| of.contains(source)))
                    .collect(),
            })
            .collect();
        while let Some(first) = (0..cursors.len()).min_by_key(|c| {
            let (input, batch, row) = &cursors[*c];
            (batch.sequence.get(*row), *input)
        }) {
            let (input, batch, row) = cursors[first];
            let (sequence, time, arrived) =
                (batch.sequence.get(row), batch.time.get(row), batch.ingested.get(row));
            moving.iter_mut().for_each(|source| source.row(input, sequence, time, arrived));
            if row + 1 < batch.len() {
                cursors[first].2 += 1;
            } else if let Some(next) = rest[first].by_ref().find(|b| !b.is_empty()) {
                cursors[first] = (input, next, 0);
            } else {
                cursors.remove(first);
                drop(rest.remove(first));
            }
        }
    }

    /// Whether a leaf's event time is the arrival of its rows.
    pub(crate) fn by_arrival(&self) -> bool {
        self.reached.contains_key(&Source::Arrivals)
    }

    /// Writes what was reached when it has changed.
    pub(crate) fn checkpoint(&mut self, state: &mut StateWriter) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for (source, reached) in &self.reached {
            let mut value = Vec::with_capacity(17);
            value.extend_from_slice(&reached.time.to_be_bytes());
            value.extend_from_slice(&reached.arrived.to_be_bytes());
            value.push(u8::from(reached.idle));
            state.put(&key(*source), value);
        }
        for (number, (_, reached)) in self.leaves.iter().enumerate() {
            state.put(&leaf_key(number), reached.to_be_bytes().to_vec());
        }
        if self.ended {
            state.put(b"end", Vec::new());
        }
    }

    /// Takes back what [`Clocks::checkpoint`] wrote.
    pub(crate) fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.reached.values_mut().for_each(|r| *r = NOTHING);
        self.leaves.iter_mut().for_each(|(_, reached)| *reached = i64::MIN);
        self.ended = false;
        self.changed = false;
        for (found, value) in state.entries() {
            if found == b"end" {
                self.ended = true;
                continue;
            }
            if found.first() == Some(&b'n') {
                // The graph's own.
                continue;
            }
            let broken = || ExecError::State("a clock that cannot be read".into());
            let number = |at: usize| {
                let bytes: Option<[u8; 8]> = value.get(at..at + 8).and_then(|b| b.try_into().ok());
                bytes.map(i64::from_be_bytes).ok_or_else(broken)
            };
            let leaf = self.leaves.iter_mut().enumerate().find(|(n, _)| leaf_key(*n) == found);
            if let Some((_, (_, reached))) = leaf {
                *reached = number(0)?;
                continue;
            }
            let Some(reached) = self.reached.iter_mut().find(|(s, _)| key(**s) == found) else {
                return Err(broken());
            };
            let idle = value.get(16).ok_or_else(broken)? == &1;
            *reached.1 = Reached { time: number(0)?, arrived: number(8)?, idle };
        }
        Ok(())
    }
}

fn key(source: Source) -> Vec<u8> {
    match source {
        Source::Arrivals => b"a".to_vec(),
        Source::Root(stream) => [b"r".as_slice(), &stream.to_be_bytes()].concat(),
    }
}

fn leaf_key(number: usize) -> Vec<u8> {
    [b"l".as_slice(), &(number as u32).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use auspex_storage::Run;

    use super::*;
    use crate::batch::batch_of;

    const MINUTE: i64 = 60_000_000;

    fn clock(stream: StreamId, delay_us: i64, arrival: bool) -> Clock {
        Clock { stream, delay_us, arrival, idle_timeout_us: MINUTE }
    }

    /// Rows as (place, event time, arrival).
    fn rows(rows: &[(i64, i64, i64)]) -> Vec<EventBatch> {
        let each = |f: fn(&(i64, i64, i64)) -> i64| Run::Each(rows.iter().map(f).collect());
        vec![EventBatch {
            rows: batch_of(Arc::new(Schema::empty()), Vec::new(), rows.len()).unwrap(),
            offset: 0,
            sequence: each(|r| r.0),
            time: each(|r| r.1),
            ingested: each(|r| r.2),
        }]
    }

    fn steps(progress: &Progress) -> Vec<(i64, i64, bool)> {
        progress.steps().iter().map(|s| (s.sequence, s.time, s.idle)).collect()
    }

    fn two(delay: i64) -> Clocks {
        let leaves = vec![vec![clock(1, delay, false)], vec![clock(2, 0, false)]];
        Clocks::new(leaves, |s| Some(s as usize - 1), None).unwrap()
    }

    #[test]
    fn a_leaf_is_its_delay_behind_its_root() {
        let mut clocks = two(5);
        let moved = clocks.step(&[rows(&[(0, 100, 0), (2, 90, 0)]), rows(&[(1, 70, 0)])], None);
        assert_eq!(steps(&moved[0]), [(0, 95, false)]);
        assert_eq!(steps(&moved[1]), [(1, 70, false)]);
        let least = Progress::least(&[&moved[0], &moved[1]], i64::MIN);
        assert_eq!(steps(&least), [(1, 70, false)]);
    }

    #[test]
    fn roots_whose_time_is_arrival_share_one_clock() {
        let leaves = vec![vec![clock(1, 0, true)], vec![clock(2, 0, true)]];
        let mut clocks = Clocks::new(leaves, |s| Some(s as usize - 1), None).unwrap();
        let moved = clocks.step(&[rows(&[(0, 100, 100)]), rows(&[(1, 200, 200)])], None);
        let least = Progress::least(&[&moved[0], &moved[1]], i64::MIN);
        assert_eq!(steps(&least), [(0, 100, false), (1, 200, false)]);
    }

    #[test]
    fn a_root_without_rows_for_its_timeout_of_arrival_time_is_idle_until_its_next_row() {
        let mut clocks = two(0);
        let first = clocks.step(&[rows(&[(0, 10, 0)]), rows(&[(1, 20, 0)])], None);
        assert_eq!(first[0].state(), (10, false));
        // The log goes on with rows of the second root alone.
        let busy = rows(&[(2, 500, MINUTE - 1), (3, 600, MINUTE)]);
        let second = clocks.step(&[Vec::new(), busy], None);
        assert_eq!(steps(&second[0]), [(3, 10, true)]);
        let least = Progress::least(&[&second[0], &second[1]], 10);
        assert_eq!(steps(&least), [(3, 600, false)]);
        // It comes back behind the others: time does not turn back for them.
        let third = clocks.step(&[rows(&[(4, 30, MINUTE + 1)]), Vec::new()], None);
        assert_eq!(steps(&third[0]), [(4, 30, false)]);
        assert_eq!(Progress::least(&[&third[0], &third[1]], 600).last(), 600);
    }

    #[test]
    fn how_rows_are_cut_into_steps_and_a_restart_between_them_never_shows() {
        let left: Vec<(i64, i64, i64)> = (0..40).map(|n| (3 * n, 50 * n % 700, n)).collect();
        let right: Vec<(i64, i64, i64)> =
            (0..40).map(|n| (3 * n + 1, 90 * n, n * MINUTE / 7)).collect();
        let whole = two(20).step(&[rows(&left), rows(&right)], Some(1000));
        let mut cut = two(20);
        let mut saved: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut found = [Vec::new(), Vec::new()];
        for from in (0..130).step_by(13) {
            let part = |all: &[(i64, i64, i64)]| {
                let within = |r: &&(i64, i64, i64)| (from..from + 13).contains(&r.0);
                let part: Vec<_> = all.iter().filter(within).copied().collect();
                rows(&part)
            };
            let end = (from == 117).then_some(1000);
            for (leaf, progress) in cut.step(&[part(&left), part(&right)], end).iter().enumerate() {
                found[leaf].extend(steps(progress));
            }
            let mut changes = Vec::new();
            cut.checkpoint(&mut StateWriter::new(7, &mut changes));
            saved.extend(changes.into_iter().map(|(k, v)| (k, v.unwrap())));
            cut = two(20);
            let entries: Vec<_> = saved.clone().into_iter().collect();
            cut.restore(&StateReader::new(7, &entries)).unwrap();
        }
        assert_eq!(found[0], steps(&whole[0]));
        assert_eq!(found[1], steps(&whole[1]));
        assert_eq!(cut.step(&[Vec::new(), Vec::new()], None)[0].last(), i64::MAX);
    }
}
