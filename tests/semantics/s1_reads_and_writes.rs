//! Sections 1.3, 1.4, 1.11, 1.12 and 1.13: get and put, their options, calls without waiting.

use crate::stage::{Stage, fill, keys, listed, now, pause, text};
use dostore::actor::Storage;
use dostore::error::ErrorKind;
use dostore::limits::Limits;
use dostore::store::list::ListOptions;

/// Keys and values of a map of bytes, as one text.
fn shown(room: &Storage, wanted: &[&str]) -> String {
    let found = room.get_many(wanted).unwrap();
    let pair = |(key, value): (Vec<u8>, dostore::store::value::Value)| {
        let key = String::from_utf8(key).unwrap();
        format!("{key}={}", String::from_utf8_lossy(&value))
    };
    found.into_iter().map(pair).collect::<Vec<_>>().join(" ")
}

#[test]
fn s1_3_get_gives_the_value_or_none() {
    let (_stage, room) = Stage::with_room();
    assert_eq!(text(&room, "a"), None);
    room.put("a", "1").unwrap();
    assert_eq!(text(&room, "a"), Some("1".into()));
    assert_eq!(text(&room, "b"), None);
}

#[test]
fn s1_3_get_many_is_sorted_by_key_whatever_was_asked_first() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b c");
    assert_eq!(shown(&room, &["c", "a", "b"]), "a=A b=B c=C");
}

#[test]
fn s1_3_get_many_leaves_out_what_is_missing() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a c");
    assert_eq!(shown(&room, &["d", "c", "b", "a"]), "a=A c=C");
    assert_eq!(shown(&room, &["x", "y"]), "");
}

#[test]
fn s1_3_get_many_gives_a_key_once() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b");
    assert_eq!(shown(&room, &["b", "a", "b", "b"]), "a=A b=B");
}

#[test]
fn s1_3_get_many_of_no_keys_is_empty() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a");
    assert_eq!(shown(&room, &[]), "");
}

#[test]
fn s1_3_get_many_joins_pages_commits_and_the_open_turn() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c d");
    stage.checkpoint();
    room.put("b", "committed").unwrap();
    room.delete("c").unwrap();
    let seen = room.enter(|| {
        room.put("d", "open").unwrap();
        shown(&room, &["a", "b", "c", "d"])
    });
    assert_eq!(seen.unwrap(), "a=A b=committed d=open");
}

#[test]
fn s1_3_a_turn_reads_its_own_writes() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b");
    let seen = room.enter(|| {
        room.put("a", "new").unwrap();
        room.delete("b").unwrap();
        (text(&room, "a"), text(&room, "b"), keys(&room))
    });
    assert_eq!(seen.unwrap(), (Some("new".into()), None, "a".into()));
}

#[test]
fn s1_4_the_last_put_of_a_key_stands() {
    let (stage, room) = Stage::with_room();
    room.put("a", "1").unwrap();
    room.put("a", "2").unwrap();
    room.enter(|| {
        room.put("a", "3").unwrap();
        room.put("a", "4").unwrap();
    })
    .unwrap();
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(text(&room, "a"), Some("4".into()));
}

#[test]
fn s1_4_put_many_of_nothing_commits_nothing() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let before = stage.lsn();
    room.put_many(Vec::<(&str, &str)>::new()).unwrap();
    assert_eq!(stage.lsn(), before);
}

#[test]
fn s1_4_put_many_is_one_commit() {
    let (stage, room) = Stage::with_room();
    fill(&room, "z");
    let before = stage.lsn();
    room.put_many([("b", "2"), ("a", "1"), ("c", "3")]).unwrap();
    assert_eq!(stage.lsn() - before, 1);
    assert_eq!(keys(&room), "a b c z");
}

#[test]
fn s1_4_put_many_is_all_or_nothing() {
    let limits = Limits { value_bytes: 10, ..Limits::default() };
    let stage = Stage::with(crate::stage::options().limits(limits));
    let room = stage.room();
    let refused = room.put_many([("a", "1"), ("b", "much too long"), ("c", "3")]).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Invalid, "limit.value"));
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_4_a_refused_put_many_leaves_the_rest_of_its_turn() {
    let limits = Limits { value_bytes: 10, ..Limits::default() };
    let stage = Stage::with(crate::stage::options().limits(limits));
    let room = stage.room();
    room.enter(|| {
        room.put("a", "before").unwrap();
        room.put_many([("a", "inside"), ("b", "much too long")]).unwrap_err();
        assert_eq!(text(&room, "a"), Some("before".into()));
        room.put("c", "after").unwrap();
    })
    .unwrap();
    assert_eq!(keys(&room), "a c");
    assert_eq!(text(&room, "a"), Some("before".into()));
}

#[test]
fn s1_4_of_a_key_given_twice_the_last_value_stands() {
    let (_stage, room) = Stage::with_room();
    room.put_many([("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    assert_eq!(shown(&room, &["a", "b"]), "a=3 b=2");
}

#[test]
fn s1_4_put_returns_before_anything_is_durable() {
    let (stage, room) = Stage::with_room();
    stage.write();
    let before = stage.store.durable();
    let calls = stage.disk.calls();
    room.put("a", "1").unwrap();
    assert_eq!(stage.disk.calls(), calls, "a put asks nothing of the disk");
    assert_eq!(stage.store.durable(), before);
    assert_eq!(text(&room, "a"), Some("1".into()), "but reads see it");
}

#[test]
fn s1_4_put_does_not_end_the_turn() {
    let (stage, room) = Stage::with_room();
    let before = stage.lsn();
    let seen = room.enter(|| {
        room.put("a", "1").unwrap();
        room.put("b", "2").unwrap();
        stage.lsn()
    });
    assert_eq!(seen.unwrap(), before, "nothing is logged inside the turn");
    assert_eq!(stage.lsn() - before, 1, "all of it is logged as one commit behind it");
}

#[test]
fn s1_11_an_unconfirmed_put_does_not_hold_the_gate() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.put_unconfirmed("b", "1").unwrap();
    assert!(room.gate().is_open());
    assert_eq!(text(&room, "b"), Some("1".into()));
}

#[test]
fn s1_11_an_unconfirmed_put_many_and_delete_do_not_hold_the_gate() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    stage.write();
    room.put_many_unconfirmed([("d", "1"), ("e", "2")]).unwrap();
    assert!(room.delete_unconfirmed("a").unwrap());
    assert!(room.gate().is_open());
    assert_eq!(keys(&room), "b c d e");
}

#[test]
fn s1_11_an_unconfirmed_range_attachment_and_version_do_not_hold_the_gate() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    room.put_attachment(b"left", "seat 1").unwrap();
    stage.write();
    room.delete_range_unconfirmed("b"..).unwrap();
    room.put_attachment_unconfirmed(b"socket", "seat 4").unwrap();
    assert!(room.delete_attachment_unconfirmed(b"left").unwrap());
    assert!(!room.delete_attachment_unconfirmed(b"left").unwrap());
    room.set_user_version_unconfirmed(7).unwrap();
    assert!(room.gate().is_open());
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!((keys(&room).as_str(), room.user_version().unwrap()), ("a", 7));
    assert!(room.attachment(b"socket").unwrap().is_some());
    assert!(room.attachment(b"left").unwrap().is_none());
}

#[test]
fn s1_11_an_unconfirmed_alarm_does_not_hold_the_gate() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    let at = stage.after(5);
    room.set_alarm_unconfirmed(at).unwrap();
    room.set_named_alarm_unconfirmed("tea", at).unwrap();
    assert!(room.gate().is_open());
    room.clear_alarm_unconfirmed().unwrap();
    assert!(room.gate().is_open());
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarms().unwrap(), [(Some("tea".to_owned()), at)]);
}

#[test]
fn s1_11_an_unconfirmed_write_becomes_durable_with_the_next_group() {
    let (stage, room) = Stage::with_room();
    room.put_unconfirmed("a", "1").unwrap();
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(text(&room, "a"), Some("1".into()));
}

#[test]
fn s1_11_one_confirmed_write_makes_its_turn_confirmed() {
    for confirmed_first in [true, false] {
        let (stage, room) = Stage::with_room();
        room.enter(|| {
            if confirmed_first {
                room.put("b", "2").unwrap();
            }
            room.put_unconfirmed("a", "1").unwrap();
            if !confirmed_first {
                room.put("b", "2").unwrap();
            }
        })
        .unwrap();
        let gate = room.gate();
        assert!(!gate.is_open());
        stage.write();
        assert!(gate.is_open());
    }
}

#[test]
fn s1_11_delete_all_is_always_confirmed() {
    let (stage, room) = Stage::with_room();
    room.put_unconfirmed("a", "1").unwrap();
    room.delete_all().unwrap();
    let gate = room.gate();
    assert!(!gate.is_open());
    stage.write();
    assert!(gate.is_open());
}

#[test]
fn s1_11_a_failed_unconfirmed_put_breaks_the_gate() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.write();
    room.put_unconfirmed("b", "1").unwrap();
    stage.disk.fail_call(2, dostore::disk::sim::Fault::Io);
    stage.store.steps().write_group().unwrap_err();
    let broken = now(room.gate()).unwrap_err();
    assert!(matches!(broken.kind(), ErrorKind::Broken | ErrorKind::Poisoned), "{broken:?}");
}

#[test]
fn s1_12_a_read_needs_no_await_and_sees_the_write_before_it() {
    let (stage, room) = Stage::with_room();
    let read = stage.finish(room.run(async {
        room.put("a", "1").unwrap();
        let first = text(&room, "a");
        pause().await;
        room.put("a", "2").unwrap();
        (first, text(&room, "a"))
    }));
    assert_eq!(read.unwrap(), (Some("1".into()), Some("2".into())));
}

#[test]
fn s1_12_two_lists_may_be_walked_at_once() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b c");
    let mut first = room.list(ListOptions::new()).unwrap();
    assert_eq!(&*first.next().unwrap().unwrap().0, b"a");
    let second = room.list(ListOptions::new().reverse()).unwrap();
    assert_eq!(listed(second), "c b a");
    assert_eq!(listed(first), "b c");
}

#[test]
fn s1_12_a_list_ignores_changes_ahead_of_it() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a c e");
    let mut entries = room.list(ListOptions::new()).unwrap();
    entries.next().unwrap().unwrap();
    room.put("b", "new").unwrap();
    room.delete("c").unwrap();
    room.put("e", "changed").unwrap();
    let rest: Vec<_> = entries.map(|entry| entry.unwrap().1.to_vec()).collect();
    assert_eq!(rest, [b"C".to_vec(), b"E".to_vec()]);
    assert_eq!(keys(&room), "a b e");
}

#[test]
fn s1_12_delete_all_does_not_disturb_a_list_that_is_walked() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    stage.checkpoint();
    let mut entries = room.list(ListOptions::new()).unwrap();
    entries.next().unwrap().unwrap();
    room.delete_all().unwrap();
    stage.checkpoint();
    stage.store.steps().remove_retired().unwrap();
    assert_eq!(listed(entries), "b c");
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_13_a_version_alone_is_kept() {
    let (stage, room) = Stage::with_room();
    room.set_user_version(7).unwrap();
    stage.checkpoint();
    assert_eq!(room.user_version().unwrap(), 7);
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(room.user_version().unwrap(), 7);
    // And behind the last key and the last alarm.
    room.put("n", "1").unwrap();
    room.set_alarm(dostore::ids::Timestamp(1)).unwrap();
    stage.checkpoint();
    room.delete("n").unwrap();
    stage.checkpoint();
    assert_eq!(room.user_version().unwrap(), 7);
    room.clear_alarm().unwrap();
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(room.user_version().unwrap(), 7);
}

#[test]
fn s1_13_a_number_keeps_all_its_bits() {
    let (stage, room) = Stage::with_room();
    let odd = 9_007_199_254_740_993_u64;
    room.put("n", odd.to_le_bytes()).unwrap();
    room.set_user_version(odd).unwrap();
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    let bytes: [u8; 8] = room.get("n").unwrap().unwrap()[..].try_into().unwrap();
    assert_eq!(u64::from_le_bytes(bytes), odd);
    assert_eq!(room.user_version().unwrap(), odd);
}
