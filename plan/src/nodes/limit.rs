//! The first rows of an endless stream.

use std::fmt;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::single;

/// Lets the first `limit` rows through for the whole life of the query; with `keys`, the first
/// `limit` rows of each key (nulls are equal).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct StreamLimit {
    /// The only input.
    pub input: LogicalPlan,
    /// Rows let through per key.
    pub limit: u64,
    /// Partition keys; empty for one count over the whole stream.
    pub keys: Vec<Expr>,
}

impl UserDefinedLogicalNodeCore for StreamLimit {
    fn name(&self) -> &str {
        "StreamLimit"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamLimit: {}", self.limit)?;
        if !self.keys.is_empty() {
            let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
            write!(f, " per [{}]", keys.join(", "))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(StreamLimit { input: single(inputs)?, limit: self.limit, keys: exprs })
    }

    // A filter above must not move below: it would change which rows are counted.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema().fields().iter().map(|f| f.name().clone()).collect()
    }
}
