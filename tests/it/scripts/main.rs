//! `tests/scripts/<feature>/*.script`: programs with their input and expected output, each run
//! over the whole matrix of batch sizes, worker counts and restarts. Format: `tests/README.md`.

mod engine;
mod format;
mod matrix;
mod rows;
mod time;

use std::fs;
use std::process::ExitCode;

use auspex_tests::{Case, files, run_cases};

fn main() -> ExitCode {
    let folder = files::home().join("scripts");
    let cases = files::find(&folder, "script")
        .into_iter()
        .map(|file| Case {
            name: files::name(&folder, &file),
            run: Box::new(move || {
                let text = fs::read_to_string(&file).map_err(|e| e.to_string())?;
                matrix::check(&format::parse(&text)?)
            }),
        })
        .collect();
    run_cases(cases)
}
