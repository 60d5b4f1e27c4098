//! Rows of a key with no long gap between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::Result;

use super::{Closing, Kept, Windows};

pub(super) struct Sessions {
    gap: i64,
    /// Open sessions of each key by their first event times; more than a gap lies between them.
    groups: HashMap<Arc<[u8]>, BTreeMap<i64, Session>>,
    /// Their ends, starts, first rows and keys.
    ends: BTreeSet<(i64, i64, u64, Arc<[u8]>)>,
    gone: Vec<u64>,
}

#[derive(Debug)]
struct Session {
    /// Greatest event time.
    last: i64,
    /// Ascending.
    rows: Vec<u64>,
}

impl Sessions {
    pub(super) fn new(gap: i64) -> Sessions {
        Sessions { gap, groups: HashMap::new(), ends: BTreeSet::new(), gone: Vec::new() }
    }

    /// First event times of the sessions of a key that `time` lengthens or joins.
    fn touched(&self, group: &[u8], time: i64) -> Vec<i64> {
        let Some(sessions) = self.groups.get(group) else { return Vec::new() };
        let to = time.saturating_add(self.gap);
        let near = sessions.range(..=to).rev();
        near.take_while(|(_, s)| s.last.saturating_add(self.gap) >= time).map(|(s, _)| *s).collect()
    }
}

impl Windows for Sessions {
    fn too_late(&self, group: &[u8], time: i64, watermark: i64) -> Option<i64> {
        let end = time.saturating_add(self.gap);
        (end < watermark && self.touched(group, time).is_empty()).then_some(end)
    }

    fn take(&mut self, number: u64, kept: &Kept) -> Option<Closing> {
        let held = kept.get(number);
        let time = held.row.time;
        let touched = self.touched(&held.group, time);
        let sessions = self.groups.entry(Arc::clone(&held.group)).or_default();
        let (mut start, mut joined) = (time, Session { last: time, rows: vec![number] });
        for first in touched {
            let Some(mut session) = sessions.remove(&first) else { continue };
            let end = session.last.saturating_add(self.gap);
            self.ends.remove(&(end, first, session.rows[0], Arc::clone(&held.group)));
            start = start.min(first);
            // A new row is the last, so that usually nothing is to be sorted.
            let sorted = session.rows.last() < joined.rows.first();
            session.rows.append(&mut joined.rows);
            joined = Session { last: joined.last.max(session.last), rows: session.rows };
            if !sorted {
                joined.rows.sort_unstable();
            }
        }
        let end = joined.last.saturating_add(self.gap);
        self.ends.insert((end, start, joined.rows[0], Arc::clone(&held.group)));
        sessions.insert(start, joined);
        None
    }

    fn close(&mut self, watermark: i64, _kept: &Kept) -> Option<Closing> {
        // A row at the end still belongs, so the watermark must be above it.
        if self.ends.first()?.0 >= watermark && watermark != i64::MAX {
            return None;
        }
        let (end, start, _, group) = self.ends.pop_first()?;
        let sessions = self.groups.get_mut(&group)?;
        let rows = sessions.remove(&start)?.rows;
        if sessions.is_empty() {
            self.groups.remove(&group);
        }
        self.gone.extend(&rows);
        Some(Closing { start, end, rows })
    }

    fn forget(&mut self, _watermark: i64) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    fn restore(&mut self, kept: &Kept, _others: &[(&[u8], &[u8])]) -> Result<()> {
        *self = Sessions::new(self.gap);
        // Rows of closed sessions are gone, so the open sessions come about again.
        for (number, _) in kept.iter() {
            self.take(number, kept);
        }
        Ok(())
    }
}
