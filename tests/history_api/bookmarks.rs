//! What a bookmark names.

use super::stage::{Stage, code};
use dostore::actor::Storage;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn bookmarks_of_one_object_order_as_its_commits() {
    let stage = Stage::new(1);
    let mut lobby = stage.room("lobby");
    let mut last = lobby.current_bookmark().unwrap();
    for number in 0..20 {
        let commit = lobby.put("n", [number]).unwrap();
        let bookmark = commit.bookmark();
        assert!(last < bookmark && last.to_string() < bookmark.to_string());
        commit.wait().unwrap();
        last = lobby.current_bookmark().unwrap();
        assert_eq!(last, bookmark);
        // What others commit moves the moment on, once it is durable.
        stage.room("other").put("n", [number]).unwrap().wait().unwrap();
        let later = lobby.current_bookmark().unwrap();
        assert!(last < later);
        assert_eq!(lobby.sync().unwrap().bookmark(), later);
        assert_eq!(stage.rooms.current_bookmark(stage.id("lobby")).unwrap(), later);
        last = later;
    }
}

#[test]
fn g20_a_moment_that_names_nothing_undurable_of_its_own_object_outlives_a_crash() {
    let stage = Stage::new(2);
    let mut lobby = stage.room("lobby");
    lobby.put("a", "1").unwrap().wait().unwrap();
    // Others have commits that no crash must keep.
    stage.room("other").put("a", "1").unwrap().detach();
    let kept = lobby.current_bookmark().unwrap();
    let lost = lobby.put("a", "2").unwrap();
    let lost_bookmark = lost.bookmark();
    lost.detach();
    assert_eq!(lobby.current_bookmark().unwrap(), lost_bookmark);
    drop(lobby);
    let stage = stage.power_cut();
    let lobby = stage.room("lobby");
    assert_eq!(lobby.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(lobby.at(&kept).is_ok());
    assert_eq!(code(lobby.at(&lost_bookmark)), "bookmark.lost");
    // The next commits do not bring it back, nor does another open.
    let mut lobby = lobby;
    lobby.put("a", "3").unwrap().wait().unwrap();
    drop(lobby);
    let stage = stage.power_cut();
    assert_eq!(code(stage.room("lobby").at(&lost_bookmark)), "bookmark.lost");
    assert!(stage.room("lobby").at(&kept).is_ok());
}

#[test]
fn a_bookmark_of_another_object_is_refused() {
    let stage = Stage::new(3);
    let lobby = stage.room("lobby");
    let other = stage.room("other").current_bookmark().unwrap();
    assert_eq!(code(lobby.at(&other)), "bookmark.foreign");
    assert_eq!(code(stage.rooms.at(stage.id("lobby"), &other)), "bookmark.foreign");
    let elsewhere = stage.store.namespace("elsewhere").unwrap();
    let same_name = elsewhere.open_by_name("lobby").unwrap().current_bookmark().unwrap();
    assert_eq!(code(lobby.at(&same_name)), "bookmark.foreign");
    let another = Stage::new(33);
    let same_object = another.room("lobby").current_bookmark().unwrap();
    assert_eq!(code(lobby.at(&same_object)), "bookmark.foreign");
}

#[test]
fn terms_that_published_nothing_are_known_again_from_the_log() {
    let mut stage = Stage::new(4);
    let mut kept = Vec::new();
    let mut lost = Vec::new();
    for number in 0..6_u8 {
        let mut lobby = stage.room("lobby");
        let commit = lobby.put("n", [number]).unwrap();
        kept.push(commit.bookmark());
        commit.wait().unwrap();
        let commit = lobby.put("n", [0xFF]).unwrap();
        lost.push(commit.bookmark());
        commit.detach();
        if number == 3 {
            // From here on a manifest knows the first terms.
            stage.store.steps().checkpoint().unwrap();
            lost.pop();
        }
        drop(lobby);
        stage = stage.power_cut();
    }
    let lobby = stage.room("lobby");
    for bookmark in kept {
        assert_ne!(lobby.at(&bookmark).err().map(|error| error.code()), Some("bookmark.lost"));
    }
    for bookmark in lost {
        assert_eq!(code(lobby.at(&bookmark)), "bookmark.lost");
    }
}

#[test]
fn an_actors_bookmark_covers_the_open_turn_and_nothing_later() {
    let stage = Stage::new(5);
    let storage = Storage::open(stage.room("lobby"));
    // No turn is open: it is known at once.
    let before = storage.current_bookmark().wait().unwrap();
    let mut asked = None;
    storage
        .enter(|| {
            storage.put("a", "1").unwrap();
            let mut bookmark = Box::pin(storage.current_bookmark());
            assert!(poll(bookmark.as_mut()).is_pending());
            storage.put("b", "1").unwrap();
            asked = Some(bookmark);
        })
        .unwrap();
    let own = storage.current_bookmark().wait().unwrap();
    storage.put("c", "1").unwrap();
    let mut asked = asked.unwrap();
    let Poll::Ready(Ok(bookmark)) = poll(asked.as_mut()) else { panic!("the turn is sealed") };
    assert!(before < bookmark && bookmark == own);
    assert!(bookmark < storage.current_bookmark().wait().unwrap());
}

#[test]
fn a_bookmark_of_a_turn_that_ends_without_a_commit_is_of_before_it() {
    let stage = Stage::new(6);
    let storage = Storage::open(stage.room("lobby"));
    storage.put("a", "1").unwrap();
    storage.sync().wait().unwrap();
    let before = storage.current_bookmark().wait().unwrap();
    let mut asked = None;
    let undone: Result<(), dostore::error::Error> = storage.transaction(|storage| {
        storage.put("a", "2")?;
        asked = Some(storage.current_bookmark());
        Err(storage.put(vec![0; 5_000], "1").unwrap_err())
    });
    assert_eq!(code(undone), "limit.key");
    assert_eq!(asked.unwrap().wait().unwrap(), before);
    // A turn that is dropped has no moment.
    let aborted = storage
        .enter(|| {
            storage.put("a", "3").unwrap();
            let asked = storage.current_bookmark();
            storage.abort("the test wants it");
            asked
        })
        .err();
    assert!(aborted.is_some());
    assert_eq!(code(storage.current_bookmark().wait()), "object.aborted");
}

#[test]
fn a_bookmark_awaited_inside_its_turn_resolves_when_the_turn_is_sealed() {
    let stage = Stage::new(7);
    let storage = Storage::open(stage.room("lobby"));
    let clone = storage.clone();
    let mut run = pin!(storage.run(async move {
        clone.put("a", "1").unwrap();
        let bookmark = clone.current_bookmark().await.unwrap();
        clone.put("a", "2").unwrap();
        (bookmark, clone.current_bookmark().await.unwrap())
    }));
    assert!(poll(run.as_mut()).is_pending());
    assert!(poll(run.as_mut()).is_pending());
    let Poll::Ready(Ok((first, second))) = poll(run.as_mut()) else { panic!("it is over") };
    assert!(first < second);
}
