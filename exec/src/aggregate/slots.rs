//! Accumulators from a state per slot.

use std::any::Any;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;

use crate::error::{ExecError, Result};

use super::{Accumulator, Figure, Rows};

/// One kind of state: how rows come in and figures come out.
pub(super) trait Kind: Send + 'static {
    /// State of a slot; the default is empty.
    type State: Default + Send + 'static;

    /// Adds rows; keeps `heap` equal to the sum of [`Kind::heap`] over all states.
    fn update(&mut self, states: &mut [Self::State], rows: &Rows<'_>, heap: &mut u64)
    -> Result<()>;

    fn merge(&self, into: &mut Self::State, other: &Self::State) -> Result<()>;

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Self::State>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError>;

    fn write(&self, state: &Self::State, out: &mut Vec<u8>);

    fn read(&self, bytes: &mut &[u8]) -> Result<Self::State>;

    /// Bytes outside of the state itself.
    fn heap(&self, _state: &Self::State) -> u64 {
        0
    }

    /// See [`Accumulator::is_small`].
    fn is_small(&self) -> bool {
        true
    }
}

/// The states of all slots.
pub(super) struct Slots<K: Kind> {
    kind: K,
    states: Vec<K::State>,
    heap: u64,
}

impl<K: Kind> Slots<K> {
    pub(super) fn new(kind: K) -> Self {
        Slots { kind, states: Vec::new(), heap: 0 }
    }

    fn merge_one(&mut self, slot: u32, other: &K::State) -> Result<()> {
        let into = &mut self.states[slot as usize];
        self.heap -= self.kind.heap(into);
        self.kind.merge(into, other)?;
        self.heap += self.kind.heap(into);
        Ok(())
    }
}

impl<K: Kind> Accumulator for Slots<K> {
    fn resize(&mut self, slots: usize) {
        if slots > self.states.len() {
            self.states.resize_with(slots, K::State::default);
        }
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        self.kind.update(&mut self.states, rows, &mut self.heap)
    }

    fn merge(&mut self, slots: &[u32], other: &dyn Accumulator, from: &[u32]) -> Result<()> {
        let Some(other) = other.as_any().downcast_ref::<Slots<K>>() else {
            return Err(ExecError::Plan("states of different aggregates are merged".into()));
        };
        for (slot, from) in slots.iter().zip(from) {
            self.merge_one(*slot, &other.states[*from as usize])?;
        }
        Ok(())
    }

    fn merge_within(&mut self, into: u32, from: u32) -> Result<()> {
        if into == from {
            return Err(ExecError::Plan("a state is merged into itself".into()));
        }
        let state = std::mem::take(&mut self.states[from as usize]);
        let merged = self.merge_one(into, &state);
        self.states[from as usize] = state;
        merged
    }

    fn evaluate(
        &self,
        slots: &[u32],
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let mut states = slots.iter().map(|slot| &self.states[*slot as usize]);
        self.kind.evaluate(&mut states, figure, data_type)
    }

    fn reset(&mut self, slots: &[u32]) {
        for slot in slots {
            let state = std::mem::take(&mut self.states[*slot as usize]);
            self.heap -= self.kind.heap(&state);
        }
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        self.kind.write(&self.states[slot as usize], out);
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let state = self.kind.read(bytes)?;
        self.heap += self.kind.heap(&state);
        let old = std::mem::replace(&mut self.states[slot as usize], state);
        self.heap -= self.kind.heap(&old);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        (self.states.capacity() * size_of::<K::State>()) as u64 + self.heap
    }

    fn is_small(&self) -> bool {
        self.kind.is_small()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The rows to add: those that are kept and whose `columns` are not null; `None` for all.
pub(super) fn chosen(keep: Option<&BooleanArray>, columns: &[ArrayRef]) -> Option<BooleanBuffer> {
    let kept = keep.map(|keep| match keep.nulls() {
        Some(nulls) => keep.values() & nulls.inner(),
        None => keep.values().clone(),
    });
    let mut present: Option<NullBuffer> = None;
    for column in columns {
        present = NullBuffer::union(present.as_ref(), column.logical_nulls().as_ref());
    }
    match (kept, present) {
        (kept, None) => kept,
        (None, Some(nulls)) if nulls.null_count() == 0 => None,
        (None, Some(nulls)) => Some(nulls.into_inner()),
        (Some(kept), Some(nulls)) => Some(&kept & nulls.inner()),
    }
}

/// Calls `f` with the position of each chosen row, ascending.
#[inline]
pub(super) fn each(rows: usize, chosen: Option<&BooleanBuffer>, mut f: impl FnMut(usize)) {
    match chosen {
        None => (0..rows).for_each(f),
        Some(mask) => mask.set_indices().for_each(&mut f),
    }
}

/// Calls `f` with the state and the value of each chosen row.
#[inline]
pub(super) fn add_each<S, T: Copy>(
    states: &mut [S],
    slots: &[u32],
    values: &[T],
    chosen: Option<&BooleanBuffer>,
    mut f: impl FnMut(&mut S, T),
) {
    match chosen {
        None => {
            for (slot, value) in slots.iter().zip(values) {
                f(&mut states[*slot as usize], *value);
            }
        }
        Some(mask) => {
            for row in mask.set_indices() {
                f(&mut states[slots[row] as usize], values[row]);
            }
        }
    }
}

/// Takes `N` bytes off the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let Some((head, rest)) = bytes.split_first_chunk::<N>() else {
        return Err(ExecError::State("an aggregate's state is cut off".into()));
    };
    *bytes = rest;
    Ok(*head)
}

/// Takes so many bytes off the front.
pub(super) fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let Some((head, rest)) = bytes.split_at_checked(len) else {
        return Err(ExecError::State("an aggregate's state is cut off".into()));
    };
    *bytes = rest;
    Ok(head)
}

/// Writes a length.
pub(super) fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend((len as u32).to_be_bytes());
}

/// Reads a length.
pub(super) fn take_len(bytes: &mut &[u8]) -> Result<usize> {
    Ok(u32::from_be_bytes(take(bytes)?) as usize)
}

/// The error of a result that its type cannot hold.
pub(super) fn out_of_range() -> DataFusionError {
    arrow::error::ArrowError::ArithmeticOverflow("value out of range".into()).into()
}
