//! Objects that a query fills: derived streams, materialized views, sinks.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Fields;
use auspex_plan::catalog::{
    CatalogCommand, Column, Definition, Language, Object, ObjectId, ObjectKind, Retention, Stream,
    View, arrow_schema,
};
use auspex_plan::{Clock, ContinuousQuery, Diagnostic, SqlState};
use auspex_sql::BoundContinuous;
use auspex_sql::statement::{CreateSink, CreateStreamAs, CreateView, Ident, Name, Opt, Query};
use datafusion::logical_expr::LogicalPlan;

use super::super::catalog::{find, require};
use super::super::errors;
use super::super::session::Session;
use super::super::table::writer::SinkWriter;
use super::options::{OptionsOf, StreamOptions};
use super::{add, check, new_name, reserved};

/// The parts of a `CREATE .. AS` that all kinds have.
struct Create<'a> {
    kind: &'static str,
    or_replace: bool,
    if_not_exists: bool,
    name: &'a Name,
    columns: &'a [Ident],
    query: &'a Query,
    options: &'a [Opt],
}

/// `CREATE STREAM name AS SELECT ..`; `schema` is the pipeline's when it stands in one.
pub(in crate::engine) async fn create_stream_as(
    session: &mut Session,
    create: &CreateStreamAs,
    schema: Option<&str>,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE STREAM")?;
    session.ddl().await?;
    let bound = session.bind_continuous(&create.query, schema)?;
    let create = Create {
        kind: "STREAM",
        or_replace: create.or_replace,
        if_not_exists: create.if_not_exists,
        name: &create.name,
        columns: &create.columns,
        query: &create.query,
        options: &create.options,
    };
    let new = New::read(session, &create, bound)?;
    new.create(session, &create, schema).await
}

/// `CREATE MATERIALIZED VIEW name AS SELECT ..`.
pub(in crate::engine) async fn create_view(
    session: &mut Session,
    create: &CreateView,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE MATERIALIZED VIEW")?;
    session.ddl().await?;
    let bound = session.binder().bind_view(&create.query)?;
    let create = Create {
        kind: "MATERIALIZED VIEW",
        or_replace: create.or_replace,
        if_not_exists: create.if_not_exists,
        name: &create.name,
        columns: &create.columns,
        query: &create.query,
        options: &create.options,
    };
    let key = bound.key.clone();
    let mut new = New::read(session, &create, bound)?;
    let keyed = session.engine.keyed(new.query, &key)?;
    new.query = session.engine.optimize(keyed)?;
    new.key = Some(key);
    new.create(session, &create, None).await
}

/// `CREATE SINK name INTO table AS SELECT ..`.
pub(in crate::engine) async fn create_sink(
    session: &mut Session,
    create: &CreateSink,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE SINK")?;
    let catalog = session.ddl().await?.catalog.clone();
    let table = require(&catalog, &session.settings.search_path(), &create.table)?.clone();
    if table.table().is_none() {
        return Err(Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", create.table),
        )
        .at(create.table.span())
        .hint(
            "A sink writes into a table. For rows one after the other use CREATE STREAM .. AS.",
        ));
    }
    let bound = session.bind_continuous(&create.query, None)?;
    let create = Create {
        kind: "SINK",
        or_replace: false,
        if_not_exists: create.if_not_exists,
        name: &create.name,
        columns: &create.columns,
        query: &create.query,
        options: &create.options,
    };
    let mut new = New::read(session, &create, bound)?;
    new.definition.sink = Some(table.id);
    // It writes when it runs; here it says what does not fit.
    SinkWriter::new(&session.engine, &table, &new.columns).map_err(|e| e.at(create.query.span))?;
    new.create(session, &create, None).await
}

/// What is to be created.
struct New {
    columns: Vec<Column>,
    definition: Definition,
    query: ContinuousQuery,
    options: StreamOptions,
    /// Of a materialized view.
    key: Option<Vec<usize>>,
}

impl New {
    fn read(
        session: &mut Session,
        create: &Create<'_>,
        bound: BoundContinuous,
    ) -> Result<New, Diagnostic> {
        let options = StreamOptions::read(create.options, OptionsOf::Query)?;
        let mut columns = rename(bound.columns, create)?;
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
        let definition = Definition {
            language: Language::Sql,
            text: create.query.stored_text(),
            item: None,
            bindings: bound.bindings,
            start: BTreeMap::new(),
            on_error: query.on_error,
            paused: false,
            generation: 0,
            sink: None,
            max_state_bytes: options.max_state_bytes.flatten(),
        };
        Ok(New { columns, definition, query, options, key: None })
    }

    async fn create(
        mut self,
        session: &mut Session,
        create: &Create<'_>,
        schema: Option<&str>,
    ) -> Result<String, Diagnostic> {
        let tag = format!("CREATE {}", create.kind);
        let catalog = session.catalog();
        check(&self.query).map_err(|e| e.at_opt(Some(create.query.span)))?;
        let path = session.settings.search_path();
        let existing = match create.or_replace {
            true => find(&catalog, &path, create.name).cloned(),
            false => None,
        };
        let mut dropped = None;
        let name = match existing {
            Some(existing) if existing.view().is_some() && self.key.is_some() => {
                if self.replaces_view(session, &existing, create).await? {
                    return Ok(tag);
                }
                dropped = Some(existing.id);
                existing.name
            }
            Some(existing) => {
                self.replace(session, existing, create).await?;
                return Ok(tag);
            }
            None => match new_name(session, &catalog, create.name, create.if_not_exists, schema)? {
                Some(name) => name,
                None => return Ok(tag),
            },
        };
        let (event_time, clocks) = self.query.event_time();
        let reads = with_roots(&self.query.inputs, &clocks);
        // A view shows what its query gives for all rows; a stream goes on from now.
        let earliest = self.options.start_earliest.unwrap_or(self.key.is_some());
        self.definition.start = session.starts(&reads, earliest).await?;
        let stream = Stream {
            columns: self.columns,
            event_time,
            clocks,
            idle_timeout_us: self.options.idle_timeout_us.unwrap_or(Clock::IDLE_TIMEOUT_US),
            checks: Vec::new(),
            retention: self.options.retention(Retention::default()),
            definition: Some(self.definition),
        };
        let kind = match self.key {
            Some(key) => ObjectKind::View(View { stream, key }),
            None => ObjectKind::Stream(stream),
        };
        let ddl = session.ddl().await?;
        if let Some(dropped) = dropped {
            ddl.drop(BTreeSet::from([dropped]))?;
        }
        add(session, name, kind, Some(self.query)).await?;
        Ok(tag)
    }

    /// Whether a view goes on as it is because its query is the same. Otherwise it may be made anew.
    async fn replaces_view(
        &self,
        session: &mut Session,
        existing: &Object,
        create: &Create<'_>,
    ) -> Result<bool, Diagnostic> {
        let catalog = session.catalog();
        let running = session.engine.rebind(existing, &catalog).ok();
        let same = self.options.start_earliest.is_none()
            && fields(existing.columns()) == fields(&self.columns)
            && existing.key() == self.key.as_deref()
            && running.is_some_and(|r| r.inputs == self.query.inputs && r.plan == self.query.plan);
        if same {
            let message = format!("materialized view \"{}\" goes on as it is", existing.name);
            session.notice(notice(message));
            return Ok(true);
        }
        if !catalog.dependents(existing.id).is_empty() {
            // Who follows its changes would keep the rows of the old query.
            return Err(Diagnostic::error(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot replace {} because other objects depend on it", existing.name),
            )
            .at(create.name.span())
            .hint("DROP MATERIALIZED VIEW .. CASCADE drops them too."));
        }
        session.notice(notice(format!(
            "materialized view \"{}\" is made anew from the rows its query reads",
            existing.name
        )));
        Ok(false)
    }

    /// `CREATE OR REPLACE` over an existing object: another query over the same output columns goes
    /// on behind the last offset. Where what keeps state is the same, it goes on with that state;
    /// otherwise it begins anew.
    async fn replace(
        mut self,
        session: &mut Session,
        existing: Object,
        create: &Create<'_>,
    ) -> Result<(), Diagnostic> {
        let kind = create.kind.to_lowercase();
        let refuse = |message: String| {
            Err(Diagnostic::error(SqlState::INVALID_TABLE_DEFINITION, message)
                .at(create.name.span())
                .hint(format!("DROP the {kind} first, or use another name.")))
        };
        let Some(old) = existing.definition().filter(|_| existing.kind_name() == kind) else {
            return refuse(format!(
                "\"{}\" is not a {kind} filled by a query and cannot be replaced by one",
                existing.name
            ));
        };
        if fields(existing.columns()) != fields(&self.columns) {
            return refuse(format!("cannot change the columns of {kind} \"{}\"", existing.name));
        }
        if self.options.start_earliest == Some(true) {
            return refuse(format!(
                "{kind} \"{}\" has rows already and cannot start = 'earliest'",
                existing.name
            ));
        }
        let catalog = session.catalog();
        let dependents = catalog.with_dependents([existing.id]);
        if dependents.iter().any(|d| self.query.inputs.contains(d)) {
            return refuse(format!("{kind} \"{}\" cannot read itself", existing.name));
        }
        // What was written before this statement is the old query's.
        let written = session.engine.store.sequence();
        session.engine.wait_for(&catalog, &[existing.id], written).await;
        let running = session.engine.rebind(&existing, &catalog).ok();
        let kept = self.options.start_earliest.is_none()
            && running.is_some_and(|running| keeps_state(&running, &self.query));
        let told = if kept {
            self.definition.generation = old.generation;
            self.definition.start.clone_from(&old.start);
            format!(
                "{kind} \"{}\" goes on with the new query and the state of the old one",
                existing.name
            )
        } else {
            self.definition.generation = old.generation + 1;
            let reads = with_roots(&self.query.inputs, &self.query.event_time().1);
            self.definition.start = session.starts(&reads, false).await?;
            format!(
                "{kind} \"{}\" goes on with the new query behind its last row: counters and state of the old query are gone",
                existing.name
            )
        };
        let generation = old.generation;
        let ddl = session.ddl().await?;
        let definition = self.definition;
        ddl.apply(CatalogCommand::ReplaceQuery { id: existing.id, definition })?;
        ddl.replace.retain(|(id, _)| *id != existing.id);
        ddl.replace.push((existing.id, self.query));
        if !kept {
            ddl.stale.push(auspex_exec::runtime::generation_prefix(existing.id, generation));
        }
        session.notice(notice(told));
        Ok(())
    }
}

fn fields(columns: &[Column]) -> Fields {
    arrow_schema(columns).fields().clone()
}

fn notice(message: String) -> Diagnostic {
    Diagnostic { state: SqlState("00000"), ..Diagnostic::warning(message) }
}

/// Whether the state of a query serves another: both read the same, and everything below and with
/// the topmost part that keeps state is equal. (Operators are numbered from the leaves.)
fn keeps_state(old: &ContinuousQuery, new: &ContinuousQuery) -> bool {
    old.inputs == new.inputs && stateful(&old.plan) == stateful(&new.plan)
}

/// The plan without the parts at its top that keep nothing; `None` when nothing else is left.
fn stateful(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => stateful(&projection.input),
        LogicalPlan::Filter(filter) => stateful(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => stateful(&alias.input),
        LogicalPlan::TableScan(_) => None,
        other => Some(other),
    }
}

/// What a query reads: its inputs, and the roots whose rows move its watermark.
fn with_roots(inputs: &[ObjectId], clocks: &[Clock]) -> Vec<ObjectId> {
    let all: BTreeSet<ObjectId> =
        inputs.iter().copied().chain(clocks.iter().map(|c| c.stream)).collect();
    all.into_iter().collect()
}

impl Session {
    /// First offsets a new query reads of its inputs: the oldest rows kept, or the present ends; of
    /// tables and materialized views, which it looks up, always the first change. Derived inputs are
    /// waited for, so that the present end of one does not depend on how far its query has come.
    pub(in crate::engine) async fn starts(
        &mut self,
        inputs: &[ObjectId],
        earliest: bool,
    ) -> Result<BTreeMap<ObjectId, u64>, Diagnostic> {
        if !earliest {
            let sequence = self.engine.store.sequence();
            self.engine.wait_for(&self.engine.catalog(), inputs, sequence).await;
        }
        let catalog = self.catalog();
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
                match catalog.get(*id).filter(|o| o.key().is_some()) {
                    Some(object) if head.oldest > 0 => Err(Diagnostic::error(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!(
                            "the first changes of {} \"{}\" are no longer retained",
                            object.kind_name(),
                            object.name
                        ),
                    )
                    .hint("What is looked up needs all its changes: create it without retention.")),
                    Some(_) => Ok((*id, 0)),
                    None => Ok((*id, if earliest { head.oldest } else { head.next })),
                }
            })
            .collect()
    }
}

/// The output columns under the names listed behind the object's name.
fn rename(mut columns: Vec<Column>, create: &Create<'_>) -> Result<Vec<Column>, Diagnostic> {
    let names = create.columns;
    if names.len() > columns.len() {
        return Err(Diagnostic::error(
            SqlState::SYNTAX_ERROR,
            format!("CREATE {} AS specifies too many column names", create.kind),
        )
        .at(names[columns.len()].span));
    }
    for (column, name) in columns.iter_mut().zip(names) {
        column.name.clone_from(&name.value);
    }
    let mut seen = BTreeSet::new();
    for column in &columns {
        reserved(&column.name, create.name.span())?;
        if !seen.insert(column.name.clone()) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", column.name),
            )
            .at(create.name.span())
            .hint("Name the column with AS."));
        }
    }
    Ok(columns)
}
