//! The socket itself: who finds it, who may use it, and when it is there.

use crate::stage::*;
use dostore::disk::real::RealReadDisk;
use dostore::inspect::verify;
use dostore::store::Store;
use dostore::store::admin::{self, Request};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;

#[test]
fn it_is_there_while_the_store_is_open_and_for_its_user_only() {
    let it = listening();
    let socket = it.path.join("admin.sock");
    let found = fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    it.store.close().unwrap();
    assert!(!socket.exists());
    // The same where the store is only dropped.
    let store = options().admin(true).open(&it.path).unwrap();
    assert!(socket.exists());
    drop(store);
    assert!(!socket.exists());
    let _store = options().open(&it.path).unwrap();
    assert!(!socket.exists(), "nobody asked for it");
}

#[test]
fn the_socket_of_a_killed_process_is_replaced() {
    let it = listening();
    it.store.close().unwrap();
    // Nobody listens there any more, but the name is still there.
    drop(UnixListener::bind(it.path.join("admin.sock")).unwrap());
    let figures = admin::ask(&it.path, &Request::Stats, &mut Sender::of(&[])).unwrap();
    assert_eq!(figures, None);
    let store = options().admin(true).open(&it.path).unwrap();
    let figures = admin::ask(&it.path, &Request::Stats, &mut Sender::of(&[])).unwrap();
    assert!(figures.is_some());
    store.close().unwrap();
    drop(UnixListener::bind(it.path.join("admin.sock")).unwrap());
    options().open(&it.path).unwrap().close().unwrap();
    assert!(!it.path.join("admin.sock").exists(), "an open clears it away, whoever opens");
}

#[test]
fn a_store_that_is_open_and_does_not_listen_names_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let _store = options().open(folder.path()).unwrap();
    let refused = admin::at(folder.path(), &Request::Stats, &mut Sender::of(&[])).unwrap_err();
    assert_eq!(refused.code(), "store.locked");
    let words = refused.to_string();
    let holder = format!("process {}", std::process::id());
    assert!(words.contains(&holder) && words.contains("Options::admin"), "{words}");
    let nowhere = folder.path().join("nowhere");
    let missing = admin::at(&nowhere, &Request::Stats, &mut Sender::of(&[])).unwrap_err();
    assert_eq!(missing.code(), "store.missing");
}

#[test]
fn it_is_no_foreign_file_and_not_in_a_backup() {
    let it = listening();
    put(&it.store, "lobby", "one");
    let stats = it.store.stats().unwrap();
    assert_eq!(stats.foreign_bytes, 0);
    let report = verify(RealReadDisk::open(&it.path).unwrap());
    assert!(report.is_clean(), "{report}");
    assert!(!report.notes.iter().any(|note| note.contains("admin.sock")), "{report}");
    let copy = it.folder.path().join("copy");
    it.store.backup(&copy).unwrap();
    assert!(!copy.join("admin.sock").exists());
}

#[test]
fn a_long_path_is_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a".repeat(200));
    let _store = options().admin(true).open(&path).unwrap();
    assert!(admin::ask(&path, &Request::Stats, &mut Sender::of(&[])).unwrap().is_some());
}

#[test]
fn it_needs_threads_and_a_machine_that_has_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let without = options().admin(true).threads(false).open(folder.path()).unwrap_err();
    assert_eq!(without.code(), "option.admin");
    let disk = dostore::disk::sim::SimDisk::new(1);
    assert!(options().admin(true).open_on(disk).is_err());
    // What failed holds no lock.
    Store::open(folder.path()).unwrap();
}

/// Has another user say something; none where this one may not do that.
fn as_another_user(it: &Listening) -> Option<String> {
    fs::set_permissions(&it.path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(it.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // So that the socket alone does not keep the other user out.
    fs::set_permissions(it.path.join("admin.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        s.sendall(b'{\"dostore\":\"admin\",\"version\":1,\"do\":\"stats\"}\\n')\n\
        print(s.makefile().read())";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--clear-groups", "python3", "-c", script]);
    let output = command.arg(it.path.join("admin.sock")).output().ok()?;
    let words = String::from_utf8(output.stdout).unwrap();
    (!words.is_empty()).then_some(words)
}

#[test]
fn another_user_is_refused_whatever_the_mode() {
    let it = listening();
    match as_another_user(&it) {
        Some(words) => assert!(words.contains("admin.user"), "{words}"),
        // Then the kernel has refused to be another user: this one at least is let in.
        None => assert!(it.ask(&Request::Stats).is_ok()),
    }
}
