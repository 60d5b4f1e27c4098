//! Tokens and comments of a line as a tree of brackets.

use std::ops::Range;

use crate::syntax::token::{Token, TokenKind};

/// One element of a row.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A token; `text` may join several that must stay together.
    Token(Atom),
    /// A comment between tokens.
    Comment(Comment),
    /// Brackets and what they hold.
    Group(Group),
}

/// A token as the printer sees it.
#[derive(Debug, Clone)]
pub(super) struct Atom {
    pub(super) kind: TokenKind,
    pub(super) text: String,
}

/// A comment.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub(super) text: String,
    /// Nothing but blanks before it on its line.
    pub(super) own_line: bool,
}

impl Comment {
    pub(super) fn of(token: &Token, text: &str) -> Self {
        Comment { text: token.text(text).trim_end().to_string(), own_line: token.first_on_line }
    }

    /// Whether something may follow it on its line.
    pub(super) fn inline(&self) -> bool {
        self.text.starts_with("/*") && !self.text.contains('\n')
    }
}

/// Brackets.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// `(`, `[` or `{`
    pub(super) open: &'static str,
    /// What commas separate; a trailing comma adds no item.
    pub(super) items: Vec<Item>,
    /// Whether there is any comma.
    pub(super) commas: bool,
}

/// What stands between two commas.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    /// Comments on lines of their own before it.
    pub(super) before: Vec<Comment>,
    pub(super) nodes: Vec<Node>,
    /// Comments at the end of its line.
    pub(super) after: Vec<Comment>,
}

impl Group {
    pub(super) fn close(&self) -> &'static str {
        match self.open {
            "(" => ")",
            "[" => "]",
            _ => "}",
        }
    }

    /// `{2}`, `{2,}`, `{1,3}`: a quantifier, whose comma means something.
    pub(super) fn is_quantifier(&self) -> bool {
        let numbers = |item: &Item| match item.nodes.as_slice() {
            [] => true,
            [Node::Token(atom)] => atom.kind == TokenKind::Number,
            _ => false,
        };
        self.open == "{" && !self.items.is_empty() && self.items.iter().all(numbers)
    }
}

/// Builds the row of the tokens `range` (comments included). In the body of a top-level loop,
/// `placeholders` are its variables: tokens that touch `{v}` stay together.
pub(super) fn row(
    text: &str,
    tokens: &[Token],
    range: Range<usize>,
    placeholders: &[String],
) -> Vec<Node> {
    let mut reader = Reader { text, tokens, at: range.start, end: range.end, placeholders };
    let mut nodes = Vec::new();
    // Outside of brackets commas are ordinary tokens of the row.
    while reader.at < reader.end {
        let item = reader.item();
        nodes.extend(item.before.into_iter().map(Node::Comment));
        nodes.extend(item.nodes);
    }
    nodes
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    end: usize,
    placeholders: &'a [String],
}

impl Reader<'_> {
    /// Reads up to a comma or closing bracket that is not its own.
    fn item(&mut self) -> Item {
        let mut item = Item::default();
        while self.at < self.end {
            let token = self.tokens[self.at];
            if token.kind == TokenKind::Comment {
                self.at += 1;
                let comment = Comment::of(&token, self.text);
                if item.nodes.is_empty() {
                    item.before.push(comment);
                } else {
                    item.nodes.push(Node::Comment(comment));
                }
            } else if let Some(joined) = self.joined() {
                item.nodes.push(Node::Token(joined));
            } else if token.opens(self.text) {
                item.nodes.push(Node::Group(self.group()));
            } else if token.closes(self.text) {
                break;
            } else {
                self.at += 1;
                let text = token.text(self.text).to_string();
                let comma = token.kind == TokenKind::Punct && text == ",";
                item.nodes.push(Node::Token(Atom { kind: token.kind, text }));
                if comma {
                    break;
                }
            }
        }
        item
    }

    fn group(&mut self) -> Group {
        let open = match self.tokens[self.at].text(self.text) {
            "(" => "(",
            "[" => "[",
            _ => "{",
        };
        self.at += 1;
        let mut group = Group { open, items: Vec::new(), commas: false };
        loop {
            let mut item = self.item();
            let comma = matches!(item.nodes.last(), Some(Node::Token(atom)) if atom.text == ",");
            if comma {
                item.nodes.pop();
                group.commas = true;
            }
            // Comments at the end of the item's line belong to it, also behind the comma.
            while let Some(Node::Comment(_)) = item.nodes.last() {
                if let Some(Node::Comment(comment)) = item.nodes.pop() {
                    item.after.insert(0, comment);
                }
            }
            while let Some(token) = self.tokens[..self.end].get(self.at)
                && comma
                && token.kind == TokenKind::Comment
                && !token.first_on_line
            {
                item.after.push(Comment::of(token, self.text));
                self.at += 1;
            }
            let empty = item.nodes.is_empty() && item.before.is_empty() && item.after.is_empty();
            if !empty || comma {
                group.items.push(item);
            }
            if !comma {
                // The closing bracket: the parser has made sure that it is there.
                self.at += 1;
                return group;
            }
        }
    }

    /// Tokens around a placeholder `{v}` without blanks between them, as one word.
    fn joined(&mut self) -> Option<Atom> {
        let start = self.at;
        let mut at = start;
        let mut found = false;
        while at < self.end {
            let touches = at == start || self.tokens[at - 1].span.end == self.tokens[at].span.start;
            if !touches {
                break;
            }
            if self.is_placeholder(at) {
                found = true;
                at += 3;
            } else if self.tokens[at].kind == TokenKind::Word
                || self.tokens[at].kind == TokenKind::Number
            {
                at += 1;
            } else {
                break;
            }
        }
        if !found {
            return None;
        }
        self.at = at;
        let span = self.tokens[start].span.to(self.tokens[at - 1].span);
        Some(Atom { kind: TokenKind::Word, text: self.text[span.start..span.end].to_string() })
    }

    fn is_placeholder(&self, at: usize) -> bool {
        let word = |i: usize| self.tokens[..self.end].get(at + i).map_or("", |t| t.text(self.text));
        let tight = |i: usize| {
            at + i + 1 < self.end
                && self.tokens[at + i].span.end == self.tokens[at + i + 1].span.start
        };
        word(0) == "{"
            && word(2) == "}"
            && tight(0)
            && tight(1)
            && self.placeholders.iter().any(|p| p == word(1))
    }
}
