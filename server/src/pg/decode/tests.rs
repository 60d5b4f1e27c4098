use super::*;
use crate::pg::encode::{Column, Style};
use crate::pg::types::PgType;
use bytes::BytesMut;
use proptest::prelude::*;

fn column(name: &str) -> ColumnType {
    let item = |name: &str| Box::new(column(name));
    match name {
        "bool" => ColumnType::Boolean,
        "int2" => ColumnType::SmallInt,
        "int4" => ColumnType::Integer,
        "int8" => ColumnType::BigInt,
        "float4" => ColumnType::Real,
        "float8" => ColumnType::Double,
        "numeric" => ColumnType::Numeric { precision: 10, scale: 2 },
        "text" => ColumnType::Text,
        "varchar" => ColumnType::Varchar(3),
        "bytea" => ColumnType::Bytea,
        "uuid" => ColumnType::Uuid,
        "timestamptz" => ColumnType::Timestamptz,
        "timestamp" => ColumnType::Timestamp,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time,
        "interval" => ColumnType::Interval,
        "jsonb" => ColumnType::Jsonb,
        "int4[]" => ColumnType::Array(item("int4")),
        "int4[][]" => ColumnType::Array(item("int4[]")),
        "text[]" => ColumnType::Array(item("text")),
        "varchar[]" => ColumnType::Array(item("varchar")),
        "map" => ColumnType::Map(item("text"), item("int8")),
        other => panic!("no type {other}"),
    }
}

/// Reads `input` and shows it again, as PostgreSQL's `select 'input'::type` does; errors as
/// `SQLSTATE message`. The binary form of every value must read back as the same value.
fn shown(name: &str, input: &str) -> String {
    let ty = column(name);
    let value = match text(&ty, input, Zone::UTC) {
        Ok(value) => value,
        Err(error) => return format!("{} {}", error.state.0, error.message),
    };
    let array = value.to_array().unwrap();
    assert_eq!(array.data_type(), &ty.arrow());
    let cells = Column::new(&array, &ty.field("c", true)).unwrap();
    let mut out = BytesMut::new();
    cells.text(0, &Style::default(), &mut out);
    if !matches!(&ty, ColumnType::Array(item) if matches!(**item, ColumnType::Array(_))) {
        let mut bytes = BytesMut::new();
        cells.binary(0, &mut bytes);
        let wire = PgType::of(&ty).oid;
        assert_eq!(binary(&ty, wire, &bytes).unwrap(), value, "{name} {input}");
    }
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn values_are_read_as_postgres_reads_them() {
    for (name, input, expected) in [
        ("bool", " TRU ", "t"),
        ("bool", "of", "f"),
        ("bool", "o", "22P02 invalid input syntax for type boolean: \"o\""),
        ("int2", " -32768 ", "-32768"),
        ("int2", "32768", "22003 value \"32768\" is out of range for type smallint"),
        ("int4", "1.0", "22P02 invalid input syntax for type integer: \"1.0\""),
        ("int4", "", "22P02 invalid input syntax for type integer: \"\""),
        ("int8", "-9223372036854775808", "-9223372036854775808"),
        (
            "int8",
            "9223372036854775808",
            "22003 value \"9223372036854775808\" is out of range for type bigint",
        ),
        ("float8", "1e5", "100000"),
        ("float8", "-Inf", "-Infinity"),
        ("float8", "1e400", "22003 \"1e400\" is out of range for type double precision"),
        ("float8", "1e-400", "22003 \"1e-400\" is out of range for type double precision"),
        ("float8", "x", "22P02 invalid input syntax for type double precision: \"x\""),
        ("float4", "0.1", "0.1"),
        ("numeric", "1.005", "1.01"),
        ("numeric", "-0.005", "-0.01"),
        ("numeric", "1e3", "1000.00"),
        ("numeric", ".5", "0.50"),
        ("numeric", "99999999.994", "99999999.99"),
        ("numeric", "99999999.995", "22003 numeric field overflow"),
        ("numeric", "1..2", "22P02 invalid input syntax for type numeric: \"1..2\""),
        ("numeric", "NaN", "0A000 numeric value NaN cannot be stored"),
        ("text", "", ""),
        ("varchar", "abc  ", "abc"),
        ("varchar", "abcd", "22001 value too long for type character varying(3)"),
        ("bytea", "\\x00Ff", "\\x00ff"),
        ("bytea", "a\\\\b\\001", "\\x615c6201"),
        ("bytea", "\\x0", "22P02 invalid hexadecimal data: odd number of digits"),
        ("uuid", "{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("uuid", "a0ee", "22P02 invalid input syntax for type uuid: \"a0ee\""),
    ] {
        assert_eq!(shown(name, input), expected, "{name} {input}");
    }
}

#[test]
fn times_are_read_as_postgres_reads_them() {
    for (name, input, expected) in [
        ("date", "2024-02-29", "2024-02-29"),
        ("date", "20240229", "2024-02-29"),
        ("date", "2/29/2024", "2024-02-29"),
        ("date", "Feb 29, 2024", "2024-02-29"),
        ("date", "29-Feb-2024", "2024-02-29"),
        ("date", "0044-03-15 BC", "0044-03-15 BC"),
        ("date", "infinity", "infinity"),
        ("date", "2023-02-29", "22008 date/time field value out of range: \"2023-02-29\""),
        ("date", "today-ish", "22007 invalid input syntax for type date: \"today-ish\""),
        ("time", "04:05", "04:05:00"),
        ("time", "04:05:06.7891239", "04:05:06.789124"),
        ("time", "12:30 AM", "00:30:00"),
        ("time", "1:30 pm", "13:30:00"),
        ("time", "24:00:00", "24:00:00"),
        ("time", "25:00", "22008 date/time field value out of range: \"25:00\""),
        ("timestamp", "2024-01-02 03:04:05.5+07", "2024-01-02 03:04:05.5"),
        ("timestamp", "2024-01-02", "2024-01-02 00:00:00"),
        ("timestamp", "20240102T030405", "2024-01-02 03:04:05"),
        ("timestamp", "Tue Jan 02 03:04:05 2024", "2024-01-02 03:04:05"),
        ("timestamptz", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00"),
        ("timestamptz", "2024-01-02 03:04:05-08:30", "2024-01-02 11:34:05+00"),
        ("timestamptz", "2024-07-02 03:04:05 Europe/Berlin", "2024-07-02 01:04:05+00"),
        ("timestamptz", "2024-07-02 03:04:05 PDT", "2024-07-02 10:04:05+00"),
        ("timestamptz", "1969-12-31 23:59:59.999999+00", "1969-12-31 23:59:59.999999+00"),
        ("timestamptz", "-infinity", "-infinity"),
        ("timestamptz", "epoch", "1970-01-01 00:00:00+00"),
        ("timestamptz", "", "22007 invalid input syntax for type timestamp with time zone: \"\""),
        ("interval", "1 year 2 mons -3 days 04:05:06.789", "1 year 2 mons -3 days +04:05:06.789"),
        ("interval", "1h30m", "01:30:00"),
        ("interval", "90", "00:01:30"),
        ("interval", "5 min ago", "-00:05:00"),
        ("interval", "1.5 months", "1 mon 15 days"),
        ("interval", "1.5 days", "1 day 12:00:00"),
        ("interval", "2 weeks", "14 days"),
        ("interval", "1-2", "1 year 2 mons"),
        ("interval", "3 4:05", "3 days 04:05:00"),
        ("interval", "-1:30", "-01:30:00"),
        ("interval", "P1Y2M3DT4H5M6.5S", "1 year 2 mons 3 days 04:05:06.5"),
        ("interval", "PT", "22007 invalid input syntax for type interval: \"PT\""),
        ("interval", "1 parsec", "22007 invalid input syntax for type interval: \"1 parsec\""),
        (
            "interval",
            "99999999999 years",
            "22015 interval field value out of range: \"99999999999 years\"",
        ),
    ] {
        assert_eq!(shown(name, input), expected, "{name} {input}");
    }
}

#[test]
fn composed_values_are_read_as_postgres_reads_them() {
    for (name, input, expected) in [
        ("int4[]", "{1, 2 ,NULL}", "{1,2,NULL}"),
        ("int4[]", "{}", "{}"),
        ("int4[]", "[0:1]={1,2}", "{1,2}"),
        ("int4[]", "{1,}", "22P02 malformed array literal: \"{1,}\""),
        ("int4[]", "{1}x", "22P02 malformed array literal: \"{1}x\""),
        ("int4[]", "1", "22P02 malformed array literal: \"1\""),
        ("int4[]", "{a}", "22P02 invalid input syntax for type integer: \"a\""),
        ("int4[]", "{{1}}", "22P02 malformed array literal: \"{{1}}\""),
        ("int4[][]", "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
        ("text[]", r#"{ a b ,"c,d","",\N,"NULL",x\ }"#, r#"{"a b","c,d","",N,"NULL","x "}"#),
        ("varchar[]", "{abc}", "{abc}"),
        (
            "jsonb",
            r#" {"bb":1,"a":[1.50,1e2,null],"a":{"x":"\u00e9"}} "#,
            r#"{"a": {"x": "é"}, "bb": 1}"#,
        ),
        ("jsonb", "-0.0", "0.0"),
        ("jsonb", "1.5e-3", "0.0015"),
        ("jsonb", "[true,false]", "[true, false]"),
        ("jsonb", "{\"a\":}", "22P02 invalid input syntax for type json"),
        ("jsonb", "01", "22P02 invalid input syntax for type json"),
        ("jsonb", "\"\\ud83d\\ude00\"", "\"😀\""),
        ("jsonb", "\"\\ud83d\"", "22P02 invalid input syntax for type json"),
        ("map", r#"{"a":1,"b":null}"#, r#"{"a": 1, "b": null}"#),
        ("map", "[]", "22P02 invalid input syntax for type jsonb: \"[]\""),
    ] {
        assert_eq!(shown(name, input), expected, "{name} {input}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(shown("jsonb", &deep).split(' ').next(), Some("54001"));
}

#[test]
fn binary_refuses_what_does_not_fit() {
    for (name, bytes) in [
        ("int4", &[0u8, 0, 1][..]),
        ("int8", &[0; 4]),
        ("float8", &[]),
        ("uuid", &[0; 15]),
        ("numeric", &[0, 1, 0, 0, 0, 0, 0, 0]),
        ("numeric", &[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("jsonb", &[]),
        ("jsonb", &[2, b'1']),
        ("int4[]", &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]),
        ("interval", &[0; 8]),
    ] {
        let ty = column(name);
        let error = binary(&ty, PgType::of(&ty).oid, bytes).unwrap_err();
        assert_eq!(error.state, SqlState::INVALID_BINARY_REPRESENTATION, "{name} {bytes:?}");
    }
    let error = binary(&ColumnType::Text, 25, &[b'a', 0xff]).unwrap_err();
    assert_eq!(error.message, "invalid byte sequence for encoding \"UTF8\": 0xff");
    let oid = binary(&ColumnType::BigInt, 26, &[0xff; 4]).unwrap();
    assert_eq!(oid, ScalarValue::Int64(Some(4_294_967_295)));
}

const NAMES: [&str; 22] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
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
    "int4[]",
    "int4[][]",
    "text[]",
    "varchar[]",
    "map",
];

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(input in "\\PC{0,24}", at in 0..NAMES.len()) {
        let _ = text(&column(NAMES[at]), &input, Zone::UTC);
    }

    #[test]
    fn no_digits_and_signs_make_a_reader_panic(
        input in "[-+:./ 0-9eTZPYMDHSW{}\",adgosmn]{0,30}",
        at in 0..NAMES.len(),
    ) {
        let _ = text(&column(NAMES[at]), &input, Zone::UTC);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        input in proptest::collection::vec(any::<u8>(), 0..40),
        at in 0..NAMES.len(),
        wire in 0u32..4000,
    ) {
        let _ = binary(&column(NAMES[at]), wire, &input);
    }

    #[test]
    fn what_is_shown_is_read_back(
        int in any::<i64>(),
        double in any::<f64>(),
        single in any::<f32>(),
        us in -200_000_000_000_000_000i64..200_000_000_000_000_000,
        months in any::<i32>(),
        days in any::<i32>(),
        time in -9_000_000_000_000_000i64..9_000_000_000_000_000,
    ) {
        let values = [
            ("int8", ScalarValue::Int64(Some(int))),
            ("float8", ScalarValue::Float64(Some(double))),
            ("float4", ScalarValue::Float32(Some(single))),
            ("timestamptz", ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()))),
            ("timestamp", ScalarValue::TimestampMicrosecond(Some(us), None)),
            ("interval", ScalarValue::IntervalMonthDayNano(Some(
                arrow::datatypes::IntervalMonthDayNano::new(months, days, time * 1000)))),
        ];
        for (name, value) in values {
            let ty = column(name);
            let zone = Zone::parse("Asia/Kolkata").unwrap();
            let style = Style { zone, ..Style::default() };
            let array = value.to_array().unwrap();
            let cells = Column::new(&array, &ty.field("c", true)).unwrap();
            let mut out = BytesMut::new();
            cells.text(0, &style, &mut out);
            let shown = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(text(&ty, shown, zone).unwrap(), value, "{} {}", name, shown);
        }
    }
}
