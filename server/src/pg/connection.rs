//! One client: reads its messages, runs them in its session, answers.
//!
//! ```text
//! startup ─> ready ─┬─ Query ───────────────────────> simple.rs ──┐
//!                   ├─ Parse Bind Describe Execute .. extended.rs ─┤ rows.rs, copy.rs
//!                   └─ notifications while idle                    └─> ReadyForQuery ─> ready
//! ```
//!
//! All statements up to a Sync, and all of one Query, are one implicit transaction. After an error
//! messages of the extended protocol are skipped up to the Sync.

use std::collections::HashMap;
use std::sync::Arc;

use auspex_plan::{Diagnostic, SqlState};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::encode::Style;
use super::extended::{Portal, Statement};
use super::interrupt::{Failure, Interrupt, shutting_down, stopped};
use super::message::{self, Message};
use super::wire::{Input, Output};
use super::zone::Zone;
use crate::engine::{Prepared, Session, TransactionStatus};

/// A connection after its startup.
pub(super) struct Connection<R, W> {
    pub(super) input: Input<R>,
    pub(super) output: Output<W>,
    pub(super) session: Session,
    pub(super) shutdown: watch::Receiver<bool>,
    /// Prepared statements by name; the unnamed one has the empty name.
    pub(super) statements: HashMap<String, Arc<Statement>>,
    /// Portals by name; the unnamed one has the empty name.
    pub(super) portals: HashMap<String, Portal>,
    /// A message of the extended protocol failed: skip to the next Sync.
    skipping: bool,
    /// Nothing has come since the last ReadyForQuery.
    idle: bool,
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    pub(super) fn new(
        input: Input<R>,
        output: Output<W>,
        session: Session,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Connection {
            input,
            output,
            session,
            shutdown,
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            idle: true,
        }
    }

    /// Serves the client until it goes, or until the server stops.
    pub(super) async fn run(&mut self) {
        if let Err(Failure::Fatal(error) | Failure::Statement(error)) = self.serve().await {
            self.output.fatal(&error);
            // The client may not be reading any more; the connection ends either way.
            let farewell = self.output.flush();
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), farewell).await;
        }
    }

    async fn serve(&mut self) -> Result<(), Failure> {
        loop {
            let Some((kind, body)) = self.wait().await? else { continue };
            self.idle = false;
            if !message::is_known(kind) {
                return Err(Failure::Fatal(Diagnostic::error(
                    SqlState::PROTOCOL_VIOLATION,
                    format!("invalid frontend message type {kind}"),
                )));
            }
            if kind == b'X' {
                return Ok(());
            }
            if self.skipping && kind != b'S' {
                continue;
            }
            match Message::decode(kind, &body) {
                Ok(Message::Query { text }) => self.simple_query(text).await?,
                Ok(Message::Sync) => self.sync().await?,
                Ok(Message::Flush) => self.output.flush().await?,
                // What comes after a COPY that failed.
                Ok(Message::CopyDone | Message::CopyFail { .. } | Message::Terminate) => {}
                Ok(Message::FunctionCall) => {
                    let error = Diagnostic::unsupported("function call messages are not supported")
                        .hint("Use SELECT.");
                    self.fail(&error, None).await?;
                    self.ready().await?;
                }
                Ok(message) => self.extended(message).await?,
                Err(error) => {
                    self.fail(&error, None).await?;
                    if message::is_extended(kind) {
                        self.skipping = true;
                        self.output.flush().await?;
                    } else {
                        self.ready().await?;
                    }
                }
            }
        }
    }

    /// The next message; `None` after something else has been dealt with.
    async fn wait(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        let listening = self.idle && self.session.status() == TransactionStatus::Idle;
        let (limit, reason) = self.idle_limit();
        tokio::select! {
            biased;
            message = self.input.message() => Ok(Some(message?)),
            () = stopped(&mut self.shutdown) => Err(Failure::Fatal(shutting_down())),
            notification = self.session.next_notification(), if listening => {
                self.output.notification(&notification);
                self.notifications();
                self.notices(None);
                if let Some(error) = self.session.overflow_error() {
                    return Err(Failure::Fatal(error));
                }
                self.flush_watched().await?;
                Ok(None)
            }
            () = limit => Err(Failure::Fatal(reason)),
        }
    }

    /// How long the client may stay silent now, and what it is told when it does for longer.
    fn idle_limit(&self) -> (impl Future<Output = ()> + use<R, W>, Diagnostic) {
        let (setting, state, message) = match self.session.status() {
            TransactionStatus::Idle => (
                "idle_session_timeout",
                SqlState("57P05"),
                "terminating connection due to idle-session timeout",
            ),
            _ => (
                "idle_in_transaction_session_timeout",
                SqlState("25P03"),
                "terminating connection due to idle-in-transaction timeout",
            ),
        };
        let millis = self.session.setting_millis(setting).filter(|_| self.idle);
        let limit = async move {
            match millis {
                Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        };
        (limit, Diagnostic::error(state, message))
    }

    /// Flushes while idle: the client may be slow, and may go away meanwhile.
    async fn flush_watched(&mut self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            flushed = self.output.flush() => Ok(flushed?),
            () = self.input.gone() => Err(Failure::Gone),
            () = stopped(&mut self.shutdown) => Err(Failure::Fatal(shutting_down())),
        }
    }

    /// Runs a message of the extended protocol.
    async fn extended(&mut self, message: Message<'_>) -> Result<(), Failure> {
        let mut text = None;
        match self.extended_message(message, &mut text).await {
            Err(Failure::Statement(error)) => {
                self.skipping = true;
                self.fail(&error, text.as_deref()).await?;
                Ok(self.output.flush().await?)
            }
            other => other,
        }
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        if !self.skipping
            && let Err(error) = self.session.end_of_pipeline(false).await
        {
            self.fail(&error, None).await?;
        }
        self.skipping = false;
        self.ready().await
    }

    /// Reports an error and ends or fails the transaction.
    pub(super) async fn fail(
        &mut self,
        error: &Diagnostic,
        text: Option<&str>,
    ) -> Result<(), Failure> {
        self.notices(text);
        self.output.error(error, text);
        self.input.set_bulk(false);
        if let Err(second) = self.session.end_of_pipeline(true).await {
            // Rolling back has nothing that can fail but the store itself, which says so again.
            tracing::warn!(error = %second, "could not roll back");
        }
        Ok(())
    }

    /// Ends a command cycle: notifications, changed parameters, ReadyForQuery.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        self.notices(None);
        for (name, value) in self.session.take_parameter_changes() {
            self.output.parameter_status(name, &value);
        }
        let status = self.session.status();
        if status == TransactionStatus::Idle {
            self.portals.clear();
            self.notifications();
            if let Some(error) = self.session.overflow_error() {
                return Err(Failure::Fatal(error));
            }
        }
        self.output.ready(status);
        self.idle = true;
        self.flush_watched().await
    }

    /// Forgets the statements that DEALLOCATE or DISCARD has closed.
    pub(super) fn forget_closed(&mut self) {
        for closed in self.session.take_closed_statements() {
            match closed {
                Some(name) => {
                    self.statements.remove(&name);
                }
                None => self.statements.clear(),
            }
        }
    }

    /// Writes the notifications that are waiting, as many as one packet takes: a stream may bring
    /// new ones faster than a client reads.
    fn notifications(&mut self) {
        while !self.output.is_full() {
            match self.session.try_notification() {
                Some(notification) => self.output.notification(&notification),
                None => return,
            }
        }
    }

    /// Writes the notices of what has run.
    pub(super) fn notices(&mut self, text: Option<&str>) {
        let notices = self.session.take_notices();
        if notices.is_empty() {
            return;
        }
        let lowest = self.session.setting("client_min_messages").unwrap_or_default();
        for notice in notices {
            self.output.notice(&notice, text, &lowest);
        }
    }

    /// The interruptions of a statement that begins now.
    pub(super) fn interrupt(&self) -> Interrupt {
        Interrupt::new(&self.session, &self.shutdown)
    }

    /// How text output looks in this session.
    pub(super) fn style(&self) -> Style {
        let setting = |name: &str| self.session.setting(name).unwrap_or_default();
        Style {
            zone: Zone::parse(&setting("TimeZone")).unwrap_or(Zone::UTC),
            float_digits: setting("extra_float_digits").parse().unwrap_or(1),
            bytea_escape: setting("bytea_output") == "escape",
        }
    }

    /// 25P02 unless the statement may run in the present transaction.
    pub(super) fn check_transaction(&self, prepared: &Prepared) -> Result<(), Failure> {
        let failed = self.session.status() == TransactionStatus::Failed;
        if failed && !prepared.allowed_in_failed_transaction() {
            return Err(Failure::Statement(in_failed_transaction()));
        }
        Ok(())
    }
}

pub(super) fn in_failed_transaction() -> Diagnostic {
    Diagnostic::error(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
