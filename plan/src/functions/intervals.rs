//! Functions over intervals. A day is 24 hours and a month 30 days wherever intervals are
//! compared, multiplied or divided, as in PostgreSQL.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, IntervalMonthDayNanoArray, StringViewArray,
};
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_err};

use super::FunctionDef;
use super::define::{arity, function};
use super::list_totals::overflow;
use super::text::duration_text;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAY: i128 = 86_400_000_000_000;
const MONTH: i128 = 30 * DAY;

pub(super) fn definitions() -> Vec<FunctionDef> {
    vec![
        FunctionDef {
            sql_names: &["interval_compare"],
            vpl_names: &[],
            summary: "interval_compare(a, b): -1, 0 or 1 as a is shorter, equal or longer",
            udf: function("interval_compare", two, |_| Ok(DataType::Int64), compare),
        },
        FunctionDef {
            sql_names: &["interval_ratio"],
            vpl_names: &[],
            summary: "interval_ratio(a, b): a / b as a number",
            udf: function("interval_ratio", two, |_| Ok(DataType::Float64), ratio),
        },
        FunctionDef {
            sql_names: &["interval_multiply"],
            vpl_names: &[],
            summary: "interval_multiply(interval, factor): bigint or double factor",
            udf: function("interval_multiply", with_number, |_| Ok(INTERVAL), multiply),
        },
        FunctionDef {
            sql_names: &["interval_divide"],
            vpl_names: &[],
            summary: "interval_divide(interval, divisor): to the nanosecond, towards zero",
            udf: function("interval_divide", with_number, |_| Ok(INTERVAL), divide),
        },
        FunctionDef {
            sql_names: &["interval_text"],
            vpl_names: &["to_string"],
            summary: "interval_text(interval): as VPL writes durations, such as 1h30m",
            udf: function("interval_text", one, |_| Ok(DataType::Utf8View), to_text),
        },
        FunctionDef {
            sql_names: &["interval_seconds"],
            vpl_names: &["seconds", "to_float"],
            summary: "interval_seconds(interval): its length in seconds",
            udf: function("interval_seconds", one, |_| Ok(DataType::Float64), seconds),
        },
    ]
}

fn one(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 1).map(|()| vec![INTERVAL])
}

fn two(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 2).map(|()| vec![INTERVAL; 2])
}

fn with_number(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 2)?;
    let number = if types[1].is_integer() { DataType::Int64 } else { DataType::Float64 };
    Ok(vec![INTERVAL, number])
}

fn intervals(array: &ArrayRef) -> &IntervalMonthDayNanoArray {
    array.as_primitive::<IntervalMonthDayNanoType>()
}

/// Length in nanoseconds.
fn length(i: IntervalMonthDayNano) -> i128 {
    i128::from(i.months) * MONTH + i128::from(i.days) * DAY + i128::from(i.nanoseconds)
}

fn pairs<T>(
    args: &[ArrayRef],
    each: impl Fn(i128, i128) -> Result<T>,
) -> impl Iterator<Item = Result<Option<T>>> {
    intervals(&args[0]).iter().zip(intervals(&args[1])).map(move |row| match row {
        (Some(a), Some(b)) => each(length(a), length(b)).map(Some),
        _ => Ok(None),
    })
}

fn compare(args: &[ArrayRef]) -> Result<ArrayRef> {
    let signs = pairs(args, |a, b| {
        Ok(match a.cmp(&b) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        })
    });
    Ok(Arc::new(signs.collect::<Result<Int64Array>>()?))
}

fn ratio(args: &[ArrayRef]) -> Result<ArrayRef> {
    let ratios = pairs(args, |a, b| match b {
        0 => Err(ArrowError::DivideByZero.into()),
        b => Ok(a as f64 / b as f64),
    });
    Ok(Arc::new(ratios.collect::<Result<Float64Array>>()?))
}

/// An interval of this many nanoseconds without months and days.
fn of_nanoseconds(value: i128) -> Result<IntervalMonthDayNano> {
    let nanoseconds = i64::try_from(value).map_err(|_| overflow("interval"))?;
    Ok(IntervalMonthDayNano { months: 0, days: 0, nanoseconds })
}

fn of_float(value: f64) -> Result<IntervalMonthDayNano> {
    if !value.is_finite() {
        return exec_err!("interval out of range");
    }
    of_nanoseconds(value as i128)
}

fn multiply(args: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = intervals(&args[0]).iter();
    let products: IntervalMonthDayNanoArray = match args[1].data_type() {
        DataType::Int64 => rows
            .zip(args[1].as_primitive::<Int64Type>())
            .map(|(i, n)| match (i, n) {
                (Some(i), Some(n)) => times(i, n).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?,
        _ => rows
            .zip(args[1].as_primitive::<Float64Type>())
            .map(|(i, n)| match (i, n) {
                (Some(i), Some(n)) => of_float((length(i) as f64 * n).round()).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?,
    };
    Ok(Arc::new(products))
}

/// A whole multiple keeps months and days apart.
fn times(i: IntervalMonthDayNano, n: i64) -> Result<IntervalMonthDayNano> {
    let small = |v: i32| i64::from(v).checked_mul(n).and_then(|v| i32::try_from(v).ok());
    let (Some(months), Some(days), Some(nanoseconds)) =
        (small(i.months), small(i.days), i.nanoseconds.checked_mul(n))
    else {
        return Err(overflow("interval").into());
    };
    Ok(IntervalMonthDayNano { months, days, nanoseconds })
}

fn divide(args: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = intervals(&args[0]).iter();
    let quotients: IntervalMonthDayNanoArray = match args[1].data_type() {
        DataType::Int64 => rows
            .zip(args[1].as_primitive::<Int64Type>())
            .map(|(i, n)| match (i, n) {
                (Some(_), Some(0)) => Err(ArrowError::DivideByZero.into()),
                (Some(i), Some(n)) => of_nanoseconds(length(i) / i128::from(n)).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?,
        _ => rows
            .zip(args[1].as_primitive::<Float64Type>())
            .map(|(i, n)| match (i, n) {
                (Some(_), Some(0.0)) => Err(ArrowError::DivideByZero.into()),
                (Some(i), Some(n)) => of_float(length(i) as f64 / n).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?,
    };
    Ok(Arc::new(quotients))
}

fn to_text(args: &[ArrayRef]) -> Result<ArrayRef> {
    let texts: StringViewArray = intervals(&args[0])
        .iter()
        .map(|i| i.map(|i| duration_text(i.months, i.days, i.nanoseconds)))
        .collect();
    Ok(Arc::new(texts))
}

fn seconds(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lengths: Float64Array =
        intervals(&args[0]).iter().map(|i| i.map(|i| length(i) as f64 / 1e9)).collect();
    Ok(Arc::new(lengths))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(months: i32, days: i32, nanoseconds: i64) -> ArrayRef {
        let i = IntervalMonthDayNano { months, days, nanoseconds };
        Arc::new(IntervalMonthDayNanoArray::from(vec![i]))
    }

    fn sign(a: ArrayRef, b: ArrayRef) -> i64 {
        compare(&[a, b]).unwrap().as_primitive::<Int64Type>().value(0)
    }

    #[test]
    fn a_day_equals_24_hours_and_a_month_30_days() {
        let hour = 3_600_000_000_000;
        assert_eq!(sign(interval(0, 1, 0), interval(0, 0, 24 * hour)), 0);
        assert_eq!(sign(interval(0, 1, 0), interval(0, 0, 23 * hour)), 1);
        assert_eq!(sign(interval(0, 29, 0), interval(1, 0, 0)), -1);
    }

    #[test]
    fn multiples_and_parts() {
        let two: ArrayRef = Arc::new(Int64Array::from(vec![2]));
        let zero: ArrayRef = Arc::new(Int64Array::from(vec![0]));
        let half: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert_eq!(&multiply(&[interval(0, 0, 501), two.clone()]).unwrap(), &interval(0, 0, 1002));
        assert_eq!(&multiply(&[interval(0, 0, 10), half]).unwrap(), &interval(0, 0, 5));
        assert_eq!(&divide(&[interval(0, 0, -5), two]).unwrap(), &interval(0, 0, -2));
        assert!(divide(&[interval(0, 0, 5), zero]).is_err());
        let many: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(multiply(&[interval(0, 0, 2), many]).is_err());
    }
}
