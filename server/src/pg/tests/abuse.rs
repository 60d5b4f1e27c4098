//! What no honest client sends: the connection may end, the server may not.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::*;
use super::{Server, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_limit_is_refused_unread() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(&[vec![b'Q', 0x3f, 0xff, 0xff, 0xff, b's']]).await;
    let answers = client.until_ready().await;
    assert!(answers[0].starts_with("FATAL 54000 message of 1073741819 bytes"), "{answers:?}");
    assert_eq!(answers[1], "Closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_errors() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (messages, expected) in [
        (vec![message(b'Q', b"no end")], "ERROR 08P01"),
        (vec![message(b'P', b"\0"), sync()], "ERROR 08P01"),
        (vec![message(b'B', &[0xff; 40]), sync()], "ERROR 08P01"),
        (vec![message(b'E', b"\0\0"), execute("", 0), sync()], "ERROR 08P01"),
        (vec![message(b'F', b"\0\0\0\x01")], "ERROR 0A000"),
    ] {
        let answers = client.ask(&messages).await;
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert!(answers[0].starts_with(expected), "{answers:?}");
        assert_eq!(answers[1], "Ready I");
    }
    let answers = client.ask(&[message(b'!', b"")]).await;
    assert_eq!(answers, ["FATAL 08P01 invalid frontend message type 33", "Closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_data_of_any_length_needs_no_memory() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("CREATE STREAM s (a bigint)", &["Complete CREATE STREAM"]).await;
    // Outside of COPY it is skipped as it comes, 1 GiB announced and 1 MiB sent.
    client.send(&[vec![b'd', 0x3f, 0xff, 0xff, 0xff], vec![b'x'; 1 << 20]]).await;
    drop(client);
    let mut client = server.client().await;
    client.check("SELECT 1 AS x", &["Columns x:20", "Row 1", "Complete SELECT 1"]).await;
}

/// Messages that make sense in this order.
fn honest() -> Vec<Vec<u8>> {
    vec![
        parse("n", "SELECT a FROM s WHERE a > $1", &[20]),
        bind("p", "n", &[Some("0")], 1),
        describe("Sn"),
        describe("Pp"),
        execute("p", 1),
        execute("p", 0),
        flush(),
        close("Pp"),
        close("Sn"),
        sync(),
        query("BEGIN; INSERT INTO s VALUES (1); ROLLBACK"),
        query("COPY s FROM STDIN (FORMAT csv)"),
        copy_data(b"1\n2\n"),
        copy_done(),
        query("COPY s TO STDOUT (FORMAT binary)"),
        query("SELECT 1"),
        message(b'X', b""),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn mutated_sessions_neither_panic_nor_hang(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        order in Just(honest()).prop_shuffle(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start().await;
            let mut bytes = order.concat();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            for cut in &cuts {
                bytes.remove(cut.index(bytes.len()));
            }
            let mut client = server.client().await;
            client.query("CREATE STREAM s (a bigint)").await;
            // The server may close the connection while we are writing.
            let _ = client.stream.write_all(&bytes).await;
            let _ = client.stream.shutdown().await;
            let mut rest = Vec::new();
            within(async {
                let _ = client.stream.read_to_end(&mut rest).await;
            })
            .await;
            let mut next = server.client().await;
            next.check("SELECT 1 AS x", &["Columns x:20", "Row 1", "Complete SELECT 1"]).await;
            drop(next);
            server.stop().await;
        });
    }
}
