//! Statements that change the catalog. They are part of the transaction they stand in: validated
//! at once against the transaction's own view of the catalog, and done at its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auspex_plan::catalog::{
    Catalog, CatalogCommand, Column, Definition, Language, Object, ObjectId, ObjectKind,
    ObjectName, Retention, Stream, Table, arrow_schema,
};
use auspex_plan::{Clock, ColumnType, ContinuousQuery, Diagnostic, EventTime, Span, SqlState};
use auspex_sql::statement::{
    Alter, AlterAction, Check, ColumnDef, CreateStream, CreateStreamAs, CreateTable, DropStatement,
    Name, RelationKind,
};

use super::catalog::find;
use super::session::Session;
use super::transaction::Ddl;
use super::{Engine, errors, now_us, stream_config};

mod options;

pub(super) use options::StreamOptions;

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
    let options = StreamOptions::read(&create.options, false)?;
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

/// `CREATE STREAM name AS SELECT ..`.
pub(super) async fn create_stream_as(
    session: &mut Session,
    create: &CreateStreamAs,
    schema: Option<&str>,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE STREAM")?;
    let catalog = session.ddl().await?.catalog.clone();
    let options = StreamOptions::read(&create.options, true)?;
    let bound = session.bind_continuous(&create.query, schema)?;
    let mut columns = rename(bound.columns, &create.columns, &create.name)?;
    for column in &mut columns {
        // Under on_error = null any value may turn out null.
        column.not_null = false;
    }
    let mut query = bound.query;
    query.on_error = options.on_error.unwrap_or_default();
    let query = session.engine.optimize(query)?;
    for warning in &query.warnings {
        session.notice(warning.clone());
    }
    let mut definition = Definition {
        language: Language::Sql,
        text: create.query.stored_text(),
        item: None,
        bindings: bound.bindings,
        start: BTreeMap::new(),
        on_error: query.on_error,
        paused: false,
        generation: 0,
        sink: None,
        max_state_bytes: None,
    };
    if create.or_replace
        && let Some(existing) = find(&catalog, &session.settings.search_path(), &create.name)
    {
        let existing = existing.clone();
        let replacement = Replacement { columns, definition, query, start: options.start_earliest };
        return replace_query(session, existing, replacement, &create.name).await;
    }
    let Some(name) = new_name(session, &catalog, &create.name, create.if_not_exists, schema)?
    else {
        return Ok("CREATE STREAM".into());
    };
    let (event_time, clocks) = query.event_time();
    let reads = with_roots(&query.inputs, &clocks);
    definition.start = session.starts(&reads, options.start_earliest.unwrap_or(false)).await?;
    let stream = Stream {
        columns,
        event_time,
        clocks,
        idle_timeout_us: options.idle_timeout_us.unwrap_or(Clock::IDLE_TIMEOUT_US),
        checks: Vec::new(),
        retention: options.retention(Retention::default()),
        definition: Some(definition),
    };
    add(session, name, ObjectKind::Stream(stream), Some(query)).await?;
    Ok("CREATE STREAM".into())
}

/// What a query reads: its inputs, and the roots whose rows move its watermark.
fn with_roots(inputs: &[ObjectId], clocks: &[Clock]) -> Vec<ObjectId> {
    let all: BTreeSet<ObjectId> =
        inputs.iter().copied().chain(clocks.iter().map(|c| c.stream)).collect();
    all.into_iter().collect()
}

struct Replacement {
    columns: Vec<Column>,
    definition: Definition,
    query: ContinuousQuery,
    start: Option<bool>,
}

/// `CREATE OR REPLACE STREAM .. AS` over an existing derived stream: another query over the same
/// output columns goes on behind the last offset, with fresh operator state.
async fn replace_query(
    session: &mut Session,
    existing: Object,
    mut new: Replacement,
    name: &Name,
) -> Result<String, Diagnostic> {
    let refuse = |message: String| {
        Err(Diagnostic::error(SqlState::INVALID_TABLE_DEFINITION, message)
            .at(name.span())
            .hint("DROP the stream first, or use another name."))
    };
    let Some(old) = existing.definition() else {
        return refuse(format!(
            "\"{}\" is not filled by a query and cannot be replaced by one",
            existing.name
        ));
    };
    if arrow_schema(existing.columns()).fields() != arrow_schema(&new.columns).fields() {
        return refuse(format!("cannot change the columns of stream \"{}\"", existing.name));
    }
    let catalog = session.catalog();
    if catalog.with_dependents([existing.id]).iter().any(|d| new.query.inputs.contains(d)) {
        return refuse(format!("stream \"{}\" cannot read itself", existing.name));
    }
    let old_generation = old.generation;
    new.definition.generation = old_generation + 1;
    let reads = with_roots(&new.query.inputs, &new.query.event_time().1);
    new.definition.start = session.starts(&reads, new.start.unwrap_or(false)).await?;
    let ddl = session.ddl().await?;
    ddl.apply(CatalogCommand::ReplaceQuery { id: existing.id, definition: new.definition })?;
    ddl.replace.retain(|(id, _)| *id != existing.id);
    ddl.replace.push((existing.id, new.query));
    ddl.stale.push(auspex_exec::runtime::generation_prefix(existing.id, old_generation));
    session.notice(Diagnostic {
        state: SqlState("00000"),
        ..Diagnostic::warning(format!(
            "stream \"{}\" goes on with the new query behind its last row; counters and seen values of the old query are gone",
            existing.name
        ))
    });
    Ok("CREATE STREAM".into())
}

impl Session {
    /// First offsets a new query reads of its inputs: the oldest rows kept, or the present ends.
    /// Derived inputs are waited for, so that the present end of one does not depend on how far its
    /// query has come.
    pub(super) async fn starts(
        &mut self,
        inputs: &[ObjectId],
        earliest: bool,
    ) -> Result<BTreeMap<ObjectId, u64>, Diagnostic> {
        if !earliest {
            let sequence = self.engine.store.sequence();
            self.engine.wait_for(&self.engine.catalog(), inputs, sequence).await;
        }
        let created = |id: &ObjectId| {
            self.work.ddl.as_ref().is_some_and(|d| d.created.iter().any(|c| c.id == *id))
        };
        inputs
            .iter()
            .map(|id| {
                if created(id) {
                    return Ok((*id, 0));
                }
                let head = self.engine.store.head(*id).map_err(errors::storage)?;
                Ok((*id, if earliest { head.oldest } else { head.next }))
            })
            .collect()
    }
}

/// The output columns under the names listed behind the stream's name.
fn rename(
    mut columns: Vec<Column>,
    names: &[auspex_sql::statement::Ident],
    stream: &Name,
) -> Result<Vec<Column>, Diagnostic> {
    if names.len() > columns.len() {
        return Err(Diagnostic::error(
            SqlState::SYNTAX_ERROR,
            "CREATE STREAM AS specifies too many column names",
        )
        .at(names[columns.len()].span));
    }
    for (column, name) in columns.iter_mut().zip(names) {
        column.name.clone_from(&name.value);
    }
    let mut seen = BTreeSet::new();
    for column in &columns {
        reserved(&column.name, stream.span())?;
        if !seen.insert(column.name.clone()) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", column.name),
            )
            .at(stream.span())
            .hint("Name the column with AS."));
        }
    }
    Ok(columns)
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

/// `DROP STREAM | TABLE | PIPELINE`.
pub(super) async fn drop(
    session: &mut Session,
    statement: &DropStatement,
) -> Result<String, Diagnostic> {
    let tag = format!("DROP {}", statement.kind.name().to_uppercase());
    session.require_writable(&tag)?;
    let path = session.settings.search_path();
    let catalog = session.ddl().await?.catalog.clone();
    let mut ids = BTreeSet::new();
    for name in &statement.names {
        match find_kind(&catalog, &path, name, statement.kind)? {
            Some(object) => {
                refuse_member(&catalog, object, statement.kind)?;
                ids.insert(object.id);
            }
            None if statement.if_exists => session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(format!(
                    "{} \"{name}\" does not exist, skipping",
                    statement.kind.name()
                ))
            }),
            None => return Err(missing(&catalog, name, statement.kind)),
        }
    }
    if ids.is_empty() {
        return Ok(tag);
    }
    // The members of a pipeline go with it; what others made of them needs CASCADE.
    let members: BTreeSet<ObjectId> = ids
        .iter()
        .filter_map(|id| catalog.get(*id))
        .filter(|o| o.pipeline().is_some())
        .flat_map(|o| catalog.in_schema(&o.name.schema).map(|m| m.id).collect::<Vec<_>>())
        .collect();
    ids.extend(members);
    if statement.cascade {
        let all = catalog.with_dependents(ids.iter().copied());
        let others: Vec<String> = all
            .difference(&ids)
            .filter_map(|id| catalog.get(*id))
            .map(|o| format!("drop cascades to {} {}", o.kind_name(), o.name))
            .collect();
        if !others.is_empty() {
            session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(others.join("\n"))
            });
        }
        ids = all;
    }
    session.ddl().await?.drop(ids)?;
    Ok(tag)
}

/// A stream of a pipeline is changed through its pipeline.
fn refuse_member(catalog: &Catalog, object: &Object, kind: RelationKind) -> Result<(), Diagnostic> {
    let pipeline = catalog.objects().find(|o| {
        o.pipeline().is_some() && o.name.schema == object.name.schema && o.id != object.id
    });
    match pipeline {
        Some(p) if kind != RelationKind::Pipeline => Err(Diagnostic::error(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {} because pipeline {} requires it", object.name, p.name.name),
        )
        .hint("Replace or drop the pipeline instead.")),
        _ => Ok(()),
    }
}

fn find_kind<'a>(
    catalog: &'a Catalog,
    path: &[String],
    name: &Name,
    kind: RelationKind,
) -> Result<Option<&'a Object>, Diagnostic> {
    let object = match kind {
        RelationKind::Pipeline => catalog
            .objects()
            .filter(|o| o.pipeline().is_some())
            .find(|o| o.name.name.eq_ignore_ascii_case(&name.name.value)),
        _ => find(catalog, path, name),
    };
    match object {
        Some(o) if o.kind_name() == kind.name() => Ok(Some(o)),
        Some(o) => Err(Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a {}", kind.name()),
        )
        .at(name.span())
        .hint(format!(
            "Use DROP {} to remove a {}.",
            o.kind_name().to_uppercase(),
            o.kind_name()
        ))),
        None => Ok(None),
    }
}

fn missing(catalog: &Catalog, name: &Name, kind: RelationKind) -> Diagnostic {
    match kind {
        RelationKind::Pipeline => Diagnostic::error(
            SqlState::UNDEFINED_OBJECT,
            format!("pipeline \"{name}\" does not exist"),
        )
        .at(name.span()),
        _ => {
            let mut error = super::catalog::unknown(catalog, name);
            error.message = format!("{} \"{name}\" does not exist", kind.name());
            error
        }
    }
}

/// `ALTER ..`.
pub(super) async fn alter(session: &mut Session, alter: &Alter) -> Result<String, Diagnostic> {
    let tag = format!("ALTER {}", alter.kind.name().to_uppercase());
    session.require_writable(&tag)?;
    let path = session.settings.search_path();
    let catalog = session.ddl().await?.catalog.clone();
    let object = match find_kind(&catalog, &path, &alter.name, alter.kind)? {
        Some(object) => object.clone(),
        None if alter.if_exists => {
            session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(format!(
                    "{} \"{}\" does not exist, skipping",
                    alter.kind.name(),
                    alter.name
                ))
            });
            return Ok(tag);
        }
        None => return Err(missing(&catalog, &alter.name, alter.kind)),
    };
    match &alter.action {
        AlterAction::Rename(to) => {
            let schema = match alter.kind {
                RelationKind::Pipeline => to.value.clone(),
                _ => object.name.schema.clone(),
            };
            let name = ObjectName::new(schema, &to.value);
            let command = CatalogCommand::Rename { id: object.id, name };
            session.ddl().await?.apply(command).map_err(|e| e.at(to.span))?;
        }
        AlterAction::Set(options) => {
            let options = StreamOptions::read(options, false)?;
            let old = object.stream().map(|s| s.retention).unwrap_or_default();
            set_retention(session, object.id, options.retention(old)).await?;
        }
        AlterAction::Pause => set_paused(session, &object, true).await?,
        AlterAction::Resume => set_paused(session, &object, false).await?,
    }
    Ok(tag)
}

async fn set_retention(
    session: &mut Session,
    id: ObjectId,
    retention: Retention,
) -> Result<(), Diagnostic> {
    let ddl = session.ddl().await?;
    ddl.apply(CatalogCommand::SetRetention { id, retention })?;
    let config = ddl.catalog.get(id).and_then(stream_config);
    match ddl.created.iter_mut().find(|c| c.id == id) {
        Some(created) => {
            if let Some(config) = config {
                *created = config;
            }
        }
        None => ddl.reconfigured.extend(config),
    }
    Ok(())
}

async fn set_paused(
    session: &mut Session,
    object: &Object,
    paused: bool,
) -> Result<(), Diagnostic> {
    let ddl = session.ddl().await?;
    ddl.apply(CatalogCommand::SetPaused { id: object.id, paused })?;
    let ids: Vec<ObjectId> = match object.pipeline() {
        Some(_) => ddl
            .catalog
            .in_schema(&object.name.schema)
            .filter(|o| o.definition().is_some())
            .map(|o| o.id)
            .collect(),
        None => vec![object.id],
    };
    ddl.paused.extend(ids.into_iter().map(|id| (id, paused)));
    Ok(())
}
