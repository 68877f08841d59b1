//! Places that hold something else than what was written there last, checksums and all: a sector
//! from another past of the same machine, a directory that names the page of another object.
//!
//! No checksum of the place itself finds these; what finds them is the log's chain, and that each
//! page names its object and its life.
//!
//! Invariants:
//!   * A forged copy is as well-formed as the original.

use super::model::{Content, Shape};
use super::simulate_damage::{Patient, manifest_of};
use super::simulate_world::{Outcome, World, namespace_name};
use dostore::directory::Directory;
use dostore::disk::ReadDisk;
use dostore::disk::pace::Pace;
use dostore::disk::sim::SimDisk;
use dostore::error::Result;
use dostore::format::entry::{DirectoryKey, Head};
use dostore::format::header::FileContext;
use dostore::format::run::{RunFacts, RunUse};
use dostore::ids::{Address, FileNumber};
use dostore::manifest;
use dostore::names::FileName;
use dostore::run::{Run, RunItem, RunWriter};
use dostore::store::{Options, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Commits of each of two pasts.
const COMMITS: u64 = 5;
const BLOCK: usize = 4_096;

fn options() -> Options {
    Store::options().threads(false).pool_files(0)
}

/// The entries of a run, in order.
fn entries(disk: &dyn ReadDisk, facts: &RunFacts) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = manifest_of(disk).store;
    let run = Run::open(disk, store, facts).expect("a healthy disk");
    let items = run.iter().filter_map(|item| match item.expect("a healthy disk") {
        RunItem::Entry { key, value } => Some((key, value)),
        RunItem::Hole { .. } => None,
    });
    items.collect()
}

/// Puts a run with these entries in the place of another.
fn replace_run(disk: &SimDisk, old: &RunFacts, entries: &[(Vec<u8>, Vec<u8>)]) {
    let mut next = manifest_of(disk);
    let number = FileNumber(next.next_file.0 + 1_000);
    let context = FileContext { store: next.store, term: next.term };
    let pace = Arc::new(Pace::new(disk.clock()));
    let created = RunWriter::create(disk, pace, context, number, old.usage);
    let mut out = created.expect("a healthy disk");
    for (key, value) in entries {
        out.add(key, value).expect("keys ascend");
    }
    let facts = out.finish().expect("a healthy disk");
    for run in next.runs.iter_mut().filter(|run| run.number == old.number) {
        *run = facts;
    }
    next.next_file = FileNumber(number.0 + 1);
    next.generation += 1;
    for folder in dostore::names::Folder::ALL {
        dostore::disk::Disk::sync_folder(disk, folder).expect("a healthy disk");
    }
    manifest::write(disk, &next).expect("a healthy disk");
}

/// The head of an object as a disk's manifest has it.
fn head_of(disk: &SimDisk, address: Address) -> Option<Head> {
    let manifest = manifest_of(disk);
    let runs = manifest.runs.iter().filter(|facts| facts.usage == RunUse::Directory);
    let open = |facts| Run::open(disk, manifest.store, facts).expect("a healthy disk");
    Directory::new(runs.map(open).collect()).head(address).expect("a healthy disk")
}

/// The head in an entry, if it names one page of an object that is there.
fn one_page_head((key, value): &(Vec<u8>, Vec<u8>)) -> Option<(Address, Head)> {
    let Ok(DirectoryKey::Head(address)) = DirectoryKey::parse(key) else { return None };
    let head = Head::decode(value).ok()?;
    (!head.deleted && head.page.is_some()).then_some((address, head))
}

fn encoded(head: &Head) -> Vec<u8> {
    let mut value = Vec::new();
    head.encode(&mut value);
    value
}

impl World {
    /// Each forgery once.
    pub fn forge(&mut self, healthy: &SimDisk) -> Outcome {
        self.swap_pages(healthy)?;
        self.name_an_earlier_life(healthy)?;
        self.mix_two_pasts(healthy)
    }

    /// A directory in which two objects have each other's page.
    fn swap_pages(&mut self, healthy: &SimDisk) -> Outcome {
        let mut patient = self.patient(healthy, "two pages swapped in the directory");
        let runs = manifest_of(&patient.disk).runs;
        for facts in runs.iter().filter(|facts| facts.usage == RunUse::Directory) {
            let mut entries = entries(&patient.disk, facts);
            let heads = entries.iter().enumerate();
            let found: Vec<_> = heads
                .filter_map(|(at, entry)| {
                    one_page_head(entry).map(|(address, head)| (at, address, head))
                })
                .filter(|(_, address, _)| address.namespace.0 > 0)
                .collect();
            if found.len() < 2 {
                continue;
            }
            let one = self.chance.index(found.len());
            let other = (one + 1 + self.chance.index(found.len() - 1)) % found.len();
            let ((at, _, mine), (there, _, its)) = (&found[one], &found[other]);
            // With its life, so that nothing but the object gives it away.
            let with = |head: &Head, page_of: &Head| {
                encoded(&Head { page: page_of.page.clone(), life: page_of.life, ..head.clone() })
            };
            entries[*at].1 = with(mine, its);
            entries[*there].1 = with(its, mine);
            replace_run(&patient.disk, facts, &entries);
            return self.examine_forged(&mut patient);
        }
        Ok(())
    }

    fn examine_forged(&mut self, patient: &mut Patient) -> Outcome {
        let told = patient.told.clone();
        self.note(format_args!("{told}"));
        self.counts.damages += 1;
        patient.disk = patient.disk.kill();
        patient.examine(self).map(drop)
    }

    /// A directory in which an object has the page that it had before it was deleted.
    fn name_an_earlier_life(&mut self, healthy: &SimDisk) -> Outcome {
        let mut patient = self.patient(healthy, "a page of an earlier life in the directory");
        let index = self.chance.index(self.objects.len());
        let content = |version| Content { owner: None, version, bytes: 30, shape: Shape::Noise };
        let everyone: BTreeSet<usize> = (0..self.objects.len()).collect();
        let old = content(1 << 41);
        let new = content(1 << 42);
        let wrote = self.rewrite(&mut patient, &everyone, old).and_then(|()| {
            let before = self.find_head(&patient, index);
            self.rewrite(&mut patient, &BTreeSet::from([index]), new)?;
            Ok(before)
        });
        let (address, before) = wrote.expect("a healthy disk");
        patient.disk = patient.disk.kill();
        let runs = manifest_of(&patient.disk).runs;
        for facts in runs.iter().filter(|facts| facts.usage == RunUse::Directory) {
            let mut entries = entries(&patient.disk, facts);
            let mut is_forged = false;
            for entry in &mut entries {
                if let Some((found, head)) = one_page_head(entry)
                    && found == address
                    && head.life != before.life
                {
                    entry.1 = encoded(&Head { page: before.page.clone(), ..head });
                    is_forged = true;
                }
            }
            if is_forged {
                replace_run(&patient.disk, facts, &entries);
            }
        }
        self.examine_forged(&mut patient)
    }

    /// Objects are deleted and have one key from there on; all of it goes into pages.
    fn rewrite(
        &self,
        patient: &mut Patient,
        objects: &BTreeSet<usize>,
        content: Content,
    ) -> Result<()> {
        let store = options().open_on(patient.disk.clone())?;
        for index in objects {
            let object = &self.objects[*index];
            let namespace = store.namespace(&namespace_name(object.namespace))?;
            let _ = namespace.delete(object.id)?.detach();
            let mut handle = namespace.open(object.id)?;
            let _ = handle.put(b"k", content.render(*index, b"k"))?.detach();
            patient.maps[*index] = std::iter::once((b"k".to_vec(), content)).collect();
        }
        store.steps().checkpoint()?;
        Ok(())
    }

    fn find_head(&self, patient: &Patient, index: usize) -> (Address, Head) {
        let short = self.objects[index].id.short();
        for facts in &manifest_of(&patient.disk).runs {
            for entry in entries(&patient.disk, facts) {
                if facts.usage == RunUse::Directory
                    && let Some((address, _)) = one_page_head(&entry)
                    && address.id == short
                    && let Some(head) = head_of(&patient.disk, address)
                {
                    return (address, head);
                }
            }
        }
        panic!("object {index} was put into a page");
    }

    /// Two machines go on from the same moment, as after a restored snapshot of one of them; then
    /// one block of the log of the first stands in the log of the second.
    fn mix_two_pasts(&mut self, healthy: &SimDisk) -> Outcome {
        let mut one = self.patient(healthy, "a block of the log from another past");
        let mut other = self.patient(healthy, "");
        self.go_on(&mut one, 1 << 43).expect("a healthy disk");
        self.go_on(&mut other, 1 << 44).expect("a healthy disk");
        one.disk = one.disk.kill();
        let logs = one.disk.names().into_iter().filter(|name| matches!(name, FileName::Wal(_)));
        for name in logs {
            let (Some(mut mine), Some(its)) =
                (one.disk.file_bytes(name), other.disk.file_bytes(name))
            else {
                continue;
            };
            let blocks = mine.chunks(BLOCK).zip(its.chunks(BLOCK)).enumerate();
            let differing: Vec<usize> =
                blocks.filter(|(_, (mine, its))| mine != its).map(|(at, _)| at).collect();
            // The header differs where the two pasts have drawn different salts.
            if differing.len() < 3 || differing[0] == 0 {
                continue;
            }
            let at = differing[self.chance.index(differing.len() - 2)] * BLOCK;
            mine[at..at + BLOCK].copy_from_slice(&its[at..at + BLOCK]);
            one.disk.replace_file_bytes(name, mine);
            return self.examine_forged(&mut one);
        }
        Ok(())
    }

    /// A few commits, each in a group of its own.
    fn go_on(&self, patient: &mut Patient, version: u64) -> Result<()> {
        let store = options().open_on(patient.disk.clone())?;
        let object = &self.objects[0];
        let namespace = store.namespace(&namespace_name(object.namespace))?;
        let mut handle = namespace.open(object.id)?;
        for number in 0..COMMITS {
            let key = format!("past {number}").into_bytes();
            let content =
                Content { owner: None, version: version + number, bytes: 40, shape: Shape::Noise };
            handle.put(&key, content.render(0, &key))?.wait()?;
            patient.maps[0].insert(key, content);
        }
        store.steps().write_mark()?;
        Ok(())
    }
}
