//! `tests/slt/<feature>/*.slt` over a server of its own per file, in both protocols.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use auspex_tests::sql::{Column, Connection, Mode};
use auspex_tests::{Case, Server, files, run_cases};
use sqllogictest::Runner;

fn main() -> ExitCode {
    let folder = files::home().join("slt");
    let mut cases = Vec::new();
    for file in files::find(&folder, "slt") {
        for mode in Mode::ALL {
            let file: PathBuf = file.clone();
            cases.push(Case {
                name: format!("{} ({})", files::name(&folder, &file), mode.name()),
                run: Box::new(move || check(&file, mode)),
            });
        }
    }
    run_cases(cases)
}

fn check(file: &Path, mode: Mode) -> Result<(), String> {
    let server = Arc::new(Server::start().map_err(|e| e.to_string())?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let outcome = runtime.block_on(async {
        let connect = Arc::clone(&server);
        let mut runner = Runner::new(move || Connection::open(Arc::clone(&connect), mode));
        runner.with_column_validator(Column::fit);
        runner.run_file_async(file).await
    });
    outcome.map_err(|error| {
        format!("{}\nThe server printed:\n{}", error.display(false), server.output())
    })
}
