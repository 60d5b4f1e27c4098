//! Statements to plans.
//!
//! A syntax tree goes through [`resolve`] (names, refusals and output names, while places in the
//! text are known), then through DataFusion's `SqlToRel` with [`context`] answering its questions.
//! What a statement writes is coerced by [`assign`]. Errors become PostgreSQL's in [`error`].
//!
//! Plans are logical and not optimised. Parameters stay placeholders, each with a type; fill them in
//! with `LogicalPlan::with_param_values`.

mod array_in;
mod assign;
mod casts;
mod change;
mod constant;
mod context;
mod continuous;
mod convert;
mod error;
mod from;
mod from_join;
mod from_retention;
mod functions;
mod insert;
mod names;
mod parameters;
mod query;
mod resolve;
mod returning;
mod rules;
mod scope;
mod stream;
mod values;
mod wildcard;

#[cfg(test)]
mod tests;

pub use change::BoundChange;
pub use continuous::BoundContinuous;
pub use functions::Functions;
pub use insert::{BoundConflict, BoundInsert};
pub use query::BoundQuery;
pub use returning::Returning;
pub use rules::BoundRules;

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::catalog::{Catalog, DEFAULT_SCHEMA, Object, ObjectId};
use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{Diagnostic, SqlState};
use datafusion::logical_expr::{Expr, TableSource};

use crate::datetime::Zone;
use crate::statement::Name;
use resolve::Relation;

type Result<T, E = Diagnostic> = std::result::Result<T, E>;

/// Where queries that end find their rows. Continuous queries read
/// [`auspex_plan::StreamRelation`]s instead.
pub trait Sources: Send + Sync {
    /// The rows of a stream or table: its own columns, with the system columns of a stream behind
    /// them when asked for.
    fn relation(&self, object: &Object, system_columns: bool) -> Arc<dyn TableSource>;

    /// A system view (`pg_catalog`, `information_schema`, `auspex`).
    fn system_relation(&self, schema: &str, name: &str) -> Option<Arc<dyn TableSource>>;

    /// Whether [`Sources::table_function`] knows this function.
    fn has_table_function(&self, name: &str) -> bool;

    /// A function in FROM, `None` when there is none of this name.
    fn table_function(
        &self,
        name: &str,
        args: &[Expr],
    ) -> Option<datafusion::common::Result<Arc<dyn TableSource>>>;
}

/// Binds statements against one state of the catalog.
#[derive(Clone)]
pub struct Binder {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) search_path: Vec<String>,
    pub(crate) database: Option<String>,
    /// Time zone of texts that name none, in queries that end.
    pub(crate) zone: Zone,
    /// Names that have been resolved before, for a stored query.
    pub(crate) bindings: BTreeMap<String, ObjectId>,
}

impl Binder {
    /// A binder whose search path is the default schema.
    pub fn new(
        catalog: Arc<Catalog>,
        functions: Arc<Functions>,
        sources: Arc<dyn Sources>,
    ) -> Binder {
        Binder {
            catalog,
            functions,
            sources,
            search_path: vec![DEFAULT_SCHEMA.to_string()],
            database: None,
            zone: Zone::UTC,
            bindings: BTreeMap::new(),
        }
    }

    /// Schemas in which unqualified names are looked up, in order.
    pub fn with_search_path(mut self, search_path: Vec<String>) -> Binder {
        self.search_path = search_path;
        self
    }

    /// Name of the database, which may stand before a schema.
    pub fn with_database(mut self, database: impl Into<String>) -> Binder {
        self.database = Some(database.into());
        self
    }

    /// The time zone of times that name none, in queries that end. Stored expressions are in UTC.
    pub fn with_time_zone(mut self, zone: Zone) -> Binder {
        self.zone = zone;
        self
    }

    /// The stream or table of this name; 42P01 with its place when there is none.
    pub fn object(&self, name: &Name) -> Result<&Object> {
        let parts: Vec<String> = [&name.database, &name.schema]
            .into_iter()
            .flatten()
            .chain([&name.name])
            .map(|i| i.value.clone())
            .collect();
        match self.relation(&parts).map_err(|d| d.at(name.span()))? {
            Relation::Object(object) => Ok(object),
            Relation::System(schema, table) => Err(Diagnostic::error(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{schema}.{table}\" is a system view"),
            )
            .at(name.span())),
        }
    }

    /// A relation by the folded parts of its name.
    fn relation(&self, parts: &[String]) -> Result<Relation<'_>> {
        let (database, schema, table) = match parts {
            [table] => (None, None, table),
            [schema, table] => (None, Some(schema), table),
            [database, schema, table] => (Some(database), Some(schema), table),
            _ => return Err(undefined_relation(&parts.join("."))),
        };
        if let (Some(written), Some(own)) = (database, &self.database)
            && written != own
        {
            return Err(Diagnostic::unsupported(format!(
                "cross-database references are not implemented: \"{}\"",
                parts.join(".")
            )));
        }
        if let Some(schema) = schema {
            if let Some(object) = self.catalog.resolve(schema, table) {
                return Ok(Relation::Object(object));
            }
            if self.sources.system_relation(schema, table).is_some() {
                return Ok(Relation::System(schema.clone(), table.clone()));
            }
        } else {
            for schema in &self.search_path {
                if let Some(object) = self.catalog.resolve(schema, table) {
                    return Ok(Relation::Object(object));
                }
            }
            for schema in self.search_path.iter().map(String::as_str).chain(["pg_catalog"]) {
                if self.sources.system_relation(schema, table).is_some() {
                    return Ok(Relation::System(schema.to_string(), table.clone()));
                }
            }
        }
        let error = undefined_relation(&parts.join("."));
        let wanted = parts[..].join(".");
        let names: Vec<String> = self
            .catalog
            .objects()
            .filter(|o| o.pipeline().is_none())
            .map(|o| {
                if schema.is_none() && self.search_path.contains(&o.name.schema) {
                    o.name.name.clone()
                } else {
                    format!("{}.{}", o.name.schema, o.name.name)
                }
            })
            .collect();
        Err(match did_you_mean(&wanted, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error,
        })
    }
}

fn undefined_relation(name: &str) -> Diagnostic {
    Diagnostic::error(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}
