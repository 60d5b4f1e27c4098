//! What the names behind `=` of a stream mean: streams of the program and of the catalog.

use std::collections::BTreeMap;

use auspex_plan::Clock;
use auspex_plan::catalog::{Catalog, Column, DEFAULT_SCHEMA, Object, ObjectId, arrow_schema};
use auspex_plan::diagnostic::SqlState;
use auspex_plan::relation::StreamRelation;

use super::problem::{Result, error, unknown, unsupported};
use crate::ast::Ident;
use crate::codes;

/// A stream that can be read.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub id: ObjectId,
    pub name: String,
    pub columns: Vec<Column>,
    pub clocks: Vec<Clock>,
    /// Positions of the key's columns of a table or materialized view.
    pub key: Option<Vec<usize>>,
}

impl Relation {
    /// The leaf of a plan; with the system columns when they are needed. Of a table or view these
    /// are its changes.
    pub(super) fn source(&self, system: bool) -> StreamRelation {
        let schema = arrow_schema(&self.columns);
        if self.key.is_some() {
            return StreamRelation::changes(self.id, self.name.clone(), &schema);
        }
        StreamRelation::new(self.id, self.name.clone(), &schema, self.clocks.clone(), system)
    }

    /// The stream, table or view, when the object is one.
    pub(super) fn of(object: &Object) -> Option<Relation> {
        let key = object.key().map(<[usize]>::to_vec);
        if key.is_none() && object.stream().is_none() {
            return None;
        }
        Some(Relation {
            id: object.id,
            name: object.name.name.clone(),
            columns: object.columns().to_vec(),
            clocks: object.clocks(),
            key,
        })
    }
}

/// Finds relations by name.
pub(super) struct Relations<'a> {
    pub catalog: &'a Catalog,
    /// Where names are looked for before the default schema.
    pub schema: &'a str,
    /// Streams of the program bound so far, by name.
    pub bound: BTreeMap<String, Relation>,
    /// At server start: what the names meant when the query was created. Nothing else counts.
    pub bindings: Option<&'a BTreeMap<String, ObjectId>>,
    /// Names that the program declares, for suggestions and better errors.
    pub declared: Vec<&'a str>,
    /// Named patterns of the program.
    pub patterns: Vec<&'a str>,
}

impl Relations<'_> {
    /// The stream called `name`.
    pub(super) fn find(&self, name: &Ident) -> Result<Relation> {
        let found = self.find_any(name)?;
        if found.key.is_none() {
            return Ok(found);
        }
        let problem =
            unsupported(name.span, format!("reading the table `{}` in a stream", name.name));
        let example = "look its rows up for those of a stream: `join(stream, table).on(..)`";
        Err(super::problem::hint(problem, example))
    }

    /// The stream, table or view called `name`.
    pub(super) fn find_any(&self, name: &Ident) -> Result<Relation> {
        if let Some(bindings) = self.bindings {
            let object = bindings.get(&name.name).and_then(|id| self.catalog.get(*id));
            return object.and_then(Relation::of).ok_or_else(|| self.unknown(name));
        }
        if let Some(found) = self.bound.get(&name.name) {
            return Ok(found.clone());
        }
        if self.patterns.contains(&name.name.as_str()) {
            return Err(unsupported(name.span, "a stream of a named pattern"));
        }
        let object = self
            .catalog
            .resolve(self.schema, &name.name)
            .or_else(|| self.catalog.resolve(DEFAULT_SCHEMA, &name.name));
        match object {
            None => Err(self.unknown(name)),
            Some(o) => Relation::of(o).ok_or_else(|| {
                let message = format!("`{}` is a {}, not a stream", name.name, o.kind_name());
                let state = SqlState::WRONG_OBJECT_TYPE;
                error(state, codes::UNKNOWN_RELATION, name.span, message)
            }),
        }
    }

    fn unknown(&self, name: &Ident) -> Box<auspex_plan::Diagnostic> {
        let known = self.declared.iter().copied().chain(
            [self.schema, DEFAULT_SCHEMA]
                .into_iter()
                .flat_map(|s| self.catalog.in_schema(s))
                .filter(|o| o.stream().is_some())
                .map(|o| o.name.name.as_str()),
        );
        let (state, code) = (SqlState::UNDEFINED_TABLE, codes::UNKNOWN_RELATION);
        let mut diagnostic = unknown(state, code, "event type or stream", name, known);
        let declare = format!("`event {}:` followed by its fields, `name: type`", name.name);
        diagnostic.hint = Some(match diagnostic.hint.take() {
            Some(near) => format!("{near} Otherwise declare it: {declare}"),
            None => format!("declare it: {declare}"),
        });
        diagnostic
    }
}
