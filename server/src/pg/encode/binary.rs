//! Cells in PostgreSQL's binary format (the `typsend` functions of PostgreSQL 15).

use bytes::{BufMut, BytesMut};

use super::{Cells, Column, Style, number};

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_US: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
const EPOCH_DAYS: i32 = 10_957;

impl Column {
    /// Writes the cell of `row`, which must not be null, in binary (without its length).
    pub fn binary(&self, row: usize, out: &mut BytesMut) {
        match &self.cells {
            Cells::Null => {}
            Cells::Bool(values) => out.put_u8(u8::from(values.value(row))),
            Cells::Int2(values) => out.put_i16(values[row]),
            Cells::Int4(values) => out.put_i32(values[row]),
            Cells::Int8(values) => out.put_i64(values[row]),
            Cells::Float4(values) => out.put_f32(values[row]),
            Cells::Float8(values) => out.put_f64(values[row]),
            Cells::Numeric(values, scale) => number::numeric_binary(values[row], *scale, out),
            Cells::BigNumeric(values, scale) => {
                number::big_numeric_binary(values[row], *scale, out);
            }
            Cells::Text(values) | Cells::Json(values, false) => {
                out.put_slice(values.value(row).as_bytes());
            }
            Cells::Json(values, true) => {
                out.put_u8(1);
                out.put_slice(values.value(row).as_bytes());
            }
            Cells::Bytes(values) => out.put_slice(values.value(row)),
            Cells::Uuid(values) => out.put_slice(values.value(row)),
            Cells::Date(values) => out.put_i32(match values[row] {
                infinite @ (i32::MIN | i32::MAX) => infinite,
                days => days.saturating_sub(EPOCH_DAYS),
            }),
            Cells::Time(values) => out.put_i64(values[row]),
            Cells::Timestamp(values) | Cells::Timestamptz(values) => {
                out.put_i64(match values[row] {
                    infinite @ (i64::MIN | i64::MAX) => infinite,
                    us => us.saturating_sub(EPOCH_US),
                });
            }
            Cells::Interval(values) => {
                let value = values[row];
                out.put_i64(value.nanoseconds / 1000);
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Cells::List { offsets, items, item } => {
                let (from, to) = (offsets[row], offsets[row + 1]);
                let rows = from as usize..to as usize;
                out.put_i32(i32::from(!rows.is_empty()));
                out.put_i32(i32::from(rows.clone().any(|row| items.is_null(row))));
                out.put_u32(*item);
                if !rows.is_empty() {
                    out.put_i32(to - from);
                    out.put_i32(1);
                }
                for row in rows {
                    items.binary_field(row, out);
                }
            }
            Cells::Struct(_) => self.json(row, &Style::default(), out),
            Cells::Map { .. } => {
                out.put_u8(1);
                self.json(row, &Style::default(), out);
            }
        }
    }

    /// Writes the length of the cell of `row`, -1 for null, and the cell in binary.
    #[inline]
    pub fn binary_field(&self, row: usize, out: &mut BytesMut) {
        if self.is_null(row) {
            out.put_i32(-1);
            return;
        }
        self.sized(out, |out| self.binary(row, out));
    }

    /// Writes the length of the cell of `row`, -1 for null, and the cell as text.
    #[inline]
    pub fn text_field(&self, row: usize, style: &Style, out: &mut BytesMut) {
        if self.is_null(row) {
            out.put_i32(-1);
            return;
        }
        self.sized(out, |out| self.text(row, style, out));
    }

    #[inline]
    fn sized(&self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        let start = out.len();
        out.put_i32(0);
        write(out);
        let length = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}
