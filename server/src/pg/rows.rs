//! Result rows on their way to the client: encoded as they are produced, never collected.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::encode::{Column, Style};
use super::interrupt::{Failure, Interrupt};
use super::reply::Format;
use super::wire::{Input, Output};
use crate::engine::RowStream;

/// How long acknowledgements wait for a first row, to travel in one packet with it. Rows never
/// wait.
const LINGER: Duration = Duration::from_millis(1);

/// Rows of a portal or of a simple query.
pub(super) struct Rows {
    schema: SchemaRef,
    formats: Vec<Format>,
    stream: RowStream,
    batch: Option<Batch>,
    finished: bool,
}

struct Batch {
    columns: Vec<(Column, Format)>,
    rows: usize,
    next: usize,
}

/// How sending rows ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// All rows are sent: how many by this call.
    All(u64),
    /// As many rows as asked for are sent, and there may be more.
    Suspended,
}

impl Rows {
    /// `formats` has one format per column, or none for text.
    pub(super) fn new(schema: SchemaRef, formats: Vec<Format>, stream: RowStream) -> Self {
        Rows { schema, formats, stream, batch: None, finished: false }
    }

    /// Columns of the rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Sends up to `limit` rows. While no row is ready, what has been written is flushed.
    pub(super) async fn send<R, W>(
        &mut self,
        limit: Option<u64>,
        style: &Style,
        input: &mut Input<R>,
        output: &mut Output<W>,
        interrupt: &mut Interrupt,
    ) -> Result<Sent, Failure>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let limit = limit.unwrap_or(u64::MAX);
        let mut sent = 0;
        let mut unflushed = false;
        loop {
            if let Some(batch) = &mut self.batch {
                while batch.next < batch.rows {
                    if sent == limit {
                        return Ok(Sent::Suspended);
                    }
                    output.data_row(&batch.columns, batch.next, style);
                    batch.next += 1;
                    sent += 1;
                    unflushed = true;
                    if output.is_full() {
                        interrupt.guard(input, output.flush()).await?;
                        unflushed = false;
                    }
                }
                self.batch = None;
            }
            if self.finished {
                return Ok(Sent::All(sent));
            }
            if sent == limit {
                return Ok(Sent::Suspended);
            }
            match next(&mut self.stream, unflushed, input, output, interrupt).await? {
                Some(batch) => {
                    let columns = Column::of_batch(&batch)?;
                    let format = |at: usize| self.formats.get(at).copied().unwrap_or(Format::Text);
                    let columns =
                        columns.into_iter().enumerate().map(|(at, c)| (c, format(at))).collect();
                    self.batch = Some(Batch { columns, rows: batch.num_rows(), next: 0 });
                }
                None => self.finished = true,
            }
            unflushed = unflushed && !output.buffer.is_empty();
        }
    }
}

/// The next batch of a stream. When it is not there at once, what has been written is flushed:
/// rows (`unflushed`) immediately, acknowledgements a moment later.
pub(super) async fn next<R, W>(
    stream: &mut RowStream,
    unflushed: bool,
    input: &mut Input<R>,
    output: &mut Output<W>,
    interrupt: &mut Interrupt,
) -> Result<Option<arrow::record_batch::RecordBatch>, Failure>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let work = async {
        let mut next = stream.next();
        if let std::task::Poll::Ready(batch) = futures::poll!(&mut next) {
            return Ok(batch);
        }
        if !output.buffer.is_empty() {
            if !unflushed && let Ok(batch) = tokio::time::timeout(LINGER, &mut next).await {
                return Ok(batch);
            }
            output.flush().await?;
        }
        Ok::<_, Failure>(next.await)
    };
    match interrupt.guard(input, work).await? {
        Some(batch) => Ok(Some(batch?)),
        None => Ok(None),
    }
}
