//! What is wrong with the bytes of a COPY, and where.

use auspex_plan::{Diagnostic, SqlState};

/// Longest value shown in a `CONTEXT` line, in characters, as in PostgreSQL.
const MAX_SHOWN: usize = 100;

/// Bytes that are not rows of the target: SQLSTATE, message and place in PostgreSQL's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CopyError {
    /// SQLSTATE.
    pub state: SqlState,
    /// One sentence.
    pub message: String,
    /// More about the cause.
    pub detail: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// 1-based line of a text or csv file (its header counts), 1-based row of a binary one.
    pub line: Option<u64>,
    /// What on that line.
    pub place: Place,
}

/// What on the line an error is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// The line as a whole, its text not known.
    #[default]
    Line,
    /// The line as a whole with its text.
    Text(String),
    /// A column whose value is not shown (binary).
    Column(String),
    /// A column and its value as sent.
    Value(String, String),
}

impl CopyError {
    /// An error without place.
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        CopyError {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            line: None,
            place: Place::Line,
        }
    }

    /// The file is not in the format: 22P04.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(SqlState::BAD_COPY_FILE_FORMAT, message)
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the line and what on it, unless a place is known already.
    pub fn at(mut self, line: u64, place: Place) -> Self {
        if self.line.is_none() {
            self.line = Some(line);
            self.place = place;
        }
        self
    }

    /// The `CONTEXT` line (`W` field) for COPY into `relation`, `None` when no row is to blame.
    pub fn context(&self, relation: &str) -> Option<String> {
        let line = self.line?;
        Some(match &self.place {
            Place::Line => format!("COPY {relation}, line {line}"),
            Place::Text(text) => format!("COPY {relation}, line {line}: \"{}\"", shown(text)),
            Place::Column(column) => format!("COPY {relation}, line {line}, column {column}"),
            Place::Value(column, value) => {
                format!("COPY {relation}, line {line}, column {column}: \"{}\"", shown(value))
            }
        })
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

impl From<Diagnostic> for CopyError {
    fn from(d: Diagnostic) -> Self {
        CopyError {
            state: d.state,
            message: d.message,
            detail: d.detail,
            hint: d.hint,
            line: None,
            place: Place::Line,
        }
    }
}

impl From<CopyError> for Diagnostic {
    /// The diagnostic without its `CONTEXT`, which needs the relation's name
    /// ([`CopyError::context`]).
    fn from(e: CopyError) -> Self {
        Diagnostic { detail: e.detail, hint: e.hint, ..Diagnostic::error(e.state, e.message) }
    }
}
