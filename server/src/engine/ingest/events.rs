//! Rows that come with event times of their own: from files, and from connectors.

use arrow::record_batch::RecordBatch;
use auspex_plan::catalog::{Object, ObjectId};
use auspex_plan::{Diagnostic, SqlState};
use auspex_storage::Run;

use super::super::session::Session;
use super::{append, target_columns, writable};

/// Rows that a source stream would accept, with their event times.
pub struct CompleteRows {
    object: Object,
    rows: RecordBatch,
    time: Run,
}

impl CompleteRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Session {
    /// Completes rows as COPY would: columns are matched by name, those left out get their
    /// defaults, generated ones are computed, and constraints are checked. `time` are the rows'
    /// event times in microseconds since 1970, for streams that do not declare a column for it.
    pub fn complete_rows(
        &self,
        stream: ObjectId,
        given: &RecordBatch,
        time: Vec<i64>,
    ) -> Result<CompleteRows, Diagnostic> {
        let catalog = self.catalog();
        let object = catalog.get(stream).filter(|o| o.stream().is_some()).ok_or_else(|| {
            Diagnostic::error(SqlState::UNDEFINED_TABLE, "the stream does not exist")
        })?;
        writable(object)?;
        let rules = self.engine.rules(object)?;
        let names: Vec<auspex_sql::statement::Ident> = given
            .schema_ref()
            .fields()
            .iter()
            .map(|f| auspex_sql::statement::Ident {
                value: f.name().clone(),
                span: auspex_plan::Span::new(0, 0),
            })
            .collect();
        let targets = target_columns(object, &names)?;
        rules.refuse_generated(&targets)?;
        let rows = rules.complete(&self.engine, &targets, given, None)?;
        Ok(CompleteRows { object: object.clone(), rows, time: Run::Each(time.into()) })
    }

    /// Adds rows `from .. from + len` to the transaction. The order of the calls is the order of
    /// the rows among all streams.
    pub fn append_rows(&mut self, rows: &CompleteRows, from: usize, len: usize) {
        let mut append = append(&rows.object, rows.rows.slice(from, len));
        append.time.get_or_insert_with(|| rows.time.slice(from, len));
        self.work.appends.push(append);
    }
}
