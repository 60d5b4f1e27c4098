//! Output rows from row numbers.

use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use auspex_storage::Run;

use crate::batch::{Batch, batch_of};
use crate::error::{Result, RowFailure};

/// In the place of a row number: all columns are null.
pub(super) const NO_ROW: u64 = u64::MAX;

/// The rows of one side, numbered through.
pub(super) struct Sources<'a> {
    batches: Vec<&'a Batch>,
    /// Number of each batch's row 0, ascending.
    starts: Vec<u64>,
}

impl<'a> Sources<'a> {
    /// Batches with the numbers of their first rows.
    pub(super) fn new(batches: impl Iterator<Item = (u64, &'a Batch)>) -> Sources<'a> {
        let (starts, batches) = batches.unzip();
        Sources { batches, starts }
    }

    /// Batches one behind the other, from number 0 on.
    pub(super) fn from_zero(batches: impl Iterator<Item = &'a Batch>) -> Sources<'a> {
        let mut next = 0;
        Sources::new(batches.map(|batch| {
            let start = next;
            next += batch.len() as u64;
            (start, batch)
        }))
    }

    /// Batch and row of a number.
    fn locate(&self, number: u64) -> (usize, usize) {
        let batch = self.starts.partition_point(|start| *start <= number) - 1;
        (batch, (number - self.starts[batch]) as usize)
    }

    /// One row.
    pub(super) fn row(&self, number: u64) -> Batch {
        let (batch, row) = self.locate(number);
        self.batches[batch].slice(row, 1)
    }

    /// The rows of some numbers, with all that belongs to them.
    pub(super) fn batch(&self, numbers: &[u64]) -> Result<Batch> {
        let picks = Picks::new(self, numbers);
        let used: Vec<Batch> =
            picks.used.iter().map(|batch| self.batches[*batch].clone()).collect();
        Batch::interleave(&used, &picks.rows)
    }

    /// What belongs to the rows of some numbers besides their columns.
    pub(super) fn places(&self, numbers: &[u64]) -> Batch {
        let each = |run: fn(&Batch) -> &Run| {
            let of = |number: &u64| {
                let (batch, row) = self.locate(*number);
                run(self.batches[batch]).get(row)
            };
            Run::Each(numbers.iter().map(of).collect())
        };
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        let rows = RecordBatch::try_new_with_options(Schema::empty().into(), vec![], &options);
        Batch {
            rows: rows.expect("no columns"),
            sequence: each(|b| &b.sequence),
            time: each(|b| &b.time),
            ingested: each(|b| &b.ingested),
            stream: each(|b| &b.stream),
            offset: each(|b| &b.offset),
        }
    }

    /// Some columns of the rows of some numbers.
    pub(super) fn columns(
        &self,
        schema: &SchemaRef,
        columns: impl Iterator<Item = usize>,
        numbers: &[u64],
    ) -> Result<Vec<ArrayRef>> {
        let picks = Picks::new(self, numbers);
        if picks.used.is_empty() {
            let null =
                |column: usize| new_null_array(schema.field(column).data_type(), numbers.len());
            return Ok(columns.map(null).collect());
        }
        if let ([batch], false) = (picks.used.as_slice(), picks.has_nulls) {
            let rows: UInt32Array = picks.rows.iter().map(|(_, row)| *row as u32).collect();
            let rows = UInt32Array::new(rows.values().clone(), None);
            let taken = columns.map(|c| take(self.batches[*batch].rows.column(c), &rows, None));
            return Ok(taken.collect::<Result<Vec<_>, _>>()?);
        }
        let mut gathered = Vec::new();
        for column in columns {
            let null = new_null_array(schema.field(column).data_type(), 1);
            let used = picks.used.iter().map(|batch| self.batches[*batch].rows.column(column));
            let mut arrays: Vec<&dyn Array> = used.map(AsRef::as_ref).collect();
            if picks.has_nulls {
                arrays.push(null.as_ref());
            }
            gathered.push(interleave(&arrays, &picks.rows)?);
        }
        Ok(gathered)
    }
}

/// Row numbers as places in those batches that are needed.
struct Picks {
    used: Vec<usize>,
    /// Position in `used` (behind them for no row) and row.
    rows: Vec<(usize, usize)>,
    has_nulls: bool,
}

impl Picks {
    fn new(sources: &Sources, numbers: &[u64]) -> Picks {
        let mut position = vec![usize::MAX; sources.batches.len()];
        let (mut used, mut rows) = (Vec::new(), Vec::with_capacity(numbers.len()));
        let mut has_nulls = false;
        // The batch of the last row: neighbours are often in the same one.
        let (mut batch, mut start, mut end) = (0, 0, 0);
        for &number in numbers {
            if number == NO_ROW {
                has_nulls = true;
                rows.push((usize::MAX, 0));
                continue;
            }
            if number < start || number >= end {
                batch = sources.locate(number).0;
                start = sources.starts[batch];
                end = start + sources.batches[batch].len() as u64;
                if position[batch] == usize::MAX {
                    position[batch] = used.len();
                    used.push(batch);
                }
            }
            rows.push((position[batch], (number - start) as usize));
        }
        if has_nulls {
            rows.iter_mut().filter(|(at, _)| *at == usize::MAX).for_each(|row| row.0 = used.len());
        }
        Picks { used, rows, has_nulls }
    }
}

/// Output rows, or pairs that may become such.
#[derive(Default)]
pub(super) struct Pairs {
    /// Row numbers of each side.
    pub(super) rows: [Vec<u64>; 2],
    /// Place at which the pair comes out.
    pub(super) place: Vec<i64>,
    /// Its event time.
    pub(super) time: Vec<i64>,
    /// Its arrival.
    pub(super) ingested: Vec<i64>,
    /// The side whose row completed it, where that matters.
    pub(super) later: Vec<u8>,
}

impl Pairs {
    pub(super) fn len(&self) -> usize {
        self.place.len()
    }

    pub(super) fn clear(&mut self) {
        self.rows.iter_mut().for_each(Vec::clear);
        self.place.clear();
        self.time.clear();
        self.ingested.clear();
        self.later.clear();
    }

    pub(super) fn push(&mut self, rows: [u64; 2], place: i64, time: i64, ingested: i64) {
        self.rows[0].push(rows[0]);
        self.rows[1].push(rows[1]);
        self.place.push(place);
        self.time.push(time);
        self.ingested.push(ingested);
    }

    /// Appends pair `pair` of `others`.
    pub(super) fn copy(&mut self, others: &Pairs, pair: usize) {
        let rows = [others.rows[0][pair], others.rows[1][pair]];
        self.push(rows, others.place[pair], others.time[pair], others.ingested[pair]);
    }

    /// The output: the columns of the left side and, when `schema` has them, of the right one.
    pub(super) fn batch(
        &mut self,
        sides: &[Sources; 2],
        schemas: &[SchemaRef; 2],
        schema: &SchemaRef,
    ) -> Result<Batch> {
        let len = self.len();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for side in 0..2 {
            if columns.len() < schema.fields().len() {
                let all = 0..schemas[side].fields().len();
                columns.extend(sides[side].columns(&schemas[side], all, &self.rows[side])?);
            }
        }
        let rows: RecordBatch = batch_of(schema.clone(), columns, len)?;
        let each = |numbers: &mut Vec<i64>| Run::Each(std::mem::take(numbers).into());
        let batch = Batch {
            rows,
            sequence: each(&mut self.place),
            time: each(&mut self.time),
            ingested: each(&mut self.ingested),
            stream: Run::Constant(i64::from(RowFailure::NO_STREAM)),
            offset: Run::Constant(0),
        };
        self.clear();
        Ok(batch)
    }
}
