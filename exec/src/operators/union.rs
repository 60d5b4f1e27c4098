//! Several inputs as one, in global order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::datatypes::SchemaRef;

use crate::batch::{Batch, rows_below};
use crate::error::Result;
use crate::operator::{Input, Operator, Output, Watermark};

/// Merges its inputs by their rows' places in the global order; rows of the same place come in the
/// order of the inputs, and each input keeps its own order.
pub struct Union {
    held: Vec<Vec<Batch>>,
    schema: SchemaRef,
}

impl Union {
    /// A union of `inputs` inputs with the columns of `schema` in common.
    pub fn new(inputs: usize, schema: SchemaRef) -> Union {
        Union { held: vec![Vec::new(); inputs], schema }
    }

    /// Takes what lies below `sequence` out of the held rows, per input.
    fn ripe(&mut self, sequence: i64) -> Vec<Vec<Batch>> {
        self.held
            .iter_mut()
            .map(|held| {
                let mut ripe = Vec::new();
                for batch in std::mem::take(held) {
                    let len = batch.len();
                    let cut = rows_below(&batch.sequence, len, sequence);
                    if cut > 0 {
                        ripe.push(batch.slice(0, cut));
                    }
                    if cut < len {
                        held.push(batch.slice(cut, len - cut));
                    }
                }
                ripe
            })
            .collect()
    }
}

impl Operator for Union {
    fn describe(&self) -> String {
        "Union".into()
    }

    fn on_batch(&mut self, input: Input, batch: Batch, _out: &mut Output) -> Result<()> {
        if !batch.is_empty() {
            // Branches may name their columns differently.
            let rows = batch.rows.clone().with_schema(self.schema.clone())?;
            self.held[input.0].push(batch.with_rows(rows));
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let ripe = self.ripe(watermark.sequence);
        if ripe.iter().filter(|batches| !batches.is_empty()).count() <= 1 {
            ripe.into_iter().flatten().for_each(|batch| out.emit(batch));
            return Ok(());
        }
        let mut batches = Vec::new();
        // First row, batch number, of each input's next batch.
        let mut inputs: Vec<std::ops::Range<usize>> = Vec::new();
        for held in ripe {
            let from = batches.len();
            batches.extend(held);
            inputs.push(from..batches.len());
        }
        let mut rows = vec![0usize; inputs.len()];
        let mut heap: BinaryHeap<Reverse<(i64, usize)>> = inputs
            .iter()
            .enumerate()
            .filter(|(_, range)| !range.is_empty())
            .map(|(input, range)| Reverse((batches[range.start].sequence.get(0), input)))
            .collect();
        let mut picks = Vec::with_capacity(batches.iter().map(Batch::len).sum());
        while let Some(Reverse((_, input))) = heap.pop() {
            let range = &mut inputs[input];
            picks.push((range.start, rows[input]));
            rows[input] += 1;
            if rows[input] == batches[range.start].len() {
                rows[input] = 0;
                range.start += 1;
            }
            if range.start < range.end {
                heap.push(Reverse((batches[range.start].sequence.get(rows[input]), input)));
            }
        }
        out.emit(Batch::interleave(&batches, &picks)?);
        Ok(())
    }

    // Held rows are always below the next watermark of the same step, so nothing is kept between
    // steps and there is no state to write. A restart drops what a broken step left.
    fn restore(&mut self, _state: &crate::operator::StateReader) -> Result<()> {
        self.held.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}
