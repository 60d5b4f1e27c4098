//! AND and OR that leave the right side alone where the left one decides.
//!
//! DataFusion's own evaluates the right side over the whole batch unless few rows are left, which
//! is fine as long as the right side cannot fail. Where it can, a guard such as
//! `b <> 0 AND a / b > 1` must hold for every row on its own.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::boolean::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;

use super::is_fallible;

/// Replaces every AND and OR of `expr` whose right side can fail.
pub(super) fn make_lazy(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let rewrite = |node: Arc<dyn PhysicalExpr>| -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
        if let Some(binary) = node.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::And | Operator::Or)
            && is_fallible(binary.right(), schema)
        {
            return Ok(Transformed::yes(Arc::new(Lazy {
                left: Arc::clone(binary.left()),
                right: Arc::clone(binary.right()),
                and: *binary.op() == Operator::And,
            })));
        }
        Ok(Transformed::no(node))
    };
    Ok(expr.transform_up(rewrite)?.data)
}

/// `left AND right` or `left OR right`.
#[derive(Debug, Eq)]
pub(super) struct Lazy {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    and: bool,
}

impl PartialEq for Lazy {
    fn eq(&self, other: &Self) -> bool {
        self.left.eq(&other.left) && self.right.eq(&other.right) && self.and == other.and
    }
}

impl Hash for Lazy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.right.hash(state);
        self.and.hash(state);
    }
}

impl Display for Lazy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.left, if self.and { "AND" } else { "OR" }, self.right)
    }
}

impl PhysicalExpr for Lazy {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?.into_array(rows)?;
        let left = left.as_boolean();
        let open = BooleanArray::from(undecided(left, self.and));
        let right = self.right.evaluate_selection(batch, &open)?.into_array(rows)?;
        let right = right.as_boolean();
        let result = if self.and { and_kleene(left, right)? } else { or_kleene(left, right)? };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Lazy {
            left: Arc::clone(&children[0]),
            right: Arc::clone(&children[1]),
            and: self.and,
        }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Rows where the left side leaves the result open: not false for AND, not true for OR.
fn undecided(left: &BooleanArray, and: bool) -> BooleanBuffer {
    let open = if and { left.values().clone() } else { !left.values() };
    match left.nulls() {
        Some(nulls) => &open | &!nulls.inner(),
        None => open,
    }
}
