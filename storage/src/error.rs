//! What can go wrong below, by what the caller must do about it.

use thiserror::Error;

/// An error of a store.
#[derive(Debug, Clone, Error)]
pub enum StorageError {
    /// The disk is full: the transaction is not applied; later ones may succeed.
    #[error("could not write: no space left on device")]
    DiskFull,
    /// Writing or syncing failed; the store accepts nothing more until it is opened again.
    #[error("storage failed and accepts no more writes: {0}")]
    Failed(String),
    /// Reading failed; trying again may help.
    #[error("could not read: {0}")]
    Io(String),
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}")]
    Corrupted(String),
    /// The data directory was written by a version this one does not know.
    #[error("unknown storage format: {0}")]
    UnknownFormat(String),
    /// The offset asked for is older than what is kept.
    #[error("offset {asked} is no longer retained (oldest {oldest})")]
    NotRetained {
        /// Offset asked for.
        asked: u64,
        /// Oldest offset kept.
        oldest: u64,
    },
    /// No such stream (it was dropped meanwhile).
    #[error("stream {0} does not exist")]
    UnknownStream(u32),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The caller broke a rule of the interface.
    #[error("misuse of the store: {0}")]
    Misuse(String),
}

/// Result of a store operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;
