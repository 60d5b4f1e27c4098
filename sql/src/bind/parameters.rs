//! The types of `$1`, `$2`, ..: declared, seen from their surroundings, or text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::FieldRef;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast::{self, Value};

use super::Result;
use super::resolve::parameter;

/// What is known of each parameter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    types: Vec<Option<ColumnType>>,
}

impl Parameters {
    /// The parameters of `node` with their declared types.
    pub(crate) fn new<V: ast::Visit>(
        node: &V,
        declared: &[Option<ColumnType>],
    ) -> Result<Parameters> {
        let mut types = declared.to_vec();
        let flow = ast::visit_expressions(node, |expr| {
            if let ast::Expr::Value(value) = expr
                && let Value::Placeholder(id) = &value.value
            {
                match parameter(id) {
                    Some(n) if types.len() < n => types.resize(n, None),
                    Some(_) => {}
                    None => return ControlFlow::Break(id.clone()),
                }
            }
            ControlFlow::Continue(())
        });
        match flow {
            ControlFlow::Continue(()) => Ok(Parameters { types }),
            ControlFlow::Break(id) => Err(Diagnostic::error(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter {id}"),
            )),
        }
    }

    /// Takes types seen from the surroundings for parameters without one.
    pub(crate) fn suggest(&mut self, types: &BTreeMap<usize, ColumnType>) {
        for (n, column_type) in types {
            if let Some(slot @ None) = self.types.get_mut(n - 1) {
                *slot = Some(column_type.clone());
            }
        }
    }

    /// For DataFusion's planner.
    pub(crate) fn fields(&self) -> Vec<Option<FieldRef>> {
        self.types.iter().map(|t| t.as_ref().map(|t| FieldRef::from(t.field("", true)))).collect()
    }

    /// Whether all types are known.
    pub(crate) fn complete(&self) -> bool {
        self.types.iter().all(Option::is_some)
    }

    /// Takes the types that a plan gives its placeholders; what is still unknown is text, as in
    /// PostgreSQL.
    pub(crate) fn infer(&mut self, plan: &LogicalPlan) {
        let mut seen = BTreeMap::new();
        // The closure never fails.
        let _ = plan.apply_with_subqueries(|node| {
            let limit = matches!(node, LogicalPlan::Limit(_));
            node.apply_expressions(|expr| {
                expr.apply(|e| {
                    if let Expr::Placeholder(p) = e
                        && let Some(n) = parameter(&p.id)
                    {
                        let found = if limit {
                            Some(ColumnType::BigInt)
                        } else {
                            p.field
                                .as_ref()
                                .filter(|f| !f.data_type().is_null())
                                .and_then(|f| ColumnType::from_field(f))
                        };
                        if let Some(found) = found {
                            seen.entry(n).or_insert(found);
                        }
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        self.suggest(&seen);
        for slot in &mut self.types {
            slot.get_or_insert(ColumnType::Text);
        }
    }

    /// The types, once all are known.
    pub(crate) fn into_types(self) -> Vec<ColumnType> {
        self.types.into_iter().map(|t| t.unwrap_or(ColumnType::Text)).collect()
    }
}
