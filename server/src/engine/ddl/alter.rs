//! `ALTER`.

use auspex_plan::catalog::{CatalogCommand, Object, ObjectId, ObjectName, Retention};
use auspex_plan::{Diagnostic, SqlState};
use auspex_sql::statement::{Alter, AlterAction, RelationKind};

use super::super::session::Session;
use super::super::stream_config;
use super::drop::{find_kind, missing};
use super::options::{OptionsOf, StreamOptions};

/// `ALTER ..`.
pub(in crate::engine) async fn alter(
    session: &mut Session,
    alter: &Alter,
) -> Result<String, Diagnostic> {
    let tag = format!("ALTER {}", alter.kind.name().to_uppercase());
    session.require_writable(&tag)?;
    let path = session.settings.search_path();
    let catalog = session.ddl().await?.catalog.clone();
    let object = match find_kind(&catalog, &path, &alter.name, alter.kind)? {
        Some(object) => object.clone(),
        None if alter.if_exists => {
            session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(format!(
                    "{} \"{}\" does not exist, skipping",
                    alter.kind.name(),
                    alter.name
                ))
            });
            return Ok(tag);
        }
        None => return Err(missing(&catalog, &alter.name, alter.kind)),
    };
    match &alter.action {
        AlterAction::Rename(to) => {
            let schema = match alter.kind {
                RelationKind::Pipeline => to.value.clone(),
                _ => object.name.schema.clone(),
            };
            let name = ObjectName::new(schema, &to.value);
            let command = CatalogCommand::Rename { id: object.id, name };
            session.ddl().await?.apply(command).map_err(|e| e.at(to.span))?;
        }
        AlterAction::Set(options) => {
            let of = match object.definition() {
                Some(_) => OptionsOf::AlterQuery,
                None => OptionsOf::AlterSource,
            };
            let options = StreamOptions::read(options, of)?;
            let old = object.log().map(|s| s.retention).unwrap_or_default();
            let retention = options.retention(old);
            if let Some(bytes) = options.max_state_bytes {
                let ddl = session.ddl().await?;
                ddl.apply(CatalogCommand::SetStateLimit { id: object.id, bytes })?;
                ddl.state_limits.push((object.id, bytes));
            }
            if object.log().is_none() || retention != old {
                set_retention(session, object.id, retention).await?;
            }
        }
        AlterAction::Pause => set_paused(session, &object, true).await?,
        AlterAction::Resume => set_paused(session, &object, false).await?,
    }
    Ok(tag)
}

pub(super) async fn set_retention(
    session: &mut Session,
    id: ObjectId,
    retention: Retention,
) -> Result<(), Diagnostic> {
    let ddl = session.ddl().await?;
    ddl.apply(CatalogCommand::SetRetention { id, retention })?;
    let config = ddl.catalog.get(id).and_then(stream_config);
    match ddl.created.iter_mut().find(|c| c.id == id) {
        Some(created) => {
            if let Some(config) = config {
                *created = config;
            }
        }
        None => ddl.reconfigured.extend(config),
    }
    Ok(())
}

async fn set_paused(
    session: &mut Session,
    object: &Object,
    paused: bool,
) -> Result<(), Diagnostic> {
    let ddl = session.ddl().await?;
    ddl.apply(CatalogCommand::SetPaused { id: object.id, paused })?;
    let ids: Vec<ObjectId> = match object.pipeline() {
        Some(_) => ddl
            .catalog
            .in_schema(&object.name.schema)
            .filter(|o| o.definition().is_some())
            .map(|o| o.id)
            .collect(),
        None => vec![object.id],
    };
    ddl.paused.extend(ids.into_iter().map(|id| (id, paused)));
    Ok(())
}
