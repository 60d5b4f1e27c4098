//! Text to statements.
//!
//! The text is cut into tokens once, the tokens are cut at semicolons, and each piece is one
//! statement. [`statement`] looks at its first words; what SQL calls a query or an expression is
//! left to sqlparser.

mod alter;
mod copy;
mod create;
mod cursor;
mod dialect;
mod dml;
mod explain;
mod limits;
mod options;
mod queries;
mod reader;
mod session;
mod show;
mod streaming;
mod subscribe;
mod types;

#[cfg(test)]
mod tests;

pub use options::interval_us;
pub(crate) use options::{fixed_us, length_us};
pub(crate) use types::column_type;

use std::sync::Arc;

use auspex_plan::{Diagnostic, Span};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::source::Source;
use crate::statement::{Name, Query, Statement, StatementKind};
use reader::Reader;

/// Switches of sqlparser. Everything that is not PostgreSQL's is read by ourselves.
static DIALECT: dialect::Bounded = dialect::Bounded::new();

type Result<T, E = Diagnostic> = std::result::Result<T, E>;

/// The statements of `text`, in order. Empty statements are left out. The first error in any of
/// them refuses the whole text, as in PostgreSQL.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let source = Source::new(text);
    let tokens = Tokenizer::new(&DIALECT, text)
        .tokenize_with_location()
        .map_err(|e| lexical_error(&e, &source))?;
    let mut statements = Vec::new();
    for piece in tokens.split(|t| t.token == Token::SemiColon) {
        let first = piece.iter().find(|t| !matters_not(&t.token));
        let last = piece.iter().rev().find(|t| !matters_not(&t.token));
        let (Some(first), Some(last)) = (first, last) else { continue };
        let span = source
            .span(first.span.union(&last.span))
            .unwrap_or_else(|| Span::new(0, source.text().len()));
        limits::check(piece, &source)?;
        let tokens = streaming::rewrite(piece.to_vec(), &source)?;
        statements.push(whole(tokens, span, &source)?);
    }
    Ok(statements)
}

/// One expression, as stored in the catalog for `CHECK`, `DEFAULT` and `GENERATED`.
pub(crate) fn parse_expression(text: &str) -> Result<crate::statement::Expr> {
    let (mut reader, _) = single(text)?;
    let expr = reader.expr()?;
    reader.end()?;
    Ok(expr)
}

/// One query, as stored in the catalog for a derived stream.
pub(crate) fn parse_query(text: &str) -> Result<Query> {
    let (mut reader, _) = single(text)?;
    let query = reader.query()?;
    reader.end()?;
    Ok(query)
}

fn single(text: &str) -> Result<(Reader, Arc<Source>)> {
    let source = Source::new(text);
    let tokens = Tokenizer::new(&DIALECT, text)
        .tokenize_with_location()
        .map_err(|e| lexical_error(&e, &source))?;
    limits::check(&tokens, &source)?;
    let tokens = streaming::rewrite(tokens, &source)?;
    Ok((Reader::new(tokens, Span::new(0, text.len()), source.clone()), source))
}

/// A statement that takes all of `tokens`.
fn whole(tokens: Vec<TokenWithSpan>, span: Span, source: &Arc<Source>) -> Result<Statement> {
    let mut reader = Reader::new(tokens, span, source.clone());
    let kind = statement(&mut reader)?;
    reader.end()?;
    Ok(Statement { kind, span, source: source.clone() })
}

/// The statement that begins here.
fn statement(r: &mut Reader) -> Result<StatementKind> {
    use StatementKind as S;
    if r.peek_token() == &Token::LParen {
        return Ok(S::Query(r.query()?));
    }
    let Some(first) = r.peek_word(0) else { return Err(r.unexpected()) };
    match first.as_str() {
        "select" | "values" => Ok(S::Query(r.query()?)),
        "with" => Ok(S::Query(r.query()?)),
        "table" => Ok(S::Query(r.table_query()?)),
        "create" => create::create(r),
        "drop" => alter::drop(r),
        "alter" => alter::alter(r),
        "truncate" => dml::truncate(r),
        "insert" => Ok(S::Insert(dml::insert(r)?)),
        "update" => Ok(S::Update(dml::update(r)?)),
        "delete" => Ok(S::Delete(dml::delete(r)?)),
        "copy" => copy::copy(r),
        "subscribe" | "tail" => Ok(S::Subscribe(subscribe::subscribe(r)?)),
        "explain" => explain::explain(r),
        "show" => show::show(r),
        "describe" | "desc" => show::describe(r),
        "listen" => {
            r.advance();
            Ok(S::Listen(r.name()?))
        }
        "unlisten" => {
            r.advance();
            Ok(S::Unlisten(if r.symbol(&Token::Mul) { None } else { Some(r.name()?) }))
        }
        "notify" => session::notify(r),
        "declare" => cursor::declare(r),
        "fetch" | "move" => cursor::fetch(r),
        "close" => cursor::close(r),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            session::transaction(r)
        }
        "set" => session::set(r),
        "reset" => session::reset(r),
        "discard" => session::discard(r),
        "prepare" => session::prepare(r),
        "execute" => session::execute(r),
        "deallocate" => session::deallocate(r),
        "backup" => queries::backup(r),
        "vacuum" | "analyze" | "analyse" | "checkpoint" => session::maintenance(r),
        _ => Err(r.not_done().unwrap_or_else(|| r.unexpected())),
    }
}

/// A statement in parentheses or behind `EXPLAIN`, `PREPARE .. AS`: up to the end of the tokens.
fn rest(r: &mut Reader) -> Result<Statement> {
    let start = r.position();
    let kind = statement(r)?;
    Ok(Statement { kind, span: r.since(start), source: r.source().clone() })
}

/// Whether a token is a blank or a comment.
fn matters_not(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

/// An error of the tokenizer, in PostgreSQL's words where it has them.
fn lexical_error(error: &sqlparser::tokenizer::TokenizerError, source: &Arc<Source>) -> Diagnostic {
    let at = source.offset(error.location).unwrap_or(0);
    let span = Span::new(at, source.text().len());
    let near = near_text(source.slice(span));
    let what = match error.message.as_str() {
        m if m.contains("string literal") || m.contains("dollar-quoted") => {
            "unterminated quoted string"
        }
        m if m.contains("multi-line comment") => "unterminated /* comment",
        m if m.contains("before EOF") || m.contains("delimited identifier") => {
            "unterminated quoted identifier"
        }
        _ => "syntax error",
    };
    Diagnostic::syntax(format!("{what} at or near \"{near}\"")).at(span)
}

/// What a message quotes of a text that may be long.
fn near_text(text: &str) -> String {
    let mut near: String = text.chars().take(40).collect();
    if near.len() < text.len() {
        near.push('…');
    }
    near
}

/// A relation's name as a query that reads all of it.
fn select_all(name: &Name) -> Vec<TokenWithSpan> {
    use sqlparser::tokenizer::{Span as AstSpan, Word};
    let word = |text: &str, quoted: bool| {
        Token::Word(Word {
            value: text.to_string(),
            quote_style: quoted.then_some('"'),
            keyword: if quoted {
                sqlparser::keywords::Keyword::NoKeyword
            } else {
                match text {
                    "select" => sqlparser::keywords::Keyword::SELECT,
                    _ => sqlparser::keywords::Keyword::FROM,
                }
            },
        })
    };
    let mut tokens = vec![word("select", false), Token::Mul, word("from", false)];
    let parts = [&name.database, &name.schema, &Some(name.name.clone())];
    for (i, part) in parts.into_iter().flatten().enumerate() {
        if i > 0 {
            tokens.push(Token::Period);
        }
        tokens.push(word(&part.value, true));
    }
    tokens.into_iter().map(|token| TokenWithSpan { token, span: AstSpan::empty() }).collect()
}
