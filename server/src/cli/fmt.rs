//! `auspex fmt`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::report;

const EXAMPLES: &str = "\
Examples:
  auspex fmt program.vpl              lays the file out anew
  auspex fmt --check *.vpl            exit code 1 when a file is not laid out
  auspex fmt --stdout program.vpl     shows the result, leaves the file

A file that has errors is left as it is.";

/// Lays VPL programs out in the one standard way
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct FmtArguments {
    /// VPL programs
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Changes nothing; names the files that would change
    #[arg(long)]
    check: bool,
    /// Writes the result to standard output
    #[arg(long, conflicts_with = "check")]
    stdout: bool,
}

pub(super) fn run(arguments: &FmtArguments) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in &arguments.files {
        let done = format(path, arguments);
        if done != ExitCode::SUCCESS {
            code = done;
        }
    }
    code
}

fn format(path: &PathBuf, arguments: &FmtArguments) -> ExitCode {
    let name = path.display().to_string();
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("sql")) {
        return report::fail(&format!("{name}: only VPL programs are laid out, not SQL"));
    }
    let text = match report::read(path) {
        Ok(text) => text,
        Err(code) => return code,
    };
    let formatted = match auspex_vpl::format::format(&text) {
        Ok(formatted) => formatted,
        Err(errors) => {
            for error in &errors {
                eprint!("{}", report::render(error, &text, &name));
            }
            return ExitCode::FAILURE;
        }
    };
    if arguments.stdout {
        report::out(&formatted);
        return ExitCode::SUCCESS;
    }
    if formatted == text {
        return ExitCode::SUCCESS;
    }
    if arguments.check {
        report::out(&format!("{name}\n"));
        return ExitCode::FAILURE;
    }
    match replace(path, &formatted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::fail(&format!("cannot write {name}: {error}")),
    }
}

/// Puts a new text in the place of a file's; a failure leaves the old one.
fn replace(path: &PathBuf, text: &str) -> std::io::Result<()> {
    // Through links, so that the file and not the link is replaced.
    let target = std::fs::canonicalize(path)?;
    let mut beside = target.clone().into_os_string();
    beside.push(".auspex-fmt");
    let permissions = std::fs::metadata(&target)?.permissions();
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, permissions)?;
    std::fs::rename(&beside, &target)
}
