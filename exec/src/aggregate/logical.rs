//! Whether all or some values are true.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;

use crate::error::Result;

use super::slots::{Kind, chosen, each, take};
use super::{Figure, Rows};

/// Which truth values have been seen.
pub(super) struct Truths;

const TRUE: u8 = 1;
const FALSE: u8 = 2;

impl Kind for Truths {
    type State = u8;

    fn update(&mut self, states: &mut [u8], rows: &Rows<'_>, _heap: &mut u64) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values = rows.args[0].as_boolean().values();
        each(rows.slots.len(), mask.as_ref(), |row| {
            states[rows.slots[row] as usize] |= if values.value(row) { TRUE } else { FALSE };
        });
        Ok(())
    }

    fn merge(&self, into: &mut u8, other: &u8) -> Result<()> {
        *into |= other;
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &u8>,
        figure: &Figure,
        _data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let all = *figure == Figure::All;
        let value = |seen: &u8| match (seen, all) {
            (0, _) => None,
            (seen, true) => Some(seen & FALSE == 0),
            (seen, false) => Some(seen & TRUE != 0),
        };
        Ok(Arc::new(states.map(value).collect::<BooleanArray>()))
    }

    fn write(&self, state: &u8, out: &mut Vec<u8>) {
        out.push(*state);
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<u8> {
        let [state] = take(bytes)?;
        Ok(state)
    }
}
