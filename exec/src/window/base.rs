//! What all ways to compute hopping and cumulating windows have in common.

use std::ops::Range;

use auspex_storage::Run;

use crate::error::Result;
use crate::operator::Output;
use crate::progress::Progress;

use super::arena::TRASH;
use super::cells::Cells;
use super::copies::Copies;
use super::emit::{Due, Place, Results, Shape};
use super::grid::{Grid, Pane};
use super::intake::{Intake, Rows};
use super::late_reason;

/// Rows, cells, results and where the watermark is.
pub(super) struct Base {
    pub(super) intake: Intake,
    pub(super) shape: Shape,
    pub(super) grid: Grid,
    /// How long windows still take rows after their end, microseconds.
    pub(super) lateness_us: i64,
    pub(super) cells: Cells,
    pub(super) copies: Copies,
    pub(super) results: Results,
    /// The watermark, as far as it matters: at the last boundary that it passed.
    pub(super) watermark: i64,
    /// Place of the present step of the watermark.
    pub(super) place: Place,
    slots: Vec<u32>,
}

/// What [`Base::fill`] came to.
pub(super) struct Filled {
    /// First row that was not taken yet.
    pub(super) next: usize,
    /// Key and pane of the row before it, when that pane had ended.
    pub(super) ended: Option<(u32, Pane)>,
}

impl Base {
    pub(super) fn new(intake: Intake, shape: Shape, grid: Grid, lateness_us: i64) -> Base {
        let set = || intake.aggregates.set();
        Base {
            cells: Cells::new(set()),
            copies: Copies::new(set(), set()),
            results: Results::default(),
            intake,
            shape,
            grid,
            lateness_us,
            watermark: i64::MIN,
            place: Place { sequence: 0, ingested: 0 },
            slots: Vec::new(),
        }
    }

    /// The first pane that has not ended.
    pub(super) fn open(&self) -> Pane {
        self.grid.open_pane(self.watermark)
    }

    /// The last pane of the first window that still takes rows.
    pub(super) fn kept(&self) -> Pane {
        match self.watermark {
            i64::MIN | i64::MAX => self.watermark,
            time => self.grid.open_pane(time.saturating_sub(self.lateness_us)),
        }
    }

    /// Whether the window with this last pane has ended.
    pub(super) fn has_ended(&self, last: Pane) -> bool {
        self.watermark == i64::MAX || last < self.open()
    }

    /// Whether the window with this last pane takes no more rows.
    pub(super) fn is_closed(&self, last: Pane) -> bool {
        self.watermark == i64::MAX || last < self.kept()
    }

    /// The next value of the watermark at which a window ends or closes.
    pub(super) fn next_boundary(&self) -> i64 {
        if self.watermark == i64::MIN {
            return i64::MIN + 1;
        }
        let closing = self.grid.end(self.kept()).saturating_add(self.lateness_us);
        self.grid.end(self.open()).min(closing)
    }

    /// Start and end of the window with this last pane.
    pub(super) fn bounds(&self, last: Pane) -> (i64, i64) {
        (self.grid.start(self.grid.first_pane(last)), self.grid.end(last))
    }

    /// The result of a window and key, at the present place.
    pub(super) fn push(&mut self, last: Pane, key: u32, revision: u32, slot: u32) {
        let (start, end) = self.bounds(last);
        let due = Due { start, end, key, revision };
        self.results.push(due, end.saturating_sub(1), self.place, slot);
    }

    /// Reads results out of the copies.
    pub(super) fn read_copies(&mut self, out: &mut Output) -> Result<()> {
        self.results.read(&self.copies.set, self.shape.on_error, out)?;
        self.copies.clear();
        self.hand_on_full(out)
    }

    /// Hands results on when they have become many.
    pub(super) fn hand_on_full(&mut self, out: &mut Output) -> Result<()> {
        if self.results.is_full() { self.hand_on(out) } else { Ok(()) }
    }

    /// Hands on all results that have been read.
    pub(super) fn hand_on(&mut self, out: &mut Output) -> Result<()> {
        self.results.hand_on(&self.shape, &self.intake.interner, out)
    }

    /// Refuses a row all of whose windows have closed.
    pub(super) fn refuse_late(
        &self,
        rows: &Rows,
        row: usize,
        pane: Pane,
        progress: &Progress,
        out: &mut Output,
    ) {
        let end = self.grid.end(self.grid.last_window(pane));
        let watermark = progress.at(rows.sequence.get(row));
        out.late.push(rows.failure(row, late_reason(rows.time.get(row), end, watermark)));
    }

    /// Adds the rows `taken` to the cells of their panes, up to and with the first row of a pane
    /// that has ended. With `carried`, such a row goes to the first open pane instead.
    /// `visit` sees each row's cell.
    pub(super) fn fill(
        &mut self,
        rows: &Rows,
        taken: Range<usize>,
        carried: bool,
        progress: &Progress,
        out: &mut Output,
        mut visit: impl FnMut(&mut Cells, u32),
    ) -> Result<Filled> {
        let Range { start: from, end } = taken;
        self.cells.resize_keys(self.intake.interner.bound());
        let (open, kept) = (self.open(), self.kept());
        let time = rows.time.slice(from, end - from);
        let times = time.to_values(end - from);
        let ordinal = rows.ordinal + from as u64;
        // Rows of `low .. high` go to the cells of `interval`.
        let (mut low, mut high, mut interval) = (0i64, i64::MIN, 0);
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        slots.reserve(end - from);
        let mut ended = None;
        let mut has_late = false;
        for (row, (&time, &key)) in times.iter().zip(&rows.keys[from..end]).enumerate() {
            if time < low || time >= high {
                let pane = self.grid.pane_of(time);
                if self.watermark == i64::MAX || self.grid.last_window(pane) < kept {
                    self.refuse_late(rows, from + row, pane, progress, out);
                    slots.push(TRASH);
                    has_late = true;
                    continue;
                }
                if pane >= open || carried {
                    (low, high) = (self.grid.start(pane), self.grid.end(pane));
                    interval = pane.max(if carried { open } else { pane });
                } else {
                    ended = Some((key, pane));
                    interval = pane;
                }
            }
            let cell = self.cells.cell(interval, key, ordinal + row as u64);
            visit(&mut self.cells, cell);
            slots.push(cell);
            if ended.is_some() {
                break;
            }
        }
        let next = from + slots.len();
        self.update(rows, from, &slots, &time)?;
        if has_late {
            self.cells.arena.empty_trash();
        }
        self.slots = slots;
        Ok(Filled { next, ended })
    }

    fn update(&mut self, rows: &Rows, from: usize, slots: &[u32], time: &Run) -> Result<()> {
        let places = rows.places(from, time);
        if from == 0 && slots.len() == rows.len() {
            return self.cells.arena.set.update(slots, &rows.arguments, &places);
        }
        let arguments = rows.arguments.slice(from, slots.len());
        self.cells.arena.set.update(slots, &arguments, &places)
    }
}

impl Base {
    /// Forgets everything, before state is restored.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.intake.clear()?;
        let set = || self.intake.aggregates.set();
        self.cells = Cells::new(set());
        self.copies = Copies::new(set(), set());
        self.results = Results::default();
        self.watermark = i64::MIN;
        Ok(())
    }
}
