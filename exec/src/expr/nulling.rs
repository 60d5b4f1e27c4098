//! Evaluation under `on_error = null`: the operation that fails gives null, and what stands around
//! it goes on with that null.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{LambdaExpr, Literal};

/// The value of `expr` for the only row of `row`, each failing operation in it being null.
///
/// # Errors
/// When the expression does not fit the row's columns.
pub fn evaluate_nulling(expr: &Arc<dyn PhysicalExpr>, row: &RecordBatch) -> Result<ScalarValue> {
    if let Ok(value) = expr.evaluate(row) {
        return scalar(value);
    }
    // A lambda's body has no value outside of its function, which therefore fails as one.
    let children = expr.children();
    let atomic = children.is_empty() || children.iter().any(|child| child.is::<LambdaExpr>());
    if !atomic {
        let literals = children
            .into_iter()
            .map(|child| {
                let value = evaluate_nulling(child, row)?;
                Ok(Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>)
            })
            .collect::<Result<Vec<_>>>()?;
        if let Ok(value) = Arc::clone(expr).with_new_children(literals)?.evaluate(row) {
            return scalar(value);
        }
    }
    ScalarValue::try_from(&expr.data_type(row.schema_ref())?)
}

fn scalar(value: ColumnarValue) -> Result<ScalarValue> {
    match value {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}
