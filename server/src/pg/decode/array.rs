//! Arrays from text: `{1,NULL,"a b"}`, `{{1,2},{3,4}}`, `[0:1]={1,2}`.

use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;

use super::{Result, list, null};
use crate::pg::zone::Zone;

/// Deepest nesting of braces, as in PostgreSQL.
const MAX_DIMENSIONS: usize = 6;

/// Reads an array whose elements have type `item`.
pub(super) fn text(item: &ColumnType, text: &str, zone: Zone) -> Result<ScalarValue> {
    let mut body = text.trim_ascii();
    // Bounds are read and left alone: arrays here always begin at 1.
    if body.starts_with('[') {
        let (bounds, rest) = body
            .split_once('=')
            .ok_or_else(|| malformed(text, "Missing \"=\" after array dimensions."))?;
        if !bounds.bytes().all(|b| b.is_ascii_digit() || b"[]:+- ".contains(&b)) {
            return Err(malformed(text, "Array dimensions are not numbers."));
        }
        body = rest.trim_ascii();
    }
    let mut reader = Reader { text, rest: body, zone };
    let value = reader.array(item, 1)?;
    if !reader.rest.trim_ascii().is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    Ok(value)
}

fn malformed(text: &str, detail: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )
    .detail(detail)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    zone: Zone,
}

impl Reader<'_> {
    fn array(&mut self, item: &ColumnType, depth: usize) -> Result<ScalarValue> {
        let start = "Array value must start with \"{\" or dimension information.";
        self.rest = self
            .rest
            .trim_ascii_start()
            .strip_prefix('{')
            .ok_or_else(|| malformed(self.text, start))?;
        if depth > MAX_DIMENSIONS {
            return Err(malformed(self.text, "Too many dimensions."));
        }
        let mut values = Vec::new();
        if let Some(rest) = self.rest.trim_ascii_start().strip_prefix('}') {
            self.rest = rest;
            return list(item, values);
        }
        loop {
            self.rest = self.rest.trim_ascii_start();
            values.push(self.element(item, depth)?);
            self.rest = self.rest.trim_ascii_start();
            let mut chars = self.rest.chars();
            match chars.next() {
                Some(',') => self.rest = chars.as_str(),
                Some('}') => {
                    self.rest = chars.as_str();
                    return list(item, values);
                }
                Some(other) => {
                    return Err(malformed(
                        self.text,
                        &format!("Unexpected \"{other}\" character."),
                    ));
                }
                None => return Err(malformed(self.text, "Unexpected end of input.")),
            }
        }
    }

    fn element(&mut self, item: &ColumnType, depth: usize) -> Result<ScalarValue> {
        match (self.rest.starts_with('{'), item) {
            (true, ColumnType::Array(inner)) => return self.array(inner, depth + 1),
            (true, _) => return Err(malformed(self.text, "Unexpected \"{\" character.")),
            _ => {}
        }
        let quoted = self.rest.starts_with('"');
        let mut chars = self.rest.chars();
        if quoted {
            chars.next();
        }
        let mut value = String::new();
        // Trailing spaces of an unquoted element do not belong to it, escaped ones do.
        let mut keep = 0;
        loop {
            let before = chars.as_str();
            match chars.next() {
                Some('\\') => {
                    value.push(
                        chars
                            .next()
                            .ok_or_else(|| malformed(self.text, "Unexpected end of input."))?,
                    );
                    keep = value.len();
                }
                Some('"') if quoted => break,
                Some('"') => return Err(malformed(self.text, "Incorrectly quoted array element.")),
                Some(',' | '}') if !quoted => {
                    chars = before.chars();
                    break;
                }
                Some('{') if !quoted => {
                    return Err(malformed(self.text, "Unexpected \"{\" character."));
                }
                Some(c) => {
                    value.push(c);
                    if !c.is_ascii_whitespace() {
                        keep = value.len();
                    }
                }
                None => return Err(malformed(self.text, "Unexpected end of input.")),
            }
        }
        self.rest = chars.as_str();
        if !quoted {
            value.truncate(keep);
            if value.is_empty() {
                return Err(malformed(self.text, "Unexpected array element."));
            }
            if value.eq_ignore_ascii_case("null") {
                return null(item);
            }
        }
        super::text(item, &value, self.zone)
    }
}
