//! The partial matches of one partition, and what one row does to them.
//!
//! A *run* is a partial match: bound rows, the states it may be in, and which of their transitions
//! are still possible. A row between two rows of a match can only ever rule transitions out (by the
//! strategy, a negation, or the end of a repetition), so what lies between need not be kept.

use std::sync::Arc;

use auspex_plan::pattern::{AfterMatch, Strategy};

use super::matched::{Event, Link, Match};
use super::program::{Check, Place, Places, Program};
use crate::error::Result;

/// Partial matches that a partition may have.
pub(super) const MAX_RUNS: usize = 100_000;

/// A partial match.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) first: Arc<Event>,
    pub(super) last: Arc<Link>,
    /// Number of a [`super::program::Place`].
    pub(super) place: usize,
    /// Which of its transitions are still possible.
    pub(super) live: u128,
    /// The longest match so far, while it may still grow.
    pub(super) pending: Option<usize>,
    /// Event time of the last row before the first that a negation at the beginning means.
    pub(super) before: Option<i64>,
    /// All steps are bound: until when nothing must come.
    pub(super) absent_until: Option<i64>,
}

/// A match that may still grow, shared by the runs that may make it grow.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) found: Match,
    pub(super) runs: usize,
    pub(super) outgrown: bool,
}

/// All that is kept of a partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Rows seen.
    pub(super) rows: u64,
    pub(super) runs: Vec<Run>,
    pub(super) pendings: Vec<Option<Pending>>,
    /// Event time of the last row that a negation at the beginning means.
    pub(super) leading: Option<i64>,
    /// Matches that wait until no earlier one can exclude them, in order.
    pub(super) held: Vec<Match>,
    /// Matches that begin before this row are excluded.
    pub(super) resume: u64,
    /// First row of the last match reported.
    pub(super) taken: Option<u64>,
}

/// What a row brings about.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) matches: Vec<Match>,
    /// Why a condition failed on the row.
    pub(super) failure: Option<String>,
    /// Whether runs had to be left out.
    pub(super) too_many: bool,
    /// When runs end that began or came to wait, and their first rows.
    pub(super) deadlines: Vec<(i64, u64)>,
    /// Failed conditions made null.
    pub(super) nulled: u64,
}

/// Applies rows.
pub(super) struct Step<'a> {
    pub(super) program: &'a Program,
    pub(super) places: &'a mut Places,
    pub(super) event: &'a Arc<Event>,
    pub(super) bits: u64,
    /// Failed operations are null.
    pub(super) nulling: bool,
    pub(super) effects: Effects,
}

impl Step<'_> {
    /// The row goes through all runs of its partition and may begin new ones.
    pub(super) fn apply(&mut self, partition: &mut Partition) -> Result<()> {
        let runs = std::mem::take(&mut partition.runs);
        let mut kept = Vec::with_capacity(runs.len() + 1);
        for run in runs {
            if run.absent_until.is_some() {
                if !self.came(&run) {
                    kept.push(run);
                }
            } else if self.is_beyond_rows(&run) {
                partition.close(run, &mut self.effects.matches);
            } else {
                self.advance(run, partition, &mut kept)?;
            }
        }
        partition.runs = kept;
        self.begin(partition)?;
        let leading = &self.program.automaton.leading;
        if leading.iter().any(|not| self.alone(&self.program.nots[*not])) {
            partition.leading = Some(self.event.time);
            if let Some(within) = self.program.pattern.within_us {
                self.ends(self.event.time.saturating_add(within), self.event.order);
            }
        }
        Ok(())
    }

    fn ends(&mut self, at: i64, first: u64) {
        self.effects.deadlines.push((at, first));
    }

    fn is_beyond_rows(&self, run: &Run) -> bool {
        let most = self.program.pattern.within_rows;
        most.is_some_and(|most| self.event.number - run.first.number > most)
    }

    fn alone(&self, check: &Check) -> bool {
        check.allows(self.event.input, self.bits)
    }

    /// Whether the row is one that a check means, for the rows that end with `last`.
    fn fits(&mut self, check: &Check, last: &Link, step: Option<usize>) -> bool {
        if !self.alone(check) {
            return false;
        }
        let mut is_first = None;
        for condition in &check.conditions {
            if condition.not_first
                && let Some(step) = step
                && *is_first.get_or_insert_with(|| last.back().all(|link| link.step != step))
            {
                continue;
            }
            let accessors = &self.program.accessors;
            let result = match condition.holds(self.event, last, accessors, false) {
                Err(_) if self.nulling => {
                    self.effects.nulled += 1;
                    condition.holds(self.event, last, accessors, true)
                }
                result => result,
            };
            match result {
                Ok(true) => {}
                Ok(false) => return false,
                Err(why) => {
                    self.effects.failure.get_or_insert(why);
                    return false;
                }
            }
        }
        true
    }

    /// Whether the row is one that must not come after the match.
    fn came(&mut self, run: &Run) -> bool {
        let program = self.program;
        program.automaton.trailing.iter().any(|not| {
            self.event.time <= deadline(program, *not, run)
                && self.fits(&program.nots[*not], &run.last, None)
        })
    }

    fn advance(
        &mut self,
        mut run: Run,
        partition: &mut Partition,
        kept: &mut Vec<Run>,
    ) -> Result<()> {
        let program = self.program;
        let strategy = program.pattern.strategy;
        let (mut taken, mut ruled_out): (Vec<usize>, u128) = (Vec::new(), 0);
        let mut left_for: Option<usize> = None;
        let place = self.places.get(run.place);
        for (number, transition) in place.transitions.iter().enumerate() {
            if run.live >> number & 1 == 0 {
                continue;
            }
            let mut ended = false;
            for (until, inside) in &transition.untils {
                if self.fits(&program.untils[*until], &run.last, None) {
                    ended = true;
                    ruled_out |= u128::from(*inside) << number;
                }
            }
            // Under `next` a row goes to one step only.
            let other =
                strategy == Strategy::Next && left_for.is_some_and(|s| s != transition.step);
            let check = &program.steps[transition.step];
            if !ended && !other && self.fits(check, &run.last, Some(transition.step)) {
                taken.push(number);
                left_for = Some(transition.step);
            }
            for not in &transition.nots {
                let within = program.pattern.nots[*not].within_us;
                let until = within.map_or(i64::MAX, |us| run.last.event.time.saturating_add(us));
                if self.event.time <= until && self.fits(&program.nots[*not], &run.last, None) {
                    ruled_out |= 1 << number;
                }
            }
        }
        match strategy {
            Strategy::Strict => ruled_out = u128::MAX,
            Strategy::Next if !taken.is_empty() => ruled_out = u128::MAX,
            Strategy::Relaxed => ruled_out |= taken.iter().fold(0, |all, n| all | 1u128 << n),
            Strategy::Next | Strategy::Any => {}
        }
        for (step, targets) in by_step(&place, &taken) {
            self.extend(&run, step, targets, partition, kept)?;
        }
        run.live &= !ruled_out;
        if run.live == 0 {
            partition.close(run, &mut self.effects.matches);
        } else {
            kept.push(run);
        }
        Ok(())
    }

    /// The row as the first one of matches.
    fn begin(&mut self, partition: &mut Partition) -> Result<()> {
        let program = self.program;
        let number = self.places.of(&program.automaton, vec![0])?;
        let place = self.places.get(number);
        let mut taken = Vec::new();
        for (number, transition) in place.transitions.iter().enumerate() {
            let check = &program.steps[transition.step];
            let fits = self.alone(check) && {
                // Nothing is bound: accessors see a chain without rows of any step.
                let nothing =
                    Link { before: None, step: usize::MAX, event: Arc::clone(self.event) };
                let mut is_until = |until: usize| self.fits(&program.untils[until], &nothing, None);
                let ended = transition.untils.iter().any(|(until, _)| is_until(*until));
                !ended && self.fits(check, &nothing, Some(transition.step))
            };
            if fits {
                taken.push(number);
            }
        }
        let mut steps = by_step(&place, &taken);
        if program.pattern.strategy == Strategy::Next {
            steps.truncate(1);
        }
        let mut begun = Vec::new();
        for (step, targets) in steps {
            let (first, event) = (Arc::clone(self.event), Arc::clone(self.event));
            let last = Arc::new(Link { before: None, step, event });
            let before = partition.leading;
            let (pending, absent_until) = (None, None);
            let run = Run { first, last, place: number, live: 0, pending, before, absent_until };
            self.reach(run, targets, partition, &mut begun)?;
        }
        if !begun.is_empty()
            && let Some(within) = program.pattern.within_us
        {
            self.ends(self.event.time.saturating_add(within), self.event.order);
        }
        partition.runs.append(&mut begun);
        Ok(())
    }

    fn extend(
        &mut self,
        run: &Run,
        step: usize,
        targets: Vec<usize>,
        partition: &mut Partition,
        kept: &mut Vec<Run>,
    ) -> Result<()> {
        let (before, event) = (Some(Arc::clone(&run.last)), Arc::clone(self.event));
        let last = Arc::new(Link { before, step, event });
        if let Some(pending) = run.pending {
            partition.pending(pending).runs += 1;
        }
        self.reach(Run { last, ..run.clone() }, targets, partition, kept)
    }

    /// A run has come to states: a match, or to be continued, or both.
    fn reach(
        &mut self,
        mut run: Run,
        targets: Vec<usize>,
        partition: &mut Partition,
        kept: &mut Vec<Run>,
    ) -> Result<()> {
        let program = self.program;
        run.place = self.places.of(&program.automaton, targets)?;
        let place = self.places.get(run.place);
        run.live = match place.transitions.len() {
            128 => u128::MAX,
            transitions => (1u128 << transitions) - 1,
        };
        let accepts = place.accepts && self.nothing_before(&run);
        if accepts {
            let (first, last) = (Arc::clone(&run.first), Arc::clone(&run.last));
            let found = Match { first, last, deadline: None };
            if !program.automaton.trailing.is_empty() {
                let ends =
                    program.automaton.trailing.iter().map(|not| deadline(program, *not, &run));
                run.absent_until = ends.max();
                self.effects.deadlines.extend(run.absent_until.map(|at| (at, run.first.order)));
                run.live = 1;
            } else if program.pattern.reports_longest() {
                if let Some(before) = run.pending.take() {
                    partition.pending(before).outgrown = true;
                    partition.release(before, &mut self.effects.matches);
                }
                if run.live == 0 {
                    self.effects.matches.push(found);
                } else {
                    run.pending = Some(partition.keep(found));
                }
            } else {
                self.effects.matches.push(found);
            }
        }
        if run.live == 0 {
            partition.close(run, &mut self.effects.matches);
        } else if partition.runs.len() + kept.len() >= MAX_RUNS {
            self.effects.too_many = true;
            partition.forget(&run);
        } else {
            kept.push(run);
        }
        Ok(())
    }

    /// Whether the negations at the beginning hold.
    fn nothing_before(&self, run: &Run) -> bool {
        let within = self.program.pattern.within_us.unwrap_or(i64::MAX);
        run.before.is_none_or(|time| time < run.last.event.time.saturating_sub(within))
    }
}

/// The states behind transitions, for each step.
fn by_step(place: &Place, taken: &[usize]) -> Vec<(usize, Vec<usize>)> {
    let mut steps: Vec<(usize, Vec<usize>)> = Vec::new();
    for number in taken {
        let transition = &place.transitions[*number];
        match steps.iter_mut().find(|(step, _)| *step == transition.step) {
            Some((_, targets)) if targets.contains(&transition.target) => {}
            Some((_, targets)) => targets.push(transition.target),
            None => steps.push((transition.step, vec![transition.target])),
        }
    }
    steps
}

/// Until when a negation at the end holds for a run.
fn deadline(program: &Program, not: usize, run: &Run) -> i64 {
    let own = program.pattern.nots[not].within_us;
    match (own, program.pattern.within_us) {
        (Some(us), _) => run.last.event.time.saturating_add(us),
        (None, Some(us)) => run.first.time.saturating_add(us),
        (None, None) => i64::MAX,
    }
}

impl Partition {
    /// Nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.held.is_empty() && self.leading.is_none()
    }

    fn pending(&mut self, number: usize) -> &mut Pending {
        self.pendings[number].as_mut().expect("it is there as long as a run knows it")
    }

    fn keep(&mut self, found: Match) -> usize {
        let pending = Some(Pending { found, runs: 1, outgrown: false });
        match self.pendings.iter().position(Option::is_none) {
            Some(free) => {
                self.pendings[free] = pending;
                free
            }
            None => {
                self.pendings.push(pending);
                self.pendings.len() - 1
            }
        }
    }

    /// One run less may make a match grow; after the last one it is known whether it was longest.
    fn release(&mut self, number: usize, matches: &mut Vec<Match>) {
        let pending = self.pending(number);
        pending.runs -= 1;
        if pending.runs == 0
            && let Some(pending) = self.pendings[number].take()
            && !pending.outgrown
        {
            matches.push(pending.found);
        }
    }

    /// A run ends.
    pub(super) fn close(&mut self, run: Run, matches: &mut Vec<Match>) {
        if let Some(pending) = run.pending {
            self.release(pending, matches);
        }
    }

    /// A run ends without a trace.
    fn forget(&mut self, run: &Run) {
        if let Some(number) = run.pending {
            let pending = self.pending(number);
            pending.runs -= 1;
            if pending.runs == 0 {
                self.pendings[number] = None;
            }
        }
    }

    /// What becomes certain at a deadline of the runs that began with the row `first`.
    pub(super) fn expire(&mut self, program: &Program, first: u64, at: i64) -> Vec<Match> {
        let mut matches = Vec::new();
        let mut kept = Vec::with_capacity(self.runs.len());
        for run in std::mem::take(&mut self.runs) {
            if run.first.order != first {
                kept.push(run);
                continue;
            }
            let ends = program.pattern.within_us.map(|us| run.first.time.saturating_add(us));
            match run.absent_until {
                Some(until) if until <= at => {
                    let (first, last) = (Arc::clone(&run.first), Arc::clone(&run.last));
                    matches.push(Match { first, last, deadline: Some(until) });
                }
                None if ends.is_some_and(|ends| ends <= at) => self.close(run, &mut matches),
                _ => kept.push(run),
            }
        }
        self.runs = kept;
        if let (Some(time), Some(within)) = (self.leading, program.pattern.within_us)
            && time.saturating_add(within) <= at
        {
            self.leading = None;
        }
        matches
    }

    /// Nothing follows any more.
    pub(super) fn end(&mut self) -> Vec<Match> {
        let mut matches = Vec::new();
        for run in std::mem::take(&mut self.runs) {
            self.close(run, &mut matches);
        }
        self.leading = None;
        matches
    }

    /// Takes matches that have become certain in and gives those that no other excludes.
    pub(super) fn choose(&mut self, after: AfterMatch, found: Vec<Match>) -> Vec<Match> {
        if after == AfterMatch::NoSkip {
            return found;
        }
        self.held.extend(found);
        let key = |m: &Match| (m.first.order, m.last.event.order);
        self.held.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.compare(b)));
        let mut chosen = Vec::new();
        while let Some(next) = self.held.first() {
            let first = next.first.order;
            let same = after == AfterMatch::ToNext && self.taken == Some(first);
            if first < self.resume || same {
                self.held.remove(0);
                continue;
            }
            let earlier = |run: &Run| {
                let pending = run.pending.and_then(|p| self.pendings[p].as_ref());
                let sooner = pending.is_some_and(|p| {
                    p.found.last.event.order < next.last.event.order && !p.outgrown
                });
                run.first.order < first || (run.first.order == first && sooner)
            };
            if self.runs.iter().any(earlier) {
                break;
            }
            let next = self.held.remove(0);
            let row_of = |step: usize, first: bool| {
                let mut rows = next.last.back().filter(|link| link.step == step);
                let row = if first { rows.last() } else { rows.next() };
                row.map(|link| link.event.order)
            };
            let resume = match after {
                AfterMatch::NoSkip | AfterMatch::ToNext => None,
                AfterMatch::PastLast => Some(next.last.event.order + 1),
                AfterMatch::ToFirst(step) => row_of(step, true),
                AfterMatch::ToLast(step) => row_of(step, false),
            };
            self.taken = Some(first);
            self.resume = self.resume.max(resume.unwrap_or(0));
            chosen.push(next);
            self.drop_excluded(after);
        }
        chosen
    }

    /// Ends the runs whose matches would be excluded.
    fn drop_excluded(&mut self, after: AfterMatch) {
        let mut kept = Vec::with_capacity(self.runs.len());
        for run in std::mem::take(&mut self.runs) {
            let same = after == AfterMatch::ToNext && self.taken == Some(run.first.order);
            if run.first.order < self.resume || same {
                self.forget(&run);
            } else {
                kept.push(run);
            }
        }
        self.runs = kept;
    }
}
