//! The row that expressions at one place of a chain can see.

use std::cell::Cell;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;
use auspex_plan::relation::SYSTEM_COLUMNS;
use datafusion::common::{Column, DFSchemaRef, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::problem::{Result, internal};

/// A column that can be named.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: String,
    pub ty: ColumnType,
    /// Where the plan has it.
    pub column: Column,
}

impl Field {
    /// The side of a join it belongs to.
    pub(super) fn side(&self) -> Option<&str> {
        self.column.relation.as_ref().map(TableReference::table)
    }
}

/// What names mean at one place of a chain.
#[derive(Debug)]
pub(super) struct Row {
    /// The current columns in order.
    pub fields: Vec<Field>,
    /// System columns, as far as the plan still carries them.
    pub system: Vec<Field>,
    /// Names before a dot that stand for the row: alias and relation.
    pub aliases: Vec<String>,
    /// Names before a dot that stand for a part of the row: the sides of a join, which qualify
    /// their columns.
    pub sides: Vec<String>,
    /// Schema of the plan.
    pub schema: DFSchemaRef,
    /// Set when a system column was asked for that the plan could carry but does not.
    pub system_wanted: Cell<bool>,
}

impl Row {
    /// The row that `plan` gives.
    pub(super) fn of(plan: &LogicalPlan, aliases: Vec<String>) -> Row {
        let schema = plan.schema().clone();
        let (system, fields) = schema
            .iter()
            .map(|(qualifier, field)| Field {
                name: field.name().clone(),
                // Plans are made of column types only, so each Arrow type has one.
                ty: ColumnType::from_field(field).unwrap_or(ColumnType::Text),
                column: Column::new(qualifier.cloned(), field.name()),
            })
            .partition(|f| SYSTEM_COLUMNS.contains(&f.name.as_str()));
        let system_wanted = Cell::new(false);
        Row { fields, system, aliases, sides: Vec::new(), schema, system_wanted }
    }

    /// The column of this name; a system column only by its name.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().chain(&self.system).find(|f| f.name == name)
    }

    /// The column of this name that a side of a join has.
    pub(super) fn field_of(&self, side: &str, name: &str) -> Option<&Field> {
        let all = self.fields.iter().chain(&self.system);
        all.into_iter().find(|f| f.name == name && f.side() == Some(side))
    }

    /// The sides that have a column of this name, when there are several.
    pub(super) fn owners(&self, name: &str) -> Vec<&str> {
        let all = self.fields.iter().chain(&self.system).filter(|f| f.name == name);
        let owners: Vec<&str> = all.filter_map(Field::side).collect();
        if self.sides.len() > 1 && owners.len() > 1 { owners } else { Vec::new() }
    }

    /// `expr` as part of a plan over this row.
    pub(super) fn planned(&self, expr: Expr, span: Span) -> Result<Expr> {
        let resolved = expr.resolve_lambda_variables(&self.schema);
        resolved.map(|t| t.data).map_err(|e| internal(span, &e))
    }

    /// Names of the current columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|f| f.name.as_str())
    }
}
