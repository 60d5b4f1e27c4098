//! Values from PostgreSQL's text and binary formats: parameters, and the fields of COPY.
//!
//! Errors are PostgreSQL's, word by word: 22P02 for text that is not a value of the type, 22P03
//! for binary, 22003, 22007, 22008 and 22001 for values out of range.

mod array;
mod binary;
mod datetime;
mod interval;
mod jsonb;
mod number;

use std::sync::Arc;

use arrow::array::{ArrayRef, MapArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;

use super::zone::Zone;

pub use binary::binary;
pub use datetime::{date, time, timestamp, timestamptz};
pub use interval::interval;
pub use jsonb::canonical as jsonb;
pub use number::{boolean, bytea, float4, float8, int2, int4, int8, numeric, uuid};

/// Result of reading a value.
pub type Result<T> = std::result::Result<T, Diagnostic>;

/// The null of a column type.
pub fn null(column: &ColumnType) -> Result<ScalarValue> {
    ScalarValue::try_from(&column.arrow()).map_err(|error| {
        Diagnostic::error(SqlState::INTERNAL_ERROR, format!("no null of type {column}: {error}"))
    })
}

/// Reads a value of type `column` from its text. Times without a zone are in `zone`.
pub fn text(column: &ColumnType, text: &str, zone: Zone) -> Result<ScalarValue> {
    Ok(match column {
        ColumnType::Boolean => ScalarValue::Boolean(Some(boolean(text)?)),
        ColumnType::SmallInt => ScalarValue::Int16(Some(int2(text)?)),
        ColumnType::Integer => ScalarValue::Int32(Some(int4(text)?)),
        ColumnType::BigInt => ScalarValue::Int64(Some(int8(text)?)),
        ColumnType::Real => ScalarValue::Float32(Some(float4(text)?)),
        ColumnType::Double => ScalarValue::Float64(Some(float8(text)?)),
        ColumnType::Numeric { precision, scale } => {
            ScalarValue::Decimal128(Some(numeric(text, *precision, *scale)?), *precision, *scale)
        }
        ColumnType::Text => ScalarValue::Utf8View(Some(text.to_string())),
        ColumnType::Varchar(n) => ScalarValue::Utf8View(Some(varchar(text, *n)?.to_string())),
        ColumnType::Bytea => ScalarValue::Binary(Some(bytea(text)?)),
        ColumnType::Uuid => ScalarValue::FixedSizeBinary(16, Some(uuid(text)?.to_vec())),
        ColumnType::Timestamptz => {
            ScalarValue::TimestampMicrosecond(Some(timestamptz(text, zone)?), Some(UTC.into()))
        }
        ColumnType::Timestamp => ScalarValue::TimestampMicrosecond(Some(timestamp(text)?), None),
        ColumnType::Date => ScalarValue::Date32(Some(date(text)?)),
        ColumnType::Time => ScalarValue::Time64Microsecond(Some(time(text)?)),
        ColumnType::Interval => ScalarValue::IntervalMonthDayNano(Some(interval(text)?)),
        ColumnType::Jsonb => ScalarValue::Utf8View(Some(jsonb(text)?)),
        ColumnType::Array(item) => array::text(item, text, zone)?,
        ColumnType::Map(key, value) => map(key, value, text, zone)?,
    })
}

/// Checks the length of a `varchar(n)`; surplus spaces at the end are cut off, as in PostgreSQL.
pub fn varchar(text: &str, limit: u32) -> Result<&str> {
    match text.char_indices().nth(limit as usize) {
        None => Ok(text),
        Some((end, _)) if text[end..].bytes().all(|b| b == b' ') => Ok(&text[..end]),
        Some(_) => Err(Diagnostic::error(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type character varying({limit})"),
        )),
    }
}

/// Checks bytes to be text that PostgreSQL would take: UTF-8 without NUL.
pub fn utf8(bytes: &[u8]) -> Result<&str> {
    let bad = |at: usize, length: usize| {
        let shown: Vec<String> = bytes[at..(at + length).min(bytes.len())]
            .iter()
            .map(|b| format!("0x{b:02x}"))
            .collect();
        Diagnostic::error(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
        )
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => match memchr::memchr(0, bytes) {
            None => Ok(text),
            Some(at) => Err(bad(at, 1)),
        },
        Err(error) => Err(bad(error.valid_up_to(), error.error_len().unwrap_or(1))),
    }
}

/// A list of values of type `item`.
fn list(item: &ColumnType, values: Vec<ScalarValue>) -> Result<ScalarValue> {
    let length = values.len();
    let array = arrow::array::ListArray::new(
        Arc::new(item.field("item", true)),
        OffsetBuffer::from_lengths([length]),
        column_of(&item.arrow(), values)?,
        None,
    );
    Ok(ScalarValue::List(Arc::new(array)))
}

fn column_of(data_type: &DataType, values: Vec<ScalarValue>) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    ScalarValue::iter_to_array(values).map_err(|error| {
        Diagnostic::error(SqlState::INTERNAL_ERROR, format!("could not build a value: {error}"))
    })
}

/// Reads a map from a JSON object; its values are read as text of the value type.
fn map(key: &ColumnType, value: &ColumnType, input: &str, zone: Zone) -> Result<ScalarValue> {
    let bad = || {
        Diagnostic::error(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type jsonb: \"{input}\""),
        )
        .detail("A JSON object is expected.")
    };
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(input).map_err(|_| bad())?;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (name, member) in members {
        keys.push(text(key, &name, zone)?);
        values.push(match member {
            serde_json::Value::Null => null(value)?,
            serde_json::Value::String(member) => text(value, &member, zone)?,
            other => text(value, &other.to_string(), zone)?,
        });
    }
    let column = ColumnType::Map(Box::new(key.clone()), Box::new(value.clone()));
    let DataType::Map(entries, _) = column.arrow() else { return Err(bad()) };
    let DataType::Struct(fields) = entries.data_type() else { return Err(bad()) };
    let length = keys.len();
    let columns = vec![column_of(&key.arrow(), keys)?, column_of(&value.arrow(), values)?];
    let array = MapArray::new(
        Arc::clone(&entries),
        OffsetBuffer::from_lengths([length]),
        StructArray::new(fields.clone(), columns, None),
        None,
        false,
    );
    Ok(ScalarValue::Map(Arc::new(array)))
}

/// 22P02 with PostgreSQL's message.
fn invalid(type_name: &str, text: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

#[cfg(test)]
mod tests;
