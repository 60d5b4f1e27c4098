//! Rows of nodes to text: blanks between tokens, breaking of brackets and chains.

use super::tree::{Comment, Group, Item, Node};
use crate::syntax::layout::{CONTINUATION_WORDS, OPERATOR_WORDS};
use crate::syntax::token::TokenKind;

/// Longest line that is aimed at, in characters.
const WIDTH: usize = 100;
/// Columns a block or continuation is moved to the right.
pub(super) const STEP: usize = 4;
/// Brackets shorter than this are not torn apart.
const SHORT: usize = 20;
/// Operations that may stay on the line of their source.
const MAX_INLINE_OPS: usize = 2;

/// Text being written.
#[derive(Default)]
pub(super) struct Printer {
    pub(super) text: String,
    fresh: bool,
}

impl Printer {
    /// A new line with `indent` blanks before what comes next.
    pub(super) fn line(&mut self, indent: usize) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.fresh = true;
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.fresh = false;
    }

    fn column(&self) -> usize {
        self.text.rsplit('\n').next().map_or(0, |line| line.chars().count())
    }

    /// Comments at the end of a line.
    pub(super) fn trailing(&mut self, comments: &[Comment]) {
        for comment in comments {
            self.push("  ");
            self.push(&comment.text);
        }
    }

    /// A logical line: a chain of operations or a row.
    pub(super) fn statement(&mut self, nodes: &[Node], indent: usize) {
        self.line(indent);
        if !is_word(nodes.first(), "stream") {
            return self.row(nodes, indent, "");
        }
        let starts = segments(nodes);
        if starts.is_empty() || self.fits_on_one_line(nodes, &starts, indent) {
            return self.row(nodes, indent, "");
        }
        // Arrows directly behind the source stay beside it when there is room.
        let first_op = starts.iter().position(|s| !is_word(nodes.get(*s), "->"));
        let head = first_op.map_or(nodes.len(), |i| starts[i]);
        let head_fits =
            flat(&nodes[..head], "").is_some_and(|t| indent + t.chars().count() <= WIDTH);
        let mut begin = 0;
        for start in starts.into_iter().filter(|s| !head_fits || *s >= head) {
            self.row(&nodes[begin..start], if begin > 0 { indent + STEP } else { indent }, "");
            self.line(indent + STEP);
            begin = start;
        }
        self.row(&nodes[begin..], if begin > 0 { indent + STEP } else { indent }, "");
    }

    fn fits_on_one_line(&self, nodes: &[Node], starts: &[usize], indent: usize) -> bool {
        let Some(text) = flat(nodes, "") else { return false };
        let arrows = starts.iter().filter(|s| is_word(nodes.get(**s), "->")).count();
        let ops = starts.len() - arrows;
        let clauses = (1..nodes.len()).any(|i| {
            !is_word(nodes.get(i - 1), ".")
                && ["where", "until", "within"].iter().any(|word| is_word(nodes.get(i), word))
        });
        let room = indent + text.chars().count() <= WIDTH;
        room && ops <= MAX_INLINE_OPS && (ops == 0 || (arrows == 0 && !clauses))
    }

    fn row(&mut self, nodes: &[Node], indent: usize, bracket: &str) {
        for (i, node) in nodes.iter().enumerate() {
            if !self.fresh && i > 0 && gap(nodes, i, bracket) {
                self.push(" ");
            }
            match node {
                Node::Token(atom) => self.push(&atom.text),
                Node::Comment(comment) => {
                    let leading = nodes[..i].iter().all(|n| matches!(n, Node::Comment(_)));
                    self.comment(comment, if leading { indent } else { indent + STEP });
                }
                Node::Group(group) => self.group(nodes, i, group, indent, bracket),
            }
        }
        // A comment at the end of a row has left an empty line behind.
        if self.fresh {
            let end = self.text.trim_end_matches(' ').len();
            self.text.truncate(end);
        }
    }

    fn comment(&mut self, comment: &Comment, indent: usize) {
        if comment.inline() && !comment.own_line && !self.fresh {
            return self.push(&comment.text);
        }
        if comment.own_line && !self.fresh {
            let end = self.text.trim_end().len();
            self.text.truncate(end);
            self.line(indent);
        } else if !self.fresh {
            self.push(" ");
        }
        self.push(&comment.text);
        self.line(indent);
    }

    fn group(&mut self, nodes: &[Node], i: usize, group: &Group, indent: usize, bracket: &str) {
        let whole = flat_group(group, i.checked_sub(1).map(|p| &nodes[p]));
        if let Some(whole) = &whole {
            let length = whole.chars().count();
            let next_group = nodes[i + 1..].iter().position(|n| matches!(n, Node::Group(_)));
            let tail = &nodes[i..next_group.map_or(nodes.len(), |n| i + 1 + n)];
            let tail = flat(&tail[1..], bracket).map_or(0, |t| t.chars().count());
            let fits = self.column() + length + tail <= WIDTH;
            if fits || length <= SHORT || group.is_quantifier() || group.items.is_empty() {
                return self.push(whole);
            }
        }
        self.push(group.open);
        for (n, item) in group.items.iter().enumerate() {
            let comma = n + 1 < group.items.len() || group.commas;
            self.item(item, comma, indent + STEP, group.open);
        }
        self.line(indent);
        self.push(group.close());
    }

    fn item(&mut self, item: &Item, comma: bool, indent: usize, bracket: &str) {
        for comment in &item.before {
            self.line(indent);
            self.push(&comment.text);
        }
        if !item.nodes.is_empty() {
            self.line(indent);
            self.row(&item.nodes, indent, bracket);
            if comma {
                self.push(",");
            }
        }
        for comment in &item.after {
            if comment.own_line {
                self.line(indent);
                self.push(&comment.text);
            } else {
                self.trailing(std::slice::from_ref(comment));
            }
        }
    }
}

/// Where the operations and arrows of a chain begin.
fn segments(nodes: &[Node]) -> Vec<usize> {
    let group = |i: usize| matches!(nodes.get(i), Some(Node::Group(g)) if g.open == "(");
    let op = |i: usize| {
        group(i + 2) || (is_word(nodes.get(i + 1), "emit") && is_word(nodes.get(i + 2), "as"))
    };
    let starts = |i: usize| is_word(nodes.get(i), "->") || (is_word(nodes.get(i), ".") && op(i));
    (1..nodes.len())
        .filter(|i| starts(*i))
        // Comments above an operation go with it.
        .map(|i| {
            let own = |n: &Node| matches!(n, Node::Comment(c) if c.own_line);
            i - nodes[..i].iter().rev().take_while(|n| own(n)).count()
        })
        .collect()
}

/// The row on one line, when it can be.
pub(super) fn flat(nodes: &[Node], bracket: &str) -> Option<String> {
    let mut text = String::new();
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 && gap(nodes, i, bracket) {
            text.push(' ');
        }
        match node {
            Node::Token(atom) if atom.text.contains('\n') => return None,
            Node::Token(atom) => text.push_str(&atom.text),
            Node::Comment(comment) if comment.inline() && !comment.own_line => {
                text.push_str(&comment.text);
            }
            Node::Comment(_) => return None,
            Node::Group(group) => {
                text.push_str(&flat_group(group, i.checked_sub(1).map(|p| &nodes[p]))?);
            }
        }
    }
    Some(text)
}

fn flat_group(group: &Group, before: Option<&Node>) -> Option<String> {
    let mut parts = Vec::new();
    for item in &group.items {
        let mut part = flat(&item.nodes, group.open)?;
        if !item.before.is_empty() {
            return None;
        }
        for comment in &item.after {
            if comment.own_line || !comment.inline() {
                return None;
            }
            part.push(' ');
            part.push_str(&comment.text);
        }
        parts.push(part);
    }
    let comma = if group.is_quantifier() && group.commas && parts.len() == 1 { "," } else { "" };
    let separator = if group.is_quantifier() { "," } else { ", " };
    let inside = parts.join(separator);
    let blank = if is_spaced(group, before) { " " } else { "" };
    Some(format!("{}{blank}{inside}{comma}{blank}{}", group.open, group.close()))
}

/// Whether braces stand off from what they hold: those of `match`, `config` and lambda blocks.
fn is_spaced(group: &Group, before: Option<&Node>) -> bool {
    let entry = |item: &Item| is_word(item.nodes.get(1), ":");
    group.open == "{"
        && !group.items.is_empty()
        && !group.is_quantifier()
        && (ends_value(before) || !group.items.iter().all(entry))
}

fn is_word(node: Option<&Node>, word: &str) -> bool {
    matches!(node, Some(Node::Token(atom)) if atom.text == word
        && matches!(atom.kind, TokenKind::Word | TokenKind::Punct))
}

fn ends_value(node: Option<&Node>) -> bool {
    match node {
        Some(Node::Group(_)) => true,
        Some(Node::Token(atom)) => match atom.kind {
            TokenKind::Word => {
                !OPERATOR_WORDS.contains(&atom.text.as_str()) && atom.text != "return"
            }
            TokenKind::Punct => false,
            _ => true,
        },
        _ => false,
    }
}

/// Whether a blank stands between `nodes[i - 1]` and `nodes[i]`.
fn gap(nodes: &[Node], i: usize, bracket: &str) -> bool {
    let (a, b) = (&nodes[i - 1], &nodes[i]);
    match (a, b) {
        (Node::Comment(_), _) | (_, Node::Comment(_)) => true,
        (_, Node::Token(atom)) if atom.kind == TokenKind::Punct => {
            gap_before(nodes, i, &atom.text, bracket)
        }
        (_, Node::Group(group)) => gap_before_group(nodes, i, group, bracket),
        _ => gap_after(nodes, i - 1, bracket),
    }
}

fn gap_before(nodes: &[Node], i: usize, punct: &str, bracket: &str) -> bool {
    match punct {
        "," | ";" | ":" | "?" | ".." | "..=" | "?." => false,
        "." => matches!(&nodes[i - 1], Node::Token(a) if a.kind == TokenKind::Number),
        "+" | "*" if is_quantifier(nodes, i) => false,
        "<" if is_word(nodes.get(i - 1), "Stream") => false,
        ">" | ">>" if closes_angle(nodes, i) => false,
        _ => gap_after(nodes, i - 1, bracket),
    }
}

/// Whether a blank follows `nodes[i]` when what comes next has no opinion.
fn gap_after(nodes: &[Node], i: usize, bracket: &str) -> bool {
    let Node::Token(atom) = &nodes[i] else { return true };
    if atom.kind != TokenKind::Punct {
        return true;
    }
    match atom.text.as_str() {
        "." | "?." | ".." | "..=" | "~" => false,
        ":" => bracket != "[",
        "-" => i > 0 && ends_value(nodes.get(i - 1)),
        "<" => !is_word(i.checked_sub(1).and_then(|p| nodes.get(p)), "Stream"),
        _ => true,
    }
}

fn gap_before_group(nodes: &[Node], i: usize, group: &Group, bracket: &str) -> bool {
    if group.is_quantifier() && ends_value(nodes.get(i - 1)) {
        return false;
    }
    let before = |n: usize| i.checked_sub(n).and_then(|p| nodes.get(p));
    let member = is_word(before(2), ".") || is_word(before(2), "?.");
    match (&nodes[i - 1], group.open) {
        (Node::Group(_), "[" | "(") => false,
        (Node::Token(atom), "(" | "[") if atom.kind == TokenKind::Word => {
            let word = atom.text.as_str();
            let clause = match word {
                "filter" => ends_value(before(2)),
                "return" | "match" | "elif" | "while" => true,
                _ => OPERATOR_WORDS.contains(&word) && word != "all",
            };
            let declaration = i == 2 && (is_word(nodes.first(), "context"))
                || is_word(nodes.first(), "connector");
            !member && (clause || declaration)
        }
        (Node::Token(atom), "[") if atom.kind == TokenKind::Str => false,
        _ => gap_after(nodes, i - 1, bracket),
    }
}

/// `+` and `*` behind an event of a pattern rather than between numbers.
fn is_quantifier(nodes: &[Node], i: usize) -> bool {
    ends_value(nodes.get(i - 1))
        && match nodes.get(i + 1) {
            None => true,
            Some(Node::Token(atom)) => match atom.kind {
                TokenKind::Word => CONTINUATION_WORDS.contains(&atom.text.as_str()),
                TokenKind::Punct => matches!(atom.text.as_str(), "," | "->" | "."),
                _ => false,
            },
            _ => false,
        }
}

/// A `>` that closes `Stream<`.
fn closes_angle(nodes: &[Node], i: usize) -> bool {
    let opens =
        |n: usize| n > 0 && is_word(nodes.get(n), "<") && is_word(nodes.get(n - 1), "Stream");
    let opened = (0..i).filter(|n| opens(*n)).count();
    let closed: usize = (0..i)
        .map(|n| match nodes.get(n) {
            node if is_word(node, ">") => 1,
            node if is_word(node, ">>") => 2,
            _ => 0,
        })
        .sum();
    opened > closed
}
