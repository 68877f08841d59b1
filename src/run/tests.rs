//! What a run promises, against a sorted map.
//!
//! Invariants:
//!   * Every run here is written and opened through a disk in memory.

use super::testing::{MemoryDisk, STORE};
use super::*;
use crate::format::run::RunUse;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that often share their beginnings, values of which a few fill a block.
fn entries(most: usize) -> impl Strategy<Value = Entries> {
    let value = prop_oneof![vec(any::<u8>(), 0..60), vec(any::<u8>(), 900..6000)];
    btree_map(vec(0u8..4, 0..30), value, 0..most)
}

fn write(disk: &MemoryDisk, entries: &Entries, holes: &[(Vec<u8>, Vec<u8>)]) -> RunFacts {
    let mut writer = disk.writer(RunUse::Directory);
    for (key, value) in entries {
        writer.add(key, value).unwrap();
    }
    for (first, last) in holes {
        writer.add_hole(first, last);
    }
    writer.finish().unwrap()
}

fn pair((key, value): (&Vec<u8>, &Vec<u8>)) -> KeyValue {
    (key.clone(), value.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_run_answers_as_a_sorted_map_does(
        entries in entries(40), probes in vec(vec(0u8..4, 0..6), 10), shared in any::<bool>(),
    ) {
        let disk = MemoryDisk::new(shared);
        let facts = write(&disk, &entries, &[]);
        let run = disk.open_run(&facts).unwrap();
        prop_assert_eq!(facts.entries, entries.len() as u64);
        for probe in probes.iter().chain(entries.keys()) {
            prop_assert_eq!(run.get(probe, <[u8]>::to_vec).unwrap(), entries.get(probe).cloned());
            let floor = entries.range(..=probe.clone()).next_back().map(pair);
            prop_assert_eq!(run.floor(probe).unwrap(), floor);
            let ceiling = entries.range(probe.clone()..).next().map(pair);
            prop_assert_eq!(run.ceiling(probe).unwrap(), ceiling);
            let hash = AddressHash::of_key(probe);
            prop_assert!(!entries.contains_key(probe) || run.filter.may_hold(hash));
            let walked = run.iter_from(probe).map(|item| match item.unwrap() {
                RunItem::Entry { key, value } => (key, value),
                RunItem::Hole { .. } => panic!("a hole in a whole run"),
            });
            prop_assert!(walked.eq(entries.range(probe.clone()..).map(pair)));
        }
        let mut cursor = run.cursor();
        for (from, to) in probes.iter().zip(probes.iter().rev()) {
            let (from, to) = (from.min(to), from.max(to));
            for until in probes.iter().chain(entries.keys()).map(|until| until.max(from)) {
                cursor.seek_last((from, to), |key| key <= until.as_slice()).unwrap();
                let last = entries.range(..=until.min(to).clone()).next_back();
                let last = last.map(|(key, value)| Position::Entry(key, value));
                prop_assert_eq!(cursor.position(), last.unwrap_or(Position::Outside));
            }
        }
        cursor.seek_floor(&[9]).unwrap();
        for (key, value) in entries.iter().rev() {
            prop_assert_eq!(cursor.position(), Position::Entry(key, value));
            cursor.previous().unwrap();
        }
        prop_assert_eq!(cursor.position(), Position::Outside);
    }

    #[test]
    fn a_question_that_a_hole_hides_fails_and_no_other_does(
        entries in entries(12),
        mut holes in vec((vec(0u8..4, 0..3), vec(0u8..4, 0..3)), 1..4),
        probes in vec(vec(0u8..4, 0..4), 20),
    ) {
        for hole in &mut holes {
            if hole.0 > hole.1 {
                std::mem::swap(&mut hole.0, &mut hole.1);
            }
        }
        let disk = MemoryDisk::new(true);
        let run = disk.open_run(&write(&disk, &entries, &holes)).unwrap();
        for probe in probes.iter().chain(entries.keys()) {
            let hidden = |low: &[u8], high: &[u8]| {
                holes.iter().any(|(first, last)| first.as_slice() <= high && last.as_slice() >= low)
            };
            let got = run.get(probe, <[u8]>::to_vec);
            let lost = !entries.contains_key(probe) && hidden(probe, probe);
            prop_assert_eq!(got.ok(), (!lost).then(|| entries.get(probe).cloned()));
            let floor = entries.range(..=probe.clone()).next_back();
            // Just above the entry found, up to the probe.
            let low = floor.map_or_else(Vec::new, |(key, _)| [key.as_slice(), &[0]].concat());
            let lost = low.as_slice() <= probe.as_slice() && hidden(&low, probe);
            prop_assert_eq!(run.floor(probe).is_err(), lost);
        }
        let met = run.iter().filter(|item| matches!(item, Ok(RunItem::Hole { .. }))).count();
        prop_assert_eq!(met, run.holes().len());
    }

    #[test]
    fn no_damage_hides_what_was_lost_before(
        entries in entries(40), count in 0u8..4, longer in 0usize..80,
        at in any::<prop::sample::Index>(), bit in 0u8..8, tail in any::<bool>(),
        is_cut in any::<bool>(),
    ) {
        let disk = MemoryDisk::new(true);
        let hole = |number: u8| (vec![9, number], [vec![9, number], vec![0; longer]].concat());
        let holes: Vec<_> = (0..count).map(hole).collect();
        let facts = write(&disk, &entries, &holes);
        let (name, length) = (FileName::Run(facts.number), usize::try_from(facts.bytes).unwrap());
        let place = if tail { length - 1 - at.index(200) } else { at.index(length) };
        if is_cut {
            disk.truncate(name, place);
        } else {
            disk.flip(name, place, 1 << bit);
        }
        let examined = examine::examine(&disk, STORE, facts.number, Some(&facts));
        let Ok(examined) = examined else { return Ok(()) };
        let has = |(first, last): &(Vec<u8>, Vec<u8>)| {
            examined.run.holes().iter().any(|own| own.first <= *first && own.last >= *last)
        };
        prop_assert!(holes.iter().all(has), "{:?}", examined.run.holes());
        let is_lost = examined.run.holes().iter().any(|hole| hole.first.is_empty());
        let is_told = examined.wounds.iter().any(|wound| wound.harm == examine::Harm::Entries);
        prop_assert!(!is_lost || is_told);
        // A run that had none is not lost with a bit.
        prop_assert!(count > 0 || is_cut || !is_lost, "byte {place}");
    }

    #[test]
    fn no_flipped_bit_changes_an_answer(
        entries in entries(12), at in any::<prop::sample::Index>(), bit in 0u8..8,
        shared in any::<bool>(),
    ) {
        let disk = MemoryDisk::new(shared);
        let facts = write(&disk, &entries, &[]);
        let length = usize::try_from(facts.bytes).unwrap();
        disk.flip(FileName::Run(facts.number), at.index(length), 1 << bit);
        let Ok(run) = disk.open_run(&facts) else { return Ok(()) };
        let mut lost = Vec::new();
        run.verify(|_, _, first, last| lost.push((first.to_vec(), last.to_vec()))).unwrap();
        prop_assert!(lost.len() <= 1);
        let is_lost = |key: &Vec<u8>| lost.iter().any(|(first, last)| first <= key && key <= last);
        for (key, value) in &entries {
            match run.get(key, <[u8]>::to_vec) {
                Ok(found) => prop_assert_eq!(found.as_ref(), Some(value)),
                Err(error) => prop_assert!(error.code() == "run.block" && is_lost(key)),
            }
        }
        let mut expected: Vec<RunItem> = entries
            .iter()
            .filter(|(key, _)| !is_lost(key))
            .map(|(key, value)| RunItem::Entry { key: key.clone(), value: value.clone() })
            .collect();
        expected.extend(lost.iter().cloned().map(|(first, last)| RunItem::Hole { first, last }));
        expected.sort_by(|one, other| start(one).cmp(start(other)));
        prop_assert_eq!(run.iter().map(|item| item.unwrap()).collect::<Vec<_>>(), expected);
    }
}

fn start(item: &RunItem) -> &[u8] {
    match item {
        RunItem::Entry { key: start, .. } | RunItem::Hole { first: start, .. } => start,
    }
}

#[test]
fn a_run_that_is_not_the_manifests_does_not_open() {
    let disk = MemoryDisk::new(true);
    let entries = Entries::from([(vec![1], vec![2])]);
    let facts = write(&disk, &entries, &[]);
    let other = write(&disk, &Entries::from([(vec![1], vec![3])]), &[]);
    assert!(disk.open_run(&facts).is_ok());
    let code = |facts: &RunFacts| disk.open_run(facts).unwrap_err().code();
    assert_eq!(code(&RunFacts { checksum: facts.checksum ^ 1, ..facts }), "run.foreign");
    assert_eq!(code(&RunFacts { usage: RunUse::Names, ..facts }), "run.foreign");
    assert_eq!(code(&RunFacts { number: other.number, ..facts }), "run.foreign");
    assert_eq!(code(&RunFacts { bytes: facts.bytes + 1, ..facts }), "run.length");
    let missing = crate::ids::FileNumber(99);
    assert_eq!(code(&RunFacts { number: missing, ..facts }), "run.missing");
    let foreign = Run::open(&disk, StoreId([6; 16]), &facts).unwrap_err();
    assert_eq!(foreign.code(), "run.foreign");
    disk.truncate(FileName::Run(facts.number), 100);
    assert_eq!(code(&facts), "run.length");
}

#[test]
fn the_end_of_a_list_of_holes_is_not_taken_for_an_empty_one() {
    // As long as a line and the one byte that an empty list has.
    let hole = (vec![1], [vec![1], vec![0; 60]].concat());
    for (holes, is_lost) in [(&[hole][..], true), (&[], false)] {
        let disk = MemoryDisk::new(true);
        let facts = write(&disk, &Entries::from([(vec![1], vec![2])]), holes);
        let at = usize::try_from(facts.bytes).unwrap() - crate::format::run::FOOTER_BYTES;
        assert_eq!(at % 64, 1);
        disk.flip(FileName::Run(facts.number), at + 3, 1);
        let examined = examine::examine(&disk, STORE, facts.number, Some(&facts)).unwrap();
        let found = examined.run.holes();
        assert_eq!(found.iter().any(|hole| hole.first.is_empty()), is_lost, "{found:?}");
    }
}

#[test]
fn one_bad_header_copy_does_not_orphan_a_run() {
    let disk = MemoryDisk::new(true);
    let facts = write(&disk, &Entries::from([(vec![1], vec![2])]), &[]);
    disk.flip(FileName::Run(facts.number), 3, 1);
    assert!(disk.open_run(&facts).is_ok());
    disk.flip(FileName::Run(facts.number), SECOND_COPY_OFFSET + 3, 1);
    assert_eq!(disk.open_run(&facts).unwrap_err().code(), "run.header");
}

#[test]
fn an_entry_that_fits_no_block_is_refused() {
    let disk = MemoryDisk::new(true);
    let mut writer = disk.writer(RunUse::History);
    assert_eq!(writer.add(&[1], &vec![0; 1 << 16]).unwrap_err().code(), "run.entry");
    writer.add(&[1], &vec![7; (1 << 16) - 65]).unwrap();
    let run = disk.open_run(&writer.finish().unwrap()).unwrap();
    assert_eq!(run.get(&[1], <[u8]>::len).unwrap(), Some((1 << 16) - 65));
}

#[test]
fn a_footer_is_not_believed_of_more_addresses_than_its_filter_has_room_for() {
    let disk = MemoryDisk::new(true);
    let key = |number: u8| (vec![number; 20], vec![1]);
    let mut facts = write(&disk, &(0..100).map(key).collect(), &[]);
    assert_eq!(disk.open_run(&facts).unwrap().addresses(), 100);
    for (addresses, is_believed) in [(99, true), (10_000, false), (u64::MAX, false)] {
        disk.change(FileName::Run(facts.number), |bytes| {
            let header = Header::decode(bytes, FileKind::Run).unwrap();
            let at = bytes.len() - FOOTER_BYTES;
            let seed = seed(&header, at as u64);
            let (footer, _) = Footer::decode(&bytes[at..], seed).unwrap();
            let (footer, sum) = Footer { addresses, ..footer }.encode(seed);
            bytes[at..].copy_from_slice(&footer);
            facts.checksum = sum;
        });
        let opened = disk.open_run(&facts).map(|run| run.addresses());
        let code = opened.map_err(|error| error.code());
        assert_eq!(code, if is_believed { Ok(addresses) } else { Err("run.filter") });
    }
}
