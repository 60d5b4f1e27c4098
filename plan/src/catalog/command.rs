//! Changes of the catalog.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::object::{Definition, Object, ObjectId, ObjectName, Retention};

/// One change. Applied as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogCommand {
    /// Adds objects; those in `drop` go first (`CREATE OR REPLACE PIPELINE`).
    Create {
        /// Objects that disappear.
        drop: Vec<ObjectId>,
        /// New objects, inputs before the streams that read them. Ids are not below the
        /// catalog's `next_id`.
        objects: Vec<Object>,
    },
    /// Removes objects. Everything that depends on one of them must be in the list.
    Drop {
        /// Objects that disappear.
        ids: Vec<ObjectId>,
    },
    /// Gives a stream another query over the same output columns.
    ReplaceQuery {
        /// A derived stream.
        id: ObjectId,
        /// The new query.
        definition: Definition,
    },
    /// Gives an object another name; a pipeline's schema goes with it.
    Rename {
        /// The object.
        id: ObjectId,
        /// Its new name.
        name: ObjectName,
    },
    /// Stops or restarts a derived stream, or every derived stream of a pipeline.
    SetPaused {
        /// A derived stream or a pipeline.
        id: ObjectId,
        /// Whether it is to stand still.
        paused: bool,
    },
    /// Changes how long a stream keeps its rows.
    SetRetention {
        /// A stream.
        id: ObjectId,
        /// The new limits.
        retention: Retention,
    },
    /// Changes how much state the query of a derived stream may keep.
    SetStateLimit {
        /// A derived stream.
        id: ObjectId,
        /// Bytes; the server's limit when `None`.
        bytes: Option<u64>,
    },
}

/// Why a command cannot be applied. The catalog is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// The name is taken by another object.
    #[error("relation \"{0}\" already exists")]
    Exists(ObjectName),
    /// No object has this id.
    #[error("object {0} does not exist")]
    Unknown(ObjectId),
    /// The command was made for another state of the catalog.
    #[error("the catalog has changed meanwhile: {0}")]
    Conflict(String),
    /// Other objects need it.
    #[error("cannot drop {name} because other objects depend on it")]
    Dependents {
        /// The object in question.
        name: ObjectName,
        /// The objects that need it.
        dependents: Vec<ObjectName>,
    },
    /// The object is of another kind than the command needs.
    #[error("\"{name}\" is not a {expected}")]
    WrongKind {
        /// The object in question.
        name: ObjectName,
        /// What was needed.
        expected: &'static str,
    },
}
