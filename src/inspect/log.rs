//! Verification of the log: replayed as recovery does, and looked at group by group where that
//! finds damage.
//!
//! Invariants:
//!   * What a crash may leave behind is a note, not a fault.
//!   * Memory is one group, and what commits say that adopt pages.

use crate::disk::ReadDisk;
use crate::error::Error;
use crate::format::group::{WAL_HEADER_BYTES, WalHeader};
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::manifest::Manifest;
use crate::format::record::{RecordView, malformed_operation};
use crate::ids::{FileNumber, LogPosition};
use crate::inspect::adoptions::Adopted;
use crate::inspect::files::{Listing, Role, copies, read_block, tell_copies};
use crate::inspect::report::{FAULTS_MAX, Fault, Report, Scope};
use crate::limits::SECTOR_BYTES;
use crate::names::FileName;
use crate::wal::examine::{Examined, Sight, examine};
use crate::wal::reader::{Live, Replayed, Verdict, replay, replay_proven};
use std::collections::BTreeMap;

/// Where the first group of a file stands.
const FIRST_GROUP: u64 = HEADER_BLOCK_BYTES;

/// Replays the log: strictly, or beside a writer up to what is shown to be durable.
///
/// Gives what objects have adopted in it.
pub fn check(
    disk: &dyn ReadDisk,
    manifest: &Manifest,
    listing: &Listing,
    report: &mut Report,
) -> Vec<Adopted> {
    let holder = disk.lock_holder().ok().flatten();
    let (from, cut) = (manifest.replay, manifest.cut);
    let (mut malformed, mut adopted) = (Vec::new(), Vec::new());
    let mut sink = |record: RecordView<'_>, position: LogPosition| {
        if malformed.len() < FAULTS_MAX {
            malformed.extend(malformed_commit(&record, position));
        }
        adopted.extend(Adopted::of(&record));
        Ok(())
    };
    let walk = if holder.is_some() { replay_proven } else { replay };
    let replayed = walk(&Live(disk), manifest.store, from, cut, cut, &mut sink);
    for fault in malformed {
        report.fault(fault);
    }
    if let Ok(replayed) = &replayed {
        take_log(manifest, replayed, report);
    }
    match holder {
        Some(holder) => {
            report.note(format!("{holder} writes; the log was verified as far as it is proven"));
            if let Err(error) = &replayed {
                report.failed(error, FileName::Wal(from.file), None);
            }
        }
        None => Files::read(disk, manifest, listing).check(&replayed, report),
    }
    adopted
}

fn malformed_commit(record: &RecordView<'_>, position: LogPosition) -> Option<Fault> {
    let fault = malformed_operation(record.payload)?;
    let name = FileName::Wal(position.file);
    let mut found = Fault::at(name, position.offset..position.offset, fault.to_string());
    found.place.lsn = Some(record.header.lsn);
    Some(found.of(record.header.address))
}

fn take_log(manifest: &Manifest, replayed: &Replayed, report: &mut Report) {
    report.counts.groups = replayed.groups;
    report.counts.commits = replayed.records;
    report.position = replayed.end.lsn.max(manifest.cut);
    let end = &replayed.end.point;
    let name = FileName::Wal(end.file);
    match (replayed.verdict, &replayed.discarded) {
        (Verdict::Torn, Some(range)) => {
            let bytes = range.end - range.start;
            report.note(format!("{name} ends with {bytes} bytes of a write that was cut off"));
        }
        (Verdict::Torn, None) => report.note(format!("{name} ends with a write that was cut off")),
        (Verdict::Corrupt, _) => report.wrong(name, "the log is damaged"),
        (Verdict::Clean, _) => {}
    }
    if replayed.open_chains > 0 {
        report.note(format!("{} long commits without their ends", replayed.open_chains));
    }
    if let Some(closed) = manifest.closed.filter(|closed| closed.point != *end) {
        let what =
            format!("the log goes on behind byte {}, where it was closed", closed.point.offset);
        report.wrong(name, what);
    }
}

/// The files of the log that recovery may need.
struct Files<'a> {
    disk: &'a dyn ReadDisk,
    manifest: &'a Manifest,
    listing: &'a Listing,
    /// Those with a header.
    headers: BTreeMap<FileNumber, WalHeader>,
}

impl<'a> Files<'a> {
    fn read(disk: &'a dyn ReadDisk, manifest: &'a Manifest, listing: &'a Listing) -> Self {
        let mut headers = BTreeMap::new();
        for (name, _, role) in listing.roles(disk, manifest) {
            let (FileName::Wal(number), Role::Log) = (name, role) else { continue };
            let block = disk.open(name).and_then(|file| read_block(&*file));
            let header = block.ok().and_then(|block| WalHeader::decode(&block).ok());
            if let Some(header) = header {
                headers.insert(number, header);
            }
        }
        Self { disk, manifest, listing, headers }
    }

    fn check(&self, replayed: &Result<Replayed, Error>, report: &mut Report) {
        let before = report.fault_count();
        self.check_missing(report);
        let mut has_live = report.fault_count() > before;
        for (name, bytes, role) in self.listing.roles(self.disk, self.manifest) {
            let FileName::Wal(number) = name else { continue };
            let is_live = match (role, self.headers.get(&number)) {
                (Role::Log, Some(header)) => {
                    let replayed = replayed.as_ref().ok();
                    self.check_length((number, bytes), header, replayed, report)
                        | self.check_file(number, header, replayed, report)
                }
                (Role::Log, None) => self.check_headless(name, bytes, report),
                (Role::Pool, _) => self.check_zeros(name, 0, report),
                _ => false,
            };
            has_live |= is_live;
        }
        if let Err(error) = replayed
            && !has_live
        {
            report.failed(error, FileName::Wal(self.manifest.replay.file), None);
        }
    }

    /// Files that others name and that are not there.
    fn check_missing(&self, report: &mut Report) {
        let first = self.manifest.replay.file;
        let behind = self.headers.values().map(|header| header.predecessor.point.file);
        let mut wanted: Vec<_> = behind.filter(|number| *number >= first).collect();
        wanted.push(first);
        wanted.sort_unstable();
        wanted.dedup();
        for number in wanted.into_iter().filter(|number| *number != FileNumber(0)) {
            let name = FileName::Wal(number);
            if !self.listing.files.contains_key(&name) {
                report.wrong(name, "the file is missing");
            } else if !self.headers.contains_key(&number)
                && examine(self.disk, name, None).is_ok_and(|found| found.used_to.is_none())
            {
                report.wrong(name, "the file holds nothing, and the log goes on behind it");
            }
        }
    }

    /// A file of which neither copy of the header is right: it was used if a group stands in it.
    fn check_headless(&self, name: FileName, bytes: u64, report: &mut Report) -> bool {
        let used = examine(self.disk, name, None).map(|found| found.used_to);
        if matches!(used, Ok(Some(_))) {
            let what = "neither copy of the header is right, so nothing in it can be read";
            report.fault(Fault::at(name, 0..bytes, what));
            return true;
        }
        if bytes < HEADER_BLOCK_BYTES {
            let what = format!("the file was cut short inside its header, to {bytes} bytes");
            report.fault(Fault::at(name, 0..bytes, what));
            return true;
        }
        self.check_zeros(name, 0, report)
    }

    /// A file is as long as its header says, or has lost its end: nothing that anybody needs where
    /// the log went on before that, or was closed.
    fn check_length(
        &self,
        (number, bytes): (FileNumber, u64),
        header: &WalHeader,
        replayed: Option<&Replayed>,
        report: &mut Report,
    ) -> bool {
        if bytes >= header.bytes || header.header.number != number {
            return false;
        }
        let is_spare = replayed.is_some() || self.left_at(number).is_some_and(|end| end <= bytes);
        let scope = if is_spare { Scope::Spare } else { Scope::Live };
        let what = format!("the file was cut short, to {bytes} of its {} bytes", header.bytes);
        let fault = Fault::at(FileName::Wal(number), bytes..header.bytes, what);
        report.fault(fault.in_scope(scope));
        !is_spare
    }

    /// A file that stands ready is all zeros.
    fn check_zeros(&self, name: FileName, from: u64, report: &mut Report) -> bool {
        let Ok(Examined { stray, holds_first_group, .. }) =
            examine(self.disk, name, Some((None, from)))
        else {
            return false;
        };
        let mut has_live = false;
        for range in stray {
            // Recovery takes what may be a group at the first one's place for one.
            let first = FIRST_GROUP..FIRST_GROUP + SECTOR_BYTES as u64;
            let is_live = holds_first_group && first.contains(&range.start);
            has_live |= is_live;
            let scope = if is_live { Scope::Live } else { Scope::Spare };
            let what = "bytes of an unused file of the log are not zero";
            report.fault(Fault::at(name, range, what).in_scope(scope));
        }
        has_live
    }

    /// Checks header and groups; says whether something was lost.
    fn check_file(
        &self,
        number: FileNumber,
        header: &WalHeader,
        replayed: Option<&Replayed>,
        report: &mut Report,
    ) -> bool {
        let name = FileName::Wal(number);
        if header.header.store != self.manifest.store || header.header.number != number {
            let (store, found) = (header.header.store, header.header.number);
            let what = format!("the file is number {found} of the log of store {store}");
            report.fault(Fault::at(name, 0..HEADER_BLOCK_BYTES, what));
            return true;
        }
        self.check_copies(number, replayed, report);
        let mut has_live = false;
        let end = self.end_of(number, replayed);
        let mut tell = |sight: Sight| has_live |= self.tell(name, &sight, end, report);
        let seed = Some((Some(header.header.salt), HEADER_BLOCK_BYTES));
        match examine(self.disk, name, seed) {
            Ok(found) => found.sights.into_iter().for_each(&mut tell),
            Err(error) => {
                report.failed(&error, name, None);
                return true;
            }
        }
        has_live
    }

    /// Where in a file the log leaves it, if that is known.
    fn end_of(&self, number: FileNumber, replayed: Option<&Replayed>) -> Option<u64> {
        let end = replayed.map(|replayed| replayed.end.point);
        self.left_at(number).or(end.filter(|end| end.file == number).map(|end| end.offset))
    }

    /// Where in a file its successor says that the log leaves it.
    fn left_at(&self, number: FileNumber) -> Option<u64> {
        let points = self.headers.values().map(|header| header.predecessor.point);
        points.filter(|point| point.file == number).map(|point| point.offset).max()
    }

    /// Tells of a header of which a copy is damaged. In a file that holds nothing else a crash may
    /// have torn it: in the newest, and in one whose place a file of a later life has taken.
    fn check_copies(&self, number: FileNumber, replayed: Option<&Replayed>, report: &mut Report) {
        let name = FileName::Wal(number);
        let Ok(block) = self.disk.open(name).and_then(|file| read_block(&*file)) else { return };
        let copies = copies(&block, WAL_HEADER_BYTES, |half| WalHeader::decode(half).ok());
        let is_newest = self.headers.keys().next_back() == Some(&number);
        let holds_nothing = replayed.is_some_and(|Replayed { end, dead, .. }| {
            let is_end = end.point.file == number && end.point.offset == HEADER_BLOCK_BYTES;
            is_newest && is_end || dead.contains(&number)
        });
        if holds_nothing && copies.iter().any(Option::is_none) {
            report.note(format!("{name} has one readable copy of its header"));
        } else {
            tell_copies(name, &copies, report);
        }
    }

    /// Tells of what stands in a file and is not right. `end` is where the log leaves the file.
    fn tell(&self, name: FileName, sight: &Sight, end: Option<u64>, report: &mut Report) -> bool {
        let replay = self.manifest.replay;
        let is_dead = |at: u64| name.number() == Some(replay.file) && at < replay.offset;
        let (range, what, objects) = match sight {
            Sight::Group { .. } => return false,
            Sight::Padding(range) => {
                let what = "bytes behind a group are not zero";
                report.fault(Fault::at(name, range.clone(), what).in_scope(Scope::Spare));
                return false;
            }
            Sight::Body { range, objects, .. } => (range, "a group's body is damaged", objects),
            Sight::Gap { range, objects } => (range, "no right group stands here", objects),
        };
        if end.is_some_and(|end| range.start >= end) {
            // What was cut off by a crash, which replay has judged.
            return false;
        }
        let scope = if is_dead(range.start) { Scope::Spare } else { Scope::Live };
        report.fault(Fault::at(name, range.clone(), what).in_scope(scope));
        for address in objects {
            let what = "commits of it stood in a damaged group";
            report.fault(Fault::at(name, range.clone(), what).of(*address).in_scope(scope));
        }
        scope == Scope::Live
    }
}
