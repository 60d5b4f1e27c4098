//! Integers: frame of reference per block of 1024, over the values or their differences.
//!
//! A sequence of n numbers (n is known from outside) is a sequence of blocks of 1024 and a shorter
//! last one. A block is:
//!
//! ```text
//! u8   mode    bit 0: differences; bits 1-2: scale 0: 1, 1: 1000, 2: 1000000
//! u8   width   bits per number, 0 to 32 or 64; in a shorter block 0, 8, 16, 32 or 64
//! i64  base
//! i64  first   (only with differences) added to base + scale * number, number by number
//! ...  numbers a full block below 64 bits as in `bits`, else plain little-endian
//! ```
//!
//! Number i stands for `base + scale * number[i]`, wrapping; with differences that is what value i
//! adds to value i - 1, and to `first` for i = 0.

use crate::codec::bits::{BLOCK, pack, packed_len, unpack};
use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};

const DIFFERENCES: u8 = 1;
const SCALES: [u64; 3] = [1, 1000, 1_000_000];

/// Appends the numbers.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        encode_block(block, out);
    }
}

fn encode_block(values: &[i64], out: &mut Vec<u8>) {
    let (min, max) = bounds(values);
    let plain_width = width_of(max.wrapping_sub(min) as u64);
    let mut differences = [0i64; BLOCK];
    let differences = &mut differences[..values.len()];
    // Differences pay for a second number in the header, so they are not tried on little.
    if plain_width > 1 && values.len() > 4 {
        for (difference, pair) in differences[1..].iter_mut().zip(values.windows(2)) {
            *difference = pair[1].wrapping_sub(pair[0]);
        }
        // The first one counts from `first`, which makes it any number we like.
        differences[0] = differences[1];
        let (dmin, dmax) = bounds(differences);
        // A range of differences beyond 63 bits wraps to something wide, which is never chosen.
        let width = width_of(dmax.wrapping_sub(dmin) as u64);
        if width + 2 <= plain_width && dmax.checked_sub(dmin).is_some() {
            let first = values[0].wrapping_sub(differences[0]);
            encode_numbers(differences, dmin, dmax, Some(first), out);
            return;
        }
    }
    encode_numbers(values, min, max, None, out);
}

fn encode_numbers(values: &[i64], min: i64, max: i64, first: Option<i64>, out: &mut Vec<u8>) {
    let range = max.wrapping_sub(min) as u64;
    let (code, scale) = scale_of(values, min, range);
    let width = match width_of(range / scale) {
        0 => 0,
        width @ ..=32 if values.len() == BLOCK => width,
        width @ ..=32 => width.next_power_of_two().max(8),
        _ => 64,
    };
    let (code, scale) = if width == 64 { (0, 1) } else { (code, scale) };
    out.push(code << 1 | if first.is_some() { DIFFERENCES } else { 0 });
    out.push(width as u8);
    out.extend_from_slice(&min.to_le_bytes());
    if let Some(first) = first {
        out.extend_from_slice(&first.to_le_bytes());
    }
    match width {
        0 => {}
        64 => out.extend(values.iter().flat_map(|v| v.wrapping_sub(min).to_le_bytes())),
        _ => {
            let mut numbers = [0u32; BLOCK];
            scale_down(values, min, scale, &mut numbers);
            let numbers = if values.len() == BLOCK {
                return pack(&numbers, width, out);
            } else {
                &numbers[..values.len()]
            };
            match width {
                8 => out.extend(numbers.iter().map(|&n| n as u8)),
                16 => out.extend(numbers.iter().flat_map(|&n| (n as u16).to_le_bytes())),
                _ => out.extend(numbers.iter().flat_map(|&n| n.to_le_bytes())),
            }
        }
    }
}

/// Divides by one of [`SCALES`]; a branch each, so that the divisor is a constant.
fn scale_down(values: &[i64], min: i64, scale: u64, numbers: &mut [u32; BLOCK]) {
    let pairs = numbers.iter_mut().zip(values);
    match scale {
        1000 => pairs.for_each(|(n, v)| *n = (v.wrapping_sub(min) as u64 / 1000) as u32),
        1_000_000 => pairs.for_each(|(n, v)| *n = (v.wrapping_sub(min) as u64 / 1_000_000) as u32),
        _ => pairs.for_each(|(n, v)| *n = v.wrapping_sub(min) as u32),
    }
}

/// The largest scale that divides all numbers: seconds and milliseconds in microseconds.
fn scale_of(values: &[i64], min: i64, range: u64) -> (u8, u64) {
    if range < 1000 || !values.iter().all(|v| (v.wrapping_sub(min) as u64).is_multiple_of(1000)) {
        return (0, SCALES[0]);
    }
    if values.iter().all(|v| (v.wrapping_sub(min) as u64).is_multiple_of(1_000_000)) {
        return (2, SCALES[2]);
    }
    (1, SCALES[1])
}

fn bounds(values: &[i64]) -> (i64, i64) {
    let first = values.first().copied().unwrap_or(0);
    values.iter().fold((first, first), |(min, max), &v| (min.min(v), max.max(v)))
}

fn width_of(range: u64) -> u32 {
    64 - range.leading_zeros()
}

/// Reads `len` numbers.
pub(crate) fn decode(reader: &mut Reader<'_>, len: usize) -> Result<Vec<i64>> {
    // A block has at least ten bytes, so a damaged length cannot ask for much memory.
    if len.div_ceil(BLOCK) > reader.left() {
        return Err(damaged("too few blocks"));
    }
    let mut values = vec![0i64; len];
    for block in values.chunks_mut(BLOCK) {
        decode_block(reader, block)?;
    }
    Ok(values)
}

fn decode_block(reader: &mut Reader<'_>, values: &mut [i64]) -> Result<()> {
    let mode = reader.u8()?;
    let width = u32::from(reader.u8()?);
    let base = reader.i64()?;
    let scale = *SCALES.get(usize::from(mode >> 1)).ok_or_else(|| damaged("unknown mode"))?;
    let first = if mode & DIFFERENCES != 0 { Some(reader.i64()?) } else { None };
    let len = values.len();
    match width {
        0 => values.fill(base),
        64 => {
            for (value, bytes) in values.iter_mut().zip(reader.bytes(len * 8)?.as_chunks::<8>().0) {
                *value = base.wrapping_add(i64::from_le_bytes(*bytes));
            }
        }
        1..=32 if len == BLOCK => {
            let mut numbers = [0u32; BLOCK];
            unpack(reader.bytes(packed_len(width))?, width, &mut numbers);
            scale_up(&numbers, base, scale, values);
        }
        8 => {
            let bytes = reader.bytes(len)?;
            for (value, &n) in values.iter_mut().zip(bytes) {
                *value = base.wrapping_add((u64::from(n) * scale) as i64);
            }
        }
        16 => {
            for (value, n) in values.iter_mut().zip(reader.bytes(len * 2)?.as_chunks::<2>().0) {
                *value = base.wrapping_add((u64::from(u16::from_le_bytes(*n)) * scale) as i64);
            }
        }
        32 => {
            for (value, n) in values.iter_mut().zip(reader.bytes(len * 4)?.as_chunks::<4>().0) {
                *value = base.wrapping_add((u64::from(u32::from_le_bytes(*n)) * scale) as i64);
            }
        }
        _ => return Err(damaged("unknown width")),
    }
    if let Some(first) = first {
        let mut last = first;
        for value in values {
            last = last.wrapping_add(*value);
            *value = last;
        }
    }
    Ok(())
}

fn scale_up(numbers: &[u32; BLOCK], base: i64, scale: u64, values: &mut [i64]) {
    let pairs = values.iter_mut().zip(numbers);
    if scale == 1 {
        pairs.for_each(|(value, &n)| *value = base.wrapping_add(i64::from(n)));
    } else {
        // Both factors are below 2^32.
        pairs.for_each(|(value, &n)| *value = base.wrapping_add((u64::from(n) * scale) as i64));
    }
}

fn damaged(what: &str) -> StorageError {
    StorageError::Corrupted(format!("integers: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: Vec<i64>, at_most: usize) {
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        assert!(bytes.len() <= at_most, "{} bytes for {} values", bytes.len(), values.len());
        let mut reader = Reader::new(&bytes);
        assert_eq!(decode(&mut reader, values.len()).unwrap(), values);
        reader.end().unwrap();
    }

    #[test]
    fn regular_numbers_take_few_bits() {
        check(vec![], 0);
        check(vec![7], 10);
        check(vec![-3; 5000], 50);
        check((0..4096).collect(), 72);
        check((0..4096).map(|i| 1_700_000_000_000_000 + i / 10 * 1000).collect(), 4 * (18 + 128));
        check((0..4096).map(|i| i * 7919 % 1000).collect(), 4 * (10 + 1280));
        check((0..100).map(|i| i * 7919 % 200).collect(), 110);
    }

    #[test]
    fn extremes_survive() {
        check(vec![i64::MIN, i64::MAX], 26);
        check(vec![0, i64::MIN, i64::MAX, -1, 1, i64::MIN, 5], 100);
        let wild: Vec<i64> =
            (0..3000i64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64)).collect();
        check(wild, 24_100);
        check((0..2000).map(|i| i64::MAX - i * i).collect(), 16_100);
        check((0..1024).map(|i| (i * i) << 40).collect(), 8300);
    }
}
