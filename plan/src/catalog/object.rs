//! What the catalog holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::query::{EventTime, OnError};
use crate::relation::with_op_column;
use crate::time::Clock;
use crate::types::ColumnType;

/// Number of an object, unique in the catalog's whole history.
pub type ObjectId = u32;

/// Schema and name, both exactly as stored (not folded).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// `public`, or the name of a pipeline.
    pub schema: String,
    /// Name within the schema.
    pub name: String,
}

impl ObjectName {
    /// A name in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectName { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema != super::DEFAULT_SCHEMA {
            write!(f, "{}.", self.schema)?;
        }
        f.write_str(&self.name)
    }
}

/// A column of a stream or table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name as stored.
    pub name: String,
    /// Type.
    pub column_type: ColumnType,
    /// Whether null is refused.
    pub not_null: bool,
    /// SQL expression used when an insert leaves the column out.
    pub default: Option<String>,
    /// SQL expression over the other columns that computes the column on insert
    /// (`GENERATED ALWAYS AS (..) STORED`).
    pub generated: Option<String>,
}

impl Column {
    /// A nullable column without default.
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        Column { name: name.into(), column_type, not_null: false, default: None, generated: None }
    }
}

/// How long the rows of a stream are kept. Whichever limit is reached first removes the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retention {
    /// Rows that arrived longer ago than this are removed; `None` keeps them.
    pub age_us: Option<i64>,
    /// Stored bytes above this are removed, oldest first; `None` keeps them.
    pub bytes: Option<u64>,
}

/// Front-end language of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// SQL.
    Sql,
    /// VPL.
    Vpl,
}

/// The continuous query that fills a derived stream, as the user wrote it. It is bound anew when
/// the server starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Language of `text`.
    pub language: Language,
    /// SQL: the query behind `AS`. VPL: the whole program.
    pub text: String,
    /// VPL: which stream of the program this is.
    pub item: Option<String>,
    /// Names in `text` and the objects they meant when the query was created.
    pub bindings: BTreeMap<String, ObjectId>,
    /// First offset read of each input stream.
    pub start: BTreeMap<ObjectId, u64>,
    /// Policy for rows on which an expression fails.
    pub on_error: OnError,
    /// Stopped by `ALTER PIPELINE .. PAUSE`.
    pub paused: bool,
    /// Raised by `CREATE OR REPLACE`: operator state of another generation is not used.
    pub generation: u32,
    /// The table that the rows are written into by its primary key (`CREATE SINK .. INTO`).
    #[serde(default)]
    pub sink: Option<ObjectId>,
    /// Bytes of operator state at which the query stops; the server's limit when `None`.
    #[serde(default)]
    pub max_state_bytes: Option<u64>,
}

/// An append-only sequence of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Where event time comes from.
    pub event_time: EventTime,
    /// What moves the watermark of a derived stream with [`EventTime::Inherited`]; empty otherwise.
    pub clocks: Vec<Clock>,
    /// After the log has moved on by this much without a row, this stream no longer holds back
    /// what it is joined or merged with (microseconds).
    pub idle_timeout_us: i64,
    /// `CHECK` constraints: name and SQL expression.
    pub checks: Vec<(String, String)>,
    /// How long rows are kept.
    pub retention: Retention,
    /// The query that fills it; `None` for a stream that clients and connectors write.
    pub definition: Option<Definition>,
}

/// A keyed relation that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Positions of the primary key's columns; never empty.
    pub primary_key: Vec<usize>,
    /// `CHECK` constraints: name and SQL expression.
    pub checks: Vec<(String, String)>,
}

/// The present rows of a query by key, and the stream of their changes.
///
/// The stored stream has the view's columns and then [`crate::relation::OP_COLUMN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Columns, query and retention of the changes.
    pub stream: Stream,
    /// Positions of the columns that tell the rows apart; empty when there is one row.
    pub key: Vec<usize>,
}

/// A bundle of streams that is created, paused and dropped as one; a schema of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Language of `text`.
    pub language: Language,
    /// The program.
    pub text: String,
    /// Stopped by `ALTER PIPELINE .. PAUSE`.
    pub paused: bool,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// Stream, with or without a query.
    Stream(Stream),
    /// Table.
    Table(Table),
    /// Materialized view.
    View(View),
    /// Pipeline. Its name's schema is the schema it makes, and equal to its name.
    Pipeline(Pipeline),
}

/// An object with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Unique number.
    pub id: ObjectId,
    /// Schema and name.
    pub name: ObjectName,
    /// When it was created, microseconds since 1970 by the proposer's clock.
    pub created_us: i64,
    /// What it is.
    pub kind: ObjectKind,
}

impl Object {
    /// The stream, when it is one.
    pub fn stream(&self) -> Option<&Stream> {
        match &self.kind {
            ObjectKind::Stream(s) => Some(s),
            _ => None,
        }
    }

    /// The table, when it is one.
    pub fn table(&self) -> Option<&Table> {
        match &self.kind {
            ObjectKind::Table(t) => Some(t),
            _ => None,
        }
    }

    /// The pipeline, when it is one.
    pub fn pipeline(&self) -> Option<&Pipeline> {
        match &self.kind {
            ObjectKind::Pipeline(p) => Some(p),
            _ => None,
        }
    }

    /// The materialized view, when it is one.
    pub fn view(&self) -> Option<&View> {
        match &self.kind {
            ObjectKind::View(v) => Some(v),
            _ => None,
        }
    }

    /// The stream, or the changes of a materialized view.
    pub fn log(&self) -> Option<&Stream> {
        match &self.kind {
            ObjectKind::Stream(s) => Some(s),
            ObjectKind::View(v) => Some(&v.stream),
            _ => None,
        }
    }

    /// [`Object::log`], to be changed.
    pub fn log_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.kind {
            ObjectKind::Stream(s) => Some(s),
            ObjectKind::View(v) => Some(&mut v.stream),
            _ => None,
        }
    }

    /// The query that fills a derived stream, a sink or a materialized view.
    pub fn definition(&self) -> Option<&Definition> {
        self.log()?.definition.as_ref()
    }

    /// [`Object::definition`], to be changed.
    pub fn definition_mut(&mut self) -> Option<&mut Definition> {
        self.log_mut()?.definition.as_mut()
    }

    /// Positions of the key's columns of a table or materialized view: what has a present row for
    /// each key, and changes.
    pub fn key(&self) -> Option<&[usize]> {
        match &self.kind {
            ObjectKind::Table(t) => Some(&t.primary_key),
            ObjectKind::View(v) => Some(&v.key),
            _ => None,
        }
    }

    /// `stream`, `table`, `materialized view`, `sink` or `pipeline`.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            ObjectKind::Stream(s) if s.definition.as_ref().is_some_and(|d| d.sink.is_some()) => {
                "sink"
            }
            ObjectKind::Stream(_) => "stream",
            ObjectKind::Table(_) => "table",
            ObjectKind::View(_) => "materialized view",
            ObjectKind::Pipeline(_) => "pipeline",
        }
    }

    /// Columns; none for a pipeline.
    pub fn columns(&self) -> &[Column] {
        match &self.kind {
            ObjectKind::Stream(s) => &s.columns,
            ObjectKind::Table(t) => &t.columns,
            ObjectKind::View(v) => &v.stream.columns,
            ObjectKind::Pipeline(_) => &[],
        }
    }

    /// The columns of its stored stream: a stream's own, or those of the changes of what has a key.
    pub fn log_schema(&self) -> SchemaRef {
        match self.key() {
            Some(_) => with_op_column(&self.schema()),
            None => self.schema(),
        }
    }

    /// The columns as an Arrow schema.
    pub fn schema(&self) -> SchemaRef {
        arrow_schema(self.columns())
    }

    /// What moves the watermark of a stream.
    pub fn clocks(&self) -> Vec<Clock> {
        let Some(stream) = self.stream() else { return Vec::new() };
        let own = |delay_us, arrival| {
            let idle_timeout_us = stream.idle_timeout_us;
            vec![Clock { stream: self.id, delay_us, arrival, idle_timeout_us }]
        };
        match &stream.event_time {
            EventTime::Arrival => own(0, true),
            EventTime::Column { delay_us, .. } | EventTime::Assigned { delay_us } => {
                own(*delay_us, false)
            }
            EventTime::Inherited => stream.clocks.clone(),
        }
    }

    /// Objects that this one needs: those its query reads, and the table it writes into.
    pub fn inputs(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let definition = self.definition();
        let read = definition.into_iter().flat_map(|d| d.bindings.values().copied());
        read.chain(definition.and_then(|d| d.sink))
    }
}

/// Columns as an Arrow schema.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|c| c.column_type.field(&c.name, !c.not_null)).collect::<Vec<_>>(),
    ))
}
