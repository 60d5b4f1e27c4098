//! Event time: where the watermark of a stream comes from, and how rows are grouped in time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::ObjectId;

/// What moves the watermark of a stream: the rows of one *root* stream.
///
/// The watermark at a place of the global order is a function of the rows of the roots up to that
/// place and of nothing else, so a query computes it from the log wherever it starts, and a filter
/// that lets nothing through holds nobody back. A stream that clients write, and one whose query
/// assigns event times anew, is its own root; any other derived stream has the roots of what it
/// reads. With several clocks the watermark is the smallest of those that are not idle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Clock {
    /// The root.
    pub stream: ObjectId,
    /// Watermark = greatest event time of the root's rows - this (microseconds): the disorder that
    /// the root allows for, and how far operators on the way may lag behind their input.
    pub delay_us: i64,
    /// The event time is the moment of arrival. All such roots of a query share one clock, because
    /// the log orders them by it.
    pub arrival: bool,
    /// After the log has moved on by this much (microseconds, by arrival) without a row of the
    /// root, it no longer holds the others back.
    pub idle_timeout_us: i64,
}

impl Clock {
    /// The default of `idle_timeout`: one minute.
    pub const IDLE_TIMEOUT_US: i64 = 60_000_000;

    /// `clocks` of several inputs as those of one: each root once, with its greatest delay.
    pub fn union(clocks: impl IntoIterator<Item = Clock>) -> Vec<Clock> {
        let mut all: Vec<Clock> = Vec::new();
        for clock in clocks {
            match all.iter_mut().find(|c| c.stream == clock.stream) {
                Some(same) => same.delay_us = same.delay_us.max(clock.delay_us),
                None => all.push(clock),
            }
        }
        all.sort();
        all
    }
}

/// How the rows of a stream are grouped in time. All lengths are microseconds and positive;
/// intervals are half-open, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// `[n * slide + offset, n * slide + offset + size)`; tumbling when both are equal. The size is
    /// a multiple of the slide.
    Hop {
        /// Length.
        size_us: i64,
        /// Distance of neighbouring starts.
        slide_us: i64,
        /// Distance of one start from 1970-01-01T00:00Z.
        offset_us: i64,
    },
    /// For each `[n * size + offset, ..)` the windows that begin there and end after 1, 2, ..
    /// steps. The size is a multiple of the step.
    Cumulate {
        /// Greatest length.
        size_us: i64,
        /// Distance of neighbouring ends.
        step_us: i64,
        /// Distance of one start from 1970-01-01T00:00Z.
        offset_us: i64,
    },
    /// Rows of a key none of which is more than the gap after the one before it; ends at the last
    /// row + gap.
    Session {
        /// Greatest distance of neighbouring rows.
        gap_us: i64,
    },
    /// Each `size` rows of a key in stream order, beginning every `slide` rows; tumbling when both
    /// are equal.
    Count {
        /// Rows of a window.
        size: u64,
        /// Rows between the starts of neighbouring windows.
        slide: u64,
    },
    /// The whole life of the stream: only together with [`Emit::Changes`] or [`Emit::Every`].
    Unbounded,
}

impl Window {
    /// Windows one behind the other.
    pub fn tumble(size_us: i64, offset_us: i64) -> Window {
        Window::Hop { size_us, slide_us: size_us, offset_us }
    }

    /// The greatest distance (microseconds) of a row's event time from the end of its window as long
    /// as no other row is known; `None` for windows that do not end at a time.
    pub fn longest_us(&self) -> Option<i64> {
        match *self {
            Window::Hop { size_us, .. } | Window::Cumulate { size_us, .. } => Some(size_us),
            Window::Session { gap_us } => Some(gap_us),
            Window::Count { .. } | Window::Unbounded => None,
        }
    }

    /// Whether results carry `window_start` and `window_end`.
    pub fn has_bounds(&self) -> bool {
        !matches!(self, Window::Unbounded)
    }
}

/// When the results of an aggregate come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Emit {
    /// Once, when the watermark reaches the window's end (`EMIT ON WINDOW CLOSE`).
    OnClose,
    /// At each input row, the new result of every group it belongs to (`EMIT CHANGES`).
    Changes,
    /// Each time the watermark passes a multiple of this (microseconds), the groups changed since;
    /// and when the window closes (`EMIT EVERY`).
    Every(i64),
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = |f: &mut fmt::Formatter<'_>, offset: i64| {
            if offset == 0 { Ok(()) } else { write!(f, " offset {}", duration(offset)) }
        };
        match *self {
            Window::Hop { size_us, slide_us, offset_us } if size_us == slide_us => {
                write!(f, "tumble {}", duration(size_us))?;
                offset(f, offset_us)
            }
            Window::Hop { size_us, slide_us, offset_us } => {
                write!(f, "hop {} by {}", duration(size_us), duration(slide_us))?;
                offset(f, offset_us)
            }
            Window::Cumulate { size_us, step_us, offset_us } => {
                write!(f, "cumulate {} by {}", duration(size_us), duration(step_us))?;
                offset(f, offset_us)
            }
            Window::Session { gap_us } => write!(f, "session {}", duration(gap_us)),
            Window::Count { size, slide } if size == slide => write!(f, "{size} rows"),
            Window::Count { size, slide } => write!(f, "{size} rows by {slide}"),
            Window::Unbounded => f.write_str("unbounded"),
        }
    }
}

impl fmt::Display for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Emit::OnClose => f.write_str("on window close"),
            Emit::Changes => f.write_str("changes"),
            Emit::Every(every) => write!(f, "every {}", duration(*every)),
        }
    }
}

/// Microseconds as a user would write them: `5s`, `1h30m`.
pub fn duration(us: i64) -> String {
    if us == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    if us < 0 {
        text.push('-');
    }
    let mut rest = us.unsigned_abs();
    for (unit, name) in [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1000, "ms"),
        (1, "us"),
    ] {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_their_largest_units() {
        assert_eq!(duration(5_400_000_000), "1h30m");
        assert_eq!(duration(-1_500_001), "-1s500ms1us");
        assert_eq!(duration(0), "0s");
    }

    #[test]
    fn a_root_read_twice_is_one_clock_with_the_greater_delay() {
        let clock = |stream, delay_us| Clock {
            stream,
            delay_us,
            arrival: false,
            idle_timeout_us: Clock::IDLE_TIMEOUT_US,
        };
        assert_eq!(
            Clock::union([clock(2, 1), clock(1, 5), clock(2, 3)]),
            [clock(1, 5), clock(2, 3)]
        );
    }
}
