//! The pass over the syntax tree before DataFusion plans it: while places in the text are known.
//!
//! It finds relations in the catalog and writes their exact names in, refuses what DataFusion would
//! ignore or name badly, gives output columns PostgreSQL's names, and keeps the system columns of
//! streams out of `*`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use auspex_plan::catalog::{Object, ObjectId};
use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::relation::{REVISION_COLUMN, SYSTEM_COLUMNS};
use auspex_plan::{ColumnType, Diagnostic, Span, SqlState};
use sqlparser::ast::{
    self, BinaryOperator, Expr, Ident, LimitClause, ObjectName, ObjectNamePart, Query, Select,
    SetExpr, Spanned, TableAlias, TableAliasColumnDef, TableFactor, Value, VisitorMut,
};
use sqlparser::tokenizer::Span as AstSpan;

use super::context::Reader;
use super::from::{FromWindow, is_window_function};
use super::from_retention::retention_hint;
use super::names;
use super::scope::Frame;
use super::{Binder, Result};
use crate::source::Source;

/// What the pass has found out.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Relations of the catalog, by the name written.
    pub(crate) bindings: BTreeMap<String, ObjectId>,
    /// Types of parameters that stand right under a cast.
    pub(crate) casts: BTreeMap<usize, ColumnType>,
    /// The statement names a system column.
    pub(crate) system_columns: bool,
    /// The statement names `_revision`.
    pub(crate) revision: bool,
    /// Windows in FROM.
    pub(crate) windows: Vec<FromWindow>,
}

impl Found {
    /// The relations, each once, ascending.
    pub(crate) fn relations(&self) -> BTreeSet<ObjectId> {
        self.bindings.values().copied().collect()
    }
}

/// A relation by name.
pub(crate) enum Relation<'a> {
    /// Of the catalog.
    Object(&'a Object),
    /// `pg_catalog`, `information_schema`, `auspex`: schema and name.
    System(String, String),
}

pub(crate) struct Resolver<'a> {
    pub(super) binder: &'a Binder,
    source: &'a Arc<Source>,
    pub(super) reader: Reader,
    /// Names that are relations although the catalog does not know them.
    pub(crate) known: Vec<String>,
    pub(super) frames: Vec<Frame>,
    /// Number of CTEs that have been given another name.
    pub(super) renamed: usize,
    pub(crate) found: Found,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(binder: &'a Binder, source: &'a Arc<Source>, reader: Reader) -> Self {
        Resolver {
            binder,
            source,
            reader,
            known: Vec::new(),
            frames: Vec::new(),
            renamed: 0,
            found: Found::default(),
        }
    }

    /// Prepares a query.
    pub(crate) fn query(mut self, query: &mut Query) -> Result<Found> {
        self.found.system_columns = mentions(query, &SYSTEM_COLUMNS);
        self.found.revision = mentions(query, &[REVISION_COLUMN]);
        match ast::VisitMut::visit(query, &mut self) {
            ControlFlow::Continue(()) => Ok(self.found),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// Prepares an expression.
    pub(crate) fn expr(mut self, expr: &mut Expr) -> Result<Found> {
        self.found.system_columns = mentions(expr, &SYSTEM_COLUMNS);
        match ast::VisitMut::visit(expr, &mut self) {
            ControlFlow::Continue(()) => Ok(self.found),
            ControlFlow::Break(error) => Err(error),
        }
    }

    pub(super) fn at(&self, span: AstSpan) -> Option<Span> {
        self.source.span(span)
    }

    pub(super) fn refuse(&self, what: impl Into<String>, span: AstSpan) -> Diagnostic {
        Diagnostic::unsupported(what).at_opt(self.at(span))
    }

    fn pre_query(&mut self, query: &mut Query) -> Result<()> {
        let address = address(query);
        if let Some(frame) = self.frames.last_mut()
            && let Some(i) = frame.ctes.iter().position(|c| c.address == address)
        {
            frame.visible = if frame.recursive { i + 1 } else { i };
        }
        let frame = match &mut query.with {
            Some(with) => {
                Frame { ctes: self.introduce(with)?, visible: 0, recursive: with.recursive }
            }
            None => Frame { ctes: Vec::new(), visible: 0, recursive: false },
        };
        self.frames.push(frame);
        names::order_by_position(query);
        if let Some(lock) = query.locks.first() {
            let ident = lock.of.as_ref().and_then(|name| name.0.first()?.as_ident());
            if let Some(ident) = ident.filter(|i| crate::marks::unmark(&i.value).is_some()) {
                let text = "EMIT, OUTPUT and ALLOWED LATENESS stand at the end of the whole query";
                return Err(Diagnostic::syntax(text).at_opt(self.at(ident.span)));
            }
            return Err(self
                .refuse("FOR UPDATE and FOR SHARE are not supported", query.span())
                .detail(format!("The query has {lock}.")));
        }
        self.fetch_to_limit(query)?;
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(self
                    .refuse("data-modifying statements in WITH are not supported", query.span()))
            }
            SetExpr::Table(_) => Err(self
                .refuse("TABLE is only supported at the beginning of a statement", query.span())
                .hint("Write SELECT * FROM.")),
            _ => Ok(()),
        }
    }

    /// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
    fn fetch_to_limit(&self, query: &mut Query) -> Result<()> {
        let Some(fetch) = query.fetch.take() else { return Ok(()) };
        if fetch.with_ties || fetch.percent {
            return Err(self.refuse("FETCH WITH TIES and PERCENT are not supported", query.span()));
        }
        let one = || Expr::Value(Value::Number("1".into(), false).with_empty_span());
        let rows = fetch.quantity.unwrap_or_else(one);
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
            None => {
                query.limit_clause = Some(LimitClause::LimitOffset {
                    limit: Some(rows),
                    offset: None,
                    limit_by: Vec::new(),
                });
            }
            Some(_) => {
                return Err(Diagnostic::syntax("multiple LIMIT clauses not allowed")
                    .at_opt(self.at(query.span())));
            }
        }
        Ok(())
    }

    fn post_query(&mut self, query: &Query) {
        self.frames.pop();
        let address = address(query);
        if let Some(frame) = self.frames.last_mut()
            && let Some(i) = frame.ctes.iter().position(|c| c.address == address)
        {
            frame.visible = i + 1;
        }
    }

    fn pre_select(&mut self, select: &mut Select) -> Result<()> {
        if let Some(into) = &select.into {
            return Err(self
                .refuse("SELECT INTO is not supported", into.name.span())
                .hint("Use CREATE STREAM .. AS or INSERT INTO .. SELECT."));
        }
        if self.found.system_columns {
            self.expand_wildcards(select)?;
        }
        names::name_items(select);
        for from in &mut select.from {
            self.joins(from)?;
        }
        self.retention_select(select)?;
        self.revision_select(select);
        Ok(())
    }

    fn pre_factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } if is_window_function(name) => {
                return self.window_function(factor);
            }
            TableFactor::Table { with_hints, .. }
                if with_hints.iter().any(|h| retention_hint(h).is_some()) =>
            {
                return self.retention_window(factor);
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                return self.joins(table_with_joins);
            }
            _ => {}
        }
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                sample,
                version,
                with_ordinality,
                with_hints,
                partitions,
                ..
            } => {
                let span = name.span();
                for (present, what) in [
                    (sample.is_some(), "TABLESAMPLE"),
                    (version.is_some(), "FOR SYSTEM_TIME"),
                    (*with_ordinality, "WITH ORDINALITY"),
                    (!with_hints.is_empty() || !partitions.is_empty(), "this table option"),
                ] {
                    if present {
                        return Err(self.refuse(format!("{what} is not supported"), span));
                    }
                }
                if args.is_some() {
                    return self.table_function(name, alias, span);
                }
                if let Some(cte) = self.cte(name) {
                    if cte.unique != cte.name {
                        let own = quoted(&cte.name, span);
                        alias.get_or_insert(TableAlias {
                            explicit: true,
                            name: own,
                            columns: Vec::new(),
                            at: None,
                        });
                        *name =
                            ObjectName(vec![ObjectNamePart::Identifier(quoted(&cte.unique, span))]);
                    }
                    return Ok(());
                }
                if self.is_cte(name) {
                    return Ok(());
                }
                self.replace_name(name, alias)
            }
            TableFactor::Derived { sample: None, .. }
            | TableFactor::UNNEST { with_offset: false, with_ordinality: false, .. } => Ok(()),
            TableFactor::Function { name, .. } => {
                Err(self.refuse("LATERAL functions are not supported", name.span()))
            }
            TableFactor::MatchRecognize { table, .. } => {
                Err(self.refuse("MATCH_RECOGNIZE is not supported", table.span()))
            }
            other => {
                Err(self.refuse("this kind of table expression is not supported", other.span()))
            }
        }
    }

    /// PostgreSQL names the column of a function that gives one column like the function or its
    /// alias.
    fn table_function(
        &self,
        name: &mut ObjectName,
        alias: &mut Option<TableAlias>,
        span: AstSpan,
    ) -> Result<()> {
        strip_pg_catalog(name);
        let function = name.to_string().to_ascii_lowercase();
        if self.reader == Reader::Continuous {
            let text = format!("a continuous query cannot read the function {function}()");
            return Err(self.refuse(text, span));
        }
        if !self.binder.sources.has_table_function(&function) {
            return Err(undefined_function(self.binder, &function).at_opt(self.at(span)));
        }
        if matches!(function.as_str(), "generate_series" | "range") {
            let own = alias.as_ref().map_or_else(|| function.clone(), |a| names::fold(&a.name));
            let columns = alias.as_ref().map(|a| a.columns.clone()).unwrap_or_default();
            let columns = if columns.is_empty() {
                vec![TableAliasColumnDef { name: quoted(&own, span), data_type: None }]
            } else {
                columns
            };
            *alias =
                Some(TableAlias { explicit: true, name: quoted(&own, span), columns, at: None });
        }
        Ok(())
    }

    /// Writes the exact name of a relation in, with the written name as its alias.
    fn replace_name(
        &mut self,
        name: &mut ObjectName,
        alias: &mut Option<TableAlias>,
    ) -> Result<()> {
        let span = name.span();
        let written = written(name);
        let (schema, table) = match self.relation(name)? {
            Relation::Object(object) => {
                self.check_readable(object, span)?;
                let exact = (object.name.schema.clone(), object.name.name.clone());
                let id = object.id;
                self.found.bindings.insert(written.join("."), id);
                exact
            }
            Relation::System(schema, table) => {
                if self.reader == Reader::Continuous {
                    return Err(self.refuse(
                        format!(
                            "a continuous query cannot read the system view \"{schema}.{table}\""
                        ),
                        span,
                    ));
                }
                (schema, table)
            }
        };
        if alias.is_none()
            && let Some(last) = written.last()
        {
            *alias = Some(TableAlias {
                explicit: true,
                name: quoted(last, span),
                columns: Vec::new(),
                at: None,
            });
        }
        *name = ObjectName(vec![
            ObjectNamePart::Identifier(quoted(&schema, span)),
            ObjectNamePart::Identifier(quoted(&table, span)),
        ]);
        Ok(())
    }

    fn check_readable(&self, object: &Object, span: AstSpan) -> Result<()> {
        if object.pipeline().is_some() {
            return Err(Diagnostic::error(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is a pipeline", object.name.name),
            )
            .hint(format!("Its streams are read as {}.name.", object.name.name))
            .at_opt(self.at(span)));
        }
        Ok(())
    }

    /// The relation of this name.
    pub(crate) fn relation(&self, name: &ObjectName) -> Result<Relation<'a>> {
        let parts = written(name);
        if let Some(id) = self.binder.bindings.get(&parts.join("."))
            && let Some(object) = self.binder.catalog.get(*id)
        {
            return Ok(Relation::Object(object));
        }
        self.binder.relation(&parts).map_err(|d| d.at_opt(self.at(name.span())))
    }

    fn pre_expr(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() == 3 => {
                // `schema.table.column`: tables go by their alias, which is their name.
                parts.remove(0);
            }
            Expr::Function(function) => {
                strip_pg_catalog(&mut function.name);
                let span = function.name.span();
                if function.name.0.len() != 1 {
                    return Err(undefined_function(self.binder, &function.name.to_string())
                        .at_opt(self.at(span)));
                }
                let name = function
                    .name
                    .0
                    .last()
                    .and_then(|p| p.as_ident())
                    .map(names::fold)
                    .unwrap_or_default();
                if name == "tumble" && function.over.is_none() {
                    return tumble_as_date_bin(function).ok_or_else(|| {
                        self.refuse("this form of tumble() is not supported", span)
                            .hint("Write tumble(ts, INTERVAL '1 min').")
                    });
                }
                if crate::marks::unmark(&name).is_some() {
                    return Ok(());
                }
                if !self.binder.functions.exists(&name) && !SPECIAL.contains(&name.as_str()) {
                    return Err(undefined_function(self.binder, &name).at_opt(self.at(span)));
                }
                if self.reader == Reader::Continuous {
                    self.check_continuous_function(&name, span)?;
                }
            }
            Expr::Cast { expr: inner, data_type, .. } => {
                let target = crate::parse::column_type(data_type)
                    .map_err(|d| d.at_opt(self.at(expr_end(inner))))?;
                if let Expr::Value(value) = inner.as_ref()
                    && let Value::Placeholder(id) = &value.value
                    && let Some(n) = parameter(id)
                {
                    self.found.casts.entry(n).or_insert(target);
                }
            }
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(path) = op
                    && let Some(plain) = path.last().and_then(|name| operator(name))
                {
                    *op = plain;
                }
            }
            Expr::Collate { expr: inner, collation } => {
                let name = written(collation);
                let plain = name.last().is_some_and(|n| {
                    ["default", "c", "posix"].contains(&n.to_ascii_lowercase().as_str())
                });
                if !plain {
                    let text = format!("collation \"{}\" is not supported", name.join("."));
                    return Err(self
                        .refuse(text, collation.span())
                        .hint("Texts compare by code point, as with COLLATE \"C\"."));
                }
                *expr = inner.as_ref().clone();
                return self.pre_expr(expr);
            }
            Expr::AtTimeZone { timestamp, .. } => {
                return Err(self
                    .refuse("AT TIME ZONE is not supported", timestamp.span())
                    .hint("Timestamps are in UTC."));
            }
            Expr::Subquery(q) if self.reader == Reader::Continuous => {
                return Err(self
                    .refuse("a continuous query cannot have a subquery in an expression", q.span())
                    .hint("Subqueries are possible in FROM, and in WHERE with EXISTS and IN."));
            }
            Expr::InSubquery { subquery, negated: true, .. }
                if self.reader == Reader::Continuous =>
            {
                return Err(self
                    .refuse(
                        "NOT IN with a query is not supported in a continuous query",
                        subquery.span(),
                    )
                    .hint("Use NOT EXISTS."));
            }
            _ => {}
        }
        Ok(())
    }

    /// Functions whose result depends on more than their arguments would give another result when
    /// the log is replayed.
    fn check_continuous_function(&self, name: &str, span: AstSpan) -> Result<()> {
        use datafusion::logical_expr::Volatility;
        let functions = &self.binder.functions;
        if let Some(udf) = functions.scalar(name)
            && udf.signature().volatility != Volatility::Immutable
        {
            return Err(self
                .refuse(format!("function {name}() cannot be used in a continuous query"), span)
                .detail(
                    "Its result would be another one when the query is run again after a restart.",
                )
                .hint(
                    "The system columns _time and _ingested hold a row's event time and arrival.",
                ));
        }
        Ok(())
    }
}

/// Names that DataFusion's planner knows without a function.
const SPECIAL: [&str; 8] =
    ["make_array", "struct", "named_struct", "make_map", "map", "grouping", "unnest", "row"];

/// `42883` with the nearest name.
pub(crate) fn undefined_function(binder: &Binder, name: &str) -> Diagnostic {
    let error =
        Diagnostic::error(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
    match did_you_mean(name, binder.functions.names()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error.hint("No function matches the given name."),
    }
}

/// Whether one of these columns is named.
fn mentions<V: ast::Visit>(node: &V, columns: &[&str]) -> bool {
    let is_system = |ident: &Ident| columns.contains(&names::fold(ident).as_str());
    ast::visit_expressions(node, |expr| {
        let found = match expr {
            Expr::Identifier(ident) => is_system(ident),
            Expr::CompoundIdentifier(parts) => parts.last().is_some_and(is_system),
            _ => false,
        };
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .is_break()
}

/// The parts of a name, folded.
pub(crate) fn written(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|p| p.as_ident()).map(names::fold).collect()
}

/// Number of a parameter `$n`.
pub(crate) fn parameter(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok().filter(|n| (1..=65_535).contains(n))
}

pub(crate) fn quoted(value: &str, span: AstSpan) -> Ident {
    Ident { value: value.to_string(), quote_style: Some('"'), span }
}

fn strip_pg_catalog(name: &mut ObjectName) {
    if name.0.len() == 2 && name.0[0].as_ident().is_some_and(|i| names::fold(i) == "pg_catalog") {
        name.0.remove(0);
    }
}

/// `OPERATOR(pg_catalog.~)` without the ceremony.
fn operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

/// `tumble(ts, i)` is `date_bin(i, ts)`; `None` for other forms.
fn tumble_as_date_bin(function: &mut ast::Function) -> Option<()> {
    let ast::FunctionArguments::List(list) = &mut function.args else { return None };
    let [_, ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(size))] = list.args.as_mut_slice()
    else {
        return None;
    };
    if let Expr::Value(value) = size {
        *size = Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(Expr::Value(value.clone())),
            data_type: ast::DataType::Interval { fields: None, precision: None },
            array: false,
            format: None,
        };
    }
    list.args.swap(0, 1);
    let span = function.name.span();
    function.name = ObjectName(vec![ObjectNamePart::Identifier(quoted("date_bin", span))]);
    Some(())
}

/// The place of a cast, for want of the type's own.
fn expr_end(expr: &Expr) -> AstSpan {
    expr.span()
}

/// Where a node is in memory while the tree is visited.
pub(super) fn address(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

impl VisitorMut for Resolver<'_> {
    type Break = Diagnostic;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Diagnostic> {
        flow(self.pre_query(query))
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Diagnostic> {
        self.post_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Diagnostic> {
        flow(self.pre_select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Diagnostic> {
        flow(self.pre_factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Diagnostic> {
        interval_as_cast(expr);
        flow(self.pre_expr(expr))
    }
}

/// `INTERVAL '1 day 04:05:06'` is read like the cast of its text, which knows all of PostgreSQL's
/// spellings; forms with a field (`INTERVAL '1' HOUR`) are left to the planner.
fn interval_as_cast(expr: &mut Expr) {
    if let Expr::Interval(ast::Interval {
        value,
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }) = expr
        && matches!(value.as_ref(), Expr::Value(v) if matches!(v.value, ast::Value::SingleQuotedString(_)))
    {
        *expr = Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: value.clone(),
            data_type: ast::DataType::Interval { fields: None, precision: None },
            array: false,
            format: None,
        };
    }
}

fn flow(result: Result<()>) -> ControlFlow<Diagnostic> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}
