//! Rows written out on their way.

use auspex_plan::nodes::TapKind;

use crate::batch::Batch;
use crate::error::Result;
use crate::expr::{Compiled, evaluate_nulling};
use crate::json;
use crate::operator::{Input, Operator, Output, Tap};

/// Passes rows on unchanged and writes a line for each: the values of its expressions with a space
/// between, or the whole row as JSON when there are none. A value that cannot be computed is
/// written as `null`; what is only looked at does not count as an error of the query.
pub struct TapRows {
    level: Option<String>,
    values: Vec<Compiled>,
}

impl TapRows {
    /// A tap of this kind.
    pub fn new(kind: &TapKind, values: Vec<Compiled>) -> TapRows {
        let level = match kind {
            TapKind::Print => None,
            TapKind::Log { level } => Some(level.clone()),
        };
        TapRows { level, values }
    }

    fn line(&self, batch: &Batch, row: usize) -> Result<String> {
        if self.values.is_empty() {
            return Ok(json::row(&batch.rows, row).to_string());
        }
        let one = batch.rows.slice(row, 1);
        let mut words = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let value = evaluate_nulling(&value.physical, &one)?.to_array()?;
            words.push(match json::value(&value, 0) {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            });
        }
        Ok(words.join(" "))
    }
}

impl Operator for TapRows {
    fn describe(&self) -> String {
        "Tap".into()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        for row in 0..batch.len() {
            let text = self.line(&batch, row)?;
            out.taps.push(Tap { level: self.level.clone(), text });
        }
        out.emit(batch);
        Ok(())
    }
}
