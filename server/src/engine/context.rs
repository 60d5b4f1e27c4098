//! DataFusion as the engine uses it: one function registry and one way from a logical plan to rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use auspex_plan::Diagnostic;
use auspex_sql::Functions;
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use super::api::RowStream;
use super::checked::CheckArithmetic;
use super::errors;

/// Plans and runs queries that end.
pub(crate) struct PlanContext {
    context: SessionContext,
    functions: Arc<Functions>,
}

impl PlanContext {
    pub(crate) fn new() -> Self {
        let mut config = SessionConfig::new()
            .with_target_partitions(2)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        config.options_mut().execution.time_zone = Some("UTC".into());
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_analyzer_rule(Arc::new(CheckArithmetic))
            .build();
        for function in auspex_plan::functions::all() {
            // Our definition replaces DataFusion's of the same name.
            let _ = FunctionRegistry::register_udf(&mut state, function.udf);
        }
        PlanContext {
            context: SessionContext::new_with_state(state),
            functions: Arc::new(Functions::standard()),
        }
    }

    /// What SQL can call.
    pub(crate) fn functions(&self) -> Arc<Functions> {
        self.functions.clone()
    }

    /// DataFusion's state for one statement: `now()` is the present moment.
    fn state(&self) -> SessionState {
        self.context.state()
    }

    /// Whether there is a function in FROM of this name.
    pub(crate) fn has_table_function(&self, name: &str) -> bool {
        self.context.state_ref().read().table_functions().contains_key(name)
    }

    /// The rows of a function in FROM.
    pub(crate) fn table_function(
        &self,
        name: &str,
        args: &[Expr],
    ) -> Option<Result<Arc<dyn TableSource>, DataFusionError>> {
        let state = self.state();
        let function = state.table_functions().get(name)?.clone();
        let args = TableFunctionArgs::new(args, &state);
        Some(function.create_table_provider_with_args(args).map(provider_as_source))
    }

    /// A physical plan for `plan`.
    pub(crate) async fn physical(
        &self,
        plan: &LogicalPlan,
    ) -> Result<Arc<dyn ExecutionPlan>, Diagnostic> {
        self.state().create_physical_plan(plan).await.map_err(errors::datafusion)
    }

    /// The plan after DataFusion's optimizer.
    pub(crate) fn optimized(&self, plan: &LogicalPlan) -> Result<LogicalPlan, Diagnostic> {
        self.state().optimize(plan).map_err(errors::datafusion)
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
        let rows = execute_stream(physical, self.context.task_ctx()).map_err(errors::datafusion)?;
        Ok((schema, Box::pin(rows.map(|r| r.map_err(errors::datafusion)))))
    }

    /// An expression over the columns of `schema`.
    pub(crate) fn expression(
        &self,
        expr: Expr,
        schema: &DFSchema,
    ) -> Result<Arc<dyn PhysicalExpr>, Diagnostic> {
        self.state().create_physical_expr(expr, schema).map_err(errors::datafusion)
    }
}
