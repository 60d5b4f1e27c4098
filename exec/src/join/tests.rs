//! Joins against all pairs of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::nodes::{JoinTime, StreamJoin};
use auspex_plan::{Clock, ContinuousQuery, OnError, StreamRelation};
use auspex_storage::{EventBatch, Run};
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, col, lit};
use proptest::prelude::*;

use crate::clocks::Clocks;
use crate::progress::Progress;
use crate::reorder::{is_late, too_late};
use crate::replay::{Cuts, LogRow, Trace, check_batching, log, trace};
use crate::testing::{query, rows, schema};

const KINDS: [JoinType; 6] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::LeftAnti,
];

/// A join of the streams 1 and 2, as a test describes it.
#[derive(Debug, Clone)]
struct Case {
    kind: JoinType,
    time: JoinTime,
    /// How far the watermarks of both streams lag behind, and when they are idle.
    delay_us: i64,
    idle_timeout_us: i64,
    key: &'static str,
    filter: Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    None,
    /// `s1.b <= s2.b`
    NotLess,
    /// `10 / (s1.b - s2.b) > 0`
    Failing,
}

impl Filter {
    fn expr(self) -> Option<Expr> {
        match self {
            Filter::None => None,
            Filter::NotLess => Some(col("s1.b").lt_eq(col("s2.b"))),
            Filter::Failing => Some((lit(10i64) / (col("s1.b") - col("s2.b"))).gt(lit(0i64))),
        }
    }

    /// Whether two values of `b` are partners, an error when it fails.
    fn holds(self, left: i64, right: i64) -> Result<bool, ()> {
        match self {
            Filter::None => Ok(true),
            Filter::NotLess => Ok(left <= right),
            Filter::Failing if left == right => Err(()),
            Filter::Failing => Ok(10 / (left - right) > 0),
        }
    }
}

impl Case {
    fn clock(&self, stream: u32) -> Clock {
        let (delay_us, idle_timeout_us) = (self.delay_us, self.idle_timeout_us);
        Clock { stream, delay_us, arrival: false, idle_timeout_us }
    }

    fn query(&self) -> ContinuousQuery {
        let scan = |id: u32| {
            let name = format!("s{id}");
            let clocks = vec![self.clock(id)];
            let relation = StreamRelation::new(id, name.clone(), &schema(), clocks, false);
            let scan = LogicalPlanBuilder::scan(name, Arc::new(relation), None);
            scan.unwrap().build().unwrap()
        };
        let on = vec![(col(format!("s1.{}", self.key)), col(format!("s2.{}", self.key)))];
        joined(scan(1), scan(2), self.kind, self.time, on, self.filter.expr(), vec![])
    }

    /// The watermarks of both streams and of both together over a whole log.
    fn progress(&self, log: &[LogRow]) -> [Progress; 3] {
        let inputs: Vec<Vec<EventBatch>> = [1, 2]
            .map(|stream| {
                let of = log.iter().enumerate().filter(|(_, row)| row.stream == stream);
                let batch = |(place, row): (usize, &LogRow)| EventBatch {
                    rows: rows(&row.values),
                    offset: 0,
                    sequence: Run::Constant(place as i64),
                    time: Run::Constant(row.time),
                    ingested: Run::Constant(1000 + place as i64),
                };
                of.map(batch).collect()
            })
            .into();
        let leaves = vec![vec![self.clock(1)], vec![self.clock(2)]];
        let mut clocks = Clocks::new(leaves, |stream| Some(stream as usize - 1), None).unwrap();
        let [left, right] =
            <[Progress; 2]>::try_from(clocks.step(&inputs, Some(log.len() as i64))).unwrap();
        let both = Progress::least(&[&left, &right], i64::MIN);
        [left, right, both]
    }

    /// What must come out: from the definitions, by all pairs.
    fn expected(&self, log: &[LogRow]) -> Trace {
        let progress = self.progress(log);
        let all = &progress[2];
        let mut trace = Trace::default();
        let mut on_time: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        for (place, row) in log.iter().enumerate() {
            let (place, side) = (place as i64, row.stream as usize - 1);
            let reached = all.at(place).max(progress[side].at(place));
            if is_late(row.time, reached) {
                trace.late.push(format!("{place}: {}", too_late(row.time, reached)));
                continue;
            }
            on_time[side].push(Row::new(place, row, self.key));
        }
        let end = log.len() as i64;
        let mut found = match self.time {
            JoinTime::Interval { lower_us, upper_us } => {
                self.interval(&on_time, lower_us, upper_us, all, &mut trace)
            }
            JoinTime::AsOf { strict, tolerance_us } => {
                self.as_of(&on_time, strict, tolerance_us, all)
            }
            JoinTime::Lookup => unreachable!("has its own test"),
        };
        found.sort();
        for (place, _, (values, time)) in found {
            trace.rows.push(format!("{values} | {place} {time}"));
            trace.ingested.push(1000 + place.min(end - 1));
        }
        trace.late.sort();
        trace.failures.sort();
        trace
    }

    fn interval(
        &self,
        on_time: &[Vec<Row>; 2],
        lower: i64,
        upper: i64,
        all: &Progress,
        trace: &mut Trace,
    ) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut matched: [Vec<bool>; 2] = on_time.each_ref().map(|rows| vec![false; rows.len()]);
        let mut pairs = Vec::new();
        for (l, left) in on_time[0].iter().enumerate() {
            for (r, right) in on_time[1].iter().enumerate() {
                let difference = i128::from(right.time) - i128::from(left.time);
                let near = (i128::from(lower)..=i128::from(upper)).contains(&difference);
                if !near || left.key.is_none() || left.key != right.key {
                    continue;
                }
                let (a, b) = (left.order(0), right.order(1));
                let later = a.max(b);
                let row = if a > b { left } else { right };
                pairs.push((later, a.min(b), [l, r], row.place, row.released(row.time, all)));
            }
        }
        pairs.sort_unstable();
        for (later, earlier, [l, r], row, place) in pairs {
            let (left, right) = (&on_time[0][l], &on_time[1][r]);
            match self.filter.holds(left.b, right.b) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(()) => {
                    trace.failures.push(format!("{row}: division by zero in 10 / s1.b - s2.b > 0"));
                    continue;
                }
            }
            let first = !std::mem::replace(&mut matched[0][l], true);
            matched[1][r] = true;
            let text = match self.kind {
                JoinType::LeftAnti => continue,
                JoinType::LeftSemi if !first => continue,
                JoinType::LeftSemi => left.values.clone(),
                _ => format!("{} {}", left.values, right.values),
            };
            found.push((place, (0, later, earlier), (text, later.0)));
        }
        use JoinType::{Full, Left, LeftAnti, Right};
        let outer =
            [matches!(self.kind, Left | Full | LeftAnti), matches!(self.kind, Right | Full)];
        let reach = [i128::from(upper), -i128::from(lower)];
        for side in 0..2 {
            for (row, matched) in on_time[side].iter().zip(&matched[side]) {
                if !outer[side] || *matched {
                    continue;
                }
                let beyond = (i128::from(row.time) + reach[side] + 1).min(i128::from(i64::MAX));
                let place =
                    row.released(row.time.max(i64::try_from(beyond).unwrap_or(i64::MIN)), all);
                let text = match (side, self.kind) {
                    (0, LeftAnti) => row.values.clone(),
                    (0, _) => format!("{} - - - -", row.values),
                    _ => format!("- - - - {}", row.values),
                };
                found.push((place, (1, row.order(side), (0, 0, side)), (text, row.time)));
            }
        }
        // Rows that remain alone come by time, then side, then place.
        for row in found.iter_mut().filter(|row| row.1.0 == 1) {
            let (time, place, side) = row.1.1;
            row.1.1 = (time, side as i64, place as usize);
        }
        found
    }

    fn as_of(
        &self,
        on_time: &[Vec<Row>; 2],
        strict: bool,
        tolerance: Option<i64>,
        all: &Progress,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        for left in &on_time[0] {
            let earlier = on_time[1].iter().filter(|right| {
                let age = i128::from(left.time) - i128::from(right.time);
                age >= i128::from(strict)
                    && tolerance.is_none_or(|most| age <= i128::from(most))
                    && left.key.is_some()
                    && left.key == right.key
            });
            let text = match earlier.max_by_key(|right| (right.time, right.place)) {
                Some(right) => format!("{} {}", left.values, right.values),
                None if self.kind == JoinType::Left => format!("{} - - - -", left.values),
                None => continue,
            };
            let due = if strict { left.time } else { left.time.saturating_add(1) };
            let place = left.released(due, all);
            found.push((place, (0, left.order(0), (0, 0, 0)), (text, left.time)));
        }
        found
    }
}

/// Event time, place, side.
type Order = (i64, i64, usize);

/// Place, order among the rows of that place, values and event time.
type Found = (i64, (u8, Order, Order), (String, i64));

struct Row {
    place: i64,
    time: i64,
    key: Option<String>,
    b: i64,
    values: String,
}

impl Row {
    fn new(place: i64, row: &LogRow, key: &str) -> Row {
        let words: Vec<&str> = row.values.split(' ').collect();
        let word = words["kabv".find(key).unwrap()];
        // Equal numbers are equal keys, however they are written.
        let word = if word == "-0.0" { "0.0" } else { word.trim_start_matches('-') };
        Row {
            place,
            time: row.time,
            key: Some(word.to_string()).filter(|word| !word.is_empty()),
            b: words[2].parse().unwrap(),
            values: crate::testing::text(&rows(&row.values)).remove(0),
        }
    }

    fn order(&self, side: usize) -> Order {
        (self.time, self.place, side)
    }

    /// Where the watermark has come to a time, from the row's place on.
    fn released(&self, time: i64, all: &Progress) -> i64 {
        if all.at(self.place) >= time {
            return self.place;
        }
        let step = all.first_reaching(time, 0).map(|step| all.steps()[step].sequence);
        self.place.max(step.unwrap())
    }
}

fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    kind: JoinType,
    time: JoinTime,
    on: Vec<(Expr, Expr)>,
    filter: Option<Expr>,
    identity: Vec<Expr>,
) -> ContinuousQuery {
    let join = StreamJoin::try_new(left, right, kind, time, on, filter, identity).unwrap();
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(join) });
    query(LogicalPlanBuilder::from(plan), OnError::DeadLetter)
}

/// Checks rows only, with regular cuts.
#[track_caller]
fn check(case: &Case, text: &str, expected: &[&str]) {
    let log = log(text);
    let trace = trace(&case.query(), &log);
    assert_eq!(trace.rows, expected);
    assert_eq!(trace, case.expected(&log));
}

fn case(kind: JoinType, time: JoinTime) -> Case {
    let idle_timeout_us = Clock::IDLE_TIMEOUT_US;
    Case { kind, time, delay_us: 0, idle_timeout_us, key: "k", filter: Filter::None }
}

fn within(us: i64) -> JoinTime {
    JoinTime::Interval { lower_us: -us, upper_us: us }
}

#[test]
fn the_bounds_are_inclusive() {
    let log = "
        1 @0 o1 10 0 0
        2 @1000 o2 20 0 0
        2 @5000 o1 10 0 0
        1 @6000 o2 20 0 0
        1 @10000 o3 30 0 0
        2 @15001 o3 30 0 0
    ";
    check(
        &case(JoinType::Inner, within(5000)),
        log,
        &["o1 10 0 0.0 o1 10 0 0.0 | 3 5000", "o2 20 0 0.0 o2 20 0 0.0 | 5 6000"],
    );
}

#[test]
fn every_pair_comes_once_with_earlier_partners_first() {
    let log = "
        1 @0 x 1 0 0
        2 @1 x 2 0 0
        2 @2 x 3 0 0
        1 @3 x 4 0 0
        1 @4 y 5 0 0
        2 @11 x 6 0 0
    ";
    let case = case(JoinType::Inner, within(10));
    let rows = trace(&case.query(), &self::log(log)).rows;
    let pairs: Vec<String> = rows
        .iter()
        .map(|row| {
            let words: Vec<&str> = row.split(' ').collect();
            format!("{} {} at {}", words[1], words[5], words[9])
        })
        .collect();
    assert_eq!(pairs, ["1 2 at 3", "1 3 at 3", "4 2 at 5", "4 3 at 5", "4 6 at 6"]);
}

#[test]
fn rows_without_a_partner_come_when_there_can_be_none() {
    let log = "
        1 @10 x 1 0 0
        2 @12 y 2 0 0
        1 @15 - 3 0 0
        2 @15 - 4 0 0
        1 @16 y 5 0 0
        2 @17 z 6 0 0
        1 @30 z 7 0 0
    ";
    let full = case(JoinType::Full, JoinTime::Interval { lower_us: -4, upper_us: 2 });
    check(
        &full,
        log,
        &[
            "x 1 0 0.0 - - - - | 3 10",
            "y 5 0 0.0 y 2 0 0.0 | 5 16",
            "- 3 0 0.0 - - - - | 7 15",
            "- - - - - 4 0 0.0 | 7 15",
            "- - - - z 6 0 0.0 | 7 17",
            "z 7 0 0.0 - - - - | 7 30",
        ],
    );
}

#[test]
fn semi_and_anti_joins_give_left_rows_once() {
    let log = "
        1 @1 x 1 0 0
        2 @2 x 2 0 0
        2 @3 x 3 0 0
        1 @3 x 4 0 0
        1 @4 y 5 0 0
        2 @9 q 6 0 0
    ";
    check(&case(JoinType::LeftSemi, within(3)), log, &["x 1 0 0.0 | 3 2", "x 4 0 0.0 | 3 3"]);
    check(&case(JoinType::LeftAnti, within(3)), log, &["y 5 0 0.0 | 6 4"]);
}

#[test]
fn the_latest_row_counts_and_of_one_time_the_last() {
    let log = "
        2 @1 x 1 0 0
        1 @5 x 2 0 0
        2 @5 x 3 0 0
        2 @5 x 4 0 0
        1 @6 y 5 0 0
        1 @9 x 6 0 0
        2 @9 x 7 0 0
    ";
    let as_of =
        |strict, tolerance_us| case(JoinType::Left, JoinTime::AsOf { strict, tolerance_us });
    check(
        &as_of(false, None),
        log,
        &["x 2 0 0.0 x 4 0 0.0 | 6 5", "y 5 0 0.0 - - - - | 6 6", "x 6 0 0.0 x 7 0 0.0 | 7 9"],
    );
    check(
        &as_of(true, Some(3)),
        log,
        &["x 2 0 0.0 - - - - | 2 5", "y 5 0 0.0 - - - - | 6 6", "x 6 0 0.0 - - - - | 6 9"],
    );
}

#[test]
fn nan_equals_nan_zeros_are_one_and_null_equals_nothing() {
    let log = "
        1 @1 a 1 0 NaN
        1 @1 b 2 0 -0.0
        1 @1 c 3 0 -
        2 @1 d 4 0 NaN
        2 @1 e 5 0 0.0
        2 @1 f 6 0 -
    ";
    let case = Case { key: "v", ..case(JoinType::Inner, within(0)) };
    let rows = trace(&case.query(), &self::log(log)).rows;
    let keys: Vec<(&str, &str)> =
        rows.iter().map(|row| (&row[..1], row.split(' ').nth(4).unwrap())).collect();
    assert_eq!(keys, [("a", "d"), ("b", "e")]);
}

#[test]
fn late_rows_are_left_out_with_a_reason() {
    let log = "
        1 @10 x 1 0 0
        2 @10 x 2 0 0
        2 @12 x 3 0 0
        2 @11 x 4 0 0
    ";
    let trace = trace(&case(JoinType::Inner, within(5)).query(), &self::log(log));
    assert_eq!(trace.rows.len(), 2);
    assert_eq!(
        trace.late,
        ["3: event time 1970-01-01 00:00:00.000011+00 is before the watermark \
          1970-01-01 00:00:00.000012+00"]
    );
}

/// Values of long and short keys, nulls among them.
fn row_values(key: usize, place: usize, b: i64) -> String {
    let keys = ["-", "x", "y", "a_key_of_more_than_twelve_bytes", "another_key_of_such_a_length"];
    let floats = ["-", "NaN", "1.5", "0.0", "-0.0"];
    format!("{} {place} {b} {}", keys[key], floats[key])
}

fn bounds() -> impl Strategy<Value = JoinTime> {
    prop_oneof![
        6 => (-6i64..6, 0i64..8).prop_map(|(lower_us, more)| {
            JoinTime::Interval { lower_us, upper_us: lower_us + more }
        }),
        1 => Just(JoinTime::Interval { lower_us: i64::MIN, upper_us: i64::MAX }),
        3 => (any::<bool>(), proptest::option::of(0i64..6))
            .prop_map(|(strict, tolerance_us)| JoinTime::AsOf { strict, tolerance_us }),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let filters = [Filter::None, Filter::NotLess, Filter::Failing];
    let filter = proptest::sample::select(filters.to_vec());
    let idle = prop_oneof![Just(Clock::IDLE_TIMEOUT_US), 3i64..8];
    let key = proptest::sample::select(vec!["k", "v"]);
    (bounds(), 0..6usize, 0i64..6, idle, key, filter).prop_map(
        |(time, kind, delay_us, idle_timeout_us, key, filter)| match time {
            JoinTime::AsOf { .. } => {
                let (kind, filter) = (KINDS[kind % 2], Filter::None);
                Case { kind, time, delay_us, idle_timeout_us, key, filter }
            }
            _ => Case { kind: KINDS[kind], time, delay_us, idle_timeout_us, key, filter },
        },
    )
}

/// Times with disorder within and beyond the delay, or at the limits.
fn times() -> impl Strategy<Value = Vec<i64>> {
    let near = proptest::collection::vec(-5i64..5, 1..40).prop_map(|times| {
        times.into_iter().enumerate().map(|(i, time)| i as i64 / 2 + time).collect::<Vec<i64>>()
    });
    let limits = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let far = proptest::collection::vec(proptest::sample::select(limits.to_vec()), 1..20);
    prop_oneof![4 => near, 1 => far]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn joins_agree_with_all_pairs(
        case in cases(),
        times in times(),
        rows in proptest::collection::vec((1u32..3, 0usize..5, 0i64..3), 40),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 40),
    ) {
        let log: Vec<LogRow> = times
            .iter()
            .zip(&rows)
            .enumerate()
            .map(|(place, (time, (stream, key, b)))| LogRow {
                stream: *stream,
                time: *time,
                values: row_values(*key, place, *b),
            })
            .collect();
        let cuts = Cuts {
            cut: &|i| cuts[i][0],
            save: &|i| cuts[i][1],
            restart: &|i| cuts[i][2],
        };
        let trace = check_batching(&case.query(), &log, &cuts);
        prop_assert_eq!(trace, case.expected(&log));
    }
}

/// A look-up of `s1.k` in the rows of relation 2 that are told apart by `a`.
fn lookup(kind: JoinType, filter: Filter) -> ContinuousQuery {
    let left = crate::testing::stream(1).build().unwrap();
    let changes = StreamRelation::changes(2, "s2", &schema());
    let right = LogicalPlanBuilder::scan("s2", Arc::new(changes), None).unwrap().build().unwrap();
    let on = vec![(col("s1.k"), col("s2.k"))];
    joined(left, right, kind, JoinTime::Lookup, on, filter.expr(), vec![col("s2.a")])
}

#[test]
fn a_look_up_sees_the_relation_at_the_rows_place() {
    let log = log("
        1 @9 x 1 0 0
        2 @0 x 7 1 0 I
        2 @0 x 8 2 0 I
        1 @3 x 2 0 0
        2 @0 x 7 3 0 U
        1 @1 x 3 0 0
        2 @0 x 7 0 0 D
        1 @4 x 4 0 0
        2 @0 x 7 5 0 I
        2 @0 y 8 6 0 U
        1 @4 x 5 0 0
        1 @4 - 6 0 0
    ");
    assert_eq!(
        trace(&lookup(JoinType::Left, Filter::None), &log).rows,
        [
            "x 1 0 0.0 - - - - - | 0 9",
            "x 2 0 0.0 x 7 1 0.0 I | 3 3",
            "x 2 0 0.0 x 8 2 0.0 I | 3 3",
            "x 3 0 0.0 x 7 3 0.0 U | 5 1",
            "x 3 0 0.0 x 8 2 0.0 I | 5 1",
            "x 4 0 0.0 x 8 2 0.0 I | 7 4",
            "x 5 0 0.0 x 7 5 0.0 I | 10 4",
            "- 6 0 0.0 - - - - - | 11 4",
        ]
    );
}

/// What a look-up gives, by the definition.
fn expected_lookup(kind: JoinType, filter: Filter, log: &[LogRow]) -> (Vec<String>, Vec<String>) {
    // By identity: when it first came, key, b, text.
    let mut relation: BTreeMap<String, (usize, String, i64, String)> = BTreeMap::new();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for (place, row) in log.iter().enumerate() {
        let words: Vec<&str> = row.values.split(' ').collect();
        let text = crate::testing::text(&rows(&row.values)).remove(0);
        let b: i64 = words[2].parse().unwrap();
        if row.stream == 2 {
            let first = relation.remove(words[1]).map_or(place, |former| former.0);
            if words[4] != "D" {
                relation.insert(words[1].into(), (first, words[0].into(), b, text));
            }
            continue;
        }
        let mut matches: Vec<_> = relation
            .values()
            .filter(|(_, key, ..)| key == words[0] && key != "-")
            .filter(|(_, _, other, _)| {
                filter.holds(b, *other).unwrap_or_else(|()| {
                    let what = "division by zero in 10 / s1.b - s2.b > 0";
                    failures.push(format!("{place}: {what}"));
                    false
                })
            })
            .collect();
        matches.sort();
        let mut give = |values: String| found.push(format!("{values} | {place} {}", row.time));
        match kind {
            JoinType::LeftSemi if !matches.is_empty() => give(text),
            JoinType::LeftAnti if matches.is_empty() => give(text),
            JoinType::LeftSemi | JoinType::LeftAnti => {}
            JoinType::Left if matches.is_empty() => give(format!("{text} - - - - -")),
            _ => matches.iter().for_each(|(.., right)| give(format!("{text} {right}"))),
        }
    }
    failures.sort();
    (found, failures)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn look_ups_agree_with_a_map(
        kind in proptest::sample::select(vec![
            JoinType::Inner, JoinType::Left, JoinType::LeftSemi, JoinType::LeftAnti,
        ]),
        filter in proptest::sample::select(vec![Filter::None, Filter::NotLess, Filter::Failing]),
        rows in proptest::collection::vec((1u32..3, 0usize..5, 0i64..4, 0i64..3, "[IUD]"), 1..40),
        cuts in proptest::collection::vec(any::<[bool; 3]>(), 40),
    ) {
        let log: Vec<LogRow> = rows
            .iter()
            .enumerate()
            .map(|(place, (stream, key, identity, b, op))| {
                let left = row_values(*key, place, *b);
                let right = row_values(*key, usize::try_from(*identity).unwrap(), *b);
                let values = if *stream == 1 { left } else { format!("{right} {op}") };
                LogRow { stream: *stream, time: 5, values }
            })
            .collect();
        let cuts = Cuts {
            cut: &|i| cuts[i][0],
            save: &|i| cuts[i][1],
            restart: &|i| cuts[i][2],
        };
        let trace = check_batching(&lookup(kind, filter), &log, &cuts);
        prop_assert_eq!((trace.rows, trace.failures), expected_lookup(kind, filter, &log));
    }
}
