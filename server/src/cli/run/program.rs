//! The program of a run: read, checked, loaded.

use std::collections::BTreeMap;
use std::path::Path;

use auspex_connect::survey::Survey;
use auspex_plan::catalog::{Catalog, Column, DEFAULT_SCHEMA};
use auspex_plan::diagnostic::{Diagnostic, Severity};
use auspex_sql::statement::StatementKind;
use auspex_vpl::ast;
use auspex_vpl::bind::{BindContext, BoundProgram};

use super::Failure;
use crate::cli::report;
use crate::embedded::Embedded;

/// A program's text.
pub(super) struct Program {
    name: String,
    text: String,
    language: Language,
}

enum Language {
    Vpl(ast::Program),
    Sql(Vec<auspex_sql::statement::Statement>),
}

impl Program {
    /// Reads a program; errors of syntax are reported at once.
    pub(super) fn read(path: &Path) -> Result<Program, Failure> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::Other(format!("cannot read {name}: {e}")))?;
        let shown = |all: &[Diagnostic]| {
            Failure::Program(all.iter().map(|d| report::render(d, &text, &name)).collect())
        };
        let language = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("sql")) {
            let statements = auspex_sql::parse(&text).map_err(|e| shown(&[e]))?;
            Language::Sql(statements)
        } else {
            let parsed = auspex_vpl::parse(&text);
            if parsed.has_errors() {
                return Err(shown(&parsed.diagnostics));
            }
            Language::Vpl(parsed.program)
        };
        Ok(Program { name, text, language })
    }

    /// The event types that the program declares, or uses without declaring them.
    pub(super) fn event_types(&self) -> Vec<String> {
        match &self.language {
            Language::Vpl(program) => {
                let mut types: Vec<String> = program
                    .statements
                    .iter()
                    .filter_map(|s| match &s.kind {
                        ast::StatementKind::Event(event) => Some(event.name.name.clone()),
                        _ => None,
                    })
                    .collect();
                // What is used and not declared is what binding does not find.
                let unknown = bind(program, &self.text, &BTreeMap::new()).err().unwrap_or_default();
                for diagnostic in unknown {
                    if diagnostic.code != Some(auspex_vpl::codes::UNKNOWN_RELATION) {
                        continue;
                    }
                    let word = diagnostic.span.and_then(|s| self.text.get(s.start..s.end));
                    types.extend(word.map(str::to_owned));
                }
                types.dedup();
                types
            }
            Language::Sql(statements) => statements
                .iter()
                .filter_map(|s| match &s.kind {
                    StatementKind::CreateStream(create) => Some(create.name.name.value.clone()),
                    _ => None,
                })
                .collect(),
        }
    }

    /// Creates the program's streams; returns the names of its derived streams in textual order.
    pub(super) fn load(
        &self,
        embedded: &mut Embedded,
        survey: &Survey,
    ) -> Result<Vec<String>, Failure> {
        let order = match &self.language {
            Language::Vpl(program) => self.load_vpl(program, embedded, survey)?,
            Language::Sql(statements) => self.load_sql(statements, embedded, survey)?,
        };
        for warning in embedded.take_notices() {
            eprint!("{}", self.render(&warning));
        }
        Ok(order)
    }

    fn load_vpl(
        &self,
        program: &ast::Program,
        embedded: &mut Embedded,
        survey: &Survey,
    ) -> Result<Vec<String>, Failure> {
        let infer = survey.all_columns();
        let bound = bind(program, &self.text, &infer).map_err(|errors| {
            // A type that is in the file without clear columns: say which field is the reason.
            let unclear = errors
                .iter()
                .filter(|e| e.code == Some(auspex_vpl::codes::UNKNOWN_RELATION))
                .filter_map(|e| e.span.and_then(|s| self.text.get(s.start..s.end)))
                .find_map(|word| survey.columns(word)?.err());
            match unclear {
                Some(error) => Failure::Input(error),
                None => Failure::Program(errors.iter().map(|e| self.render(e)).collect()),
            }
        })?;
        let mut derived: Vec<_> = bound.items.iter().filter(|i| i.query.is_some()).collect();
        derived.sort_by_key(|i| i.span.start);
        let order = derived.iter().map(|i| i.name.clone()).collect();
        embedded.load_vpl(&self.text, &infer).map_err(|e| self.failure(&e))?;
        Ok(order)
    }

    fn load_sql(
        &self,
        statements: &[auspex_sql::statement::Statement],
        embedded: &mut Embedded,
        survey: &Survey,
    ) -> Result<Vec<String>, Failure> {
        let mut made = Vec::new();
        for statement in statements {
            match &statement.kind {
                StatementKind::CreateStream(create) => made.push(&create.name.name.value),
                StatementKind::CreateStreamAs(create) => made.push(&create.name.name.value),
                StatementKind::CreateTable(_)
                | StatementKind::Insert(_)
                | StatementKind::Set(_) => {}
                _ => {
                    let error = Diagnostic::unsupported(
                        "a program of `auspex run` consists of CREATE and INSERT statements",
                    )
                    .at(statement.span)
                    .hint("its output are the rows of all its derived streams");
                    return Err(self.failure(&error));
                }
            }
        }
        for (event_type, _) in survey.counts() {
            if made.iter().any(|name| name.eq_ignore_ascii_case(event_type)) {
                continue;
            }
            let columns = survey.columns(event_type).transpose()?.unwrap_or_default();
            embedded.run(&create_stream(event_type, &columns))?;
        }
        embedded.run(&self.text).map_err(|e| self.failure(&e))?;
        Ok(embedded.derived().into_iter().map(|o| o.name.name).collect())
    }

    fn render(&self, diagnostic: &Diagnostic) -> String {
        report::render(diagnostic, &self.text, &self.name)
    }

    fn failure(&self, diagnostic: &Diagnostic) -> Failure {
        Failure::Program(self.render(diagnostic))
    }
}

/// A statement that makes a stream of these columns.
fn create_stream(name: &str, columns: &[Column]) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> =
        columns.iter().map(|c| format!("{} {}", quoted(&c.name), c.column_type)).collect();
    format!("CREATE STREAM {} ({})", quoted(name), columns.join(", "))
}

/// Binds a program by itself. Errors only when there are any.
fn bind(
    program: &ast::Program,
    text: &str,
    infer: &BTreeMap<String, Vec<Column>>,
) -> Result<BoundProgram, Vec<Diagnostic>> {
    let catalog = Catalog::new();
    let context = BindContext {
        catalog: &catalog,
        schema: DEFAULT_SCHEMA,
        next_id: catalog.next_id(),
        infer: Some(infer),
    };
    auspex_vpl::bind::bind(program, text, &context).map_err(|mut all| {
        all.retain(|d| d.severity == Severity::Error);
        all
    })
}
