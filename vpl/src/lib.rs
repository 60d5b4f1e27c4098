//! VPL, the pipeline language of Auspex: text to AST to plan.
//!
//! [`parse`] turns text into an [`ast::Program`] and diagnostics, [`format`](format::format)
//! lays a program out, [`render`](report::render) shows a diagnostic to a person. Nothing here
//! executes anything and the other language is not known here.

pub mod ast;
pub mod codes;
pub mod syntax;

pub use syntax::{Parsed, looks_like_vpl, parse};
