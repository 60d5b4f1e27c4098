//! The first row of each value of an endless stream.

use std::fmt;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::single;

/// Lets a row through when its values of `on` have not been seen before (nulls are equal).
///
/// State grows with the number of distinct values; `keys` of a `.partition_by` are simply part of
/// `on`, since "distinct per key" is "distinct by (key, value)".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct StreamDistinct {
    /// The only input.
    pub input: LogicalPlan,
    /// What must be new; the whole row when the user named nothing.
    pub on: Vec<Expr>,
}

impl UserDefinedLogicalNodeCore for StreamDistinct {
    fn name(&self) -> &str {
        "StreamDistinct"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.on.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<String> = self.on.iter().map(ToString::to_string).collect();
        write!(f, "StreamDistinct: on [{}]", on.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(StreamDistinct { input: single(inputs)?, on: exprs })
    }

    // A filter above may see columns that are not in `on`: which row counts as first must not
    // depend on it.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema().fields().iter().map(|f| f.name().clone()).collect()
    }
}
