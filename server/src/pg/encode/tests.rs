use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use arrow::record_batch::RecordBatch;
use bytes::BytesMut;

use super::*;

/// Text, hexadecimal binary and JSON of the first cell.
fn shown(array: impl Array + 'static) -> (String, String, String) {
    let array: ArrayRef = Arc::new(array);
    shown_as(array.clone(), &Field::new("c", array.data_type().clone(), true))
}

fn shown_as(array: ArrayRef, field: &Field) -> (String, String, String) {
    let column = Column::new(&array, field).unwrap();
    let style = Style::default();
    let (mut text, mut binary, mut json) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    column.text(0, &style, &mut text);
    column.binary(0, &mut binary);
    column.json_or_null(0, &style, &mut json);
    let string = |bytes: BytesMut| String::from_utf8(bytes.to_vec()).unwrap();
    (string(text), binary.iter().map(|b| format!("{b:02x}")).collect(), string(json))
}

fn check(array: impl Array + 'static, text: &str, binary: &str, json: &str) {
    assert_eq!(shown(array), (text.into(), binary.into(), json.into()));
}

#[test]
fn each_type_is_written_as_postgres_sends_it() {
    check(BooleanArray::from(vec![true]), "t", "01", "true");
    check(Int8Array::from(vec![-1]), "-1", "ffff", "-1");
    check(Int16Array::from(vec![-2]), "-2", "fffe", "-2");
    check(Int32Array::from(vec![7]), "7", "00000007", "7");
    check(Int64Array::from(vec![7]), "7", "0000000000000007", "7");
    check(UInt32Array::from(vec![u32::MAX]), "4294967295", "00000000ffffffff", "4294967295");
    check(UInt64Array::from(vec![10000]), "10000", "00010001000000000001", "10000");
    check(Float32Array::from(vec![1.5]), "1.5", "3fc00000", "1.5");
    check(Float64Array::from(vec![f64::NAN]), "NaN", "7ff8000000000000", "\"NaN\"");
    check(StringArray::from(vec!["a\"b\u{1}"]), "a\"b\u{1}", "61226201", "\"a\\\"b\\u0001\"");
    check(LargeStringArray::from(vec!["é"]), "é", "c3a9", "\"é\"");
    check(BinaryArray::from(vec![&[0u8, 255][..]]), "\\x00ff", "00ff", "\"\\\\x00ff\"");
    check(Date32Array::from(vec![0]), "1970-01-01", "ffffd533", "\"1970-01-01\"");
    check(
        Time64MicrosecondArray::from(vec![1_500_000]),
        "00:00:01.5",
        "000000000016e360",
        "\"00:00:01.5\"",
    );
    check(Time32SecondArray::from(vec![1]), "00:00:01", "00000000000f4240", "\"00:00:01\"");
    check(
        TimestampSecondArray::from(vec![946_684_800]).with_timezone("UTC"),
        "2000-01-01 00:00:00+00",
        "0000000000000000",
        "\"2000-01-01T00:00:00+00:00\"",
    );
    check(
        TimestampNanosecondArray::from(vec![946_684_800_000_001_999]),
        "2000-01-01 00:00:00.000001",
        "0000000000000001",
        "\"2000-01-01T00:00:00.000001\"",
    );
    check(
        IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000_000_000)]),
        "1 mon 2 days 00:00:03",
        "00000000002dc6c00000000200000001",
        "\"1 mon 2 days 00:00:03\"",
    );
    check(
        DurationSecondArray::from(vec![90_000]),
        "1 day 01:00:00",
        "00000000d693a4000000000100000000",
        "\"1 day 01:00:00\"",
    );
    check(
        Decimal128Array::from(vec![-12345]).with_precision_and_scale(7, 2).unwrap(),
        "-123.45",
        "0002000040000002007b1194",
        "-123.45",
    );
    check(
        Decimal256Array::from(vec![i256::from(5)]).with_precision_and_scale(40, 1).unwrap(),
        "0.5",
        "0001ffff000000011388",
        "0.5",
    );
    let uuid = FixedSizeBinaryArray::try_from_iter([[0xabu8; 16]].iter()).unwrap();
    check(
        uuid,
        "abababab-abab-abab-abab-abababababab",
        &"ab".repeat(16),
        "\"abababab-abab-abab-abab-abababababab\"",
    );
    let dictionary: DictionaryArray<Int32Type> = vec!["x"].into_iter().collect();
    check(dictionary, "x", "78", "\"x\"");
}

#[test]
fn arrays_quote_what_needs_it() {
    let mut builder = ListBuilder::new(StringViewBuilder::new());
    for item in ["a", "", "null", "a b", "q\"\\", "{}"] {
        builder.values().append_value(item);
    }
    builder.values().append_null();
    builder.append(true);
    let (text, _, json) = shown(builder.finish());
    assert_eq!(text, r#"{a,"","null","a b","q\"\\","{}",NULL}"#);
    assert_eq!(json, r#"["a","","null","a b","q\"\\","{}",null]"#);

    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
    let (text, binary, _) = shown(list);
    assert_eq!(text, "{1,NULL}");
    assert_eq!(
        binary,
        "00000001\
         00000001\
         00000017\
         0000000200000001\
         0000000400000001\
         ffffffff"
            .replace(' ', "")
    );
    let empty = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([])]);
    assert_eq!(shown(empty), ("{}".into(), "000000000000000000000017".into(), "[]".into()));
}

#[test]
fn nested_arrays_are_dimensions() {
    let mut builder = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
    builder.values().append_value([Some(1), Some(2)]);
    builder.values().append_value([Some(3), Some(4)]);
    builder.append(true);
    let list = builder.finish();
    let field = Field::new("c", list.data_type().clone(), true);
    assert_eq!(PgType::of_field(&field).unwrap().oid, 1016);
    assert_eq!(shown(list).0, "{{1,2},{3,4}}");
    assert_eq!(check_binary(&field).unwrap_err().state, SqlState::FEATURE_NOT_SUPPORTED);
}

#[test]
fn structs_and_maps_are_json() {
    let fields = Fields::from(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec![None::<&str>]))];
    check(
        StructArray::new(fields, columns, None),
        "{\"a\":1,\"b\":null}",
        &hex("{\"a\":1,\"b\":null}"),
        "{\"a\":1,\"b\":null}",
    );

    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    builder.keys().append_value("k");
    builder.values().append_value(5);
    builder.append(true).unwrap();
    let (text, binary, _) = shown(builder.finish());
    assert_eq!(text, "{\"k\": 5}");
    assert_eq!(binary, format!("01{}", hex("{\"k\": 5}")));
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn jsonb_has_a_version_byte_and_is_not_quoted_again() {
    let field = ColumnType::Jsonb.field("c", true);
    let array: ArrayRef = Arc::new(StringViewArray::from(vec!["{\"a\": 1}"]));
    let (text, binary, json) = shown_as(array, &field);
    assert_eq!(text, "{\"a\": 1}");
    assert_eq!(binary, format!("01{}", hex("{\"a\": 1}")));
    assert_eq!(json, "{\"a\": 1}");
}

#[test]
fn timestamptz_follows_the_session_zone() {
    let array: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1_690_000_000_000_000]).with_timezone("UTC"));
    let column = Column::new(&array, &ColumnType::Timestamptz.field("c", true)).unwrap();
    for (zone, expected) in [
        ("Europe/Berlin", "2023-07-22 06:26:40+02"),
        ("Asia/Kolkata", "2023-07-22 09:56:40+05:30"),
        ("-08", "2023-07-21 20:26:40-08"),
    ] {
        let style = Style { zone: Zone::parse(zone).unwrap(), ..Style::default() };
        let mut out = BytesMut::new();
        column.text(0, &style, &mut out);
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn payload_ends_with_the_offset() {
    let schema = Schema::new(vec![
        Field::new("sym\"bol", DataType::Utf8View, true),
        Field::new("price", DataType::Float64, true),
    ]);
    let batch = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(StringViewArray::from(vec![Some("A"), None])),
            Arc::new(Float64Array::from(vec![1.5, f64::INFINITY])),
        ],
    )
    .unwrap();
    let rows = JsonRows::new(&batch).unwrap();
    let mut out = BytesMut::new();
    rows.write(0, Some(41), &Style::default(), &mut out);
    rows.write(1, None, &Style::default(), &mut out);
    assert_eq!(
        out,
        r#"{"sym\"bol":"A","price":1.5,"_offset":41}{"sym\"bol":null,"price":"Infinity"}"#
            .as_bytes()
    );
}
