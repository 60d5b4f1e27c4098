//! `EXPLAIN ..`.

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::{Result, options, rest};
use crate::statement::{Explain, ExplainTarget, StatementKind};

pub(super) fn explain(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let (mut analyze, mut verbose) = (false, false);
    if r.peek_token() == &Token::LParen && !is_query(r) {
        for option in options::list(r)? {
            let boolean = || {
                option.boolean().ok_or_else(|| {
                    Diagnostic::syntax(format!("{} requires a Boolean value", option.name.value))
                        .at(option.span)
                })
            };
            match option.name.value.as_str() {
                "analyze" | "analyse" => analyze = boolean()?,
                "verbose" => verbose = boolean()?,
                // Costs, buffers and the like: a plan here has none to show or to hide.
                "costs" | "timing" | "summary" | "buffers" | "settings" | "wal" => {
                    boolean()?;
                }
                "format" => match option.text().map(str::to_ascii_lowercase).as_deref() {
                    Some("text") => {}
                    Some("json" | "xml" | "yaml") => {
                        return Err(Diagnostic::unsupported(
                            "EXPLAIN formats other than text are not supported",
                        )
                        .at(option.span));
                    }
                    _ => {
                        return Err(Diagnostic::error(
                            SqlState::INVALID_PARAMETER_VALUE,
                            "unrecognized value for EXPLAIN option \"format\"",
                        )
                        .at(option.span));
                    }
                },
                other => {
                    return Err(Diagnostic::syntax(format!(
                        "unrecognized EXPLAIN option \"{other}\""
                    ))
                    .at(option.name.span));
                }
            }
        }
    } else {
        analyze = r.word("analyze") || r.word("analyse");
        verbose = r.word("verbose");
    }
    let target = if r.word("stream")
        || r.word("pipeline")
        || r.word("sink")
        || r.words(&["materialized", "view"])
    {
        ExplainTarget::Object(r.name()?)
    } else {
        let place = r.here();
        let statement = rest(r)?;
        match statement.kind {
            StatementKind::Query(_)
            | StatementKind::Insert(_)
            | StatementKind::Update(_)
            | StatementKind::Delete(_)
            | StatementKind::Subscribe(_)
            | StatementKind::CreateStreamAs(_)
            | StatementKind::CreateView(_)
            | StatementKind::CreateSink(_)
            | StatementKind::Declare(_)
            | StatementKind::Execute { .. } => {}
            _ => {
                return Err(Diagnostic::syntax("this statement cannot be explained")
                    .hint("EXPLAIN takes a query, INSERT, UPDATE, DELETE or CREATE .. AS.")
                    .at(place));
            }
        }
        ExplainTarget::Statement(Box::new(statement))
    };
    Ok(StatementKind::Explain(Explain { analyze, verbose, target }))
}

/// Whether the parenthesis that comes next begins a query.
fn is_query(r: &Reader) -> bool {
    r.peek_nth(1) == &Token::LParen
        || matches!(r.peek_word(1).as_deref(), Some("select" | "values" | "with" | "table"))
}
