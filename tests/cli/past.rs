//! `--at` of a store, of namespaces and of commits: what there was then, what has no past, and what
//! history has let go of.

use super::stage::{Done, Stage, call, now, write_out};
use dostore::disk::sim::SimDisk;
use dostore::retention::Retention;
use dostore::store::Store;
use dostore::store::namespace::NamespaceOptions;
use serde_json::Value;
use std::time::Duration;

fn items(document: &Value) -> &[Value] {
    document["items"].as_array().unwrap()
}

fn json(done: Done) -> Value {
    done.json()
}

/// An LSN as tables show it.
fn short(lsn: &Value) -> String {
    let lsn = lsn.as_u64().unwrap();
    format!("{:08x}-{:08x}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

#[test]
fn a_store_and_its_namespaces_are_told_as_of_then() {
    let stage = Stage::new();
    let document = |words: &[&str]| json(stage.call(&[words, &["--json"]].concat()));
    let spaces = |at: &str| -> Vec<(String, u64)> {
        let list = document(&["ls", "--at", at]);
        let one =
            |it: &Value| (it["name"].as_str().unwrap().to_owned(), it["objects"].as_u64().unwrap());
        items(&list).iter().map(one).collect()
    };
    let of = |all: &[(&str, u64)]| -> Vec<(String, u64)> {
        all.iter().map(|(name, objects)| ((*name).to_owned(), *objects)).collect()
    };
    assert_eq!(spaces("-11d"), of(&[]));
    assert_eq!(spaces("-9d"), of(&[("rooms", 1)]));
    assert_eq!(spaces("-6d 12h"), of(&[("rooms", 23)]));
    assert_eq!(spaces("-5d"), of(&[("rooms", 22), ("users", 1)]));
    // Right after a commit of the store: by the bookmark of any object, or its first two parts.
    let commits = document(&["tail", "-n", "100"]);
    let gone = &items(&commits)[26];
    assert_eq!((&gone["ns"], &gone["deletes"]), (&"rooms".into(), &1.into()), "{gone}");
    for at in [gone["bookmark"].as_str().unwrap(), &short(&gone["lsn"])] {
        assert_eq!(spaces(at), of(&[("rooms", 22)]), "{at}");
        assert_eq!(document(&["stat", "--at", at])["objects"], 22);
        assert_eq!(items(&document(&["ls", "rooms", "--at", at])).len(), 22);
        assert_eq!(items(&document(&["alarms", "--at", at])).len(), 2);
        let great = document(&["bigkeys", "--at", at, "--limit", "1"]);
        assert_eq!((&items(&great)[0]["size"], &great["at_lsn"]), (&1900.into(), &gone["lsn"]));
        assert!(!stage.call(&["dump", "--at", at]).text().contains("users"));
    }
    for at in ["-9d", "-6d 12h", "-5d"] {
        let (list, whole) = (document(&["ls", "--at", at]), document(&["inspect", "--at", at]));
        assert_eq!(list["items"], whole["namespaces"], "{at}");
        assert!(whole.get("bytes").is_none() && whole.get("files").is_none(), "{whole}");
        let rooms = document(&["inspect", "rooms", "--at", at]);
        for field in ["objects", "keys", "content_bytes", "alarms"] {
            assert_eq!(rooms[field], items(&list)[0][field], "{field} at {at}");
        }
        let counted = document(&["stat", "rooms", "--at", at]);
        assert_eq!(rooms["content_bytes"], counted["bytes"]["sum"]);
        assert_eq!(rooms["greatest"][0]["bytes"], counted["bytes"]["most"]);
    }
    let told = stage.call(&["inspect", "--at", "-9d"]).text();
    assert!(told.contains("as of 2026-11-02") && told.contains("have no past"), "{told}");
}

#[test]
fn the_last_commits_up_to_a_moment_are_those_up_to_it() {
    let stage = Stage::new();
    let tail = |words: &[&str]| -> Vec<Value> {
        stage.call(&[&["tail", "--format", "jsonl"], words].concat()).lines()
    };
    let all = tail(&["-n", "100"]);
    let lsns = |commits: &[Value]| -> Vec<u64> {
        commits.iter().map(|it| it["lsn"].as_u64().unwrap()).collect()
    };
    for (at, commit) in all.iter().enumerate() {
        let last = lsns(&all[(at + 1).saturating_sub(3)..=at]);
        assert_eq!(lsns(&tail(&["-n", "3", "--at", &short(&commit["lsn"])])), last);
        let whole = commit["bookmark"].as_str().unwrap();
        assert_eq!(lsns(&tail(&["-n", "3", "--at", whole])), last);
        let time = commit["time"].as_str().unwrap();
        let by_then = all.iter().rposition(|other| other["time"] == time).unwrap();
        let last = lsns(&all[(by_then + 1).saturating_sub(3)..=by_then]);
        assert_eq!(lsns(&tail(&["-n", "3", "--at", time])), last, "{time}");
    }
    assert_eq!(lsns(&tail(&["rooms/lobby@-8d 1h"])), lsns(&all[..2]));
    assert_eq!(
        lsns(&tail(&["rooms/lobby", "--at", all[1]["bookmark"].as_str().unwrap()])).len(),
        2
    );
    assert_eq!(tail(&["users", "--at", "-6d"]).len(), 0);
    let before = stage.call(&["tail", "--at", "-11d"]).text();
    assert!(before.starts_with("no commits\nas of 2026-10-31"), "{before}");
    // An object that is not there is told with the nearest.
    let wrong = stage.call(&["tail", "rooms/loby"]);
    assert!(wrong.code == 3 && wrong.errors.contains("\"rooms/lobby\""), "{wrong:?}");
}

#[test]
fn what_has_no_past_says_so_and_what_is_of_another_store_is_refused() {
    let stage = Stage::new();
    for (words, told) in [
        (&["inspect", "MANIFEST", "--at", "-1d"][..], "no past"),
        (&["verify", "--at", "-1d"], "no past"),
        (&["salvage", "-o", "x", "--at", "-1d"], "no past"),
        (&["segments", "--at=-1d"], "no past"),
        (&["debug", "wal", "--at", "-1d"], "no past"),
        (&["top", "--at", "-1d"], "tail --at"),
        (&["diff", "rooms/lobby", "--at", "-1d"], "FROM..TO"),
        (&["restore", "rooms/lobby", "--at", "-1d"], "--to"),
        (&["tail", "-f", "--at", "-1d"], "--follow"),
        (&["tail", "rooms@-1d", "-f"], "leave out -f"),
        (&["ls", "--after", "rooms"], "need one"),
        (&["restore", "rooms", "--to", "00000000-00000001"], "-15m"),
    ] {
        let done = stage.call(words);
        assert!(done.code == 2 && done.out.is_empty(), "{words:?}: {done:?}");
        assert!(done.errors.contains(told), "{words:?}: {done:?}");
    }
    let foreign = "00000000-01000002-00000001-0c3e87bb37b3db5cc52eedb93cd3b96b";
    let ahead = "00000099-00000000";
    for words in [&["ls"][..], &["ls", "rooms"], &["inspect"], &["inspect", "rooms"], &["tail"]] {
        let done = stage.call(&[words, &["--at", foreign]].concat());
        assert!(done.code == 2 && done.out.is_empty(), "{words:?}: {done:?}");
        let done = stage.call(&[words, &["--at", ahead]].concat());
        assert!(done.code == 3 && done.out.is_empty(), "{words:?}: {done:?}");
    }
}

#[test]
fn a_namespace_whose_history_is_not_kept_is_told_beside_the_others() {
    let disk = SimDisk::new(3);
    disk.set_wall(now().0 - 86_400_000_000);
    let store = super::stage::options().threads(false).open_on(disk.clone()).unwrap();
    let off = || NamespaceOptions::new().retention(Retention::Off);
    let (rooms, cache) =
        (store.namespace("rooms").unwrap(), store.namespace_with("cache", off()).unwrap());
    let still = store.namespace_with("still", off()).unwrap();
    let put = |space: &dostore::store::namespace::Namespace, name: &str| {
        space.open_by_name(name).unwrap().put("k", "v").unwrap().wait().unwrap();
    };
    // What is there has not changed since, but what else was there nobody knows.
    put(&still, "one");
    for name in ["one", "two"] {
        put(&rooms, name);
        put(&cache, name);
        store.steps().checkpoint().unwrap();
        disk.advance(Duration::from_hours(1));
    }
    drop((rooms, cache, still));
    store.close().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_out(&disk, &data);
    for verb in ["ls", "inspect"] {
        let done = call(&data, &[verb, "--at", "-23h 30m", "--json"]);
        assert!(done.code == 6 && done.errors.is_empty(), "{done:?}");
        let document: Value = serde_json::from_str(&done.out).unwrap();
        let spaces = document.get("items").unwrap_or(&document["namespaces"]);
        assert_eq!((&spaces[0]["name"], &spaces[0]["objects"]), (&"rooms".into(), &1.into()));
        assert_eq!((&spaces[1]["name"], &spaces[1]["objects"]), (&"cache".into(), &Value::Null));
        let told = call(&data, &[verb, "--at", "-23h 30m"]).out;
        assert!(told.contains("cache      history is not kept"), "{told}");
        // Of now all is known.
        assert_eq!(call(&data, &[verb, "--at", "now"]).code, 0);
    }
    let lists: [&[&str]; 5] =
        [&["ls", "cache"], &["inspect", "cache"], &["stat", "cache"], &["ls", "still"], &["stat"]];
    for words in lists {
        let done = call(&data, &[words, &["--at", "-23h 30m"]].concat());
        assert!(done.code == 6 && done.errors.contains("history"), "{done:?}");
    }
    // Commits behind the checkpoint would be shown; of those before it, it is said.
    let tail = json(call(&data, &["tail", "cache", "--json"]));
    assert_eq!((items(&tail).len(), tail["unkept_to"].is_u64()), (0, true), "{tail}");
}

#[test]
fn the_last_commits_are_shown_as_far_as_they_are_kept_or_it_is_said_why_not() {
    let mut seen = [0; 3];
    for bytes in [1, 10 << 10, 16 << 10, 40 << 10] {
        let disk = SimDisk::new(bytes);
        let kept = Retention::Keep { age: Duration::from_hours(24), bytes: Some(bytes) };
        let options = Store::options().threads(false).wal_file_bytes(64 << 10).retention(kept);
        let options = options.epoch(Duration::ZERO, 1 << 10, Duration::from_hours(1));
        let store = options.open_on(disk.clone()).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let folder = tempfile::tempdir().unwrap();
        for round in 0..6 {
            for number in 0..10 {
                let mut room = rooms.open_by_name(&format!("room {number}")).unwrap();
                room.put("k", vec![round; 200]).unwrap().wait().unwrap();
            }
            store.steps().checkpoint().unwrap();
            store.steps().expire().unwrap();
            // Right here the log holds no commit that pages do not.
            let data = folder.path().join(format!("{bytes} {round}"));
            write_out(&disk, &data);
            let done = call(&data, &["tail", "-n", "3"]);
            let tail = json(call(&data, &["tail", "-n", "3", "--json"]));
            let (last, unkept) = (tail["position"].as_u64().unwrap(), tail["unkept_to"].as_u64());
            let shown: Vec<_> = items(&tail).iter().map(|it| it["lsn"].as_u64().unwrap()).collect();
            let of_one = json(call(&data, &["tail", "rooms/room 9", "-n", "2", "--json"]));
            if shown.is_empty() {
                assert_eq!(unkept, Some(last), "{tail}");
                assert!(done.out.contains("history has let go of them"), "{done:?}");
                assert_eq!(of_one["unkept_to"], last, "{of_one}");
                seen[0] += 1;
                continue;
            }
            assert_eq!((shown, unkept), (vec![last - 2, last - 1, last], None), "{tail}");
            assert_eq!(items(&of_one).last().unwrap()["lsn"], last, "{of_one}");
            // What the look of one object is short of has expired, and it is said up to where.
            let missing = of_one["unkept_to"].as_u64();
            let is_all = items(&of_one).len() == 2 || round == 0;
            assert_eq!(is_all, missing.is_none(), "{of_one}");
            seen[if is_all { 1 } else { 2 }] += 1;
        }
    }
    assert!(seen.iter().all(|cases| *cases > 0), "{seen:?}");
}

#[test]
fn what_was_purged_is_no_commit_any_more() {
    let disk = SimDisk::new(5);
    let store = super::stage::options().threads(false).open_on(disk.clone()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let folder = tempfile::tempdir().unwrap();
    rooms.open_by_name("other").unwrap().put("k", "v").unwrap().wait().unwrap();
    store.steps().checkpoint().unwrap();
    for round in 0..2 {
        for _ in 0..3 {
            rooms.open_by_name("secret").unwrap().put("k", "v").unwrap().wait().unwrap();
        }
        if round == 1 {
            store.steps().checkpoint().unwrap();
        }
        rooms.purge(rooms.id_from_name("secret")).unwrap().wait().unwrap();
        store.steps().write_mark().unwrap();
        let data = folder.path().join(format!("{round}"));
        write_out(&disk, &data);
        let tail = json(call(&data, &["tail", "rooms/secret", "--json"]));
        let deletes: Vec<_> = items(&tail).iter().map(|it| &it["deletes"]).collect();
        assert_eq!(deletes, [1], "the purge alone: {tail}");
        let purge = items(&tail)[0]["lsn"].as_u64().unwrap();
        assert_eq!(tail["unkept_to"], purge - 1, "{tail}");
    }
}
