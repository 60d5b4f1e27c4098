//! Programs with their inputs and outputs, plans or errors, in `tests/bound/**/*.case`.
//!
//! A case is a program (`--` lines before it are its title) and sections that begin with `---- `:
//! `input` (one JSON object per row, `{"Event": {fields}}`, in order of arrival), `output Stream`
//! (one JSON object per row), `plan Stream` (the bound plan), `columns Stream`, `error` and
//! `warning` (code, line:column, message, hint). With `VPL_BLESS=1` the sections that exist are
//! written anew from what was found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod evaluate;

use std::fs;
use std::path::{Path, PathBuf};

use auspex_plan::ColumnType;
use auspex_plan::catalog::{
    Catalog, CatalogCommand, Column, Object, ObjectKind, ObjectName, Table,
};
use auspex_plan::diagnostic::Diagnostic;
use auspex_vpl::bind::{BindContext, BoundProgram, bind, rebind};

/// A section: its heading and its lines.
type Section = (String, String);

fn read(path: &Path) -> (String, Vec<Section>) {
    let text = fs::read_to_string(path).unwrap();
    let mut parts = text.split("\n---- ");
    let program = parts.next().unwrap().to_string();
    let sections = parts.map(|part| {
        let (heading, body) = part.split_once('\n').unwrap_or((part, ""));
        (heading.to_string(), body.trim_end().to_string())
    });
    (program, sections.collect())
}

/// The program without its title lines, which are no VPL.
fn program_text(head: &str) -> String {
    let lines = head.lines().skip_while(|l| l.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn bound(text: &str, catalog: &Catalog) -> Result<BoundProgram, Vec<Diagnostic>> {
    let parsed = auspex_vpl::parse(text);
    if parsed.has_errors() {
        return Err(parsed.diagnostics);
    }
    let next_id = catalog.next_id();
    bind(&parsed.program, text, &BindContext { catalog, schema: "public", next_id, infer: None })
}

/// A database with a table, which streams can look up.
fn catalog() -> Catalog {
    let columns = vec![
        Column::new("id", ColumnType::BigInt),
        Column::new("name", ColumnType::Text),
        Column::new("tier", ColumnType::BigInt),
    ];
    let mut catalog = Catalog::new();
    let object = Object {
        id: catalog.next_id(),
        name: ObjectName::new("public", "customers"),
        created_us: 0,
        kind: ObjectKind::Table(Table { columns, primary_key: vec![0], checks: vec![] }),
    };
    catalog.apply(&CatalogCommand::Create { drop: vec![], objects: vec![object] }).unwrap();
    catalog
}

fn shown(text: &str, diagnostics: &[Diagnostic]) -> String {
    let lines = diagnostics.iter().map(|d| {
        let (line, column) = d.span.map_or((0, 0), |s| s.line_column(text));
        let hint = d.hint.as_ref().map_or(String::new(), |h| format!("\n  hint: {h}"));
        let code = d.code.unwrap_or("-");
        format!("{code} {} {line}:{column} {}{hint}", d.state.0, d.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn check(path: &Path) {
    let (head, sections) = read(path);
    let text = program_text(&head);
    let result = bound(&text, &catalog());
    let input = sections.iter().find(|(h, _)| h == "input").map_or("", |(_, b)| b.as_str());
    let found: Vec<Section> = sections
        .iter()
        .map(|(heading, body)| {
            let section = match (heading.split_once(' '), &result) {
                (None, Err(errors)) if heading == "error" => shown(&text, errors),
                (None, Ok(bound)) if heading == "warning" => shown(&text, &bound.warnings),
                (None, _) if heading == "input" => body.clone(),
                (_, Err(errors)) => panic!("{}: {}", path.display(), shown(&text, errors)),
                (None, Ok(_)) if heading == "error" => panic!("{}: accepted", path.display()),
                (Some((what, name)), Ok(bound)) => {
                    let item = bound.items.iter().find(|i| i.name == name);
                    let item = item.unwrap_or_else(|| panic!("no stream {name}"));
                    match what {
                        "plan" => item.query.as_ref().unwrap().plan.display_indent().to_string(),
                        "columns" => {
                            let shape = item.stream.columns.iter().map(|c| {
                                let not_null = if c.not_null { "" } else { "?" };
                                format!("{}: {}{not_null}", c.name, c.column_type.vpl_name())
                            });
                            shape.collect::<Vec<_>>().join("\n")
                        }
                        "time" => format!("{:?}", item.stream.event_time),
                        "output" => evaluate::run(bound, input)[name].join("\n"),
                        other => panic!("{}: section {other}", path.display()),
                    }
                }
                _ => panic!("{}: section {heading}", path.display()),
            };
            (heading.clone(), section)
        })
        .collect();
    if std::env::var_os("VPL_BLESS").is_some() {
        let mut text = head;
        for (heading, body) in &found {
            text += &format!("\n---- {heading}\n{body}");
        }
        fs::write(path, text.trim_end().to_string() + "\n").unwrap();
        return;
    }
    for ((heading, expected), (_, found)) in sections.iter().zip(&found) {
        let same = match heading.split_once(' ') {
            Some(("output", _)) => evaluate::same_rows(expected, found),
            _ => expected == found,
        };
        assert!(same, "{}, {heading}\nexpected:\n{expected}\nfound:\n{found}", path.display());
    }
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bound").join(folder);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn expressions_give_the_listed_values() {
    cases("expressions").iter().for_each(|p| check(p));
}

#[test]
fn streams_give_the_listed_rows() {
    cases("streams").iter().for_each(|p| check(p));
}

#[test]
fn functions_and_variables_give_the_listed_rows() {
    cases("functions").iter().for_each(|p| check(p));
}

#[test]
fn wrong_programs_are_refused_at_the_right_place() {
    cases("refused").iter().for_each(|p| check(p));
}

#[test]
fn plans_are_as_listed() {
    cases("plans").iter().for_each(|p| check(p));
}

#[test]
fn optimised_plans_give_the_same_rows() {
    let state = datafusion::prelude::SessionContext::new().state();
    for path in ["expressions", "streams", "functions"].iter().flat_map(|f| cases(f)) {
        let (head, sections) = read(&path);
        let Some((_, input)) = sections.iter().find(|(h, _)| h == "input") else { continue };
        let mut program = bound(&program_text(&head), &Catalog::new()).unwrap();
        let plain = evaluate::run(&program, input);
        for query in program.items.iter_mut().filter_map(|i| i.query.as_mut()) {
            query.plan = state
                .optimize(&query.plan)
                .unwrap_or_else(|e| panic!("{}: {e}\n{}", path.display(), query.plan));
        }
        let optimised = evaluate::run(&program, input);
        for (name, rows) in &plain {
            let (rows, found) = (rows.join("\n"), optimised[name].join("\n"));
            assert!(
                evaluate::same_rows(&rows, &found),
                "{} {name}\nplain:\n{rows}\noptimised:\n{found}",
                path.display()
            );
        }
    }
}

#[test]
fn damaged_programs_are_refused_or_bound_but_never_panic() {
    let catalog = catalog();
    let folders = ["expressions", "streams", "functions", "plans", "refused"];
    for path in folders.iter().flat_map(|f| cases(f)) {
        let (head, _) = read(&path);
        let text = program_text(&head);
        let words: Vec<usize> = text
            .char_indices()
            .filter(|(i, c)| c.is_alphanumeric() != text[..*i].ends_with(char::is_alphanumeric))
            .map(|(i, _)| i)
            .collect();
        // Each word or gap in turn goes away, or changes place with the next.
        for cut in words.windows(3).step_by(13) {
            let [a, b, c] = [cut[0], cut[1], cut[2]];
            let without = format!("{}{}", &text[..a], &text[b..]);
            let swapped = format!("{}{}{}{}", &text[..a], &text[b..c], &text[a..b], &text[c..]);
            for damaged in [without, swapped] {
                if let Err(errors) = bound(&damaged, &catalog) {
                    assert!(errors.iter().all(|d| d.span.is_some()), "{damaged}");
                    assert!(errors.iter().all(|d| d.state.0 != "XX000"), "{errors:?}\n{damaged}");
                }
            }
        }
    }
}

#[test]
fn long_expressions_are_bound_or_refused_without_overflowing_the_stack() {
    let event = "event T:\n    v: int\n";
    let check = |expression: String, accepted: bool| {
        let text = format!("{event}stream S = T.emit(x: {expression})\n");
        let result = bound(&text, &Catalog::new());
        assert_eq!(result.is_ok(), accepted, "{:?}", result.err());
    };
    check(vec!["v"; 200].join(" + "), true);
    check(vec!["v > 1"; 100].join(" and "), true);
    check(vec!["v"; 30_000].join(" + "), false);
    check(format!("[{}]", vec!["v"; 3000].join(", ")), true);
    // Functions put in place of their calls: as deep as 2^n, and as large.
    let nested = |n: usize, combine: &str| {
        let functions = (0..n).map(|i| {
            let body = combine.replace('f', &format!("f{i}"));
            format!("fn f{}(x: int) -> int:\n    {body}\n", i + 1)
        });
        let functions = functions.collect::<String>();
        let text = format!(
            "{event}fn f0(x: int) -> int:\n    x + 1\n{functions}stream S = T.emit(x: f{n}(v))\n"
        );
        bound(&text, &Catalog::new())
    };
    assert!(nested(30, "f(x) + f(x)").is_err());
    assert!(nested(30, "f(f(x))").is_err());
    let deep = nested(7, "f(f(x))").unwrap();
    let plan = &deep.items.last().unwrap().query.as_ref().unwrap().plan;
    assert!(plan.display_indent().to_string().len() > 128);
}

#[test]
fn a_stored_definition_gives_the_same_plan_again() {
    let folders = ["expressions", "streams", "functions", "plans"];
    for path in folders.iter().flat_map(|f| cases(f)) {
        let (head, _) = read(&path);
        let text = program_text(&head);
        let mut catalog = catalog();
        let program = bound(&text, &catalog).unwrap();
        let objects = program.items.iter().map(|item| Object {
            id: item.id,
            name: ObjectName::new("public", item.name.clone()),
            created_us: 0,
            kind: ObjectKind::Stream(item.stream.clone()),
        });
        let objects = objects.collect();
        catalog.apply(&CatalogCommand::Create { drop: vec![], objects }).unwrap();
        for item in &program.items {
            let (Some(query), Some(stored)) = (&item.query, &item.stream.definition) else {
                continue;
            };
            let again = rebind(&stored.text, &item.name, &stored.bindings, &catalog).unwrap();
            assert_eq!(again.plan, query.plan, "{} {}", path.display(), item.name);
            assert_eq!(again.inputs, query.inputs);
            assert_eq!(again.event_time(), query.event_time());
        }
    }
}
