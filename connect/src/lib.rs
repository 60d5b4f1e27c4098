//! Ways in and out other than clients. One folder per connector; so far files.
//!
//! A connector turns what it reads into [`Event`]s: a type, an optional time, and untyped fields.
//! [`survey::infer`] tells what columns would fit, [`rows::RowBuilder`] makes the typed batches of a
//! stream, with the place of every mistake.

pub mod error;
pub mod event;
pub mod file;
pub mod rows;
pub mod survey;
pub mod time;
mod values;

pub use error::{ConnectError, Place};
pub use event::{Event, Fields, Value};
