//! Statements that change rows.

use std::sync::Arc;

use sqlparser::ast;

use super::{Expr, Ident, Name, Query};
use crate::source::Source;

/// `INSERT INTO table [AS alias] [(columns)] source [ON CONFLICT ..] [RETURNING ..]`.
#[derive(Debug, Clone)]
pub struct Insert {
    /// Stream or table.
    pub table: Name,
    /// Alias of the table in `ON CONFLICT` and `RETURNING`.
    pub alias: Option<Ident>,
    /// Columns, empty when left out.
    pub columns: Vec<Ident>,
    /// The rows.
    pub rows: InsertSource,
    /// `ON CONFLICT`.
    pub on_conflict: Option<OnConflict>,
    /// `RETURNING`.
    pub returning: Option<Vec<ast::SelectItem>>,
    /// The whole text.
    pub source: Arc<Source>,
}

/// The rows of an `INSERT`.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one statement exists at a time")]
pub enum InsertSource {
    /// `DEFAULT VALUES`: one row of defaults.
    Defaults,
    /// `VALUES (..), (..)` or a query.
    Query(Query),
}

/// `ON CONFLICT [(columns)] DO ..`.
#[derive(Debug, Clone)]
pub struct OnConflict {
    /// The columns named, empty when left out.
    pub columns: Vec<Ident>,
    /// What happens with a row whose key exists.
    pub action: ConflictAction,
    /// Where `ON CONFLICT` is written.
    pub span: auspex_plan::Span,
}

/// What happens with a row whose key exists.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one statement exists at a time")]
pub enum ConflictAction {
    /// `DO NOTHING`.
    Nothing,
    /// `DO UPDATE SET .. [WHERE ..]`; `excluded` is the row that was to be inserted.
    Update {
        /// New values.
        assignments: Vec<Assignment>,
        /// Only rows on which this is true are changed.
        condition: Option<Expr>,
    },
}

/// `column = value`.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Column.
    pub column: Ident,
    /// New value.
    pub value: AssignedValue,
}

/// Right side of an [`Assignment`].
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one statement exists at a time")]
pub enum AssignedValue {
    /// `DEFAULT`.
    Default,
    /// An expression.
    Expr(Expr),
}

/// `UPDATE table [AS alias] SET .. [WHERE ..] [RETURNING ..]`.
#[derive(Debug, Clone)]
pub struct Update {
    /// Table.
    pub table: Name,
    /// Alias of the table.
    pub alias: Option<Ident>,
    /// New values.
    pub assignments: Vec<Assignment>,
    /// Which rows; all when left out.
    pub condition: Option<Expr>,
    /// `RETURNING`.
    pub returning: Option<Vec<ast::SelectItem>>,
    /// The whole text.
    pub source: Arc<Source>,
}

/// `DELETE FROM table [AS alias] [WHERE ..] [RETURNING ..]`.
#[derive(Debug, Clone)]
pub struct Delete {
    /// Table.
    pub table: Name,
    /// Alias of the table.
    pub alias: Option<Ident>,
    /// Which rows; all when left out.
    pub condition: Option<Expr>,
    /// `RETURNING`.
    pub returning: Option<Vec<ast::SelectItem>>,
    /// The whole text.
    pub source: Arc<Source>,
}

/// `TRUNCATE [TABLE] a, b`.
#[derive(Debug, Clone)]
pub struct Truncate {
    /// Tables.
    pub names: Vec<Name>,
    /// `CASCADE` was said.
    pub cascade: bool,
}
