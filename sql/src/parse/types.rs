//! Names of types.

use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{ColumnType, Diagnostic, Span, SqlState};
use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, TimezoneInfo};

use super::Result;
use super::reader::Reader;

/// Digits of a `numeric` without precision: PostgreSQL's is unlimited, ours has Decimal128.
const NUMERIC: ColumnType = ColumnType::Numeric { precision: 38, scale: 10 };

/// Names that are offered when one is misspelt.
const NAMES: [&str; 20] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "decimal",
    "text",
    "varchar",
    "bytea",
    "uuid",
    "timestamptz",
    "timestamp",
    "date",
    "time",
    "interval",
    "jsonb",
    "int",
    "float",
];

/// Reads a type.
pub(super) fn read(r: &mut Reader) -> Result<(ColumnType, Span)> {
    let (ast, span) = r.data_type()?;
    Ok((column_type(&ast).map_err(|d| d.at(span))?, span))
}

/// The column type that a type name means.
pub(crate) fn column_type(data_type: &DataType) -> Result<ColumnType> {
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => ColumnType::Boolean,
        DataType::SmallInt(None) | DataType::Int2(None) => ColumnType::SmallInt,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => ColumnType::Integer,
        DataType::BigInt(None) | DataType::Int8(None) | DataType::Int64 => ColumnType::BigInt,
        DataType::Real | DataType::Float4 => ColumnType::Real,
        DataType::Float8 | DataType::DoublePrecision | DataType::Double(ExactNumberInfo::None) => {
            ColumnType::Double
        }
        DataType::Float(ExactNumberInfo::None) => ColumnType::Double,
        DataType::Float(ExactNumberInfo::Precision(n)) if (1..=24).contains(n) => ColumnType::Real,
        DataType::Float(ExactNumberInfo::Precision(n)) if (25..=53).contains(n) => {
            ColumnType::Double
        }
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text => ColumnType::Text,
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => varchar(length.as_ref())?,
        DataType::Char(_) | DataType::Character(_) => {
            return Err(Diagnostic::unsupported("type character(n) is not supported")
                .hint("Use text or varchar(n)."));
        }
        DataType::Bytea => ColumnType::Bytea,
        DataType::Uuid => ColumnType::Uuid,
        DataType::Timestamp(precision, zone) => {
            fraction(*precision)?;
            match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => ColumnType::Timestamp,
                TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => ColumnType::Timestamptz,
            }
        }
        DataType::Date => ColumnType::Date,
        DataType::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            fraction(*precision)?;
            ColumnType::Time
        }
        DataType::Time(..) => {
            return Err(Diagnostic::unsupported("type time with time zone is not supported")
                .hint("Use timestamptz."));
        }
        DataType::Interval { fields: None, precision: None } => ColumnType::Interval,
        DataType::JSONB => ColumnType::Jsonb,
        DataType::JSON => {
            return Err(Diagnostic::unsupported("type json is not supported").hint("Use jsonb."));
        }
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => ColumnType::Array(Box::new(column_type(item)?)),
        DataType::Custom(name, modifiers) => return custom(&name.to_string(), modifiers),
        other => return Err(unknown(&other.to_string())),
    })
}

fn custom(name: &str, modifiers: &[String]) -> Result<ColumnType> {
    let folded = name.to_ascii_lowercase().replace('"', "");
    let bare = folded.strip_prefix("pg_catalog.").unwrap_or(&folded);
    if !modifiers.is_empty() {
        return Err(unknown(&folded));
    }
    Ok(match bare {
        "serial" | "bigserial" | "smallserial" | "serial2" | "serial4" | "serial8" => {
            return Err(Diagnostic::unsupported(format!("type {bare} is not supported"))
                .hint("Rows of a stream are numbered already: see the system column _offset."));
        }
        "int2" => ColumnType::SmallInt,
        "int4" => ColumnType::Integer,
        "int8" => ColumnType::BigInt,
        "float4" => ColumnType::Real,
        "float8" => ColumnType::Double,
        "bool" => ColumnType::Boolean,
        "text" | "name" | "regclass" | "regtype" | "regproc" => ColumnType::Text,
        "varchar" => ColumnType::Text,
        "numeric" => NUMERIC,
        "timestamptz" => ColumnType::Timestamptz,
        "timestamp" => ColumnType::Timestamp,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time,
        "interval" => ColumnType::Interval,
        "jsonb" => ColumnType::Jsonb,
        "uuid" => ColumnType::Uuid,
        "bytea" => ColumnType::Bytea,
        "oid" => ColumnType::BigInt,
        _ => return Err(unknown(&folded)),
    })
}

fn unknown(name: &str) -> Diagnostic {
    let name = name.to_ascii_lowercase();
    let error =
        Diagnostic::error(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"));
    match did_you_mean(&name, NAMES) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<ColumnType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(NUMERIC),
        ExactNumberInfo::Precision(p) => (*p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if (0..=precision as i8).contains(&scale) => {
            Ok(ColumnType::Numeric { precision, scale })
        }
        _ => Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!(
                "NUMERIC({precision},{scale}) must have a precision of 1 to 38 and a scale between 0 and the precision"
            ),
        )),
    }
}

fn varchar(length: Option<&CharacterLength>) -> Result<ColumnType> {
    match length {
        None => Ok(ColumnType::Text),
        Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
            Ok(n @ 1..=10_485_760) => Ok(ColumnType::Varchar(n)),
            _ => Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "length for type varchar must be between 1 and 10485760",
            )),
        },
        Some(CharacterLength::Max) => Err(unknown("varchar(max)")),
    }
}

/// Times have microseconds; a coarser precision would need rounding on every insert.
fn fraction(precision: Option<u64>) -> Result<()> {
    match precision {
        None | Some(6) => Ok(()),
        Some(n) => {
            Err(Diagnostic::unsupported(format!("a time precision of {n} digits is not supported"))
                .hint("Leave the precision out; times have microseconds."))
        }
    }
}
