//! Diagnostics for people and for tools.

use std::fmt::Write as _;

use auspex_plan::diagnostic::{Diagnostic, Severity};
use serde_json::{Value, json};

/// Shows a diagnostic with its place: code, message, file, line and column, the source line with
/// carets below the span, detail and hint. Ends with a newline.
///
/// ```text
/// error[VPL0001]: expected an expression, found `)`
///  --> demo.vpl:4:24
///   |
/// 4 | stream X = T.where(x >)
///   |                       ^
///   = hint: ..
/// ```
pub fn render(diagnostic: &Diagnostic, text: &str, file: &str) -> String {
    let code = diagnostic.code.map(|code| format!("[{code}]")).unwrap_or_default();
    let mut shown = format!("{}{code}: {}\n", severity(diagnostic), diagnostic.message);
    let mut margin = 1;
    if let Some(span) = diagnostic.span {
        let (line, column) = span.line_column(text);
        let source = text.lines().nth(line - 1).unwrap_or("");
        // A tab would move the carets: it is shown as one blank, which is how columns count it.
        let source = source.replace(['\t', '\r'], " ");
        let rest = source.chars().count().saturating_sub(column - 1);
        let end = span.end.min(text.len());
        let spanned = text.get(span.start..end).unwrap_or("");
        let spanned = spanned.lines().next().unwrap_or("").chars().count();
        let carets = "^".repeat(spanned.clamp(1, rest.max(1)));
        margin = line.to_string().len();
        let blank = " ".repeat(margin);
        let _ = writeln!(shown, "{blank}--> {file}:{line}:{column}");
        let _ = writeln!(shown, "{blank} |");
        let (source, indent) = excerpt(&source, column - 1);
        let _ = writeln!(shown, "{line} | {source}");
        let carets: String = carets.chars().take(source.chars().count().max(1)).collect();
        let _ = writeln!(shown, "{blank} | {}{carets}", " ".repeat(indent));
    }
    let blank = " ".repeat(margin);
    for (label, part) in [("detail", &diagnostic.detail), ("hint", &diagnostic.hint)] {
        let Some(part) = part else { continue };
        let mut lines = part.lines();
        let _ = writeln!(shown, "{blank} = {label}: {}", lines.next().unwrap_or(""));
        for line in lines {
            let _ = writeln!(shown, "{blank}   {}{line}", " ".repeat(label.len() + 2));
        }
    }
    shown
}

/// The part of a very long line around `at`, and where `at` is in it.
fn excerpt(line: &str, at: usize) -> (String, usize) {
    const WIDTH: usize = 160;
    if line.chars().count() <= WIDTH {
        return (line.to_string(), at);
    }
    let from = at.saturating_sub(WIDTH / 2);
    (line.chars().skip(from).take(WIDTH).collect(), at - from)
}

fn severity(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// A diagnostic as a JSON object: `severity`, `code`, `sqlstate`, `message`, `detail`, `hint`, `file`
/// and, with a place, `line`, `column`, `end_line`, `end_column` (1-based, in characters, the end
/// exclusive). What is absent is null.
pub fn to_json(diagnostic: &Diagnostic, text: &str, file: &str) -> Value {
    let place = diagnostic.span.map(|span| {
        let end = auspex_plan::Span::new(span.end, span.end);
        (span.line_column(text), end.line_column(text))
    });
    json!({
        "severity": severity(diagnostic),
        "code": diagnostic.code,
        "sqlstate": diagnostic.state.0,
        "message": diagnostic.message,
        "detail": diagnostic.detail,
        "hint": diagnostic.hint,
        "file": file,
        "line": place.map(|p| p.0.0),
        "column": place.map(|p| p.0.1),
        "end_line": place.map(|p| p.1.0),
        "end_column": place.map(|p| p.1.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn carets_stand_below_the_span() {
        let text = "event T:\n\tv: int\n\nstream X = T.where(\u{e9} > 1)\nlet long = 12abc\n";
        let parsed = parse(text);
        let shown: String = parsed.diagnostics.iter().map(|d| render(d, text, "a.vpl")).collect();
        assert_eq!(
            shown,
            "error[VPL0001]: unexpected character `\u{e9}`\n\
             \x20--> a.vpl:4:20\n\
             \x20 |\n\
             4 | stream X = T.where(\u{e9} > 1)\n\
             \x20 |                    ^\n\
             \x20 = hint: names consist of the letters a to z, digits and `_`\n\
             error[VPL0006]: `12abc` is not a number or duration\n\
             \x20--> a.vpl:5:12\n\
             \x20 |\n\
             5 | let long = 12abc\n\
             \x20 |            ^^^^^\n\
             \x20 = hint: numbers are written 12, 1_000, 1.5, .5 or 1e5, durations 500ms or 1h30m\n"
        );
    }

    #[test]
    fn json_has_the_whole_place() {
        let text = "let a = 12abc";
        let value = to_json(&parse(text).diagnostics[0], text, "a.vpl");
        assert_eq!(value["line"], 1);
        assert_eq!(value["column"], 9);
        assert_eq!(value["end_column"], 14);
        assert_eq!(value["code"], "VPL0006");
        assert_eq!(value["detail"], Value::Null);
    }
}
