//! Test files: finding them, and running each as a test of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sqllogictest::harness::{Arguments, Failed, Trial, run};

/// A test made from a file.
pub struct Case {
    /// Unique name, shown in the summary and used by filters.
    pub name: String,
    /// What to do; an error is the message of the failure.
    pub run: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

/// The folder of this crate.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The root of the repository.
pub fn root() -> PathBuf {
    home().parent().expect("the crate is a folder of the workspace").to_path_buf()
}

/// All files below `folder` with this extension, sorted. None when the folder is missing.
pub fn find(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Name of a file relative to `folder`, without its extension.
pub fn name(folder: &Path, file: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).with_extension("").display().to_string()
}

/// Runs the cases as `cargo test` would (filters, `--list`, summary line). No case at all is a
/// failure: an empty folder must not look like success.
pub fn run_cases(cases: Vec<Case>) -> ExitCode {
    assert!(!cases.is_empty(), "no test files found");
    let mut arguments = Arguments::from_args();
    // Every case has a server of its own: more threads than this wait for each other.
    arguments.test_threads.get_or_insert(4);
    let trials = cases
        .into_iter()
        .map(|case| {
            let Case { name, run } = case;
            Trial::test(name, move || run().map_err(Failed::from))
        })
        .collect();
    run(&arguments, trials).exit_code()
}
