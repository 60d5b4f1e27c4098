//! The first n rows, of the stream or of each key.

use auspex_plan::OnError;
use hashbrown::{HashMap, HashSet};

use crate::batch::Batch;
use crate::error::Result;
use crate::expr::{Compiled, reason};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter};

use super::keys::Keys;
use super::refuse_row;

/// Lets the first `limit` rows of each key through, for the whole life of the query.
pub struct Limit {
    limit: u64,
    /// `None`: one count over all rows, under the empty key.
    keys: Option<Keys>,
    seen: HashMap<Box<[u8]>, u64>,
    changed: HashSet<Box<[u8]>>,
    key_bytes: u64,
    on_error: OnError,
}

impl Limit {
    /// `keys` may be empty for one count over the whole stream.
    pub fn new(limit: u64, keys: Vec<Compiled>, on_error: OnError) -> Result<Limit> {
        Ok(Limit {
            limit,
            keys: if keys.is_empty() { None } else { Some(Keys::new(keys)?) },
            seen: HashMap::new(),
            changed: HashSet::new(),
            key_bytes: 0,
            on_error,
        })
    }

    /// Counts up to `wanted` more rows of `key`; gives the number that may pass.
    fn count(&mut self, key: &[u8], wanted: u64) -> u64 {
        let seen = match self.seen.get_mut(key) {
            Some(seen) => seen,
            None => {
                self.key_bytes += key.len() as u64;
                self.seen.entry(key.into()).or_insert(0)
            }
        };
        let passing = wanted.min(self.limit - *seen);
        *seen += passing;
        if passing > 0 && !self.changed.contains(key) {
            self.changed.insert(key.into());
        }
        passing
    }

    fn by_key(&mut self, batch: Batch, out: &mut Output) -> Result<()> {
        let Some(keys) = &self.keys else {
            let passing = self.count(&[], batch.len() as u64);
            out.emit(batch.slice(0, passing as usize));
            return Ok(());
        };
        let rows = match keys.of(&batch.rows) {
            Ok(rows) => rows,
            Err(error) if batch.len() == 1 => {
                if self.on_error != OnError::Null {
                    let text = keys.exprs().iter().map(|e| e.text.as_str()).collect::<Vec<_>>();
                    let reason = reason(&error, &text.join(", "));
                    return refuse_row(&batch, reason, self.on_error, out);
                }
                out.nulled += 1;
                keys.of_nulling(&batch.rows)?
            }
            Err(_) => {
                let half = batch.len() / 2;
                self.by_key(batch.slice(0, half), out)?;
                return self.by_key(batch.slice(half, batch.len() - half), out);
            }
        };
        let passing: Vec<u32> = (0..batch.len() as u32)
            .filter(|&row| self.count(rows.row(row as usize).as_ref(), 1) == 1)
            .collect();
        if passing.len() == batch.len() {
            out.emit(batch);
        } else if !passing.is_empty() {
            out.emit(batch.take(&passing)?);
        }
        Ok(())
    }
}

impl Operator for Limit {
    fn describe(&self) -> String {
        format!("Limit {}", self.limit)
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if batch.is_empty() { Ok(()) } else { self.by_key(batch, out) }
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        for key in self.changed.drain() {
            state.put(&key, self.seen[&key].to_be_bytes().to_vec());
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.seen.clear();
        self.changed.clear();
        self.key_bytes = 0;
        for (key, value) in state.entries() {
            self.key_bytes += key.len() as u64;
            self.seen.insert(key.into(), StateReader::count(value)?);
        }
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.key_bytes + 32 * self.seen.len() as u64
    }

    fn state_rows(&self) -> u64 {
        self.seen.len() as u64
    }
}
