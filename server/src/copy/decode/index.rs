//! Field boundaries of many plain lines at once: where nothing is quoted or escaped, finding them
//! is finding two byte values.

use super::swar;

/// Field boundaries of complete lines.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Starts of all fields, and behind the last one the start of the next line.
    pub(super) starts: Vec<u32>,
}

/// What [`Index::build`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    /// Lines that are complete, plain and have the right number of fields.
    pub(super) rows: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Whether the line behind them needs the complete parser: it has a special byte or another
    /// number of fields. Otherwise the bytes came to their end.
    pub(super) special: bool,
}

/// Which bytes mean what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    /// Separates fields.
    pub(super) delimiter: u8,
    /// Make a line one for the complete parser, as does NUL.
    pub(super) special: [u8; 4],
}

impl Index {
    /// Looks at the lines in `bytes` (less than 4 GiB), each of `width` fields.
    pub(super) fn build(&mut self, bytes: &[u8], width: usize, of: Bytes) -> Plain {
        let special = self.find(bytes, of);
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
        Plain { rows, bytes: starts[rows * width] as usize, special: special || misfit }
    }

    /// Collects starts of fields up to the first special byte; true when there is one.
    fn find(&mut self, bytes: &[u8], of: Bytes) -> bool {
        self.starts.clear();
        self.starts.push(0);
        let mut blocks = bytes.chunks_exact(64);
        let mut base = 0u32;
        for block in &mut blocks {
            let block: &[u8; 64] = block.try_into().expect("chunks of 64 bytes");
            if swar::any_of(block, of.special) {
                return self.one_by_one(block, base, of);
            }
            let mut mask = swar::positions(block, of.delimiter, b'\n');
            while mask != 0 {
                self.starts.push(base + mask.trailing_zeros() + 1);
                mask &= mask - 1;
            }
            base += 64;
        }
        self.one_by_one(blocks.remainder(), base, of)
    }

    fn one_by_one(&mut self, bytes: &[u8], base: u32, of: Bytes) -> bool {
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == of.delimiter || byte == b'\n' {
                self.starts.push(base + at as u32 + 1);
            } else if byte == 0 || of.special.contains(&byte) {
                return true;
            }
        }
        false
    }
}
