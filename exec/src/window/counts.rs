//! Windows of so many rows of a key, in stream order.
//!
//! Rows of a key are cut into panes as long as the greatest common divisor of size and slide. As in
//! [`super::sliding`] panes are taken in blocks of a window's length: when a block is complete, its
//! panes get the aggregates from there to its end (fronts); of the block after it there is one for
//! all panes so far (back). With [`Emit::Changes`] a pane is a whole window instead, and a row is
//! added to each that is open.
//!
//! Saved state: a [`Header`], the number of rows of each key, and an entry per pane.

use std::collections::VecDeque;

use auspex_plan::Emit;

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::progress::Progress;

use super::arena::{Arena, NONE, TRASH};
use super::emit::{Due, Place, Results, Shape};
use super::header::{HEADER, Header};
use super::intake::{Intake, Rows};

/// First bytes of the saved state's keys.
const KEY: u8 = b'k';
const PANE: u8 = b'p';

/// Rows of a key that stand together.
#[derive(Debug, Clone, Copy)]
struct Pane {
    /// Number of its first row among those of the key, in panes (in slides with
    /// [`Emit::Changes`]).
    number: u64,
    slot: u32,
    /// From this pane to the end of its block, when that is complete.
    front: u32,
    /// Event times of its first and last row.
    first: i64,
    last: i64,
}

/// What is kept of a key.
#[derive(Debug)]
struct Key {
    /// Rows so far.
    rows: u64,
    /// Ascending by number.
    panes: VecDeque<Pane>,
    /// The complete panes of the present block together.
    back: u32,
    /// Whether `rows` must be written.
    changed: bool,
}

impl Default for Key {
    fn default() -> Key {
        Key { rows: 0, panes: VecDeque::new(), back: NONE, changed: false }
    }
}

/// Aggregates of count windows.
pub(super) struct Counts {
    intake: Intake,
    shape: Shape,
    size: u64,
    slide: u64,
    changes: bool,
    /// Whether fronts and backs are kept.
    slides: bool,
    /// Rows of a pane; panes of a window and of a slide.
    pane: u64,
    panes: u64,
    step: u64,
    arena: Arena,
    keys: Vec<Key>,
    changed: Vec<u32>,
    /// Key and slot's owner, for the saved state: by slot the key and the pane's number.
    owners: Vec<(u32, u64)>,
    results: Results,
    /// Slots to be released when the results have been read.
    closed: Vec<u32>,
    removed: Vec<Vec<u8>>,
    /// By slot: the last chunk of [`Emit::Changes`] with a row of it.
    chunks: Vec<u64>,
    chunk: u64,
    watermark: i64,
    saved: Option<Header>,
    name: String,
}

impl Counts {
    pub(super) fn new(
        intake: Intake,
        shape: Shape,
        size: u64,
        slide: u64,
        emit: Emit,
        name: String,
    ) -> Result<Counts> {
        if size == 0 || slide == 0 || i64::try_from(size.max(slide)).is_err() {
            return Err(ExecError::Plan(format!("windows of {size} rows by {slide}")));
        }
        let changes = match emit {
            Emit::OnClose => false,
            Emit::Changes => true,
            Emit::Every(_) => {
                let what = "results of a window of rows at regular times".into();
                return Err(ExecError::Unsupported(what));
            }
        };
        let pane = common_divisor(size, slide);
        Ok(Counts {
            arena: Arena::new(intake.aggregates.set()),
            slides: intake.aggregates.is_small() && size > pane,
            intake,
            shape,
            size,
            slide,
            changes,
            pane,
            panes: size / pane,
            step: slide / pane,
            keys: Vec::new(),
            changed: Vec::new(),
            owners: Vec::new(),
            results: Results::default(),
            closed: Vec::new(),
            removed: Vec::new(),
            chunks: Vec::new(),
            chunk: 0,
            watermark: i64::MIN,
            saved: None,
            name,
        })
    }

    fn new_slot(&mut self, key: u32, number: u64) -> u32 {
        let slot = self.arena.take();
        let slots = self.arena.set.slots();
        self.owners.resize(slots, (NONE, 0));
        self.chunks.resize(slots, 0);
        self.owners[slot as usize] = (key, number);
        slot
    }

    /// Counts a row of a key: its number.
    fn count(&mut self, key: u32) -> u64 {
        let state = &mut self.keys[key as usize];
        if !std::mem::replace(&mut state.changed, true) {
            self.changed.push(key);
        }
        state.rows += 1;
        state.rows - 1
    }

    /// Takes rows that give results when a window is complete.
    fn take_closing(
        &mut self,
        rows: &Rows,
        end: usize,
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        let from = rows.next;
        let mut slots = Vec::with_capacity(end - from);
        // Rows that complete a pane, which is looked at when all have been added.
        let mut complete = Vec::new();
        for row in from..end {
            let (key, time) = (rows.keys[row], rows.time.get(row));
            let counted = self.count(key);
            let number = counted / self.pane;
            let known = self.keys[key as usize].panes.back().is_some_and(|p| p.number == number);
            if !known {
                let slot = self.new_slot(key, number);
                let pane = Pane { number, slot, front: NONE, first: time, last: time };
                self.keys[key as usize].panes.push_back(pane);
            }
            let pane = self.keys[key as usize].panes.back_mut().expect("there or just added");
            pane.last = time;
            slots.push(pane.slot);
            self.arena.touch(pane.slot);
            if (counted + 1).is_multiple_of(self.pane) {
                complete.push((row, key, number));
            }
        }
        self.add(rows, from, end, &slots)?;
        let mut step = 0;
        for (row, key, number) in complete {
            let sequence = rows.sequence.get(row);
            while progress.steps().get(step).is_some_and(|s| s.sequence < sequence) {
                step += 1;
            }
            let watermark =
                step.checked_sub(1).map_or(progress.before, |s| progress.steps()[s].time);
            let time = rows.time.get(row).max(watermark);
            let place = Place { sequence, ingested: rows.ingested.get(row) };
            self.complete(key, number, time, place)?;
        }
        self.read(out)
    }

    fn add(&mut self, rows: &Rows, from: usize, to: usize, slots: &[u32]) -> Result<()> {
        let time = rows.time.slice(from, to - from);
        let arguments = rows.arguments.slice(from, to - from);
        self.arena.set.update(slots, &arguments, &rows.places(from, &time))
    }

    fn read(&mut self, out: &mut Output) -> Result<()> {
        self.results.read(&self.arena.set, self.shape.on_error, out)?;
        self.arena.release(&std::mem::take(&mut self.closed));
        if self.results.is_full() {
            self.results.hand_on(&self.shape, &self.intake.interner, out)?;
        }
        Ok(())
    }

    /// A pane has all its rows: the window that ends with it is given, and what no window needs any
    /// more is forgotten.
    fn complete(&mut self, key: u32, number: u64, time: i64, place: Place) -> Result<()> {
        if self.slides {
            let pane = self.pane_of(key, number);
            let mut back = self.keys[key as usize].back;
            if back == NONE {
                back = self.new_slot(NONE, 0);
                self.keys[key as usize].back = back;
            }
            self.arena.set.merge_within(back, pane.slot)?;
        }
        let ends = number + 1 >= self.panes && (number + 1 - self.panes).is_multiple_of(self.step);
        if ends {
            let first = number + 1 - self.panes;
            let slot = self.together(key, first, number)?;
            let (start, end) = (self.pane_of(key, first).first, self.pane_of(key, number).last);
            self.results.push(Due { start, end, key, revision: 0 }, time, place, slot);
        }
        // The next window begins here at the earliest.
        let next = (number + 2).saturating_sub(self.panes).div_ceil(self.step) * self.step;
        while let Some(pane) = self.keys[key as usize].panes.front().copied()
            && (pane.number < next && pane.number <= number)
        {
            self.keys[key as usize].panes.pop_front();
            self.drop_pane(key, pane);
        }
        if self.slides && (number + 1).is_multiple_of(self.panes) {
            self.flip(key, number)?;
        }
        Ok(())
    }

    fn pane_of(&self, key: u32, number: u64) -> Pane {
        let panes = &self.keys[key as usize].panes;
        panes[panes.partition_point(|pane| pane.number < number)]
    }

    /// A slot with the panes `first ..= last`, which is to be released.
    fn together(&mut self, key: u32, first: u64, last: u64) -> Result<u32> {
        let Pane { slot, front, .. } = self.pane_of(key, first);
        if first == last {
            return Ok(slot);
        }
        let result = self.new_slot(NONE, 0);
        self.closed.push(result);
        if self.slides {
            if front != NONE {
                self.arena.set.merge_within(result, front)?;
            }
            self.arena.set.merge_within(result, self.keys[key as usize].back)?;
        } else {
            for number in first..=last {
                let slot = self.pane_of(key, number).slot;
                self.arena.set.merge_within(result, slot)?;
            }
        }
        Ok(result)
    }

    /// Makes the fronts of the block that ends with pane `last`.
    fn flip(&mut self, key: u32, last: u64) -> Result<()> {
        let mut next = NONE;
        let count = self.keys[key as usize].panes.partition_point(|pane| pane.number <= last);
        for position in (0..count).rev() {
            let Pane { slot, front, number, .. } = self.keys[key as usize].panes[position];
            if front != NONE || number / self.panes < last / self.panes {
                break;
            }
            let front = self.new_slot(NONE, 0);
            if next != NONE {
                self.arena.set.merge_within(front, next)?;
            }
            self.arena.set.merge_within(front, slot)?;
            self.keys[key as usize].panes[position].front = front;
            next = front;
        }
        let back = std::mem::replace(&mut self.keys[key as usize].back, NONE);
        if back != NONE {
            self.closed.push(back);
        }
        Ok(())
    }

    fn drop_pane(&mut self, key: u32, pane: Pane) {
        if self.arena.is_saved(pane.slot) {
            self.arena.unsave(pane.slot);
            self.removed.push(pane_key(pane.number, key, &self.intake));
        }
        // What is gone is not written.
        self.owners[pane.slot as usize] = (NONE, 0);
        self.closed.push(pane.slot);
        if pane.front != NONE {
            self.closed.push(pane.front);
        }
    }

    /// Takes rows that give the results of all windows they belong to.
    fn take_changes(
        &mut self,
        rows: &Rows,
        end: usize,
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        let mut from = rows.next;
        let mut windows: Vec<Vec<u32>> = Vec::new();
        let mut step = 0;
        self.chunk += 1;
        for row in rows.next..end {
            let (key, time) = (rows.keys[row], rows.time.get(row));
            let sequence = rows.sequence.get(row);
            while progress.steps().get(step).is_some_and(|s| s.sequence < sequence) {
                step += 1;
            }
            let watermark =
                step.checked_sub(1).map_or(progress.before, |s| progress.steps()[s].time);
            let open = &self.keys[key as usize].panes;
            if open.iter().any(|window| self.chunks[window.slot as usize] == self.chunk) {
                self.add_changes(rows, from, row, &mut windows, out)?;
                from = row;
                self.chunk += 1;
            }
            let counted = self.count(key);
            if counted.is_multiple_of(self.slide) {
                let number = counted / self.slide;
                let slot = self.new_slot(key, number);
                let window = Pane { number, slot, front: NONE, first: time, last: time };
                self.keys[key as usize].panes.push_back(window);
            }
            let place = Place { sequence, ingested: rows.ingested.get(row) };
            let open = std::mem::take(&mut self.keys[key as usize].panes);
            let mut complete = None;
            for (position, window) in open.iter().enumerate() {
                if position == windows.len() {
                    windows.push(vec![TRASH; row - from]);
                }
                windows[position].push(window.slot);
                self.arena.touch(window.slot);
                self.chunks[window.slot as usize] = self.chunk;
                let given = counted - window.number * self.slide;
                let revision = u32::try_from(given).unwrap_or(u32::MAX);
                let due = Due { start: window.first, end: time, key, revision };
                self.results.push(due, time.max(watermark), place, window.slot);
                if given + 1 == self.size {
                    complete = Some(*window);
                }
            }
            self.keys[key as usize].panes = open;
            if let Some(window) = complete {
                self.keys[key as usize].panes.pop_front();
                self.drop_pane(key, window);
            }
            windows.iter_mut().for_each(|slots| slots.resize(row - from + 1, TRASH));
        }
        self.add_changes(rows, from, end, &mut windows, out)
    }

    fn add_changes(
        &mut self,
        rows: &Rows,
        from: usize,
        to: usize,
        windows: &mut [Vec<u32>],
        out: &mut Output,
    ) -> Result<()> {
        for slots in windows {
            slots.truncate(to - from);
            self.add(rows, from, to, slots)?;
            slots.clear();
        }
        self.arena.empty_trash();
        self.read(out)
    }

    /// Puts fronts and backs together from panes that were restored.
    fn restored(&mut self) -> Result<()> {
        for key in 0..self.keys.len() as u32 {
            let complete = self.keys[key as usize].rows / self.pane;
            if !self.slides || self.changes || complete == 0 {
                continue;
            }
            // Panes of the block before, then those of the present one.
            let block = complete / self.panes * self.panes;
            if block > 0 {
                self.flip(key, block - 1)?;
            }
            let present = |pane: &&Pane| (block..complete).contains(&pane.number);
            let panes: Vec<_> =
                self.keys[key as usize].panes.iter().filter(present).copied().collect();
            for pane in panes {
                if self.keys[key as usize].back == NONE {
                    self.keys[key as usize].back = self.new_slot(NONE, 0);
                }
                self.arena.set.merge_within(self.keys[key as usize].back, pane.slot)?;
            }
        }
        Ok(())
    }

    fn header(&self) -> Header {
        Header { watermark: self.watermark, seen: self.intake.seen }
    }

    fn read_entry(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let broken = || ExecError::State("an entry of a window of rows that cannot be read".into());
        match key.split_first().ok_or_else(broken)? {
            (&HEADER, []) => {
                let header = Header::read(value)?;
                self.watermark = header.watermark;
                self.intake.seen = header.seen;
                self.saved = Some(header);
            }
            (&KEY, key) => {
                let key = self.restore_key(key)?;
                self.keys[key as usize].rows = StateReader::count(value)?;
            }
            (&PANE, rest) => {
                let (number, key) = rest.split_first_chunk().ok_or_else(broken)?;
                let key = self.restore_key(key)?;
                let (first, rest) = value.split_first_chunk().ok_or_else(broken)?;
                let (last, mut rest) = rest.split_first_chunk().ok_or_else(broken)?;
                let number = u64::from_be_bytes(*number);
                let slot = self.new_slot(key, number);
                self.arena.load(slot, &mut rest)?;
                let (first, last) = (i64::from_be_bytes(*first), i64::from_be_bytes(*last));
                let pane = Pane { number, slot, front: NONE, first, last };
                // Entries come in the order of their numbers.
                self.keys[key as usize].panes.push_back(pane);
            }
            _ => return Err(broken()),
        }
        Ok(())
    }

    fn restore_key(&mut self, bytes: &[u8]) -> Result<u32> {
        let key = self.intake.interner.intern_key(bytes)?;
        self.keys.resize_with(self.intake.interner.bound(), Key::default);
        Ok(key)
    }
}

impl Operator for Counts {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        self.intake.take(batch, out)
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let keys = self.intake.interner.bound().max(self.keys.len());
        self.keys.resize_with(keys, Key::default);
        while let Some((rows, end)) = self.intake.next(None) {
            match self.changes {
                true => self.take_changes(&rows, end, &watermark.progress, out)?,
                false => self.take_closing(&rows, end, &watermark.progress, out)?,
            }
            self.intake.done(rows, end);
        }
        self.results.hand_on(&self.shape, &self.intake.interner, out)?;
        self.watermark = watermark.progress.last();
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        Header::checkpoint(self.header(), &mut self.saved, state);
        self.removed.drain(..).for_each(|key| state.remove(&key));
        for key in std::mem::take(&mut self.changed) {
            let mut bytes = vec![KEY];
            self.intake.interner.key(key, &mut bytes);
            self.keys[key as usize].changed = false;
            state.put(&bytes, self.keys[key as usize].rows.to_be_bytes().to_vec());
        }
        for slot in self.arena.take_dirty() {
            let (key, number) = self.owners[slot as usize];
            if key == NONE {
                continue;
            }
            let pane = self.pane_of(key, number);
            let mut value = pane.first.to_be_bytes().to_vec();
            value.extend(pane.last.to_be_bytes());
            self.arena.set.write(slot, &mut value);
            state.put(&pane_key(number, key, &self.intake), value);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.intake.clear()?;
        self.arena = Arena::new(self.intake.aggregates.set());
        self.keys.clear();
        self.changed.clear();
        self.owners.clear();
        self.results = Results::default();
        self.closed.clear();
        self.removed.clear();
        self.chunks.clear();
        self.watermark = i64::MIN;
        self.saved = None;
        for (key, value) in state.entries() {
            self.read_entry(key, value)?;
        }
        self.restored()
    }

    fn state_bytes(&self) -> u64 {
        let panes: usize = self.keys.iter().map(|key| key.panes.capacity()).sum();
        let own = self.keys.capacity() * size_of::<Key>()
            + panes * size_of::<Pane>()
            + self.owners.capacity() * size_of::<(u32, u64)>()
            + self.chunks.capacity() * size_of::<u64>();
        self.arena.bytes() + self.intake.interner.bytes() + own as u64
    }

    fn state_rows(&self) -> u64 {
        self.keys.iter().map(|key| key.panes.len() as u64).sum()
    }
}

fn pane_key(number: u64, key: u32, intake: &Intake) -> Vec<u8> {
    let mut bytes = vec![PANE];
    bytes.extend(number.to_be_bytes());
    intake.interner.key(key, &mut bytes);
    bytes
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
