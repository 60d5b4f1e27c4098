//! Rows and the steps of the watermark in their common order.

use auspex_storage::Run;

use crate::progress::{Progress, Step};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A row of a batch.
    Row {
        /// Number of the batch.
        batch: usize,
        /// Number of the row in it.
        row: usize,
        /// The watermark before its place.
        watermark: i64,
    },
    /// The watermark moves.
    Step(Step),
}

/// The rows of an operator's only input since the last step, and how the watermark moved between
/// them: the rows of a place come before the step there.
pub(super) struct Walk<'a> {
    /// Places and number of rows of each batch.
    batches: Vec<(&'a Run, usize)>,
    steps: &'a [Step],
    watermark: i64,
    batch: usize,
    row: usize,
}

impl<'a> Walk<'a> {
    /// `batches` are places and number of rows of each batch.
    pub(super) fn new(
        batches: impl Iterator<Item = (&'a Run, usize)>,
        progress: &'a Progress,
    ) -> Walk<'a> {
        Walk {
            batches: batches.collect(),
            steps: progress.steps(),
            watermark: progress.before,
            batch: 0,
            row: 0,
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while self.batches.get(self.batch).is_some_and(|(_, len)| self.row == *len) {
            self.batch += 1;
            self.row = 0;
        }
        let place = self.batches.get(self.batch).map(|(places, _)| places.get(self.row));
        match (place, self.steps.split_first()) {
            (Some(place), Some((step, rest))) if step.sequence < place => {
                self.steps = rest;
                self.watermark = step.time;
                Some(Event::Step(*step))
            }
            (Some(_), _) => {
                self.row += 1;
                let row = self.row - 1;
                Some(Event::Row { batch: self.batch, row, watermark: self.watermark })
            }
            (None, Some((step, rest))) => {
                self.steps = rest;
                self.watermark = step.time;
                Some(Event::Step(*step))
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_before_the_step_at_their_place() {
        let mut progress = Progress::still(0);
        for (sequence, time) in [(1, 10), (2, 20), (9, 90)] {
            progress.advance(sequence, time, false);
        }
        let (first, second) = (Run::Each(vec![0, 1, 1].into()), Run::Each(vec![3].into()));
        let walk = Walk::new([(&first, 3), (&first, 0), (&second, 1)].into_iter(), &progress);
        let seen: Vec<(i64, i64)> = walk
            .map(|event| match event {
                Event::Row { batch, row, watermark } => ((batch * 10 + row) as i64, watermark),
                Event::Step(step) => (-step.sequence, step.time),
            })
            .collect();
        assert_eq!(seen, [(0, 0), (1, 0), (2, 0), (-1, 10), (-2, 20), (20, 20), (-9, 90)]);
    }
}
