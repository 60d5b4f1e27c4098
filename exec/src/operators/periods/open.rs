//! The periods that have not ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use auspex_plan::nodes::OutputMode;

use crate::error::{ExecError, Result};
use crate::operator::StateWriter;
use crate::operators::kept::{Held, Kept};
use crate::operators::slots::Slots;
use crate::rows::read_number;

/// First byte of the keys under which aggregates are saved.
const AGGREGATES: u8 = b'a';
/// Stands in the place of a period's end: the last row of a key ever.
const EVER: i64 = i64::MIN;

/// Periods by their ends.
#[derive(Default)]
pub(super) struct Open {
    periods: BTreeMap<i64, Period>,
    /// The last row of each key in the periods that have ended, with the place of the key.
    ever: HashMap<Arc<[u8]>, (u64, u64)>,
    /// Those rows by the places of their keys: in the order in which the keys came.
    order: BTreeMap<u64, u64>,
    /// Saved aggregates that are no longer needed.
    gone: Vec<[u8; 17]>,
}

#[derive(Default)]
pub(super) struct Period {
    /// Numbers of its rows, when all come out.
    pub(super) rows: Vec<u64>,
    /// Its keys in the order of their first rows.
    pub(super) groups: Vec<Group>,
    numbers: HashMap<Arc<[u8]>, usize>,
}

/// The rows of a key in a period.
pub(super) struct Group {
    /// Number of the first row; identifies the group.
    first: u64,
    /// Number of the last one.
    pub(super) last: u64,
    /// Where the aggregates are.
    pub(super) slot: Option<u32>,
    dirty: bool,
    saved: bool,
}

impl Open {
    /// Whether a key has a row in a period.
    pub(super) fn has(&self, end: i64, group: &[u8]) -> bool {
        self.periods.get(&end).is_some_and(|period| period.numbers.contains_key(group))
    }

    /// Adds a row.
    pub(super) fn push(&mut self, end: i64, mut held: Held, kept: &mut Kept) {
        held.order = mark(end, 0);
        let number = kept.push(held);
        self.periods.entry(end).or_default().rows.push(number);
    }

    /// Puts a row in the place of the last one of its key; gives its number.
    pub(super) fn last(&mut self, end: i64, held: Held, kept: &mut Kept) -> (u64, &mut Group) {
        let period = self.periods.entry(end).or_default();
        let key = Arc::clone(&held.group);
        let known = period.numbers.get(&key).copied();
        let first = known.map_or(kept.next(), |group| period.groups[group].first);
        let number = kept.push(Held { order: mark(end, first), ..held });
        let group = known.unwrap_or_else(|| {
            period.groups.push(Group {
                first,
                last: number,
                slot: None,
                dirty: true,
                saved: false,
            });
            period.numbers.insert(key, period.groups.len() - 1);
            period.groups.len() - 1
        });
        let group = &mut period.groups[group];
        if group.last != number {
            kept.remove(group.last);
        }
        (group.last, group.dirty) = (number, true);
        (number, group)
    }

    /// End of the first open period.
    pub(super) fn first_end(&self) -> Option<i64> {
        self.periods.first_key_value().map(|(end, _)| *end)
    }

    /// Takes a period out; its rows are the caller's.
    pub(super) fn take(&mut self, end: i64) -> Option<Period> {
        let period = self.periods.remove(&end)?;
        let saved = period.groups.iter().filter(|group| group.saved);
        self.gone.extend(saved.map(|group| aggregates_key(end, group.first)));
        Some(period)
    }

    /// Makes the row the last of its key ever.
    pub(super) fn keep(&mut self, number: u64, kept: &mut Kept) {
        let held = kept.get(number).clone();
        kept.remove(number);
        let key = Arc::clone(&held.group);
        let place = match self.ever.get(&key) {
            Some((place, replaced)) => {
                kept.remove(*replaced);
                *place
            }
            None => kept.next(),
        };
        let number = kept.push(Held { order: mark(EVER, place), ..held });
        self.ever.insert(key, (place, number));
        self.order.insert(place, number);
    }

    /// The last row of each key ever, in the order in which the keys came.
    pub(super) fn latest(&self) -> impl Iterator<Item = u64> {
        self.order.values().copied()
    }

    /// Writes aggregates that changed, removes those that are not needed.
    pub(super) fn checkpoint(&mut self, slots: Option<&Slots>, state: &mut StateWriter) {
        self.gone.drain(..).for_each(|key| state.remove(&key));
        let Some(slots) = slots else { return };
        for (end, period) in &mut self.periods {
            for group in period.groups.iter_mut().filter(|group| group.dirty) {
                if let Some(slot) = group.slot {
                    let mut value = Vec::new();
                    slots.write(slot, &mut value);
                    state.put(&aggregates_key(*end, group.first), value);
                    group.saved = true;
                }
                group.dirty = false;
            }
        }
    }

    /// Begins anew with the rows that are kept and what [`Open::checkpoint`] wrote.
    pub(super) fn restore(
        &mut self,
        mode: OutputMode,
        kept: &Kept,
        slots: Option<&mut Slots>,
        others: &[(&[u8], &[u8])],
    ) -> Result<()> {
        *self = Open::default();
        let mut aggregates: HashMap<[u8; 16], u32> = HashMap::new();
        if let Some(slots) = slots {
            for &(key, mut value) in others {
                if let Some((&AGGREGATES, key)) = key.split_first() {
                    let group = <[u8; 16]>::try_from(key)
                        .map_err(|_| ExecError::State("aggregates of no group".into()))?;
                    aggregates.insert(group, slots.read(&mut value)?);
                }
            }
        }
        for (number, held) in kept.iter() {
            let mut mark = held.order.as_ref();
            let slot = aggregates.get(mark).copied();
            let (end, first) = (read_number(&mut mark)?, read_number(&mut mark)? as u64);
            if end == EVER {
                self.ever.insert(Arc::clone(&held.group), (first, number));
                self.order.insert(first, number);
                continue;
            }
            let period = self.periods.entry(end).or_default();
            if mode == OutputMode::All {
                period.rows.push(number);
            } else {
                let saved = slot.is_some();
                period.groups.push(Group { first, last: number, slot, dirty: false, saved });
            }
        }
        for period in self.periods.values_mut() {
            period.groups.sort_by_key(|group| group.first);
            let keys = period.groups.iter().map(|g| Arc::clone(&kept.get(g.last).group));
            period.numbers = keys.zip(0..).collect();
        }
        Ok(())
    }
}

fn mark(end: i64, first: u64) -> Arc<[u8]> {
    [end.to_be_bytes(), first.to_be_bytes()].concat().into()
}

fn aggregates_key(end: i64, first: u64) -> [u8; 17] {
    let mut key = [AGGREGATES; 17];
    key[1..9].copy_from_slice(&end.to_be_bytes());
    key[9..].copy_from_slice(&first.to_be_bytes());
    key
}
