//! The examples detect what a computation without Auspex says they must.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use auspex_tests::{Server, files, server};

const STREAMS: [(&str, &str); 6] = [
    ("very_late", "VeryLate"),
    ("cancelled", "Cancelled"),
    ("diverted", "Diverted"),
    ("routes", "Routes"),
    ("trouble", "Trouble"),
    ("first_long_cancelled", "FirstLongCancelled"),
];

fn succeeded(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A shell command in the repository with the server in its environment.
fn shell(server: &Server, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(files::root())
        .envs(server.libpq_environment())
        .env("PSQLRC", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .expect("bash is there");
    succeeded(output)
}

fn expected(stream: &str) -> String {
    let file = files::root().join(format!("examples/expected/{stream}.csv"));
    fs::read_to_string(file).expect("the file is in the repository")
}

const LOAD: &str = "zcat examples/data/flights-2013-01.csv.gz | psql -X -q -v ON_ERROR_STOP=1 -c";

fn found(server: &Server, stream: &str) -> String {
    shell(
        server,
        &format!(
            "psql -X -q -v ON_ERROR_STOP=1 -c 'COPY (SELECT * FROM {stream} ORDER BY _offset) \
             TO STDOUT (FORMAT csv, HEADER)'"
        ),
    )
}

#[test]
fn sql_example_detects_what_it_must() {
    let server = Server::start().expect("the server starts");
    shell(&server, "psql -X -q -v ON_ERROR_STOP=1 -f examples/flights.sql");
    shell(&server, &format!("{LOAD} '\\copy flights from stdin csv header'"));
    for (stream, _) in STREAMS {
        assert_eq!(found(&server, stream), expected(stream), "{stream}");
    }
}

#[test]
fn vpl_example_detects_the_same_on_the_server() {
    let server = Server::start().expect("the server starts");
    shell(
        &server,
        "{ echo 'CREATE PIPELINE delays AS $vpl$'; cat examples/delays.vpl; echo '$vpl$;'; } \
         | psql -X -q -v ON_ERROR_STOP=1 -f -",
    );
    shell(&server, &format!("{LOAD} '\\copy delays.\"Flight\" from stdin csv header'"));
    for (stream, vpl) in STREAMS {
        assert_eq!(found(&server, &format!("delays.\"{vpl}\"")), expected(stream), "{vpl}");
    }
}

#[test]
fn vpl_example_detects_as_much_without_a_server() {
    let binary = server::binary().expect("the binary is built");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let flights = folder.path().join("flights.csv");
    let unzip = format!(
        "zcat {} > {}",
        files::root().join("examples/data/flights-2013-01.csv.gz").display(),
        flights.display()
    );
    succeeded(Command::new("bash").args(["-c", &unzip]).output().expect("bash is there"));
    let out = folder.path().join("found.jsonl");
    let run = |arguments: &[&str], input: &Path| {
        Command::new(&binary)
            .arg("run")
            .arg(files::root().join("examples/delays.vpl"))
            .arg("--input")
            .arg(format!("Flight={}", input.display()))
            .args(arguments)
            .output()
            .expect("the binary starts")
    };
    succeeded(run(&["--output", &out.display().to_string()], &flights));
    let lines = fs::read_to_string(&out).expect("it wrote the file");
    for (stream, vpl) in STREAMS {
        let rows = lines.lines().filter(|line| line.contains(&format!("\"{vpl}\""))).count();
        assert_eq!(rows, expected(stream).lines().count() - 1, "{vpl}");
    }
    // The same input gives the same bytes.
    assert_eq!(succeeded(run(&[], &flights)), lines);
}

#[test]
fn the_demo_prints_what_the_pipelines_detect() {
    let binary = server::binary().expect("the binary is built");
    let output = Command::new(files::root().join("scripts/demo.sh"))
        .arg(binary)
        .stdin(Stdio::null())
        .output()
        .expect("bash is there");
    let text = succeeded(output);
    for line in ["cancelled |     521", "very late |     209", "diverted  |      85", " 815 | 815"]
    {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
}
