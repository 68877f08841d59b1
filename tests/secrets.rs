//! What objects hold is in no text that the library makes of its own accord: not in what `Debug`
//! prints of a public type, and not in errors.

use dostore::disk::sim::SimDisk;
use dostore::error::Error;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::reader::Reader;
use dostore::store::transfer::{Form, ImportOptions};
use std::fmt::Debug;

const MARKER: &str = "xyzzy-marker-of-a-value";

/// As text, as a list of numbers, and in hex.
#[track_caller]
fn check(what: &str, text: &str) {
    let bytes = &MARKER.as_bytes()[..6];
    let decimal = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    for form in [&MARKER[..6], &decimal.join(", "), &decimal.join(",\n"), &hex] {
        let tight = text.replace([' ', '\n'], "");
        let form = form.replace([' ', '\n'], "");
        assert!(!tight.contains(&form), "{what} has a value in it: {text}");
    }
}

#[track_caller]
fn debug(what: &str, it: &impl Debug) {
    check(what, &format!("{it:?}"));
    check(what, &format!("{it:#?}"));
}

#[track_caller]
fn error<T>(what: &str, result: Result<T, Error>) {
    let error = result.err().expect("this must fail");
    debug(what, &error);
    check(what, &error.to_string());
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        check(what, &format!("{inner} {inner:?}"));
        cause = inner.source();
    }
}

#[test]
fn no_value_is_in_debug_output_or_in_errors() {
    let disk = SimDisk::new(1);
    let store =
        Store::options().threads(false).wal_file_bytes(64 << 10).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    lobby.put("k", "before").unwrap().wait().unwrap();
    for is_checkpointed in [false, true] {
        let mut turn = lobby.turn();
        turn.put("k", MARKER).unwrap();
        for key in 0..100 {
            turn.put(format!("{key}"), MARKER.repeat(20)).unwrap();
        }
        debug("a turn", &turn);
        let savepoint = turn.savepoint();
        debug("a savepoint", &savepoint);
        drop(savepoint);
        let commit = turn.commit().unwrap();
        debug("a commit", &commit);
        commit.wait().unwrap();
        if is_checkpointed {
            store.steps().checkpoint().unwrap();
        }
        let snapshot = lobby.snapshot().unwrap();
        debug("a value", &snapshot.get("k").unwrap());
        let list = snapshot.list(ListOptions::new()).unwrap();
        debug("a listing", &list);
        list.for_each(|entry| debug("an entry", &entry.unwrap()));
        debug("a snapshot", &snapshot);
        debug("an object", &lobby);
        let now = lobby.current_bookmark().unwrap();
        let past = lobby.at(&now).unwrap();
        past.get("k").unwrap();
        debug("a snapshot of the past", &past);
        let history: Vec<_> = lobby.history(..).unwrap().map(Result::unwrap).collect();
        debug("a history", &history);
        let first = history.first().unwrap().bookmark;
        let changes = lobby.diff(&first, &now).unwrap();
        debug("a difference", &changes);
        changes.for_each(|change| debug("a change", &change.unwrap()));
        store.steps().write_mark().unwrap();
        debug("a reader", &Reader::open_on(disk.clone()).unwrap());
    }
    debug("a namespace", &rooms);
    debug("a store", &store);
    let mut stream = Vec::new();
    store.export(Form::Text, &mut stream).unwrap();
    let other = Store::options().threads(false).open_on(SimDisk::new(2)).unwrap();
    let cut = &stream[..stream.len() - 200];
    error("an import that is cut off", other.import(cut, ImportOptions::new()));
    error("a limit", lobby.put("k", MARKER.repeat(1 << 20)).map(drop));
    drop((lobby, rooms, store));
    let names = disk.names().into_iter();
    for name in names.filter(|name| matches!(name, FileName::Segment(_))) {
        let bits = disk.file_bytes(name).unwrap().len() as u64 * 8;
        for bit in (4096 * 8..bits).step_by(5_003) {
            let disk = disk.fork();
            disk.flip_bit(name, bit).unwrap();
            let Ok(reader) = Reader::open_on(disk.fork()) else { continue };
            let rooms = reader.namespace("rooms").unwrap();
            if let Err(found) = rooms.snapshot(rooms.id_from_name("lobby")).unwrap().get("k") {
                error("a damaged page", Err::<(), _>(found));
            }
            check("a report", &dostore::inspect::verify(disk).to_string());
        }
    }
}

#[cfg(all(feature = "json", feature = "msgpack"))]
#[test]
fn a_typed_value_that_does_not_fit_is_told_of_without_it() {
    use dostore::actor::Storage;
    use dostore::actor::typed::Cell;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Debug, Serialize, Deserialize)]
    enum Colour {
        Red,
    }

    let store = Store::options().threads(false).open_on(SimDisk::new(1)).unwrap();
    let lobby = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    let storage = Storage::open(lobby);
    for cell in [Cell::<String>::new("k"), Cell::msgpack("k")] {
        cell.set(&storage, &MARKER.to_owned()).unwrap();
        error("a text for a number", Cell::<u64>::new("k").get(&storage));
        error("a text for a variant", Cell::<Colour>::new("k").get(&storage));
        error("a text for a map", Cell::<BTreeMap<u8, u8>>::new("k").get(&storage));
    }
    let found = Cell::<u64>::json("k");
    storage.put_as("k", dostore::ids::Codec::Json, format!("[\n  {MARKER:?}]")).unwrap();
    let told = found.get(&storage).unwrap_err().to_string();
    assert!(told.contains("type u64") && told.contains("line 1, column"), "{told}");
}

#[cfg(feature = "admin")]
#[test]
fn a_request_of_an_operator_shows_no_value() {
    use dostore::store::admin::{Bytes, Request, Target, Which};
    let of = Target { namespace: "rooms".into(), object: Which::Name("lobby".into()) };
    let (key, value) = (Bytes::from("k"), Bytes::from(MARKER));
    debug("a request", &Request::Put { of, key, value, codec: None, create: false });
}
