//! A continuous query as the front ends hand it over.

use std::fmt;

use datafusion::logical_expr::LogicalPlan;
use serde::{Deserialize, Serialize};

use crate::catalog::ObjectId;
use crate::diagnostic::Diagnostic;

/// What happens to a row on which an expression fails (`semantics.md` section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The failing expression is null; a failing condition is not true.
    Null,
    /// The row is left out and counted.
    Skip,
    /// The row is left out, counted, and kept in `auspex.dead_letters` with the reason.
    #[default]
    DeadLetter,
    /// The query stops with status `failed`; it goes on from the same row when resumed.
    Stop,
}

impl OnError {
    /// The words of `on_error = ..` and `.on_error(..)`.
    pub const NAMES: [&'static str; 4] = ["null", "skip", "dead_letter", "stop"];

    /// Reads one of [`OnError::NAMES`].
    pub fn parse(word: &str) -> Option<OnError> {
        Some(match word {
            "null" => OnError::Null,
            "skip" => OnError::Skip,
            "dead_letter" => OnError::DeadLetter,
            "stop" => OnError::Stop,
            _ => return None,
        })
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnError::Null => "null",
            OnError::Skip => "skip",
            OnError::DeadLetter => "dead_letter",
            OnError::Stop => "stop",
        })
    }
}

/// Where the event time of a stream's rows comes from (`semantics.md` section 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventTime {
    /// A source stream without declared time: the moment of arrival.
    Arrival,
    /// A column, with the disorder the watermark allows for.
    Column {
        /// Name of a `timestamptz` column.
        column: String,
        /// Allowed disorder in microseconds: watermark = greatest time seen - this.
        delay_us: i64,
    },
    /// A derived stream whose rows keep the event time of the row they came from.
    Inherited,
}

/// A bound continuous query: its optimised plan and what runs it.
#[derive(Debug, Clone)]
pub struct ContinuousQuery {
    /// Scans are [`crate::StreamRelation`]s; the root's schema is the output's columns.
    pub plan: LogicalPlan,
    /// Streams and tables scanned, each once, ascending.
    pub inputs: Vec<ObjectId>,
    /// Policy for rows on which an expression fails.
    pub on_error: OnError,
    /// Event time of the output rows.
    pub event_time: EventTime,
    /// What the user should know although the query is accepted.
    pub warnings: Vec<Diagnostic>,
}
