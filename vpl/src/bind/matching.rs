//! `match`: the first arm that fits gives the value, null when none does.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Span;

use super::expression::Binder;
use super::operators::compare;
use super::problem::Result;
use super::value::Value;
use crate::ast::{BinaryOp, Expr, ExprKind, MatchArm, MatchPattern};

impl<'a> Binder<'a> {
    pub(super) fn match_arms(
        &mut self,
        subject: &'a Expr,
        arms: &'a [MatchArm],
        span: Span,
    ) -> Result<Value> {
        let subject_value = self.bind(subject)?;
        let (mut conditions, mut values) = (Vec::new(), Vec::new());
        for arm in arms {
            let depth = self.locals.len();
            let mut tests = Vec::new();
            for pattern in &arm.patterns {
                match pattern {
                    MatchPattern::Any(_) => tests.push(None),
                    MatchPattern::Bind(name) => {
                        self.locals.push((name.name.clone(), subject_value.clone()));
                        tests.push(None);
                    }
                    MatchPattern::Value(value) => {
                        tests.push(Some(self.match_test(&subject_value, subject.span, value)?));
                    }
                }
            }
            let guard = match &arm.guard {
                Some(g) => Some(self.condition(g, "the guard of `match`")?),
                None => None,
            };
            let value = (self.bind(&arm.value)?, arm.value.span);
            self.locals.truncate(depth);
            // One alternative that fits always makes the others irrelevant.
            let test = if tests.iter().any(Option::is_none) {
                None
            } else {
                tests.into_iter().flatten().reduce(|a, b| {
                    Value::new(a.expr.clone().or(b.expr.clone()), ColumnType::Boolean, &[&a, &b])
                })
            };
            let condition = match (test, guard) {
                (Some(t), Some(g)) => Some(Value::new(
                    t.expr.clone().and(g.expr.clone()),
                    ColumnType::Boolean,
                    &[&t, &g],
                )),
                (test, guard) => test.or(guard),
            };
            values.push(value);
            match condition {
                Some(c) => conditions.push(c),
                None => return self.case_or_value(conditions, values),
            }
        }
        values.push((Value::null(), span));
        self.case_or_value(conditions, values)
    }

    fn case_or_value(
        &mut self,
        conditions: Vec<Value>,
        mut values: Vec<(Value, Span)>,
    ) -> Result<Value> {
        match (conditions.is_empty(), values.pop()) {
            (true, Some((only, _))) => Ok(only),
            (_, last) => {
                values.extend(last);
                self.case(conditions, values, "the arms of `match`")
            }
        }
    }

    fn match_test(&mut self, subject: &Value, at: Span, pattern: &'a Expr) -> Result<Value> {
        match &pattern.kind {
            ExprKind::Null => {
                Ok(Value::new(subject.expr.clone().is_null(), ColumnType::Boolean, &[subject]))
            }
            ExprKind::Range { from, to, inclusive } => {
                let subject = (subject.clone(), at);
                self.in_range(subject, (from, to, *inclusive), pattern.span)
            }
            _ => {
                let value = self.bind(pattern)?;
                let here = pattern.span;
                compare(BinaryOp::Eq, (subject.clone(), at), (value, here), here)
            }
        }
    }
}
