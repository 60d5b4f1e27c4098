//! Rows whose event times are near each other: a symmetric hash join over rows in event-time order.
//!
//! When a row is released its partners among the rows of the other side that were released before
//! it are looked up, so each pair is found once, at its later row. The rows of a side are numbered in
//! event-time order; therefore a bound in time is a bound of numbers, the rows that can match no more
//! are always the oldest ones, and of each key only the number of its newest row is kept in the
//! table: each row knows how far before it the previous row of its key is. The walk from there ends
//! at the first row that is too old.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use datafusion::common::JoinType;

use crate::batch::Batch;
use crate::error::Result;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::operators::evaluate;
use crate::progress::Progress;
use crate::reorder::{Due, Released, Reorder, flat};

use super::JoinParts;
use super::filter::PairFilter;
use super::gather::{NO_ROW, Pairs, Sources};
use super::keys::{Interner, JoinKeys, KeyTable, NO_KEY, NULL};
use super::store::RowStore;

/// Pairs that are worked off together.
const PAIRS: usize = 65_536;

/// Tags of the rows in saved state; the reorder buffer has 0 and 1.
const TAGS: [u8; 2] = [0x10, 0x11];

/// See the module.
pub struct IntervalJoin {
    kind: JoinType,
    /// Bounds of right event time - left event time.
    lower: i128,
    upper: i128,
    hold_us: i64,
    filter: Option<PairFilter>,
    schemas: [SchemaRef; 2],
    schema: SchemaRef,
    on_error: OnError,
    reorder: Reorder,
    sides: [Side; 2],
    /// Per key 1 + the number of each side's newest row, 0 for none.
    table: KeyTable<[u64; 2]>,
    known: Interner,
}

struct Side {
    keys: JoinKeys,
    /// Whether rows without a partner come out.
    outer: bool,
    /// Whether it matters which rows have a partner.
    tracked: bool,
    store: RowStore,
    /// Of the rows in `store`: event time, distance to the previous row of the key (0 for none), and
    /// whether a partner was found.
    times: VecDeque<i64>,
    previous: VecDeque<u32>,
    matched: VecDeque<bool>,
    /// Numbers of the rows matched since they were last marked in the store.
    newly_matched: Vec<u64>,
    /// As a partner of the present row of the other side: the first row that is not too early, and
    /// the first that is too late.
    from: u64,
    to: u64,
    /// The first row of which it is not decided whether it has no partner.
    undecided: u64,
}

/// The released rows of one side.
struct Arrived {
    /// Number of the first.
    first: u64,
    /// Numbers of their keys.
    keys: Vec<u32>,
    places: ScalarBuffer<i64>,
    ingested: ScalarBuffer<i64>,
}

/// A row that turned out to have no partner, or may.
struct Alone {
    place: i64,
    time: i64,
    side: usize,
    number: u64,
}

impl IntervalJoin {
    /// `lower_us` and `upper_us` bound right event time - left event time.
    ///
    /// # Errors
    /// When keys of these types cannot be compared.
    pub fn new(
        parts: JoinParts,
        lower_us: i64,
        upper_us: i64,
        hold_us: i64,
    ) -> Result<IntervalJoin> {
        use JoinType::{Full, Left, LeftAnti, LeftSemi, Right};
        let JoinParts { kind, keys, filter, schemas, schema, on_error, .. } = parts;
        let [left, right] = keys;
        let side = |number: usize, keys, outer, tracked| -> Result<Side> {
            Ok(Side {
                keys: JoinKeys::new(keys)?,
                outer,
                tracked,
                store: RowStore::new(TAGS[number], Arc::clone(&schemas[number])),
                times: VecDeque::new(),
                previous: VecDeque::new(),
                matched: VecDeque::new(),
                newly_matched: Vec::new(),
                from: 0,
                to: 0,
                undecided: 0,
            })
        };
        let lefts = matches!(kind, Left | Full | LeftAnti);
        let rights = matches!(kind, Right | Full);
        let sides =
            [side(0, left, lefts, lefts || kind == LeftSemi)?, side(1, right, rights, rights)?];
        let filter = filter.map(|f| PairFilter::new(&f, &schemas, on_error)).transpose()?;
        Ok(IntervalJoin {
            kind,
            lower: i128::from(lower_us),
            upper: i128::from(upper_us),
            hold_us,
            filter,
            reorder: Reorder::new(schemas.to_vec()),
            schemas,
            schema,
            on_error,
            sides,
            table: KeyTable::new(),
            known: Interner::default(),
        })
    }

    /// How much later than a row of `side` its partners may be at most.
    fn reach(&self, side: usize) -> i128 {
        if side == 0 { self.upper } else { -self.lower }
    }

    fn tracks_matches(&self) -> bool {
        self.sides.iter().any(|side| side.tracked)
    }

    /// Takes the released rows into the stores.
    fn arrive(&mut self, released: &mut Released) -> Result<[Arrived; 2]> {
        let mut arrive = |number: usize| -> Result<Arrived> {
            let side = &mut self.sides[number];
            let dues = std::mem::take(&mut released.inputs[number]);
            let first = side.store.end();
            let (places, ingested) = (flat(&dues, |due| &due.place), flat(&dues, |d| &d.ingested));
            let mut keys = Vec::new();
            for Due { batch, .. } in dues {
                let len = batch.len();
                let of_batch = side.keys.of(&batch.rows, &mut self.known)?;
                keys.extend(of_batch.into_iter().map(|key| self.table.number(key)));
                side.times.extend(batch.time.to_values(len).iter());
                side.previous.resize(side.times.len(), 0);
                if side.tracked {
                    side.matched.resize(side.times.len(), false);
                }
                side.store.push(batch)?;
            }
            Ok(Arrived { first, keys, places, ingested })
        };
        Ok([arrive(0)?, arrive(1)?])
    }

    /// Finds the pairs of the released rows and gives what comes of them.
    fn join(
        &mut self,
        released: &Released,
        arrived: &[Arrived; 2],
        progress: &Progress,
        out: &mut Output,
    ) -> Result<()> {
        let mut pairs = Pairs::default();
        let firsts = self.sides.each_ref().map(|side| side.store.first());
        let mut next = [0usize; 2];
        for (side, count) in &released.order {
            let (side, other) = (*side, 1 - side);
            let rows = &arrived[side];
            for row in next[side]..next[side] + count {
                let key = rows.keys[row];
                if key == NO_KEY {
                    continue;
                }
                let number = rows.first + row as u64;
                let newest = self.table.value(key);
                let mut partner = newest[other];
                let previous = std::mem::replace(&mut newest[side], number + 1);
                let at = (number - firsts[side]) as usize;
                if previous > firsts[side] {
                    self.sides[side].previous[at] = (number + 1 - previous) as u32;
                }
                let time = self.sides[side].times[at];
                // A partner is at most this much earlier, and at least that much.
                let (most, least) = match side {
                    0 => (-self.lower, -self.upper),
                    _ => (self.upper, self.lower),
                };
                let partners = &mut self.sides[other];
                let base = firsts[other];
                partners.advance(base, i128::from(time), most, least);
                if partner <= partners.from {
                    continue;
                }
                // Found are the newest first.
                let begin = pairs.len();
                while partner > partners.from {
                    let found = partner - 1;
                    if found < partners.to {
                        let mut both = [number; 2];
                        both[other] = found;
                        let (place, ingested) = (rows.places[row], rows.ingested[row]);
                        pairs.push(both, place, time, ingested);
                        pairs.later.push(side as u8);
                    }
                    match partners.previous[(found - base) as usize] {
                        0 => break,
                        distance => partner -= u64::from(distance),
                    }
                }
                pairs.rows[other][begin..].reverse();
                if pairs.len() >= PAIRS {
                    self.settle(&mut pairs, released, arrived, progress, false, out)?;
                }
            }
            next[side] += count;
        }
        self.settle(&mut pairs, released, arrived, progress, true, out)
    }

    /// Gives the pairs that pass the filter, and between them the rows that remain alone. Takes all
    /// of `pairs`; more of the same released rows may follow when it is not `last`.
    fn settle(
        &mut self,
        pairs: &mut Pairs,
        released: &Released,
        arrived: &[Arrived; 2],
        progress: &Progress,
        last: bool,
        out: &mut Output,
    ) -> Result<()> {
        let tracks = self.tracks_matches();
        if !tracks && pairs.len() == 0 {
            return Ok(());
        }
        let partners = match &self.filter {
            Some(filter) if pairs.len() > 0 => {
                let sources = self.sources();
                let cause = |pair: usize| usize::from(pairs.later[pair]);
                Some(filter.partners(pairs, &sources, &self.schemas, cause, out)?)
            }
            _ => None,
        };
        let is_partner = |pair: usize| partners.as_ref().is_none_or(|partners| partners[pair]);
        let mut rows = Pairs::default();
        if tracks {
            let mut alone = self.first_alone(arrived, progress);
            for pair in 0..pairs.len() {
                while let Some(row) = alone.take_if(|row| row.place < pairs.place[pair]) {
                    self.decide(&row, released, &mut rows);
                    alone = self.first_alone(arrived, progress);
                }
                if !is_partner(pair) {
                    continue;
                }
                let is_new =
                    [0, 1].map(|side| self.sides[side].set_matched(pairs.rows[side][pair]));
                match self.kind {
                    JoinType::LeftAnti => {}
                    JoinType::LeftSemi if !is_new[0] => {}
                    _ => rows.copy(pairs, pair),
                }
            }
            while last && let Some(row) = alone {
                self.decide(&row, released, &mut rows);
                alone = self.first_alone(arrived, progress);
            }
        } else if partners.is_none() {
            std::mem::swap(&mut rows, pairs);
        } else {
            (0..pairs.len()).filter(|pair| is_partner(*pair)).for_each(|p| rows.copy(pairs, p));
        }
        pairs.clear();
        if rows.len() > 0 {
            let batch = rows.batch(&self.sources(), &self.schemas, &self.schema)?;
            out.emit(batch);
        }
        Ok(())
    }

    fn sources(&self) -> [Sources<'_>; 2] {
        [self.sides[0].store.sources(), self.sides[1].store.sources()]
    }

    /// The next row of which the watermark says that it will find no partner any more, whether it
    /// has one or not.
    fn first_alone(&self, arrived: &[Arrived; 2], progress: &Progress) -> Option<Alone> {
        let of_side = |side: usize| {
            let rows = &self.sides[side];
            if !rows.outer || rows.undecided >= rows.store.end() {
                return None;
            }
            let number = rows.undecided;
            let time = rows.times[(number - rows.store.first()) as usize];
            // Where it was released, if that was now.
            let row = number.checked_sub(arrived[side].first);
            let released = row.and_then(|row| arrived[side].places.get(row as usize));
            let beyond = i128::from(time) + self.reach(side) + 1;
            let beyond = i64::try_from(beyond).unwrap_or(i64::MAX);
            let place = match released {
                // All that could be its partner has come before it.
                Some(place) if self.reach(side) < 0 || progress.before >= beyond => *place,
                _ => {
                    let step = progress.first_reaching(beyond, 0)?;
                    progress.steps()[step].sequence.max(released.copied().unwrap_or(i64::MIN))
                }
            };
            Some(Alone { place, time, side, number })
        };
        [0, 1].into_iter().filter_map(of_side).min_by_key(|row| (row.place, row.time, row.side))
    }

    /// Goes past a row; gives it when it has remained alone.
    fn decide(&mut self, row: &Alone, released: &Released, rows: &mut Pairs) {
        let side = &mut self.sides[row.side];
        side.undecided = row.number + 1;
        if !side.matched[(row.number - side.store.first()) as usize] {
            let mut both = [NO_ROW; 2];
            both[row.side] = row.number;
            rows.push(both, row.place, row.time, released.arrival(row.place));
        }
    }

    /// Drops the rows that a watermark leaves without further partners.
    fn expire(&mut self, watermark: i64) -> Result<()> {
        for number in 0..2 {
            let reach = self.reach(number);
            let side = &mut self.sides[number];
            let gone = side.times.partition_point(|time| {
                watermark == i64::MAX || i128::from(*time) + reach < i128::from(watermark)
            });
            side.times.drain(..gone);
            side.previous.drain(..gone);
            side.matched.drain(..gone.min(side.matched.len()));
            side.store.drop_front(gone);
            side.store.tidy()?;
            let first = side.store.first();
            side.newly_matched.retain(|number| *number >= first);
            side.undecided = side.undecided.max(first);
        }
        let rows = self.sides.iter().map(|side| side.store.rows()).sum::<usize>();
        if self.table.len() > 2 * rows + 4096 {
            let firsts = [self.sides[0].store.first(), self.sides[1].store.first()];
            self.table.retain(|newest| newest[0] > firsts[0] || newest[1] > firsts[1]);
            let table = &self.table;
            self.known.retain(|key| table.get(key).is_some());
        }
        Ok(())
    }
}

impl Side {
    /// Moves the bounds for partners on to a row of the other side at `time`; rows of this side are
    /// partners from `most` before it on until `least` before it.
    fn advance(&mut self, base: u64, time: i128, most: i128, least: i128) {
        let (mut from, end) = (self.from.max(base), base + self.times.len() as u64);
        while from < end && i128::from(self.times[(from - base) as usize]) < time - most {
            from += 1;
        }
        self.from = from;
        if least <= 0 {
            self.to = u64::MAX;
            return;
        }
        let mut to = self.to.max(base);
        while to < end && i128::from(self.times[(to - base) as usize]) <= time - least {
            to += 1;
        }
        self.to = to;
    }

    /// Notes that a row has a partner; true when it is its first one.
    fn set_matched(&mut self, number: u64) -> bool {
        if !self.tracked {
            return false;
        }
        let at = (number - self.store.first()) as usize;
        if self.matched[at] {
            return false;
        }
        self.matched[at] = true;
        self.newly_matched.push(number);
        true
    }

    fn clear(&mut self) {
        self.times.clear();
        self.previous.clear();
        self.matched.clear();
        self.newly_matched.clear();
        (self.from, self.to, self.undecided) = (0, 0, 0);
    }
}

impl Operator for IntervalJoin {
    fn describe(&self) -> String {
        format!("{} join", self.kind)
    }

    fn on_batch(&mut self, input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        let keys = &self.sides[input.0].keys;
        if keys.are_columns() {
            self.reorder.push(input, batch);
        } else if let Some((batch, _)) = evaluate(keys.exprs(), batch, self.on_error, out)? {
            self.reorder.push(input, batch);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let mut released = self.reorder.release(watermark, out)?;
        let arrived = self.arrive(&mut released)?;
        self.join(&released, &arrived, &watermark.progress, out)?;
        self.expire(watermark.progress.last())?;
        if self.hold_us > 0 {
            out.progress = Some(watermark.progress.delayed(self.hold_us));
        }
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.reorder.checkpoint(state)?;
        for side in &mut self.sides {
            let mut matched = std::mem::take(&mut side.newly_matched);
            matched.sort_unstable();
            side.store.mark(matched.into_iter(), 1);
            side.store.checkpoint(state)?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.reorder.restore(state)?;
        self.table.clear();
        for (number, side) in self.sides.iter_mut().enumerate() {
            side.clear();
            side.store.restore(state)?;
            for (start, batch, marks) in side.store.batches() {
                let keys = side.keys.of(&batch.rows, &mut self.known)?;
                side.times.extend(batch.time.to_values(batch.len()).iter());
                if side.tracked {
                    side.matched.extend(marks.iter().map(|mark| *mark == 1));
                }
                for (row, key) in (start..).zip(keys) {
                    let distance = match key {
                        NULL => 0,
                        key => {
                            let newest = &mut self.table.entry(key)[number];
                            match std::mem::replace(newest, row + 1) {
                                0 => 0,
                                before => (row + 1 - before) as u32,
                            }
                        }
                    };
                    side.previous.push_back(distance);
                }
            }
        }
        // What had been dropped is still at the front of its chunk.
        self.expire(self.reorder.reached())
    }

    fn state_rows(&self) -> u64 {
        self.reorder.rows() + self.sides.iter().map(|side| side.store.rows() as u64).sum::<u64>()
    }

    fn state_bytes(&self) -> u64 {
        let side = |side: &Side| {
            side.store.bytes() + 12 * side.times.len() as u64 + side.matched.len() as u64
        };
        let rows: u64 = self.sides.iter().map(side).sum();
        self.reorder.bytes() + rows + self.table.bytes() + self.known.bytes()
    }
}
