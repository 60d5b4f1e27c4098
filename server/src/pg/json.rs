//! Stream rows as the payloads of notifications.

use arrow::record_batch::RecordBatch;
use bytes::{Bytes, BytesMut};

use super::encode::{JsonRows, Style};

/// Each row of a batch as one JSON object whose last member is `"_offset"`, with its offset.
/// `first` is the offset of the first row. Rows of a type that has no JSON form (which no column
/// type is) are objects with `"_offset"` alone.
pub fn rows_with_offset(batch: &RecordBatch, first: u64) -> Vec<(u64, Bytes)> {
    let rows = JsonRows::new(batch).unwrap_or_default();
    let style = Style::default();
    let mut out = BytesMut::new();
    (0..batch.num_rows())
        .map(|row| {
            let offset = first + row as u64;
            rows.write(row, Some(offset), &style, &mut out);
            (offset, out.split().freeze())
        })
        .collect()
}
