use auspex_plan::time::Window;
use auspex_plan::{ContinuousQuery, OnError, nodes};
use datafusion::logical_expr::{Expr, col, lit};
use proptest::prelude::*;

use crate::replay::{Cuts, LogRow, check_batching, log, trace};
use crate::testing::{extend, query, timed};

fn plan(
    window: Window,
    keys: Vec<Expr>,
    order: Vec<(&str, bool)>,
    limit: Option<u64>,
    delay_us: i64,
) -> ContinuousQuery {
    let order = order.into_iter().map(|(c, asc)| col(c).sort(asc, !asc)).collect();
    let node = |input| nodes::WindowRows::try_new(input, window, keys, order, limit).unwrap();
    query(extend(timed(1, delay_us), node), OnError::DeadLetter)
}

/// Output rows as `k a [start end) place time`, late rows after them.
#[track_caller]
fn check(plan: &ContinuousQuery, rows: &str, expected: &[&str]) {
    let trace = trace(plan, &log(rows));
    let all: Vec<String> = trace.rows.iter().map(|line| short(line)).chain(trace.late).collect();
    assert_eq!(all, expected);
}

/// A line with the bounds as microseconds, without the columns b and v.
fn short(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let us = |word: &str| -> i64 {
        let before = if word.starts_with("1969") { 60_000_000 } else { 0 };
        let (_, seconds) = word.trim_end_matches('Z').rsplit_once(':').unwrap();
        (seconds.parse::<f64>().unwrap() * 1e6).round() as i64 - before
    };
    let (start, end) = (us(words[4]), us(words[5]));
    format!("{} {} [{start} {end}) {} {}", words[0], words[1], words[7], words[8])
}

fn hop(size_us: i64, slide_us: i64) -> Window {
    Window::Hop { size_us, slide_us, offset_us: 0 }
}

#[test]
fn a_tumbling_window_gives_its_rows_when_the_watermark_reaches_its_end() {
    check(
        &plan(hop(10, 10), vec![], vec![], None, 0),
        "1 @7 x 1 0 1\n1 @3 y 2 0 1\n1 @10 x 3 0 1\n1 @8 x 4 0 1\n1 @19 x 5 0 1",
        &[
            "x 1 [0 10) 2 9",
            "y 2 [0 10) 2 9",
            "x 3 [10 20) 5 19",
            "x 5 [10 20) 5 19",
            "3: event time 1970-01-01 00:00:00.000008+00 is too late for the window that ended at \
             1970-01-01 00:00:00.000010+00: the watermark is 1970-01-01 00:00:00.000010+00",
        ],
    );
}

#[test]
fn a_row_is_in_each_hopping_window_that_contains_it_and_has_not_closed() {
    check(
        &plan(hop(10, 5), vec![], vec![], None, 0),
        "1 @7 x 1 0 1\n1 @11 y 2 0 1\n1 @8 x 3 0 1\n1 @40 z 4 0 1",
        &[
            "x 1 [0 10) 1 9",
            "x 1 [5 15) 3 14",
            "y 2 [5 15) 3 14",
            "x 3 [5 15) 3 14",
            "y 2 [10 20) 3 19",
            "z 4 [35 45) 4 44",
            "z 4 [40 50) 4 49",
        ],
    );
}

#[test]
fn a_cumulating_window_grows_by_steps() {
    let window = Window::Cumulate { size_us: 15, step_us: 5, offset_us: 2 };
    check(
        &plan(window, vec![], vec![], None, 0),
        "1 @3 x 1 0 1\n1 @13 y 2 0 1\n1 @17 z 3 0 1",
        &[
            "x 1 [2 7) 1 6",
            "x 1 [2 12) 1 11",
            "x 1 [2 17) 2 16",
            "y 2 [2 17) 2 16",
            "z 3 [17 22) 3 21",
            "z 3 [17 27) 3 26",
            "z 3 [17 32) 3 31",
        ],
    );
}

#[test]
fn order_and_limit_hold_per_window_and_key() {
    let rows =
        "1 @1 y 1 0 1\n1 @2 x 2 0 1\n1 @3 y 3 0 1\n1 @4 y 3 0 1\n1 @5 x - 0 1\n1 @11 x 9 0 1";
    check(
        &plan(hop(10, 10), vec![], vec![("a", false)], Some(3), 0),
        rows,
        &["x - [0 10) 5 9", "y 3 [0 10) 5 9", "y 3 [0 10) 5 9", "x 9 [10 20) 6 19"],
    );
    check(
        &plan(hop(10, 10), vec![col("k")], vec![("a", true)], Some(2), 0),
        rows,
        &[
            "y 1 [0 10) 5 9",
            "y 3 [0 10) 5 9",
            "x 2 [0 10) 5 9",
            "x - [0 10) 5 9",
            "x 9 [10 20) 6 19",
        ],
    );
}

#[test]
fn a_session_ends_after_a_gap_and_takes_late_rows_while_it_is_open() {
    check(
        &plan(Window::Session { gap_us: 10 }, vec![col("k")], vec![], None, 5),
        "1 @10 x 1 0 1
         1 @20 x 2 0 1
         1 @31 x 3 0 1
         1 @21 x 4 0 1
         1 @20 y 5 0 1
         1 @70 y 6 0 1
         1 @22 x 7 0 1",
        &[
            "y 5 [20 30) 5 29",
            "x 1 [10 41) 5 40",
            "x 2 [10 41) 5 40",
            "x 3 [10 41) 5 40",
            "x 4 [10 41) 5 40",
            "y 6 [70 80) 7 79",
            "6: event time 1970-01-01 00:00:00.000022+00 is too late for the window that ended at \
             1970-01-01 00:00:00.000032+00: the watermark is 1970-01-01 00:00:00.000065+00",
        ],
    );
}

#[test]
fn a_count_window_gives_its_rows_with_the_row_that_completes_it() {
    let rows = "1 @1 x 1 0 1\n1 @9 y 2 0 1\n1 @5 x 3 0 1\n1 @6 x 4 0 1\n1 @7 x 5 0 1\n1 @8 y 6 0 1";
    check(
        &plan(Window::Count { size: 2, slide: 2 }, vec![col("k")], vec![], None, 0),
        rows,
        &[
            "x 1 [1 5) 2 9",
            "x 3 [1 5) 2 9",
            "x 4 [6 7) 4 9",
            "x 5 [6 7) 4 9",
            "y 2 [9 8) 5 9",
            "y 6 [9 8) 5 9",
        ],
    );
    check(
        &plan(Window::Count { size: 3, slide: 1 }, vec![col("k")], vec![("a", false)], Some(1), 0),
        rows,
        &["x 4 [1 6) 3 9", "x 5 [5 7) 4 9"],
    );
    check(
        &plan(Window::Count { size: 1, slide: 3 }, vec![], vec![], None, 0),
        rows,
        &["x 1 [1 1) 0 1", "x 4 [6 6) 3 9"],
    );
}

#[test]
fn a_row_whose_key_fails_is_refused() {
    let keys = vec![lit(10i64) / col("b")];
    let plan = plan(hop(10, 10), keys, vec![], None, 0);
    let trace = trace(&plan, &log("1 @1 x 1 0 1\n1 @2 x 2 1 1"));
    assert_eq!(trace.rows.len(), 1);
    assert_eq!(trace.failures, ["0: division by zero in 10 / b"]);
}

/// All windows of a log by plain loops: lines as [`short`] gives them, and places of late rows.
fn reference(window: Window, log: &[LogRow], delay_us: i64) -> (Vec<String>, Vec<usize>) {
    let word = |row: &LogRow, n: usize| row.values.split(' ').nth(n).unwrap().to_string();
    let line = |row: usize, start: i64, end: i64, place: usize, time: i64| {
        let row = &log[row];
        format!("{} {} [{start} {end}) {place} {time}", word(row, 0), word(row, 1))
    };
    let mut greatest = i64::MIN;
    // The watermark before each place, and after it.
    let mut marks = vec![i64::MIN];
    for row in log {
        greatest = greatest.max(row.time);
        marks.push(greatest - delay_us);
    }
    marks.push(i64::MAX);
    let due = |end: i64| marks.iter().position(|m| *m >= end).unwrap() - 1;
    let (mut lines, mut late) = (Vec::new(), Vec::new());
    match window {
        Window::Hop { .. } | Window::Cumulate { .. } => {
            let (mut found, mut missing, mut taken) = (Vec::new(), Vec::new(), Vec::new());
            for end in -100..200 {
                let starts: Vec<i64> = match window {
                    Window::Hop { size_us, slide_us, offset_us } => (-100..200)
                        .filter(|s| (s - offset_us) % slide_us == 0 && s + size_us == end)
                        .collect(),
                    Window::Cumulate { size_us, step_us, offset_us } => (-100..200)
                        .filter(|s: &i64| (s - offset_us) % size_us == 0)
                        .filter(|s| end > *s && end <= s + size_us && (end - s) % step_us == 0)
                        .collect(),
                    _ => vec![],
                };
                for start in starts {
                    let within = |r: &usize| (start..end).contains(&log[*r].time);
                    let place = due(end);
                    let (rows, missed): (Vec<usize>, Vec<usize>) =
                        (0..log.len()).filter(within).partition(|r| *r <= place);
                    missing.extend(missed);
                    taken.extend(&rows);
                    found.push((end, start, place, rows));
                }
            }
            // Late is what no window has taken.
            late.extend(missing.into_iter().filter(|row| !taken.contains(row)));
            found.sort();
            for (end, start, place, rows) in found {
                lines.extend(rows.into_iter().map(|r| line(r, start, end, place, end - 1)));
            }
        }
        Window::Session { gap_us } => {
            let mut open: Vec<(String, Vec<usize>)> = Vec::new();
            let bounds = |rows: &[usize]| {
                let times = || rows.iter().map(|r| log[*r].time);
                (times().max().unwrap() + gap_us, times().min().unwrap())
            };
            for place in 0..=log.len() {
                if let Some(row) = log.get(place) {
                    let key = word(row, 0);
                    let touches = |(k, rows): &(String, Vec<usize>)| {
                        let (end, start) = bounds(rows);
                        *k == key && row.time <= end && row.time + gap_us >= start
                    };
                    let (near, far): (Vec<_>, Vec<_>) = open.into_iter().partition(touches);
                    open = far;
                    if near.is_empty() && row.time + gap_us < marks[place] {
                        late.push(place);
                    } else {
                        let rows = near.into_iter().flat_map(|(_, rows)| rows);
                        let mut rows: Vec<usize> = rows.chain([place]).collect();
                        rows.sort_unstable();
                        open.push((key, rows));
                    }
                }
                let closes = |(_, rows): &(String, Vec<usize>)| bounds(rows).0 < marks[place + 1];
                let (mut closed, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(closes);
                open = rest;
                closed.sort_by_key(|(_, rows)| (bounds(rows), rows[0]));
                for (_, rows) in closed {
                    let (end, start) = bounds(&rows);
                    lines.extend(rows.into_iter().map(|r| line(r, start, end, place, end - 1)));
                }
            }
        }
        Window::Count { size, slide } => {
            for place in 0..log.len() {
                let key = word(&log[place], 0);
                let same: Vec<usize> = (0..=place).filter(|r| word(&log[*r], 0) == key).collect();
                let count = same.len() as u64;
                if count >= size && (count - size).is_multiple_of(slide) {
                    let rows = &same[same.len() - size as usize..];
                    let (start, end) = (log[rows[0]].time, log[place].time);
                    let time = end.max(marks[place]);
                    lines.extend(rows.iter().map(|r| line(*r, start, end, place, time)));
                }
            }
        }
        Window::Unbounded => {}
    }
    late.sort_unstable();
    late.dedup();
    (lines, late)
}

fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1i64..4, 1i64..6, 0i64..6).prop_map(|(n, slide_us, offset_us)| Window::Hop {
            size_us: n * slide_us,
            slide_us,
            offset_us
        }),
        (1i64..4, 1i64..6, 0i64..6).prop_map(|(n, step_us, offset_us)| Window::Cumulate {
            size_us: n * step_us,
            step_us,
            offset_us
        }),
        (1i64..6).prop_map(|gap_us| Window::Session { gap_us }),
        (1u64..4, 1u64..5).prop_map(|(size, slide)| Window::Count { size, slide }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_agree_with_plain_loops_however_rows_are_batched(
        window in any_window(),
        delay in 0i64..6,
        rows in proptest::collection::vec((-8i64..8, "[xy]"), 1..25),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 25),
    ) {
        // Time goes on by about two units a row, with disorder.
        let lines: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, k))| format!("1 @{} {k} {i} 1 1", 2 * i as i64 + jitter))
            .collect();
        let log = log(&lines.join("\n"));
        let keys = match window {
            Window::Session { .. } | Window::Count { .. } => vec![col("k")],
            _ => vec![],
        };
        let plan = plan(window, keys, vec![], None, delay);
        let cuts = Cuts {
            cut: &|i| cuts[i][0],
            save: &|i| cuts[i][1],
            restart: &|i| cuts[i][2],
        };
        let trace = check_batching(&plan, &log, &cuts);
        let (lines, late) = reference(window, &log, delay);
        prop_assert_eq!(trace.rows.iter().map(|l| short(l)).collect::<Vec<_>>(), lines);
        let mut places: Vec<usize> =
            trace.late.iter().map(|l| l.split_once(':').unwrap().0.parse().unwrap()).collect();
        places.sort_unstable();
        prop_assert_eq!(places, late);
    }
}
