//! `auspex run`.

use std::process::ExitCode;

use clap::Args;

/// Runs a program over files, without any server
#[derive(Debug, Args)]
pub(super) struct RunArguments {}

pub(super) fn run(_: &RunArguments) -> ExitCode {
    super::report::fail(&"not built yet")
}
