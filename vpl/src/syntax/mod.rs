//! Text to AST.
//!
//! The way of a text: [`token`] splits it, [`layout`] finds the statements and blocks, [`limits`]
//! bounds their depth, [`expand`] unrolls top-level `for`, the pest grammar (`grammar.pest`) parses
//! each statement and [`build`] makes the AST. [`source`] keeps the way back to the user's text;
//! [`explain`] turns what the grammar says into a sentence.

mod build;
mod expand;
mod explain;
pub(crate) mod layout;
mod limits;
#[cfg(test)]
mod properties;
mod source;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod token;

use auspex_plan::diagnostic::{Diagnostic, Span};
use pest::Parser;

use self::layout::Code;
use self::source::Derived;
use self::token::{Token, TokenKind};
use crate::ast::Program;

#[allow(
    missing_docs,
    reason = "pest generates the rule names of the grammar without documentation"
)]
mod grammar {
    /// The parser that pest generates from `grammar.pest`.
    #[derive(pest_derive::Parser)]
    #[grammar = "syntax/grammar.pest"]
    pub(crate) struct Grammar;
}

use grammar::Grammar;
pub(crate) use grammar::Rule;

/// A text's program and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The statements that could be read.
    pub program: Program,
    /// Errors and warnings in textual order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether any diagnostic is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == auspex_plan::Severity::Error)
    }
}

/// Reads a program. Every statement is read even when others are wrong; never panics.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    read(&Derived::original(text), &mut parsed, &mut expand::Budget::default());
    parsed.diagnostics.sort_by_key(|d| d.span.map_or(usize::MAX, |s| s.start));
    parsed.diagnostics.dedup();
    parsed
}

/// Reads the statements of `source` into `parsed`.
fn read(source: &Derived, parsed: &mut Parsed, budget: &mut expand::Budget) {
    let (tokens, mut unreadable) = token::tokenize(&source.text);
    for diagnostic in &mut unreadable {
        diagnostic.span = diagnostic.span.map(|s| source.span(s.start, s.end));
    }
    let tokens: Vec<Token> = tokens.into_iter().filter(|t| t.kind != TokenKind::Comment).collect();
    let code = Code { text: &source.text, tokens: &tokens };
    for range in layout::statements(code) {
        let statement = Code { text: code.text, tokens: &tokens[range.clone()] };
        let span = whole(source, statement.tokens);
        let unread =
            |d: &Diagnostic| d.span.is_some_and(|s| s.start >= span.start && s.start <= span.end);
        // What could not even be split into tokens has been reported: the grammar would only
        // repeat it in other words.
        if unreadable.iter().any(unread) {
            continue;
        }
        if let Err(diagnostic) = check(source, statement) {
            parsed.diagnostics.push(diagnostic);
        } else if statement.word(0) == "for" {
            if let Err(diagnostic) = expand::expand(source, statement, parsed, budget) {
                parsed.diagnostics.push(diagnostic);
            }
        } else {
            match layout::lay_out(source, code, range).and_then(|laid| parse_statement(&laid)) {
                Ok(statement) => parsed.program.statements.push(statement),
                Err(diagnostic) => parsed.diagnostics.push(diagnostic),
            }
        }
    }
    parsed.diagnostics.append(&mut unreadable);
}

/// Everything that can be said without the grammar.
fn check(source: &Derived, statement: Code<'_>) -> Result<(), Diagnostic> {
    let placed = |mut d: Diagnostic| {
        d.span = d.span.map(|s| source.span(s.start, s.end));
        d
    };
    explain::first_word(statement).map_err(placed)?;
    limits::check(statement).map_err(placed)?;
    explain::known_mistakes(statement).map_err(placed)
}

fn parse_statement(laid: &Derived) -> Result<crate::ast::Statement, Diagnostic> {
    let mut pairs = Grammar::parse(Rule::statement, &laid.text)
        .map_err(|error| explain::refusal(laid, &error))?;
    build::Builder::new(laid).statement(&mut pairs)
}

fn whole(source: &Derived, tokens: &[Token]) -> Span {
    let start = tokens.first().map_or(0, |t| t.span.start);
    let end = tokens.last().map_or(start, |t| t.span.end);
    source.span(start, end)
}

/// Whether a statement sent by a client is VPL rather than SQL: its first words have the shape of
/// a VPL declaration. No SQL statement begins like that.
pub fn looks_like_vpl(text: &str) -> bool {
    // The first tokens decide; a long text need not be read to its end.
    let mut end = text.len().min(4096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let (tokens, _) = token::tokenize(text);
    let tokens: Vec<Token> =
        tokens.into_iter().filter(|t| t.kind != TokenKind::Comment).take(8).collect();
    let code = Code { text, tokens: &tokens };
    let word = |i: usize| tokens.get(i).is_some_and(|t| t.kind == TokenKind::Word);
    match code.word(0) {
        "event" => word(1) && matches!(code.word(2), ":" | "{" | "extends"),
        "stream" => word(1) && matches!(code.word(2), "=" | ":"),
        "let" | "var" | "const" => word(1) && matches!(code.word(2), "=" | ":"),
        "fn" => word(1) && code.word(2) == "(",
        "pattern" | "type" | "connector" => word(1) && code.word(2) == "=",
        "context" => word(1) && matches!(code.word(2), "(" | "" | ";"),
        "config" => code.word(1) == ":" || (word(1) && code.word(2) == "{"),
        "import" => tokens.get(1).is_some_and(|t| t.kind == TokenKind::Str),
        "for" => word(1) && code.word(2) == "in",
        _ => false,
    }
}
