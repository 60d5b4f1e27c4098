//! Streams: sources and chains of operations.

use pest::iterators::Pair;

use super::{Builder, Result, next, only, parts_of, syntax};
use crate::ast::*;
use crate::syntax::Rule;

impl Builder<'_> {
    pub(super) fn stream(&self, pair: Pair<'_, Rule>) -> Result<StreamDecl> {
        let mut inner = parts_of(pair).skip(1);
        let name = self.ident(&next(&mut inner));
        let mut ty = None;
        let mut pair = next(&mut inner);
        if pair.as_rule() == Rule::type_expr {
            ty = Some(self.type_expr(pair));
            pair = next(&mut inner);
        }
        let source = only(pair);
        let mut ops = Vec::new();
        let mut arrows = Vec::new();
        for pair in inner {
            match pair.as_rule() {
                Rule::arrow => arrows.push(self.pattern(only(pair))?),
                _ => ops.push(self.op(pair)?),
            }
        }
        let source = if source.as_rule() == Rule::pattern_or_expr {
            self.pattern_source(source, arrows)?
        } else if let Some(arrow) = arrows.first() {
            return Err(syntax(arrow.span, "a sequence cannot go on from this kind of source")
                .hint("give the source a name with a stream of its own and begin with that"));
        } else {
            self.source(source)?
        };
        Ok(StreamDecl { name, ty, source, ops })
    }

    fn pattern_source(&self, pair: Pair<'_, Rule>, arrows: Vec<PatternExpr>) -> Result<Source> {
        let mixed = mixes_operators(&pair, !arrows.is_empty());
        let span = self.span(&pair);
        if mixed {
            return Err(syntax(span, "`->` next to `and` or `or` needs parentheses")
                .hint("write `A -> (B or C)` or `(A -> B) or C`"));
        }
        let single = is_single_step(&pair) && arrows.is_empty();
        let first = self.pattern(pair.clone())?;
        if single
            && let PatternKind::Step(step) = &first.kind
            && step.quantifier.is_none()
            && step.within.is_none()
        {
            let step = step.clone();
            let Step { event: name, alias, condition, .. } = step;
            return Ok(Source { kind: SourceKind::Relation { name, alias, condition }, span });
        }
        let Some(last) = arrows.last() else {
            return Ok(Source { kind: SourceKind::Pattern(first), span });
        };
        let span = span.to(last.span);
        // An open chain goes on, one in parentheses is a step of its own.
        let mut parts = match first.kind {
            PatternKind::Seq(parts) if !is_single_step(&pair) => parts,
            kind => vec![PatternExpr { kind, span: first.span }],
        };
        parts.extend(arrows);
        let kind = SourceKind::Pattern(PatternExpr { kind: PatternKind::Seq(parts), span });
        Ok(Source { kind, span })
    }

    fn source(&self, pair: Pair<'_, Rule>) -> Result<Source> {
        let span = self.span(&pair);
        let rule = pair.as_rule();
        let mut inner = parts_of(pair);
        let word = next(&mut inner);
        let kind = match rule {
            Rule::merge_source => {
                SourceKind::Merge(inner.map(|i| self.input(i)).collect::<Result<_>>()?)
            }
            Rule::join_source => {
                let kind = JoinKind::of_word(word.as_str()).unwrap_or(JoinKind::Inner);
                let inputs = inner.map(|i| self.input(i)).collect::<Result<_>>()?;
                SourceKind::Join { kind, inputs }
            }
            Rule::timer_source => SourceKind::Timer(self.args(next(&mut inner))?),
            _ => {
                let mut steps: Vec<PatternExpr> =
                    inner.map(|step| self.named_step(step)).collect::<Result<_>>()?;
                SourceKind::Pattern(match steps.len() {
                    1 => steps.remove(0),
                    _ => PatternExpr { kind: PatternKind::Seq(steps), span },
                })
            }
        };
        Ok(Source { kind, span })
    }

    fn input(&self, pair: Pair<'_, Rule>) -> Result<Input> {
        let span = self.span(&pair);
        let mut inner = parts_of(pair).peekable();
        let mut label = None;
        if inner.peek().is_some_and(|p| p.as_rule() == Rule::labelled) {
            inner = parts_of(next(&mut inner)).peekable();
            next(&mut inner);
            label = Some(self.ident(&next(&mut inner)));
        }
        let relation = self.ident(&next(&mut inner));
        let ops = inner.map(|op| self.op(op)).collect::<Result<_>>()?;
        Ok(Input { label, relation, ops, span })
    }

    /// `a: E where c` of `sequence(..)`: the name is the alias.
    fn named_step(&self, pair: Pair<'_, Rule>) -> Result<PatternExpr> {
        let span = self.span(&pair);
        let mut inner = parts_of(pair);
        let name = self.ident(&next(&mut inner));
        let mut pattern = self.step(next(&mut inner))?;
        pattern.span = span;
        if let PatternKind::Step(step) = &mut pattern.kind {
            if let Some(alias) = &step.alias {
                return Err(syntax(alias.span, "the step already has a name before the colon"));
            }
            step.alias = Some(name);
            if let Some(limit) = inner.next() {
                if step.within.is_some() {
                    return Err(syntax(self.span(&limit), "the step has two limits"));
                }
                step.within = Some(self.expr(next(&mut parts_of(limit).skip(1)))?);
            }
        }
        Ok(pattern)
    }

    pub(super) fn op(&self, pair: Pair<'_, Rule>) -> Result<Op> {
        let span = self.span(&pair);
        let pair = only(pair);
        let rule = pair.as_rule();
        let mut inner = parts_of(pair);
        let name = self.ident(&next(&mut inner));
        let args = match rule {
            Rule::emit_op => {
                let mut pair = next(&mut inner);
                let mut ty = None;
                if pair.as_rule() == Rule::emit_type {
                    ty = parts_of(pair).nth(1).map(|name| self.ident(&name));
                    pair = next(&mut inner);
                }
                OpArgs::Emit { ty, args: self.args(pair)? }
            }
            Rule::order_op => {
                OpArgs::OrderBy(inner.map(|key| self.order_key(key)).collect::<Result<_>>()?)
            }
            Rule::not_op => OpArgs::Not(self.pattern(next(&mut inner))?),
            Rule::fork_op => {
                OpArgs::Fork(inner.map(|branch| self.branch(branch)).collect::<Result<_>>()?)
            }
            Rule::pattern_op => {
                let name = self.ident(&next(&mut inner));
                OpArgs::Pattern { name, pattern: self.pattern(next(&mut inner))? }
            }
            _ => OpArgs::Args(self.args(next(&mut inner))?),
        };
        Ok(Op { name, args, span })
    }

    fn order_key(&self, pair: Pair<'_, Rule>) -> Result<OrderKey> {
        let mut inner = parts_of(pair);
        let expr = self.expr(next(&mut inner))?;
        let descending = inner.next().is_some_and(|p| p.as_rule() == Rule::descending);
        Ok(OrderKey { expr, descending })
    }

    fn branch(&self, pair: Pair<'_, Rule>) -> Result<Branch> {
        let mut inner = parts_of(pair);
        let name = self.ident(&next(&mut inner));
        Ok(Branch { name, ops: inner.map(|op| self.op(op)).collect::<Result<_>>()? })
    }
}

/// Whether the pattern, outside of parentheses, is one step or group.
fn is_single_step(pair: &Pair<'_, Rule>) -> bool {
    let mut at = pair.clone();
    while matches!(
        at.as_rule(),
        Rule::pattern_or_expr | Rule::pattern_and_expr | Rule::pattern_chain | Rule::pattern_unary
    ) {
        let mut inner = parts_of(at);
        at = next(&mut inner);
        if inner.next().is_some() {
            return false;
        }
    }
    true
}

/// Whether a chain of steps stands beside `and` or `or` outside of parentheses.
fn mixes_operators(pair: &Pair<'_, Rule>, arrows: bool) -> bool {
    let count = |pair: &Pair<'_, Rule>, rule| {
        parts_of(pair.clone()).filter(|p| p.as_rule() == rule).count()
    };
    let mut combined = count(pair, Rule::pattern_and_expr) > 1;
    let mut chained = arrows;
    for and in parts_of(pair.clone()).filter(|p| p.as_rule() == Rule::pattern_and_expr) {
        combined |= count(&and, Rule::pattern_chain) > 1;
        for chain in parts_of(and).filter(|p| p.as_rule() == Rule::pattern_chain) {
            chained |= parts_of(chain).count() > 1;
        }
    }
    combined && chained
}
