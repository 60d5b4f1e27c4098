//! Booleans, numbers, byte strings and UUIDs from text.

use auspex_plan::{Diagnostic, SqlState};

use super::{Result, invalid};

/// `boolean`: any unambiguous beginning of true/false/yes/no/on/off, or 1/0.
pub fn boolean(text: &str) -> Result<bool> {
    let word = text.trim_ascii().to_ascii_lowercase();
    let starts = |full: &str, shortest: usize| word.len() >= shortest && full.starts_with(&word);
    if starts("true", 1) || starts("yes", 1) || word == "on" || word == "1" {
        Ok(true)
    } else if starts("false", 1) || starts("no", 1) || starts("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(invalid("boolean", text))
    }
}

/// A whole number as 64 bits, `None` when it needs more; an error when it is none.
fn whole(text: &str, type_name: &str) -> Result<Option<i64>> {
    let digits = text.trim_ascii();
    let (negative, digits) = match digits.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid(type_name, text));
    }
    let mut value = 0i64;
    for digit in digits {
        let digit = i64::from(digit - b'0');
        let next = value
            .checked_mul(10)
            .and_then(|v| if negative { v.checked_sub(digit) } else { v.checked_add(digit) });
        match next {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn out_of_range(text: &str, type_name: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

/// `smallint`.
pub fn int2(text: &str) -> Result<i16> {
    whole(text, "smallint")?
        .and_then(|v| i16::try_from(v).ok())
        .ok_or_else(|| out_of_range(text, "smallint"))
}

/// `integer`.
pub fn int4(text: &str) -> Result<i32> {
    whole(text, "integer")?
        .and_then(|v| i32::try_from(v).ok())
        .ok_or_else(|| out_of_range(text, "integer"))
}

/// `bigint`.
pub fn int8(text: &str) -> Result<i64> {
    whole(text, "bigint")?.ok_or_else(|| out_of_range(text, "bigint"))
}

/// `double precision`.
pub fn float8(text: &str) -> Result<f64> {
    let word = text.trim_ascii();
    let value: f64 = word.parse().map_err(|_| invalid("double precision", text))?;
    check_float(word, value.is_infinite(), value == 0.0, "double precision")?;
    Ok(value)
}

/// `real`.
pub fn float4(text: &str) -> Result<f32> {
    let word = text.trim_ascii();
    let value: f32 = word.parse().map_err(|_| invalid("real", text))?;
    check_float(word, value.is_infinite(), value == 0.0, "real")?;
    Ok(value)
}

/// Refuses digits that became infinite or zero by rounding.
fn check_float(word: &str, infinite: bool, zero: bool, type_name: &str) -> Result<()> {
    let digits = word.split(['e', 'E']).next().unwrap_or(word);
    let written_as_number = word.bytes().any(|b| b.is_ascii_digit());
    let overflow = infinite && written_as_number;
    let underflow = zero && digits.bytes().any(|b| (b'1'..=b'9').contains(&b));
    if overflow || underflow {
        return Err(Diagnostic::error(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{word}\" is out of range for type {type_name}"),
        ));
    }
    Ok(())
}

/// `numeric(precision, scale)` as a whole number of `10^-scale`; digits behind the scale are
/// rounded half away from zero.
pub fn numeric(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let word = text.trim_ascii();
    let (negative, body) = match word.as_bytes() {
        [b'-', ..] => (true, &word[1..]),
        [b'+', ..] => (false, &word[1..]),
        _ => (false, word),
    };
    if ["nan", "inf", "infinity"].iter().any(|special| body.eq_ignore_ascii_case(special)) {
        return Err(no_special(word));
    }
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let exponent: i32 = exponent.parse().map_err(|_| invalid("numeric", text))?;
            (mantissa, exponent)
        }
        None => (body, 0),
    };
    let (left, right) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = left.bytes().chain(right.bytes()).all(|b| b.is_ascii_digit());
    if !all_digits || (left.is_empty() && right.is_empty()) || exponent.abs() > 100_000 {
        return Err(invalid("numeric", text));
    }
    let digits: Vec<u8> = left.bytes().chain(right.bytes()).collect();
    let right = i32::try_from(right.len()).map_err(|_| invalid("numeric", text))?;
    scaled(&digits, negative, exponent - right, precision, scale)
}

/// NaN and the infinities, which the decimal type of columns cannot hold.
pub(super) fn no_special(shown: &str) -> Diagnostic {
    Diagnostic::unsupported(format!("numeric value {shown} cannot be stored"))
        .hint("Use double precision for NaN and infinities.")
}

/// `digits * 10^exponent` as a whole number of `10^-scale`. `digits` are ASCII.
pub(super) fn scaled(
    digits: &[u8],
    negative: bool,
    exponent: i32,
    precision: u8,
    scale: i8,
) -> Result<i128> {
    let overflow = || {
        Diagnostic::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").detail(
            format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value \
                 less than 10^{}.",
                i32::from(precision) - i32::from(scale)
            ),
        )
    };
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    let digits = &digits[zeros..];
    if digits.is_empty() {
        return Ok(0);
    }
    let shift = exponent.saturating_add(i32::from(scale));
    let kept = if shift < 0 { digits.len() as i64 + i64::from(shift) } else { digits.len() as i64 };
    let mut value: u128 = 0;
    for digit in &digits[..kept.max(0) as usize] {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u128::from(digit - b'0')))
            .ok_or_else(overflow)?;
    }
    if kept >= 0 && digits.get(kept as usize).is_some_and(|d| *d >= b'5') {
        value += 1;
    }
    for _ in 0..shift {
        value = value.checked_mul(10).ok_or_else(overflow)?;
    }
    if value >= 10u128.pow(u32::from(precision.min(38))) {
        return Err(overflow());
    }
    let value = value as i128;
    Ok(if negative { -value } else { value })
}

/// `bytea` in hex (`\x00ff`) or escape (`a\000b`) form.
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    let error = |message: String| Diagnostic::error(SqlState::INVALID_TEXT_REPRESENTATION, message);
    let bytes = text.as_bytes();
    if let Some(digits) = bytes.strip_prefix(b"\\x") {
        let mut out = Vec::with_capacity(digits.len() / 2);
        let mut high: Option<u8> = None;
        for digit in digits {
            let Some(nibble) = (*digit as char).to_digit(16) else {
                if digit.is_ascii_whitespace() && high.is_none() {
                    continue;
                }
                let shown = String::from_utf8_lossy(std::slice::from_ref(digit)).into_owned();
                return Err(error(format!("invalid hexadecimal digit: \"{shown}\"")));
            };
            match high.take() {
                None => high = Some(nibble as u8),
                Some(high) => out.push(high << 4 | nibble as u8),
            }
        }
        if high.is_some() {
            return Err(error("invalid hexadecimal data: odd number of digits".into()));
        }
        return Ok(out);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return Ok(out),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => return Err(error("invalid input syntax for type bytea".into())),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        }
    }
}

/// `uuid`: 32 hexadecimal digits, a hyphen allowed after each four, braces allowed around.
pub fn uuid(text: &str) -> Result<[u8; 16]> {
    let body =
        text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text).as_bytes();
    let mut out = [0u8; 16];
    let mut digits = 0;
    for byte in body {
        if *byte == b'-' && digits % 4 == 0 && digits > 0 && digits < 32 {
            continue;
        }
        let nibble = (*byte as char).to_digit(16).ok_or_else(|| invalid("uuid", text))? as u8;
        let slot = out.get_mut(digits / 2).ok_or_else(|| invalid("uuid", text))?;
        *slot = *slot << 4 | nibble;
        digits += 1;
    }
    if digits == 32 { Ok(out) } else { Err(invalid("uuid", text)) }
}
