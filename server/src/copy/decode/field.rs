//! The fields of one line, with quotes and escapes resolved: PostgreSQL's
//! `CopyReadAttributesText` and `CopyReadAttributesCSV`.

use super::value;
use crate::copy::{CopyError, CopyOptions, Format};

/// Fields of a line. Kept between lines to reuse the memory.
#[derive(Debug, Default)]
pub(super) struct Fields {
    text: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    null: bool,
    quoted: bool,
    /// Escapes made bytes that must be looked at.
    check: bool,
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its text, `None` where the null string stood.
    pub(super) text: Option<&'a str>,
    /// Whether a part of it was quoted.
    pub(super) quoted: bool,
}

impl Fields {
    /// Splits `line`, which is valid UTF-8.
    pub(super) fn split(&mut self, line: &str, options: &CopyOptions) -> Result<(), CopyError> {
        self.text.clear();
        self.spans.clear();
        match options.format {
            Format::Csv => self.split_csv(line.as_bytes(), options),
            _ => {
                self.split_text(line.as_bytes(), options);
                Ok(())
            }
        }
    }

    /// The one field that `raw` is.
    pub(super) fn one(&mut self, raw: &str, options: &CopyOptions) -> Result<Field<'_>, CopyError> {
        self.split(raw, options)?;
        self.get(0)
    }

    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Field `at`. 22021 when escapes made bytes that are no text.
    pub(super) fn get(&self, at: usize) -> Result<Field<'_>, CopyError> {
        let span = self.spans[at];
        if span.null {
            return Ok(Field { text: None, quoted: span.quoted });
        }
        let bytes = &self.text[span.start..span.end];
        let text = if span.check {
            value::utf8(bytes).map_err(CopyError::from)?
        } else {
            // A delimiter, quote or escape is one ASCII byte in valid text, or (a byte above 127)
            // splits characters: only then this can fail.
            std::str::from_utf8(bytes).or_else(|_| value::utf8(bytes)).map_err(CopyError::from)?
        };
        Ok(Field { text: Some(text), quoted: span.quoted })
    }

    fn split_text(&mut self, line: &[u8], options: &CopyOptions) {
        let mut at = 0;
        loop {
            let from = at;
            let start = self.text.len();
            let mut raw_end;
            let mut check = false;
            let mut more = false;
            loop {
                raw_end = at;
                let Some(&byte) = line.get(at) else { break };
                at += 1;
                if byte == options.delimiter {
                    more = true;
                    break;
                }
                if byte != b'\\' {
                    self.text.push(byte);
                    continue;
                }
                // A backslash at the end of the line stands for nothing.
                let Some(&escaped) = line.get(at) else { break };
                at += 1;
                let byte = match escaped {
                    b'0'..=b'7' => {
                        let mut value = u32::from(escaped - b'0');
                        for _ in 0..2 {
                            match line.get(at) {
                                Some(digit @ b'0'..=b'7') => {
                                    value = value * 8 + u32::from(digit - b'0');
                                    at += 1;
                                }
                                _ => break,
                            }
                        }
                        check |= value as u8 == 0 || value as u8 > 127;
                        value as u8
                    }
                    b'x' => {
                        let mut value = None;
                        for _ in 0..2 {
                            match line.get(at).and_then(|b| (*b as char).to_digit(16)) {
                                Some(digit) => {
                                    value = Some(value.unwrap_or(0) * 16 + digit);
                                    at += 1;
                                }
                                None => break,
                            }
                        }
                        let byte = value.map_or(b'x', |v| v as u8);
                        check |= byte == 0 || byte > 127;
                        byte
                    }
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    other => other,
                };
                self.text.push(byte);
            }
            let null = line[from..raw_end] == *options.null.as_bytes();
            let end = self.text.len();
            self.spans.push(Span { start, end, null, quoted: false, check });
            if !more {
                return;
            }
        }
    }

    fn split_csv(&mut self, line: &[u8], options: &CopyOptions) -> Result<(), CopyError> {
        let mut at = 0;
        loop {
            let from = at;
            let start = self.text.len();
            let mut quoted = false;
            let (raw_end, more) = 'field: loop {
                // Outside quotes.
                loop {
                    let Some(&byte) = line.get(at) else { break 'field (at, false) };
                    at += 1;
                    if byte == options.delimiter {
                        break 'field (at - 1, true);
                    }
                    if byte == options.quote {
                        quoted = true;
                        break;
                    }
                    self.text.push(byte);
                }
                // Inside quotes.
                loop {
                    let Some(&byte) = line.get(at) else {
                        return Err(CopyError::format("unterminated CSV quoted field"));
                    };
                    at += 1;
                    if byte == options.escape
                        && let Some(&next) = line.get(at)
                        && (next == options.escape || next == options.quote)
                    {
                        self.text.push(next);
                        at += 1;
                        continue;
                    }
                    if byte == options.quote {
                        break;
                    }
                    self.text.push(byte);
                }
            };
            let null = !quoted && line[from..raw_end] == *options.null.as_bytes();
            let end = self.text.len();
            self.spans.push(Span { start, end, null, quoted, check: false });
            if !more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &CopyOptions, line: &str, expected: &[Option<&str>]) {
        let mut fields = Fields::default();
        fields.split(line, options).unwrap();
        let got: Vec<_> = (0..fields.len()).map(|i| fields.get(i).unwrap().text).collect();
        assert_eq!(got, expected, "{line:?}");
    }

    #[test]
    fn text_escapes() {
        let text = CopyOptions::of(Format::Text);
        check(&text, "", &[Some("")]);
        check(&text, "a\tb", &[Some("a"), Some("b")]);
        check(&text, "\\N\t", &[None, Some("")]);
        check(&text, "\\\\N\tN", &[Some("\\N"), Some("N")]);
        check(&text, "\\b\\f\\n\\r\\t\\v\\\\\\q", &[Some("\x08\x0c\n\r\t\x0b\\q")]);
        check(&text, "a\\\tb\tc", &[Some("a\tb"), Some("c")]);
        check(&text, "\\101\\60\\0601", &[Some("A001")]);
        check(&text, "\\x41\\x4\\x4a1\\xg", &[Some("A\x04J1xg")]);
        check(&text, "\\303\\251\\xc3\\xA9", &[Some("éé")]);
        check(&text, "end\\", &[Some("end")]);
    }

    #[test]
    fn escapes_must_make_text() {
        let mut fields = Fields::default();
        for (line, shown) in [("\\377", "0xff"), ("a\\0", "0x00"), ("\\x00", "0x00")] {
            fields.split(line, &CopyOptions::of(Format::Text)).unwrap();
            let error = fields.get(0).unwrap_err();
            assert_eq!(error.state.0, "22021");
            assert_eq!(
                error.message,
                format!("invalid byte sequence for encoding \"UTF8\": {shown}")
            );
        }
    }

    #[test]
    fn csv_quotes() {
        let csv = CopyOptions::of(Format::Csv);
        check(&csv, "", &[None]);
        check(&csv, "a,,\"\"", &[Some("a"), None, Some("")]);
        check(&csv, "\"a,b\",\"c\"\"d\"", &[Some("a,b"), Some("c\"d")]);
        check(&csv, "a\"b,c\"d, e ", &[Some("ab,cd"), Some(" e ")]);
        check(&csv, "\"line\none\",\\N", &[Some("line\none"), Some("\\N")]);
        let escape = CopyOptions { escape: b'\\', ..csv };
        check(&escape, "\"a\\\"b\\\\c\\d\"", &[Some("a\"b\\c\\d")]);
        assert_eq!(
            Fields::default().split("\"abc", &escape).unwrap_err().message,
            "unterminated CSV quoted field"
        );
    }
}
