//! Rows as JSON objects, by the conventions of PostgreSQL's `row_to_json`: members in column
//! order, timestamps in ISO 8601 with `T`, `bytea` as `\x..` text, numbers that JSON cannot hold
//! (`NaN`, infinities) as text.

use arrow::record_batch::RecordBatch;
use auspex_plan::Diagnostic;
use bytes::{BufMut, BytesMut};

use super::{Cells, Column, Style, datetime, number, text};

/// The rows of a batch as JSON objects. The default has no columns.
#[derive(Default)]
pub struct JsonRows {
    columns: Vec<(BytesMut, Column)>,
}

impl JsonRows {
    /// Prepares a batch. 0A000 for columns that have no JSON form.
    pub fn new(batch: &RecordBatch) -> Result<JsonRows, Diagnostic> {
        let columns = Column::of_batch(batch)?
            .into_iter()
            .zip(batch.schema_ref().fields())
            .map(|(column, field)| {
                let mut name = BytesMut::new();
                write_string(field.name(), &mut name);
                name.put_u8(b':');
                (name, column)
            })
            .collect();
        Ok(JsonRows { columns })
    }

    /// Writes `{"column":value,..}` for `row`; with `offset`, the last member is `"_offset"`.
    pub fn write(&self, row: usize, offset: Option<u64>, style: &Style, out: &mut BytesMut) {
        out.put_u8(b'{');
        for (at, (name, column)) in self.columns.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            out.put_slice(name);
            column.json_or_null(row, style, out);
        }
        if let Some(offset) = offset {
            if !self.columns.is_empty() {
                out.put_u8(b',');
            }
            out.put_slice(b"\"_offset\":");
            number::integer(offset, out);
        }
        out.put_u8(b'}');
    }
}

impl Column {
    /// Writes the cell of `row` as a JSON value.
    pub fn json_or_null(&self, row: usize, style: &Style, out: &mut BytesMut) {
        if self.is_null(row) {
            out.put_slice(b"null");
        } else {
            self.json(row, style, out);
        }
    }

    /// Writes the cell of `row`, which must not be null, as a JSON value.
    pub(super) fn json(&self, row: usize, style: &Style, out: &mut BytesMut) {
        let quoted = |out: &mut BytesMut, write: &dyn Fn(&mut BytesMut)| {
            out.put_u8(b'"');
            write(out);
            out.put_u8(b'"');
        };
        match &self.cells {
            Cells::Null => out.put_slice(b"null"),
            Cells::Bool(values) => {
                out.put_slice(if values.value(row) { b"true" } else { b"false" });
            }
            Cells::Int2(_) | Cells::Int4(_) | Cells::Int8(_) => self.text(row, style, out),
            Cells::Numeric(..) | Cells::BigNumeric(..) => self.text(row, style, out),
            Cells::Float4(values) if values[row].is_finite() => self.text(row, style, out),
            Cells::Float8(values) if values[row].is_finite() => self.text(row, style, out),
            Cells::Text(values) => write_string(values.value(row), out),
            Cells::Json(values, _) => out.put_slice(values.value(row).as_bytes()),
            Cells::Bytes(values) => quoted(out, &|out| {
                out.put_slice(b"\\\\x");
                text::hex(values.value(row), out);
            }),
            Cells::Timestamp(values) => {
                quoted(out, &|out| datetime::timestamp(values[row], None, true, out));
            }
            Cells::Timestamptz(values) => quoted(out, &|out| {
                let us = values[row];
                let offset = style.zone.offset_at(us.div_euclid(1_000_000));
                datetime::timestamp(us, Some(offset), true, out);
            }),
            Cells::Float4(_)
            | Cells::Float8(_)
            | Cells::Uuid(_)
            | Cells::Date(_)
            | Cells::Time(_)
            | Cells::Interval(_) => quoted(out, &|out| self.text(row, style, out)),
            Cells::List { offsets, items, .. } => {
                out.put_u8(b'[');
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                for item in from..to {
                    if item > from {
                        out.put_u8(b',');
                    }
                    items.json_or_null(item, style, out);
                }
                out.put_u8(b']');
            }
            Cells::Struct(members) => {
                out.put_u8(b'{');
                for (at, (name, column)) in members.iter().enumerate() {
                    if at > 0 {
                        out.put_u8(b',');
                    }
                    write_string(name, out);
                    out.put_u8(b':');
                    column.json_or_null(row, style, out);
                }
                out.put_u8(b'}');
            }
            Cells::Map { offsets, keys, values } => {
                out.put_u8(b'{');
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                for entry in from..to {
                    if entry > from {
                        out.put_slice(b", ");
                    }
                    let mut key = BytesMut::new();
                    if !keys.is_null(entry) {
                        keys.text(entry, style, &mut key);
                    }
                    write_string(&String::from_utf8_lossy(&key), out);
                    out.put_slice(b": ");
                    values.json_or_null(entry, style, out);
                }
                out.put_u8(b'}');
            }
        }
    }
}

/// Writes a JSON string with its quotes.
pub fn write_string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            0..=31 => &[],
            _ => continue,
        };
        out.put_slice(&bytes[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            out.put_slice(b"\\u00");
            text::hex(&[*byte], out);
        } else {
            out.put_slice(escape);
        }
    }
    out.put_slice(&bytes[plain..]);
    out.put_u8(b'"');
}
