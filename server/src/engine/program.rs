//! Programs: VPL at the prompt and in pipelines, SQL pipelines, files of `auspex run`.

use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::catalog::{
    CatalogCommand, Column, Language, Object, ObjectId, ObjectKind, ObjectName, Pipeline,
};
use auspex_plan::{ContinuousQuery, Diagnostic, SqlState};
use auspex_sql::statement::{CreatePipeline, StatementKind};
use auspex_vpl::bind::BindContext;

use super::ddl;
use super::now_us;
use super::session::Session;

/// What a program makes, not yet part of the catalog.
pub(super) struct Made {
    pub(super) objects: Vec<Object>,
    pub(super) queries: Vec<(ObjectId, ContinuousQuery)>,
}

/// Runs VPL declarations typed at the prompt: each becomes an object of the first schema of the
/// search path.
pub(super) async fn run_vpl(session: &mut Session, text: &str) -> Result<String, Diagnostic> {
    session.require_writable("CREATE STREAM")?;
    let schema = session.settings.search_path().remove(0);
    session.ddl().await?;
    let made = make_vpl(session, text, &schema, None).await?;
    if made.objects.is_empty() {
        return Err(Diagnostic::unsupported("this program declares no event and no stream")
            .hint("Constants and functions belong into the same message as the streams that use them, or into CREATE PIPELINE."));
    }
    session.ddl().await?.create(Vec::new(), made.objects, made.queries)?;
    Ok("CREATE STREAM".into())
}

impl Session {
    /// Adds the objects of a VPL program to the transaction. `infer` has the columns of event types
    /// that the program uses and does not declare.
    pub async fn load_vpl(
        &mut self,
        text: &str,
        infer: &BTreeMap<String, Vec<Column>>,
    ) -> Result<(), Diagnostic> {
        let schema = self.settings.search_path().remove(0);
        self.ddl().await?;
        let made = make_vpl(self, text, &schema, Some(infer)).await?;
        self.ddl().await?.create(Vec::new(), made.objects, made.queries)
    }
}

/// Binds a VPL program whose objects go to `schema`.
async fn make_vpl(
    session: &mut Session,
    text: &str,
    schema: &str,
    infer: Option<&BTreeMap<String, Vec<Column>>>,
) -> Result<Made, Diagnostic> {
    let catalog = session.catalog();
    let parsed = auspex_vpl::parse(text);
    if let Some(error) = first_error(parsed.diagnostics) {
        return Err(error);
    }
    let context = BindContext { catalog: &catalog, schema, next_id: catalog.next_id(), infer };
    let bound = auspex_vpl::bind::bind(&parsed.program, text, &context)
        .map_err(|all| first_error(all).expect("binding fails with an error"))?;
    for warning in bound.warnings {
        session.notice(warning);
    }
    let mut made = Made { objects: Vec::new(), queries: Vec::new() };
    let new: BTreeSet<ObjectId> = bound.items.iter().map(|i| i.id).collect();
    for item in bound.items {
        let mut stream = item.stream;
        if let Some(query) = item.query {
            let query = session.engine.optimize(query)?;
            let existing: Vec<ObjectId> =
                query.inputs.iter().copied().filter(|i| !new.contains(i)).collect();
            if let Some(definition) = &mut stream.definition {
                definition.start = session.starts(&existing, false).await?;
                definition
                    .start
                    .extend(query.inputs.iter().filter(|i| new.contains(i)).map(|i| (*i, 0)));
            }
            made.queries.push((item.id, query));
        }
        made.objects.push(Object {
            id: item.id,
            name: ObjectName::new(schema, &item.name),
            created_us: now_us(),
            kind: ObjectKind::Stream(stream),
        });
    }
    Ok(made)
}

fn first_error(diagnostics: Vec<Diagnostic>) -> Option<Diagnostic> {
    diagnostics.into_iter().find(|d| d.severity == auspex_plan::Severity::Error)
}

/// `CREATE PIPELINE name AS $$ .. $$`: a schema of its own, all or nothing.
pub(super) async fn create_pipeline(
    session: &mut Session,
    create: &CreatePipeline,
) -> Result<String, Diagnostic> {
    session.require_writable("CREATE PIPELINE")?;
    let name = create.name.value.clone();
    let catalog = session.ddl().await?.catalog.clone();
    let existing =
        catalog.objects().find(|o| o.pipeline().is_some() && o.name.name == name).map(|o| o.id);
    match existing {
        Some(_) if create.if_not_exists => {
            session.notice(Diagnostic {
                state: SqlState::DUPLICATE_OBJECT,
                ..Diagnostic::warning(format!("pipeline \"{name}\" already exists, skipping"))
            });
            return Ok("CREATE PIPELINE".into());
        }
        Some(_) if !create.or_replace => {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_OBJECT,
                format!("pipeline \"{name}\" already exists"),
            )
            .at(create.name.span)
            .hint("Use CREATE OR REPLACE PIPELINE to put another program in its place."));
        }
        Some(id) => {
            let members: BTreeSet<ObjectId> =
                catalog.in_schema(&name).map(|o| o.id).chain([id]).collect();
            session.ddl().await?.drop(members)?;
            session.notice(Diagnostic {
                state: SqlState("00000"),
                ..Diagnostic::warning(format!(
                    "the streams of the old program of pipeline \"{name}\" are gone with their rows"
                ))
            });
        }
        None if catalog.schemas().contains(name.as_str()) => {
            return Err(Diagnostic::error(
                SqlState::DUPLICATE_SCHEMA,
                format!("schema \"{name}\" already exists"),
            )
            .at(create.name.span));
        }
        None => {}
    }
    let pipeline = Pipeline { language: create.language, text: create.body.clone(), paused: false };
    let ddl = session.ddl().await?;
    let object = Object {
        id: ddl.catalog.next_id(),
        name: ObjectName::new(&name, &name),
        created_us: now_us(),
        kind: ObjectKind::Pipeline(pipeline),
    };
    ddl.apply(CatalogCommand::Create { drop: Vec::new(), objects: vec![object] })?;
    let shifted = |mut error: Diagnostic| {
        error.span = error.span.map(|s| {
            auspex_plan::Span::new(s.start + create.body_span.start, s.end + create.body_span.start)
        });
        error
    };
    match create.language {
        Language::Vpl => {
            let made = make_vpl(session, &create.body, &name, None).await.map_err(shifted)?;
            session.ddl().await?.create(Vec::new(), made.objects, made.queries)?;
        }
        Language::Sql => run_sql(session, &create.body, &name).await.map_err(shifted)?,
    }
    Ok("CREATE PIPELINE".into())
}

/// The statements of a SQL pipeline, in order.
async fn run_sql(session: &mut Session, text: &str, schema: &str) -> Result<(), Diagnostic> {
    for statement in auspex_sql::parse(text)? {
        match &statement.kind {
            StatementKind::CreateStream(create) => {
                ddl::create_stream(session, create, Some(schema)).await?;
            }
            StatementKind::CreateStreamAs(create) => {
                ddl::create_stream_as(session, create, Some(schema)).await?;
            }
            _ => {
                return Err(Diagnostic::unsupported(
                    "a pipeline consists of CREATE STREAM statements only",
                )
                .at(statement.span));
            }
        }
    }
    Ok(())
}
