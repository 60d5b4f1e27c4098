//! Joins over time in FROM: `WITHIN`, `ASOF JOIN`, `FOR SYSTEM_TIME AS OF`.

use auspex_plan::Diagnostic;
use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Join, JoinConstraint,
    JoinOperator, ObjectName, Spanned, TableFactor,
};
use sqlparser::tokenizer::Span as AstSpan;

use super::Result;
use super::context::Reader;
use super::from::function_mark;
use super::resolve::{Resolver, quoted};
use crate::marks::{self, mark, unmark};

impl Resolver<'_> {
    /// Gives the joins of a FROM item conditions that DataFusion can plan; see [`marks`].
    pub(super) fn joins(&self, from: &mut ast::TableWithJoins) -> Result<()> {
        if let Some(hint) = join_hints(&mut from.relation).first() {
            return Err(Diagnostic::syntax("WITHIN and FOR SYSTEM_TIME belong to a join")
                .at_opt(self.at(hint.span())));
        }
        for join in &mut from.joins {
            self.join(join)?;
        }
        Ok(())
    }

    fn join(&self, join: &mut Join) -> Result<()> {
        use JoinOperator as J;
        let hints = join_hints(&mut join.relation);
        let mut left = false;
        let mut conditions = Vec::new();
        let mut place = AstSpan::empty();
        for hint in hints {
            match &hint {
                Expr::Identifier(_) => left = true,
                other => {
                    place = other.span();
                    conditions.push(hint);
                }
            }
        }
        if let J::AsOf { match_condition, constraint } = &mut join.join_operator {
            place = match_condition.span();
            conditions.push(call("asof", match_condition.clone()));
            let constraint = std::mem::replace(constraint, JoinConstraint::None);
            join.join_operator = if left { J::LeftOuter(constraint) } else { J::Inner(constraint) };
        }
        if conditions.is_empty() {
            return Ok(());
        }
        if self.reader == Reader::Terminating {
            return Err(self.refuse("a join over time needs a continuous query", place).hint(
                "Use it in CREATE STREAM .. AS; in a SELECT write the condition on time out.",
            ));
        }
        let (J::Join(constraint)
        | J::Inner(constraint)
        | J::Left(constraint)
        | J::LeftOuter(constraint)
        | J::Right(constraint)
        | J::RightOuter(constraint)
        | J::FullOuter(constraint)) = &mut join.join_operator
        else {
            return Err(self.refuse("this kind of join cannot have WITHIN", place));
        };
        match constraint {
            JoinConstraint::On(condition) => conditions.insert(0, condition.clone()),
            JoinConstraint::None => {}
            JoinConstraint::Using(_) | JoinConstraint::Natural => {
                return Err(self
                    .refuse("USING is not supported in a join with a condition on time", place)
                    .hint("Write ON a.k = b.k."));
            }
        }
        let all = conditions.into_iter().reduce(|a, b| Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(a))),
            op: ast::BinaryOperator::And,
            right: Box::new(Expr::Nested(Box::new(b))),
        });
        if let Some(all) = all {
            *constraint = JoinConstraint::On(all);
        }
        Ok(())
    }
}

/// Takes the marks of a join off a relation.
fn join_hints(relation: &mut TableFactor) -> Vec<Expr> {
    let TableFactor::Table { with_hints, .. } = relation else { return Vec::new() };
    let (own, rest) = std::mem::take(with_hints).into_iter().partition(|hint| match hint {
        Expr::Identifier(i) => unmark(&i.value) == Some(marks::LEFT),
        Expr::Function(f) => function_mark(f)
            .is_some_and(|(name, _)| name == marks::WITHIN || name == marks::SYSTEM_TIME),
        _ => false,
    });
    *with_hints = rest;
    own
}

/// A marked function around an expression.
fn call(name: &str, argument: Expr) -> Expr {
    let span = argument.span();
    Expr::Function(Function {
        name: ObjectName(vec![ast::ObjectNamePart::Identifier(quoted(&mark(name), span))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
