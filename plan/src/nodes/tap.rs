//! Rows written to the server's output on their way.

use std::fmt;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::single;

/// Where a tap writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub enum TapKind {
    /// Standard output, one line per row.
    Print,
    /// The server's log at this level (`error`, `warn`, `info`, `debug`, `trace`).
    Log {
        /// Level name.
        level: String,
    },
}

/// Passes its input on unchanged and writes the values of `values` for each row.
///
/// At least once: rows replayed after a crash are written again. Nothing downstream depends on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct StreamTap {
    /// The only input.
    pub input: LogicalPlan,
    /// Where to write.
    pub kind: TapKind,
    /// What to write; the whole row as JSON when empty.
    pub values: Vec<Expr>,
}

impl UserDefinedLogicalNodeCore for StreamTap {
    fn name(&self) -> &str {
        "StreamTap"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.values.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        match &self.kind {
            TapKind::Print => write!(f, "StreamTap: print [{}]", values.join(", ")),
            TapKind::Log { level } => write!(f, "StreamTap: log {level} [{}]", values.join(", ")),
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(StreamTap { input: single(inputs)?, kind: self.kind.clone(), values: exprs })
    }

    // A filter above must not move below: the tap shows what passes at its place.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema().fields().iter().map(|f| f.name().clone()).collect()
    }
}
