//! Where statements begin and end, and where blocks do.
//!
//! A program is split into top-level statements, so that each is parsed by itself and one mistake
//! does not hide the next. A statement ends at `;`, or at a line that can only begin another one.
//! Statements with blocks get their indentation as characters the grammar knows: [`SEPARATOR`]
//! between the lines of a block, [`INDENT`] and [`DEDENT`] around it.

use std::ops::Range;

use auspex_plan::diagnostic::{Diagnostic, Span};

use super::source::Derived;
use super::token::{Token, TokenKind};
use crate::ast::JoinKind;
use crate::codes;

/// Between two statements of a block.
pub(crate) const SEPARATOR: &str = "\u{1}";
/// Before the first statement of a block.
pub(crate) const INDENT: &str = "\u{2}";
/// After the last statement of a block.
pub(crate) const DEDENT: &str = "\u{3}";

/// Words that begin a declaration.
pub(crate) const DECLARATIONS: &[&str] = &[
    "event",
    "stream",
    "let",
    "var",
    "const",
    "fn",
    "pattern",
    "type",
    "context",
    "connector",
    "config",
    "import",
    "for",
];

/// Words after which a line ending in `:` opens a block.
const BLOCK_WORDS: &[&str] = &["event", "fn", "if", "elif", "else", "for", "while", "config"];

/// Words that need something to their right: a value cannot end with them.
pub(crate) const OPERATOR_WORDS: &[&str] = &[
    "and", "or", "not", "in", "is", "if", "then", "else", "where", "as", "until", "within", "all",
    "by", "extends", "AND", "OR", "NOT", "xor",
];

/// Words that go on with what stands before them.
pub(crate) const CONTINUATION_WORDS: &[&str] = &[
    "and",
    "or",
    "in",
    "is",
    "then",
    "else",
    "elif",
    "where",
    "as",
    "until",
    "within",
    "filter",
    "partition",
    "by",
    "extends",
    "AND",
    "OR",
    "xor",
];

/// A program's code tokens (no comments) with its text.
#[derive(Clone, Copy)]
pub(crate) struct Code<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// Its tokens without comments.
    pub(crate) tokens: &'a [Token],
}

impl<'a> Code<'a> {
    /// Text of token `i`, empty past the end.
    pub(crate) fn word(&self, i: usize) -> &'a str {
        self.tokens.get(i).map_or("", |t| t.text(self.text))
    }

    fn is_word(&self, i: usize) -> bool {
        self.tokens.get(i).is_some_and(|t| t.kind == TokenKind::Word)
    }

    /// Whether a declaration begins at token `i`.
    pub(crate) fn declares(&self, i: usize) -> bool {
        if !self.is_word(i) {
            return false;
        }
        let named = self.is_word(i + 1)
            && !matches!(self.word(i + 1), "as" | "where" | "is" | "in" | "and" | "or" | "not");
        match self.word(i) {
            "event" | "stream" | "fn" | "pattern" | "connector" | "context" | "let" | "var"
            | "const" => named,
            "type" => named && self.word(i + 2) == "=",
            "config" => self.word(i + 1) == ":" || (named && self.word(i + 2) == "{"),
            "import" => self.tokens.get(i + 1).is_some_and(|t| t.kind == TokenKind::Str),
            "for" | "while" => named,
            _ => self.word(i + 1) == ":=",
        }
    }

    /// Whether the statement that begins at token `i` may be followed by an indented block.
    pub(crate) fn has_block(&self, i: usize) -> bool {
        match self.word(i) {
            "config" => self.word(i + 1) == ":",
            word => BLOCK_WORDS.contains(&word),
        }
    }

    /// Whether tokens `i` and `i + 1` cannot belong to one statement: two values side by side.
    pub(crate) fn side_by_side(&self, i: usize) -> bool {
        let (left, right) = (&self.tokens[i], &self.tokens[i + 1]);
        let ends = match left.kind {
            TokenKind::Word => !OPERATOR_WORDS.contains(&self.word(i)),
            TokenKind::Punct => left.closes(self.text),
            _ => true,
        };
        let begins = match right.kind {
            TokenKind::Word if self.word(i + 1) == "not" => self.word(i + 2) != "in",
            TokenKind::Word => !CONTINUATION_WORDS.contains(&self.word(i + 1)),
            TokenKind::Punct => false,
            _ => true,
        };
        ends && begins
    }
}

/// The top-level statements, as ranges of tokens; semicolons between them are in none.
pub(crate) fn statements(code: Code<'_>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut open: Vec<usize> = Vec::new();
    let mut line_column = 0;
    for (i, token) in code.tokens.iter().enumerate() {
        if token.first_on_line {
            line_column = token.column;
        }
        let block = start < i && code.has_block(start);
        let base = code.tokens[start.min(i)].column;
        if token.first_on_line && i > start && begins(code, start, i, &open, block, base) {
            found.push(start..i);
            start = i;
            open.clear();
        }
        if open.is_empty() && token.is(code.text, ";") && !(block && line_column > base) {
            found.push(start..i);
            start = i + 1;
        } else if token.opens(code.text) {
            open.push(i);
        } else if token.closes(code.text) {
            open.pop();
        }
    }
    found.push(start..code.tokens.len());
    found.retain(|range| range.start < range.end);
    found
}

/// Whether the line that begins with token `i` begins a new statement.
fn begins(
    code: Code<'_>,
    start: usize,
    i: usize,
    open: &[usize],
    block: bool,
    base: usize,
) -> bool {
    let token = &code.tokens[i];
    if block && token.column > base {
        return false;
    }
    match open.last() {
        None if block => true,
        None => code.declares(i) || (token.column <= base && code.side_by_side(i - 1)),
        // A bracket was forgotten: a declaration at the margin ends the statement all the same.
        Some(&bracket) => {
            let takes_streams = bracket > start
                && (code.word(bracket - 1) == "merge"
                    || JoinKind::of_word(code.word(bracket - 1)).is_some());
            token.column <= base && code.declares(i) && !takes_streams && code.word(i + 1) != ":="
        }
    }
}

/// One logical line of a statement with blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its tokens.
    pub(crate) tokens: Range<usize>,
    /// How many blocks it stands in; the statement's first line stands in none.
    pub(crate) depth: usize,
}

/// The lines of a statement with their depths. A statement without blocks is one line.
///
/// # Errors
/// A line whose indentation fits no block around it, or a missing block, with the span in the
/// text of `code`.
pub(crate) fn lines(code: Code<'_>, statement: Range<usize>) -> Result<Vec<Line>, Diagnostic> {
    let mut found = Vec::new();
    // Columns of the open blocks; the statement itself is the first.
    let mut columns = vec![code.tokens[statement.start].column];
    let mut start = statement.start;
    let mut bracket_depth = 0usize;
    let blocks = code.has_block(statement.start);
    for i in statement.clone() {
        let token = &code.tokens[i];
        if blocks && bracket_depth == 0 && i > statement.start {
            let depth = columns.len() - 1;
            if token.is(code.text, ";") && depth > 0 {
                found.push(Line { tokens: start..i, depth });
                start = i + 1;
                continue;
            }
            if token.first_on_line && starts_line(code, start, i, &mut columns)? {
                found.push(Line { tokens: start..i, depth });
                start = i;
            }
        }
        if token.opens(code.text) {
            bracket_depth += 1;
        } else if token.closes(code.text) {
            bracket_depth = bracket_depth.saturating_sub(1);
        }
    }
    found.push(Line { tokens: start..statement.end, depth: columns.len() - 1 });
    found.retain(|line| line.tokens.start < line.tokens.end);
    Ok(found)
}

/// Whether token `i`, the first of its text line, begins a logical line; opens and closes blocks.
fn starts_line(
    code: Code<'_>,
    line_start: usize,
    i: usize,
    columns: &mut Vec<usize>,
) -> Result<bool, Diagnostic> {
    let token = &code.tokens[i];
    let current = columns.last().copied().unwrap_or(0);
    if code.word(i - 1) == ":" && code.has_block(line_start) {
        if token.column <= current {
            return Err(uneven(token, "an indented block is expected here"));
        }
        columns.push(token.column);
        return Ok(true);
    }
    if token.column > current {
        return Ok(false);
    }
    while columns.len() > 1 && columns.last().is_some_and(|c| *c > token.column) {
        columns.pop();
    }
    if columns.last() != Some(&token.column) {
        return Err(uneven(token, "the indentation of this line fits no block around it"));
    }
    Ok(true)
}

/// The statement's text for the grammar: comments blanked, blocks marked.
pub(crate) fn lay_out(
    source: &Derived,
    code: Code<'_>,
    statement: Range<usize>,
) -> Result<Derived, Diagnostic> {
    let lines = lines(code, statement).map_err(|mut d| {
        d.span = d.span.map(|s| source.span(s.start, s.end));
        d
    })?;
    let mut writer = Writer { source, laid: Derived::empty(), at: 0 };
    let mut depth = 0;
    for line in lines {
        let at = code.tokens[line.tokens.start].span.start;
        let continues = matches!(code.word(line.tokens.start), "elif" | "else");
        if line.depth > depth {
            writer.mark(at, INDENT);
        } else {
            (line.depth..depth).for_each(|_| writer.mark(at, DEDENT));
            if line.depth > 0 && !continues {
                writer.mark(at, SEPARATOR);
            }
        }
        depth = line.depth;
        for token in &code.tokens[line.tokens] {
            writer.token(token);
        }
    }
    let end = writer.at;
    (0..depth).for_each(|_| writer.mark(end, DEDENT));
    Ok(writer.laid)
}

fn uneven(token: &Token, message: &str) -> Diagnostic {
    Diagnostic::syntax(message)
        .code(codes::INDENTATION)
        .hint("all lines of a block begin in the same column, right of the line that opens it")
        .at(token.span)
}

struct Writer<'a> {
    source: &'a Derived,
    laid: Derived,
    /// End of the last token written.
    at: usize,
}

impl Writer<'_> {
    fn token(&mut self, token: &Token) {
        let Span { start, end } = token.span;
        if !self.laid.text.is_empty() && self.at < start {
            self.laid.insert(self.source, self.at, " ");
        }
        self.laid.copy(self.source, start, end);
        self.at = end;
    }

    fn mark(&mut self, at: usize, marker: &str) {
        self.laid.insert(self.source, at, marker);
        self.at = at;
    }
}
