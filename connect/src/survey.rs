//! What a file holds, found by reading all of it: event types, their fields, and the columns that
//! would fit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::catalog::Column;

use crate::error::{ConnectError, Place, Result};
use crate::event::{Event, Fields, Value};
use crate::file::FileReader;
use crate::time::{duration_us, iso_us};

/// The event types of one or more files.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    types: BTreeMap<Arc<str>, TypeSurvey>,
}

#[derive(Debug, Clone, Default)]
struct TypeSurvey {
    events: u64,
    fields: Vec<FieldSurvey>,
}

#[derive(Debug, Clone)]
struct FieldSurvey {
    name: Arc<str>,
    kind: Kind,
    /// Events that have a value other than null.
    present: u64,
    /// The first two values whose types do not go together, as words.
    conflict: Option<(Place, String)>,
}

/// What all values of a field have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Nothing,
    Bool,
    Int,
    Float,
    Timestamp,
    Duration,
    Text,
    List(Box<Kind>),
    /// An object whose members have this in common; `None` when nothing.
    Object(Option<Box<Kind>>),
}

impl Survey {
    /// Reads a file to its end.
    pub fn add(&mut self, path: &Path, event_type: Option<&str>) -> Result<()> {
        let reader = FileReader::open(path, event_type)?;
        self.add_events(reader, event_type)
    }

    /// [`Survey::add`] for a reader that is open.
    pub fn add_events(&mut self, reader: FileReader, event_type: Option<&str>) -> Result<()> {
        if let (Some(header), Some(event_type)) = (reader.header(), event_type) {
            let found = self.types.entry(Arc::from(event_type)).or_default();
            for name in header {
                found.field(name);
            }
        }
        for event in reader {
            let event = event?;
            match self.types.get_mut(&event.event_type) {
                Some(found) => found.add(&event),
                None => self.types.entry(Arc::clone(&event.event_type)).or_default().add(&event),
            }
        }
        Ok(())
    }

    /// Number of events per type.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.types.iter().map(|(name, found)| (name.as_ref(), found.events))
    }

    /// Whether any event of a type has a field.
    pub fn has_field(&self, event_type: &str, field: &str) -> bool {
        self.types
            .get(event_type)
            .is_some_and(|found| found.fields.iter().any(|f| f.name.as_ref() == field))
    }

    /// Columns that hold the events of a type: int, float, bool, timestamp, duration (where it is
    /// sure), str, lists and maps of these, jsonb for other objects. A column is nullable when an
    /// event has no value for it. `None` for a type that does not occur.
    ///
    /// # Errors
    /// When two events give a field values that have nothing in common.
    pub fn columns(&self, event_type: &str) -> Option<Result<Vec<Column>>> {
        let found = self.types.get(event_type)?;
        let columns = found.fields.iter().map(|field| {
            if let Some((place, what)) = &field.conflict {
                let message =
                    format!("the type of `{}.{}` is not clear: {what}", event_type, field.name);
                return Err(ConnectError::data(place, message)
                    .hint(format!("declare it: `event {event_type}:` followed by its fields")));
            }
            let mut column = Column::new(field.name.as_ref(), field.kind.column_type());
            column.not_null = field.present == found.events && found.events > 0;
            Ok(column)
        });
        Some(columns.collect())
    }

    /// [`Survey::columns`] of every type whose columns are clear.
    pub fn all_columns(&self) -> BTreeMap<String, Vec<Column>> {
        let clear = |name: &Arc<str>| Some((name.to_string(), self.columns(name)?.ok()?));
        self.types.keys().filter_map(clear).collect()
    }
}

/// Columns that hold the events of one type in a file. See [`Survey::columns`].
pub fn infer(path: &Path, event_type: &str) -> Result<Vec<Column>> {
    let mut survey = Survey::default();
    survey.add(path, Some(event_type))?;
    survey.columns(event_type).unwrap_or_else(|| {
        Err(ConnectError::Usage {
            file: path.to_path_buf(),
            message: format!("the file has no event of type {event_type}"),
        })
    })
}

impl TypeSurvey {
    fn field(&mut self, name: &Arc<str>) -> &mut FieldSurvey {
        let at = self.fields.iter().position(|f| f.name == *name).unwrap_or_else(|| {
            self.fields.push(FieldSurvey {
                name: Arc::clone(name),
                kind: Kind::Nothing,
                present: 0,
                conflict: None,
            });
            self.fields.len() - 1
        });
        &mut self.fields[at]
    }

    fn add(&mut self, event: &Event) {
        self.events += 1;
        match &event.fields {
            Fields::Named(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    // Mostly the fields come in the order of the first event.
                    let same = self.fields.get(at).is_some_and(|f| f.name == *name);
                    let field = if same { &mut self.fields[at] } else { self.field(name) };
                    field.add(value, &event.place);
                }
            }
            Fields::Positional(values) => {
                for (at, value) in values.iter().enumerate() {
                    self.field(&positional_name(at)).add(value, &event.place);
                }
            }
        }
    }
}

/// What a positional field is called when no declaration names it.
pub(crate) fn positional_name(at: usize) -> Arc<str> {
    Arc::from(format!("field_{at}"))
}

impl FieldSurvey {
    fn add(&mut self, value: &Value, place: &Place) {
        if value.is_null() {
            return;
        }
        self.present += 1;
        if self.kind == Kind::Text && matches!(value, Value::Text(_) | Value::Word(_)) {
            return;
        }
        let kind = Kind::of(value);
        match self.kind.clone().with(kind.clone()) {
            Some(both) => self.kind = both,
            // Cells of CSV and bare words are texts when nothing narrower fits all of them.
            None if matches!(value, Value::Word(_)) && self.conflict.is_none() => {
                self.kind = Kind::Text;
            }
            None if self.conflict.is_none() => {
                let what = format!("{} here, {} before", kind.words(), self.kind.words());
                self.conflict = Some((place.clone(), what));
            }
            None => {}
        }
    }
}

impl Kind {
    fn of(value: &Value) -> Kind {
        match value {
            Value::Null | Value::Empty => Kind::Nothing,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Float(_) => Kind::Float,
            Value::Text(t) if iso_us(t).is_some() => Kind::Timestamp,
            Value::Text(_) => Kind::Text,
            Value::Word(t) => Kind::of_word(t),
            Value::List(items) => Kind::List(Box::new(Kind::common(items.iter()))),
            Value::Object(members) => {
                let mut common = Some(Kind::Nothing);
                for (_, value) in members {
                    common = common.and_then(|kind| kind.with(Kind::of(value)));
                }
                Kind::Object(common.filter(Kind::is_scalar).map(Box::new))
            }
        }
    }

    /// A cell of a CSV file. Digits behind a zero (`007`) are no number: they would be lost.
    fn of_word(text: &str) -> Kind {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && !(digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit()));
        if number && text.parse::<i64>().is_ok() {
            Kind::Int
        } else if number && text.parse::<f64>().is_ok_and(f64::is_finite) {
            Kind::Float
        } else if matches!(text, "true" | "false") {
            Kind::Bool
        } else if iso_us(text).is_some() {
            Kind::Timestamp
        } else if number && duration_us(text, None).is_some() {
            Kind::Duration
        } else {
            Kind::Text
        }
    }

    fn common<'a>(values: impl Iterator<Item = &'a Value>) -> Kind {
        let mut common = Kind::Nothing;
        for value in values {
            common = match common.with(Kind::of(value)) {
                Some(kind) => kind,
                None => return Kind::Text,
            };
        }
        common
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Kind::List(_) | Kind::Object(_))
    }

    /// The narrowest kind that has all values of both.
    fn with(self, other: Kind) -> Option<Kind> {
        Some(match (self, other) {
            (Kind::Nothing, kind) | (kind, Kind::Nothing) => kind,
            (a, b) if a == b => a,
            (Kind::Int | Kind::Float, Kind::Int | Kind::Float) => Kind::Float,
            (Kind::Timestamp | Kind::Text, Kind::Timestamp | Kind::Text) => Kind::Text,
            (Kind::Duration, Kind::Text) | (Kind::Text, Kind::Duration) => Kind::Text,
            (Kind::List(a), Kind::List(b)) => Kind::List(Box::new(a.with(*b)?)),
            (Kind::Object(a), Kind::Object(b)) => {
                let both = a.zip(b).and_then(|(a, b)| a.with(*b)).filter(Kind::is_scalar);
                Kind::Object(both.map(Box::new))
            }
            _ => return None,
        })
    }

    fn column_type(&self) -> ColumnType {
        match self {
            Kind::Nothing | Kind::Text => ColumnType::Text,
            Kind::Bool => ColumnType::Boolean,
            Kind::Int => ColumnType::BigInt,
            Kind::Float => ColumnType::Double,
            Kind::Timestamp => ColumnType::Timestamptz,
            Kind::Duration => ColumnType::Interval,
            Kind::List(item) => ColumnType::Array(Box::new(item.column_type())),
            Kind::Object(Some(value)) => {
                ColumnType::Map(Box::new(ColumnType::Text), Box::new(value.column_type()))
            }
            Kind::Object(None) => ColumnType::Jsonb,
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Kind::Nothing => "null",
            Kind::Bool => "a bool",
            Kind::Int => "an int",
            Kind::Float => "a float",
            Kind::Timestamp => "a timestamp",
            Kind::Duration => "a duration",
            Kind::Text => "a str",
            Kind::List(_) => "a list",
            Kind::Object(_) => "an object",
        }
    }
}
