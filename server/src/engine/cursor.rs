//! SUBSCRIBE as a statement, and cursors over queries and subscriptions.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use auspex_exec::BuildOptions;
use auspex_plan::catalog::Object;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use auspex_sql::statement::{
    CursorBody, DeclareCursor, Direction, FetchCursor, Ident, Overflow, Subscribe, SubscribeFrom,
    SubscribeTarget, SubscribeUntil,
};
use datafusion::common::ScalarValue;
use futures::{StreamExt, stream};

use super::api::{Outcome, RowStream, TransactionStatus};
use super::catalog::{find, require};
use super::session::Session;
use super::statement::{Arguments, Described};
use super::subscribe::{SubscribeOptions, Subscription, Transform};
use super::{errors, query};

/// An open cursor.
pub(crate) struct Cursor {
    schema: SchemaRef,
    hold: bool,
    /// Made in a transaction block that has not been committed.
    fresh: bool,
    rows: CursorRows,
}

enum CursorRows {
    Query { rows: RowStream, rest: Option<RecordBatch>, position: u64 },
    Subscription(Box<Subscription>),
}

impl Cursor {
    /// Columns of the cursor's rows: clients describe a cursor as the portal that it is in
    /// PostgreSQL.
    pub(crate) fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether the cursor stays open at the end of its transaction.
    pub(crate) fn survives_transaction(&mut self, committed: bool) -> bool {
        let keep = self.hold && (committed || !self.fresh);
        if committed {
            self.fresh = false;
        }
        keep
    }
}

/// Parameters and result columns of a SUBSCRIBE.
pub(super) fn describe_subscribe(
    session: &Session,
    subscribe: &Subscribe,
    declared: &[Option<ColumnType>],
) -> Result<Described, Diagnostic> {
    let params = session.subscribe_params(subscribe, declared)?;
    let subscription = open(session, subscribe, None)?;
    Ok(Described { params, columns: Some(subscription.schema()), bound: None })
}

/// Waits until the stream of a subscription has what the session wrote: `NOW` is behind it.
pub(super) async fn settle(session: &mut Session, subscribe: &Subscribe) {
    let catalog = session.catalog();
    let inputs = match &subscribe.target {
        SubscribeTarget::Name(name) => {
            let path = session.settings.search_path();
            find(&catalog, &path, name).map(|o| vec![o.id]).unwrap_or_default()
        }
        // What is wrong with the query is said when it is opened.
        SubscribeTarget::Query(q) => {
            session.bind_continuous(q, None).map(|b| b.query.inputs).unwrap_or_default()
        }
    };
    session.reader().wait(&inputs).await;
}

/// `SUBSCRIBE ..` as a statement: rows as they come.
pub(super) async fn subscribe(
    session: &mut Session,
    subscribe: &Subscribe,
    args: &Arguments<'_>,
) -> Result<Outcome, Diagnostic> {
    settle(session, subscribe).await;
    let subscription = open(session, subscribe, Some(args))?;
    Ok(Outcome::Rows {
        schema: subscription.schema(),
        rows: subscription.into_rows(),
        tag: "SUBSCRIBE",
        counted: true,
    })
}

/// A subscription ready to read. Without arguments (to describe it) positions are not looked at.
pub(super) fn open(
    session: &Session,
    subscribe: &Subscribe,
    args: Option<&Arguments<'_>>,
) -> Result<Subscription, Diagnostic> {
    if subscribe.snapshot == Some(true) {
        return Err(Diagnostic::unsupported(
            "SNAPSHOT needs a keyed relation, a stream has no snapshot",
        )
        .at(subscribe.span)
        .hint("SUBSCRIBE .. FROM BEGINNING delivers the retained rows first."));
    }
    let (object, transform) = target(session, subscribe)?;
    let store = session.engine.store.clone();
    let mut options = SubscribeOptions {
        from: 0,
        until: None,
        until_time: None,
        metadata: subscribe.metadata,
        progress: subscribe.progress_us.map(|us| Duration::from_micros(us.unsigned_abs())),
        gap: subscribe.on_overflow == Overflow::Gap,
    };
    if options.progress.is_some() && !options.metadata {
        return Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            "PROGRESS rows need the metadata columns",
        )
        .at(subscribe.span)
        .hint("Leave METADATA = false out."));
    }
    if let Some(args) = args {
        let head = store.head(object.id).map_err(errors::storage)?;
        options.from = start(session, &subscribe.from, &object, head, args)?;
        match &subscribe.until {
            None => {}
            Some(SubscribeUntil::Now) => options.until = Some(head.next),
            Some(SubscribeUntil::Offset(expr)) => {
                let last = session.offset_constant(expr, args)?;
                options.until = Some(last.saturating_add(1));
            }
            Some(SubscribeUntil::Timestamp(expr)) => {
                options.until_time = Some(session.time_constant(expr, args)?);
            }
        }
    }
    let name = object.name.to_string();
    Subscription::new(store, object.id, name, object.schema(), transform, options)
}

/// The stream a subscription reads and what it computes from its rows.
fn target(
    session: &Session,
    subscribe: &Subscribe,
) -> Result<(Object, Option<Transform>), Diagnostic> {
    let catalog = session.catalog();
    match &subscribe.target {
        SubscribeTarget::Name(name) => {
            let object = require(&catalog, &session.settings.search_path(), name)?;
            if object.log().is_none() {
                return Err(Diagnostic::unsupported(format!(
                    "cannot subscribe to {} \"{}\"",
                    object.kind_name(),
                    object.name
                ))
                .at(name.span())
                .hint("Streams and materialized views can be subscribed to."));
            }
            Ok((object.clone(), None))
        }
        SubscribeTarget::Query(q) => {
            let bound = session.bind_continuous(q, None)?;
            let query = session.engine.optimize(bound.query)?;
            let [input] = query.inputs.as_slice() else {
                return Err(Diagnostic::unsupported(
                    "SUBSCRIBE to a query over several streams is not available",
                )
                .at(q.span)
                .hint("CREATE STREAM .. AS the query, and subscribe to that stream."));
            };
            let object = catalog.get(*input).cloned().ok_or_else(|| {
                Diagnostic::error(SqlState::UNDEFINED_TABLE, "the stream was dropped")
            })?;
            let graph = auspex_exec::build(&query, &BuildOptions::default())
                .map_err(|e| errors::exec(&e).at_opt(Some(q.span)))?;
            Ok((object, Some(Transform::new(graph))))
        }
    }
}

fn start(
    session: &Session,
    from: &SubscribeFrom,
    object: &Object,
    head: auspex_storage::Head,
    args: &Arguments<'_>,
) -> Result<u64, Diagnostic> {
    let offset = match from {
        SubscribeFrom::Now => return Ok(head.next),
        SubscribeFrom::Beginning => return Ok(head.oldest),
        SubscribeFrom::Timestamp(expr) => {
            let time = session.time_constant(expr, args)?;
            return session.engine.store.offset_at_time(object.id, time).map_err(errors::storage);
        }
        SubscribeFrom::Offset(expr) => session.offset_constant(expr, args)?,
        SubscribeFrom::AfterOffset(expr) => session.offset_constant(expr, args)?.saturating_add(1),
    };
    if offset > head.next {
        return Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("offset {offset} is beyond the end of stream \"{}\"", object.name),
        )
        .detail(format!("oldest={} next={}", head.oldest, head.next)));
    }
    Ok(offset)
}

impl Session {
    /// A constant that must be a stream offset. -1 is allowed: "after -1" is the beginning.
    fn offset_constant(
        &self,
        expr: &auspex_sql::statement::Expr,
        args: &Arguments<'_>,
    ) -> Result<u64, Diagnostic> {
        match self.constant(expr, &ColumnType::BigInt, args)? {
            ScalarValue::Int64(Some(-1)) => Ok(u64::MAX),
            ScalarValue::Int64(Some(n)) if n >= 0 => Ok(n.unsigned_abs()),
            _ => Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                "an offset must be a number that is not negative",
            )
            .at(expr.span)),
        }
    }

    /// A constant that must be a moment, in microseconds.
    fn time_constant(
        &self,
        expr: &auspex_sql::statement::Expr,
        args: &Arguments<'_>,
    ) -> Result<i64, Diagnostic> {
        match self.constant(expr, &ColumnType::Timestamptz, args)? {
            ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(us),
            _ => Err(Diagnostic::error(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "the timestamp must not be null",
            )
            .at(expr.span)),
        }
    }

    fn cursor_mut(&mut self, name: &Ident) -> Result<&mut Cursor, Diagnostic> {
        self.cursors.get_mut(&name.value).ok_or_else(|| no_cursor(name))
    }
}

fn no_cursor(name: &Ident) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_CURSOR_NAME,
        format!("cursor \"{}\" does not exist", name.value),
    )
    .at(name.span)
}

/// `DECLARE name CURSOR FOR ..`.
pub(super) async fn declare(
    session: &mut Session,
    declare: &DeclareCursor,
    args: &Arguments<'_>,
) -> Result<String, Diagnostic> {
    let subscription = matches!(declare.body, CursorBody::Subscribe(_));
    if session.status() == TransactionStatus::Idle && !declare.hold && !subscription {
        return Err(Diagnostic::error(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "DECLARE CURSOR can only be used in transaction blocks",
        )
        .hint("BEGIN a transaction first, or declare the cursor WITH HOLD."));
    }
    if session.cursors.contains_key(&declare.name.value) {
        return Err(Diagnostic::error(
            SqlState::DUPLICATE_CURSOR,
            format!("cursor \"{}\" already exists", declare.name.value),
        )
        .at(declare.name.span));
    }
    if declare.binary {
        return Err(Diagnostic::unsupported("binary cursors are not available")
            .at(declare.name.span)
            .hint("Ask for binary results in the extended protocol."));
    }
    if declare.scroll == Some(true) {
        return Err(Diagnostic::unsupported("cursors can only be scrolled forward")
            .at(declare.name.span)
            .hint("Leave SCROLL out."));
    }
    let (schema, rows) = match &declare.body {
        CursorBody::Query(q) => {
            let (schema, rows) = query::rows(session, q, args).await?;
            (schema, CursorRows::Query { rows, rest: None, position: 0 })
        }
        CursorBody::Subscribe(s) => {
            settle(session, s).await;
            let subscription = open(session, s, Some(args))?;
            (subscription.schema(), CursorRows::Subscription(Box::new(subscription)))
        }
    };
    // A subscription has a meaning outside transactions only, so it always outlives them.
    let cursor = Cursor { schema, hold: declare.hold || subscription, fresh: true, rows };
    session.cursors.insert(declare.name.value.clone(), cursor);
    Ok("DECLARE CURSOR".into())
}

/// `CLOSE name` and `CLOSE ALL`.
pub(super) fn close(session: &mut Session, name: Option<&Ident>) -> Result<String, Diagnostic> {
    match name {
        None => {
            session.cursors.clear();
            Ok("CLOSE CURSOR ALL".into())
        }
        Some(name) => match session.cursors.remove(&name.value) {
            Some(_) => Ok("CLOSE CURSOR".into()),
            None => Err(no_cursor(name)),
        },
    }
}

/// Result columns of a FETCH.
pub(super) fn describe_fetch(
    session: &Session,
    fetch: &FetchCursor,
) -> Result<Described, Diagnostic> {
    let cursor =
        session.cursors.get(&fetch.cursor.value).ok_or_else(|| no_cursor(&fetch.cursor))?;
    let columns = (!fetch.is_move).then(|| cursor.schema.clone());
    Ok(Described { params: Vec::new(), columns, bound: None })
}

/// Rows to pass over, then rows to return.
fn forward(direction: &Direction, position: u64) -> Option<(u64, Option<u64>)> {
    match direction {
        Direction::Forward(None) => Some((0, None)),
        Direction::Forward(Some(0)) => None,
        Direction::Forward(n) => Some((0, *n)),
        Direction::Relative(n) if *n > 0 => Some((n.unsigned_abs() - 1, Some(1))),
        Direction::Absolute(n) if *n > 0 && n.unsigned_abs() > position => {
            Some((n.unsigned_abs() - position - 1, Some(1)))
        }
        _ => None,
    }
}

/// `FETCH` and `MOVE`.
pub(super) async fn fetch(
    session: &mut Session,
    fetch: &FetchCursor,
) -> Result<Outcome, Diagnostic> {
    let default_timeout = session.settings.millis("fetch_timeout").map(Duration::from_millis);
    let timeout =
        fetch.timeout_us.map(|us| Duration::from_micros(us.unsigned_abs())).or(default_timeout);
    let cursor = session.cursor_mut(&fetch.cursor)?;
    let schema = cursor.schema.clone();
    let rows = match &mut cursor.rows {
        CursorRows::Query { rows, rest, position } => {
            if fetch.timeout_us.is_some() {
                return Err(Diagnostic::error(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "TIMEOUT is for cursors over a subscription",
                )
                .at(fetch.cursor.span));
            }
            let (skip, take) =
                forward(&fetch.direction, *position).ok_or_else(|| only_forward(fetch))?;
            pull(rows, rest, skip).await?;
            let taken = pull(rows, rest, take.unwrap_or(u64::MAX)).await?;
            let count: usize = taken.iter().map(RecordBatch::num_rows).sum();
            *position += skip + count as u64;
            taken
        }
        CursorRows::Subscription(subscription) => {
            let limit = match &fetch.direction {
                Direction::Forward(None) => usize::MAX,
                Direction::Forward(Some(n)) if *n > 0 => usize::try_from(*n).unwrap_or(usize::MAX),
                _ => return Err(only_forward(fetch)),
            };
            fetch_subscription(subscription, limit, timeout).await?
        }
    };
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    if fetch.is_move {
        return Ok(Outcome::Done(format!("MOVE {count}")));
    }
    let rows = stream::iter(rows.into_iter().map(Ok));
    Ok(Outcome::Rows { schema, rows: Box::pin(rows), tag: "FETCH", counted: true })
}

fn only_forward(fetch: &FetchCursor) -> Diagnostic {
    Diagnostic::error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
        .at(fetch.cursor.span)
}

/// The next `count` rows of a query's result.
async fn pull(
    rows: &mut RowStream,
    rest: &mut Option<RecordBatch>,
    count: u64,
) -> Result<Vec<RecordBatch>, Diagnostic> {
    let mut taken = Vec::new();
    let mut left = count;
    while left > 0 {
        let batch = match rest.take() {
            Some(batch) => batch,
            None => match rows.next().await {
                Some(batch) => batch?,
                None => break,
            },
        };
        let n = (batch.num_rows() as u64).min(left) as usize;
        if n < batch.num_rows() {
            *rest = Some(batch.slice(n, batch.num_rows() - n));
        }
        left -= n as u64;
        if n > 0 {
            taken.push(batch.slice(0, n));
        }
    }
    Ok(taken)
}

/// What is there, at most `limit` rows; waits for the first one. Nothing is consumed before rows
/// are returned, so a cancelled FETCH loses none.
async fn fetch_subscription(
    subscription: &mut Subscription,
    limit: usize,
    timeout: Option<Duration>,
) -> Result<Vec<RecordBatch>, Diagnostic> {
    let deadline = timeout.map(|t| tokio::time::Instant::now() + t);
    let mut rows = Vec::new();
    loop {
        let mut left = limit;
        while left > 0 {
            let Some(batch) = subscription.poll(left)? else { break };
            left = left.saturating_sub(batch.num_rows());
            rows.push(batch);
        }
        let now = limit == usize::MAX && timeout.is_none();
        if !rows.is_empty() || subscription.ended() || now {
            break;
        }
        match deadline {
            None => subscription.changed().await,
            Some(at) => {
                if tokio::time::timeout_at(at, subscription.changed()).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(rows)
}
