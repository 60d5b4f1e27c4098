//! W1 as the bytes of a COPY, in every format.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use auspex_plan::ColumnType;

use crate::workload::Tick;

/// Rows of an Arrow batch, as a client would choose it.
const ARROW_ROWS: u64 = 65_536;

/// The columns, with the event time as a number of milliseconds.
pub const COLUMNS: &str = "type text, ts bigint, k text, v double precision, q bigint";

/// The columns as a schema.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        ColumnType::Text.field("type", true),
        ColumnType::BigInt.field("ts", true),
        ColumnType::Text.field("k", true),
        ColumnType::Double.field("v", true),
        ColumnType::BigInt.field("q", true),
    ]))
}

/// Rows `0 .. rows` with values separated by `delimiter` and lines ended by `end`; `quote` puts
/// the texts in quotes.
pub fn delimited(rows: u64, delimiter: char, end: &str, quote: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows as usize * 40);
    let quote = if quote { "\"" } else { "" };
    for tick in (0..rows).map(Tick::at) {
        let Tick { ts_ms, key, cents, quantity } = tick;
        let (whole, part) = (cents / 100, cents % 100);
        write!(
            out,
            "{quote}Tick{quote}{delimiter}{ts_ms}{delimiter}{quote}S{key:04}{quote}{delimiter}\
             {whole}.{part:02}{delimiter}{quantity}{end}"
        )
        .expect("a Vec takes all that is written to it");
    }
    out
}

/// Rows `0 .. rows` in the binary format.
pub fn binary(rows: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows as usize * 56);
    let field = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend((bytes.len() as i32).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    out.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for tick in (0..rows).map(Tick::at) {
        out.extend(5i16.to_be_bytes());
        field(&mut out, b"Tick");
        field(&mut out, &tick.ts_ms.to_be_bytes());
        field(&mut out, format!("S{:04}", tick.key).as_bytes());
        field(&mut out, &tick.value().to_be_bytes());
        field(&mut out, &tick.quantity.to_be_bytes());
    }
    out.extend((-1i16).to_be_bytes());
    out
}

/// Rows `0 .. rows` as an Arrow IPC stream with ordinary `Utf8` columns.
pub fn arrow(rows: u64) -> Result<Vec<u8>, ArrowError> {
    let mut writer = None;
    for from in (0..rows).step_by(ARROW_ROWS as usize) {
        let ticks: Vec<Tick> = (from..rows.min(from + ARROW_ROWS)).map(Tick::at).collect();
        let keys = ticks.iter().map(|t| format!("S{:04}", t.key));
        let columns: [(&str, ArrayRef); 5] = [
            ("type", Arc::new(StringArray::from_iter_values(ticks.iter().map(|_| "Tick")))),
            ("ts", Arc::new(Int64Array::from_iter_values(ticks.iter().map(|t| t.ts_ms)))),
            ("k", Arc::new(StringArray::from_iter_values(keys))),
            ("v", Arc::new(Float64Array::from_iter_values(ticks.iter().map(Tick::value)))),
            ("q", Arc::new(Int64Array::from_iter_values(ticks.iter().map(|t| t.quantity)))),
        ];
        let batch = RecordBatch::try_from_iter(columns)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(StreamWriter::try_new(Vec::new(), &batch.schema())?),
        };
        writer.write(&batch)?;
    }
    match writer {
        Some(mut writer) => {
            writer.finish()?;
            writer.into_inner()
        }
        None => Ok(Vec::new()),
    }
}
