//! BACKUP while rows are written, `auspex restore`, and a server on what was restored.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use auspex_tests::{Server, binary};
use tokio_postgres::Client;

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect("a number").get(0)
}

async fn code(client: &Client, statement: &str) -> String {
    let error = client.batch_execute(statement).await.expect_err("refused");
    error.code().map(|state| state.code().to_owned()).expect("an error of the server")
}

/// Waits until so many rows are acknowledged.
async fn reach(acknowledged: &AtomicI64, rows: i64) {
    while acknowledged.load(Ordering::SeqCst) < rows {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_load_is_a_beginning_of_the_log_with_everything_that_follows_from_it()
{
    let folder = tempfile::tempdir().expect("a folder");
    let (backup, restored) = (folder.path().join("backup"), folder.path().join("restored"));
    let server = Server::start().expect("the server starts");
    let client = server.connect().await.expect("a client");
    client
        .batch_execute(
            "CREATE STREAM n (i bigint);
             CREATE STREAM seen AS SELECT DISTINCT i FROM n;
             CREATE TABLE last (k bigint PRIMARY KEY, i bigint);
             CREATE SINK to_last INTO last AS SELECT i % 10 AS k, i FROM n",
        )
        .await
        .expect("created");
    let (acknowledged, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (client, acknowledged, stop) =
            (server.connect().await.expect("a client"), acknowledged.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let i = acknowledged.load(Ordering::SeqCst);
                client.execute("INSERT INTO n VALUES ($1)", &[&i]).await.expect("inserted");
                acknowledged.store(i + 1, Ordering::SeqCst);
            }
        })
    };
    reach(&acknowledged, 100).await;
    let before = acknowledged.load(Ordering::SeqCst);
    let to = backup.display();
    client.batch_execute(&format!("BACKUP TO '{to}'")).await.expect("backed up");
    let after = acknowledged.load(Ordering::SeqCst);
    reach(&acknowledged, after + 100).await;
    stop.store(true, Ordering::SeqCst);
    writer.await.expect("it has not failed");
    assert_eq!(code(&client, &format!("BACKUP TO '{to}'")).await, "58P02");
    assert_eq!(code(&client, "BACKUP TO 'somewhere'").await, "22023");
    client.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(code(&client, &format!("BACKUP TO '{to}2'")).await, "25001");

    let restore = || {
        let mut command = Command::new(binary().expect("the server is built"));
        command.arg("restore").arg("--from").arg(&backup).arg("--data-dir").arg(&restored);
        command.output().expect("it runs")
    };
    let done = restore();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let again = restore();
    assert!(!again.status.success());
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(told.contains("is not empty"), "{told}");

    let mut second = Server::start_in(&restored).expect("the server starts");
    let client = second.connect().await.expect("a client");
    let rows = number(&client, "SELECT count(*) FROM n").await;
    assert!((before..=after + 1).contains(&rows), "{rows} is not in {before}..={after}+1");
    assert_eq!(number(&client, "SELECT max(i) FROM n").await, rows - 1);
    assert_eq!(number(&client, "SELECT count(*) FROM seen").await, rows);
    assert_eq!(number(&client, "SELECT max(i) FROM last").await, rows - 1);
    client.batch_execute(&format!("INSERT INTO n VALUES (0), ({rows})")).await.expect("it goes on");
    assert_eq!(number(&client, "SELECT count(*) FROM seen").await, rows + 1);
    assert_eq!(number(&client, "SELECT max(i) FROM last").await, rows);
    second.stop(Duration::from_secs(30)).expect("stopped");
}
