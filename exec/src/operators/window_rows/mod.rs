//! The rows of each window, given when it closes.

mod aligned;
mod count;
mod results;
mod session;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use auspex_plan::{OnError, nodes, time::Window};

use crate::batch::Batch;
use crate::error::{ExecError, Result, RowFailure};
use crate::expr::Compiled;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::rows::RowCodec;

use super::evaluate::evaluate;
use super::kept::{Held, Kept};
use super::keys::KeyFormat;
use super::walk::{Event, Walk};

use aligned::Aligned;
use count::Counts;
use results::{Place, Results};
use session::Sessions;

/// Key under which the arrival of the last row is saved.
const ARRIVED: &[u8] = b"i";

/// A window whose rows come out.
#[derive(Debug, PartialEq, Eq)]
struct Closing {
    start: i64,
    end: i64,
    /// Numbers of its rows, ascending.
    rows: Vec<u64>,
}

/// Where the rows of one kind of window belong. Rows are known by their numbers in [`Kept`].
trait Windows: Send {
    /// When a row of this event time is too late for all its windows at this watermark: the end of
    /// the last one.
    fn too_late(&self, group: &[u8], time: i64, watermark: i64) -> Option<i64>;

    /// Learns what has closed before.
    fn passed(&mut self, _watermark: i64) {}

    /// Takes a row that is not too late; gives the window that it completes.
    fn take(&mut self, number: u64, kept: &Kept) -> Option<Closing>;

    /// The next window that is due at `watermark`, in the order of ends, then starts, then first
    /// rows; to be called until there is none.
    fn close(&mut self, watermark: i64, kept: &Kept) -> Option<Closing>;

    /// Gives the rows that no window needs any more.
    fn forget(&mut self, watermark: i64) -> Vec<u64>;

    /// Begins anew with the rows that are kept and what [`Windows::checkpoint`] wrote.
    fn restore(&mut self, kept: &Kept, others: &[(&[u8], &[u8])]) -> Result<()>;

    /// Writes what cannot be seen from the rows.
    fn checkpoint(&mut self, _state: &mut StateWriter) {}
}

/// Keeps rows until their window closes, then gives them with the window's bounds.
pub struct WindowRows {
    name: String,
    /// Partition keys, then what the rows of a window are ordered by.
    exprs: Vec<Compiled>,
    keys: usize,
    groups: KeyFormat,
    order: KeyFormat,
    codec: RowCodec,
    limit: usize,
    on_error: OnError,
    windows: Box<dyn Windows>,
    by_count: bool,
    /// How far the output's watermark is behind the input's.
    hold_us: i64,
    /// Rows since the last step of the watermark, with the values of `exprs`.
    waiting: Vec<(Batch, Vec<ArrayRef>)>,
    kept: Kept,
    /// Arrival of the last row, and whether that is to be saved.
    arrived: (i64, bool),
    results: Results,
}

/// How the rows of a window are ordered, and how many of them come out.
pub struct RowOrder {
    /// In this order, then as they arrived.
    pub by: Vec<(Compiled, SortOptions)>,
    /// Rows of a window and key; `None` for all.
    pub limit: Option<u64>,
}

impl WindowRows {
    /// `input` and `schema` are the columns of the rows taken and given.
    ///
    /// # Errors
    /// For windows without end or length, and for columns and keys that cannot be kept.
    pub fn new(
        node: &nodes::WindowRows,
        keys: Vec<Compiled>,
        order: RowOrder,
        input: SchemaRef,
        schema: SchemaRef,
        on_error: OnError,
    ) -> Result<WindowRows> {
        let window = &node.window;
        let windows: Box<dyn Windows> = match *window {
            Window::Hop { size_us: ..=0, .. }
            | Window::Hop { slide_us: ..=0, .. }
            | Window::Cumulate { size_us: ..=0, .. }
            | Window::Cumulate { step_us: ..=0, .. }
            | Window::Session { gap_us: ..=0 }
            | Window::Count { size: 0, .. }
            | Window::Count { slide: 0, .. } => {
                return Err(ExecError::Plan("a window without length".into()));
            }
            Window::Hop { size_us, slide_us, offset_us } => {
                Box::new(Aligned::hop(size_us, slide_us, offset_us))
            }
            Window::Cumulate { size_us, step_us, offset_us } => {
                Box::new(Aligned::cumulate(size_us, step_us, offset_us))
            }
            Window::Session { gap_us } => Box::new(Sessions::new(gap_us)),
            Window::Count { size, slide } => Box::new(Counts::new(size, slide)),
            Window::Unbounded => {
                return Err(ExecError::Unsupported("giving the rows of an endless window".into()));
            }
        };
        let groups = KeyFormat::groups(&keys)?;
        let by = KeyFormat::new(order.by.iter().map(|(e, o)| (e.data_type.clone(), *o)))?;
        let mut exprs = keys;
        let keys = exprs.len();
        exprs.extend(order.by.into_iter().map(|(expr, _)| expr));
        Ok(WindowRows {
            name: format!("Rows of windows, {window}"),
            exprs,
            keys,
            groups,
            order: by,
            codec: RowCodec::new(input)?,
            limit: order.limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX)),
            on_error,
            windows,
            by_count: matches!(window, Window::Count { .. }),
            hold_us: node.hold_us(),
            waiting: Vec::new(),
            kept: Kept::default(),
            arrived: (0, false),
            results: Results::new(schema),
        })
    }

    /// Takes a row when the watermark is `watermark`.
    fn take(&mut self, held: Held, watermark: i64, out: &mut Output) {
        self.arrived = (held.row.ingested, true);
        let time = held.row.time;
        let sequence = held.row.sequence;
        if let Some(end) = self.windows.too_late(&held.group, time, watermark) {
            out.late.push(RowFailure {
                stream: held.row.stream as u32,
                offset: held.row.offset as u64,
                sequence,
                reason: late_reason(time, end, watermark),
            });
            return;
        }
        let number = self.kept.push(held);
        if let Some(closing) = self.windows.take(number, &self.kept) {
            let place = Place { sequence, time: time.max(watermark), ingested: self.arrived.0 };
            self.give(&closing, place);
        }
        if self.by_count {
            self.forget(watermark);
        }
    }

    fn close(&mut self, sequence: i64, watermark: i64) {
        while let Some(closing) = self.windows.close(watermark, &self.kept) {
            let time = closing.end.saturating_sub(1);
            self.give(&closing, Place { sequence, time, ingested: self.arrived.0 });
        }
        self.forget(watermark);
    }

    fn forget(&mut self, watermark: i64) {
        for number in self.windows.forget(watermark) {
            self.kept.remove(number);
        }
    }

    /// Adds the rows of a window to the results: key by key in the order of their first rows.
    fn give(&mut self, closing: &Closing, place: Place) {
        let mut numbers: HashMap<&[u8], usize> = HashMap::new();
        let mut groups: Vec<Vec<(u64, &Held)>> = Vec::new();
        for &number in &closing.rows {
            let held = self.kept.get(number);
            let group = *numbers.entry(&held.group).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Vec::new());
            }
            groups[group].push((number, held));
        }
        for mut rows in groups {
            rows.sort_by(|(a, left), (b, right)| left.order.cmp(&right.order).then(a.cmp(b)));
            for (_, held) in rows.iter().take(self.limit) {
                self.results.push(Arc::clone(&held.row.values), closing, place);
            }
        }
    }
}

impl Operator for WindowRows {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        self.waiting.extend(evaluate(&self.exprs, batch, self.on_error, out)?);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        self.windows.passed(watermark.progress.before);
        let waiting = std::mem::take(&mut self.waiting);
        let mut rows = Vec::with_capacity(waiting.len());
        for (batch, values) in &waiting {
            let (keys, order) = values.split_at(self.keys);
            let groups = self.groups.of(keys, batch.len())?;
            let order = self.order.of(order, batch.len())?;
            let kept = self.codec.encode(batch)?.into_iter();
            let held = kept.zip(groups).zip(order);
            rows.push(held.map(|((row, group), order)| Held { row, group, order }));
        }
        let places = waiting.iter().map(|(batch, _)| (&batch.sequence, batch.len()));
        for event in Walk::new(places, &watermark.progress) {
            match event {
                Event::Row { batch, watermark, .. } => {
                    if let Some(held) = rows[batch].next() {
                        self.take(held, watermark, out);
                    }
                }
                Event::Step(step) => self.close(step.sequence, step.time),
            }
        }
        if self.hold_us > 0 {
            out.progress = Some(watermark.progress.delayed(self.hold_us));
        }
        self.results.finish(&self.codec, out)
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.kept.checkpoint(state);
        self.windows.checkpoint(state);
        if std::mem::take(&mut self.arrived.1) {
            state.put(ARRIVED, self.arrived.0.to_be_bytes().to_vec());
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.waiting.clear();
        self.results.clear();
        self.arrived = (0, false);
        let mut others = self.kept.restore(state)?;
        if let Some(at) = others.iter().position(|(key, _)| *key == ARRIVED) {
            self.arrived.0 = StateReader::count(others.remove(at).1)? as i64;
        }
        self.windows.restore(&self.kept, &others)
    }

    fn state_rows(&self) -> u64 {
        self.kept.len()
    }

    fn state_bytes(&self) -> u64 {
        self.kept.bytes()
    }
}

fn late_reason(time: i64, end: i64, watermark: i64) -> String {
    use crate::reorder::instant;
    format!(
        "event time {} is too late for the window that ended at {}: the watermark is {}",
        instant(time),
        instant(end),
        instant(watermark)
    )
}

#[cfg(test)]
mod tests;
