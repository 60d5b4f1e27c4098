//! Values of bound rows, and conditions over them and a candidate row.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use auspex_plan::pattern::Get;
use datafusion::common::{DFSchema, ScalarValue};
use std::sync::Arc;

use super::matched::{Event, Link};
use super::program::BoundValue;
use crate::batch::{batch_of, nullable};
use crate::error::Result;
use crate::expr::{Compiled, evaluate_nulling, reason};

/// A part of a condition that needs the rows of the match.
pub(super) struct Condition {
    compiled: Compiled,
    schema: SchemaRef,
    operands: Vec<Operand>,
    pub(super) not_first: bool,
}

/// A column of a condition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand {
    /// Of the candidate row.
    Cell(usize),
    /// Of the match.
    Accessor(usize),
}

impl Condition {
    /// `compiled` over columns `operands`, which have `schema`.
    pub(super) fn new(
        compiled: Compiled,
        schema: &DFSchema,
        operands: Vec<Operand>,
        not_first: bool,
    ) -> Result<Condition> {
        let schema = nullable(schema.as_arrow());
        Ok(Condition { compiled, schema, operands, not_first })
    }

    /// Whether it is true. With `nulling` failing operations are null.
    ///
    /// # Errors
    /// Why it fails, in words for the user.
    pub(super) fn holds(
        &self,
        candidate: &Event,
        last: &Link,
        accessors: &[BoundValue],
        nulling: bool,
    ) -> Result<bool, String> {
        let columns = self.operands.iter().map(|operand| -> Result<ArrayRef, String> {
            let value = match operand {
                Operand::Cell(cell) => candidate.cells[*cell].clone(),
                Operand::Accessor(accessor) => accessors[*accessor].value(last)?,
            };
            value.to_array().map_err(|error| error.strip_backtrace())
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let row = batch_of(SchemaRef::clone(&self.schema), columns, 1)
            .map_err(|error| error.to_string())?;
        let value = if nulling {
            evaluate_nulling(&self.compiled.physical, &row).map_err(|error| error.to_string())?
        } else {
            let value = self.compiled.physical.evaluate(&row);
            let value = value.map_err(|error| reason(&error, &self.compiled.text))?;
            let array = value.into_array(1).map_err(|error| error.strip_backtrace())?;
            ScalarValue::try_from_array(&array, 0).map_err(|error| error.strip_backtrace())?
        };
        Ok(value == ScalarValue::Boolean(Some(true)))
    }
}

impl BoundValue {
    /// The value for the rows that end with `last`.
    ///
    /// # Errors
    /// An overflow, in words for the user.
    pub(super) fn value(&self, last: &Link) -> Result<ScalarValue, String> {
        let rows = || last.back().filter(|link| link.step == self.step);
        let cell = |link: &Link| match self.cell {
            Some(cell) => link.event.cells[cell].clone(),
            None => ScalarValue::Null,
        };
        if let Get::At(at) = self.get
            && at < 0
        {
            let from_end = usize::try_from(-(at + 1)).unwrap_or(usize::MAX);
            return rows().nth(from_end).map_or_else(|| self.null(), |link| Ok(cell(link)));
        }
        let mut values: Vec<ScalarValue> = rows().map(cell).collect();
        values.reverse();
        match self.get {
            Get::At(at) => {
                let found = usize::try_from(at).ok().and_then(|at| values.get(at).cloned());
                found.map_or_else(|| self.null(), Ok)
            }
            Get::Count => Ok(ScalarValue::Int64(Some(values.len() as i64))),
            Get::Collect => {
                let DataType::List(item) = &self.data_type else {
                    return Err(format!("{} is no array", self.name));
                };
                let list = ScalarValue::new_list(&values, item.data_type(), item.is_nullable());
                Ok(ScalarValue::List(list))
            }
            Get::Min | Get::Max => {
                let least = self.get == Get::Min;
                let known = values.into_iter().filter(|value| !value.is_null());
                let best = known.reduce(|a, b| {
                    let smaller = b.partial_cmp(&a) == Some(std::cmp::Ordering::Less);
                    let greater = b.partial_cmp(&a) == Some(std::cmp::Ordering::Greater);
                    if (least && smaller) || (!least && greater) { b } else { a }
                });
                best.map_or_else(|| self.null(), Ok)
            }
            Get::Sum | Get::Avg => self.total(&values),
        }
    }

    fn total(&self, values: &[ScalarValue]) -> Result<ScalarValue, String> {
        let overflow = || format!("value out of range in {}", self.name);
        let known: Vec<&ScalarValue> = values.iter().filter(|value| !value.is_null()).collect();
        if known.is_empty() {
            return self.null();
        }
        if self.get == Get::Sum && self.data_type == DataType::Int64 {
            let mut sum = 0i64;
            for value in known {
                let ScalarValue::Int64(Some(value)) = value else { return Err(overflow()) };
                sum = sum.checked_add(*value).ok_or_else(overflow)?;
            }
            return Ok(ScalarValue::Int64(Some(sum)));
        }
        let mut sum = 0f64;
        for value in &known {
            sum += match value {
                ScalarValue::Int64(Some(value)) => *value as f64,
                ScalarValue::Float64(Some(value)) => *value,
                _ => return Err(overflow()),
            };
        }
        let value = if self.get == Get::Sum { sum } else { sum / known.len() as f64 };
        Ok(ScalarValue::Float64(Some(value)))
    }

    fn null(&self) -> Result<ScalarValue, String> {
        ScalarValue::try_from(&self.data_type).map_err(|error| error.strip_backtrace())
    }

    /// The values for several matches as a column.
    pub(super) fn column(&self, values: Vec<ScalarValue>) -> Result<ArrayRef> {
        if values.is_empty() {
            return Ok(arrow::array::new_empty_array(&self.data_type));
        }
        let array = ScalarValue::iter_to_array(values)?;
        if array.data_type() == &self.data_type {
            return Ok(array);
        }
        Ok(Arc::clone(&arrow::compute::cast(&array, &self.data_type)?))
    }
}
