//! sqllogictest over the real wire protocol, simple and extended.

use std::sync::Arc;

use async_trait::async_trait;
use sqllogictest::{AsyncDB, ColumnType, DBOutput};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::server::{Server, ServerError};
use crate::text::Raw;

/// Which protocol a connection speaks. `onlyif simple` and `skipif extended` in a file go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One `Query` message; results are text.
    Simple,
    /// `Parse`, `Describe`, `Bind`, `Execute`, `Sync`; results are binary.
    Extended,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Simple, Mode::Extended];

    /// Name used in files and test names.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Simple => "simple",
            Mode::Extended => "extended",
        }
    }
}

/// What went wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// There is no server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The connection or the statement failed.
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
}

/// The error as psql would show it: message, then position, detail and hint.
pub fn describe(error: &tokio_postgres::Error) -> String {
    use tokio_postgres::error::ErrorPosition;
    let Some(db) = error.as_db_error() else {
        let source = std::error::Error::source(error).map(|s| format!(": {s}"));
        return format!("{error}{}", source.unwrap_or_default());
    };
    let mut text = format!("{}: {}", db.code().code(), db.message());
    if let Some(ErrorPosition::Original(position)) = db.position() {
        text += &format!(" at {position}");
    }
    for (label, part) in [("DETAIL", db.detail()), ("HINT", db.hint()), ("CONTEXT", db.where_())] {
        if let Some(part) = part {
            text += &format!(" {label}: {part}");
        }
    }
    text
}

/// Column types as one character each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column(char);

impl Column {
    const ANY: Column = Column('?');

    fn of(ty: &postgres_types::Type) -> Column {
        use postgres_types::Type;
        Column(match *ty {
            Type::INT2 | Type::INT4 | Type::INT8 => 'I',
            Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => 'R',
            Type::BOOL => 'B',
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => 'T',
            Type::TIMESTAMPTZ | Type::TIMESTAMP => 'P',
            Type::DATE => 'D',
            _ => '?',
        })
    }

    /// Whether a result has the types a file asks for; `?` fits everything. The simple protocol's
    /// client does not say the types: only the number of columns is compared then.
    #[expect(clippy::ptr_arg, reason = "the signature sqllogictest asks for")]
    pub fn fit(actual: &Vec<Column>, expected: &Vec<Column>) -> bool {
        actual.len() == expected.len()
            && actual
                .iter()
                .zip(expected)
                .all(|(a, e)| a == e || *a == Column::ANY || *e == Column::ANY)
    }
}

impl ColumnType for Column {
    fn from_char(value: char) -> Option<Column> {
        "IRBTPD?".contains(value).then_some(Column(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

/// A connection of a test file.
pub struct Connection {
    client: Client,
    mode: Mode,
}

impl Connection {
    /// Connects.
    pub async fn open(server: Arc<Server>, mode: Mode) -> Result<Connection, SqlError> {
        Ok(Connection { client: server.connect().await?, mode })
    }

    async fn simple(&self, sql: &str) -> Result<DBOutput<Column>, SqlError> {
        let mut columns = None;
        let mut rows = Vec::new();
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(description) => {
                    columns = Some(description.len());
                }
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|i| cell(row.get(i))).collect());
                }
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(match columns {
            Some(columns) => DBOutput::Rows { types: vec![Column::ANY; columns], rows },
            None => DBOutput::StatementComplete(count),
        })
    }

    async fn extended(&self, sql: &str) -> Result<DBOutput<Column>, SqlError> {
        let statement = self.client.prepare(sql).await?;
        if statement.columns().is_empty() {
            return Ok(DBOutput::StatementComplete(self.client.execute(&statement, &[]).await?));
        }
        let types = statement.columns().iter().map(|c| Column::of(c.type_())).collect();
        let mut rows = Vec::new();
        for row in self.client.query(&statement, &[]).await? {
            let mut cells = Vec::with_capacity(row.len());
            for i in 0..row.len() {
                let value: Option<Raw> = row.try_get(i)?;
                cells.push(cell(value.as_ref().map(|raw| raw.0.as_str())));
            }
            rows.push(cells);
        }
        Ok(DBOutput::Rows { types, rows })
    }
}

/// Null and the empty string must be visible in a line of text.
fn cell(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.replace('\n', "\\n"),
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = SqlError;
    type ColumnType = Column;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Column>, SqlError> {
        match self.mode {
            Mode::Simple => self.simple(sql).await,
            Mode::Extended => self.extended(sql).await,
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.mode.name()
    }

    fn error_sql_state(error: &SqlError) -> Option<String> {
        match error {
            SqlError::Postgres(error) => error.code().map(|code| code.code().to_owned()),
            SqlError::Server(_) => None,
        }
    }
}
