//! Groups of rows in time and by key, and their aggregates.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::utils::exprlist_to_fields;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{columns_of, listed, single};
use crate::relation::{REVISION_COLUMN, WINDOW_END_COLUMN, WINDOW_START_COLUMN, window_fields};
use crate::time::{Emit, Window, duration};

/// Aggregates of the rows of each window and key (`semantics.md` section 3).
///
/// Output columns: `window_start` and `window_end` (unless the window is [`Window::Unbounded`]), the
/// keys, the aggregates, and `_revision` (unless `emit` is [`Emit::OnClose`] without lateness, or
/// the window is unbounded). Keys and aggregates are named as in DataFusion's own `Aggregate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamAggregate {
    /// The only input.
    pub input: LogicalPlan,
    /// How rows are grouped in time.
    pub window: Window,
    /// Partition keys; none for one group. Nulls are equal.
    pub keys: Vec<Expr>,
    /// [`Expr::AggregateFunction`]s, with an alias or without.
    pub aggregates: Vec<Expr>,
    /// When results come.
    pub emit: Emit,
    /// How long after its end a window still takes late rows (microseconds).
    pub lateness_us: i64,
    schema: DFSchemaRef,
}

impl StreamAggregate {
    /// See the fields.
    ///
    /// # Errors
    /// When an expression does not fit the input.
    pub fn try_new(
        input: LogicalPlan,
        window: Window,
        keys: Vec<Expr>,
        aggregates: Vec<Expr>,
        emit: Emit,
        lateness_us: i64,
    ) -> Result<Self> {
        let mut fields = Vec::new();
        if window.has_bounds() {
            fields.extend(window_fields().into_iter().map(|f| (None, Arc::new(f))));
        }
        fields.extend(exprlist_to_fields(&keys, &input)?);
        fields.extend(exprlist_to_fields(&aggregates, &input)?);
        if window.has_bounds() && (emit != Emit::OnClose || lateness_us > 0) {
            fields.push((None, Arc::new(crate::relation::revision_field())));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(StreamAggregate { input, window, keys, aggregates, emit, lateness_us, schema })
    }

    /// How far (microseconds) the output's watermark is behind the input's: late rows change results
    /// that were given; and a session takes rows at its end, so that its result, whose event time is
    /// just before that, comes when the watermark is above it.
    pub fn hold_us(&self) -> i64 {
        match self.window {
            Window::Session { .. } => self.lateness_us.saturating_add(1),
            _ => self.lateness_us,
        }
    }

    /// Whether results carry `_revision`.
    pub fn has_revision(&self) -> bool {
        self.schema.fields().last().is_some_and(|f| f.name() == REVISION_COLUMN)
            && self.window.has_bounds()
    }
}

impl PartialOrd for StreamAggregate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StreamAggregate {
    fn name(&self) -> &str {
        "StreamAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain(&self.aggregates).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "StreamAggregate: {}, by [{}], [{}], emit {}",
            self.window,
            listed(&self.keys),
            listed(&self.aggregates),
            self.emit
        )?;
        if self.lateness_us > 0 {
            write!(f, ", lateness {}", duration(self.lateness_us))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let aggregates = exprs.split_off(self.keys.len());
        let input = single(inputs)?;
        StreamAggregate::try_new(input, self.window, exprs, aggregates, self.emit, self.lateness_us)
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let exprs = self.keys.iter().chain(&self.aggregates);
        Some(vec![columns_of(exprs, self.input.schema(), &[])])
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}

/// The rows of each window, output when it closes: the input's columns, then `window_start` and
/// `window_end`.
///
/// Rows come in the order of `order_by` (then of arrival); of each window only the first `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowRows {
    /// The only input.
    pub input: LogicalPlan,
    /// How rows are grouped in time; not [`Window::Unbounded`].
    pub window: Window,
    /// Partition keys: of sessions and counts, and `order_by` and `limit` hold per key.
    pub keys: Vec<Expr>,
    /// Order within a window.
    pub order_by: Vec<datafusion::logical_expr::SortExpr>,
    /// Rows of a window that come out.
    pub limit: Option<u64>,
    schema: DFSchemaRef,
}

impl WindowRows {
    /// See the fields.
    ///
    /// # Errors
    /// When the input has a column `window_start` or `window_end`.
    pub fn try_new(
        input: LogicalPlan,
        window: Window,
        keys: Vec<Expr>,
        order_by: Vec<datafusion::logical_expr::SortExpr>,
        limit: Option<u64>,
    ) -> Result<Self> {
        let own = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f)));
        let bounds = window_fields().into_iter().map(|f| (None, Arc::new(f)));
        let fields = own.chain(bounds).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(WindowRows { input, window, keys, order_by, limit, schema })
    }

    /// How far (microseconds) the output's watermark is behind the input's, as of a
    /// [`StreamAggregate`].
    pub fn hold_us(&self) -> i64 {
        i64::from(matches!(self.window, Window::Session { .. }))
    }
}

impl PartialOrd for WindowRows {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowRows {
    fn name(&self) -> &str {
        "WindowRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().cloned().chain(self.order_by.iter().map(|s| s.expr.clone())).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowRows: {}, by [{}]", self.window, listed(&self.keys))?;
        if !self.order_by.is_empty() {
            let order: Vec<String> = self.order_by.iter().map(ToString::to_string).collect();
            write!(f, ", order by [{}]", order.join(", "))?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit {limit}"),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let order = exprs.split_off(self.keys.len());
        let order_by = self.order_by.iter().zip(order);
        let order_by = order_by.map(|(sort, expr)| sort.with_expr(expr)).collect();
        WindowRows::try_new(single(inputs)?, self.window, exprs, order_by, self.limit)
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}

/// The bounds' names, for binders.
pub const WINDOW_COLUMNS: [&str; 2] = [WINDOW_START_COLUMN, WINDOW_END_COLUMN];
