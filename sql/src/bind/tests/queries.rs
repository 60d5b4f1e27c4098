//! Queries that end: names, types, parameters, system columns.

use auspex_plan::ColumnType as C;

use super::*;

fn check_columns(text: &str, expected: &str) {
    assert_eq!(columns(text), expected, "{text}");
}

#[test]
fn output_columns_are_named_as_postgresql_names_them() {
    check_columns("select 1, 2", "?column? bigint, ?column? bigint");
    check_columns(
        "select upper(symbol), price + 1 from trades",
        "upper text, ?column? double precision",
    );
    check_columns(
        "select price::int, 'a'::text, true, (1+2)::int8 from trades",
        "price integer, text text, bool boolean, int8 bigint",
    );
    check_columns("select count(*), max(price) from trades", "count bigint, max double precision");
    check_columns("select case when price > 1 then 'a' end from trades", "case text");
    check_columns(
        "select t.price, t.price from trades t",
        "price double precision, price double precision",
    );
    check_columns("select price as a, volume as a from trades", "a double precision, a bigint");
    check_columns(
        "select (select max(price) from trades), exists (select 1)",
        "max double precision, exists boolean",
    );
    check_columns(
        "select coalesce(volume, 0), extract(hour from ts), now() > ts from trades limit 1",
        "coalesce bigint, extract integer, ?column? boolean",
    );
    check_columns("select a.symbol, b.symbol from trades a, quotes b", "symbol text, symbol text");
    check_columns("values (1, 'a')", "column1 bigint, column2 text");
    check_columns(
        "select null, '2024-01-01'::date, interval '1 day'",
        "?column? text, date date, interval interval",
    );
    check_columns(
        "select *, price from quotes where false",
        "symbol text, price double precision, small smallint, ok boolean, tags text[], n numeric(10,2), u uuid, b bytea, j jsonb, price double precision",
    );
    check_columns("select g from generate_series(1, 3) g", "g bigint");
    check_columns("select generate_series from generate_series(1, 3)", "generate_series bigint");
    check_columns("select x.lower from (select lower(symbol) from trades) x", "lower text");
    check_columns(
        "select current_timestamp, now(), current_date",
        "current_timestamp timestamp with time zone, now timestamp with time zone, current_date date",
    );
}

#[test]
fn names_are_found_without_regard_to_case_when_only_one_fits() {
    check_columns(
        "select * from fraud.alerts",
        "userId bigint, amount double precision, price double precision",
    );
    check_columns(
        "select userid, alerts.amount, fraud.alerts.price from fraud.alerts",
        "userId bigint, amount double precision, price double precision",
    );
    check_columns(
        "select public.trades.price, TRADES.volume from Trades",
        "price double precision, volume bigint",
    );
    check_columns("select relname from pg_class", "relname text");
    check_columns("select pg_catalog.lower(relname) from pg_catalog.pg_class c", "lower text");
}

#[test]
fn relations_are_listed_and_ctes_are_not() {
    let bound = |text: &str| binder().bind_query(&query(text), &[]).expect(text).relations;
    assert_eq!(bound("select * from users, trades"), [id("trades"), id("users")]);
    assert_eq!(bound("with trades as (select * from quotes) select * from trades"), [id("quotes")]);
    assert_eq!(bound("with trades as (select * from trades) select * from trades"), [id("trades")]);
    assert_eq!(
        bound(
            "with a as (select * from quotes), b as (select * from a) select * from b where symbol in (with a as (select symbol from trades) select * from a)"
        ),
        [id("trades"), id("quotes")]
    );
    assert_eq!(
        bound(
            "with recursive n as (select 1 as i union all select i + 1 from n where i < 5) select * from n"
        ),
        Vec::<u32>::new()
    );
}

#[test]
fn system_columns_are_there_by_name_and_not_in_star() {
    check_columns(
        "select _offset, _time, t._ingested from trades t",
        "_offset bigint, _time timestamp with time zone, _ingested timestamp with time zone",
    );
    check_columns(
        "select * from fraud.alerts where _offset > 5",
        "userId bigint, amount double precision, price double precision",
    );
    check_columns(
        "select a.*, _offset from fraud.alerts a order by _time",
        "userId bigint, amount double precision, price double precision, _offset bigint",
    );
    check_columns(
        "select * from (select _offset, price from trades) x",
        "_offset bigint, price double precision",
    );
    check_columns(
        "select * from users u join fraud.alerts a on a.userid = u.id where a._offset > 1",
        "id bigint, name varchar(10), score integer, at timestamp with time zone, userId bigint, amount double precision, price double precision",
    );
    let text = "select * from trades join quotes using (symbol) where trades._offset > 1";
    refused(
        binder().bind_query(&query(text), &[]),
        text,
        "0A000",
        "* together with a system column is not supported here",
        "*",
    );
    let text = "select _offset from users";
    refused(
        binder().bind_query(&query(text), &[]),
        text,
        "42703",
        "column \"_offset\" does not exist",
        "_offset",
    );
}

#[test]
fn parameters_get_their_types_from_their_surroundings() {
    let params = |text: &str| {
        binder().bind_query(&query(text), &[]).unwrap_or_else(|e| panic!("{text}: {e:?}")).params
    };
    assert_eq!(params("select $1"), [C::Text]);
    assert_eq!(
        params("select * from trades where volume = $1 and symbol = $2 and ts < $3"),
        [C::BigInt, C::Text, C::Timestamptz]
    );
    assert_eq!(params("select * from trades limit $1 offset $2"), [C::BigInt, C::BigInt]);
    assert_eq!(params("select $1::int, $2::float8"), [C::Integer, C::Double]);
    assert_eq!(
        params("select * from trades where price between $1 and $2"),
        [C::Double, C::Double]
    );
    assert_eq!(params("select * from trades where volume in ($1, $2)"), [C::BigInt, C::BigInt]);
    assert_eq!(params("select $2::bool"), [C::Text, C::Boolean]);
    let bound = binder()
        .bind_query(&query("select $1 + volume from trades limit $2"), &[Some(C::SmallInt), None])
        .expect("declared");
    assert_eq!(bound.params, [C::SmallInt, C::BigInt]);
    assert_eq!(C::from_field(bound.columns.field(0)), Some(C::BigInt));
}

#[test]
fn what_tools_send_can_be_planned() {
    for text in [
        "select c.relname from pg_catalog.pg_class c where c.relname OPERATOR(pg_catalog.~) '^(trades)$' COLLATE pg_catalog.default order by 1",
        "select * from trades order by ts desc fetch first 5 rows only",
        "select distinct symbol from trades order by symbol",
        "select symbol, count(*) filter (where price > 1) from trades group by symbol having count(*) > 1 order by 2 desc",
        "select date_trunc('minute', ts), avg(price) from trades group by 1 order by 1",
        "select sum(price) over (partition by symbol order by ts) from trades",
        "select * from trades t where exists (select 1 from users u where u.name = t.symbol)",
        "select u.name, x.n from users u join (select symbol, count(*) as n from trades group by symbol) x on x.symbol = u.name",
        "select symbol from trades union select symbol from quotes order by 1",
        "select symbol from trades except select symbol from quotes",
        "select symbol || '-' || volume, symbol ilike 'a%', symbol ~ '^a' from trades",
        "select tags[1], array[1, 2], cardinality(tags) from quotes",
        "table trades",
        "select 1 as \"A\", 'x' as b",
        "select upper(symbol) from trades order by upper(symbol)",
        "select lower(symbol) as s from trades group by s",
        "select distinct upper(symbol) from trades order by upper(symbol)",
        "select ts - interval '5 minutes', ts + '1 hour'::interval from trades where ts > '2024-01-01'",
        "select n * 2, n + small, price / 3 from quotes",
        "select sum(n), avg(small), stddev(price) from quotes",
    ] {
        plan(text);
    }
}

#[test]
fn plans_read_well() {
    assert_eq!(
        plan("select symbol, price * 2 as double from trades where volume > 10"),
        "Projection: trades.symbol, trades.price * CAST(Int64(2) AS Float64) AS double\n  Filter: trades.volume > Int64(10)\n    SubqueryAlias: trades\n      TableScan: public.trades"
    );
}
