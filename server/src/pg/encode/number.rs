//! Text of numbers as PostgreSQL prints them.

use std::fmt::Write;

use arrow::datatypes::i256;
use bytes::{BufMut, BytesMut};

/// An integer.
#[inline]
pub(super) fn integer<I: itoa::Integer>(value: I, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `double precision`: shortest digits, with an exponent from 1e15 up and below 1e-4.
pub(super) fn float8(value: f64, float_digits: i32, out: &mut BytesMut) {
    if special(value, out) {
        return;
    }
    if float_digits <= 0 {
        return rounded(value, (15 + float_digits).max(1) as usize, out);
    }
    let size = value.abs();
    if (1e-4..1e15).contains(&size) {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.put_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else {
        exponent(format_args!("{value:e}"), out);
    }
}

/// `real`: shortest digits, with an exponent from 1e6 up and below 1e-4.
pub(super) fn float4(value: f32, float_digits: i32, out: &mut BytesMut) {
    if special(f64::from(value), out) {
        return;
    }
    if float_digits <= 0 {
        return rounded(f64::from(value), (6 + float_digits).max(1) as usize, out);
    }
    let size = value.abs();
    if (1e-4..1e6).contains(&size) {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.put_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else {
        exponent(format_args!("{value:e}"), out);
    }
}

/// Zero, infinities and NaN; false for all other numbers.
fn special(value: f64, out: &mut BytesMut) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value.is_infinite() {
        if value > 0.0 { b"Infinity" } else { b"-Infinity" }
    } else if value == 0.0 {
        if value.is_sign_negative() { b"-0" } else { b"0" }
    } else {
        return false;
    };
    out.put_slice(text);
    true
}

/// C's `%g` exponent: a sign and at least two digits.
fn exponent(text: std::fmt::Arguments<'_>, out: &mut BytesMut) {
    let start = out.len();
    // Writing into a growing buffer cannot fail.
    let _ = out.write_fmt(text);
    let written = &out[start..];
    let Some(e) = written.iter().position(|b| *b == b'e') else { return };
    let tail = written[e + 1..].to_vec();
    out.truncate(start + e + 1);
    let (sign, digits) = match tail.split_first() {
        Some((b'-', digits)) => (b'-', digits),
        _ => (b'+', tail.as_slice()),
    };
    out.put_u8(sign);
    if digits.len() < 2 {
        out.put_u8(b'0');
    }
    out.put_slice(digits);
}

/// `printf("%.*g", digits, value)`.
fn rounded(value: f64, digits: usize, out: &mut BytesMut) {
    let scientific = format!("{:.*e}", digits - 1, value);
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trim = |text: &str| -> String {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            text.to_string()
        }
    };
    if power < -4 || power >= digits as i32 {
        exponent(format_args!("{}e{power}", trim(mantissa)), out);
    } else {
        let decimals = (digits as i32 - 1 - power).max(0) as usize;
        out.put_slice(trim(&format!("{value:.decimals$}")).as_bytes());
    }
}

/// `numeric`: all digits behind the point that the scale asks for.
pub(super) fn numeric(value: i128, scale: i8, out: &mut BytesMut) {
    if value < 0 {
        out.put_u8(b'-');
    }
    decimal(itoa::Buffer::new().format(value.unsigned_abs()), scale, out);
}

/// `numeric` beyond 38 digits.
pub(super) fn big_numeric(value: i256, scale: i8, out: &mut BytesMut) {
    let text = value.to_string();
    match text.strip_prefix('-') {
        Some(digits) => {
            out.put_u8(b'-');
            decimal(digits, scale, out);
        }
        None => decimal(&text, scale, out),
    }
}

fn decimal(digits: &str, scale: i8, out: &mut BytesMut) {
    if scale <= 0 {
        out.put_slice(digits.as_bytes());
        if digits != "0" {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    }
    let scale = scale.unsigned_abs() as usize;
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.put_slice(whole.as_bytes());
        out.put_u8(b'.');
        out.put_slice(fraction.as_bytes());
    } else {
        out.put_slice(b"0.");
        out.put_bytes(b'0', scale - digits.len());
        out.put_slice(digits.as_bytes());
    }
}

/// Binary `numeric`: base-10000 digits around the point.
pub(super) fn numeric_binary(value: i128, scale: i8, out: &mut BytesMut) {
    decimal_binary(itoa::Buffer::new().format(value.unsigned_abs()), value < 0, scale, out);
}

/// Binary `numeric` beyond 38 digits.
pub(super) fn big_numeric_binary(value: i256, scale: i8, out: &mut BytesMut) {
    let text = value.to_string();
    match text.strip_prefix('-') {
        Some(digits) => decimal_binary(digits, true, scale, out),
        None => decimal_binary(&text, false, scale, out),
    }
}

fn decimal_binary(digits: &str, negative: bool, scale: i8, out: &mut BytesMut) {
    let scale = i32::from(scale);
    // Digits in front of the point: the power of ten of the first digit, plus one.
    let whole = digits.len() as i32 - scale;
    // Align the first base-10000 digit to the point.
    let padding = (4 - whole.rem_euclid(4)) % 4;
    let weight = (whole + padding) / 4 - 1;
    let mut groups: Vec<i16> = Vec::with_capacity(digits.len() / 4 + 2);
    let mut group = 0i16;
    let mut filled = padding;
    for digit in digits.bytes() {
        group = group * 10 + i16::from(digit - b'0');
        filled += 1;
        if filled == 4 {
            groups.push(group);
            (group, filled) = (0, 0);
        }
    }
    if filled > 0 {
        for _ in filled..4 {
            group *= 10;
        }
        groups.push(group);
    }
    let leading = groups.iter().take_while(|g| **g == 0).count();
    let trailing = groups.iter().rev().take_while(|g| **g == 0).count();
    let (groups, weight) = if leading == groups.len() {
        (&groups[..0], 0)
    } else {
        (&groups[leading..groups.len() - trailing], weight - leading as i32)
    };
    out.put_i16(groups.len() as i16);
    out.put_i16(weight as i16);
    out.put_u16(if negative { 0x4000 } else { 0 });
    out.put_i16(scale.max(0) as i16);
    for group in groups {
        out.put_i16(*group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn double_precision_as_postgres_prints_it() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (123456789012345.0, "123456789012345"),
            (999999999999999.9, "999999999999999.9"),
            (1e15, "1e+15"),
            (1.5e15, "1.5e+15"),
            (123456789012345678.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.000012345, "1.2345e-05"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (1.0 / 3.0, "0.3333333333333333"),
        ] {
            assert_eq!(text(|out| float8(value, 1, out)), expected);
        }
        assert_eq!(text(|out| float8(1.0 / 3.0, 0, out)), "0.333333333333333");
        assert_eq!(text(|out| float8(0.1 + 0.2, 0, out)), "0.3");
        assert_eq!(text(|out| float8(1e15, 0, out)), "1e+15");
        assert_eq!(text(|out| float8(1234.5, -13, out)), "1.2e+03");
    }

    #[test]
    fn real_as_postgres_prints_it() {
        for (value, expected) in [
            (0.1f32, "0.1"),
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (16777216.0, "1.6777216e+07"),
            (1e-5, "1e-05"),
            (3.4028235e38, "3.4028235e+38"),
        ] {
            assert_eq!(text(|out| float4(value, 1, out)), expected);
        }
    }

    #[test]
    fn numeric_keeps_its_scale() {
        for (value, scale, expected) in [
            (12345, 2, "123.45"),
            (-5, 2, "-0.05"),
            (0, 3, "0.000"),
            (100, 0, "100"),
            (7, -2, "700"),
            (0, -2, "0"),
            (i128::MAX, 0, "170141183460469231731687303715884105727"),
        ] {
            assert_eq!(text(|out| numeric(value, scale, out)), expected);
        }
    }

    #[test]
    fn binary_numeric_as_numeric_send_writes_it() {
        // select encode(numeric_send(x), 'hex') on PostgreSQL 15.
        for (value, scale, expected) in [
            (0, 0, "0000000000000000"),
            (0, 2, "0000000000000002"),
            (1, 0, "00010000000000000001"),
            (-1, 0, "00010000400000000001"),
            (1234567, 0, "0002000100000000007b11d7"),
            (12345, 2, "0002000000000002007b1194"),
            (10000, 0, "00010001000000000001"),
            (1, 4, "0001ffff000000040001"),
            (1, 5, "0001fffe0000000503e8"),
            (7, -4, "00010001000000000007"),
        ] {
            let mut out = BytesMut::new();
            numeric_binary(value, scale, &mut out);
            let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, expected, "{value} {scale}");
        }
    }
}
