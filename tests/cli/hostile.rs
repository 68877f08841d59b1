//! Names, keys and values that would steer a terminal, nonsense on the command line, and outputs
//! that take nothing.

use super::stage::{Done, Stage, call, options};
use dostore::store::Store;
use proptest::prelude::*;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Rings, moves, colours, names a window, and turns the order of letters round.
const ODD: &str = "a\u{1b}[31mb\u{7}\u{1b}]0;x\u{7}c\r\u{9b}2Jd\u{202e}e\u{7f}f";

/// A store in which everything that a user names or writes is odd.
fn odd_store() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = options().open(&data).unwrap();
    let space = store.namespace(ODD).unwrap();
    let mut object = space.open_by_name(ODD).unwrap();
    let mut turn = object.turn();
    turn.put(ODD, ODD).unwrap().put("line\nfeed", "two\nlines").unwrap();
    turn.put("json", format!("{{{:?}:1}}", "\u{1b}[31m\u{9b}")).unwrap();
    turn.set_named_alarm(ODD, dostore::ids::Timestamp(5)).unwrap();
    turn.commit().unwrap().wait().unwrap();
    drop((object, space));
    store.close().unwrap();
    // As JSON, MessagePack and CBOR have a text with an escape in it.
    let own = own_address(&data);
    for (key, hex, codec) in [
        ("t1", "225c75303031625b33316d22", "json"),
        ("t2", "a51b5b33316d", "msgpack"),
        ("t3", "651b5b33316d", "cbor"),
    ] {
        let key = format!("{own}:{key}");
        let done = call(&data, &["put", &key, "--hex", hex, "--codec", codec]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    (folder, data)
}

/// How the command itself writes the object's address.
fn own_address(data: &Path) -> String {
    let shown = call(data, &["tail", "-n", "1"]).text();
    let line = shown.lines().nth(1).unwrap();
    line.split("  ").map(str::trim).find(|cell| cell.contains('/')).unwrap().to_owned()
}

fn check_tame(done: &Done, told: &str) {
    let steers = |it: char| it.is_control() && it != '\n' || it == '\u{202e}';
    for text in [&done.out, &done.errors] {
        assert!(!text.contains(steers), "{told}: {text:?}");
    }
}

#[test]
fn no_name_key_or_value_steers_a_terminal() {
    let (_folder, data) = odd_store();
    let own = own_address(&data);
    let (space, _) = own.split_once('/').unwrap();
    let (key, missing) = (format!("{own}:t1"), format!("{own}:\u{1b}[31m"));
    let lines: [&[&str]; 20] = [
        &["inspect"],
        &["inspect", space],
        &["inspect", &own],
        &["ls"],
        &["ls", space],
        &["keys", &own],
        &["keys", &own, "--value", "utf8"],
        &["get", &key],
        &["get", &own, "t1", "t2", "t3", "line%0Afeed", "json"],
        &["get", &own, "t1", "--value", "utf8"],
        &["get", &missing],
        &["get", "\u{1b}[31m/x:y"],
        &["show", &own],
        &["history", &own],
        &["alarms"],
        &["bigkeys"],
        &["tail"],
        &["stat", &own],
        &["restore", &own, "--to", "now"],
        &["verify"],
    ];
    for line in lines {
        check_tame(&call(&data, line), &format!("{line:?}"));
        let json = call(&data, &[line, &["--json"]].concat());
        check_tame(&json, &format!("{line:?} --json"));
        for text in json.out.lines().take(1).filter(|_| json.code == 0) {
            assert!(text.starts_with('{'), "{line:?}: {text}");
        }
    }
    // What is printed means the same when it is given back, and JSON has the text itself.
    let read = call(&data, &["inspect", &own, "--json"]).json();
    assert_eq!((&read["ns"], &read["name"]), (&ODD.into(), &ODD.into()));
    let keys = call(&data, &["keys", &own, "--json"]).json();
    let values: Vec<_> = keys["items"].as_array().unwrap().iter().collect();
    assert!(values.iter().any(|it| it["value"] == "\u{1b}[31m"), "{keys:#}");
    let shown = call(&data, &["keys", &own]).text();
    assert_eq!(shown.lines().filter(|line| line.starts_with("line%0Afeed")).count(), 1, "{shown}");
    // A damaged store names its objects too.
    let segment = super::stage::contents(&data.join("seg")).pop().unwrap().0;
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4200] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    std::fs::write(data.join("\u{1b}[31m"), "odd").unwrap();
    let damaged = call(&data, &["verify"]);
    assert_eq!(damaged.code, 4, "{damaged:?}");
    check_tame(&damaged, "verify of a damaged store");
}

#[test]
fn where_a_list_goes_on_can_be_pasted_into_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = options().open(&data).unwrap();
    let mut lobby = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    let keys = ["$(echo a)", "-dash", "`echo b`", "c\"d", "it's", "\\x"];
    for key in keys {
        lobby.put(key, "v").unwrap().detach();
    }
    drop(lobby);
    store.close().unwrap();
    let (mut shown, mut after) = (Vec::new(), String::new());
    loop {
        let mut words = vec!["keys", "rooms/lobby", "--limit", "1"];
        if !after.is_empty() {
            words.extend(["--after", &after]);
        }
        let page = call(&data, &words).text();
        shown.push(page.lines().nth(1).unwrap().split("  ").next().unwrap().to_owned());
        let next = page.lines().find_map(|line| line.strip_prefix("more: --after "));
        let Some(next) = next else { break };
        // What a shell makes of the line.
        let mut shell = std::process::Command::new("sh");
        let said = shell.arg("-c").arg(format!("printf %s {next}")).output().unwrap();
        after = String::from_utf8(said.stdout).unwrap();
    }
    assert_eq!(shown.len(), keys.len(), "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("$(echo a)")), "{shown:?}");
}

#[test]
fn each_line_of_fields_says_as_of_which_commit_it_is() {
    let stage = Stage::new();
    let position = stage.call(&["ls", "rooms", "--json"]).json()["position"].to_string();
    let shown = stage.call(&["ls", "rooms", "--limit", "2", "--format", "csv"]).text();
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split(',').collect()).collect();
    let at = lines[0].iter().position(|name| *name == "position").unwrap();
    assert!(lines[0].contains(&"position_time") && lines.len() == 3, "{shown}");
    assert!(lines[1..].iter().all(|line| line[at] == position), "{shown}");
}

#[test]
fn numbers_beyond_all_bounds_are_taken_or_refused() {
    let stage = Stage::new();
    let most = u64::MAX.to_string();
    for (line, code) in [
        (&["tail", "-n", &most][..], 0),
        (&["history", "rooms/lobby", "-n", &most], 0),
        (&["ls", "rooms", "--limit", &most], 0),
        (&["ls", "rooms", "--limit", "0"], 0),
        (&["bigkeys", "--limit", "0"], 0),
        (&["bench", "--seconds", "1e19"], 2),
        (&["bench", "--seconds", "-1"], 2),
        (&["bench", "--seconds", "NaN"], 2),
        (&["top", "--rounds", "0"], 0),
        (&["top", "--rounds", "1", "--interval", "99999999999999999999s"], 2),
        (&["get", "rooms/lobby:topic", "--at", "-9999999y"], 2),
        (&["get", "rooms/lobby:topic", "--at", "0000-01-01"], 3),
        (&["get", "rooms/lobby:topic", "--at", "2999-12-31T00:00:00Z"], 0),
        (&["get", "rooms/lobby:topic", "--at", "9999-12-31T23:59:59Z"], 2),
        (&["get", "rooms/lobby:topic", "--at", "ffffffff-ffffffff"], 3),
        (&["restore", "rooms", "--to", "2999-12-31T00:00:00Z"], 0),
        (&["restore", "--all", "--to", "0000-01-01"], 0),
        (&["debug", "wal", ":18446744073709551615"], 3),
        (&["debug", "wal", ":99999999999999999999"], 2),
        (&["salvage", "-o", "x", "--namespace", "99999999999=rooms"], 2),
    ] {
        let done = stage.call(line);
        assert_eq!(done.code, code, "{line:?}: {done:?}");
    }
}

#[test]
fn who_interrupts_a_verb_that_goes_on_is_told_by_its_exit_code() {
    let stage = Stage::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dostore"));
    command.arg("-C").arg(stage.store()).args(["tail", "-f", "-n", "1", "--format", "jsonl"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"kind\":\"commits\""), "{line}");
    let signal = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status();
    assert!(signal.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn an_output_that_takes_nothing_is_a_failure_and_pipes_see_no_progress() {
    let stage = Stage::new();
    let dostore = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dostore"));
        command.arg("-C").arg(stage.store()).args(words).stdin(Stdio::null());
        command
    };
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = dostore(&["ls", "rooms"]).stdout(full).output().unwrap();
    let errors = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(1) && errors.contains("writing the output"), "{errors}");
    for words in [&["verify", "--deep"][..], &["dump"], &["bigkeys"], &["compact"]] {
        let done = dostore(words).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{words:?}: {done:?}");
        assert!(!done.stdout.contains(&0x1b), "{words:?}");
    }
}

/// What a command prints to a terminal with so many characters in a line.
#[cfg(target_os = "linux")]
fn on_a_terminal_of(store: &Path, width: usize, words: &str) -> String {
    let line = format!("{} -C {} {words}", env!("CARGO_BIN_EXE_dostore"), store.display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
    let done = command.env("COLUMNS", width.to_string()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The same on a common one.
#[cfg(target_os = "linux")]
fn on_a_terminal(store: &Path, words: &str) -> String {
    on_a_terminal_of(store, 80, words)
}

#[test]
#[cfg(target_os = "linux")]
fn a_narrow_terminal_gets_whole_names_in_lines_that_fit() {
    let stage = Stage::new();
    let wide = stage.call(&["ls", "rooms"]).text();
    let ids = |text: &str| -> Vec<String> {
        let words = text.split_whitespace();
        let is_id = |word: &&str| word.len() == 12 && word.chars().all(|it| it.is_ascii_hexdigit());
        words.filter(is_id).map(str::to_owned).collect()
    };
    assert!(ids(&wide).len() > 20, "{wide}");
    for width in [30, 40, 50, 60] {
        let shown = on_a_terminal_of(&stage.store(), width, "--utc ls rooms");
        assert_eq!(ids(&shown), ids(&wide), "{width}: {shown}");
        let rows = shown.lines().take_while(|line| !line.contains("no room"));
        let plain = rows.map(|row| row.replace("\u{1b}[1m", "").replace("\u{1b}[0m", ""));
        for row in plain {
            // What progress there was stands before it in the same line.
            let row = row.rsplit(['\r', '\u{1b}']).next().unwrap_or_default();
            let row = row.trim_start_matches("[2K").trim_end();
            assert!(row.chars().count() <= width, "{width}: {row:?}");
        }
        assert!(shown.contains("no room for "), "{width}: {shown}");
    }
    let keys = on_a_terminal_of(&stage.store(), 30, "keys rooms/lobby");
    assert!(keys.contains("visitor/ada") && keys.contains('\u{2026}'), "{keys}");
    // Nobody's terminal: all of it, however COLUMNS is set.
    let mut command = Command::new(env!("CARGO_BIN_EXE_dostore"));
    let store = stage.store();
    let words = ["-C", store.to_str().unwrap(), "ls", "rooms"];
    let done = command.args(words).env("COLUMNS", "30").output().unwrap();
    assert!(String::from_utf8(done.stdout).unwrap().contains("ALARM"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_is_shown_how_far_long_work_has_come() {
    let stage = Stage::new();
    let store = stage.store();
    for (words, shown) in [
        ("verify --deep", "verifying"),
        ("dump -o COPIES/dump.jsonl", "objects"),
        ("bigkeys", "objects"),
        ("history rooms/lobby", "commits"),
        ("compact", "step 1 of 4"),
        ("backup COPIES/one --copy --verify", "making a backup"),
        ("salvage -o COPIES/fresh", "salvaging"),
        ("restore rooms --to now --yes", "restoring rooms"),
        ("bench --seconds 0", "one at a time"),
    ] {
        let copies = stage.copies();
        let words = words.replace("COPIES", copies.to_str().unwrap());
        let text = on_a_terminal(&store, &words);
        assert!(text.contains(shown), "{words}: {text:?}");
        // Of what is long, how much there is.
        let has_total = ["verify", "salvage", "backup"].iter().any(|verb| words.starts_with(verb));
        let is_total = |part: &str| part.contains("B/s") && part.contains(" of ");
        assert_eq!(text.split('\r').any(is_total), has_total, "{words}: {text:?}");
    }
}

#[test]
fn a_dump_that_fails_leaves_no_file_in_the_way() {
    let stage = Stage::new();
    let file = stage.copies().join("rooms.jsonl");
    let path = file.to_str().unwrap();
    assert_eq!(stage.call(&["dump", "roms", "-o", path]).code, 3);
    assert!(!file.exists());
    assert_eq!(stage.call(&["dump", "rooms", "-o", path]).code, 0);
    // One that was there before is neither written to nor removed.
    let again = stage.call(&["dump", "rooms", "-o", path]);
    assert!(again.code == 1 && file.exists(), "{again:?}");
}

#[test]
fn a_store_that_a_symbolic_link_leads_to_is_that_store() {
    let stage = Stage::new();
    let link = stage.copies().join("link");
    std::os::unix::fs::symlink(stage.store(), &link).unwrap();
    assert_eq!(call(&link, &["ls"]).text(), stage.call(&["ls"]).text());
    assert_eq!(call(&link, &["put", "rooms/lobby:k", "v"]).code, 0);
    assert!(stage.call(&["get", "rooms/lobby:k"]).text().ends_with("v\n"));
    let into_itself = call(&link, &["salvage", "-o", stage.store().to_str().unwrap()]);
    assert_eq!(into_itself.code, 2, "{into_itself:?}");
}

#[test]
fn a_process_that_has_an_object_open_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let store: Store = options().admin(true).open(folder.path()).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let mut lobby = rooms.open_by_name("lobby").unwrap();
    lobby.put("k", "1").unwrap().wait().unwrap();
    let before = lobby.current_bookmark().unwrap().to_string();
    lobby.put("k", "2").unwrap().wait().unwrap();
    store.steps().write_mark().unwrap();
    let dry = call(folder.path(), &["restore", "rooms/lobby", "--to", &before]).text();
    let own = std::process::id().to_string();
    assert!(dry.contains("has the store open") && dry.contains(&own), "{dry}");
    let words = ["restore", "rooms/lobby", "--to", &before, "--yes", "--json"];
    let done = call(folder.path(), &words).json();
    assert_eq!(done["fenced"], true, "{done:#}");
    assert_eq!(lobby.put("k", "3").unwrap_err().code(), "handle.fenced");
    drop(lobby);
    let again = call(folder.path(), &["put", "rooms/lobby:k", "4"]).text();
    assert!(!again.contains("had it open"), "{again}");
    let _open = rooms.open_by_name("lobby").unwrap();
    let again = call(folder.path(), &["put", "rooms/lobby:k", "5"]).text();
    assert!(again.contains("its process had it open"), "{again}");
}

#[test]
fn a_dump_of_a_moment_before_a_purge_has_all_others() {
    let stage = Stage::new();
    let before = stage.call(&["dump", "rooms", "--at", "-12h"]).text();
    stage.call(&["purge", "rooms/lobster 4", "--yes"]).text();
    let after = stage.call(&["dump", "rooms", "--at", "-12h"]).text();
    let named = |text: &str, name: &str| text.contains(&format!("\"name\":\"{name}\""));
    assert!(named(&before, "lobster 4") && !named(&after, "lobster 4"));
    let objects = |text: &str| text.lines().filter(|line| line.contains("\"object\":")).count();
    assert_eq!(objects(&after) + 1, objects(&before));
    let one = stage.call(&["dump", "rooms/lobster 4", "--at", "-12h"]);
    assert_eq!(one.code, 6, "{one:?}");
}

/// Words of which nonsense is made. No verb that writes to a place that it is told, none that goes
/// on for ever, and none that reads the standard input.
const WORDS: &[&str] = &[
    "inspect",
    "ls",
    "keys",
    "get",
    "stat",
    "alarms",
    "bigkeys",
    "history",
    "show",
    "diff",
    "bookmark",
    "tail",
    "verify",
    "segments",
    "debug",
    "restore",
    "undo",
    "fork",
    "put",
    "rm",
    "delete",
    "purge",
    "man",
    "completions",
    "wal",
    "segment",
    "run",
    "manifest",
    "--deep",
    "--json",
    "--format",
    "csv",
    "jsonl",
    "raw",
    "table",
    "--at",
    "--to",
    "--since",
    "--all",
    "--yes",
    "--limit",
    "-n",
    "--after",
    "--value",
    "hex",
    "v8",
    "--overdue",
    "--failed",
    "--alarms",
    "--utc",
    "-1d",
    "-8d",
    "now",
    "..",
    "-8d..",
    "now..-8d",
    "00000000-01000002",
    "rooms",
    "rooms/lobby",
    "rooms/lobby:topic",
    "rooms/~",
    "rooms/~8",
    "rooms/lobster 3:claws",
    "rooms/lobby@-8d",
    "@",
    ":",
    "/",
    "~",
    "%",
    "%00",
    "%zz",
    "",
    " ",
    "-",
    "--",
    "0",
    "1",
    "18446744073709551615",
    "99999999999999999999",
    "\u{1b}[31m",
    "\u{202e}",
    "no/such:thing",
    "MANIFEST",
    "wal/000000000001.wal:5",
    "1969-12-31",
    "10000-01-01",
    "-99999999999d",
    "P1Y",
    "yesterday",
    "tomorrow 25:00",
    "-1h -1h",
    "bash",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_nonsense_makes_it_panic_or_end_with_another_code(
        words in prop::collection::vec(prop::sample::select(WORDS), 1..7),
    ) {
        thread_local!(static STAGE: Stage = Stage::new());
        let done = STAGE.with(|stage| stage.call(&words));
        prop_assert!(done.code <= 6, "{words:?}: {done:?}");
        let differs = words.contains(&"diff") || done.code == 4;
        let is_told = differs || !done.errors.is_empty();
        prop_assert!(done.code == 0 || is_told, "{words:?}: {done:?}");
    }

    #[test]
    fn no_text_that_is_meant_for_a_time_makes_it_panic(
        text in "[-+0-9a-zA-Z:. ]{0,24}|\\PC{0,12}",
    ) {
        thread_local!(static STAGE: Stage = Stage::new());
        let time = format!("--at={text}");
        let done = STAGE.with(|stage| stage.call(&["get", "rooms/lobby:topic", &time]));
        prop_assert!([0, 2, 3, 6].contains(&done.code), "{text:?}: {done:?}");
    }
}
