//! Errors on standard error, results on standard output.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use auspex_plan::diagnostic::{Diagnostic, Severity};

/// Says what is wrong and gives exit code 1.
pub(super) fn fail(error: &dyn Display) -> ExitCode {
    eprintln!("auspex: {error}");
    ExitCode::FAILURE
}

/// [`fail`] with detail, hint and place in the data.
pub(super) fn fail_diagnostic(error: &Diagnostic) -> ExitCode {
    eprintln!("auspex: {}", error.message);
    for (label, part) in
        [("detail", &error.detail), ("hint", &error.hint), ("where", &error.context)]
    {
        if let Some(part) = part {
            eprintln!("  {label}: {part}");
        }
    }
    ExitCode::FAILURE
}

/// A diagnostic of a file with its source line; SQL errors look like those of VPL.
pub(super) fn render(diagnostic: &Diagnostic, text: &str, file: &str) -> String {
    let mut shown = auspex_vpl::render(diagnostic, text, file);
    if diagnostic.code.is_none() && diagnostic.severity == Severity::Error {
        let plain = format!("error: {}", diagnostic.message);
        let with_state = format!("error[{}]: {}", diagnostic.state.0, diagnostic.message);
        shown = shown.replacen(&plain, &with_state, 1);
    }
    if let Some(context) = &diagnostic.context {
        shown.push_str(&format!("  = where: {context}\n"));
    }
    shown
}

/// The text of a file, or exit code 1.
pub(super) fn read(path: &Path) -> Result<String, ExitCode> {
    std::fs::read_to_string(path).map_err(|e| fail(&format!("cannot read {}: {e}", path.display())))
}

/// Writes a result. That nobody reads it any more (`auspex check --json .. | head`) is no error.
pub(super) fn out(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `1 row`, `2 rows`.
pub(super) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
