//! What can go wrong, by what the caller must do about it.

use auspex_storage::{StorageError, StreamId};
use datafusion::common::DataFusionError;
use thiserror::Error;

/// A row on which an expression failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFailure {
    /// Stream in which the row entered the query.
    pub stream: StreamId,
    /// Its offset there.
    pub offset: u64,
    /// Its place in the global order.
    pub sequence: i64,
    /// What failed, in words for the user.
    pub reason: String,
}

impl RowFailure {
    /// Stands for the stream of rows that were made inside a query (results of windows).
    pub const NO_STREAM: StreamId = StreamId::MAX;
}

/// An error of this crate.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The plan needs something that continuous queries cannot do (yet). The front ends refuse
    /// such plans with a position; this is the last line of defence.
    #[error("{0} is not supported in a continuous query")]
    Unsupported(String),
    /// The plan contradicts itself: a defect of what made it.
    #[error("invalid plan: {0}")]
    Plan(String),
    /// An expression failed on a row and the query's policy is to stop there.
    #[error("row {} of stream {}: {}", .0.offset, .0.stream, .0.reason)]
    Row(RowFailure),
    /// The operators' saved state cannot be read.
    #[error("saved state is damaged: {0}")]
    State(String),
    /// The operators keep more than the query may.
    #[error(
        "its operators keep {bytes} bytes of state, more than max_state_bytes = {limit}; \
         raise it with ALTER .. SET (max_state_bytes = ..) and RESUME"
    )]
    StateLimit {
        /// What they keep.
        bytes: u64,
        /// What they may.
        limit: u64,
    },
    /// The store refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no such query.
    #[error("no query fills stream {0}")]
    UnknownQuery(StreamId),
    /// A query with this output stream is there already.
    #[error("stream {0} is already filled by a query")]
    QueryExists(StreamId),
    /// The runtime has been shut down.
    #[error("the engine is shutting down")]
    Closed,
}

impl From<DataFusionError> for ExecError {
    fn from(error: DataFusionError) -> Self {
        ExecError::Plan(error.strip_backtrace())
    }
}

impl From<arrow::error::ArrowError> for ExecError {
    fn from(error: arrow::error::ArrowError) -> Self {
        ExecError::Plan(error.to_string())
    }
}

/// Result of this crate.
pub type Result<T, E = ExecError> = std::result::Result<T, E>;
