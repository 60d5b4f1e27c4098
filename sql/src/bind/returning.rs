//! `RETURNING`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use auspex_plan::catalog::Object;
use auspex_plan::{ColumnType, Diagnostic};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use sqlparser::ast;

use super::context::Reader;
use super::query::{canonical, shown_columns};
use super::{Binder, Result, error};
use crate::source::Source;
use crate::statement::Query;

/// The rows a statement returns, computed from the rows it wrote (or deleted).
#[derive(Debug, Clone)]
pub struct Returning {
    /// The written relation's columns, without qualifier.
    pub schema: DFSchemaRef,
    /// One expression per result column, over [`Returning::schema`].
    pub exprs: Vec<Expr>,
    /// Result columns as the client sees them.
    pub columns: SchemaRef,
}

impl Binder {
    /// Binds the items of `RETURNING` over the columns of `object`, known as `alias`.
    pub(crate) fn bind_returning(
        &self,
        items: &[ast::SelectItem],
        object: &Object,
        alias: &str,
        source: &Arc<Source>,
        declared: &[Option<ColumnType>],
    ) -> Result<(Returning, Vec<ColumnType>)> {
        let span = auspex_plan::Span::new(0, source.text().len());
        let query = Query {
            ast: select_from(alias, items)?,
            emission: Default::default(),
            span,
            source: source.clone(),
        };
        let rows: Arc<dyn TableSource> = Arc::new(LogicalTableSource::new(object.schema()));
        let planned =
            self.plan(&query, Reader::Terminating, declared, Some((alias.to_string(), rows)))?;
        let plan =
            canonical(planned.plan).and_then(|plan| self.coerce(plan)).map_err(error::unplaced)?;
        let columns = shown_columns(&plan);
        let exprs = flatten(&plan)?.into_iter().map(Expr::unalias).collect();
        let schema = super::rules::schema_of(object.columns())?;
        Ok((Returning { schema, exprs, columns }, planned.params))
    }
}

/// `SELECT items FROM alias`.
fn select_from(alias: &str, items: &[ast::SelectItem]) -> Result<Box<ast::Query>> {
    let quoted = format!("\"{}\"", alias.replace('"', "\"\""));
    let mut query = crate::parse::parse_query(&format!("SELECT 1 FROM {quoted}"))?.ast;
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.to_vec();
    }
    Ok(query)
}

/// The output expressions of projections over one scan, in terms of the scan's columns.
pub(crate) fn flatten(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = flatten(&projection.input)?;
            let schema = projection.input.schema();
            projection
                .expr
                .iter()
                .map(|expr| {
                    expr.clone()
                        .transform_up(|e| {
                            if let Expr::Column(column) = &e
                                && let Some(i) = schema.maybe_index_of_column(column)
                            {
                                return Ok(Transformed::yes(below[i].clone().unalias()));
                            }
                            Ok(Transformed::no(e))
                        })
                        .data()
                        .map_err(error::unplaced)
                })
                .collect()
        }
        LogicalPlan::SubqueryAlias(alias) => flatten(&alias.input),
        LogicalPlan::TableScan(scan) => Ok(scan
            .projected_schema
            .fields()
            .iter()
            .map(|f| Expr::Column(Column::new_unqualified(f.name())))
            .collect()),
        _ => Err(Diagnostic::unsupported(
            "subqueries, aggregates and window functions are not supported in RETURNING",
        )),
    }
}
