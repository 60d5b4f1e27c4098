//! Column families and keys. All numbers in keys are big-endian, so that they sort.

use crate::store::{StreamId, TableId};

/// Per stored batch of a stream: where it is and what it holds ([`crate::rocks::entry`]).
pub(crate) const INDEX: &str = "log_index";
/// Payloads that are too long for the index.
pub(crate) const CHUNK: &str = "log_chunk";
/// Rows of tables.
pub(crate) const TABLE: &str = "table";
/// Named values: positions and operator state.
pub(crate) const STATE: &str = "state";
/// The catalog's commands by number.
pub(crate) const CATALOG: &str = "catalog";
/// Format, clock, ends of emptied streams, unfinished bulk loads.
pub(crate) const META: &str = "meta";

/// All of them.
pub(crate) const FAMILIES: [&str; 6] = [INDEX, CHUNK, TABLE, STATE, CATALOG, META];

/// Key of the format record.
pub(crate) const FORMAT: &[u8] = b"format";
/// Key of the record of the global sequence and the last arrival.
pub(crate) const CLOCK: &[u8] = b"clock";
/// Prefix of the ends of emptied streams.
const END: &[u8] = b"end/";
/// Prefix of the records of bulk loads that are not committed yet.
pub(crate) const LOADING: &[u8] = b"loading/";

/// What all keys of a stream or table begin with.
pub(crate) fn prefix(id: u32) -> [u8; 4] {
    id.to_be_bytes()
}

/// Key of an index entry or a chunk.
pub(crate) fn numbered(stream: StreamId, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&stream.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number in a key of [`numbered`], when it is one of that stream.
pub(crate) fn number_of(key: &[u8], stream: StreamId) -> Option<u64> {
    let (prefix, number) = key.split_first_chunk::<4>()?;
    (*prefix == stream.to_be_bytes()).then_some(u64::from_be_bytes(number.try_into().ok()?))
}

/// Key of a table row.
pub(crate) fn table_row(table: TableId, key: &[u8]) -> Vec<u8> {
    [&prefix(table), key].concat()
}

/// Key of the end of an emptied stream.
pub(crate) fn end(stream: StreamId) -> Vec<u8> {
    [END, &prefix(stream)].concat()
}

/// Key of the record of a bulk load whose chunks begin at this number.
pub(crate) fn loading(stream: StreamId, chunk: u64) -> Vec<u8> {
    [LOADING, &numbered(stream, chunk)].concat()
}

/// The first key after all that begin with `prefix`; `None` when there is none.
pub(crate) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_after_a_prefix_is_above_all_its_keys() {
        assert_eq!(after(b"a"), Some(b"b".to_vec()));
        assert_eq!(after(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after(&[255]), None);
        assert_eq!(after(b""), None);
        assert_eq!(number_of(&numbered(7, 9), 7), Some(9));
        assert_eq!(number_of(&numbered(7, 9), 8), None);
    }
}
