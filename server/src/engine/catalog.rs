//! Finding objects by the names users write, and keeping queries running.

use std::sync::Arc;

use auspex_exec::runtime::QuerySpec;
use auspex_plan::catalog::{Catalog, Language, Object, ObjectId};
use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{ContinuousQuery, Diagnostic, SqlState};
use auspex_sql::statement::Name;

use super::Engine;

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
            let Some(definition) = object.definition() else {
                continue;
            };
            let bound = match definition.language {
                Language::Sql => self.rebind_sql(definition, catalog),
                Language::Vpl => auspex_vpl::bind::rebind(
                    &definition.text,
                    definition.item.as_deref().unwrap_or_default(),
                    &definition.bindings,
                    catalog,
                )
                .map_err(|mut all| all.remove(0)),
            };
            match bound.and_then(|query| self.optimize(query)) {
                Ok(query) => {
                    if let Err(e) = self.start_query(object, query) {
                        tracing::error!(stream = %object.name, error = %e, "cannot start");
                    }
                }
                Err(e) => tracing::error!(stream = %object.name, error = %e, "cannot be bound"),
            }
        }
    }

    /// Starts the query of a derived stream from where it stands.
    pub(super) fn start_query(
        &self,
        object: &Object,
        query: ContinuousQuery,
    ) -> Result<(), Diagnostic> {
        let Some(definition) = object.definition() else {
            return Ok(());
        };
        self.runtime
            .start(QuerySpec {
                id: object.id,
                generation: definition.generation,
                plan: query,
                start: definition.start.clone(),
                paused: definition.paused,
                table: None,
            })
            .map_err(|e| super::errors::exec(&e))
    }

    /// The query with the optimised plan that runs.
    pub(super) fn optimize(&self, query: ContinuousQuery) -> Result<ContinuousQuery, Diagnostic> {
        let plan = auspex_exec::optimize(query.plan).map_err(|e| super::errors::exec(&e))?;
        Ok(ContinuousQuery { plan, ..query })
    }

    /// Waits until the derived streams among `ids` have everything below `sequence`. A query that
    /// stands still is not waited for.
    pub(super) async fn wait_for(&self, catalog: &Catalog, ids: &[ObjectId], sequence: u64) {
        for id in ids {
            let derived =
                catalog.get(*id).and_then(|o| o.stream()).is_some_and(|s| s.definition.is_some());
            if derived && let Err(e) = self.runtime.wait_complete(*id, sequence).await {
                // The stream was dropped meanwhile: reading it will say so.
                tracing::debug!(stream = id, error = %e, "not waited for");
            }
        }
    }
}
