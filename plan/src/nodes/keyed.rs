//! Rows as changes of a keyed relation.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{listed, single};
use crate::relation::OP_COLUMN;
use crate::types::ColumnType;

/// Each input row as the new row of its key: the input's columns, then [`OP_COLUMN`], which is `I`
/// for the first row of a key and `U` for those that follow.
///
/// State grows with the number of keys. Without a key all rows are versions of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyedChanges {
    /// The only input.
    pub input: LogicalPlan,
    /// What tells rows apart (nulls are equal).
    pub key: Vec<Expr>,
    schema: DFSchemaRef,
}

impl KeyedChanges {
    /// See the fields.
    ///
    /// # Errors
    /// When the input has a column called `_op`.
    pub fn try_new(input: LogicalPlan, key: Vec<Expr>) -> Result<Self> {
        let own = input.schema().iter().map(|(q, f)| (q.cloned(), Arc::clone(f)));
        let op = (None, Arc::new(ColumnType::Text.field(OP_COLUMN, true)));
        let fields = own.chain([op]).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(KeyedChanges { input, key, schema })
    }
}

impl PartialOrd for KeyedChanges {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for KeyedChanges {
    fn name(&self) -> &str {
        "KeyedChanges"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.key.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedChanges: by [{}]", listed(&self.key))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        KeyedChanges::try_new(single(inputs)?, exprs)
    }

    // A filter above must not move below: it would change which row of a key is the first.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}
