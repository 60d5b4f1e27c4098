//! psycopg 3 in a virtual environment below the target directory: `clients/test_*.py`, each
//! function a test of its own process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use auspex_tests::{Server, files};

const PSYCOPG: &str = "psycopg[binary]==3.3.9";

/// Python with psycopg installed; made once, kept for later runs.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let binary = std::env::current_exe().expect("a test has a path");
        let target = binary.ancestors().nth(3).expect("target/release/deps/test").to_path_buf();
        let home = target.join("psycopg-3.3.9");
        let python = home.join("bin/python");
        if !works(&python) {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PSYCOPG]));
        }
        python
    })
}

fn works(python: &Path) -> bool {
    let outcome = Command::new(python).args(["-c", "import psycopg; psycopg.pq.__impl__"]).output();
    outcome.is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs one function of `clients/psycopg_tests.py`.
fn check(function: &str) {
    let server = Server::start().expect("the server starts");
    let output = Command::new(python())
        .arg(files::home().join("clients/psycopg_tests.py"))
        .arg(function)
        .envs(server.libpq_environment())
        .output()
        .expect("python starts");
    assert!(
        output.status.success(),
        "{}{}\nThe server printed:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        server.output()
    );
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_python_function_is_listed_here() {
            let listed = [$(stringify!($name)),*];
            let file = files::home().join("clients/psycopg_tests.py");
            let text = std::fs::read_to_string(file).expect("the file is in the repository");
            let written: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("def ")?.split_once("(dsn"))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(written, listed);
        }
    };
}

tests! {
    binary_parameters_and_results_of_every_type
    null_parameters_and_inferred_types
    copy_in_and_out_in_every_format
    arrow_ipc_copy_is_refused_when_malformed
    copy_that_breaks_off_leaves_nothing
    rows_of_a_transaction_appear_together
    errors_carry_sqlstate_position_and_hint
    server_side_cursor_fetches_in_pieces
    subscribe_cursor_waits_for_rows
    listen_wakes_an_idle_session
    notify_reaches_other_sessions
    cancel_stops_a_running_subscription
    pipeline_mode_keeps_the_order
    executemany_inserts_all_rows
    one_gibibyte_length_is_refused_and_the_server_stays
}
