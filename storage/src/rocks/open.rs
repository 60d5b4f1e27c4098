//! Opening a data directory.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    ErrorKind, LogLevel, Options, WriteOptions,
};

use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};
use crate::rocks::commit::Clock;
use crate::rocks::{cf, keys, read_error, write_error};

/// Version of everything a data directory holds.
const FORMAT_VERSION: &[u8] = b"auspex storage 1";

/// Sizes of a store.
#[derive(Debug, Clone)]
pub struct RocksOptions {
    /// Bytes of the newest rows kept in memory for live readers.
    pub tail_bytes: usize,
    /// Bytes of the cache of blocks read.
    pub cache_bytes: usize,
    /// Bytes written before RocksDB turns them into a table file.
    pub write_buffer_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        RocksOptions { tail_bytes: 64 << 20, cache_bytes: 32 << 20, write_buffer_bytes: 64 << 20 }
    }
}

/// Opens or creates the database and checks its format.
pub(crate) fn open(path: &Path, options: &RocksOptions) -> Result<DB> {
    std::fs::create_dir_all(path).map_err(|e| StorageError::Io(e.to_string()))?;
    let new = !path.join("CURRENT").exists();
    let cache = Cache::new_lru_cache(options.cache_bytes);
    let families = [
        (keys::INDEX, true, options.write_buffer_bytes / 4),
        (keys::CHUNK, false, options.write_buffer_bytes),
        (keys::TABLE, true, options.write_buffer_bytes / 2),
        (keys::STATE, true, options.write_buffer_bytes / 2),
        (keys::CATALOG, true, 1 << 20),
        (keys::META, false, 1 << 20),
    ];
    let families = families.map(|(name, compress, buffer)| {
        ColumnFamilyDescriptor::new(name, family_options(&cache, compress, buffer))
    });
    let db =
        DB::open_cf_descriptors(&database_options(options), path, families).map_err(open_error)?;
    check_format(&db, new)?;
    Ok(db)
}

fn database_options(sizes: &RocksOptions) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A crash of the machine leaves a beginning of the log, never a log with holes.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(256 << 20);
    options.set_db_write_buffer_size(2 * sizes.write_buffer_bytes);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_bytes_per_sync(1 << 20);
    options.set_manifest_preallocation_size(64 << 10);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_log_level(LogLevel::Warn);
    options
}

fn family_options(cache: &Cache, compress: bool, buffer: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(buffer);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(match compress {
        true => DBCompressionType::Lz4,
        // Payloads are packed already.
        false => DBCompressionType::None,
    });
    options
}

fn check_format(db: &DB, new: bool) -> Result<()> {
    let meta = cf(db, keys::META);
    match db.get_cf(meta, keys::FORMAT).map_err(read_error)? {
        Some(version) if version == FORMAT_VERSION => Ok(()),
        Some(version) => {
            Err(StorageError::UnknownFormat(String::from_utf8_lossy(&version).into_owned()))
        }
        // A crash between creating the database and the write below leaves an empty one.
        None if new || db.latest_sequence_number() == 0 => {
            let mut synced = WriteOptions::default();
            synced.set_sync(true);
            db.put_cf_opt(meta, keys::FORMAT, FORMAT_VERSION, &synced).map_err(write_error)
        }
        None => Err(StorageError::UnknownFormat("no format record".into())),
    }
}

/// The numbers the committer goes on with.
pub(crate) fn read_clock(db: &DB) -> Result<Clock> {
    let record = db.get_cf(cf(db, keys::META), keys::CLOCK).map_err(read_error)?;
    let Some(record) = record else { return Ok(Clock { sequence: 0, last_arrival: 0 }) };
    let mut reader = Reader::new(&record);
    let clock = Clock { sequence: reader.u64()?, last_arrival: reader.i64()? };
    reader.end()?;
    Ok(clock)
}

/// The number of the next catalog command.
pub(crate) fn next_command(db: &DB) -> Result<u64> {
    let mut commands = db.raw_iterator_cf(cf(db, keys::CATALOG));
    commands.seek_to_last();
    commands.status().map_err(read_error)?;
    match commands.key() {
        None => Ok(0),
        Some(key) => key
            .try_into()
            .map(|number| u64::from_be_bytes(number) + 1)
            .map_err(|_| StorageError::Corrupted("key of a catalog command".into())),
    }
}

fn open_error(error: rocksdb::Error) -> StorageError {
    let kind = error.kind();
    let text = error.into_string();
    if text.contains("lock") && text.contains("LOCK") {
        return StorageError::Io(format!(
            "the data directory is in use by another process: {text}"
        ));
    }
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => StorageError::UnknownFormat(text),
        ErrorKind::Corruption => StorageError::Corrupted(text),
        _ => StorageError::Io(text),
    }
}
