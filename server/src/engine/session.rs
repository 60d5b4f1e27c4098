//! One client's state: settings, transaction, cursors, prepared statements, registrations.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError};

use auspex_plan::catalog::Catalog;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use auspex_replication::LogEntry;
use auspex_sql::Functions;
use auspex_sql::statement::{Statement as SqlStatement, TransactionMode};
use auspex_storage::{Committed, Durability, SharedStore, Staged, Transaction as StoreTransaction};
use datafusion::common::ScalarValue;

use super::api::{CancelToken, Notification, Outcome, Prepared, TransactionStatus};
use super::cursor::Cursor;
use super::functions::Outbox;
use super::ingest::CopyIn;
use super::notify::{Overflow, Queue};
use super::settings::Settings;
use super::statement::Statement;
use super::table::changes as table_changes;
use super::transaction::{Ddl, ListenChange, Work};
use super::{Engine, errors};

/// What other sessions can see of a session (`auspex.sessions`).
#[derive(Debug, Clone)]
pub(crate) struct SessionInfo {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) application: String,
    pub(crate) started_us: i64,
}

/// A statement kept by `PREPARE`.
#[derive(Debug, Clone)]
pub(crate) struct NamedStatement {
    pub(crate) statement: SqlStatement,
    pub(crate) types: Vec<Option<ColumnType>>,
}

/// A client of the engine. See [`super::api::SessionContract`] for the methods a protocol uses.
pub struct Session {
    pub(crate) engine: Arc<Engine>,
    pid: i32,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) settings: Settings,
    pub(crate) work: Work,
    block: TransactionStatus,
    /// Settings changed with `SET LOCAL`, and what they were.
    local_settings: Vec<(String, Option<String>)>,
    pub(crate) cursors: BTreeMap<String, Cursor>,
    pub(crate) named: BTreeMap<String, NamedStatement>,
    /// Names given to DEALLOCATE that the protocol has to forget; `None` for all.
    pub(crate) closed_statements: Vec<Option<String>>,
    notices: Vec<Diagnostic>,
    queue: Arc<Queue>,
    cancel: CancelToken,
    /// Notifications asked for by functions of the running transaction.
    pub(crate) outbox: Outbox,
    /// Made when first needed, anew when settings change.
    functions: OnceLock<Arc<Functions>>,
    /// Global sequence behind the last row this session wrote: what its reads wait for.
    pub(crate) last_sequence: u64,
}

impl Session {
    pub(super) fn new(engine: Arc<Engine>, pid: i32, user: &str, database: &str) -> Self {
        let queue = engine.hub.register(pid);
        let mut settings = Settings::default();
        settings.set_fixed("session_authorization", user);
        let info = SessionInfo {
            user: user.to_string(),
            database: database.to_string(),
            application: String::new(),
            started_us: super::now_us(),
        };
        engine.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, info);
        Session {
            engine,
            pid,
            user: user.to_string(),
            database: database.to_string(),
            settings,
            work: Work::default(),
            block: TransactionStatus::Idle,
            local_settings: Vec::new(),
            cursors: BTreeMap::new(),
            named: BTreeMap::new(),
            closed_statements: Vec::new(),
            notices: Vec::new(),
            queue,
            cancel: CancelToken::default(),
            outbox: Outbox::default(),
            functions: OnceLock::new(),
            last_sequence: 0,
        }
    }

    /// Number of this session, unique in the server's life.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Cancels the running statement when told so.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Transaction state.
    pub fn status(&self) -> TransactionStatus {
        self.block
    }

    /// What this session's SQL can call.
    pub(crate) fn functions(&self) -> Arc<Functions> {
        self.functions.get_or_init(|| Arc::new(super::functions::of_session(self))).clone()
    }

    /// The catalog as this session sees it, uncommitted changes included.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        match &self.work.ddl {
            Some(ddl) => ddl.catalog.clone(),
            None => self.engine.catalog(),
        }
    }

    /// The statements of a query string, in order.
    pub fn parse(&self, text: &str) -> Result<Vec<Statement>, Diagnostic> {
        super::statement::parse(text)
    }

    /// Plans a statement of `text`: what its parameters and result columns are.
    pub async fn prepare(
        &mut self,
        text: &str,
        statement: &Statement,
        declared: &[Option<ColumnType>],
    ) -> Result<Prepared, Diagnostic> {
        super::statement::prepare(self, text, statement, declared)
    }

    /// Runs a prepared statement.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        params: Vec<ScalarValue>,
    ) -> Result<Outcome, Diagnostic> {
        if self.block == TransactionStatus::Failed && !prepared.allowed_in_failed_transaction() {
            return Err(Diagnostic::error(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        super::statement::execute(self, prepared, params).await
    }

    /// Adds the rows of a `COPY .. FROM STDIN` that has come to its end to the transaction and
    /// returns the command tag.
    pub async fn finish_copy(&mut self, copy: Box<CopyIn>) -> Result<String, Diagnostic> {
        let rows = super::ingest::finish_copy(self, *copy).await?;
        Ok(format!("COPY {rows}"))
    }

    /// Sync, or the end of a simple query string: ends the implicit transaction. When a statement
    /// has failed, an implicit transaction is rolled back and an explicit block becomes failed.
    pub async fn end_of_pipeline(&mut self, failed: bool) -> Result<(), Diagnostic> {
        match (self.block, failed) {
            (TransactionStatus::Idle, false) => self.commit().await,
            (TransactionStatus::Idle, true) => {
                self.rollback();
                Ok(())
            }
            (TransactionStatus::Open, true) => {
                self.block = TransactionStatus::Failed;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Messages for the client that are not errors, since the last call.
    pub fn take_notices(&mut self) -> Vec<Diagnostic> {
        if self.queue.take_overflow_warning() {
            self.notices.push(
                Diagnostic::warning(
                    "notifications were left out because they were not read in time",
                )
                .hint("Each gap is announced in its channel as {\"_gap\": ..}."),
            );
        }
        std::mem::take(&mut self.notices)
    }

    /// Names of protocol statements that `DEALLOCATE` closed since the last call; `None` for all.
    pub fn take_closed_statements(&mut self) -> Vec<Option<String>> {
        std::mem::take(&mut self.closed_statements)
    }

    /// Queues a NOTICE or WARNING.
    pub(crate) fn notice(&mut self, notice: Diagnostic) {
        self.notices.push(notice);
    }

    /// Reported settings that have changed since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(&'static str, String)> {
        self.settings.take_changes()
    }

    /// Reported settings at session start.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        self.settings.reported()
    }

    /// Value of a setting.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name)
    }

    /// A duration setting in milliseconds, `None` when it is off.
    pub fn setting_millis(&self, name: &str) -> Option<u64> {
        self.settings.millis(name)
    }

    /// A startup parameter.
    pub fn set_startup(&mut self, name: &str, value: &str) -> Result<(), Diagnostic> {
        self.settings.set_initial(name, value)?;
        self.settings_changed();
        Ok(())
    }

    /// Brings everything in line with the settings after they changed.
    pub(crate) fn settings_changed(&mut self) {
        self.functions = OnceLock::new();
        let overflow = Overflow::parse(&self.settings.get("listen_overflow").unwrap_or_default());
        let payload =
            self.settings.get("listen_max_payload").and_then(|v| v.parse().ok()).unwrap_or(1 << 20);
        self.queue.configure(overflow, payload);
        let application = self.settings.get("application_name").unwrap_or_default();
        let mut sessions = self.engine.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(info) = sessions.get_mut(&self.pid) {
            info.application = application;
        }
    }

    /// `SET` or `SET LOCAL`.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<(), Diagnostic> {
        let before = self.settings.get(name);
        self.settings.set(name, value)?;
        if local && self.block == TransactionStatus::Open {
            self.local_settings.push((name.to_string(), before));
        } else if local {
            self.settings.set(name, before.as_deref())?;
            self.notice(Diagnostic::warning("SET LOCAL can only be used in transaction blocks"));
        }
        self.settings_changed();
        Ok(())
    }

    fn end_local_settings(&mut self) {
        for (name, value) in std::mem::take(&mut self.local_settings).into_iter().rev() {
            // The value was in force before, so it is valid.
            let _ = self.settings.set(&name, value.as_deref());
        }
        self.settings_changed();
    }

    /// Waits for the next notification. Cancel safe; pends for ever when nothing comes.
    pub async fn next_notification(&mut self) -> Notification {
        self.queue.next().await
    }

    /// A notification that is waiting.
    pub fn try_notification(&mut self) -> Option<Notification> {
        self.queue.pop()
    }

    /// The error that ends the session because its notification queue is full.
    pub fn overflow_error(&self) -> Option<Diagnostic> {
        self.queue.overflow_error()
    }

    /// `BEGIN`.
    pub(crate) fn begin(&mut self, modes: &[TransactionMode]) -> Result<String, Diagnostic> {
        if self.block == TransactionStatus::Idle {
            self.block = TransactionStatus::Open;
            let read_only = self.settings.is_on("default_transaction_read_only");
            self.set("transaction_read_only", Some(if read_only { "on" } else { "off" }), true)?;
        } else {
            let mut warning = Diagnostic::warning("there is already a transaction in progress");
            warning.state = SqlState::ACTIVE_SQL_TRANSACTION;
            self.notice(warning);
        }
        self.set_modes(modes, false)?;
        Ok("BEGIN".into())
    }

    /// `SET TRANSACTION ..`.
    pub(crate) fn set_modes(
        &mut self,
        modes: &[TransactionMode],
        session: bool,
    ) -> Result<(), Diagnostic> {
        for mode in modes {
            let (name, value) = match mode {
                TransactionMode::Isolation(level) => ("transaction_isolation", *level),
                TransactionMode::ReadOnly(true) => ("transaction_read_only", "on"),
                TransactionMode::ReadOnly(false) => ("transaction_read_only", "off"),
                TransactionMode::Deferrable(_) => continue,
            };
            if session {
                self.set(&format!("default_{name}"), Some(value), false)?;
            } else {
                self.set(name, Some(value), true)?;
            }
        }
        Ok(())
    }

    /// `COMMIT`, whose tag is `ROLLBACK` in a failed transaction.
    pub(crate) async fn commit_block(&mut self, chain: bool) -> Result<String, Diagnostic> {
        let tag = match self.block {
            TransactionStatus::Idle => {
                self.notice_no_transaction();
                self.commit().await?;
                "COMMIT"
            }
            TransactionStatus::Open => {
                let committed = self.commit().await;
                self.end_block(chain);
                committed?;
                "COMMIT"
            }
            TransactionStatus::Failed => {
                self.rollback();
                self.end_block(chain);
                "ROLLBACK"
            }
        };
        Ok(tag.into())
    }

    /// `ROLLBACK`.
    pub(crate) fn rollback_block(&mut self, chain: bool) -> String {
        if self.block == TransactionStatus::Idle {
            self.notice_no_transaction();
        }
        self.rollback();
        self.end_block(chain);
        "ROLLBACK".into()
    }

    fn notice_no_transaction(&mut self) {
        let mut warning = Diagnostic::warning("there is no transaction in progress");
        warning.state = SqlState::NO_ACTIVE_SQL_TRANSACTION;
        self.notice(warning);
    }

    fn end_block(&mut self, chain: bool) {
        self.end_local_settings();
        let open = chain && self.block != TransactionStatus::Idle;
        self.block = if open { TransactionStatus::Open } else { TransactionStatus::Idle };
    }

    /// Marks a failed block as usable again (`ROLLBACK TO`).
    pub(crate) fn reopen_block(&mut self) {
        if self.block == TransactionStatus::Failed {
            self.block = TransactionStatus::Open;
        }
    }

    /// 25P01 when there is no block, for statements that need one.
    pub(crate) fn require_block(&self, statement: &str) -> Result<(), Diagnostic> {
        if self.block != TransactionStatus::Idle {
            return Ok(());
        }
        Err(Diagnostic::error(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            format!("{statement} can only be used in transaction blocks"),
        ))
    }

    /// 25006 when the transaction may not write.
    pub(crate) fn require_writable(&self, statement: &str) -> Result<(), Diagnostic> {
        if !self.settings.is_on("transaction_read_only") {
            return Ok(());
        }
        Err(Diagnostic::error(
            SqlState("25006"),
            format!("cannot execute {statement} in a read-only transaction"),
        ))
    }

    fn rollback(&mut self) {
        self.work = Work::default();
        self.sent().clear();
        self.cursors.retain(|_, c| c.survives_transaction(false));
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything the transaction did visible and durable, in one piece.
    async fn commit(&mut self) -> Result<(), Diagnostic> {
        self.cursors.retain(|_, c| c.survives_transaction(true));
        let sent = std::mem::take(&mut *self.sent());
        for message in sent {
            super::show::send(self, message)?;
        }
        if self.work.is_empty() {
            self.work = Work::default();
            return Ok(());
        }
        let work = std::mem::take(&mut self.work);
        let Work { mut appends, staged, overlay, locks, ddl, notifies, listens, .. } = work;
        let overlay = Arc::try_unwrap(overlay).unwrap_or_else(|shared| (*shared).clone());
        let catalog = ddl.as_ref().map_or_else(|| self.engine.catalog(), |d| d.catalog.clone());
        let mut tables = overlay.into_changes();
        // A table may have been made, filled and dropped again.
        tables.retain(|change| catalog.get(change.table).is_some());
        appends.extend(table_changes::appends(&self.engine.store, &catalog, &tables)?);
        let wrote = !appends.is_empty() || !staged.is_empty() || !tables.is_empty();
        if wrote || ddl.is_some() {
            let mut transaction = StoreTransaction { appends, tables, ..Default::default() };
            if let Some(ddl) = &ddl {
                describe_ddl(ddl, &mut transaction);
            }
            // Only rows may be lost by asynchronous commit; the catalog never is.
            let synced =
                ddl.is_some() || self.settings.get("synchronous_commit").as_deref() != Some("off");
            let durability = if synced { Durability::Synced } else { Durability::Buffered };
            let store = self.engine.store.clone();
            let committed = submit(store, staged, transaction, durability).await?;
            self.last_sequence = self.last_sequence.max(committed.sequence);
        }
        if let Some(ddl) = ddl {
            self.engine.publish_ddl(ddl).await?;
        }
        drop(locks);
        for change in listens {
            self.apply_listen(change)?;
        }
        for (channel, payload) in notifies {
            self.engine.hub.notify(self.pid, &channel, &payload);
        }
        Ok(())
    }

    fn apply_listen(&self, change: ListenChange) -> Result<(), Diagnostic> {
        let hub = &self.engine.hub;
        match change {
            ListenChange::Listen(channel, stream) => {
                hub.listen(self.pid, &channel, stream).map_err(errors::storage)?;
            }
            ListenChange::Unlisten(channel) => hub.unlisten(self.pid, &channel),
            ListenChange::UnlistenAll => hub.unlisten_all(self.pid),
        }
        Ok(())
    }

    /// Begins to change the catalog: waits for other sessions' DDL to end.
    pub(crate) async fn ddl(&mut self) -> Result<&mut Ddl, Diagnostic> {
        if self.work.ddl.is_none() {
            let (lock, wait) = (self.engine.ddl_lock.clone(), self.lock_wait());
            let guard = acquire(lock, wait).await?;
            self.work.ddl = Some(Ddl {
                _guard: guard,
                catalog: self.engine.catalog(),
                commands: Vec::new(),
                created: Vec::new(),
                reconfigured: Vec::new(),
                dropped_streams: Default::default(),
                dropped_tables: Default::default(),
                start: Vec::new(),
                replace: Vec::new(),
                stale: Vec::new(),
                state_limits: Vec::new(),
                paused: Vec::new(),
            });
        }
        Ok(self.work.ddl.as_mut().expect("just set"))
    }

    /// Begins to change a table: waits for other transactions that are changing it.
    pub(crate) async fn lock_table(&mut self, table: u32) -> Result<(), Diagnostic> {
        if !self.work.locks.contains_key(&table) {
            let (lock, wait) = (self.engine.table_lock(table), self.lock_wait());
            let guard = acquire(lock, wait).await?;
            self.work.locks.insert(table, guard);
        }
        Ok(())
    }

    fn lock_wait(&self) -> u64 {
        self.settings.millis("lock_timeout").unwrap_or(10_000)
    }
}

/// Hands a transaction to the store and waits until it is as durable as asked for.
async fn submit(
    store: SharedStore,
    staged: Vec<Staged>,
    transaction: StoreTransaction,
    durability: Durability,
) -> Result<Committed, Diagnostic> {
    let small = staged.is_empty() && transaction.appends.iter().all(|a| a.rows.num_rows() < 1024);
    let pending = if small {
        store.submit(transaction, durability)
    } else {
        // Encoding and linking files take long enough to keep them off the connections' threads.
        tokio::task::spawn_blocking(move || store.submit_staged(staged, transaction, durability))
            .await
            .map_err(|_| errors::storage(auspex_storage::StorageError::Closed))?
    };
    pending.done().await.map_err(errors::storage)
}

/// Waits for a lock, at most `wait` milliseconds.
async fn acquire(
    lock: Arc<tokio::sync::Mutex<()>>,
    wait: u64,
) -> Result<tokio::sync::OwnedMutexGuard<()>, Diagnostic> {
    tokio::time::timeout(std::time::Duration::from_millis(wait), lock.lock_owned()).await.map_err(
        |_| {
            Diagnostic::error(
                SqlState::LOCK_NOT_AVAILABLE,
                "canceling statement due to lock timeout",
            )
            .hint("Another transaction holds the lock; it may be waiting for this one.")
        },
    )
}

/// What the store has to do for changes of the catalog.
fn describe_ddl(ddl: &Ddl, transaction: &mut StoreTransaction) {
    transaction.catalog = Some(LogEntry::new(ddl.commands.clone()).encode());
    transaction.create_streams.clone_from(&ddl.created);
    transaction.drop_streams = ddl.dropped_streams.iter().copied().collect();
    transaction.drop_tables = ddl.dropped_tables.iter().copied().collect();
    transaction.drop_state = ddl
        .dropped_streams
        .iter()
        .map(|id| auspex_exec::runtime::state_prefix(*id))
        .chain(ddl.stale.iter().cloned())
        .collect();
}

impl Drop for Session {
    fn drop(&mut self) {
        self.engine.hub.unregister(self.pid);
        self.engine.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}
