//! Totals over the items of one array: sum, average, least and greatest. Null items do not count;
//! without items the sum is 0 and the others are null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, ListArray, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err, plan_err};

use super::FunctionDef;
use super::define::{arity, function, item_type};

pub(super) fn definitions() -> Vec<FunctionDef> {
    vec![
        FunctionDef {
            sql_names: &["items_sum"],
            vpl_names: &["sum"],
            summary: "items_sum(array): sum of the items; overflow is an error",
            udf: function("items_sum", numeric, |t| item_type("items_sum", &t[0]), sum),
        },
        FunctionDef {
            sql_names: &["items_avg"],
            vpl_names: &["avg"],
            summary: "items_avg(array): mean of the items, null without items",
            udf: function("items_avg", numeric, |_| Ok(DataType::Float64), average),
        },
        FunctionDef {
            sql_names: &["items_min"],
            vpl_names: &["min"],
            summary: "items_min(array): least item, null without items",
            udf: function("items_min", list, |t| item_type("items_min", &t[0]), least),
        },
        FunctionDef {
            sql_names: &["items_max"],
            vpl_names: &["max"],
            summary: "items_max(array): greatest item, null without items",
            udf: function("items_max", list, |t| item_type("items_max", &t[0]), greatest),
        },
    ]
}

fn list(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 1)?;
    item_type("the function", &types[0])?;
    Ok(types.to_vec())
}

fn numeric(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 1)?;
    match item_type("the function", &types[0])? {
        DataType::Int64 | DataType::Float64 => Ok(types.to_vec()),
        other => plan_err!("the function takes an array of bigint or double, not of {other}"),
    }
}

/// The non-null items of row `i`.
fn row<T: ArrowPrimitiveType>(list: &ListArray, i: usize) -> impl Iterator<Item = T::Native> {
    let values = list.values().as_primitive::<T>();
    let offsets = list.value_offsets();
    (offsets[i] as usize..offsets[i + 1] as usize)
        .filter(|p| values.is_valid(*p))
        .map(|p| values.value(p))
}

/// Rows that are not null, each with its number.
fn rows<'a, T: 'a>(
    list: &'a ListArray,
    mut each: impl FnMut(usize) -> Result<Option<T>> + 'a,
) -> impl Iterator<Item = Result<Option<T>>> + 'a {
    (0..list.len()).map(move |i| if list.is_null(i) { Ok(None) } else { each(i) })
}

fn sum(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    match list.value_type() {
        DataType::Int64 => {
            let sums = rows(list, |i| {
                let total = row::<Int64Type>(list, i).try_fold(0i64, |a, b| a.checked_add(b));
                total.map(Some).ok_or_else(|| overflow("items_sum").into())
            });
            Ok(Arc::new(sums.collect::<Result<Int64Array>>()?))
        }
        DataType::Float64 => {
            let sums = rows(list, |i| Ok(Some(row::<Float64Type>(list, i).sum::<f64>())));
            Ok(Arc::new(sums.collect::<Result<Float64Array>>()?))
        }
        other => exec_err!("items_sum over {other}"),
    }
}

fn average(args: &[ArrayRef]) -> Result<ArrayRef> {
    fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
        let (n, total) = values.fold((0u64, 0.0), |(n, total), v| (n + 1, total + v));
        (n > 0).then(|| total / n as f64)
    }
    let list = args[0].as_list::<i32>();
    let means: Float64Array = match list.value_type() {
        DataType::Int64 => rows(list, |i| Ok(mean(row::<Int64Type>(list, i).map(|v| v as f64))))
            .collect::<Result<_>>()?,
        DataType::Float64 => {
            rows(list, |i| Ok(mean(row::<Float64Type>(list, i)))).collect::<Result<_>>()?
        }
        other => return exec_err!("items_avg over {other}"),
    };
    Ok(Arc::new(means))
}

fn least(args: &[ArrayRef]) -> Result<ArrayRef> {
    extreme(args[0].as_list::<i32>(), false)
}

fn greatest(args: &[ArrayRef]) -> Result<ArrayRef> {
    extreme(args[0].as_list::<i32>(), true)
}

fn extreme(list: &ListArray, greatest: bool) -> Result<ArrayRef> {
    let field = SortField::new(list.value_type());
    let keys = RowConverter::new(vec![field])?.convert_columns(&[Arc::clone(list.values())])?;
    let places: UInt64Array = (0..list.len())
        .map(|i| {
            if list.is_null(i) {
                return None;
            }
            let offsets = list.value_offsets();
            let valid = (offsets[i] as usize..offsets[i + 1] as usize)
                .filter(|p| list.values().is_valid(*p));
            let by_key = |a: &usize, b: &usize| keys.row(*a).cmp(&keys.row(*b));
            let place = if greatest { valid.max_by(by_key) } else { valid.min_by(by_key) };
            place.map(|p| p as u64)
        })
        .collect();
    Ok(take(list.values(), &places, None)?)
}

/// The error of a result that a bigint cannot hold.
pub(super) fn overflow(what: &str) -> ArrowError {
    ArrowError::ArithmeticOverflow(format!("{what}: the result does not fit into a bigint"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(rows: Vec<Option<Vec<Option<i64>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows))
    }

    #[test]
    fn nulls_do_not_count_and_no_items_give_no_average() {
        let list =
            ints(vec![Some(vec![Some(3), None, Some(-2)]), Some(vec![]), None, Some(vec![None])]);
        let args = [list];
        let int =
            |values: [Option<i64>; 4]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        assert_eq!(&sum(&args).unwrap(), &int([Some(1), Some(0), None, Some(0)]));
        assert_eq!(&least(&args).unwrap(), &int([Some(-2), None, None, None]));
        assert_eq!(&greatest(&args).unwrap(), &int([Some(3), None, None, None]));
        let mean = average(&args).unwrap();
        let expected = Float64Array::from(vec![Some(0.5), None, None, None]);
        assert_eq!(mean.as_primitive::<Float64Type>(), &expected);
    }

    #[test]
    fn overflow_is_an_error() {
        assert!(sum(&[ints(vec![Some(vec![Some(i64::MAX), Some(1)])])]).is_err());
    }
}
