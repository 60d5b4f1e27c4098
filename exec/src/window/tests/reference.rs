//! What windows mean, row by row and window by window, without any cleverness.

use std::collections::BTreeMap;

use auspex_plan::{Emit, Window};

use crate::replay::LogRow;

/// A row of the log as the reference sees it.
#[derive(Debug, Clone, Copy)]
struct Row {
    place: usize,
    time: i64,
    value: i64,
}

/// A window of a key. Sessions change their bounds.
#[derive(Debug, Clone)]
struct Group {
    start: i64,
    end: i64,
    key: String,
    rows: Vec<Row>,
    /// Results given, whether it changed since the last, and whether it has ended.
    given: usize,
    changed: bool,
    ended: bool,
}

/// A query of the tests, in words of the reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    pub(super) window: Window,
    pub(super) emit: Emit,
    pub(super) lateness_us: i64,
    pub(super) delay_us: i64,
}

/// Output rows as in [`crate::replay::Trace::rows`] and the places of late rows.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) rows: Vec<String>,
    pub(super) late: Vec<usize>,
}

/// Runs a log of lines `key a value v`.
pub(super) fn run(query: &Query, log: &[LogRow]) -> Expected {
    let mut run = Run { query: *query, groups: Vec::new(), out: Expected::default() };
    let mut counts: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut watermark = i64::MIN;
    for (place, row) in log.iter().enumerate() {
        let words: Vec<&str> = row.values.split(' ').collect();
        let (key, value) = (words[0].to_string(), words[2].parse().expect("a number"));
        let row = Row { place, time: row.time, value };
        match query.window {
            Window::Count { size, slide } => {
                let rows = counts.entry(key.clone()).or_default();
                rows.push(row);
                run.count(&key, rows, size as usize, slide as usize, watermark);
            }
            Window::Session { gap_us } => run.session(&key, row, gap_us, watermark),
            _ => run.grid(&key, row, watermark),
        }
        let next = watermark.max(row.time - query.delay_us);
        run.step(watermark, next, place);
        watermark = next;
    }
    run.step(watermark, i64::MAX, log.len());
    run.out
}

struct Run {
    query: Query,
    groups: Vec<Group>,
    out: Expected,
}

impl Run {
    /// All windows `[start, end)` of a moment.
    fn windows(&self, time: i64) -> Vec<(i64, i64)> {
        let mut windows = Vec::new();
        match self.query.window {
            Window::Hop { size_us, slide_us, offset_us } => {
                let mut start = (time - offset_us).div_euclid(slide_us) * slide_us + offset_us;
                while start + size_us > time {
                    windows.push((start, start + size_us));
                    start -= slide_us;
                }
                windows.reverse();
            }
            Window::Cumulate { size_us, step_us, offset_us } => {
                let start = (time - offset_us).div_euclid(size_us) * size_us + offset_us;
                let ends = (1..=size_us / step_us).map(|steps| start + steps * step_us);
                windows.extend(ends.filter(|end| *end > time).map(|end| (start, end)));
            }
            _ => unreachable!("other windows"),
        }
        windows
    }

    fn grid(&mut self, key: &str, row: Row, watermark: i64) {
        let lateness = self.query.lateness_us;
        let open = |end: i64| watermark == i64::MIN || end + lateness > watermark;
        let windows: Vec<_> =
            self.windows(row.time).into_iter().filter(|(_, end)| open(*end)).collect();
        if windows.is_empty() {
            self.out.late.push(row.place);
        }
        for (start, end) in windows {
            let ended = watermark != i64::MIN && end <= watermark;
            let found =
                self.groups.iter().position(|g| (g.start, g.end) == (start, end) && g.key == key);
            let number = found.unwrap_or_else(|| {
                let (key, rows) = (key.to_string(), Vec::new());
                self.groups.push(Group { start, end, key, rows, given: 0, changed: false, ended });
                self.groups.len() - 1
            });
            self.groups[number].rows.push(row);
            self.groups[number].changed = true;
            match self.query.emit {
                Emit::Changes => self.give(number, row.place, row.time.max(watermark)),
                _ if ended => self.give(number, row.place, end - 1),
                _ => {}
            }
        }
    }

    fn session(&mut self, key: &str, row: Row, gap: i64, watermark: i64) {
        let near = |g: &Group| {
            let last = g.end - gap;
            g.key == key && row.time + gap >= g.start && last + gap >= row.time
        };
        let lateness = self.query.lateness_us;
        let touched: Vec<usize> =
            (0..self.groups.len()).filter(|number| near(&self.groups[*number])).collect();
        if touched.is_empty() && watermark != i64::MIN && row.time + gap + lateness < watermark {
            self.out.late.push(row.place);
            return;
        }
        let mut joined = Group {
            start: row.time,
            end: row.time + gap,
            key: key.to_string(),
            rows: vec![row],
            given: 0,
            changed: true,
            ended: false,
        };
        for number in touched.into_iter().rev() {
            let group = self.groups.remove(number);
            joined.start = joined.start.min(group.start);
            joined.end = joined.end.max(group.end);
            joined.rows.extend(group.rows);
            joined.given = joined.given.max(group.given);
        }
        joined.rows.sort_by_key(|row| row.place);
        joined.ended = watermark != i64::MIN && joined.end < watermark;
        let (end, ended) = (joined.end, joined.ended);
        self.groups.push(joined);
        let number = self.groups.len() - 1;
        match self.query.emit {
            Emit::Changes => self.give(number, row.place, row.time.max(watermark)),
            _ if ended => self.give(number, row.place, end - 1),
            _ => {}
        }
    }

    fn count(&mut self, key: &str, rows: &[Row], size: usize, slide: usize, watermark: i64) {
        let last = rows.len();
        for start in (0..last).step_by(slide).filter(|start| start + size >= last) {
            let complete = start + size == last;
            if complete || self.query.emit == Emit::Changes {
                let window = rows[start..last].to_vec();
                let time = window[window.len() - 1].time.max(watermark);
                let (first, end) = (window[0].time, window[window.len() - 1].time);
                let given = last - start - 1;
                let key = key.to_string();
                let group = Group {
                    start: first,
                    end,
                    key,
                    rows: window,
                    given,
                    changed: true,
                    ended: true,
                };
                self.write(&group, rows[last - 1].place, time);
            }
        }
    }

    /// The watermark moves after the rows of `place`.
    fn step(&mut self, before: i64, watermark: i64, place: usize) {
        if before == watermark {
            return;
        }
        let session = matches!(self.query.window, Window::Session { .. });
        let ends = |end: i64, at: i64| match session {
            true => at == i64::MAX || end < at,
            false => end <= at,
        };
        let tick = match self.query.emit {
            Emit::Every(every) => {
                watermark == i64::MAX
                    || (before != i64::MIN
                        && watermark.div_euclid(every) > before.div_euclid(every))
            }
            _ => false,
        };
        let mut due: Vec<(i64, i64, usize, usize)> = Vec::new();
        for (number, group) in self.groups.iter_mut().enumerate() {
            let ended = ends(group.end, watermark);
            let emits = match self.query.emit {
                Emit::Changes => false,
                _ => !group.ended && group.changed && (ended || tick),
            };
            group.ended |= ended;
            if emits {
                due.push((group.end, group.start, group.rows[0].place, number));
            }
        }
        due.sort_unstable();
        for (end, _, _, number) in due {
            self.give(number, place, end - 1);
        }
        let lateness = self.query.lateness_us;
        self.groups.retain(|g| watermark != i64::MAX && !ends(g.end + lateness, watermark));
    }

    fn give(&mut self, number: usize, place: usize, time: i64) {
        let group = self.groups[number].clone();
        self.groups[number].given += 1;
        self.groups[number].changed = false;
        self.write(&group, place, time);
    }

    fn write(&mut self, group: &Group, place: usize, time: i64) {
        let values = || group.rows.iter().map(|row| row.value);
        let mut line = format!(
            "{} {} {} {} {} {:?} {} {}",
            group.start,
            group.end,
            group.key,
            group.rows.len(),
            values().sum::<i64>(),
            values().sum::<i64>() as f64 / group.rows.len() as f64,
            values().min().expect("a row"),
            values().max().expect("a row"),
        );
        if self.query.emit != Emit::OnClose || self.query.lateness_us > 0 {
            line += &format!(" {}", group.given);
        }
        self.out.rows.push(format!("{line} | {place} {time}"));
    }
}
