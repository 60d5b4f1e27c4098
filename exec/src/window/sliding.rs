//! Hopping windows in about three merges per key and slide, however many panes a window has.
//!
//! Panes are taken in blocks of a window's length. When a block has ended, each of its cells gets
//! the aggregates of its key from that pane to the end of the block (*front*). Of the block after
//! it the aggregates up to the last pane that ended are kept per key (*back*). A window lies in two
//! neighbouring blocks, so its result is front and back together: a queue of two stacks, flipped
//! once per block (Tangwongsan, Hirzel, Schneider, "Low-latency sliding-window aggregation in
//! worst-case constant time", 2017, section 3). Blocks are aligned to the epoch, so a restart finds
//! the same ones and floating-point sums are added up in the same order.

use std::collections::BTreeMap;

use crate::aggregate::AggregateSet;
use crate::error::Result;
use crate::operator::Output;
use crate::progress::Progress;

use super::base::Base;
use super::grid::Pane;
use super::intake::Rows;

/// No row.
const NEVER: u64 = u64::MAX;

/// Results once, when a window ends.
pub(super) struct Sliding {
    /// By cell: from its pane to the end of its block.
    front: AggregateSet,
    /// The first row of that.
    front_first: Vec<u64>,
    /// By key: the panes of the present block that have ended.
    back: AggregateSet,
    back_first: Vec<u64>,
    /// Keys that have a back.
    in_back: Vec<u32>,
    /// Keys with a pane that has ended, roughly in the order of their first rows.
    keys: Vec<u32>,
    /// Whether a key is among those.
    alive: Vec<bool>,
    /// Keys that got a row in a pane that had ended, with the last window that covers it: their
    /// windows up to that one are put together anew.
    revised: BTreeMap<u32, Pane>,
}

impl Sliding {
    pub(super) fn new(base: &Base) -> Sliding {
        Sliding {
            front: base.intake.aggregates.set(),
            front_first: Vec::new(),
            back: base.intake.aggregates.set(),
            back_first: Vec::new(),
            in_back: Vec::new(),
            keys: Vec::new(),
            alive: Vec::new(),
            revised: BTreeMap::new(),
        }
    }

    pub(super) fn take(
        &mut self,
        base: &mut Base,
        rows: &Rows,
        end: usize,
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        let mut from = rows.next;
        while from < end {
            let filled = base.fill(rows, from..end, false, progress, out, |_, _| ())?;
            from = filled.next;
            if let Some((key, pane)) = filled.ended {
                self.resize(base);
                let last = base.grid.last_window(pane);
                let until = self.revised.entry(key).or_insert(last);
                *until = last.max(*until);
                self.enliven(key);
            }
        }
        Ok(())
    }

    /// The watermark has moved from `before`.
    pub(super) fn advance(&mut self, base: &mut Base, before: i64, out: &mut Output) -> Result<()> {
        self.resize(base);
        let mut last = base.grid.open_pane(before);
        loop {
            if self.keys.is_empty() {
                // Empty windows are passed over.
                let Some(pane) = base.cells.oldest_interval() else { break };
                last = last.max(pane);
            }
            if !base.has_ended(last) {
                break;
            }
            self.close(base, last)?;
            if base.results.is_full() {
                base.read_copies(out)?;
            }
            if last == i64::MAX {
                break;
            }
            last += 1;
        }
        self.revised.retain(|_, until| !base.has_ended(*until));
        Ok(())
    }

    fn resize(&mut self, base: &Base) {
        let keys = base.intake.interner.bound();
        if keys > self.alive.len() {
            self.alive.resize(keys, false);
            self.back_first.resize(keys, NEVER);
            self.back.resize(keys);
        }
        let slots = base.cells.arena.set.slots();
        if slots > self.front_first.len() {
            self.front_first.resize(slots, NEVER);
            self.front.resize(slots);
        }
    }

    fn enliven(&mut self, key: u32) {
        if !std::mem::replace(&mut self.alive[key as usize], true) {
            self.keys.push(key);
        }
    }

    /// Gives the results of the window with this last pane.
    fn close(&mut self, base: &mut Base, last: Pane) -> Result<()> {
        self.append(base, last)?;
        let order = self.order(base, last);
        self.results(base, last, &order)?;
        let first = base.grid.first_pane(last);
        while base.cells.oldest_interval().is_some_and(|pane| pane <= first) {
            let Some(column) = base.cells.take_oldest(&base.intake.interner) else { break };
            for cell in &column.cells {
                let key = base.cells.get(*cell).key;
                let oldest = base.cells.oldest(key).map(|cell| base.cells.get(cell).interval);
                self.alive[key as usize] = oldest.is_some_and(|pane| pane <= last);
                self.front_first[*cell as usize] = NEVER;
            }
            self.front.reset(&column.cells);
            base.cells.release(column.cells);
        }
        self.keys.clear();
        let alive = order.iter().map(|(_, key)| *key).filter(|key| self.alive[*key as usize]);
        self.keys.extend(alive);
        if base.grid.block(last) < base.grid.block(last.saturating_add(1)) {
            self.flip(base, base.grid.block(last))?;
        }
        Ok(())
    }

    /// Adds a pane that has ended to the backs.
    fn append(&mut self, base: &Base, pane: Pane) -> Result<()> {
        let Some(column) = base.cells.columns_in(pane, pane).next() else { return Ok(()) };
        let mut keys = Vec::with_capacity(column.cells.len());
        for cell in &column.cells {
            let cell = base.cells.get(*cell);
            let first = &mut self.back_first[cell.key as usize];
            if *first == NEVER {
                self.in_back.push(cell.key);
            }
            *first = cell.first.min(*first);
            keys.push(cell.key);
            self.enliven(cell.key);
        }
        self.back.merge(&keys, &base.cells.arena.set, &column.cells)
    }

    /// The keys of a window with their first rows in it, in the order of those.
    fn order(&self, base: &Base, last: Pane) -> Vec<(u64, u32)> {
        let (first, block) = (base.grid.first_pane(last), base.grid.block(last));
        let mut order = Vec::with_capacity(self.keys.len());
        let entry = |key: u32, oldest: u32, pane: Pane| {
            if self.revised.contains_key(&key) {
                let cells = base.cells.of_key(key, first, last);
                let rows = cells.map(|cell| base.cells.get(cell).first);
                return (rows.min().unwrap_or(NEVER), key);
            }
            let in_front = base.grid.block(pane) < block;
            let front = if in_front { self.front_first[oldest as usize] } else { NEVER };
            (front.min(self.back_first[key as usize]), key)
        };
        // When rows come in order these are sorted already, and so is the rest.
        if let Some(column) = base.cells.columns_in(first, first).next() {
            let cells = column.cells.iter();
            order.extend(cells.map(|cell| entry(base.cells.get(*cell).key, *cell, first)));
        }
        for key in &self.keys {
            let Some(oldest) = base.cells.oldest(*key) else { continue };
            let pane = base.cells.get(oldest).interval;
            if pane > first {
                order.push(entry(*key, oldest, pane));
            }
        }
        order.sort_by_key(|(first, _)| *first);
        order
    }

    /// Puts the results of a window together.
    fn results(&self, base: &mut Base, last: Pane, order: &[(u64, u32)]) -> Result<()> {
        let block = base.grid.block(last);
        let from = base.copies.take(order.len());
        let (mut front, mut front_cells) = (Vec::new(), Vec::new());
        let (mut back, mut back_keys) = (Vec::new(), Vec::new());
        for (slot, (_, key)) in (from..).zip(order) {
            if self.revised.contains_key(key) {
                let window = std::iter::once((last, *key));
                base.copies.combine(&base.grid, &base.cells, window, slot)?;
            } else {
                if let Some(cell) = base.cells.oldest(*key)
                    && base.grid.block(base.cells.get(cell).interval) < block
                {
                    front.push(slot);
                    front_cells.push(cell);
                }
                if self.back_first[*key as usize] != NEVER {
                    back.push(slot);
                    back_keys.push(*key);
                }
            }
            base.push(last, *key, 0, slot);
        }
        base.copies.set.merge(&front, &self.front, &front_cells)?;
        base.copies.set.merge(&back, &self.back, &back_keys)
    }

    /// Makes the fronts of a block that has ended, and backs for the next.
    fn flip(&mut self, base: &Base, block: i64) -> Result<()> {
        self.clear_back();
        let first = block.saturating_mul(base.grid.panes);
        let panes = base.cells.columns_in(first, first.saturating_add(base.grid.panes - 1));
        for column in panes.rev() {
            let keys: Vec<u32> = column.cells.iter().map(|c| base.cells.get(*c).key).collect();
            self.back.merge(&keys, &base.cells.arena.set, &column.cells)?;
            for (cell, key) in column.cells.iter().zip(&keys) {
                let first = &mut self.back_first[*key as usize];
                if *first == NEVER {
                    self.in_back.push(*key);
                }
                *first = base.cells.get(*cell).first.min(*first);
                self.front_first[*cell as usize] = *first;
            }
            self.front.reset(&column.cells);
            self.front.merge(&column.cells, &self.back, &keys)?;
        }
        self.clear_back();
        Ok(())
    }

    fn clear_back(&mut self) {
        self.back.reset(&self.in_back);
        for key in self.in_back.drain(..) {
            self.back_first[key as usize] = NEVER;
        }
    }

    /// Computes fronts and backs from the panes that were restored.
    pub(super) fn restored(&mut self, base: &Base) -> Result<()> {
        self.resize(base);
        if base.watermark == i64::MIN {
            return Ok(());
        }
        let open = base.open();
        let block = base.grid.block(open);
        self.flip(base, block.saturating_sub(1))?;
        let ended: Vec<Pane> =
            base.cells.columns().map(|c| c.interval).filter(|p| *p < open).collect();
        for pane in ended {
            if base.grid.block(pane) == block {
                self.append(base, pane)?;
            } else if let Some(column) = base.cells.columns_in(pane, pane).next() {
                column.cells.iter().for_each(|cell| self.enliven(base.cells.get(*cell).key));
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        let numbers = 8 * (self.front_first.capacity() + self.back_first.capacity())
            + 4 * (self.in_back.capacity() + self.keys.capacity())
            + self.alive.capacity()
            + 32 * self.revised.len();
        self.front.bytes() + self.back.bytes() + numbers as u64
    }
}
