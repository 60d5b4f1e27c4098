//! Statements as the parser hands them over: names folded, options checked for their form, nothing
//! resolved against the catalog.

mod cursor;
mod ddl;
mod dml;
mod emission;
mod session;

pub use cursor::{
    CopyStatement, CopyWhat, CursorBody, DeclareCursor, Direction, FetchCursor, Overflow,
    Subscribe, SubscribeFrom, SubscribeTarget, SubscribeUntil,
};
pub use ddl::{
    Alter, AlterAction, Check, ColumnDef, CreatePipeline, CreateSink, CreateStream, CreateStreamAs,
    CreateTable, CreateView, DropStatement, RelationKind, WatermarkDef,
};
pub use dml::{
    AssignedValue, Assignment, ConflictAction, Delete, Insert, InsertSource, OnConflict, Truncate,
    Update,
};
pub use emission::Emission;
pub use session::{
    Discard, Explain, ExplainTarget, Maintenance, Prepare, SetStatement, SetValue, Show,
    Transaction, TransactionMode,
};

use std::sync::Arc;

use auspex_plan::Span;
use sqlparser::ast;

use crate::source::Source;

/// One statement and where it stands in the text it came in.
#[derive(Debug, Clone)]
pub struct Statement {
    /// What it says.
    pub kind: StatementKind,
    /// From its first to its last token, without the semicolon.
    pub span: Span,
    /// The whole text.
    pub source: Arc<Source>,
}

impl Statement {
    /// The statement's own text.
    pub fn text(&self) -> &str {
        self.source.slice(self.span)
    }
}

/// All statements.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one statement exists at a time")]
pub enum StatementKind {
    /// `CREATE STREAM name (columns)`.
    CreateStream(CreateStream),
    /// `CREATE STREAM name AS query`.
    CreateStreamAs(CreateStreamAs),
    /// `CREATE TABLE`.
    CreateTable(CreateTable),
    /// `CREATE PIPELINE`.
    CreatePipeline(CreatePipeline),
    /// `CREATE MATERIALIZED VIEW name AS query`.
    CreateView(CreateView),
    /// `CREATE SINK name INTO table AS query`.
    CreateSink(CreateSink),
    /// `DROP STREAM | TABLE | PIPELINE | MATERIALIZED VIEW | SINK`.
    Drop(DropStatement),
    /// `ALTER STREAM | TABLE | PIPELINE | MATERIALIZED VIEW | SINK`.
    Alter(Alter),
    /// `BACKUP TO 'directory'`.
    Backup {
        /// The directory as written.
        directory: String,
        /// Where it is written.
        span: Span,
    },
    /// `INSERT`.
    Insert(Insert),
    /// `UPDATE`.
    Update(Update),
    /// `DELETE`.
    Delete(Delete),
    /// `TRUNCATE`.
    Truncate(Truncate),
    /// `COPY`.
    Copy(CopyStatement),
    /// `SELECT`, `VALUES`, `TABLE`, `WITH`.
    Query(Query),
    /// `SUBSCRIBE`.
    Subscribe(Subscribe),
    /// `EXPLAIN`.
    Explain(Explain),
    /// `SHOW` and `DESCRIBE`.
    Show(Show),
    /// `LISTEN channel`.
    Listen(Name),
    /// `UNLISTEN channel`, or all with `None`.
    Unlisten(Option<Name>),
    /// `NOTIFY channel [, 'payload']`.
    Notify {
        /// Channel.
        channel: Ident,
        /// Payload, empty when left out.
        payload: String,
    },
    /// `DECLARE .. CURSOR`.
    Declare(DeclareCursor),
    /// `FETCH` and `MOVE`.
    Fetch(FetchCursor),
    /// `CLOSE cursor`, or all with `None`.
    Close(Option<Ident>),
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, savepoints.
    Transaction(Transaction),
    /// `SET`.
    Set(SetStatement),
    /// `RESET name`, or all with `None`.
    Reset(Option<Ident>),
    /// `DISCARD`.
    Discard(Discard),
    /// `PREPARE`.
    Prepare(Prepare),
    /// `EXECUTE name (arguments)`.
    Execute {
        /// Name of the prepared statement.
        name: Ident,
        /// Values of its parameters.
        arguments: Vec<Expr>,
    },
    /// `DEALLOCATE name`, or all with `None`.
    Deallocate(Option<Ident>),
    /// `VACUUM`, `ANALYZE`, `CHECKPOINT`: accepted without effect, the user gets a notice.
    Maintenance(Maintenance),
}

/// A name without qualification, folded as PostgreSQL folds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    /// The name.
    pub value: String,
    /// Where it is written.
    pub span: Span,
}

/// A possibly qualified name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Database, of `database.schema.name`.
    pub database: Option<Ident>,
    /// Schema.
    pub schema: Option<Ident>,
    /// The name proper.
    pub name: Ident,
}

impl Name {
    /// Where it is written, qualification included.
    pub fn span(&self) -> Span {
        let first = self.database.as_ref().or(self.schema.as_ref()).unwrap_or(&self.name);
        first.span.to(self.name.span)
    }
}

/// As PostgreSQL quotes a name in its messages: `schema.name`.
impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.database, &self.schema].into_iter().flatten() {
            write!(f, "{}.", part.value)?;
        }
        f.write_str(&self.name.value)
    }
}

/// A query with its place in the text.
#[derive(Debug, Clone)]
pub struct Query {
    /// Syntax tree.
    pub ast: Box<ast::Query>,
    /// `EMIT ..` and its relatives behind it.
    pub emission: Emission,
    /// Where it is written, with what `emission` says.
    pub span: Span,
    /// The whole text.
    pub source: Arc<Source>,
}

impl Query {
    /// The query's own text.
    pub fn text(&self) -> &str {
        self.source.slice(self.span)
    }

    /// The text from which [`crate::Binder::rebind`] makes the same query again: an option that
    /// belongs to the query is written out behind it.
    pub fn stored_text(&self) -> String {
        let mut text = self.text().to_string();
        if let Some((us, span)) = self.emission.lateness
            && !(self.span.start <= span.start && span.end <= self.span.end)
        {
            text += &format!(" ALLOWED LATENESS '{us} us'");
        }
        text
    }
}

/// An expression with its place in the text.
#[derive(Debug, Clone)]
pub struct Expr {
    /// Syntax tree.
    pub ast: ast::Expr,
    /// Where it is written.
    pub span: Span,
    /// The whole text.
    pub source: Arc<Source>,
}

impl Expr {
    /// The expression's own text.
    pub fn text(&self) -> &str {
        self.source.slice(self.span)
    }
}

/// One `name = value` of a `WITH (..)` or option list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// Name, lower case; words of a dotted name joined by dots.
    pub name: Ident,
    /// Value; `None` for a name alone.
    pub value: Option<OptValue>,
    /// Where the value is written, or the name when there is none.
    pub span: Span,
}

impl Opt {
    /// The value as a text, whether written as string, word or number.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Some(OptValue::Text(v) | OptValue::Number(v) | OptValue::Word(v)) => Some(v),
            _ => None,
        }
    }

    /// The value as a boolean in PostgreSQL's spellings; a name alone means true. `None` when it
    /// is none of them.
    pub fn boolean(&self) -> Option<bool> {
        match self.text().map(str::to_ascii_lowercase).as_deref() {
            None => self.value.is_none().then_some(true),
            Some("true" | "on" | "yes" | "1" | "t" | "y") => Some(true),
            Some("false" | "off" | "no" | "0" | "f" | "n") => Some(false),
            Some(_) => None,
        }
    }
}

/// Value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptValue {
    /// A string literal, also of `INTERVAL '..'`.
    Text(String),
    /// A number as written.
    Number(String),
    /// A bare word, lower case (`true`, `csv`, `on`).
    Word(String),
    /// A parenthesised list of words or strings.
    List(Vec<String>),
    /// `*`.
    All,
}
