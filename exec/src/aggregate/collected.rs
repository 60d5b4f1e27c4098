//! Aggregates that need their rows in order: lists, joined texts, moving averages.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StringBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::RowConverter;
use auspex_plan::functions::moving_average;
use datafusion::common::{DataFusionError, internal_err};

use crate::error::Result;

use super::slots::{Kind, chosen, each, put_len, take, take_len, take_slice};
use super::{Figure, Rows};

/// Keeps the values of the first arguments of all rows. The other arguments say in which order
/// (before event time and arrival).
pub(super) struct Collected {
    /// Of the values.
    pub(super) values: RowConverter,
    /// Number of arguments that are values.
    pub(super) width: usize,
    /// `None` when event time alone decides.
    pub(super) orders: Option<RowConverter>,
    /// Whether rows whose first value is null are left out.
    pub(super) ignore_nulls: bool,
}

/// Rows in the order in which they came.
#[derive(Default)]
pub(super) struct Entries {
    places: Vec<(i64, u64)>,
    values: Pieces,
    /// Empty when event time alone decides.
    orders: Pieces,
}

/// Byte strings one after the other.
#[derive(Default)]
struct Pieces {
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Pieces {
    fn push(&mut self, piece: &[u8]) {
        self.bytes.extend(piece);
        self.ends.push(self.bytes.len());
    }

    fn append(&mut self, other: &Pieces) {
        let base = self.bytes.len();
        self.bytes.extend(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| base + end));
    }

    /// Empty when there is none at this position.
    fn get(&self, at: usize) -> &[u8] {
        let Some(end) = self.ends.get(at) else { return &[] };
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[from..*end]
    }

    fn heap(&self) -> usize {
        self.ends.capacity() * size_of::<usize>() + self.bytes.capacity()
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_len(self.ends.len(), out);
        for at in 0..self.ends.len() {
            put_len(self.get(at).len(), out);
            out.extend(self.get(at));
        }
    }

    fn read(bytes: &mut &[u8]) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        for _ in 0..take_len(bytes)? {
            let len = take_len(bytes)?;
            pieces.push(take_slice(bytes, len)?);
        }
        Ok(pieces)
    }
}

impl Entries {
    /// Positions in the order that was asked for.
    fn sorted(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        let key = |at: &usize| (self.orders.get(*at), self.places[*at]);
        if !order.is_sorted_by_key(key) {
            order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        }
        order
    }
}

impl Collected {
    /// The values of all states in order, and how many of them each state has.
    fn read_all(
        &self,
        states: &mut dyn Iterator<Item = &Entries>,
    ) -> Result<(Vec<ArrayRef>, Vec<usize>), DataFusionError> {
        let (mut rows, mut lens) = (self.values.empty_rows(0, 0), Vec::new());
        let parser = self.values.parser();
        for state in states {
            lens.push(state.places.len());
            for at in state.sorted() {
                rows.push(parser.parse(state.values.get(at)));
            }
        }
        Ok((self.values.convert_rows(&rows)?, lens))
    }
}

impl Kind for Collected {
    type State = Entries;

    fn update(&mut self, states: &mut [Entries], rows: &Rows<'_>, heap: &mut u64) -> Result<()> {
        let nulls = if self.ignore_nulls { &rows.args[..1] } else { &[] };
        let mask = chosen(rows.keep, nulls);
        let values = self.values.convert_columns(&rows.args[..self.width])?;
        let orders = self.orders.as_ref();
        let orders = orders.map(|orders| orders.convert_columns(&rows.args[self.width..]));
        let orders = orders.transpose()?;
        each(rows.slots.len(), mask.as_ref(), |row| {
            let state = &mut states[rows.slots[row] as usize];
            *heap -= self.heap(state);
            state.places.push((rows.places.time.get(row), rows.places.ordinal + row as u64));
            state.values.push(values.row(row).as_ref());
            if let Some(orders) = &orders {
                state.orders.push(orders.row(row).as_ref());
            }
            *heap += self.heap(state);
        });
        Ok(())
    }

    fn merge(&self, into: &mut Entries, other: &Entries) -> Result<()> {
        into.places.extend(&other.places);
        into.values.append(&other.values);
        into.orders.append(&other.orders);
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Entries>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let (mut values, lens) = self.read_all(states)?;
        match figure {
            Figure::List => {
                let DataType::List(field) = data_type else {
                    return internal_err!("a list as {data_type}");
                };
                let offsets = OffsetBuffer::from_lengths(lens);
                let list = ListArray::try_new(Arc::clone(field), offsets, values.remove(0), None)?;
                Ok(Arc::new(list))
            }
            Figure::Text => joined(&values, &lens, data_type),
            Figure::Ema(n) => {
                let numbers = values[0].as_primitive::<Float64Type>().values();
                let averages =
                    spans(&lens).map(|(from, to)| moving_average(&numbers[from..to], *n as f64));
                Ok(Arc::new(averages.collect::<Float64Array>()))
            }
            Figure::Nth(n) => {
                let within = |(from, to): (usize, usize)| {
                    let at = from.checked_add(usize::try_from(*n).ok()?.checked_sub(1)?)?;
                    (at < to).then_some(at as u64)
                };
                let at: arrow::array::UInt64Array = spans(&lens).map(within).collect();
                Ok(arrow::compute::take(values[0].as_ref(), &at, None)?)
            }
            other => internal_err!("{other:?} of collected rows"),
        }
    }

    fn write(&self, state: &Entries, out: &mut Vec<u8>) {
        put_len(state.places.len(), out);
        for (time, ordinal) in &state.places {
            out.extend(time.to_be_bytes());
            out.extend(ordinal.to_be_bytes());
        }
        state.values.write(out);
        state.orders.write(out);
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Entries> {
        let place = |bytes: &mut &[u8]| {
            Ok((i64::from_be_bytes(take(bytes)?), u64::from_be_bytes(take(bytes)?)))
        };
        let len = take_len(bytes)?;
        let places = (0..len).map(|_| place(bytes)).collect::<Result<_>>()?;
        Ok(Entries { places, values: Pieces::read(bytes)?, orders: Pieces::read(bytes)? })
    }

    fn is_small(&self) -> bool {
        false
    }

    fn heap(&self, state: &Entries) -> u64 {
        let places = state.places.capacity() * size_of::<(i64, u64)>();
        (places + state.values.heap() + state.orders.heap()) as u64
    }
}

/// First position and end of each of several neighbouring pieces.
fn spans(lens: &[usize]) -> impl Iterator<Item = (usize, usize)> + '_ {
    lens.iter().scan(0, |end, len| {
        let from = *end;
        *end += len;
        Some((from, *end))
    })
}

/// Texts (no nulls) with their separators between them.
fn joined(
    values: &[ArrayRef],
    lens: &[usize],
    data_type: &DataType,
) -> Result<ArrayRef, DataFusionError> {
    let texts = cast(&values[0], &DataType::Utf8View)?;
    let separators = cast(&values[1], &DataType::Utf8View)?;
    let (texts, separators) = (texts.as_string_view(), separators.as_string_view());
    let mut out = StringBuilder::new();
    for (from, to) in spans(lens) {
        if from == to {
            out.append_null();
            continue;
        }
        let mut text = String::new();
        for at in from..to {
            if at > from && separators.is_valid(at) {
                text.push_str(separators.value(at));
            }
            text.push_str(texts.value(at));
        }
        out.append_value(text);
    }
    Ok(cast(&out.finish(), data_type)?)
}
