//! `DROP`, and finding what `DROP` and `ALTER` name.

use std::collections::BTreeSet;

use auspex_plan::catalog::{Catalog, Object, ObjectId};
use auspex_plan::{Diagnostic, SqlState};
use auspex_sql::statement::{DropStatement, Name, RelationKind};

use super::super::catalog::{find, unknown};
use super::super::session::Session;

/// `DROP ..`.
pub(in crate::engine) async fn drop(
    session: &mut Session,
    statement: &DropStatement,
) -> Result<String, Diagnostic> {
    let tag = format!("DROP {}", statement.kind.name().to_uppercase());
    session.require_writable(&tag)?;
    let path = session.settings.search_path();
    let catalog = session.ddl().await?.catalog.clone();
    let mut ids = BTreeSet::new();
    for name in &statement.names {
        match find_kind(&catalog, &path, name, statement.kind)? {
            Some(object) => {
                refuse_member(&catalog, object, statement.kind)?;
                ids.insert(object.id);
            }
            None if statement.if_exists => session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(format!(
                    "{} \"{name}\" does not exist, skipping",
                    statement.kind.name()
                ))
            }),
            None => return Err(missing(&catalog, name, statement.kind)),
        }
    }
    if ids.is_empty() {
        return Ok(tag);
    }
    // The members of a pipeline go with it; what others made of them needs CASCADE.
    let members: BTreeSet<ObjectId> = ids
        .iter()
        .filter_map(|id| catalog.get(*id))
        .filter(|o| o.pipeline().is_some())
        .flat_map(|o| catalog.in_schema(&o.name.schema).map(|m| m.id).collect::<Vec<_>>())
        .collect();
    ids.extend(members);
    if statement.cascade {
        let all = catalog.with_dependents(ids.iter().copied());
        let others: Vec<String> = all
            .difference(&ids)
            .filter_map(|id| catalog.get(*id))
            .map(|o| format!("drop cascades to {} {}", o.kind_name(), o.name))
            .collect();
        if !others.is_empty() {
            session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(others.join("\n"))
            });
        }
        ids = all;
    }
    session.ddl().await?.drop(ids)?;
    Ok(tag)
}

/// A stream of a pipeline is changed through its pipeline.
fn refuse_member(catalog: &Catalog, object: &Object, kind: RelationKind) -> Result<(), Diagnostic> {
    let pipeline = catalog.objects().find(|o| {
        o.pipeline().is_some() && o.name.schema == object.name.schema && o.id != object.id
    });
    match pipeline {
        Some(p) if kind != RelationKind::Pipeline => Err(Diagnostic::error(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {} because pipeline {} requires it", object.name, p.name.name),
        )
        .hint("Replace or drop the pipeline instead.")),
        _ => Ok(()),
    }
}

pub(super) fn find_kind<'a>(
    catalog: &'a Catalog,
    path: &[String],
    name: &Name,
    kind: RelationKind,
) -> Result<Option<&'a Object>, Diagnostic> {
    let object = match kind {
        RelationKind::Pipeline => catalog
            .objects()
            .filter(|o| o.pipeline().is_some())
            .find(|o| o.name.name.eq_ignore_ascii_case(&name.name.value)),
        _ => find(catalog, path, name),
    };
    match object {
        Some(o) if o.kind_name() == kind.name() => Ok(Some(o)),
        Some(o) => Err(Diagnostic::error(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a {}", kind.name()),
        )
        .at(name.span())
        .hint(format!(
            "Use DROP {} to remove a {}.",
            o.kind_name().to_uppercase(),
            o.kind_name()
        ))),
        None => Ok(None),
    }
}

pub(super) fn missing(catalog: &Catalog, name: &Name, kind: RelationKind) -> Diagnostic {
    match kind {
        RelationKind::Pipeline => Diagnostic::error(
            SqlState::UNDEFINED_OBJECT,
            format!("pipeline \"{name}\" does not exist"),
        )
        .at(name.span()),
        _ => {
            let mut error = unknown(catalog, name);
            error.message = format!("{} \"{name}\" does not exist", kind.name());
            error
        }
    }
}
