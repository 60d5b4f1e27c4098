//! Patterns: steps, groups, alternatives, negations.

use auspex_plan::diagnostic::{Diagnostic, Span};
use pest::iterators::Pair;

use super::{Builder, Result, next, only, parts_of, syntax};
use crate::ast::*;
use crate::codes;
use crate::syntax::Rule;

impl Builder<'_> {
    pub(super) fn pattern_decl(&self, pair: Pair<'_, Rule>) -> Result<PatternDecl> {
        let mut inner = parts_of(pair).skip(1);
        let name = self.ident(&next(&mut inner));
        let pair = next(&mut inner);
        let whole = self.span(&pair);
        let mut pattern = self.pattern(pair)?;
        let mut within = None;
        let mut partition_by = Vec::new();
        for pair in inner {
            match pair.as_rule() {
                Rule::pattern_within => within = Some(self.within(pair)?),
                _ => {
                    let keys = parts_of(pair).filter(|p| p.as_rule() == Rule::expr);
                    partition_by = keys.map(|key| self.expr(key)).collect::<Result<_>>()?;
                }
            }
        }
        // `P = A -> B within 5m` limits the pattern, not its last step.
        if within.is_none() {
            within = trailing_limit(&mut pattern, whole.end);
        }
        Ok(PatternDecl { name, pattern, within, partition_by })
    }

    /// Any of the pattern rules.
    pub(super) fn pattern(&self, pair: Pair<'_, Rule>) -> Result<PatternExpr> {
        let span = self.span(&pair);
        match pair.as_rule() {
            Rule::pattern_xor_expr => {
                if let Some(xor) = parts_of(pair.clone()).find(|p| p.as_rule() == Rule::kw_xor) {
                    return Err(Diagnostic::unsupported("`xor` of patterns is not supported")
                        .code(codes::UNSUPPORTED)
                        .hint("write the two alternatives as streams of their own")
                        .at(self.span(&xor)));
                }
                self.pattern(only(pair))
            }
            Rule::pattern_or_expr => self.several(pair, PatternKind::Or),
            Rule::pattern_and_expr => self.several(pair, PatternKind::And),
            Rule::pattern_chain => self.several(pair, PatternKind::Seq),
            Rule::seq_call => self.several(pair, PatternKind::Seq),
            Rule::pattern_unary => self.pattern(only(pair)),
            Rule::pattern_group => self.group(pair, span),
            Rule::negation => self.negation(pair, span),
            _ => self.step(pair),
        }
    }

    /// One part stands for itself, several are combined.
    fn several(
        &self,
        pair: Pair<'_, Rule>,
        combine: fn(Vec<PatternExpr>) -> PatternKind,
    ) -> Result<PatternExpr> {
        let span = self.span(&pair);
        let word = |p: &Pair<'_, Rule>| {
            matches!(p.as_rule(), Rule::pattern_or | Rule::pattern_and | Rule::kw_seq)
        };
        let parts = parts_of(pair).filter(|p| !word(p));
        let mut parts: Vec<PatternExpr> = parts.map(|p| self.pattern(p)).collect::<Result<_>>()?;
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(PatternExpr { kind: combine(parts), span }),
        }
    }

    fn group(&self, pair: Pair<'_, Rule>, span: Span) -> Result<PatternExpr> {
        let mut all = None;
        let mut inner = None;
        let mut quantifier = None;
        let mut until = None;
        for pair in parts_of(pair) {
            match pair.as_rule() {
                Rule::all => all = Some(self.span(&pair)),
                Rule::quantifier => quantifier = Some(self.quantifier(pair)?),
                Rule::until => until = Some(self.clause(pair)?),
                _ => inner = Some(self.pattern(pair)?),
            }
        }
        let inner = inner.expect("the grammar puts a pattern into a group");
        let quantifier = quantifier.or(all.map(|span| Quantifier { min: 1, max: None, span }));
        match quantifier {
            Some(quantifier) => {
                let kind = PatternKind::Repeat { inner: Box::new(inner), quantifier, until };
                Ok(PatternExpr { kind, span })
            }
            None => match until {
                Some(condition) => Err(lone_until(condition.span)),
                None => Ok(inner),
            },
        }
    }

    fn negation(&self, pair: Pair<'_, Rule>, span: Span) -> Result<PatternExpr> {
        let mut within = None;
        let pair = next(&mut parts_of(pair).skip(1));
        let inner = if pair.as_rule() == Rule::negated_group {
            let mut inner = parts_of(pair);
            let pattern = self.pattern(next(&mut inner))?;
            within = inner.next().map(|limit| self.within(limit)).transpose()?;
            pattern
        } else {
            let mut pattern = self.step(pair)?;
            if let PatternKind::Step(step) = &mut pattern.kind {
                within = step.within.take();
            }
            pattern
        };
        Ok(PatternExpr { kind: PatternKind::Not { inner: Box::new(inner), within }, span })
    }

    pub(super) fn step(&self, pair: Pair<'_, Rule>) -> Result<PatternExpr> {
        let span = self.span(&pair);
        let mut all = None;
        let mut event = None;
        let (mut quantifier, mut alias) = (None, None);
        let (mut condition, mut until, mut within) = (None, None, None);
        for pair in parts_of(pair) {
            let place = self.span(&pair);
            let twice = |name: &str| syntax(place, format!("the step has two `{name}` clauses"));
            match pair.as_rule() {
                Rule::all => all = Some(place),
                Rule::ident => event = Some(self.ident(&pair)),
                Rule::quantifier => quantifier = Some(self.quantifier(pair)?),
                Rule::alias => alias = parts_of(pair).nth(1).map(|name| self.ident(&name)),
                Rule::where_open | Rule::where_closed => {
                    if condition.replace(self.clause(pair)?).is_some() {
                        return Err(twice("where").hint("join the conditions with `and`"));
                    }
                }
                Rule::until | Rule::until_closed => {
                    if until.replace(self.clause(pair)?).is_some() {
                        return Err(twice("until"));
                    }
                }
                _ => {
                    if within.replace(self.within(pair)?).is_some() {
                        return Err(twice("within"));
                    }
                }
            }
        }
        let event = event.expect("the grammar names an event in every step");
        let quantifier = quantifier.or(all.map(|span| Quantifier { min: 1, max: None, span }));
        if let (None, Some(condition)) = (&quantifier, &until) {
            return Err(lone_until(condition.span));
        }
        let step = Step { event, quantifier, alias, condition, until, within };
        Ok(PatternExpr { kind: PatternKind::Step(step), span })
    }

    /// Condition of `where` and `until`.
    fn clause(&self, pair: Pair<'_, Rule>) -> Result<Expr> {
        self.expr(next(&mut parts_of(pair).skip(1)))
    }

    /// Limit of `within`.
    fn within(&self, pair: Pair<'_, Rule>) -> Result<Expr> {
        self.clause(pair)
    }

    fn quantifier(&self, pair: Pair<'_, Rule>) -> Result<Quantifier> {
        let span = self.span(&pair);
        let shape = only(pair);
        let (min, max) = match shape.as_rule() {
            Rule::plus => (1, None),
            Rule::star => (0, None),
            Rule::optional => (0, Some(1)),
            _ => self.bounds(shape)?,
        };
        if max.is_some_and(|max| max < min || max == 0) {
            return Err(Diagnostic::syntax("the bounds of the repetition are empty")
                .code(codes::PATTERN)
                .hint("write {n} or {n,m} with 0 <= n <= m and m at least 1")
                .at(span));
        }
        Ok(Quantifier { min, max, span })
    }

    fn bounds(&self, pair: Pair<'_, Rule>) -> Result<(u64, Option<u64>)> {
        let (mut min, mut max, mut comma) = (None, None, false);
        for pair in parts_of(pair) {
            let place = self.span(&pair);
            let number = || {
                pair.as_str().parse::<u64>().map_err(|_| {
                    Diagnostic::syntax("the number is out of range").code(codes::LITERAL).at(place)
                })
            };
            match pair.as_rule() {
                Rule::at_least => min = Some(number()?),
                Rule::at_most => max = Some(number()?),
                _ => comma = true,
            }
        }
        Ok(if comma { (min.unwrap_or(0), max) } else { (min.unwrap_or(0), min) })
    }
}

fn lone_until(span: Span) -> Diagnostic {
    Diagnostic::syntax("`until` closes a repetition, and this step is not repeated")
        .code(codes::PATTERN)
        .hint("write `all` before the event, or a quantifier such as `+` after it")
        .at(span)
}

/// Takes the limit off the last step of a pattern when the pattern ends with it, which it does
/// not when the step is in parentheses.
fn trailing_limit(pattern: &mut PatternExpr, end: usize) -> Option<Expr> {
    if pattern.span.end != end {
        return None;
    }
    match &mut pattern.kind {
        PatternKind::Step(step) => step.within.take(),
        PatternKind::Not { within, .. } => within.take(),
        PatternKind::Seq(parts) | PatternKind::And(parts) | PatternKind::Or(parts) => {
            trailing_limit(parts.last_mut()?, end)
        }
        PatternKind::Repeat { .. } => None,
    }
}
