//! One script over the matrix: whatever the batch size, the number of workers and the restarts,
//! the output is the expected one, with the same offsets.

use auspex_server::engine::EngineOptions;

use crate::engine::{Found, Home, Life, text};
use crate::format::{Output, Program, Refusal, Row, Script, Step};
use crate::rows;

/// How often the engine goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// Only where the script says so.
    Never,
    /// After each step it is dropped without notice.
    CrashAfterEachStep,
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy)]
struct Cell {
    batch_rows: usize,
    workers: usize,
    restart: Restart,
    checkpoint: Checkpoint,
    on_disk: bool,
}

/// How often queries save their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checkpoint {
    /// With every transaction.
    Always,
    /// When they end in order only: after a crash everything is computed again.
    AtTheEnd,
}

impl Cell {
    fn options(self) -> EngineOptions {
        let checkpoint_ms = match self.checkpoint {
            Checkpoint::Always => 0,
            Checkpoint::AtTheEnd => u64::from(u32::MAX),
        };
        let (workers, batch_rows) = (self.workers, self.batch_rows);
        EngineOptions { workers, batch_rows, checkpoint_ms, ..EngineOptions::default() }
    }
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for batch_rows in [1, 3, 8192] {
        for workers in [1, 3] {
            for restart in [Restart::Never, Restart::CrashAfterEachStep] {
                // Opening a data directory costs more than all the rest: one cell of each kind.
                let on_disk = workers == 3 && batch_rows == 3;
                // Crashes come right behind a checkpoint with one worker and far from one with
                // several, and so do the small batches of a life without crashes.
                let checkpoint =
                    if workers == 1 { Checkpoint::Always } else { Checkpoint::AtTheEnd };
                cells.push(Cell { batch_rows, workers, restart, checkpoint, on_disk });
            }
        }
    }
    cells
}

/// Runs a script.
pub(crate) fn check(script: &Script) -> Result<(), String> {
    if let Some(refusal) = &script.error {
        for program in &script.programs {
            refused(script, program, refusal)?;
        }
        return Ok(());
    }
    let mut plans: Vec<Vec<String>> = Vec::new();
    for program in &script.programs {
        for cell in cells() {
            let found = run(script, program, cell)
                .map_err(|why| format!("{:?}, {cell:?}:\n{why}", program.language))?;
            plans.push(found);
        }
    }
    let Some((first, rest)) = plans.split_first() else { return Ok(()) };
    for plan in rest {
        if plan != first {
            return Err(format!(
                "the twins' plans differ:\n{}\n{}",
                first.join("\n"),
                plan.join("\n")
            ));
        }
    }
    Ok(())
}

/// Runs one cell; the plans of the outputs' queries.
fn run(script: &Script, program: &Program, cell: Cell) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let home = if cell.on_disk { Home::Disk(folder.path().join("data")) } else { Home::memory() };
    let ended = std::cell::Cell::new(false);
    let begin = || {
        let life = Life::begin(&home, cell.options())?;
        if ended.get() {
            life.end_input();
        }
        Ok::<Life, String>(life)
    };
    let mut life = begin()?;
    if let Some(setup) = &script.setup {
        life.run(setup).map_err(|e| text(&e))?;
    }
    life.run(&program.text).map_err(|e| text(&e))?;

    for step in grouped(&script.steps, cell.batch_rows) {
        match step {
            Group::Rows(rows) => life.append(&rows)?,
            Group::Step(Step::Run(statement)) => {
                life.run(statement).map_err(|e| text(&e))?;
            }
            Group::Step(Step::End) => {
                ended.set(true);
                life.end_input();
            }
            Group::Step(Step::Restart) => {
                life.stop(&home)?;
                life = begin()?;
            }
            Group::Step(_) => {
                life.crash(&home)?;
                life = begin()?;
            }
        }
        if cell.restart == Restart::CrashAfterEachStep {
            // The queries may be anywhere; what they have put out is final.
            let early = read_outputs(&mut life, &script.outputs)?;
            life.crash(&home)?;
            life = begin()?;
            let later = read_outputs(&mut life, &script.outputs)?;
            for (early, later) in early.iter().zip(&later) {
                if !later.starts_with(early) {
                    return Err(format!("rows changed by a crash:\n{early:?}\n{later:?}"));
                }
            }
        }
    }
    match ended.get() {
        true => life.end_input(),
        false => life.settle(),
    }
    let found = read_outputs(&mut life, &script.outputs)?;
    for (output, found) in script.outputs.iter().zip(&found) {
        if !life.has(&output.stream) {
            return Err(format!("no stream {}", output.stream));
        }
        compare(output, found)?;
    }
    let mut plans = Vec::new();
    if script.programs.len() > 1 {
        for output in &script.outputs {
            plans.push(life.plan(&output.stream)?);
        }
    }
    life.stop(&home)?;
    Ok(plans)
}

fn read_outputs(life: &mut Life, outputs: &[Output]) -> Result<Vec<Vec<Found>>, String> {
    outputs.iter().map(|output| life.read(&output.stream)).collect()
}

enum Group<'a> {
    Rows(Vec<Row>),
    Step(&'a Step),
}

/// Neighbouring rows of one stream, at most `most` at a time, arrive together.
fn grouped(steps: &[Step], most: usize) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for step in steps {
        match (step, groups.last_mut()) {
            (Step::Row(row), Some(Group::Rows(rows)))
                if rows.len() < most && rows[0].stream == row.stream =>
            {
                rows.push(row.clone());
            }
            (Step::Row(row), _) => groups.push(Group::Rows(vec![row.clone()])),
            (step, _) => groups.push(Group::Step(step)),
        }
    }
    groups
}

fn compare(output: &Output, found: &[Found]) -> Result<(), String> {
    let listed = || {
        let mut text = format!("stream {} holds {} rows:", output.stream, found.len());
        for (offset, _, columns) in found {
            text += &format!("\n  {offset} {}", serde_json::Value::Object(columns.clone()));
        }
        text
    };
    if found.len() != output.rows.len() {
        return Err(format!("{} rows expected; {}", output.rows.len(), listed()));
    }
    for (i, ((offset, time, columns), (expected_time, expected))) in
        found.iter().zip(&output.rows).enumerate()
    {
        let names = |map: &serde_json::Map<String, serde_json::Value>| {
            map.keys().cloned().collect::<Vec<_>>()
        };
        if *offset != i as u64 {
            return Err(format!("row {i} has offset {offset}; {}", listed()));
        }
        if expected_time.is_some_and(|expected| expected != *time) {
            return Err(format!("row {i} has time {time}; {}", listed()));
        }
        if names(columns) != names(expected) {
            return Err(format!(
                "row {i}: columns {:?}, expected {:?}",
                names(columns),
                names(expected)
            ));
        }
        for (name, expected) in expected {
            if !columns.get(name).is_some_and(|actual| rows::same(actual, expected)) {
                return Err(format!("row {i}: {name} is not {expected}; {}", listed()));
            }
        }
    }
    Ok(())
}

/// The program must be refused as expected, and leave nothing behind.
fn refused(script: &Script, program: &Program, refusal: &Refusal) -> Result<(), String> {
    let home = Home::memory();
    let options = EngineOptions { workers: 1, ..EngineOptions::default() };
    let mut life = Life::begin(&home, options)?;
    if let Some(setup) = &script.setup {
        life.run(setup).map_err(|e| text(&e))?;
    }
    let before = life.streams();
    let Err(error) = life.run(&program.text) else {
        return Err(format!("{:?}: the program was accepted", program.language));
    };
    let shown = text(&error);
    let after = life.streams();
    life.stop(&home)?;
    let code = error.code.unwrap_or(error.state.0);
    if !code.starts_with(&refusal.code) && !error.state.0.starts_with(&refusal.code) {
        return Err(format!("code {} expected: {shown}", refusal.code));
    }
    if let Some((line, first, last)) = refusal.place {
        let Some(span) = error.span else { return Err(format!("no position: {shown}")) };
        let place = span.line_column(&program.text);
        if place.0 != line || !(first..=last).contains(&place.1) {
            return Err(format!("at {place:?}, not {line}:{first}-{last}: {shown}"));
        }
    }
    let lower = shown.to_lowercase();
    for word in &refusal.words {
        if !lower.contains(&word.to_lowercase()) {
            return Err(format!("\"{word}\" does not occur: {shown}"));
        }
    }
    if before != after {
        return Err(format!("it left something behind: {after:?}"));
    }
    Ok(())
}
