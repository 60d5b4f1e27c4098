//! Results at each row: of every window it belongs to. A cell is a whole window here.

use crate::aggregate::Arguments;
use crate::error::Result;
use crate::operator::Output;
use crate::progress::Progress;

use super::arena::TRASH;
use super::base::Base;
use super::emit::{Due, Place};
use super::intake::Rows;

/// Results at each row. The mark of a cell is the number of results given.
#[derive(Default)]
pub(super) struct Changes {
    /// By cell: the last chunk that has a row of it.
    chunks: Vec<u64>,
    chunk: u64,
    /// The n-th window of each row of the chunk.
    windows: Vec<Vec<u32>>,
}

impl Changes {
    pub(super) fn take(
        &mut self,
        base: &mut Base,
        rows: &Rows,
        end: usize,
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        base.cells.resize_keys(base.intake.interner.bound());
        let mut from = rows.next;
        let mut step = progress.steps().partition_point(|s| s.sequence < rows.sequence.get(from));
        self.chunk += 1;
        for row in rows.next..end {
            let (time, sequence) = (rows.time.get(row), rows.sequence.get(row));
            while progress.steps().get(step).is_some_and(|s| s.sequence < sequence) {
                step += 1;
            }
            let watermark =
                step.checked_sub(1).map_or(progress.before, |s| progress.steps()[s].time);
            let pane = base.grid.pane_of(time);
            let (first, last) = (pane.max(base.kept()), base.grid.last_window(pane));
            if base.is_closed(last) {
                base.refuse_late(rows, row, pane, progress, out);
                self.windows.iter_mut().for_each(|slots| slots.push(TRASH));
                continue;
            }
            let place = Place { sequence, ingested: rows.ingested.get(row) };
            let cells: Vec<u32> = (first..=last)
                .map(|window| base.cells.cell(window, rows.keys[row], rows.ordinal + row as u64))
                .collect();
            self.chunks.resize(base.cells.arena.set.slots(), 0);
            // A row that changes what an earlier row of the chunk gives begins another chunk.
            if cells.iter().any(|cell| self.chunks[*cell as usize] == self.chunk) {
                self.flush(base, rows, from, row, out)?;
                self.chunk += 1;
                from = row;
            }
            for (number, (window, cell)) in (first..=last).zip(cells).enumerate() {
                self.chunks[cell as usize] = self.chunk;
                if number == self.windows.len() {
                    self.windows.push(vec![TRASH; row - from]);
                }
                self.windows[number].push(cell);
                let (start, end) = base.bounds(window);
                let revision = base.cells.get(cell).mark;
                base.cells.set_mark(cell, revision + 1);
                let due = Due { start, end, key: rows.keys[row], revision };
                base.results.push(due, time.max(watermark), place, cell);
            }
            self.windows.iter_mut().for_each(|slots| slots.resize(row - from + 1, TRASH));
        }
        self.flush(base, rows, from, end, out)?;
        base.hand_on_full(out)
    }

    /// Adds the rows of a chunk to their windows and reads the results.
    fn flush(
        &mut self,
        base: &mut Base,
        rows: &Rows,
        from: usize,
        to: usize,
        out: &mut Output,
    ) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let arguments: Arguments = rows.arguments.slice(from, to - from);
        let time = rows.time.slice(from, to - from);
        let places = rows.places(from, &time);
        for slots in &mut self.windows {
            // The row that begins the next chunk has its windows not here.
            slots.truncate(to - from);
            base.cells.arena.set.update(slots, &arguments, &places)?;
            slots.clear();
        }
        base.cells.arena.empty_trash();
        base.results.read(&base.cells.arena.set, base.shape.on_error, out)
    }

    /// Forgets windows that take no more rows.
    pub(super) fn advance(base: &mut Base) {
        while let Some(last) = base.cells.oldest_interval()
            && base.is_closed(last)
        {
            if let Some(column) = base.cells.take_oldest(&base.intake.interner) {
                base.cells.release(column.cells);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        8 * self.chunks.capacity() as u64
    }
}
