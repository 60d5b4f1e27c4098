//! The catalog's log: commands in the order in which they were agreed on.
//!
//! A single node agrees with itself: the store's transaction that carries a [`LogEntry`] is the
//! agreement, and the position in the catalog log is the order. Raft will put entries of several
//! nodes into one order before they are applied by the same functions.

use auspex_plan::catalog::{Catalog, CatalogCommand, CatalogError};
use auspex_storage::{StorageError, Store};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Format of the entries written by this version.
const FORMAT: u32 = 1;

/// Commands that take effect together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    format: u32,
    /// In order.
    pub commands: Vec<CatalogCommand>,
}

/// Why the catalog cannot be read back.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The store cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An entry is not one of ours.
    #[error("catalog entry {index} cannot be read: {reason}")]
    Unreadable {
        /// Position in the log, from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// An entry contradicts those before it.
    #[error("catalog entry {index} cannot be applied: {source}")]
    Refused {
        /// Position in the log, from 0.
        index: usize,
        /// What is wrong.
        source: CatalogError,
    },
}

impl LogEntry {
    /// An entry of this version.
    pub fn new(commands: Vec<CatalogCommand>) -> Self {
        LogEntry { format: FORMAT, commands }
    }

    /// Bytes for [`auspex_storage::Transaction::catalog`].
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("commands have string keys and finite numbers only")
    }

    /// Reads [`LogEntry::encode`]'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let entry: LogEntry = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if entry.format != FORMAT {
            return Err(format!("format {} is newer than this version", entry.format));
        }
        Ok(entry)
    }
}

/// The catalog that the store's log leads to.
pub fn replay(store: &dyn Store) -> Result<Catalog, ReplayError> {
    let mut catalog = Catalog::new();
    for (index, bytes) in store.catalog_log()?.iter().enumerate() {
        let entry =
            LogEntry::decode(bytes).map_err(|reason| ReplayError::Unreadable { index, reason })?;
        for command in &entry.commands {
            catalog.apply(command).map_err(|source| ReplayError::Refused { index, source })?;
        }
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_an_unknown_format_is_refused() {
        let bytes = LogEntry::new(vec![CatalogCommand::Drop { ids: vec![1] }]).encode();
        assert!(LogEntry::decode(&bytes).is_ok());
        let newer = String::from_utf8(bytes).expect("json").replace("\"format\":1", "\"format\":2");
        assert!(LogEntry::decode(newer.as_bytes()).expect_err("newer").contains("format 2"));
    }
}
