//! Slots of aggregates that come and go.

use crate::aggregate::AggregateSet;
use crate::error::Result;

/// Stands for "none" among numbers of slots.
pub(super) const NONE: u32 = u32::MAX;

/// The slot of rows that belong nowhere; see [`Arena::empty_trash`].
pub(super) const TRASH: u32 = 0;

/// Slots of one [`AggregateSet`], given out and taken back, with a note of which ones must be
/// written at the next checkpoint and which ones are in the saved state.
pub(super) struct Arena {
    pub(super) set: AggregateSet,
    slots: u32,
    free: Vec<u32>,
    dirty: Bits,
    saved: Bits,
}

impl Arena {
    pub(super) fn new(set: AggregateSet) -> Arena {
        let (dirty, saved) = (Bits::default(), Bits::default());
        let mut arena = Arena { set, slots: 0, free: Vec::new(), dirty, saved };
        assert_eq!(arena.take(), TRASH, "the first slot");
        arena
    }

    /// Forgets the rows that were given to [`TRASH`].
    pub(super) fn empty_trash(&mut self) {
        self.set.reset(&[TRASH]);
    }

    /// An empty slot.
    pub(super) fn take(&mut self) -> u32 {
        if self.free.is_empty() {
            let more = self.slots.max(64);
            self.free.extend((self.slots..self.slots + more).rev());
            self.slots += more;
            self.set.resize(self.slots as usize);
            self.dirty.resize(self.slots);
            self.saved.resize(self.slots);
        }
        self.free.pop().expect("slots were added")
    }

    /// Takes slots back. Whether they are in the saved state must have been asked before.
    pub(super) fn release(&mut self, slots: &[u32]) {
        self.set.reset(slots);
        for slot in slots {
            self.dirty.clear(*slot);
            self.saved.clear(*slot);
        }
        // The next ones are given out in the order of these, which keeps neighbours together.
        self.free.extend(slots.iter().rev());
    }

    /// The slot's content has changed.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        self.dirty.set(slot);
    }

    /// Whether the slot is in the saved state.
    pub(super) fn is_saved(&self, slot: u32) -> bool {
        self.saved.get(slot)
    }

    /// The saved state has nothing of the slot any more.
    pub(super) fn unsave(&mut self, slot: u32) {
        self.saved.clear(slot);
    }

    /// The changed slots, which count as saved from now on.
    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = self.dirty.take();
        dirty.iter().for_each(|slot| self.saved.set(*slot));
        dirty
    }

    /// Fills a slot from the saved state.
    pub(super) fn load(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.set.read(slot, bytes)?;
        self.saved.set(slot);
        Ok(())
    }

    /// Slots in use.
    pub(super) fn used(&self) -> u64 {
        u64::from(self.slots) - self.free.len() as u64 - 1
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> u64 {
        self.set.bytes() + 4 * self.free.capacity() as u64 + u64::from(self.slots) / 4
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn resize(&mut self, numbers: u32) {
        self.0.resize(numbers.div_ceil(64) as usize, 0);
    }

    #[inline]
    fn set(&mut self, number: u32) {
        self.0[number as usize / 64] |= 1 << (number % 64);
    }

    fn clear(&mut self, number: u32) {
        self.0[number as usize / 64] &= !(1 << (number % 64));
    }

    fn get(&self, number: u32) -> bool {
        self.0[number as usize / 64] & (1 << (number % 64)) != 0
    }

    /// All numbers, ascending; the set is empty afterwards.
    fn take(&mut self) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (word, bits) in self.0.iter_mut().enumerate() {
            let mut bits = std::mem::take(bits);
            while bits != 0 {
                numbers.push(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        numbers
    }
}
