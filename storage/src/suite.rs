//! The rules that every store keeps. Each is a function over a freshly opened store; `mem` and
//! `rocks` run them all.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::store::*;
use crate::{EventBatch, Run, StorageError};

pub(crate) const ALL: ReadLimit = ReadLimit { rows: usize::MAX, until: u64::MAX };

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("s", DataType::Utf8View, true),
    ]))
}

pub(crate) fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let numbers: Vec<i64> = numbers.into_iter().collect();
    let texts = StringViewArray::from_iter(
        numbers.iter().map(|n| (n % 5 != 0).then(|| format!("text number {n}"))),
    );
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(numbers)), Arc::new(texts)])
        .unwrap()
}

pub(crate) fn config(id: StreamId) -> StreamConfig {
    StreamConfig {
        id,
        schema: schema(),
        derived: false,
        retention_age_us: None,
        retention_bytes: None,
    }
}

pub(crate) fn append(stream: StreamId, numbers: impl IntoIterator<Item = i64>) -> Append {
    Append { stream, rows: rows(numbers), time: None, derived: None, at_offset: None }
}

fn derived(stream: StreamId, numbers: Vec<i64>, sequence: Vec<i64>, at: u64) -> Append {
    let ingested = Run::Each(numbers.iter().map(|n| n * 10).collect());
    Append {
        derived: Some((Run::Each(sequence.into()), ingested)),
        at_offset: Some(at),
        ..append(stream, numbers)
    }
}

pub(crate) fn create(store: &dyn Store, streams: &[StreamId]) {
    let create_streams = streams.iter().map(|&id| config(id)).collect();
    commit(store, Transaction { create_streams, ..Transaction::default() }).unwrap();
}

pub(crate) fn commit(
    store: &dyn Store,
    transaction: Transaction,
) -> Result<Committed, StorageError> {
    store.submit(transaction, Durability::Synced).wait()
}

pub(crate) fn insert(
    store: &dyn Store,
    stream: StreamId,
    numbers: impl IntoIterator<Item = i64>,
) -> Committed {
    let appends = vec![append(stream, numbers)];
    commit(store, Transaction { appends, ..Transaction::default() }).unwrap()
}

fn numbers_of(batches: &[EventBatch]) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|batch| batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

/// All rows of a stream: its numbers. Checks offsets and order on the way.
pub(crate) fn read_all(store: &dyn Store, stream: StreamId) -> Vec<i64> {
    let head = store.head(stream).unwrap();
    let batches = store.read(stream, head.oldest, ALL, None).unwrap();
    let mut next = head.oldest;
    let mut last = i64::MIN;
    for batch in &batches {
        assert_eq!(batch.offset, next);
        next = batch.end();
        for row in 0..batch.len() {
            assert!(batch.sequence.get(row) >= last);
            last = batch.sequence.get(row);
        }
        let texts = batch.rows.column(1).as_string_view();
        for (n, s) in batch.rows.column(0).as_primitive::<Int64Type>().values().iter().zip(texts) {
            assert_eq!(s, (n % 5 != 0).then(|| format!("text number {n}")).as_deref());
        }
    }
    assert_eq!(next, head.next);
    numbers_of(&batches)
}

/// Defines a test per rule, each over `$open`'s store.
macro_rules! conformance {
    ($open:expr, $($rule:ident)*) => {
        $(#[test]
        fn $rule() {
            let (_guard, store) = $open;
            crate::suite::$rule(&*store);
        })*
    };
    ($open:expr) => {
        crate::suite::conformance! { $open,
            offsets_are_gapless_under_concurrent_writers
            a_transaction_is_applied_as_a_whole
            a_refused_transaction_leaves_nothing_and_hurts_no_other
            replay_at_an_offset_is_idempotent_and_a_gap_is_refused
            reads_obey_projection_limit_and_start
            small_batches_are_joined
            heads_and_sequence_never_fall
            a_derived_stream_is_complete_as_far_as_its_query_says
            rows_are_found_by_time_and_place
            tables_and_state_are_ordered_maps
            dropped_staged_rows_leave_nothing
            staged_and_plain_rows_commit_together
            a_dropped_stream_is_gone
            old_rows_are_swept_by_age
            old_rows_are_swept_by_bytes
            rows_that_do_not_fit_are_refused
            a_closed_store_accepts_nothing
            empty_appends_are_nothing
        }
    };
}
pub(crate) use conformance;

pub(crate) fn offsets_are_gapless_under_concurrent_writers(store: &dyn Store) {
    create(store, &[1, 2]);
    std::thread::scope(|scope| {
        for writer in 0..4i64 {
            scope.spawn(move || {
                let pending: Vec<(i64, Pending)> = (0..50)
                    .map(|i| {
                        let first = writer * 10_000 + i * 10;
                        let stream = 1 + (i % 2) as u32;
                        let appends = vec![append(stream, first..first + 1 + i % 7)];
                        let transaction = Transaction { appends, ..Transaction::default() };
                        (first, store.submit(transaction, Durability::Synced))
                    })
                    .collect();
                for (i, (first, pending)) in pending.into_iter().enumerate() {
                    let committed = pending.wait().unwrap();
                    let stream = 1 + (i % 2) as u32;
                    let read = store.read(stream, committed.offsets[0], ALL, None).unwrap();
                    assert_eq!(numbers_of(&read)[0], first);
                    assert!(store.sequence() >= committed.sequence);
                }
            });
        }
    });
    let mut all = read_all(store, 1);
    all.extend(read_all(store, 2));
    let expected: usize = (0..50).map(|i| 1 + i % 7).sum::<usize>() * 4;
    assert_eq!(all.len(), expected);
    assert_eq!(store.sequence(), expected as u64);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), expected);
}

pub(crate) fn a_transaction_is_applied_as_a_whole(store: &dyn Store) {
    create(store, &[1, 2]);
    let change = |key: &[u8], value: &[u8]| TableChange {
        table: 9,
        key: key.into(),
        value: Some(value.into()),
    };
    let committed = commit(
        store,
        Transaction {
            appends: vec![append(1, 0..3), append(2, 3..5), append(1, 5..6)],
            tables: vec![change(b"a", b"1"), change(b"b", b"2")],
            state: vec![(b"position".to_vec(), Some(b"6".to_vec()))],
            catalog: Some(b"create".to_vec()),
            ..Transaction::default()
        },
    )
    .unwrap();
    assert_eq!(committed, Committed { offsets: vec![0, 0, 3], sequence: 6 });
    assert_eq!(read_all(store, 1), [0, 1, 2, 5]);
    assert_eq!(read_all(store, 2), [3, 4]);
    let sequences: Vec<i64> = store
        .read(1, 0, ALL, None)
        .unwrap()
        .iter()
        .flat_map(|batch| batch.sequence.to_values(batch.len()).to_vec())
        .collect();
    assert_eq!(sequences, [0, 1, 2, 5]);
    assert_eq!(store.table_get(9, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.state_get(b"position").unwrap().as_deref(), Some(&b"6"[..]));
    assert_eq!(store.catalog_log().unwrap(), [b"create".to_vec()]);
}

pub(crate) fn a_refused_transaction_leaves_nothing_and_hurts_no_other(store: &dyn Store) {
    create(store, &[1]);
    let bad = Transaction {
        appends: vec![append(1, 0..3), append(77, 0..1)],
        state: vec![(b"k".to_vec(), Some(b"v".to_vec()))],
        ..Transaction::default()
    };
    let gap = Transaction {
        appends: vec![append(1, 0..3), Append { at_offset: Some(1000), ..append(1, 0..1) }],
        catalog: None,
        ..Transaction::default()
    };
    let good =
        |n: i64| Transaction { appends: vec![append(1, n..n + 1)], ..Transaction::default() };
    let pending = [good(10), bad, gap, good(11)].map(|t| store.submit(t, Durability::Synced));
    let [first, bad, gap, second] = pending.map(Pending::wait);
    assert_eq!(first.unwrap().offsets, [0]);
    assert!(matches!(bad, Err(StorageError::UnknownStream(77))));
    assert!(matches!(gap, Err(StorageError::Misuse(_))));
    assert_eq!(second.unwrap(), Committed { offsets: vec![1], sequence: 2 });
    assert_eq!(read_all(store, 1), [10, 11]);
    assert_eq!(store.state_get(b"k").unwrap(), None);
    assert!(store.failure().is_none());
}

pub(crate) fn replay_at_an_offset_is_idempotent_and_a_gap_is_refused(store: &dyn Store) {
    create(store, &[1]);
    let put = |numbers: Vec<i64>, sequence: Vec<i64>, at: u64| {
        let appends = vec![derived(1, numbers, sequence, at)];
        let transaction = Transaction { appends, ..Transaction::default() };
        store.submit(transaction, Durability::Buffered).wait()
    };
    put(vec![1, 2, 3], vec![10, 10, 12], 0).unwrap();
    put(vec![2, 3], vec![10, 12], 1).unwrap();
    put(vec![3, 4], vec![12, 15], 2).unwrap();
    put(vec![], vec![], 1).unwrap();
    assert!(matches!(put(vec![9], vec![99], 5), Err(StorageError::Misuse(_))));
    assert!(matches!(put(vec![9], vec![3], 4), Err(StorageError::Misuse(_))), "places fall");
    assert!(matches!(put(vec![9, 8], vec![30, 20], 4), Err(StorageError::Misuse(_))));
    assert_eq!(read_all(store, 1), [1, 2, 3, 4]);
    let batches = store.read(1, 3, ALL, None).unwrap();
    assert_eq!(batches[0].sequence.get(0), 15);
    assert_eq!((batches[0].ingested.get(0), batches[0].time.get(0)), (40, 40));
    // New rows of other streams are not numbered by derived ones.
    assert_eq!(store.sequence(), 0);
}

pub(crate) fn reads_obey_projection_limit_and_start(store: &dyn Store) {
    create(store, &[1]);
    insert(store, 1, 0..2000);
    insert(store, 1, 2000..4000);
    insert(store, 1, 4000..6000);
    let limit = |rows, until| ReadLimit { rows, until };
    let read = |from, limit| numbers_of(&store.read(1, from, limit, None).unwrap());
    assert_eq!(read(0, ALL), (0..6000).collect::<Vec<_>>());
    assert_eq!(read(3999, ALL), (3999..6000).collect::<Vec<_>>());
    assert_eq!(read(5, limit(1, u64::MAX)), (5..2000).collect::<Vec<_>>());
    assert_eq!(read(5, limit(2000, u64::MAX)), (5..4000).collect::<Vec<_>>());
    assert_eq!(read(5, limit(usize::MAX, 7)), [5, 6]);
    assert_eq!(read(5, limit(1, 5)), [0i64; 0]);
    assert_eq!(read(6000, ALL), [0i64; 0]);
    assert_eq!(read(7000, ALL), [0i64; 0]);
    let texts = store.read(1, 4001, ALL, Some(&[1])).unwrap();
    assert_eq!(texts[0].rows.schema().field(0).name(), "s");
    assert_eq!(texts[0].rows.column(0).as_string_view().value(0), "text number 4001");
    assert_eq!((texts[0].offset, texts[0].sequence.get(0)), (4001, 4001));
    let swapped = store.read(1, 1, limit(1, 2), Some(&[1, 0])).unwrap();
    assert_eq!(swapped[0].rows.column(1).as_primitive::<Int64Type>().values(), &[1]);
    let counted = store.read(1, 0, ALL, Some(&[])).unwrap();
    assert_eq!(counted.iter().map(EventBatch::len).sum::<usize>(), 6000);
    assert!(matches!(store.read(1, 0, ALL, Some(&[7])), Err(StorageError::Misuse(_))));
    assert!(matches!(store.read(5, 0, ALL, None), Err(StorageError::UnknownStream(5))));
}

pub(crate) fn small_batches_are_joined(store: &dyn Store) {
    create(store, &[1]);
    for n in 0..300 {
        insert(store, 1, n..n + 1);
    }
    let batches = store.read(1, 0, ALL, None).unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].sequence, Run::Sequence(0));
    assert_eq!(read_all(store, 1), (0..300).collect::<Vec<_>>());
}

pub(crate) fn heads_and_sequence_never_fall(store: &dyn Store) {
    create(store, &[1, 2]);
    let mut watched = store.watch(1).unwrap();
    let mut sequence = store.watch_sequence();
    assert_eq!(*watched.borrow_and_update(), Head { max_time: i64::MIN, ..Head::default() });
    let timed = Append { time: Some(Run::Each(vec![50, 70, 60].into())), ..append(1, 0..3) };
    commit(store, Transaction { appends: vec![timed], ..Transaction::default() }).unwrap();
    assert!(watched.has_changed().unwrap());
    let head = Head { oldest: 0, next: 3, complete: 3, max_time: 70, dropped: false };
    assert_eq!(*watched.borrow_and_update(), head);
    assert_eq!(*sequence.borrow_and_update(), 3);
    let earlier = Append { time: Some(Run::Constant(5)), ..append(1, 3..5) };
    commit(store, Transaction { appends: vec![earlier], ..Transaction::default() }).unwrap();
    assert_eq!(*watched.borrow_and_update(), Head { next: 5, complete: 5, ..head });
    insert(store, 2, 0..4);
    // Another stream's rows do not wake this one's readers, but make it more complete.
    assert!(!watched.has_changed().unwrap());
    assert!(sequence.has_changed().unwrap());
    assert_eq!(store.head(1).unwrap(), Head { next: 5, complete: 9, ..head });
    let ingested: Vec<i64> = store
        .read(1, 0, ALL, None)
        .unwrap()
        .iter()
        .flat_map(|batch| batch.ingested.to_values(batch.len()).to_vec())
        .collect();
    assert!(ingested.is_sorted() && ingested[0] > 1_600_000_000_000_000);
}

pub(crate) fn a_derived_stream_is_complete_as_far_as_its_query_says(store: &dyn Store) {
    let create_streams = vec![config(1), StreamConfig { derived: true, ..config(2) }];
    commit(store, Transaction { create_streams, ..Transaction::default() }).unwrap();
    insert(store, 1, 0..5);
    assert_eq!(store.head(1).unwrap().complete, 5);
    assert_eq!(store.head(2).unwrap().complete, 0);
    let mut watched = store.watch(2).unwrap();
    store.set_complete(2, 4).unwrap();
    assert!(watched.has_changed().unwrap());
    assert_eq!(watched.borrow_and_update().complete, 4);
    store.set_complete(2, 3).unwrap();
    assert_eq!(store.head(2).unwrap().complete, 4);
    assert!(!watched.has_changed().unwrap());
}

pub(crate) fn rows_are_found_by_time_and_place(store: &dyn Store) {
    create(store, &[1, 2]);
    let at = |stream, times: Vec<i64>| {
        let n = times.len() as i64;
        let timed = Append { time: Some(Run::Each(times.into())), ..append(stream, 0..n) };
        commit(store, Transaction { appends: vec![timed], ..Transaction::default() }).unwrap();
    };
    at(1, vec![10, 30, 20]); // places 0, 1, 2
    at(2, vec![5]); // 3
    at(1, vec![15, 40]); // 4, 5
    at(2, vec![5, 6]); // 6, 7
    at(1, vec![35]); // 8
    let time = |t| store.offset_at_time(1, t).unwrap();
    let expected = [(0, 0), (10, 0), (11, 1), (30, 1), (31, 4), (40, 4), (41, 6), (i64::MAX, 6)];
    for (t, offset) in expected {
        assert_eq!(time(t), offset, "time {t}");
    }
    let place = |s| store.offset_at_sequence(1, s).unwrap();
    let expected =
        [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (8, 5), (9, 6), (u64::MAX, 6)];
    for (s, offset) in expected {
        assert_eq!(place(s), offset, "place {s}");
    }
}

pub(crate) fn tables_and_state_are_ordered_maps(store: &dyn Store) {
    type Value<'a> = Option<&'a [u8]>;
    let set = |tables: Vec<(u32, &[u8], Value<'_>)>, state: Vec<(&[u8], Value<'_>)>| {
        let tables = tables
            .into_iter()
            .map(|(table, key, value)| TableChange {
                table,
                key: key.into(),
                value: value.map(<[u8]>::to_vec),
            })
            .collect();
        let state = state.into_iter().map(|(k, v)| (k.into(), v.map(<[u8]>::to_vec))).collect();
        commit(store, Transaction { tables, state, ..Transaction::default() }).unwrap();
    };
    set(
        vec![(1, b"b", Some(b"2")), (1, b"a", Some(b"1")), (2, b"a", Some(b"other"))],
        vec![(b"q1/x", Some(b"1")), (b"q1/a", Some(b"2")), (b"q2/a", Some(b"3"))],
    );
    set(
        vec![(1, b"b", None), (1, b"\xff", Some(b"4")), (1, b"c", Some(b"3"))],
        vec![(b"q1/x", None)],
    );
    let scan = |table| store.table_scan(table).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let pair = |k: &[u8], v: &[u8]| (k.to_vec(), v.to_vec());
    let before = store.table_scan(1).unwrap();
    assert_eq!(scan(1), [pair(b"a", b"1"), pair(b"c", b"3"), pair(b"\xff", b"4")]);
    assert_eq!(store.table_get(1, b"b").unwrap(), None);
    assert_eq!(store.state_scan(b"q1/").unwrap(), [pair(b"q1/a", b"2")]);
    assert_eq!(store.state_scan(b"").unwrap().len(), 2);
    commit(
        store,
        Transaction {
            drop_tables: vec![1],
            drop_state: vec![b"q1/".to_vec()],
            state: vec![(b"q1/new".to_vec(), Some(b"5".to_vec()))],
            ..Transaction::default()
        },
    )
    .unwrap();
    assert_eq!(scan(1), []);
    assert_eq!(scan(2), [pair(b"a", b"other")]);
    assert_eq!(store.state_scan(b"q").unwrap(), [pair(b"q1/new", b"5"), pair(b"q2/a", b"3")]);
    assert_eq!(before.count(), 3, "a scan is of the moment of its call");
}

pub(crate) fn dropped_staged_rows_leave_nothing(store: &dyn Store) {
    create(store, &[1]);
    let mut staged = store.stage(append(1, 0..5000)).unwrap();
    store.stage_next(&mut staged, append(1, 5000..9000)).unwrap();
    assert_eq!(staged.rows, 9000);
    drop(staged);
    insert(store, 1, 1..3);
    assert_eq!(read_all(store, 1), [1, 2]);
    // And with a transaction that is refused.
    let staged = store.stage(append(1, 0..5000)).unwrap();
    let bad = Transaction { appends: vec![append(99, 0..1)], ..Transaction::default() };
    assert!(store.submit_staged(vec![staged], bad, Durability::Synced).wait().is_err());
    let staged = store.stage(append(1, 0..5000)).unwrap();
    let bad = Transaction { drop_streams: vec![98], ..Transaction::default() };
    assert!(store.submit_staged(vec![staged], bad, Durability::Synced).wait().is_err());
    insert(store, 1, 3..4);
    assert_eq!(read_all(store, 1), [1, 2, 3]);
    assert_eq!(store.sequence(), 3);
}

pub(crate) fn staged_and_plain_rows_commit_together(store: &dyn Store) {
    create(store, &[1, 2]);
    insert(store, 1, 0..1);
    let mut first = store.stage(append(1, 1..5000)).unwrap();
    let timed = Append { time: Some(Run::Sequence(7)), ..append(1, 5000..5003) };
    store.stage_next(&mut first, timed).unwrap();
    let second = store.stage(append(2, 0..4000)).unwrap();
    let wrong = Append { at_offset: Some(0), ..append(1, 0..1) };
    assert!(matches!(store.stage(wrong), Err(StorageError::Misuse(_))));
    assert!(matches!(store.stage(append(9, 0..1)), Err(StorageError::UnknownStream(9))));
    let transaction = Transaction {
        appends: vec![append(1, 5003..5005)],
        state: vec![(b"k".to_vec(), Some(b"v".to_vec()))],
        ..Transaction::default()
    };
    insert(store, 2, -1..0);
    let committed =
        store.submit_staged(vec![first, second], transaction, Durability::Synced).wait().unwrap();
    assert_eq!(committed.offsets, [1, 1, 5003]);
    assert_eq!(committed.sequence, 1 + 1 + 5002 + 4000 + 2);
    assert_eq!(read_all(store, 1), (0..5005).collect::<Vec<_>>());
    assert_eq!(read_all(store, 2), (-1..4000).collect::<Vec<_>>());
    let batch = &store.read(1, 5001, ALL, None).unwrap()[0];
    assert_eq!((batch.time.get(0), batch.time.get(1)), (8, 9));
    assert_eq!(store.state_get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

pub(crate) fn a_dropped_stream_is_gone(store: &dyn Store) {
    create(store, &[1, 2]);
    insert(store, 1, 0..5000);
    insert(store, 2, 0..10);
    let mut watched = store.watch(1).unwrap();
    watched.mark_unchanged();
    commit(store, Transaction { drop_streams: vec![1], ..Transaction::default() }).unwrap();
    assert!(watched.has_changed().is_err() || watched.borrow().dropped);
    assert!(watched.borrow().dropped);
    assert!(matches!(store.head(1), Err(StorageError::UnknownStream(1))));
    assert!(matches!(store.read(1, 0, ALL, None), Err(StorageError::UnknownStream(1))));
    let late = Transaction { appends: vec![append(1, 0..1)], ..Transaction::default() };
    assert!(matches!(commit(store, late), Err(StorageError::UnknownStream(1))));
    let twice = Transaction { drop_streams: vec![1], ..Transaction::default() };
    assert!(matches!(commit(store, twice), Err(StorageError::UnknownStream(1))));
    let again = Transaction { create_streams: vec![config(2)], ..Transaction::default() };
    assert!(matches!(commit(store, again), Err(StorageError::Misuse(_))));
    assert_eq!(read_all(store, 2), (0..10).collect::<Vec<_>>());
    assert_eq!(store.sequence(), 5010);
}

pub(crate) fn old_rows_are_swept_by_age(store: &dyn Store) {
    create(store, &[1, 2]);
    for stream in [1, 2] {
        insert(store, stream, 0..2000);
        insert(store, stream, 2000..4000);
    }
    assert_eq!(store.sweep(i64::MAX).unwrap(), 0, "nothing is swept unasked");
    let aged = StreamConfig { retention_age_us: Some(1_000_000), ..config(1) };
    store.open_stream(aged).unwrap();
    assert_eq!(store.sweep(0).unwrap(), 0);
    assert_eq!(store.sweep(i64::MAX).unwrap(), 4000);
    let head = store.head(1).unwrap();
    assert_eq!((head.oldest, head.next), (4000, 4000));
    assert_eq!(store.stats(1).unwrap(), StreamStats { rows: 0, bytes: 0 });
    let old = store.read(1, 3999, ALL, None);
    assert!(matches!(old, Err(StorageError::NotRetained { asked: 3999, oldest: 4000 })));
    assert_eq!(insert(store, 1, 7..9).offsets, [4000]);
    assert_eq!(read_all(store, 1), [7, 8]);
    assert_eq!(store.offset_at_sequence(1, 0).unwrap(), 4000);
    assert_eq!(store.offset_at_time(1, 0).unwrap(), 4000);
    assert_eq!(read_all(store, 2).len(), 4000);
}

pub(crate) fn old_rows_are_swept_by_bytes(store: &dyn Store) {
    create(store, &[1]);
    let mut sizes = Vec::new();
    for i in 0..4 {
        insert(store, 1, i * 2000..(i + 1) * 2000);
        sizes.push(store.stats(1).unwrap().bytes);
    }
    assert_eq!(store.stats(1).unwrap().rows, 8000);
    // As much as the last two batches: at least that is kept, and no whole batch more.
    let keep = sizes[3] - sizes[1];
    store.open_stream(StreamConfig { retention_bytes: Some(keep), ..config(1) }).unwrap();
    assert_eq!(store.sweep(0).unwrap(), 4000);
    assert_eq!(store.stats(1).unwrap(), StreamStats { rows: 4000, bytes: keep });
    assert_eq!(store.sweep(0).unwrap(), 0);
    assert_eq!(read_all(store, 1), (4000..8000).collect::<Vec<_>>());
    assert_eq!(store.offset_at_sequence(1, 10).unwrap(), 4000);
    // The greatest time of the swept rows is not one of the rows kept.
    assert_eq!(store.offset_at_time(1, i64::MAX).unwrap(), 8000);
    assert_eq!(store.offset_at_time(1, 1).unwrap(), 4000);
}

pub(crate) fn rows_that_do_not_fit_are_refused(store: &dyn Store) {
    create(store, &[1]);
    let other = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let narrow = RecordBatch::try_new(other, vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
    let refused = |append: Append| {
        let transaction = Transaction { appends: vec![append], ..Transaction::default() };
        assert!(matches!(commit(store, transaction), Err(StorageError::Misuse(_))));
    };
    refused(Append { rows: narrow, ..append(1, 0..1) });
    refused(Append { time: Some(Run::Each(vec![1].into())), ..append(1, 0..2) });
    let renamed = Arc::new(Schema::new(vec![
        Field::new("other", DataType::Int64, true),
        Field::new("name", DataType::Utf8View, true),
    ]));
    let columns = rows(0..2).columns().to_vec();
    let fitting = RecordBatch::try_new(renamed, columns).unwrap();
    let appends = vec![Append { rows: fitting, ..append(1, 0..1) }];
    commit(store, Transaction { appends, ..Transaction::default() }).unwrap();
    assert_eq!(store.read(1, 0, ALL, None).unwrap()[0].rows.schema(), schema());
}

pub(crate) fn a_closed_store_accepts_nothing(store: &dyn Store) {
    create(store, &[1]);
    insert(store, 1, 0..3);
    store.close().unwrap();
    let transaction = Transaction { appends: vec![append(1, 0..1)], ..Transaction::default() };
    assert!(matches!(commit(store, transaction), Err(StorageError::Closed)));
    assert_eq!(read_all(store, 1), [0, 1, 2]);
}

pub(crate) fn empty_appends_are_nothing(store: &dyn Store) {
    create(store, &[1]);
    assert_eq!(insert(store, 1, 0..0), Committed { offsets: vec![0], sequence: 0 });
    assert_eq!(commit(store, Transaction::default()).unwrap(), Committed::default());
    insert(store, 1, 0..2);
    assert_eq!(insert(store, 1, 0..0), Committed { offsets: vec![2], sequence: 2 });
    assert_eq!(read_all(store, 1), [0, 1]);
}
