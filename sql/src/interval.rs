//! PostgreSQL's interval texts.

use arrow::array::types::IntervalMonthDayNano;

/// Nanoseconds of a day's parts.
const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;

/// Sums of the three fields while reading.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
}

/// Reads `1 year 2 months 3 days 04:05:06.7`, `5s`, `1 h 30 min`, `-1 day`, `2 weeks ago`. Fractions
/// of months and days flow into the smaller fields as in PostgreSQL (30 days, 24 hours).
pub(crate) fn parse_interval(text: &str) -> Option<IntervalMonthDayNano> {
    let mut sum = Sum::default();
    let mut rest = text.trim().trim_start_matches('@').trim_start();
    let mut any = false;
    while !rest.is_empty() {
        if rest.eq_ignore_ascii_case("ago") && any {
            sum = Sum { months: -sum.months, days: -sum.days, nanos: -sum.nanos };
            break;
        }
        rest = item(rest, &mut sum)?.trim_start();
        any = true;
    }
    if !any {
        return None;
    }
    Some(IntervalMonthDayNano::new(
        i32::try_from(sum.months).ok()?,
        i32::try_from(sum.days).ok()?,
        i64::try_from(sum.nanos).ok()?,
    ))
}

/// One number with its unit, or a clock time; returns what follows.
fn item<'a>(text: &'a str, sum: &mut Sum) -> Option<&'a str> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap_or(unsigned.len());
    let (number, rest) = unsigned.split_at(end);
    if number.contains(':') {
        let nanos = clock(number)?;
        sum.nanos = sum.nanos.checked_add(if negative { -nanos } else { nanos })?;
        return Some(rest);
    }
    let value = billionths(number)?;
    let value = if negative { -value } else { value };
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    add(unit, value, sum)?;
    Some(rest)
}

/// A decimal number in billionths.
fn billionths(number: &str) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut scaled = 0i128;
    for (digit, place) in fraction.bytes().zip((0..9u32).rev()) {
        scaled += i128::from(digit - b'0') * 10i128.pow(place);
    }
    Some(whole * SECOND + scaled)
}

/// `h:m`, `h:m:s` or `h:m:s.f` in nanoseconds.
fn clock(text: &str) -> Option<i128> {
    let parts: Vec<&str> = text.split(':').collect();
    let (&hours, rest) = parts.split_first()?;
    let minutes = rest.first()?;
    let seconds = rest.get(1).copied().unwrap_or("0");
    if rest.len() > 2 || hours.len() > 12 || minutes.len() > 2 {
        return None;
    }
    let (h, m): (i128, i128) = (hours.parse().ok()?, minutes.parse().ok()?);
    let s = billionths(seconds)?;
    (m < 60 && s < MINUTE).then(|| h * HOUR + m * MINUTE + s)
}

/// Adds `value` billionths of a unit.
fn add(unit: &str, value: i128, sum: &mut Sum) -> Option<()> {
    let unit = unit.to_ascii_lowercase();
    let months_per = match unit.as_str() {
        "mon" | "mons" | "month" | "months" => 1,
        "y" | "yr" | "yrs" | "year" | "years" => 12,
        "decade" | "decades" => 120,
        "century" | "centuries" => 1200,
        _ => 0,
    };
    if months_per > 0 {
        let months = value.checked_mul(months_per)?;
        sum.months += months / SECOND;
        return add_days(months % SECOND * 30, sum);
    }
    let nanos_per = match unit.as_str() {
        "ns" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "usec" | "usecs" | "microsecond" | "microseconds" => 1_000,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1_000_000,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => return add_days(value, sum),
        "w" | "week" | "weeks" => return add_days(value.checked_mul(7)?, sum),
        _ => return None,
    };
    sum.nanos = sum.nanos.checked_add(value.checked_mul(nanos_per)? / SECOND)?;
    Some(())
}

/// Adds `value` billionths of a day.
fn add_days(value: i128, sum: &mut Sum) -> Option<()> {
    sum.days += value / SECOND;
    sum.nanos = sum.nanos.checked_add(value % SECOND * (DAY / SECOND))?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(i32, i32, i64)>) {
        let found = parse_interval(text).map(|i| (i.months, i.days, i.nanoseconds));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn intervals_are_read_as_postgresql_reads_them() {
        check("5 seconds", Some((0, 0, 5_000_000_000)));
        check("5s", Some((0, 0, 5_000_000_000)));
        check("5", Some((0, 0, 5_000_000_000)));
        check("1 h 30 min", Some((0, 0, 5_400_000_000_000)));
        check("1 year 2 months 3 days 04:05:06.7", Some((14, 3, 14_706_700_000_000)));
        check("-1 day", Some((0, -1, 0)));
        check("2 weeks ago", Some((0, -14, 0)));
        check("1.5 days", Some((0, 1, 43_200_000_000_000)));
        check("0.5 months", Some((0, 15, 0)));
        check("-00:00:01", Some((0, 0, -1_000_000_000)));
        check("100 ms", Some((0, 0, 100_000_000)));
        for wrong in
            ["", "five", "5 bananas", "1:2:3:4", "1:99", "..", "ago", "99999999999999999999 s"]
        {
            check(wrong, None);
        }
    }
}
