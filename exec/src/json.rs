//! Rows as JSON, for dead letters and taps.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use auspex_plan::ColumnType;
use serde_json::{Map, Value};

/// Row `row` as an object, columns in their order.
pub fn row(rows: &RecordBatch, row: usize) -> Value {
    let schema = rows.schema_ref();
    let object = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let value = value(column.as_ref(), row);
        let value = match (ColumnType::from_field(field), value) {
            (Some(ColumnType::Jsonb), Value::String(text)) => {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }
            (_, value) => value,
        };
        (field.name().clone(), value)
    });
    Value::Object(object.collect::<Map<_, _>>())
}

/// A value: numbers and booleans as such (not-a-number and infinities as text), lists as arrays,
/// maps as objects, everything else as text.
pub fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => {
            let text = array.as_primitive::<Float32Type>().value(row).to_string();
            number(text.parse().unwrap_or(f64::NAN))
        }
        DataType::Float64 => number(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|i| value(items.as_ref(), i)).collect()
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let object = (0..entries.len()).map(|i| {
                let key = match value(keys.as_ref(), i) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, value(values.as_ref(), i))
            });
            Value::Object(object.collect())
        }
        _ => match ArrayFormatter::try_new(array, &FormatOptions::default()) {
            Ok(formatter) => formatter.value(row).to_string().into(),
            Err(_) => Value::Null,
        },
    }
}

fn number(v: f64) -> Value {
    serde_json::Number::from_f64(v).map_or_else(|| v.to_string().into(), Value::Number)
}
