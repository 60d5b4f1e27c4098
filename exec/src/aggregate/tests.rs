//! Aggregates against their definitions, computed the plain way.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::record_batch::RecordBatch;
use auspex_plan::OnError;
use auspex_storage::Run;
use datafusion::common::DFSchema;
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, sum};
use datafusion::logical_expr::{Expr, col};

use super::*;
use crate::testing;

fn compile(exprs: &[Expr], rows: &RecordBatch) -> Aggregates {
    let schema = DFSchema::try_from(rows.schema().as_ref().clone()).unwrap();
    Aggregates::compile(exprs, &schema).unwrap()
}

const PLACES: Places<'static> = Places { time: &Run::Sequence(0), ordinal: 0 };

#[test]
fn totals_and_extremes_of_two_groups() {
    let rows = testing::rows("x 1 0 1.5\n y 2 1 2.5\n x 3 2 -\n y - 4 -1\n");
    let exprs = [
        sum(col("a")),
        avg(col("a")),
        count(col("a")),
        min(col("v")),
        max(col("v")),
        sum(col("v")),
        max(col("k")),
    ];
    let aggregates = compile(&exprs, &rows);
    let mut set = aggregates.set();
    set.resize(3);
    set.update(&[0, 1, 0, 1], &aggregates.evaluate(&rows).unwrap(), &PLACES).unwrap();
    let fields = aggregates.fields();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let result = RecordBatch::try_new(schema, set.evaluate(&[1, 0]).unwrap()).unwrap();
    assert_eq!(testing::text(&result), ["2 2.0 1 -1.0 2.5 1.5 y", "4 2.0 2 1.5 1.5 1.5 x"]);
}

#[test]
fn a_sum_out_of_range_is_an_error_of_its_result() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1, 5, 1, -1]));
    let rows = RecordBatch::try_from_iter([("a", column)]).unwrap();
    let aggregates = compile(&[sum(col("a")), count(col("a"))], &rows);
    let mut set = aggregates.set();
    set.resize(2);
    let arguments = aggregates.evaluate(&rows).unwrap();
    set.update(&[0, 0, 1, 0, 0], &arguments, &PLACES).unwrap();
    let results = set.results(&[0, 1], OnError::DeadLetter).unwrap();
    assert_eq!(results.failed, [(0, "value out of range in sum(a)".to_string())]);
    assert_eq!(results.kept, Some(vec![1]));
    assert_eq!(results.columns[0].as_ref(), &Int64Array::from(vec![5]));
    let results = set.results(&[0, 1], OnError::Null).unwrap();
    assert_eq!(results.columns[0].as_ref(), &Int64Array::from(vec![None, Some(5)]));
    assert_eq!(
        (results.columns[1].as_ref(), results.nulled),
        (&Int64Array::from(vec![4, 1]) as _, 1)
    );
    // What takes the sum back into its range makes it known again.
    let back: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
    let rows = RecordBatch::try_from_iter([("a", back)]).unwrap();
    set.update(&[0], &aggregates.evaluate(&rows).unwrap(), &PLACES).unwrap();
    assert_eq!(set.evaluate(&[0]).unwrap()[0].as_ref(), &Int64Array::from(vec![i64::MAX]));
}

#[test]
fn nan_is_the_greatest_number() {
    let column: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0, f64::INFINITY]));
    let rows = RecordBatch::try_from_iter([("v", column)]).unwrap();
    let aggregates = compile(&[min(col("v")), max(col("v"))], &rows);
    let mut set = aggregates.set();
    set.resize(1);
    set.update(&[0; 3], &aggregates.evaluate(&rows).unwrap(), &PLACES).unwrap();
    let result = set.evaluate(&[0]).unwrap();
    assert_eq!(result[0].as_ref(), &Float64Array::from(vec![1.0]));
    assert!(result[1].as_primitive::<arrow::datatypes::Float64Type>().value(0).is_nan());
}
