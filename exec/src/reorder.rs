//! Rows of one or more inputs in the order of their event times.
//!
//! A row waits until the watermark of all inputs together has come to its event time. The rows are
//! released sorted by (event time, place, input, arrival), over the whole life of the buffer, because
//! what would break that order is late and left out. Each row is released at a place of the global
//! order: that of the step of the watermark that reached it, or its own when the watermark was there
//! already. These places never fall either.

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;
use arrow::temporal_conversions::timestamp_us_to_datetime;
use auspex_storage::Run;

use crate::batch::Batch;
use crate::error::{ExecError, Result, RowFailure};
use crate::operator::{Input, Output, StateReader, StateWriter, Watermark};
use crate::progress::{Progress, Step};
use crate::state_rows::KeptRows;

/// Key of what is saved besides rows; the rows of input i are under the tag i.
const OWN_KEY: &[u8] = &[0xf0];

/// See the module.
pub(crate) struct Reorder {
    inputs: Vec<Side>,
    /// The watermark up to which rows have been released.
    reached: i64,
    /// Arrival of the last row seen.
    arrived: i64,
    changed: bool,
}

struct Side {
    /// Rows that wait; each chunk is sorted.
    kept: KeptRows,
    /// Rows since the last step of the watermark, as they came.
    fresh: Vec<Batch>,
    last: bool,
}

/// Released rows of one input, in order.
pub(crate) struct Due {
    /// The rows with their own places.
    pub(crate) batch: Batch,
    /// Where each was released.
    pub(crate) place: Run,
    /// Arrival of the last row of any input up to that place.
    pub(crate) ingested: Run,
}

/// The rows released by the steps of one watermark.
pub(crate) struct Released {
    /// Of each input.
    pub(crate) inputs: Vec<Vec<Due>>,
    /// The order of all: the next so many rows of an input.
    pub(crate) order: Vec<(usize, usize)>,
    arrivals: Arrivals,
}

impl Released {
    /// Arrival of the last row of any input up to a place.
    pub(crate) fn arrival(&self, place: i64) -> i64 {
        self.arrivals.at(place)
    }
}

impl Reorder {
    /// For inputs with these columns.
    pub(crate) fn new(inputs: Vec<SchemaRef>) -> Reorder {
        let side = |(tag, schema)| Side {
            kept: KeptRows::new(tag, schema),
            fresh: Vec::new(),
            last: false,
        };
        let inputs = (0u8..).zip(inputs).map(side).collect();
        Reorder { inputs, reached: i64::MIN, arrived: i64::MIN, changed: false }
    }

    /// The rows of `input` come after those of the same event time of the other inputs, whatever
    /// their places, and therefore only when the watermark is beyond their time.
    pub(crate) fn last_of_its_time(mut self, input: usize) -> Reorder {
        self.inputs[input].last = true;
        self
    }

    /// Takes rows as they come.
    pub(crate) fn push(&mut self, input: Input, batch: Batch) {
        if !batch.is_empty() {
            self.inputs[input.0].fresh.push(batch);
        }
    }

    /// The rows that have become due; those that came too late go to `out.late`.
    pub(crate) fn release(&mut self, watermark: &Watermark, out: &mut Output) -> Result<Released> {
        let progress = &watermark.progress;
        let arrivals = Arrivals::new(self.arrived, &self.inputs);
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (number, side) in self.inputs.iter_mut().enumerate() {
            let own = watermark.inputs.get(number).unwrap_or(progress);
            let (mut own, mut all) = (Cursor::new(own), Cursor::new(progress));
            for batch in std::mem::take(&mut side.fresh) {
                if let Some(batch) = in_time(batch, &mut own, &mut all, out)? {
                    side.kept.push(sorted(batch)?)?;
                }
            }
            let pieces = side.ripe(progress.last());
            inputs.push(dues(in_order(pieces)?, progress, side.last, &arrivals));
            side.kept.tidy(|batches| merge(&batches))?;
        }
        let order = order(&inputs, self.inputs.iter().map(|side| side.last).collect());
        let (reached, arrived) = (progress.last(), arrivals.at(i64::MAX));
        self.changed |= (self.reached, self.arrived) != (reached, arrived);
        (self.reached, self.arrived) = (reached, arrived);
        Ok(Released { inputs, order, arrivals })
    }

    /// Writes the rows that have come to stay, removes those that have gone.
    pub(crate) fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        if std::mem::take(&mut self.changed) {
            let value = [self.reached.to_be_bytes(), self.arrived.to_be_bytes()].concat();
            state.put(OWN_KEY, value);
        }
        self.inputs.iter_mut().try_for_each(|side| side.kept.checkpoint(state))
    }

    /// Takes back what [`Reorder::checkpoint`] wrote.
    pub(crate) fn restore(&mut self, state: &StateReader) -> Result<()> {
        (self.reached, self.arrived, self.changed) = (i64::MIN, i64::MIN, false);
        if let Some((_, value)) = state.entries().find(|(key, _)| *key == OWN_KEY) {
            let ([reached, arrived], []) = value.as_chunks::<8>() else {
                return Err(ExecError::State("a watermark that cannot be read".into()));
            };
            self.reached = i64::from_be_bytes(*reached);
            self.arrived = i64::from_be_bytes(*arrived);
        }
        for side in &mut self.inputs {
            side.fresh.clear();
            side.kept.restore(state)?;
            // What had been released is still at the front of its chunk.
            side.ripe(self.reached);
        }
        Ok(())
    }

    /// The watermark up to which rows have been released.
    pub(crate) fn reached(&self) -> i64 {
        self.reached
    }

    /// Rows that wait.
    pub(crate) fn rows(&self) -> u64 {
        self.inputs.iter().map(|side| side.kept.rows() as u64).sum()
    }

    /// Bytes of the rows that wait, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.inputs.iter().map(|side| side.kept.bytes()).sum()
    }
}

impl Side {
    /// Takes the rows that a watermark at `time` releases.
    fn ripe(&mut self, time: i64) -> Vec<Batch> {
        let mut pieces = Vec::new();
        for number in 0..self.kept.chunks().len() {
            let chunk = &self.kept.chunks()[number];
            let rows = partition_point(&chunk.batch.time, chunk.from, chunk.batch.len(), |t| {
                releases(time, t, self.last)
            });
            if rows > 0 {
                pieces.push(self.kept.take(number, rows));
            }
        }
        self.kept.drop_empty();
        pieces
    }
}

/// Whether a watermark releases rows of an event time.
fn releases(watermark: i64, time: i64, last: bool) -> bool {
    watermark == i64::MAX || if last { time < watermark } else { time <= watermark }
}

/// Number of rows from `from` on for which `holds`, which is so for the first ones of them only.
pub(crate) fn partition_point(
    run: &Run,
    from: usize,
    to: usize,
    holds: impl Fn(i64) -> bool,
) -> usize {
    if let Run::Each(values) = run {
        return values[from..to].partition_point(|value| holds(*value));
    }
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low.midpoint(high);
        if holds(run.get(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - from
}

/// A progress read at places that never fall.
struct Cursor<'a> {
    steps: &'a [Step],
    time: i64,
    last: i64,
}

impl<'a> Cursor<'a> {
    fn new(progress: &'a Progress) -> Cursor<'a> {
        Cursor { steps: progress.steps(), time: progress.before, last: progress.last() }
    }

    /// The watermark before the rows of a place.
    fn before(&mut self, sequence: i64) -> i64 {
        while let [step, rest @ ..] = self.steps
            && step.sequence < sequence
        {
            self.time = step.time;
            self.steps = rest;
        }
        self.time
    }
}

/// The rows that are not late.
fn in_time(
    batch: Batch,
    own: &mut Cursor,
    all: &mut Cursor,
    out: &mut Output,
) -> Result<Option<Batch>> {
    let rows = batch.len();
    let Some((earliest, _)) = batch.time.bounds(rows) else { return Ok(None) };
    let last = own.last.max(all.last);
    if earliest >= last && last != i64::MAX {
        return Ok(Some(batch));
    }
    let mut late = Vec::new();
    for row in 0..rows {
        let (sequence, time) = (batch.sequence.get(row), batch.time.get(row));
        let reached = own.before(sequence).max(all.before(sequence));
        if is_late(time, reached) {
            late.push(row as u32);
            out.late.push(RowFailure {
                stream: batch.stream.get(row) as u32,
                offset: batch.offset.get(row) as u64,
                sequence,
                reason: too_late(time, reached),
            });
        }
    }
    if late.is_empty() {
        return Ok(Some(batch));
    }
    let mut late = late.into_iter().peekable();
    let kept: Vec<u32> = (0..rows as u32).filter(|row| late.next_if_eq(row).is_none()).collect();
    Ok(if kept.is_empty() { None } else { Some(batch.take(&kept)?) })
}

/// Whether a row is behind a watermark: after the end of input even one at infinity is.
pub(crate) fn is_late(time: i64, watermark: i64) -> bool {
    time < watermark || watermark == i64::MAX
}

/// Why a row of an operator that needs order was left out.
pub(crate) fn too_late(time: i64, watermark: i64) -> String {
    format!("event time {} is before the watermark {}", instant(time), instant(watermark))
}

/// A moment for the user.
pub(crate) fn instant(us: i64) -> String {
    match (us, timestamp_us_to_datetime(us)) {
        (i64::MAX, _) => "at the end of input".into(),
        (_, Some(time)) => time.and_utc().format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
        (_, None) => format!("{us} us"),
    }
}

/// The rows by event time; those of one time stay in their order.
fn sorted(batch: Batch) -> Result<Batch> {
    match &batch.time {
        Run::Each(times) if !times.is_sorted() => {
            let mut rows: Vec<u32> = (0..times.len() as u32).collect();
            rows.sort_by_key(|row| times[*row as usize]);
            batch.take(&rows)
        }
        _ => Ok(batch),
    }
}

/// Sorted pieces as sorted pieces each of which begins where the one before has ended.
fn in_order(pieces: Vec<Batch>) -> Result<Vec<Batch>> {
    let key = |batch: &Batch, row: usize| (batch.time.get(row), batch.sequence.get(row));
    let follows = |w: &[Batch]| key(&w[0], w[0].len() - 1) <= key(&w[1], 0);
    if pieces.windows(2).all(follows) { Ok(pieces) } else { Ok(vec![merge(&pieces)?]) }
}

/// Several sorted batches as one; rows of equal time and place in the order of the batches.
fn merge(batches: &[Batch]) -> Result<Batch> {
    let mut rows = Vec::with_capacity(batches.iter().map(Batch::len).sum());
    for (number, batch) in batches.iter().enumerate() {
        for row in 0..batch.len() {
            rows.push((batch.time.get(row), batch.sequence.get(row), number, row));
        }
    }
    rows.sort();
    let picks: Vec<(usize, usize)> = rows.into_iter().map(|(_, _, b, row)| (b, row)).collect();
    Batch::interleave(batches, &picks)
}

/// Where and when each row is released.
fn dues(pieces: Vec<Batch>, progress: &Progress, last: bool, arrivals: &Arrivals) -> Vec<Due> {
    let steps = progress.steps();
    // The first step that releases the row; none when the watermark was there before.
    let (mut step, mut reached) = (0, progress.before);
    let mut arrival = 0;
    let mut dues = Vec::with_capacity(pieces.len());
    for batch in pieces {
        let mut places = Vec::with_capacity(batch.len());
        for row in 0..batch.len() {
            let time = batch.time.get(row);
            while step < steps.len() && !releases(reached, time, last) {
                reached = steps[step].time;
                step += 1;
            }
            let own = batch.sequence.get(row);
            places.push(if step == 0 { own } else { own.max(steps[step - 1].sequence) });
        }
        let ingested = match arrivals.changes.as_slice() {
            [] => Run::Constant(arrivals.before),
            changes => Run::Each(
                places
                    .iter()
                    .map(|place| {
                        while arrival < changes.len() && changes[arrival].0 <= *place {
                            arrival += 1;
                        }
                        if arrival == 0 { arrivals.before } else { changes[arrival - 1].1 }
                    })
                    .collect(),
            ),
        };
        dues.push(Due { batch, place: Run::Each(places.into()), ingested });
    }
    dues
}

/// The arrival of the last row seen, by place.
struct Arrivals {
    before: i64,
    /// Places and arrivals, both rising.
    changes: Vec<(i64, i64)>,
}

impl Arrivals {
    fn new(before: i64, inputs: &[Side]) -> Arrivals {
        let mut seen: Vec<(i64, i64)> = Vec::new();
        for batch in inputs.iter().flat_map(|side| &side.fresh) {
            match &batch.ingested {
                Run::Constant(arrival) => seen.push((batch.sequence.get(0), *arrival)),
                run => {
                    let mut last = None;
                    for row in 0..batch.len() {
                        let arrival = run.get(row);
                        if last != Some(arrival) {
                            seen.push((batch.sequence.get(row), arrival));
                            last = Some(arrival);
                        }
                    }
                }
            }
        }
        seen.sort_unstable();
        let mut changes: Vec<(i64, i64)> = Vec::new();
        let mut greatest = before;
        for (place, arrival) in seen {
            if arrival <= greatest {
                continue;
            }
            greatest = arrival;
            match changes.last_mut() {
                Some(change) if change.0 == place => change.1 = arrival,
                _ => changes.push((place, arrival)),
            }
        }
        Arrivals { before, changes }
    }

    fn at(&self, place: i64) -> i64 {
        match self.changes.partition_point(|change| change.0 <= place) {
            0 => self.before,
            after => self.changes[after - 1].1,
        }
    }
}

/// What the rows of an input are ordered by, from the front.
struct Front {
    times: ScalarBuffer<i64>,
    places: ScalarBuffer<i64>,
    row: usize,
    last: bool,
}

impl Front {
    fn new(dues: &[Due], last: bool) -> Front {
        Front {
            times: flat(dues, |due| &due.batch.time),
            places: flat(dues, |due| &due.batch.sequence),
            row: 0,
            last,
        }
    }

    #[inline]
    fn key(&self) -> Option<(i64, bool, i64)> {
        Some((*self.times.get(self.row)?, self.last, self.places[self.row]))
    }
}

/// The numbers of all released rows of an input.
pub(crate) fn flat(dues: &[Due], run: impl Fn(&Due) -> &Run) -> ScalarBuffer<i64> {
    match dues {
        [one] => run(one).to_values(one.batch.len()),
        several => {
            let mut all = Vec::with_capacity(several.iter().map(|due| due.batch.len()).sum());
            for due in several {
                all.extend_from_slice(&run(due).to_values(due.batch.len()));
            }
            all.into()
        }
    }
}

/// The common order of the rows of all inputs.
fn order(inputs: &[Vec<Due>], last: Vec<bool>) -> Vec<(usize, usize)> {
    let rows = |dues: &Vec<Due>| dues.iter().map(|due| due.batch.len()).sum::<usize>();
    let mut filled = inputs.iter().enumerate().filter(|(_, dues)| !dues.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => return Vec::new(),
        (Some((input, dues)), None) => return vec![(input, rows(dues))],
        _ => {}
    }
    let fronts = inputs.iter().zip(last).map(|(dues, last)| Front::new(dues, last));
    let mut fronts: Vec<Front> = fronts.collect();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(inputs.iter().map(rows).sum());
    loop {
        let next = fronts.iter().enumerate().filter_map(|(i, front)| Some((front.key()?, i))).min();
        let Some((_, input)) = next else { return order };
        let others = fronts.iter().enumerate().filter(|(i, _)| *i != input);
        let bound = others.filter_map(|(i, front)| Some((front.key()?, i))).min();
        let front = &mut fronts[input];
        let from = front.row;
        match bound {
            None => front.row = front.times.len(),
            Some(((time, last, place), other)) => {
                let bound = (time, last, place, other);
                let (times, places) = (&front.times[from..], &front.places[from..]);
                let mut rows = times.iter().zip(places);
                let own = (front.last, input);
                let ahead = rows.position(|(time, place)| (*time, own.0, *place, own.1) > bound);
                front.row = ahead.map_or(front.times.len(), |ahead| from + ahead);
            }
        }
        order.push((input, front.row - from));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{rows, schema, text};

    /// Input, event time, of a row whose place is its position in the log.
    type Row = (usize, i64);

    /// How the watermark of one input, or of all, moves over `log[from..to]` with delay 5.
    fn progress(log: &[Row], of: Option<usize>, from: usize, to: usize) -> Progress {
        let watermark = |rows: &[Row], input: usize| {
            let times = rows.iter().filter(|row| row.0 == input).map(|row| row.1);
            times.max().map_or(i64::MIN, |time| time - 5)
        };
        let at = |place: usize| match of {
            Some(input) => watermark(&log[..place], input),
            None => watermark(&log[..place], 0).min(watermark(&log[..place], 1)),
        };
        let mut progress = Progress::still(at(from));
        for place in from..to {
            progress.advance(place as i64, at(place + 1), false);
        }
        if to == log.len() {
            progress.advance(to as i64, i64::MAX, false);
        }
        progress
    }

    fn watermark(log: &[Row], from: usize, to: usize) -> Watermark {
        let of = |input| Arc::new(progress(log, input, from, to));
        Watermark {
            sequence: to as i64,
            progress: of(None),
            inputs: vec![of(Some(0)), of(Some(1))],
        }
    }

    fn batch(log: &[Row], input: usize, places: &[usize]) -> Batch {
        let lines: Vec<String> = places.iter().map(|place| format!("x {place} 0 0")).collect();
        let run = |f: &dyn Fn(usize) -> i64| Run::Each(places.iter().map(|p| f(*p)).collect());
        Batch {
            rows: rows(&lines.join("\n")),
            sequence: run(&|place| place as i64),
            time: run(&|place| log[place].1),
            ingested: run(&|place| 1000 + place as i64),
            stream: Run::Constant(input as i64),
            offset: run(&|place| place as i64),
        }
    }

    /// Released rows as `place of the row, event time, released at, arrival`, and places of late rows.
    type Seen = (Vec<(i64, i64, i64, i64)>, Vec<i64>);

    fn run(log: &[Row], last: bool, cut: &dyn Fn(usize) -> [bool; 2]) -> Seen {
        let new = || {
            let reorder = Reorder::new(vec![schema(), schema()]);
            if last { reorder.last_of_its_time(0) } else { reorder }
        };
        let mut reorder = new();
        let mut saved = BTreeMap::new();
        let mut seen: Seen = Default::default();
        let mut from = 0;
        for place in 0..log.len() {
            let [ends, restart] = cut(place);
            if !ends && place + 1 < log.len() {
                continue;
            }
            let to = place + 1;
            for input in 0..2 {
                let places: Vec<usize> = (from..to).filter(|p| log[*p].0 == input).collect();
                reorder.push(Input(input), batch(log, input, &places));
            }
            let mut out = Output::default();
            let released = reorder.release(&watermark(log, from, to), &mut out).unwrap();
            let mut rows: Vec<_> = released
                .inputs
                .iter()
                .map(|dues| {
                    let rows = dues.iter().flat_map(|due| {
                        let values = text(&due.batch.rows);
                        (0..due.batch.len()).map(move |row| {
                            let place = due.batch.sequence.get(row);
                            assert_eq!(values[row], format!("x {place} 0 0.0"));
                            let (at, ingested) = (due.place.get(row), due.ingested.get(row));
                            (place, due.batch.time.get(row), at, ingested)
                        })
                    });
                    rows.collect::<Vec<_>>().into_iter()
                })
                .collect();
            for (input, count) in &released.order {
                seen.0.extend(rows[*input].by_ref().take(*count));
            }
            assert!(rows.iter_mut().all(|rows| rows.next().is_none()), "the order has all rows");
            seen.1.extend(out.late.iter().map(|late| late.sequence));
            if restart {
                let mut changes = Vec::new();
                reorder.checkpoint(&mut StateWriter::new(3, &mut changes)).unwrap();
                for (key, value) in changes {
                    match value {
                        Some(value) => saved.insert(key, value),
                        None => saved.remove(&key),
                    };
                }
                let entries: Vec<_> = saved.clone().into_iter().collect();
                reorder = new();
                reorder.restore(&StateReader::new(3, &entries)).unwrap();
            }
            from = to;
        }
        assert_eq!((reorder.rows(), reorder.bytes()), (0, 0));
        seen.1.sort_unstable();
        seen
    }

    /// What the module promises, from the whole log at once.
    fn expected(log: &[Row], last: bool) -> Seen {
        let all = progress(log, None, 0, log.len());
        let own = [0, 1].map(|input| progress(log, Some(input), 0, log.len()));
        let mut seen: Seen = Default::default();
        let mut due = Vec::new();
        for (place, (input, time)) in log.iter().enumerate() {
            let at = place as i64;
            if *time < all.at(at).max(own[*input].at(at)) {
                seen.1.push(at);
                continue;
            }
            let last = last && *input == 0;
            let step = all.first_reaching(time + i64::from(last), 0).unwrap();
            let released = at.max(all.steps()[step].sequence);
            let arrival = 1000 + released.min(log.len() as i64 - 1);
            due.push(((*time, last, at, *input), (at, *time, released, arrival)));
        }
        due.sort_unstable();
        seen.0 = due.into_iter().map(|(_, row)| row).collect();
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_by_event_time_however_they_were_cut(
            rows in proptest::collection::vec((0usize..2, -4i64..12), 1..60),
            cuts in proptest::collection::vec(any::<[bool; 2]>(), 60),
            last in any::<bool>(),
        ) {
            let log: Vec<Row> =
                rows.iter().enumerate().map(|(i, (input, t))| (*input, i as i64 / 2 + t)).collect();
            let expected = expected(&log, last);
            prop_assert_eq!(&run(&log, last, &|_| [false, false]), &expected);
            prop_assert_eq!(&run(&log, last, &|_| [true, true]), &expected);
            prop_assert_eq!(&run(&log, last, &|i| cuts[i]), &expected);
        }
    }

    #[test]
    fn the_reason_names_both_times() {
        assert_eq!(
            too_late(1_500_000, 2_000_001),
            "event time 1970-01-01 00:00:01.500000+00 is before the watermark \
             1970-01-01 00:00:02.000001+00"
        );
        assert_eq!(instant(i64::MIN), "-9223372036854775808 us");
    }
}
