//! Single rows that operators keep: compact in memory, ready to be written as state, and given back
//! as batches.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use auspex_storage::Run;

use crate::batch::{Batch, batch_of};
use crate::error::{ExecError, Result};

/// A row with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptRow {
    /// Place in the global order.
    pub(crate) sequence: i64,
    /// Event time.
    pub(crate) time: i64,
    /// Arrival.
    pub(crate) ingested: i64,
    /// Stream in which it entered the graph.
    pub(crate) stream: i64,
    /// Its offset there.
    pub(crate) offset: i64,
    /// Its columns, in the format of `arrow::row`.
    pub(crate) values: Arc<[u8]>,
}

impl KeptRow {
    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        size_of::<KeptRow>() as u64 + 16 + self.values.len() as u64
    }

    /// Appends the row to `to`.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        for number in [self.sequence, self.time, self.ingested, self.stream, self.offset] {
            to.extend_from_slice(&number.to_be_bytes());
        }
        write_bytes(to, &self.values);
    }

    /// Takes a row from the front of `from`.
    pub(crate) fn read(from: &mut &[u8]) -> Result<KeptRow> {
        Ok(KeptRow {
            sequence: read_number(from)?,
            time: read_number(from)?,
            ingested: read_number(from)?,
            stream: read_number(from)?,
            offset: read_number(from)?,
            values: read_bytes(from)?.into(),
        })
    }
}

/// Appends bytes after their length.
pub(crate) fn write_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// Takes what [`write_bytes`] wrote from the front of `from`.
pub(crate) fn read_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8]> {
    let (len, rest) = from.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let len = u32::from_be_bytes(*len) as usize;
    let (bytes, rest) = rest.split_at_checked(len).ok_or_else(cut_off)?;
    *from = rest;
    Ok(bytes)
}

/// Takes a number, eight bytes with the greatest first, from the front of `from`.
pub(crate) fn read_number(from: &mut &[u8]) -> Result<i64> {
    let (number, rest) = from.split_first_chunk::<8>().ok_or_else(cut_off)?;
    *from = rest;
    Ok(i64::from_be_bytes(*number))
}

fn cut_off() -> ExecError {
    ExecError::State("a value that ends too early".into())
}

/// Turns batches of one schema into rows and back.
#[derive(Debug)]
pub(crate) struct RowCodec {
    schema: SchemaRef,
    converter: RowConverter,
}

impl RowCodec {
    /// For rows of `schema`.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] for a type of column that cannot be kept.
    pub(crate) fn new(schema: SchemaRef) -> Result<RowCodec> {
        let fields: Vec<SortField> =
            schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(ExecError::Unsupported("keeping rows with a column of this type".into()));
        }
        Ok(RowCodec { converter: RowConverter::new(fields)?, schema })
    }

    /// The rows of a batch.
    pub(crate) fn encode(&self, batch: &Batch) -> Result<Vec<KeptRow>> {
        let rows = self.converter.convert_columns(batch.rows.columns())?;
        let row = |row: usize| KeptRow {
            sequence: batch.sequence.get(row),
            time: batch.time.get(row),
            ingested: batch.ingested.get(row),
            stream: batch.stream.get(row),
            offset: batch.offset.get(row),
            values: match self.schema.fields().is_empty() {
                true => Arc::from([]),
                false => rows.row(row).data().into(),
            },
        };
        Ok((0..batch.len()).map(row).collect())
    }

    /// The columns of rows, from their [`KeptRow::values`].
    pub(crate) fn columns<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>> {
        if self.schema.fields().is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(values.map(|values| parser.parse(values)))?)
    }

    /// Rows as one batch, as they were.
    pub(crate) fn decode(&self, rows: &[&KeptRow]) -> Result<Batch> {
        let columns = self.columns(rows.iter().map(|row| row.values.as_ref()))?;
        let run = |f: fn(&KeptRow) -> i64| Run::Each(rows.iter().map(|row| f(row)).collect());
        Ok(Batch {
            rows: batch_of(SchemaRef::clone(&self.schema), columns, rows.len())?,
            sequence: run(|r| r.sequence),
            time: run(|r| r.time),
            ingested: run(|r| r.ingested),
            stream: run(|r| r.stream),
            offset: run(|r| r.offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, Decimal128Array, Float64Array, IntervalMonthDayNanoArray, ListArray,
        StringViewArray,
    };
    use arrow::datatypes::{Int64Type, IntervalMonthDayNano};
    use arrow::record_batch::RecordBatch;

    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let interval = IntervalMonthDayNano::new(1, 2, 3);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let decimals = Decimal128Array::from(vec![Some(12), None, Some(-1)]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("f", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::NAN)]))),
            (
                "t",
                Arc::new(StringViewArray::from(vec![
                    Some(""),
                    None,
                    Some("long enough to be out"),
                ])),
            ),
            ("i", Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval), None, None]))),
            ("l", Arc::new(list)),
            ("d", Arc::new(decimals.with_precision_and_scale(10, 2).unwrap())),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let batch = Batch {
            rows,
            sequence: Run::Sequence(5),
            time: Run::Each(vec![3, 2, 1].into()),
            ingested: Run::Constant(7),
            stream: Run::Constant(8),
            offset: Run::Sequence(9),
        };
        let codec = RowCodec::new(batch.rows.schema()).unwrap();
        let mut bytes = Vec::new();
        codec.encode(&batch).unwrap().iter().for_each(|row| row.write(&mut bytes));
        let mut rest = bytes.as_slice();
        let rows: Vec<KeptRow> = (0..3).map(|_| KeptRow::read(&mut rest).unwrap()).collect();
        assert!(rest.is_empty());
        let back = codec.decode(&rows.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(format!("{:?}", back.rows), format!("{:?}", batch.rows));
        assert_eq!(back.sequence.to_values(3), batch.sequence.to_values(3));
        assert_eq!(back.time.to_values(3), batch.time.to_values(3));
        assert!(KeptRow::read(&mut &bytes[..50]).is_err());
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let batch = Batch {
            rows: batch_of(schema.clone(), vec![], 2).unwrap(),
            sequence: Run::Sequence(0),
            time: Run::Sequence(0),
            ingested: Run::Constant(0),
            stream: Run::Constant(0),
            offset: Run::Sequence(0),
        };
        let codec = RowCodec::new(schema).unwrap();
        let rows = codec.encode(&batch).unwrap();
        assert_eq!(codec.decode(&rows.iter().collect::<Vec<_>>()).unwrap().len(), 2);
    }
}
