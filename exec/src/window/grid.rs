//! Where windows lie: arithmetic over panes.
//!
//! Time is cut into *panes*, intervals as long as the slide (or step) of the windows. A window is
//! named by its last pane: it covers the panes [`Grid::first_pane`]` ..= last`. Numbers of panes are
//! those of intervals from the offset on, counted from 1970; all arithmetic is done in 128 bits and
//! saturates at the ends of the 64-bit range of time.

use auspex_plan::Window;

use crate::error::{ExecError, Result};

/// Number of a pane.
pub(super) type Pane = i64;

/// The panes of hopping or cumulating windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Length of a pane, microseconds.
    pub(super) pane_us: i64,
    /// Panes of the longest window.
    pub(super) panes: i64,
    /// Start of pane 0.
    offset_us: i64,
    /// Windows begin at every `panes`th pane and grow, instead of moving on.
    pub(super) cumulates: bool,
}

impl Grid {
    /// The panes of a [`Window::Hop`] or [`Window::Cumulate`], `None` for other windows.
    ///
    /// # Errors
    /// When a length is not positive or the size no multiple of the slide.
    pub(super) fn new(window: &Window) -> Result<Option<Grid>> {
        let (size, pane_us, offset, cumulates) = match *window {
            Window::Hop { size_us, slide_us, offset_us } => (size_us, slide_us, offset_us, false),
            Window::Cumulate { size_us, step_us, offset_us } => (size_us, step_us, offset_us, true),
            _ => return Ok(None),
        };
        if size <= 0 || pane_us <= 0 || size % pane_us != 0 {
            return Err(ExecError::Plan(format!("a window of {size} us by {pane_us} us")));
        }
        let offset_us = offset.rem_euclid(if cumulates { size } else { pane_us });
        Ok(Some(Grid { pane_us, panes: size / pane_us, offset_us, cumulates }))
    }

    /// The pane of a moment.
    pub(super) fn pane_of(&self, time: i64) -> Pane {
        let from_offset = i128::from(time) - i128::from(self.offset_us);
        saturated(from_offset.div_euclid(i128::from(self.pane_us)))
    }

    /// First moment of a pane.
    pub(super) fn start(&self, pane: Pane) -> i64 {
        saturated(i128::from(pane) * i128::from(self.pane_us) + i128::from(self.offset_us))
    }

    /// First moment after a pane.
    pub(super) fn end(&self, pane: Pane) -> i64 {
        saturated((i128::from(pane) + 1) * i128::from(self.pane_us) + i128::from(self.offset_us))
    }

    /// First pane of the window whose last pane is `last`.
    pub(super) fn first_pane(&self, last: Pane) -> Pane {
        match self.cumulates {
            true => self.block(last).saturating_mul(self.panes),
            false => last.saturating_sub(self.panes - 1),
        }
    }

    /// Last pane of the last window that covers `pane`.
    pub(super) fn last_window(&self, pane: Pane) -> Pane {
        match self.cumulates {
            true => self.first_pane(pane).saturating_add(self.panes - 1),
            false => pane.saturating_add(self.panes - 1),
        }
    }

    /// Panes by the length of the longest window: the unit of sliding aggregates.
    pub(super) fn block(&self, pane: Pane) -> i64 {
        pane.div_euclid(self.panes)
    }

    /// The pane in which the watermark is: all before it have ended.
    pub(super) fn open_pane(&self, watermark: i64) -> Pane {
        match watermark {
            i64::MIN | i64::MAX => watermark,
            time => self.pane_of(time),
        }
    }
}

fn saturated(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(window: Window) -> Grid {
        Grid::new(&window).expect("valid").expect("a grid")
    }

    #[test]
    fn panes_are_half_open_and_aligned() {
        let g = grid(Window::Hop { size_us: 30, slide_us: 10, offset_us: 3 });
        assert_eq!([2, 3, 12, 13, -7, -8].map(|t| g.pane_of(t)), [-1, 0, 0, 1, -1, -2]);
        assert_eq!((g.start(2), g.end(2)), (23, 33));
        assert_eq!((g.first_pane(5), g.last_window(5)), (3, 7));
        // An offset is the same modulo the slide.
        assert_eq!(grid(Window::Hop { size_us: 30, slide_us: 10, offset_us: -27 }), g);
    }

    #[test]
    fn cumulating_windows_begin_with_their_period() {
        let g = grid(Window::Cumulate { size_us: 30, step_us: 10, offset_us: 40 });
        assert_eq!(g.start(0), 10);
        assert_eq!((g.first_pane(5), g.last_window(5), g.last_window(3)), (3, 5, 5));
        assert_eq!((g.first_pane(-1), g.last_window(-3)), (-3, -1));
    }

    #[test]
    fn the_ends_of_time_saturate() {
        for offset_us in [0, 1, -1, i64::MAX, i64::MIN] {
            let g = grid(Window::Hop { size_us: 2, slide_us: 1, offset_us });
            assert_eq!(g.end(g.pane_of(i64::MAX)), i64::MAX);
            assert_eq!(g.start(g.pane_of(i64::MIN)), i64::MIN);
            assert_eq!(g.last_window(i64::MAX), i64::MAX);
        }
        let g = grid(Window::Hop { size_us: i64::MAX, slide_us: i64::MAX, offset_us: 0 });
        assert_eq!([i64::MIN, -1, 0, i64::MAX].map(|t| g.pane_of(t)), [-2, -1, 0, 1]);
        assert_eq!(g.start(g.pane_of(i64::MIN)), i64::MIN);
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for (size_us, slide_us) in [(0, 1), (1, 0), (-1, 1), (10, 3), (3, 10)] {
            assert!(Grid::new(&Window::Hop { size_us, slide_us, offset_us: 0 }).is_err());
            let window = Window::Cumulate { size_us, step_us: slide_us, offset_us: 0 };
            assert!(Grid::new(&window).is_err());
        }
    }
}
