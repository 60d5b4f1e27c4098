//! Top-level `for v in a..b:`: the body once for every number, with `{v}` replaced textually.
//!
//! Replacement also happens inside strings and names (`Zone{z}`, `"zone {z}"`). Loops may be nested;
//! an inner loop's bounds may use the outer variable.

use auspex_plan::diagnostic::{Diagnostic, Span};

use super::layout::Code;
use super::source::Derived;
use super::token::TokenKind;
use super::{Parsed, read};
use crate::codes;

/// Most iterations of one loop.
const MAX_ITERATIONS: i64 = 10_000;
/// Most text that all loops of a program together may produce, in bytes.
const MAX_TEXT: usize = 8 << 20;
/// Most loops inside each other.
const MAX_DEPTH: usize = 8;

/// What the loops of a program have used up.
#[derive(Debug, Default)]
pub(super) struct Budget {
    text: usize,
    depth: usize,
}

/// Expands one loop and reads the result.
pub(super) fn expand(
    source: &Derived,
    statement: Code<'_>,
    parsed: &mut Parsed,
    budget: &mut Budget,
) -> Result<(), Diagnostic> {
    let header = Header::read(statement).map_err(|mut d| {
        d.span = d.span.map(|s| source.span(s.start, s.end));
        d
    })?;
    let place = source.span(header.span.start, header.span.end);
    if budget.depth >= MAX_DEPTH {
        return Err(refuse(place, format!("more than {MAX_DEPTH} loops are nested")));
    }
    budget.depth += 1;
    let marker = format!("{{{}}}", header.variable);
    let known = parsed.diagnostics.len();
    for number in header.from..header.to {
        let body = substitute(source, header.body, &marker, &number.to_string());
        budget.text += body.text.len();
        if budget.text > MAX_TEXT {
            let limit = MAX_TEXT >> 20;
            return Err(refuse(place, format!("loops expand to more than {limit} MiB of text")));
        }
        read(&body, parsed, budget);
        // Every further round would say the same again.
        if parsed.diagnostics.len() > known {
            break;
        }
    }
    budget.depth -= 1;
    Ok(())
}

fn substitute(source: &Derived, body: Span, marker: &str, number: &str) -> Derived {
    let mut result = Derived::empty();
    let mut at = body.start;
    while let Some(found) = source.text[at..body.end].find(marker) {
        result.copy(source, at, at + found);
        result.insert(source, at + found, number);
        at += found + marker.len();
    }
    result.copy(source, at, body.end);
    result
}

struct Header<'a> {
    variable: &'a str,
    from: i64,
    /// One past the last number.
    to: i64,
    /// `a..b`
    span: Span,
    /// The body's text, from the beginning of its first line.
    body: Span,
}

impl<'a> Header<'a> {
    /// Reads `for v in a..b:`.
    fn read(code: Code<'a>) -> Result<Self, Diagnostic> {
        let whole = |first: usize, last: usize| {
            let last = last.min(code.tokens.len() - 1);
            code.tokens[first.min(last)].span.to(code.tokens[last].span)
        };
        let colon = (3..code.tokens.len())
            .find(|i| code.word(*i) == ":")
            .ok_or_else(|| refuse(whole(0, 3), "a loop is written `for i in 0..4:`"))?;
        let bounds = whole(3, colon - 1);
        let not_literal = || {
            refuse(bounds, "the bounds of a top-level `for` must be two literal numbers")
                .hint("write for i in 0..4: or, with the last number included, for i in 0..=3:")
        };
        let number = |i: usize| {
            let token = code.tokens.get(i).filter(|t| t.kind == TokenKind::Number)?;
            token.text(code.text).replace('_', "").parse::<i64>().ok()
        };
        let inclusive = match code.word(4) {
            ".." => false,
            "..=" => true,
            _ => return Err(not_literal()),
        };
        let (Some(from), Some(to), 6) = (number(3), number(5), colon) else {
            return Err(not_literal());
        };
        let to = if inclusive { to.saturating_add(1) } else { to };
        if to.saturating_sub(from) > MAX_ITERATIONS {
            return Err(refuse(bounds, format!("a loop has at most {MAX_ITERATIONS} rounds")));
        }
        let (Some(first), Some(last)) = (code.tokens.get(colon + 1), code.tokens.last()) else {
            return Err(Diagnostic::syntax("the loop has no body")
                .code(codes::INDENTATION)
                .hint("indent the declarations below the `for` line")
                .at(whole(0, colon)));
        };
        // Columns count from the line's beginning, so the blanks before the first token matter.
        let start = if first.first_on_line {
            code.text[..first.span.start].rfind('\n').map_or(0, |n| n + 1)
        } else {
            first.span.start
        };
        let body = Span::new(start, last.span.end);
        Ok(Header { variable: code.word(1), from, to, span: bounds, body })
    }
}

fn refuse(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::syntax(message).code(codes::LOOP_EXPANSION).at(span)
}
