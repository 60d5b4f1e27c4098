//! The registry of functions that both languages share.
//!
//! DataFusion's own functions come first; ours are added where PostgreSQL or VPL define something
//! that DataFusion lacks or defines differently. Each function is one [`FunctionDef`], from which
//! name resolution, documentation and `\df` are made. A VPL name may stand for several functions
//! (`len` of a text or an array): the types of the arguments decide.

mod aggregates;
mod define;
mod fold;
mod intervals;
mod iterate;
mod list_totals;
mod lists;
mod maps;
mod numbers;
mod text;

use std::sync::{Arc, LazyLock};

use datafusion::logical_expr::ScalarUDF;

pub use aggregates::{aggregate, all_aggregates, ema, moving_average, percentile};
pub use fold::array_fold;
pub use iterate::{MAX_ROUNDS, iterate};
pub use text::duration_text;

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

static ALL: LazyLock<Vec<FunctionDef>> = LazyLock::new(|| {
    [
        lists::definitions(),
        list_totals::definitions(),
        maps::definitions(),
        text::definitions(),
        numbers::definitions(),
        intervals::definitions(),
    ]
    .concat()
});

/// All of our scalar functions.
pub fn all() -> Vec<FunctionDef> {
    ALL.clone()
}

/// All of our scalar functions that SQL can call, for a session's function registry.
pub fn session_functions() -> Vec<Arc<ScalarUDF>> {
    ALL.iter().filter(|f| !f.sql_names.is_empty()).map(|f| Arc::clone(&f.udf)).collect()
}

/// Our function of this name, which is that of its [`ScalarUDF`].
pub fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    ALL.iter().find(|f| f.udf.name() == name).map(|f| Arc::clone(&f.udf))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_function_is_registered_once_and_hides_none_of_datafusions() {
        let mut names: BTreeSet<String> = datafusion::functions::all_default_functions()
            .iter()
            .chain(&datafusion::functions_nested::all_default_nested_functions())
            .flat_map(|f| f.aliases().iter().cloned().chain([f.name().to_string()]))
            .collect();
        for f in all() {
            assert!(names.insert(f.udf.name().to_string()), "{} twice", f.udf.name());
            assert_eq!(f.sql_names, [f.udf.name()]);
        }
    }
}
