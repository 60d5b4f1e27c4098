//! Median and percentiles: all values are kept.

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use auspex_plan::functions::percentile;
use datafusion::common::{DataFusionError, internal_err};

use crate::error::Result;

use super::slots::{Kind, chosen, each, put_len, take, take_len};
use super::{Figure, Rows};

/// The values of a column of floats.
pub(super) struct Sample;

impl Kind for Sample {
    type State = Vec<f64>;

    fn update(&mut self, states: &mut [Vec<f64>], rows: &Rows<'_>, heap: &mut u64) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values = rows.args[0].as_primitive::<Float64Type>().values();
        each(rows.slots.len(), mask.as_ref(), |row| {
            let state = &mut states[rows.slots[row] as usize];
            let before = state.capacity();
            state.push(values[row]);
            *heap += ((state.capacity() - before) * size_of::<f64>()) as u64;
        });
        Ok(())
    }

    fn merge(&self, into: &mut Vec<f64>, other: &Vec<f64>) -> Result<()> {
        into.extend(other);
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Vec<f64>>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let Figure::Percentile(share) = figure else {
            return internal_err!("{figure:?} of a sample");
        };
        let values = states.map(|values| percentile(values, *share)).collect::<Float64Array>();
        Ok(cast(&values, data_type)?)
    }

    fn write(&self, state: &Vec<f64>, out: &mut Vec<u8>) {
        put_len(state.len(), out);
        out.extend(state.iter().flat_map(|value| value.to_bits().to_be_bytes()));
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Vec<f64>> {
        let len = take_len(bytes)?;
        (0..len).map(|_| Ok(f64::from_bits(u64::from_be_bytes(take(bytes)?)))).collect()
    }

    fn is_small(&self) -> bool {
        false
    }

    fn heap(&self, state: &Vec<f64>) -> u64 {
        (state.capacity() * size_of::<f64>()) as u64
    }
}
