//! The index entry of a stored batch.
//!
//! Offsets have no gaps, so the entries of a stream form an array that can be searched by halving:
//! the entry that holds an offset is the last one whose key is not above it. What accumulates
//! along the stream (bytes, greatest time) is in every entry, so a stream's figures come from its
//! first and last entry alone.

use arrow::buffer::ScalarBuffer;

use crate::batch::Run;
use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};

const VERSION: u8 = 1;
/// Length of an entry without an inline payload.
pub(crate) const ENTRY_LEN: usize = 106;

/// A [`Run`] as an entry keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunForm {
    /// [`Run::Constant`].
    Constant(i64),
    /// [`Run::Sequence`].
    Sequence(i64),
    /// [`Run::Each`]: the next of the numbers behind the payload's columns.
    Each,
}

impl RunForm {
    /// The form of a run.
    pub(crate) fn of(run: &Run) -> RunForm {
        match run {
            Run::Constant(v) => RunForm::Constant(*v),
            Run::Sequence(v) => RunForm::Sequence(*v),
            Run::Each(_) => RunForm::Each,
        }
    }

    fn parts(self) -> (u8, i64) {
        match self {
            RunForm::Constant(v) => (0, v),
            RunForm::Sequence(v) => (1, v),
            RunForm::Each => (2, 0),
        }
    }

    fn from_parts(kind: u8, value: i64) -> Result<RunForm> {
        match kind {
            0 => Ok(RunForm::Constant(value)),
            1 => Ok(RunForm::Sequence(value)),
            2 => Ok(RunForm::Each),
            _ => Err(damaged()),
        }
    }

    /// The run; `each` gives the numbers of [`RunForm::Each`].
    pub(crate) fn run(self, each: impl FnOnce() -> Result<ScalarBuffer<i64>>) -> Result<Run> {
        Ok(match self {
            RunForm::Constant(v) => Run::Constant(v),
            RunForm::Sequence(v) => Run::Sequence(v),
            RunForm::Each => Run::Each(each()?),
        })
    }
}

/// What is known of a stored batch without decoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) rows: u32,
    pub(crate) sequence: RunForm,
    pub(crate) time: RunForm,
    pub(crate) ingested: RunForm,
    pub(crate) last_sequence: i64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    pub(crate) last_arrival: i64,
    /// Bytes of the payload and this entry.
    pub(crate) bytes: u64,
    /// The same summed over all earlier batches of the stream.
    pub(crate) bytes_before: u64,
    /// Greatest event time of all earlier batches of the stream.
    pub(crate) max_time_before: i64,
    /// Number of the chunk with the payload; `None` when it follows the entry.
    pub(crate) chunk: Option<u64>,
    /// No chunk of the stream committed so far has this number or a higher one.
    pub(crate) chunk_limit: u64,
}

impl Entry {
    /// The entry's bytes, with the payload when it is kept inline.
    pub(crate) fn encode(&self, inline: &[u8]) -> Vec<u8> {
        let (sequence_kind, sequence) = self.sequence.parts();
        let (time_kind, time) = self.time.parts();
        let (ingested_kind, ingested) = self.ingested.parts();
        let mut out = Vec::with_capacity(ENTRY_LEN + inline.len());
        out.push(VERSION);
        let inlined = u8::from(self.chunk.is_none());
        out.push(inlined | sequence_kind << 1 | time_kind << 3 | ingested_kind << 5);
        out.extend_from_slice(&self.rows.to_le_bytes());
        for number in [
            sequence,
            self.last_sequence,
            time,
            self.min_time,
            self.max_time,
            ingested,
            self.last_arrival,
            self.bytes as i64,
            self.bytes_before as i64,
            self.max_time_before,
            self.chunk.unwrap_or(0) as i64,
            self.chunk_limit as i64,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.extend_from_slice(inline);
        out
    }

    /// Reads an entry and the inline payload behind it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Entry, &[u8])> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(StorageError::UnknownFormat(format!("index entry version {version}")));
        }
        let flags = reader.u8()?;
        let rows = reader.u32()?;
        let mut number = || reader.i64();
        let (sequence, last_sequence) = (number()?, number()?);
        let (time, min_time, max_time) = (number()?, number()?, number()?);
        let (ingested, last_arrival) = (number()?, number()?);
        let (bytes_here, bytes_before) = (number()? as u64, number()? as u64);
        let max_time_before = number()?;
        let (chunk, chunk_limit) = (number()? as u64, number()? as u64);
        if reader.u32()? != crc32fast::hash(&bytes[..ENTRY_LEN - 4]) {
            return Err(damaged());
        }
        let entry = Entry {
            rows,
            sequence: RunForm::from_parts(flags >> 1 & 3, sequence)?,
            time: RunForm::from_parts(flags >> 3 & 3, time)?,
            ingested: RunForm::from_parts(flags >> 5 & 3, ingested)?,
            last_sequence,
            min_time,
            max_time,
            last_arrival,
            bytes: bytes_here,
            bytes_before,
            max_time_before,
            chunk: (flags & 1 == 0).then_some(chunk),
            chunk_limit,
        };
        Ok((entry, &bytes[ENTRY_LEN..]))
    }
}

fn damaged() -> StorageError {
    StorageError::Corrupted("index entry of a batch".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_and_damage_is_seen() {
        let entry = Entry {
            rows: 3,
            sequence: RunForm::Sequence(17),
            time: RunForm::Each,
            ingested: RunForm::Constant(-5),
            last_sequence: 19,
            min_time: 1,
            max_time: 9,
            last_arrival: -5,
            bytes: 1000,
            bytes_before: 5,
            max_time_before: i64::MIN,
            chunk: None,
            chunk_limit: 4,
        };
        let bytes = entry.encode(b"payload");
        assert_eq!(bytes.len(), ENTRY_LEN + 7);
        assert_eq!(Entry::decode(&bytes).unwrap(), (entry, &b"payload"[..]));
        let chunked = Entry { chunk: Some(7), ..entry };
        assert_eq!(Entry::decode(&chunked.encode(b"")).unwrap(), (chunked, &b""[..]));
        for at in 0..ENTRY_LEN {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert!(Entry::decode(&bytes).is_err(), "byte {at}");
            assert!(Entry::decode(&bytes[..at]).is_err());
        }
    }
}
