//! Checks that need no grammar but protect it: brackets that match, and bounds on nesting.
//!
//! The parser, the binder and the destructors of the tree walk recursively, so depth must be
//! bounded before any of them runs. It is bounded here by counting tokens, without recursion.

use auspex_plan::diagnostic::{Diagnostic, Span};

use super::layout::Code;
use super::token::TokenKind;
use crate::codes;

/// Most brackets open at once.
pub(crate) const MAX_BRACKETS: usize = 64;
/// Most operators that may depend on each other in one expression, brackets included.
pub(crate) const MAX_OPERATORS: usize = 250;
/// Most blocks inside each other.
pub(crate) const MAX_BLOCKS: usize = 32;

/// Operators seen since the last separator, inside one bracket.
#[derive(Default, Clone, Copy)]
struct Level {
    /// Words that never let go: `or`, `if`, `then`, `else`, `=>`.
    outer: usize,
    /// `and` since the last `or`.
    and: usize,
    /// All else since the last of the above.
    inner: usize,
}

impl Level {
    fn depth(self) -> usize {
        self.outer + self.and + self.inner
    }
}

/// Checks the brackets and the depth of one statement.
pub(crate) fn check(code: Code<'_>) -> Result<(), Diagnostic> {
    let mut open: Vec<(usize, Level)> = Vec::new();
    let mut level = Level::default();
    let mut outside = 0;
    let mut columns: Vec<usize> = Vec::new();
    for (i, token) in code.tokens.iter().enumerate() {
        if token.first_on_line && open.is_empty() {
            columns.retain(|c| *c < token.column);
            columns.push(token.column);
            if columns.len() > MAX_BLOCKS {
                return Err(too_deep(
                    token.span,
                    format!("blocks are nested too deeply: the limit is {MAX_BLOCKS} levels"),
                ));
            }
        }
        let word = code.word(i);
        match token.kind {
            TokenKind::Punct if token.opens(code.text) => {
                outside += level.depth() + 1;
                open.push((i, level));
                level = Level::default();
                if open.len() > MAX_BRACKETS {
                    return Err(too_deep(
                        token.span,
                        format!(
                            "brackets are nested too deeply: the limit is {MAX_BRACKETS} levels"
                        ),
                    ));
                }
            }
            TokenKind::Punct if token.closes(code.text) => {
                let Some((opener, before)) = open.pop() else {
                    return Err(Diagnostic::syntax(format!(
                        "`{word}` has no opening `{}`",
                        partner(word)
                    ))
                    .code(codes::BRACKET)
                    .at(token.span));
                };
                if partner(word) != code.word(opener) {
                    return Err(unclosed(code, opener)
                        .detail(format!("the next closing bracket is `{word}`")));
                }
                outside -= before.depth() + 1;
                level = before;
                level.inner += 1;
            }
            TokenKind::Punct | TokenKind::Word => level = after(code, i, level, open.is_empty()),
            _ => {}
        }
        if outside + level.depth() > MAX_OPERATORS {
            return Err(too_deep(
                token.span,
                format!(
                    "the expression is nested too deeply: more than {MAX_OPERATORS} operators depend on each other"
                ),
            ));
        }
    }
    match open.first() {
        Some((opener, _)) => Err(unclosed(code, *opener)),
        None => Ok(()),
    }
}

/// The level after token `i`, which is a word or punctuation but no bracket.
fn after(code: Code<'_>, i: usize, mut level: Level, top: bool) -> Level {
    let chained = |name: usize| {
        code.tokens.get(name).is_some_and(|t| t.kind == TokenKind::Word)
            && matches!(code.word(name + 1), "(" | "as")
    };
    match code.word(i) {
        "," | ";" => Level::default(),
        "->" if top => Level::default(),
        "." if top && chained(i + 1) => Level::default(),
        _ if top && code.tokens[i].first_on_line && code.has_block(0) => {
            Level { outer: usize::from(code.word(i) == "if"), ..Level::default() }
        }
        "or" | "OR" | "=>" | "if" | "then" | "else" => {
            Level { outer: level.outer + 1, and: 0, inner: 0 }
        }
        "and" | "AND" => Level { and: level.and + 1, inner: 0, ..level },
        "not" | "in" | "is" => Level { inner: level.inner + 1, ..level },
        _ => {
            level.inner += usize::from(code.tokens[i].kind == TokenKind::Punct);
            level
        }
    }
}

fn too_deep(span: Span, message: String) -> Diagnostic {
    Diagnostic::syntax(message)
        .code(codes::NESTING)
        .hint("name parts with `let` or `fn`, or use `in [..]` for long lists of alternatives")
        .at(span)
}

fn unclosed(code: Code<'_>, opener: usize) -> Diagnostic {
    let bracket = code.word(opener);
    Diagnostic::syntax(format!("`{bracket}` is never closed"))
        .code(codes::BRACKET)
        .hint(format!("expected `{}`", partner(bracket)))
        .at(code.tokens[opener].span)
}

fn partner(bracket: &str) -> &'static str {
    match bracket {
        "(" => ")",
        ")" => "(",
        "[" => "]",
        "]" => "[",
        "{" => "}",
        _ => "{",
    }
}
