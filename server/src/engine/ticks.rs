//! The passing of time as rows of the log.
//!
//! Where event time is the moment of arrival, a window over a stream that has fallen silent closes
//! because the log goes on. While a query waits for that, a row without content is appended to a
//! hidden stream once a second: so the watermark stays a function of the log, and a restart closes
//! the same windows at the same places.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use auspex_storage::{Append, Durability, StreamConfig, StreamId, Transaction};

use super::Engine;

/// The hidden stream: a number that no object gets.
pub(super) const STREAM: StreamId = 1;
/// Time between two rows.
const INTERVAL: Duration = Duration::from_secs(1);
/// A query that has stood still for longer does without some of them.
const RETENTION_US: i64 = 3_600_000_000;

/// What the store must know.
pub(super) fn config() -> StreamConfig {
    StreamConfig {
        id: STREAM,
        schema: Arc::new(Schema::new(vec![Field::new("tick", DataType::Boolean, true)])),
        derived: false,
        retention_age_us: Some(RETENTION_US),
        retention_bytes: None,
    }
}

/// Appends ticks for as long as the engine lives and a query waits for time.
pub(super) async fn run(engine: Weak<Engine>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        if !engine.runtime.waits_for_time() {
            continue;
        }
        let pending = engine.store.submit(tick(), Durability::Buffered);
        drop(engine);
        if let Err(e) = pending.done().await {
            tracing::warn!(error = %e, "windows by time of arrival wait: no tick was written");
        }
    }
}

fn tick() -> Transaction {
    let config = config();
    let rows = RecordBatch::try_new(config.schema, vec![new_null_array(&DataType::Boolean, 1)]);
    let rows = rows.expect("one column of its type");
    let append = Append { stream: STREAM, rows, time: None, derived: None, at_offset: None };
    Transaction { appends: vec![append], ..Transaction::default() }
}
