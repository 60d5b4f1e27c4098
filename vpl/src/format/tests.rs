//! Tests of the formatter: golden layouts, and that nothing but the layout changes.

use proptest::prelude::*;

use super::format;
use crate::syntax::parse;
use crate::syntax::tests::programs;

/// The program without its places.
fn meaning(text: &str) -> String {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    let shown = format!("{:?}", parsed.program);
    let mut meaning = String::new();
    let mut rest = shown.as_str();
    while let Some(at) = rest.find("Span {") {
        meaning.push_str(&rest[..at]);
        rest = rest[at..].split_once('}').map_or("", |(_, rest)| rest);
    }
    meaning + rest
}

pub(crate) fn check_same_and_stable(text: &str) {
    let formatted = format(text).unwrap();
    assert_eq!(meaning(&formatted), meaning(text), "meaning changed:\n{text}\n---\n{formatted}");
    assert_eq!(format(&formatted).unwrap(), formatted, "not stable:\n{text}\n---\n{formatted}");
}

#[test]
fn formatting_keeps_the_meaning_of_every_program_and_is_stable() {
    for (path, text) in programs("programs") {
        println!("{}", path.display());
        check_same_and_stable(&text);
    }
}

/// Files of `tests/format`: the input, a line of `=`, the layout. `AUSPEX_BLESS=1` writes the layout.
#[test]
fn layouts_are_as_written_in_the_golden_files() {
    for (path, text) in programs("format") {
        let (input, expected) = text.split_once("\n# ======\n").unwrap();
        if std::env::var_os("AUSPEX_BLESS").is_some() {
            let blessed = format!("{input}\n# ======\n{}", format(input).unwrap());
            std::fs::write(&path, blessed).unwrap();
            continue;
        }
        assert_eq!(format(input).unwrap(), expected, "{}", path.display());
        assert_eq!(format(expected).unwrap(), expected, "{}", path.display());
    }
}

/// Every comment of the input is in the output, once.
#[test]
fn comments_are_kept() {
    for (_, text) in programs("format") {
        let (input, _) = text.split_once("\n# ======\n").unwrap();
        let formatted = format(input).unwrap();
        for word in input.split(|c: char| !c.is_ascii_alphanumeric()) {
            if word.starts_with("note") {
                assert_eq!(formatted.matches(word).count(), input.matches(word).count(), "{word}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_formatted() {
    assert_eq!(format("stream A = T.where(x >)").unwrap_err().len(), 1);
}

/// A program with the blanks between some tokens changed and comments put in, meaning the same.
fn disturb(text: &str, choices: &[u8]) -> String {
    let (tokens, _) = crate::syntax::token::tokenize(text);
    let mut disturbed = String::new();
    let mut at = 0;
    let mut depth = 0usize;
    for (token, choice) in tokens.iter().zip(choices.iter().cycle()) {
        let blanks = &text[at..token.span.start];
        // Line ends mean something outside of brackets only.
        let inside = depth > 0 && !token.closes(text);
        match choice % 12 {
            0 if !blanks.contains('\n') && !blanks.is_empty() => disturbed.push_str("   "),
            1 if inside && !blanks.is_empty() => disturbed.push_str("\n        "),
            2 if inside && !blanks.is_empty() => disturbed.push_str(" /* c */ "),
            3 if inside && !blanks.is_empty() => disturbed.push_str(" # c\n        "),
            4 if blanks.contains('\n') && depth == 0 => {
                disturbed.push_str("  # c");
                disturbed.push_str(blanks);
            }
            _ => disturbed.push_str(blanks),
        }
        if token.opens(text) {
            depth += 1;
        } else if token.closes(text) {
            depth -= 1;
        }
        disturbed.push_str(token.text(text));
        at = token.span.end;
    }
    disturbed.push_str(&text[at..]);
    disturbed
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blanks_and_comments_change_neither_meaning_nor_stability(
        pick in any::<prop::sample::Index>(),
        choices in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let programs = programs("programs");
        // Placeholders of loops depend on the blanks around them.
        let (_, text) = &programs[pick.index(programs.len())];
        prop_assume!(!text.contains("\nfor "));
        let disturbed = disturb(text, &choices);
        prop_assert_eq!(meaning(&disturbed), meaning(text), "{}", &disturbed);
        check_same_and_stable(&disturbed);
    }
}
