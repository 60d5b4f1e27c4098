//! `array_fold(array, start, (total, item) -> ..)`: the lambda applied to item after item.
//!
//! Works on a whole batch: step k evaluates the lambda once over the k-th items of all arrays that
//! have so many. The cost is that of all items together, however unequal the arrays are.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array, new_null_array};
use arrow::compute::{interleave, take, take_arrays};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaParametersProgress, ValueOrLambda, Volatility,
};

/// The function `array_fold`; null for a null array, the start value for an empty one. The lambda
/// has the type of the start value.
pub fn array_fold() -> Arc<HigherOrderUDF> {
    static FOLD: LazyLock<Arc<HigherOrderUDF>> = LazyLock::new(|| {
        let args =
            vec![ValueOrLambda::Value(()), ValueOrLambda::Value(()), ValueOrLambda::Lambda(())];
        let signature = HigherOrderSignature::exact(args, Volatility::Immutable);
        Arc::new(HigherOrderUDF::new_from_impl(ArrayFold { signature }))
    });
    Arc::clone(&FOLD)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayFold {
    signature: HigherOrderSignature,
}

impl HigherOrderUDFImpl for ArrayFold {
    fn name(&self) -> &str {
        "array_fold"
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let [ValueOrLambda::Value(list), ValueOrLambda::Value(start), _] = fields else {
            return plan_err!("array_fold takes an array, a start value and a lambda");
        };
        let DataType::List(item) = list.data_type() else {
            return plan_err!("array_fold takes an array, not {}", list.data_type());
        };
        let total = Arc::new(Field::new("total", start.data_type().clone(), true));
        Ok(LambdaParametersProgress::Complete(vec![vec![total, Arc::clone(item)]]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let [_, ValueOrLambda::Value(start), ValueOrLambda::Lambda(result)] = args.arg_fields
        else {
            return plan_err!("array_fold takes an array, a start value and a lambda");
        };
        if start.data_type() != result.data_type() {
            return plan_err!(
                "the lambda of array_fold gives {}, its start value is {}",
                result.data_type(),
                start.data_type()
            );
        }
        Ok(Arc::new(Field::new("", start.data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let [
            ValueOrLambda::Value(list),
            ValueOrLambda::Value(start),
            ValueOrLambda::Lambda(lambda),
        ] = args.args.as_slice()
        else {
            return exec_err!("array_fold takes an array, a start value and a lambda");
        };
        let (list, start) = (list.to_array(args.number_rows)?, start.to_array(args.number_rows)?);
        let list = list.as_list::<i32>();
        let offsets = list.value_offsets();
        let length = |row: usize| (offsets[row + 1] - offsets[row]) as usize;
        // Totals of rows that are done stay where they were computed: (array, place).
        let nothing = new_null_array(start.data_type(), 1);
        let mut totals: Vec<ArrayRef> = vec![nothing];
        let mut results = vec![(0, 0); list.len()];
        let mut active: Vec<usize> = (0..list.len()).filter(|r| list.is_valid(*r)).collect();
        let rows =
            |active: &[usize]| UInt64Array::from_iter_values(active.iter().map(|r| *r as u64));
        let mut current = take(&start, &rows(&active), None)?;
        for step in 0.. {
            if active.is_empty() {
                break;
            }
            let (mut going, mut kept) = (Vec::new(), Vec::new());
            for (place, row) in active.iter().copied().enumerate() {
                if length(row) > step {
                    going.push(row);
                    kept.push(place as u64);
                } else {
                    results[row] = (totals.len(), place);
                }
            }
            if going.len() < active.len() {
                totals.push(Arc::clone(&current));
            }
            active = going;
            let total = take(&current, &UInt64Array::from(kept), None)?;
            let items = active.iter().map(|r| (offsets[*r] as usize + step) as u64);
            let items = take(list.values(), &UInt64Array::from_iter_values(items), None)?;
            let next = lambda
                .evaluate(&[&|| Ok(Arc::clone(&total)), &|| Ok(Arc::clone(&items))], |captured| {
                    Ok(take_arrays(captured, &rows(&active), None)?)
                })?
                .into_array(active.len())?;
            current = next;
        }
        let totals: Vec<&dyn Array> = totals.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(interleave(&totals, &results)?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray, RecordBatch};
    use arrow::datatypes::{Int64Type, Schema};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::execution_props::ExecutionProps;
    use datafusion::logical_expr::expr::{HigherOrderFunction, Lambda, LambdaVariable};
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::physical_expr::create_physical_expr;

    use super::*;

    #[test]
    fn arrays_of_unequal_length_are_folded_with_the_columns_of_their_row() {
        let rows: Vec<Option<Vec<Option<i64>>>> = vec![
            Some(vec![Some(1), Some(2), Some(3)]),
            None,
            Some(vec![]),
            Some(vec![Some(5)]),
            Some(vec![Some(1), None, Some(4)]),
        ];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows));
        let k: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 10, 10, 100]));
        let schema = Schema::new(vec![
            Field::new("xs", list.data_type().clone(), true),
            Field::new("k", DataType::Int64, true),
        ]);
        let df_schema = DFSchema::try_from(schema.clone()).unwrap();
        let variable = |name: &str| Expr::LambdaVariable(LambdaVariable::new(name.into(), None));
        // total * 10 + item + k
        let body = variable("t") * lit(10i64) + variable("x") + col("k");
        let lambda = Expr::Lambda(Lambda::new(vec!["t".into(), "x".into()], body));
        let args = vec![col("xs"), lit(0i64), lambda];
        let fold = Expr::HigherOrderFunction(HigherOrderFunction::new(array_fold(), args));
        let fold = fold.resolve_lambda_variables(&df_schema).unwrap().data;
        let fold =
            create_physical_expr(&fold, &df_schema, &ExecutionProps::new(), &Default::default());
        let batch = RecordBatch::try_new(Arc::new(schema), vec![list, k]).unwrap();
        let got = fold.unwrap().evaluate(&batch).unwrap().into_array(5).unwrap();
        let expected = vec![Some(234), None, Some(0), Some(15), None];
        assert_eq!(got.as_primitive::<Int64Type>(), &Int64Array::from(expected));
    }
}
