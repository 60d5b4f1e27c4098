use super::Server;
use super::client::*;

async fn with_rows(rows: u32) -> (Server, Client) {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint, b text)", &["Complete CREATE STREAM"]).await;
    for row in 1..=rows {
        let insert = format!("INSERT INTO s VALUES ({row}, 'r{row}')");
        client.check(&insert, &["Complete INSERT 0 1"]).await;
    }
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_described_and_bound_in_both_formats() {
    let (_server, mut client) = with_rows(3).await;
    let answers = client
        .ask(&[
            parse("", "SELECT a, b FROM s WHERE a = $1 OR b = $2", &[]),
            describe("S"),
            bind("", "", &[Some("1"), Some("r3")], 0),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        [
            "Parsed",
            "Parameters 20 25",
            "Columns a:20 b:25",
            "Bound",
            "Row 1|r1",
            "Row 3|r3",
            "Complete SELECT 2",
            "Ready I"
        ]
    );
    let answers = client
        .ask(&[
            parse("", "SELECT a FROM s WHERE a = $1", &[20]),
            bind_as("", "", 1, &[Some(&2i64.to_be_bytes())], 1),
            describe("P"),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        [
            "Parsed",
            "Bound",
            "Columns a:20b",
            "Row 0000000000000002",
            "Complete SELECT 1",
            "Ready I"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_as_many_rows_as_asked_for() {
    let (_server, mut client) = with_rows(5).await;
    let answers = client
        .ask(&[
            query("BEGIN"),
            parse("st", "SELECT a FROM s ORDER BY a", &[]),
            bind("p", "st", &[], 0),
            execute("p", 2),
            execute("p", 2),
            execute("p", 2),
            execute("p", 2),
            sync(),
        ])
        .await;
    assert_eq!(answers, ["Complete BEGIN", "Ready T"]);
    assert_eq!(
        client.until_ready().await,
        [
            "Parsed",
            "Bound",
            "Row 1",
            "Row 2",
            "Suspended",
            "Row 3",
            "Row 4",
            "Suspended",
            "Row 5",
            "Complete SELECT 1",
            "Complete SELECT 0",
            "Ready T"
        ]
    );
    // A negative limit is none, and statements without rows do not mind a limit.
    let answers = client
        .ask(&[
            bind("", "st", &[], 0),
            execute("", -1),
            parse("", "COMMIT", &[]),
            bind("", "", &[], 0),
            execute("", 1),
            sync(),
        ])
        .await;
    assert_eq!(answers.iter().filter(|a| a.starts_with("Row")).count(), 5);
    assert_eq!(answers.last().unwrap(), "Ready I");
    assert!(answers.contains(&"Complete COMMIT".to_string()), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_error_everything_up_to_sync_is_skipped() {
    let (_server, mut client) = with_rows(1).await;
    client.send(&[parse("", "SELECT nothing", &[]), bind("", "", &[], 0), flush()]).await;
    // The error comes without waiting for the Sync.
    let error = client.next().await.unwrap();
    assert!(error.starts_with("ERROR 42703"), "{error}");
    let answers = client.ask(&[execute("", 0), copy_data(b"x"), copy_done(), sync()]).await;
    assert_eq!(answers, ["Ready I"]);
    // All up to the Sync is one transaction.
    let answers = client
        .ask(&[
            parse("", "INSERT INTO s VALUES (2, 'x')", &[]),
            bind("", "", &[], 0),
            execute("", 0),
            parse("", "SELECT 1 / 0", &[]),
            bind("", "", &[], 0),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(answers[2], "Complete INSERT 0 1");
    assert!(answers.iter().any(|a| a.starts_with("ERROR 22012")), "{answers:?}");
    client
        .check("SELECT count(*) AS n FROM s", &["Columns n:20", "Row 1", "Complete SELECT 1"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_kept_apart_and_unnamed_ones_replaced() {
    let (_server, mut client) = with_rows(1).await;
    let ask = async |client: &mut Client, messages: &[Vec<u8>]| {
        let mut messages = messages.to_vec();
        messages.push(sync());
        let mut answers = client.ask(&messages).await;
        assert_eq!(answers.pop().as_deref(), Some("Ready I"));
        answers.into_iter().map(|a| a.chars().take(11).collect::<String>()).collect::<Vec<_>>()
    };
    let client = &mut client;
    assert_eq!(ask(client, &[parse("n", "SELECT 1 AS x", &[])]).await, ["Parsed"]);
    assert_eq!(ask(client, &[parse("n", "SELECT 2 AS x", &[])]).await, ["ERROR 42P05"]);
    assert_eq!(
        ask(client, &[close("Sn"), parse("n", "SELECT 2 AS x", &[])]).await,
        ["Closed", "Parsed"]
    );
    assert_eq!(ask(client, &[bind("", "m", &[], 0)]).await, ["ERROR 26000"]);
    assert_eq!(ask(client, &[execute("m", 0)]).await, ["ERROR 34000"]);
    assert_eq!(ask(client, &[describe("Pm")]).await, ["ERROR 34000"]);
    assert_eq!(ask(client, &[close("Pm")]).await, ["Closed"]);
    let twice = [bind("p", "n", &[], 0), bind("p", "n", &[], 0)];
    assert_eq!(ask(client, &twice).await, ["Bound", "ERROR 42P03"]);
    // A failed Parse or Bind leaves nothing that could run.
    assert_eq!(ask(client, &[parse("", "SELECT 1 AS x", &[])]).await, ["Parsed"]);
    assert_eq!(ask(client, &[parse("", "SELEC", &[])]).await, ["ERROR 42601"]);
    assert_eq!(ask(client, &[bind("", "", &[], 0)]).await, ["ERROR 26000"]);
    // Portals end with their transaction.
    assert_eq!(ask(client, &[bind("q", "n", &[], 0)]).await, ["Bound"]);
    assert_eq!(ask(client, &[execute("q", 0)]).await, ["ERROR 34000"]);
    let two = parse("", "SELECT 1; SELECT 2", &[]);
    assert_eq!(ask(client, &[two]).await, ["ERROR 42601"]);
    let empty = [parse("", "", &[]), bind("", "", &[], 0), describe("P"), execute("", 0)];
    assert_eq!(ask(client, &empty).await, ["Parsed", "Bound", "NoData", "Empty"]);
    assert_eq!(ask(client, &[bind("", "n", &[Some("1")], 0)]).await, ["ERROR 08P01"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_do_not_fit_are_refused() {
    let (_server, mut client) = with_rows(0).await;
    for (text, oid, format, value, expected) in [
        (
            "SELECT $1 AS x",
            23,
            0,
            &b"x"[..],
            "ERROR 22P02 invalid input syntax for type integer: \"x\"",
        ),
        (
            "SELECT $1 AS x",
            23,
            1,
            b"x",
            "ERROR 22P03 incorrect binary data format in bind parameter 1",
        ),
        (
            "SELECT $1 AS x",
            21,
            0,
            b"40000",
            "ERROR 22003 value \"40000\" is out of range for type smallint",
        ),
        (
            "SELECT $1 AS x",
            25,
            0,
            b"\xff",
            "ERROR 22021 invalid byte sequence for encoding \"UTF8\": 0xff",
        ),
        (
            "SELECT $1 AS x",
            1700,
            0,
            b"0.12345678901",
            "ERROR 22003 numeric parameter has more than 10 digits behind the point",
        ),
        ("SELECT $1 AS x", 99999, 0, b"1", "ERROR 42704 type with OID 99999 does not exist"),
    ] {
        let answers = client
            .ask(&[parse("", text, &[oid]), bind_as("", "", format, &[Some(value)], 0), sync()])
            .await;
        let error = answers.iter().find(|a| a.starts_with("ERROR")).unwrap();
        assert_eq!(error, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_runs_through_the_extended_protocol() {
    let (_server, mut client) = with_rows(0).await;
    let answers = client
        .ask(&[
            parse("c", "COPY s FROM STDIN", &[]),
            describe("Sc"),
            bind("", "c", &[], 0),
            execute("", 0),
            copy_data(b"7\tseven\n"),
            copy_done(),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        ["Parsed", "Parameters ", "NoData", "Bound", "CopyIn 0 2", "Complete COPY 1", "Ready I"]
    );
    let answers = client
        .ask(&[
            parse("", "COPY (SELECT a FROM s) TO STDOUT", &[]),
            bind("", "", &[], 0),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        ["Parsed", "Bound", "CopyOut 0 1", "CopyData 7", "CopyDone", "Complete COPY 1", "Ready I"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_cursor_is_described_as_a_portal() {
    let (_server, mut client) = with_rows(2).await;
    let declare = "BEGIN; DECLARE c CURSOR FOR SELECT a FROM s ORDER BY a";
    let answers = client.query(declare).await;
    assert_eq!(answers, ["Complete BEGIN", "Complete DECLARE CURSOR", "Ready T"]);
    assert_eq!(client.ask(&[describe("Pc"), sync()]).await, ["Columns a:20", "Ready T"]);
    assert_eq!(
        client.query("FETCH 1 FROM c").await,
        ["Columns a:20", "Row 1", "Complete FETCH 1", "Ready T"]
    );
    assert_eq!(client.ask(&[close("Pc"), sync()]).await, ["Closed", "Ready T"]);
    let answers = client.query("FETCH 1 FROM c").await;
    assert!(answers[0].starts_with("ERROR 34000"), "{answers:?}");
}
