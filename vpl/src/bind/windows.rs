//! `.window(..)` and what follows it: the rows of a window that are aggregated, ordered, limited or
//! collected.
//!
//! A window waits for the operations behind it ([`Pending`]) and becomes part of the plan with the
//! first that needs it. Once it is there the rows come window by window, and `.order_by` and
//! `.limit` go on to mean those of a window.

use auspex_plan::diagnostic::{Diagnostic, Span, SqlState};
use auspex_plan::nodes::{AssignTime, WINDOW_COLUMNS, WindowRows};
use auspex_plan::time::Window;
use auspex_plan::{ColumnType, StreamRelation};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, SortExpr};

use super::chain::Chain;
use super::operations::{constant, planned_keys, unbounded_order};
use super::problem::{Result, arguments, error, hint, internal, mismatch, missing};
use super::row::{Field, Row};
use super::value::{Value, is_number, is_text, is_timestamp};
use crate::ast::{Arg, Expr, ExprKind, Op, OpArgs, OrderKey};
use crate::codes;

/// A window that is not part of the plan yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub window: Window,
    pub span: Span,
    order_by: Vec<SortExpr>,
    limit: Option<u64>,
    /// An `.aggregate` or `.collect` takes its rows.
    aggregated: bool,
    /// The rows came window by window already and are put together again by it: the names of
    /// their fields.
    again: Option<Vec<String>>,
}

impl Pending {
    fn new(window: Window, span: Span) -> Pending {
        Pending { window, span, order_by: Vec::new(), limit: None, aggregated: false, again: None }
    }
}

/// `.window(..)`
pub(super) fn window<'a>(chain: &mut Chain<'a>, op: &'a Op) -> Result<()> {
    close(chain)?;
    let OpArgs::Args(args) = &op.args else {
        return Err(arguments(op.span, "`.window` takes a length"));
    };
    let window = Arguments::read(chain, args)?.window(op.span)?;
    let behind = chain.ahead.iter().map(|o| o.name.name.as_str()).take_while(|o| *o != "window");
    let aggregated = behind.into_iter().any(|o| matches!(o, "aggregate" | "collect"));
    chain.window = Some(Pending { aggregated, ..Pending::new(window, op.span) });
    Ok(())
}

/// The arguments of `.window`.
#[derive(Default)]
struct Arguments {
    size: Option<(Length, Span)>,
    sliding: Option<(Length, Span)>,
    cumulate: Option<(Length, Span)>,
    session: Option<(Length, Span)>,
    /// In microseconds.
    offset: Option<(i64, Span)>,
}

/// A length in time or rows.
#[derive(Debug, Clone, Copy)]
enum Length {
    Time(i64),
    Rows(u64),
}

impl Arguments {
    fn read<'a>(chain: &Chain<'a>, args: &'a [Arg]) -> Result<Arguments> {
        let mut found = Arguments::default();
        for arg in args {
            let place = match arg.name.as_ref().map(|n| n.name.as_str()) {
                None => &mut found.size,
                Some("sliding") => &mut found.sliding,
                Some("cumulate") => &mut found.cumulate,
                Some("session") => &mut found.session,
                Some("offset") => {
                    found.offset = Some((offset(chain, &arg.value)?, arg.value.span));
                    continue;
                }
                Some("policy") => {
                    policy(chain, &arg.value)?;
                    continue;
                }
                Some(_) => {
                    let name = arg.name.as_ref().expect("it has a name");
                    let known = ["sliding", "cumulate", "session", "offset", "policy"];
                    let state = SqlState::INVALID_PARAMETER_VALUE;
                    let code = codes::ARGUMENTS;
                    return Err(missing(state, code, "`.window`", "argument", name, known));
                }
            };
            if place.is_some() {
                let problem = arguments(arg.span, "`.window` takes one length");
                return Err(match arg.name {
                    Some(_) => problem,
                    None => hint(problem, "a second one is named: `.window(5m, sliding: 1m)`"),
                });
            }
            *place = Some((length(chain, &arg.value)?, arg.value.span));
        }
        Ok(found)
    }

    fn window(self, span: Span) -> Result<Window> {
        let Arguments { size, sliding, cumulate, session, offset } = self;
        if let Some((gap, at)) = session {
            let others = [size, sliding, cumulate].into_iter().flatten().map(|(_, at)| at);
            if let Some(extra) = others.chain(offset.map(|(_, at)| at)).next() {
                return Err(arguments(
                    extra,
                    "a session has only its gap: `.window(session: 30s)`",
                ));
            }
            return Ok(Window::Session { gap_us: time(gap, at, "the gap of a session")? });
        }
        let Some((size, _)) = size else {
            let problem = arguments(span, "`.window` takes a length");
            return Err(hint(problem, "`.window(1m)`, `.window(100)` or `.window(session: 30s)`"));
        };
        let size_us = match size {
            Length::Time(us) => us,
            Length::Rows(size) => {
                if let Some(extra) = cumulate.map(|(_, at)| at).or(offset.map(|(_, at)| at)) {
                    return Err(arguments(extra, "a window of rows has no such argument"));
                }
                let slide = match sliding {
                    None => size,
                    Some((Length::Rows(slide), _)) if slide <= size => slide,
                    Some((_, at)) => {
                        let message = format!("the step of this window is 1 to {size} rows");
                        return Err(arguments(at, message));
                    }
                };
                return Ok(Window::Count { size, slide });
            }
        };
        let offset_us = offset.map_or(0, |(us, _)| us.rem_euclid(size_us));
        let divides = |step: i64, at: Span| match size_us % step {
            0 => Ok(step),
            _ => Err(hint(
                arguments(at, "the window's length must be a multiple of its step"),
                "such as `.window(5m, sliding: 1m)`",
            )),
        };
        match (sliding, cumulate) {
            (Some(_), Some((_, extra))) => {
                Err(arguments(extra, "a window either slides or cumulates"))
            }
            (None, None) => Ok(Window::tumble(size_us, offset_us)),
            (Some((slide, at)), None) => {
                let slide_us = divides(time(slide, at, "the step")?, at)?;
                Ok(Window::Hop { size_us, slide_us, offset_us })
            }
            (None, Some((step, at))) => {
                let step_us = divides(time(step, at, "the step")?, at)?;
                Ok(Window::Cumulate { size_us, step_us, offset_us })
            }
        }
    }
}

/// A positive duration or number of rows.
fn length<'a>(chain: &Chain<'a>, expr: &'a Expr) -> Result<Length> {
    let found = match constant(chain, expr)? {
        ScalarValue::Int64(Some(n)) => u64::try_from(n).ok().filter(|n| *n > 0).map(Length::Rows),
        ScalarValue::IntervalMonthDayNano(Some(i)) => {
            Some(Length::Time(i.nanoseconds / 1000)).filter(|_| i.nanoseconds >= 1000)
        }
        _ => None,
    };
    let message = "a window's length is a duration such as `1m` or a number of rows, not 0";
    found.ok_or_else(|| arguments(expr.span, message))
}

/// How far windows are moved, in microseconds; may be negative.
fn offset<'a>(chain: &Chain<'a>, expr: &'a Expr) -> Result<i64> {
    match constant(chain, expr)? {
        ScalarValue::IntervalMonthDayNano(Some(i)) => Ok(i.nanoseconds / 1000),
        _ => Err(arguments(expr.span, "the offset is a duration such as `15m`")),
    }
}

fn time(length: Length, span: Span, what: &str) -> Result<i64> {
    match length {
        Length::Time(us) => Ok(us),
        Length::Rows(_) => Err(arguments(span, format!("{what} is a duration such as `30s`"))),
    }
}

/// A duration that is not negative, in microseconds.
pub(super) fn duration_of<'a>(chain: &Chain<'a>, expr: &'a Expr, what: &str) -> Result<i64> {
    match constant(chain, expr)? {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.nanoseconds >= 0 => {
            Ok(i.nanoseconds / 1000)
        }
        _ => Err(arguments(expr.span, format!("{what} is a duration such as `5s`, not negative"))),
    }
}

/// `policy: watermark` is how all windows close. `policy: processing` is the same thing where the
/// time of arrival is the event time, and cannot be had elsewhere.
fn policy(chain: &Chain<'_>, word: &Expr) -> Result<()> {
    let name = match &word.kind {
        ExprKind::Name(name) | ExprKind::Str(name) => name.as_str(),
        _ => "",
    };
    match name {
        "watermark" => Ok(()),
        "processing" if by_arrival(&chain.plan) => Ok(()),
        "processing" => Err(hint(
            error(
                SqlState::FEATURE_NOT_SUPPORTED,
                codes::UNSUPPORTED,
                word.span,
                "the rows of this stream have an event time of their own: windows by the time of \
                 processing would give other results each time the rows are read",
            ),
            "windows close by the watermark; of a stream without `.watermark` the event time is \
             the time of arrival",
        )),
        _ => Err(arguments(word.span, "the policy of `.window` is `watermark` or `processing`")),
    }
}

/// Whether the event time is that of arrival.
fn by_arrival(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => scan
            .source
            .downcast_ref::<StreamRelation>()
            .is_some_and(|r| r.clocks.iter().all(|clock| clock.arrival)),
        LogicalPlan::Extension(e) if e.node.as_any().is::<AssignTime>() => false,
        other => other.inputs().into_iter().all(by_arrival),
    }
}

/// `.allowed_lateness(d)`
pub(super) fn allowed_lateness<'a>(
    chain: &mut Chain<'a>,
    value: &'a Expr,
    op: &'a Op,
) -> Result<()> {
    let us = duration_of(chain, value, "the lateness")?;
    if chain.lateness.replace((us, op.span)).is_some() {
        return Err(arguments(op.span, "the stream already has a lateness"));
    }
    Ok(())
}

/// Lateness that no window has taken.
pub(super) fn unused_lateness(span: Span) -> Box<Diagnostic> {
    hint(
        error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::MISPLACED_OPERATION,
            span,
            "`.allowed_lateness` needs a window in time and its `.aggregate` behind it",
        ),
        "such as `.allowed_lateness(20s).window(1m).aggregate(n: count())`",
    )
}

/// Whether `op` may stand between `.window` and what takes its rows; `Err` when it may not stand
/// at this place.
pub(super) fn passes(chain: &Chain<'_>, op: &Op) -> Result<bool> {
    let Some(pending) = &chain.window else { return Ok(false) };
    let name = op.name.name.as_str();
    if pending.again.is_some() {
        return Ok(matches!(name, "limit" | "first" | "on_error"));
    }
    if matches!(name, "partition_by" | "allowed_lateness" | "on_error" | "aggregate" | "collect") {
        return Ok(true);
    }
    if !pending.aggregated {
        return Ok(matches!(name, "order_by" | "limit" | "first"));
    }
    let in_time = matches!(pending.window, Window::Hop { .. } | Window::Cumulate { .. });
    if matches!(name, "print" | "log") || in_time && matches!(name, "where" | "filter") {
        return Ok(true);
    }
    Err(hint(
        error(
            SqlState::INVALID_OBJECT_DEFINITION,
            codes::MISPLACED_OPERATION,
            op.span,
            format!("`.{name}` cannot stand between `.window` and `.aggregate`"),
        ),
        "put it before `.window` or behind `.aggregate`",
    ))
}

/// Makes a waiting window part of the plan.
pub(super) fn close(chain: &mut Chain<'_>) -> Result<()> {
    let Some(Pending { window, span, order_by, limit, again, .. }) = chain.window.take() else {
        return Ok(());
    };
    let taken = WINDOW_COLUMNS.into_iter().find(|n| chain.row.field(n).is_some());
    if let (Some(name), None) = (taken, &again) {
        return Err(hint(
            error(
                SqlState::DUPLICATE_COLUMN,
                codes::DUPLICATE_NAME,
                span,
                format!("the rows of the window have a field `{name}` already"),
            ),
            format!("rename it before: `.select(.., started: {name})`"),
        ));
    }
    // The results of an aggregate are one per key: they are ordered over all keys.
    let keys = if chain.aggregated { Vec::new() } else { planned_keys(chain)? };
    let rows = WindowRows::try_new(chain.plan.clone(), window, keys, order_by, limit)
        .map_err(|e| internal(span, &e))?;
    chain.extend(rows);
    let Some(names) = again else {
        chain.closed = Some(window);
        return Ok(());
    };
    let columns = named(&chain.row, &names).into_iter().map(|f| {
        let column = PlanExpr::Column(f.column);
        (f.name, Value::leaf(column, f.ty))
    });
    chain.replace(columns.collect(), span)
}

/// `.order_by(..)` of a window.
pub(super) fn order_by<'a>(chain: &mut Chain<'a>, keys: &'a [OrderKey], op: &'a Op) -> Result<()> {
    again(chain, op)?;
    let order = sort_keys(chain, keys)?;
    if let Some(pending) = &mut chain.window {
        if pending.limit.is_some() {
            return Err(hint(
                error(
                    SqlState::INVALID_OBJECT_DEFINITION,
                    codes::MISPLACED_OPERATION,
                    op.span,
                    "`.order_by` behind `.limit` would order what is left by chance",
                ),
                "put `.order_by` before `.limit`",
            ));
        }
        pending.order_by = order;
    }
    Ok(())
}

/// `.limit(n)` of a window.
pub(super) fn limit<'a>(chain: &mut Chain<'a>, count: u64, op: &'a Op) -> Result<()> {
    again(chain, op)?;
    if let Some(pending) = &mut chain.window {
        pending.limit = Some(pending.limit.map_or(count, |before| before.min(count)));
    }
    Ok(())
}

fn sort_keys<'a>(chain: &Chain<'a>, keys: &'a [OrderKey]) -> Result<Vec<SortExpr>> {
    let mut sorted = Vec::with_capacity(keys.len());
    for key in keys {
        let value = chain.value(&key.expr)?;
        let ty = value.ty.clone().unwrap_or(ColumnType::Text);
        let orderable = is_number(&ty)
            || is_text(&ty)
            || is_timestamp(&ty)
            || matches!(ty, ColumnType::Boolean | ColumnType::Interval);
        if !orderable {
            let message = format!("rows cannot be ordered by a `{}`", ty.vpl_name());
            return Err(mismatch(key.expr.span, message));
        }
        // As in SQL: nulls count as greater than all values.
        let expr = chain.planned(value.expr, key.expr.span)?;
        sorted.push(expr.sort(!key.descending, key.descending));
    }
    Ok(sorted)
}

/// Opens a window over rows that come window by window, unless one is open: those that are due
/// together are the rows of the interval in which their event times (window end less 1 µs) lie.
fn again(chain: &mut Chain<'_>, op: &Op) -> Result<()> {
    if chain.window.is_some() {
        return Ok(());
    }
    let window = match chain.closed {
        None => return Err(unbounded_order(op.span)),
        Some(Window::Hop { slide_us, offset_us, .. }) => {
            Window::tumble(slide_us, offset_us % slide_us)
        }
        Some(Window::Cumulate { step_us, offset_us, .. }) => {
            Window::tumble(step_us, offset_us % step_us)
        }
        _ => {
            let name = &op.name.name;
            return Err(hint(
                error(
                    SqlState::INVALID_OBJECT_DEFINITION,
                    codes::MISPLACED_OPERATION,
                    op.span,
                    format!("the results of this window come one by one: `.{name}` has no meaning"),
                ),
                "make it a stream of its own and go on from there",
            ));
        }
    };
    // The bounds of the new window take the names of those that are there.
    let names: Vec<String> = chain.row.names().map(str::to_owned).collect();
    let hidden = |name: String| match WINDOW_COLUMNS.contains(&name.as_str()) {
        true => format!("_{name}"),
        false => name,
    };
    let columns = chain.current().into_iter().map(|(name, v)| (hidden(name), v)).collect();
    chain.replace(columns, op.span)?;
    chain.row.fields = named(&chain.row, &names);
    chain.window = Some(Pending { again: Some(names), ..Pending::new(window, op.span) });
    Ok(())
}

/// The first fields of a row under other names.
fn named(row: &Row, names: &[String]) -> Vec<Field> {
    let fields = row.fields.iter().zip(names);
    fields.map(|(f, name)| Field { name: name.clone(), ..f.clone() }).collect()
}
