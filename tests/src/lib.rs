//! Tools of the whole-system tests: the server as a child process, clients of it, test files.
//!
//! Read `README.md` in this folder first: it explains the kinds of tests and their file formats.

pub mod crash;
pub mod files;
pub mod server;
pub mod sql;
pub mod text;

pub use files::{Case, run_cases};
pub use server::{Server, binary};
