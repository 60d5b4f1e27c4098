//! The saved state that every kind of window has.

use crate::error::{ExecError, Result};
use crate::operator::StateWriter;

use super::intake::Seen;

/// Key of the header in the saved state.
pub(super) const HEADER: u8 = b'h';

/// The watermark at its last boundary, and the rows seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) watermark: i64,
    pub(super) seen: Seen,
}

impl Header {
    /// Writes `now` when it is not what was `saved`.
    pub(super) fn checkpoint(now: Header, saved: &mut Option<Header>, state: &mut StateWriter) {
        if saved.replace(now) == Some(now) {
            return;
        }
        let mut value = now.watermark.to_be_bytes().to_vec();
        value.extend(now.seen.rows.to_be_bytes());
        value.extend(now.seen.ingested.map(i64::to_be_bytes).into_iter().flatten());
        state.put(&[HEADER], value);
    }

    /// What was written.
    pub(super) fn read(value: &[u8]) -> Result<Header> {
        let mut numbers = value.chunks(8).map(<[u8; 8]>::try_from);
        let mut next = || numbers.next().transpose().ok().flatten();
        let (watermark, rows) = next()
            .zip(next())
            .ok_or_else(|| ExecError::State("the header of a window that cannot be read".into()))?;
        let ingested = next().map(i64::from_be_bytes);
        let seen = Seen { rows: u64::from_be_bytes(rows), ingested };
        Ok(Header { watermark: i64::from_be_bytes(watermark), seen })
    }
}
