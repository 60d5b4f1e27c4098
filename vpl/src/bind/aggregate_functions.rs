//! The aggregates: for each name, which arguments it takes and what it becomes.

use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate as aggregates;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr as PlanExpr, lit};

use super::builtins::Argument;
use super::calls::{wrong_count, wrong_type};
use super::declarations::Declarations;
use super::expression::Binder;
use super::problem::{Result, arguments};
use super::value::{Extent, Value, coerce, convert, is_int, is_number, is_text, is_timestamp};
use crate::ast::{Arg, Expr, ExprKind, Ident};

/// All names.
pub(super) const NAMES: [&str; 22] = [
    "approx_count_distinct",
    "avg",
    "bool_and",
    "bool_or",
    "collect",
    "corr",
    "count",
    "count_distinct",
    "ema",
    "first",
    "last",
    "max",
    "median",
    "min",
    "percentile",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "variance",
    "variance_pop",
];

/// Whether `e` calls an aggregate where aggregates are possible: `min(a, b)` of two values is the
/// function, and a function of the program goes before both.
pub(super) fn is_aggregate(program: &Declarations<'_>, e: &Expr) -> bool {
    let ExprKind::Call { function, args } = &e.kind else { return false };
    let name = function.name.as_str();
    let of_values = matches!(name, "min" | "max") && args.len() > 1;
    NAMES.contains(&name) && !of_values && !program.functions.contains_key(name)
}

/// Binds `agg(..)` or `agg(..) filter (where c)` over the rows of the window.
pub(super) fn bind<'a>(binder: &mut Binder<'a>, e: &'a Expr) -> Result<Value> {
    let (call, condition) = match &e.kind {
        ExprKind::Filter { call, condition } => (call.as_ref(), Some(condition.as_ref())),
        _ => (e, None),
    };
    let ExprKind::Call { function, args } = &call.kind else {
        return Err(arguments(call.span, "`filter (where ..)` belongs to an aggregate"));
    };
    let filter = condition.map(|c| binder.condition(c, "the condition of `filter`")).transpose()?;
    let mut call = Call::read(binder, function, args, call.span)?;
    call.filter = filter;
    call.bind()
}

/// `collect(value)`
pub(super) fn collect(value: &Value) -> Value {
    let ty = value.ty.clone().unwrap_or(ColumnType::Text);
    let call = AggregateFunction::new_udf(
        aggregates::array_agg::array_agg_udaf(),
        vec![value.expr.clone()],
        false,
        None,
        Vec::new(),
        None,
    );
    let list = ColumnType::Array(Box::new(ty));
    Value::new(PlanExpr::AggregateFunction(call), list, &[value])
}

/// A call with its arguments bound.
struct Call<'b> {
    function: &'b Ident,
    span: Span,
    args: Vec<Argument>,
    distinct: bool,
    filter: Option<Value>,
}

impl<'b> Call<'b> {
    fn read<'a>(
        binder: &mut Binder<'a>,
        function: &'b Ident,
        args: &'a [Arg],
        span: Span,
    ) -> Result<Call<'b>> {
        let name = function.name.as_str();
        if let Some(named) = args.iter().find_map(|a| a.name.as_ref()) {
            let message = format!("`{name}` takes its arguments by position, not by name");
            return Err(arguments(named.span, message));
        }
        let mut distinct = name == "count_distinct";
        let mut bound = Vec::with_capacity(args.len());
        for (at, arg) in args.iter().enumerate() {
            let mut value = &arg.value;
            if let ExprKind::Call { function: inner, args: of } = &value.kind
                && inner.name == "distinct"
                && !binder.program.functions.contains_key("distinct")
            {
                let [only] = of.as_slice() else {
                    return Err(wrong_count(inner, value.span, "one argument", of.len()));
                };
                let takes = ["count", "sum", "avg", "min", "max", "collect"];
                if at > 0 || !takes.contains(&name) {
                    let message = format!("`{name}` has no `distinct` at this place");
                    return Err(arguments(value.span, message));
                }
                distinct = true;
                value = &only.value;
            }
            bound.push(Argument { value: binder.bind(value)?, span: value.span });
        }
        Ok(Call { function, span, args: bound, distinct, filter: None })
    }

    fn bind(&self) -> Result<Value> {
        use ColumnType::{BigInt, Boolean, Double};
        match self.function.name.as_str() {
            "count" if self.args.is_empty() => {
                // As `count(*)` of SQL.
                let call = self.call(aggregates::count::count_udaf(), vec![lit(1i64)]);
                Ok(self.value_of(call, &[], BigInt))
            }
            "count" | "count_distinct" => {
                let x = self.comparable()?;
                Ok(self.apply(aggregates::count::count_udaf(), &[&x], BigInt))
            }
            "approx_count_distinct" => {
                let x = self.comparable()?;
                Ok(self.apply(aggregates::approx_distinct::approx_distinct_udaf(), &[&x], BigInt))
            }
            "sum" => {
                let x = self.one()?;
                let ty = if x.value.ty.as_ref().is_some_and(is_int) { BigInt } else { Double };
                let x = self.to(&x, &ty, "numbers")?;
                Ok(self.apply(aggregates::sum::sum_udaf(), &[&x], ty))
            }
            "min" | "max" => {
                let x = self.orderable()?;
                let udf = match self.function.name.as_str() {
                    "min" => aggregates::min_max::min_udaf(),
                    _ => aggregates::min_max::max_udaf(),
                };
                let ty = x.ty.clone().unwrap_or(ColumnType::Text);
                Ok(self.apply(udf, &[&x], ty))
            }
            "avg" => self.of_float(aggregates::average::avg_udaf()),
            "stddev" => self.of_float(aggregates::stddev::stddev_udaf()),
            "stddev_pop" => self.of_float(aggregates::stddev::stddev_pop_udaf()),
            "variance" => self.of_float(aggregates::variance::var_samp_udaf()),
            "variance_pop" => self.of_float(aggregates::variance::var_pop_udaf()),
            "median" => self.of_float(aggregates::median::median_udaf()),
            "corr" => self.of_floats(aggregates::correlation::corr_udaf()),
            "regr_slope" => self.of_floats(aggregates::regr::regr_slope_udaf()),
            "bool_and" | "bool_or" => {
                let x = self.to(&self.one()?, &Boolean, "a `bool`")?;
                let udf = match self.function.name.as_str() {
                    "bool_and" => aggregates::bool_and_or::bool_and_udaf(),
                    _ => aggregates::bool_and_or::bool_or_udaf(),
                };
                Ok(self.apply(udf, &[&x], Boolean))
            }
            "first" => self.of_any(aggregates::first_last::first_value_udaf()),
            "last" => self.of_any(aggregates::first_last::last_value_udaf()),
            "collect" => {
                let x = self.value()?;
                let list = ColumnType::Array(Box::new(x.ty.clone().unwrap_or(ColumnType::Text)));
                Ok(self.apply(aggregates::array_agg::array_agg_udaf(), &[&x], list))
            }
            "string_agg" => self.string_agg(),
            "percentile" => self.percentile(),
            _ => self.ema(),
        }
    }

    fn string_agg(&self) -> Result<Value> {
        let [x, between] = self.count("a `str` and what stands between")?;
        let x = self.to(&x, &ColumnType::Text, "a `str`")?;
        let separator = self.to(&between, &ColumnType::Text, "a `str`")?;
        if !matches!(separator.expr, PlanExpr::Literal(..)) {
            return Err(arguments(between.span, "what stands between must be a constant"));
        }
        let udf = aggregates::string_agg::string_agg_udaf();
        Ok(self.apply(udf, &[&x, &separator], ColumnType::Text))
    }

    fn percentile(&self) -> Result<Value> {
        let [x, p] = self.count("a number and the share, 0 to 1")?;
        let x = self.to(&x, &ColumnType::Double, "numbers")?;
        let share = self.to(&p, &ColumnType::Double, "a number from 0 to 1")?;
        let constant = matches!(&share.expr,
            PlanExpr::Literal(ScalarValue::Float64(Some(p)), _) if (0.0..=1.0).contains(p));
        if !constant {
            return Err(arguments(p.span, "the share is a constant from 0 to 1"));
        }
        let mut call = AggregateFunction::new_udf(
            aggregates::percentile_cont::percentile_cont_udaf(),
            vec![x.expr.clone(), share.expr.clone()],
            false,
            self.filter(),
            Vec::new(),
            None,
        );
        // As `percentile_cont(p) WITHIN GROUP (ORDER BY x)`.
        call.params.order_by = vec![x.expr.clone().sort(true, true)];
        Ok(self.value_of(PlanExpr::AggregateFunction(call), &[&x], ColumnType::Double))
    }

    /// `ema(x, n)`
    fn ema(&self) -> Result<Value> {
        let [x, n] = self.count("a number and a number of rows")?;
        let x = self.to(&x, &ColumnType::Double, "numbers")?;
        let rows = self.to(&n, &ColumnType::BigInt, "an `int`")?;
        let constant = matches!(&rows.expr,
            PlanExpr::Literal(ScalarValue::Int64(Some(n)), _) if *n > 0);
        if !constant {
            return Err(arguments(n.span, "the number of rows is a constant above 0"));
        }
        Ok(self.apply(auspex_plan::functions::ema(), &[&x, &rows], ColumnType::Double))
    }

    fn of_any(&self, udf: Arc<AggregateUDF>) -> Result<Value> {
        let x = self.value()?;
        let ty = x.ty.clone().unwrap_or(ColumnType::Text);
        Ok(self.apply(udf, &[&x], ty))
    }

    fn of_float(&self, udf: Arc<AggregateUDF>) -> Result<Value> {
        let x = self.to(&self.one()?, &ColumnType::Double, "numbers")?;
        Ok(self.apply(udf, &[&x], ColumnType::Double))
    }

    fn of_floats(&self, udf: Arc<AggregateUDF>) -> Result<Value> {
        let [y, x] = self.count("two numbers")?;
        let y = self.to(&y, &ColumnType::Double, "numbers")?;
        let x = self.to(&x, &ColumnType::Double, "numbers")?;
        Ok(self.apply(udf, &[&y, &x], ColumnType::Double))
    }

    fn count<const N: usize>(&self, takes: &str) -> Result<[Argument; N]> {
        let got = self.args.len();
        <[Argument; N]>::try_from(self.args.clone())
            .map_err(|_| wrong_count(self.function, self.span, takes, got))
    }

    fn one(&self) -> Result<Argument> {
        self.count::<1>("one argument").map(|[a]| a)
    }

    /// One argument of any type; a bare null as text.
    fn value(&self) -> Result<Value> {
        let x = self.one()?;
        let ty = x.value.ty.clone().unwrap_or(ColumnType::Text);
        coerce(x.value, &ty, x.span, "the argument")
    }

    /// One argument whose values can be told apart.
    fn comparable(&self) -> Result<Value> {
        let x = self.value()?;
        let told_apart = self.distinct || self.function.name == "approx_count_distinct";
        if told_apart && matches!(x.ty, Some(ColumnType::Map(..))) {
            return Err(wrong_type(self.function, &self.args[0], "values that can be compared"));
        }
        Ok(x)
    }

    fn orderable(&self) -> Result<Value> {
        let x = self.value()?;
        let fits = x.ty.as_ref().is_some_and(|ty| {
            is_number(ty)
                || is_text(ty)
                || is_timestamp(ty)
                || matches!(ty, ColumnType::Boolean | ColumnType::Interval)
        });
        if fits {
            return Ok(x);
        }
        let expected = "numbers, `str`s, timestamps, durations or `bool`s";
        Err(wrong_type(self.function, &self.args[0], expected))
    }

    fn to(&self, argument: &Argument, ty: &ColumnType, expected: &str) -> Result<Value> {
        convert(argument.value.clone(), ty)
            .ok_or_else(|| wrong_type(self.function, argument, expected))
    }

    fn filter(&self) -> Option<Box<PlanExpr>> {
        self.filter.as_ref().map(|f| Box::new(f.expr.clone()))
    }

    fn call(&self, udf: Arc<AggregateUDF>, args: Vec<PlanExpr>) -> PlanExpr {
        let (distinct, filter) = (self.distinct, self.filter());
        let call = AggregateFunction::new_udf(udf, args, distinct, filter, Vec::new(), None);
        PlanExpr::AggregateFunction(call)
    }

    fn apply(&self, udf: Arc<AggregateUDF>, args: &[&Value], ty: ColumnType) -> Value {
        let call = self.call(udf, args.iter().map(|v| v.expr.clone()).collect());
        self.value_of(call, args, ty)
    }

    fn value_of(&self, expr: PlanExpr, args: &[&Value], ty: ColumnType) -> Value {
        let extent = Extent::over(args.iter().copied().chain(&self.filter));
        Value { expr, ty: Some(ty), extent }
    }
}
