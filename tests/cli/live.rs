//! Every verb that reads, beside a writer in another process.
//!
//! `DOSTORE_CLI_READS` says how often each verb reads; a few times by default.
//!
//! Invariants:
//!   * The writer is this same test in a process of its own, told so by its environment.

use super::live_checks::Seen;
use super::stage::{Done, contents};
use dostore::ids::Timestamp;
use dostore::retention::Retention;
use dostore::store::Store;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Set in the writer: the folder of its store.
const WRITER: &str = "DOSTORE_LIVE_WRITER";
/// How often each verb reads.
const READS: &str = "DOSTORE_CLI_READS";
/// Threads that call one verb after the other.
const CALLERS: u64 = 2;

pub const PAIR: &str = "bank/pair";

/// Each verb that reads and its forms, which take turns. `{}` stands for the last position that was
/// seen, `{time}` for its time.
const VERBS: &[&[&[&str]]] = &[
    &[&["get", PAIR, "a", "b", "counter"], &["get", PAIR, "a", "b", "counter", "--at", "{}"]],
    &[&["keys", PAIR], &["keys", PAIR, "--at", "{}"]],
    &[&["show", PAIR], &["show", PAIR, "--at", "{}"]],
    &[
        &["inspect"],
        &["inspect", "bank"],
        &["inspect", PAIR],
        &["inspect", "bank/pair:a"],
        &["inspect", "--at", "{time}"],
        &["inspect", "bank", "--at", "{}"],
    ],
    &[&["ls", "bank"], &["ls"], &["ls", "bank", "--at", "{time}"], &["ls", "--at", "{}"]],
    &[&["stat", PAIR], &["stat", "bank"], &["stat"], &["stat", "bank", "--at", "{}"]],
    &[&["alarms"], &["alarms", PAIR], &["alarms", PAIR, "--at", "{}"]],
    &[&["bigkeys", "--limit", "2"], &["bigkeys", PAIR]],
    &[
        &["tail", "-n", "3"],
        &["tail", PAIR, "-n", "2"],
        &["tail", "-n", "3", "--at", "{}"],
        &["tail", PAIR, "-n", "2", "--at", "{time}"],
    ],
    &[&["history", PAIR, "-n", "3"], &["history", PAIR, "-n", "3", "--at", "{}"]],
    &[&["diff", PAIR, "{}.."]],
    &[&["bookmark", PAIR], &["bookmark", PAIR, "{}"]],
    &[&["restore", PAIR, "--to", "{}"]],
    &[&["dump", PAIR], &["dump", "bank"], &["dump", PAIR, "--at", "{}"]],
    &[&["verify"], &["verify", "--deep"]],
    &[&["segments"]],
    &[&["debug", "wal"], &["debug", "segment"], &["debug", "run"], &["debug", "manifest"]],
    &[&["inspect", "MANIFEST"]],
];

/// Verbs that go on reading by themselves, each look another read.
const FOLLOWERS: &[&[&str]] = &[
    &["tail", "-f", "-n", "0", "--format", "jsonl", "--interval", "1ms"],
    &["tail", PAIR, "-f", "-n", "1", "--format", "jsonl", "--interval", "1ms"],
    &["top", "--format", "jsonl", "--interval", "1ms"],
];

/// Commits for as long as its parent lives, and tends its files all the time.
fn write(folder: &Path) {
    let options = Store::options().wal_file_bytes(64 << 10).segment_bytes(16 << 10);
    let options = options.dirty_bytes(32 << 10).retire_after(Duration::ZERO);
    let kept = Retention::Keep { age: Duration::from_hours(24), bytes: Some(64 << 10) };
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
        turn.set_alarm(Timestamp(super::live_checks::ALARM + counter)).unwrap();
        turn.commit().unwrap().wait().unwrap();
        let mut other = bank.open_by_name(&format!("other {}", counter % 20)).unwrap();
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

/// The writer's process, which ends with this value.
struct Writer(Child);

impl Writer {
    fn check(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the writer has ended");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(folder: &Path) -> Writer {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "live::every_verb_reads_beside_a_writer_what_was_committed_at_once";
    command.args(["--exact", name, "--nocapture"]).env(WRITER, folder);
    Writer(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap())
}

/// Calls the command on a store as its process would be called.
fn call(folder: &Path, words: &[&str], out: &mut dyn Write) -> (u8, String) {
    let mut errors = Vec::new();
    let all = ["dostore", "-C", folder.to_str().unwrap()].into_iter().chain(words.iter().copied());
    let stage = dostore::cli::Stage { out, errors: &mut errors, now: None };
    let code = dostore::cli::call(all, stage);
    (code, String::from_utf8(errors).unwrap())
}

/// Calls each verb once, in the form whose turn it is.
fn round(folder: &Path, turn: u64, seen: &mut Seen) {
    for forms in VERBS {
        let form = forms[usize::try_from(turn).unwrap() % forms.len()];
        call_one(folder, form, seen);
    }
}

fn call_one(folder: &Path, form: &[&str], seen: &mut Seen) {
    let words: Vec<_> = form.iter().map(|word| seen.filled_in(word)).collect();
    let mut words: Vec<_> = words.iter().map(String::as_str).collect();
    if words[0] != "dump" {
        words.push("--json");
    }
    let mut out = Vec::new();
    let (code, errors) = call(folder, &words, &mut out);
    seen.check(&words, &Done { code, out: String::from_utf8(out).unwrap(), errors });
}

/// What the writer says of its checkpoints, cleanings and expired files.
#[derive(Default)]
struct Told {
    first: Mutex<Option<[u64; 3]>>,
    last: Mutex<Option<[u64; 3]>>,
    /// How often each verb was called, those that go on by themselves apart.
    rounds: AtomicU64,
}

impl Told {
    /// Listens until the writer ends.
    fn listen(&self, lines: impl BufRead) {
        for line in lines.lines() {
            if let Some((_, figures)) = line.unwrap().split_once("live ") {
                *self.last.lock().unwrap() = Some(serde_json::from_str(figures).unwrap());
            }
        }
    }

    /// Whether the store is there; from then on is counted.
    fn has_begun(&self) -> bool {
        let (mut first, last) = (self.first.lock().unwrap(), self.last.lock().unwrap());
        *first = first.or(*last);
        first.is_some()
    }

    /// Whether there were three checkpoints and three cleanings, and history expired.
    fn is_tended(&self) -> bool {
        let (Some(first), Some(last)) = (*self.first.lock().unwrap(), *self.last.lock().unwrap())
        else {
            return false;
        };
        last[0] >= first[0] + 3 && last[1] >= first[1] + 3 && last[2] > first[2]
    }
}

/// The output of a verb that goes on by itself: each look flushes it.
struct Follower<'a> {
    words: &'a [&'a str],
    told: &'a Told,
    reads: u64,
    looks: u64,
    seen: Seen,
    line: Vec<u8>,
}

impl Write for Follower<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                let document = serde_json::from_slice(&self.line).unwrap();
                self.seen.check_line(self.words, &document);
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.looks += 1;
        let goes_on = self.looks <= self.reads || !self.told.is_tended();
        if goes_on { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

/// Follows the store with one verb; says what it saw.
fn follow(folder: &Path, words: &[&str], told: &Told, reads: u64) -> (u64, Seen) {
    let seen = Seen::default();
    let mut follower = Follower { words, told, reads, looks: 0, seen, line: Vec::new() };
    let (code, errors) = call(folder, words, &mut follower);
    assert!(code == 0 && errors.is_empty(), "{words:?}: {code} {errors}");
    (follower.looks, follower.seen)
}

/// Calls every verb in turns with others that do, until each was called often enough.
fn call_all(folder: &Path, told: &Told, reads: u64) -> Seen {
    let mut seen = Seen::default();
    // From here on there is a position to read at.
    call_one(folder, &["inspect", PAIR], &mut seen);
    loop {
        let turn = told.rounds.fetch_add(1, Ordering::Relaxed);
        if turn >= reads && told.is_tended() {
            return seen;
        }
        round(folder, turn, &mut seen);
    }
}

/// Reads with everything at once; says what was seen, and how many commits were followed.
fn read(folder: &Path, told: &Told, reads: u64) -> (Seen, u64) {
    std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| call_all(folder, told, reads))).collect();
        let follow = |words: &'static [&str]| follow(folder, words, told, reads);
        let followers: Vec<_> =
            FOLLOWERS.iter().map(|words| scope.spawn(move || follow(words))).collect();
        let mut all = Seen::default();
        for caller in callers {
            all.add(caller.join().unwrap());
        }
        let mut commits = 0;
        for follower in followers {
            let (looks, seen) = follower.join().unwrap();
            assert!(looks > reads && seen.commits > 0, "{looks} looks, {} commits", seen.commits);
            commits += seen.commits;
        }
        (all, commits)
    })
}

#[test]
fn every_verb_reads_beside_a_writer_what_was_committed_at_once() {
    if let Some(folder) = std::env::var_os(WRITER) {
        return write(Path::new(&folder));
    }
    let reads: u64 = std::env::var(READS).map_or(5, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut writer = start(folder.path());
    let lines = BufReader::new(writer.0.stdout.take().unwrap());
    let told = Told::default();
    let told = &told;
    std::thread::scope(move |scope| {
        scope.spawn(move || told.listen(lines));
        while !told.has_begun() {
            writer.check();
            std::thread::yield_now();
        }
        let (mut seen, followed) = read(folder.path(), told, reads);
        writer.check();
        drop(writer);
        // As a kill leaves the store, so do the verbs.
        let before = contents(folder.path());
        (0..12).for_each(|turn| round(folder.path(), turn, &mut seen));
        assert!(contents(folder.path()) == before, "a byte or a name changed");
        let (expired, past) = (seen.expired, seen.past);
        assert!(expired * 10 < past + 10, "{expired} of {past} found no history");
        let rounds = told.rounds.load(Ordering::Relaxed);
        println!(
            "{} verbs and {} that follow, {rounds} reads each; {followed} commits followed; \
             {past} reads of the past, {expired} of what had expired; {:?} to {:?}",
            VERBS.len(),
            FOLLOWERS.len(),
            told.first.lock().unwrap(),
            told.last.lock().unwrap()
        );
    });
}
