//! Whatever parses can be bound or is refused; nothing panics or overflows the stack.

use proptest::prelude::*;

use super::*;

const SEEDS: [&str; 15] = [
    "with a as (select symbol, price from trades union all select symbol, price from quotes) select distinct upper(symbol) as s, case when price > 1 then 'x' end from a where price > $1 order by 1 limit $2",
    "select t.*, _offset, (select max(price) from quotes q where q.symbol = t.symbol) from trades t where ts > now() - interval '1 day'",
    "select symbol, count(*) filter (where price > 1), sum(price) over (partition by symbol order by ts) from trades group by symbol, price, ts having count(*) > 1",
    "insert into users (id, name, score) values (1, default, 2.5), ($1, 'x', null) on conflict (id) do update set name = excluded.name, score = users.score + 1 where users.id > 1 returning *, id + 1",
    "update users u set (name, score) = (default, score + 1) where u.id in (select volume from trades) returning u.name",
    "delete from users where name like 'a%' or score between $1 and 5 returning id",
    "create stream b as select distinct *, _time as t from fraud.alerts where userid > 5 limit 3 with (start = 'earliest')",
    "select u::text, b::text, tags[1], n::int, ok is not true, small / 0, 'x'::uuid, '1 day'::interval from quotes",
    "select * from users u left join trades t using (id) natural join quotes cross join generate_series(1, 2) g",
    "create stream b as select window_end, symbol, count(*) c, _revision from hop(table trades, descriptor(_time), interval '1 s', '5 s') group by window_end, symbol having count(*) > 1 emit every '1 s' output last every 5 rows with (allowed_lateness = '2 s')",
    "create stream b as select k, max(n) from tumble((select symbol k, window_end, sum(volume) n from session(trades partition by symbol, _time, '1 s') group by 1, 2), window_end, '1 h') group by k, window_start order by 2 desc limit 3",
    "create stream b as select t.symbol, q.small from trades t left join quotes q within '5 s' on t.symbol = q.symbol and q._time between t._time and t._time + interval '5 s' where exists (select 1 from users u where u.id = t.volume)",
    "create stream b as select symbol, avg(price) a from trades window sort(10, price desc) where volume > 1 group by symbol having avg(price) > 2 emit changes",
    "create stream b as select t.symbol from trades t asof left join quotes q match_condition (t._time >= q._time) on t.symbol = q.symbol join users u on u.id = t.volume, quotes r for system_time as of t._time",
    "insert into trades select symbol, price, small, '2024-01-01' from quotes except select symbol, price, 1, null from quotes",
];

fn bind(text: &str) {
    let Ok(statements) = crate::parse(text) else { return };
    let binder = binder();
    for statement in statements {
        let error = match &statement.kind {
            StatementKind::Query(q) => {
                let _ = binder.bind_continuous(q);
                binder.bind_query(q, &[]).err()
            }
            StatementKind::CreateStreamAs(c) => binder.bind_continuous(&c.query).err(),
            StatementKind::Insert(i) => binder.bind_insert(i, &[]).err(),
            StatementKind::Update(u) => binder.bind_update(u, &[]).err(),
            StatementKind::Delete(d) => binder.bind_delete(d, &[]).err(),
            _ => None,
        };
        if let Some(error) = error {
            assert_ne!(error.state.0, "XX000", "{text}: {error:?}");
            if let Some(span) = error.span {
                assert!(span.start <= span.end && span.end <= text.len(), "{text}: {span:?}");
            }
        }
    }
}

#[test]
fn every_seed_is_bound_or_refused() {
    SEEDS.into_iter().for_each(bind);
}

#[test]
fn the_longest_statements_accepted_do_not_overflow_the_stack() {
    let chain = |op: &str| format!("select symbol from trades where price > 0{}", op.repeat(195));
    for text in [
        chain(" or price = 1"),
        format!("select 1{}", " + 1".repeat(195)),
        format!("select {}1{}", "(".repeat(95), ")".repeat(95)),
        format!("select {}1{}", "abs(".repeat(95), ")".repeat(95)),
        format!("select 1{}", " union all select 1".repeat(49)),
        format!("select {}true", "not ".repeat(195)),
        format!("select 1{}", "::bigint::int".repeat(95)),
    ] {
        // As deep as a worker thread of the server.
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || bind(&text))
            .expect("a thread")
            .join()
            .expect("no overflow");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_statements_are_bound_or_refused(
        seed in 0..SEEDS.len(),
        other in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<prop::sample::Index>()), 1..4),
    ) {
        let split = |t: &str| -> Vec<String> { t.split_inclusive([' ', '(', ')', ',']).map(String::from).collect() };
        let mut words = split(SEEDS[seed]);
        let donor = split(SEEDS[other]);
        for (at, kind, from) in edits {
            let i = at.index(words.len());
            match kind {
                0 => { if words.len() > 1 { words.remove(i); } }
                1 => words.insert(i, donor[from.index(donor.len())].clone()),
                2 => { let j = from.index(words.len()); words.swap(i, j); }
                _ => words[i] = donor[from.index(donor.len())].clone(),
            }
        }
        bind(&words.concat());
    }
}
