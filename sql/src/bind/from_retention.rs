//! Retention windows behind a relation: `FROM trades WINDOW LENGTH(100)`.

use auspex_plan::{Diagnostic, SqlState};
use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    GroupByExpr, Select, SelectItem, Spanned, TableFactor, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Span as AstSpan;

use super::context::Reader;
use super::from::{FromWindow, FromWindowKind, function_mark, number, table};
use super::names;
use super::resolve::Resolver;
use super::{Result, stream::Kept};
use crate::marks;

/// A window, its expressions, and for `SORT` which of them ascend and have nulls first.
type Arguments = (Kept, Vec<Expr>, Vec<(bool, bool)>);

impl Resolver<'_> {
    /// Reads the retention window behind a relation and puts the form for the planner in its place.
    pub(super) fn retention_window(&mut self, factor: &mut TableFactor) -> Result<()> {
        let TableFactor::Table { name, alias, with_hints, .. } = factor else { return Ok(()) };
        let Some(index) = with_hints.iter().position(|h| retention_hint(h).is_some()) else {
            return Ok(());
        };
        let Expr::Function(function) = with_hints.remove(index) else { return Ok(()) };
        let (_, span) = named_window(&function);
        if self.reader == Reader::Terminating {
            return Err(self
                .refuse("a WINDOW of a relation needs a continuous query", span)
                .hint("Use it in CREATE STREAM .. AS or CREATE MATERIALIZED VIEW."));
        }
        let (kept, exprs, descending) = self.kept(&function)?;
        let window = FromWindow {
            kind: FromWindowKind::Retention { kept, descending },
            span: self.at(span),
        };
        // The relation keeps its alias, by which its columns go.
        let mut table = table(name.clone(), None);
        if let TableFactor::Table { alias: own, .. } = &mut table {
            *own = alias.take();
        }
        *factor = self.carrier(table, exprs, None, window);
        Ok(())
    }

    fn kept(&self, function: &Function) -> Result<Arguments> {
        let (name, span) = named_window(function);
        let FunctionArguments::List(list) = &function.args else {
            return Err(retention_usage(&name).at_opt(self.at(span)));
        };
        let mut args = Vec::new();
        for arg in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else {
                return Err(retention_usage(&name).at_opt(self.at(span)));
            };
            args.push(expr.clone());
        }
        let rows = |expr: &Expr| match number(expr).and_then(|n| n.parse::<u64>().ok()) {
            Some(n) if n > 0 => Ok(n),
            _ => Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "the number of rows of a window must be a positive number",
            )
            .at_opt(self.at(expr.span()))),
        };
        let order = list.clauses.iter().find_map(|c| match c {
            FunctionArgumentClause::OrderBy(order) => Some(order.clone()),
            _ => None,
        });
        let none = Vec::new;
        Ok(match (name.as_str(), args.as_slice(), order) {
            ("length", [n], None) => (Kept::Length(rows(n)?), none(), Vec::new()),
            ("length batch", [n], None) => (Kept::LengthBatch(rows(n)?), none(), Vec::new()),
            ("time", [i], None) => (Kept::Time(self.length(i)?), none(), Vec::new()),
            ("time batch", [i], None) => (Kept::TimeBatch(self.length(i)?), none(), Vec::new()),
            ("delay", [i], None) => (Kept::Delay(self.length(i)?), none(), Vec::new()),
            ("unique", [_, ..], None) => (Kept::Unique, args, Vec::new()),
            ("sort", [n], Some(order)) => {
                let directions = order
                    .iter()
                    .map(|o| {
                        let asc = o.options.asc.unwrap_or(true);
                        (asc, o.options.nulls_first.unwrap_or(!asc))
                    })
                    .collect();
                let exprs = order.into_iter().map(|o| o.expr).collect();
                (Kept::Sort(rows(n)?), exprs, directions)
            }
            _ => return Err(retention_usage(&name).at_opt(self.at(span))),
        })
    }

    /// Aggregates over a retention window belong to each row: `GROUP BY` is their `PARTITION BY`,
    /// `HAVING` a condition on them.
    pub(super) fn retention_select(&self, select: &mut Select) -> Result<()> {
        let [from] = select.from.as_slice() else { return Ok(()) };
        let TableFactor::Table { with_hints, .. } = &from.relation else { return Ok(()) };
        let Some((name, _)) = with_hints.iter().find_map(retention_hint) else { return Ok(()) };
        if let Some(join) = from.joins.first() {
            return Err(self
                .refuse(
                    format!("a join of a WINDOW {} is not supported", name.to_uppercase()),
                    join.relation.span(),
                )
                .hint("Join the streams; a join keeps the rows that can still find a partner."));
        }
        let GroupByExpr::Expressions(keys, modifiers) = &mut select.group_by else {
            return Err(self.refuse("GROUP BY ALL is not supported here", select.span()));
        };
        if !modifiers.is_empty() {
            return Err(self.refuse("ROLLUP, CUBE and TOTALS are not supported", select.span()));
        }
        let keys = std::mem::take(keys);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.per_row(expr, &keys);
            }
        }
        if let Some(mut having) = select.having.take() {
            self.per_row(&mut having, &keys);
            select.qualify = Some(having);
        }
        Ok(())
    }

    /// Gives the aggregates of an expression `OVER (PARTITION BY keys)`.
    fn per_row(&self, expr: &mut Expr, keys: &[Expr]) {
        let functions = &self.binder.functions;
        let _: std::ops::ControlFlow<()> = ast::visit_expressions_mut(expr, |expr| {
            if let Expr::Function(function) = expr
                && function.over.is_none()
                && let Some(name) = function.name.0.last().and_then(|p| p.as_ident())
                && functions.aggregate(&names::fold(name)).is_some()
            {
                function.over = Some(WindowType::WindowSpec(WindowSpec {
                    window_name: None,
                    partition_by: keys.to_vec(),
                    order_by: Vec::new(),
                    window_frame: None,
                }));
            }
            std::ops::ControlFlow::Continue(())
        });
    }
}

fn named_window(function: &Function) -> (String, AstSpan) {
    retention_hint_name(function).unwrap_or((String::new(), AstSpan::empty()))
}

fn retention_hint_name(function: &Function) -> Option<(String, AstSpan)> {
    let (name, span) = function_mark(function)?;
    Some((name.strip_prefix(marks::WINDOW)?.to_string(), span))
}

/// Name and place when a table hint is a retention window.
pub(super) fn retention_hint(hint: &Expr) -> Option<(String, AstSpan)> {
    match hint {
        Expr::Function(function) => retention_hint_name(function),
        _ => None,
    }
}

fn retention_usage(name: &str) -> Diagnostic {
    let usage = match name {
        "length" | "length batch" => "(rows), such as (100)",
        "time" | "time batch" | "delay" => "(interval), such as ('5 s')",
        "sort" => "(rows, column [DESC], ..)",
        "unique" => "(column, ..)",
        _ => {
            return Diagnostic::unsupported(format!("there is no WINDOW {}", name.to_uppercase()))
                .hint(
                    "Windows of a relation are LENGTH, LENGTH BATCH, TIME, TIME BATCH, SORT, \
                     UNIQUE and DELAY.",
                );
        }
    };
    Diagnostic::syntax(format!("WINDOW {} takes {usage}", name.to_uppercase()))
}
