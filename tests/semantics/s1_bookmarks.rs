//! Section 1.14: moments to come back to.

use crate::stage::{Stage, now, text};
use std::time::{Duration, SystemTime};

#[test]
fn s1_14_a_bookmark_covers_the_turn_in_which_it_is_asked_for() {
    let (stage, room) = Stage::with_room();
    room.put("a", "1").unwrap();
    let asked = room.enter(|| {
        room.put("a", "2").unwrap();
        let bookmark = room.current_bookmark();
        room.put("b", "3").unwrap();
        bookmark
    });
    let bookmark = now(asked.unwrap()).unwrap();
    room.put("a", "4").unwrap();
    stage.write();
    let then = room.at(&bookmark).unwrap();
    assert_eq!(then.get("a").unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(then.get("b").unwrap().as_deref(), Some(&b"3"[..]));
}

#[test]
fn s1_14_bookmarks_order_as_text_as_their_moments_do() {
    let (_stage, room) = Stage::with_room();
    let mut texts = Vec::new();
    for number in 0..40 {
        room.put("a", number.to_string()).unwrap();
        texts.push(now(room.current_bookmark()).unwrap().to_string());
    }
    assert!(texts.is_sorted());
    texts.dedup();
    assert_eq!(texts.len(), 40);
}

#[test]
fn s1_14_a_bookmark_of_a_time_is_what_the_object_was_then() {
    let (stage, room) = Stage::with_room();
    room.put("a", "1").unwrap();
    stage.write();
    stage.pass_seconds(10);
    let between = SystemTime::UNIX_EPOCH + Duration::from_micros(stage.now().0);
    stage.pass_seconds(10);
    room.put("a", "2").unwrap();
    stage.write();
    let then = room.at(&room.bookmark_at(between).unwrap()).unwrap();
    assert_eq!(then.get("a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn s1_14_a_restoration_comes_with_the_next_opening_and_can_be_undone() {
    let (stage, room) = Stage::with_room();
    room.put("a", "1").unwrap();
    let bookmark = now(room.current_bookmark()).unwrap();
    room.put("a", "2").unwrap();
    let undo = room.restore_on_next_open(&bookmark).unwrap();
    assert_eq!(text(&room, "a").as_deref(), Some("2"), "the session goes on");
    room.put("a", "3").unwrap();
    stage.write();
    room.close();
    let room = stage.room();
    assert_eq!(text(&room, "a").as_deref(), Some("1"));
    room.restore_on_next_open(&undo).unwrap();
    stage.write();
    room.close();
    assert_eq!(text(&stage.room(), "a").as_deref(), Some("3"), "the end of the session before");
}
