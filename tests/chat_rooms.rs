//! The example `chat_rooms` from outside: real processes, real sockets, real kills.
//!
//! Invariants:
//!   * A server that is killed is a process of its own: this program again, told by its
//!     environment to serve.
//!   * Nothing is waited for by time: a client reads until it sees what must come, and the state of
//!     a server is asked for again until it is as it must be, with a deadline far beyond it.

#![expect(clippy::disallowed_methods, reason = "watches real processes against a real clock")]

#[expect(dead_code, reason = "the example's own entry")]
#[path = "../examples/chat_rooms/main.rs"]
mod example;

use example::Arguments;
use example::room::{Message, Shown};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tungstenite::WebSocket;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Holds the arguments of a process that is to serve.
const SERVE: &str = "DOSTORE_CHAT_ROOMS";
const TOLD: &str = "serving on ";

/// A server process; killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    /// Held open: the child may have more to say.
    _told: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &Path, more: &str) -> Self {
        let folder = folder.to_str().expect("a temporary folder has a plain name");
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "a_server_answers_until_it_is_told_to_stop", "--nocapture"])
            .env(SERVE, format!("--folder {folder} --listen 127.0.0.1:0 {more}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut told = BufReader::new(child.stdout.take().expect("piped"));
        let address = told
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once(TOLD)?.1.parse().ok())
            .expect("the server says where it is");
        Self { child, address, _told: told }
    }

    /// Kills the process without a warning.
    fn kill(mut self) {
        self.child.kill().expect("the process was there to be killed");
        self.child.wait().expect("the process is gone");
    }

    fn join(&self, room: &str, name: &str) -> Client {
        self.join_again(room, name, 0)
    }

    /// The same for somebody who has seen the messages before this number.
    fn join_again(&self, room: &str, name: &str, from: u64) -> Client {
        let query = format!("{name}&from={from}");
        Client::connect(self.address, room, &query).expect("the server takes a socket")
    }

    fn messages(&self, room: &str) -> Vec<Message> {
        let body = get(self.address, &format!("/rooms/{room}/messages")).expect("it answers").1;
        serde_json::from_str(&body).expect("messages")
    }

    fn status(&self, field: &str) -> u64 {
        let body = get(self.address, "/status").expect("it answers").1;
        let status: serde_json::Value = serde_json::from_str(&body).expect("a status");
        status[field].as_u64().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status and the body of an answer.
fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.expect("an answer has a status"), body.to_owned()))
}

/// Asks until the answer is yes.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came to this: {what}");
        std::thread::yield_now();
    }
}

/// Somebody in a room.
struct Client {
    socket: WebSocket<TcpStream>,
}

type Failed = Box<tungstenite::Error>;

impl Client {
    fn connect(address: SocketAddr, room: &str, name: &str) -> Result<Self, Failed> {
        let stream = TcpStream::connect(address).map_err(tungstenite::Error::from)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(tungstenite::Error::from)?;
        let address = format!("ws://{address}/rooms/{room}/socket?name={name}");
        let (socket, _) = tungstenite::client(address, stream)
            .map_err(|_| tungstenite::Error::ConnectionClosed)?;
        Ok(Self { socket })
    }

    fn send(&mut self, request: &serde_json::Value) -> Result<(), Failed> {
        Ok(self.socket.send(tungstenite::Message::text(request.to_string()))?)
    }

    fn say(&mut self, text: &str) -> Result<(), Failed> {
        self.send(&serde_json::json!({ "say": text }))
    }

    fn next(&mut self) -> Result<Shown, Failed> {
        loop {
            let message = self.socket.read()?;
            if let tungstenite::Message::Text(text) = message {
                return Ok(serde_json::from_str(&text).expect("what a room shows"));
            }
        }
    }

    /// Reads until one is what is looked for.
    fn find<T>(&mut self, is_it: impl Fn(Shown) -> Option<T>) -> T {
        loop {
            if let Some(found) = is_it(self.next().expect("the socket is open")) {
                return found;
            }
        }
    }

    fn find_text(&mut self, text: &str) -> Message {
        self.find(|shown| match shown {
            Shown::Message(message) if message.text == text => Some(message),
            _ => None,
        })
    }

    fn find_present(&mut self, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.find(|shown| (shown == Shown::Present(wanted.clone())).then_some(()));
    }
}

#[test]
fn a_server_answers_until_it_is_told_to_stop() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    if let Ok(words) = std::env::var(SERVE) {
        let words = words.split_whitespace().map(OsString::from);
        let arguments = Arguments::parse(words).expect("words of this program").expect("no help");
        let tell = |address| println!("\n{TOLD}{address}");
        let served = runtime.block_on(example::run(&arguments, tell, std::future::pending()));
        served.expect("it serves until it is killed");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = ["--folder", folder.path().to_str().expect("plain"), "--listen", "127.0.0.1:0"];
    let arguments = Arguments::parse(words.map(OsString::from)).expect("right").expect("no help");
    for _ in 0..2 {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let own = arguments.clone();
        let server = runtime.spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            example::run(&own, |address| tell.send(address).expect("the test listens"), stop).await
        });
        let address = told.recv_timeout(PATIENCE).expect("the server starts");
        let page = get(address, "/").expect("it answers");
        assert!(page.0 == 200 && page.1.contains("WebSocket"), "{page:?}");
        let long = "x".repeat(1025);
        assert_eq!(get(address, &format!("/rooms/{long}/messages")).expect("it answers").0, 400);
        let mut ann = Client::connect(address, "lobby", "ann").expect("it takes a socket");
        ann.send(&serde_json::json!({ "shout": "" })).expect("the socket is open");
        ann.find(|shown| matches!(shown, Shown::Refused(_)).then_some(()));
        ann.say("hello").expect("the socket is open");
        ann.find_text("hello");
        stop.send(()).expect("the server runs");
        runtime.block_on(server).expect("no panic").expect("it closes its store");
    }
}

#[test]
fn everybody_in_a_room_sees_the_same_and_who_is_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), "");
    let mut ann = server.join("lobby", "ann");
    let mut bob = server.join("lobby", "bob");
    let mut eve = server.join("cellar", "eve");
    ann.find_present(&["ann", "bob"]);
    ann.say("hi bob").expect("open");
    let seen = bob.find_text("hi bob");
    assert_eq!((seen.number, &*seen.from), (0, "ann"));
    bob.say("hi ann").expect("open");
    assert_eq!(ann.find_text("hi ann"), bob.find_text("hi ann"));
    eve.say("nobody here").expect("open");
    assert_eq!(eve.find_text("nobody here").number, 0, "rooms share nothing");
    drop(bob);
    ann.find_present(&["ann"]);
    let mut bob = server.join("lobby", "bob");
    assert_eq!(bob.find_text("hi ann").number, 1, "what was said before is shown");
    assert_eq!(server.messages("lobby").len(), 2);
    until("the counter has heard of all", || server.status("messages") == 3);
}

#[test]
fn who_is_new_sees_the_last_messages_and_who_comes_again_all_that_he_missed() {
    const SAID: u64 = 1_100;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), "--pace 1000000");
    let mut ann = server.join("lobby", "ann");
    let last = format!("word {}", SAID - 1);
    std::thread::scope(|scope| {
        let mut teller = server.join("lobby", "bob");
        let words = scope.spawn(move || {
            for word in 0..SAID {
                teller.say(&format!("word {word}")).expect("open");
                teller.find_text(&format!("word {word}"));
            }
        });
        ann.find_text(&last);
        words.join().expect("all is said");
    });
    let message = |shown| match shown {
        Shown::Message(message) => Some(message.number),
        _ => None,
    };
    for (from, first) in [(0, SAID - 1_000), (50, 50), (SAID - 1, SAID - 1)] {
        let mut eve = server.join_again("lobby", "eve", from);
        for number in first..SAID {
            assert_eq!(eve.find(message), number);
        }
    }
}

#[test]
fn who_does_not_read_is_cut_off_and_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), "--pace 1000000");
    let mut ann = server.join("lobby", "ann");
    ann.find_present(&["ann"]);
    let mut bob = server.join("lobby", "bob");
    bob.find_present(&["ann", "bob"]);
    // Ann reads no more: her socket fills, then what waits for her.
    let long = "x".repeat(256 * 1024);
    let mut said = 0;
    let mut is_alone = false;
    until("ann is cut off", || {
        said += 1;
        bob.say(&long).expect("open");
        is_alone |= bob.find(|shown| match shown {
            Shown::Message(_) => Some(false),
            Shown::Present(names) => Some(names.len() == 1),
            _ => None,
        });
        is_alone
    });
    // What she has not seen is there, and she comes again for it.
    let mut again = server.join_again("lobby", "ann", said - 1);
    again.find(|shown| matches!(shown, Shown::Message(_)).then_some(()));
    let mut shown = 0;
    while ann.next().is_ok() {
        shown += 1;
    }
    assert!(shown < said, "{shown} of {said} were shown to somebody who did not read");
}

#[test]
fn who_speaks_too_fast_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), "--pace 1");
    let mut ann = server.join("lobby", "ann");
    let mut refused = false;
    until("a message is refused", || {
        ann.say("again").expect("open");
        refused |= ann.find(|shown| match shown {
            Shown::Refused(_) => Some(true),
            Shown::Message(_) => Some(false),
            _ => None,
        });
        refused
    });
    let mut bob = server.join("lobby", "bob");
    bob.say("still my turn").expect("open");
    bob.find_text("still my turn");
}

#[test]
fn a_room_leaves_memory_while_its_sockets_stay_open() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), "--idle 40");
    let mut ann = server.join("lobby", "ann");
    let mut bob = server.join("lobby", "bob");
    bob.find_present(&["ann", "bob"]);
    for stay in 0..3 {
        until("the room left memory", || server.status("active_rooms") == 0);
        let text = format!("awake {stay}");
        ann.say(&text).expect("the socket stayed open");
        // Who is behind which socket comes from the room's storage alone.
        assert_eq!(bob.find_text(&text).from, "ann");
    }
    until("the room left memory", || server.status("active_rooms") == 0);
    let mut eve = server.join("lobby", "eve");
    eve.find_present(&["ann", "bob", "eve"]);
    until("the room left memory", || server.status("active_rooms") == 0);
    drop(ann);
    eve.find_present(&["bob", "eve"]);
}

/// What one client has seen of its room, by number.
type Seen = BTreeMap<u64, (String, String)>;

/// Talks without a pause until the server is gone; says what was seen.
fn talk(server: SocketAddr, room: &str, name: &str, heard: &AtomicUsize) -> Seen {
    let mut seen = Seen::new();
    let Ok(mut client) = Client::connect(server, room, name) else { return seen };
    for word in 0_u64.. {
        if client.say(&format!("{name} {word}")).is_err() {
            break;
        }
        loop {
            let Ok(shown) = client.next() else { return seen };
            let Shown::Message(message) = shown else { continue };
            let is_own = message.from == name;
            seen.insert(message.number, (message.from, message.text));
            heard.fetch_add(1, Ordering::Relaxed);
            if is_own {
                break;
            }
        }
    }
    seen
}

#[test]
fn no_message_that_was_seen_is_lost_when_the_server_is_killed() {
    const ROOMS: usize = 4;
    const CLIENTS: usize = 8;
    const KILLS: usize = 4;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let room = |client: usize| format!("room-{}", client % ROOMS);
    let mut all: Vec<Seen> = vec![Seen::new(); ROOMS];
    for kill in 0..KILLS {
        let server = Server::start(folder.path(), "--pace 1000000 --idle 50");
        let address = server.address;
        let heard = AtomicUsize::new(0);
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let heard = &heard;
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let (room, name) = (room(client), format!("c{client}k{kill}"));
                    scope.spawn(move || talk(address, &room, &name, heard))
                })
                .collect();
            until("enough was said", || heard.load(Ordering::Relaxed) >= 500);
            server.kill();
            clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
        });
        for (client, seen) in seen.into_iter().enumerate() {
            for (number, said) in seen {
                let before = all[client % ROOMS].insert(number, said.clone());
                assert!(before.is_none_or(|before| before == said), "two messages {number}");
            }
        }
        let server = Server::start(folder.path(), "");
        for (index, seen) in all.iter().enumerate() {
            let kept = pages(&server, &room(index));
            for (number, said) in seen {
                assert_eq!(kept.get(number), Some(said), "room {index}, message {number}");
            }
            let numbers: Vec<u64> = kept.keys().copied().collect();
            assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "no gaps");
        }
    }
}

/// All messages of a room.
fn pages(server: &Server, room: &str) -> Seen {
    let mut kept = Seen::new();
    loop {
        let from = kept.last_key_value().map_or(0, |(number, _)| number + 1);
        let path = format!("/rooms/{room}/messages?from={from}");
        let body = get(server.address, &path).expect("it answers").1;
        let page: Vec<Message> = serde_json::from_str(&body).expect("messages");
        if page.is_empty() {
            return kept;
        }
        kept.extend(page.into_iter().map(|found| (found.number, (found.from, found.text))));
    }
}

#[test]
fn a_quiet_room_is_emptied_by_its_alarm_across_a_kill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), "");
    let mut ann = server.join("short", "ann");
    let mut bob = server.join("long", "bob");
    bob.say("stays").expect("open");
    bob.find_text("stays");
    ann.send(&serde_json::json!({ "quiet_seconds": 1 })).expect("open");
    ann.say("goes").expect("open");
    ann.find_text("goes");
    server.kill();
    let server = Server::start(folder.path(), "");
    // Nobody enters: only the alarm can bring the room into memory.
    until("the room was emptied", || server.messages("short").is_empty());
    assert_eq!(server.messages("long").len(), 1);
    let mut ann = server.join("short", "ann");
    ann.say("goes too").expect("open");
    assert_eq!(ann.find_text("goes too").number, 1, "numbers go on");
    ann.find(|shown| (shown == Shown::Emptied).then_some(()));
}
