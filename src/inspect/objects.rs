//! Verification of objects: heads, the pages that they name, and what the manifest says of each
//! segment against the sum of it all.
//!
//! Invariants:
//!   * Memory is one account for each segment, one page, and what is reported.
//!   * Accounts are compared only where every entry of the directory was seen.

use crate::alarm::Alarm;
use crate::directory::{Directory, FencedPage};
use crate::error::Error;
use crate::format::alarm::{Hint, decode_entry, name_in_key};
use crate::format::entry::{Head, PageEntry, PagePart};
use crate::format::manifest::Manifest;
use crate::format::object_name::ObjectName;
use crate::format::own_keys::is_content;
use crate::format::page::{Page, PageItem, PageKind};
use crate::ids::{Address, FileNumber, KeyKind, Life, Lsn, NamespaceNumber};
use crate::inspect::catalog::{CATALOG, Namespace};
use crate::inspect::report::{Fault, KeyRange, Report, Watch, message};
use crate::inspect::runs::Runs;
use crate::inspect::segments::Told;
use crate::names::FileName;
use crate::segment::SegmentSet;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes and pages of a segment that the directory names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Live {
    bytes: u64,
    pages: u64,
}

/// A walk over all objects.
pub struct Objects<'a> {
    directory: &'a Directory,
    runs: &'a Runs,
    segments: &'a SegmentSet,
    cut: Lsn,
    namespaces: Option<BTreeMap<NamespaceNumber, Namespace>>,
    live: BTreeMap<FileNumber, Live>,
    /// Live pages that could not be read.
    pub damaged: Told,
    /// Whether every entry was seen.
    is_whole: bool,
    report: &'a mut Report,
    watch: &'a dyn Watch,
}

/// One object during the walk.
struct Subject {
    address: Address,
    life: Life,
    count: u64,
    content_bytes: u64,
}

impl<'a> Objects<'a> {
    /// A walk that has not begun.
    pub fn new(
        manifest: &Manifest,
        (directory, runs): (&'a Directory, &'a Runs),
        segments: &'a SegmentSet,
        (report, watch): (&'a mut Report, &'a dyn Watch),
    ) -> Self {
        let live = |number: FileNumber| (number, Live::default());
        Self {
            directory,
            runs,
            segments,
            cut: manifest.cut,
            namespaces: None,
            live: manifest.segments.iter().map(|state| live(state.facts.number)).collect(),
            damaged: Told::new(),
            is_whole: true,
            report,
            watch,
        }
    }

    /// The namespaces against which objects and their names are checked.
    pub fn expect_namespaces(&mut self, namespaces: BTreeMap<NamespaceNumber, Namespace>) {
        self.namespaces = Some(namespaces);
    }

    /// Walks over all of them and compares the accounts with the manifest's.
    pub fn check(&mut self, manifest: &Manifest) {
        for head in self.directory.heads(Address::default()) {
            if self.watch.is_over() {
                return;
            }
            match head {
                Ok((address, head)) => self.check_head(address, &head),
                // What is lost is told run by run, and whom it concerns below.
                Err(error) => self.lose(&error, None),
            }
        }
        if !self.is_whole {
            self.report.note("what is live in each segment was not compared: entries are lost");
            return;
        }
        for state in &manifest.segments {
            let found = self.live.get(&state.facts.number).copied().unwrap_or_default();
            let said = Live { bytes: state.live_bytes, pages: state.live_pages };
            if found != said {
                let what = format!(
                    "the manifest has {} live pages of {} bytes, the directory names {} of {}",
                    said.pages, said.bytes, found.pages, found.bytes
                );
                self.report.wrong(FileName::Segment(state.facts.number), what);
            }
        }
    }

    fn lose(&mut self, error: &Error, object: Option<Address>) {
        self.is_whole = false;
        let is_told = error.code() == "run.hole";
        match object {
            Some(address) => self.tell_lost(error, address, "entries of its pages were lost"),
            None if is_told => {}
            None => self.report.failed(error, FileName::Manifest, object),
        }
    }

    /// Tells of an object of which entries in a run are lost, with the bytes where they stood.
    fn tell_lost(&mut self, error: &Error, address: Address, what: &str) {
        let lost = error.place().and_then(|place| self.runs.lost_of(place, address));
        match lost {
            Some(lost) => {
                let fault = Fault::at(lost.file, lost.range.clone(), what);
                self.report.fault(fault.of(address));
            }
            None => self.report.failed(error, FileName::Manifest, Some(address)),
        }
    }

    /// Of objects that are known from elsewhere, tells which the directory has lost.
    pub fn check_lost(&mut self, known: &BTreeSet<Address>) {
        for address in known {
            if let Err(error) = self.directory.head(*address) {
                self.tell_lost(&error, *address, "its entry was lost");
            }
        }
    }

    fn wrong(&mut self, address: Address, what: impl Into<String>) {
        // An entry may stand in any run of the directory; the newest is named.
        let run = self.directory.runs().first().map_or(FileName::Manifest, |run| run.name());
        self.report.fault(Fault::at(run, 0..0, what).of(address));
    }

    fn check_head(&mut self, address: Address, head: &Head) {
        if head.deleted {
            if head.page.is_some() {
                self.wrong(address, "a deleted object with a page");
            }
            return;
        }
        self.report.counts.objects += 1;
        if head.life.0 == 0 || head.life.0 > head.last_lsn.0 || head.last_lsn > self.cut {
            let (life, last, cut) = (head.life, head.last_lsn, self.cut);
            self.wrong(
                address,
                format!("life {life}, last commit {last} and cut {cut} contradict"),
            );
        }
        if head.alarm.as_ref().is_some_and(|alarm| alarm.generation > head.last_lsn) {
            self.wrong(address, "an alarm that was set after the last commit");
        }
        if let Some(alarm) = &head.alarm {
            self.check_hint(address, alarm, None);
        }
        self.check_name(address, head);
        let mut subject = Subject { address, life: head.life, count: 0, content_bytes: 0 };
        let pages = self.check_pages(&mut subject, head);
        let found = (subject.count, subject.content_bytes);
        let Some(pages) = pages else { return };
        if pages == 0 && (!head.may_have_alarm() || head.count != 0) {
            self.wrong(address, "neither pages nor an alarm");
        }
        if !head.approximate && found != (head.count, head.content_bytes) {
            let (count, bytes) = (head.count, head.content_bytes);
            let what =
                format!("{count} keys of {bytes} bytes, its pages {} of {}", found.0, found.1);
            self.wrong(address, what);
        }
    }

    /// An alarm without a hint would never fire. A hint without an alarm is no fault.
    fn check_hint(&mut self, address: Address, alarm: &Alarm, name: Option<&str>) {
        if !self.runs.has_hint(&Hint::of(alarm, address, name)) {
            self.wrong(address, "an alarm that the runs of alarms do not have");
        }
    }

    /// Where no delta may have replaced them, named alarms are checked as the plain one is.
    fn check_named(&mut self, address: Address, page: &Page) {
        for (key, item) in page.items() {
            let PageItem::Value { value, .. } = item else { continue };
            let Some(name) = name_in_key(key) else { continue };
            match decode_entry(value) {
                Ok(alarm) => self.check_hint(address, &alarm, Some(name)),
                Err(fault) => self.wrong(address, format!("a named alarm: {fault}")),
            }
        }
    }

    /// All pages of an object: how many entries there are, if that is known.
    fn check_pages(&mut self, subject: &mut Subject, head: &Head) -> Option<u64> {
        let (address, life) = (subject.address, subject.life);
        let mut entries = 0;
        if let Some(entry) = &head.page {
            self.check_entry(subject, (&[], entry), None);
            entries += 1;
        }
        let (mut before, mut is_whole): (Option<FencedPage>, _) = (None, true);
        for page in self.directory.pages(address, life) {
            let page = match page {
                Ok(page) => page,
                // Nobody asks for pages of an object that has just one.
                Err(error) if head.page.is_some() && error.code() == "run.hole" => {
                    self.is_whole = false;
                    continue;
                }
                Err(error) => {
                    self.lose(&error, Some(address));
                    is_whole = false;
                    continue;
                }
            };
            if before.is_none() && is_whole && (head.page.is_some() || !page.0.is_empty()) {
                let one_page = head.page.is_some();
                let other = "the first of its pages has a fence";
                self.wrong(
                    address,
                    if one_page { "page entries beside its one page" } else { other },
                );
            }
            if let Some((fence, entry)) = before.replace(page) {
                let next = before.as_ref().map(|(fence, _)| fence.as_slice());
                self.check_entry(subject, (&fence, &entry), next);
            }
            entries += 1;
        }
        if let Some((fence, entry)) = before {
            self.check_entry(subject, (&fence, &entry), None);
        }
        is_whole.then_some(entries)
    }

    fn check_entry(
        &mut self,
        subject: &mut Subject,
        (fence, entry): (&[u8], &PageEntry),
        next: Option<&[u8]>,
    ) {
        if let Some(base) = &entry.base {
            subject.count += u64::from(base.count);
            subject.content_bytes = subject.content_bytes.saturating_add(base.content_bytes);
        } else {
            // What was released with it is not known either.
            self.is_whole = false;
            self.wrong(subject.address, "content of a page was lost to damage before");
        }
        let mut below = None;
        for (index, part) in entry.parts().enumerate() {
            let is_base = index == 0 && entry.base.is_some();
            self.check_order(subject, part, (is_base, below));
            below = Some(part);
            let page = self.check_part(subject, part, is_base, (fence, next));
            if let Some(page) = page.filter(|_| entry.deltas.is_empty()) {
                self.check_named(subject.address, &page);
            }
        }
    }

    fn check_order(
        &mut self,
        subject: &Subject,
        part: &PagePart,
        (is_base, below): (bool, Option<&PagePart>),
    ) {
        // One change may have become several pages.
        let is_above = |below: &PagePart| {
            below.exact_at <= part.until
                || part.until > Lsn::ZERO
                    && (below.until, below.exact_at) == (part.until, part.exact_at)
        };
        let is_in_life = part.exact_at.0 >= subject.life.0 && part.exact_at <= self.cut;
        let is_in_order = if is_base {
            part.until == Lsn::ZERO
        } else {
            below.is_none_or(is_above) && part.until < part.exact_at
        };
        if !is_in_life || !is_in_order {
            let (exact_at, until) = (part.exact_at, part.until);
            let what = format!("a page exact at {exact_at} over {until} does not fit its object");
            self.wrong(subject.address, what);
        }
    }

    fn check_part(
        &mut self,
        subject: &Subject,
        part: &PagePart,
        is_base: bool,
        range: (&[u8], Option<&[u8]>),
    ) -> Option<Page> {
        let location = &part.location;
        let Some(live) = self.live.get_mut(&location.file) else {
            let name = FileName::Segment(location.file);
            let what = format!("a page in {name}, which the manifest does not name");
            self.wrong(subject.address, what);
            return None;
        };
        live.bytes += u64::from(location.bytes);
        live.pages += 1;
        self.report.counts.pages += 1;
        self.report.counts.page_bytes += u64::from(location.bytes);
        self.watch.pass(u64::from(location.bytes));
        let read = self.segments.read(part, subject.address, subject.life);
        let what = match &read {
            Ok(page) => contradiction(page, part, is_base, range).map(str::to_owned),
            Err(error) => Some(message(error)),
        };
        if let Some(what) = what {
            let end = location.offset.saturating_add(u64::from(location.bytes));
            let span = location.offset..end;
            if read.is_err() {
                self.damaged.insert((location.file, span.start), span.end);
            }
            let (first, end) = (range.0.to_vec(), range.1.map(<[u8]>::to_vec));
            let keys = Some(KeyRange { first, end });
            let fault = Fault::at(FileName::Segment(location.file), span, what);
            self.report.fault(Fault { keys, ..fault.of(subject.address) });
        }
        read.ok()
    }

    /// An object that has a name has it in the runs of names, and its id follows from it.
    fn check_name(&mut self, address: Address, head: &Head) {
        let namespace = match &self.namespaces {
            Some(_) if address == CATALOG => return,
            Some(namespaces) => namespaces.get(&address.namespace),
            None => return,
        };
        let Some(namespace) = namespace else {
            self.wrong(address, "of a namespace that the catalog does not have");
            return;
        };
        if !head.named {
            return;
        }
        let is_own = |value: &[u8]| {
            ObjectName::decode(value)
                .is_ok_and(|own| namespace.key.named(own.name).short() == address.id)
        };
        let mut found = None;
        for run in self.runs.names.iter().filter(|run| run.may_hold(&address)) {
            match run.get(&address.to_bytes(), is_own) {
                Ok(None) => {}
                Ok(some) => {
                    found = some;
                    break;
                }
                Err(error) => return self.tell_lost(&error, address, "its name was lost"),
            }
        }
        match found {
            Some(true) => {}
            Some(false) => self.wrong(address, "its id does not follow from its name"),
            None => self.wrong(address, "its name is in no run of names"),
        }
    }
}

/// What a page says against its entry or its place among the others.
fn contradiction(
    page: &Page,
    part: &PagePart,
    is_base: bool,
    (fence, next): (&[u8], Option<&[u8]>),
) -> Option<&'static str> {
    let header = page.header();
    let kind = if is_base { PageKind::Page } else { PageKind::Delta };
    if header.kind != kind {
        return Some("a base and a delta have changed places");
    }
    if page.fence() != fence {
        return Some("page of another fence");
    }
    if (header.exact_at, header.until) != (part.exact_at, part.until) {
        return Some("page as of another commit than its entry says");
    }
    let last = page.items().last().map(|(key, _)| key);
    let range_end = page.ranges().last().map(|(_, end)| end);
    let reaches = |next: &[u8]| {
        last.is_some_and(|last| last >= next) || range_end.is_some_and(|end| end > next)
    };
    if next.is_some_and(reaches) {
        return Some("page reaches beyond the next fence");
    }
    if is_base && content(page) != (u64::from(part.count), part.content_bytes) {
        return Some("page holds more or less than its entry says");
    }
    None
}

/// Keys of the user, and bytes of all content: keys with their kind, and values.
fn content(page: &Page) -> (u64, u64) {
    let (mut count, mut bytes) = (0, 0);
    for (key, item) in page.items() {
        let PageItem::Value { value, .. } = item else { continue };
        let kind = key.first().copied();
        let is_user = kind == Some(KeyKind::User as u8);
        count += u64::from(is_user);
        if is_content(key) {
            // A user's key is counted without its kind.
            bytes += (key.len() - usize::from(is_user) + value.len()) as u64;
        }
    }
    (count, bytes)
}
