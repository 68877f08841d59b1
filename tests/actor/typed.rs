//! Typed values, stored with the codec that wrote them.

use crate::stage::{open, rooms};
use dostore::actor::typed::{Cell, Map};
use dostore::ids::Codec;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Line {
    who: String,
    words: Vec<u32>,
}

const COUNT: Cell<u64> = Cell::new("count");
const LAST: Cell<Line> = Cell::msgpack("last");
const LINES: Map<i32, Line> = Map::msgpack("line/");
const NAMES: Map<String, u64> = Map::json("lines");

fn line(who: &str) -> Line {
    Line { who: who.to_owned(), words: vec![1, 2] }
}

#[test]
fn a_cell_is_kept_with_the_codec_that_wrote_it() {
    let storage = open(&rooms());
    assert_eq!(COUNT.get(&storage).unwrap(), None);
    assert_eq!(COUNT.update(&storage, |count| *count += 2).unwrap(), 2);
    assert_eq!(COUNT.update(&storage, |count| *count *= 2).unwrap(), 4);
    let stored = storage.get("count").unwrap().unwrap();
    assert_eq!((stored.codec(), &stored[..]), (Codec::Json, &b"4"[..]));
    LAST.set(&storage, &line("me")).unwrap();
    assert_eq!(storage.get("last").unwrap().unwrap().codec(), Codec::MessagePack);
    assert_eq!(LAST.get(&storage).unwrap(), Some(line("me")));
    // The codec of the value counts, not that of the constant.
    let by_other: Cell<u64> = Cell::msgpack("count");
    assert_eq!(by_other.get(&storage).unwrap(), Some(4));
    assert!(COUNT.delete(&storage).unwrap());
    assert!(!COUNT.delete(&storage).unwrap());
}

#[test]
fn a_value_of_another_type_or_codec_is_an_error() {
    let storage = open(&rooms());
    storage.put("count", "4").unwrap();
    assert_eq!(COUNT.get(&storage).unwrap_err().code(), "value.decode");
    storage.put_as("count", Codec::Json, "\"four\"").unwrap();
    assert_eq!(COUNT.get(&storage).unwrap_err().code(), "value.decode");
    let error = COUNT.update(&storage, |count| *count += 1).unwrap_err();
    assert_eq!(error.code(), "value.decode");
    assert_eq!(&storage.get("count").unwrap().unwrap()[..], b"\"four\"");
}

#[test]
fn a_map_orders_as_its_keys_and_leaves_others_alone() {
    let storage = open(&rooms());
    storage.put("line0", "behind the prefix").unwrap();
    NAMES.insert(&storage, "x".to_owned(), &1).unwrap();
    for key in [3, -2, 0, i32::MIN, i32::MAX] {
        LINES.insert(&storage, key, &line(&key.to_string())).unwrap();
    }
    let keys = |entries: dostore::actor::typed::MapEntries<i32, Line>| -> Vec<i32> {
        entries
            .map(|entry| entry.unwrap())
            .inspect(|(key, value)| {
                assert_eq!(value.who, key.to_string());
            })
            .map(|(key, _)| key)
            .collect()
    };
    assert_eq!(keys(LINES.entries(&storage).unwrap()), [i32::MIN, -2, 0, 3, i32::MAX]);
    assert_eq!(keys(LINES.range(&storage, -2..3).unwrap()), [-2, 0]);
    assert_eq!(keys(LINES.range(&storage, -2..=3).unwrap()), [-2, 0, 3]);
    assert_eq!(keys(LINES.range(&storage, ..0).unwrap()), [i32::MIN, -2]);
    let last = LINES.entries(&storage).unwrap().next_back().unwrap().unwrap();
    assert_eq!(last.0, i32::MAX);
    assert_eq!(LINES.count(&storage).unwrap(), 5);
    assert!(LINES.remove(&storage, 3).unwrap());
    assert!(!LINES.contains(&storage, 3).unwrap());
    LINES.update(&storage, 7, |line| line.who = "7".to_owned()).unwrap();
    assert_eq!(LINES.get(&storage, 7).unwrap().unwrap().who, "7");
    LINES.clear(&storage).unwrap();
    assert_eq!(LINES.count(&storage).unwrap(), 0);
    assert_eq!(NAMES.get(&storage, "x".to_owned()).unwrap(), Some(1));
    assert!(storage.contains("line0").unwrap());
}

#[test]
fn a_key_that_is_none_of_the_type_is_an_error() {
    let storage = open(&rooms());
    storage.put("line/odd", "1").unwrap();
    let error = LINES.entries(&storage).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error.code(), "key.decode");
}

#[test]
fn what_is_not_confirmed_holds_no_gate() {
    let storage = open(&rooms());
    COUNT.set_unconfirmed(&storage, &2).unwrap();
    assert_eq!(COUNT.update_unconfirmed(&storage, |count| *count += 1).unwrap(), 3);
    LAST.set_unconfirmed(&storage, &line("me")).unwrap();
    assert!(LAST.delete_unconfirmed(&storage).unwrap());
    LINES.insert_unconfirmed(&storage, 1, &line("me")).unwrap();
    LINES.update_unconfirmed(&storage, 1, |line| line.words.clear()).unwrap();
    NAMES.insert_unconfirmed(&storage, "x".to_owned(), &1).unwrap();
    assert!(NAMES.remove_unconfirmed(&storage, "x".to_owned()).unwrap());
    assert!(storage.gate().is_open());
    assert!(LINES.get(&storage, 1).unwrap().unwrap().words.is_empty());
    LINES.clear_unconfirmed(&storage).unwrap();
    assert!(storage.gate().is_open());
    assert_eq!((LINES.count(&storage).unwrap(), COUNT.get(&storage).unwrap()), (0, Some(3)));
    assert!(!storage.sync().is_open());
}
