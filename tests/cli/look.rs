//! Verbs that look: what they show, what they refuse, and that they change nothing.

use super::stage::{Stage, call, contents};

#[test]
fn no_verb_that_looks_changes_a_byte_of_the_store() {
    let stage = Stage::new();
    let before = contents(&stage.store());
    for words in super::help::examples() {
        super::help::call_example(&stage, &words);
    }
    assert!(contents(&stage.store()) == before);
}

#[test]
fn what_is_not_there_is_told_with_the_nearest_that_is() {
    let stage = Stage::new();
    for (words, near) in [
        (&["get", "room/lobby:topic"][..], "\"rooms\""),
        (&["get", "lobby"], "get lobby:KEY"),
        (&["keys", "rooms/loby"], "\"rooms/lobby\""),
        (&["get", "rooms/lobby:topik"], "\"topic\""),
        (&["inspect", "lobby"], "\"rooms/lobby\""),
        (&["history", "users/a%3Ab%40d"], "\"users/a%3Ab%40c\""),
        (&["keys", "rooms/gone"], "dostore history"),
        (&["keys", "rooms/lobby", "--at", "-11d"], "held nothing then"),
        (&["man", "histori"], "is history meant"),
        (&["tail", "rooms/loby"], "\"rooms/lobby\""),
        (&["alarms", "rooms/loby"], "\"rooms/lobby\""),
        (&["bigkeys", "rooms/loby"], "\"rooms/lobby\""),
        (&["stat", "rooms/loby"], "\"rooms/lobby\""),
        (&["show", "rooms/loby"], "\"rooms/lobby\""),
        (&["bookmark", "rooms/loby"], "\"rooms/lobby\""),
        (&["diff", "rooms/loby", "-1d"], "\"rooms/lobby\""),
        (&["dump", "rooms/loby"], "\"rooms/lobby\""),
        (&["restore", "rooms/loby", "--to", "-1d"], "\"rooms/lobby\""),
        (&["restore", "room", "--to", "-1d"], "\"rooms\""),
        (&["undo", "rooms/loby"], "\"rooms/lobby\""),
        (&["fork", "rooms/loby", "rooms/copy"], "\"rooms/lobby\""),
        (&["fork", "rooms/lobby", "room/copy"], "\"rooms\""),
        (&["put", "room/lobby:k", "v"], "\"rooms\""),
        (&["rm", "rooms/lobby:topik"], "\"topic\""),
        (&["delete", "rooms/loby"], "\"rooms/lobby\""),
        (&["purge", "rooms/loby"], "\"rooms/lobby\""),
        (&["inspect", "room", "--at", "-1d"], "\"rooms\""),
        (&["ls", "room", "--at", "-1d"], "\"rooms\""),
        (&["tail", "room", "--at", "-1d"], "\"rooms\""),
    ] {
        let done = stage.call(words);
        let is_usage = near.starts_with("get") || words[0] == "man";
        assert_eq!(done.code, if is_usage { 2 } else { 3 }, "{words:?}: {done:?}");
        assert!(done.errors.contains(near) && done.out.is_empty(), "{words:?}: {done:?}");
        assert!(done.errors.starts_with("dostore: ") && done.errors.lines().count() == 1);
    }
}

#[test]
fn an_error_of_the_store_ends_with_its_code() {
    let stage = Stage::new();
    let long = "k".repeat(3_000);
    let done = stage.call(&["put", &format!("rooms/lobby:{long}"), "v"]);
    assert!(done.errors.ends_with(" [limit.key]\n"), "{}", done.errors);
    let nowhere = call(&stage.copies().join("nowhere"), &["ls"]);
    assert!(nowhere.errors.ends_with(" [store.missing]\n"), "{nowhere:?}");
}

#[test]
fn wrong_usage_names_the_right_form() {
    let stage = Stage::new();
    for (words, form) in [
        (&["keys", "rooms"][..], "NS/NAME"),
        (&["get", "rooms/"], "NS/NAME:KEY"),
        (&["get", "rooms/%4:x"], "%25"),
        (&["get", "rooms/~xyz:k"], "hex digits"),
        (&["get", "rooms/lobby:topic", "--at", "soon"], "yesterday 14:00"),
        (&["get", "rooms/lobby:topic@-1d", "--at", "-1d"], "leave out --at"),
        (&["ls", "rooms", "--format", "raw"], "csv"),
        (&["keys", "rooms/lobby", "--json", "--format", "csv"], "--format"),
        (&["verify", "--format", "csv"], "json"),
        (&["ls", "rooms", "--limit", "x"], "--limit"),
        (&["inspect", "rooms", "--at", "soon"], "yesterday 14:00"),
        (&["lss"], "ls"),
    ] {
        let done = stage.call(words);
        assert_eq!(done.code, 2, "{words:?}: {done:?}");
        assert!(done.errors.contains(form) && done.out.is_empty(), "{words:?}: {done:?}");
    }
    let foreign = stage.call(&["inspect", "rooms/lobby", "--json"]).json()["bookmark"].clone();
    let done = stage.call(&["get", "rooms/lobster 3:claws", "--at", foreign.as_str().unwrap()]);
    assert_eq!(done.code, 2, "a bookmark of another object: {done:?}");
}

#[test]
fn objects_are_listed_piece_by_piece_and_by_the_beginnings_of_names() {
    let stage = Stage::new();
    let all = stage.call(&["ls", "rooms", "--format", "jsonl"]).lines();
    assert_eq!(all.len(), 22);
    let ids = |list: &[serde_json::Value]| -> Vec<String> {
        list.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(ids(&all).is_sorted());
    let mut pieces = Vec::new();
    let mut after = String::new();
    loop {
        let mut words = vec!["ls", "rooms", "--json", "--limit", "5"];
        words.extend(if after.is_empty() { vec![] } else { vec!["--after", &after] });
        let piece = stage.call(&words).json();
        assert_eq!((&piece["schema"], &piece["kind"]), (&"dostore/1".into(), &"objects".into()));
        let items = piece["items"].as_array().unwrap();
        assert!(items.len() <= 5);
        pieces.extend(items.clone());
        match piece["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(ids(&pieces), ids(&all));
    let lobsters = stage.call(&["ls", "rooms/lobster", "--json"]).json();
    assert_eq!(lobsters["items"].as_array().unwrap().len(), 20);
    let shown = stage.call(&["ls", "rooms/lob", "--limit", "2"]).text();
    assert!(shown.starts_with("NAME") && shown.contains("more: --after rooms/~"), "{shown}");
    assert!(shown.lines().last().unwrap().starts_with("as of commit "), "{shown}");
    let csv = stage.call(&["ls", "users", "--format", "csv"]).text();
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].starts_with("ns,name,id,keys,bytes") && lines[1].starts_with("users,a:b@c,"));
}

#[test]
fn a_list_as_of_a_time_has_what_was_there_then() {
    let stage = Stage::new();
    let names = |at: &str| -> Vec<String> {
        let listed = stage.call(&["ls", "rooms", "--at", at, "--format", "jsonl"]).lines();
        let mut names: Vec<_> =
            listed.iter().filter_map(|it| it["name"].as_str()).map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names("-9d 1h"), ["lobby"]);
    assert!(names("-6d 1h").contains(&"gone".to_owned()));
    assert!(!names("-5d 1h").contains(&"gone".to_owned()));
    let then = stage.call(&["ls", "rooms@-8d 1h", "--json"]).json();
    assert_eq!((&then["items"][0]["keys"], &then["items"][0]["bytes"]), (&4.into(), &57.into()));
}

#[test]
fn values_are_read_at_any_moment_and_in_any_form() {
    let stage = Stage::new();
    let topic = |at: &str| stage.call(&["get", "rooms/lobby:topic", "--at", at, "--format", "raw"]);
    for (at, value) in [("-9d 1h", "rust"), ("-8d 1h", "zig"), ("-7d 1h", "rust"), ("now", "rust")]
    {
        assert_eq!(topic(at).text(), value, "{at}");
    }
    assert_eq!(topic("2026-11-02T12:00:00Z").text(), "zig");
    let history = stage.call(&["history", "rooms/lobby", "--json"]).json();
    let second = history["items"][2]["bookmark"].as_str().unwrap();
    assert_eq!(topic(second).text(), "zig");
    assert_eq!(topic(&second[..17]).text(), "zig");
    let at = format!("rooms/lobby:topic@{}", &second[..17]);
    assert_eq!(stage.call(&["get", &at, "--format", "raw"]).text(), "zig");
    let shown = stage.call(&["get", "rooms/lobby:topic"]).text();
    let (head, value) = shown.split_once('\n').unwrap();
    assert!(head.starts_with("rooms/lobby:topic  utf8  4 B  as of commit "), "{shown}");
    assert_eq!(value, "rust\n");
    let cbor = stage.call(&["get", "rooms/lobby@-8d 1h", "visitor/bob", "--json"]).json();
    assert_eq!((&cbor["form"], &cbor["value"]), (&"cbor".into(), &serde_json::json!({ "n": 1 })));
    for field in ["schema", "kind", "position", "position_time", "ns", "name", "id", "codec"] {
        assert!(!cbor[field].is_null(), "{field} in {cbor}");
    }
    let hex = stage.call(&["get", "rooms/lobby@-8d 1h", "visitor/bob", "--value", "hex"]).text();
    assert_eq!(hex.lines().last(), Some("a1616e01"));
    let odd = stage.call(&["get", "rooms/lobby@-8d 1h", "%00%FF%25", "--format", "raw"]);
    assert_eq!(odd.text(), "odd");
    let mail = stage.call(&["get", "users/a%3Ab%40c:mail%40home", "--format", "raw"]);
    assert_eq!(mail.text(), "x");
}

#[test]
fn keys_are_listed_with_their_values_and_printed_so_that_they_read_back() {
    let stage = Stage::new();
    let object = "rooms/lobby@-8d 1h";
    let keys = stage.call(&["keys", object, "--format", "jsonl"]).lines();
    let named: Vec<_> = keys.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(named, ["%00%FF%25", "topic", "visitor/ada", "visitor/bob"]);
    assert_eq!(keys[2]["value"], serde_json::json!({ "since": "09:15" }));
    for key in named {
        stage.call(&["get", object, key, "--format", "raw"]).text();
    }
    let page = stage.call(&["keys", object, "visitor/", "--limit", "1", "--json"]).json();
    assert_eq!(page["next"], "visitor/ada");
    let rest = stage.call(&["keys", object, "--after", "visitor/ada", "--value", "none"]).text();
    assert!(rest.contains("visitor/bob") && !rest.contains("visitor/ada"), "{rest}");
}

#[test]
fn objects_are_found_by_the_beginning_of_their_ids() {
    let stage = Stage::new();
    let card = stage.call(&["inspect", "rooms/lobby", "--json"]).json();
    let id = card["id"].as_str().unwrap();
    for digits in [8, 32, 64] {
        let found = stage.call(&["inspect", &format!("rooms/~{}", &id[..digits]), "--json"]).json();
        assert_eq!((&found["name"], &found["keys"]), (&"lobby".into(), &2.into()));
    }
    let none = stage.call(&["inspect", "rooms/~00000000000000"]);
    assert_eq!(none.code, 3, "{none:?}");
    let all = stage.call(&["ls", "rooms", "--format", "jsonl"]).lines();
    let first: Vec<_> = all.iter().map(|it| it["id"].as_str().unwrap().chars().next()).collect();
    let twice = first.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].unwrap();
    let done = stage.call(&["inspect", &format!("rooms/~{twice}")]);
    assert!(done.code == 2 && done.errors.contains("write more digits"), "{done:?}");
}

#[test]
fn a_card_has_all_that_is_known_of_an_object() {
    let stage = Stage::new();
    let shown = stage.call(&["inspect", "rooms/lobby"]).text();
    for part in ["2 keys", "alarm", "\"late\"", "bookmark", "GREATEST KEYS", "as of commit"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let space = stage.call(&["inspect", "rooms", "--json"]).json();
    assert_eq!((&space["kind"], &space["objects"]), (&"namespace".into(), &22.into()));
    let spaces = stage.call(&["ls", "--json"]).json();
    assert_eq!(spaces["items"][1]["name"], "users");
}

#[test]
fn a_namespace_is_inspected_with_its_greatest_objects() {
    let stage = Stage::new();
    let shown = stage.call(&["inspect", "rooms"]).text();
    let rows: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("GREATEST")).collect();
    assert!(rows.len() == 11 && rows[1].starts_with("rooms/lobster 19 "), "{shown}");
    let great = stage.call(&["inspect", "rooms", "--json"]).json()["greatest"].clone();
    assert_eq!(
        (&great[0]["name"], &great[0]["keys"]),
        (&"lobster 19".into(), &1.into()),
        "{great}"
    );
}
