//! The session's `TimeZone`: names of the tz database and fixed offsets.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::Tz;

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The same number of seconds east of UTC at all times.
    Fixed(i32),
    /// A region with its history of offsets.
    Named(Tz),
}

/// UTC.
impl Default for Zone {
    fn default() -> Self {
        Zone::UTC
    }
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);

    /// Reads a value of `TimeZone`: `UTC`, `Europe/Berlin`, `+02`, `-3.5`, `<+02>-02`. `None` when
    /// there is no such zone. As in PostgreSQL a bare number counts hours east of Greenwich.
    pub fn parse(name: &str) -> Option<Zone> {
        let name = name.trim();
        if ["utc", "gmt", "z", "zulu", "uct", "etc/utc", "greenwich"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            return Some(Zone::UTC);
        }
        if let Some(seconds) = offset_seconds(name) {
            return Some(Zone::Fixed(seconds));
        }
        if let Some(rest) = name.strip_prefix('<') {
            return offset_seconds(rest.split('>').next()?).map(Zone::Fixed);
        }
        if let Ok(tz) = name.parse::<Tz>() {
            return Some(Zone::Named(tz));
        }
        chrono_tz::TZ_VARIANTS
            .iter()
            .find(|tz| tz.name().eq_ignore_ascii_case(name))
            .map(|tz| Zone::Named(*tz))
    }

    /// Seconds to add to UTC at the moment `seconds` since 1970.
    pub fn offset_at(self, seconds: i64) -> i32 {
        match self {
            Zone::Fixed(offset) => offset,
            Zone::Named(tz) => DateTime::from_timestamp(seconds, 0).map_or(0, |moment| {
                tz.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc()
            }),
        }
    }

    /// Seconds to add to UTC when clocks here show `seconds` since 1970. A time that clocks show
    /// twice is read as standard time; one that they skip with the offset before the gap,
    /// as PostgreSQL does.
    pub fn offset_of_local(self, seconds: i64) -> i32 {
        let tz = match self {
            Zone::Fixed(offset) => return offset,
            Zone::Named(tz) => tz,
        };
        let Some(local): Option<NaiveDateTime> =
            DateTime::from_timestamp(seconds, 0).map(|moment| moment.naive_utc())
        else {
            return 0;
        };
        match tz.offset_from_local_datetime(&local) {
            LocalResult::Single(offset) => offset.fix().local_minus_utc(),
            LocalResult::Ambiguous(first, second) => {
                // Standard time has the smaller offset.
                first.fix().local_minus_utc().min(second.fix().local_minus_utc())
            }
            LocalResult::None => self.offset_at(seconds - 86_400),
        }
    }
}

/// `+02`, `-5`, `+05:30`, `+0530`, `-3.5`: seconds east of Greenwich.
fn offset_seconds(text: &str) -> Option<i32> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        b'0'..=b'9' => (1, text),
        _ => return None,
    };
    if let Some((whole, _)) = digits.split_once('.') {
        whole.parse::<u32>().ok()?;
        let hours: f64 = digits.parse().ok()?;
        return (hours <= 15.0).then_some(sign * (hours * 3600.0) as i32);
    }
    let parts: Vec<&str> = digits.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hhmm] if hhmm.len() == 4 => (hhmm.get(..2)?, hhmm.get(2..)?, "0"),
        [hours] => (*hours, "0", "0"),
        [hours, minutes] => (*hours, *minutes, "0"),
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let number = |text: &str| -> Option<i32> {
        (!text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
    (hours <= 15 && minutes < 60 && seconds < 60)
        .then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_offsets_and_nonsense() {
        assert_eq!(Zone::parse("utc"), Some(Zone::UTC));
        assert_eq!(Zone::parse("+05:30"), Some(Zone::Fixed(19800)));
        assert_eq!(Zone::parse("-3.5"), Some(Zone::Fixed(-12600)));
        assert_eq!(Zone::parse("<+02>-02"), Some(Zone::Fixed(7200)));
        assert_eq!(Zone::parse("europe/berlin"), Some(Zone::Named(Tz::Europe__Berlin)));
        assert_eq!(Zone::parse("Mars/Olympus"), None);
        assert_eq!(Zone::parse("99"), None);
    }

    #[test]
    fn offsets_follow_summer_time() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        assert_eq!(berlin.offset_at(1_700_000_000), 3600);
        assert_eq!(berlin.offset_at(1_690_000_000), 7200);
        // 2023-03-26 02:30 does not exist, 2023-10-29 02:30 exists twice.
        assert_eq!(berlin.offset_of_local(1_679_797_800), 3600);
        assert_eq!(berlin.offset_of_local(1_698_546_600), 3600);
    }
}
