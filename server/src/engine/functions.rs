//! Functions that belong to a session: who, where, which server; settings; notifications.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, StringViewArray};
use arrow::datatypes::DataType;
use auspex_plan::{Diagnostic, SqlState};
use auspex_sql::Functions;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};

use super::session::Session;
use super::settings::SERVER_VERSION;
use super::show::MAX_PAYLOAD;

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
    functions.add_scalar(Arc::new(current_setting(session.settings.values())));
    functions.add_scalar(Arc::new(pg_notify(session.outbox.clone())));
    functions
}

/// `current_setting(name)`: the value of a setting when the statement begins.
fn current_setting(settings: BTreeMap<String, String>) -> ScalarUDF {
    let value = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let names = arrays[0].as_string_view();
        let found = names
            .iter()
            .map(|name| match name {
                None => Ok(None),
                Some(name) => settings.get(&name.to_lowercase()).map(Some).ok_or_else(|| {
                    let message = format!("unrecognized configuration parameter \"{name}\"");
                    let error = Diagnostic::error(SqlState::UNDEFINED_OBJECT, message);
                    DataFusionError::External(Box::new(error))
                }),
            })
            .collect::<Result<Vec<_>>>()?;
        let found: StringViewArray = found.into_iter().map(|v| v.map(String::as_str)).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    };
    let text = DataType::Utf8View;
    create_udf("current_setting", vec![text.clone()], text, Volatility::Stable, Arc::new(value))
}

/// Notifications that functions of a statement have asked for: channel and payload.
pub(super) type Outbox = Arc<Mutex<Vec<(String, String)>>>;

/// `pg_notify(channel, payload)`: `NOTIFY` for drivers, delivered at commit like it.
fn pg_notify(outbox: Outbox) -> ScalarUDF {
    let send = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let (channels, payloads) = (arrays[0].as_string_view(), arrays[1].as_string_view());
        for (channel, payload) in channels.iter().zip(payloads.iter()) {
            let (channel, payload) = (channel.unwrap_or_default(), payload.unwrap_or_default());
            let refused = match () {
                () if channel.is_empty() => Some("channel name cannot be empty"),
                () if channel.len() > 63 => Some("channel name too long"),
                () if payload.len() > MAX_PAYLOAD => Some("payload string too long"),
                () => None,
            };
            if let Some(message) = refused {
                let error = Diagnostic::error(SqlState::INVALID_PARAMETER_VALUE, message);
                return Err(DataFusionError::External(Box::new(error)));
            }
            let mut outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
            outbox.push((channel.to_string(), payload.to_string()));
        }
        let nothing = StringViewArray::from(vec![""; channels.len()]);
        Ok(ColumnarValue::Array(Arc::new(nothing)))
    };
    let text = DataType::Utf8View;
    create_udf(
        "pg_notify",
        vec![text.clone(), text.clone()],
        text,
        Volatility::Volatile,
        Arc::new(send),
    )
}
