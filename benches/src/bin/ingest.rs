//! Durable COPY next to PostgreSQL 15's COPY into an unlogged table, over loopback, one session.
//!
//! `cargo run --release -p auspex-benches --bin ingest -- --server target/release/auspex`
//!
//! W1 rows lie framed in memory; a run is timed from the COPY statement to `ReadyForQuery`. The
//! systems take turns, so that what disturbs the machine disturbs both. After each run the rows are
//! counted and a column is summed. For scale, the same csv bytes go through a bare loopback socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use auspex_benches::client::{Client, frame};
use auspex_benches::postgres::{self, Postgres};
use auspex_benches::{copy_data, workload};
use auspex_tests::Server;
use clap::Parser;

type Error = Box<dyn std::error::Error>;

/// Size of the `CopyData` messages.
const PIECE: usize = 64 << 10;

#[derive(Parser)]
struct Args {
    /// The `auspex` binary.
    #[arg(long)]
    server: PathBuf,
    /// Rows of a COPY.
    #[arg(long, default_value_t = 5_000_000)]
    rows: u64,
    /// Runs of each kind; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Directory of PostgreSQL's programs.
    #[arg(long)]
    postgres: Option<PathBuf>,
    /// Measure Auspex alone.
    #[arg(long)]
    without_postgres: bool,
    /// Only these formats; all when none is named.
    #[arg(long, value_delimiter = ',', value_parser = ["csv", "binary", "arrow"])]
    formats: Vec<String>,
}

/// One thing to measure.
struct Case<'a> {
    format: &'static str,
    /// What the design asks for, times PostgreSQL's rate for `against`.
    wanted: f64,
    against: &'static str,
    framed: &'a [u8],
    auspex: Vec<f64>,
    postgres: Vec<f64>,
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let csv = copy_data::delimited(args.rows, ',', "\n", false);
    let loopback =
        median(&mut (0..args.runs).map(|_| loopback(&csv)).collect::<Result<Vec<_>, _>>()?);
    let csv = frame(&csv, PIECE);
    let binary = frame(&copy_data::binary(args.rows), PIECE);
    let arrow = frame(&copy_data::arrow(args.rows)?, PIECE);
    let case = |format, wanted, against, framed| Case {
        format,
        wanted,
        against,
        framed,
        auspex: Vec::new(),
        postgres: Vec::new(),
    };
    let mut cases = vec![
        case("csv", 2.5, "csv", csv.as_slice()),
        case("binary", 3.0, "binary", &binary),
        case("arrow", 15.0, "csv", &arrow),
    ];
    cases.retain(|c| args.formats.is_empty() || args.formats.iter().any(|f| f == c.format));
    let sum: i64 = (0..args.rows).map(|row| workload::Tick::at(row).quantity).sum();
    let expected = vec![vec![args.rows.to_string(), sum.to_string()]];

    let folder = tempfile::tempdir()?;
    let server = Server::start_with(&args.server, &folder.path().join("data"), &[] as &[&str])?;
    let mut auspex = Client::connect(server.address(), "auspex", "auspex")?;
    let postgres = if args.without_postgres {
        None
    } else {
        let binaries = args
            .postgres
            .clone()
            .or_else(postgres::binaries)
            .ok_or("PostgreSQL 15 was not found: give --postgres DIR or --without-postgres")?;
        Some(Postgres::start(binaries)?)
    };
    let mut other = match &postgres {
        Some(postgres) => Some(Client::connect(postgres.address(), "postgres", "postgres")?),
        None => None,
    };

    for run in 0..args.runs {
        for case in &mut cases {
            let seconds = measure(&mut auspex, "STREAM", case, &expected)?;
            case.auspex.push(seconds);
            if let Some(other) = &mut other
                && case.format != "arrow"
            {
                let seconds = measure(other, "UNLOGGED TABLE", case, &expected)?;
                case.postgres.push(seconds);
            }
        }
        eprintln!("run {} of {}", run + 1, args.runs);
    }
    report(&args, loopback, &mut cases);
    Ok(())
}

/// Seconds of one COPY into a new stream or table, which is checked and dropped.
fn measure(
    client: &mut Client,
    kind: &str,
    case: &Case<'_>,
    expected: &[Vec<String>],
) -> Result<f64, Error> {
    client.query(&format!("CREATE {kind} ticks ({})", copy_data::COLUMNS))?;
    let began = Instant::now();
    client.copy(&format!("COPY ticks FROM STDIN (FORMAT {})", case.format), case.framed)?;
    let seconds = began.elapsed().as_secs_f64();
    let got = client.query("SELECT count(*), sum(q) FROM ticks")?;
    if got != expected {
        return Err(format!("{kind} {}: {got:?} instead of {expected:?}", case.format).into());
    }
    client.query(&format!("DROP {} ticks", kind.rsplit(' ').next().unwrap_or(kind)))?;
    Ok(seconds)
}

/// Seconds that `bytes` take through a socket to a thread that only reads them.
fn loopback(bytes: &[u8]) -> std::io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = listener.local_addr()?;
    let reader = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        let mut buffer = vec![0; 256 << 10];
        while socket.read(&mut buffer)? > 0 {}
        socket.write_all(b".")
    });
    let mut socket = TcpStream::connect(address)?;
    let began = Instant::now();
    for piece in bytes.chunks(PIECE) {
        socket.write_all(piece)?;
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    socket.read_exact(&mut [0])?;
    let seconds = began.elapsed().as_secs_f64();
    reader.join().map_err(|_| std::io::Error::other("the reading thread failed"))??;
    Ok(seconds)
}

fn report(args: &Args, loopback: f64, cases: &mut [Case<'_>]) {
    let rate = |seconds: f64| args.rows as f64 / seconds / 1e6;
    println!(
        "COPY of {} rows of W1, median of {} runs, million rows per second",
        args.rows, args.runs
    );
    println!("(csv bytes through a bare loopback socket: {:.1})", rate(loopback));
    println!("{:<8} {:>8} {:>12} {:>8} {:>8}", "format", "auspex", "PostgreSQL", "ratio", "wanted");
    let others: Vec<(&str, f64)> = cases
        .iter_mut()
        .filter(|case| !case.postgres.is_empty())
        .map(|case| (case.format, rate(median(&mut case.postgres))))
        .collect();
    for case in cases {
        let own = rate(median(&mut case.auspex));
        match others.iter().find(|(format, _)| *format == case.against) {
            Some((_, other)) => println!(
                "{:<8} {own:>8.2} {other:>12.2} {:>8.2} {:>8.1}",
                case.format,
                own / other,
                case.wanted
            ),
            None => println!(
                "{:<8} {own:>8.2} {:>12} {:>8} {:>8.1}",
                case.format, "-", "-", case.wanted
            ),
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
