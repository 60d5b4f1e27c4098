//! The canonical layout of programs.
//!
//! The formatter works on tokens: it changes blanks and line ends, drops separators that lines make
//! superfluous (`;` between statements, commas between the fields of an event) and adds commas behind
//! the last of several items on lines of their own. Comments stay with what they stand at. Up to one
//! empty line between statements is kept. Chains longer than two operations, or than a line, have
//! each operation on its own line.

mod print;
mod tree;

use std::ops::Range;

use auspex_plan::diagnostic::{Diagnostic, Severity};

use self::print::{Printer, STEP};
use self::tree::{Comment, row};
use crate::syntax::layout::{self, Code};
use crate::syntax::token::{Token, TokenKind, tokenize};

/// Lays a program out. The result means the same, and formatting it again changes nothing.
///
/// # Errors
/// The program's errors, when it has any: what cannot be read is not touched.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let errors: Vec<Diagnostic> = crate::parse(text)
        .diagnostics
        .into_iter()
        .filter(|d| d.severity == Severity::Error)
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let (all, _) = tokenize(text);
    let places: Vec<usize> =
        (0..all.len()).filter(|i| all[*i].kind != TokenKind::Comment).collect();
    let code: Vec<Token> = places.iter().map(|i| all[*i]).collect();
    let mut formatter = Formatter {
        text,
        all: &all,
        places: &places,
        tokens: &code,
        at: 0,
        printer: Printer::default(),
        placeholders: Vec::new(),
    };
    formatter.statements(0..code.len(), 0)?;
    formatter.comments_before(all.len(), 0);
    let mut formatted = formatter.printer.text;
    if !formatted.is_empty() && !formatted.ends_with('\n') {
        formatted.push('\n');
    }
    Ok(formatted)
}

struct Formatter<'a> {
    text: &'a str,
    /// All tokens, comments included.
    all: &'a [Token],
    /// Index in `all` of each code token.
    places: &'a [usize],
    /// The code tokens.
    tokens: &'a [Token],
    /// Everything of `all` before this has been written.
    at: usize,
    printer: Printer,
    /// Variables of the loops around.
    placeholders: Vec<String>,
}

impl Formatter<'_> {
    /// The statements among the code tokens `range`.
    fn statements(&mut self, range: Range<usize>, indent: usize) -> Result<(), Vec<Diagnostic>> {
        let code = Code { text: self.text, tokens: &self.tokens[range.clone()] };
        for statement in layout::statements(code) {
            let start = statement.start + range.start;
            if code.word(statement.start) == "for" {
                self.repetition(start..statement.end + range.start, indent)?;
                continue;
            }
            let lines = layout::lines(code, statement).map_err(|d| vec![d])?;
            for line in lines {
                let tokens = line.tokens.start + range.start..line.tokens.end + range.start;
                self.line(tokens, indent, line.depth);
            }
        }
        Ok(())
    }

    /// A top-level loop: its header and the statements of its body.
    fn repetition(
        &mut self,
        statement: Range<usize>,
        indent: usize,
    ) -> Result<(), Vec<Diagnostic>> {
        let colon = self.colon(&statement);
        self.row(statement.start..colon + 1, indent);
        self.placeholders.push(self.word(statement.start + 1).to_string());
        let done = self.statements(colon + 1..statement.end, indent + STEP);
        self.placeholders.pop();
        done
    }

    /// One logical line; what follows a block's colon on its line goes to lines of its own.
    fn line(&mut self, line: Range<usize>, indent: usize, depth: usize) {
        let at = indent + depth * STEP;
        let code = Code { text: self.text, tokens: self.tokens };
        let config_in_braces =
            self.word(line.start) == "config" && self.word(line.start + 1) != ":";
        let header =
            code.has_block(line.start) && !config_in_braces && self.is_header(&line, depth);
        if !header {
            return self.row(line, at);
        }
        let colon = self.colon(&line);
        let event = self.word(line.start) == "event" && depth == 0;
        self.row(line.start..colon + 1, at);
        if colon + 1 == line.end {
            return;
        }
        if event {
            self.fields(colon + 1..line.end, at + STEP);
        } else {
            self.line(colon + 1..line.end, indent, depth + 1);
        }
    }

    /// Whether the line is `if ..:` and not `if .. then ..` or a field or entry named `if`.
    fn is_header(&self, line: &Range<usize>, depth: usize) -> bool {
        let inside_fields = depth > 0 && matches!(self.word(line.start), "event" | "config" | "fn");
        let colon = self.colon(line);
        let second = self.word(line.start + 1);
        !inside_fields
            && colon < line.end
            && (second != ":" || matches!(self.word(line.start), "else" | "config"))
    }

    /// The fields of an event written on one line.
    fn fields(&mut self, range: Range<usize>, indent: usize) {
        let mut start = range.start;
        let mut depth = 0usize;
        for i in range.clone() {
            let token = &self.tokens[i];
            if token.opens(self.text) {
                depth += 1;
            } else if token.closes(self.text) {
                depth -= 1;
            }
            let named = depth == 0 && i > start && i + 1 < range.end && self.word(i + 1) == ":";
            if depth == 0 && token.is(self.text, ",") {
                self.row(start..i, indent);
                start = i + 1;
            } else if named {
                self.row(start..i, indent);
                start = i;
            }
        }
        self.row(start..range.end, indent);
    }

    /// Writes the code tokens `range` as one line, with the comments around it.
    fn row(&mut self, mut range: Range<usize>, indent: usize) {
        // A comma at the end separates lines, which need none.
        while range.start < range.end && indent > 0 && self.word(range.end - 1) == "," {
            range.end -= 1;
        }
        if range.is_empty() {
            return;
        }
        let first = self.places[range.start];
        let last = self.places[range.end - 1];
        self.comments_before(first, indent);
        self.empty_line(first);
        let nodes = row(self.text, self.all, first..last + 1, &self.placeholders);
        self.printer.statement(&nodes, indent);
        self.at = last + 1;
        let mut trailing = Vec::new();
        while let Some(token) = self.all.get(self.at) {
            let separator = token.is(self.text, ";") || token.is(self.text, ",");
            if token.kind == TokenKind::Comment && !token.first_on_line {
                trailing.push(Comment::of(token, self.text));
            } else if !separator {
                break;
            }
            self.at += 1;
        }
        self.printer.trailing(&trailing);
    }

    /// Writes the comments that stand before token `next` on lines of their own.
    fn comments_before(&mut self, next: usize, indent: usize) {
        while self.at < next {
            let token = self.all[self.at];
            if token.kind == TokenKind::Comment {
                self.empty_line(self.at);
                self.printer.line(indent);
                self.printer.text.push_str(&Comment::of(&token, self.text).text);
            }
            self.at += 1;
        }
    }

    /// Keeps one empty line before token `i` where there was any.
    fn empty_line(&mut self, i: usize) {
        let before = i.checked_sub(1).map_or(0, |p| self.all[p].span.end);
        let blanks = &self.text[before..self.all[i].span.start];
        if !self.printer.text.is_empty() && blanks.matches('\n').count() > 1 {
            self.printer.line(0);
            self.printer.text.push('\n');
        }
    }

    fn word(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |t| t.text(self.text))
    }

    /// The colon that ends the header of a block, or the end of the range.
    fn colon(&self, range: &Range<usize>) -> usize {
        let mut depth = 0usize;
        for i in range.clone() {
            let token = &self.tokens[i];
            if token.opens(self.text) {
                depth += 1;
            } else if token.closes(self.text) {
                depth -= 1;
            } else if depth == 0 && token.is(self.text, ":") {
                return i;
            }
        }
        range.end
    }
}

#[cfg(test)]
pub(crate) mod tests;
