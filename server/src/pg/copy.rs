//! COPY in both directions, for both protocols.

use arrow::datatypes::SchemaRef;
use auspex_plan::{Diagnostic, SqlState};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::interrupt::{Failure, Interrupt};
use super::message::Message;
use super::rows;
use super::wire::CopyNext;
use crate::copy::encode::Encoder;
use crate::copy::{CopyOptions, Format};
use crate::engine::RowStream;
use crate::engine::ingest::CopyIn;

/// Binary formats are announced as such; clients then do not translate line ends.
fn is_binary(options: &CopyOptions) -> bool {
    matches!(options.format, Format::Binary | Format::Arrow)
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Receives the rows of a `COPY .. FROM STDIN`. When it fails the rows are dropped; what the
    /// client sends of them afterwards is skipped by the reader.
    pub(super) async fn copy_in(
        &mut self,
        mut copy: Box<CopyIn>,
        interrupt: &mut Interrupt,
    ) -> Result<String, Failure> {
        self.notices(None);
        self.output.copy_in(is_binary(copy.options()), copy.column_count());
        interrupt.guard(&mut self.input, self.output.flush()).await?;
        self.input.set_bulk(true);
        loop {
            match interrupt.guard_input(self.input.copy_next()).await? {
                CopyNext::Data(length) => {
                    copy.push(self.input.piece(length))?;
                    self.input.consume(length);
                }
                CopyNext::Message(kind @ (b'c' | b'f'), body) => {
                    match Message::decode(kind, &body)? {
                        Message::CopyFail { message } => {
                            return Err(Failure::Statement(Diagnostic::error(
                                SqlState::QUERY_CANCELED,
                                format!("COPY from stdin failed: {message}"),
                            )));
                        }
                        _ => break,
                    }
                }
                // PostgreSQL ignores these too: they were sent before the client knew of the COPY.
                CopyNext::Message(b'H' | b'S', _) => {}
                CopyNext::Message(b'X', _) => return Err(Failure::Gone),
                CopyNext::Message(kind, _) => {
                    return Err(Failure::Statement(Diagnostic::error(
                        SqlState::PROTOCOL_VIOLATION,
                        format!("unexpected message type 0x{kind:02X} during COPY from stdin"),
                    )));
                }
            }
        }
        self.input.set_bulk(false);
        let finish = self.session.finish_copy(copy);
        interrupt.guard(&mut self.input, finish).await
    }

    /// Sends the rows of a `COPY .. TO STDOUT`; flushed whenever none is ready.
    pub(super) async fn copy_out(
        &mut self,
        options: &CopyOptions,
        schema: SchemaRef,
        mut rows: RowStream,
        interrupt: &mut Interrupt,
    ) -> Result<String, Failure> {
        self.notices(None);
        let style = self.style();
        let mut encoder = Encoder::new(options, &schema, style).map_err(Diagnostic::from)?;
        self.output.copy_out(is_binary(options), schema.fields().len());
        encoder.header(&mut self.output.buffer)?;
        let mut count = 0u64;
        let mut unflushed = true;
        loop {
            let batch =
                rows::next(&mut rows, unflushed, &mut self.input, &mut self.output, interrupt)
                    .await?;
            let Some(batch) = batch else { break };
            count += batch.num_rows() as u64;
            encoder.batch(&batch, &mut self.output.buffer)?;
            unflushed = true;
            if self.output.is_full() {
                interrupt.guard(&mut self.input, self.output.flush()).await?;
                unflushed = false;
            }
        }
        encoder.finish(&mut self.output.buffer)?;
        self.output.copy_done();
        Ok(format!("COPY {count}"))
    }
}
