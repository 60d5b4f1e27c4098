//! What both stores demand of an append before they take it.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::batch::Run;
use crate::error::{Result, StorageError};
use crate::store::Append;

/// Checks an append against its stream's columns and gives its rows exactly their schema.
pub(crate) fn check_append(append: &mut Append, schema: &SchemaRef) -> Result<()> {
    let rows = append.rows.num_rows();
    if append.rows.schema_ref() != schema {
        append.rows = with_schema(&append.rows, schema, append.stream)?;
    }
    if let Some(time) = &append.time {
        check_run(time, rows, "event times")?;
    }
    if let Some((sequence, ingested)) = &append.derived {
        append.time.get_or_insert_with(|| ingested.clone());
        check_run(sequence, rows, "places")?;
        check_run(ingested, rows, "arrivals")?;
        if let Run::Each(values) = sequence
            && values.windows(2).any(|pair| pair[1] < pair[0])
        {
            return Err(StorageError::Misuse(format!(
                "places of rows for stream {} fall",
                append.stream
            )));
        }
    }
    Ok(())
}

fn with_schema(rows: &RecordBatch, schema: &SchemaRef, stream: u32) -> Result<RecordBatch> {
    let options =
        arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options)
        .map_err(|e| StorageError::Misuse(format!("rows do not fit stream {stream}: {e}")))
}

fn check_run(run: &Run, rows: usize, what: &str) -> Result<()> {
    match run {
        Run::Each(values) if values.len() != rows => {
            Err(StorageError::Misuse(format!("{} {what} for {rows} rows", values.len())))
        }
        _ => Ok(()),
    }
}

/// How many rows of an append the stream already has, given its end: what `at_offset` asks for.
pub(crate) fn rows_to_skip(append: &Append, next: u64) -> Result<usize> {
    match append.at_offset {
        None => Ok(0),
        Some(at) if at > next => Err(StorageError::Misuse(format!(
            "append at offset {at} of stream {} leaves a gap: its end is {next}",
            append.stream
        ))),
        Some(at) => Ok(((next - at) as usize).min(append.rows.num_rows())),
    }
}

/// Removes the first `skip` rows.
pub(crate) fn skip_rows(append: &mut Append, skip: usize) {
    if skip == 0 {
        return;
    }
    let left = append.rows.num_rows() - skip;
    append.rows = append.rows.slice(skip, left);
    append.time = append.time.take().map(|run| run.slice(skip, left));
    append.derived = append
        .derived
        .take()
        .map(|(sequence, ingested)| (sequence.slice(skip, left), ingested.slice(skip, left)));
    append.at_offset = append.at_offset.map(|at| at + skip as u64);
}

/// Demands that the places of derived rows do not fall below the stream's last one.
pub(crate) fn check_order(append: &Append, last_sequence: i64) -> Result<()> {
    match &append.derived {
        Some((sequence, _)) if append.rows.num_rows() > 0 && sequence.get(0) < last_sequence => {
            Err(StorageError::Misuse(format!(
                "a row for stream {} has place {}, after one with place {last_sequence}",
                append.stream,
                sequence.get(0)
            )))
        }
        _ => Ok(()),
    }
}
