//! One column: nulls, then values by the kind of its Arrow type.
//!
//! ```text
//! u8   kind    1 integer, 2 double, 3 boolean, 4 strings, 5 fixed width, 6 Arrow IPC stream
//! u8   nulls   0: none, 1: a bitmap follows
//! ...  bitmap  ceil(rows / 8) bytes, bit i of byte i / 8 set when row i is not null
//! ...  values  of all rows; what a null row holds here is of no meaning
//! ```

use std::borrow::Cow;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, StringArray, make_array, new_empty_array,
};
use arrow::array::{BinaryArray, Float64Array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Field, Float64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;

use crate::codec::wire::Reader;
use crate::codec::{float, int, text};
use crate::error::{Result, StorageError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Double,
    Boolean,
    Strings,
    Fixed,
    Ipc,
}

/// How a type is kept. Part of the format: a type may not change its kind.
fn kind_of(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_) => Kind::Integer,
        DataType::Float64 => Kind::Double,
        DataType::Boolean => Kind::Boolean,
        DataType::Utf8View | DataType::Utf8 | DataType::Binary => Kind::Strings,
        DataType::Float16
        | DataType::Float32
        | DataType::Interval(_)
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..)
        | DataType::FixedSizeBinary(_) => Kind::Fixed,
        _ => Kind::Ipc,
    }
}

fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::Integer => 1,
        Kind::Double => 2,
        Kind::Boolean => 3,
        Kind::Strings => 4,
        Kind::Fixed => 5,
        Kind::Ipc => 6,
    }
}

fn fixed_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        other => other.primitive_width(),
    }
}

/// Appends a column.
pub(crate) fn encode(array: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    let mut kind = kind_of(array.data_type());
    if kind == Kind::Strings && total_bytes(array) > i32::MAX as u64 {
        kind = Kind::Ipc;
    }
    out.push(code_of(kind));
    if kind == Kind::Ipc {
        out.push(0);
        return encode_ipc(array, out);
    }
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.push(0),
        Some(nulls) => {
            out.push(1);
            encode_bits(nulls.inner(), out);
        }
    }
    match kind {
        Kind::Integer => int::encode(&integers(array, &array.to_data()), out),
        Kind::Double => {
            let array = array.as_primitive::<Float64Type>();
            match array.nulls().filter(|nulls| nulls.null_count() > 0) {
                None => float::encode(array.values(), out),
                Some(nulls) => float::encode(&carried(array.values(), nulls), out),
            }
        }
        Kind::Boolean => encode_bits(array.as_boolean().values(), out),
        Kind::Strings => encode_strings(array, out),
        Kind::Fixed => {
            let data = array.to_data();
            let width = fixed_width(data.data_type()).expect("the kind has a fixed width");
            let from = data.offset() * width;
            out.extend_from_slice(&data.buffers()[0][from..from + data.len() * width]);
        }
        Kind::Ipc => unreachable!("written above"),
    }
    Ok(())
}

fn total_bytes(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().lengths().map(u64::from).sum(),
        // Their offsets are 32 bits already.
        _ => 0,
    }
}

fn encode_strings(array: &ArrayRef, out: &mut Vec<u8>) {
    match array.data_type() {
        DataType::Utf8View => text::encode_views(array.as_string_view(), out),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            let strings = (0..array.len()).map(|i| array.value(i).as_bytes());
            text::encode_plain(strings, array.len(), out);
        }
        _ => {
            let array = array.as_binary::<i32>();
            text::encode_plain((0..array.len()).map(|i| array.value(i)), array.len(), out);
        }
    }
}

fn encode_bits(bits: &BooleanBuffer, out: &mut Vec<u8>) {
    let aligned = bits.sliced();
    let bytes = bits.len().div_ceil(8);
    let start = out.len();
    out.extend_from_slice(&aligned.as_slice()[..bytes]);
    // Bits beyond the last row are not ours: keep the bytes a function of the rows.
    if !bits.len().is_multiple_of(8)
        && let Some(last) = out[start..].last_mut()
    {
        *last &= (1 << (bits.len() % 8)) - 1;
    }
}

/// All values as 64-bit integers. The value before takes the place of a null, which keeps the
/// range small.
fn integers<'a>(array: &ArrayRef, data: &'a ArrayData) -> Cow<'a, [i64]> {
    let values = match fixed_width(data.data_type()) {
        Some(1) if *data.data_type() == DataType::UInt8 => widen::<u8>(data, i64::from),
        Some(1) => widen::<i8>(data, i64::from),
        Some(2) if *data.data_type() == DataType::UInt16 => widen::<u16>(data, i64::from),
        Some(2) => widen::<i16>(data, i64::from),
        Some(4) if *data.data_type() == DataType::UInt32 => widen::<u32>(data, i64::from),
        Some(4) => widen::<i32>(data, i64::from),
        _ => Cow::Borrowed(&data.buffer::<i64>(0)[..data.len()]),
    };
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => values,
        Some(nulls) => carried(&values, nulls).into(),
    }
}

fn widen<T: ArrowNativeType>(data: &ArrayData, f: impl Fn(T) -> i64) -> Cow<'static, [i64]> {
    data.buffer::<T>(0)[..data.len()].iter().map(|&v| f(v)).collect()
}

fn carried<T: Copy + Default>(values: &[T], nulls: &NullBuffer) -> Vec<T> {
    let mut last = nulls.valid_indices().next().map_or(T::default(), |first| values[first]);
    values
        .iter()
        .zip(nulls.iter())
        .map(|(&value, valid)| {
            if valid {
                last = value;
            }
            last
        })
        .collect()
}

fn encode_ipc(array: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    let field = Field::new("c", array.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let mut write = || {
        let batch = RecordBatch::try_new(schema.clone(), vec![array.clone()])?;
        let mut writer = StreamWriter::try_new(&mut *out, &schema)?;
        writer.write(&batch)?;
        writer.finish()
    };
    write().map_err(|e| StorageError::Misuse(format!("a column cannot be stored: {e}")))
}

/// Reads a column of `rows` rows.
pub(crate) fn decode(bytes: &[u8], data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let mut reader = Reader::new(bytes);
    let code = reader.u8()?;
    let has_nulls = reader.u8()? != 0;
    let kind = kind_of(data_type);
    if code == code_of(Kind::Ipc) {
        return decode_ipc(reader.bytes(reader.left())?, data_type, rows);
    }
    if code != code_of(kind) {
        return Err(damaged(format!("kind {code} for {data_type}")));
    }
    let nulls = match has_nulls {
        true => Some(NullBuffer::new(decode_bits(&mut reader, rows)?)),
        false => None,
    };
    let array = match kind {
        Kind::Integer => {
            let values = int::decode(&mut reader, rows)?;
            let buffer = match fixed_width(data_type) {
                Some(1) => narrow(&values, |v| v as u8),
                Some(2) => narrow(&values, |v| v as u16),
                Some(4) => narrow(&values, |v| v as u32),
                _ => Buffer::from_vec(values),
            };
            from_buffer(data_type, rows, buffer, nulls)?
        }
        Kind::Double => {
            let values = float::decode(&mut reader, rows)?;
            Arc::new(Float64Array::new(values.into(), nulls)) as ArrayRef
        }
        Kind::Boolean => Arc::new(BooleanArray::new(decode_bits(&mut reader, rows)?, nulls)),
        Kind::Strings => decode_strings(&mut reader, data_type, rows, nulls)?,
        Kind::Fixed => {
            let width = fixed_width(data_type).expect("the kind has a fixed width");
            let buffer = Buffer::from(reader.bytes(rows * width)?);
            from_buffer(data_type, rows, buffer, nulls)?
        }
        Kind::Ipc => unreachable!("read above"),
    };
    reader.end()?;
    Ok(array)
}

fn narrow<T: ArrowNativeType>(values: &[i64], f: impl Fn(i64) -> T) -> Buffer {
    Buffer::from_vec(values.iter().map(|&v| f(v)).collect::<Vec<T>>())
}

fn from_buffer(
    data_type: &DataType,
    rows: usize,
    buffer: Buffer,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(buffer)
        .nulls(nulls)
        .align_buffers(true)
        .build()
        .map_err(|e| damaged(e.to_string()))?;
    Ok(make_array(data))
}

fn decode_bits(reader: &mut Reader<'_>, rows: usize) -> Result<BooleanBuffer> {
    Ok(BooleanBuffer::new(Buffer::from(reader.bytes(rows.div_ceil(8))?), 0, rows))
}

fn decode_strings(
    reader: &mut Reader<'_>,
    data_type: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    if *data_type == DataType::Utf8View {
        return text::decode_views(reader, rows, nulls);
    }
    let strings = text::decode_plain(reader, rows)?;
    let (offsets, bytes) = (strings.offsets, strings.bytes);
    let array: Result<ArrayRef, _> = match data_type {
        DataType::Utf8 => StringArray::try_new(offsets, bytes, nulls).map(|a| Arc::new(a) as _),
        _ => BinaryArray::try_new(offsets, bytes, nulls).map(|a| Arc::new(a) as _),
    };
    array.map_err(|e| damaged(e.to_string()))
}

fn decode_ipc(bytes: &[u8], data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let read = || {
        let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
        reader.next().transpose()
    };
    let batch = read().map_err(|e| damaged(e.to_string()))?;
    let array = match batch {
        Some(batch) if batch.num_columns() == 1 => batch.column(0).clone(),
        Some(_) => return Err(damaged("several columns".into())),
        None => new_empty_array(data_type),
    };
    if array.len() != rows || array.data_type() != data_type {
        return Err(damaged(format!("{} rows of {}", array.len(), array.data_type())));
    }
    Ok(array)
}

fn damaged(what: String) -> StorageError {
    StorageError::Corrupted(format!("column: {what}"))
}
