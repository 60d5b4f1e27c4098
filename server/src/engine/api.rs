//! What a session of the engine offers to a protocol: parse, prepare, execute, copy, listen.
//!
//! No wire format here: parameters and results are Arrow values, errors are [`Diagnostic`]s. The
//! PostgreSQL protocol (`server::pg`) and the command line are both thin layers over it.

use std::pin::Pin;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use auspex_plan::{ColumnType, Diagnostic};
use futures::Stream;

/// Result rows as they are produced. Dropping it ends the query. Ends after an error.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, Diagnostic>> + Send>>;

/// A statement that has been planned: what `Parse` keeps and `Describe` shows.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Types of `$1`, `$2`, ..: declared by the client or inferred.
    pub params: Vec<ColumnType>,
    /// Result columns; `None` for a statement that returns no rows.
    pub columns: Option<SchemaRef>,
    /// What to run.
    pub(crate) statement: super::statement::Planned,
}

impl Prepared {
    /// Whether the statement ends or begins a transaction block, or is otherwise allowed in a
    /// failed transaction (`COMMIT`, `ROLLBACK`, `ROLLBACK TO`).
    pub fn allowed_in_failed_transaction(&self) -> bool {
        self.statement.allowed_in_failed_transaction()
    }
}

/// What executing a statement gives.
pub enum Outcome {
    /// Rows, then the command tag `tag` with the number of rows appended (`SELECT 5`, `FETCH 5`,
    /// `SUBSCRIBE 5`), or `tag` alone when `counted` is false (`SHOW`, `EXPLAIN`).
    Rows {
        /// Columns.
        schema: SchemaRef,
        /// The rows.
        rows: RowStream,
        /// Command tag without the count.
        tag: &'static str,
        /// Whether the count is part of the tag.
        counted: bool,
    },
    /// Done; the complete command tag (`INSERT 0 5`, `CREATE STREAM`).
    Done(String),
    /// The client is to send rows (`COPY .. FROM STDIN`).
    CopyIn(Box<super::ingest::CopyIn>),
    /// The rows go to the client in a COPY format (`COPY .. TO STDOUT`).
    CopyOut {
        /// Format and its options.
        options: crate::copy::CopyOptions,
        /// Columns.
        schema: SchemaRef,
        /// The rows.
        rows: RowStream,
    },
    /// The query string held no statement.
    Empty,
}

/// Transaction state shown in `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that has failed: only its end is accepted.
    Failed,
}

/// A message for the channels a session listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Process id of the sender: the notifying session's, or the server's own for stream rows.
    pub pid: i32,
    /// Exactly the name the session registered.
    pub channel: String,
    /// Payload.
    pub payload: bytes::Bytes,
}

/// The methods every session has, in one place to read. `engine::Session` implements them as
/// inherent methods with these signatures:
///
/// ```text
/// fn parse(&self, text: &str) -> Result<Vec<Statement>, Diagnostic>
///     // statements of a query string in order, each with its span; `Statement: Clone + Send`
/// async fn prepare(&mut self, text: &str, statement: &Statement, declared: &[Option<ColumnType>])
///     -> Result<Prepared, Diagnostic>           // `text` is the whole query string (positions)
/// async fn execute(&mut self, prepared: &Prepared, params: Vec<ScalarValue>)
///     -> Result<Outcome, Diagnostic>
/// async fn finish_copy(&mut self, copy: Box<CopyIn>) -> Result<String, Diagnostic>  // tag `COPY n`
/// fn status(&self) -> TransactionStatus
/// async fn end_of_pipeline(&mut self, failed: bool) -> Result<(), Diagnostic>
///     // Sync, or the end of a simple query string: commits the implicit transaction, or rolls it
///     // back when a statement failed (a failed explicit block stays, in status Failed)
/// fn take_notices(&mut self) -> Vec<Diagnostic>              // NOTICE/WARNING to send before the tag
/// fn take_parameter_changes(&mut self) -> Vec<(&'static str, String)>   // ParameterStatus
/// fn setting(&self, name: &str) -> Option<String>
/// fn set_startup(&mut self, name: &str, value: &str) -> Result<(), Diagnostic>
/// async fn next_notification(&mut self) -> Notification      // cancel safe; pends for ever if none
/// fn try_notification(&mut self) -> Option<Notification>
/// fn pid(&self) -> i32
/// fn cancel_token(&self) -> CancelToken                      // cancels the running statement: 57014
/// ```
#[derive(Debug)]
pub struct SessionContract;

/// Tells a running statement to stop. Clones share their state.
#[derive(Debug, Clone)]
pub struct CancelToken(std::sync::Arc<tokio::sync::watch::Sender<u64>>);

impl Default for CancelToken {
    fn default() -> Self {
        CancelToken(std::sync::Arc::new(tokio::sync::watch::Sender::new(0)))
    }
}

impl CancelToken {
    /// Cancels whatever waits in [`CancelToken::cancelled`] at this moment; without effect when
    /// nothing does, so that a late request never hits the next statement.
    pub fn cancel(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Returns when [`CancelToken::cancel`] is called after this future was made.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.0.subscribe();
        let sender = self.0.clone();
        async move {
            // The sender is kept alive, so waiting can only end by a change.
            let _ = changes.changed().await;
            drop(sender);
        }
    }
}
