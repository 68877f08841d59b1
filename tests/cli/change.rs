//! The verbs that change something: on a store that nobody has open, on one that is open and
//! listens to operators, and on one that is open and does not.

use super::stage::{Done, Stage, options};
use dostore::store::Store;
use std::path::Path;

/// A word that stands for a file or folder beside the store.
fn words(stage: &Stage, words: &[&str]) -> Vec<String> {
    let place = |word: &&str| match word.strip_prefix("copies/") {
        Some(leaf) => stage.copies().join(leaf).to_string_lossy().into_owned(),
        None => (*word).to_owned(),
    };
    words.iter().map(place).collect()
}

fn call(stage: &Stage, line: &[&str]) -> Done {
    let line = words(stage, line);
    stage.call(&line.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What changes the store, one after the other: each verb, with and without consent. `THEN` is a
/// time before all of them.
const CHANGES: &[&[&str]] = &[
    &["put", "rooms/lobby:topic", "gleam"],
    &["put", "rooms/lobby:n", "1", "--codec", "json"],
    &["put", "new/one:k", "v", "--create"],
    &["put", "users/last:k", "soon gone"],
    &["rm", "rooms/lobby:topic", "--yes"],
    &["rm", "rooms/lobby", "n"],
    &["restore", "rooms/lobby", "--to", "THEN", "--yes"],
    &["undo", "rooms/lobby", "--yes"],
    &["undo", "rooms/lobby"],
    &["fork", "rooms/lobby@THEN", "rooms/then"],
    &["delete", "rooms/lobster 3", "--yes"],
    &["delete", "rooms/lobster 4"],
    &["purge", "rooms/lobster 5", "--yes"],
    &["purge", "rooms/lobster 6"],
    &["load", "copies/in.jsonl", "--existing", "replace", "--yes"],
    &["backup", "copies/backup", "--copy", "--verify"],
    &["compact"],
    &["scrub"],
    &["restore", "rooms", "--to", "THEN"],
    &["restore", "--all", "--to", "THEN"],
    &["restore", "users", "--to", "THEN", "--yes"],
];

/// The present time, as the command reads it.
fn clock() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let micros = i64::try_from(since.as_micros()).unwrap();
    jiff::Timestamp::from_microsecond(micros).unwrap().to_string()
}

/// Makes what the changes need; gives a time behind that and before them. What is read of the past
/// from there on is of the open epoch, which stays however full the file system is.
fn prepare(stage: &Stage) -> String {
    let lobster = stage.call(&["dump", "rooms/lobster 7"]).text();
    std::fs::write(stage.copies().join("in.jsonl"), lobster).unwrap();
    stage.call(&["compact"]).text();
    let before = clock();
    stage.call(&["put", "rooms/lobby:epoch", "new"]).text();
    stage.call(&["restore", "rooms/lobby", "--to", &before, "--yes"]).text();
    stage.call(&["put", "users/a%3Ab%40c:epoch", "new"]).text();
    let then = clock();
    while clock() == then {}
    then
}

fn change(stage: &Stage, line: &[&str], then: &str) -> Done {
    let line: Vec<_> = line.iter().map(|word| word.replace("THEN", then)).collect();
    call(stage, &line.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Makes every change, and gives what the store holds then.
fn change_all(stage: &Stage, then: &str) -> String {
    for line in CHANGES {
        let done = change(stage, line, then);
        assert!(done.code == 0 && done.errors.is_empty(), "{line:?}: {done:?}");
    }
    let shown = stage.call(&["dump"]).text();
    assert!(!shown.contains("soon gone"), "the last change shows at once");
    shown
}

#[test]
fn each_verb_does_the_same_on_a_free_store_and_on_one_that_listens() {
    let free = Stage::new();
    let then = prepare(&free);
    let alone = change_all(&free, &then);
    let held = Stage::new();
    let then = prepare(&held);
    let store = options().admin(true).open(held.store()).unwrap();
    let beside = change_all(&held, &then);
    assert!(alone == beside, "{alone}\n{beside}");
    assert!(alone.contains("\"then\"") && !alone.contains("lobster 3"), "{alone}");
    assert!(alone.contains("lobster 4") && !alone.contains("lobster 5"), "{alone}");
    assert!(store.stats().unwrap().commits > 8, "they went through this process");
    store.close().unwrap();
    for stage in [free, held] {
        assert_eq!(stage.call(&["verify", "--deep"]).code, 0);
        assert_eq!(super::stage::call(&stage.copies().join("backup"), &["verify"]).code, 0);
    }
}

#[test]
fn a_store_that_is_open_and_does_not_listen_is_left_alone() {
    let stage = Stage::new();
    let then = prepare(&stage);
    let store = options().open(stage.store()).unwrap();
    let commits = store.stats().unwrap().commits;
    for line in CHANGES {
        let done = change(&stage, line, &then);
        let is_dry = ["rm", "restore", "undo", "delete", "purge"].contains(&line[0])
            && !line.contains(&"--yes");
        // Of these one needs what another has made.
        let is_right = if is_dry { done.code == 0 || done.code == 3 } else { done.code == 5 };
        assert!(is_right, "{line:?}: {done:?}");
        let holder = format!("process {}", std::process::id());
        let is_named = done.errors.contains(&holder) && done.errors.contains("Options::admin");
        assert!(is_dry || is_named, "{line:?}: {done:?}");
    }
    assert_eq!(store.stats().unwrap().commits, commits);
    assert!(!stage.call(&["dump", "rooms/lobby"]).text().is_empty());
}

#[test]
fn a_dry_run_changes_no_byte_and_says_what_it_would_do() {
    let stage = Stage::new();
    let before = super::stage::contents(&stage.store());
    let shown = stage.call(&["restore", "rooms/lobby", "--to", "-8d12h"]).text();
    assert!(shown.contains("would restore rooms/lobby to commit"), "{shown}");
    assert!(shown.contains("keys 2 -> 4: +2 -0 ~2"), "{shown}");
    assert!(shown.contains("alarms stay: in 25528 d, late 10 d ago"), "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(
        last.starts_with("dry run; to do it:  dostore -C ") && last.ends_with("--yes"),
        "{last}"
    );
    let shown = stage.call(&["restore", "rooms", "--to", "-8d12h"]).text();
    assert!(shown.contains("22 objects -> 1: +0 -21 ~1"), "{shown}");
    for line in CHANGES.iter().filter(|line| !line.contains(&"--yes")) {
        if ["rm", "restore", "undo", "delete", "purge"].contains(&line[0]) {
            let shown = change(&stage, line, "2026-11-03");
            // Of these one needs what another has made.
            assert!(shown.out.contains("dry run") || shown.code == 3, "{line:?}: {shown:?}");
        }
    }
    assert!(super::stage::contents(&stage.store()) == before);
}

/// The words of a command that was printed, behind the store's folder.
fn printed(text: &str, mark: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.split_once(mark)).unwrap().1.trim();
    let words = line.split_whitespace().skip(3);
    words.map(|word| word.trim_matches('\'').to_owned()).collect()
}

#[test]
fn what_is_printed_undoes_what_was_done() {
    let stage = Stage::new();
    let before = stage.call(&["dump", "rooms/lobby"]).text();
    let lines: [(&[&str], &str); 5] = [
        (&["put", "rooms/lobby:topic", "gleam"], "undo:"),
        (&["rm", "rooms/lobby:topic", "--yes"], "undo:"),
        (&["restore", "rooms/lobby", "--to", "-8d12h", "--yes"], "undo:"),
        (&["restore", "rooms/lobby", "--to", "-8d12h", "--yes"], "  or:"),
        (&["restore", "rooms", "--to", "-8d12h", "--yes"], "since:"),
    ];
    for (line, mark) in lines {
        let text = stage.call(line).text();
        assert!(stage.call(&["dump", "rooms/lobby"]).text() != before, "{line:?}");
        let undo = printed(&text, mark);
        stage.call(&undo.iter().map(String::as_str).collect::<Vec<_>>()).text();
        assert_eq!(stage.call(&["dump", "rooms/lobby"]).text(), before, "{line:?}: {undo:?}");
    }
    // The same from what a dry run prints.
    let dry = stage.call(&["restore", "rooms/lobby", "--to", "-8d12h"]).text();
    let words = printed(&dry, "to do it:");
    stage.call(&words.iter().map(String::as_str).collect::<Vec<_>>()).text();
    assert!(stage.call(&["get", "rooms/lobby:topic"]).text().contains("zig"));
    let deleted = stage.call(&["delete", "rooms/lobby", "--yes"]).text();
    assert_eq!(stage.call(&["get", "rooms/lobby:topic"]).code, 3);
    let undo = printed(&deleted, "undo:");
    stage.call(&undo.iter().map(String::as_str).collect::<Vec<_>>()).text();
    assert!(stage.call(&["get", "rooms/lobby:topic"]).text().contains("zig"));
    let purged = stage.call(&["purge", "rooms/lobby", "--yes"]).text();
    assert!(purged.contains("no way back") && !purged.contains("undo:"), "{purged}");
    assert_eq!(stage.call(&["restore", "rooms/lobby", "--to", "-8d"]).code, 6);
}

#[test]
fn a_load_of_a_dump_gives_an_equal_store() {
    let stage = Stage::new();
    let text = stage.call(&["dump"]).text();
    let folder = stage.copies();
    let file = |leaf: &str| folder.join(leaf).to_string_lossy().into_owned();
    std::fs::write(file("all.jsonl"), &text).unwrap();
    let wrote = stage.call(&["dump", "--compact", "-o", &file("all.dump")]).text();
    assert!(wrote.starts_with("wrote 23 objects"), "{wrote}");
    assert_eq!(stage.call(&["dump", "-o", &file("all.dump")]).code, 1, "it is there already");
    for form in ["all.jsonl", "all.dump"] {
        let other = folder.join(format!("{form} store"));
        let loaded = super::stage::call(&other, &["load", &file(form)]).text();
        assert!(loaded.starts_with("loaded 23 objects"), "{loaded}");
        assert!(super::stage::call(&other, &["dump"]).text() == text, "{form}");
        let again = super::stage::call(&other, &["load", &file(form)]);
        assert_eq!(again.code, 1, "{again:?}");
        assert_eq!(super::stage::call(&other, &["verify", "--deep"]).code, 0);
    }
    // What an object was is dumped as it was.
    let then = stage.call(&["dump", "rooms/lobby@-9d12h"]).text();
    assert!(then.contains(r#"{"key":"topic","value":"rust"}"#), "{then}");
    assert_eq!(stage.call(&["dump", "rooms", "--at", "-9d12h"]).text(), then);
}

#[test]
fn wrong_calls_name_the_right_form() {
    let stage = Stage::new();
    for (line, code, says) in [
        (&["restore", "rooms/lobby"][..], 2, "--to"),
        (&["restore", "--to", "-1d"], 2, "--all"),
        (&["restore", "rooms/lobby:topic", "--to", "-1d"], 2, "leave out the key"),
        (&["restore", "rooms/lobbi", "--to", "-1d"], 3, "rooms/lobby"),
        (&["restore", "romms", "--to", "-1d"], 3, "rooms"),
        (&["undo", "rooms/lobster 1"], 3, "no restoration"),
        (&["put", "rooms/lobby", "x"], 2, "put rooms/lobby:KEY"),
        (&["put", "romms/lobby:k", "x"], 3, "romms"),
        (&["put", "rooms/lobby:k", "{", "--codec", "json"], 2, "JSON"),
        (&["put", "rooms/lobby:k"], 2, "<VALUE>"),
        (&["rm", "rooms/lobby:topik"], 3, "topic"),
        (&["rm", "rooms/lobby"], 2, "which key"),
        (&["delete", "rooms/gone"], 3, "holds nothing"),
        (&["purge", "rooms/never"], 3, "there is no object"),
        (&["fork", "rooms/lobby", "rooms/lobster 1"], 1, "has content"),
        (&["load", "nowhere.jsonl"], 1, "nowhere.jsonl"),
        (&["load", "x", "--existing", "replace"], 2, "--yes"),
    ] {
        let done = stage.call(line);
        assert_eq!(done.code, code, "{line:?}: {done:?}");
        assert!(done.errors.contains(says), "{line:?}: {done:?}");
    }
    let none = super::stage::call(Path::new("nowhere"), &["put", "a/b:c", "d"]);
    assert_eq!(none.code, 3, "{none:?}");
}

#[test]
fn programs_are_told_what_was_done_and_how_it_is_undone() {
    let stage = Stage::new();
    let dry = stage.call(&["restore", "rooms/lobby", "--to", "-8d12h", "--json"]).json();
    assert_eq!((&dry["kind"], &dry["done"]), (&"restoration".into(), &false.into()));
    assert_eq!(
        (&dry["added"], &dry["removed"], &dry["changed"]),
        (&2.into(), &0.into(), &2.into())
    );
    let to = dry["to"].as_str().unwrap();
    let done = stage.call(&["restore", "rooms/lobby", "--to", to, "--yes", "--json"]).json();
    assert_eq!((&done["done"], &done["to"]), (&true.into(), &dry["to"]));
    assert!(done["undo"].as_str().is_some() && done["lsn"].as_u64().is_some(), "{done}");
    let put = stage.call(&["put", "rooms/lobby:k", "v", "--json"]).json();
    assert_eq!(
        (&put["ns"], &put["name"], &put["key"]),
        (&"rooms".into(), &"lobby".into(), &"k".into())
    );
    let bench = stage.call(&["bench", "--seconds", "0", "--json"]).json();
    assert!(bench["commit_us"]["p50"].as_u64().unwrap() > 0, "{bench}");
    let left: Vec<_> = std::fs::read_dir(stage.store().parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "the bench leaves nothing behind: {left:?}");
}

#[test]
fn history_that_a_process_keeps_for_long_is_not_given_up_by_a_change() {
    let stage = Stage::new();
    let oldest = || stage.call(&["get", "rooms/lobby:topic@-9d12h"]).text();
    let before = oldest();
    for line in [&["put", "rooms/lobby:k", "v"][..], &["compact"], &["compact"]] {
        stage.call(line).text();
    }
    assert_eq!(oldest(), before);
    Store::open(stage.store()).unwrap().close().unwrap();
}

/// The block of the document that begins with this command, and what the command prints.
#[test]
fn the_dry_run_that_the_document_shows_is_what_is_printed() {
    let stage = Stage::new();
    let document = include_str!("../../docs/cli.md");
    let (_, block) = document.split_once("$ dostore -C data restore ").unwrap();
    let (command, shown) = block.split_once("```").unwrap().0.split_once('\n').unwrap();
    let line: Vec<_> = ["restore"].into_iter().chain(command.split(' ')).collect();
    let printed = stage.call(&line).text();
    assert_eq!(printed.replace(stage.store().to_str().unwrap(), "data"), shown);
}

#[test]
fn what_begins_as_an_option_does_is_printed_so_that_it_is_none() {
    let stage = Stage::new();
    let put = stage.call(&["put", "%2Dspace/-name:-key", "v", "--create"]).text();
    let undo = put.split_once("undo:  dostore ").unwrap().1.trim();
    let words = super::help::words(&format!("dostore {undo}"));
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    assert_eq!(stage.call(&["get", "%2Dspace/-name:-key", "--format", "raw"]).text(), "v");
    let dry = stage.call(&["rm", "%2Dspace/-name", "%2Dkey"]).text();
    let doing = super::help::words(dry.split_once("to do it:  ").unwrap().1.trim());
    let done = stage.call(&doing.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(done.code == 0 && done.out.contains("deleted 1 key"), "{doing:?}: {done:?}");
    assert_eq!(stage.call(&words).code, 0, "{words:?}");
    let listed = stage.call(&["ls", "--json"]).json();
    assert!(listed["items"].as_array().unwrap().iter().any(|it| it["name"] == "-space"));
}

#[test]
fn no_namespace_is_made_for_an_object_that_cannot_be() {
    let stage = Stage::new();
    let long = format!("fresh/{}:k", "n".repeat(1025));
    assert_ne!(stage.call(&["put", &long, "v", "--create"]).code, 0);
    let id = format!("fresh/~{}:k", "ab".repeat(32));
    assert_eq!(stage.call(&["put", &id, "v", "--create"]).code, 3);
    assert!(!stage.call(&["ls"]).text().contains("fresh"));
}
