//! Each row again, later.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;
use auspex_plan::{OnError, time::duration};

use crate::batch::Batch;
use crate::error::Result;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::operators::kept::{Held, Kept};
use crate::operators::periods::{Given, Place};
use crate::operators::walk::{Event, Walk};
use crate::rows::RowCodec;

/// Key under which the arrival of the last row is saved.
const ARRIVED: &[u8] = b"i";

/// Gives each row when the watermark reaches its event time + the delay, which then is its event
/// time. Rows come out in the order of event times, then places. A row that is later than the delay
/// comes out at once.
pub struct Delay {
    delay_us: i64,
    codec: RowCodec,
    waiting: Vec<Batch>,
    kept: Kept,
    /// New event times and numbers of the kept rows.
    due: BTreeSet<(i64, u64)>,
    arrived: (i64, bool),
    given: Given,
}

impl Delay {
    /// For rows of `schema`.
    ///
    /// # Errors
    /// For columns that cannot be kept.
    pub fn new(delay_us: i64, schema: SchemaRef) -> Result<Delay> {
        Ok(Delay {
            delay_us,
            codec: RowCodec::new(SchemaRef::clone(&schema))?,
            waiting: Vec::new(),
            kept: Kept::default(),
            due: BTreeSet::new(),
            arrived: (0, false),
            given: Given::new(schema),
        })
    }
}

impl Operator for Delay {
    fn describe(&self) -> String {
        format!("Delay {}", duration(self.delay_us))
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, _out: &mut Output) -> Result<()> {
        self.waiting.push(batch);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let rows = waiting.iter().map(|batch| Ok(self.codec.encode(batch)?.into_iter()));
        let mut rows = rows.collect::<Result<Vec<_>>>()?;
        let places = waiting.iter().map(|batch| (&batch.sequence, batch.len()));
        for event in Walk::new(places, &watermark.progress) {
            match event {
                Event::Row { batch, watermark, .. } => {
                    let Some(row) = rows[batch].next() else { continue };
                    self.arrived = (row.ingested, true);
                    let time = row.time.saturating_add(self.delay_us);
                    if time <= watermark {
                        let place = Place { sequence: row.sequence, time, ingested: row.ingested };
                        self.given.push(&row, place, None);
                    } else {
                        let held = Held { row, group: [].into(), order: [].into() };
                        self.due.insert((time, self.kept.push(held)));
                    }
                }
                Event::Step(step) => {
                    while let Some((time, number)) = self.due.first().copied()
                        && time <= step.time
                    {
                        self.due.pop_first();
                        let place =
                            Place { sequence: step.sequence, time, ingested: self.arrived.0 };
                        self.given.push(&self.kept.get(number).row, place, None);
                        self.kept.remove(number);
                    }
                }
            }
        }
        self.given.finish(&self.codec, None, OnError::Skip, out)
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.kept.checkpoint(state);
        if std::mem::take(&mut self.arrived.1) {
            state.put(ARRIVED, self.arrived.0.to_be_bytes().to_vec());
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.waiting.clear();
        self.given.clear();
        self.arrived = (0, false);
        for (_, value) in self.kept.restore(state)? {
            self.arrived.0 = StateReader::count(value)? as i64;
        }
        let due = self.kept.iter();
        self.due = due.map(|(n, held)| (held.row.time.saturating_add(self.delay_us), n)).collect();
        Ok(())
    }

    fn state_rows(&self) -> u64 {
        self.kept.len()
    }

    fn state_bytes(&self) -> u64 {
        self.kept.bytes()
    }
}
