//! Window functions of DataFusion's plans.

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, WindowFunction};
use datafusion::logical_expr::{
    Expr, LogicalPlan, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};

use crate::aggregate::Aggregates;
use crate::batch::nullable;
use crate::error::{ExecError, Result};
use crate::expr::{Compiled, compile};
use crate::graph::Source;
use crate::operators::over::{Column, Frame, Over, OverSpec, Pick, Start, ValueOf};

use super::Builder;

impl Builder<'_> {
    /// Window functions over one partitioning and order.
    pub(super) fn add_over(&mut self, window: &Window) -> Result<Source> {
        let input = window.input.as_ref();
        let functions: Vec<&WindowFunction> =
            window.window_expr.iter().map(function).collect::<Result<_>>()?;
        let Some(first) = functions.first() else { return self.add(input) };
        let same = |f: &&WindowFunction| {
            f.params.partition_by == first.params.partition_by
                && f.params.order_by == first.params.order_by
        };
        if !functions.iter().all(same) {
            return Err(ExecError::Unsupported(
                "window functions of different PARTITION BY or ORDER BY in one place".into(),
            ));
        }
        let spec = OverSpec {
            partition: self.compile_all(&first.params.partition_by, input)?,
            order: order(first, input)?,
            columns: Vec::new(),
            values: Vec::new(),
            frames: Vec::new(),
        };
        let mut functions_of = Functions { input, spec, frames: Vec::new() };
        functions.into_iter().try_for_each(|function| functions_of.add(function))?;
        let spec = functions_of.finish()?;
        let before = nullable(input.schema().as_arrow());
        let schema = nullable(window.schema.as_arrow());
        let source = self.add(input)?;
        let operator = Over::new(spec, before, schema, self.on_error)?;
        Ok(self.add_node(Box::new(operator), &[source]))
    }
}

/// Functions of which a spec is made.
struct Functions<'a> {
    input: &'a LogicalPlan,
    spec: OverSpec,
    /// Aggregates of each frame.
    frames: Vec<(Frame, Vec<Expr>)>,
}

impl Functions<'_> {
    fn add(&mut self, function: &WindowFunction) -> Result<()> {
        let params = &function.params;
        let column = match &function.fun {
            WindowFunctionDefinition::AggregateUDF(udf) => {
                let frame = self.frame(&params.window_frame)?;
                let aggregate = Expr::AggregateFunction(AggregateFunction::new_udf(
                    udf.clone(),
                    params.args.clone(),
                    params.distinct,
                    params.filter.clone(),
                    Vec::new(),
                    params.null_treatment,
                ));
                let at = self.frames.iter().position(|(f, _)| *f == frame).unwrap_or_else(|| {
                    self.frames.push((frame, Vec::new()));
                    self.frames.len() - 1
                });
                self.frames[at].1.push(aggregate);
                Column::Aggregate(at, self.frames[at].1.len() - 1)
            }
            WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
                "row_number" => Column::RowNumber,
                "rank" => Column::Rank,
                "dense_rank" => Column::DenseRank,
                name => {
                    let pick = self.pick(name, function)?;
                    let arg = params
                        .args
                        .first()
                        .ok_or_else(|| ExecError::Plan(format!("{name}() without an argument")))?;
                    let arg = compile(arg, self.input.schema())?;
                    self.spec.values.push(ValueOf { arg, pick });
                    Column::Value(self.spec.values.len() - 1)
                }
            },
        };
        self.spec.columns.push(column);
        Ok(())
    }

    /// Which row's value a function gives.
    fn pick(&self, name: &str, function: &WindowFunction) -> Result<Pick> {
        let params = &function.params;
        if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
            return Err(ExecError::Unsupported("IGNORE NULLS".into()));
        }
        if params.distinct || params.filter.is_some() {
            return Err(ExecError::Unsupported(format!("DISTINCT or FILTER with {name}()")));
        }
        let number = |at: usize, missing: i64| match params.args.get(at).map(constant) {
            None => Ok(missing),
            Some(Some(value)) if value.is_null() => Ok(missing),
            Some(Some(value)) => match value.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(Some(number)) => Ok(number),
                _ => Err(ExecError::Plan(format!("an offset of {value} in {name}()"))),
            },
            Some(None) => {
                Err(ExecError::Unsupported(format!("an offset in {name}() that is no constant")))
            }
        };
        Ok(match name {
            "lag" => {
                let rows = u64::try_from(number(1, 1)?).map_err(|_| behind(name))?;
                let default = match params.args.get(2).map(constant) {
                    None => ScalarValue::Null,
                    Some(Some(value)) => value,
                    Some(None) => {
                        let what = "a default in lag() that is no constant";
                        return Err(ExecError::Unsupported(what.into()));
                    }
                };
                Pick::Lag(rows, default)
            }
            "first_value" => Pick::Nth(1, self.frame(&params.window_frame)?),
            "last_value" => Pick::Last(self.frame(&params.window_frame)?),
            "nth_value" => match u64::try_from(number(1, 1)?) {
                Ok(n) if n > 0 => Pick::Nth(n, self.frame(&params.window_frame)?),
                _ => return Err(ExecError::Unsupported("nth_value() of a row below 1".into())),
            },
            _ => return Err(behind(name)),
        })
    }

    fn frame(&self, frame: &WindowFrame) -> Result<Frame> {
        if frame.end_bound != WindowFrameBound::CurrentRow {
            let what = "a frame that does not end at CURRENT ROW";
            return Err(ExecError::Unsupported(what.into()));
        }
        let peers = match frame.units {
            WindowFrameUnits::Rows => false,
            WindowFrameUnits::Range => true,
            WindowFrameUnits::Groups => {
                return Err(ExecError::Unsupported("a frame of GROUPS".into()));
            }
        };
        let start = match &frame.start_bound {
            WindowFrameBound::Preceding(bound) if bound.is_null() => Start::Unbounded,
            WindowFrameBound::Preceding(bound) if peers => {
                if !self.spec.order.is_empty() {
                    let what = "RANGE with an offset and ORDER BY of several columns";
                    return Err(ExecError::Unsupported(what.into()));
                }
                Start::Range(interval(bound)?)
            }
            WindowFrameBound::Preceding(bound) => match bound.cast_to(&DataType::UInt64)? {
                ScalarValue::UInt64(Some(rows)) => Start::Rows(rows),
                _ => return Err(ExecError::Plan(format!("a frame of {bound} rows"))),
            },
            WindowFrameBound::CurrentRow if peers => Start::Peers,
            WindowFrameBound::CurrentRow => Start::Rows(0),
            WindowFrameBound::Following(_) => {
                return Err(ExecError::Unsupported("a frame of following rows".into()));
            }
        };
        Ok(Frame { start, peers })
    }

    fn finish(self) -> Result<OverSpec> {
        let schema = self.input.schema();
        let compiled = self
            .frames
            .into_iter()
            .map(|(frame, exprs)| Ok((frame, Aggregates::compile(&exprs, schema)?)));
        Ok(OverSpec { frames: compiled.collect::<Result<_>>()?, ..self.spec })
    }
}

fn behind(name: &str) -> ExecError {
    ExecError::Unsupported(format!("{name}(), which may need rows behind the present one,"))
}

fn function(expr: &Expr) -> Result<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Ok(function),
        Expr::Alias(alias) => function(&alias.expr),
        other => Err(ExecError::Plan(format!("{other} among window functions"))),
    }
}

/// What rows of the same event time are ordered by. The first column of ORDER BY is the event time
/// (or a fixed distance from it): front ends see to that.
fn order(function: &WindowFunction, input: &LogicalPlan) -> Result<Vec<(Compiled, SortOptions)>> {
    let unordered = || ExecError::Unsupported("OVER without ORDER BY the event time".into());
    let (first, rest) = function.params.order_by.split_first().ok_or_else(unordered)?;
    let time = compile(&first.expr, input.schema())?;
    let is_time = matches!(time.data_type, DataType::Timestamp(TimeUnit::Microsecond, _));
    if !(is_time && first.asc) {
        return Err(unordered());
    }
    super::kept_rows::compile_order(rest, input)
}

/// The value of a constant.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Negative(inner) => constant(inner)?.arithmetic_negate().ok(),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        Expr::Alias(alias) => constant(&alias.expr),
        _ => None,
    }
}

/// An interval in microseconds.
fn interval(bound: &ScalarValue) -> Result<i64> {
    let fixed = "RANGE with an offset that is not a fixed interval";
    let unsupported = || ExecError::Unsupported(fixed.into());
    let us = match bound.cast_to(&DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano))
    {
        Ok(ScalarValue::IntervalMonthDayNano(Some(interval))) if interval.months == 0 => {
            let days = i64::from(interval.days).checked_mul(86_400_000_000);
            days.and_then(|days| days.checked_add(interval.nanoseconds / 1000))
        }
        _ => None,
    };
    us.filter(|us| *us >= 0).ok_or_else(unsupported)
}
