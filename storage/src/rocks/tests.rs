//! What only a store on disk can show: reopening, damage, failures.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::*;
use crate::Run;
use crate::suite::{ALL, append, commit, config, create, insert, read_all};

/// Small sizes, so that little data takes all ways.
fn options() -> RocksOptions {
    RocksOptions { tail_bytes: 1 << 20, cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20 }
}

fn open(dir: &TempDir) -> Arc<RocksStore> {
    RocksStore::open(dir.path(), &options()).unwrap()
}

fn reopen(dir: &TempDir, store: Arc<RocksStore>, streams: &[StreamId]) -> Arc<RocksStore> {
    drop(store);
    let store = open(dir);
    for &id in streams {
        store.open_stream(config(id)).unwrap();
    }
    store
}

mod with_tail {
    use super::*;
    crate::suite::conformance! {{
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        (dir, store)
    }}
}

/// All reads go to the disk.
mod without_tail {
    use super::*;
    crate::suite::conformance! {{
        let dir = TempDir::new().unwrap();
        let store = RocksStore::open(dir.path(), &RocksOptions { tail_bytes: 0, ..options() });
        (dir, store.unwrap())
    }}
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1, 2, 3]);
    insert(&*store, 1, 0..3);
    insert(&*store, 1, 3..9000);
    let timed = Append { time: Some(Run::Each(vec![7, 5].into())), ..append(2, 0..2) };
    let transaction = Transaction {
        appends: vec![timed],
        tables: vec![crate::TableChange {
            table: 4,
            key: b"k".to_vec(),
            value: Some(b"v".to_vec()),
        }],
        state: vec![(b"s".to_vec(), Some(b"t".to_vec()))],
        catalog: Some(b"one".to_vec()),
        ..Transaction::default()
    };
    commit(&*store, transaction).unwrap();
    let command = Transaction { catalog: Some(b"two".to_vec()), ..Transaction::default() };
    commit(&*store, command).unwrap();
    let before = [1, 2, 3].map(|id| (store.head(id).unwrap(), store.stats(id).unwrap()));
    let batch = store.read(2, 0, ALL, None).unwrap().remove(0);

    let mut store = store;
    for close in [false, true] {
        if close {
            store.close().unwrap();
        }
        store = reopen(&dir, store, &[1, 2, 3]);
        let after = [1, 2, 3].map(|id| (store.head(id).unwrap(), store.stats(id).unwrap()));
        assert_eq!(after, before);
        assert_eq!(store.sequence(), 9002);
        assert_eq!(read_all(&*store, 1), (0..9000).collect::<Vec<_>>());
        let again = store.read(2, 0, ALL, None).unwrap().remove(0);
        assert_eq!(again.rows, batch.rows);
        assert_eq!((again.time, again.ingested), (batch.time.clone(), batch.ingested.clone()));
        assert_eq!(store.table_get(4, b"k").unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(store.state_get(b"s").unwrap().as_deref(), Some(&b"t"[..]));
        assert_eq!(store.catalog_log().unwrap(), [b"one".to_vec(), b"two".to_vec()]);
    }
}

#[test]
fn numbers_go_on_after_reopening() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1, 2]);
    insert(&*store, 1, 0..9000);
    insert(&*store, 2, 0..10);
    let aged = StreamConfig { retention_age_us: Some(0), ..config(1) };
    store.open_stream(aged).unwrap();
    assert_eq!(store.sweep(i64::MAX).unwrap(), 9000);
    let committed =
        commit(&*store, Transaction { drop_streams: vec![2], ..Transaction::default() }).unwrap();
    assert_eq!(committed.sequence, 9010);

    let store = reopen(&dir, store, &[1]);
    assert_eq!(store.head(1).unwrap().oldest, 9000);
    assert_eq!(insert(&*store, 1, 0..6000), Committed { offsets: vec![9000], sequence: 15_010 });
    assert_eq!(read_all(&*store, 1), (0..6000).collect::<Vec<_>>());
    let commands = |store: &RocksStore, n: u8| {
        let catalog = Some(vec![n]);
        commit(store, Transaction { catalog, ..Transaction::default() }).unwrap();
    };
    commands(&store, 1);
    let store = reopen(&dir, store, &[1]);
    commands(&store, 2);
    assert_eq!(store.catalog_log().unwrap(), [vec![1], vec![2]]);
    assert_eq!(read_all(&*store, 1), (0..6000).collect::<Vec<_>>());
}

#[test]
fn staged_rows_survive_reopening_and_leave_no_files() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1]);
    let mut staged = store.stage(append(1, 0..50_000)).unwrap();
    for i in 1..4 {
        store.stage_next(&mut staged, append(1, i * 50_000..(i + 1) * 50_000)).unwrap();
    }
    store.submit_staged(vec![staged], Transaction::default(), Durability::Synced).wait().unwrap();
    insert(&*store, 1, 200_000..200_010);
    drop(store.stage(append(1, 0..50_000)).unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    assert_eq!(read_all(&*store, 1), (0..200_010).collect::<Vec<_>>());
    let store = reopen(&dir, store, &[1]);
    assert_eq!(read_all(&*store, 1), (0..200_010).collect::<Vec<_>>());
    insert(&*store, 1, 200_010..210_000);
    assert_eq!(read_all(&*store, 1), (0..210_000).collect::<Vec<_>>());
}

fn count(store: &RocksStore, family: &str) -> usize {
    store.shared.scan(family, &[], 0).unwrap().len()
}

#[test]
fn a_refused_load_gives_its_chunks_back() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1]);
    let staged = store.stage(append(1, 0..50_000)).unwrap();
    let bad = Transaction { drop_streams: vec![98], ..Transaction::default() };
    assert!(store.submit_staged(vec![staged], bad, Durability::Synced).wait().is_err());
    // The committer drops the load after it has answered.
    store.close().unwrap();
    assert_eq!(count(&store, keys::CHUNK), 0);
    assert!(store.shared.scan(keys::META, keys::LOADING, 0).unwrap().is_empty());
}

#[test]
fn a_load_cut_off_by_a_crash_is_removed_at_opening() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1]);
    insert(&*store, 1, 0..9000);
    let chunks = count(&store, keys::CHUNK);
    let mut staged = store.stage(append(1, 0..50_000)).unwrap();
    let load = staged.handle.downcast_mut::<stage::Load>().unwrap();
    load.move_in().unwrap();
    // As if the process ended here: nothing is given back.
    load.committed = true;
    drop(staged);
    std::fs::write(dir.path().join("staging").join("left.sst"), b"half a file").unwrap();
    assert_eq!(count(&store, keys::CHUNK), chunks + 1);
    let store = reopen(&dir, store, &[1]);
    assert_eq!(count(&store, keys::CHUNK), chunks);
    assert!(!dir.path().join("staging").exists());
    insert(&*store, 1, 9000..20_000);
    assert_eq!(read_all(&*store, 1), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn dropping_and_sweeping_remove_from_disk() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1, 2]);
    insert(&*store, 1, 0..9000);
    insert(&*store, 2, 0..9000);
    assert_eq!(count(&store, keys::CHUNK), 2);
    commit(&*store, Transaction { drop_streams: vec![1], ..Transaction::default() }).unwrap();
    assert_eq!((count(&store, keys::CHUNK), count(&store, keys::INDEX)), (1, 1));
    store.open_stream(StreamConfig { retention_age_us: Some(0), ..config(2) }).unwrap();
    store.sweep(i64::MAX).unwrap();
    assert_eq!((count(&store, keys::CHUNK), count(&store, keys::INDEX)), (0, 0));
}

#[test]
fn damage_is_noticed() {
    let dir = TempDir::new().unwrap();
    let store = RocksStore::open(dir.path(), &RocksOptions { tail_bytes: 0, ..options() }).unwrap();
    create(&*store, &[1, 2]);
    insert(&*store, 1, 0..9000);
    insert(&*store, 2, 0..3);
    for family in [keys::CHUNK, keys::INDEX] {
        for (key, value) in store.shared.scan(family, &[], 0).unwrap() {
            let mut damaged = value.clone();
            let at = damaged.len() - 10;
            damaged[at] ^= 1;
            store.shared.db.put_cf(cf(&store.shared.db, family), &key, damaged).unwrap();
            let stream = u32::from_be_bytes(*key.first_chunk().unwrap());
            let read = store.read(stream, 0, ALL, None);
            assert!(matches!(read, Err(StorageError::Corrupted(_))), "{family} {key:?}");
            store.shared.db.put_cf(cf(&store.shared.db, family), &key, value).unwrap();
            assert!(store.read(stream, 0, ALL, None).is_ok());
        }
    }
    let (key, _) = store.shared.scan(keys::CHUNK, &[], 0).unwrap().remove(0);
    store.shared.db.delete_cf(cf(&store.shared.db, keys::CHUNK), key).unwrap();
    assert!(matches!(store.read(1, 0, ALL, None), Err(StorageError::Corrupted(_))));
}

#[test]
fn a_full_disk_refuses_what_comes_and_takes_it_later() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1]);
    insert(&*store, 1, 0..3);
    store.shared.faults.full.store(true, Ordering::Relaxed);
    let one = || Transaction { appends: vec![append(1, 3..4)], ..Transaction::default() };
    assert!(matches!(commit(&*store, one()), Err(StorageError::DiskFull)));
    assert!(matches!(store.stage(append(1, 0..50_000)), Err(StorageError::DiskFull)));
    assert_eq!(read_all(&*store, 1), [0, 1, 2]);
    assert!(store.failure().is_none());
    store.shared.faults.full.store(false, Ordering::Relaxed);
    assert_eq!(commit(&*store, one()).unwrap(), Committed { offsets: vec![3], sequence: 4 });
    assert_eq!(read_all(&*store, 1), [0, 1, 2, 3]);
}

#[test]
fn a_failed_sync_is_final() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1]);
    insert(&*store, 1, 0..3);
    store.shared.faults.sync.store(true, Ordering::Relaxed);
    let one = || Transaction { appends: vec![append(1, 3..4)], ..Transaction::default() };
    assert!(matches!(commit(&*store, one()), Err(StorageError::Failed(_))));
    store.shared.faults.sync.store(false, Ordering::Relaxed);
    assert!(matches!(commit(&*store, one()), Err(StorageError::Failed(_))), "never tried again");
    let buffered = store.submit(Transaction::default(), Durability::Buffered).wait();
    assert!(matches!(buffered, Err(StorageError::Failed(_))));
    assert!(store.failure().is_some());
    assert!(store.close().is_err());
    // Nothing of it was seen; what was acknowledged is still read.
    assert_eq!(read_all(&*store, 1), [0, 1, 2]);
}

#[test]
fn a_directory_is_opened_once_and_only_in_a_known_format() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let second = RocksStore::open(dir.path(), &options()).map(drop);
    let Err(StorageError::Io(text)) = second else { panic!("{second:?}") };
    assert!(text.contains("another process"), "{text}");
    let db = &store.shared.db;
    db.put_cf(cf(db, keys::META), keys::FORMAT, b"auspex storage 2").unwrap();
    drop(store);
    let newer = RocksStore::open(dir.path(), &options()).map(drop);
    assert!(matches!(newer, Err(StorageError::UnknownFormat(_))));
}

#[test]
fn buffered_rows_do_not_pass_through_the_committer() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1]);
    // The committer is gone, so what succeeds did not need it.
    store.orders.send(Order::Stop).unwrap();
    let mut appended = append(1, 0..3);
    appended.derived = Some((Run::Sequence(5), Run::Constant(9)));
    let state = vec![(b"position".to_vec(), Some(vec![1]))];
    let transaction = Transaction { appends: vec![appended], state, ..Transaction::default() };
    let committed = store.submit(transaction, Durability::Buffered).wait().unwrap();
    assert_eq!(committed, Committed { offsets: vec![0], sequence: 0 });
    assert_eq!(read_all(&*store, 1), [0, 1, 2]);
}

#[test]
fn all_ways_in_at_once_keep_every_stream_in_order() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    create(&*store, &[1, 2, 3]);
    store.open_stream(StreamConfig { retention_bytes: Some(20_000), ..config(3) }).unwrap();
    let one =
        |stream, n: i64| Transaction { appends: vec![append(stream, [n])], ..Default::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|n| drop(commit(&*store, one(1, n)).unwrap())));
        scope.spawn(|| {
            for n in 0..300 {
                // Rows of two streams in falling order of their numbers: locks must not cross.
                let derived = [3, 2].map(|stream| Append {
                    derived: Some((Run::Constant(n), Run::Constant(n))),
                    at_offset: Some(n as u64),
                    ..append(stream, [n])
                });
                let appends = derived.to_vec();
                let transaction = Transaction { appends, ..Transaction::default() };
                store.submit(transaction, Durability::Buffered).wait().unwrap();
            }
        });
        scope.spawn(|| {
            for n in 10..30 {
                create(&*store, &[n]);
                let staged = store.stage(append(n, 0..5000)).unwrap();
                let rest = one(n, 5000);
                store.submit_staged(vec![staged], rest, Durability::Synced).wait().unwrap();
                assert_eq!(read_all(&*store, n).len(), 5001);
                let drop_streams = vec![n];
                commit(&*store, Transaction { drop_streams, ..Transaction::default() }).unwrap();
            }
        });
        scope.spawn(|| (0..50).map(|_| store.sweep(0).unwrap()).sum::<u64>());
    });
    assert_eq!(read_all(&*store, 1), (0..100).collect::<Vec<_>>());
    assert_eq!(read_all(&*store, 2), (0..300).collect::<Vec<_>>());
    let oldest = store.head(3).unwrap().oldest as i64;
    assert_eq!(read_all(&*store, 3), (oldest..300).collect::<Vec<_>>());
    assert_eq!(store.sequence(), 100 + 20 * 5001);
}
