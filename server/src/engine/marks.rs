//! Watermarks as people see them: from the ends of the roots as they stand in the store.
//!
//! A query computes its watermarks from the rows it reads and has come to the same once it has read
//! them all.

use auspex_plan::Clock;
use auspex_plan::catalog::{Object, ObjectId};
use auspex_storage::{ReadLimit, Store};

use super::ticks;

/// A root of a stream's watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// The stream whose rows count.
    pub(super) stream: ObjectId,
    /// Greatest event time of its rows.
    pub(super) max_time: Option<i64>,
    /// How far the watermark is behind it (microseconds).
    pub(super) delay_us: i64,
    /// Others that the stream has have moved on without it.
    pub(super) idle: bool,
}

impl Root {
    /// Where this root alone would let the watermark be.
    pub(super) fn watermark(&self) -> Option<i64> {
        Some(self.max_time?.saturating_sub(self.delay_us))
    }
}

/// The roots of a stream or materialized view; those that have arrival as their event time are one.
pub(super) fn roots(store: &dyn Store, object: &Object) -> Vec<Root> {
    let clocks = match object.view() {
        Some(view) => view.stream.clocks.clone(),
        None => object.clocks(),
    };
    let arrivals: Vec<Option<i64>> = clocks.iter().map(|c| last_arrival(store, c.stream)).collect();
    let latest = arrivals.iter().flatten().max().copied();
    let by_arrival = clocks.iter().filter(|c| c.arrival).map(|c| c.stream);
    let shared = by_arrival.chain([ticks::STREAM]).filter_map(|s| max_time(store, s)).max();
    let root = |(clock, arrived): (&Clock, &Option<i64>)| Root {
        stream: clock.stream,
        max_time: if clock.arrival { shared } else { max_time(store, clock.stream) },
        delay_us: clock.delay_us,
        idle: !clock.arrival
            && latest
                .zip(*arrived)
                .is_some_and(|(latest, own)| latest.saturating_sub(own) >= clock.idle_timeout_us),
    };
    clocks.iter().zip(&arrivals).map(root).collect()
}

/// The watermark of a stream or materialized view: the least of its roots that are not idle.
pub(super) fn watermark(store: &dyn Store, object: &Object) -> Option<i64> {
    let roots = roots(store, object);
    let awake: Vec<&Root> = roots.iter().filter(|r| !r.idle).collect();
    let marks: Option<Vec<i64>> = awake.iter().map(|r| r.watermark()).collect();
    marks?.into_iter().min()
}

fn max_time(store: &dyn Store, stream: ObjectId) -> Option<i64> {
    store.head(stream).ok().map(|h| h.max_time).filter(|t| *t != i64::MIN)
}

fn last_arrival(store: &dyn Store, stream: ObjectId) -> Option<i64> {
    let head = store.head(stream).ok()?;
    let last = head.next.checked_sub(1).filter(|last| *last >= head.oldest)?;
    let limit = ReadLimit { rows: 1, until: head.next };
    let batches = store.read(stream, last, limit, Some(&[])).ok()?;
    Some(batches.first()?.ingested.get(0))
}
