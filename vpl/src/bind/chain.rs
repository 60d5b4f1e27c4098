//! One stream: its source and its chain of operations, as a plan that grows operation by
//! operation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::catalog::{Column, ObjectId};
use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::query::{ContinuousQuery, OnError};
use datafusion::logical_expr::{
    Expr as PlanExpr, Extension, Filter, LogicalPlan, Projection, UserDefinedLogicalNode,
};

use super::declarations::Declarations;
use super::expression::Binder;
use super::problem::{Result, error, internal};
use super::relations::Relations;
use super::row::Row;
use super::value::{Value, coerce};
use super::{operations, pattern, source};
use crate::ast::{Expr, Op, SourceKind, StreamDecl, TypeExpr, TypeKind};
use crate::codes;

/// A bound stream.
pub(super) struct BoundStream {
    pub query: ContinuousQuery,
    pub columns: Vec<Column>,
    /// Names of the inputs as written and what they are.
    pub bindings: BTreeMap<String, ObjectId>,
}

/// Key of `.partition_by`: a column of the output.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub name: String,
    pub value: Value,
}

/// A chain under construction.
pub(super) struct Chain<'a> {
    pub program: &'a Declarations<'a>,
    pub plan: LogicalPlan,
    /// The current row.
    pub row: Row,
    pub bindings: BTreeMap<String, ObjectId>,
    pub keys: Vec<Key>,
    pub on_error: OnError,
    /// Whether `.watermark` was said.
    pub watermark: bool,
    /// Whether a projection was written.
    pub projected: bool,
    pub problems: Vec<Diagnostic>,
}

/// Binds a stream; all its problems when it has any.
pub(super) fn bind<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    decl: &'a StreamDecl,
) -> std::result::Result<BoundStream, Vec<Diagnostic>> {
    if let SourceKind::Pattern(p) = &decl.source.kind {
        return Err(pattern::refuse(program, relations, decl, p));
    }
    if let Some(problem) = operations::refuse_early(decl) {
        return Err(vec![*problem]);
    }
    match attempt(program, relations, decl, false)? {
        Attempt::Bound(bound) => Ok(*bound),
        // A system column is used: the scans have to carry them.
        Attempt::SystemWanted => match attempt(program, relations, decl, true)? {
            Attempt::Bound(bound) => Ok(*bound),
            Attempt::SystemWanted => Err(vec![*error(
                SqlState::UNDEFINED_COLUMN,
                codes::UNKNOWN_FIELD,
                decl.name.span,
                "the columns `_offset`, `_time` and `_ingested` are gone after `.emit` and `.select`",
            )]),
        },
    }
}

enum Attempt {
    Bound(Box<BoundStream>),
    SystemWanted,
}

fn attempt<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    decl: &'a StreamDecl,
    system: bool,
) -> std::result::Result<Attempt, Vec<Diagnostic>> {
    let mut chain = source::bind(program, relations, &decl.source, system)?;
    for op in &decl.ops {
        let before = chain.problems.len();
        if let Err(problem) = operations::apply(&mut chain, op) {
            chain.problems.push(*problem);
        }
        if chain.row.system_wanted.get() {
            return Ok(Attempt::SystemWanted);
        }
        // What the operation would have made is unknown, so nothing behind it can be checked.
        if chain.problems.len() > before {
            return Err(chain.problems);
        }
    }
    let wanted = chain.row.system_wanted.get();
    match chain.finish(decl) {
        _ if wanted => Ok(Attempt::SystemWanted),
        Ok(bound) => Ok(Attempt::Bound(Box::new(bound))),
        Err(problem) => Err(vec![*problem]),
    }
}

impl<'a> Chain<'a> {
    /// Binds an expression over the current row.
    pub(super) fn value(&self, expr: &Expr) -> Result<Value> {
        Binder::new(self.program, Some(&self.row)).bind(expr)
    }

    /// Replaces the plan; the row follows.
    pub(super) fn set_plan(&mut self, plan: LogicalPlan) {
        let wanted = self.row.system_wanted.get();
        self.row = Row::of(&plan, std::mem::take(&mut self.row.aliases));
        self.row.system_wanted.set(wanted);
        self.plan = plan;
    }

    /// `expr` as part of the plan.
    pub(super) fn planned(&self, expr: PlanExpr, span: Span) -> Result<PlanExpr> {
        let resolved = expr.resolve_lambda_variables(&self.row.schema);
        resolved.map(|t| t.data).map_err(|e| internal(span, &e))
    }

    /// Keeps the rows on which `condition` is true.
    pub(super) fn filter(&mut self, condition: &'a Expr, what: &str) -> Result<()> {
        let mut binder = Binder::new(self.program, Some(&self.row));
        let value = binder.condition(condition, what)?;
        let predicate = self.planned(value.expr, condition.span)?;
        let filter = Filter::try_new(predicate, Arc::new(self.plan.clone()))
            .map_err(|e| internal(condition.span, &e))?;
        self.set_plan(LogicalPlan::Filter(filter));
        Ok(())
    }

    /// Puts one of our nodes on top.
    pub(super) fn extend(&mut self, node: impl UserDefinedLogicalNode + 'static) {
        self.set_plan(LogicalPlan::Extension(Extension { node: Arc::new(node) }));
    }

    /// The row becomes the partition keys, as far as `fields` does not name them, and `fields`.
    pub(super) fn project(&mut self, fields: Vec<(String, Value)>, span: Span) -> Result<()> {
        let mut columns: Vec<(String, Value)> = Vec::new();
        for key in &self.keys {
            match fields.iter().find(|(name, _)| *name == key.name) {
                None => columns.push((key.name.clone(), key.value.clone())),
                Some((_, value)) if value.expr == key.value.expr => {}
                Some(_) => {
                    return Err(super::problem::hint(
                        error(
                            SqlState::DUPLICATE_COLUMN,
                            codes::DUPLICATE_NAME,
                            span,
                            format!("`{}` is the partition key and stays in the output", key.name),
                        ),
                        "give the field another name",
                    ));
                }
            }
        }
        columns.extend(fields);
        let mut expressions = Vec::with_capacity(columns.len());
        for (name, value) in columns {
            let ty = value.ty.clone().unwrap_or(ColumnType::Text);
            let value = coerce(value, &ty, span, "the field")?;
            let expr = self.planned(value.expr, span)?;
            expressions.push(match &expr {
                PlanExpr::Column(c) if c.name == name => expr,
                _ => expr.alias(name),
            });
        }
        let projection = Projection::try_new(expressions, Arc::new(self.plan.clone()))
            .map_err(|e| internal(span, &e))?;
        self.set_plan(LogicalPlan::Projection(projection));
        self.rebase_keys();
        self.projected = true;
        Ok(())
    }

    /// After a projection the keys are columns of the new row.
    fn rebase_keys(&mut self) {
        for key in &mut self.keys {
            if let Some(field) = self.row.field(&key.name) {
                key.value = Value::leaf(PlanExpr::Column(field.column.clone()), field.ty.clone());
            }
        }
    }

    /// The current columns as fields.
    pub(super) fn current(&self) -> Vec<(String, Value)> {
        self.row
            .fields
            .iter()
            .map(|f| {
                let column = PlanExpr::Column(f.column.clone());
                (f.name.clone(), Value::leaf(column, f.ty.clone()))
            })
            .collect()
    }

    /// Key columns first, system columns away, and what the stream is.
    fn finish(mut self, decl: &StreamDecl) -> Result<BoundStream> {
        let span = decl.name.span;
        let (mut keys, mut rest) = (Vec::new(), Vec::new());
        for field in self.current() {
            let is_key = !self.projected && self.keys.iter().any(|k| k.value.expr == field.1.expr);
            if is_key { keys.push(field) } else { rest.push(field) }
        }
        // In the order in which the keys were named.
        keys.sort_by_key(|(_, v)| self.keys.iter().position(|k| k.value.expr == v.expr));
        let moved = keys.first().map(|(n, _)| n) != self.row.fields.first().map(|f| &f.name);
        let computed =
            !self.projected && self.keys.iter().any(|k| self.row.field(&k.name).is_none());
        if !self.row.system.is_empty() || computed || (!keys.is_empty() && moved) {
            keys.extend(rest);
            self.project(keys, span)?;
        }
        let columns: Vec<Column> =
            self.row.fields.iter().map(|f| Column::new(f.name.clone(), f.ty.clone())).collect();
        if let Some(declared) = &decl.ty {
            self.check_type(declared, &columns)?;
        }
        let inputs: BTreeSet<ObjectId> = self.bindings.values().copied().collect();
        Ok(BoundStream {
            query: ContinuousQuery {
                plan: self.plan,
                inputs: inputs.into_iter().collect(),
                on_error: self.on_error,
                warnings: Vec::new(),
            },
            columns,
            bindings: self.bindings,
        })
    }

    /// `stream S: T = ..` where T is an event: the columns must be T's.
    fn check_type(&self, declared: &TypeExpr, columns: &[Column]) -> Result<()> {
        let inner = match &declared.kind {
            TypeKind::Stream(inner) => inner,
            _ => declared,
        };
        let TypeKind::Named(name) = &inner.kind else {
            return Err(super::problem::unsupported(inner.span, "this type of a stream"));
        };
        let Some(event) = self.program.events.get(name.as_str()) else {
            let ident = crate::ast::Ident { name: name.clone(), span: inner.span };
            let known = self.program.events.keys().copied();
            let state = SqlState::UNDEFINED_OBJECT;
            return Err(super::problem::unknown(
                state,
                codes::UNKNOWN_TYPE,
                "event",
                &ident,
                known,
            ));
        };
        let wanted = self.program.event_columns(event)?;
        let shape = |c: &[Column]| {
            let fields = c.iter().map(|c| format!("{}: {}", c.name, c.column_type.vpl_name()));
            fields.collect::<Vec<_>>().join(", ")
        };
        if shape(&wanted) == shape(columns) {
            return Ok(());
        }
        Err(super::problem::mismatch(
            inner.span,
            format!("`{name}` has ({}), the stream ({})", shape(&wanted), shape(columns)),
        ))
    }
}

/// The operations of a declaration, for checks over the whole chain.
pub(super) fn has_op(ops: &[Op], name: &str) -> bool {
    ops.iter().any(|o| o.name.name == name)
}
