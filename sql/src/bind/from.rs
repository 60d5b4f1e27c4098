//! Windows in FROM, before DataFusion plans: arguments are read while places in the text
//! are known, and the syntax tree is given a form in which the visit goes on into what they are
//! made of. [`super::stream::FromPlanner`] plans that form.

use auspex_plan::{Diagnostic, Span, SqlState, Window};
use sqlparser::ast::{
    self, Expr, ExprWithAlias, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, ObjectName, Select, Spanned, TableFactor, Value,
};
use sqlparser::tokenizer::Span as AstSpan;

use super::names;
use super::resolve::{Resolver, quoted};
use super::{Result, stream::Kept};
use crate::marks::{self, unmark};
use crate::parse::length_us;

/// A window in FROM, by its number in [`super::resolve::Found::windows`]. The factor that stands
/// for it holds the number, its relation and these expressions: keys, then the time column; or
/// those of a retention window.
#[derive(Debug, Clone)]
pub(crate) struct FromWindow {
    pub(crate) kind: FromWindowKind,
    /// The function's or window's name.
    pub(crate) span: Option<Span>,
}

#[derive(Debug, Clone)]
pub(crate) enum FromWindowKind {
    /// `TUMBLE(..)` and the like.
    Table {
        window: Window,
        /// How many of the expressions are `PARTITION BY` columns.
        keys: usize,
        /// The time argument; none for windows of rows.
        time: Option<Span>,
        /// `_revision` is named by the statement.
        revision: bool,
    },
    /// `WINDOW LENGTH(100)` and the like; for `SORT` the directions.
    Retention { kept: Kept, descending: Vec<(bool, bool)> },
}

/// Whether a function in FROM makes windows.
pub(super) fn is_window_function(name: &ObjectName) -> bool {
    let [ast::ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return false };
    ["tumble", "hop", "cumulate", "session", "rows"].contains(&names::fold(ident).as_str())
}

/// The relation among the arguments of a window function in FROM.
pub(super) fn window_relation(args: &ast::TableFunctionArgs) -> Option<TableFactor> {
    match args.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => relation(expr.clone()).ok(),
        _ => None,
    }
}

impl Resolver<'_> {
    /// Reads a window function in FROM and puts the form for the planner in its place.
    pub(super) fn window_function(&mut self, factor: &mut TableFactor) -> Result<()> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = factor else {
            return Ok(());
        };
        let function = name.to_string().to_ascii_lowercase();
        let span = self.at(name.span());
        let mut arguments = Vec::with_capacity(args.args.len());
        for arg in std::mem::take(&mut args.args) {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(expr),
                other => {
                    return Err(Diagnostic::syntax(format!(
                        "{} takes its arguments by position",
                        function.to_ascii_uppercase()
                    ))
                    .at_opt(self.at(other.span()))
                    .at_opt(span));
                }
            }
        }
        let usage = || usage(&function).at_opt(span);
        let mut arguments = arguments.into_iter().peekable();
        let table = relation(arguments.next().ok_or_else(usage)?).map_err(|at| {
            usage().message_at(self.at(at), "the first argument must be a relation")
        })?;
        let mut rest: Vec<Expr> = arguments.collect();
        let mut keys = Vec::new();
        if matches!(rest.first(), Some(Expr::Identifier(i)) if unmark(&i.value) == Some(marks::PARTITION))
        {
            rest.remove(0);
            // Behind the keys come the time column and the lengths, or numbers of rows.
            let own = if function == "rows" {
                rest.iter().position(|e| number(e).is_some()).unwrap_or(rest.len())
            } else {
                let lengths = rest.iter().rev().take_while(|e| is_interval(e)).count();
                rest.len().saturating_sub(lengths + 1)
            };
            for key in rest.drain(..own) {
                match key {
                    Expr::Tuple(all) => keys.extend(all),
                    Expr::Nested(one) => keys.push(*one),
                    other => keys.push(other),
                }
            }
            if keys.is_empty() {
                return Err(usage());
            }
        }
        let (window, time) = if function == "rows" {
            (self.row_window(&rest).ok_or_else(usage)??, None)
        } else {
            if rest.len() < 2 {
                return Err(usage());
            }
            let time = descriptor(rest.remove(0));
            (self.time_window(&function, &rest).ok_or_else(usage)??, Some(time))
        };
        let expressions = keys.len();
        let at = time.as_ref().and_then(|t| self.at(t.span()));
        keys.extend(time);
        let kind = FromWindowKind::Table {
            window,
            keys: expressions,
            time: at.or(span),
            revision: self.found.revision,
        };
        let alias = alias.take();
        *factor = self.carrier(table, keys, alias, FromWindow { kind, span });
        Ok(())
    }

    /// The factor that the planner knows again.
    pub(super) fn carrier(
        &mut self,
        table: TableFactor,
        exprs: Vec<Expr>,
        alias: Option<ast::TableAlias>,
        window: FromWindow,
    ) -> TableFactor {
        self.found.windows.push(window);
        let index = Value::Number((self.found.windows.len() - 1).to_string(), false);
        TableFactor::Pivot {
            table: Box::new(table),
            aggregate_functions: vec![ExprWithAlias {
                expr: Expr::Value(index.with_empty_span()),
                alias: None,
            }],
            value_column: exprs,
            value_source: ast::PivotValueSource::List(Vec::new()),
            default_on_null: None,
            alias,
        }
    }

    fn time_window(&self, function: &str, lengths: &[Expr]) -> Option<Result<Window>> {
        let read = |expr: &Expr| self.length(expr);
        let made = |lengths: &[Expr]| -> Result<Option<Window>> {
            Ok(Some(match (function, lengths) {
                ("tumble", [size]) => Window::tumble(read(size)?, 0),
                ("tumble", [size, offset]) => Window::tumble(read(size)?, self.offset(offset)?),
                ("hop", [slide, size]) => {
                    let (slide_us, size_us) = self.multiple("slide", slide, size)?;
                    Window::Hop { size_us, slide_us, offset_us: 0 }
                }
                ("hop", [slide, size, offset]) => {
                    let (slide_us, size_us) = self.multiple("slide", slide, size)?;
                    Window::Hop { size_us, slide_us, offset_us: self.offset(offset)? }
                }
                ("cumulate", [step, size]) => {
                    let (step_us, size_us) = self.multiple("step", step, size)?;
                    Window::Cumulate { size_us, step_us, offset_us: 0 }
                }
                ("cumulate", [step, size, offset]) => {
                    let (step_us, size_us) = self.multiple("step", step, size)?;
                    Window::Cumulate { size_us, step_us, offset_us: self.offset(offset)? }
                }
                ("session", [gap]) => Window::Session { gap_us: read(gap)? },
                _ => return Ok(None),
            }))
        };
        made(lengths).transpose()
    }

    fn multiple(&self, word: &str, small: &Expr, size: &Expr) -> Result<(i64, i64)> {
        let (small_us, size_us) = (self.length(small)?, self.length(size)?);
        if size_us % small_us == 0 {
            return Ok((small_us, size_us));
        }
        let duration = auspex_plan::time::duration;
        Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!(
                "the size of the windows ({}) must be a multiple of their {word} ({})",
                duration(size_us),
                duration(small_us)
            ),
        )
        .hint(format!("The {word} comes first, then the size."))
        .at_opt(self.at(size.span())))
    }

    fn row_window(&self, rest: &[Expr]) -> Option<Result<Window>> {
        let count = |expr: &Expr| match number(expr)?.parse::<u64>() {
            Ok(n) if n > 0 => Some(Ok(n)),
            _ => Some(Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "the number of rows must be positive",
            )
            .at_opt(self.at(expr.span())))),
        };
        let size = count(rest.first()?)?;
        let slide = match rest.get(1) {
            Some(slide) => count(slide)?,
            None => size.clone(),
        };
        if rest.len() > 2 {
            return None;
        }
        Some(size.and_then(|size| Ok(Window::Count { size, slide: slide? })))
    }

    /// Microseconds of a length written as `INTERVAL '..'` or as a text.
    pub(super) fn length(&self, expr: &Expr) -> Result<i64> {
        let (text, span) = self.interval_text(expr)?;
        length_us(&text, span)
    }

    fn offset(&self, expr: &Expr) -> Result<i64> {
        let (text, span) = self.interval_text(expr)?;
        crate::parse::fixed_us(&text, span)
    }

    fn interval_text(&self, expr: &Expr) -> Result<(String, Span)> {
        let place = self.at(expr.span());
        match interval(expr).zip(place) {
            Some(found) => Ok(found),
            None => Err(Diagnostic::syntax("an interval is needed here")
                .hint("Write INTERVAL '5 seconds' or '5 seconds'.")
                .at_opt(place)),
        }
    }

    /// `_revision` of a window's result is a column of each of its groups.
    pub(super) fn revision_select(&self, select: &mut Select) {
        let windows = select.from.iter().any(|f| {
            matches!(&f.relation, TableFactor::Table { name, args: Some(_), .. } if is_window_function(name))
        });
        if self.found.revision
            && windows
            && let GroupByExpr::Expressions(keys, _) = &mut select.group_by
            && !keys.is_empty()
        {
            keys.push(Expr::Identifier(quoted(
                auspex_plan::relation::REVISION_COLUMN,
                AstSpan::empty(),
            )));
        }
    }
}

/// Name and place of a marked function.
pub(super) fn function_mark(function: &Function) -> Option<(String, AstSpan)> {
    let ident = function.name.0.first()?.as_ident()?;
    unmark(&ident.value).map(|name| (name.to_string(), ident.span))
}

fn usage(function: &str) -> Diagnostic {
    let hint = match function {
        "tumble" => "TUMBLE(relation, time column, size [, offset])",
        "hop" => "HOP(relation, time column, slide, size [, offset])",
        "cumulate" => "CUMULATE(relation, time column, step, size [, offset])",
        "session" => "SESSION(relation [PARTITION BY key], time column, gap)",
        _ => "ROWS(relation [PARTITION BY key], rows [, slide])",
    };
    let name = function.to_ascii_uppercase();
    Diagnostic::syntax(format!("wrong arguments of {name}")).hint(format!("Write {hint}."))
}

trait MessageAt {
    fn message_at(self, span: Option<Span>, message: &str) -> Diagnostic;
}

impl MessageAt for Diagnostic {
    fn message_at(mut self, span: Option<Span>, message: &str) -> Diagnostic {
        self.message = message.to_string();
        self.span = span.or(self.span);
        self
    }
}

/// A relation by name, or a function in FROM.
pub(super) fn table(name: ObjectName, args: Option<ast::TableFunctionArgs>) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// The relation that an argument names, or the place of one that is none.
fn relation(argument: Expr) -> std::result::Result<TableFactor, AstSpan> {
    let part = ast::ObjectNamePart::Identifier;
    match argument {
        Expr::Identifier(name) => Ok(table(ObjectName(vec![part(name)]), None)),
        Expr::CompoundIdentifier(parts) => {
            Ok(table(ObjectName(parts.into_iter().map(part).collect()), None))
        }
        Expr::Subquery(subquery) => {
            Ok(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })
        }
        Expr::Nested(inner) => relation(*inner),
        Expr::Function(function) if is_window_function(&function.name) => match function.args {
            FunctionArguments::List(list) => Ok(table(
                function.name,
                Some(ast::TableFunctionArgs { args: list.args, settings: None }),
            )),
            _ => Err(function.name.span()),
        },
        other => Err(other.span()),
    }
}

/// `DESCRIPTOR(ts)` is `ts`.
fn descriptor(expr: Expr) -> Expr {
    let Expr::Function(function) = &expr else { return expr };
    if !function.name.to_string().eq_ignore_ascii_case("descriptor") {
        return expr;
    }
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] => inner.clone(),
            _ => expr,
        },
        _ => expr,
    }
}

pub(super) fn number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => Some(n),
            _ => None,
        },
        _ => None,
    }
}

fn is_interval(expr: &Expr) -> bool {
    interval(expr).is_some()
}

/// The text of an interval in any spelling.
fn interval(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        Expr::Interval(i) if i.last_field.is_none() => {
            let text = interval(&i.value)?;
            Some(match &i.leading_field {
                Some(unit) => format!("{text} {}", unit.to_string().to_ascii_lowercase()),
                None => text,
            })
        }
        Expr::Cast { expr, data_type: ast::DataType::Interval { fields: None, .. }, .. } => {
            interval(expr)
        }
        _ => None,
    }
}
