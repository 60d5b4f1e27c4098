//! Windows that lie at fixed distances: tumbling, hopping and cumulating.

use std::collections::BTreeSet;

use crate::error::Result;

use super::{Closing, Kept, Windows};

/// Each window is known by its end. All ends lie `step` apart; the windows that contain a row are
/// those that end at `step`, 2 `step`, .. after it, as long as they begin before it.
pub(super) struct Aligned {
    /// Greatest length.
    size: i64,
    /// Distance of neighbouring ends.
    step: i64,
    /// Distance of one end from 1970.
    offset: i64,
    /// Windows begin only at multiples of their greatest length.
    cumulate: bool,
    /// Event times and numbers of the rows that an open window contains.
    rows: BTreeSet<(i64, u64)>,
    /// All windows that end here or before have closed.
    closed: i64,
}

impl Aligned {
    pub(super) fn hop(size: i64, slide: i64, offset: i64) -> Aligned {
        let (rows, closed) = (BTreeSet::new(), i64::MIN);
        Aligned { size, step: slide, offset, cumulate: false, rows, closed }
    }

    pub(super) fn cumulate(size: i64, step: i64, offset: i64) -> Aligned {
        Aligned { cumulate: true, ..Aligned::hop(size, step, offset) }
    }

    /// End of the first window that ends after `time`.
    fn first_end(&self, time: i64) -> i64 {
        floor(time, self.step, self.offset).saturating_add(self.step)
    }

    /// End of the last window that contains `time`.
    fn last_end(&self, time: i64) -> i64 {
        let start = match self.cumulate {
            true => floor(time, self.size, self.offset),
            false => floor(time, self.step, self.offset),
        };
        start.saturating_add(self.size)
    }

    /// Start of the window that ends at `end`.
    fn start(&self, end: i64) -> i64 {
        match self.cumulate {
            true => floor(end.saturating_sub(1), self.size, self.offset),
            false => end.saturating_sub(self.size),
        }
    }
}

/// The greatest multiple of `step`, plus `offset`, that is not above `time`.
fn floor(time: i64, step: i64, offset: i64) -> i64 {
    time.saturating_sub(time.saturating_sub(offset).rem_euclid(step))
}

impl Windows for Aligned {
    fn too_late(&self, _group: &[u8], time: i64, watermark: i64) -> Option<i64> {
        Some(self.last_end(time)).filter(|end| *end <= watermark)
    }

    fn passed(&mut self, watermark: i64) {
        self.closed = watermark;
    }

    fn take(&mut self, number: u64, kept: &Kept) -> Option<Closing> {
        self.rows.insert((kept.get(number).row.time, number));
        None
    }

    fn close(&mut self, watermark: i64, _kept: &Kept) -> Option<Closing> {
        let (first, _) = *self.rows.first()?;
        let mut end = self.first_end(self.closed.max(first));
        while self.closed < end && end <= watermark {
            let start = self.start(end);
            let (from, to) = ((start, 0), (end, 0));
            let mut rows: Vec<u64> = self.rows.range(from..to).map(|(_, number)| *number).collect();
            if !rows.is_empty() {
                self.closed = end;
                rows.sort_unstable();
                return Some(Closing { start, end, rows });
            }
            // No row lies in this window: go on with the first that contains the next one.
            let Some((next, _)) = self.rows.range(to..).next() else { break };
            end = self.first_end(*next);
        }
        self.closed = self.closed.max(watermark);
        None
    }

    fn forget(&mut self, watermark: i64) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some((time, number)) = self.rows.first().copied()
            && self.last_end(time) <= watermark
        {
            self.rows.pop_first();
            gone.push(number);
        }
        gone
    }

    fn restore(&mut self, kept: &Kept, _others: &[(&[u8], &[u8])]) -> Result<()> {
        self.rows = kept.iter().map(|(number, held)| (held.row.time, number)).collect();
        self.closed = i64::MIN;
        Ok(())
    }
}
