//! Which file holds events of which type.

use std::path::PathBuf;

use auspex_connect::file::FileKind;
use auspex_plan::diagnostic::did_you_mean;

use super::Failure;
use super::program::Program;

/// A file with events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// The type of events that do not name theirs.
    pub(super) event_type: Option<String>,
}

/// The inputs meant by the arguments `[TYPE=]FILE`.
pub(super) fn resolve(arguments: &[String], program: &Program) -> Result<Vec<Input>, Failure> {
    let types = program.event_types();
    arguments.iter().map(|argument| resolve_one(argument, &types)).collect()
}

fn resolve_one(argument: &str, types: &[String]) -> Result<Input, Failure> {
    if let Some((name, path)) = argument.split_once('=')
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
    {
        if !types.is_empty() && !types.iter().any(|t| t.eq_ignore_ascii_case(name)) {
            let near = did_you_mean(name, types.iter().map(String::as_str));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its event types are {}", types.join(", ")),
            };
            return Err(Failure::Other(format!(
                "--input {argument}: the program has no event type `{name}`; {hint}"
            )));
        }
        return Ok(Input { path: path.into(), event_type: Some(name.to_owned()) });
    }
    let path = PathBuf::from(argument);
    let kind = FileKind::of(&path)?;
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let event_type = by_name(stem, types).or(match types {
        [only] => Some(only),
        _ => None,
    });
    match (kind, event_type) {
        // Its lines may all say their type; where one does not, that is an error with its place.
        (FileKind::Evt, _) => Ok(Input { path, event_type: None }),
        (FileKind::Csv, None) if types.is_empty() => {
            // SQL: the stream is called like the file.
            Ok(Input { path: path.clone(), event_type: Some(stem.to_owned()) })
        }
        (FileKind::Csv, None) => Err(Failure::Other(format!(
            "--input {argument}: of which type are its events? Write --input TYPE={argument} with \
             one of {}",
            types.join(", ")
        ))),
        (_, event_type) => Ok(Input { path, event_type: event_type.cloned() }),
    }
}

/// The type a file is called after: the same word in any case, also in the plural.
fn by_name<'a>(stem: &str, types: &'a [String]) -> Option<&'a String> {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_'], "");
    let stem = plain(stem);
    types.iter().find(|t| plain(t) == stem).or_else(|| {
        types.iter().find(|t| [format!("{}s", plain(t)), format!("{}es", plain(t))].contains(&stem))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argument: &str, types: &[&str], expected: Result<Option<&str>, &str>) {
        let types: Vec<String> = types.iter().map(|t| (*t).to_owned()).collect();
        match (resolve_one(argument, &types), expected) {
            (Ok(input), Ok(event_type)) => assert_eq!(input.event_type.as_deref(), event_type),
            (Err(Failure::Other(message)), Err(part)) => {
                assert!(message.contains(part), "{message}");
            }
            (Err(Failure::Input(error)), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
            }
            (found, _) => panic!("{argument}: {:?}", found.ok()),
        }
    }

    #[test]
    fn a_file_is_called_after_its_event_type() {
        let types = ["Trade", "Login"];
        check("Login=x.csv", &types, Ok(Some("Login")));
        check("dir/trades.csv", &types, Ok(Some("Trade")));
        check("LOGIN.jsonl", &types, Ok(Some("Login")));
        check("other.jsonl", &types, Ok(None));
        check("other.evt", &types, Ok(None));
        check("other.csv", &["Trade"], Ok(Some("Trade")));
        check("flights.csv", &[], Ok(Some("flights")));
        check("other.csv", &types, Err("of which type are its events?"));
        check("Logn=x.csv", &types, Err("did you mean `Login`?"));
        check("x.txt", &types, Err("must end with .csv, .jsonl or .evt"));
    }
}
