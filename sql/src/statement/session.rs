//! Statements about the session: settings, transactions, prepared statements, inspection.

use auspex_plan::{ColumnType, Span};

use super::{Ident, Name, Statement};

/// `BEGIN` and its relatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// `BEGIN`, `START TRANSACTION`.
    Begin(Vec<TransactionMode>),
    /// `COMMIT`, `END`.
    Commit {
        /// `AND CHAIN` was said.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// `AND CHAIN` was said.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint(Ident),
    /// `RELEASE [SAVEPOINT] name`.
    Release(Ident),
    /// `ROLLBACK TO [SAVEPOINT] name`.
    RollbackTo(Ident),
    /// `SET TRANSACTION ..`, or `SET SESSION CHARACTERISTICS AS TRANSACTION ..` with `session`.
    Set {
        /// For the session's later transactions rather than for this one.
        session: bool,
        /// What is set.
        modes: Vec<TransactionMode>,
    },
}

/// A property of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionMode {
    /// `ISOLATION LEVEL ..` in lower case (`read committed`).
    Isolation(&'static str),
    /// `READ ONLY` (true) or `READ WRITE`.
    ReadOnly(bool),
    /// `DEFERRABLE` or `NOT DEFERRABLE`.
    Deferrable(bool),
}

/// `SET [SESSION | LOCAL] name = value`. The special spellings have become their settings:
/// `TIME ZONE` is `timezone`, `NAMES` is `client_encoding`, `ROLE` is `role`,
/// `SESSION AUTHORIZATION` is `session_authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatement {
    /// `LOCAL` was said: until the end of the transaction.
    pub local: bool,
    /// Name of the setting, lower case.
    pub name: Ident,
    /// New value.
    pub value: SetValue,
    /// Where the value is written.
    pub value_span: Span,
}

/// Value of a `SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// `DEFAULT`.
    Default,
    /// One or more words, numbers or strings.
    Values(Vec<String>),
}

impl SetValue {
    /// The value as one text, list items joined by `, `; `None` for the default.
    pub fn text(&self) -> Option<String> {
        match self {
            SetValue::Default => None,
            SetValue::Values(values) => Some(values.join(", ")),
        }
    }
}

/// `DISCARD ..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// Everything.
    All,
    /// Cached plans.
    Plans,
    /// Sequences.
    Sequences,
    /// Temporary tables.
    Temp,
}

/// `SHOW ..` and `DESCRIBE name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// One setting; special spellings as in [`SetStatement`], and `transaction_isolation`.
    Setting(Ident),
    /// `SHOW ALL`.
    All,
    /// `SHOW STREAMS [LIKE '..']`.
    Streams(Option<String>),
    /// `SHOW TABLES [LIKE '..']`.
    Tables(Option<String>),
    /// `SHOW PIPELINES [LIKE '..']`.
    Pipelines(Option<String>),
    /// `SHOW MATERIALIZED VIEWS [LIKE 'pattern']`.
    Views(Option<String>),
    /// `SHOW SINKS [LIKE 'pattern']`.
    Sinks(Option<String>),
    /// `SHOW COLUMNS FROM name`, `DESCRIBE name`.
    Columns(Name),
}

/// `PREPARE name [(types)] AS statement`.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Name.
    pub name: Ident,
    /// Declared types of the first parameters; `None` for `unknown`.
    pub types: Vec<Option<ColumnType>>,
    /// What is prepared.
    pub statement: Box<Statement>,
}

/// Statements that PostgreSQL has for its storage and that have nothing to do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintenance {
    /// `VACUUM ..`.
    Vacuum,
    /// `ANALYZE ..`.
    Analyze,
    /// `CHECKPOINT`.
    Checkpoint,
}

impl Maintenance {
    /// Command tag.
    pub fn tag(self) -> &'static str {
        match self {
            Maintenance::Vacuum => "VACUUM",
            Maintenance::Analyze => "ANALYZE",
            Maintenance::Checkpoint => "CHECKPOINT",
        }
    }
}

/// `EXPLAIN ..`.
#[derive(Debug, Clone)]
pub struct Explain {
    /// `ANALYZE`: run it and say how long each part took.
    pub analyze: bool,
    /// `VERBOSE`.
    pub verbose: bool,
    /// What to explain.
    pub target: ExplainTarget,
}

/// What `EXPLAIN` explains.
#[derive(Debug, Clone)]
pub enum ExplainTarget {
    /// A query, an `INSERT` .. or a `CREATE STREAM .. AS`.
    Statement(Box<Statement>),
    /// An existing stream or pipeline: `EXPLAIN STREAM name`, `EXPLAIN PIPELINE name`.
    Object(Name),
}
