//! Groups whose checksums are right and whose bodies say what no writer says.
//!
//! Invariants:
//!   * Each is an error that names what is wrong, and nothing of the record is handed out.

use super::reader::replay;
use super::test_log::{MemoryFiles, OpenChain, STORE, Writer};
use crate::format::checksum;
use crate::format::group::GroupKind;
use crate::format::record::{FinalPayload, PartPayload, RecordKind};
use crate::ids::{LogPoint, Lsn, ShortId, Term};
use crate::limits::LOGGED_COMMIT_BYTES_MAX;

/// How many commits are handed out, or the error's code.
fn outcome(files: &MemoryFiles, from: LogPoint, skip_to: Lsn) -> Result<u64, &'static str> {
    let replayed = replay(files, STORE, from, skip_to, Lsn::ZERO, &mut |_, _| Ok(()));
    replayed.map(|replayed| replayed.records).map_err(|error| error.code())
}

fn whole(writer: &Writer) -> Result<u64, &'static str> {
    outcome(&writer.files, LogPoint::default(), Lsn::ZERO)
}

/// What is to be said of a part.
#[derive(Clone, Copy)]
struct Said {
    group: u64,
    chain: u32,
    index: u32,
    id: u8,
}

/// A log of one group, which has these parts of three bytes each.
fn parts(all: &[Said]) -> Writer {
    let mut writer = Writer::new();
    for said in all {
        let mut payload = Vec::new();
        let (first_group, chain, index) = (said.group, said.chain, said.index);
        PartPayload { first_group, chain, index, bytes: b"abc" }.encode(&mut payload);
        writer.record_of(ShortId([said.id; 16]), RecordKind::Part, Lsn::ZERO, &payload);
    }
    writer
}

#[test]
fn a_part_is_of_the_chain_that_it_names_and_comes_in_its_turn() {
    let first = Said { group: 0, chain: 1, index: 0, id: 4 };
    let second = Said { index: 1, ..first };
    let cases: [(&[Said], _); 8] = [
        (&[first, second], Ok(0)),
        (&[first, Said { chain: 2, ..first }, second], Ok(0)),
        (&[second], Err("log.chain")),
        (&[first, first], Err("log.chain")),
        (&[first, Said { index: 2, ..first }], Err("log.chain")),
        (&[first, Said { id: 5, ..second }], Err("log.chain")),
        (&[first, Said { chain: 2, ..second }], Err("log.chain")),
        (&[Said { group: 7, ..first }], Err("log.chain")),
    ];
    for (number, (all, expected)) in cases.into_iter().enumerate() {
        let mut writer = parts(all);
        writer.write_group(GroupKind::Data);
        assert_eq!(whole(&writer), expected, "case {number}");
    }
}

#[test]
fn a_chain_is_no_longer_than_a_commit_may_be() {
    for (excess, expected) in [(0, Ok(1)), (1, Err("log.chain"))] {
        let file_bytes = LOGGED_COMMIT_BYTES_MAX + (1 << 20);
        let mut writer = Writer { file_bytes, next: Lsn(1), ..Writer::default() };
        writer.begin_file(Term(1));
        let payload = vec![1; LOGGED_COMMIT_BYTES_MAX + excess];
        let (first_group, chain) = (writer.end.point.group, 1);
        writer.chains.push(OpenChain { first_group, chain, payload, sent: 0, parts: 0 });
        for left in (1..=40).rev() {
            writer.continue_chain(0, left);
            writer.write_group(GroupKind::Data);
        }
        writer.finish_chain(0);
        writer.write_group(GroupKind::Data);
        assert_eq!(whole(&writer), expected, "{excess} more");
    }
}

#[test]
fn a_final_has_the_number_the_bytes_and_the_object_of_its_parts() {
    let right = (2, 6, 4);
    for said in [right, (1, 6, 4), (3, 6, 4), (2, 7, 4), (2, 6, 5)] {
        let first = Said { group: 0, chain: 1, index: 0, id: 4 };
        let mut writer = parts(&[first, Said { index: 1, ..first }]);
        let (parts, total_bytes, id) = said;
        let total_crc = checksum(0, b"abcabc");
        let (first_group, chain, bytes) = (0, 1, &b""[..]);
        let last = FinalPayload { first_group, chain, parts, total_bytes, total_crc, bytes };
        let mut payload = Vec::new();
        last.encode(&mut payload);
        let lsn = writer.grant(payload.clone());
        writer.record_of(ShortId([id; 16]), RecordKind::Final, lsn, &payload);
        writer.write_group(GroupKind::Data);
        let expected = if said == right { Ok(1) } else { Err("log.chain") };
        assert_eq!(whole(&writer), expected, "{said:?}");
    }
}

#[test]
fn of_a_chain_that_began_before_the_cut_only_the_lsn_is_wanted() {
    let mut writer = Writer::new();
    writer.begin_chain(vec![1; 5000]);
    writer.write_group(GroupKind::Data);
    writer.continue_chain(0, 2);
    writer.finish_chain(0);
    writer.write_group(GroupKind::Data);
    writer.commit_group(10);
    let from = writer.groups[0].end.point;
    assert_eq!(outcome(&writer.files, from, Lsn(1)), Ok(1), "what is behind the cut");
    assert_eq!(outcome(&writer.files, from, Lsn::ZERO), Err("log.chain"), "the cut lacks it");
    assert_eq!(whole(&writer), Ok(2));
}

#[test]
fn a_group_begins_and_ends_with_the_lsns_that_its_header_says() {
    // The first and the last that the header says of a group with the commits 1 and 2.
    for (first, last) in [(1, 2), (2, 2), (0, 2), (1, 1), (1, 3)] {
        let mut writer = Writer::new();
        writer.commit(b"a");
        writer.commit(b"b");
        (writer.first, writer.next) = (Some(Lsn(first)), Lsn(last + 1));
        writer.write_group(GroupKind::Data);
        let expected = if (first, last) == (1, 2) { Ok(2) } else { Err("log.order") };
        assert_eq!(whole(&writer), expected, "{first} to {last}");
    }
}

#[test]
fn a_group_without_commits_says_the_last_lsn_before_it() {
    for (first, last) in [(1, 1), (2, 2), (0, 0), (0, 1), (1, 2)] {
        let mut writer = Writer::new();
        writer.commit_group(10);
        (writer.first, writer.next) = (Some(Lsn(first)), Lsn(last + 1));
        writer.write_group(GroupKind::Mark);
        let expected = if (first, last) == (1, 1) { Ok(1) } else { Err("log.order") };
        assert_eq!(whole(&writer), expected, "{first} to {last}");
    }
}

#[test]
fn a_term_goes_on_behind_the_lsns_of_the_one_before() {
    for (back, expected) in [(0, Ok(2)), (1, Err("log.order"))] {
        let mut writer = Writer::new();
        writer.commit_group(10);
        writer.first = Some(Lsn(writer.next.0 - back));
        writer.begin_file(Term(2));
        writer.next = writer.first.take().unwrap();
        writer.commit_group(10);
        assert_eq!(whole(&writer), expected, "{back} back");
    }
}
