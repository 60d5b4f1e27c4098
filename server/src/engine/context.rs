//! DataFusion as the engine uses it: one function registry and one way from a logical plan to rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use auspex_plan::Diagnostic;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt};

use super::api::RowStream;
use super::errors;

/// Plans and runs queries that end.
pub(crate) struct PlanContext {
    state: SessionState,
}

impl PlanContext {
    pub(crate) fn new() -> Self {
        let mut config = SessionConfig::new()
            .with_target_partitions(2)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        config.options_mut().execution.time_zone = Some("UTC".into());
        let functions = auspex_plan::functions::all().into_iter().map(|f| f.udf);
        let mut state =
            SessionStateBuilder::new().with_config(config).with_default_features().build();
        for function in functions {
            // Our definition replaces DataFusion's of the same name.
            let _ = datafusion::execution::FunctionRegistry::register_udf(&mut state, function);
        }
        PlanContext { state }
    }

    /// A physical plan for `plan`.
    pub(crate) async fn physical(
        &self,
        plan: &LogicalPlan,
    ) -> Result<Arc<dyn ExecutionPlan>, Diagnostic> {
        self.state.create_physical_plan(plan).await.map_err(errors::datafusion)
    }

    /// The plan after DataFusion's optimizer.
    pub(crate) fn optimized(&self, plan: &LogicalPlan) -> Result<LogicalPlan, Diagnostic> {
        self.state.optimize(plan).map_err(errors::datafusion)
    }

    /// Runs `plan`; the rows come as they are produced.
    pub(crate) async fn stream(
        &self,
        plan: &LogicalPlan,
    ) -> Result<(SchemaRef, RowStream), Diagnostic> {
        let physical = self.physical(plan).await?;
        self.run(physical)
    }

    /// Runs a physical plan.
    pub(crate) fn run(
        &self,
        physical: Arc<dyn ExecutionPlan>,
    ) -> Result<(SchemaRef, RowStream), Diagnostic> {
        let schema = physical.schema();
        let rows = execute_stream(physical, self.state.task_ctx()).map_err(errors::datafusion)?;
        Ok((schema, Box::pin(rows.map(|r| r.map_err(errors::datafusion)))))
    }

    /// Runs `plan` to its end.
    pub(crate) async fn collect(
        &self,
        plan: &LogicalPlan,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), Diagnostic> {
        let (schema, rows) = self.stream(plan).await?;
        Ok((schema, rows.try_collect().await?))
    }

    /// An expression over the columns of `schema`.
    pub(crate) fn expression(
        &self,
        expr: Expr,
        schema: &DFSchema,
    ) -> Result<Arc<dyn PhysicalExpr>, Diagnostic> {
        self.state.create_physical_expr(expr, schema).map_err(errors::datafusion)
    }

}
