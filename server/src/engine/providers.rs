//! Streams and tables as DataFusion tables: what a SELECT scans.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use auspex_plan::catalog::{Object, ObjectId};
use auspex_plan::relation::{OFFSET_COLUMN, SYSTEM_COLUMNS, with_system_columns};
use auspex_plan::types::UTC;
use auspex_storage::{EventBatch, ReadLimit, Run, SharedStore, StorageError};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::table::codec;
use super::table::overlay::Overlay;

/// Rows read from the store at once by a SELECT.
const SCAN_ROWS: usize = 65_536;

/// Turns a store's error into DataFusion's, keeping the original for the error mapping.
pub(crate) fn external(error: StorageError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The retained rows of a stream, up to the end at the moment the scan begins.
pub(crate) struct StreamTable {
    store: SharedStore,
    stream: ObjectId,
    schema: SchemaRef,
    own_columns: usize,
    /// Not created yet but by the running transaction: there are no rows.
    uncommitted: bool,
}

impl StreamTable {
    /// With `system`, the system columns follow the stream's own. An `uncommitted` stream is not
    /// in the store yet.
    pub(crate) fn new(
        store: SharedStore,
        object: &Object,
        system: bool,
        uncommitted: bool,
    ) -> Self {
        let own = object.schema();
        let own_columns = own.fields().len();
        let schema = if system { with_system_columns(&own) } else { own };
        StreamTable { store, stream: object.id, schema, own_columns, uncommitted }
    }
}

impl fmt::Debug for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamTable({})", self.stream)
    }
}

#[async_trait]
impl TableProvider for StreamTable {
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
        Ok(filters
            .iter()
            .map(|f| {
                if offset_bound(f).is_some() {
                    TableProviderFilterPushDown::Inexact
                } else {
                    TableProviderFilterPushDown::Unsupported
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection: Vec<usize> =
            projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&projection)?);
        let mut range = 0..0;
        if !self.uncommitted {
            let head = self.store.head(self.stream).map_err(external)?;
            range = head.oldest..head.next;
        }
        for bound in filters.iter().filter_map(offset_bound) {
            range.start = range.start.max(bound.start);
            range.end = range.end.min(bound.end);
        }
        let scan = StreamScan {
            store: self.store.clone(),
            stream: self.stream,
            projection,
            own_columns: self.own_columns,
            schema: schema.clone(),
            range,
            limit,
        };
        Ok(Arc::new(StreamingTableExec::try_new(
            schema,
            vec![Arc::new(scan)],
            None,
            [],
            false,
            limit,
        )?))
    }
}

/// The offsets that a conjunct of the form `_offset <op> literal` allows.
fn offset_bound(filter: &Expr) -> Option<Range<u64>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (column, op, literal) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(c), Expr::Literal(v, _)) => (c, *op, v),
        (Expr::Literal(v, _), Expr::Column(c)) => (c, op.swap()?, v),
        _ => return None,
    };
    let ScalarValue::Int64(Some(n)) = literal else { return None };
    if column.name != OFFSET_COLUMN {
        return None;
    }
    let n = u64::try_from(*n).ok()?;
    match op {
        Operator::Eq => Some(n..n.saturating_add(1)),
        Operator::Gt => Some(n.saturating_add(1)..u64::MAX),
        Operator::GtEq => Some(n..u64::MAX),
        Operator::Lt => Some(0..n),
        Operator::LtEq => Some(0..n.saturating_add(1)),
        _ => None,
    }
}

struct StreamScan {
    store: SharedStore,
    stream: ObjectId,
    projection: Vec<usize>,
    own_columns: usize,
    schema: SchemaRef,
    range: Range<u64>,
    limit: Option<usize>,
}

impl fmt::Debug for StreamScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamScan({}, {:?})", self.stream, self.range)
    }
}

impl PartitionStream for StreamScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let out = builder.tx();
        let store = self.store.clone();
        let (stream, schema, projection) =
            (self.stream, self.schema.clone(), self.projection.clone());
        let (own_columns, range, limit) =
            (self.own_columns, self.range.clone(), self.limit.unwrap_or(usize::MAX));
        builder.spawn_blocking(move || {
            let own: Vec<usize> = projection.iter().copied().filter(|i| *i < own_columns).collect();
            let (mut from, mut left) = (range.start, limit);
            while from < range.end && left > 0 {
                let limit = ReadLimit { rows: SCAN_ROWS.min(left), until: range.end };
                let batches = match store.read(stream, from, limit, Some(&own)) {
                    Ok(batches) => batches,
                    // Retention may overtake a long scan: go on from the oldest row kept.
                    Err(StorageError::NotRetained { oldest, .. }) if oldest > from => {
                        from = oldest;
                        continue;
                    }
                    Err(e) => return Err(external(e)),
                };
                if batches.is_empty() {
                    break;
                }
                for batch in batches {
                    from = batch.end();
                    left = left.saturating_sub(batch.len());
                    let rows = project(&batch, &projection, own_columns, &schema)?;
                    if out.blocking_send(Ok(rows)).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}

/// The projected columns of a batch that was read with the own columns of `projection` only.
pub(crate) fn project(
    batch: &EventBatch,
    projection: &[usize],
    own_columns: usize,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let mut own = batch.rows.columns().iter();
    let columns = projection
        .iter()
        .map(|&i| match i.checked_sub(own_columns) {
            None => own.next().cloned().ok_or_else(|| {
                DataFusionError::Internal("a batch with fewer columns than asked for".into())
            }),
            Some(system) => Ok(system_column(batch, SYSTEM_COLUMNS[system])),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// A system column of a batch.
pub(crate) fn system_column(batch: &EventBatch, name: &str) -> ArrayRef {
    let time = |run: &Run| -> ArrayRef {
        Arc::new(
            TimestampMicrosecondArray::new(run.to_values(batch.len()), None).with_timezone(UTC),
        )
    };
    match name {
        OFFSET_COLUMN => {
            let first = batch.offset as i64;
            Arc::new(Int64Array::from_iter_values(first..first + batch.len() as i64))
        }
        auspex_plan::relation::TIME_COLUMN => time(&batch.time),
        _ => time(&batch.ingested),
    }
}

/// The current rows of a table or materialized view, with the changes of the running transaction.
pub(crate) struct KeyedTable {
    store: SharedStore,
    table: ObjectId,
    schema: SchemaRef,
    overlay: Arc<Overlay>,
}

impl KeyedTable {
    /// `overlay` holds the uncommitted changes of the reading session.
    pub(crate) fn new(store: SharedStore, object: &Object, overlay: Arc<Overlay>) -> Self {
        KeyedTable { store, table: object.id, schema: object.schema(), overlay }
    }
}

impl fmt::Debug for KeyedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedTable({})", self.table)
    }
}

#[async_trait]
impl TableProvider for KeyedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = TableScan {
            store: self.store.clone(),
            table: self.table,
            schema: self.schema.clone(),
            overlay: self.overlay.clone(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(
            self.schema.clone(),
            vec![Arc::new(scan)],
            projection,
            [],
            false,
            limit,
        )?))
    }
}

struct TableScan {
    store: SharedStore,
    table: ObjectId,
    schema: SchemaRef,
    overlay: Arc<Overlay>,
}

impl fmt::Debug for TableScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableScan({})", self.table)
    }
}

impl PartitionStream for TableScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let out = builder.tx();
        let (store, table, schema, overlay) =
            (self.store.clone(), self.table, self.schema.clone(), self.overlay.clone());
        builder.spawn_blocking(move || {
            let rows = overlay.scan(&store, table).map_err(external)?;
            for chunk in rows.chunks(8192) {
                let batch = codec::decode(&schema, chunk)
                    .map_err(|d| DataFusionError::External(Box::new(d)))?;
                if out.blocking_send(Ok(batch)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}

/// A system view: its rows are made when it is scanned.
pub(crate) struct SystemTable {
    schema: SchemaRef,
    rows: Box<dyn Fn() -> Result<RecordBatch> + Send + Sync>,
}

impl SystemTable {
    /// `rows` makes the rows, always with the same columns.
    pub(crate) fn new(
        rows: impl Fn() -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(SystemTable { schema: rows()?.schema(), rows: Box::new(rows) })
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemTable")
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table =
            datafusion::datasource::MemTable::try_new(self.schema(), vec![vec![(self.rows)()?]])?;
        table.scan(state, projection, filters, limit).await
    }
}
