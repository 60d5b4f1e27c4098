//! Operators that give their input rows again.

use arrow::compute::SortOptions;
use auspex_plan::nodes::{self, OutputEvery, OutputMode, Retention};
use datafusion::logical_expr::{LogicalPlan, SortExpr, UserDefinedLogicalNodeCore};

use crate::aggregate::Aggregates;
use crate::batch::nullable;
use crate::error::{ExecError, Result};
use crate::expr::{Compiled, compile};
use crate::graph::Source;
use crate::operators::{
    Delay, PeriodSpec, Periods, Retain, RetainSpec, Retained, RowOrder, WindowRows,
};

use super::Builder;

impl Builder<'_> {
    /// The rows of each window.
    pub(super) fn add_window_rows(&mut self, node: &nodes::WindowRows) -> Result<Source> {
        let keys = self.compile_all(&node.keys, &node.input)?;
        let order = RowOrder { by: compile_order(&node.order_by, &node.input)?, limit: node.limit };
        let input = nullable(node.input.schema().as_arrow());
        let schema = nullable(UserDefinedLogicalNodeCore::schema(node).as_arrow());
        let source = self.add(&node.input)?;
        let operator = WindowRows::new(node, keys, order, input, schema, self.on_error)?;
        Ok(self.add_node(Box::new(operator), &[source]))
    }

    /// Rows with aggregates over those that are kept.
    pub(super) fn add_retention(&mut self, window: &nodes::RetentionWindow) -> Result<Source> {
        let input = &window.input;
        let keys = self.compile_all(&window.keys, input)?;
        let aggregates = match window.aggregates.as_slice() {
            [] => None,
            exprs => Some(Aggregates::compile(exprs, input.schema())?),
        };
        let before = nullable(input.schema().as_arrow());
        let schema = nullable(UserDefinedLogicalNodeCore::schema(window).as_arrow());
        let name = format!("Retention, {}", window.kept);
        let source = self.add(input)?;
        let (kept, by) = match &window.kept {
            Retention::Length(rows) => (Retained::Length(*rows), Vec::new()),
            Retention::Time(us) => (Retained::Time(*us), Vec::new()),
            Retention::Sort(rows, order) => (Retained::Sort(*rows), compile_order(order, input)?),
            Retention::Unique(on) => {
                let on = self.compile_all(on, input)?;
                (Retained::Unique, on.into_iter().map(|e| (e, SortOptions::default())).collect())
            }
            Retention::LengthBatch(_) | Retention::TimeBatch(_) => {
                let every = match window.kept {
                    Retention::TimeBatch(us) => OutputEvery::Time(us),
                    Retention::LengthBatch(rows) => OutputEvery::Rows(rows),
                    _ => unreachable!("one of the two"),
                };
                let mode = if aggregates.is_some() { OutputMode::Last } else { OutputMode::All };
                let spec = PeriodSpec { name, every, mode, keys, aggregates };
                let operator = Periods::new(spec, before, schema, self.on_error)?;
                return Ok(self.add_node(Box::new(operator), &[source]));
            }
            Retention::Delay(_) if aggregates.is_some() => {
                return Err(ExecError::Unsupported("an aggregate over delayed rows".into()));
            }
            Retention::Delay(us) => {
                return Ok(self.add_node(Box::new(Delay::new(*us, before)?), &[source]));
            }
        };
        // Every row comes out at once: without aggregates what is kept does not show.
        let Some(aggregates) = aggregates else { return Ok(source) };
        let spec = RetainSpec { name, kept, by, keys, aggregates };
        let operator = Retain::new(spec, schema, self.on_error)?;
        Ok(self.add_node(Box::new(operator), &[source]))
    }

    /// Some rows of each period.
    pub(super) fn add_output_rate(&mut self, rate: &nodes::OutputRate) -> Result<Source> {
        let spec = PeriodSpec {
            name: "Output rate".into(),
            every: rate.every,
            mode: rate.mode,
            keys: self.compile_all(&rate.keys, &rate.input)?,
            aggregates: None,
        };
        let schema = nullable(rate.input.schema().as_arrow());
        let source = self.add(&rate.input)?;
        let operator = Periods::new(spec, schema.clone(), schema, self.on_error)?;
        Ok(self.add_node(Box::new(operator), &[source]))
    }
}

/// What rows are ordered by, and how.
pub(super) fn compile_order(
    order: &[SortExpr],
    input: &LogicalPlan,
) -> Result<Vec<(Compiled, SortOptions)>> {
    let compiled = |sort: &SortExpr| {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok((compile(&sort.expr, input.schema())?, options))
    };
    order.iter().map(compiled).collect()
}
