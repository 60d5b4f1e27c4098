//! The `auspex` server: everything between a socket or a command line and the engine.
//!
//! `engine` puts catalog, store and runtime together and runs statements; `pg` speaks the
//! PostgreSQL protocol; `copy` holds the COPY formats; `cli` is the command line.

pub mod cli;
pub mod copy;
pub mod embedded;
pub mod engine;
pub mod pg;
