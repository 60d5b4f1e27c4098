//! Aggregate functions that DataFusion lacks or defines otherwise, and names of PostgreSQL and VPL
//! for those it has.
//!
//! Here they are computed for an ordinary SELECT, which has no event time: what goes by order goes by
//! `ORDER BY` in the call, else by the order of the input. Continuous queries know these functions
//! by name and compute them in their own way, with the same results.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::{
    approx_distinct, array_agg, bool_and_or, count, first_last, variance,
};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Literal;

static ALL: LazyLock<Vec<Arc<AggregateUDF>>> = LazyLock::new(|| {
    let also = |udf: Arc<AggregateUDF>, names: &[&'static str]| {
        Arc::new(udf.as_ref().clone().with_aliases(names.iter().copied()))
    };
    vec![
        also(first_last::first_value_udaf(), &["first"]),
        also(first_last::last_value_udaf(), &["last"]),
        also(variance::var_samp_udaf(), &["variance"]),
        also(approx_distinct::approx_distinct_udaf(), &["approx_count_distinct"]),
        also(bool_and_or::bool_and_udaf(), &["every"]),
        Arc::new(AggregateUDF::new_from_impl(CountDistinct {
            signature: Signature::any(1, Volatility::Immutable),
        })),
        Arc::new(AggregateUDF::new_from_impl(Collect {
            signature: Signature::any(1, Volatility::Immutable),
        })),
        ordered_floats("median", "", |values, _| percentile(values, 0.5)),
        ordered_floats("percentile", "a share from 0 to 1", percentile),
        ordered_floats("ema", "a number of rows above 0", moving_average),
    ]
});

/// Our aggregate functions, to be registered over DataFusion's under their names and aliases.
pub fn all_aggregates() -> Vec<Arc<AggregateUDF>> {
    ALL.clone()
}

/// Our aggregate function of this name or alias.
pub fn aggregate(name: &str) -> Option<Arc<AggregateUDF>> {
    let named = |f: &&Arc<AggregateUDF>| f.name() == name || f.aliases().iter().any(|a| a == name);
    ALL.iter().find(named).map(Arc::clone)
}

/// `ema(x, n)`, see [`moving_average`]; nulls are skipped, `n` is a constant above 0.
pub fn ema() -> Arc<AggregateUDF> {
    aggregate("ema").expect("it is in the list")
}

/// NaN is greater than all numbers and equal to itself.
fn order(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The value at `share` (0 to 1) of the way from the smallest to the greatest, interpolated
/// linearly between neighbours; `None` of nothing. NaN is the greatest number.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = share * last as f64;
    let below = (place.floor() as usize).min(last);
    let part = place - below as f64;
    let mut values = values.to_vec();
    let (_, low, above) = values.select_nth_unstable_by(below, order);
    let low = *low;
    let high = above.iter().copied().min_by(order).unwrap_or(low);
    Some(if part == 0.0 || low == high { low } else { low + part * (high - low) })
}

/// The exponential moving average: x0, then x·k + e·(1 - k) with k = 2 / (n + 1); `None` of nothing.
pub fn moving_average(values: &[f64], n: f64) -> Option<f64> {
    let k = 2.0 / (n + 1.0);
    values.iter().copied().reduce(|average, x| x * k + average * (1.0 - k))
}

/// A function of all values of a column of floats and perhaps a constant.
#[derive(Debug)]
struct OfFloats {
    name: &'static str,
    /// What the constant is, for messages; empty when there is none.
    constant: &'static str,
    signature: Signature,
    compute: fn(&[f64], f64) -> Option<f64>,
}

fn ordered_floats(
    name: &'static str,
    constant: &'static str,
    compute: fn(&[f64], f64) -> Option<f64>,
) -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(OfFloats { name, constant, signature, compute }))
}

// The name identifies the function.
impl PartialEq for OfFloats {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for OfFloats {}

impl Hash for OfFloats {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AggregateUDFImpl for OfFloats {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let number = 1 + usize::from(!self.constant.is_empty());
        if arg_types.len() != number {
            let name = self.name;
            return plan_err!("{name} takes {number} arguments, not {}", arg_types.len());
        }
        if let Some(other) = arg_types.iter().find(|t| !(t.is_numeric() || t.is_null())) {
            return plan_err!("{} takes numbers, not {other}", self.name);
        }
        // A cast would hide that the constant is one.
        let constant = arg_types.get(1).cloned();
        Ok(std::iter::once(DataType::Float64).chain(constant).collect())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |part, item| {
            let item = Field::new_list_field(item, true);
            Arc::new(Field::new_list(format_state_name(args.name, part), item, true))
        };
        Ok(vec![list("values", DataType::Float64), list("places", DataType::Binary)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut constant = 0.0;
        if !self.constant.is_empty() {
            let literal = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>());
            let value = literal.map(|literal| literal.value().cast_to(&DataType::Float64));
            constant = match value.transpose()? {
                Some(ScalarValue::Float64(Some(v))) if self.takes(v) => v,
                _ => return plan_err!("{} takes {}, a constant", self.name, self.constant),
            };
        }
        let order = |sort: &PhysicalSortExpr| {
            let data_type = sort.expr.data_type(args.schema)?;
            Ok(SortField::new_with_options(data_type, sort.options))
        };
        let orders = args.order_bys.iter().map(order).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Floats {
            values: Vec::new(),
            places: Vec::new(),
            order_width: orders.len(),
            orders: if orders.is_empty() { None } else { Some(RowConverter::new(orders)?) },
            compute: self.compute,
            constant,
            distinct: args.is_distinct,
        }))
    }

    // The accumulator sorts.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::SoftRequirement
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _ordered: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }
}

impl OfFloats {
    fn takes(&self, constant: f64) -> bool {
        match self.name {
            "percentile" => (0.0..=1.0).contains(&constant),
            _ => constant >= 1.0 && constant.fract() == 0.0,
        }
    }
}

/// Keeps the values that are not null.
#[derive(Debug)]
struct Floats {
    values: Vec<f64>,
    /// Of each value, when there is an order.
    places: Vec<Box<[u8]>>,
    /// The order of the call's ORDER BY.
    orders: Option<RowConverter>,
    /// Number of its columns.
    order_width: usize,
    compute: fn(&[f64], f64) -> Option<f64>,
    constant: f64,
    distinct: bool,
}

impl Floats {
    /// The values in order, each once when only distinct ones count.
    fn in_order(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        if self.orders.is_some() {
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by_key(|at| &self.places[*at]);
            values = order.into_iter().map(|at| values[at]).collect();
        }
        if self.distinct {
            let mut seen = HashSet::new();
            let bits = |v: &f64| if v.is_nan() { f64::NAN } else { v + 0.0 }.to_bits();
            values.retain(|value| seen.insert(bits(value)));
        }
        values
    }
}

impl Accumulator for Floats {
    // The columns of the order come behind the arguments.
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let numbers = cast(&values[0], &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        self.values.extend(numbers.iter().flatten());
        if let Some(orders) = &self.orders {
            let places = orders.convert_columns(&values[values.len() - self.order_width..])?;
            let valid = (0..numbers.len()).filter(|row| numbers.is_valid(*row));
            self.places.extend(valid.map(|row| Box::from(places.row(row).data())));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.compute)(&self.in_order(), self.constant)))
    }

    fn size(&self) -> usize {
        let places: usize = self.places.iter().map(|p| p.len() + size_of::<Box<[u8]>>()).sum();
        size_of_val(self) + self.values.capacity() * size_of::<f64>() + places
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: ArrayRef = Arc::new(Float64Array::from(self.values.clone()));
        let places: ArrayRef =
            Arc::new(BinaryArray::from_iter_values(self.places.iter().map(AsRef::as_ref)));
        let list = |items: ArrayRef| -> Result<ScalarValue> {
            let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths([items.len()]);
            Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, items, None)?)))
        };
        Ok(vec![list(values)?, list(places)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states[0].as_list::<i32>().iter().flatten() {
            self.values.extend(values.as_primitive::<Float64Type>().values());
        }
        for places in states[1].as_list::<i32>().iter().flatten() {
            self.places.extend(places.as_binary::<i32>().iter().flatten().map(Box::from));
        }
        Ok(())
    }
}

/// `count(DISTINCT x)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CountDistinct {
    signature: Signature,
}

impl AggregateUDFImpl for CountDistinct {
    fn name(&self) -> &str {
        "count_distinct"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _data_type: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        count::count_udaf().state_fields(StateFieldsArgs { is_distinct: true, ..args })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        count::count_udaf().accumulator(AccumulatorArgs { is_distinct: true, ..args })
    }
}

/// `array_agg` with an empty array over no rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Collect {
    signature: Signature,
}

impl AggregateUDFImpl for Collect {
    fn name(&self) -> &str {
        "collect"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        array_agg::array_agg_udaf().return_type(arg_types)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match data_type {
            DataType::List(field) => {
                Ok(ScalarValue::List(ScalarValue::new_list(&[], field.data_type(), true)))
            }
            other => plan_err!("collect gives an array, not {other}"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        array_agg::array_agg_udaf().state_fields(args)
    }

    fn supports_null_handling_clause(&self) -> bool {
        true
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::SoftRequirement
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _ordered: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let empty = self.default_value(args.return_type())?;
        let list = array_agg::array_agg_udaf().accumulator(args)?;
        Ok(Box::new(NeverNull { list, empty }))
    }
}

/// An accumulator with another value in the place of null.
#[derive(Debug)]
struct NeverNull {
    list: Box<dyn Accumulator>,
    empty: ScalarValue,
}

impl Accumulator for NeverNull {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.list.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = self.list.evaluate()?;
        Ok(if list.is_null() { self.empty.clone() } else { list })
    }

    fn size(&self) -> usize {
        self.list.size() + self.empty.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.list.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.list.merge_batch(states)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn percentiles_lie_between_neighbours() {
        let values = [50.0, 10.0, 40.0, 20.0, 30.0];
        let of = |share| percentile(&values, share);
        assert_eq!([of(0.0), of(0.25), of(0.5)], [Some(10.0), Some(20.0), Some(30.0)]);
        assert_eq!([of(0.9), of(1.0)], [Some(46.0), Some(50.0)]);
        assert_eq!(percentile(&[1.0, 4.0], 0.9), Some(3.7));
        assert_eq!(percentile(&[], 0.5), None);
        let most = [f64::INFINITY, f64::INFINITY, f64::NAN];
        assert_eq!(percentile(&most, 0.25), Some(f64::INFINITY));
    }

    #[test]
    fn the_moving_average_starts_with_the_first_value() {
        let values = [10.0, 20.0, 40.0, 20.0];
        assert_eq!(moving_average(&values, 3.0), Some(23.75));
        assert_eq!(moving_average(&values, 7.0), Some(19.53125));
        assert_eq!(moving_average(&values, 1.0), Some(20.0));
        assert_eq!(moving_average(&[], 3.0), None);
    }

    /// The only row of a query, its values as text.
    fn select(sql: &str) -> Result<Vec<String>, String> {
        let context = SessionContext::new();
        for udf in all_aggregates() {
            context.register_udaf(udf.as_ref().clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches = runtime
            .block_on(async { context.sql(sql).await?.collect().await })
            .map_err(|error| error.strip_backtrace())?;
        let [row] = batches.as_slice() else { return Err(format!("{} batches", batches.len())) };
        let value =
            |column: &ArrayRef| arrow::util::display::array_value_to_string(column, 0).unwrap();
        Ok(row.columns().iter().map(value).collect())
    }

    #[test]
    fn an_ordinary_select_has_them() {
        let all = select(
            "SELECT first(x), last(x), count_distinct(x), collect(x), median(x), percentile(x, 0.75),
                    ema(x, 3), variance(x), every(x > 0), approx_count_distinct(x), median(DISTINCT x)
             FROM (VALUES (1), (4), (NULL), (1)) t(x)",
        );
        let values =
            ["1", "1", "2", "[1, 4, , 1]", "1.0", "2.5", "1.75", "3.0", "true", "2", "2.5"];
        assert_eq!(all.unwrap(), values);
        let none = select(
            "SELECT first(x), count_distinct(x), collect(x), median(x), ema(x, 3)
             FROM (VALUES (1)) t(x) WHERE x > 1",
        );
        assert_eq!(none.unwrap(), ["", "0", "[]", "", ""]);
        let ordered = "SELECT ema(x, 3 ORDER BY y), collect(x ORDER BY y DESC), first(x ORDER BY y)
             FROM (VALUES (1, 2), (4, 3), (3, 1)) t(x, y)";
        assert_eq!(select(ordered).unwrap(), ["3.0", "[4, 1, 3]", "3"]);
    }

    #[test]
    fn the_constant_is_checked() {
        for call in ["percentile(x, 1.5)", "percentile(x, x)", "ema(x, 0)", "ema(x, 1.5)"] {
            let error = select(&format!("SELECT {call} FROM (VALUES (1)) t(x)")).unwrap_err();
            assert!(error.contains("a constant"), "{call}: {error}");
        }
        assert!(select("SELECT median('a')").unwrap_err().contains("median takes numbers"));
    }
}
