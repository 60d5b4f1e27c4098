//! The operations that belong to a pattern: `.within .strategy .after_match .emit_each .max_matches
//! .not .partition_by`.

use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::pattern::{AfterMatch, MAX_MATCHES, Strategy};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr as PlanExpr;

use super::super::declarations::Declarations;
use super::super::expression::Binder;
use super::super::operations::{all_args, one};
use super::super::problem::{Result, arguments, error, hint, unsupported};
use crate::ast::{Arg, Expr, ExprKind, Op, OpArgs, PatternDecl, PatternExpr, StreamDecl};
use crate::codes;

/// Their names.
pub(super) const OPERATIONS: [&str; 7] =
    ["within", "strategy", "after_match", "emit_each", "max_matches", "not", "partition_by"];

/// What they say.
pub(super) struct Options<'a> {
    pub strategy: Strategy,
    pub after: AfterMatch,
    pub emit_each: bool,
    pub max_matches: u64,
    pub within_us: Option<i64>,
    /// What `.not` forbids.
    pub nots: Vec<&'a PatternExpr>,
    /// Keys, with the name that each has in the output.
    pub keys: Vec<(Option<String>, &'a Expr, Span)>,
    /// Places of the operations read.
    pub taken: Vec<Span>,
}

impl<'a> Options<'a> {
    /// The operations before the first that makes fields of its own, and those of the named pattern.
    pub(super) fn read(
        program: &'a Declarations<'a>,
        decl: &'a StreamDecl,
        named: Option<&'a PatternDecl>,
    ) -> Result<Options<'a>> {
        let mut options = Options {
            strategy: Strategy::Next,
            after: AfterMatch::NoSkip,
            emit_each: false,
            max_matches: MAX_MATCHES,
            within_us: None,
            nots: Vec::new(),
            keys: Vec::new(),
            taken: Vec::new(),
        };
        if let Some(named) = named {
            options.within_us = match &named.within {
                Some(limit) => Some(duration(program, limit)?),
                None => None,
            };
            for key in &named.partition_by {
                options.keys.push((key_name(None, key), key, key.span));
            }
        }
        let mut seen: Vec<&str> = Vec::new();
        for op in &decl.ops {
            let name = op.name.name.as_str();
            if matches!(name, "emit" | "select") {
                break;
            }
            if !OPERATIONS.contains(&name) {
                continue;
            }
            if name != "not" && seen.contains(&name) {
                return Err(misplaced(op.span, format!("the pattern already has a `.{name}`")));
            }
            seen.push(name);
            options.operation(program, op)?;
            options.taken.push(op.span);
        }
        Ok(options)
    }

    fn operation(&mut self, program: &'a Declarations<'a>, op: &'a Op) -> Result<()> {
        match op.name.name.as_str() {
            "within" => {
                let limit = duration(program, &one(op, "a duration")?.value)?;
                self.within_us = Some(self.within_us.map_or(limit, |own| own.min(limit)));
            }
            "strategy" => {
                self.strategy = match word(op)? {
                    "strict" => Strategy::Strict,
                    "next" => Strategy::Next,
                    "relaxed" => Strategy::Relaxed,
                    "any" => Strategy::Any,
                    _ => return Err(wrong_word(op, "strict, next, relaxed, any")),
                };
            }
            "after_match" => {
                self.after = match word(op)? {
                    "no_skip" => AfterMatch::NoSkip,
                    "skip_to_next" => AfterMatch::ToNext,
                    "skip_past_last" => AfterMatch::PastLast,
                    _ => return Err(wrong_word(op, "no_skip, skip_to_next, skip_past_last")),
                };
            }
            "emit_each" => {
                if let Some(extra) = all_args(op)?.first() {
                    return Err(arguments(extra.span, "`.emit_each` takes no argument"));
                }
                self.emit_each = true;
            }
            "max_matches" => {
                let value = &one(op, "a number of matches")?.value;
                self.max_matches = match constant(program, value)? {
                    ScalarValue::Int64(Some(n)) if n > 0 => n as u64,
                    _ => {
                        return Err(arguments(value.span, "a number of matches is at least 1"));
                    }
                };
            }
            "not" => match &op.args {
                OpArgs::Not(negated) => self.nots.push(negated),
                _ => return Err(arguments(op.span, "`.not` takes a step: `.not(E where ..)`")),
            },
            _ => self.partition_by(op)?,
        }
        Ok(())
    }

    fn partition_by(&mut self, op: &'a Op) -> Result<()> {
        let args: &'a [Arg] = match &op.args {
            OpArgs::Args(args) => args,
            _ => &[],
        };
        if args.is_empty() {
            return Err(arguments(op.span, "`.partition_by` takes at least one key"));
        }
        if !self.keys.is_empty() {
            return Err(misplaced(op.span, "the named pattern is already partitioned".into()));
        }
        for arg in args {
            let name = key_name(arg.name.as_ref().map(|n| n.name.as_str()), &arg.value);
            if name.is_some() && self.keys.iter().any(|(other, _, _)| *other == name) {
                return Err(error(
                    SqlState::DUPLICATE_COLUMN,
                    codes::DUPLICATE_NAME,
                    arg.span,
                    "there are two keys of this name",
                ));
            }
            self.keys.push((name, &arg.value, arg.span));
        }
        Ok(())
    }
}

fn key_name(given: Option<&str>, key: &Expr) -> Option<String> {
    let own = match &key.kind {
        ExprKind::Name(name) => Some(name.as_str()),
        ExprKind::Field { name, .. } => Some(name.name.as_str()),
        _ => None,
    };
    given.or(own).map(str::to_string)
}

fn misplaced(span: Span, message: String) -> Box<Diagnostic> {
    error(SqlState::INVALID_OBJECT_DEFINITION, codes::MISPLACED_OPERATION, span, message)
}

/// A word as the only argument.
fn word(op: &Op) -> Result<&str> {
    Ok(match &one(op, "a word")?.value.kind {
        ExprKind::Name(name) | ExprKind::Str(name) => name,
        _ => "",
    })
}

fn wrong_word(op: &Op, words: &str) -> Box<Diagnostic> {
    let span = all_args(op).ok().and_then(|args| args.first()).map_or(op.span, |arg| arg.span);
    arguments(span, format!("the argument of `.{}` is one of {words}", op.name.name))
}

fn constant<'a>(program: &'a Declarations<'a>, expr: &'a Expr) -> Result<ScalarValue> {
    match Binder::new(program, None).bind(expr)?.expr {
        PlanExpr::Literal(scalar, _) => Ok(scalar),
        _ => Err(error(
            SqlState::INVALID_PARAMETER_VALUE,
            codes::NOT_CONSTANT,
            expr.span,
            "a constant is needed here",
        )),
    }
}

/// A time limit in microseconds.
pub(super) fn duration<'a>(program: &'a Declarations<'a>, expr: &'a Expr) -> Result<i64> {
    match constant(program, expr)? {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.nanoseconds >= 0 => {
            Ok(i.nanoseconds / 1000)
        }
        _ => {
            let message = "a time limit is a duration such as `5m`, not negative";
            Err(arguments(expr.span, message))
        }
    }
}

/// The limit of one step.
pub(super) fn step_limit(span: Span) -> Box<Diagnostic> {
    hint(unsupported(span, "a time limit of one step"), "limit the pattern: `.within(5m)`")
}
