//! Arithmetic that fails instead of wrapping or giving infinity.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::numeric::{div, neg, rem};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, NegativeExpr};
use datafusion::physical_expr_common::datum::apply;

/// Replaces every arithmetic operation of `expr` by its checked form.
pub(super) fn make_checked(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let rewrite = |node: Arc<dyn PhysicalExpr>| -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
        if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
            match binary.op() {
                Operator::Plus | Operator::Minus | Operator::Multiply => {
                    return Ok(Transformed::yes(Arc::new(
                        binary.clone().with_fail_on_overflow(true),
                    )));
                }
                Operator::Divide | Operator::Modulo if node.data_type(schema)?.is_floating() => {
                    return Ok(Transformed::yes(Arc::new(FloatDivision {
                        left: Arc::clone(binary.left()),
                        right: Arc::clone(binary.right()),
                        remainder: *binary.op() == Operator::Modulo,
                    })));
                }
                _ => {}
            }
        } else if let Some(negative) = node.downcast_ref::<NegativeExpr>()
            && node.data_type(schema)?.is_integer()
        {
            let arg = Arc::clone(negative.arg());
            return Ok(Transformed::yes(Arc::new(CheckedNegative { arg })));
        }
        Ok(Transformed::no(node))
    };
    Ok(expr.transform_up(rewrite)?.data)
}

/// `left / right` or `left % right` over floats; zero on the right is an error unless the result
/// is null or not a number anyway (as PostgreSQL has it).
#[derive(Debug, Eq)]
struct FloatDivision {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    remainder: bool,
}

impl PartialEq for FloatDivision {
    fn eq(&self, other: &Self) -> bool {
        self.left.eq(&other.left)
            && self.right.eq(&other.right)
            && self.remainder == other.remainder
    }
}

impl Hash for FloatDivision {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.right.hash(state);
        self.remainder.hash(state);
    }
}

impl Display for FloatDivision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = if self.remainder { '%' } else { '/' };
        write!(f, "{} {op} {}", self.left, self.right)
    }
}

impl PhysicalExpr for FloatDivision {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.left.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.left.evaluate(batch)?;
        let right = self.right.evaluate(batch)?;
        if has_zero(&right)? && divides_by_zero(&left, &right, batch.num_rows())? {
            return Err(DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None));
        }
        apply(&left, &right, if self.remainder { rem } else { div })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(FloatDivision {
            left: Arc::clone(&children[0]),
            right: Arc::clone(&children[1]),
            remainder: self.remainder,
        }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

fn has_zero(value: &ColumnarValue) -> Result<bool> {
    let array = match value {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    Ok(match array.data_type() {
        DataType::Float64 => {
            array.as_primitive::<Float64Type>().values().iter().fold(false, |z, v| z | (*v == 0.0))
        }
        DataType::Float32 => {
            array.as_primitive::<Float32Type>().values().iter().fold(false, |z, v| z | (*v == 0.0))
        }
        _ => false,
    })
}

fn divides_by_zero(left: &ColumnarValue, right: &ColumnarValue, rows: usize) -> Result<bool> {
    let left = left.to_array(rows)?;
    let right = right.to_array(rows)?;
    Ok((0..left.len()).any(|row| {
        left.is_valid(row)
            && right.is_valid(row)
            && float_at(&right, row) == 0.0
            && !float_at(&left, row).is_nan()
    }))
}

fn float_at(array: &ArrayRef, row: usize) -> f64 {
    match array.data_type() {
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row),
        _ => f64::NAN,
    }
}

/// `- arg` over integers; the least value has no negative.
#[derive(Debug, Eq)]
struct CheckedNegative {
    arg: Arc<dyn PhysicalExpr>,
}

impl PartialEq for CheckedNegative {
    fn eq(&self, other: &Self) -> bool {
        self.arg.eq(&other.arg)
    }
}

impl Hash for CheckedNegative {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.arg.hash(state);
    }
}

impl Display for CheckedNegative {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "(- {})", self.arg)
    }
}

impl PhysicalExpr for CheckedNegative {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.arg.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.arg.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(match self.arg.evaluate(batch)? {
            ColumnarValue::Array(array) => ColumnarValue::Array(neg(&array)?),
            ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(
                datafusion::common::ScalarValue::try_from_array(&neg(&scalar.to_array()?)?, 0)?,
            ),
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.arg]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(CheckedNegative { arg: Arc::clone(&children[0]) }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}
