//! Operators beside a process that commits at full speed.

use crate::stage::*;
use dostore::store::admin::{self, Reply, Request};
use dostore::store::object::Object;
use dostore::store::reader::Reader;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Holds the folder of the store that a process is to keep busy.
const SERVE: &str = "DOSTORE_ADMIN_SERVE";
const NEIGHBOURS: usize = 16;
/// How often an object is restored and its restoration undone.
const ROUNDS: usize = 40;

/// A process that commits to its objects as fast as it can, and to `lobby` never.
struct Busy {
    child: Child,
    told: BufReader<ChildStdout>,
    input: ChildStdin,
}

impl Busy {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "live::restorations_beside_commits_hurt_no_neighbour", "--nocapture"])
            .env(SERVE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, input) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let mut busy = Self { child, told: BufReader::new(told), input };
        busy.hear("serving");
        busy
    }

    /// Reads on until the process says this, and gives what stands behind it.
    fn hear(&mut self, word: &str) -> String {
        let lines = self.told.by_ref().lines().map_while(Result::ok);
        let mut found = lines.filter_map(|line| Some(line.split_once(word)?.1.trim().to_owned()));
        found.next().unwrap_or_else(|| panic!("the process never says {word:?}"))
    }

    /// Tells the process to end. It fails where one of its objects is not as it has left it.
    fn end(mut self) -> u64 {
        self.input.write_all(b"end\n").unwrap();
        let commits = self.hear("commits").parse().unwrap();
        assert!(self.child.wait().unwrap().success());
        commits
    }
}

fn number(object: &Object, key: &str) -> i64 {
    object.get(key).unwrap().map_or(0, |v| i64::from_le_bytes((*v).try_into().unwrap()))
}

/// What the process does: each commit keeps the sum of two keys at 0 and raises a counter.
fn serve(path: &Path) {
    let options = options().admin(true).dirty_bytes(1 << 20).retire_after(Duration::ZERO);
    let store = options.open(path).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    let names = (0..NEIGHBOURS).map(|number| format!("neighbour {number}"));
    let mut objects: Vec<_> = names.map(|name| rooms.open_by_name(&name).unwrap()).collect();
    let end = AtomicBool::new(false);
    let mut rounds = 0_i64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            println!("serving");
            let mut words = String::new();
            std::io::stdin().read_line(&mut words).unwrap();
            end.store(true, Ordering::SeqCst);
        });
        while !end.load(Ordering::SeqCst) {
            rounds += 1;
            for object in &mut objects {
                assert_eq!(number(object, "a") + number(object, "b"), 0);
                assert_eq!(number(object, "counter"), rounds - 1, "a commit is lost");
                let mut turn = object.turn();
                turn.put("a", rounds.to_le_bytes()).unwrap();
                turn.put("b", (-rounds).to_le_bytes()).unwrap();
                turn.put("counter", rounds.to_le_bytes()).unwrap();
                turn.commit().unwrap().detach();
            }
            if rounds % 16 == 0 {
                objects[0].sync().unwrap().wait().unwrap();
            }
        }
    });
    drop(objects);
    let stats = store.stats().unwrap();
    store.close().unwrap();
    println!("commits {}", stats.commits);
}

fn counters(reader: &mut Reader) -> Vec<i64> {
    reader.refresh().unwrap();
    let read = reader.read(|reader| {
        let rooms = reader.namespace("rooms")?;
        let mut counters = Vec::new();
        for number in 0..NEIGHBOURS {
            let neighbour = rooms.id_from_name(&format!("neighbour {number}"));
            let counter = rooms.snapshot(neighbour)?.get("counter")?;
            counters.push(counter.map_or(0, |v| i64::from_le_bytes((*v).try_into().unwrap())));
        }
        Ok(counters)
    });
    read.unwrap()
}

/// What the reader shows of the lobby, once it shows a commit.
fn lobby(reader: &mut Reader, lsn: u64) -> Vec<(String, String)> {
    until("the reader comes to the commit", || reader.refresh().unwrap().0 >= lsn);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let read = reader.read(|reader| {
        let rooms = reader.namespace("rooms")?;
        let snapshot = rooms.snapshot(rooms.id_from_name("lobby"))?;
        let pairs = snapshot.range::<&[u8]>(..).map(|pair| pair.map(|(k, v)| (text(&k), text(&v))));
        pairs.collect()
    });
    read.unwrap()
}

#[test]
fn restorations_beside_commits_hurt_no_neighbour() {
    if let Some(path) = std::env::var_os(SERVE) {
        return serve(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let store = options().open(&path).unwrap();
    let mut object = store.namespace("rooms").unwrap().open_by_name("lobby").unwrap();
    for number in 0..100 {
        object.put(format!("key {number}"), "then").unwrap().wait().unwrap();
    }
    let then = object.current_bookmark().unwrap().to_string();
    let mut turn = object.turn();
    turn.delete_range("key 3".."key 7").unwrap().put("key 0", "now").unwrap();
    turn.put("new", "now").unwrap();
    turn.commit().unwrap().wait().unwrap();
    drop(object);
    store.close().unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let now = lobby(&mut reader, 0);

    let busy = Busy::start(&path);
    let ask = |request: &Request| admin::at(&path, request, &mut Sender::of(&[]));
    let mut last = counters(&mut reader);
    for round in 0..ROUNDS {
        let restored = change(ask(&restore("lobby", &then)));
        let shown = lobby(&mut reader, restored.lsn);
        assert_eq!((shown.len(), shown.iter().all(|pair| pair.1 == "then")), (100, true));
        let undone = change(ask(&Request::Undo { of: room("lobby"), alarms: false }));
        assert_eq!(lobby(&mut reader, undone.lsn), now, "round {round}");
        let counted = counters(&mut reader);
        assert!(counted.iter().zip(&last).all(|(new, old)| new >= old), "counters go back");
        last = counted;
    }
    let before = last.clone();
    until("the neighbours go on", || counters(&mut reader).iter().zip(&before).all(|(a, b)| a > b));
    let Reply::Stats(figures) = ask(&Request::Stats).unwrap() else { panic!("no figures") };
    assert_eq!(figures.process, busy.child.id());
    let commits = busy.end();
    assert!(commits > 2 * ROUNDS as u64, "{commits} commits");
    assert!(!path.join("admin.sock").exists());
}

#[test]
fn a_process_that_is_killed_leaves_a_socket_that_nobody_is_misled_by() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    options().open(&path).unwrap().close().unwrap();
    let mut busy = Busy::start(&path);
    busy.child.kill().unwrap();
    busy.child.wait().unwrap();
    assert!(path.join("admin.sock").exists());
    // The store is free: the request opens it, and clears the name away.
    let figures = admin::at(&path, &Request::Stats, &mut Sender::of(&[])).unwrap();
    let Reply::Stats(figures) = figures else { panic!("no figures") };
    assert_eq!(figures.process, std::process::id());
    assert!(!path.join("admin.sock").exists());
}
