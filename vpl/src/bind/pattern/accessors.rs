//! `a.id`, `b[0].id`, `count(b)`, `sum(b.v)`: values of rows that a match has bound.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use auspex_plan::pattern::{Accessor, Get};
use datafusion::logical_expr::Expr as PlanExpr;

use super::super::problem::{Result, hint, mismatch, unsupported};
use super::super::value::{Value, coerce, is_float, is_int, is_number, is_text, is_timestamp};
use super::parts::Maker;
use crate::ast::{Expr, ExprKind, Ident, UnaryOp};

/// Which steps an expression can name.
pub(super) struct Scope {
    /// The first so many.
    pub visible: usize,
    /// The step whose condition it is: its name stands for the candidate row.
    pub own: Option<usize>,
    /// The step at whose place it stands.
    pub seen_from: Option<usize>,
}

/// A value with its type, and the place of the expression that names it.
pub(super) type Named = ((usize, usize), Accessor, ColumnType);

/// A value with its type.
pub(super) type Found = Option<(Accessor, ColumnType)>;

impl<'a> Maker<'a> {
    /// The value of bound rows that an expression stands for, when it does.
    pub(super) fn accessor(&self, e: &'a Expr, locals: &[String], scope: &Scope) -> Result<Found> {
        let step = |word: &str, span: Span| -> Result<Option<usize>> {
            if locals.iter().any(|local| local == word) || self.program.variables.contains_key(word)
            {
                return Ok(None);
            }
            let Some(step) = self.find(word, scope) else { return Ok(None) };
            if let Some(from) = scope.seen_from
                && self.are_apart(step, from)
            {
                let problem = unsupported(span, "a condition on another part of the same group");
                return Err(hint(problem, "use `.where(..)` behind the pattern"));
            }
            Ok(Some(step))
        };
        match &e.kind {
            ExprKind::Field { base, name, .. } => match &base.kind {
                ExprKind::Name(word) => {
                    let Some(step) = step(word, e.span)? else { return Ok(None) };
                    if self.is_count(step, name) {
                        return Ok(Some(self.count(step, format!("{word}.count"))));
                    }
                    if scope.own == Some(step) {
                        return Ok(None);
                    }
                    self.field(step, name, Get::At(-1), &format!("{word}.{}", name.name), e.span)
                }
                ExprKind::Index { base, index } => {
                    let (ExprKind::Name(word), Some(at)) = (&base.kind, number(index)) else {
                        return Ok(None);
                    };
                    let Some(step) = step(word, e.span)? else { return Ok(None) };
                    let text = format!("{word}[{at}].{}", name.name);
                    self.field(step, name, Get::At(at), &text, e.span)
                }
                _ => Ok(None),
            },
            ExprKind::Call { function, args } => {
                let [only] = args.as_slice() else { return Ok(None) };
                if self.program.functions.contains_key(function.name.as_str()) {
                    return Ok(None);
                }
                self.call(function, &only.value, &step, scope)
            }
            ExprKind::Method { base, name, args, .. } if args.is_empty() => match &base.kind {
                ExprKind::Name(word) if name.name == "count" => {
                    let step = step(word, e.span)?;
                    Ok(step.map(|step| self.count(step, format!("count({word})"))))
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn call(
        &self,
        function: &Ident,
        arg: &'a Expr,
        step: &dyn Fn(&str, Span) -> Result<Option<usize>>,
        scope: &Scope,
    ) -> Result<Found> {
        let get = match function.name.as_str() {
            "count" => Get::Count,
            "first" => Get::At(0),
            "last" => Get::At(-1),
            "sum" => Get::Sum,
            "avg" => Get::Avg,
            "min" => Get::Min,
            "max" => Get::Max,
            "collect" => Get::Collect,
            _ => return Ok(None),
        };
        match &arg.kind {
            ExprKind::Name(word) if get == Get::Count => {
                let step = step(word, arg.span)?;
                Ok(step.map(|step| self.count(step, format!("count({word})"))))
            }
            ExprKind::Field { base, name, .. } => {
                let ExprKind::Name(word) = &base.kind else { return Ok(None) };
                let Some(step) = step(word, arg.span)? else { return Ok(None) };
                // Of the candidate row it is a function of an array.
                if scope.own == Some(step) && !self.known[step].repeated {
                    return Ok(None);
                }
                let text = format!("{}({word}.{})", function.name, name.name);
                if get == Get::Count {
                    let problem = unsupported(arg.span, "counting the values of a field");
                    return Err(hint(problem, format!("`count({word})` counts the rows")));
                }
                self.field(step, name, get, &text, arg.span)
            }
            _ => Ok(None),
        }
    }

    /// The step a word before a dot means.
    fn find(&self, word: &str, scope: &Scope) -> Option<usize> {
        let own = scope.own.filter(|own| self.known[*own].is(word));
        let visible = &self.known[..scope.visible];
        let by_alias = || visible.iter().rposition(|step| step.name == word);
        own.or_else(by_alias).or_else(|| visible.iter().rposition(|step| step.event == word))
    }

    /// `b.count`, unless it is a field.
    fn is_count(&self, step: usize, name: &Ident) -> bool {
        let known = &self.known[step];
        name.name == "count"
            && known.repeated
            && self.inputs[known.input].row.field("count").is_none()
    }

    fn count(&self, step: usize, name: String) -> (Accessor, ColumnType) {
        let ty = ColumnType::BigInt;
        let (get, data_type) = (Get::Count, ty.arrow());
        (Accessor { step, get, of: None, data_type, name }, ty)
    }

    fn field(&self, step: usize, name: &Ident, get: Get, text: &str, span: Span) -> Result<Found> {
        let row = &self.inputs[self.known[step].input].row;
        // What is not there has been said by the checks of the names, or will be by the binder.
        let Some(field) = row.field(&name.name) else { return Ok(None) };
        if matches!(field.ty, ColumnType::Map(..)) {
            return Err(unsupported(span, "a map of a row of a pattern"));
        }
        let value = Value::leaf(PlanExpr::Column(field.column.clone()), field.ty.clone());
        let what = format!("the argument of `{text}`");
        let number = |value: Value| match &field.ty {
            ty if is_int(ty) => coerce(value, &ColumnType::BigInt, span, &what),
            ty if is_float(ty) => coerce(value, &ColumnType::Double, span, &what),
            ty => Err(mismatch(span, format!("{what} must be a number, not `{}`", ty.vpl_name()))),
        };
        let (value, ty) = match get {
            Get::At(_) => (value, field.ty.clone()),
            Get::Collect => (value, ColumnType::Array(Box::new(field.ty.clone()))),
            Get::Avg => (number(value)?, ColumnType::Double),
            Get::Sum => {
                let value = number(value)?;
                let ty = value.ty.clone().unwrap_or(ColumnType::Double);
                (value, ty)
            }
            _ => {
                let ordered = is_number(&field.ty) || is_text(&field.ty) || is_timestamp(&field.ty);
                if !ordered {
                    let found = field.ty.vpl_name();
                    return Err(mismatch(span, format!("{what} has no order: it is `{found}`")));
                }
                (value, field.ty.clone())
            }
        };
        let (of, data_type) = (Some(value.expr), ty.arrow());
        Ok(Some((Accessor { step, get, of, data_type, name: text.into() }, ty)))
    }
}

/// A constant position.
fn number(e: &Expr) -> Option<i64> {
    match &e.kind {
        ExprKind::Int(at) => Some(*at),
        ExprKind::Unary { op: UnaryOp::Neg, operand } => match operand.kind {
            ExprKind::Int(at) => Some(-at),
            _ => None,
        },
        _ => None,
    }
}
