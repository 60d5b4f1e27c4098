//! The built-in functions: for each name, which argument types it takes and what it becomes.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use datafusion::functions::{core, math, unicode};
use datafusion::logical_expr::{ScalarUDF, lit};

use super::calls::{item_of, our, wrong_count, wrong_type};
use super::container::{contains, get, slice};
use super::expression::{Binder, convert_all};
use super::operators::{compare, fold_binary};
use super::problem::Result;
use super::value::{
    Value, cast, coerce, common_of, convert, is_float, is_int, is_number, is_text, is_timestamp,
    text, widest,
};
use crate::ast::{BinaryOp, Ident};

/// A bound argument with its place.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub value: Value,
    pub span: Span,
}

/// The names of all built-in functions without a lambda.
pub(super) const NAMES: &[&str] = &[
    "abs",
    "avg",
    "ceil",
    "clamp",
    "coalesce",
    "concat",
    "contains",
    "cos",
    "date_trunc",
    "day",
    "day_of_week",
    "day_of_year",
    "ends_with",
    "epoch",
    "epoch_ms",
    "exp",
    "first",
    "flatten",
    "floor",
    "get",
    "hour",
    "if_null",
    "is_array",
    "is_bool",
    "is_float",
    "is_int",
    "is_map",
    "is_null",
    "is_string",
    "join",
    "keys",
    "last",
    "len",
    "ln",
    "log",
    "log10",
    "lower",
    "lowercase",
    "ltrim",
    "matches",
    "max",
    "millisecond",
    "min",
    "minute",
    "month",
    "pop",
    "pow",
    "push",
    "range",
    "replace",
    "reverse",
    "round",
    "rtrim",
    "second",
    "set",
    "sin",
    "slice",
    "sort",
    "split",
    "sqrt",
    "starts_with",
    "substring",
    "sum",
    "tan",
    "to_float",
    "to_int",
    "to_lower",
    "to_string",
    "to_upper",
    "trim",
    "type_of",
    "unique",
    "upper",
    "uppercase",
    "values",
    "week",
    "year",
];

/// Whether there is a built-in function of this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Binds a call of a built-in function.
pub(super) fn call(
    binder: &mut Binder<'_>,
    function: &Ident,
    args: Vec<Argument>,
    span: Span,
) -> Result<Value> {
    let mut call = Call { binder, function, span, args };
    match function.name.as_str() {
        "abs" | "ceil" | "clamp" | "cos" | "exp" | "floor" | "ln" | "log" | "log10" | "pow"
        | "round" | "sin" | "sqrt" | "tan" => call.math(),
        "min" | "max" => call.extreme(),
        "sum" | "avg" | "range" | "sort" | "unique" | "flatten" | "pop" | "push" | "keys"
        | "values" | "first" | "last" => call.collection(),
        "len" | "contains" | "get" | "set" | "reverse" | "concat" | "slice" => call.either(),
        "to_string" | "to_int" | "to_float" | "type_of" | "is_null" | "is_int" | "is_float"
        | "is_string" | "is_bool" | "is_array" | "is_map" | "coalesce" | "if_null" => call.types(),
        "year" | "month" | "week" | "day" | "hour" | "minute" | "second" | "millisecond"
        | "day_of_week" | "day_of_year" | "epoch" | "epoch_ms" | "date_trunc" => call.time(),
        _ => call.string(),
    }
}

pub(super) struct Call<'b, 'a> {
    binder: &'b mut Binder<'a>,
    pub(super) function: &'b Ident,
    pub(super) span: Span,
    pub(super) args: Vec<Argument>,
}

impl Call<'_, '_> {
    pub(super) fn count<const N: usize>(&self, takes: &str) -> Result<[Argument; N]> {
        let got = self.args.len();
        <[Argument; N]>::try_from(self.args.clone())
            .map_err(|_| wrong_count(self.function, self.span, takes, got))
    }

    /// One argument.
    pub(super) fn one(&self) -> Result<Argument> {
        self.count::<1>("one argument").map(|[a]| a)
    }

    pub(super) fn two(&self, takes: &str) -> Result<(Argument, Argument)> {
        self.count::<2>(takes).map(|[a, b]| (a, b))
    }

    pub(super) fn to(&self, argument: &Argument, ty: &ColumnType, expected: &str) -> Result<Value> {
        convert(argument.value.clone(), ty)
            .ok_or_else(|| wrong_type(self.function, argument, expected))
    }

    pub(super) fn float(&self, argument: &Argument) -> Result<Value> {
        self.to(argument, &ColumnType::Double, "a number")
    }

    pub(super) fn str(&self, argument: &Argument) -> Result<Value> {
        self.to(argument, &ColumnType::Text, "a `str`")
    }

    pub(super) fn int(&self, argument: &Argument) -> Result<Value> {
        self.to(argument, &ColumnType::BigInt, "an `int`")
    }

    /// A call of a DataFusion function whose result is a `ty`.
    pub(super) fn apply(&self, udf: &ScalarUDF, args: &[&Value], ty: ColumnType) -> Value {
        let call = udf.call(args.iter().map(|v| v.expr.clone()).collect());
        self.binder.typed(call, ty, args)
    }

    /// A call of one of our functions, whose result has exactly the type said.
    pub(super) fn ours(&self, name: &str, args: &[&Value], ty: ColumnType) -> Value {
        Value::new(our(name, args.iter().map(|v| v.expr.clone()).collect()), ty, args)
    }

    fn math(&mut self) -> Result<Value> {
        use ColumnType::{BigInt, Double};
        let name = self.function.name.as_str();
        match name {
            "pow" => {
                let (a, b) = self.two("a base and an exponent")?;
                let both = ((a.value, a.span), (b.value, b.span));
                return super::operators::binary(BinaryOp::Pow, both.0, both.1, self.span);
            }
            "clamp" => {
                let [x, low, high] = self.count("a value, a least and a greatest one")?;
                let all = [&x, &low, &high].map(|a| (a.value.clone(), a.span)).to_vec();
                let ty = common_of(&all, "the arguments of `clamp`")?;
                let all = convert_all(all, &ty, "the arguments of `clamp`")?;
                let at = |i: usize| (all[i].clone(), [x.span, low.span, high.span][i]);
                let below = compare(BinaryOp::Lt, at(0), at(1), self.span)?;
                let above = compare(BinaryOp::Gt, at(0), at(2), self.span)?;
                let values = vec![at(1), at(2), at(0)];
                return self.binder.case(vec![below, above], values, "the arguments of `clamp`");
            }
            "round" if self.args.len() == 2 => {
                let (x, digits) = self.two("a number and a number of digits")?;
                let (x, digits) = (self.float(&x)?, self.int(&digits)?);
                let digits = Value {
                    expr: cast(digits.expr.clone(), &ColumnType::Integer.arrow()),
                    ..digits
                };
                return Ok(self.apply(&math::round(), &[&x, &digits], Double));
            }
            _ => {}
        }
        let x = self.one()?;
        let int = x.value.ty.as_ref().is_some_and(is_int);
        if int && matches!(name, "floor" | "ceil" | "round") {
            return self.int(&x);
        }
        if int && name == "abs" {
            let x = self.int(&x)?;
            return Ok(self.ours("int_abs", &[&x], BigInt));
        }
        let x = self.float(&x)?;
        Ok(match name {
            "floor" => self.ours("floor_to_int", &[&x], BigInt),
            "ceil" => self.ours("ceil_to_int", &[&x], BigInt),
            "round" => self.ours("round_to_int", &[&x], BigInt),
            "sqrt" => self.ours("sqrt_checked", &[&x], Double),
            "ln" | "log" => self.ours("ln_checked", &[&x], Double),
            "log10" => self.ours("log10_checked", &[&x], Double),
            "abs" => self.apply(&math::abs(), &[&x], Double),
            "exp" => self.apply(&math::exp(), &[&x], Double),
            "sin" => self.apply(&math::sin(), &[&x], Double),
            "cos" => self.apply(&math::cos(), &[&x], Double),
            _ => self.apply(&math::tan(), &[&x], Double),
        })
    }

    fn extreme(&mut self) -> Result<Value> {
        let max = self.function.name == "max";
        if let [array] = self.args.as_slice() {
            let item = item_of(self.function, array)?;
            let name = if max { "items_max" } else { "items_min" };
            return Ok(self.ours(name, &[&array.value], item));
        }
        if self.args.is_empty() {
            return Err(wrong_count(self.function, self.span, "an array or several values", 0));
        }
        let what = format!("the arguments of `{}`", self.function.name);
        let all: Vec<(Value, Span)> = self.args.iter().map(|a| (a.value.clone(), a.span)).collect();
        let ty = common_of(&all, &what)?;
        let orderable =
            is_number(&ty) || is_text(&ty) || is_timestamp(&ty) || ty == ColumnType::Boolean;
        if !orderable {
            return Err(wrong_type(self.function, &self.args[0], "numbers, `str`s or timestamps"));
        }
        let all = convert_all(all, &ty, &what)?;
        let udf = if max { core::greatest() } else { core::least() };
        let parts: Vec<&Value> = all.iter().collect();
        Ok(self.apply(&udf, &parts, ty))
    }

    fn collection(&mut self) -> Result<Value> {
        let name = self.function.name.as_str();
        match name {
            "range" => {
                let (from, to) = match self.args.as_slice() {
                    [n] => (Value::leaf(lit(0i64), ColumnType::BigInt), self.int(n)?),
                    [from, to] => (self.int(from)?, self.int(to)?),
                    other => {
                        let n = other.len();
                        return Err(wrong_count(self.function, self.span, "one or two ints", n));
                    }
                };
                let ints = ColumnType::Array(Box::new(ColumnType::BigInt));
                return Ok(self.ours("int_range", &[&from, &to], ints));
            }
            "push" => {
                let (array, item) = self.two("an array and an item")?;
                let ty = item_of(self.function, &array)?;
                let item = self.to(&item, &ty, &format!("an item of type `{}`", ty.vpl_name()))?;
                let ty = ColumnType::Array(Box::new(ty));
                return Ok(self.ours("item_pushed", &[&array.value, &item], ty));
            }
            "keys" | "values" => {
                let map = self.one()?;
                let Some(ColumnType::Map(key, value)) = map.value.ty.clone() else {
                    return Err(wrong_type(self.function, &map, "a map"));
                };
                let (name, item) =
                    if name == "keys" { ("map_key_list", key) } else { ("map_value_list", value) };
                return Ok(self.ours(name, &[&map.value], ColumnType::Array(item)));
            }
            _ => {}
        }
        let array = self.one()?;
        let item = item_of(self.function, &array)?;
        let list = ColumnType::Array(Box::new(item.clone()));
        let value = &array.value;
        let int = |i: i64| Value::leaf(lit(i), ColumnType::BigInt);
        Ok(match name {
            "first" => self.ours("item_at", &[value, &int(0)], item),
            "last" => self.ours("item_at", &[value, &int(-1)], item),
            "pop" => self.ours("items_between", &[value, &int(0), &int(-1)], list),
            "sort" => self.ours("items_sorted", &[value], list),
            "unique" => self.ours("items_unique", &[value], list),
            "flatten" => match item {
                ColumnType::Array(_) => self.ours("items_flattened", &[value], item),
                _ => return Err(wrong_type(self.function, &array, "an array of arrays")),
            },
            _ => {
                if !is_number(&item) {
                    return Err(wrong_type(self.function, &array, "an array of numbers"));
                }
                let item = widest(&item);
                let wide = ColumnType::Array(Box::new(item.clone()));
                let value = self.to(&array, &wide, "an array of numbers")?;
                match name {
                    "sum" => self.ours("items_sum", &[&value], item),
                    _ => self.ours("items_avg", &[&value], ColumnType::Double),
                }
            }
        })
    }

    /// Functions over text as well as arrays or maps.
    fn either(&mut self) -> Result<Value> {
        match self.function.name.as_str() {
            "len" => {
                let x = self.one()?;
                match &x.value.ty {
                    Some(ColumnType::Array(_) | ColumnType::Map(..)) => {
                        Ok(self.ours("item_count", &[&x.value], ColumnType::BigInt))
                    }
                    _ => {
                        let s = self.to(&x, &ColumnType::Text, "a `str`, array or map")?;
                        let udf = unicode::character_length();
                        Ok(self.apply(&udf, &[&s], ColumnType::BigInt))
                    }
                }
            }
            "contains" => {
                let (of, item) = self.two("a container and a value")?;
                contains(of.value, of.span, item.value, item.span)
            }
            "get" => {
                let (of, at) = self.two("a container and a position or key")?;
                get(of.value, of.span, at.value, at.span)
            }
            "set" => {
                let [of, at, value] = self.count("an array or map, a position or key, a value")?;
                match of.value.ty.clone() {
                    Some(ty @ ColumnType::Array(_)) => {
                        let item = item_of(self.function, &of)?;
                        let at = self.int(&at)?;
                        let value = self.to(&value, &item, &format!("a `{}`", item.vpl_name()))?;
                        Ok(self.ours("item_replaced", &[&of.value, &at, &value], ty))
                    }
                    Some(ColumnType::Map(k, v)) => {
                        let key = self.to(&at, &k, &format!("a `{}` as key", k.vpl_name()))?;
                        let value = self.to(&value, &v, &format!("a `{}`", v.vpl_name()))?;
                        let ty = ColumnType::Map(k, v);
                        Ok(self.ours("map_set", &[&of.value, &key, &value], ty))
                    }
                    _ => Err(wrong_type(self.function, &of, "an array or map")),
                }
            }
            "reverse" => {
                let x = self.one()?;
                match x.value.ty.clone() {
                    Some(ty @ ColumnType::Array(_)) => {
                        Ok(self.ours("items_reversed", &[&x.value], ty))
                    }
                    _ => {
                        let s = self.to(&x, &ColumnType::Text, "a `str` or array")?;
                        Ok(self.apply(&unicode::reverse(), &[&s], ColumnType::Text))
                    }
                }
            }
            "slice" => {
                let [of, from, to] = self.count("a `str` or array, a start and an end")?;
                let (from, to) = (self.int(&from)?, self.int(&to)?);
                slice(of.value, of.span, from, to)
            }
            _ => self.concat(),
        }
    }

    fn concat(&mut self) -> Result<Value> {
        if self.args.is_empty() {
            return Err(wrong_count(self.function, self.span, "arrays or `str`s", 0));
        }
        let all: Vec<(Value, Span)> = self.args.iter().map(|a| (a.value.clone(), a.span)).collect();
        let ty = common_of(&all, "the arguments of `concat`")?;
        let array = matches!(ty, ColumnType::Array(_));
        if !array && !is_text(&ty) {
            return Err(wrong_type(self.function, &self.args[0], "arrays or `str`s"));
        }
        let ty = if array { ty } else { ColumnType::Text };
        let mut all = convert_all(all, &ty, "the arguments of `concat`")?.into_iter();
        let first = all.next().unwrap_or_else(Value::null);
        Ok(all.fold(first, |a, b| {
            if array {
                self.ours("items_joined", &[&a, &b], ty.clone())
            } else {
                let op = datafusion::logical_expr::Operator::StringConcat;
                let joined = fold_binary(a.expr.clone(), op, b.expr.clone());
                Value::new(joined, ColumnType::Text, &[&a, &b])
            }
        }))
    }

    fn types(&mut self) -> Result<Value> {
        let name = self.function.name.as_str();
        if matches!(name, "coalesce" | "if_null") {
            if self.args.is_empty() || (name == "if_null" && self.args.len() != 2) {
                let n = self.args.len();
                let takes = if name == "if_null" { "two values" } else { "at least one value" };
                return Err(wrong_count(self.function, self.span, takes, n));
            }
            let all = self.args.iter().map(|a| (a.value.clone(), a.span)).collect();
            return self.binder.coalesce(all, &format!("the arguments of `{name}`"));
        }
        let x = self.one()?;
        let Some(ty) = x.value.ty.clone() else {
            return match name {
                "is_null" => Ok(Value::leaf(lit(true), ColumnType::Boolean)),
                "type_of" => Ok(Value::leaf(text("null"), ColumnType::Text)),
                "to_string" => coerce(x.value, &ColumnType::Text, x.span, "the value"),
                "to_int" => coerce(x.value, &ColumnType::BigInt, x.span, "the value"),
                "to_float" => coerce(x.value, &ColumnType::Double, x.span, "the value"),
                _ => Ok(Value::leaf(lit(false), ColumnType::Boolean)),
            };
        };
        let value = &x.value;
        let is = match name {
            "type_of" => return Ok(Value::leaf(text(&ty.vpl_name()), ColumnType::Text)),
            "to_string" => return self.to_string(&x, &ty),
            "to_int" => return self.to_int(&x, &ty),
            "to_float" => return self.to_float(&x, &ty),
            "is_null" => {
                let test = value.expr.clone().is_null();
                return Ok(Value::new(test, ColumnType::Boolean, &[value]));
            }
            "is_int" => is_int(&ty),
            "is_float" => is_float(&ty),
            "is_string" => is_text(&ty),
            "is_bool" => ty == ColumnType::Boolean,
            "is_array" => matches!(ty, ColumnType::Array(_)),
            _ => matches!(ty, ColumnType::Map(..)),
        };
        // Types are known; what is open is whether there is a value at all.
        Ok(if is {
            Value::new(value.expr.clone().is_not_null(), ColumnType::Boolean, &[value])
        } else {
            Value::leaf(lit(false), ColumnType::Boolean)
        })
    }

    fn to_string(&self, x: &Argument, ty: &ColumnType) -> Result<Value> {
        match ty {
            t if is_text(t) => self.str(x),
            ColumnType::Interval => Ok(self.ours("interval_text", &[&x.value], ColumnType::Text)),
            ColumnType::Array(_) | ColumnType::Map(..) | ColumnType::Jsonb => {
                Err(wrong_type(self.function, x, "a single value"))
            }
            _ => Ok(Value::new(
                cast(x.value.expr.clone(), &ColumnType::Text.arrow()),
                ColumnType::Text,
                &[&x.value],
            )),
        }
    }

    fn to_int(&self, x: &Argument, ty: &ColumnType) -> Result<Value> {
        match ty {
            t if is_int(t) => self.int(x),
            t if is_float(t) => {
                let x = self.float(x)?;
                Ok(self.ours("trunc_to_int", &[&x], ColumnType::BigInt))
            }
            t if is_text(t) || *t == ColumnType::Boolean => Ok(Value::new(
                cast(x.value.expr.clone(), &ColumnType::BigInt.arrow()),
                ColumnType::BigInt,
                &[&x.value],
            )),
            _ => Err(wrong_type(self.function, x, "a number, `str` or `bool`")),
        }
    }

    fn to_float(&self, x: &Argument, ty: &ColumnType) -> Result<Value> {
        match ty {
            t if is_number(t) => self.float(x),
            ColumnType::Interval => {
                Ok(self.ours("interval_seconds", &[&x.value], ColumnType::Double))
            }
            t if is_text(t) || *t == ColumnType::Boolean => Ok(Value::new(
                cast(x.value.expr.clone(), &ColumnType::Double.arrow()),
                ColumnType::Double,
                &[&x.value],
            )),
            _ => Err(wrong_type(self.function, x, "a number, duration, `str` or `bool`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(NAMES.windows(2).all(|w| w[0] < w[1]));
    }
}
