//! Kept rows on their way out.

use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;

use crate::batch::batch_of;
use crate::error::{Result, RowFailure};
use crate::operator::Output;
use crate::operators::refuse;
use crate::operators::slots::Slots;
use crate::rows::{KeptRow, RowCodec};

/// Where and when a row is given.
#[derive(Debug, Clone, Copy)]
pub(in crate::operators) struct Place {
    pub(in crate::operators) sequence: i64,
    pub(in crate::operators) time: i64,
    pub(in crate::operators) ingested: i64,
}

/// The rows given during one step, with the slots of their aggregates when there are any.
pub(in crate::operators) struct Given {
    /// The input's columns, then the aggregates.
    schema: SchemaRef,
    rows: Vec<KeptRow>,
    slots: Vec<u32>,
}

impl Given {
    pub(in crate::operators) fn new(schema: SchemaRef) -> Given {
        Given { schema, rows: Vec::new(), slots: Vec::new() }
    }

    /// Adds a row. With aggregates every row has a slot, which is given back later.
    pub(in crate::operators) fn push(&mut self, row: &KeptRow, place: Place, slot: Option<u32>) {
        let Place { sequence, time, ingested } = place;
        self.rows.push(KeptRow { sequence, time, ingested, ..row.clone() });
        self.slots.extend(slot);
    }

    pub(in crate::operators) fn clear(&mut self) {
        self.rows.clear();
        self.slots.clear();
    }

    /// Emits what was pushed; a row whose aggregates cannot be represented is refused.
    ///
    /// # Errors
    /// [`crate::ExecError::Row`] when the policy is to stop.
    pub(in crate::operators) fn finish(
        &mut self,
        codec: &RowCodec,
        slots: Option<&mut Slots>,
        on_error: OnError,
        out: &mut Output,
    ) -> Result<()> {
        let mut rows: Vec<&KeptRow> = self.rows.iter().collect();
        let mut results = Vec::new();
        if let Some(slots) = slots {
            let found = slots.results(&self.slots, on_error)?;
            out.nulled += found.nulled;
            for (position, reason) in found.failed {
                let row = rows[position];
                let (stream, offset) = (row.stream as u32, row.offset as u64);
                let failure = RowFailure { stream, offset, sequence: row.sequence, reason };
                refuse(failure, on_error, out)?;
            }
            if let Some(kept) = found.kept {
                rows = kept.iter().map(|position| rows[*position as usize]).collect();
            }
            results = found.columns;
            slots.give_back(&self.slots);
        }
        if !rows.is_empty() {
            let batch = codec.decode(&rows)?;
            let columns = batch.rows.columns().iter().cloned().chain(results).collect();
            let with_results = batch_of(SchemaRef::clone(&self.schema), columns, batch.len())?;
            out.emit(batch.with_rows(with_results));
        }
        self.clear();
        Ok(())
    }
}
