//! INSERT, UPDATE, DELETE.

use auspex_plan::ColumnType as C;

use super::super::{BoundChange, BoundConflict, BoundInsert};
use super::*;

fn insert(text: &str) -> Result<BoundInsert, Diagnostic> {
    match statement(text) {
        StatementKind::Insert(i) => binder().bind_insert(&i, &[]),
        _ => panic!("not an insert: {text}"),
    }
}

fn change(text: &str) -> Result<BoundChange, Diagnostic> {
    match statement(text) {
        StatementKind::Update(u) => binder().bind_update(&u, &[]),
        StatementKind::Delete(d) => binder().bind_delete(&d, &[]),
        _ => panic!("not a change: {text}"),
    }
}

fn check_plan(text: &str, expected: &str) {
    let bound = insert(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(bound.plan.display_indent().to_string(), expected, "{text}");
}

#[test]
fn inserted_rows_have_exactly_the_columns_of_the_relation() {
    for text in [
        "insert into trades values ('a', 1, 2, '2024-01-01')",
        "insert into trades (symbol) values ('a'), ('b')",
        "insert into trades (price, symbol) values (1, 'x'), (2.5, 'y'), ('3', null)",
        "insert into trades default values",
        "insert into trades values ('a', 1, default, now(), default), ('b', 2, 3, '2024-01-01', default)",
        "insert into trades (symbol, price) select symbol, small from quotes",
        "insert into trades (symbol, volume) values ((select max(symbol) from quotes), 3), ('x', 4)",
        "insert into users (id) values (1) on conflict do nothing",
        "insert into users select 1, 'x', 2, now()",
        "insert into quotes (j, u, b) values ('{}', null, 'x'), (null, 'a0eebc999c0b4ef8bb6d6bb9bd380a11', '')",
        "insert into quotes (j, symbol) values ('{}', 'a')",
        "insert into quotes (j) select j from quotes",
        "insert into quotes (symbol, small, ok, tags, n) values ('a', 1, 't', array['x'], 2), ('b', 2.5, false, null, '3.5')",
    ] {
        let bound = insert(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let catalog = catalog();
        let schema = catalog.get(bound.object).expect("known").schema();
        let found: Vec<_> = bound
            .plan
            .schema()
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect();
        let expected: Vec<_> =
            schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        assert_eq!(found, expected, "{text}");
    }
    check_plan(
        "insert into users (id, score) values (1, 2.5)",
        "Projection: id AS id, CAST(Utf8(\"nobody\") AS Utf8View) AS name, score AS score, CAST(NULL AS Timestamp(µs, \"UTC\")) AS at\n  Projection: column1 AS id, CAST(round(column2) AS Int32) AS score\n    Projection: Int64(1) AS column1, Float64(2.5) AS column2\n      EmptyRelation: rows=1",
    );
}

#[test]
fn parameters_of_inserted_values_have_the_columns_types() {
    let params = |text: &str| insert(text).unwrap_or_else(|e| panic!("{text}: {e:?}")).params;
    assert_eq!(
        params("insert into users values ($1, $2, $3, $4)"),
        [C::BigInt, C::Varchar(10), C::Integer, C::Timestamptz]
    );
    assert_eq!(
        params("insert into users (score, id) values ($1, $2), (1, $3)"),
        [C::Integer, C::BigInt, C::BigInt]
    );
    assert_eq!(params("insert into users (id, name) select $1, $2"), [C::BigInt, C::Varchar(10)]);
    assert_eq!(params("insert into users (id) values (1) returning id + $1"), [C::BigInt]);
}

#[test]
fn inserts_are_refused_where_they_are_wrong() {
    let check = |text: &str, state: &str, message: &str, caret: &str| {
        refused(insert(text), text, state, message, caret);
    };
    check(
        "insert into nowhere values (1)",
        "42P01",
        "relation \"nowhere\" does not exist",
        "nowhere",
    );
    check(
        "insert into users (id, nam) values (1, 'x')",
        "42703",
        "column \"nam\" of relation \"users\" does not exist",
        "nam",
    );
    check(
        "insert into users (id, id) values (1, 2)",
        "42701",
        "column \"id\" specified more than once",
        "id) values",
    );
    check(
        "insert into users values (1, 'x', 2, now(), 5)",
        "42601",
        "INSERT has more expressions than target columns",
        "5",
    );
    check(
        "insert into users (id, name) values (1)",
        "42601",
        "INSERT has more target columns than expressions",
        "name",
    );
    check(
        "insert into users values (1), (2, 'x')",
        "42601",
        "VALUES lists must all be the same length",
        "2",
    );
    check(
        "insert into users (id) values (true)",
        "42804",
        "column \"id\" is of type bigint but expression is of type boolean",
        "true",
    );
    check(
        "insert into quotes (j) select symbol from trades",
        "42804",
        "column \"j\" is of type jsonb but expression is of type text",
        "symbol",
    );
    check(
        "insert into users (score) select symbol from trades",
        "42804",
        "column \"score\" is of type integer but expression is of type text",
        "symbol",
    );
    check(
        "insert into trades (day) values ('2024-01-01')",
        "428C9",
        "cannot insert a non-DEFAULT value into column \"day\"",
        "trades",
    );
    check(
        "insert into trades values ('a') on conflict do nothing",
        "0A000",
        "a stream has no keys that could conflict",
        "on conflict",
    );
    check(
        "insert into users values (1) on conflict (name) do nothing",
        "42P10",
        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        "name",
    );
}

#[test]
fn on_conflict_sees_the_row_there_and_the_row_excluded() {
    let bound = insert("insert into users as u values (1, 'x') on conflict (id) do update set name = excluded.name, score = score + 1 where u.score < excluded.score returning id, name as n, u.*").expect("bound");
    let Some(BoundConflict::Update { schema, assignments, condition }) = bound.on_conflict else {
        panic!("no update");
    };
    assert_eq!(schema.fields().len(), 8);
    let shown: Vec<String> = assignments.iter().map(|(i, e)| format!("{i}: {e}")).collect();
    assert_eq!(shown, ["1: excluded.name", "2: CAST(CAST(u.score AS Int64) + Int64(1) AS Int32)"]);
    assert_eq!(condition.map(|c| c.to_string()), Some("u.score < excluded.score".into()));
    let returning = bound.returning.expect("returning");
    let names: Vec<&str> = returning.columns.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["id", "n", "id", "name", "score", "at"]);
    assert_eq!(returning.exprs[1].to_string(), "name");
}

#[test]
fn updates_give_the_old_key_and_the_new_row() {
    let bound = change("update users u set score = score + 1, (name, at) = (default, now()) where u.id in (select volume from trades) returning *").expect("bound");
    assert_eq!(bound.key_columns, 1);
    let fields: Vec<&str> =
        bound.plan.schema().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(fields, ["key0", "id", "name", "score", "at"]);
    assert_eq!(bound.relations, [id("trades"), id("users")]);
    assert_eq!(
        change("update users set score = $1 where id = $2").expect("bound").params,
        [C::Integer, C::BigInt]
    );
    let bound = change("delete from users where score > $1 returning id").expect("bound");
    assert_eq!((bound.key_columns, bound.plan.schema().fields().len()), (0, 4));
    assert_eq!(bound.params, [C::Integer]);
    let check = |text: &str, state: &str, message: &str, caret: &str| {
        refused(change(text), text, state, message, caret);
    };
    check("update trades set price = 1", "42809", "cannot update stream \"trades\"", "trades");
    check("delete from trades", "42809", "cannot delete from stream \"trades\"", "trades");
    check(
        "update users set scor = 1",
        "42703",
        "column \"scor\" of relation \"users\" does not exist",
        "scor",
    );
    check(
        "update users set score = 1, score = 2",
        "42601",
        "multiple assignments to same column \"score\"",
        "score = 2",
    );
    check(
        "update users set score = true",
        "42804",
        "column \"score\" is of type integer but expression is of type boolean",
        "true",
    );
    check("update users set score = scor", "42703", "column \"scor\" does not exist", "scor");
}
