//! Arrow IPC streams (`FORMAT arrow`).
//!
//! Messages are put together here, metadata and body apart, so that a body of any size is copied
//! once, into memory aligned for Arrow, and the arrays are views of it. Columns are matched by name
//! and converted where that loses nothing of the kind of value.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use arrow::record_batch::RecordBatch;
use auspex_plan::{ColumnType, Diagnostic, SqlState};

use super::rows::column_type;
use super::{MAX_ROW_BYTES, too_long, value, views};
use crate::copy::CopyError;
use crate::copy::error::Place;
use crate::pg::decode;
use crate::pg::zone::Zone;

/// Marks the start of a message.
const CONTINUATION: [u8; 4] = [0xFF; 4];
/// Most bytes of a message's metadata.
const MAX_METADATA: usize = 16 << 20;
/// A body up to this size gets its memory at once; a larger one as its bytes come in, because its
/// length is only what the sender claims.
const TRUSTED_BODY: usize = 16 << 20;

/// State between pushes.
pub(super) struct Ipc {
    columns: SchemaRef,
    kinds: Vec<ColumnType>,
    zone: Zone,
    decoder: StreamDecoder,
    part: Part,
    /// Where each column of the list is in the stream.
    places: Option<Vec<usize>>,
    /// Rows read.
    row: u64,
}

enum Part {
    /// Continuation marker and length of the metadata.
    Prefix(Vec<u8>),
    /// The prefix and `total - prefix` bytes of metadata.
    Metadata {
        bytes: Vec<u8>,
        total: usize,
    },
    Body {
        bytes: MutableBuffer,
        total: usize,
    },
    Ended,
}

impl Ipc {
    pub(super) fn new(columns: SchemaRef, zone: Zone) -> Result<Ipc, CopyError> {
        let kinds =
            columns.fields().iter().map(|f| column_type(f)).collect::<Result<_, CopyError>>()?;
        Ok(Ipc {
            columns,
            kinds,
            zone,
            decoder: StreamDecoder::new(),
            part: Part::Prefix(Vec::new()),
            places: None,
            row: 0,
        })
    }

    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), CopyError> {
        while !bytes.is_empty() {
            match &mut self.part {
                Part::Prefix(prefix) => {
                    prefix.push(bytes[0]);
                    bytes = &bytes[1..];
                    let Some(length) = metadata_length(prefix) else { continue };
                    let prefix = std::mem::take(prefix);
                    if length > MAX_METADATA {
                        return Err(malformed("metadata of a message is too long"));
                    }
                    self.part = if length == 0 {
                        self.end_of_stream(out)?;
                        Part::Ended
                    } else {
                        Part::Metadata { total: prefix.len() + length, bytes: prefix }
                    };
                }
                Part::Metadata { bytes: metadata, total } => {
                    let take = (*total - metadata.len()).min(bytes.len());
                    metadata.extend_from_slice(&bytes[..take]);
                    bytes = &bytes[take..];
                    if metadata.len() < *total {
                        continue;
                    }
                    let metadata = std::mem::take(metadata);
                    let start = if metadata.starts_with(&CONTINUATION) { 8 } else { 4 };
                    let body = body_length(&metadata[start..])?;
                    self.feed(Buffer::from_vec(metadata), out)?;
                    self.part = match body {
                        0 => Part::Prefix(Vec::new()),
                        total => Part::Body {
                            bytes: MutableBuffer::with_capacity(total.min(TRUSTED_BODY)),
                            total,
                        },
                    };
                }
                Part::Body { bytes: body, total } => {
                    let take = (*total - body.len()).min(bytes.len());
                    body.extend_from_slice(&bytes[..take]);
                    bytes = &bytes[take..];
                    if body.len() == *total {
                        let body = std::mem::take(body);
                        self.part = Part::Prefix(Vec::new());
                        self.feed(body.into(), out)?;
                    }
                }
                Part::Ended => return Err(malformed("data after the end of the stream")),
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        match &self.part {
            Part::Ended => Ok(()),
            // The end marker may be missing.
            Part::Prefix(prefix) if prefix.is_empty() => self.end_of_stream(out),
            _ => Err(malformed("unexpected end of the stream")),
        }
    }

    /// Lets the decoder see the last message, which it looks at when more comes behind it.
    fn end_of_stream(&mut self, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        self.feed(Buffer::from([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]), out)?;
        if self.decoder.schema().is_none() {
            return Err(malformed("there is no schema"));
        }
        self.places()?;
        Ok(())
    }

    fn feed(&mut self, mut buffer: Buffer, out: &mut Vec<RecordBatch>) -> Result<(), CopyError> {
        while !buffer.is_empty() {
            // The decoder trusts some numbers of a message; a wrong one must not end the server.
            let step = catch_unwind(AssertUnwindSafe(|| self.decoder.decode(&mut buffer)));
            let batch = match step {
                Ok(Ok(Some(batch))) => batch,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(malformed(error)),
                Err(_) => return Err(malformed("a message contradicts itself")),
            };
            let batch = self.convert(&batch)?;
            self.row += batch.num_rows() as u64;
            if batch.num_rows() > 0 {
                out.push(batch);
            }
        }
        Ok(())
    }

    /// Matches the columns of the stream with those of the list, once.
    fn places(&mut self) -> Result<Vec<usize>, CopyError> {
        if let Some(places) = &self.places {
            return Ok(places.clone());
        }
        let Some(schema) = self.decoder.schema() else {
            return Err(malformed("there is no schema"));
        };
        let mut places = Vec::new();
        for (field, kind) in self.columns.fields().iter().zip(&self.kinds) {
            let named: Vec<usize> = (0..schema.fields().len())
                .filter(|i| schema.field(*i).name() == field.name())
                .collect();
            let [place] = named.as_slice() else {
                let what = if named.is_empty() { "no" } else { "more than one" };
                return Err(CopyError::format(format!(
                    "the Arrow stream has {what} column \"{}\"",
                    field.name()
                )));
            };
            let from = schema.field(*place);
            if !converts(from, kind, self.zone) {
                let error = CopyError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "column \"{}\" is of type {kind} but the Arrow stream has {}",
                        field.name(),
                        from.data_type()
                    ),
                );
                return Err(match kind {
                    ColumnType::Timestamptz => error.hint(
                        "Give the timestamps a time zone, or set the session's TimeZone to UTC.",
                    ),
                    _ => error,
                });
            }
            places.push(*place);
        }
        if let Some(extra) =
            schema.fields().iter().find(|f| self.columns.index_of(f.name()).is_err())
        {
            return Err(CopyError::format(format!(
                "the Arrow stream has column \"{}\", which is not in the column list",
                extra.name()
            )));
        }
        self.places = Some(places.clone());
        Ok(places)
    }

    fn convert(&mut self, batch: &RecordBatch) -> Result<RecordBatch, CopyError> {
        let places = self.places()?;
        let mut arrays = Vec::with_capacity(places.len());
        for ((place, field), kind) in places.iter().zip(self.columns.fields()).zip(&self.kinds) {
            let array = array(batch.column(*place), field, kind).map_err(|(row, error)| {
                CopyError::from(error)
                    .at(self.row + row as u64 + 1, Place::Column(field.name().clone()))
            })?;
            arrays.push(array);
        }
        RecordBatch::try_new(Arc::clone(&self.columns), arrays).map_err(malformed)
    }
}

/// Length of the metadata once the prefix is complete. Streams from before Arrow 0.15 have no
/// continuation marker.
fn metadata_length(prefix: &[u8]) -> Option<usize> {
    let length = match prefix {
        [0xFF, 0xFF, 0xFF, 0xFF, length @ ..] => length,
        length => length,
    };
    length.try_into().ok().map(|length| u32::from_le_bytes(length) as usize)
}

fn body_length(metadata: &[u8]) -> Result<usize, CopyError> {
    let message = root_as_message(metadata).map_err(malformed)?;
    if let Some(batch) = message.header_as_record_batch()
        && batch.compression().is_some()
    {
        return Err(CopyError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "compressed Arrow streams are not supported",
        )
        .hint("Write the stream without compression."));
    }
    match usize::try_from(message.bodyLength()) {
        Ok(length) if length <= MAX_ROW_BYTES => Ok(length),
        Ok(_) => Err(too_long().hint("Send smaller record batches.")),
        Err(_) => Err(malformed("a body of negative length")),
    }
}

fn malformed(error: impl std::fmt::Display) -> CopyError {
    CopyError::format(format!("invalid Arrow stream: {error}"))
}

/// Whether values of `from` can become values of `to` without changing their kind.
fn converts(from: &Field, to: &ColumnType, zone: Zone) -> bool {
    use ColumnType::*;
    if from.data_type() == &DataType::Null {
        return true;
    }
    let Some(kind) = ColumnType::from_field(from) else { return false };
    let same_kind = match (&kind, to) {
        (SmallInt | Integer | BigInt, SmallInt | Integer | BigInt | Real | Double) => true,
        (SmallInt | Integer | BigInt | Numeric { .. }, Numeric { .. }) => true,
        // An unsigned 64-bit column is a numeric where it is wider than bigint.
        (Numeric { .. }, BigInt) => from.data_type() == &DataType::UInt64,
        (Real | Double, Real | Double) => true,
        (Text | Varchar(_) | Jsonb, Text | Varchar(_) | Jsonb) => true,
        (Timestamp, Timestamptz) => zone == Zone::UTC,
        (Timestamptz | Timestamp, Timestamp) | (Timestamptz, Timestamptz) => true,
        (Array(_), Array(item)) => match from.data_type() {
            DataType::List(inner)
            | DataType::LargeList(inner)
            | DataType::FixedSizeList(inner, _) => converts(inner, item, zone),
            _ => false,
        },
        (Map(k1, v1), Map(k2, v2)) => k1 == k2 && v1 == v2,
        (a, b) => a == b,
    };
    same_kind && can_cast_types(from.data_type(), &to.arrow())
}

/// `array` as a column of type `kind`. Errors carry the row of the array.
fn array(
    array: &ArrayRef,
    field: &Field,
    kind: &ColumnType,
) -> Result<ArrayRef, (usize, Diagnostic)> {
    let array = if array.data_type() == field.data_type() {
        Arc::clone(array)
    } else if let Some(strings) = array.as_string_opt::<i32>()
        && field.data_type() == &DataType::Utf8View
    {
        let views = views::of_strings(strings);
        if kind == &ColumnType::Text && memchr::memchr(0, strings.value_data()).is_none() {
            return Ok(Arc::new(views));
        }
        Arc::new(views)
    } else {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, field.data_type(), &options).map_err(|error| {
            let message = match error {
                arrow::error::ArrowError::CastError(message) => message,
                other => other.to_string(),
            };
            (0, Diagnostic::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
        })?
    };
    match kind {
        ColumnType::Text => {
            check_text(array.as_string_view(), |_| Ok(()))?;
            Ok(array)
        }
        ColumnType::Varchar(limit) => {
            let limit = *limit;
            let values = array.as_string_view();
            let fits = check_text(values, |text| decode::varchar(text, limit).map(str::len));
            fits?;
            if values.iter().flatten().all(|text| text.chars().count() <= limit as usize) {
                return Ok(array);
            }
            let cut: StringViewArray =
                values.iter().map(|v| v.and_then(|t| decode::varchar(t, limit).ok())).collect();
            Ok(Arc::new(cut))
        }
        ColumnType::Jsonb => {
            let mut out = arrow::array::StringViewBuilder::with_capacity(array.len());
            for (row, text) in array.as_string_view().iter().enumerate() {
                match text {
                    None => out.append_null(),
                    Some(text) => out.append_value(decode::jsonb(text).map_err(|e| (row, e))?),
                }
            }
            Ok(Arc::new(out.finish()))
        }
        _ => Ok(array),
    }
}

/// Text must not hold NUL, and whatever `more` asks for.
fn check_text<T>(
    values: &StringViewArray,
    more: impl Fn(&str) -> Result<T, Diagnostic>,
) -> Result<(), (usize, Diagnostic)> {
    for (row, text) in values.iter().enumerate() {
        let Some(text) = text else { continue };
        if text.bytes().any(|b| b == 0) {
            value::utf8(text.as_bytes()).map_err(|e| (row, e))?;
        }
        more(text).map_err(|e| (row, e))?;
    }
    Ok(())
}
