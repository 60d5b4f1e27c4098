//! What DataFusion's planner asks while it plans one statement.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use auspex_plan::StreamRelation;
use auspex_plan::catalog::{Object, ObjectName};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::prelude::SessionConfig;

use datafusion::sql::planner::{ParserOptions, SqlToRel};
use sqlparser::ast;

use super::Binder;

/// Settings of DataFusion that give plans their meaning; the same for every session, so that a
/// stored query keeps its meaning.
pub(crate) fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new();
    config.options_mut().execution.time_zone = Some(auspex_plan::types::UTC.into());
    config
}

/// Who reads the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A query that ends: scans are what [`super::Sources`] gives.
    Terminating,
    /// A continuous query: scans are [`StreamRelation`]s.
    Continuous,
}

/// One statement's view of the binder.
pub(crate) struct Context<'a> {
    pub(crate) binder: &'a Binder,
    pub(crate) reader: Reader,
    /// Streams show their system columns.
    pub(crate) system_columns: bool,
    /// A relation that is not in the catalog: the rows a statement itself has at hand.
    pub(crate) extra: Option<(String, Arc<dyn TableSource>)>,
    /// Plans the windows in FROM.
    pub(crate) relations: Vec<Arc<dyn RelationPlanner>>,
    pub(crate) options: ConfigOptions,
    pub(crate) types: Arc<dyn TypePlanner>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(binder: &'a Binder, reader: Reader, system_columns: bool) -> Self {
        let options = session_config().options().as_ref().clone();
        let types = Arc::new(Types);
        Context {
            binder,
            reader,
            system_columns,
            extra: None,
            relations: Vec::new(),
            options,
            types,
        }
    }

    pub(crate) fn planner(&self) -> SqlToRel<'_, Context<'a>> {
        SqlToRel::new_with_options(
            self,
            ParserOptions::new()
                .with_parse_float_as_decimal(false)
                .with_enable_ident_normalization(true)
                .with_support_varchar_with_length(true)
                .with_map_string_types_to_utf8view(true)
                .with_collect_spans(true),
        )
    }

    fn source(&self, object: &Object) -> Arc<dyn TableSource> {
        let system = self.system_columns && object.stream().is_some();
        match self.reader {
            Reader::Terminating => self.binder.sources.relation(object, system),
            Reader::Continuous => {
                let mut relation = StreamRelation::of(object, system);
                relation.keyed = object.key().is_some();
                Arc::new(relation)
            }
        }
    }
}

impl ContextProvider for Context<'_> {
    // Names have been resolved and replaced by exact ones before.
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let (schema, table) = (name.schema().unwrap_or_default(), name.table());
        if let Some((own, source)) = &self.extra
            && name.schema().is_none()
            && own == table
        {
            return Ok(source.clone());
        }
        if let Some(object) = self.binder.catalog.by_name(&ObjectName::new(schema, table)) {
            return Ok(self.source(object));
        }
        match self.binder.sources.system_relation(schema, table) {
            Some(source) => Ok(source),
            None => plan_err!("table '{name}' not found"),
        }
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        match self.binder.sources.table_function(name, &args) {
            Some(found) => found,
            None => plan_err!("Invalid function '{name}'."),
        }
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.binder.functions.planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.types.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        super::stream::marked_function(name).or_else(|| self.binder.functions.scalar(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.binder.functions.higher_order(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.binder.functions.aggregate(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.binder.functions.window(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.binder.functions.scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.binder.functions.higher_order_names()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.binder.functions.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.binder.functions.window_names()
    }
}

/// Type names mean the same in a cast as in `CREATE`.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let column_type = crate::parse::column_type(sql_type)
            .map_err(|d| DataFusionError::External(Box::new(d)))?;
        Ok(Some(Arc::new(column_type.field("", true))))
    }
}
