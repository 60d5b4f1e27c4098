//! Continuous queries and what the catalog keeps of them.

use std::collections::BTreeMap;

use auspex_plan::catalog::{Column, Definition, ObjectId};
use auspex_plan::{ColumnType, ContinuousQuery, Diagnostic, SqlState};
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::{self, Spanned};

use super::context::Reader;
use super::query::{canonical, shown_columns};
use super::stream::{self, Target, refusal};
use super::{Binder, Result, error};
use crate::datetime::Zone;
use crate::statement::Query;

/// A continuous query with what the catalog keeps of it.
#[derive(Debug, Clone)]
pub struct BoundContinuous {
    /// The query, not optimised. Its `on_error` is the default; options may say otherwise.
    pub query: ContinuousQuery,
    /// Columns of the output stream.
    pub columns: Vec<Column>,
    /// Names in the text and what they mean, for [`Binder::rebind`].
    pub bindings: BTreeMap<String, ObjectId>,
    /// A materialized view: positions in `columns` of what tells its rows apart, none for a single
    /// row. A sink: the table's primary key. Empty for a stream.
    pub key: Vec<usize>,
}

impl Binder {
    /// Binds a continuous query: `CREATE STREAM .. AS`, `SUBSCRIBE (..)`.
    pub fn bind_continuous(&self, query: &Query) -> Result<BoundContinuous> {
        self.continuous(query, Target::Stream)
    }

    /// Binds the query of a materialized view.
    pub fn bind_view(&self, query: &Query) -> Result<BoundContinuous> {
        self.continuous(query, Target::View)
    }

    fn continuous(&self, query: &Query, target: Target) -> Result<BoundContinuous> {
        refuse_clauses(query)?;
        let stored = self.clone().with_time_zone(Zone::UTC);
        let planned = stored.plan(query, Reader::Continuous, &[], None)?;
        if !planned.params.is_empty() {
            return Err(Diagnostic::error(
                SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            )
            .hint("A continuous query outlives the statement; write the value in.")
            .at(query.span));
        }
        let lowered = stream::lower(planned.plan, query, &stored, target)
            .map_err(|d| d.at_opt(Some(query.span)))?;
        let plan = canonical(lowered.plan)
            .and_then(|plan| stored.coerce(plan))
            .map_err(error::unplaced)?;
        let columns = output_columns(&plan).map_err(|d| d.at_opt(Some(query.span)))?;
        let inputs: Vec<ObjectId> = planned.found.relations().into_iter().collect();
        if inputs.is_empty() {
            return Err(Diagnostic::unsupported("a continuous query must read a stream")
                .hint("Use INSERT INTO for rows that are there already.")
                .at(query.span));
        }
        Ok(BoundContinuous {
            query: ContinuousQuery {
                plan,
                inputs,
                on_error: Default::default(),
                warnings: Vec::new(),
            },
            columns,
            bindings: planned.found.bindings,
            key: lowered.key.unwrap_or_default(),
        })
    }

    /// Binds the query of a derived stream again when the server starts. Names mean what they
    /// meant when the query was created, whatever the objects are called now.
    pub fn rebind(&self, definition: &Definition) -> Result<BoundContinuous> {
        self.again(definition, Target::Stream)
    }

    /// [`Binder::rebind`] of a materialized view.
    pub fn rebind_view(&self, definition: &Definition) -> Result<BoundContinuous> {
        self.again(definition, Target::View)
    }

    fn again(&self, definition: &Definition, target: Target) -> Result<BoundContinuous> {
        let mut binder = self.clone();
        binder.bindings.clone_from(&definition.bindings);
        let query = crate::parse::parse_query(&definition.text)?;
        let mut bound = binder.continuous(&query, target)?;
        bound.query.on_error = definition.on_error;
        Ok(bound)
    }
}

/// Clauses that need an end of the input. Those of DataFusion's plan are refused again in
/// [`stream::lower`]; here the place in the text is known.
fn refuse_clauses(query: &Query) -> Result<()> {
    use std::ops::ControlFlow;
    struct Clauses;
    type Refusal = (&'static str, &'static str, sqlparser::tokenizer::Span);
    impl ast::Visitor for Clauses {
        type Break = Refusal;

        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Refusal> {
            if query.with.as_ref().is_some_and(|w| w.recursive) {
                return ControlFlow::Break(("WITH RECURSIVE", "", query.span()));
            }
            match &query.limit_clause {
                Some(ast::LimitClause::LimitOffset { offset: Some(offset), .. }) => {
                    return ControlFlow::Break((
                        "OFFSET",
                        "Use the system column _offset in WHERE.",
                        offset.value.span(),
                    ));
                }
                Some(ast::LimitClause::OffsetCommaLimit { offset, .. }) => {
                    return ControlFlow::Break(("OFFSET", "", offset.span()));
                }
                _ => {}
            }
            set_operations(&query.body)
        }

        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Refusal> {
            if let Some(ast::Distinct::On(exprs)) = &select.distinct {
                let span = exprs.first().map_or(select.span(), Spanned::span);
                return ControlFlow::Break(("DISTINCT ON", "Use SELECT DISTINCT.", span));
            }
            ControlFlow::Continue(())
        }
    }
    fn set_operations(body: &ast::SetExpr) -> ControlFlow<Refusal> {
        if let ast::SetExpr::SetOperation { left, op, set_quantifier, right } = body {
            if *op != ast::SetOperator::Union {
                return ControlFlow::Break(("INTERSECT and EXCEPT", "", right.span()));
            }
            if *set_quantifier != ast::SetQuantifier::All {
                return ControlFlow::Break((
                    "UNION without ALL",
                    "Use UNION ALL, or SELECT DISTINCT * over it.",
                    right.span(),
                ));
            }
            set_operations(left)?;
            set_operations(right)?;
        }
        ControlFlow::Continue(())
    }
    match ast::Visit::visit(query.ast.as_ref(), &mut Clauses) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break((what, hint, span)) => {
            Err(refusal(what, hint).at_opt(query.source.span(span)).at_opt(Some(query.span)))
        }
    }
}

/// The output columns; their names must be usable.
fn output_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let schema = shown_columns(plan);
    let mut columns: Vec<Column> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if columns.iter().any(|c| c.name == *field.name()) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", field.name()),
            )
            .hint("Give the columns names with AS."));
        }
        if auspex_plan::relation::SYSTEM_COLUMNS.contains(&field.name().as_str()) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column name \"{}\" conflicts with a system column name", field.name()),
            )
            .hint("Give the column another name with AS."));
        }
        let column_type = ColumnType::from_field(field).unwrap_or(ColumnType::Text);
        let mut column = Column::new(field.name(), column_type);
        column.not_null = !field.is_nullable();
        columns.push(column);
    }
    Ok(columns)
}
