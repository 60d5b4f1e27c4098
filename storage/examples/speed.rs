//! Measures the store alone: rows of the W1 workload staged, committed and read back.
//!
//! `cargo run --release -p auspex-storage --example speed -- [million rows] [directory]`

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, StringViewArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use auspex_storage::{
    Append, Durability, ReadLimit, RocksOptions, RocksStore, Store, StreamConfig, Transaction,
};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: i64 = 65_536;

fn spread(i: i64, below: i64) -> i64 {
    ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as i64 % below
}

fn w1(first: i64) -> Result<RecordBatch, arrow::error::ArrowError> {
    let rows = first..first + BATCH;
    let ts = rows.clone().map(|i| 1_700_000_000_000_000 + i / 10 * 1000);
    let keys: Vec<String> = rows.clone().map(|i| format!("S{:04}", spread(i, 1000))).collect();
    RecordBatch::try_from_iter([
        ("type", Arc::new(StringViewArray::from(vec!["Tick"; BATCH as usize])) as ArrayRef),
        ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values(ts).with_timezone("UTC"))),
        ("k", Arc::new(StringViewArray::from_iter_values(&keys))),
        (
            "v",
            Arc::new(Float64Array::from_iter_values(
                rows.clone().map(|i| spread(i + 7, 100_000) as f64 / 100.0),
            )),
        ),
        ("q", Arc::new(Int64Array::from_iter_values(rows.map(|i| spread(i + 9, 1000) + 1)))),
    ])
}

fn append(rows: RecordBatch) -> Append {
    Append { stream: 1, rows, time: None, derived: None, at_offset: None }
}

/// Nanoseconds this thread has run, which other programs on the machine do not stretch as they
/// do the wall clock. Linux only; 0 elsewhere.
fn thread_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let millions: i64 = args.next().map_or(Ok(10), |n| n.parse())?;
    let given = args.next();
    let dir = tempfile::tempdir()?;
    let path = given.map_or(dir.path().to_path_buf(), Into::into);
    let started = Instant::now();
    let store = RocksStore::open(&path, &RocksOptions::default())?;
    println!("open: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let batches = (0..(millions * 1_000_000 / BATCH).min(32))
        .map(|i| w1(i * BATCH))
        .collect::<Result<Vec<_>, _>>()?;
    let count = millions * 1_000_000 / BATCH;
    let config = StreamConfig {
        id: 1,
        schema: batches[0].schema(),
        derived: false,
        retention_age_us: None,
        retention_bytes: None,
    };
    let create = Transaction { create_streams: vec![config], ..Transaction::default() };
    store.submit(create, Durability::Synced).wait()?;

    let rows = (count * BATCH) as f64;
    let rate = |what: &str, (since, ran): (Instant, u64), rows: f64| {
        let seconds = since.elapsed().as_secs_f64();
        let million = rows / 1e6;
        let busy = (thread_ns() - ran) as f64 / 1e9;
        println!(
            "{what}: {seconds:.3} s, {:.2} million rows/s ({:.2} per second of this thread)",
            million / seconds,
            million / busy
        );
    };
    let now = || (Instant::now(), thread_ns());
    let started = now();
    let mut staged = store.stage(append(batches[0].clone()))?;
    for i in 1..count {
        store.stage_next(&mut staged, append(batches[i as usize % batches.len()].clone()))?;
    }
    rate("staged", started, rows);
    store.submit_staged(vec![staged], Transaction::default(), Durability::Synced).wait()?;
    rate("staged and committed", started, rows);
    let stats = store.stats(1)?;
    println!("{:.2} bytes a row", stats.bytes as f64 / stats.rows as f64);

    let read = |what: &str, projection: Option<&[usize]>| -> Result<(), Box<dyn Error>> {
        let started = now();
        let mut from = 0;
        loop {
            let limit = ReadLimit { rows: 1, until: u64::MAX };
            let batches = store.read(1, from, limit, projection)?;
            let Some(last) = batches.last() else { break };
            from = last.end();
        }
        rate(what, started, rows);
        Ok(())
    };
    read("read", None)?;
    for (column, name) in ["type", "ts", "k", "v", "q"].iter().enumerate() {
        read(&format!("read {name}"), Some(&[column]))?;
    }

    let started = now();
    let inserts = 2000;
    for i in 0..inserts {
        let row = batches[0].slice(i, 1);
        let transaction = Transaction { appends: vec![append(row)], ..Transaction::default() };
        store.submit(transaction, Durability::Synced).wait()?;
    }
    rate("single-row inserts one after the other", started, inserts as f64);
    Ok(())
}
