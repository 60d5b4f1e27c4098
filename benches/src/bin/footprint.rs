//! What the server costs when it does nothing: time to start, memory, size.
//!
//! `cargo run --release -p auspex-benches --bin footprint -- --server target/release/auspex`
//!
//! Starting is timed from the start of the process to the answer to the first `SELECT 1`, once with
//! an empty data directory and once with the directory that this left behind.

use std::path::{Path, PathBuf};
use std::time::Instant;

use auspex_benches::client::Client;
use auspex_tests::Server;
use clap::Parser;

type Error = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Args {
    /// The `auspex` binary.
    #[arg(long)]
    server: PathBuf,
    /// Starts of each kind; the median counts.
    #[arg(long, default_value_t = 11)]
    runs: usize,
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let (mut empty, mut again) = (Vec::new(), Vec::new());
    let (mut resident, mut private) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let first = start(&args.server, &data)?;
        empty.push(first.seconds * 1e3);
        resident.push(first.resident);
        private.push(first.private);
        again.push(start(&args.server, &data)?.seconds * 1e3);
    }
    let size = std::fs::metadata(&args.server)?.len() as f64 / 1e6;
    println!(
        "start with an empty directory  {:>8.0} ms (median of {})",
        median(&mut empty),
        args.runs
    );
    println!("start with an existing one     {:>8.0} ms", median(&mut again));
    println!("resident after SELECT 1        {:>8.1} MiB", median(&mut resident));
    println!("of which private (RssAnon)     {:>8.1} MiB", median(&mut private));
    println!("binary, with line tables       {size:>8.1} MB");
    if let Some(stripped) = stripped_size(&args.server)? {
        println!("binary, stripped               {stripped:>8.1} MB");
    }
    Ok(())
}

/// One start: seconds to the first answer, and memory in MiB behind it.
struct Start {
    seconds: f64,
    resident: f64,
    private: f64,
}

fn start(binary: &Path, data: &Path) -> Result<Start, Error> {
    let began = Instant::now();
    let server = Server::start_with(binary, data, &[] as &[&str])?;
    let mut client = Client::connect(server.address(), "auspex", "auspex")?;
    let answer = client.query("SELECT 1")?;
    let seconds = began.elapsed().as_secs_f64();
    if answer != [["1"]] {
        return Err(format!("SELECT 1 gave {answer:?}").into());
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let mib = |key: &str| -> Result<f64, Error> {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).ok_or("no such line")?;
        Ok(line.split_whitespace().next().ok_or("no figure")?.parse::<f64>()? / 1024.0)
    };
    Ok(Start { seconds, resident: mib("VmRSS:")?, private: mib("RssAnon:")? })
}

/// Size of the binary without symbols in MB; `None` where there is no `strip`.
fn stripped_size(binary: &Path) -> Result<Option<f64>, Error> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("stripped");
    let done = std::process::Command::new("strip").arg("-o").arg(&copy).arg(binary).status();
    match done {
        Ok(status) if status.success() => Ok(Some(std::fs::metadata(&copy)?.len() as f64 / 1e6)),
        _ => Ok(None),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
