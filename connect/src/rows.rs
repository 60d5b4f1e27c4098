//! Events into the typed batches of a stream.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use auspex_plan::ColumnType;
use auspex_plan::catalog::Column;
use auspex_plan::diagnostic::did_you_mean;

use crate::error::{ConnectError, Place, Result};
use crate::event::{Event, Fields, Value};
use crate::values;

/// Collects events of one type and makes batches of them.
#[derive(Debug)]
pub struct RowBuilder {
    event_type: Arc<str>,
    columns: Vec<Column>,
    /// Whether an event may give the column; generated ones it may not.
    writable: Vec<bool>,
    by_name: HashMap<Arc<str>, usize>,
    schema: SchemaRef,
    /// Per column the values of all rows.
    cells: Vec<Vec<Value>>,
    places: Vec<Place>,
    names_positions: bool,
}

impl RowBuilder {
    /// For events that become rows of `columns`. Columns with a default that no event has should
    /// be left out, so that the stream fills them.
    pub fn new(event_type: &str, columns: &[Column]) -> RowBuilder {
        let fields = columns.iter().map(|c| c.column_type.field(&c.name, true));
        RowBuilder {
            event_type: Arc::from(event_type),
            writable: columns.iter().map(|c| c.generated.is_none()).collect(),
            by_name: columns
                .iter()
                .enumerate()
                .map(|(i, c)| (Arc::from(c.name.as_str()), i))
                .collect(),
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            cells: columns.iter().map(|_| Vec::new()).collect(),
            places: Vec::new(),
            names_positions: columns.iter().any(|c| c.name == "field_0"),
            columns: columns.to_vec(),
        }
    }

    /// Number of rows collected.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds an event. A field that is left out is null.
    ///
    /// # Errors
    /// For a field that the columns do not have, and for a missing value where null is refused.
    pub fn push(&mut self, event: Event) -> Result<()> {
        let row = self.places.len();
        let place = event.place;
        match event.fields {
            Fields::Named(fields) => {
                for (name, value) in fields {
                    let Some(at) = self.by_name.get(&name).copied() else {
                        return Err(self.unknown_field(&name, &place));
                    };
                    self.set(at, row, value, &place)?;
                }
            }
            Fields::Positional(values) => {
                let known = values.len() <= self.columns.len();
                if !known {
                    let message = format!(
                        "`{}` has {} fields, the event {} values",
                        self.event_type,
                        self.columns.len(),
                        values.len()
                    );
                    return Err(ConnectError::data(&place, message));
                }
                for (at, value) in values.into_iter().enumerate() {
                    let at = match self.names_positions {
                        false => Some(at),
                        true => self.by_name.get(&crate::survey::positional_name(at)).copied(),
                    };
                    let Some(at) = at else {
                        return Err(self.unknown_field("field_0", &place));
                    };
                    self.set(at, row, value, &place)?;
                }
            }
        }
        for (at, column) in self.columns.iter().enumerate() {
            let cells = &mut self.cells[at];
            if cells.len() == row {
                cells.push(Value::Null);
            }
            let Some(cell) = cells.last_mut() else { continue };
            let text = matches!(column.column_type, ColumnType::Text | ColumnType::Varchar(_));
            if *cell == Value::Empty && column.not_null && text {
                *cell = Value::Word(String::new());
            }
            if column.not_null && self.writable[at] && cell.is_null() {
                let message = format!(
                    "`{}.{}` is missing and must not be null",
                    self.event_type, column.name
                );
                let optional = format!(
                    "declare it as `{}: {}?` if it may be",
                    column.name,
                    column.column_type.vpl_name()
                );
                return Err(ConnectError::data(&place, message).hint(optional));
            }
        }
        self.places.push(place);
        Ok(())
    }

    fn set(&mut self, at: usize, row: usize, value: Value, place: &Place) -> Result<()> {
        let name = &self.columns[at].name;
        if !self.writable[at] {
            let message = format!("`{}.{name}` is computed and cannot be given", self.event_type);
            return Err(ConnectError::data(place, message));
        }
        if self.cells[at].len() > row {
            let message = format!("the field `{name}` is given twice");
            return Err(ConnectError::data(place, message));
        }
        self.cells[at].push(value);
        Ok(())
    }

    fn unknown_field(&self, name: &str, place: &Place) -> ConnectError {
        let error =
            ConnectError::data(place, format!("`{}` has no field `{name}`", self.event_type));
        let known = || self.columns.iter().map(|c| c.name.as_str());
        match did_you_mean(name, known()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => {
                error.hint(format!("its fields are {}", known().collect::<Vec<_>>().join(", ")))
            }
        }
    }

    /// The rows collected since the last call, in order, and where each was read. All columns are
    /// nullable.
    ///
    /// # Errors
    /// For a value that does not fit its column, with its place.
    pub fn finish(&mut self) -> Result<(RecordBatch, Vec<Place>)> {
        let rows = self.places.len();
        let cells: Vec<Vec<Value>> = self.cells.iter_mut().map(std::mem::take).collect();
        let places = std::mem::take(&mut self.places);
        let mut arrays = Vec::with_capacity(cells.len());
        for (column, values) in self.columns.iter().zip(&cells) {
            let values: Vec<&Value> = values.iter().collect();
            match values::column(&values, &column.column_type) {
                Ok(array) => arrays.push(array),
                Err(message) => return Err(self.bad_value(column, &values, &places, message)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        match RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options) {
            Ok(batch) => Ok((batch, places)),
            Err(e) => Err(ConnectError::data(&first(&places), e.to_string())),
        }
    }

    /// Finds the row of a value that does not fit.
    fn bad_value(
        &self,
        column: &Column,
        values: &[&Value],
        places: &[Place],
        message: String,
    ) -> ConnectError {
        let alone = |v: &&Value| values::column(&[*v], &column.column_type).err();
        let found = values.iter().zip(places).find_map(|(v, p)| alone(v).map(|m| (p, m)));
        // Every value alone is fine only if the whole is too large: then the first row will do.
        let (place, message) = match found {
            Some((place, message)) => (place.clone(), message),
            None => (first(places), message),
        };
        ConnectError::data(&place, format!("`{}.{}`: {message}", self.event_type, column.name))
    }
}

fn first(places: &[Place]) -> Place {
    let unknown = || Place { file: Arc::from(std::path::Path::new("")), line: 0 };
    places.first().cloned().unwrap_or_else(unknown)
}
