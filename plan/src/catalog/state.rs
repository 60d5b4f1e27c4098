//! The catalog's state and how commands change it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{CatalogCommand, CatalogError};
use super::object::{Object, ObjectId, ObjectKind, ObjectName};

/// Schema of objects that are not part of a pipeline.
pub const DEFAULT_SCHEMA: &str = "public";

/// First id given to an object: PostgreSQL's first id of user objects, so that clients which tell
/// system objects by their number get it right.
const FIRST_ID: ObjectId = 16_384;

/// All objects, by id and by name. Cloning gives a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    next_id: ObjectId,
    version: u64,
    objects: BTreeMap<ObjectId, Object>,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog { next_id: FIRST_ID, version: 0, objects: BTreeMap::new() }
    }
}

impl Catalog {
    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id that the next object should get.
    pub fn next_id(&self) -> ObjectId {
        self.next_id
    }

    /// Number of commands applied.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All objects, ascending by id.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// The object with this id.
    pub fn get(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(&id)
    }

    /// The object of exactly this name.
    pub fn by_name(&self, name: &ObjectName) -> Option<&Object> {
        self.objects.values().find(|o| o.name == *name)
    }

    /// The object a user means by `name` in `schema`: the exact name, or else the only one that
    /// differs in case alone (so that unquoted SQL finds objects made from VPL).
    pub fn resolve(&self, schema: &str, name: &str) -> Option<&Object> {
        let exact = self.objects.values().find(|o| o.name.schema == schema && o.name.name == name);
        if exact.is_some() {
            return exact;
        }
        let mut similar = self.objects.values().filter(|o| {
            o.name.schema.eq_ignore_ascii_case(schema) && o.name.name.eq_ignore_ascii_case(name)
        });
        match (similar.next(), similar.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Schemas that exist: the default one and one per pipeline.
    pub fn schemas(&self) -> BTreeSet<&str> {
        self.objects.values().map(|o| o.name.schema.as_str()).chain([DEFAULT_SCHEMA]).collect()
    }

    /// Objects in `schema`, the pipeline that makes it left out, ascending by id.
    pub fn in_schema<'a>(&'a self, schema: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.values().filter(move |o| o.name.schema == schema && o.pipeline().is_none())
    }

    /// Objects that read `id` directly, or belong to the pipeline `id`.
    pub fn dependents(&self, id: ObjectId) -> BTreeSet<ObjectId> {
        let members =
            self.get(id).filter(|o| o.pipeline().is_some()).map(|o| o.name.schema.clone());
        self.objects
            .values()
            .filter(|o| {
                o.id != id
                    && (o.inputs().any(|i| i == id)
                        || members.as_ref().is_some_and(|schema| o.name.schema == *schema))
            })
            .map(|o| o.id)
            .collect()
    }

    /// `ids` and everything that depends on them, directly or not.
    pub fn with_dependents(&self, ids: impl IntoIterator<Item = ObjectId>) -> BTreeSet<ObjectId> {
        let mut found = BTreeSet::new();
        let mut open: Vec<ObjectId> = ids.into_iter().collect();
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(self.dependents(id));
            }
        }
        found
    }

    /// Applies `command`, or leaves the catalog as it is and says why.
    pub fn apply(&mut self, command: &CatalogCommand) -> Result<(), CatalogError> {
        let mut next = self.clone();
        next.change(command)?;
        next.version += 1;
        *self = next;
        Ok(())
    }

    fn change(&mut self, command: &CatalogCommand) -> Result<(), CatalogError> {
        match command {
            CatalogCommand::Create { drop, objects } => {
                self.drop_all(drop)?;
                objects.iter().try_for_each(|o| self.insert(o.clone()))
            }
            CatalogCommand::Drop { ids } => self.drop_all(ids),
            CatalogCommand::ReplaceQuery { id, definition } => {
                let object = self.get_mut(*id)?;
                match object.definition_mut() {
                    Some(old) => {
                        *old = definition.clone();
                        Ok(())
                    }
                    None => Err(wrong_kind(object, "derived stream")),
                }
            }
            CatalogCommand::Rename { id, name } => self.rename(*id, name),
            CatalogCommand::SetPaused { id, paused } => self.set_paused(*id, *paused),
            CatalogCommand::SetRetention { id, retention } => {
                let object = self.get_mut(*id)?;
                match object.log_mut() {
                    Some(stream) => {
                        stream.retention = *retention;
                        Ok(())
                    }
                    None => Err(wrong_kind(object, "stream")),
                }
            }
            CatalogCommand::SetStateLimit { id, bytes } => {
                let object = self.get_mut(*id)?;
                match object.definition_mut() {
                    Some(definition) => {
                        definition.max_state_bytes = *bytes;
                        Ok(())
                    }
                    None => Err(wrong_kind(object, "derived stream")),
                }
            }
        }
    }

    fn insert(&mut self, object: Object) -> Result<(), CatalogError> {
        if object.id < self.next_id {
            return Err(CatalogError::Conflict(format!("id {} is taken", object.id)));
        }
        if self.by_name(&object.name).is_some() {
            return Err(CatalogError::Exists(object.name));
        }
        if let Some(missing) = object.inputs().find(|i| !self.objects.contains_key(i)) {
            return Err(CatalogError::Conflict(format!(
                "{} reads object {missing}, which is gone",
                object.name
            )));
        }
        self.next_id = object.id + 1;
        self.objects.insert(object.id, object);
        Ok(())
    }

    fn drop_all(&mut self, ids: &[ObjectId]) -> Result<(), CatalogError> {
        let going: BTreeSet<ObjectId> = ids.iter().copied().collect();
        for id in &going {
            let object = self.get(*id).ok_or(CatalogError::Unknown(*id))?;
            let dependents: Vec<ObjectName> = self
                .dependents(*id)
                .difference(&going)
                .filter_map(|d| self.get(*d))
                .map(|o| o.name.clone())
                .collect();
            if !dependents.is_empty() {
                return Err(CatalogError::Dependents { name: object.name.clone(), dependents });
            }
        }
        self.objects.retain(|id, _| !going.contains(id));
        Ok(())
    }

    fn rename(&mut self, id: ObjectId, name: &ObjectName) -> Result<(), CatalogError> {
        if self.by_name(name).is_some_and(|o| o.id != id) {
            return Err(CatalogError::Exists(name.clone()));
        }
        let object = self.get_mut(id)?;
        let old = std::mem::replace(&mut object.name, name.clone());
        if object.pipeline().is_some() {
            for member in self.objects.values_mut().filter(|o| o.name.schema == old.schema) {
                member.name.schema.clone_from(&name.schema);
            }
        }
        Ok(())
    }

    fn set_paused(&mut self, id: ObjectId, paused: bool) -> Result<(), CatalogError> {
        let object = self.get_mut(id)?;
        let mut members = None;
        if let ObjectKind::Pipeline(p) = &mut object.kind {
            p.paused = paused;
            members = Some(object.name.schema.clone());
        } else if object.definition().is_none() {
            return Err(wrong_kind(object, "pipeline or derived stream"));
        }
        for o in self.objects.values_mut() {
            let chosen = o.id == id || members.as_ref().is_some_and(|m| o.name.schema == *m);
            if let (true, Some(definition)) = (chosen, o.definition_mut()) {
                definition.paused = paused;
            }
        }
        Ok(())
    }

    fn get_mut(&mut self, id: ObjectId) -> Result<&mut Object, CatalogError> {
        self.objects.get_mut(&id).ok_or(CatalogError::Unknown(id))
    }
}

fn wrong_kind(object: &Object, expected: &'static str) -> CatalogError {
    CatalogError::WrongKind { name: object.name.clone(), expected }
}
