//! Literals: the text of numbers, durations, timestamps and strings to their values.

use auspex_plan::diagnostic::{Diagnostic, Span};
use chrono::{FixedOffset, NaiveDate, NaiveTime};
use pest::iterators::Pair;

use super::{Builder, Result, only};
use crate::ast::ExprKind;
use crate::codes;
use crate::syntax::Rule;

/// Units of durations with their nanoseconds.
const UNITS: &[(&str, i64)] = &[
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Builder<'_> {
    pub(super) fn literal(&self, pair: Pair<'_, Rule>) -> Result<ExprKind> {
        let pair = only(pair);
        let span = self.span(&pair);
        Ok(match pair.as_rule() {
            Rule::null => ExprKind::Null,
            Rule::boolean => ExprKind::Bool(pair.as_str() == "true"),
            Rule::string => ExprKind::Str(self.text(&pair)?),
            Rule::timestamp => ExprKind::Timestamp(timestamp(pair.as_str(), span)?),
            _ => number(pair.as_str()).map_err(|m| m.at(span))?,
        })
    }

    /// The text of a string literal, escapes resolved.
    pub(super) fn text(&self, pair: &Pair<'_, Rule>) -> Result<String> {
        let raw = pair.as_str();
        let quotes = if raw.len() >= 6 && raw.starts_with("\"\"\"") { 3 } else { 1 };
        let inside = &raw[quotes..raw.len() - quotes];
        let start = pair.as_span().start() + quotes;
        unescape(inside).map_err(|(from, to, message)| {
            Diagnostic::syntax(message)
                .code(codes::LITERAL)
                .hint("escapes are \\n \\t \\r \\0 \\\" \\' \\\\ and \\u{..}; a backslash is written \\\\")
                .at(self.source.span(start + from, start + to))
        })
    }
}

fn unescape(inside: &str) -> std::result::Result<String, (usize, usize, String)> {
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some((next, escape)) = chars.next() else {
            return Err((at, at + 1, "a string ends within an escape".into()));
        };
        match escape {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            '0' => text.push('\0'),
            '"' | '\'' | '\\' => text.push(escape),
            'u' => {
                let rest = &inside[next + 1..];
                let length = rest.find('}').map_or(0, |end| end + 1);
                let digits = rest[..length].strip_prefix('{').and_then(|d| d.strip_suffix('}'));
                let decoded = digits
                    .filter(|d| !d.starts_with('+'))
                    .and_then(|d| u32::from_str_radix(d, 16).ok())
                    .and_then(char::from_u32);
                let Some(decoded) = decoded else {
                    let message = "`\\u` must be followed by a code point in hex such as \\u{e9}";
                    return Err((at, next + 1, message.into()));
                };
                text.push(decoded);
                for _ in 0..rest[..length].chars().count() {
                    chars.next();
                }
            }
            other => {
                let end = next + other.len_utf8();
                return Err((at, end, format!("unknown escape `\\{other}`")));
            }
        }
    }
    Ok(text)
}

/// A number or duration; the caller adds the place.
pub(super) fn number(raw: &str) -> Result<ExprKind> {
    let plain: String = raw.chars().filter(|c| *c != '_').collect();
    let malformed = |message: String| Diagnostic::syntax(message).code(codes::LITERAL);
    if plain.bytes().all(|b| b.is_ascii_digit()) {
        return plain.parse().map(ExprKind::Int).map_err(|_| {
            malformed(format!("integer `{raw}` is out of range"))
                .hint("the greatest int is 9223372036854775807; write a float as `1e20`")
        });
    }
    let units = plain.trim_start_matches(|c: char| c.is_ascii_digit());
    if UNITS.iter().any(|(unit, _)| units.starts_with(unit)) {
        return duration(&plain, raw);
    }
    let numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    match plain.parse::<f64>() {
        Ok(value) if value.is_finite() && plain.bytes().all(numeric) => Ok(ExprKind::Float(value)),
        Ok(_) if plain.bytes().all(numeric) => {
            Err(malformed(format!("number `{raw}` is out of range")))
        }
        _ => {
            let digits = plain.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let hint = if plain.contains('.')
                && UNITS.iter().any(|(unit, _)| plain[digits..].starts_with(unit))
            {
                "durations are whole numbers: write 1s500ms instead of 1.5s"
            } else {
                "numbers are written 12, 1_000, 1.5, .5 or 1e5, durations 500ms or 1h30m"
            };
            Err(malformed(format!("`{raw}` is not a number or duration")).hint(hint))
        }
    }
}

fn duration(plain: &str, raw: &str) -> Result<ExprKind> {
    let malformed = |message: String| {
        Diagnostic::syntax(message)
            .code(codes::LITERAL)
            .hint("units are w d h m s ms us ns, greatest first, as in 1h30m")
    };
    let mut total: i64 = 0;
    let mut previous = i64::MAX;
    let mut rest = plain;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[digits..digits + letters];
        let size = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size);
        let (Some(size), true) = (size, digits > 0) else {
            return Err(malformed(format!("`{raw}` is not a duration")));
        };
        if size >= previous {
            return Err(malformed(format!("the units of duration `{raw}` do not descend")));
        }
        previous = size;
        let part = rest[..digits].parse::<i64>().ok().and_then(|n| n.checked_mul(size));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| malformed(format!("duration `{raw}` is out of range")))?;
        rest = &rest[digits + letters..];
    }
    Ok(ExprKind::Duration(total))
}

/// Microseconds since 1970 of `@date[Ttime][Z|offset]`.
fn timestamp(raw: &str, span: Span) -> Result<i64> {
    read_timestamp(&raw[1..]).ok_or_else(|| {
        Diagnostic::syntax(format!("`{raw}` is not a timestamp"))
            .code(codes::LITERAL)
            .hint("write @2024-01-31 or @2024-01-31T12:00:00.25+02:00 (at most six decimals)")
            .at(span)
    })
}

fn read_timestamp(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let sign = rest.find(['+', '-', 'Z']).unwrap_or(rest.len());
    let (time, offset) = rest.split_at(sign);
    let time = match time.strip_prefix('T') {
        None if time.is_empty() => NaiveTime::MIN,
        None => return None,
        Some(time) => read_time(time)?,
    };
    let offset = match offset {
        "" | "Z" => 0,
        signed => {
            let (hours, minutes) = signed[1..].split_once(':')?;
            let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
            let seconds = (hours * 60 + minutes) * 60;
            if minutes > 59 || hours > 18 {
                return None;
            }
            if signed.starts_with('-') { -seconds } else { seconds }
        }
    };
    let local = date.and_time(time).and_local_timezone(FixedOffset::east_opt(offset)?).single()?;
    Some(local.timestamp_micros())
}

fn read_time(text: &str) -> Option<NaiveTime> {
    let (clock, fraction) = text.split_once('.').map_or((text, ""), |(c, f)| (c, f));
    if text.ends_with('.') || fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let micros: u32 =
        if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").parse().ok()? };
    let parts: Vec<&str> = clock.split(':').collect();
    let number = |i: usize| {
        let part = parts.get(i).copied().unwrap_or("00");
        if part.len() == 2 { part.parse::<u32>().ok() } else { None }
    };
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    NaiveTime::from_hms_micro_opt(number(0)?, number(1)?, number(2)?, micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_and_units_descend() {
        let nanos = |text: &str| match number(text) {
            Ok(ExprKind::Duration(n)) => Some(n),
            _ => None,
        };
        assert_eq!(nanos("1h30m"), Some(5_400_000_000_000));
        assert_eq!(nanos("2w"), Some(14 * 86_400_000_000_000));
        assert_eq!(nanos("1_000ms"), Some(1_000_000_000));
        assert_eq!(nanos("1500us"), Some(1_500_000));
        for wrong in ["1m1h", "5x", "1h1", "1h1h", "99999999999w"] {
            assert_eq!(nanos(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(number("1_000"), Ok(ExprKind::Int(1000)));
        assert_eq!(number(".5"), Ok(ExprKind::Float(0.5)));
        assert_eq!(number("1e5"), Ok(ExprKind::Float(1e5)));
        assert_eq!(number("2.5e-3"), Ok(ExprKind::Float(2.5e-3)));
        for wrong in ["9223372036854775808", "1e999", "1x", "1.5s", "0x1f", "1inf"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn timestamps_have_fractions_and_offsets() {
        let day = 86_400_000_000;
        assert_eq!(read_timestamp("1970-01-02"), Some(day));
        assert_eq!(read_timestamp("1970-01-01T00:00:00.5Z"), Some(500_000));
        assert_eq!(read_timestamp("1970-01-01T02:30:00+02:30"), Some(0));
        assert_eq!(read_timestamp("1969-12-31T23:00:00-01:00"), Some(0));
        for wrong in ["1970-13-01", "1970-02-30", "1970-01-01T25:00", "1970-1-1", "19700101--"] {
            assert_eq!(read_timestamp(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(unescape("a\\tb\\u{e9}\\\\\\\"x").as_deref(), Ok("a\tb\u{e9}\\\"x"));
        assert!(unescape("\\d").is_err());
        assert!(unescape("\\u{110000}").is_err());
    }
}
