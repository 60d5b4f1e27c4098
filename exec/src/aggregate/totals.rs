//! Count, sum and mean.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type, i256,
};
use datafusion::common::{DataFusionError, internal_err};

use crate::error::Result;

use super::slots::{Kind, Slots, add_each, chosen, each, out_of_range, take};
use super::{Accumulator, Figure, Rows};

/// Number of rows whose arguments are all not null.
pub(super) struct Count;

impl Kind for Count {
    type State = i64;

    fn update(&mut self, states: &mut [i64], rows: &Rows<'_>, _heap: &mut u64) -> Result<()> {
        match chosen(rows.keep, rows.args) {
            None => rows.slots.iter().for_each(|slot| states[*slot as usize] += 1),
            mask => each(rows.slots.len(), mask.as_ref(), |row| {
                states[rows.slots[row] as usize] += 1;
            }),
        }
        Ok(())
    }

    fn merge(&self, into: &mut i64, other: &i64) -> Result<()> {
        *into += other;
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &i64>,
        _figure: &Figure,
        _data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        Ok(Arc::new(states.copied().collect::<Int64Array>()))
    }

    fn write(&self, state: &i64, out: &mut Vec<u8>) {
        out.extend(state.to_be_bytes());
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<i64> {
        Ok(i64::from_be_bytes(take(bytes)?))
    }
}

/// Sum and number of floats.
#[derive(Default, Clone, Copy)]
pub(super) struct FloatTotal {
    sum: f64,
    count: u64,
}

pub(super) struct FloatTotals<T>(PhantomData<fn() -> T>);

impl<T: ArrowPrimitiveType> Kind for FloatTotals<T>
where
    T::Native: Into<f64>,
{
    type State = FloatTotal;

    fn update(
        &mut self,
        states: &mut [FloatTotal],
        rows: &Rows<'_>,
        _heap: &mut u64,
    ) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values: &[T::Native] = rows.args[0].as_primitive::<T>().values();
        add_each(states, rows.slots, values, mask.as_ref(), |state, value| {
            state.sum += value.into();
            state.count += 1;
        });
        Ok(())
    }

    fn merge(&self, into: &mut FloatTotal, other: &FloatTotal) -> Result<()> {
        into.sum += other.sum;
        into.count += other.count;
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &FloatTotal>,
        figure: &Figure,
        _data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let value = |divided: bool| {
            move |s: &FloatTotal| {
                let divisor = if divided { s.count as f64 } else { 1.0 };
                (s.count > 0).then(|| s.sum / divisor)
            }
        };
        Ok(match figure {
            Figure::Count => Arc::new(states.map(|s| s.count as i64).collect::<Int64Array>()),
            Figure::Sum => Arc::new(states.map(value(false)).collect::<Float64Array>()),
            Figure::Avg => Arc::new(states.map(value(true)).collect::<Float64Array>()),
            other => return internal_err!("{other:?} of a total"),
        })
    }

    fn write(&self, state: &FloatTotal, out: &mut Vec<u8>) {
        out.extend(state.sum.to_bits().to_be_bytes());
        out.extend(state.count.to_be_bytes());
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<FloatTotal> {
        let sum = f64::from_bits(u64::from_be_bytes(take(bytes)?));
        Ok(FloatTotal { sum, count: u64::from_be_bytes(take(bytes)?) })
    }
}

/// Sum and number of exact numbers; the sum is in units of the argument's scale.
#[derive(Default, Clone, Copy)]
pub(super) struct ExactTotal {
    sum: i128,
    count: u64,
    /// The sum has left what 128 bits hold, so it is not known any more.
    lost: bool,
}

pub(super) struct ExactTotals<T> {
    /// Digits behind the point.
    scale: i8,
    of: PhantomData<fn() -> T>,
}

impl ExactTotal {
    fn add(&mut self, value: i128, count: u64) {
        let (sum, lost) = self.sum.overflowing_add(value);
        self.sum = sum;
        self.count += count;
        self.lost |= lost;
    }

    /// The mean with `digits` more digits behind the point, halves away from zero.
    fn mean(&self, digits: u32) -> Option<i128> {
        let sum =
            i256::from_i128(self.sum).checked_mul(i256::from_i128(10).checked_pow(digits)?)?;
        let count = i256::from_i128(i128::from(self.count));
        let twice = |n: i256| n.checked_mul(i256::from_i128(2));
        let (mean, rest) = (sum.checked_div(count)?, sum.checked_rem(count)?);
        let away = twice(rest.wrapping_abs())? >= count;
        let away = i256::from_i128(i128::from(away) * sum.signum().as_i128());
        mean.checked_add(away)?.to_i128()
    }
}

impl<T: ArrowPrimitiveType> Kind for ExactTotals<T>
where
    T::Native: Into<i128>,
{
    type State = ExactTotal;

    fn update(
        &mut self,
        states: &mut [ExactTotal],
        rows: &Rows<'_>,
        _heap: &mut u64,
    ) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values: &[T::Native] = rows.args[0].as_primitive::<T>().values();
        add_each(states, rows.slots, values, mask.as_ref(), |state, value| {
            state.add(value.into(), 1);
        });
        Ok(())
    }

    fn merge(&self, into: &mut ExactTotal, other: &ExactTotal) -> Result<()> {
        into.add(other.sum, other.count);
        into.lost |= other.lost;
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &ExactTotal>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        if *figure == Figure::Count {
            return Ok(Arc::new(states.map(|s| s.count as i64).collect::<Int64Array>()));
        }
        let states = states.map(|s| if s.lost { Err(out_of_range()) } else { Ok(s) });
        let filled = states.map(|s| s.map(|s| (s.count > 0).then_some(s)));
        Ok(match (figure, data_type) {
            (Figure::Avg, DataType::Float64) => {
                let unit = 10f64.powi(i32::from(self.scale));
                let mean = |s: &ExactTotal| s.sum as f64 / unit / s.count as f64;
                let means = filled.map(|s| Ok(s?.map(mean)));
                Arc::new(means.collect::<Result<Float64Array, DataFusionError>>()?)
            }
            (Figure::Avg, DataType::Decimal128(precision, scale)) => {
                let digits = u32::try_from(scale - self.scale).unwrap_or_default();
                let means =
                    filled.map(|s| s?.map(|s| s.mean(digits).ok_or_else(out_of_range)).transpose());
                decimals(means.collect::<Result<_, _>>()?, *precision, *scale)?
            }
            (Figure::Sum, DataType::Int64) => {
                let sums = filled.map(|s| {
                    s?.map(|s| i64::try_from(s.sum)).transpose().map_err(|_| out_of_range())
                });
                Arc::new(sums.collect::<Result<Int64Array, DataFusionError>>()?)
            }
            (Figure::Sum, DataType::UInt64) => {
                let sums = filled.map(|s| {
                    s?.map(|s| u64::try_from(s.sum)).transpose().map_err(|_| out_of_range())
                });
                Arc::new(sums.collect::<Result<UInt64Array, DataFusionError>>()?)
            }
            (Figure::Sum, DataType::Decimal128(precision, scale)) => {
                let sums = filled.map(|s| Ok(s?.map(|s| s.sum)));
                decimals(sums.collect::<Result<_, DataFusionError>>()?, *precision, *scale)?
            }
            (figure, data_type) => return internal_err!("{figure:?} of a total as {data_type}"),
        })
    }

    fn write(&self, state: &ExactTotal, out: &mut Vec<u8>) {
        out.extend(state.sum.to_be_bytes());
        out.extend(state.count.to_be_bytes());
        out.push(u8::from(state.lost));
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<ExactTotal> {
        let sum = i128::from_be_bytes(take(bytes)?);
        let count = u64::from_be_bytes(take(bytes)?);
        Ok(ExactTotal { sum, count, lost: take::<1>(bytes)? != [0] })
    }
}

fn decimals(
    values: Vec<Option<i128>>,
    precision: u8,
    scale: i8,
) -> Result<ArrayRef, DataFusionError> {
    let array = Decimal128Array::from(values).with_precision_and_scale(precision, scale)?;
    array.validate_decimal_precision(precision).map_err(|_| out_of_range())?;
    Ok(Arc::new(array))
}

/// Totals of a column of this type; `None` when it is not a number.
pub(super) fn totals(data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    fn exact<T: ArrowPrimitiveType>(scale: i8) -> Option<Box<dyn Accumulator>>
    where
        T::Native: Into<i128>,
    {
        Some(Box::new(Slots::new(ExactTotals::<T> { scale, of: PhantomData })))
    }
    match data_type {
        DataType::Int8 => exact::<Int8Type>(0),
        DataType::Int16 => exact::<Int16Type>(0),
        DataType::Int32 => exact::<Int32Type>(0),
        DataType::Int64 => exact::<Int64Type>(0),
        DataType::UInt8 => exact::<UInt8Type>(0),
        DataType::UInt16 => exact::<UInt16Type>(0),
        DataType::UInt32 => exact::<UInt32Type>(0),
        DataType::UInt64 => exact::<UInt64Type>(0),
        DataType::Decimal32(_, scale) => exact::<Decimal32Type>(*scale),
        DataType::Decimal64(_, scale) => exact::<Decimal64Type>(*scale),
        DataType::Decimal128(_, scale) => exact::<Decimal128Type>(*scale),
        DataType::Float32 => Some(Box::new(Slots::new(FloatTotals::<Float32Type>(PhantomData)))),
        DataType::Float64 => Some(Box::new(Slots::new(FloatTotals::<Float64Type>(PhantomData)))),
        _ => None,
    }
}
