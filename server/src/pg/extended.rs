//! The extended protocol: Parse, Bind, Describe, Execute, Close.

use std::sync::Arc;

use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::ScalarValue;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, in_failed_transaction};
use super::decode;
use super::encode::check_binary;
use super::interrupt::Failure;
use super::message::{Bind, Message, Target};
use super::reply::Format;
use super::rows::{Rows, Sent};
use super::types::{PARAMETER_NUMERIC, PgType, oid, parameter_type};
use super::zone::Zone;
use crate::engine::{Outcome, Prepared, TransactionStatus};

/// A prepared statement.
pub(super) struct Statement {
    /// The query string, which positions of errors count in.
    text: Arc<str>,
    /// `None` when the query string held no statement.
    prepared: Option<Prepared>,
    /// Types of the parameters on the wire.
    parameters: Vec<u32>,
}

/// A statement with its parameters, which runs or has run.
pub(super) struct Portal {
    statement: Arc<Statement>,
    /// Taken when it begins to run.
    parameters: Vec<ScalarValue>,
    formats: Vec<Format>,
    state: State,
}

enum State {
    New,
    /// Rows are to be fetched, perhaps not for the first time.
    Rows {
        rows: Rows,
        tag: &'static str,
        counted: bool,
    },
    Done,
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Runs a message. `text` becomes the query string of the statement concerned.
    pub(super) async fn extended_message(
        &mut self,
        message: Message<'_>,
        text: &mut Option<Arc<str>>,
    ) -> Result<(), Failure> {
        match message {
            Message::Parse { name, text: query, types } => {
                *text = Some(query.into());
                self.parse(name, query, types).await
            }
            Message::Bind(bind) => {
                let statement = self.statement(bind.statement)?;
                *text = Some(Arc::clone(&statement.text));
                self.bind(&bind, statement)
            }
            Message::Describe(Target::Statement(name)) => {
                let statement = self.statement(name)?;
                self.output.parameter_description(statement.parameters.clone());
                match statement.prepared.as_ref().and_then(|p| p.columns.as_ref()) {
                    Some(schema) => self.output.row_description(schema, &[])?,
                    None => self.output.no_data(),
                }
                Ok(())
            }
            // A cursor of DECLARE is a portal too.
            Message::Describe(Target::Portal(name))
                if self.session.cursors.contains_key(name) && !self.portals.contains_key(name) =>
            {
                let columns = self.session.cursors[name].columns();
                Ok(self.output.row_description(columns, &[])?)
            }
            Message::Describe(Target::Portal(name)) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                let columns = match (&portal.state, &portal.statement.prepared) {
                    (State::Rows { rows, .. }, _) => Some(rows.schema()),
                    (_, Some(prepared)) => prepared.columns.as_ref(),
                    _ => None,
                };
                match columns {
                    Some(schema) => self.output.row_description(schema, &portal.formats)?,
                    None => self.output.no_data(),
                }
                Ok(())
            }
            Message::Execute { portal, max_rows } => {
                if let Some(portal) = self.portals.get(portal) {
                    *text = Some(Arc::clone(&portal.statement.text));
                }
                self.execute(portal, max_rows).await
            }
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => {
                        self.portals.remove(name);
                        self.session.cursors.remove(name);
                    }
                }
                self.output.close_complete();
                Ok(())
            }
            // The connection deals with all others itself.
            _ => Ok(()),
        }
    }

    fn statement(&self, name: &str) -> Result<Arc<Statement>, Diagnostic> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let what = if name.is_empty() {
                "unnamed prepared statement does not exist".to_string()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            Diagnostic::error(SqlState::INVALID_SQL_STATEMENT_NAME, what)
        })
    }

    async fn parse(&mut self, name: &str, text: &str, types: Vec<u32>) -> Result<(), Failure> {
        // The unnamed statement is gone even when this one fails.
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(name) {
            return Err(Failure::Statement(Diagnostic::error(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )));
        }
        let statements = self.session.parse(text)?;
        let statement = match statements.as_slice() {
            [] => Statement { text: text.into(), prepared: None, parameters: Vec::new() },
            [only] => {
                let declared =
                    types.iter().map(|oid| parameter_type(*oid)).collect::<Result<Vec<_>, _>>()?;
                let mut interrupt = self.interrupt();
                let prepare = self.session.prepare(text, only, &declared);
                let prepared = interrupt.guard(&mut self.input, prepare).await?;
                self.check_transaction(&prepared)?;
                let parameters = wire_types(&types, &prepared.params);
                Statement { text: text.into(), prepared: Some(prepared), parameters }
            }
            _ => {
                return Err(Failure::Statement(Diagnostic::syntax(
                    "cannot insert multiple commands into a prepared statement",
                )));
            }
        };
        self.statements.insert(name.to_string(), Arc::new(statement));
        self.output.parse_complete();
        Ok(())
    }

    fn bind(&mut self, bind: &Bind<'_>, statement: Arc<Statement>) -> Result<(), Failure> {
        // The unnamed portal is gone even when this one fails.
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(bind.portal) {
            return Err(Failure::Statement(Diagnostic::error(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", bind.portal),
            )));
        }
        if let Some(prepared) = &statement.prepared {
            self.check_transaction(prepared)?;
        } else if self.session.status() == TransactionStatus::Failed {
            return Err(Failure::Statement(in_failed_transaction()));
        }
        let zone = self.style().zone;
        let parameters = parameters(bind, &statement, zone)?;
        let formats = result_formats(bind, &statement)?;
        let portal = Portal { statement, parameters, formats, state: State::New };
        self.portals.insert(bind.portal.to_string(), portal);
        self.output.bind_complete();
        Ok(())
    }

    async fn execute(&mut self, name: &str, max_rows: i32) -> Result<(), Failure> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let Some(prepared) = portal.statement.prepared.clone() else {
            self.output.empty_query();
            self.portals.insert(name.to_string(), portal);
            return Ok(());
        };
        self.check_transaction(&prepared)?;
        let before = self.session.status();
        let limit = u64::try_from(max_rows).ok().filter(|limit| *limit > 0);
        let mut interrupt = self.interrupt();
        if matches!(portal.state, State::New) {
            let parameters = std::mem::take(&mut portal.parameters);
            // The end of a transaction block is not interrupted: its outcome has to be known.
            let outcome = if prepared.allowed_in_failed_transaction() {
                self.session.execute(&prepared, parameters).await?
            } else {
                let execute = self.session.execute(&prepared, parameters);
                interrupt.guard(&mut self.input, execute).await?
            };
            self.forget_closed();
            let text = Arc::clone(&portal.statement.text);
            self.notices(Some(&text));
            let tag = match outcome {
                Outcome::Rows { schema, rows, tag, counted } => {
                    let rows = Rows::new(schema, portal.formats.clone(), rows);
                    portal.state = State::Rows { rows, tag, counted };
                    None
                }
                Outcome::Done(tag) => Some(tag),
                Outcome::CopyIn(copy) => Some(self.copy_in(copy, &mut interrupt).await?),
                Outcome::CopyOut { options, schema, rows } => {
                    Some(self.copy_out(&options, schema, rows, &mut interrupt).await?)
                }
                Outcome::Empty => {
                    portal.state = State::Done;
                    self.output.empty_query();
                    None
                }
            };
            if let Some(tag) = tag {
                portal.state = State::Done;
                self.notices(Some(&text));
                self.output.command_complete(&tag);
            }
        } else if matches!(portal.state, State::Done) {
            return Err(Failure::Statement(Diagnostic::error(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("portal \"{name}\" cannot be run"),
            )));
        }
        if let State::Rows { rows, tag, counted } = &mut portal.state {
            let style = self.style();
            let sent =
                rows.send(limit, &style, &mut self.input, &mut self.output, &mut interrupt).await?;
            self.notices(Some(&portal.statement.text));
            match sent {
                Sent::Suspended => self.output.portal_suspended(),
                Sent::All(count) if *counted => {
                    self.output.command_complete(&format!("{tag} {count}"));
                }
                Sent::All(_) => self.output.command_complete(tag),
            }
        }
        // The end of a transaction block takes its portals along.
        if before != TransactionStatus::Idle && self.session.status() == TransactionStatus::Idle {
            self.portals.clear();
        } else {
            self.portals.insert(name.to_string(), portal);
        }
        Ok(())
    }
}

fn no_portal(name: &str) -> Diagnostic {
    Diagnostic::error(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

/// Types that clients send parameters in: as declared, else as inferred.
fn wire_types(declared: &[u32], inferred: &[ColumnType]) -> Vec<u32> {
    inferred
        .iter()
        .enumerate()
        .map(|(at, column)| match declared.get(at) {
            Some(declared) if *declared != 0 && *declared != oid::UNKNOWN => *declared,
            _ => PgType::of(column).oid,
        })
        .collect()
}

/// Reads the parameters of a Bind.
fn parameters(
    bind: &Bind<'_>,
    statement: &Statement,
    zone: Zone,
) -> Result<Vec<ScalarValue>, Diagnostic> {
    let columns = statement.prepared.as_ref().map_or(&[][..], |p| p.params.as_slice());
    let violation = |message| Diagnostic::error(SqlState::PROTOCOL_VIOLATION, message);
    let (given, formats) = (bind.parameters.len(), bind.parameter_formats.len());
    if given != columns.len() {
        return Err(violation(format!(
            "bind message supplies {given} parameters, but prepared statement \"{}\" requires {}",
            bind.statement,
            columns.len()
        )));
    }
    if formats > 1 && formats != given {
        return Err(violation(format!(
            "bind message has {formats} parameter formats but {given} parameters"
        )));
    }
    let format = |at: usize| match bind.parameter_formats.as_slice() {
        [] => 0,
        [all] => *all,
        each => each[at],
    };
    let read = |at: usize, column: &ColumnType| -> Result<ScalarValue, Diagnostic> {
        let Some(bytes) = bind.parameters[at] else { return decode::null(column) };
        let wire = statement.parameters[at];
        let value = |column: &ColumnType| {
            if format(at) == 0 {
                decode::text(column, decode::utf8(bytes)?, zone)
            } else {
                decode::binary(column, wire, bytes)
            }
        };
        if wire == oid::NUMERIC {
            check_digits(column, &value)?;
        }
        value(column)
    };
    columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            read(at, column).map_err(|error| match error.state {
                SqlState::INVALID_BINARY_REPRESENTATION => Diagnostic {
                    message: format!("{} in bind parameter {}", error.message, at + 1),
                    ..error
                },
                _ => error,
            })
        })
        .collect()
}

/// A parameter of plain `numeric` has the scale that every such parameter has here. More digits
/// would be rounded silently: they are refused.
fn check_digits(
    column: &ColumnType,
    value: &dyn Fn(&ColumnType) -> Result<ScalarValue, Diagnostic>,
) -> Result<(), Diagnostic> {
    let (precision, scale) = PARAMETER_NUMERIC;
    if *column != (ColumnType::Numeric { precision, scale }) {
        return Ok(());
    }
    // The finest scale in which the value still fits shows whether anything gets lost.
    for finer in (scale + 1..=30).rev() {
        let finer_column = ColumnType::Numeric { precision, scale: finer };
        if let Ok(ScalarValue::Decimal128(Some(digits), ..)) = value(&finer_column) {
            if digits % 10i128.pow((finer - scale).unsigned_abs().into()) != 0 {
                return Err(Diagnostic::error(
                    SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                    format!("numeric parameter has more than {scale} digits behind the point"),
                )
                .hint(
                    "Cast the parameter to the precision and scale wanted: $1::numeric(38,20).",
                ));
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Formats of the result columns; 0A000 for a binary format that does not exist.
fn result_formats(bind: &Bind<'_>, statement: &Statement) -> Result<Vec<Format>, Diagnostic> {
    let Some(schema) = statement.prepared.as_ref().and_then(|p| p.columns.as_ref()) else {
        return Ok(Vec::new());
    };
    let columns = schema.fields().len();
    let codes = match bind.result_formats.as_slice() {
        [] => vec![0; columns],
        [all] => vec![*all; columns],
        each if each.len() == columns => each.to_vec(),
        each => {
            return Err(Diagnostic::error(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but query has {columns} columns",
                    each.len()
                ),
            ));
        }
    };
    schema
        .fields()
        .iter()
        .zip(codes)
        .map(|(field, code)| match code {
            0 => Ok(Format::Text),
            _ => check_binary(field).map(|()| Format::Binary),
        })
        .collect()
}
