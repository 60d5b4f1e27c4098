//! Windows in FROM: planning them, and the node that stands for them until the query around them is
//! known.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use auspex_plan::nodes::{Retention, RetentionWindow, WINDOW_COLUMNS};
use auspex_plan::relation::{REVISION_COLUMN, WINDOW_END_COLUMN, WINDOW_START_COLUMN};
use auspex_plan::relation::{revision_field, window_fields};
use auspex_plan::{Diagnostic, Span, SqlState, Window};
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, ScalarValue};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, SortExpr,
    UserDefinedLogicalNodeCore,
};
use sqlparser::ast::{self, TableFactor};

use super::times::times;
use super::{Kept, extension};
use crate::bind::Binder;
use crate::bind::context::Reader;
use crate::bind::from::{FromWindow, FromWindowKind};

/// The rows of `TUMBLE(..)` and the like with the columns of their windows. What becomes of it
/// depends on the query: see [`super::Lowering`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FromTable {
    pub(super) input: LogicalPlan,
    pub(super) window: Window,
    /// `PARTITION BY`.
    pub(super) keys: Vec<Expr>,
    /// Whether there is a column `_revision`.
    pub(super) revision: bool,
    /// The function's name.
    pub(super) span: Option<Span>,
    schema: DFSchemaRef,
}

impl FromTable {
    fn try_new(
        input: LogicalPlan,
        window: Window,
        keys: Vec<Expr>,
        revision: bool,
        span: Option<Span>,
    ) -> datafusion::common::Result<Self> {
        let own = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f)));
        let mut fields: Vec<_> = own.collect();
        fields.extend(window_fields().into_iter().map(|f| (None, Arc::new(f))));
        if revision {
            fields.push((None, Arc::new(revision_field())));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(FromTable { input, window, keys, revision, span, schema })
    }

    /// Position of `window_end`.
    pub(super) fn window_end(&self) -> Option<usize> {
        Some(self.input.schema().fields().len() + 1)
    }
}

impl PartialOrd for FromTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for FromTable {
    fn name(&self) -> &str {
        "FromTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromTable: {}", self.window)
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> datafusion::common::Result<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("a window has one input".into()))?;
        FromTable::try_new(input, self.window, exprs, self.revision, self.span)
    }
}

/// Plans the windows in FROM that [`crate::bind::from`] has found.
#[derive(Clone)]
pub(crate) struct FromPlanner {
    pub(crate) binder: Binder,
    pub(crate) reader: Reader,
    pub(crate) windows: Vec<FromWindow>,
}

impl fmt::Debug for FromPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromPlanner({:?})", self.windows)
    }
}

impl RelationPlanner for FromPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> datafusion::common::Result<RelationPlanning> {
        let TableFactor::Pivot { table, aggregate_functions, value_column, alias, .. } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let index = match aggregate_functions.first().map(|f| &f.expr) {
            Some(ast::Expr::Value(v)) => match &v.value {
                ast::Value::Number(n, _) => n.parse::<usize>().ok(),
                _ => None,
            },
            _ => None,
        };
        let Some(window) = index.and_then(|i| self.windows.get(i)) else {
            return Err(DataFusionError::NotImplemented("PIVOT".into()));
        };
        let input = context.plan(*table)?;
        let exprs = value_column
            .into_iter()
            .map(|expr| context.sql_to_expr(expr, input.schema()))
            .collect::<datafusion::common::Result<Vec<_>>>()?;
        let plan = match &window.kind {
            FromWindowKind::Table { window: kind, keys, time, revision } => {
                let (keys, time_column) = exprs.split_at(*keys);
                if let (Some(column), Some(span)) = (time_column.first(), time) {
                    self.check_time(&input, column, *span).map_err(external)?;
                }
                match self.reader {
                    Reader::Continuous => {
                        let input = without_bounds(input)?;
                        let revision = *revision
                            && input
                                .schema()
                                .index_of_column_by_name(None, REVISION_COLUMN)
                                .is_none();
                        extension(FromTable::try_new(
                            input,
                            *kind,
                            keys.to_vec(),
                            revision,
                            window.span,
                        )?)
                    }
                    Reader::Terminating => {
                        self.stored(input, *kind, time_column, keys, window.span)?
                    }
                }
            }
            FromWindowKind::Retention { kept, descending } => {
                let kept = retention(*kept, exprs, descending);
                extension(RetentionWindow::try_new(input, kept, Vec::new(), Vec::new())?)
            }
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn external(error: Diagnostic) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn retention(kept: Kept, exprs: Vec<Expr>, descending: &[(bool, bool)]) -> Retention {
    match kept {
        Kept::Length(n) => Retention::Length(n),
        Kept::LengthBatch(n) => Retention::LengthBatch(n),
        Kept::Time(us) => Retention::Time(us),
        Kept::TimeBatch(us) => Retention::TimeBatch(us),
        Kept::Delay(us) => Retention::Delay(us),
        Kept::Unique => Retention::Unique(exprs),
        Kept::Sort(n) => {
            let order = exprs.into_iter().zip(descending);
            let order = order.map(|(e, (asc, nulls_first))| SortExpr::new(e, *asc, *nulls_first));
            Retention::Sort(n, order.collect())
        }
    }
}

/// The bounds of an inner window make room for those of the outer one.
fn without_bounds(input: LogicalPlan) -> datafusion::common::Result<LogicalPlan> {
    let schema = input.schema();
    let is_bound = |name: &str| WINDOW_COLUMNS.contains(&name);
    if !schema.fields().iter().any(|f| is_bound(f.name())) {
        return Ok(input);
    }
    let kept: Vec<Expr> = schema
        .iter()
        .filter(|(_, f)| !is_bound(f.name()))
        .map(|(q, f)| Expr::Column(Column::new(q.cloned(), f.name())))
        .collect();
    LogicalPlanBuilder::from(input).project(kept)?.build()
}

impl FromPlanner {
    /// The time argument must be what the rows are ordered by.
    fn check_time(&self, input: &LogicalPlan, time: &Expr, span: Span) -> Result<(), Diagnostic> {
        if self.reader == Reader::Terminating {
            return Ok(());
        }
        let schema = input.schema();
        let known = times(input, &self.binder);
        let column = match time {
            Expr::Column(column) => schema.maybe_index_of_column(column),
            _ => None,
        };
        let is_end = |i: usize| schema.field(i).name() == WINDOW_END_COLUMN;
        if let Some(i) = column {
            match known.get(&i) {
                Some((0, 0)) => return Ok(()),
                Some((-1, -1)) => return Ok(()),
                _ => {}
            }
        }
        let names: Vec<String> = known
            .iter()
            .filter(|(_, (low, high))| low == high)
            .map(|(i, _)| schema.field(*i).name().clone())
            .collect();
        let error = Diagnostic::error(
            SqlState::INVALID_COLUMN_REFERENCE,
            "the time argument of a window must be the event time of its rows",
        );
        let error = match column {
            Some(i) if !is_end(i) => error.detail(format!(
                "Column \"{}\" is not what the watermark of this relation follows.",
                schema.field(i).name()
            )),
            _ => error,
        };
        let error = match names.as_slice() {
            [] => error.hint(
                "Declare it with WATERMARK FOR, or use _time. What a join gives has the later of \
                 both times: make it a stream of its own and use its _time.",
            ),
            names => error.hint(format!("Use {}, or _time of a stream.", names.join(" or "))),
        };
        Err(error.at(span))
    }

    /// Windows over rows that are there: the columns are computed.
    fn stored(
        &self,
        input: LogicalPlan,
        window: Window,
        time: &[Expr],
        keys: &[Expr],
        span: Option<Span>,
    ) -> datafusion::common::Result<LogicalPlan> {
        let (Window::Hop { size_us, slide_us, offset_us }, [time], []) = (window, time, keys)
        else {
            return Err(external(refuse_stored(span)));
        };
        let bin = self.binder.functions.scalar("date_bin").filter(|_| size_us == slide_us);
        let Some(bin) = bin else { return Err(external(refuse_stored(span))) };
        let input = without_bounds(input)?;
        let interval = |us: i64| {
            let days = i32::try_from(us / 86_400_000_000).unwrap_or(i32::MAX);
            let rest = us - i64::from(days) * 86_400_000_000;
            Expr::Literal(ScalarValue::new_interval_mdn(0, days, rest * 1000), None)
        };
        let origin = ScalarValue::TimestampMicrosecond(
            Some(offset_us),
            Some(auspex_plan::types::UTC.into()),
        );
        let start = bin.call(vec![interval(size_us), time.clone(), Expr::Literal(origin, None)]);
        let end = Expr::BinaryExpr(BinaryExpr::new(
            Box::new(start.clone()),
            Operator::Plus,
            Box::new(interval(size_us)),
        ));
        let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        exprs.push(start.alias(WINDOW_START_COLUMN));
        exprs.push(end.alias(WINDOW_END_COLUMN));
        LogicalPlanBuilder::from(input).project(exprs)?.build()
    }
}

fn refuse_stored(span: Option<Span>) -> Diagnostic {
    Diagnostic::unsupported("a query that ends can only have tumbling windows")
        .hint("TUMBLE works here; the others need CREATE STREAM .. AS or CREATE MATERIALIZED VIEW.")
        .at_opt(span)
}
