//! Values from PostgreSQL's binary format (the `typreceive` functions of PostgreSQL 15).

use arrow::datatypes::IntervalMonthDayNano;
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;

use super::{Result, jsonb, list, map, null, number, utf8, varchar};
use crate::pg::types::{PgType, item_of, oid};
use crate::pg::zone::Zone;

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_US: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
const EPOCH_DAYS: i32 = 10_957;

fn bad() -> Diagnostic {
    Diagnostic::error(SqlState::INVALID_BINARY_REPRESENTATION, "incorrect binary data format")
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| bad())
}

/// Reads a value of type `column` from its binary form. `wire` is the type that the sender says
/// the bytes have, which matters where several share a column type (`oid` and `bigint`).
pub fn binary(column: &ColumnType, wire: u32, bytes: &[u8]) -> Result<ScalarValue> {
    Ok(match column {
        ColumnType::Boolean => ScalarValue::Boolean(Some(fixed::<1>(bytes)?[0] != 0)),
        ColumnType::SmallInt => ScalarValue::Int16(Some(i16::from_be_bytes(fixed(bytes)?))),
        ColumnType::Integer => ScalarValue::Int32(Some(i32::from_be_bytes(fixed(bytes)?))),
        ColumnType::BigInt if wire == oid::OID => {
            ScalarValue::Int64(Some(i64::from(u32::from_be_bytes(fixed(bytes)?))))
        }
        ColumnType::BigInt => ScalarValue::Int64(Some(i64::from_be_bytes(fixed(bytes)?))),
        ColumnType::Real => ScalarValue::Float32(Some(f32::from_be_bytes(fixed(bytes)?))),
        ColumnType::Double => ScalarValue::Float64(Some(f64::from_be_bytes(fixed(bytes)?))),
        ColumnType::Numeric { precision, scale } => {
            ScalarValue::Decimal128(Some(numeric(bytes, *precision, *scale)?), *precision, *scale)
        }
        ColumnType::Text => ScalarValue::Utf8View(Some(utf8(bytes)?.to_string())),
        ColumnType::Varchar(n) => {
            ScalarValue::Utf8View(Some(varchar(utf8(bytes)?, *n)?.to_string()))
        }
        ColumnType::Bytea => ScalarValue::Binary(Some(bytes.to_vec())),
        ColumnType::Uuid => ScalarValue::FixedSizeBinary(16, Some(fixed::<16>(bytes)?.to_vec())),
        ColumnType::Timestamptz => {
            ScalarValue::TimestampMicrosecond(Some(timestamp(bytes)?), Some(UTC.into()))
        }
        ColumnType::Timestamp => ScalarValue::TimestampMicrosecond(Some(timestamp(bytes)?), None),
        ColumnType::Date => ScalarValue::Date32(Some(date(bytes)?)),
        ColumnType::Time => ScalarValue::Time64Microsecond(Some(time(bytes)?)),
        ColumnType::Interval => ScalarValue::IntervalMonthDayNano(Some(interval(bytes)?)),
        ColumnType::Jsonb => ScalarValue::Utf8View(Some(jsonb(json_text(wire, bytes)?)?)),
        ColumnType::Array(item) => array(item, bytes)?,
        ColumnType::Map(key, value) => map(key, value, json_text(wire, bytes)?, Zone::UTC)?,
    })
}

/// `jsonb` has a version byte in front of its text, `json` does not.
fn json_text(wire: u32, bytes: &[u8]) -> Result<&str> {
    match bytes {
        _ if wire == oid::JSON => utf8(bytes),
        [1, text @ ..] => utf8(text),
        [version, ..] => Err(Diagnostic::error(
            SqlState::INVALID_BINARY_REPRESENTATION,
            format!("unsupported jsonb version number {version}"),
        )),
        [] => Err(bad()),
    }
}

fn timestamp(bytes: &[u8]) -> Result<i64> {
    match i64::from_be_bytes(fixed(bytes)?) {
        infinite @ (i64::MIN | i64::MAX) => Ok(infinite),
        us => us.checked_add(EPOCH_US).ok_or_else(|| {
            Diagnostic::error(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
        }),
    }
}

fn date(bytes: &[u8]) -> Result<i32> {
    match i32::from_be_bytes(fixed(bytes)?) {
        infinite @ (i32::MIN | i32::MAX) => Ok(infinite),
        days => days.checked_add(EPOCH_DAYS).ok_or_else(|| {
            Diagnostic::error(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range")
        }),
    }
}

fn time(bytes: &[u8]) -> Result<i64> {
    match i64::from_be_bytes(fixed(bytes)?) {
        us @ 0..=86_400_000_000 => Ok(us),
        _ => Err(Diagnostic::error(SqlState::DATETIME_FIELD_OVERFLOW, "time out of range")),
    }
}

fn interval(bytes: &[u8]) -> Result<IntervalMonthDayNano> {
    let bytes: [u8; 16] = fixed(bytes)?;
    let (us, days_months) = bytes.split_at(8);
    let (days, months) = days_months.split_at(4);
    let nanoseconds = i64::from_be_bytes(fixed(us)?).checked_mul(1000).ok_or_else(|| {
        Diagnostic::error(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
    })?;
    Ok(IntervalMonthDayNano::new(
        i32::from_be_bytes(fixed(months)?),
        i32::from_be_bytes(fixed(days)?),
        nanoseconds,
    ))
}

fn numeric(bytes: &[u8], precision: u8, scale: i8) -> Result<i128> {
    let mut input = Input(bytes);
    let groups = u16::from_be_bytes(input.take()?);
    let weight = i32::from(i16::from_be_bytes(input.take()?));
    let sign = u16::from_be_bytes(input.take()?);
    let _display_scale = input.take::<2>()?;
    let negative = match sign {
        0 => false,
        0x4000 => true,
        0xC000 => return Err(number::no_special("NaN")),
        0xD000 => return Err(number::no_special("Infinity")),
        0xF000 => return Err(number::no_special("-Infinity")),
        _ => {
            return Err(Diagnostic::error(
                SqlState::INVALID_BINARY_REPRESENTATION,
                "invalid sign in external \"numeric\" value",
            ));
        }
    };
    if input.0.len() != usize::from(groups) * 2 {
        return Err(bad());
    }
    let mut digits = Vec::with_capacity(usize::from(groups) * 4);
    for _ in 0..groups {
        let group = u16::from_be_bytes(input.take()?);
        if group > 9999 {
            return Err(Diagnostic::error(
                SqlState::INVALID_BINARY_REPRESENTATION,
                "invalid digit in external \"numeric\" value",
            ));
        }
        digits.extend(
            [group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|d| b'0' + d as u8),
        );
    }
    let exponent = (weight + 1 - i32::from(groups)) * 4;
    number::scaled(&digits, negative, exponent, precision, scale)
}

fn array(item: &ColumnType, bytes: &[u8]) -> Result<ScalarValue> {
    let mut input = Input(bytes);
    let dimensions = i32::from_be_bytes(input.take()?);
    let _has_nulls = input.take::<4>()?;
    let wire = u32::from_be_bytes(input.take()?);
    let expected = PgType::of(item).oid;
    let compatible = wire == expected
        || super::super::types::parameter_type(wire)
            .ok()
            .flatten()
            .is_some_and(|sent| sent.arrow() == item.arrow());
    if !compatible || item_of(wire).is_some() {
        return Err(Diagnostic::error(
            SqlState::DATATYPE_MISMATCH,
            format!("binary data has array element type {wire} instead of expected {expected}"),
        ));
    }
    match dimensions {
        0 => return list(item, Vec::new()),
        1 => {}
        2..=6 => {
            return Err(Diagnostic::unsupported(
                "arrays of several dimensions are only accepted as text",
            ));
        }
        _ => return Err(bad()),
    }
    let length = i32::from_be_bytes(input.take()?);
    let _lower_bound = input.take::<4>()?;
    // Each element takes at least the four bytes of its length: no larger count can be true.
    let length = usize::try_from(length).map_err(|_| bad())?;
    if length > input.0.len() / 4 {
        return Err(bad());
    }
    let mut values = Vec::with_capacity(length);
    for _ in 0..length {
        values.push(match i32::from_be_bytes(input.take()?) {
            -1 => null(item)?,
            size => {
                let size = usize::try_from(size).map_err(|_| bad())?;
                let (value, rest) = input.0.split_at_checked(size).ok_or_else(bad)?;
                input.0 = rest;
                binary(item, wire, value)?
            }
        });
    }
    if !input.0.is_empty() {
        return Err(bad());
    }
    list(item, values)
}

/// Bytes not read yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(bad)?;
        self.0 = rest;
        Ok(*head)
    }
}
