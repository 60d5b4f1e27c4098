//! What is wrong, in words: mistakes known in advance and refusals of the grammar.

use auspex_plan::diagnostic::{Diagnostic, Span, did_you_mean};
use pest::error::{Error, ErrorVariant, InputLocation};

use super::Rule;
use super::layout::{Code, DECLARATIONS};
use super::source::Derived;
use super::token::{TokenKind, tokenize};
use crate::codes;

/// Refuses what cannot begin a declaration.
pub(super) fn first_word(code: Code<'_>) -> Result<(), Diagnostic> {
    let word = code.word(0);
    if code.word(1) == ":=" || DECLARATIONS.contains(&word) {
        return Ok(());
    }
    let token = code.tokens[0];
    let error = Diagnostic::syntax(format!(
        "expected a declaration such as `stream`, `event`, `let` or `fn`, found {}",
        shown(token.text(code.text))
    ))
    .code(codes::STRAY)
    .at(token.span);
    let hint = match word {
        "if" | "elif" | "else" | "while" | "return" | "emit" | "break" | "continue" => {
            format!("`{word}` is a statement of functions: put it into the body of a `fn`")
        }
        "." | "->" => "an operation continues the declaration before it: remove the `;`".into(),
        _ if token.kind == TokenKind::Word => {
            match did_you_mean(word, DECLARATIONS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if SQL.contains(&word.to_ascii_uppercase().as_str()) => {
                    "SQL statements cannot stand in a VPL program".into()
                }
                None if code.word(1) == "=" => {
                    format!(
                        "declare a variable with `let {word} = ..`, a stream with `stream {word} = ..`"
                    )
                }
                None => stray_hint(),
            }
        }
        _ => stray_hint(),
    };
    Err(error.hint(hint))
}

/// First words of SQL statements that find their way into programs.
const SQL: &[&str] = &["SELECT", "CREATE", "INSERT", "UPDATE", "DELETE", "DROP", "WITH", "COPY"];

fn stray_hint() -> String {
    "a condition belongs into an operation such as `.where(..)` of a stream".into()
}

/// Mistakes that deserve more than the grammar's answer.
pub(super) fn known_mistakes(code: Code<'_>) -> Result<(), Diagnostic> {
    match code.word(0) {
        "event" => event(code),
        _ => Ok(()),
    }
}

fn event(code: Code<'_>) -> Result<(), Diagnostic> {
    let after = if code.word(2) == "extends" { 4 } else { 2 };
    let name = code.word(1);
    match code.word(after) {
        "{" => {
            let inside = &code.tokens[after + 1..];
            let mut fields = String::new();
            for (i, token) in inside.iter().enumerate() {
                if inside.get(i + 1).is_some_and(|t| t.is(code.text, ":")) {
                    fields.push_str("\n    ");
                } else if token.is(code.text, ",")
                    || (i + 1 == inside.len() && code.word(after + 1 + i) == "}")
                {
                    continue;
                }
                fields.push_str(token.text(code.text));
                if token.is(code.text, ":") {
                    fields.push(' ');
                }
            }
            let head = code.tokens[..after].iter().map(|t| t.text(code.text));
            let head = head.collect::<Vec<_>>().join(" ");
            Err(Diagnostic::syntax("expected `:`, found `{`")
                .code(codes::SYNTAX)
                .hint(format!("the fields of an event follow a colon, indented:\n{head}:{fields}"))
                .at(code.tokens[after].span))
        }
        other if other != ":" => {
            let last = code.tokens.len() - 1;
            Err(Diagnostic::syntax(match code.tokens.get(after) {
                Some(_) => format!("expected `:`, found {}", shown(other)),
                None => "expected `:` after the name of the event".to_string(),
            })
            .code(codes::SYNTAX)
            .hint(format!("an event is written event {name}: and its fields indented below"))
            .at(code.tokens[after.min(last)].span))
        }
        _ if code.tokens.len() == after + 1 => {
            Err(Diagnostic::syntax(format!("event \"{name}\" has no fields"))
                .code(codes::INDENTATION)
                .hint("write the fields below it, indented: `name: type`")
                .at(code.tokens[after].span))
        }
        _ => Ok(()),
    }
}

/// The grammar's refusal of a statement.
pub(super) fn refusal(laid: &Derived, error: &Error<Rule>) -> Diagnostic {
    let at = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    let (span, found) = found(laid, at);
    let mut expected: Vec<&str> = Vec::new();
    if let ErrorVariant::ParsingError { positives, .. } = &error.variant {
        let mut rules: Vec<Rule> = positives.clone();
        rules.sort();
        for words in rules.into_iter().filter_map(words) {
            if !expected.contains(&words) {
                expected.push(words);
            }
        }
    }
    thin_out(&mut expected);
    let expected = enumeration(&expected);
    let message = if expected.is_empty() {
        format!("unexpected {found}")
    } else {
        format!("expected {expected}, found {found}")
    };
    let diagnostic = Diagnostic::syntax(message).code(codes::SYNTAX).at(span);
    match hint(&laid.text, at) {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// Leaves the likely expectations: an operator, an index or a call fits after every value, and an
/// expression may begin with many things.
fn thin_out(expected: &mut Vec<&str>) {
    let has = |words: &[&str]| expected.iter().any(|e| words.contains(e));
    let closes = has(&["`,`", "`)`", "`]`", "`}`"]);
    let value = has(&["an operator"]) || closes;
    let expression = has(&["an expression"]);
    expected.retain(|e| match *e {
        "an operator" => !closes,
        "`[`" | "`=>`" => !value && !expression,
        "`(`" | "`{`" => !closes && !expression,
        "the name of an event type or stream" => !expression,
        _ => true,
    });
    if expected.len() > 3 {
        expected.retain(|e| *e != "an operator");
    }
}

/// The token at `at`, with its place in the user's text.
fn found(laid: &Derived, at: usize) -> (Span, String) {
    let rest = &laid.text[at..];
    let skipped = rest.len() - rest.trim_start().len();
    let start = at + skipped;
    match rest.trim_start().chars().next() {
        None => {
            // The end: the place is the last character of the statement.
            let end = laid.text.trim_end().len();
            let last = laid.text[..end].char_indices().next_back().map_or(0, |(i, _)| i);
            (laid.span(last, end), "the end of the statement".into())
        }
        Some('\u{1}'..='\u{3}') => (laid.span(start, start + 1), "the end of the line".into()),
        Some(c) => {
            let (tokens, _) = tokenize(&laid.text[start..]);
            let length = match tokens.first() {
                Some(token) if token.span.start == 0 => token.span.end,
                _ => c.len_utf8(),
            };
            let text = &laid.text[start..start + length];
            (laid.span(start, start + length), shown(text))
        }
    }
}

fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text);
    if line.chars().count() > 40 {
        format!("`{}..`", line.chars().take(40).collect::<String>())
    } else {
        format!("`{line}`")
    }
}

fn enumeration(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// Habits of other languages.
fn hint(text: &str, at: usize) -> Option<String> {
    let rest = text[at..].trim_start();
    let before = text[..at].trim_end();
    let table: &[(&str, &str)] = &[
        ("&&", "`and` is written as a word"),
        ("||", "`or` is written as a word"),
        ("!=", ""),
        ("!", "`not` is written as a word"),
        ("+=", "write x := x + .."),
        ("-=", "write x := x - .."),
        ("=", "equality is written `==`, assignment `:=`"),
        ("from", "a stream's source follows `=` directly; a connector is given with `E.from(..)`"),
        ("select", "operations begin with a dot: `.select(..)`"),
        ("emit", "operations begin with a dot: `.emit(..)`"),
        ("AND", "`and` is written in lower case in conditions"),
        ("OR", "`or` is written in lower case in conditions"),
        ("group", "keys are given with `.partition_by(..)`"),
    ];
    let starts = |word: &str| {
        rest.starts_with(word)
            && (!word.ends_with(|c: char| c.is_ascii_alphabetic())
                || !rest[word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    };
    if let Some((_, hint)) = table.iter().find(|(word, _)| starts(word)) {
        return Some((*hint).to_string()).filter(|h| !h.is_empty());
    }
    match (before.chars().next_back(), rest.chars().next()) {
        (Some('&'), Some('&')) => Some("`and` is written as a word".into()),
        (Some('|'), Some('|')) => Some("`or` is written as a word".into()),
        (Some('?'), Some(':')) => Some("choose with `if c then a else b`".into()),
        _ => None,
    }
}

/// What a rule is called towards users; `None` for what is not worth naming.
fn words(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::EOI => "the end of the statement",
        Rule::name
        | Rule::emit_name
        | Rule::not_name
        | Rule::order_name
        | Rule::fork_name
        | Rule::pattern_name
        | Rule::arg_name
        | Rule::map_key
        | Rule::extends => "a name",
        Rule::ident
        | Rule::step
        | Rule::all
        | Rule::all_word
        | Rule::seq_call
        | Rule::pattern_group
        | Rule::pattern_unary
        | Rule::pattern_chain
        | Rule::pattern_and_expr
        | Rule::pattern_or_expr
        | Rule::pattern_xor_expr
        | Rule::negation
        | Rule::pattern_not
        | Rule::kw_seq
        | Rule::source
        | Rule::input
        | Rule::labelled
        | Rule::merge_source
        | Rule::join_source
        | Rule::sequence_source
        | Rule::timer_source
        | Rule::kw_merge
        | Rule::kw_join
        | Rule::kw_sequence
        | Rule::kw_timer => "the name of an event type or stream",
        Rule::type_expr
        | Rule::array_type
        | Rule::map_type
        | Rule::tuple_type
        | Rule::stream_type => "a type",
        Rule::op
        | Rule::call_op
        | Rule::emit_op
        | Rule::order_op
        | Rule::not_op
        | Rule::fork_op
        | Rule::pattern_op => "an operation such as `.where(..)`",
        Rule::expr
        | Rule::cond
        | Rule::closed_cond
        | Rule::literal
        | Rule::number
        | Rule::string
        | Rule::boolean
        | Rule::null
        | Rule::timestamp
        | Rule::paren
        | Rule::array
        | Rule::map
        | Rule::call
        | Rule::if_expr
        | Rule::cond_if
        | Rule::match_expr
        | Rule::lambda
        | Rule::lambda_head
        | Rule::lambda_block
        | Rule::negative
        | Rule::negate
        | Rule::complement
        | Rule::args
        | Rule::arg
        | Rule::limit
        | Rule::order_key => "an expression",
        Rule::lp => "`(`",
        Rule::rp => "`)`",
        Rule::lb => "`[`",
        Rule::rb => "`]`",
        Rule::lc => "`{`",
        Rule::rc => "`}`",
        Rule::comma => "`,`",
        Rule::col | Rule::colon => "`:`",
        Rule::eq => "`=`",
        Rule::becomes => "`:=`",
        Rule::gives => "`=>`",
        Rule::to | Rule::arrow => "`->`",
        Rule::range
        | Rule::range_inclusive
        | Rule::power
        | Rule::multiply
        | Rule::divide
        | Rule::modulo
        | Rule::add
        | Rule::subtract
        | Rule::shift_left
        | Rule::shift_right
        | Rule::equal
        | Rule::not_equal
        | Rule::less
        | Rule::less_equal
        | Rule::greater
        | Rule::greater_equal
        | Rule::coalesce
        | Rule::bit_and
        | Rule::bit_or
        | Rule::bit_xor
        | Rule::logical_and
        | Rule::logical_or
        | Rule::not_in
        | Rule::is_in
        | Rule::is_null
        | Rule::kw_is
        | Rule::kw_in
        | Rule::kw_and
        | Rule::kw_or => "an operator",
        Rule::where_open | Rule::where_closed | Rule::kw_where => "`where`",
        Rule::alias | Rule::kw_as | Rule::emit_type => "`as`",
        Rule::until | Rule::until_closed | Rule::kw_until => "`until`",
        Rule::step_within | Rule::pattern_within | Rule::kw_within => "`within`",
        Rule::pattern_partition | Rule::kw_partition => "`partition by`",
        Rule::kw_by => "`by`",
        Rule::kw_then => "`then`",
        Rule::kw_else => "`else`",
        Rule::kw_null => "`null`",
        Rule::field => "a field `name: type`",
        Rule::block
        | Rule::local
        | Rule::binding
        | Rule::assign
        | Rule::if_local
        | Rule::for_local
        | Rule::while_local
        | Rule::return_local
        | Rule::emit_local
        | Rule::break_local
        | Rule::continue_local => "a statement",
        Rule::elif_branch | Rule::else_branch => "`elif` or `else`",
        Rule::param | Rule::params => "a parameter",
        Rule::config_entry => "a setting `name: value`",
        Rule::match_arm | Rule::match_pattern | Rule::match_value | Rule::any_pattern => {
            "a case `value => result`"
        }
        Rule::branch => "a branch `name: .op(..)`",
        Rule::at_least | Rule::at_most => "a number",
        _ => return None,
    })
}
