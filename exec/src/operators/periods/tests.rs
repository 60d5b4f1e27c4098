use auspex_plan::nodes::{OutputEvery, OutputMode, OutputRate};
use auspex_plan::{ContinuousQuery, OnError};
use datafusion::logical_expr::{Expr, col};
use proptest::prelude::*;

use crate::replay::{Cuts, LogRow, check_batching, log, trace};
use crate::testing::{extend, query, timed};

fn plan(mode: OutputMode, every: OutputEvery, keys: Vec<Expr>, delay_us: i64) -> ContinuousQuery {
    let node = |input| OutputRate { input, mode, every, keys };
    query(extend(timed(1, delay_us), node), OnError::DeadLetter)
}

#[track_caller]
fn check(mode: OutputMode, every: OutputEvery, keys: Vec<Expr>, rows: &str, expected: &[&str]) {
    assert_eq!(trace(&plan(mode, every, keys, 0), &log(rows)).rows, expected);
}

const ROWS: &str = "
    1 @1 x 1 0 1
    1 @2 y 2 0 1
    1 @3 x 3 0 1
    1 @9 x 4 0 1
    1 @8 y 5 0 1
    1 @23 x 6 0 1";

#[test]
fn all_rows_come_together_at_the_end_of_the_period() {
    check(
        OutputMode::All,
        OutputEvery::Rows(4),
        vec![],
        ROWS,
        &["x 1 0 1.0 | 3 9", "y 2 0 1.0 | 3 9", "x 3 0 1.0 | 3 9", "x 4 0 1.0 | 3 9"],
    );
    check(
        OutputMode::All,
        OutputEvery::Time(5),
        vec![],
        ROWS,
        &[
            "x 1 0 1.0 | 3 4",
            "y 2 0 1.0 | 3 4",
            "x 3 0 1.0 | 3 4",
            "x 4 0 1.0 | 5 9",
            "y 5 0 1.0 | 5 9",
            "x 6 0 1.0 | 6 24",
        ],
    );
}

#[test]
fn the_first_row_of_each_key_comes_at_once() {
    let keys = || vec![col("k")];
    check(
        OutputMode::First,
        OutputEvery::Rows(3),
        keys(),
        ROWS,
        &["x 1 0 1.0 | 0 1", "y 2 0 1.0 | 1 2", "x 4 0 1.0 | 3 9", "y 5 0 1.0 | 4 8"],
    );
    check(
        OutputMode::First,
        OutputEvery::Time(10),
        keys(),
        ROWS,
        &["x 1 0 1.0 | 0 1", "y 2 0 1.0 | 1 2", "x 6 0 1.0 | 5 23"],
    );
}

#[test]
fn the_last_row_of_each_key_comes_at_the_end_of_the_period() {
    check(
        OutputMode::Last,
        OutputEvery::Rows(3),
        vec![col("k")],
        ROWS,
        &["x 3 0 1.0 | 2 3", "y 2 0 1.0 | 2 3", "x 6 0 1.0 | 5 23", "y 5 0 1.0 | 5 23"],
    );
    check(
        OutputMode::Last,
        OutputEvery::Time(10),
        vec![],
        ROWS,
        &["y 5 0 1.0 | 5 9", "x 6 0 1.0 | 6 29"],
    );
}

#[test]
fn a_snapshot_has_the_last_row_of_each_key_ever() {
    check(
        OutputMode::Snapshot,
        OutputEvery::Time(5),
        vec![col("k")],
        ROWS,
        &[
            "x 3 0 1.0 | 3 4",
            "y 2 0 1.0 | 3 4",
            "x 4 0 1.0 | 5 9",
            "y 5 0 1.0 | 5 9",
            "x 6 0 1.0 | 6 24",
            "y 5 0 1.0 | 6 24",
        ],
    );
    check(
        OutputMode::Snapshot,
        OutputEvery::Rows(2),
        vec![col("k")],
        ROWS,
        &[
            "x 1 0 1.0 | 1 2",
            "y 2 0 1.0 | 1 2",
            "x 4 0 1.0 | 3 9",
            "y 2 0 1.0 | 3 9",
            "x 6 0 1.0 | 5 23",
            "y 5 0 1.0 | 5 23",
        ],
    );
}

/// Output by plain loops.
fn reference(mode: OutputMode, every: OutputEvery, log: &[LogRow], delay_us: i64) -> Vec<String> {
    let key = |row: usize| log[row].values.split(' ').next().unwrap();
    let line =
        |row: usize, place: usize, time: i64| format!("{} | {place} {time}", log[row].values);
    // The watermark before each place, and after the last.
    let mut marks = vec![i64::MIN];
    for row in log {
        marks.push((*marks.last().unwrap()).max(row.time - delay_us));
    }
    marks.push(i64::MAX);
    // Rows, place and event time of each period, in the order of their ends.
    let mut periods: Vec<(Vec<usize>, usize, i64)> = Vec::new();
    match every {
        OutputEvery::Rows(n) => {
            let n = n as usize;
            for end in (n..=log.len()).step_by(n) {
                let time = log[end - 1].time.max(marks[end - 1]);
                periods.push(((end - n..end).collect(), end - 1, time));
            }
            if mode == OutputMode::First && !log.len().is_multiple_of(n) {
                periods.push(((log.len() / n * n..log.len()).collect(), 0, 0));
            }
        }
        OutputEvery::Time(us) => {
            for end in (-100 * us..100 * us).filter(|end| end % us == 0) {
                let place = marks.iter().position(|m| *m >= end).unwrap() - 1;
                let within = |r: &usize| (end - us..end).contains(&log[*r].time);
                let rows: Vec<usize> =
                    (0..log.len()).filter(within).filter(|r| *r <= place).collect();
                if !rows.is_empty() {
                    periods.push((rows, place, end - 1));
                }
            }
        }
    }
    let lasts = |rows: &[usize]| {
        let mut lasts: Vec<usize> = Vec::new();
        for row in rows {
            match lasts.iter_mut().find(|l| key(**l) == key(*row)) {
                Some(last) => *last = *row,
                None => lasts.push(*row),
            }
        }
        lasts
    };
    let (mut lines, mut ever, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    for (rows, place, time) in periods {
        let given = match mode {
            OutputMode::All => rows,
            OutputMode::Last => lasts(&rows),
            OutputMode::Snapshot => {
                ever.extend(lasts(&rows));
                lasts(&ever)
            }
            OutputMode::First => {
                let earlier = |r: &usize| rows.iter().any(|e| e < r && key(*e) == key(*r));
                firsts.extend(rows.iter().filter(|r| !earlier(r)));
                vec![]
            }
        };
        lines.extend(given.into_iter().map(|r| line(r, place, time)));
    }
    firsts.sort_unstable();
    lines.extend(firsts.into_iter().map(|r: usize| line(r, r, log[r].time)));
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn periods_agree_with_plain_loops_however_rows_are_batched(
        mode in prop_oneof![
            Just(OutputMode::All),
            Just(OutputMode::First),
            Just(OutputMode::Last),
            Just(OutputMode::Snapshot)
        ],
        by_time in any::<bool>(),
        n in 1i64..9,
        delay in 0i64..6,
        rows in proptest::collection::vec((-8i64..8, "[xyz]"), 1..30),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 30),
    ) {
        let lines: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, k))| format!("1 @{} {k} {i} 1 1.0", 2 * i as i64 + jitter))
            .collect();
        let log = log(&lines.join("\n"));
        let every = if by_time { OutputEvery::Time(n) } else { OutputEvery::Rows(n as u64) };
        let cuts = Cuts {
            cut: &|i| cuts[i][0],
            save: &|i| cuts[i][1],
            restart: &|i| cuts[i][2],
        };
        let trace = check_batching(&plan(mode, every, vec![col("k")], delay), &log, &cuts);
        prop_assert_eq!(trace.rows, reference(mode, every, &log, delay));
    }
}
