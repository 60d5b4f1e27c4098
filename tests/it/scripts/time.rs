//! Times and durations of scripts: `90s`, `1h30m`, `-2m`, `1.5s`; times count from 2000-01-01 UTC.

/// Microseconds from 1970 to 2000, both at midnight UTC.
pub(crate) const EPOCH_US: i64 = 946_684_800_000_000;

const UNITS: [(&str, i64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

/// Microseconds of a duration.
pub(crate) fn duration_us(text: &str) -> Result<i64, String> {
    let bad = || format!("not a duration: {text}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        total += whole.parse::<i64>().map_err(|_| bad())? * factor;
        let mut place = *factor;
        for digit in fraction.chars() {
            place /= 10;
            total += i64::from(digit.to_digit(10).ok_or_else(bad)?) * place;
        }
        rest = tail;
    }
    Ok(sign * total)
}

/// Microseconds since 1970 of a time written as the duration since 2000-01-01.
pub(crate) fn moment_us(text: &str) -> Result<i64, String> {
    Ok(EPOCH_US + duration_us(text)?)
}
