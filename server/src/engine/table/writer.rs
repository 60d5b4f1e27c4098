//! Output rows of continuous queries on their way into tables.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use auspex_exec::runtime::{TableOutput, TableWriter};
use auspex_exec::{ExecError, Result};
use auspex_plan::catalog::{Column, Object, ObjectId};
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use auspex_storage::{SharedStore, TableChange, TableId};

use super::{changes, codec};
use crate::engine::Engine;
use crate::engine::ingest::RowRules;

/// The present rows of a materialized view: the last row of each key.
#[derive(Debug)]
pub(crate) struct ViewWriter {
    view: TableId,
    key: Vec<usize>,
    /// Columns of the view; what follows them in its changes is not stored.
    columns: usize,
}

impl ViewWriter {
    /// `object` is a materialized view.
    pub(crate) fn new(object: &Object) -> ViewWriter {
        let key = object.key().unwrap_or_default().to_vec();
        ViewWriter { view: object.id, key, columns: object.columns().len() }
    }
}

impl TableWriter for ViewWriter {
    fn write(&self, rows: &RecordBatch, known: usize) -> Result<TableOutput> {
        let key: Vec<ArrayRef> = self.key.iter().map(|i| rows.column(*i).clone()).collect();
        let mut seen = BTreeSet::new();
        let mut output = TableOutput::default();
        // Only the last row of a key stays.
        for row in (known..rows.num_rows()).rev() {
            let key = codec::nullable_key(&key, row).map_err(broken)?;
            if seen.insert(key.clone()) {
                let value = codec::value(&rows.columns()[..self.columns], row).map_err(broken)?;
                output.changes.push(TableChange { table: self.view, key, value: Some(value) });
            }
        }
        Ok(output)
    }
}

/// A failure that is no row's fault.
fn broken(error: Diagnostic) -> ExecError {
    ExecError::State(error.message)
}

/// A table into which a query writes by the primary key, like `INSERT .. ON CONFLICT DO UPDATE`.
pub(crate) struct SinkWriter {
    engine: Weak<Engine>,
    store: SharedStore,
    table: Object,
    rules: Arc<RowRules>,
    /// For each output column its place in the table.
    targets: Vec<usize>,
}

impl fmt::Debug for SinkWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkWriter({})", self.table.name)
    }
}

impl SinkWriter {
    /// `columns` are the query's.
    ///
    /// # Errors
    /// When they are not columns of the table of the same types, or the key is not among them.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        table: &Object,
        columns: &[Column],
    ) -> Result<SinkWriter, Diagnostic> {
        let rules = engine.rules(table)?;
        let targets = columns
            .iter()
            .map(|column| target(table, column))
            .collect::<Result<Vec<usize>, Diagnostic>>()?;
        rules.refuse_generated(&targets)?;
        let missing = table.key().unwrap_or_default().iter().find(|k| !targets.contains(k));
        if let Some(missing) = missing {
            let name = &table.columns()[*missing].name;
            return Err(Diagnostic::error(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!(
                    "column \"{name}\" of the primary key of table \"{}\" is missing",
                    table.name
                ),
            )
            .hint("A sink writes by the primary key: select each of its columns under its name."));
        }
        let (engine, store) = (Arc::downgrade(engine), engine.store.clone());
        Ok(SinkWriter { engine, store, table: table.clone(), rules, targets })
    }

    /// The complete rows, or what is wrong with one of them.
    fn complete(&self, engine: &Engine, rows: &RecordBatch) -> Result<RecordBatch, Diagnostic> {
        self.rules.complete(engine, &self.targets, rows, None)
    }

    /// Completes rows `from .. to`, those that do not fit left out.
    fn accept(
        &self,
        engine: &Engine,
        rows: &RecordBatch,
        (from, to): (usize, usize),
        accepted: &mut Vec<(usize, RecordBatch)>,
        refused: &mut Vec<(usize, String)>,
    ) {
        match self.complete(engine, &rows.slice(from, to - from)) {
            Ok(complete) => accepted.push((from, complete)),
            Err(error) if to - from == 1 => refused.push((from, error.message)),
            Err(_) => {
                let middle = from.midpoint(to);
                self.accept(engine, rows, (from, middle), accepted, refused);
                self.accept(engine, rows, (middle, to), accepted, refused);
            }
        }
    }
}

fn target(table: &Object, column: &Column) -> Result<usize, Diagnostic> {
    let found = table.columns().iter().position(|c| c.name == column.name);
    let Some(at) = found else {
        return Err(Diagnostic::error(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{}\" of table \"{}\" does not exist", column.name, table.name),
        )
        .hint(
            "The query's columns go to the table's columns of the same names; name them with AS.",
        ));
    };
    let wanted = &table.columns()[at].column_type;
    if data_type(wanted) != data_type(&column.column_type) {
        return Err(Diagnostic::error(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "column \"{}\" is of type {wanted} but expression is of type {}",
                column.name, column.column_type
            ),
        )
        .hint("You will need to cast the expression."));
    }
    Ok(at)
}

fn data_type(column_type: &ColumnType) -> DataType {
    column_type.field("c", true).data_type().clone()
}

impl TableWriter for SinkWriter {
    fn write(&self, rows: &RecordBatch, known: usize) -> Result<TableOutput> {
        let engine = self.engine.upgrade().ok_or(ExecError::Closed)?;
        let mut output = TableOutput::default();
        let mut accepted = Vec::new();
        if rows.num_rows() > 0 {
            let all = (0, rows.num_rows());
            self.accept(&engine, rows, all, &mut accepted, &mut output.refused);
        }
        let mut written: BTreeSet<Vec<u8>> = BTreeSet::new();
        let id: ObjectId = self.table.id;
        for (first, complete) in accepted {
            let skip = known.saturating_sub(first).min(complete.num_rows());
            let complete = complete.slice(skip, complete.num_rows() - skip);
            if complete.num_rows() == 0 {
                continue;
            }
            let key = self.table.key().unwrap_or_default();
            let key: Vec<ArrayRef> = key.iter().map(|i| complete.column(*i).clone()).collect();
            let mut ops = Vec::with_capacity(complete.num_rows());
            for row in 0..complete.num_rows() {
                let key = codec::key(&key, row).map_err(broken)?;
                let there = written.contains(&key) || self.store.table_get(id, &key)?.is_some();
                ops.push(if there { "U" } else { "I" });
                let value = codec::value(complete.columns(), row).map_err(broken)?;
                let change = TableChange { table: id, key: key.clone(), value: Some(value) };
                output.changes.push(change);
                written.insert(key);
            }
            output.appends.push(changes::append(&self.table, &complete, ops).map_err(broken)?);
        }
        Ok(output)
    }
}
