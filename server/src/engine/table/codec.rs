//! Bytes of table rows.
//!
//! **Key**: the primary key's columns one after the other, so that byte order is value order
//! (nulls do not occur):
//!
//! | type | bytes |
//! |---|---|
//! | boolean | 0 or 1 |
//! | smallint, integer, bigint, date, time, timestamp(tz) | big endian, sign bit flipped |
//! | real, double precision | IEEE bits, big endian; negative: all bits flipped, else the sign bit; -0 as 0, every NaN the same and last |
//! | numeric | 16 bytes big endian, sign bit flipped |
//! | text, varchar, bytea, jsonb | bytes with 00 written as 00 FF, then 00 00 |
//! | uuid | 16 bytes |
//!
//! In the key of a materialized view each column is preceded by 01, or is 02 alone for null; a value
//! of a type that is not in the table is written as in a row.
//!
//! **Value**: version byte 1, then for each column: tag 0 for null, 1 for a value, followed by
//! fixed-width little-endian bytes, or a `u32` length and bytes for text, bytea and jsonb, or a
//! `u32` count and the items (each with its tag) for arrays; a map is two arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray,
    ListArray, MapArray, PrimitiveArray, StringViewArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use auspex_plan::{Diagnostic, SqlState};

const VERSION: u8 = 1;

/// Encoded key of row `row` from the key's columns.
pub(crate) fn key(columns: &[ArrayRef], row: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut out = Vec::with_capacity(columns.len() * 9);
    for column in columns {
        key_column(column, row, &mut out)?;
    }
    Ok(out)
}

/// Encoded key of a materialized view's row, whose columns may be null and of any type.
pub(crate) fn nullable_key(columns: &[ArrayRef], row: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut out = Vec::with_capacity(columns.len() * 10);
    for column in columns {
        if column.is_null(row) {
            out.push(2);
            continue;
        }
        out.push(1);
        match column.data_type() {
            DataType::Interval(_) | DataType::List(_) | DataType::Map(..) => {
                write(column, row, &mut out)?;
            }
            _ => key_column(column, row, &mut out)?,
        }
    }
    Ok(out)
}

fn key_column(column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
    fn int<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> T::Native {
        column.as_primitive::<T>().value(row)
    }
    match column.data_type() {
        DataType::Boolean => out.push(u8::from(column.as_boolean().value(row))),
        DataType::Int16 => {
            out.extend((int::<Int16Type>(column, row) ^ i16::MIN).to_be_bytes());
        }
        DataType::Int32 => {
            out.extend((int::<Int32Type>(column, row) ^ i32::MIN).to_be_bytes());
        }
        DataType::Date32 => {
            out.extend((int::<Date32Type>(column, row) ^ i32::MIN).to_be_bytes());
        }
        DataType::Int64 => {
            out.extend((int::<Int64Type>(column, row) ^ i64::MIN).to_be_bytes());
        }
        DataType::Time64(_) => {
            out.extend((int::<Time64MicrosecondType>(column, row) ^ i64::MIN).to_be_bytes());
        }
        DataType::Timestamp(..) => {
            out.extend((int::<TimestampMicrosecondType>(column, row) ^ i64::MIN).to_be_bytes());
        }
        DataType::Decimal128(..) => {
            out.extend((int::<Decimal128Type>(column, row) ^ i128::MIN).to_be_bytes());
        }
        DataType::Float32 => {
            key_double(f64::from(int::<Float32Type>(column, row)), out);
        }
        DataType::Float64 => key_double(int::<Float64Type>(column, row), out),
        DataType::Utf8View => key_bytes(column.as_string_view().value(row).as_bytes(), out),
        DataType::Binary => key_bytes(column.as_binary::<i32>().value(row), out),
        DataType::FixedSizeBinary(_) => out.extend(column.as_fixed_size_binary().value(row)),
        other => {
            return Err(Diagnostic::unsupported(format!(
                "a column of Arrow type {other} cannot be part of a primary key"
            )));
        }
    }
    Ok(())
}

fn key_double(value: f64, out: &mut Vec<u8>) {
    let value = if value == 0.0 { 0.0 } else { value };
    let bits = if value.is_nan() { f64::NAN.abs().to_bits() } else { value.to_bits() };
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.extend(ordered.to_be_bytes());
}

fn key_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for &b in bytes {
        out.push(b);
        if b == 0 {
            out.push(0xff);
        }
    }
    out.extend([0, 0]);
}

/// Encoded value of row `row`.
pub(crate) fn value(columns: &[ArrayRef], row: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut out = vec![VERSION];
    for column in columns {
        write(column, row, &mut out)?;
    }
    Ok(out)
}

fn write(column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
    if column.is_null(row) {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    match column.data_type() {
        DataType::Boolean => out.push(u8::from(column.as_boolean().value(row))),
        DataType::Int16 => out.extend(column.as_primitive::<Int16Type>().value(row).to_le_bytes()),
        DataType::Int32 => out.extend(column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        DataType::Date32 => {
            out.extend(column.as_primitive::<Date32Type>().value(row).to_le_bytes());
        }
        DataType::Int64 => out.extend(column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::Time64(_) => {
            out.extend(column.as_primitive::<Time64MicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Timestamp(..) => {
            out.extend(column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Decimal128(..) => {
            out.extend(column.as_primitive::<Decimal128Type>().value(row).to_le_bytes());
        }
        DataType::Float32 => {
            out.extend(column.as_primitive::<Float32Type>().value(row).to_le_bytes());
        }
        DataType::Float64 => {
            out.extend(column.as_primitive::<Float64Type>().value(row).to_le_bytes());
        }
        DataType::Interval(_) => {
            let v = column.as_primitive::<IntervalMonthDayNanoType>().value(row);
            out.extend(v.months.to_le_bytes());
            out.extend(v.days.to_le_bytes());
            out.extend(v.nanoseconds.to_le_bytes());
        }
        DataType::Utf8View => sized(column.as_string_view().value(row).as_bytes(), out),
        DataType::Binary => sized(column.as_binary::<i32>().value(row), out),
        DataType::FixedSizeBinary(_) => out.extend(column.as_fixed_size_binary().value(row)),
        DataType::List(_) => write_items(&column.as_list::<i32>().value(row), out)?,
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            write_items(entries.column(0), out)?;
            write_items(entries.column(1), out)?;
        }
        other => {
            return Err(Diagnostic::unsupported(format!("tables cannot store Arrow type {other}")));
        }
    }
    Ok(())
}

fn write_items(items: &ArrayRef, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
    out.extend((items.len() as u32).to_le_bytes());
    (0..items.len()).try_for_each(|i| write(items, i, out))
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

/// The rows behind encoded values, as one batch of `schema`.
pub(crate) fn decode(schema: &SchemaRef, values: &[Vec<u8>]) -> Result<RecordBatch, Diagnostic> {
    let mut readers = Vec::with_capacity(values.len());
    for value in values {
        match value.split_first() {
            Some((&VERSION, rest)) => readers.push(Reader(rest)),
            _ => return Err(damaged()),
        }
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut cells = Vec::with_capacity(values.len());
        for reader in &mut readers {
            cells.push(reader.cell(field.data_type())?);
        }
        columns.push(build(field.data_type(), &cells)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|_| damaged())
}

fn damaged() -> Diagnostic {
    Diagnostic::error(SqlState::DATA_CORRUPTED, "a stored table row is damaged")
}

/// A value inside an encoded row.
enum Cell<'a> {
    Null,
    Bytes(&'a [u8]),
    Items(Vec<Cell<'a>>),
    Entries(Vec<Cell<'a>>, Vec<Cell<'a>>),
}

impl<'a> Cell<'a> {
    fn fixed<const N: usize>(&self) -> Result<Option<[u8; N]>, Diagnostic> {
        match self {
            Cell::Null => Ok(None),
            Cell::Bytes(b) => (*b).try_into().map(Some).map_err(|_| damaged()),
            _ => Err(damaged()),
        }
    }

    fn bytes(&self) -> Result<Option<&'a [u8]>, Diagnostic> {
        match self {
            Cell::Null => Ok(None),
            Cell::Bytes(b) => Ok(Some(b)),
            _ => Err(damaged()),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Diagnostic> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(damaged)?;
        self.0 = tail;
        Ok(head)
    }

    fn length(&mut self) -> Result<usize, Diagnostic> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| damaged())?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn cell(&mut self, data_type: &DataType) -> Result<Cell<'a>, Diagnostic> {
        match self.take(1)? {
            [0] => return Ok(Cell::Null),
            [1] => {}
            _ => return Err(damaged()),
        }
        let width = match data_type {
            DataType::Boolean => 1,
            DataType::Int16 => 2,
            DataType::Int32 | DataType::Date32 | DataType::Float32 => 4,
            DataType::Int64 | DataType::Float64 | DataType::Time64(_) | DataType::Timestamp(..) => {
                8
            }
            DataType::Decimal128(..) | DataType::Interval(_) => 16,
            DataType::FixedSizeBinary(n) => *n as usize,
            DataType::Utf8View | DataType::Binary => self.length()?,
            DataType::List(item) => return Ok(Cell::Items(self.items(item)?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(damaged()) };
                return Ok(Cell::Entries(self.items(&fields[0])?, self.items(&fields[1])?));
            }
            _ => return Err(damaged()),
        };
        self.take(width).map(Cell::Bytes)
    }

    fn items(&mut self, item: &Field) -> Result<Vec<Cell<'a>>, Diagnostic> {
        let count = self.length()?;
        (0..count).map(|_| self.cell(item.data_type())).collect()
    }
}

fn primitive<T, const N: usize>(
    cells: &[Cell<'_>],
    read: impl Fn([u8; N]) -> T::Native,
) -> Result<PrimitiveArray<T>, Diagnostic>
where
    T: ArrowPrimitiveType,
{
    cells.iter().map(|c| Ok(c.fixed::<N>()?.map(&read))).collect()
}

fn build(data_type: &DataType, cells: &[Cell<'_>]) -> Result<ArrayRef, Diagnostic> {
    Ok(match data_type {
        DataType::Boolean => Arc::new(
            cells
                .iter()
                .map(|c| Ok(c.fixed::<1>()?.map(|b| b[0] != 0)))
                .collect::<Result<BooleanArray, Diagnostic>>()?,
        ),
        DataType::Int16 => Arc::new(primitive::<Int16Type, 2>(cells, i16::from_le_bytes)?),
        DataType::Int32 => Arc::new(primitive::<Int32Type, 4>(cells, i32::from_le_bytes)?),
        DataType::Date32 => Arc::new(primitive::<Date32Type, 4>(cells, i32::from_le_bytes)?),
        DataType::Int64 => Arc::new(primitive::<Int64Type, 8>(cells, i64::from_le_bytes)?),
        DataType::Time64(_) => {
            Arc::new(primitive::<Time64MicrosecondType, 8>(cells, i64::from_le_bytes)?)
        }
        DataType::Timestamp(_, zone) => Arc::new(
            primitive::<TimestampMicrosecondType, 8>(cells, i64::from_le_bytes)?
                .with_timezone_opt(zone.clone()),
        ),
        DataType::Decimal128(p, s) => Arc::new(
            primitive::<Decimal128Type, 16>(cells, i128::from_le_bytes)?
                .with_precision_and_scale(*p, *s)
                .map_err(|_| damaged())?,
        ),
        DataType::Float32 => Arc::new(primitive::<Float32Type, 4>(cells, f32::from_le_bytes)?),
        DataType::Float64 => Arc::new(primitive::<Float64Type, 8>(cells, f64::from_le_bytes)?),
        DataType::Interval(_) => Arc::new(primitive::<IntervalMonthDayNanoType, 16>(cells, |b| {
            let part = |r: std::ops::Range<usize>| -> [u8; 4] {
                b[r].try_into().expect("four bytes of sixteen")
            };
            arrow::datatypes::IntervalMonthDayNano::new(
                i32::from_le_bytes(part(0..4)),
                i32::from_le_bytes(part(4..8)),
                i64::from_le_bytes(b[8..].try_into().expect("eight bytes of sixteen")),
            )
        })?),
        DataType::Utf8View => {
            let mut texts = Vec::with_capacity(cells.len());
            for cell in cells {
                texts.push(match cell.bytes()? {
                    Some(b) => Some(std::str::from_utf8(b).map_err(|_| damaged())?),
                    None => None,
                });
            }
            Arc::new(texts.into_iter().collect::<StringViewArray>())
        }
        DataType::Binary => {
            let mut values = Vec::with_capacity(cells.len());
            for cell in cells {
                values.push(cell.bytes()?);
            }
            Arc::new(values.into_iter().collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(n) => {
            let mut values = Vec::with_capacity(cells.len());
            for cell in cells {
                values.push(cell.bytes()?);
            }
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), *n)
                    .map_err(|_| damaged())?,
            )
        }
        DataType::List(item) => {
            let mut lengths = Vec::with_capacity(cells.len());
            let mut flat = Vec::new();
            for cell in cells {
                match cell {
                    Cell::Items(items) => {
                        lengths.push(items.len());
                        flat.extend(items);
                    }
                    _ => lengths.push(0),
                }
            }
            Arc::new(
                ListArray::try_new(
                    item.clone(),
                    OffsetBuffer::from_lengths(lengths),
                    build_refs(item.data_type(), &flat)?,
                    nulls(cells),
                )
                .map_err(|_| damaged())?,
            )
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err(damaged()) };
            let mut lengths = Vec::with_capacity(cells.len());
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for cell in cells {
                match cell {
                    Cell::Entries(k, v) => {
                        lengths.push(k.len());
                        keys.extend(k);
                        values.extend(v);
                    }
                    _ => lengths.push(0),
                }
            }
            let columns = vec![
                build_refs(fields[0].data_type(), &keys)?,
                build_refs(fields[1].data_type(), &values)?,
            ];
            let structs =
                StructArray::try_new(fields.clone(), columns, None).map_err(|_| damaged())?;
            Arc::new(
                MapArray::try_new(
                    entries.clone(),
                    OffsetBuffer::from_lengths(lengths),
                    structs,
                    nulls(cells),
                    *sorted,
                )
                .map_err(|_| damaged())?,
            )
        }
        _ => return Err(damaged()),
    })
}

/// [`build`] over items that belong to several rows.
fn build_refs(data_type: &DataType, cells: &[&Cell<'_>]) -> Result<ArrayRef, Diagnostic> {
    let owned: Vec<Cell<'_>> = cells.iter().map(|c| borrow(c)).collect();
    build(data_type, &owned)
}

fn borrow<'a>(cell: &Cell<'a>) -> Cell<'a> {
    match cell {
        Cell::Null => Cell::Null,
        Cell::Bytes(b) => Cell::Bytes(b),
        Cell::Items(items) => Cell::Items(items.iter().map(borrow).collect()),
        Cell::Entries(k, v) => {
            Cell::Entries(k.iter().map(borrow).collect(), v.iter().map(borrow).collect())
        }
    }
}

fn nulls(cells: &[Cell<'_>]) -> Option<NullBuffer> {
    let valid: Vec<bool> = cells.iter().map(|c| !matches!(c, Cell::Null)).collect();
    valid.contains(&false).then(|| NullBuffer::from(valid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, new_null_array};
    use auspex_plan::ColumnType;
    use auspex_plan::catalog::{Column, arrow_schema};

    #[test]
    fn byte_order_of_keys_is_value_order() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -5, -1, 0, 1, 7, i64::MAX]));
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![
            f64::NEG_INFINITY,
            -1.5,
            -1e-300,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
            f64::NAN,
        ]));
        let texts: ArrayRef =
            Arc::new(StringViewArray::from(vec!["", "\0", "\0a", "a", "a\0", "ab", "b", "é"]));
        for column in [ints, doubles, texts] {
            let keys: Vec<Vec<u8>> = (0..column.len())
                .map(|i| key(std::slice::from_ref(&column), i).expect("key type"))
                .collect();
            let mut sorted = keys.clone();
            sorted.sort();
            assert_eq!(keys, sorted, "{:?}", column.data_type());
        }
    }

    #[test]
    fn negative_zero_and_zero_are_one_key() {
        let c: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
        assert_eq!(key(std::slice::from_ref(&c), 0), key(std::slice::from_ref(&c), 1));
    }

    #[test]
    fn rows_of_every_type_survive() {
        let types = [
            ColumnType::Boolean,
            ColumnType::Integer,
            ColumnType::Double,
            ColumnType::Numeric { precision: 10, scale: 2 },
            ColumnType::Text,
            ColumnType::Bytea,
            ColumnType::Uuid,
            ColumnType::Timestamptz,
            ColumnType::Interval,
            ColumnType::Array(Box::new(ColumnType::Text)),
            ColumnType::Map(Box::new(ColumnType::Text), Box::new(ColumnType::BigInt)),
        ];
        let columns: Vec<Column> = types
            .iter()
            .enumerate()
            .map(|(i, t)| Column::new(format!("c{i}"), t.clone()))
            .collect();
        let schema = arrow_schema(&columns);
        let arrays: Vec<ArrayRef> =
            schema.fields().iter().map(|f| new_null_array(f.data_type(), 2)).collect();
        let nulls = RecordBatch::try_new(schema.clone(), arrays).expect("matching");
        // Arrow's JSON reader knows no intervals: that column is put in by hand.
        let without: Vec<usize> =
            (0..types.len()).filter(|i| types[*i] != ColumnType::Interval).collect();
        let readable = Arc::new(schema.project(&without).expect("columns"));
        let text = r#"{"c0":true,"c1":-4,"c2":1.5,"c3":"12.34","c4":"é","c7":"2013-01-01T05:00:00Z","c9":["a",null,""],"c10":{"k":1,"l":null}}"#;
        let mut decoder =
            arrow::json::ReaderBuilder::new(readable).build_decoder().expect("a schema");
        decoder.decode(text.as_bytes()).expect("json");
        let read = decoder.flush().expect("json").expect("one row");
        let mut columns = read.columns().to_vec();
        let interval = arrow::datatypes::IntervalMonthDayNano::new(1, -2, 3_000);
        let intervals = PrimitiveArray::<IntervalMonthDayNanoType>::from_value(interval, 1);
        columns.insert(8, Arc::new(intervals));
        let full = RecordBatch::try_new(schema.clone(), columns).expect("matching");
        for batch in [nulls, full] {
            let rows: Vec<Vec<u8>> = (0..batch.num_rows())
                .map(|i| value(batch.columns(), i).expect("storable"))
                .collect();
            assert_eq!(decode(&schema, &rows).expect("decodes"), batch);
        }
    }

    #[test]
    fn damaged_rows_are_errors() {
        let schema = arrow_schema(&[Column::new("a", ColumnType::Text)]);
        for bytes in [&b""[..], b"\x02", b"\x01", b"\x01\x01\xff\xff\xff\xff", b"\x01\x07"] {
            assert!(decode(&schema, &[bytes.to_vec()]).is_err(), "{bytes:?}");
        }
    }
}
