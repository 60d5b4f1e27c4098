//! Names that only we can write: how the parser hands to the binder what sqlparser has no place for,
//! and how the binder tells its own names from the user's.

/// No name of a user can hold it, as the tokenizer refuses the character.
pub(crate) const MARK: char = '\u{1}';

/// A retention window as a table hint: `length`, `length batch`, `time`, ..
pub(crate) const WINDOW: &str = "window ";
/// `JOIN .. WITHIN`: a table hint whose argument is the number of microseconds.
pub(crate) const WITHIN: &str = "within";
/// `ASOF LEFT JOIN`: a table hint.
pub(crate) const LEFT: &str = "left";
/// `FOR SYSTEM_TIME AS OF`: a table hint whose argument is the time.
pub(crate) const SYSTEM_TIME: &str = "system_time";
/// Stands before the `PARTITION BY` columns among the arguments of a window function in FROM.
pub(crate) const PARTITION: &str = "partition";

/// A name of ours.
pub(crate) fn mark(name: &str) -> String {
    format!("{MARK}{name}")
}

/// What is behind the mark, when the name is ours.
pub(crate) fn unmark(name: &str) -> Option<&str> {
    name.strip_prefix(MARK)
}
