//! Bound expressions with their types, and how a value of one type becomes one of another.

use arrow::array::Array;
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, lit};

use super::problem::{Result, error, mismatch};
use crate::codes;

/// Most nodes of one bound expression: functions are put in place of their calls, which can make
/// an expression grow without bound.
const MAX_NODES: usize = 5_000;

/// Deepest bound expression: plans are walked by recursion.
const MAX_DEPTH: usize = 400;

/// How large an expression is, at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    nodes: usize,
    depth: usize,
}

impl Extent {
    const LEAF: Extent = Extent { nodes: 1, depth: 1 };

    /// One node over these parts.
    pub(super) fn over<'v>(parts: impl IntoIterator<Item = &'v Value>) -> Extent {
        parts.into_iter().fold(Extent::LEAF, |all, part| Extent {
            nodes: all.nodes + part.extent.nodes,
            depth: all.depth.max(part.extent.depth + 1),
        })
    }
}

/// A bound expression.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// What is computed.
    pub expr: Expr,
    /// Its type; `None` for a bare `null`.
    pub ty: Option<ColumnType>,
    /// Its size.
    pub extent: Extent,
}

impl Value {
    /// A value of a known type made of `parts`.
    pub(super) fn new(expr: Expr, ty: ColumnType, parts: &[&Value]) -> Value {
        Value { expr, ty: Some(ty), extent: Extent::over(parts.iter().copied()) }
    }

    /// A leaf.
    pub(super) fn leaf(expr: Expr, ty: ColumnType) -> Value {
        Value { expr, ty: Some(ty), extent: Extent::LEAF }
    }

    /// The bare `null`.
    pub(super) fn null() -> Value {
        Value { expr: lit(ScalarValue::Null), ty: None, extent: Extent::LEAF }
    }

    /// Name of the type for messages.
    pub(super) fn type_name(&self) -> String {
        self.ty.as_ref().map_or_else(|| "null".to_string(), ColumnType::vpl_name)
    }

    /// Refuses an expression that has grown too large.
    pub(super) fn bounded(self, span: Span) -> Result<Value> {
        let what = if self.extent.nodes > MAX_NODES {
            format!("has more than {MAX_NODES} parts")
        } else if self.extent.depth > MAX_DEPTH {
            format!("is more than {MAX_DEPTH} levels deep")
        } else {
            return Ok(self);
        };
        Err(error(
            auspex_plan::SqlState::STATEMENT_TOO_COMPLEX,
            codes::NESTING,
            span,
            format!("the expression {what} when functions are put in place of their calls"),
        ))
    }
}

/// A text constant.
pub(super) fn text(value: &str) -> Expr {
    lit(ScalarValue::Utf8View(Some(value.to_string())))
}

/// A duration constant. Nanoseconds alone, so that equal durations are equal values.
pub(super) fn duration(nanoseconds: i64) -> Expr {
    let value = IntervalMonthDayNano { months: 0, days: 0, nanoseconds };
    lit(ScalarValue::IntervalMonthDayNano(Some(value)))
}

/// Whether it counts or measures: arithmetic applies.
pub(super) fn is_number(ty: &ColumnType) -> bool {
    is_int(ty) || is_float(ty)
}

/// VPL `int`.
pub(super) fn is_int(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt)
}

/// VPL `float`; SQL's `numeric` counts as one in VPL.
pub(super) fn is_float(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Real | ColumnType::Double | ColumnType::Numeric { .. })
}

/// VPL `str`.
pub(super) fn is_text(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Text | ColumnType::Varchar(_))
}

/// VPL `timestamp`.
pub(super) fn is_timestamp(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Timestamptz | ColumnType::Timestamp | ColumnType::Date)
}

/// The type that arithmetic is done in.
pub(super) fn widest(ty: &ColumnType) -> ColumnType {
    match ty {
        t if is_int(t) => ColumnType::BigInt,
        t if is_float(t) => ColumnType::Double,
        t if is_text(t) => ColumnType::Text,
        t if is_timestamp(t) => ColumnType::Timestamptz,
        other => other.clone(),
    }
}

/// The type that holds values of both, `None` when there is none.
pub(super) fn common(a: &ColumnType, b: &ColumnType) -> Option<ColumnType> {
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (ColumnType::Array(x), ColumnType::Array(y)) => {
            Some(ColumnType::Array(Box::new(common(x, y)?)))
        }
        _ if is_number(a) && is_number(b) && is_int(a) != is_int(b) => Some(ColumnType::Double),
        _ => (widest(a) == widest(b)).then(|| widest(a)),
    }
}

/// The type that holds all values; null fits everywhere. Text when all are null.
pub(super) fn common_of(values: &[(Value, Span)], what: &str) -> Result<ColumnType> {
    let mut found: Option<ColumnType> = None;
    for (value, span) in values {
        let Some(ty) = &value.ty else { continue };
        found = Some(match found {
            None => ty.clone(),
            Some(before) if is_empty_array(value) && matches!(before, ColumnType::Array(_)) => {
                before
            }
            Some(before) => common(&before, ty).ok_or_else(|| {
                let (a, b) = (before.vpl_name(), ty.vpl_name());
                mismatch(*span, format!("{what} have different types: `{a}` and `{b}`"))
            })?,
        });
    }
    Ok(found.unwrap_or(ColumnType::Text))
}

/// Whether this is the literal `[]`, whose item type is open.
pub(super) fn is_empty_array(value: &Value) -> bool {
    matches!(&value.expr, Expr::Literal(ScalarValue::List(list), _)
        if list.len() == 1 && list.values().is_empty())
}

/// The literal `[]` for an item type.
pub(super) fn empty_array(item: &ColumnType) -> Value {
    let list = ScalarValue::new_list_nullable(&[], &item.arrow());
    Value::leaf(lit(ScalarValue::List(list)), ColumnType::Array(Box::new(item.clone())))
}

/// `value` as a `to`, where VPL converts by itself: null to anything, int to float, and between
/// the spellings of one VPL type. `None` when it does not.
pub(super) fn convert(value: Value, to: &ColumnType) -> Option<Value> {
    let Some(from) = &value.ty else {
        let null = ScalarValue::try_from(&to.arrow()).ok()?;
        return Some(Value::leaf(lit(null), to.clone()));
    };
    if from == to {
        return Some(value);
    }
    if let (true, ColumnType::Array(item)) = (is_empty_array(&value), to) {
        return Some(empty_array(item));
    }
    if from.arrow() == to.arrow() && widest(from) == widest(to) {
        return Some(Value { ty: Some(to.clone()), ..value });
    }
    let fits = widest(from) == widest(to)
        || (is_int(from) && is_float(to))
        || matches!((from, to), (ColumnType::Array(_), ColumnType::Array(_))
            if common(from, to).as_ref() == Some(to));
    fits.then(|| Value {
        expr: cast(value.expr, &to.arrow()),
        ty: Some(to.clone()),
        extent: value.extent,
    })
}

/// `value` as a `to`, or a type mismatch at `span`.
pub(super) fn coerce(value: Value, to: &ColumnType, span: Span, what: &str) -> Result<Value> {
    let from = value.type_name();
    convert(value, to)
        .ok_or_else(|| mismatch(span, format!("{what} must be `{}`, not `{from}`", to.vpl_name())))
}

/// A cast; of constants at once, when it succeeds.
pub(super) fn cast(expr: Expr, to: &DataType) -> Expr {
    if let Expr::Literal(value, _) = &expr
        && let Ok(value) = value.cast_to(to)
    {
        return lit(value);
    }
    Expr::Cast(Cast::new(Box::new(expr), to.clone()))
}

/// `expr` with a cast when DataFusion computes it in another Arrow type than `ty` has.
pub(super) fn exactly(expr: Expr, ty: &ColumnType, schema: &DFSchema) -> Expr {
    match expr.get_type(schema) {
        Ok(found) if found == ty.arrow() => expr,
        _ => Expr::Cast(Cast::new(Box::new(expr), ty.arrow())),
    }
}
