//! `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::{Result, options, subscribe};
use crate::statement::{CursorBody, DeclareCursor, Direction, FetchCursor, StatementKind};

pub(super) fn declare(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let name = r.ident()?;
    let mut binary = false;
    let mut scroll = None;
    loop {
        if r.word("binary") {
            binary = true;
        } else if r.words(&["no", "scroll"]) {
            scroll = Some(false);
        } else if r.word("scroll") {
            scroll = Some(true);
        } else if !(r.word("insensitive") || r.word("asensitive")) {
            break;
        }
    }
    let subscription = r.at(&["subscription", "cursor"]);
    if subscription {
        r.advance();
    }
    r.expect("cursor")?;
    let hold = r.words(&["with", "hold"]);
    if !hold {
        r.words(&["without", "hold"]);
    }
    r.expect("for")?;
    let body = if subscription {
        CursorBody::Subscribe(subscribe::since(r)?)
    } else if r.at(&["subscribe"]) || r.at(&["tail"]) {
        CursorBody::Subscribe(subscribe::subscribe(r)?)
    } else {
        CursorBody::Query(r.query()?)
    };
    Ok(StatementKind::Declare(DeclareCursor { name, binary, scroll, hold, body }))
}

pub(super) fn fetch(r: &mut Reader) -> Result<StatementKind> {
    let is_move = r.at(&["move"]);
    r.advance();
    let direction = direction(r)?;
    if !r.word("from") {
        r.word("in");
    }
    let cursor = r.ident()?;
    let mut timeout_us = None;
    for option in options::with(r)? {
        match (option.name.value.as_str(), option.text()) {
            ("timeout", Some(text)) => {
                timeout_us = Some(options::duration_us(text, option.span)?);
            }
            _ => {
                return Err(Diagnostic::error(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unrecognized option \"{}\" of FETCH", option.name.value),
                )
                .hint("The option is TIMEOUT, such as WITH (TIMEOUT '1 s').")
                .at(option.name.span));
            }
        }
    }
    Ok(StatementKind::Fetch(FetchCursor { cursor, direction, is_move, timeout_us }))
}

/// The direction, which ends where the cursor's name (with or without `FROM`) begins. A cursor may
/// be called `next`: a word that ends the statement is the cursor.
fn direction(r: &mut Reader) -> Result<Direction> {
    if let Some(n) = count(r)? {
        return Ok(signed(n));
    }
    let Some(word) = r.peek_word(0) else { return Ok(Direction::Forward(Some(1))) };
    if !matches!(r.peek_nth(1), Token::Word(_) | Token::Number(..) | Token::Minus | Token::Plus) {
        return Ok(Direction::Forward(Some(1)));
    }
    let simple = match word.as_str() {
        "next" => Some(Direction::Forward(Some(1))),
        "prior" => Some(Direction::Backward(Some(1))),
        "first" => Some(Direction::Absolute(1)),
        "last" => Some(Direction::Absolute(-1)),
        "all" => Some(Direction::Forward(None)),
        _ => None,
    };
    if let Some(direction) = simple {
        r.advance();
        return Ok(direction);
    }
    match word.as_str() {
        "absolute" | "relative" => {
            r.advance();
            let Some(n) = count(r)? else { return Err(r.unexpected()) };
            Ok(if word == "absolute" { Direction::Absolute(n) } else { Direction::Relative(n) })
        }
        "forward" | "backward" => {
            r.advance();
            let forward = word == "forward";
            if r.word("all") {
                let all =
                    if forward { Direction::Forward(None) } else { Direction::Backward(None) };
                return Ok(all);
            }
            let n = count(r)?.unwrap_or(1);
            Ok(signed(if forward { n } else { n.saturating_neg() }))
        }
        _ => Ok(Direction::Forward(Some(1))),
    }
}

fn signed(n: i64) -> Direction {
    if n >= 0 {
        Direction::Forward(Some(n.unsigned_abs()))
    } else {
        Direction::Backward(Some(n.unsigned_abs()))
    }
}

fn count(r: &mut Reader) -> Result<Option<i64>> {
    let place = r.here();
    let Some(number) = options::number(r) else { return Ok(None) };
    number
        .parse()
        .map(Some)
        .map_err(|_| Diagnostic::syntax(format!("syntax error at or near \"{number}\"")).at(place))
}

pub(super) fn close(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    if r.word("all") {
        return Ok(StatementKind::Close(None));
    }
    Ok(StatementKind::Close(Some(r.ident()?)))
}
