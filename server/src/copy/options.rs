//! The options of `COPY`, with PostgreSQL 15's defaults, checks and messages
//! (<https://www.postgresql.org/docs/15/sql-copy.html>).

use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{Diagnostic, SqlState};

/// Format of the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// One line per row, values separated by tabs, backslash escapes.
    #[default]
    Text,
    /// Comma separated values with quotes.
    Csv,
    /// PostgreSQL's binary COPY format.
    Binary,
    /// An Arrow IPC stream (not in PostgreSQL).
    Arrow,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `COPY .. FROM STDIN`: from the client.
    From,
    /// `COPY .. TO STDOUT`: to the client.
    To,
}

/// The `HEADER` option.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Header {
    /// No header line.
    #[default]
    No,
    /// The first line holds the column names; it is skipped on input.
    Yes,
    /// The first line of the input must hold exactly the column names.
    Match,
}

/// Columns an option is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ColumnChoice {
    /// None: the option was not given.
    #[default]
    None,
    /// `*`.
    All,
    /// These.
    Named(Vec<String>),
}

impl ColumnChoice {
    /// Whether column `name` is chosen.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            ColumnChoice::None => false,
            ColumnChoice::All => true,
            ColumnChoice::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

/// The value of an option as written in the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// No value: `(HEADER)`.
    None,
    /// A word, string, number or boolean, as text.
    Text(String),
    /// `(a, b)`.
    Columns(Vec<String>),
    /// `*`.
    All,
}

/// How rows and bytes correspond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// Format.
    pub format: Format,
    /// Header line of text and csv.
    pub header: Header,
    /// Separator of values in text and csv.
    pub delimiter: u8,
    /// What stands for null in text and csv.
    pub null: String,
    /// Quote character of csv.
    pub quote: u8,
    /// Escape character inside quotes of csv.
    pub escape: u8,
    /// Columns always quoted on output.
    pub force_quote: ColumnChoice,
    /// Columns in which an unquoted null string is that string, not null.
    pub force_not_null: ColumnChoice,
    /// Columns in which a quoted null string is null.
    pub force_null: ColumnChoice,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions::of(Format::Text)
    }
}

/// Names of all options, for "did you mean".
const NAMES: [&str; 12] = [
    "format",
    "freeze",
    "delimiter",
    "null",
    "header",
    "quote",
    "escape",
    "force_quote",
    "force_not_null",
    "force_null",
    "encoding",
    "commit_rows",
];

impl CopyOptions {
    /// The defaults of a format.
    pub fn of(format: Format) -> Self {
        let csv = format == Format::Csv;
        CopyOptions {
            format,
            header: Header::No,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".into() },
            quote: b'"',
            escape: b'"',
            force_quote: ColumnChoice::None,
            force_not_null: ColumnChoice::None,
            force_null: ColumnChoice::None,
        }
    }

    /// The format code of `CopyInResponse` and `CopyOutResponse`, overall and of each column: 0 for
    /// text and csv, 1 for binary and Arrow.
    pub fn wire_format(&self) -> i8 {
        match self.format {
            Format::Text | Format::Csv => 0,
            Format::Binary | Format::Arrow => 1,
        }
    }

    /// Options from the names (lower case) and values of a statement.
    ///
    /// `FREEZE` is accepted and has no effect: rows of a log have no tuple headers to freeze.
    pub fn from_options<'a>(
        given: impl IntoIterator<Item = (&'a str, OptionValue)>,
        direction: Direction,
    ) -> Result<CopyOptions, Diagnostic> {
        let mut raw = Raw::default();
        for (name, value) in given {
            raw.set(name, value, direction)?;
        }
        raw.check(direction)
    }
}

/// Options as given, before defaults.
#[derive(Default)]
struct Raw {
    format: Option<Format>,
    freeze: Option<bool>,
    header: Option<Header>,
    encoding: Option<()>,
    delimiter: Option<String>,
    null: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<ColumnChoice>,
    force_not_null: Option<ColumnChoice>,
    force_null: Option<ColumnChoice>,
}

impl Raw {
    fn set(
        &mut self,
        name: &str,
        value: OptionValue,
        direction: Direction,
    ) -> Result<(), Diagnostic> {
        match name {
            "format" => once(&mut self.format, parse_format(&text(name, value)?)?),
            "freeze" => once(&mut self.freeze, boolean(name, value)?),
            "header" => once(&mut self.header, header(value, direction)?),
            "delimiter" => once(&mut self.delimiter, text(name, value)?),
            "null" => once(&mut self.null, text(name, value)?),
            "quote" => once(&mut self.quote, text(name, value)?),
            "escape" => once(&mut self.escape, text(name, value)?),
            "encoding" => once(&mut self.encoding, encoding(&text(name, value)?)?),
            "force_quote" => once(&mut self.force_quote, columns(name, value, true)?),
            "force_not_null" => once(&mut self.force_not_null, columns(name, value, false)?),
            "force_null" => once(&mut self.force_null, columns(name, value, false)?),
            "commit_rows" | "commit_interval" => {
                Err(Diagnostic::unsupported(format!("COPY option \"{name}\" is not supported"))
                    .hint(
                        "Split the input into several COPY statements; each is durable at its end.",
                    ))
            }
            _ => {
                let error = Diagnostic::syntax(format!("option \"{name}\" not recognized"));
                Err(match did_you_mean(name, NAMES) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error,
                })
            }
        }
    }

    fn check(self, direction: Direction) -> Result<CopyOptions, Diagnostic> {
        let format = self.format.unwrap_or_default();
        let mut options = CopyOptions::of(format);
        options.header = self.header.unwrap_or_default();
        let name = match format {
            Format::Binary => "BINARY",
            Format::Arrow => "ARROW",
            Format::Text | Format::Csv => "",
        };
        if !name.is_empty() {
            for (set, option) in [(&self.delimiter, "DELIMITER"), (&self.null, "NULL")] {
                if set.is_some() {
                    return Err(Diagnostic::syntax(format!(
                        "cannot specify {option} in {name} mode"
                    )));
                }
            }
            if options.header != Header::No {
                return Err(Diagnostic::unsupported(format!(
                    "cannot specify HEADER in {name} mode"
                )));
            }
        }
        if let Some(delimiter) = self.delimiter {
            options.delimiter =
                one_byte(&delimiter, "COPY delimiter must be a single one-byte character")?;
        }
        if let Some(null) = self.null {
            options.null = null;
        }
        let csv = format == Format::Csv;
        for (given, option) in [(self.quote.is_some(), "quote"), (self.escape.is_some(), "escape")]
        {
            if given && !csv {
                return Err(only_in_csv(option));
            }
        }
        if let Some(quote) = self.quote {
            options.quote = one_byte(&quote, "COPY quote must be a single one-byte character")?;
            options.escape = options.quote;
        }
        if let Some(escape) = self.escape {
            options.escape = one_byte(&escape, "COPY escape must be a single one-byte character")?;
        }
        options.check_characters()?;
        for (choice, option, wanted, only) in [
            (&self.force_quote, "force quote", Direction::To, "COPY TO"),
            (&self.force_not_null, "force not null", Direction::From, "COPY FROM"),
            (&self.force_null, "force null", Direction::From, "COPY FROM"),
        ] {
            if choice.is_none() {
                continue;
            }
            if !csv {
                return Err(only_in_csv(option));
            }
            if direction != wanted {
                return Err(Diagnostic::unsupported(format!(
                    "COPY {option} only available using {only}"
                )));
            }
        }
        options.force_quote = self.force_quote.unwrap_or_default();
        options.force_not_null = self.force_not_null.unwrap_or_default();
        options.force_null = self.force_null.unwrap_or_default();
        Ok(options)
    }
}

impl CopyOptions {
    /// The checks that keep rows readable: separators that cannot be told from data are refused.
    fn check_characters(&self) -> Result<(), Diagnostic> {
        let invalid = |m: String| Err(Diagnostic::error(SqlState::INVALID_PARAMETER_VALUE, m));
        let newline = |c: u8| c == b'\n' || c == b'\r';
        if matches!(self.format, Format::Binary | Format::Arrow) {
            return Ok(());
        }
        let csv = self.format == Format::Csv;
        if newline(self.delimiter) {
            return invalid("COPY delimiter cannot be newline or carriage return".into());
        }
        if self.null.bytes().any(newline) {
            return invalid(
                "COPY null representation cannot use newline or carriage return".into(),
            );
        }
        if !csv
            && (matches!(self.delimiter, b'\\' | b'.')
                || self.delimiter.is_ascii_lowercase()
                || self.delimiter.is_ascii_digit())
        {
            return invalid(format!("COPY delimiter cannot be \"{}\"", self.delimiter as char));
        }
        if csv && self.delimiter == self.quote {
            return invalid("COPY delimiter and quote must be different".into());
        }
        if self.null.as_bytes().contains(&self.delimiter) {
            return Err(Diagnostic::unsupported(
                "COPY delimiter must not appear in the NULL specification",
            ));
        }
        if csv && self.null.as_bytes().contains(&self.quote) {
            return Err(Diagnostic::unsupported(
                "CSV quote character must not appear in the NULL specification",
            ));
        }
        // PostgreSQL accepts these and then cannot read its own output.
        if csv && (newline(self.quote) || newline(self.escape)) {
            return invalid("COPY quote and escape cannot be newline or carriage return".into());
        }
        Ok(())
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Diagnostic> {
    match slot.replace(value) {
        Some(_) => Err(Diagnostic::syntax("conflicting or redundant options")),
        None => Ok(()),
    }
}

fn only_in_csv(option: &str) -> Diagnostic {
    Diagnostic::unsupported(format!("COPY {option} available only in CSV mode"))
}

fn one_byte(text: &str, message: &str) -> Result<u8, Diagnostic> {
    match text.as_bytes() {
        [b] if *b != 0 => Ok(*b),
        _ => Err(Diagnostic::unsupported(message)),
    }
}

fn text(name: &str, value: OptionValue) -> Result<String, Diagnostic> {
    match value {
        OptionValue::Text(text) => Ok(text),
        _ => Err(Diagnostic::syntax(format!("{name} requires a parameter"))),
    }
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn boolean(name: &str, value: OptionValue) -> Result<bool, Diagnostic> {
    match value {
        OptionValue::None => Some(true),
        OptionValue::Text(text) => parse_boolean(&text),
        _ => None,
    }
    .ok_or_else(|| Diagnostic::syntax(format!("{name} requires a Boolean value")))
}

fn header(value: OptionValue, direction: Direction) -> Result<Header, Diagnostic> {
    let wrong = || Diagnostic::syntax("header requires a Boolean value or \"match\"");
    let text = match value {
        OptionValue::None => return Ok(Header::Yes),
        OptionValue::Text(text) => text,
        _ => return Err(wrong()),
    };
    if text.eq_ignore_ascii_case("match") {
        return match direction {
            Direction::From => Ok(Header::Match),
            Direction::To => {
                Err(Diagnostic::unsupported("cannot use \"match\" with HEADER in COPY TO"))
            }
        };
    }
    match parse_boolean(&text) {
        Some(true) => Ok(Header::Yes),
        Some(false) => Ok(Header::No),
        None => Err(wrong()),
    }
}

fn columns(name: &str, value: OptionValue, star: bool) -> Result<ColumnChoice, Diagnostic> {
    match value {
        OptionValue::Columns(columns) => Ok(ColumnChoice::Named(columns)),
        OptionValue::All if star => Ok(ColumnChoice::All),
        _ => Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("argument to option \"{name}\" must be a list of column names"),
        )),
    }
}

fn parse_format(name: &str) -> Result<Format, Diagnostic> {
    // PostgreSQL compares the value as written; the parser has folded unquoted words.
    match name {
        "text" => Ok(Format::Text),
        "csv" => Ok(Format::Csv),
        "binary" => Ok(Format::Binary),
        "arrow" => Ok(Format::Arrow),
        _ => Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("COPY format \"{name}\" not recognized"),
        )
        .hint("Formats are text, csv, binary and arrow.")),
    }
}

fn encoding(name: &str) -> Result<(), Diagnostic> {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    match plain.as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(Diagnostic::unsupported(format!("encoding \"{name}\" is not supported"))
            .hint("Data must be UTF8.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> OptionValue {
        OptionValue::Text(text.into())
    }

    fn check(
        given: &[(&str, OptionValue)],
        direction: Direction,
        expected: Result<CopyOptions, (&str, &str)>,
    ) {
        let got = CopyOptions::from_options(given.iter().cloned(), direction);
        let expected = expected.map_err(|(state, message)| (state.into(), message.into()));
        assert_eq!(
            got.map_err(|d| (d.state.0.to_string(), d.message)),
            expected,
            "{given:?} {direction:?}"
        );
    }

    #[test]
    fn defaults_depend_on_the_format() {
        check(&[], Direction::From, Ok(CopyOptions::of(Format::Text)));
        let csv = CopyOptions::from_options([("format", word("csv"))], Direction::To).unwrap();
        assert_eq!(
            (csv.delimiter, csv.null.as_str(), csv.quote, csv.escape),
            (b',', "", b'"', b'"')
        );
        let quote = CopyOptions::from_options(
            [("format", word("csv")), ("quote", word("'"))],
            Direction::To,
        )
        .unwrap();
        assert_eq!((quote.quote, quote.escape), (b'\'', b'\''));
    }

    #[test]
    fn options_are_refused_as_postgresql_refuses_them() {
        use Direction::{From, To};
        let csv = || ("format", word("csv"));
        let list = || OptionValue::Columns(vec!["a".into()]);
        type Case<'a> = (Vec<(&'a str, OptionValue)>, Direction, &'a str, &'a str);
        let cases: Vec<Case<'_>> = vec![
            (vec![("format", word("xml"))], From, "22023", "COPY format \"xml\" not recognized"),
            (vec![csv(), csv()], From, "42601", "conflicting or redundant options"),
            (vec![("foo", word("1"))], From, "42601", "option \"foo\" not recognized"),
            (vec![("format", OptionValue::None)], From, "42601", "format requires a parameter"),
            (
                vec![("header", word("maybe"))],
                From,
                "42601",
                "header requires a Boolean value or \"match\"",
            ),
            (
                vec![("header", word("match"))],
                To,
                "0A000",
                "cannot use \"match\" with HEADER in COPY TO",
            ),
            (
                vec![("format", word("binary")), ("delimiter", word(","))],
                From,
                "42601",
                "cannot specify DELIMITER in BINARY mode",
            ),
            (
                vec![("format", word("binary")), ("null", word("x"))],
                From,
                "42601",
                "cannot specify NULL in BINARY mode",
            ),
            (
                vec![("format", word("binary")), ("header", OptionValue::None)],
                From,
                "0A000",
                "cannot specify HEADER in BINARY mode",
            ),
            (
                vec![("delimiter", word("||"))],
                From,
                "0A000",
                "COPY delimiter must be a single one-byte character",
            ),
            (
                vec![("delimiter", word("\n"))],
                From,
                "22023",
                "COPY delimiter cannot be newline or carriage return",
            ),
            (vec![("delimiter", word("a"))], From, "22023", "COPY delimiter cannot be \"a\""),
            (
                vec![("null", word("a\nb"))],
                From,
                "22023",
                "COPY null representation cannot use newline or carriage return",
            ),
            (vec![("quote", word("'"))], From, "0A000", "COPY quote available only in CSV mode"),
            (vec![("escape", word("'"))], From, "0A000", "COPY escape available only in CSV mode"),
            (
                vec![csv(), ("quote", word("''"))],
                From,
                "0A000",
                "COPY quote must be a single one-byte character",
            ),
            (
                vec![csv(), ("quote", word(","))],
                From,
                "22023",
                "COPY delimiter and quote must be different",
            ),
            (
                vec![csv(), ("null", word("a,b"))],
                From,
                "0A000",
                "COPY delimiter must not appear in the NULL specification",
            ),
            (
                vec![csv(), ("null", word("\""))],
                From,
                "0A000",
                "CSV quote character must not appear in the NULL specification",
            ),
            (
                vec![("force_quote", OptionValue::All)],
                To,
                "0A000",
                "COPY force quote available only in CSV mode",
            ),
            (
                vec![csv(), ("force_quote", list())],
                From,
                "0A000",
                "COPY force quote only available using COPY TO",
            ),
            (
                vec![csv(), ("force_null", list())],
                To,
                "0A000",
                "COPY force null only available using COPY FROM",
            ),
            (
                vec![csv(), ("force_not_null", word("a"))],
                From,
                "22023",
                "argument to option \"force_not_null\" must be a list of column names",
            ),
            (
                vec![("encoding", word("latin1"))],
                From,
                "0A000",
                "encoding \"latin1\" is not supported",
            ),
        ];
        for (given, direction, state, message) in cases {
            check(&given, direction, Err((state, message)));
        }
    }

    #[test]
    fn utf8_has_many_spellings() {
        for name in ["UTF8", "utf-8", "Unicode"] {
            check(&[("encoding", word(name))], Direction::From, Ok(CopyOptions::default()));
        }
    }
}
