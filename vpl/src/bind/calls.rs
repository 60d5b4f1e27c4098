//! Calls: user functions first, then lambdas over arrays, then the built-in functions.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Span, SqlState};
use datafusion::logical_expr::Expr as PlanExpr;

use super::builtins::{self, Argument};
use super::expression::Binder;
use super::problem::{Result, arguments, error, hint, mismatch, unknown, unsupported};
use super::value::Value;
use super::{aggregate_functions, inline, lambda};
use crate::ast::{Arg, Expr, ExprKind, Ident};
use crate::codes;

/// Functions over an array and a lambda.
pub(super) const LAMBDA_FUNCTIONS: [&str; 5] = ["map", "filter", "any", "all", "reduce"];

/// Functions whose result would depend on when the row is processed.
const CLOCKS: [&str; 4] = ["now", "uuid", "random", "timestamp_now"];

/// A call of one of our functions in the plan.
pub(super) fn our(name: &str, args: Vec<PlanExpr>) -> PlanExpr {
    auspex_plan::functions::find(name)
        .expect("the binder only names functions of the registry")
        .call(args)
}

/// Binds `function(args)` or `receiver.function(args)`.
pub(super) fn call<'a>(
    binder: &mut Binder<'a>,
    function: &'a Ident,
    receiver: Option<&'a Expr>,
    args: &'a [Arg],
    span: Span,
) -> Result<Value> {
    let name = function.name.as_str();
    let values: Vec<&'a Expr> = receiver.into_iter().chain(args.iter().map(|a| &a.value)).collect();
    if let Some(declared) = binder.program.functions.get(name) {
        return inline::call(binder, declared, function, receiver, args, span);
    }
    if let Some(named) = args.iter().find_map(|a| a.name.as_ref()) {
        return Err(arguments(
            named.span,
            format!("`{name}` takes its arguments by position, not by name"),
        ));
    }
    let is_lambda = |e: &&Expr| matches!(e.kind, ExprKind::Lambda { .. });
    if LAMBDA_FUNCTIONS.contains(&name) {
        return lambda::call(binder, function, &values, span);
    }
    if let Some(lambda) = values.iter().find(|e| is_lambda(e)) {
        return Err(arguments(lambda.span, format!("`{name}` takes no lambda")));
    }
    if !builtins::exists(name) {
        return Err(no_function(binder, function));
    }
    let mut bound = Vec::with_capacity(values.len());
    for e in values {
        bound.push(Argument { value: binder.bind(e)?, span: e.span });
    }
    builtins::call(binder, function, bound, span)
}

fn no_function(binder: &Binder<'_>, function: &Ident) -> Box<auspex_plan::Diagnostic> {
    let name = function.name.as_str();
    if aggregate_functions::NAMES.contains(&name) {
        return hint(
            error(
                SqlState::UNDEFINED_FUNCTION,
                codes::MISPLACED_OPERATION,
                function.span,
                format!("`{name}` is an aggregate: it belongs into `.aggregate(..)`"),
            ),
            "aggregates range over the rows of a window or match",
        );
    }
    if CLOCKS.contains(&name) {
        return hint(
            unsupported(function.span, format!("`{name}()`")),
            "a stream is a function of its rows alone: use `_time` (event time) or `_ingested`",
        );
    }
    let known = builtins::NAMES
        .iter()
        .copied()
        .chain(LAMBDA_FUNCTIONS)
        .chain(binder.program.functions.keys().copied());
    unknown(SqlState::UNDEFINED_FUNCTION, codes::UNKNOWN_FUNCTION, "function", function, known)
}

/// Wrong number of arguments.
pub(super) fn wrong_count(
    function: &Ident,
    span: Span,
    takes: &str,
    got: usize,
) -> Box<auspex_plan::Diagnostic> {
    arguments(span, format!("`{}` takes {takes}, not {got}", function.name))
}

/// An argument of a type that the function does not take.
pub(super) fn wrong_type(
    function: &Ident,
    argument: &Argument,
    expected: &str,
) -> Box<auspex_plan::Diagnostic> {
    mismatch(
        argument.span,
        format!("`{}` takes {expected}, not `{}`", function.name, argument.value.type_name()),
    )
}

/// The item type of an array argument.
pub(super) fn item_of(function: &Ident, argument: &Argument) -> Result<ColumnType> {
    match &argument.value.ty {
        Some(ColumnType::Array(item)) => Ok(item.as_ref().clone()),
        _ => Err(wrong_type(function, argument, "an array")),
    }
}
