//! A full disk: a small file system of its own, real writes until it is full, kill -9 in that state.
//!
//! The file system is a tmpfs in a mount namespace (`unshare`), so that no other process meets it.
//! Where namespaces are not allowed the test says so and does nothing; the storage crate's tests
//! inject the same error.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use auspex_tests::{Server, binary};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Room for RocksDB's own files and a few dozen statements.
const SIZE: &str = "64m";
/// Text of one row; it does not compress.
const FILLER: &str =
    "SELECT string_agg(md5((n * 7919 + $1)::text), '') FROM generate_series(1, 8000) AS t(n)";

/// A mount namespace with a small file system on `at`, as long as it lives.
struct SmallDisk {
    holder: Child,
    at: PathBuf,
}

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        let script =
            format!("mount -t tmpfs -o size={SIZE} tmpfs \"$1\" && echo ready && exec sleep 3600");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
            .arg(at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take()?).read_line(&mut line);
        if said.is_ok() && line == "ready\n" {
            return Some(SmallDisk { holder, at: at.to_owned() });
        }
        let _ = holder.kill();
        let _ = holder.wait();
        None
    }

    /// A server that sees the small file system.
    fn server(&self, folder: &Path) -> Server {
        let starter = folder.join("auspex-on-small-disk");
        let text = format!(
            "#!/bin/sh\nexec nsenter --preserve-credentials --user --mount --target {} {} \"$@\"\n",
            self.holder.id(),
            binary().expect("the server is built").display()
        );
        std::fs::write(&starter, text).expect("the folder can be written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&starter, mode).expect("the folder is ours");
        Server::start_with(&starter, &self.at.join("data"), &[] as &[&str])
            .expect("the server starts")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

async fn count(client: &Client, stream: &str) -> i64 {
    let rows = client.query_one(&format!("SELECT count(*) FROM {stream}"), &[]).await;
    rows.expect("reading goes on").get(0)
}

/// Inserts rows of a quarter of a megabyte until one is refused; how many were acknowledged.
async fn fill(client: &Client, first: i64) -> i64 {
    for n in first.. {
        let text: String =
            client.query_one(FILLER, &[&(n * 1_000_003)]).await.expect("reading goes on").get(0);
        match client.execute("INSERT INTO filler VALUES ($1, $2)", &[&n, &text]).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::DISK_FULL), "{error}");
                return n - first;
            }
        }
        assert!(n < 10_000, "the disk does not become full");
    }
    unreachable!("the loop has no end of its own")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("disk");
    std::fs::create_dir(&at).expect("a folder");
    let Some(disk) = SmallDisk::mount(&at) else {
        eprintln!("left out: this machine does not allow mount namespaces");
        return;
    };
    let mut server = disk.server(folder.path());
    let client = server.connect().await.expect("a client");
    client
        .batch_execute(
            "CREATE STREAM filler (n bigint, t text); CREATE STREAM kept (n bigint);
             CREATE STREAM doubled AS SELECT n * 2 AS n FROM kept;
             INSERT INTO kept VALUES (1), (2), (3)",
        )
        .await
        .expect("there is room");
    let acknowledged = fill(&client, 0).await;
    assert!(acknowledged > 20, "only {acknowledged} rows fitted");
    // A refused statement leaves nothing behind, readers go on.
    assert_eq!(count(&client, "filler").await, acknowledged);
    assert_eq!(count(&client, "doubled").await, 3);

    // In this state the server is killed; it must open again, with what was acknowledged.
    server.kill().expect("kill");
    drop(client);
    let server = disk.server(folder.path());
    let client = server.connect().await.expect("a client");
    assert_eq!(count(&client, "filler").await, acknowledged);

    // Dropping the rows gives room again, for the same session at once or a little later.
    client.batch_execute("DROP STREAM filler").await.expect("dropping needs no room");
    let mut attempts = 0;
    while let Err(error) = client.execute("INSERT INTO kept VALUES (4)", &[]).await {
        assert_eq!(error.code(), Some(&SqlState::DISK_FULL), "{error}");
        attempts += 1;
        assert!(attempts < 600, "there is no room after DROP");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(count(&client, "kept").await, 4);
    assert_eq!(count(&client, "doubled").await, 4);
}
