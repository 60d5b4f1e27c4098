//! Lambdas: `map`, `filter`, `any`, `all`, `reduce` over the items of an array.
//!
//! They become higher-order functions of DataFusion and one of ours, which evaluate the body once over the items
//! of a whole batch; columns used in the body come along.

use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use datafusion::functions_nested::array_any_match::array_any_match;
use datafusion::functions_nested::array_filter::array_filter;
use datafusion::functions_nested::array_transform::array_transform;
use datafusion::logical_expr::Expr as PlanExpr;
use datafusion::logical_expr::expr::{HigherOrderFunction, Lambda, LambdaVariable};

use super::builtins::Argument;
use super::calls::{item_of, wrong_count};
use super::expression::Binder;
use super::problem::{Result, arguments};
use super::value::{Value, coerce, common, widest};
use crate::ast::{Expr, ExprKind, Ident};

/// Binds a call of one of the functions that take a lambda.
pub(super) fn call<'a>(
    binder: &mut Binder<'a>,
    function: &'a Ident,
    args: &[&'a Expr],
    span: Span,
) -> Result<Value> {
    if function.name == "reduce" {
        return reduce(binder, function, args, span);
    }
    let [array, lambda] = args else {
        return Err(wrong_count(function, span, "an array and a lambda", args.len()));
    };
    let array = Argument { value: binder.bind(array)?, span: array.span };
    let item = item_of(function, &array)?;
    let (params, result, body) = body(binder, function, lambda, &[&item])?;
    let lambda = |body: PlanExpr| PlanExpr::Lambda(Lambda::new(params.clone(), body));
    let source = array.value.expr.clone();
    if function.name == "map" {
        let ty = result.ty.clone().unwrap_or(ColumnType::Text);
        let result = coerce(result, &ty, body, "the result of the lambda")?;
        let mapped = array_transform(source, lambda(result.expr.clone()));
        let ty = ColumnType::Array(Box::new(ty));
        return Ok(binder.typed(mapped, ty, &[&array.value, &result]));
    }
    let test = coerce(result, &ColumnType::Boolean, body, "the result of the lambda")?;
    let parts = [&array.value, &test];
    Ok(match function.name.as_str() {
        "filter" => {
            let ty = ColumnType::Array(Box::new(item));
            binder.typed(array_filter(source, lambda(test.expr.clone())), ty, &parts)
        }
        "any" => {
            let any = array_any_match(source, lambda(test.expr.clone()));
            Value::new(any, ColumnType::Boolean, &parts)
        }
        _ => {
            // All do when none does not; nulls come out as three-valued logic has them.
            let counter = PlanExpr::Not(Box::new(test.expr.clone()));
            let all = PlanExpr::Not(Box::new(array_any_match(source, lambda(counter))));
            Value::new(all, ColumnType::Boolean, &parts)
        }
    })
}

/// `reduce(array, start, (total, item) => ..)`
fn reduce<'a>(
    binder: &mut Binder<'a>,
    function: &'a Ident,
    args: &[&'a Expr],
    span: Span,
) -> Result<Value> {
    let [array, start, lambda] = args else {
        let takes = "an array, a start value and a lambda";
        return Err(wrong_count(function, span, takes, args.len()));
    };
    let array = Argument { value: binder.bind(array)?, span: array.span };
    let item = item_of(function, &array)?;
    let first = binder.bind(start)?;
    // The total may turn out wider than its start: `reduce(xs, 0, (a, x) => a + x / 2.0)`.
    let mut ty = first.ty.as_ref().map_or(ColumnType::BigInt, widest);
    for _ in 0..2 {
        let (params, result, at) = body(binder, function, lambda, &[&ty, &item])?;
        let wider = result.ty.as_ref().and_then(|r| common(&ty, r));
        match wider {
            Some(wider) if wider != ty => ty = wider,
            _ => {
                let what = "the result of the lambda";
                let result = coerce(result, &ty, at, what)?;
                let first = coerce(first, &ty, start.span, "the start value")?;
                let args = vec![
                    array.value.expr.clone(),
                    first.expr.clone(),
                    PlanExpr::Lambda(Lambda::new(params, result.expr.clone())),
                ];
                let fold = HigherOrderFunction::new(auspex_plan::functions::array_fold(), args);
                let parts = [&array.value, &first, &result];
                return Ok(Value::new(PlanExpr::HigherOrderFunction(fold), ty, &parts));
            }
        }
    }
    Err(super::problem::mismatch(lambda.span, "the type of the total changes with every item"))
}

/// Binds the body of `lambda` over parameters of these types: the names the parameters have in
/// the plan, the result and its place.
fn body<'a>(
    binder: &mut Binder<'a>,
    function: &Ident,
    lambda: &'a Expr,
    types: &[&ColumnType],
) -> Result<(Vec<String>, Value, Span)> {
    let ExprKind::Lambda { params, bindings, body } = &lambda.kind else {
        let example = if types.len() == 2 { "(total, x) => total + x" } else { "x => x > 0" };
        return Err(arguments(
            lambda.span,
            format!("the last argument of `{}` is a lambda such as `{example}`", function.name),
        ));
    };
    if params.len() != types.len() {
        let takes = if types.len() == 1 { "one parameter" } else { "two parameters" };
        return Err(arguments(
            lambda.span,
            format!("the lambda of `{}` takes {takes}, not {}", function.name, params.len()),
        ));
    }
    let depth = binder.locals.len();
    let mut names = Vec::with_capacity(params.len());
    for (param, ty) in params.iter().zip(types) {
        // Its own name for each parameter: a value put in place inside another lambda keeps its
        // meaning.
        binder.lambda_parameters += 1;
        let name = match binder.lambda_parameters {
            1 => param.name.clone(),
            n => format!("{}_{n}", param.name),
        };
        let field = Arc::new(ty.field("item", true));
        let variable = PlanExpr::LambdaVariable(LambdaVariable::new(name.clone(), Some(field)));
        binder.locals.push((param.name.clone(), Value::leaf(variable, (*ty).clone())));
        names.push(name);
    }
    let result = bindings
        .iter()
        .try_for_each(|binding| {
            let value = binder.bind(&binding.value)?;
            let value = match &binding.ty {
                None => value,
                Some(ty) => {
                    let ty = binder.program.column_type(ty)?;
                    coerce(value, &ty, binding.value.span, &format!("`{}`", binding.name.name))?
                }
            };
            binder.locals.push((binding.name.name.clone(), value));
            Ok(())
        })
        .and_then(|()| binder.bind(body));
    binder.locals.truncate(depth);
    Ok((names, result?, body.span))
}
