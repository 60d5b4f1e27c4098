//! The newest batches of all streams in memory, so that live readers do not decode what was
//! written a moment ago. Bounded in total; the oldest batch of any stream goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::EventBatch;
use crate::error::Result;
use crate::join::Reading;
use crate::store::StreamId;

pub(crate) struct Tail {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: usize,
    /// Batches in the order they came; those removed otherwise are skipped when their turn comes.
    order: VecDeque<(StreamId, u64)>,
    streams: HashMap<StreamId, VecDeque<(EventBatch, usize)>>,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Tail {
        Tail { limit, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the batch that follows the newest one of its stream.
    pub(crate) fn push(&self, stream: StreamId, batch: EventBatch) {
        let bytes = size(&batch);
        let mut inner = self.lock();
        let inner = &mut *inner;
        if bytes > self.limit {
            inner.clear(stream);
            return;
        }
        inner.order.push_back((stream, batch.offset));
        inner.streams.entry(stream).or_default().push_back((batch, bytes));
        inner.bytes += bytes;
        while inner.bytes > self.limit {
            let Some((stream, offset)) = inner.order.pop_front() else { break };
            inner.trim(stream, offset + 1);
        }
    }

    /// Forgets a stream's batches: what was written last is not here.
    pub(crate) fn clear(&self, stream: StreamId) {
        self.lock().clear(stream);
    }

    /// Forgets batches that begin below `oldest`.
    pub(crate) fn trim(&self, stream: StreamId, oldest: u64) {
        self.lock().trim(stream, oldest);
    }

    /// Reads from offset `from`; false when the stream's tail begins later (or is empty).
    pub(crate) fn read(
        &self,
        stream: StreamId,
        from: u64,
        projection: Option<&[usize]>,
        reading: &mut Reading,
    ) -> Result<bool> {
        let inner = self.lock();
        let Some(batches) = inner.streams.get(&stream) else { return Ok(false) };
        if batches.front().is_none_or(|(first, _)| first.offset > from) {
            return Ok(false);
        }
        let at = batches.partition_point(|(batch, _)| batch.end() <= from);
        for (batch, _) in batches.range(at..) {
            if reading.is_full(batch.offset) {
                break;
            }
            match projection {
                None => reading.push(batch, from),
                Some(columns) => reading.push(&batch.project(columns)?, from),
            }
        }
        Ok(true)
    }
}

impl Inner {
    fn clear(&mut self, stream: StreamId) {
        for (_, bytes) in self.streams.remove(&stream).into_iter().flatten() {
            self.bytes -= bytes;
        }
        self.forget_order();
    }

    fn trim(&mut self, stream: StreamId, oldest: u64) {
        let Some(batches) = self.streams.get_mut(&stream) else { return };
        while batches.front().is_some_and(|(batch, _)| batch.offset < oldest) {
            let (_, bytes) = batches.pop_front().expect("the queue has a front");
            self.bytes -= bytes;
        }
        if batches.is_empty() {
            self.streams.remove(&stream);
        }
        self.forget_order();
    }

    /// Drops what is skipped anyway once it outnumbers the batches.
    fn forget_order(&mut self) {
        let live: usize = self.streams.values().map(VecDeque::len).sum();
        if self.order.len() > 2 * live + 64 {
            let streams = &self.streams;
            self.order.retain(|(stream, offset)| {
                let first = streams.get(stream).and_then(|batches| batches.front());
                first.is_some_and(|(first, _)| first.offset <= *offset)
            });
        }
    }
}

/// Roughly what a batch occupies. A slice counts what it keeps alive.
fn size(batch: &EventBatch) -> usize {
    256 + batch.rows.get_array_memory_size() + batch.rows.num_columns() * 64
}
