//! `.enrich(table, key: e, fields: [a, b])`: fields of the row that a table or materialized view has
//! for a key at the place of the stream's row in the log; null where it has none.

use auspex_plan::diagnostic::SqlState;
use auspex_plan::nodes::{JoinTime, StreamJoin};
use datafusion::common::JoinType;
use datafusion::logical_expr::Expr as PlanExpr;

use super::chain::Chain;
use super::joins::without_change;
use super::problem::{Result, arguments, error, hint, internal, missing, unknown, unsupported};
use super::relations::Relation;
use super::row::{Field, Row};
use super::source;
use super::value::{Value, coerce};
use crate::ast::{Arg, Expr, ExprKind, Ident, Op};
use crate::codes;

/// The arguments.
struct Arguments<'a> {
    table: Ident,
    key: &'a Expr,
    fields: Option<Vec<Ident>>,
}

impl<'a> Arguments<'a> {
    fn read(op: &'a Op, args: &'a [Arg]) -> Result<Arguments<'a>> {
        let (mut table, mut key, mut fields) = (None, None, None);
        for arg in args {
            match arg.name.as_ref().map(|n| n.name.as_str()) {
                None if table.is_none() => table = Some(named(&arg.value, "the name of a table")?),
                Some("key") => key = Some(&arg.value),
                Some("fields") => {
                    let ExprKind::Array(names) = &arg.value.kind else {
                        return Err(arguments(arg.value.span, "`fields` is a list of fields"));
                    };
                    let names = names.iter().map(|n| named(n, "the name of a field"));
                    fields = Some(names.collect::<Result<Vec<_>>>()?);
                }
                Some("cache_ttl" | "timeout" | "fallback") => {
                    return Err(unsupported(arg.span, "this argument of `.enrich`"));
                }
                _ => {
                    let name = arg.name.clone().unwrap_or_else(|| op.name.clone());
                    let known = ["key", "fields"];
                    let (state, code) = (SqlState::INVALID_PARAMETER_VALUE, codes::ARGUMENTS);
                    return Err(missing(state, code, "`.enrich`", "argument", &name, known));
                }
            }
        }
        match (table, key) {
            (Some(table), Some(key)) => Ok(Arguments { table, key, fields }),
            _ => Err(hint(
                arguments(op.span, "`.enrich` takes a table and a key"),
                "`.enrich(customers, key: customer_id, fields: [name])`",
            )),
        }
    }
}

fn named(expr: &Expr, what: &str) -> Result<Ident> {
    match &expr.kind {
        ExprKind::Name(name) | ExprKind::Str(name) => {
            Ok(Ident { name: name.clone(), span: expr.span })
        }
        _ => Err(arguments(expr.span, format!("{what} is needed here"))),
    }
}

/// `.enrich(..)`
pub(super) fn enrich<'a>(chain: &mut Chain<'a>, op: &'a Op, args: &'a [Arg]) -> Result<()> {
    let Arguments { table: name, key, fields } = Arguments::read(op, args)?;
    let table = chain.relations.find_any(&name)?;
    let Some(&[at]) = table.key.as_deref() else {
        return Err(hint(
            error(
                SqlState::WRONG_OBJECT_TYPE,
                codes::UNKNOWN_RELATION,
                name.span,
                format!("`{}` is not a table or view with a key of one column", name.name),
            ),
            "several columns are compared by `left_join(stream, table).on(..)`",
        ));
    };
    let right = source::leaf(&table, false, &name)?;
    let row = Row::of(&right, Vec::new());
    let column = row.fields[at].clone();
    let wanted = wanted(&table, at, &row, fields)?;
    let left = coerce(chain.value(key)?, &column.ty, key.span, "the key")?;
    let left = chain.planned(left.expr, key.span)?;
    let identity = PlanExpr::Column(column.column);
    let mut fields = chain.current();
    let of = |f: Field| (f.name, Value::leaf(PlanExpr::Column(f.column), f.ty));
    let system: Vec<Field> = chain.row.system.clone();
    let join = StreamJoin::try_new(
        chain.plan.clone(),
        right,
        JoinType::Left,
        JoinTime::Lookup,
        vec![(left, identity.clone())],
        None,
        vec![identity],
    );
    chain.extend(join.map_err(|e| internal(op.span, &e))?);
    let plan = without_change(chain.plan.clone()).map_err(|e| internal(op.span, &e))?;
    chain.set_plan(plan);
    chain.bindings.insert(name.name.clone(), table.id);
    fields.extend(wanted.into_iter().chain(system).map(of));
    chain.project(fields, op.span)
}

/// The fields to be added: those named, or all but the key.
fn wanted(
    table: &Relation,
    key: usize,
    row: &Row,
    names: Option<Vec<Ident>>,
) -> Result<Vec<Field>> {
    let own = &row.fields[..table.columns.len()];
    let Some(names) = names else {
        let others = own.iter().enumerate().filter(|(at, _)| *at != key);
        return Ok(others.map(|(_, f)| f.clone()).collect());
    };
    let find = |name: &Ident| {
        own.iter().find(|f| f.name == name.name).cloned().ok_or_else(|| {
            let known = own.iter().map(|f| f.name.as_str());
            unknown(SqlState::UNDEFINED_COLUMN, codes::UNKNOWN_FIELD, "field", name, known)
        })
    };
    names.iter().map(find).collect()
}
