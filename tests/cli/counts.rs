//! Verbs that count and watch: `alarms`, `bigkeys`, `stat`, `tail`, `top`.

use super::stage::{Stage, options, write_out};
use dostore::alarm::Failure;
use dostore::disk::sim::SimDisk;
use dostore::ids::Timestamp;
use dostore::store::namespace::Namespace;
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

fn items(document: &Value) -> &[Value] {
    document["items"].as_array().unwrap()
}

#[test]
fn alarms_are_listed_by_when_they_are_due() {
    let stage = Stage::new();
    let all = stage.call(&["alarms", "--json"]).json();
    let shown: Vec<_> = items(&all).iter().map(|it| (&it["alarm"], &it["state"])).collect();
    let set = (&Value::Null, &"set".into());
    assert_eq!(shown, [(&"late".into(), &"overdue".into()), set]);
    let late = stage.call(&["alarms", "--overdue"]).text();
    assert!(late.contains("rooms/lobby") && late.contains("10 d late"), "{late}");
    let of_one = stage.call(&["alarms", "rooms/lobby@-8d 1h", "--json"]).json();
    assert_eq!((items(&of_one).len(), &items(&of_one)[0]["state"]), (1, &"set".into()));
    assert!(items(&stage.call(&["alarms", "users", "--json"]).json()).is_empty());
    // Of many as of then: the same, also without saying of which namespace.
    for words in
        [&["alarms", "rooms@-8d 1h", "--json"][..], &["alarms", "--at", "-8d 1h", "--json"]]
    {
        assert_eq!(items(&stage.call(words).json()), items(&of_one), "{words:?}");
    }
    assert_eq!(items(&stage.call(&["alarms", "--at", "-9d 1h", "--json"]).json()).len(), 0);
    let late = stage.call(&["alarms", "--at", "-1d", "--overdue", "--json"]).json();
    assert_eq!((items(&late).len(), &items(&late)[0]["alarm"]), (1, &"late".into()), "{late}");
    let cut = stage.call(&["alarms", "--at", "-1d", "--limit", "1"]).text();
    assert!(cut.contains("more are not shown") && cut.contains("as of 2026-11-"), "{cut}");
}

fn fail(store: &dostore::store::Store, disk: &SimDisk, rooms: &Namespace, times: usize) {
    for _ in 0..times {
        disk.advance(Duration::from_hours(1));
        let fired = store.alarms().try_next().unwrap().unwrap();
        let mut object = rooms.open(fired.object_id().unwrap()).unwrap();
        let mut turn = object.turn();
        turn.fail_alarm(&fired, Failure::Counted, "no such host").unwrap();
        turn.commit().unwrap().wait().unwrap();
    }
}

#[test]
fn alarms_that_fail_and_that_were_given_up_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(3);
    disk.set_wall(1_793_491_200_000_000);
    let store = options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let set = |name: &str| {
        let mut object = rooms.open_by_name(name).unwrap();
        let mut turn = object.turn();
        turn.set_alarm(Timestamp(1_793_491_200_000_000)).unwrap();
        turn.commit().unwrap().wait().unwrap();
    };
    set("given up");
    fail(&store, &disk, &rooms, 7);
    store.steps().checkpoint().unwrap();
    set("failing");
    fail(&store, &disk, &rooms, 2);
    set("late");
    drop(rooms);
    store.close().unwrap();
    write_out(&disk, folder.path());
    let failed = super::stage::call(folder.path(), &["alarms", "--failed", "--json"]).json();
    let shown: Vec<_> = items(&failed)
        .iter()
        .map(|it| [&it["name"], &it["state"], &it["failed"], &it["failure"]].map(Value::clone))
        .collect();
    let row = |name: &str, state: &str, failed: u32, failure: Value| {
        [name.into(), state.into(), failed.into(), failure]
    };
    assert_eq!(
        shown,
        [
            row("failing", "failing", 2, Value::Null),
            row("given up", "abandoned", 7, "no such host".into()),
        ]
    );
    let all = super::stage::call(folder.path(), &["alarms", "--format", "jsonl"]).lines();
    let names: Vec<_> = all.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["late", "failing"]);
    let one = super::stage::call(folder.path(), &["alarms", "--limit", "1"]).text();
    assert!(one.contains("more are not shown"), "{one}");
}

#[test]
fn the_greatest_values_are_found() {
    let stage = Stage::new();
    let great = stage.call(&["bigkeys", "--limit", "3", "--json"]).json();
    let sizes: Vec<_> = items(&great).iter().map(|it| it["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [1900, 1800, 1700]);
    assert_eq!(items(&great)[0]["name"], "lobster 19");
    let of_one = stage.call(&["bigkeys", "rooms/lobby"]).text();
    assert!(of_one.contains("rooms/lobby:visitor/ada"), "{of_one}");
}

#[test]
fn what_is_counted_adds_up() {
    let stage = Stage::new();
    let all = stage.call(&["stat", "--json"]).json();
    let rooms = stage.call(&["stat", "rooms", "--json"]).json();
    assert_eq!((&all["objects"], &rooms["objects"]), (&23.into(), &22.into()));
    let listed = stage.call(&["ls", "rooms", "--format", "jsonl"]).lines();
    let bytes: u64 = listed.iter().map(|it| it["bytes"].as_u64().unwrap()).sum();
    assert_eq!(rooms["bytes"]["sum"], bytes);
    assert_eq!(rooms["bytes"]["most"], 1905);
    let one = stage.call(&["stat", "rooms/lobby", "--json"]).json();
    assert_eq!((&one["commits"], &one["keys"]), (&4.into(), &2.into()));
}

#[test]
fn the_last_commits_of_all_objects_are_told_in_order() {
    let stage = Stage::new();
    let all = stage.call(&["tail", "-n", "100", "--format", "jsonl"]).lines();
    // Four of the lobby, twenty lobsters, one without a name, two of one that is gone, one user.
    assert_eq!(all.len(), 28);
    let lsns: Vec<_> = all.iter().map(|it| it["lsn"].as_u64().unwrap()).collect();
    assert!(lsns.is_sorted());
    let last = stage.call(&["tail", "-n", "2", "--json"]).json();
    assert_eq!(items(&last)[1]["lsn"], lsns[27]);
    assert_eq!(items(&last)[1]["ns"], "users");
    let lobby = stage.call(&["tail", "rooms/lobby", "--format", "jsonl"]).lines();
    assert_eq!(lobby.len(), 4);
    assert_eq!(stage.call(&["tail", "users", "--format", "jsonl"]).lines().len(), 1);
    assert_eq!(stage.call(&["tail", "users/x:y"]).code, 2);
}

/// Takes so many lines and then goes away, as `head` does; writes to the store at each.
struct Head<F> {
    lines: usize,
    taken: Vec<u8>,
    at_line: F,
}

impl<F: FnMut()> Write for Head<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if String::from_utf8_lossy(&self.taken).lines().count() >= self.lines {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.taken.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (self.at_line)();
        Ok(())
    }
}

#[test]
fn a_follower_shows_commits_as_they_come_over_checkpoints_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = options().open(folder.path().join("data")).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    lobby.put("turn", "0").unwrap().wait().unwrap();
    let mut turns = 0;
    let at_line = || {
        turns += 1;
        for _ in 0..3 {
            lobby.put("turn", turns.to_string()).unwrap().wait().unwrap();
        }
        // What has come goes into pages before the follower looks again.
        store.steps().checkpoint().unwrap();
    };
    let mut head = Head { lines: 20, taken: Vec::new(), at_line };
    let data = folder.path().join("data");
    let words = ["dostore", "-C", data.to_str().unwrap(), "tail", "-f", "-n", "1"];
    let words = words.into_iter().chain(["--format", "jsonl", "--interval", "1ms"]);
    let mut errors = Vec::new();
    let stage = dostore::cli::Stage { out: &mut head, errors: &mut errors, now: None };
    assert_eq!(dostore::cli::call(words, stage), 0);
    assert!(errors.is_empty());
    let lines = String::from_utf8(head.taken).unwrap();
    let documents = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lsns: Vec<_> = documents.map(|it| it["lsn"].as_u64().unwrap()).collect();
    assert!(lsns.len() >= 20, "{lsns:?}");
    for pair in lsns.windows(2) {
        // The catalog has no commits here, so not one is left out.
        assert_eq!(pair[1], pair[0] + 1, "{lsns:?}");
    }
}

#[test]
fn what_commits_most_stands_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = options().open(folder.path().join("data")).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let (mut busy, mut calm) =
        (rooms.open_by_name("busy").unwrap(), rooms.open_by_name("calm").unwrap());
    calm.put("k", "v").unwrap().wait().unwrap();
    // From here on a reader sees that commit.
    store.steps().checkpoint().unwrap();
    let at_line = || {
        for _ in 0..5 {
            busy.put("k", "v").unwrap().wait().unwrap();
        }
        calm.put("k", "v").unwrap().wait().unwrap();
        store.steps().checkpoint().unwrap();
    };
    let mut head = Head { lines: 100, taken: Vec::new(), at_line };
    let data = folder.path().join("data");
    let words = ["dostore", "-C", data.to_str().unwrap(), "top", "--rounds", "1"];
    let words = words.into_iter().chain(["--json", "--interval", "1ms"]);
    let stage = dostore::cli::Stage { out: &mut head, errors: &mut io::sink(), now: None };
    assert_eq!(dostore::cli::call(words, stage), 0);
    let found: Value = serde_json::from_slice(&head.taken).unwrap();
    let shown: Vec<_> = items(&found).iter().map(|it| (&it["name"], &it["commits"])).collect();
    assert_eq!(shown, [(&"busy".into(), &5.into()), (&"calm".into(), &1.into())]);
}
