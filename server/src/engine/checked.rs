//! Arithmetic of SELECT that fails instead of wrapping or giving infinity, as PostgreSQL's does.
//!
//! DataFusion's integer operators wrap silently. After its types are settled, every integer `+ - *`
//! and every float `/ %` of a plan becomes a call of [`Checked`], which is otherwise the same.
//! Continuous queries have this from the executor, where failures go by the row.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::kernels::numeric::{add, div, mul, rem, sub};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;

/// Puts [`Checked`] in the place of operators.
#[derive(Debug)]
pub(super) struct CheckArithmetic;

impl AnalyzerRule for CheckArithmetic {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite).data()
    }

    fn name(&self) -> &'static str {
        "check_arithmetic"
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&scan.projected_schema);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|e| checked(e, &schema))?;
        Ok(changed.update_data(|e| name.restore(e)))
    })
}

fn checked(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return Ok(Transformed::no(expr));
    };
    let same = |left, op, right| Expr::BinaryExpr(BinaryExpr { left, op, right });
    // Outer columns of a subquery are not in this schema; their operators stay as they are.
    let (Ok(l), Ok(r)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok(Transformed::no(same(left, op, right)));
    };
    let wanted = match op {
        Operator::Plus | Operator::Minus | Operator::Multiply => l.is_integer(),
        Operator::Divide | Operator::Modulo => l.is_floating(),
        _ => false,
    };
    if !wanted || l != r {
        return Ok(Transformed::no(same(left, op, right)));
    }
    let function = Arc::new(ScalarUDF::from(Checked::new(op)));
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
        function,
        vec![*left, *right],
    ))))
}

/// A binary operator as a function that fails on overflow and on division by zero.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    name: String,
    signature: Signature,
}

impl Checked {
    fn new(op: Operator) -> Self {
        Checked { op, name: op.to_string(), signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(args[0].clone())
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(format!("{left} {} {right}", self.name)),
            _ => Err(DataFusionError::Internal("an operator has two operands".into())),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("an operator has two operands".into()));
        };
        match self.op {
            Operator::Plus => apply(left, right, add),
            Operator::Minus => apply(left, right, sub),
            Operator::Multiply => apply(left, right, mul),
            _ => {
                let rows = args.number_rows;
                let (l, r) = (left.to_array(rows)?, right.to_array(rows)?);
                if divides_by_zero(l.as_ref(), r.as_ref()) {
                    return Err(ArrowError::DivideByZero.into());
                }
                match self.op {
                    Operator::Divide => apply(left, right, div),
                    _ => apply(left, right, rem),
                }
            }
        }
    }
}

/// Whether a row has a zero on the right and a value on the left.
fn divides_by_zero(left: &dyn Array, right: &dyn Array) -> bool {
    let zero = |row: usize| match right.data_type() {
        DataType::Float32 => right.as_primitive::<Float32Type>().value(row) == 0.0,
        DataType::Float64 => right.as_primitive::<Float64Type>().value(row) == 0.0,
        _ => false,
    };
    (0..right.len()).any(|row| right.is_valid(row) && left.is_valid(row) && zero(row))
}

#[cfg(test)]
mod tests {
    use super::super::context::PlanContext;
    use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
    use futures::TryStreamExt;

    /// The first value of `expr` over one row with `a` bigint and `x` double precision.
    async fn value(a: i64, x: f64, expr: Expr) -> Result<String, String> {
        let plan = LogicalPlanBuilder::values(vec![vec![lit(a), lit(x)]])
            .and_then(|p| p.project(vec![col("column1").alias("a"), col("column2").alias("x")]))
            .and_then(|p| p.project(vec![expr.alias("r")]))
            .and_then(LogicalPlanBuilder::build)
            .expect("a plan");
        let run = async {
            let (_, rows) = PlanContext::new().stream(&plan).await?;
            rows.try_collect::<Vec<_>>().await
        };
        let rows = run.await.map_err(|d| d.state.0.to_string())?;
        Ok(arrow::util::display::array_value_to_string(rows[0].column(0), 0).expect("shown"))
    }

    #[tokio::test]
    async fn overflow_and_division_by_zero_are_errors_in_select() {
        let ok = |s: &str| Ok(s.to_string());
        let err = |s: &str| Err(s.to_string());
        assert_eq!(value(i64::MAX, 1.0, col("a") + lit(1i64)).await, err("22003"));
        assert_eq!(value(i64::MIN, 1.0, col("a") - lit(1i64)).await, err("22003"));
        assert_eq!(value(i64::MAX, 1.0, col("a") * lit(2i64)).await, err("22003"));
        assert_eq!(value(4, 0.0, lit(1.5) / col("x")).await, err("22012"));
        assert_eq!(value(0, 1.0, lit(7i64) / col("a")).await, err("22012"));
        assert_eq!(value(4, 2.0, col("a") * lit(2i64) + lit(1i64)).await, ok("9"));
        assert_eq!(value(4, 2.0, lit(3.0) / col("x")).await, ok("1.5"));
    }
}
