//! `CREATE ..`.

use auspex_plan::catalog::Language;
use auspex_plan::{Diagnostic, Span, SqlState};
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::{Result, options, queries, types};
use crate::statement::{
    Check, ColumnDef, CreatePipeline, CreateStream, CreateStreamAs, CreateTable, Ident,
    StatementKind, WatermarkDef,
};

/// Kinds of objects that are not done: words behind `CREATE`, and how to name the statement.
const NOT_DONE: [(&[&str], &str); 26] = [
    (&["view"], "CREATE VIEW"),
    (&["recursive", "view"], "CREATE VIEW"),
    (&["connector"], "CREATE CONNECTOR"),
    (&["source"], "CREATE SOURCE"),
    (&["trigger"], "CREATE TRIGGER"),
    (&["function"], "CREATE FUNCTION"),
    (&["procedure"], "CREATE PROCEDURE"),
    (&["aggregate"], "CREATE AGGREGATE"),
    (&["secret"], "CREATE SECRET"),
    (&["subscription"], "CREATE SUBSCRIPTION"),
    (&["publication"], "CREATE PUBLICATION"),
    (&["role"], "CREATE ROLE"),
    (&["user"], "CREATE USER"),
    (&["group"], "CREATE GROUP"),
    (&["database"], "CREATE DATABASE"),
    (&["schema"], "CREATE SCHEMA"),
    (&["sequence"], "CREATE SEQUENCE"),
    (&["index"], "CREATE INDEX"),
    (&["unique", "index"], "CREATE INDEX"),
    (&["extension"], "CREATE EXTENSION"),
    (&["type"], "CREATE TYPE"),
    (&["domain"], "CREATE DOMAIN"),
    (&["rule"], "CREATE RULE"),
    (&["foreign"], "CREATE FOREIGN TABLE"),
    (&["temp"], "CREATE TEMPORARY .."),
    (&["temporary"], "CREATE TEMPORARY .."),
];

pub(super) fn create(r: &mut Reader) -> Result<StatementKind> {
    let start = r.position();
    r.advance();
    let or_replace = r.words(&["or", "replace"]);
    if r.word("stream") {
        return stream(r, or_replace);
    }
    if r.word("pipeline") {
        return Ok(StatementKind::CreatePipeline(pipeline(r, or_replace)?));
    }
    if r.words(&["materialized", "view"]) {
        return Ok(StatementKind::CreateView(queries::view(r, or_replace)?));
    }
    if r.at(&["sink"]) && or_replace {
        return Err(Diagnostic::unsupported("CREATE OR REPLACE SINK is not supported")
            .hint("Drop the sink first.")
            .at(r.here()));
    }
    if r.word("sink") {
        return Ok(StatementKind::CreateSink(queries::sink(r)?));
    }
    if r.at(&["table"]) && or_replace {
        return Err(Diagnostic::unsupported("CREATE OR REPLACE TABLE is not supported")
            .hint("Drop the table first.")
            .at(r.here()));
    }
    if r.word("table") {
        return Ok(StatementKind::CreateTable(table(r)?));
    }
    for (words, name) in NOT_DONE {
        if r.words(words) {
            return Err(
                Diagnostic::unsupported(format!("{name} is not supported")).at(r.since(start))
            );
        }
    }
    Err(r.unexpected())
}

fn stream(r: &mut Reader, or_replace: bool) -> Result<StatementKind> {
    let if_not_exists = r.words(&["if", "not", "exists"]);
    let name = r.name()?;
    if r.peek_token() == &Token::LParen && !is_name_list(r) {
        let body = body(r, BodyOf::Stream)?;
        clauses_not_done(r)?;
        let options = options::with(r)?;
        clauses_not_done(r)?;
        if r.at(&["as"]) {
            return Err(Diagnostic::syntax("a stream has either columns or a query")
                .hint("Leave out the types, or the query behind AS.")
                .at(r.here()));
        }
        return Ok(StatementKind::CreateStream(CreateStream {
            or_replace,
            if_not_exists,
            name,
            columns: body.columns,
            checks: body.checks,
            watermark: body.watermark,
            options,
        }));
    }
    let columns = queries::names(r)?;
    clauses_not_done(r)?;
    let (query, options) = queries::body(r)?;
    Ok(StatementKind::CreateStreamAs(CreateStreamAs {
        or_replace,
        if_not_exists,
        name,
        columns,
        query,
        options,
    }))
}

/// Whether the parenthesis that comes next holds names only.
fn is_name_list(r: &Reader) -> bool {
    let mut n = 1;
    loop {
        if !matches!(r.peek_nth(n), Token::Word(_)) {
            return false;
        }
        match r.peek_nth(n + 1) {
            Token::Comma => n += 2,
            Token::RParen => return true,
            _ => return false,
        }
    }
}

/// Clauses of the design that are not done.
fn clauses_not_done(r: &Reader) -> Result<()> {
    for (words, name) in
        [(&["partition", "by"][..], "PARTITION BY"), (&["dedupe", "by"], "DEDUPE BY")]
    {
        if r.at(words) {
            return Err(Diagnostic::unsupported(format!("{name} is not supported")).at(r.here()));
        }
    }
    Ok(())
}

fn table(r: &mut Reader) -> Result<CreateTable> {
    let if_not_exists = r.words(&["if", "not", "exists"]);
    let name = r.name()?;
    if r.at(&["as"]) || (r.peek_token() == &Token::LParen && is_name_list(r)) {
        return Err(Diagnostic::unsupported("CREATE TABLE .. AS is not supported")
            .hint("Create the table, then INSERT INTO it .. SELECT.")
            .at(r.here()));
    }
    let body = body(r, BodyOf::Table)?;
    for (word, what) in [
        ("with", "table options"),
        ("inherits", "INHERITS"),
        ("partition", "PARTITION BY"),
        ("on", "ON COMMIT"),
        ("tablespace", "TABLESPACE"),
        ("using", "USING"),
    ] {
        if r.at(&[word]) {
            return Err(
                Diagnostic::unsupported(format!("{what} of tables is not supported")).at(r.here())
            );
        }
    }
    Ok(CreateTable {
        if_not_exists,
        name,
        columns: body.columns,
        checks: body.checks,
        primary_key: body.primary_key,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyOf {
    Stream,
    Table,
}

#[derive(Default)]
struct Body {
    columns: Vec<ColumnDef>,
    checks: Vec<Check>,
    primary_key: Vec<Ident>,
    watermark: Option<WatermarkDef>,
}

/// `(columns, constraints)`.
fn body(r: &mut Reader, of: BodyOf) -> Result<Body> {
    let mut body = Body::default();
    r.expect_symbol(&Token::LParen)?;
    if r.symbol(&Token::RParen) {
        return Err(Diagnostic::error(
            SqlState::INVALID_TABLE_DEFINITION,
            "at least one column is needed",
        )
        .at(r.here()));
    }
    loop {
        element(r, of, &mut body)?;
        if !r.symbol(&Token::Comma) {
            break;
        }
    }
    r.expect_symbol(&Token::RParen)?;
    for column in &mut body.columns {
        column.not_null |= body.primary_key.iter().any(|k| k.value == column.name.value);
    }
    Ok(body)
}

fn element(r: &mut Reader, of: BodyOf, body: &mut Body) -> Result<()> {
    if r.at(&["watermark", "for"]) {
        let place = r.here();
        let watermark = watermark(r)?;
        if of == BodyOf::Table {
            return Err(Diagnostic::error(SqlState::WRONG_OBJECT_TYPE, "a table has no watermark")
                .at(place));
        }
        if body.watermark.replace(watermark).is_some() {
            return Err(Diagnostic::syntax("WATERMARK FOR is given twice").at(place));
        }
        return Ok(());
    }
    if r.at(&["like"]) {
        return Err(Diagnostic::unsupported("LIKE in CREATE is not supported").at(r.here()));
    }
    let start = r.position();
    let name = if r.word("constraint") { Some(r.ident()?) } else { None };
    if r.at(&["check"]) {
        body.checks.push(check(r, name, None)?);
        return Ok(());
    }
    if r.words(&["primary", "key"]) {
        let columns = r.parenthesised(Reader::ident)?;
        return primary_key(of, body, columns, r.since(start));
    }
    for (word, what) in [
        ("unique", "UNIQUE constraints are"),
        ("foreign", "FOREIGN KEY constraints are"),
        ("exclude", "EXCLUDE constraints are"),
    ] {
        if r.at(&[word]) && (name.is_some() || word == "unique" || r.at(&[word, "key"])) {
            return Err(Diagnostic::unsupported(format!("{what} not supported")).at(r.here()));
        }
    }
    if name.is_some() {
        return Err(r.unexpected());
    }
    column(r, of, body)
}

fn primary_key(of: BodyOf, body: &mut Body, columns: Vec<Ident>, at: Span) -> Result<()> {
    if of == BodyOf::Stream {
        return Err(Diagnostic::unsupported("a stream has no primary key")
            .hint("Rows of a stream are identified by _offset. Use CREATE TABLE for keyed rows.")
            .at(at));
    }
    if !body.primary_key.is_empty() {
        return Err(Diagnostic::error(
            SqlState::INVALID_TABLE_DEFINITION,
            "multiple primary keys are not allowed",
        )
        .at(at));
    }
    body.primary_key = columns;
    Ok(())
}

fn column(r: &mut Reader, of: BodyOf, body: &mut Body) -> Result<()> {
    let name = r.ident()?;
    let (column_type, _) = types::read(r)?;
    let mut column =
        ColumnDef { name, column_type, not_null: false, default: None, generated: None };
    let mut null = None;
    loop {
        let start = r.position();
        let constraint = if r.word("constraint") { Some(r.ident()?) } else { None };
        if r.words(&["not", "null"]) {
            column.not_null = true;
            null = null.or(Some((false, r.since(start))));
        } else if r.word("null") {
            null = null.or(Some((true, r.since(start))));
        } else if r.word("default") {
            let expr = r.expr()?;
            if column.default.replace(expr).is_some() {
                return Err(twice("default", &column.name, r.since(start)));
            }
        } else if r.words(&["generated", "always", "as"]) {
            if r.at(&["identity"]) {
                return Err(identity(r.since(start)));
            }
            r.expect_symbol(&Token::LParen)?;
            let expr = r.expr()?;
            r.expect_symbol(&Token::RParen)?;
            r.expect("stored")?;
            if column.generated.replace(expr).is_some() {
                return Err(twice("generation expression", &column.name, r.since(start)));
            }
        } else if r.words(&["generated", "by", "default", "as", "identity"]) {
            return Err(identity(r.since(start)));
        } else if r.at(&["check"]) {
            let check = check(r, constraint, Some(column.name.value.clone()))?;
            body.checks.push(check);
        } else if r.words(&["primary", "key"]) {
            primary_key(of, body, vec![column.name.clone()], r.since(start))?;
            column.not_null = true;
        } else if let Some(what) = column_not_done(r) {
            return Err(Diagnostic::unsupported(format!("{what} is not supported")).at(r.here()));
        } else if constraint.is_some() {
            return Err(r.unexpected());
        } else {
            break;
        }
    }
    if let (Some((true, at)), true) = (null, column.not_null) {
        return Err(Diagnostic::syntax(format!(
            "conflicting NULL/NOT NULL declarations for column \"{}\"",
            column.name.value
        ))
        .at(at));
    }
    if let (Some(default), Some(_)) = (&column.default, &column.generated) {
        return Err(Diagnostic::syntax(format!(
            "both default and generation expression specified for column \"{}\"",
            column.name.value
        ))
        .at(default.span));
    }
    body.columns.push(column);
    Ok(())
}

fn column_not_done(r: &Reader) -> Option<&'static str> {
    [
        ("unique", "UNIQUE"),
        ("references", "REFERENCES"),
        ("collate", "COLLATE"),
        ("metadata", "METADATA"),
    ]
    .into_iter()
    .find_map(|(word, what)| r.at(&[word]).then_some(what))
}

fn identity(at: Span) -> Diagnostic {
    Diagnostic::unsupported("identity columns are not supported")
        .hint("Rows of a stream are numbered already: see the system column _offset.")
        .at(at)
}

fn twice(what: &str, column: &Ident, at: Span) -> Diagnostic {
    Diagnostic::syntax(format!("multiple {what}s specified for column \"{}\"", column.value)).at(at)
}

fn check(r: &mut Reader, name: Option<Ident>, column: Option<String>) -> Result<Check> {
    r.expect("check")?;
    r.expect_symbol(&Token::LParen)?;
    let expr = r.expr()?;
    r.expect_symbol(&Token::RParen)?;
    if r.at(&["no", "inherit"]) || r.at(&["not", "valid"]) {
        return Err(
            Diagnostic::unsupported("NO INHERIT and NOT VALID are not supported").at(r.here())
        );
    }
    Ok(Check { name, column, expr })
}

/// `WATERMARK FOR ts AS ts [- INTERVAL '..']`, or without `AS ..` for no disorder.
fn watermark(r: &mut Reader) -> Result<WatermarkDef> {
    r.words(&["watermark", "for"]);
    let column = r.ident()?;
    let mut delay_us = 0;
    if r.word("as") {
        let place = r.here();
        let again = r.ident()?;
        if again.value != column.value {
            return Err(watermark_form(&column).at(place));
        }
        if r.symbol(&Token::Minus) {
            if !r.word("interval") {
                return Err(watermark_form(&column).at(r.here()));
            }
            let (text, span) = r.string()?;
            let unit_start = r.position();
            let text = match r.peek_word(0).as_deref() {
                Some(unit @ ("second" | "minute" | "hour" | "day")) => {
                    let text = format!("{text} {unit}");
                    r.advance();
                    text
                }
                _ => text,
            };
            delay_us = options::duration_us(&text, span.to(r.since(unit_start)))?;
        }
    }
    Ok(WatermarkDef { column, delay_us })
}

fn watermark_form(column: &Ident) -> Diagnostic {
    let name = &column.value;
    Diagnostic::unsupported("this form of watermark is not supported")
        .hint(format!("Write WATERMARK FOR {name} AS {name} - INTERVAL '5 seconds'."))
}

fn pipeline(r: &mut Reader, or_replace: bool) -> Result<CreatePipeline> {
    let if_not_exists = r.words(&["if", "not", "exists"]);
    let name = r.ident()?;
    if r.peek_token() == &Token::Period {
        return Err(Diagnostic::syntax("a pipeline's name has no schema: it is a schema itself")
            .at(r.here()));
    }
    let mut language = None;
    let mut program = None;
    while !r.is_end() {
        if language.is_none() && r.word("language") {
            language = Some(language_name(r)?);
        } else if program.is_none() && r.word("as") {
            program = Some(program_text(r)?);
        } else {
            return Err(r.unexpected());
        }
    }
    let Some((body, body_span)) = program else { return Err(r.unexpected()) };
    let language = language.unwrap_or(Language::Vpl);
    Ok(CreatePipeline { or_replace, if_not_exists, name, language, body, body_span })
}

fn language_name(r: &mut Reader) -> Result<Language> {
    let place = r.here();
    let name = if options::is_string(r.peek_token()) {
        r.string()?.0.to_ascii_lowercase()
    } else {
        options::any_word(r)?
    };
    match name.as_str() {
        "sql" => Ok(Language::Sql),
        "vpl" => Ok(Language::Vpl),
        _ => Err(Diagnostic::error(
            SqlState::UNDEFINED_OBJECT,
            format!("language \"{name}\" does not exist"),
        )
        .hint("The languages of pipelines are sql and vpl.")
        .at(place)),
    }
}

/// The program and the place of its first byte behind the quotes.
fn program_text(r: &mut Reader) -> Result<(String, Span)> {
    let opening = match r.peek_token() {
        Token::DollarQuotedString(s) => s.tag.as_ref().map_or(0, String::len) + 2,
        Token::EscapedStringLiteral(_) => 2,
        _ => 1,
    };
    let (text, span) = r.string()?;
    let closing = if opening == 2 && !r.source().slice(span).ends_with('$') { 1 } else { opening };
    Ok((text, Span::new(span.start + opening, (span.end - closing).max(span.start + opening))))
}
