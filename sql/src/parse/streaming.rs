//! What sqlparser cannot read, rewritten into something it can, token by token.
//!
//! | written | handed to sqlparser |
//! |---|---|
//! | `TUMBLE(TABLE t, ..)` | `TUMBLE(t, ..)` |
//! | `SESSION(t PARTITION BY k, ..)` | `SESSION(t, "partition", k, ..)` |
//! | `t WINDOW LENGTH BATCH(10) AS x` | `t AS x WITH ("window length batch"(10))` |
//! | `JOIN t WITHIN '5 s'` | `JOIN t WITH ("within"(5000000))` |
//! | `ASOF LEFT JOIN t MATCH_CONDITION` | `ASOF JOIN t WITH ("left") MATCH_CONDITION` |
//! | `t FOR SYSTEM_TIME AS OF e AS x` | `t AS x WITH ("system_time"(e))` |
//! | `EMIT CHANGES`, `OUTPUT ..`, `ALLOWED LATENESS ..` | `FOR UPDATE OF "emit changes"` |
//!
//! The quoted names are marked as ours ([`crate::marks`]). New tokens have the place of those they
//! stand for, so that errors point into the user's text.

use std::sync::Arc;

use auspex_plan::nodes::{OutputEvery, OutputMode};
use auspex_plan::{Diagnostic, Emit, Span, SqlState};
use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Span as AstSpan, Token, TokenWithSpan, Word};

use super::{Result, near_text, options};
use crate::marks::{self, mark, unmark};
use crate::source::Source;
use crate::statement::Emission;

/// Functions in FROM that put rows into windows.
const WINDOW_FUNCTIONS: [&str; 5] = ["tumble", "hop", "cumulate", "session", "rows"];
/// Words behind a retention window's relation that are no alias of it.
const NO_ALIAS: [&str; 20] = [
    "on",
    "using",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "emit",
    "output",
    "union",
    "within",
    "match_condition",
    "natural",
    "asof",
];

/// Rewrites the tokens of one statement.
pub(super) fn rewrite(
    tokens: Vec<TokenWithSpan>,
    source: &Arc<Source>,
) -> Result<Vec<TokenWithSpan>> {
    let triggers = [
        "tumble",
        "hop",
        "cumulate",
        "session",
        "rows",
        "window",
        "within",
        "asof",
        "system_time",
        "emit",
        "output",
        "allowed",
    ];
    let any = tokens.iter().any(|t| match &t.token {
        Token::Word(w) => {
            w.quote_style.is_none() && triggers.iter().any(|n| w.value.eq_ignore_ascii_case(n))
        }
        _ => false,
    });
    if !any {
        return Ok(tokens);
    }
    let tokens = tokens.into_iter().filter(|t| !super::matters_not(&t.token)).collect();
    let mut rewriter = Rewriter {
        tokens,
        at: 0,
        out: Vec::new(),
        source,
        calls: Vec::new(),
        depth: 0,
        left: None,
    };
    while rewriter.at < rewriter.tokens.len() {
        rewriter.step()?;
    }
    Ok(rewriter.out)
}

struct Rewriter<'a> {
    /// The statement, blanks left out.
    tokens: Vec<TokenWithSpan>,
    at: usize,
    out: Vec<TokenWithSpan>,
    source: &'a Arc<Source>,
    /// Depths of parentheses that are arguments of a window function.
    calls: Vec<usize>,
    depth: usize,
    /// Depth and place of an `ASOF LEFT JOIN` whose relation is being read.
    left: Option<(usize, AstSpan)>,
}

impl Rewriter<'_> {
    fn step(&mut self) -> Result<()> {
        match &self.tokens[self.at].token {
            Token::LParen => {
                self.depth += 1;
                self.copy();
            }
            Token::RParen => {
                if self.calls.last() == Some(&self.depth) {
                    self.calls.pop();
                }
                self.depth = self.depth.saturating_sub(1);
                self.copy();
            }
            Token::Word(w) if w.quote_style.is_none() => return self.word(),
            _ => self.copy(),
        }
        Ok(())
    }

    fn word(&mut self) -> Result<()> {
        let in_from = self.at > 0 && {
            let before = self.at - 1;
            self.is(before, "from")
                || self.is(before, "join")
                || matches!(self.tokens[before].token, Token::Comma | Token::LParen)
        };
        if in_from
            && WINDOW_FUNCTIONS.iter().any(|f| self.is(self.at, f))
            && self.token(self.at + 1) == &Token::LParen
        {
            self.copy();
            self.depth += 1;
            self.copy();
            self.calls.push(self.depth);
            if self.is(self.at, "table") {
                self.at += 1;
            }
        } else if self.calls.last() == Some(&self.depth) && self.words(&["partition", "by"]) {
            let span = self.tokens[self.at].span;
            self.push(Token::Comma, span);
            self.push(marked(marks::PARTITION), span);
            self.push(Token::Comma, span);
            self.at += 2;
        } else if self.is(self.at, "window") && self.retention_name().is_some() {
            self.retention();
        } else if self.is(self.at, "within") && self.interval_at(self.at + 1) {
            self.within()?;
        } else if self.words(&["asof", "left"]) {
            self.left = Some((self.depth, self.tokens[self.at + 1].span));
            self.copy();
            self.at += 1;
            if self.is(self.at, "outer") {
                self.at += 1;
            }
        } else if self.is(self.at, "match_condition")
            && let Some((depth, span)) = self.left
            && depth == self.depth
        {
            self.left = None;
            self.hints(span, vec![vec![(marked(marks::LEFT), span)]]);
            self.copy();
        } else if self.words(&["for", "system_time", "as", "of"]) {
            self.system_time();
        } else if !self.after_select() && self.tail()? {
        } else {
            self.copy();
        }
        Ok(())
    }

    /// `EMIT` and `OUTPUT` as a column right behind `SELECT` or a comma.
    fn after_select(&self) -> bool {
        self.at == 0
            || self.is(self.at - 1, "select")
            || matches!(self.tokens[self.at - 1].token, Token::Comma | Token::Period)
    }

    fn token(&self, at: usize) -> &Token {
        self.tokens.get(at).map_or(&Token::EOF, |t| &t.token)
    }

    /// Whether the token at a place is this unquoted word.
    fn is(&self, at: usize, word: &str) -> bool {
        match self.token(at) {
            Token::Word(w) => w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word),
            _ => false,
        }
    }

    fn words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| self.is(self.at + i, word))
    }

    fn copy(&mut self) {
        self.out.push(self.tokens[self.at].clone());
        self.at += 1;
    }

    fn push(&mut self, token: Token, span: AstSpan) {
        self.out.push(TokenWithSpan { token, span });
    }

    /// `WITH (hint, ..)`.
    fn hints(&mut self, span: AstSpan, hints: Vec<Vec<(Token, AstSpan)>>) {
        self.push(keyword("with", Keyword::WITH), span);
        self.push(Token::LParen, span);
        for (i, hint) in hints.into_iter().enumerate() {
            if i > 0 {
                self.push(Token::Comma, span);
            }
            hint.into_iter().for_each(|(token, at)| self.push(token, at));
        }
        // A statement may end here: its text goes up to the last token read.
        let last = self.tokens[self.at - 1].span;
        self.push(Token::RParen, last);
    }

    fn span(&self, from: usize, to: usize) -> Span {
        let end = self.source.text().len();
        let last = to.min(self.tokens.len()).saturating_sub(1).max(from);
        let Some((first, last)) = self.tokens.get(from).zip(self.tokens.get(last)) else {
            return Span::new(end, end);
        };
        self.source.span(first.span.union(&last.span)).unwrap_or(Span::new(end, end))
    }

    fn unexpected(&self, at: usize) -> Diagnostic {
        match self.tokens.get(at) {
            Some(_) => {
                let span = self.span(at, at + 1);
                let near = near_text(self.source.slice(span));
                Diagnostic::syntax(format!("syntax error at or near \"{near}\"")).at(span)
            }
            None => {
                let end = self.span(at.saturating_sub(1), at).end;
                Diagnostic::syntax("syntax error at end of input").at(Span::new(end, end))
            }
        }
    }

    /// Name of the retention window that begins with the `WINDOW` here, and the place of its
    /// opening parenthesis.
    fn retention_name(&self) -> Option<(String, usize)> {
        let next = self.at + 1;
        if self.token(next) == &Token::LParen {
            let Token::SingleQuotedString(name) = self.token(next + 1) else { return None };
            return Some((spelled(name), next));
        }
        let known = ["length", "time", "sort", "unique", "delay"];
        let word = known.iter().find(|w| self.is(next, w))?;
        if self.token(next + 1) == &Token::LParen {
            return Some(((*word).to_string(), next + 1));
        }
        (self.is(next + 1, "batch") && self.token(next + 2) == &Token::LParen)
            .then(|| (format!("{word} batch"), next + 2))
    }

    /// `WINDOW name(arguments) [[AS] alias]`.
    fn retention(&mut self) {
        let Some((name, open)) = self.retention_name() else { return };
        let span = self.tokens[self.at].span;
        let quoted = matches!(self.token(self.at + 1), Token::LParen);
        let close = self.close(open);
        let mut first = open + 1;
        if quoted {
            // The name is the first argument.
            first += if self.token(first + 1) == &Token::Comma { 2 } else { 1 };
        }
        let mut hint =
            vec![(marked(&format!("{}{name}", marks::WINDOW)), span), (Token::LParen, span)];
        let mut sort = name == "sort";
        let mut depth = 0;
        for i in first..close {
            let at = self.tokens[i].span;
            match &self.tokens[i].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Comma if depth == 0 && sort => {
                    // What follows has directions, as in an aggregate's ORDER BY.
                    sort = false;
                    hint.push((keyword("order", Keyword::ORDER), at));
                    hint.push((keyword("by", Keyword::BY), at));
                    continue;
                }
                _ => {}
            }
            hint.push((self.tokens[i].token.clone(), at));
        }
        hint.push((Token::RParen, span));
        self.at = (close + 1).min(self.tokens.len());
        self.alias();
        self.hints(span, vec![hint]);
    }

    /// The place of the parenthesis that closes the one at `open`; the end when there is none.
    fn close(&self, open: usize) -> usize {
        let mut depth = 0;
        for i in open..self.tokens.len() {
            match self.tokens[i].token {
                Token::LParen => depth += 1,
                Token::RParen if depth == 1 => return i,
                Token::RParen => depth -= 1,
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Copies an alias, if one comes next.
    fn alias(&mut self) {
        if self.is(self.at, "as") && matches!(self.token(self.at + 1), Token::Word(_)) {
            self.copy();
            self.copy();
        } else if matches!(self.token(self.at), Token::Word(_))
            && !NO_ALIAS.iter().any(|w| self.is(self.at, w))
        {
            self.copy();
        }
    }

    fn within(&mut self) -> Result<()> {
        let span = self.tokens[self.at].span;
        let (us, after) = self.interval(self.at + 1, options::fixed_us)?;
        if us < 0 {
            return Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "the interval of WITHIN must not be negative",
            )
            .at(self.span(self.at + 1, after)));
        }
        let at = self.tokens[self.at + 1].span;
        let mut hints = vec![vec![
            (marked(marks::WITHIN), span),
            (Token::LParen, span),
            (Token::Number(us.to_string(), false), at),
            (Token::RParen, span),
        ]];
        if let Some((_, at)) = self.left.take_if(|(depth, _)| *depth == self.depth) {
            hints.push(vec![(marked(marks::LEFT), at)]);
        }
        self.at = after;
        self.hints(span, hints);
        Ok(())
    }

    fn system_time(&mut self) {
        let span = self.tokens[self.at].span.union(&self.tokens[self.at + 3].span);
        let mut hint = vec![(marked(marks::SYSTEM_TIME), span), (Token::LParen, span)];
        self.at += 4;
        // A column, qualified or not.
        while let Token::Word(_) = self.token(self.at) {
            hint.push((self.token(self.at).clone(), self.tokens[self.at].span));
            self.at += 1;
            if self.token(self.at) != &Token::Period {
                break;
            }
            hint.push((Token::Period, self.tokens[self.at].span));
            self.at += 1;
        }
        hint.push((Token::RParen, span));
        self.alias();
        self.hints(span, vec![hint]);
    }

    fn interval_at(&self, at: usize) -> bool {
        options::is_string(self.token(at))
            || (self.is(at, "interval") && options::is_string(self.token(at + 1)))
    }

    /// `['INTERVAL'] '..' [unit]` at a place, and the place behind it.
    fn interval(&self, at: usize, read: fn(&str, Span) -> Result<i64>) -> Result<(i64, usize)> {
        let mut next = at;
        let word = self.is(next, "interval");
        next += usize::from(word);
        let (Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::NationalStringLiteral(text)) = self.token(next)
        else {
            return Err(self.unexpected(next));
        };
        let mut text = text.clone();
        next += 1;
        let units = ["second", "minute", "hour", "day", "month", "year"];
        if let Some(unit) = units.iter().find(|u| word && self.is(next, u)) {
            text = format!("{text} {unit}");
            next += 1;
        }
        Ok((read(&text, self.span(at, next))?, next))
    }

    /// `EMIT ..`, `OUTPUT ..`, `ALLOWED LATENESS ..`; false when this is none of them.
    fn tail(&mut self) -> Result<bool> {
        let start = self.at;
        let (name, after) = if self.words(&["emit", "on", "window", "close"]) {
            ("emit close".to_string(), start + 4)
        } else if self.words(&["emit", "final"]) {
            ("emit close".to_string(), start + 2)
        } else if self.words(&["emit", "changes"]) {
            ("emit changes".to_string(), start + 2)
        } else if self.words(&["emit", "every"]) {
            let (us, after) = self.interval(start + 2, options::length_us)?;
            (format!("emit every {us}"), after)
        } else if self.words(&["allowed", "lateness"]) {
            let (us, after) = self.interval(start + 2, options::duration_us)?;
            (format!("lateness {us}"), after)
        } else if self.is(start, "output") {
            let modes = ["all", "first", "last", "snapshot"];
            let mode = modes.iter().find(|m| self.is(start + 1, m));
            let every = start + 1 + usize::from(mode.is_some());
            if !self.is(every, "every") {
                return Ok(false);
            }
            let mode = mode.copied().unwrap_or("all");
            if let Token::Number(n, _) = self.token(every + 1) {
                let rows = n.parse::<u64>().ok().filter(|n| *n > 0);
                let Some(rows) = rows else {
                    return Err(Diagnostic::error(
                        SqlState::INVALID_PARAMETER_VALUE,
                        "the number of rows of OUTPUT must be positive",
                    )
                    .at(self.span(every + 1, every + 2)));
                };
                if !["rows", "row", "events", "event"].iter().any(|w| self.is(every + 2, w)) {
                    return Err(self
                        .unexpected(every + 2)
                        .hint("Write EVERY n ROWS, or an interval such as EVERY '5 seconds'."));
                }
                (format!("output {mode} rows {rows}"), every + 3)
            } else {
                let (us, after) = self.interval(every + 1, options::length_us)?;
                (format!("output {mode} time {us}"), after)
            }
        } else {
            return Ok(false);
        };
        let span = self.tokens[start].span.union(&self.tokens[after - 1].span);
        self.push(keyword("for", Keyword::FOR), span);
        self.push(keyword("update", Keyword::UPDATE), span);
        self.push(keyword("of", Keyword::OF), span);
        self.push(marked(&name), span);
        self.at = after;
        Ok(true)
    }
}

/// `lengthBatch` is `length batch`.
fn spelled(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words.replace('_', " ")
}

fn marked(name: &str) -> Token {
    Token::Word(Word { value: mark(name), quote_style: Some('"'), keyword: Keyword::NoKeyword })
}

fn keyword(text: &str, keyword: Keyword) -> Token {
    Token::Word(Word { value: text.to_string(), quote_style: None, keyword })
}

/// Takes what stands behind a query out of its syntax tree.
pub(super) fn emission(query: &mut ast::Query, source: &Source) -> Result<Emission> {
    let mut found = Emission::default();
    let mut locks = Vec::new();
    for lock in std::mem::take(&mut query.locks) {
        let ident = lock.of.as_ref().and_then(|name| name.0.first()).and_then(|p| p.as_ident());
        let Some((words, ident)) = ident.and_then(|i| Some((unmark(&i.value)?, i))) else {
            locks.push(lock);
            continue;
        };
        let span = source.span(ident.span).unwrap_or(Span::new(0, source.text().len()));
        if !found.read(words, span) {
            let what = words.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let what = if what == "LATENESS" { "ALLOWED LATENESS" } else { &what };
            return Err(Diagnostic::syntax(format!("{what} is given twice")).at(span));
        }
    }
    query.locks = locks;
    Ok(found)
}

impl Emission {
    /// Adds a clause in the words of [`Rewriter::tail`]; false when it was there before.
    fn read(&mut self, words: &str, span: Span) -> bool {
        let words: Vec<&str> = words.split(' ').collect();
        let number = |i: usize| words.get(i).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
        match words.as_slice() {
            ["lateness", _] => self.lateness.replace((number(1), span)).is_none(),
            ["output", mode, unit, _] => {
                let mode = match *mode {
                    "first" => OutputMode::First,
                    "last" => OutputMode::Last,
                    "snapshot" => OutputMode::Snapshot,
                    _ => OutputMode::All,
                };
                let every = match *unit {
                    "rows" => OutputEvery::Rows(number(3).unsigned_abs()),
                    _ => OutputEvery::Time(number(3)),
                };
                self.output.replace(((mode, every), span)).is_none()
            }
            _ => {
                let emit = match words.get(1).copied() {
                    Some("changes") => Emit::Changes,
                    Some("every") => Emit::Every(number(2)),
                    _ => Emit::OnClose,
                };
                self.emit.replace((emit, span)).is_none()
            }
        }
    }
}
