//! The SQL front end: text to statements ([`parse`]), statements to plans ([`Binder`]).
//!
//! Parsing wraps sqlparser: our own statements are read here, queries and expressions by
//! sqlparser's PostgreSQL dialect. Binding goes through DataFusion's `SqlToRel`. Nothing in this
//! crate executes anything.

#![allow(clippy::result_large_err, reason = "an error is made once per statement, off hot paths")]

mod bind;
mod datetime;
mod interval;
mod marks;
mod parse;
mod source;
pub mod statement;

pub use bind::{
    Binder, BoundChange, BoundConflict, BoundContinuous, BoundInsert, BoundQuery, BoundRules,
    Functions, Returning, Sources,
};
pub use datetime::Zone;
pub use parse::{interval_us, parse};
pub use source::Source;
pub use statement::{Statement, StatementKind};
