//! Sessions: rows of a key none of which is more than the gap after the one before it.
//!
//! A row exactly the gap after the last one still belongs, so a session has ended when the watermark
//! is *above* its end (last row + gap), and its result may come when the watermark stands one
//! microsecond above the result's own event time: the output's watermark is held back by that.
//!
//! Saved state: a [`Header`], and an entry per session under the ordinal of its first row.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use auspex_plan::Emit;

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::progress::{Progress, Step};

use super::arena::{Arena, NONE, TRASH};
use super::emit::{Due, Place, Results, Shape};
use super::header::{HEADER, Header};
use super::intake::{Intake, Rows};
use super::late_reason;

/// First byte of the saved state's keys of sessions.
const SESSION: u8 = b's';

/// A session, at the number of its slot.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// Ordinal of its first row by arrival, which names it; [`GONE`] when the slot has none.
    first: u64,
    start: i64,
    last: i64,
    key: u32,
    /// The key's next older session.
    older: u32,
    /// Results given.
    given: u32,
    /// Whether rows came since the last result.
    changed: bool,
    /// Whether the watermark has passed its end.
    ended: bool,
}

const GONE: u64 = u64::MAX;

const NO_SESSION: Session = Session {
    first: GONE,
    start: 0,
    last: 0,
    key: 0,
    older: NONE,
    given: 0,
    changed: false,
    ended: false,
};

/// When a session must be looked at, if it is still the one with this first row.
type Deadline = Reverse<(i64, u32, u64)>;

/// Aggregates of sessions.
pub(super) struct Sessions {
    intake: Intake,
    shape: Shape,
    gap_us: i64,
    emit: Emit,
    lateness_us: i64,
    arena: Arena,
    sessions: Vec<Session>,
    /// By key: its newest session.
    newest: Vec<u32>,
    live_keys: usize,
    /// Ends of sessions that have not ended. A session that became longer stands under an old end.
    ends: BinaryHeap<Deadline>,
    /// Moments from which sessions take no more rows; only with lateness.
    closings: BinaryHeap<Deadline>,
    /// Sessions changed since the last regular result.
    changed: Vec<(u32, u64)>,
    results: Results,
    /// Slots to be released when the step is over.
    closed: Vec<u32>,
    removed: Vec<Vec<u8>>,
    /// Slots of the rows from `pending_from` on that are not added yet.
    pending: Vec<u32>,
    pending_from: usize,
    /// By slot: the last chunk of [`Emit::Changes`] with a row of it.
    chunks: Vec<u64>,
    chunk: u64,
    watermark: i64,
    saved: Option<Header>,
    name: String,
}

impl Sessions {
    pub(super) fn new(
        intake: Intake,
        shape: Shape,
        gap_us: i64,
        emit: Emit,
        lateness_us: i64,
        name: String,
    ) -> Result<Sessions> {
        if gap_us <= 0 {
            return Err(ExecError::Plan(format!("sessions with a gap of {gap_us} us")));
        }
        if let Emit::Every(every) = emit
            && every <= 0
        {
            return Err(ExecError::Plan(format!("results every {every} us")));
        }
        Ok(Sessions {
            arena: Arena::new(intake.aggregates.set()),
            intake,
            shape,
            gap_us,
            emit,
            lateness_us,
            sessions: Vec::new(),
            newest: Vec::new(),
            live_keys: 0,
            ends: BinaryHeap::new(),
            closings: BinaryHeap::new(),
            changed: Vec::new(),
            results: Results::default(),
            closed: Vec::new(),
            removed: Vec::new(),
            pending: Vec::new(),
            pending_from: 0,
            chunks: Vec::new(),
            chunk: 0,
            watermark: i64::MIN,
            saved: None,
            name,
        })
    }

    fn end(&self, session: &Session) -> i64 {
        session.last.saturating_add(self.gap_us)
    }

    /// Results are read when the step is over: nothing changes a session that has ended.
    fn reads_late(&self) -> bool {
        self.emit == Emit::OnClose && self.lateness_us == 0
    }

    /// Takes row `row`, when the watermark before it is `watermark`.
    fn take(&mut self, rows: &Rows, row: usize, watermark: i64, out: &mut Output) -> Result<()> {
        let (time, key) = (rows.time.get(row), rows.keys[row]);
        let (newer, found) = self.find(key, time);
        let slot = match found {
            None => {
                let end = time.saturating_add(self.gap_us);
                if watermark != i64::MIN && end.saturating_add(self.lateness_us) < watermark {
                    out.late.push(rows.failure(row, late_reason(time, end, watermark)));
                    self.pending.push(TRASH);
                    return Ok(());
                }
                self.begin(key, time, newer, rows.ordinal + row as u64)
            }
            Some(slot) => {
                let older = self.sessions[slot as usize].older;
                let session = &mut self.sessions[slot as usize];
                session.last = session.last.max(time);
                session.start = session.start.min(time);
                let start = session.start;
                if older != NONE && start <= self.end(&self.sessions[older as usize]) {
                    self.flush(rows, row, out)?;
                    self.join(slot, older)?;
                }
                slot
            }
        };
        self.arena.touch(slot);
        if self.emit == Emit::Changes && self.chunks[slot as usize] == self.chunk {
            self.flush(rows, row, out)?;
        }
        self.pending.push(slot);
        let end = self.end(&self.sessions[slot as usize]);
        let session = &mut self.sessions[slot as usize];
        if matches!(self.emit, Emit::Every(_)) && !session.changed {
            self.changed.push((slot, session.first));
        }
        session.changed = true;
        let ended = watermark != i64::MIN && end < watermark;
        if session.ended && !ended {
            self.ends.push(Reverse((end, slot, session.first)));
        }
        session.ended = ended;
        if ended {
            let closing = end.saturating_add(self.lateness_us);
            self.closings.push(Reverse((closing, slot, session.first)));
        }
        let place = Place { sequence: rows.sequence.get(row), ingested: rows.ingested.get(row) };
        if self.emit == Emit::Changes {
            self.chunks[slot as usize] = self.chunk;
            self.give(slot, time.max(watermark), place);
        } else if ended {
            self.flush(rows, row + 1, out)?;
            self.give(slot, end.saturating_sub(1), place);
            self.results.read(&self.arena.set, self.shape.on_error, out)?;
        }
        Ok(())
    }

    /// The session of a key that a row of this time belongs to, the newest if there are two; and the
    /// oldest that begins too late for the row.
    fn find(&self, key: u32, time: i64) -> (u32, Option<u32>) {
        let (mut newer, mut slot) = (NONE, self.newest[key as usize]);
        while slot != NONE {
            let session = &self.sessions[slot as usize];
            if time >= session.start.saturating_sub(self.gap_us) {
                let belongs = time <= self.end(session);
                return (newer, belongs.then_some(slot));
            }
            newer = slot;
            slot = session.older;
        }
        (newer, None)
    }

    fn begin(&mut self, key: u32, time: i64, newer: u32, first: u64) -> u32 {
        let slot = self.arena.take();
        let slots = self.arena.set.slots();
        self.sessions.resize(slots, NO_SESSION);
        self.chunks.resize(slots, 0);
        let link = match newer {
            NONE => &mut self.newest[key as usize],
            newer => &mut self.sessions[newer as usize].older,
        };
        let older = std::mem::replace(link, slot);
        self.live_keys += usize::from(newer == NONE && older == NONE);
        self.sessions[slot as usize] =
            Session { first, start: time, last: time, key, older, ..NO_SESSION };
        self.ends.push(Reverse((time.saturating_add(self.gap_us), slot, first)));
        slot
    }

    /// Adds an older session to the one after it, which keeps the slot.
    fn join(&mut self, slot: u32, older: u32) -> Result<()> {
        self.arena.set.merge_within(slot, older)?;
        self.forget(slot);
        self.forget(older);
        let other = std::mem::replace(&mut self.sessions[older as usize], NO_SESSION);
        let session = &mut self.sessions[slot as usize];
        session.older = other.older;
        session.start = other.start;
        session.last = session.last.max(other.last);
        session.given = session.given.max(other.given);
        session.ended &= other.ended;
        // It goes by the name of the one whose rows came first, under which it is not known yet.
        session.first = session.first.min(other.first);
        session.changed = false;
        let (first, end) = (session.first, session.last.saturating_add(self.gap_us));
        self.ends.push(Reverse((end, slot, first)));
        self.arena.touch(slot);
        self.closed.push(older);
        Ok(())
    }

    /// Notes that a session's entry in the saved state is to be removed.
    fn forget(&mut self, slot: u32) {
        if self.arena.is_saved(slot) {
            self.arena.unsave(slot);
            self.removed.push(state_key(self.sessions[slot as usize].first));
        }
    }

    /// Adds the pending rows before `to`. Under [`Emit::Changes`] reads the results that they gave.
    fn flush(&mut self, rows: &Rows, to: usize, out: &mut Output) -> Result<()> {
        if !self.pending.is_empty() {
            let from = self.pending_from;
            let time = rows.time.slice(from, to - from);
            let arguments = rows.arguments.slice(from, to - from);
            self.arena.set.update(&self.pending, &arguments, &rows.places(from, &time))?;
            self.arena.empty_trash();
            self.pending.clear();
        }
        self.pending_from = to;
        if self.emit == Emit::Changes {
            self.results.read(&self.arena.set, self.shape.on_error, out)?;
            self.chunk += 1;
        }
        Ok(())
    }

    /// Adds a session's result.
    fn give(&mut self, slot: u32, time: i64, place: Place) {
        let session = &mut self.sessions[slot as usize];
        let end = session.last.saturating_add(self.gap_us);
        let Session { start, key, given: revision, .. } = *session;
        session.given += 1;
        session.changed = false;
        self.arena.touch(slot);
        self.results.push(Due { start, end, key, revision }, time, place, slot);
    }

    /// Whether something is due when the watermark comes to `time`.
    fn is_due(&self, time: i64) -> bool {
        let before = |heap: &BinaryHeap<Deadline>| {
            heap.peek().is_some_and(|Reverse((at, ..))| *at < time || time == i64::MAX)
        };
        before(&self.ends) || before(&self.closings) || self.ticks(time)
    }

    fn ticks(&self, time: i64) -> bool {
        match self.emit {
            Emit::Every(every) => {
                time == i64::MAX
                    || (self.watermark != i64::MIN
                        && time.div_euclid(every) > self.watermark.div_euclid(every))
            }
            _ => false,
        }
    }

    /// The watermark moves. All pending rows have been added, if that matters.
    fn advance(&mut self, step: Step, out: &mut Output) -> Result<()> {
        let time = step.time;
        let mut due = Vec::new();
        while let Some((slot, end)) = Self::pop(&mut self.ends, time) {
            let Some(slot) = self.alive(slot) else { continue };
            let now = self.end(&self.sessions[slot as usize]);
            let session = &mut self.sessions[slot as usize];
            if now > end && time != i64::MAX && now >= time {
                self.ends.push(Reverse((now, slot, session.first)));
            } else if !std::mem::replace(&mut session.ended, true) {
                if session.changed {
                    due.push(slot);
                }
                let closing = now.saturating_add(self.lateness_us);
                self.closings.push(Reverse((closing, slot, session.first)));
            }
        }
        if self.ticks(time) {
            for (slot, first) in std::mem::take(&mut self.changed) {
                let session = &self.sessions[slot as usize];
                if session.first == first && session.changed && !session.ended {
                    due.push(slot);
                }
            }
        }
        if self.emit != Emit::Changes {
            self.give_all(due, step, out)?;
        }
        self.close(time);
        Ok(())
    }

    fn give_all(&mut self, mut due: Vec<u32>, step: Step, out: &mut Output) -> Result<()> {
        due.sort_unstable_by_key(|slot| {
            let session = &self.sessions[*slot as usize];
            (session.last, session.start, session.first)
        });
        // One that changed again after a result of its own stands twice among the changed ones.
        due.dedup();
        let ingested = self.intake.seen.ingested.unwrap_or(step.time);
        let place = Place { sequence: step.sequence, ingested };
        for slot in due {
            let time = self.end(&self.sessions[slot as usize]).saturating_sub(1);
            self.give(slot, time, place);
        }
        if self.reads_late() {
            return Ok(());
        }
        self.results.read(&self.arena.set, self.shape.on_error, out)
    }

    /// Forgets sessions that take no more rows.
    fn close(&mut self, time: i64) {
        while let Some((slot, closing)) = Self::pop(&mut self.closings, time) {
            let Some(slot) = self.alive(slot) else { continue };
            let session = self.sessions[slot as usize];
            let now = self.end(&session).saturating_add(self.lateness_us);
            // One that became longer has another deadline, or will have when it ends.
            if !session.ended {
                continue;
            }
            if now > closing && now >= time && time != i64::MAX {
                self.closings.push(Reverse((now, slot, session.first)));
                continue;
            }
            self.forget(slot);
            self.unlink(slot);
            self.sessions[slot as usize] = NO_SESSION;
            self.closed.push(slot);
        }
    }

    /// The next deadline that has passed, as slot and first row with its moment.
    fn pop(heap: &mut BinaryHeap<Deadline>, time: i64) -> Option<((u32, u64), i64)> {
        let Reverse((at, slot, first)) = *heap.peek()?;
        if at >= time && time != i64::MAX {
            return None;
        }
        heap.pop();
        Some(((slot, first), at))
    }

    fn alive(&self, (slot, first): (u32, u64)) -> Option<u32> {
        (self.sessions[slot as usize].first == first).then_some(slot)
    }

    fn unlink(&mut self, slot: u32) {
        let Session { key, older, .. } = self.sessions[slot as usize];
        let mut at = self.newest[key as usize];
        if at == slot {
            self.newest[key as usize] = older;
            self.live_keys -= usize::from(older == NONE);
            return;
        }
        while self.sessions[at as usize].older != slot {
            at = self.sessions[at as usize].older;
        }
        self.sessions[at as usize].older = older;
    }

    /// The rows and steps of a step of the graph, in their common order.
    fn run(&mut self, progress: &Progress, out: &mut Output) -> Result<()> {
        let steps = progress.steps();
        let mut next = 0;
        let mut watermark = progress.before;
        while let Some((rows, end)) = self.intake.next(None) {
            self.pending_from = rows.next;
            for row in rows.next..end {
                let sequence = rows.sequence.get(row);
                while let Some(step) = steps.get(next).filter(|step| step.sequence < sequence) {
                    if self.is_due(step.time) {
                        if !self.reads_late() {
                            self.flush(&rows, row, out)?;
                        }
                        if row > 0 {
                            self.intake.seen.ingested = Some(rows.ingested.get(row - 1));
                        }
                        self.advance(*step, out)?;
                    }
                    watermark = step.time;
                    self.watermark = step.time;
                    next += 1;
                }
                self.take(&rows, row, watermark, out)?;
            }
            self.flush(&rows, end, out)?;
            self.intake.seen.ingested = Some(rows.ingested.get(end - 1));
            self.intake.done(rows, end);
        }
        for step in &steps[next..] {
            if self.is_due(step.time) {
                self.advance(*step, out)?;
            }
            self.watermark = step.time;
        }
        Ok(())
    }

    fn release_keys(&mut self) {
        if self.intake.interner.live() > 2 * self.live_keys + 1024 {
            let keys = (0u32..).zip(&self.newest).filter(|(_, newest)| **newest == NONE);
            self.intake.interner.release(&keys.map(|(key, _)| key).collect::<Vec<_>>());
        }
    }

    fn header(&self) -> Header {
        Header { watermark: self.watermark, seen: self.intake.seen }
    }

    fn write(&self, slot: u32) -> Vec<u8> {
        let session = &self.sessions[slot as usize];
        let mut value = session.start.to_be_bytes().to_vec();
        value.extend(session.last.to_be_bytes());
        value.extend(session.given.to_be_bytes());
        value.extend([u8::from(session.changed), u8::from(session.ended)]);
        let mut key = Vec::new();
        self.intake.interner.key(session.key, &mut key);
        value.extend((key.len() as u32).to_be_bytes());
        value.extend(key);
        self.arena.set.write(slot, &mut value);
        value
    }

    fn read(&mut self, first: u64, mut value: &[u8]) -> Result<()> {
        let broken = || ExecError::State("a session that cannot be read".into());
        let mut take = |len: usize| {
            let (head, rest) = value.split_at_checked(len).ok_or_else(broken)?;
            value = rest;
            Ok::<&[u8], ExecError>(head)
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let (start, last) = (number(take(8)?) as i64, number(take(8)?) as i64);
        let (given, flags) = (number(take(4)?) as u32, take(2)?);
        let (changed, ended) = (flags[0] == 1, flags[1] == 1);
        let len = number(take(4)?) as usize;
        let key = self.intake.interner.intern_key(take(len)?)?;
        self.newest.resize(self.intake.interner.bound(), NONE);
        let mut newer = NONE;
        let mut at = self.newest[key as usize];
        while at != NONE && self.sessions[at as usize].start > start {
            newer = at;
            at = self.sessions[at as usize].older;
        }
        let slot = self.begin(key, start, newer, first);
        let session = &mut self.sessions[slot as usize];
        (session.last, session.given, session.changed, session.ended) =
            (last, given, changed, ended);
        let closing = last.saturating_add(self.gap_us).saturating_add(self.lateness_us);
        if ended {
            self.closings.push(Reverse((closing, slot, first)));
        }
        if changed && matches!(self.emit, Emit::Every(_)) {
            self.changed.push((slot, first));
        }
        self.arena.load(slot, &mut value)?;
        if value.is_empty() { Ok(()) } else { Err(broken()) }
    }
}

impl Operator for Sessions {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        self.intake.take(batch, out)
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        self.newest.resize(self.intake.interner.bound(), NONE);
        self.chunk += 1;
        self.run(&watermark.progress, out)?;
        self.results.read(&self.arena.set, self.shape.on_error, out)?;
        self.arena.release(&std::mem::take(&mut self.closed));
        self.results.hand_on(&self.shape, &self.intake.interner, out)?;
        self.release_keys();
        out.progress = Some(watermark.progress.delayed(self.shape.hold_us));
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        Header::checkpoint(self.header(), &mut self.saved, state);
        self.removed.drain(..).for_each(|key| state.remove(&key));
        for slot in self.arena.take_dirty() {
            state.put(&state_key(self.sessions[slot as usize].first), self.write(slot));
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.intake.clear()?;
        self.arena = Arena::new(self.intake.aggregates.set());
        self.sessions.clear();
        self.newest.clear();
        self.live_keys = 0;
        self.ends.clear();
        self.closings.clear();
        self.changed.clear();
        self.results = Results::default();
        self.closed.clear();
        self.removed.clear();
        self.pending.clear();
        self.chunks.clear();
        self.watermark = i64::MIN;
        self.saved = None;
        for (key, value) in state.entries() {
            let broken = || ExecError::State("an entry of a session that is unknown".into());
            match key.split_first().ok_or_else(broken)? {
                (&HEADER, []) => {
                    let header = Header::read(value)?;
                    self.watermark = header.watermark;
                    self.intake.seen = header.seen;
                    self.saved = Some(header);
                }
                (&SESSION, first) => {
                    let first = first.try_into().map_err(|_| broken())?;
                    self.read(u64::from_be_bytes(first), value)?;
                }
                _ => return Err(broken()),
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        let own = self.sessions.capacity() * size_of::<Session>()
            + self.newest.capacity() * size_of::<u32>()
            + (self.ends.capacity() + self.closings.capacity()) * size_of::<Deadline>()
            + (self.chunks.capacity()) * size_of::<u64>();
        self.arena.bytes() + self.intake.interner.bytes() + own as u64
    }

    fn state_rows(&self) -> u64 {
        self.arena.used()
    }
}

fn state_key(first: u64) -> Vec<u8> {
    let mut key = vec![SESSION];
    key.extend(first.to_be_bytes());
    key
}
