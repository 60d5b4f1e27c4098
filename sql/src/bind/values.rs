//! The `VALUES` of an `INSERT`: defaults, literals of undecided type, parameters.

use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::catalog::Column;
use auspex_plan::{ColumnType, Diagnostic};
use sqlparser::ast::{self, SetExpr, Spanned};

use super::Result;
use crate::source::Source;

pub(crate) fn check_widths(values: &ast::Values, targets: &[usize], source: &Source) -> Result<()> {
    let width = values.rows.first().map_or(0, |r| r.content.len());
    for row in &values.rows {
        let place = |i: usize| row.content.get(i).and_then(|e| source.span(e.span()));
        if row.content.len() != width {
            return Err(
                Diagnostic::syntax("VALUES lists must all be the same length").at_opt(place(0))
            );
        }
        if row.content.len() > targets.len() {
            return Err(Diagnostic::syntax("INSERT has more expressions than target columns")
                .at_opt(place(targets.len())));
        }
    }
    Ok(())
}

pub(crate) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// Replaces `DEFAULT` by the default of its column.
pub(crate) fn fill_defaults(
    values: &mut ast::Values,
    columns: &[Column],
    targets: &[usize],
) -> Result<()> {
    for row in &mut values.rows {
        for (i, value) in row.content.iter_mut().enumerate() {
            if is_default(value) {
                *value = match &columns[targets[i]].default {
                    Some(text) => crate::parse::parse_expression(text)?.ast,
                    None => ast::Expr::Value(ast::Value::Null.with_empty_span()),
                };
            }
        }
    }
    Ok(())
}

/// Casts each value to its column's type where the column mixes literals of several kinds: within
/// one VALUES column DataFusion would look for a common type of all rows instead.
pub(crate) fn unify(query: &mut ast::Query, columns: &[Column], targets: &[usize]) {
    let SetExpr::Values(values) = query.body.as_mut() else { return };
    let has_query = values.rows.iter().flat_map(|r| &r.content).any(|e| {
        matches!(
            e,
            ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. }
        )
    });
    let one_row = values.rows.len() == 1;
    if has_query || one_row {
        // As SELECT, whose items keep their own types and may hold subqueries.
        let rows = std::mem::take(&mut values.rows);
        if let Some(body) =
            rows.into_iter().map(row_as_select).reduce(|left, right| SetExpr::SetOperation {
                left: Box::new(left),
                op: ast::SetOperator::Union,
                set_quantifier: ast::SetQuantifier::All,
                right: Box::new(right),
            })
        {
            *query.body = body;
        }
        return;
    }
    let width = values.rows[0].content.len();
    for i in 0..width {
        let target = &columns[targets[i]].column_type;
        let kinds: BTreeSet<u8> =
            values.rows.iter().map(|r| literal_kind(&r.content[i])).filter(|k| *k > 0).collect();
        if kinds.len() > 1 || kinds.contains(&TEXT) && !is_text(target) {
            for row in &mut values.rows {
                let value = std::mem::replace(
                    &mut row.content[i],
                    ast::Expr::Value(ast::Value::Null.with_empty_span()),
                );
                row.content[i] =
                    if literal_kind(&value) == OTHER { value } else { cast_to(value, target) };
            }
        }
    }
}

const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const BOOLEAN: u8 = 3;
const OTHER: u8 = 4;

/// Kind of a literal; 0 for NULL and parameters, which have none.
fn literal_kind(expr: &ast::Expr) -> u8 {
    match expr {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::Number(..) => NUMBER,
            ast::Value::Boolean(_) => BOOLEAN,
            ast::Value::Null | ast::Value::Placeholder(_) => 0,
            _ => TEXT,
        },
        ast::Expr::UnaryOp { expr, op: ast::UnaryOperator::Minus | ast::UnaryOperator::Plus } => {
            literal_kind(expr)
        }
        _ => OTHER,
    }
}

fn is_text(t: &ColumnType) -> bool {
    matches!(t, ColumnType::Text | ColumnType::Varchar(_))
}

/// `CAST(value AS type)`; a type of no name here stays as it is.
fn cast_to(value: ast::Expr, target: &ColumnType) -> ast::Expr {
    let name = match target {
        ColumnType::Varchar(_) => "text".to_string(),
        other => other.to_string(),
    };
    let Ok(template) = crate::parse::parse_expression(&format!("CAST(NULL AS {name})")) else {
        return value;
    };
    match template.ast {
        ast::Expr::Cast { kind, data_type, format, array, .. } => {
            ast::Expr::Cast { kind, expr: Box::new(value), data_type, format, array }
        }
        _ => value,
    }
}

fn row_as_select(row: ast::Parens<Vec<ast::Expr>>) -> SetExpr {
    let items = row
        .content
        .into_iter()
        .enumerate()
        .map(|(i, expr)| ast::SelectItem::ExprWithAlias {
            expr,
            alias: ast::Ident::with_quote('"', format!("column{}", i + 1)),
        })
        .collect();
    match crate::parse::parse_query("SELECT 1").map(|q| *q.ast.body) {
        Ok(SetExpr::Select(mut select)) => {
            select.projection = items;
            SetExpr::Select(select)
        }
        _ => unreachable!("the text is a SELECT"),
    }
}

/// Types of parameters that are values of a row.
pub(crate) fn value_hints(
    values: &ast::Values,
    columns: &[Column],
    targets: &[usize],
) -> BTreeMap<usize, ColumnType> {
    let mut hints = BTreeMap::new();
    for row in &values.rows {
        for (value, target) in row.content.iter().zip(targets) {
            hint(value, &columns[*target], &mut hints);
        }
    }
    hints
}

pub(crate) fn select_hints(
    select: &ast::Select,
    columns: &[Column],
    targets: &[usize],
) -> BTreeMap<usize, ColumnType> {
    let mut hints = BTreeMap::new();
    for (item, target) in select.projection.iter().zip(targets) {
        match item {
            ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. } => {
                hint(e, &columns[*target], &mut hints);
            }
            // Behind a `*` the positions are not known.
            _ => break,
        }
    }
    hints
}

fn hint(value: &ast::Expr, column: &Column, hints: &mut BTreeMap<usize, ColumnType>) {
    if let ast::Expr::Value(v) = value
        && let ast::Value::Placeholder(id) = &v.value
        && let Some(n) = super::resolve::parameter(id)
    {
        hints.entry(n).or_insert_with(|| column.column_type.clone());
    }
}
