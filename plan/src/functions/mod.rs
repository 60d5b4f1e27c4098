//! The registry of scalar functions that both languages share.
//!
//! DataFusion's own functions come first; ours are added where PostgreSQL or VPL define something
//! that DataFusion lacks or defines differently. Each function is one [`FunctionDef`], from which
//! name resolution, documentation and `\df` are made.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// One of our functions.
#[derive(Debug, Clone)]
pub struct FunctionDef {
    /// Names under which SQL finds it; empty when only VPL has it.
    pub sql_names: &'static [&'static str],
    /// Names under which VPL finds it; empty when only SQL has it.
    pub vpl_names: &'static [&'static str],
    /// Signature and meaning in one line.
    pub summary: &'static str,
    /// What is called.
    pub udf: Arc<ScalarUDF>,
}

/// All of our scalar functions.
pub fn all() -> Vec<FunctionDef> {
    Vec::new()
}
