//! Windows of so many rows of a key.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::error::Result;
use crate::operator::{StateReader, StateWriter};

use super::{Closing, Kept, Windows};

/// First byte of the keys under which positions are saved.
const POSITION: u8 = b'p';

pub(super) struct Counts {
    size: u64,
    slide: u64,
    groups: HashMap<Arc<[u8]>, Group>,
    /// Keys whose position between two windows is to be saved.
    changed: BTreeSet<Arc<[u8]>>,
    gone: Vec<u64>,
}

#[derive(Debug, Default)]
struct Group {
    /// Rows since the start of the first window that is not complete.
    position: u64,
    /// Those of them that a window contains.
    rows: VecDeque<u64>,
}

impl Counts {
    pub(super) fn new(size: u64, slide: u64) -> Counts {
        let (groups, changed, gone) = (HashMap::new(), BTreeSet::new(), Vec::new());
        Counts { size, slide, groups, changed, gone }
    }
}

impl Windows for Counts {
    fn too_late(&self, _group: &[u8], _time: i64, _watermark: i64) -> Option<i64> {
        None
    }

    fn take(&mut self, number: u64, kept: &Kept) -> Option<Closing> {
        let key = &kept.get(number).group;
        let group = self.groups.entry(Arc::clone(key)).or_default();
        group.position += 1;
        match group.position <= self.size {
            true => group.rows.push_back(number),
            false => self.gone.push(number),
        }
        let mut closing = None;
        if group.position == self.size {
            let rows: Vec<u64> = group.rows.iter().copied().collect();
            let time = |number: Option<&u64>| number.map_or(0, |n| kept.get(*n).row.time);
            let (start, end) = (time(rows.first()), time(rows.last()));
            closing = Some(Closing { start, end, rows });
            let left = self.slide.min(self.size) as usize;
            self.gone.extend(group.rows.drain(..left));
        }
        if group.position >= self.size.max(self.slide) {
            group.position -= self.slide;
        }
        if group.position == 0 {
            self.groups.remove(key);
        }
        // With rows between the windows the position does not follow from the rows kept.
        if self.slide > self.size {
            self.changed.insert(Arc::clone(key));
        }
        closing
    }

    fn close(&mut self, _watermark: i64, _kept: &Kept) -> Option<Closing> {
        None
    }

    fn forget(&mut self, _watermark: i64) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    fn checkpoint(&mut self, state: &mut StateWriter) {
        for key in std::mem::take(&mut self.changed) {
            let name = [&[POSITION], key.as_ref()].concat();
            match self.groups.get(&key) {
                Some(group) => state.put(&name, group.position.to_be_bytes().to_vec()),
                None => state.remove(&name),
            }
        }
    }

    fn restore(&mut self, kept: &Kept, others: &[(&[u8], &[u8])]) -> Result<()> {
        *self = Counts::new(self.size, self.slide);
        for (number, held) in kept.iter() {
            let group = self.groups.entry(Arc::clone(&held.group)).or_default();
            group.position += 1;
            group.rows.push_back(number);
        }
        for (key, value) in others {
            if let Some((&POSITION, key)) = key.split_first() {
                let group = self.groups.entry(key.into()).or_default();
                group.position = StateReader::count(value)?;
            }
        }
        Ok(())
    }
}
