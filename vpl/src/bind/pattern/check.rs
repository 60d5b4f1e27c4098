//! What is wrong with the names of a pattern and the operations behind it.

use std::collections::BTreeMap;

use auspex_plan::catalog::Column;
use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};

use super::super::declarations::Declarations;
use super::super::problem::{error, hint, missing, unknown};
use super::super::relations::Relations;
use super::super::walk::walk;
use crate::ast::{Arg, Expr, ExprKind, Ident, OpArgs, PatternExpr, PatternKind, Step, StreamDecl};
use crate::codes;

/// Steps whose stream is not there, unknown fields and aliases, a final negation without a limit.
pub(super) fn problems(
    program: &Declarations<'_>,
    relations: &Relations<'_>,
    decl: &StreamDecl,
    pattern: &PatternExpr,
    limited: bool,
) -> Vec<Diagnostic> {
    let mut check = Check { program, steps: Vec::new(), problems: Vec::new() };
    let mut steps = Vec::new();
    collect(pattern, false, &mut steps);
    for (step, negated) in &steps {
        match relations.find(&step.event) {
            Ok(found) => {
                check.steps.push(Known { step, negated: *negated, columns: found.columns })
            }
            Err(problem) => check.problems.push(*problem),
        }
    }
    if check.problems.is_empty() {
        for at in 0..check.steps.len() {
            check.condition(at);
        }
        check.operations(decl);
    }
    if let Some(not) = unlimited_absence(pattern)
        && !limited
    {
        check.problems.push(*unlimited(not.span));
    }
    check.problems
}

/// A final negation without a time limit.
pub(super) fn unlimited(span: Span) -> Box<Diagnostic> {
    hint(
        error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::ABSENCE_WITHOUT_LIMIT,
            span,
            "a final `not` without a time limit never matches: the row could still come",
        ),
        "add `within 5m` behind it, or `.within(5m)` to the stream",
    )
}

fn collect<'a>(pattern: &'a PatternExpr, negated: bool, steps: &mut Vec<(&'a Step, bool)>) {
    match &pattern.kind {
        PatternKind::Step(step) => steps.push((step, negated)),
        PatternKind::Seq(parts) | PatternKind::And(parts) | PatternKind::Or(parts) => {
            parts.iter().for_each(|p| collect(p, negated, steps));
        }
        PatternKind::Not { inner, .. } => collect(inner, true, steps),
        PatternKind::Repeat { inner, .. } => collect(inner, negated, steps),
    }
}

/// The negation at the end of the pattern that has no limit of its own.
fn unlimited_absence(pattern: &PatternExpr) -> Option<&PatternExpr> {
    match &pattern.kind {
        PatternKind::Seq(parts) => parts.last().and_then(unlimited_absence),
        PatternKind::Not { within: None, inner } => {
            let limited = matches!(&inner.kind, PatternKind::Step(step) if step.within.is_some());
            (!limited).then_some(pattern)
        }
        _ => None,
    }
}

struct Known<'a> {
    step: &'a Step,
    negated: bool,
    columns: Vec<Column>,
}

impl Known<'_> {
    fn is(&self, word: &str) -> bool {
        self.step.alias.as_ref().map_or(&self.step.event, |a| a).name == word
            || self.step.event.name == word
    }

    fn name(&self) -> &str {
        &self.step.alias.as_ref().unwrap_or(&self.step.event).name
    }

    fn has(&self, field: &str) -> bool {
        self.columns.iter().any(|c| c.name == field)
            || auspex_plan::relation::SYSTEM_COLUMNS.contains(&field)
    }
}

struct Check<'a> {
    program: &'a Declarations<'a>,
    steps: Vec<Known<'a>>,
    problems: Vec<Diagnostic>,
}

impl Check<'_> {
    /// The condition of a step sees its own row and the steps before it.
    fn condition(&mut self, at: usize) {
        let step = self.steps[at].step;
        let mut found = Vec::new();
        for e in step.condition.iter().chain(&step.until) {
            walk(e, &mut Vec::new(), &mut |e, locals| {
                found.extend(self.name(e, locals, at + 1).map(|p| *p));
            });
        }
        self.problems.extend(found);
    }

    /// Operations see all steps.
    fn operations(&mut self, decl: &StreamDecl) {
        let mut found = Vec::new();
        let all = self.steps.len();
        for op in &decl.ops {
            let args: &[Arg] = match &op.args {
                OpArgs::Args(args) | OpArgs::Emit { args, .. } => args,
                _ => continue,
            };
            if matches!(op.name.name.as_str(), "where" | "filter" | "emit" | "select") {
                for arg in args {
                    walk(&arg.value, &mut Vec::new(), &mut |e, locals| {
                        if matches!(e.kind, ExprKind::Field { .. }) {
                            found.extend(self.name(e, locals, all).map(|p| *p));
                        }
                    });
                }
            }
            // These make fields of their own, behind which the aliases are gone.
            let projects =
                ["emit", "select", "aggregate", "trend_aggregate", "forecast", "process"];
            if projects.contains(&op.name.name.as_str()) {
                break;
            }
        }
        self.problems.extend(found);
    }

    /// What is wrong with a name when the first `visible` steps can be seen.
    fn name(&self, e: &Expr, locals: &[String], visible: usize) -> Option<Box<Diagnostic>> {
        match &e.kind {
            ExprKind::Field { base, name, .. } => {
                let alias = match &base.kind {
                    ExprKind::Name(alias) => Ident { name: alias.clone(), span: base.span },
                    ExprKind::Index { base, .. } => match &base.kind {
                        ExprKind::Name(alias) => Ident { name: alias.clone(), span: base.span },
                        _ => return None,
                    },
                    _ => return None,
                };
                self.qualified(e, &alias, name, locals, visible)
            }
            _ => None,
        }
    }

    fn qualified(
        &self,
        e: &Expr,
        alias: &Ident,
        field: &Ident,
        locals: &[String],
        visible: usize,
    ) -> Option<Box<Diagnostic>> {
        let word = alias.name.as_str();
        if locals.iter().any(|l| l == word) || self.program.variables.contains_key(word) {
            return None;
        }
        if let Some(step) = self.steps[..visible].iter().find(|s| s.is(word)) {
            // `b.count` and its like are numbers of the step, not fields.
            let of_step = step.step.quantifier.is_some() && field.name == "count";
            if step.has(&field.name) || of_step || step.negated {
                return None;
            }
            let known = step.columns.iter().map(|c| c.name.as_str());
            let (state, code) = (SqlState::UNDEFINED_COLUMN, codes::UNKNOWN_FIELD);
            return Some(missing(state, code, &format!("`{word}`"), "field", field, known));
        }
        if self.steps[visible..].iter().any(|s| s.is(word)) {
            return Some(hint(
                error(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    codes::LATER_STEP,
                    e.span,
                    format!("the condition refers to `{word}`, a later step"),
                ),
                format!("move the condition to the step `{word}`"),
            ));
        }
        // A field of the row may be a map.
        let fields: BTreeMap<&str, ()> = self.steps[..visible]
            .iter()
            .flat_map(|s| s.columns.iter().map(|c| (c.name.as_str(), ())))
            .collect();
        if fields.contains_key(word) {
            return None;
        }
        let known = self.steps.iter().map(Known::name);
        let (state, code) = (SqlState::UNDEFINED_TABLE, codes::UNKNOWN_FIELD);
        Some(unknown(state, code, "alias", alias, known))
    }
}
