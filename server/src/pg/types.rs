//! Column types as PostgreSQL's wire protocol names them: oid, length and type modifier.

use arrow::datatypes::{DataType, Field};
use auspex_plan::{ColumnType, Diagnostic, SqlState};

/// Object ids of `pg_type` in PostgreSQL 15.
#[allow(missing_docs, reason = "each name is the type's name in pg_type")]
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// Array type of each element type.
const ARRAYS: [(u32, u32); 22] = [
    (oid::BOOL, 1000),
    (oid::BYTEA, 1001),
    (oid::CHAR, 1002),
    (oid::NAME, 1003),
    (oid::INT8, 1016),
    (oid::INT2, 1005),
    (oid::INT4, 1007),
    (oid::TEXT, 1009),
    (oid::OID, 1028),
    (oid::JSON, 199),
    (oid::FLOAT4, 1021),
    (oid::FLOAT8, 1022),
    (oid::BPCHAR, 1014),
    (oid::VARCHAR, 1015),
    (oid::DATE, 1182),
    (oid::TIME, 1183),
    (oid::TIMESTAMP, 1115),
    (oid::TIMESTAMPTZ, 1185),
    (oid::INTERVAL, 1187),
    (oid::NUMERIC, 1231),
    (oid::UUID, 2951),
    (oid::JSONB, 3807),
];

/// Precision and scale of a parameter that a client declares as plain `numeric`.
pub const PARAMETER_NUMERIC: (u8, i8) = (38, 10);

/// What `RowDescription` says about a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgType {
    /// Object id in `pg_type`.
    pub oid: u32,
    /// Bytes of a value, -1 when they vary.
    pub length: i16,
    /// Precision and scale of `numeric`, length of `varchar`, -1 for none.
    pub modifier: i32,
}

impl PgType {
    /// The wire type of a column type.
    pub fn of(column: &ColumnType) -> PgType {
        let (oid, length, modifier) = match column {
            ColumnType::Boolean => (oid::BOOL, 1, -1),
            ColumnType::SmallInt => (oid::INT2, 2, -1),
            ColumnType::Integer => (oid::INT4, 4, -1),
            ColumnType::BigInt => (oid::INT8, 8, -1),
            ColumnType::Real => (oid::FLOAT4, 4, -1),
            ColumnType::Double => (oid::FLOAT8, 8, -1),
            ColumnType::Numeric { precision, scale } => {
                // PostgreSQL keeps the scale in 11 bits, two's complement.
                let packed = (i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff);
                (oid::NUMERIC, -1, packed + 4)
            }
            ColumnType::Text => (oid::TEXT, -1, -1),
            ColumnType::Varchar(n) => {
                (oid::VARCHAR, -1, i32::try_from(*n).unwrap_or(i32::MAX - 4).saturating_add(4))
            }
            ColumnType::Bytea => (oid::BYTEA, -1, -1),
            ColumnType::Uuid => (oid::UUID, 16, -1),
            ColumnType::Timestamptz => (oid::TIMESTAMPTZ, 8, -1),
            ColumnType::Timestamp => (oid::TIMESTAMP, 8, -1),
            ColumnType::Date => (oid::DATE, 4, -1),
            ColumnType::Time => (oid::TIME, 8, -1),
            ColumnType::Interval => (oid::INTERVAL, 16, -1),
            ColumnType::Jsonb | ColumnType::Map(..) => (oid::JSONB, -1, -1),
            ColumnType::Array(item) => {
                let item = PgType::of(innermost(item));
                return PgType { length: -1, oid: array_of(item.oid), ..item };
            }
        };
        PgType { oid, length, modifier }
    }

    /// The wire type of a result column; 0A000 for Arrow types that have none.
    pub fn of_field(field: &Field) -> Result<PgType, Diagnostic> {
        match field.data_type() {
            DataType::Struct(_) => Ok(PgType { oid: oid::JSON, length: -1, modifier: -1 }),
            DataType::Decimal256(..) => Ok(PgType { oid: oid::NUMERIC, length: -1, modifier: -1 }),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
                if ColumnType::from_field(field).is_none() =>
            {
                let item = PgType::of_field(item)?;
                let oid = if is_array(item.oid) { item.oid } else { array_of(item.oid) };
                Ok(PgType { oid, length: -1, modifier: -1 })
            }
            other => match ColumnType::from_field(field) {
                Some(column) => Ok(PgType::of(&column)),
                None => Err(Diagnostic::unsupported(format!(
                    "column \"{}\" has type {other}, which clients cannot be sent",
                    field.name()
                ))
                .hint("Cast it to text or to another type.")),
            },
        }
    }
}

/// PostgreSQL does not tell arrays of different dimensions apart.
fn innermost(item: &ColumnType) -> &ColumnType {
    match item {
        ColumnType::Array(item) => innermost(item),
        other => other,
    }
}

/// Array type with elements of type `item`; `text[]` for types without an array type.
pub fn array_of(item: u32) -> u32 {
    ARRAYS.iter().find(|(i, _)| *i == item).map_or(1009, |(_, a)| *a)
}

/// Element type of the array type `array`.
pub fn item_of(array: u32) -> Option<u32> {
    ARRAYS.iter().find(|(_, a)| *a == array).map(|(i, _)| *i)
}

fn is_array(oid: u32) -> bool {
    item_of(oid).is_some()
}

/// Column type of a parameter that the client declared with type `oid`; `None` when it left the
/// type to the server. 42704 for types that do not exist here.
pub fn parameter_type(oid: u32) -> Result<Option<ColumnType>, Diagnostic> {
    Ok(Some(match oid {
        0 | oid::UNKNOWN => return Ok(None),
        oid::BOOL => ColumnType::Boolean,
        oid::INT2 => ColumnType::SmallInt,
        oid::INT4 => ColumnType::Integer,
        oid::INT8 | oid::OID => ColumnType::BigInt,
        oid::FLOAT4 => ColumnType::Real,
        oid::FLOAT8 => ColumnType::Double,
        oid::NUMERIC => {
            ColumnType::Numeric { precision: PARAMETER_NUMERIC.0, scale: PARAMETER_NUMERIC.1 }
        }
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR => ColumnType::Text,
        oid::BYTEA => ColumnType::Bytea,
        oid::UUID => ColumnType::Uuid,
        oid::DATE => ColumnType::Date,
        oid::TIME => ColumnType::Time,
        oid::TIMESTAMP => ColumnType::Timestamp,
        oid::TIMESTAMPTZ => ColumnType::Timestamptz,
        oid::INTERVAL => ColumnType::Interval,
        oid::JSON | oid::JSONB => ColumnType::Jsonb,
        other => match item_of(other) {
            Some(item) => match parameter_type(item)? {
                Some(item) => ColumnType::Array(Box::new(item)),
                None => return Ok(None),
            },
            None => {
                return Err(Diagnostic::error(
                    SqlState::UNDEFINED_OBJECT,
                    format!("type with OID {other} does not exist"),
                ));
            }
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_come_back_as_themselves() {
        for oid in [16, 17, 20, 21, 23, 25, 700, 701, 1082, 1083, 1114, 1184, 1186, 2950, 3802] {
            let column = parameter_type(oid).unwrap().unwrap();
            assert_eq!(PgType::of(&column).oid, oid);
            let array = array_of(oid);
            let column = parameter_type(array).unwrap().unwrap();
            assert_eq!(PgType::of(&column).oid, array);
        }
        assert_eq!(parameter_type(0).unwrap(), None);
        assert_eq!(parameter_type(12345).unwrap_err().state, SqlState::UNDEFINED_OBJECT);
    }

    #[test]
    fn modifiers_are_those_of_postgres() {
        let numeric = ColumnType::Numeric { precision: 10, scale: 2 };
        assert_eq!(PgType::of(&numeric).modifier, 655366);
        assert_eq!(PgType::of(&ColumnType::Varchar(7)).modifier, 11);
        let nested = ColumnType::Array(Box::new(ColumnType::Array(Box::new(ColumnType::Integer))));
        assert_eq!(PgType::of(&nested).oid, 1007);
    }
}
