//! `COPY ..`.

use auspex_plan::Diagnostic;
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::{Result, options, rest, subscribe};
use crate::statement::{CopyStatement, CopyWhat, Ident, Opt, OptValue, StatementKind};

pub(super) fn copy(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    if r.peek_token() == &Token::LParen {
        let what = body(r)?;
        if r.at(&["from"]) {
            return Err(r.unexpected());
        }
        r.expect("to")?;
        place(r, "stdout")?;
        let options = copy_options(r)?;
        return Ok(StatementKind::Copy(CopyStatement { what, options }));
    }
    // `COPY BINARY t FROM STDIN`, of PostgreSQL before 7.3.
    let binary = r.at(&["binary"])
        && matches!(r.peek_nth(1), Token::Word(_))
        && !{ matches!(r.peek_word(1).as_deref(), Some("from" | "to")) };
    let binary_at = r.here();
    if binary {
        r.advance();
    }
    let name = r.name()?;
    let columns = match r.peek_token() {
        Token::LParen => r.parenthesised(Reader::ident)?,
        _ => Vec::new(),
    };
    let what = if r.word("from") {
        place(r, "stdin")?;
        CopyWhat::From { name, columns }
    } else {
        r.expect("to")?;
        place(r, "stdout")?;
        CopyWhat::To { name, columns }
    };
    let mut options = copy_options(r)?;
    if binary {
        options.push(Opt {
            name: Ident { value: "format".into(), span: binary_at },
            value: Some(OptValue::Word("binary".into())),
            span: binary_at,
        });
    }
    if r.at(&["where"]) {
        return Err(Diagnostic::unsupported("COPY .. WHERE is not supported").at(r.here()));
    }
    Ok(StatementKind::Copy(CopyStatement { what, options }))
}

/// `(query)`, `(SUBSCRIBE ..)`.
fn body(r: &mut Reader) -> Result<CopyWhat> {
    r.expect_symbol(&Token::LParen)?;
    let start = r.here();
    let what = match r.peek_word(0).as_deref() {
        Some("subscribe" | "tail") => CopyWhat::Subscribe(subscribe::subscribe(r)?),
        Some("insert" | "update" | "delete") => {
            return Err(Diagnostic::unsupported(
                "COPY of an INSERT, UPDATE or DELETE is not supported",
            )
            .hint("Use its RETURNING clause without COPY.")
            .at(start));
        }
        Some("select" | "values" | "with" | "table") => CopyWhat::Query(r.query()?),
        _ if r.peek_token() == &Token::LParen => CopyWhat::Query(r.query()?),
        _ => {
            let statement = rest(r)?;
            return Err(Diagnostic::syntax("COPY needs a query").at(statement.span));
        }
    };
    r.expect_symbol(&Token::RParen)?;
    Ok(what)
}

fn place(r: &mut Reader, wanted: &str) -> Result<()> {
    // PostgreSQL takes either word in either direction.
    if r.word("stdin") || r.word("stdout") {
        return Ok(());
    }
    if options::is_string(r.peek_token()) || r.at(&["program"]) {
        return Err(Diagnostic::unsupported("COPY of files of the server is not supported")
            .hint(format!(
                "Use {}; psql's \\copy reads and writes files of the client.",
                wanted.to_ascii_uppercase()
            ))
            .at(r.here()));
    }
    Err(r.unexpected())
}

/// `[WITH] (name value, ..)`, or the words of PostgreSQL before 9.0.
fn copy_options(r: &mut Reader) -> Result<Vec<Opt>> {
    r.word("with");
    if r.peek_token() == &Token::LParen {
        return options::list(r);
    }
    let mut found = Vec::new();
    while let Some(option) = legacy_option(r)? {
        found.push(option);
    }
    Ok(found)
}

fn legacy_option(r: &mut Reader) -> Result<Option<Opt>> {
    let start = r.position();
    let Some(word) = r.peek_word(0) else { return Ok(None) };
    let (name, value) = match word.as_str() {
        "binary" | "csv" => {
            r.advance();
            ("format", Some(OptValue::Word(word)))
        }
        "header" | "freeze" => {
            r.advance();
            (if word == "header" { "header" } else { "freeze" }, None)
        }
        "delimiter" | "delimiters" | "null" | "quote" | "escape" | "encoding" => {
            r.advance();
            r.word("as");
            let name = match word.as_str() {
                "delimiters" | "delimiter" => "delimiter",
                "null" => "null",
                "quote" => "quote",
                "escape" => "escape",
                _ => "encoding",
            };
            (name, Some(OptValue::Text(r.string()?.0)))
        }
        "force" => {
            r.advance();
            let name = if r.words(&["not", "null"]) {
                "force_not_null"
            } else if r.word("null") {
                "force_null"
            } else {
                r.expect("quote")?;
                "force_quote"
            };
            let columns = if r.symbol(&Token::Mul) {
                OptValue::All
            } else {
                let names = r.list(Reader::ident)?;
                OptValue::List(names.into_iter().map(|n| n.value).collect())
            };
            (name, Some(columns))
        }
        _ => return Ok(None),
    };
    let span = r.since(start);
    Ok(Some(Opt { name: Ident { value: name.into(), span }, value, span }))
}
