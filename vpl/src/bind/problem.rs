//! The errors of the binder, each made in one place: SQLSTATE, code, wording.

use auspex_plan::diagnostic::{Diagnostic, Span, SqlState, did_you_mean};

use crate::ast::Ident;
use crate::codes;

/// What every step of binding gives: the first error ends it. Boxed, as it is the rare case.
pub(super) type Result<T> = std::result::Result<T, Box<Diagnostic>>;

/// An error of one of our codes.
pub(super) fn error(
    state: SqlState,
    code: &'static str,
    span: Span,
    message: impl Into<String>,
) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(state, message).code(code).at(span))
}

/// Something the language has and that is not built yet.
pub(super) fn unsupported(span: Span, what: impl std::fmt::Display) -> Box<Diagnostic> {
    let message = format!("{what} is not available yet");
    error(SqlState::FEATURE_NOT_SUPPORTED, codes::UNSUPPORTED, span, message)
}

/// Types that do not fit together.
pub(super) fn mismatch(span: Span, message: impl Into<String>) -> Box<Diagnostic> {
    error(SqlState::DATATYPE_MISMATCH, codes::TYPE_MISMATCH, span, message)
}

/// Wrong number, name or kind of arguments.
pub(super) fn arguments(span: Span, message: impl Into<String>) -> Box<Diagnostic> {
    error(SqlState::INVALID_PARAMETER_VALUE, codes::ARGUMENTS, span, message)
}

/// DataFusion refused what the binder took for right: a defect of ours, with its words.
pub(super) fn internal(span: Span, error: &datafusion::common::DataFusionError) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(SqlState::INTERNAL_ERROR, "the plan cannot be built")
            .detail(error.strip_backtrace())
            .at(span),
    )
}

/// A name that nothing has, with the nearest one that exists.
pub(super) fn unknown<'a>(
    state: SqlState,
    code: &'static str,
    kind: &str,
    name: &Ident,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::error(state, format!("unknown {kind} `{}`", name.name))
        .code(code)
        .at(name.span);
    // Any other letter is one slip away from a single one: no suggestion then.
    let guess = name.name.chars().nth(1).and_then(|_| did_you_mean(&name.name, candidates));
    if let Some(near) = guess {
        diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
    }
    Box::new(diagnostic)
}

/// A field or argument that `owner` does not have, with the nearest one that it has.
pub(super) fn missing<'a>(
    state: SqlState,
    code: &'static str,
    owner: &str,
    kind: &str,
    name: &Ident,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Box<Diagnostic> {
    let mut diagnostic = unknown(state, code, kind, name, candidates);
    diagnostic.message = format!("{owner} has no {kind} `{}`", name.name);
    diagnostic
}

/// A hint where there is none yet.
pub(super) fn hint(mut diagnostic: Box<Diagnostic>, hint: impl Into<String>) -> Box<Diagnostic> {
    diagnostic.hint.get_or_insert_with(|| hint.into());
    diagnostic
}
