//! Which state serves which function.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, ExprSchemable};

use crate::error::{ExecError, Result};

use super::compile::Make;
use super::extremes::extremes;
use super::slots::Slots;
use super::totals::{Count, totals};
use super::{Accumulator, Figure};

/// The state of an aggregate and what is read from it.
pub(super) struct Choice {
    /// Identifies the state together with its arguments.
    pub(super) kind: String,
    /// What goes into it.
    pub(super) args: Vec<Expr>,
    /// Makes an empty one.
    pub(super) make: Make,
    /// What is read.
    pub(super) figure: Figure,
}

/// Chooses by the function's name and the types of its arguments.
pub(super) fn choose(
    call: &AggregateFunction,
    _field: &FieldRef,
    schema: &DFSchema,
    text: &str,
) -> Result<Choice> {
    let unsupported = || ExecError::Unsupported(format!("the aggregate {text}"));
    let params = &call.params;
    if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return Err(unsupported());
    }
    let types = params.args.iter().map(|arg| Ok(arg.get_type(schema)?));
    let types: Vec<DataType> = types.collect::<Result<_>>()?;
    let first = types.first().cloned().unwrap_or(DataType::Null);
    let numbers = totals(&first).is_some();
    let figure = match call.func.name() {
        "count" => Figure::Count,
        "sum" => Figure::Sum,
        "avg" => Figure::Avg,
        "min" => Figure::Min,
        "max" => Figure::Max,
        _ => return Err(unsupported()),
    };
    let (kind, make): (&str, Make) = match figure {
        Figure::Count
            if numbers && params.args.iter().all(|arg| !is_constant(arg)) && types.len() == 1 =>
        {
            ("totals", make(move || totals(&first).expect("a number")))
        }
        Figure::Count => ("count", make(|| Box::new(Slots::new(Count)))),
        Figure::Sum | Figure::Avg if numbers => {
            ("totals", make(move || totals(&first).expect("a number")))
        }
        Figure::Min | Figure::Max => {
            extremes(&first)?;
            ("extremes", make(move || extremes(&first).expect("made before")))
        }
        _ => return Err(unsupported()),
    };
    let constant = |arg: &Expr| matches!(arg, Expr::Literal(value, _) if !value.is_null());
    let args = params.args.iter().filter(|arg| kind != "count" || !constant(arg)).cloned();
    Ok(Choice { kind: kind.to_string(), args: args.collect(), make, figure })
}

fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn make(f: impl Fn() -> Box<dyn Accumulator> + Send + Sync + 'static) -> Make {
    Arc::new(f)
}
