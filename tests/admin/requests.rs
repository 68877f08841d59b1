//! What each request does: through the socket, and the same on a store that nobody has open.

use crate::stage::*;
use dostore::ids::Codec;
use dostore::store::admin::{Existing, Reply, Request, Step, When};
use dostore::store::transfer::Form;
use dostore::store::{Store, admin};
use std::time::{SystemTime, UNIX_EPOCH};

fn put_request(name: &str, value: &str) -> Request {
    let (key, value) = ("k".into(), value.into());
    Request::Put { of: room(name), key, value, codec: Some("json".into()), create: false }
}

#[test]
fn a_key_is_set_removed_and_each_change_taken_back() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let set = change(it.ask(&put_request("lobby", "2")));
    assert_eq!(it.value("lobby").as_deref(), Some("2"));
    let rooms = it.store.namespace("rooms").unwrap();
    let id = rooms.id_from_name("lobby");
    let found = rooms.snapshot(id).unwrap().get("k").unwrap().unwrap();
    assert_eq!(found.codec(), Codec::Json);
    let removed = change(it.ask(&Request::Rm { of: room("lobby"), keys: vec!["k".into()] }));
    assert_eq!(it.value("lobby"), None);
    change(it.ask(&restore("lobby", removed.undo.as_deref().unwrap())));
    assert_eq!(it.value("lobby").as_deref(), Some("2"));
    change(it.ask(&restore("lobby", set.undo.as_deref().unwrap())));
    assert_eq!(it.value("lobby").as_deref(), Some("one"));
    // What is new gets its name.
    change(it.ask(&put_request("cellar", "3")));
    let names = rooms.objects().map(|object| object.unwrap().name.unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["cellar", "lobby"]);
}

#[test]
fn what_is_not_there_is_not_made_by_mistake() {
    let it = listening();
    assert_eq!(refused(it.ask(&put_request("lobby", "1"))), "namespace.missing");
    assert!(it.store.namespaces().is_empty());
    put(&it.store, "lobby", "one");
    let gone = Request::Rm { of: room("lobby"), keys: vec!["k".into(), "other".into()] };
    assert_eq!(refused(it.ask(&gone)), "key.missing");
    assert_eq!(it.value("lobby").as_deref(), Some("one"), "all of the keys, or none");
    for request in [
        Request::Delete { of: room("nobody") },
        Request::Purge { of: room("nobody") },
        Request::Fork { of: room("nobody"), at: None, to: room("copy"), alarms: false },
    ] {
        assert_eq!(refused(it.ask(&request)), "object.missing");
    }
    let undo = Request::Undo { of: room("lobby"), alarms: false };
    assert_eq!(refused(it.ask(&undo)), "restore.none");
    assert_eq!(refused(it.ask(&restore("lobby", "yesterday"))), "bookmark.malformed");
    let create = Request::Put {
        of: admin::Target { namespace: "new".into(), ..room("lobby") },
        key: "k".into(),
        value: "v".into(),
        codec: None,
        create: true,
    };
    change(it.ask(&create));
    assert_eq!(it.store.namespaces().len(), 2);
}

#[test]
fn an_object_is_restored_undone_and_done_again() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let rooms = it.store.namespace("rooms").unwrap();
    let one = rooms.current_bookmark(rooms.id_from_name("lobby")).unwrap().to_string();
    put(&it.store, "lobby", "two");
    change(it.ask(&restore("lobby", &one)));
    assert_eq!(it.value("lobby").as_deref(), Some("one"));
    for expected in ["two", "one", "two"] {
        change(it.ask(&Request::Undo { of: room("lobby"), alarms: false }));
        assert_eq!(it.value("lobby").as_deref(), Some(expected));
    }
}

#[test]
fn an_object_is_deleted_brought_back_and_purged() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let deleted = change(it.ask(&Request::Delete { of: room("lobby") }));
    assert_eq!(it.value("lobby"), None);
    assert_eq!(refused(it.ask(&Request::Delete { of: room("lobby") })), "object.missing");
    change(it.ask(&restore("lobby", deleted.undo.as_deref().unwrap())));
    assert_eq!(it.value("lobby").as_deref(), Some("one"));
    let purged = change(it.ask(&Request::Purge { of: room("lobby") }));
    assert_eq!((it.value("lobby"), purged.undo), (None, None));
    let undo = deleted.undo.unwrap();
    assert_eq!(refused(it.ask(&restore("lobby", &undo))), "history.purged");
}

#[test]
fn a_fork_is_what_its_source_is_or_was() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let rooms = it.store.namespace("rooms").unwrap();
    let one = rooms.current_bookmark(rooms.id_from_name("lobby")).unwrap().to_string();
    put(&it.store, "lobby", "two");
    let fork = |at, to: &str| {
        it.ask(&Request::Fork { of: room("lobby"), at, to: room(to), alarms: false })
    };
    change(fork(None, "now"));
    let then = change(fork(Some(When::Bookmark(one)), "then"));
    assert_eq!(it.value("now").as_deref(), Some("two"));
    assert_eq!(it.value("then").as_deref(), Some("one"));
    assert_eq!(refused(fork(None, "then")), "fork.occupied");
    change(it.ask(&restore("then", then.undo.as_deref().unwrap())));
    assert_eq!(it.value("then"), None);
}

fn micros(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

#[test]
fn a_namespace_and_a_store_are_restored_to_a_time_and_back() {
    let it = listening();
    for number in 0..20 {
        put(&it.store, &format!("room {number}"), "one");
    }
    let then = micros(SystemTime::now());
    until("the clock goes on", || micros(SystemTime::now()) > then);
    for number in 0..10 {
        put(&it.store, &format!("room {number}"), "two");
    }
    put(&it.store, "new", "two");
    let mut operator = Sender::of(&[]);
    let all = Request::RestoreAll { namespace: Some("rooms".into()), time: then, alarms: false };
    let done = admin::at(&it.path, &all, &mut operator).unwrap();
    let Reply::RestoredAll(done) = done else { panic!("{done:?}") };
    assert_eq!((done.restored, done.failed, done.failures.len()), (11, 0, 0));
    assert!(!operator.told.is_empty(), "it tells how far it is");
    assert_eq!(it.value("room 3").as_deref(), Some("one"));
    assert_eq!(it.value("new"), None);
    let back = Request::RestoreAll { namespace: None, time: done.undo.unwrap(), alarms: false };
    let Reply::RestoredAll(back) = it.ask(&back).unwrap() else { panic!("not all") };
    assert_eq!(back.restored, 11);
    assert_eq!(it.value("room 3").as_deref(), Some("two"));
    assert_eq!(it.value("new").as_deref(), Some("two"));
    let nothing =
        Request::RestoreAll { namespace: None, time: micros(SystemTime::now()), alarms: false };
    let Reply::RestoredAll(nothing) = it.ask(&nothing).unwrap() else { panic!("not all") };
    assert_eq!((nothing.restored, nothing.undo), (0, None));
}

#[test]
fn a_restoration_of_many_ends_when_nobody_wants_it_any_more() {
    let it = listening();
    for number in 0..20 {
        put(&it.store, &format!("room {number}"), "one");
    }
    let mut operator = Sender { patience: 1, ..Sender::of(&[]) };
    let all = Request::RestoreAll { namespace: None, time: 1, alarms: false };
    let ended = admin::perform(&it.store, &all, &mut operator).unwrap_err();
    assert_eq!(ended.code(), "admin.ended");
    let left = (0..20).filter(|number| it.value(&format!("room {number}")).is_some()).count();
    assert_eq!(left, 19);
}

#[test]
fn a_scrub_tells_how_far_it_is_and_ends_when_nobody_wants_it_any_more() {
    let it = listening();
    for number in 0..80 {
        put(&it.store, &format!("room {number}"), &format!("{number:02}").repeat(10_000));
    }
    it.store.steps().checkpoint().unwrap();
    let mut operator = Sender::of(&[]);
    let done = admin::perform(&it.store, &Request::Scrub, &mut operator).unwrap();
    let Reply::Scrubbed(found) = done else { panic!("{done:?}") };
    let told = &operator.told;
    assert!(told.len() > 3 && told.is_sorted_by(|one, next| one.bytes < next.bytes), "{told:?}");
    assert!(told.iter().all(|it| it.bytes <= found.bytes && found.bytes <= it.bytes_of));
    let mut operator = Sender { patience: 2, ..Sender::of(&[]) };
    let ended = admin::perform(&it.store, &Request::Scrub, &mut operator).unwrap_err();
    assert_eq!((ended.code(), operator.told.len()), ("admin.ended", 2));
}

#[test]
fn a_backup_a_round_of_compaction_and_figures() {
    let it = listening();
    for number in 0..50 {
        put(&it.store, &format!("room {number}"), "one");
    }
    let Reply::Stats(figures) = it.ask(&Request::Stats).unwrap() else { panic!("no figures") };
    assert_eq!(figures.process, std::process::id());
    assert_eq!(figures.stats.commits, it.store.stats().unwrap().commits);
    assert_eq!(figures.durable, it.store.durable().0);
    let Reply::Compacted(round) = it.ask(&Request::Compact).unwrap() else { panic!("no round") };
    assert_eq!(round.steps[0], admin::Step::Checkpoint);
    assert!(round.bytes[0] > 0, "{round:?}");
    let copy = it.folder.path().join("copy");
    let path = copy.to_str().unwrap().to_owned();
    let backup = Request::Backup { path, verify: true, copy: true };
    let Reply::BackedUp(made) = it.ask(&backup).unwrap() else { panic!("no backup") };
    assert_eq!((made.linked, made.faults), (0, Some(0)));
    assert_eq!(value(&Store::open(&copy).unwrap(), "room 7").as_deref(), Some("one"));
    let relative = Request::Backup { path: "copy".into(), verify: false, copy: false };
    assert_eq!(refused(it.ask(&relative)), "backup.target");
}

#[test]
fn an_export_is_loaded_through_the_socket() {
    let it = listening();
    for number in 0..50 {
        put(&it.store, &format!("room {number}"), &"long ".repeat(5000));
    }
    let mut stream = Vec::new();
    it.store.export(Form::Text, &mut stream).unwrap();
    let other = listening();
    let load = |existing| Request::Load { namespace: None, existing };
    let ask = |existing, stream| admin::at(&other.path, &load(existing), &mut Sender::of(stream));
    let Reply::Loaded(loaded) = ask(Existing::Refuse, &stream).unwrap() else { panic!("none") };
    assert_eq!((loaded.objects, loaded.kept), (50, 0));
    let mut again = Vec::new();
    other.store.export(Form::Text, &mut again).unwrap();
    assert!(again == stream);
    assert_eq!(refused(ask(Existing::Refuse, &stream)), "import.exists");
    let Reply::Loaded(loaded) = ask(Existing::Keep, &stream).unwrap() else { panic!("none") };
    assert_eq!((loaded.objects, loaded.kept), (0, 50));
    let mut compact = Vec::new();
    it.store.export(Form::Binary, &mut compact).unwrap();
    let cut = &compact[..compact.len() - 1];
    assert_eq!(refused(ask(Existing::Replace, cut)), "import.truncated");
}

#[test]
fn a_stream_of_nothing_leaves_no_namespace_behind() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let mut stream = Vec::new();
    it.store.export(Form::Text, &mut stream).unwrap();
    let load = Request::Load { namespace: Some("romms".into()), existing: Existing::Refuse };
    let ask = |stream: &[u8]| admin::at(&it.path, &load, &mut Sender::of(stream));
    let names = || it.store.namespaces().iter().map(|it| it.name().to_owned()).collect::<Vec<_>>();
    assert!(ask(b"no export at all").is_err());
    assert_eq!(names(), ["rooms"]);
    assert!(ask(&stream).is_ok());
    assert_eq!(names(), ["romms", "rooms"]);
}

#[test]
fn a_store_that_nobody_has_open_is_opened_for_the_request() {
    let it = listening();
    put(&it.store, "lobby", "one");
    it.store.close().unwrap();
    let path = it.path;
    let ask = |request: &Request| admin::at(&path, request, &mut Sender::of(&[]));
    let set = change(ask(&put_request("lobby", "2")));
    change(ask(&restore("lobby", set.undo.as_deref().unwrap())));
    change(ask(&Request::Purge { of: room("lobby") }));
    let bytes = |path| std::fs::read(path).unwrap();
    let files = walk(&path);
    let has = |file| bytes(file).windows(3).any(|found| found == b"one");
    assert!(!files.iter().any(has), "a purge leaves no byte behind");
    ask(&Request::Compact).unwrap();
    assert_eq!(refused(ask(&Request::Delete { of: room("lobby") })), "object.missing");
    let store = options().create(false).open(&path).unwrap();
    assert!(store.report().was_closed, "{:?}", store.report());
}

fn walk(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_store_without_history_stays_without_when_it_is_opened_for_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let none = || options().retention(dostore::retention::Retention::Off);
    let store = none().open(&path).unwrap();
    put(&store, "lobby", "one");
    store.close().unwrap();
    let set = change(admin::at(&path, &put_request("lobby", "2"), &mut Sender::of(&[])));
    assert_eq!(set.undo, None);
    let store = none().open(&path).unwrap();
    assert_eq!(store.namespace("rooms").unwrap().history_from(), None);
}

#[test]
fn a_backup_and_a_compaction_tell_how_far_they_have_come() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let path = |name: &str| it.folder.path().join(name).to_str().unwrap().to_owned();
    let backup =
        |name: &str| Request::Backup { path: path(name), verify: true, copy: name == "copied" };
    // Through the socket at least the beginning.
    for request in [backup("linked"), Request::Compact] {
        let mut sender = Sender::of(&[]);
        admin::ask(&it.path, &request, &mut sender).unwrap().unwrap();
        assert!(!sender.told.is_empty(), "{request:?}");
    }
    // In this process everything: first what is copied, then what is verified of it.
    for name in ["copied", "linked again"] {
        let mut sender = Sender::of(&[]);
        admin::perform(&it.store, &backup(name), &mut sender).unwrap();
        let ended = sender.told.iter().filter(|told| told.bytes == told.bytes_of).count();
        assert!(ended >= 2, "{name}: {:?}", sender.told);
        assert!(sender.told.iter().all(|told| told.bytes <= told.bytes_of), "{:?}", sender.told);
    }
    let mut sender = Sender::of(&[]);
    admin::perform(&it.store, &Request::Compact, &mut sender).unwrap();
    let steps: Vec<_> = sender.told.iter().filter_map(|told| told.step).collect();
    assert_eq!(steps, Step::ALL);
}
