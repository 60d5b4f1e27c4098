//! Kills the server with -9 again and again while clients write, and checks that every promise
//! was kept. Exit code 0: no violation. See `auspex_tests::crash`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use auspex_tests::crash::{self, Plan};
use auspex_tests::server;
use clap::Parser;

/// Kill -9 the server under load and check that nothing acknowledged is lost, doubled or changed.
#[derive(Debug, Parser)]
#[command(name = "crashtest")]
struct Arguments {
    /// How often to kill the server.
    #[arg(long, default_value_t = 50)]
    cycles: u32,
    /// Start value of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server's binary [default: AUSPEX_BIN, or `auspex` beside this program].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Say nothing but the summary.
    #[arg(long)]
    quiet: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let binary = match arguments.server.map_or_else(server::binary, Ok) {
        Ok(binary) => binary,
        Err(error) => {
            eprintln!("crashtest: {error}");
            return ExitCode::from(2);
        }
    };
    let plan = Plan { binary, cycles: arguments.cycles, seed: arguments.seed };
    let began = Instant::now();
    let outcome = crash::run(&plan, |line| {
        if !arguments.quiet {
            eprintln!("{line}");
        }
    })
    .await;
    match outcome {
        Ok(s) => {
            println!(
                "{} kills in {:.1} s, seed {}: {} statements acknowledged, {} without an answer ({} of \
                 them applied), {} rows, {} derived rows, {} rows of windows, joins and views, {} rows compared with what a subscriber saw, \
                 {} catalog objects checked, slowest start {} ms: no violation",
                s.cycles,
                began.elapsed().as_secs_f64(),
                plan.seed,
                s.acknowledged,
                s.open,
                s.open_applied,
                s.rows,
                s.derived_rows,
                s.stateful_rows,
                s.seen,
                s.ddl,
                s.slowest_start.as_millis(),
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crashtest, seed {}: {error}", plan.seed);
            ExitCode::FAILURE
        }
    }
}
