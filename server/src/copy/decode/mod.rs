//! Bytes of `COPY .. FROM STDIN` to record batches.
//!
//! | file | what it does |
//! |---|---|
//! | `delimited` | text and csv: which lines are read how |
//! | `index`, `swar` | field boundaries and numbers of many lines, many bytes at a time |
//! | `line`, `field` | one line at a time, step by step as PostgreSQL |
//! | `binary`, `ipc` | the binary format, Arrow IPC streams |
//! | `column`, `value`, `datetime`, `views` | fields to values to arrays |
//! | `rows` | arrays to batches |

mod binary;
mod column;
mod datetime;
mod delimited;
mod field;
mod index;
mod ipc;
mod line;
mod rows;
mod swar;
mod value;
mod views;

#[cfg(test)]
mod tests;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use auspex_plan::SqlState;

use self::binary::Binary;
use self::delimited::Delimited;
use self::ipc::Ipc;
use self::rows::Rows;
use super::{CopyError, CopyOptions, Format};
use crate::pg::zone::Zone;

pub(super) use self::rows::check_columns;

/// Longest row of text, csv and binary, and longest message of an Arrow stream. A row is buffered
/// until it is complete, so this bounds the memory that a client can make a session take.
pub const MAX_ROW_BYTES: usize = 256 << 20;

fn too_long() -> CopyError {
    CopyError::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("a row of COPY exceeds the limit of {} MB", MAX_ROW_BYTES >> 20),
    )
}

/// Turns the bytes of one COPY, in pieces of any size, into record batches.
///
/// Batches have the columns given to [`Decoder::new`], all nullable: NOT NULL is checked by the
/// caller. After an error the decoder gives nothing but errors.
pub struct Decoder {
    format: Inner,
    failed: bool,
}

enum Inner {
    Delimited(Box<Delimited>),
    Binary(Box<Binary>),
    Ipc(Box<Ipc>),
}

impl Decoder {
    /// A decoder for the columns of the column list, in its order. A batch has `batch_rows` rows,
    /// fewer at the end or when values are large; Arrow batches are as large as they come.
    /// `zone` is the session's, for timestamps without one. Errors: a column of a type that cannot
    /// be copied, a column of FORCE_NULL or FORCE_NOT_NULL that is not in the list.
    pub fn new(
        options: &CopyOptions,
        columns: &SchemaRef,
        batch_rows: usize,
        zone: Zone,
    ) -> Result<Decoder, CopyError> {
        if columns.fields().is_empty() {
            return Err(CopyError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "COPY without columns is not supported",
            ));
        }
        let rows = Rows::new(options, columns, batch_rows, zone)?;
        let format = match options.format {
            Format::Text | Format::Csv => {
                Inner::Delimited(Box::new(Delimited::new(options.clone(), rows)))
            }
            Format::Binary => Inner::Binary(Box::new(Binary::new(rows))),
            Format::Arrow => Inner::Ipc(Box::new(Ipc::new(rows.schema().clone(), zone)?)),
        };
        Ok(Decoder { format, failed: false })
    }

    /// Takes the next bytes; appends batches that became complete to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        self.run(|format| match format {
            Inner::Delimited(d) => d.push(bytes, out),
            Inner::Binary(b) => b.push(bytes, out),
            Inner::Ipc(i) => i.push(bytes, out),
        })
    }

    /// The bytes came to their end: appends the last batch to `out`.
    pub fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        self.run(|format| match format {
            Inner::Delimited(d) => d.finish(out),
            Inner::Binary(b) => b.finish(out),
            Inner::Ipc(i) => i.finish(out),
        })
    }

    fn run(
        &mut self,
        step: impl FnOnce(&mut Inner) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        if self.failed {
            return Err(CopyError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "COPY has failed already",
            ));
        }
        let result = step(&mut self.format);
        self.failed = result.is_err();
        result
    }
}
