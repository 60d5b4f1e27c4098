//! Statements that change the catalog. They are part of the transaction they stand in: validated
//! at once against the transaction's own view of the catalog, and done at its commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use auspex_plan::catalog::{
    Catalog, CatalogCommand, Column, Object, ObjectId, ObjectKind, ObjectName, Retention, Stream,
    Table,
};
use auspex_plan::{Clock, ColumnType, ContinuousQuery, Diagnostic, EventTime, Span, SqlState};
use auspex_sql::statement::{Check, ColumnDef, CreateStream, CreateTable, Name};

use super::catalog::find;
use super::session::Session;
use super::transaction::Ddl;
use super::{Engine, errors, now_us, stream_config};

mod alter;
mod drop;
mod options;
mod queries;

pub(super) use alter::alter;
pub(super) use drop::drop;
pub(super) use queries::{create_sink, create_stream_as, create_view};

use alter::set_retention;
use options::{OptionsOf, StreamOptions};

impl Ddl {
    /// Checks a command against the transaction's catalog and keeps it for the commit.
    pub(super) fn apply(&mut self, command: CatalogCommand) -> Result<(), Diagnostic> {
        let mut catalog = (*self.catalog).clone();
        catalog.apply(&command).map_err(errors::catalog)?;
        self.catalog = Arc::new(catalog);
        self.commands.push(command);
        Ok(())
    }

    /// Adds objects and what the store and the runtime have to do for them.
    pub(super) fn create(
        &mut self,
        drop: Vec<ObjectId>,
        objects: Vec<Object>,
        queries: Vec<(ObjectId, ContinuousQuery)>,
    ) -> Result<(), Diagnostic> {
        queries.iter().try_for_each(|(_, query)| check(query))?;
        self.forget(&drop);
        self.created.extend(objects.iter().filter_map(stream_config));
        self.apply(CatalogCommand::Create { drop, objects })?;
        self.start.extend(queries);
        Ok(())
    }

    /// Removes objects.
    pub(super) fn drop(&mut self, ids: BTreeSet<ObjectId>) -> Result<(), Diagnostic> {
        let ids: Vec<ObjectId> = ids.into_iter().collect();
        self.forget(&ids);
        self.apply(CatalogCommand::Drop { ids })
    }

    /// Notes what the store has to remove; what this very transaction made is simply not made.
    fn forget(&mut self, ids: &[ObjectId]) {
        for id in ids {
            let Some(object) = self.catalog.get(*id) else { continue };
            if stream_config(object).is_none() {
                continue;
            }
            let own = self.created.iter().any(|c| c.id == *id);
            self.created.retain(|c| c.id != *id);
            self.start.retain(|(s, _)| s != id);
            self.replace.retain(|(s, _)| s != id);
            if !own {
                self.dropped_streams.insert(*id);
                if object.key().is_some() {
                    self.dropped_tables.insert(*id);
                }
            }
        }
    }
}

impl Engine {
    /// Brings the running system in line with a catalog that has just been committed.
    pub(super) async fn publish_ddl(self: &Arc<Self>, ddl: Ddl) -> Result<(), Diagnostic> {
        for id in &ddl.dropped_streams {
            self.stop_query(*id).await?;
        }
        self.set_catalog(ddl.catalog.clone());
        self.rules.clear();
        for config in ddl.reconfigured {
            self.store.open_stream(config).map_err(errors::storage)?;
        }
        for (id, query) in ddl.replace {
            self.stop_query(id).await?;
            if let Some(object) = ddl.catalog.get(id) {
                self.start_query(&ddl.catalog, object, query)?;
            }
        }
        for (id, query) in ddl.start {
            if let Some(object) = ddl.catalog.get(id) {
                self.start_query(&ddl.catalog, object, query)?;
            }
        }
        for (id, bytes) in ddl.state_limits {
            match self.runtime.limit_state(id, bytes) {
                // Created in the same transaction, or bound no more after a restart.
                Ok(()) | Err(auspex_exec::ExecError::UnknownQuery(_)) => {}
                Err(e) => return Err(errors::exec(&e)),
            }
        }
        for (id, paused) in ddl.paused {
            let changed = match paused {
                true => self.runtime.pause(id).await,
                false => self.runtime.resume(id).await,
            };
            match changed {
                // Created and paused in one transaction, or bound no more after a restart.
                Ok(()) | Err(auspex_exec::ExecError::UnknownQuery(_)) => {}
                Err(e) => return Err(errors::exec(&e)),
            }
        }
        Ok(())
    }

    async fn stop_query(&self, id: ObjectId) -> Result<(), Diagnostic> {
        match self.runtime.stop(id).await {
            Ok(()) | Err(auspex_exec::ExecError::UnknownQuery(_)) => Ok(()),
            Err(e) => Err(errors::exec(&e)),
        }
    }
}

/// Whether a query can run: when it is started it is too late to say so.
fn check(query: &ContinuousQuery) -> Result<(), Diagnostic> {
    let built = auspex_exec::build(query, &auspex_exec::BuildOptions::default());
    built.map(|_| ()).map_err(|e| errors::exec(&e))
}

/// The name a new object gets, or an error when it is taken: `Ok(None)` when it is and
/// `IF NOT EXISTS` was said.
fn new_name(
    session: &mut Session,
    catalog: &Catalog,
    name: &Name,
    if_not_exists: bool,
    schema: Option<&str>,
) -> Result<Option<ObjectName>, Diagnostic> {
    let schema = match (&name.schema, schema) {
        (Some(s), Some(pipeline)) if s.value != pipeline => {
            return Err(Diagnostic::error(
                SqlState::INVALID_SCHEMA_NAME,
                format!("a pipeline creates objects in its own schema \"{pipeline}\" only"),
            )
            .at(s.span));
        }
        (_, Some(pipeline)) => pipeline.to_string(),
        (Some(s), None) => {
            if !catalog.schemas().contains(s.value.as_str()) {
                return Err(Diagnostic::error(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!("schema \"{}\" does not exist", s.value),
                )
                .at(s.span)
                .hint("A schema is made by CREATE PIPELINE."));
            }
            s.value.clone()
        }
        (None, None) => session.settings.search_path().remove(0),
    };
    let full = ObjectName::new(schema, &name.name.value);
    if catalog.resolve(&full.schema, &full.name).is_none() {
        return Ok(Some(full));
    }
    if if_not_exists {
        let mut notice =
            Diagnostic::warning(format!("relation \"{full}\" already exists, skipping"));
        notice.state = SqlState::DUPLICATE_TABLE;
        session.notice(notice);
        return Ok(None);
    }
    Err(Diagnostic::error(SqlState::DUPLICATE_TABLE, format!("relation \"{full}\" already exists"))
        .at(name.span()))
}

/// `CREATE STREAM name (..)`; `schema` is the pipeline's when it stands in one.
pub(super) async fn create_stream(
    session: &mut Session,
    create: &CreateStream,
    schema: Option<&str>,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE STREAM")?;
    let catalog = session.ddl().await?.catalog.clone();
    let options = StreamOptions::read(&create.options, OptionsOf::Source)?;
    let columns = columns(session, &create.columns)?;
    let checks = checks(session, &columns, &create.checks, &create.name.name.value)?;
    let event_time = match &create.watermark {
        None => EventTime::Arrival,
        Some(w) => {
            let column = time_column(&columns, &w.column.value, w.column.span)?;
            EventTime::Column { column, delay_us: w.delay_us }
        }
    };
    let stream = Stream {
        columns,
        event_time,
        clocks: Vec::new(),
        idle_timeout_us: options.idle_timeout_us.unwrap_or(Clock::IDLE_TIMEOUT_US),
        checks,
        retention: options.retention(Retention::default()),
        definition: None,
    };
    if create.or_replace
        && let Some(existing) = find(&catalog, &session.settings.search_path(), &create.name)
    {
        return replace_source(session, existing.clone(), stream, &create.name).await;
    }
    let Some(name) = new_name(session, &catalog, &create.name, create.if_not_exists, schema)?
    else {
        return Ok("CREATE STREAM".into());
    };
    add(session, name, ObjectKind::Stream(stream), None).await?;
    Ok("CREATE STREAM".into())
}

async fn add(
    session: &mut Session,
    name: ObjectName,
    kind: ObjectKind,
    query: Option<ContinuousQuery>,
) -> Result<ObjectId, Diagnostic> {
    let ddl = session.ddl().await?;
    let id = ddl.catalog.next_id();
    let object = Object { id, name, created_us: now_us(), kind };
    ddl.create(Vec::new(), vec![object], query.map(|q| (id, q)).into_iter().collect())?;
    Ok(id)
}

/// `CREATE OR REPLACE STREAM` over an existing source stream: its rows stay, so its columns must.
async fn replace_source(
    session: &mut Session,
    existing: Object,
    new: Stream,
    name: &Name,
) -> Result<String, Diagnostic> {
    let same = existing.stream().is_some_and(|old| {
        old.definition.is_none()
            && old.columns == new.columns
            && old.checks == new.checks
            && old.event_time == new.event_time
    });
    if !same {
        return Err(Diagnostic::error(
            SqlState::INVALID_TABLE_DEFINITION,
            format!(
                "cannot change the definition of {} \"{}\"",
                existing.kind_name(),
                existing.name
            ),
        )
        .at(name.span())
        .detail("CREATE OR REPLACE keeps the rows of a stream, so only its options may differ.")
        .hint("DROP it first, or use another name."));
    }
    set_retention(session, existing.id, new.retention).await?;
    Ok("CREATE STREAM".into())
}

fn reserved(name: &str, span: Span) -> Result<(), Diagnostic> {
    if auspex_plan::relation::SYSTEM_COLUMNS.contains(&name) {
        return Err(Diagnostic::error(
            SqlState::DUPLICATE_COLUMN,
            format!("column name \"{name}\" conflicts with a system column name"),
        )
        .at(span));
    }
    Ok(())
}

fn time_column(columns: &[Column], name: &str, span: Span) -> Result<String, Diagnostic> {
    let Some(column) = columns.iter().find(|c| c.name == name) else {
        return Err(Diagnostic::error(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{name}\" named in WATERMARK FOR does not exist"),
        )
        .at(span));
    };
    if column.column_type != ColumnType::Timestamptz {
        return Err(Diagnostic::error(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "the watermark column \"{name}\" must be timestamp with time zone, not {}",
                column.column_type
            ),
        )
        .at(span));
    }
    Ok(column.name.clone())
}

fn columns(session: &Session, defs: &[ColumnDef]) -> Result<Vec<Column>, Diagnostic> {
    let mut columns: Vec<Column> = Vec::with_capacity(defs.len());
    for def in defs {
        reserved(&def.name.value, def.name.span)?;
        if columns.iter().any(|c| c.name == def.name.value) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", def.name.value),
            )
            .at(def.name.span));
        }
        columns.push(Column {
            name: def.name.value.clone(),
            column_type: def.column_type.clone(),
            not_null: def.not_null,
            default: def.default.as_ref().map(|e| e.text().to_string()),
            generated: def.generated.as_ref().map(|e| e.text().to_string()),
        });
    }
    if columns.is_empty() {
        return Err(Diagnostic::error(
            SqlState::INVALID_TABLE_DEFINITION,
            "a stream or table needs at least one column",
        ));
    }
    for def in defs {
        let column = columns.iter().find(|c| c.name == def.name.value);
        let column = column.expect("made from the same definitions");
        if let Some(default) = &def.default {
            session.bind_default(default, column)?;
        }
        if let Some(generated) = &def.generated {
            session.bind_generated(generated, &columns, column)?;
        }
    }
    Ok(columns)
}

/// Named check constraints; PostgreSQL's names where none is given.
fn checks(
    session: &Session,
    columns: &[Column],
    checks: &[Check],
    relation: &str,
) -> Result<Vec<(String, String)>, Diagnostic> {
    let mut named: Vec<(String, String)> = Vec::with_capacity(checks.len());
    for check in checks {
        session.bind_check(&check.expr, columns)?;
        let name = match (&check.name, &check.column) {
            (Some(name), _) => {
                if named.iter().any(|(n, _)| *n == name.value) {
                    return Err(Diagnostic::error(
                        SqlState::DUPLICATE_OBJECT,
                        format!("constraint \"{}\" already exists", name.value),
                    )
                    .at(name.span));
                }
                name.value.clone()
            }
            (None, column) => {
                let stem = match column {
                    Some(c) => format!("{relation}_{c}_check"),
                    None => format!("{relation}_check"),
                };
                (0..)
                    .map(|i| if i == 0 { stem.clone() } else { format!("{stem}{i}") })
                    .find(|n| named.iter().all(|(taken, _)| taken != n))
                    .expect("names without end")
            }
        };
        named.push((name, check.expr.text().to_string()));
    }
    Ok(named)
}

/// `CREATE TABLE`.
pub(super) async fn create_table(
    session: &mut Session,
    create: &CreateTable,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE TABLE")?;
    let catalog = session.ddl().await?.catalog.clone();
    let mut columns = columns(session, &create.columns)?;
    if create.primary_key.is_empty() {
        return Err(Diagnostic::unsupported(format!(
            "table \"{}\" needs a primary key",
            create.name
        ))
        .at(create.name.span())
        .hint("Add PRIMARY KEY to a column; for rows without a key use CREATE STREAM."));
    }
    let mut primary_key = Vec::new();
    for part in &create.primary_key {
        let at = columns.iter().position(|c| c.name == part.value).ok_or_else(|| {
            Diagnostic::error(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{}\" named in key does not exist", part.value),
            )
            .at(part.span)
        })?;
        if matches!(
            columns[at].column_type,
            ColumnType::Array(_) | ColumnType::Map(..) | ColumnType::Jsonb | ColumnType::Interval
        ) {
            return Err(Diagnostic::unsupported(format!(
                "a column of type {} cannot be part of a primary key",
                columns[at].column_type
            ))
            .at(part.span));
        }
        if primary_key.contains(&at) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" appears twice in primary key constraint", part.value),
            )
            .at(part.span));
        }
        columns[at].not_null = true;
        primary_key.push(at);
    }
    let checks = checks(session, &columns, &create.checks, &create.name.name.value)?;
    let Some(name) = new_name(session, &catalog, &create.name, create.if_not_exists, None)? else {
        return Ok("CREATE TABLE".into());
    };
    add(session, name, ObjectKind::Table(Table { columns, primary_key, checks }), None).await?;
    Ok("CREATE TABLE".into())
}
