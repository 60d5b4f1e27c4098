//! INSERT, UPDATE, DELETE, TRUNCATE.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use auspex_plan::catalog::Object;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use auspex_sql::statement::{Delete, Insert, Truncate, Update};
use auspex_sql::{BoundChange, BoundConflict, Returning};
use datafusion::physical_expr::PhysicalExpr;
use futures::{StreamExt, TryStreamExt, stream};

use super::api::Outcome;
use super::errors;
use super::ingest::{OnConflict, append, duplicate_key, insert_rows, writable};
use super::query::fill;
use super::session::Session;
use super::statement::{Arguments, BoundPlan, Described};
use super::table::codec;

fn described(params: Vec<ColumnType>, returning: Option<&Returning>) -> Described {
    Described { params, columns: returning.map(|r| r.columns.clone()), bound: None }
}

/// Parameters and result columns of an INSERT.
pub(super) fn describe_insert(
    session: &Session,
    insert: &Insert,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    let bound = session.binder().bind_insert(insert, declared)?;
    let described = described(bound.params.clone(), bound.returning.as_ref());
    Ok(described.keeping(session, BoundPlan::Insert(bound)))
}

/// Parameters and result columns of an UPDATE.
pub(super) fn describe_update(
    session: &Session,
    update: &Update,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    let bound = session.binder().bind_update(update, declared)?;
    Ok(described(bound.params, bound.returning.as_ref()))
}

/// Parameters and result columns of a DELETE.
pub(super) fn describe_delete(
    session: &Session,
    delete: &Delete,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    let bound = session.binder().bind_delete(delete, declared)?;
    Ok(described(bound.params, bound.returning.as_ref()))
}

/// The object with this id in the session's catalog.
fn object(session: &Session, id: u32) -> Result<Object, Diagnostic> {
    session
        .catalog()
        .get(id)
        .cloned()
        .ok_or_else(|| Diagnostic::error(SqlState::UNDEFINED_TABLE, "the relation was dropped"))
}

/// `INSERT`.
pub(super) async fn insert(
    session: &mut Session,
    insert: &Insert,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    session.require_writable("INSERT")?;
    let bound = args.insert(session, insert)?;
    let object = object(session, bound.object)?;
    writable(&object).map_err(|e| e.at(insert.table.span()))?;
    let rules = session.engine.rules(&object)?;
    let plan = fill(bound.plan, args)?;
    let mut rows = session.reader().run(&plan, &bound.relations).await?;
    let all: Vec<usize> = (0..object.columns().len()).collect();
    let mut complete = Vec::new();
    while let Some(batch) = rows.next().await {
        complete.push(rules.complete(&session.engine, &all, &batch?, None)?);
    }
    let written = if object.table().is_some() {
        let update = match &bound.on_conflict {
            Some(conflict @ BoundConflict::Update { .. }) => {
                Some(Upsert::compile(session, conflict, &rules.schema(), args)?)
            }
            _ => None,
        };
        let engine = session.engine.clone();
        let apply = |old: &RecordBatch, new: &RecordBatch| match &update {
            Some(u) => u.apply(old, new),
            None => Ok(None),
        };
        let checked = |old: &RecordBatch, new: &RecordBatch| match apply(old, new)? {
            Some(row) => rules.complete(&engine, &all, &row, None).map(Some),
            None => Ok(None),
        };
        let conflict = match &bound.on_conflict {
            None => OnConflict::Error,
            Some(BoundConflict::Nothing) => OnConflict::Nothing,
            Some(BoundConflict::Update { .. }) => OnConflict::Update(&checked),
        };
        let mut written = Vec::new();
        for batch in &complete {
            written.extend(insert_rows(session, &object, batch, &conflict).await?);
        }
        written
    } else {
        for batch in &complete {
            if batch.num_rows() > 0 {
                session.work.appends.push(append(&object, batch.clone()));
            }
        }
        complete
    };
    outcome(session, "INSERT 0", bound.returning.as_ref(), written, args)
}

/// `ON CONFLICT DO UPDATE`, ready to run.
struct Upsert {
    schema: SchemaRef,
    table: SchemaRef,
    assignments: Vec<(usize, Arc<dyn PhysicalExpr>)>,
    condition: Option<Arc<dyn PhysicalExpr>>,
}

impl Upsert {
    fn compile(
        session: &Session,
        conflict: &BoundConflict,
        table: &SchemaRef,
        args: &Arguments<'_>,
    ) -> Result<Self, Diagnostic> {
        let BoundConflict::Update { schema, assignments, condition } = conflict else {
            return Err(Diagnostic::error(SqlState::INTERNAL_ERROR, "not an update"));
        };
        let plans = &session.engine.plans;
        let compile = |e: &datafusion::logical_expr::Expr| {
            plans.expression(super::query::fill_expr(e.clone(), args)?, schema)
        };
        Ok(Upsert {
            schema: Arc::new(schema.as_arrow().clone()),
            table: table.clone(),
            assignments: assignments
                .iter()
                .map(|(at, e)| Ok((*at, compile(e)?)))
                .collect::<Result<_, Diagnostic>>()?,
            condition: condition.as_ref().map(compile).transpose()?,
        })
    }

    /// The changed row, `None` when the condition does not hold.
    fn apply(
        &self,
        old: &RecordBatch,
        new: &RecordBatch,
    ) -> Result<Option<RecordBatch>, Diagnostic> {
        let both: Vec<ArrayRef> = [old.columns(), new.columns()].concat();
        let both = RecordBatch::try_new(self.schema.clone(), both).map_err(errors::arrow)?;
        let value = |e: &Arc<dyn PhysicalExpr>| {
            e.evaluate(&both).and_then(|v| v.into_array(1)).map_err(errors::datafusion)
        };
        if let Some(condition) = &self.condition {
            let holds = value(condition)?;
            let holds = holds.as_boolean();
            if !(holds.is_valid(0) && holds.value(0)) {
                return Ok(None);
            }
        }
        let mut columns = old.columns().to_vec();
        for (at, e) in &self.assignments {
            columns[*at] = value(e)?;
        }
        let relaxed = Arc::new(arrow::datatypes::Schema::new(
            self.table
                .fields()
                .iter()
                .map(|f| f.as_ref().clone().with_nullable(true))
                .collect::<Vec<_>>(),
        ));
        RecordBatch::try_new(relaxed, columns).map(Some).map_err(errors::arrow)
    }
}

/// The rows changed by an UPDATE or DELETE, read under the table's lock.
async fn changed_rows(
    session: &mut Session,
    bound: &BoundChange,
    args: &Arguments<'_>,
) -> Result<Vec<RecordBatch>, Diagnostic> {
    session.lock_table(bound.object).await?;
    let plan = fill(bound.plan.clone(), args)?;
    let rows = session.reader().run(&plan, &bound.relations).await?;
    rows.try_collect().await
}

/// `UPDATE`.
pub(super) async fn update(
    session: &mut Session,
    update: &Update,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    session.require_writable("UPDATE")?;
    let bound = session.binder().bind_update(update, &args.declared())?;
    let object = object(session, bound.object)?;
    let rules = session.engine.rules(&object)?;
    let all: Vec<usize> = (0..object.columns().len()).collect();
    let store = session.engine.store.clone();
    let batches = changed_rows(session, &bound, args).await?;
    let mut written = Vec::with_capacity(batches.len());
    for batch in &batches {
        let new: Vec<usize> = (bound.key_columns..batch.num_columns()).collect();
        let new = batch.project(&new).map_err(errors::arrow)?;
        written.push(rules.complete(&session.engine, &all, &new, None)?);
    }
    let keys = object.table().map(|t| t.primary_key.clone()).unwrap_or_default();
    let overlay = Arc::make_mut(&mut session.work.overlay);
    // All old keys first: rows may take each other's keys.
    for batch in &batches {
        let old = &batch.columns()[..bound.key_columns];
        for row in 0..batch.num_rows() {
            overlay.change(object.id, codec::key(old, row)?, None);
        }
    }
    for batch in &written {
        let key_columns: Vec<ArrayRef> = keys.iter().map(|i| batch.column(*i).clone()).collect();
        for row in 0..batch.num_rows() {
            let key = codec::key(&key_columns, row)?;
            if overlay.get(&store, object.id, &key).map_err(errors::storage)?.is_some() {
                return Err(duplicate_key(&object, &batch.slice(row, 1)));
            }
            overlay.change(object.id, key, Some(codec::value(batch.columns(), row)?));
        }
    }
    outcome(session, "UPDATE", bound.returning.as_ref(), written, args)
}

/// `DELETE`.
pub(super) async fn delete(
    session: &mut Session,
    delete: &Delete,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    session.require_writable("DELETE")?;
    let bound = session.binder().bind_delete(delete, &args.declared())?;
    let object = object(session, bound.object)?;
    let batches = changed_rows(session, &bound, args).await?;
    let keys = object.table().map(|t| t.primary_key.clone()).unwrap_or_default();
    let overlay = Arc::make_mut(&mut session.work.overlay);
    for batch in &batches {
        let key_columns: Vec<ArrayRef> = keys.iter().map(|i| batch.column(*i).clone()).collect();
        for row in 0..batch.num_rows() {
            overlay.change(object.id, codec::key(&key_columns, row)?, None);
        }
    }
    outcome(session, "DELETE", bound.returning.as_ref(), batches, args)
}

/// `TRUNCATE`.
pub(super) async fn truncate(
    session: &mut Session,
    truncate: &Truncate,
) -> Result<String, Diagnostic> {
    session.require_writable("TRUNCATE TABLE")?;
    for name in &truncate.names {
        let object = session.binder().object(name)?.clone();
        if object.table().is_none() {
            return Err(Diagnostic::unsupported(format!(
                "cannot truncate {} \"{name}\"",
                object.kind_name()
            ))
            .at(name.span())
            .hint("Rows of a stream go by its retention; DROP it to remove them all."));
        }
        session.lock_table(object.id).await?;
        let keys =
            session.work.overlay.keys(&session.engine.store, object.id).map_err(errors::storage)?;
        let overlay = Arc::make_mut(&mut session.work.overlay);
        for key in keys {
            overlay.change(object.id, key, None);
        }
    }
    Ok("TRUNCATE TABLE".into())
}

/// The command tag, or the rows of RETURNING.
fn outcome(
    session: &Session,
    tag: &'static str,
    returning: Option<&Returning>,
    rows: Vec<RecordBatch>,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    let Some(returning) = returning else { return Ok(Outcome::Done(format!("{tag} {count}"))) };
    let exprs = returning
        .exprs
        .iter()
        .map(|e| {
            let e = super::query::fill_expr(e.clone(), args)?;
            session.engine.plans.expression(e, &returning.schema)
        })
        .collect::<Result<Vec<_>, Diagnostic>>()?;
    let results = rows
        .iter()
        .map(|batch| {
            let columns = exprs
                .iter()
                .map(|e| {
                    e.evaluate(batch)
                        .and_then(|v| v.into_array(batch.num_rows()))
                        .map_err(errors::datafusion)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let schema = super::query::nullable(&returning.columns);
            RecordBatch::try_new_with_options(schema, columns, &options).map_err(errors::arrow)
        })
        .collect::<Vec<_>>();
    Ok(Outcome::Rows {
        schema: returning.columns.clone(),
        rows: Box::pin(stream::iter(results)),
        tag,
        counted: true,
    })
}
