//! What connectors read, before it has the types of a stream.

use std::sync::Arc;

use crate::error::Place;

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Event type: the name of a stream.
    pub event_type: Arc<str>,
    /// Its time as the record says it beside its fields, microseconds since 1970.
    pub at_us: Option<i64>,
    /// Its fields.
    pub fields: Fields,
    /// Where it was read.
    pub place: Place,
}

/// Fields of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Fields {
    /// With their names, in the order of the record. No name occurs twice.
    Named(Vec<(Arc<str>, Value)>),
    /// In the order of the declaration; called `field_0`, `field_1`, .. when there is none.
    Positional(Vec<Value>),
}

/// A value, as far as its notation tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// Nothing between two separators: null, or the empty text where null is not allowed.
    Empty,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number that is no 64-bit integer.
    Float(f64),
    /// A text in quotes.
    Text(String),
    /// A text without quotes: a cell of a CSV file, a bare word. Its column decides what it means.
    Word(String),
    /// `[..]`.
    List(Vec<Value>),
    /// `{..}`.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null | Value::Empty)
    }

    /// The value as JSON. A word is a text; a number that JSON cannot hold is null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null | Value::Empty => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => Json::from(*i),
            Value::Float(f) => Json::from(*f),
            Value::Text(t) | Value::Word(t) => Json::String(t.clone()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Value::Object(members) => {
                Json::Object(members.iter().map(|(k, v)| (k.clone(), v.to_json())).collect())
            }
        }
    }

    /// The value a JSON value stands for.
    pub fn from_json(json: serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(b),
            Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(i), _, _) => Value::Int(i),
                // Beyond bigint, but exact: a numeric column can hold it.
                (None, Some(u), _) => Value::Word(u.to_string()),
                (None, None, f) => f.map_or(Value::Null, Value::Float),
            },
            Json::String(t) => Value::Text(t),
            Json::Array(items) => Value::List(items.into_iter().map(Value::from_json).collect()),
            Json::Object(members) => {
                Value::Object(members.into_iter().map(|(k, v)| (k, Value::from_json(v))).collect())
            }
        }
    }

    /// How a message names the value: `"abc"`, `12`, `a list`.
    pub fn shown(&self) -> String {
        let quoted = |t: &str| match t.char_indices().nth(60) {
            Some((end, _)) => format!("\"{}...\"", &t[..end]),
            None => format!("\"{t}\""),
        };
        match self {
            Value::Null | Value::Empty => "null".into(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Text(t) | Value::Word(t) => quoted(t),
            Value::List(_) => "a list".into(),
            Value::Object(_) => "an object".into(),
        }
    }
}
