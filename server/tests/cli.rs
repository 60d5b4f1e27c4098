//! The command line as a process: results, messages, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_auspex");

/// Runs `auspex` in a folder that holds the given files.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        Place { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUSPEX_")) {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("auspex starts")
    }

    /// Standard output of a command that succeeds.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A command that fails with `code` and says all of `parts`.
    fn fails(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is missing in:\n{said}");
        }
    }
}

const PROGRAM: &str = "\
event Login:
    user: str
    at: timestamp
    wait: duration?

stream Busy = Big.where(qty > 1).emit(stream: \"x\", qty: qty)
stream Big = Trade.where(price > 1.0)
stream Slow = Login.where(wait > 1m)
stream Share = Trade.emit(share: 12 / qty)
";

const TRADES: &str = "\
when,price,qty
2013-01-01 10:00:00,1.5,1
2013-01-01 10:02:00,0.5,0
2013-01-01 10:04:00,2.5,3
";

const LOGINS: &str = "\
{\"user\": \"u\", \"at\": \"2013-01-01T10:01:00Z\", \"wait\": \"90s\"}
{\"event_type\": \"Login\", \"data\": {\"user\": \"v\", \"at\": \"2013-01-01T10:03:00Z\"}}
{\"event_type\": \"Other\", \"data\": {\"x\": 1}}
";

const EXPECTED: &str = "\
{\"stream\":\"Big\",\"when\":\"2013-01-01T10:00:00+00:00\",\"price\":1.5,\"qty\":1}
{\"stream\":\"Share\",\"share\":12}
{\"stream\":\"Slow\",\"user\":\"u\",\"at\":\"2013-01-01T10:01:00+00:00\",\"wait\":\"00:01:30\"}
{\"stream\":\"Busy\",\"_stream\":\"x\",\"qty\":3}
{\"stream\":\"Big\",\"when\":\"2013-01-01T10:04:00+00:00\",\"price\":2.5,\"qty\":3}
{\"stream\":\"Share\",\"share\":4}
";

#[test]
fn run_merges_inputs_by_time_and_gives_the_same_lines_whatever_the_batches_and_workers() {
    let place = Place::new(&[("p.vpl", PROGRAM), ("trades.csv", TRADES), ("l.jsonl", LOGINS)]);
    let inputs = ["run", "p.vpl", "--input", "trades.csv", "--input", "Login=l.jsonl"];
    for (rows, workers) in [("1", "1"), ("1", "3"), ("3", "2"), ("8192", "1"), ("8192", "3")] {
        let more = ["--batch-rows", rows, "--workers", workers];
        assert_eq!(place.succeeds(&[&inputs[..], &more].concat()), EXPECTED);
    }
    let said = place.run(&[&inputs[..], &["--output", "o.jsonl"]].concat());
    assert_eq!(fs::read_to_string(place.path().join("o.jsonl")).expect("output"), EXPECTED);
    assert_eq!(said.stdout, b"");
    let said = String::from_utf8(said.stderr).expect("UTF-8");
    assert!(said.contains("1 event of type Other left out"), "{said}");
    assert!(said.contains("stream Share: 1 row failed, left out as dead letters"), "{said}");
    assert!(said.contains("division by zero"), "{said}");
}

#[test]
fn times_of_an_event_file_are_event_times() {
    let sql = "CREATE STREAM a (v int, w int DEFAULT 7, d int GENERATED ALWAYS AS (v * 2) STORED);\n\
               CREATE STREAM o AS SELECT v, w, d, _time AS t FROM a;\n";
    let place = Place::new(&[("p.sql", sql), ("a.evt", "a { v: 1 }\n@1h30m a(2)\n")]);
    assert_eq!(
        place.succeeds(&["run", "p.sql", "--input", "a.evt"]),
        "{\"stream\":\"o\",\"v\":1,\"w\":7,\"d\":2,\"t\":\"2000-01-01T00:00:00+00:00\"}\n\
         {\"stream\":\"o\",\"v\":2,\"w\":7,\"d\":4,\"t\":\"2000-01-01T01:30:00+00:00\"}\n"
    );
}

#[test]
fn printed_lines_do_not_stop_a_run() {
    let program = "event T:\n    v: int\nstream P = T.print()\n";
    let place = Place::new(&[("p.vpl", program), ("t.jsonl", "{\"v\": 1}\n{\"v\": 2}\n")]);
    let out = place.succeeds(&["run", "p.vpl", "--input", "t.jsonl"]);
    assert_eq!(out.lines().count(), 4, "{out}");
}

#[test]
fn run_refuses_what_is_wrong_with_its_place() {
    let place = Place::new(&[
        ("p.vpl", PROGRAM),
        ("usr.jsonl", "{\"user\": \"u\", \"at\": \"2013-01-01T10:01:00Z\"}\n{\"usr\": \"u\"}\n"),
        ("mixed.jsonl", "{\"price\": 1, \"qty\": 1}\n{\"price\": \"x\"}\n"),
        ("p.sql", "CREATE STREAM a (v int CHECK (v > 0));\nCREATE STREAM b AS SELECT v FROM a;\n"),
        ("a.csv", "v\n1\n0\n"),
        ("select.sql", "SELECT 1;\n"),
        ("bad.vpl", "stream A = Nope.where(x > 1)\n"),
    ]);
    for (arguments, parts) in [
        (&["p.vpl", "--input", "Login=usr.jsonl"][..], &["p.vpl:7:14", "`Trade`"][..]),
        (
            &["p.vpl", "--input", "Trade=mixed.jsonl"],
            &["mixed.jsonl:2", "the type of `Trade.price`"],
        ),
        (&["p.vpl", "--input", "Trad=a.csv"], &["did you mean `Trade`?"]),
        (&["p.vpl", "--input", "Trade=none.csv"], &["cannot read none.csv"]),
        (&["none.vpl", "--input", "a.csv"], &["cannot read none.vpl"]),
        (&["p.sql", "--input", "a.csv"], &["check constraint", "where: a.csv:3"]),
        (&["select.sql", "--input", "a.csv"], &["error[0A000]", "select.sql:1:1"]),
        (&["bad.vpl", "--input", "T=a.csv"], &["no event type"]),
    ] {
        let arguments = [&["run"], arguments].concat();
        place.fails(&arguments, 1, parts);
    }
    let declared: Vec<&str> = PROGRAM.lines().take(5).chain(["stream L = Login\n"]).collect();
    fs::write(place.path().join("l.vpl"), declared.join("\n")).expect("a file");
    place.fails(
        &["run", "l.vpl", "--input", "usr.jsonl"],
        1,
        &["usr.jsonl:2: `Login` has no field `usr`", "did you mean `user`?"],
    );
    place.fails(&["run", "p.vpl"], 2, &["--input"]);
    place.fails(&["run", "p.vpl", "--input", "a.csv", "--batch-rows", "0"], 2, &["between 1 and"]);
}

#[test]
fn check_reports_everything_and_fails() {
    let place = Place::new(&[
        ("good.vpl", "event T:\n    v: int\nstream A = T.where(v > 1)\n"),
        ("bad.vpl", "event T:\n    v: int\nstream A = T.where(w > 1)\nstream B = U\n"),
        ("bad.sql", "CREATE STREEM s (v int);\n"),
    ]);
    assert_eq!(place.succeeds(&["check", "good.vpl"]), "");
    place.fails(
        &["check", "good.vpl", "bad.vpl", "bad.sql"],
        1,
        &["bad.vpl:3:20", "bad.vpl:4:12", "event U:", "error[42601]", "bad.sql:1:8", "3 errors"],
    );
    let json = place.run(&["check", "--json", "bad.vpl"]);
    assert_eq!(json.status.code(), Some(1));
    let json = String::from_utf8(json.stdout).expect("UTF-8");
    assert_eq!(json.lines().filter(|l| l.starts_with('{') && l.contains("\"line\":")).count(), 2);
    place.fails(&["check", "none.vpl"], 1, &["cannot read none.vpl"]);
}

#[test]
fn fmt_lays_out_in_place_and_says_what_it_would_do() {
    let untidy = "stream A=T.where(v>1)\n";
    let place = Place::new(&[("a.vpl", untidy), ("bad.vpl", "stream A = \n")]);
    let check = place.run(&["fmt", "--check", "a.vpl"]);
    assert_eq!((check.status.code(), check.stdout.as_slice()), (Some(1), &b"a.vpl\n"[..]));
    let shown = place.succeeds(&["fmt", "--stdout", "a.vpl"]);
    assert_eq!(fs::read_to_string(place.path().join("a.vpl")).expect("a file"), untidy);
    assert_eq!(shown, "stream A = T.where(v > 1)\n");
    place.succeeds(&["fmt", "a.vpl"]);
    assert_eq!(fs::read_to_string(place.path().join("a.vpl")).expect("a file"), shown);
    assert_eq!(place.succeeds(&["fmt", "--check", "a.vpl"]), "");
    place.fails(&["fmt", "bad.vpl"], 1, &["bad.vpl:1"]);
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 2);
}

/// A server with its standard output.
struct Server(Child, BufReader<std::process::ChildStdout>);

impl Server {
    fn start(place: &Place, arguments: &[&str]) -> Server {
        let mut command =
            place.command(&[&["server", "--listen", "127.0.0.1:0"], arguments].concat());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = child.stdout.take().expect("piped");
        Server(child, BufReader::new(out))
    }

    fn address(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line.strip_prefix("listening on ").expect("the address").trim_end().to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_server_says_where_it_listens_and_stops_in_order_on_either_signal() {
    let place = Place::new(&[("a.toml", "data_dir = \"from_file\"\nworkers = 1\n")]);
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start(&place, &["--config", "a.toml", "--log-format", "json"]);
        let address = server.address();
        std::net::TcpStream::connect(&address).expect("the port is open");
        server.signal(signal);
        assert_eq!(server.0.wait().expect("it ends").code(), Some(0));
        let mut rest = String::new();
        server.1.read_to_string(&mut rest).expect("UTF-8");
        assert_eq!(rest, "", "one line on standard output");
        let mut log = String::new();
        server.0.stderr.take().expect("piped").read_to_string(&mut log).expect("UTF-8");
        assert!(log.contains("connect with: psql -h 127.0.0.1 -p "), "{log}");
        assert!(log.lines().last().expect("a line").starts_with('{'), "{log}");
    }
    assert!(place.path().join("from_file").is_dir());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let place = Place::new(&[("a.toml", "data_dri = \"x\"\n")]);
    let mut server = Server::start(&place, &["--data-dir", "d"]);
    let address = server.address();
    for (arguments, part) in [
        (&["--data-dir", "d", "--listen", "127.0.0.1:0"][..], "in use by another process"),
        (&["--data-dir", "e", "--listen", &address], "choose another port with --listen"),
        (&["--data-dir", "e", "--listen", "0.0.0.0:0"], "only loopback addresses"),
        (&["--data-dir", "e", "--listen", "nonsense"], "An address looks like"),
        (&["--config", "a.toml"], "did you mean `data_dir`?"),
        (&["--config", "none.toml"], "cannot read the configuration file none.toml"),
        (&["--data-dir", "a.toml/x", "--listen", "127.0.0.1:0"], "cannot open a.toml/x"),
        (&["--batch-rows", "0"], "`batch_rows` is 0"),
        (&["--log-level", "=="], "`log_level` is not a log filter"),
    ] {
        place.fails(&[&["server"], arguments].concat(), 1, &[part]);
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let place = Place::new(&[("a.toml", "data_dir = \"file\"\n")]);
    for (flag, environment, expected) in
        [(Some("flag"), Some("env"), "flag"), (None, Some("env"), "env"), (None, None, "file")]
    {
        let mut command = place.command(&["server", "--listen", "127.0.0.1:0"]);
        command.env("AUSPEX_CONFIG", "a.toml").stdout(Stdio::piped()).stderr(Stdio::null());
        command.args(flag.iter().flat_map(|dir| ["--data-dir", dir]));
        command.envs(environment.map(|dir| ("AUSPEX_DATA_DIR", dir)));
        let mut child = command.spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut server = Server(child, out);
        server.address();
        assert!(place.path().join(expected).is_dir(), "{expected}");
    }
}

#[test]
fn version_and_help() {
    let place = Place::new(&[]);
    assert!(place.succeeds(&["--version"]).starts_with("auspex "));
    for command in ["server", "run", "check", "fmt"] {
        let help = place.succeeds(&[command, "--help"]);
        assert!(help.contains("Examples:"), "{help}");
    }
    place.fails(&["serve"], 2, &["server"]);
}
