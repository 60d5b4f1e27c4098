//! Everything Auspex keeps: the log of every stream, tables, positions of queries, and the
//! catalog's commands. One RocksDB per data directory, with one write-ahead log that is atomic
//! across all of them, and an in-memory twin that passes the same suite.
//!
//! A [`Transaction`] is the only way in. It is applied as a whole; a [`Durability::Synced`] one is
//! acknowledged after a sync that many transactions share (group commit). The store knows rows as
//! Arrow batches and tables as opaque keys and values; it knows neither SQL nor operators.

pub mod batch;
mod check;
mod clock;
mod codec;
pub mod error;
mod join;
pub mod mem;
pub mod rocks;
pub mod store;
#[cfg(test)]
mod suite;

pub use batch::{EventBatch, Run};
pub use error::StorageError;
pub use mem::MemStore;
pub use rocks::{RocksOptions, RocksStore};
pub use store::{
    Append, Committed, Durability, Head, Pending, ReadLimit, SharedStore, Staged, Store,
    StreamConfig, StreamId, StreamStats, TableChange, TableId, TableRows, Transaction,
};
