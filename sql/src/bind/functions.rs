//! The functions SQL can call.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

/// Functions by the names SQL calls them by. DataFusion's own, ours over them, and what the server
/// adds (`version()`, `pg_get_expr(..)`).
#[derive(Debug, Clone)]
pub struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    pub(crate) planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Functions {
    /// DataFusion's functions and those of [`auspex_plan::functions`].
    pub fn standard() -> Functions {
        let mut functions = Functions {
            scalar: HashMap::new(),
            higher_order: HashMap::new(),
            aggregate: HashMap::new(),
            window: HashMap::new(),
            planners: SessionStateDefaults::default_expr_planners(),
        };
        for udf in SessionStateDefaults::default_scalar_functions() {
            functions.add_scalar(udf);
        }
        // `now` and its kind are instantiated with the configuration by the session state.
        let state = SessionStateBuilder::new()
            .with_config(super::context::session_config())
            .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
            .build();
        for udf in state.scalar_functions().values() {
            functions.add_scalar(udf.clone());
        }
        for udf in SessionStateDefaults::default_higher_order_functions() {
            for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
                functions.higher_order.insert(name.to_string(), udf.clone());
            }
        }
        for udf in SessionStateDefaults::default_aggregate_functions() {
            for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
                functions.aggregate.insert(name.to_string(), udf.clone());
            }
        }
        for udf in SessionStateDefaults::default_window_functions() {
            for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
                functions.window.insert(name.to_string(), udf.clone());
            }
        }
        for definition in auspex_plan::functions::all() {
            for name in definition.sql_names {
                functions.scalar.insert((*name).to_string(), definition.udf.clone());
            }
        }
        auspex_plan::functions::all_aggregates()
            .into_iter()
            .for_each(|f| functions.add_aggregate(f));
        functions
    }

    /// Adds a scalar function under its name and aliases; one of the same name gives way.
    pub fn add_scalar(&mut self, udf: Arc<ScalarUDF>) {
        for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
            self.scalar.insert(name.to_string(), udf.clone());
        }
    }

    /// Adds an aggregate function under its name and aliases.
    pub fn add_aggregate(&mut self, udf: Arc<AggregateUDF>) {
        for name in udf.aliases().iter().map(String::as_str).chain([udf.name()]) {
            self.aggregate.insert(name.to_string(), udf.clone());
        }
    }

    /// The scalar function of this name (lower case).
    pub fn scalar(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.scalar.get(name)
    }

    /// The function with functions as arguments of this name.
    pub(crate) fn higher_order(&self, name: &str) -> Option<&Arc<HigherOrderUDF>> {
        self.higher_order.get(name)
    }

    /// The aggregate function of this name.
    pub fn aggregate(&self, name: &str) -> Option<&Arc<AggregateUDF>> {
        self.aggregate.get(name)
    }

    /// The window function of this name.
    pub fn window(&self, name: &str) -> Option<&Arc<WindowUDF>> {
        self.window.get(name)
    }

    /// Whether any kind of function has this name.
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.scalar.contains_key(name)
            || self.higher_order.contains_key(name)
            || self.aggregate.contains_key(name)
            || self.window.contains_key(name)
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.scalar
            .keys()
            .chain(self.aggregate.keys())
            .chain(self.window.keys())
            .chain(self.higher_order.keys())
            .map(String::as_str)
    }

    pub(crate) fn scalar_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    pub(crate) fn higher_order_names(&self) -> Vec<String> {
        self.higher_order.keys().cloned().collect()
    }

    pub(crate) fn aggregate_names(&self) -> Vec<String> {
        self.aggregate.keys().cloned().collect()
    }

    pub(crate) fn window_names(&self) -> Vec<String> {
        self.window.keys().cloned().collect()
    }
}
