//! Functions and the statements in their bodies.

use auspex_plan::diagnostic::{Diagnostic, SqlState};
use pest::iterators::Pair;

use super::{Builder, Result, next, only, parts_of};
use crate::ast::*;
use crate::codes;
use crate::syntax::Rule;

impl Builder<'_> {
    pub(super) fn function(&self, pair: Pair<'_, Rule>) -> Result<FnDecl> {
        let mut inner = parts_of(pair).skip(1);
        let name = self.ident(&next(&mut inner));
        let mut params: Vec<ParamDecl> = Vec::new();
        for pair in parts_of(next(&mut inner)) {
            let mut parts = parts_of(pair);
            let name = self.ident(&next(&mut parts));
            if params.iter().any(|p| p.name.name == name.name) {
                return Err(Diagnostic::error(
                    SqlState::DUPLICATE_OBJECT,
                    format!("parameter \"{}\" is declared twice", name.name),
                )
                .code(codes::DUPLICATE_NAME)
                .at(name.span));
            }
            params.push(ParamDecl { name, ty: parts.next().map(|t| self.type_expr(t)) });
        }
        let mut pair = next(&mut inner);
        let mut returns = None;
        if pair.as_rule() == Rule::type_expr {
            returns = Some(self.type_expr(pair));
            pair = next(&mut inner);
        }
        Ok(FnDecl { name, params, returns, body: self.block(pair)? })
    }

    fn block(&self, pair: Pair<'_, Rule>) -> Result<Vec<Local>> {
        parts_of(pair).map(|pair| self.local(only(pair))).collect()
    }

    fn local(&self, pair: Pair<'_, Rule>) -> Result<Local> {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::binding => LocalKind::Let(self.binding(pair)?),
            Rule::assign => LocalKind::Assign(self.assign(pair)?),
            Rule::if_local => self.if_local(pair)?,
            Rule::for_local => {
                let mut inner = parts_of(pair).skip(1);
                let var = self.ident(&next(&mut inner));
                let iterable = self.expr(next(&mut inner.by_ref().skip(1)))?;
                LocalKind::For { var, iterable, body: self.block(next(&mut inner))? }
            }
            Rule::while_local => {
                let mut inner = parts_of(pair).skip(1);
                let condition = self.expr(next(&mut inner))?;
                LocalKind::While { condition, body: self.block(next(&mut inner))? }
            }
            Rule::break_local => LocalKind::Break,
            Rule::continue_local => LocalKind::Continue,
            Rule::return_local => {
                LocalKind::Return(parts_of(pair).nth(1).map(|e| self.expr(e)).transpose()?)
            }
            Rule::emit_local => {
                let mut inner = parts_of(pair).skip(1);
                let ty = self.ident(&next(&mut inner));
                LocalKind::Emit { ty, args: self.args(next(&mut inner))? }
            }
            _ => LocalKind::Expr(self.expr(pair)?),
        };
        Ok(Local { kind, span })
    }

    fn if_local(&self, pair: Pair<'_, Rule>) -> Result<LocalKind> {
        let mut inner = parts_of(pair).skip(1);
        let mut branches = vec![(self.expr(next(&mut inner))?, self.block(next(&mut inner))?)];
        let mut otherwise = None;
        for pair in inner {
            let elif = pair.as_rule() == Rule::elif_branch;
            let mut parts = parts_of(pair).skip(1);
            if elif {
                branches.push((self.expr(next(&mut parts))?, self.block(next(&mut parts))?));
            } else {
                otherwise = Some(self.block(next(&mut parts))?);
            }
        }
        Ok(LocalKind::If { branches, otherwise })
    }
}
