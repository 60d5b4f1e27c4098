//! What can be wrong with an input.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Where something was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// 1-based line on which the record begins.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// An error of an input.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The file cannot be read: check its name and permissions.
    #[error("cannot read {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The file is of no known kind, or the event type is needed and not given.
    #[error("{}: {message}", file.display())]
    Usage {
        /// The file.
        file: PathBuf,
        /// What to do.
        message: String,
    },
    /// A record is wrong: correct the data or the declaration of its event type.
    #[error("{place}: {message}")]
    Data {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// What would help.
        hint: Option<String>,
    },
}

impl ConnectError {
    /// An error in the data.
    pub fn data(place: &Place, message: impl Into<String>) -> Self {
        ConnectError::Data { place: place.clone(), message: message.into(), hint: None }
    }

    /// Adds a hint to an error in the data.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        if let ConnectError::Data { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// The hint, when there is one.
    pub fn hint_text(&self) -> Option<&str> {
        match self {
            ConnectError::Data { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

/// Result of reading.
pub type Result<T, E = ConnectError> = std::result::Result<T, E>;
