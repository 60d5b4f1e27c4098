//! How long a server with much operator state takes to come back, and how fast its log grows.
//!
//! `cargo run --release -p auspex-benches --bin recovery -- --server target/release/auspex`
//!
//! A materialized view over as many keys as it takes to reach the wanted state; the server is killed
//! with -9. Timed are the open port and the first answer of the view that contains a row written
//! after the restart. The view's rows are counted and summed before and after.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auspex_benches::client::{Client, frame};
use auspex_tests::Server;
use clap::Parser;

type Error = Box<dyn std::error::Error>;

/// Size of the `CopyData` messages.
const PIECE: usize = 64 << 10;
/// Rows of one COPY.
const CHUNK: u64 = 1_000_000;

#[derive(Parser)]
struct Args {
    /// The `auspex` binary.
    #[arg(long)]
    server: PathBuf,
    /// Operator state to reach, in MB.
    #[arg(long, default_value_t = 1000)]
    state: u64,
}

const SCHEMA: &str = "
    CREATE STREAM ticks (ts timestamptz, k bigint, v double precision, q bigint, WATERMARK FOR ts AS ts);
    CREATE MATERIALIZED VIEW by_key AS
      SELECT k, count(*) AS n, sum(v) AS s, min(v) AS low, max(v) AS high FROM ticks GROUP BY k;
";

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let mut server = start(&args.server, &data)?;
    let mut client = Client::connect(server.address(), "auspex", "auspex")?;
    for statement in SCHEMA.split_inclusive(';').filter(|s| !s.trim().is_empty()) {
        client.query(statement)?;
    }
    let mut rows = 0;
    let mut state = 0;
    while state < args.state * 1_000_000 {
        let framed = frame(&ticks(rows..rows + CHUNK), PIECE);
        client.copy("COPY ticks FROM STDIN (FORMAT csv)", &framed)?;
        rows += CHUNK;
        check(&mut client, rows)?;
        let found = client.query("SELECT sum(state_bytes) FROM auspex.operators")?;
        state = found[0][0].parse()?;
        eprintln!("{rows} rows and keys: {} MB of operator state", state / 1_000_000);
    }
    // Time for the checkpoint that is due: what comes after it is computed again.
    std::thread::sleep(Duration::from_millis(1500));
    client.query(&insert(rows, rows))?;
    check(&mut client, rows + 1)?;
    let bytes = |name: &str| -> Result<f64, Error> {
        let sql = format!("SELECT bytes FROM auspex.streams WHERE name = '{name}'");
        let mut client = Client::connect(server.address(), "auspex", "auspex")?;
        Ok(client.query(&sql)?[0][0].parse::<f64>()? / (rows as f64 / 1e6) / 1e6)
    };
    println!("{rows} rows, each a new key; {:.0} MB of operator state", state as f64 / 1e6);
    println!("log, source stream          {:>8.1} MB per million rows", bytes("ticks")?);
    println!("data directory              {:>8.0} MB", directory(&data)? as f64 / 1e6);
    server.kill()?;

    let began = Instant::now();
    let server = start(&args.server, &data)?;
    let opened = began.elapsed().as_secs_f64();
    let mut client = Client::connect(server.address(), "auspex", "auspex")?;
    client.query(&insert(rows + 1, rows))?;
    // Waits until the view has the row.
    let found = client.query(&format!("SELECT n FROM by_key WHERE k = {rows}"))?;
    let answered = began.elapsed().as_secs_f64();
    if found != [["2"]] {
        return Err(format!("the view says {found:?} of the row written after the restart").into());
    }
    check(&mut client, rows + 1)?;
    println!("after kill -9: port open    {opened:>8.2} s");
    println!("first output of the view    {answered:>8.2} s");
    Ok(())
}

fn start(binary: &Path, data: &Path) -> Result<Server, Error> {
    Ok(Server::start_with(binary, data, &["--max-state-bytes", "64000000000"])?)
}

/// Rows with a key each.
fn ticks(rows: std::ops::Range<u64>) -> Vec<u8> {
    let mut text = String::with_capacity(64 * (rows.end - rows.start) as usize);
    for row in rows {
        text += &line(row, row);
        text.push('\n');
    }
    text.into_bytes()
}

fn line(row: u64, key: u64) -> String {
    let ms = row / 10;
    let (minute, second) = (ms / 60_000 % 60, ms / 1000 % 60);
    let (day, hour) = (1 + ms / 86_400_000, ms / 3_600_000 % 24);
    format!(
        "2024-01-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}+00,{key},{}.25,{}",
        ms % 1000,
        row % 1000,
        row % 100
    )
}

fn insert(row: u64, key: u64) -> String {
    let line = line(row, key);
    let values: Vec<&str> = line.split(',').collect();
    format!(
        "INSERT INTO ticks VALUES ('{}', {}, {}, {})",
        values[0], values[1], values[2], values[3]
    )
}

/// The view has one row per key.
fn check(client: &mut Client, keys: u64) -> Result<(), Error> {
    let found = client.query("SELECT count(*), sum(k)::bigint FROM by_key")?;
    let expected = [keys.to_string(), (keys * (keys - 1) / 2).to_string()];
    match found == [expected.to_vec()] {
        true => Ok(()),
        false => Err(format!("the view holds {found:?} instead of {expected:?}").into()),
    }
}

fn directory(path: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += if found.is_dir() { directory(&entry.path())? } else { found.len() };
    }
    Ok(bytes)
}
