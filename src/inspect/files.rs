//! The files under a store's folder: which there are, and what each is there for.
//!
//! Invariants:
//!   * Every file has exactly one role, so lengths by role add up to the sum of all lengths.

use crate::disk::{ReadDisk, ReadFile, read_exact_at};
use crate::error::{Error, Result};
use crate::format::group::WalHeader;
use crate::format::header::{FileKind, HEADER_BLOCK_BYTES, Header, SECOND_COPY_OFFSET};
use crate::format::manifest::Manifest;
use crate::ids::FileNumber;
use crate::inspect::report::Report;
use crate::names::{FileName, Folder};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const BLOCK_BYTES: usize = 4096;

const _: () = assert!(BLOCK_BYTES as u64 == HEADER_BLOCK_BYTES);

/// What a file is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A segment that the manifest names.
    Segment,
    /// A run that the manifest names.
    Run,
    /// A file of history that the manifest names.
    History,
    /// A file of the log that recovery may need.
    Log,
    /// A file of the log that stands ready and was never used.
    Pool,
    /// Not named any more, or not yet: the writer will remove or publish it.
    Unnamed,
    /// The manifest, the lock and the admin socket.
    Other,
}

/// The files of a store with their lengths, and the names that are not the store's.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The store's own.
    pub files: BTreeMap<FileName, u64>,
    /// All others, with their folder's path.
    pub foreign: Vec<(String, u64)>,
}

impl Listing {
    /// Lists the folders. A folder that is missing is empty.
    pub fn read(disk: &dyn ReadDisk) -> Result<Self> {
        let mut listing = Self::default();
        for folder in Folder::ALL {
            let listed = match disk.list(folder) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound && folder != Folder::Root => {
                    continue;
                }
                listed => listed.map_err(|cause| Error::io("listing a folder", cause))?,
            };
            for file in listed {
                let is_folder = folder == Folder::Root
                    && Folder::ALL.iter().any(|inner| inner.path() == file.leaf);
                match FileName::parse(folder, &file.leaf) {
                    Some(name) => drop(listing.files.insert(name, file.bytes)),
                    None if is_folder => {}
                    None => listing.foreign.push((shown(folder, &file.leaf), file.bytes)),
                }
            }
        }
        Ok(listing)
    }

    /// What each file is there for.
    pub fn roles<'a>(
        &'a self,
        disk: &'a dyn ReadDisk,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = (FileName, u64, Role)> + 'a {
        let named = named(manifest);
        self.files.iter().map(move |(name, bytes)| {
            let role = match name {
                FileName::Lock | FileName::AdminSocket | FileName::Manifest => Role::Other,
                FileName::ManifestTemporary => Role::Unnamed,
                FileName::Wal(number) if *number < manifest.replay.file => Role::Unnamed,
                FileName::Wal(_) if is_unused(disk, *name) => Role::Pool,
                FileName::Wal(_) => Role::Log,
                FileName::Segment(_) | FileName::Run(_) => {
                    named.get(name).copied().unwrap_or(Role::Unnamed)
                }
            };
            (*name, *bytes, role)
        })
    }
}

fn shown(folder: Folder, leaf: &str) -> String {
    match folder {
        Folder::Root => leaf.to_owned(),
        folder => format!("{}/{leaf}", folder.path()),
    }
}

/// Segments and runs that a manifest names.
pub fn named(manifest: &Manifest) -> BTreeMap<FileName, Role> {
    let segment = |number: FileNumber| (FileName::Segment(number), Role::Segment);
    let segments = manifest.segments.iter().map(|state| segment(state.facts.number));
    let runs = manifest.runs.iter().map(|facts| (FileName::Run(facts.number), Role::Run));
    let history = manifest.history.iter();
    let history = history.map(|file| (FileName::Run(file.facts.number), Role::History));
    segments.chain(runs).chain(history).collect()
}

/// The first block of a file; zeros beyond its end.
fn read_block(file: &dyn ReadFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.bytes()?).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
    let mut block = vec![0; BLOCK_BYTES];
    read_exact_at(file, &mut block[..length], 0)?;
    Ok(block)
}

fn is_unused(disk: &dyn ReadDisk, name: FileName) -> bool {
    let block = disk.open(name).and_then(|file| read_block(&*file));
    block.is_ok_and(|block| block.iter().all(|byte| *byte == 0))
}

/// Checks that the files which the manifest names are there, as long as it says, and begin as they
/// must.
pub fn check(disk: &dyn ReadDisk, manifest: &Manifest, listing: &Listing, report: &mut Report) {
    let mut seen = BTreeSet::new();
    let segments = manifest
        .segments
        .iter()
        .map(|state| (FileName::Segment(state.facts.number), state.facts.bytes, FileKind::Segment));
    let history = manifest.history.iter().map(|file| &file.facts);
    let runs = manifest.runs.iter().chain(history);
    let runs = runs.map(|facts| (FileName::Run(facts.number), facts.bytes, FileKind::Run));
    for (name, bytes, kind) in segments.chain(runs) {
        report.counts.files += 1;
        if !seen.insert(name) {
            report.wrong(FileName::Manifest, format!("names {name} twice"));
        }
        if name.number().is_some_and(|number| number >= manifest.next_file) {
            report.wrong(FileName::Manifest, format!("{name} has a number not given out yet"));
        }
        match listing.files.get(&name) {
            None => {
                report.wrong(name, "the file is missing");
                continue;
            }
            Some(found) if *found != bytes => {
                report.wrong(name, format!("the file has {found} bytes instead of {bytes}"));
            }
            Some(_) => {}
        }
        check_header(disk, manifest, (name, kind), report);
    }
}

/// Both copies of the header are there and say whose the file is.
fn check_header(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    (name, kind): (FileName, FileKind),
    report: &mut Report,
) {
    let block = match disk.open(name).and_then(|file| read_block(&*file)) {
        Ok(block) => block,
        Err(cause) => {
            report.wrong(name, format!("the header cannot be read: {cause}"));
            return;
        }
    };
    let (first, second) = block.split_at(SECOND_COPY_OFFSET);
    let decoded = Header::decode(first, kind).or_else(|_| Header::decode(second, kind));
    match decoded {
        Err(_) => report.wrong(name, "neither copy of the header is right"),
        Ok(header) if header.store != manifest.store || Some(header.number) != name.number() => {
            let (store, number) = (header.store, header.number);
            report.wrong(name, format!("the file is number {number} of store {store}"));
        }
        Ok(header) if header.term > manifest.term => {
            report.wrong(name, format!("the file is of term {}, not begun yet", header.term));
        }
        Ok(_) if first != second => report.wrong(name, "the copies of the header differ"),
        Ok(_) => {}
    }
}

/// Says which files are there beside those that the manifest names, and which headers of the log
/// have lost a copy.
pub fn note_others(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    listing: &Listing,
    report: &mut Report,
) {
    for (name, bytes, role) in listing.roles(disk, manifest) {
        match role {
            Role::Unnamed => report.note(format!("{name}, {bytes} bytes, is not named")),
            Role::Log => note_log_header(disk, manifest, name, report),
            _ => {}
        }
    }
    for (path, bytes) in &listing.foreign {
        report.note(format!("{path}, {bytes} bytes, is not the store's"));
    }
}

/// A copy of a header may be torn in the file that was being begun when the machine failed.
fn note_log_header(disk: &dyn ReadDisk, manifest: &Manifest, name: FileName, report: &mut Report) {
    let Ok(block) = disk.open(name).and_then(|file| read_block(&*file)) else { return };
    match WalHeader::decode(&block) {
        Err(_) => report.note(format!("{name} has no readable header")),
        Ok(header) if header.header.store != manifest.store => {
            report.note(format!("{name} is of store {}", header.header.store));
        }
        Ok(_) if block[..SECOND_COPY_OFFSET] != block[SECOND_COPY_OFFSET..] => {
            report.note(format!("{name} has one readable copy of its header"));
        }
        Ok(_) => {}
    }
}
