//! When the results of a continuous query come: what stands behind it.

use auspex_plan::nodes::{OutputEvery, OutputMode};
use auspex_plan::{Emit, Span};

/// `EMIT ..`, `OUTPUT ..` and `ALLOWED LATENESS ..` behind a query, each with its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emission {
    /// `EMIT ON WINDOW CLOSE | CHANGES | EVERY interval`.
    pub emit: Option<(Emit, Span)>,
    /// `OUTPUT FIRST | LAST | ALL | SNAPSHOT EVERY n ROWS | interval`.
    pub output: Option<((OutputMode, OutputEvery), Span)>,
    /// `ALLOWED LATENESS interval`, or the option `allowed_lateness`: microseconds.
    pub lateness: Option<(i64, Span)>,
}

impl Emission {
    /// Where the first of the clauses is, if there is one.
    pub fn span(&self) -> Option<Span> {
        let spans =
            [self.emit.map(|(_, s)| s), self.output.map(|(_, s)| s), self.lateness.map(|(_, s)| s)];
        spans.into_iter().flatten().min_by_key(|s| s.start)
    }
}
