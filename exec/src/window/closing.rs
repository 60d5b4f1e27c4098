//! Windows of which a row belongs to one at a time: tumbling ones are read and forgotten when they
//! end; cumulating ones go on as the first part of the next.

use crate::error::Result;
use crate::operator::Output;
use crate::progress::Progress;

use super::base::Base;
use super::intake::Rows;

/// Results once, when a window ends.
#[derive(Default)]
pub(super) struct Closing {
    /// Cells of windows that have ended, whose results are not read yet.
    closed: Vec<Vec<u32>>,
}

impl Closing {
    pub(super) fn take(
        &mut self,
        base: &mut Base,
        rows: &Rows,
        end: usize,
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        base.fill(rows, rows.next..end, base.grid.cumulates, progress, out, |_, _| ())?;
        Ok(())
    }

    /// The watermark has passed the end of a pane.
    pub(super) fn advance(&mut self, base: &mut Base, out: &mut Output) -> Result<()> {
        while let Some(last) = base.cells.oldest_interval()
            && base.has_ended(last)
        {
            if base.grid.cumulates {
                Self::carry(base, last, out)?;
            } else if let Some(column) = base.cells.take_oldest(&base.intake.interner) {
                for cell in &column.cells {
                    let key = base.cells.get(*cell).key;
                    base.push(last, key, 0, *cell);
                }
                self.closed.push(column.cells);
                if base.results.is_full() {
                    self.finish(base, out)?;
                    base.hand_on(out)?;
                }
            }
        }
        Ok(())
    }

    fn carry(base: &mut Base, last: i64, out: &mut Output) -> Result<()> {
        let Some(column) = base.cells.columns().next() else { return Ok(()) };
        let cells = column.cells.clone();
        let from = base.copies.take(cells.len());
        let slots: Vec<u32> = (from..).take(cells.len()).collect();
        base.copies.set.merge(&slots, &base.cells.arena.set, &cells)?;
        for (slot, cell) in slots.iter().zip(&cells) {
            let key = base.cells.get(*cell).key;
            base.push(last, key, 0, *slot);
        }
        if base.results.is_full() {
            base.read_copies(out)?;
        }
        if base.grid.last_window(last) > last {
            return base.cells.carry_oldest(last + 1, &base.intake.interner);
        }
        if let Some(column) = base.cells.take_oldest(&base.intake.interner) {
            base.cells.release(column.cells);
        }
        Ok(())
    }

    /// Reads the results of windows that have ended.
    pub(super) fn finish(&mut self, base: &mut Base, out: &mut Output) -> Result<()> {
        if base.grid.cumulates {
            return base.read_copies(out);
        }
        base.results.read(&base.cells.arena.set, base.shape.on_error, out)?;
        self.closed.drain(..).for_each(|cells| base.cells.release(cells));
        Ok(())
    }
}
