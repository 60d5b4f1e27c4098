//! Stream rows with the current rows of a table or materialized view.
//!
//! The right side are the changes of the relation. They are applied in the global order: the changes
//! of a place before the left rows of that place. Left rows pass in the order of their arrival.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, SchemaRef};
use auspex_plan::OnError;
use auspex_storage::Run;
use datafusion::common::JoinType;

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::operators::evaluate;

use super::JoinParts;
use super::filter::PairFilter;
use super::gather::{NO_ROW, Pairs, Sources};
use super::keys::{Interner, JoinKeys, KeyTable, NULL};
use super::store::RowStore;

/// Tag of the relation's rows in saved state.
const TAG: u8 = 0x10;

/// The mark of a row that was replaced or removed.
const DEAD: u8 = 1;

/// Pairs that are worked off together, at least when a row of the left side ends.
const PAIRS: usize = 65_536;

/// See the module.
pub struct LookupJoin {
    kind: JoinType,
    filter: Option<PairFilter>,
    schemas: [SchemaRef; 2],
    schema: SchemaRef,
    on_error: OnError,
    /// Rows since the last promise of the input: left, right.
    held: [Vec<Batch>; 2],
    left_keys: JoinKeys,
    right_keys: JoinKeys,
    identity: JoinKeys,
    /// The relation's rows. In the place of an offset each has the number of its identity.
    store: RowStore,
    identities: KeyTable<Option<Current>>,
    by_key: KeyTable<Matches>,
    known: [Interner; 2],
    /// Number of the next new identity.
    next_identity: i64,
    dead: usize,
}

/// The row of an identity.
#[derive(Clone, Copy)]
struct Current {
    row: u64,
    /// What the matches of a left row are ordered by.
    identity: i64,
    /// Its join key.
    key: u128,
}

/// Current rows of one join key: identity and number, ascending.
#[derive(Default)]
enum Matches {
    #[default]
    None,
    One((i64, u64)),
    Several(Vec<(i64, u64)>),
}

impl Matches {
    fn as_slice(&self) -> &[(i64, u64)] {
        match self {
            Matches::None => &[],
            Matches::One(one) => std::slice::from_ref(one),
            Matches::Several(rows) => rows,
        }
    }

    fn insert(&mut self, identity: i64, row: u64) {
        match self {
            Matches::None => *self = Matches::One((identity, row)),
            Matches::One(one) => {
                let mut rows = vec![*one, (identity, row)];
                rows.sort_unstable();
                *self = Matches::Several(rows);
            }
            Matches::Several(rows) => {
                let at = rows.partition_point(|(other, _)| *other < identity);
                rows.insert(at, (identity, row));
            }
        }
    }

    fn remove(&mut self, identity: i64) {
        match self {
            Matches::Several(rows) => {
                rows.retain(|(other, _)| *other != identity);
                if let [one] = rows.as_slice() {
                    *self = Matches::One(*one);
                }
            }
            _ => *self = Matches::None,
        }
    }
}

/// The rows of one left row's matches are `pairs[from..]` up to those of the next.
struct Looked {
    row: u64,
    from: usize,
}

impl LookupJoin {
    /// See [`auspex_plan::nodes::StreamJoin`].
    ///
    /// # Errors
    /// When keys of these types cannot be compared.
    pub fn new(parts: JoinParts) -> Result<LookupJoin> {
        let JoinParts { kind, keys: [left, right], filter, schemas, schema, on_error, identity } =
            parts;
        let op = schemas[1].fields().last();
        if identity.is_empty() || op.is_none_or(|op| op.data_type() != &DataType::Utf8View) {
            return Err(ExecError::Plan("a look-up in what has no changes".into()));
        }
        let filter = filter.map(|f| PairFilter::new(&f, &schemas, on_error)).transpose()?;
        Ok(LookupJoin {
            kind,
            filter,
            held: [Vec::new(), Vec::new()],
            left_keys: JoinKeys::new(left)?,
            right_keys: JoinKeys::new(right)?,
            identity: JoinKeys::new(identity)?,
            store: RowStore::new(TAG, Arc::clone(&schemas[1])),
            schemas,
            schema,
            on_error,
            identities: KeyTable::new(),
            by_key: KeyTable::new(),
            known: [Interner::default(), Interner::default()],
            next_identity: 0,
            dead: 0,
        })
    }

    /// Sets the row of an identity; gives the identity's number and the row that it replaces.
    fn set(&mut self, name: u128, key: u128, row: u64) -> (i64, Option<u64>) {
        let current = self.identities.entry(name);
        let former = *current;
        let identity = former.map_or(self.next_identity, |former| former.identity);
        *current = Some(Current { row, identity, key });
        match former {
            None => self.next_identity += 1,
            Some(former) => self.unlink(former),
        }
        if key != NULL {
            self.by_key.entry(key).insert(identity, row);
        }
        (identity, former.map(|former| former.row))
    }

    /// Takes a row out of the index.
    fn unlink(&mut self, row: Current) {
        if row.key != NULL {
            let matches = self.by_key.entry(row.key);
            matches.remove(row.identity);
            if matches.as_slice().is_empty() {
                self.by_key.remove(row.key);
            }
        }
    }

    /// Applies the changes and finds the matches of the left rows, each at its place.
    fn merge(&mut self, lefts: &[Batch], rights: Vec<Batch>, out: &mut Output) -> Result<()> {
        let mut dead = Vec::new();
        let mut changes = Vec::with_capacity(rights.len());
        for batch in rights {
            if !self.right_keys.are_columns() {
                // A change whose key fails is applied, but its row has no equal.
                evaluate(self.right_keys.exprs(), batch.clone(), self.on_error, out)?;
            }
            let names = self.identity.of(&batch.rows, &mut self.known[0])?;
            let keys = self.right_keys.of(&batch.rows, &mut self.known[1])?;
            changes.push((batch, names, keys));
        }
        let mut pairs = Pairs::default();
        let mut looked = Vec::new();
        let mut pending = changes.iter().flat_map(|(batch, names, keys)| {
            (0..batch.len()).map(move |row| (batch, row, names[row], keys[row]))
        });
        let mut change = pending.next();
        let (mut next, mut left_number) = (self.store.end(), 0);
        let mut identities = Vec::new();
        let mut apply = |join: &mut Self, (batch, row, name, key): (&Batch, usize, u128, u128)| {
            let ops = batch.rows.columns().last().map(|ops| ops.as_string_view());
            match ops.filter(|ops| ops.is_valid(row)).map(|ops| ops.value(row)) {
                Some("I" | "U") => {
                    let (identity, former) = join.set(name, key, next);
                    identities.push(identity);
                    next += 1;
                    dead.extend(former);
                }
                Some("D") => {
                    if let Some(former) = join.identities.remove(name).flatten() {
                        join.unlink(former);
                        dead.push(former.row);
                    }
                }
                other => return Err(ExecError::Plan(format!("a change {other:?}"))),
            }
            Ok(())
        };
        for batch in lefts {
            let keys = self.left_keys.of(&batch.rows, &mut self.known[1])?;
            for (row, key) in keys.into_iter().enumerate() {
                let place = batch.sequence.get(row);
                while let Some(due) = change.take_if(|(b, row, ..)| b.sequence.get(*row) <= place) {
                    apply(self, due)?;
                    change = pending.next();
                }
                looked.push(Looked { row: left_number, from: pairs.len() });
                if key != NULL
                    && let Some(matches) = self.by_key.get(key)
                {
                    for (_, right) in matches.as_slice() {
                        pairs.push([left_number, *right], 0, 0, 0);
                    }
                }
                left_number += 1;
            }
        }
        while let Some(due) = change {
            apply(self, due)?;
            change = pending.next();
        }
        drop(pending);
        self.keep(changes.into_iter().map(|(batch, ..)| batch), identities)?;
        self.dead += dead.len();
        dead.sort_unstable();
        self.store.mark(dead.into_iter(), DEAD);
        self.emit(lefts, &pairs, &looked, out)
    }

    /// Stores the rows that changes have set; `identities` are theirs.
    fn keep(&mut self, changes: impl Iterator<Item = Batch>, identities: Vec<i64>) -> Result<()> {
        let mut identities = identities.into_iter();
        for batch in changes {
            let ops = batch.rows.columns().last().map(|ops| ops.as_string_view());
            let sets = |row: &u32| ops.is_some_and(|ops| ops.value(*row as usize) != "D");
            let rows: Vec<u32> = (0..batch.len() as u32).filter(sets).collect();
            let mut kept = if rows.len() == batch.len() { batch } else { batch.take(&rows)? };
            kept.offset = Run::Each(identities.by_ref().take(rows.len()).collect());
            self.store.push(kept)?;
        }
        Ok(())
    }

    /// Gives what comes of the left rows.
    fn emit(
        &self,
        lefts: &[Batch],
        pairs: &Pairs,
        looked: &[Looked],
        out: &mut Output,
    ) -> Result<()> {
        let sides = [Sources::from_zero(lefts.iter()), self.store.sources()];
        let mut rest = looked;
        while !rest.is_empty() {
            let from = rest[0].from;
            let some = rest.partition_point(|left| left.from < from + PAIRS).max(1);
            let (now, after) = rest.split_at(some);
            let to = after.first().map_or(pairs.len(), |left| left.from);
            self.emit_some(&sides, pairs, now, from..to, out)?;
            rest = after;
        }
        Ok(())
    }

    fn emit_some(
        &self,
        sides: &[Sources; 2],
        pairs: &Pairs,
        looked: &[Looked],
        range: std::ops::Range<usize>,
        out: &mut Output,
    ) -> Result<()> {
        let mut candidates = Pairs::default();
        range.clone().for_each(|pair| candidates.copy(pairs, pair));
        let partners = match &self.filter {
            Some(filter) if candidates.len() > 0 => {
                Some(filter.partners(&candidates, sides, &self.schemas, |_| 0, out)?)
            }
            _ => None,
        };
        let mut rows = Pairs::default();
        for (number, left) in looked.iter().enumerate() {
            let to = looked.get(number + 1).map_or(range.end, |next| next.from) - range.start;
            let of_row = left.from - range.start..to;
            let mut matches = of_row
                .filter(|pair| partners.as_ref().is_none_or(|partners| partners[*pair]))
                .map(|pair| candidates.rows[1][pair])
                .peekable();
            let matched = matches.peek().is_some();
            match self.kind {
                JoinType::LeftSemi | JoinType::LeftAnti => {
                    if matched == (self.kind == JoinType::LeftSemi) {
                        rows.push([left.row, NO_ROW], 0, 0, 0);
                    }
                }
                JoinType::Left if !matched => rows.push([left.row, NO_ROW], 0, 0, 0),
                _ => matches.for_each(|right| rows.push([left.row, right], 0, 0, 0)),
            }
        }
        if rows.len() == 0 {
            return Ok(());
        }
        let lefts = sides[0].places(&rows.rows[0]);
        let joined = rows.batch(sides, &self.schemas, &self.schema)?;
        out.emit(lefts.with_rows(joined.rows));
        Ok(())
    }

    /// Drops replaced and removed rows when they are the most.
    fn compact(&mut self) -> Result<()> {
        let live = self.store.rows() - self.dead;
        if self.dead <= live + 8192 {
            return Ok(());
        }
        let current = self.identities.values().flatten();
        let mut numbers: Vec<u64> = current.map(|current| current.row).collect();
        numbers.sort_unstable();
        self.store.keep(&numbers)?;
        self.dead = 0;
        self.index()
    }

    /// Fills the maps from the stored rows.
    fn index(&mut self) -> Result<()> {
        self.identities.clear();
        self.by_key.clear();
        self.known = [Interner::default(), Interner::default()];
        (self.dead, self.next_identity) = (0, 0);
        let batches: Vec<(u64, Batch, Vec<u8>)> = self.store.batches().collect();
        for (start, batch, marks) in batches {
            let names = self.identity.of(&batch.rows, &mut self.known[0])?;
            let keys = self.right_keys.of(&batch.rows, &mut self.known[1])?;
            for row in 0..batch.len() {
                if marks[row] == DEAD {
                    self.dead += 1;
                    continue;
                }
                let (identity, key) = (batch.offset.get(row), keys[row]);
                let number = start + row as u64;
                *self.identities.entry(names[row]) = Some(Current { row: number, identity, key });
                if key != NULL {
                    self.by_key.entry(key).insert(identity, number);
                }
                self.next_identity = self.next_identity.max(identity + 1);
            }
        }
        Ok(())
    }
}

impl Operator for LookupJoin {
    fn describe(&self) -> String {
        format!("{} look-up join", self.kind)
    }

    fn on_batch(&mut self, input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if input.0 == 1 || self.left_keys.are_columns() {
            self.held[input.0].push(batch);
        } else if let Some((batch, _)) =
            evaluate(self.left_keys.exprs(), batch, self.on_error, out)?
        {
            self.held[0].push(batch);
        }
        Ok(())
    }

    fn on_watermark(&mut self, _watermark: &Watermark, out: &mut Output) -> Result<()> {
        let [lefts, rights] = self.held.each_mut().map(std::mem::take);
        if lefts.is_empty() && rights.is_empty() {
            return Ok(());
        }
        self.merge(&lefts, rights, out)?;
        self.store.tidy()?;
        self.compact()
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        self.store.checkpoint(state)
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.held.iter_mut().for_each(Vec::clear);
        self.store.restore(state)?;
        self.index()
    }

    fn state_rows(&self) -> u64 {
        (self.store.rows() - self.dead) as u64
    }

    fn state_bytes(&self) -> u64 {
        let known: u64 = self.known.iter().map(Interner::bytes).sum();
        self.store.bytes() + self.identities.bytes() + self.by_key.bytes() + known
    }
}
