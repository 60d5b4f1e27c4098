//! How event time moves along the global order.

/// The watermark of one place of a graph over one step: it changes at some places of the global
/// order and never falls. [`i64::MIN`] before the first row, [`i64::MAX`] after the end of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The watermark before the step's first place.
    pub before: i64,
    /// Whether it was idle before the step: it does not hold others back.
    pub idle_before: bool,
    steps: Vec<Step>,
}

/// After the rows of `sequence` the watermark is `time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Place in the global order.
    pub sequence: i64,
    /// The watermark from there on, microseconds since 1970 UTC.
    pub time: i64,
    /// Whether the input is idle from there on.
    pub idle: bool,
}

impl Progress {
    /// A watermark that stays at `before`.
    pub fn still(before: i64) -> Progress {
        Progress { before, idle_before: false, steps: Vec::new() }
    }

    /// A watermark that is `before` and idle or not, and then moves by [`Progress::advance`].
    pub fn new(before: i64, idle: bool) -> Progress {
        Progress { before, idle_before: idle, steps: Vec::new() }
    }

    /// From `sequence` (not below the last one) on the watermark is at least `time`.
    pub fn advance(&mut self, sequence: i64, time: i64, idle: bool) {
        let (last, was_idle) = self.state();
        let time = time.max(last);
        if time == last && idle == was_idle {
            return;
        }
        match self.steps.last_mut() {
            Some(step) if step.sequence == sequence => {
                step.time = time;
                step.idle = idle;
            }
            _ => self.steps.push(Step { sequence, time, idle }),
        }
    }

    /// The changes, ascending by place.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The watermark at the end of the step.
    pub fn last(&self) -> i64 {
        self.state().0
    }

    /// Watermark and idleness at the end of the step.
    pub fn state(&self) -> (i64, bool) {
        self.steps.last().map_or((self.before, self.idle_before), |s| (s.time, s.idle))
    }

    /// The watermark before the rows of `sequence`.
    pub fn at(&self, sequence: i64) -> i64 {
        let steps = self.steps.partition_point(|step| step.sequence < sequence);
        if steps == 0 { self.before } else { self.steps[steps - 1].time }
    }

    /// The first change that reaches `time`, from change number `from` on.
    pub fn first_reaching(&self, time: i64, from: usize) -> Option<usize> {
        let steps = self.steps.get(from..)?;
        let found = from + steps.partition_point(|step| step.time < time);
        (found < self.steps.len()).then_some(found)
    }

    /// The same, `us` microseconds behind. The end of input is not delayed.
    pub fn delayed(&self, us: i64) -> Progress {
        let behind = |time: i64| match time {
            i64::MAX | i64::MIN => time,
            time => time.saturating_sub(us),
        };
        let mut delayed = Progress::new(behind(self.before), self.idle_before);
        for step in &self.steps {
            delayed.advance(step.sequence, behind(step.time), step.idle);
        }
        delayed
    }

    /// The smallest of several that are not idle (of all, when all are); never falls below
    /// `reached`, which it had come to before.
    pub fn least(inputs: &[&Progress], reached: i64) -> Progress {
        if let [only] = inputs {
            return (*only).clone();
        }
        let mut states: Vec<(i64, bool)> =
            inputs.iter().map(|p| (p.before, p.idle_before)).collect();
        let combined = |states: &[(i64, bool)]| {
            let awake = states.iter().filter(|(_, idle)| !idle).map(|(time, _)| *time).min();
            match awake {
                Some(time) => (time, false),
                None => (states.iter().map(|(time, _)| *time).min().unwrap_or(i64::MIN), true),
            }
        };
        let (time, idle) = combined(&states);
        let mut least = Progress::new(time.max(reached), idle);
        let mut next = vec![0usize; inputs.len()];
        loop {
            let waiting = inputs.iter().zip(&next).filter_map(|(p, n)| p.steps.get(*n));
            let Some(sequence) = waiting.map(|step| step.sequence).min() else { break };
            for (input, progress) in inputs.iter().enumerate() {
                if let Some(step) = progress.steps.get(next[input])
                    && step.sequence == sequence
                {
                    states[input] = (step.time, step.idle);
                    next[input] += 1;
                }
            }
            let (time, idle) = combined(&states);
            least.advance(sequence, time, idle);
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(before: i64, steps: &[(i64, i64)]) -> Progress {
        let mut p = Progress::still(before);
        for (sequence, time) in steps {
            p.advance(*sequence, *time, false);
        }
        p
    }

    #[test]
    fn rows_come_before_the_step_at_their_place() {
        let p = progress(5, &[(10, 7), (12, 9)]);
        assert_eq!([p.at(10), p.at(11), p.at(12), p.at(13)], [5, 7, 7, 9]);
        assert_eq!(p.first_reaching(8, 0), Some(1));
        assert_eq!(p.first_reaching(10, 0), None);
    }

    #[test]
    fn the_slowest_input_that_is_not_idle_decides() {
        let a = progress(i64::MIN, &[(1, 10), (5, 50)]);
        let mut b = progress(i64::MIN, &[(2, 20)]);
        b.advance(6, 20, true);
        let least = Progress::least(&[&a, &b], i64::MIN);
        let steps: Vec<_> = least.steps().iter().map(|s| (s.sequence, s.time)).collect();
        assert_eq!(steps, [(2, 10), (5, 20), (6, 50)]);
    }

    #[test]
    fn an_input_that_wakes_up_does_not_turn_time_back() {
        let a = progress(100, &[]);
        let mut b = Progress::new(20, true);
        b.advance(3, 30, false);
        assert_eq!(Progress::least(&[&a, &b], 100).last(), 100);
    }

    #[test]
    fn the_end_of_input_is_not_delayed() {
        let p = progress(0, &[(1, 30), (2, i64::MAX)]).delayed(10);
        assert_eq!(p.steps().iter().map(|s| s.time).collect::<Vec<_>>(), [20, i64::MAX]);
    }
}
