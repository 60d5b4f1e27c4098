//! Patterns as a node (`semantics.md` section 5).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{columns_of, listed};
use crate::pattern::{Measure, Pattern};
use crate::types::ColumnType;

/// The matches of a pattern, a row for each.
///
/// The inputs are merged by event time, then place in the log. The output is in the order in which
/// matches become certain; those of one moment in the order of their first rows, then second rows,
/// and so on. A match has the event time of its last row, an absence its deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamPattern {
    /// One for each stream.
    pub inputs: Vec<LogicalPlan>,
    /// What is searched.
    pub pattern: Pattern,
    /// Partition key over each input: as many expressions of the same types for each. A row with a
    /// null in it belongs to no partition.
    pub keys: Vec<Vec<Expr>>,
    /// Columns of the output.
    pub outputs: Vec<(String, Measure)>,
    schema: DFSchemaRef,
}

impl StreamPattern {
    /// See the fields.
    ///
    /// # Errors
    /// When two output columns have one name, or a key has no type.
    pub fn try_new(
        inputs: Vec<LogicalPlan>,
        pattern: Pattern,
        keys: Vec<Vec<Expr>>,
        outputs: Vec<(String, Measure)>,
    ) -> Result<Self> {
        let mut fields = Vec::with_capacity(outputs.len());
        for (name, measure) in &outputs {
            let field = match measure {
                Measure::Accessor(accessor) => Field::new(name, accessor.data_type.clone(), true),
                Measure::Start | Measure::End => ColumnType::Timestamptz.field(name, true),
                Measure::Key(number) => {
                    let (Some(input), Some(key)) =
                        (inputs.first(), keys.first().and_then(|keys| keys.get(*number)))
                    else {
                        return Err(DataFusionError::Internal("a key that is not there".into()));
                    };
                    let (_, field) = key.to_field(input.schema())?;
                    field.as_ref().clone().with_name(name).with_nullable(true)
                }
            };
            fields.push((None, Arc::new(field)));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(StreamPattern { inputs, pattern, keys, outputs, schema })
    }

    /// What is read of one input. Accessors in conditions are not columns of it.
    fn reads(&self, input: usize) -> Vec<Expr> {
        let pattern = &self.pattern;
        let tests = pattern.tests().filter(|test| test.input == input);
        let conditions = tests.flat_map(|test| &test.conjuncts).map(|c| &c.condition);
        let measured = self.outputs.iter().filter_map(|(_, measure)| match measure {
            Measure::Accessor(accessor) => Some(accessor),
            _ => None,
        });
        let values = pattern.accessors.iter().chain(measured).filter_map(|accessor| {
            accessor.of.as_ref().filter(|_| pattern.steps[accessor.step].test.input == input)
        });
        let keys = self.keys.get(input).into_iter().flatten();
        conditions.chain(values).chain(keys).cloned().collect()
    }
}

impl PartialOrd for StreamPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StreamPattern {
    fn name(&self) -> &str {
        "StreamPattern"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    // Conditions are over an input and the rows of the match, not over all inputs: the front ends
    // give them their final types, and rules that rewrite expressions leave them alone.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamPattern: {}", self.pattern)?;
        match self.keys.first() {
            Some(keys) if !keys.is_empty() => write!(f, ", by [{}]", listed(keys)),
            _ => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (pattern, keys) = (self.pattern.clone(), self.keys.clone());
        StreamPattern::try_new(inputs, pattern, keys, self.outputs.clone())
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let needed = |(number, input): (usize, &LogicalPlan)| {
            columns_of(&self.reads(number), input.schema(), &[])
        };
        Some(self.inputs.iter().enumerate().map(needed).collect())
    }

    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}
