//! The command line: `auspex server`, `restore`, `run`, `check`, `fmt`.
//!
//! Standard output holds results only; everything said to a person goes to standard error. Exit
//! codes: 0 done, 1 refused or failed, 2 wrong use of the command line, 70 the disk failed while
//! the server ran.

mod check;
mod fmt;
mod report;
mod restore;
mod run;
mod server;
pub mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of a server whose store has failed (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_STORE_FAILED: u8 = 70;

const EXAMPLES: &str = "\
Examples:
  auspex server                                   a server on 127.0.0.1:5433 with ./data
  psql -h 127.0.0.1 -p 5433 -U auspex auspex      and a client for it
  auspex check program.vpl                        what is wrong with a program
  auspex run program.vpl --input trades.csv       a program over a file, without any server";

/// A streaming database: events in, patterns out, PostgreSQL's protocol in between.
#[derive(Debug, Parser)]
#[command(name = "auspex", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Server(server::ServerArguments),
    Restore(restore::RestoreArguments),
    Run(run::RunArguments),
    Check(check::CheckArguments),
    Fmt(fmt::FmtArguments),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Server(arguments) => server::run(arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Fmt(arguments) => fmt::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
