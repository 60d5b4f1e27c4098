//! Lambdas: `map`, `filter`, `any`, `all` over the items of an array.
//!
//! They become DataFusion's higher-order functions, which evaluate the body once over the items
//! of a whole batch; columns used in the body come along.

use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use datafusion::functions_nested::array_any_match::array_any_match;
use datafusion::functions_nested::array_filter::array_filter;
use datafusion::functions_nested::array_transform::array_transform;
use datafusion::logical_expr::Expr as PlanExpr;
use datafusion::logical_expr::expr::{Lambda, LambdaVariable};

use super::builtins::Argument;
use super::calls::{item_of, wrong_count};
use super::expression::Binder;
use super::problem::{Result, arguments, unsupported};
use super::value::{Value, coerce};
use crate::ast::{Expr, ExprKind, Ident};

/// Binds a call of one of the functions that take a lambda.
pub(super) fn call<'a>(
    binder: &mut Binder<'a>,
    function: &'a Ident,
    args: &[&'a Expr],
    span: Span,
) -> Result<Value> {
    if function.name == "reduce" {
        return Err(unsupported(function.span, "`reduce`"));
    }
    let [array, lambda] = args else {
        return Err(wrong_count(function, span, "an array and a lambda", args.len()));
    };
    let array = Argument { value: binder.bind(array)?, span: array.span };
    let item = item_of(function, &array)?;
    let ExprKind::Lambda { params, bindings, body } = &lambda.kind else {
        return Err(arguments(
            lambda.span,
            format!("the second argument of `{}` is a lambda such as `x => x > 0`", function.name),
        ));
    };
    let [param] = params.as_slice() else {
        return Err(arguments(
            lambda.span,
            format!("the lambda of `{}` takes one parameter, not {}", function.name, params.len()),
        ));
    };
    // Its own name for each parameter: a value put in place inside another lambda keeps meaning.
    binder.lambda_parameters += 1;
    let name = match binder.lambda_parameters {
        1 => param.name.clone(),
        n => format!("{}_{n}", param.name),
    };
    let field = Arc::new(item.field("item", true));
    let variable = PlanExpr::LambdaVariable(LambdaVariable::new(name.clone(), Some(field)));
    let depth = binder.locals.len();
    binder.locals.push((param.name.clone(), Value::leaf(variable, item.clone())));
    for binding in bindings {
        let value = binder.bind(&binding.value)?;
        let value = match &binding.ty {
            None => value,
            Some(ty) => {
                let ty = binder.program.column_type(ty)?;
                coerce(value, &ty, binding.value.span, &format!("`{}`", binding.name.name))?
            }
        };
        binder.locals.push((binding.name.name.clone(), value));
    }
    let result = binder.bind(body);
    binder.locals.truncate(depth);
    let result = result?;
    let lambda = |body: PlanExpr| PlanExpr::Lambda(Lambda::new(vec![name.clone()], body));
    let source = array.value.expr.clone();
    if function.name == "map" {
        let ty = result.ty.clone().unwrap_or(ColumnType::Text);
        let result = coerce(result, &ty, body.span, "the result of the lambda")?;
        let mapped = array_transform(source, lambda(result.expr.clone()));
        let ty = ColumnType::Array(Box::new(ty));
        return Ok(binder.typed(mapped, ty, &[&array.value, &result]));
    }
    let test = coerce(result, &ColumnType::Boolean, body.span, "the result of the lambda")?;
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
