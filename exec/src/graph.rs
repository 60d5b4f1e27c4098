//! Operators wired together.

use auspex_storage::{EventBatch, StreamId};

use crate::batch::{Batch, batch_of};
use crate::clocks::Clocks;
use crate::error::{ExecError, Result};
use crate::operator::{Input, Operator, Output, StateChange, StateReader, StateWriter, Watermark};
use crate::progress::Progress;

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

/// What feeds a place of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Leaf(usize),
    Node(usize),
}

/// An operator and where its rows go (`None`: to the output). Targets have greater numbers.
pub(crate) struct Node {
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) target: Option<(usize, Input)>,
    /// What feeds each input.
    pub(crate) sources: Vec<Source>,
    /// The watermark that the inputs together had come to.
    pub(crate) reached: i64,
    /// Rows taken and given.
    pub(crate) rows: (u64, u64),
}

/// Number under which the graph keeps what belongs to no operator.
const OWN_STATE: u16 = u16::MAX;

/// A compiled query: rows of its input streams in, rows of its output stream out.
pub struct Graph {
    pub(crate) inputs: Vec<ScanSpec>,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) schema: SchemaRef,
    /// Present when an operator needs event time.
    pub(crate) clocks: Option<Clocks>,
}

impl Graph {
    /// Streams to be read, ascending; the positions are those of [`Graph::step`]'s input. Of some
    /// no column is read: their rows only move the watermark.
    pub fn inputs(&self) -> &[ScanSpec] {
        &self.inputs
    }

    /// Whether the rows of an input go into the graph, and not only their times.
    pub fn reads(&self, input: usize) -> bool {
        self.leaves.iter().any(|leaf| leaf.input == input)
    }

    /// Columns of the output, all nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the next rows of each input (those columns that [`Graph::inputs`] names, in that
    /// order) and the promise that every row with a place below `sequence` is among them or was
    /// delivered before.
    ///
    /// # Errors
    /// [`ExecError::Row`] when the query's policy is to stop at a row. After any error the graph
    /// must not be used without [`Graph::restore`].
    pub fn step(&mut self, inputs: Vec<Vec<EventBatch>>, sequence: i64) -> Result<Output> {
        self.run(inputs, sequence, None)
    }

    /// Nothing follows: the watermark goes to infinity at the place `sequence`, where no row is.
    ///
    /// # Errors
    /// As [`Graph::step`].
    pub fn end(&mut self, sequence: i64) -> Result<Output> {
        let inputs = vec![Vec::new(); self.inputs.len()];
        self.run(inputs, sequence.saturating_add(1), Some(sequence))
    }

    fn run(
        &mut self,
        inputs: Vec<Vec<EventBatch>>,
        sequence: i64,
        end: Option<i64>,
    ) -> Result<Output> {
        let mut result = Output::default();
        let moved: Vec<Arc<Progress>> = match &mut self.clocks {
            Some(clocks) => clocks.step(&inputs, end).into_iter().map(Arc::new).collect(),
            None => Vec::new(),
        };
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
        let mut given: Vec<Arc<Progress>> = Vec::with_capacity(self.nodes.len());
        let mut watermark = Watermark::places(sequence);
        for node in 0..self.nodes.len() {
            if self.clocks.is_some() {
                let from = |source: &Source| match *source {
                    Source::Leaf(leaf) => Arc::clone(&moved[leaf]),
                    Source::Node(node) => Arc::clone(&given[node]),
                };
                watermark.inputs = self.nodes[node].sources.iter().map(from).collect();
                watermark.progress = match watermark.inputs.as_slice() {
                    [only] => Arc::clone(only),
                    several => {
                        let several: Vec<&Progress> = several.iter().map(Arc::as_ref).collect();
                        Arc::new(Progress::least(&several, self.nodes[node].reached))
                    }
                };
                self.nodes[node].reached = watermark.progress.last();
            }
            let mut out = Output::default();
            self.nodes[node].operator.on_watermark(&watermark, &mut out)?;
            given.push(match out.progress.take() {
                Some(progress) => Arc::new(progress),
                None => Arc::clone(&watermark.progress),
            });
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
        self.nodes[node].rows.0 += batch.len() as u64;
        self.nodes[node].operator.on_batch(input, batch, &mut out)?;
        self.forward(node, out, result)
    }

    /// Hands on what operator `node` gave away.
    fn forward(&mut self, node: usize, out: Output, result: &mut Output) -> Result<()> {
        result.dead_letters.extend(out.dead_letters);
        result.taps.extend(out.taps);
        result.skipped += out.skipped;
        result.nulled += out.nulled;
        result.late.extend(out.late);
        self.nodes[node].rows.1 += out.batches.iter().map(|b| b.len() as u64).sum::<u64>();
        let target = self.nodes[node].target;
        out.batches.into_iter().try_for_each(|batch| self.push(target, batch, result))
    }

    /// State that changed since the last call, as keys and values.
    pub fn checkpoint(&mut self) -> Result<Vec<StateChange>> {
        let mut changes = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.operator.checkpoint(&mut StateWriter::new(number as u16, &mut changes))?;
        }
        if let Some(clocks) = &mut self.clocks {
            let mut state = StateWriter::new(OWN_STATE, &mut changes);
            clocks.checkpoint(&mut state);
            for (number, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.sources.len() > 1)
            {
                state.put(&reached_key(number), node.reached.to_be_bytes().to_vec());
            }
        }
        Ok(changes)
    }

    /// Replaces the state by what former checkpoints wrote (all of them together, ascending by
    /// key; none for the beginning).
    pub fn restore(&mut self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.restore_parts(|prefix| {
            Ok(entries.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect())
        })
    }

    /// [`Graph::restore`] with the entries of one operator at a time: `read` gives those whose key
    /// begins with a prefix, ascending.
    pub fn restore_parts(
        &mut self,
        mut read: impl FnMut(&[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>>,
    ) -> Result<()> {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let number = number as u16;
            let entries = read(&number.to_be_bytes())?;
            node.operator.restore(&StateReader::new(number, &entries))?;
            node.reached = i64::MIN;
        }
        let entries = read(&OWN_STATE.to_be_bytes())?;
        let own = StateReader::new(OWN_STATE, &entries);
        for (key, value) in own.entries() {
            let node = self.nodes.iter_mut().enumerate().find(|(n, _)| reached_key(*n) == key);
            if let (Some((_, node)), Ok(bytes)) = (node, <[u8; 8]>::try_from(value)) {
                node.reached = i64::from_be_bytes(bytes);
            }
        }
        match &mut self.clocks {
            Some(clocks) => clocks.restore(&own),
            None => Ok(()),
        }
    }

    /// Whether an operator keeps more than a few numbers between steps, so that writing its changes
    /// with every transaction would cost too much.
    pub fn is_stateful(&self) -> bool {
        self.clocks.is_some()
    }

    /// Whether something is kept that only the passing of time lets come out, where time is that of
    /// arrival: as long as no row comes, somebody must say that time passes.
    pub fn waits_for_time(&self) -> bool {
        let by_arrival = self.clocks.as_ref().is_some_and(Clocks::by_arrival);
        by_arrival && self.nodes.iter().any(|node| node.operator.state_rows() > 0)
    }

    /// Figures of each operator, in the order of the graph.
    pub fn operators(&self) -> Vec<OperatorStatus> {
        let status = |node: &Node| OperatorStatus {
            name: node.operator.describe(),
            rows_in: node.rows.0,
            rows_out: node.rows.1,
            state_rows: node.operator.state_rows(),
            state_bytes: node.operator.state_bytes(),
            watermark: (self.clocks.is_some() && node.reached != i64::MIN).then_some(node.reached),
        };
        self.nodes.iter().map(status).collect()
    }

    /// Bytes of state kept between steps, roughly.
    pub fn state_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.operator.state_bytes()).sum()
    }
}

/// One operator of a running query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorStatus {
    /// What it is, as in EXPLAIN.
    pub name: String,
    /// Rows taken since the query was started here.
    pub rows_in: u64,
    /// Rows given since then.
    pub rows_out: u64,
    /// Rows, groups or windows kept.
    pub state_rows: u64,
    /// Bytes of state, roughly.
    pub state_bytes: u64,
    /// Event time that its inputs have come to, microseconds since 1970 UTC; `None` when it does
    /// not matter or there was none, [`i64::MAX`] after the end of input.
    pub watermark: Option<i64>,
}

fn reached_key(node: usize) -> Vec<u8> {
    [b"n".as_slice(), &(node as u16).to_be_bytes()].concat()
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
