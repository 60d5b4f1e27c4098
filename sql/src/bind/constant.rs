//! Values that a statement needs before it runs: arguments of `EXECUTE`, offsets, times.

use auspex_plan::catalog::Column;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use std::sync::Arc;

use super::{Binder, Result, assign, error};
use crate::statement::Expr;

impl Binder {
    /// The value of an expression without columns, as a value of `column_type`. `params` are the
    /// values of the statement's parameters.
    pub fn constant(
        &self,
        expr: &Expr,
        column_type: &ColumnType,
        params: &[ScalarValue],
    ) -> Result<ScalarValue> {
        if let Some(value) = self.parameter(expr, column_type, params)? {
            return Ok(value);
        }
        let empty = Arc::new(DFSchema::empty());
        let bound = self.bind_expr(expr, &empty)?;
        let source = bound.get_type(&empty).map_err(error::unplaced)?;
        let column = Column::new("value", column_type.clone());
        let cast =
            assign::assign(bound, &arrow::datatypes::Field::new("", source.clone(), true), &column)
                .map_err(|_| mismatch(column_type, &source).at(expr.span))?;
        let cast = self.coerce_expr(cast, &empty).map_err(error::unplaced)?;
        fold(cast).map_err(|d| d.at_opt(Some(expr.span)))
    }

    /// The value when the expression is a parameter.
    fn parameter(
        &self,
        expr: &Expr,
        column_type: &ColumnType,
        params: &[ScalarValue],
    ) -> Result<Option<ScalarValue>> {
        let sqlparser::ast::Expr::Value(value) = &expr.ast else { return Ok(None) };
        let sqlparser::ast::Value::Placeholder(id) = &value.value else { return Ok(None) };
        let value =
            super::resolve::parameter(id).and_then(|n| params.get(n - 1)).ok_or_else(|| {
                Diagnostic::error(
                    SqlState::UNDEFINED_PARAMETER,
                    format!("there is no parameter {id}"),
                )
                .at(expr.span)
            })?;
        value.cast_to(&column_type.arrow()).map(Some).map_err(|e| error::unplaced(e).at(expr.span))
    }
}

fn mismatch(wanted: &ColumnType, found: &arrow::datatypes::DataType) -> Diagnostic {
    let found = ColumnType::from_arrow(found).map_or_else(|| found.to_string(), |t| t.to_string());
    Diagnostic::error(
        SqlState::DATATYPE_MISMATCH,
        format!("a value of type {wanted} is needed, not of type {found}"),
    )
}

/// Evaluates an expression that refers to nothing.
pub(crate) fn fold(expr: PlanExpr) -> Result<ScalarValue> {
    let schema = Arc::new(DFSchema::empty());
    let context = SimplifyContext::builder()
        .with_schema(schema.clone())
        .with_config_options(super::context::session_config().options().clone())
        .with_current_time()
        .build();
    let simplifier = ExprSimplifier::new(context);
    let coerced = simplifier.coerce(expr, &schema).map_err(error::unplaced)?;
    match simplifier.simplify(coerced.clone()).map_err(error::unplaced)? {
        PlanExpr::Literal(value, _) => Ok(value),
        _ => evaluate(&coerced),
    }
}

/// What the simplifier leaves alone: volatile functions, and expressions that fail.
fn evaluate(expr: &PlanExpr) -> Result<ScalarValue> {
    use arrow::datatypes::Schema;
    use arrow::record_batch::{RecordBatch, RecordBatchOptions};
    use datafusion::logical_expr::execution_props::ExecutionProps;
    use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
    let physical = datafusion::physical_expr::create_physical_expr(
        expr,
        &DFSchema::empty(),
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .map_err(error::unplaced)?;
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(|e| error::unplaced(e.into()))?;
    let value = physical.evaluate(&one_row).map_err(error::unplaced)?;
    let array = value.into_array(1).map_err(error::unplaced)?;
    ScalarValue::try_from_array(&array, 0).map_err(error::unplaced)
}
