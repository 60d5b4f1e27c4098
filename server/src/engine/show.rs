//! `SHOW`, `DESCRIBE`, `LISTEN`, `UNLISTEN`, `NOTIFY`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use auspex_exec::runtime::QueryState;
use auspex_plan::catalog::{Object, ObjectName, Stream};
use auspex_plan::{Diagnostic, EventTime, SqlState};
use auspex_sql::statement::{Name, Show};
use futures::stream;

use super::Engine;
use super::api::Outcome;
use super::catalog::{find, require};
use super::session::Session;
use super::statement::Described;
use super::transaction::ListenChange;

/// Longest payload of `NOTIFY` in bytes, as in PostgreSQL.
pub(super) const MAX_PAYLOAD: usize = 7999;
/// Longest channel name in bytes, as in PostgreSQL.
const MAX_CHANNEL: usize = 63;

/// A result of text columns that exists already.
pub(super) fn text_rows(
    schema: SchemaRef,
    rows: Vec<Vec<Option<String>>>,
    tag: &'static str,
) -> Outcome {
    let columns = (0..schema.fields().len())
        .map(|c| -> ArrayRef {
            Arc::new(rows.iter().map(|r| r[c].as_deref()).collect::<StringViewArray>())
        })
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(super::errors::arrow);
    Outcome::Rows { schema, rows: Box::pin(stream::iter([batch])), tag, counted: false }
}

/// A schema of text columns.
pub(super) fn text_schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(
        names.iter().map(|n| Field::new(*n, DataType::Utf8View, true)).collect::<Vec<_>>(),
    ))
}

fn schema(show: &Show) -> SchemaRef {
    match show {
        Show::Setting(name) => text_schema(&[canonical_name(&name.value)]),
        Show::All => text_schema(&["name", "setting", "description"]),
        Show::Streams(_) => {
            text_schema(&["schema", "name", "kind", "state", "event_time", "retention"])
        }
        Show::Tables(_) => text_schema(&["schema", "name"]),
        Show::Views(_) => text_schema(&["schema", "name", "state", "key", "retention"]),
        Show::Sinks(_) => text_schema(&["schema", "name", "state", "table"]),
        Show::Pipelines(_) => text_schema(&["name", "language", "state", "streams"]),
        Show::Columns(_) => text_schema(&["column", "type", "nullable", "default", "extra"]),
    }
}

/// The registry's spelling of a setting's name, which clients see as the column's name.
fn canonical_name(name: &str) -> &str {
    super::settings::SETTINGS
        .iter()
        .find(|s| s.name.eq_ignore_ascii_case(name))
        .map_or(name, |s| s.name)
}

/// Result columns of `SHOW`.
pub(super) fn describe(show: &Show) -> Described {
    Described { params: Vec::new(), columns: Some(schema(show)), bound: None }
}

/// `SHOW` and `DESCRIBE`.
pub(super) fn show(session: &Session, show: &Show) -> Result<Outcome, Diagnostic> {
    let catalog = session.catalog();
    let rows = match show {
        Show::Setting(name) => {
            let (_, value) = session.settings.show(&name.value).map_err(|e| e.at(name.span))?;
            vec![vec![Some(value)]]
        }
        Show::All => session
            .settings
            .all()
            .into_iter()
            .map(|(n, v, d)| vec![Some(n.to_string()), Some(v), Some(d.to_string())])
            .collect(),
        Show::Streams(like) => catalog
            .objects()
            .filter(|o| matches(&o.name, like.as_deref()))
            .filter_map(|o| stream_row(session, o))
            .collect(),
        Show::Tables(like) => catalog
            .objects()
            .filter(|o| o.table().is_some() && matches(&o.name, like.as_deref()))
            .map(|o| vec![Some(o.name.schema.clone()), Some(o.name.name.clone())])
            .collect(),
        Show::Views(like) => catalog
            .objects()
            .filter(|o| matches(&o.name, like.as_deref()))
            .filter_map(|o| view_row(session, o))
            .collect(),
        Show::Sinks(like) => catalog
            .objects()
            .filter(|o| matches(&o.name, like.as_deref()))
            .filter_map(|o| {
                let table = catalog.get(o.definition()?.sink?)?;
                let state = state(&session.engine, o);
                let row =
                    [o.name.schema.clone(), o.name.name.clone(), state, table.name.to_string()];
                Some(row.map(Some).to_vec())
            })
            .collect(),
        Show::Pipelines(like) => catalog
            .objects()
            .filter(|o| matches(&o.name, like.as_deref()))
            .filter_map(|o| {
                let pipeline = o.pipeline()?;
                let streams: Vec<&str> =
                    catalog.in_schema(&o.name.schema).map(|m| m.name.name.as_str()).collect();
                let language = format!("{:?}", pipeline.language).to_lowercase();
                let state = if pipeline.paused { "paused" } else { "running" };
                Some(vec![
                    Some(o.name.name.clone()),
                    Some(language),
                    Some(state.to_string()),
                    Some(streams.join(", ")),
                ])
            })
            .collect(),
        Show::Columns(name) => {
            let object = require(&catalog, &session.settings.search_path(), name)?;
            column_rows(object)
        }
    };
    Ok(text_rows(schema(show), rows, "SHOW"))
}

fn matches(name: &ObjectName, like: Option<&str>) -> bool {
    like.is_none_or(|pattern| like_match(pattern, &name.name))
}

/// `LIKE` with `%` and `_`, case ignored.
fn like_match(pattern: &str, text: &str) -> bool {
    fn go(p: &[char], t: &[char]) -> bool {
        match p.split_first() {
            None => t.is_empty(),
            Some(('%', rest)) => (0..=t.len()).any(|i| go(rest, &t[i..])),
            Some(('_', rest)) => !t.is_empty() && go(rest, &t[1..]),
            Some((c, rest)) => t.first() == Some(c) && go(rest, &t[1..]),
        }
    }
    let chars = |s: &str| s.to_lowercase().chars().collect::<Vec<_>>();
    go(&chars(pattern), &chars(text))
}

/// The state of a derived stream's query, or `-` for a source.
pub(super) fn state(engine: &Engine, object: &Object) -> String {
    let derived = object.definition().is_some();
    if !derived {
        return "-".into();
    }
    match engine.runtime.status(object.id).map(|s| s.state) {
        Some(QueryState::Running) => "running".into(),
        Some(QueryState::Paused) => "paused".into(),
        Some(QueryState::Failed(reason)) => format!("failed: {reason}"),
        None => "not started".into(),
    }
}

fn stream_row(session: &Session, object: &Object) -> Option<Vec<Option<String>>> {
    let stream = object.stream()?;
    let kind = match stream.definition.as_ref().map(|d| d.language) {
        None => "source".to_string(),
        Some(language) => format!("{language:?} query").to_lowercase(),
    };
    let event_time = match &stream.event_time {
        EventTime::Arrival => "arrival".to_string(),
        EventTime::Inherited => "inherited".to_string(),
        EventTime::Assigned { .. } => "assigned".to_string(),
        EventTime::Column { column, .. } => column.clone(),
    };
    Some(
        [
            object.name.schema.clone(),
            object.name.name.clone(),
            kind,
            state(&session.engine, object),
            event_time,
            retention(stream),
        ]
        .map(Some)
        .to_vec(),
    )
}

fn retention(stream: &Stream) -> String {
    match (stream.retention.age_us, stream.retention.bytes) {
        (None, None) => "forever".to_string(),
        (age, bytes) => {
            [age.map(|us| format!("{} s", us / 1_000_000)), bytes.map(|b| format!("{b} bytes"))]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", ")
        }
    }
}

fn view_row(session: &Session, object: &Object) -> Option<Vec<Option<String>>> {
    let view = object.view()?;
    let key: Vec<&str> = view.key.iter().map(|i| object.columns()[*i].name.as_str()).collect();
    let row = [
        object.name.schema.clone(),
        object.name.name.clone(),
        state(&session.engine, object),
        key.join(", "),
        retention(&view.stream),
    ];
    Some(row.map(Some).to_vec())
}

fn column_rows(object: &Object) -> Vec<Vec<Option<String>>> {
    let keys = object.key().unwrap_or_default();
    let view = object.view().is_some();
    let time = match object.stream().map(|s| &s.event_time) {
        Some(EventTime::Column { column, .. }) => Some(column.clone()),
        _ => None,
    };
    object
        .columns()
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let mut extra = Vec::new();
            if keys.contains(&i) {
                extra.push(if view { "key" } else { "primary key" }.to_string());
            }
            if time.as_ref() == Some(&c.name) {
                extra.push("event time".to_string());
            }
            if let Some(g) = &c.generated {
                extra.push(format!("generated always as ({g}) stored"));
            }
            vec![
                Some(c.name.clone()),
                Some(c.column_type.to_string()),
                Some(if c.not_null { "no" } else { "yes" }.to_string()),
                c.default.clone(),
                Some(extra.join(", ")),
            ]
        })
        .collect()
}

/// `LISTEN name`: a stream's rows when the name means one, otherwise an ordinary channel.
pub(super) fn listen(session: &mut Session, name: &Name) -> Result<String, Diagnostic> {
    let catalog = session.catalog();
    let path = session.settings.search_path();
    let quoted = name.to_string();
    let object = find(&catalog, &path, name).or_else(|| {
        // Drivers that always quote send "schema.name" as one identifier.
        let (schema, rest) = quoted.split_once('.')?;
        catalog.resolve(schema, rest)
    });
    let channel: String = truncate(&quoted);
    match object {
        Some(o) if o.table().is_some() => {
            return Err(Diagnostic::unsupported(format!("cannot listen to table \"{}\"", o.name))
                .at(name.span())
                .hint("Streams and materialized views can be listened to; for other channels use another name."));
        }
        Some(o) if o.log().is_some() => {
            session.work.listens.push(ListenChange::Listen(channel, Some(o.id)));
        }
        _ => session.work.listens.push(ListenChange::Listen(channel, None)),
    }
    Ok("LISTEN".into())
}

/// `UNLISTEN name` and `UNLISTEN *`.
pub(super) fn unlisten(session: &mut Session, name: Option<&Name>) -> Result<String, Diagnostic> {
    session.work.listens.push(match name {
        Some(name) => ListenChange::Unlisten(truncate(&name.to_string())),
        None => ListenChange::UnlistenAll,
    });
    Ok("UNLISTEN".into())
}

/// The first 63 bytes of a name, as PostgreSQL cuts identifiers.
fn truncate(name: &str) -> String {
    let mut end = name.len().min(MAX_CHANNEL);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_string()
}

/// `NOTIFY channel, 'payload'`, delivered at commit; the same message once per transaction.
pub(super) fn notify(
    session: &mut Session,
    channel: &str,
    payload: &str,
) -> Result<String, Diagnostic> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            "payload string too long",
        ));
    }
    send(session, (channel.to_string(), payload.to_string()))?;
    Ok("NOTIFY".into())
}

/// Queues a notification for the commit; channels of streams belong to their rows.
pub(super) fn send(session: &mut Session, message: (String, String)) -> Result<(), Diagnostic> {
    let (channel, payload) = message;
    let channel = channel.as_str();
    let catalog = session.catalog();
    let is_stream = session
        .settings
        .search_path()
        .iter()
        .any(|s| catalog.resolve(s, channel).is_some_and(|o| o.log().is_some()));
    if is_stream {
        return Err(Diagnostic::error(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("channel \"{channel}\" carries the rows of a stream"),
        )
        .hint("INSERT INTO the stream, or use another channel."));
    }
    let message = (truncate(channel), payload);
    if !session.work.notifies.contains(&message) {
        session.work.notifies.push(message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_percent_and_underscore() {
        for (pattern, text, expected) in [
            ("%", "", true),
            ("a%", "Abc", true),
            ("%c", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "abbc", false),
            ("", "a", false),
        ] {
            assert_eq!(like_match(pattern, text), expected, "{pattern} {text}");
        }
    }
}
