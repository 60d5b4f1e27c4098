//! Statements: one match that prepares and one that executes, with one call per kind.

use std::sync::Arc;

use auspex_plan::catalog::Catalog;
use auspex_plan::{ColumnType, Diagnostic, Span, SqlState};
use auspex_sql::statement::{
    CopyWhat, CursorBody, Maintenance, Statement as SqlStatement, StatementKind, Transaction,
};
use auspex_sql::{BoundInsert, BoundQuery, Functions};
use datafusion::common::ScalarValue;

use super::api::{Outcome, Prepared};
use super::session::{NamedStatement, Session};
use super::{backup, cursor, ddl, dml, explain, ingest, program, query, show};

/// A statement as parsed, of either language.
#[derive(Debug, Clone)]
pub struct Statement(Arc<Body>);

#[derive(Debug)]
enum Body {
    Sql(Box<SqlStatement>),
    Vpl { text: String, span: Span },
}

impl Statement {
    /// Where it stands in the text it was parsed from.
    pub fn span(&self) -> Span {
        match self.0.as_ref() {
            Body::Sql(s) => s.span,
            Body::Vpl { span, .. } => *span,
        }
    }
}

/// A prepared statement's inside.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    statement: Statement,
    params: Vec<ColumnType>,
    /// Column names and types that were described, to notice when they change.
    columns: Option<arrow::datatypes::SchemaRef>,
    /// The plan that describing has made, used again while nothing it depends on has changed.
    bound: Option<Arc<Bound>>,
}

/// A plan with what it was made from.
#[derive(Debug)]
pub(super) struct Bound {
    plan: BoundPlan,
    catalog: Arc<Catalog>,
    functions: Arc<Functions>,
}

/// Statements whose plans are kept.
#[derive(Debug)]
pub(super) enum BoundPlan {
    /// `SELECT`.
    Query(BoundQuery),
    /// `INSERT`.
    Insert(BoundInsert),
}

impl Bound {
    /// Keeps a plan. Within a transaction that has changed the catalog or a table a plan sees what
    /// others must not, so it is not kept.
    fn keep(session: &Session, plan: BoundPlan) -> Option<Arc<Bound>> {
        if session.work.ddl.is_some() || !session.work.overlay.is_empty() {
            return None;
        }
        let (catalog, functions) = (session.catalog(), session.functions());
        Some(Arc::new(Bound { plan, catalog, functions }))
    }

    /// The plan, when binding again would give the same.
    fn usable(&self, session: &Session) -> Option<&BoundPlan> {
        let same = session.work.ddl.is_none()
            && session.work.overlay.is_empty()
            && Arc::ptr_eq(&self.catalog, &session.catalog())
            // Settings that binding depends on make the functions anew.
            && Arc::ptr_eq(&self.functions, &session.functions());
        same.then_some(&self.plan)
    }
}

impl Planned {
    pub(crate) fn allowed_in_failed_transaction(&self) -> bool {
        let Body::Sql(sql) = self.statement.0.as_ref() else { return false };
        matches!(
            &sql.kind,
            StatementKind::Transaction(
                Transaction::Commit { .. }
                    | Transaction::Rollback { .. }
                    | Transaction::RollbackTo(_)
            )
        )
    }
}

/// Splits a text into statements. A text that is VPL is one statement as a whole.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, Diagnostic> {
    if auspex_vpl::looks_like_vpl(text) {
        let span = Span::new(0, text.len());
        return Ok(vec![Statement(Arc::new(Body::Vpl { text: text.to_string(), span }))]);
    }
    let statements = auspex_sql::parse(text)?;
    Ok(statements.into_iter().map(|s| Statement(Arc::new(Body::Sql(Box::new(s))))).collect())
}

/// What a statement's parameters and result columns are.
pub(super) fn prepare(
    session: &mut Session,
    _text: &str,
    statement: &Statement,
    declared: &[Option<ColumnType>],
) -> Result<Prepared, Diagnostic> {
    let described = match statement.0.as_ref() {
        Body::Vpl { .. } => Described::default(),
        Body::Sql(sql) => describe(session, sql, declared)?,
    };
    let mut params = described.params;
    for (i, declared) in declared.iter().enumerate() {
        match (params.get_mut(i), declared) {
            (Some(slot), Some(t)) => *slot = t.clone(),
            (Some(_), None) => {}
            (None, t) => params.push(t.clone().unwrap_or(ColumnType::Text)),
        }
    }
    Ok(Prepared {
        params: params.clone(),
        columns: described.columns.clone(),
        statement: Planned {
            statement: statement.clone(),
            params,
            columns: described.columns,
            bound: described.bound,
        },
    })
}

/// Parameters and result columns of a statement.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) params: Vec<ColumnType>,
    pub(super) columns: Option<arrow::datatypes::SchemaRef>,
    /// The plan, where it is worth keeping.
    pub(super) bound: Option<Arc<Bound>>,
}

impl Described {
    /// With a plan to be kept.
    pub(super) fn keeping(self, session: &Session, plan: BoundPlan) -> Described {
        Described { bound: Bound::keep(session, plan), ..self }
    }
}

/// Describes a SQL statement without running it.
pub(super) fn describe(
    session: &Session,
    statement: &SqlStatement,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    match &statement.kind {
        StatementKind::Query(q) => query::describe(session, q, declared),
        StatementKind::Insert(i) => dml::describe_insert(session, i, declared),
        StatementKind::Update(u) => dml::describe_update(session, u, declared),
        StatementKind::Delete(d) => dml::describe_delete(session, d, declared),
        StatementKind::Subscribe(s) => cursor::describe_subscribe(session, s, declared),
        StatementKind::Declare(d) => match &d.body {
            CursorBody::Query(q) => Ok(Described {
                columns: None,
                bound: None,
                ..query::describe(session, q, declared)?
            }),
            CursorBody::Subscribe(s) => {
                Ok(Described { columns: None, ..cursor::describe_subscribe(session, s, declared)? })
            }
        },
        StatementKind::Fetch(f) => cursor::describe_fetch(session, f),
        StatementKind::Explain(e) => explain::describe(session, e, declared),
        StatementKind::Show(s) => Ok(show::describe(s)),
        StatementKind::Execute { name, .. } => {
            let named = session.named_statement(name)?;
            let described = describe(session, &named.statement, &named.types)?;
            Ok(Described { params: Vec::new(), bound: None, ..described })
        }
        _ => Ok(Described::default()),
    }
}

/// Runs a prepared statement.
pub(super) async fn execute(
    session: &mut Session,
    prepared: &Prepared,
    params: Vec<ScalarValue>,
) -> Result<Outcome, Diagnostic> {
    let planned = &prepared.statement;
    if params.len() != planned.params.len() {
        return Err(Diagnostic::error(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {} parameters, but the statement requires {}",
                params.len(),
                planned.params.len()
            ),
        ));
    }
    let outcome = match planned.statement.0.as_ref() {
        Body::Vpl { text, .. } => program::run_vpl(session, text).await.map(Outcome::Done)?,
        Body::Sql(sql) => {
            let bound = planned.bound.as_deref();
            run(session, sql, &Arguments { types: &planned.params, values: &params, bound }).await?
        }
    };
    if let (Outcome::Rows { schema, .. }, Some(described)) = (&outcome, &planned.columns)
        && !same_shape(schema, described)
    {
        return Err(Diagnostic::unsupported("cached plan must not change result type"));
    }
    Ok(outcome)
}

fn same_shape(a: &arrow::datatypes::Schema, b: &arrow::datatypes::Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields().iter().zip(b.fields()).all(|(a, b)| {
            ColumnType::from_field(a) == ColumnType::from_field(b) && a.name() == b.name()
        })
}

/// Values of `$1`, `$2`, .. with their types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments<'a> {
    pub(super) types: &'a [ColumnType],
    pub(super) values: &'a [ScalarValue],
    /// The plan made when the statement was described.
    bound: Option<&'a Bound>,
}

impl Arguments<'_> {
    /// No parameters.
    pub(super) const NONE: Arguments<'static> = Arguments { types: &[], values: &[], bound: None };

    /// The plan of a query, kept or new.
    pub(super) fn query(
        &self,
        session: &Session,
        query: &auspex_sql::statement::Query,
    ) -> Result<BoundQuery, Diagnostic> {
        match self.bound.and_then(|b| b.usable(session)) {
            Some(BoundPlan::Query(bound)) => Ok(bound.clone()),
            _ => session.bind_query(query, &self.declared()),
        }
    }

    /// The plan of an INSERT, kept or new.
    pub(super) fn insert(
        &self,
        session: &Session,
        insert: &auspex_sql::statement::Insert,
    ) -> Result<BoundInsert, Diagnostic> {
        match self.bound.and_then(|b| b.usable(session)) {
            Some(BoundPlan::Insert(bound)) => Ok(bound.clone()),
            _ => session.binder().bind_insert(insert, &self.declared()),
        }
    }

    /// The types as a client declares them.
    pub(super) fn declared(&self) -> Vec<Option<ColumnType>> {
        self.types.iter().cloned().map(Some).collect()
    }
}

/// Runs a SQL statement.
pub(super) async fn run(
    session: &mut Session,
    statement: &SqlStatement,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    let tag = |tag: Result<String, Diagnostic>| tag.map(Outcome::Done);
    match &statement.kind {
        StatementKind::CreateStream(s) => tag(ddl::create_stream(session, s, None).await),
        StatementKind::CreateStreamAs(s) => tag(ddl::create_stream_as(session, s, None).await),
        StatementKind::CreateTable(s) => tag(ddl::create_table(session, s).await),
        StatementKind::CreateView(s) => tag(ddl::create_view(session, s).await),
        StatementKind::CreateSink(s) => tag(ddl::create_sink(session, s).await),
        StatementKind::Backup { directory, span } => {
            tag(backup::backup(session, directory).await.map_err(|e| e.at(*span)))
        }
        StatementKind::CreatePipeline(s) => tag(program::create_pipeline(session, s).await),
        StatementKind::Drop(s) => tag(ddl::drop(session, s).await),
        StatementKind::Alter(s) => tag(ddl::alter(session, s).await),
        StatementKind::Insert(s) => dml::insert(session, s, args).await,
        StatementKind::Update(s) => dml::update(session, s, args).await,
        StatementKind::Delete(s) => dml::delete(session, s, args).await,
        StatementKind::Truncate(s) => tag(dml::truncate(session, s).await),
        StatementKind::Copy(c) => match &c.what {
            CopyWhat::From { name, columns } => {
                ingest::copy_in(session, name, columns, &c.options).await
            }
            _ => query::copy_out(session, c, args).await,
        },
        StatementKind::Query(q) => query::select(session, q, args).await,
        StatementKind::Subscribe(s) => cursor::subscribe(session, s, args).await,
        StatementKind::Explain(e) => explain::explain(session, e, args).await,
        StatementKind::Show(s) => show::show(session, s),
        StatementKind::Listen(name) => tag(show::listen(session, name)),
        StatementKind::Unlisten(name) => tag(show::unlisten(session, name.as_ref())),
        StatementKind::Notify { channel, payload } => {
            tag(show::notify(session, &channel.value, payload))
        }
        StatementKind::Declare(d) => tag(cursor::declare(session, d, args).await),
        StatementKind::Fetch(f) => cursor::fetch(session, f).await,
        StatementKind::Close(name) => tag(cursor::close(session, name.as_ref())),
        StatementKind::Transaction(t) => tag(transaction(session, t).await),
        StatementKind::Set(s) => {
            let text = s.value.text();
            session
                .set(&s.name.value, text.as_deref(), s.local)
                .map_err(|e| e.at_opt(Some(s.name.span)))?;
            tag(Ok("SET".into()))
        }
        StatementKind::Reset(name) => {
            match name {
                Some(name) => session.set(&name.value, None, false).map_err(|e| e.at(name.span))?,
                None => session.reset_all(),
            }
            tag(Ok("RESET".into()))
        }
        StatementKind::Discard(d) => tag(session.discard(*d)),
        StatementKind::Prepare(p) => {
            session.prepare_named(p)?;
            tag(Ok("PREPARE".into()))
        }
        StatementKind::Execute { name, arguments } => {
            Box::pin(execute_named(session, name, arguments)).await
        }
        StatementKind::Deallocate(name) => tag(session.deallocate(name.as_ref())),
        StatementKind::Maintenance(m) => {
            session.notice(maintenance_notice(*m));
            tag(Ok(m.tag().into()))
        }
    }
}

fn maintenance_notice(m: Maintenance) -> Diagnostic {
    Diagnostic {
        state: SqlState("00000"),
        ..Diagnostic::warning(format!("{} has nothing to do here", m.tag()))
    }
}

async fn transaction(session: &mut Session, t: &Transaction) -> Result<String, Diagnostic> {
    match t {
        Transaction::Begin(modes) => session.begin(modes),
        Transaction::Commit { chain } => session.commit_block(*chain).await,
        Transaction::Rollback { chain } => Ok(session.rollback_block(*chain)),
        Transaction::Savepoint(name) => {
            session.require_block("SAVEPOINT")?;
            session.work.savepoint(&name.value);
            Ok("SAVEPOINT".into())
        }
        Transaction::Release(name) => {
            session.require_block("RELEASE SAVEPOINT")?;
            match session.work.release(&name.value) {
                true => Ok("RELEASE".into()),
                false => Err(no_savepoint(&name.value).at(name.span)),
            }
        }
        Transaction::RollbackTo(name) => {
            session.require_block("ROLLBACK TO SAVEPOINT")?;
            match session.work.rollback_to(&name.value) {
                Some(true) => {
                    session.reopen_block();
                    Ok("ROLLBACK".into())
                }
                Some(false) => Err(Diagnostic::unsupported(
                    "cannot go back to a savepoint before CREATE, ALTER or DROP",
                )
                .at(name.span)
                .hint("Roll back the whole transaction.")),
                None => Err(no_savepoint(&name.value).at(name.span)),
            }
        }
        Transaction::Set { session: whole, modes } => {
            session.set_modes(modes, *whole)?;
            Ok("SET".into())
        }
    }
}

fn no_savepoint(name: &str) -> Diagnostic {
    Diagnostic::error(SqlState("3B001"), format!("savepoint \"{name}\" does not exist"))
}

async fn execute_named(
    session: &mut Session,
    name: &auspex_sql::statement::Ident,
    arguments: &[auspex_sql::statement::Expr],
) -> Result<Outcome, Diagnostic> {
    let NamedStatement { statement, types } = session.named_statement(name)?.clone();
    let described = describe(session, &statement, &types)?;
    let params = described.params;
    if params.len() != arguments.len() {
        return Err(Diagnostic::error(
            SqlState::SYNTAX_ERROR,
            format!("wrong number of parameters for prepared statement \"{}\"", name.value),
        )
        .detail(format!("Expected {} parameters but got {}.", params.len(), arguments.len()))
        .at(name.span));
    }
    let values = arguments
        .iter()
        .zip(&params)
        .map(|(expr, t)| session.constant(expr, t, &Arguments::NONE))
        .collect::<Result<Vec<_>, _>>()?;
    run(session, &statement, &Arguments { types: &params, values: &values, bound: None }).await
}

impl Session {
    fn prepare_named(
        &mut self,
        prepare: &auspex_sql::statement::Prepare,
    ) -> Result<(), Diagnostic> {
        let name = &prepare.name;
        if self.named.contains_key(&name.value) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{}\" already exists", name.value),
            )
            .at(name.span));
        }
        describe(self, &prepare.statement, &prepare.types)?;
        let named = NamedStatement {
            statement: (*prepare.statement).clone(),
            types: prepare.types.clone(),
        };
        self.named.insert(name.value.clone(), named);
        Ok(())
    }

    fn named_statement(
        &self,
        name: &auspex_sql::statement::Ident,
    ) -> Result<&NamedStatement, Diagnostic> {
        self.named.get(&name.value).ok_or_else(|| {
            Diagnostic::error(
                SqlState::INVALID_SQL_STATEMENT_NAME,
                format!("prepared statement \"{}\" does not exist", name.value),
            )
            .at(name.span)
        })
    }

    fn deallocate(
        &mut self,
        name: Option<&auspex_sql::statement::Ident>,
    ) -> Result<String, Diagnostic> {
        match name {
            None => {
                self.named.clear();
                self.closed_statements.push(None);
                Ok("DEALLOCATE ALL".into())
            }
            Some(name) => {
                if self.named.remove(&name.value).is_none() {
                    // The name may be that of a protocol statement, which the protocol forgets.
                    self.closed_statements.push(Some(name.value.clone()));
                }
                Ok("DEALLOCATE".into())
            }
        }
    }

    fn reset_all(&mut self) {
        self.settings.reset_all();
        self.settings_changed();
    }

    fn discard(&mut self, what: auspex_sql::statement::Discard) -> Result<String, Diagnostic> {
        use auspex_sql::statement::Discard;
        match what {
            Discard::All => {
                if self.status() != super::api::TransactionStatus::Idle {
                    return Err(Diagnostic::error(
                        SqlState::ACTIVE_SQL_TRANSACTION,
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.cursors.clear();
                self.named.clear();
                self.closed_statements.push(None);
                self.engine.hub.unlisten_all(self.pid());
                self.reset_all();
                Ok("DISCARD ALL".into())
            }
            // Plans are made anew each time; there are no sequences and no temporary tables.
            Discard::Plans => Ok("DISCARD PLANS".into()),
            Discard::Sequences => Ok("DISCARD SEQUENCES".into()),
            Discard::Temp => Ok("DISCARD TEMP".into()),
        }
    }
}
