//! Assignment casts: which values a column takes from an `INSERT` or `UPDATE`, as PostgreSQL's
//! casts in assignment context.

use arrow::datatypes::{DataType, Field};
use auspex_plan::catalog::Column;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan};

use super::Result;

/// `expr`, whose type is that of the field `source`, as a value of `column`. The field tells
/// `jsonb` from `text`, which share an Arrow type.
pub(crate) fn assign(expr: Expr, source: &Field, column: &Column) -> Result<Expr> {
    let source_field = source;
    let source = source_field.data_type();
    let target = &column.column_type;
    let unknown = is_unknown(&expr);
    let from = ColumnType::from_field(source_field);
    let fits =
        unknown || source.is_null() || from.as_ref().is_some_and(|from| allowed(from, target));
    if !fits {
        let from = from.map_or_else(|| source.to_string(), |t| base_name(&t));
        return Err(Diagnostic::error(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "column \"{}\" is of type {} but expression is of type {from}",
                column.name,
                base_name(target)
            ),
        )
        .hint("You will need to rewrite or cast the expression."));
    }
    Ok(cast(expr, source, target))
}

/// `expr` as the Arrow type of `target`; [`super::casts`] gives the cast its meaning. A text too long
/// for `varchar(n)` is not cut here: it is an error when the row is written.
pub(crate) fn cast(expr: Expr, source: &DataType, target: &ColumnType) -> Expr {
    let arrow = target.arrow();
    if *source == arrow && target != &ColumnType::Jsonb {
        return expr;
    }
    let field = match target {
        ColumnType::Jsonb => target.field("", true),
        _ => Field::new("", arrow, true),
    };
    Expr::Cast(Cast { expr: Box::new(expr), field: field.into() })
}

/// A literal whose type the surroundings decide: a quoted string, NULL, or a parameter.
fn is_unknown(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _) => true,
        Expr::Placeholder(p) => p.field.as_ref().is_none_or(|f| f.data_type().is_null()),
        Expr::Alias(alias) => is_unknown(&alias.expr),
        _ => false,
    }
}

/// Whether PostgreSQL has a cast of these types in assignment context.
fn allowed(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType as C;
    let number = |t: &C| {
        matches!(t, C::SmallInt | C::Integer | C::BigInt | C::Real | C::Double | C::Numeric { .. })
    };
    let text = |t: &C| matches!(t, C::Text | C::Varchar(_));
    if from == to || text(to) || number(from) && number(to) {
        return true;
    }
    match (from, to) {
        (C::Timestamp | C::Timestamptz | C::Date, C::Timestamp | C::Timestamptz | C::Date) => true,
        (C::Timestamp | C::Timestamptz, C::Time) | (C::Time, C::Interval) => true,
        (C::Array(from), C::Array(to)) => allowed(from, to),
        _ => false,
    }
}

/// A type without its modifiers, as error messages name it.
fn base_name(t: &ColumnType) -> String {
    match t {
        ColumnType::Numeric { .. } => "numeric".into(),
        ColumnType::Varchar(_) => "character varying".into(),
        other => other.to_string(),
    }
}

/// The expressions behind a plan's output where the plan is a projection: they tell literals of
/// undecided type from texts.
pub(crate) fn outputs(plan: &LogicalPlan) -> Vec<Expr> {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.clone(),
        other => other.schema().columns().into_iter().map(Expr::Column).collect(),
    }
}
