//! Compiled expressions: DataFusion's physical expressions with the arithmetic of `semantics.md`
//! section 1 (overflow and division by zero are errors of their row) and evaluation from left to
//! right (what a condition guards is not evaluated where the guard is false).

mod checked;
mod compare;
mod lazy;
mod nulling;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, PhysicalExprSimplifier, create_physical_expr};

use crate::error::{ExecError, Result};

pub use nulling::evaluate_nulling;

/// An expression over the columns of a batch.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What is evaluated.
    pub physical: Arc<dyn PhysicalExpr>,
    /// Type of its values.
    pub data_type: DataType,
    /// As the user would write it, for messages.
    pub text: String,
}

impl Compiled {
    /// Position of the column, when the expression is just that.
    pub fn column(&self) -> Option<usize> {
        self.physical.downcast_ref::<Column>().map(Column::index)
    }

    /// Columns that are read, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut found: Vec<usize> =
            datafusion::physical_expr::utils::collect_columns(&self.physical)
                .into_iter()
                .map(|column| column.index())
                .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The same over a batch that has only the columns `kept`.
    pub fn over_columns(&self, kept: &[usize]) -> Result<Compiled> {
        let physical = Arc::clone(&self.physical)
            .transform_up(|node| {
                let Some(column) = node.downcast_ref::<Column>() else {
                    return Ok(Transformed::no(node));
                };
                let index = kept.iter().position(|&k| k == column.index()).ok_or_else(|| {
                    DataFusionError::Internal(format!("column {} is not kept", column.name()))
                })?;
                Ok(Transformed::yes(Arc::new(Column::new(column.name(), index))))
            })?
            .data;
        Ok(Compiled { physical, ..self.clone() })
    }
}

/// Compiles an expression over rows of `schema`.
///
/// # Errors
/// [`ExecError::Unsupported`] for functions whose value is not determined by their arguments:
/// recomputing the query would give other rows.
pub fn compile(expr: &Expr, schema: &DFSchema) -> Result<Compiled> {
    let text = expr.clone().unalias().human_display().to_string();
    let expr = lower_functions(expr.clone(), schema)?;
    let physical = create_physical_expr(
        &expr,
        schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    let arrow_schema = schema.as_arrow();
    let physical = checked::make_checked(physical, arrow_schema)?;
    let physical = PhysicalExprSimplifier::new(arrow_schema).simplify(physical)?;
    let physical = lazy::make_lazy(physical, arrow_schema)?;
    let physical = compare::use_kernels(physical, arrow_schema)?;
    let data_type = physical.data_type(arrow_schema)?;
    Ok(Compiled { physical, data_type, text })
}

/// Replaces functions that DataFusion defines by rewriting (`coalesce`, `nvl2`, ..).
fn lower_functions(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let mut refused = None;
    let lowered = expr.transform_up(|node| {
        let Expr::ScalarFunction(mut call) = node else { return Ok(Transformed::no(node)) };
        if call.func.signature().volatility != Volatility::Immutable {
            refused = Some(call.func.name().to_string());
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        }
        Ok(match call.func.simplify(std::mem::take(&mut call.args), &context)? {
            ExprSimplifyResult::Simplified(expr) => Transformed::yes(expr),
            ExprSimplifyResult::Original(args) => {
                call.args = args;
                Transformed::no(Expr::ScalarFunction(call))
            }
        })
    })?;
    match refused {
        Some(name) => Err(ExecError::Unsupported(format!(
            "function {name}(), whose value is not determined by its arguments,"
        ))),
        None => Ok(lowered.data),
    }
}

/// Whether evaluating `expr` can fail on some row.
pub(crate) fn is_fallible(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions as e;

    let own = if let Some(binary) = expr.downcast_ref::<e::BinaryExpr>() {
        let float = |x: &Arc<dyn PhysicalExpr>| {
            x.data_type(schema).is_ok_and(|data_type| data_type.is_floating())
        };
        match binary.op() {
            Operator::Plus | Operator::Minus | Operator::Multiply => !float(expr),
            op => !(op.supports_propagation() || op.is_logic_operator()),
        }
    } else if let Some(cast) = expr.downcast_ref::<e::CastExpr>() {
        !cast.expr().data_type(schema).is_ok_and(|from| {
            let to = cast.cast_type();
            &from == to
                || e::CastExpr::check_bigger_cast(to, &from)
                || (from.is_integer() && to.is_floating())
        })
    } else {
        !(expr.is::<e::Column>()
            || expr.is::<e::Literal>()
            || expr.is::<e::NotExpr>()
            || expr.is::<e::IsNullExpr>()
            || expr.is::<e::IsNotNullExpr>()
            || expr.is::<e::InListExpr>()
            || expr.is::<e::LikeExpr>()
            || expr.is::<e::CaseExpr>()
            || expr.is::<e::TryCastExpr>()
            || expr.is::<lazy::Lazy>())
    };
    own || expr.children().into_iter().any(|child| is_fallible(child, schema))
}

/// What went wrong on a row, in words for the user.
pub fn reason(error: &DataFusionError, text: &str) -> String {
    use arrow::error::ArrowError;
    let what = match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::DivideByZero => "division by zero".to_string(),
            ArrowError::ArithmeticOverflow(_) => "value out of range".to_string(),
            ArrowError::CastError(m)
            | ArrowError::ParseError(m)
            | ArrowError::ComputeError(m)
            | ArrowError::InvalidArgumentError(m) => m.clone(),
            other => other.to_string(),
        },
        DataFusionError::Execution(m) | DataFusionError::Internal(m) => {
            m.split("\n\nbacktrace:").next().unwrap_or(m).to_string()
        }
        other => other.strip_backtrace(),
    };
    format!("{what} in {text}")
}
