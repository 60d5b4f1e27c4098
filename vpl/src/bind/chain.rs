//! One stream: its source and its chain of operations, as a plan that grows operation by
//! operation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::catalog::{Column, ObjectId};
use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::query::{ContinuousQuery, OnError};
use auspex_plan::time::Window;
use datafusion::logical_expr::{
    Expr as PlanExpr, Extension, Filter, LogicalPlan, Projection, UserDefinedLogicalNode,
};

use super::declarations::Declarations;
use super::expression::Binder;
use super::problem::{Result, error, internal};
use super::relations::Relations;
use super::row::Row;
use super::value::{Value, coerce};
use super::windows::Pending;
use super::{operations, source, windows};
use crate::ast::{Expr, Op, StreamDecl, TypeExpr, TypeKind};
use crate::codes;

/// A bound stream.
pub(super) struct BoundStream {
    pub query: ContinuousQuery,
    pub columns: Vec<Column>,
    /// Names of the inputs as written and what they are.
    pub bindings: BTreeMap<String, ObjectId>,
}

/// Key of `.partition_by`: a column of the output when it has a name.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub name: Option<String>,
    /// Over the current row; `None` when a projection has left the key out, which happens to those
    /// without a name.
    pub value: Option<Value>,
    pub span: Span,
}

impl Key {
    /// Whether it is the field `name` of the output.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// Its expression over the current row.
    pub(super) fn expr(&self) -> Option<&PlanExpr> {
        self.value.as_ref().map(|v| &v.expr)
    }
}

/// A chain under construction.
pub(super) struct Chain<'a> {
    pub program: &'a Declarations<'a>,
    pub relations: &'a Relations<'a>,
    pub plan: LogicalPlan,
    /// The current row.
    pub row: Row,
    pub bindings: BTreeMap<String, ObjectId>,
    pub keys: Vec<Key>,
    pub on_error: OnError,
    /// Whether `.watermark` was said.
    pub watermark: bool,
    /// A window whose rows are still to be aggregated, ordered or limited.
    pub window: Option<Pending>,
    /// How long windows wait for late rows, in microseconds.
    pub lateness: Option<(i64, Span)>,
    /// The rows come window by window.
    pub closed: Option<Window>,
    /// Whether the rows are results of `.aggregate`.
    pub aggregated: bool,
    /// The operations behind the present one.
    pub ahead: &'a [Op],
    /// Operations that belong to the source.
    pub taken: Vec<Span>,
    /// Values of a match, by the place of what names them, as columns of the row.
    pub results: BTreeMap<(usize, usize), Value>,
    /// What the user should know.
    pub warnings: Vec<Diagnostic>,
    /// Whether a projection was written or the columns are otherwise in their order.
    pub projected: bool,
    pub problems: Vec<Diagnostic>,
}

/// Binds a stream; all its problems when it has any.
pub(super) fn bind<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    decl: &'a StreamDecl,
) -> std::result::Result<BoundStream, Vec<Diagnostic>> {
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
                "the columns `_offset`, `_time` and `_ingested` are gone after `.emit`, `.select` and `.aggregate`",
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
    let mut chain = source::bind(program, relations, decl, system)?;
    for (at, op) in decl.ops.iter().enumerate() {
        if chain.taken.contains(&op.span) {
            continue;
        }
        let before = chain.problems.len();
        chain.ahead = &decl.ops[at + 1..];
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
    if let Err(problem) = windows::close(&mut chain) {
        return Err(vec![*problem]);
    }
    let wanted = chain.row.system_wanted.get();
    match chain.finish(decl) {
        _ if wanted => Ok(Attempt::SystemWanted),
        Ok(bound) => Ok(Attempt::Bound(Box::new(bound))),
        Err(problem) => Err(vec![*problem]),
    }
}

impl<'a> Chain<'a> {
    /// Binds expressions over the current row.
    pub(super) fn binder(&self) -> Binder<'_> {
        let mut binder = Binder::new(self.program, Some(&self.row));
        binder.results.clone_from(&self.results);
        binder
    }

    /// Binds an expression over the current row.
    pub(super) fn value(&self, expr: &Expr) -> Result<Value> {
        self.binder().bind(expr)
    }

    /// Replaces the plan; the row follows.
    pub(super) fn set_plan(&mut self, plan: LogicalPlan) {
        let before = std::mem::replace(&mut self.row, Row::of(&plan, Vec::new()));
        self.row.system_wanted.set(before.system_wanted.get());
        (self.row.aliases, self.row.sides) = (before.aliases, before.sides);
        self.plan = plan;
    }

    /// `expr` as part of the plan.
    pub(super) fn planned(&self, expr: PlanExpr, span: Span) -> Result<PlanExpr> {
        self.row.planned(expr, span)
    }

    /// Keeps the rows on which `condition` is true.
    pub(super) fn filter(&mut self, condition: &'a Expr, what: &str) -> Result<()> {
        let value = self.binder().condition(condition, what)?;
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
            let (Some(name), Some(value)) = (&key.name, &key.value) else { continue };
            match fields.iter().find(|(n, _)| n == name) {
                None => columns.push((name.clone(), value.clone())),
                Some((_, field)) if field.expr == value.expr => {}
                Some(_) => {
                    return Err(super::problem::hint(
                        error(
                            SqlState::DUPLICATE_COLUMN,
                            codes::DUPLICATE_NAME,
                            span,
                            format!("`{name}` is the partition key and stays in the output"),
                        ),
                        "give the field another name",
                    ));
                }
            }
        }
        columns.extend(fields);
        self.replace(columns, span)
    }

    /// The row becomes exactly `columns`.
    pub(super) fn replace(&mut self, columns: Vec<(String, Value)>, span: Span) -> Result<()> {
        let mut expressions = Vec::with_capacity(columns.len());
        for (at, (name, value)) in columns.iter().enumerate() {
            if columns[..at].iter().any(|(n, _)| n == name) {
                return Err(self.twice(name, span));
            }
            let ty = value.ty.clone().unwrap_or(ColumnType::Text);
            let value = coerce(value.clone(), &ty, span, "the field")?;
            let expr = self.planned(value.expr, span)?;
            expressions.push(match &expr {
                PlanExpr::Column(c) if c.name == *name => expr,
                _ => expr.alias(name),
            });
        }
        let projection = Projection::try_new(expressions, Arc::new(self.plan.clone()))
            .map_err(|e| internal(span, &e))?;
        self.row.sides.clear();
        self.set_plan(LogicalPlan::Projection(projection));
        self.projected = true;
        for key in &mut self.keys {
            let field = key.name.as_ref().and_then(|name| self.row.field(name));
            key.value =
                field.map(|f| Value::leaf(PlanExpr::Column(f.column.clone()), f.ty.clone()));
        }
        Ok(())
    }

    fn twice(&self, name: &str, span: Span) -> Box<Diagnostic> {
        let message = format!("there are two fields `{name}`");
        let problem = error(SqlState::DUPLICATE_COLUMN, codes::DUPLICATE_NAME, span, message);
        match self.row.owners(name).first() {
            None => problem,
            Some(side) => {
                let hint = format!("say what comes out: `.emit({name}: {side}.{name}, ..)`");
                super::problem::hint(problem, hint)
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
        if let Some((_, at)) = self.lateness {
            return Err(windows::unused_lateness(at));
        }
        if let Some(key) = self.keys.iter().find(|k| k.name.is_none())
            && !decl.ops.iter().any(|o| matches!(o.name.name.as_str(), "emit" | "select"))
        {
            return Err(operations::unnamed_key(key.span));
        }
        let (mut keys, mut rest) = (Vec::new(), Vec::new());
        for field in self.current() {
            let is_key = !self.projected && self.is_key(&field.1);
            if is_key { keys.push(field) } else { rest.push(field) }
        }
        // In the order in which the keys were named.
        keys.sort_by_key(|(_, v)| self.keys.iter().position(|k| k.expr() == Some(&v.expr)));
        let moved = keys.first().map(|(n, _)| n) != self.row.fields.first().map(|f| &f.name);
        let computed = !self.projected
            && self
                .keys
                .iter()
                .filter_map(|k| k.name.as_ref())
                .any(|k| self.row.field(k).is_none());
        let doubtful = self.row.names().any(|name| !self.row.owners(name).is_empty());
        if !self.row.system.is_empty() || doubtful || computed || (!keys.is_empty() && moved) {
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
                warnings: self.warnings,
            },
            columns,
            bindings: self.bindings,
        })
    }

    fn is_key(&self, value: &Value) -> bool {
        self.keys.iter().any(|k| k.expr() == Some(&value.expr))
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
