//! Where a line of text or csv ends: PostgreSQL's `CopyReadLineText`, resumable at any byte.

use crate::copy::{CopyError, CopyOptions, Format};

/// How lines end. The first line decides; another ending later is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// `\n`.
    Newline,
    /// `\r`.
    Return,
    /// `\r\n`.
    Both,
}

/// What was found at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The line is not complete yet.
    Incomplete,
    /// A line of `len` bytes; the next one starts at `next`.
    Line {
        /// Bytes of the line without its end.
        len: usize,
        /// Start of the next line.
        next: usize,
    },
    /// The end marker `\.` after `len` bytes that are a last line unless there are none.
    Marker {
        /// Bytes before the marker.
        len: usize,
    },
}

/// Looks for the end of one line. Feed it the same bytes again with more behind them until it
/// finds something; what was looked at is not looked at again.
#[derive(Debug, Default)]
pub(super) struct LineScan {
    at: usize,
    in_quote: bool,
    last_was_escape: bool,
    /// Line ends inside quotes, which count as lines in messages.
    pub(super) inner_lines: u64,
}

impl LineScan {
    /// Looks at `bytes`, which start at the line's first byte. `last`: nothing comes behind them.
    pub(super) fn find(
        &mut self,
        bytes: &[u8],
        options: &CopyOptions,
        ending: &mut Option<Ending>,
        last: bool,
    ) -> Result<Found, CopyError> {
        let csv = options.format == Format::Csv;
        // An escape that is the quote itself needs no care: the quote toggles twice.
        let escape = (options.escape != options.quote).then_some(options.escape);
        while let Some(&byte) = bytes.get(self.at) {
            let at = self.at;
            // A byte that has to wait for the next one is looked at twice. That does no harm: it
            // is outside quotes then, where only a quote character changes the state.
            if csv {
                if self.in_quote && Some(byte) == escape {
                    self.last_was_escape = !self.last_was_escape;
                }
                if byte == options.quote && !self.last_was_escape {
                    self.in_quote = !self.in_quote;
                }
                if Some(byte) != escape {
                    self.last_was_escape = false;
                }
                if self.in_quote {
                    let end = if *ending == Some(Ending::Newline) { b'\n' } else { b'\r' };
                    self.inner_lines += u64::from(byte == end);
                    self.at += 1;
                    continue;
                }
            }
            match byte {
                b'\r' => {
                    if ending.is_none() || *ending == Some(Ending::Both) {
                        match bytes.get(at + 1) {
                            None if !last => return Ok(Found::Incomplete),
                            Some(b'\n') => {
                                *ending = Some(Ending::Both);
                                return Ok(Found::Line { len: at, next: at + 2 });
                            }
                            _ if *ending == Some(Ending::Both) => return Err(stray_return(csv)),
                            _ => *ending = Some(Ending::Return),
                        }
                    } else if *ending == Some(Ending::Newline) {
                        return Err(stray_return(csv));
                    }
                    return Ok(Found::Line { len: at, next: at + 1 });
                }
                b'\n' => {
                    if matches!(ending, Some(Ending::Return | Ending::Both)) {
                        return Err(stray_newline(csv));
                    }
                    *ending = Some(Ending::Newline);
                    return Ok(Found::Line { len: at, next: at + 1 });
                }
                b'\\' if !csv || at == 0 => match bytes.get(at + 1) {
                    None if last => self.at += 1,
                    None => return Ok(Found::Incomplete),
                    Some(b'.') => match marker(&bytes[at + 2..], csv, *ending, last)? {
                        Marker::Yes => return Ok(Found::Marker { len: at }),
                        Marker::No => self.at += 1,
                        Marker::Unknown => return Ok(Found::Incomplete),
                    },
                    Some(_) if !csv => self.at += 2,
                    Some(_) => self.at += 1,
                },
                _ => self.at += 1,
            }
        }
        if !last {
            return Ok(Found::Incomplete);
        }
        Ok(Found::Line { len: bytes.len(), next: bytes.len() })
    }
}

enum Marker {
    Yes,
    No,
    Unknown,
}

/// Whether what follows `\.` makes it the end marker.
fn marker(rest: &[u8], csv: bool, ending: Option<Ending>, last: bool) -> Result<Marker, CopyError> {
    let corrupt = |message: &str| match csv {
        true => Ok(Marker::No),
        false => Err(CopyError::format(message)),
    };
    const CORRUPT: &str = "end-of-copy marker corrupt";
    const OTHER_STYLE: &str = "end-of-copy marker does not match previous newline style";
    let rest = match (ending, rest.first()) {
        (_, None) if !last => return Ok(Marker::Unknown),
        (Some(Ending::Both), Some(b'\r')) => &rest[1..],
        (Some(Ending::Both), Some(b'\n')) => return corrupt(OTHER_STYLE),
        (Some(Ending::Both), _) => return corrupt(CORRUPT),
        _ => rest,
    };
    match (ending, rest.first()) {
        (_, None) if !last => Ok(Marker::Unknown),
        (Some(Ending::Return), Some(b'\n'))
        | (Some(Ending::Newline | Ending::Both), Some(b'\r')) => {
            Err(CopyError::format(OTHER_STYLE))
        }
        (_, Some(b'\n' | b'\r')) => Ok(Marker::Yes),
        _ => corrupt(CORRUPT),
    }
}

fn stray_return(csv: bool) -> CopyError {
    match csv {
        true => CopyError::format("unquoted carriage return found in data")
            .hint("Use quoted CSV field to represent carriage return."),
        false => CopyError::format("literal carriage return found in data")
            .hint("Use \"\\r\" to represent carriage return."),
    }
}

fn stray_newline(csv: bool) -> CopyError {
    match csv {
        true => CopyError::format("unquoted newline found in data")
            .hint("Use quoted CSV field to represent newline."),
        false => CopyError::format("literal newline found in data")
            .hint("Use \"\\n\" to represent newline."),
    }
}
