//! Whole logs, cut, torn and damaged: what a reader makes of them.

use super::reader::{Replayed, Verdict, replay, replay_proven};
use super::test_log::{MemoryFiles, STORE, Writer, Written};
use crate::error::{Place, Result};
use crate::format::group::{GROUP_HEADER_BYTES, GroupKind, WAL_HEADER_BYTES};
use crate::format::record::{RECORD_HEADER_BYTES, RecordKind};
use crate::ids::{FileNumber, LogEnd, LogPoint, Lsn, StoreId, Term};
use crate::names::FileName;
use proptest::prelude::*;

type Commits = Vec<(Lsn, Vec<u8>)>;

fn run(
    files: &MemoryFiles,
    from: LogPoint,
    skip_to: Lsn,
    proof: Lsn,
) -> (Commits, Result<Replayed>) {
    let mut commits = Vec::new();
    let replayed = replay(files, STORE, from, skip_to, proof, &mut |record, _| {
        assert!(matches!(record.header.kind, RecordKind::Commit | RecordKind::AdoptBegin));
        commits.push((record.header.lsn, record.payload.to_vec()));
        Ok(())
    });
    (commits, replayed)
}

fn run_all(files: &MemoryFiles) -> (Commits, Result<Replayed>) {
    run(files, LogPoint::default(), Lsn::ZERO, Lsn::ZERO)
}

fn code(files: &MemoryFiles) -> &'static str {
    run_all(files).1.unwrap_err().code()
}

fn follow(files: &MemoryFiles, proof: Lsn) -> (usize, Result<Replayed>) {
    let mut commits = 0;
    let from = LogPoint::default();
    let replayed = replay_proven(files, STORE, from, Lsn::ZERO, proof, &mut |_, _| {
        commits += 1;
        Ok(())
    });
    (commits, replayed)
}

#[derive(Clone, Debug)]
enum Step {
    Commit(usize, bool),
    BeginChain(usize),
    ContinueChain(usize),
    FinishChain(usize),
    Group,
    Mark,
    Term,
    Prepare,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..3000, any::<bool>()).prop_map(|(bytes, zero)| Step::Commit(bytes, zero)),
        1 => (0usize..9000).prop_map(Step::BeginChain),
        1 => any::<usize>().prop_map(Step::ContinueChain),
        1 => any::<usize>().prop_map(Step::FinishChain),
        4 => Just(Step::Group),
        1 => Just(Step::Mark),
        1 => Just(Step::Term),
        1 => Just(Step::Prepare),
    ];
    proptest::collection::vec(step, 0..60)
}

/// A log with at least two groups, the last one of commits.
fn build(steps: &[Step]) -> Writer {
    let mut writer = Writer::new();
    for step in steps {
        let chains = writer.chains.len();
        match *step {
            Step::Commit(bytes, true) => writer.commit(&vec![0; bytes]),
            Step::Commit(bytes, false) => {
                writer.commit(&(1..=250).cycle().take(bytes).collect::<Vec<_>>());
            }
            Step::BeginChain(bytes) => writer.begin_chain((0..=250).cycle().take(bytes).collect()),
            Step::ContinueChain(which) if chains > 0 => writer.continue_chain(which % chains, 2),
            Step::FinishChain(which) if chains > 0 => writer.finish_chain(which % chains),
            Step::Group if writer.records > 0 => writer.write_group(GroupKind::Data),
            Step::Mark if writer.records == 0 => writer.write_group(GroupKind::Mark),
            Step::Prepare => writer.prepare_file(),
            Step::Term => {
                // What was not written is lost, and the engine gives its LSNs to nobody else.
                let written = writer.groups.last().map_or(0, |group| group.commits);
                writer.commits.truncate(written);
                writer.begin_term();
            }
            _ => {}
        }
        if writer.body.len() > 30_000 {
            writer.write_group(GroupKind::Data);
        }
    }
    if writer.groups.is_empty() || writer.records > 0 {
        writer.commit(&[9; 100]);
        writer.write_group(GroupKind::Data);
    }
    writer.commit(&[8; 1200]);
    writer.write_group(GroupKind::Data);
    writer
}

proptest! {
    #[test]
    fn a_whole_log_reads_back_and_from_any_point_its_rest_does(steps in steps(), at: usize) {
        let writer = build(&steps);
        let last = writer.durable(writer.groups.len());
        let (commits, replayed) = run(&writer.files, LogPoint::default(), Lsn::ZERO, last);
        let replayed = replayed.unwrap();
        prop_assert_eq!(&commits, &writer.commits);
        prop_assert_eq!((replayed.end, replayed.verdict), (writer.end, Verdict::Clean));
        prop_assert_eq!(replayed.groups, writer.groups.len() as u64);
        // As it was after some group; where a walk would resume from there.
        let group = &writer.groups[at % writer.groups.len()];
        let mut early = writer.files.clone();
        early.0.retain(|number, _| *number <= group.start.file);
        let rest = usize::try_from(group.end.point.offset).unwrap();
        early.0.get_mut(&group.start.file).unwrap()[rest..].fill(0);
        let (_, early) = follow(&early, group.end.lsn);
        let (point, lsn) = (early.as_ref().unwrap().resume, early.unwrap().end.lsn);
        let (commits, replayed) = run(&writer.files, point, lsn, last);
        let end = replayed.unwrap().end;
        prop_assert_eq!((end.point, end.lsn), (writer.end.point, writer.end.lsn));
        let skipped = writer.commits.iter().filter(|commit| commit.0 <= lsn).count();
        prop_assert_eq!(&commits[..], &writer.commits[skipped..]);
    }

    #[test]
    fn a_torn_last_group_leaves_exactly_what_was_before(steps in steps(), lost: u64) {
        let writer = build(&steps);
        let groups = writer.groups.clone();
        let [.., before, last] = &groups[..] else { unreachable!() };
        let mut files = writer.files.clone();
        let file = files.0.get_mut(&last.start.file).unwrap();
        let start = usize::try_from(last.start.offset).unwrap();
        let sectors = last.bytes.div_ceil(512);
        // No sector of a group is zeros as written, so to lose one is to change it.
        let is_lost = |sector: usize| lost >> (sector % 64) & 1 == 1;
        let is_none_lost = !(0..sectors).any(is_lost);
        for sector in (0..sectors).filter(|sector| is_none_lost || is_lost(*sector)) {
            file[start + sector * 512..start + sector * 512 + 512].fill(0);
        }
        let proof = before.end.lsn;
        let (commits, replayed) = run(&files, LogPoint::default(), Lsn::ZERO, proof);
        let replayed = replayed.unwrap();
        prop_assert_eq!(&commits[..], &writer.commits[..before.commits]);
        prop_assert_eq!(replayed.end.point, last.start);
        let is_clean = file_is_zero(&files, &last.start);
        prop_assert_eq!(replayed.verdict == Verdict::Clean, is_clean);
        prop_assert_eq!(replayed.discarded.is_none(), is_clean);
        // Whoever knows that it was durable is told.
        let proof = last.end.lsn;
        let known = run(&files, LogPoint::default(), Lsn::ZERO, proof).1;
        prop_assert_eq!(known.unwrap_err().code(), "log.damaged");
        // The next term goes on there, and what is left of the group is dead.
        let mut writer = Writer { files, ..writer };
        writer.end = replayed.end;
        writer.commits.truncate(before.commits);
        writer.begin_term();
        writer.commit_group(10);
        let (commits, replayed) = run_all(&writer.files);
        prop_assert_eq!(replayed.unwrap().end, writer.end);
        prop_assert_eq!(commits, writer.commits);
    }

    #[test]
    fn damage_before_the_last_group_is_never_taken_for_the_end(
        steps in steps(), which: usize, bit: usize, wipe: bool,
    ) {
        let writer = build(&steps);
        let index = which % (writer.groups.len() - 1);
        let group = &writer.groups[index];
        let mut files = writer.files.clone();
        let start = usize::try_from(group.start.offset).unwrap();
        let bit = bit % (group.bytes * 8);
        let byte = start + bit / 8;
        let file = files.0.get_mut(&group.start.file).unwrap();
        if wipe {
            file[byte / 512 * 512..byte / 512 * 512 + 512].fill(0);
        } else {
            file[byte] ^= 1 << (bit % 8);
        }
        let known = index.checked_sub(1).map_or(0, |before| writer.groups[before].commits);
        let (commits, replayed) = run_all(&files);
        let error = replayed.unwrap_err();
        prop_assert_eq!(error.code(), "log.damaged");
        prop_assert_eq!(error.place().unwrap().offset, group.start.offset);
        prop_assert_eq!(&commits[..], &writer.commits[..known]);
        // A follower shows nothing behind the damage either, whether or not it can name it.
        let (commits, _) = follow(&files, Lsn::ZERO);
        prop_assert!(commits <= known);
    }

    #[test]
    fn a_newest_file_that_was_cut_short_is_damage_wherever_it_was_cut(
        steps in steps(), at: usize, may_be_used: bool,
    ) {
        let writer = build(&steps);
        let mut files = writer.files.clone();
        let last = writer.end.point;
        let file = files.0.get_mut(&last.file).unwrap();
        let most = if may_be_used { usize::try_from(last.offset).unwrap() } else { file.len() };
        let left = 1 + at % (most - 1);
        file.truncate(left);
        let (commits, replayed) = run_all(&files);
        let error = replayed.unwrap_err();
        prop_assert_eq!(error.code(), "log.short", "{} bytes are left: {}", left, error);
        let place = error.place().unwrap();
        let wanted = Place::new(FileName::Wal(last.file), left as u64);
        prop_assert_eq!((&place.file, place.offset), (&wanted.file, wanted.offset));
        let is_left = |group: &&Written| {
            group.start.file != last.file || group.end.point.offset <= left as u64
        };
        // Without a header nothing says behind what the file goes on.
        let groups = writer.groups.iter().filter(|_| left >= WAL_HEADER_BYTES);
        let known = groups.take_while(is_left).last().map_or(0, |group| group.commits);
        prop_assert_eq!(&commits[..], &writer.commits[..known]);
        // Whoever follows is told as well.
        let (commits, followed) = follow(&files, Lsn::ZERO);
        prop_assert_eq!(followed.unwrap_err().code(), "log.short");
        prop_assert!(commits <= known);
    }

    #[test]
    fn a_follower_hands_out_what_is_proven_and_no_more(steps in steps()) {
        let writer = build(&steps);
        let [.., before, last] = &writer.groups[..] else { unreachable!() };
        let (commits, replayed) = follow(&writer.files, Lsn::ZERO);
        prop_assert_eq!(commits, before.commits);
        prop_assert_eq!(replayed.unwrap().end.point.group, last.start.group);
        let (commits, replayed) = follow(&writer.files, last.end.lsn);
        prop_assert_eq!((commits, replayed.unwrap().end), (last.commits, writer.end));
        let mut writer = writer;
        writer.begin_term();
        let (commits, replayed) = follow(&writer.files, Lsn::ZERO);
        prop_assert_eq!(commits, writer.commits.len());
        prop_assert_eq!(replayed.unwrap().end.point, writer.end.point);
    }
}

fn file_is_zero(files: &MemoryFiles, from: &LogPoint) -> bool {
    let start = usize::try_from(from.offset).unwrap();
    files.0[&from.file][start..].iter().all(|byte| *byte == 0)
}

#[test]
fn an_empty_log_is_clean_and_a_proof_of_anything_makes_it_damaged() {
    let (_, replayed) = run_all(&MemoryFiles::default());
    assert_eq!(replayed.unwrap().end, LogEnd::default());
    let writer = Writer::new();
    assert_eq!(run_all(&writer.files).1.unwrap().end.point, writer.end.point);
    let proven = run(&writer.files, LogPoint::default(), Lsn::ZERO, Lsn(1)).1;
    assert_eq!(proven.unwrap_err().code(), "log.damaged");
}

#[test]
fn a_term_that_crashed_before_its_first_group_is_passed_and_its_lsns_are_not_given_again() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    writer.begin_term();
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!(replayed.end.point, writer.end.point);
    assert_eq!(replayed.end.point.offset, 4096);
    assert_eq!((replayed.end.lsn, replayed.highest), (Lsn(1), Lsn(0x0100_0000)));
    writer.begin_term();
    writer.commit_group(100);
    let (commits, replayed) = run_all(&writer.files);
    assert_eq!((commits, replayed.unwrap().end), (writer.commits, writer.end));
}

#[test]
fn of_several_files_that_name_one_end_the_highest_term_is_right_and_the_others_must_be_empty() {
    for has_group in [false, true] {
        let mut writer = Writer::new();
        writer.commit_group(100);
        let end = writer.end;
        writer.begin_term();
        if has_group {
            writer.commit_group(50);
            writer.commits.pop();
        }
        writer.end = end;
        writer.begin_term();
        writer.commit_group(100);
        if has_group {
            assert_eq!(code(&writer.files), "log.fork");
        } else {
            let (commits, replayed) = run_all(&writer.files);
            assert_eq!((commits, replayed.unwrap().end), (writer.commits, writer.end));
        }
    }
}

#[test]
fn the_next_file_takes_the_place_of_one_that_holds_nothing() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    let mut end = writer.end;
    writer.begin_term();
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!((replayed.join, replayed.resume), (end, writer.end.point));
    assert_eq!(replayed.dead, [FileNumber(2)]);
    // A term that went on to its second file: only the last one is given up.
    end = writer.end;
    writer.begin_file(writer.term);
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!((replayed.join.point, &replayed.dead[..]), (end.point, &[FileNumber(3)][..]));
    writer.end = replayed.join;
    writer.begin_term();
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!(replayed.dead, [FileNumber(4), FileNumber(3)]);
    writer.commit_group(100);
    for gone in [0, 3] {
        writer.files.0.remove(&FileNumber(gone));
        let (commits, replayed) = run_all(&writer.files);
        let replayed = replayed.unwrap();
        assert_eq!((&commits, replayed.end), (&writer.commits, writer.end));
        assert_eq!((replayed.join, replayed.dead.len()), (writer.end, usize::from(gone == 0)));
    }
}

#[test]
fn a_file_in_which_a_torn_group_stands_is_not_passed_over() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    writer.begin_term();
    let torn = writer.end;
    writer.commit_group(3000);
    let (start, bytes) = (writer.groups[1].start, writer.groups[1].bytes);
    let file = writer.files.0.get_mut(&start.file).unwrap();
    let start = usize::try_from(start.offset).unwrap();
    file[start..start + 512].fill(0);
    assert!(bytes > 1024);
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!((replayed.verdict, replayed.join.point), (Verdict::Torn, torn.point));
    assert!(replayed.dead.is_empty());
    writer.end = torn;
    writer.begin_term();
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!((replayed.verdict, replayed.join.point), (Verdict::Clean, torn.point));
    assert_eq!(replayed.dead, [FileNumber(3)]);
}

#[test]
fn of_several_files_that_name_one_end_the_term_decides_and_not_the_number() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    let end = writer.end;
    writer.begin_file(Term(3));
    writer.commit_group(100);
    writer.write_header(FileNumber(3), end, Term(2));
    let (commits, replayed) = run_all(&writer.files);
    assert_eq!((commits, replayed.unwrap().end), (writer.commits, writer.end));
}

#[test]
fn a_file_that_names_an_earlier_end_of_the_same_file_than_another_is_damage() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    let early = writer.end;
    writer.commit_group(100);
    writer.begin_term();
    let number = FileNumber(writer.last_number + 1);
    writer.write_header(number, early, Term(3));
    let error = run_all(&writer.files).1.unwrap_err();
    assert_eq!((error.code(), error.place().unwrap().offset), ("log.damaged", early.point.offset));
}

#[test]
fn a_commit_known_durable_that_the_next_term_left_out_is_damage() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    writer.begin_term();
    writer.commit_group(100);
    let known = |lsn| run(&writer.files, LogPoint::default(), Lsn::ZERO, Lsn(lsn)).1;
    assert!(known(1).is_ok());
    assert_eq!(known(2).unwrap_err().place().unwrap().offset, writer.groups[0].end.point.offset);
    // A cut before the term's first commit has the LSN before that.
    assert!(known(0x00FF_FFFF).is_ok() && known(0x0100_0000).is_ok());
    assert_eq!(known(0x0100_0001).unwrap_err().code(), "log.damaged");
}

#[test]
fn a_file_that_continues_nothing_is_damage() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    let mut nowhere = writer.end;
    nowhere.point.chain ^= 1;
    writer.write_header(FileNumber(9), nowhere, Term(2));
    assert_eq!(code(&writer.files), "log.orphan");
    nowhere = writer.end;
    writer.write_header(FileNumber(9), nowhere, Term(0));
    assert_eq!(code(&writer.files), "log.orphan");
    writer.files.0.remove(&FileNumber(9));
    writer.begin_term();
    writer.commit_group(100);
    writer.begin_term();
    writer.files.0.remove(&FileNumber(2));
    assert_eq!(code(&writer.files), "log.damaged");
}

#[test]
fn a_used_file_without_its_header_is_damage_and_an_unused_one_is_not() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    writer.begin_term();
    writer.files.0.get_mut(&FileNumber(2)).unwrap()[..4096].fill(0xEE);
    assert!(run_all(&writer.files).1.is_ok());
    writer.commit_group(100);
    assert_eq!(code(&writer.files), "log.header");
    writer.files.0.get_mut(&FileNumber(2)).unwrap()[..4096].fill(0);
    assert_eq!(code(&writer.files), "log.header");
    writer.files.0.insert(FileNumber(2), vec![0; 100]);
    assert!(run_all(&writer.files).1.is_ok());
}

#[test]
fn a_foreign_or_renamed_file_is_refused() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    let from = LogPoint::default();
    let other = replay(&writer.files, StoreId([6; 16]), from, Lsn(0), Lsn(0), &mut |_, _| Ok(()));
    assert_eq!(other.unwrap_err().code(), "log.foreign");
    let bytes = writer.files.0.remove(&FileNumber(1)).unwrap();
    writer.files.0.insert(FileNumber(2), bytes);
    assert_eq!(code(&writer.files), "log.renamed");
    writer.files.0.clear();
    let gone = run(&writer.files, writer.groups[0].start, Lsn(0), Lsn(0)).1;
    assert_eq!(gone.unwrap_err().code(), "log.missing");
}

#[test]
fn a_file_that_lost_what_nobody_needs_is_no_damage() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    let end = usize::try_from(writer.end.point.offset).unwrap();
    let cut = |writer: &Writer, number, left| {
        let mut files = writer.files.clone();
        files.0.get_mut(&FileNumber(number)).unwrap().truncate(left);
        files
    };
    // Behind where the next file goes on; not a byte before.
    writer.begin_term();
    writer.commit_group(100);
    assert_eq!(run_all(&cut(&writer, 1, end)).0, writer.commits);
    assert_eq!(code(&cut(&writer, 1, end - 1)), "log.damaged");
    // Behind a close.
    writer.write_group(GroupKind::Close);
    let end = usize::try_from(writer.end.point.offset).unwrap();
    assert!(run_all(&cut(&writer, 2, end)).1.unwrap().closed);
    assert_eq!(code(&cut(&writer, 2, end - 4096)), "log.short");
    // Before the point from which all is in pages: it is told what happened to the file.
    let gone = run(&cut(&writer, 2, 5000), writer.end.point, Lsn(0), Lsn(0)).1;
    assert_eq!(gone.unwrap_err().code(), "log.short");
    // A file that was never used: its length may not have been durable.
    writer.prepare_file();
    for left in [0, 1, 4095, 4096, 10_000] {
        assert!(run_all(&cut(&writer, 3, left)).1.is_ok(), "{left} bytes are left");
        assert!(follow(&cut(&writer, 3, left), Lsn::ZERO).1.is_ok());
    }
}

#[test]
fn behind_a_close_the_log_is_closed_until_the_next_term() {
    let mut writer = Writer::new();
    writer.commit_group(100);
    writer.write_group(GroupKind::Close);
    assert!(run_all(&writer.files).1.unwrap().closed);
    writer.begin_term();
    assert!(!run_all(&writer.files).1.unwrap().closed);
}

#[test]
fn a_commit_whose_parts_are_incomplete_is_an_error_and_one_without_final_never_happened() {
    let mut writer = Writer::new();
    writer.begin_chain(vec![1; 5000]);
    writer.write_group(GroupKind::Data);
    let replayed = run_all(&writer.files).1.unwrap();
    assert_eq!((replayed.records, replayed.open_chains), (0, 1));
    assert_eq!(replayed.resume, writer.groups[0].start);
    let mut crashed = Writer { files: writer.files.clone(), end: writer.end, ..Writer::new() };
    crashed.begin_term();
    let replayed = run_all(&crashed.files).1.unwrap();
    assert_eq!((replayed.open_chains, replayed.resume), (0, crashed.end.point));
    writer.chains[0].parts += 1;
    writer.finish_chain(0);
    writer.write_group(GroupKind::Data);
    assert_eq!(code(&writer.files), "log.chain");
}

#[test]
fn parts_that_are_not_what_their_final_says_are_an_error() {
    for is_changed in [false, true] {
        let mut writer = Writer::new();
        writer.begin_chain(vec![1; 5000]);
        writer.write_group(GroupKind::Data);
        writer.chains[0].payload[0] ^= u8::from(is_changed);
        writer.finish_chain(0);
        writer.write_group(GroupKind::Data);
        let found = run_all(&writer.files).1.map(|replayed| replayed.records);
        assert_eq!(found.map_err(|e| e.code()), if is_changed { Err("log.chain") } else { Ok(1) });
    }
}

#[test]
fn a_group_with_another_number_of_records_than_it_says_is_an_error() {
    let mut writer = Writer::new();
    writer.commit(&[1; 10]);
    writer.records += 1;
    writer.write_group(GroupKind::Data);
    assert_eq!(code(&writer.files), "log.record");
}

#[test]
fn the_begin_of_a_life_is_handed_out_for_its_lsn_and_is_no_commit() {
    for (payload, is_damage) in [(&b""[..], false), (b"x", true)] {
        let mut writer = Writer::new();
        writer.commit(&[1; 10]);
        let lsn = writer.grant(payload.to_vec());
        writer.record(RecordKind::AdoptBegin, lsn, payload);
        writer.commit(&[2; 10]);
        writer.write_group(GroupKind::Data);
        let (found, replayed) = run_all(&writer.files);
        if is_damage {
            assert_eq!(replayed.unwrap_err().code(), "log.record");
        } else {
            assert_eq!((found.len(), replayed.unwrap().records), (3, 2));
            let (found, _) = run(&writer.files, LogPoint::default(), lsn, Lsn::ZERO);
            assert_eq!(found.len(), 1, "what the cut has is not handed out again");
        }
    }
}

#[test]
fn a_file_that_begins_with_a_mark_begins_with_the_last_lsn_before_it() {
    for (back, is_right) in [(0, true), (1, true), (2, false)] {
        let mut writer = Writer::new();
        writer.commit_group(10);
        writer.commit_group(10);
        writer.first = Some(Lsn(writer.next.0 - back));
        writer.begin_file(Term(1));
        writer.first = None;
        writer.write_group(GroupKind::Mark);
        assert_eq!(run_all(&writer.files).1.is_ok(), is_right, "{back} before the next");
    }
}

#[test]
fn an_lsn_out_of_order_is_damage() {
    for (first, second) in [(1, 3), (1, 1), (2, 3), (1, 2)] {
        let mut writer = Writer::new();
        writer.record(RecordKind::Commit, Lsn(first), b"");
        writer.record(RecordKind::Commit, Lsn(second), b"");
        (writer.first, writer.next) = (Some(Lsn(first)), Lsn(second + 1));
        writer.write_group(GroupKind::Data);
        let replayed = run_all(&writer.files).1;
        assert_eq!(replayed.is_ok(), (first, second) == (1, 2), "{first}, {second}");
    }
}

#[test]
fn the_header_of_a_record_is_not_counted_as_its_payload() {
    let mut writer = Writer::new();
    writer.commit_group(10);
    let mut positions = Vec::new();
    let from = LogPoint::default();
    let replayed = replay(&writer.files, STORE, from, Lsn(0), Lsn(0), &mut |record, position| {
        positions.push((position.offset, record.header.length));
        Ok(())
    });
    assert!(replayed.is_ok());
    assert_eq!(positions, [(4096 + GROUP_HEADER_BYTES as u64, 10)]);
    assert_eq!(writer.groups[0].bytes, GROUP_HEADER_BYTES + RECORD_HEADER_BYTES + 10);
}

#[test]
fn a_proof_more_than_a_window_behind_the_damage_is_found() {
    let mut writer = Writer { file_bytes: 4 << 20, ..Writer::default() };
    writer.next = Lsn(1);
    writer.begin_file(Term(1));
    writer.commit_group(100);
    writer.commit_group(2_000_000);
    writer.commit_group(100);
    assert_eq!(run_all(&writer.files).0, writer.commits);
    let [_, large, last] = &writer.groups[..] else { unreachable!() };
    let [large, last] = [large, last].map(|group| usize::try_from(group.start.offset).unwrap());
    let file = writer.files.0.get_mut(&FileNumber(1)).unwrap();
    file[large..last].fill(0);
    assert_eq!(code(&writer.files), "log.damaged");
    // Without the last group the same zeros are the end.
    writer.files.0.get_mut(&FileNumber(1)).unwrap()[last..].fill(0);
    assert_eq!(run_all(&writer.files).1.unwrap().verdict, Verdict::Clean);
}
