//! The definitions, searched by brute force: all rows for all words.
//!
//! A word is read off the pattern step by step (`ways`); a candidate is a word with a row for each
//! step; it is a match when each rule holds for all rows that it speaks of. Nothing is remembered
//! from one row to the next.

use auspex_plan::pattern::{AfterMatch, Part, Strategy};

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) stream: usize,
    pub(super) time: i64,
    pub(super) key: Option<char>,
    pub(super) a: i64,
    /// Its place in the log.
    pub(super) id: i64,
}

/// A condition of the tests; all are over column `a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    /// One of these.
    Is(Vec<i64>),
    /// More than in the last row of a step; null when there is none.
    Above(usize),
    /// The same as in the first row of a step.
    AsFirst(usize),
    /// Not less than in the step's own last row; not applied to its first.
    Rising(usize),
    /// The sum over the step's own rows before it is less than this; null when there is none.
    SumBelow(usize, i64),
    /// The step has fewer rows than this.
    Fewer(usize, i64),
}

/// Rows of a stream on which all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Means {
    pub(super) stream: usize,
    pub(super) when: Vec<When>,
}

/// What is searched.
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) root: Part,
    pub(super) steps: Vec<Means>,
    pub(super) nots: Vec<(Means, Option<i64>)>,
    pub(super) untils: Vec<Means>,
    pub(super) strategy: Strategy,
    pub(super) after: AfterMatch,
    pub(super) emit_each: bool,
    pub(super) within: Option<i64>,
    pub(super) within_rows: Option<u64>,
    pub(super) keyed: bool,
}

/// Steps and positions of their rows.
pub(super) type Bound = Vec<(usize, usize)>;

/// A match and, of an absence, its deadline.
pub(super) type Matched = (Bound, Option<i64>);

/// What remains of a word.
#[derive(Debug, Clone, PartialEq)]
enum Todo {
    Part(Part),
    /// A repetition that has been gone through so often.
    Rounds(Part, u32),
    /// The parts before this one belong to a round of a repetition with this end.
    EndOfRound(usize),
    AnyOrder(Vec<Vec<Todo>>),
}

/// A step that can come next.
#[derive(Debug, Clone)]
struct Way {
    /// `None`: the word may end here.
    step: Option<usize>,
    nots: Vec<usize>,
    untils: Vec<(usize, bool)>,
    rest: Vec<Todo>,
}

fn ways(todo: &[Todo]) -> Vec<Way> {
    let Some((first, behind)) = todo.split_first() else {
        return vec![Way { step: None, nots: vec![], untils: vec![], rest: vec![] }];
    };
    let with = |front: Vec<Todo>| ways(&[front, behind.to_vec()].concat());
    match first {
        Todo::EndOfRound(_) => ways(behind),
        Todo::Part(Part::Step(step)) => {
            // Each end of a round behind it is that of a repetition it is in.
            let inside = behind.iter().filter_map(|todo| match todo {
                Todo::EndOfRound(until) => Some((*until, true)),
                _ => None,
            });
            let (step, untils) = (Some(*step), inside.collect());
            vec![Way { step, nots: vec![], untils, rest: behind.to_vec() }]
        }
        Todo::Part(Part::Not(not)) => {
            let mut found = with(vec![]);
            found.iter_mut().for_each(|way| way.nots.insert(0, *not));
            found
        }
        Todo::Part(Part::Seq(parts)) => with(parts.iter().cloned().map(Todo::Part).collect()),
        Todo::Part(Part::Or(parts)) => {
            parts.iter().flat_map(|part| with(vec![Todo::Part(part.clone())])).collect()
        }
        Todo::Part(Part::And(parts)) => {
            let all = parts.iter().map(|part| vec![Todo::Part(part.clone())]).collect();
            with(vec![Todo::AnyOrder(all)])
        }
        Todo::AnyOrder(parts) => {
            let mut found = Vec::new();
            let mut all_may_end = true;
            for (number, part) in parts.iter().enumerate() {
                let mut may_end = false;
                for way in ways(part) {
                    if way.step.is_none() {
                        may_end = true;
                        continue;
                    }
                    let mut others = parts.clone();
                    others[number] = way.rest;
                    let rest = [vec![Todo::AnyOrder(others)], behind.to_vec()].concat();
                    let outer = behind.iter().filter_map(|todo| match todo {
                        Todo::EndOfRound(until) => Some((*until, true)),
                        _ => None,
                    });
                    let untils = way.untils.into_iter().chain(outer).collect();
                    found.push(Way { rest, untils, ..way });
                }
                all_may_end &= may_end;
            }
            if all_may_end {
                found.extend(with(vec![]));
            }
            found
        }
        Todo::Part(part @ Part::Repeat { .. }) => with(vec![Todo::Rounds(part.clone(), 0)]),
        Todo::Rounds(part, done) => {
            let Part::Repeat { body, min, max, until } = part else { unreachable!() };
            let inner = [Todo::Part(body.as_ref().clone())];
            let free = ways(&inner).iter().any(|way| way.step.is_none());
            let mut found = Vec::new();
            if done >= min || free {
                found.extend(with(vec![]));
            }
            if max.is_none_or(|max| *done < max) {
                // A round that takes nothing is none: only ways that begin inside of the body.
                for way in ways(&inner).into_iter().filter(|way| way.step.is_some()) {
                    let end = until.map(Todo::EndOfRound);
                    let again = Todo::Rounds(part.clone(), done + 1);
                    let tail = end.into_iter().chain([again]).chain(behind.iter().cloned());
                    let rest = way.rest.into_iter().chain(tail).collect();
                    let outer = behind.iter().filter_map(|todo| match todo {
                        Todo::EndOfRound(until) => Some((*until, true)),
                        _ => None,
                    });
                    let own = until.map(|until| (until, *done > 0));
                    let untils = way.untils.into_iter().chain(own).chain(outer).collect();
                    found.push(Way { rest, untils, ..way });
                }
            }
            found
        }
    }
}

struct Finder<'a> {
    search: &'a Search,
    rows: &'a [Row],
    found: Vec<Matched>,
}

/// The matches of a partition, whose rows are in order: none of which another one is the beginning
/// of unless each counts, and none that another excludes.
fn in_partition(search: &Search, rows: &[Row]) -> Vec<Matched> {
    let mut parts = match &search.root {
        Part::Seq(parts) => parts.clone(),
        other => vec![other.clone()],
    };
    let number = |part: Part| match part {
        Part::Not(not) => not,
        _ => unreachable!(),
    };
    let is_not = |part: &Part| matches!(part, Part::Not(_));
    let from = parts.iter().take_while(|p| is_not(p)).count();
    let leading: Vec<usize> = parts.drain(..from).map(number).collect();
    let to = parts.len() - parts.iter().rev().take_while(|p| is_not(p)).count();
    let trailing: Vec<usize> = parts.drain(to..).map(number).collect();
    let word: Vec<Todo> = parts.into_iter().map(Todo::Part).collect();
    let mut finder = Finder { search, rows, found: Vec::new() };
    finder.go_on(&mut Vec::new(), &[word]);
    let mut found = finder.found.clone();
    found.retain(|(bound, _)| finder.nothing_before(bound, &leading));
    let all = found.clone();
    if !search.emit_each && matches!(search.strategy, Strategy::Strict | Strategy::Next) {
        let grows = |short: &Bound| {
            all.iter().any(|(long, _)| long.len() > short.len() && long.starts_with(short))
        };
        found.retain(|(bound, _)| !grows(bound));
    }
    if !trailing.is_empty() {
        found = found.into_iter().filter_map(|(b, _)| finder.absent(b, &trailing)).collect();
    }
    found.sort_by_key(|(bound, _)| (bound[0].1, bound[bound.len() - 1].1, positions(bound)));
    skip(search.after, found)
}

fn positions(bound: &Bound) -> (Vec<usize>, Vec<usize>) {
    bound.iter().map(|(step, row)| (*row, *step)).unzip()
}

fn skip(after: AfterMatch, all: Vec<Matched>) -> Vec<Matched> {
    if after == AfterMatch::NoSkip {
        return all;
    }
    let (mut kept, mut resume, mut taken) = (Vec::new(), 0, None);
    for found in all {
        let bound = &found.0;
        let first = bound[0].1;
        if first < resume || (after == AfterMatch::ToNext && taken == Some(first)) {
            continue;
        }
        taken = Some(first);
        let of = |wanted: usize| bound.iter().filter(move |(step, _)| *step == wanted).map(|b| b.1);
        let to = match after {
            AfterMatch::NoSkip | AfterMatch::ToNext => None,
            AfterMatch::PastLast => Some(bound[bound.len() - 1].1 + 1),
            AfterMatch::ToFirst(step) => of(step).min(),
            AfterMatch::ToLast(step) => of(step).max(),
        };
        resume = resume.max(to.unwrap_or(0));
        kept.push(found);
    }
    kept
}

impl Finder<'_> {
    /// Goes through all ways to continue the rows `bound`, after which one of `words` remains.
    fn go_on(&mut self, bound: &mut Bound, words: &[Vec<Todo>]) {
        let next: Vec<Way> = words.iter().flat_map(|word| ways(word)).collect();
        if !bound.is_empty() && next.iter().any(|way| way.step.is_none()) {
            self.found.push((bound.clone(), None));
        }
        let next: Vec<Way> = next.into_iter().filter(|way| way.step.is_some()).collect();
        let from = bound.last().map_or(0, |(_, row)| row + 1);
        for row in from..self.rows.len() {
            if bound.first().is_some_and(|(_, first)| !self.is_within(*first, row)) {
                continue;
            }
            let mut tried: Vec<usize> = Vec::new();
            for step in next.iter().filter_map(|way| way.step) {
                if tried.contains(&step) {
                    continue;
                }
                tried.push(step);
                let of_step = next.iter().filter(|way| way.step == Some(step));
                let fits = of_step.filter(|way| self.may_take(way, row, bound, &next));
                let rests: Vec<Vec<Todo>> = fits.map(|way| way.rest.clone()).collect();
                if !rests.is_empty() {
                    bound.push((step, row));
                    self.go_on(bound, &rests);
                    bound.pop();
                }
            }
        }
    }

    fn is_within(&self, first: usize, last: usize) -> bool {
        let time = self.rows[last].time - self.rows[first].time;
        self.search.within.is_none_or(|within| time <= within)
            && self.search.within_rows.is_none_or(|rows| (last - first) as u64 <= rows)
    }

    fn may_take(&self, way: &Way, row: usize, bound: &Bound, next: &[Way]) -> bool {
        if !self.extends(way, row, bound) {
            return false;
        }
        let Some((_, last)) = bound.last() else {
            // A first row goes to the most preferred step under `next`.
            let first = next.iter().find(|way| self.extends(way, row, bound));
            return self.search.strategy != Strategy::Next
                || first.is_some_and(|w| w.step == way.step);
        };
        let mut between = last + 1..row;
        match self.search.strategy {
            Strategy::Any => true,
            Strategy::Strict => between.is_empty(),
            Strategy::Relaxed => !between.any(|x| self.extends(way, x, bound)),
            Strategy::Next => {
                let first = next.iter().find(|way| self.extends(way, row, bound));
                let passed = between.any(|x| next.iter().any(|way| self.extends(way, x, bound)));
                !passed && first.is_some_and(|first| first.step == way.step)
            }
        }
    }

    /// Whether a row fits a way, and neither its end nor a negation forbid it.
    fn extends(&self, way: &Way, row: usize, bound: &Bound) -> bool {
        let Some(step) = way.step else { return false };
        let from = bound.last().map_or(row, |(_, last)| last + 1);
        let after = bound.last().map_or(0, |(_, last)| self.rows[*last].time);
        self.holds(&self.search.steps[step], row, bound)
            && way.untils.iter().all(|(until, inside)| {
                let until = &self.search.untils[*until];
                let before = *inside && (from..row).any(|x| self.holds(until, x, bound));
                !before && !self.holds(until, row, bound)
            })
            && way.nots.iter().all(|not| {
                let (means, within) = &self.search.nots[*not];
                !(from..row).any(|x| {
                    within.is_none_or(|within| self.rows[x].time <= after + within)
                        && self.holds(means, x, bound)
                })
            })
    }

    fn holds(&self, means: &Means, row: usize, bound: &Bound) -> bool {
        let row = &self.rows[row];
        let of = |wanted: usize| {
            let rows = bound.iter().filter(move |(step, _)| *step == wanted);
            rows.map(|(_, row)| self.rows[*row].a)
        };
        means.stream == row.stream
            && means.when.iter().all(|when| match when {
                When::Is(values) => values.contains(&row.a),
                When::Above(step) => of(*step).next_back().is_some_and(|a| row.a > a),
                When::AsFirst(step) => of(*step).next().is_some_and(|a| row.a == a),
                When::Rising(step) => of(*step).next_back().is_none_or(|a| row.a >= a),
                When::SumBelow(step, most) => {
                    of(*step).next().is_some() && of(*step).sum::<i64>() < *most
                }
                When::Fewer(step, most) => (of(*step).count() as i64) < *most,
            })
    }

    fn nothing_before(&self, bound: &Bound, leading: &[usize]) -> bool {
        let Some(within) = self.search.within else { return true };
        let earliest = self.rows[bound[bound.len() - 1].1].time - within;
        (0..bound[0].1).all(|x| {
            let meant = leading.iter().any(|n| self.holds(&self.search.nots[*n].0, x, &vec![]));
            !meant || self.rows[x].time < earliest
        })
    }

    /// The match with its deadline, when nothing came until then.
    fn absent(&self, bound: Bound, trailing: &[usize]) -> Option<Matched> {
        let last = bound[bound.len() - 1].1;
        let ends = |not: &usize| match self.search.nots[*not].1 {
            Some(within) => self.rows[last].time + within,
            None => self.rows[bound[0].1].time + self.search.within.expect("a limit"),
        };
        let came = trailing.iter().any(|not| {
            (last + 1..self.rows.len()).any(|x| {
                let means = &self.search.nots[*not].0;
                self.rows[x].time <= ends(not) && self.holds(means, x, &bound)
            })
        });
        let deadline = trailing.iter().map(ends).max();
        (!came).then_some((bound, deadline))
    }
}

/// All matches as lines: the places of each step's rows, and the event time.
pub(super) fn matches(search: &Search, log: &[Row]) -> Vec<String> {
    let mut rows = log.to_vec();
    rows.sort_by_key(|row| (row.time, row.id));
    let mut partitions: Vec<(char, Vec<Row>)> = Vec::new();
    for row in rows {
        let key = match (search.keyed, row.key) {
            (false, _) => ' ',
            (true, Some(key)) => key,
            (true, None) => continue,
        };
        match partitions.iter_mut().find(|(k, _)| *k == key) {
            Some((_, rows)) => rows.push(row),
            None => partitions.push((key, vec![row])),
        }
    }
    let mut lines = Vec::new();
    for (_, rows) in partitions {
        for (bound, deadline) in in_partition(search, &rows) {
            let of = |step: usize| {
                let places = bound.iter().filter(|b| b.0 == step).map(|b| rows[b.1].id.to_string());
                format!("[{}]", places.collect::<Vec<_>>().join(","))
            };
            let places: Vec<String> = (0..search.steps.len()).map(of).collect();
            let time = deadline.unwrap_or(rows[bound[bound.len() - 1].1].time);
            lines.push(format!("{} | {time}", places.join(" ")));
        }
    }
    lines.sort();
    lines
}
