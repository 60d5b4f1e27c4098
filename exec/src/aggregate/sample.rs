//! Median and percentiles: all values are kept.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
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

    fn heap(&self, state: &Vec<f64>) -> u64 {
        (state.capacity() * size_of::<f64>()) as u64
    }
}

/// NaN is greater than all numbers and equal to itself.
fn order(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The value at `share` of the way from the smallest to the greatest, interpolated between
/// neighbours; `None` of nothing.
fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = share * last as f64;
    let below = (place.floor() as usize).min(last);
    let part = place - below as f64;
    let mut values = values.to_vec();
    let (_, low, above) = values.select_nth_unstable_by(below, order);
    let low = *low;
    let high = above.iter().copied().min_by(order).unwrap_or(low);
    Some(if part == 0.0 || low == high { low } else { low + part * (high - low) })
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_lie_between_neighbours() {
        let values = [50.0, 10.0, 40.0, 20.0, 30.0];
        let of = |share| percentile(&values, share);
        assert_eq!([of(0.0), of(0.25), of(0.5)], [Some(10.0), Some(20.0), Some(30.0)]);
        assert_eq!([of(0.9), of(1.0)], [Some(46.0), Some(50.0)]);
        assert_eq!(percentile(&[1.0, 4.0], 0.9), Some(3.7));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(
            percentile(&[f64::INFINITY, f64::INFINITY, f64::NAN], 0.25),
            Some(f64::INFINITY)
        );
    }
}
