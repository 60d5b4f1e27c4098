//! Expressions: operator precedence and everything below it.
//!
//! The grammar delivers a flat row of prefixes, operands and operators. From loose to tight:
//! range, `or`, `and`, `not`, comparisons (`== < in is`, not chained), `??`, `|`, `^`, `&`, shifts,
//! `+ -`, `* / %`, `**` (to the right), `-` and `~` before an operand.

use std::iter::Peekable;
use std::vec::IntoIter;

use auspex_plan::diagnostic::Span;
use pest::iterators::Pair;

use super::{Builder, Result, literal, next, only, parts_of, syntax};
use crate::ast::*;
use crate::syntax::Rule;

const RANGE: u8 = 1;
const OR: u8 = 2;
const AND: u8 = 3;
const NOT: u8 = 4;
const COMPARE: u8 = 5;
const COALESCE: u8 = 6;
const POWER: u8 = 13;
const UNARY: u8 = 14;

/// One element of the flat row.
enum Item {
    Prefix(UnaryOp, Span),
    Operand(Expr),
    Infix(Infix),
    IsNull { negated: bool, span: Span },
}

#[derive(Clone, Copy)]
struct Infix {
    kind: InfixKind,
    span: Span,
}

#[derive(Clone, Copy)]
enum InfixKind {
    Binary(BinaryOp),
    In { negated: bool },
    Range { inclusive: bool },
}

impl InfixKind {
    fn of(rule: Rule) -> Self {
        use BinaryOp::*;
        InfixKind::Binary(match rule {
            Rule::range => return InfixKind::Range { inclusive: false },
            Rule::range_inclusive => return InfixKind::Range { inclusive: true },
            Rule::is_in => return InfixKind::In { negated: false },
            Rule::not_in => return InfixKind::In { negated: true },
            Rule::power => Pow,
            Rule::multiply => Mul,
            Rule::divide => Div,
            Rule::modulo => Rem,
            Rule::add => Add,
            Rule::subtract => Sub,
            Rule::shift_left => ShiftLeft,
            Rule::shift_right => ShiftRight,
            Rule::equal => Eq,
            Rule::not_equal => NotEq,
            Rule::less => Lt,
            Rule::less_equal => LtEq,
            Rule::greater => Gt,
            Rule::greater_equal => GtEq,
            Rule::coalesce => Coalesce,
            Rule::bit_and => BitAnd,
            Rule::bit_or => BitOr,
            Rule::bit_xor => BitXor,
            Rule::logical_and => And,
            Rule::logical_or => Or,
            other => unreachable!("the grammar has no operator {other:?}"),
        })
    }

    fn precedence(self) -> u8 {
        use BinaryOp::*;
        match self {
            InfixKind::Range { .. } => RANGE,
            InfixKind::In { .. } => COMPARE,
            InfixKind::Binary(op) => match op {
                Or => OR,
                And => AND,
                Eq | NotEq | Lt | LtEq | Gt | GtEq => COMPARE,
                Coalesce => COALESCE,
                BitOr => 7,
                BitXor => 8,
                BitAnd => 9,
                ShiftLeft | ShiftRight => 10,
                Add | Sub => 11,
                Mul | Div | Rem => 12,
                Pow => POWER,
            },
        }
    }
}

impl Builder<'_> {
    /// Any of the rules for expressions.
    pub(super) fn expr(&self, pair: Pair<'_, Rule>) -> Result<Expr> {
        let mut items: Vec<Item> = Vec::new();
        for pair in parts_of(pair) {
            let span = self.span(&pair);
            match pair.as_rule() {
                Rule::negative => items.push(Item::Prefix(UnaryOp::Neg, span)),
                Rule::negate => items.push(Item::Prefix(UnaryOp::Not, span)),
                Rule::complement => items.push(Item::Prefix(UnaryOp::BitNot, span)),
                Rule::is_null => {
                    let negated = parts_of(pair).any(|p| p.as_rule() == Rule::is_not);
                    items.push(Item::IsNull { negated, span });
                }
                Rule::slot
                | Rule::filter_clause
                | Rule::method
                | Rule::member
                | Rule::cond_member => {
                    let Some(Item::Operand(base)) = items.pop() else {
                        unreachable!("the grammar puts an operand before what is applied to it")
                    };
                    items.push(Item::Operand(self.postfix(base, pair)?));
                }
                Rule::lambda
                | Rule::literal
                | Rule::if_expr
                | Rule::cond_if
                | Rule::match_expr
                | Rule::call
                | Rule::ident
                | Rule::paren
                | Rule::array
                | Rule::map => {
                    if let Some(smallest) = smallest_int(&items, &pair) {
                        let minus = items.pop().map_or(span, |item| item_span(&item));
                        let kind = ExprKind::Int(smallest);
                        items.push(Item::Operand(Expr { kind, span: minus.to(span) }));
                    } else {
                        items.push(Item::Operand(self.primary(pair)?));
                    }
                }
                rule => items.push(Item::Infix(Infix { kind: InfixKind::of(rule), span })),
            }
        }
        climb(&mut items.into_iter().peekable(), 0)
    }

    fn primary(&self, pair: Pair<'_, Rule>) -> Result<Expr> {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::literal => self.literal(pair)?,
            Rule::ident => ExprKind::Name(pair.as_str().to_string()),
            Rule::paren => self.expr(only(pair))?.kind,
            Rule::array => {
                ExprKind::Array(parts_of(pair).map(|e| self.expr(e)).collect::<Result<_>>()?)
            }
            Rule::map => ExprKind::Map(
                parts_of(pair).map(|entry| self.map_entry(entry)).collect::<Result<_>>()?,
            ),
            Rule::call => {
                let mut inner = parts_of(pair);
                let function = self.ident(&next(&mut inner));
                ExprKind::Call { function, args: self.args(next(&mut inner))? }
            }
            Rule::if_expr | Rule::cond_if => {
                let keyword = |p: &Pair<'_, Rule>| !matches!(p.as_rule(), Rule::expr | Rule::cond);
                let mut parts = parts_of(pair).filter(|p| !keyword(p));
                let mut part = || Ok(Box::new(self.expr(next(&mut parts))?));
                ExprKind::If { condition: part()?, then: part()?, otherwise: part()? }
            }
            Rule::match_expr => self.match_expr(pair)?,
            _ => self.lambda(pair)?,
        };
        Ok(Expr { kind, span })
    }

    fn map_entry(&self, pair: Pair<'_, Rule>) -> Result<(Ident, Expr)> {
        let mut inner = parts_of(pair);
        let key = only(next(&mut inner));
        let name = match key.as_rule() {
            Rule::string => self.text(&key)?,
            _ => key.as_str().to_string(),
        };
        let key = Ident { name, span: self.span(&key) };
        Ok((key, self.expr(next(&mut inner))?))
    }

    fn lambda(&self, pair: Pair<'_, Rule>) -> Result<ExprKind> {
        let mut inner = parts_of(pair);
        let params: Vec<Ident> = parts_of(next(&mut inner)).map(|name| self.ident(&name)).collect();
        let mut bindings = Vec::new();
        let mut pair = next(&mut inner);
        if pair.as_rule() == Rule::lambda_block {
            let mut parts: Vec<_> = parts_of(pair).collect();
            pair = parts.pop().expect("a lambda's block ends with its result");
            for part in parts {
                bindings.push(self.binding(part)?);
            }
        }
        Ok(ExprKind::Lambda { params, bindings, body: Box::new(self.expr(pair)?) })
    }

    fn match_expr(&self, pair: Pair<'_, Rule>) -> Result<ExprKind> {
        let mut inner = parts_of(pair).filter(|p| p.as_rule() != Rule::kw_match);
        let subject = Box::new(self.expr(next(&mut inner))?);
        let arms = inner.map(|arm| self.match_arm(arm)).collect::<Result<_>>()?;
        Ok(ExprKind::Match { subject, arms })
    }

    fn match_arm(&self, pair: Pair<'_, Rule>) -> Result<MatchArm> {
        let span = self.span(&pair);
        let mut patterns = Vec::new();
        let mut guard = None;
        let mut value = None;
        for pair in parts_of(pair) {
            match pair.as_rule() {
                Rule::match_pattern => patterns.push(self.match_pattern(pair)?),
                Rule::guard => guard = Some(self.expr(next(&mut parts_of(pair).skip(1)))?),
                _ => value = Some(self.expr(pair)?),
            }
        }
        let value = value.expect("the grammar puts a result into every arm");
        Ok(MatchArm { patterns, guard, value, span })
    }

    fn match_pattern(&self, pair: Pair<'_, Rule>) -> Result<MatchPattern> {
        let span = self.span(&pair);
        let mut inner = parts_of(pair);
        let first = next(&mut inner);
        Ok(match first.as_rule() {
            Rule::any_pattern => MatchPattern::Any(span),
            Rule::ident => MatchPattern::Bind(self.ident(&first)),
            _ => {
                let from = self.expr(first)?;
                let Some(range) = inner.next() else { return Ok(MatchPattern::Value(from)) };
                let inclusive = range.as_str().trim() == "..=";
                let to = self.expr(next(&mut inner))?;
                let (from, to) = (Box::new(from), Box::new(to));
                MatchPattern::Value(Expr { kind: ExprKind::Range { from, to, inclusive }, span })
            }
        })
    }

    fn postfix(&self, base: Expr, pair: Pair<'_, Rule>) -> Result<Expr> {
        let own = self.span(&pair);
        let span = base.span.to(own);
        let rule = pair.as_rule();
        let mut inner = parts_of(pair);
        let kind = match rule {
            Rule::slot => return self.slot(base, inner.collect(), span),
            Rule::filter_clause => {
                if !matches!(base.kind, ExprKind::Call { .. }) {
                    return Err(syntax(own, "`filter (where ..)` must follow an aggregate call"));
                }
                let condition = inner.find(|p| p.as_rule() == Rule::expr);
                let condition = condition.expect("the grammar puts a condition into a filter");
                let condition = Box::new(self.expr(condition)?);
                ExprKind::Filter { call: Box::new(base), condition }
            }
            _ => {
                let optional = next(&mut inner).as_str() == "?.";
                let name = self.ident(&next(&mut inner));
                let base = Box::new(base);
                match inner.next() {
                    Some(args) => ExprKind::Method { base, name, args: self.args(args)?, optional },
                    None => ExprKind::Field { base, name, optional },
                }
            }
        };
        Ok(Expr { kind, span })
    }

    /// `[i]` or `[a:b]`
    fn slot(&self, base: Expr, parts: Vec<Pair<'_, Rule>>, span: Span) -> Result<Expr> {
        let base = Box::new(base);
        let colon = parts.iter().position(|p| p.as_rule() == Rule::colon);
        let mut before = None;
        let mut after = None;
        for (i, part) in parts.into_iter().enumerate() {
            if Some(i) == colon {
                continue;
            }
            let value = Some(Box::new(self.expr(part)?));
            if colon.is_some_and(|c| i > c) { after = value } else { before = value }
        }
        let kind = match (colon, before) {
            (None, Some(index)) => ExprKind::Index { base, index },
            (_, from) => ExprKind::Slice { base, from, to: after },
        };
        Ok(Expr { kind, span })
    }
}

fn item_span(item: &Item) -> Span {
    match item {
        Item::Prefix(_, span) | Item::IsNull { span, .. } => *span,
        Item::Operand(expr) => expr.span,
        Item::Infix(infix) => infix.span,
    }
}

/// The smallest int has no positive twin: `-9223372036854775808` is one literal.
fn smallest_int(items: &[Item], pair: &Pair<'_, Rule>) -> Option<i64> {
    let negative = matches!(items.last(), Some(Item::Prefix(UnaryOp::Neg, _)));
    if !negative || pair.as_rule() != Rule::literal || literal::number(pair.as_str()).is_ok() {
        return None;
    }
    let digits: String = pair.as_str().chars().filter(|c| *c != '_').collect();
    format!("-{}", digits.trim()).parse().ok()
}

/// Precedence climbing: an expression whose operators bind at least as tight as `min`.
fn climb(items: &mut Peekable<IntoIter<Item>>, min: u8) -> Result<Expr> {
    let mut left = match items.next() {
        Some(Item::Operand(expr)) => expr,
        Some(Item::Prefix(UnaryOp::Not, span)) if min > NOT => {
            return Err(syntax(span, "`not` needs parentheses here")
                .hint("`not` binds less tight than comparisons: write `a == (not b)`"));
        }
        Some(Item::Prefix(op, span)) => {
            let operand = climb(items, if op == UnaryOp::Not { NOT } else { UNARY })?;
            let span = span.to(operand.span);
            Expr { kind: ExprKind::Unary { op, operand: Box::new(operand) }, span }
        }
        _ => unreachable!("the grammar begins every row with a prefix or an operand"),
    };
    let mut previous = None;
    loop {
        let (precedence, span) = match items.peek() {
            Some(Item::Infix(infix)) => (infix.kind.precedence(), infix.span),
            Some(Item::IsNull { span, .. }) => (COMPARE, *span),
            _ => return Ok(left),
        };
        if precedence < min {
            return Ok(left);
        }
        if previous == Some(precedence) && precedence == COMPARE {
            return Err(syntax(span, "comparisons cannot be chained")
                .hint("write `a < b and b < c`, or put one comparison into parentheses"));
        }
        if previous == Some(precedence) && precedence == RANGE {
            return Err(syntax(span, "ranges cannot be chained"));
        }
        previous = Some(precedence);
        left = match items.next() {
            Some(Item::Infix(infix)) => {
                let right_associative = matches!(precedence, POWER | COALESCE);
                let right = climb(items, precedence + u8::from(!right_associative))?;
                combine(left, infix.kind, right)
            }
            Some(Item::IsNull { negated, span }) => {
                let span = left.span.to(span);
                Expr { kind: ExprKind::IsNull { operand: Box::new(left), negated }, span }
            }
            _ => unreachable!("only operators were peeked"),
        };
    }
}

fn combine(left: Expr, kind: InfixKind, right: Expr) -> Expr {
    let span = left.span.to(right.span);
    let (left, right) = (Box::new(left), Box::new(right));
    let kind = match kind {
        InfixKind::Binary(op) => ExprKind::Binary { op, left, right },
        InfixKind::In { negated } => ExprKind::In { operand: left, container: right, negated },
        InfixKind::Range { inclusive } => ExprKind::Range { from: left, to: right, inclusive },
    };
    Expr { kind, span }
}
