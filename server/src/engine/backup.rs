//! `BACKUP TO 'directory'`.

use std::path::PathBuf;

use auspex_plan::{Diagnostic, SqlState};

use super::api::TransactionStatus;
use super::errors;
use super::session::Session;

/// Copies the store as it stands into a new directory, while everything goes on.
pub(super) async fn backup(session: &mut Session, directory: &str) -> Result<String, Diagnostic> {
    if session.status() != TransactionStatus::Idle {
        return Err(Diagnostic::error(
            SqlState::ACTIVE_SQL_TRANSACTION,
            "BACKUP cannot run inside a transaction block",
        ));
    }
    let path = PathBuf::from(directory);
    if !path.is_absolute() {
        return Err(Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the directory of a backup must be an absolute path, not \"{directory}\""),
        )
        .hint("It is made on the machine of the server."));
    }
    if path.exists() {
        return Err(Diagnostic::error(
            SqlState("58P02"),
            format!("directory \"{directory}\" exists already"),
        )
        .hint("Each backup makes a new directory."));
    }
    let store = session.engine.store.clone();
    tokio::task::spawn_blocking(move || store.backup(&path))
        .await
        .map_err(|_| errors::storage(auspex_storage::StorageError::Closed))?
        .map_err(errors::storage)?;
    Ok("BACKUP".into())
}
