//! Finding objects by the names users write, and keeping queries running.

use std::sync::Arc;

use auspex_exec::runtime::{QuerySpec, TableWriter};
use auspex_plan::catalog::{Catalog, Language, Object, ObjectId};
use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::nodes::KeyedChanges;
use auspex_plan::{ContinuousQuery, Diagnostic, SqlState};
use auspex_sql::statement::Name;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};

use super::table::writer::{SinkWriter, ViewWriter};
use super::{Engine, errors};

/// The object a possibly qualified name means, searching `path` for an unqualified one.
pub(crate) fn find<'a>(catalog: &'a Catalog, path: &[String], name: &Name) -> Option<&'a Object> {
    match &name.schema {
        Some(schema) => catalog.resolve(&schema.value, &name.name.value),
        None => path.iter().find_map(|schema| catalog.resolve(schema, &name.name.value)),
    }
}

/// [`find`], or 42P01 with the nearest name.
pub(crate) fn require<'a>(
    catalog: &'a Catalog,
    path: &[String],
    name: &Name,
) -> Result<&'a Object, Diagnostic> {
    find(catalog, path, name).ok_or_else(|| unknown(catalog, name))
}

/// The error for a name that means nothing.
pub(crate) fn unknown(catalog: &Catalog, name: &Name) -> Diagnostic {
    let error =
        Diagnostic::error(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
            .at(name.span());
    let names = catalog.objects().map(|o| o.name.name.as_str());
    match did_you_mean(&name.name.value, names) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

impl Engine {
    /// Binds and starts the queries of all derived streams. One that cannot be bound any more is
    /// logged and stands still; the others run.
    pub(super) fn restart_queries(self: &Arc<Self>, catalog: &Arc<Catalog>) {
        for object in catalog.objects() {
            if object.definition().is_none() {
                continue;
            }
            match self.rebind(object, catalog) {
                Ok(query) => {
                    if let Err(e) = self.start_query(catalog, object, query) {
                        tracing::error!(stream = %object.name, error = %e, "cannot start");
                    }
                }
                Err(e) => tracing::error!(stream = %object.name, error = %e, "cannot be bound"),
            }
        }
    }

    /// Starts the query of a derived stream from where it stands.
    pub(super) fn start_query(
        self: &Arc<Self>,
        catalog: &Catalog,
        object: &Object,
        query: ContinuousQuery,
    ) -> Result<(), Diagnostic> {
        let Some(definition) = object.definition() else { return Ok(()) };
        self.runtime
            .start(QuerySpec {
                id: object.id,
                generation: definition.generation,
                plan: query,
                start: definition.start.clone(),
                paused: definition.paused,
                table: self.table_writer(catalog, object)?,
                max_state_bytes: definition.max_state_bytes,
            })
            .map_err(|e| errors::exec(&e))
    }

    /// What the query of a materialized view or sink writes into.
    fn table_writer(
        self: &Arc<Self>,
        catalog: &Catalog,
        object: &Object,
    ) -> Result<Option<Arc<dyn TableWriter>>, Diagnostic> {
        if object.view().is_some() {
            return Ok(Some(Arc::new(ViewWriter::new(object))));
        }
        let Some(table) = object.definition().and_then(|d| d.sink) else { return Ok(None) };
        let table = catalog.get(table).ok_or_else(|| {
            Diagnostic::error(SqlState::UNDEFINED_TABLE, "the sink's table does not exist")
        })?;
        Ok(Some(Arc::new(SinkWriter::new(self, table, object.columns())?)))
    }

    /// The query with the optimised plan that runs.
    pub(super) fn optimize(&self, query: ContinuousQuery) -> Result<ContinuousQuery, Diagnostic> {
        let plan = auspex_exec::optimize(query.plan).map_err(|e| errors::exec(&e))?;
        Ok(ContinuousQuery { plan, ..query })
    }

    /// The query whose rows are the changes of a view with this key.
    pub(super) fn keyed(
        &self,
        query: ContinuousQuery,
        key: &[usize],
    ) -> Result<ContinuousQuery, Diagnostic> {
        let schema = query.plan.schema();
        let key = key.iter().map(|i| Expr::Column(schema.qualified_field(*i).into())).collect();
        let node = KeyedChanges::try_new(query.plan, key).map_err(errors::datafusion)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(ContinuousQuery { plan, ..query })
    }

    /// The stored query of an object, bound anew and ready to run.
    pub(super) fn rebind(
        self: &Arc<Self>,
        object: &Object,
        catalog: &Arc<Catalog>,
    ) -> Result<ContinuousQuery, Diagnostic> {
        let definition = object.definition().ok_or_else(|| {
            Diagnostic::error(SqlState::INTERNAL_ERROR, "the object has no query")
        })?;
        let mut query = match definition.language {
            Language::Sql => self.rebind_sql(definition, catalog, object.view().is_some())?,
            Language::Vpl => auspex_vpl::bind::rebind(
                &definition.text,
                definition.item.as_deref().unwrap_or_default(),
                &definition.bindings,
                catalog,
            )
            .map_err(|mut all| all.remove(0))?,
        };
        query.on_error = definition.on_error;
        if let Some(view) = object.view() {
            query = self.keyed(query, &view.key)?;
        }
        self.optimize(query)
    }

    /// Waits until the derived streams among `ids` have everything below `sequence`, and the tables
    /// among them what sinks write into them. A query that stands still is not waited for.
    pub(super) async fn wait_for(&self, catalog: &Catalog, ids: &[ObjectId], sequence: u64) {
        let sinks = |id: ObjectId| {
            let into = move |o: &&Object| o.definition().is_some_and(|d| d.sink == Some(id));
            catalog.objects().filter(into).map(|o| o.id)
        };
        let tables = ids.iter().filter(|id| catalog.get(**id).is_some_and(|o| o.table().is_some()));
        let filling: Vec<ObjectId> = tables.flat_map(|id| sinks(*id)).collect();
        for id in ids.iter().chain(&filling) {
            let derived = catalog.get(*id).is_some_and(|o| o.definition().is_some());
            if derived && let Err(e) = self.runtime.wait_complete(*id, sequence).await {
                // The stream was dropped meanwhile: reading it will say so.
                tracing::debug!(stream = id, error = %e, "not waited for");
            }
        }
    }
}
