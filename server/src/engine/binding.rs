//! The SQL binder with what a session has at hand: its catalog, its search path, its rows.

use std::sync::Arc;

use auspex_plan::catalog::{Catalog, Column, Definition, Object};
use auspex_plan::{ColumnType, ContinuousQuery, Diagnostic};
use auspex_sql::statement::{Expr as SqlExpr, Query, Subscribe, SubscribeFrom, SubscribeUntil};
use auspex_sql::{Binder, BoundContinuous, BoundQuery, Sources};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, TableSource};

use super::Engine;
use super::providers::{KeyedTable, StreamTable, SystemTable};
use super::session::Session;
use super::statement::Arguments;
use super::system::{self, View};
use super::table::overlay::Overlay;
use crate::pg::zone::Zone;

/// Where a session's queries find their rows.
struct SessionSources {
    engine: Arc<Engine>,
    catalog: Arc<Catalog>,
    overlay: Arc<Overlay>,
}

impl Sources for SessionSources {
    fn relation(&self, object: &Object, system_columns: bool) -> Arc<dyn TableSource> {
        let store = self.engine.store.clone();
        if object.key().is_some() {
            return provider_as_source(Arc::new(KeyedTable::new(
                store,
                object,
                self.overlay.clone(),
            )));
        }
        let uncommitted = self.engine.catalog().get(object.id).is_none();
        provider_as_source(Arc::new(StreamTable::new(store, object, system_columns, uncommitted)))
    }

    fn system_relation(&self, schema: &str, name: &str) -> Option<Arc<dyn TableSource>> {
        if schema != system::SCHEMA {
            return None;
        }
        let (engine, catalog) = (self.engine.clone(), self.catalog.clone());
        let view = name.to_string();
        let rows = move || {
            system::rows(&View { engine: &engine, catalog: &catalog }, &view)
                .unwrap_or_else(|| Err(Diagnostic::unsupported("there is no such view")))
                .map_err(|d| DataFusionError::External(Box::new(d)))
        };
        if !system::exists(name) {
            return None;
        }
        let table = SystemTable::new(rows)
            .inspect_err(|e| tracing::error!(view = name, error = %e, "cannot be read"))
            .ok()?;
        Some(provider_as_source(Arc::new(table)))
    }

    fn has_table_function(&self, name: &str) -> bool {
        self.engine.plans.has_table_function(name)
    }

    fn table_function(&self, name: &str, args: &[Expr]) -> Option<Result<Arc<dyn TableSource>>> {
        self.engine.plans.table_function(name, args)
    }
}

impl Session {
    /// A binder for the next statement.
    pub(super) fn binder(&self) -> Binder {
        let catalog = self.catalog();
        let sources = SessionSources {
            engine: self.engine.clone(),
            catalog: catalog.clone(),
            overlay: self.work.overlay.clone(),
        };
        Binder::new(catalog, self.functions(), Arc::new(sources))
            .with_search_path(self.settings.search_path())
            .with_database(self.database.clone())
            .with_time_zone(match self.zone() {
                Zone::Fixed(seconds) => auspex_sql::Zone::Fixed(seconds),
                Zone::Named(zone) => auspex_sql::Zone::Named(zone),
            })
    }

    /// The session's time zone.
    pub(super) fn zone(&self) -> Zone {
        let name = self.settings.get("TimeZone").unwrap_or_default();
        Zone::parse(&name).unwrap_or(Zone::UTC)
    }

    /// Binds a continuous query; in a pipeline, names are looked up in its schema first.
    pub(super) fn bind_continuous(
        &self,
        query: &Query,
        schema: Option<&str>,
    ) -> Result<BoundContinuous, Diagnostic> {
        let mut binder = self.binder();
        if let Some(schema) = schema {
            let path = [vec![schema.to_string()], self.settings.search_path()].concat();
            binder = binder.with_search_path(path);
        }
        binder.bind_continuous(query)
    }

    /// Binds a query that ends.
    pub(super) fn bind_query(
        &self,
        query: &Query,
        declared: &[Option<ColumnType>],
    ) -> Result<BoundQuery, Diagnostic> {
        self.binder().bind_query(query, declared)
    }

    /// Checks a `DEFAULT`.
    pub(super) fn bind_default(&self, expr: &SqlExpr, column: &Column) -> Result<(), Diagnostic> {
        self.binder().bind_default(expr, column).map(|_| ())
    }

    /// Checks a `GENERATED` expression.
    pub(super) fn bind_generated(
        &self,
        expr: &SqlExpr,
        columns: &[Column],
        column: &Column,
    ) -> Result<(), Diagnostic> {
        self.binder().bind_generated(expr, columns, column).map(|_| ())
    }

    /// Checks a `CHECK`.
    pub(super) fn bind_check(&self, expr: &SqlExpr, columns: &[Column]) -> Result<(), Diagnostic> {
        self.binder().bind_check(expr, columns).map(|_| ())
    }

    /// The value of an expression without columns.
    pub(super) fn constant(
        &self,
        expr: &SqlExpr,
        column_type: &ColumnType,
        args: &Arguments<'_>,
    ) -> Result<ScalarValue, Diagnostic> {
        self.binder().constant(expr, column_type, args.values)
    }

    /// Types of the parameters in a SUBSCRIBE: offsets are bigint, times timestamptz.
    pub(super) fn subscribe_params(
        &self,
        subscribe: &Subscribe,
        declared: &[Option<ColumnType>],
    ) -> Result<Vec<ColumnType>, Diagnostic> {
        let mut params: Vec<ColumnType> = Vec::new();
        let mut note = |expr: &SqlExpr, wanted: ColumnType| {
            if let Some(n) = expr.text().strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) {
                while params.len() < n {
                    params.push(ColumnType::Text);
                }
                params[n - 1] = declared.get(n - 1).cloned().flatten().unwrap_or(wanted);
            }
        };
        match &subscribe.from {
            SubscribeFrom::Offset(e) | SubscribeFrom::AfterOffset(e) => {
                note(e, ColumnType::BigInt);
            }
            SubscribeFrom::Timestamp(e) => note(e, ColumnType::Timestamptz),
            SubscribeFrom::Now | SubscribeFrom::Beginning => {}
        }
        match &subscribe.until {
            Some(SubscribeUntil::Offset(e)) => note(e, ColumnType::BigInt),
            Some(SubscribeUntil::Timestamp(e)) => note(e, ColumnType::Timestamptz),
            Some(SubscribeUntil::Now) | None => {}
        }
        Ok(params)
    }
}

impl Engine {
    /// A binder that is no session's: for what is stored in the catalog.
    pub(super) fn stored_binder(self: &Arc<Self>, catalog: &Arc<Catalog>) -> Binder {
        let sources = SessionSources {
            engine: self.clone(),
            catalog: catalog.clone(),
            overlay: Arc::default(),
        };
        Binder::new(catalog.clone(), self.plans.functions(), Arc::new(sources))
    }

    /// The plan of a stored SQL query; `view` for that of a materialized view.
    pub(super) fn rebind_sql(
        self: &Arc<Self>,
        definition: &Definition,
        catalog: &Arc<Catalog>,
        view: bool,
    ) -> Result<ContinuousQuery, Diagnostic> {
        let binder = self.stored_binder(catalog);
        let bound = if view { binder.rebind_view(definition) } else { binder.rebind(definition) };
        bound.map(|bound| bound.query)
    }
}
