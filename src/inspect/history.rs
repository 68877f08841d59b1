//! Verification of files of history: bundles, the order of items, and what each item says against
//! the span of its file.
//!
//! Invariants:
//!   * Memory is one bundle and one item.

use crate::disk::bytes::SharedBytes;
use crate::format::Malformed;
use crate::format::history::{Bundle, BundleKey, CommitStart, Group, ItemKey, State};
use crate::format::manifest::HistoryFile;
use crate::format::page::{Page, PageKind, verified};
use crate::format::record::malformed_operation;
use crate::ids::{Lsn, Timestamp};
use crate::inspect::report::{Fault, Report, Scope};
use crate::run::{Run, RunItem};
use crate::segment::dictionary;

/// A walk over the items of one file.
struct Walk<'a> {
    run: &'a Run,
    file: &'a HistoryFile,
    before: Option<ItemKey>,
    /// An item that goes on in further chunks, and what of it was seen.
    open: Option<(ItemKey, Vec<u8>)>,
    addresses: u64,
    /// When the object's commit before the next one was made.
    time: Timestamp,
    /// Whether items before the next were lost: it may go on with one of them.
    is_behind_loss: bool,
}

/// Checks every item; says how many entries and addresses there are, or none if the walk could not
/// go to the end.
pub(super) fn check(run: &Run, file: &HistoryFile, report: &mut Report) -> Option<(u64, u64)> {
    let (before, open, time) = (None, None, Timestamp(0));
    let mut walk = Walk { run, file, before, open, addresses: 0, time, is_behind_loss: false };
    let mut entries = 0;
    for item in run {
        match item {
            Ok(RunItem::Entry { key, value }) => {
                entries += 1;
                if let Err(fault) = walk.entry(&key, &value) {
                    walk.wrong(fault, report);
                    walk.open = None;
                }
            }
            // Told by the check of blocks, and by the list of holes.
            Ok(RunItem::Hole { .. }) => {
                walk.open = None;
                walk.is_behind_loss = true;
            }
            Err(error) => {
                report.failed(&error, run.name(), None);
                return None;
            }
        }
    }
    if walk.open.is_some() {
        walk.wrong(Malformed("an item without its last chunk"), report);
    }
    Some((entries, walk.addresses))
}

impl Walk<'_> {
    fn wrong(&self, fault: Malformed, report: &mut Report) {
        let object = self.before.map(|key| key.address);
        let what = self.before.map_or_else(
            || fault.to_string(),
            |key| format!("{:?} at {}: {fault}", key.group, key.lsn),
        );
        let fault = Fault::at(self.run.name(), 0..0, what).of(object);
        report.fault(fault.in_scope(Scope::History));
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let said = BundleKey::decode(key)?;
        let expand = |frame: &[u8], raw: &mut [u8]| dictionary::expand(None, frame, raw);
        let bundle = Bundle::decode(value, expand)?;
        let Some((first, value)) = bundle.item(0).filter(|(first, _)| *first == said.first) else {
            return Err(Malformed("a bundle under another key than its first"));
        };
        let time = match (first.group, first.chunk, &self.open) {
            (Group::Commits, 0, _) => Some(CommitStart::decode(value)?.time),
            (Group::Commits, _, Some((_, whole))) => Some(CommitStart::decode(whole)?.time),
            _ => None,
        };
        if time.is_some_and(|time| time != said.time) {
            return Err(Malformed("a bundle with another time than its first commit"));
        }
        for index in 0..bundle.count() {
            let Some((key, value)) = bundle.item(index) else { break };
            self.item(key, value)?;
        }
        Ok(())
    }

    fn item(&mut self, key: ItemKey, value: &[u8]) -> Result<(), Malformed> {
        let before = self.before.replace(key);
        if before.is_some_and(|before| before >= key) {
            return Err(Malformed("items that do not ascend"));
        }
        if before.is_none_or(|before| before.address != key.address) {
            self.addresses += 1;
            self.time = Timestamp(0);
            if !self.run.may_hold(&key.address) {
                return Err(Malformed("the filter denies the object"));
            }
        }
        let value = match (key.chunk, self.open.take()) {
            (0, None) => value.to_vec(),
            (0, Some(_)) => return Err(Malformed("an item without its last chunk")),
            (_, Some((first, mut whole)))
                if ItemKey { chunk: key.chunk, ..first } == key
                    && before.is_some_and(|before| before.chunk + 1 == key.chunk) =>
            {
                whole.extend_from_slice(value);
                whole
            }
            // What came before may have been lost to damage.
            _ if self.is_behind_loss => return Ok(()),
            _ => return Err(Malformed("a chunk without the one before")),
        };
        self.is_behind_loss = false;
        let is_whole = match key.group {
            Group::Commits => self.commit(key.lsn, &value)?,
            Group::States => self.state(&key, &value)?,
        };
        if !is_whole {
            self.open = Some((ItemKey { chunk: 0, ..key }, value));
        }
        Ok(())
    }

    fn commit(&mut self, lsn: Lsn, value: &[u8]) -> Result<bool, Malformed> {
        let commit = CommitStart::decode(value)?;
        if std::mem::replace(&mut self.time, commit.time) > commit.time {
            return Err(Malformed("a commit with a time before that of an earlier one"));
        }
        if lsn <= self.file.start || lsn > self.file.end {
            return Err(Malformed("a commit outside of its file's span"));
        }
        if commit.payload.len() < commit.bytes as usize {
            return Ok(false);
        }
        malformed_operation(commit.payload).map_or(Ok(true), Err)
    }

    fn state(&self, key: &ItemKey, value: &[u8]) -> Result<bool, Malformed> {
        let state = State::decode(value)?;
        // The commit that adopted a page, or what was lost of it, says more than the page does.
        let may_be_adopted = matches!(state, State::Page { .. } | State::Lost { .. });
        let end = Lsn(state.until().0.saturating_add(u64::from(may_be_adopted)));
        if key.lsn > end || state.until() > self.file.end {
            return Err(Malformed("a state that ends before it begins, or behind its file"));
        }
        let (bytes, frame, end, kind) = match state {
            State::Page { bytes, frame, end, .. } => (bytes, frame, end, PageKind::Page),
            State::Delta { bytes, frame, end, .. } => (bytes, frame, end, PageKind::Delta),
            State::Absent { .. } | State::Lost { .. } | State::Head { .. } => return Ok(true),
        };
        if frame.len() < bytes as usize {
            return Ok(false);
        }
        if verified(frame, 0).is_none() {
            return Err(Malformed("the checksum of a stored page differs"));
        }
        let stored = SharedBytes::from(frame);
        let page = Page::decode(&stored, |_, _, _| Err(Malformed("a page that is not raw")))?;
        let header = page.header();
        if (header.address, header.exact_at, header.kind) != (key.address, key.lsn, kind) {
            return Err(Malformed("the page of another object, moment or kind"));
        }
        if end.is_some_and(|end| page.items().any(|(key, _)| key >= end)) {
            return Err(Malformed("a page with keys behind its range"));
        }
        Ok(true)
    }
}
