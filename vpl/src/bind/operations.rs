//! The dot operations: each name with what it does to the chain, or why it cannot be used.

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::nodes::{AssignTime, StreamDistinct, StreamLimit, StreamTap, TapKind};
use auspex_plan::query::OnError;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr as PlanExpr;

use super::chain::{Chain, Key};
use super::expression::Binder;
use super::problem::{Result, arguments, error, hint, missing, unknown, unsupported};
use super::row::Field;
use super::value::{Value, coerce, is_timestamp};
use super::{aggregates, enrich, windows};
use crate::ast::{Arg, Expr, ExprKind, Ident, Op, OpArgs, SourceKind, StreamDecl};
use crate::codes;

/// Operations that work.
const DONE: [&str; 21] = [
    "where",
    "filter",
    "select",
    "emit",
    "distinct",
    "limit",
    "first",
    "print",
    "log",
    "watermark",
    "partition_by",
    "on_error",
    "having",
    "window",
    "allowed_lateness",
    "aggregate",
    "collect",
    "order_by",
    "on",
    "within",
    "enrich",
];

/// Operations of the language that are not built yet.
const LATER: [&str; 19] = [
    "map",
    "process",
    "tap",
    "concurrent",
    "to",
    "pattern",
    "not",
    "fork",
    "any",
    "all",
    "context",
    "trend_aggregate",
    "score",
    "forecast",
    "strategy",
    "after_match",
    "emit_each",
    "from",
    "max_matches",
];

/// Levels of `.log`.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What can be said about a chain before it is bound: operations that make no sense on an endless
/// stream are errors of their own, whether or not the rest is built.
pub(super) fn refuse_early(decl: &StreamDecl) -> Option<Box<Diagnostic>> {
    let ops = &decl.ops;
    if let SourceKind::Timer(_) = &decl.source.kind {
        return Some(unsupported(decl.source.span, "a timer"));
    }
    // Which window of a join is its bound depends on what is joined.
    let mut windowed = matches!(decl.source.kind, SourceKind::Join { .. });
    for op in ops {
        match op.name.name.as_str() {
            "window" => windowed = true,
            "aggregate" if !windowed && !emits_changes(op) => {
                return Some(unbounded_aggregate(op.span));
            }
            "order_by" if !windowed => return Some(unbounded_order(op.span)),
            _ => {}
        }
    }
    None
}

fn emits_changes(op: &Op) -> bool {
    let OpArgs::Args(args) = &op.args else { return false };
    args.iter().any(|a| {
        a.name.as_ref().is_some_and(|n| n.name == "emit")
            && matches!(&a.value.kind, ExprKind::Name(n) if n == "changes")
    })
}

/// Aggregates of an endless stream never come to an end.
pub(super) fn unbounded_aggregate(span: Span) -> Box<Diagnostic> {
    hint(
        error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::UNBOUNDED,
            span,
            "`.aggregate` of an endless stream never has a result",
        ),
        "put `.window(1m)` before it, or ask for each change: `.aggregate(.., emit: changes)`",
    )
}

/// Rows of an endless stream cannot be ordered.
pub(super) fn unbounded_order(span: Span) -> Box<Diagnostic> {
    hint(
        error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::UNBOUNDED,
            span,
            "`.order_by` of an endless stream never has a result",
        ),
        "put `.window(1m)` before it: the rows of each window are then ordered",
    )
}

/// Applies one operation.
pub(super) fn apply<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let name = op.name.name.as_str();
    if !windows::passes(chain, op)? {
        windows::close(chain)?;
    }
    match name {
        "where" | "filter" => {
            let condition = &one(op, "a condition")?.value;
            chain.filter(condition, &format!("the condition of `.{name}`"))
        }
        "select" => select(chain, op),
        "emit" => emit(chain, op),
        "distinct" => distinct(chain, op),
        "limit" => {
            let count = &one(op, "a number of rows")?.value;
            limit(chain, count_of(chain, count)?, op)
        }
        "first" => {
            if let Some(extra) = positional(op)?.first() {
                return Err(hint(
                    arguments(extra.span, "`.first` takes no argument"),
                    "`.limit(n)` lets the first n rows through",
                ));
            }
            limit(chain, 1, op)
        }
        "window" => windows::window(chain, op),
        "allowed_lateness" => windows::allowed_lateness(chain, &one(op, "a duration")?.value, op),
        "order_by" => match &op.args {
            OpArgs::OrderBy(keys) => windows::order_by(chain, keys, op),
            _ => Err(arguments(op.span, "`.order_by` takes values to order by")),
        },
        "aggregate" => aggregates::aggregate(chain, op),
        "enrich" => enrich::enrich(chain, op, all_args(op)?),
        "collect" => aggregates::collect(chain, op, positional(op)?),
        "having" if chain.aggregated => {
            chain.filter(&one(op, "a condition")?.value, "the condition of `.having`")
        }
        "on" => Err(misplaced(op, "`.on` says which rows of a `join` belong together")),
        "within" => Err(misplaced(op, "`.within` bounds a pattern or a `join`")),
        "print" => print(chain, op),
        "log" => log(chain, op),
        "watermark" => watermark(chain, op),
        "partition_by" => partition_by(chain, op),
        "on_error" => on_error(chain, op),
        "having" => Err(hint(
            error(
                SqlState::INVALID_OBJECT_DEFINITION,
                codes::MISPLACED_OPERATION,
                op.span,
                "`.having` filters the results of `.aggregate`, which is missing",
            ),
            "rows are filtered with `.where(..)`",
        )),
        _ if LATER.contains(&name) => Err(unsupported(op.span, format!("`.{name}`"))),
        _ => Err(unknown(
            SqlState::UNDEFINED_FUNCTION,
            codes::UNKNOWN_OPERATION,
            "operation",
            &op.name,
            DONE.into_iter().chain(LATER),
        )),
    }
}

pub(super) fn all_args(op: &Op) -> Result<&[Arg]> {
    match &op.args {
        OpArgs::Args(args) | OpArgs::Emit { args, .. } => Ok(args),
        _ => Err(arguments(op.span, format!("`.{}` takes values", op.name.name))),
    }
}

/// The arguments, none of them named.
pub(super) fn positional(op: &Op) -> Result<&[Arg]> {
    let args = all_args(op)?;
    match args.iter().find_map(|a| a.name.as_ref()) {
        Some(name) => Err(arguments(
            name.span,
            format!("`.{}` has no argument `{}`", op.name.name, name.name),
        )),
        None => Ok(args),
    }
}

/// The only argument.
pub(super) fn one<'a>(op: &'a Op, what: &str) -> Result<&'a Arg> {
    match positional(op)? {
        [only] => Ok(only),
        args => Err(arguments(
            args.get(1).map_or(op.span, |a| a.span),
            format!("`.{}` takes {what}, not {} arguments", op.name.name, args.len()),
        )),
    }
}

/// The value of an expression without fields.
pub(super) fn constant(chain: &Chain<'_>, expr: &Expr) -> Result<ScalarValue> {
    let value = Binder::new(chain.program, None).bind(expr)?;
    match value.expr {
        PlanExpr::Literal(scalar, _) => Ok(scalar),
        _ => Err(error(
            SqlState::INVALID_PARAMETER_VALUE,
            codes::NOT_CONSTANT,
            expr.span,
            "a constant is needed here",
        )),
    }
}

pub(super) fn count_of(chain: &Chain<'_>, expr: &Expr) -> Result<u64> {
    match constant(chain, expr)? {
        ScalarValue::Int64(Some(n)) => u64::try_from(n)
            .map_err(|_| arguments(expr.span, "a number of rows cannot be negative")),
        _ => Err(arguments(expr.span, "a number of rows is an `int`")),
    }
}

fn misplaced(op: &Op, message: &str) -> Box<Diagnostic> {
    let state = SqlState::INVALID_OBJECT_DEFINITION;
    error(state, codes::MISPLACED_OPERATION, op.span, message)
}

fn limit<'a>(chain: &mut Chain<'a>, limit: u64, op: &'a Op) -> Result<()> {
    if chain.window.is_some() || chain.closed.is_some() {
        return windows::limit(chain, limit, op);
    }
    let keys = planned_keys(chain)?;
    let input = chain.plan.clone();
    chain.extend(StreamLimit { input, limit, keys });
    Ok(())
}

/// The partition keys over the current row.
pub(super) fn planned_keys(chain: &Chain<'_>) -> Result<Vec<PlanExpr>> {
    let planned = |key: &Key| match &key.value {
        Some(value) => chain.planned(value.expr.clone(), key.span),
        None => Err(unnamed_key(key.span)),
    };
    chain.keys.iter().map(planned).collect()
}

/// A key without a name that would have to stay in the row.
pub(super) fn unnamed_key(span: Span) -> Box<Diagnostic> {
    hint(
        arguments(span, "a computed key needs a name, for it stays in the output"),
        "write `.partition_by(name: expression)`",
    )
}

fn distinct<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let mut on = planned_keys(chain)?;
    let args = positional(op)?;
    for arg in args {
        let value = chain.value(&arg.value)?;
        comparable(&value, arg.value.span)?;
        on.push(chain.planned(value.expr, arg.value.span)?);
    }
    if args.is_empty() {
        for (name, value) in chain.current() {
            comparable(&value, op.span).map_err(|p| {
                hint(p, format!("name what must be new: `.distinct(..)` (`{name}` cannot be)"))
            })?;
            if !on.contains(&value.expr) {
                on.push(value.expr);
            }
        }
    }
    let input = chain.plan.clone();
    chain.extend(StreamDistinct { input, on });
    Ok(())
}

/// Rows are told apart by values that can be compared.
fn comparable(value: &Value, span: Span) -> Result<()> {
    match &value.ty {
        Some(ColumnType::Map(..)) => Err(unsupported(span, "`.distinct` by a map")),
        _ => Ok(()),
    }
}

fn partition_by<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let args = all_args(op)?;
    if args.is_empty() {
        return Err(arguments(op.span, "`.partition_by` takes at least one key"));
    }
    if !chain.keys.is_empty() {
        return Err(error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::MISPLACED_OPERATION,
            op.span,
            "the stream is already partitioned",
        ));
    }
    for arg in args {
        let value = chain.value(&arg.value)?;
        let name = match (&arg.name, &arg.value.kind) {
            (Some(name), _) => Some(name.name.clone()),
            (None, ExprKind::Name(name)) => Some(name.clone()),
            (None, ExprKind::Field { name, .. }) => Some(name.name.clone()),
            _ => None,
        };
        let clash = |name: &str| {
            let same = |f: &Field| matches!(&value.expr, PlanExpr::Column(c) if *c == f.column);
            chain.keys.iter().any(|k| k.is(name))
                || chain.row.sides.is_empty() && chain.row.field(name).is_some_and(|f| !same(f))
        };
        if let Some(name) = name.as_deref().filter(|n| clash(n)) {
            return Err(error(
                SqlState::DUPLICATE_COLUMN,
                codes::DUPLICATE_NAME,
                arg.span,
                format!("there is already a field `{name}`: give the key another name"),
            ));
        }
        chain.keys.push(Key { name, value: Some(value), span: arg.span });
    }
    Ok(())
}

/// `.select(a, n: e, ..)`
fn select<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let args = all_args(op)?;
    if args.is_empty() {
        return Err(arguments(op.span, "`.select` takes at least one field"));
    }
    let fields = fields(chain, args, |arg| match &arg.value.kind {
        ExprKind::Name(name) => Ok(Ident { name: name.clone(), span: arg.value.span }),
        ExprKind::Field { name, .. } => Ok(name.clone()),
        _ => Err(hint(
            arguments(arg.span, "a computed field needs a name"),
            "write `.select(name: expression)`",
        )),
    });
    project(chain, fields, op.span)
}

/// `.emit(n: e, ..)`
fn emit<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    if let OpArgs::Emit { ty: Some(ty), .. } = &op.args {
        return Err(unsupported(ty.span, "`.emit as`"));
    }
    let args = all_args(op)?;
    if args.is_empty() {
        let current = chain.current();
        return chain.project(current, op.span);
    }
    let fields = fields(chain, args, |arg| {
        let diagnostic = arguments(arg.span, "a field of `.emit` needs a name");
        Err(match &arg.value.kind {
            ExprKind::Name(n) => hint(diagnostic, format!("write `{n}: {n}`")),
            _ => hint(diagnostic, "write `name: expression`"),
        })
    });
    project(chain, fields, op.span)
}

/// A projection that reports every wrong field.
fn project(
    chain: &mut Chain<'_>,
    fields: std::result::Result<Vec<(String, Value)>, Vec<Diagnostic>>,
    span: Span,
) -> Result<()> {
    match fields {
        Ok(fields) => chain.project(fields, span),
        Err(mut problems) => {
            let last = problems.pop();
            chain.problems.append(&mut problems);
            last.map_or(Ok(()), |p| Err(Box::new(p)))
        }
    }
}

fn fields<'a>(
    chain: &Chain<'a>,
    args: &'a [Arg],
    unnamed: impl Fn(&Arg) -> Result<Ident>,
) -> std::result::Result<Vec<(String, Value)>, Vec<Diagnostic>> {
    let mut fields: Vec<(String, Value)> = Vec::with_capacity(args.len());
    let mut problems = Vec::new();
    // One binder for all: lambda parameters keep apart over the whole projection.
    let mut binder = chain.binder();
    for arg in args {
        let field = arg.name.clone().map_or_else(|| unnamed(arg), Ok).and_then(|name| {
            if fields.iter().any(|(n, _)| *n == name.name) {
                return Err(error(
                    SqlState::DUPLICATE_COLUMN,
                    codes::DUPLICATE_NAME,
                    name.span,
                    format!("there are two fields `{}`", name.name),
                ));
            }
            if auspex_plan::relation::SYSTEM_COLUMNS.contains(&name.name.as_str()) {
                return Err(error(
                    SqlState::DUPLICATE_COLUMN,
                    codes::DUPLICATE_NAME,
                    name.span,
                    format!("`{}` is a column that every stream has", name.name),
                ));
            }
            Ok((name.name, binder.bind(&arg.value)?))
        });
        match field {
            Ok(field) => fields.push(field),
            Err(problem) => problems.push(*problem),
        }
    }
    if problems.is_empty() { Ok(fields) } else { Err(problems) }
}

fn print<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let mut values = Vec::new();
    for arg in positional(op)? {
        values.push(output(chain, &arg.value)?);
    }
    let input = chain.plan.clone();
    chain.extend(StreamTap { input, kind: TapKind::Print, values });
    Ok(())
}

/// A value to be written; a bare null as text.
fn output<'a>(chain: &Chain<'a>, expr: &'a Expr) -> Result<PlanExpr> {
    let value = chain.value(expr)?;
    let ty = value.ty.clone().unwrap_or(ColumnType::Text);
    chain.planned(coerce(value, &ty, expr.span, "the value")?.expr, expr.span)
}

fn log<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let (mut level, mut values) = ("info".to_string(), Vec::new());
    for arg in all_args(op)? {
        match arg.name.as_ref().map(|n| n.name.as_str()) {
            Some("level") => match constant(chain, &arg.value)? {
                ScalarValue::Utf8View(Some(l)) if LEVELS.contains(&l.as_str()) => level = l,
                _ => {
                    let message = format!("the level of `.log` is one of {}", LEVELS.join(", "));
                    return Err(arguments(arg.value.span, message));
                }
            },
            None | Some("message" | "data") => values.push(output(chain, &arg.value)?),
            Some(_) => {
                let name = arg.name.clone().unwrap_or_else(|| op.name.clone());
                return Err(missing(
                    SqlState::INVALID_PARAMETER_VALUE,
                    codes::ARGUMENTS,
                    "`.log`",
                    "argument",
                    &name,
                    ["level", "message", "data"],
                ));
            }
        }
    }
    let input = chain.plan.clone();
    chain.extend(StreamTap { input, kind: TapKind::Log { level }, values });
    Ok(())
}

/// `.watermark(out_of_order: d, on: field)`
fn watermark<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let refuse = |span: Span, message: String| {
        error(SqlState::INVALID_OBJECT_DEFINITION, codes::WATERMARK, span, message)
    };
    if chain.watermark {
        return Err(refuse(op.span, "the stream already has a watermark".into()));
    }
    let (mut delay_us, mut on) = (0, None);
    for arg in all_args(op)? {
        match arg.name.as_ref().map(|n| n.name.as_str()) {
            Some("out_of_order") | None => match constant(chain, &arg.value)? {
                ScalarValue::IntervalMonthDayNano(Some(i)) if i.nanoseconds >= 0 => {
                    delay_us = i.nanoseconds / 1000;
                }
                _ => {
                    let message = "`out_of_order` is a duration such as `5s`, not negative";
                    return Err(arguments(arg.value.span, message));
                }
            },
            Some("on") => {
                let ExprKind::Name(name) = &arg.value.kind else {
                    return Err(arguments(arg.value.span, "`on` is the name of a field"));
                };
                let ident = Ident { name: name.clone(), span: arg.value.span };
                let field = chain.row.fields.iter().find(|f| f.name == *name).ok_or_else(|| {
                    let state = SqlState::UNDEFINED_COLUMN;
                    unknown(state, codes::UNKNOWN_FIELD, "field", &ident, chain.row.names())
                })?;
                if field.ty != ColumnType::Timestamptz {
                    let ty = field.ty.vpl_name();
                    let message = format!("the watermark's field must be `timestamp`, not `{ty}`");
                    return Err(super::problem::mismatch(arg.value.span, message));
                }
                on = Some(name.clone());
            }
            Some(_) => {
                let name = arg.name.clone().unwrap_or_else(|| op.name.clone());
                return Err(missing(
                    SqlState::INVALID_PARAMETER_VALUE,
                    codes::ARGUMENTS,
                    "`.watermark`",
                    "argument",
                    &name,
                    ["out_of_order", "on"],
                ));
            }
        }
    }
    let declared = match on {
        Some(name) => name,
        None => {
            let first = chain.row.fields.iter().find(|f| is_timestamp(&f.ty));
            let field = first.filter(|f| f.ty == ColumnType::Timestamptz).ok_or_else(|| {
                hint(
                    refuse(
                        op.span,
                        "the watermark needs a `timestamp` field, there is none".into(),
                    ),
                    "without `.watermark` the time of arrival is the event time",
                )
            })?;
            field.name.clone()
        }
    };
    let ident = Ident { name: declared, span: op.span };
    let field = chain.row.field(&ident.name).ok_or_else(|| {
        let known = chain.row.names();
        unknown(SqlState::UNDEFINED_COLUMN, codes::UNKNOWN_FIELD, "field", &ident, known)
    })?;
    let time = PlanExpr::Column(field.column.clone());
    let input = chain.plan.clone();
    chain.extend(AssignTime { input, time, delay_us });
    chain.watermark = true;
    Ok(())
}

fn on_error<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    let word = &one(op, "a policy")?.value;
    let name = match &word.kind {
        ExprKind::Name(name) | ExprKind::Str(name) => name.as_str(),
        ExprKind::Null => "null",
        _ => "",
    };
    let policy = OnError::parse(name).ok_or_else(|| {
        let policies = OnError::NAMES.join(", ");
        arguments(word.span, format!("the policy of `.on_error` is one of {policies}"))
    })?;
    chain.on_error = policy;
    Ok(())
}
