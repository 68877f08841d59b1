//! Pages that objects have adopted behind the last checkpoint: commits name their files, and no
//! manifest does yet.
//!
//! Invariants:
//!   * Memory is one page, and what the commits say.

use crate::directory::Directory;
use crate::disk::ReadDisk;
use crate::format::manifest::Manifest;
use crate::format::page::SegmentFacts;
use crate::format::record::{RecordView, adoption};
use crate::format::run::RunFacts;
use crate::ids::{Address, FileNumber, Life};
use crate::inspect::files::Listing;
use crate::inspect::report::{Fault, KeyRange, Report, Scope, message};
use crate::inspect::segments::check_ends;
use crate::names::FileName;
use crate::run::Run;
use crate::run::examine::{Harm, examine};
use crate::segment::SegmentSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a commit adopts.
#[derive(Clone, Debug)]
pub struct Adopted {
    address: Address,
    life: Life,
    /// Keys and bytes of the pages, as the commit says.
    counts: (u64, u64),
    run: RunFacts,
    segments: Vec<SegmentFacts>,
}

impl Adopted {
    /// What a commit adopts, if it does.
    pub fn of(record: &RecordView<'_>) -> Option<Self> {
        let adoption = adoption(record.payload)?;
        Some(Self {
            address: record.header.address,
            life: adoption.life,
            counts: (adoption.count, adoption.content_bytes),
            run: adoption.run,
            segments: adoption.segments().collect(),
        })
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = FileName> + '_ {
        let segments = self.segments.iter().map(|facts| FileName::Segment(facts.number));
        segments.chain([FileName::Run(self.run.number)])
    }

    /// Checks the run and the pages that it names.
    pub fn check(
        &self,
        disk: &Arc<dyn ReadDisk>,
        (manifest, listing): (&Manifest, &Listing),
        report: &mut Report,
    ) {
        let segments = SegmentSet::new(Arc::clone(disk), manifest.store);
        let mut missing = BTreeSet::new();
        for facts in &self.segments {
            let name = FileName::Segment(facts.number);
            if listing.files.contains_key(&name) {
                segments.add(facts);
                check_ends(&segments, facts.number, report);
            } else {
                let fault = Fault::at(name, 0..facts.bytes, "the file is missing");
                report.fault(fault.of(self.address));
                missing.insert(facts.number);
            }
        }
        let name = FileName::Run(self.run.number);
        match examine(&**disk, manifest.store, self.run.number, Some(&self.run)) {
            Ok(examined) => {
                for wound in examined.wounds {
                    let is_spare = wound.harm == Harm::None;
                    let scope = if is_spare { Scope::Spare } else { Scope::Live };
                    let fault = Fault::at(name, wound.range, wound.what).of(self.address);
                    report.fault(fault.in_scope(scope));
                }
                self.check_pages((&segments, &missing), examined.run, report);
            }
            Err(error) => {
                let fault = Fault::at(name, 0..self.run.bytes, message(&error));
                report.fault(fault.of(self.address));
            }
        }
    }

    fn check_pages(
        &self,
        (segments, missing): (&SegmentSet, &BTreeSet<FileNumber>),
        run: Arc<Run>,
        report: &mut Report,
    ) {
        let (name, address) = (run.name(), self.address);
        let mut is_whole = true;
        let checked = run.verify(|error, range, _, _| {
            is_whole = false;
            report.fault(Fault::at(name, range, message(&error)).of(address));
        });
        if let Err(error) = checked {
            is_whole = false;
            report.failed(&error, name, Some(address));
        }
        let directory = Directory::new(vec![run]);
        let mut found = (0_u64, 0_u64);
        // Faults of the page before: where its keys end is known with the next.
        let mut open: Vec<Fault> = Vec::new();
        for page in directory.pages(address, self.life) {
            // Entries that are lost were told block by block.
            let Ok((fence, entry)) = page else {
                is_whole = false;
                continue;
            };
            for mut fault in open.drain(..) {
                if let Some(keys) = &mut fault.keys {
                    keys.end = Some(fence.clone());
                }
                report.fault(fault);
            }
            for part in entry.parts() {
                found.0 += u64::from(part.count);
                found.1 = found.1.saturating_add(part.content_bytes);
                let (location, file) = (part.location, FileName::Segment(part.location.file));
                report.counts.pages += 1;
                report.counts.page_bytes += u64::from(location.bytes);
                // Of a file that is missing was told already.
                if let Err(error) = segments.read(part, address, self.life)
                    && !missing.contains(&location.file)
                {
                    let end = location.offset.saturating_add(u64::from(location.bytes));
                    let span = location.offset..end;
                    let keys = Some(KeyRange { first: fence.clone(), end: None });
                    open.push(Fault { keys, ..Fault::at(file, span, message(&error)).of(address) });
                }
            }
        }
        for fault in open {
            report.fault(fault);
        }
        if is_whole && found != self.counts {
            let ((keys, bytes), (said, of)) = (found, self.counts);
            let what = format!("names {keys} keys of {bytes} bytes, the commit {said} of {of}");
            report.fault(Fault::at(name, 0..0, what).of(address));
        }
    }
}
