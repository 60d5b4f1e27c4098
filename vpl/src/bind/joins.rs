//! `join(A, B, ..).on(..).window(d)` and its family.
//!
//! Several streams are joined from left to right. What `.on` equates goes to the first join at
//! which both sides are there; everything else that it says is a further condition of the first
//! join that has all of its streams. A table or materialized view among them is looked up: its
//! rows are those at the place of the stream's row in the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::nodes::{JoinTime, StreamJoin};
use auspex_plan::relation::{OP_COLUMN, TIME_COLUMN};
use datafusion::common::{DFSchema, DataFusionError, JoinType, TableReference};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr as PlanExpr, Extension, LogicalPlan, LogicalPlanBuilder, Projection,
};

use super::chain::Chain;
use super::declarations::Declarations;
use super::expression::{Binder, convert_all};
use super::operators::{binary, compare};
use super::problem::{Result, arguments, error, hint, internal, unsupported};
use super::relations::Relations;
use super::row::Row;
use super::value::{Value, common_of, duration};
use super::{operations, source, windows};
use crate::ast::{BinaryOp, Expr, ExprKind, Input, JoinKind, Op, OpArgs, Source, StreamDecl};
use crate::codes;

/// The beginning of a chain: the join with its conditions and its bound, which are operations of
/// the declaration.
pub(super) fn bind<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    decl: &'a StreamDecl,
    (kind, inputs): (JoinKind, &'a [Input]),
    system: bool,
) -> std::result::Result<Chain<'a>, Vec<Diagnostic>> {
    let (mut sides, mut problems) = (Vec::new(), Vec::new());
    let is_stream = |i: &&Input| relations.find_any(&i.relation).is_ok_and(|r| r.key.is_none());
    let system = system || inputs.iter().filter(is_stream).count() > 2;
    for input in inputs {
        match side(program, relations, input, system) {
            Ok(chain) => sides.push(chain),
            Err(found) => problems.push(*found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    join((program, relations), decl, (kind, inputs), sides).map_err(|problem| vec![*problem])
}

/// An input of a join.
struct Side<'a> {
    chain: Chain<'a>,
    /// The key's columns, of a table or view.
    key: Option<Vec<PlanExpr>>,
    /// Conditions on a table's rows, which are part of what makes a partner.
    conditions: Vec<(Value, Span)>,
}

/// The name of an input before a dot.
fn name(input: &Input) -> &str {
    input.label.as_ref().map_or(&input.relation.name, |label| &label.name)
}

/// One input, its columns qualified with its name, its own conditions applied.
fn side<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    input: &'a Input,
    system: bool,
) -> Result<Side<'a>> {
    let relation = relations.find_any(&input.relation)?;
    let mut plan = source::leaf(&relation, system, &input.relation)?;
    if relation.name != name(input) {
        let aliased = LogicalPlanBuilder::from(plan).alias(TableReference::bare(name(input)));
        let aliased = aliased.and_then(LogicalPlanBuilder::build);
        plan = aliased.map_err(|e| internal(input.span, &e))?;
    }
    let mut aliases = vec![input.relation.name.clone()];
    aliases.extend(input.label.as_ref().map(|label| label.name.clone()));
    let mut chain = source::chain((program, relations), plan, aliases);
    chain.bindings.insert(input.relation.name.clone(), relation.id);
    let key = relation.key.as_ref().map(|key| {
        // The kind of change is nobody's business.
        chain.row.fields.retain(|f| f.name != OP_COLUMN);
        let column = |at: &usize| PlanExpr::Column(chain.row.fields[*at].column.clone());
        key.iter().map(column).collect()
    });
    let mut conditions = Vec::new();
    for op in &input.ops {
        match op.name.name.as_str() {
            "where" | "filter" if key.is_some() => {
                let condition = only(op)?;
                let mut binder = Binder::new(program, Some(&chain.row));
                conditions.push((binder.condition(condition, "the condition")?, condition.span));
            }
            "where" | "filter" => operations::apply(&mut chain, op)?,
            "on" => {}
            other => {
                return Err(hint(
                    unsupported(op.span, format!("`.{other}` inside `join`")),
                    "make it a stream of its own and join that",
                ));
            }
        }
    }
    Ok(Side { chain, key, conditions })
}

/// What is known about a join before its plan is made.
struct Join<'a, 's> {
    program: &'a Declarations<'a>,
    source: &'a Source,
    names: Vec<&'a str>,
    /// All columns of all sides.
    row: &'s Row,
    equal: Vec<Equal>,
    /// Further conditions.
    conditions: Vec<(Value, Span)>,
}

/// Values that are the same in all rows of a combination.
struct Equal {
    members: Vec<Member>,
}

struct Member {
    value: Value,
    span: Span,
    sides: BTreeSet<usize>,
    /// Its equality with the others is ensured.
    linked: bool,
}

fn join<'a>(
    (program, relations): (&'a Declarations<'a>, &'a Relations<'a>),
    decl: &'a StreamDecl,
    (kind, inputs): (JoinKind, &'a [Input]),
    sides: Vec<Side<'a>>,
) -> Result<Chain<'a>> {
    let source = &decl.source;
    let names = names(kind, inputs, source)?;
    tables_last(kind, inputs, &sides)?;
    let mut ops = Operations::of(decl);
    let mut joined = source::chain((program, relations), LogicalPlan::default(), Vec::new());
    let streams = sides.iter().filter(|s| s.key.is_none()).count();
    let bound_us = match ops.bound {
        // A stream alone is not joined in time: the window is one over the result.
        _ if streams < 2 => {
            ops.bound = None;
            None
        }
        Some(op) => Some(bound(&joined, op)?),
        None if kind == JoinKind::AsOf => None,
        None => return Err(unbounded(source)),
    };
    let row = all_columns(&sides, &names, source.span)?;
    let mut join = Join { program, source, names, row: &row, equal: vec![], conditions: vec![] };
    for condition in inputs.iter().flat_map(|i| &i.ops).chain(ops.on.iter().copied()) {
        if condition.name.name == "on" {
            join.condition(only(condition)?)?;
        }
    }
    let mut plans = Vec::with_capacity(sides.len());
    for side in sides {
        joined.bindings.extend(side.chain.bindings);
        join.conditions.extend(side.conditions);
        plans.push((side.chain.plan, side.key));
    }
    let plan = join.plan(kind, bound_us, plans)?;
    let left_only = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let shown = if left_only { 1 } else { join.names.len() };
    joined.row.sides = join.names[..shown].iter().map(|n| (*n).to_owned()).collect();
    joined.row.system_wanted.set(row.system_wanted.get());
    joined.set_plan(plan);
    joined.taken = ops.on.iter().chain(&ops.bound).map(|op| op.span).collect();
    Ok(joined)
}

/// The names of the inputs, each once.
fn names<'a>(kind: JoinKind, inputs: &'a [Input], source: &Source) -> Result<Vec<&'a str>> {
    let word = kind.word();
    let names: Vec<&str> = inputs.iter().map(name).collect();
    if inputs.len() < 2 || inputs.len() > 2 && kind != JoinKind::Inner {
        let n = if kind == JoinKind::Inner { "two streams or more" } else { "two streams" };
        return Err(arguments(source.span, format!("`{word}` takes {n}, not {}", inputs.len())));
    }
    for (at, input) in inputs.iter().enumerate() {
        if names[..at].contains(&names[at]) {
            return Err(hint(
                error(
                    SqlState::DUPLICATE_OBJECT,
                    codes::DUPLICATE_NAME,
                    input.span,
                    format!("two inputs of the join are called `{}`", names[at]),
                ),
                format!("give each its name: `{word}(stream A = {0}, stream B = {0})`", names[at]),
            ));
        }
    }
    Ok(names)
}

/// Rows of a stream look rows of tables up, not the other way round.
fn tables_last(kind: JoinKind, inputs: &[Input], sides: &[Side<'_>]) -> Result<()> {
    let table = sides.iter().position(|side| side.key.is_some());
    let Some(table) = table else { return Ok(()) };
    let refuse = |at: usize, message: String| {
        let (state, code) = (SqlState::INVALID_OBJECT_DEFINITION, codes::MISPLACED_OPERATION);
        Err(hint(
            error(state, code, inputs[at].span, message),
            "`join`, `left_join`, `semi_join` and `anti_join` look rows of a table up: \
             `left_join(stream, table).on(..)`",
        ))
    };
    if table == 0 || sides[table..].iter().any(|side| side.key.is_none()) {
        return refuse(table, "the streams of a join stand before its tables".into());
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full | JoinKind::AsOf) {
        return refuse(table, format!("`{}` needs two streams", kind.word()));
    }
    Ok(())
}

/// The operations of a declaration that belong to its join.
struct Operations<'a> {
    on: Vec<&'a Op>,
    bound: Option<&'a Op>,
}

impl<'a> Operations<'a> {
    fn of(decl: &'a StreamDecl) -> Operations<'a> {
        let named = |op: &&Op, names: &[&str]| names.contains(&op.name.name.as_str());
        Operations {
            on: decl.ops.iter().filter(|op| named(op, &["on"])).collect(),
            bound: decl.ops.iter().find(|op| named(op, &["window", "within"])),
        }
    }
}

fn only(op: &Op) -> Result<&Expr> {
    match &op.args {
        OpArgs::Args(args) if args.len() == 1 && args[0].name.is_none() => Ok(&args[0].value),
        _ => Err(arguments(op.span, format!("`.{}` takes one value", op.name.name))),
    }
}

/// How far apart rows may be, in microseconds.
fn bound<'a>(chain: &Chain<'a>, op: &'a Op) -> Result<i64> {
    let problem = |span| {
        hint(
            arguments(span, "the first `.window` of a join says how far apart its rows may be"),
            "a duration alone, such as `.window(5m)`",
        )
    };
    let value = only(op).map_err(|_| problem(op.span))?;
    windows::duration_of(chain, value, "the bound").map_err(|_| problem(value.span))
}

fn unbounded(source: &Source) -> Box<Diagnostic> {
    hint(
        error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::UNBOUNDED,
            source.span,
            "a `join` of endless streams needs a bound in time",
        ),
        "add `.window(5m)`: rows join when they are at most that far apart",
    )
}

/// A row with the columns of all sides.
fn all_columns(sides: &[Side<'_>], names: &[&str], span: Span) -> Result<Row> {
    let mut schema = DFSchema::empty();
    let mut row = Row::of(&LogicalPlan::default(), Vec::new());
    for side in sides.iter().map(|s| &s.chain) {
        schema = schema.join(&side.row.schema).map_err(|e| internal(span, &e))?;
        row.fields.extend(side.row.fields.iter().cloned());
        row.system.extend(side.row.system.iter().cloned());
        if side.row.system_wanted.get() {
            row.system_wanted.set(true);
        }
    }
    row.sides = names.iter().map(|n| (*n).to_owned()).collect();
    row.schema = Arc::new(schema);
    Ok(row)
}

impl<'a> Join<'a, '_> {
    /// Takes a condition of `.on` apart.
    fn condition(&mut self, expr: &'a Expr) -> Result<()> {
        match &expr.kind {
            ExprKind::Binary { op: BinaryOp::And, left, right } => {
                self.condition(left)?;
                self.condition(right)
            }
            ExprKind::Binary { op: BinaryOp::Eq, left, right } => {
                let mut binder = Binder::new(self.program, Some(self.row));
                let (a, b) = (binder.bind(left)?, binder.bind(right)?);
                let both = ((a.clone(), left.span), (b.clone(), right.span));
                let test = compare(BinaryOp::Eq, both.0, both.1, expr.span)?;
                let (of_a, of_b) = (self.sides(&a), self.sides(&b));
                if of_a.is_empty() || of_b.is_empty() || !of_a.is_disjoint(&of_b) {
                    self.conditions.push((test, expr.span));
                } else {
                    self.equate((a, left.span, of_a), (b, right.span, of_b));
                }
                Ok(())
            }
            _ => {
                let mut binder = Binder::new(self.program, Some(self.row));
                let test = binder.condition(expr, "the condition of `.on`")?;
                self.conditions.push((test, expr.span));
                Ok(())
            }
        }
    }

    /// The sides whose columns a value needs.
    fn sides(&self, value: &Value) -> BTreeSet<usize> {
        let columns = value.expr.column_refs();
        let names = columns.iter().filter_map(|c| c.relation.as_ref().map(|r| r.table()));
        names.filter_map(|name| self.names.iter().position(|n| *n == name)).collect()
    }

    fn equate(&mut self, a: (Value, Span, BTreeSet<usize>), b: (Value, Span, BTreeSet<usize>)) {
        let mut members = Vec::new();
        let touches = |equal: &Equal| {
            equal.members.iter().any(|m| m.value.expr == a.0.expr || m.value.expr == b.0.expr)
        };
        let mut rest = Vec::new();
        for equal in self.equal.drain(..) {
            if touches(&equal) { members.extend(equal.members) } else { rest.push(equal) }
        }
        for (value, span, sides) in [a, b] {
            if !members.iter().any(|m: &Member| m.value.expr == value.expr) {
                members.push(Member { value, span, sides, linked: false });
            }
        }
        rest.push(Equal { members });
        self.equal = rest;
    }

    /// The joins from left to right.
    fn plan(
        &mut self,
        kind: JoinKind,
        bound_us: Option<i64>,
        plans: Vec<(LogicalPlan, Option<Vec<PlanExpr>>)>,
    ) -> Result<LogicalPlan> {
        let span = self.source.span;
        let (join_type, in_time) = join_kind(kind, bound_us);
        let mut plans = plans.into_iter();
        let mut left = plans.next().map(|(plan, _)| plan).unwrap_or_default();
        for ((right, key), at) in plans.zip(1..) {
            let on = self.keys(at)?;
            if on.is_empty() {
                return Err(hint(
                    error(
                        SqlState::INVALID_OBJECT_DEFINITION,
                        codes::MISPLACED_OPERATION,
                        span,
                        format!(
                            "nothing says which rows of `{}` belong to the others",
                            self.names[at]
                        ),
                    ),
                    format!("add `.on({}.key == {}.key)`", self.names[0], self.names[at]),
                ));
            }
            let time = if key.is_some() { JoinTime::Lookup } else { in_time };
            let filter = self.filter(at, bound_us.filter(|_| key.is_none()))?;
            let looked_up = key.is_some();
            let identity = key.unwrap_or_default();
            let join = StreamJoin::try_new(left, right, join_type, time, on, filter, identity);
            let join = join.map_err(|e| internal(span, &e))?;
            left = LogicalPlan::Extension(Extension { node: Arc::new(join) });
            if looked_up {
                left = without_change(left).map_err(|e| internal(span, &e))?;
            }
        }
        Ok(left)
    }

    /// The equal values of the sides before `at` and of that side.
    fn keys(&mut self, at: usize) -> Result<Vec<(PlanExpr, PlanExpr)>> {
        let mut on = Vec::new();
        for equal in &mut self.equal {
            let of = |m: &Member, fits: &dyn Fn(usize) -> bool| m.sides.iter().all(|s| fits(*s));
            let place = |fits: &dyn Fn(usize) -> bool| -> Vec<usize> {
                (0..equal.members.len()).filter(|i| of(&equal.members[*i], fits)).collect()
            };
            let (lefts, rights) = (place(&|s| s < at), place(&|s| s == at));
            let (Some(first), Some(second)) = (lefts.first(), rights.first()) else { continue };
            let new = rights.iter().map(|right| (*first, *right));
            let behind = lefts[1..].iter().filter(|l| !equal.members[**l].linked);
            let pairs: Vec<(usize, usize)> =
                new.chain(behind.map(|left| (*left, *second))).collect();
            for (l, r) in pairs {
                let (a, b) = (&equal.members[l], &equal.members[r]);
                let both = vec![(a.value.clone(), a.span), (b.value.clone(), b.span)];
                let ty = common_of(&both, "the sides of `==`")?;
                let [a, b] = convert_all(both, &ty, "the sides of `==`")?
                    .try_into()
                    .expect("two were converted");
                on.push((
                    self.row.planned(a.expr, self.source.span)?,
                    self.row.planned(b.expr, self.source.span)?,
                ));
                equal.members[l].linked = true;
                equal.members[r].linked = true;
            }
        }
        Ok(on)
    }

    /// The further conditions that have all of their sides at `at` for the first time; there also
    /// that a third stream's rows are not too far from any of the others.
    fn filter(&self, at: usize, bound_us: Option<i64>) -> Result<Option<PlanExpr>> {
        let mut tests = Vec::new();
        for (test, span) in &self.conditions {
            if self.sides(test).last().copied().unwrap_or(0).max(1) == at {
                tests.push(self.row.planned(test.expr.clone(), *span)?);
            }
        }
        if let (Some(bound_us), 2..) = (bound_us, at) {
            let span = self.source.span;
            for before in 0..at {
                for (early, late) in [(before, at), (at, before)] {
                    let (early, late) = (self.time(early)?, self.time(late)?);
                    let bound =
                        Value::leaf(duration(bound_us * 1000), auspex_plan::ColumnType::Interval);
                    let end = binary(BinaryOp::Add, (early, span), (bound, span), span)?;
                    let test = compare(BinaryOp::LtEq, (late, span), (end, span), span)?;
                    tests.push(self.row.planned(test.expr, span)?);
                }
            }
        }
        Ok(conjunction(tests))
    }

    /// The event time of a side.
    fn time(&self, side: usize) -> Result<Value> {
        let name = self.names[side];
        let field = self.row.field_of(name, TIME_COLUMN).ok_or_else(|| {
            unsupported(self.source.span, format!("the event time of `{name}` in a join"))
        })?;
        Ok(Value::leaf(PlanExpr::Column(field.column.clone()), field.ty.clone()))
    }
}

/// A look-up's rows without the kind of change of the table's row.
pub(super) fn without_change(
    plan: LogicalPlan,
) -> std::result::Result<LogicalPlan, DataFusionError> {
    let columns = plan.schema().columns();
    let shown = columns.iter().filter(|c| c.name != OP_COLUMN);
    let shown: Vec<PlanExpr> = shown.cloned().map(PlanExpr::Column).collect();
    if shown.len() == columns.len() {
        return Ok(plan);
    }
    Projection::try_new(shown, Arc::new(plan)).map(LogicalPlan::Projection)
}

fn join_kind(kind: JoinKind, bound_us: Option<i64>) -> (JoinType, JoinTime) {
    let bound = bound_us.unwrap_or_default();
    let interval = JoinTime::Interval { lower_us: -bound, upper_us: bound };
    match kind {
        JoinKind::Inner => (JoinType::Inner, interval),
        JoinKind::Left => (JoinType::Left, interval),
        JoinKind::Right => (JoinType::Right, interval),
        JoinKind::Full => (JoinType::Full, interval),
        JoinKind::Semi => (JoinType::LeftSemi, interval),
        JoinKind::Anti => (JoinType::LeftAnti, interval),
        JoinKind::AsOf => {
            (JoinType::Inner, JoinTime::AsOf { strict: false, tolerance_us: bound_us })
        }
    }
}
