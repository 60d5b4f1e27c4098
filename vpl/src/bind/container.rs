//! Arrays, maps and texts as containers: literals, `[i]`, `[a:b]`, `in`.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Span, SqlState};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr as PlanExpr, lit};

use super::calls::our;
use super::expression::{Binder, convert_all};
use super::problem::{Result, error, mismatch};
use super::value::{Extent, Value, cast, coerce, common_of, empty_array, is_int, is_text, text};
use crate::ast::{Expr, ExprKind, Ident};
use crate::codes;

impl<'a> Binder<'a> {
    pub(super) fn array(&mut self, items: &'a [Expr]) -> Result<Value> {
        if items.is_empty() {
            return Ok(empty_array(&ColumnType::Text));
        }
        let items: Vec<(Value, Span)> =
            items.iter().map(|i| Ok((self.bind(i)?, i.span))).collect::<Result<_>>()?;
        let item = common_of(&items, "the items of the array")?;
        let items = convert_all(items, &item, "the items of the array")?;
        let parts: Vec<&Value> = items.iter().collect();
        let array = make_array(items.iter().map(|i| i.expr.clone()).collect());
        let ty = ColumnType::Array(Box::new(item));
        Ok(self.typed(array, ty, &parts))
    }

    pub(super) fn map(&mut self, entries: &'a [(Ident, Expr)], span: Span) -> Result<Value> {
        if entries.is_empty() {
            return Err(super::problem::unsupported(span, "an empty map"));
        }
        for (i, (key, _)) in entries.iter().enumerate() {
            if entries[..i].iter().any(|(k, _)| k.name == key.name) {
                return Err(error(
                    SqlState::DUPLICATE_COLUMN,
                    codes::DUPLICATE_NAME,
                    key.span,
                    format!("the map has the key `{}` twice", key.name),
                ));
            }
        }
        let values: Vec<(Value, Span)> =
            entries.iter().map(|(_, v)| Ok((self.bind(v)?, v.span))).collect::<Result<_>>()?;
        let ty = common_of(&values, "the values of the map")?;
        let values = convert_all(values, &ty, "the values of the map")?;
        let args = entries
            .iter()
            .zip(&values)
            .flat_map(|((key, _), value)| [text(&key.name), value.expr.clone()])
            .collect();
        let parts: Vec<&Value> = values.iter().collect();
        let ty = ColumnType::Map(Box::new(ColumnType::Text), Box::new(ty));
        Ok(self.typed(our("map_of", args), ty, &parts))
    }

    pub(super) fn index(&mut self, base: &'a Expr, index: &'a Expr) -> Result<Value> {
        let (of, at) = (self.bind(base)?, self.bind(index)?);
        get(of, base.span, at, index.span)
    }

    pub(super) fn slice(
        &mut self,
        base: &'a Expr,
        from: Option<&'a Expr>,
        to: Option<&'a Expr>,
    ) -> Result<Value> {
        let of = self.bind(base)?;
        let from = match from {
            Some(e) => self.int(e, "the start of a slice")?,
            None => Value::leaf(lit(0i64), ColumnType::BigInt),
        };
        let to = match to {
            Some(e) => self.int(e, "the end of a slice")?,
            None => Value::leaf(lit(i64::MAX), ColumnType::BigInt),
        };
        slice(of, base.span, from, to)
    }

    pub(super) fn contains(
        &mut self,
        operand: &'a Expr,
        container: &'a Expr,
        span: Span,
    ) -> Result<Value> {
        let item = self.bind(operand)?;
        match &container.kind {
            ExprKind::Range { from, to, inclusive } => {
                self.in_range((item, operand.span), (from, to, *inclusive), span)
            }
            ExprKind::Array(items) if !items.is_empty() => {
                let mut all = vec![(item, operand.span)];
                for i in items {
                    all.push((self.bind(i)?, i.span));
                }
                let ty = common_of(&all, "the value and the items of `in`")?;
                let mut all = convert_all(all, &ty, "the value and the items of `in`")?;
                let extent = Extent::over(&all);
                let item = all.remove(0);
                let list = all.into_iter().map(|v| v.expr).collect();
                let expr = PlanExpr::InList(InList::new(Box::new(item.expr), list, false));
                Ok(Value { expr, ty: Some(ColumnType::Boolean), extent })
            }
            _ => {
                let of = self.bind(container)?;
                contains(of, container.span, item, operand.span)
            }
        }
    }
}

/// `of[at]`
pub(super) fn get(of: Value, of_span: Span, at: Value, at_span: Span) -> Result<Value> {
    match of.ty.clone() {
        Some(ColumnType::Array(item)) => {
            let at = coerce(at, &ColumnType::BigInt, at_span, "the position in an array")?;
            let args = vec![of.expr.clone(), at.expr.clone()];
            Ok(Value::new(our("item_at", args), *item, &[&of, &at]))
        }
        Some(ColumnType::Map(key, value)) => {
            let at = coerce(at, &key, at_span, "the key of this map")?;
            let args = vec![of.expr.clone(), at.expr.clone()];
            Ok(Value::new(our("map_get", args), *value, &[&of, &at]))
        }
        Some(ty) if is_text(&ty) => {
            let at = coerce(at, &ColumnType::BigInt, at_span, "the position in a `str`")?;
            let args = vec![of.expr.clone(), at.expr.clone()];
            Ok(Value::new(our("char_at", args), ColumnType::Text, &[&of, &at]))
        }
        _ => Err(mismatch(
            of_span,
            format!("`{}` cannot be indexed: only arrays, maps and `str` can", of.type_name()),
        )),
    }
}

/// `of[from:to]`
pub(super) fn slice(of: Value, of_span: Span, from: Value, to: Value) -> Result<Value> {
    let args = vec![of.expr.clone(), from.expr.clone(), to.expr.clone()];
    match of.ty.clone() {
        Some(ty @ ColumnType::Array(_)) => {
            Ok(Value::new(our("items_between", args), ty, &[&of, &from, &to]))
        }
        Some(ty) if is_text(&ty) => {
            Ok(Value::new(our("chars_between", args), ColumnType::Text, &[&of, &from, &to]))
        }
        _ => Err(mismatch(
            of_span,
            format!("`{}` has no slices: only arrays and `str` have", of.type_name()),
        )),
    }
}

/// `item in of`
pub(super) fn contains(of: Value, of_span: Span, item: Value, item_span: Span) -> Result<Value> {
    let (name, wanted) = match of.ty.clone() {
        Some(ColumnType::Array(inner))
            if matches!(*inner, ColumnType::Array(_) | ColumnType::Map(..)) =>
        {
            return Err(super::problem::unsupported(of_span, "`in` over nested arrays"));
        }
        Some(ColumnType::Array(inner)) => ("contains_item", *inner),
        Some(ColumnType::Map(key, _)) => ("map_has", *key),
        Some(ty) if is_text(&ty) => {
            let item = coerce(item, &ColumnType::Text, item_span, "the text looked for")?;
            let args = vec![of.expr.clone(), item.expr.clone()];
            let found = datafusion::functions::string::contains().call(args);
            return Ok(Value::new(found, ColumnType::Boolean, &[&of, &item]));
        }
        _ => {
            return Err(mismatch(
                of_span,
                format!("`{}` contains nothing: only arrays, maps and `str` do", of.type_name()),
            ));
        }
    };
    // A float may be looked for among ints: then the ints are taken as floats.
    let (of, wanted) = match &item.ty {
        Some(ColumnType::Double | ColumnType::Real)
            if is_int(&wanted) && name == "contains_item" =>
        {
            let floats = ColumnType::Array(Box::new(ColumnType::Double));
            let expr = cast(of.expr.clone(), &floats.arrow());
            (Value { expr, ty: Some(floats), extent: of.extent }, ColumnType::Double)
        }
        _ => (of, wanted),
    };
    let item = coerce(item, &wanted, item_span, "the value looked for")?;
    let args = vec![of.expr.clone(), item.expr.clone()];
    Ok(Value::new(our(name, args), ColumnType::Boolean, &[&of, &item]))
}
