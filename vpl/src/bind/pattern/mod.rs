//! Patterns: the steps of `A as a -> B as b`, of `sequence(..)` and of named patterns, with the
//! operations that belong to them, as a [`StreamPattern`].
//!
//! The values that operations name (`a.id`, `count(b)`, ..) become columns of the node, so the rest
//! of the chain is bound over an ordinary row.

mod accessors;
mod check;
mod options;
mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::nodes::StreamPattern;
use auspex_plan::pattern::{Automaton, Measure, Misshapen, Part, Pattern, Strategy};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr as PlanExpr, Extension, LogicalPlan};

use self::accessors::{Named, Scope};
use self::options::Options;
use self::parts::{Keys, Maker};
use super::chain::{Chain, Key, has_op};
use super::declarations::Declarations;
use super::problem::{Result, error, hint, internal, unsupported};
use super::relations::Relations;
use super::source;
use super::value::Value;
use super::walk::walk;
use crate::ast::{Arg, Expr, Ident, Op, OpArgs, PatternDecl, PatternExpr, StreamDecl};
use crate::codes;

/// What is written where the source of a stream stands.
pub(super) enum Root<'a> {
    /// `A -> B`, `sequence(..)`.
    Pattern(&'a PatternExpr),
    /// A single event type with operations of patterns: name, alias, condition.
    Step(&'a Ident, Option<&'a Ident>, Option<&'a Expr>),
    /// The name of a `pattern`.
    Named(&'a PatternDecl),
}

/// Whether the operations of a single event type are those of a pattern.
pub(super) fn is_meant(decl: &StreamDecl) -> bool {
    ["not", "strategy", "after_match", "emit_each", "max_matches"]
        .iter()
        .any(|name| has_op(&decl.ops, name))
}

/// The pattern with its operations as the beginning of a chain.
pub(super) fn bind<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    decl: &'a StreamDecl,
    root: Root<'a>,
) -> std::result::Result<Chain<'a>, Vec<Diagnostic>> {
    let (searched, named) = match &root {
        Root::Pattern(pattern) => (Some(*pattern), None),
        Root::Named(declared) => (Some(&declared.pattern), Some(*declared)),
        Root::Step(..) => (None, None),
    };
    let limited = has_op(&decl.ops, "within") || named.is_some_and(|n| n.within.is_some());
    if let Some(pattern) = searched {
        let problems = check::problems(program, relations, decl, pattern, limited);
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    let bound = Options::read(program, decl, named).and_then(|options| {
        let mut maker = Maker::new(program, relations);
        let part = match root {
            Root::Pattern(pattern) => maker.pattern(pattern)?,
            Root::Named(declared) => maker.pattern(&declared.pattern)?,
            Root::Step(event, alias, condition) => maker.single(event, alias, condition)?,
        };
        let span = searched.map_or(decl.source.span, |pattern| pattern.span);
        finish(maker, part, &options, decl, span)
    });
    bound.map_err(|problem| vec![*problem])
}

/// The node and the row it gives.
fn finish<'a>(
    mut maker: Maker<'a>,
    part: Part,
    options: &Options<'a>,
    decl: &'a StreamDecl,
    span: Span,
) -> Result<Chain<'a>> {
    let root = maker.negated_everywhere(part, options)?;
    let keys = maker.keys(options)?;
    let (results, mut outputs) = measures(&maker, &root, &keys, decl)?;
    let pattern = Pattern {
        root,
        steps: std::mem::take(&mut maker.steps),
        nots: std::mem::take(&mut maker.nots),
        never: std::mem::take(&mut maker.never),
        untils: std::mem::take(&mut maker.untils),
        accessors: std::mem::take(&mut maker.accessors),
        strategy: options.strategy,
        after: options.after,
        emit_each: options.emit_each,
        within_us: options.within_us,
        within_rows: None,
        max_matches: options.max_matches,
    };
    bounded(&pattern, span)?;
    for (number, key) in keys.names.iter().enumerate() {
        if let Some(name) = &key.name {
            outputs.push((name.clone(), Measure::Key(number)));
        }
    }
    outputs.push(("match_start".into(), Measure::Start));
    outputs.push(("match_end".into(), Measure::End));
    let inputs = maker.inputs.iter().map(|input| input.plan.clone()).collect();
    let node = StreamPattern::try_new(inputs, pattern, keys.exprs, outputs)
        .map_err(|e| internal(span, &e))?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let names = maker.known.iter().map(|step| step.name.clone()).collect();
    let mut chain = source::chain((maker.program, maker.relations), plan, names);
    chain.bindings = maker.inputs.iter().map(|i| (i.name.clone(), i.relation.id)).collect();
    for key in keys.names {
        let field = key.name.as_ref().and_then(|name| chain.row.field(name));
        let value = field.map(|f| Value::leaf(PlanExpr::Column(f.column.clone()), f.ty.clone()));
        chain.keys.push(Key { name: key.name, value, span: key.span });
    }
    chain.results = results;
    chain.taken.clone_from(&options.taken);
    chain.warnings = maker.warnings;
    Ok(chain)
}

/// The end of an endless search is known at creation.
fn bounded(pattern: &Pattern, span: Span) -> Result<()> {
    let refuse = |code, message: &str, help: &str| {
        let state = SqlState::INVALID_OBJECT_DEFINITION;
        Err(hint(error(state, code, span, message), help))
    };
    let automaton = match Automaton::new(pattern) {
        Ok(automaton) => automaton,
        Err(Misshapen::Empty) => {
            let help = "at least one step must not be optional";
            return refuse(codes::PATTERN, "the pattern matches without any row", help);
        }
        Err(Misshapen::TooLarge) => {
            let help = "a smaller upper bound, or `{n,}`, needs fewer states";
            return refuse(codes::PATTERN, "the pattern has more than 20000 states", help);
        }
        Err(Misshapen::TooWide) => {
            let help = "use fewer alternatives";
            let message = "after one row there are more than 64 ways to go on";
            return refuse(codes::PATTERN, message, help);
        }
        Err(Misshapen::NotAtEnd) => {
            let problem = unsupported(span, "a `not` at the beginning or end of a group");
            return Err(hint(problem, "put it between two steps, or at the end of the pattern"));
        }
        Err(Misshapen::InAnyOrder) => {
            let problem = unsupported(span, "a `not` or `until` inside of `and`");
            return Err(hint(problem, "negate outside of the group, or with `.not(..)`"));
        }
        Err(Misshapen::NotAfterRepeat) => {
            let problem = unsupported(span, "a final `not` behind a repetition without end");
            return Err(hint(problem, "give the repetition a fixed number: `B{2}`"));
        }
    };
    if !automaton.leading.is_empty() && pattern.within_us.is_none() {
        let help = "add `.within(5m)`: it is looked for that long before the last row";
        let message = "a `not` at the beginning needs a time limit";
        return refuse(codes::ABSENCE_WITHOUT_LIMIT, message, help);
    }
    let all_kept = pattern.strategy == Strategy::Any && repeats_without_end(&pattern.root);
    if all_kept && pattern.within_us.is_none() {
        let help = "add `.within(5m)`, or an upper bound such as `B{1,5}`";
        let message = "strategy `any` keeps every subset of a repetition without end for ever";
        return refuse(codes::UNBOUNDED, message, help);
    }
    let never_closed = pattern.strategy == Strategy::Next && ends_without_end(&pattern.root);
    if never_closed && !pattern.emit_each && pattern.within_us.is_none() {
        let help = "add `.within(5m)`, `until ..`, an upper bound or `.emit_each()`";
        let message = "a repetition at the end of the pattern is never known to be complete";
        return refuse(codes::UNBOUNDED, message, help);
    }
    Ok(())
}

fn repeats_without_end(part: &Part) -> bool {
    match part {
        Part::Step(_) | Part::Not(_) => false,
        Part::Seq(parts) | Part::Or(parts) | Part::And(parts) => {
            parts.iter().any(repeats_without_end)
        }
        Part::Repeat { body, max, .. } => max.is_none() || repeats_without_end(body),
    }
}

/// Whether a match may end in a repetition that nothing closes.
fn ends_without_end(part: &Part) -> bool {
    match part {
        Part::Step(_) | Part::Not(_) => false,
        Part::Or(parts) | Part::And(parts) => parts.iter().any(ends_without_end),
        Part::Seq(parts) => {
            let optional = |part: &&Part| matches!(part, Part::Repeat { min: 0, .. });
            let mut last = parts.iter().rev();
            for part in last.by_ref() {
                if ends_without_end(part) {
                    return true;
                }
                if !optional(&part) {
                    return false;
                }
            }
            false
        }
        Part::Repeat { body, max, until, .. } => {
            (max.is_none() && until.is_none()) || ends_without_end(body)
        }
    }
}

/// Whether a step has a row in every match.
fn always(part: &Part, step: usize) -> bool {
    match part {
        Part::Step(own) => *own == step,
        Part::Not(_) => false,
        Part::Or(parts) => parts.iter().all(|part| always(part, step)),
        Part::Seq(parts) | Part::And(parts) => parts.iter().any(|part| always(part, step)),
        Part::Repeat { body, min, .. } => *min > 0 && always(body, step),
    }
}

/// Values that operations name, by the place of the name.
type Results = BTreeMap<(usize, usize), Value>;

/// Output columns for all values that the operations name, up to the first that makes fields of
/// its own.
fn measures<'a>(
    maker: &Maker<'a>,
    root: &Part,
    keys: &Keys,
    decl: &'a StreamDecl,
) -> Result<(Results, Vec<(String, Measure)>)> {
    let mut results = BTreeMap::new();
    let mut outputs: Vec<(String, Measure)> = Vec::new();
    let mut shown = false;
    for op in &decl.ops {
        let name = op.name.name.as_str();
        for arg in args(op) {
            for (at, accessor, ty) in values(maker, &arg.value)? {
                let key = keys.of(&accessor, &maker.known).filter(|_| always(root, accessor.step));
                let name = key.unwrap_or(&accessor.name).clone();
                let column = PlanExpr::Column(Column::new_unqualified(name.clone()));
                results.insert(at, Value::leaf(column, ty));
                if key.is_some() {
                    continue;
                }
                let measure = Measure::Accessor(accessor);
                if !outputs.iter().any(|(_, m)| *m == measure) {
                    outputs.push((name, measure));
                }
            }
        }
        if matches!(name, "emit" | "select") {
            shown = true;
            break;
        }
        if matches!(name, "window" | "aggregate" | "collect" | "map" | "process") {
            let problem = unsupported(op.span, format!("`.{name}` directly behind a pattern"));
            return Err(hint(problem, "say what a match is first: `.emit(name: a.field, ..)`"));
        }
    }
    if !shown {
        let problem = unsupported(decl.name.span, "a pattern without `.emit`");
        return Err(hint(problem, "say what comes out: `.emit(name: a.field, ..)`"));
    }
    Ok((results, outputs))
}

/// The expressions of an operation over matches.
fn args(op: &Op) -> &[Arg] {
    let of_pattern = options::OPERATIONS.contains(&op.name.name.as_str());
    match &op.args {
        OpArgs::Args(args) | OpArgs::Emit { args, .. } if !of_pattern => args,
        _ => &[],
    }
}

/// The outermost values of a match in an expression.
fn values<'a>(maker: &Maker<'a>, expr: &'a Expr) -> Result<Vec<Named>> {
    let scope = Scope { visible: maker.known.len(), own: None, seen_from: None };
    let mut found: Vec<Named> = Vec::new();
    let mut problem = None;
    walk(expr, &mut Vec::new(), &mut |e, locals| {
        let inside = |((from, to), _, _): &Named| *from <= e.span.start && e.span.end <= *to;
        if found.iter().any(inside) {
            return;
        }
        match maker.accessor(e, locals, &scope) {
            Ok(Some((accessor, ty))) => found.push(((e.span.start, e.span.end), accessor, ty)),
            Ok(None) => {}
            Err(why) => problem = problem.take().or(Some(why)),
        }
    });
    problem.map_or(Ok(found), Err)
}
