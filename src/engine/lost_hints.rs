//! Hints of alarms that were lost with a part of a run: the objects still have their alarms.
//!
//! Invariants:
//!   * A range that was lost is looked for until no object was out of reach meanwhile: what the
//!     medium does not give now may have an alarm, and may be given later.

use super::patience::Patience;
use crate::directory::Lost;
use crate::error::{ErrorKind, Result};
use crate::format::alarm::{ALARM_KEYS, Hint};
use crate::ids::Address;
use crate::object::View;
use crate::object::range::RangeIter;
use crate::object::version::Version;
use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Ranges of hints that were lost, and what became of looking for them.
#[derive(Debug, Default)]
pub(super) struct LostHints {
    /// All that any object says of them was found.
    found: HashSet<Lost>,
    /// An object was out of reach.
    open: Patience<Lost>,
}

impl LostHints {
    /// Whether there is nothing to look for now.
    pub fn is_settled(&self, lost: &Lost, now: Duration) -> bool {
        self.found.contains(lost) || self.open.waits(lost, now)
    }

    /// It was looked for: in the whole store, or as far as that could be read.
    pub fn note(&mut self, lost: Lost, is_whole: bool, now: Duration) {
        if is_whole {
            self.open.keep_only(|other| *other != lost);
            self.found.insert(lost);
        } else {
            self.open.note_failed(lost, now);
        }
    }

    /// What is to be looked for again now.
    pub fn to_look_for(&self, now: Duration) -> Vec<Lost> {
        self.open.over(now).cloned().collect()
    }

    /// When there is something to look for again, by uptime.
    pub fn next_look(&self) -> Option<Duration> {
        self.open.next_over()
    }

    /// What was found may be needed once more.
    pub fn forget_found(&mut self) {
        self.found.clear();
    }
}

/// The hints between two keys of which the objects have the alarms, and whether every object could
/// say what it has. What is damaged has nothing to say.
pub(super) fn hints_between(version: &Arc<Version>, lost: &Lost) -> Result<(Vec<Hint>, bool)> {
    let (mut found, mut is_whole) = (Vec::new(), true);
    for head in version.directory.heads(Address::default()) {
        let head = intact(head, &mut is_whole)?;
        let Some((address, _)) = head.filter(|(_, head)| !head.deleted) else { continue };
        let view = View::of_version(address, Arc::clone(version));
        let Some(view) = intact(view, &mut is_whole)? else { continue };
        let plain = intact(view.alarm(), &mut is_whole)?.flatten();
        found.extend(plain.map(|alarm| Hint::of(&alarm, address, None)));
        let [first, behind] = ALARM_KEYS.map(<[u8]>::to_vec);
        let bounds = (Bound::Included(first), Bound::Excluded(behind));
        for entry in RangeIter::new(view, None, bounds) {
            let Some(entry) = intact(entry, &mut is_whole)? else { break };
            found.extend(Hint::of_entry(address, &entry.key, &entry.value));
        }
    }
    found.retain(|hint| (&lost.first..=&lost.last).contains(&&hint.encode()));
    Ok((found, is_whole))
}

/// What was read, with none in the place of what is damaged; `is_whole` goes where it may come
/// back.
fn intact<T>(read: Result<T>, is_whole: &mut bool) -> Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            *is_whole &= !error.is_unreadable();
            Ok(None)
        }
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FileNumber;
    use crate::names::FileName;

    fn lost(run: u64, first: &[u8], last: &[u8]) -> Lost {
        let run = FileName::Run(FileNumber(run));
        Lost { run, first: first.to_vec(), last: last.to_vec() }
    }

    #[test]
    fn a_loss_that_was_found_again_stands_for_no_other() {
        let mut hints = LostHints::default();
        hints.note(lost(1, b"m", b"p"), true, Duration::ZERO);
        assert!(hints.is_settled(&lost(1, b"m", b"p"), Duration::MAX));
        for other in [lost(2, b"m", b"p"), lost(1, b"a", b"c"), lost(1, b"m", b"o")] {
            assert!(!hints.is_settled(&other, Duration::ZERO), "{other:?}");
        }
        hints.forget_found();
        let is_settled = hints.is_settled(&lost(1, b"m", b"p"), Duration::ZERO);
        assert!(!is_settled, "what is handed out again may need it");
    }

    #[test]
    fn what_was_out_of_reach_is_looked_for_until_it_is_not() {
        let (mut hints, range) = (LostHints::default(), lost(1, b"m", b"p"));
        let mut now = Duration::from_secs(7);
        for wait in [1, 2, 4] {
            hints.note(range.clone(), false, now);
            assert!(hints.is_settled(&range, now) && hints.to_look_for(now).is_empty());
            now += Duration::from_secs(wait);
            assert_eq!(hints.next_look(), Some(now));
            assert!(!hints.is_settled(&range, now));
            assert_eq!(hints.to_look_for(now), std::slice::from_ref(&range));
        }
        hints.note(range.clone(), true, now);
        assert!(hints.is_settled(&range, Duration::MAX) && hints.next_look().is_none());
    }
}
