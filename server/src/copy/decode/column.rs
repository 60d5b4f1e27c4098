//! Values of one column on their way into an Arrow array.
//!
//! A column takes values one at a time ([`Column::text`], [`Column::binary`]) or a whole chunk of
//! rows whose field boundaries are known ([`Column::text_chunk`], [`Column::binary_chunk`]): then
//! the type is looked at once per chunk and common spellings are read by short loops. Whatever
//! such a loop does not understand goes to the complete parser of that one value.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array,
    FixedSizeBinaryArray, NullBufferBuilder, PrimitiveArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;

use super::field::{Field as TextField, Fields};
use super::value::{self, Value};
use super::views::Views;
use super::{datetime, swar};
use crate::copy::{CopyError, CopyOptions};
use crate::pg::decode;
use crate::pg::zone::Zone;

/// A column of the column list.
pub(super) struct Column {
    /// Name, for messages.
    pub(super) name: String,
    kind: ColumnType,
    values: Values,
    nulls: NullBufferBuilder,
    force_not_null: bool,
    force_null: bool,
}

enum Values {
    Bool(BooleanBufferBuilder),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    /// Keeps its own nulls.
    Text(Views),
    Date(Vec<i32>),
    /// `timestamp` (false) or `timestamptz` (true).
    Timestamp(Vec<i64>, bool),
    Numeric(Vec<i128>),
    Uuid(Vec<u8>),
    /// Keeps its own nulls.
    Other(Vec<ScalarValue>),
}

/// Complete rows of text or csv, and where their fields are.
pub(super) struct Chunk<'a> {
    /// The rows.
    pub(super) text: &'a str,
    /// Field i starts at `starts[i]` and ends `trim` bytes before `starts[i + 1] - 1`.
    pub(super) starts: &'a [u32],
    /// Fields of a row.
    pub(super) width: usize,
    /// 1 where lines end in CR LF, else 0; concerns the last field of a row only.
    pub(super) trim: usize,
    /// What quotes and escapes look like.
    pub(super) options: &'a CopyOptions,
    /// The byte that fields with quotes or escapes have, when there may be such fields.
    pub(super) dress: Option<u8>,
    /// Zone of timestamps without one.
    pub(super) zone: Zone,
}

impl Chunk<'_> {
    /// Field `column` of row `row` as sent.
    #[inline(always)]
    pub(super) fn field(&self, row: usize, column: usize) -> Range<usize> {
        let at = row * self.width + column;
        let trim = if column + 1 == self.width { self.trim } else { 0 };
        self.starts[at] as usize..self.starts[at + 1] as usize - 1 - trim
    }

    /// The field without a pair of quotes around it, and whether there was one. What is left may
    /// still have quotes or escapes inside.
    #[inline(always)]
    fn undressed(&self, field: Range<usize>) -> (Range<usize>, bool) {
        let bytes = self.text.as_bytes();
        match self.dress {
            Some(quote)
                if quote != b'\\'
                    && field.len() >= 2
                    && bytes[field.start] == quote
                    && bytes[field.end - 1] == quote =>
            {
                (field.start + 1..field.end - 1, true)
            }
            _ => (field, false),
        }
    }
}

/// Complete rows of the binary format.
pub(super) struct BinaryChunk<'a> {
    /// The rows.
    pub(super) bytes: &'a [u8],
    /// Start of each field.
    pub(super) fields: &'a [(u32, i32)],
    /// Fields of a row.
    pub(super) width: usize,
}

/// A value that is wrong, with its row in the chunk.
pub(super) type Bad = (usize, Box<CopyError>);

impl Column {
    pub(super) fn new(field: &Field, kind: ColumnType, options: &CopyOptions) -> Column {
        let values = match &kind {
            ColumnType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            ColumnType::SmallInt => Values::Int2(Vec::new()),
            ColumnType::Integer => Values::Int4(Vec::new()),
            ColumnType::BigInt => Values::Int8(Vec::new()),
            ColumnType::Real => Values::Float4(Vec::new()),
            ColumnType::Double => Values::Float8(Vec::new()),
            ColumnType::Text | ColumnType::Varchar(_) => Values::Text(Views::new()),
            ColumnType::Date => Values::Date(Vec::new()),
            ColumnType::Timestamp => Values::Timestamp(Vec::new(), false),
            ColumnType::Timestamptz => Values::Timestamp(Vec::new(), true),
            ColumnType::Numeric { .. } => Values::Numeric(Vec::new()),
            ColumnType::Uuid => Values::Uuid(Vec::new()),
            _ => Values::Other(Vec::new()),
        };
        let name = field.name().clone();
        Column {
            force_not_null: options.force_not_null.contains(&name),
            force_null: options.force_null.contains(&name),
            name,
            kind,
            values,
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Adds one value from its text.
    pub(super) fn text(&mut self, text: Option<&str>, zone: Zone) -> Result<(), Diagnostic> {
        let Some(text) = text else {
            self.push_null();
            return Ok(());
        };
        if let Values::Text(_) = self.values {
            return self.push_text(text);
        }
        self.push(value::from_text(text, &self.kind, zone)?)
    }

    /// Adds one value from its binary form.
    pub(super) fn binary(&mut self, bytes: Option<&[u8]>) -> Result<(), Diagnostic> {
        let Some(bytes) = bytes else {
            self.push_null();
            return Ok(());
        };
        if let Values::Text(_) = self.values {
            return self.push_text(value::utf8(bytes)?);
        }
        self.push(value::from_binary(bytes, &self.kind)?)
    }

    fn push_text(&mut self, text: &str) -> Result<(), Diagnostic> {
        let text = match self.kind {
            ColumnType::Varchar(limit) => decode::varchar(text, limit)?,
            _ => text,
        };
        if let Values::Text(values) = &mut self.values {
            values.push(text);
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Int2(values) => values.push(0),
            Values::Int4(values) => values.push(0),
            Values::Int8(values) => values.push(0),
            Values::Float4(values) => values.push(0.0),
            Values::Float8(values) => values.push(0.0),
            Values::Text(values) => values.push_null(),
            Values::Date(values) => values.push(0),
            Values::Timestamp(values, _) => values.push(0),
            Values::Numeric(values) => values.push(0),
            Values::Uuid(values) => values.extend([0; 16]),
            Values::Other(values) => values.push(ScalarValue::Null),
        }
        self.nulls.append_null();
    }

    fn push(&mut self, value: Value) -> Result<(), Diagnostic> {
        match (&mut self.values, value) {
            (Values::Bool(values), Value::Bool(v)) => values.append(v),
            (Values::Int2(values), Value::Int(v)) => values.push(v as i16),
            (Values::Int4(values) | Values::Date(values), Value::Int(v)) => values.push(v as i32),
            (Values::Int8(values) | Values::Timestamp(values, _), Value::Int(v)) => values.push(v),
            (Values::Float4(values), Value::Float4(v)) => values.push(v),
            (Values::Float8(values), Value::Float8(v)) => values.push(v),
            (Values::Numeric(values), Value::Numeric(v)) => values.push(v),
            (Values::Uuid(values), Value::Uuid(v)) => values.extend(v),
            (Values::Other(values), Value::Other(v)) => values.push(v),
            (_, value) => {
                return Err(Diagnostic::error(
                    SqlState::INTERNAL_ERROR,
                    format!("column type {} was read as {value:?}", self.kind),
                ));
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Adds a field of text or csv after the rules for null: `quoted` tells `""` from nothing.
    pub(super) fn field(
        &mut self,
        field: TextField<'_>,
        null: &str,
        zone: Zone,
    ) -> Result<(), Diagnostic> {
        let text = match field.text {
            None if self.force_not_null => Some(null),
            Some(text) if self.force_null && field.quoted && text == null => None,
            text => text,
        };
        self.text(text, zone)
    }

    /// Adds field `column` of the rows `rows` of a chunk. On error, the rows before the bad one
    /// have been added.
    pub(super) fn text_chunk(
        &mut self,
        chunk: &Chunk<'_>,
        column: usize,
        rows: Range<usize>,
        fields: &mut Fields,
    ) -> Result<(), Bad> {
        let mut done = rows.start;
        while done < rows.end {
            done = self.text_run(chunk, column, done..rows.end);
            if done < rows.end {
                let raw = &chunk.text[chunk.field(done, column)];
                fields
                    .one(raw, chunk.options)
                    .and_then(|field| Ok(self.field(field, &chunk.options.null, chunk.zone)?))
                    .map_err(|error| (done, Box::new(error)))?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Adds fields in the spelling that the short loops read; returns the first row that has
    /// another one.
    fn text_run(&mut self, chunk: &Chunk<'_>, column: usize, rows: Range<usize>) -> usize {
        let bytes = chunk.text.as_bytes();
        let nulls = &mut self.nulls;
        match &mut self.values {
            Values::Int8(values) => {
                run(values, nulls, chunk, column, rows, |at| swar::integer(bytes, at.start, at.end))
            }
            Values::Int4(values) => run(values, nulls, chunk, column, rows, |at| {
                swar::integer(bytes, at.start, at.end).and_then(|v| i32::try_from(v).ok())
            }),
            Values::Int2(values) => run(values, nulls, chunk, column, rows, |at| {
                swar::integer(bytes, at.start, at.end).and_then(|v| i16::try_from(v).ok())
            }),
            Values::Float8(values) => run(values, nulls, chunk, column, rows, |at| {
                swar::double(bytes, at.start, at.end).or_else(|| value::double(&bytes[at]))
            }),
            Values::Float4(values) => {
                run(values, nulls, chunk, column, rows, |at| value::real(&bytes[at]))
            }
            Values::Timestamp(values, zoned) => {
                let zoned = *zoned;
                let zone = chunk.zone;
                run(values, nulls, chunk, column, rows, |at| {
                    value::timestamp(datetime::iso_timestamp(&bytes[at])?, zoned, zone)
                })
            }
            Values::Date(values) => {
                run(values, nulls, chunk, column, rows, |at| datetime::iso_date(&bytes[at]))
            }
            Values::Numeric(values) => {
                let ColumnType::Numeric { precision, scale } = self.kind else {
                    return rows.start;
                };
                run(values, nulls, chunk, column, rows, |at| {
                    value::plain_numeric(&bytes[at], precision, scale)
                })
            }
            Values::Text(values) => {
                if matches!(self.kind, ColumnType::Varchar(_)) {
                    return rows.start;
                }
                let null = chunk.options.null.as_bytes();
                values.reserve(rows.len());
                for row in rows.clone() {
                    let field = chunk.field(row, column);
                    let field = match chunk.dress {
                        None if bytes[field.clone()] == *null => return row,
                        None => field,
                        Some(dress) => {
                            let (field, quoted) = chunk.undressed(field);
                            let text = &bytes[field.clone()];
                            if text.contains(&dress) || text == null && (!quoted || self.force_null)
                            {
                                return row;
                            }
                            field
                        }
                    };
                    values.push_part(chunk.text, field.start, field.end);
                }
                rows.end
            }
            _ => rows.start,
        }
    }

    /// Adds field `column` of the rows `rows` of a binary chunk. On error, the rows before the
    /// bad one have been added.
    pub(super) fn binary_chunk(
        &mut self,
        chunk: &BinaryChunk<'_>,
        column: usize,
        rows: Range<usize>,
    ) -> Result<(), Bad> {
        let mut done = rows.start;
        while done < rows.end {
            done = self.binary_run(chunk, column, done..rows.end);
            if done < rows.end {
                let (start, len) = chunk.fields[done * chunk.width + column];
                let field = usize::try_from(len)
                    .ok()
                    .map(|len| &chunk.bytes[start as usize..start as usize + len]);
                self.binary(field).map_err(|error| (done, Box::new(error.into())))?;
                done += 1;
            }
        }
        Ok(())
    }

    fn binary_run(&mut self, chunk: &BinaryChunk<'_>, column: usize, rows: Range<usize>) -> usize {
        let nulls = &mut self.nulls;
        match &mut self.values {
            Values::Int8(values) => {
                fixed(values, nulls, chunk, column, rows, |b| Some(i64::from_be_bytes(b)))
            }
            Values::Int4(values) => {
                fixed(values, nulls, chunk, column, rows, |b| Some(i32::from_be_bytes(b)))
            }
            Values::Int2(values) => {
                fixed(values, nulls, chunk, column, rows, |b| Some(i16::from_be_bytes(b)))
            }
            Values::Float8(values) => {
                fixed(values, nulls, chunk, column, rows, |b| Some(f64::from_be_bytes(b)))
            }
            Values::Float4(values) => {
                fixed(values, nulls, chunk, column, rows, |b| Some(f32::from_be_bytes(b)))
            }
            Values::Timestamp(values, _) => {
                fixed(values, nulls, chunk, column, rows, value::binary_timestamp)
            }
            Values::Text(values) if self.kind == ColumnType::Text => {
                values.reserve(rows.len());
                for row in rows.clone() {
                    let (start, len) = chunk.fields[row * chunk.width + column];
                    let Ok(len) = usize::try_from(len) else { return row };
                    let start = start as usize;
                    if !values.push_ascii(chunk.bytes, start, len) {
                        match value::utf8(&chunk.bytes[start..start + len]) {
                            Ok(text) => values.push(text),
                            Err(_) => return row,
                        }
                    }
                }
                rows.end
            }
            _ => rows.start,
        }
    }

    /// The values added so far as an array; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, Diagnostic> {
        let nulls = self.nulls.finish();
        fn primitive<T: ArrowPrimitiveType>(
            values: &mut Vec<T::Native>,
            nulls: Option<arrow::buffer::NullBuffer>,
        ) -> ArrayRef {
            let next = Vec::with_capacity(values.len());
            Arc::new(PrimitiveArray::<T>::new(std::mem::replace(values, next).into(), nulls))
        }
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int2(values) => primitive::<Int16Type>(values, nulls),
            Values::Int4(values) => primitive::<Int32Type>(values, nulls),
            Values::Int8(values) => primitive::<Int64Type>(values, nulls),
            Values::Float4(values) => primitive::<Float32Type>(values, nulls),
            Values::Float8(values) => primitive::<Float64Type>(values, nulls),
            Values::Text(values) => Arc::new(values.finish()),
            Values::Date(values) => {
                Arc::new(Date32Array::new(std::mem::take(values).into(), nulls))
            }
            Values::Timestamp(values, zoned) => {
                let next = Vec::with_capacity(values.len());
                let array =
                    TimestampMicrosecondArray::new(std::mem::replace(values, next).into(), nulls);
                Arc::new(if *zoned { array.with_timezone(UTC) } else { array })
            }
            Values::Numeric(values) => {
                let array = Decimal128Array::new(std::mem::take(values).into(), nulls);
                Arc::new(array.with_data_type(self.kind.arrow()))
            }
            Values::Uuid(values) => {
                let bytes = Buffer::from_vec(std::mem::take(values));
                Arc::new(FixedSizeBinaryArray::try_new(16, bytes, nulls).map_err(internal)?)
            }
            Values::Other(values) => {
                others(std::mem::take(values), &self.kind.arrow()).map_err(internal)?
            }
        })
    }
}

/// Adds the fields that `read` understands, up to the first it does not or that is null.
#[inline(always)]
fn run<T>(
    values: &mut Vec<T>,
    nulls: &mut NullBufferBuilder,
    chunk: &Chunk<'_>,
    column: usize,
    rows: Range<usize>,
    read: impl Fn(Range<usize>) -> Option<T>,
) -> usize {
    let bytes = chunk.text.as_bytes();
    let null = chunk.options.null.as_bytes();
    let before = values.len();
    values.reserve(rows.len());
    let first = rows.start;
    for row in rows {
        let field = chunk.field(row, column);
        let (field, quoted) = chunk.undressed(field);
        // A quoted null string is for the complete parser too, which knows FORCE_NULL.
        if bytes[field.clone()] == *null || quoted && field.is_empty() {
            break;
        }
        match read(field) {
            Some(value) => values.push(value),
            None => break,
        }
    }
    let added = values.len() - before;
    nulls.append_n_non_nulls(added);
    first + added
}

/// Adds fields of exactly N bytes, up to the first that is not.
#[inline(always)]
fn fixed<T, const N: usize>(
    values: &mut Vec<T>,
    nulls: &mut NullBufferBuilder,
    chunk: &BinaryChunk<'_>,
    column: usize,
    rows: Range<usize>,
    read: impl Fn([u8; N]) -> Option<T>,
) -> usize {
    let before = values.len();
    values.reserve(rows.len());
    let first = rows.start;
    for row in rows {
        let (start, len) = chunk.fields[row * chunk.width + column];
        if len != N as i32 {
            break;
        }
        let start = start as usize;
        let bytes = chunk.bytes.get(start..start + N).and_then(|b| b.try_into().ok());
        match bytes.and_then(&read) {
            Some(value) => values.push(value),
            None => break,
        }
    }
    let added = values.len() - before;
    nulls.append_n_non_nulls(added);
    first + added
}

fn others(
    values: Vec<ScalarValue>,
    wanted: &DataType,
) -> Result<ArrayRef, datafusion::error::DataFusionError> {
    if values.iter().all(|v| matches!(v, ScalarValue::Null)) {
        return Ok(new_null_array(wanted, values.len()));
    }
    let null = ScalarValue::try_from(wanted)?;
    let array = ScalarValue::iter_to_array(values.into_iter().map(|value| match value {
        ScalarValue::Null => null.clone(),
        value => value,
    }))?;
    if array.data_type() == wanted {
        return Ok(array);
    }
    Ok(arrow::compute::cast(&array, wanted)?)
}

fn internal(error: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(SqlState::INTERNAL_ERROR, format!("could not build a column: {error}"))
}
