//! The simple protocol: a string of statements, run one after the other.

use auspex_plan::{Diagnostic, SqlState};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::interrupt::Failure;
use super::rows::{Rows, Sent};
use crate::engine::{Outcome, Statement};

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Runs a Query message. Errors of statements are reported to the client; what is returned
    /// ends the connection.
    pub(super) async fn simple_query(&mut self, text: &str) -> Result<(), Failure> {
        self.statements.remove("");
        self.portals.remove("");
        match self.run_statements(text).await {
            Ok(()) => {}
            Err(Failure::Statement(error)) => self.fail(&error, Some(text)).await?,
            Err(other) => return Err(other),
        }
        self.ready().await
    }

    async fn run_statements(&mut self, text: &str) -> Result<(), Failure> {
        let statements = self.session.parse(text)?;
        let Some(last) = statements.len().checked_sub(1) else {
            self.session.end_of_pipeline(false).await?;
            self.output.empty_query();
            return Ok(());
        };
        for (at, statement) in statements.iter().enumerate() {
            let tag = self.run_statement(text, statement).await?;
            // The end of the string ends its transaction: only then is the last statement done.
            if at == last {
                self.session.end_of_pipeline(false).await?;
            }
            self.notices(Some(text));
            match tag {
                Some(tag) => self.output.command_complete(&tag),
                None => self.output.empty_query(),
            }
        }
        Ok(())
    }

    /// Runs one statement and returns its command tag, `None` for an empty one.
    async fn run_statement(
        &mut self,
        text: &str,
        statement: &Statement,
    ) -> Result<Option<String>, Failure> {
        let mut interrupt = self.interrupt();
        let prepare = self.session.prepare(text, statement, &[]);
        let prepared = interrupt.guard(&mut self.input, prepare).await?;
        self.check_transaction(&prepared)?;
        if !prepared.params.is_empty() {
            return Err(Failure::Statement(Diagnostic::error(
                SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            )));
        }
        // The end of a transaction block is not interrupted: its outcome has to be known.
        let outcome = if prepared.allowed_in_failed_transaction() {
            self.session.execute(&prepared, Vec::new()).await?
        } else {
            let execute = self.session.execute(&prepared, Vec::new());
            interrupt.guard(&mut self.input, execute).await?
        };
        self.forget_closed();
        match outcome {
            Outcome::Rows { schema, rows, tag, counted } => {
                self.notices(Some(text));
                self.output.row_description(&schema, &[])?;
                let style = self.style();
                let mut rows = Rows::new(schema, Vec::new(), rows);
                let sent = rows
                    .send(None, &style, &mut self.input, &mut self.output, &mut interrupt)
                    .await?;
                Ok(Some(match sent {
                    Sent::All(count) if counted => format!("{tag} {count}"),
                    _ => tag.to_string(),
                }))
            }
            Outcome::Done(tag) => Ok(Some(tag)),
            Outcome::CopyIn(copy) => Ok(Some(self.copy_in(copy, &mut interrupt).await?)),
            Outcome::CopyOut { options, schema, rows } => {
                Ok(Some(self.copy_out(&options, schema, rows, &mut interrupt).await?))
            }
            Outcome::Empty => Ok(None),
        }
    }
}
