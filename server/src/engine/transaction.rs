//! What a transaction has done and not committed yet.
//!
//! Rows, table changes and catalog commands of one transaction go to the store in one piece, so
//! they become visible and durable together. Table changes are visible to the transaction itself
//! at once; stream rows only after the commit, because they have no offset before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auspex_plan::ContinuousQuery;
use auspex_plan::catalog::{Catalog, CatalogCommand, ObjectId};
use auspex_storage::{Append, Staged, StreamConfig};
use tokio::sync::OwnedMutexGuard;

use super::table::overlay::Overlay;

/// Changes of the catalog within a transaction. Only one transaction at a time has this.
pub(crate) struct Ddl {
    /// Keeps other sessions' DDL waiting until the transaction ends.
    pub(crate) _guard: OwnedMutexGuard<()>,
    /// The catalog as the transaction sees it.
    pub(crate) catalog: Arc<Catalog>,
    /// What led there.
    pub(crate) commands: Vec<CatalogCommand>,
    /// Streams to begin.
    pub(crate) created: Vec<StreamConfig>,
    /// Streams whose retention changes.
    pub(crate) reconfigured: Vec<StreamConfig>,
    /// Streams to remove.
    pub(crate) dropped_streams: BTreeSet<ObjectId>,
    /// Tables to remove.
    pub(crate) dropped_tables: BTreeSet<ObjectId>,
    /// Queries to start, inputs first.
    pub(crate) start: Vec<(ObjectId, ContinuousQuery)>,
    /// Queries to stop for a moment and start anew with another plan.
    pub(crate) replace: Vec<(ObjectId, ContinuousQuery)>,
    /// Prefixes of operator state that is no longer used.
    pub(crate) stale: Vec<Vec<u8>>,
    /// Queries that may keep so many bytes of state from now on.
    pub(crate) state_limits: Vec<(ObjectId, Option<u64>)>,
    /// Queries to pause (true) or resume.
    pub(crate) paused: Vec<(ObjectId, bool)>,
}

/// A registration that takes effect at commit.
#[derive(Debug, Clone)]
pub(crate) enum ListenChange {
    /// `LISTEN channel`, with the stream it names, if any.
    Listen(String, Option<ObjectId>),
    /// `UNLISTEN channel`.
    Unlisten(String),
    /// `UNLISTEN *`.
    UnlistenAll,
}

/// Everything a transaction has done.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) appends: Vec<Append>,
    pub(crate) staged: Vec<Staged>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) locks: BTreeMap<ObjectId, OwnedMutexGuard<()>>,
    pub(crate) ddl: Option<Ddl>,
    pub(crate) notifies: Vec<(String, String)>,
    pub(crate) listens: Vec<ListenChange>,
    savepoints: Vec<Savepoint>,
}

struct Savepoint {
    name: String,
    appends: usize,
    staged: usize,
    overlay: Arc<Overlay>,
    notifies: usize,
    listens: usize,
    commands: usize,
}

impl Work {
    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.staged.is_empty()
            && self.overlay.is_empty()
            && self.ddl.as_ref().is_none_or(|d| d.commands.is_empty())
            && self.notifies.is_empty()
            && self.listens.is_empty()
    }

    fn commands(&self) -> usize {
        self.ddl.as_ref().map_or(0, |d| d.commands.len())
    }

    /// Marks a place to come back to.
    pub(crate) fn savepoint(&mut self, name: &str) {
        self.savepoints.push(Savepoint {
            name: name.to_string(),
            appends: self.appends.len(),
            staged: self.staged.len(),
            overlay: self.overlay.clone(),
            notifies: self.notifies.len(),
            listens: self.listens.len(),
            commands: self.commands(),
        });
    }

    /// Forgets a savepoint and those after it; false when there is none of this name.
    pub(crate) fn release(&mut self, name: &str) -> bool {
        match self.savepoints.iter().rposition(|s| s.name == name) {
            Some(at) => {
                self.savepoints.truncate(at);
                true
            }
            None => false,
        }
    }

    /// Goes back to a savepoint, which stays. `None` when there is none of this name, `Some(false)`
    /// when the catalog was changed after it, which cannot be taken back in part.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Option<bool> {
        let at = self.savepoints.iter().rposition(|s| s.name == name)?;
        self.savepoints.truncate(at + 1);
        let savepoint = &self.savepoints[at];
        if self.commands() != savepoint.commands {
            return Some(false);
        }
        self.appends.truncate(savepoint.appends);
        self.staged.truncate(savepoint.staged);
        self.overlay = savepoint.overlay.clone();
        self.notifies.truncate(savepoint.notifies);
        self.listens.truncate(savepoint.listens);
        Some(true)
    }
}
