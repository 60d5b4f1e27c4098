//! The durable position of a query and the keys of its state in the store.
//!
//! All keys begin with `q`, the output stream's id and the generation (both 32 bits, big endian),
//! then one byte:
//!
//! | byte | rest of the key | value |
//! |---|---|---|
//! | `p` | - | [`Position`] as JSON |
//! | `s` | operator number (16 bits, big endian), the operator's own key | the operator's own |
//! | `d` | number of the dead letter (64 bits, big endian) | [`super::DeadLetter`] as JSON |
//! | `l` | number of the late row (64 bits, big endian) | [`super::DeadLetter`] as JSON |

use std::collections::BTreeMap;

use auspex_storage::StreamId;
use serde::{Deserialize, Serialize};

use super::status::Counters;
use crate::error::{ExecError, Result};

/// How far a query has come. Written in the transaction that appends the output up to there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Version of this format.
    pub(crate) version: u32,
    /// Every input row with a global sequence below this has been processed.
    pub(crate) frontier: i64,
    /// Next offset to be read of each input.
    pub(crate) inputs: BTreeMap<StreamId, u64>,
    /// Offset of the next output row.
    pub(crate) next: u64,
    /// Counts so far.
    pub(crate) counters: Counters,
    /// The inputs have ended and what followed from that is part of the output.
    pub(crate) ended: bool,
}

/// The only version there is.
const VERSION: u32 = 1;

impl Position {
    pub(crate) fn new(inputs: BTreeMap<StreamId, u64>, next: u64) -> Position {
        Position {
            version: VERSION,
            frontier: 0,
            inputs,
            next,
            counters: Counters::default(),
            ended: false,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a position is plain data")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Position> {
        let position: Position =
            serde_json::from_slice(bytes).map_err(|e| ExecError::State(e.to_string()))?;
        if position.version != VERSION {
            return Err(ExecError::State(format!("position version {}", position.version)));
        }
        Ok(position)
    }
}

/// Keys of one query.
#[derive(Debug, Clone)]
pub(crate) struct StateKeys {
    prefix: Vec<u8>,
}

/// Prefix of all state of the query that fills `stream`, in all its generations: what to remove
/// with the stream.
pub fn state_prefix(stream: StreamId) -> Vec<u8> {
    [b"q".as_slice(), &stream.to_be_bytes()].concat()
}

/// Prefix of the state of one generation: what to remove when a query is replaced.
pub fn generation_prefix(stream: StreamId, generation: u32) -> Vec<u8> {
    [state_prefix(stream).as_slice(), &generation.to_be_bytes()].concat()
}

impl StateKeys {
    pub(crate) fn new(stream: StreamId, generation: u32) -> StateKeys {
        StateKeys { prefix: generation_prefix(stream, generation) }
    }

    pub(crate) fn position(&self) -> Vec<u8> {
        [&self.prefix, b"p".as_slice()].concat()
    }

    pub(crate) fn state(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, b"s".as_slice(), key].concat()
    }

    pub(crate) fn dead_letter(&self, number: u64) -> Vec<u8> {
        [&self.prefix, b"d".as_slice(), &number.to_be_bytes()].concat()
    }

    pub(crate) fn late_row(&self, number: u64) -> Vec<u8> {
        [&self.prefix, b"l".as_slice(), &number.to_be_bytes()].concat()
    }

    pub(crate) fn late_rows(&self) -> Vec<u8> {
        [&self.prefix, b"l".as_slice()].concat()
    }

    pub(crate) fn dead_letters(&self) -> Vec<u8> {
        [&self.prefix, b"d".as_slice()].concat()
    }
}
