//! Timestamps in the one spelling that nearly all data has, `2026-11-20 22:17:43.119047+00`; all
//! others are read by the protocol layer's complete parser.

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, `None` when there is no such
/// day (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if !(1..=12).contains(&month) || year < 1 {
        return None;
    }
    let leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if day < 1 || day > LENGTHS[month as usize - 1] + i64::from(leap) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y / 400;
    let year_of_era = y % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn two(bytes: &[u8], at: usize) -> Option<i64> {
    let tens = bytes.get(at)?.wrapping_sub(b'0');
    let ones = bytes.get(at + 1)?.wrapping_sub(b'0');
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// `YYYY-MM-DD` as days since 1970.
pub(super) fn iso_date(bytes: &[u8]) -> Option<i32> {
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    days(year, two(bytes, 5)?, two(bytes, 8)?).map(|days| days as i32)
}

/// `HH:MM:SS[.ffffff]` as microseconds since midnight, and the bytes behind it.
fn iso_time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    if bytes.len() < 8 || bytes[2] != b':' || bytes[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (two(bytes, 0)?, two(bytes, 3)?, two(bytes, 6)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut us = ((hour * 60 + minute) * 60 + second) * 1_000_000;
    let mut rest = &bytes[8..];
    if let Some((b'.', digits)) = rest.split_first() {
        let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 || count > 6 {
            return None;
        }
        let fraction = digits[..count].iter().fold(0i64, |f, b| f * 10 + i64::from(b - b'0'));
        us += fraction * 10i64.pow(6 - count as u32);
        rest = &digits[count..];
    }
    Some((us, rest))
}

/// A timestamp without zone in ISO form, as microseconds since 1970 on the clock of wherever it
/// was taken, and its offset east of UTC in seconds if one is written (`Z`, `+02`, `+05:30`).
pub(super) fn iso_timestamp(bytes: &[u8]) -> Option<(i64, Option<i64>)> {
    if bytes.len() < 19 || (bytes[10] != b' ' && bytes[10] != b'T') {
        return None;
    }
    let date = i64::from(iso_date(&bytes[..10])?);
    let (time, rest) = iso_time(&bytes[11..])?;
    let offset = match rest {
        [] => None,
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), digits @ ..] => {
            let seconds = match digits.len() {
                2 => two(digits, 0)? * 3600,
                5 if digits[2] == b':' && two(digits, 3)? < 60 => {
                    two(digits, 0)? * 3600 + two(digits, 3)? * 60
                }
                _ => return None,
            };
            if seconds >= 16 * 3600 {
                return None;
            }
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => return None,
    };
    Some((date * DAY + time, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_timestamps() {
        for (text, expected) in [
            ("1970-01-01 00:00:00", Some((0, None))),
            ("2023-11-14T22:13:20.12Z", Some((1_700_000_000_120_000, Some(0)))),
            ("2023-11-14 22:13:20.000001+05:30", Some((1_700_000_000_000_001, Some(19_800)))),
            ("1969-12-31 23:59:59.999999-08", Some((-1, Some(-28_800)))),
            ("2024-02-29 00:00:00", Some((1_709_164_800_000_000, None))),
            ("0001-01-01 00:00:00", Some((-62_135_596_800_000_000, None))),
            ("9999-12-31 23:59:59", Some((253_402_300_799_000_000, None))),
            // The rest is left to the complete parser.
            ("2023-02-29 00:00:00", None),
            ("2023-13-01 00:00:00", None),
            ("2023-01-01 24:00:00", None),
            ("2023-01-01 23:59:60", None),
            ("2023-01-01 00:00:00.1234567", None),
            ("2023-01-01 00:00:00 UTC", None),
            ("2023-01-01 00:00:00+99", None),
            ("2023-1-1 00:00:00", None),
            ("0000-01-01 00:00:00", None),
            ("now", None),
        ] {
            assert_eq!(iso_timestamp(text.as_bytes()), expected, "{text}");
        }
    }
}
