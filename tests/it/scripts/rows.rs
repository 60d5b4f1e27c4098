//! Rows as JSON: into record batches for the input, compared with record batches of the output.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Schema, SchemaRef,
    TimestampMicrosecondType,
};
use arrow::json::ReaderBuilder;
use serde_json::{Map, Value};

use crate::time::{EPOCH_US, duration_us, moment_us};

/// Rows in the schema of a stream. Unknown fields are an error, missing ones null.
pub(crate) fn build(
    schema: &SchemaRef,
    rows: &[Map<String, Value>],
) -> Result<RecordBatch, String> {
    for name in rows.iter().flat_map(Map::keys) {
        schema.field_with_name(name).map_err(|e| e.to_string())?;
    }
    // The JSON reader knows no intervals: they travel as whole numbers of microseconds.
    let plain: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| match f.data_type() {
            DataType::Interval(_) | DataType::Timestamp(..) => {
                Field::new(f.name(), DataType::Int64, true)
            }
            _ => f.as_ref().clone().with_nullable(true),
        })
        .collect();
    let plain = Arc::new(Schema::new(plain));
    let mut decoder = ReaderBuilder::new(plain).build_decoder().map_err(|e| e.to_string())?;
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = row.clone();
        for field in schema.fields() {
            let Some(value) = row.get_mut(field.name()) else { continue };
            let Some(text) = value.as_str() else { continue };
            match field.data_type() {
                DataType::Interval(_) => *value = duration_us(text)?.into(),
                DataType::Timestamp(..) => *value = moment_us(text)?.into(),
                _ => {}
            }
        }
        values.push(Value::Object(row));
    }
    decoder.serialize(&values).map_err(|e| e.to_string())?;
    let batch = decoder.flush().map_err(|e| e.to_string())?.ok_or("no rows")?;
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| convert(field, column))
        .collect::<Result<Vec<_>, String>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| e.to_string())
}

fn convert(field: &Field, column: &ArrayRef) -> Result<ArrayRef, String> {
    match field.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = column.as_primitive::<Int64Type>();
            Ok(Arc::new(
                values
                    .iter()
                    .map(|us| us.map(|us| IntervalMonthDayNano::new(0, 0, us * 1000)))
                    .collect::<IntervalMonthDayNanoArray>(),
            ))
        }
        DataType::Timestamp(..) => {
            arrow::compute::cast(column, field.data_type()).map_err(|e| e.to_string())
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// A value as JSON in the notation of scripts.
pub(crate) fn show(array: &ArrayRef, row: usize) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Timestamp(..) => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row) - EPOCH_US;
            format!("{us:+}us").into()
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            if value.months != 0 {
                return Ok(format!("{} months", value.months).into());
            }
            let us = i64::from(value.days) * 86_400_000_000 + value.nanoseconds / 1000;
            format!("{us}us").into()
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|i| show(&items, i)).collect::<Result<_, _>>()?)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut map = Map::new();
            for i in 0..entries.len() {
                let key = show(keys, i)?;
                map.insert(key.as_str().map_or(key.to_string(), str::to_owned), show(values, i)?);
            }
            Value::Object(map)
        }
        other => return Err(format!("no JSON notation for {other}")),
    })
}

/// Whether an actual value is the expected one: floats within 1e-9 of each other, an integer is
/// not a float, durations and times whatever their notation.
pub(crate) fn same(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Number(a), Value::Number(e)) if a.is_f64() || e.is_f64() => {
            let (Some(x), Some(y)) = (a.as_f64(), e.as_f64()) else { return false };
            a.is_f64() == e.is_f64() && (x - y).abs() <= 1e-9 * x.abs().max(y.abs())
        }
        (Value::String(a), Value::String(e)) => {
            a == e || matches!((duration_us(a), duration_us(e)), (Ok(a), Ok(e)) if a == e)
        }
        // Integers of more than 18 digits are written as strings.
        (Value::Number(a), Value::String(e)) => a.is_i64() && a.to_string() == *e,
        (Value::Array(a), Value::Array(e)) => {
            a.len() == e.len() && a.iter().zip(e).all(|(a, e)| same(a, e))
        }
        (Value::Object(a), Value::Object(e)) => {
            a.len() == e.len() && a.iter().all(|(k, a)| e.get(k).is_some_and(|e| same(a, e)))
        }
        (a, e) => a == e,
    }
}
