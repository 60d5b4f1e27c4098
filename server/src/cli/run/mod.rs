//! `auspex run`: a program over files, in an engine of its own.
//!
//! [`inputs`] says which file holds which event types, [`program`] reads and loads the program,
//! [`replay`] merges the events of the files and feeds them, [`output`] writes what comes out.

mod inputs;
mod output;
mod program;
mod replay;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use auspex_connect::survey::Survey;
use auspex_plan::Diagnostic;
use clap::Args;

use self::inputs::Input;
use self::output::Output;
use self::program::Program;
use super::report;
use crate::embedded::Embedded;
use crate::engine::EngineOptions;

const DETAILS: &str = r#"Inputs:
  trades.csv      a header line, then rows (RFC 4180); an empty cell is null
  logins.jsonl    {"user": "u", "ok": true}, or {"event_type": "Login", "data": {"user": "u"}},
                  which may also have its time: "at": "5s" (from the year 2000 on) or "2013-01-01T10:15:00Z"
  events.evt      @5s Login { user: "u" }, Login("u"), BATCH 2000, # comments

  `--input Login=logins.jsonl` says of which type the rows are; without it, the type is the one the
  file is called after (trades.csv: trades, Trades or Trade), or the program's only one. A type that
  the program uses without declaring it gets the columns that the file shows.

  Events of several inputs are merged by time: the stream's WATERMARK column, else the time of the
  line in an .evt file or envelope, else the first timestamp field, else that of the event before.

Output:
  One JSON object per row of every derived stream, as PostgreSQL's row_to_json writes it, headed by
  the name of the stream: {"stream":"Hot","sensor":"s2","at":"2013-01-01T10:15:00+00:00","for":"00:01:30"}.
  At the end of the input all windows close.
  A column that is itself called `stream` is written as `_stream`. The order is that of the events
  which caused the rows, then that of the streams in the program; it is always the same.

Examples:
  auspex run program.vpl --input trades.csv
  auspex run program.vpl --input trades.csv --input Login=logins.jsonl --output found.jsonl
  auspex run streams.sql --input flights=flights.csv | jq 'select(.stream == "late")'"#;

/// Runs a VPL or SQL program over files, without any server
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(super) struct RunArguments {
    /// VPL program, or CREATE STREAM statements in an SQL file (.sql)
    #[arg(value_name = "FILE")]
    program: PathBuf,
    /// File with events: .csv, .jsonl or .evt; can be given several times
    #[arg(long, value_name = "[TYPE=]FILE", required = true)]
    input: Vec<String>,
    /// Where the rows go instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Most rows an operator is given at once; without influence on the result
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive)]
    batch_rows: usize,
    /// Worker threads; without influence on the result [default: one per core]
    #[arg(long, value_name = "N", value_parser = positive)]
    workers: Option<usize>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_048_576) => Ok(n),
        _ => Err("it must be between 1 and 1048576".into()),
    }
}

/// Why a run ended early.
pub(super) enum Failure {
    /// Errors in the program, rendered.
    Program(String),
    /// An input.
    Input(auspex_connect::ConnectError),
    /// The engine.
    Engine(Diagnostic),
    /// Anything else, in words.
    Other(String),
    /// Nobody reads the output any more.
    Closed,
}

impl From<auspex_connect::ConnectError> for Failure {
    fn from(error: auspex_connect::ConnectError) -> Self {
        Failure::Input(error)
    }
}

impl From<Diagnostic> for Failure {
    fn from(error: Diagnostic) -> Self {
        Failure::Engine(error)
    }
}

pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    match run_program(arguments) {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Program(text)) => {
            eprint!("{text}");
            ExitCode::FAILURE
        }
        Err(Failure::Input(error)) => {
            let code = report::fail(&error);
            if let Some(hint) = error.hint_text() {
                eprintln!("  hint: {hint}");
            }
            code
        }
        Err(Failure::Engine(error)) => report::fail_diagnostic(&error),
        Err(Failure::Other(text)) => report::fail(&text),
    }
}

fn run_program(arguments: &RunArguments) -> Result<(), Failure> {
    let program = Program::read(&arguments.program)?;
    let inputs = inputs::resolve(&arguments.input, &program)?;
    let mut survey = Survey::default();
    for Input { path, event_type } in &inputs {
        survey.add(path, event_type.as_deref())?;
    }
    let workers = arguments.workers.unwrap_or_else(|| EngineOptions::default().workers);
    let mut embedded = Embedded::in_memory(workers, arguments.batch_rows)?;
    let order = program.load(&mut embedded, &survey)?;
    let out: Box<dyn Write> = match &arguments.output {
        // Not locked: `.print` writes there too.
        None => Box::new(io::stdout()),
        Some(path) => Box::new(
            File::create(path)
                .map_err(|e| Failure::Other(format!("cannot write {}: {e}", path.display())))?,
        ),
    };
    let mut output = Output::new(BufWriter::with_capacity(1 << 16, out), &embedded, &order);
    let left_out = replay::replay(&mut embedded, &inputs, &survey, &mut output)?;
    output.finish()?;
    for (event_type, events) in left_out {
        let events = report::count(events, "event");
        eprintln!("auspex: {events} of type {event_type} left out: the program does not read them");
    }
    summary(&embedded)
}

/// What was not perfect, on standard error.
fn summary(embedded: &Embedded) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for stream in embedded.derived() {
        let name = &stream.name;
        if let Some(reason) = embedded.failure(stream.id) {
            failed.push(format!("stream {name} has stopped: {reason}"));
        }
        let Some(status) = embedded.status(stream.id) else { continue };
        let counters = status.counters;
        if counters.dead_letters > 0 {
            let rows = report::count(counters.dead_letters, "row");
            eprintln!("auspex: stream {name}: {rows} failed, left out as dead letters:");
            for letter in embedded.dead_letters(&stream).iter().take(3) {
                eprintln!("  {}: {}", letter.reason, letter.row);
            }
        }
        for (count, what) in [
            (counters.skipped, "failed, skipped"),
            (counters.nulled, "with null in place of a failed expression"),
        ] {
            if count > 0 {
                eprintln!("auspex: stream {name}: {} {what}", report::count(count, "row"));
            }
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(failed.join("\nauspex: "))),
    }
}
