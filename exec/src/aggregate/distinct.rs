//! Aggregates over distinct values.

use arrow::array::{ArrayRef, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, RowParser};
use auspex_storage::Run;
use datafusion::common::DataFusionError;
use hashbrown::HashSet;

use crate::error::Result;
use crate::operators::one_zero;

use super::compile::Make;
use super::slots::{Kind, chosen, each, put_len, take, take_len, take_slice};
use super::{Figure, Places, Rows};

/// Keeps the set of distinct argument rows; when asked, gives them, in ascending order, to an
/// aggregate of its own.
pub(super) struct Distinct {
    pub(super) converter: RowConverter,
    pub(super) types: Vec<DataType>,
    /// Whether rows with a null are left out, because the aggregate ignores them.
    pub(super) ignore_nulls: bool,
    /// Which argument each argument of the aggregate is.
    pub(super) passed: Vec<usize>,
    /// Makes the aggregate.
    pub(super) aggregate: Make,
}

/// Rows in arrow's row format.
#[derive(Default)]
pub(super) struct Set {
    /// Rows that are one value of eight bytes: those.
    words: HashSet<u64>,
    /// All others.
    wide: HashSet<Box<[u8]>>,
    wide_bytes: usize,
}

/// The byte before a value that is not null.
const PRESENT: u8 = 1;

impl Set {
    fn insert(&mut self, row: &[u8]) {
        if let [PRESENT, word @ ..] = row
            && let Ok(word) = <[u8; 8]>::try_from(word)
        {
            self.words.insert(u64::from_be_bytes(word));
        } else if !self.wide.contains(row) {
            self.wide_bytes += row.len();
            self.wide.insert(row.into());
        }
    }

    fn len(&self) -> usize {
        self.words.len() + self.wide.len()
    }

    /// All rows, ascending.
    fn sorted(&self) -> Vec<Box<[u8]>> {
        let words = self.words.iter().map(|word| {
            let mut row = [PRESENT; 9];
            row[1..].copy_from_slice(&word.to_be_bytes());
            Box::from(row)
        });
        let mut rows: Vec<Box<[u8]>> = words.chain(self.wide.iter().cloned()).collect();
        rows.sort_unstable();
        rows
    }
}

impl Distinct {
    fn aggregate(
        &self,
        set: &Set,
        parser: &RowParser,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let sorted = set.sorted();
        let rows = sorted.iter().map(|row| parser.parse(row));
        let columns = match sorted.is_empty() {
            true => self.types.iter().map(new_empty_array).collect(),
            false => self.converter.convert_rows(rows)?,
        };
        let args: Vec<ArrayRef> = self.passed.iter().map(|arg| columns[*arg].clone()).collect();
        let mut aggregate = (self.aggregate)();
        aggregate.resize(1);
        let places = Places { time: &Run::Constant(0), ordinal: 0 };
        let slots = vec![0; sorted.len()];
        let rows = Rows { slots: &slots, args: &args, keep: None, places: &places };
        aggregate.update(&rows).map_err(|error| DataFusionError::External(Box::new(error)))?;
        aggregate.evaluate(&[0], figure, data_type)
    }
}

impl Kind for Distinct {
    type State = Set;

    fn update(&mut self, states: &mut [Set], rows: &Rows<'_>, heap: &mut u64) -> Result<()> {
        let nulls = if self.ignore_nulls { rows.args } else { &[] };
        let mask = chosen(rows.keep, nulls);
        let columns: Vec<ArrayRef> = rows.args.iter().cloned().map(one_zero).collect();
        let values = self.converter.convert_columns(&columns)?;
        each(rows.slots.len(), mask.as_ref(), |row| {
            let state = &mut states[rows.slots[row] as usize];
            *heap -= self.heap(state);
            state.insert(values.row(row).as_ref());
            *heap += self.heap(state);
        });
        Ok(())
    }

    fn merge(&self, into: &mut Set, other: &Set) -> Result<()> {
        into.words.extend(&other.words);
        other.wide.iter().for_each(|row| into.insert(row));
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Set>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        if *figure == Figure::Count {
            let counts = states.map(|set| set.len() as i64);
            return Ok(std::sync::Arc::new(counts.collect::<arrow::array::Int64Array>()));
        }
        let parser = self.converter.parser();
        let mut results = Vec::new();
        for set in states {
            results.push(self.aggregate(set, &parser, figure, data_type)?);
        }
        if results.is_empty() {
            return Ok(new_empty_array(data_type));
        }
        Ok(concat(&results.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    }

    fn write(&self, state: &Set, out: &mut Vec<u8>) {
        let mut words: Vec<u64> = state.words.iter().copied().collect();
        words.sort_unstable();
        put_len(words.len(), out);
        out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        let mut wide: Vec<&[u8]> = state.wide.iter().map(AsRef::as_ref).collect();
        wide.sort_unstable();
        put_len(wide.len(), out);
        for row in wide {
            put_len(row.len(), out);
            out.extend(row);
        }
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Set> {
        let mut set = Set::default();
        for _ in 0..take_len(bytes)? {
            set.words.insert(u64::from_be_bytes(take(bytes)?));
        }
        for _ in 0..take_len(bytes)? {
            let len = take_len(bytes)?;
            set.insert(take_slice(bytes, len)?);
        }
        Ok(set)
    }

    fn is_small(&self) -> bool {
        false
    }

    fn heap(&self, state: &Set) -> u64 {
        // A hash table has a control byte for each place.
        let words = state.words.capacity() * (size_of::<u64>() + 1);
        let wide = state.wide.capacity() * (size_of::<Box<[u8]>>() + 1) + state.wide_bytes;
        (words + wide) as u64
    }
}
