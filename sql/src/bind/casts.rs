//! Casts with PostgreSQL's meaning, in a plan that DataFusion has coerced.
//!
//! DataFusion leaves casts to Arrow. Where that gives another value than PostgreSQL, the cast is
//! replaced by one of [`super::convert`]'s functions: texts and `uuid`, `bytea`, `interval`, `jsonb`;
//! timestamps and floats to text; numbers with fractions to integers, which round; and
//! `varchar(n)`, which cuts.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use auspex_plan::ColumnType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF,
};

use super::Functions;
use super::array_in::array_in;
use super::convert::{
    BYTEA_IN, DATE_IN, INTERVAL_IN, JSONB_IN, TEXT_OUT, TIMESTAMP_IN, TIMESTAMPTZ_IN, UUID_IN,
};
use crate::datetime::Zone;

/// What casts depend on besides the values.
#[derive(Clone, Copy)]
pub(crate) struct Casts<'a> {
    pub(crate) functions: &'a Functions,
    /// Of texts that name none.
    pub(crate) zone: Zone,
}

/// Replaces the casts of a whole plan.
pub(crate) fn replace(plan: LogicalPlan, rules: Casts<'_>) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let schema = match &node {
            LogicalPlan::TableScan(scan) => scan.projected_schema.as_ref().clone(),
            other => merge_schema(&other.inputs()),
        };
        let names = NamePreserver::new(&node);
        let replaced = node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(in_expr(expr, &schema, rules)?.update_data(|e| name.restore(e)))
        })?;
        if replaced.transformed {
            replaced.map_data(LogicalPlan::recompute_schema)
        } else {
            Ok(replaced)
        }
    })
    .data()
}

/// Replaces the casts of one expression over `schema`.
pub(crate) fn in_expr(
    expr: Expr,
    schema: &DFSchema,
    rules: Casts<'_>,
) -> Result<Transformed<Expr>> {
    expr.transform_up(|e| match e {
        Expr::Cast(cast) => {
            // A column of an outer query has no type here; such casts are left to Arrow.
            let Ok(from) = cast.expr.get_type(schema) else {
                return Ok(Transformed::no(Expr::Cast(cast)));
            };
            let is_jsonb = cast
                .expr
                .to_field(schema)
                .is_ok_and(|(_, field)| ColumnType::from_field(&field) == Some(ColumnType::Jsonb));
            let to_jsonb = ColumnType::from_field(&cast.field) == Some(ColumnType::Jsonb);
            if is_jsonb && to_jsonb {
                return Ok(Transformed::yes(*cast.expr));
            }
            Ok(one(cast, &from, rules))
        }
        Expr::BinaryExpr(binary) => Ok(intervals(binary, schema)),
        other => Ok(Transformed::no(other)),
    })
}

/// Comparisons of intervals: a day is 24 hours and a month 30 days, as in PostgreSQL, where Arrow
/// compares months, days and nanoseconds one after the other.
fn intervals(binary: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let is_interval = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Interval(_)));
    let compares = matches!(
        binary.op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
    );
    if !compares || !is_interval(&binary.left) || !is_interval(&binary.right) {
        return Transformed::no(Expr::BinaryExpr(binary));
    }
    let compare = auspex_plan::functions::find("interval_compare").expect("it is registered");
    let order = compare.call(vec![*binary.left, *binary.right]);
    let zero = Expr::Literal(ScalarValue::Int64(Some(0)), None);
    Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(order), binary.op, Box::new(zero))))
}

fn one(cast: Cast, from: &DataType, rules: Casts<'_>) -> Transformed<Expr> {
    let to = cast.field.data_type().clone();
    let target = ColumnType::from_field(&cast.field);
    let call = |udf: &Arc<ScalarUDF>, arg: Expr| Transformed::yes(udf.call(vec![arg]));
    let is_text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    if is_text(from) {
        match (&to, &target) {
            (_, Some(ColumnType::Jsonb)) => return call(&JSONB_IN, *cast.expr),
            (DataType::FixedSizeBinary(16), _) => return call(&UUID_IN, *cast.expr),
            (DataType::Binary, _) => return call(&BYTEA_IN, *cast.expr),
            (DataType::Interval(_), _) => return call(&INTERVAL_IN, *cast.expr),
            (DataType::Date32, _) => return call(&DATE_IN, *cast.expr),
            (DataType::List(_), Some(ColumnType::Array(item))) => {
                return call(&array_in((**item).clone()), *cast.expr);
            }
            (DataType::Timestamp(unit, zone), _) => {
                let read = if zone.is_some() {
                    let zone = Expr::Literal(ScalarValue::from(rules.zone.encode()), None);
                    TIMESTAMPTZ_IN.call(vec![*cast.expr, zone])
                } else {
                    TIMESTAMP_IN.call(vec![*cast.expr])
                };
                return Transformed::yes(if *unit == TimeUnit::Microsecond {
                    read
                } else {
                    Expr::Cast(Cast::new(Box::new(read), to))
                });
            }
            _ => {}
        }
    }
    let special_text = matches!(
        from,
        DataType::FixedSizeBinary(16)
            | DataType::Binary
            | DataType::Float32
            | DataType::Float64
            | DataType::Timestamp(..)
    );
    let cut = match (&target, rules.functions.scalar("left")) {
        (Some(ColumnType::Varchar(n)), Some(left)) => Some((*n, left)),
        _ => None,
    };
    if is_text(&to) && (special_text || cut.is_some()) {
        let text = if special_text {
            let text = TEXT_OUT.call(vec![*cast.expr]);
            if to == DataType::Utf8View { text } else { Expr::Cast(Cast::new(Box::new(text), to)) }
        } else {
            Expr::Cast(Cast::new(cast.expr, to))
        };
        return Transformed::yes(match cut {
            Some((n, left)) => {
                let n = Expr::Literal(ScalarValue::Int64(Some(i64::from(n))), None);
                left.call(vec![text, n])
            }
            None => text,
        });
    }
    let rounds = to.is_integer()
        && matches!(from, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..));
    if rounds
        && !is_round(&cast.expr)
        && let Some(round) = rules.functions.scalar("round")
    {
        let rounded = round.call(vec![*cast.expr]);
        return Transformed::yes(Expr::Cast(Cast { expr: Box::new(rounded), field: cast.field }));
    }
    Transformed::no(Expr::Cast(cast))
}

/// Whether an expression is a whole number already.
fn is_round(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarFunction(call)
            if ["round", "trunc", "ceil", "floor"].contains(&call.func.name())
    )
}
