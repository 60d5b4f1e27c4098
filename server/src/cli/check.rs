//! `auspex check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use auspex_plan::catalog::{Catalog, DEFAULT_SCHEMA};
use auspex_plan::diagnostic::{Diagnostic, Severity};
use auspex_vpl::bind::BindContext;
use clap::Args;

use super::report;

const EXAMPLES: &str = "\
Examples:
  auspex check program.vpl
  auspex check --json *.vpl | jq .message
  auspex check schema.sql

A VPL program is checked as a whole: syntax, names, types; every mistake is shown in one run. An SQL
file is checked for syntax. Exit code 1 when anything is wrong; warnings are shown and allowed.";

/// Says what is wrong with programs, without running them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArguments {
    /// VPL programs, and SQL files (.sql)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One JSON object per diagnostic and line, on standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CheckArguments) -> ExitCode {
    let mut errors = 0;
    let mut unreadable = false;
    for path in &arguments.files {
        let Ok(text) = report::read(path) else {
            unreadable = true;
            continue;
        };
        let name = path.display().to_string();
        for diagnostic in check(path, &text) {
            errors += u64::from(diagnostic.severity == Severity::Error);
            match arguments.json {
                true => {
                    report::out(&format!("{}\n", auspex_vpl::to_json(&diagnostic, &text, &name)));
                }
                false => eprint!("{}", report::render(&diagnostic, &text, &name)),
            }
        }
    }
    if errors > 0 && !arguments.json {
        eprintln!("{}", report::count(errors, "error"));
    }
    if errors > 0 || unreadable { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Everything there is to say about a file.
fn check(path: &Path, text: &str) -> Vec<Diagnostic> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("sql")) {
        return auspex_sql::parse(text).err().into_iter().collect();
    }
    let parsed = auspex_vpl::parse(text);
    // What could be read is bound even when other statements could not: all mistakes in one run.
    let catalog = Catalog::new();
    let context = BindContext {
        catalog: &catalog,
        schema: DEFAULT_SCHEMA,
        next_id: catalog.next_id(),
        infer: None,
    };
    let broken = parsed.has_errors();
    let bound = match auspex_vpl::bind::bind(&parsed.program, text, &context) {
        Ok(bound) => bound.warnings,
        // A declaration that could not be read would be reported as missing by all who use it.
        Err(_) if broken => Vec::new(),
        Err(errors) => errors,
    };
    let mut all = parsed.diagnostics;
    all.extend(bound);
    all.sort_by_key(|d| d.span.map_or(0, |s| s.start));
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(Path::new("p.vpl"), text).into_iter().map(|d| d.message).collect()
    }

    #[test]
    fn all_mistakes_are_found_in_one_run() {
        let text = "event T:\n    v: int\nstream A = T.where(w > 1)\nstream B = T.where(u > 1)\n";
        let found = found(text);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn an_undeclared_event_type_gives_the_declaration_to_add() {
        let all = check(Path::new("p.vpl"), "stream A = Trade.where(w > 1)\n");
        let hint = all[0].hint.clone().unwrap_or_default();
        assert!(hint.contains("event Trade:"), "{all:?}");
    }

    #[test]
    fn sql_files_are_checked_as_sql() {
        assert!(check(Path::new("p.sql"), "CREATE STREAM s (v int);\nSELECT 1;").is_empty());
        assert_eq!(check(Path::new("p.SQL"), "CREATE STREEM s (v int)").len(), 1);
    }
}
