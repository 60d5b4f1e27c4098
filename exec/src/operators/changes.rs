//! Rows as changes of a keyed relation.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::datatypes::SchemaRef;
use auspex_plan::OnError;
use hashbrown::HashSet;

use crate::batch::{Batch, batch_of};
use crate::error::Result;
use crate::expr::{Compiled, reason};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter};

use super::keys::Keys;
use super::refuse_row;

/// Adds the column `_op`: `I` for the first row of a key, `U` for those that follow.
pub struct Changes {
    /// `None` when all rows are versions of one.
    keys: Option<Keys>,
    seen: HashSet<Box<[u8]>>,
    new: Vec<Box<[u8]>>,
    key_bytes: u64,
    schema: SchemaRef,
    on_error: OnError,
}

impl Changes {
    /// `key` is what tells rows apart, `schema` the output's: the input's columns and `_op`.
    ///
    /// # Errors
    /// When a value of the key is of a type that cannot be compared.
    pub fn new(key: Vec<Compiled>, schema: SchemaRef, on_error: OnError) -> Result<Changes> {
        let keys = if key.is_empty() { None } else { Some(Keys::new(key)?) };
        Ok(Changes { keys, seen: HashSet::new(), new: Vec::new(), key_bytes: 0, schema, on_error })
    }

    fn take(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = match self.keys.as_ref().map(|keys| keys.of(&batch.rows)) {
            None => None,
            Some(Ok(rows)) => Some(rows),
            Some(Err(error)) if batch.len() == 1 => {
                let keys = self.keys.as_ref().expect("has failed");
                if self.on_error != OnError::Null {
                    let text = keys.exprs().iter().map(|e| e.text.as_str()).collect::<Vec<_>>();
                    let reason = reason(&error, &text.join(", "));
                    return refuse_row(&batch, reason, self.on_error, out);
                }
                out.nulled += 1;
                Some(keys.of_nulling(&batch.rows)?)
            }
            Some(Err(_)) => {
                let half = batch.len() / 2;
                self.take(batch.slice(0, half), out)?;
                return self.take(batch.slice(half, batch.len() - half), out);
            }
        };
        let mut ops = Vec::with_capacity(batch.len());
        for row in 0..batch.len() {
            let key = rows.as_ref().map(|rows| rows.row(row));
            ops.push(if self.is_new(key.as_ref().map_or(&[], |key| key.as_ref())) {
                "I"
            } else {
                "U"
            });
        }
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(StringViewArray::from(ops)) as ArrayRef);
        let rows = batch_of(self.schema.clone(), columns, batch.len())?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }

    fn is_new(&mut self, key: &[u8]) -> bool {
        if self.seen.contains(key) {
            return false;
        }
        self.seen.insert(key.into());
        self.new.push(key.into());
        self.key_bytes += key.len() as u64;
        true
    }
}

impl Operator for Changes {
    fn describe(&self) -> String {
        "KeyedChanges".into()
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if batch.is_empty() { Ok(()) } else { self.take(batch, out) }
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        for key in self.new.drain(..) {
            state.put(&key, Vec::new());
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.new.clear();
        self.seen = state.entries().map(|(key, _)| key.into()).collect();
        self.key_bytes = self.seen.iter().map(|key| key.len() as u64).sum();
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.key_bytes + 24 * self.seen.len() as u64
    }

    fn state_rows(&self) -> u64 {
        self.seen.len() as u64
    }
}
