//! A pattern compiled: what is computed of each row when it arrives, and tests as bits and
//! conditions over them.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use auspex_plan::OnError;
use auspex_plan::nodes::StreamPattern;
use auspex_plan::pattern::{
    Accessor, Automaton, Conjunct, Get, MATCH, Measure, Pattern, Strategy, Test, Transition,
};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use std::sync::Arc;

use super::condition::{Condition, Operand};
use crate::batch::{Batch, batch_of};
use crate::error::{ExecError, Result};
use crate::expr::{Compiled, compile, is_fallible};
use crate::operator::Output;
use crate::operators::evaluate::evaluate;
use crate::operators::keys::one_zero;

/// What the engine runs.
pub(super) struct Program {
    pub(super) pattern: Pattern,
    pub(super) automaton: Automaton,
    pub(super) inputs: Vec<RowProgram>,
    pub(super) steps: Vec<Check>,
    pub(super) nots: Vec<Check>,
    pub(super) untils: Vec<Check>,
    /// Those of conditions and outputs.
    pub(super) accessors: Vec<BoundValue>,
    pub(super) outputs: Vec<OutputColumn>,
    /// Makes keys of rows, when the pattern is partitioned.
    pub(super) keys: Option<RowConverter>,
    /// Whether rows that fit nothing have to be seen all the same.
    pub(super) counts_rows: bool,
}

/// What is computed of the rows of an input when they arrive. The rows kept have the cells, then
/// the bits of the conditions that are true, then the key.
pub(super) struct RowProgram {
    exprs: Vec<Compiled>,
    pub(super) cells: Vec<DataType>,
    bits: usize,
    keys: usize,
    /// Whether a test holds on every row of the input.
    always: bool,
    pub(super) schema: SchemaRef,
}

/// A test over computed rows.
pub(super) struct Check {
    pub(super) input: usize,
    /// Bit that must be set.
    bit: Option<usize>,
    /// Conditions that need the rows of the match.
    pub(super) conditions: Vec<Condition>,
}

impl Check {
    /// Whether a row may fit, as far as it alone decides.
    pub(super) fn allows(&self, input: usize, bits: u64) -> bool {
        self.input == input && self.bit.is_none_or(|bit| bits >> bit & 1 == 1)
    }
}

/// An accessor over cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BoundValue {
    pub(super) step: usize,
    pub(super) get: Get,
    pub(super) cell: Option<usize>,
    pub(super) data_type: DataType,
    pub(super) name: String,
}

/// Where an output column comes from.
pub(super) enum OutputColumn {
    Accessor(usize),
    Start,
    End,
    Key(usize),
}

/// What is collected of one input while compiling.
#[derive(Default)]
struct Wanted {
    cells: Vec<Expr>,
    bits: Vec<Expr>,
    always: bool,
}

impl Program {
    /// Compiles a node whose rows have `schemas`.
    pub(super) fn new(node: &StreamPattern) -> Result<Program> {
        let pattern = node.pattern.clone();
        let automaton = Automaton::new(&pattern)
            .map_err(|why| ExecError::Plan(format!("a pattern that is {why:?}")))?;
        let mut compiler = Compiler {
            plans: &node.inputs,
            wanted: node.inputs.iter().map(|_| Wanted::default()).collect(),
            accessors: Vec::new(),
            pattern: &pattern,
        };
        let steps = pattern.steps.iter().map(|step| compiler.check(&step.test));
        let steps = steps.collect::<Result<Vec<_>>>()?;
        let nots = pattern.nots.iter().map(|not| compiler.check(&not.test));
        let nots = nots.collect::<Result<Vec<_>>>()?;
        let untils = pattern.untils.iter().map(|until| compiler.check(until));
        let untils = untils.collect::<Result<Vec<_>>>()?;
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (_, measure) in &node.outputs {
            outputs.push(match measure {
                Measure::Accessor(accessor) => OutputColumn::Accessor(compiler.accessor(accessor)),
                Measure::Start => OutputColumn::Start,
                Measure::End => OutputColumn::End,
                Measure::Key(number) => OutputColumn::Key(*number),
            });
        }
        let Compiler { wanted, accessors, .. } = compiler;
        let mut inputs = Vec::with_capacity(wanted.len());
        for (number, wanted) in wanted.into_iter().enumerate() {
            let keys = node.keys.get(number).map_or(&[][..], Vec::as_slice);
            inputs.push(RowProgram::new(&wanted, keys, &node.inputs[number])?);
        }
        let keys = key_converter(&inputs)?;
        let counts_rows = pattern.strategy == Strategy::Strict || pattern.within_rows.is_some();
        Ok(Program {
            pattern,
            automaton,
            inputs,
            steps,
            nots,
            untils,
            accessors,
            outputs,
            keys,
            counts_rows,
        })
    }

    /// The computed form of arriving rows, without those that fit nothing or have no key.
    pub(super) fn compute(
        &self,
        input: usize,
        batch: Batch,
        on_error: OnError,
        out: &mut Output,
    ) -> Result<Option<Batch>> {
        let program = &self.inputs[input];
        let Some((batch, mut values)) = evaluate(&program.exprs, batch, on_error, out)? else {
            return Ok(None);
        };
        let keys = values.split_off(program.cells.len() + program.bits);
        let conditions = values.split_off(program.cells.len());
        let rows = batch.len();
        let bits = bits_of(&conditions, rows);
        let key = self.key_column(&keys, rows)?;
        let keep: BooleanArray = (0..rows)
            .map(|row| {
                let fits = self.counts_rows || program.always || bits.value(row) != 0;
                let keyed = keys.iter().all(|key| key.is_valid(row));
                Some(fits && keyed)
            })
            .collect();
        values.push(Arc::new(bits));
        values.push(key);
        let computed = batch_of(SchemaRef::clone(&program.schema), values, rows)?;
        let kept = keep.true_count();
        if kept == 0 {
            return Ok(None);
        }
        if kept == rows {
            return Ok(Some(batch.with_rows(computed)));
        }
        let indices: Vec<u32> = (0..rows as u32).filter(|row| keep.value(*row as usize)).collect();
        Ok(Some(batch.take_places(filter_record_batch(&computed, &keep)?, &indices)))
    }

    fn key_column(&self, keys: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let Some(converter) = &self.keys else {
            return Ok(Arc::new(BinaryArray::from_iter_values((0..rows).map(|_| b""))));
        };
        let columns: Vec<ArrayRef> = keys.iter().map(|key| one_zero(Arc::clone(key))).collect();
        let encoded = converter.convert_columns(&columns)?;
        Ok(Arc::new(BinaryArray::from_iter_values(encoded.iter().map(|row| row.data().to_vec()))))
    }
}

fn bits_of(conditions: &[ArrayRef], rows: usize) -> UInt64Array {
    let mut bits = vec![0u64; rows];
    for (bit, condition) in conditions.iter().enumerate() {
        for row in crate::operators::true_rows(condition.as_boolean()) {
            bits[row as usize] |= 1 << bit;
        }
    }
    bits.into()
}

fn key_converter(inputs: &[RowProgram]) -> Result<Option<RowConverter>> {
    let Some(first) = inputs.first().filter(|input| input.keys > 0) else { return Ok(None) };
    let types = |input: &RowProgram| -> Vec<DataType> {
        input.exprs[input.exprs.len() - input.keys..].iter().map(|e| e.data_type.clone()).collect()
    };
    if inputs.iter().any(|input| types(input) != types(first)) {
        return Err(ExecError::Plan("partition keys of different types".into()));
    }
    let fields: Vec<SortField> = types(first).into_iter().map(SortField::new).collect();
    if !RowConverter::supports_fields(&fields) {
        return Err(ExecError::Unsupported("a key of this type".into()));
    }
    Ok(Some(RowConverter::new(fields)?))
}

impl RowProgram {
    fn new(wanted: &Wanted, keys: &[Expr], plan: &LogicalPlan) -> Result<RowProgram> {
        if wanted.bits.len() > 64 {
            return Err(ExecError::Unsupported(
                "a pattern with more than 64 different conditions on one stream".into(),
            ));
        }
        let all = wanted.cells.iter().chain(&wanted.bits).chain(keys);
        let exprs = all.map(|expr| compile(expr, plan.schema())).collect::<Result<Vec<_>>>()?;
        let cells: Vec<DataType> =
            exprs[..wanted.cells.len()].iter().map(|e| e.data_type.clone()).collect();
        let mut fields: Vec<Field> = cells
            .iter()
            .enumerate()
            .map(|(number, ty)| Field::new(format!("c{number}"), ty.clone(), true))
            .collect();
        fields.push(Field::new("bits", DataType::UInt64, true));
        fields.push(Field::new("key", DataType::Binary, true));
        let schema = Arc::new(Schema::new(fields));
        let (bits, keys, always) = (wanted.bits.len(), keys.len(), wanted.always);
        Ok(RowProgram { exprs, cells, bits, keys, always, schema })
    }
}

struct Compiler<'a> {
    plans: &'a [LogicalPlan],
    wanted: Vec<Wanted>,
    accessors: Vec<BoundValue>,
    pattern: &'a Pattern,
}

/// Position of `expr` among `all`, where it is put when it is not there.
fn place(all: &mut Vec<Expr>, expr: &Expr) -> usize {
    all.iter().position(|e| e == expr).unwrap_or_else(|| {
        all.push(expr.clone());
        all.len() - 1
    })
}

impl Compiler<'_> {
    fn check(&mut self, test: &Test) -> Result<Check> {
        let mut alone: Vec<Expr> = Vec::new();
        let mut conditions = Vec::new();
        for conjunct in &test.conjuncts {
            // What stands behind a condition over other rows may be guarded by it.
            let free = accessors_of(&conjunct.condition).is_empty()
                && (conditions.is_empty() || !self.may_fail(test.input, &conjunct.condition)?);
            if free {
                alone.push(conjunct.condition.clone());
            } else {
                conditions.push(self.condition(test.input, conjunct)?);
            }
        }
        let wanted = &mut self.wanted[test.input];
        let bit = conjunction(alone).map(|expr| place(&mut wanted.bits, &expr));
        wanted.always |= bit.is_none();
        Ok(Check { input: test.input, bit, conditions })
    }

    fn may_fail(&self, input: usize, expr: &Expr) -> Result<bool> {
        let schema = self.plans[input].schema();
        Ok(is_fallible(&compile(expr, schema)?.physical, schema.as_arrow()))
    }

    /// A condition over cells of the candidate and accessors.
    fn condition(&mut self, input: usize, conjunct: &Conjunct) -> Result<Condition> {
        let schema = self.plans[input].schema();
        let mut columns: Vec<Column> = Vec::new();
        for column in columns_of(&conjunct.condition) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let mut operands = Vec::with_capacity(columns.len());
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = Vec::new();
        for column in &columns {
            if is_accessor(column) {
                let accessor =
                    self.pattern.accessors.iter().find(|accessor| accessor.column() == *column);
                let accessor = accessor
                    .ok_or_else(|| ExecError::Plan(format!("no accessor {}", column.name)))?;
                let field = Field::new(&column.name, accessor.data_type.clone(), true);
                fields.push((column.relation.clone(), Arc::new(field)));
                operands.push(Operand::Accessor(self.accessor(accessor)));
            } else {
                let (qualifier, field) = schema.qualified_field(schema.index_of_column(column)?);
                let field = field.as_ref().clone().with_nullable(true);
                fields.push((qualifier.cloned(), Arc::new(field)));
                let expr = Expr::Column(column.clone());
                operands.push(Operand::Cell(place(&mut self.wanted[input].cells, &expr)));
            }
        }
        let schema = DFSchema::new_with_metadata(fields, HashMap::new())?;
        let compiled = compile(&conjunct.condition, &schema)?;
        Condition::new(compiled, &schema, operands, conjunct.not_first)
    }

    fn accessor(&mut self, accessor: &Accessor) -> usize {
        let input = self.pattern.steps[accessor.step].test.input;
        let cell = accessor.of.as_ref().map(|of| place(&mut self.wanted[input].cells, of));
        let bound = BoundValue {
            step: accessor.step,
            get: accessor.get,
            cell,
            data_type: accessor.data_type.clone(),
            name: accessor.name.clone(),
        };
        self.accessors.iter().position(|a| *a == bound).unwrap_or_else(|| {
            self.accessors.push(bound);
            self.accessors.len() - 1
        })
    }
}

fn is_accessor(column: &Column) -> bool {
    matches!(&column.relation, Some(TableReference::Bare { table }) if table.as_ref() == MATCH)
}

/// Columns in order of appearance.
fn columns_of(expr: &Expr) -> Vec<Column> {
    let mut columns = Vec::new();
    let visited = expr.apply(|node| {
        if let Expr::Column(column) = node {
            columns.push(column.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok());
    columns
}

fn accessors_of(expr: &Expr) -> Vec<Column> {
    columns_of(expr).into_iter().filter(is_accessor).collect()
}

/// The states that a run can be in together, and their transitions in order of preference.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) states: Vec<usize>,
    pub(super) transitions: Vec<Transition>,
    pub(super) accepts: bool,
}

/// The places met so far.
#[derive(Default)]
pub(super) struct Places {
    numbers: HashMap<Vec<usize>, usize>,
    all: Vec<Arc<Place>>,
}

impl Places {
    /// The place of these states.
    ///
    /// # Errors
    /// When there are more transitions than a run can tell apart.
    pub(super) fn of(&mut self, automaton: &Automaton, states: Vec<usize>) -> Result<usize> {
        if let Some(number) = self.numbers.get(&states) {
            return Ok(*number);
        }
        let mut transitions: Vec<Transition> = Vec::new();
        for state in &states {
            let state = automaton.states.get(*state);
            let state =
                state.ok_or_else(|| ExecError::State("a state that is not there".into()))?;
            for transition in &state.transitions {
                if !transitions.contains(transition) {
                    transitions.push(transition.clone());
                }
            }
        }
        if transitions.len() > 128 {
            return Err(ExecError::Unsupported("a pattern as ambiguous as this".into()));
        }
        let accepts = states.iter().any(|state| automaton.states[*state].accepts);
        self.all.push(Arc::new(Place { states: states.clone(), transitions, accepts }));
        self.numbers.insert(states, self.all.len() - 1);
        Ok(self.all.len() - 1)
    }

    /// The place of a number.
    pub(super) fn get(&self, number: usize) -> Arc<Place> {
        Arc::clone(&self.all[number])
    }
}
