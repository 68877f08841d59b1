//! Every verb that reads, beside a writer in another process.
//!
//! Invariants:
//!   * The writer is this same test in a process of its own, told so by its environment.

use super::stage::{Done, contents};
use dostore::retention::Retention;
use dostore::store::Store;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Set in the writer: the folder of its store.
const WRITER: &str = "DOSTORE_LIVE_WRITER";
/// How often each verb reads.
const READS: &str = "DOSTORE_CLI_READS";

const PAIR: &str = "bank/pair";

/// The reads of one round, and `{}` for the last position that was seen.
const VERBS: [&[&str]; 16] = [
    &["get", PAIR, "a", "b", "counter"],
    &["keys", PAIR],
    &["show", PAIR],
    &["inspect"],
    &["inspect", "bank"],
    &["inspect", PAIR],
    &["ls"],
    &["ls", "bank"],
    &["stat", "bank"],
    &["alarms"],
    &["bigkeys", "--limit", "2"],
    &["tail", "-n", "3"],
    &["top", "--interval", "1ms", "--rounds", "1"],
    &["history", PAIR, "-n", "3"],
    &["diff", PAIR, "{}.."],
    &["bookmark", PAIR],
];

/// Commits for as long as its parent lives, and tends its files all the time.
fn write(folder: &Path) {
    let options = Store::options().wal_file_bytes(64 << 10).segment_bytes(16 << 10);
    let options = options.dirty_bytes(32 << 10).retire_after(Duration::ZERO);
    let kept = Retention::Keep { age: Duration::from_hours(24), bytes: Some(2 << 20) };
    let options = options.epoch(Duration::ZERO, 128 << 10, Duration::from_hours(1)).retention(kept);
    let store = options.open(folder).unwrap();
    let bank = store.namespace("bank").unwrap();
    let mut pair = bank.open_by_name("pair").unwrap();
    let parent = std::os::unix::process::parent_id();
    for counter in 0_u64.. {
        let amount = i64::try_from(counter * 7919 % 1000).unwrap();
        let mut turn = pair.turn();
        turn.put("a", amount.to_string()).unwrap().put("b", (-amount).to_string()).unwrap();
        turn.put("counter", counter.to_string()).unwrap().put("ballast", vec![7; 700]).unwrap();
        turn.commit().unwrap().wait().unwrap();
        let mut other = bank.open_by_name(&format!("other {}", counter % 50)).unwrap();
        other.put("k", vec![b'x'; 300]).unwrap().detach();
        drop(other);
        if counter % 100 == 99 {
            let steps = store.steps();
            steps.checkpoint().unwrap();
            steps.clean().unwrap();
            steps.merge().unwrap();
            steps.expire().unwrap();
            steps.remove_retired().unwrap();
            let stats = store.stats().unwrap();
            let told = [stats.checkpoints, stats.segments_cleaned, stats.expired_files];
            println!("live {told:?}");
        }
        if std::os::unix::process::parent_id() != parent {
            return;
        }
    }
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "live::every_verb_reads_beside_a_writer_what_was_committed_at_once";
    command.args(["--exact", name, "--nocapture"]).env(WRITER, folder);
    command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

/// What has been seen so far.
#[derive(Default)]
struct Seen {
    position: u64,
    counter: u64,
    /// Reads of a past that was let go of.
    expired: u64,
}

impl Seen {
    fn check(&mut self, words: &[&str], done: &Done) {
        // The writer lets go of history: for a moment there may be none of the object.
        let is_of_the_past = matches!(words[0], "diff" | "show");
        if is_of_the_past && done.code == 6 {
            self.expired += 1;
            return;
        }
        let is_right = done.code == 0 || done.code == 1 && words[0] == "diff";
        assert!(is_right && done.errors.is_empty(), "{words:?}: {done:?}");
        let documents: Vec<Value> = match serde_json::from_str(&done.out) {
            Ok(document) => vec![document],
            Err(_) => done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        for document in &documents {
            let position = document["position"].as_u64().unwrap();
            assert!(position >= self.position, "{words:?}: back to {position}");
            self.position = position;
        }
        let pairs: Vec<&Value> = match words[0] {
            "get" => documents.iter().collect(),
            "keys" => documents[0]["items"].as_array().unwrap().iter().collect(),
            "show" => documents[0]["changes"].as_array().unwrap().iter().collect(),
            _ => return,
        };
        let number = |key: &str| -> i64 {
            let found = pairs.iter().find(|pair| pair["key"] == key).unwrap();
            found["value"].as_str().unwrap().parse().unwrap()
        };
        assert_eq!(number("a") + number("b"), 0, "{words:?}: {done:?}");
        let counter = u64::try_from(number("counter")).unwrap();
        assert!(counter >= self.counter, "{words:?}: the counter is back at {counter}");
        self.counter = counter;
    }
}

fn call(folder: &Path, words: &[&str]) -> Done {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let all = ["dostore", "-C", folder.to_str().unwrap()].into_iter();
    let all = all.chain(words.iter().copied()).chain(["--json"]);
    let stage = dostore::cli::Stage { out: &mut out, errors: &mut errors, now: None };
    let code = dostore::cli::call(all, stage);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code, out: text(out), errors: text(errors) }
}

fn round(folder: &Path, seen: &mut Seen) {
    for verb in VERBS {
        let since = format!("{:08x}-{:08x}..", seen.position >> 32, seen.position & 0xFFFF_FFFF);
        let words: Vec<_> =
            verb.iter().map(|word| if *word == "{}.." { &since[..] } else { word }).collect();
        let done = call(folder, &words);
        seen.check(&words, &done);
    }
}

/// What the writer says of its checkpoints, cleanings and expired files, until it ends.
fn listen(lines: impl BufRead, told: &Mutex<Option<[u64; 3]>>) {
    for line in lines.lines() {
        if let Some((_, figures)) = line.unwrap().split_once("live ") {
            *told.lock().unwrap() = Some(serde_json::from_str(figures).unwrap());
        }
    }
}

/// Whether there were three checkpoints and three cleanings, and history expired.
fn is_tended(first: Option<[u64; 3]>, last: Option<[u64; 3]>) -> bool {
    let (Some(first), Some(last)) = (first, last) else { return false };
    last[0] >= first[0] + 3 && last[1] >= first[1] + 3 && last[2] > first[2]
}

#[test]
fn every_verb_reads_beside_a_writer_what_was_committed_at_once() {
    if let Some(folder) = std::env::var_os(WRITER) {
        return write(Path::new(&folder));
    }
    let reads: u64 = std::env::var(READS).map_or(5, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut writer = start(folder.path());
    let lines = BufReader::new(writer.stdout.take().unwrap());
    let told = Arc::new(Mutex::new(None));
    let listener = Arc::clone(&told);
    let listener = std::thread::spawn(move || listen(lines, &listener));
    let mut seen = Seen::default();
    let (mut rounds, mut first, mut last) = (0, None, None);
    while rounds < reads || !is_tended(first, last) {
        assert!(writer.try_wait().unwrap().is_none(), "the writer has ended");
        last = *told.lock().unwrap();
        if last.is_some() {
            first = first.or(last);
            round(folder.path(), &mut seen);
            rounds += 1;
        }
    }
    // As a kill leaves the store, so do the verbs.
    writer.kill().unwrap();
    writer.wait().unwrap();
    listener.join().unwrap();
    let before = contents(folder.path());
    round(folder.path(), &mut seen);
    assert!(contents(folder.path()) == before, "a byte or a name changed");
    assert!(seen.expired * 10 < rounds + 10, "{} of {rounds} found no history", seen.expired);
    let (verbs, expired) = (VERBS.len(), seen.expired);
    println!("{verbs} verbs, {rounds} reads each, {expired} expired; {first:?} to {last:?}");
}
