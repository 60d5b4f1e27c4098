//! Text that was derived from the user's text, with the way back.

use auspex_plan::diagnostic::Span;

/// Text put together from pieces of an original and from inserted characters.
#[derive(Debug, Clone)]
pub(crate) struct Derived {
    /// The text.
    pub(crate) text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Where the piece begins in the derived text.
    at: usize,
    /// The corresponding place in the original.
    original: usize,
    /// Copied byte by byte; otherwise every position in it means `original`.
    verbatim: bool,
}

impl Derived {
    /// The whole of an original, unchanged.
    pub(crate) fn original(text: &str) -> Self {
        let pieces = vec![Piece { at: 0, original: 0, verbatim: true }];
        Derived { text: text.to_string(), pieces }
    }

    /// Nothing yet.
    pub(crate) fn empty() -> Self {
        Derived { text: String::new(), pieces: Vec::new() }
    }

    /// Appends `text[from..to]` of `source`, keeping its places.
    pub(crate) fn copy(&mut self, source: &Derived, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let index = source.piece_at(at);
            let end = source.pieces.get(index + 1).map_or(to, |next| next.at.min(to));
            let piece = source.pieces[index];
            let offset = if piece.verbatim { at - piece.at } else { 0 };
            self.pieces.push(Piece {
                at: self.text.len(),
                original: piece.original + offset,
                verbatim: piece.verbatim,
            });
            self.text.push_str(&source.text[at..end]);
            at = end;
        }
    }

    /// Appends text of its own that stands for the place `at` of `source`.
    pub(crate) fn insert(&mut self, source: &Derived, at: usize, text: &str) {
        let original = source.place(at);
        self.pieces.push(Piece { at: self.text.len(), original, verbatim: false });
        self.text.push_str(text);
    }

    /// The place in the original of a place in this text.
    pub(crate) fn place(&self, at: usize) -> usize {
        match self.pieces.get(self.piece_at(at)) {
            Some(piece) if piece.verbatim => piece.original + (at - piece.at),
            Some(piece) => piece.original,
            None => 0,
        }
    }

    /// The range in the original of a range of this text.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = self.place(start);
        // The end is exclusive: the place after the last character, not the next piece's begin.
        let last = if end > start { self.place(end - 1) + 1 } else { first };
        Span::new(first, last.max(first))
    }

    fn piece_at(&self, at: usize) -> usize {
        self.pieces.partition_point(|p| p.at <= at).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_insertion_and_copying() {
        let source = Derived::original("abcdef");
        let mut once = Derived::empty();
        once.copy(&source, 0, 2);
        once.insert(&source, 2, "<<");
        once.copy(&source, 2, 6);
        assert_eq!(once.text, "ab<<cdef");
        assert_eq!(once.span(4, 6), Span::new(2, 4));
        let mut twice = Derived::empty();
        twice.copy(&once, 3, 8);
        assert_eq!(twice.text, "<cdef");
        assert_eq!(twice.span(1, 3), Span::new(2, 4));
        assert_eq!(twice.place(0), 2);
    }
}
