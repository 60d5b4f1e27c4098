//! Hopping and cumulating windows as an operator.

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::progress::Progress;

use auspex_plan::Emit;

use super::base::Base;
use super::cells::CELL;
use super::changes::Changes;
use super::closing::Closing;
use super::direct::{Direct, REVISION};
use super::emit::{Place, Shape};
use super::grid::Grid;
use super::header::{HEADER, Header};
use super::intake::Intake;
use super::sliding::Sliding;

/// Aggregates of hopping and cumulating windows.
///
/// Saved state: a [`Header`], the [`super::cells::Cells`], and how often results were given.
pub(super) struct TimeWindows {
    base: Base,
    way: Way,
    saved: Option<Header>,
    name: String,
}

/// How results are computed.
enum Way {
    Closing(Closing),
    Sliding(Box<Sliding>),
    Direct(Box<Direct>),
    Changes(Changes),
}

impl TimeWindows {
    pub(super) fn new(
        intake: Intake,
        shape: Shape,
        grid: Grid,
        emit: Emit,
        lateness_us: i64,
        name: String,
    ) -> Result<TimeWindows> {
        let base = Base::new(intake, shape, grid, lateness_us);
        let way = match emit {
            Emit::Changes => Way::Changes(Changes::default()),
            Emit::Every(every) if every > 0 => Way::Direct(Box::new(Direct::new(Some(every)))),
            Emit::Every(every) => return Err(ExecError::Plan(format!("results every {every} us"))),
            Emit::OnClose if lateness_us > 0 => Way::Direct(Box::new(Direct::new(None))),
            Emit::OnClose if grid.cumulates || grid.panes == 1 => Way::Closing(Closing::default()),
            // Fronts of states that grow with their rows would hold each row many times.
            Emit::OnClose if !base.intake.aggregates.is_small() => {
                Way::Direct(Box::new(Direct::new(None)))
            }
            Emit::OnClose => Way::Sliding(Box::new(Sliding::new(&base))),
        };
        Ok(TimeWindows { base, way, saved: None, name })
    }

    fn next_boundary(&self) -> i64 {
        match &self.way {
            Way::Direct(direct) => direct.next_boundary(&self.base),
            _ => self.base.next_boundary(),
        }
    }

    /// Takes the waiting rows with places up to `sequence`, all when there is none.
    fn take(&mut self, sequence: Option<i64>, progress: &Progress, out: &mut Output) -> Result<()> {
        while let Some((rows, end)) = self.base.intake.next(sequence) {
            let base = &mut self.base;
            match &mut self.way {
                Way::Closing(way) => way.take(base, &rows, end, progress, out)?,
                Way::Sliding(way) => way.take(base, &rows, end, progress, out)?,
                Way::Direct(way) => way.take(base, &rows, end, progress, out)?,
                Way::Changes(way) => way.take(base, &rows, end, progress, out)?,
            }
            self.base.intake.done(rows, end);
        }
        Ok(())
    }

    fn advance(&mut self, time: i64, sequence: i64, out: &mut Output) -> Result<()> {
        let base = &mut self.base;
        let before = std::mem::replace(&mut base.watermark, time);
        base.place = Place { sequence, ingested: base.intake.seen.ingested.unwrap_or(time) };
        match &mut self.way {
            Way::Closing(way) => way.advance(base, out),
            Way::Sliding(way) => way.advance(base, before, out),
            Way::Direct(way) => way.advance(base, before, out),
            Way::Changes(_) => {
                Changes::advance(base);
                Ok(())
            }
        }
    }

    fn finish(&mut self, out: &mut Output) -> Result<()> {
        let base = &mut self.base;
        match &mut self.way {
            Way::Closing(way) => way.finish(base, out)?,
            Way::Sliding(_) | Way::Direct(_) => base.read_copies(out)?,
            Way::Changes(_) => {}
        }
        base.hand_on(out)?;
        base.cells.release_keys(&mut base.intake.interner);
        Ok(())
    }

    fn header(&self) -> Header {
        Header { watermark: self.base.watermark, seen: self.base.intake.seen }
    }
}

impl Operator for TimeWindows {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        self.base.intake.take(batch, out)
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let progress = &watermark.progress;
        let mut from = 0;
        while self.base.watermark != i64::MAX
            && let Some(number) = progress.first_reaching(self.next_boundary(), from)
        {
            let step = progress.steps()[number];
            self.take(Some(step.sequence), progress, out)?;
            self.advance(step.time, step.sequence, out)?;
            from = number + 1;
        }
        self.take(None, progress, out)?;
        self.finish(out)?;
        if self.base.shape.hold_us > 0 {
            out.progress = Some(progress.delayed(self.base.shape.hold_us));
        }
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        Header::checkpoint(self.header(), &mut self.saved, state);
        self.base.cells.checkpoint(state, &self.base.intake.interner);
        if let Way::Direct(direct) = &mut self.way {
            direct.checkpoint(&self.base, state);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        let base = &mut self.base;
        base.clear()?;
        self.saved = None;
        match &mut self.way {
            Way::Closing(way) => *way = Closing::default(),
            Way::Sliding(way) => **way = Sliding::new(base),
            Way::Direct(way) => way.clear(),
            Way::Changes(way) => *way = Changes::default(),
        }
        for (key, value) in state.entries() {
            match (key.split_first(), &mut self.way) {
                (Some((&HEADER, [])), _) => {
                    let header = Header::read(value)?;
                    base.watermark = header.watermark;
                    base.intake.seen = header.seen;
                    self.saved = Some(header);
                }
                (Some((&CELL, key)), _) => {
                    base.cells.restore(key, value, &mut base.intake.interner)?;
                }
                (Some((&REVISION, key)), Way::Direct(way)) => way.restore(base, key, value)?,
                _ => return Err(ExecError::State("an entry of a window that is unknown".into())),
            }
        }
        base.cells.restored();
        match &mut self.way {
            Way::Sliding(way) => way.restored(base),
            Way::Direct(way) => {
                way.restored(base);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn state_bytes(&self) -> u64 {
        let way = match &self.way {
            Way::Closing(_) => 0,
            Way::Sliding(way) => way.bytes(),
            Way::Direct(way) => way.bytes(),
            Way::Changes(way) => way.bytes(),
        };
        way + self.base.cells.bytes() + self.base.copies.bytes() + self.base.intake.interner.bytes()
    }

    fn state_rows(&self) -> u64 {
        self.base.cells.rows()
    }
}
