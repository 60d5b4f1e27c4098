//! Joins of streams.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use auspex_plan::nodes::{JoinTime, StreamJoin};
use auspex_plan::{Diagnostic, Span, SqlState};
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::logical_expr::utils::{split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Between, BinaryExpr, ColumnarValue, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::lookup::keyed;
use super::strip::within;
use super::times::{Linear, Sides, plain, times};
use super::{Lowering, Result, error, extension, refusal};
use crate::marks::{self, mark, unmark};

/// The functions that [`crate::bind::from`] writes into conditions.
pub(crate) fn marked_function(name: &str) -> Option<Arc<ScalarUDF>> {
    static ALL: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
        ["asof", marks::WITHIN, marks::SYSTEM_TIME]
            .into_iter()
            .map(|name| {
                let udf = ScalarUDF::new_from_impl(Marked {
                    name: mark(name),
                    signature: Signature::any(1, Volatility::Immutable),
                });
                (mark(name), Arc::new(udf))
            })
            .collect()
    });
    ALL.get(name).cloned()
}

/// A condition that only means something to [`Lowering`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct Marked {
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Marked {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> datafusion::common::Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> datafusion::common::Result<ColumnarValue> {
        datafusion::common::internal_err!("a condition of a join was left over")
    }
}

/// The argument, when an expression is the marked function `name`.
pub(super) fn marked<'e>(expr: &'e Expr, name: &str) -> Option<&'e Expr> {
    match expr {
        Expr::ScalarFunction(f) if unmark(f.func.name()) == Some(name) => f.args.first(),
        Expr::Alias(alias) => marked(&alias.expr, name),
        _ => None,
    }
}

/// What the conditions of a join say.
#[derive(Default)]
struct Conditions {
    on: Vec<(Expr, Expr)>,
    filter: Vec<Expr>,
    /// Right event time - left event time, in microseconds.
    lower: Option<i64>,
    upper: Option<i64>,
    asof: Option<Asof>,
    /// `WITHIN` of an AS OF join.
    within: Option<i64>,
    /// Equality of `window_start` alone.
    starts: bool,
}

struct Asof {
    strict: bool,
}

impl Conditions {
    fn at_least(&mut self, us: i64) {
        self.lower = Some(self.lower.map_or(us, |l| l.max(us)));
    }

    fn at_most(&mut self, us: i64) {
        self.upper = Some(self.upper.map_or(us, |u| u.min(us)));
    }
}

impl Lowering<'_> {
    /// Lowers a join. `extra` are conjuncts above it; those that could not become part of it come
    /// back.
    pub(super) fn join(
        &mut self,
        join: Join,
        extra: Vec<Expr>,
    ) -> Result<(LogicalPlan, Vec<Expr>)> {
        if join.null_aware {
            return Err(refusal("NOT IN with a query", "Use NOT EXISTS."));
        }
        let mut conjuncts: Vec<Expr> =
            join.on.iter().map(|(l, r)| binary(l.clone(), Operator::Eq, r.clone())).collect();
        conjuncts.extend(join.filter.into_iter().flat_map(split_conjunction_owned));
        let mut rest = Vec::new();
        if join.join_type == JoinType::Inner {
            conjuncts.extend(extra);
        } else {
            rest = extra;
        }
        let (left_raw, right_raw) =
            (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
        if join.join_type == JoinType::Right && keyed(&left_raw).is_some() {
            return self.swapped(left_raw, right_raw, JoinType::Left, conjuncts, rest);
        }
        if join.join_type == JoinType::Inner
            && keyed(&left_raw).is_some()
            && keyed(&right_raw).is_none()
        {
            return self.swapped(left_raw, right_raw, JoinType::Inner, conjuncts, rest);
        }
        self.sides(left_raw, right_raw, join.join_type, conjuncts, rest)
    }

    /// The right side first, because the left one is looked up; columns in the order asked for.
    fn swapped(
        &mut self,
        left: LogicalPlan,
        right: LogicalPlan,
        kind: JoinType,
        conjuncts: Vec<Expr>,
        rest: Vec<Expr>,
    ) -> Result<(LogicalPlan, Vec<Expr>)> {
        let columns = left.schema().columns().into_iter().chain(right.schema().columns());
        let columns: Vec<Expr> = columns.map(Expr::Column).collect();
        let (plan, rest) = self.sides(right, left, kind, conjuncts, rest)?;
        let plan = LogicalPlanBuilder::from(plan)
            .project(columns)
            .and_then(LogicalPlanBuilder::build)
            .map_err(error::unplaced)?;
        Ok((plan, rest))
    }

    fn sides(
        &mut self,
        left: LogicalPlan,
        right: LogicalPlan,
        kind: JoinType,
        mut conjuncts: Vec<Expr>,
        mut rest: Vec<Expr>,
    ) -> Result<(LogicalPlan, Vec<Expr>)> {
        let name = name_of(&right);
        let left = match left {
            // Conditions on the left side alone may be what bounds a join in it.
            LogicalPlan::Join(inner) if kind == JoinType::Inner => {
                let schema = inner.schema.clone();
                let (down, stay): (Vec<_>, Vec<_>) = conjuncts.into_iter().partition(|e| {
                    within(e, &schema) && !is_marked(e) && !e.column_refs().is_empty()
                });
                conjuncts = stay;
                let (plan, above) = self.join(inner, down)?;
                rest.extend(above);
                plan
            }
            other => self.plan(other, false)?,
        };
        if let Some(table) = keyed(&right) {
            let plan = self.look_up(left, table, kind, conjuncts, &name)?;
            return Ok((plan, rest));
        }
        let right = self.plan(right, false)?;
        let sides = Sides {
            left: left.schema(),
            right: right.schema(),
            left_times: times(&left, self.binder),
            right_times: times(&right, self.binder),
        };
        if !matches!(
            kind,
            JoinType::Inner
                | JoinType::Left
                | JoinType::Right
                | JoinType::Full
                | JoinType::LeftSemi
                | JoinType::LeftAnti
        ) {
            return Err(refusal("this kind of join", "").at_opt(self.named(&name)));
        }
        let mut found = Conditions::default();
        for conjunct in conjuncts {
            let alone = within(&conjunct, sides.left) || within(&conjunct, sides.right);
            if kind == JoinType::Inner && alone && !is_marked(&conjunct) {
                rest.push(conjunct);
            } else {
                self.condition(conjunct, &sides, &mut found)?;
            }
        }
        let time = self.bound(&found, kind, &name)?;
        let filter = datafusion::logical_expr::utils::conjunction(found.filter);
        let node = StreamJoin::try_new(left, right, kind, time, found.on, filter, Vec::new())
            .map_err(error::unplaced)?;
        Ok((extension(node), rest))
    }

    /// What bounds the join in time.
    fn bound(&self, found: &Conditions, kind: JoinType, name: &str) -> Result<JoinTime> {
        if let Some(asof) = &found.asof {
            if !matches!(kind, JoinType::Inner | JoinType::Left) {
                return Err(refusal("an AS OF join of this kind", "It can be INNER or LEFT.")
                    .at_opt(self.named(name)));
            }
            // A further bound says how old the right row may be.
            let age = found.lower.map(i64::saturating_neg);
            if age.is_some_and(|us| us < 0) || found.upper.is_some_and(|us| us < 0) {
                return Err(refusal(
                    "an AS OF join whose rows must be some time apart",
                    "Beside MATCH_CONDITION only the age can be bounded: \
                     b.ts >= a.ts - INTERVAL '5 s'.",
                )
                .at_opt(self.named(name)));
            }
            let tolerance_us = age.into_iter().chain(found.within).min();
            return Ok(JoinTime::AsOf { strict: asof.strict, tolerance_us });
        }
        let lower = found.lower.max(found.within.map(|us| -us));
        let upper = match (found.upper, found.within) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let (Some(lower_us), Some(upper_us)) = (lower, upper) {
            if lower_us > upper_us {
                return Err(Diagnostic::error(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "the condition on time of this join is never true",
                )
                .at_opt(self.named(name)));
            }
            return Ok(JoinTime::Interval { lower_us, upper_us });
        }
        let hint = if found.starts {
            "A join of windows needs window_end = window_end as well."
        } else {
            "Bound the distance of the two event times: b.ts BETWEEN a.ts AND a.ts + INTERVAL '5 s', \
             or JOIN b WITHIN '5 s' ON ..; for the latest row use ASOF JOIN."
        };
        let missing = match (lower, upper) {
            (None, None) => "a join of streams must be bounded in time",
            _ => "a join of streams must be bounded in time on both sides",
        };
        Err(Diagnostic::unsupported(missing).hint(hint).at_opt(self.named(name)))
    }

    /// Sorts one conjunct in.
    fn condition(&self, conjunct: Expr, sides: &Sides<'_>, found: &mut Conditions) -> Result<()> {
        if let Some(us) = marked(&conjunct, marks::WITHIN) {
            let us = match us {
                Expr::Literal(ScalarValue::Int64(Some(us)), _) => *us,
                _ => 0,
            };
            found.within = Some(found.within.map_or(us, |w| w.min(us)));
            return Ok(());
        }
        if let Some(condition) = marked(&conjunct, "asof") {
            return self.match_condition(condition, sides, found);
        }
        if let Some(time) = marked(&conjunct, marks::SYSTEM_TIME) {
            let exact = Linear::read(time, sides);
            if exact != Some(Linear { left: 1, ..Linear::default() }) {
                return Err(Diagnostic::error(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "FOR SYSTEM_TIME AS OF needs the event time of the left side",
                )
                .at_opt(plain(time).and_then(|c| self.column(c))));
            }
            found.asof = Some(Asof { strict: false });
            return Ok(());
        }
        if let Expr::Between(Between { expr, negated: false, low, high }) = &conjunct {
            let both = [
                binary(expr.as_ref().clone(), Operator::GtEq, low.as_ref().clone()),
                binary(expr.as_ref().clone(), Operator::LtEq, high.as_ref().clone()),
            ];
            let mut own = Conditions::default();
            if both.iter().all(|c| time_bound(c, sides, &mut own).is_some()) {
                for c in &both {
                    if time_bound(c, sides, found) == Some(false) {
                        found.filter.push(c.clone());
                    }
                }
                return Ok(());
            }
        }
        match time_bound(&conjunct, sides, found) {
            Some(true) => return Ok(()),
            Some(false) => {
                found.filter.push(conjunct);
                return Ok(());
            }
            None => {}
        }
        match equality(&conjunct, sides) {
            Some(pair) => {
                found.starts |= plain(&pair.0).is_some_and(|c| c.name() == "window_start");
                found.on.push(pair);
            }
            None => found.filter.push(conjunct),
        }
        Ok(())
    }

    /// `MATCH_CONDITION (a.ts >= b.ts)`.
    fn match_condition(
        &self,
        condition: &Expr,
        sides: &Sides<'_>,
        found: &mut Conditions,
    ) -> Result<()> {
        let asof = comparison(condition).and_then(|(l, op, r)| {
            let (l, r) = (Linear::read(l, sides)?, Linear::read(r, sides)?);
            let left = Linear { left: 1, ..Linear::default() };
            let right = Linear { right: 1, ..Linear::default() };
            match op {
                Operator::GtEq if l == left && r == right => Some(false),
                Operator::Gt if l == left && r == right => Some(true),
                Operator::LtEq if l == right && r == left => Some(false),
                Operator::Lt if l == right && r == left => Some(true),
                _ => None,
            }
        });
        match asof {
            Some(strict) => {
                found.asof = Some(Asof { strict });
                Ok(())
            }
            None => {
                let column = condition.column_refs().into_iter().min();
                Err(Diagnostic::error(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "MATCH_CONDITION must compare the event times of both sides",
                )
                .hint("Write MATCH_CONDITION (a.ts >= b.ts), or > for strictly before.")
                .at_opt(column.and_then(|c| self.column(c))))
            }
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<Span> {
        self.alias_span(name).or_else(|| self.relation_span(name))
    }

    fn column(&self, column: &Column) -> Option<Span> {
        let relation = column.relation.as_ref().map(|r| r.table().to_string());
        let span = error::locate(self.ast, relation.as_deref(), column.name())?;
        self.at(span)
    }
}

/// Adds what a comparison says about the distance of the event times. `Some(false)`: the condition
/// must be tested besides; `None`: it is not about event times.
fn time_bound(conjunct: &Expr, sides: &Sides<'_>, found: &mut Conditions) -> Option<bool> {
    let (l, op, r) = comparison(conjunct)?;
    let (l, r) = (Linear::read(l, sides)?, Linear::read(r, sides)?);
    // d * (right - left) + c, compared with 0.
    let c = (l.least.checked_sub(r.most)?, l.most.checked_sub(r.least)?);
    let d = l.right - r.right;
    if l.left - r.left != -d || d.abs() != 1 {
        return None;
    }
    // (right - left) op -c for d = 1; the other way round for d = -1.
    let (op, least, most) =
        if d == 1 { (op, c.1.checked_neg()?, c.0.checked_neg()?) } else { (op.swap()?, c.0, c.1) };
    match op {
        Operator::LtEq => found.at_most(most),
        Operator::Lt => found.at_most(most.checked_sub(i64::from(least == most))?),
        Operator::GtEq => found.at_least(least),
        Operator::Gt => found.at_least(least.checked_add(i64::from(least == most))?),
        Operator::Eq => {
            found.at_least(least);
            found.at_most(most);
        }
        _ => return None,
    }
    Some(least == most)
}

/// The sides of a comparison.
fn comparison(expr: &Expr) -> Option<(&Expr, Operator, &Expr)> {
    match expr {
        Expr::Alias(alias) => comparison(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            // Intervals are compared by a function of ours: its sign against 0.
            if let Expr::ScalarFunction(f) = left.as_ref()
                && f.func.name() == "interval_compare"
                && let [a, b] = f.args.as_slice()
            {
                return Some((a, *op, b));
            }
            Some((left, *op, right))
        }
        _ => None,
    }
}

/// `l = r`, l over the left side alone and r over the right one.
pub(super) fn equality(expr: &Expr, sides: &Sides<'_>) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
    let own = |e: &Expr, schema| !e.column_refs().is_empty() && within(e, schema);
    if own(left, sides.left) && own(right, sides.right) {
        Some((left.as_ref().clone(), right.as_ref().clone()))
    } else if own(right, sides.left) && own(left, sides.right) {
        Some((right.as_ref().clone(), left.as_ref().clone()))
    } else {
        None
    }
}

pub(super) fn is_marked(expr: &Expr) -> bool {
    split_conjunction(expr).into_iter().any(|e| match e {
        Expr::ScalarFunction(f) => unmark(f.func.name()).is_some(),
        _ => false,
    })
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// The name by which FROM knows a side.
fn name_of(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => match alias.alias.table() {
            // Of EXISTS and IN: the relation in it.
            name if name.starts_with("__correlated") => name_of(&alias.input),
            name => name.to_string(),
        },
        LogicalPlan::TableScan(scan) => scan.table_name.table().to_string(),
        other => other.inputs().first().map(|i| name_of(i)).unwrap_or_default(),
    }
}
