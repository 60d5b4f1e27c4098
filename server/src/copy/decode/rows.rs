//! Rows on their way into record batches, whatever format they come in.

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use auspex_plan::{ColumnType, SqlState};

use super::column::Column;
use crate::copy::{CopyError, CopyOptions};
use crate::pg::zone::Zone;

/// A batch ends when its rows took this many bytes of input, so that offsets of 32 bits suffice
/// and memory stays bounded whatever the size of values.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// Columns of the column list and the rows they have so far.
pub(super) struct Rows {
    /// One per column of the list.
    pub(super) columns: Vec<Column>,
    /// Zone of timestamps without one.
    pub(super) zone: Zone,
    schema: SchemaRef,
    batch_rows: usize,
    rows: usize,
    bytes: usize,
}

impl Rows {
    pub(super) fn new(
        options: &CopyOptions,
        columns: &SchemaRef,
        batch_rows: usize,
        zone: Zone,
    ) -> Result<Rows, CopyError> {
        for (choice, option) in
            [(&options.force_not_null, "FORCE_NOT_NULL"), (&options.force_null, "FORCE_NULL")]
        {
            check_columns(choice, option, columns)?;
        }
        let schema = nullable(columns);
        let columns = schema
            .fields()
            .iter()
            .map(|field| Ok(Column::new(field, column_type(field)?, options)))
            .collect::<Result<_, CopyError>>()?;
        Ok(Rows { columns, zone, schema, batch_rows: batch_rows.max(1), rows: 0, bytes: 0 })
    }

    /// Schema of the batches.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows that fit in the batch at hand.
    pub(super) fn room(&self) -> usize {
        self.batch_rows - self.rows
    }

    /// Counts rows that have been added to every column; hands out the batch when it is full.
    pub(super) fn added(
        &mut self,
        rows: usize,
        bytes: usize,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        self.rows += rows;
        self.bytes += bytes;
        if self.rows >= self.batch_rows || self.bytes >= MAX_BATCH_BYTES {
            self.flush(out)?;
        }
        Ok(())
    }

    /// Hands out the rows so far.
    pub(super) fn flush(&mut self, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        if self.rows == 0 {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let arrays = self.columns.iter_mut().map(|c| c.finish()).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| {
                CopyError::new(SqlState::INTERNAL_ERROR, format!("could not build a batch: {e}"))
            })?;
        out.push(batch);
        Ok(())
    }
}

/// The schema without NOT NULL, which is checked where defaults are known.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    std::sync::Arc::new(Schema::new(fields))
}

/// The column type of a field.
pub(super) fn column_type(field: &Field) -> Result<ColumnType, CopyError> {
    ColumnType::from_field(field).ok_or_else(|| {
        CopyError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("column \"{}\" of type {} cannot be copied", field.name(), field.data_type()),
        )
    })
}

/// Columns named in an option must be in the column list.
pub(in crate::copy) fn check_columns(
    choice: &crate::copy::ColumnChoice,
    option: &str,
    columns: &SchemaRef,
) -> Result<(), CopyError> {
    if let crate::copy::ColumnChoice::Named(names) = choice
        && let Some(name) = names.iter().find(|n| columns.column_with_name(n).is_none())
    {
        return Err(CopyError::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            format!("{option} column \"{name}\" not referenced by COPY"),
        ));
    }
    Ok(())
}
