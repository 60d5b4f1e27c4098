//! Room on the disk.
//!
//! When a write meets a full disk, RocksDB needs more space than there is to go on: what lies in
//! memory must first be written to a table file, also when the store is opened the next time. So
//! transactions are refused while there is still room for that.

use rocksdb::DB;

use crate::error::{Result, StorageError};
use crate::rocks::{cf, keys};

/// Left over for what is written besides rows: manifests, catalog commands, removals.
const MARGIN: u64 = 8 << 20;
/// With this much free it is not looked at more closely. More than memory can hold.
const PLENTY: u64 = 1 << 30;

/// Fails with [`StorageError::DiskFull`] when `bytes` should not be written.
pub(crate) fn demand(db: &DB, bytes: usize) -> Result<()> {
    // A file system that does not tell is not full as far as we know; the write will show it.
    let Ok(stat) = rustix::fs::statvfs(db.path()) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Written twice: to the log, and later to a table file.
    let needed = 2 * bytes as u64 + MARGIN;
    if free >= PLENTY.max(needed) || free >= needed + in_memory(db) {
        return Ok(());
    }
    Err(StorageError::DiskFull)
}

/// Bytes that RocksDB has yet to write to table files.
fn in_memory(db: &DB) -> u64 {
    keys::FAMILIES
        .iter()
        .map(|name| {
            let size = db.property_int_value_cf(cf(db, name), "rocksdb.cur-size-all-mem-tables");
            size.ok().flatten().unwrap_or(0)
        })
        .sum()
}
