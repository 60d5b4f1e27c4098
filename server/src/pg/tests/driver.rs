//! The same through tokio-postgres, which uses binary formats throughout.

use futures::{SinkExt, StreamExt, pin_mut};
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::{Server, within};

async fn connect(
    server: &Server,
) -> (Client, tokio::sync::mpsc::UnboundedReceiver<(String, String)>) {
    let config = format!("host=127.0.0.1 port={} user=auspex", server.address.port());
    let (client, mut connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let AsyncMessage::Notification(n) = message {
                let _ = sender.send((n.channel().to_string(), n.payload().to_string()));
            }
        }
    });
    (client, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_they_were_sent() {
    let server = Server::start().await;
    let (client, _) = connect(&server).await;
    client
        .batch_execute(
            "CREATE STREAM v (b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, \
             f8 double precision, t text, y bytea, ts timestamptz, a bigint[], u text[])",
        )
        .await
        .unwrap();
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_123_456);
    let bytes: &[u8] = &[0, 255, 10];
    let (array, texts) = (vec![1i64, -2], vec![Some("a b"), None, Some("")]);
    let sent = client
        .execute(
            "INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                &true,
                &-7i16,
                &70_000i32,
                &i64::MIN,
                &1.5f32,
                &f64::MAX,
                &"é\n",
                &bytes,
                &moment,
                &array,
                &texts,
            ],
        )
        .await
        .unwrap();
    assert_eq!(sent, 1);
    let row = client.query_one("SELECT * FROM v", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, i16>(1), -7);
    assert_eq!(row.get::<_, i32>(2), 70_000);
    assert_eq!(row.get::<_, i64>(3), i64::MIN);
    assert_eq!(row.get::<_, f32>(4), 1.5);
    assert_eq!(row.get::<_, f64>(5), f64::MAX);
    assert_eq!(row.get::<_, &str>(6), "é\n");
    assert_eq!(row.get::<_, &[u8]>(7), bytes);
    assert_eq!(row.get::<_, std::time::SystemTime>(8), moment);
    assert_eq!(row.get::<_, Vec<i64>>(9), array);
    assert_eq!(row.get::<_, Vec<Option<&str>>>(10), texts);
    let null: Option<i64> = None;
    client.execute("INSERT INTO v (i8) VALUES ($1)", &[&null]).await.unwrap();
    let row = client.query_one("SELECT i8 FROM v WHERE t IS NULL", &[]).await.unwrap();
    assert_eq!(row.get::<_, Option<i64>>(0), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_get_the_types_that_their_use_asks_for() {
    let server = Server::start().await;
    let (client, _) = connect(&server).await;
    client
        .batch_execute("CREATE STREAM s (q integer, v text, ts timestamptz, p double precision)")
        .await
        .unwrap();
    for (text, expected) in [
        ("SELECT q FROM s WHERE q = $1 AND v = $2", vec![Type::INT4, Type::TEXT]),
        ("SELECT q FROM s WHERE ts < $1", vec![Type::TIMESTAMPTZ]),
        ("SELECT q FROM s LIMIT $1", vec![Type::INT8]),
        (
            "INSERT INTO s VALUES ($1, $2, $3, $4)",
            vec![Type::INT4, Type::TEXT, Type::TIMESTAMPTZ, Type::FLOAT8],
        ),
        ("SELECT $1::int AS x", vec![Type::INT4]),
        ("SELECT $1 AS x", vec![Type::TEXT]),
    ] {
        let statement = client.prepare(text).await.unwrap();
        assert_eq!(statement.params(), expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_cursors_copy_and_notifications_work() {
    let server = Server::start().await;
    let (mut client, mut notifications) = connect(&server).await;
    client.batch_execute("CREATE STREAM s (a bigint, j jsonb); LISTEN s").await.unwrap();

    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO s VALUES (1, NULL)", &[]).await.unwrap();
    transaction.rollback().await.unwrap();

    let sink = client.copy_in("COPY s FROM STDIN").await.unwrap();
    pin_mut!(sink);
    for part in ["1\t{\"b\":[1,  2]}\n2", "\t\\N\n3\t4\n"] {
        sink.send(bytes::Bytes::from_static(part.as_bytes())).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 3);

    let row = client.query_one("SELECT j FROM s WHERE a = 1", &[]).await.unwrap();
    let json: Json<serde_json::Value> = row.get(0);
    assert_eq!(json.0, serde_json::json!({ "b": [1, 2] }));

    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT a FROM s ORDER BY a", &[]).await.unwrap();
    for expected in [vec![1i64, 2], vec![3], vec![]] {
        let rows = transaction.query_portal(&portal, 2).await.unwrap();
        assert_eq!(rows.iter().map(|r| r.get::<_, i64>(0)).collect::<Vec<_>>(), expected);
    }
    transaction.commit().await.unwrap();

    let out = client.copy_out("COPY (SELECT a FROM s ORDER BY a) TO STDOUT").await.unwrap();
    let parts: Vec<bytes::Bytes> = out.map(|part| part.unwrap()).collect().await;
    assert_eq!(parts.concat(), b"1\n2\n3\n");

    let (channel, payload) = within(notifications.recv()).await.unwrap();
    assert_eq!(
        (channel.as_str(), payload.as_str()),
        ("s", r#"{"a":1,"j":{"b": [1, 2]},"_offset":0}"#)
    );
}
