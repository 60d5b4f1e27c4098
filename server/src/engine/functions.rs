//! Functions whose value is the session's: who, where, which server.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use auspex_sql::Functions;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::session::Session;
use super::settings::SERVER_VERSION;

/// A function without arguments that has one value for the whole statement.
#[derive(Debug)]
struct Constant {
    name: &'static str,
    aliases: Vec<String>,
    value: ScalarValue,
    signature: Signature,
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

impl Eq for Constant {}

impl Hash for Constant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// The standard functions and those of this session.
pub(super) fn of_session(session: &Session) -> Functions {
    let mut functions = (*session.engine.plans.functions()).clone();
    let text = |s: &str| ScalarValue::Utf8View(Some(s.to_string()));
    let schema = session.settings.search_path().first().map(|s| text(s));
    let constants = [
        ("version", vec![], text(&format!("PostgreSQL {SERVER_VERSION}"))),
        ("current_database", vec!["current_catalog"], text(&session.database)),
        ("current_schema", vec![], schema.unwrap_or(ScalarValue::Utf8View(None))),
        ("current_user", vec!["session_user", "user", "current_role"], text(&session.user)),
        ("pg_backend_pid", vec![], ScalarValue::Int32(Some(session.pid()))),
    ];
    for (name, aliases, value) in constants {
        functions.add_scalar(Arc::new(ScalarUDF::from(Constant {
            name,
            aliases: aliases.into_iter().map(str::to_string).collect(),
            value,
            // Stable: the value must not become part of a continuous query.
            signature: Signature::nullary(Volatility::Stable),
        })));
    }
    functions
}
