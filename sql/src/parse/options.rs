//! `WITH (name = value, ..)` and the values in it.

use auspex_plan::{Diagnostic, Span, SqlState};
use sqlparser::tokenizer::Token;

use super::Result;
use super::reader::Reader;
use crate::statement::{Ident, Opt, OptValue};

/// `(name [=] value, ..)`.
pub(super) fn list(r: &mut Reader) -> Result<Vec<Opt>> {
    let options = r.parenthesised(option)?;
    for (i, option) in options.iter().enumerate() {
        if options[..i].iter().any(|o| o.name.value == option.name.value) {
            return Err(Diagnostic::syntax(format!(
                "option \"{}\" specified more than once",
                option.name.value
            ))
            .at(option.name.span));
        }
    }
    Ok(options)
}

/// `WITH (..)` if it comes next.
pub(super) fn with(r: &mut Reader) -> Result<Vec<Opt>> {
    if r.at(&["with"]) && r.peek_nth(1) == &Token::LParen {
        r.advance();
        return list(r);
    }
    Ok(Vec::new())
}

fn option(r: &mut Reader) -> Result<Opt> {
    let name = option_name(r)?;
    let equals = r.symbol(&Token::Eq);
    if !equals && matches!(r.peek_token(), Token::Comma | Token::RParen) {
        let span = name.span;
        return Ok(Opt { name, value: None, span });
    }
    let start = r.position();
    let value = value(r)?;
    Ok(Opt { name, value: Some(value), span: r.since(start) })
}

/// Words joined by dots; reserved words are fine here (`null`, `analyze`).
fn option_name(r: &mut Reader) -> Result<Ident> {
    let start = r.position();
    let mut value = any_word(r)?;
    while r.symbol(&Token::Period) {
        value.push('.');
        value.push_str(&any_word(r)?);
    }
    Ok(Ident { value, span: r.since(start) })
}

/// Any word, reserved or not; lower case unless quoted.
pub(super) fn any_word(r: &mut Reader) -> Result<String> {
    let word = match r.peek_token() {
        Token::Word(w) if w.quote_style.is_none() => w.value.to_ascii_lowercase(),
        Token::Word(w) => w.value.clone(),
        _ => return Err(r.unexpected()),
    };
    r.advance();
    Ok(word)
}

/// A value of an option.
pub(super) fn value(r: &mut Reader) -> Result<OptValue> {
    if r.at(&["interval"]) && is_string(r.peek_nth(1)) {
        r.advance();
        return Ok(OptValue::Text(r.string()?.0));
    }
    if r.at(&["secret"]) && matches!(r.peek_nth(1), Token::Word(_)) {
        return Err(Diagnostic::unsupported("SECRET is not supported").at(r.here()));
    }
    if is_string(r.peek_token()) {
        return Ok(OptValue::Text(r.string()?.0));
    }
    if let Some(number) = number(r) {
        return Ok(OptValue::Number(number));
    }
    match r.peek_token() {
        Token::LParen => Ok(OptValue::List(r.parenthesised(word_or_string)?)),
        Token::Mul => {
            r.advance();
            Ok(OptValue::All)
        }
        _ => Ok(OptValue::Word(any_word(r)?)),
    }
}

fn word_or_string(r: &mut Reader) -> Result<String> {
    if is_string(r.peek_token()) { Ok(r.string()?.0) } else { any_word(r) }
}

/// A number with an optional sign.
pub(super) fn number(r: &mut Reader) -> Option<String> {
    let sign = match r.peek_token() {
        Token::Minus => "-",
        Token::Plus => "",
        Token::Number(n, _) => {
            let n = n.clone();
            r.advance();
            return Some(n);
        }
        _ => return None,
    };
    let Token::Number(n, _) = r.peek_nth(1) else { return None };
    let text = format!("{sign}{n}");
    r.advance();
    r.advance();
    Some(text)
}

/// Whether a token is a string literal.
pub(super) fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::DollarQuotedString(_)
    )
}

/// Microseconds of an interval text (`5 seconds`, `1 h 30 min`, `00:00:05`); a month counts 30
/// days.
pub fn interval_us(text: &str) -> Option<i64> {
    let interval = crate::interval::parse_interval(text)?;
    let days = i64::from(interval.months).checked_mul(30)?.checked_add(i64::from(interval.days))?;
    days.checked_mul(86_400_000_000)?.checked_add(interval.nanoseconds / 1000)
}

/// An option's duration in microseconds, not negative.
pub(super) fn duration_us(text: &str, span: Span) -> Result<i64> {
    match interval_us(text) {
        Some(us) if us >= 0 => Ok(us),
        Some(_) => Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("interval \"{text}\" must not be negative"),
        )
        .at(span)),
        None => Err(Diagnostic::error(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        )
        .hint("Write a number and a unit, such as '5 seconds' or '1 hour 30 minutes'.")
        .at(span)),
    }
}

/// Microseconds of an interval of fixed length: without months.
pub(crate) fn fixed_us(text: &str, span: Span) -> Result<i64> {
    match crate::interval::parse_interval(text) {
        Some(interval) if interval.months != 0 => Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("interval \"{text}\" has no fixed length"),
        )
        .hint("Months and years differ in length; use days, hours, minutes or seconds.")
        .at(span)),
        _ => interval_us(text).ok_or_else(|| {
            Diagnostic::error(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type interval: \"{text}\""),
            )
            .hint("Write a number and a unit, such as '5 seconds' or '1 hour 30 minutes'.")
            .at(span)
        }),
    }
}

/// [`fixed_us`] of a length: positive.
pub(crate) fn length_us(text: &str, span: Span) -> Result<i64> {
    match fixed_us(text, span)? {
        us if us > 0 => Ok(us),
        _ => Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("interval \"{text}\" must be positive"),
        )
        .at(span)),
    }
}
