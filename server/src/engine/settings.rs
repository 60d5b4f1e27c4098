//! Session settings (PostgreSQL's GUCs): one registry from which `SET`, `SHOW`, `pg_settings` and
//! ParameterStatus are made.
//!
//! Source of names and meanings: PostgreSQL 15, chapter 20. Settings that PostgreSQL has and that
//! cannot make a difference here are accepted with any valid value, because drivers set them
//! without being asked; `SHOW ALL` says of each that it has no effect.

use std::collections::BTreeMap;

use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{Diagnostic, SqlState};

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bool,
    /// Whole number within bounds, no unit.
    Int(i64, i64),
    /// Milliseconds; a unit may follow (`us ms s min h d`).
    Millis,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Cannot be set.
    Fixed,
    TimeZone,
    Encoding,
    DateStyle,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct SettingDef {
    /// Name as `SHOW ALL` spells it.
    pub(crate) name: &'static str,
    /// Value at session start.
    pub(crate) default: &'static str,
    kind: Kind,
    /// Whether clients are told of changes by ParameterStatus.
    pub(crate) reported: bool,
    /// One line.
    pub(crate) description: &'static str,
}

const ISOLATION: &[&str] =
    &["serializable", "repeatable read", "read committed", "read uncommitted"];
const MESSAGE_LEVELS: &[&str] = &[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning",
    "error",
];

const fn setting(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    reported: bool,
    description: &'static str,
) -> SettingDef {
    SettingDef { name, default, kind, reported, description }
}

/// Version that clients see. PostgreSQL 15 decides which catalogs they ask for.
pub(crate) const SERVER_VERSION: &str = concat!("15.0 (Auspex ", env!("CARGO_PKG_VERSION"), ")");

/// All settings, ordered by name.
pub(crate) static SETTINGS: &[SettingDef] = &[
    setting("application_name", "", Kind::Text, true, "Name of the client program."),
    setting("bytea_output", "hex", Kind::Word(&["hex", "escape"]), false, "Text form of bytea."),
    setting("check_function_bodies", "on", Kind::Bool, false, "No effect."),
    setting("client_encoding", "UTF8", Kind::Encoding, true, "Always UTF8."),
    setting(
        "client_min_messages",
        "notice",
        Kind::Word(MESSAGE_LEVELS),
        false,
        "Lowest level of messages sent.",
    ),
    setting("DateStyle", "ISO, MDY", Kind::DateStyle, true, "Always ISO."),
    setting("default_text_search_config", "pg_catalog.simple", Kind::Text, false, "No effect."),
    setting(
        "default_transaction_isolation",
        "read committed",
        Kind::Word(ISOLATION),
        false,
        "Accepted; every transaction reads committed rows.",
    ),
    setting(
        "default_transaction_read_only",
        "off",
        Kind::Bool,
        true,
        "Refuse writes in new transactions.",
    ),
    setting("escape_string_warning", "on", Kind::Bool, false, "No effect."),
    setting(
        "extra_float_digits",
        "1",
        Kind::Int(-15, 3),
        false,
        "Digits of floats beyond 15 or 6; above 0 the shortest exact form.",
    ),
    setting(
        "fetch_timeout",
        "0",
        Kind::Millis,
        false,
        "Longest wait of a FETCH from a subscription cursor for its first row; 0 waits for ever.",
    ),
    setting(
        "idle_in_transaction_session_timeout",
        "0",
        Kind::Millis,
        false,
        "Longest silence of a client within a transaction; 0 is no limit.",
    ),
    setting(
        "idle_session_timeout",
        "0",
        Kind::Millis,
        false,
        "Longest silence of a client outside transactions; 0 is no limit.",
    ),
    setting("in_hot_standby", "off", Kind::Fixed, true, "Whether this is a standby."),
    setting("integer_datetimes", "on", Kind::Fixed, true, "Times are 64-bit integers."),
    setting(
        "IntervalStyle",
        "postgres",
        Kind::Word(&["postgres"]),
        true,
        "Text form of intervals.",
    ),
    setting("is_superuser", "on", Kind::Fixed, true, "Whether the user may do everything."),
    setting("jit", "off", Kind::Bool, false, "No effect."),
    setting("lc_collate", "C", Kind::Fixed, false, "Strings compare by code point."),
    setting("lc_ctype", "C.UTF-8", Kind::Fixed, false, "Character classes."),
    setting("lc_messages", "C", Kind::Text, false, "No effect."),
    setting("lc_monetary", "C", Kind::Text, false, "No effect."),
    setting(
        "listen_max_payload",
        "1048576",
        Kind::Int(64, 16_777_216),
        false,
        "Largest notification of a stream row in bytes; a larger one is replaced by its offset.",
    ),
    setting(
        "listen_overflow",
        "gap",
        Kind::Word(&["gap", "latest", "disconnect"]),
        false,
        "What happens to a listener that does not keep up.",
    ),
    setting("lock_timeout", "0", Kind::Millis, false, "Longest wait for a lock; 0 waits 10 s."),
    setting("max_identifier_length", "63", Kind::Fixed, false, "Longest name in bytes."),
    setting("max_index_keys", "32", Kind::Fixed, false, "Most columns of a key."),
    setting("plan_cache_mode", "auto", Kind::Text, false, "No effect."),
    setting("row_security", "on", Kind::Bool, false, "No effect."),
    setting(
        "search_path",
        "public",
        Kind::Text,
        false,
        "Schemas searched for unqualified names; the first one takes new objects.",
    ),
    setting("server_encoding", "UTF8", Kind::Fixed, true, "Encoding of stored text."),
    setting(
        "server_version",
        SERVER_VERSION,
        Kind::Fixed,
        true,
        "Version of PostgreSQL whose protocol this is.",
    ),
    setting("server_version_num", "150000", Kind::Fixed, false, "The same as a number."),
    setting("session_authorization", "auspex", Kind::Fixed, true, "User of the session."),
    setting(
        "standard_conforming_strings",
        "on",
        Kind::Fixed,
        true,
        "Backslashes in strings are ordinary.",
    ),
    setting(
        "statement_timeout",
        "0",
        Kind::Millis,
        false,
        "Longest time of a statement; 0 is no limit.",
    ),
    setting(
        "synchronous_commit",
        "on",
        Kind::Word(&["on", "off", "local", "remote_write", "remote_apply"]),
        false,
        "off: acknowledge before the rows are synced.",
    ),
    setting("TimeZone", "UTC", Kind::TimeZone, true, "Zone in which times are shown and read."),
    setting(
        "transaction_isolation",
        "read committed",
        Kind::Word(ISOLATION),
        false,
        "Accepted; every transaction reads committed rows.",
    ),
    setting(
        "transaction_read_only",
        "off",
        Kind::Bool,
        false,
        "Refuse writes in this transaction.",
    ),
    setting("work_mem", "4MB", Kind::Text, false, "No effect."),
];

fn find(name: &str) -> Option<&'static SettingDef> {
    SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

/// Settings of one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// What `RESET` goes back to, where it differs from the default (startup parameters).
    initial: BTreeMap<&'static str, String>,
    values: BTreeMap<&'static str, String>,
    /// Names with a dot, which PostgreSQL accepts for extensions.
    custom: BTreeMap<String, String>,
    changed: Vec<&'static str>,
}

impl Settings {
    /// The value of a setting that exists.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        if let Some(custom) = self.custom.get(&name.to_lowercase()) {
            return Some(custom.clone());
        }
        let def = find(name)?;
        Some(self.value(def))
    }

    fn value(&self, def: &SettingDef) -> String {
        self.values
            .get(def.name)
            .or_else(|| self.initial.get(def.name))
            .cloned()
            .unwrap_or_else(|| def.default.to_string())
    }

    /// Canonical name and value, or 42704 with the nearest name.
    pub(crate) fn show(&self, name: &str) -> Result<(String, String), Diagnostic> {
        if let Some(custom) = self.custom.get(&name.to_lowercase()) {
            return Ok((name.to_string(), custom.clone()));
        }
        let def = find(name).ok_or_else(|| unknown(name))?;
        Ok((def.name.to_string(), self.value(def)))
    }

    /// Every setting with its value and description, ordered by name.
    pub(crate) fn all(&self) -> Vec<(&'static str, String, &'static str)> {
        SETTINGS.iter().map(|d| (d.name, self.value(d), d.description)).collect()
    }

    /// Values by lower-case name.
    pub(crate) fn values(&self) -> BTreeMap<String, String> {
        let known = SETTINGS.iter().map(|d| (d.name.to_lowercase(), self.value(d)));
        known.chain(self.custom.clone()).collect()
    }

    /// The reported settings at session start.
    pub(crate) fn reported(&self) -> Vec<(&'static str, String)> {
        SETTINGS.iter().filter(|d| d.reported).map(|d| (d.name, self.value(d))).collect()
    }

    /// `SET name = value`; `None` is `DEFAULT`.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Diagnostic> {
        let Some(def) = find(name) else {
            if !name.contains('.') {
                return Err(unknown(name));
            }
            match value {
                Some(v) => self.custom.insert(name.to_lowercase(), v.to_string()),
                None => self.custom.remove(&name.to_lowercase()),
            };
            return Ok(());
        };
        let before = self.value(def);
        match value {
            None => {
                self.values.remove(def.name);
            }
            Some(v) => {
                let canonical = canonical(def, v)?;
                self.values.insert(def.name, canonical);
            }
        }
        if def.reported && self.value(def) != before {
            self.changed.push(def.name);
        }
        Ok(())
    }

    /// A startup parameter: the value that `RESET` goes back to. Fixed settings are left alone.
    pub(crate) fn set_initial(&mut self, name: &str, value: &str) -> Result<(), Diagnostic> {
        match find(name) {
            Some(def) if def.kind == Kind::Fixed => Ok(()),
            Some(def) => {
                let canonical = canonical(def, value)?;
                self.initial.insert(def.name, canonical);
                Ok(())
            }
            None => {
                self.custom.insert(name.to_lowercase(), value.to_string());
                Ok(())
            }
        }
    }

    /// Sets what only the server decides (`session_authorization`).
    pub(crate) fn set_fixed(&mut self, name: &'static str, value: &str) {
        self.initial.insert(name, value.to_string());
    }

    /// `RESET ALL`.
    pub(crate) fn reset_all(&mut self) {
        let names: Vec<&'static str> = self.values.keys().copied().collect();
        for name in names {
            // Values that were accepted can be taken back.
            let _ = self.set(name, None);
        }
        self.custom.clear();
    }

    /// Reported settings whose value changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<(&'static str, String)> {
        let mut names = std::mem::take(&mut self.changed);
        names.dedup();
        names.into_iter().filter_map(|n| find(n).map(|d| (d.name, self.value(d)))).collect()
    }

    /// A duration setting in milliseconds, `None` when it is 0.
    pub(crate) fn millis(&self, name: &str) -> Option<u64> {
        let text = self.get(name)?;
        parse_millis(&text).filter(|ms| *ms > 0)
    }

    /// Whether a boolean setting is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v == "on")
    }

    /// Schemas searched for unqualified names, in order.
    pub(crate) fn search_path(&self) -> Vec<String> {
        let mut path: Vec<String> = self
            .get("search_path")
            .unwrap_or_default()
            .split(',')
            .map(|s| s.trim().trim_matches('"').to_string())
            .filter(|s| !s.is_empty() && s != "$user" && s != "pg_catalog")
            .collect();
        if path.is_empty() {
            path.push("public".to_string());
        }
        path
    }
}

fn unknown(name: &str) -> Diagnostic {
    let error = Diagnostic::error(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    );
    match did_you_mean(name, SETTINGS.iter().map(|s| s.name)) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

fn invalid(def: &SettingDef, value: &str) -> Diagnostic {
    let error = Diagnostic::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{}\": \"{value}\"", def.name),
    );
    match def.kind {
        Kind::Word(words) => error.hint(format!("Available values: {}.", words.join(", "))),
        _ => error,
    }
}

fn canonical(def: &SettingDef, value: &str) -> Result<String, Diagnostic> {
    let plain = value.trim();
    match def.kind {
        Kind::Text => Ok(value.to_string()),
        Kind::Fixed => Err(Diagnostic::error(
            SqlState("55P02"),
            format!("parameter \"{}\" cannot be changed", def.name),
        )),
        Kind::Bool => match plain.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".into()),
            "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".into()),
            _ => Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{}\" requires a Boolean value", def.name),
            )),
        },
        Kind::Int(low, high) => match plain.parse::<i64>() {
            Ok(n) if (low..=high).contains(&n) => Ok(n.to_string()),
            Ok(n) => Err(Diagnostic::error(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("{n} is outside the valid range for parameter \"{}\" ({low} .. {high})", def.name),
            )),
            Err(_) => Err(invalid(def, value)),
        },
        Kind::Millis => match parse_millis(plain) {
            Some(ms) => Ok(show_millis(ms)),
            None => Err(invalid(def, value)
                .hint("Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".")),
        },
        Kind::Word(words) => words
            .iter()
            .find(|w| w.eq_ignore_ascii_case(plain))
            .map(|w| (*w).to_string())
            .ok_or_else(|| invalid(def, value)),
        Kind::TimeZone => time_zone(plain).ok_or_else(|| invalid(def, value)),
        Kind::Encoding => {
            let word: String =
                plain.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
            match word.as_str() {
                "UTF8" | "UNICODE" | "SQLASCII" | "" => Ok("UTF8".into()),
                _ => Err(invalid(def, value).hint("Only UTF8 is available.")),
            }
        }
        Kind::DateStyle => {
            let ok = plain.split(',').all(|w| {
                ["iso", "mdy", "dmy", "ymd", "us", "default"]
                    .contains(&w.trim().to_lowercase().as_str())
            });
            if ok {
                Ok("ISO, MDY".into())
            } else {
                Err(invalid(def, value).hint("Only ISO is available."))
            }
        }
    }
}

/// A zone name of the IANA database in its own spelling, or a fixed offset.
fn time_zone(word: &str) -> Option<String> {
    if word.eq_ignore_ascii_case("default") || word.eq_ignore_ascii_case("local") {
        return Some("UTC".into());
    }
    if let Some(zone) = chrono_tz::TZ_VARIANTS.iter().find(|z| z.name().eq_ignore_ascii_case(word))
    {
        return Some(zone.name().to_string());
    }
    let (sign, digits) = match word.as_bytes().first()? {
        b'+' => ('+', &word[1..]),
        b'-' => ('-', &word[1..]),
        _ => return None,
    };
    let (h, m) = digits.split_once(':').unwrap_or((digits, "00"));
    let (h, m): (u32, u32) = (h.parse().ok()?, m.parse().ok()?);
    (h <= 14 && m < 60).then(|| format!("{sign}{h:02}:{m:02}"))
}

fn parse_millis(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let factor = match text[split..].trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let ms = number * factor;
    (ms.is_finite() && ms <= f64::from(i32::MAX)).then(|| ms.round() as u64)
}

fn show_millis(ms: u64) -> String {
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
        if ms > 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    if ms == 0 { "0".into() } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_ordered_by_name() {
        let names: Vec<String> = SETTINGS.iter().map(|s| s.name.to_lowercase()).collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_value_is_kept_in_its_canonical_form() {
        let mut s = Settings::default();
        for (name, given, shown) in [
            ("statement_timeout", "5000", "5s"),
            ("statement_timeout", "1500ms", "1500ms"),
            ("timezone", "europe/paris", "Europe/Paris"),
            ("TimeZone", "+2", "+02:00"),
            ("client_encoding", "'utf-8'", "UTF8"),
            ("jit", "FALSE", "off"),
            ("my.setting", "x", "x"),
        ] {
            s.set(name, Some(given)).expect(name);
            assert_eq!(s.get(name).as_deref(), Some(shown), "{name} = {given}");
        }
    }

    #[test]
    fn a_wrong_value_or_name_is_refused_with_the_state_of_postgresql() {
        let mut s = Settings::default();
        for (name, value, state) in [
            ("client_encoding", "LATIN1", "22023"),
            ("DateStyle", "German", "22023"),
            ("server_version", "16", "55P02"),
            ("statement_timeot", "1", "42704"),
            ("TimeZone", "Mars/Base", "22023"),
        ] {
            assert_eq!(s.set(name, Some(value)).expect_err(name).state.0, state, "{name}");
        }
        assert!(
            s.set("statement_timeot", Some("1"))
                .expect_err("unknown")
                .hint
                .is_some_and(|h| h.contains("statement_timeout"))
        );
    }

    #[test]
    fn reset_goes_back_to_the_startup_parameter() {
        let mut s = Settings::default();
        s.set_initial("application_name", "psql").expect("known");
        s.set("application_name", Some("other")).expect("known");
        assert_eq!(s.take_changes(), vec![("application_name", "other".to_string())]);
        s.set("application_name", None).expect("known");
        assert_eq!(s.get("application_name").as_deref(), Some("psql"));
    }
}
