//! The files under a store's folder: which there are, and what each is there for.
//!
//! Invariants:
//!   * Every file has exactly one role, so lengths by role add up to the sum of all lengths.

use crate::disk::{ReadDisk, ReadFile, read_exact_at};
use crate::error::{Error, Result};
use crate::format::header::{
    FileKind, HEADER_BLOCK_BYTES, HEADER_BYTES, Header, SECOND_COPY_OFFSET,
};
use crate::format::manifest::{Manifest, SegmentState};
use crate::ids::FileNumber;
use crate::inspect::report::{Fault, Report, Scope};
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

/// A file of the store that this user may not read, and what the system says of that.
pub fn forbidden(disk: &dyn ReadDisk) -> Result<Option<(FileName, io::Error)>> {
    let names = Listing::read(disk)?.files.into_keys();
    let is_read = |name: &FileName| !matches!(name, FileName::AdminSocket | FileName::Lock);
    let opened = names.filter(is_read).filter_map(|name| Some((name, disk.open(name).err()?)));
    let is_forbidden = |cause: &io::Error| cause.kind() == io::ErrorKind::PermissionDenied;
    Ok({ opened }.find(|(_, cause)| is_forbidden(cause)))
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
pub(super) fn read_block(file: &dyn ReadFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.bytes()?).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
    let mut block = vec![0; BLOCK_BYTES];
    read_exact_at(file, &mut block[..length], 0)?;
    Ok(block)
}

/// Whether a file of the log stands ready and was never used.
pub fn is_unused(disk: &dyn ReadDisk, name: FileName) -> bool {
    let block = disk.open(name).and_then(|file| read_block(&*file));
    block.is_ok_and(|block| block.iter().all(|byte| *byte == 0))
}

/// Checks that the segments which the manifest names are there, as long as it says, and begin as
/// they must; runs are checked as they are opened. Returns the segments of which something is left.
pub fn check(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    listing: &Listing,
    report: &mut Report,
) -> BTreeSet<FileNumber> {
    let mut seen = BTreeSet::new();
    let segments = manifest.segments.iter().map(|state| FileName::Segment(state.facts.number));
    let history = manifest.history.iter().map(|file| &file.facts);
    let runs = manifest.runs.iter().chain(history).map(|facts| FileName::Run(facts.number));
    for name in segments.chain(runs) {
        report.counts.files += 1;
        if !seen.insert(name) {
            report.wrong(FileName::Manifest, format!("names {name} twice"));
        }
        if name.number().is_some_and(|number| number >= manifest.next_file) {
            report.wrong(FileName::Manifest, format!("{name} has a number not given out yet"));
        }
    }
    let states = manifest.segments.iter();
    let left = states.filter(|state| check_segment(disk, manifest, listing, state, report));
    left.map(|state| state.facts.number).collect()
}

/// Whether anything of a segment can be read.
fn check_segment(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    listing: &Listing,
    state: &SegmentState,
    report: &mut Report,
) -> bool {
    let (name, bytes) = (FileName::Segment(state.facts.number), state.facts.bytes);
    let whole = |what: String| Fault::at(name, 0..bytes, what);
    match listing.files.get(&name) {
        None => {
            report.fault(whole("the file is missing".to_owned()));
            return false;
        }
        Some(found) if *found < bytes => {
            let what = format!("the file has {found} bytes instead of {bytes}");
            // What is lost by it is told page by page.
            report.fault(Fault::at(name, *found..bytes, what).in_scope(Scope::Spare));
        }
        Some(found) if *found > bytes => {
            let what = format!("the file has {found} bytes instead of {bytes}");
            report.fault(Fault::at(name, bytes..*found, what).in_scope(Scope::Spare));
        }
        Some(_) => {}
    }
    let block = match disk.open(name).and_then(|file| read_block(&*file)) {
        Ok(block) => block,
        Err(cause) => {
            report.fault(whole(format!("the header cannot be read: {cause}")));
            return false;
        }
    };
    let copies = copies(&block, HEADER_BYTES, |half| Header::decode(half, FileKind::Segment).ok());
    let Some(header) = copies.iter().flatten().next().copied() else {
        report.fault(whole("neither copy of the header is right".to_owned()));
        return false;
    };
    if header.store != manifest.store || Some(header.number) != name.number() {
        let (store, number) = (header.store, header.number);
        report.fault(whole(format!("the file is number {number} of store {store}")));
        return false;
    }
    if header.term > manifest.term {
        report.wrong(name, format!("the file is of term {}, not begun yet", header.term));
    }
    tell_copies(name, &copies, report);
    true
}

/// The two copies of a header of this many bytes: each as it is read, if all of it is right.
pub(super) fn copies<T>(
    block: &[u8],
    used: usize,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> [Option<T>; 2] {
    let (first, second) = block.split_at(SECOND_COPY_OFFSET.min(block.len()));
    [first, second].map(|half| {
        let is_padded = half.iter().skip(used).all(|byte| *byte == 0);
        decode(half).filter(|_| is_padded)
    })
}

/// Tells which of two copies of a header is damaged.
pub(super) fn tell_copies<T>(name: FileName, copies: &[Option<T>; 2], report: &mut Report) {
    let half = SECOND_COPY_OFFSET as u64;
    for (copy, at) in copies.iter().zip([0, half]) {
        if copy.is_none() {
            let what = "a copy of the header is damaged";
            report.fault(Fault::at(name, at..at + half, what).in_scope(Scope::Spare));
        }
    }
}

/// Says which files are there beside those that the manifest names, and those that commits behind
/// it do.
pub fn note_others(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    listing: &Listing,
    adopted: &BTreeSet<FileName>,
    report: &mut Report,
) {
    for (name, bytes, role) in listing.roles(disk, manifest) {
        if role == Role::Unnamed && !adopted.contains(&name) {
            report.note(format!("{name}, {bytes} bytes, is not named"));
        }
    }
    for (path, bytes) in &listing.foreign {
        report.note(format!("{path}, {bytes} bytes, is not the store's"));
    }
}
