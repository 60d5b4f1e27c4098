//! For each left row the latest right row at or before it.
//!
//! Rows are taken in event-time order, the right ones of a time before the left ones (behind them,
//! when equal times do not match), so the row that counts is always the last one of its key.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use datafusion::common::JoinType;

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::operators::evaluate;
use crate::reorder::{Reorder, flat};

use super::JoinParts;
use super::gather::{NO_ROW, Pairs, Sources};
use super::keys::{Interner, JoinKeys, KeyTable, NULL};
use super::store::RowStore;

/// Tag of the right rows in saved state; the reorder buffer has 0 and 1.
const TAG: u8 = 0x10;

/// See the module.
pub struct AsOfJoin {
    kind: JoinType,
    tolerance_us: Option<i64>,
    schemas: [SchemaRef; 2],
    schema: SchemaRef,
    on_error: OnError,
    reorder: Reorder,
    keys: [JoinKeys; 2],
    /// Right rows, of which the last of each key count.
    store: RowStore,
    latest: KeyTable<Latest>,
    known: Interner,
    /// Rows after the last compaction.
    compacted: usize,
}

/// The last right row of a key.
#[derive(Default)]
struct Latest {
    /// 1 + its number; 0 when there is none.
    row: u64,
    time: i64,
}

impl AsOfJoin {
    /// With `strict`, equal times do not match; `tolerance_us` is how much older a right row may be.
    ///
    /// # Errors
    /// When keys of these types cannot be compared, and for a condition besides them.
    pub fn new(parts: JoinParts, strict: bool, tolerance_us: Option<i64>) -> Result<AsOfJoin> {
        let JoinParts { kind, keys: [left, right], filter, schemas, schema, on_error, .. } = parts;
        if filter.is_some() {
            return Err(ExecError::Unsupported("a further condition in an AS OF join".into()));
        }
        let reorder = Reorder::new(schemas.to_vec());
        Ok(AsOfJoin {
            kind,
            tolerance_us,
            reorder: reorder.last_of_its_time(usize::from(strict)),
            keys: [JoinKeys::new(left)?, JoinKeys::new(right)?],
            store: RowStore::new(TAG, Arc::clone(&schemas[1])),
            schemas,
            schema,
            on_error,
            latest: KeyTable::new(),
            known: Interner::default(),
            compacted: 0,
        })
    }

    /// Whether a right row can still be the partner of a left row at `time`.
    fn is_recent(tolerance_us: Option<i64>, right: i64, time: i64) -> bool {
        tolerance_us.is_none_or(|most| i128::from(time) - i128::from(right) <= i128::from(most))
    }

    /// Drops rows that no left row from `watermark` on can get, when they are the most.
    fn compact(&mut self, watermark: i64) -> Result<()> {
        if self.store.rows() <= 2 * self.compacted + 8192 {
            return Ok(());
        }
        let tolerance = self.tolerance_us;
        self.latest.retain(|latest| Self::is_recent(tolerance, latest.time, watermark));
        let latest = &self.latest;
        self.known.retain(|key| latest.get(key).is_some());
        let mut numbers: Vec<u64> = self.latest.values().map(|latest| latest.row - 1).collect();
        numbers.sort_unstable();
        // Each table entry's new number is its rank.
        self.latest.retain(|latest| {
            let old = latest.row - 1;
            latest.row = numbers.partition_point(|number| *number < old) as u64 + 1;
            true
        });
        self.store.keep(&numbers)?;
        self.compacted = self.store.rows();
        Ok(())
    }

    fn set(&mut self, key: u128, number: u64, time: i64) {
        if key != NULL {
            *self.latest.entry(key) = Latest { row: number + 1, time };
        }
    }
}

impl Operator for AsOfJoin {
    fn describe(&self) -> String {
        format!("{} AS OF join", self.kind)
    }

    fn on_batch(&mut self, input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        let keys = &self.keys[input.0];
        if keys.are_columns() {
            self.reorder.push(input, batch);
        } else if let Some((batch, _)) = evaluate(keys.exprs(), batch, self.on_error, out)? {
            self.reorder.push(input, batch);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let mut released = self.reorder.release(watermark, out)?;
        let (mut keys, mut times) = (Vec::with_capacity(2), Vec::with_capacity(2));
        for (dues, side) in released.inputs.iter().zip(&self.keys) {
            let mut of_side = Vec::new();
            for due in dues {
                of_side.extend(side.of(&due.batch.rows, &mut self.known)?);
            }
            keys.push(of_side);
            times.push(flat(dues, |due| &due.batch.time));
        }
        let first = self.store.end();
        for due in std::mem::take(&mut released.inputs[1]) {
            self.store.push(due.batch)?;
        }
        let lefts = &released.inputs[0];
        let places = flat(lefts, |due| &due.place);
        let ingested = flat(lefts, |due| &due.ingested);
        let mut rows = Pairs::default();
        let mut next = [0usize; 2];
        for (side, count) in &released.order {
            for row in next[*side]..next[*side] + count {
                let (key, time) = (keys[*side][row], times[*side][row]);
                if *side == 1 {
                    self.set(key, first + row as u64, time);
                    continue;
                }
                let latest = if key == NULL { None } else { self.latest.get(key) };
                let right = latest
                    .filter(|latest| Self::is_recent(self.tolerance_us, latest.time, time))
                    .map_or(NO_ROW, |latest| latest.row - 1);
                if right != NO_ROW || self.kind == JoinType::Left {
                    rows.push([row as u64, right], places[row], time, ingested[row]);
                }
            }
            next[*side] += count;
        }
        if rows.len() > 0 {
            let left = Sources::from_zero(lefts.iter().map(|due| &due.batch));
            let sides = [left, self.store.sources()];
            out.emit(rows.batch(&sides, &self.schemas, &self.schema)?);
        }
        self.store.tidy()?;
        self.compact(watermark.progress.last())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.reorder.checkpoint(state)?;
        self.store.checkpoint(state)
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.reorder.restore(state)?;
        self.latest.clear();
        self.store.restore(state)?;
        self.compacted = 0;
        let batches: Vec<(u64, Batch, Vec<u8>)> = self.store.batches().collect();
        for (start, batch, _) in batches {
            let keys = self.keys[1].of(&batch.rows, &mut self.known)?;
            for (row, key) in keys.into_iter().enumerate() {
                self.set(key, start + row as u64, batch.time.get(row));
            }
        }
        Ok(())
    }

    fn state_rows(&self) -> u64 {
        self.reorder.rows() + self.store.rows() as u64
    }

    fn state_bytes(&self) -> u64 {
        let rows = self.reorder.bytes() + self.store.bytes();
        rows + self.latest.bytes() + self.known.bytes()
    }
}
