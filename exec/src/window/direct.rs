//! Windows put together from their panes when a result is due, as often as one is due: with allowed
//! lateness, and at regular times before the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{ExecError, Result};
use crate::operator::{Output, StateWriter};
use crate::progress::Progress;

use super::base::Base;
use super::cells::{sortable, sorted_i64};
use super::emit::Place;
use super::grid::Pane;
use super::intake::Rows;

/// First byte of the saved state's keys of revisions.
pub(super) const REVISION: u8 = b'r';

/// Results of a window and key at its end, after each late row, and in between.
pub(super) struct Direct {
    /// Results come when the watermark passes a multiple of this (microseconds).
    every_us: Option<i64>,
    /// Results given, by window and key; kept when results can follow one another.
    given: BTreeMap<(Pane, u32), u32>,
    /// Those changed since the last checkpoint, and those gone.
    changed_given: BTreeSet<(Pane, u32)>,
    removed: Vec<Vec<u8>>,
    /// Cells changed since the last regular result; they are marked with 1.
    changed: Vec<u32>,
    /// By key, while the groups of a window are collected.
    firsts: Vec<u64>,
}

impl Direct {
    pub(super) fn new(every_us: Option<i64>) -> Direct {
        Direct {
            every_us,
            given: BTreeMap::new(),
            changed_given: BTreeSet::new(),
            removed: Vec::new(),
            changed: Vec::new(),
            firsts: Vec::new(),
        }
    }

    /// Forgets everything, before state is restored.
    pub(super) fn clear(&mut self) {
        *self = Direct::new(self.every_us);
    }

    /// The next value of the watermark at which something is due.
    pub(super) fn next_boundary(&self, base: &Base) -> i64 {
        match self.every_us {
            Some(every) if base.watermark != i64::MIN => {
                let tick = base.watermark.div_euclid(every).saturating_add(1).saturating_mul(every);
                base.next_boundary().min(tick)
            }
            _ => base.next_boundary(),
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
            let regular = self.every_us.is_some();
            let changed = &mut self.changed;
            let filled = base.fill(rows, from..end, false, progress, out, |cells, cell| {
                if regular && cells.get(cell).mark == 0 {
                    cells.set_mark(cell, 1);
                    changed.push(cell);
                }
            })?;
            from = filled.next;
            if let Some((key, pane)) = filled.ended {
                base.place = Place {
                    sequence: rows.sequence.get(from - 1),
                    ingested: rows.ingested.get(from - 1),
                };
                self.revise(base, key, pane, out)?;
            }
        }
        Ok(())
    }

    /// The new results of the windows of a pane that have ended already.
    fn revise(&mut self, base: &mut Base, key: u32, pane: Pane, out: &mut Output) -> Result<()> {
        let to = base.grid.last_window(pane).min(base.open().saturating_sub(1));
        let windows = pane.max(base.kept())..=to;
        let groups: Vec<_> = windows.map(|last| (last, 0, key)).collect();
        self.emit(base, &groups, out)
    }

    /// The watermark has moved from `before`.
    pub(super) fn advance(&mut self, base: &mut Base, before: i64, out: &mut Output) -> Result<()> {
        match self.every_us {
            None => self.close(base, before, out)?,
            Some(every) => {
                let tick = before != i64::MIN
                    && base.watermark.div_euclid(every) > before.div_euclid(every);
                self.emit_changed(base, before, tick || base.watermark == i64::MAX, out)?;
            }
        }
        base.read_copies(out)?;
        self.drop_closed(base);
        Ok(())
    }

    /// All groups of the windows that have ended.
    fn close(&mut self, base: &mut Base, before: i64, out: &mut Output) -> Result<()> {
        let mut last = base.grid.open_pane(before);
        loop {
            // Empty windows are passed over.
            let pane = {
                let mut panes = base.cells.columns().map(|column| column.interval);
                panes.find(|pane| base.grid.last_window(*pane) >= last)
            };
            let Some(pane) = pane else { break };
            last = last.max(pane);
            if !base.has_ended(last) {
                break;
            }
            let groups = self.groups(base, last);
            self.emit(base, &groups, out)?;
            base.read_copies(out)?;
            if last == i64::MAX {
                break;
            }
            last += 1;
        }
        Ok(())
    }

    /// The groups of a window in the order of their first rows.
    fn groups(&mut self, base: &Base, last: Pane) -> Vec<(Pane, u64, u32)> {
        self.firsts.resize(base.intake.interner.bound(), u64::MAX);
        let mut groups = Vec::new();
        for column in base.cells.columns_in(base.grid.first_pane(last), last) {
            for cell in &column.cells {
                let cell = base.cells.get(*cell);
                let first = &mut self.firsts[cell.key as usize];
                if *first == u64::MAX {
                    groups.push((last, 0, cell.key));
                }
                *first = cell.first.min(*first);
            }
        }
        for (_, first, key) in &mut groups {
            *first = std::mem::replace(&mut self.firsts[*key as usize], u64::MAX);
        }
        groups.sort_by_key(|(_, first, _)| *first);
        groups
    }

    /// The groups changed since their last regular result: of windows that end now, and with `all`
    /// of the open ones too.
    fn emit_changed(
        &mut self,
        base: &mut Base,
        before: i64,
        all: bool,
        out: &mut Output,
    ) -> Result<()> {
        let open = base.grid.open_pane(before);
        let mut groups = BTreeSet::new();
        for cell in &self.changed {
            let cell = base.cells.get(*cell);
            for last in cell.interval.max(open)..=base.grid.last_window(cell.interval) {
                if !all && !base.has_ended(last) {
                    break;
                }
                groups.insert((last, cell.key));
            }
        }
        let first = |(last, key): (Pane, u32)| {
            let cells = base.cells.of_key(key, base.grid.first_pane(last), last);
            let first = cells.map(|cell| base.cells.get(cell).first).min();
            (last, first.unwrap_or_default(), key)
        };
        let mut groups: Vec<_> = groups.into_iter().map(first).collect();
        // Cumulating windows of one end begin at the same time, so this is the order of results.
        groups.sort_unstable();
        self.emit(base, &groups, out)?;
        if all {
            self.changed.drain(..).for_each(|cell| base.cells.set_mark(cell, 0));
        }
        Ok(())
    }

    fn emit(
        &mut self,
        base: &mut Base,
        groups: &[(Pane, u64, u32)],
        out: &mut Output,
    ) -> Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let from = base.copies.take(groups.len());
        let windows = groups.iter().map(|(last, _, key)| (*last, *key));
        base.copies.combine(&base.grid, &base.cells, windows, from)?;
        for (slot, (last, _, key)) in (from..).zip(groups) {
            let revision = if base.shape.revisions { self.count(*last, *key) } else { 0 };
            base.push(*last, *key, revision, slot);
        }
        if base.results.is_full() {
            base.read_copies(out)?;
        }
        Ok(())
    }

    /// How often the result of a window and key was given before this time.
    fn count(&mut self, last: Pane, key: u32) -> u32 {
        let given = self.given.entry((last, key)).or_insert(0);
        let before = *given;
        *given += 1;
        self.changed_given.insert((last, key));
        before
    }

    /// Forgets what belongs to windows that take no more rows.
    fn drop_closed(&mut self, base: &mut Base) {
        while let Some(pane) = base.cells.oldest_interval()
            && base.is_closed(base.grid.last_window(pane))
        {
            let gone = |cell: &u32| base.cells.get(*cell).interval == pane;
            self.changed.retain(|cell| !gone(cell));
            if let Some(column) = base.cells.take_oldest(&base.intake.interner) {
                base.cells.release(column.cells);
            }
        }
        while let Some(entry) = self.given.first_entry()
            && base.is_closed(entry.key().0)
        {
            let (last, key) = *entry.key();
            entry.remove();
            self.changed_given.remove(&(last, key));
            self.removed.push(revision_key(base, last, key));
        }
    }

    pub(super) fn checkpoint(&mut self, base: &Base, state: &mut StateWriter) {
        self.removed.drain(..).for_each(|key| state.remove(&key));
        for (last, key) in std::mem::take(&mut self.changed_given) {
            let given = self.given[&(last, key)];
            state.put(&revision_key(base, last, key), given.to_be_bytes().to_vec());
        }
    }

    /// Takes back one entry of the saved state, see [`REVISION`].
    pub(super) fn restore(&mut self, base: &mut Base, key: &[u8], value: &[u8]) -> Result<()> {
        let broken = || ExecError::State("a revision of a window that cannot be read".into());
        let (last, key) = key.split_first_chunk().ok_or_else(broken)?;
        let key = base.intake.interner.intern_key(key)?;
        let given = u32::from_be_bytes(value.try_into().map_err(|_| broken())?);
        self.given.insert((sorted_i64(*last), key), given);
        Ok(())
    }

    /// All entries have been restored.
    pub(super) fn restored(&mut self, base: &Base) {
        let cells = base.cells.columns().flat_map(|column| &column.cells);
        self.changed = cells.filter(|cell| base.cells.get(**cell).mark == 1).copied().collect();
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.given.len() * 24 + self.changed.capacity() * 4 + self.firsts.capacity() * 8) as u64
    }
}

fn revision_key(base: &Base, last: Pane, key: u32) -> Vec<u8> {
    let mut bytes = vec![REVISION];
    bytes.extend(sortable(last));
    base.intake.interner.key(key, &mut bytes);
    bytes
}
