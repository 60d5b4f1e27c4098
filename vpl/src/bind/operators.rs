//! Operators: which types they take and what they become in the plan.
//!
//! Arithmetic becomes DataFusion's own operators, as in SQL; the executor makes them checked, so
//! that overflow and division by zero are errors of the row.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit};

use super::calls::our;
use super::problem::{Result, hint, mismatch};
use super::value::{
    Value, cast, coerce, common, convert, is_empty_array, is_int, is_number, is_text, is_timestamp,
    widest,
};
use crate::ast::BinaryOp;

/// An operand with its place.
type Operand = (Value, Span);

/// The plan's binary expression.
pub(super) fn fold_binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// `left op right` for every operator but `??`.
pub(super) fn binary(op: BinaryOp, left: Operand, right: Operand, span: Span) -> Result<Value> {
    match op {
        BinaryOp::Or | BinaryOp::And => logic(op, left, right),
        BinaryOp::Eq
        | BinaryOp::NotEq
        | BinaryOp::Lt
        | BinaryOp::LtEq
        | BinaryOp::Gt
        | BinaryOp::GtEq => compare(op, left, right, span),
        BinaryOp::BitOr
        | BinaryOp::BitXor
        | BinaryOp::BitAnd
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight => bits(op, left, right),
        BinaryOp::Pow => power(left, right, span),
        _ => arithmetic(op, left, right, span),
    }
}

fn operator(op: BinaryOp) -> Operator {
    match op {
        BinaryOp::Or => Operator::Or,
        BinaryOp::And => Operator::And,
        BinaryOp::Eq => Operator::Eq,
        BinaryOp::NotEq => Operator::NotEq,
        BinaryOp::Lt => Operator::Lt,
        BinaryOp::LtEq => Operator::LtEq,
        BinaryOp::Gt => Operator::Gt,
        BinaryOp::GtEq => Operator::GtEq,
        BinaryOp::BitOr => Operator::BitwiseOr,
        BinaryOp::BitXor => Operator::BitwiseXor,
        BinaryOp::BitAnd => Operator::BitwiseAnd,
        BinaryOp::ShiftLeft => Operator::BitwiseShiftLeft,
        BinaryOp::ShiftRight => Operator::BitwiseShiftRight,
        BinaryOp::Add => Operator::Plus,
        BinaryOp::Sub => Operator::Minus,
        BinaryOp::Mul => Operator::Multiply,
        BinaryOp::Div => Operator::Divide,
        BinaryOp::Rem => Operator::Modulo,
        // These two never get here: they are functions.
        BinaryOp::Coalesce | BinaryOp::Pow => Operator::Plus,
    }
}

fn logic(op: BinaryOp, left: Operand, right: Operand) -> Result<Value> {
    let what = format!("an operand of `{}`", op.symbol());
    let a = coerce(left.0, &ColumnType::Boolean, left.1, &what)?;
    let b = coerce(right.0, &ColumnType::Boolean, right.1, &what)?;
    let expr = fold_binary(a.expr.clone(), operator(op), b.expr.clone());
    Ok(Value::new(expr, ColumnType::Boolean, &[&a, &b]))
}

fn bits(op: BinaryOp, left: Operand, right: Operand) -> Result<Value> {
    let what = format!("an operand of `{}`", op.symbol());
    let a = coerce(left.0, &ColumnType::BigInt, left.1, &what)?;
    let b = coerce(right.0, &ColumnType::BigInt, right.1, &what)?;
    let expr = fold_binary(a.expr.clone(), operator(op), b.expr.clone());
    Ok(Value::new(expr, ColumnType::BigInt, &[&a, &b]))
}

/// A null operand takes the type of the other one.
fn settle(a: Value, b: Value) -> (Value, Value) {
    match (a.ty.clone(), b.ty.clone()) {
        (None, Some(ty)) => (convert(a, &ty).unwrap_or_else(Value::null), b),
        (Some(ty), None) => {
            let b = convert(b, &ty).unwrap_or_else(Value::null);
            (a, b)
        }
        _ => (a, b),
    }
}

/// Comparison: numbers with numbers, else a type with itself. Text goes by code point, durations
/// by length (a day is 24 hours).
pub(super) fn compare(op: BinaryOp, left: Operand, right: Operand, span: Span) -> Result<Value> {
    let (mut a, mut b) = settle(left.0, right.0);
    let (Some(left_type), Some(right_type)) = (a.ty.clone(), b.ty.clone()) else {
        // null with null
        return convert(Value::null(), &ColumnType::Boolean)
            .ok_or_else(|| mismatch(span, "null cannot be compared"));
    };
    if is_empty_array(&a) && matches!(right_type, ColumnType::Array(_)) {
        a = coerce(a, &right_type, left.1, "the array")?;
    } else if is_empty_array(&b) && matches!(left_type, ColumnType::Array(_)) {
        b = coerce(b, &left_type, right.1, "the array")?;
    }
    let (left_type, right_type) =
        (a.ty.clone().unwrap_or(left_type), b.ty.clone().unwrap_or(right_type));
    let equality = matches!(op, BinaryOp::Eq | BinaryOp::NotEq);
    let refuse = || {
        let message = format!(
            "`{}` cannot be compared with `{}`",
            left_type.vpl_name(),
            right_type.vpl_name()
        );
        let diagnostic = mismatch(span, message);
        match (
            is_text(&left_type),
            is_number(&left_type),
            is_text(&right_type),
            is_number(&right_type),
        ) {
            (true, _, _, true) | (_, true, true, _) => {
                hint(diagnostic, "convert one side with to_int(..), to_float(..) or to_string(..)")
            }
            _ => diagnostic,
        }
    };
    let Some(ty) = common(&left_type, &right_type) else {
        return Err(refuse());
    };
    match &ty {
        ColumnType::Map(..) | ColumnType::Jsonb => return Err(refuse()),
        ColumnType::Array(item)
            if !equality || matches!(**item, ColumnType::Array(_) | ColumnType::Map(..)) =>
        {
            return Err(refuse());
        }
        ColumnType::Interval => {
            let sign = our("interval_compare", vec![a.expr.clone(), b.expr.clone()]);
            let expr = fold_binary(sign, operator(op), lit(0i64));
            return Ok(Value::new(expr, ColumnType::Boolean, &[&a, &b]));
        }
        _ => {}
    }
    let a = coerce(a, &ty, left.1, "the left side")?;
    let b = coerce(b, &ty, right.1, "the right side")?;
    let expr = fold_binary(a.expr.clone(), operator(op), b.expr.clone());
    Ok(Value::new(expr, ColumnType::Boolean, &[&a, &b]))
}

fn arithmetic(op: BinaryOp, left: Operand, right: Operand, span: Span) -> Result<Value> {
    let (a, b) = settle(left.0, right.0);
    let (Some(s), Some(t)) = (a.ty.clone(), b.ty.clone()) else {
        // null with null: a number that is not there
        return convert(Value::null(), &ColumnType::BigInt)
            .ok_or_else(|| mismatch(span, "null has no type here"));
    };
    let plain = |ty: ColumnType| -> Result<Value> {
        let (x, y) = (cast(a.expr.clone(), &ty.arrow()), cast(b.expr.clone(), &ty.arrow()));
        let (x, y) = if a.ty.as_ref() == Some(&ty) { (a.expr.clone(), y) } else { (x, y) };
        let y = if b.ty.as_ref() == Some(&ty) { b.expr.clone() } else { y };
        Ok(Value::new(fold_binary(x, operator(op), y), ty, &[&a, &b]))
    };
    let direct = |ty: ColumnType| {
        let expr = fold_binary(a.expr.clone(), operator(op), b.expr.clone());
        Ok(Value::new(expr, ty, &[&a, &b]))
    };
    let ours = |name: &str, x: &Value, y: &Value, ty: ColumnType| {
        Ok(Value::new(our(name, vec![x.expr.clone(), y.expr.clone()]), ty, &[x, y]))
    };
    let interval = |ty: &ColumnType| *ty == ColumnType::Interval;
    match op {
        _ if is_int(&s) && is_int(&t) => plain(ColumnType::BigInt),
        _ if is_number(&s) && is_number(&t) => plain(ColumnType::Double),
        BinaryOp::Add if is_text(&s) && is_text(&t) => {
            let expr = fold_binary(a.expr.clone(), Operator::StringConcat, b.expr.clone());
            Ok(Value::new(expr, ColumnType::Text, &[&a, &b]))
        }
        BinaryOp::Add | BinaryOp::Sub if interval(&s) && interval(&t) => {
            direct(ColumnType::Interval)
        }
        BinaryOp::Add | BinaryOp::Sub if is_timestamp(&s) && interval(&t) => {
            let time = coerce(a.clone(), &ColumnType::Timestamptz, left.1, "the timestamp")?;
            let expr = fold_binary(time.expr, operator(op), b.expr.clone());
            Ok(Value::new(expr, ColumnType::Timestamptz, &[&a, &b]))
        }
        BinaryOp::Add if interval(&s) && is_timestamp(&t) => {
            let time = coerce(b.clone(), &ColumnType::Timestamptz, right.1, "the timestamp")?;
            let expr = fold_binary(time.expr, Operator::Plus, a.expr.clone());
            Ok(Value::new(expr, ColumnType::Timestamptz, &[&a, &b]))
        }
        BinaryOp::Sub if is_timestamp(&s) && is_timestamp(&t) => {
            let x = coerce(a.clone(), &ColumnType::Timestamptz, left.1, "the timestamp")?;
            let y = coerce(b.clone(), &ColumnType::Timestamptz, right.1, "the timestamp")?;
            let difference = fold_binary(x.expr, Operator::Minus, y.expr);
            let expr = cast(difference, &ColumnType::Interval.arrow());
            Ok(Value::new(expr, ColumnType::Interval, &[&a, &b]))
        }
        BinaryOp::Mul if interval(&s) && is_number(&t) => {
            ours("interval_multiply", &a, &number(b.clone(), right.1)?, ColumnType::Interval)
        }
        BinaryOp::Mul if is_number(&s) && interval(&t) => {
            ours("interval_multiply", &b, &number(a.clone(), left.1)?, ColumnType::Interval)
        }
        BinaryOp::Div if interval(&s) && is_number(&t) => {
            ours("interval_divide", &a, &number(b.clone(), right.1)?, ColumnType::Interval)
        }
        BinaryOp::Div if interval(&s) && interval(&t) => {
            ours("interval_ratio", &a, &b, ColumnType::Double)
        }
        _ => {
            let (x, y) = (s.vpl_name(), t.vpl_name());
            let diagnostic =
                mismatch(span, format!("`{}` cannot be applied to `{x}` and `{y}`", op.symbol()));
            Err(match op {
                BinaryOp::Add if is_text(&s) || is_text(&t) => {
                    hint(diagnostic, "convert the other side with to_string(..)")
                }
                BinaryOp::Add if matches!(s, ColumnType::Array(_)) => {
                    hint(diagnostic, "arrays are joined with concat(a, b)")
                }
                _ => diagnostic,
            })
        }
    }
}

/// An int or float in the width that functions take.
fn number(value: Value, span: Span) -> Result<Value> {
    let to = value.ty.as_ref().map_or(ColumnType::Double, widest);
    coerce(value, &to, span, "the number")
}

fn power(left: Operand, right: Operand, span: Span) -> Result<Value> {
    let (a, b) = settle(left.0, right.0);
    let (Some(s), Some(t)) = (a.ty.clone(), b.ty.clone()) else {
        return convert(Value::null(), &ColumnType::BigInt)
            .ok_or_else(|| mismatch(span, "null has no type here"));
    };
    if is_int(&s) && is_int(&t) {
        let a = coerce(a, &ColumnType::BigInt, left.1, "the base")?;
        let b = coerce(b, &ColumnType::BigInt, right.1, "the exponent")?;
        let expr = our("int_power", vec![a.expr.clone(), b.expr.clone()]);
        return Ok(Value::new(expr, ColumnType::BigInt, &[&a, &b]));
    }
    if !(is_number(&s) && is_number(&t)) {
        let (s, t) = (s.vpl_name(), t.vpl_name());
        return Err(mismatch(span, format!("`**` cannot be applied to `{s}` and `{t}`")));
    }
    let a = coerce(a, &ColumnType::Double, left.1, "the base")?;
    let b = coerce(b, &ColumnType::Double, right.1, "the exponent")?;
    let expr = datafusion::functions::math::power().call(vec![a.expr.clone(), b.expr.clone()]);
    Ok(Value::new(expr, ColumnType::Double, &[&a, &b]))
}

/// `-value`; of a constant at once.
pub(super) fn negate(value: Value, span: Span) -> Result<Value> {
    use datafusion::common::ScalarValue;
    if let Expr::Literal(literal, _) = &value.expr {
        let negative = match literal {
            ScalarValue::Int64(Some(i)) => i.checked_neg().map(lit),
            ScalarValue::Float64(Some(f)) => Some(lit(-f)),
            ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 && i.days == 0 => {
                i.nanoseconds.checked_neg().map(super::value::duration)
            }
            _ => None,
        };
        if let Some(expr) = negative {
            return Ok(Value { expr, ..value });
        }
    }
    match value.ty.clone() {
        None => Ok(value),
        Some(t) if is_number(&t) => {
            let ty = widest(&t);
            let v = coerce(value, &ty, span, "the operand of `-`")?;
            Ok(Value::new(Expr::Negative(Box::new(v.expr.clone())), ty, &[&v]))
        }
        Some(ColumnType::Interval) => {
            let expr = our("interval_multiply", vec![value.expr.clone(), lit(-1i64)]);
            Ok(Value::new(expr, ColumnType::Interval, &[&value]))
        }
        Some(t) => Err(mismatch(span, format!("`-` cannot be applied to `{}`", t.vpl_name()))),
    }
}
