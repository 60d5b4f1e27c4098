//! Record batches to the bytes of `COPY .. TO STDOUT`.
//!
//! The encoder writes whole `CopyData` messages. As in PostgreSQL there is one per row in text,
//! csv and binary, and the binary header shares the message of the first row: clients that take a
//! copy row by row rely on it.

mod delimited;
mod ipc;

#[cfg(test)]
mod tests;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use auspex_plan::Diagnostic;
use bytes::{BufMut, BytesMut};

use self::delimited::Delimited;
use self::ipc::Ipc;
use super::decode::check_columns;
use super::{CopyError, CopyOptions, Format};
use crate::pg::encode::{Column, Style, check_binary};

/// Header of the binary format: signature, no flags, no extension.
const BINARY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Turns the batches of one COPY into `CopyData` messages: [`Encoder::header`], then
/// [`Encoder::batch`] for each batch, then [`Encoder::finish`].
pub struct Encoder {
    format: Inner,
    style: Style,
}

enum Inner {
    Delimited(Delimited),
    Binary {
        /// The header is still to be sent with the first row.
        header: bool,
    },
    Ipc(Ipc),
}

impl Encoder {
    /// An encoder for batches of `schema`. `style` is the session's. Errors: a column of
    /// FORCE_QUOTE that is not in the schema, a type that has no binary form, a schema that Arrow
    /// IPC cannot hold.
    pub fn new(
        options: &CopyOptions,
        schema: &SchemaRef,
        style: Style,
    ) -> Result<Encoder, CopyError> {
        check_columns(&options.force_quote, "FORCE_QUOTE", schema)?;
        let format = match options.format {
            Format::Text | Format::Csv => Inner::Delimited(Delimited::new(options, schema)),
            Format::Binary => {
                for field in schema.fields() {
                    check_binary(field)?;
                }
                Inner::Binary { header: true }
            }
            Format::Arrow => Inner::Ipc(Ipc::new(schema)?),
        };
        Ok(Encoder { format, style })
    }

    /// Writes what comes before the rows.
    pub fn header(&mut self, out: &mut BytesMut) -> Result<(), Diagnostic> {
        match &mut self.format {
            Inner::Delimited(d) => d.header(out),
            Inner::Binary { .. } => {}
            Inner::Ipc(i) => i.flush(out)?,
        }
        Ok(())
    }

    /// Writes the rows of a batch.
    pub fn batch(&mut self, batch: &RecordBatch, out: &mut BytesMut) -> Result<(), Diagnostic> {
        match &mut self.format {
            Inner::Delimited(d) => d.batch(batch, &self.style, out),
            Inner::Binary { header } => {
                let columns = Column::of_batch(batch)?;
                for row in 0..batch.num_rows() {
                    message(out, |out| {
                        if std::mem::take(header) {
                            out.put_slice(BINARY_HEADER);
                        }
                        out.put_i16(columns.len() as i16);
                        for column in &columns {
                            column.binary_field(row, out);
                        }
                    });
                }
                Ok(())
            }
            Inner::Ipc(i) => i.batch(batch, out),
        }
    }

    /// Writes what comes behind the rows.
    pub fn finish(&mut self, out: &mut BytesMut) -> Result<(), Diagnostic> {
        match &mut self.format {
            Inner::Delimited(_) => Ok(()),
            Inner::Binary { header } => {
                message(out, |out| {
                    if std::mem::take(header) {
                        out.put_slice(BINARY_HEADER);
                    }
                    out.put_i16(-1);
                });
                Ok(())
            }
            Inner::Ipc(i) => i.finish(out),
        }
    }
}

/// Writes one `CopyData` message with what `write` writes.
#[inline]
fn message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(b"d\0\0\0\0");
    write(out);
    // A row is far below 2 GiB: values come from batches with 32-bit offsets.
    let length = (out.len() - start - 1) as u32;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}
