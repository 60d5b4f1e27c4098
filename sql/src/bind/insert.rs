//! `INSERT`.

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::catalog::{Column, Object, ObjectId};
use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::{Column as PlanColumn, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{self, SetExpr, Spanned};

use super::context::Reader;
use super::returning::Returning;
use super::rules::BoundRules;
use super::values::{check_widths, fill_defaults, is_default, select_hints, unify, value_hints};
use super::{Binder, Result, assign, error};
use crate::statement::{
    AssignedValue, Assignment, ConflictAction, Ident, Insert, InsertSource, Query,
};

/// An `INSERT`.
#[derive(Debug, Clone)]
pub struct BoundInsert {
    /// Stream or table.
    pub object: ObjectId,
    /// The rows: exactly the columns of the object, in order, with their types. Defaults are
    /// filled in and generated columns computed; NOT NULL, CHECK and lengths are still to be
    /// checked.
    pub plan: LogicalPlan,
    /// `ON CONFLICT`.
    pub on_conflict: Option<BoundConflict>,
    /// `RETURNING`.
    pub returning: Option<Returning>,
    /// Types of `$1`, `$2`, ..
    pub params: Vec<ColumnType>,
    /// Streams and tables read by the rows' query.
    pub relations: Vec<ObjectId>,
}

/// What happens with a row whose key exists.
#[derive(Debug, Clone)]
pub enum BoundConflict {
    /// The row is left out.
    Nothing,
    /// The existing row is changed.
    Update {
        /// Columns of the existing row under the table's name (or alias), then the columns of the
        /// row to be inserted under `excluded`.
        schema: DFSchemaRef,
        /// Position of a column and its new value, over `schema`.
        assignments: Vec<(usize, Expr)>,
        /// Only rows on which this is true are changed, over `schema`.
        condition: Option<Expr>,
    },
}

impl Binder {
    /// Binds an `INSERT`.
    pub fn bind_insert(
        &self,
        insert: &Insert,
        declared: &[Option<ColumnType>],
    ) -> Result<BoundInsert> {
        let object = self.object(&insert.table)?;
        if object.pipeline().is_some() {
            return Err(Diagnostic::error(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot insert into pipeline \"{}\"", object.name),
            )
            .at(insert.table.span()));
        }
        let targets = targets(object, &insert.columns)?;
        let rules = self.bind_rules(object)?;
        let mut params = declared.to_vec();
        let mut relations = Vec::new();
        let given = match &insert.rows {
            InsertSource::Defaults => None,
            InsertSource::Query(query) => {
                let rows = self.rows(query, object, &targets, declared)?;
                params = rows.params.into_iter().map(Some).collect();
                relations = rows.relations;
                Some((rows.plan, rows.width))
            }
        };
        let plan = complete(object, &rules, &targets, given, insert)?;
        let plan = self.coerce(plan).map_err(error::unplaced)?;
        let alias = insert.alias.as_ref().unwrap_or(&insert.table.name).value.clone();
        let on_conflict = match &insert.on_conflict {
            None => None,
            Some(conflict) => {
                check_conflict_target(object, conflict)?;
                Some(match &conflict.action {
                    ConflictAction::Nothing => BoundConflict::Nothing,
                    ConflictAction::Update { assignments, condition } => self.conflict_update(
                        object,
                        &alias,
                        assignments,
                        condition.as_ref(),
                        &rules,
                    )?,
                })
            }
        };
        let returning = match &insert.returning {
            None => None,
            Some(items) => {
                let (bound, types) =
                    self.bind_returning(items, object, &alias, &insert.source, &params)?;
                params = types.into_iter().map(Some).collect();
                Some(bound)
            }
        };
        Ok(BoundInsert {
            object: object.id,
            plan,
            on_conflict,
            returning,
            params: params.into_iter().map(|t| t.unwrap_or(ColumnType::Text)).collect(),
            relations,
        })
    }

    /// The rows as written, each value coerced to its column.
    fn rows(
        &self,
        query: &Query,
        object: &Object,
        targets: &[usize],
        declared: &[Option<ColumnType>],
    ) -> Result<Rows> {
        let columns = object.columns();
        let mut query = query.clone();
        let hints = match query.ast.body.as_mut() {
            SetExpr::Values(values) => {
                let span = query.span;
                let source = query.source.clone();
                check_widths(values, targets, &source).map_err(|d| d.at_opt(Some(span)))?;
                fill_defaults(values, columns, targets)?;
                let hints = value_hints(values, columns, targets);
                if query.ast.with.is_none()
                    && query.ast.order_by.is_none()
                    && query.ast.limit_clause.is_none()
                {
                    unify(query.ast.as_mut(), columns, targets);
                }
                hints
            }
            SetExpr::Select(select) => select_hints(select, columns, targets),
            _ => BTreeMap::new(),
        };
        let mut declared = declared.to_vec();
        for (n, column_type) in hints {
            if declared.len() < n {
                declared.resize(n, None);
            }
            if let Some(slot @ None) = declared.get_mut(n - 1) {
                *slot = Some(column_type);
            }
        }
        let planned = self.plan(&query, Reader::Terminating, &declared, None)?;
        let width = planned.plan.schema().fields().len();
        if width > targets.len() {
            return Err(Diagnostic::syntax("INSERT has more expressions than target columns")
                .at(query.span));
        }
        let outputs = assign::outputs(&planned.plan);
        let mut exprs = Vec::with_capacity(width);
        for (i, (qualifier, field)) in planned.plan.schema().iter().enumerate() {
            let column = &columns[targets[i]];
            let input = Expr::Column(PlanColumn::new(qualifier.cloned(), field.name()));
            // Whether the type is still open is seen on the expression below.
            let written = outputs.get(i).cloned().unwrap_or_else(|| input.clone());
            assign::assign(written, field, column)
                .map_err(|d| d.at_opt(self.item_span(&query, i)).at_opt(Some(query.span)))?;
            let cast = assign::cast(input, field.data_type(), &column.column_type);
            exprs.push(cast.alias(&column.name));
        }
        let plan = LogicalPlanBuilder::from(planned.plan)
            .project(exprs)
            .and_then(LogicalPlanBuilder::build)
            .map_err(error::unplaced)?;
        Ok(Rows {
            plan,
            width,
            params: planned.params,
            relations: planned
                .found
                .bindings
                .values()
                .copied()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
        })
    }

    /// Where the i-th value of a query is written.
    fn item_span(&self, query: &Query, i: usize) -> Option<auspex_plan::Span> {
        let span = match query.ast.body.as_ref() {
            SetExpr::Select(select) => match select.projection.get(i)? {
                ast::SelectItem::UnnamedExpr(e)
                | ast::SelectItem::ExprWithAlias { expr: e, .. } => e.span(),
                _ => return None,
            },
            SetExpr::Values(values) => values.rows.first()?.content.get(i)?.span(),
            _ => return None,
        };
        query.source.span(span)
    }

    fn conflict_update(
        &self,
        object: &Object,
        alias: &str,
        assignments: &[Assignment],
        condition: Option<&crate::statement::Expr>,
        rules: &BoundRules,
    ) -> Result<BoundConflict> {
        let own = object.schema();
        let of = |name: &str| {
            DFSchema::try_from_qualified_schema(name.to_string(), &own).map_err(error::unplaced)
        };
        let joint = of(alias)?.join(&of("excluded")?).map_err(error::unplaced)?;
        let schema = Arc::new(joint);
        let assignments = self.assignments(assignments, object, &schema, alias, rules)?;
        let condition =
            condition.map(|c| self.bind_expr(&qualify(c, object, alias), &schema)).transpose()?;
        Ok(BoundConflict::Update { schema, assignments, condition })
    }

    /// New values of columns, over `schema`.
    pub(crate) fn assignments(
        &self,
        assignments: &[Assignment],
        object: &Object,
        schema: &DFSchemaRef,
        alias: &str,
        rules: &BoundRules,
    ) -> Result<Vec<(usize, Expr)>> {
        let mut bound: Vec<(usize, Expr)> = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            let i = column_index(object, &assignment.column)?;
            if bound.iter().any(|(taken, _)| *taken == i) {
                return Err(Diagnostic::syntax(format!(
                    "multiple assignments to same column \"{}\"",
                    assignment.column.value
                ))
                .at(assignment.column.span));
            }
            let column = &object.columns()[i];
            if column.generated.is_some() && matches!(assignment.value, AssignedValue::Expr(_)) {
                return Err(generated_always("updated", column).at(assignment.column.span));
            }
            let value = match &assignment.value {
                AssignedValue::Default if column.generated.is_some() => continue,
                AssignedValue::Default => default_of(rules, i, column),
                AssignedValue::Expr(expr) => {
                    use datafusion::logical_expr::ExprSchemable;
                    let value = self.bind_expr(&qualify(expr, object, alias), schema)?;
                    let (_, field) =
                        value.to_field(schema).map_err(|e| error::unplaced(e).at(expr.span))?;
                    let cast =
                        assign::assign(value, &field, column).map_err(|d| d.at(expr.span))?;
                    self.coerce_expr(cast, schema).map_err(error::unplaced)?
                }
            };
            bound.push((i, value));
        }
        Ok(bound)
    }
}

struct Rows {
    plan: LogicalPlan,
    width: usize,
    params: Vec<ColumnType>,
    relations: Vec<ObjectId>,
}

/// Unqualified columns of the table get its name: the row that is there, not `excluded`.
fn qualify(expr: &crate::statement::Expr, object: &Object, alias: &str) -> crate::statement::Expr {
    use std::ops::ControlFlow;
    let mut expr = expr.clone();
    let _: ControlFlow<()> = ast::visit_expressions_mut(&mut expr.ast, |e| {
        if let ast::Expr::Identifier(ident) = e {
            let name = super::names::fold(ident);
            let known = object.columns().iter().any(|c| c.name == name)
                || object.columns().iter().any(|c| c.name.eq_ignore_ascii_case(&name));
            if known {
                let table =
                    ast::Ident { value: alias.into(), quote_style: Some('"'), span: ident.span };
                *e = ast::Expr::CompoundIdentifier(vec![table, ident.clone()]);
            }
        }
        ControlFlow::Continue(())
    });
    expr
}

/// Positions of the columns named, or of all that can be given.
fn targets(object: &Object, names: &[Ident]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..object.columns().len()).collect());
    }
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let i = column_index(object, name)?;
        if found.contains(&i) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", name.value),
            )
            .at(name.span));
        }
        found.push(i);
    }
    Ok(found)
}

/// Position of a column by name; by the only one that differs in case when there is none.
pub(crate) fn column_index(object: &Object, name: &Ident) -> Result<usize> {
    let columns = object.columns();
    if let Some(i) = columns.iter().position(|c| c.name == name.value) {
        return Ok(i);
    }
    let mut similar =
        (0..columns.len()).filter(|i| columns[*i].name.eq_ignore_ascii_case(&name.value));
    if let (Some(only), None) = (similar.next(), similar.next()) {
        return Ok(only);
    }
    let error = Diagnostic::error(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{}\" of relation \"{}\" does not exist", name.value, object.name.name),
    )
    .at(name.span);
    Err(match did_you_mean(&name.value, columns.iter().map(|c| c.name.as_str())) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    })
}

fn default_of(rules: &BoundRules, i: usize, column: &Column) -> Expr {
    let null = || {
        Expr::Cast(Cast::new(
            Box::new(Expr::Literal(ScalarValue::Null, None)),
            column.column_type.arrow(),
        ))
    };
    rules.defaults[i].clone().unwrap_or_else(null)
}

fn generated_always(what: &str, column: &Column) -> Diagnostic {
    let text = match what {
        "updated" => format!("column \"{}\" can only be updated to DEFAULT", column.name),
        _ => format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name),
    };
    Diagnostic::error(SqlState("428C9"), text)
        .detail(format!("Column \"{}\" is a generated column.", column.name))
}

/// The rows with defaults for what was left out, and the generated columns.
fn complete(
    object: &Object,
    rules: &BoundRules,
    targets: &[usize],
    given: Option<(LogicalPlan, usize)>,
    insert: &Insert,
) -> Result<LogicalPlan> {
    let columns = object.columns();
    let (input, width) = match given {
        Some(given) => given,
        None => (LogicalPlanBuilder::empty(true).build().map_err(error::unplaced)?, 0),
    };
    let given: Vec<usize> = targets[..width].to_vec();
    if width < targets.len() && !insert.columns.is_empty() && width > 0 {
        return Err(Diagnostic::syntax("INSERT has more target columns than expressions")
            .at(insert.columns[width].span));
    }
    let mut exprs = Vec::with_capacity(columns.len());
    for (i, column) in columns.iter().enumerate() {
        let expr = match given.iter().position(|t| *t == i) {
            Some(at) => {
                let name = &columns[given[at]].name;
                if column.generated.is_some() && !only_default(insert, at) {
                    return Err(generated_always("inserted", column).at(insert.table.span()));
                }
                Expr::Column(PlanColumn::new_unqualified(name))
            }
            None => default_of(rules, i, column),
        };
        exprs.push(expr.alias(&column.name));
    }
    let mut plan = LogicalPlanBuilder::from(input)
        .project(exprs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(error::unplaced)?;
    if rules.generated.iter().any(Option::is_some) {
        let exprs: Vec<Expr> = columns
            .iter()
            .zip(&rules.generated)
            .map(|(column, generated)| match generated {
                Some(expr) => expr.clone().alias(&column.name),
                None => Expr::Column(PlanColumn::new_unqualified(&column.name)),
            })
            .collect();
        plan = LogicalPlanBuilder::from(plan)
            .project(exprs)
            .and_then(LogicalPlanBuilder::build)
            .map_err(error::unplaced)?;
    }
    Ok(plan)
}

/// Whether every row gives `DEFAULT` at this place.
fn only_default(insert: &Insert, at: usize) -> bool {
    let InsertSource::Query(query) = &insert.rows else { return true };
    match query.ast.body.as_ref() {
        SetExpr::Values(values) => {
            values.rows.iter().all(|r| r.content.get(at).is_some_and(is_default))
        }
        _ => false,
    }
}

fn check_conflict_target(object: &Object, conflict: &crate::statement::OnConflict) -> Result<()> {
    let Some(table) = object.table() else {
        return Err(Diagnostic::unsupported("a stream has no keys that could conflict")
            .hint("ON CONFLICT is for tables.")
            .at(conflict.span));
    };
    if conflict.columns.is_empty() {
        return Ok(());
    }
    let mut named =
        conflict.columns.iter().map(|c| column_index(object, c)).collect::<Result<Vec<_>>>()?;
    named.sort_unstable();
    named.dedup();
    let mut key = table.primary_key.clone();
    key.sort_unstable();
    if named != key {
        return Err(Diagnostic::error(
            SqlState::INVALID_COLUMN_REFERENCE,
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )
        .hint("Name the columns of the primary key.")
        .at(conflict.columns[0].span));
    }
    Ok(())
}
