//! Queries that end.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use auspex_plan::catalog::ObjectId;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::optimizer::Analyzer;
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast;

use super::context::{Context, Reader};
use super::parameters::Parameters;
use super::resolve::{Found, Resolver};
use super::stream::FromPlanner;
use super::{Binder, Result, error, names};
use crate::source::Source;
use crate::statement::Query;

/// A query that ends.
#[derive(Debug, Clone)]
pub struct BoundQuery {
    /// The plan. Its fields have the types of [`BoundQuery::columns`], and names that are unique.
    pub plan: LogicalPlan,
    /// Result columns as the client sees them: types of [`ColumnType`], names that may repeat.
    pub columns: SchemaRef,
    /// Types of `$1`, `$2`, ..
    pub params: Vec<ColumnType>,
    /// Streams and tables read, each once, ascending.
    pub relations: Vec<ObjectId>,
}

/// A plan with what was found on the way.
pub(crate) struct Planned {
    pub(crate) plan: LogicalPlan,
    pub(crate) found: Found,
    pub(crate) params: Vec<ColumnType>,
}

impl Binder {
    /// Binds a query. `declared` are the parameter types the client gave.
    pub fn bind_query(&self, query: &Query, declared: &[Option<ColumnType>]) -> Result<BoundQuery> {
        let planned = self.plan(query, Reader::Terminating, declared, None)?;
        let plan =
            canonical(planned.plan).and_then(|plan| self.coerce(plan)).map_err(error::unplaced)?;
        let columns = shown_columns(&plan);
        Ok(BoundQuery {
            columns,
            plan,
            params: planned.params,
            relations: planned.found.relations().into_iter().collect(),
        })
    }

    /// Coerces types, and gives casts their meaning. Doing it again changes nothing.
    pub(crate) fn coerce(&self, plan: LogicalPlan) -> datafusion::common::Result<LogicalPlan> {
        let config = super::context::session_config();
        let plan = Analyzer::new().execute_and_check(plan, config.options(), |_, _| {})?;
        super::casts::replace(
            plan,
            super::casts::Casts { functions: &self.functions, zone: self.zone },
        )
    }

    /// Plans a query; `extra` is a relation besides those of the catalog.
    pub(crate) fn plan(
        &self,
        query: &Query,
        reader: Reader,
        declared: &[Option<ColumnType>],
        extra: Option<(String, Arc<dyn TableSource>)>,
    ) -> Result<Planned> {
        if let (Reader::Terminating, Some(span)) = (reader, query.emission.span()) {
            return Err(Diagnostic::unsupported("a query that ends has nothing to emit later")
                .hint("EMIT and OUTPUT belong to CREATE STREAM .. AS and CREATE MATERIALIZED VIEW.")
                .at(span));
        }
        let mut ast = query.ast.clone();
        let mut params = Parameters::new(ast.as_ref(), declared).map_err(|d| d.at(query.span))?;
        let mut resolver = Resolver::new(self, &query.source, reader);
        resolver.known.extend(extra.iter().map(|(name, _)| name.clone()));
        let found = resolver.query(&mut ast)?;
        params.suggest(&found.casts);
        let mut context = Context::new(self, reader, found.system_columns);
        context.extra = extra;
        if !found.windows.is_empty() {
            let windows = found.windows.clone();
            context.relations =
                vec![Arc::new(FromPlanner { binder: self.clone(), reader, windows })];
        }
        let mut plan = plan_ast(&context, &mut ast, &params, &query.source)?;
        if !params.complete() {
            params.infer(&plan);
            plan = plan_ast(&context, &mut ast, &params, &query.source)?;
        }
        let plan = self.coerce(plan).map_err(|e| error::planning(e, &ast, &query.source))?;
        Ok(Planned { plan, found, params: params.into_types() })
    }
}

/// Lets DataFusion plan, and plan again with the exact name where a column only differs in case
/// (columns made from VPL are often in mixed case).
fn plan_ast(
    context: &Context<'_>,
    query: &mut ast::Query,
    params: &Parameters,
    source: &Source,
) -> Result<LogicalPlan> {
    /// One round per column name; a query with more of them has another problem.
    const ROUNDS: usize = 64;
    for _ in 0..ROUNDS {
        let planner = context.planner();
        let mut state = PlannerContext::new().with_prepare_param_data_types(params.fields());
        let statement = ast::Statement::Query(Box::new(query.clone()));
        match planner.sql_statement_to_plan_with_context(statement, &mut state) {
            Ok(plan) => return Ok(plan),
            Err(e) => match case_slip(&e) {
                Some((written, exact)) if rename(query, &written, &exact) => {}
                _ => return Err(error::planning(e, query, source)),
            },
        }
    }
    Err(Diagnostic::error(SqlState::UNDEFINED_COLUMN, "too many column names differ in case"))
}

/// The written and the exact name when the only fault is the case of a column.
pub(crate) fn case_slip(error: &DataFusionError) -> Option<(String, String)> {
    let DataFusionError::SchemaError(schema, _) = root(error) else { return None };
    let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref() else { return None };
    let mut similar = valid_fields.iter().filter(|v| {
        v.name.eq_ignore_ascii_case(&field.name)
            && field
                .relation
                .as_ref()
                .is_none_or(|r| v.relation.as_ref().is_some_and(|of| of.table() == r.table()))
    });
    match (similar.next(), similar.next()) {
        (Some(only), None) if only.name != field.name => {
            Some((field.name.clone(), only.name.clone()))
        }
        _ => None,
    }
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Collection(all) => all.first().map_or(error, root),
        _ => error,
    }
}

/// Writes the exact name of a column in; false when nothing was changed.
pub(crate) fn rename<V: ast::VisitMut>(node: &mut V, written: &str, exact: &str) -> bool {
    use std::ops::ControlFlow;
    let mut changed = false;
    let mut set = |ident: &mut ast::Ident| {
        if ident.quote_style.is_none() && names::fold(ident) == written {
            ident.value = exact.to_string();
            ident.quote_style = Some('"');
            changed = true;
        }
    };
    let _: ControlFlow<()> = ast::visit_expressions_mut(node, |expr| {
        match expr {
            ast::Expr::Identifier(ident) => set(ident),
            ast::Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last_mut() {
                    set(last);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    changed
}

/// Casts the output to the types columns can have, where it has others.
pub(crate) fn canonical(plan: LogicalPlan) -> datafusion::common::Result<LogicalPlan> {
    let mut changed = false;
    let mut exprs = Vec::with_capacity(plan.schema().fields().len());
    for (qualifier, field) in plan.schema().iter() {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let Some(column_type) = ColumnType::from_field(field) else {
            return Err(DataFusionError::NotImplemented(format!(
                "column \"{}\" has a type that cannot be shown: {}",
                names::shown(field.name()),
                field.data_type()
            )));
        };
        let target = column_type.arrow();
        if target == *field.data_type() {
            exprs.push(column);
        } else {
            changed = true;
            let cast = Expr::Cast(Cast::new(Box::new(column), target));
            exprs.push(match qualifier {
                Some(q) => cast.alias_qualified(Some(q.clone()), field.name()),
                None => cast.alias(field.name()),
            });
        }
    }
    if changed { LogicalPlanBuilder::from(plan).project(exprs)?.build() } else { Ok(plan) }
}

/// The fields of a plan under the names clients see.
pub(crate) fn shown_columns(plan: &LogicalPlan) -> SchemaRef {
    let fields: Vec<Field> = plan
        .schema()
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_name(names::shown(f.name())))
        .collect();
    Arc::new(Schema::new(fields))
}
