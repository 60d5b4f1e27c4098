//! The names a program declares, and the types they stand for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::ColumnType;
use auspex_plan::catalog::Column;
use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};

use super::problem::{Result, error, unknown, unsupported};
use crate::ast::{
    Binding, BindingKind, EventDecl, FnDecl, Ident, PatternDecl, Program, StatementKind,
    StreamDecl, TypeDecl, TypeExpr, TypeKind,
};
use crate::codes;

/// Everything a program declares, by name.
#[derive(Debug, Default)]
pub(super) struct Declarations<'a> {
    pub events: BTreeMap<&'a str, &'a EventDecl>,
    pub streams: BTreeMap<&'a str, &'a StreamDecl>,
    pub patterns: BTreeMap<&'a str, &'a PatternDecl>,
    pub variables: BTreeMap<&'a str, &'a Binding>,
    pub functions: BTreeMap<&'a str, &'a FnDecl>,
    pub types: BTreeMap<&'a str, &'a TypeDecl>,
    /// Streams in textual order.
    pub order: Vec<&'a StreamDecl>,
    /// Events in textual order.
    pub event_order: Vec<&'a EventDecl>,
    /// Functions that have been put in place of a call, and so checked (owned names keep the
    /// declarations covariant).
    pub called: RefCell<BTreeSet<String>>,
}

/// The names of VPL's own types.
const TYPES: [&str; 6] = ["int", "float", "bool", "str", "timestamp", "duration"];

impl<'a> Declarations<'a> {
    /// Collects the declarations of `program`; what is wrong with them goes to `problems`.
    pub(super) fn collect(
        program: &'a Program,
        text: &str,
        problems: &mut Vec<Diagnostic>,
    ) -> Declarations<'a> {
        let mut all = Declarations::default();
        // Relations share one namespace; variables, functions and types have their own.
        let mut relations: BTreeMap<&str, Span> = BTreeMap::new();
        let mut taken = |names: &mut BTreeMap<&'a str, Span>, kind: &str, name: &'a Ident| {
            if let Some(first) = names.get(name.name.as_str()) {
                let (line, _) = first.line_column(text);
                problems.push(*error(
                    SqlState::DUPLICATE_OBJECT,
                    codes::DUPLICATE_NAME,
                    name.span,
                    format!("{kind} `{}` is already declared on line {line}", name.name),
                ));
                return true;
            }
            names.insert(&name.name, name.span);
            false
        };
        let (mut variables, mut functions, mut types) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut refused = Vec::new();
        let mut warnings = Vec::new();
        let mut assigned = Vec::new();
        for statement in &program.statements {
            match &statement.kind {
                StatementKind::Event(e) if !taken(&mut relations, "event", &e.name) => {
                    all.events.insert(&e.name.name, e);
                    all.event_order.push(e);
                }
                StatementKind::Stream(s) if !taken(&mut relations, "stream", &s.name) => {
                    all.streams.insert(&s.name.name, s);
                    all.order.push(s);
                }
                StatementKind::Pattern(p) if !taken(&mut relations, "pattern", &p.name) => {
                    all.patterns.insert(&p.name.name, p);
                }
                StatementKind::Let(b) if !taken(&mut variables, "variable", &b.name) => {
                    all.variables.insert(&b.name.name, b);
                }
                StatementKind::Fn(f) if !taken(&mut functions, "function", &f.name) => {
                    all.functions.insert(&f.name.name, f);
                }
                StatementKind::Type(t) if !taken(&mut types, "type", &t.name) => {
                    all.types.insert(&t.name.name, t);
                }
                StatementKind::Assign(a) => assigned.push(&a.name),
                StatementKind::Connector(_) => {
                    refused.push(unsupported(statement.span, "a connector"));
                }
                StatementKind::Context(_) => {
                    refused.push(unsupported(statement.span, "a context"));
                }
                StatementKind::Import(_) => {
                    refused.push(unsupported(statement.span, "an import"));
                }
                StatementKind::Config(_) => warnings.push(
                    Diagnostic::warning("`config` is deprecated and has no effect")
                        .code(codes::DEPRECATED)
                        .hint("settings belong to the server's configuration file")
                        .at(statement.span),
                ),
                _ => {}
            }
        }
        problems.extend(refused.into_iter().map(|p| *p));
        problems.extend(warnings);
        for name in assigned {
            problems.push(*all.assignment(name));
        }
        all
    }

    /// Why this top-level variable cannot be assigned.
    pub(super) fn assignment(&self, name: &Ident) -> Box<Diagnostic> {
        match self.variables.get(name.name.as_str()) {
            Some(b) if b.kind == BindingKind::Var => {
                unsupported(name.span, "assigning a variable of the program")
            }
            Some(b) => {
                let word = if b.kind == BindingKind::Let { "let" } else { "const" };
                super::problem::hint(
                    error(
                        SqlState::INVALID_OBJECT_DEFINITION,
                        codes::IMMUTABLE,
                        name.span,
                        format!("`{}` is declared with `{word}` and cannot be assigned", name.name),
                    ),
                    format!("declare it with `var {} = ..`", name.name),
                )
            }
            None => unknown(
                SqlState::UNDEFINED_OBJECT,
                codes::UNKNOWN_FIELD,
                "variable",
                name,
                self.variables.keys().copied(),
            ),
        }
    }

    /// The type that `ty` names; `nullable` of nested types has no meaning, items may be null.
    pub(super) fn column_type(&self, ty: &TypeExpr) -> Result<ColumnType> {
        self.resolve_type(ty, 0)
    }

    fn resolve_type(&self, ty: &TypeExpr, depth: usize) -> Result<ColumnType> {
        match &ty.kind {
            TypeKind::Named(name) => Ok(match name.as_str() {
                "int" => ColumnType::BigInt,
                "float" => ColumnType::Double,
                "bool" => ColumnType::Boolean,
                "str" => ColumnType::Text,
                "timestamp" => ColumnType::Timestamptz,
                "duration" => ColumnType::Interval,
                other => {
                    let Some(declared) = self.types.get(other) else {
                        let name = Ident { name: other.to_string(), span: ty.span };
                        return Err(unknown(
                            SqlState::UNDEFINED_OBJECT,
                            codes::UNKNOWN_TYPE,
                            "type",
                            &name,
                            TYPES.into_iter().chain(self.types.keys().copied()),
                        ));
                    };
                    if depth > self.types.len() {
                        return Err(error(
                            SqlState::INVALID_OBJECT_DEFINITION,
                            codes::RECURSION,
                            declared.name.span,
                            format!("type `{other}` is defined by itself"),
                        ));
                    }
                    self.resolve_type(&declared.ty, depth + 1)?
                }
            }),
            TypeKind::Array(item) => {
                Ok(ColumnType::Array(Box::new(self.resolve_type(item, depth)?)))
            }
            TypeKind::Map(key, value) => {
                let key = self.resolve_type(key, depth)?;
                let value = self.resolve_type(value, depth)?;
                Ok(ColumnType::Map(Box::new(key), Box::new(value)))
            }
            TypeKind::Tuple(_) => Err(unsupported(ty.span, "a tuple type")),
            TypeKind::Stream(_) => Err(unsupported(ty.span, "a stream type at this place")),
        }
    }

    /// Columns of an event: those of the event it extends first.
    pub(super) fn event_columns(&self, event: &EventDecl) -> Result<Vec<Column>> {
        self.columns_of(event, 0)
    }

    fn columns_of(&self, event: &EventDecl, depth: usize) -> Result<Vec<Column>> {
        let mut columns = match &event.extends {
            None => Vec::new(),
            Some(base) => match self.events.get(base.name.as_str()) {
                Some(_) if depth > self.events.len() => {
                    return Err(error(
                        SqlState::INVALID_OBJECT_DEFINITION,
                        codes::RECURSION,
                        base.span,
                        format!("event `{}` extends itself", event.name.name),
                    ));
                }
                Some(found) => self.columns_of(found, depth + 1)?,
                None => {
                    let known = self.events.keys().copied();
                    let state = SqlState::UNDEFINED_TABLE;
                    return Err(unknown(state, codes::UNKNOWN_RELATION, "event", base, known));
                }
            },
        };
        for field in &event.fields {
            let name = &field.name.name;
            if columns.iter().any(|c: &Column| c.name == *name) {
                return Err(error(
                    SqlState::DUPLICATE_COLUMN,
                    codes::DUPLICATE_NAME,
                    field.name.span,
                    format!("event `{}` has two fields `{name}`", event.name.name),
                ));
            }
            if auspex_plan::relation::SYSTEM_COLUMNS.contains(&name.as_str()) {
                return Err(error(
                    SqlState::DUPLICATE_COLUMN,
                    codes::DUPLICATE_NAME,
                    field.name.span,
                    format!("`{name}` is a column that every stream has"),
                ));
            }
            let mut column = Column::new(name.clone(), self.column_type(&field.ty)?);
            column.not_null = !field.ty.nullable;
            columns.push(column);
        }
        Ok(columns)
    }
}
