//! SUBSCRIBE: the rows of a stream from a position on, as they come.
//!
//! A subscription reads the retained log, so a slow reader falls behind in the log and not in
//! memory. One stream row is one offset; resuming with the last seen offset is exact.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use auspex_exec::Graph;
use auspex_plan::catalog::ObjectId;
use auspex_plan::relation::{OFFSET_COLUMN, OP_COLUMN, TIME_COLUMN};
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use auspex_storage::{EventBatch, Head, ReadLimit, Run, SharedStore, StorageError};
use futures::stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::RowStream;
use super::errors;

/// Rows read from the store at once.
const READ_ROWS: usize = 8192;

/// Result rows with the offset and event time of the stream row each comes from.
struct Rows {
    rows: RecordBatch,
    offset: Run,
    time: Run,
}

/// Computes result rows from stream rows (`SUBSCRIBE TO (SELECT ..)`).
pub(crate) struct Transform(Graph);

impl Transform {
    /// `graph` reads one stream and keeps no state.
    pub(crate) fn new(graph: Graph) -> Self {
        Transform(graph)
    }

    fn apply(&mut self, batch: EventBatch) -> Result<Vec<Rows>, Diagnostic> {
        let inputs = match self.0.inputs().first() {
            Some(scan) => vec![vec![batch.project(&scan.columns).map_err(errors::storage)?]],
            None => Vec::new(),
        };
        let output = self.0.step(inputs, i64::MAX).map_err(|e| errors::exec(&e))?;
        let rows = output.batches.into_iter();
        Ok(rows.map(|b| Rows { rows: b.rows, offset: b.offset, time: b.time }).collect())
    }
}

/// What a subscription shows and where it ends.
#[derive(Debug, Clone)]
pub(crate) struct SubscribeOptions {
    /// First offset to deliver.
    pub(crate) from: u64,
    /// Offset at which to end, not delivered.
    pub(crate) until: Option<u64>,
    /// End before the first row with a later event time, in microseconds.
    pub(crate) until_time: Option<i64>,
    /// Whether the columns `_offset`, `_time`, `_op` come first.
    pub(crate) metadata: bool,
    /// A progress row at most this often.
    pub(crate) progress: Option<Duration>,
    /// Rows removed by retention before they were read: a gap row instead of an error.
    pub(crate) gap: bool,
}

/// A position in a stream from which rows are delivered.
pub(crate) struct Subscription {
    store: SharedStore,
    stream: ObjectId,
    name: String,
    head: watch::Receiver<Head>,
    options: SubscribeOptions,
    next: u64,
    own: SchemaRef,
    schema: SchemaRef,
    transform: Option<Transform>,
    next_progress: Option<Instant>,
    ended: bool,
}

impl Subscription {
    /// `own` are the stream's columns.
    pub(crate) fn new(
        store: SharedStore,
        stream: ObjectId,
        name: String,
        own: SchemaRef,
        transform: Option<Transform>,
        options: SubscribeOptions,
    ) -> Result<Self, Diagnostic> {
        let head = store.watch(stream).map_err(errors::storage)?;
        let columns = transform.as_ref().map_or(own, |t| t.0.schema().clone());
        let schema = result_schema(&columns, &options);
        let next_progress = options.progress.map(|_| Instant::now());
        Ok(Subscription {
            store,
            stream,
            name,
            head,
            next: options.from,
            options,
            own: columns,
            schema,
            transform,
            next_progress,
            ended: false,
        })
    }

    /// Result columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The rows that are there, at most `limit` stream rows; `None` when none is.
    pub(crate) fn poll(&mut self, limit: usize) -> Result<Option<RecordBatch>, Diagnostic> {
        while !self.ended {
            let head = *self.head.borrow_and_update();
            let until = head.next.min(self.options.until.unwrap_or(u64::MAX));
            if self.next >= until {
                if self.options.until.is_some_and(|u| self.next >= u) {
                    self.ended = true;
                } else if head.dropped {
                    return Err(Diagnostic::error(
                        SqlState::UNDEFINED_TABLE,
                        format!("stream \"{}\" was dropped", self.name),
                    ));
                }
                return self.progress();
            }
            let read = ReadLimit { rows: limit.min(READ_ROWS), until };
            match self.store.read(self.stream, self.next, read, None) {
                Ok(batches) => {
                    if let Some(rows) = self.accept(batches, limit)? {
                        return Ok(Some(rows));
                    }
                }
                Err(StorageError::NotRetained { asked, oldest }) => {
                    return self.fell_behind(asked, oldest);
                }
                Err(e) => return Err(errors::storage(e)),
            }
        }
        Ok(None)
    }

    /// Whether everything asked for has been delivered.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Waits until [`Subscription::poll`] may have something. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        let tick = async {
            match self.next_progress {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.head.changed() => {
                if changed.is_err() {
                    self.ended = true;
                }
            }
            () = tick => {}
        }
    }

    /// The rest of the subscription as result rows.
    pub(crate) fn into_rows(self) -> RowStream {
        Box::pin(stream::unfold(Some(self), |state| async move {
            let mut subscription = state?;
            loop {
                match subscription.poll(READ_ROWS) {
                    Ok(Some(rows)) => return Some((Ok(rows), Some(subscription))),
                    Err(e) => return Some((Err(e), None)),
                    Ok(None) if subscription.ended => return None,
                    Ok(None) => subscription.changed().await,
                }
            }
        }))
    }

    fn accept(
        &mut self,
        batches: Vec<EventBatch>,
        limit: usize,
    ) -> Result<Option<RecordBatch>, Diagnostic> {
        let mut rows = Vec::new();
        let mut left = limit;
        for mut batch in batches {
            if left == 0 || self.ended {
                break;
            }
            if batch.len() > left {
                batch = batch.slice(0, left);
            }
            if let Some(end) = self.options.until_time {
                let keep = (0..batch.len()).find(|i| batch.time.get(*i) > end);
                if let Some(keep) = keep {
                    batch = batch.slice(0, keep);
                    self.ended = true;
                }
            }
            left -= batch.len();
            self.next = batch.end();
            let results = match &mut self.transform {
                Some(t) => t.apply(batch)?,
                None => vec![Rows {
                    offset: Run::Sequence(batch.offset as i64),
                    time: batch.time,
                    rows: batch.rows,
                }],
            };
            for result in results.iter().filter(|b| b.rows.num_rows() > 0) {
                rows.push(self.insert_rows(result)?);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        concat_batches(&self.schema, &rows).map(Some).map_err(errors::arrow)
    }

    fn insert_rows(&self, batch: &Rows) -> Result<RecordBatch, Diagnostic> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        // Behind their own columns, changes of a materialized view say what they do.
        let own = self.own.fields().len();
        if self.options.metadata {
            let rows = batch.rows.num_rows();
            let time = TimestampMicrosecondArray::new(batch.time.to_values(rows), None);
            columns.push(Arc::new(Int64Array::new(batch.offset.to_values(rows), None)));
            columns.push(Arc::new(time.with_timezone(UTC)));
            columns.push(match batch.rows.columns().get(own) {
                Some(ops) => ops.clone(),
                None => Arc::new(StringViewArray::from(vec!["I"; rows])),
            });
        }
        columns.extend(batch.rows.columns().iter().take(own).cloned());
        RecordBatch::try_new(self.schema.clone(), columns).map_err(errors::arrow)
    }

    /// A row without columns of the stream: progress or gap.
    fn control_row(
        &self,
        op: &str,
        offset: i64,
        time: Option<i64>,
    ) -> Result<RecordBatch, Diagnostic> {
        let time = TimestampMicrosecondArray::from(vec![time]).with_timezone(UTC);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![offset])),
            Arc::new(time),
            Arc::new(StringViewArray::from(vec![op])),
        ];
        columns.extend(self.own.fields().iter().map(|f| new_null_array(f.data_type(), 1)));
        RecordBatch::try_new(self.schema.clone(), columns).map_err(errors::arrow)
    }

    fn progress(&mut self) -> Result<Option<RecordBatch>, Diagnostic> {
        let (Some(every), Some(due)) = (self.options.progress, self.next_progress) else {
            return Ok(None);
        };
        if !self.options.metadata || Instant::now() < due {
            return Ok(None);
        }
        self.next_progress = Some(Instant::now() + every);
        let time = self.head.borrow().max_time;
        let time = (time != i64::MIN).then_some(time);
        self.control_row("P", self.next as i64 - 1, time).map(Some)
    }

    fn fell_behind(&mut self, asked: u64, oldest: u64) -> Result<Option<RecordBatch>, Diagnostic> {
        if self.options.gap {
            self.next = oldest;
            if !self.options.metadata {
                return Ok(None);
            }
            return self.control_row("G", oldest as i64 - 1, None).map(Some);
        }
        Err(not_retained(asked, oldest, self.head.borrow().next))
    }
}

/// The error of reading before the oldest row kept.
pub(crate) fn not_retained(asked: u64, oldest: u64, next: u64) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("offset {asked} is no longer retained (oldest {oldest})"),
    )
    .detail(format!("oldest={oldest} next={next}"))
    .hint("Subscribe FROM BEGINNING, or WITH (ON_OVERFLOW = gap) to go on from the oldest row.")
}

fn result_schema(own: &SchemaRef, options: &SubscribeOptions) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::new();
    if options.metadata {
        fields.push(Field::new(OFFSET_COLUMN, DataType::Int64, true));
        fields.push(ColumnType::Timestamptz.field(TIME_COLUMN, true));
        fields.push(Field::new(OP_COLUMN, DataType::Utf8View, true));
    }
    fields.extend(own.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields))
}
