//! Objects by the directory: heads, and the pages that they name.
//!
//! Invariants:
//!   * An entry is handed out once, and only where no unreadable delta may have changed it.

use super::{Import, Source, Target};
use crate::alarm::Alarm;
use crate::error::Result;
use crate::format::entry::{Head, PageEntry};
use crate::format::own_keys::{NAME_KEY, VERSION_KEY};
use crate::format::page::{Page, PageItem};
use crate::ids::{Address, Codec, KeyKind, Life};
use crate::inspect::catalog::CATALOG;
use crate::inspect::owners::entries_of;
use crate::inspect::report::KeyRange;
use std::collections::{BTreeMap, BTreeSet};

/// The entries of one key range, folded from its base and its deltas.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// None for a key that is deleted.
    found: BTreeMap<Vec<u8>, Option<(Codec, Vec<u8>)>>,
    /// Deleted in deltas met so far; older entries in them do not count.
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Content {
    /// Adds a page below all that were added before.
    pub(super) fn add_below(&mut self, page: &Page) {
        for (key, item) in page.items() {
            let is_gone =
                self.ranges.iter().any(|(start, end)| &start[..] <= key && key < &end[..]);
            if is_gone || self.found.contains_key(key) {
                continue;
            }
            let value = match item {
                PageItem::Value { codec, value } => Some((codec, value.to_vec())),
                PageItem::Deleted => None,
            };
            self.found.insert(key.to_vec(), value);
        }
        let ranges = page.ranges().map(|(start, end)| (start.to_vec(), end.to_vec()));
        self.ranges.extend(ranges);
    }

    /// Leaves out keys that belong to another range.
    pub(super) fn end_before(&mut self, end: &[u8]) {
        self.found.split_off(end);
    }

    /// What is there, in the order of keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], Codec, &[u8])> {
        self.found.iter().filter_map(|(key, value)| {
            value.as_ref().map(|(codec, value)| (&key[..], *codec, &value[..]))
        })
    }

    /// The object's name, which its first page has.
    pub(super) fn name(&self) -> Option<String> {
        let (_, name) = self.found.get(NAME_KEY)?.as_ref()?;
        String::from_utf8(name.clone()).ok()
    }
}

/// An object on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    address: Address,
    is_begun: bool,
}

impl Outgoing {
    pub(super) fn new(address: Address) -> Self {
        Self { address, is_begun: false }
    }
}

impl Source<'_> {
    /// Every object that the directory knows, and what is known of those that it has lost.
    pub(super) fn hand_out_objects(&mut self, target: &mut dyn Target) -> Result<()> {
        if let Some(watch) = &self.watch {
            let live = self.manifest.segments.iter().map(|state| state.live_bytes);
            watch.expect(live.fold(0, u64::saturating_add));
        }
        let directory = self.directory.clone();
        let mut partly: BTreeMap<Address, (Life, BTreeSet<Vec<u8>>)> = BTreeMap::new();
        // What the directory has lost is gone through below.
        for (address, head) in directory.heads(Address::default()).filter_map(Result::ok) {
            if head.deleted || address == CATALOG {
                continue;
            }
            if let Some(seen) = self.hand_out_object(address, &head, target)? {
                partly.insert(address, (head.life, seen));
            }
        }
        let lost = self.lost_objects();
        self.hand_out_doubtful(&lost, &partly, target)
    }

    /// One object; if entries of its pages are lost, the fences that are left.
    fn hand_out_object(
        &mut self,
        address: Address,
        head: &Head,
        target: &mut dyn Target,
    ) -> Result<Option<BTreeSet<Vec<u8>>>> {
        if !self.namespaces.contains_key(&address.namespace) {
            self.lose(address, None, "its namespace is lost, and with it the key of its id");
            return Ok(None);
        }
        let import = self.imports.get(&address).copied();
        if head.unfinished && import != Some(Import::Completed) {
            self.unfinished.insert(address);
            if import.is_none() {
                self.lose(address, None, "an import of it was under way at the last checkpoint");
            }
            return Ok(None);
        }
        if head.restores {
            let called = self.called(address, None);
            let what = format!("{called}: was to be restored when opened next; it is as before");
            self.done.note(what);
        }
        if head.alarm_lost || head.marks_lost {
            self.lose(
                address,
                None,
                "its head was lost to damage before, with what it said of alarms",
            );
        }
        let mut outgoing = Outgoing::new(address);
        let directory = self.directory.clone();
        let mut seen = BTreeSet::new();
        let mut is_whole = true;
        for entry in entries_of(&directory, address, head) {
            let Ok((range, entry)) = entry else {
                is_whole = false;
                continue;
            };
            self.hand_out_entry((&mut outgoing, head.life), &range, &entry, target)?;
            seen.insert(range.first);
        }
        self.hand_out_alarm(&mut outgoing, head.alarm.as_ref(), target)?;
        if is_whole {
            return Ok(None);
        }
        self.lose(address, None, "entries of some of its pages are lost");
        Ok(Some(seen))
    }

    /// The entries of one key range, from the newest part down to the first that cannot be read.
    fn hand_out_entry(
        &mut self,
        (outgoing, life): (&mut Outgoing, Life),
        range: &KeyRange,
        entry: &PageEntry,
        target: &mut dyn Target,
    ) -> Result<()> {
        let address = outgoing.address;
        let mut content = Content::default();
        let parts: Vec<_> = entry.parts().collect();
        let (mut is_hidden, mut is_doubted) = (false, false);
        if entry.base.is_none() {
            self.lose(address, Some(range.clone()), "its page was lost to damage before");
        }
        for part in parts.iter().rev() {
            if let Some(watch) = &self.watch {
                watch.pass(u64::from(part.location.bytes));
            }
            match self.segments.read(part, address, life) {
                Ok(page) => {
                    is_doubted |= is_hidden;
                    if !is_hidden || self.with_doubtful {
                        content.add_below(&page);
                    }
                }
                Err(error) => {
                    is_hidden = true;
                    self.lose(address, Some(range.clone()), error.to_string());
                }
            }
        }
        if is_doubted {
            let what = "an older state of it can be read";
            self.doubt(address, Some(range.clone()), what);
        }
        self.hand_out_content(outgoing, &content, target)
    }

    /// Hands out entries that mean something in another store.
    pub(super) fn hand_out_content(
        &mut self,
        outgoing: &mut Outgoing,
        content: &Content,
        target: &mut dyn Target,
    ) -> Result<()> {
        let name = content.name();
        for (key, codec, value) in content.entries() {
            self.begin(outgoing, name.as_deref(), target)?;
            let is_own = key.first() == Some(&(KeyKind::Meta as u8));
            if is_own && key != VERSION_KEY {
                continue;
            }
            self.done.entries += 1;
            target.entry(key, codec, value)?;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        outgoing: &mut Outgoing,
        name: Option<&str>,
        target: &mut dyn Target,
    ) -> Result<()> {
        if outgoing.is_begun {
            return Ok(());
        }
        outgoing.is_begun = true;
        let address = outgoing.address;
        let known = name.map(str::to_owned);
        let name = known.or_else(|| crate::inspect::lost::name_of(&self.runs, address));
        let namespace = self.namespaces.get(&address.namespace);
        let fits = |name: &String| {
            namespace.is_some_and(|namespace| namespace.key.named(name).short() == address.id)
        };
        target.begin(address, name.filter(fits).as_deref())
    }

    /// Hands out the plain alarm and ends the object, if anything of it was handed out.
    pub(super) fn hand_out_alarm(
        &mut self,
        outgoing: &mut Outgoing,
        alarm: Option<&Alarm>,
        target: &mut dyn Target,
    ) -> Result<()> {
        if let Some(alarm) = alarm {
            self.begin(outgoing, None, target)?;
            target.alarm(alarm)?;
            self.done.entries += 1;
        }
        if outgoing.is_begun {
            self.done.objects += 1;
            target.end()?;
        }
        Ok(())
    }
}
