//! VPL, the pipeline language of Auspex: text to AST to plan.
//!
//! [`parse`] turns text into an [`ast::Program`] and diagnostics, [`format`](format::format)
//! lays a program out, [`render`] shows a diagnostic to a person. Nothing here
//! executes anything and the other language is not known here.

#![allow(clippy::result_large_err, reason = "a diagnostic is made once per mistake, off hot paths")]

pub mod ast;
pub mod bind;
pub mod codes;
pub mod format;
pub mod report;
pub mod syntax;

pub use report::{render, to_json};
pub use syntax::{Parsed, looks_like_vpl, parse};
