//! AST to plan.
//!
//! [`bind`] takes a program as a whole: [`declarations`] collects its names, [`order`] sorts its
//! streams, [`chain`] binds each of them, source ([`source`], [`joins`]) and operations
//! ([`operations`], [`windows`], [`aggregates`], [`aggregate_functions`]),
//! with the expressions in them ([`expression`], [`container`], [`matching`], [`operators`], [`calls`],
//! [`builtins`], [`lambda`], [`inline`]). [`rebind`] makes one stream's plan again from its stored definition.
//!
//! Types are checked here, in the words of VPL; DataFusion is given expressions whose types fit.
//! What the language has and the engine does not do yet is refused with SQLSTATE 0A000.

mod aggregate_functions;
mod aggregates;
mod builtins;
mod builtins_text;
mod calls;
mod chain;
mod container;
mod declarations;
mod enrich;
mod expression;
mod inline;
mod joins;
mod lambda;
mod looping;
mod matching;
mod operations;
mod operators;
mod order;
mod pattern;
mod problem;
mod relations;
mod row;
mod source;
mod value;
mod walk;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::Clock;
use auspex_plan::catalog::{
    Catalog, Column, DEFAULT_SCHEMA, Definition, Language, Object, ObjectId, ObjectKind,
    ObjectName, Retention, Stream,
};
use auspex_plan::diagnostic::{Diagnostic, Severity, Span, SqlState};
use auspex_plan::query::{ContinuousQuery, EventTime};

use self::declarations::Declarations;
use self::expression::Binder;
use self::relations::{Relation, Relations};
use crate::ast::{Ident, Program};
use crate::codes;

/// What a program is bound against.
#[derive(Debug, Clone, Copy)]
pub struct BindContext<'a> {
    /// Objects that exist.
    pub catalog: &'a Catalog,
    /// Schema of the new streams; unknown names are looked for there and then in `public`.
    pub schema: &'a str,
    /// Id of the first new stream; the others follow.
    pub next_id: ObjectId,
    /// Columns of event types that are used but not declared, inferred from input files.
    pub infer: Option<&'a BTreeMap<String, Vec<Column>>>,
}

/// A bound program.
#[derive(Debug, Clone)]
pub struct BoundProgram {
    /// Events and streams, each after those it reads.
    pub items: Vec<BoundItem>,
    /// What the user should know although the program is accepted.
    pub warnings: Vec<Diagnostic>,
}

/// An event or stream of a program, as the catalog will hold it.
#[derive(Debug, Clone)]
pub struct BoundItem {
    /// Its number.
    pub id: ObjectId,
    /// Its name.
    pub name: String,
    /// Where the program declares (or, for an inferred event type, uses) it.
    pub span: Span,
    /// Columns, event time and definition; the definition has no start offsets yet.
    pub stream: Stream,
    /// The query of a derived stream; `None` for an event.
    pub query: Option<ContinuousQuery>,
}

/// Binds a whole program, or says everything that is wrong with it, in textual order.
///
/// `text` is the program's text; it goes into the definitions of the streams.
pub fn bind(
    program: &Program,
    text: &str,
    context: &BindContext<'_>,
) -> Result<BoundProgram, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let declarations = Declarations::collect(program, text, &mut problems);
    let mut failed = BTreeSet::new();
    let streams = order::sorted(&declarations, &mut problems, &mut failed);
    let mut items = Vec::new();
    let mut next_id = context.next_id;
    let mut relations = Relations {
        catalog: context.catalog,
        schema: context.schema,
        bound: BTreeMap::new(),
        bindings: None,
        declared: declarations.events.keys().chain(declarations.streams.keys()).copied().collect(),
        patterns: declarations.patterns.keys().copied().collect(),
    };
    let mut add = |relations: &mut Relations<'_>, name: &Ident, stream: Stream, query| {
        let id = next_id;
        next_id += 1;
        let object = Object {
            id,
            name: ObjectName::new(DEFAULT_SCHEMA, name.name.clone()),
            created_us: 0,
            kind: ObjectKind::Stream(stream.clone()),
        };
        relations.bound.extend(Relation::of(&object).map(|r| (name.name.clone(), r)));
        items.push(BoundItem { id, name: name.name.clone(), span: name.span, stream, query });
    };
    for event in &declarations.event_order {
        match declarations.event_columns(event) {
            Ok(columns) => add(&mut relations, &event.name, source_stream(columns), None),
            Err(problem) => {
                problems.push(*problem);
                failed.insert(&event.name.name);
            }
        }
    }
    for (name, columns) in inferred(&declarations, context) {
        add(&mut relations, &name, source_stream(columns), None);
    }
    for decl in streams {
        if order::reads(&declarations, decl).iter().any(|n| failed.contains(n.name.as_str()))
            || failed.contains(decl.name.name.as_str())
        {
            failed.insert(&decl.name.name);
            continue;
        }
        match chain::bind(&declarations, &relations, decl) {
            Ok(bound) => {
                let definition = Definition {
                    language: Language::Vpl,
                    text: text.to_string(),
                    item: Some(decl.name.name.clone()),
                    bindings: bound.bindings,
                    start: BTreeMap::new(),
                    on_error: bound.query.on_error,
                    paused: false,
                    generation: 0,
                    sink: None,
                    max_state_bytes: None,
                };
                let (event_time, clocks) = bound.query.event_time();
                let stream = Stream {
                    columns: bound.columns,
                    event_time,
                    clocks,
                    idle_timeout_us: Clock::IDLE_TIMEOUT_US,
                    checks: Vec::new(),
                    retention: Retention::default(),
                    definition: Some(definition),
                };
                add(&mut relations, &decl.name, stream, Some(bound.query));
            }
            Err(found) => {
                problems.extend(found);
                failed.insert(&decl.name.name);
            }
        }
    }
    check_unused(&declarations, &mut problems);
    problems.sort_by_key(|p| p.span.map_or(usize::MAX, |s| s.start));
    problems.dedup();
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|p| p.severity == Severity::Error);
    if errors.is_empty() { Ok(BoundProgram { items, warnings }) } else { Err(errors) }
}

/// The plan of the stream `item` of the program `text`, as it was bound when it was created:
/// `bindings` say what its input names meant.
pub fn rebind(
    text: &str,
    item: &str,
    bindings: &BTreeMap<String, ObjectId>,
    catalog: &Catalog,
) -> Result<ContinuousQuery, Vec<Diagnostic>> {
    let parsed = crate::parse(text);
    if parsed.has_errors() {
        return Err(parsed.diagnostics);
    }
    // What is wrong elsewhere in the program does not matter: it was accepted once.
    let declarations = Declarations::collect(&parsed.program, text, &mut Vec::new());
    let Some(decl) = declarations.streams.get(item) else {
        let message = format!("the definition has no stream `{item}`");
        return Err(vec![Diagnostic::error(SqlState::INVALID_OBJECT_DEFINITION, message)]);
    };
    let relations = Relations {
        catalog,
        schema: DEFAULT_SCHEMA,
        bound: BTreeMap::new(),
        bindings: Some(bindings),
        declared: Vec::new(),
        patterns: Vec::new(),
    };
    chain::bind(&declarations, &relations, decl).map(|bound| bound.query)
}

fn source_stream(columns: Vec<Column>) -> Stream {
    Stream {
        columns,
        event_time: EventTime::Arrival,
        clocks: Vec::new(),
        idle_timeout_us: Clock::IDLE_TIMEOUT_US,
        checks: Vec::new(),
        retention: Retention::default(),
        definition: None,
    }
}

/// Event types that streams use, nobody declares, and whose columns an input file shows.
fn inferred(
    declarations: &Declarations<'_>,
    context: &BindContext<'_>,
) -> Vec<(Ident, Vec<Column>)> {
    let Some(known) = context.infer else { return Vec::new() };
    let mut found: Vec<(Ident, Vec<Column>)> = Vec::new();
    for name in declarations.order.iter().flat_map(|s| order::reads(declarations, s)) {
        let word = name.name.as_str();
        let declared = declarations.events.contains_key(word)
            || declarations.streams.contains_key(word)
            || declarations.patterns.contains_key(word);
        if declared || found.iter().any(|(n, _)| n.name == word) {
            continue;
        }
        if let Some(columns) = known.get(word) {
            found.push((name.clone(), columns.clone()));
        }
    }
    found
}

/// Variables are checked by themselves, and functions that nobody calls.
fn check_unused(declarations: &Declarations<'_>, problems: &mut Vec<Diagnostic>) {
    for variable in declarations.variables.values() {
        let mut binder = Binder::new(declarations, None);
        binder.open.push(&variable.name.name);
        let bound = binder.bind(&variable.value).and_then(|value| match &variable.ty {
            None => Ok(()),
            Some(ty) => {
                let to = declarations.column_type(ty)?;
                let what = format!("`{}`", variable.name.name);
                value::coerce(value, &to, variable.value.span, &what).map(|_| ())
            }
        });
        problems.extend(bound.err().map(|p| *p));
    }
    for function in declarations.functions.values() {
        if declarations.called.borrow().contains(function.name.name.as_str()) {
            continue;
        }
        let mut binder = Binder::new(declarations, None);
        let Err(problem) = inline::check(&mut binder, function) else { continue };
        // Without a row its fields are unknown: only calls can tell.
        if problem.code != Some(codes::UNKNOWN_FIELD) {
            problems.push(*problem);
        }
    }
    for ty in declarations.types.values() {
        problems.extend(declarations.column_type(&ty.ty).err().map(|p| *p));
    }
}
