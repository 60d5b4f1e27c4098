//! `while` and `for` in functions.
//!
//! A loop is a function of the variables that its body assigns: their values before it, a condition,
//! and for each its value after one more round. `break` is one more variable; `for` has a counter.

use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use auspex_plan::functions::iterate;
use datafusion::logical_expr::expr::{HigherOrderFunction, Lambda, LambdaVariable};
use datafusion::logical_expr::{Expr as PlanExpr, lit};

use super::container;
use super::expression::Binder;
use super::inline::{End, Unfolding, Wanted};
use super::problem::{Result, hint, mismatch, unsupported};
use super::value::{Value, coerce};
use crate::ast::{Expr, ExprKind, Ident, Local, LocalKind};

/// What a loop runs over.
pub(super) enum Over<'a> {
    /// `while condition:`
    While(&'a Expr),
    /// `for var in iterable:`
    Items {
        /// The loop variable.
        var: &'a Ident,
        /// A range, a number of rounds, or an array.
        iterable: &'a Expr,
    },
}

/// A variable of the loop: its name in the program (none for our own), its type and start value.
struct Variable {
    name: Option<String>,
    ty: ColumnType,
    start: Value,
}

/// A `for` over numbers from `from` on, below `to`; over the items of an array its places.
struct Counter {
    from: Value,
    to: Value,
    items: Option<(Value, Span)>,
}

impl<'a> Unfolding<'a> {
    /// The function's result when a loop and then `rest` are left to do.
    pub(super) fn looped(
        &mut self,
        binder: &mut Binder<'a>,
        over: Over<'a>,
        body: &'a [Local],
        rest: &[&'a Local],
        span: Span,
    ) -> Result<(Value, Span)> {
        let mut variables = self.variables(binder, body)?;
        let named = variables.len();
        let leaves = contains_break(body);
        if leaves {
            let start = Value::leaf(lit(false), ColumnType::Boolean);
            variables.push(Variable { name: None, ty: ColumnType::Boolean, start });
        }
        let counter = match &over {
            Over::While(_) => None,
            Over::Items { iterable, .. } => Some(counter(binder, iterable)?),
        };
        if let Some(counter) = &counter {
            let (ty, start) = (ColumnType::BigInt, counter.from.clone());
            variables.push(Variable { name: None, ty, start });
        }
        if variables.is_empty() {
            // Nothing comes out of it; but a loop that never ends must not become one that does.
            let ty = ColumnType::Boolean;
            variables.push(Variable {
                name: None,
                ty,
                start: Value::leaf(lit(false), ColumnType::Boolean),
            });
        }

        let depth = binder.locals.len();
        let (names, inside) = parameters(binder, &variables);
        let mut conditions = Vec::new();
        if let Over::While(condition) = over {
            conditions.push(binder.condition(condition, "the condition of `while`")?);
        }
        if let Some(counter) = &counter {
            let place = inside.last().expect("pushed above").clone();
            let below = place.expr.clone().lt(counter.to.expr.clone());
            conditions.push(Value::new(below, ColumnType::Boolean, &[&place, &counter.to]));
            if let Over::Items { var, .. } = &over {
                let item = match &counter.items {
                    None => place,
                    Some((items, at)) => container::get(items.clone(), *at, place, *at)?,
                };
                binder.locals.push((var.name.clone(), item));
            }
        }
        if leaves {
            let left = &inside[named];
            let stays = PlanExpr::Not(Box::new(left.expr.clone()));
            conditions.push(Value::new(stays, ColumnType::Boolean, &[left]));
        }
        let condition = conditions.into_iter().reduce(|a, b| {
            let both = a.expr.clone().and(b.expr.clone());
            Value::new(both, ColumnType::Boolean, &[&a, &b])
        });
        let condition = condition.unwrap_or_else(|| Value::leaf(lit(true), ColumnType::Boolean));

        let statements: Vec<&'a Local> = body.iter().collect();
        let mut next = Vec::with_capacity(variables.len());
        for (number, variable) in variables.iter().enumerate() {
            let wanted = match &variable.name {
                Some(name) => Wanted::Named(name.clone()),
                None if leaves && number == named => Wanted::Left,
                None if counter.is_some() => {
                    let place = &inside[number];
                    let following = place.expr.clone() + lit(1i64);
                    next.push(Value::new(following, ColumnType::BigInt, &[place]));
                    continue;
                }
                None => Wanted::Left,
            };
            let outer = std::mem::replace(&mut self.end, End::Round(wanted));
            let bound = self.value(binder, &statements);
            self.end = outer;
            let (value, at) = bound?;
            let what = variable.name.as_deref().unwrap_or("the loop");
            next.push(coerce(value, &variable.ty, at, &format!("`{what}`"))?);
        }
        binder.locals.truncate(depth);

        for (number, variable) in variables.iter().enumerate() {
            let Some(name) = &variable.name else { continue };
            let value = result(&variables, &names, &condition, &next, number).bounded(span)?;
            binder.locals.push((name.clone(), value));
        }
        let outcome = self.value(binder, rest);
        binder.locals.truncate(depth);
        outcome
    }

    /// The variables from outside that the body assigns, with their present values.
    fn variables(&self, binder: &Binder<'a>, body: &'a [Local]) -> Result<Vec<Variable>> {
        let (mut assigned, mut declared) = (Vec::new(), Vec::new());
        collect(body, &mut assigned, &mut declared);
        let mut variables: Vec<Variable> = Vec::new();
        for name in assigned {
            if declared.contains(&name.name.as_str())
                || variables.iter().any(|v| v.name.as_deref() == Some(&name.name))
            {
                continue;
            }
            let found = binder.locals.iter().rev().find(|(n, _)| *n == name.name);
            let Some((_, start)) = found else { return Err(binder.program.assignment(name)) };
            // Refuses what cannot be assigned.
            self.assigned(binder, name, start.clone(), name.span)?;
            let Some(ty) = start.ty.clone() else {
                return Err(hint(
                    mismatch(name.span, format!("the type of `{}` is not known", name.name)),
                    "give it a type where it is declared: `var x: int = null`",
                ));
            };
            let start = coerce(start.clone(), &ty, name.span, &format!("`{}`", name.name))?;
            variables.push(Variable { name: Some(name.name.clone()), ty, start });
        }
        Ok(variables)
    }
}

/// Makes the variables the parameters of lambdas and puts them in sight; their names in the plan
/// and their values.
fn parameters(binder: &mut Binder<'_>, variables: &[Variable]) -> (Vec<String>, Vec<Value>) {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for variable in variables {
        binder.lambda_parameters += 1;
        let word = variable.name.as_deref().unwrap_or("loop");
        let name = format!("{word}_{}", binder.lambda_parameters);
        let field = Arc::new(variable.ty.field("item", true));
        let parameter = PlanExpr::LambdaVariable(LambdaVariable::new(name.clone(), Some(field)));
        let value = Value::leaf(parameter, variable.ty.clone());
        if let Some(own) = &variable.name {
            binder.locals.push((own.clone(), value.clone()));
        }
        names.push(name);
        values.push(value);
    }
    (names, values)
}

/// The value of variable `number` behind the loop.
fn result(
    variables: &[Variable],
    names: &[String],
    condition: &Value,
    next: &[Value],
    number: usize,
) -> Value {
    let lambda = |value: &Value| PlanExpr::Lambda(Lambda::new(names.to_vec(), value.expr.clone()));
    let mut args: Vec<PlanExpr> = variables.iter().map(|v| v.start.expr.clone()).collect();
    args.push(lambda(condition));
    args.extend(next.iter().map(lambda));
    let call = HigherOrderFunction::new(iterate(variables.len(), number), args);
    let mut parts: Vec<&Value> = variables.iter().map(|v| &v.start).collect();
    parts.push(condition);
    parts.extend(next);
    Value::new(PlanExpr::HigherOrderFunction(call), variables[number].ty.clone(), &parts)
}

fn counter<'a>(binder: &mut Binder<'a>, iterable: &'a Expr) -> Result<Counter> {
    let number = |binder: &mut Binder<'a>, expr: &'a Expr| {
        let value = binder.bind(expr)?;
        coerce(value, &ColumnType::BigInt, expr.span, "a bound of the loop")
    };
    if let ExprKind::Range { from, to, inclusive } = &iterable.kind {
        let (from, mut to) = (number(binder, from)?, number(binder, to)?);
        if *inclusive {
            let end = to.expr.clone() + lit(1i64);
            to = Value::new(end, ColumnType::BigInt, &[&to]);
        }
        return Ok(Counter { from, to, items: None });
    }
    let over = binder.bind(iterable)?;
    let zero = Value::leaf(lit(0i64), ColumnType::BigInt);
    match &over.ty {
        Some(ColumnType::Array(_)) => {
            let length = datafusion::functions_nested::expr_fn::array_length(over.expr.clone());
            let length = super::value::cast(length, &ColumnType::BigInt.arrow());
            // The length of a null array is null, and a condition that is not true ends the loop.
            let to = Value::new(length, ColumnType::BigInt, &[&over]);
            Ok(Counter { from: zero, to, items: Some((over, iterable.span)) })
        }
        Some(ty) if super::value::is_int(ty) => {
            let to = coerce(over, &ColumnType::BigInt, iterable.span, "the number of rounds")?;
            Ok(Counter { from: zero, to, items: None })
        }
        _ => {
            let what = format!("a loop over `{}`", over.type_name());
            Err(hint(unsupported(iterable.span, what), "`for x in 0..n`, or over an array"))
        }
    }
}

/// Names assigned and names declared in a body, inner blocks included.
fn collect<'a>(body: &'a [Local], assigned: &mut Vec<&'a Ident>, declared: &mut Vec<&'a str>) {
    for statement in body {
        match &statement.kind {
            LocalKind::Assign(assign) => assigned.push(&assign.name),
            LocalKind::Let(binding) => declared.push(&binding.name.name),
            LocalKind::If { branches, otherwise } => {
                branches.iter().for_each(|(_, block)| collect(block, assigned, declared));
                collect(otherwise.as_deref().unwrap_or_default(), assigned, declared);
            }
            LocalKind::For { var, body, .. } => {
                declared.push(&var.name);
                collect(body, assigned, declared);
            }
            LocalKind::While { body, .. } => collect(body, assigned, declared),
            _ => {}
        }
    }
}

/// Whether `break` leaves this loop (and not one inside it).
fn contains_break(body: &[Local]) -> bool {
    body.iter().any(|statement| match &statement.kind {
        LocalKind::Break => true,
        LocalKind::If { branches, otherwise } => {
            branches.iter().any(|(_, block)| contains_break(block))
                || contains_break(otherwise.as_deref().unwrap_or_default())
        }
        _ => false,
    })
}
