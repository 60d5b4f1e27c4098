//! A stream as a leaf of a logical plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};

use crate::catalog::{Object, ObjectId};
use crate::time::Clock;
use crate::types::ColumnType;

/// Position of a row in its stream, gapless from 0.
pub const OFFSET_COLUMN: &str = "_offset";
/// Event time of a row.
pub const TIME_COLUMN: &str = "_time";
/// Moment at which the row was accepted.
pub const INGESTED_COLUMN: &str = "_ingested";
/// Start of the window a row belongs to.
pub const WINDOW_START_COLUMN: &str = "window_start";
/// End (exclusive) of the window a row belongs to.
pub const WINDOW_END_COLUMN: &str = "window_end";
/// How often the result of this window and key had been given before this row.
pub const REVISION_COLUMN: &str = "_revision";
/// What a change of a keyed relation does: `I` and `U` set the row of its key, `D` removes it.
pub const OP_COLUMN: &str = "_op";
/// The columns every stream has besides its own; `SELECT *` does not show them.
pub const SYSTEM_COLUMNS: [&str; 3] = [OFFSET_COLUMN, TIME_COLUMN, INGESTED_COLUMN];

/// The Arrow fields of [`SYSTEM_COLUMNS`].
pub fn system_fields() -> Vec<Field> {
    vec![
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
        ColumnType::Timestamptz.field(TIME_COLUMN, false),
        ColumnType::Timestamptz.field(INGESTED_COLUMN, false),
    ]
}

/// [`WINDOW_START_COLUMN`] and [`WINDOW_END_COLUMN`].
pub fn window_fields() -> Vec<Field> {
    [WINDOW_START_COLUMN, WINDOW_END_COLUMN].map(|n| ColumnType::Timestamptz.field(n, true)).into()
}

/// [`REVISION_COLUMN`].
pub fn revision_field() -> Field {
    ColumnType::BigInt.field(REVISION_COLUMN, true)
}

/// The columns of a keyed relation's changes: its own, then [`OP_COLUMN`].
pub fn with_op_column(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(ColumnType::Text.field(OP_COLUMN, true)));
    Arc::new(Schema::new(fields))
}

/// `schema` followed by the system columns.
pub fn with_system_columns(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.extend(system_fields().into_iter().map(Arc::new));
    Arc::new(Schema::new(fields))
}

/// The source of a `TableScan` over a stream in a continuous query.
///
/// Its schema is the stream's own columns followed by [`SYSTEM_COLUMNS`] when `system` was asked
/// for, otherwise the stream's own columns.
#[derive(Debug)]
pub struct StreamRelation {
    /// The stream read.
    pub stream: ObjectId,
    /// Its name, for plan display.
    pub name: String,
    /// What moves its watermark.
    pub clocks: Vec<Clock>,
    /// The relation is a table or materialized view and this are its changes.
    pub keyed: bool,
    schema: SchemaRef,
}

impl StreamRelation {
    /// `schema` are the stream's own columns.
    pub fn new(
        stream: ObjectId,
        name: impl Into<String>,
        schema: &Schema,
        clocks: Vec<Clock>,
        system: bool,
    ) -> Self {
        let schema = if system { with_system_columns(schema) } else { Arc::new(schema.clone()) };
        StreamRelation { stream, name: name.into(), clocks, keyed: false, schema }
    }

    /// The changes of a table or materialized view, whose own columns are `schema`: the right side
    /// of a look-up.
    pub fn changes(relation: ObjectId, name: impl Into<String>, schema: &Schema) -> Self {
        let schema = with_op_column(schema);
        StreamRelation {
            stream: relation,
            name: name.into(),
            clocks: Vec::new(),
            keyed: true,
            schema,
        }
    }

    /// The relation of a catalog object that continuous queries read as a stream; with the system
    /// columns when they are needed.
    pub fn of(object: &Object, system: bool) -> Self {
        let name = object.name.to_string();
        StreamRelation::new(object.id, name, &object.schema(), object.clocks(), system)
    }
}

impl TableSource for StreamRelation {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }
}
