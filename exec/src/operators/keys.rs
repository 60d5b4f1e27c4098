//! Values of several expressions as one byte string per row, equal exactly when the values are
//! (nulls are equal, and so are the two zeros of floats and all NaNs).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::DataFusionError;

use crate::error::{ExecError, Result};
use crate::expr::{Compiled, evaluate_nulling};

/// Makes keys from rows.
pub(super) struct Keys {
    exprs: Vec<Compiled>,
    converter: RowConverter,
}

impl Keys {
    pub(super) fn new(exprs: Vec<Compiled>) -> Result<Keys> {
        let fields: Vec<SortField> =
            exprs.iter().map(|expr| SortField::new(expr.data_type.clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(ExecError::Unsupported("a key of this type".into()));
        }
        Ok(Keys { converter: RowConverter::new(fields)?, exprs })
    }

    /// The expressions, for messages.
    pub(super) fn exprs(&self) -> &[Compiled] {
        &self.exprs
    }

    /// One key per row.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Rows, DataFusionError> {
        let columns = self
            .exprs
            .iter()
            .map(|expr| {
                let array = expr.physical.evaluate(rows)?.into_array(rows.num_rows())?;
                Ok(one_zero(array))
            })
            .collect::<Result<Vec<_>, DataFusionError>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// The key of the only row of `row`, failing operations being null.
    pub(super) fn of_nulling(&self, row: &RecordBatch) -> Result<Rows> {
        let columns = self
            .exprs
            .iter()
            .map(|expr| Ok(one_zero(evaluate_nulling(&expr.physical, row)?.to_array()?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }
}

/// Makes byte strings of values that are there already: equal exactly when the values are, and in
/// the order that was asked for.
pub(super) struct KeyFormat {
    /// `None` without columns: all keys are the same.
    converter: Option<RowConverter>,
}

impl KeyFormat {
    /// For columns of these types, each with its order.
    pub(super) fn new(columns: impl Iterator<Item = (DataType, SortOptions)>) -> Result<KeyFormat> {
        let fields: Vec<SortField> =
            columns.map(|(t, order)| SortField::new_with_options(t, order)).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(ExecError::Unsupported("a key of this type".into()));
        }
        let converter = match fields.is_empty() {
            true => None,
            false => Some(RowConverter::new(fields)?),
        };
        Ok(KeyFormat { converter })
    }

    /// Keys for which only equality matters.
    pub(super) fn groups(exprs: &[Compiled]) -> Result<KeyFormat> {
        KeyFormat::new(exprs.iter().map(|e| (e.data_type.clone(), SortOptions::default())))
    }

    /// One key for each of `rows` rows. Neighbours that are equal share their memory.
    pub(super) fn of(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Arc<[u8]>>> {
        let Some(converter) = &self.converter else {
            return Ok(vec![Arc::from([]); rows]);
        };
        let columns: Vec<ArrayRef> = columns.iter().map(|c| one_zero(Arc::clone(c))).collect();
        let encoded = converter.convert_columns(&columns)?;
        let mut keys: Vec<Arc<[u8]>> = Vec::with_capacity(rows);
        for row in &encoded {
            match keys.last() {
                Some(last) if last.as_ref() == row.data() => keys.push(Arc::clone(last)),
                _ => keys.push(row.data().into()),
            }
        }
        Ok(keys)
    }
}

/// Replaces -0.0 by 0.0 and every NaN by the same one.
pub(crate) fn one_zero(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        _ => array,
    }
}
