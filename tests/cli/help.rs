//! What help says: every verb has examples, and they work.

use super::stage::{Done, Stage};

/// The help of a verb, or of the command.
fn help(verb: &[&str]) -> String {
    let words = [verb, &["--help"]].concat();
    super::stage::call(std::path::Path::new("nowhere"), &words).text()
}

fn verbs() -> Vec<String> {
    let all = help(&[]);
    let lines = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let found: Vec<_> = lines.filter(|line| line.starts_with("  ")).map(first).collect();
    found.into_iter().filter(|verb| verb != "help").collect()
}

/// The words of an example behind the command's name, quotes taken off and what a shell would do
/// with the output left out.
pub fn words(example: &str) -> Vec<String> {
    let example = example.split(" > ").next().unwrap_or_default();
    let mut words = Vec::new();
    for (index, part) in example.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let name = words.iter().position(|word| word == "dostore").unwrap();
    let mut words = words.split_off(name + 1);
    if words.first().is_some_and(|word| word == "-C") {
        words.drain(..2);
    }
    words
}

fn examples_of(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(words).collect()
}

/// Verbs that change a store.
const CHANGING: [&str; 11] = [
    "restore", "undo", "fork", "put", "rm", "delete", "purge", "load", "backup", "compact", "scrub",
];

/// Every example of the help of verbs that look.
pub fn examples() -> Vec<Vec<String>> {
    let mut found = examples_of(&help(&[]));
    for verb in verbs().iter().filter(|verb| !CHANGING.contains(&&***verb)) {
        found.extend(examples_of(&help(&[verb])));
    }
    found
}

/// Runs an example. What it writes to a new folder goes into one of its own; `copies` is a folder
/// of the stage.
pub fn call_example(stage: &Stage, example: &[String]) -> Done {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh");
    let word = |word: &String| match word.strip_prefix("copies/") {
        Some(leaf) => stage.copies().join(leaf).to_str().unwrap().to_owned(),
        None if word == "fresh" => fresh.to_str().unwrap().to_owned(),
        None => word.clone(),
    };
    let words: Vec<_> = example.iter().map(word).collect();
    stage.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn every_verb_has_an_example_that_works() {
    let stage = Stage::new();
    let lobby = stage.call(&["dump", "rooms/lobby"]).text();
    std::fs::write(stage.copies().join("lobby.jsonl"), lobby).unwrap();
    assert!(verbs().len() >= 8, "{:?}", verbs());
    for verb in verbs() {
        let examples = examples_of(&help(&[&verb]));
        assert!(!examples.is_empty(), "{verb} has no example");
        for example in examples {
            let done = call_example(&stage, &example);
            // A comparison that finds a difference says so by its exit code.
            let most = u8::from(verb == "diff");
            assert!(done.code <= most && done.errors.is_empty(), "{example:?}: {done:?}");
            assert!(!done.out.is_empty(), "{example:?}");
            assert!(example.contains(&verb), "an example of {verb}: {example:?}");
        }
    }
}

#[test]
fn help_says_the_exit_codes_and_how_things_are_addressed() {
    let all = help(&[]);
    for part in ["130  interrupted", "4  damage found", "NS/NAME:KEY", "-C, --directory"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let man = super::stage::call(std::path::Path::new("nowhere"), &["man"]).text();
    assert!(man.starts_with(".ie") && man.contains("dostore"), "{man}");
}

#[test]
fn a_wrong_call_of_any_verb_is_shown_right_ones() {
    let stage = Stage::new();
    for verb in verbs() {
        let done = stage.call(&[&verb, "--no-such-option"]);
        assert_eq!(done.code, 2, "{done:?}");
        let shown = examples_of(&done.errors);
        assert!(!shown.is_empty() && shown == examples_of(&help(&[&verb])), "{done:?}");
    }
    let short = stage.call(&["hist", "--limit", "x"]);
    assert!(short.code == 2 && short.errors.contains("dostore history rooms/lobby -n 4"));
    let mut errors = Vec::new();
    let stage = dostore::cli::Stage { out: &mut std::io::sink(), errors: &mut errors, now: None };
    assert_eq!(dostore::cli::call(["dostore"], stage), 2);
    let bare = String::from_utf8(errors).unwrap();
    assert!(bare.contains("Commands:") && bare.contains("Exit codes:"), "{bare}");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let stage = Stage::new();
    for (words, code, told) in [
        (&["ls", "users/x"][..], 0, "no objects"),
        (&["ls", "rooms/lobz"], 0, "is \"rooms/lob"),
        (&["alarms", "users"], 0, "no alarms"),
        (&["keys", "rooms/lobby", "zzz"], 0, "no keys"),
        (&["ls", "zzzzzz"], 3, "there are rooms, users"),
        (&["ls", "room"], 3, "is \"rooms\" meant?"),
        (&["debug", "wal", "zzz"], 3, "whose number ends in \"zzz\""),
        (&["inspect", "seg/0000000000ff.seg"], 3, "`dostore segments` lists all"),
        (&["debug", "manifest", "MANIFEST:9999999"], 3, "bytes, and none at 9,999,999"),
        (&["fork", "rooms/lobby", "rooms/lobby"], 2, "name another one"),
        (&["get", "rooms/lobby:topic", "--format", "csv"], 2, "table, json, jsonl or raw"),
    ] {
        let done = stage.call(words);
        let text = format!("{}{}", done.out, done.errors);
        assert!(done.code == code && text.contains(told), "{words:?}: {done:?}");
    }
}
