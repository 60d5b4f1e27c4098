//! COPY FROM as PostgreSQL 15 answers it. Inputs are pushed whole, byte by byte and in two pieces
//! at every place: the result must be the same.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use auspex_plan::ColumnType;
use proptest::prelude::*;

use super::*;
use crate::copy::{ColumnChoice, Header};
use crate::pg::encode::{Column as Cells, Style};

fn schema(columns: &[(&str, ColumnType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|(name, kind)| kind.field(name, false)).collect::<Vec<_>>(),
    ))
}

/// Rows as PostgreSQL text, `~` for null, or the error with its context.
fn decode(
    options: &CopyOptions,
    columns: &SchemaRef,
    pieces: &[&[u8]],
    batch_rows: usize,
) -> Result<Vec<String>, String> {
    let mut batches = Vec::new();
    let result = Decoder::new(options, columns, batch_rows, Zone::UTC).and_then(|mut decoder| {
        for piece in pieces {
            decoder.push(piece, &mut batches)?;
        }
        decoder.finish(&mut batches)
    });
    if let Err(error) = result {
        let context = error.context("t").unwrap_or_default();
        return Err(format!("{} {} [{context}]", error.state.0, error.message));
    }
    let mut rows = Vec::new();
    for batch in &batches {
        assert!(batch.num_rows() <= batch_rows);
        let cells = Cells::of_batch(batch).unwrap();
        for row in 0..batch.num_rows() {
            let texts: Vec<String> = cells
                .iter()
                .map(|column| {
                    let mut out = bytes::BytesMut::new();
                    if column.is_null(row) {
                        return "~".into();
                    }
                    column.text(row, &Style::default(), &mut out);
                    String::from_utf8(out.to_vec()).unwrap()
                })
                .collect();
            rows.push(texts.join("|"));
        }
    }
    Ok(rows)
}

fn check_bytes(
    options: &CopyOptions,
    columns: &SchemaRef,
    input: &[u8],
    expected: Result<&[&str], &str>,
) {
    let shown = String::from_utf8_lossy(input);
    let expected = expected
        .map(|rows| rows.iter().map(|r| r.to_string()).collect::<Vec<_>>())
        .map_err(str::to_string);
    assert_eq!(decode(options, columns, &[input], 1000), expected, "{shown:?}");
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(decode(options, columns, &bytes, 2), expected, "{shown:?} byte by byte");
    for at in 0..input.len() {
        let (a, b) = input.split_at(at);
        assert_eq!(decode(options, columns, &[a, b], 3), expected, "{shown:?} split at {at}");
    }
}

fn check(
    options: &CopyOptions,
    columns: &[(&str, ColumnType)],
    input: &str,
    expected: Result<&[&str], &str>,
) {
    check_bytes(options, &schema(columns), input.as_bytes(), expected);
}

fn ab() -> [(&'static str, ColumnType); 2] {
    [("a", ColumnType::Integer), ("b", ColumnType::Text)]
}

fn text() -> CopyOptions {
    CopyOptions::of(Format::Text)
}

fn csv() -> CopyOptions {
    CopyOptions::of(Format::Csv)
}

#[test]
fn text_rows() {
    for (input, rows) in [
        ("", &[][..]),
        ("1\tx\n2\ty\n", &["1|x", "2|y"]),
        ("1\tx\n2\ty", &["1|x", "2|y"]),
        ("1\tx\r\n2\ty\r\n", &["1|x", "2|y"]),
        ("1\tx\r2\ty\r", &["1|x", "2|y"]),
        ("\\N\t\\N\n-5\t\n", &["~|~", "-5|"]),
        (" 7 \ta\\tb\\\\c\n", &["7|a\tb\\c"]),
        ("1\ta\\\nb\n", &["1|a\nb"]),
        ("1\tx\n\\.\nignored", &["1|x"]),
        ("1\tx\\.\nignored", &["1|x"]),
        ("\\.\n", &[]),
        ("1\tg\u{fc}n\n2\t\u{20ac}\n", &["1|g\u{fc}n", "2|\u{20ac}"]),
        ("1\t\\x41\\101\\303\\274\n", &["1|AA\u{fc}"]),
    ] {
        check(&text(), &ab(), input, Ok(rows));
    }
}

#[test]
fn csv_rows() {
    for (input, rows) in [
        ("", &[][..]),
        ("1,x\n2,y\n", &["1|x", "2|y"]),
        ("1,x\r\n2,y\r\n3,z", &["1|x", "2|y", "3|z"]),
        ("1,x\r2,y", &["1|x", "2|y"]),
        (",\n1,\"\"\n", &["~|~", "1|"]),
        ("1,\"a,\"\"b\"\"\nc\"\n2,d\n", &["1|a,\"b\"\nc", "2|d"]),
        ("1,\"a\r\nb\"\r\n2,c\r\n", &["1|a\r\nb", "2|c"]),
        ("1,x\n\\.\nignored", &["1|x"]),
        ("1,\\.\n2,\\N\n", &["1|\\.", "2|\\N"]),
        ("\"1\",x\"y\"z\n", &["1|xyz"]),
    ] {
        check(&csv(), &ab(), input, Ok(rows));
    }
}

#[test]
fn options_change_how_rows_are_read() {
    let header = CopyOptions { header: Header::Yes, ..csv() };
    check(&header, &ab(), "anything\n1,x\n", Ok(&["1|x"]));
    check(&header, &ab(), "a,b", Ok(&[]));
    let matching = CopyOptions { header: Header::Match, ..csv() };
    check(&matching, &ab(), "a,\"b\"\n1,x\n", Ok(&["1|x"]));
    check(
        &matching,
        &ab(),
        "a,c\n1,x\n",
        Err("22P04 column name mismatch in header line field 2: got \"c\", expected \"b\" \
             [COPY t, line 1: \"a,c\"]"),
    );
    check(
        &matching,
        &ab(),
        "a\n1,x\n",
        Err("22P04 wrong number of fields in header line: got 1, expected 2 \
             [COPY t, line 1: \"a\"]"),
    );
    let null = CopyOptions { null: "NULL".into(), delimiter: b';', ..csv() };
    check(&null, &ab(), "NULL;NULL\n1;\"NULL\"\n2;\n", Ok(&["~|~", "1|NULL", "2|"]));
    let force = CopyOptions {
        force_null: ColumnChoice::Named(vec!["a".into()]),
        force_not_null: ColumnChoice::Named(vec!["b".into()]),
        ..csv()
    };
    check(&force, &ab(), "\"\",\n1,\"\"\n2,\n", Ok(&["~|", "1|", "2|"]));
    let zero = CopyOptions { null: "0".into(), ..text() };
    check(&zero, &ab(), "0\t0\n1\t00\n", Ok(&["~|~", "1|00"]));
    let quote = CopyOptions { quote: b'\'', escape: b'\\', ..csv() };
    check(&quote, &ab(), "1,'it\\'s\\\\'\n2,\"x\"\n", Ok(&["1|it's\\", "2|\"x\""]));
}

#[test]
fn wrong_rows_are_reported_as_postgresql_reports_them() {
    for (options, input, error) in [
        (
            text(),
            "1\tx\n2y\tz\n",
            "22P02 invalid input syntax for type integer: \"2y\" [COPY t, line 2, column a: \"2y\"]",
        ),
        (text(), "1\tx\n2\n", "22P04 missing data for column \"b\" [COPY t, line 2: \"2\"]"),
        (
            text(),
            "x\n",
            "22P02 invalid input syntax for type integer: \"x\" [COPY t, line 1, column a: \"x\"]",
        ),
        (
            text(),
            "1\tx\ty\n",
            "22P04 extra data after last expected column [COPY t, line 1: \"1\tx\ty\"]",
        ),
        (
            text(),
            "1\tx\n\n",
            "22P02 invalid input syntax for type integer: \"\" [COPY t, line 2, column a: \"\"]",
        ),
        (
            text(),
            "99999999999\tx\n",
            "22003 value \"99999999999\" is out of range for type integer \
             [COPY t, line 1, column a: \"99999999999\"]",
        ),
        (text(), "1\tx\r\n2\ty\n", "22P04 literal newline found in data [COPY t, line 2]"),
        (text(), "1\tx\n2\ty\r\n", "22P04 literal carriage return found in data [COPY t, line 2]"),
        (text(), "1\tx\\.y\n", "22P04 end-of-copy marker corrupt [COPY t, line 1]"),
        (
            text(),
            "1\ta\\377\n",
            "22021 invalid byte sequence for encoding \"UTF8\": 0xff [COPY t, line 1: \"1\ta\\377\"]",
        ),
        (csv(), "1,x\r\n2,y\n", "22P04 unquoted newline found in data [COPY t, line 2]"),
        (csv(), "1,x\n2,y\r\n", "22P04 unquoted carriage return found in data [COPY t, line 2]"),
        (csv(), "1,\"x\ny", "22P04 unterminated CSV quoted field [COPY t, line 1: \"1,\"x\ny\"]"),
        (
            csv(),
            "0,\n1,\"a\nb\"\nx,c\n",
            "22P02 invalid input syntax for type integer: \"x\" [COPY t, line 4, column a: \"x\"]",
        ),
        (
            csv(),
            "\"\",b\n",
            "22P02 invalid input syntax for type integer: \"\" [COPY t, line 1, column a: \"\"]",
        ),
    ] {
        check(&options, &ab(), input, Err(error));
    }
}

#[test]
fn the_first_error_in_the_input_is_reported() {
    let columns = [("a", ColumnType::Text), ("b", ColumnType::Integer), ("c", ColumnType::Double)];
    check(
        &csv(),
        &columns,
        "a,1,1\nb,2,x\nc,y,3\nd,4,4\n",
        Err("22P02 invalid input syntax for type double precision: \"x\" \
             [COPY t, line 2, column c: \"x\"]"),
    );
    check(
        &csv(),
        &columns,
        "a,1,1\nb,y,x\n",
        Err("22P02 invalid input syntax for type integer: \"y\" [COPY t, line 2, column b: \"y\"]"),
    );
    let mut input = b"a,1,1\nb,2,2\nc,x,3\nd\xff,4,4\n".to_vec();
    check_bytes(
        &csv(),
        &schema(&columns),
        &input,
        Err("22P02 invalid input syntax for type integer: \"x\" [COPY t, line 3, column b: \"x\"]"),
    );
    input[14] = b'3';
    check_bytes(
        &csv(),
        &schema(&columns),
        &input,
        Err("22021 invalid byte sequence for encoding \"UTF8\": 0xff [COPY t, line 4]"),
    );
    check_bytes(
        &csv(),
        &schema(&columns),
        b"a,1,1\nb\0,2,2\n",
        Err("22021 invalid byte sequence for encoding \"UTF8\": 0x00 [COPY t, line 2]"),
    );
}

#[test]
fn long_values_are_cut_in_the_context() {
    let long = "y".repeat(300);
    let error = format!(
        "22P02 invalid input syntax for type integer: \"{long}\" [COPY t, line 1, column a: \"{}...\"]",
        &long[..100]
    );
    let got = decode(&csv(), &schema(&ab()), &[format!("{long},x\n").as_bytes()], 10);
    assert_eq!(got, Err(error));
}

/// One text value per type, and what PostgreSQL shows for it.
fn values() -> Vec<(ColumnType, &'static str, &'static str)> {
    use ColumnType::*;
    vec![
        (Boolean, "yes", "t"),
        (SmallInt, "-32768", "-32768"),
        (Integer, "2147483647", "2147483647"),
        (BigInt, "-9223372036854775808", "-9223372036854775808"),
        (Real, "1.1", "1.1"),
        (Double, "0.1e-7", "1e-08"),
        (Double, "123.450", "123.45"),
        (Double, "12345678.12345678", "12345678.12345678"),
        (Double, "0.30000000000000004", "0.30000000000000004"),
        (Double, "-Infinity", "-Infinity"),
        (Double, "NaN", "NaN"),
        (Numeric { precision: 10, scale: 3 }, "12.34", "12.340"),
        (Numeric { precision: 10, scale: 3 }, "-0.0005", "-0.001"),
        (
            Numeric { precision: 38, scale: 0 },
            "12345678901234567890123456789012345678",
            "12345678901234567890123456789012345678",
        ),
        (Text, "more than twelve bytes of text", "more than twelve bytes of text"),
        (Varchar(3), "abc  ", "abc"),
        (Bytea, "\\x00ff", "\\x00ff"),
        (Uuid, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (Timestamptz, "2026-11-20 22:17:43.119047+02", "2026-11-20 20:17:43.119047+00"),
        (Timestamptz, "20261120T221743Z", "2026-11-20 22:17:43+00"),
        (Timestamp, "2026-11-20T22:17:43", "2026-11-20 22:17:43"),
        (Timestamp, "infinity", "infinity"),
        (Date, "2024-02-29", "2024-02-29"),
        (Time, "04:05:06.789", "04:05:06.789"),
        (Interval, "1 day 02:03:04", "1 day 02:03:04"),
        (Jsonb, "{\"b\":1,\"a\":[true,null]}", "{\"a\": [true, null], \"b\": 1}"),
        (Array(Box::new(Integer)), "{1,NULL,3}", "{1,NULL,3}"),
        (Array(Box::new(Text)), "{a,\"b c\"}", "{a,\"b c\"}"),
    ]
}

#[test]
fn every_type_is_read_from_text_and_csv() {
    for (kind, input, shown) in values() {
        let columns = [("a", ColumnType::BigInt), ("v", kind)];
        let quoted = input.replace('"', "\"\"");
        let line = format!("1,\"{quoted}\"\n2,\n");
        check(&csv(), &columns, &line, Ok(&[&format!("1|{shown}"), "2|~"]));
        let escaped = input.replace('\\', "\\\\");
        let line = format!("1\t\\N\n2\t{escaped}\n3\t\\N\n");
        check(&text(), &columns, &line, Ok(&["1|~", &format!("2|{shown}"), "3|~"]));
        let plain = CopyOptions { delimiter: b'|', ..csv() };
        if !input.contains(['"', '\\']) {
            let line = format!("1|{input}\n2|{input}\n");
            let (one, two) = (format!("1|{shown}"), format!("2|{shown}"));
            check(&plain, &columns, &line, Ok(&[&one, &two]));
        }
    }
}

const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut out = BINARY_HEADER.to_vec();
    for row in rows {
        out.extend((row.len() as i16).to_be_bytes());
        for field in *row {
            match field {
                None => out.extend((-1i32).to_be_bytes()),
                Some(bytes) => {
                    out.extend((bytes.len() as i32).to_be_bytes());
                    out.extend_from_slice(bytes);
                }
            }
        }
    }
    out.extend((-1i16).to_be_bytes());
    out
}

#[test]
fn binary_rows() {
    let options = CopyOptions::of(Format::Binary);
    let columns = schema(&ab());
    let rows =
        binary(&[&[Some(&[0, 0, 1, 2]), Some(b"x")], &[None, None], &[Some(&[255; 4]), Some(b"")]]);
    check_bytes(&options, &columns, &rows, Ok(&["258|x", "~|~", "-1|"]));
    check_bytes(&options, &columns, &binary(&[]), Ok(&[]));
    // The trailer may be missing; a header extension is skipped.
    check_bytes(&options, &columns, &rows[..rows.len() - 2], Ok(&["258|x", "~|~", "-1|"]));
    let mut extended = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x03abc".to_vec();
    extended.extend_from_slice(&rows[BINARY_HEADER.len()..]);
    check_bytes(&options, &columns, &extended, Ok(&["258|x", "~|~", "-1|"]));
}

#[test]
fn wrong_binary_is_reported_as_postgresql_reports_it() {
    let options = CopyOptions::of(Format::Binary);
    let good = binary(&[&[Some(&[0, 0, 0, 1]), Some(b"x")]]);
    let with = |tail: &[u8]| {
        let mut bytes = good[..good.len() - 2].to_vec();
        bytes.extend_from_slice(tail);
        bytes
    };
    for (input, error) in [
        (b"".to_vec(), "22P04 COPY file signature not recognized []"),
        (b"PGCOPY\n\xff\r\nx".to_vec(), "22P04 COPY file signature not recognized []"),
        (good[..12].to_vec(), "22P04 invalid COPY file header (missing flags) []"),
        (good[..16].to_vec(), "22P04 invalid COPY file header (missing length) []"),
        (
            b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0".to_vec(),
            "22P04 invalid COPY file header (WITH OIDS) []",
        ),
        (
            b"PGCOPY\n\xff\r\n\0\0\x02\0\0\0\0\0\0".to_vec(),
            "22P04 unrecognized critical flags in COPY file header []",
        ),
        (
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x05ab".to_vec(),
            "22P04 invalid COPY file header (wrong length) []",
        ),
        (with(&[0, 3]), "22P04 row field count is 3, expected 2 [COPY t, line 2]"),
        (with(&[0, 2, 0, 0]), "22P04 unexpected EOF in COPY data [COPY t, line 2, column a]"),
        (
            with(&[0, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0x3f, 0xff, 0xff, 0xff, 1]),
            "54000 a row of COPY exceeds the limit of 256 MB [COPY t, line 2, column b]",
        ),
        (
            with(&[0, 2, 0xff, 0xff, 0xff, 0xfe]),
            "22P04 invalid field size [COPY t, line 2, column a]",
        ),
        (
            with(&[0, 2, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 255, 255]),
            "08P01 insufficient data left in message [COPY t, line 2, column a]",
        ),
        (
            with(&[0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 255, 255]),
            "22P03 incorrect binary data format [COPY t, line 2, column a]",
        ),
        (
            with(&[0, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0xff]),
            "22021 invalid byte sequence for encoding \"UTF8\": 0xff [COPY t, line 2, column b]",
        ),
        (with(&[255, 255, 0]), "22P04 received copy data after EOF marker [COPY t, line 2]"),
    ] {
        check_bytes(&options, &schema(&ab()), &input, Err(error));
    }
}

#[test]
fn rows_larger_than_chunks() {
    let long = "z".repeat(200_000);
    let input = format!("1,{long}\n2,\"{long}\n{long}\"\n3,x\n");
    let expected = vec![format!("1|{long}"), format!("2|{long}\n{long}"), "3|x".to_string()];
    let columns = schema(&ab());
    for size in [1 << 20, 8192, 1000] {
        let pieces: Vec<&[u8]> = input.as_bytes().chunks(size).collect();
        assert_eq!(decode(&csv(), &columns, &pieces, 10), Ok(expected.clone()));
    }
}

/// A plain reading of csv with PostgreSQL's defaults, for comparison.
fn csv_line(fields: &[Option<String>], quote_all: bool) -> String {
    let quoted: Vec<String> = fields
        .iter()
        .map(|field| match field {
            None => String::new(),
            Some(text)
                if quote_all || text.is_empty() || text.contains(['"', ',', '\n', '\r', '\\']) =>
            {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            Some(text) => text.clone(),
        })
        .collect();
    quoted.join(",") + "\n"
}

proptest! {
    #[test]
    fn csv_in_any_pieces_gives_the_rows_written(
        rows in prop::collection::vec((any::<Option<i64>>(), prop::option::of("[a-c\", \n\\\\é]{0,14}"), any::<bool>()), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        batch_rows in 1usize..40,
    ) {
        let columns = schema(&[("n", ColumnType::BigInt), ("s", ColumnType::Text)]);
        let input: String = rows
            .iter()
            .map(|(n, s, all)| csv_line(&[n.map(|n| n.to_string()), s.clone()], *all))
            .collect();
        let mut at: Vec<usize> = cuts.iter().map(|i| i.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|w| &input.as_bytes()[w[0]..w[1]]).collect();
        let expected: Vec<String> = rows
            .iter()
            .map(|(n, s, _)| {
                let n = n.map_or("~".to_string(), |n| n.to_string());
                format!("{n}|{}", s.as_deref().unwrap_or("~"))
            })
            .collect();
        prop_assert_eq!(decode(&csv(), &columns, &pieces, batch_rows), Ok(expected));
    }

    #[test]
    fn no_input_panics(
        input in prop::collection::vec(
            prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(b'\t'), Just(b','), Just(b'"'), Just(b'\\'),
                Just(b'.'), Just(b'1'), Just(b'N'), any::<u8>()
            ], 0..300),
        cut in any::<prop::sample::Index>(),
        header in any::<bool>(),
    ) {
        let columns = schema(&[("n", ColumnType::BigInt), ("s", ColumnType::Text)]);
        let (a, b) = input.split_at(cut.index(input.len() + 1));
        for format in [Format::Text, Format::Csv, Format::Binary, Format::Arrow] {
            let mut options = CopyOptions::of(format);
            if header && matches!(format, Format::Text | Format::Csv) {
                options.header = Header::Match;
            }
            let whole = decode(&options, &columns, &[&input], 7);
            let parts = decode(&options, &columns, &[a, b], 7);
            prop_assert_eq!(whole, parts);
        }
        let mut after_header = BINARY_HEADER.to_vec();
        after_header.extend(&input);
        let _ = decode(&CopyOptions::of(Format::Binary), &columns, &[&after_header], 7);
    }

    /// Byte by byte every line is read alone, in one piece many at once: both must agree, about
    /// rows, errors and their places.
    #[test]
    fn reading_many_lines_at_once_is_reading_each(
        tokens in prop::collection::vec(
            prop_oneof![
                20 => prop::sample::select(vec!["1", "-23", "1,", "7\t", "2,x\n", "3\ty\n", "\n"]),
                10 => prop::sample::select(vec![
                    ",", "\t", "\"", "\"\"", "\\", "\\N", "\\.", "a", "\u{e9}", "\"a\"", "\\t", "\\\n",
                    "5,\"q,\n\"\n", "6\tlong text of many bytes\\\\\n", "\\\\", "8\t\\N\n", "9,\"\"\n",
                ]),
                1 => prop::sample::select(vec!["\r\n", "\r", "\0", "\\.\n"]),
            ], 0..120),
        csv_format in any::<bool>(),
        endings in any::<bool>(),
        batch_rows in 1usize..20,
    ) {
        let input = if endings {
            tokens.concat().replace("\r", "").replace('\n', "\r\n")
        } else {
            tokens.concat()
        };
        let columns = schema(&[("n", ColumnType::BigInt), ("s", ColumnType::Text)]);
        let options = if csv_format { csv() } else { text() };
        let alone: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
        let whole = decode(&options, &columns, &[input.as_bytes()], batch_rows);
        prop_assert_eq!(whole, decode(&options, &columns, &alone, batch_rows), "{:?}", input);
    }
}
