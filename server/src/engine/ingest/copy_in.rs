//! `COPY .. FROM STDIN`: bytes in, one transaction out.
//!
//! Rows are decoded and checked as they arrive. A large COPY hands them to a thread that stores
//! them ahead of the commit, so memory stays bounded and the commit is short; nothing of it is
//! visible before the commit, and nothing is left when it does not come.

use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use auspex_plan::catalog::Object;
use auspex_plan::{Diagnostic, SqlState};
use auspex_sql::statement::{Ident, Name, Opt, OptValue};
use auspex_storage::{SharedStore, Staged};
use crossbeam_channel::{Sender, TrySendError, bounded};

use super::super::api::Outcome;
use super::super::catalog::require;
use super::super::session::Session;
use super::super::{Engine, errors};
use super::{OnConflict, RowRules, append, insert_rows, writable};
use crate::copy::decode::Decoder;
use crate::copy::{CopyError, CopyOptions, Direction, OptionValue};

/// Rows the decoder puts into one batch.
const DECODE_ROWS: usize = STAGE_ROWS;
/// Rows kept in memory before they are staged.
const STAGE_ROWS: usize = 65_536;

/// A COPY that is receiving rows. Dropping it discards them.
pub struct CopyIn {
    engine: Arc<Engine>,
    object: Object,
    options: CopyOptions,
    columns: SchemaRef,
    targets: Vec<usize>,
    rules: Arc<RowRules>,
    decoder: Decoder,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    rows: u64,
    stager: Option<Stager>,
}

impl CopyIn {
    /// The format the client is to send.
    pub fn options(&self) -> &CopyOptions {
        &self.options
    }

    /// Number of columns the client is to send.
    pub fn column_count(&self) -> usize {
        self.columns.fields().len()
    }

    /// Takes the next bytes; their boundaries mean nothing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Diagnostic> {
        let mut batches = Vec::new();
        let decoded = self.decoder.push(bytes, &mut batches);
        self.accept(batches)?;
        decoded.map_err(|e| data_error(e, &self.object.name.name))
    }

    fn accept(&mut self, batches: Vec<RecordBatch>) -> Result<(), Diagnostic> {
        for batch in batches {
            let first = self.rows + 1;
            let complete = self.rules.complete(&self.engine, &self.targets, &batch, Some(first))?;
            self.rows += complete.num_rows() as u64;
            self.pending_rows += complete.num_rows();
            self.pending.push(complete);
            if self.pending_rows >= STAGE_ROWS && self.object.stream().is_some() {
                self.stage()?;
            }
        }
        Ok(())
    }

    /// Hands the pending rows to the staging thread.
    fn stage(&mut self) -> Result<(), Diagnostic> {
        let rows = self.take_pending()?;
        let stager = self
            .stager
            .get_or_insert_with(|| Stager::start(self.engine.store.clone(), self.object.clone()));
        stager.send(rows)
    }

    fn take_pending(&mut self) -> Result<RecordBatch, Diagnostic> {
        self.pending_rows = 0;
        let batches = std::mem::take(&mut self.pending);
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([only]) => Ok(only),
            Err(batches) => concat_batches(&self.rules.schema(), &batches).map_err(errors::arrow),
        }
    }
}

/// The thread that stores rows ahead of their commit.
struct Stager {
    rows: Option<Sender<RecordBatch>>,
    thread: Option<JoinHandle<Result<Option<Staged>, Diagnostic>>>,
}

impl Stager {
    fn start(store: SharedStore, object: Object) -> Stager {
        let (sender, receiver) = bounded::<RecordBatch>(4);
        let thread = std::thread::Builder::new()
            .name("copy".into())
            .spawn(move || {
                let mut staged: Option<Staged> = None;
                for rows in receiver {
                    let append = append(&object, rows);
                    match &mut staged {
                        None => staged = Some(store.stage(append).map_err(errors::storage)?),
                        Some(s) => store.stage_next(s, append).map_err(errors::storage)?,
                    }
                }
                Ok(staged)
            })
            .expect("the operating system gives a thread");
        Stager { rows: Some(sender), thread: Some(thread) }
    }

    fn send(&mut self, rows: RecordBatch) -> Result<(), Diagnostic> {
        let sender = self.rows.as_ref().expect("open until finished");
        let rows = match sender.try_send(rows) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(rows) | TrySendError::Disconnected(rows)) => rows,
        };
        let sent = match tokio::runtime::Handle::try_current() {
            Ok(h) if h.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(|| sender.send(rows))
            }
            _ => sender.send(rows),
        };
        match sent {
            Ok(()) => Ok(()),
            // The thread ended early: it has the reason.
            Err(_) => self.finish().map(|_| ()),
        }
    }

    /// Waits for the thread. Blocks.
    fn finish(&mut self) -> Result<Option<Staged>, Diagnostic> {
        self.rows = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => {
                Err(Diagnostic::error(SqlState::INTERNAL_ERROR, "storing the rows failed"))
            }
            None => Ok(None),
        }
    }
}

/// Begins `COPY name [(columns)] FROM STDIN`.
pub(in crate::engine) async fn copy_in(
    session: &mut Session,
    name: &Name,
    columns: &[Ident],
    options: &[Opt],
) -> Result<Outcome, Diagnostic> {
    session.require_writable("COPY FROM")?;
    let catalog = session.catalog();
    let object = require(&catalog, &session.settings.search_path(), name)?.clone();
    writable(&object).map_err(|e| e.at(name.span()))?;
    let rules = session.engine.rules(&object)?;
    let targets = target_columns(&object, columns)?;
    if !columns.is_empty() {
        rules.refuse_generated(&targets)?;
    }
    let schema = rules.schema();
    let given: SchemaRef = Arc::new(Schema::new(
        targets.iter().map(|t| schema.field(*t).clone().with_nullable(true)).collect::<Vec<_>>(),
    ));
    let options = copy_options(options, Direction::From)?;
    let decoder = Decoder::new(&options, &given, DECODE_ROWS, session.zone())
        .map_err(|e| data_error(e, &object.name.name))?;
    Ok(Outcome::CopyIn(Box::new(CopyIn {
        engine: session.engine.clone(),
        object,
        options,
        columns: given,
        targets,
        rules,
        decoder,
        pending: Vec::new(),
        pending_rows: 0,
        rows: 0,
        stager: None,
    })))
}

/// Positions of the named columns, or of all that are not generated.
pub(in crate::engine) fn target_columns(
    object: &Object,
    columns: &[Ident],
) -> Result<Vec<usize>, Diagnostic> {
    let own = object.columns();
    if columns.is_empty() {
        return Ok((0..own.len()).filter(|i| own[*i].generated.is_none()).collect());
    }
    let mut targets = Vec::with_capacity(columns.len());
    for column in columns {
        let at = own
            .iter()
            .position(|c| c.name == column.value)
            .or_else(|| own.iter().position(|c| c.name.eq_ignore_ascii_case(&column.value)));
        let Some(at) = at else {
            let error = Diagnostic::error(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" does not exist",
                    column.value, object.name
                ),
            )
            .at(column.span);
            let near = auspex_plan::diagnostic::did_you_mean(
                &column.value,
                own.iter().map(|c| c.name.as_str()),
            );
            return Err(match near {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            });
        };
        if targets.contains(&at) {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", column.value),
            )
            .at(column.span));
        }
        targets.push(at);
    }
    Ok(targets)
}

/// The codec's options from the statement's.
pub(in crate::engine) fn copy_options(
    options: &[Opt],
    direction: Direction,
) -> Result<CopyOptions, Diagnostic> {
    let given = options.iter().map(|o| {
        let value = match &o.value {
            None => OptionValue::None,
            Some(OptValue::Text(t) | OptValue::Number(t) | OptValue::Word(t)) => {
                OptionValue::Text(t.clone())
            }
            Some(OptValue::All) => OptionValue::All,
            Some(OptValue::List(names)) => OptionValue::Columns(names.clone()),
        };
        (o.name.value.as_str(), value)
    });
    let place = options.first().map(|o| o.span);
    CopyOptions::from_options(given, direction).map_err(|e| e.at_opt(place))
}

/// An error of the codec, with its place in the data.
fn data_error(error: CopyError, relation: &str) -> Diagnostic {
    let context = error.context(relation);
    let diagnostic = Diagnostic::from(error);
    match context {
        Some(context) => diagnostic.context(context),
        None => diagnostic,
    }
}

/// Adds the rows of a COPY that has come to its end to the transaction; returns their number.
pub(in crate::engine) async fn finish_copy(
    session: &mut Session,
    mut copy: CopyIn,
) -> Result<u64, Diagnostic> {
    let mut batches = Vec::new();
    let finished = copy.decoder.finish(&mut batches);
    copy.accept(batches)?;
    finished.map_err(|e| data_error(e, &copy.object.name.name))?;
    if copy.object.table().is_some() {
        for batch in std::mem::take(&mut copy.pending) {
            insert_rows(session, &copy.object, &batch, &OnConflict::Error).await?;
        }
        return Ok(copy.rows);
    }
    match copy.stager.take() {
        None => {
            if copy.pending_rows > 0 {
                let rows = copy.take_pending()?;
                session.work.appends.push(append(&copy.object, rows));
            }
        }
        Some(mut stager) => {
            if copy.pending_rows > 0 {
                let rows = copy.take_pending()?;
                stager.send(rows)?;
            }
            let staged =
                tokio::task::spawn_blocking(move || stager.finish()).await.map_err(|_| {
                    Diagnostic::error(SqlState::INTERNAL_ERROR, "storing the rows failed")
                })??;
            session.work.staged.extend(staged);
        }
    }
    Ok(copy.rows)
}
