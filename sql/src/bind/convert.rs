//! Conversions between texts and values as PostgreSQL writes and reads them, where Arrow's casts
//! do otherwise (`uuid`, `bytea`, `interval`, `jsonb`) or write another text (timestamps, floats).

use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use crate::datetime::{self, Zone};
use arrow::array::types::ArrowPrimitiveType;
use arrow::array::types::{Float32Type, Float64Type, IntervalMonthDayNanoType};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Date32Array, FixedSizeBinaryBuilder, PrimitiveArray,
    PrimitiveBuilder, StringViewBuilder, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// Text to `uuid`.
pub(crate) static UUID_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("uuid_in", ColumnType::Uuid, uuid_in));
/// Text to `bytea`.
pub(crate) static BYTEA_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("byteain", ColumnType::Bytea, bytea_in));
/// Text to `interval`.
pub(crate) static INTERVAL_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("interval_in", ColumnType::Interval, interval_in));
/// Text and zone (as [`Zone::encode`] writes it) to `timestamptz`.
pub(crate) static TIMESTAMPTZ_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(TimestamptzIn::new())));
/// Text to `timestamp`.
pub(crate) static TIMESTAMP_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("timestamp_in", ColumnType::Timestamp, timestamp_in));
/// Text to `date`.
pub(crate) static DATE_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("date_in", ColumnType::Date, date_in));
/// Text to `jsonb`: the text itself when it is JSON.
pub(crate) static JSONB_IN: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("jsonb_in", ColumnType::Jsonb, jsonb_in));
/// A value to PostgreSQL's text of it.
pub(crate) static TEXT_OUT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| conversion("text_out", ColumnType::Text, text_out));

type Call = fn(&ArrayRef) -> Result<ArrayRef>;

/// Texts to values of a type that PostgreSQL reads otherwise than Arrow; `None` for the others.
pub(crate) fn text_to(target: &ColumnType, texts: &ArrayRef) -> Option<Result<ArrayRef>> {
    let read: Call = match target {
        ColumnType::Uuid => uuid_in,
        ColumnType::Bytea => bytea_in,
        ColumnType::Interval => interval_in,
        ColumnType::Timestamptz => timestamptz_utc_in,
        ColumnType::Timestamp => timestamp_in,
        ColumnType::Date => date_in,
        ColumnType::Jsonb => jsonb_in,
        _ => return None,
    };
    Some(read(texts))
}

/// An immutable function of one value; null stays null.
#[derive(Debug)]
struct Conversion {
    name: &'static str,
    signature: Signature,
    result: ColumnType,
    call: Call,
}

// The name identifies the function.
impl PartialEq for Conversion {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Conversion {}

impl Hash for Conversion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

fn conversion(name: &'static str, result: ColumnType, call: Call) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Conversion { name, signature, result, call }))
}

impl ScalarUDFImpl for Conversion {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.result.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(self.result.field(self.name, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [input] = arrays.as_slice() else {
            return Err(DataFusionError::Internal(format!("{} takes one value", self.name)));
        };
        let output = (self.call)(input)?;
        if constant && output.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?));
        }
        Ok(ColumnarValue::Array(output))
    }
}

/// The error of a text that is not of its type.
fn invalid(type_name: &str, text: &str) -> DataFusionError {
    let state = match type_name {
        "interval" | "date" | "timestamp" | "timestamp with time zone" => {
            SqlState::INVALID_DATETIME_FORMAT
        }
        _ => SqlState::INVALID_TEXT_REPRESENTATION,
    };
    if state == SqlState::INVALID_DATETIME_FORMAT && has_shape_of_date(text) {
        let message = format!("date/time field value out of range: \"{text}\"");
        let error = Diagnostic::error(SqlState::DATETIME_FIELD_OVERFLOW, message);
        return DataFusionError::External(Box::new(error));
    }
    let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
    DataFusionError::External(Box::new(Diagnostic::error(state, message)))
}

/// Whether a text begins like `2024-02-30`: what is wrong with it is then a value, not its form.
fn has_shape_of_date(text: &str) -> bool {
    let date = text.trim().split([' ', 'T', 't']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split('-').collect();
    parts.len() == 3
        && parts.iter().zip([4..=6, 1..=2, 1..=2]).all(|(part, digits)| {
            digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        })
}

/// The texts of an array.
fn texts(input: &ArrayRef) -> Result<Vec<Option<String>>> {
    let views = cast(input, &DataType::Utf8View)?;
    Ok(views.as_string_view().iter().map(|t| t.map(str::to_string)).collect())
}

fn uuid_in(input: &ArrayRef) -> Result<ArrayRef> {
    let mut out = FixedSizeBinaryBuilder::with_capacity(input.len(), 16);
    for text in texts(input)? {
        match text {
            None => out.append_null(),
            Some(t) => out.append_value(uuid(&t).ok_or_else(|| invalid("uuid", &t))?)?,
        }
    }
    Ok(Arc::new(out.finish()))
}

/// 32 hexadecimal digits, a hyphen allowed after each four, braces allowed around.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut out = [0u8; 16];
    let mut digits = 0usize;
    for c in inner.chars() {
        if c == '-' && digits > 0 && digits.is_multiple_of(4) {
            continue;
        }
        let nibble = u8::try_from(c.to_digit(16)?).ok()?;
        let slot = out.get_mut(digits / 2)?;
        *slot = *slot << 4 | nibble;
        digits += 1;
    }
    (digits == 32 && !inner.ends_with('-')).then_some(out)
}

fn bytea_in(input: &ArrayRef) -> Result<ArrayRef> {
    let mut out = BinaryBuilder::new();
    for text in texts(input)? {
        match text {
            None => out.append_null(),
            Some(t) => out.append_value(bytea(&t).ok_or_else(|| invalid("bytea", &t))?),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// `\x` and hexadecimal digits, or the old format: octal escapes and doubled backslashes.
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex
            .chars()
            .filter(|c| !c.is_ascii_whitespace())
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()?;
        let pairs = digits.chunks_exact(2);
        return pairs.remainder().is_empty().then(|| pairs.map(|p| p[0] << 4 | p[1]).collect());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next()? {
            b'\\' => out.push(b'\\'),
            first @ b'0'..=b'3' => {
                let mut value = first - b'0';
                for _ in 0..2 {
                    let digit = bytes.next().filter(|d| (b'0'..=b'7').contains(d))?;
                    value = value << 3 | (digit - b'0');
                }
                out.push(value);
            }
            _ => return None,
        }
    }
    Some(out)
}

fn interval_in(input: &ArrayRef) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<IntervalMonthDayNanoType>::with_capacity(input.len());
    for text in texts(input)? {
        match text {
            None => out.append_null(),
            Some(t) => out.append_value(
                crate::interval::parse_interval(&t).ok_or_else(|| invalid("interval", &t))?,
            ),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// [`TIMESTAMPTZ_IN`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct TimestamptzIn {
    signature: Signature,
}

impl TimestamptzIn {
    fn new() -> Self {
        TimestamptzIn { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimestamptzIn {
    fn name(&self) -> &str {
        "timestamptz_in"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(ColumnType::Timestamptz.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [input, ColumnarValue::Scalar(zone)] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("timestamptz_in takes a text and a zone".into()));
        };
        let zone = zone.try_as_str().flatten().and_then(Zone::decode).unwrap_or(Zone::UTC);
        let constant = matches!(input, ColumnarValue::Scalar(_));
        let input = input.to_array(if constant { 1 } else { args.number_rows })?;
        let times: TimestampMicrosecondArray =
            parsed(&input, "timestamp with time zone", |t| datetime::timestamptz(t, zone))?;
        let output: ArrayRef = Arc::new(times.with_timezone(auspex_plan::types::UTC));
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&output, 0)?));
        }
        Ok(ColumnarValue::Array(output))
    }
}

/// Items of an array, where the zone is UTC if not named.
fn timestamptz_utc_in(input: &ArrayRef) -> Result<ArrayRef> {
    let times: TimestampMicrosecondArray =
        parsed(input, "timestamp with time zone", |t| datetime::timestamptz(t, Zone::UTC))?;
    Ok(Arc::new(times.with_timezone(auspex_plan::types::UTC)))
}

fn timestamp_in(input: &ArrayRef) -> Result<ArrayRef> {
    let times: TimestampMicrosecondArray = parsed(input, "timestamp", datetime::timestamp)?;
    Ok(Arc::new(times))
}

fn date_in(input: &ArrayRef) -> Result<ArrayRef> {
    let days: Date32Array = parsed(input, "date", datetime::date)?;
    Ok(Arc::new(days))
}

fn parsed<T: ArrowPrimitiveType>(
    input: &ArrayRef,
    type_name: &str,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(input.len());
    for text in texts(input)? {
        match text {
            None => out.append_null(),
            Some(t) => out.append_value(parse(&t).ok_or_else(|| invalid(type_name, &t))?),
        }
    }
    Ok(out.finish())
}

fn jsonb_in(input: &ArrayRef) -> Result<ArrayRef> {
    for text in texts(input)?.into_iter().flatten() {
        if serde_json::from_str::<serde_json::Value>(&text).is_err() {
            return Err(invalid("json", &text));
        }
    }
    Ok(cast(input, &DataType::Utf8View)?)
}

fn text_out(input: &ArrayRef) -> Result<ArrayRef> {
    let mut out = StringViewBuilder::with_capacity(input.len());
    let mut text = String::new();
    let mut each = |write: &mut dyn FnMut(usize, &mut String) -> Result<()>| -> Result<()> {
        for row in 0..input.len() {
            if input.is_null(row) {
                out.append_null();
            } else {
                text.clear();
                write(row, &mut text)?;
                out.append_value(&text);
            }
        }
        Ok(())
    };
    match input.data_type() {
        DataType::FixedSizeBinary(16) => {
            let values = input.as_fixed_size_binary();
            each(&mut |row, text| {
                for (i, byte) in values.value(row).iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        text.push('-');
                    }
                    write_text(text, format_args!("{byte:02x}"));
                }
                Ok(())
            })?;
        }
        DataType::Binary => {
            let values = input.as_binary::<i32>();
            each(&mut |row, text| {
                text.push_str("\\x");
                values.value(row).iter().for_each(|b| write_text(text, format_args!("{b:02x}")));
                Ok(())
            })?;
        }
        DataType::Float64 => {
            let values = input.as_primitive::<Float64Type>();
            each(&mut |row, text| {
                let v = values.value(row);
                float(text, &format!("{v:e}"), v.is_nan(), v.is_infinite(), v < 0.0, 15);
                Ok(())
            })?;
        }
        DataType::Float32 => {
            let values = input.as_primitive::<Float32Type>();
            each(&mut |row, text| {
                let v = values.value(row);
                float(text, &format!("{v:e}"), v.is_nan(), v.is_infinite(), v < 0.0, 6);
                Ok(())
            })?;
        }
        DataType::Timestamp(_, zone) => {
            let suffix = if zone.is_some() { "+00" } else { "" };
            let micros = cast(input, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            let plain: TimestampMicrosecondArray =
                micros.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().clone();
            each(&mut |row, text| {
                let us = plain.value(row);
                let time = chrono::DateTime::from_timestamp_micros(us)
                    .ok_or_else(|| DataFusionError::Execution("timestamp out of range".into()))?;
                write_text(text, format_args!("{}", time.format("%Y-%m-%d %H:%M:%S")));
                fraction(text, us.rem_euclid(1_000_000));
                text.push_str(suffix);
                Ok(())
            })?;
        }
        _ => return Ok(cast(input, &DataType::Utf8View)?),
    }
    Ok(Arc::new(out.finish()))
}

fn write_text(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).expect("writing to a String cannot fail");
}

fn fraction(text: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
}

/// The shortest digits that mean the number, with an exponent below 1e-4 and from 1e15 (1e6 for
/// `real`) on. `scientific` is Rust's `1.25e-7`.
fn float(
    text: &mut String,
    scientific: &str,
    nan: bool,
    infinite: bool,
    negative: bool,
    most: i32,
) {
    if nan {
        return text.push_str("NaN");
    }
    if infinite {
        return text.push_str(if negative { "-Infinity" } else { "Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if mantissa.starts_with('-') {
        text.push('-');
    }
    if exponent < -4 || exponent >= most {
        let mantissa = mantissa.trim_start_matches('-');
        let sign = if exponent < 0 { '-' } else { '+' };
        return write_text(text, format_args!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let point = exponent + 1;
    match usize::try_from(point) {
        Ok(point) if point > 0 => {
            let (whole, rest) = digits.split_at(point.min(digits.len()));
            text.push_str(whole);
            text.extend(std::iter::repeat_n('0', point - whole.len()));
            if !rest.is_empty() {
                text.push('.');
                text.push_str(rest);
            }
        }
        _ => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', usize::try_from(-point).unwrap_or(0)));
            text.push_str(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, StringArray};

    use super::*;

    fn shown(input: ArrayRef) -> Vec<String> {
        let out = text_out(&input).expect("text");
        out.as_string_view().iter().map(|t| t.unwrap_or("null").to_string()).collect()
    }

    #[test]
    fn values_are_written_as_postgresql_writes_them() {
        let floats =
            vec![1.0, -0.5, 0.1, 1e15, 123456.789, 1e-5, 0.0001, f64::NAN, -f64::INFINITY, 0.0];
        assert_eq!(
            shown(Arc::new(Float64Array::from(floats))),
            ["1", "-0.5", "0.1", "1e+15", "123456.789", "1e-05", "0.0001", "NaN", "-Infinity", "0"]
        );
        assert_eq!(shown(Arc::new(Float32Array::from(vec![1e6, 1.5]))), ["1e+06", "1.5"]);
        let times =
            TimestampMicrosecondArray::from(vec![Some(1_704_067_200_120_000), None, Some(-1)]);
        assert_eq!(
            shown(Arc::new(times.clone().with_timezone("UTC"))),
            ["2024-01-01 00:00:00.12+00", "null", "1969-12-31 23:59:59.999999+00"]
        );
        assert_eq!(shown(Arc::new(times))[0], "2024-01-01 00:00:00.12");
    }

    #[test]
    fn texts_are_read_as_postgresql_reads_them() {
        let one = |t: &str| -> ArrayRef { Arc::new(StringArray::from(vec![t])) };
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in
            [id, "{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11"]
        {
            assert_eq!(shown(uuid_in(&one(text)).expect("uuid")), [id]);
        }
        assert!(uuid_in(&one("a0ee")).is_err());
        assert_eq!(shown(bytea_in(&one("\\xDEad")).expect("bytea")), ["\\xdead"]);
        assert_eq!(shown(bytea_in(&one("a\\\\b\\001")).expect("bytea")), ["\\x615c6201"]);
        for wrong in ["\\xabc", "\\xzz", "a\\9", "\\"] {
            assert!(bytea_in(&one(wrong)).is_err(), "{wrong}");
        }
        assert!(jsonb_in(&one("{\"a\": [1]}")).is_ok());
        assert!(jsonb_in(&one("{a}")).is_err());
        assert!(interval_in(&one("bananas")).is_err());
    }
}
