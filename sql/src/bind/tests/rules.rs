//! CHECK, DEFAULT, GENERATED, and constants.

use auspex_plan::ColumnType as C;
use datafusion::common::ScalarValue;

use super::*;

fn expr(text: &str) -> crate::statement::Expr {
    crate::parse::parse_expression(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn columns_of(name: &str) -> Vec<Column> {
    catalog().get(id(name)).expect("known").columns().to_vec()
}

#[test]
fn rules_of_a_stream_are_bound_from_the_catalog() {
    let catalog = catalog();
    let rules = binder().bind_rules(catalog.get(id("trades")).expect("known")).expect("rules");
    assert_eq!(rules.checks.len(), 1);
    assert_eq!(rules.checks[0].1.to_string(), "price > CAST(Int64(0) AS Float64)");
    assert_eq!(rules.defaults[2].as_ref().map(ToString::to_string), Some("Int64(1)".into()));
    assert_eq!(
        rules.generated[4].as_ref().map(ToString::to_string),
        Some("CAST(ts AS Date32)".into())
    );
    assert!(rules.defaults[0].is_none() && rules.generated[0].is_none());
}

#[test]
fn rules_are_refused_where_they_are_wrong() {
    let check = |text: &str, state: &str, message: &str, caret: &str| {
        refused(
            binder().bind_check(&expr(text), &columns_of("trades")),
            text,
            state,
            message,
            caret,
        );
    };
    check("price > prise", "42703", "column \"prise\" does not exist", "prise");
    check(
        "price",
        "42804",
        "argument of CHECK must be type boolean, not type double precision",
        "price",
    );
    check("ts < now()", "42P17", "check constraint uses now(), which is not immutable", "now");
    check("price > (select 1)", "0A000", "cannot use subquery here", "select");
    check("max(price) > 1", "42803", "aggregate functions are not allowed here", "max");
    check("price > $1", "42P02", "there is no parameter here", "price");
    check(
        "_offset > 1",
        "42P10",
        "system columns (_offset, _time, _ingested) cannot be used here",
        "_offset",
    );
    let column = Column::new("x", C::Integer);
    let text = "price + 1";
    refused(
        binder().bind_default(&expr(text), &column),
        text,
        "0A000",
        "cannot use column reference in DEFAULT expression",
        "price",
    );
    let text = "true";
    refused(
        binder().bind_default(&expr(text), &column),
        text,
        "42804",
        "column \"x\" is of type integer but expression is of type boolean",
        "true",
    );
    binder()
        .bind_default(&expr("now()"), &Column::new("t", C::Timestamptz))
        .expect("defaults may be volatile");
    let columns = columns_of("trades");
    let text = "day";
    refused(
        binder().bind_generated(&expr(text), &columns, &columns[0]),
        text,
        "42P17",
        "cannot use generated column \"day\" in column generation expression",
        "day",
    );
}

#[test]
fn constants_are_evaluated() {
    let constant =
        |text: &str, t: C| binder().constant(&expr(text), &t, &[ScalarValue::Int64(Some(7))]);
    assert_eq!(constant("1 + 2 * 3", C::BigInt).expect("value"), ScalarValue::Int64(Some(7)));
    assert_eq!(constant("$1", C::BigInt).expect("value"), ScalarValue::Int64(Some(7)));
    assert_eq!(constant("'12'", C::BigInt).expect("value"), ScalarValue::Int64(Some(12)));
    assert_eq!(
        constant("'2024-01-01'", C::Timestamptz).expect("value"),
        ScalarValue::TimestampMicrosecond(Some(1_704_067_200_000_000), Some("UTC".into()))
    );
    assert_eq!(
        constant("'2024-01-02'::timestamptz - interval '1 day'", C::Timestamptz).expect("value"),
        ScalarValue::TimestampMicrosecond(Some(1_704_067_200_000_000), Some("UTC".into()))
    );
    assert!(matches!(
        constant("now()", C::Timestamptz).expect("value"),
        ScalarValue::TimestampMicrosecond(Some(_), Some(_))
    ));
    refused(
        constant("true", C::BigInt),
        "true",
        "42804",
        "a value of type bigint is needed, not of type boolean",
        "true",
    );
    refused(constant("$2", C::BigInt), "$2", "42P02", "there is no parameter $2", "$2");
    refused(
        constant("price", C::BigInt),
        "price",
        "42703",
        "column \"price\" does not exist",
        "price",
    );
    for (text, shown) in [
        ("1.5::int::text", "2"),
        ("2.4::numeric(5,1)::int::text", "2"),
        ("'abcdef'::varchar(3)", "abc"),
        ("'\\xDEAD'::bytea::text", "\\xdead"),
        ("1.0::float8::text", "1"),
        (
            "'{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}'::uuid::text",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        ("'2024-01-01 00:00:00.5'::timestamptz::text", "2024-01-01 00:00:00.5+00"),
        ("('2024-01-01'::timestamp + '1 h 30 min'::interval)::text", "2024-01-01 01:30:00"),
        ("'2024-01-01 10:00+02'::timestamptz::text", "2024-01-01 08:00:00+00"),
        ("'2024-01-01 10:00'::date::text", "2024-01-01"),
        ("'a' || 1.5 || true", "a1.5true"),
        ("'{\"a\": 1}'::jsonb", "{\"a\": 1}"),
    ] {
        let value = constant(text, C::Text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(value, ScalarValue::Utf8View(Some(shown.into())), "{text}");
    }
    for (text, state, message) in [
        ("'a0ee'::uuid", "22P02", "invalid input syntax for type uuid: \"a0ee\""),
        ("'{a}'::jsonb", "22P02", "invalid input syntax for type json: \"{a}\""),
        (
            "'x'::timestamptz",
            "22007",
            "invalid input syntax for type timestamp with time zone: \"x\"",
        ),
        ("'x'::interval", "22007", "invalid input syntax for type interval: \"x\""),
    ] {
        let error = constant(text, C::Text).expect_err(text);
        assert_eq!((error.state.0, error.message.as_str()), (state, message), "{text}");
    }
    let berlin = crate::Zone::Named("Europe/Berlin".parse().expect("a zone"));
    let local = binder()
        .with_time_zone(berlin)
        .constant(&expr("'2024-01-01 10:00'::timestamptz::text"), &C::Text, &[])
        .expect("local time");
    assert_eq!(local, ScalarValue::Utf8View(Some("2024-01-01 09:00:00+00".into())));
    assert_eq!(constant("1 / 0", C::BigInt).expect_err("division").state.0, "22012");
}
