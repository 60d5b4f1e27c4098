use auspex_plan::nodes::{Retention, RetentionWindow};
use auspex_plan::{ContinuousQuery, OnError};
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, sum};
use datafusion::logical_expr::{Expr, col, lit};
use proptest::prelude::*;

use crate::replay::{Cuts, LogRow, check_batching, log, trace};
use crate::testing::{extend, query, timed};

fn plan(kept: Retention, keys: Vec<Expr>, aggregates: Vec<Expr>, delay_us: i64) -> ContinuousQuery {
    let node = |input| RetentionWindow::try_new(input, kept, keys, aggregates).unwrap();
    query(extend(timed(1, delay_us), node), OnError::DeadLetter)
}

#[track_caller]
fn check(plan: &ContinuousQuery, rows: &str, expected: &[&str]) {
    let trace = trace(plan, &log(rows));
    let all: Vec<String> = trace.rows.into_iter().chain(trace.late).chain(trace.failures).collect();
    assert_eq!(all, expected);
}

const ROWS: &str = "
    1 @1 x 5 0 1
    1 @2 y 3 0 1
    1 @3 x 4 0 1
    1 @9 x 1 0 1
    1 @9 y 7 0 1";

#[test]
fn length_keeps_the_last_rows_of_all_groups() {
    check(
        &plan(Retention::Length(3), vec![col("k")], vec![sum(col("a")), count(lit(1i64))], 0),
        ROWS,
        &[
            "x 5 0 1.0 5 1 | 0 1",
            "y 3 0 1.0 3 1 | 1 2",
            "x 4 0 1.0 9 2 | 2 3",
            "x 1 0 1.0 5 2 | 3 9",
            "y 7 0 1.0 7 1 | 4 9",
        ],
    );
}

#[test]
fn without_aggregates_the_rows_pass() {
    let expected = ["x 5 0 1.0 | 0 1", "y 3 0 1.0 | 1 2"];
    check(&plan(Retention::Length(1), vec![], vec![], 0), "1 @1 x 5 0 1\n1 @2 y 3 0 1", &expected);
}

#[test]
fn time_keeps_the_rows_of_the_last_interval_by_event_time() {
    check(
        &plan(Retention::Time(3), vec![], vec![sum(col("a"))], 2),
        "1 @1 x 1 0 1\n1 @4 x 2 0 1\n1 @3 x 4 0 1\n1 @5 x 8 0 1\n1 @2 x 16 0 1",
        &[
            "x 1 0 1.0 1 | 0 1",
            "x 2 0 1.0 2 | 1 4",
            // Out of order: the row at 1 still counts for it.
            "x 4 0 1.0 7 | 2 3",
            "x 8 0 1.0 14 | 3 5",
            "4: event time 1970-01-01 00:00:00.000002+00 is before the watermark \
             1970-01-01 00:00:00.000003+00",
        ],
    );
}

#[test]
fn sort_keeps_the_first_rows_in_order() {
    let order = vec![col("a").sort(true, false)];
    check(
        &plan(Retention::Sort(2, order), vec![], vec![sum(col("a")), max(col("a"))], 0),
        ROWS,
        &[
            "x 5 0 1.0 5 5 | 0 1",
            "y 3 0 1.0 8 5 | 1 2",
            "x 4 0 1.0 7 4 | 2 3",
            "x 1 0 1.0 4 3 | 3 9",
            // It is not to stay, but sees itself.
            "y 7 0 1.0 11 7 | 4 9",
        ],
    );
}

#[test]
fn unique_keeps_the_last_row_of_each_value() {
    check(
        &plan(Retention::Unique(vec![col("k")]), vec![], vec![sum(col("a")), count(col("a"))], 0),
        ROWS,
        &[
            "x 5 0 1.0 5 1 | 0 1",
            "y 3 0 1.0 8 2 | 1 2",
            "x 4 0 1.0 7 2 | 2 3",
            "x 1 0 1.0 4 2 | 3 9",
            "y 7 0 1.0 8 2 | 4 9",
        ],
    );
}

#[test]
fn a_length_batch_comes_with_the_row_that_completes_it() {
    check(
        &plan(Retention::LengthBatch(2), vec![], vec![], 0),
        ROWS,
        &["x 5 0 1.0 | 1 2", "y 3 0 1.0 | 1 2", "x 4 0 1.0 | 3 9", "x 1 0 1.0 | 3 9"],
    );
    check(
        &plan(Retention::LengthBatch(4), vec![col("k")], vec![sum(col("a"))], 0),
        ROWS,
        &["x 1 0 1.0 10 | 3 9", "y 3 0 1.0 3 | 3 9"],
    );
}

#[test]
fn a_time_batch_comes_when_the_watermark_passes_its_end() {
    check(
        &plan(Retention::TimeBatch(3), vec![], vec![sum(col("a"))], 0),
        ROWS,
        &["y 3 0 1.0 8 | 2 2", "x 4 0 1.0 4 | 3 5", "y 7 0 1.0 8 | 5 11"],
    );
    check(
        &plan(Retention::TimeBatch(5), vec![], vec![], 0),
        "1 @7 x 1 0 1\n1 @4 x 2 0 1\n1 @6 x 3 0 1",
        &[
            "x 1 0 1.0 | 3 9",
            "x 3 0 1.0 | 3 9",
            "1: event time 1970-01-01 00:00:00.000004+00 is too late for the period that ended at \
             1970-01-01 00:00:00.000005+00: the watermark is 1970-01-01 00:00:00.000007+00",
        ],
    );
}

#[test]
fn a_delayed_row_comes_later_in_event_time() {
    check(
        &plan(Retention::Delay(5), vec![], vec![], 0),
        "1 @7 x 1 0 1\n1 @4 x 2 0 1\n1 @12 x 3 0 1\n1 @3 x 4 0 1\n1 @20 x 5 0 1",
        &[
            "x 2 0 1.0 | 2 9",
            "x 1 0 1.0 | 2 12",
            "x 4 0 1.0 | 3 8",
            "x 3 0 1.0 | 4 17",
            "x 5 0 1.0 | 5 25",
        ],
    );
}

#[test]
fn a_row_whose_aggregate_overflows_is_refused() {
    let top = i64::MAX;
    check(
        &plan(Retention::Length(2), vec![], vec![sum(col("a"))], 0),
        &format!("1 @1 x {top} 0 1\n1 @2 x 1 0 1\n1 @3 x 2 0 1"),
        &[
            &format!("x {top} 0 1.0 {top} | 0 1"),
            "x 2 0 1.0 3 | 2 3",
            "1: value out of range in sum(a)",
        ],
    );
}

/// Aggregates by plain loops: lines as the operator gives them, and places of late rows.
fn reference(kept: &Retention, log: &[LogRow], delay_us: i64) -> (Vec<String>, Vec<usize>) {
    let key = |row: usize| log[row].values.split(' ').next().unwrap();
    let a = |row: usize| -> i64 { log[row].values.split(' ').nth(1).unwrap().parse().unwrap() };
    let (mut lines, mut late) = (Vec::new(), Vec::new());
    let (mut watermark, mut rows) = (i64::MIN, Vec::<usize>::new());
    for (place, row) in log.iter().enumerate() {
        let before = watermark;
        watermark = watermark.max(row.time - delay_us);
        if matches!(kept, Retention::Time(_)) && row.time < before {
            late.push(place);
            continue;
        }
        let mut seen: Vec<usize> = match kept {
            Retention::Length(n) => {
                rows.push(place);
                rows.drain(..rows.len().saturating_sub(*n as usize));
                rows.clone()
            }
            Retention::Time(us) => {
                rows.push(place);
                rows.iter().copied().filter(|r| log[*r].time > row.time - us).collect()
            }
            Retention::Sort(n, _) => {
                rows.push(place);
                rows.sort_by_key(|r| (a(*r), *r));
                rows.truncate(*n as usize);
                let itself = [place].into_iter().filter(|p| !rows.contains(p));
                rows.iter().copied().chain(itself).collect()
            }
            _ => {
                rows.retain(|r| a(*r) % 3 != a(place) % 3);
                rows.push(place);
                rows.clone()
            }
        };
        seen.retain(|r| key(*r) == key(place));
        let values: Vec<i64> = seen.iter().map(|r| a(*r)).collect();
        let total: i64 = values.iter().sum();
        lines.push(format!(
            "{} {} 1 0.1 {} {total} {} {} {:?} | {place} {}",
            key(place),
            a(place),
            values.len(),
            values.iter().min().unwrap(),
            values.iter().max().unwrap(),
            total as f64 / values.len() as f64,
            row.time
        ));
    }
    (lines, late)
}

fn any_kind() -> impl Strategy<Value = Retention> {
    prop_oneof![
        (1u64..8).prop_map(Retention::Length),
        (1i64..12).prop_map(Retention::Time),
        (1u64..5).prop_map(|n| Retention::Sort(n, vec![col("a").sort(true, false)])),
        Just(Retention::Unique(vec![col("a") % lit(3i64)])),
    ]
}

fn cuts_of(cuts: &[[bool; 3]], check: impl FnOnce(&Cuts)) {
    check(&Cuts { cut: &|i| cuts[i][0], save: &|i| cuts[i][1], restart: &|i| cuts[i][2] });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn aggregates_over_kept_rows_agree_with_plain_loops(
        kept in any_kind(),
        delay in 0i64..6,
        rows in proptest::collection::vec((-6i64..6, "[xy]", 0i64..9), 1..40),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 40),
    ) {
        let lines: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, k, a))| format!("1 @{} {k} {a} 1 0.1", 2 * i as i64 + jitter))
            .collect();
        let log = log(&lines.join("\n"));
        let a = || col("a");
        let aggregates = vec![count(a()), sum(a()), min(a()), max(a()), avg(a())];
        let plan = plan(kept.clone(), vec![col("k")], aggregates, delay);
        let (lines, late) = reference(&kept, &log, delay);
        cuts_of(&cuts, |cuts| {
            let trace = check_batching(&plan, &log, cuts);
            assert_eq!(trace.rows, lines);
            let places = trace.late.iter().map(|l| l.split_once(':').unwrap().0.parse().unwrap());
            let mut places: Vec<usize> = places.collect();
            places.sort_unstable();
            assert_eq!(places, late);
        });
    }

    /// Sums of floats depend on the order of additions, and that must not depend on restarts.
    #[test]
    fn sums_of_floats_survive_restarts_to_the_last_bit(
        kept in any_kind(),
        rows in proptest::collection::vec((-6i64..6, -1.0f64..1.0), 1..40),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 40),
    ) {
        let lines: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, v))| format!("1 @{} x {i} 1 {v}", 2 * i as i64 + jitter))
            .collect();
        let plan = plan(kept, vec![], vec![sum(col("v"))], 3);
        cuts_of(&cuts, |cuts| drop(check_batching(&plan, &log(&lines.join("\n")), cuts)));
    }

    #[test]
    fn batches_and_delays_do_not_depend_on_batching(
        kind in 0usize..3,
        n in 1i64..8,
        aggregate in any::<bool>(),
        rows in proptest::collection::vec((-8i64..8, "[xy]", -1.0f64..1.0), 1..30),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 30),
    ) {
        let lines: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(i, (jitter, k, v))| format!("1 @{} {k} {i} 1 {v}", 2 * i as i64 + jitter))
            .collect();
        let kept = [
            Retention::LengthBatch(n as u64),
            Retention::TimeBatch(n),
            Retention::Delay(n),
        ][kind].clone();
        let aggregates = if aggregate && kind < 2 { vec![sum(col("v"))] } else { vec![] };
        let plan = plan(kept, vec![col("k")], aggregates, 3);
        cuts_of(&cuts, |cuts| drop(check_batching(&plan, &log(&lines.join("\n")), cuts)));
    }
}
