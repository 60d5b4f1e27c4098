//! Built-in functions over text and over points in time.

use auspex_plan::ColumnType;
use datafusion::common::ScalarValue;
use datafusion::functions::{datetime, regex, string};
use datafusion::logical_expr::{Expr, Operator, lit};

use super::builtins::{Argument, Call};
use super::calls::{wrong_count, wrong_type};
use super::container::slice;
use super::operators::fold_binary;
use super::problem::Result;
use super::value::{Value, cast, text};

impl Call<'_, '_> {
    pub(super) fn time(&mut self) -> Result<Value> {
        let name = self.function.name.as_str();
        let time = |a: &Argument| self.to(a, &ColumnType::Timestamptz, "a `timestamp`");
        if name == "date_trunc" {
            let (unit, at) = self.two("a unit and a timestamp")?;
            let literal = matches!(&unit.value.expr,
                Expr::Literal(ScalarValue::Utf8View(Some(u)), _)
                if ["second", "minute", "hour", "day", "week", "month", "quarter", "year"].contains(&u.as_str()));
            if !literal {
                let units = "one of \"second\", \"minute\", \"hour\", \"day\", \"week\", \"month\", \"quarter\", \"year\"";
                return Err(wrong_type(self.function, &unit, units));
            }
            let at = time(&at)?;
            return Ok(self.apply(
                &datetime::date_trunc(),
                &[&unit.value, &at],
                ColumnType::Timestamptz,
            ));
        }
        let at = time(&self.one()?)?;
        if matches!(name, "epoch" | "epoch_ms") {
            let micros = cast(at.expr.clone(), &ColumnType::BigInt.arrow());
            let (expr, ty) = if name == "epoch" {
                let micros = cast(micros, &ColumnType::Double.arrow());
                let seconds = fold_binary(micros, Operator::Divide, lit(1e6));
                (seconds, ColumnType::Double)
            } else {
                let op = Operator::Divide;
                (fold_binary(micros, op, lit(1000i64)), ColumnType::BigInt)
            };
            return Ok(Value::new(expr, ty, &[&at]));
        }
        let part = match name {
            "day_of_week" => "dow",
            "day_of_year" => "doy",
            other => other,
        };
        let part = Value::leaf(text(part), ColumnType::Text);
        let number = self.apply(&datetime::date_part(), &[&part, &at], ColumnType::BigInt);
        if name != "millisecond" {
            return Ok(number);
        }
        // DataFusion counts the whole seconds in: only the rest below a second is meant.
        let op = Operator::Modulo;
        let rest = fold_binary(number.expr.clone(), op, lit(1000i64));
        Ok(Value::new(rest, ColumnType::BigInt, &[&number]))
    }

    pub(super) fn string(&mut self) -> Result<Value> {
        use ColumnType::{Boolean, Text};
        match self.function.name.as_str() {
            "lower" | "lowercase" | "to_lower" => {
                let s = self.str(&self.one()?)?;
                Ok(self.apply(&string::lower(), &[&s], Text))
            }
            "upper" | "uppercase" | "to_upper" => {
                let s = self.str(&self.one()?)?;
                Ok(self.apply(&string::upper(), &[&s], Text))
            }
            name @ ("trim" | "ltrim" | "rtrim") => {
                let s = self.str(&self.one()?)?;
                let blanks = Value::leaf(text(" \t\r\n"), Text);
                let udf = match name {
                    "trim" => string::btrim(),
                    "ltrim" => string::ltrim(),
                    _ => string::rtrim(),
                };
                Ok(self.apply(&udf, &[&s, &blanks], Text))
            }
            name @ ("starts_with" | "ends_with" | "matches") => {
                let (s, part) = self.two("two `str`s")?;
                let (s, part) = (self.str(&s)?, self.str(&part)?);
                let udf = match name {
                    "starts_with" => string::starts_with(),
                    "ends_with" => string::ends_with(),
                    _ => regex::regexp_like(),
                };
                Ok(self.apply(&udf, &[&s, &part], Boolean))
            }
            "replace" => {
                let [s, from, to] = self.count("three `str`s")?;
                let (s, from, to) = (self.str(&s)?, self.str(&from)?, self.str(&to)?);
                Ok(self.apply(&string::replace(), &[&s, &from, &to], Text))
            }
            "split" => {
                let (s, separator) = self.two("two `str`s")?;
                let (s, separator) = (self.str(&s)?, self.str(&separator)?);
                Ok(self.ours("text_split", &[&s, &separator], ColumnType::Array(Box::new(Text))))
            }
            "join" => {
                let (array, separator) = self.two("an array and a separator")?;
                let texts = ColumnType::Array(Box::new(Text));
                let items = self.to(&array, &texts, "an array of `str`")?;
                let separator = self.str(&separator)?;
                Ok(self.ours("text_join", &[&items, &separator], Text))
            }
            _ => {
                let (s, from, to) = match self.args.as_slice() {
                    [s, from] => (s, from, None),
                    [s, from, to] => (s, from, Some(to)),
                    other => {
                        let takes = "a `str`, a start and perhaps an end";
                        return Err(wrong_count(self.function, self.span, takes, other.len()));
                    }
                };
                let (text, from) = (self.str(s)?, self.int(from)?);
                let to = match to {
                    Some(to) => self.int(to)?,
                    None => Value::leaf(lit(i64::MAX), ColumnType::BigInt),
                };
                slice(text, s.span, from, to)
            }
        }
    }
}
