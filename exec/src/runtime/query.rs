//! One query: reads its inputs, pushes them through its graph, commits what came out together with
//! its position. Synchronous; who drives it decides when to wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use std::time::{Duration, Instant};

use auspex_plan::OnError;
use auspex_storage::{
    Append, Durability, Head, Pending, SharedStore, StorageError, StreamId, Transaction,
};

use tokio::sync::watch;

use super::feed::Feed;
use super::position::{Position, StateKeys};
use super::status::{QueryState, QueryStatus};
use super::{QuerySpec, RuntimeOptions, TapSink, dead_letter};
use crate::batch::Batch;
use crate::build::{BuildOptions, build};
use crate::error::{ExecError, Result, RowFailure};
use crate::graph::Graph;
use crate::operator::{Output, StateChange, Tap};

/// Stands for "the inputs have not ended".
pub(super) const NO_END: u64 = u64::MAX;

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
    late: Vec<RowFailure>,
    taps: Vec<Tap>,
    /// When the state was last written: what comes out in between can be computed again.
    checkpointed: Instant,
    /// The last transaction submitted takes its turn with those of others, so one submitted behind
    /// it, which need not, might overtake it.
    ordered: bool,
    /// Output rows below this offset were applied to the query's table before it was loaded.
    applied: u64,
    /// Transactions on their way, each with the place up to which the output is complete when it
    /// is done.
    in_flight: VecDeque<(Pending, u64)>,
    reload: bool,
    /// The row at which to stop; everything before it is processed first.
    halt: Option<RowFailure>,
    /// Place after which no input has rows, once that has been declared.
    end: watch::Receiver<u64>,
    /// Inputs that queries fill.
    derived: BTreeSet<StreamId>,
    status: Arc<Mutex<QueryStatus>>,
    /// Bytes of state at which it stops.
    state_limit: Arc<AtomicU64>,
}

impl Query {
    pub(super) fn open(
        spec: QuerySpec,
        store: SharedStore,
        options: RuntimeOptions,
        tap: TapSink,
        end: watch::Receiver<u64>,
        is_derived: &dyn Fn(StreamId) -> bool,
    ) -> Result<Query> {
        let build_options = BuildOptions { ticks: options.ticks, ..BuildOptions::default() };
        let graph = build(&spec.plan, &build_options)?;
        let streams = graph.inputs().iter().map(|input| input.stream);
        let derived = streams.filter(|stream| is_derived(*stream)).collect();
        let keys = StateKeys::new(spec.id, spec.generation);
        let (position, stored) = match store.state_get(&keys.position())? {
            Some(bytes) => (Position::decode(&bytes)?, true),
            None => {
                let mut inputs = BTreeMap::new();
                for input in graph.inputs() {
                    let head = store.head(input.stream)?;
                    let first = if options.ticks == Some(input.stream) { head.next } else { 0 };
                    let start = spec.start.get(&input.stream).copied().unwrap_or(first);
                    inputs.insert(input.stream, start.max(head.oldest));
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
            waits_for_time: false,
            operators: Vec::new(),
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
            late: Vec::new(),
            taps: Vec::new(),
            checkpointed: Instant::now(),
            applied: 0,
            in_flight: VecDeque::new(),
            reload: false,
            halt: None,
            end,
            derived,
            status: Arc::new(Mutex::new(status)),
            state_limit: Arc::new(AtomicU64::new(
                spec.max_state_bytes.unwrap_or(options.max_state_bytes),
            )),
            ordered: false,
            spec,
            store,
            options,
            tap,
        };
        query.applied = query.store.head(query.spec.id)?.next;
        if stored {
            // In the first turn: reading much state must not hold up the start of the server.
            query.reload = true;
        } else {
            // The start is part of what a restart must find again.
            query.commit(true)?;
        }
        query.store.set_complete(query.spec.id, query.complete_below())?;
        Ok(query)
    }

    /// Changes when the end of all inputs is declared.
    pub(super) fn watch_end(&self) -> watch::Receiver<u64> {
        self.end.clone()
    }

    /// See [`super::Runtime::limit_state`].
    pub(super) fn state_limit(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.state_limit)
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
        let (store, keys) = (Arc::clone(&self.store), self.keys.clone());
        let before = keys.state(&[]).len();
        self.graph.restore_parts(|part| {
            let mut entries = store.state_scan(&keys.state(part))?;
            entries.iter_mut().for_each(|(key, _)| drop(key.drain(..before)));
            Ok(entries)
        })?;
        self.position = self.committed.clone();
        for feed in &mut self.feeds {
            feed.seek(self.position.inputs.get(&feed.stream).copied().unwrap_or(0));
        }
        self.output.clear();
        self.failures.clear();
        self.late.clear();
        self.taps.clear();
        self.applied = self.store.head(self.spec.id)?.next;
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
        let most = if self.ordered { 1 } else { IN_FLIGHT };
        if self.in_flight.len() >= most {
            return Ok(Turn::Full);
        }
        self.check_state()?;
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
        let save = match self.graph.is_stateful() {
            false => true,
            true => progress && self.checkpointed.elapsed() >= self.checkpoint_interval(),
        };
        if halted
            || !self.output.is_empty()
            || !self.failures.is_empty()
            || !self.late.is_empty()
            || (unsaved >= self.options.commit_rows && save)
        {
            self.commit(save || halted)?;
        } else if progress {
            self.write_taps();
            let reached = self.complete_below();
            match self.in_flight.back_mut() {
                Some((_, complete)) => *complete = reached,
                None => self.complete(reached)?,
            }
        }
        if halted {
            let row = self.halt.take().expect("halted at a row");
            return Err(ExecError::Row(row));
        }
        Ok(if progress { Turn::Progress } else { Turn::Idle })
    }

    /// Stops a query that keeps too much.
    fn check_state(&self) -> Result<()> {
        let (bytes, limit) = (self.graph.state_bytes(), self.state_limit.load(Ordering::Relaxed));
        if bytes <= limit {
            return Ok(());
        }
        Err(ExecError::StateLimit { bytes, limit })
    }

    /// One step of the graph. False when there is nothing to process.
    fn advance(&mut self) -> Result<bool> {
        let mut bound = self.halt.as_ref().map_or(i64::MAX, |row| row.sequence);
        // Before the heads: those read afterwards have every row before the end.
        let declared = *self.end.borrow();
        let mut heads = Vec::with_capacity(self.feeds.len());
        for feed in &mut self.feeds {
            let head = self.store.head(feed.stream)?;
            if self.options.ticks == Some(feed.stream) && feed.needs() < head.oldest {
                // Time has passed all the same, as the ticks that are kept say.
                feed.seek(head.oldest);
            }
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
        let end = self.end_of_inputs(declared, &heads);
        if let Some(end) = end
            && self.halt.is_none()
        {
            bound = bound.max(end + 1);
        }
        if bound <= self.position.frontier {
            return end.map_or(Ok(false), |end| self.finish_input(end));
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
        let taken: usize = (0..inputs.len())
            .filter(|input| self.graph.reads(*input))
            .flat_map(|input| &inputs[input])
            .map(|batch| batch.len())
            .sum();
        if rows_in > 0 {
            self.run(|graph| graph.step(inputs, reach))?;
        }
        self.position.counters.rows_in += taken as u64;
        self.position.frontier = reach;
        for feed in &self.feeds {
            self.position.inputs.insert(feed.stream, feed.position);
        }
        Ok(true)
    }

    fn run(&mut self, step: impl FnOnce(&mut Graph) -> Result<Output>) -> Result<()> {
        let graph = &mut self.graph;
        let output = catch_unwind(AssertUnwindSafe(|| step(graph)))
            .unwrap_or_else(|panic| Err(ExecError::Plan(panic_text(&*panic))))?;
        self.collect(output);
        Ok(())
    }

    /// The place behind the last row of all inputs, once that has been declared and every derived
    /// input has come to its end.
    fn end_of_inputs(&self, end: u64, heads: &[Head]) -> Option<i64> {
        let waits =
            |feed: &Feed, head: &Head| self.derived.contains(&feed.stream) && head.complete <= end;
        if end == NO_END || self.feeds.iter().zip(heads).any(|(feed, head)| waits(feed, head)) {
            return None;
        }
        i64::try_from(end).ok()
    }

    /// Lets the watermark go to infinity. False when that was done before.
    fn finish_input(&mut self, end: i64) -> Result<bool> {
        if self.position.ended || self.halt.is_some() || self.position.frontier <= end {
            return Ok(false);
        }
        self.run(|graph| graph.end(end))?;
        self.position.ended = true;
        Ok(true)
    }

    /// The place below which the output has every row. What the end of input gives has the place of
    /// that end.
    fn complete_below(&self) -> u64 {
        let frontier = self.position.frontier.max(0) as u64;
        if self.position.ended { frontier } else { frontier.min(*self.end.borrow()) }
    }

    fn collect(&mut self, output: Output) {
        let counters = &mut self.position.counters;
        let rows: usize = output.batches.iter().map(Batch::len).sum();
        counters.rows_out += rows as u64;
        counters.dead_letters += output.dead_letters.len() as u64;
        counters.skipped += output.skipped;
        counters.nulled += output.nulled;
        counters.late += output.late.len() as u64;
        self.late.extend(output.late);
        self.position.next += rows as u64;
        self.output.extend(output.batches);
        self.failures.extend(output.dead_letters);
        self.taps.extend(output.taps);
    }

    /// Submits the output as one transaction, with `save` together with position and state. What is
    /// submitted without them is computed again after a crash, and left out where it is there.
    pub(super) fn commit(&mut self, save: bool) -> Result<()> {
        let mut transaction = Transaction::default();
        let rows: usize = self.output.iter().map(Batch::len).sum();
        if let Some(batch) = Batch::concat(std::mem::take(&mut self.output))? {
            let first = self.position.next - rows as u64;
            let known = self.applied.saturating_sub(first).min(rows as u64) as usize;
            let table = self.spec.table.as_ref().map(|table| table.write(&batch.rows, known));
            let written = table.transpose()?.unwrap_or_default();
            self.refuse(&batch, written.refused)?;
            transaction.tables = written.changes;
            transaction.appends.push(Append {
                stream: self.spec.id,
                rows: batch.rows,
                time: Some(batch.time),
                derived: Some((batch.sequence, batch.ingested)),
                at_offset: Some(first),
            });
            transaction.appends.extend(written.appends);
        }
        let counters = self.position.counters;
        let failures = std::mem::take(&mut self.failures);
        let letter = |n| self.keys.dead_letter(n);
        self.put_failures(failures, counters.dead_letters, letter, &mut transaction.state)?;
        let late = std::mem::take(&mut self.late);
        let letter = |n| self.keys.late_row(n);
        self.put_failures(late, counters.late, letter, &mut transaction.state)?;
        if save {
            for (key, value) in self.graph.checkpoint()? {
                transaction.state.push((self.keys.state(&key), value));
            }
            transaction.state.push((self.keys.position(), Some(self.position.encode())));
            self.committed = self.position.clone();
            self.checkpointed = Instant::now();
        }
        self.ordered = transaction.appends.iter().any(|append| append.derived.is_none());
        let pending = self.store.submit(transaction, Durability::Buffered);
        self.in_flight.push_back((pending, self.complete_below()));
        self.write_taps();
        self.reap()
    }

    /// Deals with output rows that do not fit the table by the query's policy.
    fn refuse(&mut self, batch: &Batch, refused: Vec<(usize, String)>) -> Result<()> {
        for (row, reason) in refused {
            let failure = RowFailure {
                stream: batch.stream.get(row) as StreamId,
                offset: batch.offset.get(row) as u64,
                sequence: batch.sequence.get(row),
                reason,
            };
            match self.spec.plan.on_error {
                OnError::Stop => return Err(ExecError::Row(failure)),
                OnError::DeadLetter => {
                    self.position.counters.dead_letters += 1;
                    self.failures.push(failure);
                }
                OnError::Skip | OnError::Null => self.position.counters.skipped += 1,
            }
        }
        Ok(())
    }

    /// Keeps the newest of the rows that were left out; `end` is their number so far, these included.
    fn put_failures(
        &self,
        failures: Vec<RowFailure>,
        end: u64,
        key: impl Fn(u64) -> Vec<u8>,
        state: &mut Vec<StateChange>,
    ) -> Result<()> {
        if failures.is_empty() {
            return Ok(());
        }
        let keep = self.options.dead_letters_kept;
        let first = end - failures.len() as u64;
        let kept = failures.len().min(keep as usize);
        let recent = failures[failures.len() - kept..].to_vec();
        let letters = dead_letter::with_rows(self.store.as_ref(), recent, end - kept as u64)?;
        for letter in letters {
            let value = serde_json::to_vec(&letter).map_err(|e| ExecError::State(e.to_string()))?;
            state.push((key(letter.number), Some(value)));
        }
        // Those pushed out by the new ones.
        for number in first.saturating_sub(keep)..end.saturating_sub(keep).min(first) {
            state.push((key(number), None));
        }
        Ok(())
    }

    fn write_taps(&mut self) {
        for tap in self.taps.drain(..) {
            (self.tap)(&tap);
        }
    }

    fn complete(&self, sequence: u64) -> Result<()> {
        // Who waits for the rows may look at the status next.
        self.publish();
        Ok(self.store.set_complete(self.spec.id, sequence)?)
    }

    fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.options.checkpoint_ms)
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
    fn done(&mut self, result: Result<(), StorageError>, frontier: u64) -> Result<()> {
        self.in_flight.pop_front();
        self.ended(result, frontier)
    }

    fn ended(&mut self, result: Result<(), StorageError>, frontier: u64) -> Result<()> {
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

    /// Commits the position even though there was no output. Nothing may be on its way.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.reload || self.position == self.committed {
            return Ok(());
        }
        self.commit(true)
    }

    fn publish(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let position = if self.reload { &self.committed } else { &self.position };
        status.counters = position.counters;
        status.position.clone_from(&position.inputs);
        status.frontier = position.frontier.max(0) as u64;
        status.state_bytes = self.graph.state_bytes();
        status.waits_for_time = self.graph.waits_for_time();
        status.operators = self.graph.operators();
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
