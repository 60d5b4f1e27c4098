//! What the clients sent and what they were told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Number of a statement; every row it wrote carries it.
pub(super) type StatementId = i64;

/// A statement, COPY or transaction whose rows go together.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// Rows in stream `events`.
    pub(super) events: u32,
    /// Rows in stream `other`.
    pub(super) other: u32,
    /// Whether the server said that it is done.
    pub(super) acknowledged: bool,
}

/// State of a name that the DDL client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existence {
    /// It must exist.
    Yes,
    /// It must not exist.
    No,
    /// The last statement about it was not answered.
    Open,
}

/// Everything clients know, shared between them and the checker.
#[derive(Debug, Default)]
pub struct Model {
    next: AtomicI64,
    acknowledged: AtomicU64,
    open: AtomicU64,
    sent: Mutex<HashMap<StatementId, Sent>>,
    objects: Mutex<BTreeMap<String, Existence>>,
    /// Key of a table row: last acknowledged and last sent value.
    counters: Mutex<BTreeMap<i64, (i64, i64)>>,
    /// Ids of `timed` given out, and rows acknowledged.
    timed: AtomicI64,
    timed_acknowledged: AtomicU64,
    /// Rows of `chained` seen by a subscriber: offset and id.
    seen: Mutex<Vec<(i64, i64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    /// Statements acknowledged and statements without an answer so far.
    pub fn answered(&self) -> (u64, u64) {
        (self.acknowledged.load(Ordering::Relaxed), self.open.load(Ordering::Relaxed))
    }

    /// Registers a statement before it is sent.
    pub(super) fn begin(&self, events: u32, other: u32) -> StatementId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.sent).insert(id, Sent { events, other, acknowledged: false });
        self.open.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// The server has answered that the statement is done.
    pub(super) fn acknowledge(&self, id: StatementId) {
        if let Some(sent) = lock(&self.sent).get_mut(&id) {
            sent.acknowledged = true;
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the statements sent since the last call. None of them is under way.
    pub(super) fn take_sent(&self) -> HashMap<StatementId, Sent> {
        std::mem::take(&mut lock(&self.sent))
    }

    /// Notes what is known of a name.
    pub(super) fn object(&self, name: &str, existence: Existence) {
        lock(&self.objects).insert(name.to_owned(), existence);
    }

    /// What is known of all names.
    pub(super) fn objects(&self) -> BTreeMap<String, Existence> {
        lock(&self.objects).clone()
    }

    /// A value is about to be sent for a key of the table; the value.
    pub(super) fn next_value(&self, key: i64) -> i64 {
        let mut counters = lock(&self.counters);
        let (_, sent) = counters.entry(key).or_default();
        *sent += 1;
        *sent
    }

    /// A value was acknowledged.
    pub(super) fn value_acknowledged(&self, key: i64, value: i64) {
        if let Some((acknowledged, _)) = lock(&self.counters).get_mut(&key) {
            *acknowledged = value;
        }
    }

    /// Last acknowledged and last sent value of each key.
    pub(super) fn counters(&self) -> BTreeMap<i64, (i64, i64)> {
        lock(&self.counters).clone()
    }

    /// The table holds this value: what was open is now known.
    pub(super) fn settle_counter(&self, key: i64, value: i64) {
        if let Some(known) = lock(&self.counters).get_mut(&key) {
            *known = (value, known.1);
        }
    }

    /// First of `rows` new ids of `timed`.
    pub(super) fn next_timed(&self, rows: i64) -> i64 {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.timed.fetch_add(rows, Ordering::Relaxed)
    }

    /// So many rows of `timed` were acknowledged.
    pub(super) fn timed_acknowledged(&self, rows: i64) {
        self.timed_acknowledged.fetch_add(rows as u64, Ordering::Relaxed);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ids of `timed` given out.
    pub(super) fn timed_so_far(&self) -> i64 {
        self.timed.load(Ordering::Relaxed)
    }

    /// Rows of `timed` acknowledged.
    pub(super) fn timed_answered(&self) -> u64 {
        self.timed_acknowledged.load(Ordering::Relaxed)
    }

    /// A subscriber has seen a row.
    pub(super) fn saw(&self, offset: i64, id: i64) {
        lock(&self.seen).push((offset, id));
    }

    /// Takes what subscribers have seen since the last call.
    pub(super) fn take_seen(&self) -> Vec<(i64, i64)> {
        std::mem::take(&mut lock(&self.seen))
    }
}
