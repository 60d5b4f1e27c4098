//! What a stream keeps of its rows, and how often results come out: the windows and output rates of
//! the Siddhi family (`sql.md` section 3).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::utils::exprlist_to_fields;
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr, UserDefinedLogicalNodeCore};

use super::{columns_of, listed, single};
use crate::time::duration;

/// Which rows are kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub enum Retention {
    /// The last n rows.
    Length(u64),
    /// Up to n rows, forgotten together when they are complete.
    LengthBatch(u64),
    /// The rows of the last so many microseconds: event time > that of the present row - this.
    Time(i64),
    /// The rows of an interval of so many microseconds (aligned to the epoch), forgotten together.
    TimeBatch(i64),
    /// The n rows that come first in this order.
    Sort(u64, Vec<SortExpr>),
    /// The last row of each value.
    Unique(Vec<Expr>),
    /// No row, but each comes out so many microseconds later in event time.
    Delay(i64),
}

impl Retention {
    fn exprs(&self) -> Vec<Expr> {
        match self {
            Retention::Sort(_, order) => order.iter().map(|s| s.expr.clone()).collect(),
            Retention::Unique(on) => on.clone(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retention::Length(n) => write!(f, "length {n}"),
            Retention::LengthBatch(n) => write!(f, "length batch {n}"),
            Retention::Time(us) => write!(f, "time {}", duration(*us)),
            Retention::TimeBatch(us) => write!(f, "time batch {}", duration(*us)),
            Retention::Sort(n, order) => {
                let order: Vec<String> = order.iter().map(ToString::to_string).collect();
                write!(f, "sort {n} by [{}]", order.join(", "))
            }
            Retention::Unique(on) => write!(f, "unique [{}]", listed(on)),
            Retention::Delay(us) => write!(f, "delay {}", duration(*us)),
        }
    }
}

/// Each input row with aggregates over the rows kept at that moment, itself included: the input's
/// columns, then the aggregates.
///
/// The batch kinds give their rows when the batch is complete; with aggregates one row per group
/// (its last row's columns with the batch's aggregates).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RetentionWindow {
    /// The only input.
    pub input: LogicalPlan,
    /// Which rows are kept, over all groups together.
    pub kept: Retention,
    /// Groups of the aggregates (`GROUP BY`).
    pub keys: Vec<Expr>,
    /// [`Expr::AggregateFunction`]s; may be empty.
    pub aggregates: Vec<Expr>,
    schema: DFSchemaRef,
}

impl RetentionWindow {
    /// See the fields.
    ///
    /// # Errors
    /// When an expression does not fit the input.
    pub fn try_new(
        input: LogicalPlan,
        kept: Retention,
        keys: Vec<Expr>,
        aggregates: Vec<Expr>,
    ) -> Result<Self> {
        let own = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f)));
        let fields = own.chain(exprlist_to_fields(&aggregates, &input)?).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(RetentionWindow { input, kept, keys, aggregates, schema })
    }
}

impl PartialOrd for RetentionWindow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for RetentionWindow {
    fn name(&self) -> &str {
        "RetentionWindow"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let kept = self.kept.exprs();
        kept.into_iter().chain(self.keys.clone()).chain(self.aggregates.clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, aggregates) = (listed(&self.keys), listed(&self.aggregates));
        write!(f, "RetentionWindow: {}, by [{keys}], [{aggregates}]", self.kept)
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let mut keys = exprs.split_off(self.kept.exprs().len());
        let aggregates = keys.split_off(self.keys.len());
        let kept = match &self.kept {
            Retention::Sort(n, order) => {
                let order = order.iter().zip(exprs).map(|(s, e)| s.with_expr(e)).collect();
                Retention::Sort(*n, order)
            }
            Retention::Unique(_) => Retention::Unique(exprs),
            other => other.clone(),
        };
        RetentionWindow::try_new(single(inputs)?, kept, keys, aggregates)
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}

/// Which rows of a period come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub enum OutputMode {
    /// All, together at the end of the period.
    All,
    /// The first of each key, at once.
    First,
    /// The last of each key, at the end of the period.
    Last,
    /// The last of each key ever, at the end of the period.
    Snapshot,
}

/// How long a period of [`OutputRate`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub enum OutputEvery {
    /// So many rows.
    Rows(u64),
    /// So many microseconds of event time, aligned to the epoch.
    Time(i64),
}

/// Lets only some of the rows through (`OUTPUT FIRST | LAST | ALL | SNAPSHOT EVERY ..`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct OutputRate {
    /// The only input.
    pub input: LogicalPlan,
    /// Which rows.
    pub mode: OutputMode,
    /// Of which period.
    pub every: OutputEvery,
    /// Keys of "first" and "last"; none for one over all rows.
    pub keys: Vec<Expr>,
}

impl UserDefinedLogicalNodeCore for OutputRate {
    fn name(&self) -> &str {
        "OutputRate"
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
        let mode = match self.mode {
            OutputMode::All => "all",
            OutputMode::First => "first",
            OutputMode::Last => "last",
            OutputMode::Snapshot => "snapshot",
        };
        write!(f, "OutputRate: {mode} every ")?;
        match self.every {
            OutputEvery::Rows(n) => write!(f, "{n} rows")?,
            OutputEvery::Time(us) => write!(f, "{}", duration(us))?,
        }
        write!(f, ", by [{}]", listed(&self.keys))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(OutputRate { input: single(inputs)?, keys: exprs, ..*self })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![columns_of(&self.keys, self.input.schema(), output_columns)])
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema().fields().iter().map(|f| f.name().clone()).collect()
    }
}
