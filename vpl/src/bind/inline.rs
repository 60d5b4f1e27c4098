//! User functions: their body is put in place of the call.
//!
//! A body of `let`, `if` and `return` is a tree of choices, so it becomes a CASE: the statements
//! behind an `if` follow each of its branches. Loops become calls of a function (`super::looping`).
//! Recursion cannot be put in place.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Span, SqlState};

use super::calls::wrong_count;
use super::expression::Binder;
use super::looping;
use super::problem::{Result, arguments, error, hint, unsupported};
use super::value::{Value, coerce};
use crate::ast::{Arg, BindingKind, Expr, FnDecl, Ident, Local, LocalKind};
use crate::codes;

use datafusion::logical_expr::lit;

/// Most branches that a function body may unfold into.
const MAX_BRANCHES: usize = 512;

/// Binds a call of a function of the program.
pub(super) fn call<'a>(
    binder: &mut Binder<'a>,
    declared: &'a FnDecl,
    function: &Ident,
    receiver: Option<&'a Expr>,
    args: &'a [Arg],
    span: Span,
) -> Result<Value> {
    let name = declared.name.name.as_str();
    if binder.open.contains(&name) {
        return Err(unsupported(function.span, format!("recursion (`{name}` calls itself)")));
    }
    let given = args.len() + usize::from(receiver.is_some());
    if given != declared.params.len() {
        let n = declared.params.len();
        let takes = format!("{n} argument{}", if n == 1 { "" } else { "s" });
        return Err(wrong_count(function, span, &takes, given));
    }
    let mut values: Vec<Option<(Value, Span)>> = vec![None; given];
    let positional = receiver.map(|e| (None, e));
    let named = args.iter().map(|a| (a.name.as_ref(), &a.value));
    for (i, (param, value)) in positional.into_iter().chain(named).enumerate() {
        let place = match param {
            None => i,
            Some(p) => {
                declared.params.iter().position(|d| d.name.name == p.name).ok_or_else(|| {
                    arguments(p.span, format!("`{name}` has no parameter `{}`", p.name))
                })?
            }
        };
        if values[place].replace((binder.bind(value)?, value.span)).is_some() {
            let p = &declared.params[place].name.name;
            return Err(arguments(value.span, format!("`{name}` is given `{p}` twice")));
        }
    }
    let mut locals = Vec::with_capacity(given);
    for (param, value) in declared.params.iter().zip(values.into_iter().flatten()) {
        let (value, at) = value;
        let value = match &param.ty {
            None => value,
            Some(ty) => {
                let ty = binder.program.column_type(ty)?;
                coerce(value, &ty, at, &format!("`{}` of `{name}`", param.name.name))?
            }
        };
        locals.push((param.name.name.clone(), value));
    }
    body(binder, declared, locals)
}

/// Checks the body of a function that nobody calls, with its parameters null.
pub(super) fn check<'a>(binder: &mut Binder<'a>, declared: &'a FnDecl) -> Result<()> {
    let mut locals = Vec::new();
    for param in &declared.params {
        let value = match &param.ty {
            // Without a type there is nothing to check against.
            None => return Ok(()),
            Some(ty) => coerce(
                Value::null(),
                &binder.program.column_type(ty)?,
                param.name.span,
                "the parameter",
            )?,
        };
        locals.push((param.name.name.clone(), value));
    }
    body(binder, declared, locals).map(|_| ())
}

fn body<'a>(
    binder: &mut Binder<'a>,
    declared: &'a FnDecl,
    locals: Vec<(String, Value)>,
) -> Result<Value> {
    binder.program.called.borrow_mut().insert(declared.name.name.clone());
    // A function sees its own names, then the program's: not those of whoever calls it.
    let outside = std::mem::replace(&mut binder.locals, locals);
    let was_in_function = std::mem::replace(&mut binder.in_function, true);
    binder.open.push(&declared.name.name);
    let mut unfolding = Unfolding { declared, branches: 0, end: End::Function };
    let statements: Vec<&'a Local> = declared.body.iter().collect();
    let result = unfolding.value(binder, &statements);
    binder.open.pop();
    binder.in_function = was_in_function;
    binder.locals = outside;
    let (value, span) = result?;
    match &declared.returns {
        None => Ok(value),
        Some(ty) => {
            let ty = binder.program.column_type(ty)?;
            let what = format!("the result of `{}`", declared.name.name);
            coerce(value, &ty, span, &what)
        }
    }
}

/// What is wanted of a list of statements.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The function's result.
    Function,
    /// One round of a loop: the value that a variable has behind it.
    Round(Wanted),
}

/// A variable of a loop.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// One of the program's.
    Named(String),
    /// Whether `break` was met.
    Left,
}

pub(super) struct Unfolding<'a> {
    pub(super) declared: &'a FnDecl,
    branches: usize,
    pub(super) end: End,
}

impl<'a> Unfolding<'a> {
    /// The function's result when these statements are what is left to do.
    pub(super) fn value(
        &mut self,
        binder: &mut Binder<'a>,
        todo: &[&'a Local],
    ) -> Result<(Value, Span)> {
        let Some((first, rest)) = todo.split_first() else {
            return self.ended(binder, false);
        };
        match &first.kind {
            LocalKind::Return(_) if matches!(self.end, End::Round(_)) => Err(hint(
                unsupported(first.span, "`return` inside a loop"),
                "keep the value in a variable, leave the loop with `break`, and return it behind",
            )),
            LocalKind::Return(None) => Ok((Value::null(), first.span)),
            LocalKind::Return(Some(e)) => Ok((binder.bind(e)?, e.span)),
            LocalKind::Expr(e) => {
                let value = binder.bind(e)?;
                match (&self.end, rest) {
                    (End::Function, []) => Ok((value, e.span)),
                    _ => self.value(binder, rest),
                }
            }
            LocalKind::Let(b) => {
                let value = binder.bind(&b.value)?;
                let value = match &b.ty {
                    None => value,
                    Some(ty) => {
                        let ty = binder.program.column_type(ty)?;
                        coerce(value, &ty, b.value.span, &format!("`{}`", b.name.name))?
                    }
                };
                let depth = binder.locals.len();
                binder.locals.push((b.name.name.clone(), value));
                let result = self.value(binder, rest);
                binder.locals.truncate(depth);
                result
            }
            LocalKind::Assign(a) => {
                let depth = binder.locals.len();
                let value = binder.bind(&a.value)?;
                let value = self.assigned(binder, &a.name, value, a.value.span)?;
                binder.locals.push((a.name.name.clone(), value));
                let result = self.value(binder, rest);
                binder.locals.truncate(depth);
                result
            }
            LocalKind::If { branches, otherwise } => {
                let (mut conditions, mut values) = (Vec::new(), Vec::new());
                for (condition, block) in branches {
                    conditions.push(binder.condition(condition, "the condition of `if`")?);
                    values.push(self.branch(binder, block, rest, first.span)?);
                }
                let block = otherwise.as_deref().unwrap_or_default();
                values.push(self.branch(binder, block, rest, first.span)?);
                let value = binder.case(conditions, values, "the results of the branches")?;
                Ok((value.bounded(first.span)?, first.span))
            }
            LocalKind::For { var, iterable, body } => {
                let over = looping::Over::Items { var, iterable };
                self.looped(binder, over, body, rest, first.span)
            }
            LocalKind::While { condition, body } => {
                self.looped(binder, looping::Over::While(condition), body, rest, first.span)
            }
            LocalKind::Emit { .. } => Err(hint(
                unsupported(first.span, "`emit` in a function"),
                "a stream's rows are made by its operations: `.emit(name: value, ..)`",
            )),
            LocalKind::Break | LocalKind::Continue if matches!(self.end, End::Round(_)) => {
                self.ended(binder, matches!(first.kind, LocalKind::Break))
            }
            LocalKind::Break | LocalKind::Continue => Err(error(
                SqlState::SYNTAX_ERROR,
                codes::MISPLACED_OPERATION,
                first.span,
                "there is no loop here to leave",
            )),
        }
    }

    /// What the statements come to when there is no further one.
    fn ended(&self, binder: &Binder<'a>, left: bool) -> Result<(Value, Span)> {
        let span = self.declared.name.span;
        let value = match &self.end {
            End::Function => Value::null(),
            End::Round(Wanted::Left) => Value::leaf(lit(left), ColumnType::Boolean),
            End::Round(Wanted::Named(name)) => {
                let found = binder.locals.iter().rev().find(|(n, _)| n == name);
                found.map(|(_, value)| value.clone()).unwrap_or_else(Value::null)
            }
        };
        Ok((value, span))
    }

    fn branch(
        &mut self,
        binder: &mut Binder<'a>,
        block: &'a [Local],
        rest: &[&'a Local],
        span: Span,
    ) -> Result<(Value, Span)> {
        self.branches += 1;
        if self.branches > MAX_BRANCHES {
            return Err(unsupported(
                span,
                format!(
                    "a function with more than {MAX_BRANCHES} ways through (`{}`)",
                    self.declared.name.name
                ),
            ));
        }
        let todo: Vec<&'a Local> = block.iter().chain(rest.iter().copied()).collect();
        self.value(binder, &todo)
    }

    /// The value that an assigned variable gets: of the type it has.
    pub(super) fn assigned(
        &self,
        binder: &Binder<'a>,
        name: &Ident,
        value: Value,
        span: Span,
    ) -> Result<Value> {
        let Some((_, before)) = binder.locals.iter().rev().find(|(n, _)| *n == name.name) else {
            return Err(binder.program.assignment(name));
        };
        if let Some(word) = self.immutable(&name.name) {
            return Err(hint(
                error(
                    SqlState::INVALID_OBJECT_DEFINITION,
                    codes::IMMUTABLE,
                    name.span,
                    format!("`{}` is declared with `{word}` and cannot be assigned", name.name),
                ),
                format!("declare it with `var {} = ..`", name.name),
            ));
        }
        let ty: Option<ColumnType> = before.ty.clone();
        match ty {
            None => Ok(value),
            Some(ty) => coerce(value, &ty, span, &format!("`{}`", name.name)),
        }
    }

    /// The word that makes a local variable immutable; parameters are not.
    fn immutable(&self, name: &str) -> Option<&'static str> {
        fn find(block: &[Local], name: &str) -> Option<BindingKind> {
            block.iter().find_map(|s| match &s.kind {
                LocalKind::Let(b) if b.name.name == name => Some(b.kind),
                LocalKind::If { branches, otherwise } => branches
                    .iter()
                    .find_map(|(_, b)| find(b, name))
                    .or_else(|| find(otherwise.as_deref()?, name)),
                _ => None,
            })
        }
        match find(&self.declared.body, name)? {
            BindingKind::Let => Some("let"),
            BindingKind::Const => Some("const"),
            BindingKind::Var => None,
        }
    }
}
