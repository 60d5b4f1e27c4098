//! Keyed tables: how rows become keys and values of the store, and how they are read and changed.

pub(crate) mod changes;
pub(crate) mod codec;
pub(crate) mod overlay;
pub(crate) mod writer;
