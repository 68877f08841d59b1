//! Visitors who are wrong, slow, or gone: none harms the store or keeps another waiting for long.

use crate::stage::*;
use dostore::store::admin::Request;
use std::io::{Read, Write};
use std::net::Shutdown;

const STATS: &[u8] = b"{\"dostore\":\"admin\",\"version\":1,\"do\":\"stats\"}\n";

fn put_line(value: &str) -> Vec<u8> {
    let of = r#"{"namespace":"rooms","object":{"name":"lobby"}}"#;
    let line = r#"{"dostore":"admin","version":1,"do":"put","create":true,"key":"k","of":"#;
    format!("{line}{of},\"value\":\"{value}\"}}\n").into_bytes()
}

#[test]
fn one_line_is_answered_by_one_line() {
    let it = listening();
    let answers = say(&it.path, &put_line("one"));
    assert_eq!(answers.len(), 1);
    assert!(answers[0]["done"]["changed"]["lsn"].as_u64().unwrap() > 0, "{answers:?}");
    assert_eq!(it.value("lobby").as_deref(), Some("one"));
    // The end of what is sent ends the line as well.
    let line = put_line("two");
    say(&it.path, line.trim_ascii_end());
    assert_eq!(it.value("lobby").as_deref(), Some("two"));
}

#[test]
fn what_is_no_request_is_refused_and_changes_nothing() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let commits = it.store.stats().unwrap().commits;
    let code = |words: &[u8]| {
        let answers = say(&it.path, words);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0]["error"]["code"].as_str().unwrap().to_owned()
    };
    let deep = "[".repeat(100_000);
    for words in [&b""[..], b"\n", b"hello\n", b"{}\n", b"\xFF\xFE\n", deep.as_bytes()] {
        assert_eq!(code(words), "admin.malformed", "{}", words.escape_ascii());
    }
    let half = put_line("two");
    assert_eq!(code(&half[..half.len() / 2]), "admin.malformed");
    let newer = br#"{"dostore":"admin","version":2,"do":"stats"}"#;
    assert_eq!(code(newer), "admin.version");
    assert_eq!(it.store.stats().unwrap().commits, commits);
    assert_eq!(it.value("lobby").as_deref(), Some("one"));
}

#[test]
fn a_line_without_end_is_refused_when_it_is_too_long() {
    let it = listening();
    let mut stream = visit(&it.path);
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0_u64;
    while stream.write_all(&piece).is_ok() {
        sent += piece.len() as u64;
        assert!(sent < 100 << 20, "it is read on and on");
    }
    let answers = answers(&stream);
    assert_eq!(answers[0]["error"]["code"], "admin.malformed");
}

#[test]
fn slow_visitors_keep_neither_commits_nor_the_next_visitor_from_their_turn() {
    let it = listening();
    put(&it.store, "lobby", "one");
    // As many as are served at once, less one, say nothing or stop in the middle of a word.
    let silent = visit(&it.path);
    let mut stuck = visit(&it.path);
    stuck.write_all(&STATS[..10]).unwrap();
    for round in 0..20 {
        put(&it.store, "lobby", &round.to_string());
        assert!(it.ask(&Request::Stats).is_ok());
    }
    // They cost a close no time: they are cut off.
    it.store.close().unwrap();
    for mut stream in [silent, stuck] {
        assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0);
    }
}

#[test]
fn a_visitor_who_has_gone_is_no_matter() {
    let it = listening();
    for _ in 0..50 {
        drop(visit(&it.path));
        let mut gone = visit(&it.path);
        gone.write_all(STATS).unwrap();
        drop(gone);
        let mut deaf = visit(&it.path);
        deaf.shutdown(Shutdown::Read).unwrap();
        deaf.write_all(&put_line("deaf")).unwrap();
    }
    assert!(it.ask(&Request::Stats).is_ok());
    until("what was asked for is done", || it.value("lobby").as_deref() == Some("deaf"));
    it.store.close().unwrap();
}

#[test]
fn a_load_that_is_cut_off_leaves_whole_objects() {
    let it = listening();
    put(&it.store, "one", "1");
    put(&it.store, "two", "2");
    let mut stream = b"{\"dostore\":\"admin\",\"version\":1,\"do\":\"load\"}\n".to_vec();
    it.store.export(dostore::store::transfer::Form::Text, &mut stream).unwrap();
    let other = listening();
    let at = stream.windows(8).rposition(|word| word == b"{\"key\":\"").unwrap();
    let answers = say(&other.path, &stream[..at]);
    assert_eq!(answers[0]["error"]["code"], "import.truncated");
    let rooms = other.store.namespace("rooms").unwrap();
    assert_eq!(rooms.objects().count(), 1);
}

#[test]
fn who_drops_the_store_waits_for_no_visitor_and_leaves_nobody_in_it() {
    let source = listening();
    put(&source.store, "lobby", "one");
    let mut exported = Vec::new();
    source.store.export(dostore::store::transfer::Form::Text, &mut exported).unwrap();
    let it = listening();
    let mut stream = visit(&it.path);
    let load = b"{\"dostore\":\"admin\",\"version\":1,\"do\":\"load\",\"existing\":\"keep\"}\n";
    stream.write_all(load).unwrap();
    // The rest never comes.
    stream.write_all(&exported[..exported.len() - 10]).unwrap();
    until("nothing of it is loaded", || !it.store.namespaces().is_empty());
    let Listening { path, store, folder } = it;
    drop(store);
    drop(options().open(&path).unwrap());
    drop((folder, stream));
}
