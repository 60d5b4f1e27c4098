//! Numbers and structure out of eight or sixteen bytes at a time, in portable safe code.
//!
//! Digits: "Quickly parsing eight digits" (Lemire, 2018), with the digits brought to the right of
//! the word first, so that any length up to eight takes the same few instructions.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Powers of ten that a double holds exactly.
pub(super) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Eight bytes from `at`, zeros beyond the end.
#[inline(always)]
fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|b| b.try_into().ok()) {
        Some(word) => u64::from_le_bytes(word),
        None => load_end(bytes, at),
    }
}

#[cold]
fn load_end(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut word = [0u8; 8];
    let len = rest.len().min(8);
    word[..len].copy_from_slice(&rest[..len]);
    u64::from_le_bytes(word)
}

/// The number that eight ASCII digits spell, first digit in the lowest byte. Bytes that are not
/// digits give `None`.
#[inline(always)]
fn eight(word: u64) -> Option<u64> {
    let digits = word ^ ZEROS;
    // A byte is 0..=9 exactly when neither it nor it + 6 has a bit above the lowest four.
    if (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & 0xF0F0_F0F0_F0F0_F0F0 != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xFFFF_FFFF)
}

/// The first `len` (1 to 8) bytes of `word` as the last digits of eight.
#[inline(always)]
fn right(word: u64, len: usize) -> u64 {
    let gap = 64 - 8 * len as u32;
    (word << gap) | (ZEROS & mask_low(gap))
}

/// The lowest `bits` (0 to 63) bits set.
#[inline(always)]
fn mask_low(bits: u32) -> u64 {
    (1u64 << bits) - 1
}

/// The number spelled by `len` digits from `start`; `None` when `len` is not 1 to 16 or a byte is
/// not a digit. Bytes behind the field are read but have no influence.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], start: usize, len: usize) -> Option<u64> {
    match len {
        1..=8 => eight(right(load(bytes, start), len)),
        9..=16 => {
            let high = eight(right(load(bytes, start), len - 8))?;
            let low = eight(load(bytes, start + len - 8))?;
            Some(high * 100_000_000 + low)
        }
        _ => None,
    }
}

/// The integer spelled by the bytes `start..end`: digits with an optional minus. `None` leaves
/// the decision to the complete parser.
#[inline(always)]
pub(super) fn integer(bytes: &[u8], start: usize, end: usize) -> Option<i64> {
    let negative = start < end && bytes[start] == b'-';
    let from = start + usize::from(negative);
    let value = digits(bytes, from, end.wrapping_sub(from))? as i64;
    Some(if negative { -value } else { value })
}

/// The double spelled by `start..end`: an optional minus, up to 15 digits, an optional point among
/// them. With at most 15 digits the digits and the power of ten are exact doubles, so one division
/// rounds correctly (Clinger 1990). `None` leaves the decision to the complete parser.
#[inline(always)]
pub(super) fn double(bytes: &[u8], start: usize, end: usize) -> Option<f64> {
    let negative = start < end && bytes[start] == b'-';
    let from = start + usize::from(negative);
    let len = end.wrapping_sub(from);
    let value = match len {
        1..=8 => short_double(load(bytes, from), len)?,
        9..=16 => {
            let word = u128::from(load(bytes, from)) | u128::from(load(bytes, from + 8)) << 64;
            long_double(word, len)?
        }
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

#[inline(always)]
fn short_double(word: u64, len: usize) -> Option<f64> {
    let used = mask_low(8 * len as u32 - 1) << 1 | 1;
    let other = (word ^ (ONES * u64::from(b'.'))) | !used;
    let points = other.wrapping_sub(ONES) & !other & HIGHS;
    if points == 0 {
        return Some(eight(right(word, len))? as f64);
    }
    let at = points.trailing_zeros() & !7;
    let low = mask_low(at);
    let joined = (word & low) | (word >> 8 & !low);
    if len < 2 {
        return None;
    }
    let value = eight(right(joined, len - 1))? as f64;
    Some(value / POWERS[len - 1 - at as usize / 8])
}

#[inline(always)]
fn long_double(word: u128, len: usize) -> Option<f64> {
    const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    let used = u128::MAX >> (128 - 8 * len as u32);
    let other = (word ^ (ONES * b'.' as u128)) | !used;
    let points = other.wrapping_sub(ONES) & !other & (ONES << 7);
    let (joined, count, power) = if points == 0 {
        (word, len, 0)
    } else {
        let at = points.trailing_zeros() & !7;
        let low = (1u128 << at) - 1;
        ((word & low) | (word >> 8 & !low), len - 1, len - 1 - at as usize / 8)
    };
    if count > 15 {
        return None;
    }
    // count is 8 to 15 here: align to sixteen digits.
    let aligned = joined << (128 - 8 * count as u32);
    let high = eight(aligned as u64 | (ZEROS & (u64::MAX >> (8 * count as u32 - 64))))?;
    let low = eight((aligned >> 64) as u64)?;
    Some((high * 100_000_000 + low) as f64 / POWERS[power])
}

/// Bit i set where `hit` holds of byte i of `block`.
#[inline(always)]
fn mask(block: &[u8; 64], hit: impl Fn(u8) -> bool) -> u64 {
    let mut hits = [0u8; 64];
    for (out, byte) in hits.iter_mut().zip(block) {
        *out = u8::from(hit(*byte));
    }
    let mut mask = 0u64;
    for (i, word) in hits.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        // Gathers the lowest bits of the eight bytes in the topmost byte.
        mask |= (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    mask
}

/// Bit i set where byte i of `block` is `a` or `b`.
#[inline(always)]
pub(super) fn positions(block: &[u8; 64], a: u8, b: u8) -> u64 {
    mask(block, |byte| byte == a || byte == b)
}

/// Whether a byte of `block` is `a`, `b` or NUL.
#[inline(always)]
pub(super) fn any_of(block: &[u8; 64], a: u8, b: u8) -> bool {
    let mut any = 0u8;
    for byte in block {
        any |= u8::from(*byte == a) | u8::from(*byte == b) | u8::from(*byte == 0);
    }
    any != 0
}

/// Bit i set where the number of bits of `quotes` up to and including i is odd.
#[inline(always)]
pub(super) fn inside(mut quotes: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        quotes ^= quotes << shift;
    }
    quotes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_at_every_place() {
        for len in 1..=16u32 {
            let value = 1_234_567_890_123_456_i64 / 10i64.pow(16 - len);
            for (before, after) in [("", ""), ("9", "9"), ("x,", ",77777777777"), ("\0", "\n")] {
                for (text, value) in [(format!("{value}"), value), (format!("-{value}"), -value)] {
                    let all = format!("{before}{text}{after}");
                    let end = before.len() + text.len();
                    assert_eq!(integer(all.as_bytes(), before.len(), end), Some(value), "{all}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_plain_number_is_left_to_the_complete_parser() {
        for text in ["", "-", "+1", " 1", "1 ", "12a4", "1e3", "12345678901234567", "/", ":", "1:"]
        {
            assert_eq!(integer(text.as_bytes(), 0, text.len()), None, "{text:?}");
        }
        for text in ["", "-", ".", "-.", "1.2.3", "1e3", "NaN", "1234567890123456", "1 .2", "1.2x"]
        {
            assert_eq!(double(text.as_bytes(), 0, text.len()), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_are_what_the_standard_parser_gives() {
        let mut seed = 1u64;
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let digits = 1 + (seed >> 33) as u32 % 15;
            let mantissa = (seed >> 8) % 10u64.pow(digits);
            let mut text = format!("{mantissa:0width$}", width = digits as usize);
            let point = (seed >> 40) as usize % (text.len() + 2);
            if point <= text.len() {
                text.insert(point, '.');
            }
            if seed & 1 == 0 {
                text.insert(0, '-');
            }
            let all = format!("{text},5.5.5.5.5.5");
            let expected: f64 = text.parse().unwrap();
            let got = double(all.as_bytes(), 0, text.len()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(got.to_bits(), expected.to_bits(), "{text}");
        }
    }

    #[test]
    fn positions_of_bytes_in_a_block() {
        let mut block = [b'x'; 64];
        for at in [0, 7, 8, 31, 63] {
            block[at] = if at % 2 == 0 { b',' } else { b'\n' };
        }
        let expected = [0, 7, 8, 31, 63].iter().fold(0u64, |mask, at| mask | 1 << at);
        assert_eq!(positions(&block, b',', b'\n'), expected);
        assert!(any_of(&block, b'"', b','));
        assert!(!any_of(&block, b'"', b'\r'));
        assert_eq!(inside(0b1001_0010), (u64::MAX << 7) | 0b0000_1110);
    }
}
