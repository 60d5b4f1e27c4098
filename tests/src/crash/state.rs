//! Windows, joins and views under kill -9: their rows and offsets must be those of a run that was
//! never interrupted.
//!
//! All of them read one stream, `timed`, whose rows arrive out of order within and beyond what its
//! watermark allows for. After each start the checker reads what is new and keeps it; an offset that was seen
//! never changes. At the end a fresh server gets the rows of `timed` in the order of their offsets,
//! in one COPY, and everything that follows from them must be the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::SinkExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::clients::{broken, connect};
use super::model::Model;
use super::{CrashError, Summary};
use crate::server::Server;

const SOURCE: &str = "CREATE STREAM timed (id bigint, k bigint, v bigint, ts timestamptz, \
     WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";

/// Streams and views over `timed`: name, kind, query.
const STATEFUL: [(&str, &str, &str); 8] = [
    (
        "tumbled",
        "STREAM",
        "SELECT k, window_start, window_end, count(*) AS n, sum(v) AS s, min(v) AS low \
         FROM TUMBLE(timed, ts, INTERVAL '1 second') GROUP BY k, window_start, window_end",
    ),
    (
        "hopped",
        "STREAM",
        "SELECT k, window_start, window_end, count(*) AS n, max(v) AS high \
         FROM HOP(timed, ts, INTERVAL '1 second', INTERVAL '10 seconds') \
         GROUP BY k, window_start, window_end",
    ),
    (
        "sessions",
        "STREAM",
        "SELECT k, window_start, window_end, count(*) AS n \
         FROM SESSION(timed PARTITION BY k, ts, INTERVAL '60 milliseconds') \
         GROUP BY k, window_start, window_end",
    ),
    (
        "sevens",
        "STREAM",
        "SELECT sum(v) AS s, count(*) AS n FROM ROWS(timed, 7) GROUP BY window_start, window_end",
    ),
    (
        "pairs",
        "STREAM",
        "SELECT a.id AS a, b.id AS b FROM timed a JOIN timed b ON a.k = b.k AND a.v = b.v \
         AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '300 milliseconds'",
    ),
    (
        "unpaired",
        "STREAM",
        "SELECT a.id AS a, b.n AS b FROM timed a LEFT JOIN tumbled b ON a.k = b.k AND a.v = b.low \
         AND b._time BETWEEN a.ts AND a.ts + INTERVAL '2 seconds'",
    ),
    (
        "running",
        "STREAM",
        "SELECT id, sum(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) \
         AS s FROM timed",
    ),
    ("by_key", "MATERIALIZED VIEW", "SELECT k, count(*) AS n, sum(v) AS s FROM timed GROUP BY k"),
];

/// The change stream of the view, read like the others.
const VIEW: &str = "by_key";

/// Creates the stream and what is computed from it.
pub(super) async fn prepare(server: &Server) -> Result<(), CrashError> {
    let client = server.connect().await?;
    client.batch_execute(SOURCE).await?;
    for (name, kind, query) in STATEFUL {
        client.batch_execute(&format!("CREATE {kind} {name} AS {query}")).await?;
    }
    Ok(())
}

/// Writes rows with ids in order and event times around them until the connection breaks.
pub(super) async fn write(config: Arc<Config>, model: Arc<Model>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let Some(client) = connect(&config).await else { return };
    loop {
        let rows = random.random_range(1..=200);
        let first = model.next_timed(rows);
        let mut values = Vec::new();
        for id in first..first + rows {
            // 10 ms apart, mostly up to 1.9 s late, some later than the watermark allows.
            let late = if random.random_bool(0.01) { 2500 } else { random.random_range(0..1900) };
            let (k, v) = (random.random_range(0..5), random.random_range(0..1000));
            values.push(format!("({id}, {k}, {v}, to_timestamp({}))", seconds(id * 10 - late)));
        }
        let sql = format!("INSERT INTO timed VALUES {}", values.join(", "));
        match client.batch_execute(&sql).await {
            Ok(()) => model.timed_acknowledged(rows),
            Err(error) => return broken(&error),
        }
    }
}

/// Milliseconds as seconds with a fraction, from a moment in 2023 on.
fn seconds(ms: i64) -> String {
    let ms = 1_700_000_000_000 + ms;
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// What has been read of each stream, by offset.
#[derive(Debug, Default)]
pub(super) struct Stateful {
    source: Vec<String>,
    outputs: [Vec<String>; STATEFUL.len()],
    marker: i64,
}

/// Rows from offset `from` on, as text, `_offset` and `_time` first; of a view its changes.
async fn rows(client: &Client, stream: &str, from: usize) -> Result<Vec<String>, CrashError> {
    let sql = if stream == VIEW {
        // Reading the view itself waits for what this session has written.
        client.simple_query(&format!("SELECT count(*) FROM {VIEW}")).await?;
        format!("SUBSCRIBE TO {VIEW} FROM OFFSET {from} UNTIL NOW")
    } else {
        format!("SELECT _offset, _time, * FROM {stream} WHERE _offset >= {from} ORDER BY _offset")
    };
    let mut found = Vec::new();
    for message in client.simple_query(&sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let columns: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("")).collect();
            let due = from + found.len();
            if columns[0] != due.to_string() {
                let why = format!("{stream}: offset {} where {due} is due", columns[0]);
                return Err(CrashError::Violation(why));
            }
            found.push(columns.join(","));
        }
    }
    Ok(found)
}

impl Stateful {
    /// Reads what is new, and checks that every acknowledged row is there.
    pub(super) async fn check(&mut self, client: &Client, model: &Model) -> Result<(), CrashError> {
        self.marker += 1;
        // Makes reads wait for everything; its key is its own, its time that of the last row.
        let time = seconds(model.timed_so_far() * 10);
        let marker =
            format!("INSERT INTO timed VALUES ({}, -1, 0, to_timestamp({time}))", -self.marker);
        client.batch_execute(&marker).await?;
        let new = rows(client, "timed", self.source.len()).await?;
        self.source.extend(new);
        let own = self.marker as u64;
        if (self.source.len() as u64) < model.timed_answered() + own {
            let (there, due) = (self.source.len() as u64 - own, model.timed_answered());
            return Err(CrashError::Violation(format!("timed holds {there} of {due} rows")));
        }
        for ((name, ..), known) in STATEFUL.iter().zip(&mut self.outputs) {
            let new = rows(client, name, known.len()).await?;
            known.extend(new);
        }
        self.view(client).await
    }

    /// Everything again, from the beginning, here and on a server that was never interrupted.
    pub(super) async fn check_all(
        &self,
        server: &Server,
        binary: &Path,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        let client = server.connect().await?;
        self.compare(&client, "without being written").await?;

        let folder = tempfile::tempdir()?;
        let fresh = Server::start_with(binary, &folder.path().join("data"), &[] as &[&str])?;
        prepare(&fresh).await?;
        let client = fresh.connect().await?;
        let sink = client.copy_in("COPY timed FROM STDIN (FORMAT csv)").await?;
        futures::pin_mut!(sink);
        let mut text = String::new();
        for row in &self.source {
            let own: Vec<&str> = row.splitn(3, ',').collect();
            text += own[2];
            text.push('\n');
        }
        sink.send(bytes::Bytes::from(text)).await?;
        sink.finish().await?;
        self.compare(&client, "compared with an uninterrupted run").await?;
        summary.stateful_rows = self.outputs.iter().map(|rows| rows.len() as u64).sum();
        Ok(())
    }

    /// The view holds what its last changes say.
    async fn view(&self, client: &Client) -> Result<(), CrashError> {
        let mut held: Vec<String> = Vec::new();
        let sql = format!("SELECT * FROM {VIEW} ORDER BY k");
        for message in client.simple_query(&sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                let columns: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("")).collect();
                held.push(columns.join(","));
            }
        }
        let mut last: BTreeMap<i64, String> = BTreeMap::new();
        for (_, known) in STATEFUL.iter().zip(&self.outputs).filter(|((name, ..), _)| *name == VIEW)
        {
            for row in known {
                // _offset, _time, _op, then the view's own columns.
                let own = row.splitn(4, ',').nth(3).unwrap_or_default();
                let key = own.split(',').next().and_then(|k| k.parse().ok()).unwrap_or(i64::MIN);
                last.insert(key, own.to_owned());
            }
        }
        if !held.iter().eq(last.values()) {
            let why = format!("{VIEW} holds {held:?}, its changes say {last:?}");
            return Err(CrashError::Violation(why));
        }
        Ok(())
    }

    async fn compare(&self, client: &Client, how: &str) -> Result<(), CrashError> {
        for ((name, ..), known) in STATEFUL.iter().zip(&self.outputs) {
            let again = rows(client, name, 0).await?;
            if again != *known {
                let at = again.iter().zip(known).take_while(|(a, b)| a == b).count();
                return Err(CrashError::Violation(format!(
                    "{name} has changed {how}: {} rows, then {}; first difference {:?} and {:?}",
                    known.len(),
                    again.len(),
                    known.get(at),
                    again.get(at)
                )));
            }
        }
        Ok(())
    }
}
