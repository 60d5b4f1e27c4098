//! Runs continuous queries: *build* turns a plan into a graph of operators, the *runtime* reads
//! streams from the store, pushes their rows through the graph and appends what comes out.
//!
//! * [`optimize`] rewrites a plan with the rules that are safe for endless, ordered streams.
//! * [`build`] compiles it to a [`Graph`]; what cannot run is [`ExecError::Unsupported`].
//! * [`Operator`]s are pure: no clock, randomness, files or locks. What they emit depends on the
//!   order of their input rows, never on how the rows were batched.
//! * [`Runtime`] gives each query a task with a durable position. Output, position and operator
//!   state are one transaction, so a restart continues where the last one was applied and every
//!   output row has the offset it had before.

pub mod aggregate;
pub mod batch;
mod build;
mod clocks;
pub mod error;
pub mod expr;
pub mod graph;
pub mod join;
pub mod json;
pub mod operator;
pub mod operators;
mod optimize;
pub mod pattern;
pub mod progress;
mod reorder;
mod rows;
pub mod runtime;
mod state_rows;
mod window;

#[cfg(test)]
mod replay;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use build::{BuildOptions, build};
pub use error::{ExecError, Result, RowFailure};
pub use graph::{Graph, ScanSpec};
pub use operator::{
    Input, Operator, Output, StateChange, StateReader, StateWriter, Tap, Watermark,
};
pub use optimize::optimize;
pub use progress::Progress;
pub use runtime::{
    DeadLetter, QuerySpec, QueryState, QueryStatus, Runtime, RuntimeOptions, Waited,
};
