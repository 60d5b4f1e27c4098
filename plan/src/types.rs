//! Column types: the names users write, and the Arrow types that hold them
//! (`semantics.md` section 1).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// Metadata key of an Arrow field that names the column type where Arrow's own type is ambiguous
/// (`jsonb` and `varchar(n)` are both `Utf8View`).
pub const TYPE_METADATA: &str = "auspex.type";

/// Time zone of every `timestamptz` column.
pub const UTC: &str = "UTC";

/// A column type of a stream or table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnType {
    /// `boolean`, VPL `bool`.
    Boolean,
    /// `smallint`.
    SmallInt,
    /// `integer`.
    Integer,
    /// `bigint`, VPL `int`.
    BigInt,
    /// `real`.
    Real,
    /// `double precision`, VPL `float`.
    Double,
    /// `numeric(precision, scale)`.
    Numeric {
        /// Total number of decimal digits, 1 to 38.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
    },
    /// `text`, VPL `str`.
    Text,
    /// `varchar(n)`: at most n characters.
    Varchar(u32),
    /// `bytea`.
    Bytea,
    /// `uuid`.
    Uuid,
    /// `timestamp with time zone`, VPL `timestamp`: microseconds since 1970 in UTC.
    Timestamptz,
    /// `timestamp without time zone`.
    Timestamp,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `interval`, VPL `duration`.
    Interval,
    /// `jsonb`.
    Jsonb,
    /// `T[]`, VPL `[T]`.
    Array(Box<ColumnType>),
    /// VPL `{K: V}`; clients see `jsonb`.
    Map(Box<ColumnType>, Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type that holds values of this type.
    pub fn arrow(&self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::SmallInt => DataType::Int16,
            ColumnType::Integer => DataType::Int32,
            ColumnType::BigInt => DataType::Int64,
            ColumnType::Real => DataType::Float32,
            ColumnType::Double => DataType::Float64,
            ColumnType::Numeric { precision, scale } => DataType::Decimal128(*precision, *scale),
            ColumnType::Text | ColumnType::Varchar(_) | ColumnType::Jsonb => DataType::Utf8View,
            ColumnType::Bytea => DataType::Binary,
            ColumnType::Uuid => DataType::FixedSizeBinary(16),
            ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
            ColumnType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            ColumnType::Array(item) => DataType::List(Arc::new(item.field("item", true))),
            ColumnType::Map(key, value) => DataType::Map(
                Arc::new(Field::new(
                    "entries",
                    DataType::Struct(
                        vec![key.field("key", false), value.field("value", true)].into(),
                    ),
                    false,
                )),
                false,
            ),
        }
    }

    /// An Arrow field of this type. The metadata tells apart types that share an Arrow type.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        match self {
            ColumnType::Jsonb | ColumnType::Varchar(_) => {
                field.with_metadata(HashMap::from([(TYPE_METADATA.to_string(), self.to_string())]))
            }
            _ => field,
        }
    }

    /// The column type of an Arrow field, `None` for Arrow types that no column can have.
    pub fn from_field(field: &Field) -> Option<ColumnType> {
        match field.metadata().get(TYPE_METADATA).map(String::as_str) {
            Some("jsonb") => return Some(ColumnType::Jsonb),
            Some(other) => {
                if let Some(n) =
                    other.strip_prefix("varchar(").and_then(|rest| rest.strip_suffix(')'))
                {
                    return n.parse().ok().map(ColumnType::Varchar);
                }
            }
            None => {}
        }
        ColumnType::from_arrow(field.data_type())
    }

    /// The column type that holds values of an Arrow type; wider where there is no exact one
    /// (unsigned integers become the next larger signed type, seconds become microseconds).
    pub fn from_arrow(data_type: &DataType) -> Option<ColumnType> {
        Some(match data_type {
            DataType::Boolean => ColumnType::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => ColumnType::SmallInt,
            DataType::Int32 | DataType::UInt16 => ColumnType::Integer,
            // Counts and ranks come as UInt64; PostgreSQL has them as bigint.
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => ColumnType::BigInt,
            DataType::Float16 | DataType::Float32 => ColumnType::Real,
            DataType::Float64 => ColumnType::Double,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                ColumnType::Numeric { precision: *p, scale: *s }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                ColumnType::Text
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnType::Bytea,
            DataType::FixedSizeBinary(16) => ColumnType::Uuid,
            DataType::FixedSizeBinary(_) => ColumnType::Bytea,
            DataType::Timestamp(_, Some(_)) => ColumnType::Timestamptz,
            DataType::Timestamp(_, None) => ColumnType::Timestamp,
            DataType::Date32 | DataType::Date64 => ColumnType::Date,
            DataType::Time32(_) | DataType::Time64(_) => ColumnType::Time,
            DataType::Interval(_) | DataType::Duration(_) => ColumnType::Interval,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => {
                ColumnType::Array(Box::new(ColumnType::from_field(item)?))
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => ColumnType::Map(
                    Box::new(ColumnType::from_field(&fields[0])?),
                    Box::new(ColumnType::from_field(&fields[1])?),
                ),
                _ => return None,
            },
            DataType::Dictionary(_, value) => ColumnType::from_arrow(value)?,
            _ => return None,
        })
    }

    /// The name VPL users know the type by.
    pub fn vpl_name(&self) -> String {
        match self {
            ColumnType::Boolean => "bool".into(),
            ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => "int".into(),
            ColumnType::Real | ColumnType::Double => "float".into(),
            ColumnType::Text | ColumnType::Varchar(_) => "str".into(),
            ColumnType::Timestamptz | ColumnType::Timestamp => "timestamp".into(),
            ColumnType::Interval => "duration".into(),
            ColumnType::Array(item) => format!("[{}]", item.vpl_name()),
            ColumnType::Map(k, v) => format!("{{{}: {}}}", k.vpl_name(), v.vpl_name()),
            other => other.to_string(),
        }
    }
}

/// PostgreSQL's spelling, as `format_type` prints it (without length for `varchar`'s base name).
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Boolean => f.write_str("boolean"),
            ColumnType::SmallInt => f.write_str("smallint"),
            ColumnType::Integer => f.write_str("integer"),
            ColumnType::BigInt => f.write_str("bigint"),
            ColumnType::Real => f.write_str("real"),
            ColumnType::Double => f.write_str("double precision"),
            ColumnType::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Varchar(n) => write!(f, "varchar({n})"),
            ColumnType::Bytea => f.write_str("bytea"),
            ColumnType::Uuid => f.write_str("uuid"),
            ColumnType::Timestamptz => f.write_str("timestamp with time zone"),
            ColumnType::Timestamp => f.write_str("timestamp without time zone"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Time => f.write_str("time without time zone"),
            ColumnType::Interval => f.write_str("interval"),
            ColumnType::Jsonb => f.write_str("jsonb"),
            ColumnType::Array(item) => write!(f, "{item}[]"),
            ColumnType::Map(..) => f.write_str("jsonb"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_through_arrow() {
        let types = [
            ColumnType::Boolean,
            ColumnType::SmallInt,
            ColumnType::Integer,
            ColumnType::BigInt,
            ColumnType::Real,
            ColumnType::Double,
            ColumnType::Numeric { precision: 12, scale: 3 },
            ColumnType::Text,
            ColumnType::Varchar(7),
            ColumnType::Bytea,
            ColumnType::Uuid,
            ColumnType::Timestamptz,
            ColumnType::Timestamp,
            ColumnType::Date,
            ColumnType::Time,
            ColumnType::Interval,
            ColumnType::Jsonb,
            ColumnType::Array(Box::new(ColumnType::Varchar(3))),
            ColumnType::Map(Box::new(ColumnType::Text), Box::new(ColumnType::BigInt)),
        ];
        for t in types {
            assert_eq!(ColumnType::from_field(&t.field("c", true)), Some(t));
        }
    }
}
