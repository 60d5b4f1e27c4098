//! `WITH (..)` options of streams.

use auspex_plan::catalog::Retention;
use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{Diagnostic, OnError, SqlState};
use auspex_sql::statement::{Opt, OptValue};

/// Options as read; absent ones are `None`.
#[derive(Debug, Default)]
pub(in crate::engine) struct StreamOptions {
    /// `retention`: `Some(None)` is for ever.
    retention_age_us: Option<Option<i64>>,
    /// `retention_bytes`: `Some(None)` is no limit.
    retention_bytes: Option<Option<u64>>,
    /// `start = 'earliest'` (true) or `'latest'`.
    pub(in crate::engine) start_earliest: Option<bool>,
    /// `on_error`.
    pub(in crate::engine) on_error: Option<OnError>,
    /// `idle_timeout` in microseconds.
    pub(in crate::engine) idle_timeout_us: Option<i64>,
    /// `max_state_bytes`: `Some(None)` is the server's limit.
    pub(in crate::engine) max_state_bytes: Option<Option<u64>>,
}

/// Where options are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum OptionsOf {
    /// `CREATE STREAM name (columns)`.
    Source,
    /// `CREATE .. AS`.
    Query,
    /// `ALTER .. SET` of an object without a query.
    AlterSource,
    /// `ALTER .. SET` of an object with one.
    AlterQuery,
}

impl OptionsOf {
    fn known(self) -> &'static [&'static str] {
        match self {
            OptionsOf::Source => &["retention", "retention_bytes", "idle_timeout"],
            OptionsOf::Query => &[
                "retention",
                "retention_bytes",
                "idle_timeout",
                "start",
                "on_error",
                "max_state_bytes",
            ],
            OptionsOf::AlterSource => &["retention", "retention_bytes"],
            OptionsOf::AlterQuery => &["retention", "retention_bytes", "max_state_bytes"],
        }
    }
}

impl StreamOptions {
    /// Reads the options that may stand there.
    pub(in crate::engine) fn read(options: &[Opt], of: OptionsOf) -> Result<Self, Diagnostic> {
        let known = of.known();
        let mut read = StreamOptions::default();
        for option in options {
            let name = option.name.value.as_str();
            if !known.contains(&name) {
                return Err(unknown(option, known));
            }
            let text = match &option.value {
                Some(OptValue::Text(t) | OptValue::Number(t) | OptValue::Word(t)) => t.as_str(),
                _ => return Err(invalid(option, "a value is needed")),
            };
            match name {
                "retention" => {
                    read.retention_age_us = Some(match text {
                        "forever" | "infinite" => None,
                        _ => Some(duration_us(text).ok_or_else(|| {
                            invalid(option, "an interval such as '7 days', or 'forever'")
                        })?),
                    });
                }
                "retention_bytes" => {
                    read.retention_bytes = Some(match text {
                        "unlimited" => None,
                        _ => Some(bytes(text).ok_or_else(|| {
                            invalid(option, "a size such as '10GB', or 'unlimited'")
                        })?),
                    });
                }
                "max_state_bytes" => {
                    read.max_state_bytes = Some(match text {
                        "default" => None,
                        _ => Some(bytes(text).ok_or_else(|| {
                            invalid(option, "a size such as '1GB', or 'default'")
                        })?),
                    });
                }
                "idle_timeout" => {
                    read.idle_timeout_us = Some(
                        duration_us(text)
                            .ok_or_else(|| invalid(option, "an interval such as '30 s'"))?,
                    );
                }
                "start" => {
                    read.start_earliest = Some(match text {
                        "earliest" => true,
                        "latest" => false,
                        _ => return Err(invalid(option, "'earliest' or 'latest'")),
                    });
                }
                _ => {
                    read.on_error = Some(OnError::parse(text).ok_or_else(|| {
                        invalid(option, "'null', 'skip', 'dead_letter' or 'stop'")
                    })?);
                }
            }
        }
        Ok(read)
    }

    /// `old` with the limits that were said.
    pub(in crate::engine) fn retention(&self, old: Retention) -> Retention {
        Retention {
            age_us: self.retention_age_us.unwrap_or(old.age_us),
            bytes: self.retention_bytes.unwrap_or(old.bytes),
        }
    }
}

fn unknown(option: &Opt, known: &[&str]) -> Diagnostic {
    let name = &option.name.value;
    let error = Diagnostic::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unrecognized parameter \"{name}\""),
    )
    .at(option.name.span);
    if ["connector", "topic", "format"].contains(&name.as_str()) {
        return error.hint("Connectors are not available yet.");
    }
    match did_you_mean(name, known.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error.hint(format!("Known parameters: {}.", known.join(", "))),
    }
}

fn invalid(option: &Opt, expected: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{}\"", option.name.value),
    )
    .at(option.span)
    .hint(format!("Expected {expected}."))
}

/// A positive interval in PostgreSQL's input syntax, days of 24 hours and months of 30 days.
fn duration_us(text: &str) -> Option<i64> {
    let config = arrow::compute::kernels::cast_utils::IntervalParseConfig::new(
        arrow::compute::kernels::cast_utils::IntervalUnit::Second,
    );
    let v = arrow::compute::kernels::cast_utils::parse_interval_month_day_nano_config(text, config)
        .ok()?;
    let days = i64::from(v.months) * 30 + i64::from(v.days);
    let us = days.checked_mul(86_400_000_000)?.checked_add(v.nanoseconds / 1000)?;
    (us > 0).then_some(us)
}

/// A size with an optional unit of PostgreSQL's (`B kB MB GB TB`, powers of 1024).
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let factor: u64 = match text[split..].trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(bytes("10GB"), Some(10 << 30));
        assert_eq!(bytes("512 kB"), Some(512 << 10));
        assert_eq!(bytes("ten"), None);
        assert_eq!(duration_us("7 days"), Some(7 * 86_400_000_000));
        assert_eq!(duration_us("1 hour 30 minutes"), Some(5_400_000_000));
        assert_eq!(duration_us("-1 day"), None);
        assert_eq!(duration_us("soon"), None);
    }
}
