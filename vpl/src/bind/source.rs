//! Where a stream's rows come from: a relation, or several of them merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::Diagnostic;
use auspex_plan::query::OnError;
use auspex_plan::relation::SYSTEM_COLUMNS;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::logical_expr::{
    Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder, Projection, Union, lit,
};

use super::chain::Chain;
use super::declarations::Declarations;
use super::pattern::Root;
use super::problem::{Result, internal, mismatch, unsupported};
use super::relations::{Relation, Relations};
use super::row::Row;
use super::value::{cast, common, is_number};
use super::{joins, operations, pattern};
use crate::ast::{Ident, Input, Source, SourceKind, StreamDecl};

/// The beginning of a chain.
pub(super) fn bind<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    decl: &'a StreamDecl,
    system: bool,
) -> std::result::Result<Chain<'a>, Vec<Diagnostic>> {
    let source = &decl.source;
    if let SourceKind::Relation { name, .. } = &source.kind
        && let Some(declared) = program.patterns.get(name.name.as_str())
    {
        return pattern::bind(program, relations, decl, Root::Named(declared));
    }
    let bound = match &source.kind {
        SourceKind::Relation { name, alias, condition } if pattern::is_meant(decl) => {
            let root = Root::Step(name, alias.as_ref(), condition.as_ref());
            return pattern::bind(program, relations, decl, root);
        }
        SourceKind::Relation { name, alias, condition } => {
            scan(program, relations, name, alias.as_ref(), system).and_then(|mut chain| {
                if let Some(condition) = condition {
                    chain.filter(condition, "the condition of `where`")?;
                }
                Ok(chain)
            })
        }
        SourceKind::Merge(inputs) => return merge(program, relations, source, inputs, system),
        SourceKind::Join { kind, inputs } => {
            return joins::bind(program, relations, decl, (*kind, inputs), system);
        }
        // Refused before, with better words; these are for completeness.
        SourceKind::Timer(_) => Err(unsupported(source.span, "a timer")),
        SourceKind::Pattern(searched) => {
            return pattern::bind(program, relations, decl, Root::Pattern(searched));
        }
    };
    bound.map_err(|problem| vec![*problem])
}

pub(super) fn chain<'a>(
    (program, relations): (&'a Declarations<'a>, &'a Relations<'a>),
    plan: LogicalPlan,
    aliases: Vec<String>,
) -> Chain<'a> {
    Chain {
        program,
        relations,
        row: Row::of(&plan, aliases),
        plan,
        bindings: BTreeMap::new(),
        keys: Vec::new(),
        on_error: OnError::default(),
        watermark: false,
        window: None,
        lateness: None,
        closed: None,
        aggregated: false,
        ahead: &[],
        taken: Vec::new(),
        results: BTreeMap::new(),
        warnings: Vec::new(),
        projected: false,
        problems: Vec::new(),
    }
}

fn scan<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    name: &'a Ident,
    alias: Option<&'a Ident>,
    system: bool,
) -> Result<Chain<'a>> {
    let relation = relations.find(name)?;
    let plan = leaf(&relation, system, name)?;
    let mut aliases = vec![name.name.clone()];
    aliases.extend(alias.map(|a| a.name.clone()));
    let mut chain = chain((program, relations), plan, aliases);
    chain.bindings.insert(name.name.clone(), relation.id);
    Ok(chain)
}

pub(super) fn leaf(relation: &Relation, system: bool, name: &Ident) -> Result<LogicalPlan> {
    let source = Arc::new(relation.source(system));
    let table = TableReference::bare(relation.name.clone());
    let scan = LogicalPlanBuilder::scan(table, source, None).and_then(LogicalPlanBuilder::build);
    scan.map_err(|e| internal(name.span, &e))
}

/// `merge(A, B, ..)`: the union of the columns by name, null where an input lacks one.
fn merge<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    source: &'a Source,
    inputs: &'a [Input],
    system: bool,
) -> std::result::Result<Chain<'a>, Vec<Diagnostic>> {
    let (mut chains, mut problems) = (Vec::new(), Vec::new());
    for input in inputs {
        match branch(program, relations, input, system) {
            Ok(chain) => chains.push((input, chain)),
            Err(found) => problems.push(*found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let columns = union_columns(&chains).map_err(|p| vec![*p])?;
    let mut merged = chain((program, relations), LogicalPlan::default(), Vec::new());
    let mut plans = Vec::with_capacity(chains.len());
    for (input, branch) in chains {
        merged.bindings.extend(branch.bindings.clone());
        if branch.row.system_wanted.get() {
            merged.row.system_wanted.set(true);
        }
        plans.push(Arc::new(aligned(branch, &columns, input).map_err(|p| vec![*p])?));
    }
    let plan = match plans.len() {
        1 => plans.remove(0).as_ref().clone(),
        _ => {
            LogicalPlan::Union(Union::try_new(plans).map_err(|e| vec![*internal(source.span, &e)])?)
        }
    };
    merged.set_plan(plan);
    Ok(merged)
}

fn branch<'a>(
    program: &'a Declarations<'a>,
    relations: &'a Relations<'a>,
    input: &'a Input,
    system: bool,
) -> Result<Chain<'a>> {
    let mut chain = scan(program, relations, &input.relation, input.label.as_ref(), system)?;
    for op in &input.ops {
        match op.name.name.as_str() {
            "where" | "filter" => operations::apply(&mut chain, op)?,
            other => {
                return Err(super::problem::hint(
                    unsupported(op.span, format!("`.{other}` inside `merge`")),
                    "make it a stream of its own and merge that",
                ));
            }
        }
    }
    Ok(chain)
}

/// Name and type of every column, in order of first appearance.
fn union_columns(chains: &[(&Input, Chain<'_>)]) -> Result<Vec<(String, ColumnType)>> {
    let mut columns: Vec<(String, ColumnType)> = Vec::new();
    for (input, chain) in chains {
        for field in &chain.row.fields {
            let Some((_, ty)) = columns.iter_mut().find(|(name, _)| *name == field.name) else {
                columns.push((field.name.clone(), field.ty.clone()));
                continue;
            };
            let (a, b) = (ty.vpl_name(), field.ty.vpl_name());
            // An int and a float are different columns that happen to share a name.
            let same = !(is_number(ty) && is_number(&field.ty)) || a == b;
            match common(ty, &field.ty).filter(|_| same) {
                Some(both) => *ty = both,
                None => {
                    return Err(mismatch(
                        input.span,
                        format!(
                            "field `{}` is `{a}` in one input and `{b}` in another",
                            field.name
                        ),
                    ));
                }
            }
        }
    }
    Ok(columns)
}

/// The branch with exactly these columns.
fn aligned(
    chain: Chain<'_>,
    columns: &[(String, ColumnType)],
    input: &Input,
) -> Result<LogicalPlan> {
    let fits = chain.row.system.is_empty()
        && chain.row.fields.len() == columns.len()
        && chain.row.fields.iter().zip(columns).all(|(f, (n, t))| f.name == *n && f.ty == *t);
    if fits {
        return Ok(chain.plan);
    }
    let mut expressions = Vec::with_capacity(columns.len());
    for (name, ty) in columns {
        expressions.push(match chain.row.fields.iter().find(|f| f.name == *name) {
            Some(f) if f.ty == *ty => PlanExpr::Column(f.column.clone()),
            Some(f) => cast(PlanExpr::Column(f.column.clone()), &ty.arrow()).alias(name),
            None => {
                let null = ScalarValue::try_from(&ty.arrow());
                lit(null.map_err(|e| internal(input.span, &e))?).alias(name)
            }
        });
    }
    let system = chain.row.system.iter().filter(|f| SYSTEM_COLUMNS.contains(&f.name.as_str()));
    expressions.extend(system.map(|f| PlanExpr::Column(f.column.clone())));
    let projection = Projection::try_new(expressions, Arc::new(chain.plan));
    projection.map(LogicalPlan::Projection).map_err(|e| internal(input.span, &e))
}
