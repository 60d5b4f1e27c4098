//! The first or last value, by event time and arrival or by an order of its own.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::RowConverter;
use datafusion::common::DataFusionError;

use crate::error::Result;

use super::slots::{Kind, chosen, each, put_len, take, take_len, take_slice};
use super::{Figure, Rows};

/// Keeps one value: the first argument. The others say in which order (before event time).
pub(super) struct Outermost {
    pub(super) values: RowConverter,
    /// `None` when event time alone decides.
    pub(super) orders: Option<RowConverter>,
    pub(super) last: bool,
    pub(super) ignore_nulls: bool,
}

/// A value with its place.
#[derive(Default)]
pub(super) struct Placed {
    filled: bool,
    time: i64,
    ordinal: u64,
    order: Vec<u8>,
    value: Vec<u8>,
}

impl Placed {
    fn place(&self) -> (&[u8], i64, u64) {
        (&self.order, self.time, self.ordinal)
    }

    /// Whether a value at `place` is to be kept instead.
    fn yields(&self, place: (&[u8], i64, u64), last: bool) -> bool {
        let wanted = if last { Ordering::Greater } else { Ordering::Less };
        !self.filled || place.cmp(&self.place()) == wanted
    }

    fn set(&mut self, (order, time, ordinal): (&[u8], i64, u64), value: &[u8]) {
        self.filled = true;
        (self.time, self.ordinal) = (time, ordinal);
        self.order.clear();
        self.order.extend(order);
        self.value.clear();
        self.value.extend(value);
    }
}

impl Kind for Outermost {
    type State = Placed;

    fn update(&mut self, states: &mut [Placed], rows: &Rows<'_>, heap: &mut u64) -> Result<()> {
        let nulls = if self.ignore_nulls { &rows.args[..1] } else { &[] };
        let mask = chosen(rows.keep, nulls);
        let values = self.values.convert_columns(&rows.args[..1])?;
        let orders = self.orders.as_ref().map(|orders| orders.convert_columns(&rows.args[1..]));
        let orders = orders.transpose()?;
        each(rows.slots.len(), mask.as_ref(), |row| {
            let state = &mut states[rows.slots[row] as usize];
            let order = orders.as_ref().map(|orders| orders.row(row));
            let order: &[u8] = order.as_ref().map_or(&[], AsRef::as_ref);
            let place = (order, rows.places.time.get(row), rows.places.ordinal + row as u64);
            if state.yields(place, self.last) {
                *heap -= self.heap(state);
                state.set(place, values.row(row).as_ref());
                *heap += self.heap(state);
            }
        });
        Ok(())
    }

    fn merge(&self, into: &mut Placed, other: &Placed) -> Result<()> {
        if other.filled && into.yields(other.place(), self.last) {
            into.set(other.place(), &other.value);
        }
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Placed>,
        _figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let null = self.values.convert_columns(&[arrow::array::new_null_array(data_type, 1)])?;
        let parser = self.values.parser();
        let row = |s: &Placed| s.filled.then(|| s.value.clone());
        let values: Vec<Option<Vec<u8>>> = states.map(row).collect();
        let values = values.iter().map(|v| v.as_ref().map_or(null.row(0), |v| parser.parse(v)));
        Ok(self.values.convert_rows(values)?.remove(0))
    }

    fn write(&self, state: &Placed, out: &mut Vec<u8>) {
        out.push(u8::from(state.filled));
        if state.filled {
            out.extend(state.time.to_be_bytes());
            out.extend(state.ordinal.to_be_bytes());
            for bytes in [&state.order, &state.value] {
                put_len(bytes.len(), out);
                out.extend(bytes);
            }
        }
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Placed> {
        if take::<1>(bytes)? == [0] {
            return Ok(Placed::default());
        }
        let time = i64::from_be_bytes(take(bytes)?);
        let ordinal = u64::from_be_bytes(take(bytes)?);
        let mut part = || -> Result<Vec<u8>> {
            let len = take_len(bytes)?;
            Ok(take_slice(bytes, len)?.to_vec())
        };
        Ok(Placed { filled: true, time, ordinal, order: part()?, value: part()? })
    }

    fn heap(&self, state: &Placed) -> u64 {
        (state.order.capacity() + state.value.capacity()) as u64
    }
}
