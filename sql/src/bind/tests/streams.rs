//! Windows, aggregates and joins of continuous queries.

use auspex_plan::catalog::Definition;

use super::*;

/// Streams `a`, `b`, `c` (k, ts with 5 s of disorder, v), table `users`, view `totals`.
fn timed() -> Binder {
    let mut catalog = catalog();
    let timed = || {
        ObjectKind::Stream(Stream {
            columns: vec![
                Column::new("k", C::Text),
                Column::new("ts", C::Timestamptz),
                Column::new("v", C::BigInt),
                Column::new("other", C::Timestamptz),
            ],
            event_time: EventTime::Column { column: "ts".into(), delay_us: 5_000_000 },
            clocks: Vec::new(),
            idle_timeout_us: auspex_plan::Clock::IDLE_TIMEOUT_US,
            checks: Vec::new(),
            retention: Retention::default(),
            definition: None,
        })
    };
    let derived = ObjectKind::Stream(Stream {
        columns: vec![Column::new("k", C::Text), Column::new("at", C::Timestamptz)],
        event_time: EventTime::Inherited,
        clocks: Vec::new(),
        idle_timeout_us: auspex_plan::Clock::IDLE_TIMEOUT_US,
        checks: Vec::new(),
        retention: Retention::default(),
        definition: Some(Definition {
            language: Language::Sql,
            text: "select k, ts as at from a where v > 1".into(),
            item: None,
            bindings: BTreeMap::new(),
            start: Default::default(),
            on_error: Default::default(),
            paused: false,
            generation: 0,
            sink: None,
            max_state_bytes: None,
        }),
    });
    for (name, kind) in [("a", timed()), ("b", timed()), ("c", timed()), ("big", derived)] {
        let id = catalog.next_id();
        let name = ObjectName::new("public", name);
        let object = Object { id, name, created_us: 0, kind };
        catalog
            .apply(&CatalogCommand::Create { drop: Vec::new(), objects: vec![object] })
            .expect("the catalog of the tests");
    }
    Binder::new(Arc::new(catalog), Arc::new(Functions::standard()), Arc::new(Fixed))
}

/// The nodes that mean something on a stream, from the top.
fn nodes(bound: Result<super::super::BoundContinuous, Diagnostic>, text: &str) -> Vec<String> {
    const NODES: [&str; 8] = [
        "StreamAggregate",
        "WindowRows",
        "RetentionWindow",
        "StreamJoin",
        "OutputRate",
        "Filter",
        "WindowAggr",
        "StreamDistinct",
    ];
    let bound = bound.unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let plan = bound.query.plan.display_indent().to_string();
    plan.lines()
        .map(str::trim)
        .filter(|l| NODES.iter().any(|n| l.starts_with(n)))
        .map(String::from)
        .collect()
}

fn check(text: &str, wanted: &[&str]) {
    assert_eq!(nodes(timed().bind_continuous(&query(text)), text), wanted, "{text}");
}

fn view(text: &str) -> (Vec<String>, Vec<usize>) {
    let bound = timed().bind_view(&query(text));
    let key = bound.as_ref().map(|b| b.key.clone()).unwrap_or_default();
    (nodes(bound, text), key)
}

fn error(text: &str, state: &str, message: &str, caret: &str) {
    refused(timed().bind_continuous(&query(text)), text, state, message, caret);
}

#[test]
fn windows_in_from_group_rows() {
    check(
        "select window_start, window_end, k, count(*) as n, sum(v) s from tumble(a, ts, interval '1 min') group by window_start, window_end, k",
        &[
            "StreamAggregate: tumble 1m, by [a.k], [count(Int64(1)), sum(a.v)], emit on window close",
        ],
    );
    check(
        "select k, count(*) as n, window_end from hop(table a, descriptor(ts), interval '10 s', '1 min') x where v > 5 and window_end > '2020-01-01' group by x.k, window_end, window_start having count(*) > 3",
        &[
            "Filter: count(Int64(1)) > Int64(3)",
            "Filter: CAST(window_end AS Timestamp(ns, \"UTC\")) > CAST(timestamptz_in(Utf8(\"2020-01-01\"), Utf8(\"0\")) AS Timestamp(ns, \"UTC\"))",
            "StreamAggregate: hop 1m by 10s, by [x.k], [count(Int64(1))], emit on window close",
            "Filter: x.v > Int64(5)",
        ],
    );
    check(
        "select window_end, max(n) from tumble((select k, window_end, count(*) n from tumble(a, ts, '1 min') group by 1, 2), window_end, '1 h') group by window_end",
        &[
            "StreamAggregate: tumble 1h, by [], [max(n)], emit on window close",
            "StreamAggregate: tumble 1m, by [a.k], [count(Int64(1))], emit on window close",
        ],
    );
    check(
        "select k, window_start, count(*) from session(a partition by k, ts, '30 s') group by window_start, window_end, k",
        &["StreamAggregate: session 30s, by [a.k], [count(Int64(1))], emit on window close"],
    );
    check(
        "select k, window_start, count(*) from session(table a partition by (k), descriptor(ts), interval '30' second) group by window_start, window_end, k",
        &["StreamAggregate: session 30s, by [a.k], [count(Int64(1))], emit on window close"],
    );
    check(
        "select k, count(*) from rows(a partition by k, 100, 10) group by k, window_end",
        &["StreamAggregate: 100 rows by 10, by [a.k], [count(Int64(1))], emit on window close"],
    );
    check(
        "select window_end, count(*) from cumulate(big, at, '1 h', '1 day') group by window_end",
        &["StreamAggregate: cumulate 1d by 1h, by [], [count(Int64(1))], emit on window close"],
    );
    check(
        "select date_bin('1 min', ts) m, k, count(*) from a group by m, k",
        &["StreamAggregate: tumble 1m, by [a.k], [count(Int64(1))], emit on window close"],
    );
    check(
        "select tumble(ts, '1 min') m, k, count(*) from a group by tumble(ts, '1 min'), k",
        &["StreamAggregate: tumble 1m, by [a.k], [count(Int64(1))], emit on window close"],
    );
    check(
        "select date_trunc('minute', ts) m, count(*) from a group by 1",
        &["StreamAggregate: tumble 1m, by [], [count(Int64(1))], emit on window close"],
    );
    check(
        "select * from tumble(a, ts, '1 min') order by v desc limit 3",
        &["WindowRows: tumble 1m, by [], order by [a.v DESC NULLS FIRST], limit 3"],
    );
    check(
        "select window_end, k, sum(v) s from tumble(a, ts, '1 min') group by window_end, k order by s desc limit 3",
        &[
            "WindowRows: tumble 1m, by [], order by [sum(a.v) DESC NULLS FIRST], limit 3",
            "StreamAggregate: tumble 1m, by [a.k], [sum(a.v)], emit on window close",
        ],
    );
    check(
        "select _revision, window_end, k, sum(v) s from tumble(a, ts, '1 min') group by window_end, k emit changes output last every 10 rows",
        &[
            "OutputRate: last every 10 rows, by [window_end, a.k]",
            "StreamAggregate: tumble 1m, by [a.k], [sum(a.v)], emit changes",
        ],
    );
    check(
        "select k, count(*) c from a group by k emit changes",
        &["StreamAggregate: unbounded, by [a.k], [count(Int64(1))], emit changes"],
    );
    check(
        "select window_end, count(*) from tumble(a, _time, '1 min') group by window_end emit every '5 s'",
        &["StreamAggregate: tumble 1m, by [], [count(Int64(1))], emit every 5s"],
    );
    check("select *, _time t from tumble(a, ts, '1 min')", &["WindowRows: tumble 1m, by []"]);
    check("select *, _time t from tumble(a, ts, '1 min') x", &["WindowRows: tumble 1m, by []"]);
    check(
        "select count(*) filter (where v > 1), sum(distinct v) from tumble(a, ts, '1 min') group by window_end",
        &[
            "StreamAggregate: tumble 1m, by [], [count(Int64(1)) FILTER (WHERE a.v > Int64(1)), sum(DISTINCT a.v)], emit on window close",
        ],
    );
    check(
        "select k, max(avg_v) from (select k, window_end, avg(v) avg_v from hop(a, ts, '10 s', '1 min') group by k, window_end) x group by k, date_bin('1 h', window_end)",
        &[
            "StreamAggregate: tumble 1h, by [x.k], [max(x.avg_v)], emit on window close",
            "StreamAggregate: hop 1m by 10s, by [a.k], [avg(CAST(a.v AS Float64))], emit on window close",
        ],
    );
    check(
        "with m as (select k, window_start, window_end, sum(v) s from tumble(a, ts, '1 min') group by 1, 2, 3) select k, sum(s) from tumble(m, window_end, '1 h') group by k, window_end",
        &[
            "StreamAggregate: tumble 1h, by [m.k], [sum(m.s)], emit on window close",
            "StreamAggregate: tumble 1m, by [a.k], [sum(a.v)], emit on window close",
        ],
    );
    check(
        "select k, array_agg(v order by v) from tumble(a, ts, '1 min') group by k, window_end",
        &[
            "StreamAggregate: tumble 1m, by [a.k], [array_agg(a.v) ORDER BY [a.v ASC NULLS LAST]], emit on window close",
        ],
    );
    check(
        "select k, count(*) from tumble(a, ts, '1 min') group by k, window_end union all select k, count(*) from tumble(b, ts, '1 min') group by k, window_end",
        &[
            "StreamAggregate: tumble 1m, by [a.k], [count(Int64(1))], emit on window close",
            "StreamAggregate: tumble 1m, by [b.k], [count(Int64(1))], emit on window close",
        ],
    );
    check(
        "select distinct k from tumble(a, ts, '1 min')",
        &["StreamDistinct: on [a.k]", "WindowRows: tumble 1m, by []"],
    );
    check(
        "select userid, count(*) from tumble(fraud.alerts, _time, '1 min') group by userid, window_end",
        &[
            "StreamAggregate: tumble 1m, by [alerts.userId], [count(Int64(1))], emit on window close",
        ],
    );
}

#[test]
fn retention_windows_keep_rows_and_aggregate_over_them() {
    check(
        "select k, v, avg(v) from a window length(100) where v > 1 group by k having avg(v) > 5",
        &[
            "Filter: avg(a.v) PARTITION BY [a.k] ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING > CAST(Int64(5) AS Float64)",
            "RetentionWindow: length 100, by [a.k], [avg(CAST(a.v AS Float64))]",
            "Filter: a.v > Int64(1)",
        ],
    );
    check(
        "select k, v from a x window time batch('5 s')",
        &["RetentionWindow: time batch 5s, by [], []"],
    );
    check(
        "select k, sum(v) from a window('lengthBatch', 100) group by k",
        &["RetentionWindow: length batch 100, by [a.k], [sum(a.v)]"],
    );
    check(
        "select max(v) from a window sort(10, v desc)",
        &["RetentionWindow: sort 10 by [a.v DESC NULLS FIRST], by [], [max(a.v)]"],
    );
    check(
        "select count(*) from a window unique(k)",
        &["RetentionWindow: unique [a.k], by [], [count(Int64(1))]"],
    );
    check("select * from a window delay('1 s')", &["RetentionWindow: delay 1s, by [], []"]);
    check(
        "select k, sum(v) over (partition by k order by ts rows between 3 preceding and current row) from a",
        &[
            "WindowAggr: windowExpr=[[sum(a.v) PARTITION BY [a.k] ORDER BY [a.ts ASC NULLS LAST] ROWS BETWEEN 3 PRECEDING AND CURRENT ROW]]",
        ],
    );
    check(
        "select k, first_value(v), last_value(v) from a window time('5 s') group by k",
        &["RetentionWindow: time 5s, by [a.k], [first_value(a.v), last_value(a.v)]"],
    );
    check(
        "select k, row_number() over (partition by k order by ts) from a",
        &[
            "WindowAggr: windowExpr=[[row_number() PARTITION BY [a.k] ORDER BY [a.ts ASC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW]]",
        ],
    );
    check(
        "select * from (select k, v, row_number() over (partition by k order by ts) n from a) x where n = 1",
        &[
            "Filter: CAST(x.n AS Decimal128(20, 0)) = CAST(Int64(1) AS Decimal128(20, 0))",
            "WindowAggr: windowExpr=[[row_number() PARTITION BY [a.k] ORDER BY [a.ts ASC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW]]",
        ],
    );
    check(
        "select k, lag(v) over w from a window w as (partition by k order by ts)",
        &[
            "WindowAggr: windowExpr=[[lag(a.v) PARTITION BY [a.k] ORDER BY [a.ts ASC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW]]",
        ],
    );
}

#[test]
fn joins_are_bounded_in_time() {
    check(
        "select a.k, a.v, b.v w from a join b on a.k = b.k and b.ts between a.ts and a.ts + interval '5 s'",
        &["StreamJoin: Inner, on [a.k = b.k], within [0s, 5s]"],
    );
    check(
        "select a.k, b.v w from a join b on a.k = b.k and b.ts >= a.ts - interval '1 s' and a.ts > b.ts - interval '2 s' and a.v < b.v",
        &["StreamJoin: Inner, on [a.k = b.k], within [-1s, 1s999ms999us], filter a.v < b.v"],
    );
    check(
        "select a.k, b.v w from a join b within '5 s' on a.k = b.k",
        &["StreamJoin: Inner, on [a.k = b.k], within [-5s, 5s]"],
    );
    check(
        "select a.k, b.v w from a left join b on a.k = b.k and b.ts - a.ts <= interval '5 s' and b.ts >= a.ts",
        &["StreamJoin: Left, on [a.k = b.k], within [0s, 5s]"],
    );
    check(
        "select a.k, b.v w from a, b where a.k = b.k and b.ts between a.ts and a.ts + interval '5 s' and a.v > 5",
        &["Filter: a.v > Int64(5)", "StreamJoin: Inner, on [a.k = b.k], within [0s, 5s]"],
    );
    check(
        "select a.k, c.v w from a, b, c where a.k = b.k and b.ts between a.ts and a.ts + interval '5 s' and c.ts between b.ts and b.ts + interval '5 s' and c.k = a.k",
        &[
            "StreamJoin: Inner, on [a.k = c.k], within [0s, 5s]",
            "StreamJoin: Inner, on [a.k = b.k], within [0s, 5s]",
        ],
    );
    check(
        "select a.k from a where exists (select 1 from b where b.k = a.k and b.ts between a.ts and a.ts + interval '5 s')",
        &["StreamJoin: LeftSemi, on [a.k = __correlated_sq_1.k], within [0s, 5s]"],
    );
    check(
        "select a.k from a where not exists (select 1 from b where b.k = a.k and b.ts between a.ts and a.ts + interval '5 s')",
        &["StreamJoin: LeftAnti, on [a.k = __correlated_sq_1.k], within [0s, 5s]"],
    );
    check(
        "select a.k from a where a.k in (select b.k from b where b.ts between a.ts and a.ts + interval '5 s')",
        &["StreamJoin: LeftSemi, on [a.k = __correlated_sq_1.k], within [0s, 5s]"],
    );
    check(
        "select a.k, b.v from a asof join b match_condition (a.ts >= b.ts) on a.k = b.k",
        &["StreamJoin: Inner, on [a.k = b.k], as of"],
    );
    check(
        "select a.k, b.v from a asof left join b within '1 min' match_condition (b.ts < a.ts) on a.k = b.k",
        &["StreamJoin: Left, on [a.k = b.k], as of, strictly before, at most 1m older"],
    );
    check(
        "select a.k, b.v from a left join b for system_time as of a.ts on a.k = b.k",
        &["StreamJoin: Left, on [a.k = b.k], as of"],
    );
    check(
        "select x.k, x.n, y.n m from (select window_start, window_end, k, count(*) n from tumble(a, ts, '1 min') group by 1,2,3) x join (select window_start, window_end, k, count(*) n from tumble(b, ts, '1 min') group by 1,2,3) y on x.k = y.k and x.window_start = y.window_start and x.window_end = y.window_end",
        &[
            "StreamJoin: Inner, on [x.k = y.k, x.window_start = y.window_start], within [0s, 0s]",
            "StreamAggregate: tumble 1m, by [a.k], [count(Int64(1))], emit on window close",
            "StreamAggregate: tumble 1m, by [b.k], [count(Int64(1))], emit on window close",
        ],
    );
    check(
        "select x.k, y.n from (select window_start, window_end, k, count(*) n from tumble(a, ts, '1 min') group by 1,2,3) x join (select window_start, window_end, k, count(*) n from tumble(b, ts, '1 min') group by 1,2,3) y using (k, window_start, window_end)",
        &[
            "StreamJoin: Inner, on [x.k = y.k, x.window_start = y.window_start], within [0s, 0s]",
            "StreamAggregate: tumble 1m, by [a.k], [count(Int64(1))], emit on window close",
            "StreamAggregate: tumble 1m, by [b.k], [count(Int64(1))], emit on window close",
        ],
    );
    check(
        "select a.k, b.v, c.v w from a join b on a.k = b.k and b.ts between a.ts - interval '5 s' and a.ts + interval '5 s' join c on c.k = a.k and c.ts between a.ts and a.ts + interval '1 s'",
        &[
            "StreamJoin: Inner, on [a.k = c.k], within [-5s, 1s], filter c.ts >= a.ts AND c.ts <= a.ts + interval_in(Utf8(\"1 s\"))",
            "StreamJoin: Inner, on [a.k = b.k], within [-5s, 5s]",
        ],
    );
}

#[test]
fn tables_are_looked_up() {
    check(
        "select a.k, u.name from a join users u on u.id = a.v and u.score > 3",
        &["StreamJoin: Inner, on [a.v = u.id], look-up, filter CAST(u.score AS Int64) > Int64(3)"],
    );
    check(
        "select a.k, u.name from a left join (select id, name from users where score > 5) u on u.id = a.v",
        &[
            "StreamJoin: Left, on [a.v = users.id], look-up, filter CAST(users.score AS Int64) > Int64(5)",
        ],
    );
    check(
        "select u.*, a.k from users u, a where u.id = a.v",
        &["StreamJoin: Inner, on [a.v = u.id], look-up"],
    );
    check(
        "select a.k from a where a.v in (select id from users)",
        &["StreamJoin: LeftSemi, on [a.v = users.id], look-up"],
    );
    check(
        "select * from a join users u on u.id = a.v and a.ts > u.at",
        &["StreamJoin: Inner, on [a.v = u.id], look-up, filter a.ts > u.at"],
    );
    check(
        "select a.k, u.name from a join users u on u.id = a.v where u.score > 5 and a.v > 1",
        &[
            "StreamJoin: Inner, on [a.v = u.id], look-up, filter CAST(u.score AS Int64) > Int64(5) AND a.v > Int64(1)",
        ],
    );
    check(
        "select a.k, b.v, u.name from a left join b within '5 s' on a.k = b.k left join users u on u.id = a.v",
        &[
            "StreamJoin: Left, on [a.v = u.id], look-up",
            "StreamJoin: Left, on [a.k = b.k], within [-5s, 5s]",
        ],
    );
    check(
        "select b.k from b where exists (select 1 from users u where u.id = b.v and u.score > 3)",
        &[
            "StreamJoin: LeftSemi, on [b.v = u.id], look-up, filter CAST(u.score AS Int64) > Int64(3)",
        ],
    );
}

#[test]
fn what_has_no_meaning_on_a_stream_is_refused_where_it_stands() {
    error(
        "select count(*) from tumble(a, other, '1 min') group by window_end",
        "42P10",
        "the time argument of a window must be the event time of its rows",
        "other, '1 min'",
    );
    error(
        "select count(*) from tumble(a, ts, '1 month') group by window_end",
        "22023",
        "interval \"1 month\" has no fixed length",
        "'1 month') gro",
    );
    error(
        "select count(*) from tumble(a, ts, interval '-1 s') group by window_end",
        "22023",
        "interval \"-1 s\" must be positive",
        "'-1 s') group ",
    );
    error(
        "select count(*) from hop(a, ts, '7 s', '1 min') group by window_end",
        "22023",
        "the size of the windows (1m) must be a multiple of their slide (7s)",
        "'1 min') group",
    );
    error(
        "select count(*) from tumble(a, ts) group by window_end",
        "42601",
        "wrong arguments of TUMBLE",
        "tumble(a, ts) ",
    );
    error(
        "select count(*) from tumble(5, ts, '1 min') group by window_end",
        "42601",
        "the first argument must be a relation",
        "5, ts, '1 min'",
    );
    error(
        "select count(*) from tumble(nosuch, ts, '1 min') group by window_end",
        "42P01",
        "relation \"nosuch\" does not exist",
        "nosuch, ts, '1",
    );
    error(
        "select count(*) from tumble(a, nosuch, '1 min') group by window_end",
        "42703",
        "column \"nosuch\" does not exist",
        "nosuch, '1 min",
    );
    error(
        "select count(*) from tumble(a, ts, '1 min')",
        "42803",
        "an aggregate over windows must be grouped by them",
        "count(*) from ",
    );
    error(
        "select count(*) from tumble(a, ts, 'x') group by window_end",
        "22007",
        "invalid input syntax for type interval: \"x\"",
        "'x') group by ",
    );
    error(
        "select k, count(*) from session(a partition by k, ts, '30 s') group by window_end",
        "42803",
        "column \"a.k\" must appear in the GROUP BY clause or be used in an aggregate function",
        "k, count(*) fr",
    );
    error(
        "select k, count(*) from a group by k",
        "0A000",
        "an aggregate over a stream never ends",
        "count(*) from ",
    );
    error(
        "select max(v) from a",
        "0A000",
        "an aggregate over a stream never ends",
        "max(v) from a",
    );
    error(
        "select k, v, count(*) from a group by rollup(k, v) emit changes",
        "0A000",
        "ROLLUP, CUBE or GROUPING SETS is not supported in a continuous query",
        "count(*) from ",
    );
    error(
        "select k from a emit changes",
        "42601",
        "EMIT and ALLOWED LATENESS need an aggregate",
        "emit changes",
    );
    error(
        "select k from a order by v",
        "0A000",
        "ORDER BY is not supported in a continuous query",
        "v",
    );
    error(
        "select * from a join b on a.k = b.k",
        "0A000",
        "a join of streams must be bounded in time",
        "b on a.k = b.k",
    );
    error(
        "select * from a join b on a.k = b.k and b.ts > a.ts",
        "0A000",
        "a join of streams must be bounded in time on both sides",
        "b on a.k = b.k",
    );
    error(
        "select * from a left join b x using (k)",
        "0A000",
        "a join of streams must be bounded in time",
        "b x using (k)",
    );
    error(
        "select a.k from a right join users u on u.id = a.v",
        "0A000",
        "this kind of join with a table is not supported in a continuous query",
        "users u on u.i",
    );
    error(
        "select * from users",
        "0A000",
        "a continuous query reads \"users\" only in a join with a stream",
        "users",
    );
    error(
        "select a.k from a where v not in (select id from users)",
        "0A000",
        "NOT IN with a query is not supported in a continuous query",
        "select id from",
    );
    error(
        "select a.k, (select max(v) from b) from a",
        "0A000",
        "a continuous query cannot have a subquery in an expression",
        "select max(v) ",
    );
    error(
        "select sum(v) over () from a",
        "0A000",
        "a window function in a continuous query needs ORDER BY the event time, ascending",
        "sum(v) over ()",
    );
    error(
        "select sum(v) over (order by other) from a",
        "0A000",
        "a window function in a continuous query needs ORDER BY the event time, ascending",
        "sum(v) over (o",
    );
    error(
        "select sum(v) over (order by ts rows between current row and 1 following) from a",
        "0A000",
        "a frame that does not end at CURRENT ROW is not supported in a continuous query",
        "sum(v) over (o",
    );
    error(
        "select lead(v) over (order by ts) from a",
        "0A000",
        "lead() is not supported in a continuous query",
        "lead(v) over (",
    );
    error(
        "select a.k, b.v from a asof join b match_condition (a.v >= b.v) on a.k = b.k",
        "42P10",
        "MATCH_CONDITION must compare the event times of both sides",
        "a.v >= b.v) on",
    );
    error(
        "select v from a window length('x')",
        "22023",
        "the number of rows of a window must be a positive number",
        "'x')",
    );
    error(
        "select v from a window('frequent', 5)",
        "0A000",
        "there is no WINDOW FREQUENT",
        "window('freque",
    );
    error(
        "select a.v from a window length(5) join b within '1 s' on a.k = b.k",
        "0A000",
        "a join of a WINDOW LENGTH is not supported",
        "b within '1 s'",
    );
    error(
        "select * from (select k, count(*) from a group by k emit changes) x",
        "42601",
        "EMIT, OUTPUT and ALLOWED LATENESS stand at the end of the whole query",
        "emit changes) ",
    );
    error(
        "select _revision, count(*) from tumble(a, ts, '1 min') group by window_end",
        "42703",
        "column \"_revision\" does not exist",
        "tumble(a, ts, ",
    );
    error(
        "select k, count(*) from a group by k emit on window close",
        "0A000",
        "an aggregate over a stream never ends",
        "emit on window",
    );
    error(
        "select a.k from a join b on a.k = b.k and b.ts between a.ts + interval '5 s' and a.ts",
        "22023",
        "the condition on time of this join is never true",
        "b on a.k = b.k",
    );
    error(
        "select a.k, count(*) from a join b within '5 s' on a.k = b.k group by a.k, tumble(a.ts, '1 min')",
        "0A000",
        "an aggregate over a stream never ends",
        "count(*) from ",
    );
    error(
        "select k, count(*) from a group by k emit changes allowed lateness '5 s'",
        "0A000",
        "an aggregate without a window has no lateness",
        "allowed latene",
    );
    error(
        "select k, count(*) from tumble(fraud.alerts, _time, '1 min') group by k, window_end",
        "42703",
        "column \"k\" does not exist",
        "k, count(*) fr",
    );
}

#[test]
fn the_names_of_columns_are_those_of_the_query() {
    let text = "select k, window_end as e, count(*), sum(v) s from hop(a, ts, '10 s', '1 min')
        group by a.k, window_end, window_start";
    let bound = timed().bind_continuous(&query(text)).expect("bound");
    let columns: Vec<String> =
        bound.columns.iter().map(|c| format!("{} {}", c.name, c.column_type)).collect();
    assert_eq!(columns, ["k text", "e timestamp with time zone", "count bigint", "s bigint"]);
    let bound =
        timed().bind_continuous(&query("select * from tumble(a, ts, '1 min')")).expect("bound");
    let names: Vec<&str> = bound.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["k", "ts", "v", "other", "window_start", "window_end"]);
}

#[test]
fn views_know_what_tells_their_rows_apart() {
    let unbounded = "StreamAggregate: unbounded, by [a.k], [count(Int64(1))], emit changes";
    assert_eq!(
        view("select k, count(*) from a group by k"),
        (vec![unbounded.to_string()], vec![0])
    );
    let (_, key) = view("select max(v) m from a");
    assert_eq!(key, Vec::<usize>::new());
    let (_, key) =
        view("select count(*) c, window_end, k from tumble(a, ts, '1 min') group by k, window_end");
    assert_eq!(key, [1, 2]);
    let refused_view = |text: &str, state: &str, message: &str, caret: &str| {
        refused(timed().bind_view(&query(text)), text, state, message, caret);
    };
    refused_view(
        "select count(*) from a group by k",
        "42P10",
        "group column \"k\" must be in the select list",
        "select",
    );
    refused_view("select k from a", "0A000", "a materialized view needs an aggregate", "select");
    refused_view(
        "select k, count(*) c from a group by k having count(*) > 1",
        "0A000",
        "HAVING in a materialized view is not supported in a continuous query",
        "count(*) > 1",
    );
}

#[test]
fn a_select_computes_tumbling_windows_and_refuses_the_others() {
    let names = columns("select * from tumble(trades, ts, '1 min', '5 s')");
    assert!(
        names.ends_with(
            "window_start timestamp with time zone, window_end timestamp with time zone"
        ),
        "{names}"
    );
    for (text, message, caret) in [
        (
            "select * from hop(trades, ts, '1 s', '1 min')",
            "a query that ends can only have tumbling windows",
            "hop",
        ),
        (
            "select * from trades a asof join trades b match_condition (a.ts >= b.ts)",
            "a join over time needs a continuous query",
            "a.ts >= b.ts",
        ),
        (
            "select * from trades window length(5)",
            "a WINDOW of a relation needs a continuous query",
            "window",
        ),
        (
            "select * from trades emit changes",
            "a query that ends has nothing to emit later",
            "emit changes",
        ),
    ] {
        refused(timed().bind_query(&query(text), &[]), text, "0A000", message, caret);
    }
}

#[test]
fn the_option_of_lateness_is_kept_with_the_query() {
    let text = "create stream s as select window_end, count(*) c, _revision r
        from tumble(a, ts, '1 min') group by window_end with (allowed_lateness = '20 s')";
    let StatementKind::CreateStreamAs(create) = statement(text) else { panic!("not a stream") };
    let wanted =
        "StreamAggregate: tumble 1m, by [], [count(Int64(1))], emit on window close, lateness 20s";
    assert_eq!(nodes(timed().bind_continuous(&create.query), text), [wanted]);
    let stored = crate::parse::parse_query(&create.query.stored_text()).expect("stored");
    assert_eq!(nodes(timed().bind_continuous(&stored), text), [wanted]);
}

#[test]
fn the_stored_text_is_the_whole_query() {
    for query in [
        "select max(v) from a window sort(10, v desc)",
        "select k, v from a window('time', '5 s') x",
        "select a.k, b.v from a, b for system_time as of a.ts x",
        "select k, count(*) from a group by k emit changes output last every 5 rows",
    ] {
        let text = format!("create stream s as {query}");
        let StatementKind::CreateStreamAs(create) = statement(&text) else { panic!("{text}") };
        assert_eq!(create.query.stored_text(), query);
    }
}
