//! `EXPLAIN`: of a query that ends, of a continuous query before it exists, and of one that runs.

use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::util::display::array_value_to_string;
use auspex_plan::catalog::Object;
use auspex_plan::types::UTC;
use auspex_plan::{ColumnType, Diagnostic};
use auspex_sql::statement::{Explain, ExplainTarget, StatementKind};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::StreamExt;

use super::Engine;
use super::api::Outcome;
use super::catalog::require;
use super::query;
use super::session::Session;
use super::show::{text_rows, text_schema};
use super::statement::{Arguments, Described};

const COLUMN: &str = "QUERY PLAN";

/// Parameters and result columns.
pub(super) fn describe(
    session: &Session,
    explain: &Explain,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    let params = match &explain.target {
        ExplainTarget::Statement(s) => super::statement::describe(session, s, declared)?.params,
        ExplainTarget::Object(_) => Vec::new(),
    };
    Ok(Described { params, columns: Some(text_schema(&[COLUMN])), bound: None })
}

/// `EXPLAIN ..`.
pub(super) async fn explain(
    session: &mut Session,
    explain: &Explain,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    let text = match &explain.target {
        ExplainTarget::Object(name) => {
            let catalog = session.catalog();
            let path = session.settings.search_path();
            let pipeline = catalog
                .objects()
                .find(|o| o.pipeline().is_some() && o.name.name == name.name.value);
            match pipeline {
                Some(p) if name.schema.is_none() => {
                    let mut text = String::new();
                    for member in catalog.in_schema(&p.name.schema) {
                        text.push_str(&running(session, member)?);
                    }
                    text
                }
                _ => running(session, require(&catalog, &path, name)?)?,
            }
        }
        ExplainTarget::Statement(statement) => match &statement.kind {
            StatementKind::Query(q) => {
                let (plan, relations) = query::bind(session, q, args)?;
                if explain.analyze {
                    analyze(session.reader(), session.engine.clone(), &plan, &relations).await?
                } else {
                    let optimized = session.engine.plans.optimized(&plan)?;
                    let mut text = optimized.display_indent().to_string();
                    if explain.verbose {
                        let physical = session.engine.plans.physical(&plan).await?;
                        text.push('\n');
                        text.push_str(
                            &DisplayableExecutionPlan::new(physical.as_ref())
                                .indent(true)
                                .to_string(),
                        );
                    }
                    text
                }
            }
            StatementKind::CreateView(create) if !explain.analyze => {
                let bound = session.binder().bind_view(&create.query)?;
                let keyed = session.engine.keyed(bound.query, &bound.key)?;
                session.engine.optimize(keyed)?.plan.display_indent().to_string()
            }
            StatementKind::CreateSink(create) if !explain.analyze => {
                let bound = session.bind_continuous(&create.query, None)?;
                session.engine.optimize(bound.query)?.plan.display_indent().to_string()
            }
            StatementKind::CreateStreamAs(create) if !explain.analyze => {
                let bound = session.bind_continuous(&create.query, None)?;
                session.engine.optimize(bound.query)?.plan.display_indent().to_string()
            }
            _ => {
                return Err(Diagnostic::unsupported("this statement cannot be explained")
                    .at(statement.span)
                    .hint("EXPLAIN takes a query, CREATE .. AS, or the name of a stream, materialized view, sink or pipeline behind its kind."));
            }
        },
    };
    let rows = text.lines().map(|l| vec![Some(l.to_string())]).collect();
    Ok(text_rows(text_schema(&[COLUMN]), rows, "EXPLAIN"))
}

/// Runs the query and shows what each part did.
async fn analyze(
    reader: query::Reader,
    engine: Arc<Engine>,
    plan: &datafusion::logical_expr::LogicalPlan,
    relations: &[u32],
) -> Result<String, Diagnostic> {
    reader.wait(relations).await;
    let physical = engine.plans.physical(plan).await?;
    let (_, mut rows) = engine.plans.run(physical.clone())?;
    while let Some(batch) = rows.next().await {
        batch?;
    }
    Ok(DisplayableExecutionPlan::with_metrics(physical.as_ref()).indent(false).to_string())
}

/// The plan and the state of what a query fills.
fn running(session: &Session, object: &Object) -> Result<String, Diagnostic> {
    let kind = object.kind_name();
    if object.definition().is_none() {
        return Ok(format!("{kind} {}: no query\n", object.name));
    }
    let plan = session.engine.rebind(object, &session.catalog())?.plan;
    let mut text = format!("{kind} {}\n{}\n", object.name, plan.display_indent());
    let Some(status) = session.engine.runtime.status(object.id) else { return Ok(text) };
    let counters = status.counters;
    text += &format!(
        "State: {}, rows in {}, rows out {}, dead letters {}",
        super::show::state(&session.engine, object),
        counters.rows_in,
        counters.rows_out,
        counters.dead_letters
    );
    if counters.late > 0 {
        text += &format!(", late {}", counters.late);
    }
    text += "\n";
    for operator in status.operators {
        text += &format!(
            "  {}: rows in {}, rows out {}",
            operator.name, operator.rows_in, operator.rows_out
        );
        if operator.state_rows > 0 || operator.state_bytes > 0 {
            let (rows, bytes) = (operator.state_rows, operator.state_bytes);
            text += &format!(", state {rows} rows in {bytes} bytes");
        }
        if let Some(us) = operator.watermark.filter(|us| *us != i64::MAX) {
            text += &format!(", watermark {}", moment(us));
        }
        text += "\n";
    }
    Ok(text)
}

/// A moment in microseconds since 1970, in UTC.
fn moment(us: i64) -> String {
    let at = TimestampMicrosecondArray::from(vec![us]).with_timezone(UTC);
    array_value_to_string(&at, 0).unwrap_or_else(|_| us.to_string())
}
