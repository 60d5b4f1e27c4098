//! Arrays of `Utf8View` built fast.
//!
//! A view of up to twelve bytes holds the text itself: here it is one unaligned load and a mask,
//! where the general builder copies a length known at run time only. Text columns cost more than
//! numbers without this (measured with `benches/src/bin/copy_decode.rs`: binary rows twice as slow,
//! Arrow streams with `Utf8` columns 1.6 times).

use arrow::array::{
    Array, GenericStringArray, NullBufferBuilder, OffsetSizeTrait, StringViewArray,
};
use arrow::buffer::{Buffer, NullBuffer};

/// Longest text inside a view.
const INLINE: usize = 12;
/// Size of the blocks that hold longer texts.
const MIN_BLOCK: usize = 16 << 10;
const MAX_BLOCK: usize = 1 << 20;

/// Texts on their way into an array.
pub(super) struct Views {
    views: Vec<u128>,
    nulls: NullBufferBuilder,
    blocks: Vec<Buffer>,
    block: Vec<u8>,
}

/// Sixteen bytes from `at`, zeros beyond the end.
#[inline(always)]
fn load(bytes: &[u8], at: usize) -> u128 {
    match bytes.get(at..at + 16).and_then(|b| b.try_into().ok()) {
        Some(word) => u128::from_le_bytes(word),
        None => load_end(bytes, at),
    }
}

#[cold]
fn load_end(bytes: &[u8], at: usize) -> u128 {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut word = [0u8; 16];
    let len = rest.len().min(16);
    word[..len].copy_from_slice(&rest[..len]);
    u128::from_le_bytes(word)
}

/// The view of `len` (up to twelve) bytes from `start`.
#[inline(always)]
fn inline_view(bytes: &[u8], start: usize, len: usize) -> u128 {
    (load(bytes, start) & ((1u128 << (8 * len)) - 1)) << 32 | len as u128
}

fn long_view(bytes: &[u8], block: u32, offset: u32) -> u128 {
    let prefix = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    bytes.len() as u128
        | u128::from(prefix) << 32
        | u128::from(block) << 64
        | u128::from(offset) << 96
}

/// Whether the text inside an inline view is ASCII without NUL.
#[inline(always)]
fn is_plain_ascii(view: u128, len: usize) -> bool {
    const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    let text = view >> 32;
    // Ones where there is no text, so that only a NUL in it is a zero byte.
    let filled = text | (ONES << (8 * len));
    let zero_or_high = (filled.wrapping_sub(ONES) | filled) & (ONES << 7);
    // A byte of ONES minus one is zero: no borrow, no high bit.
    zero_or_high == 0
}

impl Views {
    pub(super) fn new() -> Views {
        Views {
            views: Vec::new(),
            nulls: NullBufferBuilder::new(0),
            blocks: Vec::new(),
            block: Vec::new(),
        }
    }

    /// Room for `rows` more texts.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.views.reserve(rows);
    }

    /// Adds `text[start..end]`. Panics when these are not boundaries of characters.
    #[inline(always)]
    pub(super) fn push_part(&mut self, text: &str, start: usize, end: usize) {
        // The array relies on this: it is what makes a part of a str a str.
        assert!(start <= end && text.is_char_boundary(start) && text.is_char_boundary(end));
        let len = end - start;
        if len <= INLINE {
            self.views.push(inline_view(text.as_bytes(), start, len));
        } else {
            self.push_long(&text[start..end]);
        }
        self.nulls.append_non_null();
    }

    /// Adds `text`.
    pub(super) fn push(&mut self, text: &str) {
        self.push_part(text, 0, text.len());
    }

    /// Adds the bytes `start..start + len` when they are short ASCII text; false when that is for
    /// the caller to find out.
    #[inline(always)]
    pub(super) fn push_ascii(&mut self, bytes: &[u8], start: usize, len: usize) -> bool {
        if len > INLINE || start + len > bytes.len() {
            return false;
        }
        let view = inline_view(bytes, start, len);
        if !is_plain_ascii(view, len) {
            return false;
        }
        self.views.push(view);
        self.nulls.append_non_null();
        true
    }

    /// Adds a null.
    pub(super) fn push_null(&mut self) {
        self.views.push(0);
        self.nulls.append_null();
    }

    #[inline(never)]
    fn push_long(&mut self, text: &str) {
        if self.block.len() + text.len() > self.block.capacity() {
            let size = (self.block.capacity() * 2).clamp(MIN_BLOCK, MAX_BLOCK).max(text.len());
            self.seal();
            self.block.reserve_exact(size);
        }
        let view = long_view(text.as_bytes(), self.blocks.len() as u32, self.block.len() as u32);
        self.block.extend_from_slice(text.as_bytes());
        self.views.push(view);
    }

    fn seal(&mut self) {
        if !self.block.is_empty() {
            self.blocks.push(Buffer::from_vec(std::mem::take(&mut self.block)));
        }
    }

    /// The texts added so far; empty afterwards.
    pub(super) fn finish(&mut self) -> StringViewArray {
        self.seal();
        let next = Vec::with_capacity(self.views.len());
        let views = std::mem::replace(&mut self.views, next);
        array(views, std::mem::take(&mut self.blocks), self.nulls.finish())
    }
}

/// The same texts as views; longer ones stay where they are.
pub(super) fn of_strings<O: OffsetSizeTrait>(strings: &GenericStringArray<O>) -> StringViewArray {
    let offsets = strings.value_offsets();
    let bytes = strings.values().as_slice();
    if bytes.len() > u32::MAX as usize {
        // Offsets of views have 32 bits.
        return strings.iter().collect();
    }
    let mut long = false;
    let views = offsets
        .windows(2)
        .map(|range| {
            let (start, end) = (range[0].as_usize(), range[1].as_usize());
            let len = end - start;
            if len <= INLINE {
                inline_view(bytes, start, len)
            } else {
                long = true;
                long_view(&bytes[start..end], 0, start as u32)
            }
        })
        .collect();
    let blocks = if long { vec![strings.values().clone()] } else { Vec::new() };
    array(views, blocks, strings.nulls().cloned())
}

/// Puts an array together without looking at every text again.
#[allow(unsafe_code, reason = "each text has been checked where it was added; see SAFETY")]
fn array(views: Vec<u128>, blocks: Vec<Buffer>, nulls: Option<NullBuffer>) -> StringViewArray {
    assert!(nulls.as_ref().is_none_or(|n| n.len() == views.len()));
    // SAFETY: `new_unchecked` wants what `StringViewArray::try_new` checks. All views come from
    // `inline_view` and `long_view`. An inline view has zeros behind its text, by the mask. A long
    // one names a block that exists and a range inside it: in `push_long` the range is what
    // is appended next, in `of_strings` one of the offsets of a valid string array. Its prefix is
    // copied from there. The text is UTF-8: in `push_part` a part of a str between boundaries of
    // characters, in `push_ascii` ASCII, in `of_strings` a value of a valid string array. The test
    // `views_are_what_try_new_accepts` runs `try_new` over arrays from all three.
    unsafe { StringViewArray::new_unchecked(views.into(), blocks, nulls) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{LargeStringArray, StringArray};
    use proptest::prelude::*;

    fn check(array: &StringViewArray, expected: &[Option<String>]) {
        StringViewArray::try_new(
            array.views().clone(),
            array.data_buffers().to_vec(),
            array.nulls().cloned(),
        )
        .unwrap();
        let got: Vec<_> = array.iter().map(|v| v.map(str::to_string)).collect();
        assert_eq!(got, expected);
    }

    proptest! {
        #[test]
        fn views_are_what_try_new_accepts(
            values in prop::collection::vec(prop::option::of("[a-zé€\u{0}]{0,16}|[a-z]{1000}"), 0..60),
            twice in any::<bool>(),
        ) {
            let mut views = Views::new();
            if twice {
                views.push("a text of an earlier batch");
                views.finish();
            }
            let all: String = values.iter().flatten().map(String::as_str).collect();
            let mut at = 0;
            for (i, value) in values.iter().enumerate() {
                match value {
                    None => views.push_null(),
                    Some(text) => {
                        let plain = text.len() <= 12 && text.bytes().all(|b| b != 0 && b < 128);
                        if i % 2 == 0 || !views.push_ascii(all.as_bytes(), at, text.len()) {
                            assert!(i % 2 == 0 || !plain, "{text:?}");
                            views.push_part(&all, at, at + text.len());
                        } else {
                            assert!(plain, "{text:?}");
                        }
                        at += text.len();
                    }
                }
            }
            check(&views.finish(), &values);
            check(&of_strings(&StringArray::from(values.clone())), &values);
            let large = LargeStringArray::from(values.clone());
            let from = values.len() / 3;
            check(&of_strings(&large.slice(from, values.len() - from)), &values[from..]);
        }
    }
}
