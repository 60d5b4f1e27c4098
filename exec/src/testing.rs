//! What the tests of this crate share: plans by hand, rows as text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use auspex_plan::relation::with_op_column;
use auspex_plan::types::UTC;
use auspex_plan::{Clock, ContinuousQuery, OnError, StreamRelation};
use auspex_storage::{EventBatch, Run};
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNode, cast, col,
};
use datafusion::optimizer::analyzer::Analyzer;

use crate::json;
use crate::optimize::optimize;

/// Columns of every test stream: `k text, a bigint, b bigint, v double precision`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8View, true),
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("v", DataType::Float64, true),
    ]))
}

/// A scan of stream `id`, which is called `s<id>`.
pub(crate) fn stream(id: u32) -> LogicalPlanBuilder {
    scan(id, &schema(), false)
}

/// A scan of stream `id` with a watermark: the greatest event time of its rows, less `delay_us`.
pub(crate) fn timed(id: u32, delay_us: i64) -> LogicalPlanBuilder {
    timed_scan(id, delay_us, false)
}

/// The same with the system columns or without.
pub(crate) fn timed_scan(id: u32, delay_us: i64, system: bool) -> LogicalPlanBuilder {
    let idle_timeout_us = Clock::IDLE_TIMEOUT_US;
    let clock = Clock { stream: id, delay_us, arrival: false, idle_timeout_us };
    let name = format!("s{id}");
    let relation = StreamRelation::new(id, name.clone(), &schema(), vec![clock], system);
    LogicalPlanBuilder::scan(name, Arc::new(relation), None).expect("a scan")
}

/// An integer column as a timestamp of so many microseconds since 1970.
pub(crate) fn as_time(column: &str) -> Expr {
    cast(col(column), DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())))
}

/// A plan with a node of our own on top.
pub(crate) fn extend<N: UserDefinedLogicalNode + 'static>(
    plan: LogicalPlanBuilder,
    node: impl FnOnce(LogicalPlan) -> N,
) -> LogicalPlanBuilder {
    let input = plan.build().expect("a plan");
    LogicalPlanBuilder::from(LogicalPlan::Extension(Extension { node: Arc::new(node(input)) }))
}

/// A scan of stream `id` of any columns, with the system columns or without.
pub(crate) fn scan(id: u32, schema: &Schema, system: bool) -> LogicalPlanBuilder {
    let name = format!("s{id}");
    let relation = StreamRelation::new(id, name.clone(), schema, Vec::new(), system);
    LogicalPlanBuilder::scan(name, Arc::new(relation), None).expect("a scan")
}

/// The query of a plan, analysed and optimised as front ends do it.
pub(crate) fn query(plan: LogicalPlanBuilder, on_error: OnError) -> ContinuousQuery {
    let plan = analysed(plan.build().expect("a plan"));
    let plan = optimize(plan).expect("an optimised plan");
    ContinuousQuery { plan, inputs: vec![], on_error, warnings: vec![] }
}

fn analysed(plan: LogicalPlan) -> LogicalPlan {
    Analyzer::new().execute_and_check(plan, &ConfigOptions::default(), |_, _| {}).expect("analysis")
}

/// All columns of a test stream, for projections.
pub(crate) fn all() -> Vec<datafusion::logical_expr::Expr> {
    vec![col("k"), col("a"), col("b"), col("v")]
}

/// Rows of [`schema`] from lines `k a b v`; `-` is null. A fifth word is the column `_op`.
pub(crate) fn rows(text: &str) -> RecordBatch {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| !words.is_empty())
        .collect();
    let word = |i: usize| lines.iter().map(move |words| Some(words[i]).filter(|w| *w != "-"));
    let int = |i: usize| -> ArrayRef {
        Arc::new(word(i).map(|w| w.map(|w| w.parse().expect("int"))).collect::<Int64Array>())
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(word(0).collect::<StringViewArray>()),
        int(1),
        int(2),
        Arc::new(word(3).map(|w| w.map(|w| w.parse().expect("float"))).collect::<Float64Array>()),
    ];
    let mut schema = schema();
    if lines.first().is_some_and(|words| words.len() == 5) {
        columns.push(Arc::new(word(4).collect::<StringViewArray>()));
        schema = with_op_column(&schema);
    }
    RecordBatch::try_new(schema, columns).expect("rows")
}

/// Events with consecutive places from `sequence` on; the event time of a row is its place.
pub(crate) fn events(text: &str, offset: u64, sequence: i64) -> EventBatch {
    EventBatch {
        rows: rows(text),
        offset,
        sequence: Run::Sequence(sequence),
        time: Run::Sequence(sequence),
        ingested: Run::Constant(0),
    }
}

/// Rows as text, one line each: the values, a space between.
pub(crate) fn text(rows: &RecordBatch) -> Vec<String> {
    (0..rows.num_rows())
        .map(|row| {
            let words: Vec<String> = rows
                .columns()
                .iter()
                .map(|column| match json::value(column.as_ref(), row) {
                    _ if column.is_null(row) => "-".into(),
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                })
                .collect();
            words.join(" ")
        })
        .collect()
}
