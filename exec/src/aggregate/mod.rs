//! Aggregates over many groups at once.
//!
//! A group's state lives in a *slot*, a dense number that the operator gives it. [`Aggregates`] are
//! the aggregates of a plan node, compiled; they evaluate arguments and `FILTER` conditions once
//! per batch ([`Arguments`]) and make [`AggregateSet`]s, in which the rows of a batch are added to
//! slots, slots are merged (panes to windows, sessions that meet), read, emptied and saved. An
//! [`interner::Interner`] turns key rows into numbers for which operators keep slots.
//!
//! Aggregates that need the same numbers share one state: `sum(x)`, `avg(x)` and `count(x)`; the
//! percentiles of a column; its variance and standard deviation. The state is an [`Accumulator`],
//! what is read from it a [`Figure`].

mod choose;
mod collected;
mod compile;
mod distinct;
mod extremes;
mod figure;
mod foreign;
pub mod interner;
mod logical;
mod moments;
mod outermost;
mod sample;
mod set;
mod slots;
mod totals;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::any::Any;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use auspex_storage::Run;
use datafusion::common::DataFusionError;

use crate::error::Result;

pub use compile::{Aggregates, Arguments};
pub use figure::{Figure, Moment};
pub use set::{AggregateSet, Results};

/// Where rows stand: `first`, `last`, `array_agg` and `ema` go by event time, then by arrival.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Event times of the rows.
    pub time: &'a Run,
    /// Ordinal of row 0; row i has `ordinal + i`. An operator numbers the rows it takes over its
    /// whole life (the counter is part of its state), so that no two rows have one number.
    pub ordinal: u64,
}

/// The rows of a batch, for one accumulator.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Row i goes to `slots[i]`.
    pub slots: &'a [u32],
    /// The evaluated arguments.
    pub args: &'a [ArrayRef],
    /// Rows for which this is not true are left out.
    pub keep: Option<&'a BooleanArray>,
    /// Where the rows stand.
    pub places: &'a Places<'a>,
}

/// State of one kind of aggregate for many groups, addressed by dense slots.
///
/// What a slot holds depends on the rows given to it and on their order, never on how they were
/// cut into batches.
pub trait Accumulator: Send {
    /// Makes slots below `slots` exist; new ones are empty.
    fn resize(&mut self, slots: usize);

    /// Adds rows. All slots exist.
    fn update(&mut self, rows: &Rows<'_>) -> Result<()>;

    /// Adds slot `from[i]` of `other`, which was made by the same [`Aggregates`], to `slots[i]`.
    fn merge(&mut self, slots: &[u32], other: &dyn Accumulator, from: &[u32]) -> Result<()>;

    /// Adds slot `from` to slot `into`; `from` stays as it is.
    fn merge_within(&mut self, into: u32, from: u32) -> Result<()>;

    /// One value per slot, of type `data_type`. May be called any number of times.
    ///
    /// # Errors
    /// When a value cannot be represented ("value out of range").
    fn evaluate(
        &self,
        slots: &[u32],
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError>;

    /// Makes slots empty again and gives back their memory.
    fn reset(&mut self, slots: &[u32]);

    /// Appends the state of a slot, for [`Accumulator::read`].
    fn write(&self, slot: u32, out: &mut Vec<u8>);

    /// Replaces the state of a slot; takes what was written off the front of `bytes`.
    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()>;

    /// Bytes kept, roughly.
    fn bytes(&self) -> u64;

    /// Whether the state of a slot has a bound, however many rows it takes.
    fn is_small(&self) -> bool {
        true
    }

    /// For [`Accumulator::merge`].
    fn as_any(&self) -> &dyn Any;
}
