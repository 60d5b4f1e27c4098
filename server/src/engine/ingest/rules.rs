//! What makes a row complete: defaults, generated columns, and what must hold of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::datatypes::{Schema, SchemaRef};
use auspex_plan::catalog::{Object, ObjectId};
use auspex_plan::{ColumnType, Diagnostic, EventTime, SqlState};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use super::super::{Engine, errors};
use super::display_at;

/// Compiled rules of objects, until the catalog changes.
#[derive(Default)]
pub(in crate::engine) struct RulesCache(Mutex<HashMap<ObjectId, Arc<RowRules>>>);

impl RulesCache {
    /// Forgets everything.
    pub(in crate::engine) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The rules of one stream or table.
pub(in crate::engine) struct RowRules {
    schema: SchemaRef,
    relation: String,
    defaults: Vec<Option<Expr>>,
    generated: Vec<(usize, Arc<dyn PhysicalExpr>)>,
    checks: Vec<(String, Arc<dyn PhysicalExpr>)>,
    not_null: Vec<usize>,
    /// Columns of type varchar(n) with their limits.
    lengths: Vec<(usize, u32)>,
}

impl Engine {
    /// The rules of an object. Those of an object that is committed are kept.
    pub(in crate::engine) fn rules(
        self: &Arc<Self>,
        object: &Object,
    ) -> Result<Arc<RowRules>, Diagnostic> {
        let committed = self.catalog().get(object.id).is_some_and(|o| o == object);
        let mut cache = self.rules.0.lock().unwrap_or_else(PoisonError::into_inner);
        if committed && let Some(rules) = cache.get(&object.id) {
            return Ok(rules.clone());
        }
        let rules = Arc::new(RowRules::compile(self, object)?);
        if committed {
            cache.insert(object.id, rules.clone());
        }
        Ok(rules)
    }
}

impl RowRules {
    fn compile(engine: &Arc<Engine>, object: &Object) -> Result<RowRules, Diagnostic> {
        let columns = object.columns();
        let bound = engine.stored_binder(&engine.catalog()).bind_rules(object)?;
        let compile = |e| engine.plans.expression(e, &bound.schema);
        let mut rules = RowRules {
            schema: object.schema(),
            relation: object.name.name.clone(),
            defaults: bound.defaults,
            generated: Vec::new(),
            checks: Vec::new(),
            not_null: Vec::new(),
            lengths: Vec::new(),
        };
        for (i, expr) in bound.generated.into_iter().enumerate() {
            if let Some(expr) = expr {
                rules.generated.push((i, compile(expr)?));
            }
        }
        for (name, expr) in bound.checks {
            rules.checks.push((name, compile(expr)?));
        }
        for (i, column) in columns.iter().enumerate() {
            if column.not_null {
                rules.not_null.push(i);
            }
            if let ColumnType::Varchar(n) = column.column_type {
                rules.lengths.push((i, n));
            }
        }
        if let Some(EventTime::Column { column, .. }) = object.stream().map(|s| &s.event_time) {
            // A row without event time has no place in the order of the stream.
            let at = columns.iter().position(|c| c.name == *column);
            rules.not_null.extend(at.filter(|i| !columns[*i].not_null));
        }
        Ok(rules)
    }

    /// The columns of complete rows.
    pub(in crate::engine) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// 428C9 when one of the columns to be written is generated.
    pub(in crate::engine) fn refuse_generated(&self, targets: &[usize]) -> Result<(), Diagnostic> {
        match targets.iter().find(|t| self.generated.iter().any(|(g, _)| g == *t)) {
            None => Ok(()),
            Some(t) => {
                let name = self.schema.field(*t).name();
                Err(Diagnostic::error(
                    SqlState("428C9"),
                    format!("cannot insert a non-DEFAULT value into column \"{name}\""),
                )
                .detail(format!("Column \"{name}\" is a generated column.")))
            }
        }
    }

    /// Whether rows that have every column need no work but the checks of nulls.
    fn is_plain(&self) -> bool {
        self.generated.is_empty() && self.checks.is_empty() && self.lengths.is_empty()
    }

    /// Complete rows from the columns at positions `targets`; `None` in `targets`' complement is
    /// filled by defaults. `first_row` numbers the first row in messages, from 1.
    pub(in crate::engine) fn complete(
        &self,
        engine: &Engine,
        targets: &[usize],
        given: &RecordBatch,
        first_row: Option<u64>,
    ) -> Result<RecordBatch, Diagnostic> {
        let rows = given.num_rows();
        let all_given = targets.len() == self.schema.fields().len()
            && targets.iter().enumerate().all(|(i, t)| i == *t);
        let mut columns: Vec<ArrayRef> = if all_given {
            given.columns().to_vec()
        } else {
            let mut columns = Vec::with_capacity(self.schema.fields().len());
            for (i, field) in self.schema.fields().iter().enumerate() {
                columns.push(match targets.iter().position(|t| *t == i) {
                    Some(at) => given.column(at).clone(),
                    None => match &self.defaults[i] {
                        Some(default) => default_column(engine, default, rows)?,
                        None => new_null_array(field.data_type(), rows),
                    },
                });
            }
            columns
        };
        for at in &self.not_null {
            let generated = self.generated.iter().any(|(g, _)| g == at);
            if !generated && columns[*at].null_count() > 0 {
                return Err(self.null_violation(&columns, *at, first_row));
            }
        }
        if self.is_plain() {
            return RecordBatch::try_new_with_options(
                self.schema.clone(),
                columns,
                &RecordBatchOptions::new().with_row_count(Some(rows)),
            )
            .map_err(errors::arrow);
        }
        for (at, limit) in &self.lengths {
            self.check_length(&columns[*at], *at, *limit, first_row)?;
        }
        if !self.generated.is_empty() {
            // Nullable while generated columns are still missing.
            let relaxed: SchemaRef = Arc::new(Schema::new(
                self.schema
                    .fields()
                    .iter()
                    .map(|f| f.as_ref().clone().with_nullable(true))
                    .collect::<Vec<_>>(),
            ));
            let batch = RecordBatch::try_new(relaxed, columns.clone()).map_err(errors::arrow)?;
            for (at, expr) in &self.generated {
                let value = expr.evaluate(&batch).map_err(errors::datafusion)?;
                columns[*at] = value.into_array(rows).map_err(errors::datafusion)?;
                if columns[*at].null_count() > 0 && self.not_null.contains(at) {
                    return Err(self.null_violation(&columns, *at, first_row));
                }
            }
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(errors::arrow)?;
        for (name, check) in &self.checks {
            let value = check.evaluate(&batch).map_err(errors::datafusion)?;
            let holds = value.into_array(rows).map_err(errors::datafusion)?;
            if let Some(row) = first_false(holds.as_boolean()) {
                return Err(self.check_violation(&batch, name, row, first_row));
            }
        }
        Ok(batch)
    }

    fn null_violation(
        &self,
        columns: &[ArrayRef],
        at: usize,
        first_row: Option<u64>,
    ) -> Diagnostic {
        let row = (0..columns[at].len()).find(|r| columns[at].is_null(*r)).unwrap_or(0);
        let values: Vec<String> = columns
            .iter()
            .map(|c| match c.is_null(row) {
                true => "null".into(),
                false => arrow::util::display::array_value_to_string(c, row).unwrap_or_default(),
            })
            .collect();
        located(
            Diagnostic::error(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    self.schema.field(at).name(),
                    self.relation
                ),
            ),
            format!("Failing row contains ({}).", values.join(", ")),
            first_row,
            row,
        )
    }

    fn check_violation(
        &self,
        batch: &RecordBatch,
        name: &str,
        row: usize,
        first_row: Option<u64>,
    ) -> Diagnostic {
        let values: Vec<String> =
            (0..batch.num_columns()).map(|c| display_at(batch, c, row)).collect();
        located(
            Diagnostic::error(
                SqlState::CHECK_VIOLATION,
                format!(
                    "new row for relation \"{}\" violates check constraint \"{name}\"",
                    self.relation
                ),
            ),
            format!("Failing row contains ({}).", values.join(", ")),
            first_row,
            row,
        )
    }

    fn check_length(
        &self,
        column: &ArrayRef,
        at: usize,
        limit: u32,
        first_row: Option<u64>,
    ) -> Result<(), Diagnostic> {
        let texts = column.as_string_view();
        let long = texts.iter().position(|t| {
            t.is_some_and(|t| t.len() > limit as usize && t.chars().count() > limit as usize)
        });
        match long {
            None => Ok(()),
            Some(row) => Err(located(
                Diagnostic::error(
                    SqlState::STRING_DATA_RIGHT_TRUNCATION,
                    format!("value too long for type character varying({limit})"),
                ),
                format!("Column \"{}\".", self.schema.field(at).name()),
                first_row,
                row,
            )),
        }
    }
}

/// Adds the number of the failing row where rows are numbered.
fn located(error: Diagnostic, detail: String, first_row: Option<u64>, row: usize) -> Diagnostic {
    match first_row {
        Some(first) => error.detail(format!("{detail} (row {})", first + row as u64)),
        None => error.detail(detail),
    }
}

/// A check fails only where it is false; null passes.
fn first_false(holds: &BooleanArray) -> Option<usize> {
    holds.iter().position(|h| h == Some(false))
}

/// A default evaluated for a statement: moments such as `now()` are the statement's.
fn default_column(engine: &Engine, default: &Expr, rows: usize) -> Result<ArrayRef, Diagnostic> {
    let empty = DFSchema::empty();
    let expr = engine.plans.expression(default.clone(), &empty)?;
    let batch = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(rows)),
    )
    .map_err(errors::arrow)?;
    let value = expr.evaluate(&batch).map_err(errors::datafusion)?;
    value.into_array(rows).map_err(errors::datafusion)
}
