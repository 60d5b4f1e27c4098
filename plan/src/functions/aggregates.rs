//! The aggregates that DataFusion lacks.
//!
//! Continuous queries know them by name and compute them their own way; what is here serves
//! planning and one-off queries.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};

static EMA: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
    Arc::new(AggregateUDF::new_from_impl(Ema {
        signature: Signature::user_defined(Volatility::Immutable),
    }))
});

/// All aggregates of our own.
pub fn all_aggregates() -> Vec<Arc<AggregateUDF>> {
    vec![ema()]
}

/// `ema(x, n)`, the exponential moving average: e = x0, then e = x·k + e·(1-k) with k = 2/(n+1);
/// nulls are skipped. `n` is a constant above 0.
pub fn ema() -> Arc<AggregateUDF> {
    Arc::clone(&EMA)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ema {
    signature: Signature,
}

impl AggregateUDFImpl for Ema {
    fn name(&self) -> &str {
        "ema"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [x, n] if (x.is_numeric() || x.is_null()) && n.is_integer() => {
                Ok(vec![DataType::Float64, DataType::Int64])
            }
            _ => plan_err!("ema takes a number and a number of rows"),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let n = args.exprs.get(1).and_then(|e| {
            let literal = e.downcast_ref::<datafusion::physical_expr::expressions::Literal>()?;
            match literal.value() {
                ScalarValue::Int64(Some(n)) if *n > 0 => Some(*n),
                _ => None,
            }
        });
        match n {
            Some(n) => Ok(Box::new(Average { k: 2.0 / (n as f64 + 1.0), values: Vec::new() })),
            None => plan_err!("the number of rows of ema is a constant above 0"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let values = DataType::new_list(DataType::Float64, true);
        Ok(vec![Arc::new(Field::new(format!("{}[values]", args.name), values, true))])
    }
}

/// The values in order: parts that were collected apart can only be put together whole.
#[derive(Debug)]
struct Average {
    k: f64,
    values: Vec<f64>,
}

impl Accumulator for Average {
    fn update_batch(&mut self, args: &[ArrayRef]) -> Result<()> {
        let [x, ..] = args else {
            return Err(DataFusionError::Internal("ema without a value".into()));
        };
        self.values.extend(x.as_primitive::<Float64Type>().iter().flatten());
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for part in states.iter().flat_map(|lists| lists.as_list::<i32>().iter().flatten()) {
            self.values.extend(part.as_primitive::<Float64Type>().iter().flatten());
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let average = |e: f64, x: &f64| x * self.k + e * (1.0 - self.k);
        let mut values = self.values.iter();
        let first = values.next().copied();
        Ok(ScalarValue::Float64(first.map(|first| values.fold(first, average))))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> =
            self.values.iter().map(|v| ScalarValue::Float64(Some(*v))).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Float64))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn parts_of_an_average_are_put_together_in_order() {
        let new = || Average { k: 0.5, values: Vec::new() };
        let part = |values: Vec<Option<f64>>| {
            let mut part = new();
            part.update_batch(&[Arc::new(Float64Array::from(values))]).unwrap();
            part.state().unwrap().remove(0).to_array().unwrap()
        };
        let mut whole = new();
        assert_eq!(whole.evaluate().unwrap(), ScalarValue::Float64(None));
        whole.merge_batch(&[part(vec![Some(10.0), None, Some(20.0)])]).unwrap();
        whole.merge_batch(&[part(vec![Some(40.0)])]).unwrap();
        assert_eq!(whole.evaluate().unwrap(), ScalarValue::Float64(Some(27.5)));
    }
}
