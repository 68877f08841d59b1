//! Section 1.6: lists.

use crate::stage::{Stage, fill, keys, listed};
use dostore::actor::Storage;
use dostore::error::ErrorKind;
use dostore::store::list::{Entries, ListOptions};
use dostore::store::value::Value;
use std::collections::BTreeMap;

fn options() -> ListOptions {
    ListOptions::new()
}

fn room(keys: &str) -> (Stage, Storage) {
    let (stage, room) = Stage::with_room();
    fill(&room, keys);
    (stage, room)
}

#[track_caller]
fn expect(room: &Storage, options: ListOptions, keys: &str) {
    assert_eq!(listed(room.list(options).unwrap()), keys);
}

#[test]
fn s1_6_start_is_the_first_key_or_the_next_behind_it() {
    let (_stage, room) = room("a b d e");
    expect(&room, options().start("b"), "b d e");
    expect(&room, options().start("c"), "d e");
    expect(&room, options().start("f"), "");
    expect(&room, options().start(""), "a b d e");
}

#[test]
fn s1_6_start_after_leaves_out_its_key_and_nothing_else() {
    let (_stage, room) = room("a b b\0 c");
    expect(&room, options().start_after("b"), "b\0 c");
    expect(&room, options().start_after("bb"), "c");
    expect(&room, options().start_after(""), "a b b\0 c");
}

#[test]
fn s1_6_start_and_start_after_together_are_refused() {
    let (_stage, room) = room("a");
    let error = room.list(options().start("a").start_after("a")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "list.start"));
}

#[test]
fn s1_6_end_is_left_out() {
    let (_stage, room) = room("a b c d");
    expect(&room, options().end("c"), "a b");
    expect(&room, options().start("b").end("bb"), "b");
    expect(&room, options().end("z"), "a b c d");
}

#[test]
fn s1_6_an_end_at_or_before_the_start_lists_nothing() {
    let (_stage, room) = room("a b c");
    expect(&room, options().start("b").end("b"), "");
    expect(&room, options().start("c").end("a"), "");
    expect(&room, options().end(""), "");
    expect(&room, options().start_after("b").end("b"), "");
    expect(&room, options().start("c").end("a").reverse(), "");
}

#[test]
fn s1_6_a_limit_of_zero_is_refused() {
    let (_stage, room) = room("a");
    let error = room.list(options().limit(0)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "list.limit"));
}

#[test]
fn s1_6_a_limit_ends_the_list() {
    let (_stage, room) = room("a b c");
    expect(&room, options().limit(1), "a");
    expect(&room, options().limit(2).start("b"), "b c");
    expect(&room, options().limit(9), "a b c");
    expect(&room, options().limit(usize::MAX), "a b c");
}

#[test]
fn s1_6_an_empty_prefix_means_none() {
    let (_stage, room) = room("a b");
    expect(&room, options().prefix(""), "a b");
    expect(&room, options().prefix("").start("b"), "b");
}

#[test]
fn s1_6_a_prefix_lists_what_begins_so() {
    let (_stage, room) = room("a ab aba abb ac b");
    expect(&room, options().prefix("ab"), "ab aba abb");
    expect(&room, options().prefix("abc"), "");
    expect(&room, options().prefix("b"), "b");
}

#[test]
fn s1_6_a_start_before_the_prefix_changes_nothing() {
    let (_stage, room) = room("a p/1 p/2 q");
    expect(&room, options().prefix("p/").start("a"), "p/1 p/2");
    expect(&room, options().prefix("p/").start_after("p"), "p/1 p/2");
}

#[test]
fn s1_6_a_start_inside_the_prefix_counts() {
    let (_stage, room) = room("a p/1 p/2 p/3 q");
    expect(&room, options().prefix("p/").start("p/2"), "p/2 p/3");
    expect(&room, options().prefix("p/").start_after("p/2"), "p/3");
}

#[test]
fn s1_6_a_start_behind_the_prefix_lists_nothing() {
    let (_stage, room) = room("a p/1 p/2 q");
    expect(&room, options().prefix("p/").start("q"), "");
    expect(&room, options().prefix("p/").start_after("p0"), "");
}

#[test]
fn s1_6_an_end_inside_the_prefix_counts_and_one_behind_it_does_not() {
    let (_stage, room) = room("a p/1 p/2 p/3 q");
    expect(&room, options().prefix("p/").end("p/3"), "p/1 p/2");
    expect(&room, options().prefix("p/").end("z"), "p/1 p/2 p/3");
}

#[test]
fn s1_6_an_end_at_or_before_the_prefix_lists_nothing() {
    let (_stage, room) = room("a p/1 p/2 q");
    expect(&room, options().prefix("p/").end("p/"), "");
    expect(&room, options().prefix("p/").end("b"), "");
}

#[test]
fn s1_6_a_prefix_of_the_greatest_bytes_has_no_upper_bound() {
    let (_stage, room) = Stage::with_room();
    for key in [&[0xFE][..], &[0xFF], &[0xFF, 0xFF], &[0xFF, 0xFF, 1], &[1, 0xFF], &[1, 0xFF, 3]] {
        room.put(key, "").unwrap();
    }
    room.put([2], "").unwrap();
    let found = |prefix: &[u8]| {
        let entries = room.list(options().prefix(prefix)).unwrap();
        entries.map(|entry| entry.unwrap().0.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(found(&[0xFF, 0xFF]), [vec![0xFF, 0xFF], vec![0xFF, 0xFF, 1]]);
    assert_eq!(found(&[0xFF]).len(), 3);
    assert_eq!(found(&[1, 0xFF]), [vec![1, 0xFF], vec![1, 0xFF, 3]], "and not the key 2");
}

#[test]
fn s1_6_reverse_turns_the_order_and_nothing_else() {
    let (_stage, room) = room("a b c d");
    expect(&room, options().reverse(), "d c b a");
    expect(&room, options().reverse().start("b").end("d"), "c b");
    expect(&room, options().reverse().start_after("b"), "d c");
}

#[test]
fn s1_6_a_limit_counts_from_the_end_in_reverse() {
    let (_stage, room) = room("a b c d");
    expect(&room, options().reverse().limit(2), "d c");
    expect(&room, options().reverse().limit(1).end("c"), "b");
    expect(&room, options().reverse().limit(2).prefix("a"), "a");
}

#[test]
fn s1_6_a_list_shows_the_moment_of_its_call() {
    let (stage, room) = room("a b");
    let entries = room.list(options()).unwrap();
    let value = room.get("a").unwrap();
    fill(&room, "c");
    room.put("a", "changed").unwrap();
    room.delete("b").unwrap();
    stage.checkpoint();
    let seen: Vec<_> = entries.map(|entry| entry.unwrap().1.to_vec()).collect();
    assert_eq!(seen, [b"A".to_vec(), b"B".to_vec()]);
    assert_eq!(value.as_deref(), Some(&b"A"[..]));
}

#[test]
fn s1_6_later_writes_of_the_same_turn_do_not_show() {
    let (_stage, room) = room("a b");
    let seen = room.enter(|| {
        fill(&room, "c");
        let entries = room.list(options()).unwrap();
        fill(&room, "d");
        room.delete("a").unwrap();
        (listed(entries), keys(&room))
    });
    assert_eq!(seen.unwrap(), ("a b c".into(), "b c d".into()));
}

#[test]
fn s1_6_a_list_may_outlive_its_turn() {
    let (_stage, room) = room("a b");
    let entries = room.enter(|| {
        fill(&room, "c");
        room.list(options()).unwrap()
    });
    room.delete_all().unwrap();
    assert_eq!(listed(entries.unwrap()), "a b c");
}

#[test]
fn s1_6_a_list_joins_pages_commits_and_the_open_turn() {
    let (stage, room) = room("a b c d e f");
    stage.checkpoint();
    room.delete("b").unwrap();
    fill(&room, "bb");
    let seen = room.enter(|| {
        room.delete("e").unwrap();
        fill(&room, "cc a");
        (keys(&room), listed(room.list(options().reverse().limit(3)).unwrap()))
    });
    assert_eq!(seen.unwrap(), ("a bb c cc d f".into(), "f d cc".into()));
}

#[test]
fn s1_6_keys_come_without_values() {
    let (_stage, room) = room("a b");
    let pairs: Vec<_> = room.keys(options()).unwrap().map(Result::unwrap).collect();
    assert_eq!(pairs.len(), 2);
    assert_eq!(&*pairs[1].0, b"b");
    assert!(pairs.iter().all(|(_, value)| value.is_empty()));
}

#[test]
fn s1_6_count_counts_what_list_lists() {
    let (_stage, room) = room("a b ba bb c");
    assert_eq!(room.count(options()).unwrap(), 5);
    assert_eq!(room.count(options().prefix("b")).unwrap(), 3);
    assert_eq!(room.count(options().prefix("b").limit(2)).unwrap(), 2);
    assert_eq!(room.count(options().start("d")).unwrap(), 0);
    assert_eq!(room.count(options().limit(0)).unwrap_err().code(), "list.limit");
}

#[test]
fn s1_6_a_list_can_be_walked_from_both_ends() {
    let (_stage, room) = room("a b c d");
    let mut entries = room.list(options().limit(3)).unwrap();
    let mut both = Vec::new();
    while let Some(entry) = entries.next() {
        both.extend(entry.unwrap().0.to_vec());
        both.extend(entries.next_back().into_iter().flat_map(|entry| entry.unwrap().0.to_vec()));
    }
    assert_eq!(both.len(), 3, "each key once, and no more than the limit");
    assert_eq!(both[..2], *b"ad");
}

/// Walks a list from both ends, as `turns` says over and over: whether from the back, and whether
/// entries are lent. What came from the front, and then what came from the back, turned round.
fn walk(mut entries: Entries, turns: &[(bool, bool)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for (from_back, lent) in turns.iter().cycle() {
        let held = |(key, value): (Value, Value)| (key.to_vec(), value.to_vec());
        let next = match (from_back, lent) {
            (true, _) => entries.next_back().map(|entry| held(entry.unwrap())),
            (_, true) => {
                let entry = entries.next_ref().unwrap();
                entry.map(|entry| (entry.key.to_vec(), entry.value.to_vec()))
            }
            _ => entries.next().map(|entry| held(entry.unwrap())),
        };
        let Some(next) = next else { break };
        if *from_back { back.push(next) } else { front.push(next) }
    }
    assert!(entries.next().is_none() && entries.next_back().is_none());
    assert!(entries.next_ref().unwrap().is_none());
    back.reverse();
    [front, back].concat()
}

#[test]
fn s1_6_a_list_walked_from_both_ends_in_turns_has_each_key_once() {
    let turns = [
        &[(false, false), (true, false)][..],
        &[(false, true), (true, false)],
        &[(false, true), (false, false), (true, false), (true, false), (true, false)],
        &[(true, false), (true, false), (false, true)],
        &[(false, true)],
        &[(true, false)],
    ];
    // One page, and many.
    for count in [8, 200u8] {
        let (stage, room) = Stage::with_room();
        let mut content = BTreeMap::new();
        for number in 0..count {
            let (key, value) = (format!("{number:03}").into_bytes(), vec![number; 100]);
            room.put(&key, &value).unwrap();
            content.insert(key, value);
        }
        stage.checkpoint();
        for layered in [false, true] {
            if layered {
                room.put("0035", "new").unwrap();
                content.insert(b"0035".to_vec(), b"new".to_vec());
                room.delete("004").unwrap();
                content.remove(&b"004"[..]);
            }
            let all = || options();
            let part = || options().start("002").end("150");
            for turns in turns {
                let right: Vec<_> = content.clone().into_iter().collect();
                assert_eq!(walk(room.list(all()).unwrap(), turns), right);
                let right = content.range(b"002".to_vec()..b"150".to_vec());
                let right: Vec<_> =
                    right.map(|(key, value)| (key.clone(), value.clone())).collect();
                assert_eq!(walk(room.list(part()).unwrap(), turns), right);
                let mut right = right;
                right.truncate(3);
                let few = walk(room.list(part().limit(3)).unwrap(), &[(false, true)]);
                assert_eq!(few, right);
            }
        }
    }
}

#[test]
fn s1_6_lent_entries_follow_the_options() {
    let (_stage, room) = room("a b c d");
    let mut entries = room.list(options().reverse().limit(2)).unwrap();
    let mut lent = Vec::new();
    while let Some(entry) = entries.next_ref().unwrap() {
        lent.push((entry.key.to_vec(), entry.value.to_vec()));
    }
    assert_eq!(lent, [(b"d".to_vec(), b"D".to_vec()), (b"c".to_vec(), b"C".to_vec())]);
    let mut keys = room.keys(options()).unwrap();
    let first = keys.next_ref().unwrap().unwrap();
    assert_eq!((first.key, first.value), (&b"a"[..], &b""[..]));
    assert_eq!(format!("{first:?}"), "EntryRef(1 and 0 bytes)");
}

#[test]
fn s1_6_a_list_reads_pages_as_they_are_reached() {
    let (stage, room) = Stage::with_room();
    for number in 0..200u8 {
        room.put(format!("{number:03}"), [0x41 + number % 7; 100]).unwrap();
    }
    stage.checkpoint();
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    room.get("000").unwrap();
    let begin = stage.disk.calls();
    let mut entries = room.list(options()).unwrap();
    entries.next().unwrap().unwrap();
    let first = stage.disk.calls() - begin;
    assert_eq!(entries.count(), 199);
    let all = stage.disk.calls() - begin;
    assert!(all > 4 * first, "{first} calls for the first key, {all} for all");
}

#[test]
fn s1_6_a_list_shows_no_alarm_no_attachment_and_no_name() {
    let (stage, room) = room("a");
    room.set_alarm(stage.after(1)).unwrap();
    room.set_named_alarm("b", stage.after(1)).unwrap();
    room.put_attachment(b"c", "seat").unwrap();
    room.set_user_version(3).unwrap();
    assert_eq!(keys(&room), "a");
    expect(&room, options().reverse(), "a");
    assert_eq!(room.count(options()).unwrap(), 1);
}

#[test]
fn s1_6_a_range_of_rust_is_a_list() {
    let (_stage, room) = room("a b c d");
    assert_eq!(listed(room.range("b".."d").unwrap()), "b c");
    assert_eq!(listed(room.range("b"..="d").unwrap()), "b c d");
    assert_eq!(listed(room.range::<&str>(..).unwrap()), "a b c d");
    assert_eq!(listed(room.range("d".."b").unwrap()), "");
}
