//! Statements that read: `SUBSCRIBE`, `COPY`, cursors.

use auspex_plan::Span;

use super::{Expr, Ident, Name, Opt, Query};

/// `SUBSCRIBE [TO] ..` (`semantics.md` section 9).
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// What is read.
    pub target: SubscribeTarget,
    /// Where reading begins.
    pub from: SubscribeFrom,
    /// Where reading ends; `None` for never.
    pub until: Option<SubscribeUntil>,
    /// `SNAPSHOT`: begin with the rows there are now. `None` when not said.
    pub snapshot: Option<bool>,
    /// `PROGRESS = interval`: a progress row at least that often, microseconds.
    pub progress_us: Option<i64>,
    /// `METADATA`: whether `_offset`, `_time`, `_op` come first. True when not said.
    pub metadata: bool,
    /// `ON_OVERFLOW`.
    pub on_overflow: Overflow,
    /// Where it is written.
    pub span: Span,
}

/// What a subscription reads.
#[derive(Debug, Clone)]
pub enum SubscribeTarget {
    /// A stream (or table) by name.
    Name(Name),
    /// A continuous query.
    Query(Query),
}

/// Where a subscription begins. Expressions are constants or parameters; see
/// [`crate::Binder::constant`].
#[derive(Debug, Clone)]
pub enum SubscribeFrom {
    /// With the next row.
    Now,
    /// With the oldest retained row.
    Beginning,
    /// With this offset, inclusive; a `bigint`.
    Offset(Expr),
    /// Behind this offset; a `bigint`.
    AfterOffset(Expr),
    /// With the first row at or after this event time; a `timestamptz`.
    Timestamp(Expr),
}

/// Where a subscription ends.
#[derive(Debug, Clone)]
pub enum SubscribeUntil {
    /// With the rows there are now.
    Now,
    /// With this offset, inclusive; a `bigint`.
    Offset(Expr),
    /// With the last row not later than this event time; a `timestamptz`.
    Timestamp(Expr),
}

/// What happens when a subscription's position is no longer retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// An error naming the oldest offset.
    #[default]
    Error,
    /// A gap row with exact bounds, then on with the oldest row.
    Gap,
}

/// `COPY ..`.
#[derive(Debug, Clone)]
pub struct CopyStatement {
    /// What is copied, and in which direction.
    pub what: CopyWhat,
    /// Options by their new names (`format`, `header`, `force_quote`, ..), also when the statement
    /// has the spelling of PostgreSQL before 9.0. Names and values are not checked yet.
    pub options: Vec<Opt>,
}

/// What `COPY` copies.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one statement exists at a time")]
pub enum CopyWhat {
    /// `COPY name [(columns)] FROM STDIN`.
    From {
        /// Stream or table.
        name: Name,
        /// Columns in the order of the data, empty for all.
        columns: Vec<Ident>,
    },
    /// `COPY name [(columns)] TO STDOUT`.
    To {
        /// Stream or table.
        name: Name,
        /// Columns in the order wanted, empty for all.
        columns: Vec<Ident>,
    },
    /// `COPY (query) TO STDOUT`.
    Query(Query),
    /// `COPY (SUBSCRIBE ..) TO STDOUT`.
    Subscribe(Subscribe),
}

/// `DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH HOLD] FOR ..`.
#[derive(Debug, Clone)]
pub struct DeclareCursor {
    /// Name of the cursor.
    pub name: Ident,
    /// `BINARY` was said.
    pub binary: bool,
    /// `SCROLL` (true), `NO SCROLL` (false) or neither.
    pub scroll: Option<bool>,
    /// `WITH HOLD` was said.
    pub hold: bool,
    /// What it reads.
    pub body: CursorBody,
}

/// What a cursor reads.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one statement exists at a time")]
pub enum CursorBody {
    /// A query that ends.
    Query(Query),
    /// A subscription.
    Subscribe(Subscribe),
}

/// `FETCH` or `MOVE`.
#[derive(Debug, Clone)]
pub struct FetchCursor {
    /// Name of the cursor.
    pub cursor: Ident,
    /// Which rows.
    pub direction: Direction,
    /// Rows are passed over, not returned (`MOVE`).
    pub is_move: bool,
    /// `WITH (TIMEOUT '..')`: how long to wait for a first row, microseconds.
    pub timeout_us: Option<i64>,
}

/// Rows of a `FETCH`. `None` is `ALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The next n; 0 reads the current row again.
    Forward(Option<u64>),
    /// The n before; 0 reads the current row again.
    Backward(Option<u64>),
    /// The row at this place, from 1, or from the end when negative.
    Absolute(i64),
    /// The row this far away.
    Relative(i64),
}
