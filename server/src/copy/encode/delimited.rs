//! Text and csv: PostgreSQL's `CopyAttributeOutText` and `CopyAttributeOutCSV`.

use arrow::datatypes::{Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use auspex_plan::{ColumnType, Diagnostic};
use bytes::{BufMut, BytesMut};

use super::message;
use crate::copy::{CopyOptions, Format, Header};
use crate::pg::encode::{Column, Style};

pub(super) struct Delimited {
    options: CopyOptions,
    csv: bool,
    names: Vec<String>,
    care: Vec<Care>,
}

/// What has to be looked at in the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Nothing: neither escapes nor quotes can be needed.
    None,
    Escape,
    Quote,
}

impl Delimited {
    pub(super) fn new(options: &CopyOptions, schema: &SchemaRef) -> Delimited {
        let care = |field: &Field| {
            if options.force_quote.contains(field.name()) {
                Care::Quote
            } else if plain(field, options) {
                Care::None
            } else {
                Care::Escape
            }
        };
        Delimited {
            csv: options.format == Format::Csv,
            names: schema.fields().iter().map(|f| f.name().clone()).collect(),
            care: schema.fields().iter().map(|f| care(f)).collect(),
            options: options.clone(),
        }
    }

    pub(super) fn header(&self, out: &mut BytesMut) {
        if self.options.header == Header::No {
            return;
        }
        message(out, |out| {
            for (at, name) in self.names.iter().enumerate() {
                if at > 0 {
                    out.put_u8(self.options.delimiter);
                }
                let start = out.len();
                out.put_slice(name.as_bytes());
                self.protect(Care::Escape, start, out);
            }
            out.put_u8(b'\n');
        });
    }

    pub(super) fn batch(
        &self,
        batch: &RecordBatch,
        style: &Style,
        out: &mut BytesMut,
    ) -> Result<(), Diagnostic> {
        let columns = Column::of_batch(batch)?;
        for row in 0..batch.num_rows() {
            message(out, |out| {
                for (at, (column, care)) in columns.iter().zip(&self.care).enumerate() {
                    if at > 0 {
                        out.put_u8(self.options.delimiter);
                    }
                    if column.is_null(row) {
                        out.put_slice(self.options.null.as_bytes());
                        continue;
                    }
                    let start = out.len();
                    column.text(row, style, out);
                    if *care != Care::None {
                        self.protect(*care, start, out);
                    }
                }
                out.put_u8(b'\n');
            });
        }
        Ok(())
    }

    /// Escapes or quotes the value that starts at `start` where it is necessary.
    fn protect(&self, care: Care, start: usize, out: &mut BytesMut) {
        if self.csv {
            self.quote(care, start, out);
        } else {
            self.escape(start, out);
        }
    }

    fn escape(&self, start: usize, out: &mut BytesMut) {
        let delimiter = self.options.delimiter;
        let special = |b: &u8| *b < 0x20 || *b == b'\\' || *b == delimiter;
        let Some(first) = out[start..].iter().position(special) else { return };
        // Not split_off, which would make `out` share its memory and be copied at the next write.
        let rest = out[start + first..].to_vec();
        out.truncate(start + first);
        for &byte in rest.iter() {
            let letter = match byte {
                8 => b'b',
                9 => b't',
                10 => b'n',
                11 => b'v',
                12 => b'f',
                13 => b'r',
                b'\\' => b'\\',
                other if other == delimiter => other,
                other => {
                    out.put_u8(other);
                    continue;
                }
            };
            out.put_slice(&[b'\\', letter]);
        }
    }

    fn quote(&self, care: Care, start: usize, out: &mut BytesMut) {
        let (delimiter, quote, escape) =
            (self.options.delimiter, self.options.quote, self.options.escape);
        let value = &out[start..];
        let needed = care == Care::Quote
            || value == self.options.null.as_bytes()
            // Would be the end marker.
            || self.names.len() == 1 && value == b"\\."
            || value.iter().any(|b| {
                *b == delimiter || *b == quote || *b == b'\n' || *b == b'\r'
            });
        if !needed {
            return;
        }
        let value = value.to_vec();
        out.truncate(start);
        out.reserve(value.len() + 2);
        out.put_u8(quote);
        for &byte in value.iter() {
            if byte == quote || byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(quote);
    }
}

/// Whether values of a column are made of letters, digits and `+-:. ` only, and none of these
/// means something else.
fn plain(field: &Field, options: &CopyOptions) -> bool {
    let used = |b: u8| b.is_ascii_alphanumeric() || b"+-:. ".contains(&b);
    let csv = options.format == Format::Csv;
    if used(options.delimiter) || csv && (used(options.quote) || !options.null.is_empty()) {
        return false;
    }
    matches!(
        ColumnType::from_field(field),
        Some(
            ColumnType::Boolean
                | ColumnType::SmallInt
                | ColumnType::Integer
                | ColumnType::BigInt
                | ColumnType::Real
                | ColumnType::Double
                | ColumnType::Numeric { .. }
                | ColumnType::Uuid
                | ColumnType::Timestamptz
                | ColumnType::Timestamp
                | ColumnType::Date
                | ColumnType::Time
        )
    )
}
