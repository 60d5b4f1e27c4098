//! LISTEN and NOTIFY: ordinary channels as in PostgreSQL, and channels that are streams.
//!
//! Each session has one bounded queue. A stream that somebody listens to has one task that reads
//! its new rows, encodes each once, and puts it into the queues of all its listeners; a listener
//! that does not keep up loses rows by its own policy and is told exactly which
//! (`semantics.md` section 9). Nothing here ever waits for a listener.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auspex_plan::catalog::ObjectId;
use auspex_plan::{Diagnostic, SqlState};
use auspex_storage::{ReadLimit, SharedStore, StorageError};
use bytes::Bytes;
use tokio::sync::Notify;

use super::api::Notification;
use crate::pg::json;

/// Bytes of payload a session's queue may hold.
const QUEUE_BYTES: usize = 8 << 20;
/// Notifications a session's queue may hold.
const QUEUE_ROWS: usize = 10_000;
/// Rows read from a stream at once.
const READ_ROWS: usize = 1024;

/// Process id of the server itself in notifications of stream rows; sessions have greater ones.
pub(crate) const SERVER_PID: i32 = 1;

/// What happens to a listener whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Keep what is queued, leave out what follows, say what was left out, go on live.
    Gap,
    /// Drop the oldest instead.
    Latest,
    /// End the session.
    Disconnect,
}

impl Overflow {
    /// Reads the setting `listen_overflow`.
    pub(crate) fn parse(word: &str) -> Overflow {
        match word {
            "latest" => Overflow::Latest,
            "disconnect" => Overflow::Disconnect,
            _ => Overflow::Gap,
        }
    }
}

/// Rows left out of a channel, by offset.
#[derive(Debug, Clone, Copy)]
struct Gap {
    from: u64,
    to: u64,
    dropped: u64,
}

#[derive(Debug, Default)]
struct QueueState {
    items: VecDeque<(Notification, Option<u64>)>,
    bytes: usize,
    /// Channels that are leaving rows out at present.
    gaps: BTreeMap<String, Gap>,
    overflow: Option<Overflow>,
    max_payload: usize,
    disconnect: bool,
    warned: bool,
}

/// The notifications waiting for one session.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    ready: Notify,
}

impl Queue {
    fn new() -> Self {
        Queue {
            state: Mutex::new(QueueState { max_payload: 1 << 20, ..QueueState::default() }),
            ready: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // A panic while holding the lock leaves a queue that is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the session's policy.
    pub(crate) fn configure(&self, overflow: Overflow, max_payload: usize) {
        let mut state = self.lock();
        state.overflow = Some(overflow);
        state.max_payload = max_payload;
    }

    /// A message of `NOTIFY`: always queued (PostgreSQL never drops one).
    fn push_plain(&self, notification: Notification) {
        let mut state = self.lock();
        state.bytes += notification.payload.len();
        state.items.push_back((notification, None));
        drop(state);
        self.ready.notify_one();
    }

    /// A row of a stream.
    fn push_row(&self, channel: &str, payload: &Bytes, offset: u64) {
        let mut state = self.lock();
        if let Some(gap) = state.gaps.get_mut(channel) {
            gap.to = offset;
            gap.dropped += 1;
            return;
        }
        let payload = if payload.len() > state.max_payload {
            Bytes::from(format!("{{\"_truncated\":{{\"offset\":{offset}}}}}"))
        } else {
            payload.clone()
        };
        let full = state.items.len() >= QUEUE_ROWS || state.bytes + payload.len() > QUEUE_BYTES;
        if full {
            match state.overflow.unwrap_or(Overflow::Gap) {
                Overflow::Gap => {
                    state
                        .gaps
                        .insert(channel.to_string(), Gap { from: offset, to: offset, dropped: 1 });
                    state.warned = true;
                    return;
                }
                Overflow::Latest => drop_oldest_row(&mut state),
                Overflow::Disconnect => {
                    state.disconnect = true;
                    drop(state);
                    self.ready.notify_one();
                    return;
                }
            }
        }
        state.bytes += payload.len();
        let notification = Notification { pid: SERVER_PID, channel: channel.to_string(), payload };
        state.items.push_back((notification, Some(offset)));
        drop(state);
        self.ready.notify_one();
    }

    /// The next message, if one is waiting.
    pub(crate) fn pop(&self) -> Option<Notification> {
        let mut state = self.lock();
        let item = state.items.pop_front();
        if let Some((n, _)) = &item {
            state.bytes -= n.payload.len();
        }
        if state.items.len() <= QUEUE_ROWS / 2 && state.bytes <= QUEUE_BYTES / 2 {
            for (channel, gap) in std::mem::take(&mut state.gaps) {
                let notification = gap_message(channel, gap);
                state.bytes += notification.payload.len();
                state.items.push_back((notification, None));
            }
        }
        item.map(|(n, _)| n)
    }

    /// Waits for the next message. Cancel safe.
    pub(crate) async fn next(&self) -> Notification {
        loop {
            let ready = self.ready.notified();
            if let Some(n) = self.pop() {
                return n;
            }
            ready.await;
        }
    }

    /// The error that ends the session, when its policy says so.
    pub(crate) fn overflow_error(&self) -> Option<Diagnostic> {
        self.lock().disconnect.then(|| {
            Diagnostic::error(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                "terminating connection because its notification queue is full",
            )
            .hint("Read faster, or SET listen_overflow = 'gap'.")
        })
    }

    /// Whether rows have been left out since the last call; worth one warning.
    pub(crate) fn take_overflow_warning(&self) -> bool {
        std::mem::take(&mut self.lock().warned)
    }

    fn clear(&self) {
        let mut state = self.lock();
        state.items.clear();
        state.gaps.clear();
        state.bytes = 0;
    }
}

/// Drops the oldest queued row and notes it in a gap message at the front of its channel.
fn drop_oldest_row(state: &mut QueueState) {
    let Some(at) = state.items.iter().position(|(_, offset)| offset.is_some()) else { return };
    let Some((old, Some(offset))) = state.items.remove(at) else { return };
    state.bytes -= old.payload.len();
    let gap = Gap { from: offset, to: offset, dropped: 1 };
    // The gap message in front of `at` for the same channel, when there is one, is widened.
    let widened = at.checked_sub(1).and_then(|i| state.items.get_mut(i)).and_then(|(n, _)| {
        let previous = parse_gap(&n.payload)?;
        (n.channel == old.channel).then_some((n, previous))
    });
    match widened {
        Some((n, previous)) => {
            let wider = Gap { from: previous.from, to: offset, dropped: previous.dropped + 1 };
            let message = gap_message(old.channel, wider);
            state.bytes = state.bytes + message.payload.len() - n.payload.len();
            *n = message;
        }
        None => {
            let message = gap_message(old.channel, gap);
            state.bytes += message.payload.len();
            state.items.insert(at, (message, None));
        }
    }
}

fn gap_message(channel: String, gap: Gap) -> Notification {
    let payload = format!(
        "{{\"_gap\":{{\"from\":{},\"to\":{},\"dropped\":{}}}}}",
        gap.from, gap.to, gap.dropped
    );
    Notification { pid: SERVER_PID, channel, payload: Bytes::from(payload) }
}

fn parse_gap(payload: &[u8]) -> Option<Gap> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let gap = value.get("_gap")?;
    Some(Gap {
        from: gap.get("from")?.as_u64()?,
        to: gap.get("to")?.as_u64()?,
        dropped: gap.get("dropped")?.as_u64()?,
    })
}

#[derive(Debug, Default)]
struct HubState {
    /// Session queues by pid.
    sessions: HashMap<i32, Arc<Queue>>,
    /// Channel name to the sessions that listen.
    channels: BTreeMap<String, Vec<i32>>,
    /// Stream to the channels it feeds, with the offset each begins at, and its reading task.
    streams: HashMap<ObjectId, StreamListeners>,
}

#[derive(Debug)]
struct StreamListeners {
    /// (session, channel, first offset wanted)
    listeners: Vec<(i32, String, u64)>,
    task: tokio::task::AbortHandle,
}

/// All channels of the server.
#[derive(Debug)]
pub(crate) struct Hub {
    store: SharedStoreDebug,
    state: Mutex<HubState>,
    runtime: tokio::runtime::Handle,
}

/// A store in a `Debug` struct.
struct SharedStoreDebug(SharedStore);

impl std::fmt::Debug for SharedStoreDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Hub {
    /// Tasks run on `runtime`.
    pub(crate) fn new(store: SharedStore, runtime: tokio::runtime::Handle) -> Arc<Hub> {
        Arc::new(Hub {
            store: SharedStoreDebug(store),
            state: Mutex::new(HubState::default()),
            runtime,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue for a new session.
    pub(crate) fn register(&self, pid: i32) -> Arc<Queue> {
        let queue = Arc::new(Queue::new());
        self.lock().sessions.insert(pid, queue.clone());
        queue
    }

    /// Forgets a session.
    pub(crate) fn unregister(&self, pid: i32) {
        self.unlisten_all(pid);
        self.lock().sessions.remove(&pid);
    }

    /// Registers `channel`; rows of `stream` arrive from its present end on.
    pub(crate) fn listen(
        self: &Arc<Self>,
        pid: i32,
        channel: &str,
        stream: Option<ObjectId>,
    ) -> Result<(), StorageError> {
        let mut state = self.lock();
        let listening = state.channels.entry(channel.to_string()).or_default();
        if listening.contains(&pid) {
            return Ok(());
        }
        listening.push(pid);
        let Some(stream) = stream else { return Ok(()) };
        let from = self.store.0.head(stream)?.next;
        let entry = (pid, channel.to_string(), from);
        match state.streams.get_mut(&stream) {
            Some(s) => s.listeners.push(entry),
            None => {
                let task = self.runtime.spawn(feed(self.clone(), stream, from)).abort_handle();
                state.streams.insert(stream, StreamListeners { listeners: vec![entry], task });
            }
        }
        Ok(())
    }

    /// Ends one registration.
    pub(crate) fn unlisten(&self, pid: i32, channel: &str) {
        let mut state = self.lock();
        if let Some(listening) = state.channels.get_mut(channel) {
            listening.retain(|p| *p != pid);
            if listening.is_empty() {
                state.channels.remove(channel);
            }
        }
        state.streams.retain(|_, s| {
            s.listeners.retain(|(p, c, _)| !(*p == pid && c == channel));
            keep(s)
        });
    }

    /// Ends all registrations of a session.
    pub(crate) fn unlisten_all(&self, pid: i32) {
        let mut state = self.lock();
        state.channels.retain(|_, listening| {
            listening.retain(|p| *p != pid);
            !listening.is_empty()
        });
        state.streams.retain(|_, s| {
            s.listeners.retain(|(p, _, _)| *p != pid);
            keep(s)
        });
        if let Some(queue) = state.sessions.get(&pid) {
            queue.clear();
        }
    }

    /// Delivers `NOTIFY channel, payload`.
    pub(crate) fn notify(&self, pid: i32, channel: &str, payload: &str) {
        let state = self.lock();
        for listener in state.channels.get(channel).into_iter().flatten() {
            if let Some(queue) = state.sessions.get(listener) {
                queue.push_plain(Notification {
                    pid,
                    channel: channel.to_string(),
                    payload: Bytes::copy_from_slice(payload.as_bytes()),
                });
            }
        }
    }

    /// Hands one encoded row to every listener that wants its offset.
    fn deliver(&self, stream: ObjectId, rows: &[(u64, Bytes)]) {
        let state = self.lock();
        let Some(listening) = state.streams.get(&stream) else { return };
        for (pid, channel, from) in &listening.listeners {
            let Some(queue) = state.sessions.get(pid) else { continue };
            for (offset, payload) in rows.iter().filter(|(o, _)| o >= from) {
                queue.push_row(channel, payload, *offset);
            }
        }
    }

    /// Tells the listeners that the stream is gone; their registrations stay as plain channels.
    fn close(&self, stream: ObjectId) {
        let mut state = self.lock();
        let Some(listening) = state.streams.remove(&stream) else { return };
        for (pid, channel, _) in listening.listeners {
            if let Some(queue) = state.sessions.get(&pid) {
                queue.push_plain(Notification {
                    pid: SERVER_PID,
                    channel,
                    payload: Bytes::from_static(b"{\"_closed\":\"dropped\"}"),
                });
            }
        }
    }
}

/// Whether a stream still has listeners; ends its task when not.
fn keep(stream: &StreamListeners) -> bool {
    if stream.listeners.is_empty() {
        stream.task.abort();
    }
    !stream.listeners.is_empty()
}

/// Reads the rows of `stream` from `from` on for as long as it exists and somebody listens.
async fn feed(hub: Arc<Hub>, stream: ObjectId, mut from: u64) {
    let store = hub.store.0.clone();
    let Ok(mut head) = store.watch(stream) else { return };
    loop {
        let now = *head.borrow_and_update();
        while from < now.next {
            let limit = ReadLimit { rows: READ_ROWS, until: now.next };
            match store.read(stream, from, limit, None) {
                Ok(batches) => {
                    for batch in batches {
                        let rows = json::rows_with_offset(&batch.rows, batch.offset);
                        from = batch.end();
                        hub.deliver(stream, &rows);
                    }
                }
                Err(StorageError::NotRetained { oldest, .. }) => from = oldest,
                Err(e) => {
                    tracing::error!(stream, error = %e, "cannot read rows for listeners");
                    return;
                }
            }
        }
        if now.dropped || head.changed().await.is_err() {
            hub.close(stream);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(offset: u64) -> Bytes {
        Bytes::from(format!("{{\"_offset\":{offset}}}"))
    }

    fn drain(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|n| String::from_utf8(n.payload.to_vec()).expect("ascii"))
            .collect()
    }

    #[test]
    fn a_slow_listener_gets_a_prefix_then_an_exact_gap_then_live_rows() {
        let queue = Queue::new();
        let total = QUEUE_ROWS as u64 + 500;
        for offset in 0..total {
            queue.push_row("s", &row(offset), offset);
        }
        let mut seen = Vec::new();
        for _ in 0..QUEUE_ROWS / 2 {
            seen.push(queue.pop().expect("queued"));
        }
        queue.push_row("s", &row(total), total);
        let rest = drain(&queue);
        assert_eq!(rest.len(), QUEUE_ROWS / 2 + 2);
        let gap = &rest[QUEUE_ROWS / 2];
        assert_eq!(gap, r#"{"_gap":{"from":10000,"to":10499,"dropped":500}}"#);
        assert_eq!(rest[QUEUE_ROWS / 2 + 1], format!("{{\"_offset\":{total}}}"));
    }

    #[test]
    fn latest_drops_the_oldest_and_says_so_first() {
        let queue = Queue::new();
        queue.configure(Overflow::Latest, 1 << 20);
        for offset in 0..QUEUE_ROWS as u64 + 3 {
            queue.push_row("s", &row(offset), offset);
        }
        let all = drain(&queue);
        assert!(all[0].starts_with(r#"{"_gap":{"from":0,"#), "{}", all[0]);
        let gap = parse_gap(all[0].as_bytes()).expect("a gap");
        assert_eq!(all[1], format!("{{\"_offset\":{}}}", gap.to + 1));
        assert_eq!(gap.dropped, gap.to + 1);
        assert_eq!(all.last().expect("rows"), &format!("{{\"_offset\":{}}}", QUEUE_ROWS + 2));
    }

    #[test]
    fn an_oversize_row_is_replaced_by_its_offset() {
        let queue = Queue::new();
        queue.configure(Overflow::Gap, 64);
        queue.push_row("s", &Bytes::from(vec![b'x'; 100]), 7);
        assert_eq!(drain(&queue), [r#"{"_truncated":{"offset":7}}"#]);
    }

    #[test]
    fn disconnect_ends_the_session() {
        let queue = Queue::new();
        queue.configure(Overflow::Disconnect, 1 << 20);
        for offset in 0..=QUEUE_ROWS as u64 {
            queue.push_row("s", &row(offset), offset);
        }
        assert_eq!(queue.overflow_error().map(|d| d.state.0), Some("53400"));
    }
}
