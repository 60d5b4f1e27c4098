//! Refuses statements whose syntax tree would be too deep to walk, before the tree exists.
//!
//! Parser, binder and the tree's destructor recurse. Depth comes from nesting (parentheses, `CASE`)
//! and from long chains of operators, which make left-deep trees; both are visible in the tokens.

use std::sync::Arc;

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::source::Source;

/// Greatest depth of parentheses, brackets and `CASE`.
const MAX_NESTING: usize = 128;
/// Most operators between two commas of one level.
const MAX_CHAIN: usize = 1000;
/// Most set operations and joins in a statement.
const MAX_OPERATIONS: usize = 500;

/// Words that deepen the tree without parentheses.
const OPERATOR_WORDS: [&str; 17] = [
    "and", "or", "not", "is", "isnull", "notnull", "like", "ilike", "similar", "between", "in",
    "collate", "at", "any", "interval", "when", "prior",
];

pub(super) fn check(tokens: &[TokenWithSpan], source: &Arc<Source>) -> Result<(), Diagnostic> {
    let mut chains = vec![0usize];
    let mut operations = 0usize;
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => chains.push(0),
            Token::RParen | Token::RBracket | Token::RBrace => {
                // `a[1][2]` and `f(x)(y)` deepen the tree on the outer level.
                if chains.len() > 1 {
                    chains.pop();
                }
                bump(&mut chains);
            }
            Token::Comma => {
                if let Some(last) = chains.last_mut() {
                    *last = 0;
                }
            }
            Token::Word(word) if word.quote_style.is_none() => {
                let word = word.value.to_ascii_lowercase();
                match word.as_str() {
                    "case" => chains.push(0),
                    "end" if chains.len() > 1 => {
                        chains.pop();
                    }
                    "union" | "except" | "intersect" | "join" => operations += 1,
                    w if OPERATOR_WORDS.contains(&w) => bump(&mut chains),
                    _ => {}
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
            _ => bump(&mut chains),
        }
        let too_deep = chains.len() > MAX_NESTING
            || chains.last().is_some_and(|n| *n > MAX_CHAIN)
            || operations > MAX_OPERATIONS;
        if too_deep {
            return Err(Diagnostic::error(
                SqlState::STATEMENT_TOO_COMPLEX,
                "statement is too deeply nested",
            )
            .hint(format!(
                "At most {MAX_NESTING} levels of parentheses, {MAX_CHAIN} operators in one \
                 expression and {MAX_OPERATIONS} joins and set operations are possible."
            ))
            .at_opt(source.span(token.span)));
        }
    }
    Ok(())
}

fn bump(chains: &mut [usize]) {
    if let Some(last) = chains.last_mut() {
        *last += 1;
    }
}
