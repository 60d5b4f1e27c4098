//! Settings, transactions, prepared statements, notifications.

use auspex_plan::{Diagnostic, Span};
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::show::setting_name;
use super::{Result, options, rest, types};
use crate::statement::{
    Discard, Ident, Maintenance, Prepare, SetStatement, SetValue, StatementKind, Transaction,
    TransactionMode,
};

pub(super) fn notify(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let channel = r.ident()?;
    let payload = if r.symbol(&Token::Comma) { r.string()?.0 } else { String::new() };
    Ok(StatementKind::Notify { channel, payload })
}

pub(super) fn transaction(r: &mut Reader) -> Result<StatementKind> {
    let first = r.peek_word(0).unwrap_or_default();
    r.advance();
    let transaction = match first.as_str() {
        "savepoint" => Transaction::Savepoint(r.ident()?),
        "release" => {
            r.word("savepoint");
            Transaction::Release(r.ident()?)
        }
        "start" => {
            r.expect("transaction")?;
            Transaction::Begin(modes(r)?)
        }
        "begin" => {
            block_word(r);
            Transaction::Begin(modes(r)?)
        }
        "commit" | "end" => {
            not_two_phase(r)?;
            block_word(r);
            Transaction::Commit { chain: chain(r)? }
        }
        _ => {
            not_two_phase(r)?;
            block_word(r);
            if first == "rollback" && r.word("to") {
                r.word("savepoint");
                Transaction::RollbackTo(r.ident()?)
            } else {
                Transaction::Rollback { chain: chain(r)? }
            }
        }
    };
    Ok(StatementKind::Transaction(transaction))
}

/// `WORK` and `TRANSACTION` say nothing.
fn block_word(r: &mut Reader) {
    if !r.word("work") {
        r.word("transaction");
    }
}

fn not_two_phase(r: &Reader) -> Result<()> {
    if r.at(&["prepared"]) {
        return Err(Diagnostic::unsupported("two-phase commit is not supported").at(r.here()));
    }
    Ok(())
}

fn chain(r: &mut Reader) -> Result<bool> {
    if r.words(&["and", "no", "chain"]) {
        return Ok(false);
    }
    Ok(r.words(&["and", "chain"]))
}

fn modes(r: &mut Reader) -> Result<Vec<TransactionMode>> {
    let mut modes = Vec::new();
    while !r.is_end() {
        if !modes.is_empty() {
            r.symbol(&Token::Comma);
        }
        modes.push(mode(r)?);
    }
    Ok(modes)
}

fn mode(r: &mut Reader) -> Result<TransactionMode> {
    if r.words(&["isolation", "level"]) {
        for (words, name) in [
            (&["serializable"][..], "serializable"),
            (&["repeatable", "read"], "repeatable read"),
            (&["read", "committed"], "read committed"),
            (&["read", "uncommitted"], "read uncommitted"),
        ] {
            if r.words(words) {
                return Ok(TransactionMode::Isolation(name));
            }
        }
    }
    for (words, mode) in [
        (&["read", "only"][..], TransactionMode::ReadOnly(true)),
        (&["read", "write"], TransactionMode::ReadOnly(false)),
        (&["not", "deferrable"], TransactionMode::Deferrable(false)),
        (&["deferrable"], TransactionMode::Deferrable(true)),
    ] {
        if r.words(words) {
            return Ok(mode);
        }
    }
    Err(r.unexpected())
}

pub(super) fn set(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    if r.words(&["session", "characteristics", "as", "transaction"]) {
        return transaction_modes(r, true);
    }
    if r.at(&["constraints"]) {
        return Err(Diagnostic::unsupported("SET CONSTRAINTS is not supported").at(r.here()));
    }
    let local = r.word("local");
    // `SET SESSION AUTHORIZATION x` is a setting of its own.
    if !local && !r.at(&["session", "authorization"]) {
        r.word("session");
    }
    if r.at(&["transaction"]) && r.peek_nth(1) != &Token::Eq {
        r.advance();
        return transaction_modes(r, false);
    }
    let start = r.position();
    let special = [
        (&["time", "zone"][..], "timezone"),
        (&["names"], "client_encoding"),
        (&["session", "authorization"], "session_authorization"),
        (&["role"], "role"),
        (&["schema"], "search_path"),
    ]
    .into_iter()
    .find(|(words, _)| {
        let next = r.peek_nth(words.len());
        r.at(words) && next != &Token::Eq && !is_word(next, "to")
    });
    let name = match special {
        Some((words, name)) => {
            r.words(words);
            Ident { value: name.into(), span: r.since(start) }
        }
        None => {
            let name = setting_name(r)?;
            if !r.symbol(&Token::Eq) {
                r.expect("to")?;
            }
            name
        }
    };
    let start = r.position();
    let value = set_value(r, &name)?;
    let value_span = r.since(start);
    Ok(StatementKind::Set(SetStatement { local, name, value, value_span }))
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn transaction_modes(r: &mut Reader, session: bool) -> Result<StatementKind> {
    if r.at(&["snapshot"]) {
        return Err(
            Diagnostic::unsupported("SET TRANSACTION SNAPSHOT is not supported").at(r.here())
        );
    }
    let modes = modes(r)?;
    if modes.is_empty() {
        return Err(r.unexpected());
    }
    Ok(StatementKind::Transaction(Transaction::Set { session, modes }))
}

fn set_value(r: &mut Reader, name: &Ident) -> Result<SetValue> {
    let default = match name.value.as_str() {
        "timezone" => r.word("default") || r.word("local"),
        // `SET NAMES;` is the default encoding.
        "client_encoding" => r.word("default") || r.is_end(),
        _ => r.word("default"),
    };
    if default {
        return Ok(SetValue::Default);
    }
    r.list(set_item).map(SetValue::Values)
}

fn set_item(r: &mut Reader) -> Result<String> {
    if r.at(&["interval"]) && options::is_string(r.peek_nth(1)) {
        r.advance();
        let (text, _) = r.string()?;
        // `SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE`, as drivers send it.
        r.words(&["hour", "to", "minute"]);
        return Ok(text);
    }
    if options::is_string(r.peek_token()) {
        return Ok(r.string()?.0);
    }
    if let Some(mut number) = options::number(r) {
        // A number with a unit is a string in PostgreSQL, but `5ms` is easily written.
        if let Some(unit) = r.peek_word(0) {
            number.push_str(&unit);
            r.advance();
        }
        return Ok(number);
    }
    options::any_word(r)
}

pub(super) fn reset(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let start = r.position();
    let name = if r.word("all") {
        None
    } else if r.words(&["time", "zone"]) {
        Some(named("timezone", r.since(start)))
    } else if r.words(&["session", "authorization"]) {
        Some(named("session_authorization", r.since(start)))
    } else if r.words(&["transaction", "isolation", "level"]) {
        Some(named("transaction_isolation", r.since(start)))
    } else {
        Some(setting_name(r)?)
    };
    Ok(StatementKind::Reset(name))
}

fn named(name: &str, span: Span) -> Ident {
    Ident { value: name.into(), span }
}

pub(super) fn discard(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    for (word, discard) in [
        ("all", Discard::All),
        ("plans", Discard::Plans),
        ("sequences", Discard::Sequences),
        ("temp", Discard::Temp),
        ("temporary", Discard::Temp),
    ] {
        if r.word(word) {
            return Ok(StatementKind::Discard(discard));
        }
    }
    Err(r.unexpected())
}

pub(super) fn prepare(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    if r.at(&["transaction"]) {
        return Err(Diagnostic::unsupported("two-phase commit is not supported").at(r.here()));
    }
    let name = r.ident()?;
    let types = match r.peek_token() {
        Token::LParen => r.parenthesised(|r| {
            if r.word("unknown") { Ok(None) } else { types::read(r).map(|(t, _)| Some(t)) }
        })?,
        _ => Vec::new(),
    };
    r.expect("as")?;
    let place = r.here();
    let statement = rest(r)?;
    match statement.kind {
        StatementKind::Query(_)
        | StatementKind::Insert(_)
        | StatementKind::Update(_)
        | StatementKind::Delete(_)
        | StatementKind::Subscribe(_) => {}
        _ => {
            return Err(Diagnostic::syntax("this statement cannot be prepared")
                .hint("PREPARE takes SELECT, VALUES, INSERT, UPDATE, DELETE or SUBSCRIBE.")
                .at(place));
        }
    }
    Ok(StatementKind::Prepare(Prepare { name, types, statement: Box::new(statement) }))
}

pub(super) fn execute(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let name = r.ident()?;
    let arguments = match r.peek_token() {
        Token::LParen => r.parenthesised(Reader::expr)?,
        _ => Vec::new(),
    };
    Ok(StatementKind::Execute { name, arguments })
}

pub(super) fn deallocate(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    if r.at(&["prepare"]) && !matches!(r.peek_nth(1), Token::EOF) {
        r.advance();
    }
    if r.word("all") {
        return Ok(StatementKind::Deallocate(None));
    }
    Ok(StatementKind::Deallocate(Some(r.ident()?)))
}

/// `VACUUM`, `ANALYZE`, `CHECKPOINT`: options and tables are read so that errors of form show, and
/// mean nothing, which the notice says.
pub(super) fn maintenance(r: &mut Reader) -> Result<StatementKind> {
    let what = match r.peek_word(0).as_deref() {
        Some("vacuum") => Maintenance::Vacuum,
        Some("checkpoint") => Maintenance::Checkpoint,
        _ => Maintenance::Analyze,
    };
    r.advance();
    if what != Maintenance::Checkpoint {
        if r.peek_token() == &Token::LParen {
            options::list(r)?;
        }
        while ["full", "freeze", "verbose", "analyze", "analyse"].iter().any(|w| r.word(w)) {}
        if !r.is_end() {
            r.list(|r| {
                r.name()?;
                if r.peek_token() == &Token::LParen {
                    r.parenthesised(Reader::ident)?;
                }
                Ok(())
            })?;
        }
    }
    Ok(StatementKind::Maintenance(what))
}
