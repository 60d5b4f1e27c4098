//! Key rows as dense numbers.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::error::{ExecError, Result};
use crate::operators::one_zero;

/// Gives each distinct key row a number: equal rows get the same one (nulls are equal, so are the
/// two zeros of floats, and NaN equals NaN). Numbers are small: one that has been given back is
/// used again before a new one.
///
/// The numbers depend on the history of the interner (after a restart they are others), so nothing
/// that is output may be ordered by them.
pub struct Interner {
    keys: Keys,
    hasher: DefaultHashBuilder,
    free: Vec<u32>,
    /// The numbers of the rows of the last call.
    ids: Vec<u32>,
}

/// Distinct keys by number.
enum Keys {
    /// No column: one key.
    None,
    /// One column of integers (also times), as 64 bits; the data type to give back.
    Integers(Store<Option<i64>>, DataType),
    /// One column of text.
    Texts(Store<Text>),
    /// Any columns, in arrow's row format.
    Rows(Store<Box<[u8]>>, RowConverter, Vec<DataType>),
}

/// A text, an inline view when it has at most 12 bytes.
#[derive(Clone, PartialEq, Eq)]
enum Text {
    Null,
    /// The view, in little-endian bytes: length, then the text, zeros behind it.
    Short([u8; 16]),
    Long(Box<[u8]>),
}

/// Keys by number, and numbers by key.
struct Store<K> {
    by_id: Vec<Option<K>>,
    table: HashTable<u32>,
    /// Bytes behind pointers of the keys.
    heap: u64,
}

impl<K> Store<K> {
    fn new() -> Self {
        Store { by_id: Vec::new(), table: HashTable::new(), heap: 0 }
    }

    /// The number of a key with this hash, made by `make` when it is new.
    #[inline]
    fn intern(
        &mut self,
        hash: u64,
        free: &mut Vec<u32>,
        is: impl Fn(&K) -> bool,
        hash_of: impl Fn(&K) -> u64,
        make: impl FnOnce() -> (K, usize),
    ) -> u32 {
        let by_id = &self.by_id;
        let same = |id: &u32| by_id[*id as usize].as_ref().is_some_and(&is);
        if let Some(id) = self.table.find(hash, same) {
            return *id;
        }
        let (key, heap) = make();
        self.heap += heap as u64;
        let id = free.pop().unwrap_or_else(|| {
            self.by_id.push(None);
            (self.by_id.len() - 1) as u32
        });
        self.by_id[id as usize] = Some(key);
        let by_id = &self.by_id;
        let hash_id = |id: &u32| by_id[*id as usize].as_ref().map_or(0, &hash_of);
        self.table.insert_unique(hash, id, hash_id);
        id
    }

    fn release(
        &mut self,
        id: u32,
        hash_of: impl Fn(&K) -> u64,
        heap: impl Fn(&K) -> usize,
    ) -> bool {
        let Some(key) = self.by_id.get_mut(id as usize).and_then(Option::take) else {
            return false;
        };
        self.heap -= heap(&key) as u64;
        if let Ok(entry) = self.table.find_entry(hash_of(&key), |other| *other == id) {
            entry.remove();
        }
        true
    }

    fn bytes(&self) -> u64 {
        let keys = self.by_id.capacity() * size_of::<Option<K>>();
        // The table has a control byte for each place.
        (keys + self.table.capacity() * (size_of::<u32>() + 1)) as u64 + self.heap
    }
}

impl Interner {
    /// For key columns of these types.
    ///
    /// # Errors
    /// [`ExecError::Unsupported`] when values of a type cannot be compared.
    pub fn new(types: &[DataType]) -> Result<Interner> {
        use DataType as D;
        let keys = match types {
            [] => Keys::None,
            [D::Utf8View] => Keys::Texts(Store::new()),
            [
                D::Int8
                | D::Int16
                | D::Int32
                | D::Int64
                | D::UInt8
                | D::UInt16
                | D::UInt32
                | D::Timestamp(..)
                | D::Date32
                | D::Date64
                | D::Time64(_),
            ] => Keys::Integers(Store::new(), types[0].clone()),
            _ => {
                let fields: Vec<_> = types.iter().map(|t| SortField::new(t.clone())).collect();
                if !RowConverter::supports_fields(&fields) {
                    return Err(ExecError::Unsupported("a key of this type".into()));
                }
                Keys::Rows(Store::new(), RowConverter::new(fields)?, types.to_vec())
            }
        };
        Ok(Interner {
            keys,
            hasher: DefaultHashBuilder::default(),
            free: Vec::new(),
            ids: Vec::new(),
        })
    }

    /// The numbers of `rows` key rows, given as one array per key column.
    pub fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<&[u32]> {
        self.ids.clear();
        self.ids.reserve(rows);
        let (free, hasher, ids) = (&mut self.free, &self.hasher, &mut self.ids);
        match &mut self.keys {
            Keys::None => ids.resize(rows, 0),
            Keys::Integers(store, _) => {
                let values = cast(&columns[0], &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                let hash_of = |key: &Option<i64>| hasher.hash_one(key.unwrap_or(i64::MIN));
                let mut id_of = |key: Option<i64>| {
                    store.intern(hash_of(&key), free, |k| *k == key, hash_of, || (key, 0))
                };
                match values.nulls() {
                    None => ids.extend(values.values().iter().map(|value| id_of(Some(*value)))),
                    Some(_) => ids.extend(values.iter().map(id_of)),
                }
            }
            Keys::Texts(store) => {
                let texts = columns[0].as_string_view();
                for (row, view) in texts.views().iter().enumerate() {
                    ids.push(intern_text(store, free, hasher, texts, row, *view));
                }
            }
            Keys::Rows(store, converter, _) => {
                let columns: Vec<_> = columns.iter().cloned().map(one_zero).collect();
                let keys = converter.convert_columns(&columns)?;
                for row in 0..rows {
                    let key = keys.row(row);
                    ids.push(intern_row(store, free, hasher, key.as_ref()));
                }
            }
        }
        Ok(ids)
    }

    /// The number of the key that [`Interner::key`] wrote as `bytes`.
    ///
    /// # Errors
    /// [`ExecError::State`] when they are not such a key.
    pub fn intern_key(&mut self, bytes: &[u8]) -> Result<u32> {
        let damaged = || ExecError::State("a key of a group is damaged".into());
        let (free, hasher) = (&mut self.free, &self.hasher);
        match &mut self.keys {
            Keys::None => Ok(0),
            Keys::Integers(store, _) => {
                let key = match bytes {
                    [] => None,
                    _ => Some(i64::from_be_bytes(bytes.try_into().map_err(|_| damaged())?)),
                };
                let hash_of = |key: &Option<i64>| hasher.hash_one(key.unwrap_or(i64::MIN));
                Ok(store.intern(hash_of(&key), free, |k| *k == key, hash_of, || (key, 0)))
            }
            Keys::Texts(store) => {
                let text = match bytes.split_first() {
                    None => None,
                    Some((_, text)) => Some(std::str::from_utf8(text).map_err(|_| damaged())?),
                };
                let texts = StringViewArray::from_iter([text]);
                Ok(intern_text(store, free, hasher, &texts, 0, texts.views()[0]))
            }
            Keys::Rows(store, ..) => Ok(intern_row(store, free, hasher, bytes)),
        }
    }

    /// The key of a number that is in use, as bytes that are equal for equal keys.
    pub fn key(&self, id: u32, out: &mut Vec<u8>) {
        match &self.keys {
            Keys::None => {}
            Keys::Integers(store, _) => {
                if let Some(value) = store.by_id[id as usize].flatten() {
                    out.extend(value.to_be_bytes());
                }
            }
            Keys::Texts(store) => {
                if let Some(text) = store.by_id[id as usize].as_ref().and_then(Text::bytes) {
                    out.push(1);
                    out.extend(text);
                }
            }
            Keys::Rows(store, ..) => {
                out.extend(store.by_id[id as usize].as_deref().unwrap_or_default());
            }
        }
    }

    /// Key columns of numbers that are in use.
    pub fn values(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        let at = |id: &u32| *id as usize;
        match &self.keys {
            Keys::None => Ok(Vec::new()),
            Keys::Integers(store, data_type) => {
                let values = ids.iter().map(|id| store.by_id[at(id)].flatten());
                Ok(vec![cast(&values.collect::<Int64Array>(), data_type)?])
            }
            Keys::Texts(store) => {
                let mut texts = StringViewBuilder::with_capacity(ids.len());
                for id in ids {
                    let text = store.by_id[at(id)].as_ref().and_then(Text::bytes);
                    let text = text.map(|t| std::str::from_utf8(t).expect("it came as text"));
                    texts.append_option(text);
                }
                Ok(vec![Arc::new(texts.finish())])
            }
            Keys::Rows(_, _, types) if ids.is_empty() => {
                Ok(types.iter().map(arrow::array::new_empty_array).collect())
            }
            Keys::Rows(store, converter, _) => {
                let parser = converter.parser();
                let row = |id| parser.parse(store.by_id[at(id)].as_deref().unwrap_or_default());
                Ok(converter.convert_rows(ids.iter().map(row))?)
            }
        }
    }

    /// Gives numbers back: their keys are forgotten, and the numbers may stand for others later.
    pub fn release(&mut self, ids: &[u32]) {
        let hasher = &self.hasher;
        for id in ids {
            let released = match &mut self.keys {
                Keys::None => false,
                Keys::Integers(store, _) => {
                    store.release(*id, |k| hasher.hash_one(k.unwrap_or(i64::MIN)), |_| 0)
                }
                Keys::Texts(store) => store.release(*id, |k| k.hash(hasher), Text::heap),
                Keys::Rows(store, ..) => {
                    store.release(*id, |k| hasher.hash_one(k.as_ref()), |k| k.len())
                }
            };
            if released {
                self.free.push(*id);
            }
        }
    }

    /// All numbers are below this.
    pub fn bound(&self) -> usize {
        match &self.keys {
            Keys::None => 1,
            Keys::Integers(store, _) => store.by_id.len(),
            Keys::Texts(store) => store.by_id.len(),
            Keys::Rows(store, ..) => store.by_id.len(),
        }
    }

    /// Keys that have a number.
    pub fn live(&self) -> usize {
        self.bound() - self.free.len()
    }

    /// Bytes kept, roughly.
    pub fn bytes(&self) -> u64 {
        let keys = match &self.keys {
            Keys::None => 0,
            Keys::Integers(store, _) => store.bytes(),
            Keys::Texts(store) => store.bytes(),
            Keys::Rows(store, ..) => store.bytes(),
        };
        keys + ((self.free.capacity() + self.ids.capacity()) * size_of::<u32>()) as u64
    }
}

impl Text {
    /// Texts of at most so many bytes lie in the view itself.
    const INLINE: u32 = 12;

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Text::Null => None,
            Text::Short(view) => Some(&view[4..4 + usize::from(view[0])]),
            Text::Long(text) => Some(text),
        }
    }

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        match self {
            Text::Null => 0,
            Text::Short(view) => hasher.hash_one(u128::from_le_bytes(*view)),
            Text::Long(text) => hasher.hash_one(text.as_ref()),
        }
    }

    fn heap(&self) -> usize {
        match self {
            Text::Long(text) => text.len(),
            _ => 0,
        }
    }
}

fn intern_text(
    store: &mut Store<Text>,
    free: &mut Vec<u32>,
    hasher: &DefaultHashBuilder,
    texts: &StringViewArray,
    row: usize,
    view: u128,
) -> u32 {
    let hash_of = |text: &Text| text.hash(hasher);
    let key = if texts.is_null(row) {
        Text::Null
    } else if view as u32 <= Text::INLINE {
        Text::Short(view.to_le_bytes())
    } else {
        let text = texts.value(row).as_bytes();
        let is = |k: &Text| matches!(k, Text::Long(k) if k.as_ref() == text);
        let make = || (Text::Long(text.into()), text.len());
        return store.intern(hasher.hash_one(text), free, is, hash_of, make);
    };
    store.intern(hash_of(&key), free, |k| *k == key, hash_of, || (key.clone(), 0))
}

fn intern_row(
    store: &mut Store<Box<[u8]>>,
    free: &mut Vec<u32>,
    hasher: &DefaultHashBuilder,
    key: &[u8],
) -> u32 {
    let hash = hasher.hash_one(key);
    let make = || (key.into(), key.len());
    store.intern(hash, free, |k| k.as_ref() == key, |k| hasher.hash_one(k.as_ref()), make)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, TimestampMicrosecondArray};

    use super::*;

    fn ids(interner: &mut Interner, columns: &[ArrayRef]) -> Vec<u32> {
        interner.intern(columns, columns[0].len()).unwrap().to_vec()
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<StringViewArray>())
    }

    #[test]
    fn equal_texts_get_one_number_and_are_given_back() {
        let long = "a text that does not fit into a view";
        let values = [
            Some("a"),
            None,
            Some(long),
            Some(""),
            Some("a"),
            None,
            Some(long),
            Some("123456789012"),
        ];
        let mut interner = Interner::new(&[DataType::Utf8View]).unwrap();
        let column = texts(&values);
        assert_eq!(ids(&mut interner, &[Arc::clone(&column)]), [0, 1, 2, 3, 0, 1, 2, 4]);
        let back = interner.values(&[0, 1, 2, 3, 0, 1, 2, 4]).unwrap();
        assert_eq!(&back[0], &column);
        assert_eq!(interner.live(), 5);
    }

    #[test]
    fn a_number_given_back_is_used_again() {
        let mut interner = Interner::new(&[DataType::Utf8View]).unwrap();
        assert_eq!(ids(&mut interner, &[texts(&[Some("a"), Some("b"), Some("c")])]), [0, 1, 2]);
        interner.release(&[1, 1]);
        assert_eq!((interner.live(), interner.bound()), (2, 3));
        assert_eq!(ids(&mut interner, &[texts(&[Some("c"), Some("d"), Some("b")])]), [2, 1, 3]);
    }

    #[test]
    fn times_and_several_columns_come_back_with_their_types() {
        let times: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from(vec![Some(5), None, Some(-1), Some(5)])
                .with_timezone("UTC"),
        );
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.0), Some(f64::NAN), None, Some(-0.0)]));
        let mut one = Interner::new(&[times.data_type().clone()]).unwrap();
        assert_eq!(ids(&mut one, &[Arc::clone(&times)]), [0, 1, 2, 0]);
        assert_eq!(&one.values(&[0, 1, 2, 0]).unwrap()[0], &times);
        let types = [times.data_type().clone(), DataType::Float64];
        let mut two = Interner::new(&types).unwrap();
        assert_eq!(ids(&mut two, &[Arc::clone(&times), floats]), [0, 1, 2, 0]);
        let back = two.values(&[0, 1, 2]).unwrap();
        assert_eq!(&back[0], &times.slice(0, 3));
    }

    #[test]
    fn the_smallest_integer_and_null_are_two_keys() {
        let column: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MIN)]));
        let mut interner = Interner::new(&[DataType::Int64]).unwrap();
        assert_eq!(ids(&mut interner, &[column]), [0, 1, 0]);
    }

    #[test]
    fn keys_survive_as_bytes() {
        let long = Some("a text that does not fit into a view");
        let cases: Vec<Vec<ArrayRef>> = vec![
            vec![texts(&[Some("x"), None, Some(""), long])],
            vec![Arc::new(Int64Array::from(vec![Some(7), None, Some(-7)]))],
            vec![texts(&[Some("x"), None]), Arc::new(Float64Array::from(vec![Some(1.5), None]))],
        ];
        for columns in cases {
            let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
            let mut before = Interner::new(&types).unwrap();
            let numbers = ids(&mut before, &columns);
            let mut after = Interner::new(&types).unwrap();
            for id in numbers.iter().rev() {
                let mut key = Vec::new();
                before.key(*id, &mut key);
                after.intern_key(&key).unwrap();
            }
            let again = ids(&mut after, &columns);
            assert_eq!(after.live(), before.live());
            assert_eq!(after.values(&again).unwrap(), columns);
        }
    }

    #[test]
    fn no_column_is_one_key() {
        let mut interner = Interner::new(&[]).unwrap();
        assert_eq!(interner.intern(&[], 3).unwrap(), [0, 0, 0]);
        interner.release(&[0]);
        assert_eq!((interner.live(), interner.bound()), (1, 1));
    }
}
