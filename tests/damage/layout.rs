//! Where everything stands in the files of an undamaged store, from the formats alone, and whom the
//! loss of each stretch of bytes concerns.
//!
//! Invariants:
//!   * Nothing of `inspect` is used: what it says is compared with what is found here.

use dostore::directory::Directory;
use dostore::disk::sim::SimDisk;
use dostore::format::block::{Block, BlockCursor};
use dostore::format::entry::{head_key, page_key};
use dostore::format::group::{GROUP_HEADER_BYTES, GroupHeader, WalHeader, unmask};
use dostore::format::header::{FileKind, Header};
use dostore::format::history::Bundle;
use dostore::format::manifest::{HistoryFile, Manifest};
use dostore::format::page::PageHeader;
use dostore::format::place_seed;
use dostore::format::record::records;
use dostore::format::run::{Footer, RunFacts, RunUse};
use dostore::ids::{Address, FileNumber};
use dostore::inspect::Scope;
use dostore::names::FileName;
use dostore::run::Run;
use dostore::segment::dictionary::expand;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are lost together.
#[derive(Clone, Debug)]
pub struct Unit {
    pub file: FileName,
    pub kind: &'static str,
    pub range: Range<u64>,
    /// What is told to be damaged when a byte of it is.
    pub told: Range<u64>,
    /// None where nobody can tell.
    pub scope: Option<Scope>,
    /// Only the damaged byte itself is told.
    pub is_bytewise: bool,
    pub objects: BTreeSet<Address>,
    /// Objects that may be named beside them: of entries that nothing else in the store knows.
    pub perhaps: BTreeSet<Address>,
}

pub struct Layout {
    pub units: Vec<Unit>,
    disk: SimDisk,
    manifest: Manifest,
    directory: Directory,
    names: Vec<Arc<Run>>,
    heads: BTreeMap<Address, dostore::format::entry::Head>,
}

const HALF: u64 = 2048;

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

fn short(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()))
}

impl Layout {
    pub fn of(disk: &SimDisk) -> Self {
        let manifest = dostore::manifest::read(disk).unwrap().unwrap();
        let open = |usage: RunUse| -> Vec<Arc<Run>> {
            let runs = manifest.runs.iter().filter(|facts| facts.usage == usage);
            runs.map(|facts| Run::open(disk, manifest.store, facts).unwrap()).collect()
        };
        let directory = Directory::new(open(RunUse::Directory));
        let heads = directory.heads(Address::default()).map(Result::unwrap).collect();
        let (names, disk, units) = (open(RunUse::Names), disk.clone(), Vec::new());
        let mut layout = Self { units, disk, manifest, directory, names, heads };
        layout.build();
        layout
    }

    /// The unit that holds a byte.
    pub fn unit(&self, file: FileName, byte: u64) -> &Unit {
        let holds = |unit: &&Unit| unit.file == file && unit.range.contains(&byte);
        let found = self.units.iter().find(holds);
        found.unwrap_or_else(|| panic!("{file} has no unit at {byte}"))
    }

    /// The files of a kind.
    pub fn files(&self, kind: &str) -> Vec<FileName> {
        let of_kind = self.units.iter().filter(|unit| unit.kind == kind);
        let files: BTreeSet<_> = of_kind.map(|unit| unit.file).collect();
        files.into_iter().collect()
    }

    /// What the manifest says of a file of history.
    pub fn history(&self, file: FileName) -> HistoryFile {
        let mut files = self.manifest.history.iter();
        *files.find(|history| FileName::Run(history.facts.number) == file).unwrap()
    }

    /// The objects whose last commit is in the span of a file of history.
    pub fn last_in(&self, file: &HistoryFile) -> BTreeSet<Address> {
        let is_in = |lsn| file.start < lsn && lsn <= file.end;
        let heads = self.heads.iter().filter(|(_, head)| is_in(head.last_lsn));
        heads.map(|(address, _)| *address).collect()
    }

    /// The objects for which, without a run, nobody can say what a newer one does not.
    pub fn unanswered(&self, file: FileName, kind: &str) -> BTreeSet<Address> {
        let runs = if kind == "names" { &self.names[..] } else { self.directory.runs() };
        let newer: Vec<_> = runs.iter().take_while(|run| run.name() != file).collect();
        let all = self.heads.iter().filter(|(address, head)| {
            let key = match kind {
                "names" => address.to_bytes().to_vec(),
                _ => head_key(**address).to_vec(),
            };
            let is_large = !head.deleted && head.page.is_none() && head.count > 0;
            let answers = |run: &&Arc<Run>| run.get(&key, |_| ()).unwrap().is_some();
            !newer.iter().any(answers) || (kind == "directory" && is_large)
        });
        all.map(|(address, _)| *address).collect()
    }

    fn push(&mut self, file: FileName, kind: &'static str, range: Range<u64>) -> &mut Unit {
        let (objects, perhaps) = (BTreeSet::new(), BTreeSet::new());
        let (scope, is_bytewise, told) = (Some(Scope::Live), false, range.clone());
        self.units.push(Unit { file, kind, range, told, scope, is_bytewise, objects, perhaps });
        self.units.last_mut().unwrap()
    }

    fn halves(&mut self, file: FileName, kind: &'static str) {
        self.push(file, kind, 0..HALF).scope = Some(Scope::Spare);
        self.push(file, kind, HALF..2 * HALF).scope = Some(Scope::Spare);
    }

    fn build(&mut self) {
        let manifest = self.manifest.clone();
        for file in self.disk.names() {
            let bytes = self.disk.file_bytes(file).unwrap();
            let all = 0..bytes.len() as u64;
            match file {
                FileName::Manifest => drop(self.push(file, "manifest", all)),
                FileName::Lock => self.push(file, "lock", all).scope = None,
                FileName::ManifestTemporary | FileName::AdminSocket => {}
                FileName::Wal(wal) if wal < manifest.replay.file => {
                    self.push(file, "unnamed", all).scope = None;
                }
                FileName::Wal(wal) => self.log(wal, &bytes),
                FileName::Segment(segment) => {
                    let is_live =
                        |it: &&dostore::format::manifest::SegmentState| it.facts.number == segment;
                    match manifest.segments.iter().find(is_live) {
                        Some(state) => self.segment(file, &bytes, state.facts.page_bytes),
                        None => self.push(file, "unnamed", all).scope = None,
                    }
                }
                FileName::Run(run) => {
                    let history = manifest.history.iter().map(|history| &history.facts);
                    match manifest.runs.iter().chain(history).find(|it| it.number == run) {
                        Some(facts) => self.run(facts, &bytes),
                        None => self.push(file, "unnamed", all).scope = None,
                    }
                }
            }
        }
    }

    fn segment(&mut self, file: FileName, bytes: &[u8], page_bytes: u64) {
        self.halves(file, "segment");
        let live = self.live_pages(file.number().unwrap());
        let pages_end = 4096 + page_bytes;
        let footer = bytes.len() as u64 - 40;
        let mut at = 4096;
        while at < footer {
            let header = PageHeader::decode(&bytes[at as usize..]).unwrap();
            let range = at..at + header.page_bytes() as u64;
            at = range.end;
            let owner = live.get(&range.start).copied();
            let unit = self.push(file, "segment", range.clone());
            unit.objects.extend(owner);
            if owner.is_none() || range.start >= pages_end {
                unit.scope = Some(Scope::Spare);
            }
        }
        self.push(file, "segment", footer..footer + 40).scope = Some(Scope::Spare);
    }

    fn live_pages(&self, file: FileNumber) -> BTreeMap<u64, Address> {
        let mut live = BTreeMap::new();
        for (address, head) in self.heads.iter().filter(|(_, head)| !head.deleted) {
            let pages = self.directory.pages(*address, head.life).map(|page| page.unwrap().1);
            for entry in head.page.iter().cloned().chain(pages) {
                let here = entry.parts().filter(|part| part.location.file == file);
                live.extend(here.map(|part| (part.location.offset, *address)));
            }
        }
        live
    }

    fn run(&mut self, facts: &RunFacts, bytes: &[u8]) {
        let file = FileName::Run(facts.number);
        let (kind, scope) = match facts.usage {
            RunUse::Directory => ("directory", Scope::Live),
            RunUse::Names => ("names", Scope::Live),
            RunUse::Alarms => ("alarms", Scope::Live),
            RunUse::History => ("history", Scope::History),
        };
        self.halves(file, kind);
        let header = Header::decode(bytes, FileKind::Run).unwrap();
        let footer_at = bytes.len() - 128;
        let seed = place_seed(header.salt, header.number.0, footer_at as u64);
        let (footer, _) = Footer::decode(&bytes[footer_at..], seed).unwrap();
        let index = &bytes[footer.index.offset as usize..];
        let count = number(index, 0) as usize;
        let place = |block: usize| 4096 * short(index, 8 + 8 * count + 4 * block);
        let run = Run::open(&self.disk, self.manifest.store, facts).unwrap();
        for block in 0..count {
            let range = place(block)..place(block + 1);
            let entries = entries(&bytes[range.start as usize..range.end as usize]);
            let next = (block + 1 < count)
                .then(|| entries_at(bytes, place(block + 1)..place(block + 2)).remove(0).0);
            let (objects, perhaps) = self.concerned(&run, &entries, next.as_deref());
            let unit = self.push(file, kind, range);
            unit.scope = Some(if kind == "alarms" { Scope::Spare } else { scope });
            (unit.objects, unit.perhaps) = (objects, perhaps);
        }
        let mut end = footer.index.offset;
        for section in [footer.index, footer.filter, footer.holes] {
            if end < section.offset {
                self.push(file, kind, end..section.offset).scope = Some(Scope::Spare);
            }
            end = section.offset + section.bytes;
            self.push(file, kind, section.offset..end).scope = Some(scope);
        }
        self.push(file, kind, end..footer_at as u64 + 128).scope = Some(scope);
    }

    /// Whom the loss of a block concerns: whose question it can no longer answer.
    fn concerned(
        &self,
        run: &Run,
        entries: &[(Vec<u8>, Vec<u8>)],
        next: Option<&[u8]>,
    ) -> (BTreeSet<Address>, BTreeSet<Address>) {
        let (first, last) = (&entries[0].0, &entries[entries.len() - 1].0);
        let known = self.heads.iter().filter(|(address, _)| run.may_hold(address));
        let in_block = |key: &[u8]| first.as_slice() <= key && key <= last.as_slice();
        match run.facts().usage {
            RunUse::Alarms => (BTreeSet::new(), BTreeSet::new()),
            RunUse::Names => {
                let newer = newer_than(&self.names, run);
                let asks = known.filter(|(address, head)| {
                    let key = address.to_bytes();
                    let answers = |run: &&Arc<Run>| run.get(&key, |_| ()).unwrap().is_some();
                    head.named
                        && !head.deleted
                        && in_block(&key)
                        && !newer.iter().any(|it| answers(&it))
                });
                (asks.map(|(address, _)| *address).collect(), BTreeSet::new())
            }
            RunUse::Directory => {
                let newer = newer_than(self.directory.runs(), run);
                let (mut objects, mut perhaps) = (BTreeSet::new(), BTreeSet::new());
                for (address, head) in known {
                    let key = head_key(*address);
                    let answers = |run: &Arc<Run>| run.get(&key, |_| ()).unwrap().is_some();
                    let is_hidden = in_block(&key) && !newer.iter().any(answers);
                    let from = page_key(*address, head.life, b"");
                    let touches = first.as_slice() <= from.as_slice() || first.starts_with(&from);
                    let has_pages = !head.deleted && head.page.is_none() && head.count > 0;
                    if is_hidden || (has_pages && touches && last.as_slice() >= from.as_slice()) {
                        if head.deleted { &mut perhaps } else { &mut objects }.insert(*address);
                    }
                }
                (objects, perhaps)
            }
            RunUse::History => {
                let mut objects = BTreeSet::new();
                for (_, value) in entries {
                    let expand = |frame: &[u8], raw: &mut [u8]| expand(None, frame, raw);
                    let bundle = Bundle::decode(value, expand).unwrap();
                    let items = (0..bundle.count()).map(|item| bundle.item(item).unwrap().0);
                    objects.extend(items.map(|key| key.address));
                }
                // One whose items may have begun here; the filter errs once in a hundred times.
                let end = next.and_then(Address::from_bytes);
                let last = end.unwrap_or(Address::from_bytes(&[0xFF; 20]).unwrap());
                let first = Address::from_bytes(first).unwrap();
                let range = known.filter(|(address, _)| (first..=last).contains(*address));
                let perhaps = range.map(|(address, _)| *address).collect();
                objects.retain(|address| self.heads.contains_key(address));
                (objects, perhaps)
            }
        }
    }

    fn log(&mut self, wal: FileNumber, bytes: &[u8]) {
        let (file, length) = (FileName::Wal(wal), bytes.len() as u64);
        let Ok(header) = WalHeader::decode(&bytes[..4096]) else {
            let unit = self.push(file, "pool", 0..length);
            (unit.scope, unit.is_bytewise) = (Some(Scope::Spare), true);
            return;
        };
        self.halves(file, "log");
        let mut at = 4096u64;
        let replay = self.manifest.replay;
        loop {
            let seed = place_seed(header.header.salt, wal.0, at);
            let Some(here) = bytes.get(at as usize..) else { break };
            let Ok((group, _)) = GroupHeader::decode(here, seed) else { break };
            let body_end = at + GROUP_HEADER_BYTES as u64 + u64::from(group.body_bytes);
            let mut body = bytes[at as usize + GROUP_HEADER_BYTES..body_end as usize].to_vec();
            unmask(&mut body, group.mask);
            let objects = records(&body).map(|record| record.unwrap().header.address).collect();
            let is_dead = wal == replay.file && at < replay.offset;
            let end = at + group.group_bytes();
            // What a header says is all of the group.
            let unit = self.push(file, "log", at..body_end);
            unit.objects = objects;
            unit.scope = Some(if is_dead { Scope::Spare } else { Scope::Live });
            let unit = self.push(file, "log", body_end..end);
            (unit.scope, unit.is_bytewise) = (Some(Scope::Spare), true);
            at = end;
        }
        // A bit there looks like a write that was cut off; behind what a successor continues nobody
        // looks.
        self.push(file, "log", at..length.max(at)).scope = None;
    }
}

fn newer_than(runs: &[Arc<Run>], run: &Run) -> Vec<Arc<Run>> {
    runs.iter().take_while(|newer| newer.name() != run.name()).cloned().collect()
}

fn entries_at(bytes: &[u8], range: Range<u64>) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries(&bytes[range.start as usize..range.end as usize])
}

fn entries(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = BlockCursor::new(Block::parse(block).unwrap());
    cursor.first().unwrap();
    let mut entries = Vec::new();
    loop {
        entries.push((cursor.key().to_vec(), cursor.value().to_vec()));
        if !cursor.next().unwrap() {
            return entries;
        }
    }
}
