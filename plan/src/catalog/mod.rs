//! The catalog: a deterministic state machine fed by serialisable commands.
//!
//! The same commands in the same order give the same catalog on every node. Ids and times are
//! chosen by whoever proposes a command and are part of it, so applying needs no clock and no
//! randomness. Names are resolved when an object is created; afterwards objects refer to each
//! other by id, so renaming breaks nothing.

mod command;
mod object;
mod state;

pub use command::{CatalogCommand, CatalogError};
pub use object::{
    Column, Definition, Language, Object, ObjectId, ObjectKind, ObjectName, Pipeline, Retention,
    Stream, Table, View, arrow_schema,
};
pub use state::{Catalog, DEFAULT_SCHEMA};
