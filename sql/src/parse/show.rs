//! `SHOW ..` and `DESCRIBE ..`.

use super::reader::Reader;
use super::{Result, options};
use crate::statement::{Ident, Show, StatementKind};

pub(super) fn show(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let start = r.position();
    let setting =
        |r: &Reader, name: &str| Show::Setting(Ident { value: name.into(), span: r.since(start) });
    let show = if r.word("all") {
        Show::All
    } else if r.words(&["time", "zone"]) {
        setting(r, "timezone")
    } else if r.words(&["transaction", "isolation", "level"]) {
        setting(r, "transaction_isolation")
    } else if r.words(&["session", "authorization"]) {
        setting(r, "session_authorization")
    } else if r.word("streams") {
        Show::Streams(like(r)?)
    } else if r.word("tables") {
        Show::Tables(like(r)?)
    } else if r.words(&["materialized", "views"]) {
        Show::Views(like(r)?)
    } else if r.word("sinks") {
        Show::Sinks(like(r)?)
    } else if r.word("pipelines") {
        Show::Pipelines(like(r)?)
    } else if r.at(&["columns", "from"]) || r.at(&["columns", "in"]) {
        r.advance();
        r.advance();
        Show::Columns(r.name()?)
    } else {
        Show::Setting(setting_name(r)?)
    };
    Ok(StatementKind::Show(show))
}

fn like(r: &mut Reader) -> Result<Option<String>> {
    if r.word("like") { Ok(Some(r.string()?.0)) } else { Ok(None) }
}

/// The name of a setting; dots belong to it.
pub(super) fn setting_name(r: &mut Reader) -> Result<Ident> {
    let start = r.position();
    let mut value = options::any_word(r)?;
    while r.symbol(&sqlparser::tokenizer::Token::Period) {
        value.push('.');
        value.push_str(&options::any_word(r)?);
    }
    Ok(Ident { value: value.to_ascii_lowercase(), span: r.since(start) })
}

pub(super) fn describe(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    if !r.word("stream") {
        r.word("table");
    }
    Ok(StatementKind::Show(Show::Columns(r.name()?)))
}
