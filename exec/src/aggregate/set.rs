//! The states of all aggregates of a node, side by side.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::concat;
use auspex_plan::OnError;
use datafusion::common::DataFusionError;

use crate::error::{ExecError, Result};
use crate::expr::reason;

use super::compile::Layout;
use super::{Accumulator, Arguments, Places, Rows};

/// States of several aggregates for many groups: a slot is one group.
///
/// Memory for a slot stays after [`AggregateSet::reset`]; operators use slots again.
pub struct AggregateSet {
    layout: Arc<Layout>,
    states: Vec<Box<dyn Accumulator>>,
    slots: usize,
}

/// Results of some slots, see [`AggregateSet::results`].
#[derive(Debug)]
pub struct Results {
    /// One array per aggregate, with the values of the slots that did not fail.
    pub columns: Vec<ArrayRef>,
    /// Positions (in the slots that were asked for) of the rows of `columns`, ascending; `None`
    /// when it is all of them.
    pub kept: Option<Vec<u32>>,
    /// Position and reason of each slot that failed and has no row in `columns`.
    pub failed: Vec<(usize, String)>,
    /// Slots with a failed value that was made null.
    pub nulled: u64,
}

impl AggregateSet {
    pub(super) fn new(layout: Arc<Layout>) -> AggregateSet {
        let states = layout.states.iter().map(|state| (state.make)()).collect();
        AggregateSet { layout, states, slots: 0 }
    }

    /// Makes slots below `slots` exist; new ones are empty.
    pub fn resize(&mut self, slots: usize) {
        if slots > self.slots {
            self.states.iter_mut().for_each(|state| state.resize(slots));
            self.slots = slots;
        }
    }

    /// Number of slots that exist.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Adds row i of `arguments` to `slots[i]`.
    pub fn update(
        &mut self,
        slots: &[u32],
        arguments: &Arguments,
        places: &Places<'_>,
    ) -> Result<()> {
        debug_assert_eq!(slots.len(), arguments.len());
        let mut args = Vec::new();
        for (state, layout) in self.states.iter_mut().zip(&self.layout.states) {
            args.clear();
            args.extend(layout.args.iter().map(|arg| Arc::clone(&arguments.columns[*arg])));
            let keep = layout.condition.map(|condition| &arguments.conditions[condition]);
            state.update(&Rows { slots, args: &args, keep, places })?;
        }
        Ok(())
    }

    /// Adds slot `from[i]` of `other`, which comes from the same [`super::Aggregates`], to
    /// `slots[i]`, in this order.
    pub fn merge(&mut self, slots: &[u32], other: &AggregateSet, from: &[u32]) -> Result<()> {
        for (state, other) in self.states.iter_mut().zip(&other.states) {
            state.merge(slots, other.as_ref(), from)?;
        }
        Ok(())
    }

    /// Adds slot `from` to slot `into` of the same set; `from` stays as it is.
    pub fn merge_within(&mut self, into: u32, from: u32) -> Result<()> {
        self.states.iter_mut().try_for_each(|state| state.merge_within(into, from))
    }

    /// One array per aggregate, one value per slot. May be called any number of times.
    ///
    /// # Errors
    /// When a result cannot be represented; which one is found by [`AggregateSet::results`].
    pub fn evaluate(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, DataFusionError> {
        (0..self.layout.outputs.len()).map(|column| self.column(column, slots)).collect()
    }

    fn column(&self, column: usize, slots: &[u32]) -> Result<ArrayRef, DataFusionError> {
        let output = &self.layout.outputs[column];
        self.states[output.state].evaluate(slots, &output.figure, output.field.data_type())
    }

    /// The results of `slots`, one by one where some cannot be represented: those are left out with
    /// a reason, or made null when `on_error` is [`OnError::Null`].
    pub fn results(&self, slots: &[u32], on_error: OnError) -> Result<Results> {
        if let Ok(columns) = self.evaluate(slots) {
            return Ok(Results { columns, kept: None, failed: Vec::new(), nulled: 0 });
        }
        let outputs = &self.layout.outputs;
        let (mut kept, mut failed, mut nulled) = (Vec::new(), Vec::new(), 0);
        let mut columns: Vec<Vec<ArrayRef>> = outputs.iter().map(|_| Vec::new()).collect();
        for (position, slot) in slots.iter().enumerate() {
            let values = (0..outputs.len()).map(|column| self.column(column, &[*slot]));
            let values: Vec<_> = values.collect();
            let error = values
                .iter()
                .zip(outputs.iter())
                .find_map(|(value, output)| Some(reason(value.as_ref().err()?, &output.text)));
            match error {
                Some(error) if on_error != OnError::Null => {
                    failed.push((position, error));
                    continue;
                }
                Some(_) => nulled += 1,
                None => {}
            }
            kept.push(position as u32);
            for ((column, value), output) in columns.iter_mut().zip(values).zip(outputs) {
                let null = |_| new_null_array(output.field.data_type(), 1);
                column.push(value.unwrap_or_else(null));
            }
        }
        let columns = columns.iter().zip(outputs).map(|(pieces, output)| {
            if pieces.is_empty() {
                return Ok(arrow::array::new_empty_array(output.field.data_type()));
            }
            let pieces: Vec<_> = pieces.iter().map(AsRef::as_ref).collect();
            Ok(concat(&pieces)?)
        });
        Ok(Results { columns: columns.collect::<Result<_>>()?, kept: Some(kept), failed, nulled })
    }

    /// Makes slots empty again.
    pub fn reset(&mut self, slots: &[u32]) {
        self.states.iter_mut().for_each(|state| state.reset(slots));
    }

    /// Appends the state of a slot, for [`AggregateSet::read`].
    pub fn write(&self, slot: u32, out: &mut Vec<u8>) {
        self.states.iter().for_each(|state| state.write(slot, out));
    }

    /// Replaces the state of a slot, taking what was written off the front of `bytes`.
    ///
    /// # Errors
    /// [`ExecError::State`] when the bytes are not such a state.
    pub fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        if slot as usize >= self.slots {
            return Err(ExecError::Plan(format!("slot {slot} does not exist")));
        }
        self.states.iter_mut().try_for_each(|state| state.read(slot, bytes))
    }

    /// Bytes kept, roughly.
    pub fn bytes(&self) -> u64 {
        self.states.iter().map(|state| state.bytes()).sum()
    }
}
