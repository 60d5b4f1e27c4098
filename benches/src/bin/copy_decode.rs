//! COPY decoders alone, on one core: bytes in memory to record batches.
//!
//! `cargo run --release -p auspex-benches --bin copy_decode [-- ROWS [PIECE_BYTES]]`

use std::time::Instant;

use auspex_benches::copy_data;
use auspex_server::copy::decode::Decoder;
use auspex_server::copy::{CopyOptions, Format};
use auspex_server::pg::zone::Zone;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Best of this many runs: noise only ever adds time.
const RUNS: usize = 7;
const BATCH_ROWS: usize = 8192;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let rows = args.next().transpose()?.unwrap_or(2_000_000);
    let piece = args.next().transpose()?.unwrap_or(64 << 10).max(1);
    let inputs = [
        ("csv", Format::Csv, copy_data::delimited(rows as u64, ',', "\n", false)),
        ("csv, texts quoted", Format::Csv, copy_data::delimited(rows as u64, ',', "\n", true)),
        ("csv, CR LF", Format::Csv, copy_data::delimited(rows as u64, ',', "\r\n", false)),
        ("text", Format::Text, copy_data::delimited(rows as u64, '\t', "\n", false)),
        ("binary", Format::Binary, copy_data::binary(rows as u64)),
        ("arrow", Format::Arrow, copy_data::arrow(rows as u64)?),
    ];
    println!("{rows} rows of W1 in pieces of {piece} bytes, best of {RUNS} runs");
    for (name, format, bytes) in &inputs {
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let began = Instant::now();
            let decoded = decode(*format, bytes, piece)?;
            best = best.min(began.elapsed().as_secs_f64());
            if decoded != rows {
                return Err(format!("{name}: {decoded} rows instead of {rows}").into());
            }
        }
        println!(
            "{name:<20} {:7.1} M rows/s {:8.0} MB/s",
            rows as f64 / best / 1e6,
            bytes.len() as f64 / best / 1e6
        );
    }
    // The floor: looking at every byte of the csv once, for its line ends.
    let csv = &inputs[0].2;
    let began = Instant::now();
    let lines = csv.iter().filter(|b| **b == b'\n').count();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:<20} {:7.1} M rows/s {:8.0} MB/s",
        "(counting lines)",
        lines as f64 / seconds / 1e6,
        csv.len() as f64 / seconds / 1e6
    );
    Ok(())
}

fn decode(
    format: Format,
    bytes: &[u8],
    piece: usize,
) -> Result<usize, auspex_server::copy::CopyError> {
    let options = CopyOptions::of(format);
    let mut decoder = Decoder::new(&options, &copy_data::schema(), BATCH_ROWS, Zone::UTC)?;
    let mut batches = Vec::new();
    let mut rows = 0;
    for piece in bytes.chunks(piece) {
        decoder.push(piece, &mut batches)?;
        rows += batches.drain(..).map(|batch| batch.num_rows()).sum::<usize>();
    }
    decoder.finish(&mut batches)?;
    Ok(rows + batches.iter().map(|batch| batch.num_rows()).sum::<usize>())
}
