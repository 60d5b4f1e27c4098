//! Binary values of the extended protocol as the text PostgreSQL would show.
//!
//! One expected result then serves both protocols, and a wrong binary encoder shows.

use std::error::Error;
use std::fmt::Write as _;

use chrono::{Duration, NaiveDate};
use postgres_types::{FromSql, Kind, Type};

/// A value in the protocol's binary format, with its type.
pub struct Raw(pub String);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(ty: &Type, bytes: &'a [u8]) -> Result<Raw, Box<dyn Error + Sync + Send>> {
        Ok(Raw(render(ty, bytes)?))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

type Fallible<T> = Result<T, Box<dyn Error + Sync + Send>>;

fn render(ty: &Type, bytes: &[u8]) -> Fallible<String> {
    if let Kind::Array(element) = ty.kind() {
        return array(element, bytes);
    }
    Ok(match *ty {
        Type::BOOL => if bool::from_sql(ty, bytes)? { "t" } else { "f" }.to_owned(),
        Type::INT2 => i16::from_sql(ty, bytes)?.to_string(),
        Type::INT4 => i32::from_sql(ty, bytes)?.to_string(),
        Type::INT8 => i64::from_sql(ty, bytes)?.to_string(),
        Type::OID => u32::from_sql(ty, bytes)?.to_string(),
        Type::FLOAT4 => {
            let value = f32::from_sql(ty, bytes)?;
            float(f64::from(value), format!("{value:e}"), 6)
        }
        Type::FLOAT8 => {
            let value = f64::from_sql(ty, bytes)?;
            float(value, format!("{value:e}"), 15)
        }
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => {
            String::from_utf8(bytes.to_vec())?
        }
        Type::JSONB => match bytes.split_first() {
            Some((1, rest)) => String::from_utf8(rest.to_vec())?,
            _ => return Err("jsonb without its version byte".into()),
        },
        Type::CHAR => String::from_utf8(bytes.to_vec())?,
        Type::BYTEA => bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }),
        Type::UUID => {
            let hex: String = fixed::<16>(bytes)?.iter().map(|b| format!("{b:02x}")).collect();
            [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
        }
        Type::DATE => date(i64::from(i32::from_be_bytes(fixed(bytes)?))),
        Type::TIME => clock(i64::from_be_bytes(fixed(bytes)?)),
        Type::TIMESTAMP => timestamp(i64::from_be_bytes(fixed(bytes)?)),
        Type::TIMESTAMPTZ => timestamp(i64::from_be_bytes(fixed(bytes)?)) + "+00",
        Type::INTERVAL => interval(bytes)?,
        Type::NUMERIC => numeric(bytes)?,
        _ => return Err(format!("no text form for type {ty}").into()),
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Fallible<[u8; N]> {
    bytes.try_into().map_err(|_| format!("{} bytes where {N} are due", bytes.len()).into())
}

/// PostgreSQL writes the shortest digits that read back as the same value (as Rust does), plain
/// when the exponent lies in -4 .. `digits`, otherwise with a two-digit exponent.
fn float(value: f64, scientific: String, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..digits).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let all: String = mantissa.chars().filter(|c| *c != '.').collect();
    let point = exponent + 1;
    if point <= 0 {
        return format!("{sign}0.{}{all}", "0".repeat(point.unsigned_abs() as usize));
    }
    let point = point as usize;
    if all.len() <= point {
        return format!("{sign}{all}{}", "0".repeat(point - all.len()));
    }
    format!("{sign}{}.{}", &all[..point], &all[point..])
}

fn date(days: i64) -> String {
    match i32::try_from(days) {
        Ok(i32::MAX) => return "infinity".to_owned(),
        Ok(i32::MIN) => return "-infinity".to_owned(),
        _ => {}
    }
    let epoch = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default();
    match Duration::try_days(days).and_then(|days| epoch.checked_add_signed(days)) {
        Some(date) => date.format("%Y-%m-%d").to_string(),
        None => format!("{days} days after 2000-01-01"),
    }
}

fn clock(microseconds: i64) -> String {
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if rest == 0 { text } else { format!("{text}.{rest:06}").trim_end_matches('0').to_owned() }
}

fn timestamp(microseconds: i64) -> String {
    match microseconds {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    const DAY: i64 = 86_400_000_000;
    format!("{} {}", date(microseconds.div_euclid(DAY)), clock(microseconds.rem_euclid(DAY)))
}

/// `interval_out` with `IntervalStyle = postgres`.
fn interval(bytes: &[u8]) -> Fallible<String> {
    let bytes: [u8; 16] = fixed(bytes)?;
    let time = i64::from_be_bytes(fixed(&bytes[..8])?);
    let days = i32::from_be_bytes(fixed(&bytes[8..12])?);
    let months = i32::from_be_bytes(fixed(&bytes[12..])?);
    let mut parts: Vec<String> = Vec::new();
    let mut after_negative = false;
    for (amount, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if amount != 0 {
            let plus = if after_negative && amount > 0 { "+" } else { "" };
            let plural = if amount == 1 { "" } else { "s" };
            parts.push(format!("{plus}{amount} {unit}{plural}"));
            after_negative = amount < 0;
        }
    }
    if time != 0 || parts.is_empty() {
        let sign = match (time < 0, after_negative) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        parts.push(format!("{sign}{}", clock(time.checked_abs().ok_or("interval overflow")?)));
    }
    Ok(parts.join(" "))
}

/// Digits to the base 10,000 behind number, weight, sign and displayed scale, 16 bits each.
fn numeric(bytes: &[u8]) -> Fallible<String> {
    let words: Vec<i32> = bytes
        .chunks(2)
        .map(|w| fixed(w).map(u16::from_be_bytes).map(i32::from))
        .collect::<Result<_, _>>()?;
    let [count, weight, sign, scale, digits @ ..] = words.as_slice() else {
        return Err("numeric without its head".into());
    };
    match sign {
        0 | 0x4000 => {}
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        0xF000 => return Ok("-Infinity".to_owned()),
        _ => return Err(format!("numeric sign {sign:#x}").into()),
    }
    if digits.len() != usize::try_from(*count)? || digits.iter().any(|d| *d > 9999) {
        return Err("numeric digits".into());
    }
    // The weight is a signed 16-bit number.
    let weight = if *weight >= 0x8000 { weight - 0x10000 } else { *weight };
    let digit = |place: i32| {
        usize::try_from(weight - place).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0)
    };
    let whole: String = (0..=weight.max(0)).rev().map(|p| format!("{:04}", digit(p))).collect();
    let whole = whole.trim_start_matches('0');
    let mut text = if *sign == 0x4000 { "-" } else { "" }.to_owned();
    text.push_str(if whole.is_empty() { "0" } else { whole });
    let scale = usize::try_from(*scale)?;
    if scale > 0 {
        let places = i32::try_from(scale.div_ceil(4))?;
        let fraction: String = (1..=places).map(|p| format!("{:04}", digit(-p))).collect();
        text.push('.');
        text.push_str(&fraction[..scale]);
    }
    Ok(text)
}

/// `array_out` of one dimension.
fn array(element: &Type, bytes: &[u8]) -> Fallible<String> {
    let word = |at: usize| -> Fallible<i32> {
        Ok(i32::from_be_bytes(fixed(bytes.get(at..at + 4).ok_or("array is cut off")?)?))
    };
    match word(0)? {
        0 => return Ok("{}".to_owned()),
        1 => {}
        dimensions => return Err(format!("array of {dimensions} dimensions").into()),
    }
    let mut at = 20;
    let mut items = Vec::new();
    for _ in 0..word(12)? {
        let length = word(at)?;
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            items.push("NULL".to_owned());
            continue;
        };
        let item = render(element, bytes.get(at..at + length).ok_or("array is cut off")?)?;
        at += length;
        let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace();
        if item.is_empty() || item.eq_ignore_ascii_case("null") || item.contains(special) {
            items.push(format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")));
        } else {
            items.push(item);
        }
    }
    Ok(format!("{{{}}}", items.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[i16]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn binary_values_read_as_postgresql_shows_them() {
        let check = |ty: Type, bytes: &[u8], text: &str| {
            assert_eq!(render(&ty, bytes).expect("valid"), text, "{ty}");
        };
        check(Type::FLOAT8, &1e20f64.to_be_bytes(), "1e+20");
        check(Type::FLOAT8, &123456.5f64.to_be_bytes(), "123456.5");
        check(Type::FLOAT8, &(-0.001f64).to_be_bytes(), "-0.001");
        check(Type::FLOAT8, &1e-5f64.to_be_bytes(), "1e-05");
        check(Type::FLOAT8, &100f64.to_be_bytes(), "100");
        check(Type::FLOAT4, &0.1f32.to_be_bytes(), "0.1");
        check(Type::TIMESTAMPTZ, &0i64.to_be_bytes(), "2000-01-01 00:00:00+00");
        check(Type::TIMESTAMPTZ, &(-1_500_000i64).to_be_bytes(), "1999-12-31 23:59:58.5+00");
        check(Type::DATE, &60i32.to_be_bytes(), "2000-03-01");
        check(Type::NUMERIC, &words(&[2, 0, 0, 2, 12, 3400]), "12.34");
        check(Type::NUMERIC, &words(&[1, 1, 0x4000, 0, 5]), "-50000");
        check(Type::NUMERIC, &words(&[1, -1, 0, 4, 1]), "0.0001");
        check(Type::NUMERIC, &words(&[0, 0, 0, 3]), "0.000");
        check(Type::BYTEA, &[0, 255], "\\x00ff");
        let mut day = 3_600_000_000i64.to_be_bytes().to_vec();
        day.extend(words(&[0, 2, 0, 14]));
        check(Type::INTERVAL, &day, "1 year 2 mons 2 days 01:00:00");
    }
}
