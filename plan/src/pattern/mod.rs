//! Patterns over rows of one or more streams (`semantics.md` section 5): what is searched, in the
//! terms that both languages bind to.
//!
//! A pattern denotes *words*: lists of steps. A match is a word with a row for each of its steps,
//! in rising order, such that each step's condition holds on its row given the rows before it, and
//! the strategy, the negations and the time limit hold for what lies between and around them.
//! [`Automaton`] is the same as states and transitions.
//!
//! A condition is an expression over the columns of the candidate row (those of the step's input)
//! and over *accessors*: values of rows that the match has bound before, as columns of the relation
//! [`MATCH`].

mod automaton;

pub use automaton::{Automaton, Misshapen, State, Transition};

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::Expr;

use crate::time::duration;

/// The relation whose columns are accessors.
pub const MATCH: &str = "(match)";

/// Matches that one row may complete, when nothing else is said.
pub const MAX_MATCHES: u64 = 10_000;

/// What is searched, and which of the matches are reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The algebra over the tests below.
    pub root: Part,
    /// Steps in the order they were written; [`Part::Step`] is a position here.
    pub steps: Vec<Step>,
    /// What must not come; [`Part::Not`] is a position here.
    pub nots: Vec<Not>,
    /// Negations that hold between any two rows of a match.
    pub never: Vec<usize>,
    /// What ends repetitions.
    pub untils: Vec<Test>,
    /// Values of bound rows that conditions use, each once.
    pub accessors: Vec<Accessor>,
    /// Which rows may lie between two steps.
    pub strategy: Strategy,
    /// Which matches exclude which.
    pub after: AfterMatch,
    /// Report every prefix of a final repetition, instead of the longest match when it has ended.
    pub emit_each: bool,
    /// Greatest distance of the last row from the first, microseconds.
    pub within_us: Option<i64>,
    /// Greatest distance of the last row from the first, in rows of the partition.
    pub within_rows: Option<u64>,
    /// Matches that one row may complete; more are left out and reported.
    pub max_matches: u64,
}

/// The algebra.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// One row.
    Step(usize),
    /// One after the other.
    Seq(Vec<Part>),
    /// One of them.
    Or(Vec<Part>),
    /// All of them in any order, rows of one between rows of another.
    And(Vec<Part>),
    /// Again and again.
    Repeat {
        /// What is repeated.
        body: Box<Part>,
        /// At least so often.
        min: u32,
        /// At most so often.
        max: Option<u32>,
        /// The rows of the repetition and those between them are none of these.
        until: Option<usize>,
    },
    /// No such row between the row before and the next one; at the end of the pattern: none until
    /// a deadline (absence); at its beginning: none before.
    Not(usize),
}

/// A row that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Its variable.
    pub name: String,
    /// Which rows fit.
    pub test: Test,
}

/// A row that must not come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Not {
    /// Which rows are meant.
    pub test: Test,
    /// Only so long (microseconds, inclusive) after the row before it.
    pub within_us: Option<i64>,
}

/// Rows of an input on which conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Test {
    /// Position of the input.
    pub input: usize,
    /// All of them must be true.
    pub conjuncts: Vec<Conjunct>,
}

/// A part of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conjunct {
    /// Over the input's columns and accessors.
    pub condition: Expr,
    /// Not applied to the first row of its step: it compares with the one before.
    pub not_first: bool,
}

/// A value of the rows bound to a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Accessor {
    /// Position of the step.
    pub step: usize,
    /// Which value.
    pub get: Get,
    /// What is taken of each row, over the columns of the step's input; `None` to count.
    pub of: Option<Expr>,
    /// Type of the value.
    pub data_type: DataType,
    /// As the user would write it; unique for its meaning.
    pub name: String,
}

impl Accessor {
    /// The accessor as a part of an expression.
    pub fn column(&self) -> Column {
        Column::new(Some(TableReference::bare(MATCH)), self.name.clone())
    }
}

/// Which value of the rows of a step. Without a row `Count` is 0, `Collect` empty, all others null.
/// Nulls are left out by the aggregates, not by the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Get {
    /// Of the row at a position from the front (0 is the first) or, negative, from the end (-1 is
    /// the last).
    At(i64),
    /// Number of rows.
    Count,
    /// Sum.
    Sum,
    /// Average.
    Avg,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// All, as an array.
    Collect,
}

/// Which rows may lie between two consecutive rows of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// None: they are neighbours in their partition.
    Strict,
    /// Those that cannot extend the match in any way. A row that can must be taken, by the step
    /// that is most preferred: what leaves a repetition goes before what stays in it.
    Next,
    /// Those that do not fit the step that is taken.
    Relaxed,
    /// Any.
    Any,
}

/// Which matches exclude which, in the order of their first rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AfterMatch {
    /// None.
    NoSkip,
    /// Others with the same first row.
    ToNext,
    /// Those that begin before the end of the last one.
    PastLast,
    /// Those that begin before its first row of a step.
    ToFirst(usize),
    /// Those that begin before its last row of a step.
    ToLast(usize),
}

/// A value of a match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Of its rows.
    Accessor(Accessor),
    /// Event time of its first row.
    Start,
    /// Event time of its last row; of an absence the deadline.
    End,
    /// Partition key at a position.
    Key(usize),
}

impl Pattern {
    /// How far (microseconds) the output's watermark lags behind the inputs': a match may have to
    /// wait until it is known that it is the longest one, or that no earlier one excludes it.
    pub fn hold_us(&self) -> i64 {
        let Some(within) = self.within_us else { return 0 };
        let waits = self.after != AfterMatch::NoSkip || self.reports_longest();
        if !waits {
            return 0;
        }
        let absence = self.nots.iter().filter_map(|not| not.within_us).max().unwrap_or(0);
        within.saturating_add(absence)
    }

    /// Whether a match that could still grow waits for that.
    pub fn reports_longest(&self) -> bool {
        !self.emit_each && matches!(self.strategy, Strategy::Strict | Strategy::Next)
    }

    /// The conditions, over columns of an input and accessors.
    pub fn tests(&self) -> impl Iterator<Item = &Test> {
        let steps = self.steps.iter().map(|step| &step.test);
        steps.chain(self.nots.iter().map(|not| &not.test)).chain(&self.untils)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.part(&self.root))?;
        match self.strategy {
            Strategy::Strict => f.write_str(", strict")?,
            Strategy::Next => f.write_str(", next")?,
            Strategy::Relaxed => f.write_str(", relaxed")?,
            Strategy::Any => f.write_str(", any")?,
        }
        if let Some(us) = self.within_us {
            write!(f, ", within {}", duration(us))?;
        }
        if let Some(rows) = self.within_rows {
            write!(f, ", within {rows} rows")?;
        }
        match self.after {
            AfterMatch::NoSkip => {}
            AfterMatch::ToNext => f.write_str(", then to next row")?,
            AfterMatch::PastLast => f.write_str(", then past last row")?,
            AfterMatch::ToFirst(step) => write!(f, ", then to first {}", self.steps[step].name)?,
            AfterMatch::ToLast(step) => write!(f, ", then to last {}", self.steps[step].name)?,
        }
        if self.emit_each {
            f.write_str(", each prefix")?;
        }
        for not in &self.never {
            write!(f, ", {}", self.part(&Part::Not(*not)))?;
        }
        Ok(())
    }
}

impl Pattern {
    fn part(&self, part: &Part) -> String {
        let several = |parts: &[Part], between: &str| {
            let parts: Vec<String> = parts.iter().map(|part| self.part(part)).collect();
            format!("({})", parts.join(between))
        };
        match part {
            Part::Step(step) => {
                let step = &self.steps[*step];
                format!("{}{}", step.name, conditions(&step.test))
            }
            Part::Seq(parts) => several(parts, " -> "),
            Part::Or(parts) => several(parts, " or "),
            Part::And(parts) => several(parts, " and "),
            Part::Repeat { body, min, max, until } => {
                let body = self.part(body);
                let max = max.map(|max| max.to_string()).unwrap_or_default();
                let until = until.map(|until| conditions(&self.untils[until]));
                let until = until.map(|c| format!(" until{c}")).unwrap_or_default();
                format!("{body}{{{min},{max}}}{until}")
            }
            Part::Not(not) => {
                let not = &self.nots[*not];
                let within = not.within_us.map(|us| format!(" within {}", duration(us)));
                format!("not{}{}", conditions(&not.test), within.unwrap_or_default())
            }
        }
    }
}

/// The conditions of a test in brackets, with the number of its input.
fn conditions(test: &Test) -> String {
    let all: Vec<String> = test.conjuncts.iter().map(|c| c.condition.to_string()).collect();
    match all.len() {
        0 => format!("[{}]", test.input),
        _ => format!("[{}: {}]", test.input, all.join(" AND ")),
    }
}
