//! Damage of every kind of file: verification names exactly what is damaged.
//!
//! `DOSTORE_FLIPS` says how many bits are flipped for each kind of file; a few by default.
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "files here are small")]

mod adoption;
mod bits;
mod golden;
mod guess;
mod half_commit;
mod imports;
mod kept;
mod layout;
#[path = "../ledger/mod.rs"]
mod ledger;
mod listing;
mod manifest;
mod salvage;
mod whole;
mod world;

use dostore::inspect::{Report, Scope, Verdict, verify};
use layout::{Layout, Unit};
use std::collections::BTreeSet;
use world::{Chance, Content};

/// Every kind of file of a store.
const KINDS: [&str; 8] =
    ["segment", "directory", "names", "alarms", "history", "log", "pool", "manifest"];

fn flips() -> u64 {
    std::env::var("DOSTORE_FLIPS").map_or(40, |text| text.parse().unwrap())
}

/// Bytes that a report finds damaged.
fn spans(report: &Report) -> BTreeSet<(String, u64, u64)> {
    let span = |fault: &dostore::inspect::Fault| {
        let place = &fault.place;
        (place.file.clone(), place.offset, place.offset + fault.bytes)
    };
    report.faults.iter().map(span).collect()
}

fn verdict(scope: Option<Scope>) -> Verdict {
    match scope {
        None => Verdict::Clean,
        Some(Scope::Spare) => Verdict::DamagedSpare,
        Some(Scope::History) => Verdict::DamagedHistory,
        Some(Scope::Live) => Verdict::Damaged,
    }
}

/// What must be told when a byte of this unit is damaged, and nothing else.
#[track_caller]
fn check(report: &Report, unit: &Unit, byte: u64) {
    let range = if unit.is_bytewise { byte..byte + 1 } else { unit.told.clone() };
    let span = (unit.file.to_string(), range.start, range.end);
    let told = spans(report);
    let expected: BTreeSet<_> = unit.scope.map(|_| span).into_iter().collect();
    assert_eq!(told, expected, "byte {byte} of {unit:?}\n{report}");
    assert_eq!(report.verdict(), verdict(unit.scope), "byte {byte} of {unit:?}\n{report}");
    let named = unit.scope.map(|scope| report.objects(scope)).unwrap_or_default();
    assert!(named.is_superset(&unit.objects), "byte {byte} of {unit:?}\n{report}");
    let may: BTreeSet<_> = unit.objects.union(&unit.perhaps).copied().collect();
    assert!(named.is_subset(&may), "byte {byte} of {unit:?}\n{report}");
}

#[test]
fn g27_verify_names_exactly_the_flipped_span_and_its_objects_in_every_kind_of_file() {
    let disk = world::store(1);
    let clean = verify(disk.clone());
    assert!(clean.is_clean(), "{clean}");
    let layout = Layout::of(&disk);
    let content = world::content(&disk);
    let mut chance = Chance(7);
    for kind in KINDS {
        let files = layout.files(kind);
        assert!(!files.is_empty(), "there is no file of kind {kind}");
        let (mut opened, mut read) = (0, 0);
        for flip in 0..flips() {
            let file = files[chance.below(files.len() as u64) as usize];
            let bytes = disk.file_bytes(file).unwrap().len() as u64;
            let byte = chance.below(bytes);
            let damaged = disk.fork();
            damaged.flip_bit(file, byte * 8 + chance.below(8)).unwrap();
            check(&verify(damaged.clone()), layout.unit(file, byte), byte);
            if flip % 10 == 0 {
                let found = world::read_all(&damaged, &content);
                opened += u64::from(found.is_some());
                read += found.unwrap_or(0);
            }
        }
        println!("{kind}: {} flips, {opened} opened, {read} objects read", flips());
    }
    let faults = flips() * KINDS.len() as u64;
    let (seeds, executions) = (format!("1 of {} flips", flips()), faults);
    ledger::add(&ledger::Row { kind: "damage", seeds, faults, executions, ..Default::default() });
}

#[test]
fn content_is_what_an_export_says() {
    let content: Content = world::content(&world::store(2));
    assert!(content.len() > 60, "{}", content.len());
}
