//! Rows as bytes: the payload of a stored batch.
//!
//! ```text
//! u8   version 1
//! u8   0
//! u16  columns
//! u32  rows
//! columns x { u32 length, u32 CRC-32 of the column's bytes }
//! u32  CRC-32 of all bytes before
//! ...  the columns (see `column`), without gaps
//! ```
//!
//! All numbers are little-endian. The columns are those of the stream, then numbers that each row
//! has of its own beside them (event time, place, arrival), which the index entry names. Decoding
//! checks the sums of the columns it decodes; damaged bytes are an error, never a panic.

mod bits;
mod column;
mod float;
mod int;
mod text;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};

const VERSION: u8 = 1;

/// Encodes the columns of `rows` and after them the numbers of `extra`.
pub(crate) fn encode(rows: &RecordBatch, extra: &[&ScalarBuffer<i64>]) -> Result<Vec<u8>> {
    let columns = rows.num_columns() + extra.len();
    let header = 8 + columns * 8 + 4;
    let mut out = vec![0; header];
    let count = u16::try_from(columns)
        .map_err(|_| StorageError::Misuse(format!("{columns} columns cannot be stored")))?;
    let len = u32::try_from(rows.num_rows())
        .map_err(|_| StorageError::Misuse("too many rows in one batch".into()))?;
    out[0] = VERSION;
    out[2..4].copy_from_slice(&count.to_le_bytes());
    out[4..8].copy_from_slice(&len.to_le_bytes());
    let extra =
        extra.iter().map(|values| Arc::new(Int64Array::new((*values).clone(), None)) as ArrayRef);
    for (i, array) in rows.columns().iter().cloned().chain(extra).enumerate() {
        let start = out.len();
        column::encode(&array, &mut out)?;
        let length = u32::try_from(out.len() - start)
            .map_err(|_| StorageError::Misuse("a column of one batch exceeds 4 GiB".into()))?;
        let sum = crc32fast::hash(&out[start..]);
        out[8 + i * 8..12 + i * 8].copy_from_slice(&length.to_le_bytes());
        out[12 + i * 8..16 + i * 8].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = crc32fast::hash(&out[..header - 4]);
    out[header - 4..header].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// An encoded payload whose header has been checked.
pub(crate) struct Payload<'a> {
    rows: usize,
    columns: Vec<(&'a [u8], u32)>,
}

impl<'a> Payload<'a> {
    /// Reads the header.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Payload<'a>> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(StorageError::UnknownFormat(format!("payload version {version}")));
        }
        reader.u8()?;
        let count = usize::from(reader.u16()?);
        let rows = reader.u32()? as usize;
        let directory = reader.bytes(count * 8)?;
        if crc32fast::hash(&bytes[..8 + count * 8]) != reader.u32()? {
            return Err(damaged("header of a batch"));
        }
        let mut columns = Vec::with_capacity(count);
        let mut directory = Reader::new(directory);
        for _ in 0..count {
            let length = directory.u32()? as usize;
            columns.push((reader.bytes(length)?, directory.u32()?));
        }
        reader.end()?;
        Ok(Payload { rows, columns })
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn column(&self, position: usize, data_type: &DataType) -> Result<ArrayRef> {
        let (bytes, sum) =
            self.columns.get(position).ok_or_else(|| damaged("a column is missing"))?;
        if crc32fast::hash(bytes) != *sum {
            return Err(damaged("checksum of a column"));
        }
        column::decode(bytes, data_type, self.rows)
    }

    /// Decodes the columns at the positions of `projection` (all when absent), in that order.
    pub(crate) fn decode(
        &self,
        schema: &SchemaRef,
        projection: Option<&[usize]>,
    ) -> Result<RecordBatch> {
        let projected = match projection {
            None => schema.clone(),
            Some(columns) => Arc::new(
                schema
                    .project(columns)
                    .map_err(|e| StorageError::Misuse(format!("projection: {e}")))?,
            ),
        };
        let arrays = projected
            .fields()
            .iter()
            .enumerate()
            .map(|(i, field)| {
                self.column(projection.map_or(i, |columns| columns[i]), field.data_type())
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(projected, arrays, &options)
            .map_err(|e| StorageError::Corrupted(e.to_string()))
    }

    /// Decodes the numbers given as `extra[index]` when the batch had `own` columns.
    pub(crate) fn extra(&self, own: usize, index: usize) -> Result<ScalarBuffer<i64>> {
        let array = self.column(own + index, &DataType::Int64)?;
        Ok(array.as_primitive::<Int64Type>().values().clone())
    }
}

fn damaged(what: &str) -> StorageError {
    StorageError::Corrupted(what.into())
}
