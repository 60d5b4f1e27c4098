//! Filter and projection in one: evaluate the condition, gather the columns that are needed of the
//! rows that pass, compute the output columns from those.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use auspex_plan::OnError;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

use crate::batch::{Batch, batch_of, take_columns};
use crate::error::Result;
use crate::expr::{Compiled, evaluate_nulling, reason};
use crate::operator::{Input, Operator, Output};

use super::refuse_row;

/// Keeps the rows whose condition is true and computes output columns.
pub struct Select {
    condition: Option<Compiled>,
    projection: Option<Projection>,
    schema: SchemaRef,
    on_error: OnError,
}

struct Projection {
    /// Over all input columns.
    columns: Vec<Compiled>,
    /// Input columns that `columns` read.
    needed: Vec<usize>,
    /// The same expressions over just those.
    narrow: Vec<Compiled>,
    /// Schema of just those.
    schema: SchemaRef,
}

impl Select {
    /// `input` and `schema` are the input and output columns; `columns` the expressions of the
    /// latter, `None` to pass all on.
    pub fn new(
        condition: Option<Compiled>,
        columns: Option<Vec<Compiled>>,
        input: &SchemaRef,
        schema: &SchemaRef,
        on_error: OnError,
    ) -> Result<Select> {
        let projection = columns.map(|columns| Projection::new(columns, input)).transpose()?;
        Ok(Select { condition, projection, schema: Arc::clone(schema), on_error })
    }

    /// Takes `batch`, or its halves when an expression fails on it, down to single rows. What
    /// comes out depends on the rows alone: a row is refused exactly when it fails by itself.
    fn take(&self, batch: Batch, pieces: &mut Vec<Batch>, out: &mut Output) -> Result<()> {
        let error = match self.evaluate(&batch) {
            Ok(selected) => {
                pieces.extend(selected);
                return Ok(());
            }
            Err(error) => error,
        };
        match batch.len() {
            0 => Err(error.into()),
            1 if self.on_error == OnError::Null => {
                out.nulled += 1;
                pieces.extend(self.evaluate_nulling(&batch)?);
                Ok(())
            }
            1 => refuse_row(&batch, self.row_reason(&batch, &error), self.on_error, out),
            len => {
                self.take(batch.slice(0, len / 2), pieces, out)?;
                self.take(batch.slice(len / 2, len - len / 2), pieces, out)
            }
        }
    }

    fn evaluate(&self, batch: &Batch) -> Result<Option<Batch>, DataFusionError> {
        let rows = batch.len();
        let chosen = match &self.condition {
            None => Chosen::All,
            Some(condition) => choose(condition.physical.evaluate(&batch.rows)?, rows)?,
        };
        match (&chosen, &self.projection) {
            (Chosen::None, _) => Ok(None),
            (Chosen::All, None) => {
                Ok(Some(batch.with_rows(batch.rows.clone().with_schema(self.schema.clone())?)))
            }
            (Chosen::All, Some(projection)) => {
                let columns = evaluate_all(&projection.columns, &batch.rows)?;
                Ok(Some(batch.with_rows(self.batch_of(columns, rows)?)))
            }
            (Chosen::Some(indices), None) => {
                let columns = take_columns(batch.rows.columns().iter(), indices)?;
                let taken = self.batch_of(columns, indices.len())?;
                Ok(Some(batch.take_places(taken, indices.values())))
            }
            (Chosen::Some(indices), Some(projection)) => {
                let needed = projection.needed.iter().map(|&column| batch.rows.column(column));
                let narrow = take_columns(needed, indices)?;
                let narrow =
                    batch_of(projection.schema.clone(), narrow, indices.len()).map_err(external)?;
                let columns = evaluate_all(&projection.narrow, &narrow)?;
                let taken = self.batch_of(columns, indices.len())?;
                Ok(Some(batch.take_places(taken, indices.values())))
            }
        }
    }

    fn batch_of(
        &self,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch, DataFusionError> {
        batch_of(self.schema.clone(), columns, rows).map_err(external)
    }

    /// The outcome for a single row, failing operations being null.
    fn evaluate_nulling(&self, row: &Batch) -> Result<Option<Batch>> {
        if let Some(condition) = &self.condition
            && evaluate_nulling(&condition.physical, &row.rows)? != ScalarValue::Boolean(Some(true))
        {
            return Ok(None);
        }
        let rows = match &self.projection {
            None => row.rows.clone().with_schema(self.schema.clone())?,
            Some(projection) => {
                let columns = projection
                    .columns
                    .iter()
                    .map(|column| evaluate_nulling(&column.physical, &row.rows)?.to_array())
                    .collect::<Result<Vec<_>, _>>()?;
                batch_of(self.schema.clone(), columns, 1)?
            }
        };
        Ok(Some(row.with_rows(rows)))
    }

    /// Why a row failed: the first expression that does.
    fn row_reason(&self, row: &Batch, error: &DataFusionError) -> String {
        let columns = self.projection.iter().flat_map(|projection| &projection.columns);
        self.condition
            .iter()
            .chain(columns)
            .find_map(|expr| {
                let error = expr.physical.evaluate(&row.rows).err()?;
                Some(reason(&error, &expr.text))
            })
            .unwrap_or_else(|| reason(error, "the row"))
    }
}

impl Projection {
    fn new(columns: Vec<Compiled>, input: &SchemaRef) -> Result<Projection> {
        let mut needed: Vec<usize> = columns.iter().flat_map(Compiled::columns).collect();
        needed.sort_unstable();
        needed.dedup();
        let narrow = columns.iter().map(|c| c.over_columns(&needed)).collect::<Result<Vec<_>>>()?;
        let schema = Arc::new(input.project(&needed)?);
        Ok(Projection { columns, needed, narrow, schema })
    }
}

impl Operator for Select {
    fn describe(&self) -> String {
        match (&self.condition, &self.projection) {
            (Some(_), Some(_)) => "Filter and projection",
            (Some(_), None) => "Filter",
            (None, _) => "Projection",
        }
        .into()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut pieces = Vec::new();
        self.take(batch, &mut pieces, out)?;
        if let Some(batch) = Batch::concat(pieces)? {
            out.emit(batch);
        }
        Ok(())
    }
}

enum Chosen {
    All,
    None,
    Some(UInt32Array),
}

fn choose(value: ColumnarValue, rows: usize) -> Result<Chosen, DataFusionError> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => Ok(Chosen::All),
        ColumnarValue::Scalar(_) => Ok(Chosen::None),
        ColumnarValue::Array(array) => {
            let indices = true_rows(array.as_boolean());
            Ok(match indices.len() {
                0 => Chosen::None,
                n if n == rows => Chosen::All,
                _ => Chosen::Some(UInt32Array::from(indices)),
            })
        }
    }
}

/// Positions of the rows where `mask` is true (null is not).
pub(crate) fn true_rows(mask: &BooleanArray) -> Vec<u32> {
    let bits = match mask.nulls() {
        Some(nulls) if nulls.null_count() > 0 => &(mask.values() & nulls.inner()),
        _ => mask.values(),
    };
    let mut indices = Vec::with_capacity(bits.count_set_bits());
    let chunks = bits.bit_chunks();
    let mut base = 0u32;
    for mut word in chunks.iter_padded() {
        while word != 0 {
            indices.push(base + word.trailing_zeros());
            word &= word - 1;
        }
        base += 64;
    }
    indices
}

fn evaluate_all(
    columns: &[Compiled],
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    columns
        .iter()
        .map(|column| column.physical.evaluate(rows)?.into_array(rows.num_rows()))
        .collect()
}

fn external(error: crate::error::ExecError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
