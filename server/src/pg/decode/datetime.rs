//! Dates and times from text: ISO 8601, PostgreSQL's own output, and the spellings with month
//! names or slashes (read as month/day/year). The relative words (`now`, `today`) are not values
//! and are not accepted.

use auspex_plan::{Diagnostic, SqlState};

use super::Result;
use crate::pg::zone::Zone;

const DAY_US: i64 = 86_400_000_000;

/// `timestamptz` in microseconds since 1970 UTC. Without a zone in the text, it is in `zone`.
pub fn timestamptz(text: &str, zone: Zone) -> Result<i64> {
    const NAME: &str = "timestamp with time zone";
    match read(text, NAME)? {
        Value::Low => Ok(i64::MIN),
        Value::High => Ok(i64::MAX),
        Value::Moment(moment) => {
            let local = local_us(&moment, text, NAME)?;
            let zone = moment.zone.unwrap_or(zone);
            let offset = i64::from(zone.offset_of_local(local.div_euclid(1_000_000)));
            local.checked_sub(offset * 1_000_000).ok_or_else(|| range(text))
        }
    }
}

/// `timestamp` in microseconds since 1970; a zone in the text is ignored, as in PostgreSQL.
pub fn timestamp(text: &str) -> Result<i64> {
    const NAME: &str = "timestamp";
    match read(text, NAME)? {
        Value::Low => Ok(i64::MIN),
        Value::High => Ok(i64::MAX),
        Value::Moment(moment) => local_us(&moment, text, NAME),
    }
}

/// `date` in days since 1970; a time in the text is ignored, as in PostgreSQL.
pub fn date(text: &str) -> Result<i32> {
    match read(text, "date")? {
        Value::Low => Ok(i32::MIN),
        Value::High => Ok(i32::MAX),
        Value::Moment(moment) => {
            let days = moment.days.ok_or_else(|| syntax("date", text))?;
            i32::try_from(days).map_err(|_| range(text))
        }
    }
}

/// `time` in microseconds since midnight; a date in the text is ignored, as in PostgreSQL.
pub fn time(text: &str) -> Result<i64> {
    match read(text, "time")? {
        Value::Moment(Moment { time: Some(us), .. }) => Ok(us),
        _ => Err(syntax("time", text)),
    }
}

fn local_us(moment: &Moment, text: &str, name: &str) -> Result<i64> {
    let days = moment.days.ok_or_else(|| syntax(name, text))?;
    days.checked_mul(DAY_US)
        .and_then(|us| us.checked_add(moment.time.unwrap_or(0)))
        .ok_or_else(|| range(text))
}

fn syntax(name: &str, text: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_DATETIME_FORMAT,
        format!("invalid input syntax for type {name}: \"{text}\""),
    )
}

fn range(text: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("date/time field value out of range: \"{text}\""),
    )
}

enum Value {
    Low,
    High,
    Moment(Moment),
}

#[derive(Default)]
struct Moment {
    /// Days since 1970.
    days: Option<i64>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<Zone>,
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar; year 0 is 1 BC.
pub(super) fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year.rem_euclid(4) == 0
            && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) =>
        {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// What went wrong inside the reader; the caller adds type and text.
enum Fault {
    Syntax,
    Range,
}

fn read(text: &str, name: &str) -> Result<Value> {
    let word = text.trim_ascii();
    let is = |special: &str| word.eq_ignore_ascii_case(special);
    if is("infinity") || is("+infinity") {
        return Ok(Value::High);
    }
    if is("-infinity") {
        return Ok(Value::Low);
    }
    if is("epoch") {
        let zone = Some(Zone::UTC);
        return Ok(Value::Moment(Moment { days: Some(0), time: Some(0), zone }));
    }
    let mut reader = Reader { bytes: word.as_bytes(), at: 0, fields: Fields::default() };
    match reader.run().and_then(|()| reader.fields.finish()) {
        Ok(moment) => Ok(Value::Moment(moment)),
        Err(Fault::Syntax) => Err(syntax(name, text)),
        Err(Fault::Range) => Err(range(text)),
    }
}

/// What the words of the text have said so far.
#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    time: Option<i64>,
    zone: Option<Zone>,
    before_christ: bool,
    afternoon: Option<bool>,
}

impl Fields {
    fn finish(&self) -> std::result::Result<Moment, Fault> {
        let days = match (self.year, self.month, self.day) {
            (None, None, None) => None,
            (Some(year), Some(month), Some(day)) => {
                if self.before_christ && year <= 0 {
                    return Err(Fault::Range);
                }
                let year = if self.before_christ { 1 - year } else { year };
                if year == 0 && !self.before_christ {
                    return Err(Fault::Range);
                }
                if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
                    return Err(Fault::Range);
                }
                if !(-4712..=294_276).contains(&year) {
                    return Err(Fault::Range);
                }
                Some(days_of(year, month, day))
            }
            _ => return Err(Fault::Syntax),
        };
        let time = match (self.time, self.afternoon) {
            (Some(us), Some(afternoon)) => {
                let hour = us / 3_600_000_000;
                if !(1..=12).contains(&hour) {
                    return Err(Fault::Range);
                }
                let shifted = us - hour * 3_600_000_000;
                Some(shifted + (hour % 12 + if afternoon { 12 } else { 0 }) * 3_600_000_000)
            }
            (None, Some(_)) => return Err(Fault::Syntax),
            (time, None) => time,
        };
        Ok(Moment { days, time, zone: self.zone })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Fields,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn run(&mut self) -> std::result::Result<(), Fault> {
        if self.bytes.is_empty() {
            return Err(Fault::Syntax);
        }
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b',' => self.at += 1,
                b'T' | b't'
                    if self.fields.day.is_some()
                        && self.fields.time.is_none()
                        && self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) =>
                {
                    self.at += 1;
                }
                b'0'..=b'9' => self.number()?,
                b'+' | b'-' if self.fields.time.is_some() && self.fields.zone.is_none() => {
                    self.offset()?;
                }
                _ if byte.is_ascii_alphabetic() => self.word()?,
                _ => return Err(Fault::Syntax),
            }
        }
        Ok(())
    }

    /// A run of digits: its value and its length.
    fn digits(&mut self) -> std::result::Result<(i64, usize), Fault> {
        let start = self.at;
        let mut value = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if self.at - start >= 15 {
                return Err(Fault::Range);
            }
            value = value * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        match self.at - start {
            0 => Err(Fault::Syntax),
            length => Ok((value, length)),
        }
    }

    fn number(&mut self) -> std::result::Result<(), Fault> {
        let (value, length) = self.digits()?;
        match self.peek() {
            Some(b':') if self.fields.time.is_none() => self.clock(value),
            Some(separator @ (b'-' | b'/' | b'.')) if self.fields.day.is_none() => {
                self.at += 1;
                self.parts(value, length, separator)
            }
            _ if length == 8 && self.fields.year.is_none() && self.fields.month.is_none() => {
                self.set_date(value / 10_000, 4, (value / 100 % 100) as u32, (value % 100) as u32)
            }
            _ if (length == 6 || length == 4)
                && self.fields.day.is_some()
                && self.fields.year.is_some()
                && self.fields.time.is_none() =>
            {
                let (hours, rest) = if length == 6 {
                    (value / 10_000, value % 10_000)
                } else {
                    (value / 100, value % 100 * 100)
                };
                let fraction = self.fraction()?;
                self.set_time(hours, rest / 100, rest % 100, fraction)
            }
            _ if self.fields.day.is_none() && length <= 2 => {
                self.fields.day = Some(value as u32);
                Ok(())
            }
            _ if self.fields.year.is_none() && length >= 3 => {
                self.fields.year = Some(value);
                Ok(())
            }
            _ => Err(Fault::Syntax),
        }
    }

    /// The second and third part of a date.
    fn parts(
        &mut self,
        first: i64,
        length: usize,
        separator: u8,
    ) -> std::result::Result<(), Fault> {
        let second = if self.peek().is_some_and(|b| b.is_ascii_alphabetic()) {
            Err(self.month_name()?)
        } else {
            Ok(self.digits()?.0)
        };
        if self.peek() != Some(separator) {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        let (third, third_length) = self.digits()?;
        match second {
            Ok(second) if length >= 3 => self.set_date(first, length, second as u32, third as u32),
            Ok(second) => self.set_date(third, third_length, first as u32, second as u32),
            Err(month) if length >= 3 => self.set_date(first, length, month, third as u32),
            Err(month) => self.set_date(third, third_length, month, first as u32),
        }
    }

    fn set_date(
        &mut self,
        year: i64,
        digits: usize,
        month: u32,
        day: u32,
    ) -> std::result::Result<(), Fault> {
        if self.fields.year.is_some() || self.fields.month.is_some() || self.fields.day.is_some() {
            return Err(Fault::Syntax);
        }
        let year = match (digits, year) {
            (1 | 2, 0..=69) => year + 2000,
            (1 | 2, _) => year + 1900,
            _ => year,
        };
        self.fields.year = Some(year);
        self.fields.month = Some(month);
        self.fields.day = Some(day);
        Ok(())
    }

    /// The rest of `hours:minutes[:seconds[.fraction]]`.
    fn clock(&mut self, hours: i64) -> std::result::Result<(), Fault> {
        self.at += 1;
        let (minutes, _) = self.digits()?;
        let mut seconds = 0;
        let mut fraction = 0;
        if self.peek() == Some(b':') {
            self.at += 1;
            seconds = self.digits()?.0;
            fraction = self.fraction()?;
        }
        self.set_time(hours, minutes, seconds, fraction)
    }

    /// `.fraction` of a second in microseconds, rounded.
    fn fraction(&mut self) -> std::result::Result<i64, Fault> {
        if self.peek() != Some(b'.') {
            return Ok(0);
        }
        self.at += 1;
        let (mut value, mut length) = (0i64, 0);
        let mut round_up = false;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            match length {
                0..6 => value = value * 10 + i64::from(digit - b'0'),
                6 => round_up = digit >= b'5',
                _ => {}
            }
            length += 1;
            self.at += 1;
        }
        for _ in length..6 {
            value *= 10;
        }
        Ok(value + i64::from(round_up))
    }

    fn set_time(
        &mut self,
        hours: i64,
        minutes: i64,
        seconds: i64,
        us: i64,
    ) -> std::result::Result<(), Fault> {
        if self.fields.time.is_some() {
            return Err(Fault::Syntax);
        }
        if hours > 24 || minutes > 59 || seconds > 60 {
            return Err(Fault::Range);
        }
        let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + us;
        if total > DAY_US {
            return Err(Fault::Range);
        }
        self.fields.time = Some(total);
        Ok(())
    }

    /// `+02`, `-0330`, `+05:30`, `+00:53:28`.
    fn offset(&mut self) -> std::result::Result<(), Fault> {
        let sign = if self.peek() == Some(b'-') { -1 } else { 1 };
        self.at += 1;
        let (value, length) = self.digits()?;
        let (hours, mut minutes, mut seconds) = match length {
            1 | 2 => (value, 0, 0),
            4 => (value / 100, value % 100, 0),
            6 => (value / 10_000, value / 100 % 100, value % 100),
            _ => return Err(Fault::Syntax),
        };
        if length <= 2 && self.peek() == Some(b':') {
            self.at += 1;
            minutes = self.digits()?.0;
            if self.peek() == Some(b':') {
                self.at += 1;
                seconds = self.digits()?.0;
            }
        }
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Fault::Range);
        }
        self.fields.zone = Some(Zone::Fixed(sign * ((hours * 60 + minutes) * 60 + seconds) as i32));
        Ok(())
    }

    fn letters(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphabetic()) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.bytes[start..self.at]).to_ascii_lowercase()
    }

    fn month_name(&mut self) -> std::result::Result<u32, Fault> {
        month(&self.letters()).ok_or(Fault::Syntax)
    }

    fn word(&mut self) -> std::result::Result<(), Fault> {
        let start = self.at;
        let word = self.letters();
        let more = matches!(self.peek(), Some(b'/' | b'_'));
        match word.as_str() {
            "am" | "pm" if self.fields.afternoon.is_none() => {
                self.fields.afternoon = Some(word == "pm");
                return Ok(());
            }
            "bc" => {
                self.fields.before_christ = true;
                return Ok(());
            }
            "ad" => return Ok(()),
            _ if !more && DAYS.iter().any(|day| word.len() >= 3 && day.starts_with(&word)) => {
                return Ok(());
            }
            _ => {}
        }
        if let Some(month) = month(&word)
            && !more
            && self.fields.month.is_none()
        {
            self.fields.month = Some(month);
            return Ok(());
        }
        if self.fields.zone.is_some() {
            return Err(Fault::Syntax);
        }
        if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(name, _)| *name == word)
            && !more
        {
            self.fields.zone = Some(Zone::Fixed(hours * 3600));
            return Ok(());
        }
        // A name of the tz database runs up to the next space.
        while self.peek().is_some_and(|b| !b.is_ascii_whitespace()) {
            self.at += 1;
        }
        let name = String::from_utf8_lossy(&self.bytes[start..self.at]);
        self.fields.zone = Some(Zone::parse(&name).ok_or(Fault::Syntax)?);
        Ok(())
    }
}

const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Zone abbreviations of PostgreSQL's default set that appear in practice, hours east of UTC.
const ABBREVIATIONS: [(&str, i32); 22] = [
    ("z", 0),
    ("utc", 0),
    ("gmt", 0),
    ("wet", 0),
    ("west", 1),
    ("bst", 1),
    ("cet", 1),
    ("cest", 2),
    ("eet", 2),
    ("eest", 3),
    ("msk", 3),
    ("jst", 9),
    ("aest", 10),
    ("aedt", 11),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
];

fn month(word: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let at =
        MONTHS.iter().position(|name| (word.len() == 3 && name.starts_with(word)) || *name == word);
    at.or((word == "sept").then_some(8)).map(|at| at as u32 + 1)
}
