//! What is kept of a partition.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{ExecError, Result};
use crate::operators::slide::{Rank, Slide};
use crate::operators::slots::Slots;
use crate::rows::{read_bytes, read_number, write_bytes};

use super::spec::{Frame, OverSpec, Pick, Start, head};

/// A value in arrow's row format.
pub(super) type Value = Arc<[u8]>;

/// A row that later rows may need.
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) time: i64,
    /// Arguments of the functions that give values.
    pub(super) values: Vec<Value>,
    /// Its own aggregates for each frame; of use as long as the frame's window has the row.
    pub(super) slots: Vec<u32>,
}

/// Aggregates of a frame.
pub(super) enum Aggregate {
    /// Of all rows so far.
    Running(Option<u32>),
    Sliding(Slide),
    /// Nothing is kept: the frame has the present row and its peers only.
    Peers,
}

#[derive(Default)]
pub(super) struct Partition {
    /// Rows so far, number of the first of the last peers, groups of peers so far.
    pub(super) rows: u64,
    pub(super) rank: u64,
    pub(super) dense_rank: u64,
    /// Event time and order of the last row.
    pub(super) last: Option<(i64, Value)>,
    pub(super) history: VecDeque<Entry>,
    /// The first values of the partition, for each function as many as it needs.
    pub(super) heads: Vec<Vec<Value>>,
    pub(super) aggregates: Vec<Aggregate>,
}

/// Results of a row.
pub(super) struct Given {
    pub(super) row_number: u64,
    pub(super) rank: u64,
    pub(super) dense_rank: u64,
    /// Of each function that gives a value.
    pub(super) values: Vec<Option<Value>>,
    /// Slots of each frame.
    pub(super) slots: Vec<u32>,
}

impl Partition {
    pub(super) fn new(spec: &OverSpec) -> Partition {
        let aggregate = |(frame, _): &(Frame, _)| match frame.start {
            Start::Unbounded => Aggregate::Running(None),
            Start::Rows(_) | Start::Range(_) => Aggregate::Sliding(Slide::default()),
            Start::Peers => Aggregate::Peers,
        };
        Partition {
            heads: vec![Vec::new(); spec.values.len()],
            aggregates: spec.frames.iter().map(aggregate).collect(),
            ..Partition::default()
        }
    }

    /// Takes rows that are peers of each other; gives their results, in order.
    pub(super) fn take(
        &mut self,
        peers: Vec<Entry>,
        order: &Value,
        spec: &OverSpec,
        slots: &mut [Slots],
    ) -> Result<Vec<Given>> {
        let Some(time) = peers.first().map(|entry| entry.time) else { return Ok(Vec::new()) };
        if self.last.as_ref().is_none_or(|(t, o)| *t != time || o != order) {
            self.rank = self.rows + 1;
            self.dense_rank += 1;
            self.last = Some((time, Arc::clone(order)));
        }
        self.evict(time, spec, slots)?;
        let ranks: Vec<(Rank, Vec<u32>)> =
            peers.iter().map(|e| ((e.time, e.number), e.slots.clone())).collect();
        let mut given = Vec::with_capacity(peers.len());
        for (row, entry) in peers.into_iter().enumerate() {
            let mut next = self.push(entry, spec);
            self.results(false, &ranks[row..=row], spec, slots, std::slice::from_mut(&mut next))?;
            given.push(next);
        }
        self.results(true, &ranks, spec, slots, &mut given)?;
        Ok(given)
    }

    /// Lets the rows go that lie too far back for rows of event time `time`.
    fn evict(&mut self, time: i64, spec: &OverSpec, slots: &mut [Slots]) -> Result<()> {
        for (number, (frame, _)) in spec.frames.iter().enumerate() {
            if let (Start::Range(us), Aggregate::Sliding(slide)) =
                (frame.start, &mut self.aggregates[number])
            {
                let from = time.saturating_sub(us);
                while slide.first().is_some_and(|(time, _)| time < from) {
                    let gone = slide.pop(&mut slots[number])?;
                    slots[number].give_back(gone.as_slice());
                }
            }
        }
        Ok(())
    }

    /// Adds a row and gives its numbers, and its values of earlier rows.
    fn push(&mut self, entry: Entry, spec: &OverSpec) -> Given {
        self.rows += 1;
        let mut values = vec![None; spec.values.len()];
        for (number, of) in spec.values.iter().enumerate() {
            let own = &entry.values[number];
            match of.pick {
                Pick::Lag(0, _) => values[number] = Some(Arc::clone(own)),
                Pick::Lag(rows, _) => {
                    let at = (self.history.len() as u64).checked_sub(rows);
                    values[number] =
                        at.map(|at| Arc::clone(&self.history[at as usize].values[number]));
                }
                _ => {}
            }
            if (self.heads[number].len() as u64) < head(&of.pick) {
                self.heads[number].push(Arc::clone(own));
            }
        }
        self.history.push_back(entry);
        Given {
            row_number: self.rows,
            rank: self.rank,
            dense_rank: self.dense_rank,
            values,
            slots: vec![0; spec.frames.len()],
        }
    }

    /// Fills in what frames with peers, or those without, have for the rows that were pushed last.
    fn results(
        &mut self,
        peers: bool,
        rows: &[(Rank, Vec<u32>)],
        spec: &OverSpec,
        slots: &mut [Slots],
        given: &mut [Given],
    ) -> Result<()> {
        for (number, of) in spec.values.iter().enumerate() {
            let value = match of.pick {
                Pick::Last(frame) if frame.peers == peers => {
                    self.history.back().map(|entry| Arc::clone(&entry.values[number]))
                }
                Pick::Nth(n, frame) if frame.peers == peers => {
                    self.nth(number, n, frame.start, rows.len())
                }
                _ => continue,
            };
            given.iter_mut().for_each(|given| given.values[number].clone_from(&value));
        }
        for (number, (frame, _)) in spec.frames.iter().enumerate() {
            if frame.peers == peers {
                let own = rows.iter().map(|(rank, slots)| (*rank, slots[number]));
                let slots = &mut slots[number];
                let value = self.aggregates[number].take(own, frame.start, slots)?;
                given.iter_mut().for_each(|given| given.slots[number] = value);
            }
        }
        Ok(())
    }

    /// The n-th value of a frame that ends with the last row, which has so many peers.
    fn nth(&self, value: usize, n: u64, start: Start, peers: usize) -> Option<Value> {
        let behind = n.checked_sub(1)?;
        let rows = self.history.len() as u64;
        let first = match start {
            Start::Unbounded => return self.heads[value].get(behind as usize).map(Arc::clone),
            Start::Rows(before) => rows.saturating_sub(before.saturating_add(1)),
            Start::Range(us) => {
                let from = self.history.back()?.time.saturating_sub(us);
                self.history.partition_point(|entry| entry.time < from) as u64
            }
            Start::Peers => rows - peers as u64,
        };
        let entry = self.history.get(usize::try_from(first.checked_add(behind)?).ok()?)?;
        Some(Arc::clone(&entry.values[value]))
    }

    /// Lets go of the rows that the next row cannot need when its event time is `time` or later;
    /// gives their numbers.
    pub(super) fn trim(&mut self, time: i64, needed: Needed) -> Vec<u64> {
        let from = needed.range.map_or(i64::MAX, |us| time.saturating_sub(us));
        let mut gone = Vec::new();
        while self.history.len() as u64 > needed.rows
            && self.history.front().is_some_and(|entry| entry.time < from)
        {
            gone.extend(self.history.pop_front().map(|entry| entry.number));
        }
        gone
    }

    /// Empties the windows over intervals, all rows of which lie too far back.
    pub(super) fn expire(&mut self, spec: &OverSpec, slots: &mut [Slots]) -> Result<()> {
        self.evict(i64::MAX, spec, slots)
    }
}

/// How far back a next row may need rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needed {
    pub(super) rows: u64,
    pub(super) range: Option<i64>,
}

impl Aggregate {
    /// Adds rows with their own aggregates; gives a slot with those of the frame.
    fn take(
        &mut self,
        rows: impl Iterator<Item = (Rank, u32)>,
        start: Start,
        slots: &mut Slots,
    ) -> Result<u32> {
        match self {
            Aggregate::Running(running) => {
                let running = *running.get_or_insert_with(|| slots.take());
                for (_, own) in rows {
                    slots.merge(running, own)?;
                    slots.give_back(&[own]);
                }
                let value = slots.take();
                slots.merge(value, running)?;
                Ok(value)
            }
            Aggregate::Sliding(slide) => {
                for (rank, own) in rows {
                    slide.insert(rank, own, slots)?;
                }
                let value = slide.value(slots)?;
                if let Start::Rows(before) = start {
                    while slide.len() as u64 > before {
                        let gone = slide.pop(slots)?;
                        slots.give_back(gone.as_slice());
                    }
                }
                Ok(value)
            }
            Aggregate::Peers => {
                let value = slots.take();
                for (_, own) in rows {
                    slots.merge(value, own)?;
                    slots.give_back(&[own]);
                }
                Ok(value)
            }
        }
    }
}

// Saved state.
impl Partition {
    /// What is saved besides the rows of the history.
    pub(super) fn write(&self, slots: &[Slots]) -> Vec<u8> {
        let mut to = Vec::new();
        for number in [self.rows, self.rank, self.dense_rank] {
            to.extend(number.to_be_bytes());
        }
        match &self.last {
            None => to.push(0),
            Some((time, order)) => {
                to.push(1);
                to.extend(time.to_be_bytes());
                write_bytes(&mut to, order);
            }
        }
        for head in &self.heads {
            to.extend((head.len() as i64).to_be_bytes());
            head.iter().for_each(|value| write_bytes(&mut to, value));
        }
        for (aggregate, slots) in self.aggregates.iter().zip(slots) {
            match aggregate {
                Aggregate::Running(Some(slot)) => {
                    to.push(1);
                    slots.write(*slot, &mut to);
                }
                Aggregate::Sliding(Slide { boundary: Some((time, number)), .. }) => {
                    to.push(1);
                    to.extend(time.to_be_bytes());
                    to.extend(number.to_be_bytes());
                }
                _ => to.push(0),
            }
        }
        to
    }

    /// Takes back what [`Partition::write`] wrote, over the rows of `history`.
    pub(super) fn read(
        mut from: &[u8],
        history: VecDeque<Entry>,
        spec: &OverSpec,
        slots: &mut [Slots],
    ) -> Result<Partition> {
        let from = &mut from;
        let mut partition = Partition::new(spec);
        partition.rows = read_number(from)? as u64;
        partition.rank = read_number(from)? as u64;
        partition.dense_rank = read_number(from)? as u64;
        if read_flag(from)? {
            partition.last = Some((read_number(from)?, read_bytes(from)?.into()));
        }
        for head in &mut partition.heads {
            for _ in 0..read_number(from)? {
                head.push(read_bytes(from)?.into());
            }
        }
        let last = partition.last.as_ref().map_or(i64::MIN, |(time, _)| *time);
        for (number, (frame, _)) in spec.frames.iter().enumerate() {
            let there = read_flag(from)?;
            let slots = &mut slots[number];
            match (&mut partition.aggregates[number], there) {
                (Aggregate::Running(running), true) => *running = Some(slots.read(from)?),
                (Aggregate::Sliding(slide), _) => {
                    let boundary = match there {
                        true => Some((read_number(from)?, read_number(from)? as u64)),
                        false => None,
                    };
                    let first = first_of(frame.start, last, &history);
                    let rows = history.range(first..);
                    let rows = rows.map(|e| ((e.time, e.number), e.slots[number]));
                    let rows = rows.filter(|(_, slot)| *slot != NO_SLOT).collect();
                    *slide = Slide::restore(rows, boundary, slots)?;
                    // Rows that have left the window since they were saved.
                    let left = history.range(..first).map(|entry| entry.slots[number]);
                    slots.give_back(&left.filter(|slot| *slot != NO_SLOT).collect::<Vec<_>>());
                }
                _ => {}
            }
        }
        partition.history = history;
        Ok(partition)
    }

    /// Whether a frame's window has a row.
    pub(super) fn has(&self, frame: usize, entry: &Entry) -> bool {
        match &self.aggregates[frame] {
            Aggregate::Sliding(slide) => {
                slide.first().is_some_and(|first| first <= (entry.time, entry.number))
            }
            _ => false,
        }
    }
}

/// Stands for the slot of a row that a frame's window does not have.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Position of the first row that a frame's window has between two rows.
fn first_of(start: Start, last: i64, history: &VecDeque<Entry>) -> usize {
    match start {
        Start::Rows(rows) => (history.len() as u64).saturating_sub(rows) as usize,
        Start::Range(us) => history.partition_point(|entry| entry.time < last.saturating_sub(us)),
        Start::Unbounded | Start::Peers => history.len(),
    }
}

/// Takes a byte that is 0 or 1.
pub(super) fn read_flag(from: &mut &[u8]) -> Result<bool> {
    match from.split_first() {
        Some((flag @ 0..=1, rest)) => {
            *from = rest;
            Ok(*flag == 1)
        }
        _ => Err(ExecError::State("a flag that cannot be read".into())),
    }
}
