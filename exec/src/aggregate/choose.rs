//! Which state serves which function.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};

use crate::error::{ExecError, Result};

use super::collected::Collected;
use super::compile::Make;
use super::distinct::Distinct;
use super::extremes::extremes;
use super::figure::Moment;
use super::foreign::{Factory, Foreign};
use super::logical::Truths;
use super::moments::{Pairs, Spread};
use super::outermost::Outermost;
use super::sample::Sample;
use super::slots::{Kind, Slots};
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

/// A call whose state is being chosen.
struct Chooser<'a> {
    call: &'a AggregateFunction,
    /// Of the result.
    field: &'a FieldRef,
    schema: &'a DFSchema,
    text: &'a str,
    types: Vec<DataType>,
}

/// Chooses by the function's name and the types of its arguments.
pub(super) fn choose(
    call: &AggregateFunction,
    field: &FieldRef,
    schema: &DFSchema,
    text: &str,
) -> Result<Choice> {
    let types = call.params.args.iter().map(|arg| Ok(arg.get_type(schema)?));
    let types = types.collect::<Result<Vec<_>>>()?;
    let chooser = Chooser { call, field, schema, text, types };
    // The extremes of distinct values are those of all.
    let all = matches!(call.func.name(), "min" | "max" | "bool_and" | "bool_or");
    match (call.func.name() == "count_distinct" || call.params.distinct) && !all {
        true => chooser.distinct(),
        false => chooser.plain(),
    }
}

impl Chooser<'_> {
    fn plain(&self) -> Result<Choice> {
        let name = self.call.func.name();
        if let Some(moment) = moment(name) {
            return Ok(self.moment(moment));
        }
        Ok(match name {
            "count" | "count_distinct" => self.count(),
            "sum" if self.has_totals() => self.totals(Figure::Sum),
            "avg" if self.has_totals() => self.totals(Figure::Avg),
            "min" => self.extremes(Figure::Min)?,
            "max" => self.extremes(Figure::Max)?,
            "bool_and" => self.choice("truths", Figure::All, || slots(Truths)),
            "bool_or" => self.choice("truths", Figure::Any, || slots(Truths)),
            "median" => self.sample(0.5),
            "percentile" | "percentile_cont" => self.percentile()?,
            "first_value" => self.outermost(false)?,
            "last_value" => self.outermost(true)?,
            "array_agg" | "collect" => self.collected(1, self.ignores_nulls(), Figure::List)?,
            "string_agg" => self.collected(2, true, Figure::Text)?,
            "nth_value" => {
                let figure = Figure::Nth(self.positive(1)?);
                self.collected(1, self.ignores_nulls(), figure)?
            }
            "ema" => {
                let figure = Figure::Ema(self.positive(1)?);
                let mut choice = self.collected(1, true, figure)?;
                choice.args[0] = self.float(0);
                choice
            }
            _ => self.foreign()?,
        })
    }

    fn choice(
        &self,
        kind: &str,
        figure: Figure,
        make: impl Fn() -> Box<dyn Accumulator> + Send + Sync + 'static,
    ) -> Choice {
        let args = self.call.params.args.clone();
        Choice { kind: kind.to_string(), args, make: Arc::new(make), figure }
    }

    fn unsupported(&self, why: &str) -> ExecError {
        ExecError::Unsupported(format!("the aggregate {}{why}", self.text))
    }

    fn ignores_nulls(&self) -> bool {
        self.call.params.null_treatment == Some(NullTreatment::IgnoreNulls)
    }

    /// An argument as a float.
    fn float(&self, arg: usize) -> Expr {
        let expr = self.call.params.args[arg].clone();
        match self.types.get(arg) {
            Some(DataType::Float64) => expr,
            _ => cast(expr, DataType::Float64),
        }
    }

    /// Whether sum and mean of the first argument are computed here.
    fn has_totals(&self) -> bool {
        let result = self.field.data_type();
        matches!(
            result,
            DataType::Int64 | DataType::UInt64 | DataType::Float64 | DataType::Decimal128(..)
        ) && self.types.first().is_some_and(|t| totals(t).is_some())
    }

    fn totals(&self, figure: Figure) -> Choice {
        let data_type = self.types[0].clone();
        self.choice("totals", figure, move || totals(&data_type).expect("has_totals says so"))
    }

    fn count(&self) -> Choice {
        let args = &self.call.params.args;
        let constant = |arg: &Expr| matches!(arg, Expr::Literal(value, _) if !value.is_null());
        // It is in the state of the sum and the mean.
        if let [data_type] = self.types.as_slice()
            && totals(data_type).is_some()
            && !matches!(args[0], Expr::Literal(..))
        {
            return self.totals(Figure::Count);
        }
        let mut choice = self.choice("count", Figure::Count, || slots(Count));
        choice.args.retain(|arg| !constant(arg));
        choice
    }

    fn extremes(&self, figure: Figure) -> Result<Choice> {
        let data_type = self.types.first().cloned().unwrap_or(DataType::Null);
        extremes(&data_type)?;
        Ok(self.choice("extremes", figure, move || extremes(&data_type).expect("made before")))
    }

    fn moment(&self, moment: Moment) -> Choice {
        let figure = Figure::Moment(moment);
        let mut choice = match self.types.len() {
            1 => self.choice("spread", figure, || slots(Spread)),
            _ => self.choice("pairs", figure, || slots(Pairs)),
        };
        choice.args = (0..self.types.len()).map(|arg| self.float(arg)).collect();
        choice
    }

    fn sample(&self, share: f64) -> Choice {
        let mut choice = self.choice("sample", Figure::Percentile(share), || slots(Sample));
        choice.args = vec![self.float(0)];
        choice
    }

    fn percentile(&self) -> Result<Choice> {
        let ScalarValue::Float64(Some(share)) = self.constant(1, &DataType::Float64)? else {
            return Err(self.unsupported(", whose share is not a constant,"));
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(self.unsupported(", whose share is not from 0 to 1,"));
        }
        // Of `WITHIN GROUP (ORDER BY x DESC)`.
        let descending = self.call.params.order_by.first().is_some_and(|sort| !sort.asc);
        Ok(self.sample(if descending { 1.0 - share } else { share }))
    }

    /// The value of a constant argument; null when it is none.
    fn constant(&self, arg: usize, data_type: &DataType) -> Result<ScalarValue> {
        let mut expr = self.call.params.args.get(arg);
        // The types of arguments have been made to fit.
        while let Some(Expr::Cast(cast)) = expr {
            expr = Some(&cast.expr);
        }
        match expr {
            Some(Expr::Literal(value, _)) => Ok(value.cast_to(data_type)?),
            _ => Ok(ScalarValue::Null),
        }
    }

    /// A constant argument that is a whole number above 0.
    fn positive(&self, arg: usize) -> Result<u64> {
        match self.constant(arg, &DataType::Int64)? {
            ScalarValue::Int64(Some(n)) if n > 0 => Ok(n as u64),
            _ => Err(self.unsupported(", whose number of rows is not a constant above 0,")),
        }
    }

    fn outermost(&self, last: bool) -> Result<Choice> {
        let (ignore_nulls, order) = (self.ignores_nulls(), self.orders()?);
        let values = vec![SortField::new(self.types[0].clone())];
        self.convertible(&values)?;
        let kind = format!("outermost {last} {ignore_nulls} {:?}", order);
        let mut choice = self.choice(&kind, Figure::Value, move || {
            let (values, orders) = (converter(&values), order.as_deref().map(converter));
            slots(Outermost { values, orders, last, ignore_nulls })
        });
        choice.args.truncate(1);
        choice.args.extend(self.order_exprs());
        Ok(choice)
    }

    fn collected(&self, width: usize, ignore_nulls: bool, figure: Figure) -> Result<Choice> {
        let order = self.orders()?;
        let mut types = self.types[..width].to_vec();
        if matches!(figure, Figure::Ema(_)) {
            types = vec![DataType::Float64];
        }
        let values: Vec<_> = types.into_iter().map(SortField::new).collect();
        self.convertible(&values)?;
        let kind = format!("collected {ignore_nulls} {order:?}");
        let mut choice = self.choice(&kind, figure, move || {
            let (values, orders) = (converter(&values), order.as_deref().map(converter));
            slots(Collected { values, width, orders, ignore_nulls })
        });
        choice.args.truncate(width);
        choice.args.extend(self.order_exprs());
        Ok(choice)
    }

    fn order_exprs(&self) -> impl Iterator<Item = Expr> + '_ {
        self.call.params.order_by.iter().map(|sort| sort.expr.clone())
    }

    /// Columns of ORDER BY, `None` without it.
    fn orders(&self) -> Result<Option<Vec<SortField>>> {
        let field = |sort: &Sort| -> Result<SortField> {
            let options = SortOptions::new(!sort.asc, sort.nulls_first);
            Ok(SortField::new_with_options(sort.expr.get_type(self.schema)?, options))
        };
        let fields = self.call.params.order_by.iter().map(field).collect::<Result<Vec<_>>>()?;
        self.convertible(&fields)?;
        Ok((!fields.is_empty()).then_some(fields))
    }

    fn convertible(&self, fields: &[SortField]) -> Result<()> {
        match RowConverter::supports_fields(fields) {
            true => Ok(()),
            false => Err(self.unsupported(" of values of this type")),
        }
    }

    /// The aggregate over the set of distinct arguments.
    fn distinct(&self) -> Result<Choice> {
        let own = self.plain()?;
        let mut args: Vec<Expr> = Vec::new();
        let number = self.call.params.args.len();
        let mut passed = Vec::new();
        for (at, arg) in own.args.into_iter().enumerate() {
            let known = args.iter().position(|known| *known == arg);
            if known.is_none() && at >= number {
                let why =
                    ", which is ordered by what is not an argument of it although it is DISTINCT,";
                return Err(self.unsupported(why));
            }
            passed.push(known.unwrap_or(args.len()));
            if known.is_none() {
                args.push(arg);
            }
        }
        let types = args.iter().map(|arg| Ok(arg.get_type(self.schema)?));
        let types = types.collect::<Result<Vec<_>>>()?;
        let fields: Vec<_> = types.iter().cloned().map(SortField::new).collect();
        self.convertible(&fields)?;
        let keeps_nulls = ["array_agg", "collect", "first_value", "last_value", "nth_value"];
        let ignore_nulls = !keeps_nulls.contains(&self.call.func.name()) || self.ignores_nulls();
        let (kind, aggregate) = (format!("distinct for {}", own.kind), own.make);
        let make = move || {
            slots(Distinct {
                converter: converter(&fields),
                types: types.clone(),
                ignore_nulls,
                passed: passed.clone(),
                aggregate: Arc::clone(&aggregate),
            })
        };
        Ok(Choice { kind, args, make: Arc::new(make), figure: own.figure })
    }

    fn foreign(&self) -> Result<Choice> {
        let params = &self.call.params;
        if !params.order_by.is_empty() && !self.call.func.supports_within_group_clause() {
            return Err(self.unsupported(" with ORDER BY"));
        }
        if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
            return Err(self.unsupported(" with IGNORE NULLS"));
        }
        let factory = Factory::new(self.call, &self.types, self.field, self.text)?;
        let factory = Arc::new(factory);
        let constants: Vec<_> =
            params.args.iter().filter(|arg| matches!(arg, Expr::Literal(..))).collect();
        let kind = format!("{} {constants:?} {:?}", self.call.func.name(), params.order_by);
        Ok(self.choice(&kind, Figure::Foreign, move || {
            slots(Foreign::new(Arc::clone(&factory)).expect("the factory has been tried"))
        }))
    }
}

fn slots<K: Kind>(kind: K) -> Box<dyn Accumulator> {
    Box::new(Slots::new(kind))
}

fn converter(fields: &[SortField]) -> RowConverter {
    RowConverter::new(fields.to_vec()).expect("these fields are supported")
}

fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "var" => Moment::VarSamp,
        "var_pop" => Moment::VarPop,
        "stddev" => Moment::StddevSamp,
        "stddev_pop" => Moment::StddevPop,
        "corr" => Moment::Corr,
        "covar_samp" => Moment::CovarSamp,
        "covar_pop" => Moment::CovarPop,
        "regr_slope" => Moment::Slope,
        "regr_intercept" => Moment::Intercept,
        "regr_r2" => Moment::R2,
        "regr_count" => Moment::Pairs,
        "regr_avgx" => Moment::AvgX,
        "regr_avgy" => Moment::AvgY,
        "regr_sxx" => Moment::Sxx,
        "regr_syy" => Moment::Syy,
        "regr_sxy" => Moment::Sxy,
        _ => return None,
    })
}
