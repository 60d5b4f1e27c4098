//! Changes that a transaction has made to tables and not committed yet.

use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::catalog::ObjectId;
use auspex_storage::{SharedStore, StorageError, TableChange};

/// Rows of one table as the transaction sees them: `Some` replaces, `None` deletes.
pub(crate) type TableOverlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Uncommitted changes of all tables. Cloned into every statement's snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    tables: BTreeMap<ObjectId, TableOverlay>,
}

impl Overlay {
    /// Records a change.
    pub(crate) fn change(&mut self, table: ObjectId, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.tables.entry(table).or_default().insert(key, value);
    }

    /// Whether nothing has been changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The changes as the store takes them.
    pub(crate) fn into_changes(self) -> Vec<TableChange> {
        self.tables
            .into_iter()
            .flat_map(|(table, rows)| {
                rows.into_iter().map(move |(key, value)| TableChange { table, key, value })
            })
            .collect()
    }

    /// The row of `key`, if any.
    pub(crate) fn get(
        &self,
        store: &SharedStore,
        table: ObjectId,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match self.tables.get(&table).and_then(|t| t.get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => store.table_get(table, key),
        }
    }

    /// Keys of all rows of a table.
    pub(crate) fn keys(
        &self,
        store: &SharedStore,
        table: ObjectId,
    ) -> Result<BTreeSet<Vec<u8>>, StorageError> {
        let mut keys: BTreeSet<Vec<u8>> = store
            .table_scan(table)?
            .map(|row| row.map(|(key, _)| key))
            .collect::<Result<_, _>>()?;
        for (key, value) in self.tables.get(&table).into_iter().flatten() {
            match value {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        Ok(keys)
    }

    /// All encoded rows of a table in key order.
    pub(crate) fn scan(
        &self,
        store: &SharedStore,
        table: ObjectId,
    ) -> Result<Vec<Vec<u8>>, StorageError> {
        let Some(changed) = self.tables.get(&table) else {
            return store.table_scan(table)?.map(|row| row.map(|(_, value)| value)).collect();
        };
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> =
            store.table_scan(table)?.collect::<Result<_, _>>()?;
        for (key, value) in changed {
            match value {
                Some(v) => rows.insert(key.clone(), v.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_values().collect())
    }
}
