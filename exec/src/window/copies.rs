//! Aggregates of results, put together from partial ones.

use crate::aggregate::AggregateSet;
use crate::error::Result;

use super::cells::Cells;
use super::grid::{Grid, Pane};

/// Slots that are filled for results, read together and emptied.
pub(super) struct Copies {
    pub(super) set: AggregateSet,
    used: Vec<u32>,
    /// The part of a window in its younger block, while it is put together.
    young: AggregateSet,
}

impl Copies {
    /// Two sets for the same aggregates.
    pub(super) fn new(set: AggregateSet, young: AggregateSet) -> Copies {
        Copies { set, used: Vec::new(), young }
    }

    /// So many empty slots: numbers from the one given on.
    pub(super) fn take(&mut self, slots: usize) -> u32 {
        let from = self.used.len() as u32;
        self.used.extend(from..from + slots as u32);
        self.set.resize(self.used.len());
        from
    }

    /// Empties all slots.
    pub(super) fn clear(&mut self) {
        self.set.reset(&self.used);
        self.used.clear();
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> u64 {
        self.set.bytes() + self.young.bytes()
    }

    /// Puts the windows of keys together from their panes: window and key number i goes to slot
    /// `from + i`.
    ///
    /// The order of the merges is that of sliding aggregates (panes of the older block from the
    /// youngest to the oldest, those of the younger block in order, then both), so that both ways
    /// give the same floating-point numbers.
    pub(super) fn combine(
        &mut self,
        grid: &Grid,
        cells: &Cells,
        windows: impl Iterator<Item = (Pane, u32)>,
        from: u32,
    ) -> Result<()> {
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        let (mut young, mut young_parts) = (Vec::new(), Vec::new());
        let (mut with_young, mut numbers) = (Vec::new(), Vec::new());
        let mut of_block: Vec<u32> = Vec::new();
        for (slot, (last, key)) in (from..).zip(windows) {
            let first = grid.first_pane(last);
            let block = grid.block(last);
            let mut has_old = false;
            of_block.clear();
            for cell in cells.of_key(key, first, last) {
                if grid.block(cells.get(cell).interval) == block {
                    of_block.push(cell);
                } else {
                    has_old = true;
                    whole.push(slot);
                    parts.push(cell);
                }
            }
            if has_old && !of_block.is_empty() {
                let number = numbers.len() as u32;
                numbers.push(number);
                with_young.push(slot);
                young.extend(of_block.iter().map(|_| number));
                young_parts.extend(of_block.iter().rev());
            } else {
                whole.extend(of_block.iter().map(|_| slot));
                parts.extend(of_block.iter().rev());
            }
        }
        self.set.merge(&whole, &cells.arena.set, &parts)?;
        if !numbers.is_empty() {
            self.young.resize(numbers.len());
            self.young.merge(&young, &cells.arena.set, &young_parts)?;
            self.set.merge(&with_young, &self.young, &numbers)?;
            self.young.reset(&numbers);
        }
        Ok(())
    }
}
