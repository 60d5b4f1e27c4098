//! Text to tokens: what layout, formatter and error messages work on.
//!
//! The grammar proper is `grammar.pest`; this pass only has to know where words, literals,
//! comments and brackets begin and end, so that no later pass mistakes the inside of a string or
//! comment for code. Nothing is dropped: the tokens and the blanks between them are the text.

use auspex_plan::diagnostic::{Diagnostic, Span};

use crate::codes;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Identifier or keyword.
    Word,
    /// Number or duration.
    Number,
    /// `@2024-01-31..`
    Timestamp,
    /// String with its quotes.
    Str,
    /// `#`, `//` or `/* */`, without the line end.
    Comment,
    /// Operator or bracket.
    Punct,
}

/// A token and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its kind.
    pub(crate) kind: TokenKind,
    /// Its place.
    pub(crate) span: Span,
    /// No other token but comments stands before it on its line.
    pub(crate) first_on_line: bool,
    /// Blanks at the beginning of its line, in characters.
    pub(crate) column: usize,
}

impl Token {
    /// The token's text.
    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        &text[self.span.start..self.span.end]
    }

    /// Whether it is this word or punctuation (never a string or comment).
    pub(crate) fn is(&self, text: &str, what: &str) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Punct) && self.text(text) == what
    }

    /// Whether it opens a bracket.
    pub(crate) fn opens(&self, text: &str) -> bool {
        self.kind == TokenKind::Punct && matches!(self.text(text), "(" | "[" | "{")
    }

    /// Whether it closes a bracket.
    pub(crate) fn closes(&self, text: &str) -> bool {
        self.kind == TokenKind::Punct && matches!(self.text(text), ")" | "]" | "}")
    }
}

/// Longest first, so that `..=` is not read as `..` and `=`.
const PUNCTUATION: &[&str] = &[
    "..=", "**", "==", "!=", "<=", ">=", "<<", ">>", "->", "=>", "..", ":=", "??", "?.", "(", ")",
    "[", "]", "{", "}", "+", "-", "*", "/", "%", "<", ">", "&", "|", "^", "~", ".", ",", ":", "=",
    "?", ";", "!",
];

/// Splits `text` into tokens. Unreadable parts give diagnostics and are skipped (characters) or
/// kept as tokens (unterminated strings and comments).
pub(crate) fn tokenize(text: &str) -> (Vec<Token>, Vec<Diagnostic>) {
    let mut lexer = Lexer { text, at: 0, line_start: 0, fresh_line: true, ..Lexer::default() };
    lexer.run();
    (lexer.tokens, lexer.diagnostics)
}

#[derive(Default)]
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line_start: usize,
    fresh_line: bool,
    tokens: Vec<Token>,
    diagnostics: Vec<Diagnostic>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while let Some(c) = self.rest().chars().next() {
            match c {
                '\n' => {
                    self.at += 1;
                    self.line_start = self.at;
                    self.fresh_line = true;
                }
                ' ' | '\t' | '\r' | '\u{feff}' => self.at += c.len_utf8(),
                _ => self.token(c),
            }
        }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn token(&mut self, c: char) {
        let rest = self.rest();
        let (kind, length) = match c {
            '#' => (TokenKind::Comment, line_length(rest)),
            '/' if rest.starts_with("//") => (TokenKind::Comment, line_length(rest)),
            '/' if rest.starts_with("/*") => (TokenKind::Comment, self.block_comment()),
            '"' | '\'' => (TokenKind::Str, self.string(c)),
            '@' => (TokenKind::Timestamp, self.timestamp()),
            'a'..='z' | 'A'..='Z' | '_' => (TokenKind::Word, word_length(rest)),
            '0'..='9' => (TokenKind::Number, number_length(rest)),
            '.' if self.number_may_start_with_dot() => (TokenKind::Number, number_length(rest)),
            _ => match PUNCTUATION.iter().find(|p| rest.starts_with(**p)) {
                Some(p) => (TokenKind::Punct, p.len()),
                None => return self.unexpected(c),
            },
        };
        let start = self.at;
        self.tokens.push(Token {
            kind,
            span: Span::new(start, start + length),
            first_on_line: self.fresh_line,
            column: indentation(&self.text[self.line_start..start]),
        });
        self.at += length;
        let token_text = &self.text[start..self.at];
        if let Some(newline) = token_text.rfind('\n') {
            self.line_start = start + newline + 1;
        }
        if kind != TokenKind::Comment {
            self.fresh_line = false;
        } else if token_text.contains('\n') {
            self.fresh_line = true;
        }
    }

    fn unexpected(&mut self, c: char) {
        let span = Span::new(self.at, self.at + c.len_utf8());
        self.at = span.end;
        let shown = if c.is_control() || c.is_whitespace() {
            format!("U+{:04X}", c as u32)
        } else {
            format!("`{c}`")
        };
        let mut diagnostic = Diagnostic::syntax(format!("unexpected character {shown}"))
            .code(codes::SYNTAX)
            .at(span);
        if c.is_alphabetic() {
            diagnostic = diagnostic.hint("names consist of the letters a to z, digits and `_`");
        } else if matches!(c, '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}') {
            diagnostic = diagnostic.hint("strings are written with straight quotes: \"text\"");
        }
        self.diagnostics.push(diagnostic);
    }

    /// `.5` is a number unless it follows something a field could be taken of.
    fn number_may_start_with_dot(&self) -> bool {
        let mut chars = self.rest().chars().skip(1);
        let digit = chars.next().is_some_and(|c| c.is_ascii_digit());
        let adjacent_value = self.tokens.last().is_some_and(|t| {
            t.span.end == self.at
                && (matches!(t.kind, TokenKind::Word | TokenKind::Number | TokenKind::Str)
                    || t.closes(self.text))
        });
        digit && !adjacent_value
    }

    fn block_comment(&mut self) -> usize {
        match self.rest()[2..].find("*/") {
            Some(end) => end + 4,
            None => {
                let span = Span::new(self.at, self.at + 2);
                self.diagnostics.push(
                    Diagnostic::syntax("unterminated comment")
                        .code(codes::UNTERMINATED_COMMENT)
                        .hint("a comment that begins with `/*` ends with `*/`")
                        .at(span),
                );
                self.rest().len()
            }
        }
    }

    fn string(&mut self, quote: char) -> usize {
        let rest = self.rest();
        let triple = rest.starts_with("\"\"\"");
        let start = if triple { 3 } else { 1 };
        let mut escaped = false;
        for (i, c) in rest.char_indices().skip(start) {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if triple && rest[i..].starts_with("\"\"\"") {
                return i + 3;
            } else if !triple && c == quote {
                return i + 1;
            }
            // A backslash does not carry a plain string over the end of its line.
            if !triple && c == '\n' {
                let length = rest[..i].trim_end_matches('\r').len();
                self.unterminated_string(start, false);
                return length;
            }
        }
        let length = rest.len();
        self.unterminated_string(start, triple);
        length
    }

    fn unterminated_string(&mut self, quote_length: usize, triple: bool) {
        let span = Span::new(self.at, self.at + quote_length);
        let hint = if triple {
            "close it with `\"\"\"`"
        } else {
            "close it on its line, or use `\"\"\"` for a string of several lines"
        };
        self.diagnostics.push(
            Diagnostic::syntax("unterminated string")
                .code(codes::UNTERMINATED_STRING)
                .hint(hint)
                .at(span),
        );
    }

    fn timestamp(&mut self) -> usize {
        let length = timestamp_length(self.rest());
        if length == 1 {
            self.diagnostics.push(
                Diagnostic::syntax("`@` must be followed by a date")
                    .code(codes::LITERAL)
                    .hint("a timestamp is written @2024-01-31 or @2024-01-31T12:00:00Z")
                    .at(Span::new(self.at, self.at + 1)),
            );
        }
        length
    }
}

fn line_length(rest: &str) -> usize {
    rest.find('\n').map_or(rest, |n| &rest[..n]).trim_end_matches('\r').len()
}

fn indentation(line: &str) -> usize {
    line.trim_start_matches('\u{feff}').chars().take_while(|c| matches!(c, ' ' | '\t')).count()
}

fn word_length(rest: &str) -> usize {
    rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

fn digits_length(rest: &str) -> usize {
    rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count()
}

/// Digits, fraction, exponent and any word characters glued to them (units of durations, or
/// garbage that the literal reader names).
fn number_length(rest: &str) -> usize {
    let mut length = digits_length(rest);
    let after = &rest[length..];
    if after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit()) {
        length += 1 + digits_length(&after[1..]);
    }
    let after = &rest[length..];
    if after.starts_with(['e', 'E']) && after[1..].starts_with(['+', '-']) {
        let digits = digits_length(&after[2..]);
        if digits > 0 {
            length += 2 + digits;
        }
    }
    length + word_length(&rest[length..])
}

/// `@` and then a date, optionally a time, optionally `Z` or an offset.
fn timestamp_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let date = bytes[1..].iter().take(10);
    let mut at = 1 + date.take_while(|b| b.is_ascii_digit() || **b == b'-').count();
    if bytes.get(at) == Some(&b'T') {
        let time = |b: &u8| b.is_ascii_digit() || matches!(b, b':' | b'.');
        at += 1 + bytes[at + 1..].iter().take_while(|b| time(b)).count();
    }
    let after = &bytes[at..];
    if after.first() == Some(&b'Z') {
        at += 1;
    } else if matches!(after, [b'+' | b'-', a, b, b':', c, d, ..] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()))
    {
        at += 6;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokenize(text).0.iter().map(|t| t.text(text)).collect()
    }

    #[test]
    fn numbers_ranges_and_durations_are_single_tokens() {
        assert_eq!(texts("0..3"), ["0", "..", "3"]);
        assert_eq!(texts("1_000.5e-3 .5 1h30m"), ["1_000.5e-3", ".5", "1h30m"]);
        assert_eq!(texts("xs?.b ?? 1"), ["xs", "?.", "b", "??", "1"]);
        assert_eq!(
            texts("@2024-01-31T12:00:00.5+02:00-1h"),
            ["@2024-01-31T12:00:00.5+02:00", "-", "1h"]
        );
    }

    #[test]
    fn strings_hide_comments_and_brackets() {
        assert_eq!(texts(r##"a "# ( \" //" 'b"' # c"##), ["a", r##""# ( \" //""##, "'b\"'", "# c"]);
        assert_eq!(texts("\"\"\"a\n\"b\"\n\"\"\" x").len(), 2);
    }

    #[test]
    fn unterminated_string_is_reported_at_its_quote_and_ends_on_its_line() {
        let text = "x == \"abc)\ny";
        let (tokens, diagnostics) = tokenize(text);
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].span.map(|s| s.start), Some(5));
        assert_eq!(tokens.last().map(|t| t.text(text)), Some("y"));
    }
}
