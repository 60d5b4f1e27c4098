//! Smallest and greatest value.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, ArrowNativeTypeOp, ArrowPrimitiveType, DataType, Date32Type, Decimal128Type,
    Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    ToByteSlice, UInt64Type,
};
use arrow::row::{RowConverter, SortField};
use datafusion::common::DataFusionError;

use crate::error::{ExecError, Result};

use super::slots::{Kind, Slots, add_each, chosen, each, put_len, take, take_len, take_slice};
use super::{Accumulator, Figure, Rows};

/// How values are compared.
pub(super) trait Less<T>: Send + 'static {
    fn less(a: T, b: T) -> bool;
}

/// By value.
pub(super) struct ByValue;

impl<T: ArrowNativeTypeOp> Less<T> for ByValue {
    #[inline]
    fn less(a: T, b: T) -> bool {
        a.is_lt(b)
    }
}

/// NaN is greater than all numbers and equal to itself, the two zeros are equal.
pub(super) struct Floats;

impl Less<f64> for Floats {
    #[inline]
    fn less(a: f64, b: f64) -> bool {
        a < b || (b.is_nan() && !a.is_nan())
    }
}

impl Less<f32> for Floats {
    #[inline]
    fn less(a: f32, b: f32) -> bool {
        a < b || (b.is_nan() && !a.is_nan())
    }
}

/// Smallest and greatest value of a slot, if there is any.
#[derive(Default, Clone, Copy)]
pub(super) struct Range<T> {
    least: T,
    greatest: T,
    filled: bool,
}

/// Extremes of fixed-width values.
pub(super) struct Extremes<T, L>(PhantomData<fn() -> (T, L)>);

impl<T: ArrowPrimitiveType, L: Less<T::Native>> Extremes<T, L> {
    #[inline]
    fn add(state: &mut Range<T::Native>, least: T::Native, greatest: T::Native) {
        if !state.filled {
            *state = Range { least, greatest, filled: true };
            return;
        }
        if L::less(least, state.least) {
            state.least = least;
        }
        if L::less(state.greatest, greatest) {
            state.greatest = greatest;
        }
    }
}

impl<T: ArrowPrimitiveType, L: Less<T::Native>> Kind for Extremes<T, L> {
    type State = Range<T::Native>;

    fn update(
        &mut self,
        states: &mut [Self::State],
        rows: &Rows<'_>,
        _heap: &mut u64,
    ) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values: &[T::Native] = rows.args[0].as_primitive::<T>().values();
        add_each(states, rows.slots, values, mask.as_ref(), |state, value| {
            Self::add(state, value, value);
        });
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, other: &Self::State) -> Result<()> {
        if other.filled {
            Self::add(into, other.least, other.greatest);
        }
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Self::State>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let least = *figure == Figure::Min;
        let (values, filled): (Vec<T::Native>, Vec<bool>) =
            states.map(|s| (if least { s.least } else { s.greatest }, s.filled)).unzip();
        let nulls = NullBuffer::from(filled);
        let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), Some(nulls))?;
        Ok(Arc::new(array.with_data_type(data_type.clone())))
    }

    fn write(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.filled));
        if state.filled {
            out.extend(state.least.to_byte_slice());
            out.extend(state.greatest.to_byte_slice());
        }
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Self::State> {
        if take::<1>(bytes)? == [0] {
            return Ok(Range::default());
        }
        let pair = take_slice(bytes, 2 * T::Native::get_byte_width())?;
        let pair = ScalarBuffer::<T::Native>::new(Buffer::from(pair), 0, 2);
        Ok(Range { least: pair[0], greatest: pair[1], filled: true })
    }
}

/// Extremes of values of any width, in arrow's row format, whose bytes have the order of the values.
pub(super) struct WideExtremes {
    converter: RowConverter,
}

/// Smallest and greatest value.
type WideRange = Option<(Box<[u8]>, Box<[u8]>)>;

impl Kind for WideExtremes {
    type State = WideRange;

    fn update(
        &mut self,
        states: &mut [Self::State],
        rows: &Rows<'_>,
        heap: &mut u64,
    ) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values = self.converter.convert_columns(&rows.args[..1])?;
        each(rows.slots.len(), mask.as_ref(), |row| {
            let state = &mut states[rows.slots[row] as usize];
            let value = values.row(row);
            let value: &[u8] = value.as_ref();
            *heap -= self.heap(state);
            widen(state, value, value);
            *heap += self.heap(state);
        });
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, other: &Self::State) -> Result<()> {
        if let Some((least, greatest)) = other {
            widen(into, least, greatest);
        }
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Self::State>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let null = self.converter.convert_columns(&[arrow::array::new_null_array(data_type, 1)])?;
        let parser = self.converter.parser();
        let rows = states.map(|state| match state {
            None => null.row(0),
            Some((least, _)) if *figure == Figure::Min => parser.parse(least),
            Some((_, greatest)) => parser.parse(greatest),
        });
        let rows: Vec<_> = rows.collect();
        Ok(self.converter.convert_rows(rows)?.remove(0))
    }

    fn write(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some((least, greatest)) = state {
            for value in [least, greatest] {
                put_len(value.len(), out);
                out.extend(value.as_ref());
            }
        }
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Self::State> {
        if take::<1>(bytes)? == [0] {
            return Ok(None);
        }
        let mut value = || -> Result<Box<[u8]>> {
            let len = take_len(bytes)?;
            Ok(take_slice(bytes, len)?.into())
        };
        Ok(Some((value()?, value()?)))
    }

    fn heap(&self, state: &Self::State) -> u64 {
        state.as_ref().map_or(0, |(least, greatest)| (least.len() + greatest.len()) as u64)
    }
}

fn widen(state: &mut WideRange, least: &[u8], greatest: &[u8]) {
    match state {
        None => *state = Some((least.into(), greatest.into())),
        Some((low, high)) => {
            if least < low.as_ref() {
                *low = least.into();
            }
            if greatest > high.as_ref() {
                *high = greatest.into();
            }
        }
    }
}

/// Extremes of a column of this type.
pub(super) fn extremes(data_type: &DataType) -> Result<Box<dyn Accumulator>> {
    fn floats<T: ArrowPrimitiveType>() -> Result<Box<dyn Accumulator>>
    where
        Floats: Less<T::Native>,
    {
        Ok(Box::new(Slots::new(Extremes::<T, Floats>(PhantomData))))
    }
    macro_rules! by_value {
        ($t:ty) => {
            Ok(Box::new(Slots::new(Extremes::<$t, ByValue>(PhantomData))))
        };
    }
    match data_type {
        DataType::Float64 => floats::<Float64Type>(),
        DataType::Float32 => floats::<Float32Type>(),
        DataType::Int16 => by_value!(Int16Type),
        DataType::Int32 => by_value!(Int32Type),
        DataType::Int64 => by_value!(Int64Type),
        DataType::UInt64 => by_value!(UInt64Type),
        DataType::Date32 => by_value!(Date32Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => by_value!(TimestampMicrosecondType),
        DataType::Decimal128(..) => by_value!(Decimal128Type),
        _ => {
            let fields = vec![SortField::new(data_type.clone())];
            if !RowConverter::supports_fields(&fields) {
                return Err(ExecError::Unsupported(format!("min or max of {data_type}")));
            }
            Ok(Box::new(Slots::new(WideExtremes { converter: RowConverter::new(fields)? })))
        }
    }
}
