//! Rows on their way into streams and tables: completed, checked, collected.

mod copy_in;
mod events;
mod rules;

pub use copy_in::CopyIn;
pub(super) use copy_in::{copy_in, copy_options, finish_copy, target_columns};
pub use events::CompleteRows;
pub(super) use rules::{RowRules, RulesCache};

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use auspex_plan::catalog::Object;
use auspex_plan::{Diagnostic, EventTime, SqlState};
use auspex_storage::{Append, Run};

use super::session::Session;
use super::table::codec;

/// An append of complete rows to a source stream.
pub(super) fn append(object: &Object, rows: RecordBatch) -> Append {
    let time = match object.stream().map(|s| &s.event_time) {
        Some(EventTime::Column { column, .. }) => rows
            .column_by_name(column)
            .map(|c| Run::Each(c.as_primitive::<TimestampMicrosecondType>().values().clone())),
        _ => None,
    };
    Append { stream: object.id, rows, time, derived: None, at_offset: None }
}

/// Computes the row that takes the place of an old row from the old and the new one.
pub(super) type Merge<'a> =
    dyn Fn(&RecordBatch, &RecordBatch) -> Result<Option<RecordBatch>, Diagnostic> + Sync + 'a;

/// What to do with a row whose key exists already.
pub(super) enum OnConflict<'a> {
    /// 23505.
    Error,
    /// Keep the old row.
    Nothing,
    /// Compute another row from the old and the new one; `None` keeps the old row.
    Update(&'a Merge<'a>),
}

/// Puts complete rows into a table's part of the transaction. Returns the rows written, in order.
pub(super) async fn insert_rows(
    session: &mut Session,
    object: &Object,
    rows: &RecordBatch,
    conflict: &OnConflict<'_>,
) -> Result<Vec<RecordBatch>, Diagnostic> {
    let Some(table) = object.table() else {
        return Err(Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", object.name),
        ));
    };
    session.lock_table(object.id).await?;
    let store = session.engine.store.clone();
    let overlay = Arc::make_mut(&mut session.work.overlay);
    let key_columns: Vec<_> = table.primary_key.iter().map(|i| rows.column(*i).clone()).collect();
    let schema = object.schema();
    let mut written = Vec::new();
    let mut touched = std::collections::BTreeSet::new();
    for row in 0..rows.num_rows() {
        let key = codec::key(&key_columns, row)?;
        let new = rows.slice(row, 1);
        let old = overlay.get(&store, object.id, &key).map_err(super::errors::storage)?;
        let result = match (old, conflict) {
            (None, _) => new,
            (Some(_), OnConflict::Nothing) => continue,
            (Some(_), OnConflict::Error) => return Err(duplicate_key(object, &new)),
            (Some(old), OnConflict::Update(update)) => {
                if touched.contains(&key) {
                    return Err(Diagnostic::error(
                        SqlState("21000"),
                        "ON CONFLICT DO UPDATE command cannot affect row a second time",
                    )
                    .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values."));
                }
                let old = codec::decode(&schema, &[old])?;
                match update(&old, &new)? {
                    Some(changed) => changed,
                    None => continue,
                }
            }
        };
        let result_keys: Vec<_> =
            table.primary_key.iter().map(|i| result.column(*i).clone()).collect();
        let result_key = codec::key(&result_keys, 0)?;
        if result_key != key {
            move_key(overlay, &store, object, &key, &result_key, &result)?;
        }
        overlay.change(object.id, result_key.clone(), Some(codec::value(result.columns(), 0)?));
        touched.insert(result_key);
        written.push(result);
    }
    Ok(written)
}

/// Frees the old key of a row whose key changes; the new key must be free.
fn move_key(
    overlay: &mut super::table::overlay::Overlay,
    store: &auspex_storage::SharedStore,
    object: &Object,
    old: &[u8],
    new: &[u8],
    row: &RecordBatch,
) -> Result<(), Diagnostic> {
    let taken = overlay.get(store, object.id, new).map_err(super::errors::storage)?.is_some();
    if taken {
        return Err(duplicate_key(object, row));
    }
    overlay.change(object.id, old.to_vec(), None);
    Ok(())
}

/// 23505 with PostgreSQL's wording.
pub(super) fn duplicate_key(object: &Object, row: &RecordBatch) -> Diagnostic {
    let names: Vec<&str> = object
        .table()
        .into_iter()
        .flat_map(|t| &t.primary_key)
        .map(|i| object.columns()[*i].name.as_str())
        .collect();
    let values: Vec<String> =
        object.table().into_iter().flat_map(|t| &t.primary_key).map(|i| display(row, *i)).collect();
    Diagnostic::error(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{}_pkey\"", object.name.name),
    )
    .detail(format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")))
}

/// A value of the first row as text, for messages.
fn display(row: &RecordBatch, column: usize) -> String {
    display_at(row, column, 0)
}

/// A value as text, for messages.
fn display_at(rows: &RecordBatch, column: usize, row: usize) -> String {
    let column = rows.column(column);
    if column.is_null(row) {
        return "null".into();
    }
    arrow::util::display::array_value_to_string(column, row).unwrap_or_default()
}

/// The object that rows are to be written to: a source stream or a table.
pub(super) fn writable(object: &Object) -> Result<(), Diagnostic> {
    if object.definition().is_some() {
        let kind = object.kind_name();
        return Err(Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("cannot insert into {kind} \"{}\"", object.name),
        )
        .detail(format!("The rows of this {kind} come from its query."))
        .hint("INSERT INTO a stream that the query reads."));
    }
    match object.pipeline() {
        Some(_) => Err(Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is a pipeline", object.name),
        )),
        None => Ok(()),
    }
}
