//! The rows that are kept, and the aggregates of their groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::{ExecError, Result};
use crate::operator::{StateReader, StateWriter};
use crate::operators::slide::{Rank, Slide};
use crate::operators::slots::Slots;
use crate::rows::{read_bytes, read_number, write_bytes};

use super::Retained;

/// First bytes of the keys under which rows and boundaries are saved.
const ROW: u8 = b'r';
const BOUNDARY: u8 = b'b';

/// A row as far as its aggregates need it.
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) time: i64,
    pub(super) group: Arc<[u8]>,
    /// What it is ordered or told apart by.
    pub(super) order: Arc<[u8]>,
    /// Its own aggregates.
    pub(super) slot: u32,
}

/// See the module.
pub(super) struct Groups {
    pub(super) slots: Slots,
    groups: HashMap<Arc<[u8]>, Group>,
    /// Kept rows by number.
    rows: BTreeMap<u64, Row>,
    /// The same by order or identity.
    by_order: BTreeSet<(Arc<[u8]>, u64)>,
    /// The same by event time.
    by_time: BTreeSet<Rank>,
    next: u64,
    /// Rows below this number have been saved.
    saved: u64,
    gone: Vec<u64>,
    /// Groups whose boundary may have moved, and the boundaries that have been saved.
    touched: BTreeSet<Arc<[u8]>>,
    boundaries: HashMap<Arc<[u8]>, Rank>,
    bytes: u64,
}

#[derive(Default)]
struct Group {
    /// The rows that a next row in order sees.
    slide: Slide,
    /// Slots of the rows before those, which a row out of order still sees.
    past: BTreeMap<Rank, u32>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.slide.is_empty() && self.past.is_empty()
    }
}

impl Groups {
    pub(super) fn new(slots: Slots) -> Groups {
        Groups {
            slots,
            groups: HashMap::new(),
            rows: BTreeMap::new(),
            by_order: BTreeSet::new(),
            by_time: BTreeSet::new(),
            next: 0,
            saved: 0,
            gone: Vec::new(),
            touched: BTreeSet::new(),
            boundaries: HashMap::new(),
            bytes: 0,
        }
    }

    /// Numbers for so many rows.
    pub(super) fn number(&mut self, rows: usize) -> u64 {
        self.next += rows as u64;
        self.next - rows as u64
    }

    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.slots.bytes()
    }

    /// Keeps the last `limit` rows.
    pub(super) fn last_rows(&mut self, row: Row, limit: u64) -> Result<u32> {
        let group = Arc::clone(&row.group);
        self.insert(row)?;
        while self.rows.len() as u64 > limit
            && let Some((first, _)) = self.rows.first_key_value()
        {
            self.remove(*first)?;
        }
        self.value(&group)
    }

    /// Keeps the `limit` rows that come first in order.
    pub(super) fn first_rows(&mut self, row: Row, limit: u64) -> Result<u32> {
        let (group, number) = (Arc::clone(&row.group), row.number);
        self.by_order.insert((Arc::clone(&row.order), number));
        self.insert(row)?;
        let evicted = self.by_order.last().filter(|_| self.rows.len() as u64 > limit);
        match evicted.map(|(_, number)| *number) {
            // The row is seen by itself even if it is not to stay.
            Some(evicted) if evicted == number => {
                let value = self.value(&group)?;
                self.remove(evicted)?;
                Ok(value)
            }
            Some(evicted) => {
                self.remove(evicted)?;
                self.value(&group)
            }
            None => self.value(&group),
        }
    }

    /// Keeps the last row of each value of `order`.
    pub(super) fn unique(&mut self, row: Row) -> Result<u32> {
        let group = Arc::clone(&row.group);
        let same = (Arc::clone(&row.order), 0)..=(Arc::clone(&row.order), u64::MAX);
        if let Some((_, replaced)) = self.by_order.range(same).next() {
            self.remove(*replaced)?;
        }
        self.by_order.insert((Arc::clone(&row.order), row.number));
        self.insert(row)?;
        self.value(&group)
    }

    /// Keeps rows until [`Groups::forget`]; the aggregates are over those with an event time above
    /// that of the row less `us`.
    pub(super) fn since(&mut self, row: Row, us: i64) -> Result<u32> {
        let name = Arc::clone(&row.group);
        let rank = (row.time, row.number);
        let from = (row.time.saturating_sub(us).saturating_add(1), 0);
        self.by_time.insert(rank);
        let last = self.groups.get(&name).and_then(|group| group.slide.last());
        if last.is_none_or(|last| last <= rank) {
            self.insert(row)?;
            let Some(group) = self.groups.get_mut(&name) else { return Ok(self.slots.take()) };
            while let Some(first) = group.slide.first().filter(|first| *first < from) {
                if let Some(slot) = group.slide.pop(&mut self.slots)? {
                    group.past.insert(first, slot);
                }
            }
            return self.value(&name);
        }
        // Out of order: rows count that the later ones do not see any more.
        let present = last.is_some_and(|(time, _)| row.time > time.saturating_sub(us));
        let slot = row.slot;
        if present {
            self.insert(row)?;
        } else {
            self.add(row);
        }
        let Some(group) = self.groups.get_mut(&name) else { return Ok(self.slots.take()) };
        if !present {
            group.past.insert(rank, slot);
        }
        let value = self.slots.take();
        for slot in group.past.range(from..).map(|(_, slot)| *slot) {
            self.slots.merge(value, slot)?;
        }
        let later = group.slide.value(&mut self.slots)?;
        self.slots.merge(value, later)?;
        self.slots.give_back(&[later]);
        Ok(value)
    }

    /// Forgets the rows whose event time is `until` or before.
    pub(super) fn forget(&mut self, until: i64) -> Result<()> {
        while let Some((time, number)) = self.by_time.first().copied()
            && time <= until
        {
            self.remove(number)?;
        }
        Ok(())
    }

    fn value(&mut self, group: &[u8]) -> Result<u32> {
        match self.groups.get(group) {
            Some(group) => group.slide.value(&mut self.slots),
            None => Ok(self.slots.take()),
        }
    }

    /// Adds a row to its group.
    fn insert(&mut self, row: Row) -> Result<()> {
        let group = self.groups.entry(Arc::clone(&row.group)).or_default();
        let rank = if self.by_time.is_empty() { (0, row.number) } else { (row.time, row.number) };
        group.slide.insert(rank, row.slot, &mut self.slots)?;
        self.add(row);
        Ok(())
    }

    fn add(&mut self, row: Row) {
        self.touched.insert(Arc::clone(&row.group));
        self.bytes += row.bytes();
        self.rows.insert(row.number, row);
    }

    fn remove(&mut self, number: u64) -> Result<()> {
        let Some(row) = self.rows.remove(&number) else { return Ok(()) };
        self.bytes -= row.bytes();
        if number < self.saved {
            self.gone.push(number);
        }
        self.by_order.remove(&(Arc::clone(&row.order), number));
        let timed = self.by_time.remove(&(row.time, number));
        let rank = if timed { (row.time, number) } else { (0, number) };
        if let Some(group) = self.groups.get_mut(&row.group) {
            match group.past.remove(&rank) {
                Some(slot) => self.slots.give_back(&[slot]),
                None => group.slide.remove(rank, &mut self.slots)?,
            }
            if group.is_empty() {
                group.slide.clear(&mut self.slots);
                self.groups.remove(&row.group);
            }
        }
        self.touched.insert(row.group);
        Ok(())
    }

    /// Writes what changed since the last call.
    pub(super) fn checkpoint(&mut self, state: &mut StateWriter) {
        for number in self.gone.drain(..) {
            state.remove(&row_key(number));
        }
        for (number, row) in self.rows.range(self.saved..) {
            let mut value = row.time.to_be_bytes().to_vec();
            write_bytes(&mut value, &row.group);
            write_bytes(&mut value, &row.order);
            self.slots.write(row.slot, &mut value);
            state.put(&row_key(*number), value);
        }
        self.saved = self.next;
        for group in std::mem::take(&mut self.touched) {
            let boundary = self.groups.get(&group).and_then(|group| group.slide.boundary);
            if boundary == self.boundaries.get(&group).copied() {
                continue;
            }
            let key = [&[BOUNDARY], group.as_ref()].concat();
            match boundary {
                Some((rank, number)) => {
                    state.put(&key, [rank.to_be_bytes(), number.to_be_bytes()].concat());
                    self.boundaries.insert(group, (rank, number));
                }
                None => {
                    state.remove(&key);
                    self.boundaries.remove(&group);
                }
            }
        }
    }

    /// Takes back what [`Groups::checkpoint`] wrote; everything else is empty.
    pub(super) fn restore(&mut self, kept: Retained, state: &StateReader) -> Result<()> {
        let mut ranks: HashMap<Arc<[u8]>, Vec<(Rank, u32)>> = HashMap::new();
        for (key, mut value) in state.entries() {
            match key.split_first() {
                Some((&ROW, mut number)) => {
                    let row = Row {
                        number: read_number(&mut number)? as u64,
                        time: read_number(&mut value)?,
                        group: read_bytes(&mut value)?.into(),
                        order: read_bytes(&mut value)?.into(),
                        slot: self.slots.read(&mut value)?,
                    };
                    let rank = match kept {
                        Retained::Time(_) => (row.time, row.number),
                        _ => (0, row.number),
                    };
                    ranks.entry(Arc::clone(&row.group)).or_default().push((rank, row.slot));
                    match kept {
                        Retained::Length(_) => {}
                        Retained::Time(_) => drop(self.by_time.insert(rank)),
                        Retained::Sort(_) | Retained::Unique => {
                            self.by_order.insert((Arc::clone(&row.order), row.number));
                        }
                    }
                    self.next = self.next.max(row.number + 1);
                    self.add(row);
                }
                Some((&BOUNDARY, group)) => {
                    let rank = (read_number(&mut value)?, read_number(&mut value)? as u64);
                    self.boundaries.insert(group.into(), rank);
                }
                _ => return Err(ExecError::State("a key of unknown kind".into())),
            }
        }
        for (name, mut rows) in ranks {
            rows.sort_unstable();
            let last = rows.last().map_or(0, |((time, _), _)| *time);
            let past = match kept {
                Retained::Time(us) => {
                    rows.partition_point(|((time, _), _)| *time <= last.saturating_sub(us))
                }
                _ => 0,
            };
            let boundary = self.boundaries.get(&name).copied();
            let present = rows.split_off(past).into();
            let slide = Slide::restore(present, boundary, &mut self.slots)?;
            self.groups.insert(name, Group { slide, past: rows.into_iter().collect() });
        }
        self.touched.clear();
        self.saved = self.next;
        Ok(())
    }
}

impl Row {
    fn bytes(&self) -> u64 {
        size_of::<Row>() as u64 + self.order.len() as u64 + 96
    }
}

fn row_key(number: u64) -> [u8; 9] {
    let mut key = [ROW; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}
