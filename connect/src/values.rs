//! Untyped values into Arrow arrays, column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryBuilder,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, MapArray, StringViewBuilder, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cast_utils::{Parser, parse_decimal, parse_interval_month_day_nano};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, IntervalMonthDayNano, Time64MicrosecondType,
};
use auspex_plan::ColumnType;
use auspex_plan::types::UTC;

use crate::event::Value;
use crate::time::{duration_us, moment_us};

/// The column that the values make, or what is wrong with one of them.
pub(crate) fn column(values: &[&Value], column_type: &ColumnType) -> Result<ArrayRef, String> {
    let wrong = |v: &Value| {
        let wanted = column_type.vpl_name();
        let article = if wanted.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
        format!("{} is not {article} {wanted}", v.shown())
    };
    Ok(match column_type {
        ColumnType::Boolean => {
            Arc::new(each(values, wrong, boolean)?.into_iter().collect::<BooleanArray>())
        }
        ColumnType::SmallInt => {
            let small = |v: &Value| integer(v).and_then(|i| i16::try_from(i).ok());
            Arc::new(Int16Array::from(each(values, wrong, small)?))
        }
        ColumnType::Integer => {
            let medium = |v: &Value| integer(v).and_then(|i| i32::try_from(i).ok());
            Arc::new(Int32Array::from(each(values, wrong, medium)?))
        }
        ColumnType::BigInt => Arc::new(Int64Array::from(each(values, wrong, integer)?)),
        ColumnType::Real => {
            let real = |v: &Value| float(v).map(|f| f as f32);
            Arc::new(Float32Array::from(each(values, wrong, real)?))
        }
        ColumnType::Double => Arc::new(Float64Array::from(each(values, wrong, float)?)),
        ColumnType::Numeric { precision, scale } => {
            let decimal = |v: &Value| numeric(v, *precision, *scale);
            let array = Decimal128Array::from(each(values, wrong, decimal)?);
            let array = array.with_precision_and_scale(*precision, *scale);
            Arc::new(array.map_err(|e| e.to_string())?)
        }
        ColumnType::Text => {
            let mut builder = StringViewBuilder::with_capacity(values.len());
            for text in each(values, wrong, |v| text(v))? {
                builder.append_option(text);
            }
            Arc::new(builder.finish())
        }
        ColumnType::Varchar(limit) => {
            let short = |v| text(v).filter(|t| t.chars().count() <= *limit as usize);
            let mut builder = StringViewBuilder::with_capacity(values.len());
            let too_long = |v: &Value| format!("{} is not a text of at most {limit}", v.shown());
            for text in each(values, too_long, short)? {
                builder.append_option(text);
            }
            Arc::new(builder.finish())
        }
        ColumnType::Jsonb => {
            let mut builder = StringViewBuilder::with_capacity(values.len());
            for json in each(values, wrong, json)? {
                builder.append_option(json);
            }
            Arc::new(builder.finish())
        }
        ColumnType::Bytea => {
            let mut builder = BinaryBuilder::new();
            for bytes in each(values, wrong, bytes)? {
                builder.append_option(bytes);
            }
            Arc::new(builder.finish())
        }
        ColumnType::Uuid => {
            let uuid = |v: &Value| text(v).and_then(|t| uuid::Uuid::parse_str(t).ok());
            let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
            for uuid in each(values, wrong, uuid)? {
                match uuid {
                    Some(uuid) => {
                        builder.append_value(uuid.as_bytes()).map_err(|e| e.to_string())?;
                    }
                    None => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        ColumnType::Timestamptz => {
            let array = TimestampMicrosecondArray::from(each(values, wrong, moment)?);
            Arc::new(array.with_timezone(UTC))
        }
        ColumnType::Timestamp => {
            Arc::new(TimestampMicrosecondArray::from(each(values, wrong, moment)?))
        }
        ColumnType::Date => {
            let date = |v: &Value| text(v).and_then(Date32Type::parse);
            Arc::new(Date32Array::from(each(values, wrong, date)?))
        }
        ColumnType::Time => {
            let time = |v: &Value| text(v).and_then(Time64MicrosecondType::parse);
            Arc::new(Time64MicrosecondArray::from(each(values, wrong, time)?))
        }
        ColumnType::Interval => {
            Arc::new(IntervalMonthDayNanoArray::from(each(values, wrong, interval)?))
        }
        ColumnType::Array(item) => list(values, wrong, item)?,
        ColumnType::Map(key, value) => map(values, wrong, key, value, &column_type.arrow())?,
    })
}

/// Each value read with `read`, nulls left out.
fn each<'a, T>(
    values: &[&'a Value],
    wrong: impl Fn(&Value) -> String,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Vec<Option<T>>, String> {
    values
        .iter()
        .map(|v| match v.is_null() {
            true => Ok(None),
            false => read(v).map(Some).ok_or_else(|| wrong(v)),
        })
        .collect()
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(t) | Value::Word(t) => Some(t),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Word(t) => match t.to_ascii_lowercase().as_str() {
            "true" | "t" => Some(true),
            "false" | "f" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(i) => Some(*i),
        // JSON of some writers has `1.0` for 1.
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => Some(*f as i64),
        // Large integers are written as strings, because many readers of JSON round them.
        Value::Text(t) | Value::Word(t) => t.trim().parse().ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(f) => Some(*f),
        // Strings because JSON has no notation for NaN and the infinities.
        Value::Text(t) | Value::Word(t) => t.trim().parse().ok(),
        _ => None,
    }
}

fn numeric(value: &Value, precision: u8, scale: i8) -> Option<i128> {
    let text = match value {
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Text(t) | Value::Word(t) => t.trim().to_owned(),
        _ => return None,
    };
    let digits = text.trim_start_matches(['+', '-']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    parse_decimal::<Decimal128Type>(&text, precision, scale).ok()
}

fn moment(value: &Value) -> Option<i64> {
    text(value).and_then(|t| moment_us(t.trim()))
}

/// `90s`, `1h30m`, or PostgreSQL's notation.
fn interval(value: &Value) -> Option<IntervalMonthDayNano> {
    let text = text(value)?.trim();
    if let Some(us) = duration_us(text, None) {
        return us.checked_mul(1000).map(|ns| IntervalMonthDayNano::new(0, 0, ns));
    }
    parse_interval_month_day_nano(text).ok()
}

/// The text of a JSON value; a word is JSON when it reads as such.
fn json(value: &Value) -> Option<String> {
    match value {
        Value::Word(t) => {
            serde_json::from_str::<serde_json::Value>(t).ok().map(|json| json.to_string())
        }
        other => Some(other.to_json().to_string()),
    }
}

/// `\x` and hexadecimal digits, or the bytes of the text.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    let text = text(value)?;
    let Some(digits) = text.strip_prefix("\\x") else { return Some(text.as_bytes().to_vec()) };
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

fn list(
    values: &[&Value],
    wrong: impl Fn(&Value) -> String,
    item: &ColumnType,
) -> Result<ArrayRef, String> {
    let lists = each(values, wrong, elements)?;
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|l| l.as_ref().map_or(0, Vec::len)));
    let items: Vec<&Value> = lists.iter().flatten().flatten().collect();
    let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
    let field = Arc::new(item.field("item", true));
    let array = ListArray::try_new(field, offsets, column(&items, item)?, Some(nulls));
    Ok(Arc::new(array.map_err(|e| e.to_string())?))
}

fn map(
    values: &[&Value],
    wrong: impl Fn(&Value) -> String,
    key: &ColumnType,
    value: &ColumnType,
    data_type: &DataType,
) -> Result<ArrayRef, String> {
    let parsed = each(values, wrong, members)?;
    let lengths = parsed.iter().map(|m| m.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let entries = || parsed.iter().flatten().flatten();
    let keys: Vec<&Value> = entries().map(|(k, _)| k).collect();
    let items: Vec<&Value> = entries().map(|(_, v)| v).collect();
    let columns = vec![column(&keys, key)?, column(&items, value)?];
    let DataType::Map(field, _) = data_type else { return Err("not a map".into()) };
    let DataType::Struct(fields) = field.data_type() else { return Err("not a map".into()) };
    let entries = StructArray::try_new(fields.clone(), columns, None).map_err(|e| e.to_string())?;
    let nulls: NullBuffer = parsed.iter().map(Option::is_some).collect();
    let array = MapArray::try_new(field.clone(), offsets, entries, Some(nulls), false);
    Ok(Arc::new(array.map_err(|e| e.to_string())?))
}

/// The items of a list; a cell of a CSV file holds them as JSON.
fn elements(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::List(items) => Some(items.clone()),
        Value::Word(t) => match Value::from_json(serde_json::from_str(t).ok()?) {
            Value::List(items) => Some(items),
            _ => None,
        },
        _ => None,
    }
}

fn members(value: &Value) -> Option<Vec<(Value, Value)>> {
    let pairs = |members: Vec<(String, Value)>| {
        // Keys are words: a map may have integers as keys.
        members.into_iter().map(|(k, v)| (Value::Word(k), v)).collect()
    };
    match value {
        Value::Object(members) => Some(pairs(members.clone())),
        Value::Word(t) => match Value::from_json(serde_json::from_str(t).ok()?) {
            Value::Object(members) => Some(pairs(members)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;

    /// The value as the column shows it; `Err` when it is refused.
    fn check(value: Value, column_type: ColumnType) -> Result<String, String> {
        let array = column(&[&value], &column_type)?;
        assert_eq!(array.data_type(), &column_type.arrow());
        array_value_to_string(&array, 0).map_err(|e| e.to_string())
    }

    fn word(text: &str) -> Value {
        Value::Word(text.into())
    }

    #[test]
    fn words_take_the_type_of_their_column() {
        let numeric = ColumnType::Numeric { precision: 6, scale: 2 };
        let ints = ColumnType::Array(Box::new(ColumnType::BigInt));
        let map = ColumnType::Map(Box::new(ColumnType::Text), Box::new(ColumnType::BigInt));
        for (text, column_type, shown) in [
            ("12", ColumnType::BigInt, "12"),
            ("12", ColumnType::Double, "12.0"),
            ("12", ColumnType::Text, "12"),
            ("true", ColumnType::Boolean, "true"),
            ("1.5", numeric, "1.50"),
            ("2013-01-01 10:15:00+00", ColumnType::Timestamptz, "2013-01-01T10:15:00Z"),
            ("2013-01-02", ColumnType::Date, "2013-01-02"),
            ("10:15:00", ColumnType::Time, "10:15:00"),
            ("90s", ColumnType::Interval, "1 mins 30.000000000 secs"),
            ("\\x0aff", ColumnType::Bytea, "0aff"),
            ("[1, 2, null]", ints, "[1, 2, ]"),
            ("{\"a\": 1}", map, "{a: 1}"),
            ("{\"a\": [1]}", ColumnType::Jsonb, "{\"a\":[1]}"),
        ] {
            assert_eq!(check(word(text), column_type), Ok(shown.into()), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        for (value, column_type, message) in [
            (word("abc"), ColumnType::BigInt, "\"abc\" is not an int"),
            (word("1.5"), ColumnType::BigInt, "\"1.5\" is not an int"),
            (Value::Int(70_000), ColumnType::SmallInt, "70000 is not an int"),
            (Value::Int(5), ColumnType::Text, "5 is not a str"),
            (Value::Text("yes".into()), ColumnType::Boolean, "\"yes\" is not a bool"),
            (Value::Int(5), ColumnType::Timestamptz, "5 is not a timestamp"),
            (Value::List(vec![]), ColumnType::Double, "a list is not a float"),
            (word("abcd"), ColumnType::Varchar(3), "\"abcd\" is not a text of at most 3"),
            (
                word("x.5"),
                ColumnType::Numeric { precision: 5, scale: 1 },
                "\"x.5\" is not a numeric(5,1)",
            ),
        ] {
            assert_eq!(check(value, column_type), Err(message.into()));
        }
    }

    #[test]
    fn an_empty_cell_is_null() {
        let array = column(&[&Value::Empty, &Value::Null], &ColumnType::Text).expect("nulls");
        assert_eq!(array.null_count(), 2);
    }
}
