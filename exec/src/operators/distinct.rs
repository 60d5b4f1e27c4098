//! The first row of each value.

use auspex_plan::OnError;
use hashbrown::HashSet;

use crate::batch::Batch;
use crate::error::Result;
use crate::expr::{Compiled, reason};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter};

use super::keys::Keys;
use super::refuse_row;

/// Lets a row through when its key has not been seen before.
pub struct Distinct {
    keys: Keys,
    seen: HashSet<Box<[u8]>>,
    new: Vec<Box<[u8]>>,
    key_bytes: u64,
    on_error: OnError,
}

impl Distinct {
    /// `on` is what must be new.
    pub fn new(on: Vec<Compiled>, on_error: OnError) -> Result<Distinct> {
        Ok(Distinct {
            keys: Keys::new(on)?,
            seen: HashSet::new(),
            new: Vec::new(),
            key_bytes: 0,
            on_error,
        })
    }

    fn take(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let rows = match self.keys.of(&batch.rows) {
            Ok(rows) => rows,
            Err(error) if batch.len() == 1 => {
                if self.on_error != OnError::Null {
                    let text =
                        self.keys.exprs().iter().map(|e| e.text.as_str()).collect::<Vec<_>>();
                    let reason = reason(&error, &text.join(", "));
                    return refuse_row(&batch, reason, self.on_error, out);
                }
                out.nulled += 1;
                self.keys.of_nulling(&batch.rows)?
            }
            Err(_) => {
                let half = batch.len() / 2;
                self.take(batch.slice(0, half), out)?;
                return self.take(batch.slice(half, batch.len() - half), out);
            }
        };
        let mut passing = Vec::new();
        for row in 0..batch.len() {
            let key = rows.row(row);
            let key: &[u8] = key.as_ref();
            if !self.seen.contains(key) {
                self.seen.insert(key.into());
                self.new.push(key.into());
                self.key_bytes += key.len() as u64;
                passing.push(row as u32);
            }
        }
        if passing.len() == batch.len() {
            out.emit(batch);
        } else if !passing.is_empty() {
            out.emit(batch.take(&passing)?);
        }
        Ok(())
    }
}

impl Operator for Distinct {
    fn describe(&self) -> String {
        "Distinct".into()
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
