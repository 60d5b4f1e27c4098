//! Every other aggregate of DataFusion, by its own accumulators: one per slot.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array, new_empty_array};
use arrow::compute::take as take_rows;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use crate::error::{ExecError, Result};

use super::slots::{Kind, chosen, put_len, take, take_len, take_slice};
use super::{Figure, Rows};

/// What makes DataFusion's accumulators.
#[derive(Debug)]
pub(super) struct Factory {
    udf: Arc<AggregateUDF>,
    name: String,
    schema: Schema,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<FieldRef>,
    result: FieldRef,
    order_bys: Vec<PhysicalSortExpr>,
    states: Vec<FieldRef>,
}

impl Factory {
    /// For a call with arguments of these types.
    pub(super) fn new(
        call: &AggregateFunction,
        types: &[DataType],
        result: &FieldRef,
        text: &str,
    ) -> Result<Factory> {
        let params = &call.params;
        let fields: Vec<FieldRef> = types
            .iter()
            .enumerate()
            .map(|(number, data_type)| {
                Arc::new(Field::new(format!("a{number}"), data_type.clone(), true))
            })
            .collect();
        let exprs = params.args.iter().enumerate().map(|(number, arg)| match arg {
            Expr::Literal(value, _) => Arc::new(Literal::new(value.clone())) as _,
            _ => Arc::new(Column::new(&format!("a{number}"), number)) as Arc<dyn PhysicalExpr>,
        });
        let exprs: Vec<_> = exprs.collect();
        // The order of `WITHIN GROUP` is that of the first argument.
        let order_bys = params.order_by.iter().map(|sort| {
            let options = arrow::compute::SortOptions::new(!sort.asc, sort.nulls_first);
            PhysicalSortExpr::new(Arc::clone(&exprs[0]), options)
        });
        let order_bys = order_bys.collect();
        let states = call.func.state_fields(StateFieldsArgs {
            name: text,
            input_fields: &fields,
            return_field: Arc::clone(result),
            ordering_fields: &[],
            is_distinct: false,
        })?;
        let factory = Factory {
            udf: Arc::clone(&call.func),
            name: text.to_string(),
            schema: Schema::new(fields.clone()),
            exprs,
            fields,
            result: Arc::clone(result),
            order_bys,
            states,
        };
        factory.make()?;
        factory.converter()?;
        Ok(factory)
    }

    fn make(&self) -> Result<Box<dyn Accumulator>, DataFusionError> {
        self.udf.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.result),
            schema: &self.schema,
            ignore_nulls: false,
            order_bys: &self.order_bys,
            is_reversed: false,
            name: &self.name,
            is_distinct: false,
            exprs: &self.exprs,
            expr_fields: &self.fields,
        })
    }

    fn converter(&self) -> Result<RowConverter> {
        let fields: Vec<_> =
            self.states.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(ExecError::Unsupported(format!("the aggregate {}", self.name)));
        }
        Ok(RowConverter::new(fields)?)
    }
}

/// States of an aggregate that only DataFusion knows.
pub(super) struct Foreign {
    factory: Arc<Factory>,
    /// Of the states, for saving them.
    converter: RowConverter,
}

/// An accumulator; telling its state may change it, so that it must be filled again.
#[derive(Default)]
pub(super) struct Filled(Option<RefCell<Box<dyn Accumulator>>>);

impl Foreign {
    pub(super) fn new(factory: Arc<Factory>) -> Result<Foreign> {
        Ok(Foreign { converter: factory.converter()?, factory })
    }

    /// An accumulator with this state.
    fn with_state(&self, state: &[ArrayRef]) -> Result<Box<dyn Accumulator>, DataFusionError> {
        let mut accumulator = self.factory.make()?;
        accumulator.merge_batch(state)?;
        Ok(accumulator)
    }

    /// The state of an accumulator, which then goes on from there.
    fn state(
        &self,
        accumulator: &RefCell<Box<dyn Accumulator>>,
    ) -> Result<Vec<ArrayRef>, DataFusionError> {
        let state = accumulator.borrow_mut().state()?;
        let state =
            state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, DataFusionError>>()?;
        accumulator.replace(self.with_state(&state)?);
        Ok(state)
    }

    fn add(
        &self,
        state: &mut Filled,
        args: &[ArrayRef],
        rows: &[u32],
        all: bool,
    ) -> Result<(), DataFusionError> {
        let accumulator = match &mut state.0 {
            Some(accumulator) => accumulator,
            empty => empty.insert(RefCell::new(self.factory.make()?)),
        };
        if all {
            return accumulator.get_mut().update_batch(args);
        }
        let at = UInt32Array::from(rows.to_vec());
        let args = args.iter().map(|arg| take_rows(arg.as_ref(), &at, None));
        accumulator.get_mut().update_batch(&args.collect::<Result<Vec<_>, _>>()?)
    }
}

impl Kind for Foreign {
    type State = Filled;

    fn update(&mut self, states: &mut [Filled], rows: &Rows<'_>, heap: &mut u64) -> Result<()> {
        let count = rows.slots.len();
        let mut order: Vec<u32> = match chosen(rows.keep, &[]) {
            None => (0..count as u32).collect(),
            Some(mask) => mask.set_indices().map(|row| row as u32).collect(),
        };
        order.sort_by_key(|row| rows.slots[*row as usize]);
        for group in order.chunk_by(|a, b| rows.slots[*a as usize] == rows.slots[*b as usize]) {
            let state = &mut states[rows.slots[group[0] as usize] as usize];
            *heap -= self.heap(state);
            self.add(state, rows.args, group, group.len() == count)?;
            *heap += self.heap(state);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Filled, other: &Filled) -> Result<()> {
        let Some(other) = &other.0 else { return Ok(()) };
        let state = self.state(other)?;
        match &mut into.0 {
            Some(accumulator) => accumulator.get_mut().merge_batch(&state)?,
            empty => *empty = Some(RefCell::new(self.with_state(&state)?)),
        }
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &Filled>,
        _figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let values = states.map(|state| match &state.0 {
            None => self.factory.make()?.evaluate(),
            Some(accumulator) => self.with_state(&self.state(accumulator)?)?.evaluate(),
        });
        let values = values.collect::<Result<Vec<_>, DataFusionError>>()?;
        match values.is_empty() {
            true => Ok(new_empty_array(data_type)),
            false => ScalarValue::iter_to_array(values),
        }
    }

    fn write(&self, state: &Filled, out: &mut Vec<u8>) {
        let Some(accumulator) = &state.0 else { return out.push(EMPTY) };
        let saved = self.state(accumulator).and_then(|s| Ok(self.converter.convert_columns(&s)?));
        match saved {
            Ok(rows) => {
                out.push(FILLED);
                put_len(rows.row(0).data().len(), out);
                out.extend(rows.row(0).data());
            }
            // There is no state then, which is found out when it is needed.
            Err(_) => out.push(LOST),
        }
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<Filled> {
        match take::<1>(bytes)? {
            [EMPTY] => Ok(Filled(None)),
            [FILLED] => {
                let len = take_len(bytes)?;
                let row = take_slice(bytes, len)?;
                let state = self.converter.convert_rows([self.converter.parser().parse(row)])?;
                Ok(Filled(Some(RefCell::new(self.with_state(&state)?))))
            }
            _ => Err(ExecError::State(format!("{} could not be saved", self.factory.name))),
        }
    }

    fn is_small(&self) -> bool {
        false
    }

    fn heap(&self, state: &Filled) -> u64 {
        state.0.as_ref().map_or(0, |accumulator| accumulator.borrow().size() as u64)
    }
}

const EMPTY: u8 = 0;
const FILLED: u8 = 1;
const LOST: u8 = 2;
