//! Rows on their way to their aggregates.

use auspex_storage::Run;

use crate::aggregate::{Arguments, Places};
use crate::error::Result;
use crate::operators::slots::Slots;

/// Neighbouring rows of a batch that are to be added to slots, together.
#[derive(Default)]
pub(super) struct Pending {
    slots: Vec<u32>,
    rows: Vec<u32>,
    times: Vec<i64>,
    /// Number of the first row; the others follow.
    ordinal: u64,
}

impl Pending {
    /// Adds the next row, number `ordinal` of all that the operator took.
    pub(super) fn push(&mut self, slot: u32, row: usize, time: i64, ordinal: u64) {
        if self.rows.is_empty() {
            self.ordinal = ordinal;
        }
        self.slots.push(slot);
        self.rows.push(row as u32);
        self.times.push(time);
    }

    /// Adds the rows to the slots.
    pub(super) fn add_to(&mut self, slots: &mut Slots, arguments: &Arguments) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let time = Run::Each(std::mem::take(&mut self.times).into());
        let places = Places { time: &time, ordinal: self.ordinal };
        slots.update(&self.slots, &arguments.take(&self.rows)?, &places)?;
        self.slots.clear();
        self.rows.clear();
        Ok(())
    }
}
