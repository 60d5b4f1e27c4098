//! From the aggregate expressions of a plan node to states and figures.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::FieldRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, ExprSchemable};

use crate::error::{ExecError, Result};
use crate::expr::{Compiled, compile};

use super::choose::{Choice, choose};
use super::{Accumulator, AggregateSet, Figure};

/// The aggregates of a plan node, compiled over the columns of its input.
///
/// Equal arguments and conditions are evaluated once, and aggregates that need the same numbers
/// share one state.
#[derive(Debug)]
pub struct Aggregates {
    args: Vec<Compiled>,
    conditions: Vec<Compiled>,
    layout: Arc<Layout>,
}

/// Which states there are and what is read from them.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) states: Vec<StateLayout>,
    pub(super) outputs: Vec<OutputLayout>,
}

/// A state and what goes into it.
pub(super) struct StateLayout {
    /// What identifies the state together with its arguments.
    kind: String,
    /// Positions in the evaluated arguments.
    pub(super) args: Vec<usize>,
    /// Position of the condition of `FILTER`.
    pub(super) condition: Option<usize>,
    /// Makes an empty one.
    pub(super) make: Make,
}

impl std::fmt::Debug for StateLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?} where {:?}", self.kind, self.args, self.condition)
    }
}

/// Makes an accumulator without slots.
pub(super) type Make = Arc<dyn Fn() -> Box<dyn Accumulator> + Send + Sync>;

/// A column of results.
#[derive(Debug)]
pub(super) struct OutputLayout {
    pub(super) state: usize,
    pub(super) figure: Figure,
    pub(super) field: FieldRef,
    /// As the user would write it, for messages.
    pub(super) text: String,
}

/// Arguments and conditions of all aggregates, evaluated for the rows of a batch.
#[derive(Debug, Clone)]
pub struct Arguments {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) conditions: Vec<BooleanArray>,
    rows: usize,
}

impl Arguments {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Rows `from .. from + len`.
    pub fn slice(&self, from: usize, len: usize) -> Arguments {
        Arguments {
            columns: self.columns.iter().map(|column| column.slice(from, len)).collect(),
            conditions: self.conditions.iter().map(|column| column.slice(from, len)).collect(),
            rows: len,
        }
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &[u32]) -> Result<Arguments> {
        let at = UInt32Array::from(indices.to_vec());
        let columns = self.columns.iter().map(|column| take(column.as_ref(), &at, None));
        let conditions = self.conditions.iter().map(|condition| take(condition, &at, None));
        let columns = columns.collect::<Result<_, _>>()?;
        let conditions = conditions.map(|c| Ok(c?.as_boolean().clone())).collect::<Result<_>>()?;
        Ok(Arguments { columns, conditions, rows: indices.len() })
    }

    /// Bytes of the columns.
    pub fn bytes(&self) -> u64 {
        let columns = self.columns.iter().map(|column| column.get_array_memory_size());
        let conditions = self.conditions.iter().map(Array::get_array_memory_size);
        columns.chain(conditions).sum::<usize>() as u64
    }
}

impl Aggregates {
    /// Compiles [`Expr::AggregateFunction`]s (with an alias or without) over rows of `schema`.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] names what cannot be computed over endless rows;
    /// [`ExecError::Plan`] an argument that must be a constant and is not.
    pub fn compile(exprs: &[Expr], schema: &DFSchema) -> Result<Aggregates> {
        let mut builder =
            Builder { schema, args: Vec::new(), conditions: Vec::new(), states: Vec::new() };
        let mut outputs = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let (_, field) = expr.to_field(schema)?;
            let text = expr.clone().unalias().human_display().to_string();
            let Expr::AggregateFunction(call) = expr.clone().unalias() else {
                return Err(ExecError::Plan(format!("{text} is not an aggregate")));
            };
            let (state, figure) = builder.add(&call, &field, &text)?;
            outputs.push(OutputLayout { state, figure, field, text });
        }
        let compiled = |exprs: &[Expr]| {
            exprs.iter().map(|expr| compile(expr, schema)).collect::<Result<Vec<_>>>()
        };
        Ok(Aggregates {
            args: compiled(&builder.args)?,
            conditions: compiled(&builder.conditions)?,
            layout: Arc::new(Layout { states: builder.states, outputs }),
        })
    }

    /// The columns of results.
    pub fn fields(&self) -> Vec<FieldRef> {
        self.layout.outputs.iter().map(|output| Arc::clone(&output.field)).collect()
    }

    /// Input columns that arguments and conditions read, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.exprs().flat_map(Compiled::columns).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// What is evaluated for each batch: arguments, then conditions of `FILTER`.
    pub fn exprs(&self) -> impl Iterator<Item = &Compiled> {
        self.args.iter().chain(&self.conditions)
    }

    /// The values of [`Aggregates::exprs`] for `rows` rows, in their order.
    pub fn arguments(&self, mut values: Vec<ArrayRef>, rows: usize) -> Arguments {
        let conditions = values.split_off(self.args.len());
        let conditions = conditions.iter().map(|values| values.as_boolean().clone()).collect();
        Arguments { columns: values, conditions, rows }
    }

    /// Arguments and conditions of the rows of a batch.
    ///
    /// # Errors
    /// When one fails on some row.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Arguments, DataFusionError> {
        let values =
            self.exprs().map(|expr| expr.physical.evaluate(rows)?.into_array(rows.num_rows()));
        Ok(self.arguments(values.collect::<Result<_, _>>()?, rows.num_rows()))
    }

    /// Whether every state has a bound, however many rows it takes.
    pub fn is_small(&self) -> bool {
        self.layout.states.iter().all(|state| (state.make)().is_small())
    }

    /// States for these aggregates, without slots yet.
    pub fn set(&self) -> AggregateSet {
        AggregateSet::new(Arc::clone(&self.layout))
    }
}

struct Builder<'a> {
    schema: &'a DFSchema,
    args: Vec<Expr>,
    conditions: Vec<Expr>,
    states: Vec<StateLayout>,
}

impl Builder<'_> {
    /// Finds or adds the state of an aggregate.
    fn add(
        &mut self,
        call: &AggregateFunction,
        field: &FieldRef,
        text: &str,
    ) -> Result<(usize, Figure)> {
        let Choice { kind, args, make, figure } = choose(call, field, self.schema, text)?;
        let args: Vec<usize> = args.into_iter().map(|arg| position(&mut self.args, arg)).collect();
        let condition = call.params.filter.as_ref();
        let condition = condition.map(|expr| position(&mut self.conditions, (**expr).clone()));
        let same = |state: &StateLayout| {
            state.kind == kind && state.args == args && state.condition == condition
        };
        let state = self.states.iter().position(same).unwrap_or_else(|| {
            self.states.push(StateLayout { kind, args, condition, make });
            self.states.len() - 1
        });
        Ok((state, figure))
    }
}

fn position(exprs: &mut Vec<Expr>, expr: Expr) -> usize {
    exprs.iter().position(|e| *e == expr).unwrap_or_else(|| {
        exprs.push(expr);
        exprs.len() - 1
    })
}
