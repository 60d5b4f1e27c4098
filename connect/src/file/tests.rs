//! Tests of the file readers.

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;

use super::{FileKind, FileReader};
use crate::error::{ConnectError, Result};
use crate::event::{Event, Fields};
use crate::rows::RowBuilder;
use crate::survey::Survey;
use crate::time::EPOCH_US;

fn reader(kind: FileKind, bytes: &[u8], event_type: Option<&str>) -> Result<FileReader> {
    let name = match kind {
        FileKind::Csv => "f.csv",
        FileKind::Jsonl => "f.jsonl",
        FileKind::Evt => "f.evt",
    };
    FileReader::new(kind, Box::new(Cursor::new(bytes.to_vec())), Path::new(name), event_type)
}

/// The events as text, one per line: `line: @seconds Type {json}`.
fn check(kind: FileKind, text: &str, event_type: Option<&str>, expected: &[&str]) {
    let events: Result<Vec<Event>> =
        reader(kind, text.as_bytes(), event_type).and_then(std::iter::Iterator::collect);
    let shown: Vec<String> = events.expect("the file is good").iter().map(show).collect();
    assert_eq!(shown, expected, "{text}");
}

fn show(event: &Event) -> String {
    let at = event.at_us.map(|us| format!("@{}ms ", (us - EPOCH_US) / 1000)).unwrap_or_default();
    let fields = match &event.fields {
        Fields::Named(fields) => serde_json::Value::Object(
            fields.iter().map(|(k, v)| (k.to_string(), v.to_json())).collect(),
        ),
        Fields::Positional(values) => {
            serde_json::Value::Array(values.iter().map(crate::Value::to_json).collect())
        }
    };
    format!("{}: {at}{} {fields}", event.place.line, event.event_type)
}

/// The message of the first error.
fn check_error(kind: FileKind, text: &[u8], event_type: Option<&str>, expected: &str) {
    let error = match reader(kind, text, event_type) {
        Err(error) => error,
        Ok(reader) => reader.filter_map(Result::err).next().expect("an error"),
    };
    let shown = format!("{error} {}", error.hint_text().unwrap_or_default());
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn csv_quotes_lines_and_empty_cells() {
    check(
        FileKind::Csv,
        "\u{feff}a,b,c\r\n1,x,\r\n\"2\",\"say \"\"hi\"\",\nthere\",\"\"\n\n,,\n",
        Some("T"),
        &[
            r#"2: T {"a":"1","b":"x","c":null}"#,
            r#"3: T {"a":"2","b":"say \"hi\",\nthere","c":""}"#,
            r#"6: T {"a":null,"b":null,"c":null}"#,
        ],
    );
    check(FileKind::Csv, "a\n\n", Some("T"), &[r#"2: T {"a":null}"#]);
}

#[test]
fn csv_errors_name_the_line() {
    for (text, expected) in [
        (&b"a,b\n1,2\n3\n"[..], "f.csv:3: the row has 1 cells, the header has 2"),
        (b"a,b\n1,\"2\n3\n", "f.csv:2: a quote is opened and never closed"),
        (b"a\n\"1\"x\n", "f.csv:2: text after the closing quote"),
        (b"a\n1\"x\n", "f.csv:2: a quote stands within the cell"),
        (b"a,a\n", "f.csv:1: the header has the column \"a\" twice"),
        (b"a,\n", "f.csv:1: the header has a column without a name"),
        (b"", "f.csv:1: the file is empty"),
        (b"a\n\xff\n", "f.csv:2: the line is not valid UTF-8 at byte 1"),
    ] {
        check_error(FileKind::Csv, text, Some("T"), expected);
    }
    check_error(FileKind::Csv, b"a\n1\n", None, "does not say which event type");
}

#[test]
fn jsonl_fields_and_envelopes() {
    check(
        FileKind::Jsonl,
        concat!(
            "{\"a\": 1, \"b\": [1.5, null]}\n\n",
            "{\"event_type\": \"U\", \"data\": {\"x\": {\"y\": 1}}}\n",
            "{\"type\": \"U\", \"at\": \"5s\", \"fields\": {}}\n",
            "{\"type\": \"U\", \"at\": \"2000-01-01T00:00:07Z\", \"fields\": {}}\n",
            // A field called type does not make an envelope.
            "{\"type\": \"U\", \"x\": 1}\n",
        ),
        Some("T"),
        &[
            r#"1: T {"a":1,"b":[1.5,null]}"#,
            r#"3: U {"x":{"y":1}}"#,
            r#"4: @5000ms U {}"#,
            r#"5: @7000ms U {}"#,
            r#"6: T {"type":"U","x":1}"#,
        ],
    );
    check_error(FileKind::Jsonl, b"{}\n{\"a\"}\n", Some("T"), "f.jsonl:2: the line is not JSON");
    check_error(FileKind::Jsonl, b"[1]\n", Some("T"), "f.jsonl:1: the line is not a JSON object");
    check_error(FileKind::Jsonl, b"{\"a\":1}\n", None, "does not say its event type");
    let bad = b"{\"type\":\"T\",\"at\":\"soon\",\"data\":{}}\n";
    check_error(FileKind::Jsonl, bad, None, "\"at\" is not a time");
}

#[test]
fn evt_offsets_forms_and_comments() {
    check(
        FileKind::Evt,
        r#"# comment
// another
Trade { symbol: "A\n", price: 1.5, ok: true, n: nil, tags: [a b, 'c'], d: {x: 1} };
Trade(1, "x", )  # behind
{"event_type": "Login", "data": {"user": "u"}} // behind
BATCH 2000
Trade {}
@5s Trade { at: 2024-01-01T00:00:00Z, for: 90s }
@1h30m Trade { v: -7 }
@100 Trade { v: 1e3 }
Trade { v: 1 }
@2s {"event_type": "Login", "data": {}}
"#,
        None,
        &[
            r#"3: @0ms Trade {"symbol":"A\n","price":1.5,"ok":true,"n":null,"tags":["a b","c"],"d":{"x":1}}"#,
            r#"4: @0ms Trade [1,"x"]"#,
            r#"5: @0ms Login {"user":"u"}"#,
            r#"7: @2000ms Trade {}"#,
            r#"8: @5000ms Trade {"at":"2024-01-01T00:00:00Z","for":"90s"}"#,
            r#"9: @5400000ms Trade {"v":-7}"#,
            r#"10: @100ms Trade {"v":1000.0}"#,
            r#"11: @2000ms Trade {"v":1}"#,
            r#"12: @2000ms Login {}"#,
        ],
    );
}

#[test]
fn evt_errors_name_the_line() {
    for (text, expected) in [
        ("Trade { a: 1 } Trade {}", "f.evt:1: unexpected text at the end"),
        ("\nTrade { a 1 }", "f.evt:2: expected `:` behind `a`, found `1`"),
        ("Trade { a: 1", "expected `,` or `}`, found the end of the line"),
        ("Trade", "expected `{` or `(` behind `Trade`"),
        ("7", "expected an event type"),
        ("@soon Trade {}", "not a time: \"soon\""),
        ("@-5s Trade {}", "not a time: \"-5s\""),
        ("BATCH", "not a time: \"\""),
        ("BATCH 5 x", "unexpected text"),
        ("T { a: \"x }", "a text is not closed"),
        ("T { a: 1, a: 2 }", "the field `a` is given twice"),
        ("T { a: }", "expected a value, found `}`"),
        ("{\"event_type\": \"T\"", "the line is not JSON"),
    ] {
        check_error(FileKind::Evt, text.as_bytes(), None, expected);
    }
    let deep = format!("T {{ a: {} }}", "[".repeat(40));
    check_error(FileKind::Evt, deep.as_bytes(), None, "nested deeper than 32");
}

/// Columns of type `T` as `name: type`, in VPL's words.
fn columns(kind: FileKind, text: &str) -> Result<Vec<String>> {
    let mut survey = Survey::default();
    survey.add_events(reader(kind, text.as_bytes(), Some("T"))?, Some("T"))?;
    let columns = survey.columns("T").expect("the type occurs")?;
    let optional = |c: &auspex_plan::catalog::Column| if c.not_null { "" } else { "?" };
    Ok(columns
        .iter()
        .map(|c| format!("{}: {}{}", c.name, c.column_type.vpl_name(), optional(c)))
        .collect())
}

#[test]
fn types_are_inferred_from_all_rows() {
    let csv = "i,f,b,t,s,n,z,m\n1,1,true,2013-01-01 10:15:00+00,x,,007,1\n-2,2.5,false,2013-01-02,,,1,a\n";
    assert_eq!(
        columns(FileKind::Csv, csv),
        Ok([
            "i: int",
            "f: float",
            "b: bool",
            "t: timestamp",
            "s: str?",
            "n: str?",
            "z: str",
            "m: str"
        ]
        .map(String::from)
        .to_vec())
    );
    let jsonl = "{\"i\":1,\"l\":[1],\"o\":{\"a\":1}}\n{\"l\":[2.5],\"o\":{\"b\":2},\"t\":\"2013-01-01T00:00:00Z\",\"w\":{\"a\":[1]}}\n";
    assert_eq!(
        columns(FileKind::Jsonl, jsonl),
        Ok(["i: int?", "l: [float]", "o: {str: int}", "t: timestamp?", "w: jsonb?"]
            .map(String::from)
            .to_vec())
    );
}

#[test]
fn a_field_with_two_types_is_not_inferred() {
    let error = columns(FileKind::Jsonl, "{\"v\":1}\n{\"v\":\"x\"}\n").expect_err("conflict");
    assert_eq!(
        error.to_string(),
        "f.jsonl:2: the type of `T.v` is not clear: a str here, an int before"
    );
}

fn rows(text: &str, columns: &str) -> Result<usize, String> {
    let mut survey = Survey::default();
    survey
        .add_events(reader(FileKind::Jsonl, columns.as_bytes(), Some("T")).expect("opens"), None)
        .expect("columns");
    let columns = survey.columns("T").expect("occurs").expect("clear");
    let mut builder = RowBuilder::new("T", &columns);
    let shown = |e: ConnectError| format!("{e} ({})", e.hint_text().unwrap_or_default());
    for event in reader(FileKind::Evt, text.as_bytes(), None).expect("opens") {
        builder.push(event.map_err(shown)?).map_err(shown)?;
    }
    builder.finish().map(|(batch, _)| batch.num_rows()).map_err(shown)
}

#[test]
fn rows_that_do_not_fit_are_refused_with_file_and_line() {
    let columns = "{\"price\": 1.5, \"symbol\": \"A\"}\n";
    assert_eq!(rows("T { symbol: A, price: 2 }\nT(1, B)", columns), Ok(2));
    for (text, expected) in [
        ("T { prise: 1 }", "f.evt:1: `T` has no field `prise` (did you mean `price`?)"),
        ("T { zzzzzz: 1 }", "f.evt:1: `T` has no field `zzzzzz` (its fields are price, symbol)"),
        (
            "\nT { price: 1 }",
            "f.evt:2: `T.symbol` is missing and must not be null (declare it as `symbol: str?` if it may be)",
        ),
        ("T(1, A)\nT { price: x, symbol: A }", "f.evt:2: `T.price`: \"x\" is not a float ()"),
        ("T(1, A, 3)", "f.evt:1: `T` has 2 fields, the event 3 values ()"),
    ] {
        assert_eq!(rows(text, columns), Err(expected.into()), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_file_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in [FileKind::Csv, FileKind::Jsonl, FileKind::Evt] {
            if let Ok(reader) = reader(kind, &bytes, Some("T")) {
                for _ in reader {}
            }
        }
    }

    #[test]
    fn no_near_miss_makes_a_reader_panic(
        text in proptest::collection::vec(
            proptest::sample::select(vec![
                "@5s ", "BATCH ", "T ", "{", "}", "(", ")", "[", "]", ":", ",", "\"", "'", "\\", "\n",
                "a", "é", "1", "-", ".", "e", " ", "\"event_type\":\"T\"", "\"data\":{}", "\r", "9999999999999w",
            ]),
            0..40,
        )
    ) {
        let text = text.concat();
        for kind in [FileKind::Csv, FileKind::Jsonl, FileKind::Evt] {
            let Ok(first) = reader(kind, text.as_bytes(), Some("T")) else { continue };
            let mut survey = Survey::default();
            let _ = survey.add_events(first, Some("T"));
            let all = survey.all_columns();
            let Ok(second) = reader(kind, text.as_bytes(), Some("T")) else { continue };
            for event in second.map_while(Result::ok) {
                if let Some(columns) = all.get(event.event_type.as_ref()) {
                    let mut builder = RowBuilder::new(&event.event_type, columns);
                    if builder.push(event).is_ok() {
                        prop_assert!(builder.finish().is_ok(), "inferred columns hold the file's values");
                    }
                }
            }
        }
    }
}
