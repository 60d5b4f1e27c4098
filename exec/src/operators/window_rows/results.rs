//! Rows of closed windows on their way out.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use auspex_plan::types::UTC;
use auspex_storage::Run;

use crate::batch::{Batch, batch_of};
use crate::error::{Result, RowFailure};
use crate::operator::Output;
use crate::rows::RowCodec;

use super::Closing;

/// Where a result stands: its place, event time and arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) sequence: i64,
    pub(super) time: i64,
    pub(super) ingested: i64,
}

/// The rows given during one step.
pub(super) struct Results {
    /// The input's columns, then the window's start and end.
    schema: SchemaRef,
    values: Vec<Arc<[u8]>>,
    bounds: Vec<(i64, i64)>,
    places: Vec<Place>,
}

impl Results {
    pub(super) fn new(schema: SchemaRef) -> Results {
        Results { schema, values: Vec::new(), bounds: Vec::new(), places: Vec::new() }
    }

    pub(super) fn push(&mut self, values: Arc<[u8]>, window: &Closing, place: Place) {
        self.values.push(values);
        self.bounds.push((window.start, window.end));
        self.places.push(place);
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.bounds.clear();
        self.places.clear();
    }

    /// Emits what was pushed.
    pub(super) fn finish(&mut self, codec: &RowCodec, out: &mut Output) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let mut columns = codec.columns(self.values.iter().map(AsRef::as_ref))?;
        let bound = |f: fn(&(i64, i64)) -> i64| -> ArrayRef {
            let values = self.bounds.iter().map(f);
            Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone(UTC))
        };
        columns.extend([bound(|b| b.0), bound(|b| b.1)]);
        let run = |f: fn(&Place) -> i64| Run::Each(self.places.iter().map(f).collect());
        let rows = batch_of(SchemaRef::clone(&self.schema), columns, self.values.len())?;
        let (sequence, time, ingested) =
            (run(|p| p.sequence), run(|p| p.time), run(|p| p.ingested));
        let stream = Run::Constant(i64::from(RowFailure::NO_STREAM));
        out.emit(Batch { rows, sequence, time, ingested, stream, offset: Run::Constant(0) });
        self.clear();
        Ok(())
    }
}
