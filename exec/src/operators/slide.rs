//! Aggregates over a window that slides along a sequence of rows.
//!
//! Two stacks: the older rows carry the aggregate of themselves and all that follow up to the
//! boundary, the newer ones are in one running aggregate. When the last of the older rows leaves,
//! all newer ones become older. So each row is merged a few times in its life, however long the
//! window is. Where the boundary lies is part of the state: sums of floats depend on it.

use std::collections::VecDeque;

use crate::error::Result;

use super::slots::Slots;

/// What the rows are ordered by, and the number of the row.
pub(super) type Rank = (i64, u64);

/// The rows of the window.
#[derive(Default)]
pub(super) struct Slide {
    /// Ascending, with the slot of each row's own aggregates.
    rows: VecDeque<(Rank, u32)>,
    /// Slots of the aggregates from an older row to the boundary; that of the first row is the last.
    older: Vec<u32>,
    /// Slot of the aggregates of the newer rows.
    newer: Option<u32>,
    /// The last row that has become an older one.
    pub(super) boundary: Option<Rank>,
}

impl Slide {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The first row.
    pub(super) fn first(&self) -> Option<Rank> {
        self.rows.front().map(|(rank, _)| *rank)
    }

    /// The last row.
    pub(super) fn last(&self) -> Option<Rank> {
        self.rows.back().map(|(rank, _)| *rank)
    }

    /// Adds a row whose own aggregates are in `slot`, which is the window's from now on. A row that
    /// does not come last costs as much as the window is long.
    pub(super) fn insert(&mut self, rank: Rank, slot: u32, slots: &mut Slots) -> Result<()> {
        if self.last().is_none_or(|last| last < rank) {
            self.rows.push_back((rank, slot));
            return self.add_newer(slot, slots);
        }
        let at = self.rows.partition_point(|(other, _)| *other < rank);
        self.rows.insert(at, (rank, slot));
        self.rebuild(slots)
    }

    /// Removes a row, wherever it is.
    pub(super) fn remove(&mut self, rank: Rank, slots: &mut Slots) -> Result<()> {
        if self.first() == Some(rank) {
            let row = self.pop(slots)?;
            slots.give_back(row.as_slice());
            return Ok(());
        }
        let at = self.rows.partition_point(|(other, _)| *other < rank);
        if let Some((_, slot)) = self.rows.remove(at) {
            slots.give_back(&[slot]);
        }
        self.rebuild(slots)
    }

    /// Removes the first row; the slot with its own aggregates is the caller's.
    pub(super) fn pop(&mut self, slots: &mut Slots) -> Result<Option<u32>> {
        if self.older.is_empty() {
            self.turn(slots)?;
        }
        slots.give_back(self.older.pop().as_slice());
        Ok(self.rows.pop_front().map(|(_, slot)| slot))
    }

    /// A slot with the aggregates of all rows.
    pub(super) fn value(&self, slots: &mut Slots) -> Result<u32> {
        let value = slots.take();
        for slot in self.older.last().into_iter().chain(&self.newer) {
            slots.merge(value, *slot)?;
        }
        Ok(value)
    }

    /// Begins anew with rows and a boundary that were saved.
    pub(super) fn restore(
        rows: VecDeque<(Rank, u32)>,
        boundary: Option<Rank>,
        slots: &mut Slots,
    ) -> Result<Slide> {
        let mut slide = Slide { rows, boundary, ..Slide::default() };
        slide.stack(slots)?;
        Ok(slide)
    }

    /// Gives back all slots but those of the rows.
    fn unstack(&mut self, slots: &mut Slots) {
        slots.give_back(&self.older);
        self.older.clear();
        if let Some(newer) = self.newer.take() {
            slots.give_back(&[newer]);
        }
    }

    /// Gives back the slots of a window without rows.
    pub(super) fn clear(&mut self, slots: &mut Slots) {
        self.unstack(slots);
        self.boundary = None;
    }

    /// Makes all rows older ones.
    fn turn(&mut self, slots: &mut Slots) -> Result<()> {
        self.unstack(slots);
        self.boundary = self.last();
        self.stack(slots)
    }

    /// Makes all rows newer ones.
    fn rebuild(&mut self, slots: &mut Slots) -> Result<()> {
        self.unstack(slots);
        self.boundary = None;
        self.stack(slots)
    }

    /// Merges the rows on both sides of the boundary.
    fn stack(&mut self, slots: &mut Slots) -> Result<()> {
        let older = match self.boundary {
            Some(boundary) => self.rows.partition_point(|(rank, _)| *rank <= boundary),
            None => 0,
        };
        for (_, row) in self.rows.range(..older).rev() {
            let slot = slots.take();
            slots.merge(slot, *row)?;
            if let Some(following) = self.older.last() {
                slots.merge(slot, *following)?;
            }
            self.older.push(slot);
        }
        let newer: Vec<u32> = self.rows.range(older..).map(|(_, slot)| *slot).collect();
        newer.into_iter().try_for_each(|slot| self.add_newer(slot, slots))
    }

    fn add_newer(&mut self, row: u32, slots: &mut Slots) -> Result<()> {
        let newer = *self.newer.get_or_insert_with(|| slots.take());
        slots.merge(newer, row)
    }
}
