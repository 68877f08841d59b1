//! Claims about manifests.
//!
//! Invariants:
//!   * Numbers are such as a store can count to, but where it is tested that others are refused.

use super::*;
use crate::format::namespace;
use proptest::array::{uniform2, uniform3, uniform5, uniform7, uniform8};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn counted() -> std::ops::Range<u64> {
    0..crate::format::COUNTED_END
}

fn run_facts() -> impl Strategy<Value = RunFacts> {
    let usage = prop_oneof![
        Just(RunUse::Directory),
        Just(RunUse::Names),
        Just(RunUse::Alarms),
        Just(RunUse::History)
    ];
    (uniform3(counted()), usage, any::<u32>()).prop_map(
        |([number, bytes, entries], usage, checksum)| RunFacts {
            number: FileNumber(number),
            usage,
            bytes,
            entries,
            checksum,
        },
    )
}

fn address() -> impl Strategy<Value = Address> {
    any::<(u32, [u8; 16])>().prop_map(|(namespace, id)| Address {
        namespace: NamespaceNumber(namespace),
        id: ShortId(id),
    })
}

fn segment() -> impl Strategy<Value = SegmentState> {
    (uniform7(counted()), any::<u8>()).prop_map(|(numbers, generation)| SegmentState {
        facts: SegmentFacts {
            number: FileNumber(numbers[0]),
            bytes: numbers[1],
            page_bytes: numbers[2],
            pages: numbers[3],
        },
        live_bytes: numbers[4],
        live_pages: numbers[5],
        written_at: Lsn(numbers[6]),
        generation,
    })
}

fn end() -> impl Strategy<Value = LogEnd> {
    (uniform5(counted()), any::<u32>()).prop_map(|([file, offset, group, lsn, time], chain)| {
        LogEnd {
            point: LogPoint { file: FileNumber(file), offset, group, chain },
            lsn: Lsn(lsn),
            time: Timestamp(time),
        }
    })
}

fn history() -> impl Strategy<Value = HistoryFile> {
    (run_facts(), any::<u32>(), uniform5(counted())).prop_map(
        |(facts, class, [epoch, start, end, start_time, end_time])| HistoryFile {
            facts,
            class,
            epoch,
            start: Lsn(start),
            end: Lsn(end),
            start_time: Timestamp(start_time),
            end_time: Timestamp(end_time),
        },
    )
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let files = (vec(segment(), 0..4), vec(run_facts(), 0..4), vec(history(), 0..4));
    let lists = (
        vec((any::<u32>(), uniform2(counted())), 0..4),
        vec((any::<u32>(), counted()), 0..4),
        vec((address(), uniform2(counted())), 0..4),
    );
    (any::<[u8; 16]>(), any::<u32>(), uniform8(counted()), end(), option::of(end()), files, lists)
        .prop_map(|(store, term, numbers, replay, closed, files, (terms, pairs, objects))| {
            Manifest {
                store: StoreId(store),
                term: Term(term),
                generation: numbers[0],
                writer_features: term.rotate_left(9),
                cut: Lsn(numbers[1]),
                cut_time: Timestamp(numbers[2]),
                replay: replay.point,
                closed,
                next_file: FileNumber(numbers[3]),
                terms: terms
                    .iter()
                    .map(|(term, [first, last])| TermSpan {
                        term: Term(*term),
                        first: Lsn(*first),
                        last: Lsn(*last),
                    })
                    .collect(),
                segments: files.0,
                runs: files.1,
                history: files.2,
                epoch: numbers[5],
                epoch_start: Lsn(numbers[4]),
                epoch_time: Timestamp(numbers[6]),
                epoch_bytes: numbers[7],
                horizons: pairs.iter().map(|(class, lsn)| (*class, Lsn(*lsn))).collect(),
                allowed: pairs.iter().map(|(class, at)| (*class, Timestamp(*at))).collect(),
                purged: objects
                    .iter()
                    .map(|(address, [lsn, number])| Purge {
                        address: *address,
                        lsn: Lsn(*lsn),
                        erased: number % 2 == 1,
                    })
                    .collect(),
                classes: pairs
                    .iter()
                    .map(|(class, from)| ClassChange {
                        namespace: NamespaceNumber(class ^ 5),
                        class: *class,
                        from: Lsn(*from),
                    })
                    .collect(),
                ended: objects.iter().map(|(at, [a, b])| (*at, Life(*a), Lsn(*b))).collect(),
                namespaces: std::vec![namespace::sample(); pairs.len()],
            }
        })
}

#[test]
fn numbers_that_no_store_counts_to_are_refused() {
    let bytes = Manifest { cut: Lsn(crate::format::COUNTED_END - 1), ..Manifest::default() };
    assert!(Manifest::decode(&bytes.encode()).is_ok());
    for number in [crate::format::COUNTED_END, u64::MAX] {
        let next_file = FileNumber(number);
        for manifest in [
            Manifest { cut: Lsn(number), ..Manifest::default() },
            Manifest { next_file, ..Manifest::default() },
        ] {
            assert!(Manifest::decode(&manifest.encode()).is_err(), "{number}");
        }
    }
}

proptest! {
    #[test]
    fn a_manifest_decodes_to_what_was_encoded(manifest in manifest()) {
        let bytes = manifest.encode();
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }

    #[test]
    fn any_flip_cut_or_addition_is_noticed(
        manifest in manifest(),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = manifest.encode();
        let mut damaged = bytes.clone();
        let bit = at.index(bytes.len() * 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Manifest::decode(&damaged).is_err());
        prop_assert!(Manifest::decode(&bytes[..at.index(bytes.len())]).is_err());
        damaged.clone_from(&bytes);
        damaged.push(0);
        prop_assert!(Manifest::decode(&damaged).is_err());
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let number = FileNumber(7);
    let facts = SegmentFacts { number, bytes: 900, page_bytes: 800, pages: 3 };
    let segment =
        SegmentState { facts, live_bytes: 1, live_pages: 2, written_at: Lsn(4), generation: 0 };
    let manifest = Manifest { generation: 5, segments: vec![segment; 3], ..Manifest::default() };
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(&damaged).is_err(), "bit {bit}");
    }
}
