//! Byte strings: texts and `bytea`.
//!
//! ```text
//! u8   scheme  0: plain, 1: dictionary
//! plain:       lengths[n] as in `int`, then the bytes of all strings
//! dictionary:  u32 d, lengths[d] as in `int`, the bytes of the d distinct strings,
//!              then codes[n] as in `int`
//! ```

use arrow::array::{Array, ArrayRef, StringArray, StringViewArray, UInt32Array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use std::sync::Arc;

use crate::codec::int;
use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};

const PLAIN: u8 = 0;
const DICTIONARY: u8 = 1;
/// Strings up to this length lie in the view itself, so that equal views are equal strings.
const INLINE: u32 = 12;

/// Appends the strings of a view array (whatever lies in the views of nulls).
pub(crate) fn encode_views(array: &StringViewArray, out: &mut Vec<u8>) {
    match distinct(array) {
        Some((firsts, codes)) => {
            out.push(DICTIONARY);
            out.extend_from_slice(&(firsts.len() as u32).to_le_bytes());
            let entry = |row: &u32| array.value(*row as usize).as_bytes();
            encode_strings(firsts.iter().map(entry), firsts.len(), out);
            int::encode(&codes, out);
        }
        None => encode_plain((0..array.len()).map(|i| array.value(i).as_bytes()), array.len(), out),
    }
}

/// Appends strings one after the other.
pub(crate) fn encode_plain<'a>(
    strings: impl Iterator<Item = &'a [u8]> + Clone,
    len: usize,
    out: &mut Vec<u8>,
) {
    out.push(PLAIN);
    encode_strings(strings, len, out);
}

fn encode_strings<'a>(
    strings: impl Iterator<Item = &'a [u8]> + Clone,
    len: usize,
    out: &mut Vec<u8>,
) {
    let mut lengths = Vec::with_capacity(len);
    lengths.extend(strings.clone().map(|s| s.len() as i64));
    int::encode(&lengths, out);
    out.reserve(lengths.iter().sum::<i64>() as usize);
    strings.for_each(|s| out.extend_from_slice(s));
}

/// First rows of the distinct strings and each row's code, unless there are too many of them.
fn distinct(array: &StringViewArray) -> Option<(Vec<u32>, Vec<i64>)> {
    let mut table = Table::new(array);
    let mut codes = vec![0; array.len()];
    let views = array.views();
    let mut last = (0, 0);
    for (row, (&view, code)) in views.iter().zip(&mut codes).enumerate() {
        if row % 1024 == 0 && row > 0 && is_hopeless(row, table.firsts.len()) {
            return None;
        }
        // Equal views are equal strings of the same array.
        if row == 0 || view != last.0 {
            last = (view, i64::from(table.code(row, view)));
        }
        *code = last.1;
    }
    let worth = array.len() > 8 && table.firsts.len() * 3 <= array.len() * 2;
    (worth || table.firsts.len() == 1).then_some((table.firsts, codes))
}

/// Whether a dictionary will not pay, after some rows: at first only when all differ, for 1000
/// values in turn do so as well.
fn is_hopeless(rows: usize, distinct: usize) -> bool {
    distinct == rows || rows.is_multiple_of(4096) && distinct * 4 > rows * 3
}

/// Open addressing over the strings seen so far.
struct Table<'a> {
    array: &'a StringViewArray,
    /// Code + 1, 0 when free; a power of two.
    slots: Vec<u32>,
    shift: u32,
    keys: Vec<u128>,
    firsts: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(array: &'a StringViewArray) -> Table<'a> {
        let bits = (array.len().min(512) * 2).next_power_of_two().trailing_zeros().max(2);
        Table {
            array,
            slots: vec![0; 1 << bits],
            shift: 64 - bits,
            keys: Vec::new(),
            firsts: Vec::new(),
        }
    }

    fn code(&mut self, row: usize, view: u128) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = (self.hash(row, view) >> self.shift) as usize;
        loop {
            match self.slots[at] {
                0 => break,
                code if self.equal(code as usize - 1, row, view) => return code - 1,
                _ => at = (at + 1) & mask,
            }
        }
        self.keys.push(view);
        self.firsts.push(row as u32);
        let code = self.firsts.len() as u32;
        self.slots[at] = code;
        if self.firsts.len() * 2 > self.slots.len() {
            self.grow();
        }
        code - 1
    }

    fn equal(&self, code: usize, row: usize, view: u128) -> bool {
        let key = self.keys[code];
        if key == view {
            return true;
        }
        // The low 64 bits are the length and the first four bytes.
        view as u32 > INLINE
            && key as u64 == view as u64
            && self.array.value(self.firsts[code] as usize) == self.array.value(row)
    }

    fn hash(&self, row: usize, view: u128) -> u64 {
        const K: u64 = 0x9E37_79B9_7F4A_7C15;
        let low = view as u64;
        let high = if view as u32 <= INLINE {
            (view >> 64) as u64
        } else {
            let bytes = self.array.value(row).as_bytes();
            bytes.chunks(8).fold(0u64, |hash, chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                (hash ^ u64::from_le_bytes(word)).wrapping_mul(K).rotate_left(29)
            })
        };
        // Only the high bits are used, and those depend on all bits of both factors.
        low.wrapping_mul(K).wrapping_add(high.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    fn grow(&mut self) {
        let len = self.slots.len() * 2;
        self.shift -= 1;
        self.slots = vec![0; len];
        for code in 0..self.firsts.len() {
            let hash = self.hash(self.firsts[code] as usize, self.keys[code]);
            let mut at = (hash >> self.shift) as usize;
            while self.slots[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            self.slots[at] = code as u32 + 1;
        }
    }
}

/// Strings one after the other: end offsets and bytes.
pub(crate) struct Strings {
    /// `len + 1` offsets, from 0, ascending.
    pub(crate) offsets: OffsetBuffer<i32>,
    /// All bytes.
    pub(crate) bytes: Buffer,
}

/// Reads the strings of a column that has no dictionary.
pub(crate) fn decode_plain(reader: &mut Reader<'_>, len: usize) -> Result<Strings> {
    match reader.u8()? {
        PLAIN => decode_strings(reader, len),
        _ => Err(damaged("unknown scheme")),
    }
}

fn decode_strings(reader: &mut Reader<'_>, len: usize) -> Result<Strings> {
    let lengths = int::decode(reader, len)?;
    let mut offsets = Vec::with_capacity(len + 1);
    let mut end = 0i64;
    offsets.push(0i32);
    for length in lengths {
        if !(0..=i64::from(i32::MAX)).contains(&length) || end + length > i64::from(i32::MAX) {
            return Err(damaged("impossible length"));
        }
        end += length;
        offsets.push(end as i32);
    }
    let bytes = Buffer::from(reader.bytes(end as usize)?);
    Ok(Strings { offsets: OffsetBuffer::new(ScalarBuffer::from(offsets)), bytes })
}

/// Reads strings into a view array.
pub(crate) fn decode_views(
    reader: &mut Reader<'_>,
    len: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    match reader.u8()? {
        PLAIN => {
            let strings = decode_strings(reader, len)?;
            Ok(Arc::new(views(strings, nulls)?))
        }
        DICTIONARY => {
            let distinct = reader.u32()?;
            let dictionary = views(decode_strings(reader, distinct as usize)?, None)?;
            let codes = int::decode(reader, len)?;
            let greatest = codes.iter().fold(0, |max, &code| max.max(code as u64));
            if greatest >= u64::from(distinct) && len > 0 {
                return Err(damaged("code without entry"));
            }
            let codes: Vec<u32> = codes.into_iter().map(|code| code as u32).collect();
            let codes = UInt32Array::new(codes.into(), nulls);
            arrow::compute::take(&dictionary, &codes, None).map_err(|e| damaged(&e.to_string()))
        }
        _ => Err(damaged("unknown scheme")),
    }
}

fn views(strings: Strings, nulls: Option<NullBuffer>) -> Result<StringViewArray> {
    // Checks that the bytes are UTF-8, once over all of them.
    let array = StringArray::try_new(strings.offsets, strings.bytes, nulls)
        .map_err(|e| damaged(&e.to_string()))?;
    Ok(StringViewArray::from(&array))
}

fn damaged(what: &str) -> StorageError {
    StorageError::Corrupted(format!("strings: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(strings: Vec<String>, at_most: usize) {
        let array = StringViewArray::from_iter_values(&strings);
        let mut bytes = Vec::new();
        encode_views(&array, &mut bytes);
        assert!(bytes.len() <= at_most, "{} bytes for {} strings", bytes.len(), strings.len());
        let again = decode_views(&mut Reader::new(&bytes), strings.len(), None).unwrap();
        assert_eq!(again.as_ref(), &array as &dyn Array);
    }

    #[test]
    fn few_distinct_strings_take_few_bits() {
        check(vec!["Tick".into(); 5000], 80);
        check((0..8192).map(|i| format!("S{:04}", i * 7919 % 1000)).collect(), 15_500);
        check((0..8192).map(|i| format!("a longer name {:04}", i * 7919 % 1000)).collect(), 31_000);
    }

    #[test]
    fn any_strings_survive() {
        check(vec![], 1);
        check(vec![String::new()], 40);
        check((0..5000).map(|i| format!("{i}")).collect(), 25_000);
        check((0..3000).map(|i| "\u{e4}x".repeat(i % 40)).collect(), 40_000);
    }
}
