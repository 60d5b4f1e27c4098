//! Rows bound to steps: chains that share their beginnings.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::common::ScalarValue;

/// A row that may be bound.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    /// Its place among all rows of the pattern.
    pub(super) order: u64,
    /// Its place among the rows of its partition.
    pub(super) number: u64,
    /// Event time.
    pub(super) time: i64,
    pub(super) input: usize,
    pub(super) cells: Vec<ScalarValue>,
}

/// The last of some rows bound to steps, and those before it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) before: Option<Arc<Link>>,
    pub(super) step: usize,
    pub(super) event: Arc<Event>,
}

impl Link {
    /// This row and those before it, last one first.
    pub(super) fn back(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(Some(self), |link| link.before.as_deref())
    }
}

// A chain may be long, and each link would drop the next one.
impl Drop for Link {
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(link) = before {
            before = Arc::into_inner(link).and_then(|mut link| link.before.take());
        }
    }
}

/// A match.
#[derive(Debug, Clone)]
pub(super) struct Match {
    pub(super) first: Arc<Event>,
    pub(super) last: Arc<Link>,
    /// Of an absence.
    pub(super) deadline: Option<i64>,
}

impl Match {
    /// Event time.
    pub(super) fn time(&self) -> i64 {
        self.deadline.unwrap_or(self.last.event.time)
    }

    /// First rows, then second rows, and so on.
    pub(super) fn compare(&self, other: &Match) -> Ordering {
        let rows = |m: &Match| {
            let mut rows: Vec<(u64, usize)> =
                m.last.back().map(|link| (link.event.order, link.step)).collect();
            rows.reverse();
            rows
        };
        let (a, b) = (rows(self), rows(other));
        let order = |rows: &[(u64, usize)]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
        order(&a).cmp(&order(&b)).then_with(|| a.cmp(&b))
    }
}
