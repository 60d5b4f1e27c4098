//! The `auspex` schema: what the server knows about itself, as relations.
//!
//! Each view is one entry of [`VIEWS`], from which name resolution and documentation are made.

use std::sync::{Arc, PoisonError};

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use auspex_plan::catalog::{Catalog, Object, ObjectId};
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic, EventTime};

use super::{Engine, errors, show};

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
    SystemView {
        name: "streams",
        description: "Streams with their sizes, offsets, and the state of the queries that fill them.",
        rows: streams,
    },
    SystemView { name: "tables", description: "Tables.", rows: tables },
    SystemView { name: "views", description: "These views.", rows: views },
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
    let definition = |r: &Row| r.object.stream().and_then(|s| s.definition.clone());
    let watermark = |r: &Row| {
        let max = r.head.map(|h| h.max_time).filter(|t| *t != i64::MIN)?;
        match &r.object.stream()?.event_time {
            EventTime::Column { delay_us, .. } | EventTime::Assigned { delay_us } => {
                Some(max.saturating_sub(*delay_us))
            }
            _ => Some(max),
        }
    };
    batch(vec![
        ("id", int(&rows, |r| Some(u64::from(r.object.id)))),
        ("schema", text(&rows, |r| Some(r.object.name.schema.clone()))),
        ("name", text(&rows, |r| Some(r.object.name.name.clone()))),
        (
            "kind",
            text(&rows, |r| {
                Some(if definition(r).is_some() { "query" } else { "source" }.to_string())
            }),
        ),
        ("state", text(&rows, |r| Some(r.state.clone()))),
        ("rows", int(&rows, |r| r.stats.map(|s| s.rows))),
        ("bytes", int(&rows, |r| r.stats.map(|s| s.bytes))),
        ("oldest_offset", int(&rows, |r| r.head.map(|h| h.oldest))),
        ("next_offset", int(&rows, |r| r.head.map(|h| h.next))),
        ("watermark", time(&rows, watermark)),
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
        (
            "primary_key",
            text(&rows, |o| {
                let keys = &o.table()?.primary_key;
                let names: Vec<&str> = keys.iter().map(|i| o.columns()[*i].name.as_str()).collect();
                Some(names.join(", "))
            }),
        ),
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

fn name_of(view: &View<'_>, id: ObjectId) -> Option<String> {
    view.catalog.get(id).map(|o| o.name.to_string())
}

fn positions(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let mut rows: Vec<(ObjectId, ObjectId, u64, u64)> = Vec::new();
    for object in view.catalog.objects() {
        let Some(status) = view.engine.runtime.status(object.id) else { continue };
        for (input, next) in status.position {
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

fn dead_letters(view: &View<'_>) -> Result<RecordBatch, Diagnostic> {
    let mut rows = Vec::new();
    for object in view.catalog.objects() {
        if let Some(definition) = object.definition() {
            let store = view.engine.store.as_ref();
            let letters =
                auspex_exec::runtime::dead_letters(store, object.id, definition.generation)
                    .map_err(|e| errors::exec(&e))?;
            rows.extend(letters.into_iter().map(|l| (object.name.to_string(), l)));
        }
    }
    batch(vec![
        ("stream", text(&rows, |(name, _)| Some(name.clone()))),
        ("input", text(&rows, |(_, l)| name_of(view, l.stream))),
        ("input_offset", int(&rows, |(_, l)| Some(l.offset))),
        ("reason", text(&rows, |(_, l)| Some(l.reason.clone()))),
        ("row", text(&rows, |(_, l)| Some(l.row.to_string()))),
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
