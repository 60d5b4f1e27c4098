//! `jsonb` in the form in which PostgreSQL stores and shows it: members ordered by length and
//! bytes of their names, the last of equal names kept, one space after `:` and `,`, numbers
//! without exponent. Equal values then have equal text.

use auspex_plan::{Diagnostic, SqlState};
use bytes::BytesMut;

use super::Result;
use crate::pg::encode::write_json_string;

/// Deepest nesting accepted.
const MAX_DEPTH: usize = 512;
/// Greatest exponent written out in digits.
const MAX_EXPONENT: i32 = 1000;

/// Checks JSON text and brings it into its canonical form.
pub fn canonical(text: &str) -> Result<String> {
    let mut reader = Reader { text, at: 0 };
    let mut out = BytesMut::with_capacity(text.len() + text.len() / 8);
    reader.value(&mut out, 0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.unexpected());
    }
    // Made of pieces of a string and of ASCII only.
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn error(&self, detail: String) -> Diagnostic {
        Diagnostic::error(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        )
        .detail(detail)
    }

    fn unexpected(&self) -> Diagnostic {
        let token: String = self.text[self.at..]
            .chars()
            .enumerate()
            .take_while(|(at, c)| *at == 0 || c.is_alphanumeric() || *c == '_')
            .map(|(_, c)| c)
            .take(40)
            .collect();
        if token.is_empty() {
            self.error("The input string ended unexpectedly.".into())
        } else {
            self.error(format!("Token \"{token}\" is invalid."))
        }
    }

    fn value(&mut self, out: &mut BytesMut, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::error(
                SqlState::STATEMENT_TOO_COMPLEX,
                format!("JSON is nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => {
                let value = self.string()?;
                write_json_string(&value, out);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => {
                for word in ["true", "false", "null"] {
                    let end = self.at + word.len();
                    let rest = &self.text.as_bytes()[self.at..];
                    let next = self.text.as_bytes().get(end);
                    if rest.starts_with(word.as_bytes())
                        && !next.is_some_and(|b| b.is_ascii_alphanumeric())
                    {
                        out.extend_from_slice(word.as_bytes());
                        self.at = end;
                        return Ok(());
                    }
                }
                Err(self.unexpected())
            }
        }
    }

    fn array(&mut self, out: &mut BytesMut, depth: usize) -> Result<()> {
        self.at += 1;
        out.extend_from_slice(b"[");
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            out.extend_from_slice(b"]");
            return Ok(());
        }
        loop {
            self.value(out, depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    out.extend_from_slice(b", ");
                }
                Some(b']') => {
                    self.at += 1;
                    out.extend_from_slice(b"]");
                    return Ok(());
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn object(&mut self, out: &mut BytesMut, depth: usize) -> Result<()> {
        self.at += 1;
        let mut members: Vec<(String, BytesMut)> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            out.extend_from_slice(b"{}");
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected());
            }
            let name = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected());
            }
            self.at += 1;
            let mut value = BytesMut::new();
            self.value(&mut value, depth + 1)?;
            members.push((name, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.unexpected()),
            }
        }
        // A stable sort keeps equal names in their order, so that the last one is the one to keep.
        members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        out.extend_from_slice(b"{");
        let mut first = true;
        for at in 0..members.len() {
            let (name, value) = &members[at];
            if members.get(at + 1).is_some_and(|(next, _)| next == name) {
                continue;
            }
            if !first {
                out.extend_from_slice(b", ");
            }
            first = false;
            write_json_string(name, out);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"}");
        Ok(())
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
                self.at += 1;
            }
            value.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => {
                    self.at += 1;
                    value.push(self.escape()?);
                }
                Some(control) => {
                    return Err(self
                        .error(format!("Character with value 0x{control:02x} must be escaped.")));
                }
                None => return Err(self.error("The input string ended unexpectedly.".into())),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                let code = match first {
                    0 => {
                        return Err(Diagnostic::error(
                            SqlState("22P05"),
                            "unsupported Unicode escape sequence",
                        )
                        .detail("\\u0000 cannot be converted to text."));
                    }
                    0xD800..=0xDBFF => {
                        let pair = self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u");
                        self.at += 2;
                        let second = if pair { self.hex4()? } else { 0 };
                        if !(0xDC00..=0xDFFF).contains(&second) {
                            return Err(self.error(
                                "Unicode high surrogate must be followed by a low surrogate."
                                    .into(),
                            ));
                        }
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    other => other,
                };
                char::from_u32(code).ok_or_else(|| {
                    self.error("Unicode low surrogate must follow a high surrogate.".into())
                })?
            }
            _ => return Err(self.error("Escape sequence is invalid.".into())),
        })
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self
            .text
            .as_bytes()
            .get(self.at..self.at + 4)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .ok_or_else(|| {
                self.error("\"\\u\" must be followed by four hexadecimal digits.".into())
            })?;
        self.at += 4;
        let value = digits
            .iter()
            .fold(0, |value, digit| value * 16 + (*digit as char).to_digit(16).unwrap_or(0));
        Ok(value)
    }

    fn number(&mut self, out: &mut BytesMut) -> Result<()> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let negative = bytes[start] == b'-';
        let whole_start = start + usize::from(negative);
        let whole_end = digits(whole_start);
        let whole = &bytes[whole_start..whole_end];
        let mut at = whole_end;
        let mut fraction: &[u8] = &[];
        let mut bad = whole.is_empty() || (whole.len() > 1 && whole[0] == b'0');
        if bytes.get(at) == Some(&b'.') {
            let end = digits(at + 1);
            fraction = &bytes[at + 1..end];
            bad |= fraction.is_empty();
            at = end;
        }
        let mut exponent = 0i32;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = digits(at + 1 + sign);
            match self.text[at + 1..end].parse() {
                Ok(value) => exponent = value,
                Err(_) => bad = true,
            }
            at = end;
        }
        bad |= bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if bad {
            return Err(self.unexpected());
        }
        self.at = at;
        if exponent.abs() > MAX_EXPONENT {
            return Err(Diagnostic::error(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "number in JSON is out of range",
            ));
        }
        let zero = whole.iter().chain(fraction).all(|d| *d == b'0');
        if negative && !zero {
            out.extend_from_slice(b"-");
        }
        if exponent == 0 {
            out.extend_from_slice(whole);
            if !fraction.is_empty() {
                out.extend_from_slice(b".");
                out.extend_from_slice(fraction);
            }
            return Ok(());
        }
        // Move the point.
        let mut all: Vec<u8> = [whole, fraction].concat();
        let mut point = whole.len() as i32 + exponent;
        while point <= 0 {
            all.insert(0, b'0');
            point += 1;
        }
        while all.len() < point as usize {
            all.push(b'0');
        }
        let (whole, fraction) = all.split_at(point as usize);
        let zeros = whole.iter().take_while(|d| **d == b'0').count().min(whole.len() - 1);
        out.extend_from_slice(&whole[zeros..]);
        if !fraction.is_empty() {
            out.extend_from_slice(b".");
            out.extend_from_slice(fraction);
        }
        Ok(())
    }
}
