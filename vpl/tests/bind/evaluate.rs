//! Runs bound programs row by row: slow, small, and independent of the executor.
//!
//! DataFusion's physical expressions are made from the plan as it is, without its type coercion:
//! what the binder leaves untyped fails here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, Schema};
use arrow::json::ReaderBuilder;
use arrow::json::writer::LineDelimitedWriter;
use auspex_plan::catalog::ObjectId;
use auspex_plan::nodes::{StreamDistinct, StreamLimit, StreamTap};
use auspex_plan::query::OnError;
use auspex_plan::{StreamRelation, functions::duration_text};
use auspex_vpl::bind::BoundProgram;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::create_physical_expr;
use serde_json::{Map, Value, json};

/// Rows of every stream, as JSON lines.
pub(crate) fn run(program: &BoundProgram, input: &str) -> BTreeMap<String, Vec<String>> {
    let mut outputs: BTreeMap<String, Vec<String>> =
        program.items.iter().map(|i| (i.name.clone(), Vec::new())).collect();
    let mut state = State::default();
    for (offset, line) in input.lines().enumerate() {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        let (event, fields) = row.iter().next().unwrap();
        let mut current: HashMap<ObjectId, RecordBatch> = HashMap::new();
        for item in &program.items {
            let schema = auspex_plan::catalog::arrow_schema(&item.stream.columns);
            let batch = match &item.query {
                None if item.name == *event => decode(&schema, fields),
                None => continue,
                Some(query) => {
                    state.offset = offset;
                    state.node = 0;
                    state.stream = item.id;
                    state.on_error = query.on_error;
                    match evaluate(&query.plan, &current, &mut state) {
                        Ok(Some(batch)) => batch,
                        Ok(None) => continue,
                        Err(e) if is_row_error(&e) => continue,
                        Err(e) => panic!("{}: {e}", item.name),
                    }
                }
            };
            outputs.get_mut(&item.name).unwrap().extend(encode(&batch));
            current.insert(item.id, batch);
        }
    }
    outputs
}

/// An error in the data, which leaves out the row.
fn is_row_error(error: &datafusion::common::DataFusionError) -> bool {
    use arrow::error::ArrowError::{ArithmeticOverflow, CastError, DivideByZero};
    use datafusion::common::DataFusionError::{ArrowError, Execution};
    match error.find_root() {
        Execution(_) => true,
        ArrowError(e, _) => matches!(**e, ArithmeticOverflow(_) | CastError(_) | DivideByZero),
        _ => false,
    }
}

#[derive(Default)]
struct State {
    /// Rows counted per (stream, node, key).
    seen: HashMap<(ObjectId, usize, String), u64>,
    stream: ObjectId,
    node: usize,
    offset: usize,
    on_error: OnError,
}

fn decode(schema: &Arc<Schema>, fields: &Value) -> RecordBatch {
    // arrow-json has no intervals: such columns are read apart, as VPL literals.
    let interval = |t: &DataType| matches!(t, DataType::Interval(_));
    let readable = schema.fields().iter().filter(|f| !interval(f.data_type())).cloned();
    let readable = Arc::new(Schema::new(readable.collect::<Vec<_>>()));
    let mut decoder = ReaderBuilder::new(readable).build_decoder().unwrap();
    decoder.decode(format!("{fields}\n").as_bytes()).unwrap();
    let read = decoder.flush().unwrap();
    let columns = schema.fields().iter().map(|f| {
        if !interval(f.data_type()) {
            return Arc::clone(read.as_ref().unwrap().column_by_name(f.name()).unwrap());
        }
        let nanoseconds = fields[f.name().as_str()].as_str().map(|text| {
            let nanoseconds = duration(text);
            arrow::datatypes::IntervalMonthDayNano { months: 0, days: 0, nanoseconds }
        });
        Arc::new(arrow::array::IntervalMonthDayNanoArray::from(vec![nanoseconds])) as ArrayRef
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

fn duration(text: &str) -> i64 {
    use auspex_vpl::ast::{ExprKind, StatementKind};
    let program = auspex_vpl::parse(&format!("let x = {text}")).program;
    let StatementKind::Let(binding) = &program.statements[0].kind else { panic!("{text}") };
    let ExprKind::Duration(nanoseconds) = binding.value.kind else { panic!("{text}") };
    nanoseconds
}

fn encode(batch: &RecordBatch) -> Vec<String> {
    let (mut intervals, mut others) = (Vec::new(), Vec::new());
    for (i, f) in batch.schema().fields().iter().enumerate() {
        if matches!(f.data_type(), DataType::Interval(_)) {
            intervals.push(i)
        } else {
            others.push(i)
        }
    }
    let mut lines = Vec::new();
    let options = arrow::json::writer::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer: LineDelimitedWriter<_> = options.build(&mut lines);
    writer.write(&batch.project(&others).unwrap()).unwrap();
    drop(writer);
    let lines = String::from_utf8(lines).unwrap();
    let rows = lines.lines().enumerate().map(|(row, line)| {
        let mut fields: Map<String, Value> = serde_json::from_str(line).unwrap();
        for i in &intervals {
            let values = batch.column(*i).as_primitive::<IntervalMonthDayNanoType>();
            let text = values.is_valid(row).then(|| {
                let v = values.value(row);
                duration_text(v.months, v.days, v.nanoseconds)
            });
            fields.insert(batch.schema().field(*i).name().clone(), json!(text));
        }
        let ordered: Map<String, Value> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| (f.name().clone(), fields[f.name().as_str()].clone()))
            .collect();
        Value::Object(ordered).to_string()
    });
    rows.collect()
}

/// The output of a node for the current row; `None` is no row.
fn evaluate(
    plan: &LogicalPlan,
    rows: &HashMap<ObjectId, RecordBatch>,
    state: &mut State,
) -> Result<Option<RecordBatch>> {
    state.node += 1;
    let node = state.node;
    match plan {
        LogicalPlan::TableScan(scan) => {
            let source = scan.source.as_ref() as &dyn std::any::Any;
            let relation = source.downcast_ref::<StreamRelation>().unwrap();
            let Some(row) = rows.get(&relation.stream) else { return Ok(None) };
            let row = with_system(row, &scan.source.schema(), state.offset);
            Ok(Some(match &scan.projection {
                None => row,
                Some(columns) => row.project(columns)?,
            }))
        }
        LogicalPlan::Projection(p) => {
            let Some(input) = evaluate(&p.input, rows, state)? else { return Ok(None) };
            let columns = p.expr.iter().zip(p.schema.fields()).map(|(e, f)| {
                match column(e, &input, p.input.schema()) {
                    Err(_) if state.on_error == OnError::Null => {
                        Ok(arrow::array::new_null_array(f.data_type(), input.num_rows()))
                    }
                    other => other,
                }
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            batch(&p.schema, columns).map(Some)
        }
        LogicalPlan::Filter(f) => {
            let Some(input) = evaluate(&f.input, rows, state)? else { return Ok(None) };
            let keep = column(&f.predicate, &input, f.input.schema())?;
            let kept = filter_record_batch(&input, keep.as_boolean())?;
            Ok((kept.num_rows() > 0).then_some(kept))
        }
        LogicalPlan::Union(union) => {
            let mut found = None;
            for input in &union.inputs {
                // Node numbers must not depend on which input has the row.
                let output = evaluate(input, rows, state)?;
                found = found.or(output);
            }
            let Some(found) = found else { return Ok(None) };
            batch(&union.schema, found.columns().to_vec()).map(Some)
        }
        LogicalPlan::Extension(e) => {
            let input_plan = e.node.inputs()[0];
            let Some(input) = evaluate(input_plan, rows, state)? else { return Ok(None) };
            let key = |exprs: &[Expr]| -> Result<String> {
                let values = exprs.iter().map(|e| {
                    let value = column(e, &input, input_plan.schema())?;
                    datafusion::common::ScalarValue::try_from_array(&value, 0)
                });
                Ok(format!("{:?}", values.collect::<Result<Vec<_>>>()?))
            };
            let (key, most) = if let Some(n) = e.node.as_any().downcast_ref::<StreamLimit>() {
                (key(&n.keys)?, n.limit)
            } else if let Some(n) = e.node.as_any().downcast_ref::<StreamDistinct>() {
                (key(&n.on)?, 1)
            } else {
                let tap = e.node.as_any().downcast_ref::<StreamTap>().unwrap();
                for value in &tap.values {
                    column(value, &input, input_plan.schema())?;
                }
                return Ok(Some(input));
            };
            let count = state.seen.entry((state.stream, node, key)).or_default();
            *count += 1;
            Ok((*count <= most).then_some(input))
        }
        LogicalPlan::EmptyRelation(_) => Ok(None),
        other => panic!("no such node is expected: {other}"),
    }
}

fn with_system(row: &RecordBatch, schema: &Arc<Schema>, offset: usize) -> RecordBatch {
    let mut columns = row.columns().to_vec();
    for field in schema.fields().iter().skip(columns.len()) {
        let value: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![offset as i64]));
        columns.push(arrow::compute::cast(&value, field.data_type()).unwrap());
    }
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn column(expr: &Expr, input: &RecordBatch, schema: &DFSchema) -> Result<ArrayRef> {
    let physical = create_physical_expr(expr, schema, &ExecutionProps::new(), &Default::default())
        .unwrap_or_else(|e| panic!("{expr} is not executable: {e}"));
    physical.evaluate(input)?.into_array(input.num_rows())
}

fn batch(schema: &DFSchema, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    for (field, column) in schema.fields().iter().zip(&columns) {
        assert_eq!(field.data_type(), column.data_type(), "type of column {}", field.name());
    }
    // Under `on_error(null)` any column may be null.
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Whether two lists of JSON rows are equal; floats to a relative 1e-9, ints exactly.
pub(crate) fn same_rows(expected: &str, found: &str) -> bool {
    let rows = |text: &str| -> Vec<Value> {
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let (expected, found) = (rows(expected), rows(found));
    expected.len() == found.len() && expected.iter().zip(&found).all(|(a, b)| same(a, b))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            (x - y).abs() <= 1e-9 * x.abs().max(y.abs())
        }
        (Value::Object(x), Value::Object(y)) => {
            x.keys().eq(y.keys()) && x.iter().all(|(k, v)| same(v, &y[k]))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}
