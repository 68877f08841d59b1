//! What a stream carries, and into which objects.

use crate::world::{Chance, NAMESPACE, open};
use dostore::actor::Storage;
use dostore::alarm::Failure;
use dostore::disk::sim::SimDisk;
use dostore::error::ErrorKind;
use dostore::ids::{Codec, Timestamp};
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::reader::Reader;
use dostore::store::transfer::{Existing, Exporter, Form, ImportOptions, Imported};
use std::io::{self, Write};
use std::time::Duration;

pub const FORMS: [Form; 2] = [Form::Text, Form::Binary];

/// Keys of the one object.
pub const KEYS: usize = 40;

/// A stream with one object of some keys.
pub fn one_object(form: Form) -> Vec<u8> {
    let store = fresh(1);
    let mut object = store.namespace(NAMESPACE).unwrap().open_by_name("o").unwrap();
    let mut turn = object.turn();
    for key in 0..KEYS {
        turn.put(format!("{key:04}"), "new").unwrap();
    }
    turn.commit_durable().unwrap();
    drop(object);
    exported(&store, form)
}

pub fn exported(store: &Store, form: Form) -> Vec<u8> {
    let mut stream = Vec::new();
    let done = store.export(form, &mut stream).unwrap();
    assert_eq!(done.bytes, stream.len() as u64);
    stream
}

pub fn import(store: &Store, stream: &[u8]) -> dostore::error::Result<Imported> {
    store.import(stream, ImportOptions::new())
}

pub fn import_as(
    store: &Store,
    stream: &[u8],
    existing: Existing,
) -> dostore::error::Result<Imported> {
    store.import(stream, ImportOptions::new().existing(existing))
}

fn code(done: dostore::error::Result<Imported>) -> &'static str {
    done.unwrap_err().code()
}

pub fn fresh(seed: u64) -> Store {
    open(&SimDisk::new(seed))
}

const CODECS: [Codec; 5] = [Codec::Raw, Codec::Json, Codec::MessagePack, Codec::Cbor, Codec::V8];

fn bytes(chance: &mut Chance, most: u64) -> Vec<u8> {
    let count = chance.below(most);
    match chance.below(3) {
        0 => (0..count).map(|_| chance.byte()).collect(),
        1 => (0..count).map(|_| b'a' + chance.byte() % 26).collect(),
        _ => "\u{e4}\u{1F600}\"\\\n\t\u{1}".repeat(1 + usize::from(chance.byte() % 3)).into(),
    }
}

/// A store in which objects have something of everything.
pub fn mixed(seed: u64) -> (SimDisk, Store) {
    let disk = SimDisk::new(seed);
    let store = open(&disk);
    let mut chance = Chance(seed * 2 + 1);
    for namespace in ["rooms", "users"] {
        let namespace = store.namespace(namespace).unwrap();
        for number in 0..12 {
            let is_named = number % 3 != 0;
            let object = if is_named {
                namespace.open_by_name(&format!("{number}\u{e4}")).unwrap()
            } else {
                namespace.open(namespace.random_id().unwrap()).unwrap()
            };
            let storage = Storage::open(object);
            storage.set_user_version(chance.below(1 << 40)).unwrap();
            for _ in 0..=chance.below(30) {
                let (key, value) = (bytes(&mut chance, 20), bytes(&mut chance, 300));
                storage.put_as(key, CODECS[usize::from(chance.byte() % 5)], value).unwrap();
            }
            for _ in 0..chance.below(3) {
                let (socket, value) = (bytes(&mut chance, 20), bytes(&mut chance, 300));
                storage.put_attachment(&socket, value).unwrap();
            }
            if chance.below(2) == 0 {
                storage.set_alarm(Timestamp(chance.below(1 << 50))).unwrap();
            }
            storage.set_named_alarm("tick", Timestamp(chance.below(1 << 50))).unwrap();
            storage.set_named_alarm("far", Timestamp(u64::MAX / 2)).unwrap();
        }
    }
    store.steps().write_group().unwrap();
    store.steps().checkpoint().unwrap();
    // Some alarms fail, and some of these are given up.
    let alarms = store.alarms();
    for _ in 0..400 {
        let Some(fired) = alarms.try_next().unwrap() else {
            disk.advance(Duration::from_secs(700));
            continue;
        };
        let mut object = fired.namespace().unwrap().open(fired.object_id().unwrap()).unwrap();
        let mut turn = object.turn();
        let is_plain = fired.alarm_name().is_none();
        let failure = if is_plain { Failure::Uncounted } else { Failure::Counted };
        turn.fail_alarm(&fired, failure, "it \"failed\"").unwrap();
        turn.commit_durable().unwrap();
    }
    (disk, store)
}

#[test]
fn g25_what_was_exported_and_imported_is_exported_as_the_same_bytes() {
    for seed in 1..8 {
        let (_, store) = mixed(seed);
        let streams = FORMS.map(|form| exported(&store, form));
        for stream in &streams {
            let other = fresh(seed + 100);
            let done = import(&other, stream).unwrap();
            assert_eq!((done.objects, done.large_objects, done.kept), (24, 0, 0));
            assert_eq!(FORMS.map(|form| exported(&other, form)), streams);
            other.steps().checkpoint().unwrap();
            assert_eq!(FORMS.map(|form| exported(&other, form)), streams);
        }
        let text = std::str::from_utf8(&streams[0]).unwrap();
        for word in [
            "\"key\"",
            "\"socket\"",
            "\"version\"",
            "\"codec\":\"v8\"",
            "\"hex\"",
            "\"alarm\":null",
            "\"alarm\":\"far\"",
            "\"name\":\"1\u{e4}\"",
            "\"failed\":\"tick\"",
        ] {
            assert!(text.contains(word), "{word}");
        }
        let has_failed = |times: u32| text.contains(&format!("\"uncounted\":{times},"));
        assert!((1..30).any(has_failed));
        assert!(streams[1].len() < streams[0].len());
    }
}

#[test]
fn g25_each_thing_of_an_object_is_in_the_other_store() {
    let disk = SimDisk::new(1);
    let (store, at) = (open(&disk), Timestamp(u64::MAX / 4));
    let storage = Storage::open(store.namespace("n").unwrap().open_by_name("o").unwrap());
    storage.put_as([0, 0xFF], Codec::Cbor, [1, 2, 0xFE]).unwrap();
    storage.put("text", "\u{e4}\n").unwrap();
    storage.put_attachment(b"socket", "attached").unwrap();
    storage.set_user_version(u64::MAX).unwrap();
    storage.set_alarm(at).unwrap();
    storage.set_named_alarm("named", at).unwrap();
    store.steps().write_group().unwrap();
    for form in FORMS {
        let other = fresh(2);
        import(&other, &exported(&store, form)).unwrap();
        let namespace = other.namespace("n").unwrap();
        let info = namespace.objects().next().unwrap().unwrap();
        assert_eq!((info.id, info.name.as_deref()), (storage.id(), Some("o")));
        let storage = Storage::open(namespace.open_by_name("o").unwrap());
        let binary = storage.get([0, 0xFF]).unwrap().unwrap();
        assert_eq!((&binary[..], binary.codec()), (&[1, 2, 0xFE][..], Codec::Cbor));
        assert_eq!(storage.get("text").unwrap().unwrap(), *"\u{e4}\n".as_bytes());
        assert_eq!(storage.attachment(b"socket").unwrap().unwrap(), b"attached"[..]);
        assert_eq!(storage.user_version().unwrap(), u64::MAX);
        assert_eq!(storage.alarm().unwrap(), Some(at));
        assert_eq!(storage.named_alarm("named").unwrap(), Some(at));
        assert_eq!(storage.count(ListOptions::new()).unwrap(), 2);
    }
}

#[test]
fn an_imported_alarm_fires_with_the_attempts_that_it_had() {
    let (disk, store) = (SimDisk::new(1), fresh(2));
    disk.set_wall(1_000_000_000_000);
    let stream = r#"{"dostore":"export","version":1}
        {"namespace":"n"}
        {"object":"ID","name":"o"}
        {"alarm":"again","time":5,"due":1000500000000,"counted":3,"uncounted":1,"backoff":3}
        {"alarm":null,"time":1000900000000}
        {"end":"object"}
        {"end":"export"}"#;
    let id = store.namespace("n").unwrap().id_from_name("o").to_string();
    let stream = stream.replace("ID", &id);
    let target = open(&disk);
    let alarms = target.alarms();
    import(&target, stream.as_bytes()).unwrap();
    assert!(alarms.try_next().unwrap().is_none());
    disk.set_wall(1_000_500_000_000);
    let fired = alarms.try_next().unwrap().unwrap();
    assert_eq!((fired.alarm_name(), fired.attempt()), (Some("again"), 4));
    assert_eq!(fired.scheduled(), Timestamp(5));
    disk.set_wall(1_000_900_000_000);
    let fired = alarms.try_next().unwrap().unwrap();
    assert_eq!((fired.alarm_name(), fired.attempt()), (None, 0));
}

#[test]
fn an_export_says_nothing_of_when_it_was_made_or_how_the_bytes_lie() {
    let (disk, store) = mixed(20);
    let before = FORMS.map(|form| exported(&store, form));
    disk.advance(Duration::from_hours(3));
    store.steps().checkpoint().unwrap();
    while store.steps().merge().unwrap() || store.steps().clean().unwrap() {}
    assert_eq!(FORMS.map(|form| exported(&store, form)), before);
    store.steps().write_mark().unwrap();
    let reader = Reader::open_on(disk.clone()).unwrap();
    let read = FORMS.map(|form| {
        let mut stream = Vec::new();
        reader.export(form, &mut stream).unwrap();
        stream
    });
    assert_eq!(read, before);
    // One changed key is one changed line.
    let mut object = store.namespace("rooms").unwrap().open_by_name("1\u{e4}").unwrap();
    object.put("new", "line").unwrap().wait().unwrap();
    let after = String::from_utf8(exported(&store, Form::Text)).unwrap();
    let before = std::str::from_utf8(&before[0]).unwrap();
    let is_new = |line: &&str| !before.lines().any(|old| old == *line);
    let new: Vec<_> = after.lines().filter(is_new).collect();
    assert_eq!(new[0], r#"{"key":"new","value":"line"}"#);
    // Beside it changes how many items the object has, if that is told of no other object.
    assert!(new[1..].iter().all(|line| line.starts_with(r#"{"end":"object","#)), "{new:?}");
}

#[test]
fn a_namespace_and_an_object_are_exported_alone() {
    let (_, store) = mixed(21);
    let users = store.namespace("users").unwrap();
    let (mut stream, mut one) = (Vec::new(), Vec::new());
    assert_eq!(users.export(Form::Binary, &mut stream).unwrap().objects, 12);
    let id = users.id_from_name("1\u{e4}");
    assert_eq!(users.export_object(id, Form::Text, &mut one).unwrap().objects, 1);
    let other = fresh(22);
    import(&other, &stream).unwrap();
    assert_eq!(other.namespaces().len(), 1);
    let mut again = Vec::new();
    other.namespace("users").unwrap().export_object(id, Form::Text, &mut again).unwrap();
    assert_eq!(again, one);
    // An object without anything in it leaves nothing.
    let mut none = Vec::new();
    let nobody = users.id_from_name("nobody");
    assert_eq!(users.export_object(nobody, Form::Text, &mut none).unwrap().objects, 0);
    assert_eq!(import(&other, &none).unwrap(), Imported::default());
    let mut exporter = Exporter::new(Form::Text, Vec::new()).unwrap();
    let snapshot = users.snapshot(id).unwrap();
    assert_eq!(exporter.object(id, &snapshot).unwrap_err().code(), "export.namespace");
}

/// A place to write to that changes the object meanwhile.
struct Busy<'s> {
    store: &'s Store,
    written: Vec<u8>,
    changes: u64,
}

impl Write for Busy<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut object = self.store.namespace(NAMESPACE).unwrap().open_by_name("o").unwrap();
        let mut turn = object.turn();
        for key in 0..500 {
            turn.put(format!("{key:04}"), format!("changed {}", self.changes)).unwrap();
        }
        turn.commit_durable().unwrap();
        drop(object);
        self.store.steps().checkpoint().unwrap();
        self.store.steps().clean().unwrap();
        self.changes += 1;
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn g25_an_object_is_exported_as_of_one_moment() {
    let store = fresh(23);
    let mut object = store.namespace(NAMESPACE).unwrap().open_by_name("o").unwrap();
    let mut turn = object.turn();
    for key in 0..500 {
        turn.put(format!("{key:04}"), "x".repeat(400)).unwrap();
    }
    turn.commit_durable().unwrap();
    drop(object);
    let before = exported(&store, Form::Text);
    let mut busy = Busy { store: &store, written: Vec::new(), changes: 0 };
    store.export(Form::Text, &mut busy).unwrap();
    assert!(busy.changes > 3 && busy.written == before);
    assert_ne!(exported(&store, Form::Text), before);
}

#[test]
fn an_object_with_content_is_refused_replaced_or_kept_as_asked() {
    let (_, store) = mixed(30);
    let stream = exported(&store, Form::Text);
    let target = fresh(31);
    let rooms = target.namespace("rooms").unwrap();
    let mut there = rooms.open_by_name("1\u{e4}").unwrap();
    let mut turn = there.turn();
    turn.put("own", "content").unwrap().set_named_alarm("own", Timestamp(7)).unwrap();
    turn.commit_durable().unwrap();
    assert_eq!(code(import(&target, &stream)), "object.open");
    drop(there);
    let before = |target: &Store| {
        let mut stream = Vec::new();
        let rooms = target.namespace("rooms").unwrap();
        rooms.export_object(rooms.id_from_name("1\u{e4}"), Form::Text, &mut stream).unwrap();
        stream
    };
    let own = before(&target);
    let error = import_as(&target, &stream, Existing::Refuse).unwrap_err();
    assert!(["import.exists"].contains(&error.code()), "{error:?}");
    assert!(error.to_string().starts_with("line "), "{error}");
    assert_eq!(before(&target), own);
    // Some objects came before it; the others come now, and it is left alone.
    let done = import_as(&target, &stream, Existing::Keep).unwrap();
    assert!(done.kept >= 1 && done.kept + done.objects == 24, "{done:?}");
    assert_eq!(before(&target), own);
    let done = import_as(&target, &stream, Existing::Replace).unwrap();
    assert_eq!((done.objects, done.kept), (24, 0));
    assert_eq!(exported(&target, Form::Text), stream);
    assert_eq!(code(import(&target, &stream)), "import.exists");
}

#[test]
fn ids_are_kept_where_they_fit_and_found_by_name_where_not() {
    let (_, store) = mixed(32);
    let keyed = |key: &str| {
        let store = fresh(33);
        store.namespace_with_key("rooms", key).unwrap();
        store
    };
    let rooms = store.namespace("rooms").unwrap();
    let (mut named, mut unnamed) = (Vec::new(), Vec::new());
    for (stream, is_named) in [(&mut named, true), (&mut unnamed, false)] {
        let mut exporter = Exporter::new(Form::Binary, stream).unwrap();
        exporter.namespace("rooms").unwrap();
        for object in rooms.objects().map(Result::unwrap) {
            if object.name.is_some() == is_named {
                exporter.object(object.id, &rooms.snapshot(object.id).unwrap()).unwrap();
            }
        }
        exporter.finish().unwrap();
    }
    let other = keyed("a key of its own");
    assert_eq!(import(&other, &named).unwrap().objects, 8);
    let ids = other.namespace("rooms").unwrap();
    assert_ne!(ids.id_from_name("1\u{e4}"), rooms.id_from_name("1\u{e4}"));
    assert!(ids.objects().all(|object| {
        let object = object.unwrap();
        object.id == ids.id_from_name(&object.name.unwrap())
    }));
    let error = import(&other, &unnamed).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "import.id"));
    assert!(error.to_string().starts_with("byte 16"), "{error}");
    assert_eq!(import(&keyed("rooms"), &unnamed).unwrap().objects, 4);
    // Into one namespace, whatever the stream names.
    let into = fresh(34).namespace_with_key("halls", "rooms").unwrap();
    assert_eq!(into.import(&unnamed[..], ImportOptions::new()).unwrap().objects, 4);
    assert_eq!(into.objects().count(), 4);
    // A name that belongs to another id would make two objects of one name.
    let lie = String::from_utf8(exported(&store, Form::Text)).unwrap();
    let lie = lie.replace("\"name\":\"1\u{e4}\"", "\"name\":\"2\u{e4}\"");
    assert_eq!(code(import(&keyed("rooms"), lie.as_bytes())), "import.id");
}

#[test]
fn the_limits_of_the_target_hold_and_the_error_says_where() {
    let (_, store) = mixed(35);
    let stream = exported(&store, Form::Text);
    let limits = dostore::limits::Limits { value_bytes: 250, ..Default::default() };
    let target = crate::world::options().limits(limits).open_on(SimDisk::new(36)).unwrap();
    let error = import(&target, &stream).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "limit.value"));
    let line = error.to_string();
    let line = line.strip_prefix("line ").unwrap().split(',').next().unwrap();
    let line = line.parse::<usize>().unwrap();
    let text = String::from_utf8(stream).unwrap();
    assert!(text.lines().nth(line - 1).unwrap().len() > 250);
}
