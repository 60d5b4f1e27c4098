//! Settings of `auspex server`: one definition gives flags, environment variables and file keys.
//!
//! A flag wins over the environment, the environment over the file, the file over the default.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use auspex_plan::diagnostic::did_you_mean;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use thiserror::Error;

use crate::engine::EngineOptions;
use crate::pg::Limits;

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("the configuration file {} is not valid:\n{reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The file has a key that means nothing.
    #[error("the configuration file {} has an unknown key `{key}`; {hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was probably meant, or the keys there are.
        hint: String,
    },
    /// A value is out of range.
    #[error("`{key}` is {value}: {wanted}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        wanted: &'static str,
    },
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Settings as given in one place: by flags and environment, or in the file. The names of the
/// fields are the keys of the file; each is also a flag (`--data-dir`) and an environment
/// variable (`AUSPEX_DATA_DIR`).
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Directory that holds everything; created when missing [default: ./data]
    #[arg(long, env = "AUSPEX_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Loopback address to listen on; port 0 takes a free one [default: 127.0.0.1:5433]
    #[arg(long, env = "AUSPEX_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Worker threads of continuous queries; 0 for one per core [default: 0]
    #[arg(long, env = "AUSPEX_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Most rows an operator is given at once [default: 8192]
    #[arg(long, env = "AUSPEX_BATCH_ROWS", value_name = "N")]
    pub batch_rows: Option<usize>,
    /// Seconds between removals of rows beyond their retention; 0 for never [default: 10]
    #[arg(long, env = "AUSPEX_SWEEP_INTERVAL", value_name = "SECONDS")]
    pub sweep_interval: Option<u64>,
    /// Bytes of state at which a continuous query stops, unless it says otherwise [default: 1073741824]
    #[arg(long, env = "AUSPEX_MAX_STATE_BYTES", value_name = "BYTES")]
    pub max_state_bytes: Option<u64>,
    /// Milliseconds between checkpoints of windows, joins and patterns [default: 1000]
    #[arg(long, env = "AUSPEX_CHECKPOINT_INTERVAL", value_name = "MS")]
    pub checkpoint_interval: Option<u64>,
    /// Sessions at the same time [default: 100]
    #[arg(long, env = "AUSPEX_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Largest message of a client in bytes, rows of COPY aside [default: 67108864]
    #[arg(long, env = "AUSPEX_MAX_MESSAGE_BYTES", value_name = "BYTES")]
    pub max_message_bytes: Option<usize>,
    /// Seconds a client has to send its startup packet [default: 10]
    #[arg(long, env = "AUSPEX_STARTUP_TIMEOUT", value_name = "SECONDS")]
    pub startup_timeout: Option<u64>,
    /// Seconds that sessions have to end when the server stops [default: 5]
    #[arg(long, env = "AUSPEX_SHUTDOWN_GRACE", value_name = "SECONDS")]
    pub shutdown_grace: Option<u64>,
    /// What is logged: error, warn, info, debug, trace, or `target=level,..` [default: info]
    #[arg(long, env = "AUSPEX_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How lines of the log look [default: text]
    #[arg(long, env = "AUSPEX_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Directory that holds everything.
    pub data_dir: PathBuf,
    /// Address to listen on.
    pub listen: String,
    /// Worker threads; 0 for one per core.
    pub workers: usize,
    /// Most rows an operator is given at once.
    pub batch_rows: usize,
    /// Seconds between sweeps; 0 for none.
    pub sweep_interval: u64,
    /// Bytes of state at which a query stops.
    pub max_state_bytes: u64,
    /// Milliseconds between checkpoints.
    pub checkpoint_interval: u64,
    /// Sessions at the same time.
    pub max_connections: usize,
    /// Largest message in bytes.
    pub max_message_bytes: usize,
    /// Seconds until a startup packet must be complete.
    pub startup_timeout: u64,
    /// Seconds that sessions have to end.
    pub shutdown_grace: u64,
    /// Filter of the log.
    pub log_level: String,
    /// How lines of the log look.
    pub log_format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        let (engine, limits) = (EngineOptions::default(), Limits::default());
        Settings {
            data_dir: "./data".into(),
            listen: "127.0.0.1:5433".into(),
            workers: 0,
            batch_rows: engine.batch_rows,
            sweep_interval: engine.sweep_seconds,
            max_state_bytes: engine.max_state_bytes,
            checkpoint_interval: engine.checkpoint_ms,
            max_connections: limits.max_connections,
            max_message_bytes: limits.max_message,
            startup_timeout: limits.startup_timeout.as_secs(),
            shutdown_grace: limits.shutdown_grace.as_secs(),
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

impl Given {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Given, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|e| SettingsError::Unreadable {
            path: path.to_path_buf(),
            reason: e.to_string(),
        })?;
        Given::parse(&text, path)
    }

    /// Reads the text of a configuration file; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Given, SettingsError> {
        let invalid = |e: toml::de::Error| SettingsError::Invalid {
            path: path.to_path_buf(),
            reason: e.to_string().trim_end().to_owned(),
        };
        let table: toml::Table = toml::from_str(text).map_err(invalid)?;
        let keys = keys();
        if let Some(key) = table.keys().find(|k| !keys.contains(*k)) {
            let near = did_you_mean(&key.replace('-', "_"), keys.iter().map(String::as_str));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are {}", keys.join(", ")),
            };
            return Err(SettingsError::UnknownKey {
                path: path.to_path_buf(),
                key: key.clone(),
                hint,
            });
        }
        toml::from_str(text).map_err(invalid)
    }

    /// What is given here, else in `file`, else the default.
    pub fn over(self, file: Given) -> Result<Settings, SettingsError> {
        let default = Settings::default();
        let settings = Settings {
            data_dir: self.data_dir.or(file.data_dir).unwrap_or(default.data_dir),
            listen: self.listen.or(file.listen).unwrap_or(default.listen),
            workers: self.workers.or(file.workers).unwrap_or(default.workers),
            batch_rows: self.batch_rows.or(file.batch_rows).unwrap_or(default.batch_rows),
            sweep_interval: self
                .sweep_interval
                .or(file.sweep_interval)
                .unwrap_or(default.sweep_interval),
            max_state_bytes: self
                .max_state_bytes
                .or(file.max_state_bytes)
                .unwrap_or(default.max_state_bytes),
            checkpoint_interval: self
                .checkpoint_interval
                .or(file.checkpoint_interval)
                .unwrap_or(default.checkpoint_interval),
            max_connections: self
                .max_connections
                .or(file.max_connections)
                .unwrap_or(default.max_connections),
            max_message_bytes: self
                .max_message_bytes
                .or(file.max_message_bytes)
                .unwrap_or(default.max_message_bytes),
            startup_timeout: self
                .startup_timeout
                .or(file.startup_timeout)
                .unwrap_or(default.startup_timeout),
            shutdown_grace: self
                .shutdown_grace
                .or(file.shutdown_grace)
                .unwrap_or(default.shutdown_grace),
            log_level: self.log_level.or(file.log_level).unwrap_or(default.log_level),
            log_format: self.log_format.or(file.log_format).unwrap_or(default.log_format),
        };
        settings.check()?;
        Ok(settings)
    }
}

/// The keys of the file.
fn keys() -> Vec<String> {
    let command = Given::augment_args(clap::Command::new("auspex"));
    command.get_arguments().map(|a| a.get_id().to_string()).collect()
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        let ranges = [
            ("workers", self.workers as u64, 0..=1024, "it must be between 0 and 1024"),
            ("batch_rows", self.batch_rows as u64, 1..=1 << 20, "it must be between 1 and 1048576"),
            (
                "max_state_bytes",
                self.max_state_bytes,
                1 << 10..=1 << 50,
                "it must be between 1024 and 1125899906842624",
            ),
            (
                "checkpoint_interval",
                self.checkpoint_interval,
                1..=3_600_000,
                "it must be between 1 and 3600000",
            ),
            (
                "max_connections",
                self.max_connections as u64,
                1..=100_000,
                "it must be between 1 and 100000",
            ),
            (
                "max_message_bytes",
                self.max_message_bytes as u64,
                64 << 10..=1 << 30,
                "it must be between 65536 (64 KiB) and 1073741824 (1 GiB)",
            ),
            ("startup_timeout", self.startup_timeout, 1..=3600, "it must be between 1 and 3600"),
            ("shutdown_grace", self.shutdown_grace, 0..=3600, "it must be between 0 and 3600"),
        ];
        for (key, value, range, wanted) in ranges {
            if !range.contains(&value) {
                return Err(SettingsError::OutOfRange { key, value, wanted });
            }
        }
        Ok(())
    }

    /// For the engine.
    pub fn engine(&self) -> EngineOptions {
        let default = EngineOptions::default();
        EngineOptions {
            data_dir: Some(self.data_dir.clone()),
            workers: if self.workers == 0 { default.workers } else { self.workers },
            batch_rows: self.batch_rows,
            sweep_seconds: self.sweep_interval,
            max_state_bytes: self.max_state_bytes,
            checkpoint_ms: self.checkpoint_interval,
            ticks: true,
        }
    }

    /// For the listener.
    pub fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_message: self.max_message_bytes,
            startup_timeout: Duration::from_secs(self.startup_timeout),
            shutdown_grace: Duration::from_secs(self.shutdown_grace),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../docs/auspex.toml");

    fn parse(text: &str) -> Result<Given, SettingsError> {
        Given::parse(text, Path::new("auspex.toml"))
    }

    #[test]
    fn the_documented_file_holds_every_key_with_its_default() {
        let table: toml::Table = toml::from_str(EXAMPLE).expect("TOML");
        for key in keys() {
            assert!(table.contains_key(&key), "docs/auspex.toml does not show {key}");
        }
        let given = parse(EXAMPLE).expect("every key is known");
        assert_eq!(Given::default().over(given).expect("valid"), Settings::default());
    }

    #[test]
    fn help_shows_the_defaults() {
        let table: toml::Table = toml::from_str(EXAMPLE).expect("TOML");
        for argument in Given::augment_args(clap::Command::new("auspex")).get_arguments() {
            let default = match &table[argument.get_id().as_str()] {
                toml::Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.ends_with(&format!("[default: {default}]")), "{help}");
            let env = argument.get_env().and_then(|e| e.to_str()).unwrap_or_default();
            assert_eq!(env, format!("AUSPEX_{}", argument.get_id().as_str().to_uppercase()));
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = Given { workers: Some(3), ..Given::default() };
        let file = parse("workers = 5\nlisten = \"[::1]:1\"").expect("valid");
        let settings = flags.over(file).expect("valid");
        assert_eq!((settings.workers, settings.listen.as_str()), (3, "[::1]:1"));
        assert_eq!(settings.batch_rows, 8192);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let error = parse("data_dri = \"x\"").expect_err("unknown").to_string();
        assert!(error.contains("`data_dri`") && error.contains("did you mean `data_dir`?"));
        let error = parse("[server]\nlisten = \"x\"").expect_err("unknown").to_string();
        assert!(error.contains("the keys are data_dir, listen"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_or_size_is_refused() {
        let error = parse("workers = \"many\"").expect_err("wrong type").to_string();
        assert!(error.contains("line 1"), "{error}");
        let zero = Given { batch_rows: Some(0), ..Given::default() };
        let error = zero.over(Given::default()).expect_err("out of range").to_string();
        assert!(error.contains("`batch_rows` is 0"), "{error}");
    }
}
