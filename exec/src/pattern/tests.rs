//! The operator against [`super::reference`], and what the reference does not see: order, limits,
//! failures.

use arrow::datatypes::{DataType, Field};
use auspex_plan::nodes::StreamPattern;
use auspex_plan::pattern::{
    Accessor, AfterMatch, Automaton, Conjunct, Get, MAX_MATCHES, Measure, Not, Part, Pattern, Step,
    Strategy, Test,
};
use auspex_plan::{ContinuousQuery, OnError};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, col, lit};
use std::sync::Arc;

use super::reference::{Means, Row, Search, When, matches};
use crate::replay::{Cuts, LogRow, check_batching, replay};
use crate::testing::{query, timed};

/// Disorder that the streams allow.
const DELAY: i64 = 3;

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    /// Away from the seed.
    fn warm(&mut self) {
        for _ in 0..8 {
            self.roll(2);
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// Makes a pattern.
struct Maker {
    dice: Dice,
    steps: Vec<Means>,
    nots: Vec<(Means, Option<i64>)>,
    untils: Vec<Means>,
}

impl Maker {
    fn means(&mut self) -> Means {
        let stream = self.dice.roll(2) as usize;
        let mut values: Vec<i64> = (0..4).filter(|_| self.dice.chance(45)).collect();
        if values.is_empty() {
            values.push(self.dice.roll(4) as i64);
        }
        let when = if self.dice.chance(8) { vec![] } else { vec![When::Is(values)] };
        Means { stream, when }
    }

    /// A condition over the rows of steps before this one.
    fn relate(&mut self, means: &mut Means, own: Option<usize>) {
        let before = own.unwrap_or(self.steps.len()) as u64;
        let earlier = |dice: &mut Dice| dice.roll(before) as usize;
        let more = match (self.dice.roll(9), own) {
            (0, _) if before > 0 => When::Above(earlier(&mut self.dice)),
            (1, _) if before > 0 => When::AsFirst(earlier(&mut self.dice)),
            (2 | 3, Some(own)) => When::Rising(own),
            (4, _) if before > 0 => {
                When::SumBelow(earlier(&mut self.dice), self.dice.roll(6) as i64)
            }
            (5, Some(own)) => When::Fewer(own, 1 + self.dice.roll(3) as i64),
            _ => return,
        };
        means.when.push(more);
    }

    fn step(&mut self) -> Part {
        let mut means = self.means();
        let own = self.steps.len();
        self.relate(&mut means, Some(own));
        self.steps.push(means);
        Part::Step(own)
    }

    fn not(&mut self, related: bool) -> Part {
        let mut means = self.means();
        if related {
            self.relate(&mut means, None);
        }
        let within = self.dice.chance(20).then(|| self.dice.roll(5) as i64);
        self.nots.push((means, within));
        Part::Not(self.nots.len() - 1)
    }

    fn part(&mut self, depth: u32) -> Part {
        match if depth == 0 { 0 } else { self.dice.roll(10) } {
            0..=3 => self.step(),
            4..=6 => {
                let mut parts = vec![self.part(depth - 1)];
                for _ in 0..=self.dice.roll(2) {
                    if self.dice.chance(20) {
                        parts.push(self.not(true));
                    }
                    parts.push(self.part(depth - 1));
                }
                Part::Seq(parts)
            }
            7 => Part::Or(vec![self.part(depth - 1), self.part(depth - 1)]),
            8 => Part::And(vec![self.part(depth - 1), self.part(depth - 1)]),
            _ => {
                let body = Box::new(self.part(depth - 1));
                let min = self.dice.roll(3) as u32;
                let max = self.dice.chance(50).then(|| min.max(1) + self.dice.roll(2) as u32);
                let until = self.dice.chance(25).then(|| {
                    let until = self.means();
                    self.untils.push(until);
                    self.untils.len() - 1
                });
                Part::Repeat { body, min, max, until }
            }
        }
    }
}

fn search(seed: u64, strategy: Strategy) -> Search {
    let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut maker = Maker { dice, steps: vec![], nots: vec![], untils: vec![] };
    maker.dice.warm();
    let depth = 1 + maker.dice.roll(3) as u32;
    let within = maker.dice.chance(60).then(|| maker.dice.roll(12) as i64);
    let mut parts = vec![];
    if within.is_some() && maker.dice.chance(12) {
        parts.push(maker.not(false));
        maker.nots[0].1 = None;
    }
    parts.push(maker.part(depth));
    if maker.dice.chance(15) {
        parts.push(maker.not(true));
        let limit = &mut maker.nots.last_mut().expect("just made").1;
        if within.is_none() {
            limit.get_or_insert(3);
        }
    }
    let root = match &parts[..] {
        [Part::Seq(only)] => Part::Seq(only.clone()),
        [only] => only.clone(),
        _ => Part::Seq(
            parts
                .into_iter()
                .flat_map(|part| match part {
                    Part::Seq(parts) => parts,
                    part => vec![part],
                })
                .collect(),
        ),
    };
    let last = maker.steps.len() as u64;
    let after = match maker.dice.roll(12) {
        0 => AfterMatch::ToNext,
        1 => AfterMatch::PastLast,
        2 => AfterMatch::ToFirst(maker.dice.roll(last) as usize),
        3 => AfterMatch::ToLast(maker.dice.roll(last) as usize),
        _ => AfterMatch::NoSkip,
    };
    let within_rows = maker.dice.chance(12).then(|| maker.dice.roll(5));
    let (emit_each, keyed) = (maker.dice.chance(25), maker.dice.chance(40));
    let Maker { steps, nots, untils, .. } = maker;
    Search { root, steps, nots, untils, strategy, after, emit_each, within, within_rows, keyed }
}

fn value(step: usize, get: Get, data_type: DataType) -> Accessor {
    let of = (get != Get::Count).then(|| col("a"));
    Accessor { step, get, of, data_type, name: format!("{get:?} of {step}") }
}

/// A search as a query over the streams 1 and 2, whose columns have `b` for the row's place.
fn planned(search: &Search) -> Option<ContinuousQuery> {
    let mut accessors: Vec<Accessor> = Vec::new();
    let mut test = |means: &Means| {
        let mut use_of = |accessor: Accessor| {
            let column = Expr::Column(accessor.column());
            if !accessors.contains(&accessor) {
                accessors.push(accessor);
            }
            column
        };
        let conjuncts = means.when.iter().map(|when| {
            let int = DataType::Int64;
            let condition = match when {
                When::Is(values) => {
                    col("a").in_list(values.iter().map(|v| lit(*v)).collect(), false)
                }
                When::Above(step) => col("a").gt(use_of(value(*step, Get::At(-1), int))),
                When::AsFirst(step) => col("a").eq(use_of(value(*step, Get::At(0), int))),
                When::Rising(step) => col("a").gt_eq(use_of(value(*step, Get::At(-1), int))),
                When::SumBelow(step, most) => use_of(value(*step, Get::Sum, int)).lt(lit(*most)),
                When::Fewer(step, most) => use_of(value(*step, Get::Count, int)).lt(lit(*most)),
            };
            Conjunct { condition, not_first: matches!(when, When::Rising(_)) }
        });
        Test { input: means.stream, conjuncts: conjuncts.collect() }
    };
    let steps = search
        .steps
        .iter()
        .enumerate()
        .map(|(number, means)| Step { name: format!("s{number}"), test: test(means) });
    let steps: Vec<Step> = steps.collect();
    let nots =
        search.nots.iter().map(|(m, within_us)| Not { test: test(m), within_us: *within_us });
    let nots: Vec<Not> = nots.collect();
    let untils: Vec<Test> = search.untils.iter().map(&mut test).collect();
    let outputs = (0..steps.len()).map(|step| {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        let of = Some(col("b"));
        let name = format!("collect {step}");
        let accessor = Accessor { step, get: Get::Collect, of, data_type: list, name };
        (format!("s{step}"), Measure::Accessor(accessor))
    });
    let pattern = Pattern {
        root: search.root.clone(),
        steps: steps.clone(),
        nots,
        never: vec![],
        untils,
        accessors,
        strategy: search.strategy,
        after: search.after,
        emit_each: search.emit_each,
        within_us: search.within,
        within_rows: search.within_rows,
        max_matches: MAX_MATCHES,
    };
    Automaton::new(&pattern).ok()?;
    Some(node(pattern, if search.keyed { vec![col("k")] } else { vec![] }, outputs.collect()))
}

fn node(pattern: Pattern, key: Vec<Expr>, outputs: Vec<(String, Measure)>) -> ContinuousQuery {
    let inputs: Vec<LogicalPlan> =
        (1..=2).map(|stream| timed(stream, DELAY).build().unwrap()).collect();
    let keys = vec![key; 2];
    let node = StreamPattern::try_new(inputs, pattern, keys, outputs).unwrap();
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    query(LogicalPlanBuilder::from(plan), OnError::DeadLetter)
}

fn rows(seed: u64) -> Vec<Row> {
    let mut dice = Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) | 1);
    dice.warm();
    let count = 3 + dice.roll(7) as i64;
    let mut time = 100;
    let row = |id| {
        time += dice.roll(4) as i64;
        let key = match dice.roll(12) {
            0 => None,
            n => Some(if n.is_multiple_of(3) { 'y' } else { 'x' }),
        };
        let time = time - dice.roll(DELAY as u64 + 1) as i64;
        Row { stream: dice.roll(2) as usize, time, key, a: dice.roll(4) as i64, id }
    };
    (0..count).map(row).collect()
}

fn log(rows: &[Row]) -> Vec<LogRow> {
    let row = |row: &Row| LogRow {
        stream: row.stream as u32 + 1,
        time: row.time,
        values: format!("{} {} {} 0", row.key.map_or('-'.into(), String::from), row.a, row.id),
    };
    rows.iter().map(row).collect()
}

/// What the operator finds, in the form of the reference.
fn found(lines: &[String]) -> Vec<String> {
    let line = |line: &String| {
        let (values, place) = line.split_once(" | ").unwrap();
        format!("{values} | {}", place.split_once(' ').unwrap().1)
    };
    let mut lines: Vec<String> = lines.iter().map(line).collect();
    lines.sort();
    lines
}

/// Without its event time.
fn rows_only(line: &str) -> String {
    line.split_once(" | ").unwrap().0.to_string()
}

#[track_caller]
fn compare(seed: u64, strategy: Strategy) -> Option<usize> {
    let search = search(seed, strategy);
    let query = planned(&search)?;
    let rows = rows(seed);
    let log = log(&rows);
    let (all, none) = (|_: usize| true, |_: usize| false);
    let trace = if seed.is_multiple_of(8) {
        let cut = |i: usize| !(seed >> (i % 13)).is_multiple_of(3);
        let restart = |i: usize| (seed >> (i % 7)).is_multiple_of(4);
        check_batching(&query, &log, &Cuts { cut: &cut, save: &cut, restart: &restart })
    } else {
        let restart = |i: usize| seed % 4 == 1 && i % 3 == 1;
        let cut: &dyn Fn(usize) -> bool = if seed.is_multiple_of(2) { &none } else { &all };
        replay(&query, &log, &Cuts { cut, save: &none, restart: &restart })
    };
    assert!(trace.failures.is_empty(), "seed {seed}: {:?}", trace.failures);
    let (mut is, mut wanted) = (found(&trace.rows), matches(&search, &rows));
    // Without a time limit the watermark does not wait for matches that wait.
    if search.within.is_none() {
        is = is.iter().map(|line| rows_only(line)).collect();
        wanted = wanted.iter().map(|line| rows_only(line)).collect();
    }
    is.sort();
    wanted.sort();
    assert_eq!(is, wanted, "seed {seed}, {strategy:?}: {search:#?} over {rows:#?}");
    Some(wanted.len())
}

/// At least 2,000 patterns, or as many as `AUSPEX_PATTERNS` says.
fn patterns() -> u64 {
    std::env::var("AUSPEX_PATTERNS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

#[track_caller]
fn compare_all(strategy: Strategy) {
    let (mut seed, mut compared, mut matching, mut matches) = (0, 0, 0, 0);
    while compared < patterns().div_ceil(4) {
        if let Some(found) = compare(seed, strategy) {
            compared += 1;
            matching += u64::from(found > 0);
            matches += found;
        }
        seed += 1;
    }
    println!("{strategy:?}: {compared} patterns, {matching} with {matches} matches");
    assert!(matching * 5 > compared, "only {matching} of {compared} patterns match anything");
}

#[test]
fn strict_is_what_the_definition_says() {
    compare_all(Strategy::Strict);
}

#[test]
fn next_is_what_the_definition_says() {
    compare_all(Strategy::Next);
}

#[test]
fn relaxed_is_what_the_definition_says() {
    compare_all(Strategy::Relaxed);
}

#[test]
fn any_is_what_the_definition_says() {
    compare_all(Strategy::Any);
}
