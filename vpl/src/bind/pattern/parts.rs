//! Steps, groups, negations: the algebra with its conditions.

use std::collections::HashMap;
use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::pattern::{Accessor, Conjunct, Get, Not, Part, Step, Test};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};

use super::super::declarations::Declarations;
use super::super::expression::{Binder, convert_all};
use super::super::problem::{Result, error, hint, internal, unknown, unsupported};
use super::super::relations::{Relation, Relations};
use super::super::row::Row;
use super::super::source;
use super::super::value::{Value, common_of};
use super::super::walk::walk;
use super::accessors::{Named, Scope};
use super::check;
use super::options::{Options, duration, step_limit};
use crate::ast::{
    BinaryOp, Expr, ExprKind, Ident, PatternExpr, PatternKind, Quantifier, Step as Written,
};
use crate::codes;

/// A stream that is read.
pub(super) struct Source {
    pub name: String,
    pub relation: Relation,
    pub plan: LogicalPlan,
    pub row: Row,
}

/// What is known of a step.
pub(super) struct KnownStep {
    /// Its alias, or the event.
    pub name: String,
    pub event: String,
    /// Whether it may have several rows.
    pub repeated: bool,
    pub input: usize,
    /// Groups it is in whose parts exclude each other or come in any order, with its part there.
    apart: Vec<(usize, usize)>,
}

impl KnownStep {
    /// Whether a word before a dot means it.
    pub(super) fn is(&self, word: &str) -> bool {
        self.name == word || self.event == word
    }
}

/// Partition keys.
pub(super) struct Keys {
    /// Over each input.
    pub exprs: Vec<Vec<PlanExpr>>,
    pub names: Vec<KeyName>,
}

impl Keys {
    /// The name of the key that a plain field of a step is.
    pub(super) fn of(&self, accessor: &Accessor, known: &[KnownStep]) -> Option<&String> {
        let (Get::At(_), Some(of)) = (accessor.get, &accessor.of) else { return None };
        let of_input = &self.exprs[known[accessor.step].input];
        let number = of_input.iter().position(|key| key == of)?;
        self.names[number].name.as_ref()
    }
}

/// A key in the output.
pub(super) struct KeyName {
    pub name: Option<String>,
    pub span: Span,
}

/// A pattern under construction.
pub(super) struct Maker<'a> {
    pub program: &'a Declarations<'a>,
    pub relations: &'a Relations<'a>,
    pub inputs: Vec<Source>,
    pub known: Vec<KnownStep>,
    pub steps: Vec<Step>,
    pub nots: Vec<Not>,
    pub never: Vec<usize>,
    pub untils: Vec<Test>,
    pub accessors: Vec<Accessor>,
    pub warnings: Vec<Diagnostic>,
    /// Groups and parts around the present place.
    apart: Vec<(usize, usize)>,
    groups: usize,
    /// Repetitions around the present place.
    rounds: usize,
}

impl<'a> Maker<'a> {
    pub(super) fn new(program: &'a Declarations<'a>, relations: &'a Relations<'a>) -> Maker<'a> {
        Maker {
            program,
            relations,
            inputs: Vec::new(),
            known: Vec::new(),
            steps: Vec::new(),
            nots: Vec::new(),
            never: Vec::new(),
            untils: Vec::new(),
            accessors: Vec::new(),
            warnings: Vec::new(),
            apart: Vec::new(),
            groups: 0,
            rounds: 0,
        }
    }

    /// Whether one of two steps is not there, or may come later, where the other is.
    pub(super) fn are_apart(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.known[a].apart, &self.known[b].apart);
        a.iter().any(|(group, part)| b.iter().any(|(g, p)| g == group && p != part))
    }

    /// A written pattern.
    pub(super) fn pattern(&mut self, pattern: &'a PatternExpr) -> Result<Part> {
        match &pattern.kind {
            PatternKind::Step(step) => self.step(step),
            PatternKind::Seq(parts) => {
                let parts = parts.iter().map(|part| self.pattern(part));
                Ok(Part::Seq(parts.collect::<Result<_>>()?))
            }
            PatternKind::And(parts) => Ok(Part::And(self.group(parts)?)),
            PatternKind::Or(parts) => Ok(Part::Or(self.group(parts)?)),
            PatternKind::Not { inner, within } => {
                let within = within.as_ref().map(|w| duration(self.program, w)).transpose()?;
                let visible = self.known.len();
                Ok(Part::Not(self.not(inner, within, visible)?))
            }
            PatternKind::Repeat { inner, quantifier, until } => {
                self.rounds += 1;
                let first = self.known.len();
                let body = self.pattern(inner)?;
                self.rounds -= 1;
                let until = match until {
                    Some(condition) => Some(self.until_of_group(condition, first)?),
                    None => None,
                };
                repeat(body, quantifier, until)
            }
        }
    }

    fn group(&mut self, parts: &'a [PatternExpr]) -> Result<Vec<Part>> {
        self.groups += 1;
        let group = self.groups;
        let mut made = Vec::with_capacity(parts.len());
        for (number, part) in parts.iter().enumerate() {
            self.apart.push((group, number));
            made.push(self.pattern(part)?);
            self.apart.pop();
        }
        Ok(made)
    }

    /// A single step without a pattern around it.
    pub(super) fn single(
        &mut self,
        event: &'a Ident,
        alias: Option<&'a Ident>,
        condition: Option<&'a Expr>,
    ) -> Result<Part> {
        let (step, test) = self.begin_step(event, alias, condition, false)?;
        self.end_step(step, test);
        Ok(Part::Step(step))
    }

    fn step(&mut self, step: &'a Written) -> Result<Part> {
        if let Some(limit) = &step.within {
            return Err(step_limit(limit.span));
        }
        let repeated = step.quantifier.is_some();
        let alias = step.alias.as_ref();
        let (number, test) =
            self.begin_step(&step.event, alias, step.condition.as_ref(), repeated)?;
        let until = match &step.until {
            Some(condition) => {
                let (input, visible) = (self.known[number].input, number);
                let scope = Scope { visible, own: Some(number), seen_from: Some(number) };
                let test = self.test(input, Some(condition), &scope, "the condition of `until`")?;
                self.untils.push(test);
                Some(self.untils.len() - 1)
            }
            None => None,
        };
        self.end_step(number, test);
        match &step.quantifier {
            Some(quantifier) => repeat(Part::Step(number), quantifier, until),
            None => Ok(Part::Step(number)),
        }
    }

    fn begin_step(
        &mut self,
        event: &'a Ident,
        alias: Option<&'a Ident>,
        condition: Option<&'a Expr>,
        repeated: bool,
    ) -> Result<(usize, Test)> {
        let input = self.input(event)?;
        if let Some(alias) = alias
            && self.known.iter().any(|step| step.name == alias.name)
        {
            return Err(error(
                SqlState::DUPLICATE_OBJECT,
                codes::DUPLICATE_NAME,
                alias.span,
                format!("there are two steps `{}`", alias.name),
            ));
        }
        let number = self.known.len();
        self.known.push(KnownStep {
            name: alias.unwrap_or(event).name.clone(),
            event: event.name.clone(),
            repeated: repeated || self.rounds > 0,
            input,
            apart: self.apart.clone(),
        });
        let scope = Scope { visible: number, own: Some(number), seen_from: Some(number) };
        let test = self.test(input, condition, &scope, "the condition of the step")?;
        Ok((number, test))
    }

    fn end_step(&mut self, number: usize, test: Test) {
        self.steps.push(Step { name: self.known[number].name.clone(), test });
    }

    /// The position of a stream among the inputs.
    fn input(&mut self, event: &Ident) -> Result<usize> {
        if let Some(found) = self.inputs.iter().position(|input| input.name == event.name) {
            return Ok(found);
        }
        let relation = self.relations.find(event)?;
        let plan = source::leaf(&relation, true, event)?;
        let row = Row::of(&plan, Vec::new());
        self.inputs.push(Source { name: event.name.clone(), relation, plan, row });
        Ok(self.inputs.len() - 1)
    }

    /// A negated step that sees the first `visible` steps.
    fn not(
        &mut self,
        inner: &'a PatternExpr,
        within_us: Option<i64>,
        visible: usize,
    ) -> Result<usize> {
        let PatternKind::Step(step) = &inner.kind else {
            let problem = unsupported(inner.span, "the negation of several steps");
            return Err(hint(problem, "negate each of them by itself"));
        };
        if let Some(quantifier) = &step.quantifier {
            return Err(unsupported(quantifier.span, "the negation of a repetition"));
        }
        let input = self.input(&step.event)?;
        // The name of the negated step stands for the candidate row only inside its condition.
        let name = step.alias.as_ref().unwrap_or(&step.event).name.clone();
        let (event, apart) = (step.event.name.clone(), self.apart.clone());
        let own = self.known.len();
        self.known.push(KnownStep { name, event, repeated: false, input, apart });
        let scope = Scope { visible, own: Some(own), seen_from: Some(own) };
        let test = self.test(input, step.condition.as_ref(), &scope, "the condition of `not`");
        self.known.pop();
        self.nots.push(Not { test: test?, within_us });
        Ok(self.nots.len() - 1)
    }

    fn until_of_group(&mut self, condition: &'a Expr, first: usize) -> Result<usize> {
        let input = self.known.get(first).map(|step| step.input);
        let Some(input) = input.filter(|i| self.known[first..].iter().all(|s| s.input == *i))
        else {
            let problem = unsupported(condition.span, "`until` of a group over several streams");
            return Err(hint(problem, "put `until` behind a repeated step"));
        };
        let visible = self.known.len();
        let scope = Scope { visible, own: None, seen_from: None };
        let test = self.test(input, Some(condition), &scope, "the condition of `until`")?;
        self.untils.push(test);
        Ok(self.untils.len() - 1)
    }

    /// The pattern with what `.not` forbids: in every gap, or, behind a single step, until the end
    /// of the time limit.
    pub(super) fn negated_everywhere(&mut self, part: Part, options: &Options<'a>) -> Result<Part> {
        let mut part = part;
        for negated in &options.nots {
            let single = matches!(part, Part::Step(_))
                || matches!(&part, Part::Seq(parts) if matches!(parts[1..], [Part::Not(_), ..]));
            if single {
                if options.within_us.is_none() {
                    return Err(check::unlimited(negated.span));
                }
                let not = self.not(negated, None, self.known.len())?;
                part = match part {
                    Part::Seq(mut parts) => {
                        parts.push(Part::Not(not));
                        Part::Seq(parts)
                    }
                    part => Part::Seq(vec![part, Part::Not(not)]),
                };
                continue;
            }
            // Only the first step is bound in every gap.
            let first = match &part {
                Part::Seq(parts) => parts.first(),
                part => Some(part),
            };
            let visible = match first {
                Some(Part::Step(step)) => step + 1,
                Some(Part::Repeat { body, min: 1.., .. }) => match body.as_ref() {
                    Part::Step(step) => step + 1,
                    _ => 0,
                },
                _ => 0,
            };
            self.refuse_later(negated, visible)?;
            let not = self.not(negated, None, visible)?;
            self.never.push(not);
        }
        Ok(part)
    }

    /// The condition of `.not` may only name steps that are bound in each gap.
    fn refuse_later(&self, negated: &'a PatternExpr, visible: usize) -> Result<()> {
        let PatternKind::Step(step) = &negated.kind else { return Ok(()) };
        let Some(condition) = &step.condition else { return Ok(()) };
        let own = step.alias.as_ref().unwrap_or(&step.event);
        let mut later = None;
        walk(condition, &mut Vec::new(), &mut |e, locals| {
            let ExprKind::Name(word) = &e.kind else { return };
            let is_own = *word == own.name || *word == step.event.name;
            let known = self.known[visible..].iter().any(|step| step.is(word));
            let seen = self.known[..visible].iter().any(|step| step.is(word));
            if known && !is_own && !seen && !locals.contains(word) {
                later = Some((e.span, word.clone()));
            }
        });
        match later {
            None => Ok(()),
            Some((span, word)) => Err(hint(
                error(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    codes::LATER_STEP,
                    span,
                    format!("the condition refers to `{word}`, which comes later in some gap"),
                ),
                format!("put the negation behind it: `.. as {word} -> not {} where ..`", own.name),
            )),
        }
    }

    /// Rows of an input with a condition, each conjunct by itself.
    fn test(
        &mut self,
        input: usize,
        condition: Option<&'a Expr>,
        scope: &Scope,
        what: &str,
    ) -> Result<Test> {
        let mut parts = Vec::new();
        if let Some(condition) = condition {
            split(condition, &mut parts);
        }
        let conjuncts = parts.into_iter().map(|part| self.conjunct(input, part, scope, what));
        Ok(Test { input, conjuncts: conjuncts.collect::<Result<_>>()? })
    }

    fn conjunct(
        &mut self,
        input: usize,
        condition: &'a Expr,
        scope: &Scope,
        what: &str,
    ) -> Result<Conjunct> {
        let mut found: Vec<Named> = Vec::new();
        let mut problem = None;
        if let Some(previous) = self.own_previous(condition, scope) {
            let span = previous.0.span;
            found.push(((span.start, span.end), previous.1, previous.2));
        }
        walk(condition, &mut Vec::new(), &mut |e, locals| {
            let inside = |((from, to), _, _): &Named| *from <= e.span.start && e.span.end <= *to;
            if found.iter().any(inside) {
                return;
            }
            match self.accessor(e, locals, scope) {
                Ok(Some((accessor, ty))) => found.push(((e.span.start, e.span.end), accessor, ty)),
                Ok(None) => {}
                Err(why) => problem = problem.take().or(Some(why)),
            }
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        let source = &self.inputs[input];
        let mut aliases = vec![source.name.clone()];
        aliases.extend(scope.own.map(|own| self.known[own].name.clone()));
        let mut row = Row::of(&source.plan, aliases);
        let mut fields: Vec<_> =
            row.schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        let mut results = std::collections::BTreeMap::new();
        let mut not_first = false;
        for (at, accessor, ty) in found {
            let column = accessor.column();
            not_first |= scope.own == Some(accessor.step)
                && matches!(accessor.get, Get::At(at) if at < 0)
                && self.known[accessor.step].repeated;
            if !fields.iter().any(|(q, f)| *q == column.relation && *f.name() == column.name) {
                let field = ty.field(&column.name, true);
                fields.push((column.relation.clone(), Arc::new(field)));
            }
            results.insert(at, Value::leaf(PlanExpr::Column(column), ty));
            if !self.accessors.contains(&accessor) {
                self.accessors.push(accessor);
            }
        }
        let schema = DFSchema::new_with_metadata(fields, HashMap::new());
        row.schema = Arc::new(schema.map_err(|e| internal(condition.span, &e))?);
        let mut binder = Binder::new(self.program, Some(&row));
        binder.results = results;
        let value = binder.condition(condition, what)?;
        let condition = row.planned(value.expr, condition.span)?;
        Ok(Conjunct { condition, not_first })
    }

    /// `v > b.v` of the repeated step `b`: compared with itself it would be constant, so `b.v` is
    /// read as `b[-1].v`.
    fn own_previous(
        &mut self,
        condition: &'a Expr,
        scope: &Scope,
    ) -> Option<(&'a Expr, Accessor, ColumnType)> {
        let own = scope.own.filter(|own| self.known[*own].repeated)?;
        let ExprKind::Binary { op, left, right } = &condition.kind else { return None };
        use BinaryOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if !matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            return None;
        }
        let same = |name: &Expr, field: &Expr| match (&name.kind, &field.kind) {
            (ExprKind::Name(n), ExprKind::Field { base, name, .. }) => {
                *n == name.name
                    && matches!(&base.kind, ExprKind::Name(b) if *b == self.known[own].name)
            }
            _ => false,
        };
        let side = match (same(left, right), same(right, left)) {
            (true, _) => right.as_ref(),
            (_, true) => left.as_ref(),
            _ => return None,
        };
        let ExprKind::Field { name, .. } = &side.kind else { return None };
        let field = self.inputs[self.known[own].input].row.field(&name.name)?;
        let alias = self.known[own].name.clone();
        let accessor = Accessor {
            step: own,
            get: Get::At(-1),
            of: Some(PlanExpr::Column(field.column.clone())),
            data_type: field.ty.arrow(),
            name: format!("{alias}[-1].{}", name.name),
        };
        let ty = field.ty.clone();
        let message = format!(
            "`{alias}.{0}` is the row itself; it is read as the previous one, `{alias}[-1].{0}`",
            name.name
        );
        self.warnings.push(
            Diagnostic::warning(message)
                .code(codes::SUSPICIOUS)
                .hint(format!("write `{alias}[-1].{}`", name.name))
                .at(side.span),
        );
        Some((side, accessor, ty))
    }

    /// The partition keys over each input.
    pub(super) fn keys(&self, options: &Options<'a>) -> Result<Keys> {
        let mut exprs = vec![Vec::new(); self.inputs.len()];
        let mut names = Vec::new();
        for (name, key, span) in &options.keys {
            let mut values = Vec::with_capacity(self.inputs.len());
            for source in &self.inputs {
                let steps = self.known.iter().filter(|step| step.event == source.name);
                let mut aliases: Vec<String> = steps.map(|step| step.name.clone()).collect();
                aliases.push(source.name.clone());
                let row = Row::of(&source.plan, aliases);
                if let ExprKind::Name(word) = &key.kind
                    && row.field(word).is_none()
                {
                    let ident = Ident { name: word.clone(), span: key.span };
                    let (state, code) = (SqlState::UNDEFINED_COLUMN, codes::UNKNOWN_FIELD);
                    let mut problem = unknown(state, code, "field", &ident, row.names());
                    problem.message = format!("`{}` has no field `{word}`", source.name);
                    return Err(problem);
                }
                let value = Binder::new(self.program, Some(&row)).bind(key)?;
                let expr = row.planned(value.expr.clone(), key.span)?;
                values.push((Value { expr, ..value }, key.span));
            }
            let what = "the keys of the streams";
            let ty = common_of(&values, what)?;
            if matches!(ty, ColumnType::Map(..)) {
                return Err(unsupported(*span, "partitioning by a map"));
            }
            for (all, value) in exprs.iter_mut().zip(convert_all(values, &ty, what)?) {
                all.push(value.expr);
            }
            names.push(KeyName { name: name.clone(), span: *span });
        }
        Ok(Keys { exprs, names })
    }
}

fn repeat(body: Part, quantifier: &Quantifier, until: Option<usize>) -> Result<Part> {
    let number = |n: u64| {
        u32::try_from(n).map_err(|_| {
            let state = SqlState::INVALID_OBJECT_DEFINITION;
            error(state, codes::PATTERN, quantifier.span, "the bound is out of range")
        })
    };
    let (min, max) = (number(quantifier.min)?, quantifier.max.map(number).transpose()?);
    if (min, max, until) == (1, Some(1), None) {
        return Ok(body);
    }
    Ok(Part::Repeat { body: Box::new(body), min, max, until })
}

/// The parts of a conjunction.
fn split<'a>(e: &'a Expr, parts: &mut Vec<&'a Expr>) {
    match &e.kind {
        ExprKind::Binary { op: BinaryOp::And, left, right } => {
            split(left, parts);
            split(right, parts);
        }
        _ => parts.push(e),
    }
}
