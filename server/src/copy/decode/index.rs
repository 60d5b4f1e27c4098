//! Field boundaries of many lines at once.
//!
//! Where nothing is quoted or escaped, finding boundaries is finding two byte values. Quotes that
//! are their own escape only toggle, so a boundary is one outside an odd number of quotes (the
//! bit-parallel way of simdjson, Langdale and Lemire 2019). A backslash takes away the meaning of
//! the byte behind it.

use super::swar;

/// Field boundaries of complete lines.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Starts of all fields, and behind the last one the start of the next line.
    pub(super) starts: Vec<u32>,
}

/// What [`Index::build`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Indexed {
    /// Lines that are complete and have the right number of fields.
    pub(super) rows: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Whether there may be quotes or escapes among them.
    pub(super) dressed: bool,
    /// Whether the line behind them needs the complete parser: it has a special byte or another
    /// number of fields. Otherwise the bytes came to their end.
    pub(super) special: bool,
}

impl Indexed {
    /// Leaves row `rows` and those behind it to the complete parser.
    pub(super) fn cut(&mut self, rows: usize, starts: &[u32], width: usize) {
        self.rows = rows;
        self.bytes = starts[rows * width] as usize;
        self.special = true;
    }
}

/// Which bytes mean what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syntax {
    /// Separates fields.
    pub(super) delimiter: u8,
    /// Quote of csv or backslash of text.
    pub(super) dress: Dress,
    /// Makes a line one for the complete parser, as does NUL.
    pub(super) special: u8,
}

/// How fields can hold bytes that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dress {
    /// Inside this quote.
    Quote(u8),
    /// Behind a backslash. `\.` makes a line special: it can be the end marker.
    Backslash,
    /// In ways only the complete parser knows: this byte makes a line special too.
    Other(u8),
}

impl Index {
    /// Looks at the lines in `bytes` (less than 4 GiB), each of `width` fields.
    pub(super) fn build(&mut self, bytes: &[u8], width: usize, syntax: Syntax) -> Indexed {
        let mut finder = Finder { index: self, syntax, base: 0, carry: false, dressed: false };
        let special = finder.find(bytes);
        let dressed = finder.dressed;
        // Lines have the right shape when the delimiters and newlines fall into place.
        let starts = &self.starts;
        let is_newline = |field: usize| bytes[starts[field] as usize - 1] == b'\n';
        let mut rows = 0;
        while let next = (rows + 1) * width
            && next < starts.len()
            && is_newline(next)
            && !(next + 1 - width..next).any(is_newline)
        {
            rows += 1;
        }
        // An incomplete line waits for its end; a complete one behind the last row does not fit.
        let misfit = (rows * width + 1..starts.len()).any(is_newline);
        Indexed { rows, bytes: starts[rows * width] as usize, dressed, special: special || misfit }
    }
}

impl Index {
    /// Whether every line found ends in CR LF and there is no other CR. A backslash before a CR
    /// may take its meaning away: that is for the complete parser.
    pub(super) fn ends_in_returns(&self, bytes: &[u8], found: Indexed, width: usize) -> bool {
        let before = |row: usize, distance: usize| {
            bytes.get((self.starts[row * width] as usize).wrapping_sub(distance))
        };
        (1..=found.rows).all(|r| before(r, 2) == Some(&b'\r') && before(r, 3) != Some(&b'\\'))
            && memchr::memchr_iter(b'\r', &bytes[..found.bytes]).count() == found.rows
    }
}

struct Finder<'a> {
    index: &'a mut Index,
    syntax: Syntax,
    base: u32,
    /// Whether the next byte is inside quotes, or behind a backslash.
    carry: bool,
    dressed: bool,
}

impl Finder<'_> {
    /// Collects starts of fields up to the first special byte; true when there is one.
    fn find(&mut self, bytes: &[u8]) -> bool {
        self.index.starts.clear();
        self.index.starts.push(0);
        let mut blocks = bytes.chunks_exact(64);
        for block in &mut blocks {
            let block: &[u8; 64] = block.try_into().expect("chunks of 64 bytes");
            if self.block(block, &bytes[self.base as usize..]) {
                return true;
            }
            self.base += 64;
        }
        // The rest as a block filled up with a byte that means nothing.
        let rest = blocks.remainder();
        let filler = (1..=255).find(|b| !self.means_something(*b)).unwrap_or(b' ');
        let mut block = [filler; 64];
        block[..rest.len()].copy_from_slice(rest);
        self.block(&block, rest)
    }

    fn means_something(&self, byte: u8) -> bool {
        let dress = match self.syntax.dress {
            Dress::Quote(b) | Dress::Other(b) => b,
            Dress::Backslash => b'\\',
        };
        [self.syntax.delimiter, self.syntax.special, dress, b'\n'].contains(&byte)
    }

    /// Looks at one block; `bytes` starts with it and goes on behind it.
    #[inline(always)]
    fn block(&mut self, block: &[u8; 64], bytes: &[u8]) -> bool {
        let other = match self.syntax.dress {
            Dress::Other(byte) => byte,
            _ => self.syntax.special,
        };
        if swar::any_of(block, self.syntax.special, other) {
            return self.up_to_special(block, other);
        }
        let mut ends = swar::positions(block, self.syntax.delimiter, b'\n');
        match self.syntax.dress {
            Dress::Other(_) => {}
            Dress::Quote(quote) => {
                let quotes = swar::positions(block, quote, quote);
                if quotes != 0 || self.carry {
                    self.dressed = true;
                    let inside = swar::inside(quotes) ^ if self.carry { u64::MAX } else { 0 };
                    ends &= !inside;
                    self.carry = inside >> 63 != 0;
                }
            }
            Dress::Backslash => {
                let backslashes = swar::positions(block, b'\\', b'\\');
                if backslashes != 0 || self.carry {
                    self.dressed = true;
                    return self.backslashes(ends, backslashes, bytes);
                }
            }
        }
        self.push(ends);
        false
    }

    #[inline(always)]
    fn push(&mut self, mut ends: u64) {
        while ends != 0 {
            self.index.starts.push(self.base + ends.trailing_zeros() + 1);
            ends &= ends - 1;
        }
    }

    fn backslashes(&mut self, mut ends: u64, mut backslashes: u64, bytes: &[u8]) -> bool {
        if std::mem::take(&mut self.carry) {
            ends &= !1;
            backslashes &= !1;
        }
        while backslashes != 0 {
            let at = backslashes.trailing_zeros();
            if bytes.get(at as usize + 1) == Some(&b'.') {
                self.push(ends & ((1 << at) - 1));
                return true;
            }
            let escaped = 2u64.checked_shl(at).unwrap_or(0);
            self.carry = at == 63;
            ends &= !escaped;
            backslashes &= !(escaped | 1 << at);
        }
        self.push(ends);
        false
    }

    /// The ends before the first special byte of a block that has one. What is not decided here
    /// (whether it is inside quotes) is left to the complete parser.
    fn up_to_special(&mut self, block: &[u8; 64], other: u8) -> bool {
        let special =
            swar::positions(block, self.syntax.special, other) | swar::positions(block, 0, 0);
        let before = (1u64 << special.trailing_zeros()) - 1;
        let mut ends = swar::positions(block, self.syntax.delimiter, b'\n') & before;
        match self.syntax.dress {
            Dress::Other(_) => {}
            Dress::Quote(quote) => {
                let quotes = swar::positions(block, quote, quote) & before;
                self.dressed |= quotes != 0;
                ends &= !(swar::inside(quotes) ^ if self.carry { u64::MAX } else { 0 });
            }
            // Seldom enough to give the block to the complete parser.
            Dress::Backslash if swar::positions(block, b'\\', b'\\') & before != 0 => ends = 0,
            Dress::Backslash if self.carry => ends &= !1,
            Dress::Backslash => {}
        }
        self.push(ends);
        true
    }
}
