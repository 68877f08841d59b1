//! Verbs that tell the past of an object: `history`, `show`, `diff`, `bookmark`.

use super::stage::Stage;
use serde_json::{Value, json};

const LOBBY: &str = "rooms/lobby";

fn items(document: &Value) -> &[Value] {
    document["items"].as_array().unwrap()
}

#[test]
fn a_history_tells_each_commit_and_what_was_restored() {
    let stage = Stage::new();
    let history = stage.call(&["history", LOBBY, "--json"]).json();
    let shown: Vec<_> = items(&history).iter().map(|it| (&it["puts"], &it["deletes"])).collect();
    let counts = |puts: i32, deletes: i32| (json!(puts), json!(deletes));
    let expected = [counts(2, 0), counts(1, 3), counts(4, 0), counts(1, 0)];
    assert_eq!(shown.len(), 4);
    for (shown, expected) in shown.iter().zip(&expected).skip(2) {
        assert_eq!((shown.0, shown.1), (&expected.0, &expected.1), "{history}");
    }
    let restored = &items(&history)[1]["restored"];
    assert_eq!(restored["bookmark"], items(&history)[3]["bookmark"]);
    assert_eq!(restored["fork"], false);
    let text = stage.call(&["history", LOBBY]).text();
    let first = items(&history)[3]["bookmark"].as_str().unwrap();
    assert!(text.contains(&format!("restored to {}", &first[..17])), "{text}");
    assert!(text.lines().rev().nth(1).unwrap().contains('\u{2588}'), "a picture: {text}");
    let last = stage.call(&["history", LOBBY, "-n", "1"]).text();
    assert!(last.contains("earlier commits are not shown"), "{last}");
    let since = stage.call(&["history", LOBBY, "--since", "-8d 1h", "--json"]).json();
    assert_eq!(items(&since).len(), 2);
    let until = stage.call(&["history", LOBBY, "--at", "-8d 1h", "--json"]).json();
    assert_eq!(items(&until).len(), 2);
    let all = stage.call(&["history", LOBBY, "--since", "2001-01-01", "--json"]).json();
    assert_eq!(items(&all).len(), 4);
    assert_eq!(items(&stage.call(&["history", LOBBY, "--restores", "--json"]).json()).len(), 1);
    let gone = stage.call(&["history", "rooms/gone", "--json"]).json();
    assert_eq!(items(&gone).len(), 2, "of what was deleted too");
}

#[test]
fn a_commit_is_shown_with_what_it_changed() {
    let stage = Stage::new();
    let commit = stage.call(&["show", "rooms/lobby@-8d 1h", "--json"]).json();
    assert_eq!(commit["kind"], "commit");
    let changes = commit["changes"].as_array().unwrap();
    let topic = changes.iter().find(|change| change["key"] == "topic").unwrap();
    assert_eq!((&topic["change"], &topic["value"]), (&"put".into(), &"zig".into()));
    let alarm = changes.iter().find(|change| change["change"] == "set_alarm").unwrap();
    assert_eq!(alarm["time"], "2096-10-02T07:06:40Z");
    let shown = stage.call(&["show", "rooms/lobby@-7d 1h"]).text();
    assert!(shown.contains("\nrestore to ") && shown.contains("delete  visitor/"), "{shown}");
    let deleted = stage.call(&["show", "rooms/gone"]).text();
    assert!(deleted.contains("delete  everything"), "{deleted}");
    let before = stage.call(&["show", "rooms/lobby", "--at", "-20d"]);
    assert_eq!(before.code, 3, "{before:?}");
}

#[test]
fn a_difference_is_told_key_by_key_and_by_the_exit_code() {
    let stage = Stage::new();
    let diff = stage.call(&["diff", LOBBY, "-9d 1h..-8d 1h", "--json"]);
    assert_eq!(diff.code, 1, "{diff:?}");
    let found: Value = serde_json::from_str(&diff.out).unwrap();
    let kinds: Vec<_> = items(&found).iter().map(|it| it["change"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["added", "changed", "added", "added", "added"]);
    let topic = &items(&found)[1];
    assert_eq!((&topic["was"]["value"], &topic["is"]["value"]), (&"rust".into(), &"zig".into()));
    assert_eq!(items(&found)[4]["alarm"], "", "the alarm without a name");
    let same = stage.call(&["diff", LOBBY, "-1h..now"]);
    assert_eq!((same.code, &same.errors[..]), (0, ""));
    let back = stage.call(&["diff", LOBBY, "-8d 1h..-9d 1h"]);
    assert!(back.out.contains("0 added, 4 removed, 1 changed"), "{back:?}");
    for (words, form) in [(["diff", LOBBY, "..now"], "FROM..TO"), (["diff", "rooms", "-1d"], "NS/")]
    {
        let done = stage.call(&words);
        assert!(done.code == 2 && done.errors.contains(form), "{done:?}");
    }
}

#[test]
fn a_bookmark_names_the_moment_that_was_asked_for() {
    let stage = Stage::new();
    let then = stage.call(&["bookmark", LOBBY, "-8d 1h"]).text();
    let topic = stage.call(&["get", "rooms/lobby:topic", "--at", then.trim(), "--format", "raw"]);
    assert_eq!(topic.text(), "zig");
    let now = stage.call(&["bookmark", LOBBY, "--json"]).json();
    let whole = now["bookmark"].as_str().unwrap();
    assert!(whole.starts_with(now["short"].as_str().unwrap()) && *whole > *then);
    assert_eq!(now["lsn"], now["position"]);
    let ahead = stage.call(&["get", "rooms/lobby:topic", "--at", "00000099-00000000"]);
    assert_eq!(ahead.code, 3, "{ahead:?}");
}

#[test]
fn counts_and_the_greatest_values_are_told_as_of_then() {
    let stage = Stage::new();
    let stat = |words: &[&str]| stage.call(&[&["stat"][..], words, &["--json"]].concat()).json();
    assert_eq!(stat(&["rooms"])["objects"], 22);
    assert_eq!(stat(&["rooms", "--at", "-9d"])["objects"], 1);
    assert_eq!(stat(&["rooms@-9d"])["keys"]["sum"], 1);
    let lobby = stat(&[LOBBY, "--at", "-8d"]);
    assert_eq!((&lobby["keys"], &lobby["commits"]), (&json!(4), &json!(2)), "{lobby}");
    let great = |words: &[&str]| {
        let list = stage.call(&[&["bigkeys", "--limit", "1"][..], words, &["--json"]].concat());
        items(&list.json())[0]["key"].as_str().unwrap().to_owned()
    };
    assert_eq!(great(&["rooms"]), "claws");
    assert_eq!(great(&["rooms", "--at", "-9d"]), "topic");
    assert_eq!(great(&[LOBBY, "--at", "-8d"]), "visitor/ada");
    let told = stage.call(&["stat", "rooms", "--at", "-9d"]).text();
    assert!(told.contains("as of 2026-11-02"), "{told}");
}
