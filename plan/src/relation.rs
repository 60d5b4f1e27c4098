//! A stream as a leaf of a logical plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};

use crate::catalog::ObjectId;
use crate::types::ColumnType;

/// Position of a row in its stream, gapless from 0.
pub const OFFSET_COLUMN: &str = "_offset";
/// Event time of a row.
pub const TIME_COLUMN: &str = "_time";
/// Moment at which the row was accepted.
pub const INGESTED_COLUMN: &str = "_ingested";
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
    schema: SchemaRef,
}

impl StreamRelation {
    /// `schema` are the stream's own columns.
    pub fn new(stream: ObjectId, name: impl Into<String>, schema: &Schema, system: bool) -> Self {
        let schema = if system { with_system_columns(schema) } else { Arc::new(schema.clone()) };
        StreamRelation { stream, name: name.into(), schema }
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
