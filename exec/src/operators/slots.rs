//! Places for aggregates that come and go.

use auspex_plan::OnError;

use crate::aggregate::{AggregateSet, Aggregates, Arguments, Places, Results};
use crate::error::Result;

/// The slots of an [`AggregateSet`], handed out one by one. Their numbers never show.
pub(super) struct Slots {
    set: AggregateSet,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(aggregates: &Aggregates) -> Slots {
        Slots { set: aggregates.set(), free: Vec::new() }
    }

    /// An empty slot.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let slots = self.set.slots();
            // Grow by halves, so that seldom is grown.
            self.set.resize(slots + slots / 2 + 16);
            self.free.extend((slots as u32 + 1..self.set.slots() as u32).rev());
            slots as u32
        })
    }

    /// Takes slots back.
    pub(super) fn give_back(&mut self, slots: &[u32]) {
        self.set.reset(slots);
        self.free.extend(slots);
    }

    /// Adds rows to slots, see [`AggregateSet::update`].
    pub(super) fn update(
        &mut self,
        slots: &[u32],
        arguments: &Arguments,
        places: &Places,
    ) -> Result<()> {
        self.set.update(slots, arguments, places)
    }

    /// Adds `from` to `into`.
    pub(super) fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        self.set.merge_within(into, from)
    }

    /// See [`AggregateSet::results`].
    pub(super) fn results(&self, slots: &[u32], on_error: OnError) -> Result<Results> {
        self.set.results(slots, on_error)
    }

    /// Appends the state of a slot.
    pub(super) fn write(&self, slot: u32, to: &mut Vec<u8>) {
        self.set.write(slot, to);
    }

    /// A slot with the state at the front of `from`.
    pub(super) fn read(&mut self, from: &mut &[u8]) -> Result<u32> {
        let slot = self.take();
        self.set.read(slot, from)?;
        Ok(slot)
    }

    /// Bytes kept, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.set.bytes()
    }
}
