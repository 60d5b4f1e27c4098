//! `iterate(start .., condition, next ..)`: a loop over several variables, as a function.
//!
//! Works on a whole batch: each round evaluates the condition and the next values once over the rows
//! that are still going.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array, new_null_array};
use arrow::compute::{interleave, take, take_arrays};
use arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaParametersProgress, ValueOrLambda, Volatility,
};

/// Rounds of one row after which the loop is an error of that row.
pub const MAX_ROUNDS: usize = 1_000_000;

/// A loop over `variables` variables that gives the last value of number `result`.
///
/// Arguments: the start values, a condition and the next values. The latter are lambdas over all
/// variables, each next value of the type of its start value. The loop ends when the condition is
/// not true.
pub fn iterate(variables: usize, result: usize) -> Arc<HigherOrderUDF> {
    let value = std::iter::repeat_n(ValueOrLambda::Value(()), variables);
    let lambda = std::iter::repeat_n(ValueOrLambda::Lambda(()), variables + 1);
    let signature =
        HigherOrderSignature::exact(value.chain(lambda).collect(), Volatility::Immutable);
    Arc::new(HigherOrderUDF::new_from_impl(Iterate { variables, result, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Iterate {
    variables: usize,
    result: usize,
    signature: HigherOrderSignature,
}

impl HigherOrderUDFImpl for Iterate {
    fn name(&self) -> &str {
        "iterate"
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(
        &self,
        arg_types: &[arrow::datatypes::DataType],
    ) -> Result<Vec<arrow::datatypes::DataType>> {
        Ok(arg_types.to_vec())
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let mut variables = Vec::with_capacity(self.variables);
        for (number, field) in fields.iter().take(self.variables).enumerate() {
            let ValueOrLambda::Value(start) = field else {
                return plan_err!("iterate takes its start values first");
            };
            let name = format!("v{number}");
            variables.push(Arc::new(Field::new(name, start.data_type().clone(), true)));
        }
        Ok(LambdaParametersProgress::Complete(vec![variables; self.variables + 1]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let fields = args.arg_fields;
        for number in 0..self.variables {
            let (ValueOrLambda::Value(start), ValueOrLambda::Lambda(next)) =
                (&fields[number], &fields[self.variables + 1 + number])
            else {
                return plan_err!("iterate takes start values, then lambdas");
            };
            if start.data_type() != next.data_type() {
                let (start, next) = (start.data_type(), next.data_type());
                return plan_err!("variable {number} of a loop is {start}, its next value {next}");
            }
        }
        let ValueOrLambda::Value(start) = &fields[self.result] else {
            return plan_err!("iterate takes its start values first");
        };
        Ok(Arc::new(Field::new("", start.data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (mut current, mut lambdas) = (Vec::new(), Vec::new());
        for arg in &args.args {
            match arg {
                ValueOrLambda::Value(start) => current.push(start.to_array(rows)?),
                ValueOrLambda::Lambda(lambda) => lambdas.push(lambda),
            }
        }
        // Values of rows that are done stay where they were computed: (array, place).
        let mut ends: Vec<ArrayRef> = vec![new_null_array(current[self.result].data_type(), 1)];
        let mut results = vec![(0, 0); rows];
        let mut active: Vec<usize> = (0..rows).collect();
        for round in 0.. {
            if active.is_empty() {
                break;
            }
            if round > MAX_ROUNDS {
                return exec_err!("a loop of more than {MAX_ROUNDS} rounds");
            }
            let all = active.len();
            let evaluate = |number: usize, current: &[ArrayRef], active: &[usize]| {
                let values: Vec<Box<dyn Fn() -> Result<ArrayRef> + '_>> = current
                    .iter()
                    .map(|v| Box::new(move || Ok(Arc::clone(v))) as Box<dyn Fn() -> _>)
                    .collect();
                let values: Vec<&dyn Fn() -> Result<ArrayRef>> =
                    values.iter().map(AsRef::as_ref).collect();
                let indices = UInt64Array::from_iter_values(active.iter().map(|r| *r as u64));
                lambdas[number]
                    .evaluate(&values, |captured| Ok(take_arrays(captured, &indices, None)?))?
                    .into_array(active.len())
            };
            let going = evaluate(0, &current, &active)?;
            let going = going.as_boolean();
            let goes = |place: usize| going.is_valid(place) && going.value(place);
            let kept: Vec<usize> = (0..all).filter(|place| goes(*place)).collect();
            if kept.len() < all {
                for place in (0..all).filter(|place| !goes(*place)) {
                    results[active[place]] = (ends.len(), place);
                }
                ends.push(Arc::clone(&current[self.result]));
                let places = UInt64Array::from_iter_values(kept.iter().map(|p| *p as u64));
                for values in &mut current {
                    *values = take(values, &places, None)?;
                }
                active = kept.into_iter().map(|place| active[place]).collect();
                if active.is_empty() {
                    break;
                }
            }
            let next = (0..self.variables).map(|number| evaluate(number + 1, &current, &active));
            current = next.collect::<Result<Vec<_>>>()?;
        }
        let ends: Vec<&dyn Array> = ends.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(interleave(&ends, &results)?))
    }
}
