//! Visits every expression inside an expression.

use crate::ast::{Expr, ExprKind, MatchPattern};

/// Calls `visit` for `e` and everything inside it, with the lambda parameters in sight.
pub(super) fn walk<'a>(
    e: &'a Expr,
    locals: &mut Vec<String>,
    visit: &mut impl FnMut(&'a Expr, &[String]),
) {
    visit(e, locals);
    match &e.kind {
        ExprKind::Null
        | ExprKind::Bool(_)
        | ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Str(_)
        | ExprKind::Duration(_)
        | ExprKind::Timestamp(_)
        | ExprKind::Name(_) => {}
        ExprKind::Array(items) => items.iter().for_each(|i| walk(i, locals, visit)),
        ExprKind::Map(entries) => entries.iter().for_each(|(_, v)| walk(v, locals, visit)),
        ExprKind::Field { base, .. } => walk(base, locals, visit),
        ExprKind::Index { base, index } => {
            walk(base, locals, visit);
            walk(index, locals, visit);
        }
        ExprKind::Slice { base, from, to } => {
            walk(base, locals, visit);
            from.iter().chain(to).for_each(|e| walk(e, locals, visit));
        }
        ExprKind::Call { args, .. } => args.iter().for_each(|a| walk(&a.value, locals, visit)),
        ExprKind::Method { base, args, .. } => {
            walk(base, locals, visit);
            args.iter().for_each(|a| walk(&a.value, locals, visit));
        }
        ExprKind::Filter { call, condition } => {
            walk(call, locals, visit);
            walk(condition, locals, visit);
        }
        ExprKind::Unary { operand, .. } | ExprKind::IsNull { operand, .. } => {
            walk(operand, locals, visit);
        }
        ExprKind::Binary { left, right, .. } => {
            walk(left, locals, visit);
            walk(right, locals, visit);
        }
        ExprKind::In { operand, container, .. } => {
            walk(operand, locals, visit);
            walk(container, locals, visit);
        }
        ExprKind::Range { from, to, .. } => {
            walk(from, locals, visit);
            walk(to, locals, visit);
        }
        ExprKind::If { condition, then, otherwise } => {
            walk(condition, locals, visit);
            walk(then, locals, visit);
            walk(otherwise, locals, visit);
        }
        ExprKind::Match { subject, arms } => {
            walk(subject, locals, visit);
            for arm in arms {
                let depth = locals.len();
                for pattern in &arm.patterns {
                    match pattern {
                        MatchPattern::Any(_) => {}
                        MatchPattern::Bind(name) => locals.push(name.name.clone()),
                        MatchPattern::Value(value) => walk(value, locals, visit),
                    }
                }
                arm.guard.iter().for_each(|g| walk(g, locals, visit));
                walk(&arm.value, locals, visit);
                locals.truncate(depth);
            }
        }
        ExprKind::Lambda { params, bindings, body } => {
            let depth = locals.len();
            locals.extend(params.iter().map(|p| p.name.clone()));
            for binding in bindings {
                walk(&binding.value, locals, visit);
                locals.push(binding.name.name.clone());
            }
            walk(body, locals, visit);
            locals.truncate(depth);
        }
    }
}
