//! Objects that are a query: the part that `CREATE STREAM .. AS`, `CREATE MATERIALIZED VIEW` and
//! `CREATE SINK` share. `BACKUP TO`.

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::{Result, options};
use crate::statement::{CreateSink, CreateView, Ident, Opt, Query, StatementKind};

/// Names in parentheses, if they come next.
pub(super) fn names(r: &mut Reader) -> Result<Vec<Ident>> {
    match r.peek_token() {
        Token::LParen => r.parenthesised(Reader::ident),
        _ => Ok(Vec::new()),
    }
}

/// `[WITH (..)] AS query [WITH (..)]`.
pub(super) fn body(r: &mut Reader) -> Result<(Query, Vec<Opt>)> {
    let mut options = options::with(r)?;
    r.expect("as")?;
    if let Some(mut tail) = r.split_trailing_with() {
        let place = tail.here();
        if !options.is_empty() {
            return Err(Diagnostic::syntax("WITH is given twice").at(place));
        }
        options = options::with(&mut tail)?;
        tail.end()?;
    }
    let mut query = r.query()?;
    if let Some(i) = options.iter().position(|o| o.name.value == "allowed_lateness") {
        let option = options.remove(i);
        if query.emission.lateness.is_some() {
            return Err(
                Diagnostic::syntax("the allowed lateness is given twice").at(option.name.span)
            );
        }
        let Some(text) = option.text() else {
            return Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "allowed_lateness requires an interval",
            )
            .at(option.span));
        };
        let lateness = options::duration_us(text, option.span)?;
        query.emission.lateness = Some((lateness, option.name.span.to(option.span)));
    }
    Ok((query, options))
}

/// `CREATE MATERIALIZED VIEW ..`, from the name on.
pub(super) fn view(r: &mut Reader, or_replace: bool) -> Result<CreateView> {
    let if_not_exists = r.words(&["if", "not", "exists"]);
    let name = r.name()?;
    let columns = names(r)?;
    for (word, what) in [("using", "USING"), ("tablespace", "TABLESPACE")] {
        if r.at(&[word]) {
            return Err(Diagnostic::unsupported(format!(
                "{what} of materialized views is not supported"
            ))
            .at(r.here()));
        }
    }
    let (query, options) = body(r)?;
    if r.at(&["with", "no", "data"]) {
        return Err(Diagnostic::unsupported("WITH NO DATA is not supported").at(r.here()));
    }
    r.words(&["with", "data"]);
    Ok(CreateView { or_replace, if_not_exists, name, columns, query, options })
}

/// `CREATE SINK ..`, from the name on.
pub(super) fn sink(r: &mut Reader) -> Result<CreateSink> {
    let if_not_exists = r.words(&["if", "not", "exists"]);
    let name = r.name()?;
    if r.at(&["from"]) {
        return Err(Diagnostic::unsupported("CREATE SINK .. FROM is not supported")
            .hint("Sinks write into tables: CREATE SINK name INTO table AS SELECT ..")
            .at(r.here()));
    }
    r.expect("into")?;
    let table = r.name()?;
    let columns = names(r)?;
    let (query, options) = body(r)?;
    Ok(CreateSink { if_not_exists, name, table, columns, query, options })
}

/// `BACKUP TO 'directory'`.
pub(super) fn backup(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    r.expect("to")?;
    let (directory, span) = r.string()?;
    Ok(StatementKind::Backup { directory, span })
}
