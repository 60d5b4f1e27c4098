//! Reading a script.

use serde_json::{Map, Value};

use crate::time::moment_us;

/// A script, read.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Statements to run before the program, separated by semicolons.
    pub(crate) setup: Option<String>,
    /// The programs: one, or the same in both languages.
    pub(crate) programs: Vec<Program>,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
    /// Streams with their rows, complete and in order.
    pub(crate) outputs: Vec<Output>,
    /// What the program is refused with; then there are no steps and outputs.
    pub(crate) error: Option<Refusal>,
}

/// Language of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Sql,
    Vpl,
}

/// A program.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) language: Language,
    pub(crate) text: String,
}

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Step {
    /// A row arrives in a stream.
    Row(Row),
    /// The engine goes away without any clean-up and starts again.
    Crash,
    /// The engine is shut down and starts again.
    Restart,
    /// A statement is run.
    Run(String),
    /// No stream gets further rows.
    End,
}

/// A row of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) stream: String,
    /// Event time, microseconds since 1970.
    pub(crate) time_us: i64,
    pub(crate) fields: Map<String, Value>,
}

/// The rows a stream has to hold.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stream: String,
    /// Event time where the script gives it, and the columns in order.
    pub(crate) rows: Vec<(Option<i64>, Map<String, Value>)>,
}

/// How a program is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// SQLSTATE, or the beginning of a VPL code.
    pub(crate) code: String,
    /// 1-based line and first and last allowed column, of the program.
    pub(crate) place: Option<(usize, usize, usize)>,
    /// Words that occur in message, detail or hint, whatever their case.
    pub(crate) words: Vec<String>,
}

/// Reads a script.
pub(crate) fn parse(text: &str) -> Result<Script, String> {
    let mut script = Script::default();
    let mut section: Option<(usize, &str, Vec<&str>)> = None;
    for (i, line) in text.lines().enumerate() {
        if let Some(head) = line.strip_prefix("--- ") {
            close(&mut script, section.take())?;
            section = Some((i + 1, head.trim(), Vec::new()));
        } else if let Some((_, _, lines)) = &mut section {
            lines.push(line);
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(format!("line {}: text before the first section", i + 1));
        }
    }
    close(&mut script, section)?;
    if script.programs.is_empty() {
        return Err("the script has no program".to_owned());
    }
    if script.error.is_none() && script.outputs.is_empty() {
        return Err("the script expects nothing".to_owned());
    }
    let behind = script.steps.iter().skip_while(|s| !matches!(s, Step::End)).skip(1);
    if behind.into_iter().any(|s| matches!(s, Step::Row(_) | Step::Run(_) | Step::End)) {
        return Err("nothing arrives behind the end of input".to_owned());
    }
    if script.error.is_some() && !(script.outputs.is_empty() && script.steps.is_empty()) {
        return Err("a refused program has neither input nor output".to_owned());
    }
    Ok(script)
}

fn close(script: &mut Script, section: Option<(usize, &str, Vec<&str>)>) -> Result<(), String> {
    let Some((line, head, lines)) = section else { return Ok(()) };
    let mut words = head.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let arguments: Vec<&str> = words.collect();
    let entries =
        || lines.iter().map(|l| l.trim()).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let fail = |why: String| format!("section at line {line}: {why}");
    match (kind, arguments.as_slice()) {
        ("setup", []) => script.setup = Some(lines.join("\n")),
        ("vpl" | "sql", []) => {
            let language = if kind == "vpl" { Language::Vpl } else { Language::Sql };
            let text = format!("{}\n", lines.join("\n").trim_end());
            script.programs.push(Program { language, text });
        }
        ("input", []) => {
            for entry in entries() {
                script.steps.push(step(entry).map_err(fail)?);
            }
        }
        ("output", [stream]) => {
            let rows = entries().map(output).collect::<Result<_, _>>().map_err(fail)?;
            script.outputs.push(Output { stream: (*stream).to_owned(), rows });
        }
        ("error", [code, place @ ..]) => {
            let place = place.first().map(|p| parse_place(p)).transpose().map_err(fail)?;
            let words = entries().map(str::to_owned).collect();
            script.error = Some(Refusal { code: (*code).to_owned(), place, words });
        }
        _ => return Err(fail(format!("unknown section: {head}"))),
    }
    Ok(())
}

/// `crash`, `restart`, `end`, `run STATEMENT` or `Stream @time {fields}`.
fn step(entry: &str) -> Result<Step, String> {
    match entry {
        "crash" => return Ok(Step::Crash),
        "restart" => return Ok(Step::Restart),
        "end" => return Ok(Step::End),
        _ => {}
    }
    if let Some(statement) = entry.strip_prefix("run ") {
        return Ok(Step::Run(statement.to_owned()));
    }
    let bad = || format!("not a step: {entry}");
    let (stream, rest) = entry.split_once(" @").ok_or_else(bad)?;
    let (time, fields) = rest.split_once(' ').ok_or_else(bad)?;
    Ok(Step::Row(Row {
        stream: stream.trim().to_owned(),
        time_us: moment_us(time)?,
        fields: serde_json::from_str(fields).map_err(|e| format!("{e}: {fields}"))?,
    }))
}

/// `[@time] {columns}`.
fn output(entry: &str) -> Result<(Option<i64>, Map<String, Value>), String> {
    let (time, columns) = match entry.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
        Some((time, columns)) => (Some(moment_us(time)?), columns),
        None => (None, entry),
    };
    Ok((time, serde_json::from_str(columns).map_err(|e| format!("{e}: {columns}"))?))
}

/// `line:column` or `line:first-last`.
fn parse_place(text: &str) -> Result<(usize, usize, usize), String> {
    let bad = || format!("not a place: {text}");
    let (line, columns) = text.split_once(':').ok_or_else(bad)?;
    let (first, last) = columns.split_once('-').unwrap_or((columns, columns));
    let number = |t: &str| t.parse::<usize>().map_err(|_| bad());
    Ok((number(line)?, number(first)?, number(last)?))
}
