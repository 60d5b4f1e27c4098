//! Another event time from here on, with a watermark of its own.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use auspex_plan::OnError;
use auspex_storage::Run;

use crate::batch::Batch;
use crate::error::{ExecError, Result};
use crate::expr::Compiled;
use crate::operator::{Input, Operator, Output, StateReader, StateWriter, Watermark};
use crate::progress::Progress;

use super::evaluate::evaluate;

/// Gives each row the value of an expression as its event time (a row where that is null keeps its
/// own) and is followed by the greatest event time seen, less the allowed disorder.
pub struct AssignTime {
    time: Compiled,
    delay_us: i64,
    on_error: OnError,
    reached: Reached,
    /// Places and new greatest event times of the rows since the last step of the watermark.
    moved: Vec<(i64, i64)>,
    changed: bool,
}

/// What is kept between steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    /// Greatest event time.
    time: i64,
    idle: bool,
    ended: bool,
}

const NOTHING: Reached = Reached { time: i64::MIN, idle: false, ended: false };

impl AssignTime {
    /// `time` is a timestamp in microseconds.
    ///
    /// # Errors
    /// When it is something else.
    pub fn new(time: Compiled, delay_us: i64, on_error: OnError) -> Result<AssignTime> {
        if !matches!(time.data_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            return Err(ExecError::Plan(format!("event time of type {}", time.data_type)));
        }
        let (moved, changed) = (Vec::new(), false);
        Ok(AssignTime { time, delay_us, on_error, reached: NOTHING, moved, changed })
    }
}

impl Reached {
    fn watermark(&self, delay_us: i64) -> i64 {
        match self {
            Reached { ended: true, .. } => i64::MAX,
            Reached { time: i64::MIN, .. } => i64::MIN,
            Reached { time, .. } => time.saturating_sub(delay_us),
        }
    }
}

impl Operator for AssignTime {
    fn describe(&self) -> String {
        format!("Event time {}", self.time.text)
    }

    fn on_batch(&mut self, _input: Input, batch: Batch, out: &mut Output) -> Result<()> {
        let exprs = std::slice::from_ref(&self.time);
        let Some((mut batch, values)) = evaluate(exprs, batch, self.on_error, out)? else {
            return Ok(());
        };
        let values = values[0].as_primitive::<TimestampMicrosecondType>();
        let mut times = Vec::with_capacity(batch.len());
        let mut greatest = self.moved.last().map_or(self.reached.time, |(_, time)| *time);
        for row in 0..batch.len() {
            let time = if values.is_null(row) { batch.time.get(row) } else { values.value(row) };
            times.push(time);
            if time > greatest {
                greatest = time;
                self.moved.push((batch.sequence.get(row), time));
            }
        }
        batch.time = Run::Each(times.into());
        out.emit(batch);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: &Watermark, out: &mut Output) -> Result<()> {
        let mut progress = Progress::new(self.reached.watermark(self.delay_us), self.reached.idle);
        let before = self.reached;
        let mut rows = self.moved.drain(..).peekable();
        let mut steps = watermark.progress.steps().iter().peekable();
        // Of the input's own progress only its idleness and its end matter.
        loop {
            let (row, step) = (rows.peek().map(|r| r.0), steps.peek().map(|s| s.sequence));
            let Some(place) = row.into_iter().chain(step).min() else { break };
            if row == Some(place) {
                self.reached.time = rows.next().map_or(self.reached.time, |(_, time)| time);
            } else if let Some(step) = steps.next() {
                self.reached.idle = step.idle;
                self.reached.ended |= step.time == i64::MAX;
            }
            progress.advance(place, self.reached.watermark(self.delay_us), self.reached.idle);
        }
        drop(rows);
        self.changed |= self.reached != before;
        out.progress = Some(progress);
        Ok(())
    }

    fn checkpoint(&mut self, state: &mut StateWriter) -> Result<()> {
        if std::mem::take(&mut self.changed) {
            let mut value = self.reached.time.to_be_bytes().to_vec();
            value.extend([u8::from(self.reached.idle), u8::from(self.reached.ended)]);
            state.put(b"", value);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.reached = NOTHING;
        self.moved.clear();
        self.changed = false;
        for (_, value) in state.entries() {
            let Some((time, [idle, ended])) = value.split_first_chunk::<8>() else {
                return Err(ExecError::State("an event time that cannot be read".into()));
            };
            let time = i64::from_be_bytes(*time);
            self.reached = Reached { time, idle: *idle == 1, ended: *ended == 1 };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use auspex_plan::nodes;
    use datafusion::logical_expr::{col, lit};
    use proptest::prelude::*;

    use super::*;
    use crate::expr::compile;
    use crate::replay::{Cuts, check_batching, log, trace};
    use crate::testing::{as_time, events, extend, query, stream, timed};

    fn plan(delay_us: i64) -> auspex_plan::ContinuousQuery {
        let assign = |input| nodes::AssignTime { input, time: as_time("a"), delay_us };
        query(extend(timed(1, 0), assign), OnError::DeadLetter)
    }

    #[test]
    fn the_event_time_is_the_columns_value_or_the_old_one() {
        let log = log("1 @5 x 100 0 1\n1 @6 x - 0 1\n1 @7 x 90 0 1");
        let trace = trace(&plan(0), &log);
        assert_eq!(trace.rows, ["x 100 0 1.0 | 0 100", "x - 0 1.0 | 1 6", "x 90 0 1.0 | 2 90"]);
    }

    /// The steps of the watermark that follow rows whose column `a` is `text`'s.
    fn steps(
        operator: &mut AssignTime,
        text: &str,
        at: i64,
        input: &Progress,
    ) -> Vec<(i64, i64, bool)> {
        let mut out = Output::default();
        let batch = Batch::from_events(1, events(text, 0, at));
        operator.on_batch(Input(0), batch, &mut out).unwrap();
        let progress = Arc::new(input.clone());
        let watermark = Watermark { sequence: 100, inputs: vec![Arc::clone(&progress)], progress };
        operator.on_watermark(&watermark, &mut out).unwrap();
        let progress = out.progress.unwrap();
        progress.steps().iter().map(|s| (s.sequence, s.time, s.idle)).collect()
    }

    #[test]
    fn the_watermark_follows_the_new_times_and_ends_with_the_input() {
        let plan = stream(1).build().unwrap();
        let time = || compile(&as_time("a"), plan.schema()).unwrap();
        let mut operator = AssignTime::new(time(), 10, OnError::DeadLetter).unwrap();
        let mut input = Progress::still(i64::MIN);
        input.advance(2, 7, true);
        assert_eq!(
            steps(&mut operator, "x 100 0 1\nx 90 0 1\nx 130 0 1\nx 140 0 1", 0, &input),
            [(0, 90, false), (2, 120, true), (3, 130, true)]
        );
        let mut changes = Vec::new();
        operator.checkpoint(&mut StateWriter::new(0, &mut changes)).unwrap();
        let entries: Vec<_> = changes.into_iter().map(|(k, v)| (k, v.unwrap())).collect();
        let mut operator = AssignTime::new(time(), 10, OnError::DeadLetter).unwrap();
        operator.restore(&StateReader::new(0, &entries)).unwrap();
        let mut input = Progress::new(7, true);
        input.advance(6, i64::MAX, false);
        assert_eq!(
            steps(&mut operator, "x 135 0 1\nx 150 0 1", 4, &input),
            [(5, 140, true), (6, i64::MAX, false)]
        );
    }

    #[test]
    fn a_row_whose_time_fails_is_refused() {
        let time = as_time("a");
        let plan = extend(timed(1, 0), |input| nodes::AssignTime {
            input,
            time: datafusion::logical_expr::when(col("b").eq(lit(10i64) / col("b")), time.clone())
                .otherwise(time)
                .unwrap(),
            delay_us: 0,
        });
        let trace = trace(&query(plan, OnError::DeadLetter), &log("1 @5 x 1 0 1\n1 @6 y 2 1 1"));
        assert_eq!(trace.rows, ["y 2 1 1.0 | 1 2"]);
        assert_eq!(
            trace.failures,
            ["0: division by zero in CASE WHEN b = 10 / b THEN a ELSE a END"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn batching_does_not_show(
            times in proptest::collection::vec((0i64..20, 0i64..20), 1..20),
            cuts in proptest::collection::vec(any::<[bool; 3]>(), 20),
        ) {
            let lines: Vec<String> =
                times.iter().map(|(time, a)| format!("1 @{time} x {a} 1 1")).collect();
            let cuts = Cuts {
                cut: &|i| cuts[i][0],
                save: &|i| cuts[i][1],
                restart: &|i| cuts[i][2],
            };
            check_batching(&plan(3), &log(&lines.join("\n")), &cuts);
        }
    }
}
