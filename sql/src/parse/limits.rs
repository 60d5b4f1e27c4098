//! Refuses statements whose syntax tree would be too deep to walk, before the tree exists.
//!
//! Parser, binder and the tree's destructor recurse. Depth comes from nesting (parentheses, `CASE`)
//! and from long chains of operators, which make left-deep trees; both are visible in the tokens.

use std::sync::Arc;

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::source::Source;

/// Greatest depth of parentheses, brackets and `CASE`.
const MAX_NESTING: usize = 100;
/// Longest chain of operators between two commas of one level: what DataFusion can print within
/// the stack it keeps in reserve (128 KiB).
const MAX_CHAIN: usize = 200;
/// Most set operations in a statement; each is a level with a whole query in it.
const MAX_SET_OPERATIONS: usize = 50;
/// Most joins in a statement.
const MAX_JOINS: usize = 200;

/// Greatest depth of all of these together.
const MAX_DEPTH: usize = 300;

/// Words that deepen the tree without parentheses.
const OPERATOR_WORDS: [&str; 14] = [
    "not", "is", "isnull", "notnull", "like", "ilike", "similar", "between", "in", "collate", "at",
    "any", "interval", "prior",
];

/// Words behind which another expression begins, beside the one before.
const SEPARATORS: [&str; 12] = [
    "select",
    "from",
    "join",
    "on",
    "where",
    "having",
    "set",
    "values",
    "when",
    "then",
    "else",
    "returning",
];

/// What stands between two parentheses, or between `CASE` and `END`.
#[derive(Clone, Copy, Default)]
struct Level {
    /// `AND`s and `OR`s of the expression being read. `a = 1 AND b = 2 AND ..` is as deep as it has
    /// ANDs: what stands between them is no deeper for standing there.
    logical: usize,
    /// Operators since the last `AND` or `OR`.
    other: usize,
    /// Depth of the deepest parenthesis in the expression being read.
    below: usize,
    /// Depth of the deepest expression before.
    before: usize,
}

impl Level {
    fn chain(self) -> usize {
        self.logical + self.other
    }

    fn depth(self) -> usize {
        self.before.max(self.chain() + self.below)
    }

    /// Another expression begins.
    fn next(&mut self) {
        *self = Level { before: self.depth(), ..Level::default() };
    }
}

pub(super) fn check(tokens: &[TokenWithSpan], source: &Arc<Source>) -> Result<(), Diagnostic> {
    let mut levels = vec![Level::default()];
    let (mut set_operations, mut joins) = (0usize, 0usize);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace => {
                // `a[1][2]` and `f(x)(y)` deepen the tree on the outer level.
                close(&mut levels);
                bump(&mut levels);
            }
            Token::Comma => {
                if let Some(last) = levels.last_mut() {
                    last.next();
                }
            }
            Token::Word(word) if word.quote_style.is_none() => {
                let word = word.value.to_ascii_lowercase();
                match word.as_str() {
                    "case" => levels.push(Level::default()),
                    "end" => close(&mut levels),
                    "union" | "except" | "intersect" => set_operations += 1,
                    "and" | "or" => {
                        if let Some(last) = levels.last_mut() {
                            last.logical += 1;
                            last.other = 0;
                        }
                    }
                    w if OPERATOR_WORDS.contains(&w) => bump(&mut levels),
                    w => {
                        joins += usize::from(w == "join");
                        if SEPARATORS.contains(&w)
                            && let Some(last) = levels.last_mut()
                        {
                            last.next();
                        }
                    }
                }
            }
            Token::Word(_)
            | Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::EOF => {}
            _ => bump(&mut levels),
        }
        let too_deep = levels.len() > MAX_NESTING
            || levels.last().is_some_and(|l| l.chain() > MAX_CHAIN || l.depth() > MAX_DEPTH)
            || set_operations > MAX_SET_OPERATIONS
            || joins > MAX_JOINS;
        if too_deep {
            return Err(Diagnostic::error(
                SqlState::STATEMENT_TOO_COMPLEX,
                "statement is too deeply nested",
            )
            .hint(format!(
                "At most {MAX_NESTING} levels of parentheses, {MAX_CHAIN} operators in one \
                 expression, {MAX_SET_OPERATIONS} set operations and {MAX_JOINS} joins are possible."
            ))
            .at_opt(source.span(token.span)));
        }
    }
    Ok(())
}

fn bump(levels: &mut [Level]) {
    if let Some(last) = levels.last_mut() {
        last.other += 1;
    }
}

/// The innermost parenthesis ends; a closing one too many is the parser's business.
fn close(levels: &mut Vec<Level>) {
    if levels.len() > 1
        && let Some(closed) = levels.pop()
        && let Some(last) = levels.last_mut()
    {
        last.below = last.below.max(closed.depth() + 1);
    }
}
