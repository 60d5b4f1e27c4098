//! What can stop a running statement: a cancel request, its time limit, the end of the server, and
//! the client going away.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use auspex_plan::{Diagnostic, SqlState};
use futures::FutureExt;
use tokio::io::AsyncRead;
use tokio::sync::watch;

use super::wire::{Input, ReadError};
use crate::engine::Session;

/// Why a statement gave no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed; the session goes on.
    Statement(Diagnostic),
    /// The connection ends with this error.
    Fatal(Diagnostic),
    /// The client has gone.
    Gone,
}

impl From<Diagnostic> for Failure {
    fn from(error: Diagnostic) -> Self {
        Failure::Statement(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Failure::Gone,
            ReadError::Fatal(error) => Failure::Fatal(error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Failure::Gone
    }
}

/// The error that ends sessions when the server stops.
pub(super) fn shutting_down() -> Diagnostic {
    Diagnostic::error(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}

fn defect() -> Diagnostic {
    Diagnostic::error(SqlState::INTERNAL_ERROR, "a defect of the server ended the statement")
        .hint("The server's log has the details. Other sessions are not affected.")
}

/// Returns when the server is told to stop; never when the teller has gone without doing so.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The interruptions of one statement. It counts from its making: a cancel request from before
/// does not hit it.
pub(super) struct Interrupt {
    cancelled: Pin<Box<dyn Future<Output = ()> + Send>>,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    shutdown: watch::Receiver<bool>,
}

impl Interrupt {
    /// For a statement that begins now.
    pub(super) fn new(session: &Session, shutdown: &watch::Receiver<bool>) -> Self {
        let limit = session.setting_millis("statement_timeout");
        Interrupt {
            cancelled: Box::pin(session.cancel_token().cancelled()),
            deadline: limit.map(|ms| Box::pin(tokio::time::sleep(Duration::from_millis(ms)))),
            shutdown: shutdown.clone(),
        }
    }

    /// Returns when the statement has to stop.
    async fn wait(&mut self) -> Failure {
        let deadline = async {
            match &mut self.deadline {
                Some(deadline) => deadline.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.cancelled.as_mut() => Failure::Statement(Diagnostic::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            )),
            () = deadline => Failure::Statement(Diagnostic::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to statement timeout",
            )),
            () = stopped(&mut self.shutdown) => Failure::Fatal(shutting_down()),
        }
    }

    /// Runs `work`, unless something interrupts it: then it is dropped.
    pub(super) async fn guard<T, E, R>(
        &mut self,
        input: &mut Input<R>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        R: AsyncRead + Unpin,
        Failure: From<E>,
    {
        // After a panic nobody knows what state the session is in: it ends, the others go on.
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::select! {
            biased;
            result = work => match result {
                Ok(result) => Ok(result?),
                Err(_) => Err(Failure::Fatal(defect())),
            },
            failure = self.wait() => Err(failure),
            () = input.gone() => Err(Failure::Gone),
        }
    }

    /// The same for work that reads the connection itself.
    pub(super) async fn guard_input<T, E>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        Failure: From<E>,
    {
        tokio::select! {
            biased;
            failure = self.wait() => Err(failure),
            result = work => Ok(result?),
        }
    }
}
