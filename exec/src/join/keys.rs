//! Join keys as numbers: equal exactly when the values are. Null equals nothing, NaN equals NaN and
//! the two zeros are one, as in PostgreSQL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use hashbrown::{HashMap, HashTable};

use crate::error::{ExecError, Result};
use crate::expr::{Compiled, evaluate_nulling};

/// The key of a row that has no equal.
pub(super) const NULL: u128 = u128::MAX;

/// In the place of the length of a short text: an interned value.
const INTERNED: u128 = 0xffff_fff0;

/// Makes the keys of one side.
pub(super) struct JoinKeys {
    exprs: Vec<Compiled>,
    /// For keys that are neither one integer nor one text.
    converter: Option<RowConverter>,
}

impl JoinKeys {
    /// Keys of several expressions together; all rows have the same key when there is none.
    pub(super) fn new(exprs: Vec<Compiled>) -> Result<JoinKeys> {
        let converter = match exprs.as_slice() {
            [] => None,
            [one] if is_integer(&one.data_type) || one.data_type == DataType::Utf8View => None,
            several => {
                let fields: Vec<SortField> =
                    several.iter().map(|expr| SortField::new(expr.data_type.clone())).collect();
                if !RowConverter::supports_fields(&fields) {
                    return Err(ExecError::Unsupported("a join key of this type".into()));
                }
                Some(RowConverter::new(fields)?)
            }
        };
        Ok(JoinKeys { exprs, converter })
    }

    /// The expressions.
    pub(super) fn exprs(&self) -> &[Compiled] {
        &self.exprs
    }

    /// Whether no expression can fail, because all are columns.
    pub(super) fn are_columns(&self) -> bool {
        self.exprs.iter().all(|expr| expr.column().is_some())
    }

    /// One key per row; of an expression that fails it is null.
    pub(super) fn of(&self, rows: &RecordBatch, known: &mut Interner) -> Result<Vec<u128>> {
        let columns =
            self.exprs.iter().map(|expr| values(expr, rows)).collect::<Result<Vec<_>>>()?;
        let mut keys = match (columns.as_slice(), &self.converter) {
            ([], _) => return Ok(vec![0; rows.num_rows()]),
            (several, Some(converter)) => {
                let encoded = converter.convert_columns(several)?;
                encoded.iter().map(|row| known.key(row.as_ref())).collect()
            }
            ([one, ..], None) => one_column(one, known),
        };
        for nulls in columns.iter().filter_map(|column| column.logical_nulls()) {
            for (key, valid) in keys.iter_mut().zip(&nulls) {
                if !valid {
                    *key = NULL;
                }
            }
        }
        Ok(keys)
    }
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

fn one_column(column: &ArrayRef, known: &mut Interner) -> Vec<u128> {
    let wide = |value: i64| u128::from(value as u64);
    match column.data_type() {
        DataType::Int16 => {
            let values = column.as_primitive::<Int16Type>().values();
            values.iter().map(|v| wide(i64::from(*v))).collect()
        }
        DataType::Int32 => {
            let values = column.as_primitive::<Int32Type>().values();
            values.iter().map(|v| wide(i64::from(*v))).collect()
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>().values();
            values.iter().map(|v| wide(i64::from(*v))).collect()
        }
        DataType::Int64 => {
            column.as_primitive::<Int64Type>().values().iter().map(|v| wide(*v)).collect()
        }
        DataType::Timestamp(..) => {
            let values = column.as_primitive::<TimestampMicrosecondType>().values();
            values.iter().map(|v| wide(*v)).collect()
        }
        _ => {
            let texts = column.as_string_view();
            let key = |(row, view): (usize, &u128)| match *view as u32 {
                // The view of a short text holds all of it.
                0..=12 => *view,
                _ if texts.is_null(row) => NULL,
                _ => known.key(texts.value(row).as_bytes()),
            };
            texts.views().iter().enumerate().map(key).collect()
        }
    }
}

/// The values of an expression, null where it fails.
fn values(expr: &Compiled, rows: &RecordBatch) -> Result<ArrayRef> {
    let array = match expr.physical.evaluate(rows).and_then(|v| v.into_array(rows.num_rows())) {
        Ok(array) => array,
        Err(_) => {
            let one = |row| evaluate_nulling(&expr.physical, &rows.slice(row, 1));
            let each = (0..rows.num_rows()).map(one).collect::<Result<Vec<_>, _>>()?;
            ScalarValue::iter_to_array(each)?
        }
    };
    Ok(match array.data_type() {
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            Arc::new(floats.unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            Arc::new(floats.unary::<_, Float32Type>(one))
        }
        _ => array,
    })
}

/// Numbers for key bytes that do not fit into a number themselves.
#[derive(Default)]
pub(super) struct Interner {
    known: HashMap<Box<[u8]>, u128>,
    next: u64,
    bytes: u64,
}

impl Interner {
    fn key(&mut self, bytes: &[u8]) -> u128 {
        if bytes.len() <= 12 {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
            padded[4..4 + bytes.len()].copy_from_slice(bytes);
            return u128::from_le_bytes(padded);
        }
        if let Some(key) = self.known.get(bytes) {
            return *key;
        }
        let key = (u128::from(self.next) << 32) | INTERNED;
        self.next += 1;
        self.bytes += bytes.len() as u64;
        self.known.insert(bytes.into(), key);
        key
    }

    /// Forgets keys that no row has any more.
    pub(super) fn retain(&mut self, is_used: impl Fn(u128) -> bool) {
        let bytes = &mut self.bytes;
        self.known.retain(|known, key| {
            let used = is_used(*key);
            if !used {
                *bytes -= known.len() as u64;
            }
            used
        });
    }

    /// Bytes, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + 40 * self.known.len() as u64
    }
}

/// In the place of a key's number: the row has no equal.
pub(super) const NO_KEY: u32 = u32::MAX;

/// A value per key. The keys have numbers, so that those of many rows can be looked up first, which
/// a processor does several at a time, and then the values.
pub(super) struct KeyTable<T> {
    /// Keys (low and high half) and their numbers.
    slots: HashTable<([u64; 2], u32)>,
    /// By key number.
    values: Vec<T>,
    /// Numbers of no key.
    free: Vec<u32>,
}

impl<T: Default> KeyTable<T> {
    pub(super) fn new() -> KeyTable<T> {
        KeyTable { slots: HashTable::new(), values: Vec::new(), free: Vec::new() }
    }

    /// The number of a key; the value of a new key is the default. It holds until keys are taken out.
    #[inline]
    pub(super) fn number(&mut self, key: u128) -> u32 {
        if key == NULL {
            return NO_KEY;
        }
        let halves = halves(key);
        let (values, free) = (&mut self.values, &mut self.free);
        let slot = self.slots.entry(hash(halves), |slot| slot.0 == halves, |slot| hash(slot.0));
        let new = || {
            let number = free.pop().unwrap_or_else(|| {
                values.push(T::default());
                (values.len() - 1) as u32
            });
            (halves, number)
        };
        slot.or_insert_with(new).get().1
    }

    /// The value of the key of a number.
    #[inline]
    pub(super) fn value(&mut self, number: u32) -> &mut T {
        &mut self.values[number as usize]
    }

    /// The value of a key; a new key has the default.
    pub(super) fn entry(&mut self, key: u128) -> &mut T {
        let number = self.number(key);
        self.value(number)
    }

    /// The value of a key, if there is one.
    #[inline]
    pub(super) fn get(&self, key: u128) -> Option<&T> {
        let halves = halves(key);
        let slot = self.slots.find(hash(halves), |slot| slot.0 == halves)?;
        Some(&self.values[slot.1 as usize])
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: u128) -> Option<T> {
        let halves = halves(key);
        let slot = self.slots.find_entry(hash(halves), |slot| slot.0 == halves).ok()?;
        let ((_, number), _) = slot.remove();
        self.free.push(number);
        Some(std::mem::take(&mut self.values[number as usize]))
    }

    /// Keeps some of the keys.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        let (values, free) = (&mut self.values, &mut self.free);
        self.slots.retain(|(_, number)| {
            let value = &mut values[*number as usize];
            let kept = keep(value);
            if !kept {
                *value = T::default();
                free.push(*number);
            }
            kept
        });
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|(_, number)| &self.values[*number as usize])
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.values.clear();
        self.free.clear();
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes, roughly.
    pub(super) fn bytes(&self) -> u64 {
        let slots = self.slots.capacity() * (size_of::<([u64; 2], u32)>() + 1);
        (slots + self.values.capacity() * size_of::<T>() + self.free.capacity() * 4) as u64
    }
}

fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

/// Both halves of the product of both halves: the low bits and the high ones depend on all.
#[inline]
fn hash([low, high]: [u64; 2]) -> u64 {
    let product =
        u128::from(low ^ 0x9e37_79b9_7f4a_7c15) * u128::from(high ^ 0xd1b5_4a32_d192_ed03);
    (product as u64) ^ ((product >> 64) as u64)
}
