//! Intervals from text: PostgreSQL's own output (`1 year 2 mons 3 days 04:05:06`), units in words
//! or letters (`90 min`, `1h30m`, `2 weeks ago`), SQL (`1-2`, `3 04:05`) and ISO 8601 (`P1DT2H`).

use arrow::datatypes::IntervalMonthDayNano;
use auspex_plan::{Diagnostic, SqlState};

use super::Result;

/// `interval`.
pub fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let word = text.trim_ascii();
    let mut sum = Sum::default();
    let read = if word.starts_with(['P', 'p']) {
        iso(&word[1..], &mut sum)
    } else {
        words(word, &mut sum)
    };
    match read.and_then(|()| sum.finish()) {
        Ok(value) => Ok(value),
        Err(Fault::Syntax) => Err(Diagnostic::error(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        )),
        Err(Fault::Range) => Err(Diagnostic::error(
            SqlState("22015"),
            format!("interval field value out of range: \"{text}\""),
        )),
    }
}

enum Fault {
    Syntax,
    Range,
}

type Step<T = ()> = std::result::Result<T, Fault>;

#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    us: i64,
}

impl Sum {
    fn finish(&self) -> Step<IntervalMonthDayNano> {
        Ok(IntervalMonthDayNano::new(
            i32::try_from(self.months).map_err(|_| Fault::Range)?,
            i32::try_from(self.days).map_err(|_| Fault::Range)?,
            self.us.checked_mul(1000).ok_or(Fault::Range)?,
        ))
    }

    fn add(&mut self, number: Number, unit: Unit) -> Step {
        let Number { whole, fraction } = number;
        match unit {
            Unit::Months(months) => {
                let added = whole.checked_mul(months).ok_or(Fault::Range)?;
                self.months = self.months.checked_add(added).ok_or(Fault::Range)?;
                if months == 1 {
                    self.add_days(fraction * 30.0)?;
                } else {
                    self.months += (fraction * months as f64).round() as i64;
                }
            }
            Unit::Days(days) => {
                let added = whole.checked_mul(days).ok_or(Fault::Range)?;
                self.days = self.days.checked_add(added).ok_or(Fault::Range)?;
                self.add_days(fraction * days as f64)?;
            }
            Unit::Us(us) => {
                let added = whole.checked_mul(us).ok_or(Fault::Range)?;
                let rest = (fraction * us as f64).round() as i64;
                self.us = self
                    .us
                    .checked_add(added)
                    .and_then(|sum| sum.checked_add(rest))
                    .ok_or(Fault::Range)?;
            }
        }
        Ok(())
    }

    /// Whole days, and the rest as time.
    fn add_days(&mut self, days: f64) -> Step {
        let whole = days.trunc();
        self.days = self.days.checked_add(whole as i64).ok_or(Fault::Range)?;
        let us = ((days - whole) * 86_400e6).round() as i64;
        self.us = self.us.checked_add(us).ok_or(Fault::Range)?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Number {
    whole: i64,
    fraction: f64,
}

#[derive(Clone, Copy)]
enum Unit {
    Months(i64),
    Days(i64),
    Us(i64),
}

fn unit(word: &str) -> Option<Unit> {
    let word = word.to_ascii_lowercase();
    Some(match word.as_str() {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" | "microsecon" => Unit::Us(1),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" | "millisecon" => Unit::Us(1000),
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Us(1_000_000),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Us(60_000_000),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Us(3_600_000_000),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return None,
    })
}

/// Splits a number with sign and fraction off the front.
fn number(text: &str) -> Step<(Number, bool, &str)> {
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = body.split_at(digits);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => {
            let length = after.bytes().take_while(u8::is_ascii_digit).count();
            after.split_at(length)
        }
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(Fault::Syntax);
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Fault::Range)? };
    let fraction: f64 = format!("0.{fraction}0").parse().map_err(|_| Fault::Syntax)?;
    let sign = if negative { -1 } else { 1 };
    let number = Number { whole: whole * sign, fraction: fraction * sign as f64 };
    Ok((number, negative, rest))
}

/// The part after the hours of `hours:minutes[:seconds]`; `minutes:seconds.fraction` when the
/// second part has a fraction.
fn clock(first: Number, negative: bool, rest: &str, sum: &mut Sum) -> Step<usize> {
    let signed = |n: Number| {
        let sign = if negative { -1 } else { 1 };
        Number { whole: n.whole * sign, fraction: n.fraction * sign as f64 }
    };
    let start = rest.len();
    let digits = |text: &str| text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if !digits(rest) || first.fraction != 0.0 {
        return Err(Fault::Syntax);
    }
    let (second, _, rest) = number(rest)?;
    if let Some(rest) = rest.strip_prefix(':') {
        if !digits(rest) || second.fraction != 0.0 {
            return Err(Fault::Syntax);
        }
        let (third, _, rest) = number(rest)?;
        if second.whole > 59 || third.whole > 60 {
            return Err(Fault::Range);
        }
        sum.add(first, Unit::Us(3_600_000_000))?;
        sum.add(signed(second), Unit::Us(60_000_000))?;
        sum.add(signed(third), Unit::Us(1_000_000))?;
        return Ok(start - rest.len());
    }
    if second.whole > 59 {
        return Err(Fault::Range);
    }
    let (high, low) = if second.fraction == 0.0 {
        (Unit::Us(3_600_000_000), Unit::Us(60_000_000))
    } else {
        (Unit::Us(60_000_000), Unit::Us(1_000_000))
    };
    sum.add(first, high)?;
    sum.add(signed(second), low)?;
    Ok(start - rest.len())
}

fn words(text: &str, sum: &mut Sum) -> Step {
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim_ascii_start();
    if rest.is_empty() {
        return Err(Fault::Syntax);
    }
    while !rest.is_empty() {
        if rest.eq_ignore_ascii_case("ago") {
            (sum.months, sum.days, sum.us) = (-sum.months, -sum.days, -sum.us);
            return Ok(());
        }
        let (value, negative, after) = number(rest)?;
        if let Some(after) = after.strip_prefix(':') {
            let used = clock(value, negative, after, sum)?;
            rest = after[used..].trim_ascii_start();
            continue;
        }
        // SQL's years-months: `1-2`.
        if let Some(months) = after.strip_prefix('-')
            && months.as_bytes().first().is_some_and(u8::is_ascii_digit)
        {
            let (months, _, after) = number(months)?;
            if months.whole > 11 || months.fraction != 0.0 || value.fraction != 0.0 {
                return Err(Fault::Range);
            }
            let sign = if negative { -1 } else { 1 };
            sum.add(value, Unit::Months(12))?;
            sum.add(Number { whole: months.whole * sign, fraction: 0.0 }, Unit::Months(1))?;
            rest = after.trim_ascii_start();
            continue;
        }
        let gap = after.trim_ascii_start();
        let letters = gap.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, after) = gap.split_at(letters);
        if name.is_empty() || name.eq_ignore_ascii_case("ago") {
            // A bare number counts days in front of a time, else seconds.
            let time_follows = gap.split_ascii_whitespace().next().is_some_and(|w| w.contains(':'));
            sum.add(value, if time_follows { Unit::Days(1) } else { Unit::Us(1_000_000) })?;
            if !gap.is_empty() && !time_follows && name.is_empty() {
                return Err(Fault::Syntax);
            }
            rest = gap;
            continue;
        }
        sum.add(value, unit(name).ok_or(Fault::Syntax)?)?;
        rest = after.trim_ascii_start();
    }
    Ok(())
}

fn iso(text: &str, sum: &mut Sum) -> Step {
    let mut rest = text;
    let mut in_time = false;
    let mut any = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']) {
            if in_time {
                return Err(Fault::Syntax);
            }
            in_time = true;
            rest = after;
            continue;
        }
        let (value, _, after) = number(rest)?;
        let mut chars = after.chars();
        let unit = match (chars.next().map(|c| c.to_ascii_uppercase()), in_time) {
            (Some('Y'), false) => Unit::Months(12),
            (Some('M'), false) => Unit::Months(1),
            (Some('W'), false) => Unit::Days(7),
            (Some('D'), false) => Unit::Days(1),
            (Some('H'), true) => Unit::Us(3_600_000_000),
            (Some('M'), true) => Unit::Us(60_000_000),
            (Some('S'), true) => Unit::Us(1_000_000),
            _ => return Err(Fault::Syntax),
        };
        sum.add(value, unit)?;
        any = true;
        rest = chars.as_str();
    }
    if any { Ok(()) } else { Err(Fault::Syntax) }
}
