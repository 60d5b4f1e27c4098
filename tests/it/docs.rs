//! Every code block of `README.md` and `docs/**/*.md` runs. One test per file: its blocks run in
//! order against one fresh server, in one empty working directory. How blocks are marked is in
//! `tests/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use auspex_tests::{Case, Server, files, run_cases, server};

fn main() -> ExitCode {
    let root = files::root();
    let mut pages = vec![root.join("README.md")];
    pages.extend(files::find(&root.join("docs"), "md"));
    pages.extend(files::find(&root.join("examples"), "md"));
    let cases = pages
        .into_iter()
        .map(|page| Case {
            name: page.strip_prefix(&root).unwrap_or(&page).display().to_string(),
            run: Box::new(move || check(&page)),
        })
        .collect();
    run_cases(cases)
}

/// A fenced block.
struct Block {
    /// Line of its opening fence.
    line: usize,
    /// First word behind the fence.
    language: String,
    /// The other words.
    attributes: Vec<String>,
    text: String,
}

impl Block {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='))
    }

    fn is(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|a| a == attribute)
    }
}

fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (i, line) in page.lines().enumerate() {
        let trimmed = line.trim_start();
        match &mut open {
            Some((indent, block)) => {
                if trimmed.trim_end() == "```" {
                    blocks.extend(open.take().map(|(_, block)| block));
                } else {
                    block.text.push_str(line.get(*indent..).unwrap_or(trimmed));
                    block.text.push('\n');
                }
            }
            None => {
                let Some(info) = trimmed.strip_prefix("```") else { continue };
                let mut words = info.split_whitespace().map(str::to_owned);
                let block = Block {
                    line: i + 1,
                    language: words.next().unwrap_or_default(),
                    attributes: words.collect(),
                    text: String::new(),
                };
                open = Some((line.len() - trimmed.len(), block));
            }
        }
    }
    match open {
        Some((_, block)) => Err(format!("line {}: the block is not closed", block.line)),
        None => Ok(blocks),
    }
}

/// A server and a working directory for one page.
struct Place {
    server: Server,
    binary: PathBuf,
    folder: tempfile::TempDir,
}

fn check(page: &Path) -> Result<(), String> {
    let text = fs::read_to_string(page).map_err(|e| e.to_string())?;
    let blocks = blocks(&text)?;
    let place = Place {
        server: Server::start().map_err(|e| e.to_string())?,
        binary: server::binary().map_err(|e| e.to_string())?,
        folder: tempfile::tempdir().map_err(|e| e.to_string())?,
    };
    let mut last = String::new();
    for block in &blocks {
        run(block, &place, &mut last)
            .map_err(|why| format!("{}:{}: {why}", page.display(), block.line))?;
    }
    Ok(())
}

fn run(block: &Block, place: &Place, last: &mut String) -> Result<(), String> {
    if block.is("not-run") {
        last.clear();
        return Ok(());
    }
    match block.language.as_str() {
        "sql" => {
            let (output, ok) = place.psql(&block.text)?;
            *last = output;
            expect_outcome(block, ok, last)
        }
        "vpl" => {
            let (output, ok) = match block.attribute("pipeline") {
                Some(name) => {
                    let create =
                        format!("CREATE PIPELINE {name} AS $program$\n{}$program$;", block.text);
                    place.psql(&create)?
                }
                None if block.is("raw") => place.psql(&block.text)?,
                None => place.vpl_check(&block.text)?,
            };
            *last = output;
            expect_outcome(block, ok, last)
        }
        "sh" => {
            let (output, ok) = place.shell(&block.text)?;
            *last = output;
            expect_outcome(block, ok, last)
        }
        "console" => console(block, place),
        // What the block before has printed.
        "text" if block.is("output") => compare(last, &block.text),
        "text" | "toml" | "rust" | "ebnf" | "json" | "csv" | "mermaid" => Ok(()),
        "python" => {
            let file = place.folder.path().join("block.py");
            fs::write(&file, &block.text).map_err(|e| e.to_string())?;
            Ok(())
        }
        "" => Err("the block names no language; use `text` for what is not run".to_owned()),
        other => Err(format!("blocks of language {other} are not known; see tests/README.md")),
    }
}

fn expect_outcome(block: &Block, ok: bool, output: &str) -> Result<(), String> {
    match (block.attribute("error"), ok) {
        (None, true) => Ok(()),
        (None, false) => Err(format!("the block fails:\n{output}")),
        (Some(code), true) => Err(format!("error {code} expected; it printed:\n{output}")),
        (Some(code), false) if output.contains(code) => Ok(()),
        (Some(code), false) => Err(format!("error {code} expected, found:\n{output}")),
    }
}

/// `$ command` lines with the output that follows each.
fn console(block: &Block, place: &Place) -> Result<(), String> {
    let mut command: Option<String> = None;
    let mut expected = String::new();
    let finish = |command: Option<String>, expected: &str| -> Result<(), String> {
        let Some(command) = command else { return Ok(()) };
        let (output, _) = place.shell(&command)?;
        compare(&output, expected).map_err(|why| format!("{command}: {why}"))
    };
    for line in block.text.lines() {
        match line.strip_prefix("$ ") {
            Some(next) => {
                finish(command.take(), &expected)?;
                command = Some(next.to_owned());
                expected.clear();
            }
            None => {
                expected.push_str(line);
                expected.push('\n');
            }
        }
    }
    finish(command, &expected)
}

/// Equal line by line; blanks at the end do not count, `...` stands for any lines, and `…` for any
/// characters within a line.
fn compare(actual: &str, expected: &str) -> Result<(), String> {
    fn lines(text: &str) -> Vec<&str> {
        text.trim_matches('\n').lines().map(str::trim_end).collect()
    }
    fn fits(actual: &[&str], expected: &[&str]) -> bool {
        match expected.split_first() {
            None => actual.is_empty(),
            Some((&"...", rest)) => (0..=actual.len()).any(|skip| fits(&actual[skip..], rest)),
            Some((first, rest)) => actual
                .split_first()
                .is_some_and(|(line, others)| line_fits(line, first) && fits(others, rest)),
        }
    }
    fn line_fits(actual: &str, expected: &str) -> bool {
        let mut parts = expected.split('…');
        let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
    if fits(&lines(actual), &lines(expected)) {
        Ok(())
    } else {
        Err(format!("expected:\n{expected}\nfound:\n{actual}"))
    }
}

impl Place {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own = self.binary.parent().unwrap_or(Path::new("."));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", own.display()))
            .env("AUSPEX_ROOT", files::root())
            .env("PSQLRC", "/dev/null")
            .env("PAGER", "cat")
            .envs(self.server.libpq_environment());
        command
    }

    fn psql(&self, script: &str) -> Result<(String, bool), String> {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-"]);
        feed(command, script)
    }

    fn vpl_check(&self, program: &str) -> Result<(String, bool), String> {
        let file = self.folder.path().join("block.vpl");
        fs::write(&file, program).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.binary);
        command.current_dir(self.folder.path()).args(["check", "block.vpl"]);
        feed(command, "")
    }

    fn shell(&self, script: &str) -> Result<(String, bool), String> {
        let mut command = self.command("bash");
        command.args(["-euo", "pipefail", "-s"]);
        feed(command, script)
    }
}

/// Runs a command with this input; what it prints, and whether it succeeds. Standard error follows
/// standard output.
fn feed(mut command: Command, input: &str) -> Result<(String, bool), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{command:?}: {e}"))?;
    let writer = child.stdin.take().map(|mut pipe| {
        let input = input.to_owned();
        // A command that ends without reading all of it is no error of ours.
        thread::spawn(move || std::io::Write::write_all(&mut pipe, input.as_bytes()).is_ok())
    });
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if let Some(writer) = writer {
        writer.join().map_err(|_| "the writer failed".to_owned())?;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Ok((text, output.status.success()))
}
