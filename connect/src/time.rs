//! Times and durations as people write them.

use arrow::compute::kernels::cast_utils::string_to_datetime;
use chrono::Utc;

/// 2000-01-01T00:00:00Z in microseconds since 1970: where offsets such as `@5s` count from.
pub const EPOCH_US: i64 = 946_684_800_000_000;

/// Units with their nanoseconds.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Microseconds of a duration such as `5s`, `1h30m`, `1.5s`, `-250ms`; units from `ns` to `w`. A
/// number without unit counts `bare_us`. `None` when it is none, or beyond 64 bits. What is below a
/// microsecond is cut off.
pub fn duration_us(text: &str, bare_us: Option<i64>) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let nanos = match (unit, bare_us) {
            // Only as the whole duration: `1h30` is a slip.
            ("", Some(us)) if total == 0 && tail.is_empty() => i128::from(us) * 1000,
            _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole * nanos)?;
        let mut place = nanos;
        for digit in fraction.bytes() {
            place /= 10;
            total = total.checked_add(i128::from(digit - b'0') * place)?;
        }
        rest = tail;
    }
    let us = total / 1000;
    i64::try_from(if negative { -us } else { us }).ok()
}

/// Microseconds since 1970 of an ISO 8601 moment (`2013-01-01T10:15:00Z`, also with a space, with
/// an offset, with a fraction, or a date alone; UTC when it names no zone).
pub fn iso_us(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 10
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && text.is_ascii();
    if !date {
        return None;
    }
    string_to_datetime(&Utc, text).ok().map(|moment| moment.timestamp_micros())
}

/// Microseconds since 1970 of a moment: as [`iso_us`], or `+90s` and `-1h`, counted from the year
/// 2000.
pub fn moment_us(text: &str) -> Option<i64> {
    if text.starts_with(['+', '-']) {
        return EPOCH_US.checked_add(duration_us(text, None)?);
    }
    iso_us(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_all_units() {
        for (text, expected) in [
            ("5s", Some(5_000_000)),
            ("1h30m", Some(5_400_000_000)),
            ("1.5s", Some(1_500_000)),
            (".5s", Some(500_000)),
            ("-2m", Some(-120_000_000)),
            ("2w", Some(1_209_600_000_000)),
            ("1d", Some(86_400_000_000)),
            ("250ms", Some(250_000)),
            ("7us", Some(7)),
            ("1500ns", Some(1)),
            ("100", Some(100_000)),
            ("1h30", None),
            ("", None),
            ("-", None),
            ("s", None),
            ("5x", None),
            ("1..5s", None),
            ("9999999999999999w", None),
        ] {
            assert_eq!(duration_us(text, Some(1000)), expected, "{text}");
        }
        assert_eq!(duration_us("100", None), None);
        let long = "999999999999999999w".repeat(300_000);
        assert_eq!(duration_us(&long, None), None);
    }

    #[test]
    fn moments_in_iso_and_as_offsets() {
        let base = 1_357_035_300_000_000;
        for text in [
            "2013-01-01T10:15:00Z",
            "2013-01-01 10:15:00+00",
            "2013-01-01 10:15:00",
            "2013-01-01T12:15:00+02:00",
            "2013-01-01T10:15:00.000000Z",
        ] {
            assert_eq!(moment_us(text), Some(base), "{text}");
        }
        assert_eq!(moment_us("2013-01-01"), Some(base - 36_900_000_000));
        assert_eq!(moment_us("+90s"), Some(EPOCH_US + 90_000_000));
        for text in ["20130101", "12", "2013-13-01", "now", "", "+", "٢٠١٣-٠١-٠١"] {
            assert_eq!(moment_us(text), None, "{text}");
        }
    }
}
