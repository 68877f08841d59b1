//! What a reader beside a writer must be shown: the commits of one moment, never an earlier one.

use super::live::PAIR;
use super::stage::Done;
use serde_json::Value;

/// When the alarm of the pair is set to, but for its counter.
pub const ALARM: u64 = 4_000_000_000_000_000;

/// What a reader has seen so far.
#[derive(Default)]
pub struct Seen {
    position: u64,
    time: String,
    counter: u64,
    /// The commit that was verified last.
    verified: u64,
    /// The last commit that was followed.
    followed: u64,
    /// Commits followed.
    pub commits: u64,
    /// Reads of a moment that had passed.
    pub past: u64,
    /// Of these, those of a moment that was let go of.
    pub expired: u64,
}

impl Seen {
    /// Adds what another reader counted.
    pub fn add(&mut self, other: Self) {
        self.past += other.past;
        self.expired += other.expired;
        self.position = self.position.max(other.position);
        self.counter = self.counter.max(other.counter);
        self.verified = self.verified.max(other.verified);
        self.time = self.time.clone().max(other.time);
    }

    /// A word of a call, with what was seen put in.
    pub fn filled_in(&self, word: &str) -> String {
        let position = format!("{:08x}-{:08x}", self.position >> 32, self.position & 0xFFFF_FFFF);
        word.replace("{}", &position).replace("{time}", &self.time)
    }

    /// Checks what a call came to.
    pub fn check(&mut self, words: &[&str], done: &Done) {
        let is_past = words.contains(&"--at") || matches!(words[0], "diff" | "restore");
        self.past += u64::from(is_past);
        // The writer lets go of history, so that a moment just seen may be gone.
        if done.code == 6 && (is_past || matches!(words[0], "show" | "bookmark")) {
            self.expired += 1;
            return;
        }
        let is_right = done.code == 0 || done.code == 1 && words[0] == "diff";
        assert!(is_right && done.errors.is_empty(), "{words:?}: {done:?}");
        let documents: Vec<Value> = match serde_json::from_str(&done.out) {
            Ok(document) => vec![document],
            Err(_) => done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        assert!(!documents.is_empty(), "{words:?} says nothing");
        for document in &documents {
            self.check_position(words, document);
        }
        match words[0] {
            "get" => self.check_pair(words, &documents),
            "keys" => self.check_pair(words, items(&documents[0])),
            "show" => {
                self.check_pair(words, documents[0]["changes"].as_array().unwrap());
            }
            "dump" => self.check_pair(words, &lines_of_pair(&documents)),
            "diff" => check_diff(words, items(&documents[0])),
            "alarms" => check_alarms(words, items(&documents[0])),
            "verify" => self.check_report(words, &documents[0]),
            "debug" => assert!(!items(&documents[0]).is_empty(), "{words:?}"),
            "tail" => check_tail(words, &documents[0]),
            "history" | "ls" => {
                let is_unkept = documents[0]["unkept_to"].is_u64();
                assert!(is_unkept || !items(&documents[0]).is_empty(), "{words:?}: {done:?}");
            }
            _ => {}
        }
    }

    fn check_position(&mut self, words: &[&str], document: &Value) {
        let Some(position) = document["position"].as_u64().filter(|_| words[0] != "verify") else {
            let has_none = ["dump", "segments", "debug", "verify", "restore"];
            let is_file = words[..2] == ["inspect", "MANIFEST"];
            assert!(is_file || has_none.contains(&words[0]), "{words:?}: {document}");
            return;
        };
        assert!(position >= self.position, "{words:?}: back to {position}");
        self.position = position;
        if let Some(time) = document["position_time"].as_str() {
            time.clone_into(&mut self.time);
        }
    }

    /// The sum is 0 and the counter has not gone back: what is read of the past is as of the last
    /// position that was seen.
    fn check_pair(&mut self, words: &[&str], pairs: &[Value]) {
        let number = |key: &str| -> i64 {
            let found = pairs.iter().find(|pair| pair["key"] == key);
            let found = found.unwrap_or_else(|| panic!("{words:?}: no {key} in {pairs:?}"));
            found["value"].as_str().unwrap().parse().unwrap()
        };
        assert_eq!(number("a") + number("b"), 0, "{words:?}: {pairs:?}");
        let counter = u64::try_from(number("counter")).unwrap();
        assert!(counter >= self.counter, "{words:?}: the counter is back at {counter}");
        // Of a dump no position is told.
        if words[0] != "dump" {
            self.counter = counter;
        }
    }

    fn check_report(&mut self, words: &[&str], report: &Value) {
        assert_eq!(report["verdict"], "clean", "{words:?}: {report:#}");
        let verified = report["position"].as_u64().unwrap();
        assert!(verified >= self.verified, "{words:?}: back to {verified}");
        self.verified = verified;
    }

    /// Checks a line of a verb that follows the store.
    pub fn check_line(&mut self, words: &[&str], line: &Value) {
        self.check_position(words, line);
        self.commits += 1;
        if words[0] == "top" {
            assert!(line["commits"].as_u64().unwrap() > 0, "{line}");
            return;
        }
        let lsn = line["lsn"].as_u64().unwrap();
        assert!(lsn > self.followed, "{words:?}: {lsn} behind {}", self.followed);
        let is_all = words[1] != PAIR;
        let is_next = self.followed == 0 || lsn == self.followed + 1;
        assert!(is_next || !is_all, "{words:?}: {lsn} behind {}", self.followed);
        assert!(is_all || line["name"] == "pair", "{line}");
        self.followed = lsn;
    }
}

fn items(document: &Value) -> &[Value] {
    document["items"].as_array().unwrap()
}

/// The last commit is there, and as many as were asked for, or it is said up to where some are not
/// kept. The pair has every second commit.
fn check_tail(words: &[&str], document: &Value) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (items, unkept) = (items(document), number(&document["unkept_to"]));
    let last = number(&document["position"]) - u64::from(words[1] == PAIR);
    let shown = items.last().map_or(0, |item| number(&item["lsn"]));
    if words.contains(&"--at") {
        assert!(shown > 0 || unkept > 0, "{words:?}: {document}");
        return;
    }
    assert!(shown >= last || unkept >= last, "{words:?}: {document}");
    let wanted: usize =
        words[words.iter().position(|word| *word == "-n").unwrap() + 1].parse().unwrap();
    assert!(items.len() == wanted || unkept > 0, "{words:?}: {document}");
}

/// What was and what is differ in both halves of the pair, or in none.
fn check_diff(words: &[&str], items: &[Value]) {
    for side in ["was", "is"] {
        let number = |key: &str| -> i64 {
            let found = items.iter().find(|item| item["key"] == key);
            found.map_or(0, |found| found[side]["value"].as_str().unwrap().parse().unwrap())
        };
        assert_eq!(number("a") + number("b"), 0, "{words:?}: {items:?}");
    }
}

/// The pair has its one alarm.
fn check_alarms(words: &[&str], items: &[Value]) {
    assert_eq!(items.len(), 1, "{words:?}: {items:?}");
    assert!(items[0]["name"] == "pair" && items[0]["state"] == "set", "{words:?}: {items:?}");
}

/// The lines of a dump about the keys of the pair, as `get` would show them.
fn lines_of_pair(lines: &[Value]) -> Vec<Value> {
    let begins = |line: &&Value| line.get("object").is_some();
    let mut found = Vec::new();
    let mut is_pair = false;
    for line in lines {
        if begins(&line) {
            is_pair = line["name"] == "pair";
        } else if is_pair && line.get("key").is_some() {
            found.push(line.clone());
        }
    }
    found
}
