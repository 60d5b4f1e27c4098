//! Values of Arrow arrays as PostgreSQL text, PostgreSQL binary and JSON.
//!
//! [`Column::new`] looks at an array's type once per batch; afterwards [`Column::text`],
//! [`Column::binary`] and `Column::json` write one cell with a single jump.

mod binary;
mod datetime;
mod json;
mod number;
mod text;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, StringViewArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type,
    Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time64MicrosecondType, TimeUnit,
    i256,
};
use auspex_plan::types::TYPE_METADATA;
use auspex_plan::{ColumnType, Diagnostic, SqlState};

use super::types::{PgType, item_of};
use super::zone::Zone;

pub use json::{JsonRows, write_string as write_json_string};

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Session settings that text output depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// `TimeZone`: `timestamptz` is shown in it.
    pub zone: Zone,
    /// `extra_float_digits`: above 0 the shortest text that reads back as the same number, else
    /// 15 (6 for `real`) digits plus this.
    pub float_digits: i32,
    /// `bytea_output = escape` instead of `hex`.
    pub bytea_escape: bool,
}

impl Default for Style {
    fn default() -> Self {
        Style { zone: Zone::UTC, float_digits: 1, bytea_escape: false }
    }
}

/// One column of a batch, ready to be written cell by cell.
pub struct Column {
    nulls: Option<NullBuffer>,
    cells: Cells,
}

enum Cells {
    Null,
    Bool(BooleanArray),
    Int2(ScalarBuffer<i16>),
    Int4(ScalarBuffer<i32>),
    Int8(ScalarBuffer<i64>),
    Float4(ScalarBuffer<f32>),
    Float8(ScalarBuffer<f64>),
    Numeric(ScalarBuffer<i128>, i8),
    BigNumeric(ScalarBuffer<i256>, i8),
    Text(StringViewArray),
    /// JSON text; true for `jsonb`.
    Json(StringViewArray, bool),
    Bytes(BinaryViewArray),
    Uuid(FixedSizeBinaryArray),
    /// Days since 1970.
    Date(ScalarBuffer<i32>),
    /// Microseconds since midnight.
    Time(ScalarBuffer<i64>),
    /// Microseconds since 1970.
    Timestamp(ScalarBuffer<i64>),
    /// Microseconds since 1970 UTC.
    Timestamptz(ScalarBuffer<i64>),
    Interval(ScalarBuffer<IntervalMonthDayNano>),
    List {
        offsets: OffsetBuffer<i32>,
        items: Box<Column>,
        /// Element type on the wire (of the innermost elements).
        item: u32,
    },
    Struct(Vec<(String, Column)>),
    Map {
        offsets: OffsetBuffer<i32>,
        keys: Box<Column>,
        values: Box<Column>,
    },
}

impl Column {
    /// Prepares `array`, a column described by `field`. 0A000 for types that clients cannot be
    /// sent.
    pub fn new(array: &ArrayRef, field: &Field) -> Result<Column, Diagnostic> {
        let array = plain(array)?;
        let json = field.metadata().get(TYPE_METADATA).is_some_and(|name| name == "jsonb");
        let cells = match array.data_type() {
            DataType::Null => Cells::Null,
            DataType::Boolean => Cells::Bool(array.as_boolean().clone()),
            DataType::Int16 => Cells::Int2(array.as_primitive::<Int16Type>().values().clone()),
            DataType::Int32 => Cells::Int4(array.as_primitive::<Int32Type>().values().clone()),
            DataType::Int64 => Cells::Int8(array.as_primitive::<Int64Type>().values().clone()),
            DataType::Float32 => {
                Cells::Float4(array.as_primitive::<Float32Type>().values().clone())
            }
            DataType::Float64 => {
                Cells::Float8(array.as_primitive::<Float64Type>().values().clone())
            }
            DataType::Decimal128(_, scale) => {
                Cells::Numeric(array.as_primitive::<Decimal128Type>().values().clone(), *scale)
            }
            DataType::Decimal256(_, scale) => {
                Cells::BigNumeric(array.as_primitive::<Decimal256Type>().values().clone(), *scale)
            }
            DataType::Utf8View if json => Cells::Json(array.as_string_view().clone(), true),
            DataType::Utf8View => Cells::Text(array.as_string_view().clone()),
            DataType::BinaryView => Cells::Bytes(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(16) => Cells::Uuid(array.as_fixed_size_binary().clone()),
            DataType::Date32 => Cells::Date(array.as_primitive::<Date32Type>().values().clone()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Cells::Time(array.as_primitive::<Time64MicrosecondType>().values().clone())
            }
            DataType::Timestamp(unit, zone) => {
                let values = microseconds(&array, *unit)?;
                match zone {
                    Some(_) => Cells::Timestamptz(values),
                    None => Cells::Timestamp(values),
                }
            }
            DataType::Interval(unit) => Cells::Interval(match unit {
                IntervalUnit::MonthDayNano => {
                    array.as_primitive::<IntervalMonthDayNanoType>().values().clone()
                }
                IntervalUnit::YearMonth => array
                    .as_primitive::<IntervalYearMonthType>()
                    .values()
                    .iter()
                    .map(|months| IntervalMonthDayNano::new(*months, 0, 0))
                    .collect(),
                IntervalUnit::DayTime => array
                    .as_primitive::<IntervalDayTimeType>()
                    .values()
                    .iter()
                    .map(|v| {
                        IntervalMonthDayNano::new(0, v.days, i64::from(v.milliseconds) * 1_000_000)
                    })
                    .collect(),
            }),
            // Differences of timestamps: PostgreSQL shows whole days as days.
            DataType::Duration(unit) => Cells::Interval(
                microseconds(&array, *unit)?
                    .iter()
                    .map(|us| {
                        IntervalMonthDayNano::new(0, (us / DAY_US) as i32, us % DAY_US * 1000)
                    })
                    .collect(),
            ),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                let oid = PgType::of_field(item)?.oid;
                Cells::List {
                    offsets: list.offsets().clone(),
                    items: Box::new(Column::new(list.values(), item)?),
                    item: item_of(oid).unwrap_or(oid),
                }
            }
            DataType::Struct(fields) => Cells::Struct(
                array
                    .as_struct()
                    .columns()
                    .iter()
                    .zip(fields)
                    .map(|(column, field)| Ok((field.name().clone(), Column::new(column, field)?)))
                    .collect::<Result<_, Diagnostic>>()?,
            ),
            DataType::Map(..) => {
                let map = array.as_map();
                let (key, value) = map.entries_fields();
                Cells::Map {
                    offsets: map.offsets().clone(),
                    keys: Box::new(Column::new(map.keys(), key)?),
                    values: Box::new(Column::new(map.values(), value)?),
                }
            }
            other => {
                return Err(Diagnostic::unsupported(format!(
                    "column \"{}\" has type {other}, which clients cannot be sent",
                    field.name()
                )));
            }
        };
        Ok(Column { nulls: array.nulls().cloned(), cells })
    }

    /// Prepares all columns of a batch.
    pub fn of_batch(batch: &arrow::record_batch::RecordBatch) -> Result<Vec<Column>, Diagnostic> {
        batch
            .columns()
            .iter()
            .zip(batch.schema_ref().fields())
            .map(|(array, field)| Column::new(array, field))
            .collect()
    }

    /// Whether the cell of `row` is null. The writers must not be called for null cells.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        match &self.nulls {
            Some(nulls) => nulls.is_null(row),
            None => matches!(self.cells, Cells::Null),
        }
    }
}

/// Brings the many Arrow types of one meaning to the one that the cells are written from.
fn plain(array: &ArrayRef) -> Result<ArrayRef, Diagnostic> {
    let target = match array.data_type() {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::FixedSizeBinary(n) if *n != 16 => DataType::BinaryView,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(Arc::clone(item)),
        DataType::Dictionary(_, value) => {
            let values = cast(array, value).map_err(unexpected)?;
            return plain(&values);
        }
        DataType::RunEndEncoded(_, values) => {
            let values = cast(array, values.data_type()).map_err(unexpected)?;
            return plain(&values);
        }
        _ => return Ok(Arc::clone(array)),
    };
    if matches!(array.data_type(), DataType::FixedSizeBinary(_)) {
        let binary = cast(array, &DataType::Binary).map_err(unexpected)?;
        return cast(&binary, &target).map_err(unexpected);
    }
    cast(array, &target).map_err(unexpected)
}

/// Values of a timestamp or duration array in microseconds; values out of range become the
/// nearest in range.
fn microseconds(array: &ArrayRef, unit: TimeUnit) -> Result<ScalarBuffer<i64>, Diagnostic> {
    let raw = array.to_data();
    let values = ScalarBuffer::<i64>::new(raw.buffers()[0].clone(), raw.offset(), raw.len());
    Ok(match unit {
        TimeUnit::Microsecond => values,
        TimeUnit::Second => values.iter().map(|v| v.saturating_mul(1_000_000)).collect(),
        TimeUnit::Millisecond => values.iter().map(|v| v.saturating_mul(1_000)).collect(),
        TimeUnit::Nanosecond => values.iter().map(|v| v.div_euclid(1_000)).collect(),
    })
}

fn unexpected(error: arrow::error::ArrowError) -> Diagnostic {
    Diagnostic::error(SqlState::INTERNAL_ERROR, format!("could not convert a result: {error}"))
}

/// Whether binary output exists for a column: checked when a portal is bound, so that a client
/// never sees rows break off.
pub fn check_binary(field: &Field) -> Result<(), Diagnostic> {
    fn depth(data_type: &DataType) -> usize {
        match data_type {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                1 + depth(item.data_type())
            }
            _ => 0,
        }
    }
    PgType::of_field(field)?;
    if depth(field.data_type()) > 1 {
        return Err(Diagnostic::unsupported(format!(
            "column \"{}\" is an array of arrays, which has no binary format here",
            field.name()
        ))
        .hint("Ask for the text format, or cast the column to text."));
    }
    Ok(())
}

/// Text of single values, for messages and settings: what `Column::text` writes for one value.
pub fn scalar_text(
    value: &datafusion::common::ScalarValue,
    column: &ColumnType,
    style: &Style,
) -> Result<Option<String>, Diagnostic> {
    let array = value.to_array().map_err(|error| {
        Diagnostic::error(SqlState::INTERNAL_ERROR, format!("could not show a value: {error}"))
    })?;
    let prepared = Column::new(&array, &column.field("value", true))?;
    if prepared.is_null(0) {
        return Ok(None);
    }
    let mut out = bytes::BytesMut::new();
    prepared.text(0, style, &mut out);
    Ok(Some(String::from_utf8_lossy(&out).into_owned()))
}

#[cfg(test)]
mod tests;
