//! Values of several expressions as one byte string per row, equal exactly when the values are
//! (nulls are equal, and so are the two zeros of floats).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
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

/// Replaces -0.0 by 0.0.
fn one_zero(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0))
        }
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| v + 0.0))
        }
        _ => array,
    }
}
