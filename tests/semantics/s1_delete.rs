//! Sections 1.5 and 1.7: deleting keys, and everything.

use crate::stage::{Stage, fill, keys, text};
use dostore::error::Error;
use dostore::store::list::ListOptions;

#[test]
fn s1_5_delete_says_whether_the_key_was_there() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b");
    assert!(room.delete("a").unwrap());
    assert!(!room.delete("c").unwrap());
    assert_eq!(keys(&room), "b");
}

#[test]
fn s1_5_a_second_delete_finds_nothing() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a");
    assert!(room.delete("a").unwrap());
    assert!(!room.delete("a").unwrap());
    let both = room.enter(|| {
        room.put("a", "again").unwrap();
        (room.delete("a").unwrap(), room.delete("a").unwrap())
    });
    assert_eq!(both.unwrap(), (true, false));
}

#[test]
fn s1_5_the_answer_of_a_delete_stands_whatever_is_put_later() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a");
    let answers = room.enter(|| {
        let first = room.delete("a").unwrap();
        room.put("a", "back").unwrap();
        (first, room.delete("missing").unwrap())
    });
    assert_eq!(answers.unwrap(), (true, false));
    assert_eq!(text(&room, "a"), Some("back".into()));
}

#[test]
fn s1_5_delete_looks_into_pages() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b");
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert!(room.delete("a").unwrap());
    assert!(!room.delete("aa").unwrap());
    assert_eq!(keys(&room), "b");
}

#[test]
fn s1_5_delete_many_counts_what_was_there() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b c d");
    assert_eq!(room.delete_many(["a", "x", "c"]).unwrap(), 2);
    assert_eq!(keys(&room), "b d");
}

#[test]
fn s1_5_delete_many_counts_a_key_once() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b");
    assert_eq!(room.delete_many(["a", "a", "x", "x", "a"]).unwrap(), 1);
}

#[test]
fn s1_5_delete_many_of_no_keys_is_zero() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    let before = stage.lsn();
    assert_eq!(room.delete_many(Vec::<&str>::new()).unwrap(), 0);
    assert_eq!(stage.lsn(), before);
}

#[test]
fn s1_5_delete_many_is_one_commit() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    let before = stage.lsn();
    assert_eq!(room.delete_many(["c", "b"]).unwrap(), 2);
    assert_eq!(stage.lsn() - before, 1);
}

#[test]
fn s1_5_a_deleted_key_stays_away() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b");
    stage.checkpoint();
    room.delete("a").unwrap();
    stage.write();
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "b");
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "b");
}

#[test]
fn s1_5_a_range_is_deleted_without_naming_its_keys() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c d e");
    stage.checkpoint();
    room.put("bb", "new").unwrap();
    room.delete_range("b".."d").unwrap();
    assert_eq!(keys(&room), "a d e");
    room.delete_range("e"..).unwrap();
    assert_eq!(keys(&room), "a d");
    room.delete_range("c".."b").unwrap();
    assert_eq!(keys(&room), "a d", "an empty range is no error");
}

#[test]
fn s1_7_delete_all_leaves_nothing() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    stage.checkpoint();
    fill(&room, "d e");
    room.delete_all().unwrap();
    assert_eq!(keys(&room), "");
    assert_eq!(text(&room, "a"), None);
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_7_delete_all_of_an_empty_object_is_no_error() {
    let (_stage, room) = Stage::with_room();
    room.delete_all().unwrap();
    room.delete_all().unwrap();
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_7_delete_all_clears_the_plain_alarm_and_the_named_ones() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.after(10)).unwrap();
    room.set_named_alarm("tea", stage.after(20)).unwrap();
    room.delete_all().unwrap();
    assert_eq!(room.alarm().unwrap(), None);
    assert_eq!(room.alarms().unwrap(), []);
    stage.pass_seconds(60);
    assert!(stage.store.alarms().try_next().unwrap().is_none());
}

#[test]
fn s1_7_delete_all_may_keep_the_alarms() {
    let (stage, room) = Stage::with_room();
    let (plain, tea) = (stage.after(10), stage.after(20));
    fill(&room, "a b");
    room.set_alarm(plain).unwrap();
    room.set_named_alarm("tea", tea).unwrap();
    room.delete_all_keeping_alarms().unwrap();
    assert_eq!(keys(&room), "");
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarms().unwrap(), [(None, plain), (Some("tea".to_owned()), tea)]);
}

#[test]
fn s1_7_delete_all_clears_what_is_kept_beside_the_keys() {
    let (_stage, room) = Stage::with_room();
    room.put_attachment(b"socket", "seat 4").unwrap();
    room.set_user_version(7).unwrap();
    room.delete_all().unwrap();
    assert!(room.attachment(b"socket").unwrap().is_none());
    assert_eq!(room.user_version().unwrap(), 0);
}

#[test]
fn s1_7_delete_all_in_a_transaction_rolls_back_with_it() {
    let (stage, room) = Stage::with_room();
    let alarm = stage.after(10);
    fill(&room, "a b");
    room.set_alarm(alarm).unwrap();
    let failed = room.transaction(|room| {
        room.delete_all()?;
        room.put("c", "new")?;
        assert_eq!(keys(room), "c");
        room.get_many(["x"])?;
        Err::<(), Error>(room.list(ListOptions::new().limit(0)).unwrap_err())
    });
    failed.unwrap_err();
    assert_eq!(keys(&room), "a b");
    assert_eq!(room.alarm().unwrap(), Some(alarm));
}

#[test]
fn s1_7_delete_all_in_a_transaction_is_kept_with_it() {
    let (_stage, room) = Stage::with_room();
    fill(&room, "a b");
    let done = room.transaction(|room| {
        room.delete_all()?;
        room.put("c", "new")
    });
    done.unwrap();
    assert_eq!(keys(&room), "c");
}

#[test]
fn s1_7_an_emptied_object_takes_no_place_among_the_objects() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    stage.checkpoint();
    assert_eq!(stage.rooms.objects().count(), 1);
    room.delete_all().unwrap();
    stage.checkpoint();
    drop(room);
    let stage = stage.power_cut();
    assert_eq!(stage.rooms.objects().count(), 0);
}
