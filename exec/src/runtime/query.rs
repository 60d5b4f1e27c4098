//! One query: reads its inputs, pushes them through its graph, commits what came out together with
//! its position. Synchronous; who drives it decides when to wait.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use auspex_plan::EventTime;
use auspex_storage::{
    Append, Durability, Pending, Run, SharedStore, StorageError, StreamId, Transaction,
};

use super::feed::Feed;
use super::position::{Position, StateKeys};
use super::status::{QueryState, QueryStatus};
use super::{QuerySpec, RuntimeOptions, TapSink, dead_letter};
use crate::batch::Batch;
use crate::build::{BuildOptions, build};
use crate::error::{ExecError, Result, RowFailure};
use crate::graph::Graph;
use crate::operator::{Output, StateChange, Tap, Watermark};

/// Transactions that may be on their way at once.
const IN_FLIGHT: usize = 8;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Rows were processed; there may be more.
    Progress,
    /// Nothing to do until an input or a transaction on its way changes.
    Idle,
    /// The oldest transaction on its way must be done first.
    Full,
    /// All transactions on their way must be done first.
    Settle,
}

/// See the module.
pub(super) struct Query {
    spec: QuerySpec,
    store: SharedStore,
    options: RuntimeOptions,
    tap: TapSink,
    keys: StateKeys,
    graph: Graph,
    feeds: Vec<Feed>,
    /// As of the last transaction that was submitted.
    committed: Position,
    /// As of now; ahead of `committed` when what was processed gave no output.
    position: Position,
    output: Vec<Batch>,
    failures: Vec<RowFailure>,
    taps: Vec<Tap>,
    /// Transactions on their way, each with the place up to which the output is complete when it
    /// is done.
    in_flight: VecDeque<(Pending, i64)>,
    reload: bool,
    /// The row at which to stop; everything before it is processed first.
    halt: Option<RowFailure>,
    status: Arc<Mutex<QueryStatus>>,
}

impl Query {
    pub(super) fn open(
        spec: QuerySpec,
        store: SharedStore,
        options: RuntimeOptions,
        tap: TapSink,
    ) -> Result<Query> {
        let graph = build(&spec.plan, &BuildOptions::default())?;
        let keys = StateKeys::new(spec.id, spec.generation);
        let (position, stored) = match store.state_get(&keys.position())? {
            Some(bytes) => (Position::decode(&bytes)?, true),
            None => {
                let mut inputs = BTreeMap::new();
                for input in graph.inputs() {
                    let oldest = store.head(input.stream)?.oldest;
                    let start = spec.start.get(&input.stream).copied().unwrap_or(0);
                    inputs.insert(input.stream, start.max(oldest));
                }
                (Position::new(inputs, store.head(spec.id)?.next), false)
            }
        };
        let status = QueryStatus {
            state: if spec.paused { QueryState::Paused } else { QueryState::Running },
            counters: position.counters,
            position: position.inputs.clone(),
            frontier: position.frontier.max(0) as u64,
            lag: 0,
            state_bytes: 0,
        };
        let feeds = graph
            .inputs()
            .iter()
            .map(|input| Feed::new(input, position.inputs.get(&input.stream).copied().unwrap_or(0)))
            .collect();
        let mut query = Query {
            keys,
            graph,
            feeds,
            committed: position.clone(),
            position,
            output: Vec::new(),
            failures: Vec::new(),
            taps: Vec::new(),
            in_flight: VecDeque::new(),
            reload: false,
            halt: None,
            status: Arc::new(Mutex::new(status)),
            spec,
            store,
            options,
            tap,
        };
        if stored {
            query.load()?;
        } else {
            // The start is part of what a restart must find again.
            query.commit()?;
        }
        query.store.set_complete(query.spec.id, query.position.frontier.max(0) as u64)?;
        Ok(query)
    }

    pub(super) fn status(&self) -> Arc<Mutex<QueryStatus>> {
        Arc::clone(&self.status)
    }

    /// Streams that are read.
    pub(super) fn inputs(&self) -> Vec<StreamId> {
        self.feeds.iter().map(|feed| feed.stream).collect()
    }

    /// Goes back to what is committed. Nothing may be on its way.
    fn load(&mut self) -> Result<()> {
        let prefix = self.keys.state(&[]);
        let entries: Vec<(Vec<u8>, Vec<u8>)> = self
            .store
            .state_scan(&prefix)?
            .into_iter()
            .map(|(key, value)| (key[prefix.len()..].to_vec(), value))
            .collect();
        self.graph.restore(&entries)?;
        self.position = self.committed.clone();
        for feed in &mut self.feeds {
            feed.seek(self.position.inputs.get(&feed.stream).copied().unwrap_or(0));
        }
        self.output.clear();
        self.failures.clear();
        self.taps.clear();
        self.reload = false;
        Ok(())
    }

    /// Makes the next turn begin from what is committed. With `give_up`, which is for the resumption
    /// after a failure, rows that retention has removed meanwhile are given up and counted.
    pub(super) fn resume(&mut self, give_up: bool) -> Result<()> {
        self.halt = None;
        self.reload = true;
        if !give_up {
            return Ok(());
        }
        for feed in &self.feeds {
            let oldest = self.store.head(feed.stream)?.oldest;
            let position = self.committed.inputs.entry(feed.stream).or_insert(0);
            if *position < oldest {
                self.committed.counters.lost += oldest - *position;
                *position = oldest;
            }
        }
        Ok(())
    }

    /// Processes what is there, up to a bounded number of rows.
    ///
    /// # Errors
    /// Whatever stops the query; its state is then what is committed.
    pub(super) fn turn(&mut self) -> Result<Turn> {
        let turn = self.try_turn();
        if turn.is_err() {
            self.reload = true;
        }
        self.publish();
        turn
    }

    fn try_turn(&mut self) -> Result<Turn> {
        self.reap()?;
        if self.reload {
            if !self.in_flight.is_empty() {
                return Ok(Turn::Settle);
            }
            self.load()?;
        }
        if self.in_flight.len() >= IN_FLIGHT {
            return Ok(Turn::Full);
        }
        let mut progress = false;
        for _ in 0..self.options.batches_per_turn.max(1) {
            match self.advance() {
                Ok(true) => progress = true,
                Ok(false) => break,
                Err(ExecError::Row(failure)) => {
                    // Process everything before the row, from a clean state, and stop there. An
                    // earlier row may turn out to fail then; the place falls each time.
                    self.halt = Some(failure);
                    self.reload = true;
                    return Ok(Turn::Settle);
                }
                Err(error) => return Err(error),
            }
        }
        let halted = self.halt.as_ref().is_some_and(|row| self.position.frontier >= row.sequence);
        let unsaved = self.position.counters.rows_in - self.committed.counters.rows_in;
        if halted
            || !self.output.is_empty()
            || !self.failures.is_empty()
            || unsaved >= self.options.commit_rows
        {
            self.commit()?;
        } else if progress {
            self.write_taps();
            match self.in_flight.back_mut() {
                Some((_, complete)) => *complete = self.position.frontier,
                None => self.complete(self.position.frontier)?,
            }
        }
        if halted {
            let row = self.halt.take().expect("halted at a row");
            return Err(ExecError::Row(row));
        }
        let bytes = self.graph.state_bytes();
        if bytes > self.options.max_state_bytes {
            return Err(ExecError::State(format!(
                "operators keep {bytes} bytes, more than max_state_bytes = {}",
                self.options.max_state_bytes
            )));
        }
        Ok(if progress { Turn::Progress } else { Turn::Idle })
    }

    /// One step of the graph. False when there is nothing to process.
    fn advance(&mut self) -> Result<bool> {
        let mut bound = self.halt.as_ref().map_or(i64::MAX, |row| row.sequence);
        let mut heads = Vec::with_capacity(self.feeds.len());
        for feed in &self.feeds {
            let head = self.store.head(feed.stream)?;
            if head.dropped {
                return Err(StorageError::UnknownStream(feed.stream).into());
            }
            if feed.needs() < head.oldest {
                let asked = feed.needs();
                return Err(StorageError::NotRetained { asked, oldest: head.oldest }.into());
            }
            bound = bound.min(i64::try_from(head.complete).unwrap_or(i64::MAX));
            heads.push(head);
        }
        if bound <= self.position.frontier {
            return Ok(false);
        }
        let mut rows = self.options.batch_rows.max(1);
        let reach = loop {
            let mut reach = bound;
            let mut all = true;
            for (feed, head) in self.feeds.iter_mut().zip(&heads) {
                feed.load(self.store.as_ref(), head, rows.saturating_add(1))?;
                let feed_reach = feed.reach(rows, bound);
                all &= feed_reach == bound;
                reach = reach.min(feed_reach);
            }
            if all || reach > self.position.frontier {
                break reach;
            }
            // More rows of one place than fit: they must go together.
            rows = rows.saturating_mul(2);
        };
        if reach <= self.position.frontier {
            return Ok(false);
        }
        let inputs =
            self.feeds.iter_mut().map(|feed| feed.take_below(reach)).collect::<Result<Vec<_>>>()?;
        let rows_in: usize = inputs.iter().flatten().map(|batch| batch.len()).sum();
        if rows_in > 0 {
            let watermark = Watermark { sequence: reach };
            let graph = &mut self.graph;
            let output = catch_unwind(AssertUnwindSafe(|| graph.step(inputs, watermark)))
                .unwrap_or_else(|panic| Err(ExecError::Plan(panic_text(&*panic))))?;
            self.collect(output);
        }
        self.position.counters.rows_in += rows_in as u64;
        self.position.frontier = reach;
        for feed in &self.feeds {
            self.position.inputs.insert(feed.stream, feed.position);
        }
        Ok(true)
    }

    fn collect(&mut self, output: Output) {
        let counters = &mut self.position.counters;
        let rows: usize = output.batches.iter().map(Batch::len).sum();
        counters.rows_out += rows as u64;
        counters.dead_letters += output.dead_letters.len() as u64;
        counters.skipped += output.skipped;
        counters.nulled += output.nulled;
        self.position.next += rows as u64;
        self.output.extend(output.batches);
        self.failures.extend(output.dead_letters);
        self.taps.extend(output.taps);
    }

    /// Submits output, position and state as one transaction.
    pub(super) fn commit(&mut self) -> Result<()> {
        let mut transaction = Transaction::default();
        let rows: usize = self.output.iter().map(Batch::len).sum();
        if let Some(batch) = Batch::concat(std::mem::take(&mut self.output))? {
            let time = self.event_time(&batch)?;
            transaction.appends.push(Append {
                stream: self.spec.id,
                rows: batch.rows,
                time: Some(time),
                derived: Some((batch.sequence, batch.ingested)),
                at_offset: Some(self.position.next - rows as u64),
            });
        }
        let state = &mut transaction.state;
        for (key, value) in self.graph.checkpoint()? {
            state.push((self.keys.state(&key), value));
        }
        self.put_dead_letters(state)?;
        state.push((self.keys.position(), Some(self.position.encode())));
        let pending = self.store.submit(transaction, Durability::Buffered);
        self.committed = self.position.clone();
        self.in_flight.push_back((pending, self.position.frontier));
        self.write_taps();
        self.reap()
    }

    fn put_dead_letters(&mut self, state: &mut Vec<StateChange>) -> Result<()> {
        let failures = std::mem::take(&mut self.failures);
        if failures.is_empty() {
            return Ok(());
        }
        let keep = self.options.dead_letters_kept;
        let end = self.position.counters.dead_letters;
        let first = end - failures.len() as u64;
        let kept = failures.len().min(keep as usize);
        let recent = failures[failures.len() - kept..].to_vec();
        let letters = dead_letter::with_rows(self.store.as_ref(), recent, end - kept as u64)?;
        for letter in letters {
            let value = serde_json::to_vec(&letter).map_err(|e| ExecError::State(e.to_string()))?;
            state.push((self.keys.dead_letter(letter.number), Some(value)));
        }
        // Those pushed out by the new ones.
        for number in first.saturating_sub(keep)..end.saturating_sub(keep).min(first) {
            state.push((self.keys.dead_letter(number), None));
        }
        Ok(())
    }

    /// Event times of output rows.
    fn event_time(&self, batch: &Batch) -> Result<Run> {
        let EventTime::Column { column, .. } = &self.spec.plan.event_time else {
            return Ok(batch.time.clone());
        };
        let times = batch
            .rows
            .column_by_name(column)
            .and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or_else(|| ExecError::Plan(format!("event time column \"{column}\"")))?;
        if times.null_count() == 0 {
            return Ok(Run::Each(times.values().clone()));
        }
        // A row without a time of its own keeps that of the row it came from.
        Ok(Run::Each(
            (0..times.len())
                .map(|i| if times.is_null(i) { batch.time.get(i) } else { times.value(i) })
                .collect(),
        ))
    }

    fn write_taps(&mut self) {
        for tap in self.taps.drain(..) {
            (self.tap)(&tap);
        }
    }

    fn complete(&self, frontier: i64) -> Result<()> {
        // Who waits for the rows may look at the status next.
        self.publish();
        Ok(self.store.set_complete(self.spec.id, frontier.max(0) as u64)?)
    }

    /// Takes note of transactions that are done.
    fn reap(&mut self) -> Result<()> {
        use tokio::sync::oneshot::error::TryRecvError;
        while let Some((pending, frontier)) = self.in_flight.front_mut() {
            let frontier = *frontier;
            match pending.0.try_recv() {
                Ok(done) => self.done(done.map(|_| ()), frontier)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => self.done(Err(StorageError::Closed), frontier)?,
            }
        }
        Ok(())
    }

    /// The oldest transaction on its way has come to an end.
    fn done(&mut self, result: Result<(), StorageError>, frontier: i64) -> Result<()> {
        self.in_flight.pop_front();
        self.ended(result, frontier)
    }

    fn ended(&mut self, result: Result<(), StorageError>, frontier: i64) -> Result<()> {
        if let Err(error) = result {
            // What follows it cannot have been applied either: it would leave a gap.
            self.in_flight.clear();
            self.forget_uncommitted()?;
            return Err(error.into());
        }
        self.complete(frontier)
    }

    /// After a refused transaction: what is committed is what the store says.
    fn forget_uncommitted(&mut self) -> Result<()> {
        self.reload = true;
        if let Some(bytes) = self.store.state_get(&self.keys.position())? {
            self.committed = Position::decode(&bytes)?;
        }
        Ok(())
    }

    /// Waits for the oldest transaction on its way, if there is one.
    pub(super) async fn oldest_done(&mut self) -> Result<()> {
        let Some((pending, _)) = self.in_flight.front_mut() else { return Ok(()) };
        let result = (&mut pending.0).await.unwrap_or(Err(StorageError::Closed));
        let frontier = self.in_flight.front().map_or(0, |(_, frontier)| *frontier);
        self.done(result.map(|_| ()), frontier)
    }

    /// Waits for all transactions on their way.
    pub(super) async fn settled(&mut self) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.oldest_done().await?;
        }
        self.publish();
        Ok(())
    }

    /// [`Query::settled`] on this thread, which must not run asynchronous tasks.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.reap()?;
        while let Some((pending, frontier)) = self.in_flight.pop_front() {
            let result = pending.wait();
            self.ended(result.map(|_| ()), frontier)?;
        }
        self.publish();
        Ok(())
    }

    /// Whether a transaction is on its way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Commits the position even though there was no output.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.reload || self.position == self.committed {
            return Ok(());
        }
        self.commit()
    }

    fn publish(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let position = if self.reload { &self.committed } else { &self.position };
        status.counters = position.counters;
        status.position.clone_from(&position.inputs);
        status.frontier = position.frontier.max(0) as u64;
        status.state_bytes = self.graph.state_bytes();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".into());
    format!("an operator panicked: {text}")
}
