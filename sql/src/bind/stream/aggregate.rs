//! GROUP BY on a stream: over a window in FROM, over a tumbling function of the event time, or
//! without end.

use auspex_plan::nodes::StreamAggregate;
use auspex_plan::relation::WINDOW_START_COLUMN;
use auspex_plan::{Diagnostic, Emit, Span, SqlState, Window};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};

use super::strip::{Out, Stripped, from_table, replaced};
use super::times::{interval_us, plain, times};
use super::{Lowering, Result, Target, error, extension, filtered, refusal};
use crate::bind::constant;

/// Where a column of DataFusion's aggregate comes from.
enum Group {
    /// An expression over the window's bounds.
    Bound(Expr),
    /// A key, by its number.
    Key(usize),
}

/// The window, what the groups are, and the keys.
type Tumbling = (Window, Vec<Group>, Vec<Expr>);

const DAY_US: i64 = 86_400_000_000;

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, top: bool) -> Result<LogicalPlan> {
        if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(refusal("ROLLUP, CUBE or GROUPING SETS", "Group in several queries.")
                .at_opt(self.place(aggregate)));
        }
        if from_table(&aggregate.input).is_some() {
            let stripped = self.strip(aggregate.input.as_ref().clone())?;
            return self.over_table(aggregate, stripped, top);
        }
        let input = self.plan(aggregate.input.as_ref().clone(), false)?;
        match self.tumbling(aggregate, &input)? {
            Some((window, groups, keys)) => {
                let (emit, lateness) = self.emit(top);
                let node = node(input, window, keys, aggregate, emit, lateness)?;
                named(aggregate, &groups, extension(node), 2)
            }
            None => self.unbounded(aggregate, input, top),
        }
    }

    /// `GROUP BY window_start, window_end, ..`.
    fn over_table(
        &mut self,
        aggregate: &Aggregate,
        stripped: Stripped,
        top: bool,
    ) -> Result<LogicalPlan> {
        let schema = aggregate.input.schema();
        let own = stripped.plan.schema();
        let mut groups = Vec::with_capacity(aggregate.group_expr.len());
        let (mut keys, mut bounds, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for expr in &aggregate.group_expr {
            if let Some(bound) = stripped.bounds(expr, schema) {
                if let Some(i) = plain(expr).and_then(|c| schema.maybe_index_of_column(c)) {
                    bounds.push(stripped.outs[i]);
                }
                groups.push(Group::Bound(bound));
            } else if stripped.reads_bounds(expr, schema) {
                return Err(refusal(
                    "a group over the bounds of a window and its rows",
                    "Group by window_start and window_end, and by the rest.",
                )
                .at_opt(self.place(aggregate)));
            } else {
                positions.extend(plain(expr).and_then(|c| own.maybe_index_of_column(c)));
                groups.push(Group::Key(keys.len()));
                keys.push(expr.clone());
            }
        }
        for expr in &aggregate.aggr_expr {
            if stripped.reads_bounds(expr, schema) {
                return Err(refusal(
                    "the bounds of a window inside an aggregate",
                    "Use window_start and window_end beside the aggregates.",
                )
                .at_opt(self.function_place(expr)));
            }
        }
        let table = &stripped.table;
        let start = bounds.contains(&Out::Start);
        let grouped = match table.window {
            Window::Cumulate { .. } => bounds.contains(&Out::End),
            _ => start || bounds.contains(&Out::End),
        };
        if !grouped {
            return Err(Diagnostic::error(
                SqlState("42803"),
                "an aggregate over windows must be grouped by them",
            )
            .hint("Write GROUP BY window_start, window_end.")
            .at_opt(self.place(aggregate))
            .at_opt(table.span));
        }
        if let Some(i) =
            stripped.keys.iter().position(|k| k.is_none_or(|k| !positions.contains(&k)))
        {
            return Err(Diagnostic::error(
                SqlState("42803"),
                format!("the PARTITION BY column {} must be in GROUP BY", table.keys[i]),
            )
            .at_opt(table.span));
        }
        let by_key = matches!(table.window, Window::Session { .. } | Window::Count { .. });
        if by_key && !table.keys.is_empty() && keys.len() > table.keys.len() {
            return Err(refusal(
                "GROUP BY with more columns than PARTITION BY",
                "These windows are made for each group: name the same columns in both.",
            )
            .at_opt(table.span));
        }
        let (emit, lateness) = self.emit(top);
        self.check_emission(table.window, top)?;
        if table.revision && emit == Emit::OnClose && lateness == 0 {
            return Err(Diagnostic::error(
                SqlState::UNDEFINED_COLUMN,
                "column \"_revision\" does not exist",
            )
            .hint("Results have it with ALLOWED LATENESS, EMIT CHANGES or EMIT EVERY.")
            .at_opt(table.span));
        }
        let window = table.window;
        let node = node(stripped.plan, window, keys, aggregate, emit, lateness)?;
        let plan = filtered(extension(node), stripped.above)?;
        named(aggregate, &groups, plan, 2)
    }

    /// Windows of rows have no end that rows could be late for.
    fn check_emission(&self, window: Window, top: bool) -> Result<()> {
        let span = self.emission.lateness.map(|l| l.1);
        match (window, span) {
            (Window::Count { .. }, Some(span)) if top => {
                Err(Diagnostic::unsupported("windows of a number of rows have no lateness")
                    .hint("Leave allowed_lateness out.")
                    .at(span))
            }
            _ => Ok(()),
        }
    }

    /// `GROUP BY date_bin('1 min', ts), ..`: the window, what the groups are, and the keys.
    fn tumbling(&self, aggregate: &Aggregate, input: &LogicalPlan) -> Result<Option<Tumbling>> {
        let known = times(input, self.binder);
        let is_time = |expr: &Expr| {
            let mut expr = expr;
            while let Expr::Cast(cast) = expr {
                expr = &cast.expr;
            }
            let position = plain(expr).and_then(|c| input.schema().maybe_index_of_column(c));
            position.and_then(|i| known.get(&i)).is_some_and(|(low, high)| low == high)
        };
        let mut found: Option<(i64, i64)> = None;
        for expr in &aggregate.group_expr {
            let Some((size, offset)) = tumble(expr, &is_time) else { continue };
            if size <= 0 {
                return Err(Diagnostic::error(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "the size of a window must be positive",
                )
                .at_opt(self.function_place(expr)));
            }
            found = Some(found.map_or((size, offset), |f| f.min((size, offset))));
        }
        let Some((size, offset)) = found else { return Ok(None) };
        let start = Column::new_unqualified(WINDOW_START_COLUMN);
        let (mut groups, mut keys) = (Vec::new(), Vec::new());
        for expr in &aggregate.group_expr {
            match tumble(expr, &is_time) {
                Some(own) if own == (size, offset) => {
                    groups.push(Group::Bound(Expr::Column(start.clone())));
                }
                Some((coarser, other)) if coarser % size == 0 && (other - offset) % size == 0 => {
                    // The same function of the start.
                    let over =
                        replaced(&expr.clone().unalias(), |_| Some(Expr::Column(start.clone())));
                    groups.extend(over.map(Group::Bound));
                }
                Some(_) => {
                    return Err(refusal(
                        "a group of windows that do not fit into each other",
                        "The longer window must consist of the shorter ones.",
                    )
                    .at_opt(self.function_place(expr)));
                }
                None => {
                    groups.push(Group::Key(keys.len()));
                    keys.push(expr.clone());
                }
            }
        }
        Ok(Some((Window::tumble(size, offset), groups, keys)))
    }

    fn unbounded(
        &mut self,
        aggregate: &Aggregate,
        input: LogicalPlan,
        top: bool,
    ) -> Result<LogicalPlan> {
        let (emit, lateness) = self.emit(top);
        if emit == Emit::OnClose {
            let said = self.emission.emit.filter(|_| top).map(|(_, span)| span);
            let hint = match (top, self.target) {
                (true, Target::Stream) => {
                    "Put the rows into windows, as in FROM TUMBLE(s, ts, INTERVAL '1 min') .. GROUP BY \
                     window_start, window_end; or add EMIT CHANGES for a row at each change; or \
                     use CREATE MATERIALIZED VIEW for a result that is replaced."
                }
                (true, Target::View) => "Leave EMIT ON WINDOW CLOSE out.",
                _ => "Put the rows of the inner query into windows: FROM TUMBLE(..).",
            };
            return Err(Diagnostic::unsupported("an aggregate over a stream never ends")
                .hint(hint)
                .at_opt(said)
                .at_opt(self.place(aggregate)));
        }
        if let (Some((_, span)), true) = (self.emission.lateness, lateness > 0) {
            return Err(Diagnostic::unsupported("an aggregate without a window has no lateness")
                .hint("Leave allowed_lateness out.")
                .at(span));
        }
        let keys = aggregate.group_expr.clone();
        let groups: Vec<Group> = (0..keys.len()).map(Group::Key).collect();
        let node = node(input, Window::Unbounded, keys, aggregate, emit, 0)?;
        named(aggregate, &groups, extension(node), 0)
    }

    /// Where an aggregate is written: its GROUP BY, or else its first function.
    fn place(&self, aggregate: &Aggregate) -> Option<Span> {
        let function = aggregate.aggr_expr.iter().find_map(|e| self.function_place(e));
        function.or_else(|| {
            let column = aggregate.group_expr.iter().find_map(plain)?;
            let span = error::locate(self.ast, None, column.name())?;
            self.at(span)
        })
    }

    fn function_place(&self, expr: &Expr) -> Option<Span> {
        let expr = expr.clone().unalias();
        let name = match &expr {
            Expr::AggregateFunction(f) => f.func.name(),
            Expr::ScalarFunction(f) => f.func.name(),
            _ => return None,
        };
        self.at(error::locate(self.ast, None, name)?)
    }
}

fn node(
    input: LogicalPlan,
    window: Window,
    keys: Vec<Expr>,
    aggregate: &Aggregate,
    emit: Emit,
    lateness_us: i64,
) -> Result<StreamAggregate> {
    StreamAggregate::try_new(input, window, keys, aggregate.aggr_expr.clone(), emit, lateness_us)
        .map_err(error::unplaced)
}

/// Gives the columns of DataFusion's aggregate: its groups, then its aggregates. `first` is the
/// position of the first key in `plan`.
fn named(
    aggregate: &Aggregate,
    groups: &[Group],
    plan: LogicalPlan,
    first: usize,
) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let column = |i: usize| columns.get(i).cloned().map(Expr::Column);
    let keys = groups.iter().filter(|g| matches!(g, Group::Key(_))).count();
    let aggregates = (0..aggregate.aggr_expr.len()).map(|i| column(first + keys + i));
    let exprs = groups
        .iter()
        .map(|group| match group {
            Group::Bound(expr) => Some(expr.clone()),
            Group::Key(i) => column(first + i),
        })
        .chain(aggregates)
        .zip(aggregate.schema.iter())
        .map(|(expr, (qualifier, field))| {
            let expr = expr?;
            let same = matches!(&expr, Expr::Column(c)
                if c.name() == field.name() && c.relation.as_ref() == qualifier);
            Some(match qualifier {
                _ if same => expr,
                Some(q) => expr.alias_qualified(Some(q.clone()), field.name()),
                None => expr.alias(field.name()),
            })
        })
        .collect::<Option<Vec<Expr>>>()
        .ok_or_else(|| {
            Diagnostic::error(SqlState::INTERNAL_ERROR, "an aggregate has lost a column")
        })?;
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(error::unplaced)
}

/// Size and offset when an expression is the start of a tumbling window of the event time.
fn tumble(expr: &Expr, is_time: &impl Fn(&Expr) -> bool) -> Option<(i64, i64)> {
    let expr = match expr {
        Expr::Alias(alias) => return tumble(&alias.expr, is_time),
        Expr::Cast(cast) => return tumble(&cast.expr, is_time),
        Expr::ScalarFunction(function) => function,
        _ => return None,
    };
    match (expr.func.name(), expr.args.as_slice()) {
        ("date_bin", [size, time]) if is_time(time) => Some((interval_us(size)?, 0)),
        ("date_bin", [size, time, origin]) if is_time(time) => {
            let size = interval_us(size)?;
            let origin = match constant::fold(origin.clone()).ok()? {
                ScalarValue::TimestampMicrosecond(Some(us), _) => us,
                ScalarValue::TimestampNanosecond(Some(ns), _) => ns / 1000,
                _ => return None,
            };
            Some((size, origin.rem_euclid(size.max(1))))
        }
        ("date_trunc", [unit, time]) if is_time(time) => {
            let text = match constant::fold(unit.clone()).ok()? {
                ScalarValue::Utf8(Some(t))
                | ScalarValue::Utf8View(Some(t))
                | ScalarValue::LargeUtf8(Some(t)) => t,
                _ => return None,
            };
            match text.to_ascii_lowercase().as_str() {
                "microsecond" | "microseconds" => Some((1, 0)),
                "millisecond" | "milliseconds" => Some((1000, 0)),
                "second" => Some((1_000_000, 0)),
                "minute" => Some((60_000_000, 0)),
                "hour" => Some((3_600_000_000, 0)),
                "day" => Some((DAY_US, 0)),
                // 1970-01-05 was a Monday.
                "week" => Some((7 * DAY_US, 4 * DAY_US)),
                _ => None,
            }
        }
        _ => None,
    }
}
