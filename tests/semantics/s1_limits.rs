//! Section 1.2: sizes, and what an error says of them.

use crate::stage::{Stage, keys, options, text};
use dostore::actor::Storage;
use dostore::error::ErrorKind;
use dostore::limits::{KEY_BYTES_MAX, Limits};
use std::collections::BTreeMap;

fn small() -> (Stage, Storage) {
    let limits = Limits {
        key_bytes: 8,
        value_bytes: 16,
        pair_bytes: 20,
        commit_bytes: 4096,
        commit_operations: 10,
    };
    let stage = Stage::with(options().limits(limits));
    let room = stage.room();
    (stage, room)
}

#[test]
fn s1_2_a_key_of_the_greatest_size_is_taken_and_one_byte_more_is_not() {
    let (_stage, room) = Stage::with_room();
    let mut key = vec![b'k'; KEY_BYTES_MAX];
    room.put(&key, "kept").unwrap();
    assert_eq!(&*room.get(&key).unwrap().unwrap(), b"kept");
    key.push(b'k');
    let error = room.put(&key, "refused").unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "limit.key"));
    assert_eq!(room.count(dostore::store::list::ListOptions::new()).unwrap(), 1);
}

#[test]
fn s1_2_a_key_beyond_the_limit_is_never_there() {
    let (_stage, room) = small();
    room.put("12345678", "kept").unwrap();
    assert!(room.get("123456789").unwrap().is_none());
    assert_eq!(room.delete_many(["123456789", "12345678"]).unwrap(), 1);
}

#[test]
fn s1_2_a_value_of_the_greatest_size_is_taken_and_one_byte_more_is_not() {
    let (_stage, room) = small();
    room.put("k", [1; 16]).unwrap();
    assert_eq!(room.put("k", [2; 17]).unwrap_err().code(), "limit.value");
    assert_eq!(&*room.get("k").unwrap().unwrap(), &[1; 16]);
}

#[test]
fn s1_2_key_and_value_have_a_limit_together() {
    let (_stage, room) = small();
    room.put("1234", [0; 16]).unwrap();
    assert_eq!(room.put("12345", [0; 16]).unwrap_err().code(), "limit.pair");
    assert_eq!(keys(&room), "1234");
}

#[test]
fn s1_2_an_error_names_the_size_and_the_limit() {
    let (_stage, room) = small();
    let message = room.put("123456789", "").unwrap_err().to_string();
    assert!(message.contains('9') && message.contains('8'), "{message}");
    let message = room.put("k", [b'x'; 17]).unwrap_err().to_string();
    assert!(message.contains("17") && message.contains("16"), "{message}");
    assert!(!message.contains("xx"), "{message} shows the value");
}

#[test]
fn s1_2_a_call_may_name_more_than_128_keys() {
    let (_stage, room) = Stage::with_room();
    let all: Vec<String> = (0..1000).map(|number| format!("{number:03}")).collect();
    room.put_many(all.iter().map(|key| (key, key))).unwrap();
    let found: BTreeMap<_, _> = room.get_many(&all).unwrap();
    assert_eq!(found.len(), 1000);
    assert_eq!(room.delete_many(&all).unwrap(), 1000);
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_2_a_turn_beyond_the_limit_of_a_commit_is_refused_where_it_passes_it() {
    let (stage, room) = small();
    let before = stage.lsn();
    let last = room.enter(|| {
        for number in 0..10 {
            room.put(format!("{number}"), "").unwrap();
        }
        room.put("more", "").unwrap_err().code()
    });
    assert_eq!(last.unwrap(), "limit.operations");
    assert_eq!(keys(&room), "0 1 2 3 4 5 6 7 8 9");
    assert_eq!(stage.lsn() - before, 1, "what was accepted is one commit");
}

#[test]
fn s1_2_limits_hold_inside_a_transaction_too() {
    let (_stage, room) = small();
    let done = room.transaction(|room| {
        room.put("a", "kept")?;
        let refused = room.put("a", [0; 17]).unwrap_err();
        assert_eq!(refused.code(), "limit.value");
        Ok::<_, dostore::error::Error>(())
    });
    done.unwrap();
    assert_eq!(text(&room, "a"), Some("kept".into()));
}

#[test]
fn s1_2_a_refused_write_leaves_the_object_alive() {
    let (_stage, room) = small();
    room.put("k", [0; 100]).unwrap_err();
    assert!(room.broken().is_none());
    room.put("k", "fits").unwrap();
    assert_eq!(text(&room, "k"), Some("fits".into()));
}

#[test]
fn s1_2_a_lowered_limit_hides_nothing_that_is_stored() {
    let (stage, room) = Stage::with_room();
    room.put("a-long-key-of-former-times", [7; 100]).unwrap();
    stage.checkpoint();
    drop(room);
    let disk = stage.disk.clone();
    stage.store.close().unwrap();
    drop(stage.rooms);
    let limits = Limits { key_bytes: 8, value_bytes: 16, ..Limits::default() };
    let stage = Stage::on(disk, options().limits(limits));
    let room = stage.room();
    assert_eq!(&*room.get("a-long-key-of-former-times").unwrap().unwrap(), &[7; 100]);
    assert_eq!(keys(&room), "a-long-key-of-former-times");
    assert!(room.delete("a-long-key-of-former-times").unwrap(), "and it can be got rid of");
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_2_a_value_larger_than_a_page_comes_back_whole() {
    let (stage, room) = Stage::with_room();
    let large: Vec<u8> = (0..3_000_000u32).map(|place| (place % 251) as u8).collect();
    room.put("large", &large).unwrap();
    room.put("small", "1").unwrap();
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert!(*room.get("large").unwrap().unwrap() == large[..]);
    assert_eq!(text(&room, "small"), Some("1".into()));
}
