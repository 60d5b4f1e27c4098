//! Plans and errors of whole statements.

mod changes;
mod continuous;
mod errors;
mod queries;
mod robust;
mod rules;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use auspex_plan::catalog::Language;
use auspex_plan::catalog::{
    Catalog, CatalogCommand, Column, Object, ObjectKind, ObjectName, Pipeline, Retention, Stream,
    Table,
};
use auspex_plan::relation::with_system_columns;
use auspex_plan::{ColumnType as C, Diagnostic, EventTime};
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::{Expr, TableSource};

use super::{Binder, Functions, Sources};
use crate::statement::{Query, StatementKind};

struct Fixed;

impl Sources for Fixed {
    fn relation(&self, object: &Object, system_columns: bool) -> Arc<dyn TableSource> {
        let schema = object.schema();
        Arc::new(LogicalTableSource::new(if system_columns {
            with_system_columns(&schema)
        } else {
            schema
        }))
    }

    fn system_relation(&self, schema: &str, name: &str) -> Option<Arc<dyn TableSource>> {
        (schema == "pg_catalog" && name == "pg_class").then(|| {
            let columns = [Column::new("oid", C::BigInt), Column::new("relname", C::Text)];
            Arc::new(LogicalTableSource::new(auspex_plan::catalog::arrow_schema(&columns)))
                as Arc<dyn TableSource>
        })
    }

    fn has_table_function(&self, name: &str) -> bool {
        name == "generate_series"
    }

    fn table_function(
        &self,
        name: &str,
        _args: &[Expr],
    ) -> Option<datafusion::common::Result<Arc<dyn TableSource>>> {
        self.has_table_function(name).then(|| {
            let columns = [Column::new("value", C::BigInt)];
            Ok(Arc::new(LogicalTableSource::new(auspex_plan::catalog::arrow_schema(&columns)))
                as Arc<dyn TableSource>)
        })
    }
}

fn stream(columns: Vec<Column>) -> ObjectKind {
    ObjectKind::Stream(Stream {
        columns,
        event_time: EventTime::Arrival,
        clocks: Vec::new(),
        idle_timeout_us: auspex_plan::Clock::IDLE_TIMEOUT_US,
        checks: vec![("positive".into(), "price > 0".into())],
        retention: Retention::default(),
        definition: None,
    })
}

/// `trades` and `quotes` (streams), `users` (table), pipeline `Fraud` with stream `Alerts`.
pub(super) fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    let trades = || {
        let mut symbol = Column::new("symbol", C::Text);
        symbol.not_null = true;
        let mut day = Column::new("day", C::Date);
        day.generated = Some("ts::date".into());
        let mut volume = Column::new("volume", C::BigInt);
        volume.default = Some("1".into());
        vec![
            symbol,
            Column::new("price", C::Double),
            volume,
            Column::new("ts", C::Timestamptz),
            day,
        ]
    };
    let mut id = Column::new("id", C::BigInt);
    id.not_null = true;
    let mut name = Column::new("name", C::Varchar(10));
    name.default = Some("'nobody'".into());
    let kinds = [
        (ObjectName::new("public", "trades"), stream(trades())),
        (
            ObjectName::new("public", "quotes"),
            stream(vec![
                Column::new("symbol", C::Text),
                Column::new("price", C::Double),
                Column::new("small", C::SmallInt),
                Column::new("ok", C::Boolean),
                Column::new("tags", C::Array(Box::new(C::Text))),
                Column::new("n", C::Numeric { precision: 10, scale: 2 }),
                Column::new("u", C::Uuid),
                Column::new("b", C::Bytea),
                Column::new("j", C::Jsonb),
            ]),
        ),
        (
            ObjectName::new("public", "users"),
            ObjectKind::Table(Table {
                columns: vec![
                    id,
                    name,
                    Column::new("score", C::Integer),
                    Column::new("at", C::Timestamptz),
                ],
                primary_key: vec![0],
                checks: Vec::new(),
            }),
        ),
        (
            ObjectName::new("Fraud", "Fraud"),
            ObjectKind::Pipeline(Pipeline {
                language: Language::Vpl,
                text: String::new(),
                paused: false,
            }),
        ),
        (
            ObjectName::new("Fraud", "Alerts"),
            stream(vec![
                Column::new("userId", C::BigInt),
                Column::new("amount", C::Double),
                Column::new("price", C::Double),
            ]),
        ),
    ];
    for (name, kind) in kinds {
        let id = catalog.next_id();
        let object = Object { id, name, created_us: 0, kind };
        catalog
            .apply(&CatalogCommand::Create { drop: Vec::new(), objects: vec![object] })
            .expect("the catalog of the tests");
    }
    catalog
}

pub(super) fn binder() -> Binder {
    Binder::new(Arc::new(catalog()), Arc::new(Functions::standard()), Arc::new(Fixed))
}

pub(super) fn id(name: &str) -> u32 {
    let catalog = catalog();
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    catalog.by_name(&ObjectName::new(schema, name)).expect("known").id
}

pub(super) fn statement(text: &str) -> StatementKind {
    crate::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}")).remove(0).kind
}

pub(super) fn query(text: &str) -> Query {
    match statement(text) {
        StatementKind::Query(q) => q,
        _ => panic!("not a query: {text}"),
    }
}

/// `a b; c d` of the output columns: names and types.
pub(super) fn columns(text: &str) -> String {
    let bound = binder().bind_query(&query(text), &[]).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    bound
        .columns
        .fields()
        .iter()
        .map(|f| format!("{} {}", f.name(), C::from_field(f).expect("a column type")))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn plan(text: &str) -> String {
    let bound = binder().bind_query(&query(text), &[]).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    bound.plan.display_indent().to_string()
}

/// `result` is this error, whose place begins with `caret` in `text` ("" for no place).
pub(super) fn refused<T: std::fmt::Debug>(
    result: Result<T, Diagnostic>,
    text: &str,
    state: &str,
    message: &str,
    caret: &str,
) {
    let error = result.err().unwrap_or_else(|| panic!("accepted: {text}"));
    assert_eq!((error.state.0, error.message.as_str()), (state, message), "{text}\n{error:?}");
    match error.span {
        Some(span) => {
            let rest = text.get(span.start..).unwrap_or_default();
            assert!(!caret.is_empty() && rest.starts_with(caret), "{text}: place is {rest:?}");
        }
        None => assert_eq!(caret, "", "{text}: no place"),
    }
}

pub(super) fn bindings(names: &[(&str, u32)]) -> BTreeMap<String, u32> {
    names.iter().map(|(n, id)| ((*n).to_string(), *id)).collect()
}
