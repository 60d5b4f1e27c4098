//! What can be seen of a query from outside.

use std::collections::BTreeMap;

use crate::graph::OperatorStatus;

use auspex_storage::StreamId;
use serde::{Deserialize, Serialize};

/// Whether a query moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryState {
    /// It processes what comes.
    Running,
    /// It stands still until resumed.
    Paused,
    /// It stands still because of an error, in words for the user; resuming tries again from where
    /// it stands.
    Failed(String),
}

/// Exact counts over the whole life of a query, restarts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Rows taken from the inputs.
    pub rows_in: u64,
    /// Rows given to the output stream.
    pub rows_out: u64,
    /// Rows left out because an expression failed, recorded as dead letters.
    pub dead_letters: u64,
    /// Rows left out because an expression failed, under `on_error = skip`.
    pub skipped: u64,
    /// Rows with a failed expression made null.
    pub nulled: u64,
    /// Rows that came too late for an operator and were left out of its results.
    pub late: u64,
    /// Input rows that were removed by retention before the query had read them.
    pub lost: u64,
}

/// A query as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryStatus {
    /// Whether it moves.
    pub state: QueryState,
    /// Counts.
    pub counters: Counters,
    /// Next offset to be read of each input.
    pub position: BTreeMap<StreamId, u64>,
    /// Every input row with a global sequence below this has been processed.
    pub frontier: u64,
    /// Input rows that wait.
    pub lag: u64,
    /// Bytes of operator state, roughly.
    pub state_bytes: u64,
    /// See [`crate::Graph::waits_for_time`].
    pub waits_for_time: bool,
    /// The operators, in the order of the graph.
    pub operators: Vec<OperatorStatus>,
}
