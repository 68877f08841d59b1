//! What the tests of operators stand on: a store that listens, and visitors of all kinds.

use dostore::error::{Error, Result};
use dostore::store::admin::{
    self, Change, Operator, Progress, Reply, Request, Target, When, Which,
};
use dostore::store::{Options, Store};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn options() -> Options {
    Store::options().wal_file_bytes(1 << 20).segment_bytes(64 << 10).pool_files(0)
}

/// A store that listens to operators, in a folder of its own.
pub struct Listening {
    pub folder: TempDir,
    pub path: PathBuf,
    pub store: Store,
}

pub fn listening() -> Listening {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let store = options().admin(true).open(&path).unwrap();
    Listening { folder, path, store }
}

impl Listening {
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        admin::at(&self.path, request, &mut Sender::of(&[]))
    }

    /// The value of the key `k` of an object.
    pub fn value(&self, name: &str) -> Option<String> {
        value(&self.store, name)
    }
}

pub fn value(store: &Store, name: &str) -> Option<String> {
    let rooms = store.namespace("rooms").unwrap();
    let snapshot = rooms.snapshot(rooms.id_from_name(name)).unwrap();
    let found = snapshot.get("k").unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Sets the key `k` of an object.
pub fn put(store: &Store, name: &str, value: &str) {
    let mut object = store.namespace("rooms").unwrap().open_by_name(name).unwrap();
    object.put("k", value).unwrap().wait().unwrap();
}

/// An operator who sends a stream and counts what is told.
pub struct Sender<'a> {
    pub stream: &'a [u8],
    pub told: Vec<Progress>,
    pub patience: usize,
}

impl<'a> Sender<'a> {
    pub fn of(stream: &'a [u8]) -> Self {
        Self { stream, told: Vec::new(), patience: usize::MAX }
    }
}

impl Operator for Sender<'_> {
    fn hear(&mut self, progress: &Progress) -> bool {
        self.told.push(*progress);
        self.told.len() < self.patience
    }

    fn stream(&mut self) -> &mut dyn Read {
        &mut self.stream
    }
}

pub fn room(name: &str) -> Target {
    Target { namespace: "rooms".into(), object: Which::Name(name.into()) }
}

pub fn restore(name: &str, to: &str) -> Request {
    Request::Restore { of: room(name), to: When::Bookmark(to.into()), alarms: false }
}

pub fn change(reply: Result<Reply>) -> Change {
    match reply.unwrap() {
        Reply::Changed(change) => change,
        other => panic!("{other:?} is no change"),
    }
}

/// The code that a refusal names, from whichever side of a socket.
pub fn code(error: &Error) -> String {
    let text = error.to_string();
    match text.rsplit_once('[') {
        Some((_, code)) if error.code() == "admin.refused" => code.trim_end_matches(']').to_owned(),
        _ => error.code().to_owned(),
    }
}

pub fn refused(reply: Result<Reply>) -> String {
    code(&reply.unwrap_err())
}

/// A visitor who says what it likes.
pub fn visit(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What a visitor is answered: each line, until the other side has ended.
pub fn answers(stream: &UnixStream) -> Vec<Value> {
    let lines = BufReader::new(stream).lines();
    let lines = lines.map_while(std::result::Result::ok);
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

/// Says something, ends, and hears what comes.
pub fn say(path: &Path, words: &[u8]) -> Vec<Value> {
    let mut stream = visit(path);
    // Who is refused early is not listened to any longer.
    let _ = stream.write_all(words);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    answers(&stream)
}

/// Asks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}");
        std::thread::yield_now();
    }
}
