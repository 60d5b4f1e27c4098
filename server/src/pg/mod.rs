//! The PostgreSQL protocol: listener, connections, and values in PostgreSQL's formats.
//!
//! ```text
//! server.rs ─> startup.rs ─> connection.rs ─┬─ simple.rs ───┬─ rows.rs   result rows
//!   listener     until the     the loop     └─ extended.rs ─┤─ copy.rs   COPY in and out
//!   and limits   first Ready                                └─ interrupt.rs, cancel.rs
//! wire.rs  buffers       message.rs  from the client       reply.rs  to the client
//! types.rs oids          decode/  values in                encode/   values out
//! ```
//!
//! The crate `pgwire` gives the layout of the server's messages. Reading messages, rows, COPY and
//! the connection's loop are written here: they have to work on one buffer without copies, stream
//! without limit, be cancelled at every point, and never panic.

mod cancel;
mod connection;
mod copy;
pub mod decode;
pub mod encode;
mod extended;
mod interrupt;
pub mod json;
mod message;
mod reply;
mod rows;
mod server;
mod simple;
mod startup;
pub mod types;
mod wire;
pub mod zone;

pub use server::{Limits, check_address, serve};

#[cfg(test)]
mod tests;
