//! Rows of a table's stream of changes: what queries that look rows up read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use auspex_plan::Diagnostic;
use auspex_plan::catalog::{Catalog, Object, ObjectId};
use auspex_storage::{Append, SharedStore, TableChange};

use super::codec;
use crate::engine::errors;

/// An append of rows with these operations to the changes of `object`.
pub(crate) fn append(
    object: &Object,
    rows: &RecordBatch,
    ops: Vec<&'static str>,
) -> Result<Append, Diagnostic> {
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(StringViewArray::from(ops)) as ArrayRef);
    let rows = RecordBatch::try_new(object.log_schema(), columns).map_err(errors::arrow)?;
    Ok(Append { stream: object.id, rows, time: None, derived: None, at_offset: None })
}

/// What a transaction's changes of tables are to those who follow the tables: one row per key that
/// is new, has another value, or is gone (with its last value). The tables must be locked.
pub(crate) fn appends(
    store: &SharedStore,
    catalog: &Catalog,
    changes: &[TableChange],
) -> Result<Vec<Append>, Diagnostic> {
    let mut tables: BTreeMap<ObjectId, (Vec<Vec<u8>>, Vec<&'static str>)> = BTreeMap::new();
    for change in changes {
        let old = store.table_get(change.table, &change.key).map_err(errors::storage)?;
        let (op, row) = match (old, &change.value) {
            (None, Some(new)) => ("I", new.clone()),
            (Some(old), Some(new)) if old != *new => ("U", new.clone()),
            (Some(old), None) => ("D", old),
            _ => continue,
        };
        let (rows, ops) = tables.entry(change.table).or_default();
        rows.push(row);
        ops.push(op);
    }
    let objects = tables.into_iter().filter_map(|(id, rows)| Some((catalog.get(id)?, rows)));
    objects
        .map(|(object, (rows, ops))| append(object, &codec::decode(&object.schema(), &rows)?, ops))
        .collect()
}
