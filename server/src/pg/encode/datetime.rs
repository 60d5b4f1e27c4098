//! Text of dates, times and intervals in ISO style.

use arrow::datatypes::IntervalMonthDayNano;
use bytes::{BufMut, BytesMut};

use super::{DAY_US, number};

/// Year (0 is 1 BC), month and day of a number of days since 1970-01-01, proleptic Gregorian
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
pub(super) fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn two(value: u32, out: &mut BytesMut) {
    out.put_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

/// Writes the date without its era; true when the era is BC.
fn ymd(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    let (year, before_christ) = if year <= 0 { (1 - year, true) } else { (year, false) };
    if year < 10_000 {
        two(year as u32 / 100, out);
        two(year as u32 % 100, out);
    } else {
        number::integer(year, out);
    }
    out.put_u8(b'-');
    two(month, out);
    out.put_u8(b'-');
    two(day, out);
    before_christ
}

/// `HH:MM:SS[.ffffff]` without trailing zeros of the fraction.
fn hms(us: i64, out: &mut BytesMut) {
    let seconds = us / 1_000_000;
    two((seconds / 3600) as u32, out);
    out.put_u8(b':');
    two((seconds / 60 % 60) as u32, out);
    out.put_u8(b':');
    two((seconds % 60) as u32, out);
    fraction((us % 1_000_000) as u32, out);
}

fn fraction(mut us: u32, out: &mut BytesMut) {
    if us == 0 {
        return;
    }
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (us % 10) as u8;
        us /= 10;
    }
    let end = digits.iter().rposition(|d| *d != b'0').map_or(0, |at| at + 1);
    out.put_u8(b'.');
    out.put_slice(&digits[..end]);
}

fn infinite(low: bool, high: bool, out: &mut BytesMut) -> bool {
    if low {
        out.put_slice(b"-infinity");
    } else if high {
        out.put_slice(b"infinity");
    }
    low || high
}

/// A date, from days since 1970.
pub(super) fn date(days: i32, out: &mut BytesMut) {
    if infinite(days == i32::MIN, days == i32::MAX, out) {
        return;
    }
    if ymd(i64::from(days), out) {
        out.put_slice(b" BC");
    }
}

/// A time of day, from microseconds since midnight.
pub(super) fn time(us: i64, out: &mut BytesMut) {
    hms(us, out);
}

/// A timestamp, from microseconds since 1970. `offset` is `Some` for `timestamptz`: seconds east
/// of UTC. `json` gives XML Schema's form (`T`, offset always with minutes).
pub(super) fn timestamp(us: i64, offset: Option<i32>, json: bool, out: &mut BytesMut) {
    if infinite(us == i64::MIN, us == i64::MAX, out) {
        return;
    }
    let local = us.saturating_add(i64::from(offset.unwrap_or(0)) * 1_000_000);
    let before_christ = ymd(local.div_euclid(DAY_US), out);
    out.put_u8(if json { b'T' } else { b' ' });
    hms(local.rem_euclid(DAY_US), out);
    if let Some(offset) = offset {
        out.put_u8(if offset < 0 { b'-' } else { b'+' });
        let offset = offset.unsigned_abs();
        two(offset / 3600, out);
        if json || offset % 3600 != 0 {
            out.put_u8(b':');
            two(offset / 60 % 60, out);
        }
        if offset % 60 != 0 {
            out.put_u8(b':');
            two(offset % 60, out);
        }
    }
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// An interval in style `postgres`: `1 year 2 mons -3 days +04:05:06.7`.
pub(super) fn interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let mut first = true;
    let mut negative_before = false;
    let parts = [
        (i64::from(value.months / 12), "year"),
        (i64::from(value.months % 12), "mon"),
        (i64::from(value.days), "day"),
    ];
    for (amount, unit) in parts {
        if amount == 0 {
            continue;
        }
        if !first {
            out.put_u8(b' ');
        }
        // A positive part after a negative one shows its sign.
        if negative_before && amount > 0 {
            out.put_u8(b'+');
        }
        number::integer(amount, out);
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if amount != 1 {
            out.put_u8(b's');
        }
        negative_before = amount < 0;
        first = false;
    }
    let us = value.nanoseconds / 1000;
    if us == 0 && !first {
        return;
    }
    if !first {
        out.put_u8(b' ');
    }
    if us < 0 {
        out.put_u8(b'-');
    } else if negative_before {
        out.put_u8(b'+');
    }
    let us = us.unsigned_abs();
    let seconds = us / 1_000_000;
    if seconds / 3600 < 100 {
        two((seconds / 3600) as u32, out);
    } else {
        number::integer(seconds / 3600, out);
    }
    out.put_u8(b':');
    two((seconds / 60 % 60) as u32, out);
    out.put_u8(b':');
    two((seconds % 60) as u32, out);
    fraction((us % 1_000_000) as u32, out);
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
    fn timestamps_as_postgres_prints_them() {
        for (us, offset, expected) in [
            (0, None, "1970-01-01 00:00:00"),
            (-1, None, "1969-12-31 23:59:59.999999"),
            (1_700_000_000_120_000, Some(0), "2023-11-14 22:13:20.12+00"),
            (1_700_000_000_000_000, Some(-12_600), "2023-11-14 18:43:20-03:30"),
            (1_700_000_000_000_000, Some(3_208), "2023-11-14 23:06:48+00:53:28"),
            (-62_135_596_800_000_000 - 1, None, "0001-12-31 23:59:59.999999 BC"),
            (i64::MAX, Some(0), "infinity"),
            (253_402_300_800_000_000, None, "10000-01-01 00:00:00"),
        ] {
            assert_eq!(text(|out| timestamp(us, offset, false, out)), expected);
        }
        assert_eq!(
            text(|out| timestamp(1_700_000_000_120_000, Some(0), true, out)),
            "2023-11-14T22:13:20.12+00:00"
        );
    }

    #[test]
    fn intervals_as_postgres_prints_them() {
        for (months, days, us, expected) in [
            (0, 0, 0, "00:00:00"),
            (14, 3, 14_706_789_000, "1 year 2 mons 3 days 04:05:06.789"),
            (-14, 3, 14_706_000_000, "-1 years -2 mons +3 days 04:05:06"),
            (1, -1, 3_600_000_000, "1 mon -1 days +01:00:00"),
            (0, 0, -1, "-00:00:00.000001"),
            (0, 0, 360_000_000_000, "100:00:00"),
            (12, 0, 0, "1 year"),
            (0, -1, -1_000_000, "-1 days -00:00:01"),
        ] {
            let value = IntervalMonthDayNano::new(months, days, us * 1000);
            assert_eq!(text(|out| interval(value, out)), expected);
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut before = civil(-1);
        for days in 0..146_097 {
            let (year, month, day) = civil(days);
            let next = match before {
                (y, 12, 31) => (y + 1, 1, 1),
                (y, m, d) if day == 1 => {
                    assert!(d >= 28, "{y}-{m}-{d}");
                    (y, m + 1, 1)
                }
                (y, m, d) => (y, m, d + 1),
            };
            assert_eq!((year, month, day), next);
            before = (year, month, day);
        }
        assert_eq!(civil(146_096), (2369, 12, 31));
    }
}
