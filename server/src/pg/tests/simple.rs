use super::Server;
use super::client::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_gives_columns_rows_and_its_tag() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint, b text)", &["Complete CREATE STREAM"]).await;
    client.check("INSERT INTO s VALUES (1, 'x'), (2, NULL)", &["Complete INSERT 0 2"]).await;
    client
        .check(
            "SELECT a, b FROM s ORDER BY a",
            &["Columns a:20 b:25", "Row 1|x", "Row 2|NULL", "Complete SELECT 2"],
        )
        .await;
    client.check("SELECT a FROM s WHERE a > 5", &["Columns a:20", "Complete SELECT 0"]).await;
    client.check("", &["Empty"]).await;
    client.check(" ; -- nothing\n", &["Empty"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_string_is_one_transaction() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint)", &["Complete CREATE STREAM"]).await;
    let answers = client.query("INSERT INTO s VALUES (1); SELECT nothing FROM s").await;
    assert_eq!(answers[0], "Complete INSERT 0 1");
    assert!(answers[1].starts_with("ERROR 42703"), "{answers:?}");
    assert_eq!(answers[2], "Ready I");
    client.check("SELECT a FROM s", &["Columns a:20", "Complete SELECT 0"]).await;
    // A syntax error anywhere keeps all of it from running.
    let answers = client.query("INSERT INTO s VALUES (1); SELEC 1").await;
    assert!(answers[0].starts_with("ERROR 42601"), "{answers:?}");
    assert_eq!(answers.len(), 2);
    client
        .check(
            "INSERT INTO s VALUES (1); INSERT INTO s VALUES (2)",
            &["Complete INSERT 0 1", "Complete INSERT 0 1"],
        )
        .await;
    client.check("SELECT a FROM s", &["Columns a:20", "Row 1", "Row 2", "Complete SELECT 2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_block_accepts_only_its_end() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.query("BEGIN").await, ["Complete BEGIN", "Ready T"]);
    let answers = client.query("SELECT nothing").await;
    assert!(answers[0].starts_with("ERROR 42703"), "{answers:?}");
    assert_eq!(answers[1], "Ready E");
    let answers = client.query("SELECT 1").await;
    assert!(answers[0].starts_with("ERROR 25P02"), "{answers:?}");
    assert_eq!(answers[1], "Ready E");
    assert_eq!(client.query("COMMIT").await, ["Complete ROLLBACK", "Ready I"]);
    assert_eq!(
        client.query("COMMIT").await,
        ["WARNING 25P01 there is no transaction in progress", "Complete COMMIT", "Ready I"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_count_characters_of_the_query_string() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let answers = client.query("SELECT 'é'; SELECT nothing").await;
    let error = answers.iter().find(|a| a.starts_with("ERROR")).unwrap();
    assert!(error.ends_with("@20"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_parameters_are_reported_before_ready() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .check(
            "SET TimeZone TO 'Europe/Berlin'",
            &["Complete SET", "Parameter TimeZone=Europe/Berlin"],
        )
        .await;
    client
        .check(
            "SELECT TIMESTAMPTZ '2024-07-01 00:00:00+00' AS t",
            &["Columns t:1184", "Row 2024-07-01 02:00:00+02", "Complete SELECT 1"],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_takes_rows_all_or_nothing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint, b text)", &["Complete CREATE STREAM"]).await;
    let start = query("COPY s FROM STDIN (FORMAT csv)");
    // Pieces end anywhere; Flush and Sync mean nothing in between.
    let answers = client
        .ask(&[
            start.clone(),
            copy_data(b"1,on"),
            flush(),
            copy_data(b"e\n2"),
            sync(),
            copy_data(b",\"t\nwo\"\n"),
            copy_data(b""),
            copy_done(),
        ])
        .await;
    assert_eq!(answers, ["CopyIn 0 2", "Complete COPY 2", "Ready I"]);
    // The client gives up.
    let answers = client.ask(&[start.clone(), copy_data(b"3,x\n"), copy_fail("no more")]).await;
    assert_eq!(answers, ["CopyIn 0 2", "ERROR 57014 COPY from stdin failed: no more", "Ready I"]);
    // A bad row; what follows is skipped.
    let answers =
        client.ask(&[start, copy_data(b"3,x\nfour,x\n"), copy_data(b"5,x\n"), copy_done()]).await;
    assert_eq!(answers[0], "CopyIn 0 2");
    assert!(answers[1].starts_with("ERROR 22P02 invalid input syntax for type bigint"));
    assert_eq!(answers[2], "Ready I");
    client
        .check(
            "COPY (SELECT a, b FROM s ORDER BY a) TO STDOUT",
            &[
                "CopyOut 0 2",
                "CopyData 1\tone",
                "CopyData 2\tt\\nwo",
                "CopyDone",
                "Complete COPY 2",
            ],
        )
        .await;
    // COPY of something that does not exist, sent without waiting.
    let answers =
        client.ask(&[query("COPY nothing FROM STDIN"), copy_data(b"1\n"), copy_done()]).await;
    assert!(answers[0].starts_with("ERROR 42P01"), "{answers:?}");
    client
        .check("SELECT count(*) AS n FROM s", &["Columns n:20", "Row 2", "Complete SELECT 1"])
        .await;
}
