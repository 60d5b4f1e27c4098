//! Errors of queries: SQLSTATE, PostgreSQL's message, place.

use super::*;

fn check(text: &str, state: &str, message: &str, caret: &str) {
    refused(binder().bind_query(&query(text), &[]), text, state, message, caret);
}

#[test]
fn unknown_names_are_reported_where_they_stand() {
    check("select * from trade", "42P01", "relation \"trade\" does not exist", "trade");
    check("select * from nowhere.x", "42P01", "relation \"nowhere.x\" does not exist", "nowhere");
    check("select prise from trades", "42703", "column \"prise\" does not exist", "prise");
    check("select t.prise from trades t", "42703", "column t.prise does not exist", "t.prise");
    check(
        "select x.price from trades t",
        "42P01",
        "missing FROM-clause entry for table \"x\"",
        "x.price",
    );
    check(
        "select symbol from trades, quotes",
        "42702",
        "column reference \"symbol\" is ambiguous",
        "symbol",
    );
    check("select uper(symbol) from trades", "42883", "function uper does not exist", "uper");
    check("select * from nofunc(1)", "42883", "function nofunc does not exist", "nofunc");
    check("select 1::foo", "42704", "type \"foo\" does not exist", "1");
    check("select * from fraud.fraud", "42809", "\"Fraud\" is a pipeline", "fraud");
    let hint = |text: &str| {
        binder().bind_query(&query(text), &[]).expect_err(text).hint.unwrap_or_default()
    };
    assert_eq!(hint("select * from trade"), "Perhaps you meant \"trades\".");
    assert_eq!(
        hint("select prise from trades"),
        "Perhaps you meant to reference the column \"price\"."
    );
    assert_eq!(hint("select uper(symbol) from trades"), "Perhaps you meant \"upper\".");
}

#[test]
fn type_errors_are_in_the_words_of_postgresql() {
    check(
        "select symbol + 1 from trades",
        "42883",
        "operator does not exist: text + bigint",
        "symbol",
    );
    check(
        "select price from trades group by symbol",
        "42803",
        "column \"trades.price\" must appear in the GROUP BY clause or be used in an aggregate function",
        "price",
    );
    check(
        "select 1 union select 1, 2",
        "42601",
        "each UNION query must have the same number of columns",
        "select",
    );
}

#[test]
fn what_datafusion_would_ignore_is_refused() {
    check(
        "select * from trades for update",
        "0A000",
        "FOR UPDATE and FOR SHARE are not supported",
        "select",
    );
    check("select * into x from trades", "0A000", "SELECT INTO is not supported", "x");
    check(
        "select ts at time zone 'CET' from trades",
        "0A000",
        "AT TIME ZONE is not supported",
        "ts",
    );
    check(
        "select symbol collate \"de_DE\" from trades",
        "0A000",
        "collation \"de_DE\" is not supported",
        "\"de_DE\"",
    );
    check(
        "select * from trades fetch first 5 rows with ties",
        "0A000",
        "FETCH WITH TIES and PERCENT are not supported",
        "select",
    );
    check(
        "select * from trades tablesample bernoulli (10)",
        "0A000",
        "TABLESAMPLE is not supported",
        "trades",
    );
}
