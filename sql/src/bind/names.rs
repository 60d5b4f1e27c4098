//! Names of output columns, as PostgreSQL's `FigureColname` chooses them.

use std::collections::BTreeSet;

use sqlparser::ast::{self, DataType, Expr, Query, Select, SelectItem, SetExpr, Value};
use sqlparser::tokenizer::Span as AstSpan;

use super::resolve::quoted;
/// Separates a name from what makes it unique: PostgreSQL lets output names repeat, DataFusion
/// does not.
pub(crate) use crate::marks::MARK;

/// The name without what makes it unique.
pub(crate) fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// The name of an expression without alias.
pub(crate) fn figure(expr: &Expr) -> String {
    internal(expr).map_or_else(|| "?column?".into(), |(name, _)| name)
}

/// Name and whether it is a strong one, which survives a cast.
fn internal(expr: &Expr) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_string(), true));
    match expr {
        Expr::Identifier(ident) => Some((fold(ident), true)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|p| (fold(p), true)),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => internal(inner),
        Expr::Function(function) => {
            let name = function.name.0.last()?.as_ident()?;
            Some((fold(name), true))
        }
        Expr::Cast { expr, data_type, .. } => match internal(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_name(data_type), false)),
        },
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), false)),
        Expr::Interval(_) => Some(("interval".into(), false)),
        Expr::Value(value) => match value.value {
            Value::Boolean(_) => Some(("bool".into(), false)),
            _ => None,
        },
        Expr::Case { else_result, .. } => match else_result.as_ref().and_then(|e| internal(e)) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".into(), false)),
        },
        Expr::Exists { .. } => strong("exists"),
        Expr::Subquery(query) => first_target(&query.body),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(Expr::Identifier(name)) => Some((fold(name), true)),
                _ => None,
            });
            field.or_else(|| internal(root))
        }
        _ => None,
    }
}

fn first_target(body: &SetExpr) -> Option<(String, bool)> {
    match body {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::UnnamedExpr(expr) => internal(expr),
            SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), true)),
            _ => None,
        },
        SetExpr::Query(query) => first_target(&query.body),
        SetExpr::SetOperation { left, .. } => first_target(left),
        _ => None,
    }
}

/// An identifier folded as PostgreSQL folds it.
pub(crate) fn fold(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// PostgreSQL's internal name of a type.
fn type_name(data_type: &DataType) -> String {
    use auspex_plan::ColumnType as C;
    let name = match crate::parse::column_type(data_type) {
        Ok(C::Boolean) => "bool",
        Ok(C::SmallInt) => "int2",
        Ok(C::Integer) => "int4",
        Ok(C::BigInt) => "int8",
        Ok(C::Real) => "float4",
        Ok(C::Double) => "float8",
        Ok(C::Numeric { .. }) => "numeric",
        Ok(C::Text) => match data_type {
            DataType::Custom(name, _) => {
                return name.0.last().and_then(|p| p.as_ident()).map_or("text".into(), fold);
            }
            DataType::Text => "text",
            DataType::Regclass => "regclass",
            _ => "varchar",
        },
        Ok(C::Varchar(_)) => "varchar",
        Ok(C::Bytea) => "bytea",
        Ok(C::Uuid) => "uuid",
        Ok(C::Timestamptz) => "timestamptz",
        Ok(C::Timestamp) => "timestamp",
        Ok(C::Date) => "date",
        Ok(C::Time) => "time",
        Ok(C::Interval) => "interval",
        Ok(C::Jsonb | C::Map(..)) => "jsonb",
        Ok(C::Array(_)) => "array",
        Err(_) => return data_type.to_string().to_ascii_lowercase(),
    };
    name.to_string()
}

/// Gives each item of the select list the name PostgreSQL would give it, unique by [`MARK`].
pub(crate) fn name_items(select: &mut Select) {
    let wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut used = BTreeSet::new();
    for (i, item) in select.projection.iter_mut().enumerate() {
        let (expr, name, plain) = match item {
            SelectItem::UnnamedExpr(expr) => {
                let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                (expr.clone(), figure(expr), plain)
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), fold(alias), false),
            _ => continue,
        };
        let fresh = used.insert(name.clone());
        let unnamed = matches!(item, SelectItem::UnnamedExpr(_));
        if fresh && (!unnamed || (plain && !wildcard)) {
            continue;
        }
        let unique = if fresh && !(plain && wildcard) { name } else { format!("{name}{MARK}{i}") };
        *item = SelectItem::ExprWithAlias { expr, alias: quoted(&unique, AstSpan::empty()) };
    }
}

/// `SELECT DISTINCT f(x) .. ORDER BY f(x)` orders by the output column: under the name that the
/// column gets, DataFusion would not know it again.
pub(crate) fn order_by_position(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    if select.distinct.is_none() {
        return;
    }
    let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), .. }) = &mut query.order_by
    else {
        return;
    };
    let mut items = Vec::with_capacity(select.projection.len());
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                items.push(expr.to_string());
            }
            // Behind a `*` the positions are not known.
            _ => return,
        }
    }
    for by in order {
        if matches!(by.expr, Expr::Identifier(_) | Expr::Value(_)) {
            continue;
        }
        let wanted = by.expr.to_string();
        if let Some(i) = items.iter().position(|item| *item == wanted) {
            by.expr = Expr::Value(Value::Number((i + 1).to_string(), false).with_empty_span());
        }
    }
}
