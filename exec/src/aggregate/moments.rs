//! Variance, covariance and regression, updated value by value.
//!
//! Welford's update and its merge (Chan, Golub, LeVeque 1979) for one column, the same for pairs
//! (Youngs and Cramer 1971; what PostgreSQL computes). Neither subtracts large sums of squares.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{DataFusionError, internal_err};

use crate::error::Result;

use super::figure::Moment;
use super::slots::{Kind, add_each, chosen, each, take};
use super::{Figure, Rows};

/// Moments of a column of floats.
pub(super) struct Spread;

/// Number of values, mean and sum of squared differences from it.
#[derive(Default, Clone, Copy)]
pub(super) struct SpreadState {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Kind for Spread {
    type State = SpreadState;

    fn update(
        &mut self,
        states: &mut [SpreadState],
        rows: &Rows<'_>,
        _heap: &mut u64,
    ) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let values = rows.args[0].as_primitive::<Float64Type>().values();
        add_each(states, rows.slots, values, mask.as_ref(), |state, value| {
            state.count += 1;
            let delta = value - state.mean;
            state.mean += delta / state.count as f64;
            state.squares += delta * (value - state.mean);
        });
        Ok(())
    }

    fn merge(&self, into: &mut SpreadState, other: &SpreadState) -> Result<()> {
        if into.count == 0 || other.count == 0 {
            if into.count == 0 {
                *into = *other;
            }
            return Ok(());
        }
        let (n, m) = (into.count as f64, other.count as f64);
        let delta = other.mean - into.mean;
        into.count += other.count;
        into.mean += delta * (m / (n + m));
        into.squares += other.squares + delta * delta * (n * m / (n + m));
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &SpreadState>,
        figure: &Figure,
        _data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let (least, divisor, root) = match figure {
            Figure::Moment(Moment::VarSamp) => (2, 1, false),
            Figure::Moment(Moment::VarPop) => (1, 0, false),
            Figure::Moment(Moment::StddevSamp) => (2, 1, true),
            Figure::Moment(Moment::StddevPop) => (1, 0, true),
            other => return internal_err!("{other:?} of a spread"),
        };
        let value = |state: &SpreadState| {
            if state.count < least {
                return None;
            }
            let variance = state.squares / (state.count - divisor) as f64;
            Some(if root { variance.sqrt() } else { variance })
        };
        Ok(Arc::new(states.map(value).collect::<Float64Array>()))
    }

    fn write(&self, state: &SpreadState, out: &mut Vec<u8>) {
        out.extend(state.count.to_be_bytes());
        put_floats(&[state.mean, state.squares], out);
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<SpreadState> {
        let count = u64::from_be_bytes(take(bytes)?);
        let [mean, squares] = take_floats(bytes)?;
        Ok(SpreadState { count, mean, squares })
    }
}

/// Moments of two columns of floats: y, then x.
pub(super) struct Pairs;

/// Number of pairs, means, sums of squared differences and of their products.
#[derive(Default, Clone, Copy)]
pub(super) struct PairState {
    count: u64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl PairState {
    fn add(&mut self, y: f64, x: f64) {
        self.count += 1;
        let n = self.count as f64;
        let (dx, dy) = (x - self.x, y - self.y);
        self.x += dx / n;
        self.y += dy / n;
        self.xx += dx * (x - self.x);
        self.yy += dy * (y - self.y);
        self.xy += dx * (y - self.y);
    }

    fn moment(&self, moment: Moment) -> Option<f64> {
        let n = self.count as f64;
        let varies = self.xx != 0.0;
        match moment {
            _ if self.count == 0 => None,
            Moment::CovarSamp => (self.count > 1).then(|| self.xy / (n - 1.0)),
            Moment::CovarPop => Some(self.xy / n),
            Moment::Corr => {
                (varies && self.yy != 0.0).then(|| self.xy / (self.xx.sqrt() * self.yy.sqrt()))
            }
            Moment::Slope => varies.then(|| self.xy / self.xx),
            Moment::Intercept => varies.then(|| self.y - self.x * (self.xy / self.xx)),
            Moment::R2 if varies && self.yy == 0.0 => Some(1.0),
            Moment::R2 => varies.then(|| self.xy * self.xy / (self.xx * self.yy)),
            Moment::AvgX => Some(self.x),
            Moment::AvgY => Some(self.y),
            Moment::Sxx => Some(self.xx),
            Moment::Syy => Some(self.yy),
            Moment::Sxy => Some(self.xy),
            _ => None,
        }
    }
}

impl Kind for Pairs {
    type State = PairState;

    fn update(&mut self, states: &mut [PairState], rows: &Rows<'_>, _heap: &mut u64) -> Result<()> {
        let mask = chosen(rows.keep, rows.args);
        let y = rows.args[0].as_primitive::<Float64Type>().values();
        let x = rows.args[1].as_primitive::<Float64Type>().values();
        each(rows.slots.len(), mask.as_ref(), |row| {
            states[rows.slots[row] as usize].add(y[row], x[row]);
        });
        Ok(())
    }

    fn merge(&self, into: &mut PairState, other: &PairState) -> Result<()> {
        if into.count == 0 || other.count == 0 {
            if into.count == 0 {
                *into = *other;
            }
            return Ok(());
        }
        let (n, m) = (into.count as f64, other.count as f64);
        let (dx, dy) = (other.x - into.x, other.y - into.y);
        let weight = n * m / (n + m);
        into.count += other.count;
        into.x += dx * (m / (n + m));
        into.y += dy * (m / (n + m));
        into.xx += other.xx + dx * dx * weight;
        into.yy += other.yy + dy * dy * weight;
        into.xy += other.xy + dx * dy * weight;
        Ok(())
    }

    fn evaluate(
        &self,
        states: &mut dyn Iterator<Item = &PairState>,
        figure: &Figure,
        data_type: &DataType,
    ) -> Result<ArrayRef, DataFusionError> {
        let Figure::Moment(moment) = figure else {
            return internal_err!("{figure:?} of pairs");
        };
        Ok(match (moment, data_type) {
            (Moment::Pairs, DataType::UInt64) => {
                Arc::new(states.map(|state| state.count).collect::<UInt64Array>())
            }
            (Moment::Pairs, _) => {
                Arc::new(states.map(|state| state.count as i64).collect::<Int64Array>())
            }
            _ => Arc::new(states.map(|state| state.moment(*moment)).collect::<Float64Array>()),
        })
    }

    fn write(&self, state: &PairState, out: &mut Vec<u8>) {
        out.extend(state.count.to_be_bytes());
        put_floats(&[state.x, state.y, state.xx, state.yy, state.xy], out);
    }

    fn read(&self, bytes: &mut &[u8]) -> Result<PairState> {
        let count = u64::from_be_bytes(take(bytes)?);
        let [x, y, xx, yy, xy] = take_floats(bytes)?;
        Ok(PairState { count, x, y, xx, yy, xy })
    }
}

fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| value.to_bits().to_be_bytes()));
}

fn take_floats<const N: usize>(bytes: &mut &[u8]) -> Result<[f64; N]> {
    let mut values = [0.0; N];
    for value in &mut values {
        *value = f64::from_bits(u64::from_be_bytes(take(bytes)?));
    }
    Ok(values)
}
