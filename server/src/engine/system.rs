//! The `auspex` schema: what the server knows about itself, as relations.
//!
//! Each view is one entry of [`VIEWS`], from which name resolution and documentation are made.

use std::sync::{Arc, PoisonError};

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use auspex_exec::error::RowFailure;
use auspex_exec::graph::OperatorStatus;
use auspex_exec::runtime::DeadLetter;
use auspex_plan::catalog::{Catalog, Object, ObjectId};
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic};
use auspex_storage::Store;

use super::{Engine, errors, marks, show};

/// Schema of the views.
pub(crate) const SCHEMA: &str = "auspex";

/// What views look at.
pub(crate) struct View<'a> {
    /// The running system.
    pub(crate) engine: &'a Engine,
    /// The catalog as the reading session sees it.
    pub(crate) catalog: &'a Catalog,
}

/// A view: name, one-line description, and how its rows are made.
pub(crate) struct SystemView {
    /// Name within the schema `auspex`.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) description: &'static str,
    rows: fn(&View<'_>) -> Result<RecordBatch, Diagnostic>,
}

/// All views, ordered by name.
pub(crate) static VIEWS: &[SystemView] = &[
    SystemView {
        name: "dead_letters",
        description: "Rows on which a continuous query failed, the newest per query.",
        rows: dead_letters,
    },
    SystemView {
        name: "late_rows",
        description: "Rows that came too late for an operator, the newest per query.",
        rows: late_rows,
    },
    SystemView {
        name: "materialized_views",
        description: "Materialized views with the state of the queries that fill them.",
        rows: materialized_views,
    },
    SystemView {
        name: "operators",
        description: "The parts of each running query: rows, state, event time.",
        rows: operators,
    },
    SystemView {
        name: "pipelines",
        description: "Pipelines and the programs they were made from.",
        rows: pipelines,
    },
    SystemView {
        name: "positions",
        description: "How far each continuous query has read each of its inputs.",
        rows: positions,
    },
    SystemView { name: "sessions", description: "Connected clients.", rows: sessions },
    SystemView { name: "sinks", description: "Queries that write into tables.", rows: sinks },
    SystemView {
        name: "streams",
        description: "Streams with their sizes, offsets, and the state of the queries that fill them.",
        rows: streams,
    },
    SystemView { name: "tables", description: "Tables.", rows: tables },
    SystemView { name: "views", description: "These views.", rows: views },
    SystemView {
        name: "watermarks",
        description: "What the watermark of each stream stands on.",
        rows: watermarks,
    },
];

/// Whether there is a view of this name.
pub(super) fn exists(name: &str) -> bool {
    VIEWS.iter().any(|v| v.name == name)
}

/// The present rows of a view.
pub(super) fn rows(view: &View<'_>, name: &str) -> Option<Result<RecordBatch, Diagnostic>> {
    VIEWS.iter().find(|v| v.name == name).map(|v| (v.rows)(view))
}

/// Columns gathered row by row.
enum Cells {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Pid(Vec<i32>),
    Time(Vec<Option<i64>>),
    Bool(Vec<bool>),
}

fn batch(columns: Vec<(&str, Cells)>) -> Result<RecordBatch, Diagnostic> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for (name, cells) in columns {
        let (field, array): (Field, ArrayRef) = match cells {
            Cells::Text(v) => (
                Field::new(name, DataType::Utf8View, true),
                Arc::new(v.into_iter().collect::<StringViewArray>()),
            ),
            Cells::Int(v) => {
                (Field::new(name, DataType::Int64, true), Arc::new(Int64Array::from(v)))
            }
            Cells::Pid(v) => {
                (Field::new(name, DataType::Int32, true), Arc::new(Int32Array::from(v)))
            }
            Cells::Bool(v) => {
                (Field::new(name, DataType::Boolean, true), Arc::new(BooleanArray::from(v)))
            }
            Cells::Time(v) => (
                ColumnType::Timestamptz.field(name, true),
                Arc::new(TimestampMicrosecondArray::from(v).with_timezone(UTC)),
            ),
        };
        fields.push(field);
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(errors::arrow)
}

fn text<T>(items: &[T], f: impl Fn(&T) -> Option<String>) -> Cells {
    Cells::Text(items.iter().map(f).collect())
}

fn int<T>(items: &[T], f: impl Fn(&T) -> Option<u64>) -> Cells {
    Cells::Int(items.iter().map(|i| f(i).and_then(|n| i64::try_from(n).ok())).collect())
}

fn time<T>(items: &[T], f: impl Fn(&T) -> Option<i64>) -> Cells {
    Cells::Time(items.iter().map(f).collect())
}

fn streams(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    struct Row {
        object: Object,
        state: String,
        head: Option<auspex_storage::Head>,
        stats: Option<auspex_storage::StreamStats>,
    }
    let store = &view.engine.store;
    let rows: Vec<Row> = view
        .catalog
        .objects()
        .filter(|o| o.stream().is_some())
        .map(|o| Row {
            state: show::state(view.engine, o),
            head: store.head(o.id).ok(),
            stats: store.stats(o.id).ok(),
            object: o.clone(),
        })
        .collect();
    let definition = |r: &Row| r.object.definition().cloned();
    batch(vec![
        ("id", int(&rows, |r| Some(u64::from(r.object.id)))),
        ("schema", text(&rows, |r| Some(r.object.name.schema.clone()))),
        ("name", text(&rows, |r| Some(r.object.name.name.clone()))),
        (
            "kind",
            text(&rows, |r| {
                let kind = match definition(r) {
                    None => "source",
                    Some(d) if d.sink.is_some() => "sink",
                    Some(_) => "query",
                };
                Some(kind.to_string())
            }),
        ),
        ("state", text(&rows, |r| Some(r.state.clone()))),
        ("rows", int(&rows, |r| r.stats.map(|s| s.rows))),
        ("bytes", int(&rows, |r| r.stats.map(|s| s.bytes))),
        ("oldest_offset", int(&rows, |r| r.head.map(|h| h.oldest))),
        ("next_offset", int(&rows, |r| r.head.map(|h| h.next))),
        ("watermark", time(&rows, |r| marks::watermark(store.as_ref(), &r.object))),
        (
            "language",
            text(&rows, |r| definition(r).map(|d| format!("{:?}", d.language).to_lowercase())),
        ),
        ("definition", text(&rows, |r| definition(r).map(|d| d.text))),
        ("created", time(&rows, |r| Some(r.object.created_us))),
    ])
}

fn tables(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let rows: Vec<&Object> = view.catalog.objects().filter(|o| o.table().is_some()).collect();
    batch(vec![
        ("id", int(&rows, |o| Some(u64::from(o.id)))),
        ("schema", text(&rows, |o| Some(o.name.schema.clone()))),
        ("name", text(&rows, |o| Some(o.name.name.clone()))),
        ("primary_key", text(&rows, |o| Some(key_names(o)))),
        ("created", time(&rows, |o| Some(o.created_us))),
    ])
}

fn pipelines(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let rows: Vec<&Object> = view.catalog.objects().filter(|o| o.pipeline().is_some()).collect();
    batch(vec![
        ("id", int(&rows, |o| Some(u64::from(o.id)))),
        ("name", text(&rows, |o| Some(o.name.name.clone()))),
        (
            "language",
            text(&rows, |o| o.pipeline().map(|p| format!("{:?}", p.language).to_lowercase())),
        ),
        (
            "state",
            text(&rows, |o| {
                o.pipeline().map(|p| if p.paused { "paused" } else { "running" }.to_string())
            }),
        ),
        ("definition", text(&rows, |o| o.pipeline().map(|p| p.text.clone()))),
        ("created", time(&rows, |o| Some(o.created_us))),
    ])
}

/// The key's columns of a table or materialized view.
fn key_names(object: &Object) -> String {
    let key = object.key().unwrap_or_default();
    key.iter().map(|i| object.columns()[*i].name.as_str()).collect::<Vec<_>>().join(", ")
}

fn name_of(view: &View<'_>, id: ObjectId) -> Option<String> {
    view.catalog.get(id).map(|o| o.name.to_string())
}

fn positions(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let mut rows: Vec<(ObjectId, ObjectId, u64, u64)> = Vec::new();
    for object in view.catalog.objects() {
        let Some(status) = view.engine.runtime.status(object.id) else { continue };
        // The hidden stream of ticks is no input of the user's.
        let inputs = status.position.into_iter().filter(|(id, _)| view.catalog.get(*id).is_some());
        for (input, next) in inputs {
            let end = view.engine.store.head(input).map(|h| h.next).unwrap_or(next);
            rows.push((object.id, input, next, end.saturating_sub(next)));
        }
    }
    batch(vec![
        ("stream", text(&rows, |r| name_of(view, r.0))),
        ("input", text(&rows, |r| name_of(view, r.1))),
        ("next_offset", int(&rows, |r| Some(r.2))),
        ("lag", int(&rows, |r| Some(r.3))),
    ])
}

type Letters = fn(&dyn Store, ObjectId, u32) -> auspex_exec::Result<Vec<DeadLetter>>;

/// Rows that queries left out.
fn left_out(view: &View<'_>, letters: Letters) -> Result<RecordBatch, Diagnostic> {
    let mut rows = Vec::new();
    for object in view.catalog.objects() {
        if let Some(definition) = object.definition() {
            let store = view.engine.store.as_ref();
            let letters = letters(store, object.id, definition.generation);
            let letters = letters.map_err(|e| errors::exec(&e))?;
            rows.extend(letters.into_iter().map(|l| (object.name.to_string(), l)));
        }
    }
    // What was made inside a query (a window's result) stands in no stream.
    let entered = |l: &DeadLetter| l.stream != RowFailure::NO_STREAM;
    batch(vec![
        ("stream", text(&rows, |(name, _)| Some(name.clone()))),
        ("input", text(&rows, |(_, l)| name_of(view, l.stream))),
        ("input_offset", int(&rows, |(_, l)| entered(l).then_some(l.offset))),
        ("reason", text(&rows, |(_, l)| Some(l.reason.clone()))),
        ("row", text(&rows, |(_, l)| Some(l.row.to_string()))),
    ])
}

fn dead_letters(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    left_out(view, auspex_exec::runtime::dead_letters)
}

fn late_rows(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    left_out(view, auspex_exec::runtime::late_rows)
}

fn materialized_views(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let rows: Vec<&Object> = view.catalog.objects().filter(|o| o.view().is_some()).collect();
    let store = view.engine.store.as_ref();
    batch(vec![
        ("id", int(&rows, |o| Some(u64::from(o.id)))),
        ("schema", text(&rows, |o| Some(o.name.schema.clone()))),
        ("name", text(&rows, |o| Some(o.name.name.clone()))),
        ("key", text(&rows, |o| Some(key_names(o)))),
        ("state", text(&rows, |o| Some(show::state(view.engine, o)))),
        ("changes", int(&rows, |o| store.head(o.id).ok().map(|h| h.next))),
        ("watermark", time(&rows, |o| marks::watermark(store, o))),
        ("definition", text(&rows, |o| o.definition().map(|d| d.text.clone()))),
        ("created", time(&rows, |o| Some(o.created_us))),
    ])
}

fn sinks(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let is_sink = |o: &&Object| o.definition().is_some_and(|d| d.sink.is_some());
    let rows: Vec<&Object> = view.catalog.objects().filter(is_sink).collect();
    batch(vec![
        ("id", int(&rows, |o| Some(u64::from(o.id)))),
        ("schema", text(&rows, |o| Some(o.name.schema.clone()))),
        ("name", text(&rows, |o| Some(o.name.name.clone()))),
        ("table", text(&rows, |o| name_of(view, o.definition()?.sink?))),
        ("state", text(&rows, |o| Some(show::state(view.engine, o)))),
        ("definition", text(&rows, |o| o.definition().map(|d| d.text.clone()))),
        ("created", time(&rows, |o| Some(o.created_us))),
    ])
}

fn operators(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    struct Row {
        query: String,
        number: u64,
        operator: OperatorStatus,
        lag: u64,
    }
    let mut rows = Vec::new();
    for object in view.catalog.objects() {
        let Some(status) = view.engine.runtime.status(object.id) else { continue };
        rows.extend((0..).zip(status.operators).map(|(number, operator)| Row {
            query: object.name.to_string(),
            number,
            operator,
            lag: status.lag,
        }));
    }
    batch(vec![
        ("query", text(&rows, |r| Some(r.query.clone()))),
        ("number", int(&rows, |r| Some(r.number))),
        ("operator", text(&rows, |r| Some(r.operator.name.clone()))),
        ("rows_in", int(&rows, |r| Some(r.operator.rows_in))),
        ("rows_out", int(&rows, |r| Some(r.operator.rows_out))),
        ("state_rows", int(&rows, |r| Some(r.operator.state_rows))),
        ("state_bytes", int(&rows, |r| Some(r.operator.state_bytes))),
        ("watermark", time(&rows, |r| r.operator.watermark.filter(|t| *t != i64::MAX))),
        ("lag", int(&rows, |r| Some(r.lag))),
    ])
}

fn watermarks(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let store = view.engine.store.as_ref();
    let of = |object: &Object| {
        let name = object.name.to_string();
        marks::roots(store, object).into_iter().map(move |root| (name.clone(), root))
    };
    let rows: Vec<(String, marks::Root)> = view.catalog.objects().flat_map(of).collect();
    batch(vec![
        ("stream", text(&rows, |(name, _)| Some(name.clone()))),
        ("root", text(&rows, |(_, r)| name_of(view, r.stream))),
        ("max_time", time(&rows, |(_, r)| r.max_time)),
        ("delay", text(&rows, |(_, r)| Some(auspex_plan::time::duration(r.delay_us)))),
        ("watermark", time(&rows, |(_, r)| r.watermark())),
        ("idle", Cells::Bool(rows.iter().map(|(_, r)| r.idle).collect())),
    ])
}

fn sessions(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let sessions = view.engine.sessions.lock().unwrap_or_else(PoisonError::into_inner);
    let rows: Vec<(i32, super::session::SessionInfo)> =
        sessions.iter().map(|(pid, info)| (*pid, info.clone())).collect();
    batch(vec![
        ("pid", Cells::Pid(rows.iter().map(|r| r.0).collect())),
        ("user", text(&rows, |r| Some(r.1.user.clone()))),
        ("database", text(&rows, |r| Some(r.1.database.clone()))),
        ("application", text(&rows, |r| Some(r.1.application.clone()))),
        ("started", time(&rows, |r| Some(r.1.started_us))),
    ])
}

fn views(_view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    batch(vec![
        ("name", text(VIEWS, |v| Some(v.name.to_string()))),
        ("description", text(VIEWS, |v| Some(v.description.to_string()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_ordered_by_name() {
        assert!(VIEWS.is_sorted_by_key(|v| v.name));
    }
}
