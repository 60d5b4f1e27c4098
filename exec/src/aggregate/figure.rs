//! What is read from a state.

/// A number (or list, or text) that an [`super::Accumulator`] can tell about a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Number of values that are not null.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
}
