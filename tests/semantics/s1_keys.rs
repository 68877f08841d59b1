//! Section 1.1: keys and values.

use crate::stage::{Stage, fill, keys, listed, text};
use dostore::ids::Codec;
use dostore::store::list::ListOptions;

#[test]
fn s1_1_keys_are_ordered_as_bytes() {
    let (_stage, room) = Stage::with_room();
    // In UTF-16 the order of the last two would be the other way round.
    let sorted = ["A", "a", "\u{7f}", "\u{80}", "\u{ffff}", "\u{10000}"];
    for key in sorted.iter().rev() {
        room.put(key, "").unwrap();
    }
    assert_eq!(keys(&room), sorted.join(" "));
}

#[test]
fn s1_1_the_empty_key_is_a_key_and_the_first() {
    let (_stage, room) = Stage::with_room();
    room.put("\0", "zero").unwrap();
    room.put("", "empty").unwrap();
    assert_eq!(text(&room, ""), Some("empty".into()));
    let first = room.list(ListOptions::new().limit(1)).unwrap().next().unwrap().unwrap();
    assert_eq!(&*first.0, b"");
    assert!(room.delete("").unwrap());
    assert_eq!(text(&room, ""), None);
    assert_eq!(text(&room, "\0"), Some("zero".into()));
}

#[test]
fn s1_1_a_zero_byte_in_a_key_counts() {
    let (_stage, room) = Stage::with_room();
    for key in ["b", "a\0b", "a\0", "a"] {
        room.put(key, key).unwrap();
    }
    assert_eq!(keys(&room), "a a\0 a\0b b");
    assert_eq!(text(&room, "a\0"), Some("a\0".into()));
}

#[test]
fn s1_1_a_key_that_is_no_text_comes_back_from_a_list_as_it_was() {
    let (stage, room) = Stage::with_room();
    let surrogate = [0xED, 0xA0, 0x80];
    let replacement = "\u{fffd}".as_bytes();
    room.put(surrogate, "one").unwrap();
    room.put(replacement, "other").unwrap();
    stage.checkpoint();
    let listed: Vec<_> = room.list(ListOptions::new()).unwrap().map(Result::unwrap).collect();
    assert_eq!(&*listed[0].0, &surrogate[..]);
    assert_eq!(&*room.get(&listed[0].0).unwrap().unwrap(), b"one");
    assert_eq!(&*room.get(&listed[1].0).unwrap().unwrap(), b"other");
}

#[test]
fn s1_1_every_byte_value_survives_in_keys_and_values() {
    let (stage, room) = Stage::with_room();
    let all: Vec<u8> = (0..=255).collect();
    for byte in 0..=255u8 {
        room.put([byte], [byte, 0, 255]).unwrap();
    }
    room.put(&all, &all).unwrap();
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    for byte in 0..=255u8 {
        assert_eq!(&*room.get([byte]).unwrap().unwrap(), &[byte, 0, 255]);
    }
    assert_eq!(&*room.get(&all).unwrap().unwrap(), &all[..]);
}

#[test]
fn s1_1_an_empty_value_is_not_a_missing_one() {
    let (stage, room) = Stage::with_room();
    room.put("there", "").unwrap();
    assert_eq!(text(&room, "there"), Some(String::new()));
    assert_eq!(text(&room, "missing"), None);
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(text(&room, "there"), Some(String::new()));
    assert_eq!(keys(&room), "there");
}

#[test]
fn s1_1_a_value_is_copied_when_it_is_put() {
    let (_stage, room) = Stage::with_room();
    let mut value = b"before".to_vec();
    let mut key = b"key".to_vec();
    room.put(&key, &value).unwrap();
    value.copy_from_slice(b"after!");
    key.copy_from_slice(b"yek");
    assert_eq!(text(&room, "key"), Some("before".into()));
    assert_eq!(keys(&room), "key");
}

#[test]
fn s1_1_a_value_that_was_read_never_changes() {
    let (stage, room) = Stage::with_room();
    room.put("key", "first").unwrap();
    let open = room.get("key").unwrap().unwrap();
    stage.checkpoint();
    let paged = room.get("key").unwrap().unwrap();
    room.put("key", "other").unwrap();
    stage.checkpoint();
    room.delete_all().unwrap();
    stage.checkpoint();
    while stage.store.steps().clean().unwrap() {}
    stage.store.steps().remove_retired().unwrap();
    assert_eq!((&*open, &*paged), (&b"first"[..], &b"first"[..]));
}

#[test]
fn s1_1_a_value_keeps_its_codec() {
    let (stage, room) = Stage::with_room();
    room.put("raw", "1").unwrap();
    room.put_as("json", Codec::Json, "[1]").unwrap();
    room.put_as("v8", Codec::V8, "\u{ff}").unwrap();
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    let codec = |key: &str| room.get(key).unwrap().unwrap().codec();
    assert_eq!(codec("raw"), Codec::Raw);
    assert_eq!(codec("json"), Codec::Json);
    assert_eq!(codec("v8"), Codec::V8);
}

#[test]
fn s1_1_the_last_put_decides_the_codec() {
    let (_stage, room) = Stage::with_room();
    room.put_as("key", Codec::Json, "1").unwrap();
    room.put("key", "1").unwrap();
    assert_eq!(room.get("key").unwrap().unwrap().codec(), Codec::Raw);
}

#[test]
fn s1_1_objects_do_not_share_keys() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    fill(&room, "a b");
    fill(&other, "b c");
    room.delete("b").unwrap();
    assert_eq!(keys(&room), "a");
    assert_eq!(listed(other.list(ListOptions::new()).unwrap()), "b c");
}
