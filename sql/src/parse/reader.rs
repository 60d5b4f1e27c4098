//! Reading tokens, ours and sqlparser's, with PostgreSQL's error messages.

use std::sync::Arc;

use auspex_plan::{Diagnostic, Span};
use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::{DIALECT, Result, near_text, select_all};
use crate::marks::unmark;
use crate::source::Source;
use crate::statement::{Emission, Expr, Ident, Name, Query};

/// Nesting sqlparser is to go along with; [`super::limits`] has refused deeper text before.
const RECURSION_LIMIT: usize = 400;

/// PostgreSQL's reserved words: not usable as a name without quotes.
const RESERVED: [&str; 76] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
];

/// Statements and objects that exist in PostgreSQL or in the plan of this project, and are not
/// done: beginning of the statement, and how to name it.
const NOT_DONE: [(&str, &str); 21] = [
    ("merge", "MERGE"),
    ("grant", "GRANT"),
    ("revoke", "REVOKE"),
    ("comment", "COMMENT ON"),
    ("lock", "LOCK"),
    ("call", "CALL"),
    ("do", "DO"),
    ("refresh", "REFRESH MATERIALIZED VIEW"),
    ("reindex", "REINDEX"),
    ("cluster", "CLUSTER"),
    ("import", "IMPORT FOREIGN SCHEMA"),
    ("load", "LOAD"),
    ("reassign", "REASSIGN OWNED"),
    ("security", "SECURITY LABEL"),
    ("ack", "ACK"),
    ("acknowledge", "ACKNOWLEDGE"),
    ("use", "USE"),
    ("kill", "KILL"),
    ("flush", "FLUSH"),
    ("restore", "RESTORE"),
    ("undrop", "UNDROP"),
];

/// The tokens of one statement and a place in them.
pub(super) struct Reader {
    parser: Parser<'static>,
    source: Arc<Source>,
    /// The statement.
    span: Span,
    /// Number of tokens.
    tokens: usize,
}

impl Reader {
    pub(super) fn new(tokens: Vec<TokenWithSpan>, span: Span, source: Arc<Source>) -> Self {
        let count = tokens.len();
        let parser = Parser::new(&DIALECT)
            .with_recursion_limit(RECURSION_LIMIT)
            .with_tokens_with_locations(tokens);
        Reader { parser, source, span, tokens: count }
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The token that comes next.
    pub(super) fn peek_token(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }

    /// The token `n` further than the next.
    pub(super) fn peek_nth(&self, n: usize) -> &Token {
        &self.parser.peek_nth_token_ref(n).token
    }

    /// Where the next token is; the end of the statement when there is none.
    pub(super) fn here(&self) -> Span {
        let token = self.parser.peek_token_ref();
        match token.token {
            Token::EOF => Span::new(self.span.end, self.span.end),
            _ => self.source.span(token.span).unwrap_or(self.span),
        }
    }

    /// Byte at which the next token begins.
    pub(super) fn position(&self) -> usize {
        self.here().start
    }

    /// From byte `start` to the end of the last token taken.
    pub(super) fn since(&self, start: usize) -> Span {
        // sqlparser also steps over blanks and past the end.
        let end = (0..self.parser.index())
            .rev()
            .map(|i| self.parser.token_at(i))
            .find(|t| !super::matters_not(&t.token))
            .and_then(|t| self.source.span(t.span))
            .map_or(start, |s| s.end);
        Span::new(start, end.max(start))
    }

    /// Takes one token.
    pub(super) fn advance(&mut self) {
        self.parser.advance_token();
    }

    /// The unquoted word `n` tokens on, lower case.
    pub(super) fn peek_word(&self, n: usize) -> Option<String> {
        match self.peek_nth(n) {
            Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// Whether the next tokens are these words (lower case).
    pub(super) fn at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| match self.peek_nth(i) {
            Token::Word(w) => w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word),
            _ => false,
        })
    }

    /// Takes these words (lower case) if all of them come next.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let found = self.at(words);
        if found {
            words.iter().for_each(|_| self.advance());
        }
        found
    }

    /// Takes this word if it comes next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        self.words(&[word])
    }

    /// Takes this word or fails.
    pub(super) fn expect(&mut self, word: &str) -> Result<()> {
        if self.word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes this symbol if it comes next.
    pub(super) fn symbol(&mut self, token: &Token) -> bool {
        let found = self.peek_token() == token;
        if found {
            self.advance();
        }
        found
    }

    /// Takes this symbol or fails.
    pub(super) fn expect_symbol(&mut self, token: &Token) -> Result<()> {
        if self.symbol(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Whether nothing is left.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.peek_token(), Token::EOF)
    }

    /// Fails unless nothing is left.
    pub(super) fn end(&self) -> Result<()> {
        if self.is_end() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// `syntax error at or near` the next token.
    pub(super) fn unexpected(&self) -> Diagnostic {
        let here = self.here();
        let text = self.source.slice(here);
        if self.is_end() || text.is_empty() {
            Diagnostic::syntax("syntax error at end of input").at(here)
        } else {
            let near = near_text(text);
            Diagnostic::syntax(format!("syntax error at or near \"{near}\"")).at(here)
        }
    }

    /// The error for a statement that is known but not done, if this is one.
    pub(super) fn not_done(&self) -> Option<Diagnostic> {
        let first = self.peek_word(0)?;
        let (_, name) = NOT_DONE.iter().find(|(word, _)| *word == first)?;
        Some(Diagnostic::unsupported(format!("{name} is not supported")).at(self.here()))
    }

    /// A name without qualification.
    pub(super) fn ident(&mut self) -> Result<Ident> {
        let span = self.here();
        let value = match self.peek_token() {
            Token::Word(w) => match w.quote_style {
                Some(_) if w.value.is_empty() => {
                    return Err(Diagnostic::syntax(
                        "zero-length delimited identifier at or near \"\"\"\"",
                    )
                    .at(span));
                }
                Some(_) => w.value.clone(),
                None => {
                    let folded = w.value.to_ascii_lowercase();
                    if RESERVED.contains(&folded.as_str()) {
                        return Err(self.unexpected());
                    }
                    folded
                }
            },
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(Ident { value, span })
    }

    /// A name behind `AS`, or another word that cannot go on the statement.
    pub(super) fn alias(&mut self, stops: &[&str]) -> Result<Option<Ident>> {
        if self.word("as") {
            return self.ident().map(Some);
        }
        match self.peek_token() {
            Token::Word(w)
                if w.quote_style.is_some()
                    || !stops.iter().any(|s| w.value.eq_ignore_ascii_case(s)) =>
            {
                self.ident().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A name with up to two qualifications.
    pub(super) fn name(&mut self) -> Result<Name> {
        let mut parts = vec![self.ident()?];
        while parts.len() < 3 && self.symbol(&Token::Period) {
            parts.push(self.ident()?);
        }
        let name = parts.pop().ok_or_else(|| self.unexpected())?;
        let schema = parts.pop();
        Ok(Name { database: parts.pop(), schema, name })
    }

    /// A string literal of any spelling, with its span.
    pub(super) fn string(&mut self) -> Result<(String, Span)> {
        let span = self.here();
        let text = match self.peek_token() {
            Token::SingleQuotedString(s)
            | Token::EscapedStringLiteral(s)
            | Token::UnicodeStringLiteral(s)
            | Token::NationalStringLiteral(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok((text, span))
    }

    /// `item, item, ..`
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.symbol(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item, item, ..)`
    pub(super) fn parenthesised<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect_symbol(&Token::LParen)?;
        let items = self.list(item)?;
        self.expect_symbol(&Token::RParen)?;
        Ok(items)
    }

    /// An expression.
    pub(super) fn expr(&mut self) -> Result<Expr> {
        let start = self.position();
        let ast = self.delegate(Parser::parse_expr)?;
        Ok(Expr { ast, span: self.since(start), source: self.source.clone() })
    }

    /// A query: `SELECT`, `VALUES`, `WITH`, `TABLE`, or one in parentheses.
    pub(super) fn query(&mut self) -> Result<Query> {
        if self.at(&["table"]) {
            return self.table_query();
        }
        let start = self.position();
        let mut ast = self.delegate(Parser::parse_query)?;
        let emission = super::streaming::emission(&mut ast, &self.source)?;
        Ok(Query { ast, emission, span: self.since(start), source: self.source.clone() })
    }

    /// `TABLE name`, which is `SELECT * FROM name`.
    pub(super) fn table_query(&mut self) -> Result<Query> {
        let start = self.position();
        self.expect("table")?;
        self.word("only");
        let name = self.name()?;
        self.symbol(&Token::Mul);
        super::dialect::refuel(self.tokens);
        let ast = Parser::new(&DIALECT)
            .with_tokens_with_locations(select_all(&name))
            .parse_query()
            .map_err(|_| self.unexpected())?;
        let emission = Emission::default();
        Ok(Query { ast, emission, span: self.since(start), source: self.source.clone() })
    }

    /// The items of `RETURNING`, if that comes next.
    pub(super) fn returning(&mut self) -> Result<Option<Vec<ast::SelectItem>>> {
        if !self.word("returning") {
            return Ok(None);
        }
        self.list(|r| r.delegate(Parser::parse_select_item)).map(Some)
    }

    /// A data type, in sqlparser's terms.
    pub(super) fn data_type(&mut self) -> Result<(ast::DataType, Span)> {
        let start = self.position();
        let ast = self.delegate(Parser::parse_data_type)?;
        Ok((ast, self.since(start)))
    }

    /// Lets sqlparser read something.
    pub(super) fn delegate<T>(
        &mut self,
        read: impl FnOnce(&mut Parser<'static>) -> std::result::Result<T, ParserError>,
    ) -> Result<T> {
        super::dialect::refuel(self.tokens);
        read(&mut self.parser).map_err(|e| self.parser_error(&e))
    }

    /// Cuts `WITH (..)` off the end of the tokens, if it stands there. sqlparser would take it for
    /// a table hint of the query before it.
    pub(super) fn split_trailing_with(&mut self) -> Option<Reader> {
        let rest = self.parser.index();
        let tokens = std::mem::replace(&mut self.parser, Parser::new(&DIALECT)).into_tokens();
        let cut = trailing_with(&tokens).filter(|at| *at >= rest);
        let (own, tail) = match cut {
            Some(at) => (tokens[..at].to_vec(), Some(tokens[at..].to_vec())),
            None => (tokens, None),
        };
        let end = own
            .iter()
            .rev()
            .find(|t| !super::matters_not(&t.token))
            .and_then(|t| self.source.span(t.span))
            .map_or(self.span.end, |s| s.end);
        let whole_end = self.span.end;
        self.span = Span::new(self.span.start, end);
        self.parser = Parser::new(&DIALECT)
            .with_recursion_limit(RECURSION_LIMIT)
            .with_tokens_with_locations(own);
        while self.parser.index() < rest {
            if self.parser.next_token_no_skip().is_none() {
                break;
            }
        }
        tail.map(|t| Reader::new(t, Span::new(end, whole_end), self.source.clone()))
    }

    fn parser_error(&self, error: &ParserError) -> Diagnostic {
        match error {
            ParserError::RecursionLimitExceeded => Diagnostic::error(
                auspex_plan::SqlState::STATEMENT_TOO_COMPLEX,
                "statement is too deeply nested",
            )
            .at(self.here()),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                self.located(message)
            }
        }
    }

    /// sqlparser's message, which ends with ` at Line: 1, Column: 8` when it knows the place.
    fn located(&self, message: &str) -> Diagnostic {
        let (text, at) = match message.rsplit_once(" at Line: ") {
            Some((text, place)) => (text, location(place)),
            None => (message, None),
        };
        let wanted = text
            .split_once("Expected: ")
            .and_then(|(_, rest)| rest.rsplit_once(", found: "))
            .map(|(wanted, _)| wanted.to_string());
        let syntax = match at {
            None if text.ends_with("found: EOF") => {
                Diagnostic::syntax("syntax error at end of input")
                    .at(Span::new(self.span.end, self.span.end))
            }
            None => self.unexpected(),
            Some(at) => {
                let span = self.token_at(at);
                let near = near_text(self.source.slice(span));
                Diagnostic::syntax(format!("syntax error at or near \"{near}\"")).at(span)
            }
        };
        match wanted {
            Some(wanted) => syntax.detail(format!("Expected {wanted}.")),
            None if text.contains("found: ") => syntax,
            None => syntax.detail(format!("{}.", text.trim_start_matches("sql parser error: "))),
        }
    }

    /// The token at this place.
    fn token_at(&self, at: Location) -> Span {
        let mut index = 0;
        loop {
            let token = self.parser.token_at(index);
            if token.token == Token::EOF {
                let at = self.source.offset(at).unwrap_or(self.span.end);
                return Span::new(at, at.max(self.span.end));
            }
            if token.span.start <= at
                && at < token.span.end
                && !super::matters_not(&token.token)
                && let Some(span) = self.source.span(token.span)
            {
                return span;
            }
            index += 1;
        }
    }
}

/// Reads `1, Column: 8`.
fn location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some(Location::new(line.parse().ok()?, digits.parse().ok()?))
}

/// Index of the `WITH` of a `WITH (..)` that ends the tokens.
fn trailing_with(tokens: &[TokenWithSpan]) -> Option<usize> {
    let solid: Vec<usize> =
        (0..tokens.len()).filter(|i| !super::matters_not(&tokens[*i].token)).collect();
    let mut depth = 0usize;
    for (place, &i) in solid.iter().enumerate().rev() {
        match tokens[i].token {
            Token::RParen => depth += 1,
            Token::LParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    // Ours, behind a relation.
                    if let Token::Word(w) = &tokens[*solid.get(place + 1)?].token
                        && unmark(&w.value).is_some()
                    {
                        return None;
                    }
                    let before = *solid.get(place.checked_sub(1)?)?;
                    return match &tokens[before].token {
                        Token::Word(w)
                            if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("with") =>
                        {
                            Some(before)
                        }
                        _ => None,
                    };
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}
