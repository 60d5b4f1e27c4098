//! Functions over numbers whose results DataFusion defines differently.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};

use super::FunctionDef;
use super::define::{arity, function};
use super::list_totals::overflow;

pub(super) fn definitions() -> Vec<FunctionDef> {
    vec![
        FunctionDef {
            sql_names: &["int_power"],
            vpl_names: &["pow"],
            summary: "int_power(base, exponent): an integer; a negative exponent is an error",
            udf: function(
                "int_power",
                |t| arity("int_power", t, 2).map(|()| vec![DataType::Int64; 2]),
                |_| Ok(DataType::Int64),
                int_power,
            ),
        },
        FunctionDef {
            sql_names: &["round_to_int"],
            vpl_names: &["round"],
            summary: "round_to_int(number): nearest integer, halves away from zero",
            udf: function(
                "round_to_int",
                float,
                |_| Ok(DataType::Int64),
                |a| to_int(a, f64::round),
            ),
        },
        FunctionDef {
            sql_names: &["floor_to_int"],
            vpl_names: &["floor"],
            summary: "floor_to_int(number): greatest integer that is not greater",
            udf: function(
                "floor_to_int",
                float,
                |_| Ok(DataType::Int64),
                |a| to_int(a, f64::floor),
            ),
        },
        FunctionDef {
            sql_names: &["ceil_to_int"],
            vpl_names: &["ceil"],
            summary: "ceil_to_int(number): least integer that is not less",
            udf: function("ceil_to_int", float, |_| Ok(DataType::Int64), |a| to_int(a, f64::ceil)),
        },
        FunctionDef {
            sql_names: &["trunc_to_int"],
            vpl_names: &["to_int"],
            summary: "trunc_to_int(number): the part before the point",
            udf: function(
                "trunc_to_int",
                float,
                |_| Ok(DataType::Int64),
                |a| to_int(a, f64::trunc),
            ),
        },
        FunctionDef {
            sql_names: &["sqrt_checked"],
            vpl_names: &["sqrt"],
            summary: "sqrt_checked(number): an error for a negative number",
            udf: function(
                "sqrt_checked",
                float,
                |_| Ok(DataType::Float64),
                |a| checked(a, "square root of a negative number", |x| x >= 0.0, f64::sqrt),
            ),
        },
        FunctionDef {
            sql_names: &["ln_checked"],
            vpl_names: &["log"],
            summary: "ln_checked(number): natural logarithm, an error unless positive",
            udf: function(
                "ln_checked",
                float,
                |_| Ok(DataType::Float64),
                |a| checked(a, "logarithm of a number that is not positive", |x| x > 0.0, f64::ln),
            ),
        },
        FunctionDef {
            sql_names: &["log10_checked"],
            vpl_names: &["log10"],
            summary: "log10_checked(number): logarithm to base 10, an error unless positive",
            udf: function(
                "log10_checked",
                float,
                |_| Ok(DataType::Float64),
                |a| {
                    checked(
                        a,
                        "logarithm of a number that is not positive",
                        |x| x > 0.0,
                        f64::log10,
                    )
                },
            ),
        },
        FunctionDef {
            sql_names: &["int_abs"],
            vpl_names: &["abs"],
            summary: "int_abs(integer): overflow is an error",
            udf: function(
                "int_abs",
                |t| arity("int_abs", t, 1).map(|()| vec![DataType::Int64]),
                |_| Ok(DataType::Int64),
                |args| {
                    let values = args[0].as_primitive::<Int64Type>();
                    let abs = values.try_unary(|v| v.checked_abs().ok_or_else(|| overflow("abs")));
                    Ok(Arc::new(abs.map(|a: Int64Array| a)?))
                },
            ),
        },
    ]
}

fn float(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 1).map(|()| vec![DataType::Float64])
}

fn int_power(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (bases, exponents) =
        (args[0].as_primitive::<Int64Type>(), args[1].as_primitive::<Int64Type>());
    let powers: Int64Array = bases
        .iter()
        .zip(exponents)
        .map(|row| match row {
            (Some(base), Some(exponent)) => power(base, exponent).map(Some),
            _ => Ok(None),
        })
        .collect::<Result<_>>()?;
    Ok(Arc::new(powers))
}

fn power(base: i64, exponent: i64) -> Result<i64> {
    if exponent < 0 {
        return exec_err!("integer power with the negative exponent {exponent}");
    }
    // Only 0, 1 and -1 survive an exponent that does not fit: parity decides for them.
    let exponent = u32::try_from(exponent).unwrap_or(u32::MAX - 1 + (exponent % 2) as u32);
    Ok(base.checked_pow(exponent).ok_or_else(|| overflow("power"))?)
}

fn to_int(args: &[ArrayRef], round: fn(f64) -> f64) -> Result<ArrayRef> {
    let values = args[0].as_primitive::<Float64Type>();
    let ints: Int64Array = values.try_unary(|v| {
        let rounded = round(v);
        // 2^63 is exact as a float; anything from there on does not fit, nor does NaN.
        if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
            Ok(rounded as i64)
        } else {
            Err(overflow("conversion to an integer"))
        }
    })?;
    Ok(Arc::new(ints))
}

fn checked(
    args: &[ArrayRef],
    error: &str,
    domain: fn(f64) -> bool,
    f: fn(f64) -> f64,
) -> Result<ArrayRef> {
    let values = args[0].as_primitive::<Float64Type>();
    // NaN is not an error of this function: it goes through.
    if values.iter().flatten().any(|v| !domain(v) && !v.is_nan()) {
        return exec_err!("{error}");
    }
    let results: Float64Array = values.unary(f);
    Ok(Arc::new(results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_power_is_exact_or_an_error() {
        assert_eq!(power(9, 3).unwrap(), 729);
        assert_eq!(power(-1, i64::MAX).unwrap(), -1);
        assert_eq!(power(-1, i64::MAX - 1).unwrap(), 1);
        assert_eq!(power(3, 39).unwrap(), 4_052_555_153_018_976_267);
        assert!(power(2, 63).is_err());
        assert!(power(2, -1).is_err());
    }

    #[test]
    fn halves_round_away_from_zero() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![2.5, -2.5, 0.49]));
        let got = to_int(&[values], f64::round).unwrap();
        assert_eq!(got.as_primitive::<Int64Type>(), &Int64Array::from(vec![3, -3, 0]));
        for bad in [f64::NAN, 9.3e18, f64::INFINITY] {
            let value: ArrayRef = Arc::new(Float64Array::from(vec![bad]));
            assert!(to_int(&[value], f64::round).is_err());
        }
    }
}
