//! The rows of the derived streams as lines of JSON.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use auspex_plan::catalog::ObjectId;
use auspex_plan::{Diagnostic, SqlState};
use bytes::BytesMut;

use super::Failure;
use crate::embedded::Embedded;
use crate::pg::encode::{JsonRows, Style, write_json_string as write_string};

/// Key of the stream's name.
const STREAM_KEY: &str = "stream";

/// Writes rows as they come, in the order of the events that caused them.
pub(super) struct Output<W: Write> {
    out: BufWriter<W>,
    streams: Vec<Derived>,
}

struct Derived {
    id: ObjectId,
    /// `{"stream":"Name"`, what every line begins with.
    head: BytesMut,
    /// Offset of the next row to be written.
    next: u64,
}

impl<W: Write> Output<W> {
    /// `order` has the names of the derived streams as the program declares them.
    pub(super) fn new(out: BufWriter<W>, embedded: &Embedded, order: &[String]) -> Output<W> {
        let mut derived = embedded.derived();
        derived.sort_by_key(|o| order.iter().position(|name| *name == o.name.name));
        let streams = derived
            .into_iter()
            .map(|object| {
                let mut head = BytesMut::new();
                head.extend_from_slice(b"{");
                write_string(STREAM_KEY, &mut head);
                head.extend_from_slice(b":");
                write_string(&object.name.name, &mut head);
                Derived { id: object.id, head, next: 0 }
            })
            .collect();
        Output { out, streams }
    }

    /// Writes what has come since the last call.
    pub(super) fn write_new(&mut self, embedded: &Embedded) -> Result<(), Failure> {
        let mut batches = Vec::new();
        // Sequence, stream, batch, row: the order of the lines.
        let mut lines: Vec<(i64, usize, usize, usize)> = Vec::new();
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for batch in embedded.read(stream.id, stream.next)? {
                stream.next = batch.end();
                let number = batches.len();
                lines
                    .extend((0..batch.len()).map(|row| (batch.sequence.get(row), at, number, row)));
                batches.push(JsonRows::new(&renamed(&batch.rows)?)?);
            }
        }
        lines.sort_unstable();
        let (style, mut line) = (Style::default(), BytesMut::new());
        for (_, stream, batch, row) in lines {
            line.clear();
            batches[batch].write(row, None, &style, &mut line);
            let head = &self.streams[stream].head;
            let separator: &[u8] = if line.as_ref() == b"{}" { b"" } else { b"," };
            for part in [head, separator, &line[1..], b"\n"] {
                self.out.write_all(part).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Hands everything on.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Other(format!("cannot write the output: {error}")),
    }
}

/// The rows with a column `stream`, if there is one, called `_stream`.
fn renamed(rows: &RecordBatch) -> Result<RecordBatch, Diagnostic> {
    let schema = rows.schema();
    if schema.column_with_name(STREAM_KEY).is_none() {
        return Ok(rows.clone());
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| match f.name() == STREAM_KEY {
            true => f.as_ref().clone().with_name(format!("_{STREAM_KEY}")),
            false => f.as_ref().clone(),
        })
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec())
        .map_err(|e| Diagnostic::error(SqlState::INTERNAL_ERROR, e.to_string()))
}
