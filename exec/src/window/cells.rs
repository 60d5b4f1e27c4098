//! Partial aggregates by interval (pane or window) and key.
//!
//! A *cell* is a slot of an [`Arena`] for one interval and key. The cells of a key are a list from
//! the newest interval to the oldest, so that the cell of a row is found by one look at the head
//! when rows come roughly in order; the cells of an interval stand in the order of their first rows.

use std::collections::VecDeque;

use crate::aggregate::AggregateSet;
use crate::aggregate::interner::Interner;
use crate::error::{ExecError, Result};
use crate::operator::StateWriter;

use super::arena::{Arena, NONE};

/// What is known of a cell besides its aggregates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// Number of the interval.
    pub(super) interval: i64,
    /// Ordinal of its first row by arrival.
    pub(super) first: u64,
    /// Number of its key.
    pub(super) key: u32,
    /// The key's next older and newer cell.
    pub(super) older: u32,
    pub(super) newer: u32,
    /// What the strategy keeps with the cell: results given, or whether it changed.
    pub(super) mark: u32,
}

const EMPTY: Cell = Cell { interval: 0, first: 0, key: 0, older: NONE, newer: NONE, mark: 0 };

/// Ends of the list of a key's cells.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// Interval of the newest.
    interval: i64,
    newest: u32,
    oldest: u32,
}

const NO_CELLS: Ends = Ends { interval: i64::MIN, newest: NONE, oldest: NONE };

/// The cells of an interval, in the order of their first rows.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) interval: i64,
    pub(super) cells: Vec<u32>,
}

/// All cells of an operator.
pub(super) struct Cells {
    pub(super) arena: Arena,
    cells: Vec<Cell>,
    /// By key number.
    ends: Vec<Ends>,
    /// Ascending by interval, none empty.
    columns: VecDeque<Column>,
    /// Keys with a cell, and the greatest number of them since the last look for unused keys.
    keys: usize,
    peak: usize,
    /// Places of the saved state of cells that are gone.
    removed: Vec<Vec<u8>>,
    /// Lists to be used again.
    spare: Vec<Vec<u32>>,
}

impl Cells {
    pub(super) fn new(set: AggregateSet) -> Cells {
        Cells {
            arena: Arena::new(set),
            cells: Vec::new(),
            ends: Vec::new(),
            columns: VecDeque::new(),
            keys: 0,
            peak: 0,
            removed: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Makes room for so many key numbers.
    pub(super) fn resize_keys(&mut self, keys: usize) {
        if keys > self.ends.len() {
            self.ends.resize(keys, NO_CELLS);
        }
    }

    /// The cell of an interval and key, a new one with its first row `ordinal` when there is none.
    #[inline]
    pub(super) fn cell(&mut self, interval: i64, key: u32, ordinal: u64) -> u32 {
        let ends = &self.ends[key as usize];
        let cell = match ends.interval == interval && ends.newest != NONE {
            true => ends.newest,
            false => self.find_or_insert(interval, key, ordinal),
        };
        self.arena.touch(cell);
        cell
    }

    fn find_or_insert(&mut self, interval: i64, key: u32, ordinal: u64) -> u32 {
        let (newer, older) = self.neighbours(interval, key);
        if older != NONE && self.cells[older as usize].interval == interval {
            return older;
        }
        let cell = self.arena.take();
        if cell as usize >= self.cells.len() {
            self.cells.resize(cell as usize + 1, EMPTY);
        }
        self.cells[cell as usize] = Cell { interval, first: ordinal, key, older, newer, mark: 0 };
        self.link(cell);
        self.column(interval).push(cell);
        cell
    }

    /// The oldest cell of a key that is newer than `interval`, and the newest that is not.
    fn neighbours(&self, interval: i64, key: u32) -> (u32, u32) {
        let (mut newer, mut older) = (NONE, self.ends[key as usize].newest);
        while older != NONE && self.cells[older as usize].interval > interval {
            newer = older;
            older = self.cells[older as usize].older;
        }
        (newer, older)
    }

    /// Makes the neighbours of a cell know it.
    fn link(&mut self, cell: u32) {
        let Cell { interval, key, older, newer, .. } = self.cells[cell as usize];
        let ends = &mut self.ends[key as usize];
        if older == NONE && newer == NONE {
            self.keys += 1;
            self.peak = self.peak.max(self.keys);
        }
        match newer {
            NONE => (ends.interval, ends.newest) = (interval, cell),
            newer => self.cells[newer as usize].older = cell,
        }
        match older {
            NONE => ends.oldest = cell,
            older => self.cells[older as usize].newer = cell,
        }
    }

    fn unlink(&mut self, cell: u32) {
        let Cell { key, older, newer, .. } = self.cells[cell as usize];
        match newer {
            NONE => {
                let interval =
                    if older == NONE { i64::MIN } else { self.cells[older as usize].interval };
                let ends = &mut self.ends[key as usize];
                (ends.interval, ends.newest) = (interval, older);
            }
            newer => self.cells[newer as usize].older = older,
        }
        match older {
            NONE => self.ends[key as usize].oldest = newer,
            older => self.cells[older as usize].newer = newer,
        }
        if older == NONE && newer == NONE {
            self.keys -= 1;
        }
    }

    fn column(&mut self, interval: i64) -> &mut Vec<u32> {
        let at = match self.columns.back() {
            Some(last) if last.interval == interval => self.columns.len() - 1,
            Some(last) if last.interval > interval => {
                self.columns.partition_point(|column| column.interval < interval)
            }
            _ => self.columns.len(),
        };
        if self.columns.get(at).is_none_or(|column| column.interval != interval) {
            let cells = self.spare.pop().unwrap_or_default();
            self.columns.insert(at, Column { interval, cells });
        }
        &mut self.columns[at].cells
    }

    /// Intervals that have cells, ascending.
    pub(super) fn columns(&self) -> impl DoubleEndedIterator<Item = &Column> + ExactSizeIterator {
        self.columns.iter()
    }

    /// Those of the intervals `from ..= to`.
    pub(super) fn columns_in(
        &self,
        from: i64,
        to: i64,
    ) -> impl DoubleEndedIterator<Item = &Column> {
        let begin = self.columns.partition_point(|column| column.interval < from);
        let end = self.columns.partition_point(|column| column.interval <= to);
        self.columns.range(begin..end.max(begin))
    }

    /// The oldest interval that has cells.
    pub(super) fn oldest_interval(&self) -> Option<i64> {
        self.columns.front().map(|column| column.interval)
    }

    /// What is known of a cell.
    #[inline]
    pub(super) fn get(&self, cell: u32) -> &Cell {
        &self.cells[cell as usize]
    }

    /// Sets what the strategy keeps with a cell.
    pub(super) fn set_mark(&mut self, cell: u32, mark: u32) {
        self.cells[cell as usize].mark = mark;
        self.arena.touch(cell);
    }

    /// The oldest cell of a key.
    #[inline]
    pub(super) fn oldest(&self, key: u32) -> Option<u32> {
        Some(self.ends[key as usize].oldest).filter(|cell| *cell != NONE)
    }

    /// The cells of a key in the intervals `from ..= to`, newest first.
    pub(super) fn of_key(&self, key: u32, from: i64, to: i64) -> impl Iterator<Item = u32> {
        let (_, newest) = self.neighbours(to, key);
        let next = |cell: u32| Some(cell).filter(|c| *c != NONE);
        std::iter::successors(next(newest), move |cell| next(self.get(*cell).older))
            .take_while(move |cell| self.get(*cell).interval >= from)
    }

    /// Takes the oldest interval away. Its cells keep their aggregates until they are released.
    pub(super) fn take_oldest(&mut self, interner: &Interner) -> Option<Column> {
        let column = self.columns.pop_front()?;
        for cell in &column.cells {
            self.forget(*cell, interner);
            self.unlink(*cell);
        }
        Some(column)
    }

    /// Takes cells back whose interval was taken away.
    pub(super) fn release(&mut self, mut cells: Vec<u32>) {
        self.arena.release(&cells);
        cells.clear();
        self.spare.push(cells);
    }

    /// Moves what the oldest interval has to `to`, the next one. Of a key that has both, the older
    /// cell's aggregates are added to the newer one's.
    pub(super) fn carry_oldest(&mut self, to: i64, interner: &Interner) -> Result<()> {
        let Some(column) = self.columns.pop_front() else { return Ok(()) };
        let (mut moved, mut merged) = (Vec::new(), Vec::new());
        for cell in &column.cells {
            self.forget(*cell, interner);
            let Cell { key, newer, first, .. } = self.cells[*cell as usize];
            if newer != NONE && self.cells[newer as usize].interval == to {
                self.arena.set.merge_within(newer, *cell)?;
                self.arena.touch(newer);
                let newer = &mut self.cells[newer as usize];
                newer.first = newer.first.min(first);
                self.unlink(*cell);
                merged.push(*cell);
            } else {
                self.cells[*cell as usize].interval = to;
                if newer == NONE {
                    self.ends[key as usize].interval = to;
                }
                self.arena.touch(*cell);
                moved.push(*cell);
            }
        }
        self.release(merged);
        if !moved.is_empty() {
            self.column(to).extend(moved);
        }
        // Rows of the carried interval may have come after those of the next.
        let cells = &self.cells;
        if let Some(column) = self.columns.front_mut().filter(|column| column.interval == to) {
            column.cells.sort_by_key(|cell| cells[*cell as usize].first);
        }
        Ok(())
    }

    /// Notes that the saved state of a cell is to be removed.
    fn forget(&mut self, cell: u32, interner: &Interner) {
        if self.arena.is_saved(cell) {
            self.arena.unsave(cell);
            let Cell { interval, key, .. } = self.cells[cell as usize];
            self.removed.push(state_key(interval, key, interner));
        }
    }

    /// Gives numbers of keys without cells back when they have become more than those in use.
    pub(super) fn release_keys(&mut self, interner: &mut Interner) {
        if interner.live() <= 2 * self.peak + 1024 {
            return;
        }
        let keys = (0u32..).zip(&self.ends).filter(|(_, ends)| ends.newest == NONE);
        interner.release(&keys.map(|(key, _)| key).collect::<Vec<_>>());
        self.peak = self.keys;
    }

    /// Writes the cells that changed, and removes those that are gone.
    pub(super) fn checkpoint(&mut self, state: &mut StateWriter, interner: &Interner) {
        self.removed.drain(..).for_each(|key| state.remove(&key));
        for cell in self.arena.take_dirty() {
            let Cell { interval, key, first, mark, .. } = self.cells[cell as usize];
            let mut value = first.to_be_bytes().to_vec();
            value.extend(mark.to_be_bytes());
            self.arena.set.write(cell, &mut value);
            state.put(&state_key(interval, key, interner), value);
        }
    }

    /// Takes back one entry of the saved state, see [`CELL`].
    pub(super) fn restore(
        &mut self,
        key: &[u8],
        mut value: &[u8],
        interner: &mut Interner,
    ) -> Result<()> {
        let broken = || ExecError::State("a cell of a window that cannot be read".into());
        let (interval, key) = key.split_first_chunk().ok_or_else(broken)?;
        let interval = sorted_i64(*interval);
        let key = interner.intern_key(key)?;
        self.resize_keys(key as usize + 1);
        let (first, rest) = value.split_first_chunk().ok_or_else(broken)?;
        let (mark, rest) = rest.split_first_chunk().ok_or_else(broken)?;
        value = rest;
        let cell = self.find_or_insert(interval, key, u64::from_be_bytes(*first));
        self.cells[cell as usize].mark = u32::from_be_bytes(*mark);
        self.arena.load(cell, &mut value)?;
        if value.is_empty() { Ok(()) } else { Err(broken()) }
    }

    /// Brings the cells of each interval in order after they were restored.
    pub(super) fn restored(&mut self) {
        let cells = &self.cells;
        for column in &mut self.columns {
            column.cells.sort_unstable_by_key(|cell| cells[*cell as usize].first);
        }
    }

    /// Cells in use.
    pub(super) fn rows(&self) -> u64 {
        self.arena.used()
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> u64 {
        let columns: usize = self.columns.iter().map(|column| column.cells.capacity()).sum();
        let own = self.cells.capacity() * size_of::<Cell>()
            + self.ends.capacity() * size_of::<Ends>()
            + (columns + self.spare.iter().map(Vec::capacity).sum::<usize>()) * size_of::<u32>();
        self.arena.bytes() + own as u64
    }
}

/// First byte of the saved state's keys of cells.
pub(super) const CELL: u8 = b'c';

fn state_key(interval: i64, key: u32, interner: &Interner) -> Vec<u8> {
    let mut bytes = vec![CELL];
    bytes.extend(sortable(interval));
    interner.key(key, &mut bytes);
    bytes
}

/// A number whose bytes are in its order.
pub(super) fn sortable(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

/// The number of [`sortable`] bytes.
pub(super) fn sorted_i64(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}
