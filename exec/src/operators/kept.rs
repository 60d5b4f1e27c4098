//! Rows that an operator keeps, numbered as they arrived, and their part of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{ExecError, Result};
use crate::operator::{StateReader, StateWriter};
use crate::rows::{KeptRow, read_bytes, write_bytes};

/// First byte of the keys under which rows are saved.
const ROW: u8 = b'r';

/// A row with what was computed from it when it arrived.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) row: KeptRow,
    /// Values of the partition keys.
    pub(super) group: Arc<[u8]>,
    /// Values to be compared or looked up; what they are is the operator's own.
    pub(super) order: Arc<[u8]>,
}

impl Held {
    fn bytes(&self) -> u64 {
        self.row.bytes() + self.order.len() as u64 + 64
    }
}

/// Rows by their number.
#[derive(Debug, Default)]
pub(super) struct Kept {
    rows: BTreeMap<u64, Held>,
    next: u64,
    /// Rows below this number have been saved.
    saved: u64,
    /// Numbers of saved rows that are no longer kept.
    gone: Vec<u64>,
    bytes: u64,
}

impl Kept {
    /// Keeps a row and gives its number, greater than all before.
    pub(super) fn push(&mut self, held: Held) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += held.bytes();
        self.rows.insert(number, held);
        number
    }

    /// The number of the row that is pushed next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A row that is kept.
    pub(super) fn get(&self, number: u64) -> &Held {
        &self.rows[&number]
    }

    /// Keeps a row no longer.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(held) = self.rows.remove(&number) {
            self.bytes -= held.bytes();
            if number < self.saved {
                self.gone.push(number);
            }
        }
    }

    /// All rows, ascending by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Held)> {
        self.rows.iter().map(|(number, held)| (*number, held))
    }

    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Bytes of memory, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes what changed since the last call, under keys that begin with `r`.
    pub(super) fn checkpoint(&mut self, state: &mut StateWriter) {
        for number in self.gone.drain(..) {
            state.remove(&key(number));
        }
        for (number, held) in self.rows.range(self.saved..) {
            let mut value = Vec::with_capacity(held.bytes() as usize);
            held.row.write(&mut value);
            write_bytes(&mut value, &held.group);
            write_bytes(&mut value, &held.order);
            state.put(&key(*number), value);
        }
        self.saved = self.next;
    }

    /// Takes the rows back; gives the entries that are not rows.
    pub(super) fn restore<'a>(
        &mut self,
        state: &'a StateReader,
    ) -> Result<Vec<(&'a [u8], &'a [u8])>> {
        *self = Kept::default();
        let mut others = Vec::new();
        let mut last: Option<Arc<[u8]>> = None;
        for (key, mut value) in state.entries() {
            let Some((&ROW, number)) = key.split_first() else {
                others.push((key, value));
                continue;
            };
            let number = <[u8; 8]>::try_from(number)
                .map_err(|_| ExecError::State("a row without a number".into()))?;
            let row = KeptRow::read(&mut value)?;
            let group = read_bytes(&mut value)?;
            let group = last.filter(|last| last.as_ref() == group).unwrap_or_else(|| group.into());
            last = Some(Arc::clone(&group));
            let held = Held { row, group, order: read_bytes(&mut value)?.into() };
            self.bytes += held.bytes();
            self.next = u64::from_be_bytes(number) + 1;
            self.rows.insert(self.next - 1, held);
        }
        self.saved = self.next;
        Ok(others)
    }
}

fn key(number: u64) -> [u8; 9] {
    let mut key = [ROW; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}
