//! From plan to graph.

mod kept_rows;
mod over;

use std::collections::{BTreeMap, BTreeSet};

use auspex_plan::nodes::{
    self, JoinTime, KeyedChanges, StreamDistinct, StreamJoin, StreamLimit, StreamTap,
};
use auspex_plan::relation::{INGESTED_COLUMN, OFFSET_COLUMN, SYSTEM_COLUMNS, TIME_COLUMN};
use auspex_plan::time::{Emit, Window};
use auspex_plan::{Clock, ContinuousQuery, OnError, StreamRelation};
use auspex_storage::StreamId;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Distinct as DistinctPlan, Expr, Extension, LogicalPlan, TableScan, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::expressions::Literal;

use crate::aggregate::Aggregates;
use crate::batch::nullable;
use crate::clocks::Clocks;
use crate::error::{ExecError, Result};
use crate::expr::{Compiled, compile};
use crate::graph::{Graph, Leaf, Node, ScanColumn, ScanSpec, Source};
use crate::operator::{Input, Operator};
use crate::operators::{AssignTime, Changes, Distinct, Limit, Running, Select, TapRows, Union};
use crate::pattern::Matcher;
use crate::window::window_aggregate;

/// Choices of [`build`].
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Leaves taps (`.print`, `.log`) out: the plan is only recomputed, not run for its user.
    pub without_taps: bool,
    /// A stream whose rows tell that time passes to queries by time of arrival.
    pub ticks: Option<StreamId>,
}

/// Compiles a query.
///
/// # Errors
/// [`ExecError::Unsupported`] names the first part of the plan that cannot run continuously.
pub fn build(query: &ContinuousQuery, options: &BuildOptions) -> Result<Graph> {
    let mut builder = Builder {
        on_error: query.on_error,
        options,
        reads: BTreeMap::new(),
        leaves: Vec::new(),
        clocks: Vec::new(),
        nodes: Vec::new(),
    };
    let timed = needs_time(&query.plan);
    builder.collect_reads(&query.plan, timed)?;
    let root = builder.add(&query.plan)?;
    builder.connect(root, None);
    builder.finish(&query.plan, timed)
}

/// Whether an operator of the plan needs event time.
fn needs_time(plan: &LogicalPlan) -> bool {
    let own = match plan {
        LogicalPlan::Window(_) => true,
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            !(node.is::<StreamLimit>()
                || node.is::<StreamDistinct>()
                || node.is::<KeyedChanges>()
                || node.is::<StreamTap>()
                || node.downcast_ref::<StreamJoin>().is_some_and(|j| j.time == JoinTime::Lookup))
        }
        _ => false,
    };
    own || plan.inputs().into_iter().any(needs_time)
}

struct Builder<'a> {
    on_error: OnError,
    options: &'a BuildOptions,
    /// Own columns read of each stream, over all its scans.
    reads: BTreeMap<StreamId, BTreeSet<usize>>,
    leaves: Vec<Leaf>,
    /// What moves the watermark of each leaf.
    clocks: Vec<Vec<Clock>>,
    nodes: Vec<Node>,
}

impl Builder<'_> {
    fn collect_reads(&mut self, plan: &LogicalPlan, timed: bool) -> Result<()> {
        if let LogicalPlan::TableScan(scan) = plan {
            let relation = relation(scan)?;
            for root in relation.clocks.iter().filter(|_| timed) {
                self.reads.entry(root.stream).or_default();
                let ticks = self.options.ticks.filter(|_| root.arrival);
                self.reads.extend(ticks.map(|ticks| (ticks, BTreeSet::new())));
            }
            let columns = scan_columns(scan);
            let reads = self.reads.entry(relation.stream).or_default();
            reads.extend(columns.into_iter().filter_map(|column| match column {
                ScanColumn::Own(index) => Some(index),
                _ => None,
            }));
        }
        plan.inputs().into_iter().try_for_each(|input| self.collect_reads(input, timed))
    }

    /// Adds the operators of `plan`; children come first, so targets have greater numbers.
    fn add(&mut self, plan: &LogicalPlan) -> Result<Source> {
        match plan {
            LogicalPlan::TableScan(scan) => self.add_scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.add(&alias.input),
            LogicalPlan::Filter(filter) => {
                let condition = compile(&filter.predicate, filter.input.schema())?;
                self.add_select(&filter.input, Some(condition), None, plan.schema())
            }
            LogicalPlan::Projection(projection) => {
                // Filter and projection in one operator; an alias between them only renames.
                let mut input = projection.input.as_ref();
                while let LogicalPlan::SubqueryAlias(alias) = input {
                    input = &alias.input;
                }
                let columns = projection
                    .expr
                    .iter()
                    .map(|expr| compile(expr, projection.input.schema()))
                    .collect::<Result<Vec<_>>>()?;
                let (input, condition) = match input {
                    LogicalPlan::Filter(filter) => (
                        filter.input.as_ref(),
                        Some(compile(&filter.predicate, filter.input.schema())?),
                    ),
                    other => (other, None),
                };
                self.add_select(input, condition, Some(columns), plan.schema())
            }
            LogicalPlan::Union(union) => {
                let schema = nullable(union.schema.as_arrow());
                let mut sources = Vec::with_capacity(union.inputs.len());
                for input in &union.inputs {
                    let same = input.schema().fields().len() == schema.fields().len()
                        && input
                            .schema()
                            .fields()
                            .iter()
                            .zip(schema.fields())
                            .all(|(a, b)| a.data_type() == b.data_type());
                    if !same {
                        return Err(ExecError::Plan("union of different column types".into()));
                    }
                    sources.push(self.add(input)?);
                }
                Ok(self.add_node(Box::new(Union::new(sources.len(), schema)), &sources))
            }
            LogicalPlan::Distinct(DistinctPlan::All(input)) => self.add_distinct(input, &[]),
            LogicalPlan::Extension(extension) => self.add_extension(extension),
            LogicalPlan::Window(window) => self.add_over(window),
            other => Err(ExecError::Unsupported(describe(other))),
        }
    }

    fn add_scan(&mut self, scan: &TableScan) -> Result<Source> {
        let relation = relation(scan)?;
        if scan.fetch.is_some() {
            return Err(ExecError::Unsupported("a limit inside a scan".into()));
        }
        let read: Vec<usize> = self.reads[&relation.stream].iter().copied().collect();
        let columns = scan_columns(scan)
            .into_iter()
            .map(|column| match column {
                ScanColumn::Own(index) => {
                    ScanColumn::Own(read.binary_search(&index).expect("collected before"))
                }
                system => system,
            })
            .collect();
        let input = self.reads.range(..relation.stream).count();
        let schema = nullable(scan.projected_schema.as_arrow());
        self.leaves.push(Leaf { input, columns, schema, target: None });
        self.clocks.push(relation.clocks.clone());
        let source = Source::Leaf(self.leaves.len() - 1);
        match conjunction(scan.filters.iter().cloned()) {
            None => Ok(source),
            Some(filter) => {
                let condition = compile(&filter, &scan.projected_schema)?;
                let schema = nullable(scan.projected_schema.as_arrow());
                let select = Select::new(Some(condition), None, &schema, &schema, self.on_error)?;
                Ok(self.add_node(Box::new(select), &[source]))
            }
        }
    }

    fn add_select(
        &mut self,
        input: &LogicalPlan,
        condition: Option<Compiled>,
        columns: Option<Vec<Compiled>>,
        schema: &DFSchema,
    ) -> Result<Source> {
        let source = self.add(input)?;
        let condition = condition.filter(|condition| {
            condition.physical.downcast_ref::<Literal>().map(Literal::value)
                != Some(&ScalarValue::Boolean(Some(true)))
        });
        if condition.is_none() && columns.is_none() {
            return Ok(source);
        }
        let (before, after) = (nullable(input.schema().as_arrow()), nullable(schema.as_arrow()));
        let select = Select::new(condition, columns, &before, &after, self.on_error)?;
        Ok(self.add_node(Box::new(select), &[source]))
    }

    fn add_extension(&mut self, extension: &Extension) -> Result<Source> {
        let node = extension.node.as_any();
        if let Some(limit) = node.downcast_ref::<StreamLimit>() {
            let keys = self.compile_all(&limit.keys, &limit.input)?;
            let source = self.add(&limit.input)?;
            let operator = Limit::new(limit.limit, keys, self.on_error)?;
            return Ok(self.add_node(Box::new(operator), &[source]));
        }
        if let Some(distinct) = node.downcast_ref::<StreamDistinct>() {
            return self.add_distinct(&distinct.input, &distinct.on);
        }
        if let Some(changes) = node.downcast_ref::<KeyedChanges>() {
            let key = self.compile_all(&changes.key, &changes.input)?;
            let source = self.add(&changes.input)?;
            let schema = nullable(extension.node.schema().as_arrow());
            let operator = Changes::new(key, schema, self.on_error)?;
            return Ok(self.add_node(Box::new(operator), &[source]));
        }
        if let Some(join) = node.downcast_ref::<StreamJoin>() {
            let operator = crate::join::build(join, self.on_error)?;
            let sources = [self.add(&join.left)?, self.add(&join.right)?];
            return Ok(self.add_node(operator, &sources));
        }
        if let Some(tap) = node.downcast_ref::<StreamTap>() {
            let values = self.compile_all(&tap.values, &tap.input)?;
            let source = self.add(&tap.input)?;
            if self.options.without_taps {
                return Ok(source);
            }
            return Ok(self.add_node(Box::new(TapRows::new(&tap.kind, values)), &[source]));
        }
        if let Some(assign) = node.downcast_ref::<nodes::AssignTime>() {
            let time = compile(&assign.time, assign.input.schema())?;
            let source = self.add(&assign.input)?;
            let operator = AssignTime::new(time, assign.delay_us, self.on_error)?;
            return Ok(self.add_node(Box::new(operator), &[source]));
        }
        if let Some(aggregate) = node.downcast_ref::<nodes::StreamAggregate>() {
            return self.add_aggregate(aggregate);
        }
        if let Some(rows) = node.downcast_ref::<nodes::WindowRows>() {
            return self.add_window_rows(rows);
        }
        if let Some(window) = node.downcast_ref::<nodes::RetentionWindow>() {
            return self.add_retention(window);
        }
        if let Some(rate) = node.downcast_ref::<nodes::OutputRate>() {
            return self.add_output_rate(rate);
        }
        if let Some(pattern) = node.downcast_ref::<nodes::StreamPattern>() {
            let schema = nullable(extension.node.schema().as_arrow());
            let matcher = Matcher::new(pattern, schema, self.on_error)?;
            let sources = pattern.inputs.iter().map(|input| self.add(input));
            let sources = sources.collect::<Result<Vec<_>>>()?;
            return Ok(self.add_node(Box::new(matcher), &sources));
        }
        Err(ExecError::Unsupported(extension.node.name().to_string()))
    }

    fn add_aggregate(&mut self, node: &nodes::StreamAggregate) -> Result<Source> {
        if node.window.has_bounds() {
            let operator = window_aggregate(node, self.on_error)?;
            let source = self.add(&node.input)?;
            return Ok(self.add_node(operator, &[source]));
        }
        let keys = self.compile_all(&node.keys, &node.input)?;
        let aggregates = Aggregates::compile(&node.aggregates, node.input.schema())?;
        let schema = nullable(UserDefinedLogicalNodeCore::schema(node).as_arrow());
        let source = self.add(&node.input)?;
        let operator = match (node.window, node.emit) {
            (Window::Unbounded, Emit::Changes) => {
                Running::new(keys, aggregates, None, schema, self.on_error)?
            }
            (Window::Unbounded, Emit::Every(period)) => {
                Running::new(keys, aggregates, Some(period), schema, self.on_error)?
            }
            _ => return Err(ExecError::Unsupported("an aggregate without window".into())),
        };
        Ok(self.add_node(Box::new(operator), &[source]))
    }

    /// The first row of each value of `on`; of the whole row when that is empty.
    fn add_distinct(&mut self, input: &LogicalPlan, on: &[Expr]) -> Result<Source> {
        let schema = input.schema();
        let on = if on.is_empty() {
            (0..schema.fields().len())
                .map(|i| compile(&Expr::Column(schema.qualified_field(i).into()), schema))
                .collect::<Result<Vec<_>>>()?
        } else {
            self.compile_all(on, input)?
        };
        let source = self.add(input)?;
        let operator = Distinct::new(on, self.on_error)?;
        Ok(self.add_node(Box::new(operator), &[source]))
    }

    fn compile_all(&self, exprs: &[Expr], input: &LogicalPlan) -> Result<Vec<Compiled>> {
        exprs.iter().map(|expr| compile(expr, input.schema())).collect()
    }

    fn add_node(&mut self, operator: Box<dyn Operator>, sources: &[Source]) -> Source {
        let node = self.nodes.len();
        let sources_of = sources.to_vec();
        self.nodes.push(Node {
            operator,
            target: None,
            sources: sources_of,
            reached: i64::MIN,
            rows: (0, 0),
        });
        for (input, source) in sources.iter().enumerate() {
            self.connect(*source, Some((node, Input(input))));
        }
        Source::Node(node)
    }

    fn connect(&mut self, source: Source, target: Option<(usize, Input)>) {
        match source {
            Source::Leaf(leaf) => self.leaves[leaf].target = target,
            Source::Node(node) => self.nodes[node].target = target,
        }
    }

    fn finish(self, plan: &LogicalPlan, timed: bool) -> Result<Graph> {
        let inputs: Vec<ScanSpec> = self
            .reads
            .into_iter()
            .map(|(stream, columns)| ScanSpec { stream, columns: columns.into_iter().collect() })
            .collect();
        let input_of = |stream| inputs.iter().position(|input| input.stream == stream);
        let clocks = match timed {
            true => Some(Clocks::new(self.clocks, input_of, self.options.ticks)?),
            false => None,
        };
        let schema = nullable(plan.schema().as_arrow());
        Ok(Graph { leaves: self.leaves, nodes: self.nodes, schema, clocks, inputs })
    }
}

fn relation(scan: &TableScan) -> Result<&StreamRelation> {
    scan.source
        .downcast_ref::<StreamRelation>()
        .ok_or_else(|| ExecError::Unsupported(format!("reading \"{}\"", scan.table_name)))
}

/// The columns of a scan in order; own ones by their position in the stream.
fn scan_columns(scan: &TableScan) -> Vec<ScanColumn> {
    let schema = scan.source.schema();
    let all = schema.fields().len();
    let system = all >= SYSTEM_COLUMNS.len()
        && schema.fields()[all - SYSTEM_COLUMNS.len()..]
            .iter()
            .zip(SYSTEM_COLUMNS)
            .all(|(field, name)| field.name() == name);
    let own = if system { all - SYSTEM_COLUMNS.len() } else { all };
    let column = |index: usize| {
        if index < own {
            return ScanColumn::Own(index);
        }
        match schema.field(index).name().as_str() {
            OFFSET_COLUMN => ScanColumn::Offset,
            TIME_COLUMN => ScanColumn::Time,
            INGESTED_COLUMN => ScanColumn::Ingested,
            _ => ScanColumn::Own(index),
        }
    };
    match &scan.projection {
        Some(projection) => projection.iter().map(|&index| column(index)).collect(),
        None => (0..all).map(column).collect(),
    }
}

/// What the user would call a part of a plan.
fn describe(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Aggregate(_) => "an aggregate".into(),
        LogicalPlan::Sort(_) => "ORDER BY".into(),
        LogicalPlan::Join(_) => "a join".into(),
        LogicalPlan::Limit(_) => "LIMIT".into(),
        LogicalPlan::Distinct(_) => "DISTINCT ON".into(),
        LogicalPlan::EmptyRelation(_) => "a query without a stream".into(),
        LogicalPlan::Values(_) => "VALUES".into(),
        LogicalPlan::Subquery(_) => "a subquery".into(),
        LogicalPlan::Unnest(_) => "unnest".into(),
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE".into(),
        other => other.display().to_string(),
    }
}
