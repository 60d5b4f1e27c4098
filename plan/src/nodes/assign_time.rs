//! Another event time from here on.

use std::fmt;

use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{columns_of, single};
use crate::time::duration;

/// Gives each row the value of `time` as its event time (where that is null the row keeps its own)
/// and follows it with a watermark of its own: the greatest event time seen here, less `delay_us`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct AssignTime {
    /// The only input.
    pub input: LogicalPlan,
    /// A `timestamptz` over the input.
    pub time: Expr,
    /// Allowed disorder in microseconds.
    pub delay_us: i64,
}

impl UserDefinedLogicalNodeCore for AssignTime {
    fn name(&self) -> &str {
        "AssignTime"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssignTime: {}, out of order by {}", self.time, duration(self.delay_us))
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        Ok(AssignTime {
            input: single(inputs)?,
            time: exprs.pop().unwrap_or_else(|| self.time.clone()),
            delay_us: self.delay_us,
        })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![columns_of([&self.time], self.input.schema(), output_columns)])
    }

    // The watermark depends on every row that arrives here.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema().fields().iter().map(|f| f.name().clone()).collect()
    }
}
