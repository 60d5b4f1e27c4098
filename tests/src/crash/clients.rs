//! The load: clients that write, define and subscribe until their connection breaks.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::CrashError;
use super::model::{Existence, Model, StatementId};
use crate::server::Server;

/// Rows of one statement have consecutive ids from its number times this.
pub(super) const IDS: i64 = 1_000_000;

/// Streams that exist in all cycles. `chained` reads `evens`: a chain over the store.
const SCHEMA: &str = "
    CREATE STREAM events (id bigint NOT NULL, statement bigint NOT NULL, client text);
    CREATE STREAM other (id bigint NOT NULL, statement bigint NOT NULL, client text);
    CREATE STREAM evens AS SELECT id, statement FROM events WHERE id % 2 = 0;
    CREATE STREAM chained AS SELECT id, statement * 10 + 1 AS tagged FROM evens WHERE id % 3 = 0;
    CREATE STREAM merged AS SELECT id FROM events UNION ALL SELECT -id AS id FROM other;
    CREATE TABLE counters (id bigint PRIMARY KEY, value bigint);
";

/// Creates what all cycles use.
pub(super) async fn prepare(server: &Server) -> Result<(), CrashError> {
    server.connect().await?.batch_execute(SCHEMA).await?;
    super::state::prepare(server).await
}

/// Starts all clients. They end when the server goes away.
pub(super) fn start(server: &Server, model: &Arc<Model>, seed: u64) -> Vec<JoinHandle<()>> {
    let config = Arc::new(server.config());
    let mut random = StdRng::seed_from_u64(seed);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(tokio::spawn(insert(config.clone(), model.clone(), random.random())));
    }
    for _ in 0..2 {
        tasks.push(tokio::spawn(copy(config.clone(), model.clone(), random.random())));
    }
    tasks.push(tokio::spawn(transactions(config.clone(), model.clone(), random.random())));
    tasks.push(tokio::spawn(tables(config.clone(), model.clone(), random.random())));
    tasks.push(tokio::spawn(definitions(config.clone(), model.clone(), random.random())));
    let timed = super::state::write(config.clone(), model.clone(), random.random());
    tasks.push(tokio::spawn(timed));
    tasks.push(tokio::spawn(subscribe(config, model.clone())));
    tasks
}

pub(super) async fn connect(config: &Config) -> Option<Client> {
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// The connection broke: that is how every client ends. An error that the server reported is
/// something else: these statements are right.
pub(super) fn broken(error: &tokio_postgres::Error) {
    if let Some(db) = error.as_db_error() {
        // Told while it was being killed; cannot happen with kill -9, but is not wrong.
        let stopping = db.code().code() == "57P01";
        assert!(stopping, "refused: {}", crate::sql::describe(error));
    }
}

fn values(statement: StatementId, rows: u32, client: &str) -> String {
    let rows: Vec<String> = (0..i64::from(rows))
        .map(|i| format!("({}, {statement}, '{client}')", statement * IDS + i))
        .collect();
    rows.join(", ")
}

async fn insert(config: Arc<Config>, model: Arc<Model>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Some(client) = connect(&config).await else { return };
    loop {
        let rows = random.random_range(1..=5);
        let statement = model.begin(rows, 0);
        let sql = format!("INSERT INTO events VALUES {}", values(statement, rows, "insert"));
        let outcome = if random.random_bool(0.5) {
            client.simple_query(&sql).await.map(|_| ())
        } else {
            client.execute(&sql, &[]).await.map(|_| ())
        };
        match outcome {
            Ok(()) => model.acknowledge(statement),
            Err(error) => return broken(&error),
        }
    }
}

async fn copy(config: Arc<Config>, model: Arc<Model>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Some(client) = connect(&config).await else { return };
    loop {
        let rows = random.random_range(1..=2000);
        let statement = model.begin(rows, 0);
        let pieces = random.random_range(1..=8);
        match copy_once(&client, statement, rows, pieces).await {
            Ok(copied) => {
                assert_eq!(copied, u64::from(rows), "COPY counts wrongly");
                model.acknowledge(statement);
            }
            Err(error) => return broken(&error),
        }
    }
}

async fn copy_once(
    client: &Client,
    statement: StatementId,
    rows: u32,
    pieces: usize,
) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in("COPY events FROM STDIN (FORMAT csv)").await?;
    futures::pin_mut!(sink);
    let mut text = String::new();
    for i in 0..i64::from(rows) {
        text += &format!("{},{statement},copy\n", statement * IDS + i);
    }
    // Pieces end anywhere, also inside of a row.
    let bytes = bytes::Bytes::from(text);
    for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
        sink.send(bytes.slice_ref(piece)).await?;
    }
    sink.finish().await
}

/// Rows of two streams, committed together, or rolled back.
async fn transactions(config: Arc<Config>, model: Arc<Model>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Some(client) = connect(&config).await else { return };
    loop {
        let (events, other) = (random.random_range(1..=3), random.random_range(1..=3));
        let commit = random.random_bool(0.8);
        // What is rolled back must never be seen: it is not registered.
        let statement = if commit { model.begin(events, other) } else { model.begin(0, 0) };
        let end = if commit { "COMMIT" } else { "ROLLBACK" };
        let script = [
            "BEGIN".to_owned(),
            format!("INSERT INTO events VALUES {}", values(statement, events, "block")),
            format!("INSERT INTO other VALUES {}", values(statement, other, "block")),
            end.to_owned(),
        ];
        for sql in script {
            if let Err(error) = client.batch_execute(&sql).await {
                return broken(&error);
            }
        }
        model.acknowledge(statement);
    }
}

async fn tables(config: Arc<Config>, model: Arc<Model>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Some(client) = connect(&config).await else { return };
    loop {
        let key = random.random_range(0..20);
        let value = model.next_value(key);
        let sql = format!(
            "INSERT INTO counters VALUES ({key}, {value}) \
             ON CONFLICT (id) DO UPDATE SET value = excluded.value"
        );
        match client.batch_execute(&sql).await {
            Ok(()) => model.value_acknowledged(key, value),
            Err(error) => return broken(&error),
        }
    }
}

/// Creates and drops derived streams that read the history of `events`.
async fn definitions(config: Arc<Config>, model: Arc<Model>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Some(client) = connect(&config).await else { return };
    loop {
        let name = format!("ddl_{}", random.random_range(0..5));
        let now = model.objects().get(&name).copied().unwrap_or(Existence::No);
        // What is open is settled by the next check, not here.
        let (sql, then) = match now {
            Existence::Yes => (format!("DROP STREAM {name}"), Existence::No),
            Existence::No => (
                format!(
                    "CREATE STREAM {name} AS SELECT id FROM events WHERE id % 7 = 0 \
                     WITH (start = 'earliest')"
                ),
                Existence::Yes,
            ),
            Existence::Open => return,
        };
        model.object(&name, Existence::Open);
        match client.batch_execute(&sql).await {
            Ok(()) => model.object(&name, then),
            Err(error) => return broken(&error),
        }
    }
}

/// Remembers what it has been shown.
async fn subscribe(config: Arc<Config>, model: Arc<Model>) {
    let Some(client) = connect(&config).await else { return };
    let sql = "SUBSCRIBE TO chained FROM NOW";
    let rows = match client.simple_query_raw(sql).await {
        Ok(rows) => rows,
        Err(error) => return broken(&error),
    };
    futures::pin_mut!(rows);
    while let Some(message) = rows.next().await {
        match message {
            Ok(SimpleQueryMessage::Row(row)) => {
                let number = |name: &str| row.get(name).and_then(|text| text.parse().ok());
                let (Some(offset), Some(id)) = (number("_offset"), number("id")) else {
                    panic!("SUBSCRIBE without _offset and id");
                };
                model.saw(offset, id);
            }
            Ok(_) => {}
            Err(error) => return broken(&error),
        }
    }
}
