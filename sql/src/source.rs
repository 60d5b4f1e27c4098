//! The text a statement came in, and the way from the parser's lines and columns to byte ranges.

use std::sync::Arc;

use auspex_plan::Span;
use sqlparser::tokenizer::{Location, Span as AstSpan};

/// A text sent by a user, shared by everything parsed from it.
#[derive(Debug)]
pub struct Source {
    text: String,
    /// Byte at which each line begins.
    lines: Vec<usize>,
}

impl Source {
    /// Takes a text in.
    pub fn new(text: &str) -> Arc<Source> {
        let lines = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1))
            .collect();
        Arc::new(Source { text: text.to_string(), lines })
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part of the text in `span`.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// Byte offset of a location (lines and columns from 1, columns in characters); `None` for the
    /// parser's "nowhere".
    pub fn offset(&self, at: Location) -> Option<usize> {
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let start = *self.lines.get(line)?;
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        let text = &self.text[start..end];
        let within = text.char_indices().nth(column).map_or(text.len(), |(i, _)| i);
        Some(start + within)
    }

    /// Byte range of a span of the parser's.
    pub fn span(&self, span: AstSpan) -> Option<Span> {
        Some(Span::new(self.offset(span.start)?, self.offset(span.end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters_and_offsets_are_bytes() {
        let source = Source::new("é x\nab");
        assert_eq!(source.offset(Location::new(1, 3)), Some(3));
        assert_eq!(source.offset(Location::new(2, 2)), Some(6));
        assert_eq!(source.offset(Location::new(2, 99)), Some(7));
        assert_eq!(source.offset(Location::new(0, 0)), None);
    }
}
