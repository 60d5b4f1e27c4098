//! What must be true after a restart.
//!
//! Rows are read once: each check continues at the offsets where the last one ended, and compares
//! the part before by count and sum. [`Checker::check_all`] reads everything again.

use std::collections::HashMap;
use std::path::Path;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::clients::IDS;
use super::model::{Existence, Model};
use super::state::Stateful;
use super::{CrashError, Summary};
use crate::server::Server;

/// What is known to be true of a stream: its first rows.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Ids by offset.
    ids: Vec<i64>,
}

/// Ids are summed by their remainder, so that no sum overflows.
const REMAINDER: i64 = 1_000_003;

/// State between checks.
#[derive(Debug, Default)]
pub(super) struct Checker {
    events: Known,
    other: Known,
    evens: Known,
    chained: Known,
    merged: Known,
    stateful: Stateful,
    /// Number of the marker statement that makes reads wait for the derived streams.
    markers: i64,
}

fn violation(why: String) -> CrashError {
    CrashError::Violation(why)
}

/// Rows of a query as numbers.
async fn numbers(client: &Client, sql: &str) -> Result<Vec<Vec<i64>>, CrashError> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let parsed: Option<Vec<i64>> =
                (0..row.len()).map(|i| row.get(i).unwrap_or("0").parse().ok()).collect();
            rows.push(parsed.ok_or_else(|| violation(format!("not numbers: {sql}")))?);
        }
    }
    Ok(rows)
}

impl Known {
    /// Reads the rows behind the known ones: (id, statement); then knows them.
    async fn follow(
        &mut self,
        client: &Client,
        stream: &str,
        columns: &str,
    ) -> Result<Vec<Vec<i64>>, CrashError> {
        let known = self.ids.len();
        let sql = format!(
            "SELECT count(*), coalesce(sum(id % {REMAINDER}), 0) FROM {stream} WHERE _offset < {known}"
        );
        let before = numbers(client, &sql).await?;
        let sum = self.ids.iter().fold(0, |sum, id| sum + id % REMAINDER);
        if before != [[known as i64, sum]] {
            return Err(violation(format!(
                "the first {known} rows of {stream} have changed: {before:?}, were {sum}"
            )));
        }
        let sql = format!(
            "SELECT _offset, {columns} FROM {stream} WHERE _offset >= {known} ORDER BY _offset"
        );
        let rows = numbers(client, &sql).await?;
        for (i, row) in rows.iter().enumerate() {
            if row[0] != (known + i) as i64 {
                return Err(violation(format!(
                    "{stream}: offset {} where {} is due",
                    row[0],
                    known + i
                )));
            }
            self.ids.push(row[1]);
        }
        Ok(rows)
    }
}

impl Checker {
    /// Checks everything that has happened since the last check.
    pub(super) async fn check(
        &mut self,
        server: &Server,
        model: &Model,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        let client = server.connect().await?;
        // A read waits for the derived streams to pass what its own session has written.
        self.markers += 1;
        // Far from the numbers and ids of clients.
        let marker = -1_000_000_000 - self.markers;
        let marked = format!("INSERT INTO events VALUES ({}, {marker}, 'check')", marker * IDS);
        client.batch_execute(&marked).await?;

        self.sources(&client, model, marker, summary).await?;
        self.derived(&client, model, summary).await?;
        self.catalog(&client, model, summary).await?;
        self.table(&client, model).await?;
        self.stateful.check(&client, model).await
    }

    /// Windows, joins and views compared with an uninterrupted run.
    pub(super) async fn check_stateful(
        &self,
        server: &Server,
        binary: &Path,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        self.stateful.check_all(server, binary, summary).await
    }

    /// Every statement is there as a whole or not at all, once, and not if it was not sent.
    async fn sources(
        &mut self,
        client: &Client,
        model: &Model,
        marker: i64,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        let sent = model.take_sent();
        let mut found: HashMap<i64, [u32; 2]> = HashMap::new();
        let events = self.events.follow(client, "events", "id, statement").await?;
        let other = self.other.follow(client, "other", "id, statement").await?;
        for (place, rows) in [(0, &events), (1, &other)] {
            for row in rows {
                let (id, statement) = (row[1], row[2]);
                let count = &mut found.entry(statement).or_default()[place];
                if id != statement * IDS + i64::from(*count) {
                    return Err(violation(format!(
                        "row {id} of statement {statement} is out of order or there twice"
                    )));
                }
                *count += 1;
            }
        }
        if found.remove(&marker) != Some([1, 0]) {
            return Err(violation("the checker's own row is missing".to_owned()));
        }
        for (statement, rows) in &found {
            match sent.get(statement) {
                Some(sent) if *rows == [sent.events, sent.other] => {}
                Some(sent) => {
                    return Err(violation(format!(
                        "statement {statement} is there in part: {rows:?} of {sent:?}"
                    )));
                }
                None => {
                    return Err(violation(format!(
                        "rows of statement {statement} appeared later or were never sent"
                    )));
                }
            }
        }
        for (statement, sent) in &sent {
            let there = found.contains_key(statement);
            if sent.acknowledged && !there && sent.events + sent.other > 0 {
                return Err(violation(format!("acknowledged and lost: {statement} {sent:?}")));
            }
            if !sent.acknowledged && there {
                summary.open_applied += 1;
            }
        }
        Ok(())
    }

    /// Derived streams are what their definitions say, at offsets that do not change.
    async fn derived(
        &mut self,
        client: &Client,
        model: &Model,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        self.evens.follow(client, "evens", "id").await?;
        let rows = self.chained.follow(client, "chained", "id, tagged").await?;
        if let Some(row) = rows.iter().find(|row| row[2] != row[1].div_euclid(IDS) * 10 + 1) {
            return Err(violation(format!("chained holds a wrong row: {row:?}")));
        }
        self.merged.follow(client, "merged", "id").await?;
        self.recompute()?;
        for (offset, id) in model.take_seen() {
            summary.seen += 1;
            let now = usize::try_from(offset).ok().and_then(|o| self.chained.ids.get(o));
            if now != Some(&id) {
                return Err(violation(format!(
                    "a subscriber saw row {id} at offset {offset} of chained; now {now:?}"
                )));
            }
        }
        Ok(())
    }

    fn recompute(&self) -> Result<(), CrashError> {
        let select = |from: &Known, modulus: i64| -> Vec<i64> {
            from.ids.iter().copied().filter(|id| id % modulus == 0).collect()
        };
        for (name, stream, input, modulus) in
            [("evens", &self.evens, &self.events, 2), ("chained", &self.chained, &self.evens, 3)]
        {
            let expected = select(input, modulus);
            if stream.ids != expected {
                let at = stream.ids.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                return Err(violation(format!(
                    "{name} is not what its input gives: {} rows, expected {}, first difference at {at}",
                    stream.ids.len(),
                    expected.len()
                )));
            }
        }
        // The union keeps the order of each input; rows of `other` are negated, the checker's own
        // rows (negative ids) are in `events` only.
        let mut merged = self.merged.ids.iter();
        let (mut events, mut other) = (self.events.ids.iter(), self.other.ids.iter());
        let (mut next_event, mut next_other) = (events.next(), other.next());
        let both = self.events.ids.len() + self.other.ids.len();
        if self.merged.ids.len() != both {
            return Err(violation(format!(
                "merged holds {} rows, its inputs {both}",
                self.merged.ids.len()
            )));
        }
        merged.try_for_each(|id| {
            if next_event == Some(id) {
                next_event = events.next();
                Ok(())
            } else if next_other.map(|o| -o) == Some(*id) {
                next_other = other.next();
                Ok(())
            } else {
                Err(violation(format!("merged: row {id} is not the next of either input")))
            }
        })
    }

    /// Acknowledged catalog changes hold, and streams created over history have all of it.
    async fn catalog(
        &self,
        client: &Client,
        model: &Model,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        let mut exist = Vec::new();
        for message in client.simple_query("SELECT name FROM auspex.streams").await? {
            if let SimpleQueryMessage::Row(row) = message {
                exist.push(row.get(0).unwrap_or_default().to_owned());
            }
        }
        for (name, known) in model.objects() {
            let exists = exist.contains(&name);
            match known {
                Existence::Yes if !exists => {
                    return Err(violation(format!("created and lost: {name}")));
                }
                Existence::No if exists => {
                    return Err(violation(format!("dropped and back again: {name}")));
                }
                Existence::Open => {}
                _ => summary.ddl += 1,
            }
            model.object(&name, if exists { Existence::Yes } else { Existence::No });
            if exists {
                let sql = format!("SELECT _offset, id FROM {name} ORDER BY _offset");
                let rows = numbers(client, &sql).await?;
                let expected = self.events.ids.iter().filter(|id| *id % 7 == 0);
                let offsets = (0i64..).zip(expected).map(|(offset, id)| vec![offset, *id]);
                if !offsets.eq(rows.iter().cloned()) {
                    return Err(violation(format!(
                        "{name} ({} rows) is not what the history gives",
                        rows.len()
                    )));
                }
            }
        }
        Ok(())
    }

    async fn table(&self, client: &Client, model: &Model) -> Result<(), CrashError> {
        let rows = numbers(client, "SELECT id, value FROM counters").await?;
        let there: HashMap<i64, i64> = rows.iter().map(|row| (row[0], row[1])).collect();
        if there.len() != rows.len() {
            return Err(violation("a key of the table is there twice".to_owned()));
        }
        for (key, (acknowledged, sent)) in model.counters() {
            let value = there.get(&key).copied().unwrap_or(0);
            if !(acknowledged..=sent).contains(&value) {
                return Err(violation(format!(
                    "counter {key} is {value}; acknowledged {acknowledged}, sent {sent}"
                )));
            }
            model.settle_counter(key, value);
        }
        Ok(())
    }

    /// Reads every row again and compares it with what is known.
    pub(super) async fn check_all(
        &self,
        server: &Server,
        summary: &mut Summary,
    ) -> Result<(), CrashError> {
        let client = server.connect().await?;
        let streams = [
            ("events", &self.events),
            ("other", &self.other),
            ("evens", &self.evens),
            ("chained", &self.chained),
            ("merged", &self.merged),
        ];
        for (name, known) in streams {
            let mut again = Known::default();
            again.follow(&client, name, "id").await?;
            if again.ids != known.ids {
                return Err(violation(format!("{name} has changed without being written")));
            }
        }
        summary.rows = (self.events.ids.len() + self.other.ids.len()) as u64;
        summary.derived_rows =
            (self.evens.ids.len() + self.chained.ids.len() + self.merged.ids.len()) as u64;
        Ok(())
    }
}
