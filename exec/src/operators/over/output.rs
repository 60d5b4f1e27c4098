//! Results of window functions on their way out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use auspex_plan::OnError;

use crate::batch::{Batch, batch_of};
use crate::error::{ExecError, Result, RowFailure};
use crate::operator::Output;
use crate::operators::refuse;
use crate::operators::slots::Slots;

use super::partition::{Given, Value};
use super::spec::{Column, OverSpec, Pick};

/// The results of rows that have not been given yet.
pub(super) struct Results {
    /// The input's columns, then the results.
    schema: SchemaRef,
    /// Formats of the functions that give values, and what they give for rows that are not there.
    formats: Vec<(RowConverter, Value)>,
    /// By the number of the row, less those that have been given.
    given: Vec<Option<Given>>,
    done: usize,
}

impl Results {
    pub(super) fn new(spec: &OverSpec, schema: SchemaRef) -> Result<Results> {
        let formats = spec.values.iter().map(|value| {
            let data_type = &value.arg.data_type;
            let fields = vec![SortField::new(data_type.clone())];
            if !RowConverter::supports_fields(&fields) {
                return Err(ExecError::Unsupported("keeping a value of this type".into()));
            }
            let converter = RowConverter::new(fields)?;
            let missing = match &value.pick {
                Pick::Lag(_, default) => default.cast_to(data_type)?.to_array()?,
                _ => arrow::array::new_null_array(data_type, 1),
            };
            let missing = converter.convert_columns(&[missing])?.row(0).data().into();
            Ok((converter, missing))
        });
        let formats = formats.collect::<Result<_>>()?;
        Ok(Results { schema, formats, given: Vec::new(), done: 0 })
    }

    /// The values of each function, row by row.
    pub(super) fn encode(
        &self,
        columns: impl Iterator<Item = ArrayRef>,
    ) -> Result<Vec<Vec<Value>>> {
        let encode = |(column, (converter, _)): (ArrayRef, &(RowConverter, Value))| {
            let rows = converter.convert_columns(&[column])?;
            Ok(rows.iter().map(|row| row.data().into()).collect())
        };
        columns.zip(&self.formats).map(encode).collect()
    }

    /// Sets the results of a row.
    pub(super) fn set(&mut self, row: usize, given: Given) {
        let row = row - self.done;
        if self.given.len() <= row {
            self.given.resize_with(row + 1, || None);
        }
        self.given[row] = Some(given);
    }

    pub(super) fn clear(&mut self) {
        self.given.clear();
        self.done = 0;
    }

    /// Emits the rows of `batch`, all of whose results have been set. A row with an aggregate that
    /// cannot be represented is refused.
    ///
    /// # Errors
    /// [`ExecError::Row`] when the policy is to stop.
    pub(super) fn finish(
        &mut self,
        batch: Batch,
        spec: &OverSpec,
        slots: &mut [Slots],
        on_error: OnError,
        out: &mut Output,
    ) -> Result<()> {
        let given: Vec<Given> = std::mem::take(&mut self.given).into_iter().flatten().collect();
        self.done += given.len();
        let mut failures: Vec<Option<String>> = vec![None; batch.len()];
        // Of each frame the aggregates, null in the rows that failed.
        let mut frames = Vec::with_capacity(slots.len());
        for (frame, slots) in slots.iter_mut().enumerate() {
            let mut of: Vec<u32> = given.iter().map(|given| given.slots[frame]).collect();
            let results = slots.results(&of, on_error)?;
            out.nulled += results.nulled;
            for (row, reason) in results.failed {
                failures[row].get_or_insert(reason);
            }
            let columns = match &results.kept {
                None => results.columns,
                Some(kept) => spread(&results.columns, kept, batch.len())?,
            };
            frames.push(columns);
            of.sort_unstable();
            of.dedup();
            slots.give_back(&of);
        }
        let mut columns = batch.rows.columns().to_vec();
        for column in &spec.columns {
            let field = self.schema.field(columns.len());
            let values = self.column(*column, &given, &frames)?;
            let same = values.data_type() == field.data_type();
            columns.push(if same { values } else { cast(&values, field.data_type())? });
        }
        let mut rows =
            batch.with_rows(batch_of(SchemaRef::clone(&self.schema), columns, batch.len())?);
        if failures.iter().any(Option::is_some) {
            let good: Vec<u32> =
                (0..batch.len() as u32).filter(|row| failures[*row as usize].is_none()).collect();
            rows = rows.take(&good)?;
            for (row, reason) in failures.into_iter().enumerate() {
                let Some(reason) = reason else { continue };
                let (stream, offset) = (batch.stream.get(row) as u32, batch.offset.get(row) as u64);
                let sequence = batch.sequence.get(row);
                refuse(RowFailure { stream, offset, sequence, reason }, on_error, out)?;
            }
        }
        out.emit(rows);
        Ok(())
    }

    fn column(
        &self,
        column: Column,
        given: &[Given],
        frames: &[Vec<ArrayRef>],
    ) -> Result<ArrayRef> {
        let numbers = |f: fn(&Given) -> u64| -> ArrayRef {
            Arc::new(given.iter().map(|given| f(given) as i64).collect::<Int64Array>())
        };
        Ok(match column {
            Column::RowNumber => numbers(|given| given.row_number),
            Column::Rank => numbers(|given| given.rank),
            Column::DenseRank => numbers(|given| given.dense_rank),
            Column::Aggregate(frame, number) => Arc::clone(&frames[frame][number]),
            Column::Value(number) => {
                let (converter, missing) = &self.formats[number];
                let parser = converter.parser();
                let values = given.iter().map(|given| given.values[number].as_ref());
                let values = values.map(|value| parser.parse(value.unwrap_or(missing)));
                let mut columns = converter.convert_rows(values)?;
                columns.pop().ok_or_else(|| ExecError::Plan("a value without column".into()))?
            }
        })
    }
}

/// Columns of the rows `kept` as columns of so many rows, null in the others.
fn spread(columns: &[ArrayRef], kept: &[u32], rows: usize) -> Result<Vec<ArrayRef>> {
    let mut at = vec![None; rows];
    for (position, row) in kept.iter().enumerate() {
        at[*row as usize] = Some(position as u32);
    }
    let at = UInt32Array::from(at);
    Ok(columns.iter().map(|column| take(column, &at, None)).collect::<Result<_, _>>()?)
}
