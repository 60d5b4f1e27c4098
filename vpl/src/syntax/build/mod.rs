//! Pairs of the grammar to the AST: declarations.
//!
//! The grammar guarantees the shape, so the functions here take what they know is there; what the
//! grammar cannot say (ranges of numbers, chained comparisons, contradicting clauses) is checked
//! and reported with its place.

mod expr;
mod function;
mod literal;
mod pattern;
mod stream;

use auspex_plan::diagnostic::{Diagnostic, Span};
use pest::iterators::{Pair, Pairs};

use super::Rule;
use super::source::Derived;
use crate::ast::*;
use crate::codes;

type Result<T> = std::result::Result<T, Diagnostic>;

/// Builds the AST of one statement.
pub(super) struct Builder<'a> {
    source: &'a Derived,
}

impl<'a> Builder<'a> {
    pub(super) fn new(source: &'a Derived) -> Self {
        Builder { source }
    }

    /// Place of a pair without the blanks the grammar skipped after it.
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let text = pair.as_str().trim_end_matches(|c: char| c.is_whitespace() || c <= '\u{3}');
        let start = pair.as_span().start();
        self.source.span(start, start + text.len())
    }

    fn ident(&self, pair: &Pair<'_, Rule>) -> Ident {
        Ident { name: pair.as_str().to_string(), span: self.span(pair) }
    }

    /// A rule that holds one name.
    fn inner_ident(&self, pair: Pair<'_, Rule>) -> Ident {
        self.ident(&only(pair))
    }

    /// The whole statement.
    pub(super) fn statement(&self, pairs: &mut Pairs<'_, Rule>) -> Result<Statement> {
        let pair = next(pairs);
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::event_decl => StatementKind::Event(self.event(pair)?),
            Rule::type_decl => {
                let mut inner = parts_of(pair).skip(1);
                let name = self.ident(&next(&mut inner));
                StatementKind::Type(TypeDecl { name, ty: self.type_expr(next(&mut inner)) })
            }
            Rule::binding => StatementKind::Let(self.binding(pair)?),
            Rule::assign => StatementKind::Assign(self.assign(pair)?),
            Rule::fn_decl => StatementKind::Fn(self.function(pair)?),
            Rule::stream_decl => StatementKind::Stream(self.stream(pair)?),
            Rule::pattern_decl => StatementKind::Pattern(self.pattern_decl(pair)?),
            Rule::connector_decl => {
                let mut inner = parts_of(pair).skip(1);
                let name = self.ident(&next(&mut inner));
                let connector = self.ident(&next(&mut inner));
                let args = self.args(next(&mut inner))?;
                StatementKind::Connector(ConnectorDecl { name, connector, args })
            }
            Rule::context_decl => {
                let mut inner = parts_of(pair).skip(1);
                let name = self.ident(&next(&mut inner));
                let args = inner.next().map_or(Ok(Vec::new()), |args| self.args(args))?;
                StatementKind::Context(ContextDecl { name, args })
            }
            Rule::config_decl | Rule::config_block => StatementKind::Config(self.config(pair)?),
            Rule::import_decl => StatementKind::Import(self.import(pair)?),
            other => unreachable!("the grammar has no declaration {other:?}"),
        };
        Ok(Statement { kind, span })
    }

    fn event(&self, pair: Pair<'_, Rule>) -> Result<EventDecl> {
        let mut inner = parts_of(pair).skip(1);
        let name = self.ident(&next(&mut inner));
        let mut extends = None;
        let mut fields: Vec<FieldDecl> = Vec::new();
        for pair in inner {
            if pair.as_rule() == Rule::extends {
                extends = parts_of(pair).nth(1).map(|name| self.ident(&name));
                continue;
            }
            let span = self.span(&pair);
            let mut parts = parts_of(pair);
            let name = self.ident(&next(&mut parts));
            if fields.iter().any(|f| f.name.name == name.name) {
                return Err(Diagnostic::error(
                    auspex_plan::SqlState::DUPLICATE_COLUMN,
                    format!("field \"{}\" is declared twice", name.name),
                )
                .code(codes::DUPLICATE_NAME)
                .at(name.span));
            }
            fields.push(FieldDecl { name, ty: self.type_expr(next(&mut parts)), span });
        }
        Ok(EventDecl { name, extends, fields })
    }

    fn type_expr(&self, pair: Pair<'_, Rule>) -> TypeExpr {
        let span = self.span(&pair);
        let mut inner = parts_of(pair);
        let shape = next(&mut inner);
        let nullable = inner.next().is_some();
        let boxed = |pair| Box::new(self.type_expr(pair));
        let kind = match shape.as_rule() {
            Rule::array_type => TypeKind::Array(boxed(only(shape))),
            Rule::stream_type => TypeKind::Stream(boxed(only(shape))),
            Rule::map_type => {
                let mut inner = parts_of(shape);
                TypeKind::Map(boxed(next(&mut inner)), boxed(next(&mut inner)))
            }
            Rule::tuple_type => {
                TypeKind::Tuple(parts_of(shape).map(|t| self.type_expr(t)).collect())
            }
            _ => TypeKind::Named(shape.as_str().to_string()),
        };
        TypeExpr { kind, nullable, span }
    }

    fn binding(&self, pair: Pair<'_, Rule>) -> Result<Binding> {
        let mut inner = parts_of(pair);
        let kind = match next(&mut inner).as_str() {
            "let" => BindingKind::Let,
            "var" => BindingKind::Var,
            _ => BindingKind::Const,
        };
        let name = self.ident(&next(&mut inner));
        let mut ty = None;
        let mut pair = next(&mut inner);
        if pair.as_rule() == Rule::type_expr {
            ty = Some(self.type_expr(pair));
            pair = next(&mut inner);
        }
        Ok(Binding { kind, name, ty, value: self.expr(pair)? })
    }

    fn assign(&self, pair: Pair<'_, Rule>) -> Result<Assign> {
        let mut inner = parts_of(pair);
        let name = self.ident(&next(&mut inner));
        Ok(Assign { name, value: self.expr(next(&mut inner))? })
    }

    fn config(&self, pair: Pair<'_, Rule>) -> Result<ConfigDecl> {
        let mut config = ConfigDecl { name: None, args: Vec::new() };
        for pair in parts_of(pair) {
            match pair.as_rule() {
                Rule::name => config.name = Some(self.ident(&pair)),
                Rule::config_entry => {
                    let span = self.span(&pair);
                    let mut inner = parts_of(pair);
                    let name = Some(self.ident(&next(&mut inner)));
                    config.args.push(Arg { name, value: self.expr(next(&mut inner))?, span });
                }
                _ => {}
            }
        }
        Ok(config)
    }

    fn import(&self, pair: Pair<'_, Rule>) -> Result<ImportDecl> {
        let mut inner = parts_of(pair).skip(1);
        let path = next(&mut inner);
        let path_span = self.span(&path);
        Ok(ImportDecl {
            path: self.text(&path)?,
            path_span,
            alias: inner.nth(1).map(|name| self.ident(&name)),
        })
    }

    /// Arguments in parentheses.
    fn args(&self, pair: Pair<'_, Rule>) -> Result<Vec<Arg>> {
        parts_of(pair).map(|pair| self.arg(pair)).collect()
    }

    fn arg(&self, pair: Pair<'_, Rule>) -> Result<Arg> {
        let span = self.span(&pair);
        let mut inner = parts_of(pair);
        let mut pair = next(&mut inner);
        let mut name = None;
        if pair.as_rule() == Rule::arg_name {
            name = Some(self.inner_ident(pair));
            pair = next(&mut inner);
        }
        Ok(Arg { name, value: self.expr(pair)?, span })
    }
}

/// The next pair, which the grammar guarantees.
fn next<'i>(pairs: &mut impl Iterator<Item = Pair<'i, Rule>>) -> Pair<'i, Rule> {
    pairs.next().expect("the grammar guarantees this part")
}

/// The parts of a pair without the punctuation between them.
fn parts_of(pair: Pair<'_, Rule>) -> impl Iterator<Item = Pair<'_, Rule>> {
    let punctuation = |rule| {
        use Rule::*;
        matches!(rule, lp | rp | lb | rb | lc | rc | comma | col | eq | becomes | gives | to)
    };
    pair.into_inner().filter(move |p| !punctuation(p.as_rule()))
}

/// The only (or first) part of a pair.
fn only(pair: Pair<'_, Rule>) -> Pair<'_, Rule> {
    next(&mut parts_of(pair))
}

fn syntax(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::syntax(message).code(codes::SYNTAX).at(span)
}
