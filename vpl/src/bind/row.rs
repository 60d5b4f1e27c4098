//! The row that expressions at one place of a chain can see.

use std::cell::Cell;

use auspex_plan::ColumnType;
use auspex_plan::relation::SYSTEM_COLUMNS;
use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::LogicalPlan;

/// A column that can be named.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: String,
    pub ty: ColumnType,
    /// Where the plan has it.
    pub column: Column,
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
        Row { fields, system, aliases, schema, system_wanted: Cell::new(false) }
    }

    /// The column of this name; a system column only by its name.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().chain(&self.system).find(|f| f.name == name)
    }

    /// Names of the current columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|f| f.name.as_str())
    }
}
