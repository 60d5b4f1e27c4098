//! Operators wired together.

use auspex_storage::{EventBatch, StreamId};

use crate::batch::{Batch, batch_of};
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateChange, StateReader, StateWriter, Watermark};

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use auspex_plan::types::UTC;
use auspex_storage::Run;

/// A column that a scan delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanColumn {
    /// One of the stream's own, by its position among [`ScanSpec::columns`] of the stream.
    Own(usize),
    /// `_offset`.
    Offset,
    /// `_time`.
    Time,
    /// `_ingested`.
    Ingested,
}

/// What a graph reads of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanSpec {
    /// The stream.
    pub stream: StreamId,
    /// Positions of its own columns to be read, ascending.
    pub columns: Vec<usize>,
}

/// A leaf: rows of one stream with the columns this branch wants.
pub(crate) struct Leaf {
    /// Which of the graph's inputs it reads.
    pub(crate) input: usize,
    pub(crate) columns: Vec<ScanColumn>,
    pub(crate) schema: SchemaRef,
    /// Where the rows go; `None` to the output.
    pub(crate) target: Option<(usize, Input)>,
}

/// An operator and where its rows go (`None`: to the output). Targets have greater numbers.
pub(crate) struct Node {
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) target: Option<(usize, Input)>,
}

/// A compiled query: rows of its input streams in, rows of its output stream out.
pub struct Graph {
    pub(crate) inputs: Vec<ScanSpec>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) schema: SchemaRef,
}

impl Graph {
    /// Streams to be read, ascending; the positions are those of [`Graph::step`]'s input.
    pub fn inputs(&self) -> &[ScanSpec] {
        &self.inputs
    }

    /// Columns of the output, all nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the next rows of each input (those columns that [`Graph::inputs`] names, in that
    /// order) and the promise that no row below the watermark follows. All rows must be below it.
    ///
    /// # Errors
    /// [`ExecError::Row`] when the query's policy is to stop at a row. After any error the graph
    /// must not be used without [`Graph::restore`].
    pub fn step(&mut self, inputs: Vec<Vec<EventBatch>>, watermark: Watermark) -> Result<Output> {
        let mut result = Output::default();
        for (input, batches) in inputs.into_iter().enumerate() {
            let stream = self.inputs[input].stream;
            for events in batches.into_iter().filter(|events| !events.is_empty()) {
                for leaf in 0..self.leaves.len() {
                    if self.leaves[leaf].input == input {
                        let batch = self.leaves[leaf].scan(stream, &events)?;
                        self.push(self.leaves[leaf].target, batch, &mut result)?;
                    }
                }
            }
        }
        for node in 0..self.nodes.len() {
            let mut out = Output::default();
            self.nodes[node].operator.on_watermark(watermark, &mut out)?;
            self.forward(node, out, &mut result)?;
        }
        Ok(result)
    }

    fn push(
        &mut self,
        target: Option<(usize, Input)>,
        batch: Batch,
        result: &mut Output,
    ) -> Result<()> {
        let Some((node, input)) = target else {
            result.emit(batch);
            return Ok(());
        };
        let mut out = Output::default();
        self.nodes[node].operator.on_batch(input, batch, &mut out)?;
        self.forward(node, out, result)
    }

    /// Hands on what operator `node` gave away.
    fn forward(&mut self, node: usize, out: Output, result: &mut Output) -> Result<()> {
        result.dead_letters.extend(out.dead_letters);
        result.taps.extend(out.taps);
        result.skipped += out.skipped;
        result.nulled += out.nulled;
        let target = self.nodes[node].target;
        out.batches.into_iter().try_for_each(|batch| self.push(target, batch, result))
    }

    /// State that changed since the last call, as keys and values.
    pub fn checkpoint(&mut self) -> Result<Vec<StateChange>> {
        let mut changes = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.operator.checkpoint(&mut StateWriter::new(number as u16, &mut changes))?;
        }
        Ok(changes)
    }

    /// Replaces the state by what former checkpoints wrote (all of them together, ascending by
    /// key; none for the beginning).
    pub fn restore(&mut self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.operator.restore(&StateReader::new(number as u16, entries))?;
        }
        Ok(())
    }

    /// Bytes of state kept between steps, roughly.
    pub fn state_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.operator.state_bytes()).sum()
    }
}

impl Leaf {
    fn scan(&self, stream: StreamId, events: &EventBatch) -> Result<Batch> {
        let rows = events.len();
        let columns =
            self.columns
                .iter()
                .map(|column| match column {
                    ScanColumn::Own(index) => {
                        events.rows.columns().get(*index).cloned().ok_or_else(|| {
                            ExecError::Plan(format!("stream {stream} lacks a column"))
                        })
                    }
                    ScanColumn::Offset => {
                        let offsets = Run::Sequence(events.offset as i64).to_values(rows);
                        Ok(Arc::new(Int64Array::new(offsets, None)) as ArrayRef)
                    }
                    ScanColumn::Time => Ok(timestamps(&events.time, rows)),
                    ScanColumn::Ingested => Ok(timestamps(&events.ingested, rows)),
                })
                .collect::<Result<Vec<_>>>()?;
        let scanned = batch_of(self.schema.clone(), columns, rows)?;
        Ok(Batch::from_events(stream, EventBatch { rows: scanned, ..events.clone() }))
    }
}

fn timestamps(run: &Run, rows: usize) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(run.to_values(rows), None).with_timezone(UTC))
}
