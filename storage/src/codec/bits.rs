//! Packing of 1024 numbers below 2^width, 1 to 32 bits each.
//!
//! The block has 32 lanes: number i lies in lane `i % 32` as that lane's `i / 32`-th. A lane is a
//! little-endian bit string of 32 x width bits, cut into `width` words of 32 bits; word w of all
//! lanes comes before word w + 1 of any. So the inner loops below do the same shift to 32
//! neighbouring words and the compiler turns them into vector instructions.

/// Numbers in a block.
pub(crate) const BLOCK: usize = 1024;
const LANES: usize = 32;

/// Bytes of a packed block.
pub(crate) const fn packed_len(width: u32) -> usize {
    width as usize * LANES * 4
}

/// Appends a packed block. Every value must be below 2^width.
pub(crate) fn pack(values: &[u32; BLOCK], width: u32, out: &mut Vec<u8>) {
    debug_assert!((1..=32).contains(&width));
    let mut words = [[0u32; LANES]; 33];
    for (row, values) in values.as_chunks::<LANES>().0.iter().enumerate() {
        let bit = row as u32 * width;
        let (word, shift) = ((bit / 32) as usize, bit % 32);
        for (to, value) in words[word].iter_mut().zip(values) {
            *to |= value << shift;
        }
        if shift + width > 32 {
            for (to, value) in words[word + 1].iter_mut().zip(values) {
                *to |= value >> (32 - shift);
            }
        }
    }
    let start = out.len();
    out.resize(start + packed_len(width), 0);
    let packed = words[..width as usize].as_flattened();
    for (bytes, word) in out[start..].as_chunks_mut::<4>().0.iter_mut().zip(packed) {
        *bytes = word.to_le_bytes();
    }
}

/// Unpacks a block of [`packed_len`] bytes.
pub(crate) fn unpack(packed: &[u8], width: u32, values: &mut [u32; BLOCK]) {
    debug_assert!((1..=32).contains(&width) && packed.len() == packed_len(width));
    let mut words = [[0u32; LANES]; 33];
    for (word, bytes) in words.as_flattened_mut().iter_mut().zip(packed.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let mask = u32::MAX >> (32 - width);
    for (row, values) in values.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let bit = row as u32 * width;
        let (word, shift) = ((bit / 32) as usize, bit % 32);
        let low = &words[word];
        if shift + width <= 32 {
            for (value, low) in values.iter_mut().zip(low) {
                *value = (low >> shift) & mask;
            }
        } else {
            for ((value, low), high) in values.iter_mut().zip(low).zip(&words[word + 1]) {
                *value = ((low >> shift) | (high << (32 - shift))) & mask;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives() {
        for width in 1..=32 {
            let mask = u32::MAX >> (32 - width);
            let values: [u32; BLOCK] =
                std::array::from_fn(|i| (i as u32).wrapping_mul(2_654_435_761) & mask);
            let mut packed = Vec::new();
            pack(&values, width, &mut packed);
            assert_eq!(packed.len(), packed_len(width));
            let mut again = [0; BLOCK];
            unpack(&packed, width, &mut again);
            assert_eq!(values, again, "width {width}");
        }
    }
}
