//! Arrow IPC streams. Text leaves as `Utf8`, which every reader knows and which holds the bytes of
//! these rows only, where views may keep much larger buffers alive.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use auspex_plan::{Diagnostic, SqlState};
use bytes::{BufMut, BytesMut};

use super::message;

/// Most bytes of a `CopyData` message.
const MESSAGE: usize = 256 << 10;

pub(super) struct Ipc {
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
}

impl Ipc {
    pub(super) fn new(schema: &SchemaRef) -> Result<Ipc, Diagnostic> {
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                DataType::Utf8View => field.as_ref().clone().with_data_type(DataType::Utf8),
                DataType::BinaryView => field.as_ref().clone().with_data_type(DataType::Binary),
                _ => field.as_ref().clone(),
            })
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(refused)?;
        Ok(Ipc { schema, writer })
    }

    pub(super) fn batch(
        &mut self,
        batch: &RecordBatch,
        out: &mut BytesMut,
    ) -> Result<(), Diagnostic> {
        let arrays = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(array, field)| {
                if array.data_type() == field.data_type() {
                    Ok(Arc::clone(array))
                } else {
                    cast(array, field.data_type())
                }
            })
            .collect::<Result<Vec<ArrayRef>, _>>()
            .map_err(refused)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(refused)?;
        self.writer.write(&batch).map_err(refused)?;
        self.flush(out)
    }

    pub(super) fn finish(&mut self, out: &mut BytesMut) -> Result<(), Diagnostic> {
        self.writer.finish().map_err(refused)?;
        self.flush(out)
    }

    /// Sends what the writer has written.
    pub(super) fn flush(&mut self, out: &mut BytesMut) -> Result<(), Diagnostic> {
        self.writer.flush().map_err(refused)?;
        let bytes = self.writer.get_mut();
        for piece in bytes.chunks(MESSAGE) {
            message(out, |out| out.put_slice(piece));
        }
        bytes.clear();
        Ok(())
    }
}

fn refused(error: ArrowError) -> Diagnostic {
    Diagnostic::error(SqlState::INTERNAL_ERROR, format!("could not write an Arrow stream: {error}"))
}
