//! A pattern as states and transitions.
//!
//! A state is what remains to be matched (a partial derivative of the pattern, Antimirov 1996). The
//! transitions of a state are in order of preference: what leaves a repetition or passes over an
//! optional part goes before what enters it, alternatives are in the order written.

use std::collections::HashMap;

use super::{Part, Pattern};

/// Most states of a pattern.
const MAX_STATES: usize = 20_000;

/// Most transitions of one state.
const MAX_TRANSITIONS: usize = 64;

/// See the module. State 0 is the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automaton {
    /// All states that can be reached.
    pub states: Vec<State>,
    /// Negations before the first row.
    pub leading: Vec<usize>,
    /// Negations after the last row.
    pub trailing: Vec<usize>,
}

/// What is possible after some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Most preferred first.
    pub transitions: Vec<Transition>,
    /// Whether the rows so far are a match.
    pub accepts: bool,
}

/// A step that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Position of the step.
    pub step: usize,
    /// State behind it.
    pub target: usize,
    /// Negations that hold for the rows before it.
    pub nots: Vec<usize>,
    /// What its row must not be; `true`: nor the rows before it.
    pub untils: Vec<(usize, bool)>,
}

/// Why a pattern cannot be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misshapen {
    /// No row at all is a match.
    Empty,
    /// It has more than 20,000 states.
    TooLarge,
    /// After some row there are more than 64 ways to go on.
    TooWide,
    /// A negation at the beginning or end of a group that is not the whole pattern.
    NotAtEnd,
    /// A negation, or a repetition with an end, among parts in any order.
    InAnyOrder,
    /// A final negation follows what may go on repeating.
    NotAfterRepeat,
}

/// What remains to be matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Rest {
    Step(usize),
    Not(usize),
    /// Not nested, not empty of one.
    Seq(Vec<Rest>),
    Or(Vec<Rest>),
    And(Vec<Rest>),
    Repeat {
        body: Box<Rest>,
        min: u32,
        max: Option<u32>,
        until: Option<usize>,
        entered: bool,
    },
    /// The rest of one round of a repetition.
    Inside(Box<Rest>, usize),
}

/// A way to go on.
enum Way {
    Take {
        step: usize,
        rest: Rest,
        nots: Vec<usize>,
        untils: Vec<(usize, bool)>,
    },
    /// Nothing more is needed, besides these negations.
    Leave(Vec<usize>),
}

impl Automaton {
    /// The automaton of a pattern.
    ///
    /// # Errors
    /// When the pattern cannot be searched.
    pub fn new(pattern: &Pattern) -> Result<Automaton, Misshapen> {
        let mut parts = match &pattern.root {
            Part::Seq(parts) => parts.clone(),
            other => vec![other.clone()],
        };
        let is_not = |part: &Part| matches!(part, Part::Not(_));
        let number = |part: Part| match part {
            Part::Not(not) => Some(not),
            _ => None,
        };
        let from = parts.iter().take_while(|part| is_not(part)).count();
        let leading: Vec<usize> = parts.drain(..from).filter_map(number).collect();
        let to = parts.len() - parts.iter().rev().take_while(|part| is_not(part)).count();
        let trailing: Vec<usize> = parts.drain(to..).filter_map(number).collect();
        let root = seq(parts.iter().map(rest).collect::<Result<_, _>>()?);

        let mut numbers = HashMap::from([(root.clone(), 0)]);
        let mut found = vec![root];
        let mut states: Vec<State> = Vec::new();
        while states.len() < found.len() {
            let mut state = State { transitions: Vec::new(), accepts: false };
            for way in ways(&found[states.len()].clone()) {
                match way {
                    Way::Leave(nots) if nots.is_empty() => state.accepts = true,
                    Way::Leave(_) => return Err(Misshapen::NotAtEnd),
                    Way::Take { step, rest, nots, untils } => {
                        let next = found.len();
                        let target = *numbers.entry(rest.clone()).or_insert(next);
                        if target == next {
                            found.push(rest);
                        }
                        let transition = Transition { step, target, nots, untils };
                        if !state.transitions.contains(&transition) {
                            state.transitions.push(transition);
                        }
                    }
                }
            }
            if found.len() > MAX_STATES {
                return Err(Misshapen::TooLarge);
            }
            if state.transitions.len() > MAX_TRANSITIONS {
                return Err(Misshapen::TooWide);
            }
            states.push(state);
        }
        for transition in states.iter_mut().skip(1).flat_map(|state| &mut state.transitions) {
            transition.nots.extend(&pattern.never);
        }
        let automaton = Automaton { states, leading, trailing };
        if automaton.states[0].accepts {
            return Err(Misshapen::Empty);
        }
        if automaton.states[0].transitions.iter().any(|way| !way.nots.is_empty()) {
            return Err(Misshapen::NotAtEnd);
        }
        if !automaton.trailing.is_empty() && automaton.may_grow() {
            return Err(Misshapen::NotAfterRepeat);
        }
        Ok(automaton)
    }

    /// Whether a match can be the beginning of a longer one.
    pub fn may_grow(&self) -> bool {
        self.states.iter().any(|state| state.accepts && !state.transitions.is_empty())
    }
}

/// Parts one after the other.
fn seq(parts: Vec<Rest>) -> Rest {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Rest::Seq(inner) => flat.extend(inner),
            part => flat.push(part),
        }
    }
    match flat.len() {
        1 => flat.remove(0),
        _ => Rest::Seq(flat),
    }
}

fn nothing() -> Rest {
    Rest::Seq(Vec::new())
}

fn inside(rest: Rest, until: usize) -> Rest {
    if rest == nothing() { rest } else { Rest::Inside(Box::new(rest), until) }
}

fn rest(part: &Part) -> Result<Rest, Misshapen> {
    let all = |parts: &[Part]| parts.iter().map(rest).collect::<Result<Vec<_>, _>>();
    Ok(match part {
        Part::Step(step) => Rest::Step(*step),
        Part::Not(not) => Rest::Not(*not),
        Part::Seq(parts) => seq(all(parts)?),
        Part::Or(parts) => Rest::Or(all(parts)?),
        Part::And(parts) => {
            if parts.iter().any(remembers) {
                return Err(Misshapen::InAnyOrder);
            }
            Rest::And(all(parts)?)
        }
        Part::Repeat { body, min, max, until } => {
            let body = rest(body)?;
            if ends_with_not(&body) {
                return Err(Misshapen::NotAtEnd);
            }
            // What may be nothing can be nothing as often as it must.
            let min = if may_be_nothing(&body) { 0 } else { *min };
            let body = Box::new(body);
            Rest::Repeat { body, min, max: *max, until: *until, entered: false }
        }
    })
}

/// Whether the rows between its rows matter for more than the next step.
fn remembers(part: &Part) -> bool {
    match part {
        Part::Step(_) => false,
        Part::Not(_) => true,
        Part::Seq(parts) | Part::Or(parts) | Part::And(parts) => parts.iter().any(remembers),
        Part::Repeat { body, until, .. } => until.is_some() || remembers(body),
    }
}

fn may_be_nothing(rest: &Rest) -> bool {
    ways(rest).iter().any(|way| matches!(way, Way::Leave(_)))
}

fn ends_with_not(rest: &Rest) -> bool {
    match rest {
        Rest::Not(_) => true,
        Rest::Seq(parts) => {
            let mut from_end = parts.iter().rev();
            from_end.next().is_some_and(ends_with_not)
        }
        Rest::Or(parts) | Rest::And(parts) => parts.iter().any(ends_with_not),
        _ => false,
    }
}

/// The ways to go on, most preferred first.
fn ways(rest: &Rest) -> Vec<Way> {
    match rest {
        Rest::Step(step) => {
            let (nots, untils) = (Vec::new(), Vec::new());
            vec![Way::Take { step: *step, rest: nothing(), nots, untils }]
        }
        Rest::Not(not) => vec![Way::Leave(vec![*not])],
        Rest::Seq(parts) => match parts.split_first() {
            None => vec![Way::Leave(Vec::new())],
            Some((first, behind)) => in_sequence(first, behind),
        },
        Rest::Or(parts) => parts.iter().flat_map(ways).collect(),
        Rest::And(parts) => in_any_order(parts),
        Rest::Repeat { body, min, max, until, entered } => {
            let mut all = Vec::new();
            if *min == 0 {
                all.push(Way::Leave(Vec::new()));
            }
            if *max == Some(0) {
                return all;
            }
            let again = Rest::Repeat {
                body: body.clone(),
                min: min.saturating_sub(1),
                max: max.map(|max| max - 1),
                until: *until,
                entered: true,
            };
            for way in ways(body) {
                let Way::Take { step, mut rest, nots, mut untils } = way else { continue };
                if let Some(until) = until {
                    untils.push((*until, *entered));
                    rest = inside(rest, *until);
                }
                all.push(Way::Take { step, rest: seq(vec![rest, again.clone()]), nots, untils });
            }
            all
        }
        Rest::Inside(inner, until) => {
            let guarded = |way| match way {
                Way::Take { step, rest, nots, mut untils } => {
                    untils.push((*until, true));
                    Way::Take { step, rest: inside(rest, *until), nots, untils }
                }
                leave => leave,
            };
            ways(inner).into_iter().map(guarded).collect()
        }
    }
}

fn in_sequence(first: &Rest, behind: &[Rest]) -> Vec<Way> {
    let mut all = Vec::new();
    for way in ways(first) {
        match way {
            Way::Take { step, rest, nots, untils } => {
                let rest = seq([vec![rest], behind.to_vec()].concat());
                all.push(Way::Take { step, rest, nots, untils });
            }
            Way::Leave(before) => {
                for way in ways(&seq(behind.to_vec())) {
                    all.push(match way {
                        Way::Take { step, rest, nots, untils } => {
                            let nots = [before.clone(), nots].concat();
                            Way::Take { step, rest, nots, untils }
                        }
                        Way::Leave(nots) => Way::Leave([before.clone(), nots].concat()),
                    });
                }
            }
        }
    }
    all
}

fn in_any_order(parts: &[Rest]) -> Vec<Way> {
    let mut all = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        for way in ways(part) {
            let Way::Take { step, rest, nots, untils } = way else { continue };
            let mut others = parts.to_vec();
            if rest == nothing() {
                others.remove(number);
            } else {
                others[number] = rest;
            }
            let rest = if others.len() == 1 { others.remove(0) } else { Rest::And(others) };
            all.push(Way::Take { step, rest, nots, untils });
        }
    }
    if parts.iter().all(may_be_nothing) {
        all.push(Way::Leave(Vec::new()));
    }
    all
}
