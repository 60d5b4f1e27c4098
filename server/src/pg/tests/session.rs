use super::client::*;
use super::{Limits, Server};

#[tokio::test(flavor = "multi_thread")]
async fn the_greeting_has_what_drivers_look_for() {
    let server = Server::start().await;
    let client = Client::connect_with(
        server.address,
        &[
            ("user", "auspex"),
            ("database", "shop"),
            ("client_encoding", "'utf-8'"),
            ("application_name", "t"),
            ("options", "-c TimeZone=Asia/Tokyo -c no.such=1"),
        ],
    )
    .await;
    for expected in [
        "Authentication 0",
        "Parameter client_encoding=UTF8",
        "Parameter DateStyle=ISO, MDY",
        "Parameter integer_datetimes=on",
        "Parameter IntervalStyle=postgres",
        "Parameter standard_conforming_strings=on",
        "Parameter server_encoding=UTF8",
        "Parameter application_name=t",
        "Parameter TimeZone=Asia/Tokyo",
        "Key",
        "Ready I",
    ] {
        assert!(client.greeting.contains(&expected.to_string()), "{expected}");
    }
    assert!(client.greeting.iter().any(|g| g.starts_with("Parameter server_version=15.")));
    assert_eq!(client.secret.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_reach_idle_sessions_at_once_and_wait_for_transactions() {
    let server = Server::start().await;
    let mut listener = server.client().await;
    let mut sender = server.client().await;
    listener.query("LISTEN news").await;
    sender.check("NOTIFY news, 'one'", &["Complete NOTIFY"]).await;
    assert_eq!(listener.next().await.unwrap(), "Notification other news one");
    // Held while a transaction is open, delivered before the ReadyForQuery that ends it.
    assert_eq!(listener.query("BEGIN").await, ["Complete BEGIN", "Ready T"]);
    sender.check("NOTIFY news, 'two'", &["Complete NOTIFY"]).await;
    assert_eq!(
        listener.query("SELECT 1 AS x").await,
        ["Columns x:20", "Row 1", "Complete SELECT 1", "Ready T"]
    );
    assert_eq!(
        listener.query("COMMIT").await,
        ["Complete COMMIT", "Notification other news two", "Ready I"]
    );
    assert_eq!(
        listener.query("NOTIFY news, 'three'").await,
        ["Complete NOTIFY", "Notification self news three", "Ready I"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_rows_reach_listeners_with_their_offsets() {
    let server = Server::start().await;
    let mut listener = server.client().await;
    listener
        .check("CREATE STREAM s (a bigint, b double precision)", &["Complete CREATE STREAM"])
        .await;
    listener.query("LISTEN s").await;
    let mut writer = server.client().await;
    writer.check("INSERT INTO s VALUES (7, 1.5), (8, NULL)", &["Complete INSERT 0 2"]).await;
    for expected in [
        r#"Notification other s {"a":7,"b":1.5,"_offset":0}"#,
        r#"Notification other s {"a":8,"b":null,"_offset":1}"#,
    ] {
        assert_eq!(listener.next().await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_statement_is_cancelled_and_a_late_request_hits_nothing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint)", &["Complete CREATE STREAM"]).await;
    for messages in [
        vec![query("SUBSCRIBE s")],
        vec![query("COPY (SUBSCRIBE s) TO STDOUT")],
        vec![
            parse("", "SUBSCRIBE s", &[]),
            bind("", "", &[], 0),
            describe("P"),
            execute("", 0),
            sync(),
        ],
        vec![query("COPY s FROM STDIN")],
    ] {
        client.send(&messages).await;
        // These are the last messages before it waits.
        loop {
            let answer = client.next().await.unwrap();
            if answer.starts_with("Columns") || answer.starts_with("Copy") {
                break;
            }
        }
        // The description of a portal comes before it runs: ask until it is hit.
        let answers = loop {
            cancel(server.address, client.pid, &client.secret.clone()).await;
            let answer =
                tokio::time::timeout(std::time::Duration::from_millis(200), client.next()).await;
            if let Ok(answer) = answer {
                let mut answers = vec![answer.unwrap()];
                answers.extend(client.until_ready().await);
                break answers;
            }
        };
        assert_eq!(answers, ["ERROR 57014 canceling statement due to user request", "Ready I"]);
    }
    cancel(server.address, client.pid, &client.secret.clone()).await;
    client.check("SELECT 1 AS x", &["Columns x:20", "Row 1", "Complete SELECT 1"]).await;
    // Without the right secret nothing happens.
    client.send(&[query("SUBSCRIBE s")]).await;
    client.next().await;
    cancel(server.address, client.pid, b"nope").await;
    let mut writer = server.client().await;
    writer.check("INSERT INTO s VALUES (1)", &["Complete INSERT 0 1"]).await;
    assert!(client.next().await.unwrap().starts_with("Row 0|"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_subscription_are_flushed_one_by_one() {
    let server = Server::start().await;
    let mut reader = server.client().await;
    reader.check("CREATE STREAM s (a bigint)", &["Complete CREATE STREAM"]).await;
    reader.send(&[query("COPY (SUBSCRIBE s WITH (METADATA = false)) TO STDOUT")]).await;
    assert_eq!(reader.next().await.unwrap(), "CopyOut 0 1");
    let mut writer = server.client().await;
    for row in 0..5 {
        writer.check(&format!("INSERT INTO s VALUES ({row})"), &["Complete INSERT 0 1"]).await;
        assert_eq!(reader.next().await.unwrap(), format!("CopyData {row}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_waiting_statement_frees_its_place() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let server = Server::with_limits(limits).await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint)", &["Complete CREATE STREAM"]).await;
    client.send(&[query("SUBSCRIBE s")]).await;
    client.next().await;
    let refused = server.client().await;
    assert_eq!(refused.greeting, ["FATAL 53300 sorry, too many clients already", "Closed"]);
    drop(client);
    // The server notices without writing anything.
    super::within(async {
        loop {
            let again = server.client().await;
            if again.greeting.last().unwrap() == "Ready I" {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_told_when_the_server_stops() {
    let server = Server::start().await;
    let mut idle = server.client().await;
    let mut waiting = server.client().await;
    waiting.check("CREATE STREAM s (a bigint)", &["Complete CREATE STREAM"]).await;
    waiting.send(&[query("SUBSCRIBE s")]).await;
    waiting.next().await;
    server.stop().await;
    for client in [&mut idle, &mut waiting] {
        assert_eq!(
            client.until_ready().await,
            ["FATAL 57P01 terminating connection due to administrator command", "Closed"]
        );
    }
}

#[test]
fn only_loopback_addresses_are_listened_on() {
    for (address, ok) in
        [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("192.168.0.1:1", false)]
    {
        assert_eq!(super::super::check_address(&address.parse().unwrap()).is_ok(), ok, "{address}");
    }
}
