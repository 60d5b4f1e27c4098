//! A continuous query as the front ends hand it over.

use std::fmt;

use datafusion::logical_expr::LogicalPlan;
use serde::{Deserialize, Serialize};

use crate::catalog::ObjectId;
use crate::diagnostic::Diagnostic;
use crate::nodes::{AssignTime, JoinTime, StreamAggregate, StreamJoin, StreamPattern, WindowRows};
use crate::relation::StreamRelation;
use crate::time::{Clock, Emit, Window};

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
    /// A derived stream whose rows have the event time that `semantics.md` section 2 gives them,
    /// and the watermark of the roots of what it reads.
    Inherited,
    /// A derived stream whose query assigns event times anew ([`crate::nodes::AssignTime`]): its own
    /// root, with this distance (microseconds) of its watermark from the greatest time seen.
    Assigned {
        /// See above.
        delay_us: i64,
    },
}

impl ContinuousQuery {
    /// Event time of the output rows, and what moves the output's watermark.
    pub fn event_time(&self) -> (EventTime, Vec<Clock>) {
        match progress(&self.plan) {
            Progress::Roots(clocks) => (EventTime::Inherited, clocks),
            Progress::Own { delay_us } => (EventTime::Assigned { delay_us }, Vec::new()),
        }
    }
}

/// Where the watermark at a place of a plan comes from.
enum Progress {
    Roots(Vec<Clock>),
    /// From the rows at that place themselves.
    Own {
        delay_us: i64,
    },
}

impl Progress {
    /// Further behind by `hold_us`.
    fn held(mut self, hold_us: i64) -> Progress {
        match &mut self {
            Progress::Roots(clocks) => clocks.iter_mut().for_each(|c| c.delay_us += hold_us),
            Progress::Own { delay_us } => *delay_us += hold_us,
        }
        self
    }

    fn merge(self, other: Progress) -> Progress {
        match (self, other) {
            (Progress::Roots(a), Progress::Roots(b)) => {
                Progress::Roots(Clock::union(a.into_iter().chain(b)))
            }
            (Progress::Own { delay_us: a }, Progress::Own { delay_us: b }) => {
                Progress::Own { delay_us: a.max(b) }
            }
            (Progress::Own { delay_us }, Progress::Roots(clocks))
            | (Progress::Roots(clocks), Progress::Own { delay_us }) => {
                let most = clocks.iter().map(|c| c.delay_us).max().unwrap_or(0);
                Progress::Own { delay_us: delay_us.max(most) }
            }
        }
    }
}

fn progress(plan: &LogicalPlan) -> Progress {
    if let LogicalPlan::TableScan(scan) = plan {
        let relation = scan.source.downcast_ref::<StreamRelation>();
        return Progress::Roots(relation.map(|r| r.clocks.clone()).unwrap_or_default());
    }
    if let LogicalPlan::Extension(extension) = plan {
        let node = extension.node.as_any();
        if let Some(assign) = node.downcast_ref::<AssignTime>() {
            return Progress::Own { delay_us: assign.delay_us };
        }
        if let Some(aggregate) = node.downcast_ref::<StreamAggregate>() {
            let by_row = matches!(aggregate.window, Window::Count { .. } | Window::Unbounded)
                || aggregate.emit == Emit::Changes;
            return match progress(&aggregate.input) {
                // Results at closing are in the order of their times, except for revisions.
                Progress::Own { .. } if !by_row && aggregate.emit == Emit::OnClose => {
                    Progress::Own { delay_us: aggregate.hold_us() }
                }
                // Results in between have the time of their window's end, too, which is ahead.
                Progress::Own { delay_us } if !by_row => {
                    let ahead_us = aggregate.window.longest_us().unwrap_or(0);
                    Progress::Own { delay_us: delay_us.saturating_add(ahead_us) }
                        .held(aggregate.hold_us())
                }
                below => below.held(aggregate.hold_us()),
            };
        }
        if let Some(rows) = node.downcast_ref::<WindowRows>() {
            return progress(&rows.input).held(rows.hold_us());
        }
        if let Some(pattern) = node.downcast_ref::<StreamPattern>() {
            let hold_us = pattern.pattern.hold_us();
            let below = pattern.inputs.iter().map(progress).reduce(Progress::merge);
            return below.unwrap_or(Progress::Roots(Vec::new())).held(hold_us);
        }
        if let Some(join) = node.downcast_ref::<StreamJoin>() {
            let left = progress(&join.left);
            return match join.time {
                JoinTime::Lookup => left,
                _ => left.merge(progress(&join.right)).held(join.hold_us()),
            };
        }
    }
    let mut inputs = plan.inputs().into_iter().map(progress);
    let first = inputs.next().unwrap_or(Progress::Roots(Vec::new()));
    inputs.fold(first, Progress::merge)
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
    /// What the user should know although the query is accepted.
    pub warnings: Vec<Diagnostic>,
}
