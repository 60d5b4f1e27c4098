//! What people type: psql itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use auspex_tests::Server;

fn psql(server: &Server, arguments: &[&str], input: &str) -> (String, String, bool) {
    let mut child = Command::new("psql")
        .args(["-X", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .env("PSQLRC", "/dev/null")
        .envs(server.libpq_environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql is installed (scripts/bootstrap.sh psql)");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("psql reads");
    let output = child.wait_with_output().expect("psql ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

/// Unaligned output of a script that must succeed.
fn run(server: &Server, script: &str) -> String {
    let (output, errors, ok) = psql(server, &["-q", "-A", "-t", "-f", "-"], script);
    assert!(ok, "{script}\n{errors}");
    output
}

#[test]
fn the_tour_works_as_typed() {
    let server = Server::start().expect("the server starts");
    let (output, errors, ok) = psql(
        &server,
        &["-f", "-"],
        "CREATE STREAM trades (symbol text, price double precision, volume bigint);
         CREATE STREAM big AS SELECT symbol, price * volume AS value FROM trades WHERE volume > 100;
         INSERT INTO trades VALUES ('A', 2.5, 1000), ('B', 1, 10);
         SELECT * FROM big;
         DROP STREAM trades CASCADE;\n",
    );
    assert!(ok, "{errors}");
    let expected = "CREATE STREAM\nCREATE STREAM\nINSERT 0 2\n symbol | value \n--------+-------\n \
                    A      |  2500\n(1 row)\n\nDROP STREAM\n";
    assert_eq!(output, expected);
}

#[test]
fn copy_moves_rows_in_and_out_in_text_and_csv() {
    let server = Server::start().expect("the server starts");
    run(&server, "CREATE STREAM s (id int, name text, at timestamptz)");
    let output = run(
        &server,
        "COPY s FROM STDIN;\n1\tann\t2024-01-01 00:00:00+00\n2\t\\N\t\\N\n3\ttab\\tbed\t\\N\n\\.\n\
         \\copy s from pstdin csv header\nid,name,at\n4,\"say \"\"hi\"\", all\",2024-01-02 00:00:00+00\n5,,\n\\.\n\
         COPY (SELECT id, name, at FROM s ORDER BY id) TO STDOUT;\n\
         COPY (SELECT id, name FROM s WHERE id >= 4 ORDER BY id) TO STDOUT (FORMAT csv, HEADER);\n",
    );
    assert_eq!(
        output,
        "1\tann\t2024-01-01 00:00:00+00\n2\t\\N\t\\N\n3\ttab\\tbed\t\\N\n\
         4\tsay \"hi\", all\t2024-01-02 00:00:00+00\n5\t\\N\t\\N\n\
         id,name\n4,\"say \"\"hi\"\", all\"\n5,\n"
    );
}

#[test]
fn a_bad_copy_row_names_its_line_and_nothing_is_applied() {
    let server = Server::start().expect("the server starts");
    run(&server, "CREATE STREAM s (id int, name text)");
    let (_, errors, ok) = psql(
        &server,
        &["-q", "-v", "VERBOSITY=verbose", "-f", "-"],
        "COPY s FROM STDIN;\n1\tann\ntwo\tbob\n3\tcat\n\\.\n",
    );
    assert!(!ok);
    assert!(errors.contains("22P02") && errors.contains("line 2"), "{errors}");
    assert_eq!(run(&server, "SELECT count(*) FROM s"), "0\n");
}

#[test]
fn errors_show_position_and_hint() {
    let server = Server::start().expect("the server starts");
    run(&server, "CREATE STREAM trades (symbol text, price double precision)");
    let (_, errors, ok) = psql(&server, &["-f", "-"], "SELECT prise FROM trades;\n");
    assert!(!ok);
    assert!(errors.contains("LINE 1: SELECT prise FROM trades;\n"), "{errors}");
    assert!(
        errors.contains("\n               ^") || errors.contains("\n                      ^"),
        "{errors}"
    );
    assert!(errors.contains("price"), "{errors}");
}

#[test]
fn listen_shows_rows_of_a_stream_as_json() {
    let server = Server::start().expect("the server starts");
    run(
        &server,
        "CREATE STREAM s (a int, t text); CREATE STREAM big AS SELECT a, t FROM s WHERE a > 10;",
    );
    // psql prints what has arrived after each command; `SELECT` waits for the stream.
    let (output, errors, ok) = psql(
        &server,
        &["-q", "-f", "-"],
        "LISTEN big; INSERT INTO s VALUES (5, 'no'), (50, 'yes'); SELECT count(*) FROM big;\nSELECT 1;\nSELECT 2;\n",
    );
    assert!(ok, "{errors}");
    assert!(
        output.contains("Asynchronous notification \"big\" with payload")
            && output.contains("\"_offset\""),
        "{output}{errors}"
    );
    assert!(output.contains("\"yes\"") && !output.contains("\"no\""), "{output}");
}

#[test]
fn subscribe_streams_rows_while_they_come() {
    let server = Server::start().expect("the server starts");
    run(&server, "CREATE STREAM s (a int)");
    run(&server, "INSERT INTO s VALUES (1), (2)");
    // psql fills a buffer before it writes to a pipe; `stdbuf` makes it write line by line.
    let mut child = Command::new("stdbuf")
        .args(["-oL", "psql", "-X", "-q", "-A", "-t", "-c"])
        .arg("COPY (SUBSCRIBE TO s FROM BEGINNING WITH (METADATA = false)) TO STDOUT")
        .envs(server.libpq_environment())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("readable");
    assert_eq!((next(), next()), ("1".to_owned(), "2".to_owned()));
    // The subscription is live: a row that comes later is shown without the statement ending.
    run(&server, "INSERT INTO s VALUES (3)");
    assert_eq!(next(), "3");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    // And the server has let go of it.
    assert_eq!(run(&server, "SELECT count(*) FROM s"), "3\n");
}

#[test]
fn subscribe_between_offsets_ends() {
    let server = Server::start().expect("the server starts");
    run(&server, "CREATE STREAM s (a int)");
    run(&server, "INSERT INTO s VALUES (10), (11), (12), (13)");
    let from = |clause: &str| {
        run(&server, &format!("COPY (SUBSCRIBE TO s {clause} WITH (METADATA = false)) TO STDOUT"))
    };
    assert_eq!(from("FROM OFFSET 2 UNTIL NOW"), "12\n13\n");
    assert_eq!(from("AFTER OFFSET 0 UNTIL OFFSET 2"), "11\n12\n");
}
