//! Commits behind the last checkpoint: those before the first damage of the log, and what can be
//! read behind it.
//!
//! Invariants:
//!   * What is handed out as proven is a prefix of the log.

use super::{Import, Source, Target};
use crate::disk::ReadFile;
use crate::error::{Error, Result};
use crate::format::group::WalHeader;
use crate::format::header::HEADER_BLOCK_BYTES;
use crate::format::own_keys::IMPORT_KEY;
use crate::format::record::{
    Operation, Operations, RecordKind, RecordView, malformed_operation, records,
};
use crate::ids::{Address, FileNumber, LogPosition, Lsn};
use crate::inspect::catalog::CATALOG;
use crate::inspect::files::{Listing, read_block};
use crate::inspect::lost::KNOWN_MAX;
use crate::names::FileName;
use crate::wal::examine::{Sight, body_of, examine};
use crate::wal::reader::{Live, LogFiles, check_operations, replay};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The log without some of its files.
struct Without<'a> {
    files: Live<'a>,
    hidden: BTreeSet<FileNumber>,
}

impl LogFiles for Without<'_> {
    fn numbers(&self) -> Result<Vec<FileNumber>> {
        let mut numbers = self.files.numbers()?;
        numbers.retain(|number| !self.hidden.contains(number));
        Ok(numbers)
    }

    fn open(&self, number: FileNumber) -> Result<Arc<dyn ReadFile>> {
        self.files.open(number)
    }
}

/// Objects of which commits mean nothing without what was left out, until they begin anew.
struct LeftOut {
    /// Those that took over pages.
    adopted: BTreeSet<Address>,
    /// Those whose import was under way at the last checkpoint.
    unfinished: BTreeSet<Address>,
}

/// A walk over the proven part of the log.
type Sink<'s> = dyn FnMut(RecordView<'_>, LogPosition) -> Result<()> + 's;

impl Source<'_> {
    /// Hands out the commits behind the cut up to the first damage, which is returned. A file of
    /// which not even the header can be used is passed over; so its commits are missing, and the
    /// walk ends where they should be.
    pub(super) fn replay(&self, sink: &mut Sink<'_>) -> Option<Error> {
        let mut files = Without { files: Live(&**self.disk), hidden: BTreeSet::new() };
        let mut first_error = None;
        loop {
            let mut count = 0u64;
            let mut counting = |record: RecordView<'_>, position| {
                count += 1;
                sink(record, position)
            };
            let (store, from, cut) = (self.manifest.store, self.manifest.replay, self.manifest.cut);
            let replayed = replay(&files, store, from, cut, cut, &mut counting);
            let Err(error) = replayed else { return first_error };
            let culprit = error.place().and_then(|place| wal_number(&place.file));
            let culprit = culprit.filter(|number| *number > from.file);
            let is_hidden = culprit.is_some_and(|number| count == 0 && files.hidden.insert(number));
            first_error.get_or_insert(error);
            if !is_hidden {
                return first_error;
            }
        }
    }

    /// Looks how imports went on that were under way at the last checkpoint.
    pub(super) fn read_imports(&mut self) {
        let mut imports = BTreeMap::new();
        self.replay(&mut |record, _| {
            let address = record.header.address;
            for operation in Operations::new(record.payload).map_while(std::result::Result::ok) {
                let then = match operation {
                    Operation::Delete { key } if key == IMPORT_KEY => Import::Completed,
                    Operation::DeleteAll { .. } => Import::Overtaken,
                    _ => continue,
                };
                let head = || self.directory.head(address).ok().flatten();
                if !imports.contains_key(&address) && head().is_some_and(|head| head.unfinished) {
                    imports.insert(address, then);
                }
            }
            Ok(())
        });
        self.imports = imports;
    }

    pub(super) fn hand_out_log(&mut self, target: &mut dyn Target) -> Result<()> {
        let (mut failed, mut commits, mut unknown) = (None, 0, BTreeSet::new());
        let unfinished = std::mem::take(&mut self.unfinished);
        let mut left_out = LeftOut { adopted: BTreeSet::new(), unfinished };
        let mut position = self.manifest.cut;
        let damage = self.replay(&mut |record, place| {
            check_operations(&record, place)?;
            let handed = self.hand_out_commit(&record, &mut left_out, target);
            match handed {
                Ok(is_known) => {
                    position = record.header.lsn;
                    commits += u64::from(is_known);
                    let address = record.header.address;
                    if !is_known && address != CATALOG && unknown.len() < KNOWN_MAX {
                        unknown.insert(address);
                    }
                    Ok(())
                }
                Err(error) => {
                    failed = Some(error.clone());
                    Err(error)
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        (self.done.commits, self.done.position) = (commits, position);
        for address in unknown {
            self.lose(address, None, "commits of it were left out: its namespace is lost");
        }
        if let Some(damage) = damage {
            self.look_behind(&damage, &mut left_out, target)?;
        }
        for address in left_out.adopted {
            let what = "a restoration or fork behind the last checkpoint, and what follows it";
            self.lose(address, None, what);
        }
        Ok(())
    }

    /// Hands out one commit; says whether its object has a namespace. A commit that takes over
    /// pages means nothing in another store: it is left out with all that follows it, and noted.
    fn hand_out_commit(
        &self,
        record: &RecordView<'_>,
        left_out: &mut LeftOut,
        target: &mut dyn Target,
    ) -> Result<bool> {
        let address = record.header.address;
        if !self.namespaces.contains_key(&address.namespace) {
            return Ok(false);
        }
        // A commit that is not whole was refused before.
        let operations = Operations::new(record.payload).map_while(std::result::Result::ok);
        let operations: Vec<Operation<'_>> = operations.collect();
        let mut content = operations.iter().filter(|it| !matches!(it, Operation::Restored(_)));
        let is_new = matches!(content.next(), Some(Operation::DeleteAll { .. }));
        if operations.iter().any(|operation| matches!(operation, Operation::Adopt(_))) {
            left_out.adopted.insert(address);
        } else if is_new {
            left_out.adopted.remove(&address);
            left_out.unfinished.remove(&address);
        }
        if left_out.adopted.contains(&address) || left_out.unfinished.contains(&address) {
            return Ok(true);
        }
        target.commit(address, &operations)?;
        Ok(true)
    }

    /// What stands in the log behind its first damage.
    fn look_behind(
        &mut self,
        damage: &Error,
        left_out: &mut LeftOut,
        target: &mut dyn Target,
    ) -> Result<()> {
        let position = self.done.position;
        self.done.log_damage = Some(damage.to_string());
        let mut groups = BTreeMap::new();
        let mut objects = BTreeSet::new();
        for (name, header) in self.log_files() {
            let how = Some((Some(header.header.salt), HEADER_BLOCK_BYTES));
            let Ok(examined) = examine(&**self.disk, name, how) else { continue };
            for sight in examined.sights {
                match sight {
                    Sight::Group { range, header, .. } if header.last_lsn > position => {
                        groups.insert(header.number, (name, range.start, header));
                    }
                    Sight::Body { header, objects: lost, .. } if header.last_lsn > position => {
                        objects.extend(lost);
                    }
                    Sight::Gap { objects: lost, .. } => objects.extend(lost),
                    _ => {}
                }
            }
        }
        for address in objects.into_iter().filter(|address| *address != CATALOG) {
            self.lose(address, None, format!("commits of it behind {position} are damaged"));
        }
        let mut behind: Option<(Lsn, Lsn, u64)> = None;
        for (name, at, header) in groups.into_values() {
            if header.records == 0 {
                continue;
            }
            let count = header.last_lsn.0.saturating_sub(header.first_lsn.0) + 1;
            let (first, _, before) = behind.unwrap_or((header.first_lsn, Lsn::ZERO, 0));
            behind = Some((first, header.last_lsn, before.saturating_add(count)));
            if self.with_doubtful {
                let Ok(body) = body_of(&**self.disk, name, at, &header) else {
                    self.done.note("a group behind damage of the log could not be read again");
                    continue;
                };
                for record in records(&body).map_while(std::result::Result::ok) {
                    let kind = record.header.kind;
                    if !matches!(kind, RecordKind::Commit | RecordKind::Purge) {
                        self.done.note("a long commit behind damage of the log was left out");
                    } else if malformed_operation(record.payload).is_some() {
                        self.done.note("a malformed commit behind damage of the log was left out");
                    } else {
                        self.hand_out_commit(&record, left_out, target)?;
                    }
                }
            }
        }
        self.done.behind_damage = behind;
        Ok(())
    }

    /// The files of the log from where replay begins, with their headers.
    pub(super) fn log_files(&self) -> Vec<(FileName, WalHeader)> {
        let listing = Listing::read(&**self.disk).unwrap_or_default();
        let is_needed = |name: &FileName| match name {
            FileName::Wal(number) => *number >= self.manifest.replay.file,
            _ => false,
        };
        let header = |name: FileName| {
            let block = self.disk.open(name).and_then(|file| read_block(&*file)).ok()?;
            let header = WalHeader::decode(&block).ok()?;
            let is_own = header.header.store == self.manifest.store
                && Some(header.header.number) == name.number();
            is_own.then_some((name, header))
        };
        let names = listing.files.keys().copied().filter(is_needed);
        names.filter_map(header).collect()
    }
}

/// The number of a file of the log, from how it is shown.
fn wal_number(file: &str) -> Option<FileNumber> {
    let leaf = file.strip_prefix("wal/")?;
    FileName::parse(crate::names::Folder::Wal, leaf)?.number()
}
