//! `EXPLAIN`: of a query that ends, of a continuous query before it exists, and of one that runs.

use std::sync::Arc;

use auspex_plan::catalog::{Language, Object};
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
        ExplainTarget::Statement(statement) => {
            match &statement.kind {
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
                StatementKind::CreateStreamAs(create) if !explain.analyze => {
                    let bound = session.bind_continuous(&create.query, None)?;
                    session.engine.optimize(bound.query)?.plan.display_indent().to_string()
                }
                _ => {
                    return Err(Diagnostic::unsupported("this statement cannot be explained")
                    .at(statement.span)
                    .hint("EXPLAIN takes a query, CREATE STREAM .. AS, STREAM name or PIPELINE name."));
                }
            }
        }
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

/// The plan and the state of a stream.
fn running(session: &Session, object: &Object) -> Result<String, Diagnostic> {
    let Some(definition) = object.definition() else {
        return Ok(format!("{} {}: no query\n", object.kind_name(), object.name));
    };
    let catalog = session.catalog();
    let bound = match definition.language {
        Language::Sql => session.engine.rebind_sql(definition, &catalog)?,
        Language::Vpl => auspex_vpl::bind::rebind(
            &definition.text,
            definition.item.as_deref().unwrap_or_default(),
            &definition.bindings,
            &catalog,
        )
        .map_err(|mut all| all.remove(0))?,
    };
    let plan = session.engine.optimize(bound)?.plan;
    let mut text = format!("stream {}\n{}\n", object.name, plan.display_indent());
    if let Some(status) = session.engine.runtime.status(object.id) {
        text.push_str(&format!(
            "State: {}, rows in {}, rows out {}, dead letters {}\n",
            super::show::state(&session.engine, object),
            status.counters.rows_in,
            status.counters.rows_out,
            status.counters.dead_letters
        ));
    }
    Ok(text)
}
