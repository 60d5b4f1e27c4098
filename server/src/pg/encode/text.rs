//! Cells in PostgreSQL's text format.

use bytes::{BufMut, BytesMut};

use super::{Cells, Column, Style, datetime, number};

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Column {
    /// Writes the cell of `row`, which must not be null, as text.
    pub fn text(&self, row: usize, style: &Style, out: &mut BytesMut) {
        match &self.cells {
            Cells::Null => {}
            Cells::Bool(values) => out.put_u8(if values.value(row) { b't' } else { b'f' }),
            Cells::Int2(values) => number::integer(values[row], out),
            Cells::Int4(values) => number::integer(values[row], out),
            Cells::Int8(values) => number::integer(values[row], out),
            Cells::Float4(values) => number::float4(values[row], style.float_digits, out),
            Cells::Float8(values) => number::float8(values[row], style.float_digits, out),
            Cells::Numeric(values, scale) => number::numeric(values[row], *scale, out),
            Cells::BigNumeric(values, scale) => number::big_numeric(values[row], *scale, out),
            Cells::Text(values) | Cells::Json(values, _) => {
                out.put_slice(values.value(row).as_bytes());
            }
            Cells::Bytes(values) if style.bytea_escape => escape(values.value(row), out),
            Cells::Bytes(values) => {
                out.put_slice(b"\\x");
                hex(values.value(row), out);
            }
            Cells::Uuid(values) => uuid(values.value(row), out),
            Cells::Date(values) => datetime::date(values[row], out),
            Cells::Time(values) => datetime::time(values[row], out),
            Cells::Timestamp(values) => datetime::timestamp(values[row], None, false, out),
            Cells::Timestamptz(values) => {
                let us = values[row];
                let offset = style.zone.offset_at(us.div_euclid(1_000_000));
                datetime::timestamp(us, Some(offset), false, out);
            }
            Cells::Interval(values) => datetime::interval(values[row], out),
            Cells::List { offsets, items, .. } => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                array(items, range, style, out);
            }
            Cells::Struct(_) | Cells::Map { .. } => self.json(row, style, out),
        }
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// `bytea_output = escape`: printable ASCII as it is, other bytes as `\\ooo`.
fn escape(bytes: &[u8], out: &mut BytesMut) {
    for byte in bytes {
        match byte {
            b'\\' => out.put_slice(b"\\\\"),
            0x20..=0x7e => out.put_u8(*byte),
            _ => {
                let digit = |shift: u8| b'0' + (byte >> shift & 7);
                out.put_slice(&[b'\\', digit(6), digit(3), digit(0)]);
            }
        }
    }
}

/// 8-4-4-4-12 digits.
pub(super) fn uuid(bytes: &[u8], out: &mut BytesMut) {
    for (at, part) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if at > 0 {
            out.put_u8(b'-');
        }
        hex(&bytes[part], out);
    }
}

/// `{1,NULL,"a b"}`; elements that are arrays themselves become further dimensions.
fn array(items: &Column, range: std::ops::Range<usize>, style: &Style, out: &mut BytesMut) {
    let nested = matches!(items.cells, Cells::List { .. });
    let verbatim = matches!(
        items.cells,
        Cells::Bool(_)
            | Cells::Int2(_)
            | Cells::Int4(_)
            | Cells::Int8(_)
            | Cells::Float4(_)
            | Cells::Float8(_)
            | Cells::Numeric(..)
            | Cells::BigNumeric(..)
            | Cells::Uuid(_)
            | Cells::Date(_)
            | Cells::Time(_)
    );
    out.put_u8(b'{');
    let first = range.start;
    for row in range {
        if row > first {
            out.put_u8(b',');
        }
        if items.is_null(row) {
            out.put_slice(b"NULL");
        } else if nested || verbatim {
            items.text(row, style, out);
        } else {
            let start = out.len();
            items.text(row, style, out);
            if needs_quotes(&out[start..]) {
                let plain = out.split_off(start);
                out.put_u8(b'"');
                for byte in plain.iter() {
                    if matches!(byte, b'"' | b'\\') {
                        out.put_u8(b'\\');
                    }
                    out.put_u8(*byte);
                }
                out.put_u8(b'"');
            }
        }
    }
    out.put_u8(b'}');
}

fn needs_quotes(element: &[u8]) -> bool {
    element.is_empty()
        || element.eq_ignore_ascii_case(b"null")
        || element.iter().any(|b| {
            matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 11 | 12)
        })
}
