//! What Auspex plans are made of: catalog objects, column types, the extension nodes that
//! continuous queries add to DataFusion's logical plan, and the registry of functions.
//!
//! Both languages bind to this crate and the executor builds operators from it. It knows neither
//! surface syntax nor I/O.

pub mod catalog;
pub mod diagnostic;
pub mod functions;
pub mod nodes;
pub mod pattern;
pub mod query;
pub mod relation;
pub mod time;
pub mod types;

pub use diagnostic::{Diagnostic, Severity, Span, SqlState};
pub use query::{ContinuousQuery, EventTime, OnError};
pub use relation::StreamRelation;
pub use time::{Clock, Emit, Window};
pub use types::ColumnType;
