//! What a transaction becomes on its caller's thread, before it is put in order: rows checked
//! against their streams and encoded, so that the committer has little left to do.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use tokio::sync::oneshot;

use crate::batch::Run;
use crate::check::{check_append, skip_rows};
use crate::codec;
use crate::error::{Result, StorageError};
use crate::rocks::Shared;
use crate::rocks::stage::Load;
use crate::rocks::stream::Stream;
use crate::store::{Append, Committed, Durability, Staged, StreamId, Transaction};

/// Payloads up to this many bytes are kept in the index entry.
pub(crate) const INLINE: usize = 4096;

/// A transaction ready for the committer.
pub(crate) struct Prepared {
    pub(crate) loads: Vec<Load>,
    pub(crate) appends: Vec<Encoded>,
    /// The rest; its appends are empty.
    pub(crate) rest: Transaction,
    /// The streams it creates.
    pub(crate) created: Vec<Arc<Stream>>,
    pub(crate) durability: Durability,
    pub(crate) answer: oneshot::Sender<Result<Committed>>,
}

/// An append with its payload.
pub(crate) struct Encoded {
    pub(crate) stream: Arc<Stream>,
    pub(crate) append: Append,
    pub(crate) payload: Vec<u8>,
}

impl Encoded {
    /// Checks an append and encodes it.
    pub(crate) fn new(stream: Arc<Stream>, mut append: Append) -> Result<Encoded> {
        check_append(&mut append, &stream.schema())?;
        let payload = encode(&append)?;
        Ok(Encoded { stream, append, payload })
    }

    /// Leaves out the first rows: a replay of rows that are partly there.
    pub(crate) fn skip(&mut self, rows: usize) -> Result<()> {
        if rows > 0 {
            skip_rows(&mut self.append, rows);
            self.payload = encode(&self.append)?;
        }
        Ok(())
    }
}

fn encode(append: &Append) -> Result<Vec<u8>> {
    let mut each: Vec<&ScalarBuffer<i64>> = Vec::new();
    // In this order the index entry expects them.
    let derived = append.derived.as_ref();
    for run in [derived.map(|d| &d.0), append.time.as_ref(), derived.map(|d| &d.1)] {
        if let Some(Run::Each(values)) = run {
            each.push(values);
        }
    }
    codec::encode(&append.rows, &each)
}

impl Prepared {
    /// Checks and encodes a transaction.
    pub(crate) fn new(
        shared: &Shared,
        staged: Vec<Staged>,
        mut transaction: Transaction,
        durability: Durability,
        answer: oneshot::Sender<Result<Committed>>,
    ) -> Result<Prepared, (StorageError, oneshot::Sender<Result<Committed>>)> {
        match Self::parts(shared, staged, &mut transaction) {
            Ok((loads, appends, created)) => {
                Ok(Prepared { loads, appends, rest: transaction, created, durability, answer })
            }
            Err(error) => Err((error, answer)),
        }
    }

    #[allow(clippy::type_complexity, reason = "the three parts have no name of their own")]
    fn parts(
        shared: &Shared,
        staged: Vec<Staged>,
        transaction: &mut Transaction,
    ) -> Result<(Vec<Load>, Vec<Encoded>, Vec<Arc<Stream>>)> {
        if let Some(error) = shared.refusal() {
            return Err(error);
        }
        let created: Vec<Arc<Stream>> = transaction
            .create_streams
            .drain(..)
            .map(|config| Arc::new(Stream::create(config)))
            .collect();
        let new: HashMap<StreamId, &Arc<Stream>> =
            created.iter().map(|stream| (stream.id, stream)).collect();
        let mut appends = Vec::with_capacity(transaction.appends.len());
        for append in transaction.appends.drain(..) {
            let stream = match new.get(&append.stream) {
                Some(stream) => Arc::clone(stream),
                None => shared.stream(append.stream)?,
            };
            appends.push(Encoded::new(stream, append)?);
        }
        let mut loads = Vec::with_capacity(staged.len());
        for staged in staged {
            let mut load = staged
                .handle
                .downcast::<Load>()
                .map_err(|_| StorageError::Misuse("rows were staged in another store".into()))?;
            if !load.belongs_to(shared) {
                return Err(StorageError::Misuse("rows were staged in another store".into()));
            }
            load.move_in()?;
            loads.push(*load);
        }
        Ok((loads, appends, created))
    }

    /// Whether it changes which streams or tables there are.
    pub(crate) fn is_ddl(&self) -> bool {
        !self.created.is_empty()
            || !self.rest.drop_streams.is_empty()
            || !self.rest.drop_tables.is_empty()
            || self.rest.catalog.is_some()
    }

    /// Whether it removes more than it writes.
    pub(crate) fn frees_space(&self) -> bool {
        let drops = !self.rest.drop_streams.is_empty() || !self.rest.drop_tables.is_empty();
        drops && self.appends.is_empty() && self.loads.is_empty() && self.rest.tables.is_empty()
    }

    /// Whether it may pass by those that wait for a sync: nothing in it needs a number from the
    /// committer.
    pub(crate) fn is_independent(&self) -> bool {
        self.durability == Durability::Buffered
            && self.loads.is_empty()
            && self.appends.iter().all(|encoded| encoded.append.derived.is_some())
            && !self.is_ddl()
    }

    /// Bytes of its payloads.
    pub(crate) fn bytes(&self) -> usize {
        let tables: usize = self
            .rest
            .tables
            .iter()
            .map(|c| c.key.len() + c.value.as_ref().map_or(0, Vec::len))
            .sum();
        tables + self.appends.iter().map(|encoded| encoded.payload.len()).sum::<usize>()
    }
}
