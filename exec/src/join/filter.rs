//! The further condition of a join.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use auspex_plan::OnError;
use datafusion::common::ScalarValue;

use crate::batch::batch_of;
use crate::error::Result;
use crate::expr::{Compiled, evaluate_nulling, reason};
use crate::operator::Output;
use crate::operators::refuse_row;

use super::gather::{Pairs, Sources};

/// Decides which pairs of rows are partners.
pub(super) struct PairFilter {
    condition: Compiled,
    /// Columns of each side that the condition reads.
    needed: [Vec<usize>; 2],
    schema: SchemaRef,
    on_error: OnError,
}

impl PairFilter {
    /// `condition` is over the columns of both sides.
    pub(super) fn new(
        condition: &Compiled,
        schemas: &[SchemaRef; 2],
        on_error: OnError,
    ) -> Result<PairFilter> {
        let lefts = schemas[0].fields().len();
        let needed = condition.columns();
        let condition = condition.over_columns(&needed)?;
        let (left, right): (Vec<usize>, Vec<usize>) = needed.iter().partition(|c| **c < lefts);
        let right: Vec<usize> = right.iter().map(|c| c - lefts).collect();
        let field = |side: usize| move |c: &usize| schemas[side].field(*c).clone();
        let fields = left.iter().map(field(0)).chain(right.iter().map(field(1)));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(PairFilter { condition, needed: [left, right], schema, on_error })
    }

    /// Whether each pair is one. A pair on which the condition fails is none; the failure belongs to
    /// its row of the side that `cause` names.
    pub(super) fn partners(
        &self,
        pairs: &Pairs,
        sides: &[Sources; 2],
        schemas: &[SchemaRef; 2],
        cause: impl Fn(usize) -> usize,
        out: &mut Output,
    ) -> Result<Vec<bool>> {
        let mut columns = Vec::new();
        for side in 0..2 {
            let needed = self.needed[side].iter().copied();
            columns.extend(sides[side].columns(&schemas[side], needed, &pairs.rows[side])?);
        }
        let rows = batch_of(Arc::clone(&self.schema), columns, pairs.len())?;
        let mut partners = Vec::with_capacity(pairs.len());
        let refuse = |pair: usize, reason, out: &mut Output| {
            let side = cause(pair);
            refuse_row(&sides[side].row(pairs.rows[side][pair]), reason, self.on_error, out)
        };
        self.take(&rows, &refuse, &mut partners, out)?;
        Ok(partners)
    }

    /// Takes the pairs of `rows`, or their halves when the condition fails on one of them.
    fn take(
        &self,
        rows: &RecordBatch,
        refuse: &impl Fn(usize, String, &mut Output) -> Result<()>,
        partners: &mut Vec<bool>,
        out: &mut Output,
    ) -> Result<()> {
        let len = rows.num_rows();
        match self.condition.physical.evaluate(rows).and_then(|value| value.into_array(len)) {
            Ok(value) => {
                partners.extend(value.as_boolean().iter().map(|is| is == Some(true)));
            }
            Err(_) if len > 1 => {
                self.take(&rows.slice(0, len / 2), refuse, partners, out)?;
                self.take(&rows.slice(len / 2, len - len / 2), refuse, partners, out)?;
            }
            Err(_) if self.on_error == OnError::Null => {
                out.nulled += 1;
                let value = evaluate_nulling(&self.condition.physical, rows)?;
                partners.push(value == ScalarValue::Boolean(Some(true)));
            }
            Err(error) => {
                refuse(partners.len(), reason(&error, &self.condition.text), out)?;
                partners.push(false);
            }
        }
        Ok(())
    }
}
