//! COPY formats: rows of a stream or table as text, csv, binary or Arrow IPC bytes.
//!
//! ```text
//! COPY .. FROM STDIN    CopyData payloads ─> decode::Decoder ─> RecordBatches of the column list
//! COPY .. TO STDOUT     RecordBatches ─> encode::Encoder ─> CopyData messages, one per row
//! ```
//!
//! No sockets, no session, no catalog: what the codecs need to know is [`CopyOptions`] and an Arrow
//! schema whose fields are column types ([`auspex_plan::ColumnType::from_field`]). Text, csv and
//! binary behave as PostgreSQL 15's, down to messages, SQLSTATEs and the `CONTEXT` line; NOT NULL,
//! defaults and checks are not looked at here.

pub mod decode;
pub mod encode;
mod error;
mod options;

pub use error::CopyError;
pub use options::{ColumnChoice, CopyOptions, Direction, Format, Header, OptionValue};
