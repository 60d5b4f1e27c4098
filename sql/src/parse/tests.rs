//! What is read as what, and what is refused where.

use proptest::prelude::*;

use super::parse;
use crate::statement::*;

fn one(text: &str) -> StatementKind {
    let mut statements = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).kind
}

/// `text` is refused with this SQLSTATE and message at the first occurrence of `caret`.
fn refused(text: &str, state: &str, message: &str, caret: &str) {
    let error = match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    };
    assert_eq!((error.state.0, error.message.as_str()), (state, message), "{text}");
    let span = error.span.expect("errors of the parser have a place");
    assert!(text.get(span.start..).is_some_and(|t| t.starts_with(caret)), "{text}: {span:?}");
    assert!(span.end <= text.len(), "{text}: {span:?}");
}

#[test]
fn statements_are_cut_at_semicolons_with_their_spans() {
    let text = " select 1 ; ; -- nothing\n /* a;b */ select ';' , $$ ; $$, E'\\';' ;";
    let found: Vec<String> =
        parse(text).expect("valid").iter().map(|s| s.text().to_string()).collect();
    assert_eq!(found, ["select 1", "select ';' , $$ ; $$, E'\\';'"]);
    assert!(parse("").expect("empty").is_empty());
    assert!(parse(" ; -- x").expect("empty").is_empty());
}

#[test]
fn names_fold_unless_quoted() {
    let StatementKind::Drop(drop) = one(r#"DROP STREAM If Exists Fraud."Alerts", B CASCADE"#)
    else {
        panic!("not a drop");
    };
    assert!(drop.if_exists && drop.cascade);
    let names: Vec<String> = drop.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["fraud.Alerts", "b"]);
}

#[test]
fn create_stream_keeps_every_clause() {
    let text = "CREATE OR REPLACE STREAM trades (
        symbol text NOT NULL DEFAULT 'x' || 'y', price double precision CHECK (price > 0),
        ts timestamptz, day date GENERATED ALWAYS AS (ts::date) STORED, n numeric(10,2), a int[],
        CONSTRAINT sane CHECK (price < 1e6 AND symbol <> ''),
        WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
      ) WITH (retention = '7 days', retention_bytes = 1000, kafka.security.protocol = 'x')";
    let StatementKind::CreateStream(s) = one(text) else { panic!("not a stream") };
    assert!(s.or_replace && !s.if_not_exists);
    let columns: Vec<String> = s
        .columns
        .iter()
        .map(|c| format!("{} {} {}", c.name.value, c.column_type, c.not_null))
        .collect();
    assert_eq!(
        columns,
        [
            "symbol text true",
            "price double precision false",
            "ts timestamp with time zone false",
            "day date false",
            "n numeric(10,2) false",
            "a integer[] false"
        ]
    );
    assert_eq!(s.columns[0].default.as_ref().map(Expr::text), Some("'x' || 'y'"));
    assert_eq!(s.columns[3].generated.as_ref().map(Expr::text), Some("ts::date"));
    let checks: Vec<(Option<&str>, Option<&str>, &str)> = s
        .checks
        .iter()
        .map(|c| (c.name.as_ref().map(|n| n.value.as_str()), c.column.as_deref(), c.expr.text()))
        .collect();
    assert_eq!(
        checks,
        [(None, Some("price"), "price > 0"), (Some("sane"), None, "price < 1e6 AND symbol <> ''")]
    );
    assert_eq!(s.watermark.map(|w| (w.column.value, w.delay_us)), Some(("ts".into(), 5_000_000)));
    let options: Vec<(&str, Option<&str>)> =
        s.options.iter().map(|o| (o.name.value.as_str(), o.text())).collect();
    assert_eq!(
        options,
        [
            ("retention", Some("7 days")),
            ("retention_bytes", Some("1000")),
            ("kafka.security.protocol", Some("x"))
        ]
    );
}

#[test]
fn options_of_a_derived_stream_stand_before_or_behind_the_query() {
    for text in [
        "create stream b as select * from a with (start = 'earliest')",
        "create stream b with (start = 'earliest') as select * from a",
    ] {
        let StatementKind::CreateStreamAs(s) = one(text) else { panic!("not a stream") };
        assert_eq!(s.query.text(), "select * from a", "{text}");
        assert_eq!(s.options[0].text(), Some("earliest"), "{text}");
    }
    let StatementKind::CreateStreamAs(s) =
        one("create stream b(x, y) as with q as (select 1, 2 from a) select * from q")
    else {
        panic!("not a stream")
    };
    assert_eq!(s.query.text(), "with q as (select 1, 2 from a) select * from q");
    assert_eq!(s.columns.len(), 2);
}

#[test]
fn the_body_of_a_pipeline_knows_its_place() {
    for text in [
        "create pipeline p as $$ stream X = Y $$",
        "create pipeline p as $v$ stream X = Y $v$ language vpl",
        "create pipeline p language vpl as ' stream X = Y '",
    ] {
        let StatementKind::CreatePipeline(p) = one(text) else { panic!("not a pipeline") };
        assert_eq!(p.body, " stream X = Y ");
        assert_eq!(&text[p.body_span.start..p.body_span.end], p.body, "{text}");
    }
}

#[test]
fn every_spelling_of_fetch_is_read() {
    let cases = [
        ("fetch c", Direction::Forward(Some(1))),
        ("fetch next c", Direction::Forward(Some(1))),
        ("fetch next from next", Direction::Forward(Some(1))),
        ("fetch next", Direction::Forward(Some(1))),
        ("fetch 10 from c", Direction::Forward(Some(10))),
        ("fetch 100 in \"SQL_CUR1\"", Direction::Forward(Some(100))),
        ("fetch -3 c", Direction::Backward(Some(3))),
        ("fetch all in c", Direction::Forward(None)),
        ("fetch forward from c", Direction::Forward(Some(1))),
        ("fetch forward all from c", Direction::Forward(None)),
        ("fetch forward 5 c", Direction::Forward(Some(5))),
        ("fetch backward all in c", Direction::Backward(None)),
        ("fetch backward 2 in c", Direction::Backward(Some(2))),
        ("fetch prior from c", Direction::Backward(Some(1))),
        ("fetch first c", Direction::Absolute(1)),
        ("fetch last c", Direction::Absolute(-1)),
        ("fetch absolute -2 c", Direction::Absolute(-2)),
        ("move relative 4 from c", Direction::Relative(4)),
        ("move all from c", Direction::Forward(None)),
        ("fetch 5 from c with (timeout = '1 s')", Direction::Forward(Some(5))),
    ];
    for (text, expected) in cases {
        let StatementKind::Fetch(f) = one(text) else { panic!("not a fetch: {text}") };
        assert_eq!(f.direction, expected, "{text}");
        assert_eq!(f.is_move, text.starts_with("move"));
        assert_eq!(f.timeout_us, text.contains("timeout").then_some(1_000_000));
    }
}

#[test]
fn subscribe_reads_all_its_words() {
    let StatementKind::Subscribe(s) =
        one("SUBSCRIBE TO trades FROM OFFSET $1 UNTIL TIMESTAMP '2024-01-01' \
         WITH (SNAPSHOT, PROGRESS = '2 s', METADATA = false, ON_OVERFLOW = gap)")
    else {
        panic!("not a subscription")
    };
    assert!(matches!(&s.from, SubscribeFrom::Offset(e) if e.text() == "$1"));
    assert!(matches!(&s.until, Some(SubscribeUntil::Timestamp(e)) if e.text() == "'2024-01-01'"));
    assert_eq!((s.snapshot, s.progress_us, s.metadata), (Some(true), Some(2_000_000), false));
    assert_eq!(s.on_overflow, Overflow::Gap);
    let from = |text: &str| match one(text) {
        StatementKind::Subscribe(s) => s.from,
        _ => panic!("not a subscription: {text}"),
    };
    assert!(matches!(from("subscribe x"), SubscribeFrom::Now));
    assert!(matches!(from("subscribe (select * from x) from beginning"), SubscribeFrom::Beginning));
    assert!(matches!(from("subscribe x after offset 5"), SubscribeFrom::AfterOffset(_)));
    assert!(matches!(from("subscribe x as of '2024-01-01'"), SubscribeFrom::Timestamp(_)));
    let StatementKind::Copy(copy) = one("COPY (SUBSCRIBE x UNTIL NOW) TO STDOUT (FORMAT csv)")
    else {
        panic!("not a copy")
    };
    assert!(
        matches!(copy.what, CopyWhat::Subscribe(s) if matches!(s.until, Some(SubscribeUntil::Now)))
    );
    let StatementKind::Declare(d) = one("declare c no scroll cursor with hold for subscribe x")
    else {
        panic!("not a cursor")
    };
    assert!(matches!(d.body, CursorBody::Subscribe(_)) && d.hold && d.scroll == Some(false));
}

#[test]
fn copy_options_have_one_shape_in_both_spellings() {
    let options = |text: &str| match one(text) {
        StatementKind::Copy(c) => c
            .options
            .iter()
            .map(|o| format!("{}={}", o.name.value, o.text().unwrap_or("-")))
            .collect::<Vec<_>>()
            .join(" "),
        _ => panic!("not a copy: {text}"),
    };
    assert_eq!(
        options("COPY  ( select 1 ) TO STDOUT csv header delimiter as ';' null ''"),
        "format=csv header=- delimiter=; null="
    );
    assert_eq!(
        options("copy \"customer\" ( \"id\", \"name\" ) from stdin binary;"),
        "format=binary"
    );
    assert_eq!(
        options("COPY t FROM STDIN WITH (FORMAT csv, HEADER match, NULL 'x', FORCE_NULL (a, b))"),
        "format=csv header=match null=x force_null=-"
    );
    assert_eq!(options("copy t to stdout with csv force quote a, b"), "format=csv force_quote=-");
    assert_eq!(options("COPY t FROM STDIN (FORMAT arrow)"), "format=arrow");
    assert_eq!(options("COPY t (a,b) FROM STDIN"), "");
}

#[test]
fn settings_have_one_shape_in_every_spelling() {
    let set = |text: &str| match one(text) {
        StatementKind::Set(s) => {
            format!("{}{}={:?}", if s.local { "local " } else { "" }, s.name.value, s.value.text())
        }
        _ => panic!("not a set: {text}"),
    };
    let text = |v: &str| format!("{:?}", Some(v));
    for (statement, name, value) in [
        ("set application_name = 'psql'", "application_name", text("psql")),
        ("SET extra_float_digits TO 3", "extra_float_digits", text("3")),
        ("SET SESSION search_path TO public, \"Fraud\"", "search_path", text("public, Fraud")),
        ("SET LOCAL statement_timeout = 5000", "local statement_timeout", text("5000")),
        ("SET TIME ZONE 'UTC'", "timezone", text("UTC")),
        ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "timezone", text("+02:00")),
        ("SET TIME ZONE LOCAL", "timezone", "None".into()),
        ("SET NAMES 'utf8'", "client_encoding", text("utf8")),
        ("SET DateStyle TO DEFAULT", "datestyle", "None".into()),
        ("SET SESSION AUTHORIZATION DEFAULT", "session_authorization", "None".into()),
        ("set standard_conforming_strings = on", "standard_conforming_strings", text("on")),
        ("set x.y = -1", "x.y", text("-1")),
    ] {
        assert_eq!(set(statement), format!("{name}={value}"), "{statement}");
    }
}

#[test]
fn transactions_keep_their_structure() {
    let transaction = |text: &str| match one(text) {
        StatementKind::Transaction(t) => format!("{t:?}"),
        _ => panic!("not a transaction: {text}"),
    };
    for (text, expected) in [
        ("begin", "Begin([])"),
        (
            "BEGIN ISOLATION LEVEL READ UNCOMMITTED READ ONLY, NOT DEFERRABLE",
            "Begin([Isolation(\"read uncommitted\"), ReadOnly(true), Deferrable(false)])",
        ),
        ("START TRANSACTION READ WRITE", "Begin([ReadOnly(false)])"),
        ("END WORK", "Commit { chain: false }"),
        ("abort and chain", "Rollback { chain: true }"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "Set { session: true, modes: [ReadOnly(true)] }",
        ),
    ] {
        assert_eq!(transaction(text), expected, "{text}");
    }
    assert!(transaction("rollback to savepoint a").starts_with("RollbackTo(Ident { value: \"a\""));
    assert!(transaction("release a").starts_with("Release("));
}

#[test]
fn what_clients_send_is_accepted() {
    for text in [
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
        "DISCARD ALL",
        "deallocate \"_PLAN0x55\"",
        "DEALLOCATE PREPARE all",
        "show \"lc_collate\"",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "show all",
        "SHOW STREAMS LIKE 'a%'",
        "show columns from a.b",
        "describe stream a",
        "BEGIN;declare \"SQL_CUR0x1\" cursor with hold for select 1;fetch 100 in \"SQL_CUR0x1\"",
        "LISTEN \"MyChannel\"",
        "notify a, 'payload'",
        "table a",
        "table only a",
        "(select 1) union all (select 2)",
        "values (1, 'a'), (2, 'b')",
        "with a as (values (1)) select * from a",
        "select '5'::int4, $1::text, x OPERATOR(pg_catalog.~) '^(a)$' COLLATE pg_catalog.default from t",
        "select count(*) filter (where a > 1) from t",
        "prepare p (int, unknown) as select $1, $2",
        "execute p (1, 'x')",
        "insert into t default values",
        "insert into t (a, b) values (1, default) on conflict (a) do update set b = excluded.b where t.b is null returning *",
        "insert into t as x select * from u on conflict do nothing",
        "insert into t (select 1)",
        "insert into t values (1)",
        "update only t as x set a = 1, (b, c) = (2, default) where x.a = 3 returning a as n",
        "delete from t x where x.a = 1",
        "truncate table a, b restart identity",
        "explain (analyze, verbose off, format text) select 1",
        "explain analyze verbose insert into t values (1)",
        "explain (select 1)",
        "explain stream a",
        "explain create stream b as select * from a",
        "vacuum (verbose) t",
        "analyze t (a, b)",
        "checkpoint",
        "alter stream a rename to b",
        "alter stream if exists a set (retention = '1 day')",
        "alter pipeline p pause",
        "alter stream p resume",
        "drop pipeline if exists p cascade",
        "create table t (a int, b text, primary key (a, b))",
        "create table if not exists t (a bigint primary key, b varchar(5) not null)",
        "create stream s (a int, watermark for a)",
    ] {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }
}

#[test]
fn errors_are_in_the_words_of_postgresql_and_have_a_place() {
    let near = |t: &str| format!("syntax error at or near \"{t}\"");
    for (text, at) in [
        ("selct 1", "selct"),
        ("select * form t", "t"),
        ("create stream", ""),
        ("create banana b", "banana"),
        ("select (1", ""),
        ("insert into t (a b) values (1)", "b)"),
        ("fetch 5 from", ""),
        ("select 1 2", "2"),
        ("drop stream a b", "b"),
        ("é = 1; select", "é"),
    ] {
        let word = at.trim_end_matches(')');
        let message =
            if at.is_empty() { "syntax error at end of input".into() } else { near(word) };
        let error = parse(text).expect_err(text);
        assert_eq!((error.state.0, error.message.as_str()), ("42601", message.as_str()), "{text}");
        let span = error.span.expect("a place");
        assert!(text[span.start..].starts_with(at), "{text}: {span:?}");
    }
    refused("select 'abc", "42601", "unterminated quoted string at or near \"'abc\"", "'abc");
    refused("select 1 /* x", "42601", "unterminated /* comment at or near \"\"", "");
    refused("create table t (a foo)", "42704", "type \"foo\" does not exist", "foo");
    refused("create table t (a serial)", "0A000", "type serial is not supported", "serial");
    refused("create view v as select 1", "0A000", "CREATE VIEW is not supported", "create");
    refused(
        "create sink s from a into b",
        "0A000",
        "CREATE SINK .. FROM is not supported",
        "from a",
    );
    refused(
        "select 1 from t output last every 0 rows",
        "22023",
        "the number of rows of OUTPUT must be positive",
        "0",
    );
    refused(
        "create stream s as select 1 from t emit changes emit changes",
        "42601",
        "EMIT is given twice",
        "emit",
    );
    refused("grant all on t to u", "0A000", "GRANT is not supported", "grant");
    refused(
        "alter table t add column x int",
        "0A000",
        "ALTER TABLE .. ADD is not supported",
        "add",
    );
    refused(
        "create stream s (a int, primary key (a))",
        "0A000",
        "a stream has no primary key",
        "primary",
    );
    refused(
        "create stream s (a int) partition by (a)",
        "0A000",
        "PARTITION BY is not supported",
        "partition",
    );
    refused(
        "subscribe x with (snapshto)",
        "22023",
        "unrecognized option \"snapshto\" of SUBSCRIBE",
        "snapshto",
    );
    refused(
        "subscribe x from now from now",
        "42601",
        "the starting point is given twice",
        "from now",
    );
    refused(
        "copy t from '/etc/passwd'",
        "0A000",
        "COPY of files of the server is not supported",
        "'/etc",
    );
    refused(
        "create stream s (a int, watermark for ts as ts - interval 'five')",
        "22007",
        "invalid input syntax for type interval: \"five\"",
        "'five'",
    );
    refused(
        "create stream s (a int null not null)",
        "42601",
        "conflicting NULL/NOT NULL declarations for column \"a\"",
        "null",
    );
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = [
        format!("select {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("select {}1{}", "(select ".repeat(500), ")".repeat(500)),
        format!("select 1{}", " + 1".repeat(100_000)),
        format!("select {} true", "not ".repeat(50_000)),
        format!("select {}1", "- ".repeat(50_000)),
        format!("select {} 1 {}", "case when true then ".repeat(5000), " end".repeat(5000)),
        format!("select 1{}", " union all select 1".repeat(50_000)),
        format!("select a{}", "::int".repeat(50_000)),
        format!("select a{}", "[1]".repeat(50_000)),
        format!("select * from a{}", " join a on true".repeat(50_000)),
        format!("select a{}", " is null".repeat(50_000)),
        format!("create table t (a int{})", "[]".repeat(50_000)),
        format!("select {}1{}", "(".repeat(90), format!("{})", " + 1".repeat(50)).repeat(90)),
    ];
    for text in deep {
        let error = parse(&text).expect_err("too deep");
        assert_eq!(error.state.0, "54001", "{}", &text[..40]);
    }
    for (open, inside, close) in [
        ("abs(", "1", ")"),
        ("coalesce(a, ", "1", ")"),
        ("cast(", "1 as", " as int)"),
        ("extract(year from ", ") +", ")"),
        ("case when ", "then", " then 1 end"),
        ("exists (select ", "+", ")"),
        ("a in (", "1 2", ")"),
        ("array[", "1 2", "]"),
        ("trim(both ", "x y z", ")"),
        ("interval ", "+", ""),
    ] {
        // Whatever becomes of it: in time.
        let _ = parse(&format!("select {}{inside}{}", open.repeat(90), close.repeat(90)));
        let _ = parse(&format!("select * from {}{inside}{}", open.repeat(90), close.repeat(90)));
    }
    let _ = parse(&format!("select * from {}a b c{}", "(".repeat(90), ")".repeat(90)));
    let _ = parse(&format!("select * from {}select 1 1{}", "(".repeat(90), ")".repeat(90)));
    parse(&format!("select {}1{}", "abs(".repeat(90), ")".repeat(90))).expect("deep enough");
    let wide = format!("insert into t values {}(1, -2)", "(1, -2), ".repeat(20_000));
    parse(&wide).expect("long is not deep");
    let case = format!("select case{} end", " when a = 1 and b = 2 then a + b".repeat(2000));
    parse(&case).expect("branches are not levels");
    let joins = format!("select * from a{}", " join b on a.x = b.x and a.y = b.y".repeat(190));
    parse(&joins).expect("joins are not levels");
    let chain = format!("select 1 from t where a = 0{}", " or a = 1".repeat(190));
    parse(&chain).expect("a long condition is fine");
}

const SEEDS: [&str; 12] = [
    "CREATE STREAM t (a int NOT NULL, ts timestamptz, WATERMARK FOR ts AS ts - INTERVAL '5 s') WITH (x = 1)",
    "CREATE STREAM b AS SELECT a, count(*) FROM t WHERE x > 1 GROUP BY a WITH (start = 'earliest')",
    "CREATE TABLE t (a int PRIMARY KEY, b text DEFAULT 'x', CHECK (a > 0))",
    "INSERT INTO t (a, b) VALUES (1, DEFAULT), ($1, E'\\n') ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *",
    "COPY (SUBSCRIBE TO t FROM OFFSET 5 WITH (PROGRESS = '1 s')) TO STDOUT WITH (FORMAT csv, HEADER)",
    "DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM t; FETCH FORWARD 5 FROM c; CLOSE c",
    "CREATE PIPELINE p LANGUAGE vpl AS $$ stream X = Y $$",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
    "WITH a AS (SELECT 1) SELECT CASE WHEN x THEN 1 ELSE 2 END, a::text, b[1] FROM a JOIN b USING (c) ORDER BY 1 LIMIT $1",
    "UPDATE t SET a = 1, (b, c) = (2, 3) WHERE d IN (SELECT 1)",
    "SHOW STREAMS LIKE 'x'; LISTEN \"A\"; NOTIFY a, 'b'; UNLISTEN *",
    "ALTER STREAM a SET (retention = '1 d'); EXPLAIN (ANALYZE) SELECT 1; PREPARE p (int) AS SELECT $1",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn mutated_statements_never_panic_and_errors_stay_inside(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..5u8, any::<prop::sample::Index>()), 1..5),
    ) {
        let mut words: Vec<String> = SEEDS[seed].split_inclusive([' ', '(', ')', ',']).map(String::from).collect();
        for (at, kind, other) in edits {
            let i = at.index(words.len());
            match kind {
                0 => { words.remove(i); }
                1 => { let w = words[other.index(words.len())].clone(); words.insert(i, w); }
                2 => { let j = other.index(words.len()); words.swap(i, j); }
                3 => words.truncate(i + 1),
                _ => { words[i].pop(); }
            }
            if words.is_empty() { words.push("é'".into()); }
        }
        let text = words.concat();
        match parse(&text) {
            Ok(statements) => for s in statements { prop_assert!(!s.text().is_empty()); },
            Err(e) => {
                let span = e.span.expect("a place");
                prop_assert!(span.start <= span.end && span.end <= text.len());
                prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
            }
        }
    }
}

#[test]
fn what_stands_behind_a_query_is_read_with_it() {
    use auspex_plan::Emit;
    use auspex_plan::nodes::{OutputEvery, OutputMode};
    let text = "create or replace materialized view if not exists v (a, b) as
        select k, count(*) from t group by k emit every '5 s' output last every 10 rows
        with (allowed_lateness = '20 s', on_error = 'skip')";
    let StatementKind::CreateView(view) = parse(text).expect("a view").remove(0).kind else {
        panic!("not a view");
    };
    assert!(view.or_replace && view.if_not_exists);
    assert_eq!(view.columns.len(), 2);
    let emission = &view.query.emission;
    assert_eq!(emission.emit.map(|e| e.0), Some(Emit::Every(5_000_000)));
    assert_eq!(emission.output.map(|o| o.0), Some((OutputMode::Last, OutputEvery::Rows(10))));
    assert_eq!(emission.lateness.map(|l| l.0), Some(20_000_000));
    assert_eq!(view.options.len(), 1);
    let stored = view.query.stored_text();
    assert!(
        stored.ends_with("output last every 10 rows ALLOWED LATENESS '20000000 us'"),
        "{stored}"
    );
    let again = super::parse_query(&stored).expect("the stored text");
    assert_eq!(again.emission.lateness.map(|l| l.0), Some(20_000_000));
    assert_eq!(again.stored_text(), stored);

    let text = "create sink s into users (id, name) as select k, n from t";
    let StatementKind::CreateSink(sink) = parse(text).expect("a sink").remove(0).kind else {
        panic!("not a sink");
    };
    assert_eq!((sink.table.name.value.as_str(), sink.columns.len()), ("users", 2));
    let backup = parse("backup to '/tmp/x'").expect("a backup").remove(0).kind;
    assert!(matches!(backup, StatementKind::Backup { directory, .. } if directory == "/tmp/x"));
    for text in ["drop materialized view if exists v cascade", "drop sink s", "alter sink s pause"]
    {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }
}
