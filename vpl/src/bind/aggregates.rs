//! `.aggregate(..)`: calls of aggregates over the rows of a window, and expressions over them.
//!
//! Each call becomes a column of the aggregate's result; the expressions around the calls are then
//! bound over that result, where only the keys and the window's bounds are left of the rows.

use std::collections::BTreeMap;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Span, SqlState};
use auspex_plan::nodes::{StreamAggregate, WINDOW_COLUMNS};
use auspex_plan::relation::REVISION_COLUMN;
use auspex_plan::time::{Emit, Window};
use datafusion::common::Column;
use datafusion::logical_expr::Expr as PlanExpr;

use super::aggregate_functions::{self, is_aggregate};
use super::chain::Chain;
use super::expression::Binder;
use super::operations::planned_keys;
use super::problem::{Result, arguments, error, hint, internal};
use super::row::Field;
use super::value::{Value, exactly};
use super::walk::walk;
use super::windows::unused_lateness;
use crate::ast::{Arg, Expr, ExprKind, Ident, Op, OpArgs};
use crate::codes;

/// `.aggregate(n: count(), total: sum(x), ..)`
pub(super) fn aggregate<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let OpArgs::Args(args) = &op.args else {
        return Err(arguments(op.span, "`.aggregate` takes fields"));
    };
    let (fields, emit) = fields(args)?;
    if fields.is_empty() {
        return Err(arguments(op.span, "`.aggregate` takes at least one field"));
    }
    let calls = calls(chain, fields.iter().map(|(_, value)| *value))?;
    let results = result(chain, calls, emit, op.span)?;
    let mut binder = Binder::new(chain.program, Some(&chain.row));
    binder.results = results;
    let mut columns = current(chain);
    for (name, expr) in fields {
        if columns.iter().any(|(n, _)| *n == name.name) {
            return Err(error(
                SqlState::DUPLICATE_COLUMN,
                codes::DUPLICATE_NAME,
                name.span,
                format!("the result has a field `{}` already", name.name),
            ));
        }
        columns.push((name.name.clone(), binder.bind(expr).map_err(|p| explained(chain, p))?));
    }
    finish(chain, columns, op.span)
}

/// `.collect()` or `.collect(a, b)`: the values of each field as an array.
pub(super) fn collect<'a>(chain: &mut Chain<'a>, op: &'a Op, args: &'a [Arg]) -> Result<()> {
    let mut fields: Vec<(String, Value)> = Vec::new();
    for arg in args.iter().map(|a| &a.value) {
        let ExprKind::Name(name) = &arg.kind else {
            return Err(arguments(arg.span, "`.collect` takes names of fields"));
        };
        fields.push((name.clone(), chain.value(arg)?));
    }
    if args.is_empty() {
        let is_key = |v: &Value| chain.keys.iter().any(|k| k.expr() == Some(&v.expr));
        fields = chain.current().into_iter().filter(|(_, v)| !is_key(v)).collect();
    }
    let mut calls = Vec::new();
    for (at, (_, value)) in fields.iter().enumerate() {
        let call = aggregate_functions::collect(value);
        calls.push(((at, at), chain.planned(call.expr.clone(), op.span)?, call));
    }
    let results = result(chain, calls, Emit::OnClose, op.span)?;
    let mut columns = current(chain);
    let arrays = fields.into_iter().zip(results.into_values());
    columns.extend(arrays.map(|((name, _), value)| (name, value)));
    finish(chain, columns, op.span)
}

/// The window's bounds, the keys with a name, and whatever else the result has already.
fn current(chain: &Chain<'_>) -> Vec<(String, Value)> {
    let shown = |(name, _): &(String, Value)| name != REVISION_COLUMN;
    chain.current().into_iter().filter(shown).collect()
}

/// The row becomes `columns`, and the revision where there is one.
fn finish(chain: &mut Chain<'_>, mut columns: Vec<(String, Value)>, span: Span) -> Result<()> {
    columns.extend(chain.current().into_iter().filter(|(name, _)| name == REVISION_COLUMN));
    chain.replace(columns, span)?;
    chain.aggregated = true;
    Ok(())
}

/// The fields asked for, and when they come.
fn fields(args: &[Arg]) -> Result<(Vec<(&Ident, &Expr)>, Emit)> {
    let (mut fields, mut emit) = (Vec::with_capacity(args.len()), Emit::OnClose);
    for arg in args {
        let Some(name) = &arg.name else {
            return Err(hint(
                arguments(arg.span, "a field of `.aggregate` needs a name"),
                "write `name: aggregate(..)`",
            ));
        };
        match &arg.value.kind {
            ExprKind::Name(word) if name.name == "emit" && word == "changes" => {
                emit = Emit::Changes;
            }
            _ => fields.push((name, &arg.value)),
        }
    }
    Ok((fields, emit))
}

/// A call of an aggregate: its place, as part of the plan, and with its type.
type Call = ((usize, usize), PlanExpr, Value);

/// Binds the outermost calls of aggregates over the rows of the window.
fn calls<'a>(chain: &Chain<'a>, fields: impl Iterator<Item = &'a Expr>) -> Result<Vec<Call>> {
    let mut found: Vec<&'a Expr> = Vec::new();
    for field in fields {
        walk(field, &mut Vec::new(), &mut |e, _| {
            let call = match &e.kind {
                ExprKind::Filter { call, .. } => call,
                _ => e,
            };
            let inside =
                |outer: &&Expr| outer.span.start <= e.span.start && e.span.end <= outer.span.end;
            if is_aggregate(chain.program, call) && !found.iter().any(inside) {
                found.push(e);
            }
        });
    }
    let mut binder = Binder::new(chain.program, Some(&chain.row));
    let mut calls = Vec::with_capacity(found.len());
    for e in found {
        let value = aggregate_functions::bind(&mut binder, e)?;
        let expr = chain.planned(value.expr.clone(), e.span)?;
        calls.push(((e.span.start, e.span.end), expr, value));
    }
    Ok(calls)
}

/// Puts the aggregate on top of the plan; the row becomes the window's bounds, the keys and the
/// revision. Returns the calls as columns.
fn result(
    chain: &mut Chain<'_>,
    calls: Vec<Call>,
    emit: Emit,
    span: Span,
) -> Result<BTreeMap<(usize, usize), Value>> {
    let window = match chain.window.take() {
        Some(pending) => pending.window,
        None if emit == Emit::Changes => Window::Unbounded,
        None => return Err(super::operations::unbounded_aggregate(span)),
    };
    let lateness_us = match chain.lateness.take() {
        None => 0,
        Some((_, at)) if matches!(window, Window::Count { .. } | Window::Unbounded) => {
            return Err(unused_lateness(at));
        }
        Some((us, _)) => us,
    };
    let mut keys = planned_keys(chain)?;
    for key in &mut keys {
        // The result has these names for its own window.
        if let PlanExpr::Column(c) = &key
            && WINDOW_COLUMNS.contains(&c.name.as_str())
        {
            let name = format!("_{}", c.name);
            *key = key.clone().alias(name);
        }
    }
    let mut aggregates: Vec<PlanExpr> = Vec::new();
    let mut columns = Vec::with_capacity(calls.len());
    for (place, expr, value) in calls {
        let known = aggregates.iter().find(|a| **a == expr || (*a).clone().unalias() == expr);
        let column = match known {
            Some(known) => known.schema_name().to_string(),
            None => {
                // Names do not show casts, so different calls may have the same.
                let name = expr.schema_name().to_string();
                let taken = aggregates.iter().any(|a| a.schema_name().to_string() == name);
                let own = if taken { format!("{name} {}", aggregates.len()) } else { name };
                aggregates.push(if taken { expr.alias(&own) } else { expr });
                own
            }
        };
        columns.push((place, Column::new_unqualified(column), value.ty));
    }
    let input = chain.plan.clone();
    let of_keys: Vec<Column> = keys.iter().map(column_of).collect();
    let node = StreamAggregate::try_new(input, window, keys, aggregates, emit, lateness_us)
        .map_err(|e| internal(span, &e))?;
    chain.row.sides.clear();
    chain.extend(node);
    // Changes and revisions come one by one.
    let at_once = emit == Emit::OnClose && lateness_us == 0;
    chain.closed = Some(if at_once { window } else { Window::Unbounded });
    only_keys(chain, of_keys);
    let schema = chain.row.schema.clone();
    let columns = columns.into_iter().map(|(place, column, ty)| {
        let ty = ty.unwrap_or(ColumnType::Text);
        (place, Value::leaf(exactly(PlanExpr::Column(column), &ty, &schema), ty))
    });
    Ok(columns.collect())
}

/// The column that a key becomes.
fn column_of(key: &PlanExpr) -> Column {
    match key {
        PlanExpr::Column(column) => column.clone(),
        other => Column::new_unqualified(other.schema_name().to_string()),
    }
}

/// After an aggregate: what can be named besides its results.
fn only_keys(chain: &mut Chain<'_>, columns: Vec<Column>) {
    let own = |f: &&Field| {
        let ours = WINDOW_COLUMNS.contains(&f.name.as_str()) || f.name == REVISION_COLUMN;
        ours && f.column.relation.is_none()
    };
    let (bounds, revision): (Vec<Field>, Vec<Field>) =
        chain.row.fields.iter().filter(own).cloned().partition(|f| f.name != REVISION_COLUMN);
    let mut fields = bounds;
    for (key, column) in chain.keys.iter_mut().zip(columns) {
        let ty = key.value.as_ref().and_then(|v| v.ty.clone()).unwrap_or(ColumnType::Text);
        key.value = Some(Value::leaf(PlanExpr::Column(column.clone()), ty.clone()));
        if let Some(name) = &key.name {
            fields.push(Field { name: name.clone(), ty, column });
        }
    }
    fields.extend(revision);
    chain.row.fields = fields;
    chain.row.system = Vec::new();
}

/// A field of the rows is not there any more beside the aggregates.
fn explained(
    chain: &Chain<'_>,
    problem: Box<auspex_plan::Diagnostic>,
) -> Box<auspex_plan::Diagnostic> {
    if problem.code != Some(codes::UNKNOWN_FIELD) {
        return problem;
    }
    let names: Vec<&str> = chain.row.names().collect();
    let mut problem = problem;
    problem.hint = Some(format!(
        "outside of an aggregate such as `first(..)` there are only the keys: {}",
        names.join(", ")
    ));
    problem
}
