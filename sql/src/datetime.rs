//! PostgreSQL's date and time texts in ISO order. What names no zone is in the session's, and in UTC
//! in stored queries, which must mean the same whoever restarts the server.

use chrono::{
    DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone,
};
use chrono_tz::Tz;

/// The time zone of texts without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The same number of seconds east of UTC at all times.
    Fixed(i32),
    /// A region with its history of offsets.
    Named(Tz),
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);

    /// As a text that [`Zone::decode`] reads.
    pub(crate) fn encode(self) -> String {
        match self {
            Zone::Fixed(seconds) => seconds.to_string(),
            Zone::Named(tz) => tz.name().to_string(),
        }
    }

    /// The zone of [`Zone::encode`]'s text.
    pub(crate) fn decode(text: &str) -> Option<Zone> {
        match text.parse::<i32>() {
            Ok(seconds) => Some(Zone::Fixed(seconds)),
            Err(_) => text.parse().ok().map(Zone::Named),
        }
    }

    /// Seconds east of UTC when clocks show `clock`. Of two possible moments it is the earlier one; a
    /// time that clocks skip is counted from before the gap, as in PostgreSQL.
    fn offset(self, clock: &NaiveDateTime) -> i64 {
        use chrono::Offset;
        match self {
            Zone::Fixed(seconds) => seconds.into(),
            Zone::Named(tz) => {
                let offset = match tz.offset_from_local_datetime(clock) {
                    LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
                    LocalResult::None => {
                        let before = *clock - TimeDelta::hours(3);
                        match tz.offset_from_local_datetime(&before) {
                            LocalResult::Single(o) | LocalResult::Ambiguous(o, _) => o,
                            LocalResult::None => return 0,
                        }
                    }
                };
                offset.fix().local_minus_utc().into()
            }
        }
    }
}

/// A moment: the clock's reading, and seconds east of UTC when the text says.
struct Reading {
    clock: NaiveDateTime,
    offset: Option<i64>,
}

/// `2024-01-31 10:00:00.5+02`, with less of it or a `T`: microseconds since 1970 in UTC.
pub(crate) fn timestamptz(text: &str, zone: Zone) -> Option<i64> {
    let reading = read(text)?;
    let east = TimeDelta::seconds(reading.offset.unwrap_or_else(|| zone.offset(&reading.clock)));
    let moment = reading.clock.checked_sub_signed(east)?;
    Some(moment.and_utc().timestamp_micros())
}

/// The same without regard to a zone: microseconds the clock shows since 1970.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    Some(read(text)?.clock.and_utc().timestamp_micros())
}

/// The day of such a text, in days since 1970.
pub(crate) fn date(text: &str) -> Option<i32> {
    let day = read(text)?.clock.date();
    i32::try_from((day - DateTime::UNIX_EPOCH.date_naive()).num_days()).ok()
}

fn read(text: &str) -> Option<Reading> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("epoch") {
        return Some(Reading { clock: DateTime::UNIX_EPOCH.naive_utc(), offset: Some(0) });
    }
    let end = text.find([' ', 'T', 't']).unwrap_or(text.len());
    let (day, rest) = text.split_at(end);
    let (day, rest) = match rest {
        "" => (day, ""),
        _ => (day, rest[1..].trim_start()),
    };
    let date = day_of(day)?;
    let end =
        rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(end);
    let offset = match zone.trim() {
        "" => None,
        zone => Some(offset(zone)?),
    };
    let clock = if clock.is_empty() { date.and_time(NaiveTime::MIN) } else { at(date, clock)? };
    Some(Reading { clock, offset })
}

/// `2024-01-31`, `20240131`.
fn day_of(text: &str) -> Option<NaiveDate> {
    if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return NaiveDate::parse_from_str(text, "%Y%m%d").ok();
    }
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some()
        || year.len() < 4
        || ![year, month, day].into_iter().all(digits)
        || month.len() > 2
        || day.len() > 2
    {
        return None;
    }
    NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
}

/// `10:00`, `10:00:00.123456` on a day; 24:00 is the next midnight, a 60th second the next minute.
fn at(date: NaiveDate, text: &str) -> Option<NaiveDateTime> {
    let mut parts = text.split(':');
    let hours = two_digits(parts.next()?)?;
    let minutes = two_digits(parts.next()?)?;
    let (seconds, micros) = match parts.next() {
        None => (0, 0),
        Some(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            (two_digits(whole)?, fraction_us(fraction)?)
        }
    };
    if parts.next().is_some() || minutes > 59 || seconds > 60 || hours > 24 {
        return None;
    }
    if hours == 24 {
        let midnight = date.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN);
        return (minutes == 0 && seconds == 0 && micros == 0).then_some(midnight);
    }
    let time = date.and_hms_opt(hours, minutes, 0)?;
    time.checked_add_signed(TimeDelta::seconds(seconds.into()) + TimeDelta::microseconds(micros))
}

fn two_digits(text: &str) -> Option<u32> {
    (matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// A fraction in microseconds, rounded.
fn fraction_us(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seven: i64 = format!("{text:0<7}").get(..7)?.parse().ok()?;
    Some((seven + 5) / 10)
}

/// Seconds east of UTC: `Z`, `UTC`, `+02`, `-03:30`, `+0530`.
fn offset(text: &str) -> Option<i64> {
    if ["z", "utc", "gmt"].contains(&text.to_ascii_lowercase().as_str()) {
        return Some(0);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let mut parts = digits.split(':');
    let (hours, mut minutes) = match parts.next()? {
        four if four.len() == 4 => (two_digits(&four[..2])?, two_digits(four.get(2..)?)?),
        hours => (two_digits(hours)?, 0),
    };
    if let Some(text) = parts.next() {
        minutes = two_digits(text)?;
    }
    let seconds = parts.next().map_or(Some(0), two_digits)?;
    if parts.next().is_some() || hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 1_704_067_200_000_000;
    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn moments_are_read_as_postgresql_reads_them() {
        for (text, expected) in [
            ("2024-01-01", DAY),
            ("20240101", DAY),
            ("2024-1-1 10:00", DAY + 10 * HOUR),
            ("2024-01-01T10:00:00.5Z", DAY + 10 * HOUR + 500_000),
            (" 2024-01-01 10:00+02 ", DAY + 8 * HOUR),
            ("2024-01-01 10:00:00 -03:30", DAY + 13 * HOUR + HOUR / 2),
            ("2024-01-01 10:00:00.1234567 UTC", DAY + 10 * HOUR + 123_457),
            ("2023-12-31 24:00", DAY),
            ("epoch", 0),
        ] {
            assert_eq!(timestamptz(text, Zone::UTC), Some(expected), "{text}");
        }
        let berlin = Zone::decode("Europe/Berlin").expect("a zone");
        assert_eq!(Zone::decode(&berlin.encode()), Some(berlin));
        assert_eq!(timestamptz("2024-01-01 10:00", berlin), Some(DAY + 9 * HOUR));
        assert_eq!(timestamptz("2024-01-01 10:00Z", berlin), Some(DAY + 10 * HOUR));
        assert_eq!(timestamptz("2024-01-01 10:00", Zone::Fixed(-3600)), Some(DAY + 11 * HOUR));
        // 02:30 does not exist on the day clocks go forward: 03:30 summer time.
        let skipped = timestamptz("2024-03-31 02:30", berlin);
        assert_eq!(skipped, timestamptz("2024-03-31 01:30", Zone::UTC));
        assert_eq!(timestamp("2024-01-01 10:00+02"), Some(DAY + 10 * HOUR));
        assert_eq!(date("2024-01-01 23:59"), Some(19_723));
        for wrong in [
            "",
            "x",
            "2024",
            "2024-13-01",
            "2024-02-30",
            "2024-01-01 25:00",
            "2024-01-01 10",
            "2024-01-01 10:60",
            "2024-01-01 10:00 Mars",
            "2024-01-01 10:00+99",
            "é-01-01",
            "2024-01-01é",
            "2024-01-01 10:00:00.x",
            "2024-01-01 24:01",
            "262142-12-31 23:59-15",
        ] {
            assert_eq!(timestamptz(wrong, Zone::UTC), None, "{wrong}");
        }
    }
}
