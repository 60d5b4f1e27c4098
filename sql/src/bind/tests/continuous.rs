//! Continuous queries: plans, output columns, refusals, rebinding.

use auspex_plan::OnError;
use auspex_plan::catalog::{Definition, Language};

use super::*;

fn continuous(text: &str) -> super::super::BoundContinuous {
    binder().bind_continuous(&query(text)).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn check(text: &str, message: &str, caret: &str) {
    refused(binder().bind_continuous(&query(text)), text, "0A000", message, caret);
}

#[test]
fn filters_projections_unions_and_their_relatives_are_continuous() {
    let bound = continuous("select symbol, price * 2 as double from trades where volume > 10");
    assert_eq!(
        bound.query.plan.display_indent().to_string(),
        "Projection: trades.symbol, trades.price * CAST(Int64(2) AS Float64) AS double\n  Filter: trades.volume > Int64(10)\n    SubqueryAlias: trades\n      TableScan: public.trades"
    );
    assert_eq!(bound.query.inputs, [id("trades")]);
    assert_eq!(bound.bindings, bindings(&[("trades", id("trades"))]));
    let columns: Vec<String> = bound
        .columns
        .iter()
        .map(|c| format!("{} {} {}", c.name, c.column_type, c.not_null))
        .collect();
    assert_eq!(columns, ["symbol text true", "double double precision false"]);

    let bound = continuous(
        "with a as (select symbol, price from trades union all select symbol, price from quotes)
         select distinct upper(symbol) as s, case when price > 1 then 'x' else 'y' end from a limit 5",
    );
    let plan = bound.query.plan.display_indent().to_string();
    assert!(
        plan.starts_with("Projection: s, CAST(case AS Utf8View) AS case\n  StreamLimit: 5\n    StreamDistinct: on [s, case]\n      Projection:"),
        "{plan}"
    );
    assert!(plan.contains("Union"), "{plan}");
    assert_eq!(bound.query.inputs, [id("trades"), id("quotes")]);

    let bound = continuous(
        "select *, _offset as at from (select * from fraud.alerts) x where userid > 5"
            .replace("_offset", "amount")
            .as_str(),
    );
    assert_eq!(bound.columns.len(), 4);
    let bound = continuous("select *, _time as at from fraud.alerts");
    assert_eq!(
        bound.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["userId", "amount", "price", "at"]
    );
}

#[test]
fn what_needs_an_end_is_refused_where_it_stands() {
    check(
        "select * from trades limit 5 offset 2",
        "OFFSET is not supported in a continuous query",
        "2",
    );
    check(
        "select symbol from trades union select symbol from quotes",
        "UNION without ALL is not supported in a continuous query",
        "select symbol from quotes",
    );
    check(
        "select * from pg_class",
        "a continuous query cannot read the system view \"pg_catalog.pg_class\"",
        "pg_class",
    );
    check(
        "select * from trades where price > (select max(price) from quotes)",
        "a continuous query cannot have a subquery in an expression",
        "select max",
    );
    check("select now() from trades", "function now() cannot be used in a continuous query", "now");
    check(
        "select random() from trades",
        "function random() cannot be used in a continuous query",
        "random",
    );
    check(
        "select current_timestamp from trades",
        "function current_timestamp() cannot be used in a continuous query",
        "current_timestamp",
    );
    check(
        "select distinct on (symbol) * from trades",
        "DISTINCT ON is not supported in a continuous query",
        "symbol",
    );
    check(
        "select 1",
        "a part of the query without a stream is not supported in a continuous query",
        "select",
    );
    check(
        "select g from generate_series(1, 5) g",
        "a continuous query cannot read the function generate_series()",
        "generate_series",
    );
    let text = "select price, price from trades";
    refused(
        binder().bind_continuous(&query(text)),
        text,
        "42701",
        "column \"price\" specified more than once",
        "select",
    );
    let text = "select * from trades where price > $1";
    refused(
        binder().bind_continuous(&query(text)),
        text,
        "42P02",
        "there is no parameter $1",
        "select",
    );
}

#[test]
fn names_of_a_stored_query_keep_their_meaning_after_a_rename() {
    let text = "select trades.symbol, price from trades where volume > 1";
    let bound = continuous(text);
    let mut catalog = catalog();
    catalog
        .apply(&CatalogCommand::Rename {
            id: id("trades"),
            name: ObjectName::new("public", "ticks"),
        })
        .expect("rename");
    catalog
        .apply(&CatalogCommand::Rename {
            id: id("quotes"),
            name: ObjectName::new("public", "trades"),
        })
        .expect("rename");
    let definition = Definition {
        language: Language::Sql,
        text: text.into(),
        item: None,
        bindings: bound.bindings,
        start: Default::default(),
        on_error: OnError::Skip,
        paused: false,
        generation: 0,
        sink: None,
        max_state_bytes: None,
    };
    let again = Binder::new(Arc::new(catalog), Arc::new(Functions::standard()), Arc::new(Fixed))
        .rebind(&definition)
        .expect("rebind");
    assert_eq!(again.query.inputs, [id("trades")]);
    assert_eq!(again.query.on_error, OnError::Skip);
    assert_eq!(again.columns, bound.columns);
}
