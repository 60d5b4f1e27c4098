//! Comparison of a float or integer column with a constant, the most frequent condition, in a loop
//! of its own: one pass over the values that packs 64 results into a word.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};

/// Replaces comparisons of a column with a constant that have a kernel here.
pub(super) fn use_kernels(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let rewrite = |node: Arc<dyn PhysicalExpr>| {
        Ok(match node.downcast_ref::<BinaryExpr>().and_then(|b| Comparison::new(b, schema)) {
            Some(comparison) => Transformed::yes(Arc::new(comparison) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(node),
        })
    };
    Ok(expr.transform_up(rewrite)?.data)
}

#[derive(Debug, Clone, Copy)]
enum Constant {
    Float(f64),
    Int(i64),
}

/// `column op constant`.
#[derive(Debug)]
struct Comparison {
    column: Arc<dyn PhysicalExpr>,
    op: Operator,
    constant: Constant,
}

impl Comparison {
    fn new(binary: &BinaryExpr, schema: &Schema) -> Option<Comparison> {
        let (column, op, literal) = if binary.left().is::<Column>() {
            (binary.left(), *binary.op(), binary.right())
        } else if binary.right().is::<Column>() {
            (binary.right(), binary.op().swap()?, binary.left())
        } else {
            return None;
        };
        use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if !matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            return None;
        }
        let constant =
            match (column.data_type(schema).ok()?, literal.downcast_ref::<Literal>()?.value()) {
                // Arrow orders NaN above all numbers and below none, and tells -0 from +0; plain
                // comparison gives the same for other constants as long as it is asked the right
                // way round, see `evaluate`.
                (DataType::Float64, ScalarValue::Float64(Some(v))) if !v.is_nan() && *v != 0.0 => {
                    Constant::Float(*v)
                }
                (DataType::Int64, ScalarValue::Int64(Some(v))) => Constant::Int(*v),
                _ => return None,
            };
        Some(Comparison { column: Arc::clone(column), op, constant })
    }
}

impl Constant {
    fn bits(self) -> (u8, u64) {
        match self {
            Constant::Float(v) => (0, v.to_bits()),
            Constant::Int(v) => (1, v as u64),
        }
    }
}

impl PartialEq for Comparison {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column)
            && self.op == other.op
            && self.constant.bits() == other.constant.bits()
    }
}

impl Eq for Comparison {}

impl Hash for Comparison {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.op.hash(state);
        self.constant.bits().hash(state);
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.constant {
            Constant::Float(v) => write!(f, "{} {} {v}", self.column, self.op),
            Constant::Int(v) => write!(f, "{} {} {v}", self.column, self.op),
        }
    }
}

impl PhysicalExpr for Comparison {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.column.nullable(schema)
    }

    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN is greater than every number")]
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let bits = match self.constant {
            Constant::Float(c) => {
                let values: &[f64] = array.as_primitive::<Float64Type>().values();
                // `!(v <= c)` is true for NaN, as the total order demands.
                match self.op {
                    Operator::Gt => pack(values, |v| !(v <= c)),
                    Operator::GtEq => pack(values, |v| !(v < c)),
                    Operator::Lt => pack(values, |v| v < c),
                    Operator::LtEq => pack(values, |v| v <= c),
                    Operator::Eq => pack(values, |v| v == c),
                    _ => pack(values, |v| v != c),
                }
            }
            Constant::Int(c) => {
                let values: &[i64] = array.as_primitive::<Int64Type>().values();
                match self.op {
                    Operator::Gt => pack(values, |v| v > c),
                    Operator::GtEq => pack(values, |v| v >= c),
                    Operator::Lt => pack(values, |v| v < c),
                    Operator::LtEq => pack(values, |v| v <= c),
                    Operator::Eq => pack(values, |v| v == c),
                    _ => pack(values, |v| v != c),
                }
            }
        };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(bits, array.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let column = Arc::clone(&children[0]);
        Ok(Arc::new(Comparison { column, op: self.op, constant: self.constant }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// One bit per value.
fn pack<T: Copy>(values: &[T], test: impl Fn(T) -> bool) -> BooleanBuffer {
    let mut words: Vec<u64> = Vec::with_capacity(values.len().div_ceil(64));
    let (blocks, rest) = values.as_chunks::<64>();
    for block in blocks {
        // One byte per value first, which the compiler does with vector comparisons.
        let mut bytes = [0u8; 64];
        for (byte, value) in bytes.iter_mut().zip(block) {
            *byte = u8::from(test(*value));
        }
        let mut word = 0u64;
        for (group, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
            // Each byte is 0 or 1; the product moves byte i to bit 56 + i, and no two of its
            // terms meet in one bit, so nothing is carried into those.
            let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            word |= gathered << (8 * group);
        }
        words.push(word);
    }
    if !rest.is_empty() {
        let word = rest.iter().enumerate().fold(0, |w, (bit, v)| w | u64::from(test(*v)) << bit);
        words.push(word);
    }
    BooleanBuffer::new(Buffer::from_vec(words), 0, values.len())
}
