//! Imports that are cut off, and streams that are not as they were written.

use crate::exports::{FORMS, KEYS, exported, fresh, import, import_as, mixed, one_object};
use crate::world::{NAMESPACE, options};
use dostore::disk::ReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind};
use dostore::inspect::{Verdict, verify};
use dostore::limits::Limits;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::list::ListOptions;
use dostore::store::reader::Reader;
use dostore::store::transfer::{Existing, Form, ImportOptions};
use std::io::{self, Read};
use std::time::{Duration, UNIX_EPOCH};

/// With limits under which the object is one commit, or several.
fn open(disk: &SimDisk, operations: usize) -> Result<Store, Error> {
    let limits = Limits { commit_operations: operations, ..Limits::default() };
    options().limits(limits).open_on(disk.clone())
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Old,
    Absent,
    Unfinished,
    Whole,
}

/// What there is of the object, which every way to look at it must agree on.
fn seen(store: &Store, disk: &SimDisk) -> Seen {
    let namespace = store.namespace(NAMESPACE).unwrap();
    let id = namespace.id_from_name("o");
    let listed = namespace.objects().next().transpose().unwrap();
    let snapshot = namespace.snapshot(id);
    store.steps().write_mark().unwrap();
    let reader = Reader::open_on(disk.clone()).unwrap();
    let read = reader.namespace(NAMESPACE).unwrap().snapshot(id);
    let opened = namespace.open_by_name("o").map(drop);
    let activated = namespace.activate(id).wait().map(drop);
    if listed.as_ref().is_some_and(|object| object.is_unfinished) {
        let errors = [snapshot.err(), read.err(), opened.err(), activated.err()];
        for error in errors.map(Option::unwrap) {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Broken, "object.unfinished"));
        }
        return Seen::Unfinished;
    }
    opened.unwrap();
    activated.unwrap();
    let values = [snapshot.unwrap(), read.unwrap()].map(|snapshot| {
        let entries = snapshot.list(ListOptions::new()).unwrap();
        entries.map(|entry| entry.unwrap().1.to_vec()).collect::<Vec<_>>()
    });
    assert_eq!(values[0], values[1]);
    assert_eq!(listed.is_some(), !values[0].is_empty());
    let is_all = |value: &str, count| values[0] == vec![value.as_bytes(); count];
    match () {
        () if is_all("", 0) => Seen::Absent,
        () if is_all("old", 3) => Seen::Old,
        () if is_all("new", KEYS) => Seen::Whole,
        () => panic!("{values:?}"),
    }
}

#[test]
fn g26_an_import_cut_off_at_any_call_never_shows_half_an_object() {
    let stream = one_object(Form::Text);
    for (operations, has_old) in [(1000, false), (1000, true), (11, false), (11, true)] {
        let (mut befores, mut unfinished, mut wholes) = (0, 0, 0);
        let disk = SimDisk::new(7);
        let store = open(&disk, operations).unwrap();
        let namespace = store.namespace(NAMESPACE).unwrap();
        if has_old {
            let mut object = namespace.open_by_name("o").unwrap();
            let mut turn = object.turn();
            for key in 0..3 {
                turn.put(format!("old {key}"), "old").unwrap();
            }
            turn.commit_durable().unwrap();
        }
        drop(namespace);
        drop(store);
        let before = disk.kill();
        for calls in 0.. {
            let disk = before.fork();
            let store = open(&disk, operations).unwrap();
            disk.crash_after(calls);
            let done = import_as(&store, &stream, Existing::Replace);
            drop(store);
            let disk = disk.power_cut();
            let store = open(&disk, operations).unwrap();
            let found = seen(&store, &disk);
            // The same once it is in pages.
            store.steps().checkpoint().unwrap();
            assert_eq!(seen(&store, &disk), found);
            match found {
                Seen::Old => assert!(has_old),
                Seen::Absent => assert!(!has_old),
                Seen::Unfinished => assert_eq!(operations, 11),
                Seen::Whole => {}
            }
            assert!(done.is_err() || found == Seen::Whole, "call {calls}: {found:?}");
            befores += usize::from(matches!(found, Seen::Old | Seen::Absent));
            unfinished += usize::from(found == Seen::Unfinished);
            wholes += usize::from(found == Seen::Whole);
            // An import that was not completed is not content.
            let is_content = matches!(found, Seen::Old | Seen::Whole);
            let again = import(&store, &stream);
            assert_eq!(again.is_err(), is_content, "{found:?}: {again:?}");
            import_as(&store, &stream, Existing::Keep).unwrap();
            let wanted = if found == Seen::Old { Seen::Old } else { Seen::Whole };
            assert_eq!(seen(&store, &disk), wanted);
            store.close().unwrap();
            assert_eq!(verify(disk.clone()).verdict(), Verdict::Clean, "{}", verify(disk));
            if done.is_ok() {
                break;
            }
        }
        assert!(befores > 0 && wholes > 0, "{befores} and {wholes}");
        assert_eq!(unfinished > 3, operations == 11);
    }
}

#[test]
fn an_unfinished_object_is_left_out_of_exports_and_can_be_deleted() {
    let disk = SimDisk::new(8);
    let store = open(&disk, 11).unwrap();
    let stream = one_object(Form::Text);
    let lines = stream.split_inclusive(|byte| *byte == b'\n').take(30);
    let cut: Vec<u8> = lines.flatten().copied().collect();
    let error = import(&store, &cut).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "import.truncated"));
    assert_eq!(seen(&store, &disk), Seen::Unfinished);
    let done = store.export(Form::Text, io::sink()).unwrap();
    assert_eq!((done.objects, done.unfinished), (0, 1));
    let namespace = store.namespace(NAMESPACE).unwrap();
    let id = namespace.id_from_name("o");
    let error = namespace.export_object(id, Form::Text, io::sink()).unwrap_err();
    assert_eq!(error.code(), "object.unfinished");
    // Asking leaves nothing in memory.
    store.steps().checkpoint().unwrap();
    assert!(namespace.open(id).is_err());
    let objects = store.stats().unwrap().objects_in_memory;
    namespace.delete(id).unwrap().wait().unwrap();
    assert_eq!(seen(&store, &disk), Seen::Absent);
    namespace.open(id).unwrap().put("k", "v").unwrap().wait().unwrap();
    assert_eq!(objects, 0);
}

#[test]
fn a_stream_that_ends_anywhere_is_refused_and_what_ended_in_it_is_there() {
    let (_, store) = mixed(9);
    for form in FORMS {
        let stream = exported(&store, form);
        let step = 1 + stream.len() / 200;
        let mut most = 0;
        for length in (0..stream.len() - 1).step_by(step).chain([stream.len() - 2]) {
            let target = fresh(10);
            let error = import(&target, &stream[..length]).unwrap_err();
            let known = ["import.truncated", "import.malformed"];
            assert!(known.contains(&error.code()), "{length}: {error:?}");
            let objects = target.namespaces().iter().map(|all| all.objects().count()).sum();
            most = most.max(objects);
            // Each object that is there is whole: going on makes it the whole store.
            import_as(&target, &stream, Existing::Keep).unwrap();
            assert_eq!(exported(&target, form), stream);
        }
        assert!(most > 5 || form == Form::Binary, "{most}");
    }
}

#[test]
fn a_flipped_bit_in_the_compact_form_is_noticed_before_anything_of_the_block_is_used() {
    let stream = one_object(Form::Binary);
    for bit in 0..stream.len() * 8 {
        let mut flipped = stream.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let target = fresh(11);
        let error = import(&target, &flipped).unwrap_err();
        let known = ["import.checksum", "import.malformed", "import.truncated", "import.version"];
        assert!(known.contains(&error.code()), "bit {bit}: {error:?}");
        assert!(bit < 128 || error.place().is_some());
        assert!(target.namespaces().is_empty(), "bit {bit}");
    }
}

#[test]
fn lines_out_of_order_are_refused_with_their_number() {
    let (begin, space) = (r#"{"dostore":"export","version":1}"#, r#"{"namespace":"n"}"#);
    let object =
        format!(r#"{{"object":"{}"}}"#, fresh(1).namespace("n").unwrap().random_id().unwrap());
    let (key, over) = (r#"{"key":"k","value":"v"}"#, r#"{"end":"object"}"#);
    let end = r#"{"end":"export"}"#;
    let right = [begin, space, &object, key, over, end];
    import(&fresh(12), right.join("\n").as_bytes()).unwrap();
    import(&fresh(12), (right.join("\r\n\n") + "\n\n").as_bytes()).unwrap();
    let wrong: [(&[&str], &str); 12] = [
        (&[begin, space, space, key], "line 4"),
        (&[begin, &object], "line 2"),
        (&[begin, space, over], "line 3"),
        (&[begin, space, &object, space], "line 4"),
        (&[begin, space, &object, &object], "line 4"),
        (&[begin, space, &object, end], "line 4"),
        (&[begin, space, &object, key, r#"{"end":"object","items":2}"#], "line 5"),
        (&[begin, space, r#"{"end":"export","objects":1}"#], "line 3"),
        (&[begin, end, space], "line 3"),
        (&[begin, "", "nonsense"], "line 3"),
        (&[space], "line 1"),
        (&[begin, space, &object, key, key, "{\"key\":1,\"value\":\"v\"}"], "line 6"),
    ];
    for (lines, place) in wrong {
        let error = import(&fresh(13), lines.join("\n").as_bytes()).unwrap_err();
        assert_eq!(error.code(), "import.malformed", "{lines:?}");
        assert!(error.to_string().starts_with(&format!("{place}:")), "{lines:?}: {error}");
    }
    let later = begin.replace('1', "2");
    let error = import(&fresh(13), later.as_bytes()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unsupported, "import.version"));
    assert_eq!(import(&fresh(13), b"").unwrap_err().code(), "import.truncated");
}

#[test]
fn no_error_of_a_damaged_stream_has_a_part_of_a_value() {
    const SECRET: &str = "correct-horse-battery-staple";
    let store = fresh(16);
    let mut object = store.namespace("n").unwrap().open_by_name("o").unwrap();
    object.put("key", SECRET).unwrap().wait().unwrap();
    drop(object);
    let text = exported(&store, Form::Text);
    let mut refused = 0;
    for at in 0..text.len() {
        for byte in *b"\"\\{}x7," {
            let mut changed = text.clone();
            changed[at] = byte;
            if let Err(error) = import(&fresh(17), &changed) {
                let said = format!("{error} {error:?}");
                let mut parts = SECRET.as_bytes().windows(7);
                let leak = parts.find(|part| said.as_bytes().windows(7).any(|it| it == *part));
                assert!(leak.is_none(), "byte {at}: {said}");
                refused += 1;
            }
        }
    }
    assert!(refused > text.len(), "{refused}");
}

/// Input without an end; counts what was read.
struct Endless {
    front: Vec<u8>,
    read: usize,
}

impl Read for &mut Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b' ');
        let front = self.front.get(self.read..).unwrap_or_default();
        let take = front.len().min(buffer.len());
        buffer[..take].copy_from_slice(&front[..take]);
        self.read += buffer.len();
        Ok(buffer.len())
    }
}

#[test]
fn a_line_without_an_end_and_a_block_of_any_size_take_bounded_memory() {
    let mut endless = Endless { front: b"{".to_vec(), read: 0 };
    let error = fresh(14).import(&mut endless, ImportOptions::new()).unwrap_err();
    assert_eq!(error.code(), "import.malformed");
    assert!(endless.read < 40 << 20, "{} bytes", endless.read);
    let front = &one_object(Form::Binary)[..16];
    for header in [[0xFF; 16], [0x7F; 16], [0; 16]] {
        let mut endless = Endless { front: [front, &header].concat(), read: 0 };
        let error = fresh(15).import(&mut endless, ImportOptions::new()).unwrap_err();
        assert_eq!(error.code(), "import.malformed");
        assert!(endless.read < 1 << 20, "{} bytes", endless.read);
    }
}

#[test]
fn an_object_that_is_kept_or_refused_is_not_restored_either() {
    let text = |store: &Store| exported(store, Form::Text);
    let disk = SimDisk::new(70);
    let store = open(&disk, 1000).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut room = rooms.open_by_name("room").unwrap();
    let first = room.put("key", "first").unwrap().bookmark();
    room.put("key", "second").unwrap().wait().unwrap();
    let stream = text(&store);
    room.restore_on_next_open(&first).unwrap().0.wait().unwrap();
    drop(room);
    let last = store.durable();
    assert_eq!(import_as(&store, &stream, Existing::Refuse).unwrap_err().code(), "import.exists");
    assert_eq!(import_as(&store, &stream, Existing::Keep).unwrap().kept, 1);
    assert_eq!((store.durable(), text(&store)), (last, stream.clone()));
    // It still waits: whoever opens the object gets what was asked for.
    let value = rooms.open_by_name("room").unwrap().get("key").unwrap();
    assert_eq!(value.as_deref(), Some(&b"first"[..]));
    assert_eq!(import_as(&store, &stream, Existing::Replace).unwrap().objects, 1);
    assert_eq!(text(&store), stream);
}

#[test]
fn a_namespace_is_created_with_its_first_object_and_no_more_than_allowed() {
    let source = fresh(71);
    source.namespace("empty").unwrap();
    for name in ["a", "b", "c"] {
        let mut object = source.namespace(name).unwrap().open_by_name("one").unwrap();
        object.put("k", "v").unwrap().wait().unwrap();
    }
    let stream = exported(&source, Form::Text);
    let mut named = String::from_utf8(stream.clone()).unwrap();
    let first = named.find('\n').unwrap() + 1;
    let lines: Vec<_> = (0..2_000).map(|n| format!("{{\"namespace\":\"n{n}\"}}\n")).collect();
    let lines = lines.concat();
    named.insert_str(first, &lines);
    let target = fresh(72);
    let done = target.import(named.as_bytes(), ImportOptions::new().new_namespaces(3)).unwrap();
    assert_eq!((done.objects, target.namespaces().len()), (3, 3));
    assert_eq!(exported(&target, Form::Text), stream);
    let target = fresh(73);
    target.namespace("b").unwrap();
    let few = ImportOptions::new().new_namespaces(1);
    assert_eq!(target.import(&*stream, few).unwrap_err().code(), "import.namespaces");
    assert_eq!(target.namespaces().len(), 2);
}

#[test]
fn a_past_of_which_nobody_knows_whether_it_is_whole_is_not_shown() {
    let disk = SimDisk::new(74);
    let store = open(&disk, 10).unwrap();
    let stream = one_object(Form::Text);
    import(&store, &stream[..stream.len() * 3 / 4]).unwrap_err();
    store.steps().checkpoint().unwrap();
    disk.advance(Duration::from_mins(1));
    let then = UNIX_EPOCH + Duration::from_micros(disk.clock().wall_micros());
    disk.advance(Duration::from_mins(1));
    import(&store, &stream).unwrap();
    let rooms = store.namespace(NAMESPACE).unwrap();
    let id = rooms.id_from_name("o");
    let bookmark = rooms.bookmark_at(id, then).unwrap();
    store.close().unwrap();
    let code = |disk: &SimDisk| -> Result<&'static str, Error> {
        let rooms = open(disk, 10)?.namespace(NAMESPACE)?;
        Ok(rooms.at(id, &bookmark).expect_err("half an object is shown").code())
    };
    assert_eq!(code(&disk.fork()).unwrap(), "object.unfinished");
    let mut unknown = 0;
    for name in disk.names().into_iter().filter(|name| matches!(name, FileName::Run(_))) {
        let bits = disk.file_bytes(name).unwrap().len() as u64 * 8;
        for bit in (0..bits).step_by(509) {
            let disk = disk.fork();
            disk.flip_bit(name, bit).unwrap();
            unknown += usize::from(code(&disk).is_ok_and(|code| code != "object.unfinished"));
        }
    }
    assert!(unknown > 10, "{unknown}");
}
