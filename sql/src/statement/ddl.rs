//! Statements that define objects.

use auspex_plan::catalog::Language;
use auspex_plan::{ColumnType, Span};

use super::{Expr, Ident, Name, Opt, Query};

/// `CREATE [OR REPLACE] STREAM [IF NOT EXISTS] name (..) [WITH (..)]`.
#[derive(Debug, Clone)]
pub struct CreateStream {
    /// `OR REPLACE` was said.
    pub or_replace: bool,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// Name of the stream.
    pub name: Name,
    /// Columns in order.
    pub columns: Vec<ColumnDef>,
    /// `CHECK` constraints of columns and of the stream, in the order written.
    pub checks: Vec<Check>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkDef>,
    /// `WITH (..)`.
    pub options: Vec<Opt>,
}

/// `CREATE [OR REPLACE] STREAM [IF NOT EXISTS] name [(names)] AS query [WITH (..)]`.
#[derive(Debug, Clone)]
pub struct CreateStreamAs {
    /// `OR REPLACE` was said.
    pub or_replace: bool,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// Name of the stream.
    pub name: Name,
    /// Names for the output columns, empty when left out.
    pub columns: Vec<Ident>,
    /// The query.
    pub query: Query,
    /// `WITH (..)`, before `AS` or at the end.
    pub options: Vec<Opt>,
}

/// `CREATE TABLE [IF NOT EXISTS] name (..)`.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// Name of the table.
    pub name: Name,
    /// Columns in order.
    pub columns: Vec<ColumnDef>,
    /// `CHECK` constraints in the order written.
    pub checks: Vec<Check>,
    /// Columns of the primary key, empty when there is none (which the binder refuses).
    pub primary_key: Vec<Ident>,
}

/// A column of `CREATE STREAM` or `CREATE TABLE`.
#[derive(Debug, Clone)]
pub struct ColumnDef {
    /// Name.
    pub name: Ident,
    /// Type.
    pub column_type: ColumnType,
    /// `NOT NULL`, or part of the primary key.
    pub not_null: bool,
    /// `DEFAULT expression`.
    pub default: Option<Expr>,
    /// `GENERATED ALWAYS AS (expression) STORED`.
    pub generated: Option<Expr>,
}

/// `[CONSTRAINT name] CHECK (expression)`.
#[derive(Debug, Clone)]
pub struct Check {
    /// Name given.
    pub name: Option<Ident>,
    /// The column it is written at, `None` for one of the whole relation.
    pub column: Option<String>,
    /// The condition; only false refuses a row.
    pub expr: Expr,
}

/// `WATERMARK FOR column AS column [- INTERVAL '..']`.
#[derive(Debug, Clone)]
pub struct WatermarkDef {
    /// The time column.
    pub column: Ident,
    /// Disorder allowed for, microseconds.
    pub delay_us: i64,
}

/// `CREATE [OR REPLACE] PIPELINE [IF NOT EXISTS] name [LANGUAGE sql | vpl] AS 'program'`.
#[derive(Debug, Clone)]
pub struct CreatePipeline {
    /// `OR REPLACE` was said.
    pub or_replace: bool,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// Name of the pipeline and of its schema.
    pub name: Ident,
    /// Language of the program; VPL when not said.
    pub language: Language,
    /// The program, quoting removed.
    pub body: String,
    /// Where the program is written, quotes left out: position p of `body` is
    /// `body_span.start + p` in the text, exactly so for dollar quotes.
    pub body_span: Span,
}

/// `CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name [(names)] AS query [WITH (..)]`.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// `OR REPLACE` was said.
    pub or_replace: bool,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// Name of the view.
    pub name: Name,
    /// Names for the output columns, empty when left out.
    pub columns: Vec<Ident>,
    /// The query.
    pub query: Query,
    /// `WITH (..)`, before `AS` or at the end.
    pub options: Vec<Opt>,
}

/// `CREATE SINK [IF NOT EXISTS] name INTO table [(columns)] AS query [WITH (..)]`: what the query
/// gives is written into the table from now on.
#[derive(Debug, Clone)]
pub struct CreateSink {
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// Name of the sink.
    pub name: Name,
    /// The table written.
    pub table: Name,
    /// Its columns that the query's columns go to, in order; empty when left out.
    pub columns: Vec<Ident>,
    /// The query.
    pub query: Query,
    /// `WITH (..)`, before `AS` or at the end.
    pub options: Vec<Opt>,
}

/// What `DROP` and `ALTER` name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// `STREAM`.
    Stream,
    /// `TABLE`.
    Table,
    /// `PIPELINE`.
    Pipeline,
    /// `MATERIALIZED VIEW`.
    View,
    /// `SINK`.
    Sink,
}

impl RelationKind {
    /// `stream`, `table`, `pipeline`, `materialized view` or `sink`.
    pub fn name(self) -> &'static str {
        match self {
            RelationKind::Stream => "stream",
            RelationKind::Table => "table",
            RelationKind::Pipeline => "pipeline",
            RelationKind::View => "materialized view",
            RelationKind::Sink => "sink",
        }
    }
}

/// `DROP STREAM | TABLE | PIPELINE | MATERIALIZED VIEW | SINK [IF EXISTS] a, b [CASCADE | RESTRICT]`.
#[derive(Debug, Clone)]
pub struct DropStatement {
    /// What the objects must be.
    pub kind: RelationKind,
    /// `IF EXISTS` was said.
    pub if_exists: bool,
    /// The objects.
    pub names: Vec<Name>,
    /// `CASCADE` was said.
    pub cascade: bool,
}

/// `ALTER STREAM | TABLE | PIPELINE | MATERIALIZED VIEW | SINK [IF EXISTS] name action`.
#[derive(Debug, Clone)]
pub struct Alter {
    /// What the object must be.
    pub kind: RelationKind,
    /// `IF EXISTS` was said.
    pub if_exists: bool,
    /// The object.
    pub name: Name,
    /// What to do.
    pub action: AlterAction,
}

/// What `ALTER` does.
#[derive(Debug, Clone)]
pub enum AlterAction {
    /// `RENAME TO name`.
    Rename(Ident),
    /// `SET (option = value, ..)`; streams only.
    Set(Vec<Opt>),
    /// `PAUSE`; what has a query.
    Pause,
    /// `RESUME`; what has a query.
    Resume,
}
