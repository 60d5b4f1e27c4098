//! The order in which streams are bound: what they read first.

use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::diagnostic::{Diagnostic, SqlState};

use super::declarations::Declarations;
use super::problem::error;
use crate::ast::{Ident, OpArgs, PatternExpr, PatternKind, SourceKind, StreamDecl};
use crate::codes;

/// The relations a stream reads, as written.
pub(super) fn reads<'a>(program: &Declarations<'a>, decl: &'a StreamDecl) -> Vec<&'a Ident> {
    let mut names = Vec::new();
    for op in &decl.ops {
        if let OpArgs::Not(pattern) = &op.args {
            events(pattern, &mut names);
        }
    }
    names.extend(match &decl.source.kind {
        SourceKind::Relation { name, .. } => match program.patterns.get(name.name.as_str()) {
            Some(declared) => {
                let mut names = Vec::new();
                events(&declared.pattern, &mut names);
                names
            }
            None => vec![name],
        },
        SourceKind::Merge(inputs) | SourceKind::Join { inputs, .. } => {
            inputs.iter().map(|i| &i.relation).collect()
        }
        SourceKind::Timer(_) => Vec::new(),
        SourceKind::Pattern(pattern) => {
            let mut names = Vec::new();
            events(pattern, &mut names);
            names
        }
    });
    names
}

fn events<'a>(pattern: &'a PatternExpr, names: &mut Vec<&'a Ident>) {
    match &pattern.kind {
        PatternKind::Step(step) => names.push(&step.event),
        PatternKind::Seq(parts) | PatternKind::And(parts) | PatternKind::Or(parts) => {
            parts.iter().for_each(|p| events(p, names));
        }
        PatternKind::Not { inner, .. } | PatternKind::Repeat { inner, .. } => events(inner, names),
    }
}

/// The streams of the program, each after those it reads; circles are reported and their streams
/// named in `failed`.
pub(super) fn sorted<'a>(
    program: &Declarations<'a>,
    problems: &mut Vec<Diagnostic>,
    failed: &mut BTreeSet<&'a str>,
) -> Vec<&'a StreamDecl> {
    let inputs: BTreeMap<&str, Vec<&'a str>> = program
        .order
        .iter()
        .map(|s| {
            let names = reads(program, s).into_iter();
            let streams = names.filter_map(|n| program.streams.get_key_value(n.name.as_str()));
            (s.name.name.as_str(), streams.map(|(name, _)| *name).collect())
        })
        .collect();
    let (mut done, mut result) = (BTreeSet::new(), Vec::new());
    for start in &program.order {
        // Depth first without recursion: (stream, how many of its inputs have been looked at).
        let mut path: Vec<(&'a str, usize)> = vec![(&start.name.name, 0)];
        while let Some((name, next)) = path.last_mut() {
            let here: &'a str = name;
            if done.contains(here) {
                path.pop();
                continue;
            }
            let Some(input) = inputs.get(here).and_then(|i| i.get(*next)).copied() else {
                done.insert(here);
                result.extend(program.streams.get(here).copied());
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(at) = path.iter().position(|(n, _)| *n == input) {
                let circle: Vec<&'a str> = path[at..].iter().map(|(n, _)| *n).collect();
                if circle.iter().all(|n| !failed.contains(n)) {
                    problems.push(*report(program, &circle));
                }
                failed.extend(circle);
            } else if !done.contains(input) {
                path.push((input, 0));
            }
        }
    }
    result
}

fn report(program: &Declarations<'_>, circle: &[&str]) -> Box<Diagnostic> {
    // The stream that comes first in the text begins the circle; rows flow against the reading.
    let place = |n: &str| program.order.iter().position(|s| s.name.name == n);
    let first = (0..circle.len()).min_by_key(|i| place(circle[*i])).unwrap_or(0);
    let mut names: Vec<&str> = circle[first..].iter().chain(&circle[..first]).copied().collect();
    names[1..].reverse();
    names.push(names[0]);
    let span = place(names[0]).map_or(auspex_plan::Span::new(0, 0), |p| program.order[p].name.span);
    error(
        SqlState::INVALID_OBJECT_DEFINITION,
        codes::CYCLE,
        span,
        format!("streams feed each other in a circle: {}", names.join(" -> ")),
    )
}
