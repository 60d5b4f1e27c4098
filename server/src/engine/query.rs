//! SELECT and its relatives, and COPY TO.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use auspex_plan::catalog::{Catalog, ObjectId};
use auspex_plan::{ColumnType, Diagnostic};
use auspex_sql::statement::{CopyStatement, CopyWhat, Ident, Name, Query, Statement};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::Engine;
use super::api::{Outcome, RowStream};
use super::catalog::require;
use super::errors;
use super::ingest::{copy_options, target_columns};
use super::session::Session;
use super::statement::{Arguments, BoundPlan, Described};

/// Parameters and result columns of a query.
pub(super) fn describe(
    session: &Session,
    query: &Query,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    let bound = session.bind_query(query, declared)?;
    let described = Described {
        params: bound.params.clone(),
        columns: Some(bound.columns.clone()),
        bound: None,
    };
    Ok(described.keeping(session, BoundPlan::Query(bound)))
}

/// `SELECT ..`.
pub(super) async fn select(
    session: &mut Session,
    query: &Query,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    let (schema, rows) = rows(session, query, args).await?;
    Ok(Outcome::Rows { schema, rows, tag: "SELECT", counted: true })
}

/// The result of a query, which sees everything the session has written.
pub(super) async fn rows(
    session: &mut Session,
    query: &Query,
    args: &Arguments<'_>,
) -> Result<(SchemaRef, RowStream), Diagnostic> {
    let bound = args.query(session, query)?;
    let plan = fill(bound.plan, args)?;
    let rows = session.reader().run(&plan, &bound.relations).await?;
    Ok((bound.columns, rows))
}

/// A query with its parameters filled in.
pub(super) fn bind(
    session: &Session,
    query: &Query,
    args: &Arguments<'_>,
) -> Result<(LogicalPlan, Vec<ObjectId>), Diagnostic> {
    let bound = session.bind_query(query, &args.declared())?;
    let plan = fill(bound.plan, args)?;
    Ok((plan, bound.relations))
}

/// `plan` with the parameters' values.
pub(super) fn fill(plan: LogicalPlan, args: &Arguments<'_>) -> Result<LogicalPlan, Diagnostic> {
    if args.values.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(args.values.to_vec()).map_err(errors::datafusion)
}

/// An expression with the parameters' values.
pub(super) fn fill_expr(expr: Expr, args: &Arguments<'_>) -> Result<Expr, Diagnostic> {
    expr.transform_up(|e| match &e {
        Expr::Placeholder(p) => {
            let n = p.id.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
            match n.and_then(|n| args.values.get(n.wrapping_sub(1))) {
                Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                None => Ok(Transformed::no(e)),
            }
        }
        _ => Ok(Transformed::no(e)),
    })
    .data()
    .map_err(errors::datafusion)
}

/// `schema` with every column nullable.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(
        schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    ))
}

/// Longest wait of a reader for rows derived from what other sessions wrote.
const OTHERS_WAIT: Duration = Duration::from_secs(1);

/// What reading needs of a session, so that waiting for rows does not hold on to it.
pub(super) struct Reader {
    engine: Arc<Engine>,
    catalog: Arc<Catalog>,
    sequence: u64,
}

impl Session {
    /// See [`Reader`].
    pub(super) fn reader(&self) -> Reader {
        Reader {
            engine: self.engine.clone(),
            catalog: self.catalog(),
            sequence: self.last_sequence,
        }
    }
}

impl Reader {
    /// Waits until the streams among `relations` have what the session wrote, and for a moment
    /// until they have what others wrote before.
    pub(super) async fn wait(&self, relations: &[ObjectId]) {
        self.engine.wait_for(&self.catalog, relations, self.sequence).await;
        let present = self.engine.store.sequence();
        let others = self.engine.wait_for(&self.catalog, relations, present);
        // A query that is far behind is read as it stands.
        let _ = tokio::time::timeout(OTHERS_WAIT, others).await;
    }

    /// Runs a plan over these relations.
    pub(super) async fn run(
        &self,
        plan: &LogicalPlan,
        relations: &[ObjectId],
    ) -> Result<RowStream, Diagnostic> {
        self.wait(relations).await;
        Ok(self.engine.plans.stream(plan).await?.1)
    }
}

/// `COPY .. TO STDOUT`.
pub(super) async fn copy_out(
    session: &mut Session,
    copy: &CopyStatement,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    let options = copy_options(&copy.options, crate::copy::Direction::To)?;
    let (schema, rows) = match &copy.what {
        CopyWhat::Query(query) => rows(session, query, args).await?,
        CopyWhat::Subscribe(subscribe) => {
            super::cursor::settle(session, subscribe).await;
            let subscription = super::cursor::open(session, subscribe, Some(args))?;
            (subscription.schema(), subscription.into_rows())
        }
        CopyWhat::To { name, columns } => {
            let query = table_query(session, name, columns)?;
            rows(session, &query, args).await?
        }
        CopyWhat::From { .. } => unreachable!("COPY FROM goes to ingest"),
    };
    Ok(Outcome::CopyOut { options, schema, rows })
}

/// `COPY name [(columns)] TO` as the query it stands for.
fn table_query(session: &Session, name: &Name, columns: &[Ident]) -> Result<Query, Diagnostic> {
    let catalog = session.catalog();
    let object = require(&catalog, &session.settings.search_path(), name)?;
    let own = object.columns();
    let chosen: Vec<usize> = match columns {
        [] => (0..own.len()).collect(),
        _ => target_columns(object, columns)?,
    };
    let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
    let list: Vec<String> = chosen.iter().map(|i| quote(&own[*i].name)).collect();
    let text = format!(
        "SELECT {} FROM {}.{}",
        list.join(", "),
        quote(&object.name.schema),
        quote(&object.name.name)
    );
    let mut parsed = auspex_sql::parse(&text)?;
    match parsed.pop() {
        Some(Statement { kind: auspex_sql::statement::StatementKind::Query(query), .. }) => {
            Ok(query)
        }
        _ => unreachable!("the text made above is a query"),
    }
}
