//! `UPDATE` and `DELETE`.

use auspex_plan::catalog::{Object, ObjectId};
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::Column as PlanColumn;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast;

use super::context::Reader;
use super::insert::column_index;
use super::returning::Returning;
use super::{Binder, Result, assign, error};
use crate::source::Source;
use crate::statement::{AssignedValue, Delete, Expr as SqlExpr, Ident, Name, Query, Update};

/// An `UPDATE` or `DELETE`.
#[derive(Debug, Clone)]
pub struct BoundChange {
    /// Table.
    pub object: ObjectId,
    /// The rows concerned. `UPDATE`: the old values of the primary key's columns, then all columns
    /// of the new row with their types (generated columns computed). `DELETE`: all columns of the
    /// old row.
    pub plan: LogicalPlan,
    /// Number of columns before the new row: those of the key for `UPDATE`, 0 for `DELETE`.
    pub key_columns: usize,
    /// `RETURNING`.
    pub returning: Option<Returning>,
    /// Types of `$1`, `$2`, ..
    pub params: Vec<ColumnType>,
    /// Streams and tables read, the changed one included.
    pub relations: Vec<ObjectId>,
}

impl Binder {
    /// Binds an `UPDATE`.
    pub fn bind_update(
        &self,
        update: &Update,
        declared: &[Option<ColumnType>],
    ) -> Result<BoundChange> {
        let object = self.changeable(&update.table, "update")?;
        let key = primary_key(object);
        let rules = self.bind_rules(object)?;
        let columns = object.columns();
        let alias = alias_of(update.alias.as_ref(), &update.table);
        let mut values: Vec<Option<&AssignedValue>> = vec![None; columns.len()];
        let mut hints = std::collections::BTreeMap::new();
        for assignment in &update.assignments {
            let i = column_index(object, &assignment.column)?;
            if columns[i].generated.is_some() && matches!(assignment.value, AssignedValue::Expr(_))
            {
                return Err(Diagnostic::error(
                    SqlState("428C9"),
                    format!("column \"{}\" can only be updated to DEFAULT", columns[i].name),
                )
                .detail(format!("Column \"{}\" is a generated column.", columns[i].name))
                .at(assignment.column.span));
            }
            if values[i].replace(&assignment.value).is_some() {
                return Err(Diagnostic::syntax(format!(
                    "multiple assignments to same column \"{}\"",
                    columns[i].name
                ))
                .at(assignment.column.span));
            }
            if let AssignedValue::Expr(e) = &assignment.value
                && let ast::Expr::Value(v) = &e.ast
                && let ast::Value::Placeholder(id) = &v.value
                && let Some(n) = super::resolve::parameter(id)
            {
                hints.entry(n).or_insert(columns[i].column_type.clone());
            }
        }
        let declared = with_hints(declared, hints);
        let mut items: Vec<ast::Expr> =
            key.iter().map(|i| column_expr(&alias, &columns[*i].name)).collect();
        for (i, column) in columns.iter().enumerate() {
            items.push(match values[i] {
                Some(AssignedValue::Expr(e)) => e.ast.clone(),
                Some(AssignedValue::Default) => match &column.default {
                    Some(text) => crate::parse::parse_expression(text)?.ast,
                    None => ast::Expr::Value(ast::Value::Null.with_empty_span()),
                },
                None => column_expr(&alias, &column.name),
            });
        }
        let query =
            self.select(&update.table, &alias, items, update.condition.as_ref(), &update.source)?;
        let planned = self.plan(&query, Reader::Terminating, &declared, None)?;
        let outputs = assign::outputs(&planned.plan);
        let mut exprs = Vec::with_capacity(outputs.len());
        for (n, (qualifier, field)) in planned.plan.schema().iter().enumerate() {
            let input = Expr::Column(PlanColumn::new(qualifier.cloned(), field.name()));
            match n.checked_sub(key.len()) {
                None => exprs.push(input.alias(format!("key{n}"))),
                Some(i) => {
                    let column = &columns[i];
                    let place = match values[i] {
                        Some(AssignedValue::Expr(e)) => e.span,
                        _ => update.table.span(),
                    };
                    assign::assign(outputs[n].clone(), field, column).map_err(|d| d.at(place))?;
                    let cast = assign::cast(input, field.data_type(), &column.column_type);
                    exprs.push(cast.alias(&column.name));
                }
            }
        }
        let mut plan = project(planned.plan, exprs)?;
        if rules.generated.iter().any(Option::is_some) {
            let mut exprs: Vec<Expr> = (0..key.len())
                .map(|n| Expr::Column(PlanColumn::new_unqualified(format!("key{n}"))))
                .collect();
            exprs.extend(columns.iter().zip(&rules.generated).map(|(c, g)| match g {
                Some(expr) => expr.clone().alias(&c.name),
                None => Expr::Column(PlanColumn::new_unqualified(&c.name)),
            }));
            plan = project(plan, exprs)?;
        }
        let plan = self.coerce(plan).map_err(error::unplaced)?;
        let mut params = planned.params;
        let returning = self.returning_of(
            update.returning.as_deref(),
            object,
            &alias,
            &update.source,
            &mut params,
        )?;
        Ok(BoundChange {
            object: object.id,
            plan,
            key_columns: key.len(),
            returning,
            params,
            relations: planned.found.relations().into_iter().collect(),
        })
    }

    /// Binds a `DELETE`.
    pub fn bind_delete(
        &self,
        delete: &Delete,
        declared: &[Option<ColumnType>],
    ) -> Result<BoundChange> {
        let object = self.changeable(&delete.table, "delete from")?;
        let alias = alias_of(delete.alias.as_ref(), &delete.table);
        let items = object.columns().iter().map(|c| column_expr(&alias, &c.name)).collect();
        let query =
            self.select(&delete.table, &alias, items, delete.condition.as_ref(), &delete.source)?;
        let planned = self.plan(&query, Reader::Terminating, declared, None)?;
        let mut params = planned.params;
        let returning = self.returning_of(
            delete.returning.as_deref(),
            object,
            &alias,
            &delete.source,
            &mut params,
        )?;
        Ok(BoundChange {
            object: object.id,
            plan: planned.plan,
            key_columns: 0,
            returning,
            params,
            relations: planned.found.relations().into_iter().collect(),
        })
    }

    fn changeable(&self, name: &Name, verb: &str) -> Result<&Object> {
        let object = self.object(name)?;
        if object.table().is_some() {
            return Ok(object);
        }
        let kind = object.kind_name();
        let error = Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("cannot {verb} {kind} \"{}\"", object.name),
        )
        .at(name.span());
        Err(if object.stream().is_some() {
            error.hint("Rows of a stream never change; retention removes them.")
        } else {
            error
        })
    }

    /// `SELECT items FROM table AS alias WHERE condition`.
    fn select(
        &self,
        table: &Name,
        alias: &str,
        items: Vec<ast::Expr>,
        condition: Option<&SqlExpr>,
        source: &std::sync::Arc<Source>,
    ) -> Result<Query> {
        let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
        let object = self.object(table)?;
        let text = format!(
            "SELECT 1 FROM {}.{} AS {}",
            quote(&object.name.schema),
            quote(&object.name.name),
            quote(alias)
        );
        let mut ast = crate::parse::parse_query(&text)?.ast;
        if let ast::SetExpr::Select(select) = ast.body.as_mut() {
            select.projection = items
                .into_iter()
                .enumerate()
                .map(|(i, expr)| ast::SelectItem::ExprWithAlias {
                    expr,
                    alias: ast::Ident::with_quote('"', format!("value{i}")),
                })
                .collect();
            select.selection = condition.map(|c| c.ast.clone());
        }
        let span = condition.map_or_else(|| table.span(), |c| c.span);
        Ok(Query { ast, emission: Default::default(), span, source: source.clone() })
    }

    fn returning_of(
        &self,
        items: Option<&[ast::SelectItem]>,
        object: &Object,
        alias: &str,
        source: &std::sync::Arc<Source>,
        params: &mut Vec<ColumnType>,
    ) -> Result<Option<Returning>> {
        let Some(items) = items else { return Ok(None) };
        let declared: Vec<Option<ColumnType>> = params.iter().cloned().map(Some).collect();
        let (bound, types) = self.bind_returning(items, object, alias, source, &declared)?;
        *params = types;
        Ok(Some(bound))
    }
}

fn with_hints(
    declared: &[Option<ColumnType>],
    hints: std::collections::BTreeMap<usize, ColumnType>,
) -> Vec<Option<ColumnType>> {
    let mut declared = declared.to_vec();
    for (n, column_type) in hints {
        if declared.len() < n {
            declared.resize(n, None);
        }
        if let Some(slot @ None) = declared.get_mut(n - 1) {
            *slot = Some(column_type);
        }
    }
    declared
}

fn primary_key(object: &Object) -> &[usize] {
    object.table().map_or(&[], |t| t.primary_key.as_slice())
}

fn alias_of(alias: Option<&Ident>, table: &Name) -> String {
    alias.unwrap_or(&table.name).value.clone()
}

fn column_expr(alias: &str, column: &str) -> ast::Expr {
    ast::Expr::CompoundIdentifier(vec![
        ast::Ident::with_quote('"', alias),
        ast::Ident::with_quote('"', column),
    ])
}

fn project(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(error::unplaced)
}
