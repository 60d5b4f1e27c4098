//! COPY TO as PostgreSQL 15 writes it, and the way back through the decoder.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, LargeStringArray, ListArray, StringArray, StringViewArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{Int32Type, IntervalMonthDayNano, Schema};
use arrow::ipc::writer::StreamWriter;
use auspex_plan::ColumnType;
use proptest::prelude::*;

use super::*;
use crate::copy::decode::Decoder;
use crate::copy::{ColumnChoice, Header};
use crate::pg::zone::Zone;

/// Payloads of the messages that a batch becomes.
fn messages(options: &CopyOptions, batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(options, &batches[0].schema(), Style::default()).unwrap();
    let mut out = BytesMut::new();
    encoder.header(&mut out).unwrap();
    for batch in batches {
        encoder.batch(batch, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    let mut messages = Vec::new();
    let mut rest = &out[..];
    while !rest.is_empty() {
        assert_eq!(rest[0], b'd');
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        messages.push(rest[5..1 + length].to_vec());
        rest = &rest[1 + length..];
    }
    messages
}

fn batch(columns: Vec<(&str, ColumnType, ArrayRef)>) -> RecordBatch {
    let fields: Vec<_> = columns.iter().map(|(name, kind, _)| kind.field(name, true)).collect();
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringViewArray::from_iter(values.iter().copied()))
}

fn check(options: &CopyOptions, values: &[Option<&str>], expected: &[&str]) {
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(1..=values.len() as i32));
    let rows =
        batch(vec![("n,o", ColumnType::Integer, numbers), ("s", ColumnType::Text, texts(values))]);
    let got: Vec<String> =
        messages(options, &[rows]).into_iter().map(|m| String::from_utf8(m).unwrap()).collect();
    assert_eq!(got, expected, "{options:?}");
}

#[test]
fn text_is_escaped_as_postgresql_does() {
    let text = CopyOptions::of(Format::Text);
    check(
        &text,
        &[Some("a\tb\\c\nd\re\x08\x0c\x0b\x01"), None, Some(""), Some("\\N")],
        &["1\ta\\tb\\\\c\\nd\\re\\b\\f\\v\x01\n", "2\t\\N\n", "3\t\n", "4\t\\\\N\n"],
    );
    let header = CopyOptions { header: Header::Yes, delimiter: b',', ..text };
    check(&header, &[Some("a,b\t")], &["n\\,o,s\n", "1,a\\,b\\t\n"]);
}

#[test]
fn csv_is_quoted_as_postgresql_does() {
    let csv = CopyOptions::of(Format::Csv);
    check(
        &csv,
        &[Some("a,b"), None, Some(""), Some("x\"y"), Some("l\nm"), Some("\\."), Some(" p ")],
        &[
            "1,\"a,b\"\n",
            "2,\n",
            "3,\"\"\n",
            "4,\"x\"\"y\"\n",
            "5,\"l\nm\"\n",
            "6,\\.\n",
            "7, p \n",
        ],
    );
    let forced = CopyOptions {
        header: Header::Yes,
        force_quote: ColumnChoice::All,
        null: "NULL".into(),
        escape: b'\\',
        ..csv
    };
    check(
        &forced,
        &[Some("a\"b\\"), None, Some("NULL")],
        &["\"n,o\",s\n", "\"1\",\"a\\\"b\\\\\"\n", "\"2\",NULL\n", "\"3\",\"NULL\"\n"],
    );
    let null = CopyOptions { force_quote: ColumnChoice::None, null: "1".into(), ..forced };
    check(&null, &[None], &["\"n,o\",s\n", "\"1\",1\n"]);
    let one = batch(vec![("s", ColumnType::Text, texts(&[Some("\\.")]))]);
    assert_eq!(messages(&CopyOptions::of(Format::Csv), &[one]), [b"\"\\.\"\n".to_vec()]);
}

#[test]
fn the_binary_header_shares_the_message_of_the_first_row() {
    let binary = CopyOptions::of(Format::Binary);
    let rows = batch(vec![("s", ColumnType::Text, texts(&[Some("ab"), None]))]);
    let mut first = BINARY_HEADER.to_vec();
    first.extend(b"\0\x01\0\0\0\x02ab");
    assert_eq!(
        messages(&binary, std::slice::from_ref(&rows)),
        [first, b"\0\x01\xff\xff\xff\xff".to_vec(), b"\xff\xff".to_vec()]
    );
    let mut only = BINARY_HEADER.to_vec();
    only.extend(b"\xff\xff");
    assert_eq!(messages(&binary, &[rows.slice(0, 0)]), [only]);
}

#[test]
fn force_quote_needs_a_column_of_the_copy() {
    let options = CopyOptions {
        force_quote: ColumnChoice::Named(vec!["x".into()]),
        ..CopyOptions::of(Format::Csv)
    };
    let rows = batch(vec![("s", ColumnType::Text, texts(&[None]))]);
    let error = Encoder::new(&options, &rows.schema(), Style::default()).err().unwrap();
    assert_eq!(error.message, "FORCE_QUOTE column \"x\" not referenced by COPY");
}

/// Feeds `bytes` in pieces that end at `cuts`.
fn decode(
    options: &CopyOptions,
    rows: &RecordBatch,
    bytes: &[u8],
    cuts: &[prop::sample::Index],
    batch_rows: usize,
) -> Result<RecordBatch, CopyError> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    let mut out = Vec::new();
    let mut decoder = Decoder::new(options, &rows.schema(), batch_rows, Zone::UTC)?;
    for piece in at.windows(2) {
        decoder.push(&bytes[piece[0]..piece[1]], &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(arrow::compute::concat_batches(&rows.schema(), &out).unwrap())
}

/// Rows of all column types, from seeds.
fn all_types(seeds: &[(i64, f64, String, bool)]) -> RecordBatch {
    use ColumnType::*;
    fn each<T>(
        seeds: &[(i64, f64, String, bool)],
        salt: i64,
        make: impl Fn(i64, f64, &str) -> T,
    ) -> Vec<Option<T>> {
        seeds
            .iter()
            .map(|(n, f, s, _)| (n.wrapping_add(salt) % 7 != 0).then(|| make(*n, *f, s)))
            .collect()
    }
    // Microseconds of the years 1 to 9999.
    let us = |n: i64| n.rem_euclid(315_000_000_000_000_000) - 62_000_000_000_000_000;
    let interval = |n: i64| {
        IntervalMonthDayNano::new(
            n as i32 % 1000,
            (n >> 16) as i32 % 1000,
            n % 1_000_000_000 * 1000,
        )
    };
    let lists = each(seeds, 17, |n, _, s| {
        vec![Some(s.to_string()), None, Some(n.to_string())][..n.rem_euclid(4).min(3) as usize]
            .to_vec()
    });
    let mut list = arrow::array::ListBuilder::new(arrow::array::StringViewBuilder::new())
        .with_field(Text.field("item", true));
    for value in lists {
        list.append_option(value);
    }
    let list: ListArray = list.finish();
    batch(vec![
        ("bool", Boolean, Arc::new(BooleanArray::from(each(seeds, 1, |n, _, _| n % 2 == 0)))),
        ("int2", SmallInt, Arc::new(Int16Array::from(each(seeds, 2, |n, _, _| n as i16)))),
        ("int4", Integer, Arc::new(Int32Array::from(each(seeds, 3, |n, _, _| n as i32)))),
        ("int8", BigInt, Arc::new(Int64Array::from(each(seeds, 4, |n, _, _| n)))),
        ("real", Real, Arc::new(Float32Array::from(each(seeds, 5, |_, f, _| f as f32)))),
        ("double", Double, Arc::new(Float64Array::from(each(seeds, 6, |_, f, _| f)))),
        (
            "numeric",
            Numeric { precision: 25, scale: 4 },
            Arc::new(
                Decimal128Array::from(each(seeds, 7, |n, _, _| i128::from(n)))
                    .with_precision_and_scale(25, 4)
                    .unwrap(),
            ),
        ),
        (
            "text",
            Text,
            Arc::new(StringViewArray::from_iter(each(seeds, 8, |_, _, s| s.to_string()))),
        ),
        (
            "bytea",
            Bytea,
            Arc::new(BinaryArray::from_iter(each(seeds, 9, |n, _, _| n.to_be_bytes().to_vec()))),
        ),
        (
            "uuid",
            Uuid,
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    each(seeds, 10, |n, _, _| (n as i128 * 12_345).to_be_bytes()).into_iter(),
                    16,
                )
                .unwrap(),
            ),
        ),
        (
            "timestamptz",
            Timestamptz,
            Arc::new(
                TimestampMicrosecondArray::from(each(seeds, 11, |n, _, _| us(n)))
                    .with_timezone("UTC"),
            ),
        ),
        (
            "timestamp",
            Timestamp,
            Arc::new(TimestampMicrosecondArray::from(each(seeds, 12, |n, _, _| us(n)))),
        ),
        (
            "date",
            Date,
            Arc::new(Date32Array::from(each(seeds, 13, |n, _, _| (us(n) / 86_400_000_000) as i32))),
        ),
        (
            "time",
            Time,
            Arc::new(Time64MicrosecondArray::from(each(seeds, 14, |n, _, _| {
                n.rem_euclid(86_400_000_000)
            }))),
        ),
        (
            "interval",
            Interval,
            Arc::new(IntervalMonthDayNanoArray::from(each(seeds, 15, |n, _, _| interval(n)))),
        ),
        (
            "jsonb",
            Jsonb,
            Arc::new(StringViewArray::from_iter(each(seeds, 16, |n, _, _| {
                format!("{{\"n\": {n}}}")
            }))),
        ),
        ("list", Array(Box::new(Text)), Arc::new(list)),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(
        seeds in prop::collection::vec(
            (any::<i64>(), any::<f64>(), "[a-z,\"\\\\ \t\n\r{}é€]{0,20}", any::<bool>()), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        batch_rows in 1usize..50,
        split in any::<prop::sample::Index>(),
    ) {
        let rows = all_types(&seeds);
        let at = split.index(rows.num_rows());
        let parts = [rows.slice(0, at), rows.slice(at, rows.num_rows() - at)];
        let csv = CopyOptions::of(Format::Csv);
        let others = [
            CopyOptions::of(Format::Text),
            CopyOptions { delimiter: b'|', null: "nil".into(), ..CopyOptions::of(Format::Text) },
            CopyOptions { header: Header::Match, ..csv.clone() },
            CopyOptions { escape: b'\\', quote: b'\'', delimiter: b' ', ..csv.clone() },
            csv,
            CopyOptions::of(Format::Binary),
            CopyOptions::of(Format::Arrow),
        ];
        for options in others {
            let bytes = messages(&options, &parts).concat();
            let back = decode(&options, &rows, &bytes, &cuts, batch_rows).unwrap();
            for (at, column) in back.columns().iter().enumerate() {
                prop_assert_eq!(column, rows.column(at), "{:?} {}", options.format, rows.schema().field(at));
            }
        }
    }

    #[test]
    fn a_damaged_arrow_stream_does_not_panic(
        seeds in prop::collection::vec((any::<i64>(), any::<f64>(), "[a-z]{0,20}", any::<bool>()), 1..20),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let rows = all_types(&seeds);
        let options = CopyOptions::of(Format::Arrow);
        let mut bytes = messages(&options, std::slice::from_ref(&rows)).concat();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&options, &rows, &bytes, &[cut], 10);
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&options, &rows, &bytes, &[], 10);
    }
}

fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn arrow_columns_are_matched_by_name_and_converted() {
    let target = batch(vec![
        ("s", ColumnType::Text, texts(&[Some("x"), Some("a text of more than twelve bytes")])),
        ("n", ColumnType::BigInt, Arc::new(Int64Array::from(vec![1, 2]))),
        ("d", ColumnType::Text, texts(&[Some("b"), Some("a")])),
        (
            "t",
            ColumnType::Timestamptz,
            Arc::new(TimestampMicrosecondArray::from(vec![1000, 2000]).with_timezone("UTC")),
        ),
    ]);
    let dictionary: DictionaryArray<Int32Type> = ["b", "a"].into_iter().collect();
    let long = LargeStringArray::from(vec!["x", "a text of more than twelve bytes"]);
    let bytes = stream(vec![
        ("n", Arc::new(Int32Array::from(vec![1, 2]))),
        ("d", Arc::new(dictionary)),
        ("t", Arc::new(TimestampMillisecondArray::from(vec![1, 2]).with_timezone("UTC"))),
        ("s", Arc::new(long)),
    ]);
    let back = decode(&CopyOptions::of(Format::Arrow), &target, &bytes, &[], 10).unwrap();
    assert_eq!(back, target);
    // The marker at the end may be missing.
    let cut = &bytes[..bytes.len() - 8];
    assert_eq!(decode(&CopyOptions::of(Format::Arrow), &target, cut, &[], 10).unwrap(), target);
}

#[test]
fn arrow_streams_that_do_not_fit_are_refused() {
    let target = batch(vec![
        ("s", ColumnType::Varchar(3), texts(&[None])),
        ("n", ColumnType::SmallInt, Arc::new(Int16Array::from(vec![1]))),
    ]);
    let s = || -> ArrayRef { Arc::new(StringArray::from(vec!["abc", "abcd"])) };
    let n = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    for (columns, state, message) in [
        (vec![("s", s())], "22P04", "the Arrow stream has no column \"n\""),
        (
            vec![("s", s()), ("n", floats)],
            "42804",
            "column \"n\" is of type smallint but the Arrow stream has Float64",
        ),
        (
            vec![("s", s()), ("n", n(vec![1, 2])), ("x", s())],
            "22P04",
            "the Arrow stream has column \"x\", which is not in the column list",
        ),
        (
            vec![("s", s()), ("n", n(vec![1, 2]))],
            "22001",
            "value too long for type character varying(3)",
        ),
        (
            vec![("s", s()), ("n", n(vec![1, 40_000]))],
            "22001",
            "value too long for type character varying(3)",
        ),
    ] {
        let error = decode(&CopyOptions::of(Format::Arrow), &target, &stream(columns), &[], 10)
            .unwrap_err();
        assert_eq!((error.state.0, error.message.as_str()), (state, message));
    }
    let text = batch(vec![("s", ColumnType::Text, texts(&[None]))]);
    let nul: ArrayRef = Arc::new(StringArray::from(vec!["abc", "a\0c"]));
    let error = decode(&CopyOptions::of(Format::Arrow), &text, &stream(vec![("s", nul)]), &[], 10)
        .unwrap_err();
    assert_eq!(
        (error.context("t").as_deref(), error.message.as_str()),
        (Some("COPY t, line 2, column s"), "invalid byte sequence for encoding \"UTF8\": 0x00")
    );
    let bytes = stream(vec![("s", s()), ("n", n(vec![1, 2]))]);
    for end in [0, 3, 100, bytes.len() - 9, bytes.len() - 3] {
        let error =
            decode(&CopyOptions::of(Format::Arrow), &target, &bytes[..end], &[], 10).unwrap_err();
        assert!(["22P04", "22001"].contains(&error.state.0), "{end} {error:?}");
    }
}
