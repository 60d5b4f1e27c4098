//! Rows that a query left out because an expression failed on them.

use std::collections::BTreeMap;

use auspex_storage::{ReadLimit, Store, StreamId};
use serde::{Deserialize, Serialize};

use super::position::StateKeys;
use crate::error::{ExecError, Result, RowFailure};
use crate::json;

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Number among the dead letters of its query, from 0.
    pub number: u64,
    /// Stream in which the row entered the query.
    pub stream: StreamId,
    /// Its offset there.
    pub offset: u64,
    /// Its place in the global order.
    pub sequence: i64,
    /// What failed, in words for the user.
    pub reason: String,
    /// The row as it stands in its stream, as a JSON object; null when it is no longer kept.
    pub row: serde_json::Value,
}

/// The dead letters kept for the query that fills `query`, oldest first.
pub fn dead_letters(
    store: &dyn Store,
    query: StreamId,
    generation: u32,
) -> Result<Vec<DeadLetter>> {
    kept(store, &StateKeys::new(query, generation).dead_letters())
}

/// The rows kept that came too late for an operator of the query that fills `query`, oldest first.
pub fn late_rows(store: &dyn Store, query: StreamId, generation: u32) -> Result<Vec<DeadLetter>> {
    kept(store, &StateKeys::new(query, generation).late_rows())
}

fn kept(store: &dyn Store, prefix: &[u8]) -> Result<Vec<DeadLetter>> {
    store
        .state_scan(prefix)?
        .into_iter()
        .map(|(_, value)| {
            serde_json::from_slice(&value).map_err(|e| ExecError::State(e.to_string()))
        })
        .collect()
}

/// Adds the whole rows to failures; the first gets the number `first`.
pub(super) fn with_rows(
    store: &dyn Store,
    failures: Vec<RowFailure>,
    first: u64,
) -> Result<Vec<DeadLetter>> {
    let mut ranges: BTreeMap<StreamId, (u64, u64)> = BTreeMap::new();
    for failure in &failures {
        if failure.stream == RowFailure::NO_STREAM {
            continue;
        }
        let range = ranges.entry(failure.stream).or_insert((failure.offset, failure.offset));
        *range = (range.0.min(failure.offset), range.1.max(failure.offset));
    }
    let mut rows = BTreeMap::new();
    for (stream, (from, to)) in ranges {
        // Rows that are gone meanwhile are left out of the letter, not an error.
        let from = from.max(store.head(stream)?.oldest);
        let mut at = from;
        let mut batches = Vec::new();
        while at <= to {
            let limit = ReadLimit { rows: (to + 1 - at) as usize, until: to + 1 };
            match store.read(stream, at, limit, None) {
                Ok(read) if !read.is_empty() => {
                    at = read.last().map_or(at, |batch| batch.end());
                    batches.extend(read);
                }
                Ok(_) | Err(auspex_storage::StorageError::NotRetained { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        rows.insert(stream, batches);
    }
    let find = |stream: StreamId, offset: u64| {
        let batch = rows.get(&stream)?.iter().find(|b| b.offset <= offset && offset < b.end())?;
        Some(json::row(&batch.rows, (offset - batch.offset) as usize))
    };
    let letters = failures.into_iter().zip(first..).map(|(failure, number)| DeadLetter {
        number,
        row: find(failure.stream, failure.offset).unwrap_or(serde_json::Value::Null),
        stream: failure.stream,
        offset: failure.offset,
        sequence: failure.sequence,
        reason: failure.reason,
    });
    Ok(letters.collect())
}
