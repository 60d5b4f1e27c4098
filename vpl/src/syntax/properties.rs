//! The parser never panics, whatever it is given, and its spans lie in the text.

use proptest::prelude::*;

use super::parse;
use super::tests::programs;

fn check(text: &str) {
    let parsed = parse(text);
    for diagnostic in &parsed.diagnostics {
        let span = diagnostic.span.expect("every diagnostic of the parser has a place");
        assert!(span.start <= span.end && span.end <= text.len(), "{diagnostic:?} in {text:?}");
        assert!(text.is_char_boundary(span.start), "{diagnostic:?} in {text:?}");
        let shown = crate::render(diagnostic, text, "x.vpl");
        assert!(shown.contains(&diagnostic.message));
        crate::to_json(diagnostic, text, "x.vpl");
    }
    for statement in &parsed.program.statements {
        assert!(statement.span.start < statement.span.end && statement.span.end <= text.len());
    }
    crate::looks_like_vpl(text);
    if parsed.diagnostics.is_empty() {
        crate::format::tests::check_same_and_stable(text);
    }
}

/// Pieces that programs are made of, and that break them.
const PIECES: &[&str] = &[
    "stream",
    "event",
    "let",
    "fn",
    "for",
    "if",
    "else",
    "elif",
    "match",
    "not",
    "and",
    "or",
    "in",
    "is",
    "null",
    "where",
    "as",
    "within",
    "until",
    "all",
    "pattern",
    "SEQ",
    "NOT",
    "config",
    ":",
    ":=",
    "=",
    "->",
    "=>",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    "..",
    "?.",
    "??",
    "?",
    "-",
    "**",
    "<",
    ">>",
    "\"s\"",
    "'",
    "\"\"\"",
    "#",
    "//",
    "/*",
    "*/",
    "1h30m",
    "1e5",
    ".5",
    "0..3",
    "@2024-01-01",
    "@",
    "\n",
    "\n    ",
    "\n        ",
    "x",
    "T",
    "{i}",
    "é",
    "\u{1}",
    "\u{2}",
    "\u{3}",
    "\0",
    ";",
    ".where(",
    ".emit(",
    "merge(",
    "emit",
    "\\",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn rows_of_pieces_never_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        blanks in any::<bool>(),
    ) {
        check(&pieces.join(if blanks { " " } else { "" }));
    }

    #[test]
    fn damaged_programs_never_panic(
        pick in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        length in 0usize..30,
        piece in prop::sample::select(PIECES),
    ) {
        let programs = programs("programs");
        let (_, text) = &programs[pick.index(programs.len())];
        let chars: Vec<char> = text.chars().collect();
        let at = from.index(chars.len());
        let rest = chars.len().min(at + length);
        let damaged: String =
            chars[..at].iter().copied().chain(piece.chars()).chain(chars[rest..].iter().copied()).collect();
        check(&damaged);
    }
}

#[test]
fn deep_programs_are_answered_on_a_small_stack() {
    let deep =
        |open: &str, close: &str| format!("let a = {}1{}", open.repeat(5000), close.repeat(5000));
    let texts = [
        deep("(", ")"),
        deep("[", "]"),
        deep("{a: ", "}"),
        deep("f(", ")"),
        deep("x => ", ""),
        deep("not ", ""),
        deep("- ", ""),
        deep("if a then 1 else ", ""),
        deep("1 + ", ""),
        deep("1 ** ", ""),
        deep("a or ", ""),
        deep("a and ", ""),
        deep("a.", ""),
        deep("match x { _ => ", "}"),
        format!("let a = x{}", "[0]".repeat(5000)),
        format!("let a = x{}", ".b".repeat(5000)),
        format!("let a = x{}", "?.b()".repeat(5000)),
        format!("let a = x{}", " is null".repeat(5000)),
        format!("event E: x: {}int{}", "[".repeat(5000), "]".repeat(5000)),
        format!("type T = {}int", "Stream<".repeat(5000)),
        format!("stream S = {}", "A -> ".repeat(5000)),
        format!("stream S = {}A", "not ".repeat(5000)),
        format!("stream S = A{}", ".x()".repeat(5000)),
        format!("stream S = A{}", ".fork(a: .x()".repeat(5000)),
    ];
    for text in texts {
        check(&text);
    }
    // Wide is not deep.
    let wide = format!("let a = [{}]", "f(x + 1), ".repeat(5_000));
    assert_eq!(parse(&wide).diagnostics, []);
    let chain = format!("stream S = A{}", ".where(x > 1)".repeat(1_000));
    assert_eq!(parse(&chain).diagnostics, []);
    let alternatives = format!("let a = {}false", "x == 1 and y < 2 or ".repeat(200));
    assert_eq!(parse(&alternatives).diagnostics, []);
}
