//! Failures that tests ask for.

use std::sync::atomic::{AtomicBool, Ordering};

/// Switches that make the next writes or syncs fail as the operating system would. All are off
/// outside tests; nothing but tests can reach them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Writes fail for want of space.
    pub(crate) full: AtomicBool,
    /// Syncs fail.
    pub(crate) sync: AtomicBool,
}

impl Faults {
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn sync_fails(&self) -> bool {
        self.sync.load(Ordering::Relaxed)
    }
}
