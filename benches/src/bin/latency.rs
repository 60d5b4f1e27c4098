//! From INSERT to notification: how long after a client sends a single-row INSERT another client,
//! which LISTENs to a derived stream, has the row.
//!
//! `cargo run --release -p auspex-benches --bin latency -- --server target/release/auspex`
//!
//! The row is committed durably (one fdatasync, shared with whatever else is waiting), passes a
//! continuous query (filter and projection) and is pushed. The floor is one fdatasync of 4 KiB on
//! the same disk, measured before each rate in the same run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use auspex_benches::client::Client;
use auspex_tests::Server;
use clap::Parser;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Args {
    /// The `auspex` binary.
    #[arg(long)]
    server: PathBuf,
    /// Seconds per rate.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

/// One INSERT waits for its sync, so one connection carries only some hundred per second.
const INSERTS_PER_CONNECTION: u64 = 50;

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let server = Server::start_with(&args.server, &folder.path().join("data"), &[] as &[&str])?;
    let mut admin = Client::connect(server.address(), "auspex", "auspex")?;
    admin.query("CREATE STREAM events (id bigint NOT NULL, v double precision)")?;
    admin.query("CREATE STREAM seen AS SELECT id, v * 2 AS w FROM events WHERE v >= 0")?;
    println!(
        "{:>10} {:>8} {:>21} {:>21} {:>7}",
        "", "", "fdatasync 4 KiB, ms", "INSERT to notification, ms", ""
    );
    println!(
        "{:>10} {:>8} {:>10} {:>10} {:>12} {:>13} {:>7}",
        "inserts/s", "rows", "p50", "p99", "p50", "p99", "p50/p50"
    );
    let mut first = 0;
    for rate in [1u64, 100, 1000] {
        let rows = (rate * args.seconds).max(20);
        let mut floor = syncs(folder.path(), 300)?;
        let mut times = run(&server, rate, first, rows)?;
        first += rows;
        let (f50, f99) = (percentile(&mut floor, 50), percentile(&mut floor, 99));
        let (t50, t99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        println!(
            "{rate:>10} {rows:>8} {f50:>10.2} {f99:>10.2} {t50:>12.2} {t99:>13.2} {:>7.2}",
            t50 / f50
        );
    }
    let counted = admin.query("SELECT count(*), count(DISTINCT id) FROM seen")?;
    if counted != vec![vec![first.to_string(), first.to_string()]] {
        return Err(format!("{first} rows were inserted, the stream has {counted:?}").into());
    }
    Ok(())
}

/// Milliseconds of `count` appends of 4 KiB, each synced.
fn syncs(folder: &Path, count: usize) -> std::io::Result<Vec<f64>> {
    let mut file = File::create(folder.join("floor"))?;
    let block = [7u8; 4096];
    (0..count)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            Ok(began.elapsed().as_secs_f64() * 1e3)
        })
        .collect()
}

/// Milliseconds from INSERT to notification of `rows` rows with ids from `first`, at `rate` per
/// second.
fn run(server: &Server, rate: u64, first: u64, rows: u64) -> Result<Vec<f64>, Error> {
    let mut listener = Client::connect(server.address(), "auspex", "auspex")?;
    listener.query("LISTEN seen")?;
    let sent = Arc::new(Mutex::new(vec![None::<Instant>; rows as usize]));
    let connections = rate.div_ceil(INSERTS_PER_CONNECTION);
    let began = Instant::now() + Duration::from_millis(50);
    let writers: Vec<_> = (0..connections)
        .map(|writer| {
            let mut client = Client::connect(server.address(), "auspex", "auspex")?;
            let sent = Arc::clone(&sent);
            Ok(thread::spawn(move || -> std::io::Result<()> {
                for row in (writer..rows).step_by(connections as usize) {
                    let due = began + Duration::from_secs_f64(row as f64 / rate as f64);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let id = first + row;
                    let statement = format!("INSERT INTO events VALUES ({id}, {row}.5)");
                    sent.lock().unwrap_or_else(PoisonError::into_inner)[row as usize] =
                        Some(Instant::now());
                    client.query(&statement)?;
                }
                Ok(())
            }))
        })
        .collect::<std::io::Result<_>>()?;
    let mut times = Vec::with_capacity(rows as usize);
    for _ in 0..rows {
        let payload = listener.notification()?;
        let received = Instant::now();
        let id = id_of(&payload).ok_or_else(|| format!("unexpected payload {payload}"))?;
        let at = id.checked_sub(first).ok_or("a row of an earlier run")? as usize;
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner)[at].take();
        let sent = sent.ok_or_else(|| format!("row {id} came twice"))?;
        times.push((received - sent).as_secs_f64() * 1e3);
    }
    for writer in writers {
        writer.join().map_err(|_| "a writer panicked")??;
    }
    Ok(times)
}

/// The id in `{"id":12,..}`.
fn id_of(payload: &str) -> Option<u64> {
    let rest = payload.strip_prefix("{\"id\":")?;
    rest[..rest.find(',')?].parse().ok()
}

fn percentile(values: &mut [f64], p: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * p / 100).min(values.len() - 1)]
}
