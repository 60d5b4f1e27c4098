//! Single values in PostgreSQL's text and binary forms. Rare types are read by the protocol layer.

use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;

use crate::pg::decode;
use crate::pg::types::PgType;
use crate::pg::zone::Zone;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's binary timestamps start.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// A value that is not text and not null.
#[derive(Debug)]
pub(super) enum Value {
    Bool(bool),
    /// Integers; days of a date; microseconds of a timestamp.
    Int(i64),
    Float4(f32),
    Float8(f64),
    Numeric(i128),
    Uuid([u8; 16]),
    Other(ScalarValue),
}

impl Value {
    fn of(scalar: ScalarValue) -> Value {
        match scalar {
            ScalarValue::Boolean(Some(v)) => Value::Bool(v),
            ScalarValue::Int16(Some(v)) => Value::Int(v.into()),
            ScalarValue::Int32(Some(v)) => Value::Int(v.into()),
            ScalarValue::Int64(Some(v)) => Value::Int(v),
            ScalarValue::Float32(Some(v)) => Value::Float4(v),
            ScalarValue::Float64(Some(v)) => Value::Float8(v),
            ScalarValue::Date32(Some(v)) => Value::Int(v.into()),
            ScalarValue::TimestampMicrosecond(Some(v), _) => Value::Int(v),
            ScalarValue::Decimal128(Some(v), _, _) => Value::Numeric(v),
            ScalarValue::FixedSizeBinary(16, Some(bytes)) => match bytes.as_slice().try_into() {
                Ok(bytes) => Value::Uuid(bytes),
                Err(_) => Value::Other(ScalarValue::FixedSizeBinary(16, Some(bytes))),
            },
            other => Value::Other(other),
        }
    }
}

/// Reads a value of a type that has no parser of its own here.
pub(super) fn from_text(text: &str, kind: &ColumnType, zone: Zone) -> Result<Value, Diagnostic> {
    decode::text(kind, text, zone).map(Value::of)
}

/// Reads a value in PostgreSQL's binary form.
pub(super) fn from_binary(bytes: &[u8], kind: &ColumnType) -> Result<Value, Diagnostic> {
    let wire = PgType::of(kind);
    if usize::try_from(wire.length).is_ok_and(|length| bytes.len() < length) {
        let message = "insufficient data left in message";
        return Err(Diagnostic::error(SqlState::PROTOCOL_VIOLATION, message));
    }
    decode::binary(kind, wire.oid, bytes).map(Value::of)
}

/// A double in any plain decimal spelling that is neither infinite nor zero: those two may come
/// from rounding and are left to the complete parser.
pub(super) fn double(bytes: &[u8]) -> Option<f64> {
    matches!(bytes.first(), Some(b'0'..=b'9' | b'-')).then_some(())?;
    fast_float2::parse(bytes).ok().filter(|v: &f64| v.is_finite() && *v != 0.0)
}

/// As [`double`] for `real`.
pub(super) fn real(bytes: &[u8]) -> Option<f32> {
    matches!(bytes.first(), Some(b'0'..=b'9' | b'-')).then_some(())?;
    fast_float2::parse(bytes).ok().filter(|v: &f32| v.is_finite() && *v != 0.0)
}

/// Microseconds since 1970 of a binary timestamp; infinities are left to the complete reader.
pub(super) fn binary_timestamp(bytes: [u8; 8]) -> Option<i64> {
    let us = i64::from_be_bytes(bytes);
    if us == i64::MIN || us == i64::MAX { None } else { us.checked_add(EPOCH_2000_US) }
}

/// The text of bytes: UTF-8 without NUL.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Diagnostic> {
    let (valid, text) = match std::str::from_utf8(bytes) {
        Ok(text) => (bytes.len(), text),
        Err(error) => (error.valid_up_to(), ""),
    };
    let nul = if valid < 64 {
        bytes[..valid].iter().position(|b| *b == 0)
    } else {
        memchr::memchr(0, &bytes[..valid])
    };
    match nul {
        Some(at) => Err(invalid_bytes(&bytes[at..=at])),
        None if valid < bytes.len() => Err(invalid_bytes(&bytes[valid..])),
        None => Ok(text),
    }
}

/// PostgreSQL's message about the character that starts `bytes`.
fn invalid_bytes(bytes: &[u8]) -> Diagnostic {
    let len = match bytes[0] {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    let shown: Vec<String> = bytes.iter().take(len).map(|b| format!("0x{b:02x}")).collect();
    Diagnostic::error(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
    )
}

/// Microseconds since 1970 from the parts of an ISO timestamp.
#[inline]
pub(super) fn timestamp(
    (local, offset): (i64, Option<i64>),
    zoned: bool,
    zone: Zone,
) -> Option<i64> {
    if !zoned {
        // An offset is read and not used, as in PostgreSQL.
        return Some(local);
    }
    let offset = offset.unwrap_or_else(|| match zone {
        Zone::Fixed(seconds) => seconds.into(),
        _ => zone.offset_of_local(local.div_euclid(1_000_000)).into(),
    });
    Some(local - offset * 1_000_000)
}

/// A `numeric(precision, scale)` written as at most 18 digits with no more than `scale` of them
/// behind the point: nothing to round.
pub(super) fn plain_numeric(bytes: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 18 || scale < 0 || precision > 38 {
        return None;
    }
    let mut value = 0i64;
    let mut behind = None;
    for byte in digits {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'.' if behind.is_none() => {
                behind = Some(0);
                continue;
            }
            _ => return None,
        }
        behind = behind.map(|n: i8| n + 1);
    }
    let behind = behind.unwrap_or(0);
    if behind > scale || digits.len() == 1 && digits[0] == b'.' {
        return None;
    }
    let value = i128::from(value).checked_mul(10i128.checked_pow((scale - behind) as u32)?)?;
    if value >= 10i128.checked_pow(precision.into())? {
        return None;
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        for (bytes, message) in [
            (&b"a\xff"[..], "0xff"),
            (b"\xe9,b", "0xe9 0x2c 0x62"),
            (b"a\0b", "0x00"),
            (b"\xc3", "0xc3"),
        ] {
            assert_eq!(
                utf8(bytes).unwrap_err().message,
                format!("invalid byte sequence for encoding \"UTF8\": {message}")
            );
        }
        assert_eq!(utf8("é".as_bytes()), Ok("é"));
    }

    #[test]
    fn plain_numerics() {
        for (text, value) in [
            ("12.34", Some(123_400)),
            ("-0.0001", Some(-1)),
            ("7", Some(70_000)),
            ("7.", Some(70_000)),
            (".5", Some(5_000)),
            ("123456.7", None),
            ("1.00001", None),
            ("1e3", None),
            (".", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(plain_numeric(text.as_bytes(), 9, 4), value, "{text}");
        }
    }
}
