//! Joins of endless streams (`semantics.md` section 4).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, DataFusionError, JoinType, Result};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::columns_of;
use crate::time::duration;

/// What decides which rows of the two sides belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub enum JoinTime {
    /// `lower <= right's event time - left's event time <= upper`, in microseconds. Every pair once,
    /// when its later row is due; rows without a partner (outer joins) when the watermark rules one
    /// out. A window join is this with both bounds 0, over inputs whose rows are due at their
    /// window's end.
    Interval {
        /// Least difference.
        lower_us: i64,
        /// Greatest difference.
        upper_us: i64,
    },
    /// For each left row, the right row with the greatest event time that is not after the left
    /// row's (before it, when `strict`); inner or left.
    AsOf {
        /// Equal times do not match.
        strict: bool,
        /// The right row may be at most this much older (microseconds).
        tolerance_us: Option<i64>,
    },
    /// For each left row, the right rows that are current at its place in the log: the right side
    /// are the changes of a table or materialized view. Inner, left, semi or anti.
    Lookup,
}

/// A join of two streams, or of a stream with what changes.
///
/// The right side of a [`JoinTime::Lookup`] is a scan of a relation's changes (see
/// [`crate::relation::StreamRelation::changes`]) with all its columns; [`crate::relation::OP_COLUMN`]
/// is its last one. `identity` tells its rows apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamJoin {
    /// Left side.
    pub left: LogicalPlan,
    /// Right side.
    pub right: LogicalPlan,
    /// Inner, Left, Right, Full, LeftSemi or LeftAnti, as far as `time` has it.
    pub kind: JoinType,
    /// What decides besides the keys.
    pub time: JoinTime,
    /// Pairs of equal expressions, over the left and the right side; null equals nothing.
    pub on: Vec<(Expr, Expr)>,
    /// Further condition over both sides' columns; part of what makes a partner.
    pub filter: Option<Expr>,
    /// Key columns of the right side of a look-up; empty otherwise.
    pub identity: Vec<Expr>,
    schema: DFSchemaRef,
}

impl StreamJoin {
    /// See the fields.
    ///
    /// # Errors
    /// When both sides have a column of the same qualified name.
    pub fn try_new(
        left: LogicalPlan,
        right: LogicalPlan,
        kind: JoinType,
        time: JoinTime,
        on: Vec<(Expr, Expr)>,
        filter: Option<Expr>,
        identity: Vec<Expr>,
    ) -> Result<Self> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &kind)?);
        Ok(StreamJoin { left, right, kind, time, on, filter, identity, schema })
    }

    /// How far (microseconds) the output's watermark lags behind the inputs': rows without a partner
    /// come out when the watermark is this far beyond their time.
    pub fn hold_us(&self) -> i64 {
        let JoinTime::Interval { lower_us, upper_us } = self.time else { return 0 };
        let left = match self.kind {
            JoinType::Left | JoinType::Full | JoinType::LeftAnti => upper_us.max(0),
            _ => 0,
        };
        let right = match self.kind {
            JoinType::Right | JoinType::Full => lower_us.saturating_neg().max(0),
            _ => 0,
        };
        left.max(right)
    }
}

impl PartialOrd for StreamJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StreamJoin {
    fn name(&self) -> &str {
        "StreamJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    // Left keys, right keys, identity, filter.
    fn expressions(&self) -> Vec<Expr> {
        let left = self.on.iter().map(|(l, _)| l);
        let right = self.on.iter().map(|(_, r)| r);
        left.chain(right).chain(&self.identity).chain(&self.filter).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<String> = self.on.iter().map(|(l, r)| format!("{l} = {r}")).collect();
        write!(f, "StreamJoin: {}, on [{}]", self.kind, on.join(", "))?;
        match self.time {
            JoinTime::Interval { lower_us, upper_us } => {
                write!(f, ", within [{}, {}]", duration(lower_us), duration(upper_us))?;
            }
            JoinTime::AsOf { strict, tolerance_us } => {
                write!(f, ", as of{}", if strict { ", strictly before" } else { "" })?;
                if let Some(tolerance) = tolerance_us {
                    write!(f, ", at most {} older", duration(tolerance))?;
                }
            }
            JoinTime::Lookup => f.write_str(", look-up")?,
        }
        match &self.filter {
            Some(filter) => write!(f, ", filter {filter}"),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let (Some(right), Some(left), true) = (inputs.pop(), inputs.pop(), inputs.is_empty())
        else {
            return Err(DataFusionError::Internal("a join has two inputs".into()));
        };
        let mut rest = exprs.split_off(self.on.len());
        let mut identity = rest.split_off(self.on.len());
        let filter = self.filter.as_ref().and_then(|_| identity.pop());
        let on = exprs.into_iter().zip(rest).collect();
        StreamJoin::try_new(left, right, self.kind, self.time, on, filter, identity)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let lefts = self.left.schema().fields().len();
        let of_left: Vec<usize> = output_columns.iter().copied().filter(|c| *c < lefts).collect();
        let of_right = output_columns.iter().filter(|c| **c >= lefts).map(|c| c - lefts);
        let of_right: Vec<usize> = of_right.collect();
        let exprs = self.expressions();
        let left = columns_of(&exprs, self.left.schema(), &of_left);
        let rights = self.right.schema().fields().len();
        let right = match self.time {
            // Changes are applied whole.
            JoinTime::Lookup => (0..rights).collect(),
            _ => columns_of(&exprs, self.right.schema(), &of_right),
        };
        Some(vec![left, right])
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}
