//! The one place where errors of the parts become what a client sees.

use arrow::error::ArrowError;
use auspex_plan::catalog::CatalogError;
use auspex_plan::{Diagnostic, SqlState};
use auspex_storage::StorageError;
use datafusion::common::DataFusionError;

/// An error of the store.
pub(crate) fn storage(error: StorageError) -> Diagnostic {
    let message = error.to_string();
    match error {
        StorageError::DiskFull => Diagnostic::error(SqlState::DISK_FULL, message)
            .hint("Nothing of the transaction was applied. Free some space and try again."),
        StorageError::Failed(_) => Diagnostic::error(SqlState::IO_ERROR, message)
            .hint("Look at the server's log, repair the disk, and start the server again."),
        StorageError::Io(_) => Diagnostic::error(SqlState::IO_ERROR, message),
        StorageError::Corrupted(_) | StorageError::UnknownFormat(_) => {
            Diagnostic::error(SqlState::DATA_CORRUPTED, message)
        }
        StorageError::NotRetained { .. } => {
            Diagnostic::error(SqlState::INVALID_PARAMETER_VALUE, message)
        }
        StorageError::UnknownStream(_) => Diagnostic::error(
            SqlState::UNDEFINED_TABLE,
            "the stream was dropped by another session",
        ),
        StorageError::Closed => {
            Diagnostic::error(SqlState::ADMIN_SHUTDOWN, "the server is shutting down")
        }
        StorageError::Misuse(_) => Diagnostic::error(SqlState::INTERNAL_ERROR, message),
    }
}

/// An error of the catalog.
pub(crate) fn catalog(error: CatalogError) -> Diagnostic {
    let message = error.to_string();
    match error {
        CatalogError::Exists(_) => Diagnostic::error(SqlState::DUPLICATE_TABLE, message),
        CatalogError::Unknown(_) => Diagnostic::error(SqlState::UNDEFINED_TABLE, message),
        CatalogError::Conflict(_) => Diagnostic::error(SqlState::SERIALIZATION_FAILURE, message)
            .hint("Try the statement again."),
        CatalogError::Dependents { name, dependents } => {
            let detail: Vec<String> =
                dependents.iter().map(|d| format!("{d} depends on {name}")).collect();
            Diagnostic::error(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .detail(detail.join("\n"))
                .hint("Use DROP ... CASCADE to drop the dependent objects too.")
        }
        CatalogError::WrongKind { .. } => Diagnostic::error(SqlState::WRONG_OBJECT_TYPE, message),
    }
}

/// An error of Arrow's kernels while a statement runs.
pub(crate) fn arrow(error: ArrowError) -> Diagnostic {
    match error {
        ArrowError::DivideByZero => {
            Diagnostic::error(SqlState::DIVISION_BY_ZERO, "division by zero")
        }
        ArrowError::ArithmeticOverflow(_) => out_of_range(),
        ArrowError::CastError(m) | ArrowError::ParseError(m) => cast(&m),
        ArrowError::ExternalError(e) => boxed(e),
        // A decimal that does not fit its precision.
        ArrowError::InvalidArgumentError(m) if m.contains("is too large to store in a Decimal") => {
            Diagnostic::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
        }
        other => Diagnostic::error(SqlState::INTERNAL_ERROR, other.to_string()),
    }
}

/// A failed cast in PostgreSQL's words, as far as Arrow's message tells the value and the type.
fn cast(message: &str) -> Diagnostic {
    let quoted = |m: &str| {
        let (_, rest) = m.split_once('\'')?;
        let (value, rest) = rest.split_once('\'')?;
        Some((value.to_string(), rest.to_string()))
    };
    let Some((value, rest)) = quoted(message) else {
        let lower = message.to_lowercase();
        if lower.contains("can't cast value") || lower.contains("overflow") {
            return out_of_range();
        }
        return Diagnostic::error(SqlState::INVALID_TEXT_REPRESENTATION, message);
    };
    let known = [
        ("Int16", "smallint"),
        ("Int32", "integer"),
        ("Int64", "bigint"),
        ("Float32", "real"),
        ("Float64", "double precision"),
        ("Boolean", "boolean"),
        ("Decimal", "numeric"),
        ("Date32", "date"),
        ("Time64", "time"),
        ("Timestamp", "timestamp"),
        ("Interval", "interval"),
    ];
    let name = known.iter().find(|(arrow, _)| rest.contains(arrow)).map(|(_, name)| *name);
    let name = match name {
        Some(name) => name,
        None if message.contains("timestamp") => "timestamp",
        None if message.contains("interval") => "interval",
        None => {
            return Diagnostic::error(SqlState::INVALID_TEXT_REPRESENTATION, message);
        }
    };
    let state = match name {
        "date" | "time" | "timestamp" | "interval" => SqlState::INVALID_DATETIME_FORMAT,
        _ => SqlState::INVALID_TEXT_REPRESENTATION,
    };
    Diagnostic::error(state, format!("invalid input syntax for type {name}: \"{value}\""))
}

fn out_of_range() -> Diagnostic {
    Diagnostic::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range")
}

/// An error of DataFusion while a statement runs. Planning errors are the front ends' business.
pub(crate) fn datafusion(error: DataFusionError) -> Diagnostic {
    match error {
        DataFusionError::ArrowError(e, _) => arrow(*e),
        DataFusionError::External(e) => boxed(e),
        DataFusionError::Context(_, e) | DataFusionError::Diagnostic(_, e) => datafusion(*e),
        DataFusionError::Shared(e) => shared(&e),
        DataFusionError::NotImplemented(m) => Diagnostic::unsupported(m),
        DataFusionError::ResourcesExhausted(m) => Diagnostic::error(SqlState::OUT_OF_MEMORY, m),
        DataFusionError::Execution(m) => execution(&m),
        DataFusionError::Plan(m) => Diagnostic::error(SqlState::DATATYPE_MISMATCH, m),
        other => Diagnostic::error(SqlState::INTERNAL_ERROR, other.strip_backtrace().to_string()),
    }
}

fn shared(error: &DataFusionError) -> Diagnostic {
    match error {
        DataFusionError::ArrowError(e, _) if matches!(**e, ArrowError::DivideByZero) => {
            arrow(ArrowError::DivideByZero)
        }
        DataFusionError::External(e) => match e.downcast_ref::<Diagnostic>() {
            Some(d) => d.clone(),
            None => Diagnostic::error(SqlState::INTERNAL_ERROR, e.to_string()),
        },
        DataFusionError::Context(_, e) | DataFusionError::Diagnostic(_, e) => shared(e),
        other => execution(&other.strip_backtrace()),
    }
}

/// Messages that DataFusion gives as text only.
fn execution(message: &str) -> Diagnostic {
    let state = if message.to_lowercase().contains("divide by zero") {
        return arrow(ArrowError::DivideByZero);
    } else if message.to_lowercase().contains("overflow") {
        return out_of_range();
    } else if message.contains("more than one row") {
        SqlState("21000")
    } else {
        SqlState::INVALID_PARAMETER_VALUE
    };
    Diagnostic::error(state, message)
}

fn boxed(error: Box<dyn std::error::Error + Send + Sync>) -> Diagnostic {
    let error = match error.downcast::<Diagnostic>() {
        Ok(d) => return *d,
        Err(e) => e,
    };
    let error = match error.downcast::<StorageError>() {
        Ok(s) => return storage(*s),
        Err(e) => e,
    };
    match error.downcast::<DataFusionError>() {
        Ok(d) => datafusion(*d),
        Err(e) => Diagnostic::error(SqlState::INTERNAL_ERROR, e.to_string()),
    }
}

/// An error of the executor while a query is built or run.
pub(crate) fn exec(error: &auspex_exec::ExecError) -> Diagnostic {
    match error {
        auspex_exec::ExecError::Unsupported(_) => Diagnostic::unsupported(error.to_string()),
        other => Diagnostic::error(SqlState::INTERNAL_ERROR, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_cast_is_told_as_postgresql_tells_it() {
        for (message, state, told) in [
            (
                "Cannot cast string 'x' to value of Float64 type",
                "22P02",
                "invalid input syntax for type double precision: \"x\"",
            ),
            (
                "Error parsing timestamp from 'soon': error parsing date",
                "22007",
                "invalid input syntax for type timestamp: \"soon\"",
            ),
            ("Can't cast value 300 to type Int8", "22003", "value out of range"),
        ] {
            let d = cast(message);
            assert_eq!((d.state.0, d.message.as_str()), (state, told), "{message}");
        }
    }
}
