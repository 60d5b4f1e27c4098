//! Which columns of a plan are the event time of its rows.

use std::collections::BTreeMap;

use auspex_plan::catalog::{Language, Object};
use auspex_plan::nodes::{
    JoinTime, Retention, RetentionWindow, StreamAggregate, StreamDistinct, StreamJoin, StreamLimit,
    WindowRows,
};
use auspex_plan::relation::TIME_COLUMN;
use auspex_plan::{Emit, EventTime, StreamRelation, Window};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, JoinType, LogicalPlan, Operator, TableScan,
};

use super::FromTable;
use crate::bind::{Binder, constant};

/// How far a row's event time may be from a column's value: event time - column, in microseconds,
/// least and greatest.
pub(super) type Distance = (i64, i64);

/// Columns by their positions whose distance from the event time is known.
pub(super) type Times = BTreeMap<usize, Distance>;

/// The event time is this column's value.
const EXACT: Distance = (0, 0);
/// Results of windows are due one microsecond before their window's end.
const WINDOW_END: Distance = (-1, -1);

/// The columns of a plan that say what the event time of its rows is.
pub(super) fn times(plan: &LogicalPlan, binder: &Binder) -> Times {
    let input = |plan: &LogicalPlan| times(plan, binder);
    match plan {
        LogicalPlan::TableScan(scan) => of_scan(scan, binder),
        LogicalPlan::SubqueryAlias(alias) => input(&alias.input),
        LogicalPlan::Filter(filter) => input(&filter.input),
        LogicalPlan::Limit(limit) => input(&limit.input),
        LogicalPlan::Sort(sort) => input(&sort.input),
        LogicalPlan::Distinct(Distinct::All(below)) => input(below),
        LogicalPlan::Window(window) => input(&window.input),
        LogicalPlan::Projection(projection) => {
            let below = input(&projection.input);
            passed(&projection.expr, projection.input.schema(), &below)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let below = input(&aggregate.input);
            passed(&aggregate.group_expr, aggregate.input.schema(), &below)
        }
        LogicalPlan::Union(union) => {
            let mut all = union.inputs.iter().map(|i| input(i));
            let mut common = all.next().unwrap_or_default();
            for other in all {
                common = common
                    .into_iter()
                    .filter_map(|(i, (low, high))| {
                        let (l, h) = other.get(&i)?;
                        Some((i, (low.min(*l), high.max(*h))))
                    })
                    .collect();
            }
            common
        }
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            if let Some(table) = node.downcast_ref::<FromTable>() {
                return table.window_end().map(|i| (i, WINDOW_END)).into_iter().collect();
            }
            if let Some(rows) = node.downcast_ref::<WindowRows>() {
                let end = rows.input.schema().fields().len() + 1;
                return of_window(rows.window, end);
            }
            if let Some(aggregate) = node.downcast_ref::<StreamAggregate>() {
                return match aggregate.emit {
                    Emit::OnClose if aggregate.window.has_bounds() => {
                        of_window(aggregate.window, 1)
                    }
                    _ => Times::new(),
                };
            }
            if let Some(join) = node.downcast_ref::<StreamJoin>() {
                return of_join(join, binder);
            }
            if let Some(window) = node.downcast_ref::<RetentionWindow>() {
                return match window.kept {
                    Retention::LengthBatch(_) | Retention::TimeBatch(_) => Times::new(),
                    Retention::Delay(us) => shifted(input(&window.input), us, us),
                    _ => input(&window.input),
                };
            }
            if node.is::<StreamDistinct>() || node.is::<StreamLimit>() {
                return plan.inputs().first().map(|i| input(i)).unwrap_or_default();
            }
            Times::new()
        }
        _ => Times::new(),
    }
}

fn of_window(window: Window, end: usize) -> Times {
    let distance = match window {
        Window::Count { .. } => EXACT,
        _ => WINDOW_END,
    };
    Times::from([(end, distance)])
}

fn shifted(times: Times, least: i64, most: i64) -> Times {
    times
        .into_iter()
        .map(|(i, (low, high))| (i, (low.saturating_add(least), high.saturating_add(most))))
        .collect()
}

fn of_join(join: &StreamJoin, binder: &Binder) -> Times {
    let (left, right) = (times(&join.left, binder), times(&join.right, binder));
    let lefts = join.left.schema().fields().len();
    let both = !matches!(join.kind, JoinType::LeftSemi | JoinType::LeftAnti);
    match join.time {
        JoinTime::Interval { lower_us, upper_us } if both => {
            // The later of the two; rows without a partner have their own.
            let later = |least: i64, most: i64| match join.kind {
                JoinType::Inner => (least.max(0), most.max(0)),
                _ => (0, most.max(0)),
            };
            let (least, most) = later(lower_us, upper_us);
            let mut all = shifted(left, least, most);
            let (least, most) = later(upper_us.saturating_neg(), lower_us.saturating_neg());
            all.extend(shifted(right, least, most).into_iter().map(|(i, d)| (i + lefts, d)));
            all
        }
        // Semi and anti joins, look-ups and AS OF joins keep the left row's time.
        _ => left,
    }
}

fn of_scan(scan: &TableScan, binder: &Binder) -> Times {
    let Some(relation) = scan.source.downcast_ref::<StreamRelation>() else { return Times::new() };
    let Some(object) = binder.catalog.get(relation.stream).filter(|_| !relation.keyed) else {
        return Times::new();
    };
    let known = binder.time_columns(object);
    scan.projected_schema
        .fields()
        .iter()
        .enumerate()
        .filter_map(|(i, field)| {
            let distance = known.iter().find(|(name, _)| name == field.name())?.1;
            Some((i, distance))
        })
        .collect()
}

/// The columns that expressions hand on unchanged.
fn passed(exprs: &[Expr], schema: &DFSchema, below: &Times) -> Times {
    exprs
        .iter()
        .enumerate()
        .filter_map(|(i, expr)| {
            let column = plain(expr)?;
            Some((i, *below.get(&schema.maybe_index_of_column(column)?)?))
        })
        .collect()
}

/// The column, when an expression is one and no more.
pub(super) fn plain(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain(&alias.expr),
        _ => None,
    }
}

impl Binder {
    /// Names of a stream's columns that say what the event time of its rows is.
    fn time_columns(&self, object: &Object) -> Vec<(String, Distance)> {
        let mut known = vec![(TIME_COLUMN.to_string(), EXACT)];
        let Some(stream) = object.stream() else { return Vec::new() };
        match (&stream.event_time, &stream.definition) {
            (EventTime::Column { column, .. }, _) => known.push((column.clone(), EXACT)),
            (EventTime::Inherited, Some(definition)) if definition.language == Language::Sql => {
                if let Ok(bound) = self.rebind(definition) {
                    let found = times(&bound.query.plan, self);
                    known.extend(found.into_iter().filter_map(|(i, distance)| {
                        Some((stream.columns.get(i)?.name.clone(), distance))
                    }));
                }
            }
            _ => {}
        }
        known
    }
}

/// An expression over event times: `left * L + right * R + c` with `least <= c <= most`, where L and
/// R are the event times of a join's sides. `c` is one number unless a column is used whose distance
/// from the event time differs from row to row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Linear {
    pub(super) left: i64,
    pub(super) right: i64,
    pub(super) least: i64,
    pub(super) most: i64,
}

impl Linear {
    fn plus(self, other: Linear) -> Option<Linear> {
        Some(Linear {
            left: self.left + other.left,
            right: self.right + other.right,
            least: self.least.checked_add(other.least)?,
            most: self.most.checked_add(other.most)?,
        })
    }

    fn negated(self) -> Option<Linear> {
        Some(Linear {
            left: -self.left,
            right: -self.right,
            least: self.most.checked_neg()?,
            most: self.least.checked_neg()?,
        })
    }

    /// Reads an expression over both sides' columns.
    pub(super) fn read(expr: &Expr, sides: &Sides<'_>) -> Option<Linear> {
        match expr {
            Expr::Column(column) => sides.time_of(column),
            Expr::Alias(alias) => Linear::read(&alias.expr, sides),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (left, right) = (Linear::read(left, sides)?, Linear::read(right, sides)?);
                match op {
                    Operator::Plus => left.plus(right),
                    Operator::Minus => left.plus(right.negated()?),
                    _ => None,
                }
            }
            Expr::Cast(cast) if !expr.column_refs().is_empty() => Linear::read(&cast.expr, sides),
            other if other.column_refs().is_empty() => {
                let us = interval_us(other)?;
                Some(Linear { least: us, most: us, ..Linear::default() })
            }
            _ => None,
        }
    }
}

/// Microseconds of a constant interval without months.
pub(super) fn interval_us(expr: &Expr) -> Option<i64> {
    match constant::fold(expr.clone()).ok()? {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 => {
            i64::from(i.days).checked_mul(86_400_000_000)?.checked_add(i.nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(i)) => {
            Some(i64::from(i.days) * 86_400_000_000 + i64::from(i.milliseconds) * 1000)
        }
        ScalarValue::DurationMicrosecond(Some(us)) => Some(us),
        ScalarValue::DurationNanosecond(Some(ns)) => Some(ns / 1000),
        _ => None,
    }
}

/// The two inputs of a join.
pub(super) struct Sides<'a> {
    pub(super) left: &'a DFSchema,
    pub(super) right: &'a DFSchema,
    pub(super) left_times: Times,
    pub(super) right_times: Times,
}

impl Sides<'_> {
    /// The left side's column of a condition, as a position.
    pub(super) fn in_left(&self, column: &Column) -> Option<usize> {
        self.left.maybe_index_of_column(column)
    }

    /// The right side's.
    pub(super) fn in_right(&self, column: &Column) -> Option<usize> {
        self.right.maybe_index_of_column(column)
    }

    /// A time column's value is its row's event time - distance.
    fn time_of(&self, column: &Column) -> Option<Linear> {
        let of = |left, right, (low, high): Distance| Linear {
            left,
            right,
            least: high.saturating_neg(),
            most: low.saturating_neg(),
        };
        if let Some(distance) = self.in_left(column).and_then(|i| self.left_times.get(&i)) {
            return Some(of(1, 0, *distance));
        }
        let distance = self.right_times.get(&self.in_right(column)?)?;
        Some(of(0, 1, *distance))
    }
}
