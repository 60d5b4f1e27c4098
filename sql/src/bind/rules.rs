//! Expressions over the columns of one relation: `CHECK`, `DEFAULT`, `GENERATED`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use auspex_plan::catalog::{Column, Object, ObjectKind, arrow_schema};
use auspex_plan::relation::SYSTEM_COLUMNS;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::tree_node::{TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::PlannerContext;

use super::context::{Context, Reader};
use super::query::{case_slip, rename};
use super::resolve::Resolver;
use super::{Binder, Result, assign, casts, error};
use crate::datetime::Zone;
use crate::statement::Expr;

/// What happens to each row that is inserted. Expressions are over [`BoundRules::schema`]; all
/// are coerced to the types they must have.
#[derive(Debug, Clone)]
pub struct BoundRules {
    /// The relation's columns, without qualifier.
    pub schema: DFSchemaRef,
    /// Per column, the value when an insert leaves it out; refers to no column.
    pub defaults: Vec<Option<PlanExpr>>,
    /// Per column, the expression that computes it from the other columns.
    pub generated: Vec<Option<PlanExpr>>,
    /// Name and condition of each `CHECK`; only false refuses the row.
    pub checks: Vec<(String, PlanExpr)>,
}

impl Binder {
    /// The rules of a stream or table, from the texts in the catalog.
    pub fn bind_rules(&self, object: &Object) -> Result<BoundRules> {
        if self.zone != Zone::UTC {
            return self.clone().with_time_zone(Zone::UTC).bind_rules(object);
        }
        let columns = object.columns();
        let checks = match &object.kind {
            ObjectKind::Stream(stream) => stream.checks.as_slice(),
            ObjectKind::Table(table) => table.checks.as_slice(),
            ObjectKind::View(_) | ObjectKind::Pipeline(_) => &[],
        };
        let parse = crate::parse::parse_expression;
        Ok(BoundRules {
            schema: schema_of(columns)?,
            defaults: columns
                .iter()
                .map(|c| c.default.as_ref().map(|t| self.bind_default(&parse(t)?, c)).transpose())
                .collect::<Result<_>>()?,
            generated: columns
                .iter()
                .map(|c| {
                    c.generated
                        .as_ref()
                        .map(|t| self.bind_generated(&parse(t)?, columns, c))
                        .transpose()
                })
                .collect::<Result<_>>()?,
            checks: checks
                .iter()
                .map(|(name, text)| Ok((name.clone(), self.bind_check(&parse(text)?, columns)?)))
                .collect::<Result<_>>()?,
        })
    }

    /// The expression of a `CHECK` over `columns`: boolean and immutable.
    pub fn bind_check(&self, expr: &Expr, columns: &[Column]) -> Result<PlanExpr> {
        let schema = schema_of(columns)?;
        let bound = self.bind_expr(expr, &schema)?;
        immutable(&bound).map_err(|f| not_immutable("check constraint", &f, expr))?;
        let data_type = type_of(&bound, &schema)?;
        if !matches!(data_type, DataType::Boolean | DataType::Null) {
            return Err(Diagnostic::error(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of CHECK must be type boolean, not type {}",
                    ColumnType::from_arrow(&data_type)
                        .map_or_else(|| data_type.to_string(), |t| t.to_string())
                ),
            )
            .at(expr.span));
        }
        Ok(bound)
    }

    /// The expression of a `DEFAULT`, as a value of `column`; no columns, any function.
    pub fn bind_default(&self, expr: &Expr, column: &Column) -> Result<PlanExpr> {
        let empty: DFSchemaRef = Arc::new(DFSchema::empty());
        let bound = self.bind_expr(expr, &empty).map_err(|d| {
            if d.state == SqlState::UNDEFINED_COLUMN || d.state == SqlState::UNDEFINED_TABLE {
                Diagnostic::unsupported("cannot use column reference in DEFAULT expression")
                    .at_opt(d.span)
            } else {
                d
            }
        })?;
        let data_type = type_of(&bound, &empty)?;
        self.assigned(bound, &data_type, column, &empty).map_err(|d| d.at(expr.span))
    }

    /// The expression of a `GENERATED` column, as a value of it; over the other columns.
    pub fn bind_generated(
        &self,
        expr: &Expr,
        columns: &[Column],
        column: &Column,
    ) -> Result<PlanExpr> {
        let schema = schema_of(columns)?;
        let bound = self.bind_expr(expr, &schema)?;
        immutable(&bound).map_err(|f| not_immutable("generation expression", &f, expr))?;
        for used in bound.column_refs() {
            let generated = columns
                .iter()
                .any(|c| c.name == used.name && (c.generated.is_some() || c.name == column.name));
            if generated {
                return Err(Diagnostic::error(
                    SqlState::INVALID_OBJECT_DEFINITION,
                    format!(
                        "cannot use generated column \"{}\" in column generation expression",
                        used.name
                    ),
                )
                .detail("A generated column cannot reference another generated column.")
                .at(expr.span));
            }
        }
        let data_type = type_of(&bound, &schema)?;
        self.assigned(bound, &data_type, column, &schema).map_err(|d| d.at(expr.span))
    }

    /// Coerces types, and gives casts their meaning.
    pub(crate) fn coerce_expr(
        &self,
        expr: PlanExpr,
        schema: &DFSchemaRef,
    ) -> datafusion::common::Result<PlanExpr> {
        let context = SimplifyContext::builder().with_schema(schema.clone()).build();
        let coerced = ExprSimplifier::new(context).coerce(expr, schema)?;
        let rules = casts::Casts { functions: &self.functions, zone: self.zone };
        casts::in_expr(coerced, schema, rules).data()
    }

    /// `expr`, of type `source`, as a value of `column`.
    fn assigned(
        &self,
        expr: PlanExpr,
        source: &DataType,
        column: &Column,
        schema: &DFSchemaRef,
    ) -> Result<PlanExpr> {
        let cast =
            assign::assign(expr, &arrow::datatypes::Field::new("", source.clone(), true), column)?;
        self.coerce_expr(cast, schema).map_err(error::unplaced)
    }

    /// An expression over the columns of `schema`.
    pub(crate) fn bind_expr(&self, expr: &Expr, schema: &DFSchemaRef) -> Result<PlanExpr> {
        let mut ast = expr.ast.clone();
        refuse_queries(expr)?;
        let found = Resolver::new(self, &expr.source, Reader::Terminating).expr(&mut ast)?;
        if found.system_columns {
            let text =
                format!("system columns ({}) cannot be used here", SYSTEM_COLUMNS.join(", "));
            return Err(Diagnostic::error(SqlState::INVALID_COLUMN_REFERENCE, text).at(expr.span));
        }
        let context = Context::new(self, Reader::Terminating, false);
        for _ in 0..64 {
            let planned =
                context.planner().sql_to_expr(ast.clone(), schema, &mut PlannerContext::new());
            match planned {
                Ok(bound) => {
                    refuse_kinds(&bound).map_err(|d| d.at(expr.span))?;
                    return self.coerce_expr(bound, schema).map_err(|e| {
                        error::planning(e, &ast, &expr.source).at_opt(Some(expr.span))
                    });
                }
                Err(e) => match case_slip(&e) {
                    Some((written, exact)) if rename(&mut ast, &written, &exact) => {}
                    _ => return Err(error::planning(e, &ast, &expr.source).at_opt(Some(expr.span))),
                },
            }
        }
        Err(Diagnostic::error(SqlState::UNDEFINED_COLUMN, "too many column names differ in case")
            .at(expr.span))
    }
}

/// The columns as a schema without qualifier.
pub(crate) fn schema_of(columns: &[Column]) -> Result<DFSchemaRef> {
    let schema = arrow_schema(columns);
    DFSchema::try_from(schema.as_ref().clone()).map(Arc::new).map_err(error::unplaced)
}

fn type_of(expr: &PlanExpr, schema: &DFSchema) -> Result<DataType> {
    expr.get_type(schema).map_err(error::unplaced)
}

fn refuse_queries(expr: &Expr) -> Result<()> {
    use sqlparser::ast::{Spanned, Visit, Visitor};
    use std::ops::ControlFlow;
    struct Queries;
    impl Visitor for Queries {
        type Break = sqlparser::tokenizer::Span;
        fn pre_visit_query(&mut self, query: &sqlparser::ast::Query) -> ControlFlow<Self::Break> {
            ControlFlow::Break(query.span())
        }
    }
    match expr.ast.visit(&mut Queries) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(span) => Err(Diagnostic::unsupported("cannot use subquery here")
            .at_opt(expr.source.span(span))
            .at_opt(Some(expr.span))),
    }
}

/// Aggregates, window functions and parameters have no meaning over one row.
fn refuse_kinds(expr: &PlanExpr) -> Result<()> {
    let mut refused = None;
    // The closure never fails.
    let _ = expr.apply(|e| {
        refused = match e {
            PlanExpr::AggregateFunction(_) => {
                Some((SqlState("42803"), "aggregate functions are not allowed here"))
            }
            PlanExpr::WindowFunction(_) => {
                Some((SqlState("42P20"), "window functions are not allowed here"))
            }
            PlanExpr::Placeholder(_) => {
                Some((SqlState::UNDEFINED_PARAMETER, "there is no parameter here"))
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    match refused {
        Some((state, text)) => Err(Diagnostic::error(state, text)),
        None => Ok(()),
    }
}

/// The first function that is not immutable, as an error.
fn immutable(expr: &PlanExpr) -> Result<(), String> {
    let mut found = None;
    // The closure never fails.
    let _ = expr.apply(|e| {
        if let PlanExpr::ScalarFunction(call) = e
            && call.func.signature().volatility != Volatility::Immutable
        {
            found = Some(call.func.name().to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found.map_or(Ok(()), Err)
}

fn not_immutable(what: &str, function: &str, expr: &Expr) -> Diagnostic {
    let place = error::locate(&expr.ast, None, function).and_then(|s| expr.source.span(s));
    Diagnostic::error(
        SqlState::INVALID_OBJECT_DEFINITION,
        format!("{what} uses {function}(), which is not immutable"),
    )
    .at_opt(place)
    .at_opt(Some(expr.span))
}
