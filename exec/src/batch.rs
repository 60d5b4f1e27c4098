//! Rows on their way through a graph.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use auspex_storage::{EventBatch, Run, StreamId};

use crate::error::Result;

/// Rows with where they came from. Unlike [`EventBatch`] the rows need not be neighbours in their
/// stream, nor all of one stream: filters leave rows out and unions mix streams.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Columns at this place of the graph.
    pub rows: RecordBatch,
    /// Place of each row in the global order; never falls.
    pub sequence: Run,
    /// Event time, microseconds since 1970 UTC.
    pub time: Run,
    /// Arrival, microseconds since 1970 UTC.
    pub ingested: Run,
    /// Stream in which each row entered the graph.
    pub stream: Run,
    /// Offset of each row in that stream.
    pub offset: Run,
}

impl Batch {
    /// The rows of a stored batch of `stream`.
    pub fn from_events(stream: StreamId, events: EventBatch) -> Batch {
        Batch {
            rows: events.rows,
            sequence: events.sequence,
            time: events.time,
            ingested: events.ingested,
            stream: Run::Constant(i64::from(stream)),
            offset: Run::Sequence(events.offset as i64),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same rows with other columns.
    pub fn with_rows(&self, rows: RecordBatch) -> Batch {
        debug_assert_eq!(rows.num_rows(), self.len());
        Batch { rows, ..self.clone() }
    }

    /// Rows `from .. from + len`.
    pub fn slice(&self, from: usize, len: usize) -> Batch {
        self.map_places(self.rows.slice(from, len), |run| run.slice(from, len))
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &[u32]) -> Result<Batch> {
        let indices = UInt32Array::from(indices.to_vec());
        let columns = take_columns(self.rows.columns().iter(), &indices)?;
        let rows = batch_of(self.rows.schema(), columns, indices.len())?;
        Ok(self.take_places(rows, indices.values()))
    }

    /// `rows`, which were made from the rows at `indices`.
    pub fn take_places(&self, rows: RecordBatch, indices: &[u32]) -> Batch {
        self.map_places(rows, |run| take_run(run, indices))
    }

    fn map_places(&self, rows: RecordBatch, f: impl Fn(&Run) -> Run) -> Batch {
        Batch {
            rows,
            sequence: f(&self.sequence),
            time: f(&self.time),
            ingested: f(&self.ingested),
            stream: f(&self.stream),
            offset: f(&self.offset),
        }
    }

    /// All rows of `batches` one after the other, `None` when there is no batch.
    pub fn concat(mut batches: Vec<Batch>) -> Result<Option<Batch>> {
        if batches.len() <= 1 {
            return Ok(batches.pop());
        }
        let rows =
            concat_batches(&batches[0].rows.schema(), batches.iter().map(|batch| &batch.rows))?;
        let run = |f: fn(&Batch) -> &Run| concat_runs(batches.iter().map(|b| (f(b), b.len())));
        Ok(Some(Batch {
            rows,
            sequence: run(|b| &b.sequence),
            time: run(|b| &b.time),
            ingested: run(|b| &b.ingested),
            stream: run(|b| &b.stream),
            offset: run(|b| &b.offset),
        }))
    }

    /// The rows at `(batch, row)` pairs, in that order.
    pub fn interleave(batches: &[Batch], picks: &[(usize, usize)]) -> Result<Batch> {
        let rows: Vec<&RecordBatch> = batches.iter().map(|b| &b.rows).collect();
        let rows = interleave_record_batch(&rows, picks)?;
        let run = |f: fn(&Batch) -> &Run| {
            Run::Each(picks.iter().map(|&(b, row)| f(&batches[b]).get(row)).collect())
        };
        Ok(Batch {
            rows,
            sequence: run(|b| &b.sequence),
            time: run(|b| &b.time),
            ingested: run(|b| &b.ingested),
            stream: run(|b| &b.stream),
            offset: run(|b| &b.offset),
        })
    }
}

/// Numbers of several runs one after the other.
pub fn concat_runs<'a>(runs: impl Iterator<Item = (&'a Run, usize)> + Clone) -> Run {
    let mut filled = runs.clone().filter(|(_, len)| *len > 0);
    let Some((first, mut len)) = filled.next() else { return Run::Constant(0) };
    let regular = filled.all(|(run, more)| {
        let follows = match (first, run) {
            (Run::Constant(a), Run::Constant(b)) => a == b,
            (Run::Sequence(a), Run::Sequence(b)) => a + len as i64 == *b,
            _ => false,
        };
        len += more;
        follows
    });
    if regular && !matches!(first, Run::Each(_)) {
        return first.clone();
    }
    Run::Each(runs.flat_map(|(run, len)| (0..len).map(move |row| run.get(row))).collect())
}

/// `Run::take` with one dispatch per batch.
fn take_run(run: &Run, indices: &[u32]) -> Run {
    match run {
        Run::Constant(v) => Run::Constant(*v),
        Run::Sequence(first) => {
            Run::Each(indices.iter().map(|&i| first + i64::from(i)).collect::<Vec<_>>().into())
        }
        Run::Each(values) => {
            Run::Each(indices.iter().map(|&i| values[i as usize]).collect::<Vec<_>>().into())
        }
    }
}

/// The values of each column at `indices`, in that order.
pub(crate) fn take_columns<'a>(
    columns: impl Iterator<Item = &'a ArrayRef>,
    indices: &UInt32Array,
) -> Result<Vec<ArrayRef>, ArrowError> {
    columns.map(|column| take(column.as_ref(), indices, None)).collect()
}

/// A record batch whose number of rows is known also when it has no columns.
pub fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// `schema` with every column nullable: inside a graph a value may be null because an expression
/// failed, whatever was declared.
pub fn nullable(schema: &arrow::datatypes::Schema) -> SchemaRef {
    Arc::new(arrow::datatypes::Schema::new(
        schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect::<Vec<_>>(),
    ))
}

/// Number of leading rows, of `rows` whose places never fall, with a place below `sequence`.
pub(crate) fn rows_below(places: &Run, rows: usize, sequence: i64) -> usize {
    let (mut low, mut high) = (0, rows);
    while low < high {
        let middle = low.midpoint(high);
        if places.get(middle) < sequence {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
