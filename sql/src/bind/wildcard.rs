//! `*` where a statement names a system column: the columns of streams one by one, since their
//! relations then have more columns than `*` shows.

use auspex_plan::nodes::WINDOW_COLUMNS;
use sqlparser::ast::{
    self, Expr, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, TableAlias, TableFactor,
};
use sqlparser::tokenizer::Span as AstSpan;

use super::from::{is_window_function, window_relation};
use super::resolve::{Relation, Resolver, quoted};
use super::{Result, names};

impl Resolver<'_> {
    /// Replaces `*` by the columns it shows, where a stream's system columns would show too.
    pub(super) fn expand_wildcards(&self, select: &mut Select) -> Result<()> {
        let has_wildcard = select.projection.iter().any(|item| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        });
        if !has_wildcard {
            return Ok(());
        }
        let mut factors = Vec::new();
        let mut merges = false;
        for from in &select.from {
            self.shown_columns(from, &mut factors, &mut merges)?;
        }
        if factors.iter().all(|f| f.columns.is_none()) {
            return Ok(());
        }
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match &item {
                SelectItem::Wildcard(options) => {
                    let span = options.wildcard_token.0.span;
                    if merges || factors.iter().any(|f| f.name.is_none()) {
                        return Err(self
                            .refuse("* together with a system column is not supported here", span)
                            .hint("List the columns."));
                    }
                    factors.iter().for_each(|f| f.push_items(&mut items));
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let wanted = name.0.last().and_then(|p| p.as_ident()).map(names::fold);
                    match factors.iter().find(|f| f.name.is_some() && f.name == wanted) {
                        Some(factor) if factor.columns.is_some() => factor.push_items(&mut items),
                        _ => items.push(item),
                    }
                }
                _ => items.push(item),
            }
        }
        select.projection = items;
        Ok(())
    }

    fn shown_columns(
        &self,
        from: &ast::TableWithJoins,
        factors: &mut Vec<Factor>,
        merges: &mut bool,
    ) -> Result<()> {
        self.shown_of_factor(&from.relation, factors, merges)?;
        for join in &from.joins {
            use JoinOperator as J;
            if let J::Join(c)
            | J::Inner(c)
            | J::Left(c)
            | J::LeftOuter(c)
            | J::Right(c)
            | J::RightOuter(c)
            | J::FullOuter(c) = &join.join_operator
            {
                *merges |= matches!(c, JoinConstraint::Using(_) | JoinConstraint::Natural);
            }
            self.shown_of_factor(&join.relation, factors, merges)?;
        }
        Ok(())
    }

    fn shown_of_factor(
        &self,
        factor: &TableFactor,
        factors: &mut Vec<Factor>,
        merges: &mut bool,
    ) -> Result<()> {
        let alias_of = |alias: &Option<TableAlias>| alias.as_ref().map(|a| names::fold(&a.name));
        let shown = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let own = name.0.last().and_then(|p| p.as_ident()).map(names::fold);
                let columns = if self.is_cte(name) {
                    None
                } else {
                    match self.relation(name)? {
                        Relation::Object(object) if object.stream().is_some() => {
                            if alias.as_ref().is_some_and(|a| !a.columns.is_empty()) {
                                return Err(self
                                    .refuse(
                                        "column aliases together with a system column are not supported",
                                        name.span(),
                                    )
                                    .hint("Rename the columns in the select list."));
                            }
                            Some(object.columns().iter().map(|c| c.name.clone()).collect())
                        }
                        _ => None,
                    }
                };
                Factor { name: alias_of(alias).or(own), columns, bounds: false }
            }
            TableFactor::Table { name, alias, args: Some(args), .. }
                if is_window_function(name) =>
            {
                let mut inner = Vec::new();
                if let Some(table) = window_relation(args) {
                    self.shown_of_factor(&table, &mut inner, merges)?;
                }
                let own = inner.pop();
                let (own, columns) = own.map_or((None, None), |f| (f.name, f.columns));
                let columns = columns.map(|all| {
                    let bounds = WINDOW_COLUMNS.map(String::from);
                    all.into_iter().filter(|c| !bounds.contains(c)).chain(bounds.clone()).collect()
                });
                // The bounds have no qualifier but that of an alias.
                Factor {
                    bounds: columns.is_some() && alias.is_none(),
                    name: alias_of(alias).or(own),
                    columns,
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.shown_columns(table_with_joins, factors, merges);
            }
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => {
                Factor { name: alias_of(alias), columns: None, bounds: false }
            }
            _ => Factor { name: None, columns: None, bounds: false },
        };
        factors.push(shown);
        Ok(())
    }
}

/// A relation of FROM: its name, and the columns `*` shows when they are not all it has.
struct Factor {
    name: Option<String>,
    columns: Option<Vec<String>>,
    /// The window's bounds among them have no qualifier.
    bounds: bool,
}

impl Factor {
    fn push_items(&self, items: &mut Vec<SelectItem>) {
        let Some(name) = &self.name else { return };
        let qualifier = quoted(name, AstSpan::empty());
        match &self.columns {
            Some(columns) => items.extend(columns.iter().map(|column| {
                if self.bounds && WINDOW_COLUMNS.contains(&column.as_str()) {
                    return SelectItem::UnnamedExpr(Expr::Identifier(quoted(
                        column,
                        AstSpan::empty(),
                    )));
                }
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![
                    qualifier.clone(),
                    quoted(column, AstSpan::empty()),
                ]))
            })),
            None => items.push(SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName(vec![
                    ObjectNamePart::Identifier(qualifier),
                ])),
                ast::WildcardAdditionalOptions::default(),
            )),
        }
    }
}
